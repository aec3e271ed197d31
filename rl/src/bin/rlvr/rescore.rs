//! `rlvr score --rescore`: the recorded rollouts of a run under another reward.

use crate::input::bad;
use crate::lines;
use crate::output::{self, count, say};
use anyhow::Result;
use rlvr::files::destination::Destination;
use rlvr::files::source::{LineSource, object};
use rlvr::number::fixed;
use rlvr::rewards::rows::CompletionRow;
use rlvr::rewards::{Reward, score_one};
use rlvr::run::log::ROLLOUTS_FILE;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

pub fn run(run: &Path, reward: &dyn Reward, to: &Destination) -> Result<()> {
    let path = if run.is_dir() { run.join(ROLLOUTS_FILE) } else { run.to_path_buf() };
    if run.is_dir() && std::fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
        return Err(bad(format!("{} is not a regular file", path.display())));
    }
    let mut source = LineSource::open(&path)?;
    let mut lines = Vec::new();
    let mut changes = Changes::default();
    lines::each_line(&mut source, &|text| judge(reward, text), &mut |_, row| {
        changes.add(&row);
        lines.extend_from_slice(row.to_string().as_bytes());
        lines.push(b'\n');
    })?;
    if changes.rows == 0 {
        return Err(bad(format!("{}: no rollouts in it", path.display())));
    }
    output::write(to, &lines)?;
    say!("{}", changes.text());
    Ok(())
}

/// The row of `rlvr score`, with where it stands in the run and what it was.
fn judge(reward: &dyn Reward, text: &str) -> Result<Value, String> {
    let mut fields = object(text)?;
    if !fields.contains_key("reference") {
        return Err(
            "the row has no `reference`, which judging it again needs: runs record it, rollouts that were \
                    made elsewhere have none"
                .into(),
        );
    }
    let old = fields.shift_remove("outcome").ok_or("the row has no `outcome`: it is no rollout of a run")?;
    let meta = fields.shift_remove("meta");
    let place: Vec<(&str, Value)> = ["step", "group", "sample"]
        .into_iter()
        .filter_map(|key| Some((key, fields.get(key)?.clone())))
        .collect();
    let mut row = CompletionRow::parse(Value::Object(fields)).map_err(|e| e.to_string())?;
    row.task.meta = match meta {
        Some(Value::Object(meta)) => meta,
        _ => serde_json::Map::new(),
    };
    let mut out = row.output(&score_one(reward, &row.task, row.response()));
    for (key, value) in place {
        out[key] = value;
    }
    out["old"] = json!({ "score": old["score"], "verdict": old["verdict"] });
    Ok(out)
}

/// Old beside new.
#[derive(Default)]
struct Changes {
    rows: usize,
    old: (f64, usize),
    new: (f64, usize),
    scores_changed: usize,
    verdicts: BTreeMap<(String, String), usize>,
}

impl Changes {
    fn add(&mut self, row: &Value) {
        self.rows += 1;
        let (old, new) = (row["old"]["score"].as_f64(), row["score"].as_f64());
        for (sum, score) in [(&mut self.old, old), (&mut self.new, new)] {
            sum.0 += score.unwrap_or(0.0);
            sum.1 += usize::from(score.is_some());
        }
        self.scores_changed += usize::from(old != new);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        *self.verdicts.entry((text(&row["old"]["verdict"]), text(&row["verdict"]))).or_default() += 1;
    }

    fn text(&self) -> String {
        let mean = |(sum, n): (f64, usize)| {
            if n == 0 { "none".to_owned() } else { fixed(sum / n as f64, 4) }
        };
        let rows: Vec<Vec<String>> = (self.verdicts.iter())
            .map(|((old, new), n)| vec![old.clone(), new.clone(), n.to_string()])
            .collect();
        format!(
            "{}, mean score {} before, {} now; {} changed\n{}",
            count(self.rows, "rollout"),
            mean(self.old),
            mean(self.new),
            self.scores_changed,
            output::table(&["before", "now", "rollouts"], &rows).trim_end()
        )
    }
}
