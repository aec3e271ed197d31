//! The language-model head with the selective log-softmax: chunks over rows and vocabulary, so that `[rows, vocab]`
//! never exists.
use super::buffer::Buffer;
use super::gemm::{Mat, Operands, Panels, Write, product};
use super::narrow::Matrix;
use super::simd::{LANES, exp, multiversion, reduce, tanh};
use crate::model::ops::Squash;
use crate::targets::{TargetGrads, TargetStats};
use rayon::prelude::*;
use std::collections::VecDeque;

/// Elements of one chunk of logits.
const CHUNK: usize = 1 << 22;
/// Rows of one chunk.
const ROWS: usize = 4096;
/// Logits that may be kept from the forward for the backward; the others are computed again.
const KEPT: usize = 1 << 26;

/// Running softmax sums of one row.
#[derive(Clone, Copy)]
struct Running {
    max: f32,
    sum: f32,
    /// Σ e^(l − max) · (l − max)
    weighted: f32,
    target: f32,
}

multiversion! {
    fn absorb(state: &mut Running, logits: &[f32]) {
        let mut top = [f32::NEG_INFINITY; LANES];
        let (chunks, rest) = logits.as_chunks::<LANES>();
        for c in chunks {
            for l in 0..LANES {
                top[l] = if c[l] > top[l] { c[l] } else { top[l] };
            }
        }
        let max = top.iter().chain(rest).fold(state.max, |a, b| if *b > a { *b } else { a });
        let (mut acc, mut wacc) = ([0f32; LANES], [0f32; LANES]);
        for c in chunks {
            for l in 0..LANES {
                let e = exp(c[l] - max);
                acc[l] += e;
                wacc[l] += e * (c[l] - max);
            }
        }
        let (mut sum, mut weighted) = (reduce(acc), reduce(wacc));
        for x in rest {
            let e = exp(x - max);
            sum += e;
            weighted += e * (x - max);
        }
        if state.sum > 0.0 {
            let shift = state.max - max;
            let scale = exp(shift);
            sum += state.sum * scale;
            weighted += scale * (state.weighted + state.sum * shift);
        }
        state.max = max;
        state.sum = sum;
        state.weighted = weighted;
    }
}

multiversion! {
    /// Turns logits into `−g · softmax`.
    fn negative_softmax(logits: &mut [f32], log_sum: f32, g: f32) {
        for x in logits {
            *x = -g * exp(*x - log_sum);
        }
    }
}

multiversion! {
    /// Turns logits into `−p · (g + e · (ln p + H))`: the part of the gradient that every token has, for the gradients
    /// `g` of the target's log-probability and `e` of the entropy H.
    fn negative_softmax_and_entropy(logits: &mut [f32], log_sum: f32, g: f32, e: f32, entropy: f32) {
        for x in logits {
            let log_p = *x - log_sum;
            *x = -exp(log_p) * (g + e * (log_p + entropy));
        }
    }
}

fn vocab_chunk(rows: usize, vocab: usize) -> usize {
    (CHUNK / rows.max(1)).max(256).min(vocab)
}

/// The first chunks of logits, in the order of the forward.
#[derive(Default)]
pub struct Kept(VecDeque<Buffer>);

/// A weight matrix `[out, in]`, and the same packed where that was done before.
#[derive(Clone, Copy)]
pub struct Weight<'a> {
    /// Row-major.
    pub values: Matrix<'a>,
    /// Its transpose, as the right side of products.
    pub panels: Option<&'a Panels>,
    /// What its products are computed in.
    pub operands: Operands,
}

impl Weight<'_> {
    /// `y = x·wᵀ` or `y += x·wᵀ`.
    ///
    /// # Shapes
    /// x `[rows, in]`, y `[rows, out]`.
    pub fn apply(&self, rows: usize, x: &[f32], y: &mut [f32], write: Write) {
        let (inside, out) = (x.len() / rows.max(1), y.len() / rows.max(1));
        let x = Mat::rows(x, inside);
        match self.panels {
            Some(panels) => panels.product(rows, x, y, write),
            None => {
                let values = self.values.all(inside);
                let weight = Mat::rows(&values, inside).t();
                product(self.operands, [rows, out, inside], x, weight, y, write);
            }
        }
    }
}

