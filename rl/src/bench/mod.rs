//! Times of the phases of a GRPO step, with random tokens: what `rlvr bench` prints.
//!
//! Every phase is run once unmeasured and then `repeat` times; the repetition with the median wall time is reported. The
//! ceilings are measured on the same device by the same process ([`ceiling`]), so that a share says how much of what the
//! machine can do right now is used. Work is counted from the shape: 2 operations a weight and token forward, 4 more
//! backward, attention left out; one reading of all weights and of the filled cache a decoding step.

pub mod ceiling;

use crate::Error;
use crate::algorithm::{LossConfig, LossError, StepTotals};
use crate::generate::{Request, complete};
use crate::policy::Sampler;
use crate::run::record::peak_rss_mb;
use crate::train::adamw::AdamWConfig;
use crate::train::batch::{self, Sample};
use crate::train::grpo::micro_loss;
use crate::train::learner::Learner;
use burn::tensor::{DType, Device};
use rlvr_policies::cache::{Cache, DrawAt};
use rlvr_policies::host::gemm::Operands;
use rlvr_policies::host::head::TargetStats;
use rlvr_policies::packed::PackedBatch;
use rlvr_policies::{Decoder, ModelConfig};
use rlvr_rollout::{CounterRng, DecodeModel, Prompt, SampleKey, SamplingParams};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// Shapes that can be measured without weights.
pub const SHAPES: [&str; 5] = ["tiny", "smollm2-135m", "qwen2.5-0.5b", "qwen3-0.6b", "qwen2.5-1.5b"];

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
    /// By name: prefill, decode, logprobs, backward, optimizer, step.
    pub phases: BTreeMap<&'static str, PhaseTime>,
    /// Largest resident memory of the process, MiB.
    pub peak_rss_mb: f64,
    /// Memory of a device other than the CPU that the process holds at the end, MiB; it gives little back before.
    pub device_memory_mb: Option<f64>,
}

/// The model of a name in [`SHAPES`].
pub fn shape(name: &str) -> Option<ModelConfig> {
    let model = |kind: &str, dims: [usize; 7], theta: f64| {
        let [hidden, intermediate, layers, heads, kv_heads, head_dim, vocab] = dims;
        json!({
            "model_type": kind, "hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_dim, "vocab_size": vocab,
            "rms_norm_eps": 1e-6, "rope_theta": theta, "max_position_embeddings": 8192,
            "tie_word_embeddings": true, "hidden_act": "silu",
        })
    };
    let value = match name {
        "tiny" => model("llama", [128, 384, 4, 4, 4, 32, 18], 10_000.0),
        "smollm2-135m" => model("llama", [576, 1536, 30, 9, 3, 64, 49_152], 100_000.0),
        "qwen2.5-0.5b" => model("qwen2", [896, 4864, 24, 14, 2, 64, 151_936], 1e6),
        "qwen3-0.6b" => model("qwen3", [1024, 3072, 28, 16, 8, 128, 151_936], 1e6),
        "qwen2.5-1.5b" => model("qwen2", [1536, 8960, 28, 12, 2, 128, 151_936], 1e6),
        _ => return None,
    };
    ModelConfig::from_hf_json(&value, Path::new(name)).ok()
}

/// A decoder of a shape with random weights.
pub fn random_decoder(config: ModelConfig, device: &Device) -> Decoder {
    let normal =
        |param: usize, i: usize| CounterRng::new(1, 0, param as u64, u64::MAX).normal(i as u64) as f32;
    Decoder::random(config, device, normal)
}

