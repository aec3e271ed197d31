//! Starting a child: what it does to itself between fork and exec.
//!
//! Not by `std::process::Command`, which cannot give a child namespaces of its own. Where it has them, it is the first
//! process of its process namespace: when it ends, for whatever reason, the kernel kills all others in there, and it can
//! be waited for only when they are gone. Its files are in a file system of its own that goes with it.

use std::ffi::{CString, c_char, c_int, c_long};
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::process::Pid;

use super::{Limits, SandboxError};
use crate::outside::scratch::Scratch;

/// Descriptors that a child may have open.
const DESCRIPTORS: u64 = 64;
/// Inodes of a child's own file system beside the files that it is given.
const INODES: u64 = 512;

/// Everything that the child needs, made before the fork.
pub(super) struct Plan {
    pub(super) path: CString,
    pub(super) args: Vec<CString>,
    pub(super) env: Vec<CString>,
    pub(super) limits: Limits,
    /// The limit of processes; none leaves it as it is.
    pub(super) processes: Option<u64>,
    /// The user and group that root becomes.
    pub(super) owner: Option<u32>,
    pub(super) place: Place,
    /// Names and contents of what lies in the directory at the start.
    pub(super) files: Vec<(CString, Vec<u8>)>,
    #[cfg(target_os = "linux")]
    pub(super) ruleset: Option<super::rules::Ruleset>,
    #[cfg(target_os = "linux")]
    pub(super) filter: Option<seccompiler::BpfProgram>,
    /// Try what is forbidden and end instead of starting the program.
    pub(super) trial: Option<Trial>,
}

/// Where a child works.
pub(super) enum Place {
    /// In a directory of the host, in the process group that it leads.
    Host(Arc<Scratch>),
    /// In namespaces of its own.
    #[cfg(target_os = "linux")]
    Own(Space),
}

impl Place {
    /// Its directory on the host, which has to be looked at and removed.
    pub(super) fn scratch(&self) -> Option<&Arc<Scratch>> {
        match self {
            Self::Host(scratch) => Some(scratch),
            #[cfg(target_os = "linux")]
            Self::Own(_) => None,
        }
    }
}

/// Namespaces of one child.
#[cfg(target_os = "linux")]
pub(super) struct Space {
    /// The directory over which its file system is mounted.
    at: CString,
    options: CString,
    /// Contents of `setgroups`, `uid_map` and `gid_map` where it also needs a user namespace.
    maps: Option<[(CString, CString); 3]>,
}

#[cfg(target_os = "linux")]
impl Space {
    /// A file system at `at` that holds `files` and as many bytes and inodes as a child may use beside them. Whoever is
    /// not root becomes root of a user namespace in which nobody but the same user exists.
    pub(super) fn new(
        at: &std::path::Path,
        bytes: u64,
        files: &[(&str, &[u8])],
        owner: Option<u32>,
    ) -> io::Result<Self> {
        use std::os::unix::ffi::OsStrExt;
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        let (uid, gid) = (owner.unwrap_or(user.as_raw()), owner.unwrap_or(group.as_raw()));
        let inodes = INODES + files.len() as u64;
        let size = bytes.saturating_add(space_of(files));
        let options = format!("size={size},nr_inodes={inodes},mode=700,uid={uid},gid={gid}");
        let pair = |name: &str, content: String| {
            Ok::<_, io::Error>((CString::new(format!("/proc/self/{name}"))?, CString::new(content)?))
        };
        let maps = match user.is_root() {
            true => None,
            false => Some([
                pair("setgroups", "deny".into())?,
                pair("uid_map", format!("{uid} {uid} 1"))?,
                pair("gid_map", format!("{gid} {gid} 1"))?,
            ]),
        };
        Ok(Self { at: CString::new(at.as_os_str().as_bytes())?, options: CString::new(options)?, maps })
    }

    fn flags(&self) -> c_int {
        let user = if self.maps.is_some() { libc::CLONE_NEWUSER } else { 0 };
        libc::CLONE_NEWPID | libc::CLONE_NEWNS | user
    }

