//! The Landlock ruleset and the seccomp filter.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::OnceLock;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, RulesetAttr, RulesetCreatedAttr, RulesetError,
    Scope, path_beneath_rules,
};
use libc as c;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

/// What every program may read and execute: libraries, tools, time zones.
const SYSTEM: [&str; 11] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/localtime",
];
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"];

/// A ruleset and what it allows in the directory that the child adds to it.
pub(super) struct Ruleset {
    rules: OwnedFd,
    scratch: u64,
}

/// A ruleset under which nothing can be written but the directory that [`Ruleset::restrict`] adds, and only it, the system
/// and `readable` can be read; none where the kernel has no Landlock. Newer restrictions (TCP, signals, abstract sockets)
/// are added where the kernel has them.
pub(super) fn ruleset(readable: &[PathBuf]) -> Result<Option<Ruleset>, RulesetError> {
    let read = AccessFs::from_read(ABI::V5);
    let device = AccessFs::ReadFile | AccessFs::WriteFile;
    let created = landlock::Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .add_rules(path_beneath_rules(SYSTEM, read))?
        .add_rules(path_beneath_rules(readable, read))?
        .add_rules(path_beneath_rules(DEVICES, device))?;
    let rules: Option<OwnedFd> = created.into();
    Ok(rules.map(|rules| Ruleset { rules, scratch: all_known() }))
}

/// All rights that the ruleset above handles on this kernel.
fn all_known() -> u64 {
    static KNOWN: OnceLock<u64> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let known = |abi: &ABI| {
            let hard = landlock::Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
            hard.handle_access(AccessFs::from_all(*abi)).is_ok()
        };
        let abis = [ABI::V5, ABI::V4, ABI::V3, ABI::V2, ABI::V1];
        abis.iter().find(|abi| known(abi)).map_or(0, |abi| AccessFs::from_all(*abi).bits())
    })
}

impl Ruleset {
    /// Allows everything in the working directory and confines this process. Called between fork and exec: system calls
    /// only.
    pub(super) fn restrict(&self) -> io::Result<()> {
        /// `struct landlock_path_beneath_attr`
        #[repr(C, packed)]
        struct PathBeneath {
            allowed_access: u64,
            parent_fd: i32,
        }
        const PATH_BENEATH: c::c_int = 1;
        let check = |result: c::c_long| match result {
            0.. => Ok(result),
            _ => Err(io::Error::last_os_error()),
        };
        // SAFETY: plain system calls on descriptors that are open and a value of the kernel's layout that lives until
        // they return.
        unsafe {
            let here = check(c::open(c".".as_ptr(), c::O_PATH | c::O_DIRECTORY | c::O_CLOEXEC).into())?;
            let rule = PathBeneath { allowed_access: self.scratch, parent_fd: here as i32 };
            let rules = self.rules.as_raw_fd();
            check(c::syscall(c::SYS_landlock_add_rule, rules, PATH_BENEATH, &raw const rule, 0))?;
            check(c::close(here as i32).into())?;
            check(c::syscall(c::SYS_landlock_restrict_self, rules, 0))?;
        }
        Ok(())
    }
}

/// System calls that need no look at their arguments. Everything that is not here answers ENOSYS, which libraries take
/// as an older kernel. Absent on purpose: sockets, signals to others, sessions and process groups, `ptrace` and the like,
/// namespaces, mounts, ownership and modes of files (Landlock does not cover them), shared memory, keys, io_uring.
#[rustfmt::skip]
const ALLOWED: &[c::c_long] = &[
    // Memory.
    c::SYS_brk, c::SYS_mmap, c::SYS_munmap, c::SYS_mremap, c::SYS_mprotect, c::SYS_madvise, c::SYS_msync,
    c::SYS_mincore, c::SYS_membarrier,
    // Files by descriptor.
    c::SYS_read, c::SYS_write, c::SYS_readv, c::SYS_writev, c::SYS_pread64, c::SYS_pwrite64, c::SYS_preadv,
    c::SYS_pwritev, c::SYS_lseek, c::SYS_close, c::SYS_close_range, c::SYS_dup, c::SYS_dup3, c::SYS_pipe2,
    c::SYS_fstat, c::SYS_ftruncate, c::SYS_fadvise64, c::SYS_flock, c::SYS_fsync,
    c::SYS_fdatasync, c::SYS_sendfile, c::SYS_copy_file_range, c::SYS_splice, c::SYS_getdents64, c::SYS_fstatfs,
    // Files by path, confined by Landlock.
    c::SYS_openat, c::SYS_newfstatat, c::SYS_statx, c::SYS_statfs, c::SYS_faccessat, c::SYS_faccessat2,
    c::SYS_readlinkat, c::SYS_getcwd, c::SYS_chdir, c::SYS_fchdir, c::SYS_mkdirat, c::SYS_unlinkat,
    c::SYS_renameat, c::SYS_renameat2, c::SYS_linkat, c::SYS_symlinkat, c::SYS_truncate, c::SYS_umask,
    // Waiting.
    c::SYS_ppoll, c::SYS_pselect6, c::SYS_epoll_create1, c::SYS_epoll_ctl, c::SYS_epoll_pwait, c::SYS_eventfd2,
    c::SYS_timerfd_create, c::SYS_timerfd_settime, c::SYS_timerfd_gettime, c::SYS_futex, c::SYS_nanosleep,
    c::SYS_clock_nanosleep, c::SYS_setitimer, c::SYS_getitimer, c::SYS_wait4, c::SYS_waitid,
    // Time, chance, what the process is.
    c::SYS_clock_gettime, c::SYS_clock_getres, c::SYS_gettimeofday, c::SYS_times, c::SYS_getrandom, c::SYS_uname,
    c::SYS_sysinfo, c::SYS_getrusage, c::SYS_getpid, c::SYS_getppid, c::SYS_gettid, c::SYS_getpgid, c::SYS_getsid,
    c::SYS_getuid, c::SYS_geteuid, c::SYS_getgid, c::SYS_getegid, c::SYS_getresuid, c::SYS_getresgid,
    c::SYS_getgroups, c::SYS_getpriority, c::SYS_sched_yield, c::SYS_sched_getaffinity,
    c::SYS_sched_getparam, c::SYS_sched_getscheduler, c::SYS_getcpu,
    // Own signals and threads.
    c::SYS_rt_sigaction, c::SYS_rt_sigprocmask, c::SYS_rt_sigreturn, c::SYS_rt_sigsuspend, c::SYS_rt_sigpending,
    c::SYS_rt_sigtimedwait, c::SYS_sigaltstack, c::SYS_restart_syscall, c::SYS_set_tid_address,
    c::SYS_set_robust_list, c::SYS_get_robust_list, c::SYS_rseq, c::SYS_exit, c::SYS_exit_group, c::SYS_execve,
    // Connected pairs for event loops; nothing else makes a socket.
    c::SYS_getsockname, c::SYS_getpeername, c::SYS_getsockopt, c::SYS_setsockopt, c::SYS_recvfrom, c::SYS_shutdown,
];

