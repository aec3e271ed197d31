//! Muon: momentum whose matrices are made nearly orthogonal by a Newton–Schulz iteration before they are applied (K. Jordan and
//! others, "Muon: an optimizer for hidden layers in neural networks", 2024), for the matrices of hidden layers.
//!
//! With the momentum `m ← β m + (1 − β) g` and `u = β m + (1 − β) g` (Nesterov) or `u = m`, a matrix becomes
//! `p ← p·(1 − lr·wd) − lr·s·orth(u)`, where `s = √max(1, rows/columns)`, or `0.2 √max(rows, columns)`, which gives updates
//! the size of AdamW's (arXiv:2502.16982, section 2.2). Rows and columns are those of the Hugging Face tensor.
use crate::config::{MuonConfig, MuonScale};
use rayon::prelude::*;
use rlvr_policies::host::gemm::{Mat, Operands, Write, product};

/// Coefficients of the iteration `x ← a x + b (x xᵀ) x + c (x xᵀ)² x`, as published: steepest at zero.
const COEFFICIENTS: [f32; 3] = [3.4445, -4.775, 2.0315];
/// Least norm that is divided by.
const LEAST: f64 = 1e-7;
/// Elements that one task works on.
const BLOCK: usize = 1 << 14;

/// The numbers of one update.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) lr: f64,
    pub(super) weight_decay: f64,
    /// Factor of the gradient.
    pub(super) clip: f64,
    pub(super) settings: MuonConfig,
    /// What the products of the iteration are computed in.
    pub(super) operands: Operands,
}

/// One update of a matrix.
///
/// # Shapes
/// p, momentum and g `[rows, columns]`.
pub(super) fn update(k: &Step, [rows, columns]: [usize; 2], p: &mut [f32], momentum: &mut [f32], g: &[f32]) {
    let beta = k.settings.momentum as f32;
    let rest = (1.0 - k.settings.momentum) as f32;
    let clip = k.clip as f32;
    let mut u = vec![0f32; g.len()];
    (momentum.par_chunks_mut(BLOCK).zip(g.par_chunks(BLOCK)).zip(u.par_chunks_mut(BLOCK))).for_each(
        |((m, g), u)| {
            for ((m, g), u) in m.iter_mut().zip(g).zip(u) {
                let g = *g * clip;
                *m = beta * *m + rest * g;
                *u = if k.settings.nesterov { beta * *m + rest * g } else { *m };
            }
        },
    );
    let u = orthogonal(k.operands, [rows, columns], u, k.settings.ns_steps);
    let scale = match k.settings.scale {
        MuonScale::Original => (rows as f64 / columns as f64).max(1.0).sqrt(),
        MuonScale::MatchRmsAdamw => 0.2 * (rows.max(columns) as f64).sqrt(),
    };
    let (decay, step) = ((1.0 - k.lr * k.weight_decay) as f32, (k.lr * scale) as f32);
    p.par_chunks_mut(BLOCK).zip(u.par_chunks(BLOCK)).for_each(|(p, u)| {
        p.iter_mut().zip(u).for_each(|(p, u)| *p = *p * decay - step * u);
    });
}

/// The matrix with its singular values brought near to 1.
fn orthogonal(operands: Operands, [rows, columns]: [usize; 2], u: Vec<f32>, steps: usize) -> Vec<f32> {
    let tall = rows > columns;
    let mut x = if tall { transposed(&u, columns) } else { u };
    // Short by long: the products of rows with each other are the smaller matrix.
    let (short, long) = (rows.min(columns), rows.max(columns));
    let norm =
        x.chunks(BLOCK).map(|x| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>()).sum::<f64>().sqrt();
    let scale = (1.0 / norm.max(LEAST)) as f32;
    x.iter_mut().for_each(|x| *x *= scale);
    let [a, b, c] = COEFFICIENTS;
    let (mut gram, mut by, mut next) =
        (vec![0f32; short * short], vec![0f32; short * short], vec![0f32; x.len()]);
    for _ in 0..steps {
        let all = Mat::rows(&x, long);
        product(operands, [short, short, long], all, all.t(), &mut gram, Write::Set);
        let square = Mat::rows(&gram, short);
        product(operands, [short, short, short], square, square, &mut by, Write::Set);
        by.iter_mut().zip(&gram).for_each(|(by, gram)| *by = b * gram + c * *by);
        product(operands, [short, long, short], Mat::rows(&by, short), all, &mut next, Write::Set);
        next.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(next, x)| {
            next.iter_mut().zip(x).for_each(|(next, x)| *next += a * x);
        });
        std::mem::swap(&mut x, &mut next);
    }
    if tall { transposed(&x, rows) } else { x }
}

