//! Weights against the config: which tensors it implies, and what is missing, misshapen or not part of the model.

use std::collections::BTreeSet;

use crate::config::ModelConfig;
use crate::error::PolicyError;
use crate::memory::available_bytes;
use crate::tensors::{WeightSource, missing};

/// Hugging Face's names and shapes of the tensors that a model of this config has. A tied head is not listed.
pub fn expected_tensors(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    config.tensors().collect()
}

/// Hugging Face's name of a head of its own.
pub(crate) const HEAD: &str = "lm_head.weight";

/// Compares a source with what the config implies, without reading elements. Tensors that no layer uses are logged
/// as a warning.
///
/// # Errors
/// The first missing tensor, or the first of another shape.
pub fn check_weights(source: &dyn WeightSource, config: &ModelConfig) -> Result<(), PolicyError> {
    check_shapes(source, config)?;
    let unused = unused_tensors(source, config);
    if !unused.is_empty() {
        tracing::warn!(
            "{}: {} tensors are not part of a {} model and are ignored: {}",
            source.path().display(),
            unused.len(),
            config.architecture.model_type(),
            first_few(&unused)
        );
    }
    Ok(())
}

/// The first missing or misshapen tensor; takes no memory for those that a config only claims.
pub(crate) fn check_shapes(source: &dyn WeightSource, config: &ModelConfig) -> Result<(), PolicyError> {
    for (name, expected) in config.tensors() {
        let found = source.shape(&name).ok_or_else(|| missing(source.path(), &name))?;
        if found != expected {
            return Err(PolicyError::TensorShape { path: source.path().into(), name, expected, found });
        }
    }
    Ok(())
}

/// Names of the tensors of a source that no layer uses; `config` has passed [`check_shapes`].
pub(super) fn unused_tensors(source: &dyn WeightSource, config: &ModelConfig) -> Vec<String> {
    let mut unused: BTreeSet<String> = source.names().into_iter().collect();
    for (name, _) in config.tensors() {
        unused.remove(&name);
    }
    // Redundant copies that some exporters write: the tied head, and frequencies that follow from the config.
    let redundant =
        |name: &str| name.ends_with(".rotary_emb.inv_freq") || config.tie_word_embeddings && name == HEAD;
    unused.into_iter().filter(|name| !redundant(name)).collect()
}

/// Names for a message.
pub(super) fn first_few(names: &[String]) -> String {
    let shown = names.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > 5 { shown + ", …" } else { shown }
}

