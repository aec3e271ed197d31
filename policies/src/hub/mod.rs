//! Models from a Hugging Face hub, through the cache that Python's `huggingface_hub` uses too.

mod cache;
mod digest;
mod download;
mod names;
mod remote;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use self::cache::RepoCache;
use self::names::is_inside;
pub use self::names::is_repo_id;
use self::remote::{Described, Remote};
use crate::error::PolicyError;
use crate::http::{Client, Fault, HttpError, Limits};
use crate::weights::read_index;

/// Files of a policy besides the weights; `config.json` and `tokenizer.json` are required.
const FILES: [&str; 6] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
];
/// Beginning of the file that Git holds in the place of a large one.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Longest index that is read, in bytes.
const INDEX_BYTES: u64 = 32 << 20;

/// Where repositories come from and where they are kept.
#[derive(Clone, PartialEq, Eq)]
pub struct HubOptions {
    /// Server, without a slash at the end.
    pub endpoint: String,
    /// Cache directory (`…/huggingface/hub`).
    pub cache: PathBuf,
    /// Access token for gated and private repositories.
    pub token: Option<String>,
    /// Use what the cache holds and nothing else.
    pub offline: bool,
    /// How long requests wait and how often they are tried.
    pub limits: Limits,
}

impl std::fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is a secret.
        f.debug_struct("HubOptions")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
            .field("limits", &self.limits)
            .finish()
    }
}

impl HubOptions {
    /// Settings from the environment: `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE`. Without
    /// them: huggingface.co and `~/.cache/huggingface`.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|v| !v.is_empty());
        let home = || {
            let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
            let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache")));
            cache.unwrap_or_else(|| PathBuf::from(".cache")).join("huggingface")
        };
        let home = set("HF_HOME").map_or_else(home, PathBuf::from);
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let offline = set("HF_HUB_OFFLINE").unwrap_or_default().to_lowercase();
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache: set("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
            token: set("HF_TOKEN").or_else(|| {
                let token = std::fs::read_to_string(home.join("token")).ok()?.trim().to_owned();
                (!token.is_empty()).then_some(token)
            }),
            offline: matches!(offline.as_str(), "1" | "true" | "yes" | "on"),
            limits: Limits::default(),
        }
    }
}

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RepoKind {
    Model,
    Dataset,
}

impl RepoKind {
    /// In folders of the cache and in addresses of the API.
    fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }

    /// Before the name in addresses of files.
    fn prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "datasets/",
        }
    }
}

/// Why a file of a repository cannot be had.
enum Trouble {
    /// The server does not give it.
    Http(HttpError),
    /// What came is not what was announced.
    Spoilt(HttpError),
    /// The repository is not what is needed.
    Said(String),
    /// The disk does not take it.
    Local(PolicyError),
}

impl Trouble {
    fn said(problem: impl Into<String>) -> Self {
        Self::Said(problem.into())
    }
}

impl From<HttpError> for Trouble {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

impl From<PolicyError> for Trouble {
    fn from(error: PolicyError) -> Self {
        Self::Local(error)
    }
}

/// The local folder of a repository's main branch: brought up to date when the server answers, else as the cache has it.
///
/// # Errors
/// Offline and not in the cache; a repository that does not exist, is gated, or holds no safetensors with
/// `config.json` and `tokenizer.json`; a server that does not deliver what it describes; an interrupted download (the
/// next try resumes it).
pub fn fetch(repo: &str, options: &HubOptions) -> Result<PathBuf, PolicyError> {
    let hub = Hub::new(repo, RepoKind::Model, options)?;
    let cached = hub.complete();
    if options.offline {
        return cached.ok_or_else(|| PolicyError::Hub {
            repo: repo.into(),
            endpoint: options.cache.display().to_string(),
            problem: "not (completely) in the cache, and HF_HUB_OFFLINE is set".into(),
        });
    }
    match (hub.download(), cached) {
        (Ok(folder), _) => Ok(folder),
        (Err(e), Some(folder)) => {
            let e = hub.explain("", e);
            tracing::warn!("{}; using the cached copy in {}", with_sources(&e), folder.display());
            Ok(folder)
        }
        (Err(e), None) => Err(hub.explain("", e)),
    }
}

/// One file of a data set's main branch, in the cache.
///
/// # Errors
/// Offline and not in the cache; a data set or a file that does not exist or is gated; a server that does not deliver
/// what it describes; an interrupted download.
pub fn fetch_dataset_file(repo: &str, file: &str, options: &HubOptions) -> Result<PathBuf, PolicyError> {
    let hub = Hub::new(repo, RepoKind::Dataset, options)?;
    if let Some(path) = hub.cache.get(file) {
        return Ok(path);
    }
    if options.offline {
        let problem = format!("{file} is not in the cache, and HF_HUB_OFFLINE is set");
        return Err(hub.explain("", Trouble::said(problem)));
    }
    hub.download_one(file).map_err(|e| hub.explain(file, e))
}

/// A repository, on its server and in the cache.
struct Hub<'a> {
    options: &'a HubOptions,
    kind: RepoKind,
    repo: &'a str,
    cache: RepoCache,
    client: Client,
}

