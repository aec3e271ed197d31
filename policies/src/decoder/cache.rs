//! The keys and values of a batch that is being decoded.
use super::Decoder;
use crate::device::KernelCache;
use crate::error::PolicyError;
use crate::host::cache::{PromptKv, RowKv};
use crate::host::ops::WeightPanels;
use crate::model::draw::{DrawAt, DrawnSteps};
use crate::model::pass;
use crate::packed::PackedBatch;
use crate::vision::ImageKey;
use std::sync::Arc;

/// Keys and values of a batch of rows, each as long as its own tokens.
#[derive(Debug, Clone)]
pub struct Cache {
    rows: Rows,
    /// Most tokens that a row will have.
    room: usize,
    /// The host's matrices, packed once for all the tokens that the cache and its contemporaries will see.
    panels: Arc<WeightPanels>,
    /// The memory of logits that nobody needs any more: fresh memory costs a page fault every 4 KiB.
    spare: Vec<f32>,
}

#[derive(Debug, Clone)]
enum Rows {
    /// On the host: the prompt shared.
    Host(Vec<HostRow>),
    /// In the memory of a device.
    Kernels(KernelCache),
}

#[derive(Debug, Clone)]
enum HostRow {
    Prompt(Arc<PromptKv>),
    Own(RowKv),
}

impl HostRow {
    /// The row with keys and values of its own, if only what follows.
    fn own(self, layers: usize) -> RowKv {
        match self {
            Self::Own(row) => row,
            Self::Prompt(prompt) => RowKv::new(prompt, layers, 0),
        }
    }
}

impl Cache {
    pub(super) fn prefill(
        decoder: &Decoder,
        prompts: &[&[u32]],
        pictures: &[&[ImageKey]],
        room: usize,
    ) -> (Self, Vec<f32>) {
        let batch = checked(decoder, prompts, pictures);
        let panels = decoder.panels();
        let (rows, logits) = match decoder.kernels() {
            Some((kernels, view)) => {
                let (cache, logits) = kernels.prefill(view, prompts, room);
                (Rows::Kernels(cache), logits.read())
            }
            None => {
                let next: Vec<usize> = batch.groups.iter().map(|g| batch.behind(g) as usize).collect();
                let (batch, model) = decoder.seeing(batch, decoder.host(panels.clone()));
                let (kv, logits) = model.prefill(&batch, &next);
                (Rows::Host(kv.into_iter().map(HostRow::Prompt).collect()), logits)
            }
        };
        (Self { rows, room, panels, spare: Vec::new() }, logits)
    }

    /// As [`Decoder::prefill`], drawing one token for each of `draws` where the logits lie, see
    /// [`Self::step_and_draw`]. `None`, and nothing done, where logits are handed out.
    pub fn prefill_and_draw(
        decoder: &Decoder,
        prompts: &[&[u32]],
        room: usize,
        draws: &[DrawAt],
        temperature: f64,
    ) -> Option<(Self, Vec<(u32, f32)>)> {
        let (kernels, view) = decoder.kernels()?;
        checked(decoder, prompts, &[]);
        let (cache, logits) = kernels.prefill(view, prompts, room);
        let drawn = logits.draw(draws, temperature);
        let (rows, panels) = (Rows::Kernels(cache), decoder.panels());
        Some((Self { rows, room, panels, spare: Vec::new() }, drawn))
    }

    /// Feeds a token to every row and returns the logits that follow, `[rows, vocab]`.
    ///
    /// # Panics
    /// If the tokens are not one a row, or the decoder is on another device than the cache.
    pub fn step(&mut self, decoder: &Decoder, tokens: &[u32]) -> Vec<f32> {
        match (&mut self.rows, decoder.kernels()) {
            (Rows::Kernels(cache), Some((kernels, view))) => kernels.step(view, cache, tokens),
            (Rows::Host(rows), None) => {
                let layers = decoder.config().num_layers;
                let mut own: Vec<RowKv> = std::mem::take(rows).into_iter().map(|r| r.own(layers)).collect();
                let room = self.room;
                own.iter_mut().for_each(|row| row.make_room(layers, room.saturating_sub(row.len())));
                let spare = std::mem::take(&mut self.spare);
                let logits = decoder.host(self.panels.clone()).step(tokens, &mut own, spare);
                *rows = own.into_iter().map(HostRow::Own).collect();
                logits
            }
            (Rows::Kernels(_), None) | (Rows::Host(_), Some(_)) => panic!("{ANOTHER}"),
        }
    }

