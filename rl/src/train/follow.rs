//! What follows the policy while it learns: the weight of the KL penalty, a reference that moves (arXiv:2404.09656), the
//! average of its weights.
use crate::algorithm::kl::adapted_coef;
use crate::train::grpo::Trainer;
use crate::train::outcome::StepOutcome;
use rayon::prelude::*;
use rlvr_policies::Decoder;
use rlvr_policies::decoder::Compute;

impl Trainer<'_> {
    /// The weight of the KL penalty in the next step, where it follows a target and is not what the config says.
    pub fn kl_coef(&self) -> Option<f64> {
        self.loss.kl_target.map(|_| self.loss.kl_coef)
    }

    /// Goes on from a weight of [`Self::kl_coef`].
    pub fn set_kl_coef(&mut self, coef: f64) {
        self.loss.kl_coef = coef;
    }

    /// Ends a step.
    pub(super) fn follow(&mut self, out: &mut StepOutcome) {
        self.steps += 1;
        out.kl_coef = self.kl_coef();
        if let Some(target) = self.loss.kl_target.filter(|_| out.stats.tokens > 0.0) {
            let kl = out.stats.per_token(out.stats.ref_kl_sum);
            let completions = out.groups.iter().map(|g| g.completions.len()).sum();
            self.loss.kl_coef =
                adapted_coef(self.loss.kl_coef, kl, target, completions, self.loss.kl_horizon);
        }
        let due = self.config.reference_period().is_some_and(|every| self.steps.is_multiple_of(every));
        if let Some(reference) = self.reference.as_mut().filter(|_| due) {
            match self.config.reference_ema {
                // It shares the weights until the policy changes them.
                None => *reference = self.policy.decoder.clone(),
                Some(share) => blend(reference, &self.policy.decoder, share),
            }
        }
    }

    /// Takes an update into the average of the weights.
    pub(super) fn average_in(&mut self) {
        if let (Some(average), Some(decay)) = (&mut self.average, self.config.policy_ema) {
            blend(average, &self.policy.decoder, 1.0 - decay);
        }
    }
}

/// Moves the trained parameters of a decoder by a share of the way to those of another one of the same layout:
/// `p ← p + share·(q − p)`, in f64 and rounded once.
pub fn blend(into: &mut Decoder, from: &Decoder, share: f64) {
    let mix = |values: &mut [f32], from: &[f32]| {
        values.par_iter_mut().zip(from).for_each(|(p, q)| {
            let (at, to) = (f64::from(*p), f64::from(*q));
            *p = (at + share * (to - at)) as f32;
        });
    };
    match into.compute() {
        Compute::Host => into.update_on_host(|i, _, values| mix(values, &from.param_values(i))),
        Compute::Device => {
            for i in (0..into.params().len()).filter(|i| from.trained()[*i]) {
                let mut values = into.param_values(i);
                mix(&mut values, &from.param_values(i));
                into.set_param(i, values);
            }
        }
    }
}
