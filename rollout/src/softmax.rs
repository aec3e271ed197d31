//! Vectorised passes over one row of logits.
//!
//! Sums run in fixed blocks with a fixed order, and no fused multiply-add is used, so the results are the same bits on
//! every x86 machine and for every number of threads. A block is summed in f32 over [`LANES`] lanes of
//! [`BLOCK`]`/`[`LANES`] values each, the blocks in f64.

use crate::error::LogitsProblem;

/// Logits a block.
pub(crate) const BLOCK: usize = 256;
const LANES: usize = 16;

/// Defines `$name` as `$body`, compiled for AVX-512, for AVX2 and for the baseline; chosen at run time. All do the same
/// operations in the same order.
macro_rules! vectorised {
    ($(#[$doc:meta])* $name:ident = $body:ident ( $($arg:ident : $ty:ty),* ) $(-> $ret:ty)?) => {
        $(#[$doc])*
        pub(crate) fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f")]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    $body($($arg),*)
                }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    $body($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("avx512f") {
                    // SAFETY: the processor has AVX-512F, the only requirement of `avx512`.
                    return unsafe { avx512($($arg),*) };
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has AVX2, the only requirement of `avx2`.
                    return unsafe { avx2($($arg),*) };
                }
            }
            $body($($arg),*)
        }
    };
}

/// eˣ for x ≤ 88 within 2 units in the last place; 0 below ln of the smallest normal number (−∞ included).
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2; the Taylor polynomial of degree 7 in r is exact to 6e-9, and 2ⁿ is put together
/// from its exponent bits.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const SMALLEST: f32 = -87.336_54;
    // Adding 1.5·2²³ rounds to an integer, whose low bits are then those of the sum.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 split so that n times the first part is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = (std::f64::consts::LN_2 - LN2_HIGH as f64) as f32;

    let inside = if x > SMALLEST { x } else { SMALLEST };
    let shifted = inside * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (inside - n * LN2_HIGH) - n * LN2_LOW;
    let q = 1.0 / 5040.0;
    let q = q * r + 1.0 / 720.0;
    let q = q * r + 1.0 / 120.0;
    let q = q * r + 1.0 / 24.0;
    let q = q * r + 1.0 / 6.0;
    let q = q * r + 0.5;
    let y = (q * r) * r + r + 1.0;
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if x > SMALLEST { y * power } else { 0.0 }
}

#[inline(always)]
fn exp_block_body(logits: &[f32], max: f32, scale: f32, out: &mut [f32; BLOCK]) {
    for (e, &x) in out.iter_mut().zip(logits) {
        *e = exp((x - max) * scale);
    }
}

#[inline(always)]
fn block_sums_body(logits: &[f32], max: f32, scale: f32, sums: &mut Vec<f64>) {
    let mut values = [0.0; BLOCK];
    for block in logits.chunks(BLOCK) {
        exp_block_body(block, max, scale, &mut values);
        values[block.len()..].fill(0.0);
        let mut lanes = [0.0f32; LANES];
        for chunk in values.chunks_exact(LANES) {
            for (lane, &e) in lanes.iter_mut().zip(chunk) {
                *lane += e;
            }
        }
        sums.push(lanes.iter().map(|&lane| f64::from(lane)).sum());
    }
}

#[inline(always)]
fn block_maxima_body(logits: &[f32], maxima: &mut Vec<f32>) -> bool {
    // Stays 0 until a value is NaN or +∞.
    let mut wrong = [0.0f32; LANES];
    for block in logits.chunks(BLOCK) {
        let mut lanes = [f32::NEG_INFINITY; LANES];
        let mut chunks = block.chunks_exact(LANES);
        for chunk in &mut chunks {
            for lane in 0..LANES {
                let x = chunk[lane];
                lanes[lane] = if x > lanes[lane] { x } else { lanes[lane] };
                wrong[lane] = if x < f32::INFINITY { wrong[lane] } else { x };
            }
        }
        for &x in chunks.remainder() {
            lanes[0] = if x > lanes[0] { x } else { lanes[0] };
            wrong[0] = if x < f32::INFINITY { wrong[0] } else { x };
        }
        maxima.push(lanes.iter().fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m }));
    }
    wrong == [0.0; LANES]
}

/// A token, its logit, and exp((logit − max) · scale).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) id: u32,
    pub(crate) logit: f32,
    pub(crate) weight: f32,
}

#[inline(always)]
fn gather_body(logits: &[f32], peaks: &Peaks, scale: f32, floor: f32, out: &mut Vec<Token>) {
    let (mut values, mut found) = ([0.0; BLOCK], [0usize; BLOCK]);
    for (b, (block, &block_max)) in logits.chunks(BLOCK).zip(&peaks.blocks).enumerate() {
        if block_max < floor {
            continue;
        }
        exp_block_body(block, peaks.max, scale, &mut values);
        // Without a branch on the comparison, which would be mispredicted often.
        let mut count = 0;
        for (i, &x) in block.iter().enumerate() {
            found[count % BLOCK] = i;
            count += usize::from(x >= floor);
        }
        let token = |&i: &usize| Token { id: (b * BLOCK + i) as u32, logit: block[i], weight: values[i] };
        out.extend(found[..count].iter().map(token));
    }
}

