//! Writing a policy as a Hugging Face folder.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::config::{ModelConfig, token_ids_json};
use crate::error::PolicyError;
use crate::file::{write_atomic, write_file};
use crate::tokenizer::Tokenizer;
use crate::weights::{HEAD, HostTensor, WeightSource, expected_tensors};

/// Number format of saved weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SaveDtype {
    /// 32-bit float: exact.
    F32,
    /// bfloat16, rounded to nearest even.
    BF16,
    /// 16-bit float, rounded to nearest even; values beyond ±65504 are refused.
    F16,
}

impl SaveDtype {
    /// Name in safetensors, name in `config.json`, bytes an element.
    fn names(self) -> (&'static str, &'static str, usize) {
        match self {
            Self::F32 => ("F32", "float32", 4),
            Self::BF16 => ("BF16", "bfloat16", 2),
            Self::F16 => ("F16", "float16", 2),
        }
    }
}

/// What a Hugging Face folder holds besides the weights and `config.json`.
#[derive(Debug, Clone, Default)]
pub struct PolicyAssets {
    /// Content of `tokenizer.json`.
    pub tokenizer_json: Vec<u8>,
    /// Content of `tokenizer_config.json`.
    pub tokenizer_config: Map<String, Value>,
    /// Content of `chat_template.jinja`.
    pub chat_template: Option<String>,
    /// Content of `generation_config.json`; the token ids are filled in when saving.
    pub generation_config: Map<String, Value>,
    /// Names and contents of the files that say how pictures are prepared.
    pub processors: Vec<(String, Map<String, Value>)>,
}

impl PolicyAssets {
    /// Assets of a policy that comes from no folder. `special_tokens` are pairs such as `("eos_token", "<eos>")`.
    ///
    /// # Errors
    /// A tokenizer that cannot be written.
    pub fn new(
        tokenizer: &Tokenizer,
        special_tokens: &[(&str, &str)],
        chat_template: Option<String>,
    ) -> Result<Self, PolicyError> {
        let mut tokenizer_config = Map::new();
        tokenizer_config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
        tokenizer_config.insert("clean_up_tokenization_spaces".into(), json!(false));
        tokenizer_config.insert("padding_side".into(), json!("left"));
        for (name, token) in special_tokens {
            tokenizer_config.insert((*name).into(), json!(token));
        }
        Ok(Self {
            tokenizer_json: tokenizer.to_json()?.into_bytes(),
            tokenizer_config,
            chat_template,
            generation_config: Map::new(),
            processors: Vec::new(),
        })
    }

    /// `bos_token` and its like; in the config each is a string or an object with `content`.
    pub fn special_tokens(&self) -> BTreeMap<String, String> {
        let content =
            |value: &Value| Some(value.as_str().or_else(|| value.get("content")?.as_str())?.to_owned());
        let tokens = self.tokenizer_config.iter().filter(|(name, _)| name.ends_with("_token"));
        tokens.filter_map(|(name, value)| Some((name.clone(), content(value)?))).collect()
    }

    /// Replaces the chat template, wherever the files hold one.
    pub fn set_chat_template(&mut self, source: &str) {
        self.tokenizer_config.shift_remove("chat_template");
        self.chat_template = Some(source.to_owned());
    }
}

/// Writes a folder that transformers' `AutoModelForCausalLM` and `AutoTokenizer` load: `model.safetensors`,
/// `tokenizer.json`, `tokenizer_config.json`, `chat_template.jinja`, `generation_config.json` and, last, `config.json`,
/// so that a folder with a `config.json` is complete.
///
/// Tensors are loaded one at a time, in the order of [`expected_tensors`]; a tied head is not stored. Every file is
/// written under a temporary name, synced and renamed, so that an existing folder is never half-overwritten in place.
///
/// # Errors
/// A tensor that is missing or of another shape than the config implies, a value that does not fit `dtype`, or an
/// unwritable folder.
pub fn save_hf(
    dir: &Path,
    config: &ModelConfig,
    weights: &dyn WeightSource,
    dtype: SaveDtype,
    assets: &PolicyAssets,
) -> Result<(), PolicyError> {
    fs::create_dir_all(dir).map_err(PolicyError::write(dir))?;
    let entries = expected_tensors(config);
    write_safetensors(&dir.join("model.safetensors"), &entries, dtype, |name| weights.load(name))?;
    save_text(dir, config, assets)?;
    let mut value = config.to_hf_json();
    let (_, name, _) = dtype.names();
    if let Some(text) = value.get_mut("text_config").and_then(Value::as_object_mut) {
        // The outer one counts.
        text.shift_remove("torch_dtype");
        text.shift_remove("dtype");
    }
    value["torch_dtype"] = json!(name);
    value["dtype"] = json!(name);
    write_json(&dir.join("config.json"), &value)
}

