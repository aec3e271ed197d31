//! The running batch: rows advance together, finished ones leave, waiting prompts are prefilled and join.
//!
//! The first prompts that fit are prefilled. Their first tokens are sampled from these logits; then
//! the cache is expanded to the completions still running, which advance together, one token a call. Finished rows are
//! fed on (their logits are ignored) until enough of them have gathered to be worth a copy of the cache without them;
//! then prompts that wait are prefilled and join in their place. When a group finds room for a part of its completions
//! only, its prompt stays in a cache of one row until the rest has begun. Prompts that are handed in while others run
//! join before the next token, as far as they fit.

use crate::completion::{ImageKey, Prompt};
use crate::engine::{GenerateStats, Progress, SampleKey, TruncatedPrompt};
use crate::error::{LogitsProblem, RolloutError};
use crate::model::{DecodeModel, Draw};
use crate::params::SamplingParams;
use crate::plan::{Group, Load, Piece, Queue};
use crate::prompt_limit::Fit;
use crate::rng::CounterRng;
use crate::row::{BatchRow, PromptJob, Rules, SampleJob, Sink, Stop};
use crate::sampling::Sampled;
use crate::settings::BatchSettings;
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// Completions that are asked of a batch, as of [`crate::RolloutEngine::generate`].
pub struct Call<'p, 'a> {
    /// The prompts.
    pub prompts: &'p [Prompt],
    /// Completions a prompt, at least 1.
    pub group_size: usize,
    /// How tokens are drawn.
    pub sampling: SamplingParams,
    /// Key of the randomness.
    pub key: SampleKey,
    /// Ids that end a completion.
    pub eos_token_ids: Vec<u32>,
    /// Further ends of completions.
    pub stop: Option<Stop<'a>>,
    /// How many of the most probable tokens are reported with each one sampled.
    pub alternatives: usize,
}

/// What a model answers.
enum Next {
    /// Logits [rows, V] to sample from.
    Logits(Vec<f32>),
    /// For each step, a token for every row that was unfinished at the first.
    Drawn(Vec<Vec<Sampled>>),
}

impl Next {
    /// Tokens that every row was fed for it.
    fn steps(&self) -> usize {
        match self {
            Self::Logits(_) => 1,
            Self::Drawn(steps) => steps.len(),
        }
    }
}

/// The rows that advance together.
struct Running<'a, C> {
    cache: C,
    /// In the order of the cache; finished ones are fed on until they leave.
    rows: Vec<BatchRow<'a>>,
    /// Tokens that the cache has room for in a row.
    room: usize,
    /// Rows when prompts last joined.
    full: usize,
}

impl<C> Running<'_, C> {
    fn live(&self) -> usize {
        self.rows.iter().filter(|row| row.is_live()).count()
    }

    fn load(&self) -> Load {
        load(self.rows.iter())
    }

    /// Whether enough rows have finished to be worth a prefill.
    fn has_room(&self) -> bool {
        self.live() as f64 <= JOIN_BELOW * self.full as f64
    }
}

/// Completions that have their first token but found no room: the rest of a group of which only a part runs.
struct Parked<'a, C> {
    /// One row: their prompt.
    cache: C,
    rows: VecDeque<BatchRow<'a>>,
}

/// What the unfinished of `rows` need.
fn load<'r, 'a: 'r>(rows: impl Iterator<Item = &'r BatchRow<'a>>) -> Load {
    rows.filter(|row| row.is_live()).fold(Load::default(), |load, row| Load {
        rows: load.rows + 1,
        longest: load.longest.max(row.len),
        left: load.left.max(row.left()),
    })
}

/// Tokens that the longest of `rows` has, or will have if they are to go `alone`.
fn room(rows: &[BatchRow<'_>], alone: bool) -> usize {
    let Load { longest, left, .. } = load(rows.iter());
    longest + if alone { left } else { 0 }
}

/// Waiting prompts join when at most this share of the rows is left: a prefill of few tokens costs as much as a decode
/// step of as many rows as the batch holds.
const JOIN_BELOW: f64 = 0.75;

/// Below this many logits a step is sampled on the calling thread: waking another costs more.
const PARALLEL_LOGITS: usize = 32_768;

/// Completions of several calls that are decoded together, each with settings of its own.
///
/// It is advanced a step at a time, and calls may be handed in and taken back between steps. A completion does not depend
/// on what runs beside it.
pub struct Batch<'a, M: DecodeModel> {
    model: &'a M,
    settings: BatchSettings,
    policy_version: u64,
    queue: Queue,
    /// Prompts that wait to be prefilled, by their numbers in the queue.
    jobs: BTreeMap<usize, PromptJob<'a>>,
    next_job: usize,
    /// Whether prompts have come since others last joined.
    arrived: bool,
    /// Stays when all its rows have finished, until others begin: what a model keeps for a cache is not lost then.
    running: Option<Running<'a, M::Cache>>,
    parked: Option<Parked<'a, M::Cache>>,
    progress: Progress,
    stats: GenerateStats,
}

