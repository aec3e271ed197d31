//! Numbers of JSON that have more digits than a number of 64 bits holds.
//!
//! Read as numbers they would become others without a word: an answer of thirty digits would be wrong, and two ids would be
//! one. In rows that become tasks and texts they are the text of their digits.

use std::borrow::Cow;
use std::io::{self, Read};

use serde_json::{Map, Value};

/// Digits that every number of 64 bits keeps.
const SAFE: usize = 15;
/// Digits by which every number of 64 bits is told from others.
const WRITTEN: usize = 17;
/// Bytes of the longest number that is read.
const LONGEST: usize = 1 << 16;

/// JSON in which every number that would lose digits is a string of them.
pub fn keep(json: &str) -> Cow<'_, str> {
    if !json.bytes().any(|b| b.is_ascii_digit()) || !suspicious(json.as_bytes()) {
        return Cow::Borrowed(json);
    }
    let (mut scanner, mut out) = (Scanner::default(), Vec::with_capacity(json.len() + 16));
    json.bytes().for_each(|byte| scanner.push(byte, &mut out));
    scanner.end(&mut out);
    match scanner.changed {
        true => String::from_utf8(out).map_or(Cow::Borrowed(json), Cow::Owned),
        false => Cow::Borrowed(json),
    }
}

/// A document with the digits of its numbers, see [`keep`].
///
/// # Errors
/// What is no JSON, at its place in `json`.
pub fn parse(json: &str) -> serde_json::Result<Value> {
    let value = serde_json::from_str(json)?;
    match keep(json) {
        Cow::Borrowed(_) => Ok(value),
        Cow::Owned(kept) => serde_json::from_str(&kept),
    }
}

/// The fields of a row as numbers that can be compared, where [`parse`] of its text made texts of some.
pub fn rounded(json: &str) -> Option<Map<String, Value>> {
    matches!(keep(json), Cow::Owned(_)).then(|| serde_json::from_str(json).ok())?
}

/// Whether a number with many digits or an exponent may be in it, without a look at what stands in strings.
fn suspicious(json: &[u8]) -> bool {
    let mut run = 0;
    json.iter().any(|byte| {
        run = match byte {
            b'0'..=b'9' | b'.' => run + 1,
            b'e' | b'E' if run > 0 => return true,
            _ => 0,
        };
        run > SAFE
    })
}

/// Goes through JSON byte by byte.
#[derive(Default)]
struct Scanner {
    quoted: bool,
    escaped: bool,
    number: Vec<u8>,
    changed: bool,
}

impl Scanner {
    fn push(&mut self, byte: u8, out: &mut Vec<u8>) {
        if self.quoted {
            self.quoted = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            return out.push(byte);
        }
        let begins = byte == b'-' || byte.is_ascii_digit();
        if begins || !self.number.is_empty() && matches!(byte, b'+' | b'.' | b'e' | b'E') {
            return self.number.push(byte);
        }
        self.end(out);
        self.quoted = byte == b'"';
        out.push(byte);
    }

    /// Writes the number that has ended, if one has.
    fn end(&mut self, out: &mut Vec<u8>) {
        let keeps = std::str::from_utf8(&self.number).is_ok_and(|number| number.is_empty() || holds(number));
        if keeps {
            out.append(&mut self.number);
        } else {
            self.changed = true;
            out.push(b'"');
            out.append(&mut self.number);
            out.push(b'"');
        }
    }
}

/// Whether a number of 64 bits is this one, as it is written back or as other programs write it with up to 17 digits. What is
/// no number of JSON is left to the parser.
fn holds(number: &str) -> bool {
    if number.parse::<u64>().is_ok() || number.parse::<i64>().is_ok() {
        return true;
    }
    let Some(value) = number.parse::<f64>().ok().filter(|value| value.is_finite()) else { return true };
    let said = decimal(number);
    match said.0.len() {
        0 => true,
        digits @ 1..=WRITTEN if decimal(&format!("{:.*e}", digits - 1, value)) == said => true,
        _ => decimal(&format!("{value:e}")) == said,
    }
}

