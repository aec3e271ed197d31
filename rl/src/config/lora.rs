//! `[policy.lora]`: training an adapter instead of all weights.
use rlvr_policies::{LoraSettings, PolicyError, Targets};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `[policy.lora]`: low-rank adapters (LoRA, arXiv:2106.09685) over a policy that stays as it is. Only they are trained, have
/// gradients and moments, and stand in checkpoints.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Folder of a PEFT adapter to go on from; what it adapts and how is what its `adapter_config.json` says. A relative path
    /// is looked up as `policy.path`. Default: a new adapter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// Rank, 1 to 8192. Default 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// Alpha: what the adapter adds is multiplied by alpha / rank; positive. Default 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Whether the factor is alpha / √rank instead (rsLoRA, arXiv:2312.03732). Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rslora: Option<bool>,
    /// Share of its inputs that an adapter does not see in supervised stages, in [0, 1); never in GRPO, whose passes have to be
    /// those that sampled. Default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// Layers that have one: `"all_linear"` (every linear layer but the head), names such as `["q_proj", "v_proj"]`, or a
    /// regular expression over full names. Default `"all_linear"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets: Option<LoraTargets>,
    /// Layers that have none after all, likewise. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude: Option<LoraTargets>,
    /// Numbers of the blocks whose layers have one. Default all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<usize>>,
    /// Ranks by regular expression over the ends of names; the first that matches counts. A list of pairs, or a table, whose
    /// names are gone through in alphabetical order. Default none.
    #[serde(skip_serializing_if = "Patterns::is_empty")]
    pub rank_pattern: Patterns<usize>,
    /// Alphas, likewise. Default none.
    #[serde(skip_serializing_if = "Patterns::is_empty")]
    pub alpha_pattern: Patterns<f64>,
    /// What `final/` holds: the `adapter`, or the policy with it `merged` into its weights. Default `adapter`.
    pub save: LoraSave,
}

/// Values by pattern, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Patterns<T> {
    /// `[["q_proj", 8], …]`.
    Pairs(Vec<(String, T)>),
    /// `{ q_proj = 8, … }`.
    Table(BTreeMap<String, T>),
}

impl<T> Default for Patterns<T> {
    fn default() -> Self {
        Self::Pairs(Vec::new())
    }
}

impl<T: Copy> Patterns<T> {
    fn is_empty(&self) -> bool {
        self.pairs().is_empty()
    }

    fn pairs(&self) -> Vec<(String, T)> {
        match self {
            Self::Pairs(pairs) => pairs.clone(),
            Self::Table(table) => table.iter().map(|(name, value)| (name.clone(), *value)).collect(),
        }
    }
}

/// Layers by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LoraTargets {
    /// `all_linear`, or a regular expression.
    Pattern(String),
    /// Names, or ends of names.
    Names(Vec<String>),
}

/// What a finished run leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoraSave {
    /// The adapter, over the base that the run began with.
    #[default]
    Adapter,
    /// A policy without adapter that computes the same.
    Merged,
}

impl From<&LoraTargets> for Targets {
    fn from(targets: &LoraTargets) -> Self {
        match targets {
            LoraTargets::Pattern(all) if matches!(all.as_str(), "all_linear" | "all-linear") => {
                Self::AllLinear
            }
            LoraTargets::Pattern(pattern) => Self::Pattern(pattern.clone()),
            LoraTargets::Names(names) => Self::Names(names.clone()),
        }
    }
}

impl LoraConfig {
    /// The settings of a new adapter.
    pub fn settings(&self) -> LoraSettings {
        let usual = LoraSettings::default();
        LoraSettings {
            rank: self.rank.unwrap_or(usual.rank),
            alpha: self.alpha.unwrap_or(usual.alpha),
            rslora: self.rslora.unwrap_or(usual.rslora),
            dropout: self.dropout.unwrap_or(usual.dropout),
            targets: self.targets.as_ref().map_or(usual.targets, Targets::from),
            exclude: self.exclude.as_ref().map(Targets::from),
            layers: self.layers.clone(),
            rank_pattern: self.rank_pattern.pairs(),
            alpha_pattern: self.alpha_pattern.pairs(),
            ..usual
        }
    }

    /// Settings that say something although a given adapter has said it.
    fn said_twice(&self) -> Option<&'static str> {
        [
            ("rank", self.rank.is_some()),
            ("alpha", self.alpha.is_some()),
            ("rslora", self.rslora.is_some()),
            ("dropout", self.dropout.is_some()),
            ("targets", self.targets.is_some()),
            ("exclude", self.exclude.is_some()),
            ("layers", self.layers.is_some()),
            ("rank_pattern", !self.rank_pattern.is_empty()),
            ("alpha_pattern", !self.alpha_pattern.is_empty()),
        ]
        .into_iter()
        .find_map(|(name, is_said)| is_said.then_some(name))
    }

    /// What is wrong with the settings, as far as they say it without a policy.
    pub(super) fn problem(&self) -> Option<String> {
        if let Some(name) = self.said_twice().filter(|_| self.adapter.is_some()) {
            return Some(format!("`{name}` is said by the adapter that `adapter` names: leave it out"));
        }
        self.settings().check().err().map(|e| match e {
            PolicyError::Lora { what } => what,
            other => other.to_string(),
        })
    }
}
