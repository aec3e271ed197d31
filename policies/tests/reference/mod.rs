//! The decoder built from burn's operations and autodiff on the CPU, with nothing that is written by hand: the reference
//! that kernels are tested against. Of what a block can be it knows what Llama, Qwen2 and Qwen3 are.
//!
//! Completions are right-padded rows `[B, T]`, each with its own copy of the prompt; the causal mask keeps padding out.
#![allow(dead_code)] // Not every test needs all of it.
use burn::tensor::{Bool, Device, Int, Tensor, TensorData, activation};
use rlvr_policies::Decoder;
use rlvr_policies::config::ModelConfig;
use rlvr_policies::packed::{PackedBatch, PromptGroup};
use rlvr_policies::spec::{Block, Linear, Mlp, Norm, QkNorms};
use rlvr_policies::targets::TargetGrads;

struct Model<'a> {
    decoder: &'a Decoder,
    params: Vec<Tensor<2>>,
    device: Device,
}

/// A padded batch and, for each target, its flat index in `[B · T]`.
struct Padded {
    tokens: Vec<usize>,
    rows: usize,
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
        let mut tokens = vec![0; sequences.len() * width];
        let mut target_rows = Vec::new();
        for (i, (s, t)) in sequences.iter().zip(&targets).enumerate() {
            tokens[i * width..].iter_mut().zip(s).for_each(|(to, id)| *to = *id as usize);
            target_rows.extend(t.iter().map(|p| i * width + p));
        }
        Self { tokens, rows: sequences.len(), target_rows }
    }
}

fn ints<const D: usize>(values: &[usize], shape: [usize; D], device: &Device) -> Tensor<D, Int> {
    let values: Vec<i64> = values.iter().map(|v| *v as i64).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn read<const D: usize>(t: Tensor<D>) -> Vec<f32> {
    t.into_data().convert::<f32>().try_to_vec().unwrap()
}

fn column(values: &[f32], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len(), 1]), device)
}

/// Cosines and signed sines, `[1, 1, T, head_dim]`.
struct Rotation {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Rotation {
    fn new(c: &ModelConfig, width: usize, device: &Device) -> Self {
        let (factor, frequencies) = (c.rope_attention_factor(), c.rope_inv_freq());
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for p in 0..width {
            let angles = || frequencies.iter().map(|f| f64::from(p as f32 * f));
            let (c, s): (Vec<f32>, Vec<f32>) =
                angles().map(|a| (a.cos() as f32 * factor, a.sin() as f32 * factor)).unzip();
            cos.extend(c.iter().chain(&c));
            sin.extend(s.iter().map(|x| -x).chain(s.iter().copied()));
        }
        let make = |v: Vec<f32>| Tensor::from_data(TensorData::new(v, [1, 1, width, c.head_dim]), device);
        Self { cos: make(cos), sin: make(sin) }
    }

    fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let swapped = Tensor::cat(vec![x.clone().narrow(3, half, half), x.clone().narrow(3, 0, half)], 3);
        x * self.cos.clone() + swapped * self.sin.clone()
    }
}

impl<'a> Model<'a> {
    fn new(decoder: &'a Decoder, track: bool) -> Self {
        let device = decoder.device().clone();
        if !track {
            return Self { decoder, params: decoder.params().to_vec(), device };
        }
        let params = decoder.params().iter().cloned();
        let params = params.map(|p| Tensor::from_inner(p).require_grad()).collect();
        Self { decoder, params, device: device.autodiff() }
    }

    fn p(&self, index: usize) -> Tensor<2> {
        self.params[index].clone()
    }

    fn linear(&self, x: Tensor<3>, l: &Linear) -> Tensor<3> {
        let y = x.matmul(self.p(l.weight).transpose().unsqueeze::<3>());
        match l.bias {
            Some(b) => y + self.p(b).unsqueeze::<3>(),
            None => y,
        }
    }

    fn norm<const D: usize>(&self, x: Tensor<D>, n: &Norm) -> Tensor<D> {
        let squares = (x.clone() * x.clone()).mean_dim(D - 1);
        let scale = squares.add_scalar(f64::from(n.eps)).sqrt().recip();
        let mut shape = [1; D];
        shape[D - 1] = x.dims()[D - 1];
        x * scale * self.p(n.weight).reshape(shape)
    }

