//! Rows of JSON Lines, JSON, CSV and parquet files, one at a time.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::error::CurateError;
use super::parquet_rows::Rows;
use super::scan::{self, Input, Watch, hex};
use crate::files::IoError;
use crate::files::digits::Kept;
use crate::files::encoding::FROM_LATIN1;

/// Columns of a table.
const COLUMNS: usize = 10_000;

/// How a file holds its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// One object a line.
    Jsonl,
    /// One array of objects, or one object from ids to objects.
    Json,
    /// Comma-separated values with a header.
    Csv,
    /// Tab-separated values with a header.
    Tsv,
    /// Apache Parquet.
    Parquet,
}

impl FileKind {
    /// The kind that a file's name says.
    pub fn of(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_lowercase();
        Some(match ending.as_str() {
            "jsonl" | "ndjson" => Self::Jsonl,
            "json" => Self::Json,
            "csv" => Self::Csv,
            "tsv" => Self::Tsv,
            "parquet" => Self::Parquet,
            _ => return None,
        })
    }
}

/// Takes a row with its line (parquet: number), from 1.
pub type Take<'a> = &'a mut dyn FnMut(usize, Map<String, Value>) -> Result<(), CurateError>;

/// Hands every row of a file to `take`.
///
/// # Errors
/// A file that cannot be read, and what `take` refuses.
pub fn read(path: &Path, kind: FileKind, watch: &dyn Watch, take: Take) -> Result<Input, CurateError> {
    let file = scan::open(path)?;
    let metadata = file.metadata().map_err(IoError::at("read", path))?;
    let length = metadata.len();
    // A pipe does not say how much is in it.
    if length == 0 && metadata.is_file() {
        return Err(CurateError::file(path, "no rows in it"));
    }
    let mut rows = 0;
    let mut counted = |line: usize, fields| {
        rows += 1;
        take(line, fields)
    };
    let input = match kind {
        FileKind::Jsonl => {
            scan::scan(path, "read", watch, &|_| Ok(()), &mut |row, ()| counted(row.line, row.fields))?
        }
        FileKind::Json => {
            watch.pass("read", length);
            json(path, file, watch, &mut counted)?
        }
        FileKind::Csv => {
            watch.pass("read", length);
            csv(path, file, b',', watch, &mut counted)?
        }
        FileKind::Tsv => {
            watch.pass("read", length);
            csv(path, file, b'\t', watch, &mut counted)?
        }
        FileKind::Parquet => parquet(path, file, watch, &mut counted)?,
    };
    match rows {
        0 => Err(CurateError::file(path, "no rows in it")),
        rows => Ok(Input { rows, ..input }),
    }
}

/// Counts lines and hashes while others read.
struct Counting<'a, R> {
    inner: R,
    state: Rc<RefCell<State>>,
    watch: &'a dyn Watch,
}

struct State {
    line: usize,
    hash: Sha256,
    /// The last byte, until the first line has ended.
    last: u8,
    /// Whether the first line ends in CR and LF; none before its end.
    carriage: Option<bool>,
}

impl State {
    /// The line of a record or an error of CSV. Its parser ends a record at the CR and counts the LF to the next one.
    fn of_csv(&self, position: Option<&::csv::Position>) -> usize {
        let line = position.map_or(1, ::csv::Position::line) as usize;
        let behind = position.is_some_and(|at| at.record() > 0) && self.carriage == Some(true);
        line + usize::from(behind)
    }
}

impl<'a, R> Counting<'a, R> {
    fn new(inner: R, watch: &'a dyn Watch) -> (Self, Rc<RefCell<State>>) {
        let state = Rc::new(RefCell::new(State { line: 1, hash: Sha256::new(), last: 0, carriage: None }));
        (Self { inner, state: Rc::clone(&state), watch }, state)
    }
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        let mut state = self.state.borrow_mut();
        state.hash.update(&buffer[..n]);
        if state.carriage.is_none() {
            let end = buffer[..n].iter().position(|b| *b == b'\n');
            let before = end.map_or(n, |end| end).checked_sub(1).map_or(state.last, |at| buffer[at]);
            state.last = before;
            state.carriage = end.map(|_| before == b'\r');
        }
        self.watch.advance(n as u64);
        Ok(n)
    }
}

/// Counts the lines that a parser has gone through.
struct LineCount<R> {
    inner: BufReader<R>,
    state: Rc<RefCell<State>>,
}

impl<R: Read> Read for LineCount<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // One byte at a time is how serde_json reads; more are never asked for.
        let available = self.inner.fill_buf()?;
        let n = available.len().min(buffer.len());
        buffer[..n].copy_from_slice(&available[..n]);
        self.inner.consume(n);
        self.state.borrow_mut().line += buffer[..n].iter().filter(|b| **b == b'\n').count();
        Ok(n)
    }
}

fn input(path: &Path, state: &Rc<RefCell<State>>) -> Input {
    let sha256 = hex(&state.borrow().hash.clone().finalize());
    Input { path: path.display().to_string(), sha256, rows: 0 }
}

