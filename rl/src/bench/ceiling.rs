//! What a device can do at most, measured: large products, and reading or copying memory.

use burn::tensor::{DType, Device, Distribution, Tensor};
use rayon::prelude::*;
use rlvr_policies::host::gemm::{Mat, Operands, Write, product};
use serde::Serialize;
use std::time::Instant;

/// Ceilings of a device.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Ceilings {
    /// Large matrix products with operands of the decoder's type, 10⁹ operations a second.
    pub gflops: f64,
    /// Reading (CPU) or copying (other devices) memory, 10⁹ bytes a second.
    pub gbytes_per_s: f64,
}

/// Rows and columns of the product.
const SIDE: usize = 1536;
/// Values of the memory test: 512 MiB.
const VALUES: usize = 128 << 20;

/// The best of several tries, with operands of a type.
pub fn measure(device: &Device, operands: DType) -> Ceilings {
    match Operands::of(operands).filter(|_| *device == Device::flex()) {
        Some(operands) => host(operands),
        None => other(device, operands),
    }
}

fn best(tries: usize, mut work: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    (0..tries).map(time).fold(f64::INFINITY, f64::min)
}

fn host(operands: Operands) -> Ceilings {
    let (a, b) = (vec![0.5f32; SIDE * SIDE], vec![0.25f32; SIDE * SIDE]);
    let mut c = vec![0.0f32; SIDE * SIDE];
    let seconds = best(5, || {
        product(operands, [SIDE; 3], Mat::rows(&a, SIDE), Mat::rows(&b, SIDE), &mut c, Write::Set);
    });
    let gflops = 2.0 * (SIDE as f64).powi(3) / seconds / 1e9;
    let values = vec![1.0f32; VALUES];
    let seconds = best(5, || {
        let sum: f32 = values.par_chunks(1 << 18).map(sum_of_streams).sum();
        std::hint::black_box(sum);
    });
    Ceilings { gflops, gbytes_per_s: (VALUES * size_of::<f32>()) as f64 / seconds / 1e9 }
}

/// Adds up a chunk, four places at a time: one stream alone does not fill the memory bus.
fn sum_of_streams(chunk: &[f32]) -> f32 {
    const LANES: usize = 16;
    let (front, back) = chunk.split_at(chunk.len() / 2);
    let ((a, b), (c, d)) = (front.split_at(front.len() / 2), back.split_at(back.len() / 2));
    let mut sums = [0.0f32; LANES];
    let streams = (a.chunks_exact(LANES).zip(b.chunks_exact(LANES)))
        .zip(c.chunks_exact(LANES).zip(d.chunks_exact(LANES)));
    for ((a, b), (c, d)) in streams {
        for l in 0..LANES {
            sums[l] += (a[l] + b[l]) + (c[l] + d[l]);
        }
    }
    sums.iter().sum()
}

fn other(device: &Device, operands: DType) -> Ceilings {
    let wait = |tensor: Tensor<2>| drop(tensor.slice([0..1, 0..1]).into_data());
    let side = 4 * SIDE;
    let random = || Tensor::<2>::random([side, side], Distribution::Default, device).cast(operands);
    let (a, b) = (random(), random());
    let seconds = best(5, || wait(rlvr_policies::decoder::product(&a, &b)));
    let gflops = 2.0 * (side as f64).powi(3) / seconds / 1e9;
    let values = Tensor::<2>::ones([VALUES >> 12, 1 << 12], device);
    let seconds = best(5, || wait(values.clone().add_scalar(1.0)));
    Ceilings { gflops, gbytes_per_s: 2.0 * (VALUES * size_of::<f32>()) as f64 / seconds / 1e9 }
}
