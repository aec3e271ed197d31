//! Warnings that a run gives of itself: each once, at the step at which the last steps of a stage say that something is
//! wrong. They are a function of the metrics and of a state that checkpoints keep, so a resumed run gives those of an
//! uninterrupted one.
use crate::config::HealthConfig;
use crate::metrics::{self as m, MetricsRow, filled};
use crate::number::fixed;
use crate::train::grpo::Group;
use rlvr_rewards::noise::FLIPPED;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Entropy may fall as far as it likes where this share of the groups is solved.
const SOLVED: f64 = 0.5;
/// Behind the name of a warning stands the part of the reward that it is about.
const DIVERGENCE: &str = "reward_hacking/";

/// A warning: its name, what was measured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Warning {
    pub(crate) name: String,
    pub(crate) value: f64,
}

impl Warning {
    /// The metric that records it.
    pub(crate) fn metric(&self) -> String {
        filled(m::HEALTH, &self.name)
    }
}

/// What a warning says to people, by what `metrics.jsonl` keeps of it; none for names of other versions.
pub(crate) fn text(name: &str, value: f64) -> Option<String> {
    let v = fixed(value, 3);
    let percent = || format!("{:.0} %", 100.0 * value);
    Some(match name {
        "kl_explosion" => format!(
            "the policy moves away, its KL is {v} nats a token: lower optim.lr, raise loss.kl_coef, or go back to an earlier \
             checkpoint"
        ),
        "entropy_collapse" => format!(
            "the entropy has collapsed to {v} nats a token, so completions hardly differ: raise loss.entropy_coef or the upper \
             clip (objective.high), lower optim.lr, or take harder tasks"
        ),
        "length_runaway" => format!(
            "completions have grown to {v} tokens: read some in rollouts.jsonl, and charge for length (a `length` reward, \
             advantage = \"dr_grpo\" with aggregate = \"constant\")"
        ),
        "all_truncated" => format!(
            "{} of the completions are cut off: raise sampling.max_tokens, or check that the policy knows its end token",
            percent()
        ),
        "no_signal" => format!(
            "{} of the groups have equal rewards and teach nothing: take tasks of another difficulty ([stage.curriculum], rlvr \
             data pass-rate), a graded reward, or a larger group_size",
            percent()
        ),
        "mismatch_drift" => format!(
            "sampler and trainer differ by a KL of {v} nats a token, so the trained distribution is not the sampled one: \
             compute in f32, set loss.sampler_correction = \"token_truncate\", and report it"
        ),
        _ => {
            let part = name.strip_prefix(DIVERGENCE)?;
            format!(
                "the reward rises while {part:?}, which has no weight in it, has fallen by {v}: read completions with a high \
                 reward, and give {part:?} a weight or gate the reward by it"
            )
        }
    })
}

/// The values of a metric over the steps of a stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Series {
    seen: u64,
    first: Vec<f64>,
    last: Vec<f64>,
}

impl Series {
    fn push(&mut self, value: f64, window: usize) {
        // A window that has become longer gets nothing of the middle.
        if self.first.len() < window && self.first.len() as u64 == self.seen {
            self.first.push(value);
        }
        self.seen += 1;
        self.last.push(value);
        // It may have become shorter by more than one.
        self.last.drain(..self.last.len().saturating_sub(window));
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) }
}

/// What a run has seen of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Health {
    /// The warnings given, with their steps.
    given: BTreeMap<String, u64>,
    /// The stage that the values below are of.
    stage: usize,
    series: BTreeMap<String, Series>,
    /// Parts of the reward without a weight, at the last step.
    #[serde(skip)]
    unweighted: BTreeSet<String>,
}

impl Health {
    /// Whether there is nothing to keep.
    pub(crate) fn is_empty(&self) -> bool {
        self.given.is_empty() && self.series.is_empty()
    }

    /// Looks at which parts of the reward have no weight.
    pub(crate) fn look_at_parts(&mut self, groups: &[Group]) {
        let parts = groups.iter().flat_map(|g| &g.judgements).flat_map(|j| &j.outcome.parts);
        let unweighted = parts.filter(|p| p.weight == 0.0 && p.name != FLIPPED);
        self.unweighted = unweighted.map(|p| p.name.clone()).collect();
    }

