//! Which completions share a batch.

use std::cmp::Reverse;
use std::ops::Range;

/// A prompt and how many completions it needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
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
    /// Index of the group.
    pub(crate) group: usize,
    /// Which of its completions.
    pub(crate) rows: Range<usize>,
}

/// Slots a row needs when the longest prompt of the batch is padded to: the last token sampled is never fed.
pub(crate) fn slots(longest_prompt: usize, budget: usize) -> usize {
    longest_prompt + budget - 1
}

/// Batches of at most `max_rows` rows and `max_tokens` slots (though never less than one row). Long prompts come first
/// and prompts of similar length share a batch. The completions of a prompt stay together unless they are too many for
/// one batch.
pub(crate) fn batches(groups: &[Group], max_rows: usize, max_tokens: usize) -> Vec<Vec<Piece>> {
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_key(|&g| (Reverse(groups[g].tokens), g));

    let mut done = Vec::new();
    let mut batch: Vec<Piece> = Vec::new();
    let (mut rows, mut longest, mut budget) = (0, 0, 0);
    for g in order {
        let group = groups[g];
        let mut next = 0;
        while next < group.rows {
            if batch.is_empty() {
                (rows, longest, budget) = (0, group.tokens, 0);
            }
            let fits = max_rows.min(max_tokens / slots(longest, group.budget.max(budget))).max(1);
            let left = group.rows - next;
            if !batch.is_empty() && rows + left > fits {
                done.push(std::mem::take(&mut batch));
                continue;
            }
            let take = left.min(fits - rows);
            batch.push(Piece { group: g, rows: next..next + take });
            next += take;
            rows += take;
            budget = budget.max(group.budget);
        }
    }
    if !batch.is_empty() {
        done.push(batch);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn group(tokens: usize, rows: usize) -> Group {
        Group { tokens, rows, budget: 10 }
    }

    fn piece(group: usize, rows: Range<usize>) -> Piece {
        Piece { group, rows }
    }

    #[test]
    fn sorts_by_length_and_keeps_groups_together() {
        let groups = [group(5, 4), group(9, 4), group(5, 4)];
        assert_eq!(batches(&groups, 8, 10_000), [vec![piece(1, 0..4), piece(0, 0..4)], vec![piece(2, 0..4)]]);
        assert_eq!(batches(&groups, 6, 10_000).len(), 3);
        // Nine tokens and ten more need 18 slots a row.
        assert_eq!(batches(&groups, 100, 18 * 8).len(), 2);
        assert_eq!(batches(&groups, 100, 18 * 8 - 1).len(), 2);
        assert_eq!(batches(&groups, 100, 18 * 12).len(), 1);
    }

    #[test]
    fn splits_what_is_too_large() {
        assert_eq!(
            batches(&[group(3, 5)], 2, 1000),
            [vec![piece(0, 0..2)], vec![piece(0, 2..4)], vec![piece(0, 4..5)]]
        );
        // One row a batch even when a single row is above the cap.
        assert_eq!(batches(&[group(50, 2)], 8, 1).len(), 2);
        assert!(batches(&[], 8, 100).is_empty());
    }

    proptest! {
        #[test]
        fn every_completion_once_and_within_the_caps(
            sizes in prop::collection::vec((1usize..40, 1usize..9, 1usize..20), 0..20),
            max_rows in 1usize..20,
            max_tokens in 1usize..600,
        ) {
            let groups: Vec<Group> =
                sizes.iter().map(|&(tokens, rows, budget)| Group { tokens, rows, budget }).collect();
            let mut seen: Vec<Vec<usize>> = vec![Vec::new(); groups.len()];
            for batch in batches(&groups, max_rows, max_tokens) {
                let rows: usize = batch.iter().map(|p| p.rows.len()).sum();
                let longest = batch.iter().map(|p| groups[p.group].tokens).max().unwrap();
                let budget = batch.iter().map(|p| groups[p.group].budget).max().unwrap();
                prop_assert!(rows == 1 || (rows <= max_rows && rows * slots(longest, budget) <= max_tokens));
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
