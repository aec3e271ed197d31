//! MinHash signatures (Broder 1997) and the bands of locality-sensitive hashing (Leskovec, Rajaraman, Ullman, *Mining of
//! Massive Datasets*, ch. 3).
//!
//! A text is the set of its runs of [`SHINGLE`] characters. Two sets agree in one of the [`HASHES`] minima with a
//! probability equal to their Jaccard similarity; `rows` minima are a band, and texts that agree in a whole band are
//! compared. One bit of each minimum makes a 128-bit sketch, from which the similarity is estimated before a text is
//! read again (b-bit minwise hashing, Li and König 2010, b = 1).

use crate::random;

/// Characters of a shingle.
pub const SHINGLE: usize = 5;
/// Minima of a signature.
pub const HASHES: usize = 128;
/// The share of pairs exactly at the threshold that should meet in a band.
const RECALL: f64 = 0.98;
/// Standard deviations below the threshold at which an estimate rules a pair out.
const SLACK: f64 = 4.0;

/// The hashes of a text's shingles, sorted, each once. A shorter text is one shingle; an empty one has none.
pub fn shingles(text: &str) -> Vec<u32> {
    let chars: Vec<u64> = text.chars().map(u64::from).collect();
    let hash = |window: &[u64]| {
        let folded =
            window.iter().fold(0_u64, |h, c| (h ^ c).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23));
        let mixed = (folded ^ (folded >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        (mixed >> 32) as u32
    };
    let mut hashes: Vec<u32> = match chars.len() {
        0 => Vec::new(),
        n if n < SHINGLE => vec![hash(&chars)],
        _ => chars.windows(SHINGLE).map(hash).collect(),
    };
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

/// The Jaccard similarity of two sets as [`shingles`] gives them: the common share of their union; 1 for two empty ones.
pub fn jaccard(a: &[u32], b: &[u32]) -> f64 {
    let (mut i, mut j, mut common) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => (i, j, common) = (i + 1, j + 1, common + 1),
        }
    }
    let union = a.len() + b.len() - common;
    if union == 0 { 1.0 } else { common as f64 / union as f64 }
}

/// The hash functions of one threshold.
#[derive(Debug, Clone)]
pub struct MinHasher {
    factors: [u32; HASHES],
    terms: [u32; HASHES],
    /// Bands.
    pub bands: usize,
    /// Minima of a band.
    pub rows: usize,
    lowest_matches: u32,
}

/// What is kept of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// A hash of each band.
    pub bands: Vec<u64>,
    /// A bit of each minimum.
    pub sketch: u128,
}

impl MinHasher {
    /// Functions drawn by `seed` and bands for pairs at `threshold`, in (0, 1].
    pub fn new(threshold: f64, seed: u64) -> Self {
        let draw = |stream: u64| std::array::from_fn(|i| random::word(&[seed, stream, i as u64]) as u32);
        let mut factors: [u32; HASHES] = draw(0x6d68_0001);
        factors.iter_mut().for_each(|f| *f |= 1);
        let (bands, rows) = bands(threshold);
        // An estimate from n bits that agree with probability (1 + J) / 2 each.
        let agree = f64::midpoint(1.0, threshold);
        let n = HASHES as f64;
        let lowest = n * agree - SLACK * (n * agree * (1.0 - agree)).sqrt();
        Self {
            factors,
            terms: draw(0x6d68_0002),
            bands,
            rows,
            lowest_matches: lowest.max(0.0).floor() as u32,
        }
    }

    /// The signature of a set of shingles.
    pub fn signature(&self, shingles: &[u32]) -> Signature {
        let mut minima = [u32::MAX; HASHES];
        for shingle in shingles {
            for ((minimum, factor), term) in minima.iter_mut().zip(&self.factors).zip(&self.terms) {
                *minimum = (*minimum).min(shingle.wrapping_mul(*factor).wrapping_add(*term));
            }
        }
        let mut sketch = 0;
        for (i, minimum) in minima.iter().enumerate() {
            // The lowest bits of a product say little; all of them are mixed into one.
            let bit = minimum.wrapping_mul(0x9e37_79b1) >> 31;
            sketch |= u128::from(bit) << i;
        }
        let hash = |(band, minima): (usize, &[u32])| {
            let key: Vec<u64> =
                std::iter::once(band as u64).chain(minima.iter().map(|m| u64::from(*m))).collect();
            random::word(&key)
        };
        let bands = minima.chunks_exact(self.rows).take(self.bands).enumerate().map(hash).collect();
        Signature { bands, sketch }
    }

    /// Whether two sketches may belong to texts at the threshold; wrong for about one such pair in 30,000.
    pub fn may_match(&self, a: u128, b: u128) -> bool {
        (!(a ^ b)).count_ones() >= self.lowest_matches
    }
}

/// Bands and rows for a threshold: the longest bands whose number still lets [`RECALL`] of the pairs meet.
fn bands(threshold: f64) -> (usize, usize) {
    let needed = |rows: usize| ((1.0 - RECALL).ln() / (-threshold.powi(rows as i32)).ln_1p()).ceil().max(1.0);
    let fits = (1..=HASHES).rev().find(|rows| needed(*rows) * *rows as f64 <= HASHES as f64);
    let rows = fits.unwrap_or(1);
    ((needed(rows) as usize).min(HASHES / rows), rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_reach_the_recall() {
        for t in [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0] {
            let (bands, rows) = bands(t);
            let meets = 1.0 - (1.0 - f64::powi(t, rows as i32)).powi(bands as i32);
            assert!(bands * rows <= HASHES && meets >= RECALL, "{t}: {bands} x {rows}, {meets}");
        }
        assert_eq!(bands(0.8), (17, 7));
    }

    #[test]
    fn minima_and_bits_agree_as_often_as_the_sets_overlap() {
        let hasher = MinHasher::new(0.8, 1);
        let (mut bits, mut expected) = (0.0, 0.0);
        for i in 0..200_u64 {
            let all: Vec<u32> = (0..200).map(|j| random::word(&[i, j]) as u32).collect();
            let common = 40 + (i as usize % 120);
            let (mut a, mut b) = (all[..160].to_vec(), all[160 - common..].to_vec());
            a.sort_unstable();
            b.sort_unstable();
            let (x, y) = (hasher.signature(&a), hasher.signature(&b));
            bits += 2.0 * f64::from((!(x.sketch ^ y.sketch)).count_ones()) / HASHES as f64 - 1.0;
            expected += jaccard(&a, &b);
        }
        assert!((bits - expected).abs() / 200.0 < 0.02, "{bits} {expected}");
    }

    #[test]
    fn jaccard_of_small_sets() {
        assert_eq!(jaccard(&[1, 2, 3], &[2, 3, 4]), 0.5);
        assert_eq!(jaccard(&[], &[]), 1.0);
        assert_eq!(jaccard(&[1], &[]), 0.0);
        assert_eq!((shingles("").len(), shingles("ab").len(), shingles("abcdef").len()), (0, 1, 2));
        assert_eq!(shingles("aaaaaaaaaa").len(), 1);
    }
}
