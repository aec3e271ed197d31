//! The decoder against values from PyTorch and transformers (float64, rounded to float32), both ways of computing.
#![allow(clippy::unwrap_used)] // Helpers of tests fail tests.
#![allow(clippy::print_stdout)] // Figures, shown with `-- --nocapture`.
use burn::tensor::{DType, Device};
use rlvr_policies::config::ModelConfig;
use rlvr_policies::decoder::Decoder;
use rlvr_policies::host::gemm::Operands;
use rlvr_policies::packed::{PackedBatch, PromptGroup};
use rlvr_policies::targets::TargetGrads;
use rlvr_policies::weights::SafetensorsSource;
use safetensors::SafeTensors;
use std::path::PathBuf;

mod reference;

const MODELS: [&str; 3] = ["tiny-llama", "tiny-qwen2", "tiny-qwen3"];

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

fn decoder(name: &str) -> Decoder {
    let dir = golden().join("models").join(name);
    let config = ModelConfig::from_hf_file(&dir.join("config.json")).unwrap();
    Decoder::load(config, &SafetensorsSource::open_folder(&dir).unwrap(), &Device::flex()).unwrap()
}

struct Golden(Vec<u8>);
impl Golden {
    fn open(name: &str) -> Self {
        Self(std::fs::read(golden().join(format!("{name}.safetensors"))).unwrap())
    }
    fn f32s(&self, key: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let data = file.tensor(key).unwrap();
        data.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }
    fn ids(&self, key: &str) -> (Vec<u32>, usize) {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let data = file.tensor(key).unwrap();
        (data.data().chunks(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect(), data.shape()[1])
    }
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

/// Each row as a prompt of one token and a completion of the rest.
fn rows_as_batch(ids: &[u32], width: usize) -> PackedBatch {
    let groups: Vec<_> =
        ids.chunks(width).map(|r| PromptGroup { prompt: &r[..1], completions: vec![&r[1..]] }).collect();
    PackedBatch::new(&groups)
}

#[test]
fn logits_and_logprobs() {
    for name in MODELS {
        let g = Golden::open(name);
        let (ids, width) = g.ids("input_ids");
        let want = g.f32s("logits");
        let decoder = decoder(name);
        let batch = rows_as_batch(&ids, width);
        let entropy: Vec<f32> =
            g.f32s("entropy").chunks(width).flat_map(|r| r[..width - 1].to_vec()).collect();
        let logits = |f: &dyn Fn(&[u32]) -> Vec<f32>| ids.chunks(width).flat_map(f).collect::<Vec<f32>>();
        let of_reference = logits(&|row| reference::logits(&decoder, row));
        for (way, logits) in [("kernels", logits(&|row| decoder.logits(row))), ("reference", of_reference)] {
            println!("{name} {way}: logits off by at most {:.1e}", worst(&logits, &want));
            // float32 PyTorch is itself up to 2.4e-5 from float64 here.
            assert!(worst(&logits, &want) < 5e-5, "{name} {way} logits {}", worst(&logits, &want));
        }
        for (key, temperature) in [("logps", 1.0), ("logps_temp0.7", 0.7)] {
            let stats = decoder.logprobs(&batch, temperature);
            let of_reference = reference::logprobs(&decoder, &batch, temperature);
            for (way, got) in [("kernels", [stats.logprobs, stats.entropy]), ("reference", of_reference)] {
                let diff = worst(&got[0], &g.f32s(key));
                println!("{name} {way}: {key} off by at most {diff:.1e}");
                assert!(diff < 3e-5, "{name} {way} {key} {diff}");
                if temperature == 1.0 {
                    let diff = worst(&got[1], &entropy);
                    println!("{name} {way}: entropies off by at most {diff:.1e}");
                    assert!(diff < 3e-5, "{name} {way} entropy {diff}");
                }
            }
        }
    }
}

#[test]
fn gradients() {
    for name in MODELS {
        let g = Golden::open(name);
        let (ids, width) = g.ids("input_ids");
        let batch = rows_as_batch(&ids, width);
        let n = batch.targets.len() as f32;
        let decoder = decoder(name);
        let mean = |logprobs: &[f32]| -> TargetGrads { vec![-1.0 / n; logprobs.len()].into() };
        let mut runs = vec![("reference", reference::gradients(&decoder, &batch, 1.0, mean))];
        for (way, recompute) in [("kernels", false), ("kernels, recomputed", true)] {
            let mut grads = decoder.zero_gradients();
            let pass = decoder.forward(batch.clone(), 1.0, recompute);
            let logprobs = pass.targets().logprobs.clone();
            pass.backward(&mean(&logprobs), &mut grads);
            let grads = (0..decoder.params().len()).map(|i| grads.values(i)).collect();
            runs.push((way, (logprobs, grads)));
        }
        for (way, (logprobs, grads)) in runs {
            let loss = -logprobs.iter().sum::<f32>() / n;
            assert!((loss - g.f32s("grad_loss")[0]).abs() < 1e-5, "{name} {way} loss {loss}");
            let mut furthest = 0f32;
            for (spec, grad) in decoder.layout().specs.iter().zip(&grads) {
                for (hf, tensor) in spec.to_hf(grad) {
                    let want = g.f32s(&format!("grad.{hf}"));
                    let scale = want.iter().fold(1e-3, |a: f32, b| a.max(b.abs()));
                    let diff = worst(&tensor.data, &want) / scale;
                    // float32 PyTorch is itself 2e-6 away.
                    assert!(diff < 1e-5, "{name} {way} {hf}: relative {diff}");
                    furthest = furthest.max(diff);
                }
            }
            println!("{name} {way}: gradients off by at most {furthest:.1e} of the largest");
        }
    }
}

/// Operands rounded to bf16: off by what eight bits of precision make, and by something.
#[test]
fn operands_in_bf16() {
    for name in MODELS {
        let g = Golden::open(name);
        let (ids, width) = g.ids("input_ids");
        let decoder = decoder(name).with_operands(DType::BF16).unwrap();
        assert_eq!(decoder.operands(), DType::BF16);
        let batch = rows_as_batch(&ids, width);
        let n = batch.targets.len() as f32;
        let off = worst(&decoder.logprobs(&batch, 1.0).logprobs, &g.f32s("logps"));
        let by = Operands::Bf16.instructions();
        println!("{name} bf16 by {by}: log-probabilities off by at most {off:.1e}");
        assert!((1e-4..0.3).contains(&off), "{name} {off}");
        let mut grads = decoder.zero_gradients();
        let pass = decoder.forward(batch.clone(), 1.0, false);
        let mean = vec![-1.0 / n; pass.targets().logprobs.len()];
        pass.backward(&mean.into(), &mut grads);
        // The direction of all gradients together.
        let (mut dot, mut ours, mut theirs) = (0.0, 0.0, 0.0);
        for (i, spec) in decoder.layout().specs.iter().enumerate() {
            for (hf, tensor) in spec.to_hf(&grads.values(i)) {
                for (x, y) in tensor.data.iter().zip(g.f32s(&format!("grad.{hf}"))) {
                    let (x, y) = (f64::from(*x), f64::from(y));
                    (dot, ours, theirs) = (dot + x * y, ours + x * x, theirs + y * y);
                }
            }
        }
        let cosine: f64 = dot / (ours * theirs).sqrt();
        println!(
            "{name} bf16: 1 - cosine of the gradients {:.1e}, norms {:.5}",
            1.0 - cosine,
            (ours / theirs).sqrt()
        );
        assert!(1.0 - cosine < 1e-3, "{name} {cosine}");
        assert!(((ours / theirs).sqrt() - 1.0).abs() < 1e-2, "{name} {ours} {theirs}");
    }
}

/// Where operands in bf16 are multiplied by AMX, what holds of them holds without it, too: in a process of its own, because
/// it is decided once.
#[test]
fn operands_in_bf16_without_amx() {
    if Operands::Bf16.instructions() != "AMX" {
        return println!("this process does not use AMX: the other tests say what this one would");
    }
    let tests = ["operands_in_bf16", "decoding_agrees_with_the_full_pass_and_does_not_depend_on_the_batch"];
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    let output = again.args(["--exact", "--nocapture"]).args(tests).env("RLVR_AMX", "0").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success() && said.contains("2 passed"), "{said}");
}

#[test]
fn greedy_decoding_of_prompts_of_several_lengths() {
    for name in MODELS {
        let g = Golden::open(name);
        let (ids, width) = g.ids("padded_ids");
        let (mask, _) = g.ids("padded_mask");
        let (want, new) = g.ids("greedy_ids_from_padded");
        let prompts: Vec<Vec<u32>> = (ids.chunks(width).zip(mask.chunks(width)))
            .map(|(ids, mask)| ids.iter().zip(mask).filter(|(_, m)| **m == 1).map(|(i, _)| *i).collect())
            .collect();
        let refs: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let decoder = decoder(name);
        let (mut cache, mut logits) = decoder.prefill(&refs, width + new);
        let mut got: Vec<Vec<u32>> = vec![vec![]; prompts.len()];
        for _ in 0..new {
            let vocab = decoder.config().vocab_size;
            let next: Vec<u32> = (logits.chunks(vocab))
                .map(|l| (0..vocab).max_by(|a, b| l[*a].total_cmp(&l[*b])).unwrap() as u32)
                .collect();
            got.iter_mut().zip(&next).for_each(|(g, t)| g.push(*t));
            logits = cache.step(&decoder, &next);
        }
        // A row that has ended is padded in the golden file.
        let eos = decoder.config().eos_token_ids.clone();
        for (got, want) in got.iter().zip(want.chunks(new)) {
            let end = want.iter().position(|t| eos.contains(t)).map_or(new, |p| p + 1);
            assert_eq!(got[..end], want[..end], "{name}");
        }
    }
}

#[test]
fn a_group_sharing_its_prompt_equals_separate_sequences() {
    let prompt: Vec<u32> = (5..40).collect();
    let completions: Vec<Vec<u32>> = vec![(50..120).collect(), vec![7], (60..75).collect()];
    let refs: Vec<&[u32]> = completions.iter().map(Vec::as_slice).collect();
    let shared = PackedBatch::new(&[PromptGroup { prompt: &prompt, completions: refs.clone() }]);
    let apart: Vec<_> = refs.iter().map(|c| PromptGroup { prompt: &prompt, completions: vec![c] }).collect();
    let apart = PackedBatch::new(&apart);
    let slopes = |logprobs: &[f32]| {
        let logprobs: Vec<f32> = (0..logprobs.len()).map(|i| ((i * 7 % 11) as f32 - 5.0) / 50.0).collect();
        let entropy = Some(logprobs.iter().map(|g| 0.05 - 0.5 * g).collect());
        TargetGrads { logprobs, entropy, balance: None }
    };
    for name in MODELS {
        let decoder = decoder(name);
        let run = |batch: &PackedBatch| {
            let mut grads = decoder.zero_gradients();
            let pass = decoder.forward(batch.clone(), 0.9, false);
            let logprobs = pass.targets().logprobs.clone();
            pass.backward(&slopes(&logprobs), &mut grads);
            let all: Vec<Vec<f32>> = (0..decoder.params().len()).map(|i| grads.values(i)).collect();
            (logprobs, all)
        };
        let (lp, g) = run(&shared);
        let of_reference = reference::gradients(&decoder, &shared, 0.9, slopes);
        for (way, (lp2, g2)) in [("apart", run(&apart)), ("reference", of_reference)] {
            assert!(worst(&lp, &lp2) < 3e-5);
            for (a, b) in g.iter().zip(&g2) {
                let scale = b.iter().fold(1e-2, |m: f32, v| m.max(v.abs()));
                assert!(worst(a, b) / scale < 5e-5, "{name} {way} {}", worst(a, b) / scale);
            }
        }
    }
}

#[test]
fn decoding_agrees_with_the_full_pass_and_does_not_depend_on_the_batch() {
    for (name, dtype, limit) in
        MODELS.into_iter().flat_map(|m| [(m, DType::F32, 5e-5), (m, DType::BF16, 2e-2)])
    {
        let decoder = decoder(name).with_operands(dtype).unwrap();
        let prompt: Vec<u32> = (10..45).collect();
        let next: Vec<u32> = (100..120).collect();
        let vocab = decoder.config().vocab_size;
        let full = decoder.logits(&[prompt.clone(), next.clone()].concat());
        let run = |copies: usize| {
            let (cache, mut all) = decoder.prefill(&[&prompt], 60);
            let mut cache = cache.select_rows(&decoder, &vec![0; copies], 60);
            for t in &next {
                all.extend(&cache.step(&decoder, &vec![*t; copies])[..vocab]);
            }
            all
        };
        let one = run(1);
        let off = worst(&one, &full[(prompt.len() - 1) * vocab..]);
        println!("{name} {dtype:?}: decoding and the full pass differ by at most {off:.1e}");
        assert!(off < limit, "{name} {dtype:?} {off}");
        for copies in [2, 3, 8, 17, 33] {
            assert_eq!(worst(&one, &run(copies)), 0.0, "{name} {dtype:?} {copies}");
        }
    }
}

#[test]
fn rows_that_join_a_batch_decode_as_they_would_alone() {
    for name in MODELS {
        let decoder = decoder(name);
        let vocab = decoder.config().vocab_size;
        let next: Vec<u32> = (100..116).collect();
        let run = |prompt: &[u32]| {
            let (mut cache, mut all) = decoder.prefill(&[prompt], prompt.len() + next.len());
            next.iter().for_each(|t| all.extend(cache.step(&decoder, &[*t])));
            all
        };
        let prompts: [Vec<u32>; 3] = [(10..21).collect(), (30..34).collect(), (50..90).collect()];
        let alone = prompts.each_ref().map(|p| run(p));
        // The second row of two stays and is joined by a shorter one after five tokens, a longer one after nine.
        let prefill = |p: &[u32]| decoder.prefill(&[p], p.len()).0;
        let mut cache = prefill(&prompts[0]).select_rows(&decoder, &[0, 0], 30);
        let mut rows: Vec<(usize, usize)> = vec![(0, 0), (0, 0)];
        for step in 0..14 {
            match step {
                5 => {
                    cache =
                        cache.select_rows(&decoder, &[1], 30).append_rows(&decoder, prefill(&prompts[1]), 40)
                }
                9 => cache = cache.append_rows(&decoder, prefill(&prompts[2]), 60),
                _ => {}
            }
            match step {
                5 => rows = vec![rows[1], (1, 0)],
                9 => rows.push((2, 0)),
                _ => {}
            }
            let tokens: Vec<u32> = rows.iter().map(|(_, fed)| next[*fed]).collect();
            let logits = cache.step(&decoder, &tokens);
            for ((prompt, fed), got) in rows.iter_mut().zip(logits.chunks(vocab)) {
                *fed += 1;
                let difference = worst(got, &alone[*prompt][*fed * vocab..(*fed + 1) * vocab]);
                assert_eq!(difference, 0.0, "{name} step {step} prompt {prompt}");
            }
        }
    }
}
