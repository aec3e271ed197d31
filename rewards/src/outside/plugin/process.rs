//! One process of a plugin: started clean, spoken to with a deadline, killed with everything that it started.
//!
//! A single loop waits for all three pipes, so that a plugin that floods one of them, stalls, or leaves a child with
//! its end of a pipe can neither fill the memory nor hold up the host.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, getrlimit, kill_process_group, setrlimit, waitid,
};

use super::protocol::{MAX_LINE, shorten};
use super::worker::Failure;
use super::{PluginConfig, PluginLimits};
use crate::outside::children::Gate;

/// Variables of the host's environment that a plugin always gets.
const ENVIRONMENT: [&str; 3] = ["PATH", "HOME", "LANG"];
/// Bytes of stderr that are logged of a process; the rest is read and thrown away.
const LOG_BYTES: usize = 64 << 10;
/// Longest wait for one event, so that an exit is seen even when a child of the plugin keeps its pipes open.
const TICK: Duration = Duration::from_millis(50);
/// Bytes of stderr that are kept of an exchange, for the case that it fails.
const SAID_BYTES: usize = 8 << 10;
/// How long a plugin may take to end after `bye`.
const GRACE: Duration = Duration::from_millis(500);

pub(super) struct Process {
    child: Child,
    pid: Pid,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    received: Vec<u8>,
    log: Log,
    /// Waited for, so that its number may belong to somebody else by now.
    reaped: bool,
}

impl Process {
    /// Starts the command of `config`.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub fn start(config: &PluginConfig) -> Result<Self, String> {
        let program = config.command.first().ok_or("command is empty")?;
        let cannot = |e: std::io::Error| format!("cannot start {program:?}: {e}");
        let mut command = Command::new(match &config.cwd {
            // A program with a slash is a path from the plugin's directory, any other is looked up in PATH.
            Some(cwd) if program.contains('/') => cwd.join(program),
            _ => program.into(),
        });
        command.args(&config.command[1..]).env_clear().process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(cwd) = &config.cwd {
            command.current_dir(cwd);
        }
        for name in ENVIRONMENT.into_iter().chain(config.env.iter().map(String::as_str)) {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let limits = config.limits.clone();
        let descriptors = open_descriptors();
        // SAFETY: between fork and exec only system calls are made; nothing is allocated and no lock is taken.
        unsafe {
            command.pre_exec(move || {
                close_on_exec(&descriptors);
                limit(&limits).map_err(Into::into)
            });
        }
        let gate = Gate::enter();
        let mut child = command.spawn().map_err(cannot)?;
        let pid = Pid::from_child(&child);
        gate.add(pid, None);
        drop(gate);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (name, said) = (config.name.clone(), String::new());
        let log = Log { plugin: name, line: Vec::new(), left: LOG_BYTES, tail: String::new(), said };
        let process = Self { child, pid, stdin, stdout, stderr, received: Vec::new(), log, reaped: false };
        let pipes = [
            process.stdin.as_ref().map(AsFd::as_fd),
            process.stdout.as_ref().map(AsFd::as_fd),
            process.stderr.as_ref().map(AsFd::as_fd),
        ];
        for pipe in pipes.into_iter().flatten() {
            rustix::io::ioctl_fionbio(pipe, true).map_err(|e| cannot(e.into()))?;
        }
        Ok(process)
    }

