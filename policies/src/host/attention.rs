//! Causal grouped-query attention over packed rows, forward and backward, with rotary embedding and optional q/k norm
//! inside. Scores live in blocks of a few queries of all heads that share a key/value head, so no `T × T` matrix is kept.
use super::gemm::{Mat, Operands, Panels, Write, product_serial};
use super::norm::{norm_row, norm_row_backward};
use super::rope::RopeTable;
use super::simd::{LANES, dot, exp, multiversion, reduce, tanh};
use crate::packed::PackedBatch;
use crate::spec::Heads;
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;

/// Rows of a block of scores: queries times the heads that share a key/value head.
const ROWS: usize = 192;

/// What attention needs besides the rows.
#[derive(Clone)]
pub struct Context<'a> {
    /// Shape.
    pub heads: Heads,
    /// Rotary table; none where positions turn nothing.
    pub rope: Option<&'a RopeTable>,
    /// Norms of every head of queries and keys.
    pub norms: Option<HeadNorms<'a>>,
    /// Factor of the scores.
    pub scale: f32,
    /// Tokens that a query sees, itself included.
    pub window: usize,
    /// Bound of the scores.
    pub cap: Option<f32>,
}

/// Factors of the norms of every head, `[head_dim]` each, and their ε.
#[derive(Clone)]
pub struct HeadNorms<'a> {
    /// Of queries.
    pub q: Cow<'a, [f32]>,
    /// Of keys.
    pub k: Cow<'a, [f32]>,
    /// ε.
    pub eps: f32,
}

/// Factors and ε of one of the two.
type HeadNorm<'a> = Option<(&'a [f32], f32)>;

impl Context<'_> {
    fn q_norm(&self) -> HeadNorm<'_> {
        self.norms.as_ref().map(|n| (&*n.q, n.eps))
    }
    fn k_norm(&self) -> HeadNorm<'_> {
        self.norms.as_ref().map(|n| (&*n.k, n.eps))
    }
    /// Normalised (if the model does so), rotated and scaled query.
    #[inline]
    pub fn query(&self, x: &[f32], position: usize, out: &mut [f32]) {
        self.place(x, self.q_norm(), position, self.scale, out);
    }
    /// Normalised (if the model does so) and rotated key.
    #[inline]
    pub fn key(&self, x: &[f32], position: usize, out: &mut [f32]) {
        self.place(x, self.k_norm(), position, 1.0, out);
    }

    #[inline]
    fn place(&self, x: &[f32], norm: HeadNorm, position: usize, scale: f32, out: &mut [f32]) {
        match norm {
            Some((w, eps)) => norm_row(x, w, eps, out),
            None => out.copy_from_slice(x),
        }
        match self.rope {
            Some(rope) => rope.rotate(out, position, scale),
            None => out.iter_mut().for_each(|x| *x *= scale),
        }
    }

    /// Turns the gradient `grad` of what [`Self::place`] made of `x` into that of `x`, and adds the norm's to `dw`.
    #[inline]
    #[allow(clippy::too_many_arguments)]
    fn unplace(
        &self,
        x: &[f32],
        norm: HeadNorm,
        position: usize,
        scale: f32,
        grad: &mut [f32],
        dx: &mut [f32],
        dw: &mut [f32],
    ) {
        match self.rope {
            Some(rope) => rope.rotate_back(grad, position, scale),
            None => grad.iter_mut().for_each(|x| *x *= scale),
        }
        match norm {
            Some((w, eps)) => {
                dx.fill(0.0);
                norm_row_backward(x, w, eps, grad, dx, dw);
            }
            None => dx.copy_from_slice(grad),
        }
    }
}

/// Output rows written by tasks that own disjoint column ranges.
#[derive(Clone, Copy)]
struct Columns(*mut f32, usize);
// SAFETY: every task writes its own head's columns and its own rows only.
unsafe impl Send for Columns {}
// SAFETY: as above.
unsafe impl Sync for Columns {}
impl Columns {
    /// # Safety
    /// `row`, `columns` inside the matrix, and no other reference to these elements.
    #[allow(clippy::mut_from_ref)]
    unsafe fn get(&self, row: usize, columns: Range<usize>) -> &mut [f32] {
        // SAFETY: the caller's contract.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(row * self.1 + columns.start), columns.len()) }
    }
}

