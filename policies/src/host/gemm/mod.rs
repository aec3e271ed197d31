//! Matrix products on the host, of operands in f32 or rounded to bf16, summed in f32.
//!
//! An element of the result is a sum over `k` in a fixed order: chunks whose length depends on `k` only, one chain of
//! multiply-adds in each (`tile.rs`). Its bits therefore depend on its row of `a` and its column of `b` only: not on
//! how many rows or columns are computed beside it, on the number of threads, nor on whether `b` was packed before. So
//! generation and training compute the same linear layers, bit for bit.
#[cfg(target_arch = "x86_64")]
mod amx;
mod outer;
mod pack;
#[cfg(target_arch = "x86_64")]
mod pairs;
mod peak;
mod tile;

use super::buffer::Buffer;
use burn::tensor::DType;
pub use outer::add_outer;
use pack::{Packing, pack_columns, pack_rows, parts};
pub use peak::Peak;
use rayon::prelude::*;
use std::cell::Cell;
use std::ops::Range;
use tile::{Kernel, Tile};

/// What the operands of a product are rounded to before they meet. Sums are f32.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operands {
    /// Nothing is rounded.
    F32,
    /// To the nearest bf16, ties to even. By AMX or AVX-512 BF16, elsewhere by the kernels of f32.
    Bf16,
}

impl Operands {
    /// By burn's name, if it is one of the two.
    pub fn of(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F32 => Some(Self::F32),
            DType::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Burn's name of the type.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }

    /// What products of them are computed by on this machine: `AMX`, `AVX-512 BF16`, `AVX-512`, `AVX2` or `portable`.
    pub fn instructions(self) -> &'static str {
        tile::best(self).name
    }
}

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

/// What happens to the values already in the output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write {
    /// Overwritten.
    Set,
    /// Added to.
    Add,
}

/// Longest chunk, in steps: a panel of `b` and a block of `a` stay in the second-level cache.
const CHUNK: usize = 768;
/// Rows of a block of `a`: a multiple of the rows of every tile.
const ROWS: usize = 96;
/// Panels of `b` that a task packs: of a row of `b` it reads as many columns as they have.
const PANELS: usize = 4;
/// Fewer multiplications than this are done on the calling thread.
const SERIAL: usize = 1 << 18;
/// Tasks a thread, where there is enough to do.
const TASKS: usize = 4;

/// The chunks of the steps over `k`, of almost equal length; an empty one for no steps.
fn chunks(kernel: Kernel, steps: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let side = kernel.packing.side();
    let (count, sides) = (steps.div_ceil(CHUNK).max(1), steps / side);
    (0..count).map(move |c| side * (sides * c / count)..side * (sides * (c + 1) / count))
}

/// The right side of products, packed once for many of them.
#[derive(Debug)]
pub struct Panels {
    kernel: Kernel,
    n: usize,
    k: usize,
    values: Buffer,
    /// Where the first aligned element lies.
    start: usize,
}

impl Panels {
    /// Packs `b`.
    ///
    /// # Shapes
    /// b `[k, n]`.
    pub fn new(operands: Operands, n: usize, k: usize, b: Mat) -> Self {
        Self::with(tile::best(operands), n, k, b)
    }

    fn with(kernel: Kernel, n: usize, k: usize, b: Mat) -> Self {
        assert!(b.data.len() >= extent(k, n, b.row_stride, b.col_stride), "rhs too small for [{k}, {n}]");
        let (width, steps) = (kernel.width, kernel.packing.steps(k));
        let mut values = Buffer::any(n.next_multiple_of(width) * steps + LINE);
        let start = aligned(&values);
        let many = PANELS * width;
        let pack = |(p, panels): (usize, &mut [f32])| pack_columns(kernel, b, [n, k], p * many, panels);
        let used = &mut values[start..start + n.next_multiple_of(width) * steps];
        if k == 0 || n == 0 {
        } else if n * k < SERIAL {
            used.chunks_mut(many * steps).enumerate().for_each(pack);
        } else {
            used.par_chunks_mut(many * steps).enumerate().for_each(pack);
        }
        Self { kernel, n, k, values, start }
    }

    /// Columns of `b`.
    pub fn columns(&self) -> usize {
        self.n
    }

    /// `c = a·b` or `c += a·b`.
    ///
    /// # Shapes
    /// a `[m, k]`, c `[m, n]` row-major.
    pub fn product(&self, m: usize, a: Mat, c: &mut [f32], write: Write) {
        self.multiply([m, self.n, self.k], a, c, self.n, write, true);
    }

