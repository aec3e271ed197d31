//! Adapters against PEFT in float64: log-probabilities, gradients, merged weights, files. `RLVR_LORA` names a folder with
//! further cases.
#![allow(clippy::unwrap_used)] // Helpers of tests fail tests.
#![allow(clippy::print_stdout)] // Figures, shown with `-- --nocapture`.
use burn::tensor::{DType, Device};
use rlvr_policies::packed::{PackedBatch, PromptGroup};
use rlvr_policies::weights::SafetensorsSource;
use rlvr_policies::{
    AdapterFiles, BaseDtype, Decoder, LoraSettings, ModelConfig, PolicyAssets, PolicyFiles, Targets,
    Tokenizer, save_adapter,
};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

mod tiny;

/// Log-probabilities in float32 against float64.
const CLOSE: f64 = 5e-5;
/// Gradients, relative to the largest of a tensor.
const GRADIENT: f64 = 1e-5;

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

/// Folders of adapters beside a file with their values.
fn cases() -> Vec<PathBuf> {
    let given = std::env::var_os("RLVR_LORA").map(PathBuf::from);
    let folders = std::iter::once(golden().join("lora")).chain(given);
    let entries = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut cases: Vec<_> = entries.map(|e| e.unwrap().path()).filter(|p| AdapterFiles::are_in(p)).collect();
    cases.sort();
    assert!(cases.len() >= 3);
    cases
}

struct Values(Vec<u8>);

impl Values {
    fn of(case: &Path) -> Self {
        Self(std::fs::read(case.with_extension("safetensors")).unwrap())
    }

    fn numbers(&self, key: &str) -> Option<(Vec<f64>, Vec<usize>)> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(key).ok()?;
        let (data, shape) = (tensor.data(), tensor.shape().to_vec());
        let values = match tensor.dtype() {
            Dtype::F64 => data.chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
            Dtype::F32 => data.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
            Dtype::I64 => data.chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
            Dtype::U32 => data.chunks(4).map(|b| u32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
            other => panic!("{other:?}"),
        };
        Some((values, shape))
    }

    fn batch(&self) -> PackedBatch {
        let (ids, shape) = self.numbers("input_ids").unwrap();
        let ids: Vec<u32> = ids.iter().map(|id| *id as u32).collect();
        let groups: Vec<_> = (ids.chunks(shape[1]))
            .map(|r| PromptGroup { prompt: &r[..1], completions: vec![&r[1..]] })
            .collect();
        PackedBatch::new(&groups)
    }
}

fn base(name: &str) -> Decoder {
    let dir = golden().join("models").join(name);
    let config = ModelConfig::from_hf_file(&dir.join("config.json")).unwrap();
    Decoder::load(config, &SafetensorsSource::open_folder(&dir).unwrap(), &Device::flex()).unwrap()
}

