//! The directory of the host in which a child works where it has no file system of its own.

use std::ffi::{CString, OsStr};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{
    AtFlags, Dir, FlockOperation, Gid, Mode, OFlags, Uid, fchown, flock, fstat, mkdirat, open, openat,
    unlinkat,
};
use rustix::io::Errno;

pub(in crate::outside) mod tree;

/// What the names begin with; a process id, a dash and more letters follow.
const PREFIX: &str = "rlvr-code-";

/// A private directory. Locked as long as this value lives, so that what was left by a process that was killed can be told
/// from what another one is using.
pub(crate) struct Scratch {
    parent: OwnedFd,
    name: CString,
    dir: OwnedFd,
    path: PathBuf,
}

impl Scratch {
    /// A directory of mode 0700 below the system's temporary directory, given to `owner` where there is one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(in crate::outside) fn new(owner: Option<u32>) -> io::Result<Self> {
        // As the kernel says it: mappings are found by this path, and the program is told it as its home.
        let place = std::env::temp_dir().canonicalize()?;
        let parent = directory(&place)?;
        let mut tries = 0;
        loop {
            match Self::at(&place, &parent, owner) {
                Ok(found) => {
                    let (name, dir) = found;
                    let path = place.join(OsStr::from_bytes(name.as_bytes()));
                    return Ok(Self { parent, name, dir, path });
                }
                // The name was taken, or somebody swept the directory away before it was locked.
                Err(Errno::EXIST | Errno::NOENT | Errno::WOULDBLOCK) if tries < 100 => tries += 1,
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn at(place: &Path, parent: &OwnedFd, owner: Option<u32>) -> Result<(CString, OwnedFd), Errno> {
        let name = format!("{PREFIX}{}-{:016x}", std::process::id(), random(place));
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        mkdirat(parent, &name, Mode::RWXU)?;
        match Self::take(parent, &name, owner) {
            Ok(dir) => Ok((name, dir)),
            Err(e) => {
                // Empty, whoever has it now.
                let _ = unlinkat(parent, &name, AtFlags::REMOVEDIR);
                Err(e)
            }
        }
    }

    fn take(parent: &OwnedFd, name: &CString, owner: Option<u32>) -> Result<OwnedFd, Errno> {
        let dir = tree::open(parent.as_fd(), name)?;
        flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
        if let Some(owner) = owner {
            let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(owner));
            fchown(&dir, Some(uid), Some(gid))?;
        }
        // Still there: a directory without links was removed before the lock.
        if fstat(&dir)?.st_nlink == 0 {
            return Err(Errno::NOENT);
        }
        Ok(dir)
    }

    /// Puts a file into it that belongs to whom the directory belongs to.
    ///
    /// # Errors
    /// When it is there already or cannot be written.
    pub(in crate::outside) fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR)?;
        let of = fstat(&self.dir)?;
        fchown(&file, Some(Uid::from_raw(of.st_uid)), Some(Gid::from_raw(of.st_gid)))?;
        std::fs::File::from(file).write_all(content)
    }

    /// Where it is.
    pub(in crate::outside) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory itself.
    pub(in crate::outside) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// Removes it with all that is in it.
    pub(crate) fn remove(&self) {
        tree::empty(&self.dir);
        if let Err(e) = unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR)
            && e != Errno::NOENT
        {
            tracing::warn!("cannot remove {}: {e}", self.path.display());
        }
    }
}

/// Removes what processes left that were killed before they could. `owners` are the user ids that children of root get.
pub(in crate::outside) fn sweep(owners: &std::ops::Range<u32>) {
    let Ok(parent) = directory(&std::env::temp_dir()) else { return };
    for entry in Dir::read_from(&parent).into_iter().flatten().map_while(Result::ok) {
        let name = entry.file_name();
        let ours = name.to_str().ok().and_then(|n| n.strip_prefix(PREFIX)?.split_once('-'));
        if ours.is_some_and(|(id, rest)| id.parse::<u32>().is_ok() && !rest.is_empty()) {
            sweep_one(parent.as_fd(), name, owners);
        }
    }
}

fn sweep_one(parent: BorrowedFd<'_>, name: &std::ffi::CStr, owners: &std::ops::Range<u32>) {
    let Ok(dir) = tree::open(parent, name) else { return };
    let user = rustix::process::geteuid();
    let of = fstat(&dir).map_or(u32::MAX, |s| s.st_uid);
    let own = of == user.as_raw() || user.is_root() && owners.contains(&of);
    // Who uses it holds the lock. What a killed one left running does not: the descriptor does not survive an exec.
    if own && flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok() {
        tree::empty(&dir);
        let _ = unlinkat(parent, name, AtFlags::REMOVEDIR);
    }
}

fn directory(path: &Path) -> Result<OwnedFd, Errno> {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// A number that no other call gets.
fn random(place: &Path) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    RandomState::new().hash_one((place, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_is_not_swept_and_what_was_left_is() {
        let used = Scratch::new(None).unwrap();
        let left = Scratch::new(None).unwrap();
        let path = left.path().to_path_buf();
        std::fs::create_dir(path.join("d")).unwrap();
        // As a process that ends: the lock goes, the directory stays.
        drop(left);
        assert!(path.exists());
        let foreign = std::env::temp_dir().join(format!("{PREFIX}somebody-else"));
        std::fs::create_dir_all(&foreign).unwrap();
        sweep(&(0..0));
        assert!(!path.exists() && used.path().exists() && foreign.exists());
        std::fs::remove_dir(foreign).unwrap();
        used.remove();
        assert!(!used.path().exists());
    }
}
