//! `rlvr eval run`: generates for benchmarks, or ranks their options, and judges.

use super::bounds::Bounds;
use super::judges;
use super::rank::rank;
use crate::args::eval::{EvalRunArgs, Mode};
use crate::input::bad;
use crate::output::{count, say};
use crate::policy;
use crate::signals;
use crate::tasks;
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use rlvr::eval::contamination::{Contamination, contamination};
use rlvr::eval::judge::{Answer, Judge, JudgeVerdict};
use rlvr::eval::sample_log::SampleLog;
use rlvr::eval::{Benchmark, EvalSettings, Generation, Item, evaluate, fingerprint};
use rlvr::policy::Policy;
use rlvr::results::{self, RANKED, Results, SampleRow, TaskResult};
use rlvr::rewards::{Message, Task};
use rlvr::rollout::SamplingParams;
use serde_json::{Map, Value, json};
use std::ops::Range;
use std::sync::atomic::Ordering;

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

pub fn run(args: &EvalRunArgs) -> Result<()> {
    let temperature = args.temperature.unwrap_or(if args.samples == 1 { 0.0 } else { 1.0 });
    if temperature == 0.0 && args.samples > 1 {
        return Err(bad("--samples above 1 with --temperature 0 gives the same completion each time"));
    }
    policy::sampling(SamplingParams { temperature, ..SamplingParams::default() })?;
    policy::check_stop(&args.stop)?;
    super::check_out(&args.out)?;
    results::check_foreign(&args.out, args.force)?;
    let mut benchmarks = tasks::open(&args.tasks, args.likelihood_of.map(Into::into))?;
    let named: Vec<_> = benchmarks.iter().map(|b| (b, names(args, b))).collect();
    let bounds = Bounds::open(&args.bounds, &named)?;
    let found = contaminations(args, &benchmarks)?;
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
    if rows.is_empty() {
        results::clear(&args.out);
    }
    let done = done(args, &works, &rows);
    let complete: usize = works[..done].iter().map(|w| w.keys(args.samples).count()).sum();
    if complete < rows.len() {
        rows.truncate(complete);
        log.keep(&rows)?;
    }
    if done > 0 {
        say!("going on after {done} of {} chunks", works.len());
    }
    if let Some(judge) = &mut judge
        && ask_again(judge, args, &works[..done], &mut rows)?
    {
        log.keep(&rows)?;
    }
    let stop = signals::stop_on_signal("the items at work (up to 64)")?;
    for (position, work) in works.iter().enumerate().skip(done) {
        if stop.load(Ordering::Relaxed) {
            say!("interrupted, whole items are written; go on with: {}", signals::command_to_go_on(None));
            return Err(rlvr::Error::Interrupted.into());
        }
        let bar = progress(&works, position)?;
        let new = match work.kind {
            Kind::Generate => {
                let mut samples = generate(args, &policy, work, temperature)?;
                judges::judge(judge.as_mut(), work.items(), &mut samples)?;
                samples.iter().map(|sample| sample.fields(true)).collect()
            }
            Kind::Likelihood => rank(&policy, work.benchmark, work.items())?,
        };
        log.append(&new)?;
        rows.extend(new);
        bar.finish_and_clear();
    }
    let mut results = Results::new(settings);
    for (benchmark, found) in benchmarks.iter().zip(&found) {
        let places = benchmark.items.iter().enumerate().map(|(i, item)| (item.task.id.as_str(), i)).collect();
        for name in names(args, benchmark) {
            let of_task = rows.iter().filter(|row| row.get("task").and_then(Value::as_str) == Some(&name));
            let samples =
                of_task.map(|row| SampleRow::read(row, benchmark, &places)).collect::<Option<Vec<_>>>();
            let samples =
                samples.ok_or_else(|| bad(format!("{name}: the samples on disk are not readable")))?;
            results.add(TaskResult::new(&name, benchmark, samples, found.as_ref()));
        }
    }
    super::write(&results, &args.out)?;
    bounds.check(&results, &args.out)
}