    /// Makes the file system and goes into it.
    fn enter(&self) -> io::Result<()> {
        let none = std::ptr::null();
        let tmpfs = c"tmpfs".as_ptr();
        for (path, content) in self.maps.iter().flatten() {
            write_file(path, libc::O_WRONLY, content.as_bytes())?;
        }
        // SAFETY: plain system calls in the child on C strings that live until they return.
        unsafe {
            // Nothing that is mounted here may show up outside.
            let private = (libc::MS_REC | libc::MS_PRIVATE) as _;
            check(libc::mount(none, c"/".as_ptr(), none, private, std::ptr::null()).into())?;
            let flags = (libc::MS_NOSUID | libc::MS_NODEV) as _;
            let options = self.options.as_ptr().cast();
            check(libc::mount(tmpfs, self.at.as_ptr(), tmpfs, flags, options).into())?;
            check(libc::chdir(self.at.as_ptr()).into())
        }
    }
}

/// Bytes that files take where they are given to a child; its limits come on top.
pub(super) fn space_of(files: &[(&str, &[u8])]) -> u64 {
    const PAGE: u64 = 4096;
    files.iter().map(|(_, content)| (content.len() as u64).div_ceil(PAGE) * PAGE).sum()
}

/// What a probing child tries.
pub(super) struct Trial {
    /// A directory with a readable file `outside`, not within the scratch directory.
    pub(super) outside: OwnedFd,
    /// Whether processes of the user that are not in the child's namespaces must not count.
    pub(super) apart: bool,
}

/// The error with which a trial ends when everything held.
pub(super) const HELD: i32 = libc::ECANCELED;
/// The error with which it ends when something forbidden worked.
const BROKEN: i32 = libc::EPROTO;

/// A child that runs the program.
pub(super) struct Started {
    pub(super) pid: Pid,
    pub(super) stdin: PipeWriter,
    pub(super) stdout: PipeReader,
    pub(super) stderr: PipeReader,
}

/// What the child was doing when it failed, as a byte that it sends.
const STEPS: [&str; 8] = [
    "preparing a child",
    "making namespaces",
    "entering its directory",
    "changing the user of a child",
    "writing its files",
    "limiting a child",
    "confining a child",
    "starting",
];

/// The child's ends, all above the standard descriptors.
struct Ends {
    stdio: [OwnedFd; 3],
    report: OwnedFd,
}

impl Plan {
    /// Starts the child; it runs the program when this returns.
    ///
    /// # Errors
    /// What the child or the system failed at; the error of a trial is what the trial found.
    pub(super) fn spawn(&self) -> Result<Started, SandboxError> {
        let failed = |e: io::Error| SandboxError::new(format!("starting {}", self.path.to_string_lossy()), e);
        let (stdin_end, stdin) = io::pipe().map_err(failed)?;
        let (stdout, stdout_end) = io::pipe().map_err(failed)?;
        let (stderr, stderr_end) = io::pipe().map_err(failed)?;
        let (mut report, report_end) = io::pipe().map_err(failed)?;
        let above = |fd: OwnedFd| match fd.as_raw_fd() {
            0..=2 => rustix::io::fcntl_dupfd_cloexec(&fd, 3).map_err(|e| failed(e.into())),
            _ => Ok(fd),
        };
        let ends = Ends {
            stdio: [above(stdin_end.into())?, above(stdout_end.into())?, above(stderr_end.into())?],
            report: above(report_end.into())?,
        };
        let pointers = |strings: &[CString]| -> Vec<*const c_char> {
            strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (args, env) = (pointers(&self.args), pointers(&self.env));
        #[cfg(target_os = "linux")]
        let life = life().map_err(failed)?;
        let flags = self.flags();
        // SAFETY: the child's branch makes system calls on values that were built before, allocates nothing, takes no
        // lock, cannot panic and does not return. It runs with all signals blocked until the handlers of this process,
        // which share pipes with it, are gone from the child.
        let pid = unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            let pid = fork(flags);
            if pid == 0 {
                #[cfg(target_os = "linux")]
                libc::close(life.1.as_raw_fd());
                let (step, error) = self.become_program(&ends, &args, &env);
                let error = error.raw_os_error().unwrap_or(libc::EIO).to_le_bytes();
                let message = [step, error[0], error[1], error[2], error[3]];
                libc::write(ends.report.as_raw_fd(), message.as_ptr().cast(), message.len());
                libc::_exit(127);
            }
            let error = io::Error::last_os_error();
            libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
            if pid < 0 { Err(error) } else { Ok(pid) }
        };
        let pid = Pid::from_raw(pid.map_err(failed)?).ok_or_else(|| failed(io::ErrorKind::Other.into()))?;
        drop(ends);
        let mut message = Vec::new();
        // Ends when the program begins: the other end is closed by exec.
        let read = report.read_to_end(&mut message);
        if read.is_ok() && message.is_empty() {
            return Ok(Started { pid, stdin, stdout, stderr });
        }
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        let [step, error @ ..] = &message[..] else { return Err(failed(io::ErrorKind::Other.into())) };
        let error = error.try_into().map_or(libc::EIO, i32::from_le_bytes);
        let step = STEPS.get(usize::from(*step)).unwrap_or(&STEPS[0]);
        let what = if *step == "starting" {
            format!("starting {}", self.path.to_string_lossy())
        } else {
            step.to_string()
        };
        Err(SandboxError::new(what, io::Error::from_raw_os_error(error)))
    }
}

