//! `rlvr eval`: accuracy on benchmarks.

use crate::args::{EvalRunArgs, EvalScoreArgs};
use crate::input::{self, Source, bad};
use crate::output::{self, count, say};
use crate::policy;
use crate::results::{Results, TaskResult};
use crate::tasks::{self, Benchmark};
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use rlvr::eval::{EvalSettings, Judged, evaluate, summarize};
use rlvr::policy::Policy;
use rlvr::rewards::{Outcome, Response, Task, Verdict, score_batch};
use rlvr::rollout::SamplingParams;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;

/// Items that are generated and judged at a time; part of what a sample depends on.
const CHUNK: usize = 64;
/// Completions decoded together.
const BATCH: usize = 64;

pub fn run(args: &EvalRunArgs) -> Result<()> {
    let greedy_is_default = args.samples == 1;
    let temperature = args.temperature.unwrap_or(if greedy_is_default { 0.0 } else { 1.0 });
    if temperature == 0.0 && args.samples > 1 {
        return Err(bad("--samples above 1 with --temperature 0 gives the same completion each time"));
    }
    let sampling = SamplingParams { temperature, max_tokens: args.max_tokens, ..SamplingParams::default() };
    let sampling = policy::sampling(sampling)?;
    policy::check_stop(&args.stop)?;
    let benchmarks = tasks::open(&args.tasks)?;
    let policy = policy::open(&args.policy, args.raw)?;
    for benchmark in &benchmarks {
        for task in &benchmark.tasks {
            let place = format!("{}, item {}", benchmark.name, task.id);
            let prompt = policy.prompt(&task.prompt).map_err(|e| bad(format!("{place}: {e}")))?;
            policy::check_room(&policy, &prompt.token_ids, args.max_tokens, &place)?;
        }
    }
    make_dir(&args.tasks.out)?;
    let mut results = Results::new(json!({
        "policy": args.policy.policy, "samples": args.samples, "temperature": temperature,
        "max_tokens": args.max_tokens, "stop": args.stop, "seed": args.seed, "raw": args.raw, "limit": args.tasks.limit,
    }));
    for benchmark in &benchmarks {
        let settings = EvalSettings {
            greedy: sampling.is_greedy(),
            samples: if sampling.is_greedy() { 0 } else { args.samples },
            pass_k: Vec::new(),
            sampling: sampling.clone(),
            stop: args.stop.clone(),
            batch: BATCH,
            seed: args.seed,
        };
        let judged = generate(&policy, benchmark, &settings)?;
        results.add(task_result(&policy, benchmark, judged)?);
    }
    results.write(&args.tasks.out)
}

fn make_dir(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create the directory {}", dir.display()))
}

fn generate(policy: &Policy, benchmark: &Benchmark, settings: &EvalSettings) -> Result<Vec<Judged>> {
    let style = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} {msg} ETA {eta}")?;
    let bar = ProgressBar::new(benchmark.tasks.len() as u64).with_style(style);
    bar.set_prefix(benchmark.name.clone());
    let mut all: Vec<Judged> = Vec::new();
    for (i, chunk) in benchmark.tasks.chunks(CHUNK).enumerate() {
        let tasks: Vec<&Task> = chunk.iter().collect();
        // Equal noise for equal places of two chunks would correlate their items.
        let seed = settings.seed ^ (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let settings = EvalSettings { seed, ..settings.clone() };
        let (_, judged) = evaluate(policy, &benchmark.name, &tasks, &*benchmark.reward, &settings, None)?;
        all.extend(judged.into_iter().map(|j| Judged { task: j.task + i * CHUNK, ..j }));
        bar.inc(chunk.len() as u64);
        let correct = all.iter().filter(|j| rlvr::eval::solved(&j.outcome)).count();
        bar.set_message(format!("accuracy {:.3}", correct as f64 / all.len().max(1) as f64));
    }
    bar.finish_and_clear();
    Ok(all)
}

fn task_result(policy: &Policy, benchmark: &Benchmark, judged: Vec<Judged>) -> Result<TaskResult> {
    let prompts: Result<Vec<String>, _> =
        benchmark.tasks.iter().map(|t| policy.prompt_text(&t.prompt)).collect();
    let prompts = prompts?.into_iter().map(Value::String).collect();
    Ok(TaskResult::new(benchmark, judged, prompts, true))
}

pub fn score(args: &EvalScoreArgs) -> Result<()> {
    let benchmarks = tasks::open(&args.tasks)?;
    let mut source = Source::open(&args.completions)?;
    let mut given = Completions::read(&mut source)?;
    let mut results = Results::new(json!({"completions": args.completions, "limit": args.tasks.limit}));
    let mut matched = 0;
    for benchmark in &benchmarks {
        let (judged, answered) = given.judge(benchmark);
        matched += answered;
        if answered < benchmark.tasks.len() {
            let missing = count(benchmark.tasks.len() - answered, "item");
            say!(
                "note: {}: {missing} of {} without a completion count as unanswered",
                benchmark.name,
                benchmark.tasks.len()
            );
        }
        let prompts = benchmark.tasks.iter().map(|t| json!(t.prompt)).collect();
        results.add(TaskResult::new(benchmark, judged, prompts, false));
    }
    if matched == 0 && !given.by_id.is_empty() {
        let example = benchmarks.first().and_then(|b| b.tasks.first()).map_or("", |t| t.id.as_str());
        let file = args.completions.display();
        return Err(bad(format!(
            "no id of {file} belongs to an item; ids of the items look like {example:?}"
        )));
    }
    let unused = given.by_id.values().flatten().filter(|c| !c.used).count();
    if unused > 0 {
        say!("note: {} with an id that no item has, left out", count(unused, "completion"));
    }
    make_dir(&args.tasks.out)?;
    results.write(&args.tasks.out)
}