fn off(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

fn adapted(case: &Path) -> Decoder {
    let files = AdapterFiles::open(case).unwrap();
    files.onto(base(files.base.as_deref().unwrap())).unwrap()
}

#[test]
fn adapters_compute_what_peft_does() {
    println!("| adapter | log-probabilities | base | merged | gradients |\n|---|---|---|---|---|");
    for case in cases() {
        let (name, values) = (case.file_name().unwrap().to_string_lossy().into_owned(), Values::of(&case));
        let (decoder, batch) = (adapted(&case), values.batch());
        let want = |key: &str| values.numbers(key).unwrap().0;
        let of = |d: &Decoder| d.logprobs(&batch, 1.0).logprobs;
        let shares = [
            off(&of(&decoder), &want("logps")),
            off(&of(&decoder.without_lora()), &want("base_logps")),
            off(&of(&decoder.merged()), &want("logps")),
        ];
        assert!(shares.iter().all(|off| *off < CLOSE), "{name}: {shares:?}");
        let mut furthest = 0f64;
        for recompute in [false, true] {
            let mut grads = decoder.zero_gradients();
            let pass = decoder.forward(batch.clone(), 1.0, recompute);
            let n = pass.targets().logprobs.len();
            assert_eq!(pass.targets().logprobs, of(&decoder), "{name}");
            // The loss is the mean negative log-likelihood, or a given weighted sum of it.
            let slopes = match values.numbers("weights") {
                Some((weights, _)) => weights.iter().map(|w| -*w as f32).collect(),
                None => vec![-1.0 / n as f32; n],
            };
            pass.backward(&slopes.into(), &mut grads);
            for (i, spec) in decoder.layout().specs.iter().enumerate() {
                assert_eq!(
                    decoder.trained()[i],
                    spec.hf_names().all(|n| n.contains(".lora_")),
                    "{}",
                    spec.name
                );
                if !decoder.trained()[i] {
                    assert!(grads.values(i).is_empty(), "{}", spec.name);
                    continue;
                }
                for (hf, tensor) in spec.to_hf(&grads.values(i)) {
                    let want = want(&format!("grad.{hf}"));
                    let largest = want.iter().fold(1e-3, |m: f64, g| m.max(g.abs()));
                    let off = off(&tensor.data, &want) / largest;
                    assert!(off < GRADIENT, "{name} {hf}: gradients off by {off}");
                    furthest = furthest.max(off);
                }
            }
        }
        let [own, base, merged] = shares;
        println!("| {name} | {own:.1e} | {base:.1e} | {merged:.1e} | {furthest:.1e} |");
    }
}

/// Matrices that are kept packed are packed anew when a weight changes, whoever changes it.
#[test]
fn what_is_kept_packed_follows_the_weights() {
    let batch = Values::of(&golden().join("lora/llama_kv_down")).batch();
    let (mut plain, mut kept) = (base("tiny-llama"), base("tiny-llama").keeping_packed());
    assert_eq!(kept.logprobs(&batch, 1.0), plain.logprobs(&batch, 1.0));
    for decoder in [&mut plain, &mut kept] {
        decoder.update_on_host(|_, _, values| values.iter_mut().for_each(|v| *v *= 1.25));
    }
    assert_eq!(kept.logprobs(&batch, 1.0), plain.logprobs(&batch, 1.0));
    let head = plain.layout().model.head.weight;
    let halved: Vec<f32> = plain.param_values(head).iter().map(|v| 0.5 * v).collect();
    for decoder in [&mut plain, &mut kept] {
        decoder.set_param(head, halved.clone());
    }
    assert_eq!(kept.logprobs(&batch, 1.0), plain.logprobs(&batch, 1.0));
}

/// A base in fewer bits computes what the rounded weights in f32 do, bit for bit, and is rounded at all.
#[test]
fn a_narrow_base_is_the_rounded_one() {
    for (kind, most) in [(BaseDtype::Bf16, 0.05), (BaseDtype::Int8, 0.2)] {
        for operands in [DType::F32, DType::BF16] {
            let case = golden().join("lora/qwen3_all_patterns");
            let (wide, batch) = (adapted(&case).with_operands(operands).unwrap(), Values::of(&case).batch());
            let narrow = wide.clone().with_base_dtype(kind).unwrap();
            let mut rounded = wide.clone();
            for (i, spec) in wide.layout().specs.iter().enumerate() {
                let (before, after) = (wide.param_values(i), narrow.param_values(i));
                let stays = spec.is_vector() || i >= wide.base_params();
                assert_eq!(before == after, stays, "{kind:?} {}", spec.name);
                rounded.set_param(i, after);
            }
            let of = |d: &Decoder| {
                let mut grads = d.zero_gradients();
                let pass = d.forward(batch.clone(), 1.0, true);
                let targets = pass.targets().clone();
                pass.backward(&vec![-1.0; targets.logprobs.len()].into(), &mut grads);
                let grads: Vec<_> = (0..d.params().len()).map(|i| grads.values(i)).collect();
                let (mut cache, first) = d.prefill(&[&batch.tokens[..3]], 5);
                (targets, grads, first, cache.step(d, &[7]), d.without_lora().logprobs(&batch, 1.0))
            };
            let (got, want) = (of(&narrow), of(&rounded));
            assert!(got == want, "{kind:?} {operands:?}");
            let far = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let off = far(&got.0.logprobs, &wide.logprobs(&batch, 1.0).logprobs);
            assert!(off > 0.0 && off < most, "{kind:?} {operands:?}: {off}");
            assert_eq!(narrow.merged().logprobs(&batch, 1.0), rounded.merged().logprobs(&batch, 1.0));
        }
    }
    let plain = base("tiny-llama").with_base_dtype(BaseDtype::Int8).unwrap_err().to_string();
    assert!(plain.contains("needs an adapter"), "{plain}");
}

/// Decoding and scoring compute the same linear layers, packed or not; attention adds up in another order.
#[test]
fn what_is_sampled_is_what_is_trained() {
    for (dtype, most) in [(DType::F32, 1e-5), (DType::BF16, 1e-2)] {
        let decoder = adapted(&golden().join("lora/qwen3_all_patterns")).with_operands(dtype).unwrap();
        let tokens = [5u32, 17, 230, 9, 77, 301];
        let whole = decoder.logits(&tokens);
        let (mut cache, first) = decoder.prefill(&[&tokens[..3]], tokens.len());
        let vocab = first.len();
        let mut decoded = first;
        for token in &tokens[3..] {
            decoded = cache.step(&decoder, &[*token]);
        }
        let scored = &whole[whole.len() - vocab..];
        let off = decoded.iter().zip(scored).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < most, "{dtype:?}: {off}");
    }
}

