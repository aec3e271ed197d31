//! One batch from prefill to its last completion.

use crate::completion::{Completion, FinishReason};
use crate::engine::{GenerateStats, Progress, StopCheck};
use crate::error::{LogitsProblem, RolloutError};
use crate::model::{DecodeModel, Draw};
use crate::plan::{self, Piece};
use crate::rng::CounterRng;
use crate::sampling::{Sampled, SamplingParams, sample_token};
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A distinct prompt with the completions to sample for it.
pub(crate) struct Source<'p> {
    pub(crate) token_ids: &'p [u32],
    /// Longest completion that `max_tokens` and the context allow, at least 1.
    pub(crate) budget: usize,
    pub(crate) samples: Vec<Sample>,
}

/// A completion to sample.
pub(crate) struct Sample {
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
pub(crate) struct Row<'s> {
    sample: &'s Sample,
    prompt_tokens: usize,
    budget: usize,
    /// Row of the newest logits.
    logits_row: usize,
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
    finish_reason: Option<FinishReason>,
}

impl<'s> Row<'s> {
    fn is_live(&self) -> bool {
        self.finish_reason.is_none()
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

    /// The completion and its places in the result.
    pub(crate) fn finish(self, policy_version: u64) -> (&'s [(usize, usize)], Completion) {
        let completion = Completion {
            token_ids: self.token_ids,
            logprobs: self.logprobs,
            finish_reason: self.finish_reason.unwrap_or(FinishReason::Length),
            policy_version,
        };
        (&self.sample.places, completion)
    }
}

/// What a model answers.
enum Next {
    /// Logits [rows, V] to sample from.
    Logits(Vec<f32>),
    /// A token for every unfinished row.
    Drawn(Vec<Sampled>),
}

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
}

