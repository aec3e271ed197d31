//! `code`: a program passes the tests of its task, run in a sandbox.
//!
//! The code is the last fenced block of the response with a matching language, else the last one without, else the last;
//! a block that defines what the tests call goes before one that only uses it, and a session with `>>>` is no program. With
//! `whole` a response without any block is code itself. Thoughts are never code.
//!
//! The reference has one of
//!
//! - `tests`: `[{"input": "2 3\n", "output": "5\n"}]`: the program reads the input and writes the output. Lines are
//!   compared without trailing white space; with `tolerance`, numbers within it are equal. A test may also have `args` (a
//!   list of strings), `files` (name → content) and, for shells, `command`: the script is loaded and this is run.
//! - `tests` with an `entry_point` and lists as inputs: `{"entry_point": "add", "tests": [{"input": [2, 3], "output": 5}]}`
//! - `asserts`: `["assert add(2, 3) == 5"]`, each a test; for shells `[ "$(add 2 3)" = "5" ]`
//! - `test_code`: one test, a string. With an `entry_point`, its function `check` is called with the candidate's
//!   function, which is also there as `candidate`; functions named `test_…` and `unittest` classes are run.
//!
//! and for Python, where wanted: `entry_point` (an expression such as `Solution().add`), `setup` (run before the
//! candidate's code, in its process), `test_setup` (run before the tests, away from the candidate), `solution` (the
//! reference's own code, for self-checks).
//!
//! # What cannot be gamed
//!
//! Expected outputs never enter the process that runs the candidate's code. Programs that read and write are compared
//! here. Assertions run in a second sandboxed process, the judge, which the candidate's code never enters: it asks the
//! candidate's process to call a function, gets plain data back, and compares it with its own operators. So neither
//! patched built-ins nor an `__eq__` that is always true, an early exit or a forged result earns anything: the judge's
//! results come through a pipe of their own and carry a random nonce.
//!
//! Plain data are the built-in types and dates, times, `Fraction`, `Decimal`, `deque`, `Counter` and the like, nested up to
//! 200 times; what a program returns deeper is no value here. Other objects stay in the candidate's process; the tests see a
//! stand-in with attributes, calls, items, iteration and the operators of its class.
//!
//! A test is evidence where its truth was decided here, by plain data that came out of the program by call, attribute or
//! iteration. Whatever an object of the program decides by itself is an opinion, and what passes only with opinions is
//! `unverifiable`, with the opinion named:
//!
//! - It equals no plain data. How it compares with another object, how it is hashed, and what two objects give when they are
//!   computed with each other (`root * root`, `p + q`), only the program says.
//! - What it gives has to fit one plain value: as many items as its length, the same ones at their places, by slices,
//!   backwards and each time, `index` and `count` as the items say, keys with their values, one number and its text, the
//!   same attribute twice, nothing unequal that it turns out to be. Only what the tests have seen is compared; the program
//!   is not asked what an object has. A class that extends a plain type answers as the data that it holds.
//! - After it was given a value of the tests by an operator (`f(1) - 5`) nothing of it is believed, since it has been told
//!   a number that may be the expected one; nor is it asked what a text or a set is asked (`f(x).startswith('a')`). What
//!   one of its methods says of a value of the tests (`f(2).equals(5)`, `f(2).score(5)`) is evidence where it says several
//!   things, or gives a text or data of several values, and does not just repeat what it was told.
//! - What an object holds does not change by itself. It changes with what the tests do with it, but not into as many other
//!   things unless they put them there; what is popped was in it.
//! - Methods of numbers, texts and exceptions of a class of the program are believed no more than those of objects.
//! - A context manager takes no assertion, and other errors of the tests only where it does not take all of them. A name of
//!   the program that is `Exception` or `AssertionError` itself takes none of the errors that the tests raise.
//!
//! Objects that the tests make themselves of a class which they name (`t = Trie()`) are what is tested, and are asked: what
//! they contain, equal and compute, also with what methods of this class give. What says that it equals or contains a foreign
//! value, or is both less and not less, decides nothing here either unless it has also said no, nor does a class that takes
//! all its objects for equal, whatever they are made of. What a function returns is such an object where the tests gave it to
//! the program, and not where it only is the last one that they made. That a name means a class is said by the `solution` of the
//! reference or by the tests: an `isinstance`, or a capital letter and a use that no value of a plain type has
//! (`t.insert('a')`, `t.root`). Where a name with a capital letter is only compared (`Money(1) == 1`) or asked what it
//! contains, it may be a function as well: what passes by such an answer is `unverifiable`, unless the object says the same
//! of everything; give a `solution`.
//!
//! # What is wrong for certain
//!
//! Stand-ins are not everything that objects are, and two processes do not share files, modules and settings. So a test that
//! fails where an object, a function of the tests or data that both hold took part, or whose tests reach further than
//! values (files, modules beyond the plain ones), is run once more with all others: program and tests in one ordinary
//! process, with the same sandbox and limits. What passes there is `unverifiable` ("passes in one process …"), what fails
//! there, too, is `incorrect`; nothing becomes `correct` by it, since in one process a program may do what it likes. The
//! method says so: `tagged/asserts+together@…`. It is tried as well where results are too large or too deep to be sent, and
//! where a test is late after more than 200 requests, each of which takes a while between two processes. Failures of plain data alone, late
//! programs, and those that end themselves or reply what cannot be read are `incorrect` at once.
//!
//! Lists and the like are copies in the tests. Where the program keeps them, too (`s.items`, an argument), it is told what a
//! test changes in them before it is asked anything else; what the program changes later is not seen in a copy that a test
//! already has, only in the next one. Functions of the tests have their names, annotations and plain parameters there.
//!
//! Exceptions arrive as their own class or, where the candidate defines it, as one that stands for
//! it, and for the built-in one of the same name; `StopIteration` and `GeneratorExit` as classes that end no loop, which tests catch by those names all the same.
//!
//! Which names the candidate has to define follows from the tests alone: those of the entry point, those that nothing else
//! defines, and where that leaves none the built-in that every test calls. A built-in that is meant to be the
//! candidate's is not there without it; all others, and modules of the library that are used as such, are never the
//! candidate's.
//!
//! Tests with an `entry_point` and lists are JSON, which has no tuples and no dates, and whose integers end at 64 bits: a tuple
//! equals its list, a date its ISO text, a `Fraction` its text or its float. Where only the lost digits or the lost order of
//! a set would decide, the task is `unverifiable`; write it as `asserts`.
//!
//! What remains: a helper that the tests use and only the candidate defines is the candidate's; weak tests are weak. What
//! the sandbox leaves open at each level is said in [`crate::sandbox`]; at `process` a candidate could trace the judge.
//!
//! Verdicts: failed, crashed and late programs are `incorrect`, but for those of the section before, and so is everything
//! else that the candidate's process does once its code is loaded, replies that cannot be read among it; no code is
//! `no_answer`. Tests that do not compile, import
//! what is not there, fail before the candidate is loaded, ask for what cannot be sent (an object of theirs, data that is
//! nested too deeply by them alone) or ask nothing of the program are `unverifiable`, unless the program has failed a test
//! before; a sandbox below `min_isolation` or a missing interpreter is `error`. The level is in every
//! [`Outcome::method`], as `block/tests@seccomp+tmpfs`, with what bounds the files of a program: a file system of its own
//! (`tmpfs`) or a look at them every 20 ms (`watched`). Unlike the other verifiers this one has a clock.

