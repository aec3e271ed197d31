//! The operations of a decoder on the CPU, over the host memory of burn-flex tensors.
use super::activation::{activate, activate_backward};
use super::attention::{self, Context, HeadNorms};
use super::buffer::Buffer;
use super::gemm::{Mat, Operands, Panels, Write, product};
use super::head::{self, Kept, Weight};
use super::lora::{self, Dropout};
use super::narrow::{Matrix, Narrow};
use super::norm::{rms_norm, rms_norm_backward, rms_norm_columns, rms_norm_columns_backward};
use super::rope::RopeTable;
use super::routing;
use crate::model::ops::{Backward, Balance, HeadPass, Ops, Placed, Routing};
use crate::packed::PackedBatch;
use crate::spec::{Attention, Embed, Experts, Gated, Linear, Norm, ParamLayout, QkNorms};
use crate::targets::{TargetGrads, TargetStats};
use crate::trained::{Rows, Trained};
use burn_flex::FlexTensor;
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

/// A matrix as the right side of products, packed when one first needs it.
#[derive(Debug, Default)]
pub struct Packed {
    /// Of `x · Wᵀ`.
    forward: OnceLock<Panels>,
    /// Of `dy · W`.
    backward: OnceLock<Panels>,
}

/// The matrices of a decoder whose packed form is kept, by the index of the parameter.
pub type WeightPanels = Vec<Option<Arc<Packed>>>;

/// The matrices of a decoder that lie in fewer bits than f32, by the index of the parameter.
pub type NarrowParams = Vec<Option<Arc<Narrow>>>;

/// A decoder whose parameters lie in host memory, which it shares.
pub struct HostModel {
    /// What the decoder is.
    pub layout: Arc<ParamLayout>,
    /// The parameters in f32, in the order of the layout.
    pub params: Vec<FlexTensor>,
    /// Matrices that lie in fewer bits, by parameter; none, or as many as there are of the base.
    pub narrow: Arc<NarrowParams>,
    /// Matrices whose packed form is kept, by parameter; none, or as many as parameters.
    pub panels: Arc<WeightPanels>,
    /// What the backward gives gradients of.
    pub trained: Arc<Trained>,
    /// What linear layers and the head are computed in.
    pub operands: Operands,
    /// What adapters do not see.
    pub dropout: Option<Dropout>,
    /// The rotations; they cover every position that is asked for.
    pub ropes: Arc<[RopeTable]>,
    /// What stands in the rows of pictures of the batch at hand.
    pub pictures: Option<Placed<Self>>,
}

impl HostModel {
    pub(super) fn param(&self, index: usize) -> &[f32] {
        self.params[index].storage::<f32>()
    }

    /// A matrix as it lies in memory.
    fn matrix(&self, index: usize) -> Matrix<'_> {
        match self.narrow.get(index) {
            Some(Some(narrow)) => Matrix::Narrow(narrow),
            _ => Matrix::Wide(self.param(index)),
        }
    }

    fn hidden(&self) -> usize {
        self.layout.model.hidden
    }

    pub(super) fn weight(&self, index: usize) -> Weight<'_> {
        let (values, [out, inside]) = (self.matrix(index), self.layout.specs[index].shape);
        let pack = || Panels::new(self.operands, out, inside, Mat::rows(&values.all(inside), inside).t());
        let panels = self.kept(index).map(|kept| kept.forward.get_or_init(pack));
        Weight { values, panels, operands: self.operands }
    }

    /// Logits of every row.
    ///
    /// # Shapes
    /// h `[rows, hidden]`, logits `[rows, vocab]`.
    pub(super) fn logits_into(&self, h: &[f32], head: &HeadPass, logits: &mut [f32]) {
        self.weight(head.weight).apply(h.len() / self.hidden(), h, logits, Write::Set);
        if let Some(squash) = head.squash {
            head::squash_all(logits, squash);
        }
    }

    fn kept(&self, index: usize) -> Option<&Packed> {
        self.panels.get(index)?.as_deref()
    }

    /// Adds `dyᵀ · x` to the gradient of what is trained of a matrix; its rows are columns of `dy` from `first` on.
    pub(super) fn add_gradient(
        &self,
        index: usize,
        (dy, first, stride): (&[f32], usize, usize),
        x: Mat,
        rows: usize,
        grads: &mut [Buffer],
    ) {
        let inside = self.layout.specs[index].shape[1];
        for run in self.trained.rows(index) {
            let dy = lora::columns(dy, first + run.rows.start, stride);
            let d_weight = &mut grads[index][run.gradient.clone()];
            product(self.operands, [run.rows.len(), inside, rows], dy.t(), x, d_weight, Write::Add);
        }
    }

    /// A matrix of which parts are multiplied.
    fn unpacked(&self, index: usize) -> Weight<'_> {
        Weight { values: self.matrix(index), panels: None, operands: self.operands }
    }

    /// What `f` makes of a matrix as the right side of `dy · W`.
    fn through<R>(&self, index: usize, f: impl FnOnce(&Panels) -> R) -> R {
        let (values, [out, inside]) = (self.matrix(index), self.layout.specs[index].shape);
        let pack = || Panels::new(self.operands, inside, out, Mat::rows(&values.all(inside), inside));
        match self.kept(index) {
            Some(kept) => f(kept.backward.get_or_init(pack)),
            None => f(&pack()),
        }
    }

    /// The factors of a norm.
    fn factors(&self, norm: &Norm) -> Cow<'_, [f32]> {
        let w = self.param(norm.weight);
        if norm.plus_one { w.iter().map(|w| 1.0 + w).collect() } else { Cow::Borrowed(w) }
    }

    /// What attention needs besides the rows.
    pub fn context(&self, attention: &Attention) -> Context<'_> {
        let norms = match &attention.norms {
            QkNorms::Head { q, k } => Some(HeadNorms { q: self.factors(q), k: self.factors(k), eps: q.eps }),
            QkNorms::None | QkNorms::Row { .. } => None,
        };
        Context {
            heads: attention.heads,
            rope: attention.rotation.map(|i| &self.ropes[i]),
            norms,
            scale: attention.scale,
            window: attention.window.unwrap_or(usize::MAX),
            cap: attention.cap,
        }
    }
}

