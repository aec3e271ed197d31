//! Which rows a GRPO stage draws: several sources by weights, rows by their pass rates; resumed exactly.
use rlvr::Error;
use rlvr::config::RunConfig;
use rlvr::metrics::is_timing;
use rlvr::run::events::Event;
use rlvr::run::{RunOptions, train};
use serde_json::{Map, Value};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const CONFIG: &str = r#"
name = "drawn"
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
kind = "sft"
data = "small"
steps = 1
[[stage]]
kind = "grpo"
steps = 8
prompts_per_step = 6
group_size = 4
sampling = { max_tokens = 2 }
optim = { lr = 1e-2 }
[preflight]
refuse = false
[checkpoint]
every = 2
[log]
tensorboard = false
[health]
enabled = false
"#;

fn run(out: &Path, sets: &[&str], stop_after: Option<u64>) -> Result<(), Error> {
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    let config = RunConfig::parse(CONFIG, Path::new("drawn.toml"), &sets).unwrap();
    let options = RunOptions { out: Some(out.to_path_buf()), resume: out.exists(), ..RunOptions::default() };
    let stop = AtomicBool::new(false);
    let outcome = train(&config, &options, &stop, &mut |event: Event| {
        if let Event::Step { row, .. } = event
            && stop_after == Some(row.step)
        {
            stop.store(true, Ordering::Relaxed);
        }
    });
    outcome.map(drop)
}

fn rows(run: &Path, file: &str) -> Vec<Map<String, Value>> {
    let text = fs::read_to_string(run.join(file)).unwrap();
    let row = |line: &str| -> Map<String, Value> {
        let row: Map<String, Value> = serde_json::from_str(line).unwrap();
        row.into_iter().filter(|(name, _)| !is_timing(name)).collect()
    };
    text.lines().map(row).collect()
}

/// Steps in which each prompt was drawn.
fn prompts(run: &Path) -> Vec<(u64, String)> {
    let mut found: Vec<(u64, String)> = rows(run, "rollouts.jsonl")
        .iter()
        .map(|row| (row["step"].as_u64().unwrap(), row["prompt"].as_str().unwrap().to_owned()))
        .collect();
    found.dedup();
    found
}

const MIX: &str = "stage.grpo.data={ small = 1.0, large = 3.0 }";
const CURRICULUM: &str = "stage.grpo.curriculum={ target = [0.3, 0.9], outside = 0.05 }";

#[test]
fn what_is_drawn_survives_a_resume() {
    let dir = tempfile::tempdir().unwrap();
    let one = "stage.grpo.data=\"large\"";
    for (name, sets) in
        [("mix", vec![MIX]), ("curriculum", vec![one, CURRICULUM]), ("both", vec![MIX, CURRICULUM])]
    {
        let whole = dir.path().join(name);
        run(&whole, &sets, None).unwrap();
        for stop in [1, 2, 5, 8] {
            let out = dir.path().join(format!("{name}-{stop}"));
            assert!(matches!(run(&out, &sets, Some(stop)), Err(Error::Interrupted)));
            run(&out, &sets, None).unwrap();
            for file in ["metrics.jsonl", "rollouts.jsonl"] {
                assert_eq!(rows(&out, file), rows(&whole, file), "{name}, stopped after {stop}: {file}");
            }
            let last =
                |run: &Path, file: &str| fs::read(run.join("checkpoints/step-000009").join(file)).unwrap();
            for file in ["model.safetensors", "state.json"] {
                assert!(last(&out, file) == last(&whole, file), "{name}, stopped after {stop}: {file}");
            }
        }
        let share = rows(&whole, "metrics.jsonl").last().unwrap().get("data/in_target_frac").cloned();
        assert_eq!(share.is_some(), name != "mix", "{share:?}");
    }
    // Of two digits are about three quarters.
    let drawn = prompts(&dir.path().join("mix"));
    let large = drawn.iter().filter(|(_, prompt)| prompt.len() > 4).count();
    assert!(drawn.len() >= 46 && (26..45).contains(&large), "{large} of {}", drawn.len());
    // A curriculum draws other rows than the order of the source.
    run(&dir.path().join("plain"), &[one], None).unwrap();
    assert_ne!(prompts(&dir.path().join("plain")), prompts(&dir.path().join("curriculum")));
}

#[test]
fn one_source_is_drawn_as_before_however_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (name, list) = (dir.path().join("name"), dir.path().join("list"));
    run(&name, &["stage.grpo.data=\"large\""], None).unwrap();
    run(&list, &["stage.grpo.data=[\"large\"]"], None).unwrap();
    assert_eq!(rows(&name, "rollouts.jsonl"), rows(&list, "rollouts.jsonl"));
    let state = fs::read_to_string(name.join("checkpoints/step-000009/state.json")).unwrap();
    assert!(!state.contains("drawn"), "{state}");
    // The resolved config reads back as what it was.
    let mixed = dir.path().join("mixed");
    run(&mixed, &[MIX, CURRICULUM], None).unwrap();
    let text = fs::read_to_string(mixed.join("config.toml")).unwrap();
    let again = RunConfig::parse(&text, Path::new("config.toml"), &[]).unwrap();
    assert_eq!(again.to_toml().unwrap(), text);
}

#[test]
fn wrong_mixes_and_targets_are_refused_by_name() {
    for (set, expected) in [
        ("stage.grpo.data={ small = 0.0 }", "stage.1.data: the weight of small is 0 and must be above 0"),
        ("stage.grpo.data=[\"small\", \"smal\"]", "did you mean `small`?"),
        ("stage.grpo.data=[]", "stage.1.data: names no data source"),
        ("stage.grpo.curriculum={ target = [0.5, 0.2] }", "stage.1.curriculum.target: is [0.5, 0.2]"),
        ("stage.grpo.curriculum={ outside = 0.0 }", "stage.1.curriculum.outside: is 0"),
    ] {
        let sets = ["stage.grpo.data=\"small\"".to_owned(), set.to_owned()];
        let error = RunConfig::parse(CONFIG, Path::new("drawn.toml"), &sets).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
