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
}

impl std::fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is a secret.
        f.debug_struct("HubOptions")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
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

/// One file of a data set's main branch, in the cache.
///
/// # Errors
/// Offline and not in the cache; a data set or a file that does not exist or is gated; an interrupted download.
pub fn fetch_dataset_file(repo: &str, file: &str, options: &HubOptions) -> Result<PathBuf, PolicyError> {
    let error =
        |problem: String| PolicyError::Hub { repo: repo.into(), endpoint: options.endpoint.clone(), problem };
    let of_repo = Repo::new(repo.into(), RepoType::Dataset);
    if let Some(path) = Cache::new(options.cache.clone()).repo(of_repo.clone()).get(file) {
        return Ok(path);
    }
    if options.offline {
        return Err(error(format!("{file} is not in the cache, and HF_HUB_OFFLINE is set")));
    }
    let builder = ApiBuilder::from_cache(Cache::new(options.cache.clone()))
        .with_endpoint(options.endpoint.clone())
        .with_token(options.token.clone())
        .with_progress(false)
        .with_retries(2);
    let api = builder.build().map_err(|e| error(format!("connect: {e}")))?;
    let fetched = api.repo(of_repo).download_with_progress(file, LoggedProgress::default());
    fetched.map_err(|e| error(format!("{file}: {e}{}", hint(&e.to_string()))))
}

