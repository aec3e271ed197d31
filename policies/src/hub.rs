//! Models from a Hugging Face hub, through the cache that Python's `huggingface_hub` uses too.

use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use crate::error::PolicyError;
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
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Where repositories come from and where they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubOptions {
    /// Server, without a slash at the end.
    pub endpoint: String,
    /// Cache directory (`…/huggingface/hub`).
    pub cache: PathBuf,
    /// Access token for gated and private repositories.
    pub token: Option<String>,
    /// Use what the cache holds and nothing else.
    pub offline: bool,
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
        }
    }
}

/// Whether a string has the form `owner/name`.
pub fn is_repo_id(spec: &str) -> bool {
    let part = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            && !s.contains("..")
    };
    spec.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name))
}

/// The local folder of a repository's main branch: brought up to date when the server answers, else as the cache has it.
///
/// # Errors
/// Offline and not in the cache; a repository that does not exist, is gated, or holds no safetensors with
/// `config.json` and `tokenizer.json`; an interrupted download (the next try resumes it).
pub fn fetch(repo: &str, options: &HubOptions) -> Result<PathBuf, PolicyError> {
    let cached = cached(repo, options);
    if options.offline {
        return cached.ok_or_else(|| PolicyError::Hub {
            repo: repo.into(),
            endpoint: options.cache.display().to_string(),
            problem: "not (completely) in the cache, and HF_HUB_OFFLINE is set".into(),
        });
    }
    match (download(repo, options), cached) {
        (Ok(folder), _) => Ok(folder),
        (Err(e), Some(folder)) => {
            tracing::warn!("{e}; using the cached copy in {}", folder.display());
            Ok(folder)
        }
        (Err(e), None) => Err(e),
    }
}

/// The cached folder, if it is complete.
fn cached(repo: &str, options: &HubOptions) -> Option<PathBuf> {
    let cache = Cache::new(options.cache.clone()).repo(Repo::model(repo.into()));
    let folder = cache.get("config.json")?.parent()?.to_owned();
    let weights = folder.join(WEIGHTS).is_file()
        || read_index(&folder.join(INDEX))
            .is_ok_and(|index| index.values().all(|f| folder.join(f).is_file()));
    (weights && folder.join("tokenizer.json").is_file()).then_some(folder)
}

fn download(repo: &str, options: &HubOptions) -> Result<PathBuf, PolicyError> {
    let error =
        |problem: String| PolicyError::Hub { repo: repo.into(), endpoint: options.endpoint.clone(), problem };
    let failed = |what: &str, e: &ApiError| {
        let text = e.to_string();
        let hint = match () {
            () if text.contains("status code 404") => {
                " (is the id right? private repositories need HF_TOKEN)"
            }
            () if text.contains("status code 401") || text.contains("status code 403") => {
                " (private or gated: set HF_TOKEN)"
            }
            () => "",
        };
        error(format!("{what}: {text}{hint}"))
    };
    let builder = ApiBuilder::from_cache(Cache::new(options.cache.clone()))
        .with_endpoint(options.endpoint.clone())
        .with_token(options.token.clone())
        .with_progress(false)
        .with_retries(2);
    let api: Api = builder.build().map_err(|e| failed("connect", &e))?;
    let api = api.repo(Repo::new(repo.into(), RepoType::Model));
    let info = api.info().map_err(|e| failed("list files", &e))?;
    let has = |file: &str| info.siblings.iter().any(|s| s.rfilename == file);
    let get = |file: &str| get_file(&api, repo, options, &info.sha, file).map_err(|e| failed(file, &e));

    let weights = match () {
        () if has(WEIGHTS) => vec![WEIGHTS.to_owned()],
        () if has(INDEX) => {
            let mut shards: Vec<_> = read_index(&get(INDEX)?)?.into_values().collect();
            shards.sort();
            shards.dedup();
            shards
        }
        () => return Err(error(format!("it has neither {WEIGHTS} nor {INDEX}"))),
    };
    for required in ["config.json", "tokenizer.json"] {
        if !has(required) {
            return Err(error(format!("it has no {required}")));
        }
    }
    if let Some(shard) = weights.iter().find(|shard| !has(shard)) {
        return Err(error(format!("it has no {shard}, which its index lists")));
    }
    for file in weights.iter().map(String::as_str).chain(FILES.into_iter().skip(1)).filter(|f| has(f)) {
        get(file)?;
    }
    let config = get("config.json")?;
    config.parent().map(Path::to_owned).ok_or_else(|| error("the cache has no snapshot folder".into()))
}

/// A file of the commit `sha`: from the cache if it is there, else downloaded.
fn get_file(
    api: &ApiRepo,
    repo: &str,
    options: &HubOptions,
    sha: &str,
    file: &str,
) -> Result<PathBuf, ApiError> {
    let cache = Cache::new(options.cache.clone()).repo(Repo::model(repo.into()));
    let of_commit = |path: &PathBuf| path.parent().is_some_and(|p| p.ends_with(sha));
    if let Some(path) = cache.get(file).filter(of_commit) {
        return Ok(path);
    }
    api.download_with_progress(file, LoggedProgress::default())
}

/// Download progress as log lines, one each 10 %.
#[derive(Default)]
struct LoggedProgress {
    file: String,
    total: usize,
    done: usize,
    tenths: usize,
}

impl Progress for LoggedProgress {
    fn init(&mut self, size: usize, filename: &str) {
        if self.file.is_empty() {
            tracing::info!("downloading {filename} ({size} bytes)");
        }
        *self = Self { file: filename.into(), total: size, done: 0, tenths: 0 };
    }

    fn update(&mut self, size: usize) {
        self.done += size;
        let tenths = self.done * 10 / self.total.max(1);
        if tenths > self.tenths && self.total > 10_000_000 {
            tracing::info!("downloading {}: {} %", self.file, tenths * 10);
        }
        self.tenths = tenths;
    }

    fn finish(&mut self) {}
}
