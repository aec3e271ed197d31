//! The steps of curation that need no policy, as commands.

use super::watch::Bar;
use crate::args::data::{
    BalanceArgs, CapArgs, ChoiceToOpenArgs, DecontaminateArgs, DedupArgs, FilterArgs, ImportArgs, Limit,
    ManifestArgs, OutArgs, SplitArgs, StatsArgs, ValidateArgs,
};
use crate::input::bad;
use crate::output::{self, count, say};
use crate::rewards;
use anyhow::{Result, anyhow};
use rlvr::curate::choice_to_open::OpenSettings;
use rlvr::curate::decontaminate::{DecontaminateSettings, PicturesFound};
use rlvr::curate::dedup::DedupSettings;
use rlvr::curate::filter::FilterSettings;
use rlvr::curate::manifest::{FileRecord, Manifest, StepRecord};
use rlvr::curate::output::{Command, Output};
use rlvr::curate::pictures::By;
use rlvr::curate::quota::{BalanceSettings, CapSettings};
use rlvr::curate::shapes::{Mapping, Reading};
use rlvr::curate::split::SplitSettings;
use rlvr::curate::tables::FileKind;
use rlvr::curate::{self, CurateError, stats::Stats};
use rlvr::policies::hub::{self, HubOptions};
use serde::Serialize;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Exit code 2 for what the user gave, 1 for the file system.
pub fn fault(error: CurateError) -> anyhow::Error {
    match error {
        CurateError::Io(error) => rlvr::Error::Io(error).into(),
        CurateError::Output(error) => rlvr::Error::Output(error).into(),
        other => bad(other.to_string()),
    }
}

pub fn create(args: &OutArgs) -> Result<Output> {
    let out = Output::create(&args.out, args.dropped.as_deref(), args.force).map_err(fault)?;
    Ok(out.allow_empty(args.allow_empty))
}

pub fn command(name: &'static str, settings: &impl Serialize, seed: Option<u64>) -> Result<Command> {
    Ok(Command { name, settings: serde_json::to_value(settings)?, seed })
}

/// Puts the output in place and says what happened.
pub fn finish(out: Output, command: Command, inputs: Vec<FileRecord>) -> Result<()> {
    let manifest = out.finish(command, inputs).map_err(fault)?;
    if let Some(step) = manifest.steps.last() {
        for input in step.inputs.iter().filter(|input| input.note.is_some()) {
            say!("note: {}: {}", input.path, input.note.as_deref().unwrap_or_default());
        }
        say!("{}", summary(step));
    }
    Ok(())
}

fn summary(step: &StepRecord) -> String {
    let list = |counts: &std::collections::BTreeMap<String, u64>| {
        let parts: Vec<String> = counts.iter().map(|(what, n)| format!("\n  {n:>9}  {what}")).collect();
        parts.concat()
    };
    let dropped: u64 = step.dropped.values().sum();
    let mut text =
        format!("{}: {} in, {} out", step.command, count(step.rows_in as usize, "row"), step.rows_out);
    if dropped > 0 {
        text.push_str(&format!(", {dropped} left out{}", list(&step.dropped)));
    }
    if !step.counts.is_empty() {
        text.push_str(&format!(
            "{}{}",
            if dropped > 0 { "\nalso" } else { "; of these" },
            list(&step.counts)
        ));
    }
    text
}

pub fn import(args: &ImportArgs) -> Result<()> {
    let reading = Reading {
        shape: args.shape,
        mapping: Mapping {
            question: args.question.clone(),
            answer: args.answer.clone(),
            options: args.options.clone(),
            context: args.context.clone(),
            id: args.id.clone(),
            completion: args.completion.clone(),
            answer_after: args.answer_after.clone(),
        },
        label_base: args.label_base,
        prefix: args.prefix.clone(),
    };
    let mut out = create(&args.out)?;
    let files = files(args)?;
    let read = curate::import::import(&files, args.kind, &mut out, &reading, args.skip, &Bar::new())
        .map_err(fault)?;
    let mut inputs: Vec<FileRecord> = read.iter().map(FileRecord::of).collect();
    for input in &mut inputs {
        input.licence = args.licence.clone();
        if let Some(file) = &args.hub_file {
            input.path = format!("{}/{file}", args.inputs[0].display());
        }
    }
    finish(out, command("import", &reading, None)?, inputs)
}

