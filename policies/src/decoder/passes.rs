//! Passes of a decoder over batches: one match on where its weights lie.
use super::{Cache, Decoder};
use crate::device::DevicePass;
use crate::gradients::Gradients;
use crate::host::ops::HostModel;
use crate::model::pass::{self, Forward};
use crate::packed::{PackedBatch, PromptGroup};
use crate::targets::{TargetGrads, TargetStats};

/// A batch behind its forward: what the loss sees, and what its backward needs. It shares the weights until then.
pub struct Pass {
    batch: PackedBatch,
    side: Side,
}

enum Side {
    /// A batch without targets.
    Empty(TargetStats),
    Host(Box<(HostModel, Forward<HostModel>)>),
    Device(Box<DevicePass>),
}

impl Pass {
    /// The batch.
    pub fn batch(&self) -> &PackedBatch {
        &self.batch
    }

    /// What the head says of each target.
    pub fn targets(&self) -> &TargetStats {
        match &self.side {
            Side::Empty(stats) => stats,
            Side::Host(kept) => &kept.1.stats,
            Side::Device(kept) => kept.stats(),
        }
    }

    /// Adds the gradients of what is trained to `grads`, for the gradients `g` of a loss with respect to
    /// [`targets`](Self::targets).
    ///
    /// # Panics
    /// If there is not one gradient a target, or the gradients are of another device.
    pub fn backward(self, g: &TargetGrads, grads: &mut Gradients) {
        match (self.side, grads) {
            (Side::Empty(_), _) => {}
            (Side::Host(kept), Gradients::Host(grads)) => {
                let (model, forward) = *kept;
                pass::backward(&model, &model.layout.model, &self.batch, forward, g, grads);
            }
            (Side::Device(kept), Gradients::Device(grads)) => kept.backward(&self.batch, g, grads),
            (Side::Host(_), Gradients::Device(_)) | (Side::Device(_), Gradients::Host(_)) => {
                panic!("gradients are on another device")
            }
        }
    }
}

impl Decoder {
    pub(super) fn check(&self, batch: &PackedBatch) {
        let vocab = self.config.vocab_size;
        let most = batch.tokens.iter().chain(&batch.targets).max().copied().unwrap_or(0) as usize;
        assert!(most < vocab, "token id {most} is outside the vocabulary of {vocab}");
        let (have, need) = (self.config.max_position_embeddings, batch.max_positions());
        assert!(need <= have, "sequence of {need} tokens exceeds the context of {have}");
    }

    /// Log-probability and entropy of every target of a batch at a temperature, in nats, without gradient.
    ///
    /// # Panics
    /// If a token id is outside the vocabulary or a sequence longer than the context.
    pub fn logprobs(&self, batch: &PackedBatch, temperature: f64) -> TargetStats {
        self.check(batch);
        if batch.targets.is_empty() {
            return TargetStats::default();
        }
        match self.kernels() {
            Some((kernels, view)) => kernels.logprobs(view, batch, temperature),
            None => {
                let model = self.host(self.held());
                pass::logprobs(&model, &model.layout.model, batch, temperature)
            }
        }
    }

    /// Forward of a micro-batch that is trained on. `recompute` trades a second forward for memory.
    ///
    /// # Panics
    /// As [`Self::logprobs`].
    pub fn forward(&self, batch: PackedBatch, temperature: f64, recompute: bool) -> Pass {
        self.check(&batch);
        let side = match self.kernels() {
            _ if batch.targets.is_empty() => Side::Empty(TargetStats::default()),
            Some((kernels, view)) => {
                Side::Device(Box::new(kernels.forward(view, &batch, temperature, recompute)))
            }
            None => {
                let (model, how) = (self.host(self.held()), (recompute, self.trained.depth()));
                let forward = pass::forward(&model, &model.layout.model, &batch, temperature, how);
                Side::Host(Box::new((model, forward)))
            }
        };
        Pass { batch, side }
    }

    /// Logits of every position of one sequence, `[tokens, vocab]` row-major: for tests and small inputs.
    pub fn logits(&self, tokens: &[u32]) -> Vec<f32> {
        let batch = PackedBatch::new(&[PromptGroup { prompt: tokens, completions: vec![] }]);
        self.check(&batch);
        match self.kernels() {
            Some((kernels, view)) => kernels.logits(view, &batch),
            None => {
                let model = self.host(self.held());
                pass::logits(&model, &model.layout.model, &batch).to_vec()
            }
        }
    }

    /// Feeds prompts; gives a cache of a row for each, and the logits that follow each, `[prompts, vocab]`. `room` is how
    /// many tokens the longest row will have.
    ///
    /// # Panics
    /// As [`Self::logprobs`], or without prompts.
    pub fn prefill(&self, prompts: &[&[u32]], room: usize) -> (Cache, Vec<f32>) {
        Cache::prefill(self, prompts, room)
    }
}
