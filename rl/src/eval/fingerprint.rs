//! SHA-256 of what a result depends on: data, weights, chat template.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rlvr_rewards::Message;
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::files::IoError;
use crate::policy::Policy;

/// SHA-256 of bytes, in hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// A file that cannot be read.
pub fn file_sha256(path: &Path) -> Result<String, Error> {
    let mut hasher = Sha256::new();
    update(&mut hasher, path)?;
    Ok(hex(&hasher.finalize()))
}

/// SHA-256 over the weights, the tokenizer and the config of a policy: the `.gguf` file, or of a folder every
/// `.safetensors`, `tokenizer.json` and `config.json` with its name, in the order of names. `None` of a policy in
/// memory.
///
/// # Errors
/// A file that cannot be read.
pub fn policy_sha256(policy: &Policy) -> Result<Option<String>, Error> {
    let Some(source) = policy.source() else { return Ok(None) };
    if source.is_file() {
        return file_sha256(source).map(Some);
    }
    let counts =
        |name: &str| name.ends_with(".safetensors") || ["tokenizer.json", "config.json"].contains(&name);
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(source).map_err(IoError::at("read", source))? {
        let entry = entry.map_err(IoError::at("read", source))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if counts(&name) {
            files.push((name, entry.path()));
        }
    }
    files.sort();
    let mut hasher = Sha256::new();
    for (name, path) in &files {
        hasher.update(name.as_bytes());
        hasher.update([0]);
        update(&mut hasher, path)?;
    }
    Ok(Some(hex(&hasher.finalize())))
}

/// SHA-256 of what the chat template makes of a small conversation; of the bare texts without one.
///
/// # Errors
/// What the template raises.
pub fn template_sha256(policy: &Policy) -> Result<String, Error> {
    let message = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
    let talk = [message("user", "a"), message("assistant", "b"), message("user", "c")];
    Ok(sha256_hex(policy.prompt_text(&talk)?.as_bytes()))
}

fn update(hasher: &mut Sha256, path: &Path) -> Result<(), Error> {
    let mut file = File::open(path).map_err(IoError::at("open", path))?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(IoError::at("read", path))? {
            0 => return Ok(()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_value() {
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_hex(b"abc"), abc);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "abc").unwrap();
        assert_eq!(file_sha256(&dir.path().join("f")).unwrap(), abc);
    }
}
