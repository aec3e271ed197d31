//! What the client asks for, how often, and what it does beside another one.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rlvr_policies::http::{Client, Fault, Limits, Request};
use rlvr_policies::hub::{HubOptions, fetch, fetch_dataset_file};

use crate::server::{Act, Reply, TOKEN, sha256};
use crate::{Place, once, with_sources};

#[test]
fn only_the_rest_of_a_file_is_asked_for() {
    let place = Place::new();
    place.servers.behave(|a, w| if a.is_large_body() { Act::Say(w.good(a).cut(700)) } else { Act::Good });
    place.fetch("cut", HubOptions { limits: once(), ..place.options() }).unwrap_err();
    place.servers.take_asked();
    place.servers.behave(|a, w| match a.is_large_body() && a.before == 0 {
        true => Act::Say(w.good(a).cut(1300)),
        false => Act::Good,
    });
    place.fetch("resumed", place.options()).unwrap();
    let asked = place.servers.take_asked();
    let ranges: Vec<_> =
        asked.iter().filter(|a| a.is_large_body()).map(|a| a.header("range").unwrap()).collect();
    assert_eq!(ranges, ["bytes=700-", "bytes=2000-"]);
    // The second server has named its content by then.
    let conditions: Vec<_> =
        asked.iter().filter(|a| a.is_large_body()).map(|a| a.header("if-range")).collect();
    assert_eq!(conditions, [None, Some("\"cdn-5000\"")]);
    let again = asked.iter().filter(|a| a.file() == Some("tokenizer.json")).count();
    assert_eq!(again, 0, "what is there is not asked for again");
}

#[test]
fn requests_are_tried_as_often_as_it_makes_sense() {
    let place = Place::new();
    let tries = |behave: crate::server::Behave| {
        place.servers.behave(behave);
        place.fetch("tries", place.options()).unwrap_err();
        place.servers.take_asked().len()
    };
    assert_eq!(tries(|_, _| Act::Reply(Reply::new("500 Internal Server Error", ""))), 5);
    assert_eq!(tries(|_, _| Act::Say(Vec::new())), 5);
    assert_eq!(tries(|_, _| Act::Reply(Reply::new("404 Not Found", ""))), 1);
    assert_eq!(tries(|_, _| Act::Reply(Reply::new("429 Slow Down", "").set("Retry-After", 3600))), 1);
    assert_eq!(tries(|a, _| Act::Reply(Reply::new("302 Found", "").set("Location", &a.path))), 11);
}

#[test]
fn two_downloads_of_one_file_are_one() {
    static WAITING: AtomicUsize = AtomicUsize::new(0);
    let place = Place::new();
    place.servers.behave(|a, _| {
        if a.file() == Some("model.safetensors") {
            WAITING.fetch_add(1, Ordering::SeqCst);
        }
        // The content comes when both have asked what it is.
        while a.is_large_body() && WAITING.load(Ordering::SeqCst) < 3 {
            std::thread::sleep(Duration::from_millis(5));
        }
        Act::Good
    });
    std::thread::scope(|scope| {
        for name in ["one", "other"] {
            let (place, options) = (&place, place.options());
            scope.spawn(move || place.check_folder(name, &place.fetch(name, options).unwrap(), false));
        }
    });
    let asked = place.servers.take_asked();
    assert_eq!(asked.iter().filter(|a| a.is_large_body()).count(), 1);
    place.check("two");
}

