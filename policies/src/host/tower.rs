//! The operations of vision towers on the CPU: layer norm, GELU in its forms, attention both ways within segments, learned
//! positions.
use super::buffer::Buffer;
use super::gemm::{Mat, Operands, Panels, Write, product_serial};
use super::ops::HostModel;
use super::simd::{dot, exp, multiversion, tanh};
use crate::model::tower::{Sight, TowerOps};
use crate::spec::{LayerNorm, TowerAct};
use rayon::prelude::*;
use std::ops::Range;

/// Rows of one task; partial sums are added in their order.
const BLOCK: usize = 32;

/// Queries of a block of scores.
const QUERIES: usize = 128;

/// Mean and `1 / √(var + ε)` of a row.
fn moments(x: &[f32], eps: f32) -> (f32, f32) {
    let n = x.len() as f64;
    let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
    let var = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n;
    (mean as f32, (1.0 / (var + f64::from(eps)).sqrt()) as f32)
}

/// Φ's integral of the error function, by the series whose terms are all positive (Abramowitz and Stegun, 7.1.6).
fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (a, a, 1.0);
    while term > 1e-17 * sum {
        term *= 2.0 * a * a / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    x.signum() * std::f64::consts::FRAC_2_SQRT_PI * (-a * a).exp() * sum
}

/// Value and slope.
fn gelu(x: f32) -> (f32, f32) {
    let x = f64::from(x);
    let below = 0.5 * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2));
    let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    ((x * below) as f32, (below + x * density) as f32)
}

/// √(2/π) and the weight of the cube.
const TANH: [f32; 2] = [0.797_884_6, 0.044_715];

multiversion! {
    fn gelu_tanh(x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = 0.5 * *x * (1.0 + tanh(TANH[0] * (*x + TANH[1] * *x * *x * *x)));
        }
    }
}

multiversion! {
    fn gelu_tanh_backward(x: &[f32], dy: &[f32], d: &mut [f32]) {
        for ((d, x), dy) in d.iter_mut().zip(x).zip(dy) {
            let t = tanh(TANH[0] * (*x + TANH[1] * *x * *x * *x));
            let slope = TANH[0] * (1.0 + 3.0 * TANH[1] * *x * *x);
            *d = *dy * 0.5 * (1.0 + t + *x * (1.0 - t * t) * slope);
        }
    }
}

multiversion! {
    fn quick_gelu(x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = *x / (1.0 + exp(-1.702 * *x));
        }
    }
}

multiversion! {
    fn quick_gelu_backward(x: &[f32], dy: &[f32], d: &mut [f32]) {
        for ((d, x), dy) in d.iter_mut().zip(x).zip(dy) {
            let s = 1.0 / (1.0 + exp(-1.702 * *x));
            *d = *dy * s * (1.0 + 1.702 * *x * (1.0 - s));
        }
    }
}

fn gelu_exact(x: &[f32], y: &mut [f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y = gelu(*x).0);
}

fn gelu_exact_backward(x: &[f32], dy: &[f32], d: &mut [f32]) {
    d.iter_mut().zip(x).zip(dy).for_each(|((d, x), dy)| *d = dy * gelu(*x).1);
}

multiversion! {
    /// Softmax of every row.
    fn softmax(scores: &mut [f32], width: usize) {
        for row in scores.chunks_mut(width) {
            let max = row.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
            let mut sum = 0f32;
            for s in row.iter_mut() {
                *s = exp(*s - max);
            }
            for s in row.iter() {
                sum += *s;
            }
            let r = 1.0 / sum;
            for s in row.iter_mut() {
                *s *= r;
            }
        }
    }
}

multiversion! {
    /// `p · (dp − Σ p·dp)` in place of `dp`.
    fn softmax_backward(p: &[f32], dp: &mut [f32], width: usize) {
        for (p, dp) in p.chunks(width).zip(dp.chunks_mut(width)) {
            let delta = dot(p, dp);
            for (dp, p) in dp.iter_mut().zip(p) {
                *dp = *p * (*dp - delta);
            }
        }
    }
}

/// A head of a segment.
struct Head<'a> {
    rows: Range<usize>,
    head: usize,
    /// Width of a head, and heads.
    hd: usize,
    heads: usize,
    sight: &'a Sight,
}

