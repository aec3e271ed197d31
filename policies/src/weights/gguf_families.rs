//! What is particular about families in GGUF files: keys that llama.cpp reads for one architecture, what it has as
//! constants of its code, and names of tensors.
use super::gguf_config::Metadata;
use crate::config::keys::MAX_EXPERTS;
use crate::config::{
    Architecture, ExpertShape, LayerKind, LongRope, ModelConfig, NormPlaces, QkNorm, RopeScaling,
    rotated_by_interval,
};
use crate::error::PolicyError;
use crate::spec::Act;

/// Tensors with the divisors of Phi-3's frequencies, for short and for long contexts.
pub(super) const LONG_ROPE: [&str; 2] = ["rope_factors_short.weight", "rope_factors_long.weight"];

/// Key that says which layers have a window.
const PATTERN: &str = "attention.sliding_window_pattern";

/// Keys behind the name of the architecture that only it has.
pub(super) fn keys(architecture: Architecture) -> &'static [&'static str] {
    match architecture {
        Architecture::Gemma2 => &["attn_logit_softcapping", "final_logit_softcapping", PATTERN],
        Architecture::Gemma3 => &["final_logit_softcapping", "rope.freq_base_swa", PATTERN],
        Architecture::Granite => &["attention.scale", "embedding_scale", "residual_scale", "logit_scale"],
        Architecture::Phi3 => &["rope.scaling.attn_factor"],
        Architecture::Qwen3Moe => &["expert_count", "expert_used_count", "expert_feed_forward_length"],
        // OLMo 3 has the name of OLMo 2 in GGUF files.
        Architecture::Olmo2 | Architecture::Olmo3 => &["rope.freq_base_swa", PATTERN],
        Architecture::Llama
        | Architecture::Mistral
        | Architecture::Ministral
        | Architecture::Qwen2
        | Architecture::Qwen3
        | Architecture::SmolLm3 => &[],
    }
}

/// What becomes of the window that a file names.
enum Windows {
    /// llama.cpp computes none: up to the window there is no difference, so the context ends there.
    End,
    /// Every layer has it.
    All,
    /// All layers but each n-th, where the file does not say which.
    Every(usize),
}

/// Reads what is particular into a config that is Llama's otherwise.
pub(super) fn read(keys: &Metadata<'_>, c: &mut ModelConfig) -> Result<(), PolicyError> {
    let mut window = keys.window()?;
    let layers = c.num_layers;
    let windows = match c.architecture {
        Architecture::Llama | Architecture::Mistral | Architecture::Ministral | Architecture::Qwen2 => {
            Windows::End
        }
        Architecture::Qwen3 => {
            c.shape.qk_norm = QkNorm::Head;
            Windows::End
        }
        Architecture::SmolLm3 => {
            let kind = |rotated| LayerKind { window: None, rotated };
            c.shape.layers = rotated_by_interval(layers, 4).into_iter().map(kind).collect();
            Windows::End
        }
        Architecture::Gemma2 => {
            gemma(c, layers == 46);
            c.shape.attention_cap = Some(keys.positive("attn_logit_softcapping")?.unwrap_or(50.0));
            c.shape.logit_cap = Some(keys.positive("final_logit_softcapping")?.unwrap_or(30.0));
            window = window.or(Some(4096));
            Windows::Every(2)
        }
        Architecture::Gemma3 => {
            gemma(c, layers == 62);
            c.shape.qk_norm = QkNorm::Head;
            c.shape.logit_cap = keys.positive("final_logit_softcapping")?;
            c.shape.local_rope_theta = Some(keys.positive("rope.freq_base_swa")?.unwrap_or(1e4));
            Windows::Every(6)
        }
        Architecture::Phi3 => {
            c.shape.fused = true;
            Windows::All
        }
        Architecture::Olmo2 | Architecture::Olmo3 => {
            c.shape.norms = NormPlaces::Behind;
            c.shape.qk_norm = QkNorm::Row;
            if window.is_some() {
                c.architecture = Architecture::Olmo3;
                c.shape.local_rope_theta = Some(keys.positive("rope.freq_base_swa")?.unwrap_or(c.rope_theta));
            }
            Windows::Every(4)
        }
        Architecture::Granite => {
            c.shape.attention_scale = keys.positive("attention.scale")?;
            c.shape.embedding_scale = keys.positive("embedding_scale")?.unwrap_or(1.0);
            c.shape.residual_scale = keys.positive("residual_scale")?.unwrap_or(1.0);
            c.shape.logit_scale = 1.0 / keys.positive("logit_scale")?.unwrap_or(1.0);
            Windows::End
        }
        Architecture::Qwen3Moe => {
            c.shape.qk_norm = QkNorm::Head;
            experts(keys, c)?;
            Windows::End
        }
    };
    if let Some(window) = window {
        match windows {
            Windows::End => c.limit_context_to(window, "the sliding window ends there", keys.file.path()),
            Windows::All => c.shape.set_windows(layers, window, |_| true),
            Windows::Every(n) => {
                let sliding = keys.sliding(layers, n)?;
                c.shape.set_windows(layers, window, |l| sliding[l]);
            }
        }
    }
    long_rope(keys, c)
}

