//! What `metrics.jsonl` says: the values of each metric over the steps, the stages, the evaluations.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::rows;
use crate::error::Error;
use crate::metrics::{self, filled};

/// A value at a step of the run.
pub(super) type Point = (u64, f64);

/// Larger magnitudes are no numbers to draw.
const LARGEST: f64 = 1e300;

/// The steps of a stage, as far as they were recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stage {
    pub name: String,
    pub first: u64,
    pub last: u64,
}

/// The recorded metrics of a run.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    /// First and last recorded step; none without rows.
    pub steps: Option<(u64, u64)>,
    /// In order. Step 0 belongs to none.
    pub stages: Vec<Stage>,
    series: BTreeMap<String, Vec<Point>>,
}

/// An evaluation of one set.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Evaluation {
    pub step: u64,
    /// "before", "after grpo", "step 100".
    pub when: String,
    pub set: String,
    /// None when neither greedy completions nor pass@1 were measured.
    pub accuracy: Option<f64>,
    pub interval: Option<(f64, f64)>,
    pub reward_mean: Option<f64>,
    pub truncated_frac: Option<f64>,
}

#[derive(Deserialize)]
struct MetricsLine {
    step: u64,
    stage: String,
    #[serde(flatten)]
    values: BTreeMap<String, Option<f64>>,
}

