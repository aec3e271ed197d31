//! Input that somebody names: text and JSON Lines, with the file and line of whatever is wrong.

use super::bounded::{self, WHOLE};
use super::digits;
use super::encoding::utf8;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::path::Path;

/// Why an input cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A directory where a file is needed.
    #[error("{name} is a directory, a file is needed")]
    Directory {
        /// The input.
        name: String,
    },
    /// Nothing has this name.
    #[error("{name}: there is no such file")]
    Missing {
        /// The input.
        name: String,
    },
    /// The file cannot be opened.
    #[error("cannot read {name}")]
    Open {
        /// The input.
        name: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// Reading failed on the way.
    #[error("reading {name}")]
    Read {
        /// The input.
        name: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A line that cannot be used.
    #[error("{name}:{line}: {message}")]
    Line {
        /// The input.
        name: String,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it, with a hint.
        message: String,
    },
}

impl SourceError {
    /// The exit code the command line gives for this error: 2 for bad input, 1 for a failure while reading.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Read { .. } => 1,
            Self::Directory { .. } | Self::Missing { .. } | Self::Open { .. } | Self::Line { .. } => 2,
        }
    }
}

/// A file, or stdin for `-`, read line by line.
pub struct LineSource {
    name: String,
    reader: Box<dyn BufRead>,
    line: usize,
}

/// The fields of a row and its line, from 1.
pub type LineFields = (usize, Map<String, Value>);

impl LineSource {
    /// Opens a file, or stdin for `-`.
    ///
    /// # Errors
    /// [`SourceError`], of a directory or a file that cannot be opened.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        if path == Path::new("-") {
            let reader = Box::new(BufReader::new(io::stdin()));
            return Ok(Self { name: "stdin".into(), reader, line: 0 });
        }
        let name = path.display().to_string();
        if path.is_dir() {
            return Err(SourceError::Directory { name });
        }
        match File::open(path) {
            Ok(file) => Ok(Self { name, reader: Box::new(BufReader::with_capacity(1 << 16, file)), line: 0 }),
            Err(e) if e.kind() == ErrorKind::NotFound => Err(SourceError::Missing { name }),
            Err(source) => Err(SourceError::Open { name, source }),
        }
    }

    /// An error at a line of this input.
    pub fn bad_at(&self, line: usize, message: impl std::fmt::Display) -> SourceError {
        SourceError::Line { name: self.name.clone(), line, message: message.to_string() }
    }

    /// `FILE:LINE`.
    pub fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.name)
    }

    /// The next line that is not blank, without white space at its ends, and its number.
    ///
    /// # Errors
    /// [`SourceError`], of a read that failed or bytes that are no UTF-8.
    pub fn next_line(&mut self) -> Result<Option<(usize, String)>, SourceError> {
        let mut bytes = Vec::new();
        loop {
            match bounded::line(&mut self.reader, &mut bytes) {
                Ok(0) => return Ok(None),
                Err(e) if e.kind() == ErrorKind::FileTooLarge => return Err(self.bad_at(self.line + 1, e)),
                read => read.map_err(failed(&self.name))?,
            };
            self.line += 1;
            let text = utf8(&bytes).map_err(|e| self.bad_at(self.line, e))?;
            let text = text.strip_prefix('\u{feff}').filter(|_| self.line == 1).unwrap_or(text).trim();
            if !text.is_empty() {
                return Ok(Some((self.line, text.to_owned())));
            }
        }
    }

    /// The next row, which must be a JSON object.
    ///
    /// # Errors
    /// As [`Self::next_line`]; a line that is no object.
    pub fn next_object(&mut self) -> Result<Option<LineFields>, SourceError> {
        let Some((line, text)) = self.next_line()? else { return Ok(None) };
        Ok(Some((line, object(&text).map_err(|e| self.bad_at(line, e))?)))
    }

    /// All rows.
    ///
    /// # Errors
    /// As [`Self::next_object`].
    pub fn objects(&mut self) -> Result<Vec<LineFields>, SourceError> {
        std::iter::from_fn(|| self.next_object().transpose()).collect()
    }
}

fn failed(name: &str) -> impl FnOnce(io::Error) -> SourceError {
    move |source| SourceError::Read { name: name.to_owned(), source }
}

/// A line as a JSON object.
///
/// # Errors
/// What is wrong with it, in words.
pub fn object(text: &str) -> Result<Map<String, Value>, String> {
    match digits::parse(text).map_err(|e| not_json(&e, text))? {
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
///
/// # Errors
/// [`SourceError`].
pub fn text(path: &Path) -> Result<(String, String), SourceError> {
    text_within(path, WHOLE)
}

/// The same of at most `most` bytes.
///
/// # Errors
/// [`SourceError`].
pub fn text_within(path: &Path, most: u64) -> Result<(String, String), SourceError> {
    let mut source = LineSource::open(path)?;
    let bytes = bounded::within(&mut source.reader, most).map_err(|error| match error.kind() {
        ErrorKind::FileTooLarge => SourceError::Open { name: source.name.clone(), source: error },
        _ => failed(&source.name)(error),
    })?;
    let text = utf8(&bytes).map_err(|e| source.bad_at(e.line, e))?.to_owned();
    Ok((source.name, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_with_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.jsonl");
        let shown = path.display().to_string();
        let error = |error: SourceError| (error.to_string(), error.exit_code());
        assert_eq!(
            error(LineSource::open(&path).err().unwrap()),
            (format!("{shown}: there is no such file"), 2)
        );
        let directory = format!("{} is a directory, a file is needed", dir.path().display());
        assert_eq!(error(LineSource::open(dir.path()).err().unwrap()), (directory, 2));

        std::fs::write(&path, "\u{feff}{\"id\": 1}\n\n  {\"id\": 2}  \n[1]\n").unwrap();
        let mut source = LineSource::open(&path).unwrap();
        let ids = |row: Option<LineFields>| row.map(|(line, fields)| (line, fields["id"].as_u64().unwrap()));
        assert_eq!(ids(source.next_object().unwrap()), Some((1, 1)));
        assert_eq!(ids(source.next_object().unwrap()), Some((3, 2)));
        let (message, code) = error(source.next_object().unwrap_err());
        assert!(message.starts_with(&format!("{shown}:4: the row is an array")) && code == 2, "{message}");

        std::fs::write(&path, b"{}\n\xff\n").unwrap();
        let (message, code) = error(text(&path).unwrap_err());
        assert!(message.starts_with(&format!("{shown}:2: not UTF-8 text")) && code == 2, "{message}");
    }

    #[test]
    fn a_failure_while_reading_is_no_bad_input() {
        let gone = SourceError::Read { name: "a".into(), source: ErrorKind::UnexpectedEof.into() };
        assert_eq!((gone.to_string().as_str(), gone.exit_code()), ("reading a", 1));
    }
}
