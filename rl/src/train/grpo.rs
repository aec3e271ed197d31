//! One iteration of GRPO (arXiv:2402.03300, Algorithm 1): sample, verify, compare, update.
//!
//! Deviations: the loss and its gradient are computed in f64 on the host from read-back log-probabilities
//! ([`crate::algorithm`]); on-policy steps (one update a rollout) take π_old from the update's own pass, others from the
//! sampler, whose distribution is the trained one; minibatches are neighbouring groups, shuffled only where the config says so.
mod update;

use crate::algorithm::{GroupsWithoutSignal, LossConfig};
use crate::config::GrpoConfig;
use crate::engine::{Engine, Own};
use crate::error::Error;
use crate::generate::Origin;
use crate::policy::Policy;
use crate::train::ahead::{Begun, Start, Threads};
use crate::train::comparison;
use crate::train::judging::{Judgement, Judges};
use crate::train::learner::Learner;
use crate::train::minibatch::shuffled;
use crate::train::rollouts::Sampling;
use crate::train::trajectory::{self, Batch};
use rlvr_policies::Decoder;
use rlvr_rewards::{Reward, Task};
use rlvr_rollout::SampleKey;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

pub use crate::train::group::Group;
pub use crate::train::outcome::{FirstPass, Phases, StepOutcome};
pub(crate) use crate::train::rollouts::Rollouts;
pub use crate::train::rollouts::Source;

/// A GRPO stage in progress.
pub struct Trainer<'a> {
    /// π_θ.
    pub policy: Policy,
    /// π_ref, when the loss or the reward has a KL term; it moves with `reference_every` or `reference_ema`.
    pub reference: Option<Decoder>,
    /// The average of its weights over updates, with `policy_ema`.
    pub average: Option<Decoder>,
    /// What changes its weights.
    pub learner: Learner,
    /// Version of the weights, counted in optimizer steps over the run.
    pub version: u64,
    /// Steps done in the stage.
    pub steps: u64,
    /// Names of fields of the data rows that go into the records. At first none.
    pub recorded: &'a [String],
    /// Whoever samples. At first rlvr's own engine.
    pub engine: &'a dyn Engine,
    pub(super) config: &'a GrpoConfig,
    pub(super) loss: LossConfig,
    reward: Option<&'a dyn Reward>,
    seed: u64,
    /// Optimizer steps of the whole stage, for the schedule.
    total_updates: u64,
    judges: Arc<Judges>,
}

impl<'a> Trainer<'a> {
    /// A trainer at the start of its stage. `steps` is the number of rollouts of the stage.
    pub fn new(
        policy: Policy,
        reference: Option<Decoder>,
        config: &'a GrpoConfig,
        reward: Option<&'a dyn Reward>,
        seed: u64,
        steps: u64,
    ) -> Self {
        let total_updates = steps * (config.updates_per_rollout * config.minibatches) as u64;
        Self {
            learner: Learner::new(&config.optim, total_updates, &policy.decoder),
            average: config.policy_ema.map(|_| policy.decoder.clone()),
            policy,
            // One that moves changes before it has been used much.
            reference: match config.reference_period() {
                None => reference.map(Decoder::keeping_packed),
                Some(_) => reference,
            },
            version: 0,
            steps: 0,
            recorded: &[],
            engine: &Own,
            config,
            loss: config.resolved_loss(),
            reward,
            seed,
            total_updates,
            judges: Arc::default(),
        }
    }

    /// One step: rollouts, rewards, advantages, updates.
    ///
    /// # Errors
    /// A prompt that cannot be used, a loss that is not finite, cancellation. A reward that breaks is data.
    pub fn step(
        &mut self,
        step: u64,
        source: &Source,
        stop: Option<&AtomicBool>,
    ) -> Result<StepOutcome, Error> {
        // 1. Sample G completions a prompt and judge them.
        self.learner.hold(&self.policy.decoder);
        self.engine.sync(&self.policy, self.version)?;
        let policy = (&self.policy, self.version);
        let rollouts = self.sampling(stop).rollouts(step, source, policy, &self.judges)?;
        self.learn(step, rollouts, source.origin(self.engine))
    }

