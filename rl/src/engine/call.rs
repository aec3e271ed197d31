//! One call for completions: a request a prompt, groups as they end.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rlvr_rollout::{Completion, Fit, GenerateStats, RolloutError, SampleKey, StopCheck, TruncatedPrompt};

use super::Remote;
use super::checked::{End, checked};
use crate::config::Handover;
use crate::error::Error;
use crate::generate::{Generated, OnGroup, Request};
use crate::policy::Policy;
use crate::random;
use crate::servers::dispatch::{self, Spread};
use crate::servers::{Ask, Choice, EngineError};
use crate::stop::StopStrings;

/// A prompt that is asked about.
struct Job<'a> {
    prompt: usize,
    ids: &'a [u32],
    max_tokens: usize,
}

/// A call for completions.
pub(super) struct Call<'a> {
    remote: &'a Remote,
    policy: &'a Policy,
    request: &'a Request<'a>,
    /// What the weights of the request are called there, where they were handed over.
    name: Option<String>,
    jobs: Vec<Job<'a>>,
    stats: GenerateStats,
    begun: Instant,
}

impl<'a> Call<'a> {
    /// What servers are to be asked.
    ///
    /// # Errors
    /// Settings or prompts that cannot be used; weights that were not handed over.
    pub(super) fn new(
        remote: &'a Remote,
        policy: &'a Policy,
        request: &'a Request<'a>,
    ) -> Result<Self, Error> {
        request.sampling.validate()?;
        if request.samples == 0 {
            return Err(RolloutError::EmptyGroup.into());
        }
        let name = remote.held().name(request.version).map(str::to_owned);
        if remote.hands_over() && name.is_none() {
            let what = format!("the weights of version {} were not handed over", request.version);
            return Err(EngineError::Unsupported(what).into());
        }
        let mut call = Self {
            remote,
            policy,
            request,
            name,
            jobs: Vec::new(),
            stats: GenerateStats::default(),
            begun: Instant::now(),
        };
        call.jobs = call.jobs()?;
        Ok(call)
    }

    /// The completions of all prompts.
    ///
    /// # Errors
    /// Cancellation; a server that does not answer as it should, after all tries.
    pub(super) fn complete(mut self, on_group: OnGroup<'_>) -> Result<Generated, Error> {
        let (request, config) = (self.request, &self.remote.config);
        let strings = StopStrings::new(self.policy.tokenizer(), request.stop);
        let stop = (!request.stop.is_empty()).then_some(&strings as &dyn StopCheck);
        let mut groups: Vec<Vec<Completion>> = vec![Vec::new(); request.prompts.len()];
        let (mut sampled, mut unversioned) = (0, false);
        let done = |job: usize, choices: Vec<Choice>| {
            let Job { prompt, max_tokens, .. } = self.jobs[job];
            unversioned |= choices.iter().any(|choice| choice.versions.is_none());
            let ends = self.policy.eos_token_ids();
            let end = End { sampling: request.sampling, stop, max_tokens, ends };
            let mut group: Vec<Completion> =
                choices.into_iter().map(|choice| end.completion(choice, request.version)).collect();
            sampled += group.iter().map(|c| c.token_ids.len()).sum::<usize>();
            if request.sampling.is_greedy() {
                group = vec![group.remove(0); request.samples];
            }
            if let Some(on_group) = on_group {
                on_group(prompt, &group);
            }
            groups[prompt] = group;
            Ok(())
        };
        let spread = Spread { places: &self.remote.places, tries: config.tries, cancel: request.cancel };
        let work = |job: usize, failures: u32| self.ask(&self.jobs[job], failures);
        match spread.run(self.jobs.len(), work, || self.remote.abort(), done) {
            Ok(()) => {}
            Err(dispatch::Ended::Cancelled) => {
                return Err(RolloutError::Cancelled { completion_tokens: sampled }.into());
            }
            Err(dispatch::Ended::Failed(error)) => return Err(error.into()),
        }
        if let Some(label) = self.label().filter(|_| unversioned) {
            self.remote.check_versions(label)?;
        }
        self.stats.completion_tokens = sampled;
        self.stats.prompt_tokens = self.jobs.iter().map(|job| job.ids.len()).sum();
        self.stats.decode_s = self.begun.elapsed().as_secs_f64();
        Ok((groups, self.stats))
    }

