//! One AdamW update (arXiv:1711.05101, algorithm 2) as one pass over parameter, moments and gradient.
use super::mat::Mat;
use crate::model::update::AdamWStep;
use burn::tensor::Tensor;
use cubecl::prelude::*;

#[cube(launch)]
fn step_kernel(
    p: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
    g: &[f32],
    beta1: f32,
    beta2: f32,
    decay: f32,
    step_size: f32,
    root_scale: f32,
    eps: f32,
    clip: f32,
) {
    if ABSOLUTE_POS < p.len() {
        let i = ABSOLUTE_POS;
        let grad = g[i] * clip;
        let first = beta1 * m[i] + (1.0f32 - beta1) * grad;
        let second = beta2 * v[i] + (1.0f32 - beta2) * grad * grad;
        m[i] = first;
        v[i] = second;
        p[i] = p[i] * decay - step_size * first / (second.sqrt() * root_scale + eps);
    }
}

/// Updates a parameter and its moments in place where their memory is not shared, and returns the parameter.
///
/// # Panics
/// If a tensor is on no cubecl device.
pub fn step(p: Tensor<2>, [m, v]: &mut [Tensor<2>; 2], g: &Tensor<2>, k: AdamWStep) -> Tensor<2> {
    let taken = |t: &mut Tensor<2>| {
        let nothing = Tensor::zeros([1, 1], &t.device());
        Mat::owned(std::mem::replace(t, nothing))
    };
    let (Some(pm), Some(mm), Some(vm), Some(gm)) = (Mat::owned(p), taken(m), taken(v), Mat::of(g)) else {
        panic!("parameters are on no cubecl device")
    };
    let (count, dim) = pm.units(pm.rows() * pm.cols());
    step_kernel::launch(
        pm.client(),
        count,
        dim,
        pm.arg(),
        mm.arg(),
        vm.arg(),
        gm.arg(),
        k.betas[0],
        k.betas[1],
        k.decay,
        k.step_size,
        k.root_scale,
        k.eps,
        k.clip,
    );
    (*m, *v) = (mm.tensor(), vm.tensor());
    pm.tensor()
}
