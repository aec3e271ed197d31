//! Gated activations, `act(gate) · up`, forward and backward, over rows that hold gate and up side by side.
use super::simd::{exp, multiversion, tanh};
use crate::spec::Act;
use rayon::prelude::*;

const BLOCK: usize = 16;

multiversion! {
    fn silu_row(gate: &[f32], up: &[f32], y: &mut [f32]) {
        for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
            *y = *g / (1.0 + exp(-*g)) * *u;
        }
    }
}

multiversion! {
    fn silu_row_backward(gate: &[f32], up: &[f32], dy: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        for ((((dg, du), g), u), dy) in dgate.iter_mut().zip(dup).zip(gate).zip(up).zip(dy) {
            let s = 1.0 / (1.0 + exp(-*g));
            *du = *dy * *g * s;
            *dg = *dy * *u * s * (1.0 + *g * (1.0 - s));
        }
    }
}

/// √(2/π) and the weight of the cube in GELU's tanh form (arXiv:1606.08415).
const GELU: [f32; 2] = [0.797_884_6, 0.044_715];

multiversion! {
    fn gelu_row(gate: &[f32], up: &[f32], y: &mut [f32]) {
        for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
            let t = tanh(GELU[0] * (*g + GELU[1] * *g * *g * *g));
            *y = 0.5 * *g * (1.0 + t) * *u;
        }
    }
}

multiversion! {
    fn gelu_row_backward(gate: &[f32], up: &[f32], dy: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        for ((((dg, du), g), u), dy) in dgate.iter_mut().zip(dup).zip(gate).zip(up).zip(dy) {
            let t = tanh(GELU[0] * (*g + GELU[1] * *g * *g * *g));
            let slope = GELU[0] * (1.0 + 3.0 * GELU[1] * *g * *g);
            *du = *dy * 0.5 * *g * (1.0 + t);
            *dg = *dy * *u * 0.5 * (1.0 + t + *g * (1.0 - t * t) * slope);
        }
    }
}

/// `y = act(gate) · up`.
///
/// # Shapes
/// gate_up `[rows, 2·width]`, y `[rows, width]`.
pub fn activate(gate_up: &[f32], width: usize, act: Act, y: &mut [f32]) {
    let row = match act {
        Act::Silu => silu_row,
        Act::GeluTanh => gelu_row,
    };
    y.par_chunks_mut(BLOCK * width).zip(gate_up.par_chunks(BLOCK * 2 * width)).for_each(|(y, gu)| {
        for (y, gu) in y.chunks_mut(width).zip(gu.chunks(2 * width)) {
            let (g, u) = gu.split_at(width);
            row(g, u, y);
        }
    });
}

/// Backward of [`activate`]: overwrites `d_gate_up`.
///
/// # Shapes
/// gate_up, d_gate_up `[rows, 2·width]`, dy `[rows, width]`.
pub fn activate_backward(gate_up: &[f32], width: usize, act: Act, dy: &[f32], d_gate_up: &mut [f32]) {
    let row = match act {
        Act::Silu => silu_row_backward,
        Act::GeluTanh => gelu_row_backward,
    };
    d_gate_up
        .par_chunks_mut(BLOCK * 2 * width)
        .zip(gate_up.par_chunks(BLOCK * 2 * width))
        .zip(dy.par_chunks(BLOCK * width))
        .for_each(|((d, gu), dy)| {
            for ((d, gu), dy) in d.chunks_mut(2 * width).zip(gu.chunks(2 * width)).zip(dy.chunks(width)) {
                let (g, u) = gu.split_at(width);
                let (dg, du) = d.split_at_mut(width);
                row(g, u, dy, dg, du);
            }
        });
}
