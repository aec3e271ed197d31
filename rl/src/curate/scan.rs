//! One pass over a JSON Lines file, in order, in bounded memory: lines are read by the thousand, worked on by all
//! cores, and handed on in order.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek};
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::error::CurateError;
use crate::files::encoding::{utf8, utf16};
use crate::files::{IoError, bounded, digits};
use crate::rows::Row;

/// Rows that are read and worked on at a time.
const CHUNK_ROWS: usize = 4096;
/// Bytes after which a chunk ends early.
const CHUNK_BYTES: usize = 8 << 20;

/// Told how far a step has come.
pub trait Watch: Sync {
    /// A pass over `bytes` bytes begins; `what` says what it does.
    fn pass(&self, what: &str, bytes: u64);
    /// So many more bytes are done.
    fn advance(&self, bytes: u64);
}

/// Nobody is told.
pub struct Unwatched;

impl Watch for Unwatched {
    fn pass(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
}

/// A file as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// As it was named.
    pub path: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// Its rows.
    pub rows: u64,
}

/// Opens a file for reading, or says why not.
///
/// # Errors
/// [`CurateError`] where there is none, or where it is compressed or UTF-16.
pub fn open(path: &Path) -> Result<File, CurateError> {
    if path.is_dir() {
        return Err(CurateError::file(path, "is a directory, a file is needed"));
    }
    let mut file = File::open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => CurateError::file(path, "there is no such file"),
        _ => CurateError::from(IoError::at("read", path)(e)),
    })?;
    let start = beginning(&mut file).map_err(IoError::at("read", path))?;
    utf16(&start).map_err(|e| CurateError::row(path, e.line, e.to_string()))?;
    match COMPRESSIONS.iter().find(|(bytes, ..)| start.starts_with(bytes)) {
        None => Ok(file),
        Some((_, name, unpack)) => {
            let hint = format!("unpack it first, with {unpack} {}", path.display());
            Err(CurateError::file(
                path,
                format!("is compressed ({name}), rows are read from plain files: {hint}"),
            ))
        }
    }
}

/// Names of compressions and what unpacks them, by the first bytes of a file.
const COMPRESSIONS: [(&[u8], &str, &str); 5] = [
    (b"\x1f\x8b", "gzip", "gunzip -k"),
    (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
    (b"\xfd7zXZ\0", "xz", "unxz -k"),
    (b"BZh", "bzip2", "bunzip2 -k"),
    (b"PK\x03\x04", "zip", "unzip"),
];

/// The first bytes of a file, whose position stays at the beginning. Pipes are not looked at.
fn beginning(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut start = Vec::new();
    if file.metadata()?.is_file() {
        file.by_ref().take(8).read_to_end(&mut start)?;
        file.rewind()?;
    }
    Ok(start)
}

/// Reads every row, lets `read` make something of it on all cores, and hands both to `take`, in order.
///
/// # Errors
/// The first line, in order, that is no JSON object or that `read` or `take` refuses; a file without rows.
pub fn scan<T: Send>(
    path: &Path,
    what: &str,
    watch: &dyn Watch,
    read: &(dyn Fn(&Row) -> Result<T, String> + Sync),
    take: &mut dyn FnMut(Row, T) -> Result<(), CurateError>,
) -> Result<Input, CurateError> {
    let mut lines = Lines::open(path)?;
    watch.pass(what, lines.length);
    let mut rows = 0;
    loop {
        let before = lines.offset;
        let chunk = lines.chunk()?;
        if chunk.is_empty() {
            break;
        }
        let parsed: Vec<Result<(Row, T), (usize, String)>> = chunk
            .into_par_iter()
            .map(|(line, offset, text)| {
                let fields = object(&text).map_err(|e| (line, e))?;
                let row = Row { line, offset, text, fields };
                let made = read(&row).map_err(|e| (line, e))?;
                Ok((row, made))
            })
            .collect();
        for result in parsed {
            let (row, made) = result.map_err(|(line, message)| CurateError::row(path, line, message))?;
            rows += 1;
            take(row, made)?;
        }
        watch.advance(lines.offset - before);
    }
    if rows == 0 {
        return Err(CurateError::file(path, "no rows in it"));
    }
    Ok(Input { path: path.display().to_string(), sha256: lines.sha256(), rows })
}

/// A line as a JSON object.
fn object(text: &str) -> Result<Map<String, Value>, String> {
    match digits::parse(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(Value::Array(_)) => Err(format!("the row is an array, not an object{ARRAY_HINT}")),
        Ok(_) => Err("the row is not an object".into()),
        Err(error) => {
            let message = error.to_string();
            // Every row is its own document: serde's "line 1" would mislead.
            let message = message.split(" at line ").next().unwrap_or_default();
            let hint = if error.is_eof() && text.starts_with('[') { ARRAY_HINT } else { "" };
            Err(format!("not valid JSON: {message} at column {}{hint}", error.column()))
        }
    }
}

const ARRAY_HINT: &str = "; rlvr data import makes rows of an array in a .json file";

/// The lines of a file with their numbers, offsets and hash.
struct Lines<'a> {
    path: &'a Path,
    reader: BufReader<File>,
    length: u64,
    offset: u64,
    line: usize,
    hash: Sha256,
}