impl<'a, M: DecodeModel> Batch<'a, M> {
    /// A batch of nothing; `policy_version` is written into every completion.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn new(model: &'a M, settings: BatchSettings, policy_version: u64) -> Result<Self, RolloutError> {
        settings.validate()?;
        Ok(Self {
            model,
            queue: Queue::new(settings.max_batch_rows, settings.max_batch_tokens),
            settings,
            policy_version,
            jobs: BTreeMap::new(),
            next_job: 0,
            arrived: false,
            running: None,
            parked: None,
            progress: Progress { completion_tokens: 0, finished: 0, total: 0 },
            stats: GenerateStats::default(),
        })
    }

    /// Adds the completions of a call, whose places will have the number `id`. Of what waits, calls begin in the order in
    /// which they were handed in.
    ///
    /// # Errors
    /// Invalid settings and prompts that cannot be used; nothing has been added then.
    pub fn submit(&mut self, id: u64, call: Call<'_, 'a>) -> Result<(), RolloutError> {
        call.sampling.validate()?;
        if call.group_size == 0 {
            return Err(RolloutError::EmptyGroup);
        }
        let jobs = self.jobs_of(id, call)?;
        let first = self.next_job;
        let groups: Vec<Group> = (jobs.iter().enumerate())
            .map(|(i, job)| Group {
                number: first + i,
                call: id,
                tokens: job.token_ids.len(),
                rows: job.samples.len(),
                budget: job.budget,
            })
            .collect();
        self.progress.total += groups.iter().map(|g| g.rows).sum::<usize>();
        self.next_job += jobs.len();
        self.arrived |= !jobs.is_empty();
        self.jobs.extend((first..).zip(jobs));
        self.queue.extend(groups);
        Ok(())
    }

    /// Takes a call back: nothing is reported of it any more, and its rows leave.
    pub fn cancel(&mut self, id: u64) {
        self.queue.remove(id);
        self.jobs.retain(|_, job| job.rules.call != id);
        let of_call = |row: &&mut BatchRow<'_>| row.rules.call == id && row.is_live();
        for row in self.running.iter_mut().flat_map(|r| &mut r.rows).filter(of_call) {
            row.give_up();
        }
        self.parked.take_if(|parked| parked.rows.iter().any(|row| row.rules.call == id));
    }

    /// Whether there is something to sample.
    pub fn has_work(&self) -> bool {
        !self.queue.is_empty() || self.running.as_ref().is_some_and(|r| r.live() > 0)
    }

    /// Completions that are being decoded.
    pub fn running(&self) -> usize {
        self.running.as_ref().map_or(0, Running::live)
    }

    /// Completions that wait.
    pub fn waiting(&self) -> usize {
        self.queue.rows()
    }

    /// What has been done since the beginning.
    pub fn stats(&self) -> &GenerateStats {
        &self.stats
    }

    /// Where the completions stand.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    pub(crate) fn into_stats(self) -> GenerateStats {
        self.stats
    }

    /// Does the next thing, if there is one: lets rows leave and join, or samples a token for every row.
    ///
    /// # Errors
    /// Logits that cannot be sampled, a failing model. Nothing is left in the batch then.
    pub fn advance(&mut self, sink: &mut dyn Sink) -> Result<(), RolloutError> {
        let result = self.turn(sink);
        if result.is_err() {
            self.queue.clear();
            self.jobs.clear();
            (self.running, self.parked) = (None, None);
        }
        result
    }

    fn turn(&mut self, sink: &mut dyn Sink) -> Result<(), RolloutError> {
        let running = self.running.take();
        let load = running.as_ref().map_or_else(Load::default, Running::load);
        let leave = running.as_ref().is_none_or(|r| self.worth_compacting(r));
        let append = self.model.can_append();
        // A prompt that comes while others run shall not wait until some of them have finished.
        let arrived = append && std::mem::take(&mut self.arrived);
        let join =
            load.rows == 0 || append && (arrived || leave && running.as_ref().is_some_and(Running::has_room));
        let pieces = if join { self.queue.take(load, append) } else { Vec::new() };
        self.running = match running {
            running if !pieces.is_empty() => self.join(running, &pieces, sink)?,
            Some(running) if load.rows > 0 && leave => Some(self.without_finished(running, true)),
            Some(mut running) if load.rows > 0 => {
                self.step(&mut running, sink)?;
                Some(running)
            }
            idle => idle,
        };
        Ok(())
    }

    /// The distinct prompts of a call in the order of their first occurrence, with their samples.
    fn jobs_of(&mut self, id: u64, call: Call<'_, 'a>) -> Result<Vec<PromptJob<'a>>, RolloutError> {
        let Call { prompts, group_size, sampling, key, eos_token_ids, stop, alternatives } = call;
        let rules = Arc::new(Rules { call: id, sampling, eos_token_ids, stop, alternatives });
        let mut jobs: Vec<PromptJob<'a>> = Vec::new();
        // Two pictures of one size under one question have the same ids.
        let mut known: HashMap<(&[u32], &[ImageKey]), usize> = HashMap::new();
        let (mut truncated, mut skipped) = (Vec::new(), Vec::new());
        for (p, prompt) in prompts.iter().enumerate() {
            let (token_ids, budget) = match self.fitting(p, prompt, &rules.sampling)? {
                Fit::Whole(token_ids) => (token_ids, self.budget(token_ids, &rules.sampling)),
                Fit::Truncated { token_ids, dropped_tokens } => {
                    truncated.push(TruncatedPrompt { prompt: p, dropped_tokens });
                    (token_ids, self.budget(token_ids, &rules.sampling))
                }
                Fit::Skipped => {
                    skipped.push(p);
                    continue;
                }
            };
            let at = *known.entry((token_ids, &prompt.images)).or_insert_with(|| {
                let (token_ids, images) = (token_ids.to_vec(), prompt.images.clone());
                jobs.push(PromptJob {
                    token_ids,
                    images,
                    budget,
                    samples: Vec::new(),
                    rules: Arc::clone(&rules),
                });
                jobs.len() - 1
            });
            let samples = &mut jobs[at].samples;
            for g in 0..group_size {
                match samples.first_mut() {
                    Some(only) if rules.sampling.is_greedy() => only.places.push((p, g)),
                    _ => {
                        let (prompt, sample) = (key.first_prompt + p as u64, key.first_sample + g as u64);
                        let rng = CounterRng::new(key.seed, key.step, prompt, sample);
                        samples.push(SampleJob { rng, places: vec![(p, g)] });
                    }
                }
            }
        }
        self.stats.truncated_prompts.extend(truncated);
        self.stats.skipped_prompts.extend(skipped);
        Ok(jobs)
    }

    fn budget(&self, token_ids: &[u32], sampling: &SamplingParams) -> usize {
        sampling.max_tokens.min(self.model.context_len() - token_ids.len())
    }

    /// What is used of a prompt.
    fn fitting<'p>(
        &self,
        p: usize,
        Prompt { token_ids, images }: &'p Prompt,
        sampling: &SamplingParams,
    ) -> Result<Fit<'p>, RolloutError> {
        let (vocab_size, context) = (self.model.vocab_size(), self.model.context_len());
        if let Some(&token) = token_ids.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(RolloutError::TokenOutOfRange { prompt: p, token, vocab_size });
        }
        let fit = self.settings.prompt_limit().fit(p, token_ids, context, sampling.max_tokens)?;
        if matches!(fit, Fit::Truncated { .. }) && !images.is_empty() {
            let what = format!("prompt {p} has images and is too long: it cannot be truncated on the left");
            return Err(RolloutError::model(what));
        }
        Ok(fit)
    }
}

