//! Causal grouped-query attention over packed rows, forward and backward, without a `T × T` matrix: a unit goes over the
//! keys of one query (or the queries of one key) with a running softmax.
//!
//! The units of a cube are neighbouring rows of one head and read mostly the same keys at the same time, in vectors of
//! up to four numbers. Inside the kernels, `hd` counts such vectors.
use super::mat::Mat;
use crate::host::attention::Heads;
use crate::packed::PackedBatch;
use burn::tensor::DType;
use cubecl::prelude::*;

/// Units of a cube.
const UNITS: u32 = 64;

/// What each row attends to, on the device: `[1, rows]` of u32 each.
#[derive(Debug)]
pub struct Segments {
    /// Position in the sequence.
    pub positions: Mat,
    /// First row and number of rows of the prompt before the row's own segment.
    prefix: (Mat, Mat),
    /// First row of its own segment.
    own: Mat,
    /// One past the last row that attends to it.
    end: Mat,
}

impl Segments {
    /// The rows of a batch, on the device of `like`.
    pub fn new(batch: &PackedBatch, like: &Mat) -> Self {
        let n = batch.rows();
        let mut columns = [(); 4].map(|()| vec![0u32; n]);
        for group in &batch.groups {
            let end = group.completions.last().map_or(group.prompt.end, |c| c.end.max(group.prompt.end));
            let mut fill = |rows: std::ops::Range<usize>, prefix: usize, end: usize| {
                for row in rows.clone() {
                    let values = [group.prompt.start, prefix, rows.start, end];
                    columns.iter_mut().zip(values).for_each(|(c, v)| c[row] = v as u32);
                }
            };
            fill(group.prompt.clone(), 0, end);
            for rows in &group.completions {
                fill(rows.clone(), group.prompt.len(), rows.end);
            }
        }
        let [first, prefix, own, end] = columns.map(|c| like.upload(&c, 1, n));
        let positions = like.upload(&batch.positions, 1, n);
        Self { positions, prefix: (first, prefix), own, end }
    }
}

/// Row of key `j` of a query: the prompt's rows first, then those of its own segment.
#[cube]
fn key_row(j: usize, first: usize, prefix: usize, own: usize) -> usize {
    let mut row = own + j - prefix;
    if j < prefix {
        row = first + j;
    }
    row
}

/// Sum of the lanes of a vector.
#[cube]
fn lane_sum<N: Size>(v: Vector<f32, N>, #[comptime] lanes: usize) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..lanes {
        sum += v.extract(i);
    }
    sum
}

#[cube(launch)]
fn forward_kernel<N: Size>(
    qkv: &[Vector<f32, N>],
    firsts: &[u32],
    prefixes: &[u32],
    owns: &[u32],
    out: &mut [Vector<f32, N>],
    log_sum: &mut [f32],
    rows: usize,
    heads: usize,
    kv_heads: usize,
    #[comptime] hd: usize,
    #[comptime] lanes: usize,
) {
    let row = CUBE_POS_X as usize * CUBE_DIM as usize + UNIT_POS as usize;
    let head = CUBE_POS_Y as usize;
    if row < rows {
        let width = (heads + 2 * kv_heads) * hd;
        let kv = head / (heads / kv_heads);
        let first = firsts[row] as usize;
        let prefix = prefixes[row] as usize;
        let own = owns[row] as usize;
        let mut q = Array::<Vector<f32, N>>::new(hd);
        let mut acc = Array::<Vector<f32, N>>::new(hd);
        #[unroll]
        for d in 0..hd {
            q[d] = qkv[row * width + head * hd + d];
            acc[d] = Vector::new(0.0f32);
        }
        let mut max = f32::new(-1.0e30f32);
        let mut sum = 0.0f32;
        for j in 0..prefix + row - own + 1 {
            let k = key_row(j, first, prefix, own) * width + (heads + kv) * hd;
            let v = k + kv_heads * hd;
            let mut products = Vector::<f32, N>::new(0.0f32);
            #[unroll]
            for d in 0..hd {
                products += q[d] * qkv[k + d];
            }
            let s = lane_sum::<N>(products, lanes);
            if s > max {
                let shrink = (max - s).exp();
                sum *= shrink;
                #[unroll]
                for d in 0..hd {
                    acc[d] *= Vector::new(shrink);
                }
                max = s;
            }
            let p = (s - max).exp();
            sum += p;
            #[unroll]
            for d in 0..hd {
                acc[d] += Vector::new(p) * qkv[v + d];
            }
        }
        #[unroll]
        for d in 0..hd {
            out[(row * heads + head) * hd + d] = acc[d] / Vector::new(sum);
        }
        log_sum[row * heads + head] = max + sum.ln();
    }
}

