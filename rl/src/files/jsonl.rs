//! A JSON Lines file that grows with a run, survives `kill -9`, and continues where a checkpoint stands.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::destination::{Destination, Pending, is_at};
use crate::files::{IoError, bounded, open_own};

/// A file of rows that each have a `step`, in ascending order.
#[derive(Debug)]
pub struct JsonlLog {
    path: PathBuf,
    file: BufWriter<File>,
    /// Whether it can be seen that the file goes: not where files have other numbers each time they are looked at.
    watched: bool,
}

/// What [`JsonlLog::resume`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cut {
    /// Rows that stay.
    pub kept: u64,
    /// Step of the last row that stays.
    pub last_step: Option<u64>,
    /// Bytes taken off the end.
    pub removed_bytes: u64,
}

impl JsonlLog {
    /// An empty file, replacing one that exists.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: &Path) -> Result<Self, IoError> {
        Ok(Self::of(path, open(path, true).map_err(IoError::at("create", path))?))
    }

    /// Cuts off every row after `step`, and a row that was not written to its end, then appends.
    ///
    /// A file that does not exist is created.
    ///
    /// # Errors
    /// When the file cannot be read or cut.
    pub fn resume(path: &Path, step: u64) -> Result<(Self, Cut), IoError> {
        let mut file = open(path, false).map_err(IoError::at("open", path))?;
        let (keep, mut cut) = scan(&file, step).map_err(IoError::at("read", path))?;
        let size = file.metadata().map_err(IoError::at("read", path))?.len();
        cut.removed_bytes = size - keep;
        if cut.removed_bytes > 0 {
            file.set_len(keep).map_err(IoError::at("cut", path))?;
            tracing::info!(path = %path.display(), step, bytes = cut.removed_bytes, "cut off rows after the checkpoint");
        }
        file.seek(SeekFrom::End(0)).map_err(IoError::at("open", path))?;
        Ok((Self::of(path, file), cut))
    }

    fn of(path: &Path, file: File) -> Self {
        let watched = is_at(&file, path).unwrap_or(false);
        Self { path: path.to_path_buf(), file: BufWriter::new(file), watched }
    }

    /// Appends one row; it reaches the operating system with the next [`JsonlLog::flush`].
    ///
    /// # Errors
    /// When the row cannot be written.
    pub fn write(&mut self, row: &impl Serialize) -> Result<(), IoError> {
        let mut line = serde_json::to_vec(row).map_err(|e| IoError::at("write", &self.path)(e.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(IoError::at("write", &self.path))
    }

    /// Hands everything to the operating system, where it survives the end of the process. A file that somebody removed
    /// or replaced in the meantime is written again, with all its rows.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn flush(&mut self) -> Result<(), IoError> {
        self.file.flush().map_err(IoError::at("write", &self.path))?;
        let here = || is_at(self.file.get_ref(), &self.path).map_err(IoError::at("look at", &self.path));
        if !self.watched || here()? {
            return Ok(());
        }
        tracing::warn!("{} was removed or replaced by somebody; it is written again", self.path.display());
        self.restore()
    }

    /// Writes the rows of the open file, which has no name any more, under its name.
    fn restore(&mut self) -> Result<(), IoError> {
        let mut again = Pending::create(Destination::File(self.path.clone()))?;
        let mut old = self.file.get_ref();
        let copied = old.rewind().and_then(|()| io::copy(&mut old, &mut again));
        copied.map_err(IoError::at("write", &self.path))?;
        again.finish()?;
        let mut file = open(&self.path, false).map_err(IoError::at("open", &self.path))?;
        file.seek(SeekFrom::End(0)).map_err(IoError::at("open", &self.path))?;
        *self = Self::of(&self.path, file);
        Ok(())
    }

    /// Hands everything to the disk, where it survives the end of the machine's power.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sync(&mut self) -> Result<(), IoError> {
        self.flush()?;
        self.file.get_ref().sync_data().map_err(IoError::at("sync", &self.path))
    }
}

fn open(path: &Path, empty: bool) -> io::Result<File> {
    open_own(path, OpenOptions::new().read(true).write(true).create(true).truncate(empty))
}

