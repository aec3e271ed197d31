//! Looking at what a child writes where the kernel does not bound it as a whole.
//!
//! Counted is what its directory holds, what its processes hold open without a name, and what they have mapped without a
//! name. The last cannot be measured by its user, so it is counted by number.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::process::Pid;

use super::spawn::space_of;
use crate::outside::children;
use crate::outside::scratch::{Scratch, tree};

/// Entries that a child may make beside those that it is given, and how deep; more ends it.
const ENTRIES: usize = 512;
const DEPTH: usize = 32;
/// Files without a name that a process may have mapped.
const MAPPED: usize = 16;
/// Shortest time between two looks, and how many times as long as a look took.
const PAUSE: Duration = Duration::from_millis(20);
const FACTOR: u32 = 10;

/// What a child may hold, and when to look again.
pub(super) struct Watch {
    bytes: u64,
    entries: usize,
    next: Instant,
}

impl Watch {
    /// For a child that may hold `bytes` beside the `files` that it is given.
    pub(super) fn new(bytes: u64, files: &[(&str, &[u8])]) -> Self {
        let bytes = bytes.saturating_add(space_of(files));
        Self { bytes, entries: ENTRIES + files.len(), next: Instant::now() + PAUSE }
    }

    /// Whether the child that leads `group` holds too many bytes or entries, if it is time to look.
    pub(super) fn sees_too_much(&mut self, scratch: &Scratch, group: Pid, forks: bool) -> bool {
        let began = Instant::now();
        if began < self.next {
            return false;
        }
        let over = is_over(scratch, group, forks, self.bytes, self.entries);
        self.next = Instant::now() + PAUSE.max(began.elapsed() * FACTOR);
        over
    }
}

/// Whether too much is held. Looks at a bounded number of entries.
fn is_over(scratch: &Scratch, group: Pid, forks: bool, bytes: u64, entries: usize) -> bool {
    let (mut found, mut total, mut seen) = (0, 0, HashSet::new());
    let mut add = |stat: &Stat, total: &mut u64| {
        // Blocks, not length: a file with holes costs what it occupies. Each once, however many names it has.
        if seen.insert((stat.st_dev, stat.st_ino)) {
            *total += stat.st_blocks as u64 * 512;
        }
        *total > bytes
    };
    let mut over = false;
    let deep = tree::walk(scratch.dir(), DEPTH, &mut |stat| {
        found += 1;
        over = add(stat, &mut total) || found > entries;
        !over
    });
    if over || deep.is_err() {
        return true;
    }
    let processes = if forks { children::members(group).unwrap_or_default() } else { vec![group] };
    processes.into_iter().any(|process| {
        open_files(process).iter().any(|stat| add(stat, &mut total)) || mapped(scratch, process) > MAPPED
    })
}

/// The files without a name that a process has open.
fn open_files(process: Pid) -> Vec<Stat> {
    let path = format!("/proc/{}/fd", process.as_raw_nonzero());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // A process that has ended holds nothing.
    let Ok(dir): Result<OwnedFd, _> = openat(CWD, path, flags, Mode::empty()) else { return Vec::new() };
    let entries = Dir::read_from(&dir).into_iter().flatten().map_while(Result::ok);
    // The entry itself is a link of the kernel to what is open.
    let stats = entries.filter_map(|e| statat(&dir, e.file_name(), AtFlags::empty()).ok());
    let nameless = |s: &Stat| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile && s.st_nlink == 0;
    stats.filter(nameless).collect()
}

/// How many files of the directory a process has mapped that have no name any more.
fn mapped(scratch: &Scratch, process: Pid) -> usize {
    let Ok(maps) = std::fs::read(format!("/proc/{}/maps", process.as_raw_nonzero())) else { return 0 };
    // As the kernel writes it here.
    let place =
        scratch.path().as_os_str().as_bytes().split(|b| *b == b'\n').collect::<Vec<_>>().join(&br"\012"[..]);
    // Address, rights, offset, device, number, and a path from the first slash on.
    let gone = maps.split(|b| *b == b'\n').filter(|line| line.ends_with(b" (deleted)"));
    let files = gone.filter_map(|line| {
        let slash = line.iter().position(|b| *b == b'/')?;
        let number = line[..slash].split(|b| *b == b' ').rfind(|f| !f.is_empty())?;
        line[slash..].starts_with(&place).then_some(number)
    });
    files.collect::<HashSet<_>>().len()
}