/// As [`save_hf`], with the head as a tensor of its own where the config ties it to the embedding. Servers that read weights
/// again while they run may keep their copy of a tied head (vllm-project/vllm#48312).
///
/// # Errors
/// As [`save_hf`].
pub fn save_hf_untied(
    dir: &Path,
    config: &ModelConfig,
    weights: &dyn WeightSource,
    dtype: SaveDtype,
    assets: &PolicyAssets,
) -> Result<(), PolicyError> {
    let config = ModelConfig { tie_word_embeddings: false, ..config.clone() };
    let embedding = format!("{}embed_tokens.weight", config.text_prefix());
    save_hf(dir, &config, &Untied { weights, embedding }, dtype, assets)
}

/// Weights whose head is the embedding.
struct Untied<'a> {
    weights: &'a dyn WeightSource,
    embedding: String,
}

impl Untied<'_> {
    fn of<'n>(&'n self, name: &'n str) -> &'n str {
        if name == HEAD && !self.weights.contains(HEAD) { &self.embedding } else { name }
    }
}

impl WeightSource for Untied<'_> {
    fn path(&self) -> &Path {
        self.weights.path()
    }

    fn names(&self) -> Vec<String> {
        self.weights.names()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.weights.shape(self.of(name))
    }

    fn load(&self, name: &str) -> Result<HostTensor, PolicyError> {
        self.weights.load(self.of(name))
    }
}

/// Writes everything of a folder but config and weights.
pub(crate) fn save_text(dir: &Path, config: &ModelConfig, assets: &PolicyAssets) -> Result<(), PolicyError> {
    write_file(&dir.join("tokenizer.json"), &assets.tokenizer_json)?;
    write_json(&dir.join("tokenizer_config.json"), &Value::Object(assets.tokenizer_config.clone()))?;
    let template = dir.join("chat_template.jinja");
    match &assets.chat_template {
        Some(text) => write_file(&template, text.as_bytes())?,
        None if template.exists() => fs::remove_file(&template).map_err(PolicyError::write(&template))?,
        None => {}
    }
    for (name, content) in &assets.processors {
        write_json(&dir.join(name), &Value::Object(content.clone()))?;
    }
    let mut generation = assets.generation_config.clone();
    for (key, value) in [
        ("bos_token_id", json!(config.bos_token_id)),
        ("eos_token_id", token_ids_json(&config.eos_token_ids)),
        ("pad_token_id", json!(config.pad_token_id)),
    ] {
        if !value.is_null() {
            generation.insert(key.into(), value);
        }
    }
    write_json(&dir.join("generation_config.json"), &Value::Object(generation))
}

