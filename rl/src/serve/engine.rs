//! The loop that decodes for all clients: requests come in between two steps, and those whose clients have gone leave.

use super::metrics::Metrics;
use super::{Model, Options};
use crate::error::Error;
use crate::policy::Sampler;
use crate::stop::StopStrings;
use rayon::prelude::*;
use rlvr_policies::packed::{PackedBatch, PromptGroup};
use rlvr_policies::{Decoder, Tokenizer};
use rlvr_rollout::{
    Batch, BatchSettings, Call, Completion, FinishReason, New, Place, Prompt, RolloutError, SampleKey,
    Sampled, SamplingParams, Sink, Stop, StopCheck, most_probable,
};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::Duration;

/// Tokens that are scored in one pass, where no single prompt has more.
const PASS_TOKENS: usize = 512;
/// How often an idle loop looks whether the server ends.
const GLANCE: Duration = Duration::from_millis(50);

/// A request as the loop takes it.
pub(super) struct Job {
    pub(super) model: usize,
    pub(super) prompts: Vec<Prompt>,
    /// None where the prompts are only to be scored.
    pub(super) generate: Option<Generate>,
    /// Whether the prompts are scored, with so many alternatives a token.
    pub(super) score: Option<usize>,
    pub(super) reply: Sender<Event>,
    /// The client does not wait any more.
    pub(super) gone: Arc<AtomicBool>,
    /// Its place in the queue, which is free when this is dropped.
    pub(super) place: Box<dyn Send>,
}

/// What is generated for a request.
pub(super) struct Generate {
    pub(super) n: usize,
    pub(super) sampling: SamplingParams,
    pub(super) seed: u64,
    pub(super) stop: Vec<String>,
    pub(super) ignore_eos: bool,
    pub(super) alternatives: usize,
}

/// A token of a prompt or a completion.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Said {
    pub(super) id: u32,
    /// None of the first token of a prompt.
    pub(super) logprob: Option<f32>,
    /// The most probable tokens in its place.
    pub(super) alternatives: Vec<Sampled>,
}

/// What the loop has to say of a request. The channel is closed behind the last.
#[derive(Debug)]
pub(super) enum Event {
    /// The tokens of a prompt; one for each prompt that is scored.
    Scored { prompt: usize, tokens: Vec<Said> },
    /// Tokens of a completion.
    Sampled { prompt: usize, sample: usize, tokens: Vec<Said> },
    /// The end of a completion.
    Finished { prompt: usize, sample: usize, reason: FinishReason },
    /// Nothing more comes.
    Failed(String),
}

/// A request at work.
struct Active {
    model: usize,
    reply: Sender<Event>,
    gone: Arc<AtomicBool>,
    /// Events that end a completion or score a prompt, and have not been sent.
    missing: usize,
    place: Box<dyn Send>,
}

/// A prompt to score.
struct ToScore {
    id: u64,
    prompt: usize,
    token_ids: Vec<u32>,
    alternatives: usize,
}

struct Requests<'a> {
    active: HashMap<u64, Active>,
    metrics: &'a Metrics,
}

impl Requests<'_> {
    fn send(&mut self, id: u64, event: Event) {
        let Some(active) = self.active.get_mut(&id) else { return };
        active.missing -= usize::from(!matches!(event, Event::Sampled { .. }));
        if active.missing > 0 {
            if active.reply.send(event).is_err() {
                active.gone.store(true, SeqCst);
            }
        } else if let Some(Active { reply, place, .. }) = self.active.remove(&id) {
            // Free before the client can have read the reply.
            drop(place);
            let _ = reply.send(event);
        }
    }

    fn fail(&mut self, of: impl Fn(&Active) -> bool, why: &str) {
        self.active.retain(|_, active| {
            let failed = of(active);
            if failed {
                let _ = active.reply.send(Event::Failed(why.to_owned()));
            }
            !failed
        });
    }
}

impl Sink for Requests<'_> {
    fn sampled(&mut self, Place { call, prompt, sample }: Place, new: New<'_>) {
        self.metrics.completion_tokens.fetch_add(new.token_ids.len() as u64, Relaxed);
        let alternatives = new.alternatives.iter().cloned().chain(std::iter::repeat(Vec::new()));
        let tokens = new
            .token_ids
            .iter()
            .zip(new.logprobs)
            .zip(alternatives)
            .map(|((id, logprob), alternatives)| Said { id: *id, logprob: Some(*logprob), alternatives });
        self.send(call, Event::Sampled { prompt, sample, tokens: tokens.collect() });
    }

    fn finished(&mut self, Place { call, prompt, sample }: Place, completion: &Completion) {
        self.send(call, Event::Finished { prompt, sample, reason: completion.finish_reason });
    }
}

/// Stop strings of a request.
struct Stops<'a> {
    tokenizer: &'a Tokenizer,
    strings: Vec<String>,
}

