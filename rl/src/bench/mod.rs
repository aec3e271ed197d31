//! Times of the phases of a GRPO step, with random tokens: what `rlvr bench` prints.
//!
//! Every phase is run once unmeasured and then `repeat` times; the repetition with the median wall time is reported. The
//! ceilings are measured on the same device by the same process ([`ceiling`]), so that a share says how much of what the
//! machine can do right now is used. Work is counted from the shape: 2 operations a weight and token forward, 4 more
//! backward (2 with an adapter, whose own work is left out; less where a part is frozen), attention left out; one reading of all weights and of the filled cache a decoding step.

pub mod ceiling;
mod cost;
mod phases;
mod pictures;
mod shapes;

use crate::Error;
use crate::config::{GrpoConfig, OptimKind, PolicyConfig};
use crate::policy::Policy;
use crate::selection;
use crate::train::grpo::Trainer;
use crate::train::trajectory::{Batch, Trajectory};
use cost::Cost;
use phases::Bench;
use rlvr_policies::{Decoder, LoraSettings};
use rlvr_rewards::{IMAGE_PLACE, Message, Response, Task, group_reward_fn};
use rlvr_rollout::CounterRng;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;

pub use cost::processor_s;
pub use shapes::{SHAPES, random_decoder, shape};

/// Learning rate of the steps.
const LR: f64 = 1e-6;

/// How much to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BenchSettings {
    /// Completions of a step, B.
    pub batch: usize,
    /// Completions a prompt, G; divides the batch.
    pub group: usize,
    /// Tokens of a prompt.
    pub prompt_tokens: usize,
    /// Tokens of a completion.
    pub new_tokens: usize,
    /// Completions of a training pass.
    pub micro_batch: usize,
    /// Measured repetitions.
    pub repeat: usize,
    /// The optimizer.
    pub optimizer: OptimKind,
    /// Pictures of a prompt, for models that see.
    pub images: usize,
    /// Their side, pixels.
    pub image_size: usize,
}

/// One phase.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct PhaseTime {
    /// Wall time, seconds.
    pub wall_s: f64,
    /// Processor time of all threads, seconds, to 10 ms; none where the system does not tell.
    pub cpu_s: Option<f64>,
    /// Tokens that the phase computes: those of prompts once a group; completions for `decode` and `step`.
    pub tokens: usize,
    /// Tokens a second of wall time.
    pub tokens_per_s: f64,
    /// Share of the measured floating-point ceiling, in [0, 1].
    pub flop_share: f64,
    /// Share of the measured memory bandwidth; where weights are read for few tokens.
    pub bandwidth_share: Option<f64>,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    /// Parameters of the policy.
    pub parameters: usize,
    /// Parameters that training changes.
    pub trained_parameters: usize,
    /// State of the optimizer, MiB.
    pub optimizer_mb: f64,
    /// What was asked for.
    pub settings: BenchSettings,
    /// Type of the operands of matrix products: `f32` or `bf16`.
    pub dtype: &'static str,
    /// Instructions that products of them are computed by, on a CPU.
    pub instructions: Option<&'static str>,
    /// Threads of the pool.
    pub threads: usize,
    /// What the device can do.
    pub ceilings: ceiling::Ceilings,
    /// By name: prefill, decode, logprobs, backward, optimizer, step; with pictures `see` (their features) and `see_back` (the
    /// backward of the tower), whose tokens are those of the pictures.
    pub phases: BTreeMap<&'static str, PhaseTime>,
    /// Largest resident memory of the process, MiB.
    pub peak_rss_mb: f64,
    /// Memory of a device other than the CPU that the process holds at the end, MiB; it gives little back before.
    pub device_memory_mb: Option<f64>,
}

/// The decoder with a new adapter of this rank on all linear layers.
///
/// # Errors
/// As [`Decoder::with_new_lora`].
pub fn with_lora(decoder: Decoder, rank: usize) -> Result<Decoder, Error> {
    let settings = LoraSettings { rank, alpha: 2.0 * rank as f64, ..LoraSettings::default() };
    let rng = |param: usize| CounterRng::new(1, 0, param as u64, u64::MAX - 1);
    Ok(decoder.with_new_lora(settings, |param, i| rng(param).uniform(i as u64) as f32)?)
}

/// The decoder of which training changes what `[policy]` would say with these patterns.
///
/// # Errors
/// A pattern that names no parameter.
pub fn with_selection(
    decoder: Decoder,
    trainable: Option<Vec<String>>,
    frozen: Vec<String>,
) -> Result<Decoder, Error> {
    selection::apply(decoder, &PolicyConfig { trainable, frozen, ..PolicyConfig::default() })
}

/// Measures every phase. The weights change; throw the decoder away.
///
/// # Errors
/// Settings that contradict each other or exceed the context, a loss that is not finite.
pub fn bench(decoder: Decoder, settings: BenchSettings) -> Result<BenchReport, Error> {
    let decoder = shapes::seeing_squares(decoder, settings.image_size);
    check(&decoder, &settings)?;
    let policy = Policy::without_text(decoder)?;
    let device = policy.decoder.device().clone();
    let tasks = random_tasks(&policy, &settings);
    let batch = random_batch(&policy, &tasks, &settings)?;
    let config = step_config(&settings)?;
    // Rewards that differ within every group: each of its completions is trained on.
    let reward = group_reward_fn("alternating", |_: &Task, group: &[Response<'_>]| {
        (0..group.len()).map(|i| if i % 2 == 0 { 1.0 } else { 0.0 }).collect()
    });
    let reference = policy.decoder.without_lora();
    let cost = Cost::new(&policy.decoder);
    let trainer = Trainer::new(policy, Some(reference), &config, Some(&reward), 1, 1);
    let phases = BTreeMap::new();
    let mut bench = Bench { trainer, batch, settings, cost, device, phases };
    bench.pictures();
    bench.generation()?;
    bench.training()?;
    bench.step(&tasks)?;
    Ok(bench.report())
}

