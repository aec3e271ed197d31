//! From what a step did to its row of metrics and its rows of rollouts.
use crate::files::IoError;
use crate::metrics::{self as m, MetricsRow, filled};
use crate::run::log::{RolloutRow, RunLog};
use crate::train::grpo::{Group, StepOutcome};
use crate::train::learner::Exchanged;
use crate::train::sft::SftOutcome;
use rlvr_rewards::noise::was_flipped;
use rlvr_rewards::{Part, Verdict};
use std::collections::BTreeMap;

/// None of nothing: a mean of no rewards is no reward of 0.
fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn std(values: &[f64]) -> Option<f64> {
    let mu = mean(values)?;
    mean(&values.iter().map(|v| (v - mu) * (v - mu)).collect::<Vec<_>>()).map(f64::sqrt)
}

/// Sets a metric that there is.
fn set(row: &mut MetricsRow, name: impl Into<String>, value: Option<f64>) {
    if let Some(value) = value {
        row.set(name, value);
    }
}

/// Largest resident memory of this process so far, MiB; 0 where the system does not tell.
pub fn peak_rss_mb() -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with("VmHWM:"));
    line.and_then(|l| l.split_whitespace().nth(1)?.parse::<f64>().ok()).map_or(0.0, |kb| kb / 1024.0)
}

/// Metrics of a supervised step.
pub fn sft(row: &mut MetricsRow, out: &SftOutcome, seconds: f64) {
    row.set(m::SFT_LOSS, out.loss);
    row.set(m::SFT_TOKENS, out.tokens as f64);
    row.set(m::OPTIM_LOSS, out.loss);
    row.set(m::OPTIM_GRAD_NORM, out.grad_norm);
    row.set(m::OPTIM_LR, out.lr);
    set(row, m::OPTIM_ROUTER_BALANCE, out.router_balance);
    row.set(filled(m::TIME_PHASE, "step"), seconds);
    exchanged(row, &out.exchanged);
    row.set(m::THROUGHPUT_TRAIN, out.tokens as f64 / seconds.max(1e-9));
}

/// What ranks have exchanged, if there are several.
fn exchanged(row: &mut MetricsRow, exchanged: &Exchanged) {
    if exchanged.sent_bytes > 0 {
        row.set(filled(m::TIME_PHASE, "exchange"), exchanged.seconds);
        row.set(m::THROUGHPUT_RANKS_SENT, exchanged.sent_bytes as f64 / f64::from(1 << 20));
    }
}

/// Metrics of a GRPO step.
pub fn grpo(row: &mut MetricsRow, out: &StepOutcome, seconds: f64) {
    rewards(row, &out.groups);
    completions(row, &out.groups);
    row.set(m::PROMPT_SKIPPED, out.generation.skipped_prompts.len() as f64);
    let advantages: Vec<f64> = out.groups.iter().flat_map(|g| &g.advantages).map(|a| a.abs()).collect();
    set(row, m::ADVANTAGE_ABS_MEAN, mean(&advantages));

    let (first, stats) = (&out.first, &out.stats);
    if first.tokens > 0.0 {
        row.set(m::POLICY_ENTROPY, first.entropy_sum / first.tokens);
    }
    set(row, m::POLICY_ENTROPY_THRESHOLD, out.entropy_threshold);
    if first.compared > 0.0 {
        row.set(m::POLICY_MISMATCH_KL, first.mismatch_sum / first.compared);
        row.set(m::POLICY_MISMATCH_MAX, first.mismatch_max);
    }
    set(row, m::POLICY_LAG_MEAN, out.lag.map(|(mean, _)| mean));
    set(row, m::POLICY_LAG_MAX, out.lag.map(|(_, max)| max));
    if stats.tokens > 0.0 {
        row.set(m::POLICY_REF_KL, stats.per_token(stats.ref_kl_sum));
        set(row, m::POLICY_KL_COEF, out.kl_coef);
        row.set(m::POLICY_KL, stats.per_token(stats.old_kl_sum));
        row.set(m::POLICY_RATIO_MAX, stats.ratio_max);
        row.set(m::POLICY_CLIP_LOW_FRAC, stats.per_token(stats.clip_low_tokens));
        row.set(m::POLICY_CLIP_HIGH_FRAC, stats.per_token(stats.clip_high_tokens));
    }
    if out.updates > 0 {
        row.set(m::OPTIM_LOSS, out.loss);
        row.set(m::OPTIM_GRAD_NORM, out.grad_norm);
        row.set(m::OPTIM_LR, out.lr);
    }
    set(row, m::OPTIM_ROUTER_BALANCE, out.router_balance);
    row.set(m::OPTIM_STEPS, out.updates as f64);

    let p = &out.phases;
    let phases = [
        ("generate", p.generate_s),
        ("verify", p.verify_s),
        ("reference", p.reference_s),
        ("update", p.update_s),
        ("step", seconds),
    ];
    for (name, value) in phases {
        row.set(filled(m::TIME_PHASE, name), value);
    }
    exchanged(row, &out.exchanged);
    row.set(m::THROUGHPUT_DECODE, out.generation.decode_tokens_per_s());
    row.set(m::THROUGHPUT_TRAIN, out.trained_tokens as f64 / p.update_s.max(1e-9));
}

