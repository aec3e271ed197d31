//! The decoder built from burn's operations and autodiff: runs on every device, and is the reference that the host
//! kernels are tested against.
//!
//! Completions are right-padded rows `[B, T]`, each with its own copy of the prompt; the causal mask keeps padding out.
use crate::config::ModelConfig;
use crate::decoder::{AdamWStep, Decoder};
use crate::host::head::{TargetGrads, TargetStats};
use crate::packed::PackedBatch;
use crate::params::LayerIndex;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData, activation};

/// Elements of one chunk of logits.
const CHUNK: usize = 1 << 24;

struct Model<'a> {
    config: &'a ModelConfig,
    params: Vec<Tensor<2>>,
}

/// A padded batch and, for each target, its flat index in `[B · T]`.
struct Padded {
    tokens: Vec<u32>,
    rows: usize,
    width: usize,
    target_rows: Vec<usize>,
}

impl Padded {
    fn new(batch: &PackedBatch) -> Self {
        let mut sequences: Vec<Vec<u32>> = Vec::new();
        let mut targets: Vec<Vec<usize>> = Vec::new();
        let mut next = batch.completions.iter();
        for group in &batch.groups {
            let prompt = &batch.tokens[group.prompt.clone()];
            if group.completions.is_empty() {
                sequences.push(prompt.to_vec());
                targets.push(vec![]);
            }
            for rows in &group.completions {
                sequences.push([prompt, &batch.tokens[rows.clone()]].concat());
                let count = next.next().map_or(0, |r| r.len());
                targets.push((0..count).map(|i| prompt.len() - 1 + i).collect());
            }
        }
        let width = sequences.iter().map(Vec::len).max().unwrap_or(0);
        let mut tokens = vec![0u32; sequences.len() * width];
        let mut target_rows = Vec::new();
        for (i, (s, t)) in sequences.iter().zip(&targets).enumerate() {
            tokens[i * width..i * width + s.len()].copy_from_slice(s);
            target_rows.extend(t.iter().map(|p| i * width + p));
        }
        Self { tokens, rows: sequences.len(), width, target_rows }
    }
}

