//! Three AdamW steps with clipping by the global norm, against PyTorch in float64.
use burn::tensor::Device;
use rlvr::config::OptimConfig;
use rlvr::policies::packed::{PackedBatch, PromptGroup};
use rlvr::policies::{Decoder, PolicyFiles};
use rlvr::train::optim::Optimizer;
use safetensors::SafeTensors;
use std::path::PathBuf;

#[test]
fn three_steps_of_three_models() {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    for name in ["tiny-llama", "tiny-qwen2", "tiny-qwen3"] {
        let file = std::fs::read(golden.join(format!("{name}.safetensors"))).unwrap();
        let file = SafeTensors::deserialize(&file).unwrap();
        let words = |key: &str| -> Vec<[u8; 4]> {
            file.tensor(key).unwrap().data().chunks(4).map(|b| b.try_into().unwrap()).collect()
        };
        let floats = |key: &str| -> Vec<f32> { words(key).into_iter().map(f32::from_le_bytes).collect() };
        let ids: Vec<u32> = words("input_ids").into_iter().map(u32::from_le_bytes).collect();
        let width = file.tensor("input_ids").unwrap().shape()[1];
        let groups: Vec<_> =
            ids.chunks(width).map(|r| PromptGroup { prompt: &r[..1], completions: vec![&r[1..]] }).collect();
        let batch = PackedBatch::new(&groups);
        let n = batch.targets.len() as f32;
        let files = PolicyFiles::open_folder(&golden.join("models").join(name)).unwrap();
        let mut decoder = Decoder::load(files.config, &*files.weights, &Device::flex()).unwrap();
        let config = OptimConfig { betas: [0.9, 0.99], weight_decay: 0.05, ..OptimConfig::default() };
        let mut optim = Optimizer::new(&config, 3, &decoder);
        for step in 0..3 {
            let mut grads = decoder.zero_gradients();
            let pass = decoder.forward(batch.clone(), 1.0, false);
            let loss = -pass.targets().logprobs.iter().sum::<f32>() / n;
            let slopes = vec![-1.0 / n; pass.targets().logprobs.len()];
            pass.backward(&slopes.into(), &mut grads);
            let norm = optim.step(&mut decoder, &grads, 0.01).unwrap() as f32;
            let (want_loss, want_norm) =
                (floats("adamw3.losses")[step], floats("adamw3.grad_norms_before_clip")[step]);
            assert!((loss - want_loss).abs() < 2e-5 * want_loss.max(1.0), "{name} {loss} {want_loss}");
            assert!((norm - want_norm).abs() < 1e-4 * want_norm, "{name} {norm} {want_norm}");
        }
        let (mut far, mut count, mut worst, mut squares) = (0, 0, 0f32, 0f64);
        for (i, spec) in decoder.layout().specs.iter().enumerate() {
            for (hf, tensor) in spec.to_hf(&decoder.param_values(i)) {
                for (a, b) in tensor.data.iter().zip(floats(&format!("adamw3.{hf}"))) {
                    let diff = (a - b).abs();
                    far += i32::from(diff > 1e-4);
                    count += 1;
                    worst = worst.max(diff);
                    squares += f64::from(diff * diff);
                }
            }
        }
        // Weights move by up to 3e-2. Where a gradient is nearly zero, f32 noise decides the direction of Adam's step.
        let rms = (squares / f64::from(count)).sqrt();
        println!("{name}: {far} of {count} off by more than 1e-4, rms {rms:.1e}, worst {worst:.1e}");
        assert!(f64::from(far) < 0.005 * f64::from(count), "{name}: {far} of {count}");
        assert!(rms < 1e-4 && worst < 2e-2, "{name}: rms {rms}, worst {worst}");
    }
}
