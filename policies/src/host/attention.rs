//! Causal grouped-query attention over packed rows, forward and backward, with rotary embedding and optional q/k norm
//! inside. Scores live in blocks of a few queries of all heads that share a key/value head, so no `T × T` matrix is kept.
use super::gemm::{Mat, Operands, Panels, Write, product_serial};
use super::norm::{norm_row, norm_row_backward};
use super::rope::RopeTable;
use super::simd::{LANES, dot, exp, multiversion, reduce, tanh};
use crate::packed::{PackedBatch, PackedGroup};
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

/// Keys and values of one head for a segment, prompt first.
struct Gathered {
    k: Vec<f32>,
    v: Vec<f32>,
    prefix: usize,
}

impl Gathered {
    fn new(capacity: usize, head_dim: usize) -> Self {
        Self { k: vec![0.0; capacity * head_dim], v: vec![0.0; capacity * head_dim], prefix: 0 }
    }

    /// Puts `rows` behind the prefix.
    fn load(&mut self, ctx: &Context, qkv: &[f32], batch: &PackedBatch, rows: Range<usize>, head: usize) {
        let (hd, width) = (ctx.heads.head_dim, ctx.heads.qkv_width());
        for (i, row) in rows.enumerate() {
            let at = (self.prefix + i) * hd..(self.prefix + i + 1) * hd;
            let x = &qkv[row * width..(row + 1) * width];
            ctx.key(&x[ctx.heads.k(head)], batch.positions[row] as usize, &mut self.k[at.clone()]);
            self.v[at].copy_from_slice(&x[ctx.heads.v(head)]);
        }
    }
}

/// Longest prompt-plus-completion of a group, in rows.
fn longest(group: &PackedGroup) -> usize {
    group.prompt.len() + group.completions.iter().map(|c| c.len()).max().unwrap_or(0)
}

/// The segments of a group: its rows and how many prompt rows come before them.
fn segments(group: &PackedGroup) -> impl Iterator<Item = (Range<usize>, usize)> + '_ {
    let own = group.completions.iter().map(|c| (c.clone(), group.prompt.len()));
    std::iter::once((group.prompt.clone(), 0)).chain(own)
}

/// Queries of a block, for a number of heads that share a key/value head.
fn block_len(group: usize) -> usize {
    (ROWS / group).clamp(16, 64)
}

/// Blocks of at most `most` queries of a segment, as offsets into it.
fn blocks(len: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(most).map(move |i| i..(i + most).min(len))
}

/// Causal attention of every row to its prompt and the earlier rows of its completion.
///
/// # Shapes
/// qkv `[rows, qkv_width]`, out `[rows, heads · head_dim]`.
pub fn forward(ctx: &Context, batch: &PackedBatch, qkv: &[f32], out: &mut [f32]) {
    let heads = ctx.heads;
    let (hd, width, ow) = (heads.head_dim, heads.qkv_width(), heads.out_width());
    let out = Columns(out.as_mut_ptr(), ow);
    let (g, most) = (heads.group(), block_len(heads.group()));
    let tasks = batch.groups.len() * heads.kv_heads;
    (0..tasks).into_par_iter().for_each(|task| {
        let (group, kv) = (&batch.groups[task / heads.kv_heads], task % heads.kv_heads);
        let mut gathered = Gathered::new(longest(group), hd);
        let (mut q, mut o) = (vec![0f32; most * g * hd], vec![0f32; most * g * hd]);
        let mut scores = vec![0f32; most * g * longest(group)];
        for (rows, prefix) in segments(group) {
            gathered.prefix = prefix;
            gathered.load(ctx, qkv, batch, rows.clone(), kv);
            let total = prefix + rows.len();
            let keys_t = Panels::new(Operands::F32, total, hd, Mat::rows(&gathered.k, hd).t());
            let values = Panels::new(Operands::F32, hd, total, Mat::rows(&gathered.v, hd));
            for block in blocks(rows.len(), most) {
                let (n, keys) = (block.len(), prefix + block.end);
                for (i, (head, t)) in stacked(&heads, kv, &block).enumerate() {
                    let row = rows.start + t;
                    let x = &qkv[row * width..(row + 1) * width][heads.q(head)];
                    ctx.query(x, batch.positions[row] as usize, &mut q[i * hd..(i + 1) * hd]);
                }
                let s = &mut scores[..g * n * keys];
                keys_t.product_of_part(g * n, keys, hd, Mat::rows(&q, hd), s, Write::Set);
                if let Some(cap) = ctx.cap {
                    cap_scores(s, cap);
                }
                for s in s.chunks_mut(n * keys) {
                    causal_softmax(s, keys, prefix + block.start, ctx.window);
                }
                values.product_of_part(g * n, hd, keys, Mat::rows(s, keys), &mut o, Write::Set);
                for (i, (head, t)) in stacked(&heads, kv, &block).enumerate() {
                    // SAFETY: this task alone writes this head's columns of these rows.
                    let to = unsafe { out.get(rows.start + t, heads.q(head)) };
                    to.copy_from_slice(&o[i * hd..(i + 1) * hd]);
                }
            }
        }
    });
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

/// Backward of [`forward`]: overwrites `d_qkv`, returns the gradients of the q and k norms (`[head_dim]` each; zeros
/// without norms). Probabilities are recomputed.
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
    let heads = ctx.heads;
    let hd = heads.head_dim;
    let d_qkv = Columns(d_qkv.as_mut_ptr(), heads.qkv_width());
    let tasks = batch.groups.len() * heads.kv_heads;
    let parts: Vec<(Vec<f32>, Vec<f32>)> = (0..tasks)
        .into_par_iter()
        .map(|task| {
            let (group, kv) = (&batch.groups[task / heads.kv_heads], task % heads.kv_heads);
            group_backward(ctx, batch, group, kv, qkv, d_out, d_qkv)
        })
        .collect();
    let (mut dq_norm, mut dk_norm) = (vec![0f32; hd], vec![0f32; hd]);
    for (q, k) in parts {
        dq_norm.iter_mut().zip(q).for_each(|(a, b)| *a += b);
        dk_norm.iter_mut().zip(k).for_each(|(a, b)| *a += b);
    }
    (dq_norm, dk_norm)
}

