//! Everything that makes up a policy, opened from whatever the user points at.

mod adapter;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use serde_json::{Map, Value, json};

use crate::adapter::AdapterFiles;
use crate::added_tokens::add_tokens;
use crate::chat_template::ChatTemplate;
use crate::config::known::{generation_ignored, generation_set, generation_unknown};
use crate::config::{ModelConfig, token_ids};
use crate::decoder::Decoder;
use crate::error::PolicyError;
use crate::file;
use crate::gguf_tokenizer::tokenizer_from_gguf;
use crate::hub::{self, HubOptions};
use crate::save::PolicyAssets;
use crate::template_files::TemplateFiles;
use crate::tokenizer::{MAX_FILE, Tokenizer};
use crate::vision::Processor;
use crate::weights::{
    GgufFile, GgufSource, SafetensorsSource, WeightSource, check_weights, untie_if_different,
};

/// The files of a policy: config, weights, tokenizer, chat template. Opening reads no weights yet (but a head that should
/// be tied and is there) and has checked that all are there with the right shapes.
pub struct PolicyFiles {
    /// Shape of the decoder. Its token ids include what `generation_config.json` and the tokenizer add.
    pub config: ModelConfig,
    /// Tensors under Hugging Face names.
    pub weights: Box<dyn WeightSource + Send + Sync>,
    /// Tokenizer.
    pub tokenizer: Tokenizer,
    /// Chat template; base models often have none. One that cannot be used fails when it is.
    pub chat_template: Option<ChatTemplate>,
    /// All tokens that end a completion: those of `config.json`, `generation_config.json` and the tokenizer.
    pub eos_token_ids: Vec<u32>,
    /// Token that begins a sequence.
    pub bos_token_id: Option<u32>,
    /// Token for padding.
    pub pad_token_id: Option<u32>,
    /// The folder or file that was opened.
    pub source: PathBuf,
    /// The adapter that was opened, and what its base was opened from.
    pub adapter: Option<AdapterFiles>,
    /// Folder, file or hub id of the base of an adapter.
    pub base: Option<String>,
    /// What a saved folder needs besides config and weights.
    pub assets: PolicyAssets,
    /// What makes pictures of files, of a model that sees.
    pub processor: Option<Processor>,
}

impl std::fmt::Debug for PolicyFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyFiles").field("source", &self.source).field("config", &self.config).finish()
    }
}

impl PolicyFiles {
    /// Reads the weights, adapter included.
    ///
    /// # Errors
    /// As [`Decoder::load`] and [`AdapterFiles::onto`].
    pub fn decoder(&self, device: &Device) -> Result<Decoder, PolicyError> {
        let mut decoder = Decoder::load(self.config.clone(), &*self.weights, device)?;
        if let Some(processor) = &self.processor {
            decoder = decoder.with_processor(processor.clone());
        }
        match &self.adapter {
            Some(adapter) => adapter.onto(decoder),
            None => Ok(decoder),
        }
    }

    /// Opens a Hugging Face folder, a `.gguf` file, a run directory (`final/`, else its newest complete checkpoint), a PEFT
    /// adapter (over the base that its config names; `BASE+ADAPTER` names it here), or a hub id `owner/name`; a path that
    /// exists wins over a hub id.
    ///
    /// # Errors
    /// Nothing there (the message lists what was tried), or a file that is missing, damaged or unsupported.
    pub fn open(spec: &str) -> Result<Self, PolicyError> {
        Self::open_with(spec, &HubOptions::from_env())
    }

