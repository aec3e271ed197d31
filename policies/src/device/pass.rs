//! Whole passes of the decoder on a device: log-probabilities, training, prefill and one decoding step.
//!
//! Parameters, residual stream, norms, softmaxes and gradients are f32. Matrix products take their operands in the
//! compute type (f32 or bf16) and add up in f32.
use super::attention::{self, Segments};
use super::head;
use super::mat::{Mat, product};
use super::norm::{rms_norm, rms_norm_backward, sum_rows};
use super::place::{HeadNorms, Rotation, place, unplace};
use super::rows;
use crate::host::attention::Heads;
use crate::host::head::{TargetGrads, TargetStats};
use crate::packed::{PackedBatch, PromptGroup};
use crate::params::{LayerIndex, ParamLayout};
use burn::tensor::{DType, Tensor};

/// What a device keeps of a decoder besides its parameters.
#[derive(Clone, Debug)]
pub struct DeviceParts {
    /// Rotary table.
    pub rotation: Rotation,
    /// Type of the operands of matrix products.
    pub dtype: DType,
    /// Copies of the matrices in that type, where it is not f32; in the order of the parameters.
    pub working: Vec<Option<Mat>>,
    /// Bytes of memory that the device has, where it says so.
    pub memory: Option<u64>,
}

/// Borrowed view of a decoder whose parameters lie in device memory.
pub struct DeviceModel<'a> {
    /// Order of the parameters.
    pub layout: &'a ParamLayout,
    /// The parameters in f32, in that order.
    pub params: Vec<Mat>,
    /// The rest.
    pub parts: &'a DeviceParts,
    /// Type of the operands of matrix products.
    pub dtype: DType,
    /// Attention shape.
    pub heads: Heads,
}

/// What the backward needs of a block's forward.
struct Saved {
    input: Mat,
    qkv: Mat,
    placed: Mat,
    attended: Mat,
    log_sum: Mat,
    middle: Mat,
    gate_up: Mat,
}