/// The transpose of a matrix with so many columns.
fn transposed(x: &[f32], columns: usize) -> Vec<f32> {
    let rows = x.len() / columns.max(1);
    let mut y = vec![0f32; x.len()];
    y.par_chunks_mut(rows.max(1)).enumerate().for_each(|(column, y)| {
        y.iter_mut().enumerate().for_each(|(row, y)| *y = x[row * columns + column]);
    });
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 104_729) % 1013) as f32 / 1013.0 - 0.5).collect()
    }

    /// The same iteration in f64, element by element.
    fn exact([rows, columns]: [usize; 2], u: &[f32], steps: usize) -> Vec<f64> {
        let tall = rows > columns;
        let (short, long) = (rows.min(columns), rows.max(columns));
        let at = |i: usize, j: usize| f64::from(if tall { u[j * columns + i] } else { u[i * columns + j] });
        let mut x: Vec<f64> = (0..short * long).map(|e| at(e / long, e % long)).collect();
        let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt();
        x.iter_mut().for_each(|x| *x /= norm);
        let multiply = |a: &[f64], b: &dyn Fn(usize, usize) -> f64, k: usize, n: usize| -> Vec<f64> {
            let of = |e: usize| (0..k).map(|l| a[e / n * k + l] * b(l, e % n)).sum();
            (0..a.len() / k * n).map(of).collect()
        };
        for _ in 0..steps {
            let gram = multiply(&x, &|l, j| x[j * long + l], long, short);
            let square = multiply(&gram, &|l, j| gram[l * short + j], short, short);
            let by: Vec<f64> = gram.iter().zip(&square).map(|(g, s)| -4.775 * g + 2.0315 * s).collect();
            let more = multiply(&by, &|l, j| x[l * long + j], short, long);
            x = x.iter().zip(&more).map(|(x, m)| 3.4445 * x + m).collect();
        }
        let back = |e: usize| if tall { x[e % columns * long + e / columns] } else { x[e] };
        (0..rows * columns).map(back).collect()
    }

    /// Two updates in f64 by the formulas of the head of this file.
    #[test]
    fn momentum_looks_ahead_where_it_should_and_decay_comes_before_the_step() {
        let (shape, count) = ([6, 3], 18);
        let start = noise(count, 40);
        for (nesterov, scale, factor) in [
            (true, MuonScale::Original, 2f64.sqrt()),
            (false, MuonScale::Original, 2f64.sqrt()),
            (false, MuonScale::MatchRmsAdamw, 0.2 * 6f64.sqrt()),
        ] {
            let settings = MuonConfig { momentum: 0.8, nesterov, ns_steps: 5, scale };
            let k = Step { lr: 0.5, weight_decay: 0.6, clip: 0.5, settings, operands: Operands::F32 };
            let (mut p, mut momentum) = (start.clone(), vec![0f32; count]);
            let mut expected: Vec<f64> = start.iter().map(|p| f64::from(*p)).collect();
            let mut m = vec![0f64; count];
            for seed in [50, 60] {
                let g = noise(count, seed);
                update(&k, shape, &mut p, &mut momentum, &g);
                let mut u = Vec::new();
                for (m, g) in m.iter_mut().zip(&g) {
                    let g = 0.5 * f64::from(*g);
                    *m = 0.8 * *m + 0.2 * g;
                    u.push(if nesterov { 0.8 * *m + 0.2 * g } else { *m } as f32);
                }
                for (p, u) in expected.iter_mut().zip(exact(shape, &u, 5)) {
                    *p = *p * (1.0 - 0.5 * 0.6) - 0.5 * factor * u;
                }
            }
            let off = p.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            assert!(off < 1e-4, "nesterov {nesterov}, {scale:?}: {off}");
        }
    }

    #[test]
    fn wide_square_and_tall_matrices_become_nearly_orthogonal() {
        for (seed, shape) in [[5usize, 12], [9, 9], [14, 4], [1, 7], [7, 1]].into_iter().enumerate() {
            let u = noise(shape[0] * shape[1], seed + 1);
            let got = orthogonal(Operands::F32, shape, u.clone(), 5);
            let off = got.iter().zip(exact(shape, &u, 5)).map(|(a, b)| (f64::from(*a) - b).abs());
            assert!(off.fold(0.0, f64::max) < 2e-5, "{shape:?}");
            // Singular values within about 0.3 of 1, so that their squares add up to about the shorter side.
            let squares: f32 = got.iter().map(|x| x * x).sum();
            let short = shape[0].min(shape[1]) as f32;
            assert!((0.4 * short..1.5 * short).contains(&squares), "{shape:?}: {squares}");
        }
        assert!(orthogonal(Operands::F32, [3, 2], vec![0.0; 6], 5).iter().all(|x| *x == 0.0));
    }
}
