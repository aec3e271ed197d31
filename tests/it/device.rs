//! Sampling and training on a real device against the CPU. Ignored: they need such a device, and run on the one that the
//! build is for (CONTRIBUTING.md has the command).
#![cfg(any(feature = "cuda", feature = "wgpu"))]
use crate::golden_runs::check_on;
use rlvr::config::{DeviceConfig, RunConfig, TinyConfig};
use rlvr::events::Event;
use rlvr::policy::{Policy, Sampler};
use rlvr::rollout::{BatchSettings, BatchedEngine, Prompt, RolloutEngine, SampleKey, SamplingParams};
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
    let prompts: Vec<Prompt> =
        (0..3).map(|p| Prompt { token_ids: (3..10 + 7 * p).map(|t| t % 60).collect() }).collect();
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
every = 0
[log]
tensorboard = false
"#;

fn metrics(device: &str) -> Vec<Map<String, Value>> {
    let dir = tempfile::tempdir().unwrap();
    let device = format!("device={device:?}");
    let config = RunConfig::parse(CONFIG, Path::new("device.toml"), &[device]).unwrap();
    let options = RunOptions { out: Some(dir.path().join("run")), ..RunOptions::default() };
    train(&config, &options, &AtomicBool::new(false), &mut |_: Event| {}).unwrap();
    let text = std::fs::read_to_string(dir.path().join("run/metrics.jsonl")).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
#[ignore = "needs a device of the feature `cuda` or `wgpu`"]
fn twenty_training_steps_as_on_the_cpu() {
    let [ours, theirs] = [DEVICE, "cpu"].map(metrics);
    let column = |rows: &[Map<String, Value>], name: &str| -> Vec<f64> {
        rows.iter().filter_map(|r| r.get(name)?.as_f64()).collect()
    };
    let (a, b) = (column(&ours, "sft/loss"), column(&theirs, "sft/loss"));
    assert_eq!((a.len(), b.len()), (20, 20));
    let worst = a.iter().zip(&b).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
    println!("supervised losses off by at most {worst:.1e}");
    assert!(worst < 1e-3, "{a:?} {b:?}");
    // From here on a token that falls the other way changes what follows, but not what is computed.
    let mismatch = column(&ours, "policy/mismatch_max").into_iter().fold(0.0, f64::max);
    let rewards = [&ours, &theirs].map(|rows| column(rows, "reward/mean"));
    println!("mismatch at most {mismatch:.1e}; rewards {:.3?} and {:.3?}", rewards[0], rewards[1]);
    assert_eq!(rewards[0].len(), 20);
    assert!(mismatch < 1e-3);
    let mean = |r: &[f64]| r.iter().sum::<f64>() / r.len() as f64;
    assert!((mean(&rewards[0]) - mean(&rewards[1])).abs() < 0.1);
}

#[test]
#[ignore = "needs a device of the feature `cuda` or `wgpu`"]
fn memory_does_not_grow() {
    let policy = policy(DEVICE);
    let sampler = Sampler(&policy.decoder);
    let sampling = SamplingParams { max_tokens: 40, ..SamplingParams::default() };
    let prompts = [Prompt { token_ids: vec![1, 2, 3, 4, 5] }];
    let used = |step: u64| {
        let mut engine = BatchedEngine::new(&sampler, BatchSettings::default());
        engine.generate(&prompts, 16, &sampling, SampleKey::new(1, step)).unwrap();
        let usage = policy.decoder.device().memory_pool_usage().unwrap();
        (usage.bytes_in_use, usage.bytes_reserved)
    };
    let (in_use, reserved) = (0..4).map(used).last().unwrap();
    let (later, reserved_later) = (4..12).map(used).last().unwrap();
    println!("in use {in_use} then {later} bytes, reserved {reserved} then {reserved_later}");
    // What is waiting to be freed differs from moment to moment.
    assert!(later <= in_use + (1 << 20) && reserved_later <= reserved + (1 << 20));
}
