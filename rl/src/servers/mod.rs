//! Servers of completions: what they are asked over HTTP, what they answer, how requests are kept in bounds.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | what is asked and answered, whoever is asked |
//! | `vllm.rs`, `sglang.rs` | how each kind says it |
//! | `server.rs` | requests with JSON in and out |
//! | `dispatch.rs` | requests in flight, bounded, tried again, ended |
//! | `error.rs` | what goes wrong |

pub(crate) mod dispatch;
mod error;
mod server;
mod sglang;
mod vllm;

use std::fmt::Debug;
use std::path::Path;

use rlvr_rollout::SamplingParams;
use serde_json::Value;

use crate::config::EngineKind;

pub use error::EngineError;
pub(crate) use server::Server;

/// How servers of a kind are spoken to.
pub(crate) fn protocol(kind: EngineKind) -> Box<dyn Protocol> {
    match kind {
        EngineKind::Vllm => Box::<vllm::Vllm>::default(),
        EngineKind::Sglang => Box::new(sglang::Sglang),
    }
}

/// What a server is asked to complete.
pub(crate) struct Ask<'a> {
    pub(crate) id: &'a str,
    pub(crate) model: &'a str,
    /// Whether `model` is an adapter that was handed over.
    pub(crate) adapter: bool,
    pub(crate) ids: &'a [u32],
    pub(crate) samples: usize,
    pub(crate) seed: u64,
    pub(crate) sampling: &'a SamplingParams,
    pub(crate) max_tokens: usize,
    /// Ids that end a completion.
    pub(crate) ends: &'a [u32],
}

/// How a server says that a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Stop,
    Length,
    Abort,
}

/// A completion as a server sends it.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) index: usize,
    pub(crate) token_ids: Vec<u32>,
    /// Of the distribution that was sampled from, nats.
    pub(crate) logprobs: Vec<f64>,
    pub(crate) ended: Ended,
    /// Names of the weights that sampled it, if the server says so.
    pub(crate) versions: Option<Vec<String>>,
}

/// What a server says of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// Names of its models.
    pub(crate) models: Vec<String>,
    /// Longest sequence, tokens.
    pub(crate) context: Option<u64>,
    /// As PyTorch calls it, without `torch.`.
    pub(crate) dtype: Option<String>,
    /// A setting that makes it useless, and what to do.
    pub(crate) wrong: Option<String>,
}

/// What servers of a kind are asked, and how they answer.
pub(crate) trait Protocol: Debug + Send + Sync {
    fn facts(&self, server: &Server) -> Result<Facts, EngineError>;
    fn sample(&self, server: &Server, ask: &Ask<'_>) -> Result<Vec<Choice>, EngineError>;
    fn abort(&self, server: &Server, ids: &[String]) -> Result<(), EngineError>;
    fn load_folder(&self, server: &Server, folder: &Path, version: &str) -> Result<(), EngineError>;
    /// The name of the weights, if the server knows one.
    fn version(&self, server: &Server) -> Result<Option<String>, EngineError>;
    fn load_adapter(&self, server: &Server, name: &str, folder: &Path) -> Result<(), EngineError>;
    fn unload_adapter(&self, server: &Server, name: &str) -> Result<(), EngineError>;
}

/// Token ids of a JSON array.
pub(crate) fn ids(value: &Value) -> Option<Vec<u32>> {
    value.as_array()?.iter().map(|id| u32::try_from(id.as_u64()?).ok()).collect()
}