/// `y = x·wᵀ` or `y += x·wᵀ`, and `y2 = x·w2ᵀ` of a narrow matrix.
///
/// # Shapes
/// x `[rows, in]`, y `[rows, out]`, y2 `[rows, out2]`.
pub fn apply_both(
    rows: usize,
    x: &[f32],
    (weight, y, write): (Weight, &mut [f32], Write),
    (narrow, y2): (Weight, &mut [f32]),
) {
    match (weight.panels, narrow.panels) {
        (Some(panels), Some(narrow)) => {
            panels.product_and(rows, Mat::rows(x, x.len() / rows.max(1)), (y, write), (narrow, y2));
        }
        _ => {
            weight.apply(rows, x, y, write);
            narrow.apply(rows, x, y2, Write::Set);
        }
    }
}

multiversion! {
    /// `x` becomes `cap · tanh(x / cap) · factor`.
    fn squash_row(x: &mut [f32], cap: f32, factor: f32) {
        for x in x {
            *x = cap * tanh(*x / cap) * factor;
        }
    }
}

multiversion! {
    /// Multiplies gradients by the slope of [`squash_row`] where it gave `y`.
    fn squash_row_backward(dx: &mut [f32], y: &[f32], cap: f32, factor: f32) {
        for (dx, y) in dx.iter_mut().zip(y) {
            let t = *y / (cap * factor);
            *dx *= (1.0 - t * t) * factor;
        }
    }
}

/// Squashes logits of many rows.
pub fn squash_all(logits: &mut [f32], squash: Squash) {
    logits.par_chunks_mut(1 << 14).for_each(|x| squash_row(x, squash.cap, squash.factor));
}

/// Log-probability and entropy of `targets` under softmax(squash(h · Wᵀ)), and as many logits as may be kept at once for
/// [`backward`] if `keep`.
///
/// # Shapes
/// h `[targets, hidden]`.
pub fn forward(
    weight: &Weight,
    hidden: usize,
    squash: Option<Squash>,
    h: &[f32],
    targets: &[u32],
    keep: bool,
) -> (TargetStats, Kept) {
    forward_keeping(weight, hidden, squash, h, targets, if keep { KEPT } else { 0 })
}

fn forward_keeping(
    weight: &Weight,
    hidden: usize,
    squash: Option<Squash>,
    h: &[f32],
    targets: &[u32],
    mut keep: usize,
) -> (TargetStats, Kept) {
    let (values, operands) = (weight.values, weight.operands);
    let vocab = values.elements() / hidden;
    let mut kept = Kept::default();
    let mut stats = TargetStats::default();
    for (h, targets) in h.chunks(ROWS * hidden).zip(targets.chunks(ROWS)) {
        let n = targets.len();
        let width = vocab_chunk(n, vocab);
        let start = Running { max: f32::NEG_INFINITY, sum: 0.0, weighted: 0.0, target: 0.0 };
        let mut states = vec![start; n];
        let mut room = None;
        for first in (0..vocab).step_by(width) {
            let w = width.min(vocab - first);
            let mut all = room.take().unwrap_or_else(|| Buffer::any(n * width));
            let logits = &mut all[..n * w];
            let values = values.rows(first..first + w, hidden);
            let weight = Mat::rows(&values, hidden);
            product(operands, [n, w, hidden], Mat::rows(h, hidden), weight.t(), logits, Write::Set);
            if let Some(squash) = squash {
                squash_all(logits, squash);
            }
            states.par_iter_mut().zip(logits.par_chunks(w)).zip(targets).with_min_len(8).for_each(
                |((state, logits), target)| {
                    absorb(state, logits);
                    if let Some(i) = (*target as usize).checked_sub(first).filter(|i| *i < w) {
                        state.target = logits[i];
                    }
                },
            );
            if n * width <= keep {
                keep -= n * width;
                kept.0.push_back(all);
            } else {
                keep = 0;
                room = Some(all);
            }
        }
        for s in states {
            let log_sum = s.max + s.sum.ln();
            stats.logprobs.push(s.target - log_sum);
            stats.entropy.push(s.sum.ln() - s.weighted / s.sum);
            stats.log_sum.push(log_sum);
        }
    }
    (stats, kept)
}

