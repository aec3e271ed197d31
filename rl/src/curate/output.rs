//! What a step writes: rows under a temporary name, counts, and at the end the file and its manifest at once.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::error::CurateError;
use super::manifest::{FileRecord, Manifest, StepRecord};
use super::pictures;
use super::scan::{Input, hex};
use crate::files::IoError;
use crate::files::destination::{Destination, OutputError, Pending, write_atomic};
use crate::rows::Row;

/// Rows that appear when they are finished.
struct Writer {
    path: PathBuf,
    to: Destination,
    rows_file: BufWriter<Pending>,
    hash: Sha256,
    rows: u64,
}

impl Writer {
    fn create(path: &Path, force: bool) -> Result<Self, CurateError> {
        let to = Destination::free(path, force)?;
        let rows_file = BufWriter::with_capacity(1 << 18, Pending::create(to.clone())?);
        Ok(Self { path: path.to_path_buf(), to, rows_file, hash: Sha256::new(), rows: 0 })
    }

    fn line(&mut self, text: &str) -> Result<(), CurateError> {
        self.hash.update(text.as_bytes());
        self.hash.update(b"\n");
        self.rows += 1;
        let file = &mut self.rows_file;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n"));
        Ok(written.map_err(IoError::at("write", &self.path))?)
    }

    fn finish(self) -> Result<FileRecord, CurateError> {
        let file = self.rows_file.into_inner().map_err(std::io::IntoInnerError::into_error);
        file.map_err(IoError::at("write", &self.path))?.finish()?;
        let sha256 = hex(&self.hash.finalize());
        let input = Input { path: self.path.display().to_string(), sha256, rows: self.rows };
        Ok(FileRecord::of(&input))
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
/// Nothing appears under its name before [`Self::finish`]. What goes to stdout or another stream has no manifest.
pub struct Output {
    rows: Writer,
    dropped: Option<Writer>,
    reasons: BTreeMap<String, u64>,
    counts: BTreeMap<String, u64>,
    allow_empty: bool,
    /// The folders that paths of pictures are relative to, in what is read and in what is written, where these differ.
    folders: Option<(PathBuf, PathBuf)>,
}

impl Output {
    /// An output of the name `path`; with `dropped` another file gets the rows that are left out.
    ///
    /// # Errors
    /// A file that exists, unless `force`, or that cannot be written.
    pub fn create(path: &Path, dropped: Option<&Path>, force: bool) -> Result<Self, CurateError> {
        let to = Destination::free(path, force)?;
        let manifest = Manifest::path(path);
        if !force && matches!(to, Destination::File(_)) && manifest.exists() {
            return Err(OutputError::Exists { path: manifest }.into());
        }
        if let Some(dropped) = dropped
            && Destination::free(dropped, force)? == to
        {
            return Err(CurateError::Setting("--dropped and --out name the same file".into()));
        }
        let rows = Writer::create(path, force)?;
        let dropped = dropped.map(|path| Writer::create(path, force)).transpose()?;
        Ok(Self {
            rows,
            dropped,
            reasons: BTreeMap::new(),
            counts: BTreeMap::new(),
            allow_empty: false,
            folders: None,
        })
    }

    /// The same output, which may end without rows if `allow`.
    #[must_use]
    pub fn allow_empty(self, allow: bool) -> Self {
        Self { allow_empty: allow, ..self }
    }

    /// Says where rows come from: relative paths of their pictures are written as they are found from the folder of the
    /// output, of a stream from the working directory.
    pub(crate) fn comes_from(&mut self, input: &Path) {
        let from = input.parent().unwrap_or(Path::new("")).to_path_buf();
        let to = match &self.rows.to {
            Destination::File(file) => file.parent().unwrap_or(Path::new("")).to_path_buf(),
            Destination::Stdout | Destination::Stream(_) => PathBuf::new(),
        };
        let whole = |path: &Path| Path::new(".").join(path).canonicalize().ok();
        self.folders = (whole(&from) != whole(&to)).then_some((from, to));
    }

    /// A row with the paths of its pictures as they are found from the output, if they are others.
    fn moved(&self, fields: &Map<String, Value>) -> Option<Map<String, Value>> {
        let (from, to) = self.folders.as_ref()?;
        pictures::moved(fields, &|path| pictures::from_there(path, from, to))
    }

    /// Writes a row as it was read, but for paths of pictures.
    ///
    /// # Errors
    /// The file system.
    pub fn keep(&mut self, row: &Row) -> Result<(), CurateError> {
        match self.moved(&row.fields) {
            Some(moved) => self.rows.line(&Value::Object(moved).to_string()),
            None => self.rows.line(&row.text),
        }
    }

    /// Writes a new or changed row.
    ///
    /// # Errors
    /// The file system.
    pub fn write(&mut self, row: &Value) -> Result<(), CurateError> {
        match row.as_object().and_then(|fields| self.moved(fields)) {
            Some(moved) => self.rows.line(&Value::Object(moved).to_string()),
            None => self.rows.line(&row.to_string()),
        }
    }

    /// Leaves a row out; `detail` goes into the file of dropped rows.
    ///
    /// # Errors
    /// The file system.
    pub fn drop(&mut self, row: &Row, reason: &str, detail: Value) -> Result<(), CurateError> {
        self.count_drop(reason);
        if self.dropped.is_none() {
            return Ok(());
        }
        let fields = self.moved(&row.fields).unwrap_or_else(|| row.fields.clone());
        let Some(writer) = &mut self.dropped else { return Ok(()) };
        let mut record = json!({"reason": reason, "id": row.id(), "line": row.line});
        if !detail.is_null() {
            record["detail"] = detail;
        }
        record["row"] = Value::Object(fields);
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

    /// Where the step may keep files while it works: beside the output, if that is a file.
    pub(crate) fn scratch(&self) -> PathBuf {
        let beside = match &self.rows.to {
            Destination::File(file) => file.parent(),
            Destination::Stdout | Destination::Stream(_) => return std::env::temp_dir(),
        };
        beside.filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf()
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
        let file = matches!(self.rows.to, Destination::File(_));
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
        if file {
            write_atomic(&manifest_path, text.as_bytes())?;
        }
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
