//! A vision tower with its projectors, forward and backward, once for all devices that compute the operations here.
use super::ops::Backward;
use crate::spec::{
    LayerNorm, Linear, Merger, Norm, Plain, Projector, Tower, TowerAct, TowerBlock, TowerMlp, TowerNorm,
};
use crate::trained::TowerDepth;
use std::ops::Range;

/// What one picture asks of attention.
#[derive(Debug, Clone, Default)]
pub struct Sight {
    /// Cosines and sines of every row, `[rows, head_dim / 2]` each; none where positions are learned only.
    pub rotation: Option<(Vec<f32>, Vec<f32>)>,
    /// Rows that see each other in blocks without windows.
    pub whole: Vec<Range<usize>>,
    /// Rows that see each other in the others.
    pub windows: Vec<Range<usize>>,
    /// For every row the rows of the table of positions, with their weights.
    pub places: Vec<[(usize, f32); 4]>,
}

/// The operations that towers need beside those of texts.
pub trait TowerOps: Backward {
    /// Rows from host memory.
    fn rows_of(&self, values: &[f32]) -> Self::Mat;

    /// As many zeros as `like` has values.
    fn zeros_like(&self, like: &Self::Mat) -> Self::Mat;

    /// Adds rows of a table of learned positions.
    fn add_places(&self, x: &mut Self::Mat, table: usize, places: &[[(usize, f32); 4]]);

    /// Of [`TowerOps::add_places`], for the gradient of its result.
    fn add_places_backward(
        &self,
        dx: &Self::Mat,
        table: usize,
        places: &[[(usize, f32); 4]],
        grads: &mut Self::Grads,
    );

    /// The layer norm of every row.
    fn layer_norm(&self, x: &Self::Mat, norm: &LayerNorm) -> Self::Mat;

    /// Of [`TowerOps::layer_norm`], added to `dx`.
    fn layer_norm_backward(
        &self,
        x: &Self::Mat,
        norm: &LayerNorm,
        dy: &Self::Mat,
        dx: &mut Self::Mat,
        grads: &mut Self::Grads,
    );

    /// An activation of every value.
    fn act(&self, x: &Self::Mat, act: TowerAct) -> Self::Mat;

    /// Of [`TowerOps::act`].
    fn act_backward(&self, x: &Self::Mat, act: TowerAct, dy: &Self::Mat) -> Self::Mat;

    /// Attention of every row to all rows of its segment.
    ///
    /// # Shapes
    /// qkv `[rows, 3 · width]`; returns `[rows, width]`.
    fn see(&self, qkv: &Self::Mat, heads: usize, segments: &[Range<usize>], sight: &Sight) -> Self::Mat;

    /// Of [`TowerOps::see`].
    fn see_backward(
        &self,
        qkv: &Self::Mat,
        heads: usize,
        segments: &[Range<usize>],
        sight: &Sight,
        d_out: &Self::Mat,
    ) -> Self::Mat;
}

fn normed<O: TowerOps>(o: &O, x: &O::Mat, norm: &TowerNorm) -> O::Mat {
    match norm {
        TowerNorm::Rms(norm) => o.norm(x, norm),
        TowerNorm::Layer(norm) => o.layer_norm(x, norm),
    }
}

fn normed_backward<O: TowerOps>(
    o: &O,
    x: &O::Mat,
    norm: &TowerNorm,
    dy: O::Mat,
    dx: &mut O::Mat,
    grads: &mut O::Grads,
) {
    match norm {
        TowerNorm::Rms(norm @ Norm { .. }) => o.norm_backward(x, norm, 1.0, dy, dx, grads),
        TowerNorm::Layer(norm) => o.layer_norm_backward(x, norm, &dy, dx, grads),
    }
}

/// What a block's backward needs.
struct Saved<O: TowerOps> {
    qkv: O::Mat,
    attended: O::Mat,
    middle: O::Mat,
    inner: O::Mat,
}

fn segments<'s>(block: &TowerBlock, sight: &'s Sight) -> &'s [Range<usize>] {
    if block.windowed { &sight.windows } else { &sight.whole }
}

