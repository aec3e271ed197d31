//! The look at every text of a run before the first step: can the policy read it, and does it fit? What one row does to a
//! run is known here, and not at the step that draws it.
//!
//! It costs one tokenisation of all data, on all cores.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use rayon::prelude::*;

use crate::config::{GrpoConfig, LossOn, RunConfig, SftConfig, StageConfig};
use crate::data::{DataError, TaskSource};
use crate::error::Error;
use crate::eval::Benchmark;
use crate::policy::Policy;
use crate::run::overlap;
use crate::train::lesson::Lesson;
use crate::train::recorded::RecordedStep;
use rlvr_rewards::Task;
use rlvr_rollout::{LongPrompt, PromptLimit};

/// Rows at fault that a message names.
const NAMED: usize = 5;

/// What is passed over because its prompt is too long.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    /// Indices of the prompts that a stage skips, by the index of the stage and the source.
    skipped: BTreeMap<(usize, String), BTreeSet<usize>>,
    /// Tokens of every row that a supervised stage learns, by the index of the stage and the source.
    lessons: BTreeMap<(usize, String), Vec<u32>>,
    /// Indices of the tasks that evaluations leave out, by data source or benchmark.
    unmeasured: BTreeMap<String, BTreeSet<usize>>,
    /// What people should know, a sentence each.
    pub(crate) notes: Vec<String>,
}

impl Texts {
    /// Whether a stage skips a prompt of its source.
    pub(crate) fn skips(&self, stage: usize, source: &str, index: usize) -> bool {
        self.skipped.get(&(stage, source.to_owned())).is_some_and(|skipped| skipped.contains(&index))
    }

    /// Tokens of every row of a source that a supervised stage learns.
    pub(crate) fn lessons(&self, stage: usize, source: &str) -> &[u32] {
        self.lessons.get(&(stage, source.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// Those of a set's tasks that evaluations measure.
    pub(crate) fn measured<'t>(&self, set: &str, tasks: Vec<&'t Task>) -> Vec<&'t Task> {
        let left_out = self.unmeasured.get(set);
        let kept = |i: &usize| left_out.is_none_or(|left_out| !left_out.contains(i));
        tasks.into_iter().enumerate().filter(|(i, _)| kept(i)).map(|(_, task)| task).collect()
    }
}

/// What a run reads.
pub(crate) struct Read<'a> {
    pub(crate) config: &'a RunConfig,
    pub(crate) sources: &'a BTreeMap<String, TaskSource>,
    /// Rollouts made elsewhere, by the index of their stage.
    pub(crate) recorded: &'a BTreeMap<usize, Vec<RecordedStep>>,
    pub(crate) benchmarks: &'a [Benchmark],
}

