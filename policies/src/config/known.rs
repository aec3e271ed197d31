//! Every key of a `config.json` and what becomes of it: read, without effect, refused, or warned about.

use serde_json::Value;

use super::Architecture;
use super::keys::Keys;
use crate::error::PolicyError;

/// Read by [`super::ModelConfig::from_hf_json`] for every family.
const READ: [&str; 20] = [
    "model_type",
    "architectures",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "max_position_embeddings",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "original_max_position_embeddings",
    "tie_word_embeddings",
    "layer_types",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
];

/// Says nothing about what the decoder computes: how to store, initialise or run a model, names, settings of generation
/// and of other heads.
const WITHOUT_EFFECT: [&str; 65] = [
    "sep_token_id",
    "cls_token_id",
    "decoder_start_token_id",
    "_name_or_path",
    "name_or_path",
    "_commit_hash",
    "transformers_version",
    "transformers.js_config",
    "unsloth_version",
    "unsloth_fixed",
    "is_llama_config",
    "torch_dtype",
    "dtype",
    "use_bfloat16",
    "torchscript",
    "tokenizer_class",
    "use_cache",
    "initializer_range",
    "pretraining_tp",
    "gradient_checkpointing",
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_flash_attn_2_enabled",
    "use_flash_attention_2",
    "chunk_size_feed_forward",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "return_dict",
    "return_dict_in_generate",
    "tie_last_hidden_states",
    "tie_encoder_decoder",
    "is_decoder",
    "pruned_heads",
    "cross_attention_hidden_size",
    "finetuning_task",
    "problem_type",
    "task_specific_params",
    "prefix",
    "id2label",
    "label2id",
    "num_labels",
    "classifier_dropout",
    "tf_legacy_loss",
    "max_length",
    "max_new_tokens",
    "do_sample",
    "early_stopping",
    "num_beams",
    "num_beam_groups",
    "diversity_penalty",
    "num_return_sequences",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "penalty_alpha",
    "length_penalty",
    "remove_invalid_values",
    "renormalize_logits",
    "max_time",
];

/// Values at which a key asks for nothing; null always does.
enum Neutral {
    /// No value: the key itself asks for something.
    Nothing,
    /// False, 0, or an empty list or object.
    Off,
    /// True.
    On,
    /// 1.
    One,
    /// A list without a 0.
    NoZero,
}

impl Neutral {
    fn holds(&self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::Null) => true,
            (Self::Nothing, _) => false,
            (Self::Off, Value::Bool(b)) => !b,
            (Self::Off, Value::Number(n)) => n.as_f64() == Some(0.0),
            (Self::Off, Value::Array(a)) => a.is_empty(),
            (Self::Off, Value::Object(o)) => o.is_empty(),
            (Self::On, Value::Bool(b)) => *b,
            (Self::One, Value::Number(n)) => n.as_f64() == Some(1.0),
            (Self::NoZero, Value::Array(a)) => a.iter().all(|v| v.as_u64().is_some_and(|n| n > 0)),
            _ => false,
        }
    }
}

