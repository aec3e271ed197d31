//! Running untrusted programs: limits, confinement, and what of it this machine can do.
//!
//! | level | needs | stops |
//! |---|---|---|
//! | `process` | Unix | runs past the deadline, memory, files and output without end, inherited descriptors and environment, controlling terminals |
//! | `landlock` | Linux 5.13 with Landlock | also: opening files outside of the scratch directory, the system's libraries and tools (read only) and the interpreter; TCP from ABI 4, signals to others from ABI 6 |
//! | `seccomp` | also seccomp filters | also: every socket, signals, `ptrace`, namespaces, new sessions and process groups (so that nothing outlives the group), and for Python new processes |
//!
//! Each level is tried once, by a child that applies the rules and does what they forbid; a level that the kernel only
//! claims to have does not count. A program started by root gives up root for a user id of its own.
//!
//! # What is left behind
//!
//! Where root, or anybody by user namespaces, may make them, every child gets a process and a mount namespace of its own
//! ([`Sandbox::level`] ends with `+tmpfs`):
//!
//! - Its directory is a file system in memory with a bound on bytes and inodes that the kernel keeps, whatever happens to
//!   names: files without one that are open or mapped count as well. Nothing of it is ever on the host, so nothing has to
//!   be removed.
//! - When it ends, the kernel ends all processes that it started, and only then can it be waited for. It ends with the
//!   process that started it, also by SIGKILL.
//!
//! Elsewhere (`+watched`; containers whose filter refuses namespaces, other systems):
//!
//! - Its directory is on the host. Files are bounded one by one (`RLIMIT_FSIZE`, 64 descriptors a process), and a watcher
//!   counts what the directory holds, what its processes hold open without a name, and how many such files they have
//!   mapped, every 20 ms at most. What is written between two looks is written.
//! - It is killed as a process group, and its directory is removed when the whole group is gone; `setsid` and `setpgid`
//!   are refused at `seccomp`. [`crate::children::end_all`] does this for all. After a SIGKILL of this process, children
//!   of the programs (shells only) may remain until their CPU limit; directories are removed by the next process.
//!
//! Directories are walked and removed by descriptors alone, so that no process can lead the removal elsewhere.
//!
//! What remains possible: reading system files below `/usr`, learning whether a path exists (Landlock does not cover
//! `stat`), using a core until the deadline, side channels. The memory limit holds for each process, so a shell may use it
//! `processes` times; files in memory and the buffers of 32 pipes a process come on top. At `process` the network and all
//! files of the user are open, files elsewhere are not bounded, and without namespaces a program that starts a session of
//! its own outlives the deadline until its CPU limit.

#[cfg(unix)]
mod child;
#[cfg(unix)]
mod probe;
#[cfg(target_os = "linux")]
mod rules;
#[cfg(unix)]
mod spawn;
#[cfg(unix)]
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(unix)]
pub use child::{Child, End, Finished, pump, run};
#[cfg(unix)]
pub use probe::Sandbox;

/// How well a child is confined, weakest first; the module page says what each level stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Nothing can be run.
    None,
    /// Limits and a process group; no confinement.
    Process,
    /// Also: files are confined by Landlock.
    Landlock,
    /// Also: system calls are filtered.
    Seccomp,
}

impl Isolation {
    /// Name as in a config.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Process => "process",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
        }
    }
}

/// What a child may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time until it is killed with all that it started.
    pub wall: Duration,
    /// CPU seconds of each process.
    pub cpu_s: u64,
    /// Bytes of address space of each process.
    pub memory: u64,
    /// Processes and threads together, beside those that the user already runs.
    pub processes: u64,
    /// Bytes of each file, and of all files together, beside those that it is given.
    pub file: u64,
    /// Bytes of output that are read; more ends the child.
    pub output: usize,
}

/// What is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Absolute path of the executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Further files and directories that it may read and execute from.
    pub readable: Vec<PathBuf>,
    /// Whether it may start processes; threads are always allowed.
    pub forks: bool,
}

/// The sandbox itself does not work: never the fault of the program inside.
#[derive(Debug, thiserror::Error)]
#[error("sandbox: {what}: {source}")]
pub struct SandboxError {
    /// What was tried.
    pub what: String,
    /// What the system said.
    pub source: std::io::Error,
}

impl SandboxError {
    pub(crate) fn new(what: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        Self { what: what.into(), source: source.into() }
    }
}
