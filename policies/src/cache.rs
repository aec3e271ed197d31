//! The key/value cache of a batch that is being decoded.
use crate::composed::DeviceCache;
use crate::decoder::{Compute, Decoder};
#[cfg(feature = "cube")]
use crate::device::cache::KernelCache;
#[cfg(feature = "cube")]
use crate::device::{
    mat::Mat,
    pass::DeviceModel,
    sample::{Sampling, draw_once},
};
use crate::error::PolicyError;
use crate::host::cache::{PromptKv, RowKv};
use crate::host::gemm::Panels;
use std::sync::Arc;

/// Keys and values of a batch of rows.
#[derive(Debug, Clone)]
pub struct Cache {
    capacity: usize,
    /// Slots filled so far, left padding included.
    filled: usize,
    starts: Vec<usize>,
    rows: Rows,
    /// The host's matrices, packed once for all the tokens that the cache and its contemporaries will see.
    panels: Arc<Vec<Option<Panels>>>,
}

/// Tokens with their log-probabilities, `[step][draw]`.
pub type DrawnSteps = Vec<Vec<(u32, f32)>>;

/// One token to draw from the logits of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrawAt {
    /// The row.
    pub row: usize,
    /// Counter of Philox4x32-10, whose first 64 bits make the uniform number.
    pub counter: [u32; 4],
    /// Key of the generator.
    pub key: [u32; 2],
}

#[derive(Debug, Clone)]
enum Rows {
    /// Nothing yet.
    Empty,
    /// In device memory.
    #[cfg(feature = "cube")]
    Kernels(KernelCache),
    /// On the host: rows of any length, the prompt shared.
    Host(Vec<HostRow>),
    /// On the device: one tensor a layer.
    Device(DeviceCache),
}

#[derive(Debug, Clone)]
enum HostRow {
    Prompt(Arc<PromptKv>),
    Own(RowKv),
}

impl Cache {
    pub(crate) fn new(decoder: &Decoder, starts: &[usize], capacity: usize) -> Self {
        let rows = match decoder.compute() {
            Compute::Composed => Rows::Device(DeviceCache::new(decoder, starts, capacity)),
            _ => Rows::Empty,
        };
        let panels = decoder.panels();
        Self { capacity, filled: 0, starts: starts.to_vec(), rows, panels }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.starts.len()
    }

    /// Slots filled so far, left padding included.
    pub fn len(&self) -> usize {
        self.filled
    }

