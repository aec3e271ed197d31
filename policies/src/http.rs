//! HTTP(S) requests that end: every wait has a bound, every body a size, every chain of redirects a length, and a token
//! goes to the server that it is for and to no other.

use std::io::Read;
use std::time::{Duration, Instant};

use ureq::http::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, USER_AGENT};
use ureq::http::uri::Scheme;
use ureq::http::{self, Method, Uri};
use ureq::{Error, Timeout};

/// Most redirects that one request follows.
const REDIRECTS: usize = 10;
/// Longest head of an answer, from the status line to the empty line, in bytes.
const HEAD_BYTES: usize = 64 << 10;
/// Fewest bytes that a body brings in [`Limits::window`]: 10 kB/s with the default.
const SLOWEST: u64 = 600_000;

/// How long a request waits and how often it is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest look-up of a name, and longest time until a connection stands. Default 10 s.
    pub connect: Duration,
    /// Longest time from the request to the end of the answer's head. Default 60 s.
    pub answer: Duration,
    /// Longest silence within an answer. Default 30 s.
    pub silence: Duration,
    /// Span in which a body brings at least 600,000 bytes or is given up. Default 60 s.
    pub window: Duration,
    /// Longest time that a body takes which is kept in memory. Default 300 s.
    pub whole: Duration,
    /// How often a request is tried that may succeed another time, at least 1. Default 5.
    pub tries: u32,
    /// Wait before the second try, doubled before each further one. Default 0.5 s.
    pub pause: Duration,
    /// Longest wait that a server may ask for with `Retry-After`. Default 60 s.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(60),
            silence: Duration::from_secs(30),
            window: Duration::from_secs(60),
            whole: Duration::from_secs(300),
            tries: 5,
            pause: Duration::from_millis(500),
            patience: Duration::from_secs(60),
        }
    }
}

/// What kind of failure a request met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// There is no connection to the server.
    Unreachable,
    /// The connection was lost, or what came over it is not a whole answer.
    Broken,
    /// The server answered with this status.
    Status(u16),
    /// Something that another try cannot mend.
    Final,
}

/// Why a request brought nothing.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{url}: {problem}")]
pub struct HttpError {
    /// Address without user, password and query, which may be secrets.
    pub url: String,
    /// What went wrong.
    pub problem: String,
    /// Its kind.
    pub fault: Fault,
    /// How long the server asked to wait.
    pub retry_after: Option<Duration>,
}

impl HttpError {
    fn new(uri: &Uri, fault: Fault, problem: impl Into<String>) -> Self {
        Self { url: shown(uri), problem: problem.into(), fault, retry_after: None }
    }

    /// Whether another try may succeed where the server was reached before.
    fn may_pass(&self) -> bool {
        match self.fault {
            Fault::Unreachable | Fault::Broken => true,
            Fault::Status(status) => matches!(status, 408 | 429 | 500..=599),
            Fault::Final => false,
        }
    }
}

/// A request for what is behind an address.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Address, `http://` or `https://`.
    pub url: &'a str,
    /// Ask for the head of the answer only.
    pub head: bool,
    /// Secret for the server of `url`; redirects do not take it to another one.
    pub token: Option<&'a str>,
    /// Further headers.
    pub headers: &'a [(&'static str, String)],
}

impl<'a> Request<'a> {
    /// A request for the content behind `url`.
    pub fn get(url: &'a str) -> Self {
        Self { url, head: false, token: None, headers: &[] }
    }

    /// A failure of this request.
    pub fn error(&self, fault: Fault, problem: impl Into<String>) -> HttpError {
        match parse(self.url) {
            Ok(uri) => HttpError::new(&uri, fault, problem),
            Err(error) => HttpError { problem: problem.into(), fault, ..error },
        }
    }
}

/// Sends requests within its limits; keeps connections open between them.
#[derive(Debug)]
pub struct Client {
    agent: ureq::Agent,
    limits: Limits,
}

