//! Opinions on disk: JSON Lines, one opinion a row, appended as they come.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Opinion;
use crate::error::Error;
use crate::files::IoError;
use crate::files::bounded::{WHOLE, read_regular};

/// The opinions by key.
pub(super) struct Cache {
    path: PathBuf,
    file: File,
    known: HashMap<String, Opinion>,
}

#[derive(Serialize, Deserialize)]
struct OpinionRow {
    key: String,
    opinion: Opinion,
}

impl Cache {
    /// Opens the file, or makes it. Rows that cannot be read are passed over: they are asked again. A file in which no
    /// row is an opinion is somebody else's.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            std::fs::create_dir_all(dir).map_err(IoError::at("create the directory", dir))?;
        }
        let bytes = match read_regular(path, WHOLE) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(IoError::at("read", path)(e).into()),
        };
        // Line by line: a row that was being written may end inside a character.
        let rows =
            bytes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice::<OpinionRow>(line).ok());
        let known: HashMap<String, Opinion> = rows.map(|row| (row.key, row.opinion)).collect();
        let whole = &bytes[..bytes.iter().rposition(|b| *b == b'\n').unwrap_or(0)];
        if known.is_empty() && !whole.trim_ascii().is_empty() {
            let what = format!("{}: no opinions of a judge in it; name another file", path.display());
            return Err(Error::Unusable { what });
        }
        let open = OpenOptions::new().create(true).append(true).open(path);
        let mut file = open.map_err(IoError::at("open", path))?;
        if bytes.last().is_some_and(|last| *last != b'\n') {
            // A row that was being written when the program ended.
            file.write_all(b"\n").map_err(IoError::at("write", path))?;
        }
        Ok(Self { path: path.into(), file, known })
    }

    pub(super) fn get(&self, key: &str) -> Option<&Opinion> {
        self.known.get(key)
    }

    pub(super) fn put(&mut self, key: &str, opinion: &Opinion) -> Result<(), Error> {
        let row = OpinionRow { key: key.to_owned(), opinion: opinion.clone() };
        let mut line = serde_json::to_vec(&row).unwrap_or_default();
        line.push(b'\n');
        self.file.write_all(&line).map_err(IoError::at("write", &self.path))?;
        self.known.insert(row.key, row.opinion);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::JudgeVerdict;
    use super::*;

    fn opinion(reason: &str) -> Opinion {
        Opinion { verdict: JudgeVerdict::Correct, reason: reason.into() }
    }

    #[test]
    fn a_row_torn_anywhere_is_asked_again_and_the_others_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("judge.jsonl");
        let mut cache = Cache::open(&path).unwrap();
        for (key, reason) in [("a", "as it should be"), ("b", "né à Zürich 你好")] {
            cache.put(key, &opinion(reason)).unwrap();
        }
        let whole = std::fs::read(&path).unwrap();
        let first = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
        for length in first..whole.len() - 1 {
            std::fs::write(&path, &whole[..length]).unwrap();
            let mut cache = Cache::open(&path).unwrap_or_else(|e| panic!("{length}: {e}"));
            assert_eq!(
                (cache.get("a"), cache.get("b")),
                (Some(&opinion("as it should be")), None),
                "{length}"
            );
            cache.put("b", &opinion("again")).unwrap();
            assert_eq!(Cache::open(&path).unwrap().get("b"), Some(&opinion("again")), "{length}");
        }
        // Also the first one.
        std::fs::write(&path, &whole[..9]).unwrap();
        assert_eq!(Cache::open(&path).unwrap().get("a"), None);
        std::fs::write(&path, "my notes\nmore\n").unwrap();
        let error = Cache::open(&path).err().unwrap().to_string();
        assert!(error.contains("judge.jsonl: no opinions of a judge in it"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"my notes\nmore\n");
    }
}
