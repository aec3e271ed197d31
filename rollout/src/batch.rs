//! The running batch: rows advance together, finished ones leave, waiting prompts are prefilled and join.

use crate::completion::{Completion, FinishReason, ImageKey};
use crate::engine::{GenerateStats, Progress, StopCheck};
use crate::error::{LogitsProblem, RolloutError};
use crate::model::{DecodeModel, Draw};
use crate::params::SamplingParams;
use crate::plan::{Load, Piece, Queue};
use crate::rng::CounterRng;
use crate::sampling::{Sampled, sample_token};
use rayon::prelude::*;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A distinct prompt with the completions to sample for it.
pub(crate) struct PromptJob<'p> {
    pub(crate) token_ids: &'p [u32],
    /// Pictures in the places of image tokens.
    pub(crate) images: &'p [ImageKey],
    /// Longest completion that `max_tokens` and the context allow, at least 1.
    pub(crate) budget: usize,
    pub(crate) samples: Vec<SampleJob>,
}

/// A completion to sample.
pub(crate) struct SampleJob {
    pub(crate) rng: CounterRng,
    /// Where in the result it belongs, (prompt, sample): one place, but for greedy decoding.
    pub(crate) places: Vec<(usize, usize)>,
}

/// How a token is chosen and what ends a completion.
pub(crate) struct Rules<'a> {
    pub(crate) sampling: &'a SamplingParams,
    pub(crate) eos_token_ids: &'a [u32],
    pub(crate) stop: Option<&'a dyn StopCheck>,
    pub(crate) vocab_size: usize,
    pub(crate) context_len: usize,
}

/// A completion in the making.
pub(crate) struct BatchRow<'s> {
    sample: &'s SampleJob,
    budget: usize,
    /// Row of the newest logits.
    logits_row: usize,
    /// Tokens in the cache: the prompt, and what was sampled but for the newest.
    len: usize,
    newest: u32,
    /// Moved out when the completion is delivered.
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
    finish_reason: Option<FinishReason>,
    delivered: bool,
}

impl<'s> BatchRow<'s> {
    fn new(source: &PromptJob<'_>, sample: &'s SampleJob, logits_row: usize) -> Self {
        Self {
            sample,
            budget: source.budget,
            logits_row,
            len: source.token_ids.len(),
            newest: 0,
            token_ids: Vec::new(),
            logprobs: Vec::new(),
            finish_reason: None,
            delivered: false,
        }
    }

    fn is_live(&self) -> bool {
        self.finish_reason.is_none()
    }

    /// Tokens that it may still be fed: the last one sampled never is.
    fn left(&self) -> usize {
        self.budget - self.token_ids.len().min(self.budget)
    }

    /// Samples the next token from the logits [rows, V] of the batch.
    fn advance(&mut self, logits: &[f32], rules: &Rules<'_>) -> Result<(), RolloutError> {
        let position = self.token_ids.len();
        let logits = &logits[self.logits_row * rules.vocab_size..][..rules.vocab_size];
        let uniform = self.sample.rng.uniform(position as u64);
        let sampled = sample_token(logits, rules.sampling, uniform).map_err(|p| self.invalid(p))?;
        self.push(sampled, rules);
        Ok(())
    }

    fn invalid(&self, problem: LogitsProblem) -> RolloutError {
        let (prompt, sample) = self.sample.places[0];
        RolloutError::InvalidLogits { prompt, sample, position: self.token_ids.len(), problem }
    }

    fn push(&mut self, sampled: Sampled, rules: &Rules<'_>) {
        self.newest = sampled.token;
        self.token_ids.push(sampled.token);
        self.logprobs.push(sampled.logprob);
        self.finish_reason = self.ended(rules);
    }

    fn ended(&self, rules: &Rules<'_>) -> Option<FinishReason> {
        let ids = &self.token_ids;
        let stops = ids.last().is_some_and(|id| rules.eos_token_ids.contains(id))
            || rules.sampling.stop_sequences.iter().any(|sequence| ids.ends_with(sequence))
            || rules.stop.is_some_and(|stop| stop.should_stop(ids));
        if stops {
            Some(FinishReason::Stop)
        } else if ids.len() >= rules.sampling.max_tokens {
            Some(FinishReason::Length)
        } else if ids.len() >= self.budget {
            Some(FinishReason::Context)
        } else {
            None
        }
    }
}

