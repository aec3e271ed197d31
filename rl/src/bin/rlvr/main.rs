//! `rlvr`: reinforcement learning with verifiable rewards, from the command line.
//!
//! Data goes to stdout, logs and progress to stderr. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted after
//! a checkpoint, or after whole items of an evaluation.

mod args;
mod audit;
mod baseline;
mod bench;
mod compare;
mod comparison_args;
mod completions;
mod data;
mod eval;
mod evaluations;
mod input;
mod logprobs;
mod loss;
mod output;
mod plugin;
mod policy;
mod progress;
mod report;
mod rescore;
mod results;
mod run_report;
mod run_results;
mod sample;
mod score;
mod self_check;
mod signals;
mod tasks;
mod text_metrics;
mod train;

use anyhow::{Context, Result};
use args::{Cli, Command, EvalCommand, PluginCommand};
use clap::Parser;
use std::io::IsTerminal;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr();
    signals::watch();
    // On a thread of the pool: from outside it, each of the many small parallel loops would wait for a wake-up.
    match set_threads(cli.threads).and_then(|()| rayon::scope(|_| run(&cli.command))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output::fail(&error),
    }
}

fn run(command: &Command) -> Result<()> {
    match command {
        Command::Train(args) => train::run(args),
        Command::Sample(args) => sample::run(args),
        Command::Logprobs(args) => logprobs::run(args),
        Command::Score(args) => score::run(args),
        Command::Data(command) => data::run(command),
        Command::Loss(args) => loss::run(args),
        Command::Eval(EvalCommand::Run(args)) => eval::run::run(args),
        Command::Eval(EvalCommand::Ls(args)) => eval::ls::ls(args),
        Command::Eval(EvalCommand::Validate(args)) => eval::validate::run(args),
        Command::Eval(EvalCommand::Score(args)) => eval::score::score(args),
        Command::Eval(EvalCommand::Compare(args)) | Command::Compare(args) => compare::run(args),
        Command::Eval(EvalCommand::Report(args)) => report::run(args),
        Command::Report(args) => run_report::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Plugin(PluginCommand::New(args)) => plugin::new(args),
        Command::Plugin(PluginCommand::Test(args)) => plugin::test(args),
        Command::Completions(args) => completions::run(args),
    }
}

/// Starts the threads that everything is computed on.
fn set_threads(threads: Option<u16>) -> Result<()> {
    let pool = || rayon::ThreadPoolBuilder::new().num_threads(threads.map_or(0, usize::from));
    // The pool of the whole process can be tried once only, so whether there can be so many is tried with another one.
    let pool = match pool().build() {
        Ok(_) => pool(),
        Err(e) => {
            tracing::warn!("the system allows no further threads ({e}); everything is done by one");
            rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread()
        }
    };
    pool.build_global().context("starting threads")
}

fn log_to_stderr() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .init();
}
