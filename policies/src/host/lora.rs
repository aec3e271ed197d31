//! Adapters of linear layers on the CPU.
//!
//! What layers share an input has its A in one matrix, so that all of them are one product. Generation and training compute
//! them by the same products: a completion has the log-probabilities that it was sampled with.
use super::buffer::Buffer;
use super::gemm::{Mat, Panels, Write, product};
use super::ops::HostModel;
use crate::spec::{Adapter, AdapterPart};

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

/// `scale · x Aᵀ`, `[rows, Σ rank]`.
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
    let (low, ranks, rows) = (low(model, adapter, x), width(adapter), y.len() / out);
    for AdapterPart { b, out: part, ranks: own, .. } in &adapter.parts {
        let (of_low, y) = (columns(&low, own.start, ranks), &mut y[part.start..]);
        match model.panels.get(*b).and_then(Option::as_ref) {
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
    product(model.operands, [rows, inside, ranks], Mat::rows(d_low, ranks), a, dx, Write::Add);
}
