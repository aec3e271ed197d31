//! Matrix products on the host: `gemm` in fixed tiles over rayon, so that the result does not depend on the number of
//! threads.
use super::small::product_nt;
use rayon::prelude::*;

/// A read-only strided matrix.
#[derive(Clone, Copy)]
pub struct Mat<'a> {
    data: &'a [f32],
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Mat<'a> {
    /// Row-major matrix with `cols` columns.
    pub fn rows(data: &'a [f32], cols: usize) -> Self {
        Self { data, row_stride: cols, col_stride: 1 }
    }
    /// Row-major with a row stride larger than its width.
    pub fn strided(data: &'a [f32], row_stride: usize) -> Self {
        Self { data, row_stride, col_stride: 1 }
    }
    /// The transpose, without copying.
    pub fn t(self) -> Self {
        Self { data: self.data, row_stride: self.col_stride, col_stride: self.row_stride }
    }
}

/// How a linear layer is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Linear {
    /// Training and scoring: the fastest product for the shape.
    Fast,
    /// Generation: an element does not depend on how many rows are computed beside it, so a sample does not depend on
    /// its batch, bit for bit.
    Invariant,
}

/// Rows that [`Linear::Invariant`] computes at once.
const ROWS: usize = 96;

impl Linear {
    /// `y = x·wᵀ` or `y += x·wᵀ`.
    ///
    /// # Shapes
    /// x `[m, k]`, w `[n, k]`, y `[m, n]`, all row-major.
    #[allow(clippy::too_many_arguments)]
    pub fn apply(self, m: usize, n: usize, k: usize, x: &[f32], w: &[f32], y: &mut [f32], write: Write) {
        if self == Self::Fast && m > ROWS {
            return product(m, n, k, Mat::rows(x, k), Mat::rows(w, k).t(), y, write);
        }
        for (x, y) in x.chunks(ROWS * k).zip(y.chunks_mut(ROWS * n)) {
            product_nt(x.len() / k, n, k, x, w, y, write == Write::Add);
        }
    }
}

/// What happens to the values already in the output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write {
    /// Overwritten.
    Set,
    /// Added to.
    Add,
}

#[derive(Clone, Copy)]
struct OutPtr(*mut f32);
// SAFETY: tiles write disjoint parts of the output.
unsafe impl Send for OutPtr {}
// SAFETY: as above.
unsafe impl Sync for OutPtr {}
impl OutPtr {
    fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: callers stay inside the output slice, which `product` has checked.
        unsafe { self.0.add(offset) }
    }
}

/// Largest element that an [m, n] matrix touches, plus one.
fn extent(m: usize, n: usize, row_stride: usize, col_stride: usize) -> usize {
    if m == 0 || n == 0 { 0 } else { (m - 1) * row_stride + (n - 1) * col_stride + 1 }
}

/// `c = a·b` or `c += a·b` on one thread.
///
/// # Shapes
/// a `[m, k]`, b `[k, n]`, c `[m, n]` with row stride `c_stride`.
#[allow(clippy::too_many_arguments)]
pub fn product_serial(
    m: usize,
    n: usize,
    k: usize,
    a: Mat,
    b: Mat,
    c: &mut [f32],
    c_stride: usize,
    write: Write,
) {
    check(m, n, k, a, b, c, c_stride);
    // SAFETY: `check` has compared every extent with its slice.
    unsafe { tile(m, n, k, a.data.as_ptr(), a, b.data.as_ptr(), b, c.as_mut_ptr(), c_stride, write) };
}

/// `c = a·b` or `c += a·b` on all threads of the current rayon pool.
///
/// # Shapes
/// a `[m, k]`, b `[k, n]`, c `[m, n]` row-major.
pub fn product(m: usize, n: usize, k: usize, a: Mat, b: Mat, c: &mut [f32], write: Write) {
    check(m, n, k, a, b, c, n);
    // Tiles depend on the shape only. Narrow products (decoding) are cut along n, tall ones along m.
    let (tile_m, tile_n) = tiles(m, n, k);
    let (count_m, count_n) = (m.div_ceil(tile_m), n.div_ceil(tile_n));
    let out = OutPtr(c.as_mut_ptr());
    let run = |i: usize| {
        let (m0, n0) = ((i / count_n) * tile_m, (i % count_n) * tile_n);
        let (mm, nn) = (tile_m.min(m - m0), tile_n.min(n - n0));
        // SAFETY: extents were checked; tiles are disjoint.
        unsafe {
            let pa = a.data.as_ptr().add(m0 * a.row_stride);
            let pb = b.data.as_ptr().add(n0 * b.col_stride);
            tile(mm, nn, k, pa, a, pb, b, out.at(m0 * n + n0), n, write);
        }
    };
    let count = count_m * count_n;
    if count == 1 {
        run(0);
    } else {
        (0..count).into_par_iter().for_each(run);
    }
}

