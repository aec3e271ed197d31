//! Supervised training on prompts with completions: mean negative log-likelihood of the completion tokens.
use crate::config::SftConfig;
use crate::data::{TaskSource, TrainingOrder};
use crate::error::Error;
use crate::policy::Policy;
use crate::random::hash_bytes;
use crate::train::follow::blend;
use crate::train::learner::{Exchanged, Learner, Pass};
use crate::train::lesson::Lesson;
use crate::train::not_finite;
use crate::train::optim::UpdateError;
use crate::train::shards::{numbered, shards};
use crate::train::trajectory::{self, Batch, Trajectory};
use rlvr_policies::Decoder;
use rlvr_rollout::Prompt;

/// What a step did.
#[derive(Debug, Clone, Copy, Default)]
pub struct SftOutcome {
    /// Mean negative log-likelihood of the completion tokens, nats.
    pub loss: f64,
    /// Trained tokens.
    pub tokens: usize,
    /// Rows of the data.
    pub examples: usize,
    /// Gradient norm before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// The loss that balances experts, without its weight and beside `loss`; none without that loss.
    pub router_balance: Option<f64>,
    /// What ranks have exchanged.
    pub exchanged: Exchanged,
}

/// A supervised stage in progress.
pub struct SftTrainer<'a> {
    /// π_θ.
    pub policy: Policy,
    /// The average of its weights over steps, with `policy_ema`.
    pub average: Option<Decoder>,
    /// What changes its weights.
    pub learner: Learner,
    config: &'a SftConfig,
    steps: u64,
    /// Of the run: dropout draws from it.
    seed: u64,
}

/// Optimizer steps of a stage: `steps`, or as many as `epochs` takes. `length` gives the tokens of a row.
pub fn steps(
    config: &SftConfig,
    order: &TrainingOrder<'_>,
    length: impl Fn(&TaskSource, usize) -> u32,
) -> u64 {
    if let Some(steps) = config.steps {
        return steps;
    }
    let rows = config.epochs.unwrap_or(1.0) * order.len() as f64;
    let Some(most) = config.batch_tokens else {
        return (rows / config.batch as f64).ceil().max(1.0) as u64;
    };
    // As `SftTrainer::batch` takes them.
    let (mut steps, mut tokens, mut taken) = (0, 0, order.len());
    for (source, index) in order.rows_from(0).take(rows.ceil().max(1.0) as usize) {
        let length = length(source, index) as usize;
        (tokens, taken) = (tokens + length, taken + 1);
        if tokens > most || taken > order.len() {
            (steps, tokens, taken) = (steps + 1, length, 1);
        }
    }
    steps
}

impl<'a> SftTrainer<'a> {
    /// A trainer at the start of its stage.
    pub fn new(policy: Policy, config: &'a SftConfig, (seed, steps): (u64, u64)) -> Self {
        let learner = Learner::new(&config.optim, steps, &policy.decoder);
        let average = config.policy_ema.map(|_| policy.decoder.clone());
        Self { policy, average, learner, config, steps, seed }
    }

    /// The rows from `position` of the training order that a step learns.
    fn batch(&self, order: &TrainingOrder<'_>, position: u64) -> Result<Batch, Error> {
        let (mut batch, mut tokens) = (Batch::default(), 0);
        for (source, index) in order.rows_from(position) {
            let taken = batch.prompts.len();
            if self.config.batch_tokens.is_none() && taken == self.config.batch {
                break;
            }
            let lesson = self.lesson(source, index)?;
            tokens += lesson.len();
            let full = |most| tokens > most || taken == order.len();
            if taken > 0 && self.config.batch_tokens.is_some_and(full) {
                break;
            }
            lesson.add_to(&mut batch);
        }
        Ok(batch)
    }

    /// Whether a pass takes so many sequences of so many tokens together.
    fn is_micro_batch(&self, sequences: usize, tokens: usize) -> bool {
        match self.config.micro_batch_tokens {
            Some(most) => sequences == 1 || tokens <= most,
            None => sequences <= self.config.micro_batch,
        }
    }

