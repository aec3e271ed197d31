//! The programs of examples/: they run, and leave what the commands leave.
use super::cli::{rlvr, stderr};
use super::examples::policy;
use std::path::Path;

#[path = "../../examples/custom_reward.rs"]
mod custom_reward;
#[allow(dead_code)] // Its `main` reads arguments.
#[path = "../../examples/evaluate.rs"]
mod evaluate;
#[allow(dead_code)] // Its `main` reads arguments.
#[path = "../../examples/generate.rs"]
mod generate;
#[path = "../../examples/group_reward.rs"]
mod group_reward;
#[allow(dead_code)] // Its `main` reads arguments.
#[path = "../../examples/read_results.rs"]
mod read_results;

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn rewards_of_ones_own_train() {
    custom_reward::main().unwrap();
    group_reward::main().unwrap();
}

#[test]
fn a_program_generates() {
    let dir = tempfile::tempdir().unwrap();
    let args = strings(&[&format!("{}/final", policy(dir.path())), "1+1="]);
    let texts = generate::run(&args).unwrap();
    assert_eq!(texts.len(), 4);
    assert_eq!(generate::run(&args).unwrap(), texts, "the same key gives the same completions");
}

#[test]
fn a_program_evaluates_as_the_command_does() {
    let dir = tempfile::tempdir().unwrap();
    let policy = format!("{}/final", policy(dir.path()));
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (own, command) = (path("own"), path("command"));
    evaluate::run(&strings(&[&policy, "addition", &own])).unwrap();
    // What is there is gone on from: nothing is left to do.
    evaluate::run(&strings(&[&policy, "addition", &own])).unwrap();
    let args =
        ["eval", "run", "--policy", &policy, "--tasks", "addition", "--limit", "100", "--max-tokens", "64"];
    let done = rlvr(&[&args[..], &["--out", &command]].concat(), "");
    assert!(done.status.success(), "{}", stderr(&done));
    let read = |dir: &str, file: &str| std::fs::read(Path::new(dir).join(file)).unwrap();
    for file in ["samples.jsonl", "settings.json", "results.json", "results.md"] {
        assert!(read(&own, file) == read(&command, file), "{file}");
    }
    let compared = rlvr(&["compare", &own, &command], "");
    assert!(compared.status.success(), "{}", stderr(&compared));
    read_results::run(&strings(&[&own, &command])).unwrap();
}
