//! A policy answers benchmarks, into a directory: what `rlvr eval run` does beside reading its arguments and printing.
//!
//! [`Plan`] says how the items are answered, [`Measurement::open`] checks that they can be and finds what an interrupted
//! evaluation has left in the directory, [`Measurement::finish`] does the rest. What is written is what
//! [`results`] reads, compares and searches for regressions.
//!
//! | file | what |
//! |---|---|
//! | `plan.rs` | the settings, and everything of them that results depend on |
//! | `chunk.rs` | the items in chunks, in which they are answered, written and gone on from |
//! | `rank.rs` | options ranked by likelihood |

mod chunk;
mod plan;
mod rank;

pub use plan::{Mode, Plan};

use crate::error::Error;
use crate::eval::contamination::Contamination;
use crate::eval::judge::{Answer, Judge, JudgeVerdict};
use crate::eval::sample_log::SampleLog;
use crate::eval::{Benchmark, ImageArm, Item};
use crate::policy::Policy;
use crate::results::{self, Evaluation, RANKED, Results, SampleRow, TaskResult, Wanted};
use chunk::{Chunk, Kind};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// What an evaluation tells whoever watches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// So many of a benchmark's prompts leave no room for the longest completion in the policy's context.
    Cut {
        /// Name of the benchmark.
        benchmark: &'a str,
        /// Such prompts, and all.
        prompts: (usize, usize),
        /// Tokens of the longest completion.
        max_tokens: usize,
        /// Tokens that the policy can see.
        context: usize,
    },
    /// An interrupted evaluation goes on after so many chunks of so many.
    GoesOn(usize, usize),
    /// The judge is asked about so many completions that it has not judged.
    AsksAgain(usize),
    /// A chunk begins: the name of its results, the items before it, and all of the benchmark.
    Begins(&'a str, usize, usize),
    /// It is written.
    Written,
}

/// An evaluation at work. Its directory is held against other processes until it is dropped.
pub struct Measurement<'a> {
    policy: &'a Policy,
    benchmarks: &'a [Benchmark],
    plan: &'a Plan,
    judge: Option<Judge>,
    out: PathBuf,
    settings: Value,
    log: SampleLog,
    rows: Vec<Map<String, Value>>,
    /// Chunks that are written.
    done: usize,
}

impl<'a> Measurement<'a> {
    /// Begins an evaluation in the directory `out`, or goes on with the one that is there and has the same settings; a
    /// judge is asked about completions that it has not judged.
    ///
    /// # Errors
    /// A plan that makes no sense, a prompt that the policy cannot take, a directory that holds another evaluation (unless
    /// the plan replaces it) or is in use, files that cannot be read or written.
    pub fn open(
        plan: &'a Plan,
        policy: &'a Policy,
        benchmarks: &'a mut [Benchmark],
        judge: Option<Judge>,
        out: &Path,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<Self, Error> {
        plan.check()?;
        results::check_foreign(out, plan.force)?;
        for benchmark in &mut *benchmarks {
            benchmark.set_raw(policy.is_raw());
            plan.check_room(policy, benchmark, watch)?;
        }
        let benchmarks: &[Benchmark] = benchmarks;
        let mut settings = plan.settings(policy, benchmarks)?;
        settings["judge"] = json!(judge.as_ref().map(Judge::identity));
        let (log, rows) = SampleLog::open(out, &settings, plan.force)?;
        if rows.is_empty() {
            results::clear(out);
        }
        let out = out.to_owned();
        let mut run = Self { policy, benchmarks, plan, judge, out, settings, log, rows, done: 0 };
        run.go_on(watch)?;
        Ok(run)
    }

    fn chunks(&self) -> Vec<Chunk<'a>> {
        self.benchmarks.iter().flat_map(|b| Chunk::all(self.plan, b)).collect()
    }

