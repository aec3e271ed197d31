//! Keys and values on the host: a prompt's are shared by all its rows, each row owns only what it has generated.
use super::attention::Context;
use super::simd::{LANES, dot, exp, multiversion, tanh};
use crate::spec::Heads;
use std::ops::Range;
use std::sync::Arc;

/// Keys and values of a prompt, `[layer][kv head][token][head_dim]`.
#[derive(Debug)]
pub struct PromptKv {
    len: usize,
    /// The position of the token behind the prompt.
    next: usize,
    kv_heads: usize,
    head_dim: usize,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl PromptKv {
    /// Room for a prompt of `len` tokens, behind which the position is `next`.
    pub fn new(heads: &Heads, layers: usize, len: usize, next: usize) -> Self {
        let size = layers * heads.kv_heads * len * heads.head_dim;
        Self {
            len,
            next,
            kv_heads: heads.kv_heads,
            head_dim: heads.head_dim,
            k: vec![0.0; size],
            v: vec![0.0; size],
        }
    }

    /// Tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for no tokens.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Stores one layer from the fused projections of the prompt's rows, which have these positions in their batch.
    pub fn fill(&mut self, layer: usize, ctx: &Context, qkv: &[f32], positions: &[u32], rows: Range<usize>) {
        let (hd, width) = (self.head_dim, ctx.heads.qkv_width());
        for head in 0..self.kv_heads {
            let base = (layer * self.kv_heads + head) * self.len;
            for (t, row) in rows.clone().enumerate() {
                let x = &qkv[row * width..(row + 1) * width];
                let at = (base + t) * hd..(base + t + 1) * hd;
                ctx.key(&x[ctx.heads.k(head)], positions[row] as usize, &mut self.k[at.clone()]);
                self.v[at].copy_from_slice(&x[ctx.heads.v(head)]);
            }
        }
    }
}

/// Tokens that a row first makes room for.
const SMALLEST_ROOM: usize = 16;

/// Keys and values of one row: its prompt's and its own.
#[derive(Debug, Clone)]
pub struct RowKv {
    prompt: Arc<PromptKv>,
    len: usize,
    capacity: usize,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl RowKv {
    /// A row behind a prompt with room for `capacity` tokens of its own.
    pub fn new(prompt: Arc<PromptKv>, layers: usize, capacity: usize) -> Self {
        let size = layers * prompt.kv_heads * capacity * prompt.head_dim;
        Self { prompt, len: 0, capacity, k: vec![0.0; size], v: vec![0.0; size] }
    }

    /// Prompt and own tokens.
    pub fn len(&self) -> usize {
        self.prompt.len + self.len
    }

    /// True before any token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes room for the next token if there is none, for half as many again as there are and at most `most` further ones:
    /// a row that ends early never takes what a long one needs.
    pub fn make_room(&mut self, layers: usize, most: usize) {
        if self.len < self.capacity {
            return;
        }
        let capacity = self.len + (self.len / 2).max(SMALLEST_ROOM).min(most.max(1));
        let (hd, heads) = (self.prompt.head_dim, self.prompt.kv_heads);
        let mut grown = Self::new(self.prompt.clone(), layers, capacity);
        grown.len = self.len;
        for i in 0..layers * heads {
            let (from, to) = (i * self.capacity * hd, i * capacity * hd);
            let n = self.len * hd;
            grown.k[to..to + n].copy_from_slice(&self.k[from..from + n]);
            grown.v[to..to + n].copy_from_slice(&self.v[from..from + n]);
        }
        *self = grown;
    }

    /// Counts the token that all layers have now stored.
    pub fn advance(&mut self) {
        self.len += 1;
    }
}

multiversion! {
    /// Attention of one query to two runs of keys and values (prompt, own), the scores bounded by `cap` if there is one.
    fn attend(
        q: &[f32],
        k: [&[f32]; 2],
        v: [&[f32]; 2],
        cap: Option<f32>,
        scores: &mut [f32],
        out: &mut [f32],
    ) {
        let hd = q.len();
        let split = k[0].len() / hd;
        for (run, scores) in k.iter().zip({ let (a, b) = scores.split_at_mut(split); [a, b] }) {
            for (k, s) in run.chunks_exact(hd).zip(scores) {
                *s = dot(q, k);
            }
        }
        if let Some(cap) = cap {
            for s in scores.iter_mut() {
                *s = cap * tanh(*s / cap);
            }
        }
        let mut max = f32::NEG_INFINITY;
        for s in scores.iter() {
            max = max.max(*s);
        }
        let mut sum = 0f32;
        for s in scores.iter_mut() {
            *s = exp(*s - max);
        }
        for s in scores.iter() {
            sum += *s;
        }
        let r = 1.0 / sum;
        let (blocks, rest) = out.as_chunks_mut::<LANES>();
        for (i, out) in blocks.iter_mut().enumerate() {
            let mut acc = [0f32; LANES];
            let mut s = scores.iter();
            for run in v {
                for (v, s) in run.chunks_exact(hd).zip(&mut s) {
                    if let Some(v) = v[i * LANES..].first_chunk::<LANES>() {
                        for l in 0..LANES {
                            acc[l] += *s * v[l];
                        }
                    }
                }
            }
            *out = acc.map(|x| x * r);
        }
        let first = hd - rest.len();
        for (l, out) in rest.iter_mut().enumerate() {
            let values = v[0].chunks_exact(hd).chain(v[1].chunks_exact(hd));
            *out = r * scores.iter().zip(values).fold(0.0, |sum, (s, v)| sum + *s * v[first + l]);
        }
    }
}

/// Stores the new token's key and value of one layer and attends to everything up to it.
///
/// # Shapes
/// qkv `[qkv_width]`, out `[heads · head_dim]`.
///
/// # Panics
/// If the row is full.
pub fn attend_row(ctx: &Context, layer: usize, qkv: &[f32], row: &mut RowKv, out: &mut [f32]) {
    assert!(row.len < row.capacity, "row is full at {} tokens", row.capacity);
    let heads = ctx.heads;
    let hd = heads.head_dim;
    let (slots, position) = (row.len(), row.prompt.next + row.len);
    // What has left the window: of the prompt, then of the row's own tokens.
    let gone = (slots + 1).saturating_sub(ctx.window);
    let gone = [gone.min(row.prompt.len) * hd, gone.saturating_sub(row.prompt.len) * hd];
    let mut scores = vec![0f32; (slots + 1).min(ctx.window)];
    let mut q = vec![0f32; hd];
    for kv in 0..heads.kv_heads {
        let own = (layer * heads.kv_heads + kv) * row.capacity * hd;
        let slot = own + row.len * hd..own + (row.len + 1) * hd;
        ctx.key(&qkv[heads.k(kv)], position, &mut row.k[slot.clone()]);
        row.v[slot.clone()].copy_from_slice(&qkv[heads.v(kv)]);
        let base = (layer * heads.kv_heads + kv) * row.prompt.len * hd;
        let prompt = base..base + row.prompt.len * hd;
        let k = [&row.prompt.k[prompt.clone()][gone[0]..], &row.k[own..slot.end][gone[1]..]];
        let v = [&row.prompt.v[prompt][gone[0]..], &row.v[own..slot.end][gone[1]..]];
        for head in kv * heads.group()..(kv + 1) * heads.group() {
            ctx.query(&qkv[heads.q(head)], position, &mut q);
            attend(&q, k, v, ctx.cap, &mut scores, &mut out[heads.q(head)]);
        }
    }
}