impl Client {
    /// A client that honours `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, except to this machine itself.
    pub fn new(limits: Limits) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_response_header_size(HEAD_BYTES)
            .timeout_resolve(Some(limits.connect))
            .timeout_connect(Some(limits.connect))
            .timeout_send_request(Some(limits.answer))
            .timeout_send_body(Some(limits.answer))
            .timeout_recv_response(Some(limits.answer))
            .timeout_per_read(Some(limits.silence))
            .build();
        Self { agent: config.into(), limits }
    }

    /// The limits of every request.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The answer at the end of all redirects, or a redirect to another server that `enough` accepts as the answer.
    ///
    /// # Errors
    /// No connection, no HTTP, or redirects that end nowhere. An answer of any status is none.
    pub fn follow(
        &self,
        request: &Request<'_>,
        enough: impl Fn(&HeaderMap) -> bool,
    ) -> Result<Answer, HttpError> {
        let mut uri = parse(request.url)?;
        let first = origin(&uri);
        let mut token = request.token;
        for _ in 0..=REDIRECTS {
            let answer = self.send(&uri, token, request.headers, request.head, None)?;
            if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let location = answer.header("location").unwrap_or_default();
            let next = next_hop(&uri, location).map_err(|p| HttpError::new(&uri, Fault::Final, p))?;
            if origin(&next) != first {
                // For good: what another server says must not lead the token anywhere.
                token = None;
                if enough(&answer.headers) {
                    return Ok(answer);
                }
            }
            uri = next;
        }
        let problem = format!("it redirects more than {REDIRECTS} times");
        Err(HttpError::new(&parse(request.url)?, Fault::Final, problem))
    }

    /// The answer to a JSON text, its body included, within a time; redirects are answers.
    ///
    /// # Errors
    /// No connection, or no HTTP. An answer of any status is none.
    pub fn post_json(
        &self,
        url: &str,
        token: Option<&str>,
        json: &str,
        within: Duration,
    ) -> Result<Answer, HttpError> {
        let headers = [("Content-Type", "application/json".to_owned())];
        self.send(&parse(url)?, token, &headers, false, Some((json, within)))
    }

    /// What `attempt` brings, tried again as long as another try may mend it. A server that cannot be reached at all is
    /// not tried again.
    ///
    /// # Errors
    /// The last failure.
    pub fn retry<T>(&self, mut attempt: impl FnMut() -> Result<T, HttpError>) -> Result<T, HttpError> {
        let mut failures = 0;
        loop {
            match attempt() {
                Err(e) if e.fault != Fault::Unreachable => {
                    failures += 1;
                    self.rest(failures, e)?;
                }
                other => return other,
            }
        }
    }

    /// Waits before the next try, after the given number of failures in a row.
    ///
    /// # Errors
    /// The failure itself where no further try makes sense.
    pub fn rest(&self, failures: u32, error: HttpError) -> Result<(), HttpError> {
        let asked = error.retry_after.unwrap_or_default();
        if failures >= self.limits.tries || !error.may_pass() || asked > self.limits.patience {
            return Err(error);
        }
        let wait = self.limits.pause.saturating_mul(1 << (failures - 1).min(6)).max(asked);
        tracing::debug!("{error}; next try in {} s", wait.as_secs_f32());
        std::thread::sleep(wait);
        Ok(())
    }

    fn send(
        &self,
        uri: &Uri,
        token: Option<&str>,
        headers: &[(&'static str, String)],
        head: bool,
        body: Option<(&str, Duration)>,
    ) -> Result<Answer, HttpError> {
        let method = match (head, body) {
            (true, _) => Method::HEAD,
            (false, None) => Method::GET,
            (false, Some(_)) => Method::POST,
        };
        let mut request = http::Request::builder()
            .method(method)
            .uri(uri.clone())
            .header(USER_AGENT, concat!("rlvr/", env!("CARGO_PKG_VERSION")))
            // Sizes, ranges and hashes are those of the file, not of its compressed form.
            .header(ACCEPT_ENCODING, "identity");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim())).map_err(|_| {
                HttpError::new(uri, Fault::Final, "the token has characters that a header cannot have")
            })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let failed = |e: Error| self.failure(uri, &e);
        let proxy = self.agent.config().proxy().filter(|_| !is_loopback(uri)).cloned();
        let response = match body {
            Some((text, within)) => {
                let request = request.body(text).map_err(|e| failed(e.into()))?;
                let config = self.agent.configure_request(request).proxy(proxy);
                self.agent.run(config.timeout_global(Some(within)).build())
            }
            None => {
                let request = request.body(()).map_err(|e| failed(e.into()))?;
                self.agent.run(self.agent.configure_request(request).proxy(proxy).build())
            }
        };
        let (parts, body) = response.map_err(failed)?.into_parts();
        Ok(Answer {
            status: parts.status.as_u16(),
            uri: uri.clone(),
            headers: parts.headers,
            body: body.into_reader(),
            limits: self.limits.clone(),
        })
    }

    fn failure(&self, uri: &Uri, error: &Error) -> HttpError {
        use std::io::ErrorKind as Kind;
        let Limits { connect, answer, silence, .. } = &self.limits;
        let (fault, problem) = match error {
            Error::HostNotFound => (Fault::Unreachable, "its host is not known".into()),
            Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
                (Fault::Unreachable, format!("no connection within {} s", connect.as_secs_f32()))
            }
            Error::ConnectionFailed | Error::ConnectProxyFailed(_) | Error::InvalidProxyUrl => {
                (Fault::Unreachable, error.to_string())
            }
            Error::Tls(_) | Error::Rustls(_) | Error::TlsRequired => {
                (Fault::Unreachable, format!("no secure connection: {error}"))
            }
            Error::Io(e)
                if matches!(
                    e.kind(),
                    Kind::ConnectionRefused
                        | Kind::HostUnreachable
                        | Kind::NetworkUnreachable
                        | Kind::NetworkDown
                        | Kind::AddrNotAvailable
                ) =>
            {
                (Fault::Unreachable, format!("no connection: {e}"))
            }
            Error::Timeout(Timeout::PerRead) => {
                (Fault::Broken, format!("nothing came for {} s", silence.as_secs_f32()))
            }
            Error::Timeout(_) => (Fault::Broken, format!("no answer within {} s", answer.as_secs_f32())),
            Error::Io(e) => (Fault::Broken, format!("the connection was lost: {e}")),
            Error::Protocol(e) => (Fault::Broken, format!("its answer is not HTTP: {e}")),
            Error::LargeResponseHeader(..) => {
                (Fault::Final, format!("the head of its answer is longer than {HEAD_BYTES} bytes"))
            }
            other => (Fault::Final, other.to_string()),
        };
        HttpError::new(uri, fault, problem)
    }
}

