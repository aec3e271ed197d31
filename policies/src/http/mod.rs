//! HTTP(S) requests that end: every wait has a bound, every body a size, every chain of redirects a length, and a token
//! goes to the server that it is for and to no other.

mod address;
mod answer;

use std::time::Duration;

use ureq::http::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, USER_AGENT};
use ureq::http::{self, Method, Uri};
use ureq::{Error, Timeout};

use self::address::{is_loopback, next_hop, origin, parse, shown};
pub use self::answer::{Answer, Body};

/// Most redirects that one request follows.
const REDIRECTS: usize = 10;
/// Longest head of an answer, from the status line to the empty line, in bytes.
const HEAD_BYTES: usize = 64 << 10;

/// How long a request waits and how often it is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest look-up of a name, and longest time until a connection stands. Default 10 s.
    pub connect: Duration,
    /// Longest time from the request to the end of the answer's head, however slowly it comes. Default 60 s.
    pub answer: Duration,
    /// Longest silence before an answer or within it. Default 30 s.
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
    pub fn may_pass(&self) -> bool {
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
        tracing::info!("{error}; next try in {} s", wait.as_secs_f32());
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
            // What the system says when it knows no address has no kind of its own.
            Error::Io(e) if e.to_string().starts_with("failed to lookup address") => {
                (Fault::Unreachable, format!("its host is not known: {e}"))
            }
            Error::Io(e) if e.kind() == Kind::InvalidData => {
                (Fault::Unreachable, format!("no secure connection: {e}"))
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
