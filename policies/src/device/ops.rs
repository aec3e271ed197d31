//! The operations of a decoder on a device.
//!
//! Parameters, residual stream, norms, softmaxes and gradients are f32. Matrix products take their operands in the
//! compute type (f32 or bf16) and add up in f32.
use super::attention::{self, Segments};
use super::elementwise;
use super::head;
use super::mat::{Mat, product};
use super::norm::{rms_norm, rms_norm_backward, sum_rows};
use super::rope::{HeadNorms, Rotation, place, unplace};
use crate::host::rope::RopeTable;
use crate::model::ops::{Backward, HeadPass, Ops, Routing};
use crate::model::pass;
use crate::packed::PackedBatch;
use crate::spec::{Attention, Embed, Experts, Gated, Linear, Model, Norm, ParamLayout, QkNorms};
use crate::targets::{TargetGrads, TargetStats};
use burn::tensor::{DType, Tensor};

/// What a device keeps of a decoder besides its parameters.
#[derive(Clone, Debug)]
pub struct DeviceParts {
    /// Rotary tables.
    pub rotations: Vec<Rotation>,
    /// Type of the operands of matrix products.
    pub dtype: DType,
    /// Copies of the matrices in that type, where it is not f32; in the order of the parameters.
    pub working: Vec<Option<Mat>>,
    /// Bytes of memory that the device has, where it says so.
    pub memory: Option<u64>,
}

impl DeviceParts {
    /// The parts of a decoder of `count` parameters like this one.
    ///
    /// # Panics
    /// If the parameter is on no cubecl device.
    pub fn new(tables: &[RopeTable], like: &Tensor<2>, count: usize) -> Self {
        let Some(like) = Mat::of(like) else { panic!("parameters are on no cubecl device") };
        let memory = like.client().properties().memory.max_memory();
        Self {
            rotations: tables.iter().map(|table| Rotation::new(table, &like)).collect(),
            dtype: DType::F32,
            working: vec![None; count],
            memory,
        }
    }
}

/// Borrowed view of a decoder whose parameters lie in device memory.
pub struct DeviceModel<'a> {
    /// What the decoder is.
    pub layout: &'a ParamLayout,
    /// The parameters in f32, in the order of the layout.
    pub params: Vec<Mat>,
    /// The rest.
    pub parts: &'a DeviceParts,
}

/// What the backward needs of attention.
pub struct Seen {
    placed: Mat,
    attended: Mat,
    log_sum: Mat,
}

impl DeviceModel<'_> {
    /// The decoder.
    pub fn model(&self) -> &Model {
        &self.layout.model
    }

    /// Any matrix on the device.
    pub fn like(&self) -> &Mat {
        &self.params[self.model().embed.table]
    }

    /// Type of the operands of matrix products.
    pub fn dtype(&self) -> DType {
        self.parts.dtype
    }

    /// Everything that a pass reads: parameters, their copies in the compute type, the rotary tables.
    pub fn memory(&self) -> impl Iterator<Item = Mat> {
        let rotations = self.parts.rotations.iter().flat_map(|r| [&r.cos, &r.sin]);
        self.params.iter().chain(self.parts.working.iter().flatten()).chain(rotations).cloned()
    }

    /// A matrix in the compute type.
    fn weight(&self, index: usize) -> &Mat {
        self.parts.working[index].as_ref().unwrap_or(&self.params[index])
    }

    /// The factors of a norm.
    fn factors(&self, norm: &Norm) -> Mat {
        self.params[norm.weight].clone()
    }

    fn head_norms(&self, attention: &Attention) -> HeadNorms {
        match &attention.norms {
            QkNorms::Head { q, k } => Some((self.factors(q), self.factors(k), q.eps)),
            QkNorms::None | QkNorms::Row { .. } => None,
        }
    }

    fn rotation(&self, attention: &Attention) -> &Rotation {
        &self.parts.rotations[attention.rotation.unwrap_or(0)]
    }

    /// Queries, keys and values as attention takes them.
    pub fn place(&self, qkv: &Mat, attention: &Attention, positions: &Mat) -> Mat {
        let norms = self.head_norms(attention);
        place(qkv, &norms, self.rotation(attention), positions, &attention.heads, attention.scale)
    }

    /// Runs prompts, gives each layer's placed rows to `keep`, and returns the logits that follow each prompt.
    pub fn prefill(&self, prompts: &[&[u32]], keep: impl Fn(usize, &Mat)) -> Mat {
        let (batch, last) = pass::prompts(prompts);
        let rows = self.rows(&batch);
        let x = self.embed(&self.model().embed, &batch.tokens);
        let x = pass::residual(self, self.model(), x, |layer, attention, qkv| {
            let (attended, seen) = self.attend(qkv, attention, (&batch, &rows));
            keep(layer, &seen.placed);
            (attended, seen)
        });
        pass::logits_of(self, self.model(), &self.gather(&x, &last))
    }

    /// Runs one token a row, `[1, rows]`, at its position; `attend` keeps a layer's placed rows and attends. Returns the
    /// logits.
    pub fn step(&self, tokens: &Mat, positions: &Mat, attend: impl Fn(usize, &Mat) -> Mat) -> Mat {
        let x = elementwise::gather_at(self.like(), tokens);
        let x = pass::residual(self, self.model(), x, |layer, attention, qkv| {
            let placed = self.place(qkv, attention, positions);
            let attended = attend(layer, &placed);
            let seen = Seen { log_sum: placed.clone(), placed, attended: attended.clone() };
            (attended, seen)
        });
        pass::logits_of(self, self.model(), &x)
    }
}