/// An answer whose head has come.
pub struct Answer {
    /// Status code.
    pub status: u16,
    uri: Uri,
    headers: HeaderMap,
    body: ureq::BodyReader<'static>,
    limits: Limits,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).field("url", &shown(&self.uri)).finish()
    }
}

impl Answer {
    /// A header's value, if it is there once or more and is ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Length that the server announces for the body.
    pub fn length(&self) -> Option<u64> {
        let chunked = self.header("transfer-encoding").is_some();
        self.header("content-length").filter(|_| !chunked)?.trim().parse().ok()
    }

    /// A failure of this answer.
    pub fn error(&self, fault: Fault, problem: impl Into<String>) -> HttpError {
        HttpError::new(&self.uri, fault, problem)
    }

    /// The answer itself if its status is one of `expected` and its body is not in a coding that was not asked for.
    ///
    /// # Errors
    /// Another status, or a compressed body.
    pub fn expect(self, expected: &[u16]) -> Result<Self, HttpError> {
        if !expected.contains(&self.status) {
            let mut problem = format!("status {}", self.status);
            if let Some(said) = self.header("x-error-message") {
                problem += &format!(" ({})", said.chars().take(200).collect::<String>());
            }
            let mut error = self.error(Fault::Status(self.status), problem);
            error.retry_after =
                self.header("retry-after").and_then(|s| s.trim().parse().ok()).map(Duration::from_secs);
            if let Some(wait) = error.retry_after.filter(|wait| *wait > self.limits.patience) {
                error.problem += &format!(", and it asks to wait {} s", wait.as_secs());
            }
            return Err(error);
        }
        match self.header("content-encoding") {
            None | Some("" | "identity") => Ok(self),
            Some(coding) => {
                let coding: String = coding.chars().take(40).collect();
                Err(self.error(Fault::Final, format!("its body is {coding}-coded, which was not asked for")))
            }
        }
    }

