//! Behaviours of a hub: what the server does, and what must come of it.

use serde_json::{Value, json};

use crate::server::{Act, Asked, Behave, POINTER, Reply, World, git_sha1, noise, ranged, sha256};

/// How a download must end. Whatever happens, nothing may panic, hang, leave the cache or show the token.
pub enum End {
    /// With the repository's files.
    Whole,
    /// With an error that has these words.
    Error(&'static [&'static str]),
}

use End::{Error, Whole};

pub struct Case {
    pub name: &'static str,
    /// Waits end at once: for servers that never come to an end.
    pub hurried: bool,
    /// What the server did when it was asked for the first time, to no avail.
    pub before: Option<Behave>,
    pub behave: Behave,
    pub end: End,
}

const fn case(name: &'static str, end: End, behave: Behave) -> Case {
    Case { name, hurried: false, before: None, behave, end }
}

const fn again(name: &'static str, end: End, before: Behave, behave: Behave) -> Case {
    Case { name, hurried: false, before: Some(before), behave, end }
}

const fn hurried(name: &'static str, behave: Behave) -> Case {
    Case { name, hurried: true, before: None, behave, end: Error(&["127.0.0.1"]) }
}

const LISTING: &str = "list files";

/// The good answer, changed where `when` says.
fn changed(a: &Asked, w: &World, when: bool, change: impl FnOnce(Reply) -> Reply) -> Act {
    if when { Act::Reply(change(w.good(a))) } else { Act::Good }
}

fn listing(a: &Asked, w: &World, change: impl FnOnce(&mut Value)) -> Act {
    let mut value = w.listing();
    change(&mut value);
    changed(a, w, a.is_listing(), |r| r.body(value.to_string()))
}

fn siblings(value: &mut Value) -> &mut Vec<Value> {
    value["siblings"].as_array_mut().unwrap()
}

/// An answer instead of the listing.
fn instead(a: &Asked, reply: Reply) -> Act {
    if a.is_listing() { Act::Reply(reply) } else { Act::Good }
}

fn redirect(location: impl ToString) -> Reply {
    Reply::new("307 Temporary Redirect", "gone").set("Location", location)
}

fn cut_always(a: &Asked, w: &World) -> Act {
    if a.is_large_body() { Act::Say(w.good(a).cut(700)) } else { Act::Good }
}

/// Another ETag for a small file.
fn etag(a: &Asked, w: &World, etag: &str) -> Act {
    changed(a, w, a.file() == Some("tokenizer.json"), |r| r.set("ETag", etag))
}

/// An index in the place of the weights, with this content, and these further names in the listing.
fn index(a: &Asked, w: &World, content: &str, names: &[&str]) -> Act {
    if a.file() == Some("model.safetensors.index.json") {
        let reply = ranged(a, content.as_bytes(), &format!("\"{}\"", git_sha1(content.as_bytes())));
        let reply = reply.set("X-Repo-Commit", &w.commit);
        return Act::Reply(if a.method == "HEAD" { Reply { body: Vec::new(), ..reply } } else { reply });
    }
    listing(a, w, |value| {
        siblings(value).retain(|s| s["rfilename"] != "model.safetensors");
        siblings(value).iter_mut().for_each(|s| s["size"] = Value::Null);
        siblings(value).extend(names.iter().map(|name| json!({"rfilename": name})));
    })
}

fn shards(names: &[&str]) -> String {
    let map: serde_json::Map<_, _> = names.iter().map(|n| (format!("tensor of {n}"), json!(n))).collect();
    json!({"weight_map": map}).to_string()
}

/// Names that must never become paths.
pub const HOSTILE: [&str; 22] = [
    "",
    ".",
    "..",
    "/",
    "//",
    "../x",
    "../../../../escape",
    "a/../../../../../escape",
    "/tmp/rlvr-hub-escape",
    "/etc/passwd",
    "a//b",
    "a/",
    "./a",
    "a\\..\\..\\b",
    "..\\..\\escape",
    "C:\\escape",
    "nul\0byte",
    "new\nline",
    "\u{202e}snosj",
    "a/./b",
    "~/escape",
    "config.json/..",
];