    fn attention(&self, x: Tensor<3>, block: &Block, rotation: &Rotation) -> Tensor<3> {
        let (a, [b, t, _]) = (&block.attention, x.dims());
        let (heads, kv, hd) = (a.heads.heads, a.heads.kv_heads, a.heads.head_dim);
        let h = self.norm(x, block.attention_in.as_ref().unwrap());
        let qkv = self.linear(h, &a.qkv);
        let part = |first: usize, n: usize| qkv.clone().narrow(2, first * hd, n * hd).reshape([b, t, n, hd]);
        let (mut q, mut k) = (part(0, heads), part(heads, kv));
        if let QkNorms::Head { q: qn, k: kn } = &a.norms {
            (q, k) = (self.norm(q, qn), self.norm(k, kn));
        }
        let (q, k) = (rotation.apply(q.swap_dims(1, 2)), rotation.apply(k.swap_dims(1, 2)));
        let v = part(heads + kv, kv).swap_dims(1, 2);
        let group = heads / kv;
        let q = q.reshape([b, kv, group * t, hd]).mul_scalar(1.0 / (hd as f64).sqrt());
        let scores = q.matmul(k.swap_dims(2, 3)).reshape([b, heads, t, t]);
        let dead = Tensor::<2, Bool>::tril_mask([t, t], 0, &self.device).reshape([1, 1, t, t]);
        let scores = scores.mask_fill(dead.expand([b, heads, t, t]), -1e30);
        let p = activation::softmax(scores, 3).reshape([b, kv, group * t, t]);
        let o = p.matmul(v).reshape([b, heads, t, hd]);
        self.linear(o.swap_dims(1, 2).reshape([b, t, heads * hd]), &a.out)
    }

    fn block(&self, x: Tensor<3>, block: &Block, rotation: &Rotation) -> Tensor<3> {
        let x = x.clone() + self.attention(x, block, rotation);
        let Mlp::Gated(mlp) = &block.mlp else { panic!("experts") };
        let h = self.norm(x.clone(), block.mlp_in.as_ref().unwrap());
        let gate_up = self.linear(h, &mlp.gate_up);
        let width = gate_up.dims()[2] / 2;
        let act = activation::silu(gate_up.clone().narrow(2, 0, width)) * gate_up.narrow(2, width, width);
        x + self.linear(act, &mlp.down)
    }

    /// Logits of these rows of the padded batch, divided by the temperature.
    fn logits(&self, padded: &Padded, rows: &[usize], temperature: f64) -> Tensor<2> {
        let model = &self.decoder.layout().model;
        let (b, d) = (padded.rows, model.hidden);
        let t = padded.tokens.len() / b;
        let ids = ints(&padded.tokens, [b * t], &self.device);
        let mut x = self.p(model.embed.table).select(0, ids).reshape([b, t, d]);
        let rotation = Rotation::new(self.decoder.config(), t, &self.device);
        for block in &model.blocks {
            x = self.block(x, block, &rotation);
        }
        let picked = x.reshape([b * t, d]).select(0, ints(rows, [rows.len()], &self.device));
        let h = self.norm(picked, &model.norm).div_scalar(temperature);
        h.matmul(self.p(model.head.weight).transpose())
    }

    /// Log-probabilities and entropies of targets, `[targets, 1]` each.
    fn targets(&self, batch: &PackedBatch, temperature: f64) -> [Tensor<2>; 2] {
        let padded = Padded::new(batch);
        let log_p = activation::log_softmax(self.logits(&padded, &padded.target_rows, temperature), 1);
        let targets: Vec<usize> = batch.targets.iter().map(|t| *t as usize).collect();
        let index = ints(&targets, [targets.len(), 1], &self.device);
        let entropy = (log_p.clone().exp() * log_p.clone()).sum_dim(1).neg();
        [log_p.gather(1, index), entropy]
    }
}

/// Logits of every position of a sequence, `[tokens, vocab]`.
pub fn logits(decoder: &Decoder, tokens: &[u32]) -> Vec<f32> {
    let padded = Padded::new(&PackedBatch::new(&[PromptGroup { prompt: tokens, completions: vec![] }]));
    let rows: Vec<usize> = (0..tokens.len()).collect();
    read(Model::new(decoder, false).logits(&padded, &rows, 1.0))
}

/// Log-probabilities and entropies of a batch's targets.
pub fn logprobs(decoder: &Decoder, batch: &PackedBatch, temperature: f64) -> [Vec<f32>; 2] {
    Model::new(decoder, false).targets(batch, temperature).map(read)
}

/// Log-probabilities, and the gradients of the parameters for gradients `g` of log-probabilities and entropies.
pub fn gradients(
    decoder: &Decoder,
    batch: &PackedBatch,
    temperature: f64,
    g: impl FnOnce(&[f32]) -> TargetGrads,
) -> (Vec<f32>, Vec<Vec<f32>>) {
    let model = Model::new(decoder, true);
    let [logprobs, entropy] = model.targets(batch, temperature);
    let values = read(logprobs.clone().inner());
    let g = g(&values);
    let mut loss = (logprobs * column(&g.logprobs, &model.device)).sum();
    if let Some(e) = &g.entropy {
        loss = loss + (entropy * column(e, &model.device)).sum();
    }
    let mut graph = loss.backward();
    let grads = model.params.iter().map(|p| p.grad_remove(&mut graph).map_or_else(Vec::new, read)).collect();
    (values, grads)
}