    /// Takes in a step of a stage, by its index. Returns the warnings that are new.
    pub(crate) fn observe(&mut self, row: &MetricsRow, stage: usize, config: &HealthConfig) -> Vec<Warning> {
        if !config.enabled {
            return Vec::new();
        }
        if self.stage != stage {
            (self.stage, self.series) = (stage, BTreeMap::new());
        }
        let fixed = [
            m::POLICY_REF_KL,
            m::POLICY_KL,
            m::POLICY_ENTROPY,
            m::COMPLETION_TOKENS_MEAN,
            m::COMPLETION_TRUNCATED_FRAC,
            m::GROUP_NO_SIGNAL_FRAC,
            m::GROUP_SOLVED_FRAC,
            m::POLICY_MISMATCH_KL,
            m::REWARD_MEAN,
        ];
        let parts = self.unweighted.iter().map(|part| filled(m::REWARD_PART_MEAN, part));
        // Weights that were trained since they sampled are meant to differ.
        let moved = row.get(m::POLICY_LAG_MAX).is_some_and(|lag| lag > 0.0);
        let fixed = fixed.iter().filter(|name| !moved || **name != m::POLICY_MISMATCH_KL);
        for name in fixed.map(|name| (*name).to_owned()).chain(parts) {
            // A state with NaN could not be read back.
            if let Some(value) = row.get(&name).filter(|v| v.is_finite()) {
                self.series.entry(name).or_default().push(value, config.window);
            }
        }
        let mut found = self.found(config);
        found.retain(|warning| !self.given.contains_key(&warning.name));
        self.given.extend(found.iter().map(|warning| (warning.name.clone(), row.step)));
        found
    }

    /// The median of the last steps; none before there are enough.
    fn now(&self, name: &str, window: usize) -> Option<f64> {
        let series = self.series.get(name)?;
        (series.last.len() >= window).then(|| median(&series.last))
    }

    /// The medians of the first and the last steps; none while they overlap.
    fn change(&self, name: &str, window: usize) -> Option<(f64, f64)> {
        let series = self.series.get(name)?;
        (series.seen >= 2 * window as u64).then(|| (median(&series.first), median(&series.last)))
    }

