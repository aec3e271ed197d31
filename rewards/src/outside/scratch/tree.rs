//! Directory trees that a hostile process may change at the same time: opened, walked and removed by descriptors.
//!
//! A path means something else as soon as somebody exchanges one of its parts, and so does the type that a listing gave.
//! Here a directory is what a descriptor refers to: each is opened by one name in another one's descriptor, never through
//! a link and never across a mount, and what is removed is removed from the descriptor it was found in. So nothing outside
//! of the tree is ever read, changed or removed, whatever happens inside while it goes on.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fchmod, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

/// Names that are read from a directory at a time.
const NAMES: usize = 4096;
/// Passes over the top directory in [`empty`] before it gives up on somebody who fills it at the same time, and passes in
/// a row that remove nothing before it gives up on what cannot be removed: a single one may be due to an exchange.
const PASSES: usize = 10_000;
const IDLE_PASSES: usize = 50;

/// Opens the directory `name` of `at`, also one whose mode forbids it to its owner, and nothing but a directory.
///
/// # Errors
/// When it is not there, or something else.
pub(in crate::outside) fn open(at: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    match beneath(at, name, OFlags::RDONLY) {
        Err(Errno::ACCESS) => {
            unlock(at, name)?;
            beneath(at, name, OFlags::RDONLY)
        }
        opened => opened,
    }
}

fn beneath(at: BorrowedFd<'_>, name: &CStr, how: OFlags) -> Result<OwnedFd, Errno> {
    let flags = how | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{ResolveFlags, openat2};
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        match openat2(at, name, flags, Mode::empty(), resolve) {
            // Older kernels and filters of containers do not know it. One name without following is nearly the same.
            Err(Errno::NOSYS | Errno::PERM) => {}
            opened => return opened,
        }
    }
    openat(at, name, flags, Mode::empty())
}

/// Gives the owner all rights to a directory that cannot be opened for reading.
#[cfg(target_os = "linux")]
fn unlock(at: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let place = beneath(at, name, OFlags::PATH)?;
    // Such a descriptor has no fchmod; this name is the descriptor itself and not the path that it was opened by.
    rustix::fs::chmod(format!("/proc/self/fd/{}", place.as_raw_fd()), Mode::RWXU)
}

#[cfg(not(target_os = "linux"))]
fn unlock(at: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    rustix::fs::chmodat(at, name, Mode::RWXU, AtFlags::SYMLINK_NOFOLLOW)
}

/// Some names of a directory; none is left out when the directory is small or its names go as they are read.
fn names(dir: &OwnedFd) -> Vec<CString> {
    let entries = Dir::read_from(dir).into_iter().flatten().map_while(Result::ok);
    let names = entries.map(|e| e.file_name().to_owned()).filter(|n| !matches!(n.to_bytes(), b"." | b".."));
    names.take(NAMES).collect()
}

/// Removes whatever has this name now, unless it is a directory that is not empty.
fn remove(at: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    match unlinkat(at, name, AtFlags::empty()) {
        // What Linux and what POSIX say of a directory.
        Err(Errno::ISDIR | Errno::PERM) => unlinkat(at, name, AtFlags::REMOVEDIR),
        other => other,
    }
}

/// Empties a directory of any depth, with three descriptors and without recursion: whatever directory lies two levels down
/// is moved up before its own is removed.
pub(in crate::outside) fn empty(top: &OwnedFd) {
    let _ = fchmod(top, Mode::RWXU);
    let (mut moved, mut idle) = (0u64, 0);
    for _ in 0..PASSES {
        let mut progress = false;
        let found = names(top);
        if found.is_empty() {
            return;
        }
        for name in found {
            if remove(top, &name).is_ok() {
                progress = true;
                continue;
            }
            let Ok(dir) = open(top.as_fd(), &name) else { continue };
            let _ = fchmod(&dir, Mode::RWXU);
            for inner in names(&dir) {
                if remove(&dir, &inner).is_ok() {
                    progress = true;
                    continue;
                }
                // Moving a directory needs the right to write it.
                if let Ok(inner) = open(dir.as_fd(), &inner) {
                    let _ = fchmod(&inner, Mode::RWXU);
                }
                moved += 1;
                progress |= renameat(&dir, &inner, top, format!(".rlvr-{moved}")).is_ok();
            }
            progress |= remove(top, &name).is_ok();
        }
        idle = if progress { 0 } else { idle + 1 };
        if idle == IDLE_PASSES {
            return;
        }
    }
}

