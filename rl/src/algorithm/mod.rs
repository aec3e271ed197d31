//! The algorithm: group-relative advantages and the policy loss with its gradient, as pure functions on the host.
//!
//! ```text
//! rewards ── advantage ──► A ─┐
//! logprobs, old, ref, sampler ┴─ policy_loss ──► loss, d loss/d logprobs, sums for the metrics
//! ```
//! Log-probabilities are read back from the device, the loss is computed in f64, and the trainer feeds the gradient
//! back into the head. So the maths is the same on every device, exact to f64, and each formula stands once, written
//! by hand, with tests against central differences and against values of an independent implementation.
//!
//! loss = −aggregate( w · objective ) − entropy_coef · aggregate( entropy ) + kl_coef · aggregate( KL estimator ), `w` the
//! sampler correction
//!
//! The formulas are at the heads of `advantage.rs`, `objective/mod.rs`, `kl.rs`, `sampler.rs` and `top_entropy.rs`; the keys
//! and their defaults:
//! [`LossConfig`].
//!
//! Deviations and choices:
//! - GRPO (arXiv:2402.03300) averages over the tokens of a sequence, then over sequences; the default here is
//!   `token_mean`, over the tokens of the whole optimizer step (DAPO, arXiv:2503.14476).
//! - `token_mean` divides by the trained tokens of the step, not of a micro-batch; sequences without a trained token
//!   count in the `sequences` of the other aggregates.
//! - The KL term is not clipped, not masked, and not touched by the sampler correction. Its ratio (`k3_unbiased`) is
//!   the one before `delta` and clips.
//! - The deviations of an objective stand at the head of its file.

pub mod advantage;
mod aggregate;
pub mod config;
pub mod diagnostics;
pub mod kl;
pub mod loss;
pub mod objective;
mod old_keys;
pub mod presets;
mod ratio;
mod rows;
mod sampler;
mod tagged;
pub mod top_entropy;

pub use advantage::{AdvantageKind, batch_advantages, gdpo_advantages, group_advantages, has_signal};
pub use aggregate::Aggregate;
pub use config::{GroupsWithoutSignal, Importance, KlEstimator, KlPlace, LossConfig, LossConfigError};
pub use diagnostics::LossStats;
pub use loss::{Advantage, LossError, LossOutput, Sequence, StepTotals, policy_loss};
pub use objective::{Cispo, Clip, DppoTv, Gmpo, Gspo, Objective, Reinforce, Sapo, Topr, Vespo};
pub use old_keys::OldKeys;
pub(crate) use old_keys::rewrite as rewrite_old_keys;
pub use sampler::{Band, Cap, SamplerCorrection};

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod gradient;
