//! `rlvr eval report`: one table over many evaluations.

use crate::args::comparison::{ReportArgs, ReportFormat};
use crate::output::{self, note, say};
use anyhow::{Result, anyhow};
use rlvr::eval::Accuracy;
use rlvr::number::with_error;
use rlvr::results::{
    Evaluation, ImageComparison, LEVEL, References, Regression, ResultsError, TaskItems, TextMetric, Wanted,
    check_same, compare, image_arms, named, regressions, task_names, text_metrics,
};
use rlvr::stats::holm;
use serde_json::{Map, Value, json};
use std::path::Path;

/// A task of an evaluation.
struct Cell {
    /// Place of the evaluation.
    evaluation: usize,
    task: String,
    items: usize,
    completions: usize,
    /// Samples an item, when all have the same number.
    samples: Option<u64>,
    accuracy: f64,
    standard_error: f64,
    interval: (f64, f64),
    method: &'static str,
    parse_rate: f64,
    truncated_frac: f64,
    tokens_mean: Option<f64>,
    /// `pass@k` and `maj@k` by name, with standard errors.
    sampled: Vec<(String, f64, f64)>,
    /// Text metrics by name.
    texts: Vec<(&'static str, f64)>,
    /// Significantly above every other evaluation of the task.
    best: bool,
}

pub fn run(args: &ReportArgs) -> Result<()> {
    let to = output::to(args.out.as_deref(), args.force)?;
    let wanted = Wanted { cluster: args.cluster.as_deref(), texts: !args.metrics.is_empty() };
    let read = |text: &String| -> Result<Evaluation, ResultsError> {
        let (label, dir) = named(text);
        let mut evaluation = Evaluation::read(Path::new(dir), wanted)?;
        evaluation.label = label.unwrap_or(evaluation.label);
        Ok(evaluation)
    };
    let evaluations = args.evaluations.iter().map(read).collect::<Result<Vec<Evaluation>, ResultsError>>()?;
    let references = args.references.as_deref().map(References::read).transpose()?;
    let metrics: Vec<TextMetric> = args.metrics.iter().map(|metric| (*metric).into()).collect();
    let mut cells = Vec::new();
    for name in task_names(&evaluations) {
        let from = cells.len();
        let mut identities = evaluations.iter().filter_map(|e| e.task(name)).map(|task| &task.identity);
        if let Some(first) = identities.next() {
            check_same(name, first, identities, args.force, &mut note)?;
        }
        for (place, evaluation) in evaluations.iter().enumerate() {
            if let Some(task) = evaluation.task(name) {
                let mut cell = Cell::new(place, task);
                let values = text_metrics(task, &metrics, references.as_ref(), &evaluation.label)?;
                cell.texts = metrics.iter().map(|metric| metric.name()).zip(values).collect();
                cells.push(cell);
            }
        }
        mark_best(&evaluations, name, &mut cells[from..])?;
    }
    let baseline = args.baseline.as_deref().map(|dir| Evaluation::read(dir, wanted)).transpose()?;
    let regressions = match &baseline {
        Some(baseline) => regressions(baseline, &evaluations, args.tolerance, args.force, &mut note)?,
        None => Vec::new(),
    };
    let controls = evaluations.iter().map(image_arms).collect::<Result<Vec<_>, _>>()?;
    let text = match args.format {
        ReportFormat::Table => {
            table(&evaluations, &cells) + &controlled(&evaluations, &controls, output::table)
        }
        ReportFormat::Markdown => {
            markdown(&evaluations, &cells) + &controlled(&evaluations, &controls, output::markdown)
        }
        ReportFormat::Csv => csv(&evaluations, &cells),
        ReportFormat::Json => {
            let mut value = json(&evaluations, &cells, baseline.as_ref(), &regressions);
            for (evaluation, found) in controls.iter().enumerate().filter(|(_, found)| !found.is_empty()) {
                value["evaluations"][evaluation]["image_arms"] = json!(found);
            }
            format!("{value:#}\n")
        }
    };
    for (evaluation, found) in evaluations.iter().zip(&controls) {
        found.iter().filter_map(ImageComparison::warning).for_each(|w| say!("{}: {w}", evaluation.label));
    }
    output::write(&to, text.as_bytes())?;
    if regressions.is_empty() {
        if let Some(baseline) = &baseline {
            say!("no regression against {}", baseline.label);
        }
        return Ok(());
    }
    for r in &regressions {
        say!("regression: {} of {}: {}", r.task, evaluations[r.evaluation].label, r.reason);
    }
    Err(anyhow!("{} against {}", output::count(regressions.len(), "regression"), args.baseline_name()))
}

impl ReportArgs {
    fn baseline_name(&self) -> String {
        self.baseline.as_ref().map_or_else(String::new, |dir| dir.display().to_string())
    }
}

impl Cell {
    fn new(evaluation: usize, task: &TaskItems) -> Self {
        let accuracy = Accuracy::of(&task.questions());
        let all = || task.items.iter().flat_map(|i| &i.samples);
        let completions = all().count();
        let share = |n: usize| n as f64 / completions.max(1) as f64;
        let tokens: Option<Vec<f64>> = all().map(|s| s.tokens).collect();
        let (pass, vote) = (accuracy.pass_at.iter().filter(|(k, _)| *k > 1), accuracy.majority.iter());
        let named =
            pass.map(|(k, e)| (format!("pass@{k}"), e)).chain(vote.map(|(k, e)| (format!("maj@{k}"), e)));
        let sampled = named.map(|(name, e)| (name, e.mean, e.standard_error)).collect();
        Self {
            evaluation,
            task: task.name.clone(),
            items: task.items.len(),
            completions,
            samples: accuracy.samples,
            accuracy: accuracy.mean,
            standard_error: accuracy.standard_error,
            interval: accuracy.interval,
            method: accuracy.method.name(),
            parse_rate: share(all().filter(|s| s.parsed).count()),
            truncated_frac: share(all().filter(|s| s.truncated).count()),
            tokens_mean: tokens.map(|t| t.iter().sum::<f64>() / completions.max(1) as f64),
            sampled,
            texts: Vec::new(),
            best: false,
        }
    }
}

/// Marks the highest accuracy when it is significantly above every other one of the task.
fn mark_best(evaluations: &[Evaluation], name: &str, cells: &mut [Cell]) -> Result<(), ResultsError> {
    if cells.len() < 2 {
        return Ok(());
    }
    let mut top = 0;
    for (i, cell) in cells.iter().enumerate() {
        if cell.accuracy > cells[top].accuracy {
            top = i;
        }
    }
    let Some(best) = evaluations[cells[top].evaluation].task(name) else { return Ok(()) };
    let mut p_values = Vec::new();
    for (_, cell) in cells.iter().enumerate().filter(|(i, _)| *i != top) {
        let Some(other) = evaluations[cell.evaluation].task(name) else { continue };
        match compare(&[other], &[best])? {
            Some(paired) if paired.comparison.difference > 0.0 => p_values.push(paired.comparison.p_value),
            _ => p_values.push(1.0),
        }
    }
    cells[top].best = holm(&p_values).into_iter().all(|p| p < LEVEL);
    Ok(())
}

/// Names that any of the cells has, in order.
fn columns<'a>(cells: &'a [Cell], of: impl Fn(&'a Cell) -> Vec<&'a str>) -> Vec<&'a str> {
    let mut names = Vec::new();
    for name in cells.iter().flat_map(of) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// One row a task and evaluation.
fn long(evaluations: &[Evaluation], cells: &[Cell]) -> (Vec<String>, Vec<Vec<String>>) {
    let sampled = columns(cells, |c| c.sampled.iter().map(|(name, ..)| name.as_str()).collect());
    let texts = columns(cells, |c| c.texts.iter().map(|(name, _)| *name).collect());
    let mut header: Vec<String> = [
        "task",
        "evaluation",
        "n",
        "samples",
        "accuracy",
        "95 % interval",
        "parse rate",
        "truncated",
        "tokens",
    ]
    .map(str::to_owned)
    .into();
    header.extend(sampled.iter().chain(&texts).map(|name| (*name).to_owned()));
    let rows = cells.iter().map(|c| {
        let mut row = vec![
            c.task.clone(),
            evaluations[c.evaluation].label.clone(),
            c.items.to_string(),
            c.completions.to_string(),
            format!("{:.3}{}", c.accuracy, if c.best { "*" } else { "" }),
            format!("[{:.3}, {:.3}]", c.interval.0, c.interval.1),
            format!("{:.3}", c.parse_rate),
            format!("{:.3}", c.truncated_frac),
            c.tokens_mean.map_or_else(String::new, |t| format!("{t:.1}")),
        ];
        row.extend(sampled.iter().map(|name| {
            let found = c.sampled.iter().find(|(n, ..)| n == name);
            found.map_or_else(String::new, |(_, value, error)| with_error(*value, *error))
        }));
        row.extend(texts.iter().map(|name| {
            c.texts
                .iter()
                .find(|(n, _)| n == name)
                .map_or_else(String::new, |(_, value)| format!("{value:.3}"))
        }));
        row
    });
    (header, rows.collect())
}

const LEGEND: &str =
    "* significantly above every other evaluation of the task (paired tests, Holm, 5 %); ± standard error";

fn table(evaluations: &[Evaluation], cells: &[Cell]) -> String {
    let (header, rows) = long(evaluations, cells);
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    format!("{}\n{LEGEND}\n", output::table(&header, &rows))
}

/// Real pictures against controls, of the evaluations that have both; empty where none has.
fn controlled(
    evaluations: &[Evaluation],
    found: &[Vec<ImageComparison>],
    table: fn(&[&str], &[Vec<String>]) -> String,
) -> String {
    let of = |(evaluation, arms): (&Evaluation, &Vec<ImageComparison>)| {
        let row = |arm: &ImageComparison| [vec![evaluation.label.clone()], arm.cells()].concat();
        arms.iter().map(row).collect::<Vec<_>>()
    };
    let rows: Vec<Vec<String>> = evaluations.iter().zip(found).flat_map(of).collect();
    if rows.is_empty() {
        return String::new();
    }
    let header = [&["evaluation"][..], &ImageComparison::HEADER].concat();
    format!("\nReal pictures against controls, item by item:\n\n{}", table(&header, &rows))
}

/// Tasks by evaluations, then the details.
fn markdown(evaluations: &[Evaluation], cells: &[Cell]) -> String {
    let mut header = vec!["task", "n"];
    header.extend(evaluations.iter().map(|e| e.label.as_str()));
    let mut rows = Vec::new();
    for name in task_names(evaluations) {
        let of: Vec<&Cell> = cells.iter().filter(|c| c.task == name).collect();
        let most = of.iter().map(|c| c.items).max().unwrap_or(0);
        let mut row = vec![name.to_owned(), most.to_string()];
        row.extend((0..evaluations.len()).map(|place| {
            of.iter().find(|c| c.evaluation == place).map_or_else(String::new, |c| {
                let mark = if c.best { "**" } else { "" };
                format!("{mark}{:.3}{mark} [{:.3}, {:.3}]", c.accuracy, c.interval.0, c.interval.1)
            })
        }));
        rows.push(row);
    }
    let (long_header, long_rows) = long(evaluations, cells);
    let long_header: Vec<&str> = long_header.iter().map(String::as_str).collect();
    format!(
        "{}\nAccuracy with 95 % intervals; bold: significantly above every other evaluation of the task (paired tests, \
         Holm, 5 %).\n\n{}\n{}\n",
        output::markdown(&header, &rows),
        output::markdown(&long_header, &long_rows).replace("* |", "\\* |"),
        LEGEND.replacen('*', "\\*", 1)
    )
}

fn csv(evaluations: &[Evaluation], cells: &[Cell]) -> String {
    let quoted = |text: &str| {
        if text.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text.to_owned()
        }
    };
    let sampled = columns(cells, |c| c.sampled.iter().map(|(name, ..)| name.as_str()).collect());
    let texts = columns(cells, |c| c.texts.iter().map(|(name, _)| *name).collect());
    let mut header: Vec<String> =
        "task,evaluation,n,completions,accuracy,standard_error,ci95_low,ci95_high,method,best,\
                                   parse_rate,truncated_frac,tokens_mean"
            .split(',')
            .map(str::to_owned)
            .collect();
    header.extend(sampled.iter().flat_map(|name| [(*name).to_owned(), format!("{name}_standard_error")]));
    header.extend(texts.iter().map(|name| (*name).to_owned()));
    let mut text = header.join(",") + "\n";
    let number = |x: f64| if x.is_nan() { String::new() } else { x.to_string() };
    for c in cells {
        let mut row = vec![
            quoted(&c.task),
            quoted(&evaluations[c.evaluation].label),
            c.items.to_string(),
            c.completions.to_string(),
            number(c.accuracy),
            number(c.standard_error),
            number(c.interval.0),
            number(c.interval.1),
            c.method.to_owned(),
            c.best.to_string(),
            number(c.parse_rate),
            number(c.truncated_frac),
            c.tokens_mean.map_or_else(String::new, number),
        ];
        for name in &sampled {
            let found = c.sampled.iter().find(|(n, ..)| n == name);
            row.extend(found.map_or([String::new(), String::new()], |(_, v, e)| [number(*v), number(*e)]));
        }
        row.extend(texts.iter().map(|name| {
            c.texts.iter().find(|(n, _)| n == name).map_or_else(String::new, |(_, value)| number(*value))
        }));
        text.push_str(&(row.join(",") + "\n"));
    }
    text
}

