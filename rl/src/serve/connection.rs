//! HTTP/1.1 over a connection: requests within bounds of length and time, replies whole or in chunks.

use super::refusal::Refusal;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 32 << 10;
/// Most header fields of a request.
const MAX_FIELDS: usize = 100;
/// Longest body of a request, in bytes.
const MAX_BODY: usize = 8 << 20;
/// How often a wait looks whether the server ends.
const GLANCE: Duration = Duration::from_millis(100);

/// How long is waited for clients.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Between the requests of a connection.
    pub(super) idle: Duration,
    /// For a head, from its first byte on.
    pub(super) head: Duration,
    /// For a body.
    pub(super) body: Duration,
    /// For a client that does not take what is sent.
    pub(super) write: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let [idle, head, body, write] = [75, 10, 60, 30].map(Duration::from_secs);
        Self { idle, head, body, write }
    }
}

/// How the length of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Bytes(usize),
    Chunked,
}

/// The head of a request.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: String,
    /// Without a query.
    pub(super) path: String,
    /// `Authorization`, as it was sent.
    pub(super) authorization: Option<String>,
    length: Length,
    expects_continue: bool,
    /// HTTP/1.1, which knows chunks.
    pub(super) is_new: bool,
    keep: bool,
}

/// A client's connection.
pub(super) struct Connection {
    stream: TcpStream,
    /// What was read and not used yet.
    buffer: Vec<u8>,
    patience: Patience,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, patience: Patience) -> std::io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(patience.write))?;
        Ok(Self { stream, buffer: Vec::new(), patience })
    }

    /// The next head. None when the client has gone, has been silent for long, or the server ends.
    pub(super) fn head(&mut self, ends: &dyn Fn() -> bool) -> Result<Option<Head>, Refusal> {
        let idle = Instant::now();
        while self.buffer.is_empty() {
            match self.read(GLANCE) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(e) if !is_timeout(&e) => return Ok(None),
                Err(_) if ends() || idle.elapsed() > self.patience.idle => {
                    return Ok(None);
                }
                Err(_) => {}
            }
        }
        let deadline = Instant::now() + self.patience.head;
        loop {
            let parsed = parse(&self.buffer)?;
            if parsed.as_ref().map_or(self.buffer.len(), |(_, used)| *used) > MAX_HEAD {
                let what = format!("the head of the request is longer than {MAX_HEAD} bytes");
                return Err(Refusal::new(431, what).closing());
            }
            if let Some((head, used)) = parsed {
                self.buffer.drain(..used);
                return Ok(Some(head));
            }
            if !self.more(deadline)? {
                return Ok(None);
            }
        }
    }

    /// The body of the request.
    pub(super) fn body(&mut self, head: &Head) -> Result<Vec<u8>, Refusal> {
        if let Length::Bytes(bytes) = head.length
            && bytes > MAX_BODY
        {
            return Err(too_long());
        }
        if head.expects_continue && head.is_new {
            let gone = |_| Refusal::new(400, "the client has gone").closing();
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").map_err(gone)?;
        }
        let deadline = Instant::now() + self.patience.body;
        match head.length {
            Length::Bytes(bytes) => self.exactly(bytes, deadline),
            Length::Chunked => self.chunks(deadline),
        }
    }

    fn exactly(&mut self, bytes: usize, deadline: Instant) -> Result<Vec<u8>, Refusal> {
        while self.buffer.len() < bytes {
            self.wanted(deadline)?;
        }
        Ok(self.buffer.drain(..bytes).collect())
    }

    fn chunks(&mut self, deadline: Instant) -> Result<Vec<u8>, Refusal> {
        let mut body = Vec::new();
        loop {
            let size = loop {
                match httparse::parse_chunk_size(&self.buffer) {
                    Ok(httparse::Status::Complete((used, size))) => {
                        self.buffer.drain(..used);
                        break usize::try_from(size).unwrap_or(usize::MAX);
                    }
                    Ok(httparse::Status::Partial) if self.buffer.len() < 1024 => self.wanted(deadline)?,
                    _ => return Err(Refusal::new(400, "a chunk has no size that could be read").closing()),
                }
            };
            if size == 0 {
                break;
            }
            if body.len().saturating_add(size) > MAX_BODY {
                return Err(too_long());
            }
            body.extend(self.exactly(size, deadline)?);
            if self.exactly(2, deadline)? != b"\r\n" {
                return Err(Refusal::new(400, "a chunk is longer than its size").closing());
            }
        }
        // Trailing fields, to an empty line.
        let mut trailer = 0;
        loop {
            while !self.buffer.contains(&b'\n') {
                self.wanted(deadline)?;
            }
            let end = self.buffer.iter().position(|b| *b == b'\n').unwrap_or(0);
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            trailer += line.len();
            if line == b"\r\n" || line == b"\n" {
                return Ok(body);
            }
            if trailer > MAX_HEAD {
                return Err(too_long());
            }
        }
    }

    /// Reads on; the client must have something to say.
    fn wanted(&mut self, deadline: Instant) -> Result<(), Refusal> {
        match self.more(deadline)? {
            true => Ok(()),
            false => Err(Refusal::new(400, "the request ends before its body does").closing()),
        }
    }

    /// Reads on; false when the client has gone.
    fn more(&mut self, deadline: Instant) -> Result<bool, Refusal> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match self.read(left) {
            Ok(bytes) if Instant::now() < deadline => Ok(bytes > 0),
            Err(e) if !is_timeout(&e) => Ok(false),
            _ => Err(Refusal::new(408, "the request has not come in time").closing()),
        }
    }

    fn read(&mut self, timeout: Duration) -> std::io::Result<usize> {
        self.stream.set_read_timeout(Some(timeout))?;
        let mut bytes = [0; 16 << 10];
        let n = loop {
            match self.stream.read(&mut bytes) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.buffer.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    /// Whether the client has closed the connection, as far as can be seen.
    pub(super) fn is_gone(&self) -> bool {
        if self.stream.set_read_timeout(Some(Duration::from_millis(1))).is_err() {
            return true;
        }
        match self.stream.peek(&mut [0]) {
            Ok(bytes) => bytes == 0,
            Err(e) => !is_timeout(&e),
        }
    }

    /// Sends a whole reply; whether the connection can be used further.
    pub(super) fn reply(&mut self, status: u16, kind: &str, fields: &str, body: &[u8], keep: bool) -> bool {
        let mut head = opening(status, kind, keep);
        let _ = write!(head, "{fields}content-length: {}\r\n\r\n", body.len());
        let sent = self.stream.write_all(&[head.as_bytes(), body].concat());
        if !keep {
            self.linger();
        }
        sent.is_ok() && keep
    }

    /// Says that there is no time for the client, without waiting for what it wants.
    pub(super) fn turn_away(&mut self, refusal: &Refusal) {
        let body = refusal.body().to_string();
        let mut head = opening(refusal.status, "application/json", false);
        let _ = write!(head, "retry-after: 1\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let _ = self.stream.write_all(head.as_bytes());
    }

    /// Begins a reply in pieces; without chunks it ends with the connection.
    pub(super) fn begin(&mut self, kind: &str, chunked: bool, keep: bool) -> std::io::Result<()> {
        let mut head = opening(200, kind, keep);
        head.push_str("cache-control: no-cache\r\n");
        head.push_str(if chunked { "transfer-encoding: chunked\r\n\r\n" } else { "\r\n" });
        self.stream.write_all(head.as_bytes())
    }

    /// Sends a piece that is not empty.
    pub(super) fn piece(&mut self, bytes: &[u8], chunked: bool) -> std::io::Result<()> {
        if !chunked {
            return self.stream.write_all(bytes);
        }
        self.stream.write_all(&[format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat())
    }

    /// Ends a reply in pieces.
    pub(super) fn end(&mut self, chunked: bool) -> std::io::Result<()> {
        if chunked { self.stream.write_all(b"0\r\n\r\n") } else { Ok(()) }
    }

    /// Lets the client read a reply before the connection is closed over what it still sends, which would destroy it.
    fn linger(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut read = 0;
        while Instant::now() < deadline && read < MAX_BODY {
            self.buffer.clear();
            match self.read(GLANCE) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(e) if is_timeout(&e) => {}
                Err(_) => break,
            }
        }
    }
}

impl Head {
    /// Whether the client wants to use the connection further.
    pub(super) fn keeps(&self) -> bool {
        self.keep
    }

    /// Whether a body follows that has not been read.
    pub(super) fn has_body(&self) -> bool {
        self.length != Length::Bytes(0)
    }
}

fn opening(status: u16, kind: &str, keep: bool) -> String {
    let reason = Refusal::reason(status);
    let kept = if keep { "keep-alive" } else { "close" };
    format!("HTTP/1.1 {status} {reason}\r\nserver: rlvr\r\nconnection: {kept}\r\ncontent-type: {kind}\r\n")
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn too_long() -> Refusal {
    Refusal::new(413, format!("the body of the request is longer than {MAX_BODY} bytes")).closing()
}

/// The head at the beginning of `bytes` and its length; None when it is not whole.
fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Refusal> {
    let bad = |what: &str| Refusal::new(400, format!("no HTTP request that could be read: {what}")).closing();
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let used = match request.parse(bytes) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            let what = format!("the request has more than {MAX_FIELDS} header fields");
            return Err(Refusal::new(431, what).closing());
        }
        Err(e) => return Err(bad(&e.to_string())),
    };
    let target = request.path.unwrap_or_default();
    let is_new = request.version == Some(1);
    let mut head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        path: target.split('?').next().unwrap_or_default().to_owned(),
        authorization: None,
        length: Length::Bytes(0),
        expects_continue: false,
        is_new,
        keep: is_new,
    };
    let mut lengths = 0;
    for field in request.headers.iter() {
        let value = std::str::from_utf8(field.value).unwrap_or_default().trim();
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        if is("authorization") {
            head.authorization = Some(value.to_owned());
        } else if is("content-length") {
            lengths += 1;
            let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
            let length = digits.then(|| value.parse().unwrap_or(usize::MAX));
            head.length = Length::Bytes(length.ok_or_else(|| bad("content-length is no number"))?);
        } else if is("transfer-encoding") {
            lengths += 1;
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(bad("its body is encoded in another way than in chunks"));
            }
            head.length = Length::Chunked;
        } else if is("expect") {
            head.expects_continue = value.eq_ignore_ascii_case("100-continue");
        } else if is("connection") {
            let says = |word: &str| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word));
            head.keep = if is_new { !says("close") } else { says("keep-alive") };
        }
    }
    // Two readers of the same bytes could take them for different requests.
    match lengths {
        0 | 1 => Ok(Some((head, used))),
        _ => Err(bad("it gives the length of its body more than once")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let text =
            b"POST /v1/completions?x=1 HTTP/1.1\r\nContent-Length: 5\r\nauthorization: Bearer k\r\n\r\nhello";
        let (head, used) = parse(text).unwrap().unwrap();
        assert_eq!((head.method.as_str(), head.path.as_str()), ("POST", "/v1/completions"));
        assert_eq!((head.length, &text[used..]), (Length::Bytes(5), &b"hello"[..]));
        assert_eq!(head.authorization.as_deref(), Some("Bearer k"));
        assert!(head.keeps() && head.has_body());
        assert!(parse(&text[..40]).unwrap().is_none());
        let old = parse(b"GET / HTTP/1.0\r\n\r\n").unwrap().unwrap().0;
        assert!(!old.keeps() && !old.is_new && !old.has_body());
        assert!(!parse(b"GET / HTTP/1.1\r\nConnection: Close\r\n\r\n").unwrap().unwrap().0.keeps());
    }

    #[test]
    fn heads_that_two_readers_would_read_differently_are_refused() {
        for fields in [
            "content-length: 1\r\ncontent-length: 2",
            "content-length: 1\r\ntransfer-encoding: chunked",
            "transfer-encoding: gzip, chunked",
            "content-length: -1",
            "content-length: +1",
            "content-length:",
            "no colon",
        ] {
            let refusal = parse(format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n").as_bytes()).unwrap_err();
            assert!(refusal.status == 400 && refusal.close, "{fields}");
        }
        let many = "a: b\r\n".repeat(MAX_FIELDS + 1);
        assert_eq!(parse(format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes()).unwrap_err().status, 431);
    }

    /// A connection to a client that does something, and what the server makes of it.
    fn with_client<T>(client: impl FnOnce(TcpStream) + Send, server: impl FnOnce(Connection) -> T) -> T {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || client(TcpStream::connect(address).unwrap()));
            let [idle, body, write] = [5000, 200, 200].map(Duration::from_millis);
            let patience = Patience { idle, head: body, body, write };
            server(Connection::new(listener.accept().unwrap().0, patience).unwrap())
        })
    }

    /// Sends byte after byte, slowly, as long as the other side reads.
    fn drip(mut stream: TcpStream, bytes: &[u8]) {
        for byte in bytes {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn slow_senders_are_not_waited_for() {
        let refusal = with_client(
            |stream| drip(stream, &b"GET / HTTP/1.1\r\nx: y\r\n".repeat(3)),
            |mut connection| connection.head(&|| false).unwrap_err(),
        );
        assert_eq!((refusal.status, refusal.close), (408, true));
        let head = b"POST / HTTP/1.1\r\ncontent-length: 50\r\n\r\n";
        let refusal = with_client(
            |mut stream| {
                stream.write_all(head).unwrap();
                drip(stream, &[b' '; 40]);
            },
            |mut connection| {
                let head = connection.head(&|| false).unwrap().unwrap();
                connection.body(&head).unwrap_err()
            },
        );
        assert_eq!(refusal.status, 408);
    }

    #[test]
    fn clients_that_leave_are_noticed() {
        let head = b"POST / HTTP/1.1\r\ncontent-length: 50\r\n\r\nab";
        let refusal = with_client(
            |mut stream| stream.write_all(head).unwrap(),
            |mut connection| {
                let head = connection.head(&|| false).unwrap().unwrap();
                connection.body(&head).unwrap_err()
            },
        );
        assert_eq!(
            (refusal.status, refusal.message.as_str()),
            (400, "the request ends before its body does")
        );
        let (here, is_here) = std::sync::mpsc::channel::<()>();
        with_client(
            move |stream| {
                let _ = is_here.recv();
                drop(stream);
            },
            |mut connection| {
                assert!(!connection.is_gone());
                drop(here);
                while !connection.is_gone() {}
                assert!(connection.head(&|| false).unwrap().is_none());
            },
        );
        // A server that ends does not wait for clients that are silent.
        with_client(
            |mut stream| drop(stream.read(&mut [0])),
            |mut connection| assert!(connection.head(&|| true).unwrap().is_none()),
        );
    }
}