impl Head<'_> {
    /// Columns of queries (0), keys (1) or values (2).
    fn columns(&self, part: usize) -> Range<usize> {
        let first = (part * self.heads + self.head) * self.hd;
        first..first + self.hd
    }

    fn stride(&self) -> usize {
        3 * self.heads * self.hd
    }

    /// Rows of one of the three, turned by their places where they are queries or keys, times `scale`.
    fn gather(&self, qkv: &[f32], part: usize, scale: f32) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.rows.len() * self.hd);
        for row in self.rows.clone() {
            out.extend_from_slice(&qkv[row * self.stride()..][self.columns(part)]);
        }
        for (row, x) in self.rows.clone().zip(out.chunks_mut(self.hd)) {
            if part < 2 {
                self.turn(x, row, 1.0);
            }
            x.iter_mut().for_each(|x| *x *= scale);
        }
        out
    }

    /// Rotates one head by the place of a row, or back.
    fn turn(&self, x: &mut [f32], row: usize, forth: f32) {
        let Some((cos, sin)) = &self.sight.rotation else { return };
        let half = self.hd / 2;
        let (a, b) = x.split_at_mut(half);
        let at = row * half..(row + 1) * half;
        for (((a, b), c), s) in a.iter_mut().zip(b).zip(&cos[at.clone()]).zip(&sin[at]) {
            let s = s * forth;
            (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
        }
    }

    fn scale(&self) -> f32 {
        1.0 / (self.hd as f32).sqrt()
    }

    /// Attended rows `[rows, hd]`.
    fn forward(&self, qkv: &[f32]) -> Vec<f32> {
        let (n, hd) = (self.rows.len(), self.hd);
        let [q, k, v] = [(0, self.scale()), (1, 1.0), (2, 1.0)].map(|(part, s)| self.gather(qkv, part, s));
        let keys = Panels::new(Operands::F32, n, hd, Mat::rows(&k, hd).t());
        let values = Panels::new(Operands::F32, hd, n, Mat::rows(&v, hd));
        let mut out = vec![0f32; n * hd];
        let mut scores = vec![0f32; QUERIES.min(n) * n];
        for (q, out) in q.chunks(QUERIES * hd).zip(out.chunks_mut(QUERIES * hd)) {
            let m = q.len() / hd;
            let s = &mut scores[..m * n];
            keys.product_of_part(m, n, hd, Mat::rows(q, hd), s, Write::Set);
            softmax(s, n);
            values.product_of_part(m, hd, n, Mat::rows(s, n), out, Write::Set);
        }
        out
    }

    /// Gradients of queries, keys and values as they were projected, `[rows, hd]` each.
    fn backward(&self, qkv: &[f32], d_out: &[f32]) -> [Vec<f32>; 3] {
        let (n, hd, width) = (self.rows.len(), self.hd, self.heads * self.hd);
        let scale = self.scale();
        let [q, k, v] = [(0, scale), (1, 1.0), (2, 1.0)].map(|(part, s)| self.gather(qkv, part, s));
        let keys_t = Panels::new(Operands::F32, n, hd, Mat::rows(&k, hd).t());
        let values_t = Panels::new(Operands::F32, n, hd, Mat::rows(&v, hd).t());
        let keys = Panels::new(Operands::F32, hd, n, Mat::rows(&k, hd));
        let mut d_o = Vec::with_capacity(n * hd);
        for row in self.rows.clone() {
            d_o.extend_from_slice(&d_out[row * width + self.head * hd..][..hd]);
        }
        let [mut dq, mut dk, mut dv] = [(); 3].map(|()| vec![0f32; n * hd]);
        let most = QUERIES.min(n) * n;
        let (mut p, mut dp) = (vec![0f32; most], vec![0f32; most]);
        let blocks = q.chunks(QUERIES * hd).zip(d_o.chunks(QUERIES * hd)).zip(dq.chunks_mut(QUERIES * hd));
        for ((q, d_o), dq) in blocks {
            let m = q.len() / hd;
            let (p, dp) = (&mut p[..m * n], &mut dp[..m * n]);
            keys_t.product_of_part(m, n, hd, Mat::rows(q, hd), p, Write::Set);
            softmax(p, n);
            product_serial(n, hd, m, Mat::rows(p, n).t(), Mat::rows(d_o, hd), &mut dv, hd, Write::Add);
            values_t.product_of_part(m, n, hd, Mat::rows(d_o, hd), dp, Write::Set);
            softmax_backward(p, dp, n);
            keys.product_of_part(m, hd, n, Mat::rows(dp, n), dq, Write::Set);
            product_serial(n, hd, m, Mat::rows(dp, n).t(), Mat::rows(q, hd), &mut dk, hd, Write::Add);
        }
        for (row, (dq, dk)) in self.rows.clone().zip(dq.chunks_mut(hd).zip(dk.chunks_mut(hd))) {
            dq.iter_mut().for_each(|d| *d *= scale);
            self.turn(dq, row, -1.0);
            self.turn(dk, row, -1.0);
        }
        [dq, dk, dv]
    }
}