    /// As [`product`](Self::product), into columns of a wider `c` that has `c_stride` of them.
    pub fn product_into(&self, m: usize, a: Mat, c: &mut [f32], c_stride: usize, write: Write) {
        self.multiply([m, self.n, self.k], a, c, c_stride, write, true);
    }

    /// As [`product`](Self::product), and `c2 = a·b2`, with the rows of `a` packed once for both.
    ///
    /// # Shapes
    /// a `[m, k]`, c `[m, n]`, b2 `[k, n2]`, c2 `[m, n2]`, all row-major.
    pub fn product_and(
        &self,
        m: usize,
        a: Mat,
        (c, write): (&mut [f32], Write),
        (b2, c2): (&Self, &mut [f32]),
    ) {
        assert!(b2.k == self.k && b2.kernel.packing == self.kernel.packing, "both take the same rows");
        let threads = rayon::current_num_threads();
        if m * self.n * self.k < SERIAL || threads == 1 {
            self.product(m, a, c, write);
            return b2.product(m, a, c2, Write::Set);
        }
        let job = self.job([m, self.n, self.k], a, (c, self.n), write);
        let beside = b2.job([m, b2.n, b2.k], a, (c2, b2.n), Write::Set);
        let blocks: Vec<Range<usize>> = parts(0..m, ROWS).collect();
        let (packed, start) = job.pack(&blocks, m);
        let columns = job.columns(self.n, (TASKS * threads).div_ceil(blocks.len()));
        (0..blocks.len() * (columns.len() + 1)).into_par_iter().for_each(|task| {
            let (block, part) = (&blocks[task / (columns.len() + 1)], task % (columns.len() + 1));
            let whole = Some(&packed[start..]);
            match columns.get(part) {
                Some(columns) => job.block(block.clone(), columns.clone(), whole),
                None => beside.block(block.clone(), 0..b2.n, whole),
            }
        });
    }

    /// A product whose sizes fit.
    fn job<'a>(
        &'a self,
        [m, n, k]: [usize; 3],
        a: Mat<'a>,
        (c, c_stride): (&mut [f32], usize),
        write: Write,
    ) -> Job<'a> {
        assert!(n <= self.n && k <= self.k, "[{k}, {n}] of [{}, {}]", self.k, self.n);
        assert!(a.data.len() >= extent(m, k, a.row_stride, a.col_stride), "lhs too small for [{m}, {k}]");
        assert!(c.len() >= extent(m, n, c_stride, 1), "output too small for [{m}, {n}]");
        Job { b: self, k, a, c: Out(c.as_mut_ptr()), c_stride, write }
    }

    /// `c = a·b` or `c += a·b` with the first `n` columns and `k` rows of `b`, on the calling thread. For operands in f32.
    ///
    /// # Shapes
    /// a `[m, k]`, c `[m, n]` row-major.
    pub fn product_of_part(&self, m: usize, n: usize, k: usize, a: Mat, c: &mut [f32], write: Write) {
        assert_eq!(self.kernel.packing, Packing::Plain, "a pair of values cannot be cut");
        self.multiply([m, n, k], a, c, n, write, false);
    }

    fn multiply(
        &self,
        [m, n, k]: [usize; 3],
        a: Mat,
        c: &mut [f32],
        c_stride: usize,
        write: Write,
        parallel: bool,
    ) {
        let job = self.job([m, n, k], a, (c, c_stride), write);
        if m == 0 || n == 0 {
            return;
        }
        let threads = rayon::current_num_threads();
        if !parallel || m * n * k < SERIAL || threads == 1 {
            return parts(0..m, ROWS).for_each(|rows| job.block(rows, 0..n, None));
        }
        let blocks: Vec<Range<usize>> = parts(0..m, ROWS).collect();
        let columns = job.columns(n, (TASKS * threads).div_ceil(blocks.len()));
        let cuts = columns.len();
        // Rows that several tasks multiply with are packed once for all of them.
        let packed = (cuts > 1).then(|| job.pack(&blocks, m));
        (0..blocks.len() * cuts).into_par_iter().for_each(|task| {
            let whole = packed.as_ref().map(|(values, start)| &values[*start..]);
            job.block(blocks[task / cuts].clone(), columns[task % cuts].clone(), whole);
        });
    }
}

/// Output shared by tasks that write disjoint parts.
#[derive(Clone, Copy)]
struct Out(*mut f32);
// SAFETY: tasks write disjoint parts of the output.
unsafe impl Send for Out {}
// SAFETY: as above.
unsafe impl Sync for Out {}

/// One product whose sizes were checked.
struct Job<'a> {
    b: &'a Panels,
    /// Rows of `b` that are used.
    k: usize,
    a: Mat<'a>,
    c: Out,
    c_stride: usize,
    write: Write,
}

