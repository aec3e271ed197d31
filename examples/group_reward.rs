//! A reward that compares: a closure sees all completions of a task and ranks them, while GRPO trains a tiny policy.
//!
//! `cargo run --release --example group_reward`
#![allow(clippy::print_stdout)] // An example shows what it does.

use rlvr::config::{DeviceConfig, GrpoConfig, TinyConfig};
use rlvr::policy::Policy;
use rlvr::rewards::{Message, Response, Task, group_reward_fn, score_batch};
use rlvr::train::grpo::{Source, Trainer};
use std::collections::HashSet;
use std::error::Error;

/// The keys of a `[[stage]]` of kind `grpo`; what is absent has its default.
const STAGE: &str = r#"
steps = 40
prompts_per_step = 10
group_size = 8
micro_batch = 80
sampling = { temperature = 1.0, max_tokens = 8 }
loss = { advantage = "grpo", objective = "clip" }
optim = { lr = 1e-3 }
"#;

/// How many different digits a text has.
fn variety(text: &str) -> usize {
    text.chars().filter(char::is_ascii_digit).collect::<HashSet<_>>().len()
}

/// For each completion the share of the others that it beats, a tie counting half.
fn rank(values: &[usize]) -> Vec<f64> {
    let others = values.len().saturating_sub(1).max(1) as f64;
    let beaten = |v: usize| values.iter().filter(|o| **o < v).count() as f64;
    let ties = |v: usize| values.iter().filter(|o| **o == v).count() as f64 - 1.0;
    values.iter().map(|v| (beaten(*v) + ties(*v) / 2.0) / others).collect()
}

/// Runs the example.
pub fn main() -> Result<(), Box<dyn Error>> {
    // One number a completion, in their order. Which is best is known, how good it is need not be.
    let reward = group_reward_fn("variety", |_task: &Task, responses: &[Response<'_>]| {
        rank(&responses.iter().map(|r| variety(r.text)).collect::<Vec<_>>())
    });

    // Neighbours with the same task are a group.
    let task = Task::default();
    let scores = score_batch(&reward, &["1111", "1212", "1234"].map(|text| (&task, Response::new(text))));
    println!("1111, 1212, 1234 earn {:?}", scores.iter().filter_map(|o| o.score).collect::<Vec<_>>());

    let task = |digit: usize| Task {
        id: digit.to_string(),
        prompt: vec![Message { role: "user".into(), content: format!("{digit}=") }],
        ..Task::default()
    };
    let tasks: Vec<Task> = (0..10).map(task).collect();
    let tasks: Vec<&Task> = tasks.iter().collect();

    let seed = 1;
    let tiny = TinyConfig {
        layers: 2,
        hidden: 64,
        intermediate: 128,
        context: 16,
        alphabet: "0123456789=".into(),
        ..TinyConfig::default()
    };
    let policy = Policy::tiny(&tiny, seed, &rlvr::run::device(DeviceConfig::Cpu)?)?;
    let stage: GrpoConfig = toml::from_str(STAGE)?;
    let steps = stage.steps.unwrap_or(0);
    let mut trainer = Trainer::new(policy, None, &stage, Some(&reward), seed, steps);
    for step in 1..=steps {
        let outcome = trainer.step(step, &Source::Tasks(&tasks), None)?;
        // The mean rank is a half by construction; what it ranks is what rises.
        let texts = outcome.groups.iter().flat_map(|g| &g.judgements).map(|j| variety(&j.text));
        let values: Vec<usize> = texts.collect();
        if step == 1 || step % 10 == 0 {
            let mean = values.iter().sum::<usize>() as f64 / values.len() as f64;
            println!("step {step:>2}  different digits {mean:.2}");
        }
    }
    Ok(())
}