impl<M: DecodeModel> Call<'_, M> {
    /// Samples the completions of `pieces`, which index `sources`.
    pub(crate) fn run_batch<'s>(
        &mut self,
        sources: &'s [Source<'_>],
        pieces: &[Piece],
    ) -> Result<Vec<Row<'s>>, RolloutError> {
        let longest = pieces.iter().map(|p| sources[p.group].token_ids.len()).max().unwrap_or(0);
        let (mut starts, mut tokens, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for (logits_row, piece) in pieces.iter().enumerate() {
            let source = &sources[piece.group];
            let start = longest - source.token_ids.len();
            starts.push(start);
            tokens.resize(tokens.len() + start, 0);
            tokens.extend_from_slice(source.token_ids);
            self.stats.prompt_tokens += source.token_ids.len();
            self.stats.padding_tokens += start;
            rows.extend(source.samples[piece.rows.clone()].iter().map(|sample| Row {
                sample,
                prompt_tokens: source.token_ids.len(),
                budget: source.budget,
                logits_row,
                token_ids: Vec::new(),
                logprobs: Vec::new(),
                finish_reason: None,
            }));
        }
        self.stats.batches += 1;
        tracing::debug!(prompts = pieces.len(), rows = rows.len(), longest, "rollout batch");

        let began = Instant::now();
        // Without repeated rows the prompts' cache serves the completions as it is.
        let shared = rows.len() > pieces.len();
        let capacity = if shared { longest } else { slots_needed(longest, &rows) };
        let mut cache = self.model.cache(&starts, capacity);
        let next = self.decode(&tokens, pieces.len(), &mut cache, &rows)?;
        self.stats.prefill_s += began.elapsed().as_secs_f64();
        self.sample(&mut rows, next)?;

        // Indices into `rows`, in the order of the cache.
        let mut fed: Vec<usize> = (0..rows.len()).collect();
        let began = Instant::now();
        if shared {
            fed.retain(|&r| rows[r].is_live());
            if fed.is_empty() {
                return Ok(rows);
            }
            let prompt_rows: Vec<usize> = fed.iter().map(|&r| rows[r].logits_row).collect();
            cache = self.model.select_rows(cache, &prompt_rows, slots_needed(longest, &rows));
        }
        self.stats.prefill_s += began.elapsed().as_secs_f64();

        loop {
            let began = Instant::now();
            let live: Vec<usize> = (0..fed.len()).filter(|&i| rows[fed[i]].is_live()).collect();
            if live.is_empty() {
                return Ok(rows);
            }
            if self.worth_compacting(&rows, &fed, live.len()) {
                cache = self.model.select_rows(cache, &live, slots_needed(longest, &rows));
                fed = live.iter().map(|&i| fed[i]).collect();
                self.stats.compactions += 1;
            }
            tokens.clear();
            for (i, &r) in fed.iter().enumerate() {
                rows[r].logits_row = i;
                tokens.extend(rows[r].token_ids.last());
            }
            let next = self.decode(&tokens, fed.len(), &mut cache, &rows)?;
            self.stats.decode_steps += 1;
            self.stats.decode_rows += fed.len();
            self.stats.decode_s += began.elapsed().as_secs_f64();
            self.sample(&mut rows, next)?;
        }
    }

    /// Whether the finished rows leave now: enough of them have gathered, or one would be fed beyond the context.
    fn worth_compacting(&self, rows: &[Row<'_>], fed: &[usize], live: usize) -> bool {
        if live == fed.len() {
            return false;
        }
        let sampled = fed.iter().map(|&r| rows[r].token_ids.len()).max().unwrap_or(0);
        let beyond = |r: &usize| rows[*r].prompt_tokens + sampled > self.rules.context_len;
        live as f64 <= self.compact_below * fed.len() as f64 || fed.iter().any(beyond)
    }

    fn decode(
        &self,
        tokens: &[u32],
        rows: usize,
        cache: &mut M::Cache,
        completions: &[Row<'_>],
    ) -> Result<Next, RolloutError> {
        if self.cancel.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            return Err(RolloutError::Cancelled { completion_tokens: self.progress.completion_tokens });
        }
        let sampling = self.rules.sampling;
        if sampling.is_greedy() || !sampling.truncates() {
            let draw = |row: &Row<'_>| Draw {
                row: row.logits_row,
                rng: row.sample.rng,
                position: row.token_ids.len() as u64,
            };
            let draws: Vec<Draw> = completions.iter().filter(|row| row.is_live()).map(draw).collect();
            let temperature = sampling.temperature;
            if let Some(drawn) = self.model.decode_and_draw(tokens, rows, cache, &draws, temperature) {
                return drawn.map(Next::Drawn);
            }
        }
        let logits = self.model.decode(tokens, rows, cache)?;
        let (found, vocab_size) = (logits.len(), self.rules.vocab_size);
        if found != rows * vocab_size {
            return Err(RolloutError::LogitsShape { found, rows, vocab_size });
        }
        Ok(Next::Logits(logits))
    }

    /// Samples a token for every unfinished row. Of several failures the first row's is reported.
    fn sample(&mut self, rows: &mut [Row<'_>], next: Next) -> Result<(), RolloutError> {
        let began = Instant::now();
        let rules = &self.rules;
        let mut live: Vec<&mut Row<'_>> = rows.iter_mut().filter(|row| row.is_live()).collect();
        match next {
            Next::Drawn(drawn) => {
                for (row, sampled) in live.iter_mut().zip(drawn) {
                    if !sampled.logprob.is_finite() {
                        return Err(row.invalid(LogitsProblem::NoSoftmax));
                    }
                    row.push(sampled, rules);
                }
            }
            Next::Logits(logits) if live.len() * rules.vocab_size < PARALLEL_LOGITS => {
                live.iter_mut().try_for_each(|row| row.advance(&logits, rules))?;
            }
            Next::Logits(logits) => {
                let results: Vec<Result<(), RolloutError>> =
                    live.par_iter_mut().map(|row| row.advance(&logits, rules)).collect();
                results.into_iter().collect::<Result<(), RolloutError>>()?;
            }
        }
        self.progress.completion_tokens += live.len();
        self.progress.finished += live.iter().filter(|row| !row.is_live()).count();
        self.stats.completion_tokens += live.len();
        self.stats.sampling_s += began.elapsed().as_secs_f64();
        if let Some(report) = self.on_progress {
            report(self.progress);
        }
        Ok(())
    }
}

/// Slots that the unfinished rows need.
fn slots_needed(longest: usize, rows: &[Row<'_>]) -> usize {
    let budget = rows.iter().filter(|row| row.is_live()).map(|row| row.budget).max().unwrap_or(1);
    plan::slots(longest, budget)
}
