//! The one list of metric names, and a row of metrics.

/// A metric: its name and what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// `area/name`; a part in angle brackets stands for any name.
    pub name: &'static str,
    /// One line, with the unit.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $name:literal, $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*

        /// Every metric, in the order of the columns of `metrics.jsonl`.
        pub const ALL: &[Metric] = &[$(Metric { name: $name, help: $help }),*];
    };
}

metrics! {
    REWARD_MEAN = "reward/mean", "Mean reward of the judged completions.";
    REWARD_STD = "reward/std", "Standard deviation of the reward over the step.";
    REWARD_PART_MEAN = "reward/<name>/mean", "Mean score of one part of the reward.";
    REWARD_ERROR_FRAC = "reward/error_frac", "Share of completions whose reward broke; they are masked out.";
    REWARD_UNVERIFIABLE_FRAC = "reward/unverifiable_frac", "Share of completions that cannot be judged; they are masked out.";
    REWARD_NO_ANSWER_FRAC = "reward/no_answer_frac", "Share of completions from which no answer could be extracted.";
    REWARD_FLIPPED_FRAC = "reward/flipped_frac", "Share of completions whose verdict was flipped on purpose (`noisy`).";
    GROUP_NO_SIGNAL_FRAC = "group/no_signal_frac", "Share of groups whose rewards are all equal, so that they teach nothing.";
    GROUP_SOLVED_FRAC = "group/solved_frac", "Share of groups in which every completion has the full reward.";
    GROUP_FAILED_FRAC = "group/failed_frac", "Share of groups in which no completion has any reward.";
    GROUP_REWARD_STD = "group/reward_std", "Mean over groups of the standard deviation of the reward.";
    ADVANTAGE_ABS_MEAN = "advantage/abs_mean", "Mean magnitude of the advantage.";
    COMPLETION_TOKENS_MEAN = "completion/tokens_mean", "Mean length of a completion in tokens.";
    COMPLETION_TOKENS_MAX = "completion/tokens_max", "Longest completion in tokens.";
    COMPLETION_TRUNCATED_FRAC = "completion/truncated_frac", "Share of completions cut off at max_tokens.";
    PROMPT_TOKENS_MEAN = "prompt/tokens_mean", "Mean length of a prompt in tokens.";
    PROMPT_SKIPPED = "prompt/skipped", "Prompts passed over because they are too long.";
    POLICY_ENTROPY = "policy/entropy", "Mean entropy of the policy at sampled tokens, in nats.";
    POLICY_ENTROPY_THRESHOLD = "policy/entropy_threshold", "Lowest entropy of a token with a policy term in the last optimizer step, in nats, with `top_entropy_frac`.";
    POLICY_MISMATCH_KL = "policy/mismatch_kl", "Mean KL from the sampler's distribution to the trainer's, in nats; near 0 unless something is broken.";
    POLICY_MISMATCH_MAX = "policy/mismatch_max", "Largest difference of a token's log-probability between sampler and trainer, in nats.";
    POLICY_LAG_MEAN = "policy/lag_mean", "Mean number of optimizer steps between the weights that sampled a completion and those that the step began with, with `max_lag`.";
    POLICY_LAG_MAX = "policy/lag_max", "Largest of them.";
    POLICY_REF_KL = "policy/ref_kl", "Mean KL estimate from the policy to the reference, in nats a token.";
    POLICY_KL_COEF = "policy/kl_coef", "Weight of the KL penalty in this step, with `kl_target`.";
    POLICY_KL = "policy/kl", "Mean KL estimate from the rollout's policy to the updated one, in nats a token.";
    POLICY_RATIO_MAX = "policy/ratio_max", "Largest importance ratio.";
    POLICY_CLIP_LOW_FRAC = "policy/clip_low_frac", "Share of tokens clipped from below.";
    POLICY_CLIP_HIGH_FRAC = "policy/clip_high_frac", "Share of tokens clipped from above.";
    OPTIM_LOSS = "optim/loss", "Value of the loss.";
    OPTIM_ROUTER_BALANCE = "optim/router_balance", "Loss that balances experts, in the last optimizer step, without its weight and not part of `optim/loss`: k where all experts get as much of the top k, more elsewhere.";
    OPTIM_GRAD_NORM = "optim/grad_norm", "Global norm of the gradient before clipping.";
    OPTIM_LR = "optim/lr", "Learning rate of the last optimizer step.";
    OPTIM_STEPS = "optim/steps", "Optimizer steps taken in this step.";
    SFT_LOSS = "sft/loss", "Mean negative log-likelihood of the completion tokens, in nats.";
    SFT_TOKENS = "sft/tokens", "Completion tokens trained on in this step.";
    SFT_VALIDATION_LOSS = "sft/validation_loss", "Mean negative log-likelihood of the trained tokens of the rows of `[stage.validation]`, in nats.";
    HEALTH = "health/<name>", "What was measured when the run warned of itself (`[health]`); at that step only.";
    DATA_EPOCH = "data/epoch", "Passes over the data so far: rows drawn by rows there are.";
    DATA_IN_TARGET_FRAC = "data/in_target_frac", "Share of the groups whose row has a running pass rate in the target of `[stage.curriculum]`.";
    EVAL_GREEDY = "eval/<set>/greedy", "Accuracy of greedy completions.";
    EVAL_PASS_AT = "eval/<set>/pass@<k>", "Unbiased estimate of the share of tasks solved by at least one of k samples.";
    EVAL_REWARD_MEAN = "eval/<set>/reward_mean", "Mean reward of the evaluated completions.";
    EVAL_PART_MEAN = "eval/<set>/<part>/mean", "Mean score of one part of the reward over the evaluated completions.";
    EVAL_CI_LOW = "eval/<set>/ci95_low", "Lower end of the 95 % interval of the accuracy.";
    EVAL_CI_HIGH = "eval/<set>/ci95_high", "Upper end of the 95 % interval of the accuracy.";
    EVAL_NO_ANSWER_FRAC = "eval/<set>/no_answer_frac", "Share of evaluated completions without an answer.";
    EVAL_TRUNCATED_FRAC = "eval/<set>/truncated_frac", "Share of evaluated completions cut off at max_tokens.";
    EVAL_TOKENS_MEAN = "eval/<set>/tokens_mean", "Mean length of an evaluated completion in tokens.";
    TIME_PHASE = "time/<phase>_s", "Wall time of a phase in seconds; `verify` is only the waiting for rewards when generation is over.";
    THROUGHPUT_DECODE = "throughput/decode_tokens_per_s", "Sampled tokens a second while generating.";
    THROUGHPUT_TRAIN = "throughput/train_tokens_per_s", "Trained tokens a second while updating.";
    THROUGHPUT_RANKS_SENT = "throughput/ranks_sent_mb", "What rank 0 has sent the others for the updates of the step, in MiB; with several ranks only.";
    MEMORY_PEAK_RSS = "memory/peak_rss_mb", "Largest resident memory of the process so far, in MiB.";
}

