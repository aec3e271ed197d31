//! stub
use crate::config::ConfigError;
use crate::reward::{Outcome, Reward, RewardError};
use crate::task::{Response, Task};
use serde::{Deserialize, Serialize};
/// Settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NumericConfig {}
/// The reward.
pub struct Numeric(crate::math::Math);
impl Numeric {
    /// New.
    ///
    /// # Errors
    /// Never.
    pub fn new(_: NumericConfig) -> Result<Self, ConfigError> {
        Ok(Self(crate::math::Math::new(Default::default())?))
    }
}
impl Reward for Numeric {
    fn name(&self) -> &str {
        "numeric"
    }
    fn score(&self, t: &Task, r: Response<'_>) -> Result<Outcome, RewardError> {
        self.0.score(t, r)
    }
}