/// Checks every text against the policy.
///
/// # Errors
/// [`Error::Unusable`]: how many rows cannot be used, the first of them with file, line and id, and what to do.
pub(crate) fn check(read: &Read<'_>, policy: &Policy) -> Result<Texts, Error> {
    let clock = Instant::now();
    let context = policy.decoder.config().max_position_embeddings;
    let mut looked = Looked { policy, lengths: BTreeMap::new() };
    let mut texts = Texts { notes: overlap::notes(read.config, read.sources), ..Texts::default() };
    let last = read.config.last_grpo();
    for (stage, config) in read.config.stage.iter().enumerate() {
        match config {
            StageConfig::Sft(sft) => {
                let sources: Vec<_> = sft.data.names().filter_map(|name| read.sources.get(name)).collect();
                for source in &sources {
                    let lengths = examples(source, source.len(), &mut looked, sft.loss_on)?;
                    texts.lessons.insert((stage, source.name().to_owned()), lengths);
                }
                texts.notes.extend(repeated(config.name(), sft, &sources));
                if let Some(validation) = &sft.validation
                    && let Some(source) = read.sources.get(&validation.data)
                {
                    let count = source.len().min(validation.limit.unwrap_or(usize::MAX));
                    examples(source, count, &mut looked, sft.loss_on)?;
                }
            }
            StageConfig::Grpo(grpo) => {
                if let (Some(steps), Some(file)) = (read.recorded.get(&stage), &grpo.rollouts) {
                    rollouts(&file.path, steps, policy)?;
                }
                let names = grpo.data.iter().flat_map(|mix| mix.names());
                for source in names.filter_map(|name| read.sources.get(name)) {
                    let (max_prompt_tokens, long_prompt) = (grpo.max_prompt_tokens, grpo.long_prompt);
                    let limit = PromptLimit { max_prompt_tokens, long_prompt };
                    let most = limit.tokens(context, grpo.sampling.max_tokens);
                    let set = Set { name: format!("[data.{}]", source.name()), place: &|i| place(source, i) };
                    let lengths = looked.source(source, source.len())?;
                    let key = format!("stage.{}.long_prompt", config.name());
                    let long = set.long(lengths, most, long_prompt, Some(&key), &mut texts.notes)?;
                    refuse_to_cut(source, &long, (long_prompt, most), &key)?;
                    if long_prompt == LongPrompt::Skip {
                        texts.skipped.insert((stage, source.name().to_owned()), long);
                    }
                }
            }
        }
    }
    if let Some(eval) = &read.config.eval {
        let most = PromptLimit::default().tokens(context, 0);
        // An evaluation measures the whole of a prompt or leaves it out.
        let long_prompt = match last.map(|(_, grpo)| grpo.long_prompt) {
            None | Some(LongPrompt::Error) => LongPrompt::Error,
            Some(LongPrompt::Skip | LongPrompt::TruncateLeft) => LongPrompt::Skip,
        };
        let key = last.map(|(name, _)| format!("stage.{name}.long_prompt"));
        let key = key.as_deref();
        for source in eval.data.iter().filter_map(|name| read.sources.get(name)) {
            let set =
                Set { name: format!("[eval] of [data.{}]", source.name()), place: &|i| place(source, i) };
            let count = source.len().min(eval.limit.unwrap_or(usize::MAX));
            let lengths = looked.source(source, count)?;
            let long = set.long(lengths, most, long_prompt, key, &mut texts.notes)?;
            texts.unmeasured.insert(source.name().to_owned(), long);
        }
        for benchmark in read.benchmarks {
            let at = |i: usize| format!("{} ({})", benchmark.items[i].place, benchmark.items[i].task.id);
            let set = Set { name: format!("[eval] of {}", benchmark.name), place: &at };
            let tasks = benchmark.tasks_for(policy.is_raw());
            let lengths = set.lengths(tasks.len(), &|i| &tasks[i], policy)?;
            let long = set.long(&lengths, most, long_prompt, key, &mut texts.notes)?;
            texts.unmeasured.insert(benchmark.name.clone(), long);
            let unusable = tasks.iter().filter(|task| benchmark.reward.check_task(task).is_err()).count();
            if unusable > 0 {
                texts.notes.push(format!(
                    "[eval] of {}: the reference of {unusable} of its {} items cannot be used; they count as wrong",
                    benchmark.name,
                    tasks.len()
                ));
            }
        }
    }
    tracing::debug!(seconds = clock.elapsed().as_secs_f64(), "looked at every text");
    Ok(texts)
}

/// What is said of a stage whose batches have rows several times.
fn repeated(stage: &str, sft: &SftConfig, sources: &[&TaskSource]) -> Option<String> {
    let rows: usize = sources.iter().map(|source| source.len()).sum();
    let names: Vec<String> = sources.iter().map(|source| format!("[data.{}]", source.name())).collect();
    (sft.batch_tokens.is_none() && sft.batch > rows).then(|| {
        format!(
            "{} {} {rows} rows, so a batch of {} has some several times: set stage.{stage}.batch to {rows} or less",
            names.join(" and "),
            if names.len() == 1 { "has" } else { "have" },
            sft.batch
        )
    })
}

