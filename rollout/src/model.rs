//! What the batched engine asks of a model.

use crate::completion::ImageKey;
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
/// A row of a cache holds the tokens of one sequence, each at its position; rows have lengths of their own and are fed
/// together, one token each.
///
/// Letters: B rows, V vocabulary.
pub trait DecodeModel {
    /// Keys and values of B rows. A clone is asked for to keep the prompt of a group that finds no room for all its
    /// completions.
    type Cache: Clone;

    /// Size V of the vocabulary.
    fn vocab_size(&self) -> usize;

    /// Positions the model was made for. The engine feeds no token whose position is this or above.
    fn context_len(&self) -> usize;

    /// Feeds prompts, none of them empty; gives a cache of a row for each, and the logits that follow each. `room` is how
    /// many tokens the longest row will have.
    ///
    /// # Shapes
    /// Returns `[B, V]` row-major, f32.
    ///
    /// # Errors
    /// Whatever the model cannot do, as [`RolloutError::model`].
    fn prefill(&self, prompts: &[&[u32]], room: usize) -> Result<(Self::Cache, Vec<f32>), RolloutError>;

    /// Feeds prompts as [`prefill`](DecodeModel::prefill) does, with pictures in the places of their image tokens: keys for
    /// each prompt.
    ///
    /// # Errors
    /// As [`prefill`](DecodeModel::prefill); pictures for a model that does not see.
    fn prefill_seeing(
        &self,
        prompts: &[&[u32]],
        images: &[&[ImageKey]],
        room: usize,
    ) -> Result<(Self::Cache, Vec<f32>), RolloutError> {
        if images.iter().any(|of| !of.is_empty()) {
            return Err(RolloutError::model("the model does not see, but prompts have images"));
        }
        self.prefill(prompts, room)
    }

    /// Feeds prompts as [`prefill`](DecodeModel::prefill) does and draws once as
    /// [`decode_and_draw`](DecodeModel::decode_and_draw) does; rows may be drawn from several times.
    ///
    /// `None`, and nothing done, from models that hand out their logits.
    #[allow(clippy::type_complexity)]
    fn prefill_and_draw(
        &self,
        _prompts: &[&[u32]],
        _room: usize,
        _draws: &[Draw],
        _temperature: f64,
    ) -> Option<Result<(Self::Cache, Vec<Sampled>), RolloutError>> {
        None
    }

    /// Feeds a token to every row and returns the logits that follow.
    ///
    /// # Shapes
    /// `tokens` `[B]`; returns `[B, V]` row-major, f32.
    ///
    /// # Errors
    /// As [`prefill`](DecodeModel::prefill).
    fn decode(&self, tokens: &[u32], cache: &mut Self::Cache) -> Result<Vec<f32>, RolloutError>;

    /// Takes back the memory of logits that [`decode`](DecodeModel::decode) gave, for those of the next step. Default:
    /// it is freed.
    fn reuse(&self, _cache: &mut Self::Cache, _logits: Vec<f32>) {}

    /// Feeds tokens as [`decode`](DecodeModel::decode) does, and draws from softmax(logits / `temperature`) where the
    /// logits lie: the token at which the cumulative distribution, tokens in the order of their ids, first exceeds the
    /// uniform number. Temperature 0 takes the largest logit. As [`sample_token`](crate::sample_token) without
    /// truncations, up to rounding; a log-probability that is not finite means logits without a softmax.
    ///
    /// It does so `steps` times, at the uniform numbers of the positions that follow: between two steps every row is fed
    /// the token drawn for it, and any token if none was. No row is drawn from twice. Returns a list of draws for each
    /// step.
    ///
    /// `None`, and nothing done, from models that hand out their logits: all but those on other devices.
    fn decode_and_draw(
        &self,
        _tokens: &[u32],
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

    /// A cache whose row `i` continues row `indices[i]` of the old one. Rows may repeat (samples of one prompt) or be left
    /// out (finished completions). `room` is how many tokens the longest row will have, never below what one has.
    fn select_rows(&self, cache: Self::Cache, indices: &[usize], room: usize) -> Self::Cache;

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

    /// A cache with the rows of `cache` and then those of `other`; `room` as in
    /// [`select_rows`](DecodeModel::select_rows).
    fn append_rows(&self, cache: Self::Cache, _other: Self::Cache, _room: usize) -> Self::Cache {
        cache
    }
}
