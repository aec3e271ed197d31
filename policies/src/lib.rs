//! Language models that can be sampled from and differentiated, and the files they come from.
//!
//! | to | see |
//! |---|---|
//! | open what a user points at | [`source`]: [`PolicyFiles`], a folder, a GGUF file or a name on the [`hub`]; [`weights`], [`adapter`] |
//! | know the shape of a model | [`config`]: [`ModelConfig`] from `config.json`, one file a family; [`spec`], the decoder as data |
//! | compute with it | [`decoder`]: [`Decoder`], whose passes take [`packed`] batches and give [`targets`] and [`gradients`] |
//! | sample from it | [`decoder::Cache`], keys and values of running sequences |
//! | train a part of it | [`lora`]: [`LoraSettings`] |
//! | see how a block is computed | [`model`]: the passes once, over the operations of [`host`] (CPU) and [`device`] (GPUs) |
//! | turn text into tokens | [`tokenizer`]: [`Tokenizer`]; [`chat_template`]: [`ChatTemplate`] |
//! | give pictures to a model that sees | [`vision`]; [`fresh_tower`], a tower for one that does not |
//! | save it | [`save`]: [`save_hf`], [`save_adapter`] |
//! | see what goes wrong | [`error`]: [`PolicyError`]; [`guard`], panics of other people's code |
//!
//! Model files are hostile input: every one is checked, read within bounds and never mapped. Nothing here knows rewards.

pub mod adapter;
mod added_tokens;
pub mod chat_template;
pub mod config;
pub mod decoder;
pub mod device;
pub mod error;
mod file;
pub mod fresh_tower;
mod gguf_tokenizer;
pub mod gradients;
pub mod guard;
pub mod host;
pub mod http;
pub mod hub;
mod jinja;
pub mod lora;
pub mod memory;
pub mod model;
pub mod packed;
pub mod patterns;
pub mod save;
pub mod source;
pub mod spec;
pub mod targets;
mod template_files;
pub mod tensors;
pub mod tokenizer;
mod tokenizer_growth;
pub mod trained;
pub mod vision;
pub mod weights;

pub use adapter::{AdapterFiles, save_adapter};
pub use chat_template::ChatTemplate;
pub use config::{Architecture, ModelConfig, RopeScaling, Yarn};
pub use decoder::Decoder;
pub use error::PolicyError;
pub use fresh_tower::TowerSizes;
pub use host::narrow::BaseDtype;
pub use lora::{LoraSettings, Targets};
pub use patterns::ParamPattern;
pub use save::{PolicyAssets, SaveDtype, save_hf, save_hf_untied};
pub use source::PolicyFiles;
pub use tokenizer::Tokenizer;
pub use vision::{ImageKey, Picture};
pub use weights::{HostTensor, MemorySource, WeightSource, check_weights, expected_tensors};

/// A file of the repository's `tests/golden`.
#[cfg(test)]
pub(crate) fn golden(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(path)
}

/// A JSON file of the repository's `tests/golden`.
#[cfg(test)]
pub(crate) fn golden_json(path: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(golden(path)).expect(path)).expect(path)
}
