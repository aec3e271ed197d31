//! The operations of a decoder on a device.
//!
//! Parameters, residual stream, norms, softmaxes and gradients are f32. Matrix products take their operands in the
//! compute type (f32 or bf16) and add up in f32.
use super::activation::{activate, activate_backward};
use super::attention::{self, Segments};
use super::elementwise;
use super::head;
use super::lora;
use super::mat::{Mat, product};
use super::norm::{rms_norm, rms_norm_backward, sum_rows};
use super::rope::{HeadNorms, Rotation, place, unplace};
use super::rows;
use crate::host::lora::Dropout;
use crate::host::rope::RopeTable;
use crate::host::routing;
use crate::model::ops::{Backward, Balance, HeadPass, Ops, Routing};
use crate::model::pass;
use crate::packed::PackedBatch;
use crate::spec::{Attention, Embed, Experts, Gated, Linear, Model, Norm, ParamLayout, QkNorms};
use crate::targets::{TargetGrads, TargetStats};
use burn::tensor::{DType, Tensor};
use std::sync::Arc;

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

/// A decoder whose parameters lie in device memory, which it shares.
pub struct DeviceModel {
    /// What the decoder is.
    pub layout: Arc<ParamLayout>,
    /// The parameters in f32, in the order of the layout.
    pub params: Vec<Mat>,
    /// The rest.
    pub parts: Arc<DeviceParts>,
    /// What adapters do not see.
    pub dropout: Option<Dropout>,
}

/// What the backward needs of attention.
pub struct Seen {
    placed: Mat,
    attended: Mat,
    log_sum: Mat,
}

impl DeviceModel {
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
    pub(super) fn weight(&self, index: usize) -> &Mat {
        self.parts.working[index].as_ref().unwrap_or(&self.params[index])
    }

    /// The factors of a norm.
    fn factors(&self, norm: &Norm) -> Mat {
        let w = &self.params[norm.weight];
        if norm.plus_one { rows::plus_one(w) } else { w.clone() }
    }

    fn head_norms(&self, attention: &Attention) -> HeadNorms {
        match &attention.norms {
            QkNorms::Head { q, k } => Some((self.factors(q), self.factors(k), q.eps)),
            QkNorms::None | QkNorms::Row { .. } => None,
        }
    }

    fn rotation(&self, attention: &Attention) -> Option<&Rotation> {
        attention.rotation.map(|i| &self.parts.rotations[i])
    }

    /// Embeddings of tokens that lie on the device, `[1, rows]`.
    fn embed_at(&self, embed: &Embed, tokens: &Mat) -> Mat {
        let x = elementwise::gather_at(&self.params[embed.table], tokens);
        if embed.scale == 1.0 { x } else { self.scaled(&x, embed.scale) }
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
    pub fn step(
        &self,
        tokens: &Mat,
        positions: &Mat,
        attend: impl Fn(usize, &Attention, &Mat) -> Mat,
    ) -> Mat {
        let x = self.embed_at(&self.model().embed, tokens);
        let x = pass::residual(self, self.model(), x, |layer, attention, qkv| {
            let placed = self.place(qkv, attention, positions);
            let attended = attend(layer, attention, &placed);
            let seen = Seen { log_sum: placed.clone(), placed, attended: attended.clone() };
            (attended, seen)
        });
        pass::logits_of(self, self.model(), &x)
    }
}

/// Adds all rows of `x` to a gradient that is asked for.
fn add_rows(sum: &Option<Mat>, x: Mat) {
    if let Some(sum) = sum {
        elementwise::add(sum, &sum_rows(x));
    }
}

fn ids(index: &[usize]) -> Vec<u32> {
    index.iter().map(|i| *i as u32).collect()
}

impl Ops for DeviceModel {
    type Mat = Mat;
    type Rows = Segments;
    type Seen = Seen;
    type Kept = ();

    fn rows(&self, batch: &PackedBatch) -> Segments {
        Segments::new(batch, self.like())
    }

