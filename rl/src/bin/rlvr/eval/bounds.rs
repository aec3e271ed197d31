//! When an evaluation counts as failed: bounds on accuracy, and an earlier evaluation.

use super::args::BoundArgs;
use crate::input::{self, bad};
use crate::results::{RESULTS, Results};
use anyhow::{Result, anyhow};
use serde_json::Value;

/// A task, the least accuracy, and where the bound comes from.
pub type Bound = (String, f64, String);

/// The bounds that were typed.
pub fn parse(args: &BoundArgs) -> Result<Vec<Bound>> {
    let mut bounds = Vec::new();
    for text in &args.fail_under {
        let parsed =
            text.split_once('=').and_then(|(task, x)| Some((task.trim(), x.trim().parse::<f64>().ok()?)));
        match parsed.filter(|(task, x)| !task.is_empty() && (0.0..=1.0).contains(x)) {
            Some((task, least)) => bounds.push((task.to_owned(), least, "--fail-under".to_owned())),
            None => return Err(bad(format!("--fail-under {text}: write TASK=X with X from 0 to 1"))),
        }
    }
    let Some(path) = &args.baseline else { return Ok(bounds) };
    let path = if path.is_dir() { path.join(RESULTS) } else { path.clone() };
    let (name, text) = input::text(&path)?;
    let old: Value = serde_json::from_str(&text).map_err(|e| bad(format!("{name}: {e}")))?;
    let tasks = old["tasks"].as_object().ok_or_else(|| bad(format!("{name}: it has no `tasks`")))?;
    for (task, result) in tasks {
        if let Some(accuracy) = result["accuracy"].as_f64() {
            bounds.push((task.clone(), accuracy - args.max_drop, format!("{name} has {accuracy:.3}")));
        }
    }
    Ok(bounds)
}

/// An error when a bound is missed, or speaks of a task that was not evaluated.
pub fn check(bounds: &[Bound], results: &Results) -> Result<()> {
    let mut missed = Vec::new();
    for (task, least, why) in bounds {
        match results.accuracy(task) {
            Some(accuracy) if accuracy < *least => {
                missed.push(format!("{task}: accuracy {accuracy:.3} is below {least:.3} ({why})"));
            }
            None if why.starts_with("--") => missed.push(format!("{task}: not evaluated ({why})")),
            _ => {}
        }
    }
    if missed.is_empty() { Ok(()) } else { Err(anyhow!("{}", missed.join("\n"))) }
}
