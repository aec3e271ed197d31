//! Gated activations, `act(gate) · up`, over rows that hold gate and up side by side.
use super::attention_tiles::bounded;
use super::mat::Mat;
use crate::spec::Act;
use burn::tensor::DType;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

/// tanh of GELU's polynomial, where it is still a number for large `x`.
#[cube]
fn gelu_tanh(x: f32) -> f32 {
    bounded(0.797_884_6f32 * (x + 0.044_715f32 * x * x * x), 1.0f32)
}

#[cube(launch)]
fn forward_kernel<O: Float>(
    gate_up: &[f32],
    y: &mut [O],
    width: usize,
    #[comptime] gelu: bool,
    #[define(O)] _dtype: ElemType,
) {
    if ABSOLUTE_POS < y.len() {
        let at = ABSOLUTE_POS / width * 2 * width + ABSOLUTE_POS % width;
        let gate = gate_up[at];
        if comptime!(gelu) {
            y[ABSOLUTE_POS] = O::cast_from(0.5f32 * gate * (1.0f32 + gelu_tanh(gate)) * gate_up[at + width]);
        } else {
            y[ABSOLUTE_POS] = O::cast_from(gate / (1.0f32 + (-gate).exp()) * gate_up[at + width]);
        }
    }
}

#[cube(launch)]
fn backward_kernel(gate_up: &[f32], dy: &[f32], out: &mut [f32], width: usize, #[comptime] gelu: bool) {
    if ABSOLUTE_POS < dy.len() {
        let at = ABSOLUTE_POS / width * 2 * width + ABSOLUTE_POS % width;
        let gate = gate_up[at];
        let up = gate_up[at + width];
        let grad = dy[ABSOLUTE_POS];
        if comptime!(gelu) {
            let t = gelu_tanh(gate);
            let slope = 0.797_884_6f32 * (1.0f32 + 0.134_145f32 * gate * gate);
            out[at] = grad * up * 0.5f32 * (1.0f32 + t + gate * (1.0f32 - t * t) * slope);
            out[at + width] = grad * 0.5f32 * gate * (1.0f32 + t);
        } else {
            let s = 1.0f32 / (1.0f32 + (-gate).exp());
            out[at] = grad * up * s * (1.0f32 + gate * (1.0f32 - s));
            out[at + width] = grad * gate * s;
        }
    }
}

/// `act(gate) · up` in type `dtype`: gate_up `[rows, 2·width]` to `[rows, width]`.
pub fn activate(gate_up: &Mat, act: Act, dtype: DType) -> Mat {
    let [rows, both] = gate_up.shape();
    let y = gate_up.empty(rows, both / 2, dtype);
    let (count, dim) = y.units(rows * both / 2);
    let gelu = act == Act::GeluTanh;
    forward_kernel::launch(y.client(), count, dim, gate_up.arg(), y.arg(), both / 2, gelu, y.elem());
    y
}

/// Backward of [`activate`] for `dy` `[rows, width]`; returns `[rows, 2·width]`.
pub fn activate_backward(gate_up: &Mat, dy: &Mat, act: Act) -> Mat {
    let [rows, both] = gate_up.shape();
    let out = gate_up.empty(rows, both, DType::F32);
    let (count, dim) = out.units(rows * both / 2);
    let gelu = act == Act::GeluTanh;
    backward_kernel::launch(out.client(), count, dim, gate_up.arg(), dy.arg(), out.arg(), both / 2, gelu);
    out
}