    fn embed(&self, embed: &Embed, tokens: &[u32]) -> Mat {
        self.embed_at(embed, &self.like().upload(tokens, 1, tokens.len()))
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
        if let Some(adapter) = self.layout.adapter(linear.weight) {
            lora::forward(self, adapter, x, &y);
        }
        y
    }

    fn add(&self, x: Mat, y: &Mat, scale: f32) -> Mat {
        let sum = x.copy();
        elementwise::add_scaled(&sum, y, scale);
        sum
    }

    fn norm_queries_and_keys(&self, qkv: &Mat, attention: &Attention) -> Mat {
        let (out, heads) = (qkv.copy(), attention.heads);
        if let QkNorms::Row { q, k } = &attention.norms {
            for (norm, columns) in [(q, heads.queries()), (k, heads.keys())] {
                let first = columns.start;
                let x = rows::take(qkv, columns, 1.0);
                rows::put(&out, first, &self.exact_norm(&x, norm, 1.0), 1.0);
            }
        }
        out
    }

    fn attend(&self, qkv: &Mat, attention: &Attention, (_, rows): (&PackedBatch, &Segments)) -> (Mat, Seen) {
        let placed = self.place(qkv, attention, &rows.positions);
        let (attended, log_sum) = attention::forward(&placed, rows, attention);
        (attended.clone(), Seen { placed, attended, log_sum })
    }

    fn activate(&self, gate_up: &Mat, mlp: &Gated) -> Mat {
        activate(gate_up, mlp.act, self.dtype())
    }

    fn gather(&self, x: &Mat, index: &[usize]) -> Mat {
        elementwise::gather(&x.cast(DType::F32), &ids(index))
    }

    fn route(&self, scores: &Mat, experts: &Experts) -> Routing {
        routing::route(&scores.read(), experts)
    }

    fn zeros(&self, count: usize) -> Mat {
        self.like().zeros(count, self.model().hidden)
    }

    fn scatter(&self, x: &mut Mat, y: &Mat, index: &[usize], weights: &[f32]) {
        match weights {
            [] => elementwise::scatter(y, &ids(index), x),
            weights => elementwise::scatter(&rows::scale(y, weights), &ids(index), x),
        }
    }

    fn head(&self, h: &Mat, head: &HeadPass, targets: &[u32], _keep: bool) -> (TargetStats, ()) {
        (head::forward(h, self.weight(head.weight), head.squash, targets), ())
    }

    fn logits(&self, h: &Mat, head: &HeadPass) -> Mat {
        let logits = self.linear(h, &Linear { weight: head.weight, bias: None }, None);
        if let Some(squash) = head.squash {
            rows::squash(&logits, squash);
        }
        logits
    }
}

impl Backward for DeviceModel {
    type Grads = [Option<Mat>];

    fn linear_backward(&self, x: Mat, dy: &Mat, linear: &Linear, grads: &mut [Option<Mat>]) -> Mat {
        if let Some(sum) = linear.bias.and_then(|bias| grads[bias].as_ref()) {
            elementwise::add(sum, &sum_rows(dy.clone()));
        }
        let operand = dy.cast(self.dtype());
        if let Some(sum) = &grads[linear.weight] {
            elementwise::add(sum, &product(&operand.t(), &x.cast(self.dtype()).n()));
        }
        let dx = product(&operand.n(), &self.weight(linear.weight).n());
        if let Some(adapter) = self.layout.adapter(linear.weight) {
            lora::backward(self, adapter, &x, dy, &dx, grads);
        }
        dx
    }

    fn norm_backward(
        &self,
        x: &Mat,
        norm: &Norm,
        scale: f32,
        dy: Mat,
        dx: &mut Mat,
        grads: &mut [Option<Mat>],
    ) {
        let parts = rms_norm_backward(x, &self.factors(norm), norm.eps, scale, dy, dx);
        add_rows(&grads[norm.weight], parts);
    }