/// Number, offset and text of a line.
type Line = (usize, u64, String);

impl<'a> Lines<'a> {
    fn open(path: &'a Path) -> Result<Self, CurateError> {
        let file = open(path)?;
        let length = file.metadata().map_err(IoError::at("read", path))?.len();
        let reader = BufReader::with_capacity(1 << 18, file);
        Ok(Self { path, reader, length, offset: 0, line: 0, hash: Sha256::new() })
    }

    /// The next lines that are not blank; none at the end.
    fn chunk(&mut self) -> Result<Vec<Line>, CurateError> {
        let (mut lines, mut bytes) = (Vec::with_capacity(CHUNK_ROWS), Vec::new());
        let start = self.offset;
        while lines.len() < CHUNK_ROWS && self.offset - start < CHUNK_BYTES as u64 {
            let read = match bounded::line(&mut self.reader, &mut bytes) {
                Err(e) if e.kind() == ErrorKind::FileTooLarge => {
                    return Err(CurateError::row(self.path, self.line + 1, e.to_string()));
                }
                read => read.map_err(IoError::at("read", self.path))?,
            };
            if read == 0 {
                break;
            }
            self.hash.update(&bytes);
            self.line += 1;
            let offset = self.offset;
            self.offset += read as u64;
            let text = utf8(&bytes).map_err(|e| CurateError::row(self.path, self.line, e.to_string()))?;
            let text = text.strip_prefix('\u{feff}').filter(|_| self.line == 1).unwrap_or(text).trim();
            if !text.is_empty() {
                lines.push((self.line, offset, text.to_owned()));
            }
        }
        Ok(lines)
    }

    fn sha256(self) -> String {
        hex(&self.hash.finalize())
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Refuses a file that another pass found to be different.
pub(crate) fn unchanged(path: &Path, first: &Input, second: &Input) -> Result<(), CurateError> {
    match first.sha256 == second.sha256 {
        true => Ok(()),
        false => Err(CurateError::file(path, "changed while it was read; run the command again")),
    }
}

/// Refuses a field that no row has; `example` is the fields of one of them.
pub(crate) fn seen(
    path: &Path,
    field: &str,
    found: u64,
    example: &Map<String, Value>,
) -> Result<(), CurateError> {
    match found {
        0 => Err(CurateError::file(path, format!("in all rows: {}", crate::rows::missing(example, field)))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> Result<(Vec<String>, Input), CurateError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.jsonl");
        std::fs::write(&path, text).unwrap();
        let mut ids = Vec::new();
        let input = scan(&path, "", &Unwatched, &|row| Ok(row.id()), &mut |row, id| {
            assert_eq!(&text.as_bytes()[row.offset as usize..][..1], &row.text.as_bytes()[..1]);
            ids.push(id);
            Ok(())
        })?;
        Ok((ids, input))
    }

    #[test]
    fn rows_come_in_order_and_the_file_is_hashed() {
        let text: String = (0..10_000).map(|i| format!("{{\"id\": {i}}}\n")).collect();
        let (found, input) = ids(&text).unwrap();
        assert_eq!(found, (0..10_000).map(|i| i.to_string()).collect::<Vec<_>>());
        assert_eq!((input.rows, input.sha256.len()), (10_000, 64));
        let (one, input) = ids("\n{\"x\": 1}\r\n\n").unwrap();
        assert_eq!(one, ["line 2"]);
        assert_eq!(input.sha256, "17e5532413258735ce753165493cd153f5f7d281bae4f03778620d0707746d85");
    }

    #[test]
    fn the_first_bad_line_is_named() {
        let check = |text: &str, part: &str| {
            let error = ids(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        check("{\"id\": 1}\n{\"id\": \n{", "d.jsonl:2: not valid JSON");
        check("[\n", "d.jsonl:1: not valid JSON: EOF while parsing a list at column 1; rlvr data import");
        check("[1]", "the row is an array");
        check(
            "{\"id\": 1}\n{\"id\": \"a\0b\"}",
            "d.jsonl:2: not UTF-8 text (a byte 0x00 in column 10); no text has one",
        );
        check("\n\n", "no rows in it");
        check("", "no rows in it");
        let dir = tempfile::tempdir().unwrap();
        for (bytes, name, unpack) in COMPRESSIONS {
            let path = dir.path().join("d.jsonl.packed");
            std::fs::write(&path, [bytes, b"\x08\x00rest"].concat()).unwrap();
            let error = open(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("d.jsonl.packed: is compressed ({name})")), "{error}");
            assert!(error.contains(&format!("{unpack} ")), "{error}");
        }
        let missing = scan(Path::new("no/such"), "", &Unwatched, &|_| Ok(()), &mut |_, ()| Ok(()));
        assert!(missing.unwrap_err().to_string().contains("no/such: there is no such file"));
    }
}
