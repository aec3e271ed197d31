//! `rlvr eval run`: generates for benchmarks, or ranks their options, and judges.

use super::BATCH;
use super::args::{EvalRunArgs, Mode};
use super::bounds;
use super::judges;
use crate::input::bad;
use crate::output::say;
use crate::policy;
use crate::results::{Results, Sample, TaskResult};
use crate::tasks;
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use rlvr::eval::contamination::contamination;
use rlvr::eval::likelihood::{OptionScores, score_options};
use rlvr::eval::sample_log::SampleLog;
use rlvr::eval::{Benchmark, EvalSettings, Generation, Item, evaluate, fingerprint, solved};
use rlvr::policy::Policy;
use rlvr::rewards::{Message, Outcome, Task, Verdict};
use rlvr::rollout::SamplingParams;
use serde_json::{Map, Value, json};
use std::ops::Range;

/// Items that are answered at a time; part of what a sample depends on.
const CHUNK: usize = 64;

/// One chunk of an evaluation.
struct Work<'a> {
    benchmark: &'a Benchmark,
    /// How the items are answered.
    kind: Kind,
    items: Range<usize>,
    /// Number of the chunk within its benchmark.
    number: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Generate,
    Likelihood,
}

/// Ending of a task's name for options ranked by likelihood, and by likelihood per character.
const RANKED: [&str; 2] = ["/likelihood", "/likelihood_norm"];

pub fn run(args: &EvalRunArgs) -> Result<()> {
    let temperature = args.temperature.unwrap_or(if args.samples == 1 { 0.0 } else { 1.0 });
    if temperature == 0.0 && args.samples > 1 {
        return Err(bad("--samples above 1 with --temperature 0 gives the same completion each time"));
    }
    policy::sampling(SamplingParams { temperature, ..SamplingParams::default() })?;
    policy::check_stop(&args.stop)?;
    let bounds = bounds::parse(&args.bounds)?;
    let mut benchmarks = tasks::open(&args.tasks, args.likelihood_of.map(Into::into))?;
    let policy = policy::open(&args.policy, args.raw)?;
    for benchmark in &mut benchmarks {
        benchmark.set_raw(policy.is_raw());
        check(args, &policy, benchmark)?;
    }
    let works: Vec<Work<'_>> = benchmarks.iter().flat_map(|b| works(args, b)).collect();
    let mut judge = judges::open(&args.judge, &args.out)?;
    let mut settings = settings(args, temperature, &policy, &benchmarks)?;
    settings["judge"] = json!(judge.as_ref().map(|judge| judge.identity()));
    let (mut log, mut rows) = SampleLog::open(&args.out, &settings, args.force)?;
    let done = done(args, &works, &rows);
    let complete: usize = works[..done].iter().map(|w| w.keys(args.samples).count()).sum();
    if complete < rows.len() {
        rows.truncate(complete);
        log.keep(&rows)?;
    }
    if done > 0 {
        say!("going on after {done} of {} chunks", works.len());
    }
    for (position, work) in works.iter().enumerate().skip(done) {
        let bar = progress(&works, position)?;
        let new = match work.kind {
            Kind::Generate => {
                let mut samples = generate(args, &policy, work, temperature)?;
                judges::judge(judge.as_mut(), work.items(), &mut samples)?;
                samples.iter().map(|sample| sample.row(true)).collect()
            }
            Kind::Likelihood => rank(&policy, work)?,
        };
        log.append(&new)?;
        rows.extend(new);
        bar.finish_and_clear();
    }
    let mut results = Results::new(settings);
    for benchmark in &benchmarks {
        let found = args.contamination.as_ref().map(|file| contamination(benchmark, file));
        let found = found.transpose().map_err(rlvr::Error::from)?;
        let places = benchmark.items.iter().enumerate().map(|(i, item)| (item.task.id.as_str(), i)).collect();
        for name in names(args, benchmark) {
            let of_task = rows.iter().filter(|row| row.get("task").and_then(Value::as_str) == Some(&name));
            let samples =
                of_task.map(|row| Sample::read(row, benchmark, &places)).collect::<Option<Vec<_>>>();
            let samples =
                samples.ok_or_else(|| bad(format!("{name}: the samples on disk are not readable")))?;
            results.add(TaskResult::new(&name, benchmark, samples, found.as_ref()));
        }
    }
    results.write(&args.out)?;
    bounds::check(&bounds, &results)
}

