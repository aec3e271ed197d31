//! `[[stage]]`: what is done to the policy, in order.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::mix::{CurriculumConfig, DataMix};
use super::sft::{LossOn, ValidationConfig};
use super::{one_or_many, some_of};
use crate::algorithm::{Aggregate, GroupsWithoutSignal, LossConfig};
use crate::schedule::{ScheduleConfig, ScheduleKind};
use rlvr_rollout::{LongPrompt, SamplingParams};

/// One stage of a run.
// A run has a handful of stages.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StageConfig {
    /// Supervised training on prompts with completions.
    Sft(SftConfig),
    /// Reinforcement learning on verifiable rewards.
    Grpo(Box<GrpoConfig>),
}

impl StageConfig {
    /// The value of `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sft(_) => "sft",
            Self::Grpo(_) => "grpo",
        }
    }

    /// The stage's `name`, or its kind.
    pub fn name(&self) -> &str {
        let name = match self {
            Self::Sft(stage) => stage.name.as_deref(),
            Self::Grpo(stage) => stage.name.as_deref(),
        };
        name.unwrap_or_else(|| self.kind())
    }

    /// The data sources that it trains on.
    pub fn sources(&self) -> impl Iterator<Item = &String> {
        let mix = match self {
            Self::Sft(stage) => Some(&stage.data),
            Self::Grpo(stage) => stage.data.as_ref(),
        };
        mix.into_iter().flat_map(DataMix::names)
    }

    /// Whether an average of the weights is kept beside the policy.
    pub fn averages(&self) -> bool {
        match self {
            Self::Sft(stage) => stage.policy_ema.is_some(),
            Self::Grpo(stage) => stage.policy_ema.is_some(),
        }
    }

    /// The patterns of what it trains, if it names any, and of what it leaves as it is.
    pub fn parts(&self) -> (Option<&[String]>, &[String]) {
        match self {
            Self::Sft(stage) => (stage.trainable.as_deref(), &stage.frozen),
            Self::Grpo(stage) => (stage.trainable.as_deref(), &stage.frozen),
        }
    }

    /// The optimizer's settings.
    pub fn optim(&self) -> &OptimConfig {
        match self {
            Self::Sft(stage) => &stage.optim,
            Self::Grpo(stage) => &stage.optim,
        }
    }
}

/// A stage of kind `sft`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftConfig {
    /// Name in records and in `--set stage.NAME.…`. Default: the kind.
    pub name: Option<String>,
    /// The data source, or several: a list, or a table of names with the weights that they are drawn with. Their rows need
    /// completions or conversations. An epoch is as many rows as all of them have.
    pub data: DataMix,
    /// Optimizer steps. At most one of `steps` and `epochs`; without either one epoch.
    pub steps: Option<u64>,
    /// Passes over the data, fractions allowed.
    pub epochs: Option<f64>,
    /// Examples an optimizer step. Default 16.
    #[serde(default = "sixteen")]
    pub batch: usize,
    /// In place of `batch`: an optimizer step takes as many of the next rows as have at most so many tokens together, at least
    /// one row and at most as many as there are. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_tokens: Option<usize>,
    /// Sequences per forward pass; changes the order in which gradients are added up, and nothing else. Default 16.
    #[serde(default = "sixteen")]
    pub micro_batch: usize,
    /// In place of `micro_batch`: as many sequences per forward pass as have at most so many tokens together, at least one.
    /// Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch_tokens: Option<usize>,
    /// Which turns of conversations are trained: `assistant`, all of the assistant's, or `last`. Default `assistant`.
    #[serde(default)]
    pub loss_on: LossOn,
    /// Decay of an average of the policy's weights, as in a GRPO stage; `validation` looks at the policy, and an early end leaves
    /// the average of all steps done. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_ema: Option<f64>,
    /// The loss on other rows, and an early end by it. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<ValidationConfig>,
    /// The parameters that the stage trains, by patterns as in `policy.trainable`, of those that the policy trains. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_of")]
    pub trainable: Option<Vec<String>>,
    /// Which of them it leaves as they are after all, likewise. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    pub frozen: Vec<String>,
    /// The optimizer.
    #[serde(default)]
    pub optim: OptimConfig,
}

