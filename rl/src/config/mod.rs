//! The run config: one TOML file that says everything a run depends on.
//!
//! Precedence is defaults < file < `--set`. Unknown fields are errors everywhere. Each field's default stands in its
//! doc comment.

mod engine;
mod health;
mod load;
mod locate;
mod lora;
mod mix;
mod parallel;
mod sft;
mod stage;
#[cfg(test)]
mod tests;
mod tower;
mod validate;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use burn::tensor::DType;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use crate::checks::Problem;
pub use crate::data::DataConfig;
pub use engine::{EngineConfig, EngineKind, Handover};
pub use health::HealthConfig;
pub use load::{ConfigError, data_config};
pub(crate) use load::{document, syntax};
pub(crate) use locate::nearest;
pub use lora::{LoraConfig, LoraSave, LoraTargets};
pub use mix::{CurriculumConfig, DataMix};
pub use parallel::ParallelConfig;
pub use sft::{LossOn, ValidationConfig};
pub use stage::{
    AdvantagesFrom, GrpoConfig, MuonConfig, MuonScale, OptimConfig, OptimGroup, OptimKind, ReferenceFrom,
    RolloutsConfig, SftConfig, StageConfig,
};
pub use tower::TowerConfig;

use rlvr_policies::BaseDtype;
use rlvr_policies::decoder::Recompute;
use rlvr_rewards::RewardConfig;
use rlvr_rollout::SamplingParams;

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Name of the run; its directory is `runs/<name>` unless `--out` says otherwise. Letters, digits, `.`, `_`, `-`.
    pub name: String,
    /// Seed of everything random: initialisation, data order, sampling. Default 0.
    #[serde(default)]
    pub seed: u64,
    /// `cpu`, `cuda:N`, or `auto`: the first CUDA device when the build and the machine have one. Default `auto`.
    #[serde(default)]
    pub device: DeviceConfig,
    /// The model to train.
    pub policy: PolicyConfig,
    /// The data sources by name.
    #[serde(default)]
    pub data: BTreeMap<String, DataConfig>,
    /// The reward, a composition tree. Needed by every stage that samples and by evaluation.
    pub rewards: Option<RewardConfig>,
    /// Whoever samples the completions of GRPO stages. Absent means rlvr's own engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineConfig>,
    /// How an optimizer step is cut up for several ranks.
    #[serde(default)]
    pub parallel: ParallelConfig,
    /// The stages, run in order on the same policy.
    pub stage: Vec<StageConfig>,
    /// Evaluation on held-out tasks. Absent means none.
    pub eval: Option<EvalConfig>,
    /// When checkpoints are written and which are kept.
    #[serde(default)]
    pub checkpoint: CheckpointConfig,
    /// What is recorded.
    #[serde(default)]
    pub log: LogConfig,
    /// The look at a few rollouts before the first step.
    #[serde(default)]
    pub preflight: PreflightConfig,
    /// When a run warns of itself.
    #[serde(default)]
    pub health: HealthConfig,
}

/// Where tensors live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceConfig {
    /// The first CUDA device when there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this index.
    Cuda(usize),
    /// The graphics device that wgpu takes first; only in builds with the feature `wgpu`.
    Wgpu,
}

impl fmt::Display for DeviceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Wgpu => f.write_str("wgpu"),
        }
    }
}

/// A device name that is none of `auto`, `cpu`, `cuda:N`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown device {0:?}: use \"auto\", \"cpu\" or \"cuda:N\"")]
pub struct UnknownDevice(pub String);

impl FromStr for DeviceConfig {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "wgpu" => Ok(Self::Wgpu),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| UnknownDevice(text.to_owned())),
        }
    }
}

