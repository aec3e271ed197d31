//! Rows of a run's records, also while they are being written.

use std::io::{BufReader, ErrorKind};
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{DataError, Error};
use crate::files::IoError;
use crate::files::bounded::{self, open_regular};

/// Hands each line that is not blank to `take`, in order and one at a time. A last line without its newline that
/// `take` refuses was being written, and is left out. False where there is no such file.
///
/// # Errors
/// The first line that `take` refuses, with file and line; a file that cannot be read.
pub(super) fn each(path: &Path, take: &mut dyn FnMut(&[u8]) -> Result<(), String>) -> Result<bool, Error> {
    let file = match open_regular(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        Err(e) if e.kind() == ErrorKind::InvalidInput => {
            return Err(Error::Unusable { what: format!("{}: {e}", path.display()) });
        }
        file => file.map_err(IoError::at("read", path))?,
    };
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let (mut bytes, mut line) = (Vec::new(), 0);
    loop {
        line += 1;
        match bounded::line(&mut reader, &mut bytes) {
            Ok(0) => return Ok(true),
            Err(e) if e.kind() == ErrorKind::FileTooLarge => {
                return Err(DataError::Row { path: path.to_path_buf(), line, message: e.to_string() }.into());
            }
            read => read.map_err(IoError::at("read", path))?,
        };
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        match take(&bytes) {
            Err(message) if bytes.ends_with(b"\n") => {
                return Err(DataError::Row { path: path.to_path_buf(), line, message }.into());
            }
            _ => {}
        }
    }
}

/// A line as a row.
pub(super) fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    serde_json::from_slice(line).map_err(|error| {
        let message = error.to_string();
        // Every row is its own document: serde's "line 1" would mislead.
        let message = message.split(" at line ").next().unwrap_or_default();
        format!("not a row that rlvr train writes: {message} at column {}", error.column())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn steps(bytes: &[u8]) -> Result<Vec<u64>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.jsonl");
        std::fs::write(&path, bytes).unwrap();
        let mut found = Vec::new();
        let read = each(&path, &mut |line| {
            found.push(parse::<Value>(line)?["step"].as_u64().ok_or("no step")?);
            Ok(())
        });
        read.map(|_| found).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_being_written_is_left_out_and_other_damage_named() {
        let text = b"{\"step\":1}\n\n{\"step\":2}\n{\"step\":3}\n";
        for length in 0..=text.len() {
            let whole = text[..length].iter().filter(|b| **b == b'}').count() as u64;
            assert_eq!(steps(&text[..length]), Ok((1..=whole).collect()), "{length}");
        }
        for damage in [&b"{\"step\":\n"[..], b"\xff\n", b"\0\0\n", b"7\n"] {
            let error = steps(&[&text[..12], damage, &text[12..]].concat()).unwrap_err();
            assert!(error.contains("rows.jsonl:3: "), "{error}");
        }
        assert!(!each(Path::new("no/such/file"), &mut |_| Ok(())).unwrap());
    }
}
