//! Adapters of linear layers on the CPU.
//!
//! What layers share an input has its A in one matrix, so that all of them are one product. Generation and training compute
//! them by the same products: a completion has the log-probabilities that it was sampled with.
use super::buffer::Buffer;
use super::gemm::{Mat, Panels, Write, add_outer, product};
use super::head::apply_both;
use super::ops::HostModel;
use crate::spec::{Adapter, AdapterPart};
use std::borrow::Cow;

/// Ranks of all parts together.
fn width(adapter: &Adapter) -> usize {
    adapter.parts.last().map_or(0, |part| part.ranks.end)
}

/// Multiplies the columns of each part by its factor.
fn scale(adapter: &Adapter, low: &mut [f32]) {
    for row in low.chunks_mut(width(adapter)) {
        for part in &adapter.parts {
            row[part.ranks.clone()].iter_mut().for_each(|x| *x *= part.scale);
        }
    }
}

/// Inputs that adapters do not see while they are trained.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// Share of them, in (0, 1).
    pub share: f32,
    /// Of the random numbers: forward and backward draw the same.
    pub key: u64,
}

impl Dropout {
    /// What the random numbers of adapter `a` begin with.
    pub fn stream(&self, a: usize) -> u64 {
        self.key ^ (a as u64).wrapping_mul(0xA24B_AED4_963E_E407)
    }

    /// What element `index` of the input of adapter `a` is multiplied by.
    fn factor(&self, a: usize, index: usize) -> f32 {
        // SplitMix64's mixing (doi:10.1145/2660193.2660195) of key, adapter and element.
        let mut x = self.stream(a);
        x = x.wrapping_add((index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^= x >> 31;
        let uniform = (x >> 40) as f32 / (1u32 << 24) as f32;
        if uniform < self.share { 0.0 } else { 1.0 / (1.0 - self.share) }
    }

    fn apply(&self, a: usize, x: &mut [f32]) {
        x.iter_mut().enumerate().for_each(|(i, x)| *x *= self.factor(a, i));
    }
}

/// What A sees of its input.
fn seen<'a>(model: &HostModel, adapter: &Adapter, x: &'a [f32]) -> Cow<'a, [f32]> {
    let Some(dropout) = model.dropout else { return Cow::Borrowed(x) };
    let mut x = x.to_vec();
    dropout.apply(adapter.a, &mut x);
    Cow::Owned(x)
}

/// `scale · x Aᵀ`, `[rows, Σ rank]`, of what A sees.
fn low(model: &HostModel, adapter: &Adapter, x: &[f32]) -> Buffer {
    let inside = model.layout.specs[adapter.a].shape[1];
    let rows = x.len() / inside;
    let mut low = Buffer::any(rows * width(adapter));
    model.weight(adapter.a).apply(rows, x, &mut low, Write::Set);
    scale(adapter, &mut low);
    low
}

/// The layer of this index without its adapter, `y = x·Wᵀ` or `y += x·Wᵀ`, and what the adapter adds to it later:
/// `scale · x Aᵀ`.
///
/// # Shapes
/// x `[rows, in]`, y `[rows, out]`; returns `[rows, Σ rank]`.
pub fn project(
    model: &HostModel,
    adapter: &Adapter,
    weight: usize,
    x: &[f32],
    (y, write): (&mut [f32], Write),
) -> Buffer {
    let rows = x.len() / model.layout.specs[adapter.a].shape[1];
    if model.dropout.is_some() {
        model.weight(weight).apply(rows, x, y, write);
        return low(model, adapter, &seen(model, adapter, x));
    }
    let mut low = Buffer::any(rows * width(adapter));
    apply_both(rows, x, (model.weight(weight), y, write), (model.weight(adapter.a), &mut low));
    scale(adapter, &mut low);
    low
}

/// The columns of `values` that belong to a part, of rows that are `stride` wide.
pub(super) fn columns(values: &[f32], first: usize, stride: usize) -> Mat<'_> {
    Mat::strided(&values[first.min(values.len())..], stride)
}

