//! Work on single elements and whole rows: residual sums, picking rows and adding to them.
use super::mat::Mat;
use super::norm::cube_sum;
use burn::tensor::DType;
use cubecl::prelude::*;

#[cube(launch)]
fn add_kernel(x: &mut [f32], y: &[f32]) {
    if ABSOLUTE_POS < x.len() {
        x[ABSOLUTE_POS] += y[ABSOLUTE_POS % y.len()];
    }
}

#[cube(launch)]
fn add_scaled_kernel(x: &mut [f32], y: &[f32], scale: f32) {
    if ABSOLUTE_POS < x.len() {
        x[ABSOLUTE_POS] += scale * y[ABSOLUTE_POS];
    }
}

#[cube(launch)]
fn gather_kernel(x: &[f32], index: &[u32], out: &mut [f32], cols: usize) {
    if ABSOLUTE_POS < out.len() {
        let row = index[ABSOLUTE_POS / cols] as usize;
        out[ABSOLUTE_POS] = x[row * cols + ABSOLUTE_POS % cols];
    }
}

#[cube(launch)]
fn scatter_kernel(
    x: &[f32],
    order: &[u32],
    starts: &[u32],
    targets: &[u32],
    out: &mut [f32],
    total: usize,
    cols: usize,
) {
    if ABSOLUTE_POS < total {
        let segment = ABSOLUTE_POS / cols;
        let col = ABSOLUTE_POS % cols;
        let mut sum = 0.0f32;
        for i in starts[segment] as usize..starts[segment + 1] as usize {
            sum += x[order[i] as usize * cols + col];
        }
        out[targets[segment] as usize * cols + col] += sum;
    }
}

/// Units of a cube that adds up squares, and cubes a matrix.
const UNITS: usize = 256;
const PARTS: usize = 64;

#[cube(launch)]
fn square_sum_kernel(
    x: &[f32],
    out: &mut [f32],
    first: usize,
    #[comptime] parts: usize,
    #[comptime] units: usize,
) {
    let mut sum = 0.0f32;
    let mut i = CUBE_POS * units + UNIT_POS as usize;
    while i < x.len() {
        sum += x[i] * x[i];
        i += parts * units;
    }
    let all = cube_sum(sum, units);
    if UNIT_POS == 0 {
        out[first + CUBE_POS] = all;
    }
}

/// The sum of the squares of all elements of all matrices; waits for the device.
pub fn square_sum(all: &[Mat]) -> f64 {
    let Some(like) = all.first() else { return 0.0 };
    let out = like.empty(1, all.len() * PARTS, DType::F32);
    for (i, x) in all.iter().enumerate() {
        let count = CubeCount::Static(PARTS as u32, 1, 1);
        let dim = CubeDim::new_1d(UNITS as u32);
        square_sum_kernel::launch(x.client(), count, dim, x.arg(), out.arg(), i * PARTS, PARTS, UNITS);
    }
    out.read().iter().map(|v| f64::from(*v)).sum()
}

/// Adds `y` to `x` in place; a `y` of one row is added to every row.
pub fn add(x: &Mat, y: &Mat) {
    let [rows, cols] = x.shape();
    assert!(y.cols() == cols && (y.rows() == rows || y.rows() == 1), "{:?} to {:?}", y.shape(), x.shape());
    let (count, dim) = x.units(rows * cols);
    add_kernel::launch(x.client(), count, dim, x.arg(), y.arg());
}

/// Adds `scale · y` to `x` in place.
pub fn add_scaled(x: &Mat, y: &Mat, scale: f32) {
    assert_eq!(x.shape(), y.shape(), "sum of two matrices");
    let (count, dim) = x.units(x.rows() * x.cols());
    add_scaled_kernel::launch(x.client(), count, dim, x.arg(), y.arg(), scale);
}

/// Row `index[i]` of `x` as row i.
pub fn gather(x: &Mat, index: &[u32]) -> Mat {
    gather_at(x, &x.upload(index, 1, index.len()))
}

/// Row `index[i]` of `x` as row i; the ids lie on the device, `[1, rows]`.
pub fn gather_at(x: &Mat, index: &Mat) -> Mat {
    let cols = x.cols();
    let out = x.empty(index.cols(), cols, DType::F32);
    let (count, dim) = out.units(out.rows() * cols);
    gather_kernel::launch(out.client(), count, dim, x.arg(), index.arg(), out.arg(), cols);
    out
}

/// Adds row i of `x` to row `index[i]` of `out`. Rows that go to one place are added in their order, by one unit.
pub fn scatter(x: &Mat, index: &[u32], out: &Mat) {
    let mut order: Vec<u32> = (0..index.len() as u32).collect();
    order.sort_by_key(|i| index[*i as usize]);
    let (mut starts, mut targets) = (Vec::new(), Vec::new());
    for (i, row) in order.iter().enumerate() {
        let target = index[*row as usize];
        if targets.last() != Some(&target) {
            starts.push(i as u32);
            targets.push(target);
        }
    }
    starts.push(order.len() as u32);
    let up = |v: &[u32]| x.upload(v, 1, v.len());
    let total = targets.len() * x.cols();
    let (count, dim) = x.units(total);
    scatter_kernel::launch(
        x.client(),
        count,
        dim,
        x.arg(),
        up(&order).arg(),
        up(&starts).arg(),
        up(&targets).arg(),
        out.arg(),
        total,
        x.cols(),
    );
}
