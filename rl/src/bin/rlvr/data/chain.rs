//! `rlvr data run`: the steps of a TOML file, one after the other.

use super::solve::{self, pass_rate_step, rejection_step};
use super::steps::{command, fault, finish};
use super::watch::Bar;
use crate::args::data::{PassRateStep, RejectionStep, RunArgs};
use crate::input::bad;
use crate::output::say;
use anyhow::Result;
use rlvr::curate::choice_to_open::{OpenSettings, choice_to_open};
use rlvr::curate::decontaminate::{DecontaminateSettings, decontaminate};
use rlvr::curate::dedup::{DedupSettings, dedup};
use rlvr::curate::filter::{FilterSettings, filter};
use rlvr::curate::import::import;
use rlvr::curate::manifest::FileRecord;
use rlvr::curate::output::Output;
use rlvr::curate::quota::{BalanceSettings, CapSettings, balance, cap};
use rlvr::curate::shapes::Reading;
use rlvr::curate::split::{SplitSettings, split};
use rlvr::files::source;
use serde::Deserialize;
use serde_json::json;
use std::path::{Path, PathBuf};

/// A curation as a file; paths are relative to it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Chain {
    /// Data sets for a first step of kind `import`, or one file of tasks.
    inputs: Vec<PathBuf>,
    /// Directory that gets a file a step.
    out_dir: PathBuf,
    /// The steps, in order.
    step: Vec<Step>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Step {
    Import(ImportStep),
    Filter(FilterSettings),
    Dedup(DedupSettings),
    Decontaminate(Box<DecontaminateStep>),
    Balance(BalanceSettings),
    Cap(CapSettings),
    ChoiceToOpen(OpenSettings),
    PassRate(Box<PassRateStep>),
    Rejection(Box<RejectionStep>),
    Split(SplitSettings),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportStep {
    licence: Option<String>,
    #[serde(default)]
    skip: bool,
    #[serde(default)]
    reading: Reading,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DecontaminateStep {
    against: Vec<PathBuf>,
    #[serde(default)]
    settings: DecontaminateSettings,
}

impl Step {
    fn name(&self) -> &'static str {
        match self {
            Self::Import(_) => "import",
            Self::Filter(_) => "filter",
            Self::Dedup(_) => "dedup",
            Self::Decontaminate(_) => "decontaminate",
            Self::Balance(_) => "balance",
            Self::Cap(_) => "cap",
            Self::ChoiceToOpen(_) => "choice-to-open",
            Self::PassRate(_) => "pass-rate",
            Self::Rejection(_) => "rejection",
            Self::Split(_) => "split",
        }
    }
}

pub fn run(args: &RunArgs) -> Result<()> {
    let (name, text) = source::text(&args.config)?;
    let mut chain: Chain = toml::from_str(&text).map_err(|e| {
        let before = e.span().map_or("", |span| &text[..span.start.min(text.len())]);
        bad(format!("{name}:{}: {}", before.matches('\n').count() + 1, e.message().trim()))
    })?;
    let base = args.config.parent().unwrap_or(Path::new(""));
    let dir = base.join(&chain.out_dir);
    let inputs: Vec<PathBuf> = chain.inputs.iter().map(|path| base.join(path)).collect();
    let imports = chain.step.iter().skip(1).any(|step| matches!(step, Step::Import(_)));
    let splits = chain.step.iter().rev().skip(1).any(|step| matches!(step, Step::Split(_)));
    if chain.step.is_empty() || imports || splits {
        return Err(bad(format!("{name}: it needs steps, import only as the first, split only as the last")));
    }
    if inputs.len() != 1 && !matches!(chain.step[0], Step::Import(_)) {
        return Err(bad(format!("{name}: without a step of kind \"import\" there must be one input")));
    }
    for step in &mut chain.step {
        let solve = match step {
            Step::PassRate(step) => &mut step.solve,
            Step::Rejection(step) => &mut step.solve,
            _ => continue,
        };
        solve.resolve_paths(base);
        // Seen before the first step, not when hours of others are done.
        let checked = solve::check(solve).and_then(|()| solve::reward(solve));
        checked.map_err(|e| bad(format!("{name}: {e:#}")))?;
    }
    let mut current = inputs.first().cloned().unwrap_or_default();
    for (i, step) in chain.step.iter().enumerate() {
        let file = |ending: &str| dir.join(format!("{:02}-{}{ending}.jsonl", i + 1, step.name()));
        say!("{}", file("").display());
        apply(step, &inputs, &current, &dir, &file, args, base)?;
        current = file("");
    }
    Ok(())
}

fn apply(
    step: &Step,
    inputs: &[PathBuf],
    current: &Path,
    dir: &Path,
    file: &dyn Fn(&str) -> PathBuf,
    args: &RunArgs,
    base: &Path,
) -> Result<()> {
    let watch = Bar::new();
    if let Step::Split(settings) = step {
        settings.check().map_err(fault)?;
        let create = |part: &str| Output::create(&dir.join(format!("{part}.jsonl")), None, args.force);
        let outs: Result<Vec<Output>, _> = settings.parts.iter().map(|part| create(&part.name)).collect();
        let mut outs = outs.map_err(fault)?;
        let read = split(current, &mut outs, settings, &watch).map_err(fault)?;
        for (out, part) in outs.into_iter().zip(&settings.parts) {
            let mut recorded = json!(settings);
            recorded["part"] = json!(part.name);
            finish(out, command("split", &recorded, Some(settings.seed))?, vec![FileRecord::of(&read)])?;
        }
        return Ok(());
    }
    let dropped = (!matches!(step, Step::Import(_))).then(|| file(".dropped"));
    let out = Output::create(&file(""), dropped.as_deref(), args.force).map_err(fault)?;
    let mut out = out.allow_empty(args.allow_empty);
    let o = &mut out;
    let (settings, seed, read) = match step {
        Step::Import(s) => {
            let read = import(inputs, None, o, &s.reading, s.skip, &watch).map_err(fault)?;
            let licensed = |record: FileRecord| FileRecord { licence: s.licence.clone(), ..record };
            (json!(s.reading), None, read.iter().map(|input| licensed(FileRecord::of(input))).collect())
        }
        Step::Decontaminate(s) => {
            let against: Vec<PathBuf> = s.against.iter().map(|path| base.join(path)).collect();
            let (read, tests, found) =
                decontaminate(current, &against, o, &s.settings, &watch).map_err(fault)?;
            let mut recorded = json!(s.settings);
            recorded["found"] = json!(found);
            let tests = tests.iter().map(|test| FileRecord::of(test).against());
            (recorded, None, std::iter::once(FileRecord::of(&read)).chain(tests).collect())
        }
        Step::Filter(s) => (json!(s), None, one(filter(current, o, s, &watch))?),
        Step::Dedup(s) => (json!(s), Some(s.seed), one(dedup(current, o, s, &watch))?),
        Step::Balance(s) => (json!(s), Some(s.seed), one(balance(current, o, s, &watch))?),
        Step::Cap(s) => (json!(s), Some(s.seed), one(cap(current, o, s, &watch))?),
        Step::ChoiceToOpen(s) => (json!(s), Some(s.seed), one(choice_to_open(current, o, s, &watch))?),
        Step::PassRate(s) => return pass_rate_step(current, out, s),
        Step::Rejection(s) => return rejection_step(current, out, s),
        Step::Split(_) => return Ok(()),
    };
    finish(out, command(step.name(), &settings, seed)?, read)
}

fn one(read: Result<rlvr::curate::scan::Input, rlvr::curate::CurateError>) -> Result<Vec<FileRecord>> {
    Ok(vec![FileRecord::of(&read.map_err(fault)?)])
}
