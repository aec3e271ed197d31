//! How items are answered, and everything of that which results depend on.
use super::Event;
use super::chunk::Kind;
use crate::config::Dtype;
use crate::engine::{Engine, Own};
use crate::error::Error;
use crate::eval::{Benchmark, Generation, OpenSettings, fingerprint};
use crate::policy::Policy;
use crate::results::RANKED;
use rlvr_rewards::{Message, TaskImage};
use rlvr_rollout::SamplingParams;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// How items are answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Completions, judged by the verifier.
    #[default]
    Generate,
    /// The most likely option behind the prompt, plain and per character.
    Likelihood,
    /// Both.
    Both,
}

/// How a policy answers benchmarks.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the results call the policy.
    pub policy: String,
    /// The type it computes in, for the record.
    pub dtype: Dtype,
    /// How the benchmarks were opened, for the record: their limit and control arms.
    pub opened: OpenSettings,
    /// How items are answered.
    pub mode: Mode,
    /// Completions an item, at least 1; above 1 gives pass@k.
    pub samples: usize,
    /// Divides the logits; 0 is greedy. None: 0 for one sample, 1 for several.
    pub temperature: Option<f64>,
    /// Longest completion in tokens; none: the definition's, else 512.
    pub max_tokens: Option<usize>,
    /// Texts that end a completion and stay part of it; without one the definition's.
    pub stop: Vec<String>,
    /// Seed of the samples.
    pub seed: u64,
    /// Replaces an evaluation with other settings.
    pub force: bool,
    /// Whoever completes prompts; options are ranked by rlvr itself.
    pub engine: Arc<dyn Engine>,
    /// What results say of the engine, where it is not rlvr's own.
    pub engine_name: Option<String>,
}

impl Plan {
    /// One greedy completion an item.
    pub fn new(policy: impl Into<String>, opened: OpenSettings) -> Self {
        Self {
            policy: policy.into(),
            dtype: Dtype::default(),
            opened,
            mode: Mode::default(),
            samples: 1,
            temperature: None,
            max_tokens: None,
            stop: Vec::new(),
            seed: 0,
            force: false,
            engine: Arc::new(Own),
            engine_name: None,
        }
    }

    /// Whether the settings make sense.
    ///
    /// # Errors
    /// [`Error::Unusable`], with what does not.
    pub fn check(&self) -> Result<(), Error> {
        let problem = |what: &str| Err(Error::Unusable { what: what.to_owned() });
        let temperature = self.temperature();
        if self.samples == 0 {
            return problem("an evaluation needs at least one completion an item");
        }
        if temperature == 0.0 && self.samples > 1 {
            return problem("--samples above 1 with --temperature 0 gives the same completion each time");
        }
        if self.stop.iter().any(String::is_empty) {
            return problem("--stop: the text is empty, which would end every completion at once");
        }
        let sampling = SamplingParams { temperature, ..SamplingParams::default() };
        sampling.validate().map_err(|e| Error::Unusable { what: e.to_string() })
    }

    /// The temperature of the samples.
    pub fn temperature(&self) -> f64 {
        self.temperature.unwrap_or(if self.samples == 1 { 0.0 } else { 1.0 })
    }

    /// What results call a benchmark.
    pub fn names(&self, benchmark: &Benchmark) -> Vec<String> {
        self.kinds(benchmark).into_iter().flat_map(|kind| kind.names(&benchmark.name)).collect()
    }

    /// How a benchmark is answered.
    pub(super) fn kinds(&self, benchmark: &Benchmark) -> Vec<Kind> {
        let ranked = self.mode != Mode::Generate && benchmark.likelihood.is_some();
        let generated = self.mode != Mode::Likelihood;
        let kinds = [generated.then_some(Kind::Generate), ranked.then_some(Kind::Likelihood)];
        kinds.into_iter().flatten().collect()
    }

