//! Answers that are as long as they say, and come to an end.

use std::io::Read;
use std::time::{Duration, Instant};

use ureq::http::Uri;
use ureq::http::header::HeaderMap;
use ureq::{BodyReader, Error};

use super::address::shown;
use super::{Fault, HttpError, Limits};

/// Fewest bytes that a body brings in [`Limits::window`]: 10 kB/s with the default.
const SLOWEST: u64 = 600_000;

/// An answer whose head has come.
pub struct Answer {
    /// Status code.
    pub status: u16,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: BodyReader<'static>,
    pub(super) limits: Limits,
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
