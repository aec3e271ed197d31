//! What a family's blocks are beside Llama's, and which layers differ.
use crate::spec::Act;

/// What is particular about a decoder; the default is Llama.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Where the norms of a block stand.
    pub norms: NormPlaces,
    /// Whether norms multiply by `1 + w` instead of `w`.
    pub norm_plus_one: bool,
    /// Norms of queries and keys.
    pub qk_norm: QkNorm,
    /// Activation of the MLP's gate.
    pub activation: Act,
    /// Whether the linear layers of the MLP have biases.
    pub mlp_bias: bool,
    /// Factor of embeddings.
    pub embedding_scale: f64,
    /// Factor of what a block adds to the residual stream.
    pub residual_scale: f64,
    /// Factor of attention scores; none for `1 / √head_dim`.
    pub attention_scale: Option<f64>,
    /// Bound of attention scores.
    pub attention_cap: Option<f64>,
    /// Factor of logits.
    pub logit_scale: f64,
    /// Bound of logits.
    pub logit_cap: Option<f64>,
    /// Columns of a head that are rotated, even; none for all.
    pub rotary_dim: Option<usize>,
    /// θ of the layers with a window, which then are not stretched; none where they rotate as the others do.
    pub local_rope_theta: Option<f64>,
    /// What layers see; empty where all see everything and rotate.
    pub layers: Vec<LayerKind>,
    /// Experts instead of one MLP.
    pub experts: Option<ExpertShape>,
    /// Whether q, k, v and gate, up are one tensor each in Hugging Face files.
    pub fused: bool,
    /// `pad_token_id` of the config itself: looking it up gives its embedding no gradient. What other files name as padding
    /// does not count.
    pub padding: Option<u32>,
}

/// Where the norms of a block stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlaces {
    /// Before attention and MLP.
    Before,
    /// Behind them.
    Behind,
    /// Before and behind.
    Both,
}

/// Norms of queries and keys before the rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// None.
    None,
    /// Of every head.
    Head,
    /// Of all heads of a token together.
    Row,
}

/// What one layer's attention sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerKind {
    /// Tokens that a query sees, itself included; none for all before it.
    pub window: Option<usize>,
    /// Whether queries and keys are rotated by position.
    pub rotated: bool,
}

/// A mixture of experts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpertShape {
    /// Experts of a layer.
    pub count: usize,
    /// Experts that a token goes to.
    pub top: usize,
    /// Width of an expert.
    pub width: usize,
    /// Whether the weights of a token's experts are made to add up to 1.
    pub normalise: bool,
    /// Layers with one MLP instead, ascending.
    pub dense: Vec<usize>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            norms: NormPlaces::Before,
            norm_plus_one: false,
            qk_norm: QkNorm::None,
            activation: Act::Silu,
            mlp_bias: false,
            embedding_scale: 1.0,
            residual_scale: 1.0,
            attention_scale: None,
            attention_cap: None,
            logit_scale: 1.0,
            logit_cap: None,
            rotary_dim: None,
            local_rope_theta: None,
            layers: Vec::new(),
            experts: None,
            fused: false,
            padding: None,
        }
    }
}

impl Shape {
    /// What a layer sees.
    pub fn layer(&self, index: usize) -> LayerKind {
        self.layers.get(index).copied().unwrap_or(LayerKind { window: None, rotated: true })
    }

    /// Sets the window of the layers for which `sliding` holds.
    pub(crate) fn set_windows(&mut self, layers: usize, window: usize, sliding: impl Fn(usize) -> bool) {
        if (0..layers).any(&sliding) {
            let kind = |l| LayerKind { window: sliding(l).then_some(window), ..self.layer(l) };
            self.layers = (0..layers).map(kind).collect();
        }
    }
}