mod block;
mod compare;
#[cfg(unix)]
mod interpreter;
#[cfg(unix)]
mod runner;
#[cfg(unix)]
mod session;
mod suite;

use serde::{Deserialize, Serialize};

use crate::answer::extract::Think;
use crate::answer::text;
use crate::error::ConfigError;
use crate::outside::sandbox::Isolation;
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict};
use crate::task::{Response, Task};

use suite::Suite;

/// What the code is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// Python 3.
    #[default]
    Python,
    /// Bash.
    Bash,
    /// POSIX shell.
    Sh,
}

/// Settings of the `code` reward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CodeConfig {
    /// Language of the code. Default `python`.
    pub language: Language,
    /// Name or path of the interpreter; `python3`, `bash` or `sh` when empty. The first on the path that works inside the
    /// sandbox is taken.
    pub interpreter: String,
    /// Seconds for each test, wall clock; also the CPU limit, rounded up. Default 5.
    pub timeout_s: f64,
    /// MiB of address space of each process. Default 512.
    pub memory_mib: u64,
    /// Processes and threads of a program. Default 32.
    pub processes: u64,
    /// MiB of files that a program may write; in memory beside `memory_mib`, where it has its own file system. Default 16.
    pub files_mib: u64,
    /// KiB of output that a program may write; arguments and results of functions have 16 MiB. Default 256.
    pub output_kib: usize,
    /// Give the share of passed tests instead of all or nothing. Default false.
    pub partial: bool,
    /// Relative and absolute tolerance of numbers in outputs; none compares text. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
    /// Take a response without a fenced block as code. Default false.
    pub whole: bool,
    /// Think tags.
    pub think: Think,
    /// The weakest isolation under which anything is run. Default `seccomp`, the strongest; lower it where the system has
    /// less, and what runs is trusted accordingly.
    pub min_isolation: Isolation,
    /// Responses that are judged at the same time; 0 is one a core. Default 0.
    pub workers: usize,
}

impl Default for CodeConfig {
    fn default() -> Self {
        Self {
            language: Language::Python,
            interpreter: String::new(),
            timeout_s: 5.0,
            memory_mib: 512,
            processes: 32,
            files_mib: 16,
            output_kib: 256,
            partial: false,
            tolerance: None,
            whole: false,
            think: Think::Strip,
            min_isolation: Isolation::Seccomp,
            workers: 0,
        }
    }
}

/// The `code` reward.
pub struct Code {
    config: CodeConfig,
    #[cfg(unix)]
    runner: runner::Runner,
}

/// What running a suite found.
struct Tally {
    /// Which tests passed; those that were not reached have not.
    passed: usize,
    total: usize,
    /// Why the first failed.
    failure: Option<String>,
    /// Whether what failed passes with the program and its tests in one process; none where that was not tried.
    together: Option<bool>,
}