/// The files to import: those that are named, or one of a data set of the hub.
fn files(args: &ImportArgs) -> Result<Vec<PathBuf>> {
    let dataset = |path: &Path| hub::is_repo_id(&path.to_string_lossy()) && !path.exists();
    match &args.hub_file {
        None => match args.inputs.iter().find(|path| dataset(path) && FileKind::of(path).is_none()) {
            None => Ok(args.inputs.clone()),
            Some(id) => {
                let hint = "a data set of the hub is imported by its file, such as --hub-file train.jsonl or \
                            --hub-file data/train-00000-of-00001.parquet";
                Err(bad(format!("{}: there is no such file; {hint}", id.display())))
            }
        },
        Some(file) => match &args.inputs[..] {
            [id] if dataset(id) => {
                Ok(vec![hub::fetch_dataset_file(&id.to_string_lossy(), file, &HubOptions::from_env())?])
            }
            _ => Err(bad("--hub-file is a file of one data set of the hub: name that as owner/name")),
        },
    }
}

pub fn validate(args: &ValidateArgs) -> Result<()> {
    let reward = match (&args.reward, &args.config) {
        (Some(kind), _) => Some(rewards::by_kind(kind)?),
        (None, Some(path)) => Some(rewards::from_file(path)?),
        (None, None) => None,
    };
    if let Some(reward) = &reward {
        reward.prepare()?;
    }
    let (mut shown, mut problems) = (Vec::new(), 0_usize);
    let file = args.input.display();
    let input = curate::validate::validate(&args.input, reward.as_deref(), &Bar::new(), &mut |problem| {
        problems += 1;
        if problems <= args.limit {
            shown.push(format!("{file}:{}: {}", problem.line, problem.message));
        }
    })
    .map_err(fault)?;
    let mut out = output::report();
    for line in &shown {
        writeln!(out, "{}", output::printable(line))?;
    }
    out.flush()?;
    if problems == 0 {
        say!("{}: no problems", count(input.rows as usize, "row"));
        return Ok(());
    }
    let more =
        if problems > shown.len() { format!(", the first {} are shown", shown.len()) } else { String::new() };
    Err(anyhow!("{} in {}{more}", count(problems, "problem"), count(input.rows as usize, "row")))
}

pub fn stats(args: &StatsArgs) -> Result<()> {
    let (_, stats) = curate::stats::stats(&args.input, &args.by, &Bar::new()).map_err(fault)?;
    let mut out = output::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&stats)?)?;
    } else {
        write!(out, "{}", stats_text(&stats, args.top))?;
    }
    Ok(out.flush()?)
}

fn stats_text(stats: &Stats, top: usize) -> String {
    let lengths = [
        ("question", &stats.question_words),
        ("answer", &stats.answer_words),
        ("completion", &stats.completion_words),
    ];
    let rows: Vec<Vec<String>> = (lengths.iter().filter(|(_, q)| q.n > 0))
        .map(|(name, q)| {
            let numbers =
                [q.n, q.min.into(), q.median.into(), q.p95.into(), q.max.into()].map(|n| n.to_string());
            let mut row = vec![(*name).to_owned(), format!("{:.1}", q.mean)];
            row.extend(numbers);
            row
        })
        .collect();
    let mut text = format!("{}: {}\n\n", stats.file, count(stats.rows as usize, "row"));
    text.push_str(&output::table(&["words", "mean", "rows", "min", "median", "95 %", "max"], &rows));
    let shares = |title: &str, counts: Vec<(&String, &u64)>| {
        let share = |n: u64| format!("{:.1} %", 100.0 * n as f64 / stats.rows.max(1) as f64);
        let rows: Vec<Vec<String>> = (counts.into_iter())
            .map(|(value, n)| vec![output::one_line(value, 60), n.to_string(), share(*n)])
            .collect();
        format!("\n{}", output::table(&[title, "rows", "share"], &rows))
    };
    if let Some(pictures) = &stats.pictures {
        let (q, near) = (&pictures.side, pictures.near);
        text.push_str(&format!(
            "\n{} in {}, {near} of them nearly the same as another; smaller side {} to {} pixels, median {}\n",
            count(pictures.different as usize, "picture"),
            count(pictures.rows as usize, "row"),
            q.min,
            q.max,
            q.median
        ));
    }
    text.push_str(&shares("options", stats.options.iter().collect()));
    if !stats.answers.is_empty() {
        text.push_str(&shares("right label", stats.answers.iter().collect()));
    }
    for (field, counts) in &stats.fields {
        text.push_str(&shares(field, counts.iter().take(top).map(|(value, n)| (value, n)).collect()));
        if counts.len() > top {
            text.push_str(&format!("… and {} values more\n", counts.len() - top));
        }
    }
    text.push_str(&format!(
        "\n{} that ask what an earlier row asks, {} of them with another answer; {} with the id of an earlier row\n",
        count(stats.duplicates as usize, "row"),
        stats.contradictions,
        count(stats.repeated_ids as usize, "row"),
    ));
    text
}

