//! `rlvr eval score`: judges completions made elsewhere, or those of an earlier evaluation again.

use super::bounds::Bounds;
use super::judges;
use crate::args::eval::EvalScoreArgs;
use crate::input::bad;
use crate::output::{count, say};
use crate::tasks;
use anyhow::{Context, Result};
use rlvr::eval::judge::JudgeConfig;
use rlvr::eval::sample_log::{SETTINGS, refusal};
use rlvr::eval::{Benchmark, ImageArm, Judged, fingerprint};
use rlvr::files::bounded::{SMALL, read_regular};
use rlvr::files::lock::DirLock;
use rlvr::files::source::{LineSource, SourceError};
use rlvr::measure::give_opinions;
use rlvr::results::{self, Evaluation, RESULTS, Results, SAMPLES, SampleRow, TaskResult, Wanted, image_arms};
use rlvr::rewards::{Outcome, Response, Task, Verdict, score_batch};
use rlvr::rows;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::Path;

/// What a re-scored evaluation keeps of the settings of the one that generated.
const KEPT: [&str; 10] = [
    "policy",
    "policy_hash",
    "template_hash",
    "raw",
    "samples",
    "temperature",
    "seed",
    "few_shot",
    "system",
    "no_context",
];

pub fn score(args: &EvalScoreArgs) -> Result<()> {
    super::check_out(&args.out)?;
    let made = made(args)?;
    if !made.is_null() {
        check_arms(args, &made)?;
    }
    let mut benchmarks = tasks::open(&args.tasks, None)?;
    let mut source = LineSource::open(&args.completions)?;
    // A pipe can be read once.
    let file = args.completions.is_file();
    let hash = file.then(|| fingerprint::file_sha256(&args.completions)).transpose()?;
    let mut given = Completions::read(&mut source)?;
    benchmarks = given.with_controls(benchmarks, &made);
    let named: Vec<_> = benchmarks.iter().map(|b| (b, vec![b.name.clone()])).collect();
    let bounds = Bounds::open(&args.bounds, &named)?;
    let config = judges::config(&args.judge)?;
    let settings = settings(args, &benchmarks, &made, hash, config.as_ref());
    check_replaced(args, &settings)?;
    let mut judge = judges::open(&args.judge, &args.out)?;
    let mut results = Results::new(settings);
    let mut lines = Vec::new();
    let mut matched = 0;
    for benchmark in &benchmarks {
        let (mut samples, answered) = given.judge(benchmark);
        matched += answered;
        if let Some(judge) = &mut judge {
            give_opinions(judge, &benchmark.items, &mut samples)?;
        }
        if answered < benchmark.items.len() {
            let missing = count(benchmark.items.len() - answered, "item");
            say!(
                "note: {}: {missing} of {} without a completion count as unanswered",
                benchmark.name,
                benchmark.items.len()
            );
        }
        for sample in &samples {
            serde_json::to_writer(&mut lines, &sample.fields(sample.judged.tokens > 0))?;
            lines.push(b'\n');
        }
        results.add(TaskResult::new(&benchmark.name, benchmark, samples, None));
    }
    if matched == 0 && !given.by_id.is_empty() {
        let example = benchmarks.first().and_then(|b| b.items.first()).map_or("", |i| i.task.id.as_str());
        let file = args.completions.display();
        return Err(bad(format!(
            "no id of {file} belongs to an item; ids of the items look like {example:?}"
        )));
    }
    let unused = given.by_id.values().flatten().filter(|c| !c.used).count();
    if unused > 0 {
        say!("note: {} with an id that no item has, left out", count(unused, "completion"));
    }
    let dir = &args.out;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create the directory {}", dir.display()))?;
    let _lock = DirLock::take(dir)?;
    results::write_samples(dir, &lines)?;
    if benchmarks.iter().any(|benchmark| ImageArm::of(&benchmark.name).is_some()) {
        results.add_image_arms(image_arms(&Evaluation::of_samples(dir, Wanted::default())?)?);
    }
    results.write(dir)?;
    super::print(&results, dir)?;
    bounds.check(&results, dir)
}

