//! Whole passes of the decoder on the host: log-probabilities, training, prefill and one decoding step.
use super::attention::{self, Heads};
use super::block::{self, Layer, Saved, Weight, WeightPanels};
use super::buffer::Buffer;
use super::cache::{PromptKv, RowKv, attend_row};
use super::gemm::{Mat, Operands, Panels, Write};
use super::head::{Head, TargetGrads, TargetStats};
use super::norm::{rms_norm, rms_norm_backward};
use super::rope::RopeTable;
use crate::packed::{PackedBatch, PromptGroup};
use crate::params::ParamLayout;
use rayon::prelude::*;
use std::sync::Arc;

/// Borrowed view of a decoder whose parameters lie in host memory.
pub struct HostModel<'a> {
    /// Order of the parameters.
    pub layout: &'a ParamLayout,
    /// The parameters, in that order.
    pub params: Vec<&'a [f32]>,
    /// Matrices that are packed already, by parameter.
    pub panels: Option<&'a WeightPanels>,
    /// What linear layers and the head are computed in.
    pub operands: Operands,
    /// Attention shape.
    pub heads: Heads,
    /// Rotary table; covers every position that is asked for.
    pub rope: &'a RopeTable,
    /// Width of the residual stream.
    pub hidden: usize,
}

impl HostModel<'_> {
    fn layers(&self) -> impl DoubleEndedIterator<Item = (usize, Layer<'_>)> + ExactSizeIterator {
        self.layout.layers.iter().map(|l| Layer::new(&self.params, self.panels, self.operands, l)).enumerate()
    }

    /// Packs every matrix that generation multiplies with.
    pub fn pack(&self) -> Vec<Option<Panels>> {
        let layers = self.layout.layers.iter().flat_map(|l| [l.qkv, l.o, l.gate_up, l.down]);
        let mut panels: Vec<Option<Panels>> = self.params.iter().map(|_| None).collect();
        for i in layers.chain([self.layout.head]) {
            let [out, inside] = self.layout.specs[i].shape;
            panels[i] = Some(Panels::new(self.operands, out, inside, Mat::rows(self.params[i], inside).t()));
        }
        panels
    }

    fn embed(&self, tokens: &[u32]) -> Buffer {
        let rows: Vec<usize> = tokens.iter().map(|t| *t as usize).collect();
        self.gather(self.params[self.layout.embed], &rows)
    }

    /// Residual stream after all blocks, `[rows, hidden]`.
    fn residual(&self, batch: &PackedBatch) -> Buffer {
        let mut x = self.embed(&batch.tokens);
        for (_, layer) in self.layers() {
            block::forward(&layer, self.heads, self.rope, batch, &mut x, false);
        }
        x
    }

    /// Rows of an array that is `hidden` wide.
    fn gather(&self, x: &[f32], rows: &[usize]) -> Buffer {
        let d = self.hidden;
        let mut out = Buffer::any(rows.len() * d);
        for (out, r) in out.chunks_mut(d).zip(rows) {
            out.copy_from_slice(&x[r * d..(r + 1) * d]);
        }
        out
    }

    /// Final norm, divided by the temperature.
    fn head_input(&self, rows: &[f32], temperature: f64) -> Buffer {
        let mut h = Buffer::any(rows.len());
        rms_norm(rows, self.params[self.layout.norm], self.heads.eps, &mut h);
        if temperature != 1.0 {
            let s = (1.0 / temperature) as f32;
            h.iter_mut().for_each(|x| *x *= s);
        }
        h
    }

    /// Log-probabilities of a batch's targets, without gradient.
    pub fn logprobs(&self, batch: &PackedBatch, temperature: f64) -> TargetStats {
        let x = self.residual(batch);
        let h = self.head_input(&self.gather(&x, &batch.target_rows), temperature);
        self.head().forward(&h, &batch.targets)
    }

    /// Logits of every row, `[rows, vocab]`: for small inputs and tests.
    pub fn logits(&self, batch: &PackedBatch) -> Vec<f32> {
        let x = self.residual(batch);
        self.project_vocab(&x)
    }

    fn head(&self) -> Head<'_> {
        Head { weight: self.params[self.layout.head], hidden: self.hidden, operands: self.operands }
    }

    fn project_vocab(&self, x: &[f32]) -> Vec<f32> {
        let h = self.head_input(x, 1.0);
        let head = self.layout.head;
        let rows = h.len() / self.hidden;
        let mut logits = vec![0f32; rows * self.layout.specs[head].shape[0]];
        let panels = self.panels.and_then(|p| p[head].as_ref());
        let weight = Weight { values: self.params[head], panels, operands: self.operands };
        weight.apply(rows, &h, &mut logits, Write::Set);
        logits
    }

    /// Forward and backward of one micro-batch. `loss` sees what the head says of the targets and returns the gradients
    /// of the loss with respect to it; parameter gradients are added to `grads`. With `recompute`, only block inputs are kept and
    /// each block's inside is computed again in the backward.
    pub fn train(
        &self,
        batch: &PackedBatch,
        temperature: f64,
        recompute: bool,
        loss: &mut dyn FnMut(&TargetStats) -> TargetGrads,
        grads: &mut [Vec<f32>],
    ) {
        let d = self.hidden;
        let mut x = self.embed(&batch.tokens);
        let mut inputs: Vec<Buffer> = Vec::new();
        let mut saved: Vec<Saved> = Vec::new();
        for (_, layer) in self.layers() {
            if recompute {
                inputs.push(Buffer::copy_of(&x));
            }
            saved.extend(block::forward(&layer, self.heads, self.rope, batch, &mut x, !recompute));
        }
        let rows = self.gather(&x, &batch.target_rows);
        let h = self.head_input(&rows, temperature);
        let head = self.head();
        let (stats, kept) = head.forward_for_backward(&h, &batch.targets);
        let g = loss(&stats);
        g.check(batch.targets.len());
        let mut dh = Buffer::any(h.len());
        let d_weight = &mut grads[self.layout.head];
        head.backward(&h, &batch.targets, &stats, kept, &g, &mut dh, d_weight);
        let s = (1.0 / temperature) as f32;
        dh.iter_mut().for_each(|v| *v *= s);
        let mut d_rows = Buffer::zeros(h.len());
        let norm = self.layout.norm;
        rms_norm_backward(&rows, self.params[norm], self.heads.eps, &dh, &mut d_rows, &mut grads[norm]);
        let mut dx = Buffer::zeros(x.len());
        for (row, grad) in batch.target_rows.iter().zip(d_rows.chunks(d)) {
            dx[row * d..(row + 1) * d].iter_mut().zip(grad).for_each(|(a, b)| *a += b);
        }
        for (i, layer) in self.layers().rev() {
            let kept = match inputs.pop() {
                Some(mut input) => block::forward(&layer, self.heads, self.rope, batch, &mut input, true),
                None => saved.pop(),
            };
            if let Some(kept) = kept {
                let index = &self.layout.layers[i];
                block::backward(&layer, self.heads, self.rope, batch, kept, &mut dx, index, grads);
            }
        }
        let table = &mut grads[self.layout.embed];
        for (token, grad) in batch.tokens.iter().zip(dx.chunks(d)) {
            let row = &mut table[*token as usize * d..(*token as usize + 1) * d];
            row.iter_mut().zip(grad).for_each(|(a, b)| *a += b);
        }
    }

    /// Keys and values of each prompt, and the logits that follow it, `[prompts, vocab]`.
    pub fn prefill(&self, prompts: &[&[u32]]) -> (Vec<Arc<PromptKv>>, Vec<f32>) {
        let groups: Vec<_> = prompts.iter().map(|p| PromptGroup { prompt: p, completions: vec![] }).collect();
        let batch = PackedBatch::new(&groups);
        let layers = self.layout.layers.len();
        let mut kv: Vec<PromptKv> =
            prompts.iter().map(|p| PromptKv::new(&self.heads, layers, p.len())).collect();
        let mut x = self.embed(&batch.tokens);
        for (l, layer) in self.layers() {
            let qkv = block::project(&layer, &self.heads, &x);
            let ctx = layer.context(self.heads, self.rope);
            kv.par_iter_mut()
                .zip(&batch.groups)
                .for_each(|(kv, group)| kv.fill(l, &ctx, &qkv, group.prompt.clone()));
            let mut attended = Buffer::any(batch.rows() * self.heads.out_width());
            attention::forward(&ctx, &batch, &qkv, &mut attended);
            block::finish(&layer, &self.heads, &mut x, &attended, false);
        }
        let last: Vec<usize> = batch.groups.iter().map(|g| g.prompt.end - 1).collect();
        let logits = self.project_vocab(&self.gather(&x, &last));
        (kv.into_iter().map(Arc::new).collect(), logits)
    }

    /// Feeds one token to every row and returns the logits that follow, `[rows, vocab]`.
    pub fn step(&self, tokens: &[u32], rows: &mut [RowKv]) -> Vec<f32> {
        assert_eq!(tokens.len(), rows.len(), "one token a row");
        let (width, ow) = (self.heads.qkv_width(), self.heads.out_width());
        let mut x = self.embed(tokens);
        let mut attended = Buffer::any(rows.len() * ow);
        for (l, layer) in self.layers() {
            let qkv = block::project(&layer, &self.heads, &x);
            let ctx = layer.context(self.heads, self.rope);
            rows.par_iter_mut()
                .zip(qkv.par_chunks(width))
                .zip(attended.par_chunks_mut(ow))
                .for_each(|((row, qkv), out)| attend_row(&ctx, l, qkv, row, out));
            block::finish(&layer, &self.heads, &mut x, &attended, false);
        }
        for row in rows {
            row.advance();
        }
        self.project_vocab(&x)
    }
}