pub fn dedup(args: &DedupArgs) -> Result<()> {
    let settings = DedupSettings {
        on: args.on.clone(),
        threshold: (!args.exact).then_some(args.threshold),
        same_answer: args.same_answer,
        by: args.by,
        image_distance: args.image_distance,
        seed: args.seed,
    };
    let mut out = create(&args.out)?;
    let input = curate::dedup::dedup(&args.input, &mut out, &settings, &Bar::new()).map_err(fault)?;
    finish(out, command("dedup", &settings, Some(args.seed))?, vec![FileRecord::of(&input)])
}

pub fn decontaminate(args: &DecontaminateArgs) -> Result<()> {
    let settings = DecontaminateSettings {
        ngram: args.ngram,
        common: args.common,
        min_share: args.min_share,
        on: args.on.clone(),
        by: args.by,
        image_distance: args.image_distance,
        against_where: args.against_where.clone(),
    };
    let mut out = create(&args.out)?;
    let (input, tests, found) =
        curate::decontaminate::decontaminate(&args.input, &args.against, &mut out, &settings, &Bar::new())
            .map_err(fault)?;
    let inputs =
        std::iter::once(FileRecord::of(&input)).chain(tests.iter().map(|t| FileRecord::of(t).against()));
    let mut recorded = json!(settings);
    recorded["found"] = json!(found);
    finish(out, command("decontaminate", &recorded, None)?, inputs.collect())?;
    let rows: Vec<Vec<String>> = (found.of.iter())
        .map(|(file, of)| {
            vec![file.clone(), found.rows[file].to_string(), found.items[file].to_string(), of.to_string()]
        })
        .collect();
    say!("{}", output::table(&["test file", "rows left out", "test items found", "of"], &rows).trim_end());
    for (file, pictures) in &found.pictures {
        say!("{}", pictures_found(file, pictures, settings.by));
    }
    Ok(())
}

fn pictures_found(file: &str, found: &PicturesFound, by: By) -> String {
    let PicturesFound { of, same, near, asked } = *found;
    let near =
        if near > 0 { format!(", and of {near} more one that is nearly the same") } else { String::new() };
    let pictures = count(of as usize, "picture");
    let mut text = format!(
        "{file}: {same} of its {pictures} occur in the rows{near}; {asked} of its items are asked there of the same picture"
    );
    if by == By::Row && same + found.near > 0 {
        text.push_str(" (--by image leaves out every row about them)");
    }
    text
}

pub fn filter(args: &FilterArgs) -> Result<()> {
    let settings = FilterSettings {
        field: args.field.clone(),
        not_field: args.not_field.clone(),
        matches: args.matches.clone(),
        not_matches: args.not_matches.clone(),
        r#where: args.condition.clone(),
        min_words: args.min_words,
        max_words: args.max_words,
        min_answer_words: args.min_answer_words,
        max_answer_words: args.max_answer_words,
        min_options: args.min_options,
        max_options: args.max_options,
        min_side: args.min_side,
    };
    let mut out = create(&args.out)?;
    let input = curate::filter::filter(&args.input, &mut out, &settings, &Bar::new()).map_err(fault)?;
    finish(out, command("filter", &settings, None)?, vec![FileRecord::of(&input)])
}

