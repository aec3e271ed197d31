//! What a run tells whoever watches it. The library prints nothing itself.
use crate::eval::EvalResult;
use crate::metrics::MetricsRow;
use crate::run::preflight::PreflightReport;
use rlvr_rewards::Outcome;
use std::path::{Path, PathBuf};

/// Something happened in a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// The run directory is open and the policy loaded.
    Start {
        /// The run directory.
        dir: &'a Path,
        /// Scalar parameters of the policy.
        params: usize,
        /// The device, as people know it.
        device: &'a str,
        /// The step that a resumed run continues after.
        resumed_after: Option<u64>,
    },
    /// A stage begins (or continues).
    Stage {
        /// Its index, from 0.
        index: usize,
        /// Stages of the run.
        count: usize,
        /// Its name.
        name: &'a str,
        /// Steps done in it already.
        done: u64,
        /// Steps it has.
        steps: u64,
    },
    /// A step has ended.
    Step {
        /// Steps done in the stage.
        done: u64,
        /// Steps of the stage.
        steps: u64,
        /// Its metrics.
        row: &'a MetricsRow,
    },
    /// A completion with its verdict, now and then.
    Example {
        /// Step of the run.
        step: u64,
        /// The prompt as the policy saw it.
        prompt: &'a str,
        /// The completion.
        completion: &'a str,
        /// What the reward found.
        outcome: &'a Outcome,
    },
    /// The pre-flight of a stage is done.
    Preflight(&'a PreflightReport),
    /// An evaluation is done.
    Eval {
        /// When: `before`, `after <stage>` or `step <n>`.
        label: &'a str,
        /// One result a data set.
        results: &'a [EvalResult],
    },
    /// A checkpoint was written.
    Checkpoint {
        /// Its directory.
        path: &'a Path,
    },
    /// Something is wrong with the run, which goes on; what, with a fix.
    Warning {
        /// Step of the run.
        step: u64,
        /// What it is called in the metrics, `health/<name>`.
        metric: &'a str,
        /// What is wrong, with the fix.
        text: &'a str,
    },
    /// Something people should know.
    Note(&'a str),
}

/// Watches a run.
pub trait Observer {
    /// Called for every event, in order, on the training thread.
    fn event(&mut self, event: Event<'_>);
}

impl<F: FnMut(Event<'_>)> Observer for F {
    fn event(&mut self, event: Event<'_>) {
        self(event);
    }
}

/// What a finished run leaves.
#[derive(Debug, Clone)]
pub struct Report {
    /// The run directory.
    pub dir: PathBuf,
    /// The saved policy; none after a dry run.
    pub policy: Option<PathBuf>,
    /// What was measured, a definition of a benchmark for each data source of `[eval]`; none after a dry run.
    pub task_files: Vec<PathBuf>,
    /// Evaluations in order, with their labels.
    pub evals: Vec<(String, Vec<EvalResult>)>,
    /// Steps done over all stages.
    pub steps: u64,
    /// Wall time of this process's part, in seconds.
    pub wall_s: f64,
}