    /// Everything that is wrong now.
    fn found(&self, c: &HealthConfig) -> Vec<Warning> {
        let now = |name: &str| self.now(name, c.window);
        let change = |name: &str| self.change(name, c.window);
        let kl = [m::POLICY_REF_KL, m::POLICY_KL].into_iter().filter_map(now).reduce(f64::max);
        let unsolved = now(m::GROUP_SOLVED_FRAC).is_none_or(|solved| solved < SOLVED);
        let entropy = change(m::POLICY_ENTROPY)
            .filter(|(first, last)| unsolved && *first > 0.0 && *last < c.min_entropy_frac * first);
        let length = change(m::COMPLETION_TOKENS_MEAN)
            .filter(|(first, last)| *first > 0.0 && *last > c.max_length_growth * first);
        let found = [
            ("kl_explosion", kl.filter(|kl| *kl > c.max_kl)),
            ("entropy_collapse", entropy.map(|(_, last)| last)),
            ("length_runaway", length.map(|(_, last)| last)),
            ("all_truncated", now(m::COMPLETION_TRUNCATED_FRAC).filter(|v| *v >= c.max_truncated_frac)),
            ("no_signal", now(m::GROUP_NO_SIGNAL_FRAC).filter(|v| *v >= c.max_no_signal_frac)),
            ("mismatch_drift", now(m::POLICY_MISMATCH_KL).filter(|v| *v > c.max_mismatch_kl)),
        ];
        let warning =
            |(name, value): (&str, Option<f64>)| Some(Warning { name: name.to_owned(), value: value? });
        let mut found: Vec<Warning> = found.into_iter().filter_map(warning).collect();
        let rises = change(m::REWARD_MEAN).is_some_and(|(first, last)| last - first > c.max_divergence);
        for part in self.unweighted.iter().filter(|_| rises) {
            let Some((first, last)) = change(&filled(m::REWARD_PART_MEAN, part)) else { continue };
            if first - last > c.max_divergence {
                found.push(Warning { name: format!("{DIVERGENCE}{part}"), value: first - last });
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::judging::Judgement;
    use rlvr_rewards::{Outcome, Verdict};
    use serde_json::{Map, json};

    /// A run of `steps` steps in which nothing is wrong but what `change` does to a row.
    fn given(steps: u64, config: &HealthConfig, change: impl Fn(u64, &mut MetricsRow)) -> Vec<(u64, String)> {
        let mut health = Health { unweighted: ["format".to_owned()].into(), ..Health::default() };
        let mut found = Vec::new();
        for step in 1..=steps {
            let mut row = MetricsRow::new(step, "grpo");
            for (name, value) in [
                (m::POLICY_REF_KL, 0.1),
                (m::POLICY_KL, 0.001),
                (m::POLICY_ENTROPY, 1.0),
                (m::COMPLETION_TOKENS_MEAN, 50.0),
                (m::COMPLETION_TRUNCATED_FRAC, 0.1),
                (m::GROUP_NO_SIGNAL_FRAC, 0.3),
                (m::GROUP_SOLVED_FRAC, 0.1),
                (m::POLICY_MISMATCH_KL, 1e-9),
                (m::REWARD_MEAN, 0.3),
                ("reward/format/mean", 0.8),
            ] {
                row.set(name, value);
            }
            change(step, &mut row);
            // As a checkpoint keeps it between any two steps.
            let unweighted = health.unweighted.clone();
            health = serde_json::from_value(json!(health)).unwrap();
            health.unweighted = unweighted;
            for warning in health.observe(&row, 0, config) {
                let said = text(&warning.name, warning.value).unwrap();
                assert!(said.contains(':'), "{said} has no fix");
                assert!(m::position(&warning.metric()).is_some());
                found.push((step, warning.name));
            }
        }
        found
    }

    fn from(start: u64, name: &'static str, value: f64) -> impl Fn(u64, &mut MetricsRow) {
        move |step, row| {
            if step >= start {
                row.set(name, value);
            }
        }
    }

    #[test]
    fn each_warning_is_given_once_and_not_for_a_single_step() {
        let config = HealthConfig::default();
        assert_eq!(given(40, &config, |_, _| {}), []);
        for (name, metric, value) in [
            ("kl_explosion", m::POLICY_REF_KL, 1.5),
            ("kl_explosion", m::POLICY_KL, 1.5),
            ("entropy_collapse", m::POLICY_ENTROPY, 0.05),
            ("length_runaway", m::COMPLETION_TOKENS_MEAN, 200.0),
            ("all_truncated", m::COMPLETION_TRUNCATED_FRAC, 1.0),
            ("no_signal", m::GROUP_NO_SIGNAL_FRAC, 1.0),
            ("mismatch_drift", m::POLICY_MISMATCH_KL, 0.1),
        ] {
            // Three of the last five steps make the median.
            assert_eq!(given(40, &config, from(20, metric, value)), [(22, name.to_owned())]);
            let spike = |step: u64, row: &mut MetricsRow| {
                if step.is_multiple_of(7) {
                    row.set(metric, value);
                }
            };
            assert_eq!(given(40, &config, spike), [], "{metric}");
            let off = HealthConfig { enabled: false, ..HealthConfig::default() };
            assert_eq!(given(40, &off, from(20, metric, value)), []);
        }
    }

    #[test]
    fn a_mismatch_to_older_weights_is_no_drift() {
        let config = HealthConfig::default();
        let apart = from(20, m::POLICY_MISMATCH_KL, 0.1);
        let lagging = |lag: f64| {
            let apart = &apart;
            move |step: u64, row: &mut MetricsRow| {
                apart(step, row);
                row.set(m::POLICY_LAG_MAX, lag);
            }
        };
        assert_eq!(given(40, &config, lagging(2.0)), []);
        assert_eq!(given(40, &config, lagging(0.0)), [(22, "mismatch_drift".to_owned())]);
    }

    #[test]
    fn only_parts_that_weigh_nothing_are_watched() {
        let part = |name: &str, weight: f64| json!({"name": name, "weight": weight, "score": 1.0, "verdict": "correct", "extracted": null, "method": "", "reason": ""});
        let parts =
            json!([part("answer", 1.0), part("format", 0.0), part("length", -0.5), part(FLIPPED, 0.0)]);
        let mut outcome = Outcome::of(Verdict::Correct, "", "");
        outcome.parts = serde_json::from_value(parts).unwrap();
        let judgement = Judgement { text: String::new(), truncated: false, reward: Some(1.0), outcome };
        let group = Group {
            id: "a".to_owned(),
            reference: json!(null),
            meta: Map::new(),
            prompt_text: String::new(),
            prompt: vec![1],
            images: vec![],
            image_names: vec![],
            completions: vec![],
            judgements: vec![judgement],
            advantages: vec![],
            given: vec![],
        };
        let mut health = Health::default();
        health.look_at_parts(&[group]);
        assert_eq!(health.unweighted, ["format".to_owned()].into());
        // Those of a step, not of all before.
        health.look_at_parts(&[]);
        assert!(health.unweighted.is_empty());
    }

    #[test]
    fn numbers_that_are_not_finite_are_left_out() {
        let config = HealthConfig { window: 2, ..HealthConfig::default() };
        let mut health = Health::default();
        for (step, kl) in [(1, 2.0), (2, f64::INFINITY), (3, f64::NAN), (4, 2.0)] {
            let mut row = MetricsRow::new(step, "grpo");
            row.set(m::POLICY_REF_KL, kl);
            let found = health.observe(&row, 0, &config);
            assert_eq!(found.iter().map(|w| w.value).collect::<Vec<_>>(), vec![2.0; usize::from(step == 4)]);
            // A checkpoint can be read back.
            assert_eq!(serde_json::from_str::<Health>(&json!(health).to_string()).unwrap(), health);
        }
    }

    #[test]
    fn a_window_may_change_when_a_run_is_resumed() {
        let mut series = Series::default();
        let all = |range: std::ops::Range<u64>| range.map(|v| v as f64).collect::<Vec<_>>();
        (0..12).for_each(|v| series.push(v as f64, 5));
        series.push(12.0, 2);
        assert_eq!((&series.first, &series.last), (&all(0..5), &all(11..13)));
        (13..30).for_each(|v| series.push(v as f64, 8));
        assert_eq!((&series.first, &series.last), (&all(0..5), &all(22..30)));
    }

    #[test]
    fn low_entropy_is_no_collapse_where_tasks_are_solved() {
        let solved = |step: u64, row: &mut MetricsRow| {
            from(20, m::POLICY_ENTROPY, 0.01)(step, row);
            from(18, m::GROUP_SOLVED_FRAC, 0.8)(step, row);
        };
        assert_eq!(given(40, &HealthConfig::default(), solved), []);
    }

    #[test]
    fn a_reward_that_rises_while_a_metric_falls() {
        let both = |step: u64, row: &mut MetricsRow| {
            row.set(m::REWARD_MEAN, 0.3 + 0.01 * step as f64);
            row.set("reward/format/mean", 0.8 - 0.01 * step as f64);
        };
        let found = given(40, &HealthConfig::default(), both);
        assert_eq!(found, [(16, "reward_hacking/format".to_owned())]);
        // A part that falls along with the reward is no sign of it, nor one that falls while the reward stays.
        let falls = |step: u64, row: &mut MetricsRow| {
            row.set("reward/format/mean", 0.8 - 0.01 * step as f64);
        };
        assert_eq!(given(40, &HealthConfig::default(), falls), []);
    }

    #[test]
    fn a_stage_is_compared_with_its_own_beginning() {
        let (config, mut health) = (HealthConfig::default(), Health::default());
        let row = |step: u64, tokens: f64| {
            let mut row = MetricsRow::new(step, "grpo");
            row.set(m::COMPLETION_TOKENS_MEAN, tokens);
            row
        };
        for step in 1..=10 {
            assert_eq!(health.observe(&row(step, 10.0), 0, &config), []);
        }
        for step in 11..=40 {
            assert_eq!(health.observe(&row(step, 100.0), 1, &config), []);
        }
    }
}
