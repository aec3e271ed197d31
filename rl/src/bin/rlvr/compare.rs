//! `rlvr compare` and `rlvr eval compare`: arms of evaluations, item by item.

use crate::args::comparison::{CompareArgs, CompareFormat};
use crate::evaluations::{self, Evaluation, LEVEL, Paired, TaskItems, Wanted, named};
use crate::input::bad;
use crate::output::{self, say};
use crate::run_results::{RunResults, is_run, recorded};
use anyhow::Result;
use rlvr::number::{fixed, signed};
use rlvr::stats::{Comparison, Method, Test, holm, unpaired};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Evaluations that differ in their seed.
struct Arm {
    label: String,
    seeds: Vec<Evaluation>,
    /// What a training run recorded, whose evaluation has no items then.
    run: Option<RunResults>,
}

/// A row of the table: a task of A and of another arm.
struct Row {
    /// Place of the other arm.
    arm: usize,
    task: String,
    paired: Paired,
    adjusted: f64,
}

pub fn run(args: &CompareArgs) -> Result<()> {
    let wanted = Wanted { cluster: args.cluster.as_deref(), texts: false };
    let arms = arms(args, wanted)?;
    let mut rows = Vec::new();
    for (place, other) in arms.iter().enumerate().skip(1) {
        let (a, force) = (&arms[0], args.force);
        rows.extend(match (&a.run, &other.run) {
            (Some(left), Some(right)) => compare_runs(a, left, other, right, place, force)?,
            _ => compare(a, other, place, force)?,
        });
    }
    if rows.is_empty() {
        return Err(bad("the evaluations share no item, so there is nothing to compare"));
    }
    let adjusted = holm(&rows.iter().map(|r| r.paired.comparison.p_value).collect::<Vec<_>>());
    rows.iter_mut().zip(adjusted).for_each(|(row, p)| row.adjusted = p);
    let text = match if args.json { CompareFormat::Json } else { args.format } {
        CompareFormat::Json => format!("{}\n", json(&arms, &rows, args.difference)),
        CompareFormat::Markdown => {
            let (header, cells) = cells(&arms, &rows);
            format!("{}\n{}", output::markdown(&header, &cells), notes(&arms, &rows, args.difference, "- "))
        }
        CompareFormat::Table => {
            let (header, cells) = cells(&arms, &rows);
            format!("{}\n{}", output::table(&header, &cells), notes(&arms, &rows, args.difference, ""))
        }
    };
    let mut out = output::stdout();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn arms(args: &CompareArgs, wanted: Wanted<'_>) -> Result<Vec<Arm>> {
    let dirs = directories(args);
    // First what is not there, so that it is not laid to what is.
    if let Some(dir) = dirs.iter().flat_map(|(_, dirs)| dirs).find(|dir| !dir.exists()) {
        return Err(bad(format!("{}: there is no such directory", dir.display())));
    }
    // Runs keep means only: where there is any other arm, the message says how to evaluate them.
    let runs = dirs.iter().all(|(_, dirs)| matches!(&dirs[..], [dir] if is_run(dir)));
    if runs && args.cluster.is_some() {
        return Err(bad("--cluster: training runs keep no answers of single items to group"));
    }
    let read = |(label, dirs): (Option<String>, Vec<PathBuf>)| -> Result<Arm> {
        let shown = dirs.iter().map(|d| d.display().to_string()).collect::<Vec<_>>().join(",");
        let label = label.unwrap_or(shown);
        if runs {
            let run = RunResults::read(&dirs[0])?;
            let evaluation = Evaluation { dir: dirs[0].clone(), label: label.clone(), tasks: Vec::new() };
            return Ok(Arm { label, seeds: vec![evaluation], run: Some(run) });
        }
        let seeds = dirs.iter().map(|dir| Evaluation::read(dir, None, wanted)).collect::<Result<_>>()?;
        Ok(Arm { label, seeds, run: None })
    };
    dirs.into_iter().map(read).collect()
}

/// The name, if one was given, and the directories of each arm.
fn directories(args: &CompareArgs) -> Vec<(Option<String>, Vec<PathBuf>)> {
    if !args.a.is_empty() {
        return vec![(None, args.a.clone()), (None, args.b.clone())];
    }
    let dirs = |text: &str| -> Vec<PathBuf> {
        if Path::new(text).exists() {
            vec![text.into()]
        } else {
            text.split(',').map(PathBuf::from).collect()
        }
    };
    args.arms
        .iter()
        .map(|text| {
            let (label, rest) = named(text);
            (label, dirs(rest))
        })
        .collect()
}

/// The sets that two runs evaluated last.
fn compare_runs(
    a: &Arm,
    left: &RunResults,
    b: &Arm,
    right: &RunResults,
    place: usize,
    force: bool,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for set in &left.sets {
        let Some(other) = right.sets.iter().find(|other| other.set == set.set) else {
            say!("note: {} is in {} only", set.set, a.label);
            continue;
        };
        let identity = right.identity(&set.set);
        evaluations::check_same(&set.set, &left.identity(&set.set), std::iter::once(&identity), force)?;
        if set.n != other.n {
            say!("note: {}: {} items in {}, {} in {}", set.set, set.n, a.label, other.n, b.label);
        }
        if let Some(comparison) = unpaired(recorded(set), recorded(other)) {
            let paired = Paired { comparison, majority: None, only: (0, 0) };
            rows.push(Row { arm: place, task: set.set.clone(), paired, adjusted: 1.0 });
        }
    }
    for set in right.sets.iter().filter(|set| !left.sets.iter().any(|l| l.set == set.set)) {
        say!("note: {} is in {} only", set.set, b.label);
    }
    Ok(rows)
}

/// The tasks that all seeds of both arms have.
fn compare(a: &Arm, b: &Arm, place: usize, force: bool) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for name in names(a) {
        let (Some(left), Some(right)) = (tasks(a, name), tasks(b, name)) else {
            let lacking = a.seeds.iter().chain(&b.seeds).filter(|e| e.task(name).is_none());
            let lacking: Vec<&str> = lacking.map(|e| e.label.as_str()).collect();
            say!("note: {name} is not in {}, left out", lacking.join(", "));
            continue;
        };
        let others = left.iter().skip(1).chain(&right).map(|task| &task.identity);
        evaluations::check_same(name, &left[0].identity, others, force)?;
        let Some(paired) = evaluations::compare(&left, &right)? else {
            say!("note: {name}: no item is in both {} and {}", a.label, b.label);
            continue;
        };
        let (only_a, only_b) = paired.only;
        if only_a + only_b > 0 {
            say!(
                "note: {name}: {} items in both; {only_a} only in {} and {only_b} only in {} are left out",
                paired.comparison.items,
                a.label,
                b.label
            );
        }
        rows.push(Row { arm: place, task: name.to_owned(), paired, adjusted: 1.0 });
    }
    for name in names(b).into_iter().filter(|name| !names(a).contains(name)) {
        say!("note: {name} is in {} only", b.label);
    }
    Ok(rows)
}