/// Whether a metric describes the machine rather than the training: these differ between two equal runs, stand last
/// in a row, and are left out when runs are compared.
pub fn is_timing(name: &str) -> bool {
    ["time/", "throughput/", "memory/"].iter().any(|area| name.starts_with(area))
}

/// A name with its placeholder filled: `filled(REWARD_PART_MEAN, "format")` is `reward/format/mean`.
///
/// A second placeholder is filled by a second call.
pub fn filled(pattern: &str, value: impl std::fmt::Display) -> String {
    match (pattern.find('<'), pattern.find('>')) {
        (Some(open), Some(close)) => format!("{}{value}{}", &pattern[..open], &pattern[close + 1..]),
        _ => pattern.to_owned(),
    }
}

/// The place of `name` in [`ALL`], by exact name or by pattern; none when nobody declared it.
pub fn position(name: &str) -> Option<usize> {
    ALL.iter().position(|m| m.name == name).or_else(|| ALL.iter().position(|m| matches(m.name, name)))
}

fn matches(pattern: &str, name: &str) -> bool {
    let Some(open) = pattern.find('<') else { return pattern == name };
    let Some(close) = pattern.find('>') else { return false };
    let Some(rest) = name.strip_prefix(&pattern[..open]) else { return false };
    let tail = &pattern[close + 1..];
    // The placeholder takes at least one character; what it takes may contain a slash.
    (1..=rest.len()).any(|end| rest.is_char_boundary(end) && matches(tail, &rest[end..]))
}

