//! Counter-based randomness: every draw is a pure function of its key, so nothing has a state to save.

/// One step of SplitMix64's output function: a bijection of 64-bit words that mixes all bits.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A 64-bit word that depends on every element of `key` and their order.
pub fn word(key: &[u64]) -> u64 {
    let mut h = 0x9e37_79b9_7f4a_7c15_u64 ^ mix(key.len() as u64);
    for &k in key {
        h = mix(h.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ mix(k.wrapping_add(0x632b_e59b_d9b4_e019)));
    }
    h
}

/// A 64-bit hash of `bytes`, the same on every machine and in every version.
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hasher = Checksum::default();
    hasher.update(bytes);
    hasher.finish()
}

/// A number in [0, 1) that depends on `key` alone.
pub fn unit(key: &[u64]) -> f64 {
    (word(key) >> 11) as f64 / (1_u64 << 53) as f64
}

/// An integer in `low..=high` that depends on `key` alone.
///
/// # Panics
/// When `low > high`.
pub fn between(low: u64, high: u64, key: &[u64]) -> u64 {
    assert!(low <= high, "empty range {low}..={high}");
    let span = u128::from(high - low) + 1;
    low + ((u128::from(word(key)) * span) >> 64) as u64
}

/// Where position `i` of `0..len` goes in the shuffle named by `key`: a permutation computed in constant memory.
///
/// A six-round Feistel network over the next even power of two, walked until it lands inside `0..len`.
///
/// # Panics
/// When `i >= len`.
pub fn shuffled(i: u64, len: u64, key: &[u64]) -> u64 {
    assert!(i < len, "position {i} outside 0..{len}");
    if len == 1 {
        return 0;
    }
    let seed = word(key);
    let half = (64 - (len - 1).leading_zeros()).div_ceil(2);
    let mask = (1_u64 << half) - 1;
    let mut x = i;
    loop {
        let (mut left, mut right) = (x >> half, x & mask);
        for round in 0..6 {
            (left, right) = (right, left ^ (word(&[seed, round, right]) & mask));
        }
        x = (left << half) | right;
        if x < len {
            return x;
        }
    }
}

/// A running 64-bit checksum that notices any single changed byte and any truncation.
///
/// Words of 8 bytes go through a multiply and a shift, each a bijection of the state, so two inputs that differ in
/// one word never agree. It guards against accidents, not against forgery.
#[derive(Debug, Clone)]
pub struct Checksum {
    state: u64,
    length: u64,
    pending: [u8; 8],
    pending_len: usize,
}

impl Default for Checksum {
    fn default() -> Self {
        Self { state: 0x243f_6a88_85a3_08d3, length: 0, pending: [0; 8], pending_len: 0 }
    }
}

impl Checksum {
    fn word(&mut self, word: [u8; 8]) {
        self.state = (self.state ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.state ^= self.state >> 32;
    }

    /// Takes in `bytes`; splitting the input differently does not change the result.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        if self.pending_len > 0 {
            let take = bytes.len().min(8 - self.pending_len);
            self.pending[self.pending_len..self.pending_len + take].copy_from_slice(&bytes[..take]);
            self.pending_len += take;
            bytes = &bytes[take..];
            if self.pending_len < 8 {
                return;
            }
            self.word(self.pending);
            self.pending_len = 0;
        }
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(*word);
        }
        self.pending[..rest.len()].copy_from_slice(rest);
        self.pending_len = rest.len();
    }

    /// The checksum of everything taken in so far.
    pub fn finish(&self) -> u64 {
        let mut last = self.clone();
        let mut tail = [0; 8];
        tail[..self.pending_len].copy_from_slice(&self.pending[..self.pending_len]);
        last.word(tail);
        last.word(self.length.to_le_bytes());
        mix(last.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_depend_on_every_element_and_the_order() {
        let mut seen = std::collections::HashSet::new();
        for key in [&[][..], &[0], &[0, 0], &[1, 0], &[0, 1], &[1], &[2]] {
            assert!(seen.insert(word(key)), "{key:?}");
        }
        // Computed apart from this code, and fixed for ever: data order and splits of old runs hang on them.
        assert_eq!(word(&[1, 2, 3]), 0xfeb6c41c2c5f3f4c);
        assert_eq!(hash_bytes(b"rlvr checkpoint"), 0x26e36c64f35c70dc);
        let order: Vec<u64> = (0..10).map(|i| shuffled(i, 10, &[1])).collect();
        assert_eq!(order, [5, 0, 6, 3, 7, 4, 8, 9, 2, 1]);
        let mean: f64 = (0..10_000).map(|i| unit(&[7, i])).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
    }

    #[test]
    fn between_covers_the_range_evenly() {
        let mut counts = [0; 6];
        for i in 0..6000 {
            counts[(between(10, 15, &[3, i]) - 10) as usize] += 1;
        }
        assert!(counts.iter().all(|c| (850..1150).contains(c)), "{counts:?}");
        assert_eq!(between(4, 4, &[1]), 4);
        assert!(between(0, u64::MAX, &[1]) > 0);
    }

    #[test]
    fn shuffled_is_a_permutation_that_depends_on_the_key() {
        for len in [1, 2, 3, 5, 16, 17, 100, 1023] {
            let order = |key| (0..len).map(|i| shuffled(i, len, &[key])).collect::<Vec<_>>();
            let mut sorted = order(1);
            sorted.sort_unstable();
            assert_eq!(sorted, (0..len).collect::<Vec<_>>(), "{len}");
            if len > 16 {
                assert_ne!(order(1), order(2));
            }
        }
        // Every first element is about equally likely, also in a small domain.
        let mut counts = [0; 5];
        for key in 0..5000 {
            counts[shuffled(0, 5, &[key]) as usize] += 1;
        }
        assert!(counts.iter().all(|c| (850..1150).contains(c)), "{counts:?}");
    }

    #[test]
    fn checksum_sees_changes_truncation_and_padding_but_not_the_splits() {
        let data: Vec<u8> = (0..100).collect();
        let whole = hash_bytes(&data);
        for split in 0..data.len() {
            let mut c = Checksum::default();
            c.update(&data[..split]);
            c.update(&data[split..]);
            assert_eq!(c.finish(), whole);
            assert_ne!(hash_bytes(&data[..split]), whole);
            let mut changed = data.clone();
            changed[split] ^= 1;
            assert_ne!(hash_bytes(&changed), whole);
        }
        assert_ne!(hash_bytes(&[0; 8]), hash_bytes(&[0; 9]));
        assert_ne!(hash_bytes(&[]), hash_bytes(&[0]));
    }
}
