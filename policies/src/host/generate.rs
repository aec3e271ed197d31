//! Prompts and new tokens on the CPU: what generation asks of a decoder.
use super::buffer::Buffer;
use super::cache::{PromptKv, RowKv, attend_row};
use super::ops::HostModel;
use crate::model::ops::Ops;
use crate::model::pass;
use crate::packed::{PackedBatch, PackedGroup};
use rayon::prelude::*;
use std::sync::Arc;

impl HostModel {
    /// Keys and values of each prompt, and the logits that follow it, `[prompts, vocab]`.
    ///
    /// `next` is the position behind each.
    pub fn prefill(&self, batch: &PackedBatch, next: &[usize]) -> (Vec<Arc<PromptKv>>, Vec<f32>) {
        let model = &self.layout.model;
        let last: Vec<usize> = batch.groups.iter().map(|g| g.prompt.end - 1).collect();
        let room = |(group, next): (&PackedGroup, &usize)| {
            PromptKv::new(&model.heads(), model.blocks.len(), group.prompt.len(), *next)
        };
        let mut kv: Vec<PromptKv> = batch.groups.iter().zip(next).map(room).collect();
        let x = pass::embedded(self, model, &batch.tokens);
        let x = pass::residual(self, model, x, |layer, attention, qkv| {
            let context = self.context(attention);
            kv.par_iter_mut().zip(&batch.groups).for_each(|(kv, group)| {
                kv.fill(layer, &context, qkv, &batch.positions, group.prompt.clone())
            });
            self.attend(qkv, attention, (batch, &()))
        });
        let logits = self.logits_of(&self.gather(&x, &last), Vec::new());
        (kv.into_iter().map(Arc::new).collect(), logits)
    }

    /// Feeds one token to every row and returns the logits that follow, `[rows, vocab]`, in the memory of `room`.
    pub fn step(&self, tokens: &[u32], rows: &mut [RowKv], room: Vec<f32>) -> Vec<f32> {
        assert_eq!(tokens.len(), rows.len(), "one token a row");
        let model = &self.layout.model;
        let (width, ow) = (model.heads().qkv_width(), model.heads().out_width());
        let x = self.embed(&model.embed, tokens);
        let x = pass::residual(self, model, x, |layer, attention, qkv| {
            let context = self.context(attention);
            let mut attended = Buffer::any(rows.len() * ow);
            rows.par_iter_mut()
                .zip(qkv.par_chunks(width))
                .zip(attended.par_chunks_mut(ow))
                .for_each(|((row, qkv), out)| attend_row(&context, layer, qkv, row, out));
            (attended, ())
        });
        for row in rows {
            row.advance();
        }
        self.logits_of(&x, room)
    }

    /// Logits of rows of the residual stream, where whoever draws from them will have them.
    fn logits_of(&self, x: &Buffer, mut logits: Vec<f32>) -> Vec<f32> {
        let model = &self.layout.model;
        let (h, head) = pass::head_input(self, model, x);
        logits.resize(h.len() / model.hidden * self.layout.specs[head.weight].shape[0], 0.0);
        self.logits_into(&h, &head, &mut logits);
        logits
    }
}
