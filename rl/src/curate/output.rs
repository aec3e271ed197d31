//! What a step writes: rows under a temporary name, counts, and at the end the file and its manifest at once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::error::CurateError;
use super::manifest::{FileRecord, Manifest, StepRecord};
use super::row::Row;
use super::scan::{Input, hex};
use crate::error::IoError;
use crate::run_dir::{sync_dir, write_atomic};

/// A file that is written under a temporary name and appears when it is finished.
struct Writer {
    path: PathBuf,
    temporary: PathBuf,
    file: Option<BufWriter<File>>,
    hash: Sha256,
    rows: u64,
}

impl Writer {
    fn create(path: &Path, force: bool) -> Result<Self, CurateError> {
        if path.file_name().is_none() || path.is_dir() {
            return Err(CurateError::file(path, "is a directory, a file name is needed"));
        }
        if !force && path.exists() {
            return Err(CurateError::Exists { path: path.to_path_buf() });
        }
        if let Some(dir) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::create_dir_all(dir).map_err(IoError::at("create the directory", dir))?;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".tmp-{name}"));
        let file = File::create(&temporary).map_err(IoError::at("write", path))?;
        let file = Some(BufWriter::with_capacity(1 << 18, file));
        Ok(Self { path: path.to_path_buf(), temporary, file, hash: Sha256::new(), rows: 0 })
    }

    fn line(&mut self, text: &str) -> Result<(), CurateError> {
        self.hash.update(text.as_bytes());
        self.hash.update(b"\n");
        self.rows += 1;
        let Some(file) = &mut self.file else { return Ok(()) };
        let written = file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n"));
        Ok(written.map_err(IoError::at("write", &self.path))?)
    }

    fn finish(mut self) -> Result<FileRecord, CurateError> {
        if let Some(file) = self.file.take() {
            let file = file.into_inner().map_err(std::io::IntoInnerError::into_error);
            let synced = file.and_then(|file| file.sync_all());
            let renamed = synced.and_then(|()| fs::rename(&self.temporary, &self.path));
            if let Err(e) = renamed {
                let _ = fs::remove_file(&self.temporary);
                return Err(IoError::at("write", &self.path)(e).into());
            }
        }
        sync_dir(self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
        let sha256 = hex(&self.hash.clone().finalize());
        let input = Input { path: self.path.display().to_string(), sha256, rows: self.rows };
        Ok(FileRecord::of(&input))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Which command ran, with what.
#[derive(Debug, Clone)]
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// Its settings, defaults included.
    pub settings: Value,
    /// The seed of its draws, where it has any.
    pub seed: Option<u64>,
}

/// The output of a step: kept rows, optionally the dropped ones with their reasons, counts of both.
///
/// Nothing appears under its name before [`Self::finish`].
pub struct Output {
    rows: Writer,
    dropped: Option<Writer>,
    reasons: BTreeMap<String, u64>,
    counts: BTreeMap<String, u64>,
    allow_empty: bool,
}

impl Output {
    /// An output of the name `path`; with `dropped` another file gets the rows that are left out.
    ///
    /// # Errors
    /// A file that exists, unless `force`, or that cannot be written.
    pub fn create(path: &Path, dropped: Option<&Path>, force: bool) -> Result<Self, CurateError> {
        let manifest = Manifest::path(path);
        if !force && !path.exists() && manifest.exists() {
            return Err(CurateError::Exists { path: manifest });
        }
        if dropped == Some(path) {
            return Err(CurateError::Setting("--dropped and --out name the same file".into()));
        }
        let rows = Writer::create(path, force)?;
        let dropped = dropped.map(|path| Writer::create(path, force)).transpose()?;
        Ok(Self { rows, dropped, reasons: BTreeMap::new(), counts: BTreeMap::new(), allow_empty: false })
    }

    /// The same output, which may end without rows if `allow`.
    #[must_use]
    pub fn allow_empty(self, allow: bool) -> Self {
        Self { allow_empty: allow, ..self }
    }

    /// Writes a row as it was read.
    ///
    /// # Errors
    /// The file system.
    pub fn keep(&mut self, row: &Row) -> Result<(), CurateError> {
        self.rows.line(&row.text)
    }

    /// Writes a new or changed row.
    ///
    /// # Errors
    /// The file system.
    pub fn write(&mut self, row: &Value) -> Result<(), CurateError> {
        self.rows.line(&row.to_string())
    }

    /// Leaves a row out; `detail` goes into the file of dropped rows.
    ///
    /// # Errors
    /// The file system.
    pub fn drop(&mut self, row: &Row, reason: &str, detail: Value) -> Result<(), CurateError> {
        self.count_drop(reason);
        let Some(writer) = &mut self.dropped else { return Ok(()) };
        let mut record = json!({"reason": reason, "id": row.id(), "line": row.line});
        if !detail.is_null() {
            record["detail"] = detail;
        }
        record["row"] = Value::Object(row.fields.clone());
        writer.line(&record.to_string())
    }

    /// Counts a row that is left out and has no form to be written in.
    pub fn count_drop(&mut self, reason: &str) {
        match self.reasons.get_mut(reason) {
            Some(n) => *n += 1,
            None => drop(self.reasons.insert(reason.to_owned(), 1)),
        }
    }

    /// Counts something else.
    pub fn count(&mut self, what: &str) {
        match self.counts.get_mut(what) {
            Some(n) => *n += 1,
            None => drop(self.counts.insert(what.to_owned(), 1)),
        }
    }

    /// The name that the file will have.
    pub fn path(&self) -> &Path {
        &self.rows.path
    }

    /// Whether the rows that are left out are written somewhere.
    pub fn lists_dropped(&self) -> bool {
        self.dropped.is_some()
    }

    /// Rows written so far.
    pub fn rows(&self) -> u64 {
        self.rows.rows
    }

    /// Puts the file and its manifest in place.
    ///
    /// # Errors
    /// No row, unless that is allowed; the file system, or a manifest of an input that cannot be read.
    pub fn finish(self, command: Command, mut inputs: Vec<FileRecord>) -> Result<Manifest, CurateError> {
        if self.rows.rows == 0 && !self.allow_empty {
            return Err(self.nothing_left(&inputs));
        }
        let mut steps = Manifest::history(&mut inputs)?;
        let manifest_path = Manifest::path(&self.rows.path);
        if let Some(dropped) = self.dropped {
            dropped.finish()?;
        }
        let output = self.rows.finish()?;
        steps.push(StepRecord {
            command: command.name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            rows_in: inputs.iter().filter(|input| input.role.is_none()).map(|input| input.rows).sum(),
            rows_out: output.rows,
            inputs,
            settings: command.settings,
            seed: command.seed,
            dropped: self.reasons,
            counts: self.counts,
            output,
        });
        let manifest = Manifest { steps };
        let mut text =
            serde_json::to_string_pretty(&manifest).map_err(|e| CurateError::Setting(e.to_string()))?;
        text.push('\n');
        write_atomic(&manifest_path, text.as_bytes())?;
        Ok(manifest)
    }

    /// The error of an output without rows, which names the most frequent reason.
    fn nothing_left(&self, inputs: &[FileRecord]) -> CurateError {
        let input = inputs.first().map_or(&*self.rows.path, |input| Path::new(&input.path));
        let most = self.reasons.iter().max_by_key(|(_, n)| **n);
        let why = most.map_or(String::new(), |(reason, n)| {
            let of: u64 = self.reasons.values().sum();
            format!(", {n} of {of} left out because: {reason}")
        });
        let hint = "nothing was written; --allow-empty writes the empty file, too";
        CurateError::file(input, format!("no row stays{why} ({hint})"))
    }
}
