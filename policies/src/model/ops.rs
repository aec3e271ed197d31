//! What a device computes with matrices of rows, a token in each.
use crate::packed::PackedBatch;
use crate::spec::{Attention, Embed, Experts, Gated, Head, Linear, Norm};
use crate::targets::{TargetGrads, TargetStats};

/// The forward operations.
pub trait Ops {
    /// A matrix. A device may share its memory between clones and then never writes to it in place.
    type Mat;
    /// What attention has to know of a batch's rows.
    type Rows;
    /// What the backward needs of attention.
    type Seen;
    /// What the backward needs of the head.
    type Kept;

    /// Where the rows of a batch attend.
    fn rows(&self, batch: &PackedBatch) -> Self::Rows;

    /// The embeddings of tokens, `[tokens, hidden]`.
    fn embed(&self, embed: &Embed, tokens: &[u32]) -> Self::Mat;

    /// `x` as it is now, whatever is done to it later.
    fn keep(&self, x: &Self::Mat) -> Self::Mat;

    /// The norm of every row, for linear layers: in the type that these take.
    fn norm(&self, x: &Self::Mat, norm: &Norm) -> Self::Mat;

    /// The norm of every row times `scale`, in f32.
    fn exact_norm(&self, x: &Self::Mat, norm: &Norm, scale: f32) -> Self::Mat;

    /// A linear layer of every row, added to `onto` where that is given.
    fn linear(&self, x: &Self::Mat, linear: &Linear, onto: Option<Self::Mat>) -> Self::Mat;

    /// `x + scale · y`.
    fn add(&self, x: Self::Mat, y: &Self::Mat, scale: f32) -> Self::Mat;

    /// The fused rows with queries and keys normed as rows ([`crate::spec::QkNorms::Row`]).
    fn norm_queries_and_keys(&self, qkv: &Self::Mat, attention: &Attention) -> Self::Mat;

    /// Attention of every row to the rows that it sees.
    ///
    /// # Shapes
    /// qkv `[rows, qkv_width]`; returns `[rows, heads · head_dim]`.
    fn attend(
        &self,
        qkv: &Self::Mat,
        attention: &Attention,
        rows: (&PackedBatch, &Self::Rows),
    ) -> (Self::Mat, Self::Seen);

    /// `act(gate) · up` of rows `[rows, 2 · width]` that hold gate and up side by side.
    fn activate(&self, gate_up: &Self::Mat, mlp: &Gated) -> Self::Mat;

    /// Rows `index` of `x` in that order; `x` has the width of the residual stream.
    fn gather(&self, x: &Self::Mat, index: &[usize]) -> Self::Mat;

    /// Rows `[experts]` of routing scores to which experts every row goes. Read by the host.
    fn route(&self, scores: &Self::Mat, experts: &Experts) -> Routing;

    /// `count` rows of zeros, as wide as the residual stream.
    fn zeros(&self, count: usize) -> Self::Mat;

    /// Adds row i of `y`, times `weights[i]` where there are weights, to row `index[i]` of `x`.
    fn scatter(&self, x: &mut Self::Mat, y: &Self::Mat, index: &[usize], weights: &[f32]);

    /// What the head says of targets. With `keep`, what it can keep for the backward.
    fn head(&self, h: &Self::Mat, head: &HeadPass, targets: &[u32], keep: bool) -> (TargetStats, Self::Kept);

    /// Logits of every row, `[rows, vocab]`.
    fn logits(&self, h: &Self::Mat, head: &HeadPass) -> Self::Mat;

    /// The rows of the batch at hand that are of pictures; none on devices that compute none.
    fn pictures(&self) -> Option<&Placed<Self>>
    where
        Self: Sized,
    {
        None
    }

    /// Sets row `index[i]` of `x` to row i of `y`.
    ///
    /// # Panics
    /// On devices without [`Ops::pictures`].
    fn put(&self, _x: &mut Self::Mat, _y: &Self::Mat, _index: &[usize]) {
        panic!("this device computes no pictures");
    }
}

/// What stands in the rows of image tokens.
#[derive(Debug)]
pub struct Placed<O: Ops> {
    /// The rows, in the order of the features.
    pub rows: Vec<usize>,
    /// What they are instead of embeddings, `[rows, hidden]`.
    pub features: O::Mat,
    /// What is added to them behind each of the first blocks, `[rows, hidden]` each.
    pub deep: Vec<O::Mat>,
}

