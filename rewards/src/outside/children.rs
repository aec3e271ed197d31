//! All processes that rewards have started: who ends this process early ends them first.
//!
//! Nothing is needed where every child is the first process of namespaces of its own ([`crate::sandbox`]): the kernel ends
//! them with us. Elsewhere, and for plugins, a command that is ended by a signal calls [`end_all`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, kill_process_group, test_kill_process_group, waitpgid, waitpid,
};

use super::scratch::Scratch;

/// How long the end of killed processes is waited for. Only a kernel that hangs needs so long.
const PATIENCE: Duration = Duration::from_secs(10);

struct Live {
    group: Pid,
    scratch: Option<Arc<Scratch>>,
}

static LIVE: Mutex<Vec<Live>> = Mutex::new(Vec::new());
/// Held for reading while a child begins or ends, for writing once all are to end.
static GATE: RwLock<()> = RwLock::new(());

fn live() -> MutexGuard<'static, Vec<Live>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right to start or end a child, until dropped. Not given any more after [`end_all`].
pub(crate) struct Gate(#[expect(dead_code, reason = "held")] RwLockReadGuard<'static, ()>);

impl Gate {
    /// Waits for it.
    pub(crate) fn enter() -> Self {
        Self(GATE.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes that `group` has been started, with the directory that has to go with it.
    pub(crate) fn add(&self, group: Pid, scratch: Option<Arc<Scratch>>) {
        live().push(Live { group, scratch });
    }

    /// Kills `group` and waits for its end; its number must still be its own: the leader is not waited for yet. The status
    /// is that of the leader, and whether all processes of the group are gone.
    pub(crate) fn end(&self, group: Pid) -> (Option<WaitStatus>, bool) {
        let ended = end(group);
        self.remove(group);
        ended
    }

    /// Notes that `group` has ended.
    pub(crate) fn remove(&self, group: Pid) {
        live().retain(|l| l.group != group);
    }
}

/// Kills every process group that rewards have started, waits for their ends and removes their directories. The threads
/// that wait for them do not go on: the caller ends this process.
pub fn end_all() {
    // Never released, so that nothing is started or taken for ended any more.
    let gate: RwLockWriteGuard<'static, ()> = GATE.write().unwrap_or_else(PoisonError::into_inner);
    std::mem::forget(gate);
    for child in live().drain(..) {
        let (_, gone) = end(child.group);
        if let Some(scratch) = child.scratch.filter(|_| gone) {
            scratch.remove();
        }
    }
}

fn end(group: Pid) -> (Option<WaitStatus>, bool) {
    // A member that is about to fork is killed with its child or before it has one, so once is enough.
    let _ = kill_process_group(group, Signal::KILL);
    let status = loop {
        match waitpid(Some(group), WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            ended => break ended.ok().flatten().map(|(_, status)| status),
        }
    };
    let until = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(100);
    loop {
        // Where this process is the one that orphans are given to.
        while let Ok(Some(_)) = waitpgid(group, WaitOptions::NOHANG) {}
        if test_kill_process_group(group).is_err() {
            return (status, true);
        }
        // Dead ones that nobody waits for count for the kernel, but do nothing any more.
        if pause > Duration::from_millis(2) && members(group).is_some_and(|m| m.is_empty()) {
            return (status, true);
        }
        if Instant::now() >= until {
            tracing::warn!("processes of group {group} do not end");
            return (status, false);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// The processes of a group that are not dead; none where it cannot be known.
pub(crate) fn members(group: Pid) -> Option<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse().ok()).and_then(Pid::from_raw) else { continue };
        // The name of a program may hold anything; what follows it are single letters and numbers.
        let Ok(stat) = std::fs::read(entry.path().join("stat")) else { continue };
        let text = String::from_utf8_lossy(&stat);
        let mut fields = text.rsplit(')').next().unwrap_or("").split_ascii_whitespace();
        let (state, of) = (fields.next(), fields.nth(1).and_then(|g| g.parse().ok()));
        if of == Some(group.as_raw_nonzero().get()) && !matches!(state, Some("Z" | "X")) {
            found.push(pid);
        }
    }
    Some(found)
}
