//! Files: where output goes and how it survives a crash, input with its lines, locks, encodings, rows and tensors in
//! files.

pub mod bounded;
pub mod destination;
pub mod digits;
pub mod encoding;
pub mod jsonl;
pub mod lock;
pub mod picture;
pub mod source;
pub mod tensors;

use std::fs::{self, File, OpenOptions};
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

/// Whether a regular file is at `path`; false where nothing is. Never waits and follows no link.
///
/// # Errors
/// Anything else that is there, with what it is.
pub fn is_own_file(path: &Path) -> Result<bool, IoError> {
    match fs::symlink_metadata(path) {
        Ok(found) => regular(&found).map(|()| true).map_err(IoError::at("use", path)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(IoError::at("look at", path)(e)),
    }
}

/// Opens a file as `options` say, if it is a regular one: no link is followed, and no pipe waited for.
pub(crate) fn open_own(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // What stands there is named before the system says that it has too many links.
    if let Ok(found) = fs::symlink_metadata(path) {
        regular(&found)?;
    }
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(path)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

fn regular(found: &fs::Metadata) -> io::Result<()> {
    let kind = found.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_symlink() => {
            "it is a symbolic link, which is not followed here: put the file itself in its place"
        }
        () if kind.is_dir() => "it is a directory, and a file is needed",
        () => "it is not a regular file but a pipe, a socket or a device",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
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