impl<'a> Hub<'a> {
    fn new(repo: &'a str, kind: RepoKind, options: &'a HubOptions) -> Result<Self, PolicyError> {
        let cache = RepoCache::new(&options.cache, kind, repo);
        let hub = Self { options, kind, repo, cache, client: Client::new(options.limits.clone()) };
        if is_repo_id(repo) { Ok(hub) } else { Err(hub.explain("", Trouble::said("this is not a hub id"))) }
    }

    fn remote(&self) -> Remote<'_> {
        Remote {
            client: &self.client,
            endpoint: &self.options.endpoint,
            token: self.options.token.as_deref(),
            kind: self.kind,
            repo: self.repo,
        }
    }

    /// The cached folder, if it is complete.
    fn complete(&self) -> Option<PathBuf> {
        let folder = self.cache.get("config.json")?.parent()?.to_owned();
        let weights = folder.join(WEIGHTS).is_file()
            || read_index(&folder.join(INDEX))
                .is_ok_and(|index| index.values().all(|f| is_inside(f) && folder.join(f).is_file()));
        (weights && folder.join("tokenizer.json").is_file()).then_some(folder)
    }

    fn download(&self) -> Result<PathBuf, Trouble> {
        let remote = self.remote();
        let listing = remote.listing().map_err(|e| within("list files", e))?;
        let files: HashMap<&str, Option<u64>> =
            listing.siblings.iter().map(|s| (s.file.as_str(), s.size)).collect();
        let get = |file: &str| {
            let size = files.get(file).copied().flatten();
            self.get(&remote, &listing.commit, file, size).map_err(|e| within(file, e))
        };
        let weights = match () {
            () if files.contains_key(WEIGHTS) => vec![WEIGHTS.to_owned()],
            () if files.contains_key(INDEX) => {
                let index = get(INDEX)?;
                if std::fs::metadata(&index).map_err(PolicyError::read(&index))?.len() > INDEX_BYTES {
                    return Err(Trouble::said(format!("{INDEX} is longer than {INDEX_BYTES} bytes")));
                }
                let mut shards: Vec<_> = read_index(&index)?.into_values().collect();
                shards.sort();
                shards.dedup();
                shards
            }
            () => return Err(Trouble::said(format!("it has neither {WEIGHTS} nor {INDEX}"))),
        };
        for required in ["config.json", "tokenizer.json"] {
            if !files.contains_key(required) {
                return Err(Trouble::said(format!("it has no {required}")));
            }
        }
        for shard in &weights {
            if !is_inside(shard) {
                let problem = format!("its index lists {:?}, which is not a file name", remote::short(shard));
                return Err(Trouble::Said(problem));
            }
            if !files.contains_key(shard.as_str()) {
                return Err(Trouble::said(format!("it has no {shard}, which its index lists")));
            }
        }
        let small = FILES.into_iter().filter(|file| files.contains_key(file));
        for file in small.chain(weights.iter().map(String::as_str)) {
            get(file)?;
        }
        // Last, so that what the cache calls the main branch is complete.
        self.cache.set_commit(&listing.commit)?;
        Ok(self.cache.snapshot(&listing.commit, ""))
    }

    /// A file of a commit: from the cache if it is there with the size that the server's list says, else downloaded.
    fn get(
        &self,
        remote: &Remote<'_>,
        commit: &str,
        file: &str,
        size: Option<u64>,
    ) -> Result<PathBuf, Trouble> {
        let path = self.cache.snapshot(commit, file);
        let is_there = |m: std::fs::Metadata| m.is_file() && size.is_none_or(|size| size == m.len());
        if std::fs::metadata(&path).is_ok_and(is_there) {
            return Ok(path);
        }
        let described = remote.describe(commit, file)?;
        if let Some(other) = described.commit.as_deref().filter(|other| *other != commit) {
            return Err(Trouble::said(format!("asked for commit {commit}, the server gives {other}")));
        }
        self.link(remote, commit, file, &described)
    }

    /// Downloads a file's content and makes it a file of a commit.
    fn link(
        &self,
        remote: &Remote<'_>,
        commit: &str,
        file: &str,
        described: &Described,
    ) -> Result<PathBuf, Trouble> {
        download::fetch_blob(remote, &self.cache, commit, file, described)?;
        if is_pointer(&self.cache.blob(&described.etag))? {
            let problem = format!("the server gives the Git LFS pointer of {file}, not its content");
            return Err(Trouble::Said(problem));
        }
        Ok(self.cache.link(commit, file, &described.etag)?)
    }

    fn download_one(&self, file: &str) -> Result<PathBuf, Trouble> {
        if !is_inside(file) {
            return Err(Trouble::said("this is not a file name of a repository"));
        }
        let remote = self.remote();
        let described = remote.describe("main", file)?;
        let Some(commit) = &described.commit else {
            return Err(Trouble::said("the server does not say which commit it gives (no X-Repo-Commit)"));
        };
        let path = self.link(&remote, commit, file, &described)?;
        self.cache.set_commit(commit)?;
        Ok(path)
    }

    /// The error of a user, with what to try.
    fn explain(&self, what: &str, trouble: Trouble) -> PolicyError {
        let what = if what.is_empty() { String::new() } else { format!("{what}: ") };
        let problem = match trouble {
            Trouble::Local(error) => return error,
            Trouble::Said(problem) => format!("{what}{problem}"),
            Trouble::Http(error) | Trouble::Spoilt(error) => {
                let hint = match (error.fault, &self.options.token) {
                    (Fault::Status(404), _) => " (is the id right? private repositories need HF_TOKEN)",
                    (Fault::Status(401 | 403), None) => " (private or gated: set HF_TOKEN)",
                    (Fault::Status(401), Some(_)) => " (does HF_TOKEN hold a valid token? is the id right?)",
                    (Fault::Status(403), Some(_)) => {
                        " (gated? its page says how the owner of HF_TOKEN gets access)"
                    }
                    (Fault::Unreachable, _) => {
                        " (no network? HF_ENDPOINT names another server, HF_HUB_OFFLINE=1 uses the cache alone)"
                    }
                    _ => "",
                };
                format!("{what}{error}{hint}")
            }
        };
        PolicyError::Hub { repo: self.repo.into(), endpoint: self.options.endpoint.clone(), problem }
    }
}