/// The digits of a number without zeros around them, and the power of ten of the first.
fn decimal(number: &str) -> (String, i64) {
    let number = number.trim_start_matches('-');
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let zeros = all.len() - all.trim_start_matches('0').len();
    let exponent: i64 = exponent.trim_start_matches('+').parse().unwrap_or_default();
    let digits = all.trim_matches('0').to_owned();
    let first = if digits.is_empty() { 0 } else { exponent + whole.len() as i64 - 1 - zeros as i64 };
    (digits, first)
}

/// The same for a stream: what comes out of it has the digits of the numbers that went in.
pub struct Kept<R> {
    inner: R,
    scanner: Scanner,
    ready: Vec<u8>,
    at: usize,
    block: Vec<u8>,
}

impl<R: Read> Kept<R> {
    /// Reads from `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, scanner: Scanner::default(), ready: Vec::new(), at: 0, block: vec![0; 1 << 16] }
    }
}

impl<R: Read> Read for Kept<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.ready.len() {
            self.ready.clear();
            self.at = 0;
            let n = self.inner.read(&mut self.block)?;
            for byte in &self.block[..n] {
                self.scanner.push(*byte, &mut self.ready);
            }
            if self.scanner.number.len() > LONGEST {
                let what = format!("a number has more than {LONGEST} digits");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            if n == 0 {
                self.scanner.end(&mut self.ready);
                if self.ready.is_empty() {
                    return Ok(0);
                }
            }
        }
        let n = buffer.len().min(self.ready.len() - self.at);
        buffer[..n].copy_from_slice(&self.ready[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_that_would_change_are_their_digits() {
        let long = "123456789012345678901234567890";
        for text in [
            long,
            "-18446744073709551616",
            "0.1234567890123456789012",
            "1.0000000000000000000001",
            "1e-400",
            "0.1000000000000000055511151231257827",
        ] {
            assert_eq!(parse(&format!("{{\"a\": [{text} , 1]}}")).unwrap(), json!({"a": [text, 1]}));
        }
        for text in [
            "0",
            "-0",
            "-0.0",
            "1.10",
            "12345678901234567891",
            "-9223372036854775808",
            "0.1",
            "0.30000000000000004",
            "0.10000000000000001",
            "1e23",
            "1E+5",
            "100000000000000000000000",
            "5e-324",
            "1.7976931348623157e308",
        ] {
            assert!(matches!(keep(text), Cow::Borrowed(_)), "{text}");
        }
        let quoted = format!("{{\"{long}\": \"\\\"{long}\", \"b\\\\\": 1}}");
        assert!(matches!(keep(&quoted), Cow::Borrowed(_)), "{quoted}");
        assert_eq!(
            rounded(&format!("{{\"a\": {long}}}")).unwrap()["a"].as_f64(),
            Some(1.2345678901234568e29)
        );
        assert!(rounded("{\"a\": 1}").is_none());
        // What is no JSON is refused at its place, and so is what no number reaches.
        assert_eq!(parse(&format!("[{long}, x]")).unwrap_err().column(), 34);
        assert!(parse("[1e400]").unwrap_err().to_string().contains("out of range"));
        assert!(parse("[1-2e]").is_err() && parse("[12345678901234567890123.]").is_err());
    }

    #[test]
    fn a_stream_is_the_text() {
        let text =
            format!("[{{\"a\": {}}}, \"{}\",\n 0.1234567890123456789012", "9".repeat(40), "8".repeat(40));
        let mut out = String::new();
        Kept::new(text.as_bytes()).read_to_string(&mut out).unwrap();
        assert_eq!(out, keep(&text));
        assert!(out.ends_with("\"0.1234567890123456789012\""), "{out}");
        let digits = "1".repeat(1 << 18);
        assert!(
            Kept::new(digits.as_bytes()).read_to_string(&mut out).unwrap_err().to_string().contains("digits")
        );
    }
}
