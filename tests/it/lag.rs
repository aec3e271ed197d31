//! Rollouts that run ahead of the steps that learn from them (`max_lag`).
use rlvr::Error;
use rlvr::config::RunConfig;
use rlvr::metrics::is_timing;
use rlvr::run::events::{Event, Report};
use rlvr::run::{RunOptions, train};
use serde_json::{Map, Value};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const CONFIG: &str = r#"
name = "ahead"
seed = 7
device = "cpu"
[policy.tiny]
layers = 1
hidden = 32
heads = 2
kv_heads = 1
intermediate = 32
context = 16
alphabet = "0123456789+= "
[data.small]
kind = "addition"
max_digits = 1
tasks = 15
split = "all"
[data.large]
kind = "addition"
min_digits = 2
tasks = 20
split = "all"
[rewards]
kind = "regex"
pattern = "[0-4]"
[[stage]]
kind = "grpo"
data = { small = 1.0, large = 3.0 }
steps = 7
prompts_per_step = 6
group_size = 4
sampling = { max_tokens = 3 }
optim = { lr = 1e-2 }
[preflight]
refuse = false
[checkpoint]
every = 0
[log]
tensorboard = false
rollouts_tokens = true
[health]
enabled = false
"#;

fn run(out: &Path, sets: &[&str], stop_after: Option<u64>) -> Result<Report, Error> {
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    let config = RunConfig::parse(CONFIG, Path::new("ahead.toml"), &sets).unwrap();
    let options = RunOptions { out: Some(out.to_path_buf()), resume: out.exists(), ..RunOptions::default() };
    let stop = AtomicBool::new(false);
    train(&config, &options, &stop, &mut |event: Event| {
        if let Event::Step { row, .. } = event
            && stop_after == Some(row.step)
        {
            stop.store(true, Ordering::Relaxed);
        }
    })
}

fn rows(run: &Path, file: &str) -> Vec<Map<String, Value>> {
    let text = fs::read_to_string(run.join(file)).unwrap();
    let row = |line: &str| -> Map<String, Value> {
        let row: Map<String, Value> = serde_json::from_str(line).unwrap();
        row.into_iter().filter(|(name, _)| !is_timing(name)).collect()
    };
    text.lines().map(row).collect()
}

/// What each step sampled.
fn completions(run: &Path, step: u64) -> Vec<(String, Value)> {
    let of = rows(run, "rollouts.jsonl").into_iter().filter(|row| row["step"] == step);
    of.map(|row| (row["prompt"].to_string(), row["completion_tokens"].clone())).collect()
}

fn weights(run: &Path) -> Vec<u8> {
    fs::read(run.join("final/model.safetensors")).unwrap()
}

/// The lowest and highest version that the completions of each step are from.
fn versions(run: &Path) -> Vec<(u64, u64)> {
    let mut found: Vec<(u64, u64)> = Vec::new();
    for row in rows(run, "rollouts.jsonl") {
        let (step, version) =
            (row["step"].as_u64().unwrap() as usize, row["policy_version"].as_u64().unwrap());
        if found.len() < step {
            found.push((version, version));
        }
        let last = &mut found[step - 1];
        *last = (last.0.min(version), last.1.max(version));
    }
    found
}

#[test]
fn a_step_is_sampled_from_the_weights_that_its_number_says_and_nothing_depends_on_the_clock() {
    let dir = tempfile::tempdir().unwrap();
    let out = |name: &str| dir.path().join(name);
    run(&out("plain"), &[], None).unwrap();
    // Nothing is learned, so all steps are sampled from the first weights.
    run(&out("frozen"), &["stage.grpo.optim.lr=1e-30"], None).unwrap();
    for lag in 0..=2_u64 {
        let set = format!("stage.grpo.max_lag={lag}");
        let (one, two) = (out(&format!("one-{lag}")), out(&format!("two-{lag}")));
        run(&one, &[&set], None).unwrap();
        run(&two, &[&set], None).unwrap();
        for file in ["metrics.jsonl", "rollouts.jsonl"] {
            assert_eq!(rows(&one, file), rows(&two, file), "{lag}: {file}");
        }
        assert!(weights(&one) == weights(&two), "{lag}");
        assert_eq!(weights(&one) == weights(&out("plain")), lag == 0);
        let metrics: Vec<_> =
            rows(&one, "metrics.jsonl").into_iter().filter(|row| row["step"] != 0).collect();
        // The version before each step: one without any signal leaves the weights as they are.
        let updates = metrics.iter().map(|row| row["optim/steps"].as_f64().unwrap() as u64);
        let before: Vec<u64> = updates.scan(0, |sum, n| Some(std::mem::replace(sum, *sum + n))).collect();
        assert!(before[5] >= 4, "{before:?}");
        let sampled: Vec<u64> = (0..7).map(|step: usize| before[step.saturating_sub(lag as usize)]).collect();
        assert_eq!(versions(&one), sampled.iter().map(|v| (*v, *v)).collect::<Vec<_>>(), "lag {lag}");
        for (i, row) in metrics.iter().enumerate() {
            let first = completions(&one, i as u64 + 1) == completions(&out("frozen"), i as u64 + 1);
            assert_eq!(first, sampled[i] == 0, "lag {lag}, step {}", i + 1);
            let behind = (lag > 0).then(|| (before[i] - sampled[i]) as f64);
            for name in ["policy/lag_mean", "policy/lag_max"] {
                assert_eq!(row.get(name).map(|v| v.as_f64().unwrap()), behind, "lag {lag}, step {}", i + 1);
            }
            // None of a step that learns nothing.
            if let Some(kl) = row.get("policy/mismatch_kl").map(|v| v.as_f64().unwrap()) {
                assert_eq!(kl > 1e-7, behind.is_some_and(|behind| behind > 0.0), "lag {lag}: {row:?}");
            }
        }
    }
    // Prompts are drawn in the same order, however far ahead.
    let prompts = |name: &str| -> Vec<String> {
        (1..=7).flat_map(|step| completions(&out(name), step)).map(|(prompt, _)| prompt).collect()
    };
    assert_eq!(prompts("plain"), prompts("one-2"));
}

