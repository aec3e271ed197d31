//! Adapters of linear layers on the CPU.
//!
//! What layers share an input has its A in one matrix, so that all of them are one product. Generation and training compute
//! them by the same products: a completion has the log-probabilities that it was sampled with.
use super::buffer::Buffer;
use super::gemm::{Mat, Panels, Write, product};
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

/// The columns of `values` that belong to a part, of rows that are `stride` wide.
fn columns(values: &[f32], first: usize, stride: usize) -> Mat<'_> {
    Mat::strided(&values[first.min(values.len())..], stride)
}

/// Adds `scale · (x Aᵀ) Bᵀ` to the layer's result.
///
/// # Shapes
/// x `[rows, in]`, y `[rows, out]`.
pub fn forward(model: &HostModel, adapter: &Adapter, x: &[f32], y: &mut [f32], out: usize) {
    let low = low(model, adapter, &seen(model, adapter, x));
    let (ranks, rows) = (width(adapter), y.len() / out);
    for AdapterPart { b, out: part, ranks: own, .. } in &adapter.parts {
        let (of_low, y) = (columns(&low, own.start, ranks), &mut y[part.start..]);
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

/// Adds the gradients of A and B, for the gradient `dy` of the layer's result; returns that of `x Aᵀ`.
pub fn backward(
    model: &HostModel,
    adapter: &Adapter,
    x: &[f32],
    dy: &[f32],
    out: usize,
    grads: &mut [Vec<f32>],
) -> Buffer {
    let x = &seen(model, adapter, x);
    let (low, ranks, rows) = (low(model, adapter, x), width(adapter), dy.len() / out);
    let inside = model.layout.specs[adapter.a].shape[1];
    let mut d_low = Buffer::any(rows * ranks);
    for AdapterPart { b, out: part, ranks: own, .. } in &adapter.parts {
        let dy = columns(dy, part.start, out);
        let sizes = [part.len(), own.len(), rows];
        product(model.operands, sizes, dy.t(), columns(&low, own.start, ranks), &mut grads[*b], Write::Add);
        let values =
            Panels::new(model.operands, own.len(), part.len(), Mat::rows(model.param(*b), own.len()));
        values.product_into(rows, dy, &mut d_low[own.start..], ranks, Write::Set);
    }
    scale(adapter, &mut d_low);
    let (d_a, sizes) = (&mut grads[adapter.a], [ranks, inside, rows]);
    product(model.operands, sizes, Mat::rows(&d_low, ranks).t(), Mat::rows(x, inside), d_a, Write::Add);
    d_low
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