#[cube(launch)]
fn delta_kernel(out: &[f32], d_out: &[f32], delta: &mut [f32], hd: usize) {
    if ABSOLUTE_POS < delta.len() {
        let mut sum = 0.0f32;
        for d in 0..hd {
            sum += out[ABSOLUTE_POS * hd + d] * d_out[ABSOLUTE_POS * hd + d];
        }
        delta[ABSOLUTE_POS] = sum;
    }
}

#[cube(launch)]
fn query_kernel<N: Size>(
    qkv: &[Vector<f32, N>],
    firsts: &[u32],
    prefixes: &[u32],
    owns: &[u32],
    d_out: &[Vector<f32, N>],
    log_sum: &[f32],
    delta: &[f32],
    grad: &mut [Vector<f32, N>],
    rows: usize,
    heads: usize,
    kv_heads: usize,
    #[comptime] hd: usize,
    #[comptime] lanes: usize,
) {
    let row = CUBE_POS_X as usize * CUBE_DIM as usize + UNIT_POS as usize;
    let head = CUBE_POS_Y as usize;
    if row < rows {
        let width = (heads + 2 * kv_heads) * hd;
        let kv = head / (heads / kv_heads);
        let first = firsts[row] as usize;
        let prefix = prefixes[row] as usize;
        let own = owns[row] as usize;
        let at = row * heads + head;
        let mut q = Array::<Vector<f32, N>>::new(hd);
        let mut g = Array::<Vector<f32, N>>::new(hd);
        let mut dq = Array::<Vector<f32, N>>::new(hd);
        #[unroll]
        for d in 0..hd {
            q[d] = qkv[row * width + head * hd + d];
            g[d] = d_out[at * hd + d];
            dq[d] = Vector::new(0.0f32);
        }
        for j in 0..prefix + row - own + 1 {
            let k = key_row(j, first, prefix, own) * width + (heads + kv) * hd;
            let v = k + kv_heads * hd;
            let mut scores = Vector::<f32, N>::new(0.0f32);
            let mut grads = Vector::<f32, N>::new(0.0f32);
            #[unroll]
            for d in 0..hd {
                scores += q[d] * qkv[k + d];
                grads += g[d] * qkv[v + d];
            }
            let p = (lane_sum::<N>(scores, lanes) - log_sum[at]).exp();
            let ds = p * (lane_sum::<N>(grads, lanes) - delta[at]);
            #[unroll]
            for d in 0..hd {
                dq[d] += Vector::new(ds) * qkv[k + d];
            }
        }
        #[unroll]
        for d in 0..hd {
            grad[row * width + head * hd + d] = dq[d];
        }
    }
}

#[cube(launch)]
fn key_kernel<N: Size>(
    qkv: &[Vector<f32, N>],
    ends: &[u32],
    d_out: &[Vector<f32, N>],
    log_sum: &[f32],
    delta: &[f32],
    parts: &mut [Vector<f32, N>],
    rows: usize,
    heads: usize,
    kv_heads: usize,
    #[comptime] hd: usize,
    #[comptime] lanes: usize,
) {
    let row = CUBE_POS_X as usize * CUBE_DIM as usize + UNIT_POS as usize;
    let head = CUBE_POS_Y as usize;
    if row < rows {
        let width = (heads + 2 * kv_heads) * hd;
        let kv = head / (heads / kv_heads);
        let key = row * width + (heads + kv) * hd;
        let mut k = Array::<Vector<f32, N>>::new(hd);
        let mut v = Array::<Vector<f32, N>>::new(hd);
        let mut dk = Array::<Vector<f32, N>>::new(hd);
        let mut dv = Array::<Vector<f32, N>>::new(hd);
        #[unroll]
        for d in 0..hd {
            k[d] = qkv[key + d];
            v[d] = qkv[key + kv_heads * hd + d];
            dk[d] = Vector::new(0.0f32);
            dv[d] = Vector::new(0.0f32);
        }
        // Those who see a row of a prompt come behind it, up to the end of its group; likewise in a completion.
        for i in row..ends[row] as usize {
            let q = i * width + head * hd;
            let at = i * heads + head;
            let mut scores = Vector::<f32, N>::new(0.0f32);
            let mut grads = Vector::<f32, N>::new(0.0f32);
            #[unroll]
            for d in 0..hd {
                scores += k[d] * qkv[q + d];
                grads += v[d] * d_out[at * hd + d];
            }
            let p = (lane_sum::<N>(scores, lanes) - log_sum[at]).exp();
            let ds = p * (lane_sum::<N>(grads, lanes) - delta[at]);
            #[unroll]
            for d in 0..hd {
                dk[d] += Vector::new(ds) * qkv[q + d];
                dv[d] += Vector::new(p) * d_out[at * hd + d];
            }
        }
        let part = (row * heads + head) * 2 * hd;
        #[unroll]
        for d in 0..hd {
            parts[part + d] = dk[d];
            parts[part + hd + d] = dv[d];
        }
    }
}

