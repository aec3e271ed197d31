//! What a child does to itself between fork and exec. The only unsafe code of this crate.

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::Limits;

/// Descriptors that a child may have open.
const DESCRIPTORS: u64 = 64;

/// Everything that the child needs, made before the fork.
pub(super) struct Install {
    pub(super) limits: Limits,
    /// The limit of processes; none leaves it as it is.
    pub(super) processes: Option<u64>,
    #[cfg(target_os = "linux")]
    pub(super) ruleset: Option<OwnedFd>,
    #[cfg(target_os = "linux")]
    pub(super) filter: Option<seccompiler::BpfProgram>,
    /// Try what is forbidden and end instead of starting the program.
    pub(super) trial: Option<Trial>,
}

/// What a probing child tries.
pub(super) struct Trial {
    /// A readable file outside of the scratch directory.
    pub(super) outside: std::ffi::CString,
    /// A file to create within it.
    pub(super) inside: std::ffi::CString,
}

/// The error with which a trial ends when everything held.
pub(super) const HELD: i32 = libc::ECANCELED;
/// The error with which it ends when something forbidden worked.
const BROKEN: i32 = libc::EPROTO;

impl Install {
    /// Makes `command` apply these rules before it becomes the program.
    pub(super) fn on(self, command: &mut Command) {
        // SAFETY: the closure runs in the forked child, where only async-signal-safe functions may be called: it makes
        // system calls on values that were built before, allocates nothing, takes no lock and cannot panic.
        unsafe { command.pre_exec(move || self.apply()) };
    }

    fn apply(&self) -> io::Result<()> {
        let l = &self.limits;
        let limits = [
            (libc::RLIMIT_CORE as i32, Some(0)),
            (libc::RLIMIT_CPU as i32, Some(l.cpu_s)),
            (libc::RLIMIT_AS as i32, Some(l.memory)),
            (libc::RLIMIT_FSIZE as i32, Some(l.file)),
            (libc::RLIMIT_NOFILE as i32, Some(DESCRIPTORS)),
            (libc::RLIMIT_NPROC as i32, self.processes),
        ];
        // SAFETY: plain system calls in the child; pointers are to values that live until the call returns.
        unsafe {
            // A session of its own: one process group to kill, no terminal.
            check(libc::setsid().into())?;
            mark_descriptors();
            for (what, value) in limits {
                let Some(value) = value else { continue };
                let limit = libc::rlimit { rlim_cur: value as _, rlim_max: value as _ };
                // A lower limit that is already there stays.
                if libc::setrlimit(what as _, &limit) != 0 && what == libc::RLIMIT_CPU as i32 {
                    return Err(io::Error::last_os_error());
                }
            }
        }
        #[cfg(target_os = "linux")]
        self.confine()?;
        match &self.trial {
            Some(trial) => Err(io::Error::from_raw_os_error(self.try_all(trial))),
            None => Ok(()),
        }
    }

    #[cfg(target_os = "linux")]
    fn confine(&self) -> io::Result<()> {
        // SAFETY: as above; the ruleset is an open descriptor that this value owns.
        unsafe {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0).into())?;
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
            if let Some(ruleset) = &self.ruleset {
                check(libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0))?;
            }
        }
        match &self.filter {
            // Two system calls on the prepared program.
            Some(filter) => {
                seccompiler::apply_filter(filter).map_err(|_| io::Error::from_raw_os_error(libc::EACCES))
            }
            None => Ok(()),
        }
    }

    /// Tries what the rules forbid and what they must allow.
    fn try_all(&self, trial: &Trial) -> i32 {
        #[cfg(target_os = "linux")]
        let (files, calls) = (self.ruleset.is_some(), self.filter.is_some());
        #[cfg(not(target_os = "linux"))]
        let (files, calls) = (false, false);
        // SAFETY: system calls in the child; the paths are C strings that this value owns.
        let (outside, inside, socket, signal) = unsafe {
            (
                libc::open(trial.outside.as_ptr(), libc::O_RDONLY) >= 0,
                libc::open(trial.inside.as_ptr(), libc::O_CREAT | libc::O_WRONLY, 0o600) >= 0,
                libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) >= 0,
                libc::kill(libc::getppid(), 0) == 0,
            )
        };
        let broken = !inside || files && outside || calls && (socket || signal);
        if broken { BROKEN } else { HELD }
    }
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Marks every descriptor but the standard ones to be closed by exec, also those that foreign code opened without it.
unsafe fn mark_descriptors() {
    #[cfg(target_os = "linux")]
    {
        const CLOSE_ON_EXEC: libc::c_uint = 4;
        // SAFETY: changes flags of descriptors of the child only.
        if unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, CLOSE_ON_EXEC) } == 0 {
            return;
        }
    }
    for descriptor in 3..4096 {
        // SAFETY: as above; a number that is not open is an error that changes nothing.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}
