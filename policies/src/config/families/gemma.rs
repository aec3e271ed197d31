//! Gemma 2 (arXiv:2408.00118) and the text models of Gemma 3 (arXiv:2503.19786): norms before and behind with factors
//! `1 + w`, GELU, scaled embeddings, windows in most layers; Gemma 2 bounds scores and logits, Gemma 3 norms heads
//! and rotates the layers with a window by frequencies of their own.
use super::{
    Defaults, Family, LLAMA_DEFAULTS, any_window, attention_bias, layer_types, sliding_layers, window,
    write_rope_by_layer,
};
use crate::config::keys::Keys;
use crate::config::{ModelConfig, NormPlaces, QkNorm};
use crate::error::PolicyError;
use crate::spec::Act;
use serde_json::{Map, Value, json};

const ACTIVATION: &str = "gelu_pytorch_tanh";

const DEFAULTS: Defaults = Defaults {
    kv_heads: Some(4),
    head_dim: Some(256),
    context: 8192,
    tied: true,
    activation: ("hidden_activation", ACTIVATION),
    ..LLAMA_DEFAULTS
};

pub(crate) const GEMMA2: Family = Family {
    model_type: "gemma2",
    class_name: "Gemma2ForCausalLM",
    gguf: Some("gemma2"),
    gguf_interleaved: false,
    defaults: DEFAULTS,
    keys: &[
        "attention_bias",
        "hidden_act",
        "hidden_activation",
        "query_pre_attn_scalar",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "sliding_window",
    ],
    read: |keys, c| {
        common(keys, c, 2)?;
        let cap = |key: &str, default: f64| match keys.positive(key)? {
            None if !keys.map.contains_key(key) => Ok::<_, PolicyError>(Some(default)),
            cap => Ok(cap),
        };
        c.shape.attention_cap = cap("attn_logit_softcapping", 50.0)?;
        c.shape.logit_cap = cap("final_logit_softcapping", 30.0)?;
        Ok(())
    },
    write,
};

pub(crate) const GEMMA3: Family = Family {
    model_type: "gemma3_text",
    class_name: "Gemma3ForCausalLM",
    gguf: Some("gemma3"),
    defaults: Defaults { context: 131_072, theta: 1e6, ..DEFAULTS },
    keys: &[
        "attention_bias",
        "hidden_act",
        "hidden_activation",
        "query_pre_attn_scalar",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "sliding_window",
        "sliding_window_pattern",
        "_sliding_window_pattern",
        "rope_local_base_freq",
    ],
    read: |keys, c| {
        let pattern = match keys.optional_size("sliding_window_pattern")? {
            Some(pattern) => pattern,
            None => keys.optional_size("_sliding_window_pattern")?.unwrap_or(6),
        };
        common(keys, c, pattern)?;
        c.shape.qk_norm = QkNorm::Head;
        if let Some(cap) = keys.get("attn_logit_softcapping") {
            tracing::warn!(
                "{}: `attn_logit_softcapping` = {cap} is ignored: Gemma 3 does not bound its scores, in transformers neither",
                keys.path.display()
            );
        }
        c.shape.logit_cap = keys.positive("final_logit_softcapping")?;
        let local = c.shape.local_rope_theta;
        c.shape.local_rope_theta = local.or(keys.positive("rope_local_base_freq")?).or(Some(1e4));
        Ok(())
    },
    write,
    ..GEMMA2
};

fn common(keys: &Keys<'_>, c: &mut ModelConfig, pattern: usize) -> Result<(), PolicyError> {
    attention_bias(keys, c)?;
    c.shape.norms = NormPlaces::Both;
    c.shape.norm_plus_one = true;
    c.shape.activation = Act::GeluTanh;
    c.shape.embedding_scale = (c.hidden_size as f64).sqrt();
    if let Some(other) = keys.get("hidden_act").filter(|name| name.as_str() != Some(ACTIVATION)) {
        tracing::warn!(
            "{}: `hidden_act` = {other} is ignored: `hidden_activation` says the activation",
            keys.path.display()
        );
    }
    let scalar = keys.optional_size("query_pre_attn_scalar")?.unwrap_or(256);
    c.shape.attention_scale = Some((scalar as f64).powf(-0.5));
    let types = sliding_layers(keys, c.num_layers)?;
    if let Some(window) = window(keys, Some(4096))? {
        let sliding = |l: usize| types.as_ref().map_or(!(l + 1).is_multiple_of(pattern), |types| types[l]);
        c.shape.set_windows(c.num_layers, window, sliding);
    }
    Ok(())
}

fn write(c: &ModelConfig, value: &mut Map<String, Value>) {
    value.remove("hidden_act");
    let scalar = c.shape.attention_scale.map(|scale| scale.powi(-2).round());
    value.extend([
        ("attention_bias".into(), c.attention_bias.into()),
        ("hidden_activation".into(), json!(ACTIVATION)),
        ("query_pre_attn_scalar".into(), json!(scalar.map(|s| s as u64))),
        ("attn_logit_softcapping".into(), json!(c.shape.attention_cap)),
        ("final_logit_softcapping".into(), json!(c.shape.logit_cap)),
        ("sliding_window".into(), any_window(c).into()),
        ("layer_types".into(), layer_types(c)),
    ]);
    write_rope_by_layer(c, value);
    if let Some(theta) = c.shape.local_rope_theta {
        value.insert("rope_local_base_freq".into(), json!(theta));
    }
}
