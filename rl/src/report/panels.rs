//! Which metrics share a chart.

use super::chart::{Chart, Series};
use super::history::{History, Point};
use crate::metrics::{self as m, filled};

/// A chart: its title, the metrics in it, and whether their many values get a moving average.
struct Panel(&'static str, &'static [&'static str], bool);

const PANELS: &[Panel] = &[
    Panel("Held-out accuracy", &[m::EVAL_GREEDY, m::EVAL_PASS_AT], false),
    Panel("Held-out reward", &[m::EVAL_REWARD_MEAN, m::EVAL_PART_MEAN], false),
    Panel("Reward", &[m::REWARD_MEAN, m::REWARD_PART_MEAN], true),
    Panel("Groups", &[m::GROUP_NO_SIGNAL_FRAC, m::GROUP_SOLVED_FRAC, m::GROUP_FAILED_FRAC], true),
    Panel("Spread of the reward", &[m::REWARD_STD, m::GROUP_REWARD_STD], true),
    Panel(
        "Without an answer or a verdict",
        &[
            m::REWARD_NO_ANSWER_FRAC,
            m::REWARD_UNVERIFIABLE_FRAC,
            m::REWARD_ERROR_FRAC,
            m::REWARD_FLIPPED_FRAC,
            m::EVAL_NO_ANSWER_FRAC,
        ],
        true,
    ),
    Panel("Length", &[m::COMPLETION_TOKENS_MEAN, m::COMPLETION_TOKENS_MAX, m::EVAL_TOKENS_MEAN], true),
    Panel("Cut off", &[m::COMPLETION_TRUNCATED_FRAC, m::EVAL_TRUNCATED_FRAC], true),
    Panel("Entropy", &[m::POLICY_ENTROPY, m::POLICY_ENTROPY_THRESHOLD], true),
    Panel("KL", &[m::POLICY_REF_KL, m::POLICY_KL], true),
    Panel("Weight of the KL penalty", &[m::POLICY_KL_COEF], false),
    Panel("Clipped tokens", &[m::POLICY_CLIP_LOW_FRAC, m::POLICY_CLIP_HIGH_FRAC], true),
    Panel("Importance ratio", &[m::POLICY_RATIO_MAX], true),
    Panel("Sampler and trainer: KL", &[m::POLICY_MISMATCH_KL], true),
    Panel("Sampler and trainer: largest difference", &[m::POLICY_MISMATCH_MAX], true),
    Panel("Supervised loss", &[m::SFT_LOSS, m::SFT_VALIDATION_LOSS], true),
    Panel("Loss", &[m::OPTIM_LOSS], true),
    Panel("Balance of experts", &[m::OPTIM_ROUTER_BALANCE], true),
    Panel("Gradient norm", &[m::OPTIM_GRAD_NORM], true),
    Panel("Learning rate", &[m::OPTIM_LR], false),
    Panel("Throughput", &[m::THROUGHPUT_DECODE, m::THROUGHPUT_TRAIN], true),
    Panel("Time", &[m::TIME_PHASE], true),
    Panel("Memory", &[m::MEMORY_PEAK_RSS], false),
];

/// The charts of what a run recorded; none without a step.
pub(super) fn charts(history: &History) -> Vec<Chart> {
    let Some(steps) = history.steps else { return Vec::new() };
    let draw = |Panel(title, patterns, smooth): &Panel| {
        let place = |index: usize| patterns.iter().position(|pattern| m::ALL[index].name == *pattern);
        let mut names: Vec<(usize, &str, usize)> =
            history.names().filter_map(|(name, index)| Some((place(index)?, name, index))).collect();
        names.sort_unstable();
        let series: Vec<Series<'_>> = names
            .into_iter()
            .map(|(_, name, index)| Series {
                name,
                help: m::ALL[index].help,
                points: history.series(name),
                band: band(history, name),
            })
            .collect();
        (!series.is_empty()).then(|| Chart::new(title, &series, steps, &history.stages, *smooth))
    };
    PANELS.iter().filter_map(draw).collect()
}

/// The interval around an accuracy; empty for other metrics.
fn band<'a>(history: &'a History, name: &str) -> (&'a [Point], &'a [Point]) {
    match history.sets().find(|set| history.accuracy(set).as_deref() == Some(name)) {
        Some(set) => {
            let end = |pattern| history.series(&filled(pattern, set));
            (end(m::EVAL_CI_LOW), end(m::EVAL_CI_HIGH))
        }
        None => (&[], &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::history;
    use super::*;
    use serde_json::json;

    #[test]
    fn every_chart_names_known_metrics_and_none_twice() {
        let mut all: Vec<&str> = PANELS.iter().flat_map(|panel| panel.1).copied().collect();
        assert!(all.iter().all(|name| m::ALL.iter().any(|metric| metric.name == *name)), "{all:?}");
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn charts_are_those_of_the_recorded_metrics() {
        let rows = [
            json!({"step": 1, "stage": "grpo", "reward/mean": 0.5, "reward/b/mean": 0.1, "reward/a/mean": 0.2,
                "eval/t/greedy": 0.3, "eval/t/pass@1": 0.3, "eval/t/ci95_low": 0.2, "eval/t/ci95_high": 0.4,
                "optim/loss": null, "of/another/version": 1.0}),
            json!({"step": 2, "stage": "grpo", "reward/mean": null, "eval/t/ci95_low": 0.2,
                "eval/t/ci95_high": 0.4}),
        ];
        let charts = charts(&history(&rows));
        let curves = |chart: &Chart| chart.curves.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
        let found: Vec<_> = charts.iter().map(|chart| (chart.title, curves(chart))).collect();
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            found,
            [
                ("Held-out accuracy", names(&["eval/t/greedy", "eval/t/pass@1"])),
                ("Reward", names(&["reward/mean", "reward/a/mean", "reward/b/mean"])),
            ]
        );
        assert!(charts[0].curves[0].help.starts_with("Accuracy of greedy"));
        let bands: Vec<bool> =
            charts[0].curves.iter().map(|c| format!("{c:?}").contains("band: Some")).collect();
        assert_eq!(bands, [true, false]);
        assert!(super::charts(&History::default()).is_empty());
    }
}