    /// Whether the process has ended, which leaves it and its group to be killed and reaped.
    pub fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.pid), options), Ok(None))
    }

    /// Sends `line` and receives one line, without its end.
    ///
    /// # Errors
    /// [`Failure`]; the process cannot be used any more.
    pub fn exchange(&mut self, line: &[u8], timeout: Duration) -> Result<Vec<u8>, Failure> {
        let deadline = Instant::now() + timeout;
        let mut unsent = line;
        let mut searched = 0;
        self.log.said.clear();
        loop {
            if let Some(end) = self.received[searched..].iter().position(|b| *b == b'\n') {
                let end = searched + end;
                if end > MAX_LINE {
                    return Err(self.violation("it sent a line above 16 MiB"));
                }
                if self.received.len() > end + 1 {
                    return Err(self.violation("it sent more than one line"));
                }
                let mut line = std::mem::take(&mut self.received);
                line.truncate(end);
                return match unsent {
                    [] => Ok(line),
                    _ => Err(self.violation("it answered before it was asked")),
                };
            }
            searched = self.received.len();
            if searched > MAX_LINE {
                return Err(self.violation("it sent a line above 16 MiB"));
            }
            // Before the pipes are read: what an ended process has written is all there.
            let ended = self.has_ended();
            let now = Instant::now();
            if now >= deadline {
                return Err(Failure::Late(format!("it did not answer within {} s", timeout.as_secs_f64())));
            }
            let wait = if ended { Duration::ZERO } else { TICK.min(deadline - now) };
            self.wait(!unsent.is_empty(), wait);
            if !unsent.is_empty() {
                self.send(&mut unsent);
            }
            self.drain_stderr();
            let open = self.receive();
            if self.received.len() == searched && (ended || !open) {
                return Err(self.gone());
            }
        }
    }

    /// What it has written to stderr in this exchange, its beginning where that is long; none where it wrote nothing.
    pub fn said(&mut self) -> Option<String> {
        self.drain_stderr();
        self.log.end();
        Some(std::mem::take(&mut self.log.said)).filter(|said| !said.is_empty())
    }

    fn violation(&self, what: &str) -> Failure {
        Failure::Violation(what.to_owned())
    }

    /// Waits until a pipe is ready.
    fn wait(&self, sending: bool, timeout: Duration) {
        let mut fds = Vec::with_capacity(3);
        let mut add = |fd, flags| fds.push(PollFd::from_borrowed_fd(fd, flags));
        if let Some(pipe) = &self.stdout {
            add(pipe.as_fd(), PollFlags::IN);
        }
        if let Some(pipe) = &self.stderr {
            add(pipe.as_fd(), PollFlags::IN);
        }
        if let Some(pipe) = self.stdin.as_ref().filter(|_| sending) {
            add(pipe.as_fd(), PollFlags::OUT);
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(timeout.subsec_nanos()) };
        // An interruption is as good as an event: the loop looks again.
        let _ = poll(&mut fds, Some(&timeout));
    }

    fn send(&mut self, unsent: &mut &[u8]) {
        let Some(stdin) = &mut self.stdin else { return };
        match stdin.write(unsent) {
            Ok(n) => *unsent = &unsent[n..],
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // It does not listen any more; whether it ended is seen elsewhere.
            Err(_) => self.stdin = None,
        }
    }

    /// Takes what stdout has, at most one line and a little more; false when it is closed.
    fn receive(&mut self) -> bool {
        let Some(stdout) = &mut self.stdout else { return false };
        let mut chunk = [0; 1 << 16];
        while self.received.len() <= MAX_LINE {
            match stdout.read(&mut chunk) {
                Ok(0) => return false,
                Ok(n) => {
                    self.received.extend_from_slice(&chunk[..n]);
                    if chunk[..n].contains(&b'\n') {
                        return true;
                    }
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return e.kind() == ErrorKind::WouldBlock,
            }
        }
        true
    }

    /// Logs what stderr has; at most a megabyte a call, so that a flood does not keep the loop from its deadline.
    fn drain_stderr(&mut self) {
        let Some(stderr) = &mut self.stderr else { return };
        let mut chunk = [0; 1 << 16];
        for _ in 0..16 {
            match stderr.read(&mut chunk) {
                Ok(0) => self.stderr = None,
                Ok(n) => {
                    self.log.add(&chunk[..n]);
                    continue;
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => self.stderr = None,
            }
            return;
        }
    }

    /// The end of the process in words, with the last line that it logged.
    fn gone(&mut self) -> Failure {
        let until = Instant::now() + GRACE;
        while !self.has_ended() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.drain_stderr();
        self.log.end();
        let how = if self.has_ended() {
            self.kill();
            let status = self.child.wait();
            status.map_or("it ended".to_owned(), |status| format!("it ended ({status})"))
        } else {
            "it closed its stdout".to_owned()
        };
        let tail = &self.log.tail;
        Failure::Gone(if tail.is_empty() { how } else { format!("{how}; its last words: {tail}") })
    }

    /// Ends the whole group. Its number is free for others only once the process has been waited for.
    fn kill(&mut self) {
        if !self.reaped {
            let gate = Gate::enter();
            let _ = kill_process_group(self.pid, Signal::KILL);
            let _ = self.child.wait();
            gate.remove(self.pid);
            self.reaped = true;
        }
    }

    /// Says `bye`, waits for half a second at most, and kills what is left; whether it ended by itself.
    pub fn finish(mut self) -> bool {
        if let Some(mut stdin) = self.stdin.take() {
            let _ = stdin.write(b"{\"type\":\"bye\"}\n");
        }
        let until = Instant::now() + GRACE;
        while !self.has_ended() && Instant::now() < until {
            self.drain_stderr();
            self.received.clear();
            let _ = self.receive();
            std::thread::sleep(Duration::from_millis(2));
        }
        self.has_ended()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The stderr of a process, line by line into the log.
struct Log {
    plugin: String,
    line: Vec<u8>,
    left: usize,
    /// The last line that was not blank.
    tail: String,
    /// The lines of this exchange.
    said: String,
}

impl Log {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                self.end();
            } else if self.line.len() < 2000 {
                self.line.push(*byte);
            }
        }
    }

    fn end(&mut self) {
        let text = String::from_utf8_lossy(&self.line);
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.line.clear();
        if text.trim().is_empty() {
            return;
        }
        self.tail = shorten(text.trim(), 200);
        if self.said.len() < SAID_BYTES {
            self.said.push_str(text.trim_end());
            self.said.push('\n');
        }
        if self.left > 0 {
            tracing::info!(plugin = self.plugin, "{text}");
            self.left = self.left.saturating_sub(text.len() + 1);
            if self.left == 0 {
                tracing::warn!(plugin = self.plugin, "the rest of its stderr is not logged");
            }
        }
    }
}

