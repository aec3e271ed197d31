//! A judge beside the verifier: another program or a language model that says whether an answer is right.
//!
//! ```toml
//! kind = "command"                      # a program that speaks rlvr-plugin/1, as the reward `plugin`
//! command = ["python3", "judge.py"]
//! ```
//! ```toml
//! kind = "endpoint"                     # chat completions as OpenAI's API has them
//! url = "http://localhost:8000/v1/chat/completions"
//! model = "judge"
//! key_env = "JUDGE_KEY"                 # name of the environment variable with the key
//! ```
//!
//! A judge never changes a verdict or an accuracy: its opinions are reported beside them, with how often the two agree.
//! Whatever goes wrong leaves an answer *unjudged*, never wrong, and is asked again next time; opinions are kept on disk.

mod agreement;
mod cache;
mod endpoint;

pub use agreement::{Agreement, agreement};
pub use endpoint::EndpointConfig;

use std::path::Path;

use rlvr_rewards::plugin::{Plugin, PluginConfig};
use rlvr_rewards::{Message, Reward, Task, Verdict, score_batch};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::fingerprint::sha256_hex;
use crate::config::{ConfigError, document};
use crate::error::Error;
use cache::Cache;
use endpoint::Endpoint;

/// A judge as its TOML file says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum JudgeConfig {
    /// A program.
    Command(Box<PluginConfig>),
    /// A server.
    Endpoint(Box<EndpointConfig>),
}

impl JudgeConfig {
    /// Reads a judge's file; `path` is for messages and its folder is where a program runs.
    ///
    /// # Errors
    /// [`ConfigError`] with the line at fault.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = document(text, path)?;
        if let Self::Command(plugin) = &mut config {
            plugin.resolve_paths(path.parent().unwrap_or(Path::new("")));
        }
        Ok(config)
    }

    /// SHA-256 of the settings, in hexadecimal.
    pub fn identity(&self) -> String {
        sha256_hex(json!(self).to_string().as_bytes())
    }
}

/// What a judge says about an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opinion {
    /// The judgement.
    pub verdict: JudgeVerdict,
    /// Why, or what went wrong.
    pub reason: String,
}

/// A judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JudgeVerdict {
    /// Right.
    Correct,
    /// Wrong.
    Incorrect,
    /// The judge failed, or said neither.
    Unjudged,
}

impl Opinion {
    fn unjudged(reason: impl Into<String>) -> Self {
        Self { verdict: JudgeVerdict::Unjudged, reason: reason.into() }
    }
}

/// An answer to be judged.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The task, with its reference.
    pub task: &'a Task,
    /// The completion.
    pub text: &'a str,
}

/// A judge with the opinions that it gave before.
pub struct Judge {
    asked: Asked,
    identity: String,
    cache: Cache,
}

enum Asked {
    Command(Plugin),
    Endpoint(Endpoint),
}

impl Judge {
    /// Opens a judge; opinions are kept in the file `cache`.
    ///
    /// # Errors
    /// Settings that make no sense, a key that the environment does not have, or a cache that cannot be read or written.
    pub fn open(config: &JudgeConfig, cache: &Path) -> Result<Self, Error> {
        let unusable = |what: String| Error::Unusable { what: format!("judge: {what}") };
        let asked = match config {
            JudgeConfig::Command(plugin) => {
                Asked::Command(Plugin::new((**plugin).clone()).map_err(|e| unusable(e.to_string()))?)
            }
            JudgeConfig::Endpoint(endpoint) => Asked::Endpoint(Endpoint::new(endpoint).map_err(unusable)?),
        };
        Ok(Self { asked, identity: config.identity(), cache: Cache::open(cache)? })
    }

    /// SHA-256 of the judge's settings, in hexadecimal.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Opinions on answers, in order.
    ///
    /// # Errors
    /// A cache that cannot be written. What goes wrong with the judge is an opinion.
    pub fn judge(&mut self, answers: &[Answer<'_>]) -> Result<Vec<Opinion>, Error> {
        let keys: Vec<String> = answers.iter().map(|answer| self.key(answer)).collect();
        let unknown: Vec<usize> =
            (0..answers.len()).filter(|i| self.cache.get(&keys[*i]).is_none()).collect();
        let asked: Vec<Answer<'_>> = unknown.iter().map(|i| answers[*i]).collect();
        let found = match &self.asked {
            Asked::Command(plugin) => by_program(plugin, &asked),
            Asked::Endpoint(endpoint) => endpoint.judge(&asked),
        };
        let mut fresh: Vec<Option<Opinion>> = vec![None; answers.len()];
        for (i, opinion) in unknown.into_iter().zip(found) {
            if opinion.verdict != JudgeVerdict::Unjudged {
                self.cache.put(&keys[i], &opinion)?;
            }
            fresh[i] = Some(opinion);
        }
        let missing = || Opinion::unjudged("no opinion");
        let known = |(key, new): (&String, Option<Opinion>)| new.or_else(|| self.cache.get(key).cloned());
        Ok(keys.iter().zip(fresh).map(|pair| known(pair).unwrap_or_else(missing)).collect())
    }

    /// SHA-256 over judge, prompt, reference and answer.
    fn key(&self, answer: &Answer<'_>) -> String {
        let task = answer.task;
        let all = json!([self.identity, task.prompt, task.reference, answer.text]);
        sha256_hex(all.to_string().as_bytes())
    }
}

fn by_program(plugin: &Plugin, answers: &[Answer<'_>]) -> Vec<Opinion> {
    let items: Vec<_> = answers.iter().map(|a| (a.task, rlvr_rewards::Response::new(a.text))).collect();
    let opinion = |outcome: rlvr_rewards::Outcome| {
        let verdict = match (outcome.verdict, outcome.score) {
            (Verdict::Correct, _) => JudgeVerdict::Correct,
            (Verdict::Error | Verdict::Unverifiable, _) | (_, None) => JudgeVerdict::Unjudged,
            (Verdict::Incorrect | Verdict::Partial | Verdict::NoAnswer | Verdict::Ambiguous, Some(_)) => {
                JudgeVerdict::Incorrect
            }
        };
        Opinion { verdict, reason: outcome.reason }
    };
    score_batch(plugin as &dyn Reward, &items).into_iter().map(opinion).collect()
}

/// A prompt as text for a judge.
fn shown(prompt: &[Message]) -> String {
    prompt.iter().map(|m| m.content.as_str()).collect::<Vec<_>>().join("\n\n")
}
