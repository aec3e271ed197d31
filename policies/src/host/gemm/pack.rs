//! Operands copied into the order in which the register tile reads them.
use super::Mat;
#[cfg(target_arch = "x86_64")]
use super::pairs::{Layout, SIDE};
use super::tile::Kernel;
use crate::host::simd::multiversion;
use std::ops::Range;

/// How a packed operand holds the values along `k`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Packing {
    /// One a step.
    Plain,
    /// One a step, rounded to bf16.
    Rounded,
    /// Two a step, both bf16 in the place of one f32, the earlier one in its lower half; a missing last one is zero.
    #[cfg(target_arch = "x86_64")]
    Pairs,
    /// Such pairs in whole squares of rows and steps; what is missing of them is zero.
    #[cfg(target_arch = "x86_64")]
    Squares,
}

impl Packing {
    /// Values of a step.
    pub(super) fn values(self) -> usize {
        match self {
            Self::Plain | Self::Rounded => 1,
            #[cfg(target_arch = "x86_64")]
            Self::Pairs | Self::Squares => 2,
        }
    }

    /// What the numbers of rows and of steps are multiples of.
    pub(super) fn side(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Squares => SIDE,
            _ => 1,
        }
    }

    /// Steps that `k` values take.
    pub(super) fn steps(self, k: usize) -> usize {
        k.div_ceil(self.values()).next_multiple_of(self.side())
    }

    /// Rows that `count` rows of `a` take.
    pub(super) fn rows(self, count: usize) -> usize {
        count.next_multiple_of(self.side())
    }
}

/// Copies rows `i` and `steps` of `a`, which is `k` wide, into panels of the kernel's height (the last one of what is
/// left), each `[step][row]` or in squares.
pub(super) fn pack_rows(
    kernel: Kernel,
    a: Mat,
    k: usize,
    i: Range<usize>,
    steps: Range<usize>,
    out: &mut [f32],
) {
    let packing = kernel.packing;
    let k = k.min(packing.values() * steps.start)..k.min(packing.values() * steps.end);
    let lanes = |rows: &Range<usize>| {
        // Without any values there may be no such row.
        let source = a.data.get(rows.start * a.row_stride + k.start * a.col_stride..).unwrap_or_default();
        let width = packing.rows(rows.len());
        Lanes { source, lane: a.row_stride, step: a.col_stride, width, lanes: rows.len() }
    };
    #[cfg(target_arch = "x86_64")]
    if packing == Packing::Squares {
        // Squares of one panel follow those of the one before it: all rows are one panel.
        let panel = &mut out[..packing.rows(i.len()) * steps.len()];
        // SAFETY: a kernel of pairs exists only where the processor has these instructions.
        return unsafe { lanes(&i).pack_pairs(Layout::Squares, k.len(), steps.len(), panel) };
    }
    let mut rest = out;
    for rows in parts(i, kernel.rows) {
        let (panel, behind) = rest.split_at_mut(rows.len() * steps.len());
        rest = behind;
        lanes(&rows).pack(packing, k.len(), steps.len(), panel);
    }
}

/// `range` cut into parts of `size` and what is left.
pub(super) fn parts(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(size).map(move |start| start..end.min(start + size))
}

/// Copies the columns from `first` of `b` `[k, n]` into panels `[step][width]`; columns that do not exist are zero.
pub(super) fn pack_columns(kernel: Kernel, b: Mat, [n, k]: [usize; 2], first: usize, panels: &mut [f32]) {
    let source = &b.data[first * b.col_stride..];
    let (width, steps) = (kernel.width, kernel.packing.steps(k));
    let lanes = (n - first).min(panels.len() / steps);
    let lanes = Lanes { source, lane: b.col_stride, step: b.row_stride, width, lanes };
    lanes.pack(kernel.packing, k, steps, panels);
}

/// Where the lanes of panels come from.
#[derive(Clone, Copy)]
pub(super) struct Lanes<'a> {
    pub source: &'a [f32],
    /// From one lane to the next in the source.
    pub lane: usize,
    /// From one value along `k` to the next.
    pub step: usize,
    /// Lanes of a panel.
    pub width: usize,
    /// Lanes that the source has.
    pub lanes: usize,
}

impl Lanes<'_> {
    /// Packs `k` values of every lane into the steps of panels, each `[step][width]`.
    fn pack(self, packing: Packing, k: usize, steps: usize, panels: &mut [f32]) {
        let Self { source, lane, step, width, lanes } = self;
        #[cfg(target_arch = "x86_64")]
        if matches!(packing, Packing::Pairs | Packing::Squares) {
            // SAFETY: a kernel of pairs exists only where the processor has these instructions.
            return unsafe { self.pack_pairs(Layout::Steps, k, steps, panels) };
        }
        for (p, panel) in panels.chunks_mut((width * steps).max(1)).enumerate() {
            let here = parts(0..lanes, width).nth(p).unwrap_or(0..0);
            copy(&source[here.start * lane..], lane, step, width, here.len(), panel);
            if packing == Packing::Rounded {
                round_all(panel);
            }
        }
    }
}

