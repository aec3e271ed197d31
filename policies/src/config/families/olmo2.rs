//! OLMo 2 (arXiv:2501.00656): norms behind attention and MLP, and of all queries and all keys of a token together.
use super::{Defaults, Family, LLAMA_DEFAULTS, attention_bias, no_windows};
use crate::config::keys::Keys;
use crate::config::{ModelConfig, NormPlaces, QkNorm};
use crate::error::PolicyError;
use serde_json::{Map, Value};

pub(crate) const FAMILY: Family = Family {
    model_type: "olmo2",
    class_name: "Olmo2ForCausalLM",
    gguf: Some("olmo2"),
    gguf_interleaved: false,
    defaults: Defaults { eps: 1e-5, ..LLAMA_DEFAULTS },
    keys: &["attention_bias"],
    read,
    write,
};

fn read(keys: &Keys<'_>, c: &mut ModelConfig) -> Result<(), PolicyError> {
    attention_bias(keys, c)?;
    c.shape.norms = NormPlaces::Behind;
    c.shape.qk_norm = QkNorm::Row;
    no_windows(keys, c)
}

fn write(c: &ModelConfig, value: &mut Map<String, Value>) {
    value.insert("attention_bias".into(), c.attention_bias.into());
}