/// Adds a bias row to every row.
fn add_bias(rows: &mut [f32], bias: &[f32]) {
    for row in rows.chunks_mut(bias.len()) {
        row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
    }
}

/// Adds all rows up, where of the sum `trained` is asked for.
fn sum_rows(rows: &[f32], width: usize, trained: &[Rows], sum: &mut [f32]) {
    for run in trained {
        let sum = &mut sum[run.gradient.clone()];
        for row in rows.chunks(width) {
            sum.iter_mut().zip(&row[run.rows.clone()]).for_each(|(s, x)| *s += x);
        }
    }
}

fn scale_by(x: &mut [f32], scale: f32) {
    if scale != 1.0 {
        x.iter_mut().for_each(|x| *x *= scale);
    }
}

impl Ops for HostModel {
    type Mat = Buffer;
    type Rows = ();
    type Seen = ();
    type Kept = Kept;

    fn rows(&self, _batch: &PackedBatch) {}

    fn embed(&self, embed: &Embed, tokens: &[u32]) -> Buffer {
        let (d, table) = (self.hidden(), self.matrix(embed.table));
        let mut x = Buffer::any(tokens.len() * d);
        x.chunks_mut(d).zip(tokens).for_each(|(row, token)| table.read_row(*token as usize, row));
        scale_by(&mut x, embed.scale);
        x
    }

    fn keep(&self, x: &Buffer) -> Buffer {
        Buffer::copy_of(x)
    }

    fn norm(&self, x: &Buffer, norm: &Norm) -> Buffer {
        let mut y = Buffer::any(x.len());
        rms_norm(x, &self.factors(norm), norm.eps, &mut y);
        y
    }

    fn exact_norm(&self, x: &Buffer, norm: &Norm, scale: f32) -> Buffer {
        let mut y = self.norm(x, norm);
        scale_by(&mut y, scale);
        y
    }

    fn linear(&self, x: &Buffer, linear: &Linear, onto: Option<Buffer>) -> Buffer {
        let [out, inside] = self.layout.specs[linear.weight].shape;
        let rows = x.len() / inside;
        let (mut y, write) = match onto {
            Some(y) => (y, Write::Add),
            None => (Buffer::any(rows * out), Write::Set),
        };
        let adapter = self.layout.adapter(linear.weight);
        let low = match adapter {
            Some(adapter) => Some((adapter, lora::project(self, adapter, linear.weight, x, (&mut y, write)))),
            None => {
                self.weight(linear.weight).apply(rows, x, &mut y, write);
                None
            }
        };
        if let Some(bias) = linear.bias {
            add_bias(&mut y, self.param(bias));
        }
        if let Some((adapter, low)) = low {
            lora::expand(self, adapter, &low, &mut y, out);
        }
        y
    }

    fn add(&self, mut x: Buffer, y: &Buffer, scale: f32) -> Buffer {
        x.iter_mut().zip(y.iter()).for_each(|(x, y)| *x += scale * y);
        x
    }