impl<'a, M: DecodeModel> Batch<'a, M> {
    /// Feeds every row its newest token and samples the next.
    fn step(&mut self, running: &mut Running<'a, M::Cache>, sink: &mut dyn Sink) -> Result<(), RolloutError> {
        let began = Instant::now();
        let rows = &mut running.rows;
        let tokens: Vec<u32> = rows.iter().map(|row| row.newest).collect();
        for (i, row) in rows.iter_mut().enumerate() {
            (row.logits_row, row.len) = (i, row.len + 1);
        }
        let left = load(rows.iter()).left;
        let context = rows.iter().map(|row| self.model.context_len() + 1 - row.len).min().unwrap_or(1);
        let steps = self.model.steps_between_reads().min(left).min(context);
        let next = self.decode(&tokens, steps, &mut running.cache, rows)?;
        let steps = next.steps();
        rows.iter_mut().for_each(|row| row.len += steps - 1);
        self.stats.decode_steps += steps;
        self.stats.decode_rows += steps * rows.len();
        self.stats.decode_s += began.elapsed().as_secs_f64();
        self.sample(rows, &next, sink)?;
        if let Next::Logits(logits) = next {
            self.model.reuse(&mut running.cache, logits);
        }
        Ok(())
    }

    /// Whether the finished rows leave now: enough of them have gathered, or one would be fed beyond the context.
    fn worth_compacting(&self, running: &Running<'_, M::Cache>) -> bool {
        let (live, all) = (running.live(), running.rows.len());
        let beyond = |row: &BatchRow<'_>| row.len >= self.model.context_len();
        let below = if self.model.copies_rows() { self.settings.compact_below } else { 1.0 };
        live < all && (live as f64 <= below * all as f64 || running.rows.iter().any(beyond))
    }

