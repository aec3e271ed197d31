//! The judge and the candidate: two sandboxed processes that only talk through this one.
//!
//! The judge's lines are `C <request>`, passed to the candidate, or `<nonce> <result>`. The candidate's lines are passed to
//! the judge, one for each request; a line that nobody asked for ends the session.

use std::time::Instant;

use serde::Deserialize;

use super::interpreter::Interpreter;
use super::suite::JudgeSuite;
use super::{Failure, Language, Tally};
use crate::sandbox::{Child, End, Limits, Sandbox, SandboxError, pump};

const CODEC: &str = include_str!("codec.py");
const JUDGE: &str = include_str!("judge.py");
const CANDIDATE: &str = include_str!("candidate.py");
/// Results that are longer than this are the judge's end.
const RESULT_BYTES: usize = 1 << 20;

pub(super) struct Setting<'a> {
    pub(super) sandbox: Sandbox,
    pub(super) interpreter: &'a Interpreter,
    pub(super) limits: Limits,
    pub(super) tolerance: Option<f64>,
    pub(super) partial: bool,
    pub(super) code: &'a str,
    pub(super) suite: &'a JudgeSuite,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Frame {
    #[serde(default)]
    bad: Option<String>,
    #[serde(default)]
    ready: bool,
    #[serde(default)]
    load: Option<String>,
    #[serde(default)]
    loaded: bool,
    #[serde(default)]
    end: bool,
    #[serde(default)]
    i: Option<usize>,
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    why: String,
}

/// What is known of the tests so far.
struct State {
    passed: Vec<bool>,
    next: usize,
    ready: bool,
    failure: Option<String>,
}

impl Setting<'_> {
    fn start(&self, script: &str, files: &[(&str, &str)], limits: Limits) -> Result<Child, SandboxError> {
        let program = self.interpreter.program(Language::Python, script, &[]);
        let files: Vec<_> = files.iter().map(|(name, content)| (*name, content.as_bytes())).collect();
        Child::start(&self.sandbox, &program, limits, &files)
    }
}

/// Runs the tests of `setting`.
pub(super) fn judge(setting: &Setting<'_>) -> Result<Tally, Failure> {
    let broken = |e: SandboxError| Failure::Broken(e.to_string());
    let tests = setting.suite.tests.len();
    // The CPU limit is of the whole session, the wall clock of each test.
    let cpu_s = setting.limits.cpu_s.saturating_mul(tests as u64 + 1);
    let limits = Limits { cpu_s, ..setting.limits };
    let mut judge = setting
        .start(
            &format!("{CODEC}\n{JUDGE}"),
            &[],
            Limits { output: RESULT_BYTES.max(limits.output), ..limits },
        )
        .map_err(broken)?;
    let mut candidate = setting
        .start(&format!("{CODEC}\n{CANDIDATE}"), &[("solution.py", setting.code)], limits)
        .map_err(broken)?;
    let nonce = nonce().map_err(|e| Failure::Broken(format!("no random bytes: {e}")))?;
    let mut setup = serde_json::to_value(setting.suite).map_err(|e| Failure::Broken(e.to_string()))?;
    setup["nonce"] = nonce.as_str().into();
    setup["tolerance"] = setting.tolerance.into();
    judge.send(format!("{setup}\n").as_bytes());

    let mut state = State { passed: vec![false; tests], next: 0, ready: false, failure: None };
    let mut asked = false;
    let mut deadline = Instant::now() + limits.wall;
    let ended = loop {
        // Asked before reading: whatever a process wrote before its end is read in this round.
        let (judge_over, candidate_over) = (judge.is_over(), candidate.is_over());
        pump(&mut [&mut judge, &mut candidate], deadline);
        let mut done = None;
        // At most one request is open, so this ends: the judge waits for its reply.
        while done.is_none()
            && let Some(line) = judge.line()
        {
            if let Some(request) = line.strip_prefix(b"C ") {
                candidate.send(request);
                candidate.send(b"\n");
                asked = true;
            } else if let Some(frame) = line.strip_prefix(nonce.as_bytes()) {
                deadline = Instant::now() + limits.wall;
                done = state.take(frame, setting.partial);
            } else {
                done = Some(Err(Failure::Broken("the judge said something unexpected".into())));
            }
        }
        if let Some(done) = done {
            break done;
        }
        if let Some(line) = candidate.line() {
            if !asked {
                state.fail("the program answered without being asked".into());
                break Ok(());
            }
            asked = false;
            judge.send(&line);
            judge.send(b"\n");
            continue;
        }
        if judge_over {
            let end = judge.finish(false);
            if !state.ready {
                let reason = format!("the judge did not start: {end} {}", judge.errors());
                break Err(Failure::Broken(reason));
            }
            state.fail(format!("the judge stopped on what the program returned: {end}"));
            break Ok(());
        }
        // Without an open request the judge is at work; it will notice with the next one.
        if asked && candidate_over {
            let end = candidate.finish(false);
            let why = match end {
                End::Exit(_) => "the program ended itself".to_string(),
                end => end.to_string(),
            };
            state.fail(why);
            break Ok(());
        }
        if Instant::now() >= deadline {
            if !state.ready {
                break Err(Failure::Broken("the judge did not start in time".into()));
            }
            state.fail("timeout".into());
            break Ok(());
        }
    };
    ended?;
    let passed = state.passed.iter().filter(|p| **p).count();
    if passed < tests && state.failure.is_none() {
        state.failure = Some("not all tests were reached".into());
    }
    Ok(Tally { passed, total: tests, failure: state.failure })
}

impl State {
    /// Takes one result; gives the end of the session.
    fn take(&mut self, frame: &[u8], partial: bool) -> Option<Result<(), Failure>> {
        let Ok(frame) = serde_json::from_slice::<Frame>(frame) else {
            return Some(Err(Failure::Broken("the judge's result is no JSON".into())));
        };
        if let Some(reason) = frame.bad {
            return Some(Err(Failure::Task(format!("the tests cannot be run: {reason}"))));
        }
        if let Some(reason) = frame.load {
            self.fail(reason);
            return Some(Ok(()));
        }
        self.ready |= frame.ready;
        if frame.end {
            return Some(Ok(()));
        }
        if let Some(i) = frame.i
            && i == self.next
            && i < self.passed.len()
        {
            self.passed[i] = frame.ok;
            self.next += 1;
            if !frame.ok {
                self.failure.get_or_insert(format!("test {}: {}", i + 1, frame.why));
                return (!partial).then_some(Ok(()));
            }
        } else if !frame.ready && !frame.loaded {
            return Some(Err(Failure::Broken("the judge's results are out of order".into())));
        }
        None
    }

    fn fail(&mut self, why: String) {
        self.failure.get_or_insert(format!("test {}: {why}", self.next + 1));
    }
}

/// 128 random bits as text.
fn nonce() -> std::io::Result<String> {
    use std::io::Read;
    let mut bytes = [0u8; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