/// Only the child runs this.
impl Plan {
    fn flags(&self) -> c_int {
        match &self.place {
            Place::Host(_) => 0,
            #[cfg(target_os = "linux")]
            // A filter stops shared memory; without one it goes with its namespace.
            Place::Own(space) => space.flags() | if self.filter.is_none() { libc::CLONE_NEWIPC } else { 0 },
        }
    }

    /// Becomes the program; returns the step that failed, and why.
    fn become_program(&self, ends: &Ends, args: &[*const c_char], env: &[*const c_char]) -> (u8, io::Error) {
        let steps: [&dyn Fn() -> io::Result<()>; 7] = [
            &|| prepare(ends),
            &|| self.enter_namespaces(),
            &|| self.enter_directory(),
            &|| self.change_user(),
            &|| self.write_files(),
            &|| self.limit(),
            &|| self.confine(),
        ];
        for (i, step) in (0u8..).zip(steps) {
            if let Err(error) = step() {
                return (i, error);
            }
        }
        // SAFETY: the pointers are to C strings that live as long as this process image, each list ends with null.
        unsafe { libc::execve(self.path.as_ptr(), args.as_ptr(), env.as_ptr()) };
        (7, io::Error::last_os_error())
    }

    fn enter_namespaces(&self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        die_with_parent()?;
        match &self.place {
            Place::Host(_) => Ok(()),
            #[cfg(target_os = "linux")]
            Place::Own(space) => space.enter(),
        }
    }

    fn enter_directory(&self) -> io::Result<()> {
        match &self.place {
            // SAFETY: a plain system call on an open descriptor.
            Place::Host(scratch) => check(unsafe { libc::fchdir(scratch.dir().as_raw_fd()) }.into()),
            #[cfg(target_os = "linux")]
            Place::Own(_) => Ok(()),
        }
    }

    fn change_user(&self) -> io::Result<()> {
        if let Some(owner) = self.owner {
            become_user(owner)?;
        }
        #[cfg(target_os = "linux")]
        if matches!(&self.place, Place::Own(space) if space.maps.is_some()) {
            drop_capabilities()?;
        }
        Ok(())
    }

    fn write_files(&self) -> io::Result<()> {
        let new = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        self.files.iter().try_for_each(|(name, content)| write_file(name, new, content))
    }

