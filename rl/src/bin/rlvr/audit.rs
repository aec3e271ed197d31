//! `rlvr score --against`: how often a reward errs, measured by another reward or by labels.

use crate::args::ScoreArgs;
use crate::input::bad;
use crate::output::{self, count, say};
use crate::{lines, rewards};
use anyhow::Result;
use rlvr::files::destination::Destination;
use rlvr::files::source::{Source, object};
use rlvr::random;
use rlvr::rewards::rows::Row;
use rlvr::rewards::{Reward, Verdict, score_one};
use rlvr::stats::{Z95, wilson};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

pub fn run(
    args: &ScoreArgs,
    input: &Path,
    reward: &dyn Reward,
    against: &str,
    to: &Destination,
) -> Result<()> {
    let report = args.report.as_ref().map(|path| output::to(Some(path), args.force)).transpose()?;
    if report.as_ref() == Some(to) && matches!(to, Destination::File(_)) {
        return Err(bad("--out and --report name the same file"));
    }
    let truth = truth(against)?;
    let mut source = Source::open(input)?;
    let mut audit = Audit::default();
    let mut disagreements: Vec<(u64, usize, Value)> = Vec::new();
    lines::each_line(&mut source, &|text| judge(reward, &truth, text), &mut |line, judged| {
        let kind = audit.add(&judged);
        if matches!(kind, Some(Cell::FalsePositive | Cell::FalseNegative)) {
            disagreements.push((random::word(&[args.seed, line as u64]), line, judged.row));
        }
    })?;
    if audit.all.total() == 0 {
        let why = match truth {
            Truth::Labels => "no row has a `label` and a verdict",
            Truth::Reward(_) => "no row has a verdict from both rewards",
        };
        return Err(bad(format!("{}: {why}, so there is nothing to compare", input.display())));
    }
    // Those with the smallest random words are a fair sample; they are shown in the order of the file.
    disagreements.sort_unstable_by_key(|(word, line, _)| (*word, *line));
    disagreements.truncate(args.sample);
    disagreements.sort_unstable_by_key(|(_, line, _)| *line);
    let mut lines = Vec::new();
    for (_, line, mut row) in disagreements {
        row["line"] = json!(line);
        lines.extend_from_slice(row.to_string().as_bytes());
        lines.push(b'\n');
    }
    output::write(to, &lines)?;
    if let Some(report) = &report {
        output::write(report, format!("{:#}\n", audit.json()).as_bytes())?;
    }
    say!("{}", audit.text(reward.name(), against));
    Ok(())
}

/// What is taken for right.
enum Truth {
    Labels,
    Reward(Box<dyn Reward>),
}

fn truth(against: &str) -> Result<Truth> {
    if against == "labels" {
        return Ok(Truth::Labels);
    }
    let path = Path::new(against);
    if path.is_file() || path.extension().is_some_and(|e| e == "toml") {
        return Ok(Truth::Reward(rewards::from_file(path)?));
    }
    Ok(Truth::Reward(rewards::by_kind(against)?))
}

/// Where a row stands in the table of confusion.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell {
    TruePositive,
    FalsePositive,
    FalseNegative,
    TrueNegative,
}

/// A row with both judgements; none where there is no verdict.
struct Judged {
    accepts: Option<bool>,
    truth: Option<bool>,
    method: String,
    row: Value,
}

fn judge(reward: &dyn Reward, truth: &Truth, text: &str) -> Result<Judged, String> {
    let row = Row::parse(Value::Object(object(text)?)).map_err(|e| format!("{e}; {}", lines::ROW))?;
    let outcome = score_one(reward, &row.task, row.response());
    let (right, shown) = match truth {
        Truth::Labels => {
            let label = row.task.meta.get("label").cloned().unwrap_or_default();
            (label_of(&label)?, label)
        }
        Truth::Reward(other) => {
            let other = score_one(&**other, &row.task, row.response());
            (accepted(other.verdict), row.output(&other))
        }
    };
    let accepts = accepted(outcome.verdict);
    let mut out = Map::new();
    out.insert("id".into(), row.id.clone());
    out.insert("line".into(), Value::Null);
    out.insert(
        "error".into(),
        json!(if accepts == Some(true) { "false_positive" } else { "false_negative" }),
    );
    out.insert("completion".into(), json!(row.completion));
    out.insert("reference".into(), row.task.reference.clone());
    out.insert("reward".into(), row.output(&outcome));
    out.insert("against".into(), shown);
    Ok(Judged { accepts, truth: right, method: outcome.method, row: Value::Object(out) })
}

fn accepted(verdict: Verdict) -> Option<bool> {
    (!verdict.is_masked()).then_some(verdict == Verdict::Correct)
}

