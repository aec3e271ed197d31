//! A judge behind a server with OpenAI's chat completions.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use minijinja::Environment;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, JudgeVerdict, Opinion, shown};

/// Tries of a request that the server could not take.
const TRIES: u32 = 3;

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
    agent: ureq::Agent,
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
        let agent = ureq::AgentBuilder::new().timeout(timeout).build();
        Ok(Self { config: config.clone(), key, templates, agent })
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
        std::thread::scope(|scope| {
            let start = |_: &usize| std::thread::Builder::new().spawn_scoped(scope, work).is_ok();
            let workers = self.config.workers.min(answers.len());
            // The system may allow no more threads.
            if (0..workers).take_while(start).count() == 0 {
                work();
            }
        });
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
        let mut problem = String::new();
        for attempt in 0..TRIES {
            if attempt > 0 {
                std::thread::sleep(Duration::from_millis(200 << attempt));
            }
            let mut request = self.agent.post(&self.config.url).set("Content-Type", "application/json");
            if let Some(key) = &self.key {
                request = request.set("Authorization", &format!("Bearer {key}"));
            }
            match request.send_string(&body) {
                Ok(response) => return content_of(response),
                Err(ureq::Error::Status(status, _)) => {
                    problem = format!("the server answers with status {status}");
                    if status != 429 && status < 500 {
                        break;
                    }
                }
                Err(ureq::Error::Transport(error)) => problem = format!("no connection: {}", error.kind()),
            }
        }
        Err(problem)
    }
}

fn content_of(response: ureq::Response) -> Result<String, String> {
    let text = response.into_string().map_err(|e| format!("the reply cannot be read: {e}"))?;
    let reply: Value = serde_json::from_str(&text).map_err(|e| format!("the reply is no JSON: {e}"))?;
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
    use super::*;

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
