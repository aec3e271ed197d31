//! Qwen2 and 2.5 (biases of q, k and v), Qwen3 (norms of heads), and Qwen3's mixtures of experts.
use super::{
    Defaults, Family, LLAMA_DEFAULTS, any_window, attention_bias, layer_types, sliding_layers, window,
};
use crate::config::keys::{Keys, MAX_EXPERTS};
use crate::config::{ExpertShape, ModelConfig, QkNorm};
use crate::error::PolicyError;
use serde_json::{Map, Value, json};

const DEFAULTS: Defaults = Defaults { kv_heads: Some(32), context: 32_768, ..LLAMA_DEFAULTS };

pub(crate) const QWEN2: Family = Family {
    model_type: "qwen2",
    class_name: "Qwen2ForCausalLM",
    gguf: Some("qwen2"),
    gguf_interleaved: false,
    defaults: DEFAULTS,
    keys: &["attention_bias", "sliding_window", "use_sliding_window", "max_window_layers"],
    read: |keys, c| {
        c.attention_bias = true;
        windows(keys, c)
    },
    write: |c, value| write_windows(c, value),
};

pub(crate) const QWEN3: Family = Family {
    model_type: "qwen3",
    class_name: "Qwen3ForCausalLM",
    gguf: Some("qwen3"),
    defaults: Defaults { head_dim: Some(128), ..DEFAULTS },
    read: |keys, c| {
        c.shape.qk_norm = QkNorm::Head;
        attention_bias(keys, c)?;
        windows(keys, c)
    },
    write: |c, value| {
        value.insert("attention_bias".into(), c.attention_bias.into());
        write_windows(c, value);
    },
    ..QWEN2
};

pub(crate) const QWEN3_MOE: Family = Family {
    model_type: "qwen3_moe",
    class_name: "Qwen3MoeForCausalLM",
    gguf: Some("qwen3moe"),
    defaults: Defaults { kv_heads: Some(4), context: 32_768, ..LLAMA_DEFAULTS },
    keys: &[
        "attention_bias",
        "sliding_window",
        "use_sliding_window",
        "max_window_layers",
        "num_experts",
        "num_local_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
        "norm_topk_prob",
        "decoder_sparse_step",
        "mlp_only_layers",
        "output_router_logits",
        "router_aux_loss_coef",
    ],
    read: read_moe,
    write: write_moe,
    ..QWEN2
};

/// Windows of the layers that `layer_types` names, or from `max_window_layers` on.
fn windows(keys: &Keys<'_>, c: &mut ModelConfig) -> Result<(), PolicyError> {
    let types = sliding_layers(keys, c.num_layers)?;
    let window = match keys.bool("use_sliding_window")? {
        Some(true) => window(keys, Some(4096))?,
        _ => None,
    };
    let Some(window) = window else {
        return match types {
            Some(types) if types.contains(&true) => {
                Err(keys.wrong("layer_types", "has sliding windows, which the other keys switch off"))
            }
            _ => Ok(()),
        };
    };
    let first = keys.map.get("max_window_layers").map_or(Some(28), Value::as_u64);
    let first = first.ok_or_else(|| keys.wrong("max_window_layers", "is not a whole number"))?;
    let sliding = |l: usize| types.as_ref().map_or(l as u64 >= first, |types| types[l]);
    c.shape.set_windows(c.num_layers, window, sliding);
    Ok(())
}

fn write_windows(c: &ModelConfig, value: &mut Map<String, Value>) {
    let window = any_window(c);
    value.insert("use_sliding_window".into(), window.is_some().into());
    if let Some(window) = window {
        value.insert("sliding_window".into(), window.into());
        value.insert("layer_types".into(), layer_types(c));
    }
}

fn read_moe(keys: &Keys<'_>, c: &mut ModelConfig) -> Result<(), PolicyError> {
    c.shape.qk_norm = QkNorm::Head;
    attention_bias(keys, c)?;
    super::no_windows(keys, c)?;
    if keys.bool("use_sliding_window")? == Some(true)
        && let Some(window) = window(keys, Some(4096))?
    {
        c.shape.set_windows(c.num_layers, window, |_| true);
    }
    let count = match keys.size_up_to("num_experts", MAX_EXPERTS)? {
        Some(n) => n,
        None => keys.size_up_to("num_local_experts", MAX_EXPERTS)?.unwrap_or(128),
    };
    let top = keys.optional_size("num_experts_per_tok")?.unwrap_or(8);
    if top > count {
        return Err(
            keys.wrong("num_experts_per_tok", &format!("= {top} is more than there are experts, {count}"))
        );
    }
    let step = keys.optional_size("decoder_sparse_step")?.unwrap_or(1);
    let only = match keys.get("mlp_only_layers") {
        None => Vec::new(),
        Some(list) => serde_json::from_value::<Vec<usize>>(list.clone())
            .map_err(|_| keys.wrong("mlp_only_layers", "is not a list of layers"))?,
    };
    c.shape.experts = Some(ExpertShape {
        count,
        top,
        width: keys.optional_size("moe_intermediate_size")?.unwrap_or(768),
        normalise: keys.bool("norm_topk_prob")?.unwrap_or(false),
        dense: (0..c.num_layers).filter(|l| only.contains(l) || (l + 1) % step != 0).collect(),
    });
    Ok(())
}

fn write_moe(c: &ModelConfig, value: &mut Map<String, Value>) {
    let window = any_window(c);
    value.extend([
        ("attention_bias".into(), c.attention_bias.into()),
        ("use_sliding_window".into(), window.is_some().into()),
        ("sliding_window".into(), window.into()),
    ]);
    if let Some(e) = &c.shape.experts {
        value.extend([
            ("num_experts".into(), json!(e.count)),
            ("num_experts_per_tok".into(), json!(e.top)),
            ("moe_intermediate_size".into(), json!(e.width)),
            ("norm_topk_prob".into(), json!(e.normalise)),
            ("decoder_sparse_step".into(), json!(1)),
            ("mlp_only_layers".into(), json!(e.dense)),
        ]);
    }
}
