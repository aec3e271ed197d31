//! A vision tower and its projector as data: what they are made of and which parameters they use.
use super::{Gated, Linear, Norm};

/// What turns patches of pictures into rows of the residual stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Tower {
    /// Patches `[rows, patch values]` to the tower's width.
    pub patch: Linear,
    /// Learned positions `[positions, width]`, a row for each place of a square.
    pub table: Option<usize>,
    /// The blocks, in order; attention is bidirectional.
    pub blocks: Vec<TowerBlock>,
    /// The norm behind them.
    pub post: Option<TowerNorm>,
    /// Neighbouring rows to one of the text's width.
    pub projector: Projector,
    /// What is projected behind earlier blocks and added to image rows behind the first blocks of the text (DeepStack,
    /// arXiv:2406.04334): the block, ascending, and the projector.
    pub deep: Vec<(usize, Merger)>,
    /// Width of the tower.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Patches that become one row, `side · side`.
    pub merged: usize,
}

/// One block: `x += attention(norm(x))`, then the same with the MLP.
#[derive(Debug, Clone, PartialEq)]
pub struct TowerBlock {
    /// Before attention.
    pub attention_in: TowerNorm,
    /// Queries, keys and values one above the other.
    pub qkv: Linear,
    /// Output projection.
    pub out: Linear,
    /// Before the MLP.
    pub mlp_in: TowerNorm,
    /// MLP.
    pub mlp: TowerMlp,
    /// Whether rows attend within their window only.
    pub windowed: bool,
}

/// A norm of a tower.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TowerNorm {
    /// RMS norm.
    Rms(Norm),
    /// Layer norm (arXiv:1607.06450).
    Layer(LayerNorm),
}

/// `(x − mean(x)) / √(var(x) + ε) · w + b`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerNorm {
    /// w `[1, width]`.
    pub weight: usize,
    /// b `[1, width]`.
    pub bias: usize,
    /// ε.
    pub eps: f32,
}

/// The MLP of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TowerMlp {
    /// With a gate.
    Gated(Gated),
    /// `second(act(first(x)))`.
    Plain(Plain),
}

/// `second(act(first(x)))`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plain {
    /// The first layer.
    pub first: Linear,
    /// The second.
    pub second: Linear,
    /// Between them.
    pub act: TowerAct,
}

/// Activation of an MLP without a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TowerAct {
    /// `x · σ(1.702 x)`.
    QuickGelu,
    /// GELU in its tanh form (arXiv:1606.08415).
    GeluTanh,
    /// GELU, `x · Φ(x)`.
    Gelu,
}

/// Neighbouring rows to one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Projector {
    /// A norm and two layers.
    Merger(Merger),
    /// One layer without bias (pixel shuffle).
    Shuffle(Linear),
}

/// A norm, neighbouring rows one behind the other, two layers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Merger {
    /// The norm.
    pub norm: TowerNorm,
    /// Whether it is of the joined rows instead of each.
    pub joined: bool,
    /// The layers.
    pub mlp: Plain,
}