/// Changes what a model computes, in a way that the decoder has not: refused at any other value.
const REFUSED: [(&str, Neutral, &str); 49] = [
    ("mlp_bias", Neutral::Off, "MLPs without bias"),
    ("use_bias", Neutral::Off, "linear layers without bias"),
    ("bias", Neutral::Off, "linear layers without bias"),
    ("lm_head_bias", Neutral::Off, "heads without bias"),
    ("qkv_bias", Neutral::Off, "the key `attention_bias`"),
    ("quantization_config", Neutral::Nothing, "weights without quantisation, or a GGUF file"),
    ("compression_config", Neutral::Nothing, "weights without quantisation, or a GGUF file"),
    ("num_experts", Neutral::Off, "dense models"),
    ("num_local_experts", Neutral::Off, "dense models"),
    ("n_routed_experts", Neutral::Off, "dense models"),
    ("num_experts_per_tok", Neutral::Off, "dense models"),
    ("moe_intermediate_size", Neutral::Off, "dense models"),
    ("partial_rotary_factor", Neutral::One, "1.0"),
    ("rotary_pct", Neutral::One, "1.0"),
    ("rope_interleaved", Neutral::Off, "half-split rotation"),
    ("rope_local_base_freq", Neutral::Nothing, "one set of frequencies for all layers"),
    ("no_rope_layers", Neutral::NoZero, "rotation in every layer"),
    ("no_rope_layer_interval", Neutral::Off, "rotation in every layer"),
    ("alibi", Neutral::Off, "rotary positions"),
    ("attention_multiplier", Neutral::Nothing, "scores divided by the root of head_dim"),
    ("query_pre_attn_scalar", Neutral::Nothing, "scores divided by the root of head_dim"),
    ("attn_logit_softcapping", Neutral::Off, "scores as they are"),
    ("final_logit_softcapping", Neutral::Off, "logits as they are"),
    ("embedding_multiplier", Neutral::One, "1.0"),
    ("residual_multiplier", Neutral::One, "1.0"),
    ("logits_scaling", Neutral::One, "1.0"),
    ("logit_scale", Neutral::One, "1.0"),
    ("lm_head_multiplier", Neutral::One, "1.0"),
    ("scale_emb", Neutral::One, "1.0"),
    ("clip_qkv", Neutral::Off, "queries, keys and values as they are"),
    ("use_qk_norm", Neutral::Off, "head norms as the family has them"),
    ("qk_norm", Neutral::Off, "head norms as the family has them"),
    ("qk_layernorm", Neutral::Off, "head norms as the family has them"),
    ("attn_output_gate", Neutral::Off, "attention without a gate"),
    ("use_parallel_residual", Neutral::Off, "attention and MLP in turn"),
    ("parallel_attn", Neutral::Off, "attention and MLP in turn"),
    ("attention_chunk_size", Neutral::Off, "attention to the whole context"),
    ("sliding_window_pattern", Neutral::Off, "attention to the whole context"),
    ("use_bidirectional_attention", Neutral::Off, "causal attention"),
    ("is_causal", Neutral::On, "causal attention"),
    ("use_rope", Neutral::On, "rotation in every layer"),
    ("is_encoder_decoder", Neutral::Off, "decoders"),
    ("add_cross_attention", Neutral::Off, "decoders"),
    ("per_layer_config", Neutral::Off, "layers that are alike"),
    ("block_configs", Neutral::Off, "layers that are alike"),
    ("text_config", Neutral::Off, "text models"),
    ("vision_config", Neutral::Off, "text models"),
    ("audio_config", Neutral::Off, "text models"),
    ("use_mrope", Neutral::Off, "text models"),
];

/// Asks for something that changes training only, and is not done.
const WARNED: [(&str, Neutral, &str); 6] = [
    ("attention_dropout", Neutral::Off, "training has no dropout"),
    ("attn_pdrop", Neutral::Off, "training has no dropout"),
    ("resid_pdrop", Neutral::Off, "training has no dropout"),
    ("embd_pdrop", Neutral::Off, "training has no dropout"),
    ("hidden_dropout", Neutral::Off, "training has no dropout"),
    ("resid_dropout", Neutral::Off, "training has no dropout"),
];

/// Asks for another distribution than the model's when tokens are drawn: by what is said here, and by nothing else, they
/// are drawn. Stands in `config.json` or `generation_config.json`.
const DRAWN: [(&str, Neutral); 14] = [
    ("repetition_penalty", Neutral::One),
    ("encoder_repetition_penalty", Neutral::One),
    ("guidance_scale", Neutral::One),
    ("no_repeat_ngram_size", Neutral::Off),
    ("encoder_no_repeat_ngram_size", Neutral::Off),
    ("bad_words_ids", Neutral::Off),
    ("suppress_tokens", Neutral::Off),
    ("begin_suppress_tokens", Neutral::Off),
    ("sequence_bias", Neutral::Off),
    ("forced_bos_token_id", Neutral::Nothing),
    ("forced_eos_token_id", Neutral::Nothing),
    ("min_length", Neutral::Off),
    ("min_new_tokens", Neutral::Off),
    ("exponential_decay_length_penalty", Neutral::Nothing),
];

/// What a config asks of drawing tokens, and tokens that are none, a message each.
pub(crate) fn generation_ignored(map: &serde_json::Map<String, Value>) -> Vec<String> {
    let asked = DRAWN.iter().filter_map(|(key, neutral)| {
        let value = map.get(*key).filter(|v| !neutral.holds(v))?;
        Some(format!("`{key}` = {value} is ignored: tokens are drawn as the settings of sampling say"))
    });
    let none = ["bos_token_id", "eos_token_id", "pad_token_id"].iter().filter_map(|key| {
        let none = map.get(*key).and_then(Value::as_i64) == Some(-1);
        none.then(|| format!("`{key}` = -1 is read as none: what other files say counts"))
    });
    asked.chain(none).collect()
}

/// Refuses what the decoder does not compute, and warns of what has no effect here though it may have elsewhere.
///
/// # Errors
/// A key of [`REFUSED`] at a value that asks for something.
pub(super) fn check(keys: &Keys<'_>, architecture: Architecture) -> Result<(), PolicyError> {
    for (key, neutral, supported) in &REFUSED {
        let read = architecture.family().keys.contains(key);
        if !read && keys.map.get(*key).is_some_and(|v| !neutral.holds(v)) {
            return Err(keys.unsupported(key, &format!("supported: {supported}")));
        }
    }
    for ignored in ignored(keys, architecture)? {
        tracing::warn!("{}: {ignored}", keys.path.display());
    }
    Ok(())
}

