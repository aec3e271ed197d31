//! `rlvr score`: judges completions.

use crate::args::ScoreArgs;
use crate::input::{self, Source, bad};
use crate::output::{self, count, say};
use crate::{audit, rescore, self_check};
use anyhow::Result;
use rayon::prelude::*;
use rlvr::number::fixed;
use rlvr::rewards::rows::Row;
use rlvr::rewards::{Reward, RewardConfig, score_batch};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Rows that are parsed and scored at a time.
const CHUNK: usize = 4096;

pub fn run(args: &ScoreArgs) -> Result<()> {
    let reward = match (&args.reward, &args.config) {
        (Some(kind), _) => by_kind(kind)?,
        (None, Some(path)) => from_file(path)?,
        (None, None) => return Err(bad("give --reward KIND or --config FILE")),
    };
    reward.prepare()?;
    let to = output::to(args.out.as_deref(), args.force)?;
    if let Some(dir) = &args.rescore {
        return rescore::run(dir, &*reward, &to);
    }
    let input = args.input.as_deref().ok_or_else(|| bad("give a JSON Lines file, or - for stdin"))?;
    if args.self_check {
        return self_check::run(input, &*reward);
    }
    if let Some(against) = &args.against {
        return audit::run(args, input, &*reward, against, &to);
    }
    // Nothing may be written before the last row is known to be good.
    let mut lines = Vec::new();
    let mut summary = Summary::default();
    each_chunk(&mut Source::open(input)?, &row, &mut |rows| {
        let items: Vec<_> = rows.iter().map(|(_, row)| (&row.task, row.response())).collect();
        let outcomes = score_batch(&*reward, &items);
        let scored: Vec<(Value, String)> = (rows.par_iter().zip(outcomes))
            .map(|((_, row), outcome)| {
                let row = row.output(&outcome);
                let text = row.to_string();
                (row, text)
            })
            .collect();
        for (row, text) in scored {
            summary.add(&row);
            lines.extend_from_slice(text.as_bytes());
            lines.push(b'\n');
        }
    })?;
    output::write(&to, &lines)?;
    say!("{}", summary.text());
    Ok(())
}

/// Reads lines by the thousand, turns each into a `T` on all cores, and hands them on with their line numbers, in
/// order. The first line that cannot be read ends the command before anything of its chunk is judged.
fn each_chunk<T: Send>(
    source: &mut Source,
    read: &(dyn Fn(&str) -> Result<T, String> + Sync),
    take: &mut dyn FnMut(Vec<(usize, T)>),
) -> Result<()> {
    loop {
        let mut rows = Vec::with_capacity(CHUNK);
        while rows.len() < CHUNK
            && let Some(row) = source.next_line()?
        {
            rows.push(row);
        }
        let last = rows.len() < CHUNK;
        let parsed: Vec<_> = rows.par_iter().map(|(line, text)| (*line, read(text))).collect();
        let parsed = (parsed.into_iter())
            .map(|(line, parsed)| Ok((line, parsed.map_err(|e| source.bad_at(line, e))?)))
            .collect::<Result<Vec<_>>>()?;
        take(parsed);
        if last {
            return Ok(());
        }
    }
}

/// Hands every line to `judge`, on all cores, and what comes of it to `take`, with its line and in order.
pub fn each_line<T: Send>(
    source: &mut Source,
    judge: &(dyn Fn(&str) -> Result<T, String> + Sync),
    take: &mut dyn FnMut(usize, T),
) -> Result<()> {
    each_chunk(source, judge, &mut |rows| rows.into_iter().for_each(|(line, judged)| take(line, judged)))
}

/// A line as a row.
fn row(text: &str) -> Result<Row, String> {
    let fields = input::object(text)?;
    Row::parse(Value::Object(fields)).map_err(|e| format!("{e}; {ROW}"))
}

pub const ROW: &str = r#"a row is {"id", "completion", "reference": {"answer": …}}"#;

#[derive(Default)]
struct Summary {
    rows: usize,
    scored: usize,
    total: f64,
    verdicts: BTreeMap<String, usize>,
}

impl Summary {
    fn add(&mut self, row: &Value) {
        self.rows += 1;
        if let Some(score) = row["score"].as_f64() {
            self.scored += 1;
            self.total += score;
        }
        *self.verdicts.entry(row["verdict"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }

    fn text(&self) -> String {
        if self.rows == 0 {
            return "no rows".into();
        }
        let mean = match self.scored {
            0 => "no row has a score".to_owned(),
            n if n == self.rows => format!("mean score {}", fixed(self.total / n as f64, 4)),
            n => format!("mean score {} over the {n} that have one", fixed(self.total / n as f64, 4)),
        };
        let verdicts: Vec<String> = self.verdicts.iter().map(|(v, n)| format!("{v} {n}")).collect();
        format!("{}, {mean}: {}", count(self.rows, "row"), verdicts.join(", "))
    }
}

/// The reward of a kind with its defaults.
pub fn by_kind(kind: &str) -> Result<Box<dyn Reward>> {
    Ok(RewardConfig::from_kind(kind)?.build()?)
}

pub fn from_file(path: &Path) -> Result<Box<dyn Reward>> {
    let (name, text) = input::text(path)?;
    let document: toml::Table = text.parse().map_err(|e: toml::de::Error| {
        let line = e.span().map_or(1, |s| line_at(&text, s.start));
        bad(format!("{name}:{line}: {}", e.message().trim()))
    })?;
    let table = match document.get("rewards") {
        Some(rewards) => rewards.clone(),
        None if document.contains_key("kind") => toml::Value::Table(document),
        None => {
            let message = "neither a [rewards] table nor a reward of its own; write for example\n[rewards]\nkind = \"math\"";
            return Err(bad(format!("{name}:1: {message}")));
        }
    };
    let explain =
        |message: &str| bad(format!("{name}:{}: rewards: {}", place(&text, message), meant(message)));
    let mut config = RewardConfig::deserialize(table).map_err(|e| explain(e.message()))?;
    config.resolve_paths(path.parent().unwrap_or(Path::new("")));
    config.build().map_err(|e| explain(&e.to_string()))
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

/// The line of the name that a message complains about; where it stands below `[rewards]` if it does.
fn place(text: &str, message: &str) -> usize {
    let start = text.find("[rewards").unwrap_or(0);
    let named = message.split('`').nth(1).filter(|_| !message.starts_with("missing"));
    let word = |line: &str, name: &str| {
        line.match_indices(name).any(|(at, _)| {
            let inside = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
            !line[..at].ends_with(inside) && !line[at + name.len()..].starts_with(inside)
        })
    };
    let found = named.and_then(|name| text[start..].lines().position(|line| word(line, name)));
    line_at(text, start) + found.unwrap_or(0)
}

/// The message with the nearest valid name, where it lists valid names.
fn meant(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = message.starts_with("unknown ").then(|| quoted.next()).flatten();
    let near = unknown.and_then(|name| nearest(name, quoted));
    near.map_or_else(|| message.to_owned(), |near| format!("{message}; did you mean `{near}`?"))
}

/// The candidate most like `name`, if any is.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = candidates.map(|c| (strsim::jaro_winkler(name, c), c));
    scored.filter(|(likeness, _)| *likeness > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, c)| c)
}