multiversion! {
    /// Softmax of what is seen of `scores[r][..=first + r]`, the last `window` of it, zero elsewhere; `width` is the row
    /// stride.
    fn causal_softmax(scores: &mut [f32], width: usize, first: usize, window: usize) {
        for (r, row) in scores.chunks_mut(width).enumerate() {
            let (live, dead) = row.split_at_mut(first + r + 1);
            let (gone, live) = live.split_at_mut((first + r + 1).saturating_sub(window));
            gone.fill(0.0);
            softmax_row(live);
            dead.fill(0.0);
        }
    }
}

multiversion! {
    /// `s` becomes `cap · tanh(s / cap)`.
    fn cap_scores(scores: &mut [f32], cap: f32) {
        for s in scores {
            *s = cap * tanh(*s / cap);
        }
    }
}

multiversion! {
    /// Multiplies gradients by the slope of [`cap_scores`] where it gave `capped`.
    fn cap_scores_backward(d: &mut [f32], capped: &[f32], cap: f32) {
        for (d, s) in d.iter_mut().zip(capped) {
            let t = *s / cap;
            *d *= 1.0 - t * t;
        }
    }
}

/// Softmax in place.
#[inline(always)]
fn softmax_row(row: &mut [f32]) {
    let mut top = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for c in chunks {
        for l in 0..LANES {
            top[l] = top[l].max(c[l]);
        }
    }
    let max = top.iter().chain(rest).fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    let mut acc = [0f32; LANES];
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    for c in chunks {
        for l in 0..LANES {
            c[l] = exp(c[l] - max);
            acc[l] += c[l];
        }
    }
    let mut sum = reduce(acc);
    for x in rest {
        *x = exp(*x - max);
        sum += *x;
    }
    let r = 1.0 / sum;
    for x in row {
        *x *= r;
    }
}

multiversion! {
    /// `ds = p · (dp − Σ p·dp)` in place of `dp`, row by row.
    fn softmax_backward(p: &[f32], dp: &mut [f32], width: usize) {
        for (p, dp) in p.chunks(width).zip(dp.chunks_mut(width)) {
            let delta = dot(p, dp);
            for (dp, p) in dp.iter_mut().zip(p) {
                *dp = *p * (*dp - delta);
            }
        }
    }
}

/// Rows that attend: those of a prompt, or of a completion behind its prompt.
struct Segment<'a> {
    prompt: &'a Range<usize>,
    rows: Range<usize>,
    /// Rows before it that it sees: none or those of the prompt.
    prefix: usize,
    /// Which key/value head.
    kv: usize,
}

/// All that is to be done, the prompt first in what shares one and a key/value head; and the places of each of these.
fn segments<'a>(batch: &'a PackedBatch, heads: &Heads) -> (Vec<Segment<'a>>, Vec<Range<usize>>) {
    let (mut all, mut shared) = (Vec::new(), Vec::new());
    for group in &batch.groups {
        for kv in 0..heads.kv_heads {
            let (first, prompt) = (all.len(), &group.prompt);
            all.push(Segment { prompt, rows: prompt.clone(), prefix: 0, kv });
            let own = |rows: &Range<usize>| Segment { prompt, rows: rows.clone(), prefix: prompt.len(), kv };
            all.extend(group.completions.iter().map(own));
            shared.push(first..all.len());
        }
    }
    (all, shared)
}

impl Segment<'_> {
    /// Keys that its last row sees.
    fn total(&self) -> usize {
        self.prefix + self.rows.len()
    }

    /// Placed keys, and values, prompt first.
    fn gather(&self, ctx: &Context, batch: &PackedBatch, qkv: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (hd, width) = (ctx.heads.head_dim, ctx.heads.qkv_width());
        let (mut k, mut v) = (vec![0.0; self.total() * hd], vec![0.0; self.total() * hd]);
        let rows = self.prompt.clone().take(self.prefix).chain(self.rows.clone());
        for ((row, k), v) in rows.zip(k.chunks_mut(hd)).zip(v.chunks_mut(hd)) {
            let x = &qkv[row * width..(row + 1) * width];
            ctx.key(&x[ctx.heads.k(self.kv)], batch.positions[row] as usize, k);
            v.copy_from_slice(&x[ctx.heads.v(self.kv)]);
        }
        (k, v)
    }
}

