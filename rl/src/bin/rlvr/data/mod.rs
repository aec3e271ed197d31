//! `rlvr data`: generated tasks, and the steps of curation.

mod chain;
mod generate;
mod solve;
mod steps;
mod watch;

use crate::args::DataCommand;
use anyhow::Result;

pub fn run(command: &DataCommand) -> Result<()> {
    match command {
        DataCommand::Generate(args) => generate::generate(args),
        DataCommand::Import(args) => steps::import(args),
        DataCommand::Validate(args) => steps::validate(args),
        DataCommand::Stats(args) => steps::stats(args),
        DataCommand::Dedup(args) => steps::dedup(args),
        DataCommand::Decontaminate(args) => steps::decontaminate(args),
        DataCommand::Filter(args) => steps::filter(args),
        DataCommand::Balance(args) => steps::balance(args),
        DataCommand::Cap(args) => steps::cap(args),
        DataCommand::Split(args) => steps::split(args),
        DataCommand::ChoiceToOpen(args) => steps::choice_to_open(args),
        DataCommand::PassRate(args) => solve::pass_rate(args),
        DataCommand::Rejection(args) => solve::rejection(args),
        DataCommand::Run(args) => chain::run(args),
        DataCommand::Manifest(args) => steps::manifest(args),
    }
}