    /// The bounds of completions: what the plan says, else the definition.
    pub(super) fn generation(&self, benchmark: &Benchmark) -> Generation {
        let mut bounds = benchmark.generation.clone().unwrap_or_default();
        bounds.max_tokens = self.max_tokens.unwrap_or(bounds.max_tokens);
        if !self.stop.is_empty() {
            bounds.stop.clone_from(&self.stop);
        }
        bounds
    }

    /// Whether every item of a benchmark can be answered by the policy.
    pub(super) fn check_room(
        &self,
        policy: &Policy,
        benchmark: &Benchmark,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Error> {
        if self.mode == Mode::Likelihood && benchmark.likelihood.is_none() {
            let what = format!("{}: it has no [likelihood], so its options cannot be ranked", benchmark.name);
            return Err(Error::Unusable { what });
        }
        if benchmark.has_images() && !policy.sees() {
            let what = format!(
                "{}: its items have pictures, and the policy does not see: use one that does, or ask without pictures \
                 (--images none)",
                benchmark.name
            );
            return Err(Error::Unusable { what });
        }
        let room = |messages: &[Message], images: &[TaskImage], tokens: usize, place: &str| {
            let prompt = policy.prompt_tokens(messages, images);
            let prompt = prompt.map_err(|e| Error::Unusable { what: format!("{place}: {e}") })?;
            policy.check_room(prompt, tokens, place)?;
            Ok::<_, Error>(prompt)
        };
        let max_tokens = self.generation(benchmark).max_tokens;
        let context = policy.decoder.config().max_position_embeddings;
        let mut cut = 0;
        for kind in self.kinds(benchmark) {
            for item in &benchmark.items {
                match (kind, &item.likelihood) {
                    (Kind::Generate, _) => {
                        let prompt = room(&item.task.prompt, &item.task.images, max_tokens, &item.place)?;
                        cut += usize::from(prompt.saturating_add(max_tokens) > context);
                    }
                    (Kind::Likelihood, Some(parts)) => {
                        room(&parts.messages(policy.is_raw()), &item.task.images, 1, &item.place)?;
                    }
                    (Kind::Likelihood, None) => {}
                }
            }
        }
        if cut > 0 {
            let prompts = (cut, benchmark.items.len());
            watch(Event::Cut { benchmark: &benchmark.name, prompts, max_tokens, context });
        }
        Ok(())
    }

    /// Everything the samples depend on.
    pub(super) fn settings(&self, policy: &Policy, benchmarks: &[Benchmark]) -> Result<Value, Error> {
        let mut tasks = Map::new();
        for benchmark in benchmarks {
            let bounds = self.generation(benchmark);
            let mut task = json!({
                "hash": benchmark.hash, "items": benchmark.items.len(), "verifier": benchmark.verifier(),
                "max_tokens": bounds.max_tokens, "stop": bounds.stop, "likelihood_of": benchmark.likelihood,
            });
            if let Some(images) = &benchmark.images {
                task["images"] = json!(images);
            }
            tasks.insert(benchmark.name.clone(), task);
        }
        let opened = &self.opened;
        let mut settings = json!({
            "policy": self.policy, "policy_hash": fingerprint::policy_sha256(policy)?,
            "template_hash": fingerprint::template_sha256(policy)?, "raw": policy.is_raw(), "dtype": self.dtype,
            "mode": self.mode,
            "samples": self.samples, "temperature": self.temperature(), "seed": self.seed, "limit": opened.limit,
            "shuffle_options": opened.shuffle_options, "no_context": opened.no_context, "few_shot": opened.few_shot,
            "system": opened.system, "version": env!("CARGO_PKG_VERSION"), "tasks": tasks,
        });
        if let Some(engine) = &self.engine_name {
            settings["engine"] = json!(engine);
        }
        Ok(settings)
    }
}

impl Kind {
    /// What results call a benchmark that is answered so.
    pub(super) fn names(self, benchmark: &str) -> Vec<String> {
        match self {
            Self::Generate => vec![benchmark.to_owned()],
            Self::Likelihood => RANKED.iter().map(|ending| format!("{benchmark}{ending}")).collect(),
        }
    }
}
