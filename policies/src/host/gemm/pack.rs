//! Operands copied into the order in which the register tile reads them.
use super::Mat;
use std::ops::Range;

/// Copies rows `i` and steps `k` of `a` into panels of `height` rows (the last one of what is left), `[panel][k][row]`.
pub(super) fn pack_rows(a: Mat, i: Range<usize>, k: Range<usize>, height: usize, out: &mut [f32]) {
    let mut rest = out;
    for rows in parts(i, height) {
        let (panel, behind) = rest.split_at_mut(rows.len() * k.len());
        rest = behind;
        let source = &a.data[rows.start * a.row_stride + k.start * a.col_stride..];
        pack(source, a.row_stride, a.col_stride, rows.len(), rows.len(), panel);
    }
}

/// `range` cut into parts of `size` and what is left.
pub(super) fn parts(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(size).map(move |start| start..end.min(start + size))
}

/// Copies the columns from `first` of `b` `[k, n]` into one panel `[k][width]`; columns that do not exist are zero.
pub(super) fn pack_columns(b: Mat, n: usize, first: usize, width: usize, panel: &mut [f32]) {
    let source = &b.data[first * b.col_stride..];
    pack(source, b.col_stride, b.row_stride, width, width.min(n - first), panel);
}

/// Element (lane, step) of the source, for the `lanes` that exist, goes to `[step][lane]` of the panel.
fn pack(source: &[f32], lane: usize, step: usize, width: usize, lanes: usize, panel: &mut [f32]) {
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

/// [`pack`] where lanes lie side by side.
fn pack_runs<const W: usize>(source: &[f32], step: usize, panel: &mut [f32]) {
    for (p, out) in panel.as_chunks_mut::<W>().0.iter_mut().enumerate() {
        if let Some(run) = source[p * step..].first_chunk::<W>() {
            *out = *run;
        }
    }
}

/// [`pack`] of some lanes, one element at a time.
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

/// [`pack`] of the first `lanes`, a multiple of four, where steps lie side by side: squares of four by four.
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