/// A stage of kind `grpo`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpoConfig {
    /// Name in records and in `--set stage.NAME.…`. Default: the kind.
    pub name: Option<String>,
    /// The data source of the prompts, or several: a list, or a table of names with the weights that they are drawn with. Needed
    /// unless `rollouts` is given.
    pub data: Option<DataMix>,
    /// Draws rows more often that the policy solves sometimes. Default none: each source in its order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curriculum: Option<CurriculumConfig>,
    /// Rollouts, each followed by `updates_per_rollout · minibatches` optimizer steps. With `rollouts`, absent means
    /// as many as the file has.
    pub steps: Option<u64>,
    /// Prompts a rollout. Default 16.
    #[serde(default = "sixteen")]
    pub prompts_per_step: usize,
    /// Completions a prompt, G. At least 2. Default 8.
    #[serde(default = "eight")]
    pub group_size: usize,
    /// Passes over a rollout, μ in GRPO's Algorithm 1. Default 1.
    #[serde(default = "one")]
    pub updates_per_rollout: usize,
    /// Optimizer steps a pass over the rollout. Default 1.
    #[serde(default = "one")]
    pub minibatches: usize,
    /// Whether the groups of a rollout are shuffled before it is cut into minibatches, anew in every pass. Default false.
    #[serde(default)]
    pub shuffle_minibatches: bool,
    /// Sequences per forward pass; changes the order in which gradients are added up, and nothing else. Default 16.
    #[serde(default = "sixteen")]
    pub micro_batch: usize,
    /// Most completions decoded together; never changes the result. Default 64, on a GPU 256.
    pub max_batch_rows: Option<usize>,
    /// Most tokens of the completions decoded together, to come included: bounds the memory of keys and values, and
    /// never changes the result. Default 32768, on a GPU what a quarter of its free memory holds.
    pub max_batch_tokens: Option<usize>,
    /// Steps that rollouts run ahead: those of a step are begun this many steps before it, from the weights of that moment, beside
    /// the training of those between. Default 0: each step samples from the weights that it changes.
    #[serde(default)]
    pub max_lag: usize,
    /// Which policy the KL penalty is measured to. Default `stage_start`.
    #[serde(default)]
    pub reference: ReferenceFrom,
    /// The reference moves every so many steps of the stage: to the policy as it is then, or by `reference_ema` towards it
    /// (arXiv:2404.09656). ≥ 1. Default none: it is frozen; with `reference_ema` 1.
    pub reference_every: Option<u64>,
    /// Share α of the policy when the reference moves: `π_ref ← π_ref + α·(π_θ − π_ref)`, over their weights. In (0, 1]. Default
    /// none: with `reference_every` the reference becomes the policy.
    pub reference_ema: Option<f64>,
    /// Decay d of an average of the policy's weights that is evaluated and saved beside it: `e ← d·e + (1 − d)·θ` after each
    /// optimizer step, from the policy as the stage finds it; of an adapter its factors. Saved where the stage is the last. In
    /// [0, 1). Default none.
    pub policy_ema: Option<f64>,
    /// Longest prompt in tokens. Default: what the policy's context allows, see the prompt limit of the rollout engine.
    pub max_prompt_tokens: Option<usize>,
    /// What happens to a longer prompt: `error`, `skip` or `truncate_left`. Default `error`.
    #[serde(default)]
    pub long_prompt: LongPrompt,
    /// The run stops when a larger share of a step's rewards broke, in [0, 1]. Default 0.1.
    #[serde(default = "tenth")]
    pub max_error_frac: f64,
    /// How often a step samples further prompts in place of groups without signal, with
    /// `loss.groups_without_signal = "resample"`; what is missing then stays missing. Default 3.
    #[serde(default = "three")]
    pub resample_rounds: usize,
    /// Whether the tokens of completions that `max_tokens` cut off are left out of the loss (overlong filtering,
    /// arXiv:2503.14476 section 3.4). They still count in their group's statistics, and as sequences where the loss is a mean
    /// over these. Default false.
    #[serde(default)]
    pub mask_truncated: bool,
    /// How completions are sampled; the trained distribution is the same one.
    #[serde(default)]
    pub sampling: SamplingParams,
    /// Strings that end a completion and stay part of it, beside the policy's end tokens. Default none.
    #[serde(default)]
    pub stop: Vec<String>,
    /// Advantages, objective, aggregation, KL penalty.
    #[serde(default)]
    pub loss: LossConfig,
    /// The parameters that the stage trains, by patterns as in `policy.trainable`, of those that the policy trains. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_of")]
    pub trainable: Option<Vec<String>>,
    /// Which of them it leaves as they are after all, likewise. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    pub frozen: Vec<String>,
    /// The optimizer.
    #[serde(default)]
    pub optim: OptimConfig,
    /// Train on rollouts made elsewhere instead of sampling.
    pub rollouts: Option<RolloutsConfig>,
}

impl GrpoConfig {
    /// The loss with what it takes from the rest of the stage: the length constant is `sampling.max_tokens` unless
    /// the loss names one.
    pub fn resolved_loss(&self) -> LossConfig {
        let mut loss = self.loss.clone();
        if let Aggregate::Constant { max_tokens } = &mut loss.aggregate {
            max_tokens.get_or_insert(self.sampling.max_tokens as f64);
        }
        loss
    }

    /// Most prompts that a step draws: those of the rollout, and the replacements of groups without signal.
    pub fn prompts_drawn(&self) -> usize {
        match self.loss.groups_without_signal {
            GroupsWithoutSignal::Resample => self.prompts_per_step * (1 + self.resample_rounds),
            GroupsWithoutSignal::Keep | GroupsWithoutSignal::Drop => self.prompts_per_step,
        }
    }

    /// Steps between two moves of the reference; none of a frozen one.
    pub fn reference_period(&self) -> Option<u64> {
        self.reference_every.or(self.reference_ema.map(|_| 1))
    }