fn ints<const D: usize>(
    values: impl IntoIterator<Item = usize>,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D, Int> {
    let values: Vec<i64> = values.into_iter().map(|v| v as i64).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn read(t: Tensor<2>) -> Vec<f32> {
    t.into_data().convert::<f32>().try_to_vec().unwrap_or_else(|e| panic!("tensor cannot be read: {e:?}"))
}

fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<2>, eps: f64) -> Tensor<D> {
    let scale = (x.clone() * x.clone()).mean_dim(D - 1).add_scalar(eps).sqrt().recip();
    let width = x.dims()[D - 1];
    let mut shape = [1; D];
    shape[D - 1] = width;
    x * scale * weight.reshape(shape)
}

/// Cosines and signed sines, `[B, 1, T, head_dim]`, for the position of every slot.
struct Rotation {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Rotation {
    fn new(decoder: &Decoder, positions: &[usize], rows: usize, device: &Device) -> Self {
        let hd = decoder.config().head_dim;
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for p in positions {
            let (c, s) = (decoder.rope().cos(*p), decoder.rope().sin(*p));
            cos.extend(c.iter().chain(c));
            sin.extend(s.iter().map(|x| -x).chain(s.iter().copied()));
        }
        let shape = [rows, 1, positions.len() / rows, hd];
        let make = |v: Vec<f32>| Tensor::from_data(TensorData::new(v, shape), device);
        Self { cos: make(cos), sin: make(sin) }
    }

    fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let swapped = Tensor::cat(vec![x.clone().narrow(3, half, half), x.clone().narrow(3, 0, half)], 3);
        x * self.cos.clone() + swapped * self.sin.clone()
    }
}

impl Model<'_> {
    fn p(&self, index: usize) -> Tensor<2> {
        self.params[index].clone()
    }

    fn linear(&self, x: Tensor<3>, weight: usize, bias: Option<usize>) -> Tensor<3> {
        let y = x.matmul(self.p(weight).transpose().unsqueeze::<3>());
        match bias {
            Some(b) => y + self.p(b).unsqueeze::<3>(),
            None => y,
        }
    }

    /// Query, key and value heads, rotated: `[B, heads, T, head_dim]`.
    fn qkv(&self, x: Tensor<3>, l: &LayerIndex, rotation: &Rotation) -> (Tensor<4>, Tensor<4>, Tensor<4>) {
        let c = self.config;
        let [b, t, _] = x.dims();
        let h = rms_norm(x, self.p(l.input_norm), c.rms_norm_eps);
        let qkv = self.linear(h, l.qkv, l.qkv_bias);
        let part = |first: usize, n: usize| {
            qkv.clone().narrow(2, first * c.head_dim, n * c.head_dim).reshape([b, t, n, c.head_dim])
        };
        let (mut q, mut k) = (part(0, c.num_heads), part(c.num_heads, c.num_kv_heads));
        let v = part(c.num_heads + c.num_kv_heads, c.num_kv_heads).swap_dims(1, 2);
        if let (Some(qn), Some(kn)) = (l.q_norm, l.k_norm) {
            q = rms_norm(q, self.p(qn), c.rms_norm_eps);
            k = rms_norm(k, self.p(kn), c.rms_norm_eps);
        }
        (rotation.apply(q.swap_dims(1, 2)), rotation.apply(k.swap_dims(1, 2)), v)
    }

    /// Attention of `q [B, heads, T, hd]` to `k, v [B, kv_heads, S, hd]`; `dead [·, 1, T, S]` marks what is not seen.
    fn attend(&self, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, dead: &Tensor<4, Bool>) -> Tensor<3> {
        let c = self.config;
        let [b, heads, t, hd] = q.dims();
        let (kv, s) = (k.dims()[1], k.dims()[2]);
        let q = q.reshape([b, kv, heads / kv * t, hd]).mul_scalar(1.0 / (hd as f64).sqrt());
        let scores = q.matmul(k.swap_dims(2, 3)).reshape([b, heads, t, s]);
        let scores = scores.mask_fill(dead.clone().expand([b, heads, t, s]), -1e30);
        let p = activation::softmax(scores, 3).reshape([b, kv, heads / kv * t, s]);
        let o = p.matmul(v).reshape([b, heads, t, hd]);
        o.swap_dims(1, 2).reshape([b, t, c.num_heads * hd])
    }

    fn finish(&self, x: Tensor<3>, attended: Tensor<3>, l: &LayerIndex) -> Tensor<3> {
        let x = x + self.linear(attended, l.o, l.o_bias);
        let h = rms_norm(x.clone(), self.p(l.post_norm), self.config.rms_norm_eps);
        let gate_up = self.linear(h, l.gate_up, None);
        let width = self.config.intermediate_size;
        let act = activation::silu(gate_up.clone().narrow(2, 0, width)) * gate_up.narrow(2, width, width);
        x + self.linear(act, l.down, None)
    }

    /// Residual stream after all blocks, from the embedded tokens.
    fn residual(&self, mut x: Tensor<3>, layers: &[LayerIndex], rotation: &Rotation) -> Tensor<3> {
        let t = x.dims()[1];
        let dead = Tensor::<2, Bool>::tril_mask([t, t], 0, &x.device()).reshape([1, 1, t, t]);
        for l in layers {
            let (q, k, v) = self.qkv(x.clone(), l, rotation);
            let attended = self.attend(q, k, v, &dead);
            x = self.finish(x, attended, l);
        }
        x
    }
}

/// Log-probabilities, entropies and log partition sums of the targets, chunked over rows.
fn head_forward(h: &Tensor<2>, weight: &Tensor<2>, targets: &[u32]) -> TargetStats {
    let [n, d] = h.dims();
    let vocab = weight.dims()[0];
    let step = (CHUNK / vocab).max(1);
    let mut stats = TargetStats::default();
    for first in (0..n).step_by(step) {
        let m = step.min(n - first);
        let logits = h.clone().slice([first..first + m, 0..d]).matmul(weight.clone().transpose());
        let index = ints(targets[first..first + m].iter().map(|t| *t as usize), [m, 1], &h.device());
        let max = logits.clone().max_dim(1);
        let shifted = logits.clone() - max.clone();
        let e = shifted.clone().exp();
        let sum = e.clone().sum_dim(1);
        let entropy = sum.clone().log() - (e * shifted).sum_dim(1) / sum.clone();
        let log_sum = sum.log() + max;
        let logprobs = logits.gather(1, index) - log_sum.clone();
        stats.extend(read(logprobs), read(entropy), read(log_sum));
    }
    stats
}