    /// The unfinished rows; the cache has room for all their tokens if they are to go `alone`.
    fn without_finished(&mut self, running: Running<'a, M::Cache>, alone: bool) -> Running<'a, M::Cache> {
        let began = Instant::now();
        let Running { cache, rows, full, .. } = running;
        let live: Vec<usize> = (0..rows.len()).filter(|&i| rows[i].is_live()).collect();
        let rows: Vec<BatchRow<'a>> = rows.into_iter().filter(BatchRow::is_live).collect();
        let room = room(&rows, alone);
        let cache = self.model.select_rows(cache, &live, room);
        self.stats.compactions += 1;
        self.stats.decode_s += began.elapsed().as_secs_f64();
        Running { cache, rows, room, full }
    }

    /// Lets the finished rows leave and `pieces` join what is left. None when nothing is left to be fed.
    fn join(
        &mut self,
        running: Option<Running<'a, M::Cache>>,
        pieces: &[Piece],
        sink: &mut dyn Sink,
    ) -> Result<Option<Running<'a, M::Cache>>, RolloutError> {
        let (kept, over) = match running {
            Some(running) if running.live() == 0 => (None, Some(running)),
            Some(running) if running.live() == running.rows.len() => (Some(running), None),
            running => (running.map(|r| self.without_finished(r, false)), None),
        };
        // The cache of a batch whose rows have all finished is dropped only behind the prefill: caches that live at the same
        // time share the packed weights, which would else be packed anew for the prompts.
        let joining = self.begin(pieces, kept.is_none(), sink)?;
        drop(over);
        let began = Instant::now();
        let all = || kept.iter().chain(&joining).flat_map(|part| &part.rows);
        let Load { longest, left, .. } = load(all());
        let refill = kept.is_some() && !joining.is_empty();
        let mut parts = kept.into_iter().chain(joining);
        let mut whole = parts.next();
        for part in parts {
            whole = whole.map(|mut whole| {
                let cache = self.model.append_rows(whole.cache, part.cache, longest + left);
                whole.rows.extend(part.rows);
                Running { cache, rows: whole.rows, room: longest + left, full: 0 }
            });
        }
        // What was to be joined, and has remained alone because all others are finished, has no room yet.
        let whole = whole.map(|whole| {
            let Running { mut cache, rows, mut room, .. } = whole;
            if longest + left > room {
                room = longest + left;
                cache = self.model.select_rows(cache, &(0..rows.len()).collect::<Vec<_>>(), room);
            }
            Running { cache, full: rows.len(), rows, room }
        });
        self.stats.refills += usize::from(refill);
        self.stats.prefill_s += began.elapsed().as_secs_f64();
        Ok(whole)
    }

