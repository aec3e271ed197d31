//! Sampling and training on a real device against the CPU. Ignored: they need such a device, and run on the one that the
//! build is for (CONTRIBUTING.md has the command).
#![cfg(any(feature = "cuda", feature = "wgpu"))]
use crate::golden_runs::check_on;
use rlvr::config::{DeviceConfig, RunConfig, TinyConfig};
use rlvr::policy::{Policy, Sampler};
use rlvr::rollout::{BatchSettings, BatchedEngine, Prompt, RolloutEngine, SampleKey, SamplingParams};
use rlvr::run::events::Event;
use rlvr::run::{RunOptions, train};
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// The device of this build, as a config names it.
const DEVICE: &str = if cfg!(feature = "cuda") { "cuda:0" } else { "wgpu" };

fn policy(device: &str) -> Policy {
    let tiny = TinyConfig { layers: 2, context: 256, ..TinyConfig::default() };
    let device: DeviceConfig = device.parse().unwrap();
    Policy::tiny(&tiny, 5, &rlvr::run::device(device).unwrap()).unwrap()
}

#[test]
#[ignore = "needs a device of the feature `cuda` or `wgpu`"]
fn the_same_completions_as_on_the_cpu() {
    let prompts: Vec<Prompt> = (0..3)
        .map(|p| Prompt { token_ids: (3..10 + 7 * p).map(|t| t % 60).collect(), images: vec![] })
        .collect();
    for (temperature, top_k) in [(1.0, None), (0.6, None), (0.0, None), (1.0, Some(5))] {
        let sampling = SamplingParams { temperature, top_k, max_tokens: 150, ..SamplingParams::default() };
        let [ours, theirs] = [DEVICE, "cpu"].map(|device| {
            let policy = policy(device);
            let sampler = Sampler(&policy.decoder);
            let mut engine = BatchedEngine::new(&sampler, BatchSettings::default());
            engine.generate(&prompts, 8, &sampling, SampleKey::new(7, 2)).unwrap()
        });
        let pairs: Vec<_> = ours.iter().flatten().zip(theirs.iter().flatten()).collect();
        // Where a uniform number falls within rounding of a boundary, the completions part.
        let same = pairs.iter().filter(|(a, b)| a.token_ids == b.token_ids).count();
        let mut worst = 0f32;
        for (a, b) in pairs.iter().filter(|(a, b)| a.token_ids == b.token_ids) {
            worst = a.logprobs.iter().zip(&b.logprobs).map(|(x, y)| (x - y).abs()).fold(worst, f32::max);
        }
        println!(
            "temperature {temperature}, top-k {top_k:?}: {same} of {} completions equal, log-probabilities off by at \
             most {worst:.1e}",
            pairs.len()
        );
        assert!(same * 20 >= pairs.len() * 19 && worst < 1e-4);
    }
}

#[test]
#[ignore = "needs a device of the feature `cuda` or `wgpu`"]
fn whole_training_runs() {
    for name in ["dapo_default", "grpo_kl", "drgrpo_mu2_temp"] {
        check_on(DEVICE, name, "");
    }
}

#[test]
#[ignore = "needs a device of the feature `cuda` or `wgpu`"]
fn whole_training_runs_of_adapters() {
    for name in ["kl", "dapo_mu2"] {
        // Two hundredths of an optimizer step.
        crate::lora::check_on(DEVICE, name, (4, 1e-4));
    }
}

const CONFIG: &str = r#"
name = "device"
[policy.tiny]
layers = 2
hidden = 64
heads = 2
kv_heads = 1
intermediate = 128
context = 16
alphabet = "0123456789+= "
[data.sums]
kind = "addition"
max_digits = 1
tasks = 100
split = "all"
[rewards]
kind = "exact"
[[stage]]
kind = "sft"
data = "sums"
steps = 20
batch = 32
optim = { lr = 2e-3, betas = [0.9, 0.99], warmup_steps = 10 }
[[stage]]
kind = "grpo"
data = "sums"
steps = 20
prompts_per_step = 16
group_size = 8
micro_batch = 64
sampling = { max_tokens = 4 }
optim = { lr = 1e-3, warmup_steps = 3 }
[checkpoint]
every = 5
[log]
tensorboard = false
rollouts_tokens = true
"#;