fn json(path: &Path, file: File, watch: &dyn Watch, take: Take) -> Result<Input, CurateError> {
    let (counting, state) = Counting::new(file, watch);
    let mut reader =
        LineCount { inner: BufReader::with_capacity(1 << 18, Kept::new(counting)), state: Rc::clone(&state) };
    let mut failed = None;
    let seed = Elements { state: &state, take, failed: &mut failed };
    let mut parser = serde_json::Deserializer::from_reader(&mut reader);
    let parsed = seed.deserialize(&mut parser).and_then(|()| parser.end());
    if let Some(error) = failed {
        return Err(match error {
            CurateError::Setting(message) => CurateError::row(path, state.borrow().line, message),
            other => other,
        });
    }
    parsed.map_err(|e| {
        let message = e.to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        // What serde_json calls bytes that are no UTF-8.
        let hint = match message.contains("unicode code point") {
            true => format!("; where the file is not UTF-8 text, {FROM_LATIN1}"),
            false => String::new(),
        };
        CurateError::row(path, e.line().max(1), format!("not valid JSON: {message}{hint}"))
    })?;
    Ok(input(path, &state))
}

/// The elements of an array, or the values of an object with their keys as ids, handed on as they are parsed.
struct Elements<'a, 'b> {
    state: &'a Rc<RefCell<State>>,
    take: Take<'b>,
    failed: &'a mut Option<CurateError>,
}

impl Elements<'_, '_> {
    fn hand_on(&mut self, value: Value, id: Option<String>) -> Result<(), String> {
        let line = self.state.borrow().line;
        let result = match value {
            Value::Object(mut fields) => {
                if let Some(id) = id {
                    fields.entry("id").or_insert_with(|| json!(id));
                }
                (self.take)(line, fields)
            }
            _ => Err(CurateError::Setting("an element of the file is no object".into())),
        };
        result.map_err(|e| {
            *self.failed = Some(e);
            "stopped".to_owned()
        })
    }
}

impl<'de> DeserializeSeed<'de> for Elements<'_, '_> {
    type Value = ();
    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "an array of objects, or an object of objects (one object a line is JSON Lines: --kind jsonl)",
        )
    }
    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while let Some(value) = seq.next_element::<Value>()? {
            self.hand_on(value, None).map_err(de::Error::custom)?;
        }
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((id, value)) = map.next_entry::<String, Value>()? {
            self.hand_on(value, Some(id)).map_err(de::Error::custom)?;
        }
        Ok(())
    }
}

fn csv(path: &Path, file: File, delimiter: u8, watch: &dyn Watch, take: Take) -> Result<Input, CurateError> {
    let (counting, state) = Counting::new(file, watch);
    let mut reader = ::csv::ReaderBuilder::new().delimiter(delimiter).from_reader(counting);
    let fail = |error: ::csv::Error| {
        let line = state.borrow().of_csv(error.position());
        let message = match error.kind() {
            ::csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("{len} fields, the header has {expected_len}")
            }
            ::csv::ErrorKind::Utf8 { .. } => format!("not UTF-8 text; {FROM_LATIN1}"),
            _ => error.to_string(),
        };
        CurateError::row(path, line, message)
    };
    let header = reader.headers().map_err(fail)?.clone();
    if header.len() > COLUMNS {
        let message = format!("the header names {} columns, at most {COLUMNS} are read", header.len());
        return Err(CurateError::row(path, 1, message));
    }
    let mut names = HashSet::new();
    if let Some(name) = header.iter().find(|name| !names.insert(*name)) {
        return Err(CurateError::row(path, 1, format!("the header names {name:?} twice")));
    }
    let mut record = ::csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(fail)? {
        let line = state.borrow().of_csv(record.position());
        let present = header.iter().zip(&record).filter(|(_, value)| !value.is_empty());
        let name = |name: &str| name.trim_start_matches('\u{feff}').trim().to_owned();
        take(line, present.map(|(key, value)| (name(key), json!(value))).collect())?;
    }
    drop(reader);
    Ok(input(path, &state))
}