/// The names of an arm's tasks.
fn names(arm: &Arm) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for task in arm.seeds.iter().flat_map(|e| &e.tasks) {
        if !names.contains(&task.name.as_str()) {
            names.push(&task.name);
        }
    }
    names
}

/// A task in each seed of an arm.
fn tasks<'a>(arm: &'a Arm, name: &str) -> Option<Vec<&'a TaskItems>> {
    arm.seeds.iter().map(|e| e.task(name)).collect()
}

fn conclusion(row: &Row, arms: &[Arm]) -> String {
    let two = arms.len() == 2;
    let name = |place: usize| match (place, two) {
        (0, _) => "A".to_owned(),
        (_, true) => "B".to_owned(),
        (at, false) => arms[at].label.clone(),
    };
    match row.adjusted < LEVEL {
        true if row.paired.comparison.difference > 0.0 => format!("{} is better", name(row.arm)),
        true => format!("{} is better", name(0)),
        false => "no significant difference".to_owned(),
    }
}

fn cells(arms: &[Arm], rows: &[Row]) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let many = arms.len() > 2;
    let mut header = vec!["task", "n", "A", "B", "B - A", "95 % interval", "p", "p (Holm)", "conclusion"];
    if many {
        header.insert(1, "arm B");
    }
    let p = |p: f64| if p < 1e-4 { "< 0.0001".to_owned() } else { format!("{p:.4}") };
    let cells = rows.iter().map(|row| {
        let c = &row.paired.comparison;
        let mut cells = vec![
            row.task.clone(),
            c.items.to_string(),
            fixed(c.a, 3),
            fixed(c.b, 3),
            signed(c.difference, 3),
            interval(c),
            p(c.p_value),
            p(row.adjusted),
            conclusion(row, arms),
        ];
        if many {
            cells.insert(1, arms[row.arm].label.clone());
        }
        cells
    });
    (header, cells.collect())
}

fn interval(c: &Comparison) -> String {
    let (low, high) = c.interval;
    if low.is_nan() {
        "none (one cluster)".to_owned()
    } else {
        format!("[{}, {}]", signed(low, 3), signed(high, 3))
    }
}