    fn limit(&self) -> io::Result<()> {
        let l = &self.limits;
        let limits = [
            (libc::RLIMIT_CORE as i32, Some(0)),
            (libc::RLIMIT_CPU as i32, Some(l.cpu_s)),
            (libc::RLIMIT_AS as i32, Some(l.memory)),
            (libc::RLIMIT_FSIZE as i32, Some(l.file)),
            (libc::RLIMIT_NPROC as i32, self.processes),
        ];
        for (what, value) in limits {
            let Some(value) = value else { continue };
            let set = set_limit(what, value);
            // A lower limit that is already there stays.
            if what == libc::RLIMIT_CPU as i32 {
                set?;
            }
        }
        Ok(())
    }

    fn confine(&self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            // Again: a change of the user takes it away.
            die_with_parent()?;
            // SAFETY: a plain system call.
            check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
            if let Some(ruleset) = &self.ruleset {
                ruleset.restrict()?;
            }
            if let Some(filter) = &self.filter {
                // Two system calls on the prepared program.
                seccompiler::apply_filter(filter).map_err(|_| io::Error::from_raw_os_error(libc::EACCES))?;
            }
        }
        match &self.trial {
            Some(trial) => Err(io::Error::from_raw_os_error(self.try_all(trial))),
            None => {
                // The last of all: until the exec the child has the descriptors of the process that started it, and where
                // those use up its own limit nothing more can be opened. A lower limit that is already there stays.
                let _ = set_limit(libc::RLIMIT_NOFILE as i32, DESCRIPTORS);
                Ok(())
            }
        }
    }

    /// Tries what the rules forbid and what they must allow.
    fn try_all(&self, trial: &Trial) -> i32 {
        #[cfg(target_os = "linux")]
        let (files, calls) = (self.ruleset.is_some(), self.filter.is_some());
        #[cfg(not(target_os = "linux"))]
        let (files, calls) = (false, false);
        let new = libc::O_CREAT | libc::O_WRONLY | libc::O_EXCL;
        // SAFETY: plain system calls in the child on open descriptors and C strings.
        let (outside, inside, socket, signal) = unsafe {
            (
                libc::openat(trial.outside.as_raw_fd(), c"outside".as_ptr(), libc::O_RDONLY) >= 0,
                libc::open(c"inside".as_ptr(), new, 0o600) >= 0,
                libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) >= 0,
                libc::kill(libc::getppid(), 0) == 0,
            )
        };
        let broken = !inside || files && outside || calls && (socket || signal);
        #[cfg(target_os = "linux")]
        let broken = broken || self.try_spaces(trial, calls);
        if broken { BROKEN } else { HELD }
    }

    /// Whether what the namespaces promise does not hold.
    #[cfg(target_os = "linux")]
    fn try_spaces(&self, trial: &Trial, filtered: bool) -> bool {
        // SAFETY: plain system calls in the child; what a fork makes ends at once and is waited for.
        unsafe {
            let spaces = libc::CLONE_NEWUSER | libc::CLONE_NEWNS;
            let none = std::ptr::null();
            let escapes = filtered
                && (libc::unshare(spaces) == 0
                    || libc::mount(none, c".".as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null()) == 0
                    || libc::umount2(c".".as_ptr(), libc::MNT_DETACH) == 0);
            if matches!(self.place, Place::Host(_)) {
                return escapes;
            }
            let new = libc::O_CREAT | libc::O_WRONLY | libc::O_EXCL;
            let size = self.limits.file as libc::off_t;
            let fill = |name: &std::ffi::CStr| {
                let file = libc::open(name.as_ptr(), new, 0o600);
                // Not known who holds it: unlinked and still open.
                libc::unlink(name.as_ptr()) == 0 && libc::fallocate(file, 0, 0, size) == 0
            };
            let unbounded = !fill(c"one") || fill(c"two");
            let child =
                if trial.apart { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } else { 1 };
            if child == 0 {
                libc::_exit(0);
            }
            if trial.apart && child > 0 {
                libc::waitpid(child as libc::pid_t, std::ptr::null_mut(), 0);
            }
            escapes || unbounded || child < 0 || libc::getpid() != 1
        }
    }
}

/// Limits this process to `value` of a resource, for good.
fn set_limit(what: i32, value: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: value as _, rlim_max: value as _ };
    // SAFETY: the pointer is to a value that lives until the call returns.
    check(unsafe { libc::setrlimit(what as _, &limit) }.into())
}