/// Gradients of the head: `dL/dh` and `dL/dW`.
fn head_backward(
    h: &Tensor<2>,
    weight: &Tensor<2>,
    targets: &[u32],
    stats: &TargetStats,
    g: &TargetGrads,
) -> (Tensor<2>, Tensor<2>) {
    let [n, d] = h.dims();
    let vocab = weight.dims()[0];
    let device = h.device();
    let step = (CHUNK / vocab).max(1);
    let mut dh = Vec::new();
    let mut dw = weight.zeros_like();
    for first in (0..n).step_by(step) {
        let m = step.min(n - first);
        let rows = h.clone().slice([first..first + m, 0..d]);
        let column = |v: &[f32]| {
            Tensor::<2>::from_data(TensorData::new(v[first..first + m].to_vec(), [m, 1]), &device)
        };
        let log_p = rows.clone().matmul(weight.clone().transpose()) - column(stats.log_sum());
        let p = log_p.clone().exp();
        let index = ints(targets[first..first + m].iter().map(|t| *t as usize), [m, 1], &device);
        let by_all = column(&g.logprobs).neg();
        let dl = match &g.entropy {
            None => p * by_all,
            Some(e) => p * (by_all - column(e) * (log_p + column(&stats.entropy))),
        };
        let dl = dl.scatter(1, index, column(&g.logprobs), burn::tensor::IndexingUpdateOp::Add);
        dh.push(dl.clone().matmul(weight.clone()));
        dw = dw + dl.transpose().matmul(rows);
    }
    (Tensor::cat(dh, 0), dw)
}

fn positions(padded: &Padded) -> Vec<usize> {
    (0..padded.rows).flat_map(|_| 0..padded.width).collect()
}

fn embed(table: Tensor<2>, tokens: &[u32], rows: usize, device: &Device) -> Tensor<3> {
    let d = table.dims()[1];
    let index = ints(tokens.iter().map(|t| *t as usize), [tokens.len()], device);
    table.select(0, index).reshape([rows, tokens.len() / rows, d])
}

/// Rows that predict the targets, after the final norm and divided by the temperature.
fn head_input(model: &Model, x: Tensor<3>, norm: usize, rows: &[usize], temperature: f64) -> Tensor<2> {
    let [b, t, d] = x.dims();
    let device = x.device();
    let x = x.reshape([b * t, d]).select(0, ints(rows.iter().copied(), [rows.len()], &device));
    rms_norm(x, model.p(norm), model.config.rms_norm_eps).div_scalar(temperature)
}

/// As [`Decoder::logprobs`].
pub fn logprobs(decoder: &Decoder, batch: &PackedBatch, temperature: f64) -> TargetStats {
    let padded = Padded::new(batch);
    let (layout, device) = (decoder.layout(), decoder.device());
    let model = Model { config: decoder.config(), params: decoder.params().to_vec() };
    let rotation = Rotation::new(decoder, &positions(&padded), padded.rows, device);
    let x = embed(model.p(layout.embed), &padded.tokens, padded.rows, device);
    let x = model.residual(x, &layout.layers, &rotation);
    let h = head_input(&model, x, layout.norm, &padded.target_rows, temperature);
    head_forward(&h, &model.p(layout.head), &batch.targets)
}

/// As [`Decoder::logits`].
pub fn logits(decoder: &Decoder, batch: &PackedBatch) -> Vec<f32> {
    let padded = Padded::new(batch);
    let (layout, device) = (decoder.layout(), decoder.device());
    let model = Model { config: decoder.config(), params: decoder.params().to_vec() };
    let rotation = Rotation::new(decoder, &positions(&padded), padded.rows, device);
    let x = embed(model.p(layout.embed), &padded.tokens, padded.rows, device);
    let x = model.residual(x, &layout.layers, &rotation);
    let all: Vec<usize> = (0..padded.rows * padded.width).collect();
    let h = head_input(&model, x, layout.norm, &all, 1.0);
    read(h.matmul(model.p(layout.head).transpose()))
}

