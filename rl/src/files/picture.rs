//! Files of pictures: what a task names is read, nothing is decoded.
use rlvr_rewards::TaskImage;
use std::borrow::Cow;
use std::fmt::Display;
use std::io::Read;
use std::path::Path;

/// Longest file of a picture, in bytes.
const MAX_FILE: u64 = 256 << 20;

/// What the file of a picture holds.
///
/// # Errors
/// What it is called, and why it cannot be read.
pub fn bytes_of(image: &TaskImage) -> Result<Cow<'_, [u8]>, String> {
    match image {
        TaskImage::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
        TaskImage::Path(path) => read(path).map(Cow::Owned),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |e: std::io::Error| format!("the image {} cannot be read: {e}", path.display());
    // A pipe would be waited for.
    let data = std::fs::metadata(path).map_err(failed)?;
    if !data.is_file() || data.len() > MAX_FILE {
        return Err(format!("the image {} is no file of at most 256 MiB", path.display()));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// A problem of a picture behind its name, where it has one.
pub fn named(image: &TaskImage, problem: &dyn Display) -> String {
    match image {
        TaskImage::Path(path) => format!("{}: {problem}", path.display()),
        TaskImage::Bytes(_) => problem.to_string(),
    }
}