/// Whether every item of a benchmark can be answered by the policy.
fn check(args: &EvalRunArgs, policy: &Policy, benchmark: &Benchmark) -> Result<()> {
    if args.mode == Mode::Likelihood && benchmark.likelihood.is_none() {
        return Err(bad(format!(
            "{}: it has no [likelihood], so its options cannot be ranked",
            benchmark.name
        )));
    }
    let room = |messages: &[Message], tokens: usize, place: &str| {
        let prompt = policy.prompt(messages).map_err(|e| bad(format!("{place}: {e}")))?;
        policy::check_room(policy, &prompt.token_ids, tokens, place)
    };
    let max_tokens = generation(args, benchmark).max_tokens;
    for kind in kinds(args, benchmark) {
        for item in &benchmark.items {
            match (kind, &item.likelihood) {
                (Kind::Generate, _) => room(&item.task.prompt, max_tokens, &item.place)?,
                (Kind::Likelihood, Some(parts)) => room(&parts.messages(policy.is_raw()), 1, &item.place)?,
                (Kind::Likelihood, None) => {}
            }
        }
    }
    Ok(())
}

/// The bounds of completions: what is typed, else the definition's.
fn generation(args: &EvalRunArgs, benchmark: &Benchmark) -> Generation {
    let mut bounds = benchmark.generation.clone().unwrap_or_default();
    bounds.max_tokens = args.max_tokens.unwrap_or(bounds.max_tokens);
    if !args.stop.is_empty() {
        bounds.stop.clone_from(&args.stop);
    }
    bounds
}

/// How a benchmark is answered.
fn kinds(args: &EvalRunArgs, benchmark: &Benchmark) -> Vec<Kind> {
    let ranked = args.mode != Mode::Generate && benchmark.likelihood.is_some();
    let generated = args.mode != Mode::Likelihood;
    let kinds = [generated.then_some(Kind::Generate), ranked.then_some(Kind::Likelihood)];
    kinds.into_iter().flatten().collect()
}

/// What results call a benchmark.
fn names(args: &EvalRunArgs, benchmark: &Benchmark) -> Vec<String> {
    let mut names = Vec::new();
    for kind in kinds(args, benchmark) {
        match kind {
            Kind::Generate => names.push(benchmark.name.clone()),
            Kind::Likelihood => names.extend(RANKED.map(|ending| format!("{}{ending}", benchmark.name))),
        }
    }
    names
}

fn works<'a>(args: &EvalRunArgs, benchmark: &'a Benchmark) -> Vec<Work<'a>> {
    let len = benchmark.items.len();
    let chunks = move |kind| {
        (0..len.div_ceil(CHUNK)).map(move |number| Work {
            benchmark,
            kind,
            items: number * CHUNK..len.min((number + 1) * CHUNK),
            number,
        })
    };
    kinds(args, benchmark).into_iter().flat_map(chunks).collect()
}

impl Work<'_> {
    fn items(&self) -> &[Item] {
        &self.benchmark.items[self.items.clone()]
    }

    /// Task, id and sample number of each row that the chunk leaves, in order.
    fn keys(&self, samples: usize) -> impl Iterator<Item = (String, &str, usize)> {
        let name = &self.benchmark.name;
        self.items().iter().flat_map(move |item| {
            let id = item.task.id.as_str();
            let rows: Vec<(String, &str, usize)> = match self.kind {
                Kind::Generate => (0..samples).map(|sample| (name.clone(), id, sample)).collect(),
                Kind::Likelihood => RANKED.map(|ending| (format!("{name}{ending}"), id, 0)).to_vec(),
            };
            rows
        })
    }
}