/// The settings of the evaluation that the completions are the samples of; null for others.
fn made(args: &EvalScoreArgs) -> Result<Value> {
    if args.completions.file_name().is_none_or(|name| name != SAMPLES) {
        return Ok(Value::Null);
    }
    let dir = args.completions.parent().unwrap_or(Path::new(""));
    match read_regular(&dir.join(SETTINGS), SMALL) {
        Ok(text) => Ok(serde_json::from_slice(&text).unwrap_or_default()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(results::settings(dir)?),
        Err(e) => Err(bad(format!("{}: {e}", dir.join(SETTINGS).display()))),
    }
}

/// Everything the results depend on, with where the completions come from.
fn settings(
    args: &EvalScoreArgs,
    benchmarks: &[Benchmark],
    made: &Value,
    hash: Option<String>,
    judge: Option<&JudgeConfig>,
) -> Value {
    let mut tasks = Map::new();
    for benchmark in benchmarks {
        let mut task =
            json!({"hash": benchmark.hash, "items": benchmark.items.len(), "verifier": benchmark.verifier()});
        if let Some(images) = &benchmark.images {
            task["images"] = json!(images);
        }
        tasks.insert(benchmark.name.clone(), task);
    }
    let arms = &args.tasks.arms;
    let mut settings = json!({
        "completions": args.completions, "completions_hash": hash, "limit": args.tasks.limit,
        "shuffle_options": arms.shuffle_options, "no_context": arms.no_context,
        "version": env!("CARGO_PKG_VERSION"), "tasks": tasks, "judge": judge.map(JudgeConfig::identity),
    });
    for key in KEPT {
        if let Some(value) = made.get(key) {
            settings[key] = value.clone();
        }
    }
    settings
}

/// Refuses to replace another evaluation; judging the same completions again in the same way loses nothing.
fn check_replaced(args: &EvalScoreArgs, settings: &Value) -> Result<()> {
    let dir = &args.out;
    results::check_foreign(dir, args.force)?;
    if args.force || !(dir.join(SAMPLES).exists() || dir.join(RESULTS).exists()) {
        return Ok(());
    }
    let old = Some(results::settings(dir)?).filter(|old| !old.is_null());
    // What came over stdin may be anything.
    if old.as_ref() == Some(settings) && !settings["completions_hash"].is_null() {
        return Ok(());
    }
    Err(bad(refusal(dir, old.as_ref(), settings)))
}

/// Refuses to judge the samples of an evaluation whose options stood in another order.
fn check_arms(args: &EvalScoreArgs, made: &Value) -> Result<()> {
    let (made, now) = (&made["shuffle_options"], json!(args.tasks.arms.shuffle_options));
    if *made == now {
        return Ok(());
    }
    let shown = args.completions.display();
    Err(bad(match made {
        Value::Null => format!("{shown}: these samples were made without --shuffle-options"),
        seed => format!("{shown}: these samples were made with --shuffle-options {seed}: give the same"),
    }))
}

/// A completion made elsewhere.
struct Completion {
    task: Option<String>,
    text: String,
    prompt: Value,
    images: Value,
    tokens: usize,
    truncated: bool,
    used: bool,
}

struct Completions {
    by_id: HashMap<String, Vec<Completion>>,
}

impl Completions {
    fn read(source: &mut LineSource) -> Result<Self, SourceError> {
        let mut by_id: HashMap<String, Vec<Completion>> = HashMap::new();
        while let Some((line, mut fields)) = source.next_object()? {
            if fields.get("method").and_then(Value::as_str) == Some("likelihood") {
                // Nothing was generated for it.
                continue;
            }
            let id = rows::id(&fields);
            let id = id.ok_or_else(|| source.bad_at(line, "the row has no `id`, a string or a number"))?;
            let text = match fields.remove("completion") {
                Some(Value::String(text)) => text,
                Some(_) => return Err(source.bad_at(line, "`completion` must be text")),
                None => return Err(source.bad_at(line, "the row has no `completion`")),
            };
            let task = fields.get("task").and_then(Value::as_str).map(str::to_owned);
            let truncated = fields.get("truncated") == Some(&Value::Bool(true))
                || fields.get("finish_reason").and_then(Value::as_str) == Some("length");
            let tokens = fields.get("tokens").and_then(Value::as_u64).unwrap_or(0) as usize;
            let prompt = fields.remove("prompt").unwrap_or(Value::Null);
            let images = fields.remove("images").unwrap_or(Value::Null);
            let completion = Completion { task, text, prompt, images, tokens, truncated, used: false };
            by_id.entry(id).or_default().push(completion);
        }
        Ok(Self { by_id })
    }

    /// The benchmarks, and each under the names of the controls that completions were made of. Its pictures do not matter any
    /// more; what identifies it is in the settings of the evaluation that made them.
    fn with_controls(&self, benchmarks: Vec<Benchmark>, made: &Value) -> Vec<Benchmark> {
        let has = |name: &str| self.by_id.values().flatten().any(|c| c.task.as_deref() == Some(name));
        let mut all = Vec::new();
        for benchmark in benchmarks {
            let controls = ImageArm::ALL.into_iter().filter(|arm| *arm != ImageArm::Real);
            let controls: Vec<Benchmark> = (controls.filter_map(|arm| benchmark.called(arm, 0).ok()))
                .filter(|control| has(&control.name))
                .map(|control| {
                    let text = |key: &str| made["tasks"][&control.name][key].as_str().map(str::to_owned);
                    let (hash, images) = (text("hash"), text("images"));
                    Benchmark { hash: hash.unwrap_or_else(|| control.hash.clone()), images, ..control }
                })
                .collect();
            all.push(benchmark);
            all.extend(controls);
        }
        all
    }

    /// Judges the completions of a benchmark's items; an item without one gets an outcome without an answer for each
    /// completion that the others have. Also how many items have one.
    fn judge(&mut self, benchmark: &Benchmark) -> (Vec<SampleRow>, usize) {
        let mut found: Vec<Vec<&mut Completion>> = benchmark.items.iter().map(|_| Vec::new()).collect();
        let places: HashMap<&str, usize> =
            benchmark.items.iter().enumerate().map(|(i, item)| (item.task.id.as_str(), i)).collect();
        for (id, rows) in &mut self.by_id {
            let Some(place) = places.get(id.as_str()) else { continue };
            for completion in rows {
                if completion.task.as_ref().is_none_or(|t| *t == benchmark.name) {
                    completion.used = true;
                    found[*place].push(completion);
                }
            }
        }
        let most = found.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let answered = found.iter().filter(|rows| !rows.is_empty()).count();
        let pairs: Vec<(usize, &Completion)> = (found.iter().enumerate())
            .flat_map(|(item, rows)| rows.iter().map(move |c| (item, &**c)))
            .collect();
        let responses: Vec<(&Task, Response<'_>)> = (pairs.iter())
            .map(|(item, c)| {
                // A row without the number has 0, and a completion has at least the token that ends it.
                let tokens = Some(c.tokens).filter(|n| *n > 0);
                (&benchmark.items[*item].task, Response { text: &c.text, truncated: c.truncated, tokens })
            })
            .collect();
        let outcomes = score_batch(&*benchmark.reward, &responses);
        let mut samples: Vec<SampleRow> = Vec::with_capacity(pairs.len());
        for ((task, c), outcome) in pairs.into_iter().zip(outcomes) {
            let judged =
                Judged { task, text: c.text.clone(), tokens: c.tokens, truncated: c.truncated, outcome };
            let item = &benchmark.items[task];
            let mut sample = SampleRow::new(&benchmark.name, item, 0, judged);
            sample.images = c.images.clone();
            sample.prompt = if c.prompt.is_null() { json!(item.task.prompt) } else { c.prompt.clone() };
            samples.push(sample);
        }
        for (task, _) in found.iter().enumerate().filter(|(_, rows)| rows.is_empty()) {
            let outcome = Outcome::of(Verdict::NoAnswer, "none", "no completion was given");
            let judged = Judged { task, text: String::new(), tokens: 0, truncated: false, outcome };
            for _ in 0..most {
                let mut sample = SampleRow::new(&benchmark.name, &benchmark.items[task], 0, judged.clone());
                sample.prompt = json!(benchmark.items[task].task.prompt);
                samples.push(sample);
            }
        }
        samples.sort_by_key(|s| s.judged.task);
        let mut last = (usize::MAX, 0);
        for sample in &mut samples {
            last = if last.0 == sample.judged.task { (last.0, last.1 + 1) } else { (sample.judged.task, 0) };
            sample.number = last.1;
        }
        (samples, answered)
    }
}