/// As [`Decoder::train`].
pub fn train(
    decoder: &Decoder,
    batch: &PackedBatch,
    temperature: f64,
    loss: &mut dyn FnMut(&TargetStats) -> TargetGrads,
    grads: &mut [Tensor<2>],
) {
    let padded = Padded::new(batch);
    let layout = decoder.layout();
    let device = decoder.device().clone().autodiff();
    let track = |t: Tensor<2>| Tensor::from_inner(t).require_grad();
    let params: Vec<Tensor<2>> = decoder.params().iter().cloned().map(track).collect();
    let model = Model { config: decoder.config(), params };
    let rotation = Rotation::new(decoder, &positions(&padded), padded.rows, &device);
    // The graph is cut after the embedding and before the head: both tables' gradients are added directly.
    let x0 = embed(decoder.params()[layout.embed].clone(), &padded.tokens, padded.rows, decoder.device());
    let x0 = Tensor::from_inner(x0).require_grad();
    let x = model.residual(x0.clone(), &layout.layers, &rotation);
    let h = head_input(&model, x, layout.norm, &padded.target_rows, temperature);
    let weight = decoder.params()[layout.head].clone();
    let inner = h.clone().inner();
    let stats = head_forward(&inner, &weight, &batch.targets);
    let g = loss(&stats);
    g.check(batch.targets.len());
    let (dh, dw) = head_backward(&inner, &weight, &batch.targets, &stats, &g);
    let mut graph = (h * Tensor::from_inner(dh)).sum().backward();
    let mut add = |i: usize, g: Tensor<2>| grads[i] = grads[i].clone() + g;
    for (i, p) in model.params.iter().enumerate() {
        if let Some(g) = p.grad_remove(&mut graph) {
            add(i, g);
        }
    }
    add(layout.head, dw);
    if let Some(dx) = x0.grad_remove(&mut graph) {
        let [b, t, d] = dx.dims();
        let index = ints(padded.tokens.iter().map(|t| *t as usize), [b * t], decoder.device());
        let table = grads[layout.embed].clone();
        grads[layout.embed] =
            table.select_assign(0, index, dx.reshape([b * t, d]), burn::tensor::IndexingUpdateOp::Add);
    }
}

/// One AdamW update of a parameter; its moments are replaced.
pub fn adamw(p: Tensor<2>, [m, v]: &mut [Tensor<2>; 2], g: &Tensor<2>, k: AdamWStep) -> Tensor<2> {
    let g = g.clone() * k.clip;
    *m = m.clone() * k.betas[0] + g.clone() * (1.0 - k.betas[0]);
    *v = v.clone() * k.betas[1] + g.square() * (1.0 - k.betas[1]);
    let root = v.clone().sqrt() * k.root_scale + k.eps;
    p * k.decay - m.clone() / root * k.step_size
}

/// Keys and values on a device: one preallocated `[B, kv_heads, capacity, head_dim]` tensor a layer.
#[derive(Debug, Clone)]
pub struct DeviceCache {
    k: Vec<Option<Tensor<4>>>,
    v: Vec<Option<Tensor<4>>>,
    len: usize,
    starts: Vec<usize>,
}

impl DeviceCache {
    /// An empty cache.
    pub fn new(decoder: &Decoder, starts: &[usize], capacity: usize) -> Self {
        let c = decoder.config();
        let shape = [starts.len(), c.num_kv_heads, capacity, c.head_dim];
        let zeros = || (0..c.num_layers).map(|_| Some(Tensor::zeros(shape, decoder.device()))).collect();
        Self { k: zeros(), v: zeros(), len: 0, starts: starts.to_vec() }
    }

