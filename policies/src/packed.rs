//! Sequences packed for one pass: no padding, and a prompt shared by several completions is stored once.
use std::ops::Range;

/// Completions of one prompt, as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptGroup<'a> {
    /// The prompt; not empty.
    pub prompt: &'a [u32],
    /// Its completions; each may be empty.
    pub completions: Vec<&'a [u32]>,
}

/// Rows of one prompt and its completions inside a [`PackedBatch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedGroup {
    /// Rows of the prompt.
    pub prompt: Range<usize>,
    /// Rows of each completion: all its tokens but the last, which predicts nothing.
    pub completions: Vec<Range<usize>>,
}

/// A batch as the decoder computes it: every row is one token with its position.
///
/// Rows of a completion attend to the prompt of their group and to the earlier rows of the completion, so one prompt
/// serves all completions of its group, forward and backward.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackedBatch {
    /// Token id of each row.
    pub tokens: Vec<u32>,
    /// Position of each row in its sequence, from 0.
    pub positions: Vec<u32>,
    /// The groups, covering all rows in order.
    pub groups: Vec<PackedGroup>,
    /// Row that predicts each target, for all completions in order.
    pub target_rows: Vec<usize>,
    /// The predicted token ids, aligned with `target_rows`.
    pub targets: Vec<u32>,
    /// Range of `targets` of each completion, over all groups in order.
    pub completions: Vec<Range<usize>>,
}

impl PackedBatch {
    /// Packs groups of completions that share a prompt.
    ///
    /// # Panics
    /// If a prompt is empty: its first completion token would have nothing to be predicted from.
    pub fn new(groups: &[PromptGroup<'_>]) -> Self {
        let mut batch = Self::default();
        for group in groups {
            assert!(!group.prompt.is_empty(), "prompt is empty");
            let prompt = batch.push(group.prompt, 0);
            let mut ranges = Vec::with_capacity(group.completions.len());
            for completion in &group.completions {
                let first = batch.targets.len();
                let body = &completion[..completion.len().saturating_sub(1)];
                let rows = batch.push(body, group.prompt.len());
                if !completion.is_empty() {
                    batch.target_rows.push(prompt.end - 1);
                    batch.target_rows.extend(rows.clone());
                    batch.targets.extend_from_slice(completion);
                }
                batch.completions.push(first..batch.targets.len());
                ranges.push(rows);
            }
            batch.groups.push(PackedGroup { prompt, completions: ranges });
        }
        batch
    }

    fn push(&mut self, tokens: &[u32], first_position: usize) -> Range<usize> {
        let start = self.tokens.len();
        self.tokens.extend_from_slice(tokens);
        self.positions.extend((0..tokens.len()).map(|i| (first_position + i) as u32));
        start..self.tokens.len()
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// How many completions each row is computed for: those of its group for the rows of a prompt, 1 for the others and for
    /// a prompt without completions.
    pub fn times(&self) -> Vec<f32> {
        let mut times = vec![1.0; self.rows()];
        for group in &self.groups {
            times[group.prompt.clone()].fill(group.completions.len().max(1) as f32);
        }
        times
    }

    /// One past the largest position.
    pub fn max_positions(&self) -> usize {
        self.positions.iter().max().map_or(0, |p| *p as usize + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_share_the_prompt() {
        let batch = PackedBatch::new(&[
            PromptGroup { prompt: &[1, 2], completions: vec![&[3, 4, 5], &[6], &[]] },
            PromptGroup { prompt: &[7], completions: vec![&[8, 9]] },
        ]);
        assert_eq!(batch.tokens, [1, 2, 3, 4, 7, 8]);
        assert_eq!(batch.positions, [0, 1, 2, 3, 0, 1]);
        assert_eq!(batch.target_rows, [1, 2, 3, 1, 4, 5]);
        assert_eq!(batch.targets, [3, 4, 5, 6, 8, 9]);
        assert_eq!(batch.completions, [0..3, 3..4, 4..4, 4..6]);
        assert_eq!(batch.groups[0], PackedGroup { prompt: 0..2, completions: vec![2..4, 4..4, 4..4] });
        assert_eq!(batch.max_positions(), 4);
        assert_eq!(batch.times(), [3.0, 3.0, 1.0, 1.0, 1.0, 1.0]);
    }
}
