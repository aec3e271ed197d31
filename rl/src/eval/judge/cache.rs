//! Opinions on disk: JSON Lines, one opinion a row, appended as they come.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Opinion;
use crate::error::{Error, IoError};

/// The opinions by key.
pub(super) struct Cache {
    path: PathBuf,
    file: File,
    known: HashMap<String, Opinion>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    key: String,
    opinion: Opinion,
}

impl Cache {
    /// Opens the file, or makes it. Rows that cannot be read are passed over: they are asked again.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            std::fs::create_dir_all(dir).map_err(IoError::at("create the directory", dir))?;
        }
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(IoError::at("read", path)(e).into()),
        };
        let rows = text.lines().filter_map(|line| serde_json::from_str::<Row>(line).ok());
        let known = rows.map(|row| (row.key, row.opinion)).collect();
        let open = OpenOptions::new().create(true).append(true).open(path);
        let mut file = open.map_err(IoError::at("open", path))?;
        if !text.is_empty() && !text.ends_with('\n') {
            // A row that was being written when the program ended.
            file.write_all(b"\n").map_err(IoError::at("write", path))?;
        }
        Ok(Self { path: path.into(), file, known })
    }

    pub(super) fn get(&self, key: &str) -> Option<&Opinion> {
        self.known.get(key)
    }

    pub(super) fn put(&mut self, key: &str, opinion: &Opinion) -> Result<(), Error> {
        let row = Row { key: key.to_owned(), opinion: opinion.clone() };
        let mut line = serde_json::to_vec(&row).unwrap_or_default();
        line.push(b'\n');
        self.file.write_all(&line).map_err(IoError::at("write", &self.path))?;
        self.known.insert(row.key, row.opinion);
        Ok(())
    }
}
