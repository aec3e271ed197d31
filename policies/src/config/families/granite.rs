//! Granite 3: Llama with factors of embeddings, residual branches, scores and logits.
use super::{Family, LLAMA_DEFAULTS, attention_bias, mlp_bias, no_windows};
use crate::config::ModelConfig;
use crate::config::keys::Keys;
use crate::error::PolicyError;
use serde_json::{Map, Value, json};

pub(crate) const FAMILY: Family = Family {
    model_type: "granite",
    class_name: "GraniteForCausalLM",
    gguf: Some("granite"),
    gguf_interleaved: true,
    defaults: LLAMA_DEFAULTS,
    keys: &[
        "attention_bias",
        "mlp_bias",
        "embedding_multiplier",
        "residual_multiplier",
        "attention_multiplier",
        "logits_scaling",
    ],
    read,
    write,
};

fn read(keys: &Keys<'_>, c: &mut ModelConfig) -> Result<(), PolicyError> {
    attention_bias(keys, c)?;
    mlp_bias(keys, c)?;
    let factor = |key: &str| Ok::<_, PolicyError>(keys.positive(key)?.unwrap_or(1.0));
    c.shape.embedding_scale = factor("embedding_multiplier")?;
    c.shape.residual_scale = factor("residual_multiplier")?;
    c.shape.attention_scale = Some(factor("attention_multiplier")?);
    c.shape.logit_scale = 1.0 / factor("logits_scaling")?;
    no_windows(keys, c)
}

fn write(c: &ModelConfig, value: &mut Map<String, Value>) {
    value.extend([
        ("attention_bias".into(), c.attention_bias.into()),
        ("mlp_bias".into(), c.shape.mlp_bias.into()),
        ("embedding_multiplier".into(), json!(c.shape.embedding_scale)),
        ("residual_multiplier".into(), json!(c.shape.residual_scale)),
        ("attention_multiplier".into(), json!(c.shape.attention_scale)),
        ("logits_scaling".into(), json!(1.0 / c.shape.logit_scale)),
    ]);
}
