//! Pictures of a task, as data rows name them: a file, or the bytes of one. Nothing is fetched and nothing decoded here.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A picture of a task. In JSON it is a path, or a `data:` URI.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "String")]
pub enum TaskImage {
    /// A file.
    Path(PathBuf),
    /// What a file holds.
    Bytes(Arc<[u8]>),
}

/// What stands in the text of a prompt in the place of a picture.
pub const IMAGE_PLACE: &str = "<image>";

impl TaskImage {
    /// A picture as a row names it: a path, relative to `folder`, a `data:` URI, or an object with `bytes` (base64, or a list
    /// of numbers) or `path`.
    ///
    /// # Errors
    /// Anything else, and addresses of the network.
    pub fn read(value: &Value, folder: &Path) -> Result<Self, String> {
        match value {
            Value::String(text) if text.starts_with("data:") => {
                let (head, data) = text.split_once(',').ok_or("a data: URI without data")?;
                if !head.ends_with(";base64") {
                    return Err("a data: URI must be base64".into());
                }
                Ok(Self::Bytes(base64(data)?.into()))
            }
            Value::String(text) if text.starts_with("http://") || text.starts_with("https://") => {
                Err(format!("{text} is not fetched: save the file and name its path"))
            }
            Value::String(text) if text.is_empty() => Err("an empty path".into()),
            Value::String(text) => {
                let text = text.strip_prefix("file://").unwrap_or(text);
                Ok(Self::Path(folder.join(text)))
            }
            Value::Object(fields) => match (fields.get("bytes"), fields.get("path")) {
                (Some(Value::String(text)), _) => Ok(Self::Bytes(base64(text)?.into())),
                (Some(list @ Value::Array(_)), _) => {
                    let bytes = serde_json::from_value::<Vec<u8>>(list.clone());
                    Ok(Self::Bytes(bytes.map_err(|_| "`bytes` is not a list of bytes")?.into()))
                }
                (_, Some(path @ Value::String(_))) => Self::read(path, folder),
                _ => Err("an image has `bytes` or a `path`".into()),
            },
            _ => Err("an image is a path, a data: URI, or an object with `bytes` or `path`".into()),
        }
    }
}

impl TryFrom<Value> for TaskImage {
    type Error = String;
    fn try_from(value: Value) -> Result<Self, String> {
        Self::read(&value, Path::new(""))
    }
}

impl From<TaskImage> for String {
    fn from(image: TaskImage) -> Self {
        match image {
            TaskImage::Path(path) => path.to_string_lossy().into_owned(),
            TaskImage::Bytes(bytes) => format!("data:{};base64,{}", media_type(&bytes), to_base64(&bytes)),
        }
    }
}

/// The media type that a file begins like.
fn media_type(bytes: &[u8]) -> &'static str {
    const KNOWN: [(&[u8], &str); 5] = [
        (b"\x89PNG", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF8", "image/gif"),
        (b"RIFF", "image/webp"),
        (b"BM", "image/bmp"),
    ];
    let known = KNOWN.iter().find(|(begin, _)| bytes.starts_with(begin));
    known.map_or("application/octet-stream", |(_, name)| name)
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(text: &str) -> Result<Vec<u8>, String> {
    let (mut out, mut bits, mut held) = (Vec::with_capacity(text.len() / 4 * 3), 0u32, 0);
    for byte in text.bytes().filter(|b| !b.is_ascii_whitespace() && *b != b'=') {
        let byte = match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        };
        let digit = DIGITS.iter().position(|d| *d == byte).ok_or("the data is not base64")?;
        (bits, held) = (bits << 6 | digit as u32, held + 6);
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Ok(out)
}

fn to_base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let all = three.iter().fold(0u32, |all, b| all << 8 | u32::from(*b)) << (8 * (3 - three.len()));
        for i in 0..4 {
            let digit = (all >> (18 - 6 * i)) & 63;
            out.push(if i <= three.len() { DIGITS[digit as usize] as char } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pictures_are_read_as_rows_name_them() {
        let read = |value: Value| TaskImage::read(&value, Path::new("data"));
        assert_eq!(read(json!("a/b.png")), Ok(TaskImage::Path("data/a/b.png".into())));
        assert_eq!(read(json!("/x.png")), Ok(TaskImage::Path("/x.png".into())));
        let bytes = || TaskImage::Bytes(b"abcd".to_vec().into());
        for value in [
            json!("data:image/png;base64,YWJjZA=="),
            json!({"bytes": "YWJjZA", "path": null}),
            json!({"bytes": [97, 98, 99, 100], "path": "x"}),
        ] {
            assert_eq!(read(value), Ok(bytes()));
        }
        assert_eq!(read(json!({"bytes": null, "path": "x.png"})), Ok(TaskImage::Path("data/x.png".into())));
        for wrong in [
            json!("https://x/y.png"),
            json!("data:image/png,x"),
            json!(3),
            json!(""),
            json!({}),
            json!("data:;base64,!"),
        ] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
        let png = String::from(TaskImage::Bytes(b"\x89PNG..".to_vec().into()));
        assert!(png.starts_with("data:image/png;base64,iVBO"), "{png}");
        let written = serde_json::to_value(bytes()).unwrap();
        assert_eq!(serde_json::from_value::<TaskImage>(written).unwrap(), bytes());
    }
}
