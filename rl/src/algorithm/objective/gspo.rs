//! GSPO (arXiv:2507.18071): the clipped surrogate with one ratio a sequence, and clips as narrow as such ratios
//! vary.

use serde::{Deserialize, Serialize};

use super::{Clip, Formula, Term, Token};
use crate::algorithm::config::Importance;
use crate::checks::Checks;

/// Settings of GSPO, those of [`Clip`] with other defaults.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gspo {
    /// As [`Clip::low`]. Default 3e-4, as in the paper.
    #[serde(alias = "clip_low")]
    pub low: f64,
    /// As [`Clip::high`]. Default 4e-4, as in the paper.
    #[serde(alias = "clip_high")]
    pub high: f64,
    /// As [`Clip::delta`].
    pub delta: Option<f64>,
    /// As [`Clip::dual_clip`].
    pub dual_clip: Option<f64>,
}

impl Default for Gspo {
    fn default() -> Self {
        Self { low: 3e-4, high: 4e-4, delta: None, dual_clip: None }
    }
}

impl Gspo {
    fn clip(self) -> Clip {
        let Self { low, high, delta, dual_clip } = self;
        Clip { low, high, delta, dual_clip }
    }
}

impl Formula for Gspo {
    fn level(&self) -> Importance {
        Importance::Sequence
    }

    fn term(&self, token: Token) -> Term {
        self.clip().term(token)
    }

    fn check(&self, level: Importance, checks: &mut Checks) {
        self.clip().check(level, checks);
        checks.require(
            level == Importance::Sequence,
            "importance",
            "the objective \"gspo\" means importance = \"sequence\"; take \"clip\" for token ratios",
        );
    }
}