fn parquet(path: &Path, file: File, watch: &dyn Watch, take: Take) -> Result<Input, CurateError> {
    let sha256 = whole_hash(path)?;
    let mut rows =
        Rows::open(file).map_err(|why| CurateError::file(path, format!("no usable parquet: {why}")))?;
    watch.pass("read", rows.count());
    for number in 1.. {
        let row = rows.next();
        let row =
            row.map_err(|why| CurateError::file(path, format!("no usable parquet: row {number}: {why}")))?;
        let Some(fields) = row else { break };
        take(number, fields)?;
        watch.advance(1);
    }
    Ok(Input { path: path.display().to_string(), sha256, rows: 0 })
}

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// A file that cannot be read.
pub fn whole_hash(path: &Path) -> Result<String, CurateError> {
    let mut hash = Sha256::new();
    let mut file = scan::open(path)?;
    let mut block = vec![0; 1 << 18];
    loop {
        match file.read(&mut block).map_err(IoError::at("read", path))? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&block[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curate::scan::Unwatched;

    fn rows(name: &str, bytes: &[u8]) -> Result<Vec<(usize, Value)>, CurateError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut rows = Vec::new();
        let input = read(&path, FileKind::of(&path).unwrap(), &Unwatched, &mut |line, fields| {
            rows.push((line, Value::Object(fields)));
            Ok(())
        })?;
        assert_eq!(input.rows, rows.len() as u64);
        assert_eq!(input.sha256, hex(&Sha256::digest(bytes)));
        Ok(rows)
    }

    #[test]
    fn rows_of_every_text_kind() {
        let expected =
            [json!({"a": "1", "b": "x, y"}), json!({"a": "2", "b": "two\nlines"}), json!({"a": "3"})];
        let values = |rows: Vec<(usize, Value)>| rows.into_iter().map(|(_, v)| v).collect::<Vec<_>>();
        let csv = rows("d.csv", b"a,b\n1,\"x, y\"\n2,\"two\nlines\"\n3,\n").unwrap();
        assert_eq!(csv.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3, 5]);
        assert_eq!(values(csv), expected);
        assert_eq!(values(rows("d.tsv", b"a\tb\n1\tx, y\n").unwrap()), expected[..1]);
        let json = rows("d.json", b"[\n{\"a\": \"1\", \"b\": \"x, y\"},\n\n {\"a\": \"3\"}]\n").unwrap();
        assert_eq!(json.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(json[1].1, expected[2]);
        let by_id = rows("d.json", b"{\"7\": {\"a\": 1}, \"8\": {\"a\": 2, \"id\": \"x\"}}").unwrap();
        assert_eq!(values(by_id), [json!({"a": 1, "id": "7"}), json!({"a": 2, "id": "x"})]);
        assert_eq!(values(rows("d.jsonl", b"{\"a\": \"3\"}\n").unwrap()), expected[2..]);
    }

    #[test]
    fn parquet_rows() {
        use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
        let schema = "message m { required binary q (UTF8); required int64 a; }";
        let schema = std::sync::Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
        let mut bytes = Vec::new();
        let compression = parquet::basic::Compression::SNAPPY;
        let settings =
            parquet::file::properties::WriterProperties::builder().set_compression(compression).build();
        let mut writer =
            parquet::file::writer::SerializedFileWriter::new(&mut bytes, schema, settings.into()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<ByteArrayType>()
            .write_batch(&[ByteArray::from("x"), ByteArray::from("y")], None, None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[1, 2], None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        let found = rows("d.parquet", &bytes).unwrap();
        assert_eq!(found, [(1, json!({"q": "x", "a": 1})), (2, json!({"q": "y", "a": 2}))]);
        let error = rows("d.parquet", b"PAR1 no").unwrap_err().to_string();
        assert!(error.contains("d.parquet: no usable parquet"), "{error}");
    }

    #[test]
    fn broken_files_are_named_with_their_line() {
        let check = |name: &str, text: &str, part: &str| {
            let error = rows(name, text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        check("d.csv", "a,b\n1\n", "d.csv:2: 1 fields, the header has 2");
        check("d.csv", "a,a\n1,2\n", "d.csv:1: the header names \"a\" twice");
        check("d.csv", "a,b\n", "no rows");
        let wide: Vec<String> = (0..100_000).map(|i| format!("column{i}")).collect();
        check("d.csv", &format!("{}\n1\n", wide.join(",")), "d.csv:1: the header names 100000 columns");
        check("d.csv", &format!("{}\n1\n", wide[..9_000].join(",")), "d.csv:2: 1 fields");
        for (name, text) in [
            ("d.csv", "q,a\nx,y\ncaf\u{e9},z\n"),
            ("d.tsv", "q\ta\nx\ty\ncaf\u{e9}\tz\n"),
            ("d.json", "[{\"q\": \"x\"},\n\n{\"q\": \"caf\u{e9}\"}]"),
            ("d.jsonl", "{\"q\": \"x\"}\n\n{\"q\": \"caf\u{e9}\"}"),
        ] {
            let latin1: Vec<u8> = text.chars().map(|c| c as u8).collect();
            let error = rows(name, &latin1).unwrap_err().to_string();
            assert!(error.contains(&format!("{name}:3: ")) && error.contains("CP1252"), "{error}");
            let utf16: Vec<u8> =
                [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
            let error = rows(name, &utf16).unwrap_err().to_string();
            assert!(error.contains(&format!("{name}:1: ")) && error.contains("UTF-16"), "{error}");
        }
        check("d.json", "[{\"a\": 1},\n 3]", "d.json:2: an element of the file is no object");
        check("d.json", "[{\"a\": 1},\n{", "d.json:2: not valid JSON");
        check("d.json", "{\"a\": 1}\n", "an element of the file is no object");
        check("d.json", "[]", "no rows");
        check("d.jsonl", "", "no rows");
    }
}