    /// The rest of a step: what there is to learn from its rollouts.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub(crate) fn learn(
        &mut self,
        step: u64,
        rollouts: Rollouts,
        origin: Origin,
    ) -> Result<StepOutcome, Error> {
        let mut out = StepOutcome::from(rollouts);

        // 2. What they are compared with: π_old and π_ref, where the loss or the reward asks for them.
        let clock = Instant::now();
        let mut batch = self.scored(&out.groups, origin)?;

        // 3. Compare each completion with its group.
        let advantages = comparison::advantages(&out.groups, &batch.trajectories, &self.loss);
        self.keep_taught(&mut batch, &out.groups);
        batch.trajectories.iter_mut().for_each(|t| t.advantage = advantages[t.prompt][t.sample]);
        if self.config.mask_truncated {
            batch.mask_truncated(&out.groups);
        }
        out.groups.iter_mut().zip(advantages).for_each(|(group, advantages)| group.advantages = advantages);
        out.phases.reference_s = clock.elapsed().as_secs_f64();

        // 4. Update.
        let clock = Instant::now();
        for pass in 0..self.config.updates_per_rollout {
            let shuffle = self.config.shuffle_minibatches;
            let shuffled = shuffle.then(|| shuffled(&batch.trajectories, (self.seed, step, pass)));
            let trajectories = shuffled.as_ref().unwrap_or(&batch.trajectories);
            let parts = trajectory::even_parts(trajectories.len(), self.config.minibatches);
            for (i, part) in parts.enumerate() {
                let part = &trajectories[part];
                if let Some(loss) = self.gradient(&batch.prompts, part, pass == 0 && i == 0, &mut out)? {
                    let applied = self.apply(step, loss, &mut out);
                    applied.map_err(|e| self.blamed(e, &batch.prompts, part, &out.groups))?;
                }
            }
        }
        self.learner.release();
        out.phases.update_s = clock.elapsed().as_secs_f64();
        out.exchanged = self.learner.take_exchanged();

        // 5. The record: what came of it, and what follows the policy from here on.
        out.loss /= (out.updates as f64).max(1.0);
        self.follow(&mut out);
        Ok(out)
    }

    /// Begins the rollouts of a later step, from the weights of now.
    ///
    /// # Errors
    /// A system that has no thread left.
    pub(crate) fn begin(
        &self,
        step: u64,
        tasks: Vec<&'a Task>,
        threads: &'a dyn Threads<'a>,
    ) -> Result<Begun, Error> {
        let &Self { config, engine, reward, recorded, seed, version, .. } = self;
        let (policy, judges) =
            (self.policy.with_decoder(self.policy.decoder.clone()), Arc::clone(&self.judges));
        Start { config, engine, reward, recorded, seed, judges, policy, version, step, tasks }.begin(threads)
    }

    /// Samples and judges without training, for the pre-flight.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn look(&mut self, tasks: &[&Task], stop: Option<&AtomicBool>) -> Result<Vec<Vec<Judgement>>, Error> {
        let mut out = Rollouts::default();
        // Step 0 is no training step: the noise of the first one stays its own.
        let key = SampleKey::new(self.seed, 0);
        self.sampling(stop).roll_out(key, tasks, (&self.policy, self.version), &self.judges, &mut out)?;
        Ok(out.groups.into_iter().map(|g| g.judgements).collect())
    }

    fn sampling<'s>(&'s self, cancel: Option<&'s AtomicBool>) -> Sampling<'s> {
        let Self { config, reward, recorded, seed, engine, .. } = self;
        let world = self.learner.world();
        Sampling { config, engine: *engine, world, reward: *reward, recorded, seed: *seed, cancel }
    }

    /// Every completion, or every one that is trained on, with log π_old where the pass of the update cannot serve, and log
    /// π_ref.
    fn scored(&self, groups: &[Group], origin: Origin) -> Result<Batch, Error> {
        let mut batch = Batch::of(groups);
        let (temperature, micro) = (self.config.sampling.temperature, self.config.micro_batch);
        let several = self.config.updates_per_rollout * self.config.minibatches > 1;
        let (old, by_entropy) = (several || self.loss.kl_in_reward(), self.loss.top_entropy_frac.is_some());
        // Only our own sampler is known to have sampled from this very distribution.
        let own = matches!(origin, Origin::Own);
        if old && own {
            batch.trajectories.iter_mut().for_each(|t| t.old_logprobs = t.sampler_logprobs.clone());
        }
        if old && !own || by_entropy {
            let scored = self.learner.scored(&self.policy.decoder, &batch, temperature, micro)?;
            for (t, (logprobs, entropy)) in batch.trajectories.iter_mut().zip(scored) {
                t.entropy = by_entropy.then_some(entropy);
                if old && !own {
                    t.old_logprobs = Some(logprobs);
                }
            }
        }
        // A penalty in the reward is one of every completion; otherwise those that teach nothing are spared the pass.
        if !self.loss.kl_in_reward() {
            self.keep_taught(&mut batch, groups);
        }
        if let Some(reference) = &self.reference {
            let scored = self.learner.scored(reference, &batch, temperature, micro)?;
            batch
                .trajectories
                .iter_mut()
                .zip(scored)
                .for_each(|(t, (logprobs, _))| t.ref_logprobs = Some(logprobs));
        }
        Ok(batch)
    }

    /// Leaves out what is not trained on: completions without a token, and, unless `groups_without_signal = "keep"`, groups
    /// that teach nothing.
    fn keep_taught(&self, batch: &mut Batch, groups: &[Group]) {
        let keep = self.loss.groups_without_signal == GroupsWithoutSignal::Keep;
        let dropped: Vec<bool> = groups.iter().map(|g| !keep && !g.has_signal()).collect();
        batch.trajectories.retain(|t| !dropped[t.prompt] && !t.tokens.is_empty());
    }
}
