//! Training adapters: AdamW's steps as PyTorch takes them, whole GRPO runs as TRL with PEFT ends them in float64, commands.
use burn::tensor::Device;
use rlvr::config::{OptimConfig, RunConfig};
use rlvr::policies::packed::{PackedBatch, PromptGroup};
use rlvr::policies::{AdapterFiles, PolicyFiles};
use rlvr::run::events::Event;
use rlvr::run::{RunOptions, train};
use rlvr::train::optim::Optimizer;
use safetensors::{SafeTensors, tensor::TensorView};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

fn floats(file: &SafeTensors, key: &str) -> Vec<f32> {
    file.tensor(key).unwrap().data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn three_steps_of_three_adapters() {
    for case in ["llama_kv_down", "qwen2_regex_rslora", "qwen3_all_patterns"] {
        let folder = golden().join("lora").join(case);
        let adapter = AdapterFiles::open(&folder).unwrap();
        let base = golden().join("models").join(adapter.base.as_deref().unwrap());
        let base = PolicyFiles::open_folder(&base).unwrap().decoder(&Device::flex()).unwrap();
        let mut decoder = adapter.onto(base).unwrap();
        let bytes = std::fs::read(folder.with_extension("safetensors")).unwrap();
        let values = SafeTensors::deserialize(&bytes).unwrap();
        let ids = values.tensor("input_ids").unwrap();
        let width = ids.shape()[1];
        let ids: Vec<u32> = ids.data().chunks(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
        let groups: Vec<_> =
            ids.chunks(width).map(|r| PromptGroup { prompt: &r[..1], completions: vec![&r[1..]] }).collect();
        let batch = PackedBatch::new(&groups);
        let config = OptimConfig { betas: [0.9, 0.99], weight_decay: 0.05, ..OptimConfig::default() };
        let (mut optim, base) = (Optimizer::new(&config, 3, &decoder), decoder.without_lora());
        for _ in 0..3 {
            let mut grads = decoder.zero_gradients();
            let pass = decoder.forward(batch.clone(), 1.0, false);
            let n = pass.targets().logprobs.len();
            pass.backward(&vec![-1.0 / n as f32; n].into(), &mut grads);
            optim.step(&mut decoder, &grads, 0.01).unwrap();
        }
        for (i, spec) in decoder.layout().specs.iter().enumerate() {
            if !decoder.trained()[i] {
                assert_eq!(decoder.param_values(i), base.param_values(i), "{case} {}", spec.name);
                continue;
            }
            for (name, tensor) in spec.to_hf(&decoder.param_values(i)) {
                let want = floats(&values, &format!("adamw3.{name}"));
                let off = tensor.data.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off < 2e-5, "{case} {name}: {off}");
            }
        }
    }
}

/// The adapter that a golden run starts from, in a folder.
fn start(run: &Value, values: &SafeTensors, dir: &Path) -> PathBuf {
    let folder = dir.join("start");
    std::fs::create_dir(&folder).unwrap();
    let (rank, alpha, rslora, targets) = match run["adapter"].as_str().unwrap() {
        "qwen2_qv_rslora" => (8, 16, true, serde_json::json!(["q_proj", "v_proj"])),
        "llama_all" => (4, 8, false, serde_json::json!("all-linear")),
        other => panic!("{other}"),
    };
    let config = serde_json::json!({
        "peft_type": "LORA", "r": rank, "lora_alpha": alpha, "use_rslora": rslora, "target_modules": targets,
    });
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    let tensors: BTreeMap<String, TensorView> = (values.names().into_iter())
        .filter_map(|name| Some((name.strip_prefix("start.")?.to_owned(), values.tensor(name).unwrap())))
        .collect();
    let bytes = safetensors::serialize(tensors, None).unwrap();
    std::fs::write(folder.join("adapter_model.safetensors"), bytes).unwrap();
    folder
}

/// A golden run on a device: most elements of the adapters that may end further than 2e-5 from TRL's, and how far.
pub fn check_on(device: &str, name: &str, (most, furthest): (usize, f32)) {
    let (dir, file) = (tempfile::tempdir().unwrap(), golden().join(format!("lora/grpo_{name}.json")));
    let run: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let bytes = std::fs::read(file.with_extension("safetensors")).unwrap();
    let theirs = SafeTensors::deserialize(&bytes).unwrap();
    let policy = format!("lora = {{ adapter = {:?} }}", start(&run, &theirs, dir.path()));
    let config = crate::golden_runs::write_run_of(&file, dir.path(), (&policy, "reference = \"base\""));
    let config = RunConfig::load(&config, &[format!("device={device:?}")]).unwrap();
    let out = dir.path().join("run");
    let options = RunOptions { out: Some(out.clone()), ..RunOptions::default() };
    train(&config, &options, &AtomicBool::new(false), &mut |_: Event| {}).unwrap();
    let bytes = std::fs::read(out.join("final/adapter_model.safetensors")).unwrap();
    let ours = SafeTensors::deserialize(&bytes).unwrap();
    let (mut worst, mut beyond, mut count, mut all) = (0f32, 0, 0, 0);
    for key in theirs.names() {
        let Some(plain) = key.strip_prefix("f64.") else { continue };
        let (a, b) = (floats(&ours, plain), floats(&theirs, key));
        assert_eq!(a.len(), b.len(), "{key}");
        let off = || a.iter().zip(&b).map(|(x, y)| (x - y).abs());
        worst = off().fold(worst, f32::max);
        beyond += off().filter(|off| *off > 2e-5).count();
        (count, all) = (count + 1, all + a.len());
    }
    assert_eq!(count, ours.names().len());
    println!("{name}: adapters off by at most {worst:.1e}, {beyond} of {all} by more than 2e-5");
    // Where a gradient is nearly zero AdamW makes its rounding as large as a step: TRL's own float32 run is furthest from its
    // float64 run at the same element.
    assert!(beyond <= most && worst < furthest, "{name}: {worst}, {beyond} of {all}");
    assert!(!out.join("final/model.safetensors").exists());
}

#[test]
fn grpo_with_kl_to_the_base_ends_as_in_trl() {
    check_on("cpu", "kl", (1, 4e-5));
}

#[test]
fn dapo_with_two_updates_ends_as_in_trl() {
    check_on("cpu", "dapo_mu2", (1, 4e-5));
}

fn rlvr(args: &[&str]) -> (bool, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_rlvr")).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (out.status.success(), text(out.stdout), text(out.stderr))
}

#[test]
fn an_adapter_is_a_policy_for_commands_and_merges() {
    let dir = tempfile::tempdir().unwrap();
    let (base, adapter) = (golden().join("models/tiny-llama"), golden().join("lora/llama_kv_down"));
    let both = format!("{}+{}", base.display(), adapter.display());
    let rows = dir.path().join("rows.jsonl");
    std::fs::write(&rows, "{\"id\": 1, \"prompt_tokens\": [5, 9], \"completion_tokens\": [77, 301, 8]}\n")
        .unwrap();
    let logprobs = |policy: &str| {
        let (ok, out, error) = rlvr(&["logprobs", "--policy", policy, rows.to_str().unwrap()]);
        assert!(ok, "{error}");
        let row: Value = serde_json::from_str(&out).unwrap();
        serde_json::from_value::<Vec<f64>>(row["logprobs"].clone()).unwrap()
    };
    let merged = dir.path().join("merged");
    let merge = |more: &[&str]| {
        let mut args = vec!["merge", "--policy", &both, "--out", merged.to_str().unwrap()];
        args.extend(more);
        rlvr(&args)
    };
    assert!(merge(&[]).0);
    let (ok, _, error) = merge(&[]);
    assert!(!ok && error.contains("not empty"), "{error}");
    assert!(merge(&["--force", "--dtype", "f32"]).0);
    let off = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let adapted = logprobs(&both);
    assert!(off(&adapted, &logprobs(merged.to_str().unwrap())) < 1e-5);
    assert!(off(&adapted, &logprobs(base.to_str().unwrap())) > 0.01);
    let (ok, _, error) = rlvr(&["merge", "--policy", base.to_str().unwrap(), "--out", "nowhere"]);
    assert!(!ok && error.contains("no adapter"), "{error}");
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let config = |lora: &str| {
        format!(
            "name = \"x\"\n[policy.tiny]\n[policy.lora]\n{lora}\n[data.sums]\nkind = \"addition\"\n\
             [rewards]\nkind = \"exact\"\n[[stage]]\nkind = \"grpo\"\ndata = \"sums\"\nsteps = 1\nsampling = {{ max_tokens = 4 }}\n"
        )
    };
    for (lora, expected) in [
        ("rank = 0", "policy.lora: rank = 0"),
        ("alpha = -1", "policy.lora: alpha = -1"),
        ("rank_pattern = { \"(\" = 2 }", "the pattern `(`"),
        ("adapter = \"x\"\nrank = 2", "`rank` is said by the adapter"),
        ("ranks = 2", "ranks"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, config(lora)).unwrap();
        let (ok, _, error) = rlvr(&["train", path.to_str().unwrap(), "--dry-run"]);
        assert!(!ok && error.contains(expected), "{lora}: {error}");
    }
    // What only the policy can tell.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    for (lora, expected) in [
        ("targets = [\"q_proj\", \"query\"]", "no layer `query`"),
        ("rank_pattern = { dwn_proj = 2 }", "rank_pattern: `dwn_proj` names no layer"),
        ("alpha_pattern = { \"lm_head\" = 2.0 }", "alpha_pattern: `lm_head` names no layer"),
    ] {
        std::fs::write(&path, config(lora)).unwrap();
        let (ok, _, error) = rlvr(&["train", path.to_str().unwrap(), "--dry-run"]);
        let place = format!("config.toml:3: policy.lora: {expected}");
        assert!(!ok && error.contains(&place) && error.contains("down_proj"), "{error}");
    }
}
