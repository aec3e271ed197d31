//! One task's entry of `results.json`.

use super::SampleRow;
use crate::eval::contamination::Contamination;
use crate::eval::judge::{JudgeVerdict, Opinion, agreement};
use crate::eval::{Accuracy, Benchmark, Commonest, Judged, TextMetric, solved};
use crate::number::{fixed, interval, with_error};
use crate::stats::Estimate;
use rlvr_rewards::Verdict;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// One task's outcome.
#[derive(Debug)]
pub struct TaskResult {
    /// Name of the benchmark, with an ending of [`super::RANKED`] for ranked options.
    pub name: String,
    /// Questions.
    pub items: usize,
    /// Accuracy over questions, with what several samples add.
    pub accuracy: Accuracy,
    /// Share of the completions in which an answer was found.
    pub parse_rate: f64,
    /// Share of the completions that were cut off.
    pub truncated_frac: f64,
    /// Mean score of what could be judged, if anything.
    pub reward_mean: Option<f64>,
    /// Mean length in tokens; 0 where it is not known.
    pub tokens_mean: f64,
    /// Completions that are right.
    pub correct: usize,
    /// All completions.
    pub completions: usize,
    /// Completions by verdict.
    verdicts: Map<String, Value>,
    /// Accuracy by group; empty unless there are several.
    pub(super) groups: Map<String, Value>,
    /// Metrics of the completions as texts, by name.
    texts: Vec<(&'static str, f64)>,
    /// What was answered most often.
    commonest: Option<Commonest>,
    /// What a judge says beside the verifier.
    judge: Option<Value>,
    /// Items that occur in training data, and accuracy without them.
    pub(super) contamination: Option<Value>,
}

impl TaskResult {
    /// The outcome of a benchmark whose results have this name, from all its samples.
    pub fn new(
        name: &str,
        benchmark: &Benchmark,
        samples: Vec<SampleRow>,
        contamination: Option<&Contamination>,
    ) -> Self {
        let items = benchmark.items.len();
        let judge = opinions(&samples);
        let judged: Vec<Judged> = samples.into_iter().map(|s| s.judged).collect();
        let texts = texts(benchmark, &judged);
        let unread = |v: Verdict| matches!(v, Verdict::NoAnswer | Verdict::Ambiguous | Verdict::Error);
        let all = judged.len().max(1) as f64;
        let share = |f: &dyn Fn(&Judged) -> bool| judged.iter().filter(|j| f(j)).count() as f64 / all;
        let scores: Vec<f64> = judged.iter().filter_map(|j| j.outcome.score).collect();
        let mut verdicts = Map::new();
        for j in &judged {
            let key = json!(j.outcome.verdict).as_str().unwrap_or_default().to_owned();
            let n = verdicts.get(&key).and_then(Value::as_u64).unwrap_or(0);
            verdicts.insert(key, json!(n + 1));
        }
        Self {
            name: name.to_owned(),
            items,
            accuracy: Accuracy::of_judged(items, &judged),
            parse_rate: share(&|j| !unread(j.outcome.verdict)),
            truncated_frac: share(&|j| j.truncated),
            reward_mean: (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64),
            tokens_mean: judged.iter().map(|j| j.tokens as f64).sum::<f64>() / all,
            correct: judged.iter().filter(|j| solved(&j.outcome)).count(),
            completions: judged.len(),
            verdicts,
            groups: groups(benchmark, &judged),
            texts,
            commonest: Commonest::of(&judged),
            contamination: contamination.map(|found| contaminated(benchmark, &judged, found)),
            judge,
        }
    }

