//! The judge and the candidate: two sandboxed processes that only talk through this one.
//!
//! The judge's lines are `C <request>`, passed to the candidate, or `<nonce> <result>`. The candidate's lines are passed to
//! the judge, one for each request; a line that nobody asked for ends the session.
//!
//! Who is to blame for an end that is none of the protocol depends on how far the session is, and on nothing that is said:
//! before the tests begin it is this machine, until the candidate's code is loaded it is the task, and from then on it is
//! the candidate, whatever happens.
//!
//! A test that fails while objects of the candidate were apart from what used them is not wrong for certain: the candidate
//! and the tests run once more in one process ([`together`]). So is one that fails by what only two processes make a failure:
//! results that are too large to be sent, or very many requests in the time of a test. That can only take a wrong answer back, and is not tried where the judge
//! caught the program cheating.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::interpreter::Interpreter;
use super::suite::JudgeSuite;
use super::{Failure, Language, Tally};
use crate::outside::sandbox::{Child, End, Limits, Sandbox, SandboxError, pump};

const JUDGE: &str = concat!(
    include_str!("codec.py"),
    include_str!("shared.py"),
    include_str!("link.py"),
    include_str!("evidence.py"),
    include_str!("stand_in.py"),
    include_str!("counter.py"),
    include_str!("names.py"),
    include_str!("values.py"),
    include_str!("cases.py"),
    include_str!("judge.py"),
);
const CANDIDATE: &str = concat!(include_str!("codec.py"), include_str!("candidate.py"));
const WHOLE: &str = concat!(
    include_str!("codec.py"),
    include_str!("names.py"),
    include_str!("values.py"),
    include_str!("cases.py"),
    include_str!("whole.py"),
);
/// Longest message between the two: arguments and results.
const MESSAGE_BYTES: usize = 16 << 20;
/// Time that an interpreter has to start on a busy machine.
const START: Duration = Duration::from_secs(20);
/// Requests of one test, each of which takes a tenth of a millisecond that one process does not need.
const MANY_REQUESTS: usize = 200;

pub(super) struct Setting<'a> {
    pub(super) sandbox: Sandbox,
    pub(super) interpreter: &'a Interpreter,
    pub(super) limits: Limits,
    pub(super) tolerance: Option<f64>,
    pub(super) partial: bool,
    pub(super) code: &'a str,
    pub(super) suite: &'a JudgeSuite,
}

/// How far a session is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    /// The interpreters are started.
    Start,
    /// The judge prepares the tests.
    Tests,
    /// The task's own code runs in the candidate's process.
    Setup,
    /// The candidate's code is loaded.
    Load,
    /// The tests run.
    Run,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Frame {
    #[serde(default)]
    phase: Option<Phase>,
    #[serde(default)]
    bad: Option<String>,
    /// How the program was caught cheating.
    #[serde(default)]
    caught: Option<String>,
    /// Why tests that pass decide nothing.
    #[serde(default)]
    doubt: Option<String>,
    #[serde(default)]
    load: Option<String>,
    #[serde(default)]
    end: bool,
    #[serde(default)]
    i: Option<usize>,
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    why: String,
    /// Whether only candidate and tests together show what a failed test means.
    #[serde(default)]
    involved: bool,
}

/// What is known of the tests so far.
struct State {
    phase: Phase,
    passed: Vec<bool>,
    next: usize,
    failure: Option<String>,
    /// Failed tests that may be right in one process.
    open: Vec<usize>,
    /// Whether a failure is certain whatever one process says.
    certain: bool,
}

/// A process and how much of its output is known to hold no line end.
struct Lines {
    child: Child,
    seen: usize,
}

impl Lines {
    fn next(&mut self) -> Option<Vec<u8>> {
        let fresh = self.child.output().get(self.seen..).unwrap_or_default();
        if !fresh.contains(&b'\n') {
            self.seen = self.child.output().len();
            return None;
        }
        self.seen = 0;
        self.child.line()
    }
}

impl Setting<'_> {
    fn start(&self, script: &str, files: &[(&str, &str)], limits: Limits) -> Result<Child, SandboxError> {
        let program = self.interpreter.program(Language::Python, script, &[]);
        let files: Vec<_> = files.iter().map(|(name, content)| (*name, content.as_bytes())).collect();
        Child::start(&self.sandbox, &program, limits, &files)
    }
}

