//! A repository: which of its files a policy needs, and how they come into the cache.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::cache::RepoCache;
use super::names::is_repo_id;
use super::remote::{Described, Remote, short};
use super::{HubOptions, RepoKind, Trouble, download};
use crate::error::PolicyError;
use crate::file::is_inside;
use crate::http::{Client, Fault};
use crate::template_files::MAX_TEMPLATES;
use crate::weights::read_index;

/// Files of a policy besides the weights; `config.json` and `tokenizer.json` are required.
const FILES: [&str; 10] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
];
/// Folder of further chat templates.
const TEMPLATES: &str = "additional_chat_templates/";
/// Beginning of the file that Git holds in the place of a large one.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A repository, on its server and in the cache.
pub(super) struct Hub<'a> {
    options: &'a HubOptions,
    kind: RepoKind,
    repo: &'a str,
    pub cache: RepoCache,
    client: Client,
}

impl<'a> Hub<'a> {
    pub fn new(repo: &'a str, kind: RepoKind, options: &'a HubOptions) -> Result<Self, PolicyError> {
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
    pub fn complete(&self) -> Option<PathBuf> {
        let folder = self.cache.get("config.json")?.parent()?.to_owned();
        let is_there = |shard: &String| is_inside(shard) && folder.join(shard).is_file();
        let weights = folder.join(WEIGHTS).is_file()
            || read_index(&folder.join(INDEX))
                .is_ok_and(|index| !index.is_empty() && index.values().all(is_there));
        (weights && folder.join("tokenizer.json").is_file()).then_some(folder)
    }

    pub fn download(&self) -> Result<PathBuf, Trouble> {
        let remote = self.remote();
        let listing = remote.listing().map_err(|e| Trouble::within("list files", e))?;
        let files: HashMap<&str, Option<u64>> =
            listing.siblings.iter().map(|s| (s.file.as_str(), s.size)).collect();
        let get = |file: &str| {
            let size = files.get(file).copied().flatten();
            self.get(&remote, &listing.commit, file, size).map_err(|e| Trouble::within(file, e))
        };
        let weights = match () {
            () if files.contains_key(WEIGHTS) => vec![WEIGHTS.to_owned()],
            () if files.contains_key(INDEX) => {
                let index = get(INDEX)?;
                let mut shards: Vec<_> = read_index(&index)?.into_values().collect();
                shards.sort();
                shards.dedup();
                if shards.is_empty() {
                    return Err(Trouble::said(format!("{INDEX} lists no files")));
                }
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
                let problem = format!("its index lists {:?}, which is not a file name", short(shard));
                return Err(Trouble::Said(problem));
            }
            if !files.contains_key(shard.as_str()) {
                return Err(Trouble::said(format!("it has no {shard}, which its index lists")));
            }
        }
        let small = FILES.into_iter().filter(|file| files.contains_key(file));
        let is_template = |file: &&str| {
            file.strip_prefix(TEMPLATES).is_some_and(|name| name.ends_with(".jinja") && !name.contains('/'))
                && is_inside(file)
        };
        let mut templates: Vec<&str> = files.keys().copied().filter(is_template).collect();
        templates.sort_unstable();
        templates.truncate(MAX_TEMPLATES);
        for file in small.chain(templates).chain(weights.iter().map(String::as_str)) {
            get(file)?;
        }
        // Last, so that what the cache calls the main branch is complete.
        self.cache.set_commit(&listing.commit)?;
        Ok(self.cache.commit_folder(&listing.commit))
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

    pub fn download_one(&self, file: &str) -> Result<PathBuf, Trouble> {
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
    pub fn explain(&self, what: &str, trouble: Trouble) -> PolicyError {
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
