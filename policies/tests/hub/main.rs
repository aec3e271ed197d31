//! The hub client against servers that behave in every way.
#![allow(clippy::unwrap_used)] // Helpers of tests fail tests.

mod cases;
mod client;
mod models;
#[path = "../../../tests/fuzz/targets/random.rs"]
mod random;
mod server;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use rlvr_policies::http::Limits;
use rlvr_policies::hub::{HubOptions, fetch};

use cases::{CASES, Case, End};
use random::Random;
use server::{Act, Asked, POINTER, Servers, TOKEN, World, git_sha1, noise, sha256};

/// An absolute file name that servers give.
const ESCAPE: &str = "/tmp/rlvr-hub-escape";
/// After this time a client hangs. Nothing here takes a thousandth of it.
const HANGS: Duration = Duration::from_secs(600);

fn files() -> Vec<(String, Vec<u8>)> {
    let text = |name: &str, text: String| (name.to_owned(), text.into_bytes());
    let mut files = vec![
        text("config.json", "{\"model_type\": \"tiny\"}".into()),
        text("tokenizer.json", "{\"a\": 1}\n".repeat(300)),
        text("model.safetensors.index.json", "{\"weight_map\": {}}".into()),
        text("README.md", "nobody needs this".into()),
    ];
    files.push(("model.safetensors".into(), noise(5000)));
    files.push(("model-1-of-2.safetensors".into(), noise(2000)));
    files.push(("model-2-of-2.safetensors".into(), noise(3000)));
    files
}

/// A commit that begins so.
fn commit(start: &str) -> String {
    start.chars().cycle().take(40).collect()
}

/// A server, and a cache deep in a folder of its own, so that what leaves the cache is found.
struct Place {
    _dir: tempfile::TempDir,
    outer: PathBuf,
    cache: PathBuf,
    servers: Servers,
}

impl Place {
    fn new() -> Self {
        Self::with(files())
    }

    fn with(files: Vec<(String, Vec<u8>)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let outer = dir.path().to_owned();
        let cache = outer.join("a/b/hub");
        fs::create_dir_all(&cache).unwrap();
        let servers = Servers::start(outer.clone(), files, commit("c0ffee"));
        Self { _dir: dir, servers, outer, cache }
    }

    fn options(&self) -> HubOptions {
        let minute = Duration::from_secs(60);
        let limits = Limits {
            connect: minute,
            answer: minute,
            silence: minute,
            window: minute,
            whole: minute,
            tries: 5,
            pause: Duration::from_millis(1),
            patience: minute,
        };
        HubOptions {
            endpoint: self.servers.world.url.clone(),
            cache: self.cache.clone(),
            token: Some(TOKEN.into()),
            offline: false,
            limits,
        }
    }

    fn hurried(&self) -> HubOptions {
        let soon = Duration::from_millis(150);
        let mut options = self.options();
        options.limits = Limits { answer: soon, silence: soon, window: soon, tries: 2, ..options.limits };
        options
    }

    /// [`fetch`], which must come to an end and not panic.
    fn fetch(&self, what: &str, options: HubOptions) -> Result<PathBuf, String> {
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let found = fetch("owner/tiny", &options).map_err(|e| with_sources(&e));
            let _ = sender.send(found);
        });
        match receiver.recv_timeout(HANGS) {
            Ok(found) => found,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what}: hangs"),
            Err(mpsc::RecvTimeoutError::Disconnected) => panic!("{what}: {:?}", thread.join()),
        }
    }

    /// What holds whatever the server does.
    fn check(&self, what: &str) {
        let world = &self.servers.world;
        let host = world.url.trim_start_matches("http://");
        for asked in self.servers.take_asked() {
            let trusted =
                !asked.at_cdn && asked.header("host") == Some(host) && !asked.path.contains("steal");
            assert!(
                trusted || asked.header("authorization").is_none(),
                "{what}: the token goes to {asked:?}"
            );
        }
        let mut all = Vec::new();
        walk(&self.outer, &mut all);
        for path in &all {
            assert!(path.starts_with(&self.cache), "{what}: {} is outside of the cache", path.display());
        }
        assert!(!Path::new(ESCAPE).exists(), "{what}: an absolute name was written");
        let repo = self.cache.join("models--owner--tiny");
        for path in all.iter().filter(|path| path.starts_with(repo.join("blobs"))) {
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.ends_with(".incomplete") {
                continue;
            }
            let content = fs::read(path).unwrap();
            let hex = name.bytes().all(|b| b.is_ascii_hexdigit());
            match name.len() {
                64 if hex => {
                    assert_eq!(name.to_ascii_lowercase(), sha256(&content), "{what}: a corrupt file")
                }
                40 if hex => {
                    assert_eq!(name.to_ascii_lowercase(), git_sha1(&content), "{what}: a corrupt file")
                }
                _ => {
                    let known = world.files.iter().any(|(_, c)| *c == content);
                    assert!(known || content == POINTER.as_bytes(), "{what}: a corrupt file {name}");
                }
            }
        }
        for path in all.iter().filter(|path| path.starts_with(repo.join("snapshots"))) {
            let target = fs::read_link(path).unwrap();
            assert!(target.is_relative() && path.is_file(), "{what}: {} leads nowhere", path.display());
            assert!(fs::canonicalize(path).unwrap().starts_with(fs::canonicalize(&self.cache).unwrap()));
        }
        if let Ok(commit) = fs::read_to_string(repo.join("refs/main")) {
            assert_eq!(commit, world.commit, "{what}");
            assert!(repo.join("snapshots").join(&commit).join("tokenizer.json").is_file(), "{what}");
        }
    }

    /// What a fetched folder holds.
    fn check_folder(&self, what: &str, folder: &Path, sharded: bool) {
        let shards: &[&str] = &["model-1-of-2.safetensors", "model-2-of-2.safetensors"];
        let weights: &[&str] = if sharded { shards } else { &["model.safetensors"] };
        for file in ["config.json", "tokenizer.json"].iter().chain(weights) {
            let content = fs::read(folder.join(file)).unwrap_or_else(|e| panic!("{what}: {file}: {e}"));
            assert!(
                Some(content.as_slice()) == self.servers.world.content(file),
                "{what}: {file} is corrupt"
            );
        }
        assert!(folder.ends_with(&self.servers.world.commit), "{what}: {}", folder.display());
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|s| format!(": {}", with_sources(s)));
    format!("{error}{}", source.unwrap_or_default())
}

