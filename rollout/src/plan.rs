//! Which completions may run together, and which wait.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::ops::Range;

/// A prompt and how many completions it needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    /// Its number, by which pieces name it.
    pub(crate) number: usize,
    /// The call that it belongs to.
    pub(crate) call: u64,
    /// Prompt length in tokens, at least 1.
    pub(crate) tokens: usize,
    /// Completions, at least 1.
    pub(crate) rows: usize,
    /// Longest completion in tokens, at least 1.
    pub(crate) budget: usize,
}

/// Some of the completions of one prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Number of the group.
    pub(crate) group: usize,
    /// Which of its completions.
    pub(crate) rows: Range<usize>,
}

/// What runs already, as far as the bounds go.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    /// Unfinished rows.
    pub(crate) rows: usize,
    /// Slots of the longest of them.
    pub(crate) longest: usize,
    /// Most tokens that one of them may still be fed.
    pub(crate) left: usize,
}

/// Completions that wait: calls in their order, and of a call those of long prompts first, so that prompts of similar
/// length run together.
pub(crate) struct Queue {
    /// Groups with the completions that have not begun.
    waiting: VecDeque<(Group, Piece)>,
    max_rows: usize,
    max_tokens: usize,
}

impl Queue {
    /// Nothing yet; at most `max_rows` rows and `max_tokens` slots run together (though never less than one row).
    pub(crate) fn new(max_rows: usize, max_tokens: usize) -> Self {
        Self { waiting: VecDeque::new(), max_rows, max_tokens }
    }

    /// Adds all completions of the groups of a call.
    pub(crate) fn extend(&mut self, mut groups: Vec<Group>) {
        groups.sort_by_key(|group| (Reverse(group.tokens), group.number));
        let whole = |group: Group| (group, Piece { group: group.number, rows: 0..group.rows });
        self.waiting.extend(groups.into_iter().map(whole));
    }

    /// Takes the completions of a call back.
    pub(crate) fn remove(&mut self, call: u64) {
        self.waiting.retain(|(group, _)| group.call != call);
    }

    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Completions that wait.
    pub(crate) fn rows(&self) -> usize {
        self.waiting.iter().map(|(_, piece)| piece.rows.len()).sum()
    }