#[test]
fn a_new_adapter_changes_no_bit() {
    let (batch, decoder) = (Values::of(&golden().join("lora/llama_kv_down")).batch(), base("tiny-llama"));
    let uniform = |param: usize, element: usize| ((param * 131 + element * 7919) % 997) as f32 / 997.0;
    let adapted = decoder.clone().with_new_lora(LoraSettings::default(), uniform).unwrap();
    assert_eq!(adapted.logprobs(&batch, 1.0), decoder.logprobs(&batch, 1.0));
    for (i, spec) in adapted.layout().specs.iter().enumerate().skip(adapted.base_params()) {
        let (values, bound) = (adapted.param_values(i), 1.0 / (spec.shape[1] as f32).sqrt());
        match spec.name.ends_with("lora_a") {
            true => {
                let largest = values.iter().fold(0f32, |m, v| m.max(v.abs()));
                assert!((0.9 * bound..=bound).contains(&largest), "{}: {largest} {bound}", spec.name);
            }
            false => assert!(values.iter().all(|v| *v == 0.0), "{}", spec.name),
        }
    }
}

/// Gradients under dropout are those of differences of the same draw.
#[test]
fn dropout_is_differentiated() {
    let case = golden().join("lora/qwen3_all_patterns");
    let files = AdapterFiles::open(&case).unwrap();
    let settings = LoraSettings { dropout: 0.4, ..files.settings.clone() };
    let plain = files.onto(base("tiny-qwen3")).unwrap();
    let mut decoder = base("tiny-qwen3").with_lora(settings, |i, _| Ok(plain.param_values(i))).unwrap();
    let batch = Values::of(&case).batch();
    let scored = decoder.logprobs(&batch, 1.0);
    assert_eq!(scored, plain.logprobs(&batch, 1.0), "only passes that drop do");
    let sum = |d: &Decoder, key: u64| {
        let pass = d.dropping(key).forward(batch.clone(), 1.0, false);
        pass.targets().logprobs.iter().map(|l| f64::from(*l)).sum::<f64>()
    };
    assert_ne!(sum(&decoder, 7), sum(&decoder, 8));
    assert_eq!(sum(&decoder, 7), sum(&decoder, 7));
    for recompute in [false, true] {
        let mut grads = decoder.zero_gradients();
        let pass = decoder.dropping(7).forward(batch.clone(), 1.0, recompute);
        let n = pass.targets().logprobs.len();
        pass.backward(&vec![1.0; n].into(), &mut grads);
        for i in decoder.base_params()..decoder.params().len() {
            let (values, slope) = (decoder.param_values(i), grads.values(i));
            let (at, largest) =
                (0..slope.len()).map(|j| (j, slope[j].abs())).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
            let mut moved = |by: f32| {
                let mut values = values.clone();
                values[at] += by;
                decoder.set_param(i, values);
                sum(&decoder, 7)
            };
            let step = 4e-3;
            let found = (moved(step) - moved(-step)) / f64::from(2.0 * step);
            moved(0.0);
            let off = (found - f64::from(slope[at])).abs();
            let name = &decoder.layout().specs[i].name;
            assert!(off < 0.02 * f64::from(largest).max(0.2), "{name}: {found} {}", slope[at]);
        }
    }
}