/// Measures every phase. The weights change; throw the decoder away.
///
/// # Errors
/// Settings that contradict each other or exceed the context, a loss that is not finite.
pub fn bench(mut decoder: Decoder, settings: BenchSettings) -> Result<BenchReport, Error> {
    check(decoder.config(), &settings)?;
    let BenchSettings { batch, group, prompt_tokens, new_tokens, micro_batch, repeat } = settings;
    let device = decoder.device().clone();
    let ceilings = ceiling::measure(&device, decoder.operands());
    let reference = decoder.clone();
    let optim = AdamWConfig { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, max_grad_norm: 1.0 };
    let mut learner = Learner::new(optim, &decoder);
    let (prompts, mut samples) = random_rollouts(decoder.config().vocab_size, &settings);
    let cost = Cost::new(&decoder);
    let mut phases = BTreeMap::new();
    let mut report = |name, time: Time, tokens: usize, flops: f64, bytes: Option<f64>| {
        phases.insert(name, phase(time, tokens, flops, bytes, &ceilings));
    };

    let fed: usize = prompts.iter().map(Vec::len).sum();
    let prefill = |decoder: &Decoder| {
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        decoder.prefill(&prompts, prompt_tokens).0
    };
    let time = measure((&device, repeat), || (), |()| prefill(&decoder));
    report("prefill", time, fed, cost.blocks(fed) + cost.head(prompts.len()), None);

    let rows: Vec<usize> = (0..batch).map(|i| i / group).collect();
    let first: Vec<u32> = samples.iter().map(|s| s.completion[0]).collect();
    let filled = || prefill(&decoder).select_rows(&decoder, &rows, prompt_tokens + new_tokens);
    let mut failure = None;
    let time = measure((&device, repeat), filled, |mut cache| {
        if let Err(error) = decode_steps(&decoder, &first, &mut cache, new_tokens) {
            failure = Some(error);
        }
    });
    if let Some(error) = failure {
        return Err(error);
    }
    let tokens = batch * new_tokens;
    let bytes = new_tokens as f64 * cost.decode_bytes(batch, prompt_tokens + new_tokens / 2);
    report("decode", time, tokens, cost.blocks(tokens) + cost.head(tokens), Some(bytes));

    let passes: Vec<usize> =
        samples.chunks(micro_batch).map(|micro| batch::pack(&prompts, micro).rows()).collect();
    let computed: usize = passes.iter().sum();
    let forward = cost.blocks(computed) + cost.head(tokens);
    let score = |samples: &[Sample]| batch::logprobs(&reference, &prompts, samples, 1.0, micro_batch);
    let time = measure((&device, repeat), || (), |()| score(&samples));
    report("logprobs", time, computed, forward, None);
    let scored = score(&samples);
    samples.iter_mut().zip(scored).for_each(|(s, r)| s.ref_logprobs = r);

    let mut failed: Option<Error> = None;
    let mut backward = |learner: &mut Learner, decoder: &Decoder, samples: &[Sample]| {
        failed = gradient(learner, decoder, &prompts, samples, micro_batch).err().or(failed.take());
    };
    let time = measure((&device, repeat), || (), |()| backward(&mut learner, &decoder, &samples));
    report("backward", time, computed, 3.0 * forward, None);

    let mut broken = None;
    let mut update = |learner: &mut Learner, decoder: &mut Decoder| {
        broken = learner.apply(decoder, 1e-6).err().or(broken.take());
    };
    let time = measure((&device, repeat), || (), |()| update(&mut learner, &mut decoder));
    // Weights, gradients and two moments are read, all but the gradients written.
    let bytes = 7.0 * size_of::<f32>() as f64 * decoder.num_params() as f64;
    report("optimizer", time, tokens, 0.0, Some(bytes));

    let sampling = SamplingParams { max_tokens: new_tokens, ..SamplingParams::default() };
    let asked: Vec<Prompt> = prompts.iter().map(|p| Prompt::from(p.clone())).collect();
    let mut unusable = None;
    let time = measure(
        (&device, repeat),
        || (),
        |()| {
            let request = Request {
                max_batch_rows: Some(batch),
                ..Request::new(&asked, group, &sampling, SampleKey::new(1, 1))
            };
            match complete(&decoder, &[], None, &request, None) {
                Ok((groups, _)) => {
                    for (sample, made) in samples.iter_mut().zip(groups.into_iter().flatten()) {
                        sample.completion = made.token_ids;
                        sample.sampler_logprobs = Some(made.logprobs.iter().map(|v| f64::from(*v)).collect());
                    }
                }
                Err(error) => unusable = Some(error),
            }
            let scored = score(&samples);
            samples.iter_mut().zip(scored).for_each(|(s, r)| s.ref_logprobs = r);
            backward(&mut learner, &decoder, &samples);
            update(&mut learner, &mut decoder);
        },
    );
    let generated = cost.blocks(fed + tokens) + cost.head(prompts.len() + tokens);
    report("step", time, tokens, generated + 4.0 * forward, None);
    if let Some(error) = broken {
        return Err(Error::Unusable { what: error.to_string() });
    }
    if let Some(error) = unusable {
        return Err(error.into());
    }
    if let Some(error) = failed {
        return Err(error);
    }
    Ok(BenchReport {
        parameters: decoder.num_params(),
        settings,
        dtype: if decoder.operands() == DType::BF16 { "bf16" } else { "f32" },
        instructions: Operands::of(decoder.operands())
            .filter(|_| device == Device::flex())
            .map(Operands::instructions),
        threads: rayon::current_num_threads(),
        ceilings,
        phases,
        peak_rss_mb: peak_rss_mb(),
        device_memory_mb: device.memory_pool_usage().map(|u| u.bytes_reserved as f64 / f64::from(1 << 20)),
    })
}