    /// What passes compute, one behind the other.
    fn micro_batches<'b>(&self, prompts: &[Prompt], all: &'b [Trajectory]) -> Vec<&'b [Trajectory]> {
        let (mut left, mut micro) = (all, Vec::new());
        while !left.is_empty() {
            let (mut take, mut tokens) = (0, 0);
            for trajectory in left {
                tokens += prompts[trajectory.prompt].token_ids.len() + trajectory.tokens.len();
                if !self.is_micro_batch(take + 1, tokens) {
                    break;
                }
                take += 1;
            }
            let (first, rest) = left.split_at(take);
            micro.push(first);
            left = rest;
        }
        micro
    }

    fn lesson(&self, source: &TaskSource, index: usize) -> Result<Lesson, Error> {
        let example = source.example(index)?;
        let lesson = Lesson::new(&example, &self.policy, self.config.loss_on)
            .map_err(|e| source.bad_task(index, e.to_string()))?;
        let (len, context) = (lesson.len(), self.policy.decoder.config().max_position_embeddings);
        if len > context {
            let what = format!("prompt and completion have {len} tokens, the policy's context is {context}");
            return Err(source.bad_task(index, what).into());
        }
        Ok(lesson)
    }

    /// Mean negative log-likelihood of the trained tokens of the first `count` rows of a source, in nats.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn validate(&self, source: &TaskSource, count: usize) -> Result<f64, Error> {
        let (mut sum, mut tokens, mut next) = (0.0, 0, 0);
        while next < count {
            let (mut batch, mut read, first) = (Batch::default(), 0, next);
            while next < count {
                let lesson = self.lesson(source, next)?;
                read += lesson.len();
                if !self.is_micro_batch(next - first + 1, read) {
                    break;
                }
                lesson.add_to(&mut batch);
                next += 1;
            }
            let logprobs = trajectory::logprobs(&self.policy.decoder, &batch, 1.0, next - first);
            for (i, of) in logprobs.iter().enumerate() {
                if let Some(token) = of.iter().position(|v| !v.is_finite()) {
                    return Err(not_finite::of_example(&place(source, first + i), token, of[token]));
                }
                sum -= of.iter().sum::<f64>();
                tokens += of.len();
            }
        }
        Ok(sum / tokens as f64)
    }

    /// One optimizer step on the examples from `position` of the training order.
    ///
    /// # Errors
    /// A source without completions, a text that the tokenizer cannot encode, a sequence beyond the context, a
    /// log-probability that is not finite.
    pub fn step(&mut self, step: u64, order: &TrainingOrder<'_>, position: u64) -> Result<SftOutcome, Error> {
        let batch = self.batch(order, position)?;
        let examples = batch.prompts.len();
        let tokens: usize = batch.trajectories.iter().map(Trajectory::targets).sum();
        let loss = self.gradient(step, &batch, (order, position), tokens)?;
        let decoder = &mut self.policy.decoder;
        let schedule = self.config.optim.schedule_config();
        let lr = schedule.lr_at(self.config.optim.lr, self.learner.optim.steps(), self.steps);
        if !loss.is_finite() {
            let what = "the loss is NaN or infinite; nothing was changed: lower the learning rate".to_owned();
            return Err(Error::Training { step, what });
        }
        let grad_norm = match self.learner.apply(decoder, lr) {
            Ok(norm) => norm,
            Err(UpdateError::Ranks(e)) => return Err(e.into()),
            Err(e) => return Err(self.blamed(step, e.to_string(), &batch, (order, position))),
        };
        if let (Some(average), Some(decay)) = (&mut self.average, self.config.policy_ema) {
            blend(average, decoder, 1.0 - decay);
        }
        let router_balance = self.learner.router_balance();
        let exchanged = self.learner.take_exchanged();
        Ok(SftOutcome {
            loss: loss / tokens as f64,
            tokens,
            examples,
            grad_norm,
            lr,
            router_balance,
            exchanged,
        })
    }

    /// The gradient of an update, kept by the learner, and the sum of the negative log-likelihoods.
    fn gradient(
        &mut self,
        step: u64,
        batch: &Batch,
        (order, position): (&TrainingOrder<'_>, u64),
        tokens: usize,
    ) -> Result<f64, Error> {
        let count = self.learner.shards();
        let shards = shards(&batch.prompts, &batch.trajectories, count);
        let micro = numbered(shards.iter().map(|shard| self.micro_batches(&batch.prompts, shard)));
        let (decoder, seed, own) = (&self.policy.decoder, self.seed, self.learner.own_shards());
        let dropping =
            |i: usize| decoder.dropping(hash_bytes(format!("dropout {seed} {step} {i}").as_bytes()));
        self.learner.begin(decoder, micro[own.clone()].iter().map(Vec::len).sum());
        self.learner.count_routing(&batch.prompts, &micro, dropping)?;
        let mut sums = Vec::new();
        for shard in &micro[own] {
            let mut loss = 0.0;
            for (number, micro) in shard {
                let pass = self.learner.forward(&dropping(*number), &batch.prompts, micro, 1.0);
                if let Some((example, token, value)) = first_not_finite(&pass) {
                    return Err(not_finite::of_example(&place_at(order, position, example), token, value));
                }
                let logprobs = &pass.targets().logprobs;
                loss -= logprobs.iter().map(|v| f64::from(*v)).sum::<f64>();
                let slopes = vec![(-1.0 / tokens as f64) as f32; logprobs.len()];
                self.learner.backward(pass, slopes.into());
            }
            self.learner.end_shard(decoder);
            sums.push(vec![loss]);
        }
        let sums = self.learner.world().gather_numbers(sums)?;
        Ok(sums.iter().flatten().sum())
    }

    /// The error of an update that was not made, with the first tensor whose gradient is not finite, and the first row that
    /// gives it such a one alone.
    fn blamed(
        &mut self,
        step: u64,
        mut what: String,
        batch: &Batch,
        (order, position): (&TrainingOrder<'_>, u64),
    ) -> Error {
        let decoder = &self.policy.decoder;
        let tensor = match self.learner.first_not_finite_of_all(decoder) {
            Ok(tensor) => tensor,
            Err(gone) => return gone.into(),
        };
        if let Some(tensor) = tensor {
            let mut gives = |trajectory: &Trajectory| {
                self.learner.begin(decoder, 1);
                let one = std::slice::from_ref(trajectory);
                let pass = self.learner.forward(decoder, &batch.prompts, one, 1.0);
                let slopes = vec![-1.0; pass.targets().logprobs.len()];
                self.learner.backward(pass, slopes.into());
                self.learner.first_not_finite(decoder).is_some()
            };
            let row = batch.trajectories.iter().position(&mut gives);
            let row = row.map(|i| format!(", of {}", place_at(order, position, i)));
            what = format!("{what} (the gradient of {tensor} is NaN or infinite{})", row.unwrap_or_default());
        }
        Error::Training { step, what }
    }
}

/// `FILE:LINE (id)` of a row.
fn place(source: &TaskSource, index: usize) -> String {
    format!("{} ({})", source.origin(index), source.task(index).id)
}

/// The same of the row that stands so many behind a position of an order.
fn place_at(order: &TrainingOrder<'_>, position: u64, behind: usize) -> String {
    let row = order.rows_from(position).nth(behind);
    row.map_or(String::new(), |(source, index)| place(source, index))
}

/// The first log-probability of a pass that is NaN or infinite: the index of its prompt, its place among the trained tokens
/// behind it, itself.
fn first_not_finite(pass: &Pass<'_>) -> Option<(usize, usize, f64)> {
    let logprobs = pass.logprobs();
    let of = |(trajectory, logprobs): (&Trajectory, &Vec<f64>)| {
        let token = logprobs.iter().position(|v| !v.is_finite())?;
        Some((trajectory.prompt, token, logprobs[token]))
    };
    pass.micro.iter().zip(&logprobs).find_map(of)
}
