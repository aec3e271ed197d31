//! Tiny models of every family against transformers (float64): log-probabilities, gradients, greedy tokens, what is saved.
#![allow(clippy::unwrap_used)] // Helpers of tests fail tests.
#![allow(clippy::print_stdout)] // Figures, shown with `-- --nocapture`.
use burn::tensor::Device;
use rlvr_policies::gradients::Gradients;
use rlvr_policies::targets::TargetGrads;
use rlvr_policies::{Decoder, ModelConfig, check_weights, expected_tensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use tiny::{batch, cases, config, decoder, rows, weights};

mod tiny;

/// Log-probabilities in float32 against float64.
const CLOSE: f64 = 5e-5;

/// Gradients, relative to the largest of a tensor.
const GRADIENT: f64 = 1e-5;

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

fn worst(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

/// Gradients of the parameters against golden ones; how far the worst is off, of the largest of its tensor.
fn compare(name: &str, decoder: &Decoder, grads: &Gradients, golden: &Value) -> f64 {
    let mut furthest = 0f64;
    for (i, spec) in decoder.layout().specs.iter().enumerate() {
        for (hf, tensor) in spec.to_hf(&grads.values(i)) {
            let want = &golden[&hf];
            let (some, largest) = (numbers(&want["some"]), want["largest"].as_f64().unwrap().max(1e-3));
            let step = (tensor.data.len() / 7).max(1);
            let got: Vec<f32> = tensor.data.iter().copied().step_by(step).collect();
            let off = worst(&got, &some) / largest;
            assert!(off < GRADIENT, "{name} {hf}: gradients off by {off}");
            let squares: f64 = tensor.data.iter().map(|g| f64::from(*g).powi(2)).sum();
            let wanted = want["squares"].as_f64().unwrap();
            assert!((squares - wanted).abs() < 1e-4 * wanted + 1e-9, "{name} {hf}: {squares} {wanted}");
            furthest = furthest.max(off);
        }
    }
    furthest
}

#[test]
fn every_family_equals_transformers() {
    println!("| model | log-probabilities | gradients |\n|---|---|---|");
    for (name, case) in cases() {
        let decoder = decoder(&case, &Device::flex());
        let batch = batch(&rows(&case["ids"]));
        let want: Vec<f64> = case["logps"].as_array().unwrap().iter().flat_map(numbers).collect();
        let n = want.len() as f32;
        let mut furthest = 0f64;
        for recompute in [false, true] {
            let mut grads = decoder.zero_gradients();
            let pass = decoder.forward(batch.clone(), 1.0, recompute);
            let logprobs = pass.targets().logprobs.clone();
            pass.backward(&vec![-1.0 / n; logprobs.len()].into(), &mut grads);
            assert_eq!(logprobs, decoder.logprobs(&batch, 1.0).logprobs, "{name}");
            let off = worst(&logprobs, &want);
            assert!(off < CLOSE, "{name}: log-probabilities off by {off}");
            furthest = furthest.max(compare(&name, &decoder, &grads, &case["grads"]));
        }
        let off = worst(&decoder.logprobs(&batch, 1.0).logprobs, &want);
        println!("| {name} | {off:.1e} | {furthest:.1e} |");
    }
}

#[test]
fn the_loss_that_balances_experts() {
    let mut found = 0;
    for (name, case) in cases() {
        let Some(golden) = case["balance"].as_object() else { continue };
        found += 1;
        let decoder = decoder(&case, &Device::flex());
        let batch = batch(&rows(&case["ids"]));
        let weight = golden["weight"].as_f64().unwrap() as f32;
        for recompute in [false, true] {
            let mut grads = decoder.zero_gradients();
            let pass = decoder.forward(batch.clone(), 1.0, recompute);
            let off = pass.targets().load.balance() - golden["value"].as_f64().unwrap();
            assert!(off.abs() < 1e-5, "{name}: {off}");
            let n = pass.targets().logprobs.len();
            let balance = Some(pass.targets().load.slopes(weight));
            let of = TargetGrads { balance, ..vec![-1.0 / n as f32; n].into() };
            pass.backward(&of, &mut grads);
            let off = compare(&name, &decoder, &grads, &golden["grads"]);
            println!("{name}: gradients off by at most {off:.1e}");
        }
    }
    assert_eq!(found, 2);
}

#[test]
fn greedy_tokens_through_the_cache() {
    for (name, case) in cases() {
        let decoder = decoder(&case, &Device::flex());
        let (ids, want) = (rows(&case["ids"]), rows(&case["greedy"]));
        let prompts: Vec<&[u32]> = ids.iter().map(|r| &r[..12]).collect();
        let vocab = decoder.config().vocab_size;
        let (mut cache, mut logits) = decoder.prefill(&prompts, 12 + want[0].len());
        let mut got = vec![vec![]; prompts.len()];
        for _ in 0..want[0].len() {
            let next: Vec<u32> = (logits.chunks(vocab))
                .map(|l| (0..vocab).max_by(|a, b| l[*a].total_cmp(&l[*b])).unwrap() as u32)
                .collect();
            got.iter_mut().zip(&next).for_each(|(g, t)| g.push(*t));
            logits = cache.step(&decoder, &next);
        }
        // Below this float32 may see another order than float64.
        if case["margin"].as_f64().unwrap() > 1e-5 {
            assert_eq!(got, want, "{name}");
        }
        // What follows the last token is what the full pass says.
        for ((prompt, new), step) in prompts.iter().zip(&got).zip(logits.chunks(vocab)) {
            let full = decoder.logits(&[prompt, &new[..]].concat());
            let last: Vec<f64> = full[full.len() - vocab..].iter().map(|x| f64::from(*x)).collect();
            assert!(worst(step, &last) < CLOSE, "{name}: {}", worst(step, &last));
        }
    }
}

#[test]
fn configs_survive_writing_and_files_have_every_tensor() {
    for (name, case) in cases() {
        let config = config(&case);
        let written = ModelConfig::from_hf_json(&config.to_hf_json(), Path::new("config.json")).unwrap();
        assert_eq!(written, config, "{name}");
        let source = weights(&case);
        check_weights(&source, &config).unwrap();
        let expected: BTreeMap<_, _> = expected_tensors(&config).into_iter().collect();
        let shapes: BTreeMap<String, Vec<usize>> = serde_json::from_value(case["shapes"].clone()).unwrap();
        assert_eq!(expected, shapes, "{name}");
    }
}