fn check(config: &ModelConfig, s: &BenchSettings) -> Result<(), Error> {
    let problem = |what: String| Err(Error::Unusable { what });
    let context = config.max_position_embeddings;
    if [s.batch, s.group, s.prompt_tokens, s.new_tokens, s.micro_batch, s.repeat].contains(&0) {
        return problem("batch, group, tokens, micro-batch and repetitions must be at least 1".into());
    }
    if !s.batch.is_multiple_of(s.group) {
        return problem(format!("a batch of {} is no multiple of the group of {}", s.batch, s.group));
    }
    if s.prompt_tokens + s.new_tokens > context {
        let asked = s.prompt_tokens + s.new_tokens;
        return problem(format!("{asked} tokens a sequence exceed the policy's context of {context}"));
    }
    Ok(())
}

/// Random prompts, and samples with random tokens and advantages of both signs.
fn random_rollouts(vocab: usize, s: &BenchSettings) -> (Vec<Vec<u32>>, Vec<Sample>) {
    let tokens = |row: usize, count: usize| -> Vec<u32> {
        (0..count)
            .map(|i| crate::random::between(0, vocab as u64 - 1, &[row as u64, i as u64]) as u32)
            .collect()
    };
    let prompts = (0..s.batch / s.group).map(|p| tokens(p, s.prompt_tokens)).collect();
    let sample = |i: usize| Sample {
        group: i / s.group,
        completion: tokens(s.batch + i, s.new_tokens),
        advantage: if i.is_multiple_of(2) { 1.0 } else { -1.0 },
        ..Sample::default()
    };
    (prompts, (0..s.batch).map(sample).collect())
}

/// Decodes `count` tokens a row. Where the device draws by itself, it does, as the engine lets it; on the CPU nothing is
/// drawn, for there that is no part of decoding.
fn decode_steps(decoder: &Decoder, first: &[u32], cache: &mut Cache, count: usize) -> Result<(), Error> {
    let together = Sampler(decoder).steps_between_reads();
    let draws: Vec<DrawAt> =
        (0..first.len()).map(|row| DrawAt { row, counter: [0; 4], key: [row as u32, 1] }).collect();
    let (mut tokens, mut left) = (first.to_vec(), count);
    while left > 0 {
        let steps = together.min(left);
        match cache.step_and_draw(decoder, &tokens, &draws, steps, 1.0).transpose()? {
            Some(drawn) => tokens = drawn[steps - 1].iter().map(|(token, _)| *token).collect(),
            None => drop(cache.step(decoder, &tokens)),
        }
        left -= steps;
    }
    Ok(())
}

/// The gradient of a step: clipped surrogate with a KL penalty, in micro-batches.
fn gradient(
    learner: &mut Learner,
    decoder: &Decoder,
    prompts: &[Vec<u32>],
    samples: &[Sample],
    micro_batch: usize,
) -> Result<(), Error> {
    let config = LossConfig { kl_coef: 0.02, ..LossConfig::default() };
    let tokens: usize = samples.iter().map(|s| s.completion.len()).sum();
    let totals = StepTotals { sequences: samples.len() as f64, tokens: tokens as f64 };
    learner.begin(decoder);
    let mut loss = |micro: &[Sample], packed: &PackedBatch, targets: &TargetStats| {
        let output = micro_loss(micro, packed, targets, &config, &totals)?;
        Ok::<_, LossError>(output.target_grads())
    };
    learner.accumulate(decoder, prompts, samples.chunks(micro_batch), 1.0, &mut loss)?;
    Ok(())
}