    /// Completions a rollout.
    pub fn completions_per_step(&self) -> usize {
        self.prompts_per_step * self.group_size
    }

    /// Optimizer steps of the whole stage, when `steps` is known.
    pub fn optimizer_steps(&self) -> Option<u64> {
        Some(self.steps? * (self.updates_per_rollout * self.minibatches) as u64)
    }
}

fn one() -> usize {
    1
}

fn three() -> usize {
    3
}

fn eight() -> usize {
    8
}

fn sixteen() -> usize {
    16
}

fn tenth() -> f64 {
    0.1
}

/// Where the reference policy π_ref comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReferenceFrom {
    /// The policy as the stage finds it, frozen.
    #[default]
    StageStart,
    /// The policy before the first stage, frozen.
    RunStart,
    /// The policy without its adapter; needs one. It takes no memory.
    Base,
}

/// `[stage.optim]`: the optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimConfig {
    /// `adamw`, `adamw_8bit` or `muon`. Default `adamw`.
    pub kind: OptimKind,
    /// Peak learning rate. Default 1e-5.
    pub lr: f64,
    /// Decay of the first and second moment, each in [0, 1). Default `[0.9, 0.999]`.
    pub betas: [f64; 2],
    /// Added to the root of the second moment. Default 1e-8.
    pub eps: f64,
    /// Decoupled weight decay. Default 0.
    pub weight_decay: f64,
    /// Bound on the global norm of the gradient; 0 means none. Default 1.
    pub max_grad_norm: f64,
    /// Shape of the learning rate after the warm-up: `constant`, `linear` or `cosine`. Default `constant`.
    pub schedule: ScheduleKind,
    /// Optimizer steps of linear warm-up. Default 0.
    pub warmup_steps: u64,
    /// Last learning rate of `linear` and `cosine` as a share of `lr`, in [0, 1]. Default 0.
    pub final_lr_frac: f64,
    /// Settings of Muon.
    #[serde(skip_serializing_if = "MuonConfig::is_default")]
    pub muon: Box<MuonConfig>,
    /// Parameters with settings of their own; the first group that names one counts. Default none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<OptimGroup>,
}

/// Rule by which an optimizer changes parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimKind {
    /// AdamW with f32 moments (arXiv:1711.05101).
    #[default]
    Adamw,
    /// AdamW with moments in 8 bits, blocks of 256 (arXiv:2110.02861); in f32 those of tensors below 4096 elements.
    #[serde(rename = "adamw_8bit")]
    Adamw8bit,
    /// Muon for the matrices of blocks; AdamW for embeddings, head, norms and biases.
    Muon,
}

/// `stage.optim.muon`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MuonConfig {
    /// Decay of the momentum, in [0, 1). Default 0.95.
    pub momentum: f64,
    /// Whether the momentum is looked ahead of. Default true.
    pub nesterov: bool,
    /// Newton–Schulz iterations, 1 to 99. Default 5.
    pub ns_steps: usize,
    /// Factor of updates. Default `original`.
    pub scale: MuonScale,
}

/// Factor of Muon's updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MuonScale {
    /// √max(1, rows / columns).
    #[default]
    Original,
    /// 0.2 √max(rows, columns): learning rates and decays are those of AdamW (arXiv:2502.16982).
    MatchRmsAdamw,
}

impl Default for MuonConfig {
    fn default() -> Self {
        Self { momentum: 0.95, nesterov: true, ns_steps: 5, scale: MuonScale::Original }
    }
}

impl MuonConfig {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// `[[stage.optim.groups]]`: settings of some of the parameters; what it does not say is as in `[stage.optim]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimGroup {
    /// A pattern, or a list of patterns, as in `policy.trainable`.
    #[serde(deserialize_with = "one_or_many")]
    pub params: Vec<String>,
    /// `adamw`, `adamw_8bit` or `muon`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<OptimKind>,
    /// Peak learning rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Decoupled weight decay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Optimizer steps of linear warm-up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<u64>,
}

impl Default for OptimConfig {
    fn default() -> Self {
        Self {
            kind: OptimKind::Adamw,
            lr: 1e-5,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            schedule: ScheduleKind::Constant,
            warmup_steps: 0,
            final_lr_frac: 0.0,
            muon: Box::default(),
            groups: Vec::new(),
        }
    }
}

impl OptimConfig {
    /// The schedule of the learning rate, a factor of `lr`.
    pub fn schedule_config(&self) -> ScheduleConfig {
        ScheduleConfig { kind: self.schedule, warmup_steps: self.warmup_steps, min_ratio: self.final_lr_frac }
    }
}

/// `[stage.rollouts]`: rollouts made elsewhere, see [`crate::train::recorded`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutsConfig {
    /// JSON Lines file, relative to the config file.
    pub path: PathBuf,
    /// Where their advantages come from. Default `computed`.
    #[serde(default)]
    pub advantages: AdvantagesFrom,
}

/// Where the advantages of rollouts made elsewhere come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdvantagesFrom {
    /// Their rewards, as those of rollouts that the stage samples.
    #[default]
    Computed,
    /// The `advantage` of each row, a number or one a token.
    Given,
}
