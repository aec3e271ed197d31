//! A hub of one repository that behaves as it is told.

use crate::random::Random;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256};

pub const TOKEN: &str = "the-token";
/// An endless answer ends after this many bytes, for clients without a bound.
const ENDLESS: usize = 128 << 20;

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// Path without the query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    /// How often this was asked before: same method, path and kind.
    pub before: usize,
    /// Whether it came to the second server, where large files lie.
    pub at_cdn: bool,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn is_listing(&self) -> bool {
        !self.at_cdn && self.path.starts_with("/api/")
    }

    /// The file of a `resolve` address.
    pub fn file(&self) -> Option<&str> {
        let rest = self.path.split_once("/resolve/")?.1;
        Some(rest.split_once('/')?.1)
    }

    /// Asks what a file is: by HEAD, or as older clients do by its first byte.
    pub fn describes(&self) -> bool {
        self.file().is_some() && (self.method == "HEAD" || self.header("range") == Some("bytes=0-0"))
    }

    /// Asks for the content of a small file.
    pub fn is_small_body(&self) -> bool {
        self.file() == Some("tokenizer.json") && !self.describes()
    }

    /// Asks the second server for the content of the weights.
    pub fn is_large_body(&self) -> bool {
        self.at_cdn && self.header("range") != Some("bytes=0-0") && self.method == "GET"
    }

    /// First byte that is asked for.
    pub fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.split('-').next()?.parse().ok()
    }
}

/// An answer in parts.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn new(status: &str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let length = ("Content-Length".into(), body.len().to_string());
        Self { status: status.into(), headers: vec![length], body }
    }

    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self = self.without(name);
        self.headers.push((name.into(), value.to_string()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        let length = self.body.len();
        self.set("Content-Length", length)
    }

    /// The body in chunks of 100 bytes, without a length.
    pub fn chunked(mut self) -> Self {
        let mut coded = Vec::new();
        for chunk in self.body.chunks(100) {
            coded.extend(format!("{:x}\r\n", chunk.len()).bytes());
            coded.extend(chunk);
            coded.extend(b"\r\n");
        }
        coded.extend(b"0\r\n\r\n");
        self.body = coded;
        self.without("Content-Length").set("Transfer-Encoding", "chunked")
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = format!("HTTP/1.1 {}\r\n", self.status).into_bytes();
        for (name, value) in &self.headers {
            out.extend(format!("{name}: {value}\r\n").bytes());
        }
        out.extend(b"Connection: close\r\n\r\n");
        out.extend(&self.body);
        out
    }

    /// Only so many bytes of the body.
    pub fn cut(&self, body: usize) -> Vec<u8> {
        let mut bytes = self.bytes();
        bytes.truncate(bytes.len() - self.body.len() + body.min(self.body.len()));
        bytes
    }
}

/// What the server does with a request.
pub enum Act {
    /// What a hub does.
    Good,
    Reply(Reply),
    /// These bytes, then the end of the connection.
    Say(Vec<u8>),
    /// These bytes, then nothing until the client goes.
    Hang(Vec<u8>),
    /// The first bytes at once, of the others one at a time.
    Drip(Vec<u8>, usize),
    /// The first bytes, then the others again and again.
    Endless(Vec<u8>, Vec<u8>),
    /// No answer, and no more to come; the client may go on sending.
    HalfClose,
}

pub type Behave = fn(&Asked, &World) -> Act;

/// Two servers, what they hold, and what they were asked.
pub struct World {
    /// The hub.
    pub url: String,
    /// Where it sends its clients for large files.
    pub cdn: String,
    /// Every test has a directory of its own; the cache lies in it.
    pub outer: PathBuf,
    pub commit: String,
    pub files: Vec<(String, Vec<u8>)>,
}

pub const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:\
    4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

/// Bytes without a pattern.
pub fn noise(length: usize) -> Vec<u8> {
    let mut random = Random(1);
    (0..length).map(|_| random.next() as u8).collect()
}