fn experts(keys: &Metadata<'_>, c: &mut ModelConfig) -> Result<(), PolicyError> {
    let count = keys.required("expert_count", MAX_EXPERTS)?;
    let top = keys.size("expert_used_count")?;
    if top > count {
        return Err(keys.wrong("expert_used_count", "is more than there are experts"));
    }
    let width = keys.size("expert_feed_forward_length")?;
    c.shape.experts = Some(ExpertShape { count, top, width, normalise: true, dense: vec![] });
    Ok(())
}

/// What both Gemmas have; the largest of each scales scores by the width of the stream.
fn gemma(c: &mut ModelConfig, largest: bool) {
    c.shape.norms = NormPlaces::Both;
    c.shape.norm_plus_one = true;
    c.shape.activation = Act::GeluTanh;
    c.shape.embedding_scale = (c.hidden_size as f64).sqrt();
    let scalar = if largest { c.hidden_size / c.num_heads } else { c.head_dim };
    c.shape.attention_scale = Some((scalar as f64).powf(-0.5));
}

fn long_rope(keys: &Metadata<'_>, c: &mut ModelConfig) -> Result<(), PolicyError> {
    let [short, long] = LONG_ROPE;
    let given = |name: &&str| keys.file.tensors().contains_key(*name);
    match LONG_ROPE.iter().filter(|name| given(name)).count() {
        0 => return Ok(()),
        2 if c.architecture == Architecture::Phi3 => {}
        _ => {
            return Err(PolicyError::Unsupported {
                path: keys.file.path().into(),
                key: "tensors".into(),
                value: LONG_ROPE.iter().filter(|name| given(name)).copied().collect::<Vec<_>>().join(", "),
                supported: "supported: both, in phi3 files".into(),
            });
        }
    }
    let factors = |name: &str| {
        let factors = keys.file.load(name)?;
        if factors.len() != c.rotary_dim() / 2 || factors.iter().any(|f| !(f.is_finite() && *f > 0.0)) {
            let problem = "does not have a positive factor for each two columns that are rotated";
            return Err(PolicyError::ConfigKey {
                path: keys.file.path().into(),
                key: name.into(),
                problem: problem.into(),
            });
        }
        Ok(factors.into_iter().map(f64::from).collect())
    };
    let original = keys.size("rope.scaling.original_context_length")?;
    c.rope_scaling = RopeScaling::LongRope(LongRope {
        short_factor: factors(short)?,
        long_factor: factors(long)?,
        original_max_position_embeddings: original,
        max_position_embeddings: c.max_position_embeddings,
        factor: None,
        attention_factor: keys.positive("rope.scaling.attn_factor")?,
    });
    c.limit_to_short_factors(keys.file.path());
    Ok(())
}

/// Parts of a block: GGUF and Hugging Face.
pub(super) fn parts(c: &ModelConfig) -> Vec<(&'static str, &'static str)> {
    let mut parts = vec![
        ("attn_norm", "input_layernorm"),
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("attn_output", "self_attn.o_proj"),
        ("attn_q_norm", "self_attn.q_norm"),
        ("attn_k_norm", "self_attn.k_norm"),
        ("ffn_down", "mlp.down_proj"),
    ];
    match c.shape.norms {
        NormPlaces::Before => parts.push(("ffn_norm", "post_attention_layernorm")),
        NormPlaces::Both => parts.push(("ffn_norm", "pre_feedforward_layernorm")),
        NormPlaces::Behind => {}
    }
    if c.shape.norms != NormPlaces::Before {
        parts.extend([
            ("post_attention_norm", "post_attention_layernorm"),
            ("post_ffw_norm", "post_feedforward_layernorm"),
        ]);
    }
    match c.shape.fused {
        true => parts.extend([("attn_qkv", "self_attn.qkv_proj"), ("ffn_up", "mlp.gate_up_proj")]),
        false => parts.extend([("ffn_gate", "mlp.gate_proj"), ("ffn_up", "mlp.up_proj")]),
    }
    if c.shape.experts.is_some() {
        parts.push(("ffn_gate_inp", "mlp.gate"));
    }
    parts
}

/// Matrices of experts, one above the other in a tensor `[experts, out, in]`: GGUF and Hugging Face.
pub(super) const EXPERTS: [(&str, &str); 3] =
    [("ffn_gate_exps", "gate_proj"), ("ffn_up_exps", "up_proj"), ("ffn_down_exps", "down_proj")];