fn check(decoder: &Decoder, s: &BenchSettings) -> Result<(), Error> {
    let problem = |what: String| Err(Error::Unusable { what });
    let context = decoder.config().max_position_embeddings;
    if [s.batch, s.group, s.prompt_tokens, s.new_tokens, s.micro_batch, s.repeat].contains(&0) {
        return problem("batch, group, tokens, micro-batch and repetitions must be at least 1".into());
    }
    if !s.batch.is_multiple_of(s.group) {
        return problem(format!("a batch of {} is no multiple of the group of {}", s.batch, s.group));
    }
    let seen = match decoder.processor() {
        _ if s.images == 0 => 0,
        None => return problem("a policy that does not see was given images".into()),
        Some(_) if s.image_size == 0 => return problem("images have at least one pixel".into()),
        Some(processor) => {
            let tokens = processor.tokens(s.image_size, s.image_size);
            s.images * tokens.map_err(|e| Error::Unusable { what: e.to_string() })?
        }
    };
    let asked = s.prompt_tokens + s.new_tokens + seen;
    if asked > context {
        let of = if seen > 0 { format!(" ({seen} of images)") } else { String::new() };
        return problem(format!("{asked} tokens a sequence{of} exceed the policy's context of {context}"));
    }
    Ok(())
}

/// A step with a clipped surrogate and a KL penalty.
fn step_config(s: &BenchSettings) -> Result<GrpoConfig, Error> {
    let config = json!({
        "steps": 1, "prompts_per_step": s.batch / s.group, "group_size": s.group, "micro_batch": s.micro_batch,
        "max_batch_rows": s.batch, "sampling": {"max_tokens": s.new_tokens}, "loss": {"kl_coef": 0.02},
        "optim": {"lr": LR, "kind": s.optimizer},
    });
    serde_json::from_value(config).map_err(|e| Error::Unusable { what: e.to_string() })
}

/// Tasks with prompts of random characters, each of which is a token, behind random pictures.
fn random_tasks(policy: &Policy, s: &BenchSettings) -> Vec<Task> {
    let tokens = policy.decoder.config().vocab_size.min(Policy::CHARACTERS.len()) as u64;
    let prompt = |row: usize| -> String {
        let id = |i: usize| crate::random::between(0, tokens - 1, &[row as u64, i as u64]) as usize;
        (0..s.prompt_tokens).map(|i| Policy::CHARACTERS.as_bytes()[id(i)] as char).collect()
    };
    let task = |row: usize| {
        let mut content = prompt(row);
        if s.images > 0 {
            // What happens to read like a place is none.
            content = content.replace(IMAGE_PLACE, &" ".repeat(IMAGE_PLACE.len()));
            content.insert_str(0, &IMAGE_PLACE.repeat(s.images));
        }
        Task {
            id: row.to_string(),
            prompt: vec![Message { role: "user".into(), content }],
            images: (0..s.images).map(|i| pictures::random(row * s.images + i, s.image_size)).collect(),
            ..Task::default()
        }
    };
    (0..s.batch / s.group).map(task).collect()
}

/// Their prompts, and completions with random tokens and advantages of both signs.
fn random_batch(policy: &Policy, tasks: &[Task], s: &BenchSettings) -> Result<Batch, Error> {
    let vocab = policy.decoder.config().vocab_size as u64;
    let token = |row: usize, i: usize| {
        crate::random::between(0, vocab - 1, &[(s.batch + row) as u64, i as u64]) as u32
    };
    let trajectory = |row: usize| Trajectory {
        advantage: if row.is_multiple_of(2) { 1.0 } else { -1.0 },
        ..Trajectory::completion(
            row / s.group,
            row % s.group,
            (0..s.new_tokens).map(|i| token(row, i)).collect(),
        )
    };
    let prompts = tasks.iter().map(|t| policy.prompt_of(t));
    Ok(Batch {
        prompts: prompts.collect::<Result<_, Error>>()?,
        trajectories: (0..s.batch).map(trajectory).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn every_phase_of_the_tiny_shape() {
        let decoder = random_decoder(shape("tiny").unwrap(), &Device::flex());
        let settings = BenchSettings {
            batch: 4,
            group: 2,
            prompt_tokens: 5,
            new_tokens: 3,
            micro_batch: 4,
            repeat: 1,
            optimizer: OptimKind::Adamw,
            images: 0,
            image_size: 0,
        };
        let report = bench(decoder.clone(), settings).unwrap();
        let names: Vec<&str> = report.phases.keys().copied().collect();
        assert_eq!(names, ["backward", "decode", "logprobs", "optimizer", "prefill", "step"]);
        assert!(report.phases.values().all(|p| p.wall_s > 0.0 && p.tokens > 0));
        // Two prompts of five tokens; four completions of three, of which the last token is not fed.
        assert_eq!(report.phases["prefill"].tokens, 10);
        assert_eq!(report.phases["decode"].tokens, 12);
        assert_eq!(report.phases["logprobs"].tokens, 10 + 4 * 2);
        for bad in [
            BenchSettings { group: 3, ..settings },
            BenchSettings { repeat: 0, ..settings },
            BenchSettings { new_tokens: 9000, ..settings },
            BenchSettings { images: 1, image_size: 8, ..settings },
        ] {
            assert!(bench(decoder.clone(), bad).is_err(), "{bad:?}");
        }
    }
}