#[test]
fn what_is_written_is_read_back() {
    for case in cases() {
        let (decoder, dir) = (adapted(&case), tempfile::tempdir().unwrap());
        let tokenizer = Tokenizer::characters("ab", &[]).unwrap();
        let assets = PolicyAssets::new(&tokenizer, &[], None).unwrap();
        save_adapter(dir.path(), &decoder, "some/base", &assets).unwrap();
        let again = AdapterFiles::open(dir.path()).unwrap();
        assert_eq!(again.base.as_deref(), Some("some/base"));
        let again = again.onto(decoder.without_lora()).unwrap();
        assert_eq!(again.lora(), decoder.lora());
        for i in 0..decoder.params().len() {
            assert_eq!(again.param_values(i), decoder.param_values(i));
        }
    }
}

/// Beside experts PEFT reads `all-linear` and names of MLPs as something else, and with `all-linear` it passes over the
/// choice of blocks: what is written then has the full name of every layer that has an adapter.
#[test]
fn layers_are_named_where_peft_would_find_others() {
    let case = &tiny::cases()["qwen3 experts, one dense"];
    let values = |param: usize, element: usize| ((param * 131 + element * 7919) % 997) as f32 / 997.0;
    let mlps = ["gate_proj", "up_proj", "down_proj"].map(|name| format!("model.layers.1.mlp.{name}.weight"));
    let usual = LoraSettings { rank: 3, ..LoraSettings::default() };
    let some = LoraSettings {
        layers: Some(vec![1]),
        rank_pattern: vec![("gate_proj".into(), 2)],
        alpha_pattern: vec![("down_proj".into(), 7.5)],
        ..usual.clone()
    };
    let named = |names: &[&str]| LoraSettings {
        targets: Targets::Names(names.iter().map(|n| (*n).into()).collect()),
        ..usual.clone()
    };
    for (model, settings, attention, parameters) in [
        (Some(case), usual.clone(), 12, json!(mlps)),
        (Some(case), some.clone(), 4, json!(mlps)),
        (Some(case), named(&["q_proj", "down_proj"]), 3, json!([mlps[2]])),
        (None, some, 7, Value::Null),
    ] {
        let decoder = model.map_or_else(|| base("tiny-qwen3"), |case| tiny::decoder(case, &Device::flex()));
        let decoder = decoder.with_new_lora(settings, values).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let tokenizer = Tokenizer::characters("ab", &[]).unwrap();
        save_adapter(dir.path(), &decoder, "base", &PolicyAssets::new(&tokenizer, &[], None).unwrap())
            .unwrap();
        let text = std::fs::read(dir.path().join("adapter_config.json")).unwrap();
        let written: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(written["target_modules"].as_array().unwrap().len(), attention, "{written}");
        assert_eq!(written["target_parameters"], parameters, "{written}");
        if written["rank_pattern"]["gate_proj"] == 2 && model.is_some() {
            assert_eq!(written["rank_pattern"][r"model\.layers\.1\.mlp\.gate_proj\.weight"], 2);
            assert_eq!(written["alpha_pattern"][r"model\.layers\.1\.mlp\.down_proj\.weight"], 7.5);
        }
        let again = AdapterFiles::open(dir.path()).unwrap().onto(decoder.without_lora()).unwrap();
        assert_eq!(again.layout().specs, decoder.layout().specs);
        assert_eq!(again.layout().adapters, decoder.layout().adapters);
        for i in 0..decoder.params().len() {
            assert_eq!(again.param_values(i), decoder.param_values(i));
        }
    }
}

