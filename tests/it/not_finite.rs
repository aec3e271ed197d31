//! Weights that are NaN or infinite end a run, and are never saved.
use rlvr::Error;
use rlvr::config::{DeviceConfig, RunConfig, TinyConfig};
use rlvr::policy::Policy;
use rlvr::run::events::{Event, Report};
use rlvr::run::{RunOptions, train};
use std::path::Path;
use std::sync::atomic::AtomicBool;

const CONFIG: &str = r#"
name = "broken"
device = "cpu"
[data.sums]
kind = "addition"
max_digits = 1
tasks = 20
split = "all"
[rewards]
kind = "length"
max = 2
unit = "chars"
soft = 2
[preflight]
prompts = 0
[checkpoint]
every = 1
[log]
tensorboard = false
"#;
const TINY: &str =
    "[policy.tiny]\nlayers = 1\nhidden = 16\nheads = 2\nkv_heads = 2\nintermediate = 16\ncontext = 16\n";
const SFT: &str = "[[stage]]\nkind = \"sft\"\ndata = \"sums\"\nsteps = 1\nbatch = 4\n";
const GRPO: &str = "[[stage]]\nkind = \"grpo\"\ndata = \"sums\"\nsteps = 1\nprompts_per_step = 4\ngroup_size = 8\n\
                    sampling = { max_tokens = 4 }\n";

fn run(out: &Path, policy: &str, stage: &str) -> Result<Report, Error> {
    let config =
        RunConfig::parse(&format!("{CONFIG}{policy}{stage}"), Path::new("broken.toml"), &[]).unwrap();
    let options = RunOptions { out: Some(out.into()), ..RunOptions::default() };
    train(&config, &options, &AtomicBool::new(false), &mut |_: Event| {})
}

/// Folders of weights that a run has left.
fn saved(run: &Path) -> Vec<String> {
    let mut found: Vec<String> = vec![];
    for name in ["final", "checkpoints"] {
        let Ok(entries) = std::fs::read_dir(run.join(name)) else { continue };
        found.extend(entries.map(|e| e.unwrap().file_name().into_string().unwrap()));
    }
    found
}

#[test]
fn an_update_that_breaks_the_weights_ends_the_run_unsaved() {
    for stage in [SFT, GRPO] {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("run");
        // A step of 1e39 is infinite in f32; the gradient itself is not.
        let stage = format!("{stage}optim = {{ lr = 1e38 }}\n");
        let message = run(&out, TINY, &stage).unwrap_err().to_string();
        assert!(message.starts_with("step 1: the update made parameter model."), "{message}");
        assert!(message.contains("lower the learning rate"), "{message}");
        assert_eq!(saved(&out), [""; 0], "{stage}");
        let meta = std::fs::read_to_string(out.join("meta.json")).unwrap();
        assert!(meta.contains("\"failed\""), "{meta}");
    }
}

#[test]
fn a_gradient_of_a_supervised_step_names_its_tensor_and_its_row() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    // So large weights give log-probabilities that are finite, and their gradient is none.
    let stage = SFT.replace("steps = 1", "steps = 3");
    assert_ne!(stage, SFT);
    let message = run(&out, TINY, &format!("{stage}optim = {{ lr = 1e30 }}\n")).unwrap_err().to_string();
    assert!(message.starts_with("step 2: the gradient norm is"), "{message}");
    assert!(
        message.contains("(the gradient of model.embed_tokens.weight is NaN or infinite, of data."),
        "{message}"
    );
}

#[test]
fn a_broken_policy_is_refused_by_tensor() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("policy");
    let tiny = TinyConfig { layers: 1, hidden: 16, intermediate: 16, context: 16, ..TinyConfig::default() };
    let policy = Policy::tiny(&tiny, 3, &rlvr::run::device(DeviceConfig::Cpu).unwrap()).unwrap();
    policy.save(&folder).unwrap();
    let path = format!("[policy]\npath = {:?}\n", folder.to_str().unwrap());
    let weights = folder.join("model.safetensors");
    let good = std::fs::read(&weights).unwrap();
    for (value, expected) in [(f32::NAN, "holds NaN"), (f32::NEG_INFINITY, "holds -inf")] {
        // The last element of the file: of the final norm.
        let mut bytes = good.clone();
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&value.to_le_bytes());
        std::fs::write(&weights, bytes).unwrap();
        let out = dir.path().join("run");
        let message = run(&out, &path, GRPO).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("model.norm.weight"), "{message}");
        assert!(message.contains("element 15"), "{message}");
        assert!(!out.exists(), "nothing was begun");
    }
}

/// Two groups made elsewhere, of which the second has a reward that no gradient holds.
const ROLLOUTS: &str = r#"{"step": 1, "group": "mild", "prompt_tokens": [3, 4], "completion_tokens": [5, 6], "reward": 1.0}
{"step": 1, "group": "mild", "prompt_tokens": [3, 4], "completion_tokens": [7], "reward": 0.0}
{"step": 1, "group": "wild", "prompt_tokens": [3, 8], "completion_tokens": [5], "reward": 0.0}
{"step": 1, "group": "wild", "prompt_tokens": [3, 8], "completion_tokens": [9, 6], "reward": 0.0}
{"step": 1, "group": "wild", "prompt_tokens": [3, 8], "completion_tokens": [4], "reward": 1e300}
"#;

#[test]
fn a_gradient_that_is_not_finite_names_its_tensor_and_its_sample() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rollouts.jsonl");
    std::fs::write(&path, ROLLOUTS).unwrap();
    let stage = format!(
        "[[stage]]\nkind = \"grpo\"\nmicro_batch = 2\nloss = {{ advantage = \"dr_grpo\" }}\n[stage.rollouts]\npath = {:?}\n",
        path.to_str().unwrap()
    );
    let out = dir.path().join("run");
    let message = run(&out, TINY, &stage).unwrap_err().to_string();
    println!("{message}");
    assert!(message.starts_with("step 1: the gradient norm is"), "{message}");
    assert!(message.contains("(the gradient of model.embed_tokens.weight is NaN or infinite"), "{message}");
    // Every completion of the second group is compared with its mean; the first of them is named.
    assert!(message.contains("of prompt \"wild\", completion 1)"), "{message}");
    assert_eq!(saved(&out), [""; 0]);
}