    /// Takes the memory of logits for those of the next step.
    pub fn reuse(&mut self, logits: Vec<f32>) {
        self.spare = logits;
    }

    /// Feeds a token to every row and draws from the logits where they lie, at a temperature (0 is greedy). It does so
    /// `steps` times: between two steps every row is fed the token drawn for it, and the first word of each counter grows by
    /// one. Gives each step's tokens with their log-probabilities, NaN where the logits have no softmax. `None`, and nothing
    /// done, where logits are handed out.
    ///
    /// # Errors
    /// A device that fails to record or replay a step; the cache is of no use then.
    ///
    /// # Panics
    /// If the tokens are not one a row, a row is drawn from twice, or there are more than 16 steps.
    pub fn step_and_draw(
        &mut self,
        decoder: &Decoder,
        tokens: &[u32],
        draws: &[DrawAt],
        steps: usize,
        temperature: f64,
    ) -> Option<Result<DrawnSteps, PolicyError>> {
        let (kernels, view) = decoder.kernels()?;
        match &mut self.rows {
            Rows::Kernels(cache) => {
                Some(kernels.step_and_draw(view, cache, tokens, draws, steps, temperature))
            }
            Rows::Host(_) => panic!("{ANOTHER}"),
        }
    }

    /// Whether further steps of [`step_and_draw`](Self::step_and_draw) replay a recording on the device instead of
    /// launching every kernel.
    pub fn is_recorded(&self) -> bool {
        match &self.rows {
            Rows::Kernels(cache) => cache.is_recorded(),
            Rows::Host(_) => false,
        }
    }

    /// The cache whose row i is row `indices[i]` of this one: expands a prompt to its samples, drops finished rows.
    /// Rows that have only a prompt share it. `room` is how many tokens the longest row will have.
    pub fn select_rows(self, decoder: &Decoder, indices: &[usize], room: usize) -> Self {
        let rows = match self.rows {
            Rows::Kernels(cache) => {
                Rows::Kernels(cache.select_rows(&decoder.layout().model.heads(), indices, room))
            }
            Rows::Host(rows) => {
                let mut left: Vec<usize> = vec![0; rows.len()];
                indices.iter().for_each(|i| left[*i] += 1);
                let mut rows: Vec<Option<HostRow>> = rows.into_iter().map(Some).collect();
                let picked = indices.iter().filter_map(|i| {
                    left[*i] -= 1;
                    // The last use of a row moves it.
                    if left[*i] == 0 { rows[*i].take() } else { rows[*i].clone() }
                });
                Rows::Host(picked.collect())
            }
        };
        Self { rows, room, ..self }
    }

    /// The rows of this cache and then those of another one. On the host nothing is copied.
    ///
    /// # Panics
    /// If they are on different devices.
    pub fn append_rows(self, decoder: &Decoder, other: Self, room: usize) -> Self {
        let rows = match (self.rows, other.rows) {
            (Rows::Host(mut rows), Rows::Host(more)) => {
                rows.extend(more);
                Rows::Host(rows)
            }
            (Rows::Kernels(cache), Rows::Kernels(more)) => {
                Rows::Kernels(cache.append_rows(&decoder.layout().model.heads(), more, room))
            }
            (Rows::Host(_), Rows::Kernels(_)) | (Rows::Kernels(_), Rows::Host(_)) => panic!("{ANOTHER}"),
        };
        Self { rows, room, panels: self.panels, spare: self.spare }
    }
}

fn checked(decoder: &Decoder, prompts: &[&[u32]], pictures: &[&[ImageKey]]) -> PackedBatch {
    assert!(!prompts.is_empty(), "no prompts");
    let mut batch = pass::prompts(prompts).0;
    decoder.place(&mut batch, pictures);
    decoder.check(&batch);
    batch
}

const ANOTHER: &str = "keys and values are on another device";