/// A completion made elsewhere.
struct Completion {
    task: Option<String>,
    text: String,
    truncated: bool,
    used: bool,
}

struct Completions {
    by_id: HashMap<String, Vec<Completion>>,
}

impl Completions {
    fn read(source: &mut Source) -> Result<Self> {
        let mut by_id: HashMap<String, Vec<Completion>> = HashMap::new();
        while let Some((line, mut fields)) = source.next_object()? {
            let id = fields.get("id").and_then(input::id_text);
            let id = id.ok_or_else(|| source.bad_at(line, "the row has no `id`, a string or a number"))?;
            let text = match fields.remove("completion") {
                Some(Value::String(text)) => text,
                Some(_) => return Err(source.bad_at(line, "`completion` must be text")),
                None => return Err(source.bad_at(line, "the row has no `completion`")),
            };
            let task = fields.get("task").and_then(Value::as_str).map(str::to_owned);
            let truncated = fields.get("truncated") == Some(&Value::Bool(true))
                || fields.get("finish_reason").and_then(Value::as_str) == Some("length");
            by_id.entry(id).or_default().push(Completion { task, text, truncated, used: false });
        }
        Ok(Self { by_id })
    }

    /// Judges the completions of a benchmark's items; an item without one gets an outcome without an answer for each
    /// completion that the others have. Also how many items have one.
    fn judge(&mut self, benchmark: &Benchmark) -> (Vec<Judged>, usize) {
        let mut found: Vec<Vec<(String, bool)>> = Vec::with_capacity(benchmark.tasks.len());
        for task in &benchmark.tasks {
            let rows = self.by_id.get_mut(&task.id).into_iter().flatten();
            let rows = rows.filter(|c| c.task.as_ref().is_none_or(|t| *t == benchmark.name)).map(|c| {
                c.used = true;
                (c.text.clone(), c.truncated)
            });
            found.push(rows.collect());
        }
        let most = found.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let answered = found.iter().filter(|rows| !rows.is_empty()).count();
        let responses: Vec<(usize, &str, bool)> = (found.iter().enumerate())
            .flat_map(|(task, rows)| rows.iter().map(move |(text, cut)| (task, text.as_str(), *cut)))
            .collect();
        let items: Vec<(&Task, Response<'_>)> = (responses.iter())
            .map(|(task, text, truncated)| {
                (&benchmark.tasks[*task], Response { text, truncated: *truncated })
            })
            .collect();
        let outcomes = score_batch(&*benchmark.reward, &items);
        let mut judged: Vec<Judged> = (responses.iter().zip(outcomes))
            .map(|(&(task, text, truncated), outcome)| Judged {
                task,
                text: text.into(),
                tokens: 0,
                truncated,
                outcome,
            })
            .collect();
        for (task, _) in found.iter().enumerate().filter(|(_, rows)| rows.is_empty()) {
            let outcome = Outcome::of(Verdict::NoAnswer, "none", "no completion was given");
            let unanswered = Judged { task, text: String::new(), tokens: 0, truncated: false, outcome };
            judged.extend(std::iter::repeat_n(unanswered, most));
        }
        judged.sort_by_key(|j| j.task);
        (judged, answered)
    }
}

/// The statistics of a benchmark: Wilson's interval for one completion an item, over items and pass@k for several.
pub fn statistics(name: &str, items: usize, judged: &[Judged]) -> rlvr::eval::EvalResult {
    let mut counts = vec![0usize; items];
    judged.iter().for_each(|j| counts[j.task] += 1);
    let least = counts.iter().copied().min().unwrap_or(0);
    let single = judged.len() == items && least == 1;
    let powers = std::iter::successors(Some(1usize), |k| k.checked_mul(2)).take_while(|k| *k < least);
    let pass_k = if single { Vec::new() } else { powers.chain([least]).filter(|k| *k > 0).collect() };
    let settings = EvalSettings {
        greedy: single,
        samples: least,
        pass_k,
        sampling: SamplingParams::default(),
        stop: Vec::new(),
        batch: BATCH,
        seed: 0,
    };
    summarize(name, items, judged, if single { judged.len() } else { 0 }, &settings)
}

/// An interval for people.
pub fn interval((low, high): (f64, f64)) -> String {
    format!("[{low:.3}, {high:.3}]")
}

/// Prints a table on stdout.
pub fn print_table(header: &[&str], rows: &[Vec<String>]) -> Result<()> {
    use std::io::Write;
    let mut out = output::stdout();
    out.write_all(output::table(header, rows).as_bytes())?;
    Ok(out.flush()?)
}
