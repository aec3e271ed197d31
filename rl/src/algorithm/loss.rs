//! The policy loss and its gradient with respect to the log-probabilities.

use super::config::{KlEstimator, LossConfig};
use super::diagnostics::LossStats;
use super::kl;
use super::objective::{Bound, Token};
use super::ratio::{Ratio, mean};
use super::rows::{Rows, difference};
use rlvr_policies::targets::TargetGrads;

/// Advantage of a completion: one number, or one a token.
#[derive(Debug, Clone, Copy)]
pub enum Advantage<'a> {
    /// The same for every token.
    Sequence(f64),
    /// `[T]`; read only where the loss mask is set.
    Tokens(&'a [f64]),
}

/// One completion, ragged: no padding is needed, and what lies under a cleared mask is never read.
///
/// # Shapes
/// Every array is `[T]`, one entry a completion token; log-probabilities in nats, at the training temperature.
#[derive(Debug, Clone, Copy)]
pub struct Sequence<'a> {
    /// log π_θ, the variable of the gradient.
    pub logprobs: &'a [f64],
    /// log π_old. On policy, pass `logprobs` again: the ratio is then 1 and still has its gradient.
    pub old_logprobs: &'a [f64],
    /// log π_ref; needed when the KL is in the loss, reported in the statistics when given.
    pub ref_logprobs: Option<&'a [f64]>,
    /// Log-probabilities the sampler reported; needed by a sampler correction.
    pub sampler_logprobs: Option<&'a [f64]>,
    /// Entropy of the distribution at each token, nats; needed by an entropy bonus.
    pub entropy: Option<&'a [f64]>,
    /// True where the token is trained.
    pub loss_mask: &'a [bool],
    /// True where a trained token has a policy term, see [`super::top_entropy`]; all of them where this is absent. Read with
    /// `top_entropy_frac` only, which needs it.
    pub policy_mask: Option<&'a [bool]>,
    /// The advantage.
    pub advantage: Advantage<'a>,
}

/// What the loss divides by: counts over the WHOLE optimizer step, never over a micro-batch, so that the losses and
/// gradients of its micro-batches add up to those of the step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepTotals {
    /// Sequences of the step, those without a trained token included.
    pub sequences: f64,
    /// Trained tokens of the step.
    pub tokens: f64,
}

impl StepTotals {
    /// Counts over the whole step, given the loss mask of each of its sequences.
    pub fn of<'a>(masks: impl IntoIterator<Item = &'a [bool]>) -> Self {
        masks.into_iter().fold(Self { sequences: 0.0, tokens: 0.0 }, |totals, mask| Self {
            sequences: totals.sequences + 1.0,
            tokens: totals.tokens + mask.iter().filter(|m| **m).count() as f64,
        })
    }
}

/// Loss of a micro-batch with its gradient.
#[derive(Debug, Clone)]
pub struct LossOutput {
    /// The scalar loss: this micro-batch's share of the step's loss.
    pub loss: f64,
    /// d loss / d `logprobs`, in the shapes of the batch: `grads[b][t]`. Exactly 0 where the mask is cleared.
    pub grads: Vec<Vec<f64>>,
    /// d loss / d `entropy`, in the same shapes; none without an entropy bonus.
    pub entropy_grads: Option<Vec<Vec<f64>>>,
    /// Sums for the metrics.
    pub stats: LossStats,
}

impl LossOutput {
    /// The gradients as the head takes them, sequence behind sequence.
    pub fn target_grads(&self) -> TargetGrads {
        let flat = |rows: &[Vec<f64>]| rows.iter().flatten().map(|g| *g as f32).collect();
        TargetGrads {
            logprobs: flat(&self.grads),
            entropy: self.entropy_grads.as_deref().map(flat),
            balance: None,
        }
    }
}

/// Why a loss cannot be computed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LossError {
    /// An array does not have one entry a token.
    #[error("sequence {sequence}: {array} has {found} entries, logprobs has {expected}")]
    Length {
        /// Index in the batch.
        sequence: usize,
        /// Field of [`Sequence`].
        array: &'static str,
        /// Entries found.
        found: usize,
        /// Entries of `logprobs`.
        expected: usize,
    },
    /// The configuration needs an array that was not given.
    #[error("sequence {sequence}: {needed_by} needs {array}")]
    Missing {
        /// Index in the batch.
        sequence: usize,
        /// Field of [`Sequence`].
        array: &'static str,
        /// The key of the configuration that needs it.
        needed_by: &'static str,
    },
    /// A trained token has a value that is NaN or infinite.
    #[error("sequence {sequence}, token {token}: {array} is {value}")]
    NotFinite {
        /// Index in the batch.
        sequence: usize,
        /// Position in the completion.
        token: usize,
        /// Field of [`Sequence`].
        array: &'static str,
        /// The value.
        value: f64,
    },
    /// The inputs are finite and the loss or a gradient is not: the policies are too far apart for an exponential.
    #[error("sequence {sequence}: the loss or its gradient overflows (largest log-ratio {log_ratio} nats)")]
    Overflow {
        /// Index in the batch.
        sequence: usize,
        /// Largest |log π_θ − log π_old| of the sequence, in nats.
        log_ratio: f64,
    },
}