/// Who wants to know of whole groups, by the index of their prompt.
pub(crate) type OnGroup<'a> = Option<&'a dyn Fn(usize, &[Completion])>;

/// The completions of a call, as they come in.
pub(crate) struct Results<'a> {
    policy_version: u64,
    /// `[prompt][sample]`.
    groups: Vec<Vec<Option<Completion>>>,
    /// Completions that a prompt still lacks.
    missing: Vec<usize>,
    on_group: OnGroup<'a>,
}

impl<'a> Results<'a> {
    pub(crate) fn new(prompts: usize, group_size: usize, policy_version: u64, on_group: OnGroup<'a>) -> Self {
        let (groups, missing) = (vec![vec![None; group_size]; prompts], vec![group_size; prompts]);
        Self { policy_version, groups, missing, on_group }
    }

    /// Takes the completions that have just finished, and reports the groups that are whole with them.
    fn collect(&mut self, rows: &mut [BatchRow<'_>]) {
        for row in rows.iter_mut().filter(|row| !row.delivered) {
            let Some(finish_reason) = row.finish_reason else { continue };
            row.delivered = true;
            let completion = Completion {
                token_ids: std::mem::take(&mut row.token_ids),
                logprobs: std::mem::take(&mut row.logprobs),
                finish_reason,
                policy_version: self.policy_version,
            };
            for &(p, g) in &row.sample.places {
                self.groups[p][g] = Some(completion.clone());
                self.missing[p] -= 1;
                if let (0, Some(report)) = (self.missing[p], self.on_group) {
                    let group: Vec<Completion> = self.groups[p].iter().flatten().cloned().collect();
                    report(p, &group);
                }
            }
        }
    }

    /// All of them. Only the groups of skipped prompts have gaps, and they are all gap.
    pub(crate) fn into_groups(self) -> Vec<Vec<Completion>> {
        self.groups.into_iter().map(|group| group.into_iter().flatten().collect()).collect()
    }
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
struct Running<'s, C> {
    cache: C,
    /// In the order of the cache; finished ones are fed on until they leave.
    rows: Vec<BatchRow<'s>>,
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
struct Parked<'s, C> {
    /// One row: their prompt.
    cache: C,
    rows: VecDeque<BatchRow<'s>>,
}

/// What the unfinished of `rows` need.
fn load<'r, 's: 'r>(rows: impl Iterator<Item = &'r BatchRow<'s>>) -> Load {
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

/// A running call of `generate`.
pub(crate) struct Call<'a, M: DecodeModel> {
    pub(crate) model: &'a M,
    pub(crate) rules: Rules<'a>,
    pub(crate) compact_below: f64,
    pub(crate) on_progress: Option<&'a dyn Fn(Progress)>,
    pub(crate) cancel: Option<&'a AtomicBool>,
    pub(crate) progress: Progress,
    pub(crate) stats: GenerateStats,
    pub(crate) results: Results<'a>,
}

