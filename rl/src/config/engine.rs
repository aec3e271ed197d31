//! `[engine]`: whoever samples in place of rlvr's own engine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::one_or_many;
use crate::algorithm::{LossConfig, SamplerCorrection};
use crate::checks::Checks;

/// The key of the correction for a sampler.
const KEY: &str = "sampler_correction";

/// What servers speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// vLLM: `/inference/v1/generate`, else `/v1/completions` with token ids.
    #[default]
    Vllm,
    /// SGLang: `/generate`. Written by its sources; never run.
    Sglang,
}

impl EngineKind {
    /// The name in configs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
        }
    }
}

/// How weights get to servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handover {
    /// As a PEFT adapter with a new name each version.
    Adapter,
    /// As a Hugging Face folder with a head of its own, read again by the server.
    Folder,
    /// Not at all: servers keep the weights that they were started with.
    None,
}

/// The servers that sample for a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineConfig {
    /// What the servers speak. Default `vllm`.
    #[serde(default)]
    pub kind: EngineKind,
    /// Address of the server, or of several that hold the same model, such as `http://localhost:8000`.
    #[serde(deserialize_with = "one_or_many")]
    pub url: Vec<String>,
    /// The model that servers are asked for. Default: the first that they name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How weights get there.
    pub sync: Handover,
    /// Where weights are handed over: a directory that the servers see under the same path. Default: `engine` in the directory
    /// of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// Name of the environment variable with the key. Default: no key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_env: Option<String>,
    /// Requests at a time, over all servers; each is a prompt with its completions. 1 to 1024. Default 64.
    #[serde(default = "in_flight")]
    pub in_flight: usize,
    /// Seconds that an answer may take. Default 600.
    #[serde(default = "timeout_s")]
    pub timeout_s: f64,
    /// How often a request is made that servers fail to answer, at least 1. Default 4.
    #[serde(default = "tries")]
    pub tries: u32,
    /// `policy/mismatch_kl` above which a run ends: the servers sample from other weights. Nats a token, above 0. Default 0.05.
    #[serde(default = "max_mismatch_kl")]
    pub max_mismatch_kl: f64,
}

fn in_flight() -> usize {
    64
}

fn timeout_s() -> f64 {
    600.0
}

fn tries() -> u32 {
    4
}

fn max_mismatch_kl() -> f64 {
    0.05
}

impl EngineConfig {
    /// A server that keeps its weights, with every default.
    pub fn of(kind: EngineKind, url: Vec<String>) -> Self {
        Self {
            kind,
            url,
            model: None,
            sync: Handover::None,
            folder: None,
            key_env: None,
            in_flight: in_flight(),
            timeout_s: timeout_s(),
            tries: tries(),
            max_mismatch_kl: max_mismatch_kl(),
        }
    }

    /// The first thing that is wrong with it where nothing is handed over, if anything is.
    pub fn problem(&self) -> Option<String> {
        let mut checks = Checks::default();
        self.check(false, &mut checks);
        checks.into_problems().into_iter().next().map(|problem| problem.message)
    }

    /// Notes what is wrong; `lora` says that the policy has an adapter.
    pub(crate) fn check(&self, lora: bool, checks: &mut Checks) {
        checks.require(!self.url.is_empty(), "engine.url", "names no server");
        for url in &self.url {
            let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
            // A password would stand in the records of the run.
            let fine = rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['@', '?', '#']));
            checks.require(
                fine,
                "engine.url",
                "must begin with http:// or https:// and have no user, password or query; a key belongs into the variable \
                 that key_env names",
            );
        }
        checks.require((1..=1024).contains(&self.in_flight), "engine.in_flight", "must lie in 1 to 1024");
        checks.require(
            self.timeout_s > 0.0 && self.timeout_s <= 86_400.0,
            "engine.timeout_s",
            "must be above 0 and at most 86400",
        );
        checks.require((1..=100).contains(&self.tries), "engine.tries", "must lie in 1 to 100");
        checks.require(self.max_mismatch_kl > 0.0, "engine.max_mismatch_kl", "must be above 0");
        checks.require(
            self.sync != Handover::Adapter || lora,
            "engine.sync",
            "\"adapter\" hands over an adapter and the policy has none: add a [policy.lora] table, or use \"folder\"",
        );
        checks.require(
            self.sync != Handover::Folder || !lora,
            "engine.sync",
            "\"folder\" hands over all weights and the policy is an adapter: use \"adapter\"",
        );
    }
}

/// What is not said otherwise where servers sample, or weights that are older. Completions are from what is almost the policy, so
/// stages correct for the sampler; and nobody samples the same of servers again, so the records keep the tokens.
pub(super) fn fill_defaults(run: &mut Table) {
    let servers = run.contains_key("engine");
    if servers {
        let log = run.entry("log").or_insert_with(|| Value::Table(Table::new()));
        if let Some(log) = log.as_table_mut() {
            log.entry("rollouts_tokens").or_insert_with(|| true.into());
        }
    }
    let stages = run.get_mut("stage").and_then(Value::as_array_mut).into_iter().flatten();
    for stage in stages.filter_map(Value::as_table_mut) {
        if stage.get("kind").and_then(Value::as_str) != Some("grpo") || stage.contains_key("rollouts") {
            continue;
        }
        let lags = stage.get("max_lag").and_then(Value::as_integer).is_some_and(|lag| lag > 0);
        if !servers && !lags {
            continue;
        }
        let loss = stage.entry("loss").or_insert_with(|| Value::Table(Table::new()));
        // One that cannot be read is reported as it was written.
        let open = |loss: &Table| {
            let read = LossConfig::deserialize(loss.clone());
            let free = |c: LossConfig| {
                c.sampler_correction == SamplerCorrection::None && !c.objective.divides_by_sampler()
            };
            !loss.contains_key(KEY) && read.is_ok_and(free)
        };
        if let Some(loss) = loss.as_table_mut().filter(|loss| open(loss)) {
            loss.insert(KEY.to_owned(), "token_truncate".into());
        }
    }
}