/// Adds `low · Bᵀ` to the layer's result.
///
/// # Shapes
/// low `[rows, Σ rank]`, y `[rows, out]`.
pub fn expand(model: &HostModel, adapter: &Adapter, low: &[f32], y: &mut [f32], out: usize) {
    let (ranks, rows) = (width(adapter), y.len() / out);
    for AdapterPart { b, out: part, ranks: own, .. } in &adapter.parts {
        let (of_low, y) = (columns(low, own.start, ranks), &mut y[part.start..]);
        match model.weight(*b).panels {
            Some(panels) => panels.product_into(rows, of_low, y, out, Write::Add),
            None => {
                let values = Mat::rows(model.param(*b), own.len()).t();
                let panels = Panels::new(model.operands, part.len(), own.len(), values);
                panels.product_into(rows, of_low, y, out, Write::Add);
            }
        }
    }
}

/// `scale · B` of all parts as the right side of products, `[out, Σ rank]`, zero where a part has nothing.
pub fn contraction(model: &HostModel, adapter: &Adapter, out: usize) -> Panels {
    let ranks = width(adapter);
    let mut all = vec![0.0; out * ranks];
    for AdapterPart { b, out: part, ranks: own, scale } in &adapter.parts {
        let rows = all.chunks_mut(ranks).skip(part.start).zip(model.param(*b).chunks(own.len()));
        for (to, from) in rows {
            to[own.clone()].iter_mut().zip(from).for_each(|(to, b)| *to = scale * b);
        }
    }
    Panels::new(model.operands, ranks, out, Mat::rows(&all, ranks))
}

/// Adds the gradients of A and B, for the gradients `dy` of the layer's result and `d_low` of `x Aᵀ`. They are in f32
/// whatever the operands are.
///
/// # Shapes
/// x `[rows, in]`, dy `[rows, out]`, d_low `[rows, Σ rank]`.
pub fn gradients(
    model: &HostModel,
    adapter: &Adapter,
    x: &[f32],
    (dy, out): (&[f32], usize),
    d_low: &[f32],
    grads: &mut [Buffer],
) {
    let x = &seen(model, adapter, x);
    let (low, ranks, rows) = (low(model, adapter, x), width(adapter), dy.len() / out);
    for AdapterPart { b, out: part, ranks: own, .. } in &adapter.parts {
        let (rank, of_low) = (own.len(), columns(&low, own.start, ranks));
        for run in model.trained.rows(*b) {
            let count = run.rows.len();
            let mut transposed = Buffer::zeros(rank * count);
            let dy = columns(dy, part.start + run.rows.start, out);
            add_outer([rank, count, rows], of_low, dy, &mut transposed);
            for (i, row) in grads[*b][run.gradient.clone()].chunks_mut(rank).enumerate() {
                row.iter_mut().zip(transposed[i..].iter().step_by(count)).for_each(|(sum, x)| *sum += x);
            }
        }
    }
    let inside = model.layout.specs[adapter.a].shape[1];
    for run in model.trained.rows(adapter.a) {
        let d_low = columns(d_low, run.rows.start, ranks);
        let gradient = &mut grads[adapter.a][run.gradient.clone()];
        add_outer([run.rows.len(), inside, rows], d_low, Mat::rows(x, inside), gradient);
    }
}

/// Adds the part of the gradient of the layer's input that goes through A.
pub fn into_input(model: &HostModel, adapter: &Adapter, d_low: &[f32], dx: &mut [f32]) {
    let ([ranks, inside], rows) = (model.layout.specs[adapter.a].shape, d_low.len() / width(adapter));
    let a = Mat::rows(model.param(adapter.a), inside);
    let d_low = Mat::rows(d_low, ranks);
    let Some(dropout) = model.dropout else {
        return product(model.operands, [rows, inside, ranks], d_low, a, dx, Write::Add);
    };
    let mut through = Buffer::any(dx.len());
    product(model.operands, [rows, inside, ranks], d_low, a, &mut through, Write::Set);
    dropout.apply(adapter.a, &mut through);
    dx.iter_mut().zip(through.iter()).for_each(|(dx, d)| *dx += d);
}