impl Serialize for DeviceConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// `[policy]`: a model from `path`, or a fresh small one from `[policy.tiny]`; exactly one of the two.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// Hugging Face folder, `.gguf` file, run directory or hub id `owner/name`. A relative path is looked up from the
    /// config file's folder, then from the working directory.
    pub path: Option<String>,
    /// Type of the operands of matrix products. Default `f32`. Weights, norms, softmaxes, gradients and the optimizer's
    /// state are f32 always, and on the CPU so is attention.
    pub dtype: Dtype,
    /// Whether training passes compute the insides of blocks again in the backward instead of keeping them. Never
    /// changes the result. Default `auto`: when they would take more than a third of the free memory.
    pub recompute: Recompute,
    /// Weight of the load-balancing loss of a mixture of experts (arXiv:2101.03961, equations 4 to 6), which is added to the
    /// loss of every update, though not to the loss that is shown (it has a metric of its own); ≥ 0. It is of all rows of
    /// the update, so several micro-batches go forward once more. Without experts it does nothing. Default 0.
    pub router_aux_coef: f64,
    /// How messages become a prompt: `auto`, `raw`, or a file with a template, relative to the config file. Default `auto`.
    pub chat_template: ChatTemplate,
    /// Values for variables that the chat template reads, such as `enable_thinking`; a saved policy keeps them. Default
    /// none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub template_vars: BTreeMap<String, toml::Value>,
    /// Tokens that end a completion beside the policy's own, as text or ids. Supervised training teaches the first.
    /// Default none.
    pub eos: Vec<EndToken>,
    /// Whether the text of a completion has its special tokens, for rewards that look for them; the token that ends it is
    /// never in it. Default false.
    pub keep_special: bool,
    /// Most pixels that a policy that sees is given of a picture, which is made smaller; says nothing of tiles (SmolVLM).
    /// At least one token's. Default what its `preprocessor_config.json` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pixels: Option<usize>,
    /// The parameters that training changes, by patterns: regular expressions over whole parts of Hugging Face names, so that a
    /// module stands for all in it. With an adapter, those of the adapter. Default all.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "some_of")]
    pub trainable: Option<Vec<String>>,
    /// Which of them it leaves as they are after all, likewise. Default none.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    pub frozen: Vec<String>,
    /// How the matrices of the base below an adapter lie in memory: `f32`, `bf16` (half of it) or `int8` (a quarter, embedding
    /// and head in bf16). They are rounded when the policy is opened; what is computed with them is `dtype`. With anything but
    /// f32 no packed matrices are kept from pass to pass, which costs time. On the CPU. Default `f32`.
    pub base_dtype: BaseDtype,
    /// The built-in small policy, initialised from the seed.
    pub tiny: Option<TinyConfig>,
    /// A tower from the seed in front of a policy that does not see yet, so that it does. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vision: Option<TowerConfig>,
    /// An adapter that is trained instead of the policy's own weights. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
}

/// Floating-point type of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// 32 bits.
    #[default]
    F32,
    /// bfloat16.
    Bf16,
}

impl From<Dtype> for DType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::Bf16 => Self::BF16,
        }
    }
}

/// How the messages of a task become the text of a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ChatTemplate {
    /// The model's own template, and `raw` when it has none.
    #[default]
    Auto,
    /// The contents of the messages, joined by newlines, and nothing else.
    Raw,
    /// A Jinja template of one's own.
    File(PathBuf),
}

impl Serialize for ChatTemplate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Raw => serializer.serialize_str("raw"),
            Self::File(path) => path.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ChatTemplate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "auto" => Ok(Self::Auto),
            "raw" => Ok(Self::Raw),
            file if file.contains(['.', '/']) => Ok(Self::File(file.into())),
            other => Err(de::Error::unknown_variant(other, &["auto", "raw", "a file such as chat.jinja"])),
        }
    }
}

/// A token that ends a completion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EndToken {
    /// Its id.
    Id(u32),
    /// As the vocabulary spells it.
    Text(String),
}

impl fmt::Display for EndToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// `[policy.tiny]`: the same decoder as the real models with a character tokenizer, small enough for a CPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TinyConfig {
    /// Decoder layers. Default 4.
    pub layers: usize,
    /// Width of the residual stream. Default 128.
    pub hidden: usize,
    /// Attention heads. Default 4.
    pub heads: usize,
    /// Key/value heads, a divisor of `heads`. Default 4.
    pub kv_heads: usize,
    /// Width inside the feed-forward block. Default 384.
    pub intermediate: usize,
    /// Longest sequence, prompt and completion together, in tokens. Default 128.
    pub context: usize,
    /// The characters of the tokenizer, each once; begin, end and padding tokens are added. Default: printable ASCII
    /// and newline.
    pub alphabet: String,
}

impl Default for TinyConfig {
    fn default() -> Self {
        Self {
            layers: 4,
            hidden: 128,
            heads: 4,
            kv_heads: 4,
            intermediate: 384,
            context: 128,
            alphabet: ('\n'..='\n').chain(' '..='~').collect(),
        }
    }
}