    /// The body, to be read piece by piece.
    pub fn body(self) -> Body {
        Body { answer: self, since: Instant::now(), brought: 0 }
    }

    /// The whole body, of at most `most` bytes.
    ///
    /// # Errors
    /// A longer body; one that breaks off or takes too long.
    pub fn read(self, most: u64) -> Result<Vec<u8>, HttpError> {
        let too_long = format!("its body is longer than {most} bytes");
        if self.length().is_some_and(|length| length > most) {
            return Err(self.error(Fault::Final, too_long));
        }
        let (begun, whole) = (Instant::now(), self.limits.whole);
        let (mut body, mut bytes, mut piece) = (self.body(), Vec::new(), vec![0; 1 << 16]);
        loop {
            let n = body.read(&mut piece)?;
            if n == 0 {
                return Ok(bytes);
            }
            if bytes.len() as u64 + n as u64 > most {
                return Err(body.answer.error(Fault::Final, too_long));
            }
            bytes.extend_from_slice(&piece[..n]);
            if begun.elapsed() > whole {
                let problem = format!("its body is not whole after {} s", whole.as_secs_f32());
                return Err(body.answer.error(Fault::Broken, problem));
            }
        }
    }
}

/// A body that must keep coming.
#[derive(Debug)]
pub struct Body {
    answer: Answer,
    since: Instant,
    brought: u64,
}

impl Body {
    /// The next bytes; their number is 0 at the end.
    ///
    /// # Errors
    /// A lost connection, a silence, a body that trickles, or one that ends before the announced length.
    pub fn read(&mut self, piece: &mut [u8]) -> Result<usize, HttpError> {
        let Limits { silence, window, .. } = &self.answer.limits;
        let n = self.answer.body.read(piece).map_err(|e| {
            let problem = match Error::from(e) {
                Error::Timeout(_) => format!("nothing came for {} s", silence.as_secs_f32()),
                Error::Io(e) => format!("the connection was lost: {e}"),
                e => format!("its body is broken: {e}"),
            };
            self.answer.error(Fault::Broken, problem)
        })?;
        self.brought += n as u64;
        if n > 0 && self.since.elapsed() >= *window {
            if self.brought < SLOWEST {
                let problem = format!("it trickles: {} bytes in {} s", self.brought, window.as_secs_f32());
                return Err(self.answer.error(Fault::Broken, problem));
            }
            (self.since, self.brought) = (Instant::now(), 0);
        }
        Ok(n)
    }

    /// A failure of this body.
    pub fn error(&self, fault: Fault, problem: impl Into<String>) -> HttpError {
        self.answer.error(fault, problem)
    }
}

fn parse(url: &str) -> Result<Uri, HttpError> {
    let bad = |problem: &str| HttpError {
        url: url.chars().filter(|c| !c.is_control()).take(200).collect(),
        problem: problem.into(),
        fault: Fault::Final,
        retry_after: None,
    };
    let uri: Uri = url.parse().map_err(|_| bad("this is not a URL"))?;
    match uri.scheme_str() {
        Some("http" | "https") => Ok(uri),
        _ => Err(bad("a URL begins with http:// or https://")),
    }
}

/// An address without what may be secret in it: user, password, query.
fn shown(uri: &Uri) -> String {
    let port = uri.port().map(|p| format!(":{p}")).unwrap_or_default();
    let all =
        format!("{}://{}{port}{}", uri.scheme_str().unwrap_or("?"), uri.host().unwrap_or("?"), uri.path());
    if all.len() > 300 { all.chars().take(300).chain("…".chars()).collect() } else { all }
}

