//! The scripts of the medical example, with settings so small that they end in seconds: what they call, and that they go
//! on where they were interrupted.
use super::cli::{lines, rlvr, stderr, write};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};

/// A script of examples/medical with the binary of this build and further variables.
fn script(name: &str, args: &[&str], variables: &[(&str, &str)]) -> Output {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/medical").join(name);
    let mut command = Command::new("sh");
    command.arg(path).args(args).env_remove("RUST_LOG").env("RLVR", env!("CARGO_BIN_EXE_rlvr"));
    for variable in ["SEEDS", "FLIPS", "TASKS", "LOW", "HIGH", "SET", "WARMUP_SET", "POLICY", "LIMIT"] {
        command.env_remove(variable);
    }
    command.envs(variables.iter().copied()).output().unwrap()
}

/// What a script prints; it must succeed.
fn printed(name: &str, args: &[&str], variables: &[(&str, &str)]) -> String {
    let output = script(name, args, variables);
    assert!(output.status.success(), "{name}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn count(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).lines().count()
}

/// A fresh policy that reads ASCII, as a folder.
pub fn policy(dir: &Path) -> String {
    let config = r##"
name = "tiny"
[policy.tiny]
layers = 1
hidden = 16
heads = 1
kv_heads = 1
intermediate = 16
context = 1024
alphabet = "\n !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~"
[data.facts]
kind = "facts"
[[stage]]
kind = "sft"
data = "facts"
steps = 1
batch = 2
micro_batch = 2
"##;
    let config = write(dir, "tiny.toml", config);
    let out = dir.join("tiny").display().to_string();
    let output = rlvr(&["train", &config, "--out", &out], "");
    assert!(output.status.success(), "{}", stderr(&output));
    out
}

#[test]
fn the_controls_run_from_the_pool_to_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("controls");
    let variables = [
        ("SEEDS", "1 2"),
        ("FLIPS", "0 0.4"),
        ("TASKS", "40"),
        // A policy that has learnt nothing solves nothing: all tasks stay.
        ("LOW", "0"),
        (
            "WARMUP_SET",
            "--set policy.tiny.layers=1 --set policy.tiny.hidden=16 --set policy.tiny.heads=1 \
             --set policy.tiny.kv_heads=1 --set policy.tiny.intermediate=16 --set stage.sft.steps=2 \
             --set stage.sft.optim.warmup_steps=0 --set data.heldout.tasks=8",
        ),
        (
            "SET",
            "--set stage.grpo.steps=2 --set stage.grpo.prompts_per_step=4 --set stage.grpo.group_size=2 \
             --set stage.grpo.optim.warmup_steps=0 --set data.heldout.tasks=8 --set preflight.refuse=false",
        ),
    ];
    let args = [out.to_str().unwrap()];
    let table = printed("controls", &args, &variables);
    for part in
        ["warm-up", "flip 0.4", "filtered", "random", "share of the gain", "filtered - random, paired"]
    {
        assert!(table.contains(part), "no {part:?} in {table}");
    }
    assert_eq!(count(&out.join("results.tsv")), 2 * 5);
    for seed in 1..=2 {
        let chosen = count(&out.join(format!("filtered-{seed}.jsonl")));
        assert!(chosen > 0);
        assert_eq!(count(&out.join(format!("random-{seed}.jsonl"))), chosen);
    }
    // What is whole is not done again: no binary is needed.
    let again = [&variables[..], &[("RLVR", "false")]].concat();
    assert_eq!(printed("controls", &args, &again), table);
}

#[test]
fn the_table_of_the_controls_has_the_right_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path();
    let run = |name: &str, accuracies: &[f64; 3]| {
        for (seed, accuracy) in (1..).zip(accuracies) {
            let run = out.join(format!("{name}-{seed}"));
            std::fs::create_dir_all(run.join("final")).unwrap();
            std::fs::write(run.join("final/model.safetensors"), "").unwrap();
            let row = |step: u64, stage: &str, accuracy: f64| {
                json!({"step": step, "stage": stage, "eval/heldout/greedy": accuracy, "eval/heldout/reward_mean": 1.0,
                       "eval/heldout/ci95_low": accuracy - 0.1, "eval/heldout/ci95_high": accuracy + 0.1})
            };
            let rows = [row(0, "start", 0.9), row(3, "grpo", *accuracy), json!({"step": 4, "stage": "grpo"})];
            write(&run, "metrics.jsonl", &lines(&rows));
        }
    };
    run("warmup", &[0.3, 0.4, 0.5]);
    run("flip-0", &[0.7, 0.8, 0.9]);
    run("flip-0.4", &[0.4, 0.5, 0.6]);
    run("filtered", &[0.60, 0.71, 0.82]);
    run("random", &[0.60, 0.70, 0.80]);
    write(out, "pool.jsonl", "{}\n");
    for file in ["filtered", "random"] {
        (1..=3).for_each(|seed| drop(write(out, &format!("{file}-{seed}.jsonl"), "{}\n")));
    }
    let variables = [("RLVR", "false"), ("FLIPS", "0 0.4")];
    let table = printed("controls", &[out.to_str().unwrap()], &variables);
    // Student's quantile of 2 degrees of freedom is 4.303, the standard deviation over seeds 0.1 or 0.01.
    for part in [
        "flip 0.4        2  0.5000    [0.4000, 0.6000]",
        "flip 0           3  0.8000  [0.5516, 1.0000]  1.000",
        "flip 0.4         3  0.5000  [0.2516, 0.7484]  0.250              -0.3000  [",
        "warm-up          3  0.4000  [0.1516, 0.6484]  0.000",
        "random           3  0.7000  [0.4516, 0.9484]  0.750              -0.1000  [",
        "filtered - random, paired by seed: +0.0100  [-0.0148, +0.0348]",
    ] {
        assert!(table.contains(part), "no {part:?} in {table}");
    }
    let one = [("RLVR", "false"), ("FLIPS", "0"), ("SEEDS", "1")];
    let one = printed("controls", &[out.to_str().unwrap()], &one);
    assert!(one.contains("one seed: no interval"), "{one}");
    std::fs::write(out.join("flip-0-1/metrics.jsonl"), "{\"step\": 1}\n").unwrap();
    let failed = script("controls", &[out.to_str().unwrap()], &variables);
    assert!(!failed.status.success() && stderr(&failed).contains("flip-0-1/metrics.jsonl has no held-out"));
}

