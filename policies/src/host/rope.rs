//! Rotary position embedding (arXiv:2104.09864), half-split as in Hugging Face files: dimension `i` is paired with
//! `i + head_dim / 2`.

use std::sync::{Arc, OnceLock};

/// Cosines and sines of every position, computed when a position near it is first asked for: a context of a million
/// tokens costs only what is used of it.
#[derive(Debug, Clone)]
pub struct RopeTable {
    half: usize,
    positions: usize,
    inverse_frequencies: Vec<f32>,
    factor: f32,
    blocks: Arc<[OnceLock<Box<Block>>]>,
    /// Rows behind the positions.
    more: Arc<Block>,
}

/// Cosines and sines of [`BLOCK`] positions, `[BLOCK, head_dim / 2]` each.
#[derive(Debug, Clone, Default)]
struct Block {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

/// Positions computed together.
const BLOCK: usize = 2048;

impl RopeTable {
    /// Table of `positions` rows for the given inverse frequencies (radians a token; `head_dim / 2` of them), cosines
    /// and sines times `factor`.
    pub fn new(inverse_frequencies: &[f32], positions: usize, factor: f32) -> Self {
        let blocks = std::iter::repeat_with(OnceLock::new).take(positions.div_ceil(BLOCK)).collect();
        let half = inverse_frequencies.len();
        Self {
            half,
            positions,
            inverse_frequencies: inverse_frequencies.to_vec(),
            factor,
            blocks,
            more: Arc::default(),
        }
    }

    /// The same table with further rows behind its positions, which it shares: row `positions() + i` turns each frequency by
    /// the place of `places[i]` on the axis that `axes` names for it, or by the first one where it names none.
    pub fn with_places(&self, places: &[[u32; 3]], axes: &[u8]) -> Self {
        let mut more = Block::default();
        for place in places {
            for (i, f) in self.inverse_frequencies.iter().enumerate() {
                let axis = axes.get(i).map_or(0, |axis| usize::from(*axis));
                let (cos, sin) = self.turn(place[axis] as f32, *f);
                more.cos.push(cos);
                more.sin.push(sin);
            }
        }
        Self { more: Arc::new(more), ..self.clone() }
    }

    /// Cosine and sine of a frequency at a place.
    fn turn(&self, place: f32, frequency: f32) -> (f32, f32) {
        // The angle is rounded to f32 first, as the reference implementations do.
        let angle = f64::from(place * frequency);
        (angle.cos() as f32 * self.factor, angle.sin() as f32 * self.factor)
    }

    /// Number of positions in the table.
    pub fn positions(&self) -> usize {
        self.positions
    }

    #[inline(always)]
    fn block(&self, position: usize) -> &Block {
        self.blocks[position / BLOCK].get_or_init(|| Box::new(self.compute(position / BLOCK * BLOCK)))
    }

    #[cold]
    fn compute(&self, first: usize) -> Block {
        let count = BLOCK.min(self.positions - first) * self.half;
        let (mut cos, mut sin) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for p in first..self.positions.min(first + BLOCK) {
            for f in &self.inverse_frequencies {
                let (c, s) = self.turn(p as f32, *f);
                cos.push(c);
                sin.push(s);
            }
        }
        Block { cos, sin }
    }

    /// Cosines and sines of all positions, `[positions, head_dim / 2]` each, of which the table keeps nothing.
    #[allow(dead_code)] // Of devices.
    pub(crate) fn all(&self) -> (Vec<f32>, Vec<f32>) {
        let all = Block {
            cos: Vec::with_capacity(self.positions * self.half),
            sin: Vec::with_capacity(self.positions * self.half),
        };
        (0..self.positions).step_by(BLOCK).map(|first| self.compute(first)).fold(
            (all.cos, all.sin),
            |mut all, block| {
                all.0.extend(block.cos);
                all.1.extend(block.sin);
                all
            },
        )
    }

    /// Cosines of one position, `[head_dim / 2]`.
    #[inline(always)]
    pub fn cos(&self, position: usize) -> &[f32] {
        if position >= self.positions {
            let at = (position - self.positions) * self.half;
            return &self.more.cos[at..at + self.half];
        }
        let at = position % BLOCK * self.half;
        &self.block(position).cos[at..at + self.half]
    }

