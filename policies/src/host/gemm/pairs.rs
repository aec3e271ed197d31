//! Operands packed as pairs of bf16, by AVX-512 BF16: two values along `k` in the place of one f32, the earlier one in its
//! lower half. Rounded to the nearest, ties to even; denormal values become zero, as the products take them.
use super::pack::Lanes;
use std::arch::x86_64::*;
use std::ops::Range;

/// Lanes of a square, and its pairs along `k`.
pub(super) const SIDE: usize = 16;

/// How a packed panel is laid out.
#[derive(Clone, Copy)]
pub(super) enum Layout {
    /// `[step][width]`
    Steps,
    /// Squares of [`SIDE`] lanes by [`SIDE`] steps, `[square of lanes][square of steps][lane][step]`.
    Squares,
}

impl Lanes<'_> {
    /// Packs `k` values of every lane into the steps of panels; values and lanes that the source does not have are zero.
    ///
    /// # Safety
    /// The processor must have AVX-512 F, BW and BF16.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) unsafe fn pack_pairs(self, layout: Layout, k: usize, steps: usize, panels: &mut [f32]) {
        let Self { source, lane, step, width, lanes } = self;
        let needed = if lanes * k == 0 { 0 } else { (lanes - 1) * lane + (k - 1) * step + 1 };
        assert!(source.len() >= needed, "{lanes} lanes of {k} values from {}", source.len());
        assert!(lane == 1 || step == 1, "strides {lane} and {step}");
        let to_squares = matches!(layout, Layout::Squares);
        assert!(
            !to_squares || width.is_multiple_of(SIDE) && steps.is_multiple_of(SIDE),
            "{width} by {steps}"
        );
        let count = if steps == 0 { 0 } else { panels.len() / (width * steps) };
        // Reads the source in the order in which it lies.
        let (lane_squares, step_squares) = (width.div_ceil(SIDE), steps.div_ceil(SIDE));
        for square in 0..count * lane_squares * step_squares {
            let (l, s) = if lane == 1 {
                (square % (count * lane_squares), square / (count * lane_squares))
            } else {
                (square / step_squares, square % step_squares)
            };
            let (panel, inside, first) = (l / lane_squares, l % lane_squares * SIDE, s * SIDE);
            let first_lane = panel * width + inside;
            let (at, stride, rows, columns) = if to_squares {
                (inside * steps + first * SIDE, SIDE, SIDE, SIDE)
            } else {
                (first * width + inside, width, SIDE.min(steps - first), SIDE.min(width - inside))
            };
            let here = first_lane..lanes.clamp(first_lane, first_lane + columns);
            let values = 2 * first..k.clamp(2 * first, 2 * (first + SIDE));
            let whole = here.len() == SIDE && values.len() == 2 * SIDE;
            // SAFETY: the source has these lanes and values, as asserted above, and the panel has these rows.
            unsafe {
                let out = panels.as_mut_ptr().add(panel * width * steps + at);
                match (whole, step == 1) {
                    (true, true) => {
                        store(turned(self.by_lane(here.start, values.start), !to_squares), out, stride)
                    }
                    (true, false) => {
                        store(turned(self.by_step(here.start, values.start), to_squares), out, stride)
                    }
                    (false, _) => {
                        let square = turned(self.part(here, values), to_squares != (step == 1));
                        for (r, row) in square.into_iter().take(rows).enumerate() {
                            _mm512_mask_storeu_epi32(out.add(r * stride).cast(), mask(columns), row);
                        }
                    }
                }
            }
        }
    }

    /// A whole square whose rows are lanes, from a source where steps lie side by side.
    ///
    /// # Safety
    /// As for [`Self::pack_pairs`]; the source has [`SIDE`] lanes and `2 · SIDE` values.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn by_lane(self, lane: usize, value: usize) -> [__m512i; SIDE] {
        std::array::from_fn(|l| {
            // SAFETY: as the caller vouches.
            unsafe {
                let at = self.source.as_ptr().add((lane + l) * self.lane + value);
                bits(_mm512_cvtne2ps_pbh(_mm512_loadu_ps(at.add(SIDE)), _mm512_loadu_ps(at)))
            }
        })
    }

    /// A whole square whose rows are steps, from a source where lanes lie side by side.
    ///
    /// # Safety
    /// As for [`Self::by_lane`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn by_step(self, lane: usize, value: usize) -> [__m512i; SIDE] {
        std::array::from_fn(|s| {
            // SAFETY: as the caller vouches.
            unsafe {
                let at = self.source.as_ptr().add((value + 2 * s) * self.step + lane);
                joined(_mm512_loadu_ps(at), _mm512_loadu_ps(at.add(self.step)))
            }
        })
    }

    /// Some lanes and values, at most [`SIDE`] and `2 · SIDE`, the rest zero; rows are lanes where steps lie side by side.
    ///
    /// # Safety
    /// As for [`Self::pack_pairs`]; the source has these lanes and values.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn part(self, lanes: Range<usize>, values: Range<usize>) -> [__m512i; SIDE] {
        let mut square = [_mm512_setzero_si512(); SIDE];
        let row = |lane: usize, value: usize, count: usize| {
            let at = self.source.as_ptr().wrapping_add(lane * self.lane + value * self.step);
            // SAFETY: the mask lets through elements that exist only.
            unsafe { _mm512_maskz_loadu_ps(mask(count), at) }
        };
        if self.step == 1 {
            for (out, l) in square.iter_mut().zip(lanes) {
                let high = row(l, values.start + SIDE, values.len().saturating_sub(SIDE));
                *out = bits(_mm512_cvtne2ps_pbh(high, row(l, values.start, values.len())));
            }
            return square;
        }
        for (out, v) in square.iter_mut().zip(values.clone().step_by(2)) {
            let later = if v + 1 < values.end { lanes.len() } else { 0 };
            *out = joined(row(lanes.start, v, lanes.len()), row(lanes.start, v + 1, later));
        }
        square
    }
}

