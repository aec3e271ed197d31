//! Sums in one order, a binary tree over the shards of an optimizer step, whoever computes them.

/// The sums of a binary tree whose leaves come one behind the other: as soon as two neighbours of a level are there, they are
/// added up. A run of 2^n leaves leaves one sum, and no more than n + 1 are held at a time.
#[derive(Debug)]
pub struct Tree<T> {
    /// Sums that wait for their neighbour, with their level; levels fall from left to right.
    waiting: Vec<(u32, T)>,
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self { waiting: Vec::new() }
    }
}

impl<T> Tree<T> {
    /// The next leaf. `add(a, b)` adds `b` to `a`, which lies left of it.
    pub fn push(&mut self, leaf: T, mut add: impl FnMut(&mut T, T)) {
        let (mut level, mut sum) = (0, leaf);
        while let Some((_, mut left)) = self.waiting.pop_if(|(of, _)| *of == level) {
            add(&mut left, sum);
            (level, sum) = (level + 1, left);
        }
        self.waiting.push((level, sum));
    }

    /// The sum of all leaves, whose number must be a power of two; none without leaves.
    pub fn finish(&mut self) -> Option<T> {
        debug_assert!(self.waiting.len() <= 1, "the number of leaves is a power of two");
        self.waiting.pop().map(|(_, sum)| sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(leaves: &[f32]) -> f32 {
        let mut tree = Tree::default();
        leaves.iter().for_each(|leaf| tree.push(*leaf, |a, b| *a += b));
        tree.finish().unwrap()
    }

    /// Numbers whose sum depends on the order of addition.
    fn leaves() -> Vec<f32> {
        (0..16).map(|i| ((i * 7919 % 101) as f32 - 50.0) * 1.37f32.powi(i * 3 % 23)).collect()
    }

    #[test]
    fn parts_of_a_tree_are_trees() {
        let leaves = leaves();
        let whole = sum(&leaves);
        for ranks in [1, 2, 4, 8, 16] {
            let of_ranks: Vec<f32> = leaves.chunks(16 / ranks).map(sum).collect();
            assert_eq!(sum(&of_ranks).to_bits(), whole.to_bits(), "{ranks}");
        }
        let expected = ((leaves[0] + leaves[1]) + (leaves[2] + leaves[3])).to_bits();
        assert_eq!(sum(&leaves[..4]).to_bits(), expected);
        // One behind the other gives other bits, so the order is what is tested.
        assert_ne!(leaves.iter().sum::<f32>().to_bits(), whole.to_bits());
    }

    #[test]
    fn few_sums_are_held() {
        let mut tree = Tree::default();
        for i in 0..64 {
            tree.push(1, |a, b| *a += b);
            assert!(tree.waiting.len() <= 7, "{i}");
        }
        assert_eq!(tree.finish(), Some(64));
        assert_eq!(tree.finish(), None);
    }
}
