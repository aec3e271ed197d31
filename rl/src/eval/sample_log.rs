//! The samples of an evaluation on disk: written chunk by chunk, so that an interrupted one goes on where it stopped.
//!
//! A directory holds `settings.json`, which says everything the samples depend on, and `samples.jsonl`. A half-written
//! last row is dropped; whether the chunk it belongs to is complete is up to the caller, who knows its rows.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::Error;
use crate::files::bounded::{self, SMALL, read_own};
use crate::files::destination::replace_atomic;
use crate::files::lock::DirLock;
use crate::files::{IoError, is_own_file, open_own};

/// File with the settings.
pub const SETTINGS: &str = "settings.json";
/// File with the samples.
pub const SAMPLES: &str = "samples.jsonl";

/// The samples of an evaluation that runs. Its directory is held against other processes.
#[derive(Debug)]
pub struct SampleLog {
    path: PathBuf,
    file: File,
    _lock: DirLock,
}

impl SampleLog {
    /// Starts an evaluation in `dir`, or goes on with the one that is there; also gives the rows that are done.
    ///
    /// # Errors
    /// The directory holds an evaluation with other settings (the message names them) or samples without settings,
    /// unless `force` replaces them; another process writes into it; or it cannot be written.
    pub fn open(dir: &Path, settings: &Value, force: bool) -> Result<(Self, Vec<Map<String, Value>>), Error> {
        std::fs::create_dir_all(dir).map_err(IoError::at("create the directory", dir))?;
        let lock = DirLock::take(dir)?;
        let (settings_path, path) = (dir.join(SETTINGS), dir.join(SAMPLES));
        let mut rows = Vec::new();
        if !force && is_own_file(&path)? {
            let old =
                read_own(&settings_path, SMALL).ok().and_then(|text| serde_json::from_slice(&text).ok());
            match old {
                Some(old) if &old == settings => rows = read(&path)?,
                old => {
                    let what = refusal(dir, old.as_ref(), settings);
                    return Err(Error::OtherEvaluation { path: dir.to_owned(), what });
                }
            }
        }
        let text = format!("{settings:#}\n");
        replace_atomic(&settings_path, text.as_bytes())?;
        let log = Self { file: Self::rewrite(&path, &rows)?, path, _lock: lock };
        Ok((log, rows))
    }

    /// Replaces all rows.
    fn rewrite(path: &Path, rows: &[Map<String, Value>]) -> Result<File, Error> {
        replace_atomic(path, &lines(rows))?;
        Ok(open_own(path, OpenOptions::new().append(true)).map_err(IoError::at("open", path))?)
    }

    /// Keeps these rows and no others: those of complete chunks.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn keep(&mut self, rows: &[Map<String, Value>]) -> Result<(), Error> {
        self.file = Self::rewrite(&self.path, rows)?;
        Ok(())
    }

    /// Appends the rows of a chunk.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn append(&mut self, rows: &[Map<String, Value>]) -> Result<(), Error> {
        let mut write = || {
            self.file.write_all(&lines(rows))?;
            self.file.sync_data()
        };
        Ok(write().map_err(IoError::at("write", &self.path))?)
    }
}

fn lines(rows: &[Map<String, Value>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for row in rows {
        // A map of JSON values always has a text.
        bytes.extend(serde_json::to_vec(row).unwrap_or_default());
        bytes.push(b'\n');
    }
    bytes
}

/// The whole rows of a file; what stands behind its last newline was being written.
fn read(path: &Path) -> Result<Vec<Map<String, Value>>, Error> {
    let file = open_own(path, OpenOptions::new().read(true)).map_err(IoError::at("read", path))?;
    let (mut reader, mut bytes, mut rows) = (BufReader::new(file), Vec::new(), Vec::new());
    for line in 1.. {
        let bad = |e: &dyn Display| Error::Unusable {
            what: format!("{}:{line}: not a row of samples: {e}; replace it with --force", path.display()),
        };
        let read = bounded::line(&mut reader, &mut bytes).map_err(|e| bad(&e))?;
        if read == 0 || !bytes.ends_with(b"\n") {
            break;
        }
        if read > 1 {
            rows.push(serde_json::from_slice(&bytes).map_err(|e| bad(&e))?);
        }
    }
    Ok(rows)
}

/// Why settings may not replace the evaluation that lies in `dir`, with what differs; `old` are its settings.
pub fn refusal(dir: &Path, old: Option<&Value>, new: &Value) -> String {
    let shown = dir.display();
    let way = "replace it with --force or choose another --out";
    let Some(old) = old else { return format!("{shown} already holds {SAMPLES}: {way}") };
    let mut changes = Vec::new();
    differences("", old, new, &mut changes);
    format!("{shown} holds an evaluation with other settings; {way}:\n  {}", changes.join("\n  "))
}

/// One line for each leaf that differs.
fn differences(at: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys {
                let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                let none = Value::Null;
                differences(&at, a.get(key).unwrap_or(&none), b.get(key).unwrap_or(&none), found);
            }
        }
        _ if old != new => found.push(format!("{at}: {old} → {new}")),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(id: u64) -> Map<String, Value> {
        json!({ "id": id }).as_object().unwrap().clone()
    }

    #[test]
    fn goes_on_after_a_torn_row_and_refuses_other_settings() {
        let dir = tempfile::tempdir().unwrap();
        let settings = json!({"seed": 1, "tasks": {"t": {"hash": "a"}}});
        let (mut log, rows) = SampleLog::open(dir.path(), &settings, false).unwrap();
        assert!(rows.is_empty());
        log.append(&[row(1), row(2)]).unwrap();
        log.file.write_all(b"{\"id\": 3, \"te").unwrap();
        let busy = SampleLog::open(dir.path(), &settings, false).unwrap_err();
        assert!(matches!(busy, Error::DirLocked { .. }), "{busy}");
        drop(log);
        let (mut log, rows) = SampleLog::open(dir.path(), &settings, false).unwrap();
        assert_eq!(rows, [row(1), row(2)]);
        log.keep(&rows[..1]).unwrap();
        log.append(&[row(4)]).unwrap();
        let text = std::fs::read_to_string(dir.path().join(SAMPLES)).unwrap();
        assert_eq!(text, "{\"id\":1}\n{\"id\":4}\n");
        drop(log);

        let other = json!({"seed": 2, "tasks": {"t": {"hash": "b"}}});
        let error = SampleLog::open(dir.path(), &other, false).unwrap_err().to_string();
        assert!(
            error.contains("seed: 1 → 2") && error.contains("tasks.t.hash") && error.contains("--force"),
            "{error}"
        );
        assert!(SampleLog::open(dir.path(), &other, true).unwrap().1.is_empty());
        std::fs::remove_file(dir.path().join(SETTINGS)).unwrap();
        let error = SampleLog::open(dir.path(), &other, false).unwrap_err().to_string();
        assert!(error.contains("already holds samples.jsonl"), "{error}");
    }
}