/// The nearest bf16, ties to even, in the upper half of the bits.
#[inline(always)]
pub(super) fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    (if x.is_nan() { bits | 0x40_0000 } else { nearest }) & 0xffff_0000
}

multiversion! {
    fn round_all(values: &mut [f32]) {
        for x in values {
            *x = f32::from_bits(rounded(*x));
        }
    }
}

/// Element (lane, step) of the source, for the `lanes` that exist, goes to `[step][lane]` of the panel.
fn copy(source: &[f32], lane: usize, step: usize, width: usize, lanes: usize, panel: &mut [f32]) {
    if lane == 1 {
        match (width, lanes) {
            (32, 32) => pack_runs::<32>(source, step, panel),
            (16, 16) => pack_runs::<16>(source, step, panel),
            (12, 12) => pack_runs::<12>(source, step, panel),
            (8, 8) => pack_runs::<8>(source, step, panel),
            (6, 6) => pack_runs::<6>(source, step, panel),
            _ => pack_single(source, lane, step, width, 0..lanes, panel),
        }
    } else if step == 1 {
        let squares = lanes / 4 * 4;
        pack_squares(source, lane, width, squares, panel);
        pack_single(source, lane, step, width, squares..lanes, panel);
    } else {
        pack_single(source, lane, step, width, 0..lanes, panel);
    }
    if lanes < width {
        panel.chunks_exact_mut(width).for_each(|out| out[lanes..].fill(0.0));
    }
}

/// [`copy`] where lanes lie side by side.
fn pack_runs<const W: usize>(source: &[f32], step: usize, panel: &mut [f32]) {
    for (p, out) in panel.as_chunks_mut::<W>().0.iter_mut().enumerate() {
        if let Some(run) = source[p * step..].first_chunk::<W>() {
            *out = *run;
        }
    }
}

/// [`copy`] of some lanes, one element at a time.
fn pack_single(
    source: &[f32],
    lane: usize,
    step: usize,
    width: usize,
    lanes: Range<usize>,
    panel: &mut [f32],
) {
    for (p, out) in panel.chunks_exact_mut(width).enumerate() {
        for w in lanes.clone() {
            out[w] = source[w * lane + p * step];
        }
    }
}

/// [`copy`] of the first `lanes`, a multiple of four, where steps lie side by side: squares of four by four.
fn pack_squares(source: &[f32], lane: usize, width: usize, lanes: usize, panel: &mut [f32]) {
    if lanes == 0 {
        return;
    }
    let steps = panel.len() / width;
    let whole = steps / 4 * 4;
    assert!(lanes <= width && source.len() >= (lanes - 1) * lane + steps, "{lanes} lanes of {steps} steps");
    for p in (0..whole).step_by(4) {
        for w in (0..lanes).step_by(4) {
            // SAFETY: lanes `w..w + 4` and steps `p..p + 4` exist in the source, by the assertion, and in the panel.
            unsafe {
                transpose(
                    source.as_ptr().add(w * lane + p),
                    lane,
                    panel.as_mut_ptr().add(p * width + w),
                    width,
                );
            }
        }
    }
    for p in whole..steps {
        for w in 0..lanes {
            panel[p * width + w] = source[w * lane + p];
        }
    }
}

/// Copies four rows of four elements to four columns.
///
/// # Safety
/// Four elements must be readable at each of four rows `from_stride` apart, and writable at each of four `to_stride` apart.
#[inline(always)]
unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's contract; SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_TRANSPOSE4_PS, _mm_loadu_ps, _mm_storeu_ps};
        let mut a = _mm_loadu_ps(from);
        let mut b = _mm_loadu_ps(from.add(from_stride));
        let mut c = _mm_loadu_ps(from.add(2 * from_stride));
        let mut d = _mm_loadu_ps(from.add(3 * from_stride));
        _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
        _mm_storeu_ps(to, a);
        _mm_storeu_ps(to.add(to_stride), b);
        _mm_storeu_ps(to.add(2 * to_stride), c);
        _mm_storeu_ps(to.add(3 * to_stride), d);
    }
    #[cfg(not(target_arch = "x86_64"))]
    for i in 0..4 {
        for j in 0..4 {
            // SAFETY: the caller's contract.
            unsafe { *to.add(j * to_stride + i) = *from.add(i * from_stride + j) };
        }
    }
}