    /// What weights are called in answers, where these say so.
    fn label(&self) -> Option<&str> {
        self.name.as_deref().filter(|_| self.remote.config.sync == Handover::Folder)
    }

    /// The model that a server is asked for.
    fn model(&self, server: usize) -> &str {
        let adapter = self.name.as_deref().filter(|_| self.is_adapter());
        let first = || self.remote.facts[server].models.first().map(String::as_str);
        adapter.or(self.remote.config.model.as_deref()).or_else(first).unwrap_or_default()
    }

    fn is_adapter(&self) -> bool {
        self.remote.config.sync == Handover::Adapter
    }

    /// The completions of a prompt from one of the servers: another one each time.
    fn ask(&self, job: &Job<'_>, failures: u32) -> Result<Vec<Choice>, EngineError> {
        let (remote, request) = (self.remote, self.request);
        let number = remote.requests.fetch_add(1, Ordering::Relaxed);
        let index = (number as usize + failures as usize) % remote.servers.len();
        let (server, id) = (&remote.servers[index], format!("rlvr-{}-{number}", remote.nonce));
        let ask = Ask {
            id: &id,
            model: self.model(index),
            adapter: self.is_adapter(),
            ids: job.ids,
            samples: if request.sampling.is_greedy() { 1 } else { request.samples },
            seed: seed(request.key, job.prompt),
            sampling: request.sampling,
            max_tokens: job.max_tokens,
            ends: self.policy.eos_token_ids(),
        };
        let place = (index, id.clone());
        let in_flight = || remote.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        in_flight().insert(place.clone());
        let answer = remote.protocol.sample(server, &ask);
        in_flight().remove(&place);
        let mut choices = answer?;
        if choices.len() != ask.samples {
            let what = format!("{} completions came, {} were asked for", choices.len(), ask.samples);
            return Err(server.wrong(what));
        }
        choices.sort_by_key(|choice| choice.index);
        let vocab = self.policy.decoder.config().vocab_size;
        let check = |choice: &Choice| checked(choice, &ask, vocab, self.label());
        choices.iter().try_for_each(check).map_err(|what| server.wrong(what))?;
        Ok(choices)
    }

    /// What is asked about each prompt that fits.
    fn jobs(&mut self) -> Result<Vec<Job<'a>>, Error> {
        let request = self.request;
        let own = self.policy.decoder.config().max_position_embeddings;
        let theirs = self.remote.facts.iter().filter_map(|f| f.context).map(|c| c as usize);
        let context = theirs.fold(own, usize::min);
        let mut jobs = Vec::new();
        for (prompt, of) in request.prompts.iter().enumerate() {
            if !of.images.is_empty() {
                let what = "pictures are shown to rlvr's own engine only: take the [engine] table away";
                return Err(EngineError::Unsupported(what.to_owned()).into());
            }
            let fitted = request.limit.fit(prompt, &of.token_ids, context, request.sampling.max_tokens)?;
            if let Fit::Truncated { dropped_tokens, .. } = fitted {
                self.stats.truncated_prompts.push(TruncatedPrompt { prompt, dropped_tokens });
            }
            let Some(ids) = fitted.token_ids() else {
                self.stats.skipped_prompts.push(prompt);
                continue;
            };
            let max_tokens = request.sampling.max_tokens.min(context - ids.len());
            jobs.push(Job { prompt, ids, max_tokens });
        }
        Ok(jobs)
    }
}

/// The seed of a prompt's samples; servers add the number of the sample.
fn seed(key: SampleKey, prompt: usize) -> u64 {
    random::word(&[key.seed, key.step, key.first_prompt + prompt as u64, key.first_sample]) >> 2
}