/// Writes a safetensors file of tensors in one number format, loading one at a time.
///
/// # Errors
/// What `load` returns, a tensor of another shape than listed, a value that does not fit `dtype`, or an unwritable
/// file.
pub fn write_safetensors(
    path: &Path,
    tensors: &[(String, Vec<usize>)],
    dtype: SaveDtype,
    mut load: impl FnMut(&str) -> Result<HostTensor, PolicyError>,
) -> Result<(), PolicyError> {
    let (stored, _, bytes) = dtype.names();
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut offset = 0;
    for (name, shape) in tensors {
        let end = offset + shape.iter().product::<usize>() * bytes;
        header.insert(name.clone(), json!({"dtype": stored, "shape": shape, "data_offsets": [offset, end]}));
        offset = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    write_atomic(path, |file| {
        let failed = || PolicyError::write(path);
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed())?;
        file.write_all(&header).map_err(failed())?;
        for (name, expected) in tensors {
            let tensor = load(name)?;
            if tensor.shape != *expected {
                return Err(PolicyError::TensorShape {
                    path: path.into(),
                    name: name.clone(),
                    expected: expected.clone(),
                    found: tensor.shape,
                });
            }
            assert_eq!(tensor.data.len(), expected.iter().product::<usize>(), "elements of {name}");
            let mut buffer = Vec::with_capacity(CHUNK * bytes);
            for chunk in tensor.data.chunks(CHUNK) {
                buffer.clear();
                match dtype {
                    SaveDtype::F32 => chunk.iter().for_each(|v| buffer.extend(v.to_le_bytes())),
                    SaveDtype::BF16 => {
                        chunk.iter().for_each(|v| buffer.extend(bf16::from_f32(*v).to_le_bytes()))
                    }
                    SaveDtype::F16 => {
                        for value in chunk {
                            let narrow = f16::from_f32(*value);
                            if narrow.is_infinite() && value.is_finite() {
                                return Err(PolicyError::OutOfRange { name: name.clone(), value: *value });
                            }
                            buffer.extend(narrow.to_le_bytes());
                        }
                    }
                }
                file.write_all(&buffer).map_err(failed())?;
            }
        }
        Ok(())
    })
}

/// Elements converted at a time while writing.
const CHUNK: usize = 1 << 16;

