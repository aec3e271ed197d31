//! What ends a run on several ranks.

use serde::{Deserialize, Serialize};

/// Why ranks cannot begin, or cannot go on together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum RanksError {
    /// The variables of a launcher, or a setting, that do not fit together.
    #[error("{what}")]
    Setup {
        /// What, with a hint.
        what: String,
    },
    /// Ranks that do not find each other.
    #[error("{what}")]
    Meeting {
        /// Who did not come, or who else was there, with a hint.
        what: String,
    },
    /// A rank that is gone, or says nothing.
    #[error("rank {rank} of {size} {why}; the others have ended, too: go on with --resume")]
    Lost {
        /// Which one.
        rank: usize,
        /// How many there are.
        size: usize,
        /// What became of it.
        why: String,
    },
    /// Another rank has ended the run.
    #[error("rank {rank}: {what}")]
    Told {
        /// Which one.
        rank: usize,
        /// The exit code that it ends with.
        code: u8,
        /// Its error.
        what: String,
    },
    /// Ranks that do not compute the same.
    #[error("{what}")]
    Apart {
        /// How they differ, with a hint.
        what: String,
    },
}

impl RanksError {
    /// The exit code of a command that ends by it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Setup { .. } => 2,
            Self::Told { code, .. } => *code,
            Self::Meeting { .. } | Self::Lost { .. } | Self::Apart { .. } => 1,
        }
    }
}