/// The descriptors above stderr that the host has now.
fn open_descriptors() -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/dev/fd") else { return Vec::new() };
    let number = |e: std::io::Result<std::fs::DirEntry>| e.ok()?.file_name().to_str()?.parse().ok();
    entries.filter_map(number).filter(|fd| *fd > 2).collect()
}

/// Keeps every descriptor above stderr from the program that is about to start, whoever opened it.
fn close_on_exec(descriptors: &[i32]) {
    #[cfg(target_os = "linux")]
    // SAFETY: the call only sets a flag on descriptors; an old kernel refuses it.
    if unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) } == 0 {
        return;
    }
    for fd in descriptors {
        // SAFETY: as above; a descriptor that is closed by now gives an error, which means nothing.
        unsafe { libc::fcntl(*fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Bounds the process that is about to become the plugin.
fn limit(limits: &PluginLimits) -> rustix::io::Result<()> {
    let set = |resource, value: Option<u64>| {
        let Some(value) = value else { return Ok(()) };
        // A limit that is lower already stays.
        let maximum = getrlimit(resource).maximum.map_or(value, |m| m.min(value));
        setrlimit(resource, Rlimit { current: Some(maximum), maximum: Some(maximum) })
    };
    set(Resource::Core, Some(0))?;
    set(Resource::Nofile, Some(limits.open_files))?;
    set(Resource::As, limits.memory_mb.map(|m| m << 20))?;
    set(Resource::Cpu, limits.cpu_s)?;
    set(Resource::Fsize, limits.file_mb.map(|m| m << 20))
}