/// What to try after a refusal of the server.
fn hint(text: &str) -> &'static str {
    match () {
        () if text.contains("status code 404") => " (is the id right? private repositories need HF_TOKEN)",
        () if text.contains("status code 401") || text.contains("status code 403") => {
            " (private or gated: set HF_TOKEN)"
        }
        () => "",
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
        error(format!("{what}: {text}{}", hint(&text)))
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

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::golden;
    use crate::source::PolicyFiles;

    type NamedBytes = (String, Vec<u8>);

    /// A hub of one repository, `owner/tiny`, as far as a client notices; it keeps the requests.
    struct Server {
        endpoint: String,
        requests: Arc<Mutex<Vec<String>>>,
        files: Arc<Mutex<Vec<NamedBytes>>>,
        sha: Arc<Mutex<String>>,
    }

    impl Server {
        fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut files = Vec::new();
            for entry in std::fs::read_dir(golden("models/tiny-qwen2")).unwrap() {
                let path = entry.unwrap().path();
                files.push((
                    path.file_name().unwrap().to_str().unwrap().into(),
                    std::fs::read(&path).unwrap(),
                ));
            }
            let server = Self {
                endpoint: format!("http://{}", listener.local_addr().unwrap()),
                requests: Arc::default(),
                files: Arc::new(Mutex::new(files)),
                sha: Arc::new(Mutex::new("c0ffee".into())),
            };
            let (requests, files, sha) = (server.requests.clone(), server.files.clone(), server.sha.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let _ = answer(stream.unwrap(), &requests, &files.lock().unwrap(), &sha.lock().unwrap());
                }
            });
            server
        }

        fn options(&self, cache: &Path, offline: bool) -> HubOptions {
            HubOptions {
                endpoint: self.endpoint.clone(),
                cache: cache.into(),
                token: Some("abc".into()),
                offline,
            }
        }

        fn take_requests(&self) -> Vec<String> {
            std::mem::take(&mut self.requests.lock().unwrap())
        }
    }

    fn answer(
        mut stream: TcpStream,
        requests: &Mutex<Vec<String>>,
        files: &[NamedBytes],
        sha: &str,
    ) -> std::io::Result<()> {
        let (mut path, mut range, mut token) = (String::new(), None, String::new());
        for line in BufReader::new(stream.try_clone()?).lines() {
            let line = line?;
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("GET ") {
                path = rest.split(' ').next().unwrap().into();
            }
            if let Some((name, value)) = line.split_once(": ") {
                match name.to_lowercase().as_str() {
                    "range" => {
                        range = value.strip_prefix("bytes=").and_then(|r| {
                            r.split_once('-')
                                .map(|(a, b)| (a.parse::<usize>().unwrap(), b.parse::<usize>().ok()))
                        })
                    }
                    "authorization" => token = value.into(),
                    _ => {}
                }
            }
        }
        requests.lock().unwrap().push(path.clone());
        let of_dataset = path.strip_prefix("/datasets/owner/tiny/resolve/main/");
        let file = path.strip_prefix("/owner/tiny/resolve/main/").or(of_dataset);
        let file = file.and_then(|name| files.iter().find(|(n, _)| n == name));
        let (status, headers, body) = if token != "Bearer abc" {
            ("401 Unauthorized", String::new(), Vec::new())
        } else if path == "/api/models/owner/tiny/revision/main" {
            let siblings: Vec<_> = files.iter().map(|(n, _)| serde_json::json!({"rfilename": n})).collect();
            let info = serde_json::json!({"sha": sha, "siblings": siblings});
            ("200 OK", String::new(), info.to_string().into_bytes())
        } else if let Some((name, content)) = file {
            let (from, to) = range.unwrap_or((0, None));
            let to = to.map_or(content.len(), |to| (to + 1).min(content.len()));
            let headers = format!(
                "ETag: \"{sha}-{name}\"\r\nX-Repo-Commit: {sha}\r\nContent-Range: bytes {from}-{}/{}\r\n",
                to - 1,
                content.len()
            );
            ("206 Partial Content", headers, content[from..to].to_vec())
        } else {
            ("404 Not Found", String::new(), Vec::new())
        };
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
            body.len()
        )?;
        stream.write_all(&body)
    }

    #[test]
    fn downloads_once_then_uses_the_cache() {
        let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
        let (online, offline) = (server.options(dir.path(), false), server.options(dir.path(), true));
        let message = fetch("owner/tiny", &offline).unwrap_err().to_string();
        assert!(message.contains("HF_HUB_OFFLINE") && server.take_requests().is_empty(), "{message}");

        let policy = PolicyFiles::open_with("owner/tiny", &online).unwrap();
        assert_eq!(policy.source, dir.path().join("models--owner--tiny/snapshots/c0ffee"));
        assert_eq!(policy.config.architecture, crate::config::Architecture::Qwen2);
        assert!(policy.chat_template.is_some());
        assert!(server.take_requests().len() > 6);

        fetch("owner/tiny", &online).unwrap();
        assert_eq!(server.take_requests(), ["/api/models/owner/tiny/revision/main"], "unchanged: only asked");
        PolicyFiles::open_with("owner/tiny", &offline).unwrap();
        assert_eq!(server.take_requests(), [""; 0]);

        *server.sha.lock().unwrap() = "decade".into();
        let folder = fetch("owner/tiny", &online).unwrap();
        assert!(folder.ends_with("snapshots/decade"), "{}", folder.display());
        assert_eq!(fetch("owner/tiny", &offline).unwrap(), folder);
        let gone = HubOptions { endpoint: "http://127.0.0.1:9".into(), ..online };
        assert_eq!(fetch("owner/tiny", &gone).unwrap(), folder, "no server: the cached copy");
    }

    #[test]
    fn files_of_data_sets_are_fetched_once() {
        let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
        server.files.lock().unwrap().push(("Text/test.jsonl".into(), b"{}\n".to_vec()));
        let (online, offline) = (server.options(dir.path(), false), server.options(dir.path(), true));
        let fetch = |file: &str, options| fetch_dataset_file("owner/tiny", file, options);
        assert!(fetch("Text/test.jsonl", &offline).unwrap_err().to_string().contains("HF_HUB_OFFLINE"));
        let path = fetch("Text/test.jsonl", &online).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{}\n");
        assert!(path.starts_with(dir.path().join("datasets--owner--tiny")));
        server.take_requests();
        assert_eq!(fetch("Text/test.jsonl", &offline).unwrap(), path);
        assert_eq!(server.take_requests(), [""; 0]);
        let message = fetch("none.jsonl", &online).unwrap_err().to_string();
        assert!(message.contains("none.jsonl") && message.contains("is the id right?"), "{message}");
    }

    #[test]
    fn shards_are_found_through_the_index() {
        let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
        let mut files = server.files.lock().unwrap();
        let weights = files.iter_mut().find(|(name, _)| name == WEIGHTS).unwrap();
        weights.0 = "model-00001-of-00001.safetensors".into();
        let source = crate::weights::SafetensorsSource::open_folder(&golden("models/tiny-qwen2")).unwrap();
        let names = crate::weights::WeightSource::names(&source);
        let map: serde_json::Map<_, _> =
            names.into_iter().map(|n| (n, "model-00001-of-00001.safetensors".into())).collect();
        files.push((INDEX.into(), serde_json::json!({"weight_map": map}).to_string().into_bytes()));
        drop(files);
        let options = server.options(dir.path(), false);
        PolicyFiles::open_with("owner/tiny", &options).unwrap();
        server.files.lock().unwrap().retain(|(name, _)| !name.starts_with("model-"));
        *server.sha.lock().unwrap() = "decade".into();
        let message =
            fetch("owner/tiny", &server.options(&dir.path().join("other"), false)).unwrap_err().to_string();
        assert!(message.contains("no model-00001-of-00001.safetensors, which its index lists"), "{message}");
    }

    #[test]
    fn what_the_server_refuses_is_explained() {
        let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
        let options = server.options(dir.path(), false);
        let error = |repo: &str, options: &HubOptions, expected: &str| {
            let message = fetch(repo, options).unwrap_err().to_string();
            assert!(message.contains(repo) && message.contains(expected), "{message}");
        };
        error("owner/other", &options, "is the id right?");
        error("owner/tiny", &HubOptions { token: None, ..options.clone() }, "set HF_TOKEN");
        error(
            "owner/tiny",
            &HubOptions { endpoint: "http://127.0.0.1:9".into(), ..options.clone() },
            "list files",
        );
        server.files.lock().unwrap().retain(|(name, _)| name != "tokenizer.json");
        error("owner/tiny", &options, "it has no tokenizer.json");
        server.files.lock().unwrap().retain(|(name, _)| name != WEIGHTS);
        error("owner/tiny", &options, "it has neither model.safetensors nor");
    }

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

    #[test]
    fn repository_ids() {
        for (spec, expected) in [
            ("owner/name", true),
            ("HuggingFaceTB/SmolLM2-135M-Instruct", true),
            ("o/n.v1_2", true),
            ("name", false),
            ("a/b/c", false),
            ("./a", false),
            ("../a", false),
            ("/a", false),
            ("a/..", false),
            ("a/b c", false),
            ("", false),
        ] {
            assert_eq!(is_repo_id(spec), expected, "{spec}");
        }
    }
}
