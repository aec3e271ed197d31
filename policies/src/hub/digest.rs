//! Content hashes that servers name files by.

use std::io::Read;
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// A hash that the content of a file must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ContentHash {
    /// SHA-256, of files in Git LFS.
    Sha256(String),
    /// SHA-1 of a Git blob, of files in Git itself; or of the bare content, with mirrors that name files so.
    Sha1(String),
}

impl ContentHash {
    /// The hash that an `ETag` is, if it is one.
    pub fn of_etag(etag: &str) -> Option<Self> {
        let hex = etag.bytes().all(|b| b.is_ascii_hexdigit());
        match etag.len() {
            64 if hex => Some(Self::Sha256(etag.to_ascii_lowercase())),
            40 if hex => Some(Self::Sha1(etag.to_ascii_lowercase())),
            _ => None,
        }
    }

    /// Whether a file has this hash.
    pub fn fits(&self, path: &Path) -> std::io::Result<bool> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        Ok(match self {
            Self::Sha256(expected) => {
                let mut hash = Sha256::new();
                pieces(&mut file, |piece| hash.update(piece))?;
                hex(&hash.finalize()) == *expected
            }
            Self::Sha1(expected) => {
                let (mut blob, mut bare) = (Sha1::new(), Sha1::new());
                blob.update(format!("blob {length}\0"));
                pieces(&mut file, |piece| {
                    blob.update(piece);
                    bare.update(piece);
                })?;
                hex(&blob.finalize()) == *expected || hex(&bare.finalize()) == *expected
            }
        })
    }
}

impl std::fmt::Display for ContentHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sha256(hash) => write!(f, "SHA-256 {hash}"),
            Self::Sha1(hash) => write!(f, "SHA-1 {hash}"),
        }
    }
}

fn pieces(file: &mut impl Read, mut each: impl FnMut(&[u8])) -> std::io::Result<()> {
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(()),
            n => each(&piece[..n]),
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
    fn hashes_of_git_and_of_lfs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "hello\n").unwrap();
        // `git hash-object`, `sha1sum` and `sha256sum` of that file.
        for etag in [
            "ce013625030ba8dba906f756967f9e9ca394464a",
            "f572d396fae9206628714fb2ce00f72e94f2258f",
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        ] {
            assert!(ContentHash::of_etag(etag).unwrap().fits(&path).unwrap(), "{etag}");
            let other = ContentHash::of_etag(&etag.replace('f', "e")).unwrap();
            assert!(!other.fits(&path).unwrap(), "{other}");
        }
        assert_eq!(ContentHash::of_etag("5f3c-1a2b"), None);
        assert_eq!(ContentHash::of_etag(&"g".repeat(40)), None);
    }
}
