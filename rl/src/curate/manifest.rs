//! `<file>.manifest.json`: how a file came to be, every step from the first import.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::CurateError;
use super::scan::Input;
use crate::files::IoError;
use crate::files::bounded::{LARGE, read_regular};

/// What `<file>.manifest.json` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The steps, the first one first. Those of an input come before the step that read it.
    pub steps: Vec<StepRecord>,
}

/// One command and what it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepRecord {
    /// The command, such as `dedup`.
    pub command: String,
    /// Version of `rlvr`.
    pub version: String,
    /// What was read.
    pub inputs: Vec<FileRecord>,
    /// The settings, defaults included.
    pub settings: Value,
    /// The seed of the step's draws, where it has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Rows read, without those of test files.
    pub rows_in: u64,
    /// Rows written.
    pub rows_out: u64,
    /// Rows left out, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// What else was counted, such as rows that were changed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub counts: BTreeMap<String, u64>,
    /// What was written.
    pub output: FileRecord,
}

/// A file at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// As it was named.
    pub path: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// Its rows.
    pub rows: u64,
    /// `against` for a file that rows were compared with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub role: Option<String>,
    /// Its licence, as given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub licence: Option<String>,
    /// Why the history of this file is missing, where it had one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}

impl FileRecord {
    /// A file that was read; `role` and `licence` where there is one.
    pub fn of(input: &Input) -> Self {
        let Input { path, sha256, rows } = input.clone();
        Self { path, sha256, rows, role: None, licence: None, note: None }
    }

    /// The same file, which rows were compared with.
    #[must_use]
    pub fn against(self) -> Self {
        Self { role: Some("against".into()), ..self }
    }
}

impl Manifest {
    /// The name of a file's manifest.
    pub fn path(file: &Path) -> PathBuf {
        let mut name = file.as_os_str().to_owned();
        name.push(".manifest.json");
        name.into()
    }

    /// The manifest beside a file, if there is one.
    ///
    /// # Errors
    /// A manifest that cannot be read.
    pub fn beside(file: &Path) -> Result<Option<Self>, CurateError> {
        let path = Self::path(file);
        let text = match read_regular(&path, LARGE) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(IoError::at("read", &path)(e).into()),
        };
        let hint = "; remove it to go on without the history";
        let parsed = serde_json::from_slice(&text);
        parsed.map(Some).map_err(|e| CurateError::file(&path, format!("no manifest of rlvr data: {e}{hint}")))
    }

    /// The history of the inputs of a step: their steps, each once. A file that changed after its manifest was written
    /// has none, and gets a note.
    ///
    /// # Errors
    /// A manifest that cannot be read.
    pub fn history(inputs: &mut [FileRecord]) -> Result<Vec<StepRecord>, CurateError> {
        let mut steps: Vec<StepRecord> = Vec::new();
        for input in inputs {
            let Some(manifest) = Self::beside(Path::new(&input.path))? else { continue };
            if manifest.steps.last().is_none_or(|last| last.output.sha256 != input.sha256) {
                input.note = Some("changed after its manifest was written: earlier steps unknown".into());
                continue;
            }
            for step in manifest.steps {
                if !steps.contains(&step) {
                    steps.push(step);
                }
            }
        }
        Ok(steps)
    }

    /// The licences of all files that the history names, sorted.
    pub fn licences(&self) -> Vec<&str> {
        let files = self.steps.iter().flat_map(|step| &step.inputs);
        let mut licences: Vec<&str> = files.filter_map(|file| file.licence.as_deref()).collect();
        licences.sort_unstable();
        licences.dedup();
        licences
    }
}
