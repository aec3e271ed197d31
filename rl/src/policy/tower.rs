//! A new tower in front of a policy that does not see.
use super::Policy;
use crate::config::TowerConfig;
use crate::error::Error;
use rlvr_policies::PolicyError;
use rlvr_policies::fresh_tower::Text;
use rlvr_rollout::CounterRng;
use std::sync::Arc;

impl Policy {
    /// The same policy with a tower from the seed in front of it.
    ///
    /// # Errors
    /// A policy that sees already, is an adapter, or is of another family than Llama's; another device than the CPU.
    pub fn with_fresh_tower(mut self, config: &TowerConfig, seed: u64) -> Result<Self, Error> {
        // Numbers behind those of tiny policies, whose parameters come first.
        let normal = |param: usize, element: usize| {
            CounterRng::new(seed, 0, param as u64, u64::MAX).normal(element as u64) as f32
        };
        let text = Text {
            tokenizer: &mut self.tokenizer,
            assets: Arc::make_mut(&mut self.assets),
            template: &mut self.template,
        };
        self.decoder = self.decoder.with_fresh_tower(&config.sizes(), text, normal).map_err(|e| match e {
            PolicyError::Tower { what } => {
                Error::Setting { field: "policy.vision".to_owned(), message: what }
            }
            other => other.into(),
        })?;
        Ok(self)
    }
}
