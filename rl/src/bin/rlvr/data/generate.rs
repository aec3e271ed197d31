//! `rlvr data`: generated tasks.

use crate::args::DataGenerateArgs;
use crate::input::bad;
use crate::input::nearest;
use crate::output;
use anyhow::Result;
use rlvr::config::data_config;
use rlvr::data::TaskSource;
use rlvr::data::procedural::{Parameter, kinds, shared_parameters};
use rlvr::rewards::Message;
use serde_json::{Value, json};
use std::io::Write;

/// Tasks without `--count`.
const COUNT: usize = 100;

pub fn generate(args: &DataGenerateArgs) -> Result<()> {
    let Some(kind) = &args.kind else { return list() };
    let known = kinds();
    if !known.iter().any(|k| k.name == kind) {
        let names: Vec<&str> = known.iter().map(|k| k.name).collect();
        let near = nearest(kind, names.iter().copied());
        let near = near.map_or(String::new(), |near| format!(", did you mean {near}?"));
        return Err(bad(format!("no tasks of kind {kind:?}{near} (known: {})", names.join(", "))));
    }
    // What is set by hand wins over the default, an option over both.
    let mut sets = vec![format!("tasks={COUNT}")];
    sets.extend(args.set.iter().cloned());
    sets.extend(args.count.map(|count| format!("tasks={count}")));
    sets.extend(args.split.as_ref().map(|split| format!("split={split}")));
    let config = data_config(kind, &sets)?;
    let to = output::to(args.out.as_deref(), args.force)?;
    let source = TaskSource::open(kind, &config, args.seed).map_err(rlvr::Error::from)?;
    let mut lines = Vec::new();
    for i in 0..source.len() {
        let (task, example) = (source.task(i), source.example(i).map_err(rlvr::Error::from)?);
        let mut row = json!({
            "id": task.id, "prompt": prompt(&task.prompt), "reference": task.reference,
            "completion": example.completion,
        });
        if !task.images.is_empty() {
            // In the row itself, so that the file is whole and may go anywhere.
            row["images"] = json!(task.images);
        }
        writeln!(lines, "{row}")?;
    }
    output::write(&to, &lines)
}

/// A single message of the user as text, a conversation as it is.
fn prompt(messages: &[Message]) -> Value {
    match messages {
        [message] => json!(message.content),
        _ => json!(messages),
    }
}

fn list() -> Result<()> {
    let mut out = output::stdout();
    for kind in kinds() {
        writeln!(out, "{} (reward: {} or procedural)\n  {}", kind.name, kind.reward, kind.about)?;
        writeln!(out, "{}", parameters(&kind.parameters))?;
    }
    writeln!(out, "every kind\n{}", parameters(&shared_parameters()))?;
    Ok(out.flush()?)
}

/// One line a parameter: name, default, what it sets.
fn parameters(list: &[Parameter]) -> String {
    let width = list.iter().map(|p| p.name.len()).max().unwrap_or(0);
    let line = |p: &Parameter| {
        let default = p.default.as_ref().map_or(String::new(), |d| format!(" = {d}"));
        format!("    {:width$}{default}   {}\n", p.name, p.about)
    };
    list.iter().map(line).collect()
}