/// Why some operations are never asked for.
const REFUSED: &str = "models that need this are refused when they are opened";

fn ids(index: &[usize]) -> Vec<u32> {
    index.iter().map(|i| *i as u32).collect()
}

impl Ops for DeviceModel<'_> {
    type Mat = Mat;
    type Rows = Segments;
    type Seen = Seen;
    type Kept = ();

    fn rows(&self, batch: &PackedBatch) -> Segments {
        Segments::new(batch, self.like())
    }

    fn embed(&self, embed: &Embed, tokens: &[u32]) -> Mat {
        elementwise::gather(&self.params[embed.table], tokens)
    }

    fn keep(&self, x: &Mat) -> Mat {
        x.clone()
    }

    fn norm(&self, x: &Mat, norm: &Norm) -> Mat {
        rms_norm(x, &self.factors(norm), norm.eps, 1.0, self.dtype())
    }

    fn exact_norm(&self, x: &Mat, norm: &Norm, scale: f32) -> Mat {
        rms_norm(x, &self.factors(norm), norm.eps, scale, DType::F32)
    }

    fn linear(&self, x: &Mat, linear: &Linear, onto: Option<Mat>) -> Mat {
        let y = product(&x.cast(self.dtype()).n(), &self.weight(linear.weight).t());
        if let Some(bias) = linear.bias {
            elementwise::add(&y, &self.params[bias]);
        }
        if let Some(onto) = onto {
            elementwise::add(&y, &onto);
        }
        y
    }

    fn add(&self, x: Mat, y: &Mat, scale: f32) -> Mat {
        let sum = x.copy();
        elementwise::add_scaled(&sum, y, scale);
        sum
    }

    fn norm_queries_and_keys(&self, _qkv: &Mat, _attention: &Attention) -> Mat {
        unreachable!("{REFUSED}")
    }

    fn attend(&self, qkv: &Mat, attention: &Attention, (_, rows): (&PackedBatch, &Segments)) -> (Mat, Seen) {
        let placed = self.place(qkv, attention, &rows.positions);
        let (attended, log_sum) = attention::forward(&placed, rows, &attention.heads);
        (attended.clone(), Seen { placed, attended, log_sum })
    }

    fn activate(&self, gate_up: &Mat, _mlp: &Gated) -> Mat {
        elementwise::swiglu(gate_up, self.dtype())
    }

    fn gather(&self, x: &Mat, index: &[usize]) -> Mat {
        elementwise::gather(x, &ids(index))
    }

    fn route(&self, _scores: &Mat, _experts: &Experts) -> Routing {
        unreachable!("{REFUSED}")
    }

    fn zeros(&self, count: usize) -> Mat {
        self.like().zeros(count, self.model().hidden)
    }

    fn scatter(&self, x: &mut Mat, y: &Mat, index: &[usize], _weights: &[f32]) {
        elementwise::scatter(y, &ids(index), x);
    }

    fn head(&self, h: &Mat, head: &HeadPass, targets: &[u32], _keep: bool) -> (TargetStats, ()) {
        (head::forward(h, self.weight(head.weight), targets), ())
    }

    fn logits(&self, h: &Mat, head: &HeadPass) -> Mat {
        self.linear(h, &Linear { weight: head.weight, bias: None }, None)
    }
}