/// Sources that were looked at, with the lengths of their prompts in tokens.
struct Looked<'a> {
    policy: &'a Policy,
    lengths: BTreeMap<String, Vec<u32>>,
}

impl Looked<'_> {
    /// The first `count` tasks of a source.
    fn source(&mut self, source: &TaskSource, count: usize) -> Result<&[u32], Error> {
        if self.lengths.get(source.name()).is_none_or(|lengths| lengths.len() < count) {
            let set = Set { name: format!("[data.{}]", source.name()), place: &|i| place(source, i) };
            let lengths = set.lengths(count, &|i| source.task(i), self.policy)?;
            self.lengths.insert(source.name().to_owned(), lengths);
        }
        Ok(&self.lengths[source.name()][..count])
    }
}

/// Refuses long prompts with pictures where they would be cut on the left.
fn refuse_to_cut(
    source: &TaskSource,
    long: &BTreeSet<usize>,
    (long_prompt, most): (LongPrompt, usize),
    key: &str,
) -> Result<(), Error> {
    let seen = |i: &&usize| !source.task(**i).images.is_empty();
    match (long_prompt, long.iter().find(seen)) {
        (LongPrompt::TruncateLeft, Some(i)) => {
            let place = place(source, *i);
            let problem = format!("the prompt has images and is above {most} tokens, and is not cut");
            Err(Error::Unusable { what: format!("{place}: {problem}: set {key} = \"skip\"") })
        }
        _ => Ok(()),
    }
}

/// `FILE:LINE (id)` of a task.
fn place(source: &TaskSource, index: usize) -> String {
    format!("{} ({})", source.origin(index), source.task(index).id)
}

/// Tasks under one name.
struct Set<'a> {
    name: String,
    /// Where a task stands.
    place: &'a (dyn Fn(usize) -> String + Sync),
}

impl Set<'_> {
    /// Tokens of every prompt.
    fn lengths<'m>(
        &self,
        count: usize,
        task: &(dyn Fn(usize) -> &'m Task + Sync),
        policy: &Policy,
    ) -> Result<Vec<u32>, Error> {
        let length = |i: usize| -> Result<u32, String> {
            let task = task(i);
            let tokens = policy.prompt_tokens(&task.prompt, &task.images).map_err(|e| e.to_string())?;
            Ok(tokens as u32)
        };
        self.all(count, &length)
    }

    /// What becomes of every task, on all cores.
    fn all<T: Send>(
        &self,
        count: usize,
        look: &(dyn Fn(usize) -> Result<T, String> + Sync),
    ) -> Result<Vec<T>, Error> {
        let looked: Vec<Result<T, String>> = (0..count).into_par_iter().map(look).collect();
        let failed = looked.iter().filter(|result| result.is_err()).count();
        if failed == 0 {
            return Ok(looked.into_iter().flatten().collect());
        }
        let named = looked.iter().enumerate().filter_map(|(i, result)| Some((i, result.as_ref().err()?)));
        let mut lines: Vec<String> =
            named.take(NAMED).map(|(i, problem)| format!("{}: {problem}", (self.place)(i))).collect();
        if failed > 1 {
            lines.push(format!("{failed} of {count} rows of {} cannot be used", self.name));
        }
        Err(Error::Unusable { what: lines.join("\n") })
    }

    /// The prompts above `most` tokens. They are an error, or a note where they are skipped or truncated, and an error again
    /// where nothing would be left; `key` is where the config says which, if a stage samples.
    fn long(
        &self,
        lengths: &[u32],
        most: usize,
        long_prompt: LongPrompt,
        key: Option<&str>,
        notes: &mut Vec<String>,
    ) -> Result<BTreeSet<usize>, Error> {
        let long: BTreeSet<usize> = (0..lengths.len()).filter(|i| lengths[*i] as usize > most).collect();
        let Some(longest) = long.iter().copied().max_by_key(|i| lengths[*i]) else { return Ok(long) };
        let (n, of) = (long.len(), lengths.len());
        let prompts = format!("{n} of {of} {}", if of == 1 { "prompt" } else { "prompts" });
        let above = format!("above {most} tokens, the longest with {}", lengths[longest]);
        let what = match long_prompt {
            LongPrompt::Error => {
                let mut lines: Vec<String> = (long.iter().take(NAMED))
                    .map(|i| {
                        let tokens = lengths[*i];
                        format!("{}: the prompt has {tokens} tokens, the limit is {most}", (self.place)(*i))
                    })
                    .collect();
                let skip = key.map_or(String::new(), |key| format!(", or set {key} = \"skip\""));
                lines.push(format!(
                    "{}: {prompts} {above}: shorten them, leave them out with `filter`{skip}",
                    self.name
                ));
                lines.join("\n")
            }
            LongPrompt::Skip if n == of => format!(
                "{}: all of its {of} prompts are above {most} tokens, so with {} = \"skip\" nothing is left",
                self.name,
                key.unwrap_or("long_prompt")
            ),
            LongPrompt::TruncateLeft if most == 0 => {
                format!("{}: the policy's context has no room for a prompt", self.name)
            }
            LongPrompt::Skip | LongPrompt::TruncateLeft => {
                let done = if long_prompt == LongPrompt::Skip { "skipped" } else { "cut on the left" };
                notes.push(format!("{}: {prompts} {above} ({}), {done}", self.name, (self.place)(longest)));
                return Ok(long);
            }
        };
        Err(Error::Unusable { what })
    }
}

