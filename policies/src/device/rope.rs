//! Queries and keys put in place: norm of each head (Qwen3), rotation by position (arXiv:2104.09864), scale of the query.
use super::mat::{Mat, cubes};
use super::norm::cube_sum;
use crate::host::rope::RopeTable;
use crate::spec::Heads;
use burn::tensor::DType;
use cubecl::prelude::*;

/// Units that share one head of one row.
const UNITS: u32 = 32;

/// Cosines and sines of every position, `[positions, columns that are rotated / 2]` each.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// Cosines.
    pub cos: Mat,
    /// Sines.
    pub sin: Mat,
}

impl Rotation {
    /// The table of the host on the device of `like`.
    pub fn new(table: &RopeTable, like: &Mat) -> Self {
        let rows = table.positions();
        let (cos, sin) = table.all();
        let upload = |values: Vec<f32>| like.upload(&values, rows, values.len() / rows.max(1));
        Self { cos: upload(cos), sin: upload(sin) }
    }
}

/// Factors of the query and the key norm, `[1, head_dim]` each, and their ε.
pub type HeadNorms = Option<(Mat, Mat, f32)>;

/// Which column of a head an item stands for: the first `rot` items are pairs, of which this is the `side`th column, the
/// others single columns that are not rotated.
#[cube]
fn column(item: usize, side: usize, rot: usize) -> usize {
    let mut column = item + rot;
    if item < rot {
        column = item + side * rot;
    }
    column
}

/// Columns of an item.
#[cube]
fn sides(item: usize, rot: usize) -> usize {
    let mut sides = 1usize;
    if item < rot {
        sides = 2usize;
    }
    sides
}

#[cube(launch)]
fn place_kernel(
    qkv: &[f32],
    q_norm: &[f32],
    k_norm: &[f32],
    cos: &[f32],
    sin: &[f32],
    positions: &[u32],
    out: &mut [f32],
    eps: f32,
    scale: f32,
    total: usize,
    heads: usize,
    kv_heads: usize,
    hd: usize,
    rot: usize,
    #[comptime] normed: bool,
    #[comptime] units: usize,
) {
    if CUBE_POS < total {
        let all = heads + 2 * kv_heads;
        let head = CUBE_POS % all;
        let base = CUBE_POS * hd;
        let angle = positions[CUBE_POS / all] as usize * rot;
        let unit = UNIT_POS as usize;
        let mut inverse = 1.0f32;
        if comptime!(normed) {
            let mut squares = 0.0f32;
            let mut i = unit;
            while i < hd {
                squares += qkv[base + i] * qkv[base + i];
                i += units;
            }
            let sum = cube_sum(squares, units);
            inverse = 1.0f32 / (sum / f32::cast_from(hd) + eps).sqrt();
        }
        let mut i = unit;
        while i < hd - rot {
            let first = column(i, 0usize, rot);
            let mut a = qkv[base + first];
            let mut b = 0.0f32;
            if i < rot {
                b = qkv[base + rot + i];
            }
            if head < heads + kv_heads {
                let mut s = 1.0f32;
                if head < heads {
                    s = scale;
                }
                if comptime!(normed) {
                    if head < heads {
                        a *= inverse * q_norm[first];
                        if i < rot {
                            b *= inverse * q_norm[rot + i];
                        }
                    } else {
                        a *= inverse * k_norm[first];
                        if i < rot {
                            b *= inverse * k_norm[rot + i];
                        }
                    }
                }
                if i < rot {
                    let c = cos[angle + i];
                    let n = sin[angle + i];
                    out[base + i] = (a * c - b * n) * s;
                    out[base + rot + i] = (b * c + a * n) * s;
                } else {
                    out[base + first] = a * s;
                }
            } else {
                out[base + first] = a;
                if i < rot {
                    out[base + rot + i] = b;
                }
            }
            i += units;
        }
    }
}

/// Turns the gradient of a head back, times `s`, in place.
#[cube]
fn unturn(
    grad: &mut [f32],
    cos: &[f32],
    sin: &[f32],
    base: usize,
    angle: usize,
    hd: usize,
    rot: usize,
    s: f32,
    #[comptime] units: usize,
) {
    let mut i = UNIT_POS as usize;
    while i < hd - rot {
        if i < rot {
            let a = grad[base + i] * s;
            let b = grad[base + rot + i] * s;
            let c = cos[angle + i];
            let n = sin[angle + i];
            grad[base + i] = a * c + b * n;
            grad[base + rot + i] = b * c - a * n;
        } else {
            grad[base + rot + i] *= s;
        }
        i += units;
    }
}

/// One over the root mean square of a head, and what of its gradient lies along it.
#[derive(CubeType, Clone, Copy)]
struct Along {
    inverse: f32,
    mean: f32,
}

/// Factor of the norm of a query or of a key.
#[cube]
fn factor(q_norm: &[f32], k_norm: &[f32], column: usize, query: bool) -> f32 {
    let mut w = k_norm[column];
    if query {
        w = q_norm[column];
    }
    w
}

