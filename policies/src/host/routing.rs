//! Which experts a token goes to (arXiv:2101.03961, and the top of several as in Qwen3's mixtures).
use super::buffer::Buffer;
use crate::model::ops::{Balance, Routing};
use crate::spec::Experts;

/// Softmax of every row of scores, the largest few of it, and their weights.
///
/// # Shapes
/// scores `[rows, experts]`.
pub fn route(scores: &[f32], e: &Experts) -> Routing {
    let count = e.experts.len();
    let (mut rows, mut weights) = (vec![Vec::new(); count], vec![Vec::new(); count]);
    let mut probabilities = Vec::with_capacity(scores.len());
    for (row, scores) in scores.chunks(count).enumerate() {
        let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exponentials: Vec<f32> = scores.iter().map(|s| (s - max).exp()).collect();
        let sum: f32 = exponentials.iter().sum();
        let p: Vec<f32> = exponentials.iter().map(|x| x / sum).collect();
        let mut order: Vec<usize> = (0..count).collect();
        // Of equal ones the first.
        order.sort_by(|a, b| p[*b].total_cmp(&p[*a]).then(a.cmp(b)));
        order.truncate(e.top);
        let total: f32 = if e.normalise { order.iter().map(|i| p[*i]).sum() } else { 1.0 };
        for i in order {
            rows[i].push(row);
            weights[i].push(p[i] / total);
        }
        probabilities.extend(p);
    }
    Routing { probabilities, rows, weights }
}

/// The gradient of the scores, `[rows, experts]`, for that of the weights, and for `balance`, that of the probabilities,
/// where there is one.
pub fn route_backward(
    routing: &Routing,
    d_weights: &[Vec<f32>],
    balance: Option<Balance<'_>>,
    e: &Experts,
) -> Buffer {
    let count = e.experts.len();
    let p = &routing.probabilities;
    // By row: Σ of the chosen probabilities, and Σ weight · gradient.
    let rows = p.len() / count;
    let (mut total, mut weighted) = (vec![1f32; rows], vec![0f32; rows]);
    let chosen = || {
        routing
            .rows
            .iter()
            .enumerate()
            .flat_map(|(i, rows)| rows.iter().enumerate().map(move |(j, row)| (i, j, *row)))
    };
    if e.normalise {
        total.fill(0.0);
        for (i, j, row) in chosen() {
            total[row] += p[row * count + i];
            weighted[row] += routing.weights[i][j] * d_weights[i][j];
        }
    }
    let mut d = Buffer::zeros(p.len());
    for (i, j, row) in chosen() {
        d[row * count + i] = (d_weights[i][j] - weighted[row]) / total[row];
    }
    if let Some(Balance { slopes, times }) = balance {
        for (d, times) in d.chunks_mut(count).zip(times) {
            d.iter_mut().zip(slopes).for_each(|(d, slope)| *d += slope * times);
        }
    }
    for (d, p) in d.chunks_mut(count).zip(p.chunks(count)) {
        let dot: f32 = d.iter().zip(p).map(|(d, p)| d * p).sum();
        d.iter_mut().zip(p).for_each(|(d, p)| *d = p * (*d - dot));
    }
    d
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Act, Gated, Linear};

    fn experts(count: usize, top: usize, normalise: bool) -> Experts {
        let linear = Linear { weight: 0, bias: None };
        let expert = Gated { gate_up: linear, down: linear, act: Act::Silu };
        Experts { router: linear, top, normalise, experts: vec![expert; count] }
    }

    #[test]
    fn gradients_of_scores_are_those_of_differences() {
        for normalise in [false, true] {
            let e = experts(5, 2, normalise);
            let (slopes, times) = ([0.5f32, -1.0, 0.25, 0.0, 2.0], [1.0f32, 3.0, 1.0]);
            let balance = Some(Balance { slopes: &slopes, times: &times });
            let scores: Vec<f32> = (0..15).map(|i| (i * 7 % 11) as f32 / 4.0 - 1.0).collect();
            let slope = |expert: usize, row: usize| ((expert * 5 + row * 3) % 7) as f32 - 3.0;
            let loss = |scores: &[f32]| -> f32 {
                let r = route(scores, &e);
                let each = |i: usize| {
                    r.rows[i].iter().zip(&r.weights[i]).map(move |(row, w)| slope(i, *row) * w).sum::<f32>()
                };
                let of_row = |p: &[f32]| p.iter().zip(&slopes).map(|(p, slope)| p * slope).sum::<f32>();
                let balanced: f32 =
                    r.probabilities.chunks(5).zip(&times).map(|(p, times)| of_row(p) * times).sum();
                (0..5).map(each).sum::<f32>() + balanced
            };
            let routing = route(&scores, &e);
            assert!(routing.rows.iter().map(Vec::len).sum::<usize>() == 6);
            let d_weights: Vec<Vec<f32>> = routing
                .rows
                .iter()
                .enumerate()
                .map(|(i, rows)| rows.iter().map(|r| slope(i, *r)).collect())
                .collect();
            let d = route_backward(&routing, &d_weights, balance, &e);
            for i in 0..scores.len() {
                let at = |by: f32| {
                    let mut moved = scores.clone();
                    moved[i] += by;
                    loss(&moved)
                };
                let want = (at(1e-2) - at(-1e-2)) / 2e-2;
                assert!((d[i] - want).abs() < 2e-3, "{normalise} {i}: {} {want}", d[i]);
            }
        }
    }
}