/// A label: true, false, a verdict, or nothing.
fn label_of(label: &Value) -> Result<Option<bool>, String> {
    match label {
        Value::Null => Ok(None),
        Value::Bool(right) => Ok(Some(*right)),
        other => serde_json::from_value::<Verdict>(other.clone()).map(accepted).map_err(|_| {
            format!("`label` is {other}, but must be true, false or a verdict such as \"incorrect\"")
        }),
    }
}

#[derive(Clone, Copy, Default)]
struct Confusion {
    true_positives: u64,
    false_positives: u64,
    false_negatives: u64,
    true_negatives: u64,
}

impl Confusion {
    fn add(&mut self, cell: Cell) {
        *match cell {
            Cell::TruePositive => &mut self.true_positives,
            Cell::FalsePositive => &mut self.false_positives,
            Cell::FalseNegative => &mut self.false_negatives,
            Cell::TrueNegative => &mut self.true_negatives,
        } += 1;
    }

    fn total(&self) -> u64 {
        self.true_positives + self.false_positives + self.false_negatives + self.true_negatives
    }

    /// Wrong answers that were accepted, of all wrong answers.
    fn false_positive_rate(&self) -> Rate {
        Rate { errors: self.false_positives, of: self.false_positives + self.true_negatives }
    }

    /// Right answers that were refused, of all right answers.
    fn false_negative_rate(&self) -> Rate {
        Rate { errors: self.false_negatives, of: self.false_negatives + self.true_positives }
    }

    fn json(&self) -> Value {
        json!({
            "true_positives": self.true_positives, "false_positives": self.false_positives,
            "false_negatives": self.false_negatives, "true_negatives": self.true_negatives,
        })
    }
}

struct Rate {
    errors: u64,
    of: u64,
}

impl Rate {
    fn text(&self, of: &str) -> String {
        if self.of == 0 {
            return format!("unknown: there are no {of} answers");
        }
        let (low, high) = wilson(self.errors, self.of, Z95);
        let share = self.errors as f64 / self.of as f64;
        format!("{share:.4} [{low:.4}, {high:.4}], {} of {} {of} answers", self.errors, self.of)
    }

    fn json(&self) -> Value {
        let (low, high) = wilson(self.errors, self.of, Z95);
        let rate = if self.of == 0 { Value::Null } else { json!(self.errors as f64 / self.of as f64) };
        json!({ "rate": rate, "ci95": [low, high], "errors": self.errors, "of": self.of })
    }
}

#[derive(Default)]
struct Audit {
    all: Confusion,
    by_method: BTreeMap<String, Confusion>,
    left_out: usize,
}

impl Audit {
    fn add(&mut self, judged: &Judged) -> Option<Cell> {
        let cell = match (judged.accepts, judged.truth) {
            (Some(true), Some(true)) => Cell::TruePositive,
            (Some(true), Some(false)) => Cell::FalsePositive,
            (Some(false), Some(true)) => Cell::FalseNegative,
            (Some(false), Some(false)) => Cell::TrueNegative,
            _ => {
                self.left_out += 1;
                return None;
            }
        };
        self.all.add(cell);
        self.by_method.entry(judged.method.clone()).or_default().add(cell);
        Some(cell)
    }

    fn json(&self) -> Value {
        let methods: Map<String, Value> = self.by_method.iter().map(|(m, c)| (m.clone(), c.json())).collect();
        json!({
            "compared": self.all.total(), "left_out": self.left_out, "confusion": self.all.json(),
            "false_positive": self.all.false_positive_rate().json(),
            "false_negative": self.all.false_negative_rate().json(),
            "by_method": methods,
        })
    }

    fn text(&self, reward: &str, against: &str) -> String {
        let cells = |name: &str, c: &Confusion| {
            let counts = [c.true_positives, c.false_positives, c.false_negatives, c.true_negatives];
            std::iter::once(name.to_owned()).chain(counts.map(|n| n.to_string())).collect::<Vec<_>>()
        };
        let mut rows: Vec<Vec<String>> =
            self.by_method.iter().map(|(method, confusion)| cells(method, confusion)).collect();
        rows.push(cells("all", &self.all));
        let header = ["method", "both accept", "false positive", "false negative", "both refuse"];
        format!(
            "{reward} against {against}: {} compared, {} left out without a verdict\n\
             false positives: {}\nfalse negatives: {}\n{}",
            count(self.all.total() as usize, "row"),
            self.left_out,
            self.all.false_positive_rate().text("wrong"),
            self.all.false_negative_rate().text("right"),
            output::table(&header, &rows).trim_end()
        )
    }
}
