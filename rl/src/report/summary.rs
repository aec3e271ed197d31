//! The facts of a run, its evaluations and what deserves a warning, as texts.

use serde::Serialize;
use toml::Table;

use super::chart::number;
use super::history::{Evaluation, History};
use crate::metrics as m;
use crate::run::dir::{RunMeta, RunStatus};
use crate::run::health;
use crate::run::preflight::warnings;

/// Steps at the end that warnings look at.
const RECENT: usize = 10;

/// A row of the table of evaluations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct EvaluationRow {
    set: String,
    when: String,
    step: u64,
    accuracy: String,
    interval: String,
    reward_mean: String,
    truncated_frac: String,
}

/// Name and value of what is known about a run.
pub(super) fn facts(
    config: &Table,
    meta: Option<&RunMeta>,
    history: &History,
) -> Vec<(&'static str, String)> {
    let stages: Vec<String> =
        history.stages.iter().map(|s| format!("{} {} to {}", s.name, s.first, s.last)).collect();
    let steps = match history.steps {
        Some((_, last)) if !stages.is_empty() => format!("{last} recorded: {}", stages.join(", ")),
        _ => "none recorded".to_owned(),
    };
    let mut facts = vec![("state", state(meta)), ("steps", steps)];
    let policy = config.get("policy").and_then(|policy| policy.get("path")?.as_str());
    facts.push(("policy", policy.unwrap_or("the built-in one, from random weights").to_owned()));
    let Some(meta) = meta else { return facts };
    let ended = meta.ended_at.as_ref().map(|at| format!(", ended {at}")).unwrap_or_default();
    facts.push(("started", format!("{}{ended}", meta.started_at)));
    for resumed in &meta.resumed {
        facts.push(("resumed", format!("{}, after step {}", resumed.at, resumed.step)));
    }
    let commit = meta.git_commit.as_ref().map(|c| format!(", commit {c}")).unwrap_or_default();
    facts.push(("version", format!("rlvr {}{commit}", meta.version)));
    facts.push(("seed", meta.seed.to_string()));
    facts.push(("device", meta.device.clone()));
    let hardware = &meta.hardware;
    let mut machine: Vec<String> = hardware.cpu.iter().cloned().collect();
    machine.push(format!("{} threads", hardware.cpu_threads));
    machine.extend(hardware.memory_mb.map(|mb| format!("{:.1} GiB", mb as f64 / 1024.0)));
    machine.push(hardware.platform.clone());
    facts.push(("machine", machine.join(", ")));
    facts.push(("command", meta.command.join(" ")));
    facts.push(("hash of the config", meta.config_hash.clone()));
    facts
}

fn state(meta: Option<&RunMeta>) -> String {
    let Some(meta) = meta else {
        return "unknown: meta.json is missing or of another version".to_owned();
    };
    match meta.status {
        RunStatus::Running => "running, or killed".to_owned(),
        RunStatus::Finished => "finished".to_owned(),
        RunStatus::Interrupted => "interrupted after a checkpoint".to_owned(),
        RunStatus::Failed => format!("failed: {}", meta.error.as_deref().unwrap_or("no reason was recorded")),
    }
}

/// The evaluations as texts.
pub(super) fn evaluations(meta: Option<&RunMeta>, history: &History) -> Vec<EvaluationRow> {
    let finished = meta.is_some_and(|meta| meta.status == RunStatus::Finished);
    let three = |value: Option<f64>| value.map_or("–".to_owned(), |v| format!("{v:.3}"));
    let row = |e: Evaluation| EvaluationRow {
        set: e.set,
        when: e.when,
        step: e.step,
        accuracy: three(e.accuracy),
        interval: e.interval.map_or("–".to_owned(), |(low, high)| format!("[{low:.3}, {high:.3}]")),
        reward_mean: e.reward_mean.map_or("–".to_owned(), number),
        truncated_frac: three(e.truncated_frac),
    };
    history.evaluations(finished).into_iter().map(row).collect()
}

/// The warnings that the run gave of itself, as it put them; of a name of another version what was measured.
pub(super) fn health(history: &History) -> Vec<String> {
    let line = |(step, name, value): (u64, &str, f64)| {
        let text = health::text(name, value).unwrap_or_else(|| number(value));
        format!("Step {step}: {text} (health/{}).", name.escape_debug())
    };
    history.health().into_iter().map(line).collect()
}

/// What the pre-flight would say of the last steps that sampled; empty without any.
pub(super) fn problems(history: &History) -> Vec<String> {
    let recent = |name: &str| {
        let points = history.series(name);
        &points[points.len().saturating_sub(RECENT)..]
    };
    let mean = |name: &str| {
        let points = recent(name);
        points.iter().map(|(_, value)| value).sum::<f64>() / points.len().max(1) as f64
    };
    // Where a completion was cut off, the longest has all the tokens it may have.
    let max_tokens = recent(m::COMPLETION_TOKENS_MAX).iter().fold(0.0, |most: f64, (_, n)| most.max(*n));
    let found = [
        warnings::unjudged(mean(m::REWARD_ERROR_FRAC) + mean(m::REWARD_UNVERIFIABLE_FRAC)),
        warnings::truncated(mean(m::COMPLETION_TRUNCATED_FRAC), max_tokens as usize),
        warnings::no_signal(mean(m::GROUP_NO_SIGNAL_FRAC)),
        warnings::no_answer(mean(m::REWARD_NO_ANSWER_FRAC)),
    ];
    let steps = recent(m::REWARD_MEAN).len();
    let when = if steps == 1 { "step".to_owned() } else { format!("{steps} steps") };
    found.into_iter().flatten().map(|text| format!("In the last {when} that sampled, {text}.")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::history;
    use super::*;
    use serde_json::json;

    #[test]
    fn problems_are_those_of_the_last_steps() {
        let row = |step: u64, cut: f64, errors: f64| {
            json!({"step": step, "stage": "grpo", "reward/mean": 0.1, "completion/truncated_frac": cut,
                "completion/tokens_max": 64.0, "reward/error_frac": errors, "group/no_signal_frac": 0.5})
        };
        let mut rows: Vec<_> = (1..=20).map(|step| row(step, 1.0, 1.0)).collect();
        assert_eq!(problems(&history(&rows)).len(), 2);
        rows.extend((21..=30).map(|step| row(step, 0.75, 0.0)));
        assert_eq!(
            problems(&history(&rows)),
            ["In the last 10 steps that sampled, 75 % of the completions are cut off at 64 tokens: raise \
              sampling.max_tokens."]
        );
        assert!(problems(&History::default()).is_empty());
    }

    #[test]
    fn a_run_without_meta_has_facts() {
        let config = "[policy]\npath = \"model\"\n".parse().unwrap();
        let found = facts(&config, None, &History::default());
        assert!(found[0].1.contains("meta.json is missing"), "{found:?}");
        assert_eq!(found[1..], [("steps", "none recorded".into()), ("policy", "model".into())]);
    }
}
