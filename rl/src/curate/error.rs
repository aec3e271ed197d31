//! Why a curation step cannot be done.

use std::path::{Path, PathBuf};

use crate::files::IoError;
use crate::files::destination::OutputError;

/// Why a curation step ended without output.
#[derive(Debug, thiserror::Error)]
pub enum CurateError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A row cannot be used.
    #[error("{}:{line}: {message}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Line of the row, from 1.
        line: usize,
        /// What is wrong with it, with a hint.
        message: String,
    },
    /// A file as a whole cannot be used.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, with a hint.
        message: String,
    },
    /// A setting makes no sense.
    #[error("{0}")]
    Setting(String),
    /// The output cannot be written where it was named.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The policy cannot be used.
    #[error("{0}")]
    Policy(String),
}

impl CurateError {
    /// An error of a whole file.
    pub(crate) fn file(path: &Path, message: impl Into<String>) -> Self {
        Self::File { path: path.to_path_buf(), message: message.into() }
    }

    /// An error of one line, from 1.
    pub(crate) fn row(path: &Path, line: usize, message: impl Into<String>) -> Self {
        Self::Row { path: path.to_path_buf(), line, message: message.into() }
    }
}
