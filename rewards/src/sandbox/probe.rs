//! What this machine can do, found by trying it.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::install::{HELD, Install, Trial};
use super::{Isolation, Limits, Program, SandboxError, Scratch};

/// User ids for children of root: below what container runtimes map by default, above what people get.
const OWNERS: std::ops::Range<u32> = 59_000..60_000;

/// The confinement that this machine offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sandbox {
    landlock: bool,
    seccomp: bool,
    owners: bool,
}

impl Sandbox {
    /// The strongest confinement that holds when it is tried; found once a process.
    ///
    /// # Errors
    /// Why not even a limited child can be started.
    pub fn detect() -> Result<Self, &'static SandboxError> {
        static FOUND: OnceLock<Result<Sandbox, SandboxError>> = OnceLock::new();
        FOUND.get_or_init(Self::probe).as_ref().map(|s| *s)
    }

    fn probe() -> Result<Self, SandboxError> {
        let root = rustix::process::geteuid().is_root();
        let linux = cfg!(target_os = "linux");
        let mut last = None;
        for (landlock, seccomp) in [(true, true), (true, false), (false, true), (false, false)] {
            for owners in [true, false] {
                if owners && !root || (landlock || seccomp) && !linux {
                    continue;
                }
                let sandbox = Self { landlock, seccomp, owners };
                match sandbox.holds() {
                    Ok(()) => return Ok(sandbox),
                    Err(e) => last = Some(e),
                }
            }
        }
        Err(last.unwrap_or_else(|| SandboxError::new("probing", std::io::ErrorKind::Unsupported)))
    }

    /// The same sandbox without what is above `level`; for tests of the lower levels.
    #[doc(hidden)]
    pub fn lowered(mut self, level: Isolation) -> Self {
        self.seccomp &= level >= Isolation::Seccomp;
        self.landlock &= level >= Isolation::Landlock;
        self
    }

    /// The level. A filter without Landlock counts as `process`: it is applied, but files stay open.
    pub fn isolation(self) -> Isolation {
        match (self.landlock, self.seccomp) {
            (true, true) => Isolation::Seccomp,
            (true, false) => Isolation::Landlock,
            _ => Isolation::Process,
        }
    }

    /// A user id for the next child where children give up root.
    pub fn owner(self) -> Option<u32> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Several processes on one machine start at different places.
        let next = || NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(97));
        self.owners.then(|| OWNERS.start + next() % (OWNERS.end - OWNERS.start))
    }

    /// A command with an empty environment that confines itself before it becomes `program`.
    pub(super) fn command(
        self,
        program: &Program,
        limits: Limits,
        scratch: &Scratch,
        owner: Option<u32>,
    ) -> Result<Command, SandboxError> {
        self.prepare(program, limits, scratch, owner, None)
    }

    fn prepare(
        self,
        program: &Program,
        limits: Limits,
        scratch: &Scratch,
        owner: Option<u32>,
        trial: Option<Trial>,
    ) -> Result<Command, SandboxError> {
        let mut command = Command::new(&program.path);
        command.args(&program.args).current_dir(scratch.path()).env_clear().envs([
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("LC_ALL", "C.UTF-8"),
            ("TZ", "UTC"),
            ("PYTHONHASHSEED", "0"),
            ("PYTHONUTF8", "1"),
            ("PYTHONSAFEPATH", "1"),
        ]);
        command.env("HOME", scratch.path()).env("TMPDIR", scratch.path());
        if let Some(owner) = owner {
            command.uid(owner).gid(owner);
        }
        let install = Install {
            limits,
            processes: match owner {
                Some(_) => Some(limits.processes),
                None => tasks_of_user().map(|n| n + limits.processes),
            },
            #[cfg(target_os = "linux")]
            ruleset: match self.landlock {
                true => super::rules::ruleset(scratch.path(), &program.readable)
                    .map_err(|e| SandboxError::new("Landlock", std::io::Error::other(e)))?,
                false => None,
            },
            #[cfg(target_os = "linux")]
            filter: if self.seccomp { super::rules::filter(program.forks) } else { None },
            trial,
        };
        #[cfg(target_os = "linux")]
        if self.landlock && install.ruleset.is_none() || self.seccomp && install.filter.is_none() {
            return Err(SandboxError::new("confining a child", std::io::ErrorKind::Unsupported));
        }
        install.on(&mut command);
        Ok(command)
    }

    /// Starts a child that applies the rules and tries what they forbid.
    fn holds(self) -> Result<(), SandboxError> {
        let failed = |e: std::io::Error| SandboxError::new("probing", e);
        let owner = self.owner();
        let outside = tempfile::Builder::new().prefix("rlvr-code-").tempfile().map_err(failed)?;
        if owner.is_some() {
            std::os::unix::fs::chown(outside.path(), owner, owner).map_err(failed)?;
        }
        let scratch = Scratch::new(owner).map_err(failed)?;
        let string =
            |path: PathBuf| std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(|e| failed(e.into()));
        let trial = Trial {
            outside: string(outside.path().to_path_buf())?,
            inside: string(scratch.path().join("inside"))?,
        };
        let limits = Limits {
            wall: Duration::from_secs(5),
            cpu_s: 5,
            memory: 256 << 20,
            processes: 8,
            file: 1 << 20,
            output: 1024,
        };
        // Never started: the trial ends before the exec.
        let program = Program { path: "/".into(), args: vec![], readable: vec![], forks: true };
        let mut command = self.prepare(&program, limits, &scratch, owner, Some(trial))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.spawn() {
            Err(e) if e.raw_os_error() == Some(HELD) => Ok(()),
            Err(e) => Err(failed(e)),
            Ok(mut child) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(failed(std::io::ErrorKind::Other.into()))
            }
        }
    }
}

/// Processes and threads of this user: the limit of processes counts them all. None where it cannot be known.
fn tasks_of_user() -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let user = rustix::process::geteuid().as_raw();
    let mut tasks = 0;
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let name = entry.file_name();
        let is_process = name.as_bytes().iter().all(u8::is_ascii_digit);
        if is_process && entry.metadata().is_ok_and(|m| m.uid() == user) {
            tasks += std::fs::read_dir(entry.path().join("task")).map_or(1, |t| t.count() as u64);
        }
    }
    (tasks > 0).then_some(tasks)
}
