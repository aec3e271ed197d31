//! A reward of your own: a closure judges the completions of a tiny policy while GRPO trains it.
//!
//! `cargo run --release --example custom_reward`
#![allow(clippy::print_stdout)] // An example shows what it does.

use rlvr::config::{DeviceConfig, GrpoConfig, TinyConfig};
use rlvr::policy::Policy;
use rlvr::rewards::{Message, Response, Task, reward_fn, score_one};
use rlvr::train::grpo::{Source, Trainer};
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

/// Share of the characters that are even digits.
fn even_digits(text: &str) -> f64 {
    let even = text.chars().filter(|c| "02468".contains(*c)).count();
    even as f64 / text.chars().count().max(1) as f64
}

/// Runs the example.
pub fn main() -> Result<(), Box<dyn Error>> {
    // Any closure from a task and a response to a number is a reward once it has a name.
    let reward = reward_fn("even_digits", |_task: &Task, response: Response<'_>| even_digits(response.text));

    // It judges like every other reward: a number in [0, 1] has a verdict, a panic or NaN is an error and never 0.
    let outcome = score_one(&reward, &Task::default(), Response::new("2024!"));
    println!("2024! earns {:?}: {:?}", outcome.score, outcome.verdict);

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
        let rewards: Vec<f64> =
            outcome.groups.iter().flat_map(|g| &g.judgements).filter_map(|j| j.reward).collect();
        if step == 1 || step % 10 == 0 {
            println!("step {step:>2}  mean reward {:.3}", rewards.iter().sum::<f64>() / rewards.len() as f64);
        }
    }
    Ok(())
}