/// The policy loss of a micro-batch, KL included, with its gradient.
///
/// # Shapes
/// `batch`: B sequences of any lengths. `totals` are those of the whole optimizer step.
///
/// # Errors
/// [`LossError`] on wrong lengths, missing arrays, and values that are not finite where the mask is set.
pub fn policy_loss(
    batch: &[Sequence<'_>],
    config: &LossConfig,
    totals: &StepTotals,
) -> Result<LossOutput, LossError> {
    let mut output = LossOutput {
        loss: 0.0,
        grads: Vec::with_capacity(batch.len()),
        entropy_grads: (config.entropy_coef != 0.0).then(|| Vec::with_capacity(batch.len())),
        stats: LossStats::default(),
    };
    for (index, sequence) in batch.iter().enumerate() {
        let rows = Rows::gather(index, sequence, config)?;
        let mut grads = vec![0.0; rows.logprobs.len()];
        let mut loss = sequence_loss(&rows, config, totals, &mut grads, &mut output.stats);
        if let Some(entropy_grads) = &mut output.entropy_grads {
            // Without a trained token there is no share.
            let share = match rows.positions.len() {
                0 => 0.0,
                n => config.aggregate.share(n, totals),
            };
            let slope = -config.entropy_coef * share;
            loss += slope * rows.entropy.iter().flatten().sum::<f64>();
            let mask = sequence.loss_mask.iter();
            entropy_grads.push(mask.map(|trained| if *trained { slope } else { 0.0 }).collect());
        }
        if !loss.is_finite() || grads.iter().any(|g| !g.is_finite()) {
            let log_ratio = rows.log_ratios().iter().fold(0.0, |a: f64, d| a.max(d.abs()));
            return Err(LossError::Overflow { sequence: index, log_ratio });
        }
        output.loss += loss;
        let mut scattered = vec![0.0; sequence.logprobs.len()];
        for (position, grad) in rows.positions.iter().zip(grads) {
            scattered[*position] = grad;
        }
        output.grads.push(scattered);
    }
    Ok(output)
}

/// Loss of one sequence; adds to `grads` `[n]` and `stats`.
fn sequence_loss(
    rows: &Rows,
    config: &LossConfig,
    totals: &StepTotals,
    grads: &mut [f64],
    stats: &mut LossStats,
) -> f64 {
    let n = rows.positions.len();
    stats.sequences += 1.0;
    if n == 0 {
        return 0.0;
    }
    let share = config.aggregate.share(n, totals);
    let log_ratios = rows.log_ratios();
    let level = config.importance_level();
    let old_ratio = Ratio::new(&log_ratios, level);
    let objective = config.objective.formula();
    let own_ratio = objective.ratio(rows, level);
    let ratio = own_ratio.as_ref().unwrap_or(&old_ratio);
    let weights = match &rows.sampler {
        Some(sampler) => config.sampler_correction.weights(&difference(&rows.old, sampler)),
        None => vec![1.0; n],
    };
    let drift = mean(&difference(rows.behaviour(), &rows.logprobs));
    let too_far = config.off_policy_mask_threshold.is_some_and(|threshold| drift > threshold);

    let mut loss = 0.0;
    let mut by_ratio = vec![0.0; n];
    let mut by_old_ratio = vec![0.0; n];
    for t in 0..n {
        stats.ratio(log_ratios[t], old_ratio.get(t));
        let advantage = rows.advantages[t];
        let weight = if too_far && advantage < 0.0 { 0.0 } else { weights[t] };
        if !rows.chosen[t] {
            // Its entropy is too low; what else it counts in stays.
        } else if weight == 0.0 {
            stats.dropped_tokens += 1.0;
        } else {
            let token = Token {
                ratio: ratio.get(t),
                logprob: rows.logprobs[t],
                behaviour_logprob: rows.behaviour()[t],
                advantage,
            };
            let term = objective.term(token);
            match term.bound {
                Bound::Inside => {}
                Bound::Low => stats.clip_low_tokens += 1.0,
                Bound::High => stats.clip_high_tokens += 1.0,
            }
            let value = share * weight * term.value;
            loss += value;
            stats.policy_loss += value;
            by_ratio[t] = share * weight * term.by_ratio;
            grads[t] += share * weight * term.by_logprob;
        }
        if let Some(reference) = &rows.reference {
            stats.ref_kl_sum += kl::estimate(KlEstimator::K3, rows.logprobs[t], reference[t]).0;
            if config.kl_in_loss() {
                let (value, slope) = kl::estimate(config.kl_estimator, rows.logprobs[t], reference[t]);
                let weighted = config.kl_estimator == KlEstimator::K3Unbiased;
                let factor = share * config.kl_coef * if weighted { old_ratio.get(t) } else { 1.0 };
                if weighted {
                    by_old_ratio[t] = share * config.kl_coef * value;
                }
                loss += factor * value;
                stats.kl_loss += factor * value;
                grads[t] += factor * slope;
            }
        }
    }
    ratio.backward(&by_ratio, grads);
    old_ratio.backward(&by_old_ratio, grads);
    loss
}
