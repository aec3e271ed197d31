//! `rlvr score --against`: how often a reward errs, measured by another reward or by labels.

use crate::args::ScoreArgs;
use crate::input::bad;
use crate::output::{self, count, say};
use crate::{lines, rewards};
use anyhow::Result;
use rlvr::audit::{self, Audit, Cell, Confusion, Rate, accepted};
use rlvr::files::destination::Destination;
use rlvr::files::source::{LineSource, object};
use rlvr::random;
use rlvr::rewards::rows::CompletionRow;
use rlvr::rewards::{Reward, score_one};
use serde_json::{Map, Value, json};
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
    let mut source = LineSource::open(input)?;
    let mut audit = Audit::default();
    let mut disagreements: Vec<(u64, usize, Value)> = Vec::new();
    lines::each_line(&mut source, &|text| judge(reward, &truth, text), &mut |line, judged| {
        let kind = audit.add(judged.accepts, judged.truth, &judged.method);
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
    say!("{}", text(&audit, reward.name(), against));
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

/// A row with both judgements; none where there is no verdict.
struct Compared {
    accepts: Option<bool>,
    truth: Option<bool>,
    method: String,
    row: Value,
}

fn judge(reward: &dyn Reward, truth: &Truth, text: &str) -> Result<Compared, String> {
    let row =
        CompletionRow::parse(Value::Object(object(text)?)).map_err(|e| format!("{e}; {}", lines::ROW))?;
    let outcome = score_one(reward, &row.task, row.response());
    let (right, shown) = match truth {
        Truth::Labels => {
            let label = row.task.meta.get("label").cloned().unwrap_or_default();
            (audit::label(&label)?, label)
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
    Ok(Compared { accepts, truth: right, method: outcome.method, row: Value::Object(out) })
}

fn rate(rate: Rate, of: &str) -> String {
    let Some(share) = rate.share() else { return format!("unknown: there are no {of} answers") };
    let (low, high) = rate.interval();
    format!("{share:.4} [{low:.4}, {high:.4}], {} of {} {of} answers", rate.errors, rate.of)
}

fn text(audit: &Audit, reward: &str, against: &str) -> String {
    let cells = |name: &str, c: &Confusion| {
        let counts = [c.true_positives, c.false_positives, c.false_negatives, c.true_negatives];
        std::iter::once(name.to_owned()).chain(counts.map(|n| n.to_string())).collect::<Vec<_>>()
    };
    let mut rows: Vec<Vec<String>> =
        audit.by_method.iter().map(|(method, confusion)| cells(method, confusion)).collect();
    rows.push(cells("all", &audit.all));
    let header = ["method", "both accept", "false positive", "false negative", "both refuse"];
    format!(
        "{reward} against {against}: {} compared, {} left out without a verdict\n\
         false positives: {}\nfalse negatives: {}\n{}",
        count(audit.all.total() as usize, "row"),
        audit.left_out,
        rate(audit.all.false_positive_rate(), "wrong"),
        rate(audit.all.false_negative_rate(), "right"),
        output::table(&header, &rows).trim_end()
    )
}