/// Both processes, with the judge told the tests.
fn begin(setting: &Setting<'_>) -> Result<(Lines, Lines, Told), Failure> {
    let broken = |e: SandboxError| Failure::Broken(e.to_string());
    let tests = setting.suite.tests.len();
    // The CPU limit is of the whole session, the wall clock of each test.
    let cpu_s = setting.limits.cpu_s.saturating_mul(tests as u64 + 1);
    let limits = Limits { cpu_s, output: MESSAGE_BYTES.max(setting.limits.output), ..setting.limits };
    let mut judge = Lines { child: setting.start(JUDGE, &[], limits).map_err(broken)?, seen: 0 };
    let child = setting.start(CANDIDATE, &[("solution.py", setting.code)], limits).map_err(broken)?;
    let nonce = nonce().map_err(|e| Failure::Broken(format!("no random bytes: {e}")))?;
    let mut setup = serde_json::to_value(setting.suite).map_err(|e| Failure::Broken(e.to_string()))?;
    setup["nonce"] = nonce.as_str().into();
    setup["tolerance"] = setting.tolerance.into();
    setup["partial"] = setting.partial.into();
    let setup = format!("{setup}\n");
    judge.child.send(setup.as_bytes());
    Ok((judge, Lines { child, seen: 0 }, Told { setup, nonce }))
}

/// What the judge is told, and what its own messages begin with.
struct Told {
    setup: String,
    nonce: String,
}

/// Runs the tests of `setting`.
pub(super) fn judge(setting: &Setting<'_>) -> Result<Tally, Failure> {
    let limits = setting.limits;
    let (mut judge, mut candidate, Told { setup, nonce }) = begin(setting)?;
    let mut state = State {
        phase: Phase::Start,
        passed: vec![false; setting.suite.tests.len()],
        next: 0,
        failure: None,
        open: Vec::new(),
        certain: false,
    };
    // The candidate's process says that it is there before any code of the candidate runs.
    let mut is_up = false;
    let mut asked = false;
    // Since the judge's last result.
    let mut requests = 0;
    let mut deadline = Instant::now() + START + limits.wall;
    let ended = loop {
        // Asked before reading: whatever a process wrote before its end is read in this round.
        let (judge_over, candidate_over) = (judge.child.is_over(), candidate.child.is_over());
        pump(&mut [&mut judge.child, &mut candidate.child], deadline);
        let mut done = None;
        // At most one request is open, so this ends: the judge waits for its reply.
        while done.is_none()
            && let Some(line) = judge.next()
        {
            if let Some(request) = line.strip_prefix(b"C ") {
                candidate.child.send(request);
                candidate.child.send(b"\n");
                asked = true;
                requests += 1;
            } else if let Some(frame) = line.strip_prefix(nonce.as_bytes()) {
                requests = 0;
                deadline = Instant::now() + limits.wall + if is_up { Duration::ZERO } else { START };
                done = state.take(frame, setting.partial);
            } else {
                done = Some(state.blame("the judge said something unexpected".into()));
            }
        }
        if let Some(done) = done {
            break done;
        }
        if let Some(line) = candidate.next() {
            if !is_up {
                if line != b"\"up\"" {
                    break Err(Failure::Broken("the program's interpreter said something unexpected".into()));
                }
                is_up = true;
                deadline = Instant::now()
                    + limits.wall
                    + if state.phase == Phase::Start { START } else { Duration::ZERO };
                continue;
            }
            if !asked {
                break state.blame("the program answered without being asked".into());
            }
            asked = false;
            judge.child.send(&line);
            judge.child.send(b"\n");
            continue;
        }
        if judge_over {
            break state.stopped(&mut judge);
        }
        if candidate_over && !is_up {
            let (end, last) = (candidate.child.finish(false), candidate.child.errors());
            break Err(Failure::Broken(format!("the program's interpreter did not start: {end} {last}")));
        }
        // Without an open request the judge is at work; it will notice with the next one.
        if asked && candidate_over {
            break state.ended(candidate.child.finish(false));
        }
        if Instant::now() >= deadline {
            break state.late(is_up, requests);
        }
    };
    drop((judge, candidate));
    ended?;
    tally(setting, state, &setup, &nonce)
}

/// What the tests have shown, with those that are open decided in one process.
fn tally(setting: &Setting<'_>, mut state: State, setup: &str, nonce: &str) -> Result<Tally, Failure> {
    let tests = setting.suite.tests.len();
    let mut at_once = None;
    if !state.open.is_empty() && !state.certain {
        let passes = together(setting, setting.limits, setup, nonce)?;
        // With partial credit each test counts; otherwise a test that was not reached decides as well.
        let all = passes.iter().all(|p| *p);
        let any = setting.partial && state.open.iter().any(|&i| passes.get(i) == Some(&true));
        at_once = Some(any || all && passes.len() == tests);
    }
    let passed = state.passed.iter().filter(|p| **p).count();
    if passed < tests && state.failure.is_none() {
        state.failure = Some("not all tests were reached".into());
    }
    Ok(Tally { passed, total: tests, failure: state.failure, together: at_once })
}