    /// Keeps the rows of whole chunks.
    fn go_on(&mut self, watch: &mut dyn FnMut(Event<'_>)) -> Result<(), Error> {
        let (chunks, samples) = (self.chunks(), self.plan.samples);
        self.done = chunk::done(&chunks, samples, &self.rows);
        let complete: usize = chunks[..self.done].iter().map(|chunk| chunk.keys(samples).count()).sum();
        if complete < self.rows.len() {
            self.rows.truncate(complete);
            self.log.keep(&self.rows)?;
        }
        if self.done > 0 {
            watch(Event::GoesOn(self.done, chunks.len()));
        }
        if let Some(judge) = &mut self.judge
            && ask_again(judge, samples, &chunks[..self.done], &mut self.rows, watch)?
        {
            self.log.keep(&self.rows)?;
        }
        Ok(())
    }

    /// Answers what is left, chunk by chunk, and writes the results. `found` are the items of each benchmark that occur in
    /// training data, or nothing. Raised, `stop` ends it behind the chunk at work; the same call goes on later.
    ///
    /// # Errors
    /// [`Error::Interrupted`]; files that cannot be written.
    pub fn finish(
        &mut self,
        found: &[Option<Contamination>],
        stop: &AtomicBool,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<Results, Error> {
        let chunks = self.chunks();
        for chunk in &chunks[self.done..] {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let name = chunk.kind.names(&chunk.benchmark.name).swap_remove(0);
            watch(Event::Begins(&name, chunk.items.start, chunk.benchmark.items.len()));
            let new = match chunk.kind {
                Kind::Generate => {
                    let mut samples = chunk.generate(self.plan, self.policy)?;
                    if let Some(judge) = &mut self.judge {
                        give_opinions(judge, chunk.items(), &mut samples)?;
                    }
                    samples.iter().map(|sample| sample.fields(true)).collect()
                }
                Kind::Likelihood => rank::rank(self.policy, chunk.benchmark, chunk.items())?,
            };
            self.log.append(&new)?;
            self.rows.extend(new);
            // A benchmark may have more pictures than memory holds.
            self.policy.forget_images();
            self.done += 1;
            watch(Event::Written);
        }
        let results = self.results(found)?;
        results.write(&self.out)?;
        Ok(results)
    }

    fn results(&self, found: &[Option<Contamination>]) -> Result<Results, Error> {
        let mut results = Results::new(self.settings.clone());
        for (i, benchmark) in self.benchmarks.iter().enumerate() {
            let items = benchmark.items.iter().enumerate();
            let places = items.map(|(i, item)| (item.task.id.as_str(), i)).collect();
            for name in self.plan.names(benchmark) {
                let of_task =
                    self.rows.iter().filter(|row| row.get("task").and_then(Value::as_str) == Some(&name));
                let samples =
                    of_task.map(|row| SampleRow::read(row, benchmark, &places)).collect::<Option<Vec<_>>>();
                let samples = samples.ok_or_else(|| Error::Unusable {
                    what: format!("{name}: the samples on disk are not readable"),
                })?;
                let contamination = found.get(i).and_then(Option::as_ref);
                results.add(TaskResult::new(&name, benchmark, samples, contamination));
            }
        }
        if self.benchmarks.iter().any(|benchmark| ImageArm::of(&benchmark.name).is_some()) {
            let written = Evaluation::of_samples(&self.out, Wanted::default());
            let arms = written.and_then(|written| results::image_arms(&written));
            results.add_image_arms(arms.map_err(|e| Error::Unusable { what: e.to_string() })?);
        }
        Ok(results)
    }
}

/// Gives samples a judge's opinions; `judged.task` of a sample is an index of `items`.
///
/// # Errors
/// As [`Judge::judge`].
pub fn give_opinions(judge: &mut Judge, items: &[Item], samples: &mut [SampleRow]) -> Result<(), Error> {
    let answers: Vec<Answer<'_>> =
        (samples.iter()).map(|s| Answer { task: &items[s.judged.task].task, text: &s.judged.text }).collect();
    let opinions = judge.judge(&answers)?;
    for (sample, opinion) in samples.iter_mut().zip(opinions) {
        sample.opinion = Some(opinion);
    }
    Ok(())
}

/// Asks a judge about the completions of complete chunks that it has not judged; whether there were any.
fn ask_again(
    judge: &mut Judge,
    samples: usize,
    chunks: &[Chunk<'_>],
    rows: &mut [Map<String, Value>],
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<bool, Error> {
    let items = chunks.iter().flat_map(|chunk| {
        let each = if chunk.kind == Kind::Generate { samples } else { RANKED.len() };
        chunk.items().iter().flat_map(move |item| std::iter::repeat_n((chunk.kind, item), each))
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
    watch(Event::AsksAgain(open.len()));
    let text = |i: usize| rows[i].get("completion").and_then(Value::as_str).unwrap_or_default();
    let answers: Vec<Answer<'_>> =
        open.iter().map(|(i, item)| Answer { task: &item.task, text: text(*i) }).collect();
    let opinions = judge.judge(&answers)?;
    for ((i, _), opinion) in open.iter().zip(opinions) {
        rows[*i].insert("judge".to_owned(), json!(opinion));
    }
    Ok(true)
}
