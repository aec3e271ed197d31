//! Parts of policies, groups of parameters and optimizers: four steps as PyTorch takes them in float64 (`make_optim.py`), and what
//! is said of settings that fit no policy.
use burn::tensor::Device;
use rlvr::config::{OptimConfig, PolicyConfig};
use rlvr::policies::Decoder;
use rlvr::policies::packed::{PackedBatch, PromptGroup};
use rlvr::policy::Policy;
use rlvr::train::optim::Optimizer;
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}

fn policy(settings: &str) -> Decoder {
    let path = golden("models/tiny-qwen2");
    let config: PolicyConfig = toml::from_str(&format!("path = {path:?}\n{settings}")).unwrap();
    Policy::from_config(&config, 0, &Device::flex()).unwrap().decoder
}

fn batch() -> PackedBatch {
    let file = std::fs::read(golden("tiny-qwen2.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&file).unwrap();
    let ids = file.tensor("input_ids").unwrap();
    let width = ids.shape()[1];
    let ids: Vec<u32> = ids.data().chunks(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
    let groups: Vec<_> =
        ids.chunks(width).map(|r| PromptGroup { prompt: &r[..1], completions: vec![&r[1..]] }).collect();
    PackedBatch::new(&groups)
}

/// Four steps; the gradient norms.
fn steps(decoder: &mut Decoder, optim: &OptimConfig) -> Vec<f64> {
    let (batch, mut optimizer) = (batch(), Optimizer::new(optim, 4, decoder));
    let mut grads = decoder.zero_gradients();
    let step = |_| {
        grads.clear();
        let pass = decoder.forward(batch.clone(), 1.0, false);
        let n = pass.targets().logprobs.len();
        pass.backward(&vec![-1.0 / n as f32; n].into(), &mut grads);
        optimizer.step(decoder, &grads, optim.lr).unwrap()
    };
    (0..4).map(step).collect()
}

/// The values that a case of `optim.json` has of each tensor, against ours: shares further off than `close`, and the worst.
fn check(case: &str, settings: &str, optim: &str, (close, most, share): (f64, f64, f64)) {
    let text = std::fs::read_to_string(golden("optim.json")).unwrap();
    let want = &serde_json::from_str::<Value>(&text).unwrap()[case];
    let before = policy("");
    let mut decoder = policy(settings);
    let optim: OptimConfig = toml::from_str(&format!("betas = [0.9, 0.99]\n{optim}")).unwrap();
    let norms = steps(&mut decoder, &optim);
    for (a, b) in norms.iter().zip(want["norms"].as_array().unwrap()) {
        let b = b.as_f64().unwrap();
        assert!((a - b).abs() < 3e-3 * b, "{case}: {norms:?}");
    }
    let (mut worst, mut beyond, mut count) = (0f64, 0, 0);
    for (i, spec) in decoder.layout().specs.iter().enumerate() {
        let old = spec.to_hf(&before.param_values(i));
        for ((name, tensor), (_, old)) in spec.to_hf(&decoder.param_values(i)).into_iter().zip(old) {
            let wanted: Vec<f64> = serde_json::from_value(want["tensors"][&name].clone()).unwrap();
            let len = tensor.data.len();
            for (k, b) in wanted.iter().enumerate() {
                let off = (f64::from(tensor.data[k * len / 24]) - b).abs();
                worst = worst.max(off);
                beyond += usize::from(off > close);
                count += 1;
            }
            let trained = decoder.trained_parts().spans(i).iter().any(|s| spec.parts()[s.part].0 == name);
            assert_eq!(trained, tensor.data != old.data, "{case}: {name}");
        }
    }
    println!("{case}: {beyond} of {count} off by more than {close:.0e}, worst {worst:.1e}");
    assert!(
        worst < most && (beyond as f64) < share * f64::from(count),
        "{case}: {beyond} of {count}, {worst}"
    );
}

const FROZEN: &str = r#"frozen = ["embed_tokens", 'layers\.0', 'layers\.1\.self_attn\.k_proj']"#;
const GROUPS: &str = r#"
lr = 0.01
weight_decay = 0.05
groups = [
    { params = ".*norm", lr = 0.02, weight_decay = 0.0, warmup_steps = 2 },
    { params = ['layers\.2\.mlp'], lr = 0.005, weight_decay = 0.1 },
]
"#;

#[test]
fn frozen_parts_and_groups_take_pytorchs_steps() {
    // Where a gradient is nearly zero, f32 noise decides the direction of Adam's step.
    check("groups", FROZEN, GROUPS, (1e-4, 1e-3, 0.01));
    // The same said the other way round.
    let trainable = r#"trainable = ['layers\.[12]', "model.norm"]
frozen = ['layers\.1\.self_attn\.k_proj\.(weight|bias)']"#;
    check("groups", trainable, GROUPS, (1e-4, 1e-3, 0.01));
}

#[test]
fn the_first_group_that_names_a_parameter_counts() {
    let after = |groups: &str| {
        let mut decoder = policy("");
        let optim: OptimConfig = toml::from_str(&format!("lr = 0.01\ngroups = [{groups}]")).unwrap();
        steps(&mut decoder, &optim);
        (0..decoder.params().len()).map(|i| decoder.param_values(i)).collect::<Vec<_>>()
    };
    let norms = "{ params = \".*norm\", lr = 0.02 }";
    let rest = |params: &str| format!("{norms}, {{ params = {params:?}, lr = 0.005, weight_decay = 0.1 }}");
    let apart = after(&rest("embed_tokens|.*_proj"));
    assert!(after(&rest("model")) == apart);
    assert!(after("{ params = \"model\", lr = 0.005, weight_decay = 0.1 }") != apart);
}

#[test]
fn muon_takes_pytorchs_steps() {
    let muon = |scale: &str| {
        format!(
            "kind = \"muon\"\nlr = 0.02\nweight_decay = 0.05\nmuon = {{ scale = \"{scale}\" }}\n\
             groups = [{{ params = [\".*norm\", \"bias\", \"embed_tokens\"], lr = 0.01 }}]"
        )
    };
    check("muon", "", &muon("original"), (1e-4, 1e-3, 0.01));
    check("muon_match_rms_adamw", "", &muon("match_rms_adamw"), (1e-4, 1e-3, 0.01));
}

#[test]
fn moments_in_eight_bits_take_the_steps_of_their_description() {
    let optim = "kind = \"adamw_8bit\"\nlr = 0.01\nweight_decay = 0.05";
    check("adamw_8bit", "", optim, (3e-4, 3e-3, 0.01));
    // A quarter of the memory and scales, for tensors that are large enough.
    let decoder = policy("");
    let bytes = |kind: &str| {
        let optim: OptimConfig = toml::from_str(&format!("kind = \"{kind}\"")).unwrap();
        Optimizer::new(&optim, 1, &decoder).state_bytes()
    };
    let (full, rounded, muon) = (bytes("adamw"), bytes("adamw_8bit"), bytes("muon"));
    assert_eq!(full, 8 * decoder.num_params());
    assert!(rounded < full * 35 / 100 && muon < full * 7 / 10, "{full} {rounded} {muon}");
}

/// Twenty steps with moments in 8 bits end near those in f32.
#[test]
fn eight_bits_lose_little() {
    let (batch, start) = (batch(), policy(""));
    let train = |kind: &str| {
        let mut decoder = start.clone();
        let optim: OptimConfig = toml::from_str(&format!("kind = \"{kind}\"\nlr = 3e-3")).unwrap();
        let mut optimizer = Optimizer::new(&optim, 20, &decoder);
        let mut loss = 0.0;
        for _ in 0..20 {
            let mut grads = decoder.zero_gradients();
            let pass = decoder.forward(batch.clone(), 1.0, false);
            let n = pass.targets().logprobs.len();
            loss = -pass.targets().logprobs.iter().sum::<f32>() / n as f32;
            pass.backward(&vec![-1.0 / n as f32; n].into(), &mut grads);
            optimizer.step(&mut decoder, &grads, optim.lr).unwrap();
        }
        loss
    };
    let (full, rounded, muon) = (train("adamw"), train("adamw_8bit"), train("muon"));
    println!("loss after 20 steps: adamw {full}, adamw_8bit {rounded}, muon {muon}");
    assert!((full - rounded).abs() < 0.1 * full && full < 0.01, "{full} {rounded}");
}

const RUN: &str = r#"name = "x"
device = "cpu"
[policy]
tiny = {}
POLICY
[data.sums]
kind = "addition"
[rewards]
kind = "exact"
[preflight]
refuse = false
[[stage]]
kind = "grpo"
data = "sums"
steps = 1
sampling = { max_tokens = 4 }
[stage.optim]
OPTIM
"#;

#[test]
fn patterns_that_name_nothing_are_named_with_line_and_neighbours() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let dry = |policy: &str, optim: &str, more: &[&str]| {
        std::fs::write(&path, RUN.replace("POLICY", policy).replace("OPTIM", optim)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_rlvr"));
        command.args(["train", path.to_str().unwrap(), "--dry-run"]).args(more);
        let out = command.output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let group = |text: &str| format!("groups = [{text}]");
    for (policy, optim, expected) in [
        ("trainable = [\"q_prj\"]", "", ["config.toml:5: policy.trainable: ", "did you mean `q_proj`?"]),
        ("frozen = [\"norm\", 'layers\\.4']", "", ["config.toml:5: policy.frozen.1", "layers 0 to 3"]),
        ("trainable = [\"*\"]", "", ["config.toml:5: policy.trainable.0", "`.*` matches anything"]),
        ("trainable = []", "", ["config.toml:5: policy.trainable", "leave it out"]),
        ("frozen = [\".*\"]", "", ["config.toml:5: policy.frozen", "nothing to train"]),
        (
            "",
            &group("{ params = \"lm_heads\", lr = 1e-6 }"),
            ["config.toml:18: stage.0.optim.groups.0.params", "`lm_head`?"],
        ),
        (
            "",
            &group("{ params = \"norm\" }"),
            ["config.toml:18: stage.0.optim.groups.0.params", "no setting"],
        ),
        (
            "frozen = [\"norm\"]",
            &group("{ params = \"norm\", lr = 1e-6 }"),
            ["config.toml:18: stage.0.optim.groups.0.params", "names no parameter"],
        ),
        (
            "",
            &group("{ params = \"mlp\", lr = 1e-6 }, { params = \"down_proj\", lr = 1e-5 }"),
            ["stage.0.optim.groups.1.params", "the first one counts"],
        ),
        ("", &group("{ params = \"norm\", lr = 0.0 }"), ["groups.0.lr", "policy.frozen"]),
        ("", "kind = \"adam\"", ["config.toml:18", "did you mean `adamw`?"]),
        ("", "muon = { momentum = 0.9 }", ["config.toml:18: stage.0.optim.muon", "kind = \"muon\""]),
        ("", "kind = \"muon\"\nmuon = { momentum = 1.0 }", ["stage.0.optim.muon.momentum", "[0, 1)"]),
    ] {
        let (code, said) = dry(policy, optim, &[]);
        let fits = expected.iter().all(|part| said.contains(part));
        assert!(code == Some(2) && fits, "{policy} {optim}: {code:?} {said}");
    }
    let (code, said) = dry("", "", &["--set", "policy.frozen=[\"q_pro\"]"]);
    assert!(code == Some(2) && said.contains("--set policy.frozen=[\"q_pro\"]: policy.frozen: "), "{said}");
    // A head that is the embedding goes by both names, and groups may name the parts of an adapter.
    assert_eq!(dry("frozen = [\"lm_head\"]", "", &[]).0, Some(0));
    let lora = dry("lora = { rank = 2 }", &group("{ params = \"lora_B\", lr = 1e-3 }"), &[]);
    assert_eq!(lora.0, Some(0), "{}", lora.1);
}