fn tiles(m: usize, n: usize, k: usize) -> (usize, usize) {
    const SERIAL: usize = 1 << 18;
    if m * n * k <= SERIAL || m == 0 || n == 0 {
        return (m.max(1), n.max(1));
    }
    if m <= 128 {
        // About 16 tiles, a multiple of 32 columns wide.
        (m, (n.div_ceil(16)).next_multiple_of(32))
    } else if m >= n {
        (m.div_ceil(8).next_multiple_of(24).max(96), n)
    } else {
        (m, n.div_ceil(8).next_multiple_of(32).max(96))
    }
}

fn check(m: usize, n: usize, k: usize, a: Mat, b: Mat, c: &[f32], c_stride: usize) {
    assert!(a.data.len() >= extent(m, k, a.row_stride, a.col_stride), "lhs too small for [{m}, {k}]");
    assert!(b.data.len() >= extent(k, n, b.row_stride, b.col_stride), "rhs too small for [{k}, {n}]");
    assert!(c.len() >= extent(m, n, c_stride, 1), "output too small for [{m}, {n}]");
}

/// # Safety
/// The pointers must be valid for the extents of the shapes.
#[allow(clippy::too_many_arguments)]
unsafe fn tile(
    m: usize,
    n: usize,
    k: usize,
    pa: *const f32,
    a: Mat,
    pb: *const f32,
    b: Mat,
    pc: *mut f32,
    c_stride: usize,
    write: Write,
) {
    if m == 0 || n == 0 {
        return;
    }
    // SAFETY: forwarded from the caller.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            pc,
            1,
            c_stride as isize,
            write == Write::Add,
            pa,
            a.col_stride as isize,
            a.row_stride as isize,
            pb,
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(
        m: usize,
        n: usize,
        k: usize,
        a: impl Fn(usize, usize) -> f32,
        b: impl Fn(usize, usize) -> f32,
    ) -> Vec<f64> {
        let mut c = vec![0f64; m * n];
        for i in 0..m {
            for j in 0..n {
                c[i * n + j] = (0..k).map(|p| f64::from(a(i, p)) * f64::from(b(p, j))).sum();
            }
        }
        c
    }

    #[test]
    fn products_match_a_plain_loop() {
        for (m, n, k) in [(1, 5, 7), (3, 96, 64), (33, 200, 70), (300, 64, 48), (130, 500, 90), (2, 3, 0)] {
            let a: Vec<f32> = (0..m * k).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
            let b: Vec<f32> = (0..k * n).map(|i| ((i * 53 % 97) as f32 - 48.0) / 50.0).collect();
            let want = reference(m, n, k, |i, p| a[i * k + p], |p, j| b[p * n + j]);
            let close = |c: &[f32], add: f64| {
                for (x, y) in c.iter().zip(&want) {
                    assert!((f64::from(*x) - y - add).abs() < 1e-4, "{m} {n} {k}: {x} {y}");
                }
            };
            let mut c = vec![7.0; m * n];
            product(m, n, k, Mat::rows(&a, k), Mat::rows(&b, n), &mut c, Write::Set);
            close(&c, 0.0);
            let mut c = vec![7.0; m * n];
            product(m, n, k, Mat::rows(&a, k), Mat::rows(&b, n), &mut c, Write::Add);
            close(&c, 7.0);
            let bt: Vec<f32> = (0..n * k).map(|i| b[(i % k.max(1)) * n + i / k.max(1)]).collect();
            let mut c = vec![7.0; m * n];
            product_serial(m, n, k, Mat::rows(&a, k), Mat::rows(&bt, k).t(), &mut c, n, Write::Set);
            close(&c, 0.0);
        }
    }
}