impl<M: DecodeModel> Call<'_, M> {
    /// Samples all completions of the queue, which indexes `sources`.
    pub(crate) fn run(&mut self, sources: &[PromptJob<'_>], mut queue: Queue) -> Result<(), RolloutError> {
        let mut running: Option<Running<'_, M::Cache>> = None;
        let mut parked = None;
        loop {
            let load = running.as_ref().map_or_else(Load::default, Running::load);
            if running.as_ref().is_none_or(|r| self.worth_compacting(r)) {
                let append = self.model.can_append();
                let join = load.rows == 0 || append && running.as_ref().is_some_and(Running::has_room);
                let pieces = if join { queue.take(load, append) } else { Vec::new() };
                if load.rows == 0 && pieces.is_empty() {
                    return Ok(());
                }
                running = if pieces.is_empty() {
                    running.map(|r| self.without_finished(r, true))
                } else {
                    self.join(running, sources, &pieces, &mut parked)?
                };
                continue;
            }
            if let Some(running) = &mut running {
                self.step(running)?;
            }
        }
    }

    /// Feeds every row its newest token and samples the next.
    fn step(&mut self, running: &mut Running<'_, M::Cache>) -> Result<(), RolloutError> {
        let began = Instant::now();
        let rows = &mut running.rows;
        let tokens: Vec<u32> = rows.iter().map(|row| row.newest).collect();
        for (i, row) in rows.iter_mut().enumerate() {
            (row.logits_row, row.len) = (i, row.len + 1);
        }
        let left = load(rows.iter()).left;
        let context = rows.iter().map(|row| self.rules.context_len + 1 - row.len).min().unwrap_or(1);
        let steps = self.model.steps_between_reads().min(left).min(context);
        let next = self.decode(&tokens, steps, &mut running.cache, rows)?;
        let steps = next.steps();
        rows.iter_mut().for_each(|row| row.len += steps - 1);
        self.stats.decode_steps += steps;
        self.stats.decode_rows += steps * rows.len();
        self.stats.decode_s += began.elapsed().as_secs_f64();
        self.sample(rows, &next)?;
        if let Next::Logits(logits) = next {
            self.model.reuse(&mut running.cache, logits);
        }
        Ok(())
    }

    /// Whether the finished rows leave now: enough of them have gathered, or one would be fed beyond the context.
    fn worth_compacting(&self, running: &Running<'_, M::Cache>) -> bool {
        let (live, all) = (running.live(), running.rows.len());
        let beyond = |row: &BatchRow<'_>| row.len >= self.rules.context_len;
        let below = if self.model.copies_rows() { self.compact_below } else { 1.0 };
        live < all && (live as f64 <= below * all as f64 || running.rows.iter().any(beyond))
    }

    /// The unfinished rows; the cache has room for all their tokens if they are to go `alone`.
    fn without_finished<'s>(&mut self, running: Running<'s, M::Cache>, alone: bool) -> Running<'s, M::Cache> {
        let began = Instant::now();
        let Running { cache, rows, full, .. } = running;
        let live: Vec<usize> = (0..rows.len()).filter(|&i| rows[i].is_live()).collect();
        let rows: Vec<BatchRow<'s>> = rows.into_iter().filter(BatchRow::is_live).collect();
        let room = room(&rows, alone);
        let cache = self.model.select_rows(cache, &live, room);
        self.stats.compactions += 1;
        self.stats.decode_s += began.elapsed().as_secs_f64();
        Running { cache, rows, room, full }
    }

    /// Lets the finished rows leave and `pieces` join what is left. None when nothing is left to be fed.
    fn join<'s>(
        &mut self,
        running: Option<Running<'s, M::Cache>>,
        sources: &'s [PromptJob<'_>],
        pieces: &[Piece],
        parked: &mut Option<Parked<'s, M::Cache>>,
    ) -> Result<Option<Running<'s, M::Cache>>, RolloutError> {
        let (kept, over) = match running {
            Some(running) if running.live() == 0 => (None, Some(running)),
            running => (running.map(|r| self.without_finished(r, false)), None),
        };
        // The cache of a batch whose rows have all finished is dropped only behind the prefill: caches that live at the same
        // time share the packed weights, which would else be packed anew for the prompts.
        let joining = self.begin(sources, pieces, kept.is_none(), parked)?;
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
    fn begin<'s>(
        &mut self,
        sources: &'s [PromptJob<'_>],
        pieces: &[Piece],
        alone: bool,
        parked: &mut Option<Parked<'s, M::Cache>>,
    ) -> Result<Vec<Running<'s, M::Cache>>, RolloutError> {
        let mut parts = Vec::new();
        // The rest of a group comes first, see [`Queue::take`].
        let rest = pieces.iter().take_while(|piece| piece.rows.start > 0).count();
        let (rest, new) = pieces.split_at(rest);
        for piece in rest {
            let Some(Parked { cache, mut rows }) = parked.take() else { continue };
            let waiting = rows.split_off(piece.rows.len().min(rows.len()));
            let rows: Vec<BatchRow<'s>> = rows.into_iter().filter(BatchRow::is_live).collect();
            if waiting.iter().any(BatchRow::is_live) {
                *parked = Some(Parked { cache: cache.clone(), rows: waiting });
            }
            if !rows.is_empty() {
                let room = room(&rows, alone && new.is_empty());
                let cache = self.model.select_rows(cache, &vec![0; rows.len()], room);
                parts.push(Running { cache, rows, room, full: 0 });
            }
        }
        if !new.is_empty() {
            parts.extend(self.prefill(sources, new, alone && parts.is_empty(), parked)?);
        }
        Ok(parts)
    }

    /// Feeds new prompts and samples the first tokens of all their completions; those that the pieces leave out are parked.
    fn prefill<'s>(
        &mut self,
        sources: &'s [PromptJob<'_>],
        pieces: &[Piece],
        alone: bool,
        parked: &mut Option<Parked<'s, M::Cache>>,
    ) -> Result<Option<Running<'s, M::Cache>>, RolloutError> {
        let began = Instant::now();
        let prompts: Vec<&[u32]> = pieces.iter().map(|p| sources[p.group].token_ids).collect();
        let images: Vec<&[ImageKey]> = pieces.iter().map(|p| sources[p.group].images).collect();
        let mut rows = Vec::new();
        for (logits_row, piece) in pieces.iter().enumerate() {
            let samples = &sources[piece.group].samples;
            rows.extend(
                samples.iter().map(|sample| BatchRow::new(&sources[piece.group], sample, logits_row)),
            );
        }
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
        self.sample(&mut rows, &next)?;

        let began = Instant::now();
        // Only the last group may be taken in part.
        let waiting: VecDeque<BatchRow<'s>> = rows.drain(begun..).collect();
        if waiting.iter().any(BatchRow::is_live) {
            let last = prompts.last().map_or(0, |p| p.len());
            let cache = self.model.select_rows(cache.clone(), &[pieces.len() - 1], last);
            *parked = Some(Parked { cache, rows: waiting });
        }
        if shared {
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
        self.check_cancelled()?;
        if images.iter().any(|of| !of.is_empty()) {
            let (cache, logits) = self.model.prefill_seeing(prompts, images, room)?;
            return Ok((cache, self.logits(logits, prompts.len())?));
        }
        if let Some(draws) = self.draws(completions) {
            let temperature = self.rules.sampling.temperature;
            if let Some(drawn) = self.model.prefill_and_draw(prompts, room, &draws, temperature) {
                return drawn.map(|(cache, drawn)| (cache, Next::Drawn(vec![drawn])));
            }
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
        self.check_cancelled()?;
        if let Some(draws) = self.draws(completions) {
            let temperature = self.rules.sampling.temperature;
            if let Some(drawn) = self.model.decode_and_draw(tokens, cache, &draws, steps, temperature) {
                return drawn.map(Next::Drawn);
            }
        }
        let logits = self.model.decode(tokens, cache)?;
        self.logits(logits, tokens.len())
    }

    fn check_cancelled(&self) -> Result<(), RolloutError> {
        match self.cancel {
            Some(flag) if flag.load(Ordering::Relaxed) => {
                Err(RolloutError::Cancelled { completion_tokens: self.progress.completion_tokens })
            }
            _ => Ok(()),
        }
    }

    /// What the model may draw itself; none where truncations are asked for.
    fn draws(&self, completions: &[BatchRow<'_>]) -> Option<Vec<Draw>> {
        let sampling = self.rules.sampling;
        let draw = |row: &BatchRow<'_>| Draw {
            row: row.logits_row,
            rng: row.sample.rng,
            position: row.token_ids.len() as u64,
        };
        let may = sampling.is_greedy() || !sampling.truncates();
        may.then(|| completions.iter().filter(|row| row.is_live()).map(draw).collect())
    }

    fn logits(&self, logits: Vec<f32>, rows: usize) -> Result<Next, RolloutError> {
        let (found, vocab_size) = (logits.len(), self.rules.vocab_size);
        if found != rows * vocab_size {
            return Err(RolloutError::LogitsShape { found, rows, vocab_size });
        }
        Ok(Next::Logits(logits))
    }

    /// Samples a token for every unfinished row. Of several failures the first row's is reported.
    fn sample(&mut self, rows: &mut [BatchRow<'_>], next: &Next) -> Result<(), RolloutError> {
        let began = Instant::now();
        let rules = &self.rules;
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
                        row.push(*sampled, rules);
                    }
                }
            }
            Next::Logits(logits) if live.len() * rules.vocab_size < PARALLEL_LOGITS => {
                live.iter_mut().try_for_each(|row| row.advance(logits, rules))?;
            }
            Next::Logits(logits) => {
                let results: Vec<Result<(), RolloutError>> =
                    live.par_iter_mut().map(|row| row.advance(logits, rules)).collect();
                results.into_iter().collect::<Result<(), RolloutError>>()?;
            }
        }
        let sampled = live.iter().map(|row| row.token_ids.len()).sum::<usize>() - before;
        self.progress.completion_tokens += sampled;
        self.progress.finished += live.iter().filter(|row| !row.is_live()).count();
        self.stats.completion_tokens += sampled;
        self.stats.sampling_s += began.elapsed().as_secs_f64();
        self.results.collect(rows);
        if let Some(report) = self.on_progress {
            report(self.progress);
        }
        Ok(())
    }
}
