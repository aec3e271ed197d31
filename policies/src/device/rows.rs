//! Parts of rows, factors of rows, products of rows with rows, and bounded values.
use super::attention_tiles::bounded;
use super::mat::{Mat, cubes};
use super::norm::cube_sum;
use crate::model::ops::Squash;
use burn::tensor::DType;
use cubecl::prelude::*;
use std::ops::Range;

/// Units that share one row.
const UNITS: u32 = 128;

#[cube(launch)]
fn take_kernel(x: &[f32], out: &mut [f32], width: usize, first: usize, cols: usize, factor: f32) {
    if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] = factor * x[ABSOLUTE_POS / cols * width + first + ABSOLUTE_POS % cols];
    }
}

#[cube(launch)]
fn put_kernel(y: &[f32], out: &mut [f32], width: usize, first: usize, cols: usize, factor: f32) {
    if ABSOLUTE_POS < y.len() {
        out[ABSOLUTE_POS / cols * width + first + ABSOLUTE_POS % cols] = factor * y[ABSOLUTE_POS];
    }
}

#[cube(launch)]
fn add_columns_kernel(y: &[f32], out: &mut [f32], width: usize, first: usize, cols: usize) {
    if ABSOLUTE_POS < y.len() {
        out[ABSOLUTE_POS / cols * width + first + ABSOLUTE_POS % cols] += y[ABSOLUTE_POS];
    }
}

#[cube(launch)]
fn scale_kernel(x: &[f32], factors: &[f32], out: &mut [f32], cols: usize) {
    if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] = factors[ABSOLUTE_POS / cols] * x[ABSOLUTE_POS];
    }
}

#[cube(launch)]
fn plus_kernel(x: &[f32], out: &mut [f32], value: f32) {
    if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] = value + x[ABSOLUTE_POS];
    }
}

#[cube(launch)]
fn dots_kernel(x: &[f32], y: &[f32], out: &mut [f32], rows: usize, cols: usize, #[comptime] units: usize) {
    if CUBE_POS < rows {
        let mut sum = 0.0f32;
        let mut i = UNIT_POS as usize;
        while i < cols {
            sum += x[CUBE_POS * cols + i] * y[CUBE_POS * cols + i];
            i += units;
        }
        let all = cube_sum(sum, units);
        if UNIT_POS == 0 {
            out[CUBE_POS] = all;
        }
    }
}

#[cube(launch)]
fn squash_kernel(x: &mut [f32], cap: f32, factor: f32) {
    if ABSOLUTE_POS < x.len() {
        x[ABSOLUTE_POS] = cap * bounded(x[ABSOLUTE_POS], cap) * factor;
    }
}

#[cube(launch)]
fn unsquash_kernel(d: &mut [f32], y: &[f32], cap: f32, factor: f32) {
    if ABSOLUTE_POS < d.len() {
        let t = y[ABSOLUTE_POS] / (cap * factor);
        d[ABSOLUTE_POS] *= (1.0f32 - t * t) * factor;
    }
}

/// `factor` times the columns `columns` of every row.
pub fn take(x: &Mat, columns: Range<usize>, factor: f32) -> Mat {
    let out = x.empty(x.rows(), columns.len(), DType::F32);
    let (count, dim) = out.units(out.rows() * out.cols());
    let (first, cols) = (columns.start, columns.len());
    take_kernel::launch(out.client(), count, dim, x.arg(), out.arg(), x.cols(), first, cols, factor);
    out
}

/// Replaces the columns from `first` on of every row of `x` by `factor` times those of `y`.
pub fn put(x: &Mat, first: usize, y: &Mat, factor: f32) {
    let (count, dim) = x.units(y.rows() * y.cols());
    put_kernel::launch(x.client(), count, dim, y.arg(), x.arg(), x.cols(), first, y.cols(), factor);
}

/// Adds the columns of `y` to those from `first` on of every row of `x`.
pub fn add_columns(x: &Mat, first: usize, y: &Mat) {
    let (count, dim) = x.units(y.rows() * y.cols());
    add_columns_kernel::launch(x.client(), count, dim, y.arg(), x.arg(), x.cols(), first, y.cols());
}

/// Every row of `x` times its factor.
pub fn scale(x: &Mat, factors: &[f32]) -> Mat {
    let out = x.empty(x.rows(), x.cols(), DType::F32);
    let (count, dim) = out.units(x.rows() * x.cols());
    let factors = x.upload(factors, 1, factors.len());
    scale_kernel::launch(x.client(), count, dim, x.arg(), factors.arg(), out.arg(), x.cols());
    out
}

/// `1 + x`.
pub fn plus_one(x: &Mat) -> Mat {
    let out = x.empty(x.rows(), x.cols(), DType::F32);
    let (count, dim) = out.units(x.rows() * x.cols());
    plus_kernel::launch(x.client(), count, dim, x.arg(), out.arg(), 1.0);
    out
}

/// Of every row, the product of `x` and `y`, on the host; waits for the device.
pub fn dots(x: &Mat, y: &Mat) -> Vec<f32> {
    let [rows, cols] = x.shape();
    let out = x.empty(1, rows, DType::F32);
    let dim = CubeDim::new_1d(UNITS);
    dots_kernel::launch(
        x.client(),
        cubes(rows),
        dim,
        x.arg(),
        y.arg(),
        out.arg(),
        rows,
        cols,
        UNITS as usize,
    );
    out.read()
}

/// Bounds values in place.
pub fn squash(x: &Mat, by: Squash) {
    let (count, dim) = x.units(x.rows() * x.cols());
    squash_kernel::launch(x.client(), count, dim, x.arg(), by.cap, by.factor);
}

/// Turns gradients of what [`squash`] gave, `y`, into those of what it was given, in place.
pub fn unsquash(d: &Mat, y: &Mat, by: Squash) {
    let (count, dim) = d.units(d.rows() * d.cols());
    unsquash_kernel::launch(d.client(), count, dim, d.arg(), y.arg(), by.cap, by.factor);
}