fn json(
    evaluations: &[Evaluation],
    cells: &[Cell],
    baseline: Option<&Evaluation>,
    regressions: &[Regression],
) -> Value {
    let all: Vec<Value> = (evaluations.iter().enumerate())
        .map(|(place, evaluation)| {
            let of = cells.iter().filter(|c| c.evaluation == place);
            let tasks: Map<String, Value> = of.map(|c| (c.task.clone(), cell_json(c))).collect();
            json!({"label": evaluation.label, "dir": evaluation.dir, "tasks": tasks})
        })
        .collect();
    let mut value = json!({ "evaluations": all });
    if let Some(baseline) = baseline {
        let found: Vec<Value> = (regressions.iter())
            .map(|r| json!({"task": r.task, "evaluation": evaluations[r.evaluation].label, "reason": r.reason}))
            .collect();
        value["baseline"] = json!(baseline.dir);
        value["regressions"] = json!(found);
    }
    value
}

fn cell_json(c: &Cell) -> Value {
    let mut value = json!({
        "n": c.items, "completions": c.completions, "samples": c.samples, "accuracy": c.accuracy,
        "standard_error": c.standard_error, "ci95": [c.interval.0, c.interval.1], "method": c.method, "best": c.best,
        "parse_rate": c.parse_rate, "truncated_frac": c.truncated_frac,
    });
    if let Some(tokens) = c.tokens_mean {
        value["tokens_mean"] = json!(tokens);
    }
    for (name, mean, error) in &c.sampled {
        value[name] = json!({"mean": mean, "standard_error": error});
    }
    if !c.texts.is_empty() {
        let texts: Map<String, Value> =
            c.texts.iter().map(|(name, v)| ((*name).to_owned(), json!(v))).collect();
        value["metrics"] = Value::Object(texts);
    }
    value
}
