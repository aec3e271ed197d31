//! Completions of a policy with their log-probabilities: what `rlvr sample` prints.
//!
//! `cargo run --release --example generate -- HuggingFaceTB/SmolLM2-135M-Instruct "Name a prime number above 10."`
#![allow(clippy::print_stdout)] // An example shows what it does.

use rlvr::config::DeviceConfig;
use rlvr::generate::{Request, generate};
use rlvr::policy::Policy;
use rlvr::rewards::Message;
use rlvr::rollout::{SampleKey, SamplingParams};
use std::error::Error;

/// Prints four completions of a prompt, and returns them.
pub fn run(args: &[String]) -> Result<Vec<String>, Box<dyn Error>> {
    let [policy, prompt] = args else {
        return Err("give a policy (folder, GGUF file or name) and a prompt".into());
    };
    let policy = Policy::open(policy, &rlvr::run::device(DeviceConfig::Auto)?)?;

    // The chat template makes text of messages, the tokenizer tokens of it.
    let prompt = policy.prompt(&[Message { role: "user".into(), content: prompt.clone() }])?;
    let sampling = SamplingParams { temperature: 0.8, max_tokens: 64, ..SamplingParams::default() };
    // All randomness is a function of this key, the number of the prompt and that of the sample.
    let key = SampleKey::new(1, 0);
    let prompts = [prompt];
    let request = Request { stop: &["\n\n".to_owned()], ..Request::new(&prompts, 4, &sampling, key) };
    let (groups, stats) = generate(&policy, &request, None)?;

    let mut texts = Vec::new();
    for completion in &groups[0] {
        let text = policy.text(&completion.token_ids)?;
        let logprob: f32 = completion.logprobs.iter().sum();
        println!("{logprob:>8.2} nats, {}: {}", completion.finish_reason.as_str(), text.trim_end());
        texts.push(text);
    }
    println!("{} tokens", stats.completion_tokens);
    Ok(texts)
}

/// Runs the example.
pub fn main() -> Result<(), Box<dyn Error>> {
    run(&std::env::args().skip(1).collect::<Vec<_>>()).map(|_| ())
}