vectorised! {
    /// Pushes the tokens whose logit is at least `floor`, in the order of their ids.
    gather = gather_body(logits: &[f32], peaks: &Peaks, scale: f32, floor: f32, out: &mut Vec<Token>)
}

vectorised! {
    /// `out[i] = exp((logits[i] − max) · scale)` for at most [`BLOCK`] logits; the rest of `out` keeps its values.
    exp_block = exp_block_body(logits: &[f32], max: f32, scale: f32, out: &mut [f32; BLOCK])
}

vectorised! {
    /// Pushes the sum of exp((x − max) · scale) of every block.
    block_sums = block_sums_body(logits: &[f32], max: f32, scale: f32, sums: &mut Vec<f64>)
}

vectorised! {
    /// Pushes the maximum of every block; false when a value is NaN or +∞.
    block_maxima = block_maxima_body(logits: &[f32], maxima: &mut Vec<f32>) -> bool
}

/// Maxima of a row of logits that has a softmax.
pub(crate) struct Peaks {
    /// Largest logit, finite.
    pub(crate) max: f32,
    /// Largest logit of every block.
    pub(crate) blocks: Vec<f32>,
}

/// Finds the maxima and refuses rows without a softmax.
pub(crate) fn peaks(logits: &[f32]) -> Result<Peaks, LogitsProblem> {
    let mut blocks = Vec::with_capacity(logits.len().div_ceil(BLOCK));
    if !block_maxima(logits, &mut blocks) {
        for (token, &x) in logits.iter().enumerate() {
            let token = token as u32;
            if x.is_nan() {
                return Err(LogitsProblem::Nan { token });
            }
            if x == f32::INFINITY {
                return Err(LogitsProblem::PositiveInfinity { token });
            }
        }
    }
    let max = blocks.iter().fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m });
    if max == f32::NEG_INFINITY { Err(LogitsProblem::NoToken) } else { Ok(Peaks { max, blocks }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_to_two_units_in_the_last_place() {
        let mut worst = 0.0f64;
        // Every 97th float between the smallest argument and −1e-6, and its mirror up to 88.
        for bits in (1e-6f32.to_bits()..=87.33f32.to_bits()).step_by(97) {
            for x in [-f32::from_bits(bits), f32::from_bits(bits)] {
                let exact = f64::from(x).exp();
                let unit = f64::from((exact as f32).next_up()) - f64::from(exact as f32);
                worst = worst.max((f64::from(exp(x)) - exact).abs() / unit);
            }
        }
        assert!(worst < 2.0, "{worst} units in the last place");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-88.0), 0.0);
        assert_eq!(exp(-1e30), 0.0);
        assert!(exp(-87.336) > 0.0);
    }

    fn row(n: usize) -> Vec<f32> {
        let rng = crate::rng::CounterRng::new(11, n as u64, 0, 0);
        (0..n).map(|i| (4.0 * rng.normal(i as u64)) as f32).collect()
    }

    #[test]
    fn sums_match_f64_and_do_not_depend_on_the_instruction_set() {
        for n in [1, 15, 16, 17, 255, 256, 257, 1000, 49_152] {
            let logits = row(n);
            let peaks = peaks(&logits).unwrap();
            let (mut wide, mut plain) = (Vec::new(), Vec::new());
            block_sums(&logits, peaks.max, 1.25, &mut wide);
            block_sums_body(&logits, peaks.max, 1.25, &mut plain);
            assert_eq!(wide, plain);
            let exact: f64 = logits.iter().map(|&x| (f64::from(x - peaks.max) * 1.25).exp()).sum();
            let total: f64 = wide.iter().sum();
            assert!((total / exact - 1.0).abs() < 1e-6, "{n}: {total} {exact}");
        }
    }

    #[test]
    fn maxima_and_refusals() {
        for n in [1, 16, 100, 300, 1025] {
            let logits = row(n);
            let found = peaks(&logits).unwrap();
            assert_eq!(found.max, logits.iter().copied().fold(f32::MIN, f32::max));
            for (block, &max) in logits.chunks(BLOCK).zip(&found.blocks) {
                assert_eq!(max, block.iter().copied().fold(f32::MIN, f32::max));
            }
            for at in [0, n / 2, n - 1] {
                let mut broken = logits.clone();
                broken[at] = f32::NAN;
                assert_eq!(peaks(&broken).err(), Some(LogitsProblem::Nan { token: at as u32 }));
                broken[at] = f32::INFINITY;
                assert_eq!(peaks(&broken).err(), Some(LogitsProblem::PositiveInfinity { token: at as u32 }));
                broken[at] = f32::NEG_INFINITY;
                assert_eq!(peaks(&broken).is_ok(), n > 1);
            }
        }
        assert_eq!(peaks(&[]).err(), Some(LogitsProblem::NoToken));
        assert_eq!(peaks(&[f32::NEG_INFINITY; 40]).err(), Some(LogitsProblem::NoToken));
    }
}