/// Backward of [`forward`] for the gradients `g` of each target: overwrites `dh`, adds to `d_weight`.
///
/// # Shapes
/// h, dh `[targets, hidden]`, d_weight `[vocab, hidden]` or empty where it is not asked for, g `[targets]`; `kept` is of
/// the same h.
pub fn backward(
    weight: &Weight,
    squash: Option<Squash>,
    h: &[f32],
    targets: &[u32],
    (stats, g): (&TargetStats, &TargetGrads),
    mut kept: Kept,
    (dh, d_weight): (&mut [f32], &mut [f32]),
) {
    let (values, operands) = (weight.values, weight.operands);
    let hidden = h.len() / targets.len().max(1);
    let vocab = values.elements() / hidden;
    for (i, (targets, dh)) in targets.chunks(ROWS).zip(dh.chunks_mut(ROWS * hidden)).enumerate() {
        let n = targets.len();
        let at = i * ROWS..i * ROWS + n;
        let h = &h[at.start * hidden..at.end * hidden];
        let g = Slopes {
            log_sum: &stats.log_sum[at.clone()],
            entropy: &stats.entropy[at.clone()],
            g: &g.logprobs[at.clone()],
            by_entropy: g.entropy.as_ref().map(|e| &e[at]),
        };
        let width = vocab_chunk(n, vocab);
        let mut room = None;
        for first in (0..vocab).step_by(width) {
            let w = width.min(vocab - first);
            let span = first * hidden..(first + w) * hidden;
            let values = values.rows(first..first + w, hidden);
            let weight = Mat::rows(&values, hidden);
            let again = kept.0.is_empty();
            let free = || room.take().unwrap_or_else(|| Buffer::any(n * width));
            let mut all = kept.0.pop_front().unwrap_or_else(free);
            let logits = &mut all[..n * w];
            if again {
                product(operands, [n, w, hidden], Mat::rows(h, hidden), weight.t(), logits, Write::Set);
                if let Some(squash) = squash {
                    squash_all(logits, squash);
                }
            }
            logits.par_chunks_mut(w).zip(targets).enumerate().with_min_len(8).for_each(
                |(row, (logits, target))| {
                    let own = (*target as usize).checked_sub(first).filter(|i| *i < w);
                    g.of_logits(row, logits, own, squash);
                },
            );
            let write = if first == 0 { Write::Set } else { Write::Add };
            product(operands, [n, hidden, w], Mat::rows(logits, w), weight, dh, write);
            if !d_weight.is_empty() {
                let (logits, h) = (Mat::rows(logits, w).t(), Mat::rows(h, hidden));
                product(operands, [w, hidden, n], logits, h, &mut d_weight[span], Write::Add);
            }
            room = Some(all);
        }
    }
}

/// What makes gradients of logits, by row.
struct Slopes<'a> {
    log_sum: &'a [f32],
    entropy: &'a [f32],
    g: &'a [f32],
    by_entropy: Option<&'a [f32]>,
}

