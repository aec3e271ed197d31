//! What a device can do at most, measured: a CPU's multiply-adds and reading of memory; large products and copies elsewhere.

use burn::tensor::{DType, Device, Distribution, Tensor};
use rlvr_policies::host::ceiling;
use rlvr_policies::host::gemm::Operands;
use serde::Serialize;
use std::time::Instant;

/// Ceilings of a device.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Ceilings {
    /// With operands of the decoder's type, 10⁹ operations a second: multiply-adds on a CPU, large products elsewhere.
    pub gflops: f64,
    /// Reading (CPU) or copying (other devices) memory, 10⁹ bytes a second.
    pub gbytes_per_s: f64,
}

/// Rows and columns of a device's product.
const SIDE: usize = 6144;
/// Values of a device's memory test: 512 MiB.
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
    let (operations, bytes) = (ceiling::operations_per_s(operands), ceiling::bytes_per_s());
    Ceilings { gflops: operations / 1e9, gbytes_per_s: bytes / 1e9 }
}

fn other(device: &Device, operands: DType) -> Ceilings {
    let wait = |tensor: Tensor<2>| drop(tensor.slice([0..1, 0..1]).into_data());
    let random = || Tensor::<2>::random([SIDE, SIDE], Distribution::Default, device).cast(operands);
    let (a, b) = (random(), random());
    let seconds = best(5, || wait(rlvr_policies::decoder::product(&a, &b)));
    let gflops = 2.0 * (SIDE as f64).powi(3) / seconds / 1e9;
    let values = Tensor::<2>::ones([VALUES >> 12, 1 << 12], device);
    let seconds = best(5, || wait(values.clone().add_scalar(1.0)));
    Ceilings { gflops, gbytes_per_s: 2.0 * (VALUES * size_of::<f32>()) as f64 / seconds / 1e9 }
}
