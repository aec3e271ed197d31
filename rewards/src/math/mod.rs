//! `math`: stub.
use crate::config::ConfigError;
use crate::extract::{self, ExtractPolicy, Fallback, MultiAnswer, Think};
use crate::reward::{Outcome, Reward, RewardError, Verdict};
use crate::task::{Response, Task};
use serde::{Deserialize, Serialize};

/// Settings of the `math` reward.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MathConfig {
    /// Several different explicit answers. Default `last`.
    pub multi_answer: MultiAnswer,
    /// Think tags. Default `strip`.
    pub think: Think,
    /// What counts when no answer is marked. Default `none`.
    pub fallback: Fallback,
}

/// The `math` reward.
pub struct Math {
    config: MathConfig,
}
impl Math {
    /// Checks the settings.
    ///
    /// # Errors
    /// Never yet.
    pub fn new(config: MathConfig) -> Result<Self, ConfigError> {
        Ok(Self { config })
    }
}
impl Reward for Math {
    fn name(&self) -> &str {
        "math"
    }
    fn score(&self, task: &Task, r: Response<'_>) -> Result<Outcome, RewardError> {
        let c = &self.config;
        let p = ExtractPolicy { multi_answer: c.multi_answer, think: c.think, fallback: c.fallback };
        let golds = task.answers();
        if golds.is_empty() {
            return Ok(Outcome::of(Verdict::Unverifiable, "math", "the reference has no answer"));
        }
        Ok(match extract::answer(r.text, p) {
            Err(m) => Outcome::of(Verdict::NoAnswer, "math", m.reason()),
            Ok(a) => {
                let f = |s: &str| crate::text::normalise(s).replace([' ', ','], "").replace("dfrac", "frac");
                let hit = golds.iter().any(|g| {
                    f(g) == f(&a.text)
                        || (f(g).parse::<f64>().ok().is_some_and(|x| f(&a.text).parse() == Ok(x)))
                });
                Outcome::of(if hit { Verdict::Correct } else { Verdict::Incorrect }, "math", "")
                    .with_extracted(a.text)
            }
        })
    }
}
