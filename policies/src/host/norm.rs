//! RMSNorm (arXiv:1910.07467) over rows, forward and backward.
use super::simd::{LANES, dot, multiversion, reduce};
use rayon::prelude::*;
use std::ops::Range;

/// Rows handled by one task; partial sums of the weight gradient are added in block order.
const BLOCK: usize = 32;

/// `1 / sqrt(mean(x²) + eps)`.
#[inline(always)]
pub fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt()
}

multiversion! {
    /// `y = w · x · inverse_rms(x)` for one row.
    pub fn norm_row(x: &[f32], w: &[f32], eps: f32, y: &mut [f32]) {
        let r = inverse_rms(x, eps);
        for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
            *y = *x * r * *w;
        }
    }
}

multiversion! {
    /// Adds the gradient of one row to `dx` and of the weight to `dw`, given `dy`.
    pub fn norm_row_backward(x: &[f32], w: &[f32], eps: f32, dy: &[f32], dx: &mut [f32], dw: &mut [f32]) {
        let r = inverse_rms(x, eps);
        let mut acc = [0f32; LANES];
        let (cx, rx) = x.as_chunks::<LANES>();
        let (cw, rw) = w.as_chunks::<LANES>();
        let (cy, ry) = dy.as_chunks::<LANES>();
        for ((x, w), y) in cx.iter().zip(cw).zip(cy) {
            for l in 0..LANES {
                acc[l] += x[l] * w[l] * y[l];
            }
        }
        let tail: f32 = rx.iter().zip(rw).zip(ry).map(|((x, w), y)| x * w * y).sum();
        let mean = (reduce(acc) + tail) * r * r / x.len() as f32;
        for ((((dx, dw), x), w), dy) in dx.iter_mut().zip(dw.iter_mut()).zip(x).zip(w).zip(dy) {
            *dx += r * (*dy * *w - *x * mean);
            *dw += *dy * *x * r;
        }
    }
}

/// RMSNorm of every row.
///
/// # Shapes
/// x, y `[rows, d]`, w `[d]`.
pub fn rms_norm(x: &[f32], w: &[f32], eps: f32, y: &mut [f32]) {
    let d = w.len();
    y.par_chunks_mut(BLOCK * d).zip(x.par_chunks(BLOCK * d)).for_each(|(y, x)| {
        for (y, x) in y.chunks_mut(d).zip(x.chunks(d)) {
            norm_row(x, w, eps, y);
        }
    });
}

/// Backward of [`rms_norm`]: adds to `dx` and `dw`.
///
/// # Shapes
/// x, dy, dx `[rows, d]`, w, dw `[d]`.
pub fn rms_norm_backward(x: &[f32], w: &[f32], eps: f32, dy: &[f32], dx: &mut [f32], dw: &mut [f32]) {
    let d = w.len();
    let parts: Vec<Vec<f32>> = dx
        .par_chunks_mut(BLOCK * d)
        .zip(x.par_chunks(BLOCK * d))
        .zip(dy.par_chunks(BLOCK * d))
        .map(|((dx, x), dy)| {
            let mut part = vec![0f32; d];
            for ((dx, x), dy) in dx.chunks_mut(d).zip(x.chunks(d)).zip(dy.chunks(d)) {
                norm_row_backward(x, w, eps, dy, dx, &mut part);
            }
            part
        })
        .collect();
    for part in parts {
        dw.iter_mut().zip(part).for_each(|(a, b)| *a += b);
    }
}

/// RMSNorm of the columns `columns` of every row, written to the same places of `y`.
///
/// # Shapes
/// x, y `[rows, width]`, w as many as the columns.
pub fn rms_norm_columns(x: &[f32], width: usize, columns: Range<usize>, w: &[f32], eps: f32, y: &mut [f32]) {
    y.par_chunks_mut(BLOCK * width).zip(x.par_chunks(BLOCK * width)).for_each(|(y, x)| {
        for (y, x) in y.chunks_mut(width).zip(x.chunks(width)) {
            norm_row(&x[columns.clone()], w, eps, &mut y[columns.clone()]);
        }
    });
}

/// Backward of [`rms_norm_columns`]: turns the gradient of these columns in `dy` into that of `x`, adds to `dw`.
pub fn rms_norm_columns_backward(
    x: &[f32],
    width: usize,
    columns: Range<usize>,
    w: &[f32],
    eps: f32,
    dy: &mut [f32],
    dw: &mut [f32],
) {
    let mut dx = vec![0f32; columns.len()];
    for (dy, x) in dy.chunks_mut(width).zip(x.chunks(width)) {
        let dy = &mut dy[columns.clone()];
        dx.fill(0.0);
        norm_row_backward(&x[columns.clone()], w, eps, dy, &mut dx, dw);
        dy.copy_from_slice(&dx);
    }
}