#[test]
fn it_learns_what_it_samples_two_steps_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    run(&out, &["stage.grpo.max_lag=2", "stage.grpo.steps=40", "stage.grpo.optim.lr=5e-3"], None).unwrap();
    let rewards: Vec<f64> = rows(&out, "metrics.jsonl")
        .iter()
        .filter_map(|row| row.get("reward/mean").and_then(Value::as_f64))
        .collect();
    let mean = |rewards: &[f64]| rewards.iter().sum::<f64>() / rewards.len() as f64;
    assert_eq!(rewards.len(), 40);
    let (first, last) = (mean(&rewards[..3]), mean(&rewards[35..]));
    assert!(first < 0.9 && last > 0.97, "{first} {last}: {rewards:?}");
}

#[test]
fn what_was_ahead_at_an_interrupt_is_sampled_again() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let lag = ["stage.grpo.max_lag=2"];
    assert!(matches!(run(&out, &lag, Some(4)), Err(Error::Interrupted)));
    assert_eq!(versions(&out), [(0, 0), (0, 0), (0, 0), (1, 1)]);
    assert_eq!(run(&out, &lag, None).unwrap().steps, 7);
    // From the weights of the checkpoint, and the prompts as they would have been.
    assert_eq!(versions(&out)[4..], [(4, 4), (4, 4), (4, 4)]);
    let whole = dir.path().join("whole");
    run(&whole, &lag, None).unwrap();
    for step in 1..=7 {
        let prompts = |run: &Path| completions(run, step).into_iter().map(|(p, _)| p).collect::<Vec<_>>();
        assert_eq!(prompts(&out), prompts(&whole), "{step}");
    }
}

#[test]
fn the_correction_is_on_and_what_cannot_be_sampled_ahead_is_refused() {
    let parse = |sets: &[&str]| {
        let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
        RunConfig::parse(CONFIG, Path::new("ahead.toml"), &sets)
    };
    let text = |sets: &[&str]| parse(sets).unwrap().to_toml().unwrap();
    assert!(!text(&[]).contains("token_truncate"));
    assert!(text(&["stage.grpo.max_lag=1"]).contains("token_truncate"));
    let off = ["stage.grpo.max_lag=1", "stage.grpo.loss.sampler_correction=none"];
    assert!(!text(&off).contains("token_truncate"));
    for (set, said) in [
        ("stage.grpo.loss.groups_without_signal=resample", "use \"drop\""),
        ("stage.grpo.curriculum={ target = [0.3, 0.9] }", "take one of them away"),
        ("stage.grpo.max_lag=65", "at most 64"),
    ] {
        let mut sets = vec!["stage.grpo.max_lag=1", set];
        sets.sort_unstable_by_key(|s| s.contains("65"));
        let error = parse(&sets).unwrap_err().to_string();
        assert!(error.contains("stage.0.max_lag") && error.contains(said), "{error}");
    }
}

#[test]
fn a_mistake_on_the_way_ahead_ends_the_run_once() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    // A prompt of a later step leaves no room; nobody skips it.
    let sets = ["stage.grpo.max_lag=2", "stage.grpo.max_prompt_tokens=4", "stage.grpo.long_prompt=error"];
    let error = run(&out, &sets, None).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("tokens"), "{error}");
}
