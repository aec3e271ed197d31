//! The decoder's kernels on a real device, against golden values and the CPU. Ignored: they need such a device, and run
//! on the one that the build is for (CONTRIBUTING.md has the command).
#![cfg(any(feature = "cuda", feature = "wgpu"))]
#![allow(clippy::unwrap_used)] // Helpers of tests fail tests.
#![allow(clippy::print_stdout)] // Figures, shown with `-- --nocapture`.
use burn::tensor::{DType, Device};
use rlvr_policies::config::ModelConfig;
use rlvr_policies::decoder::Cache;
use rlvr_policies::decoder::{Compute, Decoder};
use rlvr_policies::model::draw::DrawAt;
use rlvr_policies::packed::{PackedBatch, PromptGroup};
use rlvr_policies::targets::TargetGrads;
use rlvr_policies::weights::SafetensorsSource;
use rlvr_policies::{AdapterFiles, LoraSettings};
use safetensors::SafeTensors;
use std::path::PathBuf;

mod tiny;

const MODELS: [&str; 3] = ["tiny-llama", "tiny-qwen2", "tiny-qwen3"];

/// Logits and log-probabilities: f32 with sums in another order than the CPU's.
const CLOSE: f32 = 1e-4;

/// Gradients, relative to the largest of a parameter.
const GRADIENT: f32 = 1e-4;

/// Log-probabilities when the operands of matrix products have 8 bits of mantissa.
const BF16_LOGPROB: f32 = 0.15;

fn device() -> Device {
    #[cfg(feature = "cuda")]
    return rlvr_policies::device::open::cuda(0);
    #[cfg(not(feature = "cuda"))]
    rlvr_policies::device::open::wgpu()
}

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

fn decoder(name: &str, device: &Device) -> Decoder {
    let dir = golden().join("models").join(name);
    let config = ModelConfig::from_hf_file(&dir.join("config.json")).unwrap();
    Decoder::load(config, &SafetensorsSource::open_folder(&dir).unwrap(), device).unwrap()
}

/// The same model on the device, by kernels, and on the CPU.
fn both(name: &str) -> [Decoder; 2] {
    let on_device = decoder(name, &device());
    assert_eq!(on_device.compute(), Compute::Device);
    [on_device, decoder(name, &Device::flex())]
}

