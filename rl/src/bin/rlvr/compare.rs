//! `rlvr compare` and `rlvr eval compare`: arms of evaluations, item by item.

use crate::args::comparison::{CompareArgs, CompareFormat};
use crate::input::bad;
use crate::output::{self, note};
use anyhow::Result;
use rlvr::number::{fixed, signed};
use rlvr::results::{
    Arm, Evaluation, Measured, ResultsError, RunResults, TaskComparison, Wanted, compare_arms, named,
};
use rlvr::stats::{Comparison, Method, Test};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

pub fn run(args: &CompareArgs) -> Result<()> {
    let wanted = Wanted { cluster: args.cluster.as_deref(), texts: false };
    let arms = arms(args, wanted)?;
    let rows = compare_arms(&arms, args.force, &mut note)?;
    if rows.is_empty() {
        return Err(bad("the evaluations share no item, so there is nothing to compare"));
    }
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
    let runs = dirs.iter().all(|(_, dirs)| matches!(&dirs[..], [dir] if RunResults::is_at(dir)));
    if runs && args.cluster.is_some() {
        return Err(bad("--cluster: training runs keep no answers of single items to group"));
    }
    let read = |(label, dirs): (Option<String>, Vec<PathBuf>)| -> Result<Arm, ResultsError> {
        let shown = dirs.iter().map(|d| d.display().to_string()).collect::<Vec<_>>().join(",");
        let measured = match runs {
            true => Measured::Run(RunResults::read(&dirs[0])?),
            false => {
                let seeds: Result<_, _> = dirs.iter().map(|dir| Evaluation::read(dir, wanted)).collect();
                Measured::Items(seeds?)
            }
        };
        Ok(Arm { label: label.unwrap_or(shown), measured })
    };
    Ok(dirs.into_iter().map(read).collect::<Result<_, _>>()?)
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

fn conclusion(row: &TaskComparison, arms: &[Arm]) -> String {
    let two = arms.len() == 2;
    let name = |place: usize| match (place, two) {
        (0, _) => "A".to_owned(),
        (_, true) => "B".to_owned(),
        (at, false) => arms[at].label.clone(),
    };
    match row.is_significant() {
        true if row.paired.comparison.difference > 0.0 => format!("{} is better", name(row.arm)),
        true => format!("{} is better", name(0)),
        false => "no significant difference".to_owned(),
    }
}

fn cells(arms: &[Arm], rows: &[TaskComparison]) -> (Vec<&'static str>, Vec<Vec<String>>) {
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
            p(row.p_holm),
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
fn notes(arms: &[Arm], rows: &[TaskComparison], difference: f64, bullet: &str) -> String {
    let mut text = String::new();
    let mut line = |note: String| text.push_str(&format!("{bullet}{note}\n"));
    for (place, arm) in arms.iter().enumerate() {
        let name = if place == 0 { "A" } else { "B" };
        line(match &arm.measured {
            Measured::Run(run) => format!("{name} = {}, evaluated {}", arm.label, run.when),
            Measured::Items(seeds) if seeds.len() == 1 => format!("{name} = {}", arm.label),
            Measured::Items(seeds) => format!("{name} = {}, {} seeds", arm.label, seeds.len()),
        });
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
fn json(arms: &[Arm], rows: &[TaskComparison], difference: f64) -> Value {
    let tasks = |place: usize| -> Map<String, Value> {
        let of = rows.iter().filter(|row| row.arm == place);
        of.map(|row| (row.task.clone(), row_json(row, arms, difference))).collect()
    };
    let arm = |arm: &Arm| json!({"label": arm.label, "evaluations": arm.dirs()});
    let all: Vec<Value> = arms.iter().map(arm).collect();
    if arms.len() == 2 {
        return json!({"arms": all, "tasks": tasks(1)});
    }
    let comparisons: Vec<Value> = (1..arms.len())
        .map(|place| json!({"a": arms[0].label, "b": arms[place].label, "tasks": tasks(place)}))
        .collect();
    json!({"arms": all, "comparisons": comparisons})
}

fn row_json(row: &TaskComparison, arms: &[Arm], difference: f64) -> Value {
    let c = &row.paired.comparison;
    let mut value = json!({
        "n": c.items, "a": c.a, "b": c.b, "difference": c.difference, "ci95": [c.interval.0, c.interval.1],
        "interval": c.method.name(), "standard_error": c.standard_error, "p_value": c.p_value, "p_holm": row.p_holm, "test": c.test.name(),
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
