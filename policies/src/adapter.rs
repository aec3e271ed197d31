//! The folder of an adapter: `adapter_config.json` and `adapter_model.safetensors`.
use crate::decoder::Decoder;
use crate::error::PolicyError;
use crate::file;
use crate::lora::{LoraSettings, lora_error};
use crate::save::{PolicyAssets, SaveDtype, save_text, write_safetensors};
use crate::spec::{ParamLayout, ParamSpec};
use crate::tensors::WeightSource;
use crate::weights::SafetensorsSource;
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};

/// Longest `adapter_config.json` that is read, in bytes.
const MAX_CONFIG: u64 = 1 << 22;
/// Its name.
pub(crate) const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// An adapter in a folder, whose weights are not read yet.
pub struct AdapterFiles {
    /// What it adapts, and how.
    pub settings: LoraSettings,
    /// `base_model_name_or_path`: the policy that it is one of, as its file says.
    pub base: Option<String>,
    /// The folder.
    pub folder: PathBuf,
    weights: SafetensorsSource,
}

impl AdapterFiles {
    /// Whether a folder holds an adapter.
    pub fn are_in(folder: &Path) -> bool {
        folder.join(CONFIG).is_file()
    }

    /// Opens a folder.
    ///
    /// # Errors
    /// A file that is missing or damaged, a setting that is not supported.
    pub fn open(folder: &Path) -> Result<Self, PolicyError> {
        let path = folder.join(CONFIG);
        let map: Map<String, Value> =
            serde_json::from_slice(&file::read(&path, MAX_CONFIG)?).map_err(PolicyError::json(&path))?;
        let settings = LoraSettings::from_peft(&map, &path)?;
        let weights = folder.join(WEIGHTS);
        if !weights.is_file() {
            let missing = format!("{WEIGHTS} (adapter_model.bin is not read: it can run code)");
            return Err(PolicyError::MissingFile { path: folder.into(), missing });
        }
        let base = map.get("base_model_name_or_path").and_then(Value::as_str).map(str::to_owned);
        Ok(Self { settings, base, folder: folder.into(), weights: SafetensorsSource::open_file(&weights)? })
    }

    /// The decoder with this adapter.
    ///
    /// # Errors
    /// Targets that the decoder has not, tensors that are missing, of another shape, not finite, or of no layer that the
    /// settings name.
    pub fn onto(&self, decoder: Decoder) -> Result<Decoder, PolicyError> {
        let used = |layout: &ParamLayout, base: usize| {
            let names: Vec<&str> = layout.specs[base..].iter().flat_map(ParamSpec::hf_names).collect();
            let foreign = self.weights.names().into_iter().find(|name| !names.contains(&name.as_str()));
            foreign.map_or(Ok(()), |name| {
                let path = self.weights.path().display();
                Err(lora_error(format!("{path}: no layer that {CONFIG} names has the tensor `{name}`")))
            })
        };
        let count = decoder.layout().specs.len();
        let decoder = decoder.with_lora(self.settings.clone(), |_, spec| spec.load(&self.weights))?;
        used(decoder.layout(), count)?;
        Ok(decoder)
    }
}

/// Writes the adapter of a decoder over `base` as PEFT does, `adapter_model.safetensors` and `adapter_config.json`, with what
/// stands between text and tokens. The config comes last: a folder that has it is whole.
///
/// # Errors
/// A decoder without an adapter, an unwritable folder.
pub fn save_adapter(
    dir: &Path,
    decoder: &Decoder,
    base: &str,
    assets: &PolicyAssets,
) -> Result<(), PolicyError> {
    let Some(settings) = decoder.lora() else {
        return Err(lora_error("the policy has no adapter that could be saved".into()));
    };
    fs::create_dir_all(dir).map_err(PolicyError::write(dir))?;
    let mut tensors: Vec<(String, Vec<usize>)> = Vec::new();
    for spec in decoder.layout().specs.iter().skip(decoder.base_params()) {
        tensors.extend(spec.hf_shapes().map(|(name, shape)| (name.to_owned(), shape)));
    }
    tensors.sort();
    write_safetensors(&dir.join(WEIGHTS), &tensors, SaveDtype::F32, |name| decoder.load(name))?;
    save_text(dir, decoder.config(), assets)?;
    let text = format!("{:#}\n", settings.to_peft_of(decoder.layout(), base)?);
    file::write_file(&dir.join(CONFIG), text.as_bytes())
}