    /// True before the first token.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    pub(crate) fn decode(&mut self, decoder: &Decoder, tokens: &[u32]) -> Vec<f32> {
        let n = self.rows();
        assert!(n > 0 && tokens.len().is_multiple_of(n), "{} tokens for {n} rows", tokens.len());
        let new = tokens.len() / n;
        assert!(self.filled + new <= self.capacity, "cache of {} slots is full", self.capacity);
        #[cfg(feature = "cube")]
        if decoder.compute() == Compute::Device {
            return decoder.on_kernels(|m| self.feed(m, tokens).read()).unwrap_or_default();
        }
        let logits = match &mut self.rows {
            #[cfg(feature = "cube")]
            Rows::Kernels(_) => unreachable!("a cache belongs to one way of computing"),
            Rows::Device(cache) => cache.decode(decoder, tokens),
            Rows::Empty => {
                let prompts: Vec<&[u32]> =
                    tokens.chunks(new).zip(&self.starts).map(|(row, start)| &row[*start..]).collect();
                let (kv, logits) =
                    decoder.on_host_with(Some(&self.panels), |m| m.prefill(&prompts)).unwrap_or_default();
                self.rows = Rows::Host(kv.into_iter().map(HostRow::Prompt).collect());
                logits
            }
            Rows::Host(rows) => {
                let layers = decoder.config().num_layers;
                let mut own: Vec<RowKv> = std::mem::take(rows)
                    .into_iter()
                    .map(|row| match row {
                        HostRow::Own(row) => row,
                        HostRow::Prompt(prompt) => RowKv::new(prompt, layers, 0),
                    })
                    .collect();
                let mut logits = Vec::new();
                for t in 0..new {
                    let room = self.capacity - self.filled - t;
                    own.iter_mut().for_each(|row| row.make_room(layers, room));
                    let column: Vec<u32> = tokens.chunks(new).map(|row| row[t]).collect();
                    logits = decoder
                        .on_host_with(Some(&self.panels), |m| m.step(&column, &mut own))
                        .unwrap_or_default();
                }
                *rows = own.into_iter().map(HostRow::Own).collect();
                logits
            }
        };
        self.filled += new;
        logits
    }

    /// Feeds tokens and leaves the logits that follow on the device, `[rows, vocab]`.
    #[cfg(feature = "cube")]
    fn feed(&mut self, model: &DeviceModel<'_>, tokens: &[u32]) -> Mat {
        let new = tokens.len() / self.rows();
        self.filled += new;
        let Rows::Kernels(cache) = &mut self.rows else {
            let prompts: Vec<&[u32]> =
                tokens.chunks(new).zip(&self.starts).map(|(row, start)| &row[*start..]).collect();
            let (cache, logits) = KernelCache::prefill(model, &prompts, self.capacity);
            self.rows = Rows::Kernels(cache);
            return logits;
        };
        let column = |t: usize| tokens.chunks(new).map(|row| row[t]).collect::<Vec<u32>>();
        (0..new - 1).for_each(|t| drop(cache.step(model, &column(t))));
        cache.step(model, &column(new - 1))
    }

    /// Feeds tokens and draws from the logits where they lie, at a temperature (0 is greedy). It does so `steps` times:
    /// between two steps every row is fed the token drawn for it, and the first word of each counter grows by one. Gives
    /// each step's tokens with their log-probabilities, NaN where the logits have no softmax. `None`, and nothing done,
    /// where logits are handed out.
    ///
    /// With several steps, or after a first call, no row is drawn from twice.
    ///
    /// # Errors
    /// A device that fails to record or replay a step; the cache is of no use then.
    ///
    /// # Panics
    /// If there is no room for the tokens, or there are more than 16 steps.
    pub fn decode_and_draw(
        &mut self,
        decoder: &Decoder,
        tokens: &[u32],
        draws: &[DrawAt],
        steps: usize,
        temperature: f64,
    ) -> Option<Result<DrawnSteps, PolicyError>> {
        #[cfg(feature = "cube")]
        if decoder.compute() == Compute::Device {
            let (n, sampling) = (self.rows(), Sampling::new(temperature));
            assert!(self.filled + tokens.len() / n + steps <= self.capacity + 1, "cache is full");
            return decoder.on_kernels(|model| match &mut self.rows {
                Rows::Kernels(cache) if tokens.len() == n => {
                    self.filled += steps;
                    let drawn = cache.steps(model, tokens, draws, steps, sampling);
                    drawn.map_err(|e| PolicyError::Device { what: e.to_string() })
                }
                _ => {
                    assert_eq!(steps, 1, "steps after a prompt");
                    Ok(vec![draw_once(&self.feed(model, tokens), draws, sampling)])
                }
            });
        }
        let _ = (decoder, tokens, draws, steps, temperature);
        None
    }

    /// Whether further steps of [`decode_and_draw`](Self::decode_and_draw) replay a recording on the device instead of
    /// launching every kernel.
    pub fn is_recorded(&self) -> bool {
        match &self.rows {
            #[cfg(feature = "cube")]
            Rows::Kernels(cache) => cache.is_recorded(),
            _ => false,
        }
    }

    /// The cache whose row i is row `indices[i]` of this one: expands a prompt to its samples, drops finished rows.
    /// Rows that have only a prompt share it.
    pub fn select_rows(self, decoder: &Decoder, indices: &[usize], capacity: usize) -> Self {
        let starts = indices.iter().map(|i| self.starts[*i]).collect();
        let rows = match self.rows {
            Rows::Empty => Rows::Empty,
            #[cfg(feature = "cube")]
            Rows::Kernels(cache) => Rows::Kernels(cache.select_rows(&decoder.heads(), indices, capacity)),
            Rows::Device(cache) => Rows::Device(cache.select_rows(decoder, indices, capacity)),
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
        Self { capacity, filled: self.filled, starts, rows, panels: self.panels }
    }

    /// The rows of this cache and then those of another one. All end in the last slot; the longest row starts in slot 0.
    /// On the host nothing is copied.
    ///
    /// # Panics
    /// If one of them is empty, or they belong to different ways of computing.
    pub fn append_rows(self, decoder: &Decoder, other: Self, capacity: usize) -> Self {
        let lengths = |cache: &Self| cache.starts.iter().map(|s| cache.filled - s).collect::<Vec<_>>();
        let lengths = [lengths(&self), lengths(&other)].concat();
        let filled = lengths.iter().max().copied().unwrap_or(0);
        let starts: Vec<usize> = lengths.iter().map(|len| filled - len).collect();
        let rows = match (self.rows, other.rows) {
            (Rows::Host(mut rows), Rows::Host(more)) => {
                rows.extend(more);
                Rows::Host(rows)
            }
            #[cfg(feature = "cube")]
            (Rows::Kernels(cache), Rows::Kernels(more)) => {
                Rows::Kernels(cache.append_rows(&decoder.heads(), more, capacity))
            }
            (Rows::Device(cache), Rows::Device(more)) => {
                Rows::Device(cache.append_rows(decoder, more, &starts, filled, capacity))
            }
            (rows, _) => panic!("caches that cannot be joined: {rows:?}"),
        };
        Self { capacity, filled, starts, rows, panels: self.panels }
    }
}
