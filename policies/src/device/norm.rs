//! RMSNorm (arXiv:1910.07467) over rows, forward and backward, and sums over rows.
use super::mat::{Mat, cubes};
use burn::tensor::DType;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

/// Units that share one row.
const UNITS: u32 = 256;

/// Rows that one unit of [`sum_rows`] adds up.
const BLOCK: usize = 64;

/// Sum of a value over all units of a cube, the same bits in each; `units` is their number, a power of two.
#[cube]
pub(crate) fn cube_sum(value: f32, #[comptime] units: usize) -> f32 {
    let mut shared = Shared::<[f32]>::new_slice(units);
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    let mut width = CUBE_DIM as usize / 2;
    while width > 0 {
        if unit < width {
            let other = shared[unit + width];
            shared[unit] += other;
        }
        sync_cube();
        width /= 2;
    }
    shared[0]
}

#[cube(launch)]
fn forward_kernel<O: Float>(
    x: &[f32],
    w: &[f32],
    y: &mut [O],
    eps: f32,
    scale: f32,
    rows: usize,
    d: usize,
    #[comptime] units: usize,
    #[define(O)] _dtype: ElemType,
) {
    if CUBE_POS < rows {
        let base = CUBE_POS * d;
        let mut squares = 0.0f32;
        let mut i = UNIT_POS as usize;
        while i < d {
            squares += x[base + i] * x[base + i];
            i += units;
        }
        let sum = cube_sum(squares, units);
        let inverse = scale / (sum / f32::cast_from(d) + eps).sqrt();
        let mut i = UNIT_POS as usize;
        while i < d {
            y[base + i] = O::cast_from(x[base + i] * inverse * w[i]);
            i += units;
        }
    }
}

#[cube(launch)]
fn backward_kernel(
    x: &[f32],
    w: &[f32],
    dy: &mut [f32],
    dx: &mut [f32],
    eps: f32,
    scale: f32,
    rows: usize,
    d: usize,
    #[comptime] units: usize,
) {
    if CUBE_POS < rows {
        let base = CUBE_POS * d;
        let mut squares = 0.0f32;
        let mut products = 0.0f32;
        let mut i = UNIT_POS as usize;
        while i < d {
            squares += x[base + i] * x[base + i];
            products += x[base + i] * w[i] * dy[base + i];
            i += units;
        }
        let square_sum = cube_sum(squares, units);
        let product_sum = cube_sum(products, units);
        let inverse = 1.0f32 / (square_sum / f32::cast_from(d) + eps).sqrt();
        let mean = product_sum * inverse * inverse / f32::cast_from(d);
        let mut i = UNIT_POS as usize;
        while i < d {
            let grad = dy[base + i] * scale;
            dx[base + i] += inverse * (grad * w[i] - x[base + i] * mean * scale);
            dy[base + i] = grad * x[base + i] * inverse;
            i += units;
        }
    }
}

#[cube(launch)]
fn sum_rows_kernel(x: &[f32], out: &mut [f32], rows: usize, cols: usize, block: usize) {
    if ABSOLUTE_POS < out.len() {
        let first = ABSOLUTE_POS / cols * block;
        let col = ABSOLUTE_POS % cols;
        let mut end = first + block;
        if end > rows {
            end = rows;
        }
        let mut sum = 0.0f32;
        for row in first..end {
            sum += x[row * cols + col];
        }
        out[ABSOLUTE_POS] = sum;
    }
}

/// `scale · w · x / rms(x)` of every row, in type `dtype`.
///
/// # Shapes
/// x `[rows, d]`, w `[1, d]`; returns `[rows, d]`.
pub fn rms_norm(x: &Mat, w: &Mat, eps: f32, scale: f32, dtype: DType) -> Mat {
    let [rows, d] = x.shape();
    let y = x.empty(rows, d, dtype);
    forward_kernel::launch(
        x.client(),
        cubes(rows),
        CubeDim::new_1d(UNITS),
        x.arg(),
        w.arg(),
        y.arg(),
        eps,
        scale,
        rows,
        d,
        UNITS as usize,
        y.elem(),
    );
    y
}

/// Backward of [`rms_norm`]: adds to `dx`, uses up `dy`, returns what each row adds to the gradient of the weight.
///
/// # Shapes
/// x, dy, dx `[rows, d]`, w `[1, d]`, all f32.
pub fn rms_norm_backward(x: &Mat, w: &Mat, eps: f32, scale: f32, dy: Mat, dx: &Mat) -> Mat {
    let [rows, d] = x.shape();
    backward_kernel::launch(
        x.client(),
        cubes(rows),
        CubeDim::new_1d(UNITS),
        x.arg(),
        w.arg(),
        dy.arg(),
        dx.arg(),
        eps,
        scale,
        rows,
        d,
        UNITS as usize,
    );
    dy
}

/// Sum over the rows, `[1, cols]`; blocks of rows are added in order.
pub fn sum_rows(mut x: Mat) -> Mat {
    while x.rows() > 1 {
        let [rows, cols] = x.shape();
        let out = x.empty(rows.div_ceil(BLOCK), cols, DType::F32);
        let (count, dim) = out.units(out.rows() * cols);
        sum_rows_kernel::launch(x.client(), count, dim, x.arg(), out.arg(), rows, cols, BLOCK);
        x = out;
    }
    x
}
