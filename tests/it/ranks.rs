//! Shards of an optimizer step, and ranks that compute them.
use rlvr::config::RunConfig;
use rlvr::metrics::is_timing;
use rlvr::run::{RunOptions, train};
use serde_json::{Map, Value};
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// A KL term, clipping by the norm, minibatches and several passes: everything that is summed up over a step.
const GRPO: &str = r#"
name = "ranks"
seed = 5
device = "cpu"
[policy.tiny]
layers = 1
hidden = 32
heads = 2
kv_heads = 1
intermediate = 64
context = 24
alphabet = "0123456789+= "
[data.sums]
kind = "addition"
tasks = 50
[rewards]
kind = "sum"
[[rewards.terms]]
reward = { kind = "exact" }
[[rewards.terms]]
reward = { kind = "length", max = 3, soft = 2, unit = "chars" }
[parallel]
shards = 4
[[stage]]
kind = "sft"
data = "sums"
steps = 3
batch = 8
micro_batch = 2
optim = { lr = 1e-2, max_grad_norm = 0.5 }
[[stage]]
kind = "grpo"
data = "sums"
steps = 3
prompts_per_step = 8
group_size = 4
minibatches = 2
updates_per_rollout = 2
micro_batch = 6
sampling = { max_tokens = 5 }
loss = { kl_coef = 0.05 }
optim = { lr = 1e-2, max_grad_norm = 0.5 }
[checkpoint]
every = 2
[log]
tensorboard = false
[preflight]
refuse = false
"#;

/// The rows of `metrics.jsonl` without what describes the machine.
fn metrics(run: &Path) -> Vec<Map<String, Value>> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let row = |line: &str| -> Map<String, Value> {
        let row: Map<String, Value> = serde_json::from_str(line).unwrap();
        row.into_iter().filter(|(name, _)| !is_timing(name)).collect()
    };
    text.lines().map(row).collect()
}

fn run_here(out: &Path, sets: &[&str]) {
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    let config = RunConfig::parse(GRPO, Path::new("ranks.toml"), &sets).unwrap();
    let options = RunOptions { out: Some(out.to_path_buf()), ..RunOptions::default() };
    train(&config, &options, &AtomicBool::new(false), &mut |_: rlvr::run::events::Event<'_>| {}).unwrap();
}

#[test]
fn shards_change_the_order_of_sums_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let outs: Vec<_> = [1, 4, 8].map(|n| (n, dir.path().join(format!("shards-{n}")))).into();
    for (shards, out) in &outs {
        run_here(out, &[&format!("parallel.shards={shards}"), "stage.1.steps=1"]);
    }
    let whole = metrics(&outs[0].1);
    for (shards, out) in &outs[1..] {
        let found = metrics(out);
        assert_eq!(found.len(), whole.len());
        let mut differ = 0;
        for (a, b) in whole.iter().zip(&found) {
            assert_eq!(a.len(), b.len(), "{a:?} {b:?}");
            for (name, value) in a {
                let (Some(a), Some(b)) = (value.as_f64(), b[name].as_f64()) else { continue };
                assert!((a - b).abs() <= 2e-4 * a.abs().max(1e-2), "{shards} shards, {name}: {a} {b}");
                differ += usize::from(a != b);
            }
        }
        // Otherwise nothing was cut.
        assert!(differ > 0);
    }
}