/// Queries of a block, for a number of heads that share a key/value head.
fn block_len(group: usize) -> usize {
    (ROWS / group).clamp(16, 64)
}

/// Blocks of at most `most` queries out of a range.
fn blocks(range: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    range.clone().step_by(most).map(move |i| i..(i + most).min(range.end))
}

/// Blocks that one task does one after the other.
const STRIP: usize = 8;

/// The queries of a segment in strips of a few blocks each, which depend on its length only.
fn strips(segment: &Segment, most: usize) -> Vec<Range<usize>> {
    blocks(0..segment.rows.len(), STRIP * most).collect()
}

/// Causal attention of every row to its prompt and the earlier rows of its completion.
///
/// # Shapes
/// qkv `[rows, qkv_width]`, out `[rows, heads · head_dim]`.
pub fn forward(ctx: &Context, batch: &PackedBatch, qkv: &[f32], out: &mut [f32]) {
    let hd = ctx.heads.head_dim;
    let out = Columns(out.as_mut_ptr(), ctx.heads.out_width());
    let most = block_len(ctx.heads.group());
    segments(batch, &ctx.heads).0.par_iter().for_each(|segment| {
        let (k, v) = segment.gather(ctx, batch, qkv);
        let keys_t = Panels::new(Operands::F32, segment.total(), hd, Mat::rows(&k, hd).t());
        let values = Panels::new(Operands::F32, hd, segment.total(), Mat::rows(&v, hd));
        strips(segment, most).into_par_iter().for_each(|strip| {
            strip_forward(ctx, batch, (segment, strip), qkv, (&keys_t, &values), out);
        });
    });
}

fn strip_forward(
    ctx: &Context,
    batch: &PackedBatch,
    (segment, strip): (&Segment, Range<usize>),
    qkv: &[f32],
    (keys_t, values): (&Panels, &Panels),
    out: Columns,
) {
    let (heads, hd, width) = (ctx.heads, ctx.heads.head_dim, ctx.heads.qkv_width());
    let (g, most) = (heads.group(), block_len(heads.group()).min(strip.len()));
    let (mut q, mut o) = (vec![0f32; most * g * hd], vec![0f32; most * g * hd]);
    let mut scores = vec![0f32; most * g * (segment.prefix + strip.end)];
    for block in blocks(strip, most) {
        let (n, keys) = (block.len(), segment.prefix + block.end);
        for (i, (head, t)) in stacked(&heads, segment.kv, &block).enumerate() {
            let row = segment.rows.start + t;
            let x = &qkv[row * width..(row + 1) * width][heads.q(head)];
            ctx.query(x, batch.positions[row] as usize, &mut q[i * hd..(i + 1) * hd]);
        }
        let s = &mut scores[..g * n * keys];
        keys_t.product_of_part(g * n, keys, hd, Mat::rows(&q, hd), s, Write::Set);
        if let Some(cap) = ctx.cap {
            cap_scores(s, cap);
        }
        for s in s.chunks_mut(n * keys) {
            causal_softmax(s, keys, segment.prefix + block.start, ctx.window);
        }
        values.product_of_part(g * n, hd, keys, Mat::rows(s, keys), &mut o, Write::Set);
        for (i, (head, t)) in stacked(&heads, segment.kv, &block).enumerate() {
            // SAFETY: this task alone writes this head's columns of these rows.
            let to = unsafe { out.get(segment.rows.start + t, heads.q(head)) };
            to.copy_from_slice(&o[i * hd..(i + 1) * hd]);
        }
    }
}

/// The rows of a block of scores: the queries of one head after the other.
fn stacked<'a>(
    heads: &Heads,
    kv: usize,
    block: &'a Range<usize>,
) -> impl Iterator<Item = (usize, usize)> + use<'a> {
    let group = heads.group();
    (kv * group..(kv + 1) * group).flat_map(move |head| block.clone().map(move |t| (head, t)))
}

/// Gradients of the placed keys and the values that a segment sees, `[keys, head_dim]` each, and of the norms of queries and
/// keys, `[head_dim]` each.
struct KeyGrads {
    dk: Vec<f32>,
    dv: Vec<f32>,
    q_norm: Vec<f32>,
    k_norm: Vec<f32>,
}

