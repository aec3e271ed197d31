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
    /// Packs `k` values of every lane into the steps of `panel`; values and lanes that the source does not have are zero.
    ///
    /// # Safety
    /// The processor must have AVX-512 F, BW and BF16.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) unsafe fn pack_pairs(self, layout: Layout, k: usize, panel: &mut [f32]) {
        let Self { source, lane, step, width, lanes } = self;
        let needed = if lanes * k == 0 { 0 } else { (lanes - 1) * lane + (k - 1) * step + 1 };
        assert!(source.len() >= needed, "{lanes} lanes of {k} values from {}", source.len());
        assert!(lane == 1 || step == 1, "strides {lane} and {step}");
        let steps = panel.len() / width;
        for first_lane in (0..width).step_by(SIDE) {
            for first in (0..steps).step_by(SIDE) {
                let here = first_lane..lanes.clamp(first_lane, first_lane + SIDE);
                let values = 2 * first..k.clamp(2 * first, 2 * (first + SIDE));
                // SAFETY: these lanes and values exist, as the assertion above says.
                let (square, by_lane) = unsafe { self.square(here, values) };
                let wanted = matches!(layout, Layout::Squares);
                let square = if by_lane == wanted { square } else { transposed(square) };
                match layout {
                    Layout::Squares => {
                        let at = (first_lane * steps + first * SIDE)..;
                        for (row, out) in square.iter().zip(panel[at].as_chunks_mut::<SIDE>().0) {
                            // SAFETY: `out` is as long as a row.
                            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), *row) };
                        }
                    }
                    Layout::Steps => {
                        let count = SIDE.min(width - first_lane);
                        let rows = panel[first * width..].chunks_exact_mut(width);
                        for (row, out) in square.iter().zip(rows) {
                            let out = &mut out[first_lane..first_lane + count];
                            // SAFETY: `out` has the elements that the mask lets through.
                            unsafe { _mm512_mask_storeu_epi32(out.as_mut_ptr().cast(), mask(count), *row) };
                        }
                    }
                }
            }
        }
    }

    /// Some lanes and values as pairs, at most [`SIDE`] each, the rest zero; and whether a row is a lane or a step.
    ///
    /// # Safety
    /// As for [`Self::pack_pairs`]; the lanes and values exist in the source, and one of its strides is 1.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn square(self, lanes: Range<usize>, values: Range<usize>) -> ([__m512i; SIDE], bool) {
        let mut square = [_mm512_setzero_si512(); SIDE];
        let row = |lane: usize, value: usize, count: usize| {
            let at = self.source.as_ptr().wrapping_add(lane * self.lane + value * self.step);
            // SAFETY: the mask lets through elements that exist only.
            unsafe { _mm512_maskz_loadu_ps(mask(count), at) }
        };
        if self.step == 1 {
            for (out, l) in square.iter_mut().zip(lanes) {
                let low = row(l, values.start, values.len());
                let high = row(l, values.start + SIDE, values.len().saturating_sub(SIDE));
                *out = bits(_mm512_cvtne2ps_pbh(high, low));
            }
            return (square, true);
        }
        // The two halves of a vector are the values of one step; they go between each other.
        let order = _mm512_or_si512(
            _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
            _mm512_slli_epi32::<16>(_mm512_set_epi32(
                31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16,
            )),
        );
        for (out, v) in square.iter_mut().zip(values.clone().step_by(2)) {
            let low = row(lanes.start, v, lanes.len());
            let high = row(lanes.start, v + 1, if v + 1 < values.end { lanes.len() } else { 0 });
            *out = _mm512_permutexvar_epi16(order, bits(_mm512_cvtne2ps_pbh(high, low)));
        }
        (square, false)
    }
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

/// Rows become columns.
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
