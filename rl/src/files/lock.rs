//! A directory that one process writes into at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::files::{IoError, open_own};

/// Name of the file that is locked.
pub(crate) const LOCK_FILE: &str = ".lock";

/// Why a directory is not held.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("{} is in use by another process", path.display())]
    Held {
        /// The directory.
        path: PathBuf,
    },
    /// Nothing can be written into it.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// A directory held by this process until dropped.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Holds a directory that exists, against other processes. The file that is locked stays behind, empty.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join(LOCK_FILE);
        let file = open_own(&path, OpenOptions::new().write(true).create(true).truncate(false))
            .map_err(IoError::at("write into the directory", dir))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held { path: dir.to_path_buf() }),
            // Some network file systems have no locks.
            Err(TryLockError::Error(source)) => {
                tracing::warn!(path = %path.display(), %source, "cannot lock")
            }
        }
        Ok(Self { _file: file })
    }

    /// Refuses a directory that another process holds; changes nothing.
    ///
    /// # Errors
    /// [`LockError::Held`].
    pub fn check(dir: &Path) -> Result<(), LockError> {
        let file = open_own(&dir.join(LOCK_FILE), OpenOptions::new().read(true));
        match file.map(|file| file.try_lock()) {
            Ok(Err(TryLockError::WouldBlock)) => Err(LockError::Held { path: dir.to_path_buf() }),
            _ => Ok(()),
        }
    }
}
