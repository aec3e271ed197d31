//! How token terms become one number.

use serde::{Deserialize, Serialize};

use super::loss::StepTotals;
use crate::checks::Checks;

/// How token terms become one number. Totals are those of the whole optimizer step, see [`StepTotals`].
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Aggregate {
    /// Sum over tokens / tokens of the step (DAPO, arXiv:2503.14476).
    #[default]
    TokenMean,
    /// Mean over the tokens of a sequence, then over sequences (GRPO, arXiv:2402.03300).
    SequenceMean,
    /// Sum over the tokens of a sequence, mean over sequences.
    SequenceSum,
    /// Sum over tokens / (sequences · `max_tokens`) (Dr. GRPO, arXiv:2503.20783).
    Constant {
        /// Length constant in tokens. > 0. The trainer fills it with `sampling.max_tokens` when absent. Aliases:
        /// `constant_length`, `max_completion_length`, `l_max`, `L_max`.
        #[serde(
            alias = "constant_length",
            alias = "max_completion_length",
            alias = "l_max",
            alias = "L_max"
        )]
        max_tokens: Option<f64>,
    },
}

impl Aggregate {
    /// Weight of one trained token in the step's loss, for a sequence of n of them.
    pub(super) fn share(&self, n: usize, totals: &StepTotals) -> f64 {
        let sequences = totals.sequences.max(1.0);
        match self {
            Self::TokenMean => 1.0 / totals.tokens.max(1.0),
            Self::SequenceMean => 1.0 / (n as f64 * sequences),
            Self::SequenceSum => 1.0 / sequences,
            // `validate` refuses an absent length; 1 makes it a plain sum for who skipped that.
            Self::Constant { max_tokens } => 1.0 / (sequences * max_tokens.unwrap_or(1.0)),
        }
    }

    /// Notes what is wrong with the length constant.
    pub(super) fn check(&self, checks: &mut Checks) {
        let Self::Constant { max_tokens } = self else { return };
        let wrong = match max_tokens {
            None => Some("the aggregate \"constant\" divides by sequences · max_tokens and needs it"),
            Some(length) if *length > 0.0 && length.is_finite() => None,
            Some(_) => Some("must be above 0"),
        };
        checks.require(wrong.is_none(), "aggregate.max_tokens", wrong.unwrap_or_default());
    }
}
