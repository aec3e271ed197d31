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
    /// The pictures, in the order of their rows.
    pub pictures: Vec<PackedPicture>,
    /// Rows whose place has three axes (time, height, width), ascending.
    pub places: Vec<(usize, [u32; 3])>,
}

/// A picture in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedPicture {
    /// What it is known by.
    pub key: u128,
    /// The rows that it takes the place of tokens in, ascending.
    pub rows: Vec<usize>,
}

/// A picture in the places of image tokens of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureShape {
    /// What it is known by.
    pub key: u128,
    /// Tokens that it takes the place of.
    pub tokens: usize,
    /// Rows and columns of these, where they have places of two axes.
    pub grid: Option<(usize, usize)>,
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

    /// Puts pictures into the places of the image tokens of the prompts, a list for each group, and moves the positions
    /// behind them: with two axes a picture takes as many positions as its longer side (M-RoPE, arXiv:2409.12191, section
    /// 2.1). Those for which the prompt of a group has no places stand in what follows it, if that is one sequence only; other
    /// image tokens there are ordinary ones.
    ///
    /// # Errors
    /// Places that are not as many as the pictures have tokens, or apart where they must not be.
    pub fn see(&mut self, image_token: u32, pictures: &[Vec<PictureShape>]) -> Result<(), String> {
        for (group, pictures) in self.groups.clone().iter().zip(pictures) {
            // Rows of the one sequence behind a prompt follow those of the prompt.
            let rows = match group.completions.as_slice() {
                [one] => group.prompt.start..one.end,
                _ => group.prompt.clone(),
            };
            let tokens = self.tokens[rows.clone()].to_vec();
            let mut next = tokens.iter().enumerate().filter(|(_, t)| **t == image_token).map(|(i, _)| i);
            let (mut position, mut at) = (0, 0);
            for picture in pictures {
                let places: Vec<usize> = next.by_ref().take(picture.tokens).collect();
                let apart = picture.grid.is_some() && places.windows(2).any(|pair| pair[1] != pair[0] + 1);
                if places.len() != picture.tokens || apart {
                    return Err(format!(
                        "a picture of {} tokens has {} places",
                        picture.tokens,
                        places.len()
                    ));
                }
                let own: Vec<usize> = places.iter().map(|i| rows.start + i).collect();
                if let (Some((height, width)), Some(first)) = (picture.grid, places.first()) {
                    position += (first - at) as u32;
                    at = first + places.len();
                    for (i, row) in own.iter().enumerate() {
                        self.positions[*row] = position;
                        let place = [0, (i / width) as u32, (i % width) as u32].map(|p| position + p);
                        self.places.push((*row, place));
                    }
                    position += height.max(width) as u32;
                    let behind = position - at as u32;
                    for (i, p) in self.positions[rows.clone()].iter_mut().enumerate().skip(at) {
                        *p = (i as u32).wrapping_add(behind);
                    }
                }
                self.pictures.push(PackedPicture { key: picture.key, rows: own });
            }
            if !pictures.is_empty() && next.next().is_some_and(|i| i < group.prompt.len()) {
                return Err("the prompt has more image tokens than its pictures".into());
            }
            if group.completions.len() != 1 {
                let behind = self.behind(group).wrapping_sub(group.prompt.len() as u32);
                for rows in &group.completions {
                    self.positions[rows.clone()].iter_mut().for_each(|p| *p = p.wrapping_add(behind));
                }
            }
        }
        Ok(())
    }

    /// The position behind a prompt.
    pub fn behind(&self, group: &PackedGroup) -> u32 {
        let last = group.prompt.end - 1;
        match self.places.binary_search_by_key(&last, |(row, _)| *row) {
            // A picture ends the prompt.
            Ok(i) => self.places[i].1.iter().max().map_or(0, |p| p + 1),
            Err(_) => self.positions[last] + 1,
        }
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
    fn pictures_take_their_places_and_move_what_is_behind_them() {
        let (image, key) = (9, 7);
        let shape = |tokens, grid| PictureShape { key, tokens, grid };
        let prompt = [1, 9, 9, 9, 9, 9, 9, 2, 9];
        let groups = [PromptGroup { prompt: &prompt, completions: vec![&[4, 9, 5]] }];
        let mut batch = PackedBatch::new(&groups);
        batch.see(image, &[vec![shape(6, Some((2, 3))), shape(1, Some((1, 1)))]]).unwrap();
        assert_eq!(batch.positions, [0, 1, 1, 1, 1, 1, 1, 4, 5, 6, 7]);
        assert_eq!(batch.places[5], (6, [1, 2, 3]));
        assert_eq!(batch.places[6], (8, [5, 5, 5]));
        assert_eq!(batch.pictures[1], PackedPicture { key, rows: vec![8] });
        assert_eq!(batch.behind(&batch.groups[0]), 6);
        // A sampled image token is an ordinary one; without axes positions are ordinary.
        let mut plain = PackedBatch::new(&groups);
        plain.see(image, &[vec![shape(7, None)]]).unwrap();
        assert_eq!(plain.positions, (0..11).collect::<Vec<_>>());
        for wrong in [vec![shape(9, None)], vec![shape(6, None)], vec![shape(7, Some((1, 7)))]] {
            assert!(PackedBatch::new(&groups).see(image, &[wrong]).is_err());
        }
    }

    #[test]
    fn a_picture_behind_the_prompt_moves_what_is_behind_it() {
        let (image, key) = (9, 7);
        let shape = |tokens, grid| PictureShape { key, tokens, grid };
        let pictures = [vec![shape(2, Some((1, 2))), shape(4, Some((2, 2)))]];
        let (prompt, rest) = ([1, 9, 9, 2], [4, 5, 9, 9, 9, 9, 6, 9, 3]);
        let groups = |completions| [PromptGroup { prompt: &prompt, completions }];
        let mut batch = PackedBatch::new(&groups(vec![&rest]));
        batch.see(image, &pictures).unwrap();
        // The last image token is an ordinary one: there is no third picture.
        assert_eq!(batch.positions, [0, 1, 1, 3, 4, 5, 6, 6, 6, 6, 8, 9]);
        assert_eq!(batch.pictures[1].rows, [6, 7, 8, 9]);
        assert_eq!(batch.places.last(), Some(&(9, [6, 7, 7])));
        // As one sequence without a prompt apart has them.
        let whole: Vec<u32> = prompt.into_iter().chain(rest).collect();
        let mut joined =
            PackedBatch::new(&[PromptGroup { prompt: &whole[..10], completions: vec![&whole[10..]] }]);
        joined.see(image, &pictures).unwrap();
        assert_eq!((&batch.positions, &batch.places), (&joined.positions, &joined.places));
        // Of several sequences none has it.
        assert!(PackedBatch::new(&groups(vec![&rest, &rest])).see(image, &pictures).is_err());
    }

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