/// Adds the front of `more` that `sum` has.
fn add_to(sum: &mut [f32], more: &[f32]) {
    sum.iter_mut().zip(more).for_each(|(a, b)| *a += b);
}

impl KeyGrads {
    fn zeros(keys: usize, head_dim: usize) -> Self {
        let (of_keys, of_norm) = (|| vec![0.0; keys * head_dim], || vec![0.0; head_dim]);
        Self { dk: of_keys(), dv: of_keys(), q_norm: of_norm(), k_norm: of_norm() }
    }

    /// Adds what is of the keys that this has.
    fn add(&mut self, more: &Self) {
        let pairs = [
            (&mut self.dk, &more.dk),
            (&mut self.dv, &more.dv),
            (&mut self.q_norm, &more.q_norm),
            (&mut self.k_norm, &more.k_norm),
        ];
        pairs.into_iter().for_each(|(sum, more)| add_to(sum, more));
    }
}

/// Backward of [`forward`]: overwrites `d_qkv`, returns the gradients of the q and k norms (`[head_dim]` each; zeros
/// without norms). Probabilities are recomputed. What strips and completions give to the same keys is added in their order.
///
/// # Shapes
/// qkv, d_qkv `[rows, qkv_width]`, d_out `[rows, heads · head_dim]`.
pub fn backward(
    ctx: &Context,
    batch: &PackedBatch,
    qkv: &[f32],
    d_out: &[f32],
    d_qkv: &mut [f32],
) -> (Vec<f32>, Vec<f32>) {
    let hd = ctx.heads.head_dim;
    let d_qkv = Columns(d_qkv.as_mut_ptr(), ctx.heads.qkv_width());
    let (segments, shared) = segments(batch, &ctx.heads);
    let parts: Vec<KeyGrads> = segments
        .par_iter()
        .map(|segment| {
            let mut grads = segment_backward(ctx, batch, segment, qkv, d_out, d_qkv);
            if segment.prefix > 0 {
                // Nobody else sees these keys.
                let own = segment.prefix * hd;
                let (dk, dv) = (grads.dk.split_off(own), grads.dv.split_off(own));
                key_gradients(ctx, batch, segment, qkv, (dk, &dv), &mut grads.k_norm, d_qkv);
            }
            grads
        })
        .collect();
    let of_prompts: Vec<KeyGrads> = shared
        .into_par_iter()
        .map(|places| {
            let prompt = &segments[places.start];
            let mut sum = KeyGrads::zeros(prompt.total(), hd);
            parts[places].iter().for_each(|part| sum.add(part));
            let dk = std::mem::take(&mut sum.dk);
            key_gradients(ctx, batch, prompt, qkv, (dk, &sum.dv), &mut sum.k_norm, d_qkv);
            sum
        })
        .collect();
    let mut norms = KeyGrads::zeros(0, hd);
    of_prompts.iter().for_each(|sum| norms.add(sum));
    (norms.q_norm, norms.k_norm)
}

fn segment_backward(
    ctx: &Context,
    batch: &PackedBatch,
    segment: &Segment,
    qkv: &[f32],
    d_out: &[f32],
    d_qkv: Columns,
) -> KeyGrads {
    let hd = ctx.heads.head_dim;
    let (k, v) = segment.gather(ctx, batch, qkv);
    let (k, v) = (Mat::rows(&k, hd), Mat::rows(&v, hd));
    let [keys_t, values_t] = [k, v].map(|m| Panels::new(Operands::F32, segment.total(), hd, m.t()));
    let keys = Panels::new(Operands::F32, hd, segment.total(), k);
    let parts: Vec<KeyGrads> = strips(segment, block_len(ctx.heads.group()))
        .into_par_iter()
        .map(|strip| {
            let panels = [&keys_t, &values_t, &keys];
            strip_backward(ctx, batch, (segment, strip), (qkv, d_out), panels, d_qkv)
        })
        .collect();
    let mut parts = parts.into_iter().rev();
    // The last strip sees all keys.
    let Some(mut sum) = parts.next() else { return KeyGrads::zeros(segment.total(), hd) };
    parts.for_each(|part| sum.add(&part));
    sum
}

