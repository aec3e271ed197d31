//! Two evaluations compared: what `rlvr compare` and `rlvr eval report --baseline` find, in a program of your own.
//!
//! `cargo run --release --example read_results -- evals/before evals/after`
#![allow(clippy::print_stdout, clippy::print_stderr)] // An example shows what it does.

use rlvr::eval::Accuracy;
use rlvr::number::{interval, signed};
use rlvr::results::{Evaluation, Wanted, compare, regressions};
use std::error::Error;
use std::path::Path;

/// Prints accuracies and differences of two directories; an error where the second is worse.
pub fn run(dirs: &[String]) -> Result<(), Box<dyn Error>> {
    let [before, after] = dirs else { return Err("give two directories that rlvr eval wrote".into()) };
    let before = Evaluation::read(Path::new(before), Wanted::default())?;
    let after = Evaluation::read(Path::new(after), Wanted::default())?;

    for evaluation in [&before, &after] {
        for task in &evaluation.tasks {
            let accuracy = Accuracy::of(&task.questions());
            println!(
                "{}: {} {:.3} {}",
                evaluation.label,
                task.name,
                accuracy.mean,
                interval(accuracy.interval)
            );
        }
    }

    // Item by item: both answered the same questions, which shows more than two means.
    for old in &before.tasks {
        let Some(new) = after.task(&old.name) else { continue };
        if let Some(pair) = compare(&[old], &[new])? {
            let c = pair.comparison;
            println!("{}: {} over {} items, p {:.4}", old.name, signed(c.difference, 3), c.items, c.p_value);
        }
    }

    // A loss of less than a point is none; evaluations of different versions of a task are an error.
    let found = regressions(&before, &[after], 0.01, false, &mut |note| eprintln!("note: {note}"))?;
    for regression in &found {
        println!("regression: {}: {}", regression.task, regression.reason);
    }
    if found.is_empty() { Ok(()) } else { Err(format!("{} regressions", found.len()).into()) }
}

/// Runs the example.
pub fn main() -> Result<(), Box<dyn Error>> {
    run(&std::env::args().skip(1).collect::<Vec<_>>())
}