fn group_backward(
    ctx: &Context,
    batch: &PackedBatch,
    group: &PackedGroup,
    kv: usize,
    qkv: &[f32],
    d_out: &[f32],
    d_qkv: Columns,
) -> (Vec<f32>, Vec<f32>) {
    let heads = ctx.heads;
    let (hd, width, ow) = (heads.head_dim, heads.qkv_width(), heads.out_width());
    let (mut dq_norm, mut dk_norm) = (vec![0f32; hd], vec![0f32; hd]);
    let most = longest(group);
    let mut gathered = Gathered::new(most, hd);
    let (mut dk, mut dv) = (vec![0f32; most * hd], vec![0f32; most * hd]);
    let (g, of_block) = (heads.group(), block_len(heads.group()));
    let rows_of = || vec![0f32; of_block * g * hd];
    let (mut q, mut dq, mut d_o) = (rows_of(), rows_of(), rows_of());
    let (mut p, mut dp) = (vec![0f32; of_block * g * most], vec![0f32; of_block * g * most]);
    // The prompt's keys stay in front; it comes last, when all completions have added to their gradient.
    gathered.load(ctx, qkv, batch, group.prompt.clone(), kv);
    let order: Vec<_> = segments(group).collect();
    for (rows, prefix) in order.into_iter().rev() {
        gathered.prefix = prefix;
        let own = prefix * hd..(prefix + rows.len()) * hd;
        if prefix > 0 {
            gathered.load(ctx, qkv, batch, rows.clone(), kv);
            dk[own.clone()].fill(0.0);
            dv[own.clone()].fill(0.0);
        }
        let total = prefix + rows.len();
        let (k, v) = (Mat::rows(&gathered.k, hd), Mat::rows(&gathered.v, hd));
        let [keys_t, values_t] = [k, v].map(|m| Panels::new(Operands::F32, total, hd, m.t()));
        let keys_n = Panels::new(Operands::F32, hd, total, k);
        for block in blocks(rows.len(), of_block) {
            let (n, keys) = (block.len(), prefix + block.end);
            let m = g * n;
            for (i, (head, t)) in stacked(&heads, kv, &block).enumerate() {
                let row = rows.start + t;
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
                causal_softmax(p, keys, prefix + block.start, ctx.window);
            }
            let by_rows = |x| Mat::rows(x, hd);
            product_serial(keys, hd, m, Mat::rows(p, keys).t(), by_rows(&d_o), &mut dv, hd, Write::Add);
            values_t.product_of_part(m, keys, hd, by_rows(&d_o), dp, Write::Set);
            softmax_backward(p, dp, keys);
            if let Some((cap, capped)) = &capped {
                cap_scores_backward(dp, capped, *cap);
            }
            keys_n.product_of_part(m, hd, keys, Mat::rows(dp, keys), &mut dq, Write::Set);
            product_serial(keys, hd, m, Mat::rows(dp, keys).t(), by_rows(&q), &mut dk, hd, Write::Add);
            for (i, (head, t)) in stacked(&heads, kv, &block).enumerate() {
                let row = rows.start + t;
                let x = &qkv[row * width..(row + 1) * width][heads.q(head)];
                // SAFETY: this task alone writes this head's columns of these rows.
                let dx = unsafe { d_qkv.get(row, heads.q(head)) };
                let grad = &mut dq[i * hd..(i + 1) * hd];
                let position = batch.positions[row] as usize;
                ctx.unplace(x, ctx.q_norm(), position, ctx.scale, grad, dx, &mut dq_norm);
            }
        }
        let own = (&mut dk[own.clone()], &dv[own]);
        key_gradients(ctx, batch, (rows, kv), qkv, own, &mut dk_norm, d_qkv);
    }
    (dq_norm, dk_norm)
}

/// Turns the gradients of a segment's placed keys, and those of its values, into those of its fused rows.
fn key_gradients(
    ctx: &Context,
    batch: &PackedBatch,
    (rows, kv): (Range<usize>, usize),
    qkv: &[f32],
    (dk, dv): (&mut [f32], &[f32]),
    dk_norm: &mut [f32],
    d_qkv: Columns,
) {
    let (heads, hd, width) = (ctx.heads, ctx.heads.head_dim, ctx.heads.qkv_width());
    for ((row, grad), value) in rows.zip(dk.chunks_mut(hd)).zip(dv.chunks(hd)) {
        let x = &qkv[row * width..(row + 1) * width][heads.k(kv)];
        // SAFETY: this task alone writes the columns of its keys and values of these rows.
        let (dx, dvx) = unsafe { (d_qkv.get(row, heads.k(kv)), d_qkv.get(row, heads.v(kv))) };
        ctx.unplace(x, ctx.k_norm(), batch.positions[row] as usize, 1.0, grad, dx, dk_norm);
        dvx.copy_from_slice(value);
    }
}
