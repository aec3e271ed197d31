//! `rlvr score --self-check`: does a reward accept the references of its own tasks?

use crate::input::bad;
use crate::output::{self, count, say};
use crate::{lines, tasks};
use anyhow::{Result, anyhow};
use rlvr::files::source::{LineSource, object};
use rlvr::rewards::{Response, Reward, Task, Verdict, score_one};
use rlvr::rows;
use std::io::Write;
use std::path::Path;

/// Longest id or answer that is shown.
const SHOWN: usize = 80;

pub fn run(path: &Path, reward: &dyn Reward) -> Result<()> {
    let mut source = LineSource::open(path)?;
    let (mut rows, mut refused) = (0, Vec::new());
    lines::each_line(&mut source, &|text| check(reward, text), &mut |line, problem| {
        rows += 1;
        refused.extend(problem.map(|problem| (line, problem)));
    })?;
    if rows == 0 {
        return Err(bad(format!("{}: no rows in it", path.display())));
    }
    let mut out = output::report();
    for (line, problem) in &refused {
        writeln!(out, "{}: {problem}", source.place(*line))?;
    }
    out.flush()?;
    if refused.is_empty() {
        say!("{}: {} accepts the reference of each", count(rows, "row"), reward.name());
        return Ok(());
    }
    Err(anyhow!(
        "{} does not accept the reference of {} of {}",
        reward.name(),
        refused.len(),
        count(rows, "row")
    ))
}

/// What is wrong with a row, if anything is.
fn check(reward: &dyn Reward, text: &str) -> Result<Option<String>, String> {
    let fields = object(text)?;
    let id = rows::id(&fields).unwrap_or_default();
    let task = Task::new(id, tasks::reference(&fields)?).with_row(fields);
    let shown =
        if task.id.is_empty() { String::new() } else { format!("{}: ", output::one_line(&task.id, SHOWN)) };
    Ok(problem(reward, &task).map(|why| format!("{shown}{why}")))
}

fn problem(reward: &dyn Reward, task: &Task) -> Option<String> {
    if let Err(error) = reward.check_task(task) {
        return Some(error.to_string());
    }
    let Some(gold) = reward.gold(task) else {
        return Some(format!("{} knows no right answer to this task", reward.name()));
    };
    let outcome = score_one(reward, task, Response::new(&gold));
    (outcome.verdict != Verdict::Correct).then(|| {
        let verdict = serde_json::to_value(outcome.verdict).unwrap_or_default();
        let verdict = verdict.as_str().unwrap_or_default();
        format!("{} is {verdict}: {}", output::one_line(&gold, SHOWN), outcome.reason)
    })
}
