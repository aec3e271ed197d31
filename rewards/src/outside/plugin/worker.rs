//! A worker: one process at a time, started when needed, with a growing pause after failures.

use std::time::Duration;

use super::PluginConfig;
use super::process::Process;
use super::protocol::{self, Capabilities, Greeting};
use crate::reward::{Outcome, Verdict};

/// Starts before a plugin that ends at once counts as broken.
const STARTS: u32 = 3;
/// Pause before the second start in a row; it doubles with each further one.
const PAUSE: Duration = Duration::from_millis(20);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// Why a batch has no outcomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The deadline passed.
    Late(String),
    /// The process ended.
    Gone(String),
    /// What came breaks the protocol.
    Violation(String),
    /// It does not start.
    Start(String),
}

impl Failure {
    /// Whether an item may have caused it, so that the others can still be judged.
    pub fn may_be_an_item(&self) -> bool {
        matches!(self, Self::Late(_) | Self::Gone(_))
    }

    pub fn reason(&self) -> &str {
        match self {
            Self::Late(reason) | Self::Gone(reason) | Self::Violation(reason) | Self::Start(reason) => reason,
        }
    }
}

#[derive(Default)]
pub(super) struct Worker {
    process: Option<(Process, Capabilities)>,
    /// Batches that this process has answered.
    answered: u64,
    /// Failures since the last good answer.
    failures: u32,
    batch: u64,
    /// What the process wrote to stderr while it failed.
    complaint: Option<String>,
}

impl Worker {
    /// The greeting of a new process, or the capabilities of the running one.
    ///
    /// # Errors
    /// [`Failure::Start`].
    pub fn start(&mut self, config: &PluginConfig) -> Result<(Capabilities, Option<Greeting>), Failure> {
        if let Some((process, capabilities)) = &self.process
            && !process.has_ended()
        {
            return Ok((*capabilities, None));
        }
        let mut starts = 1;
        loop {
            self.process = None;
            self.pause();
            let failure = match self.greet(config) {
                Ok((process, greeting)) => {
                    let capabilities = greeting.capabilities;
                    self.process = Some((process, capabilities));
                    self.answered = 0;
                    return Ok((capabilities, Some(greeting)));
                }
                Err(failure) => failure,
            };
            self.failures += 1;
            // One that ends at once may have met a passing shortage; one that says something else will say it again.
            if starts == STARTS || !matches!(failure, Failure::Gone(_)) {
                return Err(Failure::Start(format!("the plugin does not start: {}", failure.reason())));
            }
            starts += 1;
        }
    }

    fn greet(&mut self, config: &PluginConfig) -> Result<(Process, Greeting), Failure> {
        let mut process = Process::start(config).map_err(Failure::Start)?;
        let timeout = Duration::from_secs_f64(config.start_timeout_s);
        let line = process.exchange(protocol::hello(config).as_bytes(), timeout);
        let greeting = line.and_then(|line| protocol::greeting(&line).map_err(Failure::Violation));
        if greeting.is_err() {
            self.complaint = process.said();
        }
        Ok((process, greeting?))
    }

    /// What the process wrote to stderr while it failed, once.
    pub fn complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }

    fn pause(&self) {
        if self.failures > 0 {
            let factor = 1 << (self.failures - 1).min(16);
            std::thread::sleep((PAUSE * factor).min(MAX_PAUSE));
        }
    }

    /// Judges items, given as [`protocol::score`] takes them, with one message. After a failure the process is gone.
    pub fn judge(&mut self, config: &PluginConfig, items: &[(usize, &str)]) -> Result<Vec<Outcome>, Failure> {
        self.start(config)?;
        let used = self.answered > 0;
        let outcomes = self.ask(config, items);
        // A process that has answered before may have been about to end whatever came next.
        if used && matches!(outcomes, Err(Failure::Gone(_))) {
            self.start(config)?;
            return self.ask(config, items);
        }
        outcomes
    }

    fn ask(&mut self, config: &PluginConfig, items: &[(usize, &str)]) -> Result<Vec<Outcome>, Failure> {
        self.batch += 1;
        let line = protocol::score(self.batch, items.iter().copied());
        let Some((process, _)) = &mut self.process else {
            return Err(Failure::Start("the plugin does not start".into()));
        };
        let answer = process.exchange(line.as_bytes(), Duration::from_secs_f64(config.timeout_s));
        let outcomes = answer.and_then(|answer| {
            protocol::results(&answer, self.batch, items.len(), config.range).map_err(Failure::Violation)
        });
        let broke = |outcomes: &Vec<Outcome>| outcomes.iter().any(|o| o.verdict == Verdict::Error);
        if outcomes.as_ref().map_or(true, broke) {
            self.complaint = process.said();
        }
        match outcomes {
            Ok(_) => {
                self.failures = 0;
                self.answered += 1;
            }
            Err(_) => {
                self.failures += 1;
                self.process = None;
            }
        }
        outcomes
    }

    /// Ends the process; whether it ended by itself when told to, none without one.
    pub fn finish(&mut self) -> Option<bool> {
        self.process.take().map(|(process, _)| process.finish())
    }
}