    /// Feeds `[rows, new]` tokens, returns the logits that follow, `[rows, vocab]`.
    pub fn decode(&mut self, decoder: &Decoder, tokens: &[u32]) -> Vec<f32> {
        let (layout, device) = (decoder.layout(), decoder.device());
        let model = Model { config: decoder.config(), params: decoder.params().to_vec() };
        let b = self.starts.len();
        let t = tokens.len() / b;
        let (first, end) = (self.len, self.len + t);
        let slots = |start: &usize| (first..end).map(|s| s.saturating_sub(*start)).collect::<Vec<_>>();
        let positions: Vec<usize> = self.starts.iter().flat_map(slots).collect();
        let rotation = Rotation::new(decoder, &positions, b, device);
        // Padding queries see themselves, so that no row of scores is empty.
        let dead: Vec<bool> = (self.starts.iter())
            .flat_map(|start| {
                (first..end).flat_map(move |q| (0..end).map(move |k| k > q || (k < *start && k != q)))
            })
            .collect();
        let dead = Tensor::<4, Bool>::from_data(TensorData::new(dead, [b, 1, t, end]), device);
        let mut x = embed(model.p(layout.embed), tokens, b, device);
        for (i, l) in layout.layers.iter().enumerate() {
            let (q, k, v) = model.qkv(x.clone(), l, &rotation);
            let k = append(&mut self.k[i], k, first);
            let v = append(&mut self.v[i], v, first);
            let attended = model.attend(q, k, v, &dead);
            x = model.finish(x, attended, l);
        }
        self.len = end;
        let last: Vec<usize> = (0..b).map(|r| r * t + t - 1).collect();
        let h = head_input(&model, x, layout.norm, &last, 1.0);
        read(h.matmul(model.p(layout.head).transpose()))
    }

    /// Picks rows, possibly several times, into a cache of another capacity.
    pub fn select_rows(self, decoder: &Decoder, indices: &[usize], capacity: usize) -> Self {
        let device = decoder.device();
        let index = ints(indices.iter().copied(), [indices.len()], device);
        let pick = |t: Option<Tensor<4>>| {
            t.map(|t| {
                let [_, heads, old, hd] = t.dims();
                let t = t.select(0, index.clone());
                if capacity == old {
                    return t;
                }
                let kept = t.narrow(2, 0, self.len);
                let all = Tensor::zeros([indices.len(), heads, capacity, hd], device);
                all.slice_assign([0..indices.len(), 0..heads, 0..self.len, 0..hd], kept)
            })
        };
        let starts = indices.iter().map(|i| self.starts[*i]).collect();
        Self {
            k: self.k.into_iter().map(&pick).collect(),
            v: self.v.into_iter().map(&pick).collect(),
            len: self.len,
            starts,
        }
    }

    /// The rows of both, each moved so that it ends in slot `filled`; `starts` are where they begin then.
    pub fn append_rows(
        self,
        decoder: &Decoder,
        other: Self,
        starts: &[usize],
        filled: usize,
        capacity: usize,
    ) -> Self {
        let device = decoder.device();
        // The last `filled` slots of a part, or all of them at the end of `filled`: keys are turned by their position in
        // the row, so they may move.
        let place = |all: Tensor<4>, first: usize, part: &Tensor<4>, len: usize| {
            let [rows, heads, _, hd] = part.dims();
            let kept = len.min(filled);
            let slots = part.clone().narrow(2, len - kept, kept);
            all.slice_assign([first..first + rows, 0..heads, filled - kept..filled, 0..hd], slots)
        };
        let join = |a: Option<Tensor<4>>, b: Option<Tensor<4>>| {
            let (a, b) = (a?, b?);
            let [rows, heads, _, hd] = a.dims();
            let all = Tensor::zeros([starts.len(), heads, capacity, hd], device);
            Some(place(place(all, 0, &a, self.len), rows, &b, other.len))
        };
        let k = self.k.into_iter().zip(other.k).map(|(a, b)| join(a, b)).collect();
        let v = self.v.into_iter().zip(other.v).map(|(a, b)| join(a, b)).collect();
        Self { k, v, len: filled, starts: starts.to_vec() }
    }
}

/// Writes `new` behind slot `first` (in place where the tensor is not shared) and returns everything up to there.
fn append(cache: &mut Option<Tensor<4>>, new: Tensor<4>, first: usize) -> Tensor<4> {
    let [b, heads, t, hd] = new.dims();
    let Some(full) = cache.take() else { panic!("the cache was taken") };
    let full = full.slice_assign([0..b, 0..heads, first..first + t, 0..hd], new);
    let seen = full.clone().narrow(2, 0, first + t);
    *cache = Some(full);
    seen
}
