use super::*;
use crate::golden_json;
use std::sync::{Arc, Mutex};

fn parse(value: &Value) -> Result<ModelConfig, PolicyError> {
    ModelConfig::from_hf_json(value, Path::new("config.json"))
}

fn base() -> Value {
    json!({
        "model_type": "llama", "vocab_size": 32, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4,
    })
}

fn with(changes: Value) -> Value {
    let mut value = base();
    for (key, v) in changes.as_object().unwrap() {
        value[key] = v.clone();
    }
    value
}

#[test]
fn golden_configs_parse_and_survive_writing() {
    for (name, architecture, bias, qk_norm, tied, head_dim) in [
        ("tiny-llama", Architecture::Llama, false, QkNorm::None, false, 16),
        ("tiny-qwen2", Architecture::Qwen2, true, QkNorm::None, true, 16),
        ("tiny-qwen3", Architecture::Qwen3, false, QkNorm::Head, false, 32),
    ] {
        let config = parse(&golden_json(&format!("models/{name}/config.json"))).unwrap();
        assert_eq!(config.architecture, architecture);
        assert_eq!((config.attention_bias, config.shape.qk_norm), (bias, qk_norm), "{name}");
        assert_eq!((config.tie_word_embeddings, config.head_dim), (tied, head_dim), "{name}");
        assert_eq!((config.num_layers, config.num_heads, config.num_kv_heads), (3, 4, 2));
        assert_eq!(config.eos_token_ids, [2]);
        assert_eq!(parse(&config.to_hf_json()).unwrap(), config);
    }
}

#[test]
fn defaults_are_those_of_transformers() {
    let config = parse(&base()).unwrap();
    assert_eq!((config.num_kv_heads, config.head_dim, config.max_position_embeddings), (4, 16, 2048));
    assert_eq!((config.rms_norm_eps, config.rope_theta), (1e-6, 1e4));
    assert_eq!((config.bos_token_id, config.eos_token_ids.len(), config.pad_token_id), (None, 0, None));
    let heads = |changes| {
        let config = parse(&with(changes)).unwrap();
        (config.num_kv_heads, config.head_dim)
    };
    assert_eq!(heads(json!({"model_type": "qwen3", "num_attention_heads": 64})), (32, 128));
    assert_eq!(heads(json!({"model_type": "qwen2", "num_attention_heads": 32})), (32, 2));
    assert_eq!(heads(json!({"model_type": "mistral", "num_attention_heads": 16})), (8, 4));
    // Null is not absent.
    assert_eq!(heads(json!({"model_type": "mistral", "num_key_value_heads": null})), (4, 16));
    let ids = parse(&with(json!({"eos_token_id": [3, 4], "head_dim": null}))).unwrap();
    assert_eq!((ids.eos_token_ids.as_slice(), ids.head_dim), (&[3u32, 4][..], 16));
    let ids = parse(&with(json!({"eos_token_id": [3, 32], "bos_token_id": 31, "pad_token_id": -1}))).unwrap();
    assert_eq!((ids.bos_token_id, ids.eos_token_ids, ids.pad_token_id), (Some(31), vec![3], None));
}

#[test]
fn both_layouts_of_rope_settings_mean_the_same() {
    let llama3 = json!({
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    });
    let mut old = llama3.clone();
    old["type"] = json!("llama3");
    let mut new = llama3;
    new["rope_type"] = json!("llama3");
    new["rope_theta"] = json!(500_000.0);
    let old = parse(&with(json!({"rope_scaling": old, "rope_theta": 500_000.0}))).unwrap();
    let new = parse(&with(json!({"rope_parameters": new, "rope_theta": 1.0}))).unwrap();
    assert_eq!(old, new);
    assert!(matches!(old.rope_scaling, RopeScaling::Llama3 { factor: 8.0, .. }));
    assert_eq!(parse(&old.to_hf_json()).unwrap(), old);
}

