//! Reads what users give: text and JSON Lines, with the file and line of whatever is wrong.

use anyhow::{Context, Result};
use rlvr::files::encoding::utf8;
use rlvr::rewards::{Message, prompt_messages};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

/// Input that cannot be used: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadInput(pub String);

/// An error that ends with exit code 2.
pub fn bad(message: impl Into<String>) -> anyhow::Error {
    BadInput(message.into()).into()
}

/// A file, or stdin for `-`.
pub struct Source {
    name: String,
    reader: Box<dyn BufRead>,
    line: usize,
}

/// The fields of a row and its line.
pub type Row = (usize, Map<String, Value>);

impl Source {
    pub fn open(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            let reader = Box::new(BufReader::new(std::io::stdin()));
            return Ok(Self { name: "stdin".into(), reader, line: 0 });
        }
        let name = path.display().to_string();
        if path.is_dir() {
            return Err(bad(format!("{name} is a directory, a file is needed")));
        }
        let file = File::open(path).map_err(|e| match e.kind() {
            ErrorKind::NotFound => bad(format!("{name}: there is no such file")),
            _ => bad(format!("cannot read {name}: {e}")),
        })?;
        Ok(Self { name, reader: Box::new(BufReader::with_capacity(1 << 16, file)), line: 0 })
    }

    /// An error at a line of this input.
    pub fn bad_at(&self, line: usize, message: impl std::fmt::Display) -> anyhow::Error {
        bad(format!("{}:{line}: {message}", self.name))
    }

    /// `FILE:LINE`.
    pub fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.name)
    }

    /// The next line that is not blank, with its number.
    pub fn next_line(&mut self) -> Result<Option<(usize, String)>> {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let read = self.reader.read_until(b'\n', &mut bytes);
            if read.with_context(|| format!("reading {}", self.name))? == 0 {
                return Ok(None);
            }
            self.line += 1;
            let text = utf8(&bytes).map_err(|e| self.bad_at(self.line, e))?;
            let text = text.strip_prefix('\u{feff}').filter(|_| self.line == 1).unwrap_or(text).trim();
            if !text.is_empty() {
                return Ok(Some((self.line, text.to_owned())));
            }
        }
    }

    /// The next row, which must be a JSON object.
    pub fn next_object(&mut self) -> Result<Option<Row>> {
        let Some((line, text)) = self.next_line()? else { return Ok(None) };
        Ok(Some((line, object(&text).map_err(|e| self.bad_at(line, e))?)))
    }

    /// All rows.
    pub fn objects(&mut self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        while let Some(row) = self.next_object()? {
            rows.push(row);
        }
        Ok(rows)
    }
}

/// A line as a JSON object.
pub fn object(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text).map_err(|e| not_json(&e, text))? {
        Value::Object(fields) => Ok(fields),
        Value::Array(_) => {
            Err("the row is an array: JSON Lines has one object a line (jq -c '.[]' makes lines of an array)"
                .into())
        }
        _ => Err("the row is not an object".into()),
    }
}

fn not_json(error: &serde_json::Error, text: &str) -> String {
    let message = error.to_string();
    // Every row is its own document: serde's "line 1" would mislead.
    let message = message.split(" at line ").next().unwrap_or_default();
    let hint = match (error.is_eof(), text.starts_with('[')) {
        (true, true) => "; JSON Lines has one object a line (jq -c '.[]' makes lines of an array)",
        (true, false) => "; JSON Lines has one whole object on each line (jq -c . makes such lines)",
        _ => "",
    };
    format!("not valid JSON: {message} at column {}{hint}", error.column())
}

/// A whole input as text, with its name for messages.
pub fn text(path: &Path) -> Result<(String, String)> {
    let mut source = Source::open(path)?;
    let mut bytes = Vec::new();
    source.reader.read_to_end(&mut bytes).with_context(|| format!("reading {}", source.name))?;
    let text = utf8(&bytes).map_err(|e| source.bad_at(e.line, e))?.to_owned();
    Ok((source.name, text))
}

/// An id as text: a string or a number.
pub fn id_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The prompt of a row: `prompt`, text or messages, or `question`.
pub fn messages(fields: &Map<String, Value>) -> Result<Vec<Message>, String> {
    let given = ["prompt", "question"].iter().find_map(|key| Some((*key, fields.get(*key)?)));
    let (key, prompt) = given.ok_or("the row has no `prompt` (or `question`)")?;
    prompt_messages(prompt, key)
}

/// The candidate most like `name`, if any is.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = candidates.map(|c| (strsim::jaro_winkler(name, c), c));
    scored.filter(|(likeness, _)| *likeness > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, c)| c)
}
