//! `rlvr`: reinforcement learning with verifiable rewards, from the command line.
//!
//! Data goes to stdout, logs and progress to stderr. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted after
//! a checkpoint, or after whole items of an evaluation.

mod args;
mod audit;
mod bench;
mod compare;
mod completions;
mod data;
mod download;
mod engine;
mod eval;
mod input;
mod lines;
mod logprobs;
mod loss;
mod merge;
mod output;
mod plugin;
mod policy;
mod progress;
mod report;
mod rescore;
mod rewards;
mod run_report;
mod sample;
mod score;
mod self_check;
mod serve;
mod signals;
mod tasks;
mod train;

use anyhow::{Context, Result};
use args::{Cli, Command, EvalCommand, PluginCommand};
use clap::Parser;
use rlvr::parallel::Launch;
use std::io::{IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr();
    signals::watch();
    // On a thread of the pool: from outside it, each of the many small parallel loops would wait for a wake-up.
    let work = || {
        start_threads(&cli)?;
        rayon::scope(|_| match &cli.command {
            Command::Train(args) => train::run(args),
            Command::Sample(args) => sample::run(args),
            Command::Serve(args) => serve::run(args),
            Command::Logprobs(args) => logprobs::run(args),
            Command::Merge(args) => merge::run(args),
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
        })
    };
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => output::fail(&error),
        Err(_) => {
            output::say!("error: this is a mistake in rlvr itself, what happened stands above");
            ExitCode::FAILURE
        }
    }
}

fn start_threads(cli: &Cli) -> Result<()> {
    // What the variables of a launcher say is looked at by the command that needs it.
    let launch = match &cli.command {
        Command::Train(_) => Launch::from_env().ok().flatten(),
        _ => None,
    };
    let processes = launch.map_or(1, |launch| launch.local);
    rlvr::threads::start(cli.threads.map(usize::from), processes).context("starting threads")
}

/// Stderr whose errors are nobody's concern: a log that cannot be written must not end what it tells of.
struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if !output::is_quiet() {
            let _ = std::io::stderr().write_all(bytes);
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn log_to_stderr() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Log)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .init();
}