impl History {
    /// Reads `metrics.jsonl`, none where there is no such file; null is left out. In supervised stages `optim/loss`
    /// repeats `sft/loss`, on another scale than the loss of GRPO, and is left out too.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, Error> {
        let mut history = Self::default();
        let found = rows::each(path, &mut |line| {
            history.add(rows::parse(line)?);
            Ok(())
        })?;
        Ok(found.then_some(history))
    }

    fn add(&mut self, row: MetricsLine) {
        let (first, last) = self.steps.unwrap_or((row.step, row.step));
        self.steps = Some((first.min(row.step), last.max(row.step)));
        let supervised = row.values.contains_key(metrics::SFT_LOSS);
        if row.step > 0 {
            match self.stages.last_mut() {
                Some(stage) if stage.name == row.stage => stage.last = row.step,
                _ => self.stages.push(Stage { name: row.stage, first: row.step, last: row.step }),
            }
        }
        for (name, value) in row.values {
            let drawn = value.filter(|v| v.abs() < LARGEST);
            if let Some(value) = drawn
                && !(supervised && name == metrics::OPTIM_LOSS)
            {
                self.series.entry(name).or_default().push((row.step, value));
            }
        }
    }

    /// The values of a metric, in order; empty when the run has none.
    pub(super) fn series(&self, name: &str) -> &[Point] {
        self.series.get(name).map_or(&[], Vec::as_slice)
    }

    /// The names of all metrics with a value, with their places in [`metrics::ALL`]; others are of another version.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, usize)> {
        self.series.keys().filter_map(|name| Some((name.as_str(), metrics::position(name)?)))
    }

    /// The warnings that the run gave of itself: step, name, what was measured; in order.
    pub(super) fn health(&self) -> Vec<(u64, &str, f64)> {
        let named =
            self.series.iter().filter_map(|(name, points)| Some((name.strip_prefix("health/")?, points)));
        let mut found: Vec<_> = named
            .flat_map(|(name, points)| points.iter().map(move |(step, value)| (*step, name, *value)))
            .collect();
        found.sort_by_key(|(step, name, _)| (*step, *name));
        found
    }

    /// The evaluated sets.
    pub(super) fn sets(&self) -> impl Iterator<Item = &str> {
        self.series.keys().filter_map(|name| name.strip_prefix("eval/")?.strip_suffix("/ci95_low"))
    }

    /// The metric that the interval of a set belongs to: the accuracy of greedy completions, or else of samples.
    pub(super) fn accuracy(&self, set: &str) -> Option<String> {
        let samples = || filled(&filled(metrics::EVAL_PASS_AT, set), 1);
        let found = [filled(metrics::EVAL_GREEDY, set), samples()];
        found.into_iter().find(|name| self.series.contains_key(name))
    }

    /// Of each set the first evaluation and the last of each stage. `finished`: the last stage is over.
    pub(super) fn evaluations(&self, finished: bool) -> Vec<Evaluation> {
        let mut found = Vec::new();
        for set in self.sets() {
            let steps = self.series(&filled(metrics::EVAL_CI_LOW, set)).iter().map(|(step, _)| *step);
            let last_of = |stage: &Stage| steps.clone().rfind(|s| (stage.first..=stage.last).contains(s));
            let mut chosen: Vec<u64> = self.stages.iter().filter_map(last_of).collect();
            chosen.extend(steps.clone().next());
            chosen.sort_unstable();
            chosen.dedup();
            found.extend(chosen.into_iter().map(|step| self.evaluation(set, step, finished)));
        }
        found.sort_by_key(|e| e.step);
        found
    }

    fn evaluation(&self, set: &str, step: u64, finished: bool) -> Evaluation {
        let at = |name: &str| self.series(name).iter().find(|(s, _)| *s == step).map(|(_, value)| *value);
        let of = |pattern| at(&filled(pattern, set));
        let over = |stage: &&Stage| stage.last == step && (finished || Some(*stage) != self.stages.last());
        let when = match self.stages.iter().find(over) {
            _ if step == 0 => "before".to_owned(),
            Some(stage) => format!("after {}", stage.name),
            None => format!("step {step}"),
        };
        Evaluation {
            step,
            when,
            set: set.to_owned(),
            accuracy: self.accuracy(set).and_then(|name| at(&name)),
            interval: of(metrics::EVAL_CI_LOW).zip(of(metrics::EVAL_CI_HIGH)),
            reward_mean: of(metrics::EVAL_REWARD_MEAN),
            truncated_frac: of(metrics::EVAL_TRUNCATED_FRAC),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::{Value, json};

    pub(crate) fn history(rows: &[Value]) -> History {
        let mut history = History::default();
        for row in rows {
            history.add(serde_json::from_value(row.clone()).unwrap());
        }
        history
    }

    fn evaluated(step: u64, stage: &str, greedy: f64) -> Value {
        json!({"step": step, "stage": stage, "eval/a/b/greedy": greedy, "eval/a/b/ci95_low": 0.0,
            "eval/a/b/ci95_high": 1.0, "eval/a/b/truncated_frac": null})
    }

    #[test]
    fn evaluations_are_the_first_and_the_last_of_each_stage() {
        let rows = [
            evaluated(0, "start", 0.1),
            json!({"step": 1, "stage": "sft", "sft/loss": 2.0, "optim/loss": 2.0}),
            evaluated(2, "sft", 0.2),
            evaluated(3, "grpo", 0.3),
            evaluated(4, "grpo", 0.4),
        ];
        let history = history(&rows);
        let when = |finished| {
            let found = history.evaluations(finished);
            assert!(found.iter().all(|e| e.set == "a/b" && e.interval == Some((0.0, 1.0))));
            found.iter().map(|e| (e.when.clone(), e.accuracy.unwrap())).collect::<Vec<_>>()
        };
        let texts = |last: &str| {
            vec![("before".to_owned(), 0.1), ("after sft".to_owned(), 0.2), (last.to_owned(), 0.4)]
        };
        assert_eq!(when(true), texts("after grpo"));
        assert_eq!(when(false), texts("step 4"));
        assert_eq!(history.steps, Some((0, 4)));
        let stage = |name: &str, first, last| Stage { name: name.to_owned(), first, last };
        assert_eq!(history.stages, [stage("sft", 1, 2), stage("grpo", 3, 4)]);
        assert_eq!((history.series("sft/loss").len(), history.series("optim/loss").len()), (1, 0));
        assert_eq!(history.series("eval/a/b/truncated_frac"), []);
    }

    #[test]
    fn without_greedy_completions_the_accuracy_is_that_of_samples() {
        let mut row = json!({"step": 0, "stage": "start", "eval/t/pass@1": 0.25, "eval/t/pass@4": 0.5,
            "eval/t/ci95_low": 0.2, "eval/t/ci95_high": 0.3});
        assert_eq!(history(&[row.clone()]).evaluations(true)[0].accuracy, Some(0.25));
        row.as_object_mut().unwrap().remove("eval/t/pass@1");
        assert_eq!(history(&[row]).evaluations(true)[0].accuracy, None);
    }
}