    /// The entry of `results.json`.
    pub fn json(&self) -> Value {
        let a = &self.accuracy;
        let mut out = json!({
            "n": self.items, "accuracy": a.mean, "parse_rate": self.parse_rate, "ci95": [a.interval.0, a.interval.1],
            "interval": a.method.name(), "standard_error": a.standard_error, "samples": a.samples,
            "completions": self.completions, "correct": self.correct, "truncated_frac": self.truncated_frac,
            "reward_mean": self.reward_mean, "verdicts": self.verdicts,
        });
        if self.tokens_mean > 0.0 {
            out["tokens_mean"] = json!(self.tokens_mean);
        }
        for (name, estimate) in self.sampled() {
            out[name.as_str()] = json!(estimate.mean);
            out[format!("{name}_standard_error")] = json!(estimate.standard_error);
        }
        if !self.groups.is_empty() {
            out["groups"] = json!(self.groups);
        }
        if !self.texts.is_empty() {
            out["texts"] =
                self.texts.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        }
        if let Some(commonest) = &self.commonest {
            out["commonest_answer"] = json!(commonest);
        }
        if let Some(judge) = &self.judge {
            out["judge"] = judge.clone();
        }
        if let Some(found) = &self.contamination {
            out["contamination"] = found.clone();
        }
        out
    }

    /// pass@k and maj@k by name, of several samples.
    fn sampled(&self) -> impl Iterator<Item = (String, Estimate)> {
        let pass = self.accuracy.pass_at.iter().map(|(k, e)| (format!("pass@{k}"), *e));
        pass.chain(self.accuracy.majority.iter().map(|(k, e)| (format!("maj@{k}"), *e)))
    }

    /// Sentences about the task that deserve attention.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> {
        [self.commonest_note(), self.judge_note()].into_iter().flatten()
    }

    /// A policy that nearly always says the same.
    fn commonest_note(&self) -> Option<String> {
        let c = self.commonest.as_ref().filter(|c| c.is_suspicious())?;
        let percent = |x: f64| 100.0 * x;
        Some(format!(
            "{}: {:.0} % of the readable answers are `{}`, which is right for {:.0} % of those tasks",
            self.name,
            percent(c.share),
            c.answer,
            percent(c.reference_share)
        ))
    }

    /// What the judge said, and why it first said nothing.
    fn judge_note(&self) -> Option<String> {
        let judge = self.judge.as_ref()?;
        let percent = |v: &Value| v.as_f64().map_or("-".to_owned(), |x| format!("{:.1} %", 100.0 * x));
        let kappa = judge["with_verifier"]["kappa"].as_f64().map_or("-".to_owned(), |k| fixed(k, 3));
        let failure =
            judge["first_failure"].as_str().map_or(String::new(), |why| format!("; first failure: {why}"));
        Some(format!(
            "{}: the judge judged {} ({} unjudged), accuracy {}, agreement with the verifier {}, kappa {kappa}{failure}",
            self.name,
            judge["judged"],
            judge["unjudged"],
            percent(&judge["accuracy"]),
            percent(&judge["with_verifier"]["agreement"]),
        ))
    }

    /// Its row of the table.
    pub(super) fn cells(&self) -> Vec<String> {
        let shown =
            |(name, e): (String, Estimate)| format!("{name} {}", with_error(e.mean, e.standard_error));
        let sampled: Vec<String> = self.sampled().map(shown).collect();
        vec![
            self.name.clone(),
            self.items.to_string(),
            format!("{:.3}", self.accuracy.mean),
            interval(self.accuracy.interval),
            format!("{:.3}", self.parse_rate),
            sampled.join(", "),
            self.texts
                .iter()
                .map(|(name, value)| format!("{name} {value:.3}"))
                .collect::<Vec<_>>()
                .join(", "),
        ]
    }
}