/// Work by the shape of a decoder.
struct Cost {
    /// Weights of the blocks that are multiplied with every token.
    blocks: f64,
    /// Weights of the output layer.
    head: f64,
    /// Bytes of keys and values a token.
    kv_bytes: f64,
    /// Bytes of a weight.
    weight_bytes: f64,
}

impl Cost {
    fn new(decoder: &Decoder) -> Self {
        let c = decoder.config();
        let head = (c.vocab_size * c.hidden_size) as f64;
        let attention = c.hidden_size * c.head_dim * 2 * (c.num_heads + c.num_kv_heads);
        let blocks = c.num_layers * (attention + 3 * c.hidden_size * c.intermediate_size);
        let (kv_bytes, weight_bytes) = (decoder.cache_bytes() as f64, decoder.operands().size() as f64);
        Self { blocks: blocks as f64, head, kv_bytes, weight_bytes }
    }

    fn blocks(&self, tokens: usize) -> f64 {
        2.0 * self.blocks * tokens as f64
    }

    fn head(&self, tokens: usize) -> f64 {
        2.0 * self.head * tokens as f64
    }

    /// Bytes that one decoding step reads: all weights once, and the cache of every row at this length.
    fn decode_bytes(&self, rows: usize, length: usize) -> f64 {
        (self.blocks + self.head) * self.weight_bytes + self.kv_bytes * (rows * length) as f64
    }
}

/// Wall and processor time of a repetition, seconds.
#[derive(Clone, Copy)]
struct Time {
    wall: f64,
    cpu: Option<f64>,
}

/// The repetition of median wall time, after one that does not count. What `work` leaves is dropped unmeasured.
fn measure<S, T>(
    (device, repeat): (&Device, usize),
    mut setup: impl FnMut() -> S,
    mut work: impl FnMut(S) -> T,
) -> Time {
    // A device that fails here fails again where its results are read.
    let wait = || drop(device.sync());
    work(setup());
    let mut times: Vec<Time> = (0..repeat)
        .map(|_| {
            let prepared = setup();
            wait();
            let (cpu, start) = (processor_s(), Instant::now());
            let result = work(prepared);
            wait();
            let wall = start.elapsed().as_secs_f64();
            drop(result);
            Time { wall, cpu: processor_s().zip(cpu).map(|(after, before)| after - before) }
        })
        .collect();
    times.sort_by(|a, b| a.wall.total_cmp(&b.wall));
    times[repeat / 2]
}

fn phase(
    time: Time,
    tokens: usize,
    flops: f64,
    bytes: Option<f64>,
    ceilings: &ceiling::Ceilings,
) -> PhaseTime {
    PhaseTime {
        wall_s: time.wall,
        cpu_s: time.cpu,
        tokens,
        tokens_per_s: tokens as f64 / time.wall,
        flop_share: flops / time.wall / (1e9 * ceilings.gflops),
        bandwidth_share: bytes.map(|b| b / time.wall / (1e9 * ceilings.gbytes_per_s)),
    }
}

/// Processor time of this process so far, where `/proc` tells.
pub fn processor_s() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit(") ").next()?.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_of_the_tiny_shape() {
        let decoder = random_decoder(shape("tiny").unwrap(), &Device::flex());
        let settings =
            BenchSettings { batch: 4, group: 2, prompt_tokens: 5, new_tokens: 3, micro_batch: 4, repeat: 1 };
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
        ] {
            assert!(bench(decoder.clone(), bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn parameters_of_the_shapes() {
        // As their authors state them, embeddings counted once.
        for (name, millions) in [
            ("smollm2-135m", 134.5),
            ("qwen2.5-0.5b", 494.0),
            ("qwen3-0.6b", 596.0),
            ("qwen2.5-1.5b", 1543.7),
        ] {
            let config = shape(name).unwrap();
            let layout = rlvr_policies::spec::ParamLayout::new(&config);
            let count: usize = layout.specs.iter().map(|s| s.shape[0] * s.shape[1]).sum();
            assert!((count as f64 / 1e6 - millions).abs() < 0.5, "{name} {count}");
        }
        assert!(SHAPES.iter().all(|name| shape(name).is_some()) && shape("gpt").is_none());
    }
}