/// Adds up the query heads that share a key.
#[cube(launch)]
fn fold_kernel(parts: &[f32], grad: &mut [f32], total: usize, heads: usize, kv_heads: usize, hd: usize) {
    if ABSOLUTE_POS < total {
        let d = ABSOLUTE_POS % hd;
        let kv = ABSOLUTE_POS / hd % kv_heads;
        let row = ABSOLUTE_POS / hd / kv_heads;
        let group = heads / kv_heads;
        let mut dk = 0.0f32;
        let mut dv = 0.0f32;
        for h in kv * group..(kv + 1) * group {
            let part = (row * heads + h) * 2 * hd;
            dk += parts[part + d];
            dv += parts[part + hd + d];
        }
        let key = row * (heads + 2 * kv_heads) * hd + (heads + kv) * hd;
        grad[key + d] = dk;
        grad[key + kv_heads * hd + d] = dv;
    }
}

/// Numbers that are read together.
fn lanes(heads: &Heads) -> usize {
    if heads.head_dim.is_multiple_of(4) { 4 } else { 2 }
}

fn grid(rows: usize, heads: &Heads) -> (CubeCount, CubeDim) {
    let cubes = rows.div_ceil(UNITS as usize) as u32;
    (CubeCount::Static(cubes, heads.heads as u32, 1), CubeDim::new_1d(UNITS))
}

/// Attention of every row to its prompt and the earlier rows of its segment, and the logarithms of the sums of the
/// softmaxes, for the backward.
///
/// # Shapes
/// qkv, as placed, `[rows, qkv_width]`; returns `[rows, heads · head_dim]` and `[rows, heads]`.
pub fn forward(qkv: &Mat, segments: &Segments, heads: &Heads) -> (Mat, Mat) {
    let rows = qkv.rows();
    let out = qkv.empty(rows, heads.out_width(), DType::F32);
    let log_sum = qkv.empty(rows, heads.heads, DType::F32);
    let (count, dim) = grid(rows, heads);
    let n = lanes(heads);
    forward_kernel::launch(
        qkv.client(),
        count,
        dim,
        n,
        qkv.arg(),
        segments.prefix.0.arg(),
        segments.prefix.1.arg(),
        segments.own.arg(),
        out.arg(),
        log_sum.arg(),
        rows,
        heads.heads,
        heads.kv_heads,
        heads.head_dim / n,
        n,
    );
    (out, log_sum)
}

/// Backward of [`forward`] for the gradient `d_out` of its result; returns that of the placed rows.
pub fn backward(
    qkv: &Mat,
    segments: &Segments,
    heads: &Heads,
    (out, log_sum): (&Mat, &Mat),
    d_out: &Mat,
) -> Mat {
    let (rows, hd) = (qkv.rows(), heads.head_dim);
    let (h, kv, n) = (heads.heads, heads.kv_heads, lanes(heads));
    let delta = qkv.empty(rows, h, DType::F32);
    let (count, dim) = delta.units(rows * h);
    delta_kernel::launch(qkv.client(), count, dim, out.arg(), d_out.arg(), delta.arg(), hd);
    let grad = qkv.empty(rows, qkv.cols(), DType::F32);
    let (count, dim) = grid(rows, heads);
    query_kernel::launch(
        qkv.client(),
        count,
        dim,
        n,
        qkv.arg(),
        segments.prefix.0.arg(),
        segments.prefix.1.arg(),
        segments.own.arg(),
        d_out.arg(),
        log_sum.arg(),
        delta.arg(),
        grad.arg(),
        rows,
        h,
        kv,
        hd / n,
        n,
    );
    let parts = qkv.empty(rows, 2 * heads.out_width(), DType::F32);
    let (count, dim) = grid(rows, heads);
    key_kernel::launch(
        qkv.client(),
        count,
        dim,
        n,
        qkv.arg(),
        segments.end.arg(),
        d_out.arg(),
        log_sum.arg(),
        delta.arg(),
        parts.arg(),
        rows,
        h,
        kv,
        hd / n,
        n,
    );
    let total = rows * kv * hd;
    let (count, dim) = grad.units(total);
    fold_kernel::launch(qkv.client(), count, dim, parts.arg(), grad.arg(), total, h, kv, hd);
    grad
}