/// Every head of every segment.
fn heads<'a>(
    width: usize,
    heads: usize,
    segments: &'a [Range<usize>],
    sight: &'a Sight,
) -> impl Iterator<Item = Head<'a>> {
    let hd = width / heads;
    segments
        .iter()
        .flat_map(move |rows| (0..heads).map(move |head| Head { rows: rows.clone(), head, hd, heads, sight }))
}

impl TowerOps for HostModel {
    fn rows_of(&self, values: &[f32]) -> Buffer {
        Buffer::copy_of(values)
    }

    fn zeros_like(&self, like: &Buffer) -> Buffer {
        Buffer::zeros(like.len())
    }

    fn add_places(&self, x: &mut Buffer, table: usize, places: &[[(usize, f32); 4]]) {
        let (values, width) = (self.param(table), self.layout.specs[table].shape[1]);
        for (x, taps) in x.chunks_mut(width).zip(places) {
            for (row, weight) in taps.iter().filter(|(_, weight)| *weight != 0.0) {
                let place = &values[row * width..(row + 1) * width];
                x.iter_mut().zip(place).for_each(|(x, p)| *x += weight * p);
            }
        }
    }

    fn add_places_backward(
        &self,
        dx: &Buffer,
        table: usize,
        places: &[[(usize, f32); 4]],
        grads: &mut [Buffer],
    ) {
        let (width, d) = (self.layout.specs[table].shape[1], &mut grads[table]);
        if d.is_empty() {
            return;
        }
        for (dx, taps) in dx.chunks(width).zip(places) {
            for (row, weight) in taps.iter().filter(|(_, weight)| *weight != 0.0) {
                let d = &mut d[row * width..(row + 1) * width];
                d.iter_mut().zip(dx).for_each(|(d, dx)| *d += weight * dx);
            }
        }
    }

    fn layer_norm(&self, x: &Buffer, norm: &LayerNorm) -> Buffer {
        let (w, b) = (self.param(norm.weight), self.param(norm.bias));
        let (d, mut y) = (w.len(), Buffer::any(x.len()));
        y.par_chunks_mut(BLOCK * d).zip(x.par_chunks(BLOCK * d)).for_each(|(y, x)| {
            for (y, x) in y.chunks_mut(d).zip(x.chunks(d)) {
                let (mean, r) = moments(x, norm.eps);
                for (((y, x), w), b) in y.iter_mut().zip(x).zip(w).zip(b) {
                    *y = (x - mean) * r * w + b;
                }
            }
        });
        y
    }

    fn layer_norm_backward(
        &self,
        x: &Buffer,
        norm: &LayerNorm,
        dy: &Buffer,
        dx: &mut Buffer,
        grads: &mut [Buffer],
    ) {
        let w = self.param(norm.weight);
        let d = w.len();
        let parts: Vec<(Vec<f32>, Vec<f32>)> = dx
            .par_chunks_mut(BLOCK * d)
            .zip(x.par_chunks(BLOCK * d))
            .zip(dy.par_chunks(BLOCK * d))
            .map(|((dx, x), dy)| {
                let (mut dw, mut db) = (vec![0f32; d], vec![0f32; d]);
                for ((dx, x), dy) in dx.chunks_mut(d).zip(x.chunks(d)).zip(dy.chunks(d)) {
                    layer_norm_row(x, w, norm.eps, dy, dx, (&mut dw, &mut db));
                }
                (dw, db)
            })
            .collect();
        for (dw, db) in parts {
            for (index, part) in [(norm.weight, dw), (norm.bias, db)] {
                grads[index].iter_mut().zip(part).for_each(|(a, b)| *a += b);
            }
        }
    }