fn block_forward<O: TowerOps>(
    o: &O,
    tower: &Tower,
    block: &TowerBlock,
    x: &O::Mat,
    sight: &Sight,
) -> (O::Mat, Saved<O>) {
    let qkv = o.linear(&normed(o, x, &block.attention_in), &block.qkv, None);
    let attended = o.see(&qkv, tower.heads, segments(block, sight), sight);
    let middle = o.linear(&attended, &block.out, Some(o.keep(x)));
    let h = normed(o, &middle, &block.mlp_in);
    let (inner, out) = match &block.mlp {
        TowerMlp::Gated(mlp) => {
            let gate_up = o.linear(&h, &mlp.gate_up, None);
            let out = o.linear(&o.activate(&gate_up, mlp), &mlp.down, Some(o.keep(&middle)));
            (gate_up, out)
        }
        TowerMlp::Plain(mlp) => {
            let inner = o.linear(&h, &mlp.first, None);
            let out = o.linear(&o.act(&inner, mlp.act), &mlp.second, Some(o.keep(&middle)));
            (inner, out)
        }
    };
    (out, Saved { qkv, attended, middle, inner })
}

fn block_backward<O: TowerOps>(
    o: &O,
    tower: &Tower,
    block: &TowerBlock,
    (x, saved): (&O::Mat, Saved<O>),
    sight: &Sight,
    dx: &mut O::Mat,
    grads: &mut O::Grads,
) {
    let Saved { qkv, attended, middle, inner } = saved;
    let h = normed(o, &middle, &block.mlp_in);
    let dh = match &block.mlp {
        TowerMlp::Gated(mlp) => {
            let d_act = o.linear_backward(o.activate(&inner, mlp), dx, &mlp.down, grads);
            let d_inner = o.activate_backward(inner, &d_act, mlp);
            o.linear_backward(h, &d_inner, &mlp.gate_up, grads)
        }
        TowerMlp::Plain(mlp) => plain_backward(o, mlp, inner, h, dx, grads),
    };
    normed_backward(o, &middle, &block.mlp_in, dh, dx, grads);
    let d_out = o.linear_backward(attended, dx, &block.out, grads);
    let d_qkv = o.see_backward(&qkv, tower.heads, segments(block, sight), sight, &d_out);
    let dh = o.linear_backward(normed(o, x, &block.attention_in), &d_qkv, &block.qkv, grads);
    normed_backward(o, x, &block.attention_in, dh, dx, grads);
}

fn plain_backward<O: TowerOps>(
    o: &O,
    mlp: &Plain,
    inner: O::Mat,
    h: O::Mat,
    dy: &O::Mat,
    grads: &mut O::Grads,
) -> O::Mat {
    let d_act = o.linear_backward(o.act(&inner, mlp.act), dy, &mlp.second, grads);
    let d_inner = o.act_backward(&inner, mlp.act, &d_act);
    o.linear_backward(h, &d_inner, &mlp.first, grads)
}

/// Rows one behind the other are joined by reading them as fewer and wider ones.
fn merged<O: TowerOps>(o: &O, merger: &Merger, x: &O::Mat) -> O::Mat {
    let inner = o.linear(&normed(o, x, &merger.norm), &merger.mlp.first, None);
    o.linear(&o.act(&inner, merger.mlp.act), &merger.mlp.second, None)
}

fn merged_backward<O: TowerOps>(
    o: &O,
    merger: &Merger,
    x: &O::Mat,
    dy: &O::Mat,
    dx: Option<&mut O::Mat>,
    grads: &mut O::Grads,
) {
    let h = normed(o, x, &merger.norm);
    let inner = o.linear(&h, &merger.mlp.first, None);
    let dh = plain_backward(o, &merger.mlp, inner, h, dy, grads);
    match dx {
        Some(dx) => normed_backward(o, x, &merger.norm, dh, dx, grads),
        None => normed_backward(o, x, &merger.norm, dh, &mut o.zeros_like(x), grads),
    }
}

/// What a tower makes of a picture.
pub struct Seen<O: TowerOps> {
    /// Rows of the text's width, in the order of the tower.
    pub features: O::Mat,
    /// The same of earlier blocks.
    pub deep: Vec<O::Mat>,
    /// The input of every block and the output of the last, where they are kept.
    inputs: Vec<O::Mat>,
}

impl<O: TowerOps> Seen<O> {
    /// The output of the last block, where it is kept.
    pub fn last(&self) -> Option<&O::Mat> {
        self.inputs.last()
    }
}

