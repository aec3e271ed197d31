//! Models and data sets from a Hugging Face hub, through the cache that Python's `huggingface_hub` uses too.
//!
//! A server is believed as far as it can be checked: names become paths only if they stay in the cache, content has the
//! length and the hash that were announced before it is found under its name, and nothing is waited for without end.

mod cache;
mod digest;
mod download;
mod names;
mod options;
mod remote;
mod repository;

use std::path::PathBuf;

pub use self::names::is_repo_id;
pub use self::options::HubOptions;
use self::repository::Hub;
use crate::error::PolicyError;
use crate::http::HttpError;

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

    /// The same trouble, with the file that it is about.
    fn within(what: &str, trouble: Self) -> Self {
        let named = |error: HttpError| HttpError { url: format!("{what}: {}", error.url), ..error };
        match trouble {
            Self::Http(error) => Self::Http(named(error)),
            Self::Spoilt(error) => Self::Spoilt(named(error)),
            Self::Said(problem) => Self::Said(format!("{what}: {problem}")),
            Self::Local(error) => Self::Local(error),
        }
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
/// next try resumes it, but for a file system without locks, where each process has a part of its own).
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
