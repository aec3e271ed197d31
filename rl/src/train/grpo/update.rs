//! An update of a step: the gradient of a minibatch, and the optimizer's step by it.

use super::{StepOutcome, Trainer};
use crate::algorithm::{StepTotals, policy_loss};
use crate::error::Error;
use crate::train::group::Group;
use crate::train::loss::Scored;
use crate::train::minibatch::lowest_entropy;
use crate::train::not_finite;
use crate::train::trajectory::{self, Trajectory};
use rlvr_rollout::Prompt;

impl Trainer<'_> {
    /// The gradient of an update on a minibatch, kept by the learner, and its loss; none where no token has one. `first` says
    /// that no weight has changed since the rollout.
    pub(crate) fn gradient(
        &mut self,
        prompts: &[Prompt],
        minibatch: &[Trajectory],
        first: bool,
        out: &mut StepOutcome,
    ) -> Result<Option<f64>, Error> {
        let tokens: usize = minibatch.iter().map(Trajectory::targets).sum();
        let totals = StepTotals { sequences: minibatch.len() as f64, tokens: tokens as f64 };
        let config = &self.loss;
        // Zero advantage without another term is zero gradient: no pass is spent on it, the totals still count it.
        let all =
            config.kl_in_loss() || config.entropy_coef != 0.0 || self.policy.decoder.router_aux() != 0.0;
        let is_live = |t: &&Trajectory| (all || t.has_advantage()) && t.targets() > 0;
        let mut live: Vec<Trajectory> = minibatch.iter().filter(is_live).cloned().collect();
        if live.is_empty() {
            return Ok(None);
        }
        if let Some(lowest) = config.top_entropy_frac.and_then(|frac| lowest_entropy(minibatch, frac)) {
            live.iter_mut().for_each(|t| t.choose(lowest));
            out.entropy_threshold = Some(lowest);
        }
        let (decoder, temperature) = (&self.policy.decoder, self.config.sampling.temperature);
        let mut sum = 0.0;
        let micro_batches: Vec<_> = trajectory::micro_batches(&live, self.config.micro_batch).collect();
        self.learner.begin(decoder, micro_batches.len());
        self.learner.count_routing(prompts, &micro_batches, |_| decoder);
        for micro in micro_batches {
            let pass = self.learner.forward(decoder, prompts, micro, temperature);
            if first {
                out.first.record(&pass);
            }
            let output = policy_loss(&Scored::of(&pass).sequences(), config, &totals)
                .map_err(|e| not_finite::of_loss(e, micro, &out.groups))?;
            sum += output.loss;
            out.stats.merge(&output.stats);
            out.trained_tokens += pass.targets().logprobs.len();
            self.learner.backward(pass, output.target_grads());
        }
        Ok(Some(sum))
    }

    /// Ends an update: one optimizer step by the gradient that the learner holds.
    pub(super) fn apply(&mut self, step: u64, loss: f64, out: &mut StepOutcome) -> Result<(), Error> {
        let schedule = self.config.optim.schedule_config();
        out.lr = schedule.lr_at(self.config.optim.lr, self.learner.optim.steps(), self.total_updates);
        let updated = self.learner.apply(&mut self.policy.decoder, out.lr);
        out.grad_norm = updated.map_err(|e| Error::Training { step, what: e.to_string() })?;
        out.loss += loss;
        out.router_balance = self.learner.router_balance();
        out.updates += 1;
        self.version += 1;
        self.average_in();
        Ok(())
    }

    /// The error of an update that was not made, with the first parameter whose gradient is not finite, and the first sample
    /// that gives it such a one alone.
    pub(super) fn blamed(
        &mut self,
        error: Error,
        prompts: &[Prompt],
        minibatch: &[Trajectory],
        groups: &[Group],
    ) -> Error {
        let (Error::Training { step, what }, Some(tensor)) =
            (&error, self.learner.first_not_finite(&self.policy.decoder))
        else {
            return error;
        };
        let (step, mut what) = (*step, format!("{what} (the gradient of {tensor} is NaN or infinite"));
        for one in minibatch {
            let alone = self.gradient(prompts, std::slice::from_ref(one), false, &mut StepOutcome::default());
            let broken = || self.learner.first_not_finite(&self.policy.decoder).is_some();
            if matches!(alone, Ok(Some(_))) && broken() {
                what = format!("{what}, of {}", not_finite::sample(one, groups));
                break;
            }
        }
        Error::Training { step, what: format!("{what})") }
    }
}
