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

/// A lock of a file until this is dropped.
///
/// Closing the file would not do: a program that another thread starts has the same open file, and with it the lock, until it
/// is executed.
#[derive(Debug)]
pub(crate) struct Held(pub(crate) File);

impl Drop for Held {
    fn drop(&mut self) {
        // What had no lock has none to lose.
        let _ = self.0.unlock();
    }
}

/// A directory held by this process until dropped.
#[derive(Debug)]
pub struct DirLock {
    _file: Held,
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
        Ok(Self { _file: Held(file) })
    }

    /// Refuses a directory that another process holds; changes nothing.
    ///
    /// # Errors
    /// [`LockError::Held`].
    pub fn check(dir: &Path) -> Result<(), LockError> {
        let file = open_own(&dir.join(LOCK_FILE), OpenOptions::new().read(true));
        match file.map(|file| file.try_lock().map(|()| Held(file))) {
            Ok(Err(TryLockError::WouldBlock)) => Err(LockError::Held { path: dir.to_path_buf() }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_holder_though_a_started_program_has_the_file_too() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirLock::take(dir.path()).unwrap();
        assert!(matches!(DirLock::take(dir.path()), Err(LockError::Held { .. })));
        assert!(matches!(DirLock::check(dir.path()), Err(LockError::Held { .. })));
        // The same open file, as between fork and exec.
        let inherited = lock._file.0.try_clone().unwrap();
        drop(lock);
        DirLock::check(dir.path()).unwrap();
        DirLock::take(dir.path()).unwrap();
        drop(inherited);
    }
}