/// What the file says and the decoder passes over, a message each.
fn ignored(keys: &Keys<'_>, architecture: Architecture) -> Result<Vec<String>, PolicyError> {
    let mut messages = Vec::new();
    for (key, neutral, instead) in &WARNED {
        if let Some(value) = keys.map.get(*key).filter(|v| !neutral.holds(v)) {
            messages.push(format!("`{key}` = {value} is ignored: {instead}"));
        }
    }
    messages.extend(generation_ignored(keys.map));
    for key in ["torch_dtype", "dtype"] {
        let known = ["float64", "float32", "float16", "bfloat16", "auto"];
        if let Some(value) = keys.get(key).filter(|v| !v.as_str().is_some_and(|name| known.contains(&name))) {
            messages
                .push(format!("`{key}` = {value} is ignored: weights are read as their files store them"));
        }
    }
    if let Some(Value::Array(classes)) = keys.get("architectures")
        && !classes
            .iter()
            .any(|c| c.as_str().is_some_and(|c| c.eq_ignore_ascii_case(architecture.class_name())))
    {
        let (found, class) = (serde_json::json!(classes), architecture.class_name());
        messages.push(format!("`architectures` is {found}, the weights are read as {class}"));
    }
    if architecture == Architecture::Qwen2
        && let Some(value) = keys.bool("attention_bias")?
    {
        messages.push(format!(
            "`attention_bias` = {value} is ignored: qwen2 models have biases of queries, keys and values, none of the output"
        ));
    }
    let unknown = unknown(keys, architecture);
    if !unknown.is_empty() {
        let model = architecture.model_type();
        messages.push(format!(
            "a {model} model does not have these keys, they are ignored: {}",
            unknown.join(", ")
        ));
    }
    Ok(messages)
}

/// Keys that are set and that the family does not have.
fn unknown<'a>(keys: &Keys<'a>, architecture: Architecture) -> Vec<&'a str> {
    let family = architecture.family();
    let known = |key: &str| {
        READ.contains(&key)
            || key == family.defaults.activation.0
            || family.keys.contains(&key)
            || WITHOUT_EFFECT.contains(&key)
            || REFUSED.iter().chain(&WARNED).any(|(name, ..)| *name == key)
            || DRAWN.iter().any(|(name, _)| *name == key)
    };
    // What is unknown and off asks for nothing, unless it switches off something that is on.
    let switch = |key: &str| key.starts_with("use_") || key.starts_with("is_");
    let off = |key: &str, value: &Value| {
        Neutral::Off.holds(value) && !(switch(key) && *value == Value::Bool(false))
    };
    let set = keys.map.iter().filter(|(key, value)| !known(key) && !off(key, value));
    set.map(|(key, _)| key.as_str()).collect()
}

/// Families that are known and not computed: `model_type`, architecture in GGUF files, name, what the decoder lacks.
const FAMILIES: [(&str, &str, &str, &str); 33] = [
    ("granitemoe", "granitemoe", "Granite", "experts"),
    ("gemma", "gemma", "Gemma", "other norms and activations"),
    ("gemma3", "gemma3", "Gemma 3", "images, windows in some layers"),
    ("gemma3n", "gemma3n", "Gemma 3n", "layers of another kind"),
    ("phi", "phi2", "Phi", "partial rotation, layer norms"),
    ("phimoe", "phimoe", "Phi-3.5-MoE", "experts"),
    ("olmo", "olmo", "OLMo", "norms without weights"),
    ("olmo3", "olmo3", "OLMo 3", "norms behind the blocks, windows in some layers"),
    ("olmoe", "olmoe", "OLMoE", "experts"),
    ("qwen2_moe", "qwen2moe", "Qwen2-MoE", "experts"),
    ("qwen3_next", "qwen3next", "Qwen3-Next", "experts, linear attention"),
    ("qwen2_vl", "qwen2vl", "Qwen2-VL", "images"),
    ("qwen2_5_vl", "qwen2vl", "Qwen2.5-VL", "images"),
    ("qwen3_vl", "qwen3vl", "Qwen3-VL", "images"),
    ("smolvlm", "smolvlm", "SmolVLM", "images"),
    ("llava", "llava", "LLaVA", "images"),
    ("mllama", "mllama", "Llama 3.2 Vision", "images"),
    ("llama4", "llama4", "Llama 4", "experts, layers without rotation"),
    ("mistral3", "mistral3", "Mistral 3", "images"),
    ("ministral", "ministral", "Ministral", "windows in some layers"),
    ("mixtral", "mixtral", "Mixtral", "experts"),
    ("deepseek_v2", "deepseek2", "DeepSeek-V2", "experts, latent attention"),
    ("deepseek_v3", "deepseek2", "DeepSeek-V3", "experts, latent attention"),
    ("gpt_oss", "gpt-oss", "gpt-oss", "experts, attention sinks"),
    ("gpt2", "gpt2", "GPT-2", "learned positions, layer norms"),
    ("gpt_neox", "gptneox", "GPT-NeoX", "partial rotation, layer norms"),
    ("falcon", "falcon", "Falcon", "layer norms, attention beside the MLP"),
    ("cohere", "command-r", "Command R", "layer norms, attention beside the MLP"),
    ("cohere2", "cohere2", "Command R", "layer norms, attention beside the MLP"),
    ("starcoder2", "starcoder2", "StarCoder 2", "layer norms"),
    ("stablelm", "stablelm", "StableLM", "partial rotation, layer norms"),
    ("glm4", "glm4", "GLM-4", "norms behind the blocks, partial rotation"),
    ("mamba", "mamba", "Mamba", "layers of another kind"),
];

