//! Prescribed completions, for tests and replays.

use crate::completion::{Completion, Prompt};
use crate::engine::{GenerateStats, RolloutEngine, SampleKey};
use crate::error::RolloutError;
use crate::params::SamplingParams;

/// An engine that answers the n-th call of `generate` with the n-th entry of a script, whatever the prompts are.
#[derive(Clone, Debug, Default)]
pub struct ScriptedEngine {
    script: Vec<Vec<Vec<Completion>>>,
    /// Calls answered so far.
    calls: usize,
    stats: GenerateStats,
}

impl ScriptedEngine {
    /// `script[n][p][g]` is sample `g` of prompt `p` in call `n`. An empty group stands for a skipped prompt.
    pub fn new(script: Vec<Vec<Vec<Completion>>>) -> Self {
        Self { script, ..Self::default() }
    }
}

impl RolloutEngine for ScriptedEngine {
    /// # Errors
    /// [`RolloutError::ScriptExhausted`] after the last entry, [`RolloutError::ScriptMismatch`] when the entry has
    /// another number of prompts or samples.
    fn generate(
        &mut self,
        prompts: &[Prompt],
        group_size: usize,
        _sampling: &SamplingParams,
        _key: SampleKey,
    ) -> Result<Vec<Vec<Completion>>, RolloutError> {
        self.stats = GenerateStats::default();
        let call = self.calls;
        let groups = self.script.get(call).ok_or(RolloutError::ScriptExhausted { calls: call })?;
        let fits = |group: &Vec<Completion>| group.is_empty() || group.len() == group_size;
        if groups.len() != prompts.len() || !groups.iter().all(fits) {
            let found = groups.iter().map(Vec::len).collect();
            return Err(RolloutError::ScriptMismatch { call, prompts: prompts.len(), group_size, found });
        }
        self.stats = GenerateStats {
            prompt_tokens: prompts.iter().map(|p| p.token_ids.len()).sum(),
            completion_tokens: groups.iter().flatten().map(|c| c.token_ids.len()).sum(),
            skipped_prompts: (0..groups.len()).filter(|&p| groups[p].is_empty()).collect(),
            ..GenerateStats::default()
        };
        self.calls += 1;
        Ok(groups.clone())
    }

    fn stats(&self) -> &GenerateStats {
        &self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::completion::FinishReason;

    fn completion(id: u32) -> Completion {
        Completion {
            token_ids: vec![id],
            logprobs: vec![-0.5],
            finish_reason: FinishReason::Stop,
            policy_version: 0,
        }
    }

    #[test]
    fn answers_in_order_and_checks_the_shape() {
        let steps = vec![vec![vec![completion(1), completion(2)], vec![]], vec![vec![completion(3)]]];
        let mut engine = ScriptedEngine::new(steps.clone());
        let params = SamplingParams::default();
        let prompts = [Prompt::from(vec![5]), Prompt::from(vec![6, 7])];

        let got = engine.generate(&prompts, 2, &params, SampleKey::new(1, 0)).unwrap();
        assert_eq!(got, steps[0]);
        assert_eq!(engine.stats().skipped_prompts, [1]);
        assert_eq!(engine.stats().completion_tokens, 2);
        let error = engine.generate(&prompts, 1, &params, SampleKey::new(1, 1)).unwrap_err();
        assert!(matches!(error, RolloutError::ScriptMismatch { call: 1, prompts: 2, .. }), "{error}");
        assert_eq!(engine.generate(&prompts[..1], 1, &params, SampleKey::new(1, 1)).unwrap(), steps[1]);
        let error = engine.generate(&prompts, 1, &params, SampleKey::new(1, 2)).unwrap_err();
        assert!(matches!(error, RolloutError::ScriptExhausted { calls: 2 }));
    }
}