fn check(result: c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A new process like fork, in the namespaces that `flags` ask for.
unsafe fn fork(flags: c_int) -> libc::pid_t {
    #[cfg(target_os = "linux")]
    if flags != 0 {
        // SAFETY: without a stack and without shared memory it is a fork. Architectures differ in the order of the
        // arguments, which are all zero but the first; the one that has it elsewhere is refused by the probe.
        return unsafe {
            libc::syscall(libc::SYS_clone, (flags | libc::SIGCHLD) as c_long, 0, 0, 0, 0) as libc::pid_t
        };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = flags;
    // SAFETY: the caller keeps to what a child may do.
    unsafe { libc::fork() }
}

/// Standard streams, no handlers, a session of its own, and no other descriptor for the program.
fn prepare(ends: &Ends) -> io::Result<()> {
    // SAFETY: plain system calls on the child's own signals and descriptors; the set lives until the call returns.
    unsafe {
        for signal in 1..32 {
            if signal != libc::SIGKILL && signal != libc::SIGSTOP {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        for (i, end) in (0..).zip(&ends.stdio) {
            check(libc::dup2(end.as_raw_fd(), i).into())?;
        }
        // One process group to kill, no terminal.
        check(libc::setsid().into())?;
        mark_descriptors();
    }
    Ok(())
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

/// A pipe that is open as long as this process lives: only it keeps the writing end.
#[cfg(target_os = "linux")]
fn life() -> io::Result<&'static (PipeReader, PipeWriter)> {
    static LIFE: std::sync::OnceLock<(PipeReader, PipeWriter)> = std::sync::OnceLock::new();
    if let Some(pipe) = LIFE.get() {
        return Ok(pipe);
    }
    let pipe = io::pipe()?;
    Ok(LIFE.get_or_init(|| pipe))
}

/// Asks to be killed when the thread that made this process ends, and fails when that has already happened.
#[cfg(target_os = "linux")]
fn die_with_parent() -> io::Result<()> {
    let Ok(life) = life() else { return Err(io::ErrorKind::BrokenPipe.into()) };
    let mut end = libc::pollfd { fd: life.0.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: plain system calls; the pointer is to a value that lives until the call returns. The pipe was made before
    // the fork, so nothing is allocated here.
    unsafe {
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0).into())?;
        libc::poll(&mut end, 1, 0);
    }
    if end.revents == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
}

/// Becomes another user without groups; for good.
fn become_user(id: u32) -> io::Result<()> {
    // SAFETY: plain system calls. Those of the C library would look for other threads, which the child does not have.
    #[cfg(target_os = "linux")]
    unsafe {
        check(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()))?;
        check(libc::syscall(libc::SYS_setresgid, id, id, id))?;
        check(libc::syscall(libc::SYS_setresuid, id, id, id))
    }
    // SAFETY: plain system calls.
    #[cfg(not(target_os = "linux"))]
    unsafe {
        check(libc::setgroups(0, std::ptr::null()).into())?;
        check(libc::setgid(id).into())?;
        check(libc::setuid(id).into())
    }
}

/// Gives up what the first process of a user namespace may do in it. The program would lose it anyway.
#[cfg(target_os = "linux")]
fn drop_capabilities() -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let (header, none) = ([VERSION_3, 0], [0u32; 6]);
    // SAFETY: the pointers are to values of the size of this version, which live until the call returns.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) })
}

fn write_file(path: &std::ffi::CStr, how: c_int, content: &[u8]) -> io::Result<()> {
    // SAFETY: plain system calls on a C string, on bytes within `content` and on the descriptor that was just opened.
    unsafe {
        let file = libc::open(path.as_ptr(), how | libc::O_CLOEXEC, 0o644);
        check(file.into())?;
        let mut rest = content;
        while !rest.is_empty() {
            let written = libc::write(file, rest.as_ptr().cast(), rest.len());
            check(written as c_long)?;
            rest = &rest[(written as usize).min(rest.len())..];
        }
        check(libc::close(file).into())
    }
}
