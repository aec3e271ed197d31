//! The trained tokens of a sequence, checked.

use super::config::LossConfig;
use super::loss::{Advantage, LossError, Sequence};
use super::sampler::SamplerCorrection;

/// The trained tokens of one sequence, gathered: every vector is `[n]`.
pub(super) struct Rows {
    pub positions: Vec<usize>,
    pub logprobs: Vec<f64>,
    pub old: Vec<f64>,
    pub reference: Option<Vec<f64>>,
    pub sampler: Option<Vec<f64>>,
    pub entropy: Option<Vec<f64>>,
    pub advantages: Vec<f64>,
    /// Which of them have a policy term.
    pub chosen: Vec<bool>,
}

impl Rows {
    /// Gathers what `config` needs.
    ///
    /// # Errors
    /// [`LossError`] on wrong lengths, missing arrays, and values that are not finite where the mask is set.
    pub fn gather(index: usize, sequence: &Sequence<'_>, config: &LossConfig) -> Result<Self, LossError> {
        let expected = sequence.logprobs.len();
        let check = |array, found| {
            if found == expected {
                Ok(())
            } else {
                Err(LossError::Length { sequence: index, array, found, expected })
            }
        };
        check("loss_mask", sequence.loss_mask.len())?;
        let positions: Vec<usize> = (0..expected).filter(|&t| sequence.loss_mask[t]).collect();
        let take = |array: &'static str, values: &[f64]| {
            check(array, values.len())?;
            let finite = |&token: &usize| {
                let value = values[token];
                if value.is_finite() {
                    Ok(value)
                } else {
                    Err(LossError::NotFinite { sequence: index, token, array, value })
                }
            };
            positions.iter().map(finite).collect::<Result<Vec<f64>, _>>()
        };
        let missing = |array, needed_by| LossError::Missing { sequence: index, array, needed_by };
        if config.kl_in_loss() && sequence.ref_logprobs.is_none() {
            return Err(missing("ref_logprobs", "kl_coef"));
        }
        if config.sampler_correction != SamplerCorrection::None && sequence.sampler_logprobs.is_none() {
            return Err(missing("sampler_logprobs", "sampler_correction"));
        }
        if config.entropy_coef != 0.0 && sequence.entropy.is_none() {
            return Err(missing("entropy", "entropy_coef"));
        }
        let chosen = match (config.top_entropy_frac, sequence.policy_mask) {
            (None, _) => vec![true; positions.len()],
            (Some(_), None) => {
                let array = if sequence.entropy.is_none() { "entropy" } else { "policy_mask" };
                return Err(missing(array, "top_entropy_frac"));
            }
            (Some(_), Some(mask)) => {
                check("policy_mask", mask.len())?;
                positions.iter().map(|t| mask[*t]).collect()
            }
        };
        let advantages = match sequence.advantage {
            Advantage::Tokens(values) => take("advantage", values)?,
            Advantage::Sequence(value) if value.is_finite() => vec![value; positions.len()],
            Advantage::Sequence(value) => {
                return Err(LossError::NotFinite { sequence: index, token: 0, array: "advantage", value });
            }
        };
        Ok(Self {
            logprobs: take("logprobs", sequence.logprobs)?,
            old: take("old_logprobs", sequence.old_logprobs)?,
            reference: sequence.ref_logprobs.map(|v| take("ref_logprobs", v)).transpose()?,
            sampler: sequence.sampler_logprobs.map(|v| take("sampler_logprobs", v)).transpose()?,
            entropy: sequence.entropy.map(|v| take("entropy", v)).transpose()?,
            advantages,
            chosen,
            positions,
        })
    }

    /// log π_θ − log π_old.
    pub fn log_ratios(&self) -> Vec<f64> {
        difference(&self.logprobs, &self.old)
    }

    /// Log-probabilities of the distribution the tokens were drawn from.
    pub fn behaviour(&self) -> &[f64] {
        self.sampler.as_deref().unwrap_or(&self.old)
    }

    /// log π_θ less the log-probability under the distribution the tokens were drawn from.
    pub fn log_ratios_to_behaviour(&self) -> Vec<f64> {
        difference(&self.logprobs, self.behaviour())
    }
}

/// a − b, entry by entry.
pub(super) fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}
