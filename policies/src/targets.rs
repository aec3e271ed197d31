//! What the head says of targets, and the gradient of a loss with respect to it.

/// What the head says of each target.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TargetStats {
    /// Log-probability of each target, nats.
    pub logprobs: Vec<f32>,
    /// Entropy of the distribution that predicts it, nats.
    pub entropy: Vec<f32>,
    /// Log of the partition function, for the backward.
    pub(crate) log_sum: Vec<f32>,
    /// The load-balancing loss of the pass (arXiv:2101.03961, equations 4 to 6, over all layers with experts together): 1
    /// where every expert gets as much, more elsewhere; 0 without experts and in passes without gradient.
    pub balance: f32,
}

impl TargetStats {
    /// Appends values of further targets.
    #[allow(dead_code)] // Of devices.
    pub(crate) fn extend(&mut self, logprobs: Vec<f32>, entropy: Vec<f32>, log_sum: Vec<f32>) {
        self.logprobs.extend(logprobs);
        self.entropy.extend(entropy);
        self.log_sum.extend(log_sum);
    }
}

/// The gradient of a loss with respect to what the head says of each target.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TargetGrads {
    /// With respect to its log-probability.
    pub logprobs: Vec<f32>,
    /// With respect to its entropy; none where the loss has no part of it.
    pub entropy: Option<Vec<f32>>,
    /// With respect to [`TargetStats::balance`].
    pub balance: f32,
}

impl From<Vec<f32>> for TargetGrads {
    fn from(logprobs: Vec<f32>) -> Self {
        Self { logprobs, entropy: None, balance: 0.0 }
    }
}

impl TargetGrads {
    /// # Panics
    /// If there is not one gradient a target.
    pub(crate) fn check(&self, targets: usize) {
        let entropy = self.entropy.as_ref().map_or(targets, Vec::len);
        assert_eq!((self.logprobs.len(), entropy), (targets, targets), "one gradient a target");
    }
}
