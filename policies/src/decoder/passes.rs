//! Passes of a decoder over batches: one match on where its weights lie.
use super::{Cache, Decoder, pictures};
use crate::device::DevicePass;
use crate::gradients::Gradients;
use crate::host::ops::HostModel;
use crate::model::pass::{self, Forward};
use crate::packed::{PackedBatch, PromptGroup};
use crate::targets::{TargetGrads, TargetStats};
use crate::vision::ImageKey;
use std::borrow::Cow;

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

    /// Adds the gradients of what is trained to `grads`, those of towers aside ([`Decoder::see_back`]), for the gradients `g` of
    /// a loss with respect to [`targets`](Self::targets).
    ///
    /// # Panics
    /// If there is not one gradient a target, or the gradients are of another device.
    pub fn backward(self, g: &TargetGrads, grads: &mut Gradients) {
        match (self.side, grads) {
            (Side::Empty(_), _) => {}
            (Side::Host(kept), Gradients::Host(grads, pictures)) => {
                let (model, forward) = *kept;
                let found = pass::backward(&model, &model.layout.model, &self.batch, forward, g, grads);
                if let Some(found) = found {
                    pictures::add(pictures, &self.batch, &found);
                }
            }
            (Side::Device(kept), Gradients::Device(grads)) => kept.backward(&self.batch, g, grads),
            (Side::Host(_), Gradients::Device(_)) | (Side::Device(_), Gradients::Host(..)) => {
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
                let (batch, model) = self.seeing_copy(batch);
                pass::logprobs(&model, &model.layout.model, &batch, temperature)
            }
        }
    }

    /// The same as [`Self::logprobs`], and `seen` is given the logits `[targets, vocab]`, row-major, at temperature 1: a few
    /// targets at a time, in their order.
    ///
    /// # Panics
    /// As [`Self::logprobs`].
    pub fn logprobs_and_logits(
        &self,
        batch: &PackedBatch,
        temperature: f64,
        mut seen: impl FnMut(&[f32]),
    ) -> TargetStats {
        self.check(batch);
        if batch.targets.is_empty() {
            return TargetStats::default();
        }
        match self.kernels() {
            Some((kernels, view)) => {
                kernels.logprobs_and_logits(view, batch, temperature, |logits| seen(&logits))
            }
            None => {
                let (batch, model) = self.seeing_copy(batch);
                let layout = &model.layout.model;
                pass::logprobs_and_logits(&model, layout, &batch, temperature, |logits| seen(&logits))
            }
        }
    }

    /// Forward of a micro-batch that is trained on. `recompute` trades a second forward for memory.
    ///
    /// # Panics
    /// As [`Self::logprobs`].
    pub fn forward(&self, mut batch: PackedBatch, temperature: f64, recompute: bool) -> Pass {
        self.check(&batch);
        let side = match self.kernels() {
            _ if batch.targets.is_empty() => Side::Empty(TargetStats::default()),
            Some((kernels, view)) => {
                Side::Device(Box::new(kernels.forward(view, &batch, temperature, recompute)))
            }
            None => {
                let (seen, model) = self.seeing(batch, self.host(self.held()));
                batch = seen;
                let how = (recompute, self.trained.depth());
                let forward = pass::forward(&model, &model.layout.model, &batch, temperature, how);
                Side::Host(Box::new((model, forward)))
            }
        };
        Pass { batch, side }
    }

    /// Logits of every position of one sequence, `[tokens, vocab]` row-major: for tests and small inputs.
    pub fn logits(&self, tokens: &[u32]) -> Vec<f32> {
        self.logits_seeing(tokens, &[])
    }

    /// The same with pictures in the places of image tokens.
    ///
    /// # Panics
    /// As [`Self::place`].
    pub fn logits_seeing(&self, tokens: &[u32], pictures: &[ImageKey]) -> Vec<f32> {
        let mut batch = PackedBatch::new(&[PromptGroup { prompt: tokens, completions: vec![] }]);
        self.place(&mut batch, &[pictures]);
        self.check(&batch);
        match self.kernels() {
            Some((kernels, view)) => kernels.logits(view, &batch),
            None => {
                let (batch, model) = self.seeing(batch, self.host(self.held()));
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
        Cache::prefill(self, prompts, &[], room)
    }

    /// The same with pictures in the places of the prompts' image tokens, a list of keys for each prompt.
    ///
    /// # Panics
    /// As [`Self::prefill`] and [`Self::place`].
    pub fn prefill_seeing(
        &self,
        prompts: &[&[u32]],
        pictures: &[&[ImageKey]],
        room: usize,
    ) -> (Cache, Vec<f32>) {
        Cache::prefill(self, prompts, pictures, room)
    }

    /// [`Self::seeing`] for a batch that is not given away.
    fn seeing_copy<'b>(&self, batch: &'b PackedBatch) -> (Cow<'b, PackedBatch>, HostModel) {
        let model = self.host(self.held());
        if batch.pictures.is_empty() {
            return (Cow::Borrowed(batch), model);
        }
        let (batch, model) = self.seeing(batch.clone(), model);
        (Cow::Owned(batch), model)
    }
}
