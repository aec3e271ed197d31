//! `rlvr score`: judges completions.

use crate::args::ScoreArgs;
use crate::input::bad;
use crate::lines::{self, ROW};
use crate::output::{self, count, say};
use crate::{audit, rescore, rewards, self_check};
use anyhow::Result;
use rayon::prelude::*;
use rlvr::files::source::{LineSource, object};
use rlvr::number::fixed;
use rlvr::rewards::rows::CompletionRow;
use rlvr::rewards::score_batch;
use serde_json::Value;
use std::collections::BTreeMap;

pub fn run(args: &ScoreArgs) -> Result<()> {
    let reward = match (&args.reward, &args.config) {
        (Some(kind), _) => rewards::by_kind(kind)?,
        (None, Some(path)) => rewards::from_file(path)?,
        (None, None) => return Err(bad("give --reward KIND or --config FILE")),
    };
    reward.prepare()?;
    let to = output::to(args.out.as_deref(), args.force)?;
    if let Some(dir) = &args.rescore {
        return rescore::run(dir, &*reward, &to);
    }
    let input = args.input.as_deref().ok_or_else(|| bad("give a JSON Lines file, or - for stdin"))?;
    if args.self_check {
        return self_check::run(input, &*reward);
    }
    if let Some(against) = &args.against {
        return audit::run(args, input, &*reward, against, &to);
    }
    // Nothing may be written before the last row is known to be good.
    let mut lines = Vec::new();
    let mut summary = Summary::default();
    lines::each_chunk(&mut LineSource::open(input)?, &row, &mut |rows| {
        let items: Vec<_> = rows.iter().map(|(_, row)| (&row.task, row.response())).collect();
        let outcomes = score_batch(&*reward, &items);
        let scored: Vec<(Value, String)> = (rows.par_iter().zip(outcomes))
            .map(|((_, row), outcome)| {
                let row = row.output(&outcome);
                let text = row.to_string();
                (row, text)
            })
            .collect();
        for (row, text) in scored {
            summary.add(&row);
            lines.extend_from_slice(text.as_bytes());
            lines.push(b'\n');
        }
    })?;
    output::write(&to, &lines)?;
    say!("{}", summary.text());
    Ok(())
}

/// A line as a row.
fn row(text: &str) -> Result<CompletionRow, String> {
    let fields = object(text)?;
    CompletionRow::parse(Value::Object(fields)).map_err(|e| format!("{e}; {ROW}"))
}

#[derive(Default)]
struct Summary {
    rows: usize,
    scored: usize,
    total: f64,
    verdicts: BTreeMap<String, usize>,
}

impl Summary {
    fn add(&mut self, row: &Value) {
        self.rows += 1;
        if let Some(score) = row["score"].as_f64() {
            self.scored += 1;
            self.total += score;
        }
        *self.verdicts.entry(row["verdict"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }

    fn text(&self) -> String {
        if self.rows == 0 {
            return "no rows".into();
        }
        let mean = match self.scored {
            0 => "no row has a score".to_owned(),
            n if n == self.rows => format!("mean score {}", fixed(self.total / n as f64, 4)),
            n => format!("mean score {} over the {n} that have one", fixed(self.total / n as f64, 4)),
        };
        let verdicts: Vec<String> = self.verdicts.iter().map(|(v, n)| format!("{v} {n}")).collect();
        format!("{}, {mean}: {}", count(self.rows, "row"), verdicts.join(", "))
    }
}
