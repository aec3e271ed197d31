//! Llama 1 to 3, SmolLM2, TinyLlama: what all others are compared with.
use super::{Family, LLAMA_DEFAULTS, attention_bias, mlp_bias, no_windows};
use crate::config::ModelConfig;
use crate::config::keys::Keys;
use crate::error::PolicyError;
use serde_json::{Map, Value};

pub(crate) const FAMILY: Family = Family {
    model_type: "llama",
    class_name: "LlamaForCausalLM",
    gguf: Some("llama"),
    gguf_interleaved: true,
    defaults: LLAMA_DEFAULTS,
    keys: &["attention_bias", "mlp_bias"],
    read,
    write,
};

fn read(keys: &Keys<'_>, c: &mut ModelConfig) -> Result<(), PolicyError> {
    attention_bias(keys, c)?;
    mlp_bias(keys, c)?;
    no_windows(keys, c)
}

fn write(c: &ModelConfig, value: &mut Map<String, Value>) {
    value.insert("attention_bias".into(), c.attention_bias.into());
    value.insert("mlp_bias".into(), c.shape.mlp_bias.into());
}
