//! Which rank owns which elements: all trained elements one behind the other, cut into as many neighbouring chunks as there are
//! ranks.
use rayon::prelude::*;
use std::ops::Range;

/// Elements that one task adds up.
const BLOCK: usize = 1 << 14;

/// Chunks of about the same length, by rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunks {
    /// Where each begins, and where the last ends.
    bounds: Vec<usize>,
}

impl Chunks {
    /// `ranks` chunks of `len` elements that begin and end at places where that is allowed, in ascending order: as near to even
    /// ones as these are.
    pub fn new(len: usize, ranks: usize, allowed: &[usize]) -> Self {
        let nearest = |ideal: usize| {
            let behind = allowed.partition_point(|at| *at < ideal);
            let around = allowed[behind.saturating_sub(1)..].iter().take(2).copied();
            around.chain([0, len]).min_by_key(|at| at.abs_diff(ideal)).unwrap_or(len)
        };
        let inside = (1..ranks).map(|r| nearest((r as u128 * len as u128 / ranks as u128) as usize));
        Self { bounds: std::iter::once(0).chain(inside).chain([len]).collect() }
    }

    /// The elements of a rank.
    pub fn of(&self, rank: usize) -> Range<usize> {
        self.bounds[rank]..self.bounds[rank + 1]
    }

    /// Elements of the longest chunk.
    pub fn longest(&self) -> usize {
        self.bounds.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }
}

/// Adds up what ranks have sent, as the upper levels of the tree whose branches they have added up; their number is a power of
/// two. The first one gets the sum.
pub fn add_in_order(parts: &mut [&mut [f32]]) {
    let mut step = 1;
    while step < parts.len() {
        for left in (0..parts.len()).step_by(2 * step) {
            let (below, above) = parts.split_at_mut(left + step);
            let pair = below[left].par_chunks_mut(BLOCK).zip(above[0].par_chunks(BLOCK));
            pair.for_each(|(sum, more)| sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more));
        }
        step *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parallel::Tree;

    #[test]
    fn chunks_are_neighbours_of_about_a_length() {
        let allowed: Vec<usize> = (0..=100).map(|i| i * 10).collect();
        let chunks = Chunks::new(1000, 4, &allowed);
        assert_eq!((0..4).map(|r| chunks.of(r)).collect::<Vec<_>>(), [0..250, 250..500, 500..750, 750..1000]);
        // One large tensor that cannot be cut.
        let chunks = Chunks::new(1000, 4, &[0, 100, 900, 1000]);
        assert_eq!((0..4).map(|r| chunks.of(r)).collect::<Vec<_>>(), [0..100, 100..100, 100..900, 900..1000]);
        assert_eq!(chunks.longest(), 800);
        for (len, ranks) in [(0, 4), (5, 8), (1, 2)] {
            let chunks = Chunks::new(len, ranks, &[0, len]);
            assert_eq!(chunks.of(0).start, 0);
            assert_eq!((0..ranks).map(|r| chunks.of(r).len()).sum::<usize>(), len);
        }
        assert_eq!(Chunks::new(7, 1, &[]).of(0), 0..7);
    }

    #[test]
    fn parts_of_ranks_are_added_as_the_tree_does() {
        let value = |rank: usize, i: usize| ((rank * 31 + i * 7) % 17) as f32 * 1.7f32.powi(rank as i32 * 3);
        for ranks in [1, 2, 4, 8] {
            let mut parts: Vec<Vec<f32>> =
                (0..ranks).map(|r| (0..40_000).map(|i| value(r, i)).collect()).collect();
            let expected: Vec<f32> = (0..40_000)
                .map(|i| {
                    let mut tree = Tree::default();
                    (0..ranks).for_each(|r| tree.push(value(r, i), |a, b| *a += b));
                    tree.finish().unwrap()
                })
                .collect();
            add_in_order(&mut parts.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
            assert_eq!(parts[0], expected, "{ranks}");
        }
    }
}