fn golden_values(name: &str, key: &str) -> Vec<f32> {
    let bytes = std::fs::read(golden().join(format!("{name}.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let words = file.tensor(key).unwrap().data().chunks(4);
    words.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn golden_ids(name: &str, key: &str) -> (Vec<u32>, usize) {
    let bytes = std::fs::read(golden().join(format!("{name}.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor(key).unwrap();
    let ids = tensor.data().chunks(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
    (ids, tensor.shape()[1])
}

#[track_caller]
fn near(what: &str, a: &[f32], b: &[f32], most: f32) {
    assert_eq!(a.len(), b.len(), "{what}");
    let worst = a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    println!("{what}: off by at most {worst:.1e}");
    assert!(worst < most && a.iter().all(|x| x.is_finite()), "{what}: off by {worst}, allowed {most}");
}

/// Two prompts, one shared by three completions of which one is empty and one a single token.
fn shared_batch() -> PackedBatch {
    let ids = |from: u32, to: u32| (from..to).collect::<Vec<u32>>();
    let (p1, p2) = (ids(5, 40), ids(9, 12));
    let completions = [ids(50, 150), vec![7], vec![], ids(60, 75)];
    let refs: Vec<&[u32]> = completions.iter().map(Vec::as_slice).collect();
    PackedBatch::new(&[
        PromptGroup { prompt: &p1, completions: refs.clone() },
        PromptGroup { prompt: &p2, completions: refs[..1].to_vec() },
    ])
}

#[test]
#[ignore = "needs a device of the feature `cuda` or `wgpu`"]
fn logits_and_logprobs() {
    for name in MODELS {
        let [d, host] = both(name);
        let (ids, width) = golden_ids(name, "input_ids");
        let logits: Vec<f32> = ids.chunks(width).flat_map(|row| d.logits(row)).collect();
        near(&format!("{name} logits"), &logits, &golden_values(name, "logits"), CLOSE);
        let batch = shared_batch();
        for temperature in [1.0, 0.7] {
            let (a, b) = (d.logprobs(&batch, temperature), host.logprobs(&batch, temperature));
            near(&format!("{name} log-probabilities at {temperature}"), &a.logprobs, &b.logprobs, CLOSE);
            near(&format!("{name} entropies at {temperature}"), &a.entropy, &b.entropy, CLOSE);
        }
    }
}

/// Log-probabilities and all gradients of a loss that weighs targets differently.
fn gradients(d: &Decoder, batch: &PackedBatch, recompute: bool) -> (Vec<f32>, Vec<Vec<f32>>) {
    let mut grads = d.zero_gradients();
    let pass = d.forward(batch.clone(), 0.9, recompute);
    let logprobs = pass.targets().logprobs.clone();
    let slopes: Vec<f32> = (0..logprobs.len()).map(|i| ((i * 7 % 11) as f32 - 5.0) / 50.0).collect();
    let entropy = Some(slopes.iter().map(|g| 0.05 - 0.5 * g).collect());
    pass.backward(&TargetGrads { logprobs: slopes, entropy, balance: None }, &mut grads);
    (logprobs, (0..d.params().len()).map(|i| grads.values(i)).collect())
}

fn compare_gradients(name: &str, d: &Decoder, a: &[Vec<f32>], b: &[Vec<f32>], most: f32) {
    let mut worst = ("", 0f32);
    for ((a, b), spec) in a.iter().zip(b).zip(&d.layout().specs) {
        let scale = b.iter().fold(1e-2, |m: f32, v| m.max(v.abs()));
        let off = a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max) / scale;
        assert!(a.iter().all(|x| x.is_finite()), "{name} {}", spec.name);
        if off > worst.1 {
            worst = (&spec.name, off);
        }
    }
    println!("{name} gradients: off by at most {:.1e} of the largest, in {}", worst.1, worst.0);
    assert!(worst.1 < most, "{name}: {} off by {}", worst.0, worst.1);
}

#[test]
#[ignore = "needs a device of the feature `cuda` or `wgpu`"]
fn gradients_of_both() {
    for name in MODELS {
        let [d, host] = both(name);
        let batch = shared_batch();
        let (lp, want) = gradients(&host, &batch, false);
        for recompute in [false, true] {
            let (got_lp, got) = gradients(&d, &batch, recompute);
            near(&format!("{name} log-probabilities"), &got_lp, &lp, CLOSE);
            compare_gradients(name, &d, &got, &want, GRADIENT);
        }
    }
}

#[test]
#[ignore = "needs a device of the feature `cuda` or `wgpu`"]
fn heads_of_any_width() {
    for (head_dim, heads, kv_heads) in [(6, 2, 1), (40, 3, 3), (128, 4, 2)] {
        let dir = golden().join("models/tiny-qwen3");
        let config = ModelConfig {
            head_dim,
            num_heads: heads,
            num_kv_heads: kv_heads,
            ..ModelConfig::from_hf_file(&dir.join("config.json")).unwrap()
        };
        // Any numbers with a spread near 1.
        let normal = |i: usize, j: usize| ((i * 7919 + j * 104_729) % 2003) as f32 / 577.0 - 1.73;
        let [d, host] = [device(), Device::flex()].map(|d| Decoder::random(config.clone(), &d, normal));
        let batch = shared_batch();
        let (lp, want) = gradients(&host, &batch, false);
        let (got_lp, got) = gradients(&d, &batch, false);
        near(&format!("heads of {head_dim}: log-probabilities"), &got_lp, &lp, CLOSE);
        compare_gradients(&format!("heads of {head_dim}"), &d, &got, &want, GRADIENT);
    }
}

#[test]
#[ignore = "needs a device of the feature `cuda` or `wgpu`"]
fn greedy_decoding_of_prompts_of_several_lengths() {
    for name in MODELS {
        let [d, _] = both(name);
        let (ids, width) = golden_ids(name, "padded_ids");
        let (mask, _) = golden_ids(name, "padded_mask");
        let (want, new) = golden_ids(name, "greedy_ids_from_padded");
        let prompts: Vec<Vec<u32>> = (ids.chunks(width).zip(mask.chunks(width)))
            .map(|(ids, mask)| ids.iter().zip(mask).filter(|(_, m)| **m == 1).map(|(i, _)| *i).collect())
            .collect();
        let refs: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let draws: Vec<DrawAt> =
            (0..prompts.len()).map(|row| DrawAt { row, counter: [0; 4], key: [0; 2] }).collect();
        let (mut cache, first) = Cache::prefill_and_draw(&d, &refs, width + new, &draws, 0.0).unwrap();
        let mut tokens: Vec<u32> = first.iter().map(|(token, _)| *token).collect();
        let mut got: Vec<Vec<u32>> = tokens.iter().map(|t| vec![*t]).collect();
        // Several steps between two looks of the host, and one.
        while got[0].len() < new {
            let steps = [1, 3, 1, 2][got[0].len() % 4].min(new - got[0].len());
            let drawn = cache.step_and_draw(&d, &tokens, &draws, steps, 0.0).unwrap().unwrap();
            for step in drawn {
                tokens = step.iter().map(|(token, _)| *token).collect();
                got.iter_mut().zip(&tokens).for_each(|(g, t)| g.push(*t));
            }
        }
        assert!(new > 4 && cache.is_recorded(), "{name}: decoding steps are not replayed");
        // A row that has ended is padded in the golden file.
        let eos = d.config().eos_token_ids.clone();
        for (got, want) in got.iter().zip(want.chunks(new)) {
            let end = want.iter().position(|t| eos.contains(t)).map_or(new, |p| p + 1);
            assert_eq!(got[..end], want[..end], "{name}");
        }
    }
}

#[test]
#[ignore = "needs a device of the feature `cuda` or `wgpu`"]
fn decoding_agrees_with_the_full_pass() {
    for name in MODELS {
        let [d, host] = both(name);
        let prompts: [Vec<u32>; 2] = [(10..45).collect(), (30..37).collect()];
        let next: Vec<u32> = (40..170).collect();
        let vocab = d.config().vocab_size;
        // Rows of both prompts in another order, one twice, beyond the first bucket of slots.
        let order = [1, 0, 1];
        let (cache, _) = d.prefill(&prompts.each_ref().map(Vec::as_slice), 35);
        let mut cache = cache.select_rows(&d, &order, 35 + next.len());
        let mut got = vec![vec![]; order.len()];
        for t in &next {
            let logits = cache.step(&d, &vec![*t; order.len()]);
            got.iter_mut().zip(logits.chunks(vocab)).for_each(|(g, l)| g.extend_from_slice(l));
        }
        for (got, prompt) in got.iter().zip(order.map(|i| &prompts[i])) {
            let full = host.logits(&[prompt.clone(), next.clone()].concat());
            near(&format!("{name} decoding"), got, &full[prompt.len() * vocab..], CLOSE);
        }
    }
}

#[test]
#[ignore = "needs a device of the feature `cuda` or `wgpu`"]
fn products_of_reduced_precision() {
    // Graphics devices multiply in half precision where CUDA has bfloat16; both have few bits.
    let dtype = if cfg!(feature = "cuda") { DType::BF16 } else { DType::F16 };
    let models = MODELS.map(|name| (name, both(name)));
    let adapter = ("an adapter", adapted("qwen3_all_patterns", 0.0));
    for (name, [d, host]) in models.into_iter().chain([adapter]) {
        let d = d.with_operands(dtype).unwrap();
        let batch = shared_batch();
        let (lp, want) = gradients(&host, &batch, false);
        let (got_lp, got) = gradients(&d, &batch, false);
        near(&format!("{name} {dtype:?} log-probabilities"), &got_lp, &lp, BF16_LOGPROB);
        compare_gradients(&format!("{name} {dtype:?}"), &d, &got, &want, 0.1);
        let vocab = d.config().vocab_size;
        let (_, decoded) = d.prefill(&[&(5..40).collect::<Vec<u32>>()], 64);
        let full = host.logits(&(5..40).collect::<Vec<u32>>());
        near(&format!("{name} {dtype:?} decoding"), &decoded, &full[34 * vocab..], BF16_LOGPROB);
    }
}

#[test]
#[ignore = "needs a device of the feature `cuda` or `wgpu`"]
fn every_family() {
    for (name, case) in tiny::cases() {
        let [d, host] = [device(), Device::flex()].map(|device| tiny::decoder(&case, &device));
        let rows = tiny::rows(&case["ids"]);
        let batches = [tiny::batch(&rows), {
            let completions = vec![&rows[0][9..30], &rows[1][3..25], &rows[1][25..26]];
            PackedBatch::new(&[PromptGroup { prompt: &rows[0][..9], completions }])
        }];
        for batch in &batches {
            let (lp, want) = gradients(&host, batch, false);
            let (got_lp, got) = gradients(&d, batch, true);
            near(&format!("{name} log-probabilities"), &got_lp, &lp, CLOSE);
            compare_gradients(&name, &d, &got, &want, GRADIENT);
        }
        let prompts: Vec<&[u32]> = vec![&rows[0][..12], &rows[1][..5]];
        let vocab = d.config().vocab_size;
        let (mut cache, _) = d.prefill(&prompts, 40);
        let mut got = Vec::new();
        for (a, b) in rows[0][12..36].iter().zip(&rows[1][5..29]) {
            got.extend_from_slice(&cache.step(&d, &[*a, *b])[vocab..]);
        }
        near(&format!("{name} decoding"), &got, &host.logits(&rows[1][..29])[5 * vocab..], CLOSE);
        let draws = [0, 1].map(|row| DrawAt { row, counter: [0; 4], key: [0; 2] });
        let (mut cache, first) = Cache::prefill_and_draw(&d, &prompts, 40, &draws, 0.0).unwrap();
        let mut tokens: Vec<u32> = first.iter().map(|(token, _)| *token).collect();
        let mut sequences: Vec<Vec<u32>> =
            prompts.iter().zip(&tokens).map(|(p, t)| [p, &[*t][..]].concat()).collect();
        for _ in 0..4 {
            for step in cache.step_and_draw(&d, &tokens, &draws, 3, 0.0).unwrap().unwrap() {
                tokens = step.iter().map(|(token, _)| *token).collect();
                sequences.iter_mut().zip(&tokens).for_each(|(s, t)| s.push(*t));
            }
        }
        // Every drawn token is, up to rounding, the most probable one.
        for (sequence, prompt) in sequences.iter().zip(&prompts) {
            let logits = host.logits(sequence);
            for (at, token) in sequence.iter().enumerate().skip(prompt.len()) {
                let row = &logits[(at - 1) * vocab..at * vocab];
                let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                assert!(row[*token as usize] > most - 1e-3, "{name} token {at}");
            }
        }
    }
}

/// Sequences of many tiles, of which a window sees a few, and more slots than the first bucket has.
#[test]
#[ignore = "needs a device of the feature `cuda` or `wgpu`"]
fn windows_of_long_sequences() {
    for (name, case) in tiny::cases().into_iter().filter(|(_, c)| c["config"]["sliding_window"].is_number()) {
        let config = ModelConfig { max_position_embeddings: 256, ..tiny::config(&case) };
        let [d, host] = [device(), Device::flex()]
            .map(|device| Decoder::load(config.clone(), &tiny::weights(&case), &device).unwrap());
        let ids: Vec<u32> = (0..180).map(|i| i * 31 % 89 + 3).collect();
        let completions = vec![&ids[70..170], &ids[90..110], &ids[3..4]];
        let batch = PackedBatch::new(&[PromptGroup { prompt: &ids[..70], completions }]);
        let (lp, want) = gradients(&host, &batch, false);
        let (got_lp, got) = gradients(&d, &batch, false);
        near(&format!("{name} log-probabilities"), &got_lp, &lp, CLOSE);
        compare_gradients(&name, &d, &got, &want, GRADIENT);
        let (mut cache, mut got) = d.prefill(&[&ids[..20]], ids.len());
        ids[20..].iter().for_each(|t| got.extend(cache.step(&d, &[*t])));
        let vocab = d.config().vocab_size;
        near(&format!("{name} decoding"), &got, &host.logits(&ids)[19 * vocab..], CLOSE);
    }
}

/// The adapters of tests/golden/lora on the device and on the CPU, with a share of dropped inputs.
fn adapted(name: &str, dropout: f64) -> [Decoder; 2] {
    let files = AdapterFiles::open(&golden().join("lora").join(name)).unwrap();
    let [d, host] = both(files.base.as_deref().unwrap());
    let plain = files.onto(host.clone()).unwrap();
    let settings = LoraSettings { dropout, ..files.settings.clone() };
    [d, host].map(|d| d.with_lora(settings.clone(), |i, _| Ok(plain.param_values(i))).unwrap())
}

const ADAPTERS: [&str; 3] = ["llama_kv_down", "qwen2_regex_rslora", "qwen3_all_patterns"];

#[test]
#[ignore = "needs a device of the feature `cuda` or `wgpu`"]
fn adapters() {
    for name in ADAPTERS {
        let ([d, host], batch) = (adapted(name, 0.3), shared_batch());
        let seen = |d: &Decoder| d.logprobs(&batch, 0.9).logprobs;
        near(&format!("{name} log-probabilities"), &seen(&d), &seen(&host), CLOSE);
        near(&format!("{name} merged"), &seen(&d.merged()), &seen(&host), CLOSE);
        near(&format!("{name} base"), &seen(&d.without_lora()), &seen(&host.without_lora()), CLOSE);
        assert!(seen(&d) != seen(&d.without_lora()), "{name}: the adapter does nothing");
        let fetched = d.on_host_memory();
        assert_eq!((fetched.lora(), fetched.trained()), (host.lora(), host.trained()));
        assert_eq!(seen(&fetched), seen(&host), "{name}");
        // Seen as a whole, and without the inputs that one draw drops.
        for (what, d, host) in [("", &d, &host), (" dropping", &d.dropping(7), &host.dropping(7))] {
            let (lp, want) = gradients(host, &batch, false);
            for recompute in [false, true] {
                let (got_lp, got) = gradients(d, &batch, recompute);
                near(&format!("{name}{what} log-probabilities"), &got_lp, &lp, CLOSE);
                assert!(got.iter().zip(&want).all(|(a, b)| a.len() == b.len()), "{name}");
                compare_gradients(&format!("{name}{what}"), d, &got, &want, GRADIENT);
            }
        }
    }
}

#[test]
#[ignore = "needs a device of the feature `cuda` or `wgpu`"]
fn decoding_with_adapters() {
    for name in ADAPTERS {
        let [d, host] = adapted(name, 0.0);
        let tokens: Vec<u32> = (5..40).collect();
        let vocab = d.config().vocab_size;
        let (mut cache, mut got) = d.prefill(&[&tokens[..30]], tokens.len());
        tokens[30..].iter().for_each(|t| got.extend(cache.step(&d, &[*t])));
        near(&format!("{name} decoding"), &got, &host.logits(&tokens)[29 * vocab..], CLOSE);
        // Tokens drawn by steps that are recorded.
        let draws = [DrawAt { row: 0, counter: [0; 4], key: [0; 2] }];
        let (mut cache, first) = Cache::prefill_and_draw(&d, &[&tokens], 64, &draws, 0.0).unwrap();
        let mut sequence = [&tokens[..], &[first[0].0]].concat();
        for _ in 0..3 {
            let last = sequence[sequence.len() - 1];
            let drawn = cache.step_and_draw(&d, &[last], &draws, 4, 0.0).unwrap().unwrap();
            sequence.extend(drawn.iter().map(|step| step[0].0));
        }
        assert!(cache.is_recorded(), "{name}");
        let logits = host.logits(&sequence);
        for (at, token) in sequence.iter().enumerate().skip(tokens.len()) {
            let row = &logits[(at - 1) * vocab..at * vocab];
            let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert!(row[*token as usize] > most - 1e-3, "{name} token {at}");
        }
    }
}