/// How many chunks, from the first, the rows on disk hold completely.
fn done(args: &EvalRunArgs, works: &[Work<'_>], rows: &[Map<String, Value>]) -> usize {
    let mut rows = rows.iter();
    let is = |row: &Map<String, Value>, (task, id, sample): (String, &str, usize)| {
        row.get("task").and_then(Value::as_str) == Some(&task)
            && row.get("id").and_then(Value::as_str) == Some(id)
            && row.get("sample").and_then(Value::as_u64) == Some(sample as u64)
    };
    let whole =
        |work: &&Work<'_>| work.keys(args.samples).all(|key| rows.next().is_some_and(|row| is(row, key)));
    works.iter().take_while(whole).count()
}

/// Everything the samples depend on.
fn settings(
    args: &EvalRunArgs,
    temperature: f64,
    policy: &Policy,
    benchmarks: &[Benchmark],
) -> Result<Value> {
    let mut tasks = Map::new();
    for benchmark in benchmarks {
        let bounds = generation(args, benchmark);
        let task = json!({
            "hash": benchmark.hash, "items": benchmark.items.len(), "verifier": benchmark.verifier(),
            "max_tokens": bounds.max_tokens, "stop": bounds.stop, "likelihood_of": benchmark.likelihood,
        });
        tasks.insert(benchmark.name.clone(), task);
    }
    let arms = &args.tasks.arms;
    let mode = match args.mode {
        Mode::Generate => "generate",
        Mode::Likelihood => "likelihood",
        Mode::Both => "both",
    };
    Ok(json!({
        "policy": args.policy.policy, "policy_hash": fingerprint::policy_sha256(policy)?,
        "template_hash": fingerprint::template_sha256(policy)?, "raw": policy.is_raw(), "mode": mode,
        "samples": args.samples, "temperature": temperature, "seed": args.seed, "limit": args.tasks.limit,
        "shuffle_options": arms.shuffle_options, "no_context": arms.no_context, "few_shot": arms.few_shot,
        "system": arms.system, "version": env!("CARGO_PKG_VERSION"), "tasks": tasks,
    }))
}

fn progress(works: &[Work<'_>], position: usize) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} items")?;
    let work = &works[position];
    let bar = ProgressBar::new(work.benchmark.items.len() as u64).with_style(style);
    let ending = if work.kind == Kind::Likelihood { RANKED[0] } else { "" };
    bar.set_prefix(format!("{}{ending}", work.benchmark.name));
    bar.set_position(work.items.start as u64);
    bar.tick();
    Ok(bar)
}

fn generate(args: &EvalRunArgs, policy: &Policy, work: &Work<'_>, temperature: f64) -> Result<Vec<Sample>> {
    let bounds = generation(args, work.benchmark);
    let sampling = SamplingParams { temperature, max_tokens: bounds.max_tokens, ..SamplingParams::default() };
    let settings = EvalSettings {
        greedy: sampling.is_greedy(),
        samples: if sampling.is_greedy() { 0 } else { args.samples },
        pass_k: Vec::new(),
        sampling,
        stop: bounds.stop,
        batch: BATCH,
        // Equal noise for equal places of two chunks would correlate their items.
        seed: args.seed ^ (work.number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
    };
    let items = work.items();
    let tasks: Vec<&Task> = items.iter().map(|item| &item.task).collect();
    let benchmark = work.benchmark;
    let (_, judged) = evaluate(policy, &benchmark.name, &tasks, &*benchmark.reward, &settings, None)?;
    let mut numbers = vec![0; items.len()];
    let mut samples = Vec::with_capacity(judged.len());
    for j in judged {
        let mut sample = Sample::new(&benchmark.name, &items[j.task], numbers[j.task], j);
        numbers[sample.judged.task] += 1;
        sample.prompt = json!(policy.prompt_text(&items[sample.judged.task].task.prompt)?);
        samples.push(sample);
    }
    Ok(samples)
}

/// The options of a chunk by likelihood: two rows an item, plain and per character.
fn rank(policy: &Policy, work: &Work<'_>) -> Result<Vec<Map<String, Value>>> {
    let items: Vec<&Item> = work.items().iter().collect();
    let of = work.benchmark.likelihood.unwrap_or_default();
    let mut rows = Vec::with_capacity(2 * items.len());
    for (item, scores) in items.iter().zip(score_options(policy, &items, of)?) {
        for (ending, index) in RANKED.iter().zip([scores.plain(), scores.normalised()]) {
            let name = format!("{}{ending}", work.benchmark.name);
            let mut row = ranked(&name, item, index);
            if *ending == RANKED[0] {
                let parts = item.likelihood.as_ref().map(|p| p.messages(policy.is_raw())).unwrap_or_default();
                row.insert("prompt".into(), json!(policy.prompt_text(&parts)?));
                row.insert("options".into(), options(item, &scores));
            }
            rows.push(row);
        }
    }
    Ok(rows)
}

fn options(item: &Item, scores: &OptionScores) -> Value {
    let option = |i: usize| {
        json!({
            "label": item.options[i].label, "logprob": scores.logprobs[i], "characters": scores.characters[i],
            "tokens": scores.tokens[i],
        })
    };
    (0..item.options.len()).map(option).collect()
}

fn ranked(name: &str, item: &Item, chosen: usize) -> Map<String, Value> {
    let label = item.options[chosen].label.clone();
    let gold = item.gold.map(|g| item.options[g].label.clone());
    let (verdict, reason) = match item.gold {
        Some(gold) if gold == chosen => (Verdict::Correct, "the most likely option is right"),
        Some(_) => (Verdict::Incorrect, "another option is more likely"),
        None => (Verdict::Unverifiable, "the reference names no option"),
    };
    let mut outcome = Outcome::of(verdict, "likelihood", reason).with_extracted(label.clone());
    outcome.prediction = Some(label.clone());
    outcome.gold = gold;
    let judged = rlvr::eval::Judged { task: 0, text: label, tokens: 0, truncated: false, outcome };
    debug_assert!(!solved(&judged.outcome) || item.gold == Some(chosen));
    Sample::new(name, item, 0, judged).row(false)
}