/// The number of bytes that hold whole rows up to `step`.
fn scan(file: &File, step: u64) -> io::Result<(u64, Cut)> {
    #[derive(Deserialize)]
    struct Step {
        step: u64,
    }
    let (mut keep, mut cut) = (0, Cut::default());
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        let read = match bounded::line(&mut reader, &mut line) {
            // No row that was written here is as long.
            Err(e) if e.kind() == io::ErrorKind::FileTooLarge => return Ok((keep, cut)),
            read => read?,
        };
        let whole = line.last() == Some(&b'\n');
        match serde_json::from_slice::<Step>(&line) {
            Ok(row) if whole && row.step <= step => {
                keep += read as u64;
                cut.kept += 1;
                cut.last_step = Some(row.step);
            }
            _ => return Ok((keep, cut)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn resuming_anywhere_gives_the_file_of_an_uninterrupted_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.jsonl");
        let row = |step: u64| json!({"step": step, "text": format!("row\n{step}")});
        let write = |log: &mut JsonlLog, steps: std::ops::Range<u64>| {
            for step in steps {
                log.write(&row(step)).unwrap();
                log.write(&row(step)).unwrap();
            }
            log.flush().unwrap();
        };
        let mut log = JsonlLog::create(&path).unwrap();
        write(&mut log, 0..6);
        drop(log);
        let whole = std::fs::read(&path).unwrap();
        let checkpoint = 3;
        let needed = whole.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(7).unwrap().0 + 1;
        for length in needed..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let (mut log, cut) = JsonlLog::resume(&path, checkpoint).unwrap();
            assert_eq!((cut.kept, cut.last_step), (8, Some(3)));
            write(&mut log, checkpoint + 1..6);
            drop(log);
            assert_eq!(std::fs::read(&path).unwrap(), whole, "{length}");
        }
    }

    #[test]
    fn a_file_that_somebody_removes_or_replaces_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.jsonl");
        let mut log = JsonlLog::create(&path).unwrap();
        let mut write = |step: u64| {
            log.write(&json!({ "step": step })).unwrap();
            log.flush().unwrap();
        };
        write(1);
        std::fs::remove_file(&path).unwrap();
        write(2);
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        std::fs::write(&path, "edited by hand\n").unwrap();
        write(3);
        write(4);
        let rows: String = (1..=4).map(|step| format!("{{\"step\":{step}}}\n")).collect();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), rows);
        let (_, cut) = JsonlLog::resume(&path, 4).unwrap();
        assert_eq!((cut.kept, cut.removed_bytes), (4, 0));
        // Also by a link, whose target is another's.
        #[cfg(unix)]
        {
            let target = dir.path().join("target");
            std::fs::write(&target, "another's\n").unwrap();
            std::fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink(&target, &path).unwrap();
            log.write(&json!({ "step": 5 })).unwrap();
            log.flush().unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), rows.clone() + "{\"step\":5}\n");
            assert_eq!(std::fs::read_to_string(&target).unwrap(), "another's\n");
            assert!(path.symlink_metadata().unwrap().is_file());
        }
        // Without its directory it cannot be.
        let mut log = JsonlLog::create(&path).unwrap();
        std::fs::remove_dir_all(dir.path()).unwrap();
        log.write(&json!({ "step": 5 })).unwrap();
        assert!(log.flush().unwrap_err().to_string().contains("m.jsonl"));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed_and_pipes_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.jsonl");
        let target = dir.path().join("target");
        std::fs::write(&target, "another's\n").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        let refused = |part: &str| {
            for outcome in [JsonlLog::create(&path).map(drop), JsonlLog::resume(&path, 1).map(drop)] {
                let error = outcome.unwrap_err();
                assert!(error.source.to_string().contains(part), "{error}: {}", error.source);
            }
        };
        refused("it is a symbolic link");
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "another's\n");
        std::fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        refused("it is not a regular file");
    }

    #[test]
    fn missing_and_empty_files_are_new_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.jsonl");
        let (_, cut) = JsonlLog::resume(&path, 9).unwrap();
        assert_eq!(cut, Cut::default());
        let error = JsonlLog::create(&dir.path().join("no/m.jsonl")).unwrap_err();
        assert!(error.to_string().contains("no/m.jsonl"));
    }
}
