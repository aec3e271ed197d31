//! stub
use crate::config::ConfigError;
use crate::reward::{Outcome, Reward, RewardError};
use crate::task::{Response, Task};
use serde::{Deserialize, Serialize};
/// Settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChoiceConfig {}
/// The reward.
pub struct Choice(crate::math::Math);
impl Choice {
    /// New.
    ///
    /// # Errors
    /// Never.
    pub fn new(_: ChoiceConfig) -> Result<Self, ConfigError> {
        Ok(Self(crate::math::Math::new(Default::default())?))
    }
}
impl Reward for Choice {
    fn name(&self) -> &str {
        "choice"
    }
    fn score(&self, t: &Task, r: Response<'_>) -> Result<Outcome, RewardError> {
        self.0.score(t, r)
    }
}