    fn accumulate(&self, x: &mut Mat, y: &Mat) {
        elementwise::add(x, y);
    }

    fn norm_queries_and_keys_backward(
        &self,
        qkv: &Mat,
        attention: &Attention,
        dy: Mat,
        grads: &mut [Option<Mat>],
    ) -> Mat {
        let heads = attention.heads;
        if let QkNorms::Row { q, k } = &attention.norms {
            for (norm, columns) in [(q, heads.queries()), (k, heads.keys())] {
                let [x, part] = [qkv, &dy].map(|all| rows::take(all, columns.clone(), 1.0));
                let mut dx = x.zeros(x.rows(), x.cols());
                self.norm_backward(&x, norm, 1.0, part, &mut dx, grads);
                rows::put(&dy, columns.start, &dx, 1.0);
            }
        }
        dy
    }

    fn scaled(&self, x: &Mat, scale: f32) -> Mat {
        let y = x.zeros(x.rows(), x.cols());
        elementwise::add_scaled(&y, x, scale);
        y
    }

    fn scatter_backward(&self, dx: &Mat, y: &Mat, index: &[usize], weights: &[f32]) -> (Mat, Vec<f32>) {
        let dy = self.gather(dx, index);
        let d_weights = rows::dots(&dy, y);
        (rows::scale(&dy, weights), d_weights)
    }

    fn route_backward(
        &self,
        routing: &Routing,
        d_weights: &[Vec<f32>],
        balance: Option<Balance<'_>>,
        experts: &Experts,
    ) -> Mat {
        let d = routing::route_backward(routing, d_weights, balance, experts);
        self.like().upload(&d, d.len() / experts.experts.len(), experts.experts.len())
    }

    fn attend_backward(
        &self,
        qkv: &Mat,
        seen: &Seen,
        attention: &Attention,
        (_, rows): (&PackedBatch, &Segments),
        d_out: Mat,
        grads: &mut [Option<Mat>],
    ) -> Mat {
        let heads = &attention.heads;
        let d_qkv =
            attention::backward(&seen.placed, rows, attention, (&seen.attended, &seen.log_sum), &d_out);
        let (norms, rotation) = (self.head_norms(attention), self.rotation(attention));
        let d_norms = unplace(qkv, &norms, rotation, &rows.positions, heads, attention.scale, &d_qkv);
        if let (Some((dq, dk)), QkNorms::Head { q, k }) = (d_norms, &attention.norms) {
            add_rows(&grads[q.weight], dq);
            add_rows(&grads[k.weight], dk);
        }
        d_qkv
    }

    fn activate_backward(&self, gate_up: Mat, dy: &Mat, mlp: &Gated) -> Mat {
        activate_backward(&gate_up, dy, mlp.act)
    }

    fn head_backward(
        &self,
        h: &Mat,
        (): (),
        head: &HeadPass,
        targets: &[u32],
        (stats, g): (&TargetStats, &TargetGrads),
        grads: &mut [Option<Mat>],
    ) -> Mat {
        let weight = self.weight(head.weight);
        head::backward(h, weight, head.squash, targets, (stats, g), grads[head.weight].as_ref())
    }

    fn embed_backward(&self, embed: &Embed, tokens: &[u32], dx: Mat, grads: &mut [Option<Mat>]) {
        let Some(table) = &grads[embed.table] else { return };
        let mut dx = if embed.scale == 1.0 { dx } else { self.scaled(&dx, embed.scale) };
        let mut tokens = tokens.to_vec();
        if embed.padding.is_some_and(|padding| tokens.contains(&padding)) {
            let learnt: Vec<usize> =
                (0..tokens.len()).filter(|row| Some(tokens[*row]) != embed.padding).collect();
            if learnt.is_empty() {
                return;
            }
            dx = self.gather(&dx, &learnt);
            tokens.retain(|token| Some(*token) != embed.padding);
        }
        elementwise::scatter(&dx, &tokens, table);
    }
}