impl DeviceModel<'_> {
    /// The embedding: any matrix on the device.
    pub fn embedding(&self) -> &Mat {
        &self.params[self.layout.embed]
    }

    /// Everything that a pass reads: parameters, their copies in the compute type, the rotary table.
    pub fn memory(&self) -> impl Iterator<Item = Mat> {
        let (rotation, working) = (&self.parts.rotation, self.parts.working.iter().flatten());
        self.params.iter().chain(working).chain([&rotation.cos, &rotation.sin]).cloned()
    }

    /// Number of blocks.
    pub fn layers(&self) -> usize {
        self.layout.layers.len()
    }

    /// A matrix in the compute type.
    fn weight(&self, index: usize) -> &Mat {
        self.parts.working[index].as_ref().unwrap_or(&self.params[index])
    }

    fn norm(&self, x: &Mat, weight: usize, dtype: DType) -> Mat {
        rms_norm(x, &self.params[weight], self.heads.eps, 1.0, dtype)
    }

    /// `x · Wᵀ + b`.
    fn linear(&self, x: &Mat, weight: usize, bias: Option<usize>) -> Mat {
        let y = product(&x.cast(self.dtype).n(), &self.weight(weight).t());
        if let Some(bias) = bias {
            rows::add(&y, &self.params[bias]);
        }
        y
    }

    /// Gradients of [`Self::linear`]: adds the weight's and the bias', returns the input's.
    fn linear_backward(
        &self,
        x: &Mat,
        dy: &Mat,
        (weight, bias): (usize, Option<usize>),
        grads: &[Mat],
    ) -> Mat {
        if let Some(bias) = bias {
            rows::add(&grads[bias], &sum_rows(dy.clone()));
        }
        let dy = dy.cast(self.dtype);
        rows::add(&grads[weight], &product(&dy.t(), &x.cast(self.dtype).n()));
        product(&dy.n(), &self.weight(weight).n())
    }

    fn head_norms(&self, l: &LayerIndex) -> HeadNorms {
        Some((self.params[l.q_norm?].clone(), self.params[l.k_norm?].clone()))
    }

    /// Queries, keys and values of a block's input: as projected, and in their places.
    fn project(&self, l: &LayerIndex, x: &Mat, positions: &Mat) -> (Mat, Mat) {
        let qkv = self.linear(&self.norm(x, l.input_norm, self.dtype), l.qkv, l.qkv_bias);
        let placed = place(&qkv, &self.head_norms(l), &self.parts.rotation, positions, &self.heads);
        (qkv, placed)
    }

    /// The rest of a block: the residual stream between its halves, the gate/up rows, and the result.
    fn finish(&self, l: &LayerIndex, x: &Mat, attended: &Mat) -> (Mat, Mat, Mat) {
        let middle = self.linear(attended, l.o, l.o_bias);
        rows::add(&middle, x);
        let gate_up = self.linear(&self.norm(&middle, l.post_norm, self.dtype), l.gate_up, None);
        let out = self.linear(&rows::swiglu(&gate_up, self.dtype), l.down, None);
        rows::add(&out, &middle);
        (middle, gate_up, out)
    }

    fn block(&self, l: &LayerIndex, input: Mat, segments: &Segments) -> (Saved, Mat) {
        let (qkv, placed) = self.project(l, &input, &segments.positions);
        let (attended, log_sum) = attention::forward(&placed, segments, &self.heads);
        let (middle, gate_up, out) = self.finish(l, &input, &attended);
        (Saved { input, qkv, placed, attended, log_sum, middle, gate_up }, out)
    }

    /// Turns the gradient `dx` of a block's output into that of its input, in place.
    fn block_backward(&self, l: &LayerIndex, saved: Saved, segments: &Segments, dx: &Mat, grads: &[Mat]) {
        let Saved { input, qkv, placed, attended, log_sum, middle, gate_up } = saved;
        let eps = self.heads.eps;
        let act = rows::swiglu(&gate_up, self.dtype);
        let d_act = self.linear_backward(&act, dx, (l.down, None), grads);
        let d_gate_up = rows::swiglu_backward(&gate_up, &d_act);
        let h = self.norm(&middle, l.post_norm, self.dtype);
        let dh = self.linear_backward(&h, &d_gate_up, (l.gate_up, None), grads);
        let dw = rms_norm_backward(&middle, &self.params[l.post_norm], eps, 1.0, dh, dx);
        rows::add(&grads[l.post_norm], &dw);

        let d_attended = self.linear_backward(&attended, dx, (l.o, l.o_bias), grads);
        let d_qkv = attention::backward(&placed, segments, &self.heads, (&attended, &log_sum), &d_attended);
        let norms = self.head_norms(l);
        let rotation = &self.parts.rotation;
        let d_norms = unplace(&qkv, &norms, rotation, &segments.positions, &self.heads, &d_qkv);
        if let (Some((dq, dk)), Some(q), Some(k)) = (d_norms, l.q_norm, l.k_norm) {
            rows::add(&grads[q], &dq);
            rows::add(&grads[k], &dk);
        }
        let h = self.norm(&input, l.input_norm, self.dtype);
        let dh = self.linear_backward(&h, &d_qkv, (l.qkv, l.qkv_bias), grads);
        let dw = rms_norm_backward(&input, &self.params[l.input_norm], eps, 1.0, dh, dx);
        rows::add(&grads[l.input_norm], &dw);
    }

    /// Residual stream after all blocks, `[rows, hidden]`.
    fn residual(&self, batch: &PackedBatch, segments: &Segments) -> Mat {
        let mut x = rows::gather(self.embedding(), &batch.tokens);
        for l in &self.layout.layers {
            x = self.block(l, x, segments).1;
        }
        x
    }

    /// Final norm of rows, divided by the temperature.
    fn head_input(&self, x: &Mat, temperature: f64) -> Mat {
        let scale = (1.0 / temperature) as f32;
        rms_norm(x, &self.params[self.layout.norm], self.heads.eps, scale, DType::F32)
    }

    fn project_vocab(&self, x: &Mat) -> Mat {
        self.linear(&self.head_input(x, 1.0), self.layout.head, None)
    }

    /// As [`crate::Decoder::logprobs`].
    pub fn logprobs(&self, batch: &PackedBatch, temperature: f64) -> TargetStats {
        let x = self.residual(batch, &Segments::new(batch, self.embedding()));
        let h = self.head_input(&rows::gather(&x, &target_rows(batch)), temperature);
        head::forward(&h, self.weight(self.layout.head), &batch.targets)
    }

    /// As [`crate::Decoder::logits`].
    pub fn logits(&self, batch: &PackedBatch) -> Vec<f32> {
        self.project_vocab(&self.residual(batch, &Segments::new(batch, self.embedding()))).read()
    }

    /// As [`crate::Decoder::train`]: with `recompute`, only block inputs are kept.
    pub fn train(
        &self,
        batch: &PackedBatch,
        temperature: f64,
        recompute: bool,
        loss: &mut dyn FnMut(&TargetStats) -> TargetGrads,
        grads: &[Mat],
    ) {
        let segments = Segments::new(batch, self.embedding());
        let mut x = rows::gather(self.embedding(), &batch.tokens);
        let mut inputs = Vec::new();
        let mut kept = Vec::new();
        for l in &self.layout.layers {
            inputs.extend(recompute.then(|| x.clone()));
            let (saved, out) = self.block(l, x, &segments);
            kept.extend((!recompute).then_some(saved));
            x = out;
        }
        let index = target_rows(batch);
        let picked = rows::gather(&x, &index);
        let h = self.head_input(&picked, temperature);
        let (head, norm) = (self.layout.head, self.layout.norm);
        let stats = head::forward(&h, self.weight(head), &batch.targets);
        let g = loss(&stats);
        g.check(batch.targets.len());
        let dh = head::backward(&h, self.weight(head), &batch.targets, &stats, &g, &grads[head]);
        let d_picked = picked.zeros(picked.rows(), picked.cols());
        let scale = (1.0 / temperature) as f32;
        let dw = rms_norm_backward(&picked, &self.params[norm], self.heads.eps, scale, dh, &d_picked);
        rows::add(&grads[norm], &dw);
        let dx = x.zeros(x.rows(), x.cols());
        rows::scatter(&d_picked, &index, &dx);
        for l in self.layout.layers.iter().rev() {
            let saved = match inputs.pop() {
                Some(input) => Some(self.block(l, input, &segments).0),
                None => kept.pop(),
            };
            if let Some(saved) = saved {
                self.block_backward(l, saved, &segments, &dx, grads);
            }
        }
        rows::scatter(&dx, &batch.tokens, &grads[self.layout.embed]);
    }

    /// Runs prompts, gives each layer's placed rows to `keep`, and returns the logits that follow each prompt.
    pub fn prefill(&self, prompts: &[&[u32]], keep: impl Fn(usize, &Mat)) -> Mat {
        let groups: Vec<_> = prompts.iter().map(|p| PromptGroup { prompt: p, completions: vec![] }).collect();
        let batch = PackedBatch::new(&groups);
        let segments = Segments::new(&batch, self.embedding());
        let mut x = rows::gather(self.embedding(), &batch.tokens);
        for (i, l) in self.layout.layers.iter().enumerate() {
            let (_, placed) = self.project(l, &x, &segments.positions);
            keep(i, &placed);
            let (attended, _) = attention::forward(&placed, &segments, &self.heads);
            x = self.finish(l, &x, &attended).2;
        }
        let last: Vec<u32> = batch.groups.iter().map(|g| g.prompt.end as u32 - 1).collect();
        self.project_vocab(&rows::gather(&x, &last))
    }

    /// Runs one token a row, `[1, rows]`, at its position; `attend` keeps a layer's placed rows and attends. Returns the
    /// logits.
    pub fn step(&self, tokens: &Mat, positions: &Mat, attend: impl Fn(usize, &Mat) -> Mat) -> Mat {
        let mut x = rows::gather_at(self.embedding(), tokens);
        for (i, l) in self.layout.layers.iter().enumerate() {
            let (_, placed) = self.project(l, &x, positions);
            x = self.finish(l, &x, &attend(i, &placed)).2;
        }
        self.project_vocab(&x)
    }
}

fn target_rows(batch: &PackedBatch) -> Vec<u32> {
    batch.target_rows.iter().map(|r| *r as u32).collect()
}

/// The parts of a decoder with these parameters.
///
/// # Panics
/// If the parameters are on no cubecl device.
pub fn parts(table: &crate::host::rope::RopeTable, like: &Tensor<2>, count: usize) -> DeviceParts {
    let Some(like) = Mat::of(like) else { panic!("parameters are on no cubecl device") };
    let memory = like.client().properties().memory.max_memory();
    DeviceParts {
        rotation: Rotation::new(table, &like),
        dtype: DType::F32,
        working: vec![None; count],
        memory,
    }
}
