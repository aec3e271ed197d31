//! One decoder block on packed rows, forward and backward.
use super::attention::{self, Context, Heads};
use super::buffer::Buffer;
use super::gemm::{Mat, Operands, Panels, Write, product};
use super::norm::{rms_norm, rms_norm_backward};
use super::rope::RopeTable;
use super::swiglu::{swiglu, swiglu_backward};
use crate::packed::PackedBatch;
use crate::params::LayerIndex;

/// A weight matrix `[out, in]`, and the same packed where that was done before.
#[derive(Clone, Copy)]
pub struct Weight<'a> {
    /// Row-major.
    pub values: &'a [f32],
    /// Its transpose, as the right side of products.
    pub panels: Option<&'a Panels>,
    /// What its products are computed in.
    pub operands: Operands,
}

impl Weight<'_> {
    /// `y = x·wᵀ` or `y += x·wᵀ`.
    ///
    /// # Shapes
    /// x `[rows, in]`, y `[rows, out]`.
    pub fn apply(&self, rows: usize, x: &[f32], y: &mut [f32], write: Write) {
        let (inside, out) = (x.len() / rows.max(1), y.len() / rows.max(1));
        let x = Mat::rows(x, inside);
        match self.panels {
            Some(panels) => panels.product(rows, x, y, write),
            None => {
                let weight = Mat::rows(self.values, inside).t();
                product(self.operands, [rows, out, inside], x, weight, y, write);
            }
        }
    }
}

/// The matrices of a decoder packed for generation, by the index of the parameter.
pub type WeightPanels = [Option<Panels>];

/// Borrowed parameters of a block; shapes as in [`crate::params`].
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct Layer<'a> {
    pub input_norm: &'a [f32],
    pub qkv: Weight<'a>,
    pub qkv_bias: Option<&'a [f32]>,
    pub q_norm: Option<&'a [f32]>,
    pub k_norm: Option<&'a [f32]>,
    pub o: Weight<'a>,
    pub o_bias: Option<&'a [f32]>,
    pub post_norm: &'a [f32],
    pub gate_up: Weight<'a>,
    pub down: Weight<'a>,
}