/// The items of each benchmark that occur in training data: known before anything is answered.
fn contaminations(args: &EvalRunArgs, benchmarks: &[Benchmark]) -> Result<Vec<Option<Contamination>>> {
    let found = |benchmark: &Benchmark| {
        let found = args.contamination.as_ref().map(|file| contamination(benchmark, file));
        found.transpose().map_err(|e| rlvr::Error::from(e).into())
    };
    benchmarks.iter().map(found).collect()
}

/// Asks a judge about the completions of complete chunks that it has not judged; whether there were any.
fn ask_again(
    judge: &mut Judge,
    args: &EvalRunArgs,
    works: &[Work<'_>],
    rows: &mut [Map<String, Value>],
) -> Result<bool> {
    let samples = args.samples;
    let items = works.iter().flat_map(|work| {
        let each = if work.kind == Kind::Generate { samples } else { RANKED.len() };
        work.items().iter().flat_map(move |item| std::iter::repeat_n((work.kind, item), each))
    });
    let unjudged = |row: &Map<String, Value>| {
        row.get("judge").is_none_or(|opinion| opinion["verdict"] == json!(JudgeVerdict::Unjudged))
    };
    let open: Vec<(usize, &Item)> = (items.enumerate())
        .filter(|(i, (kind, _))| *kind == Kind::Generate && unjudged(&rows[*i]))
        .map(|(i, (_, item))| (i, item))
        .collect();
    if open.is_empty() {
        return Ok(false);
    }
    say!("asking the judge again about {}", count(open.len(), "completion"));
    let text = |i: usize| rows[i].get("completion").and_then(Value::as_str).unwrap_or_default();
    let answers: Vec<Answer<'_>> =
        open.iter().map(|(i, item)| Answer { task: &item.task, text: text(*i) }).collect();
    let opinions = judge.judge(&answers)?;
    for ((i, _), opinion) in open.iter().zip(opinions) {
        rows[*i].insert("judge".to_owned(), json!(opinion));
    }
    Ok(true)
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
        policy::check_room(policy, &prompt.token_ids, tokens, place)?;
        anyhow::Ok(prompt.token_ids.len())
    };
    let max_tokens = generation(args, benchmark).max_tokens;
    let context = policy.decoder.config().max_position_embeddings;
    let mut cut = 0;
    for kind in kinds(args, benchmark) {
        for item in &benchmark.items {
            match (kind, &item.likelihood) {
                (Kind::Generate, _) => {
                    let prompt = room(&item.task.prompt, max_tokens, &item.place)?;
                    cut += usize::from(prompt.saturating_add(max_tokens) > context);
                }
                (Kind::Likelihood, Some(parts)) => {
                    room(&parts.messages(policy.is_raw()), 1, &item.place)?;
                }
                (Kind::Likelihood, None) => {}
            }
        }
    }
    if cut > 0 {
        say!(
            "note: {}: {cut} of {} prompts and {max_tokens} tokens exceed the policy's context of {context}; completions \
             are cut there",
            benchmark.name,
            benchmark.items.len()
        );
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
        "template_hash": fingerprint::template_sha256(policy)?, "raw": policy.is_raw(), "dtype": args.policy.dtype,
        "mode": mode,
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

fn generate(
    args: &EvalRunArgs,
    policy: &Policy,
    work: &Work<'_>,
    temperature: f64,
) -> Result<Vec<SampleRow>> {
    let bounds = generation(args, work.benchmark);
    let sampling = SamplingParams { temperature, max_tokens: bounds.max_tokens, ..SamplingParams::default() };
    let settings = EvalSettings {
        greedy: sampling.is_greedy(),
        samples: if sampling.is_greedy() { 0 } else { args.samples },
        pass_k: Vec::new(),
        sampling,
        stop: bounds.stop,
        batch: None,
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
        let mut sample = SampleRow::new(&benchmark.name, &items[j.task], numbers[j.task], j);
        numbers[sample.judged.task] += 1;
        sample.prompt = json!(policy.prompt_text(&items[sample.judged.task].task.prompt)?);
        samples.push(sample);
    }
    Ok(samples)
}