thread_local! {
    /// Room for a packed block of `a`, kept from call to call.
    static BLOCK: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

impl Job<'_> {
    /// `n` columns in about `cuts` parts of whole panels.
    fn columns(&self, n: usize, cuts: usize) -> Vec<Range<usize>> {
        let width = self.b.kernel.width;
        let count = n.div_ceil(width);
        let cuts = cuts.min(count);
        (0..cuts).map(|i| width * (count * i / cuts)..n.min(width * (count * (i + 1) / cuts))).collect()
    }

    /// Packs all `m` rows of `a`, cut into `blocks`: of each block all chunks, one behind the other. Also says where the
    /// first aligned element lies, which is the first one of them.
    fn pack(&self, blocks: &[Range<usize>], m: usize) -> (Buffer, usize) {
        let kernel = self.b.kernel;
        let steps = kernel.packing.steps(self.k);
        let mut packed = Buffer::any(kernel.packing.rows(m) * steps + LINE);
        let start = aligned(&packed);
        let used = &mut packed[start..start + kernel.packing.rows(m) * steps];
        used.par_chunks_mut((ROWS * steps).max(1)).zip(blocks).for_each(|(mut room, rows)| {
            for chunk in chunks(kernel, steps) {
                let (now, behind) = room.split_at_mut(kernel.packing.rows(rows.len()) * chunk.len());
                pack_rows(kernel, self.a, self.k, rows.clone(), chunk, now);
                room = behind;
            }
        });
        (packed, start)
    }

    /// Computes `rows` of the columns `columns`, which start at a panel, from what [`Self::pack`] made, or packs itself.
    fn block(&self, rows: Range<usize>, columns: Range<usize>, whole: Option<&[f32]>) {
        let kernel = self.b.kernel;
        let (width, all_steps) = (kernel.width, kernel.packing.steps(self.b.k));
        let steps = kernel.packing.steps(self.k);
        let height = kernel.packing.rows(rows.len());
        let mut room = BLOCK.take();
        let _ready = kernel.ready();
        for chunk in chunks(kernel, steps) {
            let packed = match whole {
                Some(whole) => &whole[rows.start * steps + height * chunk.start..],
                None => {
                    room.resize((height * chunk.len() + LINE).max(room.len()), 0.0);
                    let first = aligned(&room);
                    pack_rows(kernel, self.a, self.k, rows.clone(), chunk.clone(), &mut room[first..]);
                    &room[first..]
                }
            };
            for j in columns.clone().step_by(width) {
                let panel = self.b.start + j * all_steps + chunk.start * width;
                for i in parts(rows.clone(), kernel.rows) {
                    let tile = Tile {
                        steps: chunk.len(),
                        a: packed[(i.start - rows.start) * chunk.len()..].as_ptr(),
                        a_step: i.len(),
                        b: self.b.values[panel..].as_ptr(),
                        b_step: width,
                        c: self.c.0.wrapping_add(i.start * self.c_stride + j),
                        c_stride: self.c_stride,
                        cols: width.min(columns.end - j),
                        add: self.write == Write::Add || chunk.start > 0,
                    };
                    // SAFETY: the kernel is one that this machine has, and this thread is ready for it; `packed` holds
                    // `i.len()` rows of the chunk, the panel its `width` columns, and `c` was checked to have these rows
                    // and columns, which no other task writes.
                    unsafe { (kernel.run)(i.len(), tile) };
                }
            }
        }
        BLOCK.set(room);
    }
}

/// Elements of a cache line.
const LINE: usize = 16;

/// Index of the first element at the start of a cache line.
fn aligned(values: &[f32]) -> usize {
    values.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE)
}

/// Largest element that an [m, n] matrix touches, plus one.
fn extent(m: usize, n: usize, row_stride: usize, col_stride: usize) -> usize {
    if m == 0 || n == 0 { 0 } else { (m - 1) * row_stride + (n - 1) * col_stride + 1 }
}

/// `c = a·b` or `c += a·b` in f32 on the calling thread.
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
    Panels::new(Operands::F32, n, k, b).multiply([m, n, k], a, c, c_stride, write, false);
}

/// `c = a·b` or `c += a·b` on all threads of the current rayon pool.
///
/// # Shapes
/// a `[m, k]`, b `[k, n]`, c `[m, n]` row-major.
pub fn product(operands: Operands, [m, n, k]: [usize; 3], a: Mat, b: Mat, c: &mut [f32], write: Write) {
    Panels::new(operands, n, k, b).product(m, a, c, write);
}

#[cfg(test)]
mod tests;
