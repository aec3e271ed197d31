//! A policy answers a benchmark, into a directory that `rlvr compare`, `rlvr eval report` and the example read_results
//! take: what `rlvr eval run` does. Interrupted, the same call goes on where it stopped.
//!
//! `cargo run --release --example evaluate -- HuggingFaceTB/SmolLM2-135M-Instruct addition evals/addition`
#![allow(clippy::print_stdout, clippy::print_stderr)] // An example shows what it does.

use rlvr::config::DeviceConfig;
use rlvr::eval::{Benchmark, OpenSettings};
use rlvr::measure::{Event, Measurement, Plan};
use rlvr::number::interval;
use rlvr::policy::Policy;
use std::error::Error;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Evaluates, and returns the accuracy.
pub fn run(args: &[String]) -> Result<f64, Box<dyn Error>> {
    let [name, task, out] = args else { return Err("give a policy, a benchmark and a directory".into()) };

    // A built-in benchmark (`rlvr eval ls`) or the path of a definition; its verifier comes with it.
    let opened = OpenSettings { data_dir: "data".into(), limit: Some(100), ..OpenSettings::default() };
    let mut benchmarks = [Benchmark::named(task, &opened)?];
    let policy = Policy::open(name, &rlvr::run::device(DeviceConfig::Auto)?)?;

    // One greedy completion an item. Whatever the results depend on is recorded beside them, with hashes.
    let plan = Plan { max_tokens: Some(64), ..Plan::new(name, opened) };
    let mut watch = |event: Event<'_>| {
        if let Event::Begins(task, before, of) = event {
            eprintln!("{task}: {before} of {of} items");
        }
    };
    let mut run = Measurement::open(&plan, &policy, &mut benchmarks, None, Path::new(out), &mut watch)?;
    // Another thread may raise this flag; what is written until then stays.
    let stop = AtomicBool::new(false);
    let results = run.finish(&[], &stop, &mut watch)?;

    let task = &results.tasks()[0];
    let accuracy = &task.accuracy;
    println!("{}: {:.3} {} of {} items", task.name, accuracy.mean, interval(accuracy.interval), task.items);
    Ok(accuracy.mean)
}

/// Runs the example.
pub fn main() -> Result<(), Box<dyn Error>> {
    run(&std::env::args().skip(1).collect::<Vec<_>>()).map(|_| ())
}