/// Older forms of the above that only this architecture has.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLDER: &[c::c_long] = &[
    c::SYS_open, c::SYS_creat, c::SYS_stat, c::SYS_lstat, c::SYS_access, c::SYS_readlink, c::SYS_mkdir, c::SYS_rmdir,
    c::SYS_unlink, c::SYS_rename, c::SYS_link, c::SYS_symlink, c::SYS_pipe, c::SYS_dup2, c::SYS_poll, c::SYS_select,
    c::SYS_epoll_create, c::SYS_epoll_wait, c::SYS_eventfd, c::SYS_getdents, c::SYS_time, c::SYS_alarm, c::SYS_pause,
    c::SYS_getpgrp, c::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[c::c_long] = &[];

/// The architecture of the filter; none where it is not known how to make one.
fn arch() -> Option<TargetArch> {
    std::env::consts::ARCH.try_into().ok()
}

fn when(argument: u8, op: SeccompCmpOp, value: i64) -> Result<SeccompRule, seccompiler::BackendError> {
    // Flags and commands are 32 bits wide for the kernel; pointers are compared whole.
    let width = if value == 0 { SeccompCmpArgLen::Qword } else { SeccompCmpArgLen::Dword };
    SeccompRule::new(vec![SeccompCondition::new(argument, width, op, value as u64)?])
}

/// The filter; `forks` also allows new processes, `bounded` says that the kernel bounds the files. None on an architecture
/// without filters.
pub(super) fn filter(forks: bool, bounded: bool) -> Option<BpfProgram> {
    let is = |argument, value| when(argument, SeccompCmpOp::Eq, value);
    let build = || -> Result<BpfProgram, seccompiler::BackendError> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        for call in ALLOWED.iter().chain(OLDER) {
            rules.insert(*call, Vec::new());
        }
        if bounded {
            // Takes space faster than anybody could watch.
            rules.insert(c::SYS_fallocate, Vec::new());
        }
        let one_of = |argument, values: &[i64]| -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
            values.iter().map(|v| when(argument, SeccompCmpOp::Eq, *v)).collect()
        };
        // F_SETOWN would make the kernel send signals to any process of the user.
        let fcntl = [
            c::F_DUPFD,
            c::F_DUPFD_CLOEXEC,
            c::F_GETFD,
            c::F_SETFD,
            c::F_GETFL,
            c::F_SETFL,
            c::F_GETLK,
            c::F_SETLK,
            c::F_SETLKW,
        ];
        rules.insert(c::SYS_fcntl, one_of(1, &fcntl.map(i64::from))?);
        let ioctl = [c::TCGETS, c::TIOCGWINSZ, c::FIONREAD, c::FIONBIO, c::FIOCLEX, c::FIONCLEX];
        rules.insert(c::SYS_ioctl, one_of(1, &ioctl.map(|v| v as i64))?);
        rules.insert(c::SYS_prctl, one_of(0, &[c::PR_SET_NAME, c::PR_GET_NAME].map(i64::from))?);
        rules.insert(c::SYS_prlimit64, vec![is(0, 0)?]);
        rules.insert(c::SYS_utimensat, vec![is(1, 0)?]);
        rules.insert(c::SYS_socketpair, vec![is(0, i64::from(c::AF_UNIX))?]);
        rules.insert(c::SYS_sendto, vec![is(4, 0)?]);
        let clone = if forks {
            let spaces = c::CLONE_NEWNS
                | c::CLONE_NEWCGROUP
                | c::CLONE_NEWUTS
                | c::CLONE_NEWIPC
                | c::CLONE_NEWUSER
                | c::CLONE_NEWPID
                | c::CLONE_NEWNET
                | c::CLONE_PARENT
                | c::CLONE_PTRACE;
            when(0, SeccompCmpOp::MaskedEq(spaces as u32 as u64), 0)?
        } else {
            let thread = i64::from(c::CLONE_THREAD);
            when(0, SeccompCmpOp::MaskedEq(thread as u64), thread)?
        };
        rules.insert(c::SYS_clone, vec![clone]);
        #[cfg(target_arch = "x86_64")]
        if forks {
            rules.insert(c::SYS_fork, Vec::new());
            rules.insert(c::SYS_vfork, Vec::new());
        }
        let Some(arch) = arch() else { return Ok(Vec::new()) };
        let refuse = SeccompAction::Errno(c::ENOSYS as u32);
        SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch)?.try_into()
    };
    build().ok().filter(|program| !program.is_empty())
}