#[test]
fn a_lock_that_nobody_gives_back_is_named() {
    let place = Place::new();
    let blob = sha256(place.servers.world.content("model.safetensors").unwrap());
    let locks = place.cache.join(".locks/models--owner--tiny");
    fs::create_dir_all(&locks).unwrap();
    let lock = fs::File::create(locks.join(format!("{blob}.lock"))).unwrap();
    lock.lock().unwrap();
    let mut options = place.options();
    options.limits.whole = Duration::from_millis(100);
    let message = place.fetch("locked", options).unwrap_err();
    assert!(message.contains(&format!("{blob}.lock")) && message.contains("another process"), "{message}");
    lock.unlock().unwrap();
    place.check_folder("unlocked", &place.fetch("unlocked", place.options()).unwrap(), false);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_and_forgotten() {
    let place = Place::new();
    let blob = sha256(place.servers.world.content("model.safetensors").unwrap());
    let blobs = place.cache.join("models--owner--tiny/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let part = blobs.join(format!("{blob}.incomplete"));
    std::os::unix::fs::symlink("/dev/full", &part).unwrap();
    let message = place.fetch("full", place.options()).unwrap_err();
    assert!(message.contains(part.to_str().unwrap()) && message.contains("No space left"), "{message}");
    fs::remove_file(&part).unwrap();
    place.check_folder("space", &place.fetch("space", place.options()).unwrap(), false);
}

#[test]
fn a_corrupt_file_of_the_cache_is_replaced() {
    let place = Place::new();
    let folder = place.fetch("first", place.options()).unwrap();
    let file = folder.join("model.safetensors");
    // As a resumed download leaves it that began anew at the end.
    let content = fs::read(&file).unwrap();
    fs::write(&file, [&content[..3000], &content[..]].concat()).unwrap();
    place.check_folder("again", &place.fetch("again", place.options()).unwrap(), false);
    place.check("again");
}

#[test]
fn files_of_data_sets_are_fetched_once() {
    let mut files = crate::files();
    files.push(("Text/a test #1.jsonl".into(), b"{}\n".to_vec()));
    let place = Place::with(files);
    let (online, offline) = (place.options(), HubOptions { offline: true, ..place.options() });
    let fetch =
        |file: &str, options| fetch_dataset_file("owner/tiny", file, options).map_err(|e| with_sources(&e));
    // An address has no spaces: the server sees them quoted.
    place.servers.behave(|a, w| {
        let path = a.path.replace("%20", " ").replace("%23", "#");
        Act::Reply(w.good(&crate::Asked { path, ..a.clone() }))
    });
    let name = "Text/a test #1.jsonl";
    assert!(fetch(name, &offline).unwrap_err().contains("HF_HUB_OFFLINE"));
    assert_eq!(place.servers.take_asked().len(), 0);
    let path = fetch(name, &online).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"{}\n");
    assert!(path.starts_with(place.cache.join("datasets--owner--tiny/snapshots")));
    assert_eq!(place.servers.take_asked().len(), 2, "what it is, and what it holds");
    assert_eq!(fetch(name, &offline).unwrap(), path);
    assert_eq!(fetch(name, &online).unwrap(), path);
    assert_eq!(place.servers.take_asked().len(), 0);
    let message = fetch("none.jsonl", &online).unwrap_err();
    assert!(message.contains("none.jsonl") && message.contains("is the id right?"), "{message}");
    for name in crate::cases::HOSTILE.iter().filter(|name| !["C:\\escape", "~/escape"].contains(name)) {
        let found = fetch(name, &online);
        assert!(found.is_err(), "{name:?}: {found:?}");
    }
    place.servers.behave(|a, w| Act::Reply(w.good(a).without("X-Repo-Commit")));
    assert!(fetch("config.json", &online).unwrap_err().contains("X-Repo-Commit"));
    place.check("data sets");
}

#[test]
fn what_the_server_refuses_is_explained() {
    let place = Place::new();
    let error = |repo: &str, options: &HubOptions, words: &[&str]| {
        let message = fetch(repo, options).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "{word:?} is not in {message}");
        }
    };
    let options = place.options();
    error("owner/other", &options, &["owner/other", "list files", "status 404", "is the id right?"]);
    error("owner/tiny", &HubOptions { token: None, ..options.clone() }, &["status 401", "set HF_TOKEN"]);
    let wrong = HubOptions { token: Some("wrong".into()), ..options.clone() };
    error("owner/tiny", &wrong, &["status 401", "does HF_TOKEN hold a valid token?"]);
    let broken = HubOptions { token: Some("two\nlines".into()), ..options.clone() };
    error("owner/tiny", &broken, &["the token has characters"]);
    let gone = HubOptions { endpoint: "http://127.0.0.1:9".into(), ..options.clone() };
    error("owner/tiny", &gone, &["list files", "http://127.0.0.1:9/", "no network?", "HF_HUB_OFFLINE"]);
    // No name server is asked for a name as long as that.
    let nobody = format!("https://{}.invalid", "x".repeat(70));
    error("owner/tiny", &HubOptions { endpoint: nobody, ..options.clone() }, &["no network?", "not known"]);
    for endpoint in [
        "huggingface.co",
        "",
        "ftp://mirror",
        "http://",
        "http:// /",
        "https://[::",
        "x".repeat(9999).as_str(),
    ] {
        let options = HubOptions { endpoint: endpoint.into(), ..options.clone() };
        error("owner/tiny", &options, &["list files", "URL"]);
    }
    let nowhere = HubOptions { cache: "/dev/null/hub".into(), ..options.clone() };
    error("owner/tiny", &nowhere, &["cannot write /dev/null/hub"]);
    // A line end behind a token in a file or a variable is no part of it.
    fetch("owner/tiny", &HubOptions { token: Some(format!("{TOKEN}\n")), ..options }).unwrap();
}

