//! Sums of outer products with a narrow matrix, from rows as they lie: packing would cost more than the product.
use super::tile::{self, Kernel, Tile};
use super::{Mat, Operands, Out, SERIAL, TASKS, extent, parts};
use rayon::prelude::*;
use std::ops::Range;

/// Rows after which a tile goes back to `c`: what a panel reads of `b` stays in the first-level cache for all its tiles.
const CHUNK: usize = 128;

/// `c += aᵀ·b` in f32. Each element is one chain of multiply-adds over each chunk of rows; the chunks are added in order,
/// so its bits do not depend on the threads.
///
/// # Shapes
/// a `[k, m]` and b `[k, n]` with contiguous rows, c `[m, n]` row-major; made for `m` of a few dozens.
pub fn add_outer([m, n, k]: [usize; 3], a: Mat, b: Mat, c: &mut [f32]) {
    add_outer_with(tile::best(Operands::F32), [m, n, k], a, b, c);
}

pub(super) fn add_outer_with(kernel: Kernel, [m, n, k]: [usize; 3], a: Mat, b: Mat, c: &mut [f32]) {
    assert!(a.col_stride == 1 && b.col_stride == 1, "rows have to be contiguous");
    assert!(a.data.len() >= extent(k, m, a.row_stride, 1), "lhs too small for [{k}, {m}]");
    assert!(b.data.len() >= extent(k, n, b.row_stride, 1), "rhs too small for [{k}, {n}]");
    assert!(c.len() >= m * n, "output too small for [{m}, {n}]");
    if m == 0 || n == 0 {
        return;
    }
    let job = Job { kernel, m, n, k, a, b, c: Out(c.as_mut_ptr()) };
    let panels = n.div_ceil(kernel.width);
    if m * n * k < SERIAL {
        return job.columns(0..panels);
    }
    let cuts = (TASKS * rayon::current_num_threads()).min(panels);
    (0..cuts).into_par_iter().for_each(|i| job.columns(panels * i / cuts..panels * (i + 1) / cuts));
}

struct Job<'a> {
    kernel: Kernel,
    m: usize,
    n: usize,
    k: usize,
    a: Mat<'a>,
    b: Mat<'a>,
    c: Out,
}

impl Job<'_> {
    /// Computes the columns of some panels.
    fn columns(&self, panels: Range<usize>) {
        let width = self.kernel.width;
        // Tiles of almost equal height.
        let height = self.m.div_ceil(self.m.div_ceil(self.kernel.rows));
        let mut room = Vec::new();
        for rows in parts(0..self.k, CHUNK) {
            for first in panels.clone().map(|panel| panel * width) {
                let cols = width.min(self.n - first);
                let whole = cols == width;
                if !whole {
                    self.copy_of_rest(rows.clone(), first..self.n, &mut room);
                }
                for i in parts(0..self.m, height) {
                    let from = if whole {
                        &self.b.data[rows.start * self.b.row_stride + first..]
                    } else {
                        &room[..]
                    };
                    let tile = Tile {
                        steps: rows.len(),
                        a: self.a.data[rows.start * self.a.row_stride + i.start..].as_ptr(),
                        a_step: self.a.row_stride,
                        b: from.as_ptr(),
                        b_step: if whole { self.b.row_stride } else { width },
                        c: self.c.0.wrapping_add(i.start * self.n + first),
                        c_stride: self.n,
                        cols,
                        add: true,
                    };
                    // SAFETY: the kernel is one of f32 that this machine has; the sizes were checked, at each step the tile
                    // reads `i.len()` elements of a row of `a` and a whole panel of a row of `b` or of its copy, and `c` has
                    // these rows and columns, which no other task writes.
                    unsafe { (self.kernel.run)(i.len(), tile) };
                }
            }
        }
    }

    /// Columns that fill no panel, and zeros.
    fn copy_of_rest(&self, rows: Range<usize>, columns: Range<usize>, room: &mut Vec<f32>) {
        room.clear();
        room.resize(rows.len() * self.kernel.width, 0.0);
        for (to, row) in room.chunks_mut(self.kernel.width).zip(rows) {
            let at = row * self.b.row_stride;
            to[..columns.len()].copy_from_slice(&self.b.data[at + columns.start..at + columns.end]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_sums_in_f64_and_does_not_depend_on_the_threads() {
        let value = |i: usize| (i * 7_919 % 1_013) as f32 / 1_013.0 - 0.5;
        for [m, n, k] in [[16, 576, 300], [48, 33, 129], [1, 64, 128], [3, 5, 7], [13, 100, 1], [8, 31, 0]] {
            let (a_stride, b_stride) = (m + 3, n + 5);
            let a: Vec<f32> = (0..k * a_stride).map(value).collect();
            let b: Vec<f32> = (0..k * b_stride).map(|i| value(i + 11)).collect();
            let old: Vec<f32> = (0..m * n).map(|i| value(i + 5)).collect();
            // Nothing behind the last column of the last row is read.
            let (a, b) = (&a[..extent(k, m, a_stride, 1)], &b[..extent(k, n, b_stride, 1)]);
            for kernel in tile::kernels(Operands::F32) {
                let run = |threads: usize| {
                    let mut c = old.clone();
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    let (a, b) = (Mat::strided(a, a_stride), Mat::strided(b, b_stride));
                    pool.install(|| add_outer_with(kernel, [m, n, k], a, b, &mut c));
                    c
                };
                let c = run(1);
                assert_eq!(c, run(3), "{} {m} {n} {k}", kernel.name);
                for (at, (c, old)) in c.iter().zip(&old).enumerate() {
                    let (i, j) = (at / n, at % n);
                    let term = |p: usize| f64::from(a[p * a_stride + i]) * f64::from(b[p * b_stride + j]);
                    let exact = f64::from(*old) + (0..k).map(term).sum::<f64>();
                    assert!((f64::from(*c) - exact).abs() < 1e-5, "{} {m} {n} {k}: {c} {exact}", kernel.name);
                }
            }
        }
    }
}