#[test]
fn frequencies_equal_those_of_transformers() {
    for case in golden_json("policy/rope.json").as_array().unwrap() {
        let config = parse(&case["config"]).unwrap();
        let expected: Vec<f32> = serde_json::from_value(case["inv_freq"].clone()).unwrap();
        assert_eq!(config.rope_inv_freq(), expected, "{:?}", config.rope_scaling);
        let factor = case["attention_factor"].as_f64().unwrap();
        assert_eq!(config.rope_attention_factor(), factor as f32, "{:?}", config.rope_scaling);
    }
}

#[test]
fn where_both_layouts_stand_rope_scaling_wins() {
    // As transformers 5: the whole section is replaced, θ included.
    let both = |scaling: Value, theta: Value| {
        let parameters = json!({"rope_type": "default", "rope_theta": 1e6});
        parse(&with(json!({"rope_scaling": scaling, "rope_parameters": parameters, "rope_theta": theta})))
            .unwrap()
    };
    let linear = json!({"rope_type": "linear", "factor": 4.0});
    let config = both(linear.clone(), json!(1e6));
    assert_eq!((config.rope_scaling, config.rope_theta), (RopeScaling::Linear { factor: 4.0 }, 1e6));
    assert_eq!(both(linear, json!(null)).rope_theta, 1e4);
    for absent in [json!(null), json!({})] {
        let config = both(absent, json!(5e5));
        assert_eq!((config.rope_scaling, config.rope_theta), (RopeScaling::None, 1e6));
    }
}

#[test]
fn the_original_context_beside_the_section_wins() {
    let scaling = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64});
    let original = |changes: Value| match parse(&with(changes)).unwrap().rope_scaling {
        RopeScaling::Yarn(yarn) => yarn.original_max_position_embeddings,
        other => panic!("{other:?}"),
    };
    assert_eq!(original(json!({"rope_scaling": scaling})), 64);
    assert_eq!(original(json!({"rope_scaling": scaling, "original_max_position_embeddings": 128})), 128);
    let without = json!({"rope_type": "yarn", "factor": 4.0});
    assert_eq!(original(json!({"rope_scaling": without, "max_position_embeddings": 512})), 512);
}

#[test]
fn every_scaling_survives_writing() {
    let original = ("original_max_position_embeddings", json!(64));
    for (kind, more) in [
        ("default", vec![]),
        ("linear", vec![("factor", json!(2.5))]),
        ("dynamic", vec![("factor", json!(2.0))]),
        ("yarn", vec![("factor", json!(4.0)), original.clone()]),
        ("yarn", vec![("factor", Value::Null), original.clone(), ("truncate", json!(false))]),
        (
            "yarn",
            vec![
                ("factor", json!(4.0)),
                original.clone(),
                ("beta_fast", json!(16)),
                ("beta_slow", json!(2.5)),
                ("mscale", json!(1.5)),
                ("mscale_all_dim", json!(0.7)),
            ],
        ),
        ("yarn", vec![("factor", json!(4.0)), original, ("attention_factor", json!(1.25))]),
    ] {
        let mut section = json!({"rope_type": kind, "rope_theta": 1e5});
        more.into_iter().for_each(|(key, value)| section[key] = value);
        let config = parse(&with(json!({"rope_parameters": section}))).unwrap();
        let written = config.to_hf_json();
        assert_eq!(parse(&written).unwrap(), config, "{section}");
        // Nothing is written that the file did not say: other programs read an `attention_factor` differently.
        let said = |key: &str| written["rope_scaling"].get(key).is_some();
        assert_eq!(said("attention_factor"), section.get("attention_factor").is_some(), "{section}");
        assert_eq!(said("truncate"), section.get("truncate").is_some(), "{section}");
    }
}

