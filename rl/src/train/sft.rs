//! Supervised training on prompts with completions: mean negative log-likelihood of the completion tokens.
use crate::config::SftConfig;
use crate::data::TaskSource;
use crate::error::Error;
use crate::policy::Policy;
use crate::random::hash_bytes;
use crate::train::adamw::AdamWConfig;
use crate::train::learner::Learner;
use crate::train::trajectory::{Batch, Trajectory};

/// What a step did.
#[derive(Debug, Clone, Copy, Default)]
pub struct SftOutcome {
    /// Mean negative log-likelihood of the completion tokens, nats.
    pub loss: f64,
    /// Completion tokens.
    pub tokens: usize,
    /// Gradient norm before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// The loss that balances experts, without its weight and beside `loss`; none without that loss.
    pub router_balance: Option<f64>,
}

/// A supervised stage in progress.
pub struct SftTrainer<'a> {
    /// π_θ.
    pub policy: Policy,
    /// What changes its weights.
    pub learner: Learner,
    config: &'a SftConfig,
    steps: u64,
    /// Of the run: dropout draws from it.
    seed: u64,
}

/// Optimizer steps of a stage: `steps`, or as many as `epochs` takes.
pub fn steps(config: &SftConfig, examples: usize) -> u64 {
    let epochs = config.epochs.unwrap_or(1.0);
    config.steps.unwrap_or_else(|| (epochs * examples as f64 / config.batch as f64).ceil().max(1.0) as u64)
}

impl<'a> SftTrainer<'a> {
    /// A trainer at the start of its stage.
    pub fn new(policy: Policy, config: &'a SftConfig, (seed, steps): (u64, u64)) -> Self {
        let learner = Learner::new(AdamWConfig::from(&config.optim), &policy.decoder);
        Self { policy, learner, config, steps, seed }
    }

    /// One optimizer step on the examples from `position` of the training order.
    ///
    /// # Errors
    /// A source without completions, a text that the tokenizer cannot encode, a sequence beyond the context.
    pub fn step(&mut self, step: u64, source: &TaskSource, position: u64) -> Result<SftOutcome, Error> {
        let context = self.policy.decoder.config().max_position_embeddings;
        let mut batch = Batch::default();
        for i in 0..self.config.batch as u64 {
            let index = source.index_at(position + i);
            let example = source.example(index)?;
            let at = |e: Error| source.bad_task(index, e.to_string());
            let prompt = self.policy.prompt(&example.prompt).map_err(at)?.token_ids;
            let completion = self.policy.completion(&example.completion).map_err(at)?;
            let len = prompt.len() + completion.len();
            if len > context {
                let what =
                    format!("prompt and completion have {len} tokens, the policy's context is {context}");
                return Err(source.bad_task(index, what).into());
            }
            batch.trajectories.push(Trajectory::completion(batch.prompts.len(), 0, completion));
            batch.prompts.push(prompt);
        }
        let tokens: usize = batch.trajectories.iter().map(Trajectory::targets).sum();
        let mut loss = 0.0;
        let decoder = &mut self.policy.decoder;
        let micro_batches: Vec<_> = batch.trajectories.chunks(self.config.micro_batch).collect();
        let seed = self.seed;
        let dropping =
            |i: usize| decoder.dropping(hash_bytes(format!("dropout {seed} {step} {i}").as_bytes()));
        self.learner.begin(decoder, micro_batches.len());
        self.learner.count_routing(&batch.prompts, &micro_batches, dropping);
        for (i, micro) in micro_batches.into_iter().enumerate() {
            let pass = self.learner.forward(&dropping(i), &batch.prompts, micro, 1.0);
            let logprobs = &pass.targets().logprobs;
            loss -= logprobs.iter().map(|v| f64::from(*v)).sum::<f64>();
            let slopes = vec![(-1.0 / tokens as f64) as f32; logprobs.len()];
            self.learner.backward(pass, slopes.into());
        }
        let schedule = self.config.optim.schedule_config();
        let lr = schedule.lr_at(self.config.optim.lr, self.learner.optim.steps(), self.steps);
        if !loss.is_finite() {
            let what = "the loss is NaN or infinite; nothing was changed: lower the learning rate".to_owned();
            return Err(Error::Training { step, what });
        }
        let updated = self.learner.apply(decoder, lr);
        let grad_norm = updated.map_err(|e| Error::Training { step, what: e.to_string() })?;
        let router_balance = self.learner.router_balance();
        Ok(SftOutcome { loss: loss / tokens as f64, tokens, grad_norm, lr, router_balance })
    }
}