#[test]
fn an_adapter_opens_over_its_base() {
    let (dir, case) = (tempfile::tempdir().unwrap(), golden().join("lora/llama_kv_down"));
    let model = golden().join("models/tiny-llama");
    let opened = |spec: &str| PolicyFiles::open(spec).map(|files| files.decoder(&Device::flex()).unwrap());
    let both = opened(&format!("{}+{}", model.display(), case.display())).unwrap();
    assert_eq!(both.lora(), adapted(&case).lora());
    // By the name in its config, from a folder above it.
    let beside = dir.path().join("adapters/one");
    std::fs::create_dir_all(&beside).unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(case.join(name), beside.join(name)).unwrap();
    }
    let message = opened(&beside.to_string_lossy()).unwrap_err().to_string();
    assert!(message.contains("base_model_name_or_path") && message.contains("BASE+ADAPTER"), "{message}");
    let copy = dir.path().join("tiny-llama");
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(&model).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    assert_eq!(opened(&beside.to_string_lossy()).unwrap().lora(), both.lora());
    // What lies near the adapter counts before what has the same name in the working directory, where `tests` is no policy.
    let config = beside.join("adapter_config.json");
    let renamed = std::fs::read_to_string(&config).unwrap().replace("\"tiny-llama\"", "\"tests\"");
    std::fs::write(&config, renamed).unwrap();
    std::fs::rename(&copy, dir.path().join("tests")).unwrap();
    assert!(Path::new("tests").is_dir());
    assert_eq!(opened(&beside.to_string_lossy()).unwrap().lora(), both.lora());
}

/// The golden adapter with one key of its config changed.
fn changed(key: &str, value: &Value) -> String {
    let (dir, case) = (tempfile::tempdir().unwrap(), golden().join("lora/llama_kv_down"));
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(case.join("adapter_config.json")).unwrap()).unwrap();
    config[key] = value.clone();
    std::fs::write(dir.path().join("adapter_config.json"), config.to_string()).unwrap();
    std::fs::copy(case.join("adapter_model.safetensors"), dir.path().join("adapter_model.safetensors"))
        .unwrap();
    let opened = AdapterFiles::open(dir.path()).and_then(|files| files.onto(base("tiny-llama")));
    opened.map_or_else(|e| e.to_string(), |_| String::new())
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    for (key, value) in [
        ("use_dora", json!(true)),
        ("lora_bias", json!(true)),
        ("bias", json!("all")),
        ("modules_to_save", json!(["lm_head"])),
        ("layer_replication", json!([[0, 2]])),
        ("target_parameters", json!(["x"])),
        ("target_parameters", json!(["model.layers.0.mlp.experts.gate_up_proj"])),
        ("init_lora_weights", json!("pissa_niter_4")),
        ("init_lora_weights", json!("olora")),
        ("init_lora_weights", json!("corda")),
        ("init_lora_weights", json!("loftq")),
        ("fan_in_fan_out", json!(true)),
        ("use_qalora", json!(true)),
        ("alora_invocation_tokens", json!([1])),
        ("trainable_token_indices", json!([1])),
        ("something_new", json!(1)),
        ("peft_type", json!("IA3")),
        ("r", json!(0)),
        ("r", json!("4")),
        ("lora_alpha", json!(-1)),
        ("lora_dropout", json!(1)),
        ("use_rslora", json!("yes")),
        ("target_modules", Value::Null),
        ("rank_pattern", json!({"q_proj": 0})),
        ("layers_to_transform", json!(["x"])),
    ] {
        let message = changed(key, &value);
        assert!(message.contains(&format!("`{key}")), "{key} = {value}: {message}");
    }
    for (key, value, expected) in [
        ("target_modules", json!(["q_proj", "nowhere"]), "no layer `nowhere` can have an adapter"),
        ("target_modules", json!(["lm_head"]), "no layer `lm_head`"),
        ("target_modules", json!("("), "the pattern `(` cannot be used"),
        ("target_modules", json!("nothing"), "no layer has an adapter"),
        ("target_modules", json!(["k_proj"]), "adapter_model.safetensors: no layer that"),
        ("target_modules", json!("all-linear"), "no tensor `base_model.model.model.layers.0"),
        ("r", json!(4), "has shape [3, 64]"),
    ] {
        let message = changed(key, &value);
        assert!(message.contains(expected), "{key} = {value}: {message}");
    }
    // Ways to begin that leave the base as it is.
    assert_eq!(changed("init_lora_weights", &json!("gaussian")), "");
}