#[test]
fn longrope_ends_every_context_and_is_written_whole() {
    for (model, by_layer) in [
        ("llama", false),
        ("mistral", false),
        ("qwen2", false),
        ("qwen3", false),
        ("qwen3_moe", false),
        ("smollm3", false),
        ("gemma2", false),
        ("gemma3_text", true),
        ("phi3", false),
        ("olmo2", false),
        ("olmo3", true),
        ("granite", false),
    ] {
        let factors = [vec![1.25; 8], vec![3.5; 8]];
        let mut section = json!({"rope_type": "longrope", "rope_theta": 1e4, "short_factor": factors[0], "long_factor": factors[1]});
        if by_layer {
            section = json!({"full_attention": section});
        }
        let changes = json!({"model_type": model, "num_key_value_heads": 4, "head_dim": 16, "max_position_embeddings": 256,
            "rope_parameters": section, "original_max_position_embeddings": 32});
        let config = parse(&with(changes)).unwrap();
        assert_eq!(config.max_position_embeddings, 32, "{model}");
        let written = config.to_hf_json();
        assert_eq!(written["max_position_embeddings"], 256, "{model}");
        assert_eq!(written["original_max_position_embeddings"], 32, "{model}");
        assert_eq!(parse(&written).unwrap(), config, "{model}");
    }
}

/// transformers knows longrope of Phi-3 under old names, and an original context of 4096 where the file says none.
#[test]
fn old_names_of_longrope() {
    let of = |kind: &str, changes: Value| {
        let section = json!({"type": kind, "short_factor": vec![1.5; 8], "long_factor": vec![3.0; 8], "original_max_position_embeddings": 64});
        let mut all =
            json!({"model_type": "phi3", "num_key_value_heads": 4, "head_dim": 16, "rope_scaling": section});
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        parse(&with(all)).unwrap()
    };
    let beside = json!({"original_max_position_embeddings": 32});
    assert_eq!(of("yarn", beside.clone()), of("longrope", beside.clone()));
    assert_eq!(of("su", beside.clone()), of("longrope", beside.clone()));
    assert_eq!(of("yarn", beside).max_position_embeddings, 32);
    let RopeScaling::LongRope(long) = of("yarn", json!({})).rope_scaling else { panic!() };
    assert_eq!(long.original_max_position_embeddings, 4096);
}

#[test]
fn what_gemma_3_does_not_compute_is_passed_over() {
    let of = |changes: Value| {
        let mut all = json!({"model_type": "gemma3_text", "num_key_value_heads": 4});
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        parse(&with(all)).unwrap()
    };
    assert_eq!(of(json!({"attn_logit_softcapping": 1.0})), of(json!({})));
    assert_eq!(of(json!({"final_logit_softcapping": 1.0})).shape.logit_cap, Some(1.0));
    let section = json!({"full_attention": {"rope_type": "default", "rope_theta": 500.0}, "sliding_attention": {"rope_type": "default", "rope_theta": 300.0}});
    let both = of(
        json!({"rope_parameters": section, "rope_scaling": {"rope_type": "linear", "factor": 8.0, "rope_theta": 700.0}}),
    );
    assert_eq!((both.rope_theta, both.shape.local_rope_theta), (700.0, Some(300.0)));
    assert_eq!(both.rope_scaling, RopeScaling::Linear { factor: 8.0 });
    // Its default is there already, and `type` counts where `rope_type` is absent.
    let typed = of(json!({"rope_scaling": {"type": "linear", "factor": 8.0}}));
    assert_eq!(typed.rope_scaling, RopeScaling::None);
}

#[test]
fn mistral_with_two_kinds_of_layers_is_ministral() {
    let types = json!(["sliding_attention", "full_attention"]);
    let of = |model: &str| {
        parse(&with(
            json!({"model_type": model, "num_key_value_heads": 4, "sliding_window": 8, "layer_types": types}),
        ))
        .unwrap()
    };
    assert_eq!(of("mistral"), of("ministral"));
    assert_eq!(of("mistral").to_hf_json()["architectures"], json!(["MinistralForCausalLM"]));
}

/// Only what the config itself calls padding keeps the gradient from an embedding, here and in transformers.
#[test]
fn padding_of_other_files_is_not_written() {
    let mut config = parse(&with(json!({"pad_token_id": 5}))).unwrap();
    assert_eq!(config.layout().model.embed.padding, Some(5));
    assert_eq!(config.to_hf_json()["pad_token_id"], 5);
    config = parse(&with(json!({"pad_token_id": null}))).unwrap();
    config.pad_token_id = Some(3);
    assert_eq!(config.layout().model.embed.padding, None);
    assert_eq!(config.to_hf_json()["pad_token_id"], Value::Null);
}