/// Of the head at `base`; each unit looks at the elements that it has rotated.
#[cube]
fn along(
    qkv: &[f32],
    grad: &[f32],
    q_norm: &[f32],
    k_norm: &[f32],
    base: usize,
    query: bool,
    eps: f32,
    hd: usize,
    rot: usize,
    #[comptime] units: usize,
) -> Along {
    let mut squares = 0.0f32;
    let mut products = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < hd - rot {
        for side in 0..sides(i, rot) {
            let j = column(i, side, rot);
            let x = qkv[base + j];
            squares += x * x;
            products += x * factor(q_norm, k_norm, j, query) * grad[base + j];
        }
        i += units;
    }
    let square_sum = cube_sum(squares, units);
    let product_sum = cube_sum(products, units);
    let inverse = 1.0f32 / (square_sum / f32::cast_from(hd) + eps).sqrt();
    Along { inverse, mean: product_sum * inverse * inverse / f32::cast_from(hd) }
}

#[cube(launch)]
fn unplace_kernel(
    qkv: &[f32],
    q_norm: &[f32],
    k_norm: &[f32],
    cos: &[f32],
    sin: &[f32],
    positions: &[u32],
    grad: &mut [f32],
    q_parts: &mut [f32],
    k_parts: &mut [f32],
    eps: f32,
    scale: f32,
    total: usize,
    heads: usize,
    kv_heads: usize,
    hd: usize,
    rot: usize,
    #[comptime] normed: bool,
    #[comptime] units: usize,
) {
    if CUBE_POS < total {
        let all = heads + 2 * kv_heads;
        let row = CUBE_POS / all;
        let head = CUBE_POS % all;
        let base = CUBE_POS * hd;
        if head < heads + kv_heads {
            let mut s = 1.0f32;
            if head < heads {
                s = scale;
            }
            unturn(grad, cos, sin, base, positions[row] as usize * rot, hd, rot, s, units);
        }
        if comptime!(normed) {
            let query = head < heads;
            let along = along(qkv, &*grad, q_norm, k_norm, base, query, eps, hd, rot, units);
            if head < heads + kv_heads {
                let mut i = UNIT_POS as usize;
                while i < hd - rot {
                    for side in 0..sides(i, rot) {
                        let j = column(i, side, rot);
                        let x = qkv[base + j];
                        let dy = grad[base + j];
                        if query {
                            q_parts[(row * heads + head) * hd + j] = dy * x * along.inverse;
                        } else {
                            k_parts[(row * kv_heads + head - heads) * hd + j] = dy * x * along.inverse;
                        }
                        let w = factor(q_norm, k_norm, j, query);
                        grad[base + j] = along.inverse * (dy * w - x * along.mean);
                    }
                    i += units;
                }
            }
        }
    }
}

/// Normalised, rotated and scaled queries, normalised and rotated keys, values as they are.
///
/// # Shapes
/// qkv and result `[rows, qkv_width]`; positions `[1, rows]` of u32.
pub fn place(
    qkv: &Mat,
    norms: &HeadNorms,
    rotation: Option<&Rotation>,
    positions: &Mat,
    heads: &Heads,
    scale: f32,
) -> Mat {
    let [rows, width] = qkv.shape();
    let out = qkv.empty(rows, width, DType::F32);
    let total = rows * width / heads.head_dim;
    let (q_norm, k_norm, eps) = norm_args(norms, qkv);
    let (cos, sin, rot) = rotation.map_or((qkv, qkv, 0), |r| (&r.cos, &r.sin, r.cos.cols()));
    place_kernel::launch(
        qkv.client(),
        cubes(total),
        CubeDim::new_1d(UNITS),
        qkv.arg(),
        q_norm,
        k_norm,
        cos.arg(),
        sin.arg(),
        positions.arg(),
        out.arg(),
        eps,
        scale,
        total,
        heads.heads,
        heads.kv_heads,
        heads.head_dim,
        rot,
        norms.is_some(),
        UNITS as usize,
    );
    out
}

/// Backward of [`place`]: turns the gradient `grad` of its result into that of `qkv`, in place, and returns what each head
/// of each row adds to the gradients of the query and the key norm, `[rows · heads, head_dim]` each.
pub fn unplace(
    qkv: &Mat,
    norms: &HeadNorms,
    rotation: Option<&Rotation>,
    positions: &Mat,
    heads: &Heads,
    scale: f32,
    grad: &Mat,
) -> Option<(Mat, Mat)> {
    let [rows, width] = qkv.shape();
    let hd = heads.head_dim;
    let (q, k) = (heads.heads, heads.kv_heads);
    // What each head of each row adds to the gradient of its norm.
    let part = |heads: usize| match norms {
        Some(_) => qkv.empty(rows * heads, hd, DType::F32),
        None => qkv.empty(1, 1, DType::F32),
    };
    let (q_parts, k_parts) = (part(q), part(k));
    let total = rows * width / hd;
    let (q_norm, k_norm, eps) = norm_args(norms, qkv);
    let (cos, sin, rot) = rotation.map_or((qkv, qkv, 0), |r| (&r.cos, &r.sin, r.cos.cols()));
    unplace_kernel::launch(
        qkv.client(),
        cubes(total),
        CubeDim::new_1d(UNITS),
        qkv.arg(),
        q_norm,
        k_norm,
        cos.arg(),
        sin.arg(),
        positions.arg(),
        grad.arg(),
        q_parts.arg(),
        k_parts.arg(),
        eps,
        scale,
        total,
        q,
        k,
        hd,
        rot,
        norms.is_some(),
        UNITS as usize,
    );
    norms.is_some().then_some((q_parts, k_parts))
}

fn norm_args(norms: &HeadNorms, unused: &Mat) -> (BufferArg, BufferArg, f32) {
    match norms {
        Some((q, k, eps)) => (q.arg(), k.arg(), *eps),
        None => (unused.arg(), unused.arg(), 0.0),
    }
}
