//! One confined child: its pipes, its end, and the end of everything it started.

use std::collections::VecDeque;
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitStatus, waitid};

use super::watch::Watch;
use super::{Limits, Program, Sandbox, SandboxError};
use crate::outside::children::Gate;
use crate::outside::scratch::Scratch;

/// Bytes of standard error that are kept, counted from the end.
const ERROR_BYTES: usize = 4096;
/// Longest wait for something to happen before the deadline and the scratch directory are looked at again.
const ROUND: Duration = Duration::from_millis(50);

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// At the deadline.
    Timeout,
    /// For writing more output than allowed.
    Output,
    /// For filling its scratch directory.
    Files,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exit(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::Timeout => f.write_str("timeout"),
            Self::Output => f.write_str("too much output"),
            Self::Files => f.write_str("too many or too large files"),
        }
    }
}

/// What a child left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// How it ended.
    pub end: End,
    /// Its standard output, at most [`Limits::output`] bytes.
    pub stdout: Vec<u8>,
    /// The end of its standard error.
    pub stderr: String,
}

/// A running child. Dropping it kills all that it started, waits for it and removes its directory.
pub struct Child {
    group: Pid,
    forks: bool,
    stdin: Option<PipeWriter>,
    queue: VecDeque<u8>,
    close_input: bool,
    stdout: Option<PipeReader>,
    read: Vec<u8>,
    stderr: Option<PipeReader>,
    errors: Vec<u8>,
    limits: Limits,
    over: Option<End>,
    /// Set once it has been killed and waited for.
    ended: bool,
    status: Option<WaitStatus>,
    /// Its directory on the host, which has to be looked at and removed.
    host: Option<(Arc<Scratch>, Watch)>,
}

impl Child {
    /// Starts `program` in a directory that holds `files`.
    ///
    /// # Errors
    /// When the sandbox cannot be set up or the program cannot be started.
    pub fn start(
        sandbox: &Sandbox,
        program: &Program,
        limits: Limits,
        files: &[(&str, &[u8])],
    ) -> Result<Self, SandboxError> {
        // Before there is a directory: who ends everything waits until it is known.
        let gate = Gate::enter();
        let plan = sandbox.plan(program, limits, files)?;
        let scratch = plan.place.scratch().map(Arc::clone);
        let started = plan.spawn().inspect_err(|_| {
            if let Some(scratch) = &scratch {
                scratch.remove();
            }
        })?;
        gate.add(started.pid, scratch.clone());
        drop(gate);
        let child = Self {
            group: started.pid,
            forks: program.forks,
            stdin: Some(started.stdin),
            queue: VecDeque::new(),
            close_input: false,
            stdout: Some(started.stdout),
            read: Vec::new(),
            stderr: Some(started.stderr),
            errors: Vec::new(),
            limits,
            over: None,
            ended: false,
            status: None,
            host: scratch.map(|scratch| (scratch, Watch::new(limits.file, files))),
        };
        for fd in child.descriptors().into_iter().flatten() {
            rustix::io::ioctl_fionbio(fd, true).map_err(|e| SandboxError::new("preparing a pipe", e))?;
        }
        Ok(child)
    }

    fn descriptors(&self) -> [Option<BorrowedFd<'_>>; 3] {
        [
            self.stdin.as_ref().map(AsFd::as_fd),
            self.stdout.as_ref().map(AsFd::as_fd),
            self.stderr.as_ref().map(AsFd::as_fd),
        ]
    }

    /// Queues bytes for its standard input.
    pub fn send(&mut self, bytes: &[u8]) {
        self.queue.extend(bytes);
    }

    /// Closes its standard input once everything is written.
    pub fn close_input(&mut self) {
        self.close_input = true;
    }