/// Keeps the messages of what a thread logs.
#[derive(Clone, Default)]
struct Messages(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Messages {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut |_: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            self.0.lock().unwrap().push(format!("{value:?}"));
        });
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

fn warnings(value: &Value) -> (ModelConfig, Vec<String>) {
    let messages = Messages::default();
    let config = tracing::subscriber::with_default(messages.clone(), || parse(value).unwrap());
    let said = messages.0.lock().unwrap().clone();
    (config, said)
}

#[test]
fn what_is_written_brings_no_warning() {
    for architecture in Architecture::ALL {
        for rope in [
            json!(null),
            json!({"rope_type": "linear", "factor": 8.0}),
            json!({"rope_type": "yarn", "factor": 2.0}),
        ] {
            if architecture == Architecture::Phi3 && !rope.is_null() {
                continue;
            }
            let changes = json!({"model_type": architecture.model_type(), "num_key_value_heads": 4, "sliding_window": 8,
                "use_sliding_window": true, "rope_theta": 5e4, "rope_scaling": rope, "architectures": null,
                "layer_types": null, "attn_logit_softcapping": null});
            let config = parse(&with(changes)).unwrap();
            let (again, said) = warnings(&config.to_hf_json());
            assert_eq!(again, config);
            // Yarn may say that the context is short.
            let said: Vec<_> = said.iter().filter(|message| !message.contains("yarn stretches")).collect();
            assert!(said.is_empty(), "{architecture:?} {rope}: {said:?}");
        }
    }
    let bounded =
        with(json!({"model_type": "gemma3_text", "num_key_value_heads": 4, "attn_logit_softcapping": 50.0}));
    let (_, said) = warnings(&bounded);
    assert!(said.iter().any(|m| m.contains("`attn_logit_softcapping` = 50.0 is ignored")), "{said:?}");
}

#[test]
fn an_absurd_context_is_refused() {
    let refused = parse(&with(json!({"max_position_embeddings": 1 << 29}))).unwrap_err().to_string();
    assert!(refused.contains("`max_position_embeddings`") && refused.contains("16777216"), "{refused}");
    assert!(parse(&with(json!({"max_position_embeddings": 10_485_760}))).is_ok());
}

#[test]
fn windows_are_those_of_transformers() {
    let windows = |model: &str, mut changes: Value| {
        changes["model_type"] = json!(model);
        changes["num_key_value_heads"] = json!(4);
        changes["max_position_embeddings"] = json!(8192);
        let config = parse(&with(changes)).unwrap();
        assert_eq!(config.max_position_embeddings, 8192);
        [0, 1].map(|l| config.shape.layer(l).window.unwrap_or(0))
    };
    let types = |second: &str| json!(["full_attention", second]);
    for (model, changes, expected) in [
        ("mistral", json!({}), [4096, 4096]),
        ("mistral", json!({"sliding_window": null}), [0, 0]),
        ("mistral", json!({"sliding_window": 128}), [128, 128]),
        ("mistral", json!({"sliding_window": 128, "layer_types": types("full_attention")}), [0, 0]),
        ("mistral", json!({"sliding_window": 128, "layer_types": types("sliding_attention")}), [0, 128]),
        ("ministral", json!({"sliding_window": 128}), [128, 128]),
        ("ministral", json!({"sliding_window": 128, "layer_types": types("sliding_attention")}), [0, 128]),
        ("olmo3", json!({}), [4096, 4096]),
        ("olmo3", json!({"sliding_window": 64, "layer_types": types("sliding_attention")}), [0, 64]),
        ("qwen2", json!({}), [0, 0]),
        (
            "qwen2",
            json!({"use_sliding_window": false, "sliding_window": 128, "max_window_layers": 0}),
            [0, 0],
        ),
        // Both layers are below the first one that slides.
        ("qwen2", json!({"use_sliding_window": true, "sliding_window": 128}), [0, 0]),
        (
            "qwen2",
            json!({"use_sliding_window": true, "sliding_window": 128, "max_window_layers": 1}),
            [0, 128],
        ),
        ("qwen3", json!({"use_sliding_window": true, "max_window_layers": 0}), [4096, 4096]),
        ("qwen3", json!({"use_sliding_window": true, "layer_types": types("full_attention")}), [0, 0]),
        (
            "qwen3",
            json!({"use_sliding_window": true, "sliding_window": 64, "layer_types": types("sliding_attention")}),
            [0, 64],
        ),
        ("llama", json!({"sliding_window": 128}), [0, 0]),
        ("gemma2", json!({"sliding_window": 16}), [16, 0]),
        ("gemma3_text", json!({"sliding_window": 16}), [16, 16]),
        ("gemma3_text", json!({"sliding_window": 16, "sliding_window_pattern": 2}), [16, 0]),
        ("phi3", json!({"sliding_window": 16}), [16, 16]),
        ("phi3", json!({}), [0, 0]),
    ] {
        assert_eq!(windows(model, changes.clone()), expected, "{model} {changes}");
    }
}