/// A config that ties the head to the embedding, beside weights that have a head of their own with other values, is
/// wrong: the head is used, as transformers does. `config` has passed [`check_weights`].
///
/// # Errors
/// A tensor that cannot be read, or a head of another shape; tables that do not fit into memory to be compared.
pub(crate) fn untie_if_different(
    config: &mut ModelConfig,
    source: &dyn WeightSource,
) -> Result<(), PolicyError> {
    let table = format!("{}embed_tokens.weight", config.text_prefix());
    let (Some(embedding), Some(head)) = (source.shape(&table), source.shape(HEAD)) else { return Ok(()) };
    if !config.tie_word_embeddings {
        return Ok(());
    }
    let needed = embedding.iter().product::<usize>().saturating_mul(2 * size_of::<f32>());
    let same_shape = embedding == head;
    if same_shape && let Some(free) = available_bytes().filter(|free| needed > *free) {
        return Err(PolicyError::Memory { path: source.path().into(), needed, free });
    }
    if !same_shape || source.load(&table)?.data != source.load(HEAD)?.data {
        tracing::warn!(
            "{}: `tie_word_embeddings` is true, but `{HEAD}` differs from `{table}`: they are not tied",
            source.path().display()
        );
        config.tie_word_embeddings = false;
        check_shapes(source, config)?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::decoder::Decoder;
    use crate::golden;
    use crate::weights::{HostTensor, MemorySource, SafetensorsSource};
    use std::collections::BTreeMap;
    use std::path::Path;

    /// A golden model with its tensors in memory.
    pub(in crate::weights) fn tiny(name: &str) -> (ModelConfig, MemorySource) {
        let folder = golden("models").join(name);
        let config = ModelConfig::from_hf_file(&folder.join("config.json")).unwrap();
        let source = SafetensorsSource::open_folder(&folder).unwrap();
        let mut copy = MemorySource::new();
        for name in source.names() {
            copy.insert(name.clone(), source.load(&name).unwrap());
        }
        (config, copy)
    }

    #[test]
    fn golden_models_have_exactly_the_expected_tensors() {
        for name in ["tiny-llama", "tiny-qwen2", "tiny-qwen3"] {
            let (config, source) = tiny(name);
            check_weights(&source, &config).unwrap();
            let mut expected: Vec<_> = expected_tensors(&config).into_iter().map(|(n, _)| n).collect();
            expected.sort();
            assert_eq!(source.names(), expected, "{name}");
        }
    }

    #[test]
    fn a_missing_or_misshapen_tensor_is_named() {
        let (mut config, mut source) = tiny("tiny-llama");
        config.intermediate_size = 100;
        let message = check_weights(&source, &config).unwrap_err().to_string();
        assert!(message.contains("`model.layers.0.mlp.gate_proj.weight` has shape [144, 64]"), "{message}");
        assert!(message.contains("implies [100, 64]"), "{message}");
        config.intermediate_size = 144;
        source.tensors.remove("model.layers.2.self_attn.v_proj.weight");
        let message = check_weights(&source, &config).unwrap_err().to_string();
        assert!(message.contains("no tensor `model.layers.2.self_attn.v_proj.weight`"), "{message}");
        config.num_layers = 2;
        check_weights(&source, &config).expect("tensors that no layer uses are only warned about");
    }

    #[test]
    fn layers_that_a_config_only_claims_take_no_memory() {
        // Names and shapes of a billion layers would take a terabyte.
        let (mut config, source) = tiny("tiny-llama");
        config.num_layers = 1 << 30;
        let message = check_weights(&source, &config).unwrap_err().to_string();
        assert!(message.contains("no tensor `model.layers.3.input_layernorm.weight`"), "{message}");
        let load = Decoder::load(config, &source, &burn::tensor::Device::flex());
        assert!(load.unwrap_err().to_string().contains("no tensor `model.layers.3"));
    }

    /// A source that has every tensor of a config, and no memory for them.
    struct Claims(BTreeMap<String, Vec<usize>>);

    impl WeightSource for Claims {
        fn path(&self) -> &Path {
            Path::new("claims")
        }
        fn names(&self) -> Vec<String> {
            self.0.keys().cloned().collect()
        }
        fn shape(&self, name: &str) -> Option<Vec<usize>> {
            self.0.get(name).cloned()
        }
        fn load(&self, name: &str) -> Result<HostTensor, PolicyError> {
            panic!("{name} was read")
        }
    }

    #[test]
    fn weights_that_do_not_fit_are_refused_before_they_are_read() {
        let (mut config, _) = tiny("tiny-llama");
        (config.hidden_size, config.vocab_size, config.intermediate_size) = (1 << 22, 1 << 26, 1 << 28);
        let source = Claims(expected_tensors(&config).into_iter().collect());
        check_weights(&source, &config).unwrap();
        if available_bytes().is_some() {
            let load = Decoder::load(config, &source, &burn::tensor::Device::flex());
            let message = load.unwrap_err().to_string();
            assert!(
                message.starts_with("claims: the weights take") && message.contains("are free"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_head_that_differs_is_not_tied() {
        let (mut config, mut source) = tiny("tiny-qwen2");
        assert!(config.tie_word_embeddings);
        // No head of its own, or the same values: tied.
        untie_if_different(&mut config, &source).unwrap();
        let embedding = source.load("model.embed_tokens.weight").unwrap();
        source.insert(HEAD, embedding.clone());
        untie_if_different(&mut config, &source).unwrap();
        assert!(config.tie_word_embeddings);
        let mut other = embedding;
        other.data[5] += 1.0;
        source.insert(HEAD, other);
        untie_if_different(&mut config, &source).unwrap();
        assert!(!config.tie_word_embeddings);
        check_weights(&source, &config).unwrap();
        config.tie_word_embeddings = true;
        source.insert(HEAD, HostTensor { shape: vec![1, 2], data: vec![0.0; 2] });
        let message = untie_if_different(&mut config, &source).unwrap_err().to_string();
        assert!(message.contains(HEAD), "{message}");
    }
}
