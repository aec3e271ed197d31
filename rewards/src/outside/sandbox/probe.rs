//! What this machine can do, found by trying it.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::spawn::{HELD, Place, Plan, Trial};
use super::{Isolation, Limits, Program, SandboxError};
use crate::outside::children::Gate;
use crate::outside::scratch::{self, Scratch};

/// User ids for children of root: below what container runtimes map by default, above what people get.
const OWNERS: std::ops::Range<u32> = 59_000..60_000;

/// Where a child's own file system is mounted in its mount namespace: over the first that is there and holds nothing that
/// the program needs.
#[cfg(target_os = "linux")]
const MOUNT_POINTS: [&str; 6] = ["/tmp", "/var/tmp", "/mnt", "/media", "/srv", "/dev/shm"];

/// Namespaces of a child's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spaces {
    /// Processes and mounts. With `apart`, other processes of the user do not count for the limit of processes.
    Own { apart: bool },
    /// None.
    Shared,
}

/// The confinement that this machine offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sandbox {
    landlock: bool,
    seccomp: bool,
    spaces: Spaces,
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
        scratch::sweep(&OWNERS);
        let root = rustix::process::geteuid().is_root();
        let linux = cfg!(target_os = "linux");
        let spaces = [Spaces::Own { apart: true }, Spaces::Own { apart: false }, Spaces::Shared];
        let mut last = None;
        for (landlock, seccomp) in [(true, true), (true, false), (false, true), (false, false)] {
            for spaces in spaces {
                for owners in [true, false] {
                    // A user of a child's own has no other processes.
                    let redundant = owners && spaces == Spaces::Own { apart: false };
                    let needs_linux = landlock || seccomp || spaces != Spaces::Shared;
                    if owners && !root || redundant || needs_linux && !linux {
                        continue;
                    }
                    let sandbox = Self { landlock, seccomp, spaces, owners };
                    match sandbox.holds() {
                        Ok(()) => return Ok(sandbox),
                        Err(e) => last = Some(e),
                    }
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

    /// The same sandbox without namespaces; for tests.
    #[doc(hidden)]
    pub fn without_namespaces(mut self) -> Self {
        self.spaces = Spaces::Shared;
        self
    }

    /// Whether the kernel bounds all that a child writes as a whole, in a file system of its own.
    pub fn bounds_files(self) -> bool {
        self.spaces != Spaces::Shared
    }

    /// The level and what bounds the files, as verdicts say it: `seccomp+tmpfs`.
    pub fn level(self) -> &'static str {
        match (self.isolation(), self.bounds_files()) {
            (Isolation::Seccomp, true) => "seccomp+tmpfs",
            (Isolation::Seccomp, false) => "seccomp+watched",
            (Isolation::Landlock, true) => "landlock+tmpfs",
            (Isolation::Landlock, false) => "landlock+watched",
            (_, true) => "process+tmpfs",
            (_, false) => "process+watched",
        }
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
    fn owner(self) -> Option<u32> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Several processes on one machine start at different places.
        let next = || NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(97));
        self.owners.then(|| OWNERS.start + next() % (OWNERS.end - OWNERS.start))
    }

    /// How to start `program`, with an empty environment and `files` in its directory.
    pub(super) fn plan(
        self,
        program: &Program,
        limits: Limits,
        files: &[(&str, &[u8])],
    ) -> Result<Plan, SandboxError> {
        let owner = self.owner();
        let (place, path) = self.place(program, limits, files, owner)?;
        let scratch = place.scratch().map(Arc::clone);
        self.plan_at(program, limits, files, owner, place, &path).map_err(|e| {
            if let Some(scratch) = scratch {
                scratch.remove();
            }
            SandboxError::new("preparing a child", e)
        })
    }

    /// The directory for a child and its path.
    fn place(
        self,
        program: &Program,
        limits: Limits,
        files: &[(&str, &[u8])],
        owner: Option<u32>,
    ) -> Result<(Place, PathBuf), SandboxError> {
        #[cfg(target_os = "linux")]
        if self.spaces != Spaces::Shared {
            let what = "making a file system for a child";
            let at = mount_point(program).ok_or_else(|| {
                let reason = "every place to mount it holds the interpreter or is not there";
                SandboxError::new(what, std::io::Error::other(reason))
            })?;
            let space = super::spawn::Space::new(&at, limits.file, files, owner);
            return Ok((Place::Own(space.map_err(|e| SandboxError::new(what, e))?), at));
        }
        let _ = (program, limits, files);
        let scratch = Scratch::new(owner).map_err(|e| SandboxError::new("making a directory", e))?;
        let path = scratch.path().to_path_buf();
        Ok((Place::Host(Arc::new(scratch)), path))
    }

    fn plan_at(
        self,
        program: &Program,
        limits: Limits,
        files: &[(&str, &[u8])],
        owner: Option<u32>,
        place: Place,
        path: &Path,
    ) -> std::io::Result<Plan> {
        let mut env = [
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "LC_ALL=C.UTF-8",
            "TZ=UTC",
            "PYTHONHASHSEED=0",
            "PYTHONUTF8=1",
            "PYTHONSAFEPATH=1",
        ]
        .map(CString::new)
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
        for name in ["HOME=", "TMPDIR="] {
            env.push(CString::new([name.as_bytes(), path.as_os_str().as_bytes()].concat())?);
        }
        let executable = CString::new(program.path.as_os_str().as_bytes())?;
        let args = program.args.iter().map(|a| CString::new(a.as_str()));
        let plan = Plan {
            args: std::iter::once(Ok(executable.clone())).chain(args).collect::<Result<_, _>>()?,
            path: executable,
            env,
            limits,
            processes: match (owner, self.spaces) {
                (Some(_), _) | (_, Spaces::Own { apart: true }) => Some(limits.processes),
                _ => tasks_of_user().map(|n| n + limits.processes),
            },
            owner,
            place,
            files: (files.iter().map(|(name, content)| Ok((CString::new(*name)?, content.to_vec()))))
                .collect::<std::io::Result<_>>()?,
            #[cfg(target_os = "linux")]
            ruleset: match self.landlock {
                true => super::rules::ruleset(&program.readable).map_err(std::io::Error::other)?,
                false => None,
            },
            #[cfg(target_os = "linux")]
            filter: if self.seccomp {
                super::rules::filter(program.forks, self.bounds_files())
            } else {
                None
            },
            trial: None,
        };
        #[cfg(target_os = "linux")]
        if self.landlock && plan.ruleset.is_none() || self.seccomp && plan.filter.is_none() {
            return Err(std::io::ErrorKind::Unsupported.into());
        }
        Ok(plan)
    }

    /// Starts a child that applies the rules and tries what they forbid.
    fn holds(self) -> Result<(), SandboxError> {
        let limits = Limits {
            wall: Duration::from_secs(5),
            cpu_s: 5,
            memory: 256 << 20,
            // Itself and one more.
            processes: 2,
            file: 1 << 20,
            output: 1024,
        };
        // Never started: the trial ends before the exec.
        let program = Program { path: "/".into(), args: vec![], readable: vec![], forks: true };
        // Until the directories are gone: they are not known to who ends everything.
        let _gate = Gate::enter();
        let mut plan = self.plan(&program, limits, &[])?;
        // A directory like that of another child, which a later process removes if this one is killed here.
        let outside = Scratch::new(plan.owner).map_err(|e| SandboxError::new("probing", e));
        let tried = outside.and_then(|outside| {
            let tried = self.try_in(&mut plan, &outside);
            outside.remove();
            tried
        });
        if let Some(scratch) = plan.place.scratch() {
            scratch.remove();
        }
        tried
    }

    /// Starts the child of a trial that must not reach what is in `outside`.
    fn try_in(self, plan: &mut Plan, outside: &Scratch) -> Result<(), SandboxError> {
        let failed = |e: std::io::Error| SandboxError::new("probing", e);
        outside.write("outside", b"x").map_err(failed)?;
        let apart = plan.owner.is_none() && self.spaces == Spaces::Own { apart: true };
        plan.trial = Some(Trial { outside: outside.dir().try_clone().map_err(failed)?, apart });
        match plan.spawn() {
            Err(e) if e.source.raw_os_error() == Some(HELD) => Ok(()),
            Err(e) => Err(e),
            // It runs the program, which is a directory.
            Ok(_) => Err(failed(std::io::ErrorKind::Other.into())),
        }
    }
}

/// The first directory over which a file system can be mounted without hiding what `program` needs.
#[cfg(target_os = "linux")]
fn mount_point(program: &Program) -> Option<PathBuf> {
    let needed = || std::iter::once(&program.path).chain(&program.readable);
    let whole = MOUNT_POINTS.iter().filter_map(|p| std::fs::canonicalize(p).ok()).filter(|p| p.is_dir());
    whole.into_iter().find(|p| !needed().any(|n| n.starts_with(p)))
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