    /// [`PolicyFiles::open`] with explicit settings of the hub.
    ///
    /// # Errors
    /// As [`PolicyFiles::open`].
    pub fn open_with(spec: &str, hub: &HubOptions) -> Result<Self, PolicyError> {
        let path = Path::new(spec);
        let mut tried = Vec::new();
        if path.is_file() {
            if begins_with_gguf(path) || path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")) {
                return Self::open_gguf(path);
            }
            tried.push("it is a file, but not GGUF (for safetensors give the folder)".into());
        } else if path.is_dir() {
            match policy_folder(path, &mut tried)? {
                Some(folder) if folder.join("config.json").is_file() => return Self::open_folder(&folder),
                Some(folder) => return Self::open_adapter(&folder, None, hub),
                None => tried.extend(gguf_hint(path)),
            }
        } else if let Some((base, folder)) = adapter::both(spec) {
            return Self::open_adapter(folder, Some(base), hub);
        } else if hub::is_repo_id(spec) {
            tracing::info!("{spec} is not a path here; taking it for a hub id");
            return Self::open_folder(&hub::fetch(spec, hub)?);
        } else {
            tried.push("there is no such file or directory".into());
            tried.push("it is not a hub id (owner/name)".into());
        }
        Err(PolicyError::NotFound { spec: spec.into(), tried })
    }

    /// Opens a Hugging Face folder.
    ///
    /// # Errors
    /// A file that is missing, damaged or unsupported.
    pub fn open_folder(folder: &Path) -> Result<Self, PolicyError> {
        let mut config = ModelConfig::from_hf_file(&folder.join("config.json"))?;
        let weights = SafetensorsSource::open_folder(folder)?;
        if let Some(vision) = &mut config.vision {
            vision.named_as(&weights);
        }
        check_weights(&weights, &config)?;
        untie_if_different(&mut config, &weights)?;
        let (tokenizer, mut assets, templates) = Self::text_of(folder, config.vocab_size)?;
        let processor = match &config.vision {
            Some(vision) => {
                let path = folder.join("preprocessor_config.json");
                let mut settings = read_object(&path)?;
                for name in ["preprocessor_config.json", "processor_config.json"] {
                    let file = read_object(&folder.join(name))?;
                    if !file.is_empty() {
                        assets.processors.push((name.into(), file));
                    }
                }
                if settings.is_empty()
                    && let Some((_, file)) = assets.processors.last()
                    && let Some(Value::Object(own)) = file.get("image_processor")
                {
                    settings = own.clone();
                }
                Some(Processor::read(&settings, &path, vision)?)
            }
            None => None,
        };
        let files = Self::assemble(config, Box::new(weights), tokenizer, assets, folder, templates)?;
        Ok(Self { processor, ..files })
    }

    /// Tokenizer, templates and what else stands between text and tokens.
    fn text_of(
        folder: &Path,
        vocab_size: usize,
    ) -> Result<(Tokenizer, PolicyAssets, TemplateFiles), PolicyError> {
        let tokenizer_path = folder.join("tokenizer.json");
        if !tokenizer_path.is_file() {
            let missing =
                "tokenizer.json (tokenizer.model and vocab.json are not read: convert with transformers)";
            return Err(PolicyError::MissingFile { path: folder.into(), missing: missing.into() });
        }
        let mut tokenizer_json = file::read(&tokenizer_path, MAX_FILE)?;
        let mut tokenizer = Tokenizer::from_json(&tokenizer_json, &tokenizer_path)?;
        let mut tokenizer_config = read_tokens(&folder.join("tokenizer_config.json"))?;
        // As in transformers: without a list of added tokens the older file has the last word.
        let older = !tokenizer_config.contains_key("added_tokens_decoder");
        for (key, value) in read_tokens(&folder.join("special_tokens_map.json"))? {
            if older {
                tokenizer_config.insert(key, value);
            } else {
                tokenizer_config.entry(key).or_insert(value);
            }
        }
        for ignored in tokenizer_ignored(&tokenizer_config, &tokenizer) {
            tracing::warn!("{}: {ignored}", folder.join("tokenizer_config.json").display());
        }
        let added = read_object(&folder.join("added_tokens.json"))?;
        if add_tokens(&mut tokenizer, &tokenizer_config, &added, folder, vocab_size)? {
            tokenizer_json = tokenizer.to_json()?.into_bytes();
        }
        let generation_path = folder.join("generation_config.json");
        let generation_config = read_object(&generation_path)?;
        for ignored in
            generation_ignored(&generation_config).into_iter().chain(generation_unknown(&generation_config))
        {
            tracing::warn!("{}: {ignored}", generation_path.display());
        }
        for name in ["config.json", "generation_config.json"] {
            if let Some(set) = generation_set(&read_object(&folder.join(name))?) {
                tracing::info!("{}: {set}", folder.join(name).display());
            }
        }
        let templates = TemplateFiles::of_folder(folder, &tokenizer_config)?;
        let assets = PolicyAssets {
            tokenizer_json,
            tokenizer_config,
            chat_template: None,
            generation_config,
            processors: Vec::new(),
        };
        Ok((tokenizer, assets, templates))
    }

    /// Opens a GGUF file.
    ///
    /// # Errors
    /// A damaged or unsupported file.
    pub fn open_gguf(path: &Path) -> Result<Self, PolicyError> {
        let file = Arc::new(GgufFile::open(path)?);
        let (weights, config) = GgufSource::new(Arc::clone(&file))?;
        let tokenizer = tokenizer_from_gguf(&file)?;
        let templates = file.metadata().iter().filter_map(|(key, value)| {
            let name = key.strip_prefix("tokenizer.chat_template")?;
            let name = if name.is_empty() { "default" } else { name.strip_prefix('.')? };
            Some((name.to_owned(), value.as_str()?.to_owned()))
        });
        let templates = TemplateFiles::new(templates, path);
        let token = |id: Option<u32>| id.and_then(|id| tokenizer.id_to_token(id));
        let names = [
            ("bos_token", token(config.bos_token_id)),
            ("eos_token", token(config.eos_token_ids.first().copied())),
            ("pad_token", token(config.pad_token_id)),
        ];
        let special: Vec<_> = names.iter().filter_map(|(name, t)| Some((*name, t.as_deref()?))).collect();
        let mut assets = PolicyAssets::new(&tokenizer, &special, None)?;
        assets.tokenizer_config.insert("model_max_length".into(), json!(config.max_position_embeddings));
        Self::assemble(config, Box::new(weights), tokenizer, assets, path, templates)
    }

    fn assemble(
        mut config: ModelConfig,
        weights: Box<dyn WeightSource + Send + Sync>,
        tokenizer: Tokenizer,
        mut assets: PolicyAssets,
        source: &Path,
        templates: TemplateFiles,
    ) -> Result<Self, PolicyError> {
        let special = assets.special_tokens();
        let id = |name: &str| special.get(name).and_then(|token| tokenizer.token_to_id(token));
        let generation = |key: &str| {
            token_ids(&assets.generation_config, key).ok_or_else(|| PolicyError::ConfigKey {
                path: source.join("generation_config.json"),
                key: key.into(),
                problem: "is not a token id or a list of them".into(),
            })
        };
        for token in generation("eos_token_id")?.into_iter().chain(id("eos_token")) {
            if !config.eos_token_ids.contains(&token) {
                config.eos_token_ids.push(token);
            }
        }
        let first = |key: &str| generation(key).map(|ids| ids.first().copied());
        let (bos, pad) = (first("bos_token_id")?, first("pad_token_id")?);
        config.bos_token_id = config.bos_token_id.or(bos).or_else(|| id("bos_token"));
        config.pad_token_id = config.pad_token_id.or(pad).or_else(|| id("pad_token"));
        config.drop_foreign_tokens(source);
        if config.eos_token_ids.is_empty() {
            tracing::warn!(
                "{}: no end-of-sequence token; completions end at max_tokens only",
                source.display()
            );
        }
        if tokenizer.vocab_size() > config.vocab_size {
            tracing::warn!(
                "{}: the tokenizer has ids up to {}, the model only {} rows",
                source.display(),
                tokenizer.vocab_size() - 1,
                config.vocab_size
            );
        }
        let chat_template = templates.choose(&special);
        if let Some(Err(problem)) = chat_template.as_ref().map(ChatTemplate::check) {
            tracing::warn!("{problem}; prompts that are conversations cannot be made");
        }
        assets.chat_template =
            chat_template.as_ref().map(|t| t.source().to_owned()).filter(|source| !source.is_empty());
        Ok(Self {
            eos_token_ids: config.eos_token_ids.clone(),
            bos_token_id: config.bos_token_id,
            pad_token_id: config.pad_token_id,
            config,
            weights,
            tokenizer,
            chat_template,
            source: source.into(),
            adapter: None,
            base: None,
            assets,
            processor: None,
        })
    }
}

