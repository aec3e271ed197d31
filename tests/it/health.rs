//! A run warns of itself: each warning once, with the bytes of an uninterrupted run when it is resumed.
use super::cli::{rlvr, stderr};
use rlvr::Error;
use rlvr::config::RunConfig;
use rlvr::metrics::is_timing;
use rlvr::run::events::Event;
use rlvr::run::{RunOptions, train};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Short completions are rewarded, and how many are long is a metric; the bounds are such that a small run crosses them.
const CONFIG: &str = r#"
name = "ill"
seed = 3
device = "cpu"
[policy.tiny]
layers = 1
hidden = 32
heads = 2
kv_heads = 2
intermediate = 32
context = 16
alphabet = "0123456789+= "
[data.sums]
kind = "addition"
max_digits = 1
tasks = 40
split = "all"
[rewards]
kind = "sum"
[[rewards.terms]]
name = "short"
reward = { kind = "length", max = 6, soft = 6, unit = "chars" }
[[rewards.terms]]
name = "long"
weight = 0.0
reward = { kind = "regex", pattern = "...." }
[[stage]]
kind = "grpo"
data = "sums"
steps = 24
prompts_per_step = 6
group_size = 8
sampling = { max_tokens = 6 }
loss = { kl_coef = 1e-6 }
optim = { lr = 1e-2 }
[preflight]
refuse = false
[checkpoint]
every = 3
[log]
tensorboard = false
rollouts_frac = 0.0
[health]
window = 3
max_kl = 0.02
min_entropy_frac = 0.9
max_no_signal_frac = 0.5
max_truncated_frac = 0.3
max_mismatch_kl = 1e-30
"#;

/// The warnings of a run by name, with their steps; it is interrupted after the steps of `stops`, one resumption each.
fn run(out: &Path, sets: &[&str], stops: &[u64]) -> Vec<(u64, String)> {
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    let config = RunConfig::parse(CONFIG, Path::new("ill.toml"), &sets).unwrap();
    let mut given = Vec::new();
    for stop_after in stops.iter().map(|step| Some(*step)).chain([None]) {
        let options =
            RunOptions { out: Some(out.to_path_buf()), resume: out.exists(), ..RunOptions::default() };
        let stop = AtomicBool::new(false);
        let outcome = train(&config, &options, &stop, &mut |event: Event| match event {
            Event::Step { row, .. } if stop_after == Some(row.step) => stop.store(true, Ordering::Relaxed),
            Event::Warning { step, metric, text } => {
                assert!(text.contains(':'), "{text}");
                given.push((step, metric.to_owned()));
            }
            _ => {}
        });
        match stop_after {
            Some(_) => assert!(matches!(outcome, Err(Error::Interrupted)), "{outcome:?}"),
            None => drop(outcome.unwrap()),
        }
    }
    given
}

fn metrics(run: &Path) -> Vec<Map<String, Value>> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let row = |line: &str| -> Map<String, Value> {
        let row: Map<String, Value> = serde_json::from_str(line).unwrap();
        row.into_iter().filter(|(name, _)| !is_timing(name)).collect()
    };
    text.lines().map(row).collect()
}

#[test]
fn warnings_are_given_once_recorded_and_survive_a_resume() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let given = run(&whole, &[], &[]);
    println!("{given:?}");
    let names: BTreeMap<&str, u64> = given.iter().map(|(step, name)| (name.as_str(), *step)).collect();
    assert_eq!(names.len(), given.len(), "each once: {given:?}");
    for name in [
        "kl_explosion",
        "entropy_collapse",
        "all_truncated",
        "no_signal",
        "mismatch_drift",
        "reward_hacking/long",
    ] {
        assert!(names.contains_key(format!("health/{name}").as_str()), "{name}: {given:?}");
    }
    // What is recorded is what was said.
    let rows = metrics(&whole);
    let recorded: Vec<(u64, String)> = rows
        .iter()
        .flat_map(|row| {
            let step = row["step"].as_u64().unwrap();
            row.keys().filter(|name| name.starts_with("health/")).map(move |name| (step, name.clone()))
        })
        .collect();
    assert_eq!(recorded.len(), given.len());
    assert!(recorded.iter().all(|one| given.contains(one)));
    // Between and after the warnings.
    let resumed = dir.path().join("resumed");
    let stops: Vec<u64> = vec![2, 3, 5, 9, 16];
    assert_eq!(run(&resumed, &[], &stops), given);
    assert_eq!(metrics(&resumed), rows);
    // Switched off, a run trains the same and says nothing.
    let off = dir.path().join("off");
    assert_eq!(run(&off, &["health.enabled=false"], &[]), []);
    let last = |run: &Path| fs::read(run.join("final/model.safetensors")).unwrap();
    assert!(last(&off) == last(&whole));
    // On the page, and beside its path.
    let output = rlvr(&["report", whole.to_str().unwrap()], "");
    let (said, page) = (stderr(&output), fs::read_to_string(whole.join("report.html")).unwrap());
    for (step, name) in &given {
        assert!(said.contains(&format!("warning  Step {step}: ")) && said.contains(name.as_str()), "{said}");
        assert!(page.contains(name.as_str()), "{name}");
    }
}

#[test]
fn growing_completions_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let sets = [
        "rewards={ kind = \"regex\", pattern = \".{8}\" }",
        "health.max_length_growth=1.1",
        "stage.grpo.sampling.max_tokens=11",
    ];
    let given = run(&dir.path().join("run"), &sets, &[]);
    assert!(given.iter().any(|(_, name)| name == "health/length_runaway"), "{given:?}");
}

#[test]
fn bounds_out_of_range_are_refused_by_name() {
    let sets =
        ["health.window=0".to_owned(), "health.max_kl=0".to_owned(), "health.min_entropy_frac=2".to_owned()];
    let error = RunConfig::parse(CONFIG, Path::new("ill.toml"), &sets).unwrap_err().to_string();
    for key in ["health.window", "health.max_kl", "health.min_entropy_frac"] {
        assert!(error.contains(key), "{error}");
    }
}