impl Backward for DeviceModel<'_> {
    type Grads = [Mat];

    fn linear_backward(&self, x: Mat, dy: &Mat, linear: &Linear, grads: &mut [Mat]) -> Mat {
        if let Some(bias) = linear.bias {
            elementwise::add(&grads[bias], &sum_rows(dy.clone()));
        }
        let dy = dy.cast(self.dtype());
        elementwise::add(&grads[linear.weight], &product(&dy.t(), &x.cast(self.dtype()).n()));
        product(&dy.n(), &self.weight(linear.weight).n())
    }

    fn norm_backward(&self, x: &Mat, norm: &Norm, scale: f32, dy: Mat, dx: &mut Mat, grads: &mut [Mat]) {
        let dw = rms_norm_backward(x, &self.factors(norm), norm.eps, scale, dy, dx);
        elementwise::add(&grads[norm.weight], &dw);
    }

    fn accumulate(&self, x: &mut Mat, y: &Mat) {
        elementwise::add(x, y);
    }

    fn norm_queries_and_keys_backward(&self, _: &Mat, _: &Attention, _: Mat, _: &mut [Mat]) -> Mat {
        unreachable!("{REFUSED}")
    }

    fn scaled(&self, x: &Mat, scale: f32) -> Mat {
        let y = x.zeros(x.rows(), x.cols());
        elementwise::add_scaled(&y, x, scale);
        y
    }

    fn scatter_backward(&self, _: &Mat, _: &Mat, _: &[usize], _: &[f32]) -> (Mat, Vec<f32>) {
        unreachable!("{REFUSED}")
    }

    fn route_backward(&self, _: &Routing, _: &[Vec<f32>], _: &Experts) -> Mat {
        unreachable!("{REFUSED}")
    }

    fn attend_backward(
        &self,
        qkv: &Mat,
        seen: &Seen,
        attention: &Attention,
        (_, rows): (&PackedBatch, &Segments),
        d_out: Mat,
        grads: &mut [Mat],
    ) -> Mat {
        let heads = &attention.heads;
        let d_qkv = attention::backward(&seen.placed, rows, heads, (&seen.attended, &seen.log_sum), &d_out);
        let (norms, rotation) = (self.head_norms(attention), self.rotation(attention));
        let d_norms = unplace(qkv, &norms, rotation, &rows.positions, heads, attention.scale, &d_qkv);
        if let (Some((dq, dk)), QkNorms::Head { q, k }) = (d_norms, &attention.norms) {
            elementwise::add(&grads[q.weight], &dq);
            elementwise::add(&grads[k.weight], &dk);
        }
        d_qkv
    }

    fn activate_backward(&self, gate_up: Mat, dy: &Mat, _mlp: &Gated) -> Mat {
        elementwise::swiglu_backward(&gate_up, dy)
    }

    fn head_backward(
        &self,
        h: &Mat,
        (): (),
        head: &HeadPass,
        targets: &[u32],
        (stats, g): (&TargetStats, &TargetGrads),
        grads: &mut [Mat],
    ) -> Mat {
        head::backward(h, self.weight(head.weight), targets, stats, g, &grads[head.weight])
    }

    fn embed_backward(&self, embed: &Embed, tokens: &[u32], dx: Mat, grads: &mut [Mat]) {
        elementwise::scatter(&dx, tokens, &grads[embed.table]);
    }
}
