//! Adapters of linear layers, computed as on the host ([`crate::host::lora`]), with the same random numbers.
use super::elementwise;
use super::mat::{Mat, product};
use super::ops::DeviceModel;
use super::rows;
use crate::host::lora::Dropout;
use crate::spec::{Adapter, AdapterPart};
use burn::tensor::DType;
use cubecl::prelude::*;

/// The lower half of a product. In the kernel itself the compiler would see that the host's form of it overflows.
#[cube]
fn times(a: u64, b: u64) -> u64 {
    a * b
}

/// Multiplies by what [`Dropout`] says of each element.
#[cube(launch)]
fn drop_kernel(x: &[f32], out: &mut [f32], stream: u64, share: f32, kept: f32) {
    if ABSOLUTE_POS < out.len() {
        let mut z = stream + times(ABSOLUTE_POS as u64 + 1u64, 0x9E37_79B9_7F4A_7C15u64);
        z = times(z ^ (z >> 30u64), 0xBF58_476D_1CE4_E5B9u64);
        z = times(z ^ (z >> 27u64), 0x94D0_49BB_1331_11EBu64);
        z = z ^ (z >> 31u64);
        let uniform = f32::cast_from((z >> 40u64) as u32) / 16_777_216.0f32;
        let mut factor = kept;
        if uniform < share {
            factor = 0.0f32;
        }
        out[ABSOLUTE_POS] = factor * x[ABSOLUTE_POS];
    }
}

/// The inputs of adapter `a` without those that are dropped.
fn dropped(x: &Mat, dropout: Dropout, a: usize) -> Mat {
    let out = x.empty(x.rows(), x.cols(), DType::F32);
    let (count, dim) = out.units(x.rows() * x.cols());
    let (share, kept) = (dropout.share, 1.0 / (1.0 - dropout.share));
    drop_kernel::launch(x.client(), count, dim, x.arg(), out.arg(), dropout.stream(a), share, kept);
    out
}

/// What A sees of its input, as an operand.
fn seen(model: &DeviceModel, adapter: &Adapter, x: &Mat) -> Mat {
    match model.dropout {
        None => x.cast(model.dtype()),
        Some(dropout) => dropped(&x.cast(DType::F32), dropout, adapter.a).cast(model.dtype()),
    }
}

/// `scale · x Aᵀ` of a part, as an operand; `low` is `x Aᵀ` of all parts.
fn part_of(model: &DeviceModel, part: &AdapterPart, low: &Mat) -> Mat {
    rows::take(low, part.ranks.clone(), part.scale).cast(model.dtype())
}

/// Adds `scale · (x Aᵀ) Bᵀ` to the layer's result.
///
/// # Shapes
/// x `[rows, in]`, y `[rows, out]`.
pub fn forward(model: &DeviceModel, adapter: &Adapter, x: &Mat, y: &Mat) {
    let low = product(&seen(model, adapter, x).n(), &model.weight(adapter.a).t());
    for part in &adapter.parts {
        let branch = product(&part_of(model, part, &low).n(), &model.weight(part.b).t());
        rows::add_columns(y, part.out.start, &branch);
    }
}

/// For the gradient `dy` of the layer's result, adds the gradients of A and B, and to `dx` what of the gradient of the
/// input goes through A.
pub fn backward(model: &DeviceModel, adapter: &Adapter, x: &Mat, dy: &Mat, dx: &Mat, grads: &[Option<Mat>]) {
    let seen = seen(model, adapter, x);
    let low = product(&seen.n(), &model.weight(adapter.a).t());
    let d_low = low.empty(low.rows(), low.cols(), DType::F32);
    for part in &adapter.parts {
        let dy = rows::take(dy, part.out.clone(), 1.0).cast(model.dtype());
        if let Some(sum) = &grads[part.b] {
            elementwise::add(sum, &product(&dy.t(), &part_of(model, part, &low).n()));
        }
        let through = product(&dy.n(), &model.weight(part.b).n());
        rows::put(&d_low, part.ranks.start, &through, part.scale);
    }
    let d_low = d_low.cast(model.dtype());
    if let Some(sum) = &grads[adapter.a] {
        elementwise::add(sum, &product(&d_low.t(), &seen.n()));
    }
    let through = product(&d_low.n(), &model.weight(adapter.a).n());
    match model.dropout {
        None => elementwise::add(dx, &through),
        Some(dropout) => elementwise::add(dx, &dropped(&through, dropout, adapter.a)),
    }
}
