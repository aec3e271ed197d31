//! The items of benchmarks in chunks, in which they are answered, written and gone on from.
use super::Plan;
use crate::error::Error;
use crate::eval::{Benchmark, EvalSettings, Item, evaluate};
use crate::policy::Policy;
use crate::results::SampleRow;
use rlvr_rewards::Task;
use rlvr_rollout::SamplingParams;
use serde_json::{Map, Value, json};
use std::ops::Range;

/// Items that are answered at a time; part of what a sample depends on.
const ITEMS: usize = 64;

/// How items are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Generate,
    Likelihood,
}

/// One chunk of an evaluation.
pub(super) struct Chunk<'a> {
    pub benchmark: &'a Benchmark,
    pub kind: Kind,
    pub items: Range<usize>,
    /// Number of the chunk within its benchmark.
    number: usize,
}

impl<'a> Chunk<'a> {
    /// All chunks of a benchmark.
    pub fn all(plan: &Plan, benchmark: &'a Benchmark) -> impl Iterator<Item = Self> + use<'a> {
        let len = benchmark.items.len();
        let chunks = move |kind| {
            (0..len.div_ceil(ITEMS)).map(move |number| Self {
                benchmark,
                kind,
                items: number * ITEMS..len.min((number + 1) * ITEMS),
                number,
            })
        };
        plan.kinds(benchmark).into_iter().flat_map(chunks)
    }

    pub fn items(&self) -> &'a [Item] {
        &self.benchmark.items[self.items.clone()]
    }

    /// Task, id and sample number of each row that the chunk leaves, in order.
    pub fn keys(&self, samples: usize) -> impl Iterator<Item = (String, &str, usize)> {
        let names = self.kind.names(&self.benchmark.name);
        self.items().iter().flat_map(move |item| {
            let id = item.task.id.as_str();
            let rows: Vec<(String, &str, usize)> = match self.kind {
                Kind::Generate => (0..samples).map(|sample| (names[0].clone(), id, sample)).collect(),
                Kind::Likelihood => names.iter().map(|name| (name.clone(), id, 0)).collect(),
            };
            rows
        })
    }

    /// The completions of a chunk that is generated, judged.
    pub fn generate(&self, plan: &Plan, policy: &Policy) -> Result<Vec<SampleRow>, Error> {
        let (benchmark, items) = (self.benchmark, self.items());
        let (bounds, temperature) = (plan.generation(benchmark), plan.temperature());
        let sampling =
            SamplingParams { temperature, max_tokens: bounds.max_tokens, ..SamplingParams::default() };
        let settings = EvalSettings {
            greedy: sampling.is_greedy(),
            samples: if sampling.is_greedy() { 0 } else { plan.samples },
            pass_k: Vec::new(),
            sampling,
            stop: bounds.stop,
            batch: None,
            // Equal noise for equal places of two chunks would correlate their items.
            seed: plan.seed ^ (self.number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        };
        let tasks: Vec<&Task> = items.iter().map(|item| &item.task).collect();
        let judged =
            evaluate((policy, &*plan.engine), &benchmark.name, &tasks, &*benchmark.reward, &settings, None);
        let (_, judged) = judged.map_err(|e| of_row(policy, items, e))?;
        let mut numbers = vec![0; items.len()];
        let mut samples = Vec::with_capacity(judged.len());
        for j in judged {
            let mut sample = SampleRow::new(&benchmark.name, &items[j.task], numbers[j.task], j);
            numbers[sample.judged.task] += 1;
            let task = &items[sample.judged.task].task;
            sample.prompt = json!(policy.prompt_text(&task.prompt)?);
            sample.images = policy.names_of(task)?;
            samples.push(sample);
        }
        Ok(samples)
    }
}

/// An error of items, with the row of the first whose pictures cannot be shown, if that is what is wrong.
fn of_row(policy: &Policy, items: &[Item], error: Error) -> Error {
    let broken = items.iter().find_map(|item| {
        let problem = policy.pictures(&item.task.images).err()?;
        Some(Error::Unusable { what: format!("{}: {problem}", item.place) })
    });
    broken.unwrap_or(error)
}

/// How many chunks, from the first, the rows on disk hold completely.
pub(super) fn done(chunks: &[Chunk<'_>], samples: usize, rows: &[Map<String, Value>]) -> usize {
    let mut rows = rows.iter();
    let is = |row: &Map<String, Value>, (task, id, sample): (String, &str, usize)| {
        row.get("task").and_then(Value::as_str) == Some(&task)
            && row.get("id").and_then(Value::as_str) == Some(id)
            && row.get("sample").and_then(Value::as_u64) == Some(sample as u64)
    };
    let whole =
        |chunk: &&Chunk<'_>| chunk.keys(samples).all(|key| rows.next().is_some_and(|row| is(row, key)));
    chunks.iter().take_while(whole).count()
}
