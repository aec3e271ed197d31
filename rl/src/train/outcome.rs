//! What a step of GRPO did.
use crate::algorithm::LossStats;
use crate::train::group::Group;
use crate::train::learner::{Exchanged, Pass};
use crate::train::rollouts::Rollouts;
use rlvr_rollout::GenerateStats;

/// Seconds of each phase of a step.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct Phases {
    pub generate_s: f64,
    /// Waiting for rewards when generation was over: groups are judged as soon as they are whole.
    pub verify_s: f64,
    pub reference_s: f64,
    pub update_s: f64,
}

/// What a step did.
#[derive(Debug, Clone, Default)]
pub struct StepOutcome {
    /// The groups, in order of their prompts.
    pub groups: Vec<Group>,
    /// Sums of the loss over all updates; ratios and clipping of later passes included.
    pub stats: LossStats,
    /// Sums over the first pass only, before any weight changed in it.
    pub first: FirstPass,
    /// Mean loss of the optimizer steps.
    pub loss: f64,
    /// The loss that balances experts in the last optimizer step, without its weight and beside `loss`; none without that
    /// loss.
    pub router_balance: Option<f64>,
    /// Gradient norm of the last optimizer step, before clipping.
    pub grad_norm: f64,
    /// Learning rate of the last optimizer step.
    pub lr: f64,
    /// Optimizer steps taken.
    pub updates: u64,
    /// Lowest entropy of a token with a policy term in the last optimizer step, nats, where they are chosen by it.
    pub entropy_threshold: Option<f64>,
    /// Weight of the KL penalty, where it follows a target.
    pub kl_coef: Option<f64>,
    /// Tokens trained on, over all passes.
    pub trained_tokens: usize,
    /// Mean and largest number of optimizer steps between the weights that a completion was sampled from and those that the step
    /// began with, where rollouts run ahead.
    pub lag: Option<(f64, f64)>,
    /// Prompts drawn from the tasks: more than `prompts_per_step` where groups without signal were replaced.
    pub prompts: usize,
    /// What generation did.
    pub generation: GenerateStats,
    /// Time.
    pub phases: Phases,
    /// What ranks have exchanged for the updates.
    pub exchanged: Exchanged,
}

impl From<Rollouts> for StepOutcome {
    fn from(rollouts: Rollouts) -> Self {
        let Rollouts { groups, prompts, generation, generate_s, verify_s } = rollouts;
        let phases = Phases { generate_s, verify_s, ..Phases::default() };
        Self { groups, prompts, generation, phases, ..Self::default() }
    }
}

/// Comparison of sampler and trainer at equal weights, and entropy.
#[derive(Debug, Clone, Copy, Default)]
pub struct FirstPass {
    /// Tokens seen with unchanged weights.
    pub tokens: f64,
    /// Σ entropy, nats.
    pub entropy_sum: f64,
    /// Tokens with sampler log-probabilities among them.
    pub compared: f64,
    /// Σ k3 between sampler and trainer.
    pub mismatch_sum: f64,
    /// Largest difference of a log-probability.
    pub mismatch_max: f64,
}

impl FirstPass {
    /// Adds what further passes saw.
    pub(super) fn merge(&mut self, other: &Self) {
        self.tokens += other.tokens;
        self.entropy_sum += other.entropy_sum;
        self.compared += other.compared;
        self.mismatch_sum += other.mismatch_sum;
        self.mismatch_max = self.mismatch_max.max(other.mismatch_max);
    }

    pub(super) fn record(&mut self, pass: &Pass<'_>) {
        let entropy = &pass.targets().entropy;
        self.tokens += entropy.len() as f64;
        self.entropy_sum += entropy.iter().map(|e| f64::from(*e)).sum::<f64>();
        for (trajectory, logprobs) in pass.micro.iter().zip(pass.logprobs()) {
            for (mu, lp) in trajectory.sampler_logprobs.iter().flatten().zip(&logprobs) {
                let x = lp - mu;
                self.compared += 1.0;
                self.mismatch_sum += x.exp_m1() - x;
                self.mismatch_max = self.mismatch_max.max(x.abs());
            }
        }
    }
}