#[test]
fn errors_name_the_key() {
    for (changes, expected) in [
        (json!({"model_type": "gpt2"}), "`model_type` = \"gpt2\" is not supported"),
        (json!({"model_type": "mixtral"}), "`model_type`"),
        (json!({"model_type": null}), "`model_type` is missing"),
        (json!({"hidden_size": null}), "`hidden_size` is missing"),
        (json!({"hidden_size": 0}), "`hidden_size` = 0"),
        (json!({"hidden_size": "64"}), "`hidden_size` = \"64\""),
        (json!({"hidden_size": u64::MAX}), "`hidden_size`"),
        (json!({"hidden_size": 66}), "`head_dim`"),
        (json!({"head_dim": 15}), "`head_dim` = 15 is odd"),
        (json!({"num_key_value_heads": 3}), "`num_key_value_heads` = 3"),
        (json!({"model_type": "qwen2", "num_key_value_heads": 4, "mlp_bias": true}), "`mlp_bias`"),
        (json!({"model_type": "gemma2", "hidden_activation": "gelu"}), "`hidden_activation` = \"gelu\""),
        (
            json!({"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 5}),
            "`num_experts_per_tok` = 5",
        ),
        (
            json!({"num_hidden_layers": 1 << 29}),
            "`num_hidden_layers` = 536870912 is not a whole number from 1 to 65536",
        ),
        (json!({"model_type": "qwen3_moe", "num_experts": 1 << 20}), "`num_experts` = 1048576"),
        (json!({"model_type": "smollm3", "no_rope_layers": [1]}), "`no_rope_layers` lists 1 layers"),
        (json!({"model_type": "phi3", "partial_rotary_factor": 0.01}), "`partial_rotary_factor`"),
        (json!({"hidden_act": "gelu"}), "`hidden_act` = \"gelu\""),
        (json!({"layer_types": ["full_attention", "sliding_attention"]}), "`layer_types`"),
        (json!({"layer_types": ["full_attention", "linear_attention"]}), "`layer_types`"),
        (json!({"layer_types": ["full_attention"]}), "`layer_types` lists 1 layers, num_hidden_layers is 2"),
        (
            json!({"model_type": "qwen2", "num_key_value_heads": 4, "layer_types": ["full_attention", "sliding_attention"]}),
            "`layer_types` has sliding windows",
        ),
        (
            json!({"model_type": "mistral", "sliding_window": null, "layer_types": ["full_attention", "sliding_attention"]}),
            "`layer_types` has sliding windows, sliding_window is null",
        ),
        (json!({"model_type": "olmo3", "sliding_window": null}), "`sliding_window` is null"),
        // What transformers reads nothing of, or refuses.
        (
            json!({"model_type": "gemma3_text", "rope_parameters": {"rope_type": "default", "rope_theta": 1e3}}),
            "supported for gemma3_text: the sections full_attention and sliding_attention",
        ),
        (
            json!({"model_type": "gemma3_text", "rope_scaling": {"full_attention": {"rope_type": "default"}}}),
            "`rope_scaling`",
        ),
        (json!({"model_type": "gemma2", "query_pre_attn_scalar": 20.4}), "`query_pre_attn_scalar` = 20.4"),
        (
            json!({"model_type": "phi3", "rope_scaling": {"type": "linear", "factor": 2.0}}),
            "supported for phi3: default, longrope",
        ),
        (
            json!({"model_type": "phi3", "rope_scaling": {"type": "yarn", "factor": 2.0}}),
            "`rope_scaling.short_factor` is missing",
        ),
        (json!({"num_experts": 8}), "`num_experts`"),
        (json!({"quantization_config": {"bits": 4}}), "`quantization_config`"),
        (json!({"rms_norm_eps": -1.0}), "`rms_norm_eps`"),
        (
            json!({"rope_scaling": {"type": "longrope", "factor": 2.0}}),
            "`rope_scaling.short_factor` is missing",
        ),
        (
            json!({"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}}),
            "`rope_scaling.short_factor` does not have 8 factors",
        ),
        (json!({"rope_scaling": {"type": "mrope"}}), "`rope_scaling.type`"),
        (json!({"rope_scaling": {"rope_type": "dynamic"}}), "`rope_scaling.factor` is missing"),
        (json!({"rope_parameters": {"rope_type": "yarn"}}), "`rope_parameters.factor` is missing"),
        (
            json!({"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "beta_fast": 1, "beta_slow": 32}}),
            "`rope_parameters.beta_fast` is below beta_slow",
        ),
        (
            json!({"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1.0}}),
            "`rope_parameters.rope_theta` = 1 is not above 1",
        ),
        (json!({"rope_scaling": "linear"}), "`rope_scaling` is not an object"),
        (json!({"rope_parameters": {}, "rope_scaling": {"a": {}}}), "`rope_scaling`"),
        (json!({"rope_parameters": {"full_attention": {"rope_type": "default"}}}), "`rope_parameters`"),
        (json!({"rope_scaling": {"type": "linear"}}), "`rope_scaling.factor` is missing"),
        (json!({"partial_rotary_factor": 0.5}), "`partial_rotary_factor`"),
        (json!({"attention_multiplier": 0.01}), "`attention_multiplier`"),
        (json!({"logits_scaling": 8}), "`logits_scaling` = 8 is not supported (supported: 1.0)"),
        (json!({"no_rope_layers": [1, 1, 0]}), "`no_rope_layers`"),
        (json!({"final_logit_softcapping": 30.0}), "`final_logit_softcapping`"),
        (json!({"query_pre_attn_scalar": 256}), "`query_pre_attn_scalar`"),
        (json!({"is_encoder_decoder": true}), "`is_encoder_decoder`"),
        (json!({"vision_config": {"depth": 3}}), "`vision_config`"),
        (json!({"model_type": "mistral", "attention_bias": true}), "`attention_bias`"),
        (json!({"eos_token_id": "</s>"}), "`eos_token_id`"),
    ] {
        let message = parse(&with(changes.clone())).unwrap_err().to_string();
        assert!(message.starts_with("config.json: ") && message.contains(expected), "{changes}: {message}");
    }
    assert!(parse(&json!([])).is_err());
}

#[test]
fn keys_at_neutral_values_change_nothing() {
    let plain = parse(&base()).unwrap();
    let neutral = with(json!({
        "attention_bias": false, "mlp_bias": false, "attention_dropout": 0.1, "pretraining_tp": 2, "num_experts": 0,
        "partial_rotary_factor": 1, "no_rope_layers": [1, 1], "logits_scaling": 1.0, "attention_multiplier": null,
        "query_pre_attn_scalar": null, "quantization_config": null, "rope_interleaved": false, "unheard_of": [1],
        "is_encoder_decoder": false, "layer_types": ["full_attention", "full_attention"], "temperature": 0.7,
    }));
    assert_eq!(parse(&neutral).unwrap(), plain);
}

#[test]
fn other_families_are_refused_by_name() {
    for (model, expected) in [
        ("granitemoe", "Granite needs what is not done here: experts"),
        ("gemma", "Gemma needs"),
        ("gemma3", "Gemma 3 needs what is not done here: images"),
        ("mixtral", "Mixtral needs"),
        (
            "never_heard",
            "supported: llama, mistral, ministral, qwen2, qwen3, qwen3_moe, smollm3, gemma2, gemma3_text, phi3, olmo2, olmo3, granite",
        ),
    ] {
        let message = parse(&with(json!({"model_type": model}))).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains(model), "{message}");
        assert!(message.contains("supported: llama, mistral, ministral, qwen2, qwen3"), "{message}");
    }
}

#[test]
fn towers_are_read_or_refused_by_key() {
    let base = || -> Value { crate::golden_json("vision/tiny-qwen2_5_vl/config.json") };
    let read = |value: &Value| ModelConfig::from_hf_json(value, Path::new("config.json"));
    let config = read(&base()).unwrap();
    let vision = config.vision.clone().unwrap();
    assert_eq!((vision.depth, vision.width, vision.patch, vision.merge), (3, 32, 14, 2));
    assert_eq!((vision.window, vision.full, vision.image_token), (Some(2), vec![1], 378));
    assert_eq!(vision.axes, [0, 0, 1, 1, 1, 2, 2, 2]);
    let third = read(&crate::golden_json("vision/tiny-qwen3_vl/config.json")).unwrap();
    assert_eq!(third.vision.unwrap().axes, [0, 1, 2, 0, 1, 2, 0, 0]);
    // The same nested, with the settings of transformers 5.
    let mut nested = base();
    let map = nested.as_object_mut().unwrap();
    let mut text = map.clone();
    text.remove("vision_config");
    text.insert(
        "rope_parameters".into(),
        json!({"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e6}),
    );
    ["rope_scaling", "rope_theta", "image_token_id"].iter().for_each(|key| drop(text.remove(*key)));
    map.retain(|key, _| {
        ["model_type", "vision_config", "image_token_id", "tie_word_embeddings"].contains(&key.as_str())
    });
    map.insert("text_config".into(), Value::Object(text));
    let nested = read(&nested).unwrap();
    let bare = |config: &ModelConfig| ModelConfig { vision: None, ..config.clone() };
    assert_eq!(bare(&nested), bare(&config));
    assert_eq!(nested.vision.unwrap().axes, vision.axes);
    for (key, value, part) in [
        ("vision_config", json!(null), "`vision_config` is missing"),
        ("image_token_id", json!(null), "`image_token_id` is missing"),
        (
            "rope_scaling",
            json!({"type": "mrope", "mrope_section": [2, 2]}),
            "mrope_section` is not three numbers",
        ),
        (
            "rope_scaling",
            json!({"type": "mrope", "mrope_section": [2, 2, 2]}),
            "names 6 frequencies, a head has 8",
        ),
        ("rope_scaling", json!(null), "mrope_section` is missing"),
    ] {
        let mut broken = base();
        broken[key] = value;
        let message = read(&broken).unwrap_err().to_string();
        assert!(message.contains(part), "{part}: {message}");
    }
    for (key, value, part) in [
        ("depth", json!(null), "vision_config.depth` is missing"),
        ("num_heads", json!(5), "vision_config.num_heads` = 5 does not divide"),
        ("fullatt_block_indexes", json!([7]), "names block 7 of 3"),
        ("in_chans", json!(1), "in_channels` is not 3"),
        ("patch_size", json!(1 << 20), "vision_config.patch_size` = 1048576"),
        ("hidden_act", json!("relu"), "hidden_act"),
    ] {
        let mut broken = base();
        broken["vision_config"][key] = value;
        let message = read(&broken).unwrap_err().to_string();
        assert!(message.contains(part), "{part}: {message}");
    }
}