    /// The next whole line of its output, without the line end.
    pub fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.read.iter().position(|b| *b == b'\n')?;
        let rest = self.read.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.read, rest);
        line.pop();
        Some(line)
    }

    /// Whether the process itself has ended or broken a limit; what it started may still run.
    pub fn is_over(&mut self) -> bool {
        if self.ended || self.over.is_some() {
            return true;
        }
        if let Some((scratch, watch)) = &mut self.host
            && watch.sees_too_much(scratch, self.group, self.forks)
        {
            self.over = Some(End::Files);
            return true;
        }
        // Not reaped yet, so that nobody else can get its number before its group is killed.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.group), options), Ok(None))
    }

    /// Kills all that is left of it, takes what is left in the pipes, and says how it ended.
    pub fn finish(&mut self, timed_out: bool) -> End {
        if timed_out && self.over.is_none() {
            self.over = Some(End::Timeout);
        }
        self.kill();
        self.exchange();
        if let Some(end) = self.over {
            return end;
        }
        match self.status {
            Some(status) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => End::Exit(code),
                (_, Some(signal)) if signal == libc::SIGXCPU => End::Timeout,
                (_, Some(signal)) => End::Signal(signal),
                _ => End::Signal(0),
            },
            None => End::Signal(0),
        }
    }

    /// Its output that was not taken as lines.
    pub fn output(&self) -> &[u8] {
        &self.read
    }

    /// The end of its standard error.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.errors).trim().to_string()
    }

    fn kill(&mut self) {
        if self.ended {
            return;
        }
        self.ended = true;
        let gate = Gate::enter();
        // The leader has not been waited for, so the group is still its own.
        let (status, gone) = gate.end(self.group);
        self.status = status;
        // What is still alive may still write there; a later process removes it.
        if let Some((scratch, _)) = self.host.as_ref().filter(|_| gone) {
            scratch.remove();
        }
    }

    /// Reads and writes what the pipes take without waiting.
    fn exchange(&mut self) {
        if let Some(pipe) = &mut self.stdin {
            let mut open = true;
            while open && !self.queue.is_empty() {
                match pipe.write(self.queue.as_slices().0) {
                    Ok(n) => drop(self.queue.drain(..n)),
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) => {
                        open = e.kind() == ErrorKind::WouldBlock;
                        break;
                    }
                }
            }
            if !open || self.close_input && self.queue.is_empty() {
                self.stdin = None;
            }
        }
        let mut chunk = [0u8; 16 * 1024];
        while let Some(pipe) = &mut self.stdout
            && self.over.is_none()
        {
            match pipe.read(&mut chunk) {
                Ok(0) => self.stdout = None,
                Ok(n) => {
                    let room = self.limits.output.saturating_sub(self.read.len());
                    self.read.extend_from_slice(&chunk[..n.min(room)]);
                    if n > room {
                        self.over = Some(End::Output);
                    }
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.stdout = None,
            }
        }
        // Bounded: a child that only writes errors must not keep us here.
        for _ in 0..64 {
            let Some(pipe) = &mut self.stderr else { break };
            match pipe.read(&mut chunk) {
                Ok(0) => self.stderr = None,
                Ok(n) => {
                    self.errors.extend_from_slice(&chunk[..n]);
                    let excess = self.errors.len().saturating_sub(ERROR_BYTES);
                    self.errors.drain(..excess);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.stderr = None,
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One round: waits until a pipe of a child is ready, at most until `until` or a twentieth of a second, and moves bytes.
pub fn pump(children: &mut [&mut Child], until: Instant) {
    let left = until.saturating_duration_since(Instant::now());
    let has_pipes = children.iter().all(|c| c.stdout.is_some() || c.stderr.is_some());
    // A child that has closed its pipes and still runs wakes nobody.
    let wait = left.min(if has_pipes { ROUND } else { Duration::from_millis(2) });
    let mut fds = Vec::with_capacity(6);
    for child in children.iter() {
        let [stdin, stdout, stderr] = child.descriptors();
        if let Some(fd) = stdin
            && !child.queue.is_empty()
        {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::OUT));
        }
        for fd in [stdout, stderr].into_iter().flatten() {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
    }
    let timeout = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
    // An interrupted wait is a short one.
    let _ = poll(&mut fds, Some(&timeout));
    drop(fds);
    children.iter_mut().for_each(|child| child.exchange());
}

/// Runs `program` with `files` in its directory and `input` on its standard input until it ends or breaks a limit.
///
/// # Errors
/// When the sandbox itself does not work.
pub fn run(
    sandbox: &Sandbox,
    program: &Program,
    limits: Limits,
    files: &[(&str, &[u8])],
    input: &[u8],
) -> Result<Finished, SandboxError> {
    let mut child = Child::start(sandbox, program, limits, files)?;
    child.send(input);
    child.close_input();
    child.exchange();
    let deadline = Instant::now() + limits.wall;
    let mut timed_out = false;
    while !child.is_over() {
        if Instant::now() >= deadline {
            timed_out = true;
            break;
        }
        pump(&mut [&mut child], deadline);
    }
    let end = child.finish(timed_out);
    Ok(Finished { end, stdout: std::mem::take(&mut child.read), stderr: child.errors() })
}
