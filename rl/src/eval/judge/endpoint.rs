//! A judge behind a server with OpenAI's chat completions.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use minijinja::Environment;
use rlvr_policies::http::{Client, Fault, HttpError, Limits};
use rlvr_rewards::threads::on_threads;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, JudgeVerdict, Opinion, shown};

/// Tries of a request that the server could not take.
const TRIES: u32 = 3;
/// Longest reply that is read, in bytes.
const REPLY_BYTES: u64 = 16 << 20;

const PROMPT: &str = "\
A question, its reference answer and a response follow. Decide whether the response gives the reference answer.

Question:
{{ prompt }}

Reference answer:
{{ reference }}

Response:
{{ response }}

Reply with one word: CORRECT or INCORRECT.";

/// `kind = "endpoint"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// Address of the chat completions, such as `http://localhost:8000/v1/chat/completions`.
    pub url: String,
    /// The model that the server is asked for.
    pub model: String,
    /// Name of the environment variable with the key. Default: no key.
    pub key_env: Option<String>,
    /// Template of the question to the judge, over `prompt`, `reference` and `response`; it must ask for the one word
    /// CORRECT or INCORRECT. Default: one that does.
    #[serde(default = "prompt")]
    pub prompt: String,
    /// Longest reply in tokens. Default 16.
    #[serde(default = "max_tokens")]
    pub max_tokens: usize,
    /// Seconds that a reply may take. Default 60.
    #[serde(default = "timeout_s")]
    pub timeout_s: f64,
    /// Requests at a time, 1 to 64. Default 4.
    #[serde(default = "workers")]
    pub workers: usize,
}

fn prompt() -> String {
    PROMPT.to_owned()
}

fn max_tokens() -> usize {
    16
}

fn timeout_s() -> f64 {
    60.0
}

fn workers() -> usize {
    4
}

/// A server that can be asked.
pub(super) struct Endpoint {
    config: EndpointConfig,
    key: Option<String>,
    templates: Environment<'static>,
    client: Client,
    timeout: Duration,
}

impl Endpoint {
    pub(super) fn new(config: &EndpointConfig) -> Result<Self, String> {
        if !(config.url.starts_with("http://") || config.url.starts_with("https://")) {
            return Err(format!("url {:?} must begin with http:// or https://", config.url));
        }
        if !(config.timeout_s > 0.0 && config.timeout_s <= 86_400.0) {
            return Err(format!("timeout_s {} must be above 0 and at most 86400", config.timeout_s));
        }
        if !(1..=64).contains(&config.workers) || config.max_tokens == 0 {
            return Err("workers must lie in 1 to 64 and max_tokens be at least 1".into());
        }
        let key = match &config.key_env {
            Some(name) => Some(std::env::var(name).map_err(|_| format!("the environment has no {name}"))?),
            None => None,
        };
        let mut templates = Environment::new();
        templates.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
        let added = templates.add_template_owned("prompt", config.prompt.clone());
        added.map_err(|e| format!("prompt: {e}"))?;
        let timeout = Duration::from_secs_f64(config.timeout_s);
        // One bound for all of it: a model may think long before its first byte.
        let limits = Limits {
            answer: timeout,
            silence: timeout,
            window: timeout,
            whole: timeout,
            tries: TRIES,
            pause: Duration::from_millis(400),
            ..Limits::default()
        };
        Ok(Self { config: config.clone(), key, templates, client: Client::new(limits), timeout })
    }

    /// Opinions in order, several requests at a time.
    pub(super) fn judge(&self, answers: &[Answer<'_>]) -> Vec<Opinion> {
        let found: Vec<Mutex<Option<Opinion>>> = answers.iter().map(|_| Mutex::new(None)).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(answer) = answers.get(i) else { return };
                *found[i].lock().unwrap_or_else(PoisonError::into_inner) = Some(self.one(answer));
            }
        };
        on_threads(self.config.workers.min(answers.len()), work);
        let taken = |slot: Mutex<Option<Opinion>>| slot.into_inner().unwrap_or_else(PoisonError::into_inner);
        let missing = || Opinion::unjudged("the request did not end");
        found.into_iter().map(|slot| taken(slot).unwrap_or_else(missing)).collect()
    }

    fn one(&self, answer: &Answer<'_>) -> Opinion {
        match self.ask(answer) {
            Ok(reply) => read(&reply),
            Err(problem) => Opinion::unjudged(problem),
        }
    }

    fn ask(&self, answer: &Answer<'_>) -> Result<String, String> {
        let reference = match &answer.task.reference {
            Value::Object(fields) => fields.get("answer").cloned().unwrap_or(Value::Null),
            other => other.clone(),
        };
        let reference = reference.as_str().map_or_else(|| reference.to_string(), str::to_owned);
        let prompt = shown(&answer.task.prompt);
        let template = self.templates.get_template("prompt").map_err(|e| e.to_string())?;
        let content = template
            .render(json!({"prompt": prompt, "reference": reference, "response": answer.text}))
            .map_err(|e| format!("prompt: {e}"))?;
        let body = json!({
            "model": self.config.model, "temperature": 0, "max_tokens": self.config.max_tokens,
            "messages": [{"role": "user", "content": content}],
        })
        .to_string();
        let mut failures = 0;
        loop {
            match self.post(&body) {
                Ok(reply) => return content_of(&reply),
                Err(e) => {
                    failures += 1;
                    self.client.rest(failures, e).map_err(|e| e.to_string())?;
                }
            }
        }
    }

    /// One request. It is not redirected: the question and the key are for the server of the config.
    fn post(&self, body: &str) -> Result<Vec<u8>, HttpError> {
        let answer = self.client.post_json(&self.config.url, self.key.as_deref(), body, self.timeout)?;
        if (300..400).contains(&answer.status) {
            let location: String =
                answer.header("location").unwrap_or("elsewhere").chars().take(200).collect();
            let problem =
                format!("it redirects to {location}; if that is right, make it the url of the judge");
            return Err(answer.error(Fault::Final, problem));
        }
        answer.expect(&[200])?.read(REPLY_BYTES)
    }
}