/// Checks the first `count` rows that a supervised stage learns, or measures. Returns their tokens, prompts included.
fn examples(
    source: &TaskSource,
    count: usize,
    looked: &mut Looked<'_>,
    on: LossOn,
) -> Result<Vec<u32>, Error> {
    // That there are none at all is no fault of a row.
    let chats = source.example(0)?.conversation.is_some();
    let policy = looked.policy;
    let prompts: &[u32] = if chats { &[] } else { looked.source(source, count)? };
    let context = policy.decoder.config().max_position_embeddings;
    let look = |i: usize| -> Result<u32, String> {
        let example = source.example(i).map_err(|e| e.to_string())?;
        let (len, what) = if let Some(messages) = &example.conversation {
            let len = Lesson::measured((messages, &example.images), policy, on).map_err(|e| e.to_string())?;
            (len, "the conversation has")
        } else {
            let ids = policy.completion(&example.completion).map_err(|e| e.to_string())?;
            if ids.is_empty() {
                return Err("the completion has no tokens".to_owned());
            }
            (prompts[i] as usize + ids.len(), "prompt and completion have")
        };
        if len > context {
            return Err(format!("{what} {len} tokens, the policy's context is {context}"));
        }
        Ok(len as u32)
    };
    let set = Set { name: format!("[data.{}]", source.name()), place: &|i| place(source, i) };
    set.all(count, &look)
}

/// Checks rollouts made elsewhere.
fn rollouts(path: &Path, steps: &[RecordedStep], policy: &Policy) -> Result<(), Error> {
    let model = policy.decoder.config();
    for rollout in steps.iter().flat_map(|step| &step.groups).flat_map(|group| &group.rollouts) {
        rollout.fits(model.vocab_size, model.max_position_embeddings).map_err(|message| DataError::Row {
            path: path.to_path_buf(),
            line: rollout.line,
            message,
        })?;
    }
    Ok(())
}

impl RunConfig {
    /// The last stage that samples, with its name.
    pub(crate) fn last_grpo(&self) -> Option<(&str, &GrpoConfig)> {
        self.stage.iter().rev().find_map(|stage| match stage {
            StageConfig::Grpo(grpo) => Some((stage.name(), &**grpo)),
            StageConfig::Sft(_) => None,
        })
    }
}