fn rewards(row: &mut MetricsRow, groups: &[Group]) {
    let judgements: Vec<_> = groups.iter().flat_map(|g| &g.judgements).collect();
    let rewards: Vec<f64> = judgements.iter().filter_map(|j| j.reward).collect();
    set(row, m::REWARD_MEAN, mean(&rewards));
    set(row, m::REWARD_STD, std(&rewards));
    let mut parts: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for part in judgements.iter().flat_map(|j| &j.outcome.parts) {
        let Part { name, score, .. } = part;
        parts.entry(name).or_default().extend(score);
    }
    for (name, scores) in parts {
        set(row, filled(m::REWARD_PART_MEAN, name), mean(&scores));
    }
    if !judgements.is_empty() {
        let all = judgements.len() as f64;
        let share = |v: Verdict| judgements.iter().filter(|j| j.outcome.verdict == v).count() as f64 / all;
        row.set(m::REWARD_ERROR_FRAC, share(Verdict::Error));
        row.set(m::REWARD_UNVERIFIABLE_FRAC, share(Verdict::Unverifiable));
        let unanswered = |p: &Part| p.verdict == Verdict::NoAnswer;
        let none = judgements
            .iter()
            .filter(|j| j.outcome.verdict == Verdict::NoAnswer || j.outcome.parts.iter().any(unanswered));
        row.set(m::REWARD_NO_ANSWER_FRAC, none.count() as f64 / all);
        let flips: Vec<bool> = judgements.iter().filter_map(|j| was_flipped(&j.outcome.parts)).collect();
        if !flips.is_empty() {
            row.set(m::REWARD_FLIPPED_FRAC, flips.iter().filter(|f| **f).count() as f64 / all);
        }
    }

    if groups.is_empty() {
        return;
    }
    let judged = |g: &Group| g.judgements.iter().filter_map(|j| j.reward).collect::<Vec<_>>();
    let share =
        |f: &dyn Fn(&Group) -> bool| groups.iter().filter(|g| f(g)).count() as f64 / groups.len() as f64;
    row.set(m::GROUP_NO_SIGNAL_FRAC, share(&|g| !g.has_signal()));
    row.set(
        m::GROUP_SOLVED_FRAC,
        share(&|g| g.judgements.iter().all(|j| j.outcome.verdict == Verdict::Correct)),
    );
    // A group in which nothing was judged has not failed.
    let failed = |g: &Group| {
        let rewards = judged(g);
        !rewards.is_empty() && rewards.iter().all(|r| *r <= 0.0)
    };
    row.set(m::GROUP_FAILED_FRAC, share(&failed));
    let spreads: Vec<f64> = groups.iter().filter_map(|g| std(&judged(g))).collect();
    set(row, m::GROUP_REWARD_STD, mean(&spreads));
}

fn completions(row: &mut MetricsRow, groups: &[Group]) {
    let lengths: Vec<f64> =
        groups.iter().flat_map(|g| &g.completions).map(|c| c.token_ids.len() as f64).collect();
    set(row, m::COMPLETION_TOKENS_MEAN, mean(&lengths));
    set(row, m::COMPLETION_TOKENS_MAX, lengths.iter().copied().reduce(f64::max));
    let cut: Vec<f64> =
        groups.iter().flat_map(|g| &g.judgements).map(|j| f64::from(u8::from(j.truncated))).collect();
    set(row, m::COMPLETION_TRUNCATED_FRAC, mean(&cut));
    let prompts: Vec<f64> = groups.iter().map(|g| g.prompt.len() as f64).collect();
    set(row, m::PROMPT_TOKENS_MEAN, mean(&prompts));
}