pub const CASES: &[Case] = &[
    case("normal", Whole, |_, _| Act::Good),
    case("large files without a second server", Whole, |a, w| {
        let Some(file) = a.file().filter(|f| f.ends_with(".safetensors")) else { return Act::Good };
        let content = w.content(file).unwrap();
        let reply = ranged(a, content, &format!("\"{}\"", sha256(content))).set("X-Repo-Commit", &w.commit);
        Act::Reply(if a.method == "HEAD" { Reply { body: Vec::new(), ..reply } } else { reply })
    }),
    // The listing.
    hurried("listing: silence", |a, _| if a.is_listing() { Act::Hang(vec![]) } else { Act::Good }),
    hurried("listing: silence within the head", |a, w| match a.is_listing() {
        true => Act::Hang(w.good(a).bytes()[..40].to_vec()),
        false => Act::Good,
    }),
    hurried("listing: the head drips", |a, w| match a.is_listing() {
        true => Act::Drip(w.good(a).bytes(), 0),
        false => Act::Good,
    }),
    hurried("listing: the body drips", |a, w| match a.is_listing() {
        true => Act::Drip(w.good(a).bytes(), 200),
        false => Act::Good,
    }),
    hurried("listing: silence within the body", |a, w| match a.is_listing() {
        true => Act::Hang(w.good(a).cut(100)),
        false => Act::Good,
    }),
    case("listing: cut always", Error(&[LISTING, "lost"]), |a, w| match a.is_listing() {
        true => Act::Say(w.good(a).cut(100)),
        false => Act::Good,
    }),
    case("listing: cut once", Whole, |a, w| match a.is_listing() && a.before == 0 {
        true => Act::Say(w.good(a).cut(100)),
        false => Act::Good,
    }),
    case("listing: no length, ends with the connection", Whole, |a, w| {
        changed(a, w, a.is_listing(), |r| r.without("Content-Length"))
    }),
    case("listing: chunked", Whole, |a, w| changed(a, w, a.is_listing(), Reply::chunked)),
    case("listing: chunked, cut", Error(&[LISTING]), |a, w| match a.is_listing() {
        true => Act::Say(w.good(a).chunked().cut(250)),
        false => Act::Good,
    }),
    case("listing: chunk sizes that are none", Error(&[LISTING]), |a, w| {
        changed(a, w, a.is_listing(), |r| r.chunked().body("zz\r\nabc\r\n-5\r\n").without("Content-Length"))
    }),
    case("listing: a chunk of 2^64 bytes", Error(&[LISTING]), |a, w| {
        changed(a, w, a.is_listing(), |r| {
            r.chunked().body("ffffffffffffffff\r\nabc").without("Content-Length")
        })
    }),
    case("listing: HTTP/1.0", Whole, |a, w| match a.is_listing() {
        true => Act::Say([b"HTTP/1.0 200 OK\r\n\r\n".to_vec(), w.listing().to_string().into()].concat()),
        false => Act::Good,
    }),
    case("listing: gzip that nobody asked for", Error(&[LISTING, "gzip"]), |a, w| {
        changed(a, w, a.is_listing(), |r| r.set("Content-Encoding", "gzip").body(b"\x1f\x8b\x08\0".to_vec()))
    }),
    case("listing: HTML", Error(&[LISTING, "no listing"]), |a, _| {
        instead(a, Reply::new("200 OK", "<html>Welcome to the airport</html>"))
    }),
    case("listing: empty", Error(&[LISTING, "no listing"]), |a, _| instead(a, Reply::new("200 OK", ""))),
    case("listing: not UTF-8", Error(&[LISTING, "no listing"]), |a, _| {
        instead(a, Reply::new("200 OK", b"{\"sha\": \"\xff\xfe\"}".to_vec()))
    }),
    case("listing: JSON 100,000 deep", Error(&[LISTING, "no listing"]), |a, _| {
        instead(a, Reply::new("200 OK", "[".repeat(100_000)))
    }),
    case("listing: deep under a key of no interest", Error(&[LISTING, "no listing"]), |a, _| {
        instead(a, Reply::new("200 OK", format!("{{\"x\": {}", "{\"x\":".repeat(100_000))))
    }),
    case("listing: a terabyte is announced", Error(&[LISTING, "longer"]), |a, w| {
        changed(a, w, a.is_listing(), |r| r.set("Content-Length", 1u64 << 40))
    }),
    case("listing: a length that is no number", Error(&[LISTING]), |a, w| {
        changed(a, w, a.is_listing(), |r| r.set("Content-Length", "-1"))
    }),
    case("listing: two lengths", Error(&[LISTING]), |a, w| match a.is_listing() {
        true => {
            let mut reply = w.good(a);
            reply.headers.push(("Content-Length".into(), "7".into()));
            Act::Reply(reply)
        }
        false => Act::Good,
    }),
    case("listing: endless", Error(&[LISTING, "longer"]), |a, _| match a.is_listing() {
        true => Act::Endless(b"HTTP/1.1 200 OK\r\n\r\n[".to_vec(), b"{\"rfilename\": \"x\"}, ".to_vec()),
        false => Act::Good,
    }),
    case("listing: 200,001 files", Error(&[LISTING, "more than"]), |a, w| {
        listing(a, w, |value| {
            siblings(value).extend((0..200_001).map(|i| json!({"rfilename": i.to_string()})))
        })
    }),
    case("listing: names of every hostile sort", Whole, |a, w| {
        let long = "x".repeat(100_000);
        listing(a, w, |value| {
            siblings(value).splice(0..0, HOSTILE.iter().map(|name| json!({"rfilename": name, "size": 1})));
            siblings(value).push(json!({"rfilename": long}));
        })
    }),
    case("listing: a name that is a number", Error(&[LISTING]), |a, w| {
        listing(a, w, |value| siblings(value).push(json!({"rfilename": 7})))
    }),
    case("listing: a size below 0", Error(&[LISTING]), |a, w| {
        listing(a, w, |value| siblings(value)[0]["size"] = json!(-1))
    }),
    case("listing: wrong sizes", Whole, |a, w| {
        listing(a, w, |value| siblings(value).iter_mut().for_each(|s| s["size"] = json!(1)))
    }),
    case("listing: no sizes", Whole, |a, w| {
        listing(a, w, |value| siblings(value).iter_mut().for_each(|s| s["size"] = Value::Null))
    }),
    case("listing: every file twice", Whole, |a, w| {
        listing(a, w, |value| {
            let twice = siblings(value).clone();
            siblings(value).extend(twice);
        })
    }),
    case("listing: no files", Error(&["neither"]), |a, w| listing(a, w, |value| siblings(value).clear())),
    case("listing: no commit", Error(&[LISTING]), |a, w| listing(a, w, |value| value["sha"] = Value::Null)),
    case("listing: commit ../../../x", Error(&["commit", "../../../x"]), |a, w| {
        listing(a, w, |value| value["sha"] = json!("../../../x"))
    }),
    case("listing: commit that is absolute", Error(&["commit"]), |a, w| {
        let path = w.outer.join("escape").display().to_string();
        listing(a, w, |value| value["sha"] = json!(path))
    }),
    case("listing: an empty commit", Error(&["commit"]), |a, w| {
        listing(a, w, |value| value["sha"] = json!(""))
    }),
    // Redirects.
    case("redirect: relative", Whole, |a, w| match a.path.strip_prefix("/new") {
        Some(path) => Act::Reply(w.good(&Asked { path: path.into(), ..a.clone() })),
        None => instead(a, redirect(format!("/new{}", a.path))),
    }),
    case("redirect: absolute, same server", Whole, |a, w| match a.path.strip_prefix("/new") {
        Some(path) => Act::Reply(w.good(&Asked { path: path.into(), ..a.clone() })),
        None => instead(a, redirect(format!("{}/new{}", w.url, a.path))),
    }),
    case("redirect: of a small file, relative", Whole, |a, w| match a.path.strip_prefix("/new") {
        Some(path) => Act::Reply(w.good(&Asked { path: path.into(), ..a.clone() })),
        None if a.file() == Some("tokenizer.json") => Act::Reply(redirect(format!("/new{}", a.path))),
        None => Act::Good,
    }),
    case("redirect: to another server, which must not see the token", Whole, |a, w| match a.at_cdn {
        true if a.path.starts_with("/api/") => Act::Reply(Reply::new("200 OK", w.listing().to_string())),
        _ => instead(a, redirect(format!("{}{}", w.cdn, a.path))),
    }),
    case("redirect: to another name of the same machine", Error(&[LISTING, "401"]), |a, w| {
        let port = w.url.rsplit(':').next().unwrap();
        match a.header("host").is_some_and(|host| host.starts_with("localhost")) {
            true => Act::Good,
            false => instead(a, redirect(format!("http://localhost:{port}{}", a.path))),
        }
    }),
    case("redirect: away and back, without the token", Error(&[LISTING, "401"]), |a, w| {
        match (a.at_cdn, a.path.starts_with("/api/")) {
            (true, true) => Act::Reply(redirect(format!("{}/steal", w.url))),
            (false, true) => Act::Reply(redirect(format!("{}{}", w.cdn, a.path))),
            _ => Act::Good,
        }
    }),
    case("redirect: to itself", Error(&[LISTING, "redirects more than"]), |a, _| {
        instead(a, redirect(a.path.clone()))
    }),
    case("redirect: in a circle over two servers", Error(&[LISTING, "redirects more than"]), |a, w| {
        let other = if a.at_cdn { &w.url } else { &w.cdn };
        match a.path.starts_with("/api/") {
            true => Act::Reply(redirect(format!("{other}{}", a.path))),
            false => Act::Good,
        }
    }),
    case("redirect: ever further", Error(&[LISTING, "redirects more than"]), |a, _| {
        instead(a, redirect(format!("{}x", a.path)))
    }),
    case("redirect: a small file to itself", Error(&["redirects more than"]), |a, _| match a.file() {
        Some("tokenizer.json") => Act::Reply(redirect(a.path.clone())),
        _ => Act::Good,
    }),
    case("redirect: without saying where to", Error(&[LISTING, "where to"]), |a, _| {
        instead(a, Reply::new("302 Found", ""))
    }),
    case("redirect: to a file", Error(&[LISTING, "file:"]), |a, _| {
        instead(a, redirect("file:///etc/passwd"))
    }),
    case("redirect: to nonsense", Error(&[LISTING, "redirects to"]), |a, _| {
        instead(a, redirect("http://[::/x"))
    }),
    case("redirect: to no host", Error(&[LISTING, "redirects to"]), |a, _| instead(a, redirect("http:///x"))),
    case("redirect: to a path with spaces", Error(&[LISTING]), |a, _| instead(a, redirect("/a b c"))),
    case("redirect: to a port that nobody listens on", Error(&[LISTING, "127.0.0.1:9/"]), |a, _| {
        instead(a, redirect("http://127.0.0.1:9/x"))
    }),
    case("redirect: body that is endless", Whole, |a, w| match a.path.strip_prefix("/new") {
        Some(path) => Act::Reply(w.good(&Asked { path: path.into(), ..a.clone() })),
        None if a.is_listing() => Act::Endless(
            format!("HTTP/1.1 302 Found\r\nLocation: /new{}\r\n\r\n", a.path).into_bytes(),
            b"x".to_vec(),
        ),
        None => Act::Good,
    }),
    // Statuses.
    case("status 401", Error(&[LISTING, "status 401", "token", "/api/models/owner/tiny"]), |a, _| {
        instead(a, Reply::new("401 Unauthorized", ""))
    }),
    case("status 403", Error(&[LISTING, "status 403", "gated", "Access to model"]), |a, _| {
        let reply = Reply::new("403 Forbidden", "");
        instead(a, reply.set("X-Error-Message", "Access to model owner/tiny is restricted"))
    }),
    case("status 404", Error(&[LISTING, "status 404", "is the id right?"]), |a, _| {
        instead(a, Reply::new("404 Not Found", ""))
    }),
    case("status 404 of a file that is listed", Error(&["tokenizer.json", "status 404"]), |a, _| {
        match a.file() {
            Some("tokenizer.json") => Act::Reply(Reply::new("404 Not Found", "")),
            _ => Act::Good,
        }
    }),
    case("status 405 to HEAD", Error(&["status 405"]), |a, _| match a.describes() {
        true => Act::Reply(Reply::new("405 Method Not Allowed", "")),
        false => Act::Good,
    }),
    case("status 416 to all", Error(&["tokenizer.json", "416"]), |a, _| match a.is_small_body() {
        true => Act::Reply(Reply::new("416 Range Not Satisfiable", "")),
        false => Act::Good,
    }),
    case("status 429 once", Whole, |a, _| match a.before {
        0 => Act::Reply(Reply::new("429 Too Many Requests", "").set("Retry-After", 0)),
        _ => Act::Good,
    }),
    case("status 429, asks to wait for a year", Error(&["status 429", "wait 31536000 s"]), |a, _| {
        instead(a, Reply::new("429 Too Many Requests", "").set("Retry-After", 31_536_000))
    }),
    case("status 429, asks to wait for more than a number holds", Error(&["status 429"]), |a, _| {
        instead(a, Reply::new("429 Too Many Requests", "").set("Retry-After", "9".repeat(40)))
    }),
    case("status 429 once, waiting time that is none", Whole, |a, _| match a.before {
        0 => Act::Reply(Reply::new("429 Too Many Requests", "").set("Retry-After", "-1, Fri 30 Feb")),
        _ => Act::Good,
    }),
    case("status 500 always", Error(&[LISTING, "status 500"]), |a, _| {
        instead(a, Reply::new("500 Internal Server Error", ""))
    }),
    case("status 500 once everywhere", Whole, |a, _| match a.before {
        0 => Act::Reply(Reply::new("500 Internal Server Error", "")),
        _ => Act::Good,
    }),
    case("status 503 always, of a file", Error(&["tokenizer.json", "status 503"]), |a, _| {
        match a.is_small_body() {
            true => Act::Reply(Reply::new("503 Service Unavailable", "")),
            false => Act::Good,
        }
    }),
    case("status 503 twice, of a file", Whole, |a, _| match a.is_small_body() && a.before < 2 {
        true => Act::Reply(Reply::new("503 Service Unavailable", "").set("Retry-After", 0)),
        false => Act::Good,
    }),
    case("status 204", Error(&[LISTING, "status 204"]), |a, _| {
        instead(a, Reply::new("204 No Content", "").without("Content-Length"))
    }),
    case("status 206 to a request for all", Error(&["tokenizer.json", "206"]), |a, w| {
        changed(a, w, a.is_small_body() && a.before == 0, |r| Reply {
            status: "206 Partial Content".into(),
            ..r
        })
    }),
    case("status 304", Error(&[LISTING, "304"]), |a, _| {
        instead(a, Reply::new("304 Not Modified", "").without("Content-Length"))
    }),
    case("status 099", Error(&[LISTING]), |a, _| instead(a, Reply::new("099 Odd", ""))),
    case("status 999", Error(&[LISTING]), |a, _| instead(a, Reply::new("999 Odd", ""))),
    case("status that is a word", Error(&[LISTING]), |a, _| instead(a, Reply::new("fine", ""))),
    // Heads of answers.
    case("head: 1,000 lines", Error(&[LISTING]), |a, w| match a.is_listing() {
        true => {
            let mut reply = w.good(a);
            reply.headers.extend((0..1000).map(|i| (format!("X-{i}"), "x".into())));
            Act::Reply(reply)
        }
        false => Act::Good,
    }),
    case("head: endless", Error(&[LISTING]), |a, _| match a.is_listing() {
        true => Act::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"X-A: x\r\n".to_vec()),
        false => Act::Good,
    }),
    case("head: a line of 1 MB", Error(&[LISTING, "head"]), |a, w| {
        changed(a, w, a.is_listing(), |r| r.set("X-Long", "x".repeat(1 << 20)))
    }),
    case("head: a line without an end", Error(&[LISTING, "head"]), |a, _| match a.is_listing() {
        true => Act::Endless(b"HTTP/1.1 200 OK\r\nX: ".to_vec(), b"x".to_vec()),
        false => Act::Good,
    }),
    case("head: 100 Continue without an end", Error(&[LISTING]), |a, _| match a.is_listing() {
        true => Act::Endless(Vec::new(), b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
        false => Act::Good,
    }),
    case("head: NUL, tabs and bytes that are not ASCII", Error(&[LISTING]), |a, _| match a.is_listing() {
        true => Act::Say(b"HTTP/1.1 200 OK\r\nX\0Y: \xff\xfe\t\0\r\n\r\n{}".to_vec()),
        false => Act::Good,
    }),
    case("another protocol", Error(&[LISTING]), |a, _| match a.is_listing() {
        true => Act::Say(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()),
        false => Act::Good,
    }),
    case("noise", Error(&[LISTING]), |a, _| if a.is_listing() { Act::Say(noise(5000)) } else { Act::Good }),
    case("the end at once, always", Error(&[LISTING, "lost"]), |a, _| match a.is_listing() {
        true => Act::Say(Vec::new()),
        false => Act::Good,
    }),
    case("the end at once, once", Whole, |a, _| match a.before {
        0 => Act::Say(Vec::new()),
        _ => Act::Good,
    }),
    case("half closed", Error(&[LISTING, "lost"]), |a, _| match a.is_listing() {
        true => Act::HalfClose,
        false => Act::Good,
    }),
    // What a file is said to be.
    case("no ETag", Error(&["tokenizer.json", "no ETag"]), |a, w| {
        changed(a, w, a.file() == Some("tokenizer.json"), |r| r.without("ETag"))
    }),
    case("ETag: weak", Whole, |a, w| {
        etag(a, w, &format!("W/\"{}\"", git_sha1(w.content("tokenizer.json").unwrap())))
    }),
    case("ETag: no hash", Whole, |a, w| etag(a, w, "\"5f3c-1a2b\"")),
    case("ETag: no hash, weak, broken off", Whole, |a, w| match a.is_small_body() && a.before == 0 {
        true => Act::Say(w.good(a).set("ETag", "W/\"5f3c-1a2b\"").cut(1000)),
        false => etag(a, w, "W/\"5f3c-1a2b\""),
    }),
    case("ETag: upward", Error(&["tokenizer.json", "ETag"]), |a, w| etag(a, w, "\"../../../../escape\"")),
    case("ETag: absolute", Error(&["tokenizer.json", "ETag"]), |a, w| {
        etag(a, w, &format!("\"{}\"", w.outer.join("escape").display()))
    }),
    case("ETag: dots", Error(&["tokenizer.json", "ETag"]), |a, w| etag(a, w, "\"..\"")),
    case("ETag: a dot", Error(&["tokenizer.json", "ETag"]), |a, w| etag(a, w, "\".\"")),
    case("ETag: empty", Error(&["tokenizer.json", "no ETag"]), |a, w| etag(a, w, "\"\"")),
    case("ETag: blank", Error(&["tokenizer.json", "no ETag"]), |a, w| etag(a, w, "   ")),
    case("ETag: a folder", Error(&["tokenizer.json", "ETag"]), |a, w| etag(a, w, "\"a/b\"")),
    case("ETag: backslashes", Error(&["tokenizer.json", "ETag"]), |a, w| etag(a, w, "\"..\\..\\escape\"")),
    case("ETag: 5,000 characters", Error(&["tokenizer.json", "ETag"]), |a, w| {
        etag(a, w, &format!("\"{}\"", "a".repeat(5000)))
    }),
    case("ETag: the name of a lock", Error(&["tokenizer.json", "ETag"]), |a, w| etag(a, w, "\"abc.lock\"")),
    case("ETag: the name of a part", Error(&["tokenizer.json", "ETag"]), |a, w| {
        etag(a, w, &format!("\"{}.incomplete\"", sha256(w.content("model.safetensors").unwrap())))
    }),
    case("ETag: not ASCII", Error(&["tokenizer.json", "ETag"]), |a, w| etag(a, w, "\"\u{202e}é\"")),
    case("ETag: of a large file, upward", Error(&["model.safetensors", "ETag"]), |a, w| {
        changed(a, w, a.file() == Some("model.safetensors"), |r| {
            r.set("X-Linked-ETag", "\"../../../escape\"")
        })
    }),
    case("no commit with a file", Whole, |a, w| {
        changed(a, w, a.file().is_some(), |r| r.without("X-Repo-Commit"))
    }),
    case("commit of a file: upward", Error(&["X-Repo-Commit"]), |a, w| {
        changed(a, w, a.file() == Some("tokenizer.json"), |r| r.set("X-Repo-Commit", "../../../../escape"))
    }),
    case("commit of a file: absolute", Error(&["X-Repo-Commit"]), |a, w| {
        let path = w.outer.join("escape").display().to_string();
        changed(a, w, a.file() == Some("tokenizer.json"), |r| r.set("X-Repo-Commit", path))
    }),
    case("commit of a file: another one", Error(&["commit"]), |a, w| {
        changed(a, w, a.file() == Some("tokenizer.json"), |r| r.set("X-Repo-Commit", "0".repeat(40)))
    }),
    case("size: no number", Error(&["X-Linked-Size"]), |a, w| {
        changed(a, w, a.file() == Some("model.safetensors"), |r| r.set("X-Linked-Size", "many"))
    }),
    case("size: below 0", Error(&["X-Linked-Size"]), |a, w| {
        changed(a, w, a.file() == Some("model.safetensors"), |r| r.set("X-Linked-Size", "-5"))
    }),
    case("size: beyond 64 bits", Error(&["X-Linked-Size"]), |a, w| {
        changed(a, w, a.file() == Some("model.safetensors"), |r| r.set("X-Linked-Size", "9".repeat(30)))
    }),
    case("size: more than the disk", Error(&["space"]), |a, w| {
        changed(a, w, a.file() == Some("model.safetensors"), |r| r.set("X-Linked-Size", 1u64 << 60))
    }),
    case("size: too small", Error(&["model.safetensors", "announces"]), |a, w| {
        changed(a, w, a.file() == Some("model.safetensors"), |r| r.set("X-Linked-Size", 4000))
    }),
    case("size: too large", Error(&["model.safetensors", "announces"]), |a, w| {
        changed(a, w, a.file() == Some("model.safetensors"), |r| r.set("X-Linked-Size", 6000))
    }),
    case("size: 0 of a file that has some", Error(&["its ETag says"]), |a, w| {
        changed(a, w, a.file() == Some("model.safetensors"), |r| r.set("X-Linked-Size", 0))
    }),
    case("size: none to HEAD", Whole, |a, w| {
        changed(a, w, a.describes(), |r| r.without("Content-Length").without("X-Linked-Size"))
    }),
    case("size: none at all, but a hash", Whole, |a, w| match a.is_small_body() {
        true => Act::Reply(w.good(a).chunked()),
        false => changed(a, w, a.describes(), |r| r.without("Content-Length").without("X-Linked-Size")),
    }),
    case("size: none at all, and no hash", Error(&["tokenizer.json", "how long"]), |a, w| {
        changed(a, w, a.file() == Some("tokenizer.json"), |r| {
            let reply = if a.is_small_body() { r.chunked() } else { r.without("Content-Length") };
            reply.set("ETag", "\"5f3c-1a2b\"")
        })
    }),
    case("a body after HEAD", Whole, |a, w| match a.method == "HEAD" {
        true => Act::Reply(
            w.good(a).body("what nobody asked for").set("Content-Length", w.good(a).headers[0].1.clone()),
        ),
        false => Act::Good,
    }),
    // Contents.
    case("file: cut once", Whole, |a, w| match a.is_large_body() && a.before == 0 {
        true => Act::Say(w.good(a).cut(2000)),
        false => Act::Good,
    }),
    case("file: cut twice, the second time while resumed", Whole, |a, w| {
        match a.is_large_body() && a.before < 2 {
            true => Act::Say(w.good(a).cut(1000)),
            false => Act::Good,
        }
    }),
    case("file: cut always", Error(&["model.safetensors", "lost"]), |a, w| match a.is_large_body() {
        true => Act::Say(w.good(a).cut(100)),
        false => Act::Good,
    }),
    case("file: cut at byte 0 always", Error(&["model.safetensors", "lost"]), |a, w| {
        match a.is_large_body() {
            true => Act::Say(w.good(a).cut(0)),
            false => Act::Good,
        }
    }),
    case("file: cut once, then ranges are ignored", Whole, |a, w| match (a.is_large_body(), a.before) {
        (true, 0) => Act::Say(w.good(a).cut(2000)),
        (true, _) => {
            let headers = a.headers.iter().filter(|(n, _)| n != "range" && n != "Range").cloned().collect();
            Act::Reply(w.good(&Asked { headers, ..a.clone() }))
        }
        _ => Act::Good,
    }),
    case("file: cut always, and ranges are ignored", Error(&["model.safetensors", "lost"]), |a, w| {
        let headers = a.headers.iter().filter(|(n, _)| !n.eq_ignore_ascii_case("range")).cloned().collect();
        match a.is_large_body() {
            true => Act::Say(w.good(&Asked { headers, ..a.clone() }).cut(2000)),
            false => Act::Good,
        }
    }),
    case("file: the rest is another part", Whole, |a, w| match (a.is_large_body(), a.from()) {
        (true, Some(_)) => {
            let headers = vec![("Range".into(), "bytes=7-".into())];
            Act::Reply(w.good(&Asked { headers, ..a.clone() }))
        }
        (true, None) if a.before == 0 => Act::Say(w.good(a).cut(2000)),
        _ => Act::Good,
    }),
    case("file: the rest says to be what it is not", Error(&["its ETag says"]), |a, w| {
        match (a.is_large_body(), a.from()) {
            (true, Some(from)) => Act::Reply(w.good(a).body(noise(6000)[..5000 - from].to_vec())),
            (true, None) => Act::Say(w.good(a).cut(2000)),
            _ => Act::Good,
        }
    }),
    case("file: the rest of a file of another size", Whole, |a, w| match (a.is_large_body(), a.from()) {
        (true, Some(from)) => Act::Reply(w.good(a).set("Content-Range", format!("bytes {from}-4999/9999"))),
        (true, None) if a.before == 0 => Act::Say(w.good(a).cut(2000)),
        _ => Act::Good,
    }),
    case("file: the rest without Content-Range", Whole, |a, w| match (a.is_large_body(), a.from()) {
        (true, Some(_)) => Act::Reply(w.good(a).without("Content-Range")),
        (true, None) if a.before == 0 => Act::Say(w.good(a).cut(2000)),
        _ => Act::Good,
    }),
    case("file: the rest with a Content-Range that is none", Whole, |a, w| {
        match (a.is_large_body(), a.from()) {
            (true, Some(_)) => Act::Reply(w.good(a).set("Content-Range", "bytes 99999999999999999999-x/-1")),
            (true, None) if a.before == 0 => Act::Say(w.good(a).cut(2000)),
            _ => Act::Good,
        }
    }),
    case("file: 416 to the rest", Whole, |a, w| match (a.is_large_body(), a.from()) {
        (true, Some(_)) => Act::Reply(Reply::new("416 Range Not Satisfiable", "")),
        (true, None) if a.before == 0 => Act::Say(w.good(a).cut(2000)),
        _ => Act::Good,
    }),
    case("file: changes while it is resumed", Error(&["its ETag says"]), |a, w| {
        match (a.is_large_body(), a.before) {
            (true, 0) => Act::Say(w.good(a).cut(2000)),
            (true, _) => Act::Reply(ranged(a, &[9; 5000], "\"cdn-new\"")),
            _ => Act::Good,
        }
    }),
    case("file: rotten once", Whole, |a, w| {
        changed(a, w, a.is_large_body() && a.before == 0, |r| r.body(vec![7; 5000]))
    }),
    case("file: rotten always", Error(&["model.safetensors", "SHA-256", "its ETag says"]), |a, w| {
        changed(a, w, a.is_large_body(), |r| r.body(vec![7; 5000]))
    }),
    case("file: small one, rotten always", Error(&["tokenizer.json", "SHA-1", "its ETag says"]), |a, w| {
        changed(a, w, a.is_small_body(), |r| {
            let length = r.body.len();
            r.body(vec![7; length])
        })
    }),
    case("file: shorter than announced", Error(&["tokenizer.json", "announces"]), |a, w| {
        changed(a, w, a.is_small_body(), |r| r.body("short"))
    }),
    case("file: longer than announced", Error(&["tokenizer.json", "announces"]), |a, w| {
        changed(a, w, a.is_small_body(), |r| r.body("long".repeat(5000)))
    }),
    case("file: longer than announced, chunked", Error(&["tokenizer.json", "more than"]), |a, w| {
        changed(a, w, a.is_small_body(), |r| r.body("long".repeat(5000)).chunked())
    }),
    case("file: shorter than announced, chunked", Error(&["tokenizer.json", "ends after"]), |a, w| {
        changed(a, w, a.is_small_body(), |r| r.body("short").chunked())
    }),
    case("file: more bytes than its length says", Whole, |a, w| match a.is_small_body() {
        true => Act::Say([w.good(a).bytes(), b"and more".to_vec()].concat()),
        false => Act::Good,
    }),
    case("file: endless", Error(&["tokenizer.json", "more than"]), |a, _| match a.is_small_body() {
        true => Act::Endless(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), b"x".to_vec()),
        false => Act::Good,
    }),
    case("file: gzip that nobody asked for", Error(&["tokenizer.json", "gzip"]), |a, w| {
        changed(a, w, a.is_small_body(), |r| r.set("Content-Encoding", "gzip"))
    }),
    case("file: chunked", Whole, |a, w| changed(a, w, a.is_small_body(), Reply::chunked)),
    case("file: ends with the connection", Whole, |a, w| {
        changed(a, w, a.is_small_body(), |r| r.without("Content-Length"))
    }),
    case("file: ends with the connection, too soon", Whole, |a, w| {
        match a.is_small_body() && a.before == 0 {
            true => Act::Say(w.good(a).without("Content-Length").cut(500)),
            false => Act::Good,
        }
    }),
    hurried("file: silence", |a, w| match a.is_large_body() {
        true => Act::Hang(w.good(a).cut(1000)),
        false => Act::Good,
    }),
    hurried("file: drips", |a, w| match a.is_large_body() {
        true => Act::Drip(w.good(a).bytes(), 1000),
        false => Act::Good,
    }),
    hurried("file: silence before the head", |a, _| match a.is_large_body() {
        true => Act::Hang(Vec::new()),
        false => Act::Good,
    }),
    case(
        "second server: 403, a link that has expired",
        Error(&["model.safetensors", "status 403"]),
        |a, _| match a.at_cdn {
            true => Act::Reply(Reply::new("403 Forbidden", "<Error>expired</Error>")),
            false => Act::Good,
        },
    ),
    case("second server: redirects in a circle", Error(&["redirects more than"]), |a, _| match a.at_cdn {
        true => Act::Reply(redirect(a.path.clone())),
        false => Act::Good,
    }),
    case("second server: redirects back for the token", Error(&["401"]), |a, w| match a.at_cdn {
        true => Act::Reply(redirect(format!("{}/owner/tiny/resolve/{}/steal", w.url, w.commit))),
        false => Act::Good,
    }),
    case("second server: nobody is there", Error(&["model.safetensors", "127.0.0.1:9/"]), |a, w| {
        changed(a, w, a.file() == Some("model.safetensors"), |r| r.set("Location", "http://127.0.0.1:9/lfs"))
    }),
    case("LFS pointer in the place of a file, with the hash of the file", Error(&["announces"]), |a, w| {
        changed(a, w, a.is_large_body(), |r| r.body(POINTER))
    }),
    case("LFS pointer that is said to be the file", Error(&["model.safetensors", "LFS"]), |a, w| {
        match a.file() == Some("model.safetensors") {
            true => {
                let reply = ranged(a, POINTER.as_bytes(), &format!("\"{}\"", git_sha1(POINTER.as_bytes())));
                let reply = reply.set("X-Repo-Commit", &w.commit);
                Act::Reply(if a.method == "HEAD" { Reply { body: Vec::new(), ..reply } } else { reply })
            }
            false => listing(a, w, |value| siblings(value).iter_mut().for_each(|s| s["size"] = Value::Null)),
        }
    }),
    // A download that goes on from what an earlier one left.
    again("resumed: and whole", Whole, cut_always, |_, _| Act::Good),
    again("resumed: cut at byte 0 of the rest", Whole, cut_always, |a, w| {
        match a.is_large_body() && a.before == 0 {
            true => Act::Say(w.good(a).cut(0)),
            false => Act::Good,
        }
    }),
    again(
        "resumed: cut within the rest, always",
        Error(&["model.safetensors", "lost"]),
        cut_always,
        |a, w| {
            if a.is_large_body() { Act::Say(w.good(a).cut(10)) } else { Act::Good }
        },
    ),
    again("resumed: ranges are ignored", Whole, cut_always, |a, w| {
        let headers = a.headers.iter().filter(|(n, _)| !n.eq_ignore_ascii_case("range")).cloned().collect();
        if a.is_large_body() { Act::Reply(w.good(&Asked { headers, ..a.clone() })) } else { Act::Good }
    }),
    again(
        "resumed: the part was rotten",
        Whole,
        |a, w| match a.is_large_body() {
            true => Act::Say(w.good(a).body(vec![7; 5000]).cut(1000)),
            false => Act::Good,
        },
        |_, _| Act::Good,
    ),
    again(
        "resumed: the part is longer than the file",
        Whole,
        |a, w| match a.is_large_body() || a.describes() {
            true if a.at_cdn => Act::Say(w.good(a).body(vec![7; 9000]).cut(8000)),
            _ => changed(a, w, a.file() == Some("model.safetensors"), |r| r.set("X-Linked-Size", 9000)),
        },
        |_, _| Act::Good,
    ),
    again(
        "resumed: no hash, and the file is another one now",
        Whole,
        |a, w| match a.is_small_body() {
            true => Act::Say(w.good(a).set("ETag", "\"v1\"").body(vec![7; 2700]).cut(1000)),
            false => etag(a, w, "\"v1\""),
        },
        |a, w| match a.is_small_body() {
            true => Act::Reply(ranged(a, w.content("tokenizer.json").unwrap(), "\"v2\"")),
            false => etag(a, w, "\"v1\""),
        },
    ),
    // Shards.
    case("index: two shards", Whole, |a, w| {
        index(a, w, &shards(&["model-1-of-2.safetensors", "model-2-of-2.safetensors"]), &[])
    }),
    case("index: nothing", Error(&["lists no files"]), |a, w| index(a, w, &shards(&[]), &[])),
    case("index: upward", Error(&["index lists"]), |a, w| {
        index(a, w, &shards(&["../../../../escape"]), &["../../../../escape"])
    }),
    case("index: absolute", Error(&["index lists"]), |a, w| {
        let path = w.outer.join("escape").display().to_string();
        index(a, w, &shards(&[&path]), &[&path])
    }),
    case("index: names of every hostile sort", Error(&["index lists"]), |a, w| {
        index(a, w, &shards(&HOSTILE), &HOSTILE)
    }),
    case("index: NUL", Error(&["index lists"]), |a, w| index(a, w, &shards(&["a\0b"]), &["a\0b"])),
    case("index: backslashes", Error(&["index lists"]), |a, w| index(a, w, &shards(&["..\\x"]), &["..\\x"])),
    case("index: an empty name", Error(&["index lists"]), |a, w| index(a, w, &shards(&[""]), &[""])),
    case("index: a file that is not there", Error(&["no model-3.safetensors"]), |a, w| {
        index(a, w, &shards(&["model-3.safetensors"]), &[])
    }),
    case("index: numbers for names", Error(&["weight_map"]), |a, w| {
        index(a, w, &json!({"weight_map": {"a": 7}}).to_string(), &[])
    }),
    case("index: 100,000 deep", Error(&["index.json"]), |a, w| index(a, w, &"[".repeat(100_000), &[])),
    case("index: HTML", Error(&["index.json"]), |a, w| index(a, w, "<html>", &[])),
    case("index: 40 MB", Error(&["index.json", "more than"]), |a, w| index(a, w, &" ".repeat(40 << 20), &[])),
];