#[test]
fn a_text_that_is_posted_is_not_redirected_and_has_one_bound() {
    let place = Place::new();
    let limits = Limits { tries: 2, pause: Duration::from_millis(1), ..Limits::default() };
    let client = Client::new(limits);
    let url = format!("{}/v1/chat/completions", place.servers.world.url);
    let post = |within| client.post_json(&url, Some("key"), "{}", within);
    let minute = Duration::from_secs(60);
    place.servers.behave(|_, w| Act::Reply(Reply::new("307 Away", "").set("Location", &w.cdn)));
    assert_eq!(post(minute).unwrap().status, 307);
    let asked = place.servers.take_asked();
    assert_eq!((asked.len(), asked[0].header("authorization")), (1, Some("Bearer key")));
    for behave in [
        (|_, _| Act::Hang(Vec::new())) as crate::server::Behave,
        |_, _| Act::Hang(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab".to_vec()),
        |_, _| Act::Drip(vec![b'x'; 1000], 0),
        |_, _| Act::Drip([b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 1000]].concat(), 19),
    ] {
        place.servers.behave(behave);
        let read = post(Duration::from_millis(200)).and_then(|answer| answer.read(1 << 20));
        assert_eq!(read.unwrap_err().fault, Fault::Broken);
    }
}

#[test]
fn a_file_that_is_kept_in_memory_is_whole_or_an_error() {
    let place = Place::new();
    let client = Client::new(Limits { tries: 2, pause: Duration::from_millis(1), ..Limits::default() });
    let url = format!("{}/file", place.servers.world.url);
    let get = || client.retry(|| client.follow(&Request::get(&url), |_| false)?.expect(&[200])?.read(1000));
    place.servers.behave(|_, _| Act::Reply(Reply::new("200 OK", vec![b'x'; 1000])));
    assert_eq!(get().unwrap().len(), 1000);
    place.servers.behave(|_, _| Act::Reply(Reply::new("200 OK", vec![b'x'; 1001])));
    assert!(get().unwrap_err().problem.contains("longer than 1000"));
    place.servers.behave(|_, _| Act::Reply(Reply::new("200 OK", vec![b'x'; 1001]).chunked()));
    assert!(get().unwrap_err().problem.contains("longer than 1000"));
    place.servers.behave(|_, _| Act::Say(Reply::new("200 OK", vec![b'x'; 1000]).cut(999)));
    assert!(get().unwrap_err().problem.contains("lost"));
    place.servers.behave(|a, _| match a.before {
        0 => Act::Say(Reply::new("200 OK", "whole").cut(2)),
        _ => Act::Reply(Reply::new("200 OK", "whole")),
    });
    place.servers.take_asked();
    assert_eq!(get().unwrap(), b"whole");
}