    fn norm_queries_and_keys(&self, qkv: &Buffer, attention: &Attention) -> Buffer {
        let (heads, mut y) = (attention.heads, Buffer::copy_of(qkv));
        if let QkNorms::Row { q, k } = &attention.norms {
            for (norm, columns) in [(q, heads.queries()), (k, heads.keys())] {
                rms_norm_columns(qkv, heads.qkv_width(), columns, &self.factors(norm), norm.eps, &mut y);
            }
        }
        y
    }

    fn attend(&self, qkv: &Buffer, attention: &Attention, rows: (&PackedBatch, &())) -> (Buffer, ()) {
        let mut out = Buffer::any(rows.0.rows() * attention.heads.out_width());
        attention::forward(&self.context(attention), rows.0, qkv, &mut out);
        (out, ())
    }

    fn activate(&self, gate_up: &Buffer, mlp: &Gated) -> Buffer {
        let mut y = Buffer::any(gate_up.len() / 2);
        activate(gate_up, self.layout.specs[mlp.down.weight].shape[1], mlp.act, &mut y);
        y
    }

    fn gather(&self, x: &Buffer, index: &[usize]) -> Buffer {
        gather(x, self.hidden(), index)
    }

    fn route(&self, scores: &Buffer, experts: &Experts) -> Routing {
        routing::route(scores, experts)
    }

    fn zeros(&self, count: usize) -> Buffer {
        Buffer::zeros(count * self.hidden())
    }

    fn scatter(&self, x: &mut Buffer, y: &Buffer, index: &[usize], weights: &[f32]) {
        let d = self.hidden();
        for (i, (row, y)) in index.iter().zip(y.chunks(d)).enumerate() {
            let x = &mut x[row * d..(row + 1) * d];
            match weights.get(i) {
                None => x.iter_mut().zip(y).for_each(|(x, y)| *x += y),
                Some(w) => x.iter_mut().zip(y).for_each(|(x, y)| *x += w * y),
            }
        }
    }

    fn head(&self, h: &Buffer, head: &HeadPass, targets: &[u32], keep: bool) -> (TargetStats, Kept) {
        head::forward(&self.unpacked(head.weight), self.hidden(), head.squash, h, targets, keep)
    }

    fn logits(&self, h: &Buffer, head: &HeadPass) -> Buffer {
        let [vocab, d] = self.layout.specs[head.weight].shape;
        let mut logits = Buffer::any(h.len() / d * vocab);
        self.logits_into(h, head, &mut logits);
        logits
    }

    fn pictures(&self) -> Option<&Placed<Self>> {
        self.pictures.as_ref()
    }

    fn put(&self, x: &mut Buffer, y: &Buffer, index: &[usize]) {
        let d = self.hidden();
        for (row, y) in index.iter().zip(y.chunks(d)) {
            x[row * d..(row + 1) * d].copy_from_slice(y);
        }
    }
}

/// Runs `f` on the factors of a norm and their gradient, which is thrown away where nobody asks for it.
fn with_sum(norm: &Norm, model: &HostModel, grads: &mut [Buffer], f: impl FnOnce(&[f32], &mut [f32])) {
    let (w, dw) = (model.factors(norm), &mut grads[norm.weight]);
    if dw.is_empty() { f(&w, &mut vec![0.0; w.len()]) } else { f(&w, dw) }
}

/// Rows of an array that is `width` wide.
fn gather(x: &[f32], width: usize, rows: &[usize]) -> Buffer {
    let mut out = Buffer::any(rows.len() * width);
    for (out, r) in out.chunks_mut(width).zip(rows) {
        out.copy_from_slice(&x[r * width..(r + 1) * width]);
    }
    out
}

impl Backward for HostModel {
    type Grads = [Buffer];

    fn linear_backward(&self, mut x: Buffer, dy: &Buffer, linear: &Linear, grads: &mut [Buffer]) -> Buffer {
        let [out, inside] = self.layout.specs[linear.weight].shape;
        let n = dy.len() / out;
        if let Some(bias) = linear.bias {
            sum_rows(dy, out, self.trained.rows(bias), &mut grads[bias]);
        }
        self.add_gradient(linear.weight, (dy, 0, out), Mat::rows(&x, inside), n, grads);
        let dy_rows = Mat::rows(dy, out);
        let Some(adapter) = self.layout.adapter(linear.weight) else {
            self.through(linear.weight, |w| w.product(n, dy_rows, &mut x, Write::Set));
            return x;
        };
        let mut dx = Buffer::any(x.len());
        let b = lora::contraction(self, adapter, out);
        let mut d_low = Buffer::any(n * b.columns());
        self.through(linear.weight, |w| {
            w.product_and(n, dy_rows, (&mut dx, Write::Set), (&b, &mut d_low));
        });
        lora::gradients(self, adapter, &x, (dy, out), &d_low, grads);
        lora::into_input(self, adapter, &d_low, &mut dx);
        dx
    }