impl Slopes<'_> {
    /// Turns a row of logits into the loss' gradient with respect to them before they were squashed; `own` is the target.
    fn of_logits(&self, row: usize, logits: &mut [f32], own: Option<usize>, squash: Option<Squash>) {
        let before = squash.map(|squash| (squash, logits.to_vec()));
        let (log_sum, g) = (self.log_sum[row], self.g[row]);
        match self.by_entropy {
            None => negative_softmax(logits, log_sum, g),
            Some(e) => negative_softmax_and_entropy(logits, log_sum, g, e[row], self.entropy[row]),
        }
        if let Some(i) = own {
            logits[i] += g;
        }
        if let Some((squash, y)) = before {
            squash_row_backward(logits, &y, squash.cap, squash.factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kept, a part of them kept, and computed again: the same bits.
    #[test]
    fn gradients_do_not_depend_on_what_is_kept() {
        let (hidden, vocab, n) = (8, 9_000, 700);
        let noise = |i: usize, scale: f32| ((i * 7_919 % 1_013) as f32 / 1_013.0 - 0.5) * scale;
        let h: Vec<f32> = (0..n * hidden).map(|i| noise(i, 2.0)).collect();
        let weight: Vec<f32> = (0..vocab * hidden).map(|i| noise(i + 5, 1.0)).collect();
        let targets: Vec<u32> = (0..n).map(|i| (i * 31 % vocab) as u32).collect();
        let g: Vec<f32> = (0..n).map(|i| noise(i + 11, 1.0)).collect();
        let g =
            TargetGrads { entropy: Some(g.iter().map(|g| 0.5 - g).collect()), logprobs: g, balance: None };
        let chunk = n * vocab_chunk(n, vocab);
        assert!(n * vocab > chunk, "more than one chunk");
        let head = Weight { values: Matrix::Wide(&weight), panels: None, operands: Operands::F32 };
        let run = |keep: usize, squash: Option<Squash>| {
            let (stats, kept) = forward_keeping(&head, hidden, squash, &h, &targets, keep);
            let count = kept.0.len();
            let (mut dh, mut dw) = (vec![0.0; h.len()], vec![0.0; weight.len()]);
            backward(&head, squash, &h, &targets, (&stats, &g), kept, (&mut dh, &mut dw));
            (count, stats, dh, dw)
        };
        for squash in [None, Some(Squash { cap: 2.0, factor: 1.25 })] {
            let (none, some, all) = (run(0, squash), run(chunk, squash), run(usize::MAX, squash));
            assert_eq!([none.0, some.0, all.0], [0, 1, (n * vocab).div_ceil(chunk)]);
            assert!(none.2.iter().chain(&none.3).any(|x| *x != 0.0));
            assert_eq!((&none.1, &none.2, &none.3), (&some.1, &some.2, &some.3));
            assert_eq!((&none.1, &none.2, &none.3), (&all.1, &all.2, &all.3));
        }
    }

    /// Log-probability and entropy of a row in f64.
    fn exact(h: &[f64], weight: &[f32], target: usize, squash: Option<Squash>) -> (f64, f64) {
        let squashed = |x: f64| match squash {
            Some(s) => f64::from(s.cap) * (x / f64::from(s.cap)).tanh() * f64::from(s.factor),
            None => x,
        };
        let logit = |w: &[f32]| squashed(w.iter().zip(h).map(|(w, h)| f64::from(*w) * h).sum());
        let logits: Vec<f64> = weight.chunks(h.len()).map(logit).collect();
        let sum: f64 = logits.iter().map(|l| l.exp()).sum();
        let log_p: Vec<f64> = logits.iter().map(|l| l - sum.ln()).collect();
        (log_p[target], -log_p.iter().map(|l| l.exp() * l).sum::<f64>())
    }

    #[test]
    fn gradients_of_log_probability_and_entropy_are_those_of_differences() {
        let (hidden, vocab) = (5, 300);
        let noise = |i: usize| (i * 7_919 % 1_013) as f32 / 1_013.0 - 0.5;
        let weight: Vec<f32> = (0..vocab * hidden).map(|i| 4.0 * noise(i + 5)).collect();
        let h: Vec<f32> = (0..2 * hidden).map(noise).collect();
        let (targets, head) =
            ([17, 250], Weight { values: Matrix::Wide(&weight), panels: None, operands: Operands::F32 });
        let g = TargetGrads { logprobs: vec![0.5, -1.5], entropy: Some(vec![2.0, 0.75]), balance: None };
        for squash in [None, Some(Squash { cap: 1.5, factor: 1.25 })] {
            let (stats, kept) = forward(&head, hidden, squash, &h, &targets, true);
            let (mut dh, mut dw) = (vec![0.0; h.len()], vec![0.0; weight.len()]);
            backward(&head, squash, &h, &targets, (&stats, &g), kept, (&mut dh, &mut dw));
            for (row, h) in h.chunks(hidden).enumerate() {
                let loss = |i: usize, by: f64| {
                    let mut h: Vec<f64> = h.iter().map(|x| f64::from(*x)).collect();
                    h[i] += by;
                    let (log_p, entropy) = exact(&h, &weight, targets[row] as usize, squash);
                    let by_entropy = g.entropy.as_ref().map_or(0.0, |e| f64::from(e[row]));
                    f64::from(g.logprobs[row]) * log_p + by_entropy * entropy
                };
                for i in 0..hidden {
                    let slope = (loss(i, 1e-5) - loss(i, -1e-5)) / 2e-5;
                    let found = f64::from(dh[row * hidden + i]);
                    assert!(
                        (slope - found).abs() < 1e-4 * slope.abs().max(1.0),
                        "{row} {i}: {slope} {found}"
                    );
                }
            }
            // Every row of logits moves along the same direction: unsquashed, its gradients add up to nothing.
            let total: f32 = dw.chunks(hidden).map(|w| w[0]).sum();
            assert!(squash.is_some() || total.abs() < 1e-3 && dw.iter().any(|w| w.abs() > 0.1), "{total}");
        }
    }
}
