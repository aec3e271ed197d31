//! `rlvr train`: runs the stages of a config.

use crate::args::TrainArgs;
use crate::input::bad;
use crate::output::{self, duration, say};
use crate::progress::Progress;
use crate::signals::{self, shell_words};
use anyhow::Result;
use rlvr::Error;
use rlvr::config::{ChatTemplate, DeviceConfig, Dtype, RunConfig};
use rlvr::eval::EvalSettings;
use rlvr::number::interval;
use rlvr::parallel::{RanksError, World};
use rlvr::run::events::Report;
use rlvr::run::{RunOptions, dir};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

pub fn run(args: &TrainArgs) -> Result<()> {
    // Another rank has the same to say.
    let told = |e: &RanksError| output::set_quiet(matches!(e, RanksError::Told { .. }));
    let world = World::from_env().inspect_err(told).map_err(Error::from)?;
    output::set_quiet(!world.leads());
    let outcome = run_on(args, &world);
    if let Err(error) = &outcome
        && !matches!(error.downcast_ref(), Some(Error::Interrupted))
    {
        world.abort(output::exit_code(error), &output::text_of(error));
        output::set_quiet(!world.tells_of(world.failure().as_ref()));
        if world.ends_all() {
            let _ = output::fail(error);
            world.end_all(output::exit_code(error));
        }
    }
    outcome
}

fn run_on(args: &TrainArgs, world: &World) -> Result<()> {
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
    if let Some(out) = args.out.as_deref()
        && (out.exists() && !out.is_dir() || out == std::path::Path::new("-"))
    {
        return Err(bad(format!("--out {} is no directory, which a run needs", out.display())));
    }
    // Before the config is read, which may be the run's own.
    if args.resume && args.config.parent().is_some_and(dir::holds_records) {
        args.config.parent().map_or(Ok(()), dir::check_records)?;
    }
    let (config, notes) = RunConfig::load_noted(&args.config, &args.set)?;
    notes.iter().for_each(|note| say!("warning: {note}"));
    let options = RunOptions {
        out: args.out.clone(),
        resume: args.resume,
        force: args.force,
        dry_run: args.dry_run,
        world: world.clone(),
        command: std::env::args().collect(),
    };
    let stop = signals::stop_on_signal("this step")?;
    let mut progress = Progress::new();
    let outcome = rlvr::run::train(&config, &options, &stop, &mut progress);
    progress.finish();
    match outcome {
        Ok(_) if !world.leads() => Ok(()),
        Ok(report) => print_report(&config, &report, args.dry_run.then(|| progress.problems())),
        Err(Error::Interrupted) => {
            say!(
                "interrupted after a checkpoint; go on with: {}",
                signals::command_to_go_on(Some("--resume"))
            );
            Err(Error::Interrupted.into())
        }
        Err(Error::Setting { field, message }) => {
            let place = RunConfig::place(&args.config, &args.set, &field);
            Err(bad(format!("{place}: {field}: {message}")))
        }
        Err(error) => Err(error.into()),
    }
}

/// `problems` is how many a dry run has shown; none after a training run.
fn print_report(config: &RunConfig, report: &Report, problems: Option<usize>) -> Result<()> {
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
        for command in evaluations(config, report) {
            writeln!(out, "measure  {command}")?;
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

/// The commands that measure the policy as the last evaluation of the run did: what `[eval]` names as data, then its
/// benchmarks. Greedily the accuracy is the same; samples are others.
fn evaluations(config: &RunConfig, report: &Report) -> Vec<String> {
    let Some(eval) = &config.eval else { return Vec::new() };
    let settings = EvalSettings::new(config, eval);
    let sampling = &settings.sampling;
    // `rlvr eval run` knows none of these.
    if report.policy.is_none()
        || config.policy.keep_special
        || config.policy.max_pixels.is_some()
        || !sampling.stop_sequences.is_empty()
        || (!settings.greedy && sampling.truncates())
    {
        return Vec::new();
    }
    let mut how = Vec::new();
    if config.policy.chat_template == ChatTemplate::Raw {
        how.push("--raw".to_owned());
    }
    if config.policy.dtype == Dtype::Bf16 {
        how.extend(["--dtype".to_owned(), "bf16".to_owned()]);
    }
    if config.device != DeviceConfig::Auto {
        how.extend(["--device".to_owned(), config.device.to_string()]);
    }
    if !settings.greedy {
        let (samples, temperature) = (settings.samples.to_string(), sampling.temperature.to_string());
        how.extend(["--samples".to_owned(), samples, "--temperature".to_owned(), temperature]);
    }
    let command = |tasks: &[String], more: &[String], out: &str| {
        let dir = report.dir.display().to_string();
        let start = ["rlvr", "eval", "run", "--policy", &dir, "--tasks", &tasks.join(",")].map(str::to_owned);
        let out = ["--out".to_owned(), format!("evals/{}{out}", config.name)];
        shell_words(start.into_iter().chain(more.iter().cloned()).chain(how.clone()).chain(out))
    };
    let mut commands = Vec::new();
    if !report.task_files.is_empty() {
        let files: Vec<String> = report.task_files.iter().map(|file| file.display().to_string()).collect();
        commands.push(command(&files, &[], ""));
    }
    if !eval.tasks.is_empty() {
        // A run bounds the completions of benchmarks as those of its own tasks.
        let mut more = vec!["--data-dir".to_owned(), eval.data_dir.display().to_string()];
        more.extend(["--max-tokens".to_owned(), sampling.max_tokens.to_string()]);
        more.extend(settings.stop.iter().flat_map(|stop| ["--stop".to_owned(), stop.clone()]));
        more.extend(eval.limit.iter().flat_map(|limit| ["--limit".to_owned(), limit.to_string()]));
        commands.push(command(&eval.tasks, &more, "-benchmarks"));
    }
    commands
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