    /// The rows of `pieces` with their first tokens, those that are not finished by them: of a group that waits with its
    /// prompt prefilled, and of new prompts. `alone`: nothing else runs.
    fn begin(
        &mut self,
        pieces: &[Piece],
        alone: bool,
        sink: &mut dyn Sink,
    ) -> Result<Vec<Running<'a, M::Cache>>, RolloutError> {
        let mut parts = Vec::new();
        // The rest of a group comes first, see [`Queue::take`].
        let rest = pieces.iter().take_while(|piece| piece.rows.start > 0).count();
        let (rest, new) = pieces.split_at(rest);
        for piece in rest {
            let Some(Parked { cache, mut rows }) = self.parked.take() else { continue };
            let waiting = rows.split_off(piece.rows.len().min(rows.len()));
            let rows: Vec<BatchRow<'a>> = rows.into_iter().filter(BatchRow::is_live).collect();
            if waiting.iter().any(BatchRow::is_live) {
                self.parked = Some(Parked { cache: cache.clone(), rows: waiting });
            }
            if !rows.is_empty() {
                let room = room(&rows, alone && new.is_empty());
                let cache = self.model.select_rows(cache, &vec![0; rows.len()], room);
                parts.push(Running { cache, rows, room, full: 0 });
            }
        }
        if !new.is_empty() {
            parts.extend(self.prefill(new, alone && parts.is_empty(), sink)?);
        }
        Ok(parts)
    }

    /// Feeds new prompts and samples the first tokens of all their completions; those that the pieces leave out are parked.
    fn prefill(
        &mut self,
        pieces: &[Piece],
        alone: bool,
        sink: &mut dyn Sink,
    ) -> Result<Option<Running<'a, M::Cache>>, RolloutError> {
        let began = Instant::now();
        let (mut prompts, mut images, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for (logits_row, piece) in pieces.iter().enumerate() {
            let Some(mut job) = self.jobs.remove(&piece.group) else { continue };
            prompts.push(std::mem::take(&mut job.token_ids));
            images.push(std::mem::take(&mut job.images));
            rows.extend(BatchRow::of(job, prompts[logits_row].len(), logits_row));
        }
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let images: Vec<&[ImageKey]> = images.iter().map(Vec::as_slice).collect();
        let begun: usize = pieces.iter().map(|piece| piece.rows.len()).sum();
        let longest = prompts.iter().map(|p| p.len()).max().unwrap_or(0);
        self.stats.prompt_tokens += prompts.iter().map(|p| p.len()).sum::<usize>();
        self.stats.batches += 1;
        tracing::debug!(prompts = pieces.len(), rows = begun, longest, alone, "rollout batch");

        // Without repeated rows the prompts' cache serves the completions as it is.
        let shared = rows.len() > pieces.len();
        let mut space = longest + if shared || !alone { 0 } else { load(rows.iter()).left - 1 };
        let (mut cache, next) = self.feed((&prompts, &images), space, &rows)?;
        self.stats.prefill_s += began.elapsed().as_secs_f64();
        self.sample(&mut rows, &next, sink)?;

        let began = Instant::now();
        // Only the last group may be taken in part.
        let waiting: VecDeque<BatchRow<'a>> = rows.drain(begun..).collect();
        if waiting.iter().any(BatchRow::is_live) {
            let last = prompts.last().map_or(0, |p| p.len());
            let cache = self.model.select_rows(cache.clone(), &[pieces.len() - 1], last);
            self.parked = Some(Parked { cache, rows: waiting });
        }
        // A row that is over already may be longer than those that it would join will ever be.
        if shared || !alone && rows.iter().any(|row| !row.is_live()) {
            rows.retain(BatchRow::is_live);
            if rows.is_empty() {
                return Ok(None);
            }
            let prompts: Vec<usize> = rows.iter().map(|row| row.logits_row).collect();
            space = room(&rows, alone);
            cache = self.model.select_rows(cache, &prompts, space);
        }
        self.stats.prefill_s += began.elapsed().as_secs_f64();
        Ok(Some(Running { cache, rows, room: space, full: 0 }))
    }

    /// Feeds prompts to the model.
    fn feed(
        &self,
        (prompts, images): (&[&[u32]], &[&[ImageKey]]),
        room: usize,
        completions: &[BatchRow<'_>],
    ) -> Result<(M::Cache, Next), RolloutError> {
        if images.iter().any(|of| !of.is_empty()) {
            let (cache, logits) = self.model.prefill_seeing(prompts, images, room)?;
            return Ok((cache, self.logits(logits, prompts.len())?));
        }
        if let Some((draws, temperature)) = draws(completions)
            && let Some(drawn) = self.model.prefill_and_draw(prompts, room, &draws, temperature)
        {
            return drawn.map(|(cache, drawn)| (cache, Next::Drawn(vec![drawn])));
        }
        let (cache, logits) = self.model.prefill(prompts, room)?;
        Ok((cache, self.logits(logits, prompts.len())?))
    }

    /// Feeds a token to every row of the cache, and what is drawn for it until there are `steps`, if the model draws.
    fn decode(
        &self,
        tokens: &[u32],
        steps: usize,
        cache: &mut M::Cache,
        completions: &[BatchRow<'_>],
    ) -> Result<Next, RolloutError> {
        if let Some((draws, temperature)) = draws(completions)
            && let Some(drawn) = self.model.decode_and_draw(tokens, cache, &draws, steps, temperature)
        {
            return drawn.map(Next::Drawn);
        }
        let logits = self.model.decode(tokens, cache)?;
        self.logits(logits, tokens.len())
    }

    fn logits(&self, logits: Vec<f32>, rows: usize) -> Result<Next, RolloutError> {
        let (found, vocab_size) = (logits.len(), self.model.vocab_size());
        if found != rows * vocab_size {
            return Err(RolloutError::LogitsShape { found, rows, vocab_size });
        }
        Ok(Next::Logits(logits))
    }

    /// Samples a token for every unfinished row. Of several failures the first row's is reported.
    fn sample(
        &mut self,
        rows: &mut [BatchRow<'_>],
        next: &Next,
        sink: &mut dyn Sink,
    ) -> Result<(), RolloutError> {
        let began = Instant::now();
        let vocab = self.model.vocab_size();
        let mut live: Vec<&mut BatchRow<'_>> = rows.iter_mut().filter(|row| row.is_live()).collect();
        let before: usize = live.iter().map(|row| row.token_ids.len()).sum();
        match next {
            Next::Drawn(steps) => {
                for drawn in steps {
                    // What was drawn for a row after its end is of no use.
                    for (row, sampled) in live.iter_mut().zip(drawn).filter(|(row, _)| row.is_live()) {
                        if !sampled.logprob.is_finite() {
                            return Err(row.invalid(LogitsProblem::NoSoftmax));
                        }
                        row.push(*sampled);
                    }
                }
            }
            Next::Logits(logits) if live.len() * vocab < PARALLEL_LOGITS => {
                live.iter_mut().try_for_each(|row| row.advance(logits, vocab))?;
            }
            Next::Logits(logits) => {
                let results: Vec<Result<(), RolloutError>> =
                    live.par_iter_mut().map(|row| row.advance(logits, vocab)).collect();
                results.into_iter().collect::<Result<(), RolloutError>>()?;
            }
        }
        let sampled = live.iter().map(|row| row.token_ids.len()).sum::<usize>() - before;
        self.progress.completion_tokens += sampled;
        self.progress.finished += live.iter().filter(|row| !row.is_live()).count();
        self.stats.completion_tokens += sampled;
        self.stats.sampling_s += began.elapsed().as_secs_f64();
        rows.iter_mut().for_each(|row| row.report(self.policy_version, sink));
        sink.stepped(self.progress);
        Ok(())
    }
}

/// What the model may draw itself, and the temperature: where that is the same for all rows, and neither truncations nor
/// alternatives are asked for.
fn draws(completions: &[BatchRow<'_>]) -> Option<(Vec<Draw>, f64)> {
    let live = || completions.iter().filter(|row| row.is_live());
    let temperature = live().next()?.rules.sampling.temperature;
    let may = |row: &BatchRow<'_>| {
        let (sampling, alternatives) = (&row.rules.sampling, row.rules.alternatives);
        alternatives == 0
            && sampling.temperature == temperature
            && (sampling.is_greedy() || !sampling.truncates())
    };
    let draw = |row: &BatchRow<'_>| Draw {
        row: row.logits_row,
        rng: row.sample.rng,
        position: row.token_ids.len() as u64,
    };
    live().all(may).then(|| (live().map(draw).collect(), temperature))
}