impl StopCheck for Stops<'_> {
    fn should_stop(&self, token_ids: &[u32]) -> bool {
        StopStrings::new(self.tokenizer, &self.strings).should_stop(token_ids)
    }
}

struct Engine<'a> {
    models: &'a [Model],
    batches: Vec<Batch<'a, Sampler<'a>>>,
    scoring: VecDeque<ToScore>,
    requests: Requests<'a>,
    next: u64,
}

/// Answers the jobs that come in, until `ends` is set and all are answered, or nobody can send any more.
pub(super) fn run(
    models: &[Model],
    options: &Options,
    metrics: &Metrics,
    jobs: &Receiver<Job>,
    ends: &AtomicBool,
) -> Result<(), Error> {
    let samplers: Vec<Sampler<'_>> = models.iter().map(|model| Sampler(&model.policy.decoder)).collect();
    let batch = |sampler| -> Result<_, RolloutError> {
        let usual = Sampler::batch_settings(sampler);
        let settings = BatchSettings {
            max_batch_rows: options.max_batch_rows.unwrap_or(usual.max_batch_rows),
            max_batch_tokens: options
                .max_batch_tokens
                .unwrap_or_else(|| slots(sampler.0, usual.max_batch_tokens)),
            ..usual
        };
        Batch::new(sampler, settings, 0)
    };
    let batches = samplers.iter().map(batch).collect::<Result<_, _>>()?;
    let requests = Requests { active: HashMap::new(), metrics };
    let mut engine = Engine { models, batches, scoring: VecDeque::new(), requests, next: 0 };
    loop {
        loop {
            match jobs.try_recv() {
                Ok(job) => engine.admit(job),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) if engine.is_idle() => return Ok(()),
                Err(TryRecvError::Disconnected) => break,
            }
        }
        if engine.is_idle() {
            if ends.load(SeqCst) {
                return Ok(());
            }
            match jobs.recv_timeout(GLANCE) {
                Ok(job) => engine.admit(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
        engine.turn();
    }
}

/// How many tokens keys and values are kept of where nobody says so: at least the usual number, more where a quarter of the
/// free memory holds them, as clients often ask for more tokens than they need.
fn slots(decoder: &Decoder, usual: usize) -> usize {
    let room = decoder.free_bytes().map_or(0, |free| free / 4 / decoder.cache_bytes().max(1));
    room.clamp(usual, usual.max(1 << 20))
}

impl Engine<'_> {
    fn is_idle(&self) -> bool {
        self.requests.active.is_empty()
    }

    fn admit(&mut self, job: Job) {
        let (id, model) = (self.next, job.model);
        self.next += 1;
        if job.gone.load(SeqCst) {
            return;
        }
        let samples = job.generate.as_ref().map_or(0, |generate| generate.n);
        let missing = job.prompts.len() * (samples + usize::from(job.score.is_some()));
        let (reply, gone) = (job.reply, job.gone);
        self.requests.active.insert(id, Active { model, reply, gone, missing, place: job.place });
        if let Some(alternatives) = job.score {
            let to_score = |(prompt, p): (usize, &Prompt)| ToScore {
                id,
                prompt,
                token_ids: p.token_ids.clone(),
                alternatives,
            };
            self.scoring.extend(job.prompts.iter().enumerate().map(to_score));
        }
        if let Some(generate) = job.generate
            && let Err(e) = self.submit(id, model, &job.prompts, generate)
        {
            self.scoring.retain(|to| to.id != id);
            let why = e.to_string();
            if let Some(active) = self.requests.active.remove(&id) {
                let _ = active.reply.send(Event::Failed(why));
            }
        }
    }

    fn submit(
        &mut self,
        id: u64,
        model: usize,
        prompts: &[Prompt],
        generate: Generate,
    ) -> Result<(), RolloutError> {
        let policy = &self.models[model].policy;
        let stops = Stops { tokenizer: policy.tokenizer(), strings: generate.stop };
        let stop = (!stops.strings.is_empty()).then(|| -> Stop<'_> { Arc::new(stops) });
        let call = Call {
            prompts,
            group_size: generate.n,
            sampling: generate.sampling,
            key: SampleKey::new(generate.seed, 0),
            eos_token_ids: if generate.ignore_eos { Vec::new() } else { policy.eos_token_ids().to_vec() },
            stop,
            alternatives: generate.alternatives,
        };
        self.batches[model].submit(id, call)
    }

    /// Lets go of those that have gone, scores a few prompts, and gives every completion a token.
    fn turn(&mut self) {
        let (batches, scoring, metrics) = (&mut self.batches, &mut self.scoring, self.requests.metrics);
        self.requests.active.retain(|id, active| {
            let gone = active.gone.load(SeqCst);
            if gone {
                batches[active.model].cancel(*id);
                scoring.retain(|to| to.id != *id);
                metrics.cancelled.fetch_add(1, Relaxed);
            }
            !gone
        });
        self.score();
        for (model, batch) in self.batches.iter_mut().enumerate() {
            let before = (batch.stats().prompt_tokens, batch.stats().decode_steps);
            if batch.has_work()
                && let Err(e) = batch.advance(&mut self.requests)
            {
                tracing::error!("{}: {e}", self.models[model].name);
                self.requests.fail(|active| active.model == model, &e.to_string());
                self.scoring.retain(|to| self.requests.active.contains_key(&to.id));
            }
            metrics.prompt_tokens.fetch_add((batch.stats().prompt_tokens - before.0) as u64, Relaxed);
            metrics.decode_steps.fetch_add((batch.stats().decode_steps - before.1) as u64, Relaxed);
        }
        metrics.running.store(self.batches.iter().map(Batch::running).sum(), Relaxed);
        metrics.waiting.store(self.batches.iter().map(Batch::waiting).sum(), Relaxed);
    }

    /// Scores the first prompts that wait for it, of one model, as many as a pass takes.
    fn score(&mut self) {
        let Some(first) = self.scoring.front() else { return };
        let model_of = |to: &ToScore| self.requests.active.get(&to.id).map(|active| active.model);
        let (model, mut tokens) = (model_of(first), 0);
        let fits = self.scoring.iter().take_while(|to| {
            tokens += to.token_ids.len();
            tokens <= PASS_TOKENS && model_of(to) == model
        });
        let now: Vec<ToScore> = self.scoring.drain(..fits.count().max(1)).collect();
        let Some(model) = model else { return };
        let scores = scores_of(&self.models[model].policy.decoder, &now);
        self.requests.metrics.scored_tokens.fetch_add(tokens as u64, Relaxed);
        for (to, tokens) in now.into_iter().zip(scores) {
            match tokens {
                Some(tokens) => self.requests.send(to.id, Event::Scored { prompt: to.prompt, tokens }),
                None => {
                    self.batches[model].cancel(to.id);
                    if let Some(active) = self.requests.active.remove(&to.id) {
                        let what =
                            "log-probabilities of the prompt are not numbers: are the weights damaged?";
                        let _ = active.reply.send(Event::Failed(what.into()));
                    }
                }
            }
        }
        self.scoring.retain(|to| self.requests.active.contains_key(&to.id));
    }
}

/// Every token of prompts with its log-probability behind those before it, at temperature 1; None for one that is NaN.
fn scores_of(decoder: &Decoder, prompts: &[ToScore]) -> Vec<Option<Vec<Said>>> {
    let group = |to: &ToScore| (to.token_ids[..1].to_vec(), to.token_ids[1..].to_vec());
    let parts: Vec<(Vec<u32>, Vec<u32>)> = prompts.iter().map(group).collect();
    let groups: Vec<PromptGroup<'_>> =
        parts.iter().map(|(first, rest)| PromptGroup { prompt: first, completions: vec![rest] }).collect();
    let batch = PackedBatch::new(&groups);
    // What is asked for each target, in their order.
    let wanted: Vec<usize> =
        prompts.iter().flat_map(|to| std::iter::repeat_n(to.alternatives, to.token_ids.len() - 1)).collect();
    let mut alternatives = Vec::with_capacity(wanted.len());
    let stats = if wanted.iter().any(|k| *k > 0) {
        let (vocabulary, params) = (decoder.config().vocab_size, SamplingParams::default());
        decoder.logprobs_and_logits(&batch, 1.0, |logits| {
            let wanted = &wanted[alternatives.len()..];
            let most = |(row, k): (&[f32], &usize)| most_probable(row, &params, *k).unwrap_or_default();
            let found: Vec<Vec<Sampled>> = logits.par_chunks(vocabulary).zip(wanted).map(most).collect();
            alternatives.extend(found);
        })
    } else {
        decoder.logprobs(&batch, 1.0)
    };
    alternatives.resize(wanted.len(), Vec::new());
    let scored = |(to, range): (&ToScore, std::ops::Range<usize>)| {
        let logprobs = &stats.logprobs[range.clone()];
        if logprobs.iter().any(|logprob| logprob.is_nan()) {
            return None;
        }
        let first = Said { id: to.token_ids[0], logprob: None, alternatives: Vec::new() };
        let rest = to.token_ids[1..].iter().zip(logprobs).zip(&mut alternatives[range]);
        let said = |((id, logprob), found): ((&u32, &f32), &mut Vec<Sampled>)| {
            // The two ways to the same number differ in its last bits.
            found.iter_mut().filter(|other| other.token == *id).for_each(|other| other.logprob = *logprob);
            Said { id: *id, logprob: Some(*logprob), alternatives: std::mem::take(found) }
        };
        Some(std::iter::once(first).chain(rest.map(said)).collect())
    };
    prompts.iter().zip(batch.completions.clone()).map(scored).collect()
}