fn strip_backward(
    ctx: &Context,
    batch: &PackedBatch,
    (segment, strip): (&Segment, Range<usize>),
    (qkv, d_out): (&[f32], &[f32]),
    [keys_t, values_t, keys_n]: [&Panels; 3],
    d_qkv: Columns,
) -> KeyGrads {
    let heads = ctx.heads;
    let (hd, width, ow) = (heads.head_dim, heads.qkv_width(), heads.out_width());
    let seen = segment.prefix + strip.end;
    let mut grads = KeyGrads::zeros(seen, hd);
    let (g, of_block) = (heads.group(), block_len(heads.group()).min(strip.len()));
    let rows_of = || vec![0f32; of_block * g * hd];
    let (mut q, mut dq, mut d_o) = (rows_of(), rows_of(), rows_of());
    let (mut p, mut dp) = (vec![0f32; of_block * g * seen], vec![0f32; of_block * g * seen]);
    for block in blocks(strip, of_block) {
        let (n, keys) = (block.len(), segment.prefix + block.end);
        let m = g * n;
        for (i, (head, t)) in stacked(&heads, segment.kv, &block).enumerate() {
            let row = segment.rows.start + t;
            let x = &qkv[row * width..(row + 1) * width][heads.q(head)];
            ctx.query(x, batch.positions[row] as usize, &mut q[i * hd..(i + 1) * hd]);
            d_o[i * hd..(i + 1) * hd].copy_from_slice(&d_out[row * ow..(row + 1) * ow][heads.q(head)]);
        }
        let (p, dp) = (&mut p[..m * keys], &mut dp[..m * keys]);
        keys_t.product_of_part(m, keys, hd, Mat::rows(&q, hd), p, Write::Set);
        let capped = ctx.cap.map(|cap| {
            cap_scores(p, cap);
            (cap, p.to_vec())
        });
        for p in p.chunks_mut(n * keys) {
            causal_softmax(p, keys, segment.prefix + block.start, ctx.window);
        }
        let by_rows = |x| Mat::rows(x, hd);
        product_serial(keys, hd, m, Mat::rows(p, keys).t(), by_rows(&d_o), &mut grads.dv, hd, Write::Add);
        values_t.product_of_part(m, keys, hd, by_rows(&d_o), dp, Write::Set);
        softmax_backward(p, dp, keys);
        if let Some((cap, capped)) = &capped {
            cap_scores_backward(dp, capped, *cap);
        }
        keys_n.product_of_part(m, hd, keys, Mat::rows(dp, keys), &mut dq, Write::Set);
        product_serial(keys, hd, m, Mat::rows(dp, keys).t(), by_rows(&q), &mut grads.dk, hd, Write::Add);
        for (i, (head, t)) in stacked(&heads, segment.kv, &block).enumerate() {
            let row = segment.rows.start + t;
            let x = &qkv[row * width..(row + 1) * width][heads.q(head)];
            // SAFETY: this task alone writes this head's columns of these rows.
            let dx = unsafe { d_qkv.get(row, heads.q(head)) };
            let grad = &mut dq[i * hd..(i + 1) * hd];
            let position = batch.positions[row] as usize;
            ctx.unplace(x, ctx.q_norm(), position, ctx.scale, grad, dx, &mut grads.q_norm);
        }
    }
    grads
}

/// Turns the gradients of a segment's own placed keys, and those of its values, into those of its fused rows.
fn key_gradients(
    ctx: &Context,
    batch: &PackedBatch,
    segment: &Segment,
    qkv: &[f32],
    (mut dk, dv): (Vec<f32>, &[f32]),
    dk_norm: &mut [f32],
    d_qkv: Columns,
) {
    let (heads, hd, width) = (ctx.heads, ctx.heads.head_dim, ctx.heads.qkv_width());
    for ((row, grad), value) in segment.rows.clone().zip(dk.chunks_mut(hd)).zip(dv.chunks(hd)) {
        let x = &qkv[row * width..(row + 1) * width][heads.k(segment.kv)];
        // SAFETY: this task alone writes the columns of its keys and values of these rows.
        let (dx, dvx) = unsafe { (d_qkv.get(row, heads.k(segment.kv)), d_qkv.get(row, heads.v(segment.kv))) };
        ctx.unplace(x, ctx.k_norm(), batch.positions[row] as usize, 1.0, grad, dx, dk_norm);
        dvx.copy_from_slice(value);
    }
}
