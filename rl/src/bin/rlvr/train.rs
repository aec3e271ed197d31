//! `rlvr train`: runs the stages of a config.

use crate::args::TrainArgs;
use crate::eval::interval;
use crate::input::bad;
use crate::output::{self, duration, say};
use crate::progress::Progress;
use crate::signals;
use anyhow::Result;
use rlvr::Error;
use rlvr::config::RunConfig;
use rlvr::events::Report;
use rlvr::run::RunOptions;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

pub fn run(args: &TrainArgs) -> Result<()> {
    if args.config.is_dir() {
        let hint = if args.resume { "; to go on with a run give its config.toml" } else { "" };
        return Err(bad(format!(
            "{} is a directory, a run config is a TOML file{hint}",
            args.config.display()
        )));
    }
    if !args.config.exists() {
        return Err(bad(format!("{}: there is no such run config", args.config.display())));
    }
    let config = RunConfig::load(&args.config, &args.set)?;
    let options = RunOptions {
        out: args.out.clone(),
        resume: args.resume,
        force: args.force,
        dry_run: args.dry_run,
        command: std::env::args().collect(),
    };
    let stop = signals::stop_on_signal("this step")?;
    let mut progress = Progress::new();
    let outcome = rlvr::run::train(&config, &options, &stop, &mut progress);
    progress.finish();
    match outcome {
        Ok(report) => print_report(&report, args.dry_run.then(|| progress.problems())),
        Err(Error::Interrupted) => {
            say!(
                "interrupted after a checkpoint; go on with: {}",
                signals::command_to_go_on(Some("--resume"))
            );
            Err(Error::Interrupted.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// `problems` is how many a dry run has shown; none after a training run.
fn print_report(report: &Report, problems: Option<usize>) -> Result<()> {
    let mut out = output::report();
    if !report.evals.is_empty() {
        write!(out, "{}", table(report))?;
        writeln!(out)?;
    }
    if let Some(problems) = problems {
        let found = match problems {
            0 => "everything is in order".to_owned(),
            n => format!("{} above", output::count(n, "problem")),
        };
        writeln!(out, "dry run: {found}; nothing was trained")?;
    } else {
        if let Some(policy) = &report.policy {
            writeln!(out, "policy   {}", policy.display())?;
        }
        if has_curves(&report.dir) {
            writeln!(out, "curves   tensorboard --logdir {}", report.dir.display())?;
        }
        writeln!(
            out,
            "time     {} for {}",
            duration(report.wall_s),
            output::count(report.steps as usize, "step")
        )?;
    }
    Ok(out.flush()?)
}

fn has_curves(dir: &Path) -> bool {
    let Ok(mut entries) = std::fs::read_dir(dir) else { return false };
    entries.any(|e| e.is_ok_and(|e| e.file_name().to_string_lossy().starts_with("events.out.tfevents")))
}

/// One row an evaluation and data set; those between steps were shown when they were made.
fn table(report: &Report) -> String {
    let ends = || report.evals.iter().filter(|(label, _)| !label.starts_with("step "));
    let results = || ends().flat_map(|(label, sets)| sets.iter().map(move |set| (label, set)));
    let ks: BTreeSet<usize> = results().flat_map(|(_, r)| r.pass_at.iter().map(|(k, _)| *k)).collect();
    let pass: Vec<String> = ks.iter().map(|k| format!("pass@{k}")).collect();
    let mut header = vec!["evaluation", "set", "n", "accuracy", "95 % interval"];
    header.extend(pass.iter().map(String::as_str));
    let rows: Vec<Vec<String>> = results()
        .map(|(label, r)| {
            let mut row = vec![
                label.clone(),
                r.set.clone(),
                r.n.to_string(),
                format!("{:.3}", r.accuracy),
                interval(r.ci95),
            ];
            let at = |k: &usize| r.pass_at.iter().find(|(known, _)| known == k);
            row.extend(ks.iter().map(|k| at(k).map_or(String::new(), |(_, v)| format!("{v:.3}"))));
            row
        })
        .collect();
    output::table(&header, &rows)
}