/// What stands below the table: the arms, what was tested, what could have been seen.
fn notes(arms: &[Arm], rows: &[Row], difference: f64, bullet: &str) -> String {
    let mut text = String::new();
    let mut line = |note: String| text.push_str(&format!("{bullet}{note}\n"));
    for (place, arm) in arms.iter().enumerate() {
        let name = if place == 0 { "A" } else { "B" };
        match arm.seeds.len() {
            1 if arm.run.is_some() => {
                let when = arm.run.as_ref().map_or("", |run| run.label.as_str());
                line(format!("{name} = {}, evaluated {when}", arm.label));
            }
            1 => line(format!("{name} = {}", arm.label)),
            n => line(format!("{name} = {}, {n} seeds", arm.label)),
        }
    }
    for row in rows {
        let c = &row.paired.comparison;
        let mut name = row.task.clone();
        if arms.len() > 2 {
            name = format!("{name}, {}", arms[row.arm].label);
        }
        line(format!("{name}: {}{}", tested(c), power(c, difference)));
        if let Some((k, m)) = &row.paired.majority {
            line(format!(
                "{name}: maj@{k} A {}, B {}, B - A {} {}",
                fixed(m.a, 3),
                fixed(m.b, 3),
                signed(m.difference, 3),
                interval(m)
            ));
        }
    }
    text
}

fn tested(c: &Comparison) -> String {
    match c.test {
        Test::Mcnemar => "McNemar's exact test, Tango's score interval".to_owned(),
        _ if c.method == Method::Tango => "McNemar's test and Tango's score interval over what is independent".to_owned(),
        Test::Proportions => "runs keep no answers of single items, so this is the unpaired test of two proportions, \
                              Newcombe's interval; rlvr eval run for both policies gives pairs, which show more"
            .to_owned(),
        Test::Bootstrap => "bootstrap over questions".to_owned(),
        Test::ClusteredBootstrap => format!("bootstrap over {} clusters of questions", c.clusters),
        Test::QuestionsAndSeeds => {
            let (a, b) = c.seeds;
            let fixed = if a.min(b) == 1 { ", the arm with one seed taken as fixed" } else { "" };
            format!("means over seeds ({a} and {b}), t-test over questions and seeds{fixed}")
        }
    }
}

fn power(c: &Comparison, difference: f64) -> String {
    let Some(detectable) = c.detectable else {
        let why = if c.standard_error.is_nan() { "there is one cluster" } else { "all items differ alike" };
        return format!("; {why}, so nothing can be said about power");
    };
    let n = thousands(c.items as u64);
    let shown = match detectable {
        x if x < 1.0 => format!("; n = {n} can show {:.1} points at 80 % power", 100.0 * x),
        _ => format!("; n = {n} can show no difference at 80 % power"),
    };
    // Without the digits that 100 · 0.07 leaves behind.
    let points = (1e5 * difference).round() / 1e3;
    match c.items_needed(difference) {
        Some(needed) if c.seeds_error > 0.0 => {
            format!("{shown}; for {points} points you need {} with these seeds", thousands(needed))
        }
        Some(needed) => format!("{shown}; for {points} points you need {}", thousands(needed)),
        None => format!("{shown}; for {points} points you need more seeds: they spread too much for any n"),
    }
}

/// `12,345`.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `tasks` by name for two arms; a list of `comparisons` with the base for more.
fn json(arms: &[Arm], rows: &[Row], difference: f64) -> Value {
    let tasks = |place: usize| -> Map<String, Value> {
        let of = rows.iter().filter(|row| row.arm == place);
        of.map(|row| (row.task.clone(), row_json(row, arms, difference))).collect()
    };
    let arm = |arm: &Arm| {
        let dirs: Vec<&PathBuf> = arm.seeds.iter().map(|e| &e.dir).collect();
        json!({"label": arm.label, "evaluations": dirs})
    };
    let all: Vec<Value> = arms.iter().map(arm).collect();
    if arms.len() == 2 {
        return json!({"arms": all, "tasks": tasks(1)});
    }
    let comparisons: Vec<Value> = (1..arms.len())
        .map(|place| json!({"a": arms[0].label, "b": arms[place].label, "tasks": tasks(place)}))
        .collect();
    json!({"arms": all, "comparisons": comparisons})
}

fn row_json(row: &Row, arms: &[Arm], difference: f64) -> Value {
    let c = &row.paired.comparison;
    let mut value = json!({
        "n": c.items, "a": c.a, "b": c.b, "difference": c.difference, "ci95": [c.interval.0, c.interval.1],
        "interval": c.method.name(), "standard_error": c.standard_error, "p_value": c.p_value, "p_holm": row.adjusted, "test": c.test.name(),
        "clusters": c.clusters, "seeds": [c.seeds.0, c.seeds.1], "only_a": row.paired.only.0,
        "only_b": row.paired.only.1, "detectable_difference": c.detectable,
        "items_needed": {"difference": difference, "n": c.items_needed(difference)},
        "conclusion": conclusion(row, arms),
    });
    if let Some((k, m)) = &row.paired.majority {
        value[format!("maj@{k}")] =
            json!({"a": m.a, "b": m.b, "difference": m.difference, "ci95": [m.interval.0, m.interval.1]});
    }
    value
}