/// The metrics that a benchmark asks for, against all answers that would be right.
fn texts(benchmark: &Benchmark, judged: &[Judged]) -> Vec<(&'static str, f64)> {
    let answers: Vec<Vec<String>> = benchmark.items.iter().map(|item| item.task.answers()).collect();
    let pairs = |said: fn(&Judged) -> &str| -> Vec<(&str, &[String])> {
        judged.iter().map(|j| (said(j), answers[j.task].as_slice())).collect()
    };
    let (whole, answer) = (pairs(|j| &j.text), pairs(|j| j.outcome.extracted.as_deref().unwrap_or(&j.text)));
    // Words of a short answer are those of the answer, without the tags around it; of a report they are all of it.
    let of = |metric: &TextMetric| if *metric == TextMetric::TokenF1 { &answer } else { &whole };
    benchmark.metrics.iter().map(|metric| (metric.name(), metric.value(of(metric)))).collect()
}

/// What a judge says about the samples beside the verifier; none without a judge. Its accuracy is over what it judged.
fn opinions(samples: &[SampleRow]) -> Option<Value> {
    let given: Vec<(&SampleRow, &Opinion)> =
        samples.iter().filter_map(|s| Some((s, s.opinion.as_ref()?))).collect();
    if given.is_empty() {
        return None;
    }
    let judged: Vec<_> = given.iter().filter(|(_, o)| o.verdict != JudgeVerdict::Unjudged).collect();
    let correct = judged.iter().filter(|(_, o)| o.verdict == JudgeVerdict::Correct).count();
    let pairs: Vec<(bool, bool)> = (judged.iter())
        .filter(|(s, _)| !s.judged.outcome.verdict.is_masked())
        .map(|(s, o)| (solved(&s.judged.outcome), o.verdict == JudgeVerdict::Correct))
        .collect();
    let failure = given.iter().find(|(_, o)| o.verdict == JudgeVerdict::Unjudged).map(|(_, o)| &o.reason);
    let accuracy = (!judged.is_empty()).then(|| correct as f64 / judged.len() as f64);
    Some(json!({
        "judged": judged.len(), "unjudged": given.len() - judged.len(), "correct": correct, "accuracy": accuracy,
        "with_verifier": agreement(&pairs), "first_failure": failure,
    }))
}

/// The items that occur in training data, and accuracy without them.
fn contaminated(benchmark: &Benchmark, judged: &[Judged], found: &Contamination) -> Value {
    let all = benchmark.items.len();
    let clean: Vec<usize> = (0..all).filter(|i| !found.items.contains(i)).collect();
    let without = of_items(&clean, judged);
    let ids: Vec<&str> = found.items.iter().map(|i| benchmark.items[*i].task.id.as_str()).collect();
    json!({
        "items": ids.len(), "of": all, "too_short": found.too_short, "ids": ids,
        "without": without,
    })
}

/// Accuracy over some of the items.
fn of_items(items: &[usize], judged: &[Judged]) -> Value {
    let place: BTreeMap<usize, usize> = items.iter().enumerate().map(|(place, i)| (*i, place)).collect();
    let mine: Vec<Judged> =
        (judged.iter()).filter_map(|j| Some(Judged { task: *place.get(&j.task)?, ..j.clone() })).collect();
    let found = Accuracy::of_judged(items.len(), &mine);
    json!({"n": items.len(), "accuracy": found.mean, "ci95": [found.interval.0, found.interval.1]})
}

/// Accuracy by group, where a benchmark has several.
fn groups(benchmark: &Benchmark, judged: &[Judged]) -> Map<String, Value> {
    let mut of_group: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, item) in benchmark.items.iter().enumerate() {
        if let Some(group) = &item.group {
            of_group.entry(group).or_default().push(i);
        }
    }
    if of_group.len() < 2 {
        return Map::new();
    }
    let mut found = Map::new();
    for (group, items) in of_group {
        let mut result = of_items(&items, judged);
        if !benchmark.metrics.is_empty() {
            let mine: Vec<Judged> = judged.iter().filter(|j| items.contains(&j.task)).cloned().collect();
            let texts = texts(benchmark, &mine);
            result["texts"] = texts.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        }
        found.insert(group.to_owned(), result);
    }
    found
}