    fn norm_backward(
        &self,
        x: &Buffer,
        norm: &Norm,
        scale: f32,
        mut dy: Buffer,
        dx: &mut Buffer,
        grads: &mut [Buffer],
    ) {
        scale_by(&mut dy, scale);
        with_sum(norm, self, grads, |w, dw| rms_norm_backward(x, w, norm.eps, &dy, dx, dw));
    }

    fn norm_queries_and_keys_backward(
        &self,
        qkv: &Buffer,
        attention: &Attention,
        mut dy: Buffer,
        grads: &mut [Buffer],
    ) -> Buffer {
        let heads = attention.heads;
        if let QkNorms::Row { q, k } = &attention.norms {
            for (norm, columns) in [(q, heads.queries()), (k, heads.keys())] {
                with_sum(norm, self, grads, |w, dw| {
                    rms_norm_columns_backward(qkv, heads.qkv_width(), columns, w, norm.eps, &mut dy, dw);
                });
            }
        }
        dy
    }

    fn accumulate(&self, x: &mut Buffer, y: &Buffer) {
        x.iter_mut().zip(y.iter()).for_each(|(x, y)| *x += y);
    }

    fn scaled(&self, x: &Buffer, scale: f32) -> Buffer {
        let mut y = Buffer::copy_of(x);
        scale_by(&mut y, scale);
        y
    }

    fn attend_backward(
        &self,
        qkv: &Buffer,
        (): &(),
        attention: &Attention,
        rows: (&PackedBatch, &()),
        d_out: Buffer,
        grads: &mut [Buffer],
    ) -> Buffer {
        let mut d_qkv = Buffer::any(qkv.len());
        let context = self.context(attention);
        let (dq, dk) = attention::backward(&context, rows.0, qkv, &d_out, &mut d_qkv);
        if let QkNorms::Head { q, k } = &attention.norms {
            for (norm, d) in [(q, &dq), (k, &dk)] {
                let rows = self.trained.rows(norm.weight);
                sum_rows(d, attention.heads.head_dim, rows, &mut grads[norm.weight]);
            }
        }
        d_qkv
    }

    fn activate_backward(&self, gate_up: Buffer, dy: &Buffer, mlp: &Gated) -> Buffer {
        let mut d = Buffer::any(gate_up.len());
        activate_backward(&gate_up, self.layout.specs[mlp.down.weight].shape[1], mlp.act, dy, &mut d);
        d
    }

    fn scatter_backward(
        &self,
        dx: &Buffer,
        y: &Buffer,
        index: &[usize],
        weights: &[f32],
    ) -> (Buffer, Vec<f32>) {
        let d = self.hidden();
        let mut dy = gather(dx, d, index);
        let dot = |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(a, b)| a * b).sum();
        let d_weights = dy.chunks(d).zip(y.chunks(d)).map(dot).collect();
        for (dy, w) in dy.chunks_mut(d).zip(weights) {
            scale_by(dy, *w);
        }
        (dy, d_weights)
    }

    fn route_backward(
        &self,
        routing: &Routing,
        d_weights: &[Vec<f32>],
        balance: Option<Balance<'_>>,
        experts: &Experts,
    ) -> Buffer {
        routing::route_backward(routing, d_weights, balance, experts)
    }

    fn head_backward(
        &self,
        h: &Buffer,
        kept: Kept,
        head: &HeadPass,
        targets: &[u32],
        stats: (&TargetStats, &TargetGrads),
        grads: &mut [Buffer],
    ) -> Buffer {
        let mut dh = Buffer::any(h.len());
        let (weight, d_weight) = (self.unpacked(head.weight), &mut grads[head.weight]);
        head::backward(&weight, head.squash, h, targets, stats, kept, (&mut dh, d_weight));
        dh
    }

    fn embed_backward(&self, embed: &Embed, tokens: &[u32], dx: Buffer, grads: &mut [Buffer]) {
        let (d, table) = (self.hidden(), &mut grads[embed.table]);
        if table.is_empty() {
            return;
        }
        for (token, grad) in tokens.iter().zip(dx.chunks(d)).filter(|(t, _)| Some(**t) != embed.padding) {
            let row = &mut table[*token as usize * d..(*token as usize + 1) * d];
            match embed.scale {
                1.0 => row.iter_mut().zip(grad).for_each(|(a, b)| *a += b),
                scale => row.iter_mut().zip(grad).for_each(|(a, b)| *a += scale * b),
            }
        }
    }
}
