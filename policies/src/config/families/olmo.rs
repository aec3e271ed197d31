//! OLMo 2 (arXiv:2501.00656): norms behind attention and MLP, and of all queries and all keys of a token together. OLMo 3
//! (arXiv:2512.13961) sees a window in three of four layers, which are not stretched.
use super::{
    Defaults, Family, LLAMA_DEFAULTS, any_window, attention_bias, layer_types, no_windows, sliding_layers,
    window, write_rope_by_layer,
};
use crate::config::keys::Keys;
use crate::config::{ModelConfig, NormPlaces, QkNorm};
use crate::error::PolicyError;
use serde_json::{Map, Value};

pub(crate) const OLMO2: Family = Family {
    model_type: "olmo2",
    class_name: "Olmo2ForCausalLM",
    gguf: Some("olmo2"),
    gguf_interleaved: false,
    defaults: Defaults { eps: 1e-5, ..LLAMA_DEFAULTS },
    keys: &["attention_bias"],
    read: |keys, c| {
        common(keys, c)?;
        no_windows(keys, c)
    },
    write: |c, value| {
        value.insert("attention_bias".into(), c.attention_bias.into());
    },
};

/// θ of OLMo 3 where a file says none.
const THETA: f64 = 5e5;

pub(crate) const OLMO3: Family = Family {
    model_type: "olmo3",
    class_name: "Olmo3ForCausalLM",
    // Its files have the name of OLMo 2, and a window.
    gguf: None,
    defaults: Defaults { theta: THETA, ..OLMO2.defaults },
    keys: &["attention_bias", "sliding_window"],
    read: read_olmo3,
    write: write_olmo3,
    ..OLMO2
};

fn common(keys: &Keys<'_>, c: &mut ModelConfig) -> Result<(), PolicyError> {
    attention_bias(keys, c)?;
    c.shape.norms = NormPlaces::Behind;
    c.shape.qk_norm = QkNorm::Row;
    Ok(())
}

fn read_olmo3(keys: &Keys<'_>, c: &mut ModelConfig) -> Result<(), PolicyError> {
    common(keys, c)?;
    c.shape.local_rope_theta = c.shape.local_rope_theta.or(Some(THETA));
    let types = sliding_layers(keys, c.num_layers)?;
    let sliding = |l: usize| types.as_ref().map_or(!(l + 1).is_multiple_of(4), |types| types[l]);
    match window(keys, Some(4096))? {
        Some(window) => c.shape.set_windows(c.num_layers, window, sliding),
        None if (0..c.num_layers).any(sliding) => {
            return Err(keys.wrong("sliding_window", "is null, and layers have one"));
        }
        None => {}
    }
    Ok(())
}

fn write_olmo3(c: &ModelConfig, value: &mut Map<String, Value>) {
    value.insert("attention_bias".into(), c.attention_bias.into());
    value.insert("sliding_window".into(), any_window(c).into());
    value.insert("layer_types".into(), layer_types(c));
    write_rope_by_layer(c, value);
}
