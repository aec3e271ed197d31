//! Bytes of a file as text, and what they probably are where they are no UTF-8.

/// Bytes that are no UTF-8 text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not UTF-8 text ({found}); {hint}")]
pub struct NotUtf8 {
    /// Line of the first byte at fault within the bytes, from 1.
    pub line: usize,
    found: String,
    hint: &'static str,
}

/// The way to UTF-8 from what most files are that are neither that nor UTF-16.
pub const FROM_LATIN1: &str = "iconv -f CP1252 -t UTF-8 makes it of Latin-1";

/// How UTF-16 begins, little- and big-endian.
const UTF16_MARKS: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// The bytes as text. A byte of 0 is refused too: JSON and TOML have none, UTF-16 without a mark has many.
///
/// # Errors
/// [`NotUtf8`] with the line and a way to convert the file.
pub fn utf8(bytes: &[u8]) -> Result<&str, NotUtf8> {
    utf16(bytes)?;
    let (place, found, hint) = match (bytes.iter().position(|b| *b == 0), std::str::from_utf8(bytes)) {
        (None, Ok(text)) => return Ok(text),
        (Some(zero), _) => {
            let zeros = bytes.iter().filter(|b| **b == 0).count();
            // The zero is the upper half of an ASCII character, which comes second in the little-endian form.
            let hint = match zero % 2 {
                _ if 4 * zeros < bytes.len() || 3 * bytes.len() < 4 * zeros => {
                    "no text has one: the file is damaged, or no text (tr -d '\\000' removes such bytes)"
                }
                1 => "iconv -f UTF-16LE -t UTF-8 makes it of that",
                _ => "iconv -f UTF-16BE -t UTF-8 makes it of that",
            };
            (zero, format!("a byte 0x00 in column {}", column(&bytes[..zero])), hint)
        }
        (None, Err(error)) => {
            let place = error.valid_up_to();
            let found = match error.error_len() {
                Some(_) => format!("byte {:#04x} in column {}", bytes[place], column(&bytes[..place])),
                None => format!("it ends inside of a character, in column {}", column(&bytes[..place])),
            };
            (place, found, FROM_LATIN1)
        }
    };
    Err(NotUtf8 { line: bytes[..place].iter().filter(|b| **b == b'\n').count() + 1, found, hint })
}

/// Refuses bytes that begin with a mark of UTF-16.
///
/// # Errors
/// [`NotUtf8`].
pub fn utf16(bytes: &[u8]) -> Result<(), NotUtf8> {
    match UTF16_MARKS.iter().any(|mark| bytes.starts_with(mark)) {
        true => Err(NotUtf8 {
            line: 1,
            found: "it begins like UTF-16".to_owned(),
            hint: "iconv -f UTF-16 -t UTF-8 makes it of that",
        }),
        false => Ok(()),
    }
}

/// The column behind these bytes, from 1, in characters of their last line.
fn column(before: &[u8]) -> usize {
    let line = before.rsplit(|b| *b == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(line).chars().count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_encodings_are_named_with_line_and_column() {
        let utf16 = |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect();
        let little: Vec<u8> = utf16("{\"a\": \"é\"}\n", u16::to_le_bytes);
        let big: Vec<u8> = utf16("{\"a\": \"é\"}\n", u16::to_be_bytes);
        let check = |bytes: &[u8], line: usize, parts: &[&str]| {
            let error = utf8(bytes).unwrap_err();
            let text = error.to_string();
            assert_eq!(error.line, line, "{text}");
            parts.iter().for_each(|part| assert!(text.contains(part), "no {part:?} in {text}"));
        };
        check(&[b"\xff\xfe", &little[..]].concat(), 1, &["UTF-16", "iconv -f UTF-16 -t UTF-8"]);
        check(&[b"\xfe\xff", &big[..]].concat(), 1, &["UTF-16", "iconv -f UTF-16 -t UTF-8"]);
        check(&little, 1, &["0x00", "iconv -f UTF-16LE"]);
        check(&big, 1, &["0x00", "iconv -f UTF-16BE"]);
        check(b"{\"a\": 1}\n{\"a\": \"b\0c\"}\n", 2, &["a byte 0x00 in column 9", "damaged", "tr -d"]);
        check(&[0; 64], 1, &["column 1", "damaged"]);
        check(b"{\"a\": 1}\n{\"a\": \"caf\xe9\"}\n", 2, &["byte 0xe9 in column 11", "CP1252"]);
        check("{\"é\": \"ü".as_bytes().split_last().unwrap().1, 1, &["inside of a character, in column 8"]);
        assert_eq!(utf8("é\n".as_bytes()), Ok("é\n"));
    }
}