/// What `tokenizer_config.json` asks for and is not done, a message each: `tokenizer.json` is what is read.
fn tokenizer_ignored(config: &Map<String, Value>, tokenizer: &Tokenizer) -> Vec<String> {
    let asked = |key: &str| config.get(key).and_then(Value::as_bool);
    let mut messages = Vec::new();
    if let Some(asked) = asked("add_prefix_space")
        && tokenizer.prefix_space().contains(&!asked)
    {
        messages.push(format!("`add_prefix_space` = {asked} is ignored, tokenizer.json says otherwise"));
    }
    if asked("split_special_tokens") == Some(true) {
        let always = "special tokens that a text spells out are special";
        messages.push(format!("`split_special_tokens` = true is ignored: {always}"));
    }
    messages
}

fn begins_with_gguf(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 4];
    fs::File::open(path).and_then(|mut f| f.read_exact(&mut magic)).is_ok() && magic == *b"GGUF"
}

/// The Hugging Face folder that a directory is or holds.
fn policy_folder(dir: &Path, tried: &mut Vec<String>) -> Result<Option<PathBuf>, PolicyError> {
    if dir.join("config.json").is_file() || AdapterFiles::are_in(dir) {
        return Ok(Some(dir.into()));
    }
    tried.push("no config.json in it".into());
    for name in ["final", "policy"] {
        if is_complete(&dir.join(name)) {
            return Ok(Some(dir.join(name)));
        }
        tried.push(format!("no complete policy in {name}/"));
    }
    let checkpoints = dir.join("checkpoints");
    if !checkpoints.is_dir() {
        tried.push("no checkpoints/".into());
        return Ok(None);
    }
    let mut steps = Vec::new();
    for entry in fs::read_dir(&checkpoints).map_err(PolicyError::read(&checkpoints))? {
        let path = entry.map_err(PolicyError::read(&checkpoints))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix("step-"));
        steps.extend(name.and_then(|n| n.parse::<u64>().ok()).map(|step| (step, path.clone())));
    }
    steps.sort();
    for (step, path) in steps.into_iter().rev() {
        for folder in [path.join("policy"), path.clone()] {
            if is_complete(&folder) {
                return Ok(Some(folder));
            }
        }
        tried.push(format!("the checkpoint of step {step} is incomplete"));
    }
    tried.push("no complete checkpoint in checkpoints/".into());
    Ok(None)
}

