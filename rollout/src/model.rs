//! What the batched engine asks of a model.

use crate::error::RolloutError;
use crate::rng::CounterRng;
use crate::sampling::Sampled;

/// A token to draw from one row of logits, at the uniform number of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The row.
    pub row: usize,
    /// The generator of the sample.
    pub rng: CounterRng,
    /// Index of the token in the completion.
    pub position: u64,
}

/// A policy that decodes in batches with a key/value cache.
///
/// Rows of a cache advance together: slot `s` of every row is written by the same call of
/// [`decode`](DecodeModel::decode). Shorter prompts are padded on the left, so the position of slot `s` in row `b` is
/// `s − starts[b]`; slots before `starts[b]` hold padding that must not influence the row in any way.
///
/// Letters: B rows, T tokens a row, V vocabulary.
pub trait DecodeModel {
    /// Keys and values of B rows, and how many slots are filled. A clone is asked for to keep the prompt of a group that
    /// finds no room for all its completions.
    type Cache: Clone;

    /// Size V of the vocabulary.
    fn vocab_size(&self) -> usize;

    /// Positions the model was made for. The engine feeds no token whose position is this or above; the capacity of a
    /// cache may exceed it by the padding.
    fn context_len(&self) -> usize;

    /// An empty cache of `starts.len()` rows with room for `capacity` slots; the first real token of row `b` will sit
    /// in slot `starts[b]`.
    fn cache(&self, starts: &[usize], capacity: usize) -> Self::Cache;

    /// Appends T tokens to every row and returns the logits after the last one.
    ///
    /// # Shapes
    /// `tokens` `[B, T]` row-major with B = `rows` (ids in padding slots are 0); returns `[B, V]` row-major, f32.
    ///
    /// # Errors
    /// Whatever the model cannot do, as [`RolloutError::model`].
    fn decode(&self, tokens: &[u32], rows: usize, cache: &mut Self::Cache) -> Result<Vec<f32>, RolloutError>;

    /// Appends tokens as [`decode`](DecodeModel::decode) does, and draws from softmax(logits / `temperature`) where the
    /// logits lie: the token at which the cumulative distribution, tokens in the order of their ids, first exceeds the
    /// uniform number. Temperature 0 takes the largest logit. As [`sample_token`](crate::sample_token) without
    /// truncations, up to rounding; a log-probability that is not finite means logits without a softmax.
    ///
    /// It does so `steps` times, at the uniform numbers of the positions that follow: between two steps every row is fed
    /// the token drawn for it, and any token if none was. With more than one step, no row is drawn from twice. Returns
    /// a list of draws for each step.
    ///
    /// `None`, and nothing done, from models that hand out their logits: all but those on other devices.
    fn decode_and_draw(
        &self,
        _tokens: &[u32],
        _rows: usize,
        _cache: &mut Self::Cache,
        _draws: &[Draw],
        _steps: usize,
        _temperature: f64,
    ) -> Option<Result<Vec<Vec<Sampled>>, RolloutError>> {
        None
    }

    /// Steps that [`decode_and_draw`](DecodeModel::decode_and_draw) is asked for at once, where there is that much left
    /// to generate: where tokens come from another device, the host then waits less often, and completions that end in
    /// between are decoded on in vain. Default 1.
    fn steps_between_reads(&self) -> usize {
        1
    }

    /// A cache whose row `i` continues row `indices[i]` of the old one (start, slots and contents), with a capacity of
    /// `capacity` slots. Rows may repeat (samples of one prompt) or be left out (finished completions). `capacity` is
    /// never below the number of filled slots.
    fn select_rows(&self, cache: Self::Cache, indices: &[usize], capacity: usize) -> Self::Cache;

    /// Whether [`select_rows`](DecodeModel::select_rows) copies the rows that it keeps. Where it does not, finished rows
    /// leave at once, whatever [`crate::BatchSettings::compact_below`] says. Default true.
    fn copies_rows(&self) -> bool {
        true
    }

    /// Whether [`append_rows`](DecodeModel::append_rows) is there. Without it no prompt joins a running batch: the next
    /// batch begins when all rows have finished. Default false.
    fn can_append(&self) -> bool {
        false
    }

    /// A cache with the rows of `cache` and then those of `other`, with a capacity of `capacity` slots. All rows end in
    /// the last filled slot: as many slots are filled as the longest row has tokens, and every start is the difference
    /// of its row to that. `capacity` is never below it.
    fn append_rows(&self, cache: Self::Cache, _other: Self::Cache, _capacity: usize) -> Self::Cache {
        cache
    }
}