    fn act(&self, x: &Buffer, act: TowerAct) -> Buffer {
        let row = match act {
            TowerAct::QuickGelu => quick_gelu,
            TowerAct::GeluTanh => gelu_tanh,
            TowerAct::Gelu => gelu_exact,
        };
        let mut y = Buffer::any(x.len());
        y.par_chunks_mut(1 << 12).zip(x.par_chunks(1 << 12)).for_each(|(y, x)| row(x, y));
        y
    }

    fn act_backward(&self, x: &Buffer, act: TowerAct, dy: &Buffer) -> Buffer {
        let row = match act {
            TowerAct::QuickGelu => quick_gelu_backward,
            TowerAct::GeluTanh => gelu_tanh_backward,
            TowerAct::Gelu => gelu_exact_backward,
        };
        let mut d = Buffer::any(x.len());
        (d.par_chunks_mut(1 << 12).zip(x.par_chunks(1 << 12)).zip(dy.par_chunks(1 << 12)))
            .for_each(|((d, x), dy)| row(x, dy, d));
        d
    }

    fn see(&self, qkv: &Buffer, count: usize, segments: &[Range<usize>], sight: &Sight) -> Buffer {
        let rows: usize = segments.iter().map(Range::len).sum();
        let width = qkv.len() / rows.max(1) / 3;
        let all: Vec<Head<'_>> = heads(width, count, segments, sight).collect();
        let outs: Vec<Vec<f32>> = all.par_iter().map(|head| head.forward(qkv)).collect();
        let mut out = Buffer::any(rows * width);
        for (head, part) in all.iter().zip(outs) {
            for (row, part) in head.rows.clone().zip(part.chunks(head.hd)) {
                out[row * width + head.head * head.hd..][..head.hd].copy_from_slice(part);
            }
        }
        out
    }

    fn see_backward(
        &self,
        qkv: &Buffer,
        count: usize,
        segments: &[Range<usize>],
        sight: &Sight,
        d_out: &Buffer,
    ) -> Buffer {
        let rows: usize = segments.iter().map(Range::len).sum();
        let width = qkv.len() / rows.max(1) / 3;
        let all: Vec<Head<'_>> = heads(width, count, segments, sight).collect();
        let parts: Vec<[Vec<f32>; 3]> = all.par_iter().map(|head| head.backward(qkv, d_out)).collect();
        let mut d_qkv = Buffer::any(qkv.len());
        for (head, parts) in all.iter().zip(parts) {
            for (i, part) in parts.iter().enumerate() {
                for (row, part) in head.rows.clone().zip(part.chunks(head.hd)) {
                    d_qkv[row * head.stride()..][head.columns(i)].copy_from_slice(part);
                }
            }
        }
        d_qkv
    }
}

/// Adds the gradient of one row to `dx`, and those of factor and bias.
fn layer_norm_row(
    x: &[f32],
    w: &[f32],
    eps: f32,
    dy: &[f32],
    dx: &mut [f32],
    (dw, db): (&mut [f32], &mut [f32]),
) {
    let (mean, r) = moments(x, eps);
    let n = x.len() as f64;
    let (mut sum, mut along) = (0f64, 0f64);
    for ((x, w), dy) in x.iter().zip(w).zip(dy) {
        let (normed, g) = (f64::from((x - mean) * r), f64::from(dy * w));
        sum += g;
        along += g * normed;
    }
    let (sum, along) = ((sum / n) as f32, (along / n) as f32);
    for (i, x) in x.iter().enumerate() {
        let normed = (x - mean) * r;
        dx[i] += r * (dy[i] * w[i] - sum - normed * along);
        dw[i] += dy[i] * normed;
        db[i] += dy[i];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_function_and_gelu() {
        for (x, want) in
            [(0.0, 0.0), (0.5, 0.520_499_877_813_046_5), (-2.0, -0.995_322_265_018_952_7), (9.0, 1.0)]
        {
            assert!((erf(x) - want).abs() < 1e-14, "{x}: {}", erf(x));
        }
        for x in [-3.0f32, -0.5, 0.0, 0.7, 4.0] {
            let slope = (f64::from(gelu(x + 1e-2).0) - f64::from(gelu(x - 1e-2).0)) / 2e-2;
            assert!((slope - f64::from(gelu(x).1)).abs() < 1e-3, "{x}");
        }
    }
}