/// Why a suite could not be judged.
enum Failure {
    /// The task's fault.
    Task(String),
    /// The machine's fault.
    Broken(String),
}

impl Code {
    /// Checks the settings; nothing is run.
    ///
    /// # Errors
    /// When a limit is zero or not finite.
    pub fn new(config: CodeConfig) -> Result<Self, ConfigError> {
        let bad = |reason: &str| Err(ConfigError::Invalid { kind: "code", reason: reason.into() });
        if !(config.timeout_s > 0.0 && config.timeout_s <= 3600.0) {
            return bad("timeout_s must be above 0 and at most 3600");
        }
        if config.memory_mib < 16 || config.processes == 0 || config.files_mib == 0 || config.output_kib == 0
        {
            return bad("needs memory_mib >= 16, processes >= 1, files_mib >= 1, output_kib >= 1");
        }
        if config.tolerance.is_some_and(|t| !(t >= 0.0 && t.is_finite())) {
            return bad("tolerance must be finite and not negative");
        }
        if config.min_isolation == Isolation::None {
            return bad("min_isolation = \"none\" would run anything anywhere; the lowest is \"process\"");
        }
        #[cfg(unix)]
        let runner = runner::Runner::new(&config);
        Ok(Self {
            config,
            #[cfg(unix)]
            runner,
        })
    }

    #[cfg(unix)]
    fn ready(&self) -> Result<(), String> {
        self.runner.ready().map(|_| ())
    }

    #[cfg(unix)]
    fn judge(&self, code: &str, suite: &Suite) -> Result<Tally, Failure> {
        self.runner.judge(code, suite)
    }

    #[cfg(not(unix))]
    fn ready(&self) -> Result<(), String> {
        Err("running code needs Unix".into())
    }

    #[cfg(not(unix))]
    fn judge(&self, _: &str, _: &Suite) -> Result<Tally, Failure> {
        Err(Failure::Broken("running code needs Unix".into()))
    }
}

/// The level that this machine offers, with what bounds the files.
fn level() -> &'static str {
    #[cfg(unix)]
    let level = crate::outside::sandbox::Sandbox::detect().map_or("none", |s| s.level());
    #[cfg(not(unix))]
    let level = "none";
    level
}

impl Reward for Code {
    fn name(&self) -> &str {
        "code"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        let level = level();
        let broken = |reason: String| RewardError::Failed {
            reward: "code".into(),
            reason: format!("{reason} (isolation: {level})"),
        };
        let suite = match Suite::parse(&task.reference, self.config.language) {
            Ok(suite) => suite,
            Err(reason) => return Ok(Outcome::of(Verdict::Unverifiable, format!("code@{level}"), reason)),
        };
        self.ready().map_err(broken)?;
        let found = block::find(response.text, &self.config, &suite.names());
        let (code, rule) = match found {
            Ok(found) => found,
            Err(reason) => return Ok(Outcome::of(Verdict::NoAnswer, format!("code@{level}"), reason)),
        };
        let method = format!("{rule}/{}@{level}", suite.name());
        let tally = match self.judge(&code, &suite) {
            Ok(tally) => tally,
            Err(Failure::Task(reason)) => return Ok(Outcome::of(Verdict::Unverifiable, method, reason)),
            Err(Failure::Broken(reason)) => return Err(broken(reason)),
        };
        let method = if tally.together.is_some() { method.replacen('@', "+together@", 1) } else { method };
        if let (Some(true), Some(why)) = (tally.together, &tally.failure) {
            let reason = format!("passes in one process with its tests, and not apart from them: {why}");
            return Ok(Outcome::of(Verdict::Unverifiable, method, reason));
        }
        let reason = match &tally.failure {
            None => format!("{} tests passed", tally.total),
            Some(why) => format!("{} of {} tests passed; {why}", tally.passed, tally.total),
        };
        let all = tally.passed == tally.total && tally.failure.is_none();
        let outcome = match self.config.partial {
            _ if all => Outcome::of(Verdict::Correct, method, reason),
            true => Outcome::graded(tally.passed as f64 / tally.total as f64, method, reason),
            false => Outcome::of(Verdict::Incorrect, method, reason),
        };
        Ok(outcome
            .with_extracted(text::head(&code, crate::answer::extract::SPAN_BYTES))
            .with_work((response.text.len() + tally.total) as u64))
    }

    fn gold(&self, task: &Task) -> Option<String> {
        let solution = task.reference.get("solution")?.as_str()?;
        let mut fence = String::from("```");
        while solution.contains(&fence) {
            fence.push('`');
        }
        Some(format!("{fence}{}\n{solution}\n{fence}", self.config.language.tags()[0]))
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        Suite::parse(&task.reference, self.config.language).map_err(|reason| TaskError::BadGold {
            reward: "code".into(),
            gold: text::head(&task.reference.to_string(), 200).to_string(),
            reason,
        })?;
        let unavailable = |reason| TaskError::Unavailable { reward: "code".into(), reason };
        self.ready().map_err(unavailable)
    }
}