/// The gradient of the loss that balances experts with respect to their probabilities.
#[derive(Debug, Clone, Copy)]
pub struct Balance<'a> {
    /// Of a row that counts once, for each expert.
    pub slopes: &'a [f32],
    /// How often each row counts.
    pub times: &'a [f32],
}

/// The derivatives. Parameters' gradients are added to `grads`, in the order of the parameters.
pub trait Backward: Ops {
    /// The gradients of the parameters.
    type Grads: ?Sized;

    /// Of [`Ops::linear`] without `onto`: returns the gradient of `x`.
    fn linear_backward(
        &self,
        x: Self::Mat,
        dy: &Self::Mat,
        linear: &Linear,
        grads: &mut Self::Grads,
    ) -> Self::Mat;

    /// Of [`Ops::exact_norm`], added to `dx`.
    fn norm_backward(
        &self,
        x: &Self::Mat,
        norm: &Norm,
        scale: f32,
        dy: Self::Mat,
        dx: &mut Self::Mat,
        grads: &mut Self::Grads,
    );

    /// Of [`Ops::norm_queries_and_keys`]: turns the gradient of the result into that of `qkv`.
    fn norm_queries_and_keys_backward(
        &self,
        qkv: &Self::Mat,
        attention: &Attention,
        dy: Self::Mat,
        grads: &mut Self::Grads,
    ) -> Self::Mat;

    /// Adds `y` to `x` in place.
    fn accumulate(&self, x: &mut Self::Mat, y: &Self::Mat);

    /// `scale · x`.
    fn scaled(&self, x: &Self::Mat, scale: f32) -> Self::Mat;

    /// Of [`Ops::attend`], for the gradient of its result.
    fn attend_backward(
        &self,
        qkv: &Self::Mat,
        seen: &Self::Seen,
        attention: &Attention,
        rows: (&PackedBatch, &Self::Rows),
        d_out: Self::Mat,
        grads: &mut Self::Grads,
    ) -> Self::Mat;

    /// Of [`Ops::activate`].
    fn activate_backward(&self, gate_up: Self::Mat, dy: &Self::Mat, mlp: &Gated) -> Self::Mat;

    /// Of [`Ops::scatter`] for the gradient `dx` of its result: the gradients of `y` and of the weights.
    fn scatter_backward(
        &self,
        dx: &Self::Mat,
        y: &Self::Mat,
        index: &[usize],
        weights: &[f32],
    ) -> (Self::Mat, Vec<f32>);

    /// Of [`Ops::route`], for the gradients of its weights and, where there are some, of the probabilities.
    fn route_backward(
        &self,
        routing: &Routing,
        d_weights: &[Vec<f32>],
        balance: Option<Balance<'_>>,
        experts: &Experts,
    ) -> Self::Mat;

    /// Of [`Ops::head`]: returns the gradient of `h`.
    fn head_backward(
        &self,
        h: &Self::Mat,
        kept: Self::Kept,
        head: &HeadPass,
        targets: &[u32],
        stats: (&TargetStats, &TargetGrads),
        grads: &mut Self::Grads,
    ) -> Self::Mat;

    /// Of [`Ops::embed`].
    fn embed_backward(&self, embed: &Embed, tokens: &[u32], dx: Self::Mat, grads: &mut Self::Grads);
}

/// The head at a temperature: `logits = W h`, and with a cap `cap · tanh(W h / cap) / temperature`. What else the
/// logits are multiplied by is in `h`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadPass {
    /// W.
    pub weight: usize,
    /// Factor that `h` has.
    pub scale: f32,
    /// Cap, and one over the temperature.
    pub squash: Option<Squash>,
}

/// `x` becomes `cap · tanh(x / cap) · factor`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Squash {
    /// Bound.
    pub cap: f32,
    /// Factor behind it.
    pub factor: f32,
}

impl HeadPass {
    /// Of a head at a temperature.
    pub fn new(head: &Head, temperature: f64) -> Self {
        let factor = (1.0 / temperature) as f32;
        match head.cap {
            None => Self { weight: head.weight, scale: head.scale * factor, squash: None },
            Some(cap) => {
                Self { weight: head.weight, scale: head.scale, squash: Some(Squash { cap, factor }) }
            }
        }
    }
}

/// Where the tokens of a batch go in a mixture of experts.
#[derive(Debug, Clone, PartialEq)]
pub struct Routing {
    /// softmax of the scores, `[rows, experts]`.
    pub probabilities: Vec<f32>,
    /// For every expert, the rows that go to it, ascending.
    pub rows: Vec<Vec<usize>>,
    /// The weight of each, aligned with `rows`.
    pub weights: Vec<Vec<f32>>,
}
