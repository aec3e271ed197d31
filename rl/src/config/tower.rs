//! `[policy.vision]`: a tower from random weights.

use super::TinyConfig;
use crate::checks::Checks;
use rlvr_policies::TowerSizes;
use serde::{Deserialize, Serialize};

/// Most parameters in the blocks of a tower from nothing: 4 GiB of f32.
const MAX_PARAMETERS: u128 = 1 << 30;
/// Most pixels a side, and most of them that become one token.
const MAX_IMAGE: usize = 4096;
const MAX_TOKEN: usize = 1024;
/// Tokens around a picture.
const AROUND: usize = 3;

/// `[policy.vision]`: a tower of SmolVLM's shape and a projector, initialised from the seed, in front of the text model that
/// `path` or `[policy.tiny]` gives, which is of the family llama (SmolLM2, Llama) and does not see. What is saved is an Idefics3
/// folder.
///
/// A picture becomes `(image / patch / scale)²` tokens, whatever its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TowerConfig {
    /// Pixels a side: pictures are made squares of this size, without tiles. Default 48.
    pub image: usize,
    /// Pixels a side of a patch. Default 8.
    pub patch: usize,
    /// Patches a side that become one token (pixel shuffle). Default 2.
    pub scale: usize,
    /// Blocks. Default 4.
    pub layers: usize,
    /// Width. Default 128.
    pub hidden: usize,
    /// Attention heads, a divisor of `hidden`. Default 4.
    pub heads: usize,
    /// Width inside the feed-forward block. Default 512.
    pub intermediate: usize,
}

impl Default for TowerConfig {
    fn default() -> Self {
        Self { image: 48, patch: 8, scale: 2, layers: 4, hidden: 128, heads: 4, intermediate: 512 }
    }
}

impl TowerConfig {
    /// The sizes of the tower.
    pub fn sizes(&self) -> TowerSizes {
        let Self { image, patch, scale, layers, hidden, heads, intermediate } = *self;
        TowerSizes { image, patch, scale, layers, hidden, heads, intermediate }
    }

    /// Notes what is wrong with the sizes.
    pub(super) fn check(&self, tiny: Option<&TinyConfig>, checks: &mut Checks) {
        let at = |field: &str| format!("policy.vision.{field}");
        let all = [
            ("image", self.image),
            ("patch", self.patch),
            ("scale", self.scale),
            ("layers", self.layers),
            ("hidden", self.hidden),
            ("heads", self.heads),
            ("intermediate", self.intermediate),
        ];
        for (field, value) in all {
            checks.require(value > 0, at(field), "must be at least 1");
        }
        if all.iter().any(|(_, value)| *value == 0) {
            return;
        }
        checks.require(self.image <= MAX_IMAGE, at("image"), format!("must be at most {MAX_IMAGE}"));
        let token = self.patch.saturating_mul(self.scale);
        checks.require(
            token <= MAX_TOKEN && self.image.is_multiple_of(token.max(1)),
            at("image"),
            format!(
                "is {} and must be a multiple of patch · scale = {token}, the side of a token, which is at most {MAX_TOKEN}",
                self.image
            ),
        );
        checks.require(
            self.hidden.is_multiple_of(self.heads),
            at("hidden"),
            format!("is {} and must be a multiple of heads = {}", self.hidden, self.heads),
        );
        let (hidden, inner) = (self.hidden as u128, self.intermediate as u128);
        let parameters = (4 * hidden.saturating_mul(hidden)).saturating_add(2 * hidden.saturating_mul(inner));
        let parameters = parameters.saturating_mul(self.layers as u128);
        checks.require(
            parameters <= MAX_PARAMETERS,
            "policy.vision",
            format!("has {parameters} parameters in its blocks; at most {MAX_PARAMETERS}"),
        );
        let tokens = (self.image / token.max(1)).saturating_pow(2) + AROUND;
        if let Some(tiny) = tiny {
            checks.require(
                tokens < tiny.context,
                at("image"),
                format!(
                    "a picture has {tokens} tokens, and policy.tiny.context = {} leaves no room for a question: make it \
                     longer, or image smaller",
                    tiny.context
                ),
            );
        }
    }
}