/// Runs the candidate's code and the tests in one process, with the same limits; gives what passed until nothing more came.
fn together(setting: &Setting<'_>, limits: Limits, setup: &str, nonce: &str) -> Result<Vec<bool>, Failure> {
    let broken = |e: SandboxError| Failure::Broken(e.to_string());
    let child = setting.start(WHOLE, &[("solution.py", setting.code)], limits).map_err(broken)?;
    let mut whole = Lines { child, seen: 0 };
    whole.child.send(setup.as_bytes());
    let tests = setting.suite.tests.len();
    let mut deadline = Instant::now() + START + limits.wall;
    let mut passes = Vec::new();
    while passes.len() < tests {
        let over = whole.child.is_over();
        pump(&mut [&mut whole.child], deadline);
        while let Some(line) = whole.next() {
            let Ok((said, test, passed)) = serde_json::from_slice::<(String, Option<usize>, bool)>(&line)
            else {
                return Ok(Vec::new());
            };
            if said != nonce || test.is_some_and(|i| i != passes.len()) {
                return Ok(Vec::new());
            }
            deadline = Instant::now() + limits.wall;
            if test.is_some() {
                passes.push(passed);
                if !passed && !setting.partial {
                    return Ok(passes);
                }
            }
        }
        if over || Instant::now() >= deadline {
            break;
        }
    }
    Ok(passes)
}

impl State {
    /// The judge has ended by itself.
    fn stopped(&mut self, judge: &mut Lines) -> Result<(), Failure> {
        let (end, last) = (judge.child.finish(false), judge.child.errors());
        self.blame(match self.phase {
            Phase::Start | Phase::Tests => format!("the judge stopped: {end} {last}"),
            _ => return self.leave_open(format!("the judge stopped on what the program returned: {end}")),
        })
    }

    /// The program has ended while it was asked.
    fn ended(&mut self, end: End) -> Result<(), Failure> {
        match end {
            End::Exit(_) => self.blame("the program ended itself".into()),
            // What it returns may be right and only too large for two processes.
            end @ End::Output => self.leave_open(end.to_string()),
            end => self.blame(end.to_string()),
        }
    }

    /// No result in time, after this many requests.
    fn late(&mut self, is_up: bool, requests: usize) -> Result<(), Failure> {
        match is_up {
            // Only asked whether what passed is to be believed.
            true if self.next == self.passed.len() && self.failure.is_none() => {
                Err(Failure::Task("undecided: the program answers no question after its tests".into()))
            }
            true if requests > MANY_REQUESTS => self.leave_open("timeout".into()),
            true => self.blame("timeout".into()),
            false => Err(Failure::Broken("the interpreter did not start in time".into())),
        }
    }

    /// Takes one result; gives the end of the session.
    fn take(&mut self, frame: &[u8], partial: bool) -> Option<Result<(), Failure>> {
        let Ok(frame) = serde_json::from_slice::<Frame>(frame) else {
            return Some(self.blame("the judge's result cannot be read".into()));
        };
        if let Some(reason) = frame.bad {
            return Some(Err(Failure::Task(format!("the tests cannot be run: {reason}"))));
        }
        if let Some(reason) = frame.caught {
            // Whatever has passed, and whatever one process says.
            self.certain = true;
            self.passed.fill(false);
            self.failure = Some(format!("caught: {reason}"));
            return Some(Ok(()));
        }
        if let Some(reason) = frame.doubt {
            return Some(Err(Failure::Task(format!("undecided: {reason}"))));
        }
        if let Some(reason) = frame.load {
            return Some(self.blame(reason));
        }
        if frame.end {
            return Some(Ok(()));
        }
        if let Some(phase) = frame.phase {
            self.phase = self.phase.max(phase);
        } else if let Some(i) = frame.i
            && i == self.next
            && i < self.passed.len()
        {
            self.passed[i] = frame.ok;
            self.next += 1;
            if !frame.ok {
                if frame.involved {
                    self.open.push(i);
                } else {
                    self.certain = !partial;
                }
                self.failure.get_or_insert(format!("test {}: {}", i + 1, frame.why));
                return (!partial).then_some(Ok(()));
            }
        } else {
            return Some(self.blame("the judge's results are out of order".into()));
        }
        None
    }

    /// Ends the session for `why`, which only two processes make a failure: one process decides.
    fn leave_open(&mut self, why: String) -> Result<(), Failure> {
        if self.phase < Phase::Run {
            return self.blame(why);
        }
        self.open.push(self.next);
        self.failure.get_or_insert(format!("test {}: {why}", self.next + 1));
        Ok(())
    }

    /// Ends the session for `why`, at the cost of whom it concerns.
    fn blame(&mut self, why: String) -> Result<(), Failure> {
        match self.phase {
            Phase::Start => Err(Failure::Broken(why)),
            Phase::Tests | Phase::Setup => Err(Failure::Task(format!("the tests cannot be run: {why}"))),
            Phase::Load | Phase::Run => {
                self.certain = true;
                self.failure.get_or_insert(format!("test {}: {why}", self.next + 1));
                Ok(())
            }
        }
    }
}

/// 128 random bits as text.
fn nonce() -> std::io::Result<String> {
    use std::io::Read;
    let mut bytes = [0u8; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
