//! Low-rank adapters of linear layers (LoRA, arXiv:2106.09685): which layers get one and of what rank, as PEFT has it. Their
//! files are in [`crate::adapter`].
//!
//! A layer computes `W x + s · B A x` with A `[rank, in]`, B `[out, rank]` and `s = alpha / rank`, or `alpha / √rank` with
//! rsLoRA (arXiv:2312.03732).
mod layout;
mod peft;
mod targets;

pub use targets::Targets;

use crate::error::PolicyError;

/// What PEFT's `LoraConfig` says, as far as it is computed here.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraSettings {
    /// Rank of layers that `rank_pattern` does not name; at least 1.
    pub rank: usize,
    /// Alpha of layers that `alpha_pattern` does not name; positive.
    pub alpha: f64,
    /// Whether the factor is `alpha / √rank` instead of `alpha / rank`.
    pub rslora: bool,
    /// Share of a layer's inputs that A does not see in supervised training, in `[0, 1)`.
    pub dropout: f64,
    /// Which layers have an adapter.
    pub targets: Targets,
    /// Which of them have none after all.
    pub exclude: Option<Targets>,
    /// The blocks whose layers have one, by number; none for all.
    pub layers: Option<Vec<usize>>,
    /// What stands before the number of a block in the names of layers; empty for any word.
    pub layers_pattern: Vec<String>,
    /// Ranks by pattern over the ends of names; the first that matches counts.
    pub rank_pattern: Vec<(String, usize)>,
    /// Alphas, likewise.
    pub alpha_pattern: Vec<(String, f64)>,
}

impl Default for LoraSettings {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            rslora: false,
            dropout: 0.0,
            targets: Targets::AllLinear,
            exclude: None,
            layers: None,
            layers_pattern: Vec::new(),
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
        }
    }
}

/// Largest rank.
pub const MAX_RANK: usize = 1 << 13;

impl LoraSettings {
    /// Checks ranges and patterns.
    ///
    /// # Errors
    /// The setting and what is wrong with it.
    pub fn check(&self) -> Result<(), PolicyError> {
        let wrong = |key: &str, problem: String| Err(lora_error(format!("{key} {problem}")));
        let ranks = self.rank_pattern.iter().map(|(_, rank)| *rank);
        if let Some(rank) = std::iter::once(self.rank).chain(ranks).find(|r| !(1..=MAX_RANK).contains(r)) {
            return wrong("rank", format!("= {rank} is not a whole number from 1 to {MAX_RANK}"));
        }
        let alphas = self.alpha_pattern.iter().map(|(_, alpha)| *alpha);
        let broken = |alpha: &f64| !(alpha.is_finite() && *alpha > 0.0);
        if let Some(alpha) = std::iter::once(self.alpha).chain(alphas).find(broken) {
            return wrong("alpha", format!("= {alpha} is not a positive number"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return wrong("dropout", format!("= {} is not from 0 up to, but without, 1", self.dropout));
        }
        let patterns =
            self.rank_pattern.iter().map(|(p, _)| p).chain(self.alpha_pattern.iter().map(|(p, _)| p));
        for pattern in patterns {
            targets::ending(pattern)?;
        }
        Ok(())
    }

    /// Rank and factor of the adapter of a module.
    fn of(&self, module: &str) -> Result<(usize, f32), PolicyError> {
        let rank = targets::first_match(&self.rank_pattern, module)?.unwrap_or(self.rank);
        let alpha = targets::first_match(&self.alpha_pattern, module)?.unwrap_or(self.alpha);
        let by = if self.rslora { (rank as f64).sqrt() } else { rank as f64 };
        Ok((rank, (alpha / by) as f32))
    }
}

pub(crate) fn lora_error(what: String) -> PolicyError {
    PolicyError::Lora { what }
}
