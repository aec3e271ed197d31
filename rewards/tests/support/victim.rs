//! A directory that must stay whole, whatever a hostile program does.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Files at its top.
const FILES: usize = 20;
/// A mode that nothing else sets.
const MODE: u32 = 0o711;

/// The directory.
pub struct Victim(tempfile::TempDir);

impl Victim {
    /// Makes it where temporary files are.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("rlvr-victim-").tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sub/deep")).unwrap();
        for i in 0..FILES {
            fs::write(dir.path().join(format!("f{i}")), "precious").unwrap();
        }
        fs::write(dir.path().join("sub/deep/g"), "precious").unwrap();
        for path in ["sub", ""] {
            fs::set_permissions(dir.path().join(path), Permissions::from_mode(MODE)).unwrap();
        }
        Self(dir)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fails when something of it is gone, new or changed.
    pub fn check(&self) {
        let content = |name: String| fs::read(self.path().join(name)).is_ok_and(|c| c == b"precious");
        let files = (0..FILES).filter(|i| content(format!("f{i}"))).count();
        let all = fs::read_dir(self.path()).unwrap().count();
        let deep = content("sub/deep/g".into());
        assert_eq!((files, all, deep), (FILES, FILES + 1, true), "files of others were changed");
        let mode = |p: &str| fs::metadata(self.path().join(p)).map(|m| m.permissions().mode() & 0o7777);
        assert_eq!((mode("").unwrap(), mode("sub").unwrap()), (MODE, MODE), "modes of others were changed");
    }
}
