//! Policies of which only parts are trained: the gradients of these are those of the whole, bit for bit, and there are no others.
#![allow(clippy::unwrap_used)] // Helpers of tests fail tests.
use burn::tensor::Device;
use rlvr_policies::targets::TargetGrads;
use rlvr_policies::{Decoder, LoraSettings, ParamPattern};
use tiny::{batch, cases, decoder, rows};

mod tiny;

/// What a pattern names.
fn part(decoder: &Decoder, pattern: &str) -> Decoder {
    let pattern = ParamPattern::new(pattern).unwrap();
    let whole = decoder.clone();
    decoder.clone().with_trained(|i, part| whole.names_of(i, part).any(|name| pattern.matches(name)))
}

#[test]
fn gradients_of_parts_are_those_of_the_whole() {
    for (name, case) in cases() {
        let (whole, batch) = (decoder(&case, &Device::flex()), batch(&rows(&case["ids"])));
        let gradients = |decoder: &Decoder, recompute: bool| {
            let mut grads = decoder.zero_gradients();
            let pass = decoder.forward(batch.clone(), 1.0, recompute);
            let n = pass.targets().logprobs.len();
            let logprobs = (0..n).map(|i| ((i * 7 % 11) as f32 - 5.0) / 50.0).collect();
            let load = &pass.targets().load;
            let balance = (!load.is_empty()).then(|| load.slopes(0.1));
            let g = TargetGrads { logprobs, entropy: None, balance };
            pass.backward(&g, &mut grads);
            (0..decoder.params().len()).map(|i| grads.values(i)).collect::<Vec<_>>()
        };
        let all = gradients(&whole, false);
        let blocks = whole.layout().model.blocks.len();
        for (pattern, first) in [
            (r"model\.norm", blocks),
            ("lm_head", if whole.config().tie_word_embeddings { 0 } else { blocks }),
            ("embed_tokens", 0),
            (r"layers\.2", 2),
            (r"layers\.1\..*norm", 1),
            (r"layers\.[12]\.self_attn\.(v_proj|qkv_proj)", 1),
            (r"layers\.2\.self_attn\.(q_proj|v_proj)|layers\.2\.mlp\..*up_proj|mlp\.gate", 0),
            ("bias|.*norm", 0),
            (".*", 0),
        ] {
            let parts = part(&whole, pattern);
            if parts.trained_parts().is_empty() {
                continue;
            }
            let depth = parts.trained_parts().depth();
            if !pattern.contains("gate") && !pattern.contains("bias") && !pattern.contains("norm") {
                assert_eq!(depth.first_block, first, "{name} {pattern}");
            }
            for recompute in [false, true] {
                let some = gradients(&parts, recompute);
                for (i, (some, all)) in some.iter().zip(&all).enumerate() {
                    let spans = parts.trained_parts().spans(i);
                    let wanted: Vec<f32> =
                        spans.iter().flat_map(|s| all[s.elements.clone()].to_vec()).collect();
                    let spec = &parts.layout().specs[i];
                    assert_eq!(some, &wanted, "{name} {pattern}: {}", spec.name);
                    assert_eq!(some.len(), parts.trained_parts().len(i));
                }
            }
        }
    }
}

#[test]
fn half_of_an_adapter_can_be_frozen() {
    let (name, case) = cases().into_iter().next().unwrap();
    let (base, batch) = (decoder(&case, &Device::flex()), batch(&rows(&case["ids"])));
    let values = |i: usize, j: usize| ((i * 131 + j * 7919) % 997) as f32 / 997.0;
    let settings = LoraSettings { rank: 2, ..LoraSettings::default() };
    let layout = base.clone().with_new_lora(settings.clone(), values).unwrap();
    let filled = base.with_lora(settings, |i, spec| {
        Ok((0..spec.shape[0] * spec.shape[1]).map(|j| values(i, j) - 0.5).collect())
    });
    let whole = filled.unwrap();
    assert_eq!(layout.base_params(), whole.base_params());
    let gradients = |decoder: &Decoder| {
        let mut grads = decoder.zero_gradients();
        let pass = decoder.forward(batch.clone(), 1.0, false);
        let n = pass.targets().logprobs.len();
        pass.backward(&vec![-1.0 / n as f32; n].into(), &mut grads);
        (0..decoder.params().len()).map(|i| grads.values(i)).collect::<Vec<_>>()
    };
    let (all, parts) = (gradients(&whole), part(&whole, r"layers\.[12]\..*\.lora_B"));
    assert_eq!(parts.trained_parts().depth().first_block, 1);
    for (i, some) in gradients(&parts).iter().enumerate() {
        let spec = &parts.layout().specs[i];
        match parts.trained()[i] {
            true => assert!(some == &all[i] && spec.name.contains("lora_b"), "{name} {}", spec.name),
            false => assert!(some.is_empty(), "{name} {}", spec.name),
        }
    }
    assert_eq!(parts.without_lora().logprobs(&batch, 1.0), whole.without_lora().logprobs(&batch, 1.0));
}

/// A clone that stays behind keeps its weights, and both share what is frozen.
#[test]
fn what_is_frozen_is_shared_and_does_not_change() {
    let (_, case) = cases().into_iter().next().unwrap();
    let mut policy = part(&decoder(&case, &Device::flex()), r"layers\.2");
    let (reference, batch) = (policy.clone(), batch(&rows(&case["ids"])));
    let before = policy.logprobs(&batch, 1.0);
    policy.update_on_host(|_, _, values| values.iter_mut().for_each(|v| *v += 0.01));
    assert_eq!(reference.logprobs(&batch, 1.0), before);
    assert_ne!(policy.logprobs(&batch, 1.0), before);
    let address = |decoder: &Decoder, i: usize| {
        let flex = decoder.params()[i].clone().try_into_primitive::<burn::backend::Flex>().ok().unwrap();
        flex.storage::<f32>().as_ptr() as usize
    };
    for i in 0..policy.params().len() {
        let same = address(&policy, i) == address(&reference, i);
        assert_eq!(same, !policy.trained()[i], "{}", policy.layout().specs[i].name);
    }
}