fn write_json(path: &Path, value: &Value) -> Result<(), PolicyError> {
    let mut text = serde_json::to_string_pretty(value).map_err(PolicyError::json(path))?;
    text.push('\n');
    write_file(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use crate::source::PolicyFiles;
    use crate::weights::{MemorySource, WeightSource};

    fn tiny(name: &str) -> PolicyFiles {
        PolicyFiles::open_folder(&golden("models").join(name)).unwrap()
    }

    fn save(policy: &PolicyFiles, dir: &Path, dtype: SaveDtype) -> Result<(), PolicyError> {
        save_hf(dir, &policy.config, &*policy.weights, dtype, &policy.assets)
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_saved_folder_opens_as_the_same_policy() {
        for name in ["tiny-llama", "tiny-qwen2", "tiny-qwen3"] {
            let dir = tempfile::tempdir().unwrap();
            let original = tiny(name);
            // The second time over the first.
            for _ in 0..2 {
                save(&original, &dir.path().join("final"), SaveDtype::F32).unwrap();
            }
            let dir = dir.path().join("final");
            assert_eq!(
                names(&dir),
                [
                    "chat_template.jinja",
                    "config.json",
                    "generation_config.json",
                    "model.safetensors",
                    "tokenizer.json",
                    "tokenizer_config.json",
                ]
            );
            let saved = PolicyFiles::open_folder(&dir).unwrap();
            assert_eq!(saved.config, original.config);
            assert_eq!(saved.weights.names(), original.weights.names());
            for tensor in saved.weights.names() {
                assert_eq!(saved.weights.load(&tensor).unwrap(), original.weights.load(&tensor).unwrap());
            }
            assert_eq!(saved.assets.tokenizer_json, original.assets.tokenizer_json);
            assert_eq!(saved.assets.tokenizer_config, original.assets.tokenizer_config);
            assert_eq!(saved.chat_template.unwrap().source(), original.chat_template.unwrap().source());
        }
    }

    #[test]
    fn an_untied_head_is_the_embedding_and_opens_as_the_same_policy() {
        for name in ["tiny-llama", "tiny-qwen2"] {
            let dir = tempfile::tempdir().unwrap();
            let original = tiny(name);
            save_hf_untied(
                dir.path(),
                &original.config,
                &*original.weights,
                SaveDtype::F32,
                &original.assets,
            )
            .unwrap();
            let saved = PolicyFiles::open_folder(dir.path()).unwrap();
            assert!(!saved.config.tie_word_embeddings);
            let head = saved.weights.load("lm_head.weight").unwrap();
            let kept = if original.config.tie_word_embeddings { "model.embed_tokens.weight" } else { HEAD };
            assert_eq!(head, original.weights.load(kept).unwrap());
        }
    }

    #[test]
    fn narrow_formats_round_to_nearest_even() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.safetensors");
        // Halfway between two bf16 values, to the even one; a NaN and an infinity stay.
        let data =
            vec![1.0, f32::from_bits(0x3f80_8000), f32::from_bits(0x3f81_8000), f32::NAN, f32::INFINITY];
        let tensors = [("x".to_owned(), vec![5])];
        let load = |_: &str| Ok(HostTensor { shape: vec![5], data: data.clone() });
        write_safetensors(&file, &tensors, SaveDtype::BF16, load).unwrap();
        let read = crate::weights::SafetensorsSource::open_file(&file).unwrap().load("x").unwrap().data;
        assert_eq!(read[..3], [1.0, 1.0, f32::from_bits(0x3f82_0000)]);
        assert!(read[3].is_nan() && read[4].is_infinite());
        let load = |_: &str| Ok(HostTensor { shape: vec![5], data: vec![0.0, 1.0, 7e4, 0.0, 0.0] });
        let message = write_safetensors(&file, &tensors, SaveDtype::F16, load).unwrap_err().to_string();
        assert!(message.contains("`x` holds 70000"), "{message}");
        assert_eq!(
            names(dir.path()),
            ["x.safetensors"],
            "a failed write leaves the old file and nothing else"
        );
        assert_eq!(
            crate::weights::SafetensorsSource::open_file(&file).unwrap().load("x").unwrap().data[0],
            1.0
        );
    }

    #[test]
    fn a_tied_head_is_not_stored_and_a_missing_tensor_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let policy = tiny("tiny-qwen2");
        let mut weights = MemorySource::new();
        for name in policy.weights.names() {
            weights.insert(name.clone(), policy.weights.load(&name).unwrap());
        }
        weights.insert("lm_head.weight", policy.weights.load("model.embed_tokens.weight").unwrap());
        save_hf(dir.path(), &policy.config, &weights, SaveDtype::BF16, &policy.assets).unwrap();
        assert!(!PolicyFiles::open_folder(dir.path()).unwrap().weights.contains("lm_head.weight"));
        let config: Value =
            serde_json::from_slice(&fs::read(dir.path().join("config.json")).unwrap()).unwrap();
        assert_eq!((&config["dtype"], &config["torch_dtype"]), (&json!("bfloat16"), &json!("bfloat16")));
        let empty = MemorySource::new();
        let other = dir.path().join("other");
        let message =
            save_hf(&other, &policy.config, &empty, SaveDtype::F32, &policy.assets).unwrap_err().to_string();
        assert!(message.contains("no tensor `model.embed_tokens.weight`"), "{message}");
        assert_eq!(names(&other), [""; 0], "nothing half-written");
    }

    #[test]
    fn an_unwritable_place_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        let message = save(&tiny("tiny-llama"), &file.join("final"), SaveDtype::F32).unwrap_err().to_string();
        assert!(message.starts_with("cannot write") && message.contains("final"), "{message}");
    }

    /// Writes policies of every origin under `RLVR_SAVE_TO`, for `tests/golden/check_saved_folders.py`, which loads them
    /// with transformers.
    #[test]
    fn folders_for_transformers() {
        let Some(to) = std::env::var_os("RLVR_SAVE_TO").map(std::path::PathBuf::from) else { return };
        for name in ["tiny-llama", "tiny-qwen2", "tiny-qwen3"] {
            save(&tiny(name), &to.join(name), SaveDtype::F32).unwrap();
        }
        for name in ["tiny-llama", "tiny-qwen2"] {
            let gguf = PolicyFiles::open_gguf(&golden(&format!("policy/{name}.gguf"))).unwrap();
            save(&gguf, &to.join(format!("{name}-gguf")), SaveDtype::BF16).unwrap();
        }
        let (config, weights, assets) = crate::source::tests::character_policy();
        save_hf(&to.join("characters"), &config, &weights, SaveDtype::F32, &assets).unwrap();
    }
}