/// Metrics of the steps of a run of `text` into `out`.
fn metrics(text: &str, out: &Path, device: &str, more: &[&str]) -> Vec<Map<String, Value>> {
    let mut set = vec![format!("device={device:?}")];
    set.extend(more.iter().map(|s| (*s).to_owned()));
    let config = RunConfig::parse(text, Path::new("device.toml"), &set).unwrap();
    let options = RunOptions { out: Some(out.to_owned()), ..RunOptions::default() };
    train(&config, &options, &AtomicBool::new(false), &mut |_: Event| {}).unwrap();
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn column(rows: &[Map<String, Value>], name: &str) -> Vec<f64> {
    rows.iter().filter_map(|r| r.get(name)?.as_f64()).collect()
}

/// Largest difference between two columns, over the last twenty steps that have them.
fn apart(a: &[Map<String, Value>], b: &[Map<String, Value>], name: &str) -> f64 {
    let last = |rows| column(rows, name).into_iter().rev().take(20).collect::<Vec<_>>();
    let (a, b) = (last(a), last(b));
    assert_eq!((a.len(), b.len()), (20, 20), "{name}");
    let worst = a.iter().zip(&b).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
    println!(
        "{name}: off by at most {worst:.1e}, where the CPU has up to {:.1e}",
        b.iter().fold(0.0, |m, x| x.abs().max(m))
    );
    worst
}

#[test]
#[ignore = "needs a device of the feature `cuda` or `wgpu`"]
fn twenty_training_steps_as_on_the_cpu() {
    let dir = tempfile::tempdir().unwrap();
    let run = |out: &str, device, more: &[&str]| metrics(CONFIG, &dir.path().join(out), device, more);
    let (ours, theirs) = (run("ours", DEVICE, &[]), run("theirs", "cpu", &[]));
    assert!(apart(&ours, &theirs, "sft/loss") < 1e-3);
    // From here on a token that falls the other way changes what follows, but not what is computed.
    let mismatch = column(&ours, "policy/mismatch_max").into_iter().fold(0.0, f64::max);
    let rewards = [&ours, &theirs].map(|rows| column(rows, "reward/mean"));
    println!("mismatch at most {mismatch:.1e}; rewards {:.3?} and {:.3?}", rewards[0], rewards[1]);
    assert_eq!(rewards[0].len(), 20);
    assert!(mismatch < 1e-3);
    let mean = |r: &[f64]| r.iter().sum::<f64>() / r.len() as f64;
    assert!((mean(&rewards[0]) - mean(&rewards[1])).abs() < 0.1);
    // The CPU's completions, trained on by both.
    let recorded =
        format!("[stage.rollouts]\npath = {:?}\n[checkpoint]", dir.path().join("theirs/rollouts.jsonl"));
    let text = CONFIG
        .replace("\ndata = \"sums\"\nsteps = 20\nprompts", "\nprompts")
        .replace("[checkpoint]", &recorded);
    let replay = |out: &str, device, more: &[&str]| metrics(&text, &dir.path().join(out), device, more);
    let theirs = replay("replayed", "cpu", &[]);
    let ours = replay("replayed-here", DEVICE, &[]);
    assert!(apart(&ours, &theirs, "optim/loss") < 1e-4);
    // AdamW makes steps of rounding where a gradient is nearly zero, so the weights part a little.
    let norms = column(&theirs, "optim/grad_norm").into_iter().fold(0.0, f64::max);
    assert!(apart(&ours, &theirs, "optim/grad_norm") < 1e-2 * norms);
    if cfg!(feature = "cuda") {
        let ours = replay("replayed-bf16", DEVICE, &["policy.dtype=\"bf16\""]);
        assert!(apart(&ours, &theirs, "optim/loss") < 2e-2);
        // What the sampler and the trainer make of the same tokens, operands rounded to bf16 in both.
        let ours = run("bf16", DEVICE, &["policy.dtype=\"bf16\""]);
        let mismatch = column(&ours, "policy/mismatch_kl").into_iter().fold(0.0, f64::max);
        println!("bf16: KL between sampler and trainer at most {mismatch:.1e} nats a token");
        assert!(mismatch < 1e-3);
    }
}

/// Memory of the device at each step of a run: in use and reserved, bytes.
fn memory_of_steps(steps: usize) -> Vec<(u64, u64)> {
    let dir = tempfile::tempdir().unwrap();
    let set = [
        format!("device={DEVICE:?}"),
        format!("stage.grpo.steps={steps}"),
        "policy.tiny.layers=1".to_owned(),
        "stage.grpo.prompts_per_step=2".to_owned(),
        "stage.grpo.loss.kl_coef=0.01".to_owned(),
        "stage.grpo.loss.groups_without_signal=\"keep\"".to_owned(),
        "checkpoint.every=50".to_owned(),
    ];
    let config = RunConfig::parse(CONFIG, Path::new("device.toml"), &set).unwrap();
    let options = RunOptions { out: Some(dir.path().join("run")), ..RunOptions::default() };
    let device = rlvr::run::device(DEVICE.parse().unwrap()).unwrap();
    let mut seen = Vec::new();
    train(&config, &options, &AtomicBool::new(false), &mut |event: Event| {
        if let Event::Step { .. } = event {
            let usage = device.memory_pool_usage().unwrap();
            seen.push((usage.bytes_in_use, usage.bytes_reserved));
        }
    })
    .unwrap();
    seen.split_off(20)
}

#[test]
#[ignore = "needs a device of the feature `cuda` or `wgpu`"]
fn memory_does_not_grow_over_200_steps() {
    let seen = memory_of_steps(200);
    assert_eq!(seen.len(), 200);
    let most = |part: &[(u64, u64)]| {
        (part.iter().map(|s| s.0).max().unwrap_or(0), part.iter().map(|s| s.1).max().unwrap_or(0))
    };
    // The lengths of completions differ from step to step, so the first half has seen what the second half does.
    let (first, second) = (most(&seen[..100]), most(&seen[100..]));
    println!("at most in use and reserved, bytes: {first:?} in 100 steps, {second:?} in the next 100");
    // What is waiting to be freed differs from moment to moment.
    assert!(second.0 <= first.0 + (1 << 20) && second.1 <= first.1 + (1 << 20));
}