pub fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect()
}

pub fn git_sha1(content: &[u8]) -> String {
    let hash = Sha1::new().chain_update(format!("blob {}\0", content.len())).chain_update(content);
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

impl World {
    pub fn content(&self, file: &str) -> Option<&[u8]> {
        self.files.iter().find(|(name, _)| name == file).map(|(_, content)| content.as_slice())
    }

    pub fn listing(&self) -> serde_json::Value {
        let siblings: Vec<_> =
            self.files.iter().map(|(name, c)| json!({"rfilename": name, "size": c.len()})).collect();
        json!({"id": "owner/tiny", "sha": self.commit, "private": false, "siblings": siblings})
    }

    /// What a hub answers.
    pub fn good(&self, asked: &Asked) -> Reply {
        let reply = self.whole(asked);
        if asked.method == "HEAD" { Reply { body: Vec::new(), ..reply } } else { reply }
    }

    fn whole(&self, asked: &Asked) -> Reply {
        if asked.at_cdn {
            let found = self.files.iter().find(|(_, c)| asked.path == format!("/lfs/{}", sha256(c)));
            return match found {
                Some((_, content)) => ranged(asked, content, &format!("\"cdn-{}\"", content.len())),
                None => Reply::new("404 Not Found", ""),
            };
        }
        if asked.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
            return Reply::new("401 Unauthorized", "");
        }
        if asked.path == "/api/models/owner/tiny/revision/main" {
            return Reply::new("200 OK", self.listing().to_string()).set("Content-Type", "application/json");
        }
        let path = asked.path.strip_prefix("/datasets").unwrap_or(&asked.path);
        let file = path.strip_prefix("/owner/tiny/resolve/main/");
        let file = file.or_else(|| path.strip_prefix(&format!("/owner/tiny/resolve/{}/", self.commit)));
        match file.and_then(|file| Some((file, self.content(file)?))) {
            Some((file, content)) if file.ends_with(".safetensors") => {
                let hash = sha256(content);
                Reply::new("302 Found", "Found")
                    .set("Location", format!("{}/lfs/{hash}?signature=secret", self.cdn))
                    .set("X-Linked-ETag", format!("\"{hash}\""))
                    .set("X-Linked-Size", content.len())
                    .set("X-Repo-Commit", &self.commit)
            }
            Some((_, content)) => ranged(asked, content, &format!("\"{}\"", git_sha1(content)))
                .set("X-Repo-Commit", &self.commit),
            None => Reply::new("404 Not Found", "").set("X-Error-Message", "Entry not found"),
        }
    }
}

/// Content, or the part of it that is asked for.
pub fn ranged(asked: &Asked, content: &[u8], etag: &str) -> Reply {
    let fits = asked.header("if-range").is_none_or(|wanted| wanted == etag);
    match asked.from().filter(|_| fits) {
        Some(from) if from >= content.len() => Reply::new("416 Range Not Satisfiable", "")
            .set("Content-Range", format!("bytes */{}", content.len()))
            .set("ETag", etag),
        Some(from) => {
            let last = asked.header("range").and_then(|r| r.rsplit('-').next()?.parse::<usize>().ok());
            let last = last.unwrap_or(content.len() - 1).min(content.len() - 1);
            Reply::new("206 Partial Content", &content[from..=last])
                .set("Content-Range", format!("bytes {from}-{last}/{}", content.len()))
                .set("ETag", etag)
        }
        None => Reply::new("200 OK", content).set("ETag", etag),
    }
}

/// The servers of a world, which end with it.
pub struct Servers {
    pub world: Arc<World>,
    behave: Arc<Mutex<Behave>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// An endless answer was read to its end.
    pub flooded: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
}

