//! An update of a step: the gradient of a minibatch, and the optimizer's step by it.

use super::{StepOutcome, Trainer};
use crate::algorithm::{StepTotals, policy_loss};
use crate::error::Error;
use crate::train::group::Group;
use crate::train::loss::Scored;
use crate::train::minibatch::lowest_entropy;
use crate::train::not_finite;
use crate::train::shards::{Micro, Sums, numbered, shards};
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
        let Some((live, totals)) = self.live(minibatch, out) else { return Ok(None) };
        let most = self.config.micro_batch;
        let count = self.learner.shards();
        let live = if count == 1 { vec![live] } else { shards(prompts, &live, count) };
        let micro = numbered(live.iter().map(|shard| trajectory::micro_batches(shard, most).collect()));
        let decoder = &self.policy.decoder;
        let own = self.learner.own_shards();
        self.learner.begin(decoder, micro[own.clone()].iter().map(Vec::len).sum());
        self.learner.count_routing(prompts, &micro, |_| decoder)?;
        if count == 1 {
            let sums = self.shard(prompts, &micro[0], (&totals, first), Sums::of(out), &out.groups)?;
            return Ok(Some(sums.give(out)));
        }
        let mut of_shards = Vec::new();
        for shard in own {
            of_shards.push(self.shard(
                prompts,
                &micro[shard],
                (&totals, first),
                Sums::default(),
                &out.groups,
            )?);
            self.learner.end_shard(&self.policy.decoder);
        }
        let mut sums = Sums::of(out);
        sums.merge(&self.learner.sums(of_shards)?);
        Ok(Some(sums.give(out)))
    }

    /// What of a minibatch has a gradient, and the totals of all of it; none where nothing has.
    fn live(&self, minibatch: &[Trajectory], out: &mut StepOutcome) -> Option<(Vec<Trajectory>, StepTotals)> {
        let tokens: usize = minibatch.iter().map(Trajectory::targets).sum();
        let totals = StepTotals { sequences: minibatch.len() as f64, tokens: tokens as f64 };
        let config = &self.loss;
        // Zero advantage without another term is zero gradient: no pass is spent on it, the totals still count it.
        let all =
            config.kl_in_loss() || config.entropy_coef != 0.0 || self.policy.decoder.router_aux() != 0.0;
        let is_live = |t: &&Trajectory| (all || t.has_advantage()) && t.targets() > 0;
        let mut live: Vec<Trajectory> = minibatch.iter().filter(is_live).cloned().collect();
        if live.is_empty() {
            return None;
        }
        if let Some(lowest) = config.top_entropy_frac.and_then(|frac| lowest_entropy(minibatch, frac)) {
            live.iter_mut().for_each(|t| t.choose(lowest));
            out.entropy_threshold = Some(lowest);
        }
        Some((live, totals))
    }

    /// Adds the gradient of a shard to those that the learner holds, and what it reports to `sums`.
    fn shard(
        &mut self,
        prompts: &[Prompt],
        micro_batches: &[Micro<'_>],
        (totals, first): (&StepTotals, bool),
        mut sums: Sums,
        groups: &[Group],
    ) -> Result<Sums, Error> {
        let (decoder, temperature) = (&self.policy.decoder, self.config.sampling.temperature);
        for (_, micro) in micro_batches {
            let pass = self.learner.forward(decoder, prompts, micro, temperature);
            if first {
                sums.first.record(&pass);
            }
            let output = policy_loss(&Scored::of(&pass).sequences(), &self.loss, totals)
                .map_err(|e| not_finite::of_loss(e, micro, groups))?;
            sums.loss += output.loss;
            sums.stats.merge(&output.stats);
            sums.trained_tokens += pass.targets().logprobs.len();
            self.learner.backward(pass, output.target_grads());
        }
        Ok(sums)
    }

    /// The gradient of one trajectory alone, kept by the learner of this rank; whether it has one.
    fn gradient_alone(&mut self, prompts: &[Prompt], one: &Trajectory, groups: &[Group]) -> bool {
        let one = std::slice::from_ref(one);
        let Some((live, totals)) = self.live(one, &mut StepOutcome::default()) else { return false };
        self.learner.begin(&self.policy.decoder, 1);
        self.shard(prompts, &[(0, &live)], (&totals, false), Sums::default(), groups).is_ok()
    }

    /// Ends an update: one optimizer step by the gradient that the learner holds.
    pub(super) fn apply(&mut self, step: u64, loss: f64, out: &mut StepOutcome) -> Result<(), Error> {
        let schedule = self.config.optim.schedule_config();
        out.lr = schedule.lr_at(self.config.optim.lr, self.learner.optim.steps(), self.total_updates);
        let updated = self.learner.apply(&mut self.policy.decoder, out.lr);
        out.grad_norm = updated.map_err(|e| e.at_step(step))?;
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
        let Error::Training { step, what } = &error else { return error };
        let tensor = match self.learner.first_not_finite_of_all(&self.policy.decoder) {
            Ok(Some(tensor)) => tensor,
            Ok(None) => return error,
            Err(gone) => return gone.into(),
        };
        let (step, mut what) = (*step, format!("{what} (the gradient of {tensor} is NaN or infinite"));
        for one in minibatch {
            let alone = self.gradient_alone(prompts, one, groups);
            if alone && self.learner.first_not_finite(&self.policy.decoder).is_some() {
                what = format!("{what}, of {}", not_finite::sample(one, groups));
                break;
            }
        }
        Error::Training { step, what: format!("{what})") }
    }
}
