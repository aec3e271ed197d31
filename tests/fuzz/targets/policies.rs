//! Fuzz targets of model files: whatever the bytes, they are read or refused, without a panic and without memory beyond
//! what the file's size explains.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use rlvr_policies::tokenizer::Tokenizer;
use rlvr_policies::weights::{GgufFile, GgufSource, SafetensorsSource, WeightSource};
use rlvr_policies::{ChatTemplate, ModelConfig};
use serde_json::{Value, json};

/// A file of these bytes; memory where the system has a directory for it.
fn file(data: &[u8]) -> tempfile::NamedTempFile {
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let mut file = tempfile::NamedTempFile::new_in(directory).expect("a temporary file");
    file.write_all(data).expect("a temporary file can be written");
    file
}

/// Metadata, shapes and values of every tensor, then the policy that the metadata describes.
pub fn gguf(data: &[u8]) {
    let file = file(data);
    if let Ok(gguf) = GgufFile::open(file.path()) {
        for name in gguf.tensors().keys() {
            let _ = gguf.load(name);
        }
        let _ = GgufSource::new(Arc::new(gguf));
    }
}

/// Every tensor of a file.
pub fn safetensors(data: &[u8]) {
    let file = file(data);
    if let Ok(source) = SafetensorsSource::open_file(file.path()) {
        for name in source.names() {
            let _ = source.load(&name);
        }
    }
}

/// A `config.json`, and writing it again.
pub fn model_config(data: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<Value>(data)
        && let Ok(config) = ModelConfig::from_hf_json(&value, Path::new("config.json"))
    {
        let _ = config.rope_inv_freq();
        let again = ModelConfig::from_hf_json(&config.to_hf_json(), Path::new("config.json"));
        assert!(again.is_ok(), "a config that was read is not read again: {again:?}");
    }
}

/// A `tokenizer.json`, and a text through it.
pub fn tokenizer(data: &[u8]) {
    if let Ok(tokenizer) = Tokenizer::from_json(data, Path::new("tokenizer.json"))
        && let Ok(ids) = tokenizer.encode("Zwölf apples and 3,5 <s> more\n", true)
    {
        let _ = tokenizer.decode(&ids, false);
        let _ = tokenizer.decode(&[0, 1, u32::MAX], true);
    }
}

/// A template over a conversation.
pub fn chat_template(data: &[u8]) {
    let source = String::from_utf8_lossy(data);
    let tokens = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
    let template = ChatTemplate::new(&source, Path::new("chat_template.jinja"), &tokens);
    let messages = [
        json!({"role": "system", "content": "Be brief."}),
        json!({"role": "user", "content": "What is 1 + 1?"}),
    ];
    let _ = template.render(&messages, true);
}