    /// Sines of one position, `[head_dim / 2]`.
    #[inline(always)]
    pub fn sin(&self, position: usize) -> &[f32] {
        if position >= self.positions {
            let at = (position - self.positions) * self.half;
            return &self.more.sin[at..at + self.half];
        }
        let at = position % BLOCK * self.half;
        &self.block(position).sin[at..at + self.half]
    }

    /// What is turned, in halves, and what is not.
    #[inline(always)]
    fn halves<'a>(&self, x: &'a mut [f32]) -> (&'a mut [f32], &'a mut [f32], &'a mut [f32]) {
        let (a, rest) = x.split_at_mut(self.half);
        let (b, rest) = rest.split_at_mut(self.half);
        (a, b, rest)
    }

    /// Rotates one head in place, as much of it as there are frequencies for, and multiplies it by `scale`.
    #[inline(always)]
    pub fn rotate(&self, x: &mut [f32], position: usize, scale: f32) {
        let (cos, sin) = (self.cos(position), self.sin(position));
        let (a, b, rest) = self.halves(x);
        rest.iter_mut().for_each(|x| *x *= scale);
        for (((a, b), c), s) in a.iter_mut().zip(b).zip(cos).zip(sin) {
            (*a, *b) = ((*a * c - *b * s) * scale, (*b * c + *a * s) * scale);
        }
    }

    /// The backward of [`Self::rotate`] (same `scale`): the inverse rotation, times the factors once more.
    #[inline(always)]
    pub fn rotate_back(&self, x: &mut [f32], position: usize, scale: f32) {
        let (cos, sin) = (self.cos(position), self.sin(position));
        let (a, b, rest) = self.halves(x);
        rest.iter_mut().for_each(|x| *x *= scale);
        for (((a, b), c), s) in a.iter_mut().zip(b).zip(cos).zip(sin) {
            (*a, *b) = ((*a * c + *b * s) * scale, (*b * c - *a * s) * scale);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotating_back_restores() {
        let table = RopeTable::new(&[1.0, 0.1], 16, 1.0);
        let x = [1.0f32, -2.0, 0.5, 3.0];
        let mut y = x;
        table.rotate(&mut y, 7, 1.0);
        assert!((y[0] - (7f32.cos() * 1.0 - 7f32.sin() * 0.5)).abs() < 1e-6);
        table.rotate_back(&mut y, 7, 1.0);
        for (a, b) in x.iter().zip(y) {
            assert!((a - b).abs() < 1e-6);
        }
        // What has no frequency is scaled and stays.
        let mut partly = [1.0f32, -2.0, 0.5, 3.0, 4.0];
        RopeTable::new(&[1.0], 16, 1.0).rotate(&mut partly, 3, 2.0);
        assert_eq!(partly[2..], [1.0, 6.0, 8.0]);
        assert!((partly[0] - 2.0 * (3f32.cos() + 2.0 * 3f32.sin())).abs() < 1e-6);
        // A factor of cosines and sines is that of the rotation, and so of its backward.
        let (mut once, mut stretched) = (x, x);
        table.rotate(&mut once, 7, 1.5);
        RopeTable::new(&[1.0, 0.1], 16, 1.5).rotate(&mut stretched, 7, 1.0);
        assert!(once.iter().zip(stretched).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn a_long_table_costs_what_is_used_of_it() {
        // 512 GiB if all of it were computed.
        let table = RopeTable::new(&[0.5; 64], 1 << 30, 1.0);
        assert_eq!(table.positions(), 1 << 30);
        for p in [0, BLOCK - 1, BLOCK, 12_345_678, (1 << 30) - 1] {
            assert_eq!(table.cos(p)[63], f64::from(p as f32 * 0.5).cos() as f32);
            assert_eq!(table.sin(p).len(), 64);
        }
        assert!(std::panic::catch_unwind(|| table.cos(1 << 30).len()).is_err());
    }
}
