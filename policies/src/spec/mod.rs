//! A decoder as data: what its blocks are made of and which parameters they use. The passes of [`crate::model`] read it,
//! the families of [`crate::config`] write it.
mod params;
mod tower;

pub(crate) use params::Layouter;
pub use params::{ParamLayout, ParamSpec};
pub use tower::{LayerNorm, Merger, Plain, Projector, Tower, TowerAct, TowerBlock, TowerMlp, TowerNorm};

use std::ops::Range;

/// A decoder-only transformer. Parameters are indices into [`ParamLayout::specs`].
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// What turns tokens into the residual stream.
    pub embed: Embed,
    /// The blocks, in order.
    pub blocks: Vec<Block>,
    /// The norm before the head.
    pub norm: Norm,
    /// What turns the residual stream into logits.
    pub head: Head,
    /// Width of the residual stream.
    pub hidden: usize,
    /// What turns pictures into rows of the residual stream, of models that see.
    pub tower: Option<Tower>,
}

impl Model {
    /// The shape of attention, which all blocks share: a cache of keys and values has one.
    pub fn heads(&self) -> Heads {
        self.blocks[0].attention.heads
    }

    /// Values that a row of the widest MLP has inside, gate and up together.
    pub fn widest_mlp(&self, layout: &ParamLayout) -> usize {
        let rows = |mlp: &Gated| layout.specs[mlp.gate_up.weight].shape[0];
        let of = |block: &Block| match &block.mlp {
            Mlp::Gated(mlp) => rows(mlp),
            Mlp::Experts(e) => e.experts.first().map_or(0, rows) * e.top,
        };
        self.blocks.iter().map(of).max().unwrap_or(0)
    }
}

/// The embedding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Embed {
    /// `[vocab, hidden]`.
    pub table: usize,
    /// Factor of its rows.
    pub scale: f32,
    /// Token whose row gets no gradient where it is looked up, as `padding_idx` of PyTorch's embedding; as a row of a tied
    /// head it does.
    pub padding: Option<u32>,
}

/// The head: `logits = cap · tanh(scale · W h / cap)`, or `scale · W h` without a cap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Head {
    /// W `[vocab, hidden]`; the embedding's where they are tied.
    pub weight: usize,
    /// Factor of the logits.
    pub scale: f32,
    /// Bound of the logits (arXiv:2408.00118, section 2).
    pub cap: Option<f32>,
}

/// RMS norm (arXiv:1910.07467): `x / √(mean(x²) + ε) · w`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    /// w `[1, width]`.
    pub weight: usize,
    /// ε.
    pub eps: f32,
    /// The factor is `1 + w`.
    pub plus_one: bool,
}

/// What is added to a linear layer (LoRA, arXiv:2106.09685): columns `out` of a part of the result get
/// `scale · (x Aᵀ) Bᵀ`.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// A of all parts, one above the other, `[Σ rank, in]`.
    pub a: usize,
    /// The parts: layers that are one here, such as queries, keys and values, have an adapter each.
    pub parts: Vec<AdapterPart>,
}

/// The adapter of one Hugging Face module.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterPart {
    /// B `[out, rank]`.
    pub b: usize,
    /// Columns of the result.
    pub out: Range<usize>,
    /// Rows of A.
    pub ranks: Range<usize>,
    /// Factor.
    pub scale: f32,
}

/// A linear layer, `x · Wᵀ + b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linear {
    /// W `[out, in]`.
    pub weight: usize,
    /// b `[1, out]`.
    pub bias: Option<usize>,
}

/// One block: `x += residual · out(attention(in(x)))`, then the same with the MLP. A norm that is absent is the identity.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Norm before attention.
    pub attention_in: Option<Norm>,
    /// Attention.
    pub attention: Attention,
    /// Norm behind attention.
    pub attention_out: Option<Norm>,
    /// Norm before the MLP.
    pub mlp_in: Option<Norm>,
    /// MLP.
    pub mlp: Mlp,
    /// Norm behind the MLP.
    pub mlp_out: Option<Norm>,
    /// Factor of what is added to the residual stream.
    pub residual: f32,
}

/// Shape of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
}

/// Causal grouped-query attention with rotary positions.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Queries, keys and values one above the other.
    pub qkv: Linear,
    /// Output projection.
    pub out: Linear,
    /// Shape.
    pub heads: Heads,
    /// Norms of queries and keys, before the rotation.
    pub norms: QkNorms,
    /// Which of the model's rotations positions turn queries and keys by; none where they do not.
    pub rotation: Option<usize>,
    /// Tokens that a query sees, itself included; none for all before it.
    pub window: Option<usize>,
    /// Factor of the scores.
    pub scale: f32,
    /// Bound of the scores: `cap · tanh(score / cap)`.
    pub cap: Option<f32>,
}

/// Norms of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum QkNorms {
    /// None.
    None,
    /// Of every head (Qwen3, Gemma 3).
    Head {
        /// Of queries.
        q: Norm,
        /// Of keys.
        k: Norm,
    },
    /// Of all heads of a row together (OLMo 2).
    Row {
        /// Of queries.
        q: Norm,
        /// Of keys.
        k: Norm,
    },
}

/// Activation of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// `x · σ(x)`.
    Silu,
    /// GELU in its tanh form.
    GeluTanh,
}

/// `W_down (act(W_gate x) · W_up x)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gated {
    /// Gate and up one above the other.
    pub gate_up: Linear,
    /// Down.
    pub down: Linear,
    /// Of the gate.
    pub act: Act,
}

/// What a block has behind attention.
#[derive(Debug, Clone, PartialEq)]
pub enum Mlp {
    /// One for all tokens.
    Gated(Gated),
    /// A mixture: every token goes to a few.
    Experts(Experts),
}

/// Mixture of experts: `Σ p_e · expert_e(x)` over the `top` largest of `p = softmax(W_router x)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Experts {
    /// W_router `[experts, hidden]`.
    pub router: Linear,
    /// Experts a token.
    pub top: usize,
    /// Whether the weights of these are made to add up to 1.
    pub normalise: bool,
    /// The experts.
    pub experts: Vec<Gated>,
}

impl Heads {
    /// Width of a fused q, k, v row.
    pub fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }
    /// Width of an output row.
    pub fn out_width(&self) -> usize {
        self.heads * self.head_dim
    }
    /// Query heads per key/value head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
    /// Columns of query head `h` in a fused row.
    pub fn q(&self, h: usize) -> Range<usize> {
        h * self.head_dim..(h + 1) * self.head_dim
    }
    /// Columns of key head `h` in a fused row.
    pub fn k(&self, h: usize) -> Range<usize> {
        (self.heads + h) * self.head_dim..(self.heads + h + 1) * self.head_dim
    }
    /// Columns of value head `h` in a fused row.
    pub fn v(&self, h: usize) -> Range<usize> {
        (self.heads + self.kv_heads + h) * self.head_dim..(self.heads + self.kv_heads + h + 1) * self.head_dim
    }
    /// Columns of all queries in a fused row.
    pub fn queries(&self) -> Range<usize> {
        0..self.out_width()
    }
    /// Columns of all keys in a fused row.
    pub fn keys(&self) -> Range<usize> {
        self.out_width()..(self.heads + self.kv_heads) * self.head_dim
    }
}
