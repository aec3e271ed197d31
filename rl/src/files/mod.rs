//! Files: where output goes and how it survives a crash, input with its lines, locks, encodings, rows and tensors in
//! files.

pub mod destination;
pub mod encoding;
pub mod jsonl;
pub mod lock;
pub mod source;
pub mod tensors;

use std::io;
use std::path::{Path, PathBuf};

/// An operation of the file system that failed, with its path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}{}", path.display(), hint(source))]
pub struct IoError {
    /// What was tried, as a verb phrase: `write`, `create the directory`.
    pub action: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

impl IoError {
    /// A closure for `map_err`: `File::open(p).map_err(IoError::at("open", p))`.
    pub fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self { action, path, source }
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ": the disk is full",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ": it is not writable or readable for this user"
        }
        io::ErrorKind::IsADirectory => ": it is a directory, a file name is needed",
        io::ErrorKind::ResourceBusy => ": another process is writing it",
        _ => "",
    }
}