/// Features of a picture's patches `[rows, patch values]`. With `keep`, what the backward needs: the inputs of blocks, whose
/// insides are computed again.
pub fn forward<O: TowerOps>(o: &O, tower: &Tower, patches: &O::Mat, sight: &Sight, keep: bool) -> Seen<O> {
    let mut x = o.linear(patches, &tower.patch, None);
    if let Some(table) = tower.table {
        o.add_places(&mut x, table, &sight.places);
    }
    let (mut inputs, mut deep) = (Vec::new(), Vec::new());
    for (i, block) in tower.blocks.iter().enumerate() {
        let out = block_forward(o, tower, block, &x, sight).0;
        let input = std::mem::replace(&mut x, out);
        if keep {
            inputs.push(input);
        }
        deep.extend(tower.deep.iter().filter(|(at, _)| *at == i).map(|(_, merger)| merged(o, merger, &x)));
    }
    let last = tower.post.as_ref().map(|post| normed(o, &x, post));
    let y = last.as_ref().unwrap_or(&x);
    let features = match &tower.projector {
        Projector::Merger(merger) => merged(o, merger, y),
        Projector::Shuffle(linear) => o.linear(y, linear, None),
    };
    if keep {
        inputs.push(x);
    }
    Seen { features, deep, inputs }
}

/// Its backward: parameters' gradients are added to `grads`, for the gradients of the features and of those of earlier
/// blocks.
#[allow(clippy::too_many_arguments)]
pub fn backward<O: TowerOps>(
    o: &O,
    tower: &Tower,
    patches: O::Mat,
    sight: &Sight,
    seen: Seen<O>,
    (d_features, d_deep): (&O::Mat, &[O::Mat]),
    depth: TowerDepth,
    grads: &mut O::Grads,
) {
    let Seen { mut inputs, .. } = seen;
    let Some(mut x) = inputs.pop() else { return };
    let mut dx = o.zeros_like(&x);
    projector_backward(o, tower, &x, d_features, &mut dx, depth, grads);
    let mut deep: Vec<_> = tower.deep.iter().zip(d_deep).collect();
    for (i, block) in tower.blocks.iter().enumerate().rev() {
        // `x` is the output of this block here.
        while let Some(((_, merger), d)) = deep.pop_if(|((at, _), _)| *at == i) {
            let through = depth.first_block <= i;
            merged_backward(o, merger, &x, d, through.then_some(&mut dx), grads);
        }
        let Some(input) = inputs.pop() else { return };
        if i >= depth.first_block {
            let (_, saved) = block_forward(o, tower, block, &input, sight);
            block_backward(o, tower, block, (&input, saved), sight, &mut dx, grads);
        }
        x = input;
    }
    if depth.patches {
        if let Some(table) = tower.table {
            o.add_places_backward(&dx, table, &sight.places, grads);
        }
        drop(o.linear_backward(patches, &dx, &tower.patch, grads));
    }
}

/// The backward of the projector alone, for the output `last` of the last block: all there is to do where nothing below it is
/// trained.
pub fn backward_of_projector<O: TowerOps>(
    o: &O,
    tower: &Tower,
    last: &O::Mat,
    d_features: &O::Mat,
    depth: TowerDepth,
    grads: &mut O::Grads,
) {
    projector_backward(o, tower, last, d_features, &mut o.zeros_like(last), depth, grads);
}

fn projector_backward<O: TowerOps>(
    o: &O,
    tower: &Tower,
    x: &O::Mat,
    d_features: &O::Mat,
    dx: &mut O::Mat,
    depth: TowerDepth,
    grads: &mut O::Grads,
) {
    let last = tower.post.as_ref().map(|post| normed(o, x, post));
    let y = last.as_ref().unwrap_or(x);
    let mut dy = o.zeros_like(y);
    match &tower.projector {
        Projector::Merger(merger) => {
            merged_backward(o, merger, y, d_features, depth.below_projector.then_some(&mut dy), grads);
        }
        Projector::Shuffle(linear @ Linear { .. }) => {
            dy = o.linear_backward(o.keep(y), d_features, linear, grads);
        }
    }
    match &tower.post {
        Some(post) => normed_backward(o, x, post, dy, dx, grads),
        None => *dx = dy,
    }
}
