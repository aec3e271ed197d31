//! A directory that one process writes into at a time.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::{Error, IoError};

/// Name of the file that is locked.
pub(crate) const LOCK_FILE: &str = ".lock";

/// A directory held by this process until dropped.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Holds a directory that exists, against other processes. The file that is locked stays behind, empty.
    ///
    /// # Errors
    /// [`Error::DirLocked`], or [`Error::Io`] where nothing can be written into it.
    pub fn take(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(LOCK_FILE);
        let file = File::create(&path).map_err(IoError::at("write into the directory", dir))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::DirLocked { path: dir.to_path_buf() }),
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
    /// [`Error::DirLocked`].
    pub fn check(dir: &Path) -> Result<(), Error> {
        match File::open(dir.join(LOCK_FILE)).map(|file| file.try_lock()) {
            Ok(Err(TryLockError::WouldBlock)) => Err(Error::DirLocked { path: dir.to_path_buf() }),
            _ => Ok(()),
        }
    }
}
