//! The directory in which a child works.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Directory entries that a child may make; more ends it.
const MAX_ENTRIES: usize = 512;

/// A fresh private directory, removed when dropped.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// A directory of mode 0700 below the system's temporary directory, given to `owner` where there is one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(owner: Option<u32>) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("rlvr-code-").tempdir()?;
        let scratch = Self { path: dir.keep() };
        if owner.is_some() {
            chown(&scratch.path, owner, owner)?;
        }
        Ok(scratch)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a file into it, readable for its owner.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let path = self.path.join(name);
        fs::write(&path, content)?;
        let owner = fs::metadata(&self.path)?;
        if owner.uid() != fs::metadata(&path)?.uid() {
            chown(&path, Some(owner.uid()), Some(owner.gid()))?;
        }
        Ok(())
    }

    /// Whether it holds more than `bytes` or too many entries. Looks at a bounded number of entries.
    pub(super) fn is_over(&self, bytes: u64) -> bool {
        let mut dirs = vec![self.path.clone()];
        let (mut entries, mut total) = (0, 0);
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                entries += 1;
                if let Ok(data) = entry.metadata() {
                    // Blocks, not length: a file with holes costs what it occupies.
                    total += data.blocks() * 512;
                    if data.is_dir() {
                        dirs.push(entry.path());
                    }
                }
                if entries > MAX_ENTRIES || total > bytes {
                    return true;
                }
            }
        }
        false
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A process that was just killed may still end a write.
        for _ in 0..20 {
            flatten(&self.path);
            if fs::remove_dir(&self.path).is_ok() || !self.path.exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// Empties a directory of any depth without recursion and without long paths: whatever lies two levels down is moved up
/// before its directory is removed. Nothing follows a link.
fn flatten(top: &Path) {
    let mut moved = 0u64;
    loop {
        let mut progress = false;
        for entry in fs::read_dir(top).into_iter().flatten().flatten() {
            let path = entry.path();
            if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                progress |= fs::remove_file(&path).is_ok();
                continue;
            }
            let open = |p: &Path| fs::set_permissions(p, fs::Permissions::from_mode(0o700));
            let _ = open(&path);
            for inner in fs::read_dir(&path).into_iter().flatten().flatten() {
                let from = inner.path();
                if inner.file_type().is_ok_and(|t| t.is_dir()) {
                    // Moving a directory needs the right to write it.
                    let _ = open(&from);
                    moved += 1;
                    progress |= fs::rename(&from, top.join(format!(".rlvr-{moved}"))).is_ok();
                } else {
                    progress |= fs::remove_file(&from).is_ok();
                }
            }
            progress |= fs::remove_dir(&path).is_ok();
        }
        if !progress {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_deep_and_locked_directories_but_nothing_behind_a_link() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("keep"), "x").unwrap();
        let scratch = Scratch::new(None).unwrap();
        let top = scratch.path().to_path_buf();
        let mut deep = top.clone();
        for _ in 0..300 {
            deep.push("d");
            fs::create_dir(&deep).unwrap();
        }
        fs::write(deep.join("f"), "x").unwrap();
        std::os::unix::fs::symlink(outside.path(), top.join("link")).unwrap();
        fs::set_permissions(top.join("d/d"), fs::Permissions::from_mode(0o000)).unwrap();
        assert!(!scratch.is_over(1 << 30) && scratch.is_over(100));
        drop(scratch);
        assert!(!top.exists());
        assert!(outside.path().join("keep").exists());
    }
}
