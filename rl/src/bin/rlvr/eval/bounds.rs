//! When an evaluation counts as failed: bounds on accuracy, and an earlier evaluation.

use crate::args::eval::BoundArgs;
use crate::input::bad;
use crate::output::{count, note, say};
use anyhow::{Result, anyhow};
use rlvr::eval::Benchmark;
use rlvr::results::{Evaluation, Identity, Results, ResultsError, Wanted, check_same, regressions};
use std::path::Path;

/// What an evaluation must reach.
pub struct Bounds {
    /// Task and least accuracy.
    least: Vec<(String, f64)>,
    baseline: Option<Evaluation>,
    tolerance: f64,
}

impl Bounds {
    /// The bounds that were typed, and the baseline as it is now; `names` are what the results of each benchmark are
    /// called. Refuses tasks that are not evaluated, and other versions of a task or verifier in the baseline.
    pub fn open(args: &BoundArgs, names: &[(&Benchmark, Vec<String>)]) -> Result<Self> {
        let all = || names.iter().flat_map(|(benchmark, names)| names.iter().map(move |n| (*benchmark, n)));
        let mut least = Vec::new();
        for text in &args.fail_under {
            let parsed = text
                .split_once('=')
                .and_then(|(task, x)| Some((task.trim(), x.trim().parse::<f64>().ok()?)))
                .filter(|(task, x)| !task.is_empty() && (0.0..=1.0).contains(x));
            let Some((task, x)) = parsed else {
                return Err(bad(format!("--fail-under {text}: write TASK=X with X from 0 to 1")));
            };
            if !all().any(|(_, name)| name == task) {
                let known: Vec<&str> = all().map(|(_, name)| name.as_str()).collect();
                return Err(bad(format!(
                    "--fail-under {text}: {task:?} is not evaluated; the tasks are {}",
                    known.join(", ")
                )));
            }
            least.push((task.to_owned(), x));
        }
        let baseline = args.baseline.as_deref().map(read).transpose()?;
        for old in baseline.iter().flat_map(|b| &b.tasks) {
            match all().find(|(_, name)| **name == old.name) {
                Some((benchmark, name)) => {
                    let now = Identity::of(benchmark, name);
                    check_same(name, &old.identity, [&now], false, &mut note)?;
                }
                None => note(format!(
                    "{} of the baseline is not evaluated, which will count as a regression",
                    old.name
                )),
            }
        }
        Ok(Self { least, baseline, tolerance: args.tolerance })
    }

    /// An error when a bound is missed; `out` is where the evaluation lies.
    pub fn check(&self, results: &Results, out: &Path) -> Result<()> {
        let mut missed = Vec::new();
        for (task, least) in &self.least {
            if let Some(accuracy) = results.accuracy(task).filter(|accuracy| accuracy < least) {
                missed.push(format!("{task}: accuracy {accuracy:.3} is below {least:.3} (--fail-under)"));
            }
        }
        if let Some(baseline) = &self.baseline {
            let now = [Evaluation::read(out, Wanted::default())?];
            let found = regressions(baseline, &now, self.tolerance, false, &mut note)?;
            for r in &found {
                missed.push(format!("regression: {}: {}", r.task, r.reason));
            }
            match found.len() {
                0 => say!("no regression against {}", baseline.label),
                n => missed.push(format!("{} against {}", count(n, "regression"), baseline.label)),
            }
        }
        if missed.is_empty() { Ok(()) } else { Err(anyhow!("{}", missed.join("\n"))) }
    }
}

/// The evaluation in a directory, or beside a results.json.
fn read(path: &Path) -> Result<Evaluation, ResultsError> {
    let dir = if path.is_file() { path.parent().unwrap_or(Path::new("")) } else { path };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    Evaluation::read(dir, Wanted::default())
}
