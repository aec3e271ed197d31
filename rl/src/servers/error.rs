//! What can go wrong between a run and the servers that sample for it.

use rlvr_policies::http::HttpError;

/// Failure of an engine. Every message says which server, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A server that is away, slow or breaks off, after all tries.
    #[error("engine {0}")]
    Http(#[from] HttpError),
    /// A server that refuses, with its words.
    #[error("engine {url}: status {status} ({said}){hint}")]
    Status {
        /// The address asked.
        url: String,
        /// The status.
        status: u16,
        /// What the answer says.
        said: String,
        /// What to do, behind a colon; or nothing.
        hint: String,
    },
    /// A server whose answer makes no sense.
    #[error("engine {url}: {what}")]
    Answer {
        /// The address asked.
        url: String,
        /// What is wrong with it.
        what: String,
    },
    /// A server that does not sample from the policy, or not from what was handed over.
    #[error("engine {url}: {what}")]
    Disagrees {
        /// The server.
        url: String,
        /// What differs, by how much, with a hint.
        what: String,
    },
    /// Something that an engine outside cannot do.
    #[error("[engine]: {0}")]
    Unsupported(String),
}

impl EngineError {
    /// Whether the same request may succeed another time, or with another server.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Http(error) => error.may_pass(),
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
            // Torn or mixed up on its way.
            Self::Answer { .. } => true,
            Self::Disagrees { .. } | Self::Unsupported(_) => false,
        }
    }

    /// Whether it is the config that is wrong, and not what happened.
    pub fn is_input(&self) -> bool {
        matches!(self, Self::Disagrees { .. } | Self::Unsupported(_))
    }
}