/// The end of the message that refuses a model type (or an architecture of GGUF): the family's name and what it needs.
pub(crate) fn why_not(name: &str) -> String {
    match FAMILIES.iter().find(|(hf, gguf, ..)| *hf == name || *gguf == name) {
        Some((.., family, needs)) => format!("{family} needs what is not computed here: {needs}; "),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn every_key_stands_in_one_list() {
        let others =
            REFUSED.iter().chain(&WARNED).map(|(key, ..)| *key).chain(DRAWN.iter().map(|(key, _)| *key));
        let all: Vec<&str> = READ.into_iter().chain(WITHOUT_EFFECT).chain(others).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        let families: BTreeSet<_> = FAMILIES.iter().map(|(hf, ..)| hf).collect();
        assert_eq!(families.len(), FAMILIES.len());
    }

    #[test]
    fn what_a_family_does_not_have_is_named() {
        let of = |architecture, value: Value| {
            let keys = Keys { map: value.as_object().unwrap(), prefix: "", path: Path::new("config.json") };
            unknown(&keys, architecture).join(" ")
        };
        let value = json!({"model_type": "x", "sliding_window": 4096, "attention_bias": true, "dual_chunk": {"a": 1},
            "temperature": 0.5, "mlp_bias": false, "some_feature": false, "other": null});
        assert_eq!(of(Architecture::Llama, value.clone()), "sliding_window dual_chunk");
        assert_eq!(of(Architecture::Mistral, value.clone()), "dual_chunk");
        assert_eq!(of(Architecture::Qwen2, value), "dual_chunk");
    }
    #[test]
    fn what_is_passed_over_is_said() {
        let of = |architecture, value: Value| {
            let keys = Keys { map: value.as_object().unwrap(), prefix: "", path: Path::new("config.json") };
            ignored(&keys, architecture).unwrap().join("; ")
        };
        for (architecture, value, part) in [
            (Architecture::Llama, json!({"eos_token_id": -1}), "`eos_token_id` = -1"),
            (Architecture::Llama, json!({"pad_token_id": -1}), "`pad_token_id` = -1"),
            (Architecture::Llama, json!({"repetition_penalty": 1.1}), "`repetition_penalty` = 1.1"),
            (Architecture::Llama, json!({"suppress_tokens": [3]}), "`suppress_tokens` = [3]"),
            (Architecture::Llama, json!({"dtype": "int4"}), "as their files store them"),
            (Architecture::Llama, json!({"use_something": false}), "use_something"),
            (Architecture::Qwen2, json!({"attention_bias": true}), "`attention_bias` = true"),
            (Architecture::Qwen2, json!({"attention_bias": false}), "`attention_bias` = false"),
            (Architecture::Qwen3, json!({"attention_dropout": 0.1}), "no dropout"),
            (
                Architecture::Llama,
                json!({"architectures": ["MistralForCausalLM"]}),
                "read as LlamaForCausalLM",
            ),
        ] {
            let said = of(architecture, value);
            assert!(said.contains(part), "{part}: {said}");
        }
        let silent = json!({"repetition_penalty": 1.0, "suppress_tokens": null, "dtype": "bfloat16", "eos_token_id": 2, "attention_bias": true, "attention_dropout": 0.0, "architectures": null});
        assert_eq!(of(Architecture::Llama, silent), "");
    }
}
