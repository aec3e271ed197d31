//! SAPO (arXiv:2511.20347): a soft gate on the ratio in place of the clip, steeper where the advantage is not positive.

use serde::{Deserialize, Serialize};

use super::{Bound, Formula, Term, Token};
use crate::algorithm::config::Importance;
use crate::checks::Checks;

/// Settings of SAPO. Single precision, as in the published implementations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sapo {
    /// Temperature τ for A > 0. > 0. Default 1. Alias: `tau_pos`.
    #[serde(alias = "tau_pos")]
    pub temperature_pos: f32,
    /// Temperature τ for A ≤ 0. > 0. Default 1.05. Alias: `tau_neg`.
    #[serde(alias = "tau_neg")]
    pub temperature_neg: f32,
}

impl Default for Sapo {
    fn default() -> Self {
        Self { temperature_pos: 1.0, temperature_neg: 1.05 }
    }
}

impl Formula for Sapo {
    fn term(&self, Token { ratio, advantage, .. }: Token) -> Term {
        let temperature = if advantage > 0.0 { self.temperature_pos } else { self.temperature_neg };
        let temperature = f64::from(temperature);
        let gate = 1.0 / (1.0 + (-temperature * (ratio - 1.0)).exp());
        Term {
            value: -advantage * gate * 4.0 / temperature,
            by_ratio: -advantage * 4.0 * gate * (1.0 - gate),
            by_logprob: 0.0,
            bound: Bound::Inside,
        }
    }

    fn check(&self, _level: Importance, checks: &mut Checks) {
        for (name, value) in
            [("temperature_pos", self.temperature_pos), ("temperature_neg", self.temperature_neg)]
        {
            checks.require(value > 0.0 && value.is_finite(), format!("objective.{name}"), "must be above 0");
        }
    }
}