/// Whether a file is what Git holds in the place of a large one.
fn is_pointer(path: &Path) -> Result<bool, PolicyError> {
    let mut start = Vec::new();
    let mut read = || File::open(path)?.take(POINTER.len() as u64).read_to_end(&mut start);
    read().map_err(PolicyError::read(path))?;
    Ok(start == POINTER)
}

/// A trouble that names the file it is about.
fn within(what: &str, trouble: Trouble) -> Trouble {
    let named = |mut error: HttpError| {
        error.url = format!("{what}: {}", error.url);
        error
    };
    match trouble {
        Trouble::Http(error) => Trouble::Http(named(error)),
        Trouble::Spoilt(error) => Trouble::Spoilt(named(error)),
        Trouble::Said(problem) => Trouble::Said(format!("{what}: {problem}")),
        Trouble::Local(error) => Trouble::Local(error),
    }
}

/// An error with its causes, in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(e) = source {
        text += &format!(": {e}");
        source = e.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_from_the_environment() {
        let from = |pairs: &[(&str, &str)]| {
            HubOptions::from_variables(|name| {
                pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
            })
        };
        let options = from(&[("HF_HOME", "h"), ("HF_ENDPOINT", "http://mirror/"), ("HF_HUB_OFFLINE", "1")]);
        assert_eq!(
            (options.endpoint.as_str(), options.cache.as_path()),
            ("http://mirror", Path::new("h/hub"))
        );
        assert!(options.offline && options.token.is_none());
        let options =
            from(&[("HF_HUB_CACHE", "c"), ("HF_TOKEN", "t"), ("HF_HUB_OFFLINE", "0"), ("HF_HOME", "h")]);
        assert_eq!((options.cache.as_path(), options.token.as_deref()), (Path::new("c"), Some("t")));
        assert!(!options.offline && options.endpoint == "https://huggingface.co");
        assert_eq!(from(&[("XDG_CACHE_HOME", "x")]).cache, Path::new("x/huggingface/hub"));
    }
}