fn is_complete(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    let whole = has("model.safetensors") || has("model.safetensors.index.json");
    has("config.json") && has("tokenizer.json") && whole
        || AdapterFiles::are_in(folder) && has("adapter_model.safetensors")
}

/// The GGUF files of a directory that is no policy itself.
fn gguf_hint(dir: &Path) -> Option<String> {
    let files = fs::read_dir(dir).ok()?.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let mut files: Vec<_> = files.filter(|name| name.ends_with(".gguf")).collect();
    files.sort();
    (!files.is_empty()).then(|| format!("it holds {}: give the file itself", files.join(", ")))
}

/// Longest JSON file that is read as an object, in bytes: `tokenizer_config.json` may list thousands of tokens.
const MAX_OBJECT: u64 = 1 << 24;

/// A JSON object, empty if there is no such file. A link that leads nowhere is no missing file.
fn read_object(path: &Path) -> Result<Map<String, Value>, PolicyError> {
    if fs::symlink_metadata(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        return Ok(Map::new());
    }
    serde_json::from_slice(&file::read(path, MAX_OBJECT)?).map_err(PolicyError::json(path))
}

/// The special tokens that a tokenizer's files name.
const SPECIAL_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// [`read_object`] of a file that names special tokens, each a text or an object with its text.
fn read_tokens(path: &Path) -> Result<Map<String, Value>, PolicyError> {
    let object = read_object(path)?;
    for key in SPECIAL_TOKENS {
        let token = object.get(key).filter(|token| !token.is_null());
        if let Some(value) = token.filter(|token| !(token.is_string() || token["content"].is_string())) {
            let problem = format!("is {value}: a special token is a text or an object with `content`");
            return Err(PolicyError::ConfigKey { path: path.into(), key: key.into(), problem });
        }
    }
    Ok(object)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::golden;
    use crate::save::{SaveDtype, save_hf};
    use crate::weights::{HostTensor, MemorySource, expected_tensors};

    /// A policy that comes from no file: characters, one layer, weights that count up.
    pub(crate) fn character_policy() -> (ModelConfig, MemorySource, PolicyAssets) {
        let tokenizer = Tokenizer::characters("0123456789+= \nab<>/", &["<pad>", "<eos>", "<bos>"]).unwrap();
        let config = json!({
            "model_type": "llama", "vocab_size": tokenizer.vocab_size(), "hidden_size": 16, "intermediate_size": 24,
            "num_hidden_layers": 1, "num_attention_heads": 2, "tie_word_embeddings": true,
            "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
        });
        let config = ModelConfig::from_hf_json(&config, Path::new("(characters)")).unwrap();
        let mut weights = MemorySource::new();
        for (name, shape) in expected_tensors(&config) {
            let data = (0..shape.iter().product::<usize>()).map(|i| (i % 101) as f32 / 64.0 - 0.75).collect();
            weights.insert(name, HostTensor { shape, data });
        }
        let specials = [("pad_token", "<pad>"), ("eos_token", "<eos>"), ("bos_token", "<bos>")];
        let template = "{% for m in messages %}{{ m.content }}{% endfor %}".to_owned();
        let assets = PolicyAssets::new(&tokenizer, &specials, Some(template)).unwrap();
        (config, weights, assets)
    }

    fn offline(cache: &Path) -> HubOptions {
        HubOptions {
            endpoint: "http://127.0.0.1:9".into(),
            cache: cache.into(),
            token: None,
            offline: true,
            limits: crate::http::Limits::default(),
        }
    }

    fn open(spec: &Path) -> Result<PolicyFiles, PolicyError> {
        PolicyFiles::open_with(spec.to_str().unwrap(), &offline(Path::new("no-cache")))
    }

    #[test]
    fn folders_and_gguf_files_open() {
        let llama = open(&golden("models/tiny-llama")).unwrap();
        assert_eq!((llama.bos_token_id, llama.pad_token_id), (Some(0), Some(3)));
        assert_eq!(llama.eos_token_ids, [2]);
        let text =
            llama.chat_template.unwrap().render(&[json!({"role": "user", "content": "x"})], true).unwrap();
        assert_eq!(text, "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n");
        let gguf = open(&golden("policy/tiny-llama.gguf")).unwrap();
        assert_eq!((gguf.bos_token_id, gguf.pad_token_id), (Some(0), Some(3)));
        assert_eq!(gguf.eos_token_ids, [2]);
        assert_eq!(gguf.assets.tokenizer_config["eos_token"], "<|im_end|>");
        assert_eq!(gguf.chat_template.unwrap().source(), llama.assets.chat_template.unwrap());
    }

    #[test]
    fn a_policy_without_files_saves_and_opens() {
        let dir = tempfile::tempdir().unwrap();
        let (config, weights, assets) = character_policy();
        save_hf(dir.path(), &config, &weights, SaveDtype::F32, &assets).unwrap();
        let policy = open(dir.path()).unwrap();
        assert_eq!(policy.config, config);
        assert_eq!(
            policy.tokenizer.decode(&policy.tokenizer.encode("1 + 2\n", true).unwrap(), true).unwrap(),
            "1 + 2\n"
        );
        for name in weights.names() {
            assert_eq!(policy.weights.load(&name).unwrap(), weights.load(&name).unwrap());
        }
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }

    #[test]
    fn a_run_directory_gives_its_final_or_newest_complete_weights() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path();
        let error = |expected: &str| {
            let message = open(run).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        };
        error("no config.json in it");
        error("no checkpoints/");
        let model = golden("models/tiny-llama");
        copy(&model, &run.join("checkpoints/step-000009/policy"));
        copy(&model, &run.join("checkpoints/step-000010"));
        copy(&model, &run.join("checkpoints/step-000200/policy"));
        copy(&model, &run.join("checkpoints/step-000300.tmp/policy"));
        fs::remove_file(run.join("checkpoints/step-000200/policy/model.safetensors")).unwrap();
        assert_eq!(open(run).unwrap().source, run.join("checkpoints/step-000010"));
        fs::remove_file(run.join("checkpoints/step-000010/config.json")).unwrap();
        assert_eq!(open(run).unwrap().source, run.join("checkpoints/step-000009/policy"));
        assert_eq!(
            open(&run.join("checkpoints/step-000009")).unwrap().source,
            run.join("checkpoints/step-000009/policy")
        );
        copy(&model, &run.join("final"));
        assert_eq!(open(run).unwrap().source, run.join("final"));
        fs::remove_dir_all(run.join("final")).unwrap();
        fs::remove_dir_all(run.join("checkpoints/step-000009")).unwrap();
        error("the checkpoint of step 200 is incomplete");
    }

    #[test]
    fn what_is_no_policy_says_what_was_tried() {
        let dir = tempfile::tempdir().unwrap();
        let error = |spec: &str, expected: &[&str]| {
            let message = PolicyFiles::open_with(spec, &offline(dir.path())).unwrap_err().to_string();
            assert!(expected.iter().all(|e| message.contains(e)), "{message}");
        };
        error("no/such/path", &["no policy at `no/such/path`", "no such file", "not a hub id"]);
        error("./owner/name", &["not a hub id"]);
        error("owner/name", &["hub repository `owner/name`", "HF_HUB_OFFLINE"]);
        fs::write(dir.path().join("m.gguf"), "GGUF").unwrap();
        error(dir.path().to_str().unwrap(), &["it holds m.gguf: give the file itself"]);
        error(
            dir.path().join("m.gguf").to_str().unwrap(),
            &["m.gguf is not a readable weight file", "truncated"],
        );
        let safetensors = golden("models/tiny-llama/model.safetensors");
        error(safetensors.to_str().unwrap(), &["for safetensors give the folder"]);
        copy(&golden("models/tiny-llama"), &dir.path().join("m"));
        fs::remove_file(dir.path().join("m/tokenizer.json")).unwrap();
        error(dir.path().join("m").to_str().unwrap(), &["m has no tokenizer.json"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_nowhere_is_no_missing_file() {
        let dir = tempfile::tempdir().unwrap();
        copy(&golden("models/tiny-llama"), dir.path());
        let names = [
            "generation_config.json",
            "tokenizer_config.json",
            "added_tokens.json",
            "special_tokens_map.json",
        ];
        for name in names {
            let (file, kept) = (dir.path().join(name), fs::read(dir.path().join(name)).ok());
            let _ = fs::remove_file(&file);
            std::os::unix::fs::symlink("../../blobs/gone", &file).unwrap();
            let message = open(dir.path()).unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
            fs::remove_file(&file).unwrap();
            kept.into_iter().for_each(|bytes| fs::write(&file, bytes).unwrap());
        }
        assert!(open(dir.path()).is_ok());
        fs::remove_file(dir.path().join("chat_template.jinja")).unwrap();
        fs::create_dir(dir.path().join("additional_chat_templates")).unwrap();
        std::os::unix::fs::symlink("gone", dir.path().join("additional_chat_templates/a.jinja")).unwrap();
        assert!(open(dir.path()).unwrap_err().to_string().contains("a.jinja"));
    }

    #[test]
    fn what_a_tokenizer_config_says_is_read_refused_or_named() {
        let dir = tempfile::tempdir().unwrap();
        copy(&golden("models/tiny-llama"), dir.path());
        fs::remove_file(dir.path().join("chat_template.jinja")).unwrap();
        let write = |name: &str, value: Value| fs::write(dir.path().join(name), value.to_string()).unwrap();
        let before = crate::golden_json("models/tiny-llama/tokenizer_config.json");
        for (key, value) in [
            ("eos_token", json!(5)),
            ("pad_token", json!({"text": "x"})),
            ("chat_template", json!(5)),
            ("chat_template", json!([{"name": "default"}])),
        ] {
            let mut config = before.clone();
            config[key] = value;
            write("tokenizer_config.json", config);
            let message = open(dir.path()).unwrap_err().to_string();
            assert!(message.contains(&format!("tokenizer_config.json: `{key}` is ")), "{message}");
        }
        write("tokenizer_config.json", before);
        write("special_tokens_map.json", json!({"eos_token": 5}));
        assert!(
            open(dir.path()).unwrap_err().to_string().contains("special_tokens_map.json: `eos_token` is 5")
        );

        let ignored = |config: Value, cutter: Value| {
            let mut json = crate::golden_json("models/tiny-llama/tokenizer.json");
            json["pre_tokenizer"] = cutter;
            // What stands elsewhere in the file says nothing.
            json["post_processor"] = Value::Null;
            let tokenizer = Tokenizer::from_json(json.to_string().as_bytes(), Path::new("t")).unwrap();
            tokenizer_ignored(config.as_object().unwrap(), &tokenizer).join("; ")
        };
        let level = |space: bool| json!({"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": true, "use_regex": true});
        assert_eq!(ignored(json!({"add_prefix_space": true}), level(true)), "");
        let list = json!({"type": "Sequence", "pretokenizers": [level(false)]});
        assert!(ignored(json!({"add_prefix_space": true}), list).contains("`add_prefix_space` = true"));
        assert!(
            ignored(json!({"split_special_tokens": true}), level(true)).contains("`split_special_tokens`")
        );
        assert_eq!(ignored(json!({"split_special_tokens": false}), level(true)), "");
    }

    #[test]
    fn end_tokens_and_templates_come_from_all_files() {
        let dir = tempfile::tempdir().unwrap();
        copy(&golden("models/tiny-llama"), dir.path());
        fs::remove_file(dir.path().join("chat_template.jinja")).unwrap();
        let write = |name: &str, value: Value| fs::write(dir.path().join(name), value.to_string()).unwrap();
        let mut config = crate::golden_json("models/tiny-llama/config.json");
        config["eos_token_id"] = Value::Null;
        config["pad_token_id"] = Value::Null;
        config["bos_token_id"] = Value::Null;
        write("config.json", config);
        write(
            "generation_config.json",
            json!({"eos_token_id": [1, 0, 1, 999], "pad_token_id": 0, "top_p": 0.9}),
        );
        let mut tokenizer_config = json!({
            "eos_token": {"content": "<|im_end|>", "lstrip": false},
            "chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "{{ bos_token }}!"}],
        });
        write("tokenizer_config.json", tokenizer_config.clone());
        write("special_tokens_map.json", json!({"bos_token": "<|endoftext|>", "eos_token": "<|pad|>"}));
        // As in transformers: the map counts where the config has no list of added tokens.
        assert_eq!(open(dir.path()).unwrap().eos_token_ids, [1, 0, 3]);
        tokenizer_config["added_tokens_decoder"] = json!({});
        write("tokenizer_config.json", tokenizer_config);
        let policy = open(dir.path()).unwrap();
        assert_eq!(policy.eos_token_ids, [1, 0, 2]);
        assert_eq!(policy.config.eos_token_ids, policy.eos_token_ids);
        assert_eq!((policy.bos_token_id, policy.pad_token_id), (Some(0), Some(0)));
        assert_eq!(policy.chat_template.unwrap().render::<Value>(&[], false).unwrap(), "<|endoftext|>!");
        assert_eq!(policy.assets.generation_config["top_p"], 0.9);
        write("generation_config.json", json!({"eos_token_id": "</s>"}));
        let message = open(dir.path()).unwrap_err().to_string();
        assert!(message.contains("generation_config.json: `eos_token_id` is not a token id"), "{message}");
    }

    /// Compares a real GGUF file with the bf16 folder made from it, on real text. `RLVR_TEST_MODELS` is a directory with
    /// `*.gguf` beside Hugging Face folders; `RLVR_TEST_TEXT` a text file.
    #[test]
    fn real_models() {
        let Some(models) = std::env::var_os("RLVR_TEST_MODELS").map(PathBuf::from) else { return };
        let entries: Vec<_> = fs::read_dir(&models).unwrap().map(|e| e.unwrap().path()).collect();
        let gguf = entries.iter().find(|p| p.extension().is_some_and(|e| e == "gguf")).expect("a GGUF file");
        let folder = entries.iter().find(|p| p.join("config.json").is_file()).expect("a folder");
        let (a, b) = (open(gguf).unwrap(), open(folder).unwrap());
        assert_eq!(a.config, b.config);
        assert_eq!(a.weights.names(), b.weights.names());
        for name in a.weights.names() {
            let (x, y) = (a.weights.load(&name).unwrap(), b.weights.load(&name).unwrap());
            assert_eq!(x.shape, y.shape);
            let rounded = x.data.iter().map(|v| half::bf16::from_f32(*v).to_f32());
            assert!(rounded.eq(y.data.iter().copied()), "{name}");
        }
        let messages = [json!({"role": "user", "content": "What is 2 + 2?"})];
        let render = |p: &PolicyFiles| p.chat_template.as_ref().unwrap().render(&messages, true).unwrap();
        assert_eq!(render(&a), render(&b));
        let text =
            std::env::var_os("RLVR_TEST_TEXT").map(|p| fs::read_to_string(p).unwrap()).unwrap_or_default();
        let (mut lines, mut tokens) = (0, 0);
        for line in text.lines().chain([render(&a).as_str()]) {
            let ids = a.tokenizer.encode(line, true).unwrap();
            assert_eq!(ids, b.tokenizer.encode(line, true).unwrap(), "{line}");
            assert_eq!(a.tokenizer.decode(&ids, false).unwrap(), line);
            (lines, tokens) = (lines + 1, tokens + ids.len());
        }
        println!("{} tensors equal; {lines} lines, {tokens} tokens equal", a.weights.names().len());
    }
}
