//! Accuracy on held-out tasks: greedy and sampled, with intervals and pass@k; benchmarks, their checks, options scored
//! by likelihood.

mod accuracy;
mod benchmark;
pub mod builtin;
mod commonest;
pub mod contamination;
mod exchange;
pub mod fingerprint;
pub mod http;
mod images;
mod item;
pub mod judge;
pub mod likelihood;
pub(crate) mod recorded;
mod rows;
pub mod sample_log;
mod task_file;
mod text_metric;
pub mod validate;

pub use accuracy::{Accuracy, Question, RESAMPLES, SEED};
pub use benchmark::{Benchmark, Definition, OpenSettings, locate};
pub use commonest::Commonest;
pub use images::ImageArm;
pub use item::{Choice, Item, PromptParts, gold, short_fields};
pub use task_file::{
    Continuation, FewShot, FieldKinds, Fields, Generation, Likelihood, SourceFile, TaskFile,
};
pub use text_metric::TextMetric;

use crate::config::{EvalConfig, RunConfig};
use crate::data::TaskSource;
use crate::engine::Engine;
use crate::error::Error;
use crate::generate::Request;
use crate::metrics::{self, MetricsRow, filled};
use crate::policy::Policy;
use crate::stats::pass_at_k;
use rlvr_rewards::{Outcome, Response, Reward, Task, Verdict, score_batch};
use rlvr_rollout::{SampleKey, SamplingParams};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

/// One data set's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalResult {
    /// Name of the data source.
    pub set: String,
    /// Tasks.
    pub n: usize,
    /// Tasks whose greedy completion is correct; none without greedy completions.
    pub correct: Option<usize>,
    /// Share of correct greedy completions, or mean accuracy of the samples.
    pub accuracy: f64,
    /// 95 % interval of the accuracy over tasks, see [`Accuracy`]: Wilson's for one completion a task, otherwise the
    /// bootstrap's.
    pub ci95: (f64, f64),
    /// Unbiased pass@k of the samples, by k.
    pub pass_at: Vec<(usize, f64)>,
    /// Mean reward of all completions that could be judged, if any.
    pub reward_mean: Option<f64>,
    /// Mean score of each part of the reward, by name.
    #[serde(default)]
    pub parts: BTreeMap<String, f64>,
    /// Share of completions without an answer.
    pub no_answer_frac: f64,
    /// Share of completions cut off.
    pub truncated_frac: f64,
    /// Mean length in tokens.
    pub tokens_mean: f64,
}

/// A judged completion of an evaluation.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Index of the task in the evaluated list.
    pub task: usize,
    /// Its text.
    pub text: String,
    /// Length in tokens.
    pub tokens: usize,
    /// Whether it was cut off.
    pub truncated: bool,
    /// What the reward found.
    pub outcome: Outcome,
}

/// How an evaluation generates.
#[derive(Debug, Clone)]
pub struct EvalSettings {
    /// Greedy completions too.
    pub greedy: bool,
    /// Samples a task.
    pub samples: usize,
    /// The k of pass@k.
    pub pass_k: Vec<usize>,
    /// How samples are drawn; `max_tokens` holds for greedy completions too.
    pub sampling: SamplingParams,
    /// Strings that end a completion and stay part of it.
    pub stop: Vec<String>,
    /// Completions decoded together; none for what suits the device.
    pub batch: Option<usize>,
    /// Seed of the samples.
    pub seed: u64,
}

impl EvalSettings {
    /// The settings of a run's `[eval]`, with the sampling and the stop strings of its last stage that samples where it names
    /// none.
    pub fn new(run: &RunConfig, config: &EvalConfig) -> Self {
        let stage = run.last_grpo().map(|(_, stage)| stage);
        let sampling =
            config.sampling.clone().or_else(|| stage.map(|s| s.sampling.clone())).unwrap_or_default();
        let stop = config.stop.clone().or_else(|| stage.map(|s| s.stop.clone())).unwrap_or_default();
        Self {
            greedy: config.greedy,
            samples: config.samples,
            pass_k: config.pass_k.clone(),
            sampling,
            stop,
            batch: config.batch,
            // Another stream than training: the same key would give the same noise.
            seed: run.seed ^ 0x6576_616c,
        }
    }
}

/// Whether an outcome counts as solved: every counted part of the reward is satisfied.
pub fn solved(outcome: &Outcome) -> bool {
    outcome.verdict == Verdict::Correct
}

/// Generates, by an engine that has the policy's weights, and judges; returns the result and the completions, greedy ones first.
///
/// # Errors
/// A prompt that cannot be used, or cancellation.
pub fn evaluate(
    (policy, engine): (&Policy, &dyn Engine),
    set: &str,
    tasks: &[&Task],
    reward: &dyn Reward,
    settings: &EvalSettings,
    stop: Option<&AtomicBool>,
) -> Result<(EvalResult, Vec<Judged>), Error> {
    let mut judged = Vec::new();
    if settings.greedy {
        let greedy = SamplingParams { temperature: 0.0, ..settings.sampling.clone() };
        judged.extend(complete((policy, engine), tasks, reward, &greedy, 1, settings, stop)?);
    }
    let first_sample = judged.len();
    if settings.samples > 0 {
        let samples = settings.samples;
        judged.extend(complete(
            (policy, engine),
            tasks,
            reward,
            &settings.sampling,
            samples,
            settings,
            stop,
        )?);
    }
    Ok((summarize(set, tasks.len(), &judged, first_sample, settings), judged))
}