    /// Takes, in order, what fits beside `load`. The last group may be taken in part; the rest of it is the first to be
    /// taken next, and alone unless it may be `mixed` with others.
    pub(crate) fn take(&mut self, mut load: Load, mixed: bool) -> Vec<Piece> {
        let mut taken = Vec::new();
        while let Some((group, piece)) = self.waiting.front_mut() {
            // The last token sampled is never fed.
            let (longest, left) = (load.longest.max(group.tokens), load.left.max(group.budget - 1));
            let fits = self.max_rows.min(self.max_tokens / (longest + left));
            let free = fits.max(usize::from(load.rows == 0)).saturating_sub(load.rows);
            let rows = piece.rows.len().min(free);
            if rows == 0 {
                break;
            }
            let alone = piece.rows.start > 0 && !mixed;
            let end = piece.rows.start + rows;
            taken.push(Piece { group: piece.group, rows: piece.rows.start..end });
            load = Load { rows: load.rows + rows, longest, left };
            piece.rows.start = end;
            if piece.rows.is_empty() {
                self.waiting.pop_front();
            }
            if alone {
                break;
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn group(tokens: usize, rows: usize) -> Group {
        Group { number: 0, call: 0, tokens, rows, budget: 10 }
    }

    fn queue(groups: &[Group], max_rows: usize, max_tokens: usize) -> Queue {
        let mut queue = Queue::new(max_rows, max_tokens);
        queue.extend(groups.iter().enumerate().map(|(number, g)| Group { number, ..*g }).collect());
        queue
    }

    fn piece(group: usize, rows: Range<usize>) -> Piece {
        Piece { group, rows }
    }

    /// What is taken when each batch runs to its end.
    fn batches(groups: &[Group], max_rows: usize, max_tokens: usize) -> Vec<Vec<Piece>> {
        let mut queue = queue(groups, max_rows, max_tokens);
        std::iter::from_fn(|| Some(queue.take(Load::default(), true)).filter(|b| !b.is_empty())).collect()
    }

    #[test]
    fn long_prompts_first_and_within_the_bounds() {
        let groups = [group(5, 4), group(9, 4), group(5, 4)];
        assert_eq!(batches(&groups, 8, 10_000), [vec![piece(1, 0..4), piece(0, 0..4)], vec![piece(2, 0..4)]]);
        // Nine tokens and ten more need 18 slots a row.
        assert_eq!(batches(&groups, 100, 18 * 8)[0].len(), 2);
        assert_eq!(batches(&groups, 100, 18 * 8 - 1)[0], [piece(1, 0..4), piece(0, 0..3)]);
        assert_eq!(batches(&groups, 100, 18 * 12).len(), 1);
    }

    #[test]
    fn groups_are_taken_in_part() {
        assert_eq!(
            batches(&[group(3, 5)], 2, 1000),
            [vec![piece(0, 0..2)], vec![piece(0, 2..4)], vec![piece(0, 4..5)]]
        );
        // One row at a time even when a single row is above the bound.
        assert_eq!(batches(&[group(50, 2)], 8, 1).len(), 2);
        assert!(batches(&[], 8, 100).is_empty());
    }

    #[test]
    fn the_rest_of_a_short_group_needs_no_more_than_itself() {
        let mut queue = queue(&[group(9, 4), group(2, 20)], 20, 18 * 10);
        assert_eq!(queue.take(Load::default(), false), [piece(0, 0..4), piece(1, 0..6)]);
        // Behind a prompt of nine tokens a row has 18 slots, alone 11.
        assert_eq!(queue.take(Load::default(), false), [piece(1, 6..20)]);
    }

    #[test]
    fn what_runs_counts() {
        let mut queue = queue(&[group(9, 4), group(5, 4)], 8, 18 * 8);
        assert_eq!(queue.take(Load { rows: 8, longest: 1, left: 1 }, true), []);
        assert_eq!(queue.take(Load { rows: 5, longest: 9, left: 9 }, true), [piece(0, 0..3)]);
        // A long row that runs makes every row long.
        assert_eq!(queue.take(Load { rows: 4, longest: 20, left: 2 }, true), [piece(0, 3..4)][..0]);
        assert_eq!(
            queue.take(Load { rows: 1, longest: 20, left: 2 }, true),
            [piece(0, 3..4), piece(1, 0..2)]
        );
    }

    proptest! {
        #[test]
        fn every_completion_once_and_within_the_bounds(
            sizes in prop::collection::vec((1usize..40, 1usize..9, 1usize..20), 0..20),
            max_rows in 1usize..20,
            max_tokens in 1usize..600,
        ) {
            let groups: Vec<Group> =
                sizes.iter().map(|&(tokens, rows, budget)| Group { number: 0, call: 0, tokens, rows, budget }).collect();
            let mut seen: Vec<Vec<usize>> = vec![Vec::new(); groups.len()];
            for batch in batches(&groups, max_rows, max_tokens) {
                let rows: usize = batch.iter().map(|p| p.rows.len()).sum();
                let longest = batch.iter().map(|p| groups[p.group].tokens).max().unwrap();
                let budget = batch.iter().map(|p| groups[p.group].budget).max().unwrap();
                let slots = longest + budget - 1;
                prop_assert!(rows == 1 || (rows <= max_rows && rows * slots <= max_tokens));
                for piece in batch {
                    seen[piece.group].extend(piece.rows);
                }
            }
            for (group, seen) in groups.iter().zip(seen) {
                prop_assert_eq!(seen, (0..group.rows).collect::<Vec<_>>());
            }
        }
    }
}
