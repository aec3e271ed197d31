//! Reading files that others wrote: within a bound, whole or piece by piece.
//!
//! Nothing is mapped into memory: a mapped file that another program truncates kills the process that reads it.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

use crate::error::PolicyError;

/// A regular file of at most `most` bytes, whole.
///
/// # Errors
/// An unreadable or longer file, or what is no regular file: reading a pipe could wait forever.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>, PolicyError> {
    // One byte more than allowed shows a file that is longer, also one that has grown.
    let bytes = begin(path, most + 1)?;
    if bytes.len() as u64 > most {
        return Err(PolicyError::TooLong { path: path.into(), most });
    }
    Ok(bytes)
}

/// The first bytes of a regular file, at most `most`.
///
/// # Errors
/// As [`read`], but for the length.
pub(crate) fn begin(path: &Path, most: u64) -> Result<Vec<u8>, PolicyError> {
    let mut bytes = Vec::new();
    open(path)?.0.take(most).read_to_end(&mut bytes).map_err(PolicyError::read(path))?;
    Ok(bytes)
}

/// A regular file and its length.
fn open(path: &Path) -> Result<(File, u64), PolicyError> {
    // Before opening, which would wait for the other end of a pipe.
    if !std::fs::metadata(path).map_err(PolicyError::read(path))?.is_file() {
        return Err(PolicyError::NotAFile { path: path.into() });
    }
    let file = File::open(path).map_err(PolicyError::read(path))?;
    let len = file.metadata().map_err(PolicyError::read(path))?.len();
    Ok((file, len))
}

/// Whether a repository's file name stays within the folder that it is joined to.
pub(crate) fn is_inside(file: &str) -> bool {
    let part = |s: &str| (1..=255).contains(&s.len()) && s != "." && s != "..";
    file.len() <= 1024
        && file.split('/').all(part)
        && !file.contains(|c: char| c == '\\' || c.is_control())
        && Path::new(file).components().all(|c| matches!(c, Component::Normal(_)))
}

/// Writes a whole file: under a temporary name beside it, synced, renamed.
///
/// # Errors
/// An unwritable file; the previous one, if any, is then untouched.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), PolicyError> {
    write_atomic(path, |file| file.write_all(bytes).map_err(PolicyError::write(path)))
}

/// The same for what is written piece by piece.
///
/// # Errors
/// As [`write_file`], and those of `fill`.
pub(crate) fn write_atomic(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), PolicyError>,
) -> Result<(), PolicyError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // The same name each time: what a dead process left is written over, not added to.
    let temporary: PathBuf = path.with_file_name(format!(".tmp-{name}"));
    let write = || {
        let file = File::create(&temporary).map_err(PolicyError::write(path))?;
        let mut writer = BufWriter::new(file);
        fill(&mut writer)?;
        let file = writer.into_inner().map_err(|e| PolicyError::write(path)(e.into_error()))?;
        file.sync_all().map_err(PolicyError::write(path))?;
        std::fs::rename(&temporary, path).map_err(PolicyError::write(path))
    };
    write().inspect_err(|_| {
        // Best effort: the error that is returned matters more than a leftover.
        let _ = std::fs::remove_file(&temporary);
    })?;
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|d| d.sync_all()).map_err(PolicyError::write(dir))
}

/// An open weight file whose bytes are read where and when they are needed.
#[derive(Debug)]
pub(crate) struct WeightFile {
    path: PathBuf,
    file: File,
    len: u64,
}

impl WeightFile {
    /// # Errors
    /// An unreadable or empty file, or what is no regular file.
    pub fn open(path: &Path) -> Result<Self, PolicyError> {
        let (file, len) = open(path)?;
        if len == 0 {
            return Err(PolicyError::corrupt(path, "it is empty"));
        }
        Ok(Self { path: path.into(), file, len })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that it had when it was opened.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The file from its begin.
    pub fn reader(&self) -> impl Read + '_ {
        std::io::BufReader::new(At { file: self, at: 0 })
    }

    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    /// A file that cannot be read there, or that ends before.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), PolicyError> {
        read_exact_at(&self.file, offset, out).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => PolicyError::corrupt(
                &self.path,
                format!("it ends before byte {} (truncated while it was read?)", offset + out.len() as u64),
            ),
            _ => PolicyError::read(&self.path)(e),
        })
    }
}

struct At<'a> {
    file: &'a WeightFile,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = read_at(&self.file.file, self.at, out)?;
        self.at += n as u64;
        Ok(n)
    }
}

#[cfg(unix)]
fn read_at(file: &File, offset: u64, out: &mut [u8]) -> std::io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, out, offset)
}

#[cfg(windows)]
fn read_at(file: &File, offset: u64, out: &mut [u8]) -> std::io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, out, offset)
}

fn read_exact_at(file: &File, mut offset: u64, mut out: &mut [u8]) -> std::io::Result<()> {
    while !out.is_empty() {
        match read_at(file, offset, out) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                out = &mut out[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_or_no_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        let message = read(&path, 4).unwrap_err().to_string();
        assert!(message.contains("x.json has more than 4 bytes"), "{message}");
        assert!(read(dir.path(), 4).unwrap_err().to_string().contains("not a regular file"));
        #[cfg(target_os = "linux")]
        {
            let pipe = dir.path().join("pipe");
            rustix::fs::mknodat(
                rustix::fs::CWD,
                &pipe,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::from_raw_mode(0o600),
                0,
            )
            .unwrap();
            assert!(read(&pipe, 4).unwrap_err().to_string().contains("not a regular file"));
            assert!(WeightFile::open(&pipe).unwrap_err().to_string().contains("not a regular file"));
        }
    }

    #[test]
    fn a_file_that_is_truncated_while_it_is_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights");
        std::fs::write(&path, vec![7; 1 << 16]).unwrap();
        let file = WeightFile::open(&path).unwrap();
        let mut out = [0; 16];
        file.read_at((1 << 16) - 16, &mut out).unwrap();
        assert_eq!(out, [7; 16]);
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap();
        let message = file.read_at((1 << 16) - 16, &mut out).unwrap_err().to_string();
        assert!(message.contains("weights") && message.contains("truncated"), "{message}");
    }
}
