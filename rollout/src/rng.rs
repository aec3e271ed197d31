//! Counter-based randomness: every number is a pure function of its key, so nothing has to be saved for a resume and
//! nothing depends on the order in which numbers are drawn.
//!
//! The generator is Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
//! One block of 128 bits is made from a 64-bit key and a 128-bit counter. Here the key is the seed and the counter is
//! (position, sample, prompt, step), 32 bits each; different tuples never share a block.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// One Philox4x32-10 block.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let a = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let b = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// A bijection of the 64-bit integers that spreads every input bit (xor-shifts and odd multiplications).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    x = (x ^ (x >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    x ^ (x >> 32)
}

/// The random numbers of one (seed, step, prompt, sample), indexed by position.
///
/// Anything that wants reproducible randomness may use it: rollouts use the index of the completion token as position,
/// a shuffle or an initialisation picks its own meaning for `step`, `prompt` and `sample` (and a seed of its own, so
/// that it shares no numbers with the rollouts).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterRng {
    key: u64,
    words: [u32; 3],
}

impl CounterRng {
    /// The stream of one sample. Values below 2³² give distinct streams by construction; higher bits are hashed into
    /// the key.
    pub fn new(seed: u64, step: u64, prompt: u64, sample: u64) -> Self {
        let mut key = seed;
        for (salt, high) in [(1, step >> 32), (2, prompt >> 32), (3, sample >> 32)] {
            key = fold(key, salt, high);
        }
        Self { key, words: [sample as u32, prompt as u32, step as u32] }
    }

    /// Counter and key of the Philox block of a position.
    pub fn block(&self, position: u64) -> ([u32; 4], [u32; 2]) {
        let key = fold(self.key, 4, position >> 32);
        let counter = [position as u32, self.words[0], self.words[1], self.words[2]];
        (counter, [key as u32, (key >> 32) as u32])
    }

    /// 128 random bits of a position.
    pub fn bits(&self, position: u64) -> [u32; 4] {
        let (counter, key) = self.block(position);
        philox(counter, key)
    }

    /// Uniform in [0, 1): a multiple of 2⁻⁵³.
    pub fn uniform(&self, position: u64) -> f64 {
        let [a, b, ..] = self.bits(position);
        unit(a, b)
    }

    /// Standard normal (Box–Muller).
    pub fn normal(&self, position: u64) -> f64 {
        let [a, b, c, d] = self.bits(position);
        let radius = (-2.0 * (1.0 - unit(a, b)).ln()).sqrt();
        radius * (std::f64::consts::TAU * unit(c, d)).cos()
    }

    /// Uniform in `0..n`; the bias is below n / 2⁶⁴.
    ///
    /// # Panics
    /// When `n` is 0.
    pub fn below(&self, position: u64, n: u64) -> u64 {
        assert!(n > 0, "an integer below 0 does not exist");
        let [a, b, ..] = self.bits(position);
        ((u128::from(join(a, b)) * u128::from(n)) >> 64) as u64
    }

    /// Shuffles in place (Fisher–Yates) with positions `1..items.len()`.
    pub fn shuffle<T>(&self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i as u64, i as u64 + 1) as usize;
            items.swap(i, j);
        }
    }
}

/// Leaves the key alone when there are no high bits.
fn fold(key: u64, salt: u64, high: u64) -> u64 {
    if high == 0 { key } else { mix(key ^ mix(high.wrapping_mul(8) + salt)) }
}

fn join(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn unit(low: u32, high: u32) -> f64 {
    (join(low, high) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn known_answers() {
        // The vectors that the authors of Philox publish for philox4x32, 10 rounds.
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn neighbouring_keys_differ() {
        let mut seen = HashSet::new();
        for seed in [0, 1, 1 << 40] {
            for step in [0, 1, 2, 1 << 32, 1 << 33] {
                for prompt in [0, 1, 2, 1 << 32] {
                    for sample in [0, 1, 2, 1 << 32] {
                        for position in [0, 1, 2, 1 << 32] {
                            let bits = CounterRng::new(seed, step, prompt, sample).bits(position);
                            assert!(seen.insert(bits), "{seed} {step} {prompt} {sample} {position}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn uniform_moments_and_serial_correlation() {
        let n = 200_000u64;
        let rng = CounterRng::new(7, 3, 2, 1);
        let u: Vec<f64> = (0..n).map(|i| rng.uniform(i)).collect();
        assert!(u.iter().all(|x| (0.0..1.0).contains(x)));
        let mean = u.iter().sum::<f64>() / n as f64;
        let var = u.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
        let serial = u.windows(2).map(|w| (w[0] - mean) * (w[1] - mean)).sum::<f64>() / n as f64 / var;
        // Four standard deviations of each statistic.
        assert!((mean - 0.5).abs() < 4.0 * (1.0f64 / 12.0 / n as f64).sqrt(), "{mean}");
        assert!((var - 1.0 / 12.0).abs() < 4.0 * (1.0f64 / 180.0 / n as f64).sqrt(), "{var}");
        assert!(serial.abs() < 4.0 / (n as f64).sqrt(), "{serial}");
    }

    #[test]
    fn normal_moments() {
        let n = 200_000u64;
        let rng = CounterRng::new(1, 0, 0, 0);
        let z: Vec<f64> = (0..n).map(|i| rng.normal(i)).collect();
        let moment = |k: i32| z.iter().map(|x| x.powi(k)).sum::<f64>() / n as f64;
        assert!(z.iter().all(|x| x.is_finite()));
        assert!(moment(1).abs() < 0.01 && (moment(2) - 1.0).abs() < 0.015, "{} {}", moment(1), moment(2));
        assert!(moment(3).abs() < 0.04 && (moment(4) - 3.0).abs() < 0.1, "{} {}", moment(3), moment(4));
    }

    #[test]
    fn below_is_uniform_and_shuffle_permutes() {
        let rng = CounterRng::new(5, 0, 0, 0);
        let mut counts = [0usize; 7];
        for i in 0..70_000 {
            counts[rng.below(i, 7) as usize] += 1;
        }
        assert!(counts.iter().all(|&c| c.abs_diff(10_000) < 400), "{counts:?}");
        let mut items: Vec<usize> = (0..100).collect();
        rng.shuffle(&mut items);
        let moved = items.iter().enumerate().filter(|&(i, &x)| i != x).count();
        assert!(moved > 80, "{moved}");
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