pub fn balance(args: &BalanceArgs) -> Result<()> {
    let settings = BalanceSettings {
        field: args.field.clone(),
        values: args.values.clone(),
        per_value: args.per_value,
        seed: args.seed,
    };
    let mut out = create(&args.out)?;
    let input = curate::quota::balance(&args.input, &mut out, &settings, &Bar::new()).map_err(fault)?;
    finish(out, command("balance", &settings, Some(args.seed))?, vec![FileRecord::of(&input)])
}

pub fn cap(args: &CapArgs) -> Result<()> {
    let (rows, share) = match args.max {
        Limit::Rows(rows) => (Some(rows), None),
        Limit::Share(share) => (None, Some(share)),
    };
    let settings =
        CapSettings { field: args.field.clone(), values: args.values.clone(), rows, share, seed: args.seed };
    let mut out = create(&args.out)?;
    let input = curate::quota::cap(&args.input, &mut out, &settings, &Bar::new()).map_err(fault)?;
    finish(out, command("cap", &settings, Some(args.seed))?, vec![FileRecord::of(&input)])
}

pub fn split(args: &SplitArgs) -> Result<()> {
    let settings = SplitSettings { parts: args.parts.clone(), group: args.group.clone(), seed: args.seed };
    settings.check().map_err(fault)?;
    let create = |name: &str| Output::create(&args.out_dir.join(format!("{name}.jsonl")), None, args.force);
    let outs: Result<Vec<Output>, CurateError> =
        settings.parts.iter().map(|part| create(&part.name)).collect();
    let mut outs = outs.map_err(fault)?;
    let input = curate::split::split(&args.input, &mut outs, &settings, &Bar::new()).map_err(fault)?;
    for (out, part) in outs.into_iter().zip(&settings.parts) {
        let mut settings = json!(settings);
        settings["part"] = json!(part.name);
        finish(out, command("split", &settings, Some(args.seed))?, vec![FileRecord::of(&input)])?;
    }
    Ok(())
}

pub fn choice_to_open(args: &ChoiceToOpenArgs) -> Result<()> {
    let settings = OpenSettings {
        max_answer_words: args.max_answer_words,
        share: args.share,
        keep_refused: args.keep_refused,
        seed: args.seed,
    };
    let mut out = create(&args.out)?;
    let input = curate::choice_to_open::choice_to_open(&args.input, &mut out, &settings, &Bar::new())
        .map_err(fault)?;
    finish(out, command("choice-to-open", &settings, Some(args.seed))?, vec![FileRecord::of(&input)])
}

pub fn manifest(args: &ManifestArgs) -> Result<()> {
    let file = &args.file;
    if !file.is_file() {
        return Err(bad(format!("{}: there is no such file", file.display())));
    }
    let manifest = Manifest::beside(file).map_err(fault)?;
    let Some(manifest) = manifest else {
        let expected = Manifest::path(file);
        return Err(bad(format!("{}: no manifest beside it ({})", file.display(), expected.display())));
    };
    let mut out = output::stdout();
    for step in &manifest.steps {
        let inputs: Vec<String> = step.inputs.iter().map(file_text).collect();
        writeln!(out, "{}\n  from {}", summary(step), inputs.join("\n   and "))?;
    }
    let licences = manifest.licences();
    if !licences.is_empty() {
        writeln!(out, "licences: {}", licences.join(", "))?;
    }
    let now = curate::tables::whole_hash(file).map_err(fault)?;
    let same = manifest.steps.last().is_some_and(|last| last.output.sha256 == now);
    writeln!(
        out,
        "{}: {}",
        file.display(),
        if same { "as it was written" } else { "changed since it was written" }
    )?;
    Ok(out.flush()?)
}

fn file_text(file: &FileRecord) -> String {
    let role = file.role.as_ref().map_or(String::new(), |role| format!(" ({role})"));
    let licence = file.licence.as_ref().map_or(String::new(), |licence| format!(", {licence}"));
    format!(
        "{}{role}, {}, sha256 {}…{licence}",
        file.path,
        count(file.rows as usize, "row"),
        &file.sha256[..12]
    )
}