fn content_of(reply: &[u8]) -> Result<String, String> {
    let reply: Value = serde_json::from_slice(reply).map_err(|e| format!("the reply is no JSON: {e}"))?;
    let content = reply["choices"][0]["message"]["content"].as_str();
    content.map(str::to_owned).ok_or_else(|| "the reply has no choices[0].message.content".into())
}

/// The one word of a reply, after whatever was thought; anything else judges nothing.
fn read(reply: &str) -> Opinion {
    let said = reply.rsplit("</think>").next().unwrap_or_default().trim();
    let word = said.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    let verdict = match word.as_str() {
        "correct" => JudgeVerdict::Correct,
        "incorrect" => JudgeVerdict::Incorrect,
        _ => {
            let start: String = said.chars().take(80).collect();
            return Opinion::unjudged(format!("the reply is neither CORRECT nor INCORRECT: {start:?}"));
        }
    };
    Opinion { verdict, reason: said.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// Opinions of a judge that answers each of its requests by these bytes and keeps what it was asked.
    fn asked(answer: impl Into<Vec<u8>>, timeout_s: f64) -> (Opinion, Vec<String>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1/chat/completions", listener.local_addr().unwrap());
        let (answer, requests) = (answer.into(), std::sync::Arc::new(Mutex::new(Vec::new())));
        let seen = requests.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (mut request, mut piece) = (Vec::new(), [0; 4096]);
                while !request.ends_with(b"}") {
                    let n = stream.read(&mut piece).unwrap_or(0);
                    request.extend_from_slice(&piece[..n]);
                    if n == 0 {
                        break;
                    }
                }
                seen.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
                stream.write_all(&answer).unwrap();
                // An answer that is not whole stays so until the client goes.
                let _ = stream.read(&mut piece);
            }
        });
        // A variable that is set while tests run stands for the key.
        let config =
            json!({"url": url, "model": "m", "key_env": "CARGO_MANIFEST_DIR", "timeout_s": timeout_s});
        let judge = Endpoint::new(&serde_json::from_value(config).unwrap()).unwrap();
        let task = rlvr_rewards::Task::new("sum", json!({"answer": "2"}));
        let opinion = judge.judge(&[Answer { task: &task, text: "2" }]).remove(0);
        let requests = requests.lock().unwrap().clone();
        (opinion, requests)
    }

    #[test]
    fn the_key_stays_with_its_server_and_no_answer_is_waited_for_without_end() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let location = format!("http://{}/v1", other.local_addr().unwrap());
        for status in ["301 Moved", "302 Found", "307 Away", "308 Away"] {
            let head = format!("HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
            let (opinion, requests) = asked(head, 60.0);
            assert_eq!(opinion.verdict, JudgeVerdict::Unjudged);
            assert!(opinion.reason.contains(&format!("redirects to {location}")), "{}", opinion.reason);
            let key = format!("Bearer {}", env!("CARGO_MANIFEST_DIR"));
            assert!(requests.len() == 1 && requests[0].contains(&key), "{requests:?}");
        }
        other.set_nonblocking(true).unwrap();
        assert!(other.accept().is_err(), "the other server was asked");
        for answer in ["", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"] {
            let (opinion, requests) = asked(answer, 0.2);
            assert!(requests.len() <= TRIES as usize, "{requests:?}");
            assert_eq!(opinion.verdict, JudgeVerdict::Unjudged);
            let said = ["no answer within 0.2 s", "nothing came for 0.2 s"];
            assert!(said.iter().any(|said| opinion.reason.contains(said)), "{}", opinion.reason);
        }
        let huge = "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n";
        assert!(asked(huge, 60.0).0.reason.contains("longer than"));
        let deep = "[".repeat(100_000);
        let deep = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{deep}", deep.len());
        assert!(asked(deep, 60.0).0.reason.contains("no JSON"));
        let gzip = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n";
        assert!(asked(gzip, 60.0).0.reason.contains("gzip"));
    }

    #[test]
    fn only_the_one_word_counts() {
        for (reply, want) in [
            ("CORRECT", JudgeVerdict::Correct),
            ("**Incorrect.**", JudgeVerdict::Incorrect),
            ("<think>incorrect?</think>\ncorrect", JudgeVerdict::Correct),
            ("not correct", JudgeVerdict::Unjudged),
            ("The response is correct", JudgeVerdict::Unjudged),
            ("", JudgeVerdict::Unjudged),
        ] {
            assert_eq!(read(reply).verdict, want, "{reply:?}");
        }
    }
}