#[test]
fn the_lookups_run_and_are_counted_by_stage() {
    let dir = tempfile::tempdir().unwrap();
    let policy = policy(dir.path());
    let out = dir.path().join("lookup");
    let set = "--set stage.sft.steps=2 --set stage.grpo.steps=2 --set stage.grpo.prompts_per_step=2 \
               --set stage.grpo.group_size=2 --set data.heldout.tasks=4 --set preflight.refuse=false";
    let variables = [("SEEDS", "1 2"), ("POLICY", policy.as_str()), ("SET", set)];
    let table = printed("lookup", &[out.to_str().unwrap()], &variables);
    for part in ["before", "warm-up", "after"] {
        assert_eq!(table.lines().filter(|line| line.starts_with(part)).count(), 3, "{table}");
    }
    let again = [&variables[..], &[("RLVR", "false")]].concat();
    assert_eq!(printed("lookup", &[out.to_str().unwrap()], &again), table);
}

/// Made-up questions in the form of the four data sets.
fn questions(dir: &Path) -> String {
    const WORDS: [&str; 12] = [
        "fever", "cough", "cortex", "lesion", "enzyme", "plasma", "muscle", "nerve", "biopsy", "serum",
        "sodium", "spleen",
    ];
    let word = |i: usize| WORDS[i % WORDS.len()];
    let words = |i: usize| (0..8).map(|k| word(i * 7 + k * k + i / 12 * k)).collect::<Vec<_>>().join(" ");
    let choice = |set: &str, i: usize, split: &str| {
        let question = format!("In case {i} of {set}, the {} is caused by the", words(i));
        let options: Vec<&str> = (0..4).map(|k| word(i + 3 * k)).collect();
        json!({"id": format!("{set}-{i}"), "dataset": set, "split": split, "question": question, "options": options,
               "answer": (["A", "B", "C", "D"][i % 4])})
    };
    let yes_no = |i: usize, split: &str| {
        json!({"id": i.to_string(), "dataset": "pubmedqa", "split": split, "question": format!("Is {} seen?", words(i + 5)),
               "context": format!("Study {i}: {}.", words(i + 9)), "answer": (["yes", "no", "maybe"][i % 3])})
    };
    let file = |name: &str, rows: Vec<Value>| {
        let path = dir.join("raw").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, lines(&rows)).unwrap();
    };
    let part = |i: usize, train: usize| if i < train { "train" } else { "test" };
    file("medmcqa/dev.jsonl", (0..90).map(|i| choice("medmcqa", i, part(i, 60))).collect());
    file("pubmedqa/pqal.jsonl", (0..50).map(|i| yes_no(i, part(i, 20))).collect());
    file("medqa/test.jsonl", (100..130).map(|i| choice("medqa", i, "test")).collect());
    file("mmlu_medical/test.jsonl", (200..230).map(|i| choice("mmlu", i, "test")).collect());
    dir.join("raw").display().to_string()
}

#[test]
fn the_medical_experiment_runs_from_raw_data_to_comparisons() {
    let dir = tempfile::tempdir().unwrap();
    let (policy, data) = (policy(dir.path()), questions(dir.path()));
    let out = dir.path().join("medical");
    let set = "--set stage.grpo.steps=2 --set stage.grpo.prompts_per_step=2 --set stage.grpo.group_size=2 \
               --set preflight.refuse=false";
    let variables = [("SEEDS", "1"), ("POLICY", policy.as_str()), ("SET", set), ("LIMIT", "2")];
    let args = [data.as_str(), out.to_str().unwrap()];
    let tables = printed("run", &args, &variables);
    for set in ["medmcqa", "mmlu_medical", "medqa", "pubmedqa"] {
        assert!(tables.contains(set), "no {set} in {tables}");
        assert!(count(&out.join(format!("data/eval/{set}.jsonl"))) > 0);
    }
    for mode in ["generate", "likelihood"] {
        for name in ["before", "warmup", "grpo-1"] {
            assert!(out.join(mode).join(name).join("results.json").is_file(), "{mode} {name}");
        }
    }
    assert!(count(&out.join("data/warmup.jsonl")) > 0 && count(&out.join("data/train.jsonl")) > 0);
}