/// Writes the rows of a square.
///
/// # Safety
/// There must be [`SIDE`] rows of [`SIDE`] elements at `out`, `stride` apart.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store(square: [__m512i; SIDE], out: *mut f32, stride: usize) {
    for (r, row) in square.into_iter().enumerate() {
        // SAFETY: as the caller vouches.
        unsafe { _mm512_storeu_si512(out.add(r * stride).cast(), row) };
    }
}

/// Pairs of the values of two steps, lane by lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn joined(earlier: __m512, later: __m512) -> __m512i {
    // The halves of the rounded vector are the two steps.
    let lower = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    let order =
        _mm512_or_si512(lower, _mm512_slli_epi32::<16>(_mm512_add_epi32(lower, _mm512_set1_epi32(16))));
    _mm512_permutexvar_epi16(order, bits(_mm512_cvtne2ps_pbh(later, earlier)))
}

/// The first `count` elements of a vector.
pub(super) fn mask(count: usize) -> __mmask16 {
    if count >= SIDE { !0 } else { (1 << count) - 1 }
}

/// The same bits.
fn bits(x: __m512bh) -> __m512i {
    // SAFETY: both are 64 bytes without invalid values.
    unsafe { std::mem::transmute(x) }
}

/// Rows become columns, if they are to.
#[inline]
#[target_feature(enable = "avx512f")]
fn turned(rows: [__m512i; SIDE], turn: bool) -> [__m512i; SIDE] {
    if turn { transposed(rows) } else { rows }
}

/// Rows become columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(rows: [__m512i; SIDE]) -> [__m512i; SIDE] {
    let r = rows;
    let mut pairs = r;
    for i in (0..SIDE).step_by(2) {
        pairs[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    let mut fours = pairs;
    for i in (0..SIDE).step_by(4) {
        fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    // Quarter q of `fours[4 g + c]` has rows 4 g to 4 g + 3 of column 4 q + c.
    let mut columns = fours;
    for c in 0..4 {
        let (a, b, d, e) = (fours[c], fours[4 + c], fours[8 + c], fours[12 + c]);
        let (even_low, odd_low) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
        let (even_high, odd_high) = (_mm512_shuffle_i32x4::<0x88>(d, e), _mm512_shuffle_i32x4::<0xdd>(d, e));
        columns[c] = _mm512_shuffle_i32x4::<0x88>(even_low, even_high);
        columns[8 + c] = _mm512_shuffle_i32x4::<0xdd>(even_low, even_high);
        columns[4 + c] = _mm512_shuffle_i32x4::<0x88>(odd_low, odd_high);
        columns[12 + c] = _mm512_shuffle_i32x4::<0xdd>(odd_low, odd_high);
    }
    columns
}
