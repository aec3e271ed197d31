//! `rlvr eval ls`: the built-in benchmarks.

use crate::args::eval::EvalLsArgs;
use crate::output;
use crate::output::print_table;
use anyhow::Result;
use rlvr::eval::{Benchmark, OpenSettings, builtin, locate};
use serde_json::{Value, json};
use std::io::Write;

pub fn ls(args: &EvalLsArgs) -> Result<()> {
    let settings = OpenSettings { data_dir: args.data_dir.clone(), ..OpenSettings::default() };
    let mut rows = Vec::new();
    for (name, text) in builtin::BUILTIN {
        let Some(file) = builtin::definition(name) else { continue };
        let file = file?;
        let data = file.source.as_ref().map(|source| settings.data_dir.join(&source.file));
        let found = file.source.as_ref().is_none_or(|s| locate(&file, &s.file, &settings).is_ok());
        let (items, problem) = match found.then(|| Benchmark::open(&file, text, &settings)) {
            Some(Ok(benchmark)) => (Some(benchmark.items.len()), None),
            Some(Err(error)) => (None, Some(error.to_string())),
            None => (None, None),
        };
        let kind = json!(file.reward)["kind"].as_str().unwrap_or_default().to_owned();
        rows.push(json!({
            "name": name, "items": items, "expected": file.source.as_ref().and_then(|s| s.items),
            "license": file.license, "metric": kind, "likelihood": file.likelihood.is_some(), "title": file.title,
            "data": data, "found": found, "problem": problem, "note": file.note,
            "origin": file.source.as_ref().and_then(|s| s.origin.clone()),
        }));
    }
    if args.json {
        let mut out = output::stdout();
        for row in &rows {
            writeln!(out, "{row}")?;
        }
        return Ok(out.flush()?);
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let cells = |row: &Value| {
        let data = match (&row["data"], &row["problem"]) {
            (Value::Null, _) => "generated".to_owned(),
            (_, Value::String(problem)) => problem.clone(),
            (path, _) if row["found"] == true => text(path),
            (path, _) => format!("{} (not there)", text(path)),
        };
        let items = row["items"].as_u64().map_or("-".to_owned(), |n| n.to_string());
        let metric = text(&row["metric"]) + if row["likelihood"] == true { ", likelihood" } else { "" };
        vec![text(&row["name"]), items, text(&row["license"]), metric, data, text(&row["title"])]
    };
    let header = ["task", "items", "licence", "judged by", "data", "what"];
    print_table(&header, &rows.iter().map(cells).collect::<Vec<_>>())
}