/// `[eval]`: how held-out tasks are measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalConfig {
    /// The data source, or a list of them. Default none.
    #[serde(default, deserialize_with = "one_or_many")]
    pub data: Vec<String>,
    /// Benchmarks, judged by their own verifiers: built-in names (`rlvr eval ls`) or definitions, whose paths end in
    /// `.toml` and are relative to the config file. Default none.
    #[serde(default, deserialize_with = "one_or_many")]
    pub tasks: Vec<String>,
    /// Where benchmarks find their files; relative to the config file. Default `data`.
    #[serde(default = "data_dir")]
    pub data_dir: PathBuf,
    /// Evaluate every this many steps of a `grpo` stage; 0 means only before the first and after each stage.
    /// Default 0.
    #[serde(default)]
    pub every: u64,
    /// Tasks of each source, from its beginning; absent means all.
    pub limit: Option<usize>,
    /// Whether tasks that a stage trains on may be measured too. Otherwise such a run is refused, with their number.
    /// Default false.
    #[serde(default)]
    pub allow_shared: bool,
    /// One greedy completion a task, as `eval/<set>/greedy`. Default true.
    #[serde(default = "yes")]
    pub greedy: bool,
    /// Sampled completions a task, for pass@k; 0 means none. Default 0.
    #[serde(default)]
    pub samples: usize,
    /// The k of pass@k, each at most `samples`. Default `[1]`, used when `samples` is above 0.
    #[serde(default = "pass_at_1")]
    pub pass_k: Vec<usize>,
    /// How the sampled completions are drawn; the greedy one takes its `max_tokens`. Default: the sampling of the
    /// last `grpo` stage.
    pub sampling: Option<SamplingParams>,
    /// Strings that end a completion and stay part of it. Default: those of the last `grpo` stage.
    pub stop: Option<Vec<String>>,
    /// Completions decoded together. Default: what suits the device.
    pub batch: Option<usize>,
}

fn yes() -> bool {
    true
}

fn pass_at_1() -> Vec<usize> {
    vec![1]
}

fn data_dir() -> PathBuf {
    PathBuf::from("data")
}

/// Reads a string or a list of strings.
pub(super) fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Names;
    impl<'de> de::Visitor<'de> for Names {
        type Value = Vec<String>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a name or a list of names")
        }
        fn visit_str<E: de::Error>(self, name: &str) -> Result<Vec<String>, E> {
            Ok(vec![name.to_owned()])
        }
        fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<String>, A::Error> {
            let mut names = Vec::new();
            while let Some(name) = seq.next_element()? {
                names.push(name);
            }
            Ok(names)
        }
    }
    deserializer.deserialize_any(Names)
}

/// [`one_or_many`] where there may be none.
pub(super) fn some_of<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    one_or_many(deserializer).map(Some)
}

/// `[checkpoint]`: when checkpoints are written and which are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Write one every this many steps; 0 means only at the end of a stage and when interrupted. Default 50.
    pub every: u64,
    /// How many of the newest stay, at least 1. Default 2.
    pub keep_last: usize,
    /// Whether the last of every stage stays too, so that the policies between stages can be measured. Default false.
    pub keep_stages: bool,
    /// An evaluation metric such as `eval/test/greedy`: the checkpoint with its best value stays too. Default none.
    pub keep_best: Option<String>,
    /// Whether a lower value of `keep_best` is better. Default false.
    pub lower_is_better: bool,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every: 50, keep_last: 2, keep_stages: false, keep_best: None, lower_is_better: false }
    }
}

/// `[log]`: what is recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Share of completions written to `rollouts.jsonl`, in [0, 1]. Default 1.
    pub rollouts_frac: f64,
    /// Whether those rows carry token ids and log-probabilities, so that `[stage.rollouts]` can replay them.
    /// Default false.
    pub rollouts_tokens: bool,
    /// Print a completion with its verdict every this many steps; 0 means never. Default 10.
    pub example_every: u64,
    /// Whether TensorBoard events are written. Default true.
    pub tensorboard: bool,
    /// Histograms of reward, length and advantage every this many steps; 0 means never. Default 10.
    pub histograms_every: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            rollouts_frac: 1.0,
            rollouts_tokens: false,
            example_every: 10,
            tensorboard: true,
            histograms_every: 10,
        }
    }
}

/// `[preflight]`: a look at a few rollouts before the first step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PreflightConfig {
    /// Prompts sampled, each `group_size` times; 0 skips the pre-flight. Default 8.
    pub prompts: usize,
    /// Whether a run that cannot learn anything is refused rather than warned about. Default true.
    pub refuse: bool,
}

impl Default for PreflightConfig {
    fn default() -> Self {
        Self { prompts: 8, refuse: true }
    }
}

impl RunConfig {
    /// The most steps that rollouts of a stage run ahead.
    pub fn most_lag(&self) -> usize {
        let lag = |stage: &StageConfig| match stage {
            StageConfig::Sft(_) => 0,
            StageConfig::Grpo(grpo) => grpo.max_lag,
        };
        self.stage.iter().map(lag).max().unwrap_or(0)
    }

    /// The directory of the run when none is given.
    pub fn default_dir(&self) -> PathBuf {
        PathBuf::from("runs").join(&self.name)
    }
}