/// The list as a Markdown table, for the README.
pub fn markdown_table() -> String {
    let rows = ALL.iter().map(|m| format!("| `{}` | {} |\n", m.name, m.help));
    format!("| metric | meaning |\n|---|---|\n{}", rows.collect::<String>())
}

/// The metrics of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsRow {
    /// Step of the run, counted over all stages; 0 is before the first.
    pub step: u64,
    /// Name of the stage.
    pub stage: String,
    values: Vec<(String, f64)>,
}

impl MetricsRow {
    /// A row without metrics.
    pub fn new(step: u64, stage: impl Into<String>) -> Self {
        Self { step, stage: stage.into(), values: Vec::new() }
    }

    /// Sets a metric, replacing an earlier value.
    ///
    /// # Panics
    /// In debug builds, when `name` is not in [`ALL`].
    pub fn set(&mut self, name: impl Into<String>, value: f64) {
        let name = name.into();
        debug_assert!(position(&name).is_some(), "{name} is not in the list of metrics");
        match self.values.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.values.push((name, value)),
        }
    }

    /// The value of a metric.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// The metrics in the order of [`ALL`]; names of one pattern in alphabetic order.
    pub fn ordered(&self) -> Vec<(&str, f64)> {
        let mut ordered: Vec<(&str, f64)> = self.values.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        ordered.sort_by_key(|(name, _)| (is_timing(name), position(name).unwrap_or(ALL.len()), *name));
        ordered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_explained_and_timings_stand_last() {
        let names: std::collections::HashSet<&str> = ALL.iter().map(|m| m.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().all(|m| m.help.ends_with('.') && m.name.contains('/')));
        assert!(ALL.is_sorted_by_key(|m| is_timing(m.name)));
        assert!(markdown_table().contains("| `reward/mean` | Mean reward"));
    }

    #[test]
    fn patterns() {
        assert_eq!(filled(REWARD_PART_MEAN, "format"), "reward/format/mean");
        assert_eq!(filled(&filled(EVAL_PASS_AT, "test"), 4), "eval/test/pass@4");
        let at = |name| position(name).map(|i| ALL[i].name);
        for (name, pattern) in [
            ("reward/mean", Some("reward/mean")),
            ("reward/a/b/mean", Some("reward/<name>/mean")),
            ("eval/a/pass@16", Some("eval/<set>/pass@<k>")),
            ("time/generate_s", Some("time/<phase>_s")),
            ("reward//mean", None),
            ("reward/median", None),
        ] {
            assert_eq!(at(name), pattern, "{name}");
        }
    }

    #[test]
    fn a_row_has_a_fixed_order() {
        let mut row = MetricsRow::new(3, "grpo");
        for name in
            ["time/update_s", "optim/loss", "reward/b/mean", "eval/t/greedy", "reward/a/mean", "reward/mean"]
        {
            row.set(name, 1.0);
        }
        row.set("optim/loss", 2.0);
        let names: Vec<&str> = row.ordered().into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            ["reward/mean", "reward/a/mean", "reward/b/mean", "optim/loss", "eval/t/greedy", "time/update_s"]
        );
        assert_eq!((row.get("optim/loss"), row.get("optim/lr")), (Some(2.0), None));
    }
}