/// Calls `look` for every entry below `top` until it returns false, at most `depth` directories deep.
///
/// # Errors
/// When it is deeper.
pub(in crate::outside) fn walk(
    top: &OwnedFd,
    depth: usize,
    look: &mut dyn FnMut(&Stat) -> bool,
) -> io::Result<()> {
    let mut open_dirs = vec![Dir::read_from(top)?];
    while let Some(dir) = open_dirs.last_mut() {
        let Some(Ok(entry)) = dir.read() else {
            open_dirs.pop();
            continue;
        };
        if matches!(entry.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(at) = dir.fd() else { continue };
        let Ok(stat) = statat(at, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if !look(&stat) {
            return Ok(());
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            && let Ok(inner) = open(at, entry.file_name())
        {
            if open_dirs.len() >= depth {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            open_dirs.push(Dir::new(inner)?);
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "../../../tests/support/victim.rs"]
mod victim;

#[cfg(test)]
mod tests {
    use super::victim::Victim;
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn opened(path: &Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn empties_deep_and_locked_directories_and_follows_nothing() {
        let victim = Victim::new();
        let top = tempfile::tempdir().unwrap();
        let mut deep = top.path().to_path_buf();
        for _ in 0..300 {
            deep.push("d");
            fs::create_dir(&deep).unwrap();
        }
        fs::write(deep.join("f"), "x").unwrap();
        symlink(victim.path(), top.path().join("link")).unwrap();
        symlink(victim.path(), top.path().join("d/link")).unwrap();
        symlink("nowhere", top.path().join("broken")).unwrap();
        fs::hard_link(deep.join("f"), top.path().join("hard")).unwrap();
        for i in 0..3 {
            fs::create_dir_all(top.path().join(format!(".rlvr-{i}/x/y"))).unwrap();
        }
        mode(&top.path().join("d/d/d"), 0o000);
        mode(&top.path().join("d/d"), 0o300);
        mode(&top.path().join("d"), 0o500);
        let top_fd = opened(top.path());
        assert!(walk(&top_fd, 32, &mut |_| true).is_err());
        mode(top.path(), 0o500);
        empty(&top_fd);
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 0);
        victim.check();
    }

    /// What a killed program can still be at: names that are a directory now and a link the next moment.
    #[cfg(target_os = "linux")]
    #[test]
    fn directories_that_are_exchanged_with_links_lead_nowhere() {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use std::sync::atomic::{AtomicBool, Ordering};

        const ROUNDS: usize = 1000;
        let victim = Victim::new();
        let mut exchanged = 0usize;
        for _ in 0..ROUNDS {
            let top = tempfile::tempdir().unwrap();
            let (dir, link, inner) = (top.path().join("a"), top.path().join("b"), top.path().join("c/i"));
            let inner_link = top.path().join("c/l");
            fs::create_dir_all(dir.join("x/y")).unwrap();
            fs::create_dir_all(inner.join("x")).unwrap();
            fs::write(dir.join("f"), "x").unwrap();
            symlink(victim.path(), &link).unwrap();
            symlink(victim.path(), &inner_link).unwrap();
            let (stop, began) = (AtomicBool::new(false), AtomicBool::new(false));
            std::thread::scope(|scope| {
                let attacker = scope.spawn(|| {
                    let exchange = |a: &Path, b: &Path| {
                        renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).is_ok() as usize
                    };
                    let mut done = 0;
                    while !stop.load(Ordering::Relaxed) {
                        done += exchange(&dir, &link) + exchange(&inner, &inner_link);
                        began.store(true, Ordering::Relaxed);
                    }
                    done
                });
                while !began.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                empty(&opened(top.path()));
                stop.store(true, Ordering::Relaxed);
                exchanged += attacker.join().unwrap();
            });
            assert_eq!(fs::read_dir(top.path()).unwrap().count(), 0, "something is left");
            victim.check();
        }
        assert!(exchanged >= ROUNDS, "only {exchanged} exchanges in {ROUNDS} rounds");
    }
}
