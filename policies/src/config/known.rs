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
const WITHOUT_EFFECT: [&str; 53] = [
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
    "cache_implementation",
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
    "temperature",
    "top_k",
    "top_p",
    "remove_invalid_values",
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
const REFUSED: [(&str, Neutral, &str); 52] = [
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
    ("causal", Neutral::On, "causal attention"),
    ("use_rope", Neutral::On, "rotation in every layer"),
    ("apply_rope", Neutral::On, "rotation in every layer"),
    ("scale_attn_weights", Neutral::On, "scores divided by the root of head_dim"),
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
const DRAWN: [(&str, Neutral); 35] = [
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
    ("stop_strings", Neutral::Off),
    ("stop_words_ids", Neutral::Off),
    ("watermarking_config", Neutral::Off),
    ("num_beams", Neutral::One),
    ("num_beam_groups", Neutral::One),
    ("diversity_penalty", Neutral::Off),
    ("length_penalty", Neutral::One),
    ("early_stopping", Neutral::Off),
    ("num_return_sequences", Neutral::One),
    ("constraints", Neutral::Off),
    ("force_words_ids", Neutral::Off),
    ("penalty_alpha", Neutral::Off),
    ("min_p", Neutral::Off),
    ("top_h", Neutral::One),
    ("typical_p", Neutral::One),
    ("epsilon_cutoff", Neutral::Off),
    ("eta_cutoff", Neutral::Off),
    ("dola_layers", Neutral::Nothing),
    ("token_healing", Neutral::Off),
    ("renormalize_logits", Neutral::Off),
    ("max_time", Neutral::Nothing),
];

/// Settings of drawing tokens that runs and commands have too, with the values at which transformers changes nothing by
/// them.
const SET: [(&str, [f64; 2]); 5] = [
    ("temperature", [1.0, 1.0]),
    ("top_k", [50.0, 0.0]),
    ("top_p", [1.0, 1.0]),
    ("max_length", [20.0, 20.0]),
    ("max_new_tokens", [f64::NAN, f64::NAN]),
];

/// Characters of a value that a message shows.
const SHOWN: usize = 60;

/// `key` = value, of a long value the beginning.
fn shown(key: &str, value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("`{key}` = {}…", &text[..end]),
        None => format!("`{key}` = {text}"),
    }
}

/// Says what of a config's settings of drawing tokens are those of other programs, if any differ from none.
pub(crate) fn generation_set(map: &serde_json::Map<String, Value>) -> Option<String> {
    let differs = SET.iter().filter_map(|(key, neutral)| {
        let value = map.get(*key).filter(|v| !v.is_null())?;
        (!value.as_f64().is_some_and(|v| neutral.contains(&v))).then(|| shown(key, value))
    });
    let differs: Vec<String> = differs.collect();
    let of_others = "not for here: the settings of sampling say how tokens are drawn";
    (!differs.is_empty()).then(|| format!("{}, {of_others}", differs.join(", ")))
}

/// Keys of a `generation_config.json` that say nothing about which tokens are drawn.
const OF_GENERATION: [&str; 25] = [
    "_from_model_config",
    "cache_config",
    "return_legacy_cache",
    "output_logits",
    "low_memory",
    "is_assistant",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "assistant_lookbehind",
    "target_lookbehind",
    "prompt_lookup_num_tokens",
    "max_matching_ngram_size",
    "speculative_decoding",
    "disable_compile",
    "compile_config",
    "prefill_chunk_size",
    "trust_remote_code",
    "chat_format",
    "max_window_size",
    "generation_kwargs",
    "use_model_defaults",
    "bos_token",
    "eos_token",
];

/// What a `generation_config.json` says that is not known here, if it asks for something.
pub(crate) fn generation_unknown(map: &serde_json::Map<String, Value>) -> Option<String> {
    let known = |key: &str| {
        WITHOUT_EFFECT.contains(&key)
            || OF_GENERATION.contains(&key)
            || ["bos_token_id", "eos_token_id", "pad_token_id"].contains(&key)
            || DRAWN.iter().any(|(name, _)| *name == key)
    };
    let unknown = map.iter().filter(|(key, value)| !known(key) && !Neutral::Off.holds(value));
    let unknown: Vec<String> = unknown.map(|(key, value)| shown(key, value)).collect();
    (!unknown.is_empty()).then(|| format!("these keys are not known and ignored: {}", unknown.join(", ")))
}

/// What a config asks of drawing tokens and is not done, in one message, and tokens that are none, a message each.
pub(crate) fn generation_ignored(map: &serde_json::Map<String, Value>) -> Vec<String> {
    let asked = DRAWN.iter().filter_map(|(key, neutral)| {
        let value = map.get(*key).filter(|v| !neutral.holds(v))?;
        Some(shown(key, value))
    });
    let asked: Vec<String> = asked.collect();
    let verb = if asked.len() == 1 { "is" } else { "are" };
    let ignored = "ignored: tokens are drawn as the settings of sampling say";
    let asked = (!asked.is_empty()).then(|| format!("{} {verb} {ignored}", asked.join(", ")));
    let none = ["bos_token_id", "eos_token_id", "pad_token_id"].iter().filter_map(|key| {
        let none = map.get(*key).and_then(Value::as_i64) == Some(-1);
        none.then(|| format!("`{key}` = -1 is read as none: what other files say counts"))
    });
    asked.into_iter().chain(none).collect()
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
    // What is unknown and empty asks for nothing. False may switch off something that is on where nothing is said.
    let off = |value: &Value| Neutral::Off.holds(value) && !value.is_boolean();
    let set = keys.map.iter().filter(|(key, value)| !known(key) && !off(value));
    set.map(|(key, _)| key.as_str()).collect()
}

/// Families that are known and not supported: `model_type`, architecture in GGUF files, name, what is lacking.
const FAMILIES: [(&str, &str, &str, &str); 31] = [
    ("granitemoe", "granitemoe", "Granite", "experts in tensors that are not read"),
    ("gemma", "gemma", "Gemma", "settings that are not read"),
    ("gemma3", "gemma3", "Gemma 3", "images (its text models are gemma3_text)"),
    ("gemma3n", "gemma3n", "Gemma 3n", "layers of another kind"),
    ("phi", "phi2", "Phi", "layer norms, attention beside the MLP"),
    ("phimoe", "phimoe", "Phi-3.5-MoE", "layer norms, experts chosen in another way"),
    ("olmo", "olmo", "OLMo", "norms without weights"),
    ("olmoe", "olmoe", "OLMoE", "experts behind norms of all queries of a token"),
    ("qwen2_moe", "qwen2moe", "Qwen2-MoE", "an expert that all tokens share"),
    ("qwen3_next", "qwen3next", "Qwen3-Next", "linear attention, an expert that all tokens share"),
    ("qwen2_vl", "qwen2vl", "Qwen2-VL", "images"),
    ("qwen2_5_vl", "qwen2vl", "Qwen2.5-VL", "images"),
    ("qwen3_vl", "qwen3vl", "Qwen3-VL", "images"),
    ("smolvlm", "smolvlm", "SmolVLM", "images"),
    ("llava", "llava", "LLaVA", "images"),
    ("mllama", "mllama", "Llama 3.2 Vision", "images"),
    ("llama4", "llama4", "Llama 4", "attention in chunks, an expert that all tokens share"),
    ("mistral3", "mistral3", "Mistral 3", "images"),
    ("mixtral", "mixtral", "Mixtral", "experts under names that are not read"),
    ("deepseek_v2", "deepseek2", "DeepSeek-V2", "latent attention, experts that all tokens share"),
    ("deepseek_v3", "deepseek2", "DeepSeek-V3", "latent attention, experts that all tokens share"),
    ("gpt_oss", "gpt-oss", "gpt-oss", "attention sinks, experts with biases"),
    ("gpt2", "gpt2", "GPT-2", "learned positions, layer norms"),
    ("gpt_neox", "gptneox", "GPT-NeoX", "layer norms, attention beside the MLP"),
    ("falcon", "falcon", "Falcon", "layer norms, attention beside the MLP"),
    ("cohere", "command-r", "Command R", "layer norms, attention beside the MLP"),
    ("cohere2", "cohere2", "Command R", "layer norms, attention beside the MLP"),
    ("starcoder2", "starcoder2", "StarCoder 2", "layer norms"),
    ("stablelm", "stablelm", "StableLM", "layer norms"),
    ("glm4", "glm4", "GLM-4", "rotation of neighbouring columns"),
    ("mamba", "mamba", "Mamba", "layers of another kind"),
];

/// The end of the message that refuses a model type (or an architecture of GGUF): the family's name and what it needs.
pub(crate) fn why_not(name: &str) -> String {
    match FAMILIES.iter().find(|(hf, gguf, ..)| *hf == name || *gguf == name) {
        Some((.., family, needs)) => format!("{family} needs what is not done here: {needs}; "),
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
        assert_eq!(of(Architecture::Llama, value.clone()), "sliding_window dual_chunk some_feature");
        assert_eq!(of(Architecture::Mistral, value.clone()), "dual_chunk some_feature");
        assert_eq!(of(Architecture::Qwen2, value), "dual_chunk some_feature");
        let official = json!({"model_type": "gemma2", "hidden_act": "gelu_pytorch_tanh", "cache_implementation": "hybrid"});
        assert_eq!(of(Architecture::Gemma2, official.clone()), "");
        assert_eq!(of(Architecture::Gemma3, official), "");
        let nothing = json!({"model_type": "x", "some_list": [], "some_rate": 0.0, "some_table": {}, "some_name": null});
        assert_eq!(of(Architecture::Llama, nothing), "");
    }

    #[test]
    fn what_a_generation_config_asks_for_is_said_once() {
        let said = |value: Value| {
            let map = value.as_object().unwrap();
            let all = generation_ignored(map).into_iter().chain(generation_unknown(map));
            (all.collect::<Vec<_>>(), generation_set(map).unwrap_or_default())
        };
        let (warned, _) =
            said(json!({"stop_strings": ["x"], "watermarking_config": {"bias": 2}, "num_beams": 4,
            "typical_p": 0.9, "min_p": 0.1, "penalty_alpha": 0.6, "force_words_ids": [[1]]}));
        assert_eq!(warned.len(), 1, "{warned:?}");
        for part in [
            "stop_strings",
            "watermarking_config",
            "`num_beams` = 4",
            "typical_p",
            "min_p",
            "penalty_alpha",
            "force_words_ids",
        ] {
            assert!(warned[0].contains(part), "{part}: {}", warned[0]);
        }
        let (warned, _) = said(json!({"some_new_sampler": 0.5, "another": false}));
        assert_eq!(warned, ["these keys are not known and ignored: `some_new_sampler` = 0.5"]);
        let (warned, set) = said(
            json!({"do_sample": true, "temperature": 0.6, "top_p": 0.9, "top_k": 50, "max_new_tokens": 8}),
        );
        assert!(warned.is_empty(), "{warned:?}");
        assert!(
            set.starts_with("`temperature` = 0.6, `top_p` = 0.9, `max_new_tokens` = 8, not for here"),
            "{set}"
        );
        let silent = json!({"_from_model_config": true, "transformers_version": "5.0", "eos_token_id": [1], "temperature": 1.0,
            "top_k": 0, "num_beams": 1, "min_p": null, "stop_strings": [], "max_length": 20, "do_sample": false});
        assert_eq!(said(silent), (Vec::new(), String::new()));
        assert!(shown("k", &json!("é".repeat(200))).len() < 200);
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