impl Servers {
    pub fn start(outer: PathBuf, files: Vec<(String, Vec<u8>)>, commit: String) -> Self {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let url = |l: &TcpListener| format!("http://{}", l.local_addr().unwrap());
        let world = World { url: url(&listeners[0]), cdn: url(&listeners[1]), outer, commit, files };
        let good: Behave = |_, _| Act::Good;
        let servers = Self {
            world: Arc::new(world),
            behave: Arc::new(Mutex::new(good)),
            asked: Arc::default(),
            flooded: Arc::default(),
            ended: Arc::default(),
        };
        for (listener, at_cdn) in listeners.into_iter().zip([false, true]) {
            let (world, behave, asked) =
                (servers.world.clone(), servers.behave.clone(), servers.asked.clone());
            let (flooded, ended) = (servers.flooded.clone(), servers.ended.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    if ended.load(Ordering::SeqCst) {
                        return;
                    }
                    let (world, behave) = (world.clone(), *behave.lock().unwrap());
                    let (asked, flooded) = (asked.clone(), flooded.clone());
                    std::thread::spawn(move || {
                        serve(stream.ok()?, at_cdn, &world, behave, &asked, &flooded).ok()
                    });
                }
            });
        }
        servers
    }

    pub fn behave(&self, behave: Behave) {
        *self.behave.lock().unwrap() = behave;
    }

    /// All that was asked since the last call.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        for url in [&self.world.url, &self.world.cdn] {
            let _ = TcpStream::connect(url.trim_start_matches("http://"));
        }
    }
}

fn read_request(
    stream: &TcpStream,
    at_cdn: bool,
    seen: &Mutex<Vec<Asked>>,
) -> std::io::Result<Option<Asked>> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let Some(first) = lines.next().transpose()? else { return Ok(None) };
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut asked = Asked {
        method: method.into(),
        path: target.split('?').next().unwrap_or_default().into(),
        headers: Vec::new(),
        before: 0,
        at_cdn,
    };
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        asked.headers.push((name.trim().into(), value.trim().into()));
    }
    let mut seen = seen.lock().unwrap();
    let first_byte = |a: &Asked| a.header("range") == Some("bytes=0-0");
    let kind = |a: &Asked| (a.method.clone(), a.path.clone(), a.at_cdn, first_byte(a));
    asked.before = seen.iter().filter(|other| kind(other) == kind(&asked)).count();
    seen.push(asked.clone());
    Ok(Some(asked))
}

fn serve(
    mut stream: TcpStream,
    at_cdn: bool,
    world: &World,
    behave: Behave,
    seen: &Mutex<Vec<Asked>>,
    flooded: &AtomicBool,
) -> std::io::Result<()> {
    let Some(asked) = read_request(&stream, at_cdn, seen)? else { return Ok(()) };
    let wait_for_the_end = |mut stream: TcpStream| stream.read(&mut [0]).map(drop);
    match behave(&asked, world) {
        Act::Good => stream.write_all(&world.good(&asked).bytes()),
        Act::Reply(reply) => stream.write_all(&reply.bytes()),
        Act::Say(bytes) => stream.write_all(&bytes),
        Act::Hang(bytes) => {
            stream.write_all(&bytes)?;
            wait_for_the_end(stream)
        }
        Act::Drip(bytes, at_once) => {
            let (first, rest) = bytes.split_at(at_once.min(bytes.len()));
            stream.write_all(first)?;
            for byte in rest {
                std::thread::sleep(std::time::Duration::from_millis(20));
                stream.write_all(std::slice::from_ref(byte))?;
            }
            wait_for_the_end(stream)
        }
        Act::Endless(head, piece) => {
            stream.write_all(&head)?;
            let block: Vec<u8> =
                piece.iter().copied().cycle().take((1 << 16) / piece.len() * piece.len()).collect();
            for _ in 0..ENDLESS / block.len() {
                stream.write_all(&block)?;
            }
            flooded.store(true, Ordering::SeqCst);
            Ok(())
        }
        Act::HalfClose => {
            stream.shutdown(Shutdown::Write)?;
            wait_for_the_end(stream)
        }
    }
}