/// Writes the judged completions of a step and, when due, its histograms.
///
/// # Errors
/// An unwritable file.
pub fn rollouts(log: &mut RunLog, step: u64, stage: &str, out: &StepOutcome) -> Result<(), IoError> {
    let rows = out.groups.iter().enumerate().flat_map(|(group, g)| {
        (g.judgements.iter().zip(&g.completions).zip(&g.advantages)).enumerate().map(
            move |(sample, ((j, c), advantage))| RolloutRow {
                step,
                stage,
                group,
                sample,
                id: &g.id,
                reference: &g.reference,
                meta: &g.meta,
                prompt: &g.prompt_text,
                images: &g.image_names,
                completion: &j.text,
                finish_reason: c.finish_reason.as_str(),
                length_tokens: c.token_ids.len(),
                reward: j.reward,
                advantage: (j.reward.is_some() || !g.given.is_empty()).then_some(*advantage),
                outcome: &j.outcome,
                prompt_tokens: Some(&g.prompt),
                completion_tokens: Some(&c.token_ids),
                logprobs: (!c.logprobs.is_empty()).then_some(&c.logprobs),
                policy_version: Some(c.policy_version),
            },
        )
    });
    log.rollouts(rows)?;
    if log.histograms_due(step) {
        let rewards: Vec<f64> =
            out.groups.iter().flat_map(|g| &g.judgements).filter_map(|j| j.reward).collect();
        let lengths: Vec<f64> =
            out.groups.iter().flat_map(|g| &g.completions).map(|c| c.token_ids.len() as f64).collect();
        let advantages: Vec<f64> = out.groups.iter().flat_map(|g| g.advantages.clone()).collect();
        for (name, values) in [("reward", rewards), ("completion/tokens", lengths), ("advantage", advantages)]
        {
            log.histogram(name, step, &values);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::judging::Judgement;
    use rlvr_rewards::Outcome;

    #[test]
    fn a_step_in_which_nothing_was_judged_has_no_mean() {
        let judgement = |reward: Option<f64>| Judgement {
            text: String::new(),
            truncated: false,
            reward,
            outcome: match reward {
                Some(score) => Outcome::graded(score, "", ""),
                None => Outcome::of(Verdict::Error, "", "broke"),
            },
        };
        let group = |rewards: &[Option<f64>]| Group {
            id: String::new(),
            reference: serde_json::Value::Null,
            meta: serde_json::Map::new(),
            prompt_text: String::new(),
            prompt: vec![1],
            images: vec![],
            image_names: vec![],
            completions: vec![],
            judgements: rewards.iter().map(|r| judgement(*r)).collect(),
            advantages: vec![],
            given: vec![],
        };
        let row_of = |groups: Vec<Group>| {
            let mut row = MetricsRow::new(1, "grpo");
            grpo(&mut row, &StepOutcome { groups, ..StepOutcome::default() }, 1.0);
            row
        };
        let row = row_of(vec![group(&[None, None])]);
        for name in [m::REWARD_MEAN, m::REWARD_STD, m::GROUP_REWARD_STD, m::OPTIM_LOSS, m::ADVANTAGE_ABS_MEAN]
        {
            assert_eq!(row.get(name), None, "{name}");
        }
        assert_eq!(row.get(m::REWARD_ERROR_FRAC), Some(1.0));
        assert_eq!((row.get(m::GROUP_FAILED_FRAC), row.get(m::GROUP_NO_SIGNAL_FRAC)), (Some(0.0), Some(1.0)));
        assert!(row.ordered().iter().all(|(_, value)| value.is_finite()));
        // All prompts were skipped.
        let row = row_of(vec![]);
        assert_eq!((row.get(m::REWARD_ERROR_FRAC), row.get(m::COMPLETION_TOKENS_MAX)), (None, None));
        let row = row_of(vec![group(&[Some(0.0), None]), group(&[None, None])]);
        assert_eq!((row.get(m::REWARD_MEAN), row.get(m::GROUP_FAILED_FRAC)), (Some(0.0), Some(0.5)));
    }
}
