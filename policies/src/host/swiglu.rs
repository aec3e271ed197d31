//! SwiGLU: `silu(gate) · up`, forward and backward, over rows that hold gate and up side by side.
use super::simd::{exp, multiversion};
use rayon::prelude::*;

const BLOCK: usize = 16;

multiversion! {
    fn forward_row(gate: &[f32], up: &[f32], y: &mut [f32]) {
        for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
            *y = *g / (1.0 + exp(-*g)) * *u;
        }
    }
}

multiversion! {
    fn backward_row(gate: &[f32], up: &[f32], dy: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        for ((((dg, du), g), u), dy) in dgate.iter_mut().zip(dup).zip(gate).zip(up).zip(dy) {
            let s = 1.0 / (1.0 + exp(-*g));
            *du = *dy * *g * s;
            *dg = *dy * *u * s * (1.0 + *g * (1.0 - s));
        }
    }
}

/// `y = silu(gate) · up`.
///
/// # Shapes
/// gate_up `[rows, 2·width]`, y `[rows, width]`.
pub fn swiglu(gate_up: &[f32], width: usize, y: &mut [f32]) {
    y.par_chunks_mut(BLOCK * width).zip(gate_up.par_chunks(BLOCK * 2 * width)).for_each(|(y, gu)| {
        for (y, gu) in y.chunks_mut(width).zip(gu.chunks(2 * width)) {
            let (g, u) = gu.split_at(width);
            forward_row(g, u, y);
        }
    });
}

/// Backward of [`swiglu`]: overwrites `d_gate_up`.
///
/// # Shapes
/// gate_up, d_gate_up `[rows, 2·width]`, dy `[rows, width]`.
pub fn swiglu_backward(gate_up: &[f32], width: usize, dy: &[f32], d_gate_up: &mut [f32]) {
    d_gate_up
        .par_chunks_mut(BLOCK * 2 * width)
        .zip(gate_up.par_chunks(BLOCK * 2 * width))
        .zip(dy.par_chunks(BLOCK * width))
        .for_each(|((d, gu), dy)| {
            for ((d, gu), dy) in d.chunks_mut(2 * width).zip(gu.chunks(2 * width)).zip(dy.chunks(width)) {
                let (g, u) = gu.split_at(width);
                let (dg, du) = d.split_at_mut(width);
                backward_row(g, u, dy, dg, du);
            }
        });
}