/// Scheme, host and port: what a token belongs to.
fn origin(uri: &Uri) -> (bool, String, u16) {
    let secure = uri.scheme() == Some(&Scheme::HTTPS);
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    (secure, host, uri.port_u16().unwrap_or(if secure { 443 } else { 80 }))
}

fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// Where a `Location` leads, by RFC 3986 except that `..` is left to the server.
fn next_hop(from: &Uri, location: &str) -> Result<Uri, String> {
    let location = location.trim().split('#').next().unwrap_or_default();
    let (scheme, authority) =
        (from.scheme_str().unwrap_or_default(), from.authority().map(|a| a.as_str()).unwrap_or_default());
    let path = from.path();
    let has_scheme = location.split_once(':').is_some_and(|(s, _)| {
        !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    });
    let target = match location {
        "" => return Err("it redirects without saying where to".into()),
        _ if has_scheme => location.to_owned(),
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
        _ if location.starts_with('?') => format!("{scheme}://{authority}{path}{location}"),
        _ => {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{folder}/{location}")
        }
    };
    let short: String = target.chars().take(100).collect();
    let uri: Uri = target.parse().map_err(|_| format!("it redirects to {short:?}, which is not a URL"))?;
    match (scheme, uri.scheme_str()) {
        ("https", Some("http")) => Err(format!("it redirects from https to {short:?}, which is not secure")),
        (_, Some("http" | "https")) if uri.host().is_some_and(|host| !host.is_empty()) => Ok(uri),
        _ => Err(format!("it redirects to {short:?}, which is not a web address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved_and_never_lead_from_https_to_http() {
        let from: Uri = "https://hub.example:444/a/b/c?q=1".parse().unwrap();
        for (location, expected) in [
            ("/x/y?z", Ok("https://hub.example:444/x/y?z")),
            ("d", Ok("https://hub.example:444/a/b/d")),
            ("?r=2", Ok("https://hub.example:444/a/b/c?r=2")),
            ("//cdn.example/x", Ok("https://cdn.example/x")),
            ("https://cdn.example/x#part", Ok("https://cdn.example/x")),
            ("HTTPS://cdn.example/x", Ok("https://cdn.example/x")),
            ("", Err("where to")),
            ("#", Err("where to")),
            ("http://hub.example:444/x", Err("not secure")),
            ("file:///etc/passwd", Err("not a")),
            ("ftp://hub.example/x", Err("not a web address")),
            ("https://", Err("not a")),
            ("https://:80/x", Err("not a")),
            ("http:x", Err("not a")),
            ("https://hub.example/\u{0}", Err("not a URL")),
            ("https://[::1/x", Err("not a URL")),
        ] {
            match (next_hop(&from, location), expected) {
                (Ok(uri), Ok(url)) => assert_eq!(uri.to_string(), url, "{location}"),
                (Err(problem), Err(part)) => assert!(problem.contains(part), "{location}: {problem}"),
                (got, _) => panic!("{location:?}: {got:?}"),
            }
        }
        let plain: Uri = "http://mirror/x".parse().unwrap();
        assert_eq!(next_hop(&plain, "https://mirror/x").unwrap().to_string(), "https://mirror/x");
    }

    #[test]
    fn a_token_belongs_to_scheme_host_and_port() {
        let origin = |url: &str| origin(&url.parse().unwrap());
        assert_eq!(origin("https://Hub.example/a"), origin("https://hub.example:443/b?c"));
        assert_eq!(origin("http://hub.example"), origin("http://hub.example:80/"));
        for other in [
            "http://hub.example/",
            "https://hub.example:444/",
            "https://x.hub.example/",
            "https://hub.example@x/",
        ] {
            assert_ne!(origin("https://hub.example/"), origin(other), "{other}");
        }
    }

    #[test]
    fn secrets_of_an_address_are_not_shown() {
        let uri: Uri = "https://user:word@mirror:8443/a/b?signature=secret".parse().unwrap();
        assert_eq!(shown(&uri), "https://mirror:8443/a/b");
    }
}