impl<'a> Layer<'a> {
    /// Picks a layer's parameters from the list of all.
    pub fn new(
        params: &[&'a [f32]],
        panels: Option<&'a WeightPanels>,
        operands: Operands,
        index: &LayerIndex,
    ) -> Self {
        let at = |i: usize| params[i];
        let panels = |i: usize| panels.and_then(|p| p[i].as_ref());
        let weight = |i: usize| Weight { values: params[i], panels: panels(i), operands };
        Self {
            input_norm: at(index.input_norm),
            qkv: weight(index.qkv),
            qkv_bias: index.qkv_bias.map(at),
            q_norm: index.q_norm.map(at),
            k_norm: index.k_norm.map(at),
            o: weight(index.o),
            o_bias: index.o_bias.map(at),
            post_norm: at(index.post_norm),
            gate_up: weight(index.gate_up),
            down: weight(index.down),
        }
    }

    /// The attention context of this layer.
    pub fn context(&self, heads: Heads, rope: &'a RopeTable) -> Context<'a> {
        Context { heads, rope, q_norm: self.q_norm, k_norm: self.k_norm }
    }
}

/// What the backward needs of a block's forward.
pub struct Saved {
    input: Buffer,
    qkv: Buffer,
    attended: Buffer,
    middle: Buffer,
    gate_up: Buffer,
}

/// Adds a bias row to every row.
pub fn add_bias(rows: &mut [f32], bias: Option<&[f32]>) {
    if let Some(bias) = bias {
        for row in rows.chunks_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
        }
    }
}

fn sum_rows(rows: &[f32], sum: &mut [f32]) {
    for row in rows.chunks(sum.len()) {
        sum.iter_mut().zip(row).for_each(|(s, x)| *s += x);
    }
}

/// The first half: norm, q/k/v projection. Returns `[rows, qkv_width]`.
pub fn project(layer: &Layer, heads: &Heads, x: &[f32]) -> Buffer {
    let d = layer.input_norm.len();
    let n = x.len() / d;
    let mut h = Buffer::any(n * d);
    rms_norm(x, layer.input_norm, heads.eps, &mut h);
    let width = heads.qkv_width();
    let mut qkv = Buffer::any(n * width);
    layer.qkv.apply(n, &h, &mut qkv, Write::Set);
    add_bias(&mut qkv, layer.qkv_bias);
    qkv
}

/// The rest: output projection and MLP, both added to the residual `x` in place. Returns the residual between the two
/// and the gate/up rows if they are to be kept.
pub fn finish(
    layer: &Layer,
    heads: &Heads,
    x: &mut [f32],
    attended: &[f32],
    keep: bool,
) -> Option<(Buffer, Buffer)> {
    let d = layer.input_norm.len();
    let n = x.len() / d;
    layer.o.apply(n, attended, x, Write::Add);
    add_bias(x, layer.o_bias);
    let middle = keep.then(|| Buffer::copy_of(x));
    let mut h = Buffer::any(n * d);
    rms_norm(x, layer.post_norm, heads.eps, &mut h);
    let width = layer.down.values.len() / d;
    let mut gate_up = Buffer::any(n * 2 * width);
    layer.gate_up.apply(n, &h, &mut gate_up, Write::Set);
    let mut act = Buffer::any(n * width);
    swiglu(&gate_up, width, &mut act);
    layer.down.apply(n, &act, x, Write::Add);
    middle.map(|m| (m, gate_up))
}

/// Block forward, in place on the residual `x` `[rows, hidden]`. Keeps what the backward needs if `keep`.
pub fn forward(
    layer: &Layer,
    heads: Heads,
    rope: &RopeTable,
    batch: &PackedBatch,
    x: &mut [f32],
    keep: bool,
) -> Option<Saved> {
    let input = keep.then(|| Buffer::copy_of(x));
    let qkv = project(layer, &heads, x);
    let mut attended = Buffer::any(batch.rows() * heads.out_width());
    attention::forward(&layer.context(heads, rope), batch, &qkv, &mut attended);
    let kept = finish(layer, &heads, x, &attended, keep);
    let (middle, gate_up) = kept?;
    Some(Saved { input: input?, qkv, attended, middle, gate_up })
}

/// Block backward: turns the gradient of the output in `dx` `[rows, hidden]` into that of the input, and adds the
/// parameters' gradients to `grads` (same order as the parameters).
#[allow(clippy::too_many_arguments)] // What a block is made of.
pub fn backward(
    layer: &Layer,
    heads: Heads,
    rope: &RopeTable,
    batch: &PackedBatch,
    saved: Saved,
    dx: &mut [f32],
    index: &LayerIndex,
    grads: &mut [Vec<f32>],
) {
    let d = layer.input_norm.len();
    let n = batch.rows();
    let width = layer.down.values.len() / d;
    let ow = heads.out_width();
    let eps = heads.eps;
    let product = |shape: [usize; 3], a: Mat, b: Mat, c: &mut [f32], write: Write| {
        product(layer.down.operands, shape, a, b, c, write)
    };
    let Saved { input, qkv, attended, middle, gate_up } = saved;

    // MLP
    let mut act = Buffer::any(n * width);
    swiglu(&gate_up, width, &mut act);
    product([d, width, n], Mat::rows(dx, d).t(), Mat::rows(&act, width), &mut grads[index.down], Write::Add);
    let d_act = &mut act;
    product([n, width, d], Mat::rows(dx, d), Mat::rows(layer.down.values, width), d_act, Write::Set);
    let mut d_gate_up = Buffer::any(n * 2 * width);
    swiglu_backward(&gate_up, width, d_act, &mut d_gate_up);
    drop(gate_up);
    let mut h = Buffer::any(n * d);
    rms_norm(&middle, layer.post_norm, eps, &mut h);
    let w2 = 2 * width;
    product(
        [w2, d, n],
        Mat::rows(&d_gate_up, w2).t(),
        Mat::rows(&h, d),
        &mut grads[index.gate_up],
        Write::Add,
    );
    let dh = &mut h;
    product([n, d, w2], Mat::rows(&d_gate_up, w2), Mat::rows(layer.gate_up.values, d), dh, Write::Set);
    rms_norm_backward(&middle, layer.post_norm, eps, dh, dx, &mut grads[index.post_norm]);
    drop((d_gate_up, middle));

    // Attention
    if let Some(bias) = index.o_bias {
        sum_rows(dx, &mut grads[bias]);
    }
    product([d, ow, n], Mat::rows(dx, d).t(), Mat::rows(&attended, ow), &mut grads[index.o], Write::Add);
    let mut d_attended = attended;
    product([n, ow, d], Mat::rows(dx, d), Mat::rows(layer.o.values, ow), &mut d_attended, Write::Set);
    let qw = heads.qkv_width();
    let mut d_qkv = Buffer::any(n * qw);
    let (dq_norm, dk_norm) =
        attention::backward(&layer.context(heads, rope), batch, &qkv, &d_attended, &mut d_qkv);
    for (norm, grad) in [(index.q_norm, dq_norm), (index.k_norm, dk_norm)] {
        if let Some(i) = norm {
            sum_rows(&grad, &mut grads[i]);
        }
    }
    if let Some(bias) = index.qkv_bias {
        sum_rows(&d_qkv, &mut grads[bias]);
    }
    let h = dh;
    rms_norm(&input, layer.input_norm, eps, h);
    product([qw, d, n], Mat::rows(&d_qkv, qw).t(), Mat::rows(h, d), &mut grads[index.qkv], Write::Add);
    product([n, d, qw], Mat::rows(&d_qkv, qw), Mat::rows(layer.qkv.values, d), h, Write::Set);
    rms_norm_backward(&input, layer.input_norm, eps, h, dx, &mut grads[index.input_norm]);
}