fn complete(
    (policy, engine): (&Policy, &dyn Engine),
    tasks: &[&Task],
    reward: &dyn Reward,
    sampling: &SamplingParams,
    samples: usize,
    settings: &EvalSettings,
    stop: Option<&AtomicBool>,
) -> Result<Vec<Judged>, Error> {
    let prompts = tasks.iter().map(|t| policy.prompt_of(t)).collect::<Result<Vec<_>, _>>()?;
    let request = Request {
        stop: &settings.stop,
        max_batch_rows: settings.batch,
        cancel: stop,
        ..Request::new(&prompts, samples, sampling, SampleKey::new(settings.seed, 0))
    };
    let (groups, _) = engine.complete(policy, &request, None)?;
    let mut texts = Vec::new();
    for (task, group) in groups.iter().enumerate() {
        for c in group {
            texts.push((task, policy.text(&c.token_ids)?, c.token_ids.len(), c.finish_reason.is_truncated()));
        }
    }
    let items: Vec<_> = texts
        .iter()
        .map(|(task, text, tokens, truncated)| {
            (tasks[*task], Response { text, truncated: *truncated, tokens: Some(*tokens) })
        })
        .collect();
    let outcomes = score_batch(reward, &items);
    Ok((texts.into_iter().zip(outcomes))
        .map(|((task, text, tokens, truncated), outcome)| Judged { task, text, tokens, truncated, outcome })
        .collect())
}

/// Statistics of judged completions; those before `first_sample` are the greedy ones.
fn summarize(
    set: &str,
    n: usize,
    judged: &[Judged],
    first_sample: usize,
    settings: &EvalSettings,
) -> EvalResult {
    let (greedy, sampled) = judged.split_at(first_sample);
    let correct = settings.greedy.then(|| greedy.iter().filter(|j| solved(&j.outcome)).count());
    let mut per_task = vec![(0usize, 0usize); n];
    for j in sampled {
        per_task[j.task].0 += 1;
        per_task[j.task].1 += usize::from(solved(&j.outcome));
    }
    let drawn: Vec<(usize, usize)> = per_task.into_iter().filter(|(samples, _)| *samples > 0).collect();
    let mean =
        |values: Vec<f64>| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    let pass_at = (settings.pass_k.iter())
        .filter_map(|k| {
            let each: Option<Vec<f64>> =
                drawn.iter().map(|(s, c)| pass_at_k(*s as u64, *c as u64, *k as u64)).collect();
            Some((*k, mean(each?)?))
        })
        .collect();
    let counted = Accuracy::of_judged(n, if settings.greedy { greedy } else { sampled });
    let mut parts: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for part in judged.iter().flat_map(|j| &j.outcome.parts) {
        parts.entry(&part.name).or_default().extend(part.score);
    }
    let share = |f: &dyn Fn(&Judged) -> bool| {
        judged.iter().filter(|j| f(j)).count() as f64 / judged.len().max(1) as f64
    };
    EvalResult {
        set: set.to_owned(),
        n,
        correct,
        accuracy: counted.mean,
        ci95: counted.interval,
        pass_at,
        reward_mean: mean(judged.iter().filter_map(|j| j.outcome.score).collect()),
        parts: parts
            .into_iter()
            .filter_map(|(name, scores)| Some((name.to_owned(), mean(scores)?)))
            .collect(),
        no_answer_frac: share(&|j| j.outcome.verdict == Verdict::NoAnswer),
        truncated_frac: share(&|j| j.truncated),
        tokens_mean: mean(judged.iter().map(|j| j.tokens as f64).collect()).unwrap_or(0.0),
    }
}

impl EvalResult {
    /// Puts the result among a step's metrics.
    pub fn record(&self, row: &mut MetricsRow) {
        let mut set = |pattern: &str, value: f64| row.set(filled(pattern, &self.set), value);
        if self.correct.is_some() {
            set(metrics::EVAL_GREEDY, self.accuracy);
        }
        set(metrics::EVAL_CI_LOW, self.ci95.0);
        set(metrics::EVAL_CI_HIGH, self.ci95.1);
        if let Some(mean) = self.reward_mean {
            set(metrics::EVAL_REWARD_MEAN, mean);
        }
        set(metrics::EVAL_NO_ANSWER_FRAC, self.no_answer_frac);
        set(metrics::EVAL_TRUNCATED_FRAC, self.truncated_frac);
        set(metrics::EVAL_TOKENS_MEAN, self.tokens_mean);
        for (name, value) in &self.parts {
            row.set(filled(&filled(metrics::EVAL_PART_MEAN, &self.set), name), *value);
        }
        for (k, value) in &self.pass_at {
            row.set(filled(&filled(metrics::EVAL_PASS_AT, &self.set), k), *value);
        }
    }
}

/// The tasks of a source that an evaluation uses: the first `limit`.
pub fn tasks_of(source: &TaskSource, limit: Option<usize>) -> Vec<&Task> {
    (0..source.len().min(limit.unwrap_or(usize::MAX))).map(|i| source.task(i)).collect()
}
