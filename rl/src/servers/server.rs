//! One server: requests with JSON in and out, and what its refusals say.

use std::time::Duration;

use rlvr_policies::http::{Client, Fault, HttpError, Limits, Request};
use serde_json::Value;

use super::error::EngineError;
use crate::config::EngineConfig;

/// Longest answer that is read, in bytes.
const ANSWER_BYTES: u64 = 1 << 30;
/// Longest refusal that is read, in bytes.
const REFUSAL_BYTES: u64 = 64 << 10;
/// Characters of a refusal that are repeated.
const SAID: usize = 300;

/// A server by its address.
#[derive(Debug)]
pub(crate) struct Server {
    client: Client,
    url: String,
    key: Option<String>,
    timeout: Duration,
}

impl Server {
    pub(crate) fn new(config: &EngineConfig, url: &str, key: Option<String>) -> Self {
        let timeout = Duration::from_secs_f64(config.timeout_s);
        // A completion may take long before its first byte, and small answers come slowly.
        let limits = Limits {
            answer: timeout,
            silence: timeout,
            window: timeout,
            whole: timeout,
            tries: 1,
            ..Limits::default()
        };
        Self { client: Client::new(limits), url: url.trim_end_matches('/').to_owned(), key, timeout }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What a path answers, once.
    pub(crate) fn get(&self, path: &str) -> Result<Value, EngineError> {
        let url = format!("{}{path}", self.url);
        let request = Request { token: self.key.as_deref(), ..Request::get(&url) };
        self.read(&url, self.client.follow(&request, |_| false)?)
    }

    /// What a path answers to a JSON text, once. It is not redirected: prompts and the key are for this server.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, EngineError> {
        let url = format!("{}{path}", self.url);
        let answer = self.client.post_json(&url, self.key.as_deref(), &body.to_string(), self.timeout)?;
        self.read(&url, answer)
    }

    /// The value of an answer; null where its body is empty, a string where it is text.
    fn read(&self, url: &str, answer: rlvr_policies::http::Answer) -> Result<Value, EngineError> {
        let status = answer.status;
        if status != 200 {
            let body = answer.read(REFUSAL_BYTES).unwrap_or_default();
            let said = said(&String::from_utf8_lossy(&body));
            return Err(EngineError::Status { url: url.to_owned(), status, said, hint: hint(status).into() });
        }
        let json = answer.header("content-type").is_some_and(|kind| kind.contains("json"));
        let bytes = answer.expect(&[200])?.read(ANSWER_BYTES)?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(value),
            Err(_) if !json => Ok(Value::String(said(&String::from_utf8_lossy(&bytes)))),
            Err(e) => {
                let what = format!("its answer is no JSON: {e}");
                Err(EngineError::Answer { url: url.to_owned(), what })
            }
        }
    }

    /// A sentence about an answer of this server.
    pub(crate) fn wrong(&self, what: impl Into<String>) -> EngineError {
        EngineError::Answer { url: self.url.clone(), what: what.into() }
    }
}

/// What a refusal says, in a line: the message of the JSON that servers send, or its text.
fn said(body: &str) -> String {
    let value: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    let found = [&value["error"]["message"], &value["message"], &value["detail"], &value["error"]];
    let text = found.into_iter().find_map(Value::as_str).unwrap_or(body);
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SAID).collect();
    if line.is_empty() { "it says nothing".into() } else { line }
}

fn hint(status: u16) -> &'static str {
    match status {
        401 => ": the server wants a key; name the variable that has it in engine.key_env",
        _ => "",
    }
}

/// How long to wait before another try of what has failed so often, as long as that makes sense.
pub(crate) fn pause(failures: u32, error: &EngineError) -> Option<Duration> {
    if !error.may_pass() {
        return None;
    }
    let asked = match error {
        EngineError::Http(HttpError { retry_after: Some(wait), .. }) => *wait,
        EngineError::Http(HttpError { fault: Fault::Final, .. }) => return None,
        _ => Duration::ZERO,
    };
    let limits = Limits::default();
    let wait = limits.pause.saturating_mul(1 << (failures.saturating_sub(1)).min(5));
    Some(wait.max(asked).min(limits.patience))
}