/// All that is no folder.
fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => walk(&entry.path(), found),
            false => found.push(entry.path()),
        }
    }
}

/// No second try.
fn once() -> Limits {
    Limits { tries: 1, ..Limits::default() }
}

fn run(case: &Case) {
    let place = Place::new();
    if let Some(before) = case.before {
        place.servers.behave(before);
        let found = place.fetch(case.name, HubOptions { limits: once(), ..place.options() });
        assert!(found.is_err(), "{}: {found:?}", case.name);
        place.check(case.name);
    }
    place.servers.behave(case.behave);
    let options = if case.hurried { place.hurried() } else { place.options() };
    let found = place.fetch(case.name, options.clone());
    assert!(!place.servers.flooded.load(Ordering::SeqCst), "{}: read without a bound", case.name);
    place.check(case.name);
    match (&case.end, &found) {
        (End::Whole, Ok(folder)) => place.check_folder(case.name, folder, case.name.starts_with("index")),
        (End::Error(words), Err(message)) => {
            for word in *words {
                assert!(message.contains(word), "{}: no {word:?} in: {message}", case.name);
            }
            assert!(!message.contains("signature=secret") && !message.contains(TOKEN), "{message}");
            assert!(message.len() < 1000, "{}: {} bytes of message", case.name, message.len());
        }
        _ => panic!("{}: {found:?}", case.name),
    }
    // The server comes to its senses.
    place.servers.behave(|_, _| Act::Good);
    let folder = place.fetch(case.name, place.options());
    let folder = folder.unwrap_or_else(|e| panic!("{}: not repaired: {e}", case.name));
    place.check_folder(case.name, &folder, false);
    place.check(case.name);
    let offline = HubOptions { offline: true, endpoint: "http://127.0.0.1:9".into(), ..options };
    assert_eq!(fetch("owner/tiny", &offline).unwrap(), folder, "{}", case.name);
}

#[test]
fn no_behaviour_of_a_server_does_harm() {
    let names: BTreeSet<_> = CASES.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), CASES.len(), "every behaviour has a name of its own");
    assert!(CASES.len() > 47);
    let _ = fs::remove_file(ESCAPE);
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(case) = CASES.get(next.fetch_add(1, Ordering::SeqCst)) {
            if std::panic::catch_unwind(|| run(case)).is_err() {
                failed.lock().unwrap().push(case.name);
            }
        }
    };
    // Most of them wait most of the time.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(work);
        }
    });
    assert_eq!(*failed.lock().unwrap(), [""; 0], "see above");
}

static SEED: AtomicU64 = AtomicU64::new(0);
static REQUEST: AtomicU64 = AtomicU64::new(0);

/// The good answer, but of one request, which depends on the seed, with bytes changed, lost, or come twice.
fn mutated(asked: &Asked, world: &World) -> Act {
    let seed = SEED.load(Ordering::SeqCst);
    if REQUEST.fetch_add(1, Ordering::SeqCst) != seed % 8 {
        return Act::Good;
    }
    let (mut bytes, mut dice) = (world.good(asked).bytes(), Random(seed + 1));
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(bytes.len());
    for _ in 0..=dice.below(4) {
        let at = if dice.below(4) > 0 { dice.below(head) } else { dice.below(bytes.len()) };
        let at = at.min(bytes.len());
        match dice.below(5) {
            0 => bytes.truncate(at),
            1 => drop(bytes.splice(at..at, [dice.below(256) as u8; 40])),
            2 => drop(bytes.splice(at..at, bytes[..at].to_vec())),
            3 => bytes[at..].iter_mut().take(1).for_each(|b| *b = b"\0\r\n :/.-9\xff"[dice.below(10)]),
            _ => bytes[at..].iter_mut().take(1).for_each(|b| *b ^= 1 << dice.below(8)),
        }
    }
    Act::Say(bytes)
}

#[test]
fn mutated_answers_do_no_harm() {
    for seed in 0..400 {
        SEED.store(seed, Ordering::SeqCst);
        REQUEST.store(0, Ordering::SeqCst);
        let (place, what) = (Place::new(), format!("seed {seed}"));
        place.servers.behave(mutated);
        if let Ok(folder) = place.fetch(&what, place.options()) {
            place.check_folder(&what, &folder, !folder.join("model.safetensors").exists());
        }
        place.check(&what);
        place.servers.behave(|_, _| Act::Good);
        let folder = place.fetch(&what, place.options()).unwrap_or_else(|e| panic!("{what}: {e}"));
        place.check_folder(&what, &folder, false);
    }
}
