//! The order in which a supervised stage learns rows: those of one source, or of several that are drawn with weights.

use super::TaskSource;
use crate::random;

const MIX_STREAM: u64 = 8;

/// Rows of sources in the order of training. The row at a position is a function of the seed and the position alone, so a
/// position is all that a checkpoint has to keep.
#[derive(Debug, Clone)]
pub struct TrainingOrder<'a> {
    sources: Vec<(&'a TaskSource, f64)>,
    seed: u64,
}

impl<'a> From<&'a TaskSource> for TrainingOrder<'a> {
    fn from(source: &'a TaskSource) -> Self {
        Self { sources: vec![(source, 1.0)], seed: 0 }
    }
}

impl<'a> TrainingOrder<'a> {
    /// Of sources, each drawn with its weight, which is above 0; the rows of each come in its own order.
    pub fn new(sources: Vec<(&'a TaskSource, f64)>, seed: u64) -> Self {
        Self { sources, seed }
    }

    /// Rows of all sources.
    pub fn len(&self) -> usize {
        self.sources.iter().map(|(source, _)| source.len()).sum()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows from a position on, without end: the source, and the index in it.
    pub fn rows_from(&self, position: u64) -> impl Iterator<Item = (&'a TaskSource, usize)> + '_ {
        let mut taken = vec![0; self.sources.len()];
        match taken.as_mut_slice() {
            [one] => *one = position,
            several => (0..position).for_each(|p| several[self.source_at(p)] += 1),
        }
        (position..).map(move |p| {
            let number = self.source_at(p);
            let source = self.sources[number].0;
            let index = source.index_at(taken[number]);
            taken[number] += 1;
            (source, index)
        })
    }

    /// The number of the source that is drawn at a position.
    fn source_at(&self, position: u64) -> usize {
        if self.sources.len() == 1 {
            return 0;
        }
        let total: f64 = self.sources.iter().map(|(_, weight)| weight).sum();
        let mut left = total * random::unit(&[self.seed, MIX_STREAM, position]);
        let drawn = self.sources.iter().position(|(_, weight)| {
            left -= weight;
            left < 0.0
        });
        drawn.unwrap_or(self.sources.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tests::addition;

    #[test]
    fn sources_come_by_their_weights_and_their_rows_in_order() {
        let (a, b) = (addition("tasks = 40", 3), addition("tasks = 70", 3));
        let order = TrainingOrder::new(vec![(&a, 3.0), (&b, 1.0)], 5);
        assert_eq!(order.len(), 110);
        let rows = |start: u64, count: usize| -> Vec<(usize, usize)> {
            let number = |source: &TaskSource| usize::from(std::ptr::eq(source, &b));
            order.rows_from(start).take(count).map(|(source, index)| (number(source), index)).collect()
        };
        let all = rows(0, 2000);
        let of = |number: usize| all.iter().filter(|r| r.0 == number).map(|r| r.1).collect::<Vec<_>>();
        // 1500 expected of 2000, standard deviation 19.
        assert!((1420..1580).contains(&of(0).len()), "{}", of(0).len());
        for (number, source) in [&a, &b].into_iter().enumerate() {
            let expected: Vec<usize> = (0..of(number).len()).map(|i| source.index_at(i as u64)).collect();
            assert_eq!(of(number), expected);
        }
        // From any position as from the first.
        for start in [1, 7, 1234] {
            assert_eq!(rows(start, 50), all[start as usize..start as usize + 50]);
        }
        let alone: Vec<usize> =
            TrainingOrder::from(&a).rows_from(9).take(60).map(|(_, index)| index).collect();
        assert_eq!(alone, (9..69).map(|p| a.index_at(p)).collect::<Vec<_>>());
    }
}
