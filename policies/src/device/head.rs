//! The language-model head with the selective log-softmax, in chunks of rows: a chunk's logits are turned at once into
//! what is asked of them, so `[targets, vocab]` never exists.
use super::elementwise;
use super::mat::{Mat, cubes, product};
use super::norm::cube_sum;
use super::rows;
use crate::model::ops::Squash;
use crate::targets::{TargetGrads, TargetStats};
use burn::tensor::DType;
use cubecl::prelude::*;

/// Elements of one chunk of logits.
const CHUNK: usize = 1 << 26;

/// Units that share one row of logits.
const UNITS: u32 = 256;

/// Numbers that [`stats_kernel`] leaves of a row.
const STATS: usize = 3;

#[cube]
fn cube_max(value: f32, #[comptime] units: usize) -> f32 {
    let mut shared = Shared::<[f32]>::new_slice(units);
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    let mut width = CUBE_DIM as usize / 2;
    while width > 0 {
        if unit < width {
            let other = shared[unit + width];
            if other > shared[unit] {
                shared[unit] = other;
            }
        }
        sync_cube();
        width /= 2;
    }
    shared[0]
}

#[cube(launch)]
fn stats_kernel(
    logits: &[f32],
    targets: &[u32],
    out: &mut [f32],
    rows: usize,
    vocab: usize,
    #[comptime] units: usize,
) {
    if CUBE_POS < rows {
        let base = CUBE_POS * vocab;
        let mut most = f32::new(-3.0e38f32);
        let mut i = UNIT_POS as usize;
        while i < vocab {
            if logits[base + i] > most {
                most = logits[base + i];
            }
            i += units;
        }
        let max = cube_max(most, units);
        let mut sums = 0.0f32;
        let mut weights = 0.0f32;
        let mut i = UNIT_POS as usize;
        while i < vocab {
            let shifted = logits[base + i] - max;
            let e = shifted.exp();
            sums += e;
            weights += e * shifted;
            i += units;
        }
        let sum = cube_sum(sums, units);
        let weighted = cube_sum(weights, units);
        if UNIT_POS == 0 {
            let log = sum.ln();
            out[CUBE_POS * 3] = logits[base + targets[CUBE_POS] as usize] - max - log;
            out[CUBE_POS * 3 + 1] = log - weighted / sum;
            out[CUBE_POS * 3 + 2] = max + log;
        }
    }
}

#[cube(launch)]
fn grad_kernel(logits: &mut [f32], targets: &[u32], log_sum: &[f32], grad: &[f32], vocab: usize) {
    if ABSOLUTE_POS < logits.len() {
        let row = ABSOLUTE_POS / vocab;
        let p = (logits[ABSOLUTE_POS] - log_sum[row]).exp();
        let mut d = -grad[row] * p;
        if ABSOLUTE_POS % vocab == targets[row] as usize {
            d += grad[row];
        }
        logits[ABSOLUTE_POS] = d;
    }
}

/// As [`grad_kernel`], with the gradient of each target's entropy beside that of its log-probability.
#[cube(launch)]
#[allow(clippy::too_many_arguments)]
fn grad_and_entropy_kernel(
    logits: &mut [f32],
    targets: &[u32],
    log_sum: &[f32],
    entropy: &[f32],
    grad: &[f32],
    by_entropy: &[f32],
    vocab: usize,
) {
    if ABSOLUTE_POS < logits.len() {
        let row = ABSOLUTE_POS / vocab;
        let log_p = logits[ABSOLUTE_POS] - log_sum[row];
        let mut d = -log_p.exp() * (grad[row] + by_entropy[row] * (log_p + entropy[row]));
        if ABSOLUTE_POS % vocab == targets[row] as usize {
            d += grad[row];
        }
        logits[ABSOLUTE_POS] = d;
    }
}

/// The chunks of `count` targets: first row and number of rows.
fn chunks(count: usize, vocab: usize) -> impl Iterator<Item = (usize, usize)> {
    let step = (CHUNK / vocab).max(1);
    (0..count).step_by(step).map(move |first| (first, step.min(count - first)))
}

fn chunk_of(h: &Mat, first: usize, count: usize) -> Mat {
    if count == h.rows() {
        return h.clone();
    }
    let index: Vec<u32> = (first..first + count).map(|r| r as u32).collect();
    elementwise::gather(h, &index)
}

/// Log-probability and entropy of every target.
///
/// # Shapes
/// h `[targets, hidden]` in f32, weight `[vocab, hidden]`.
pub fn forward(h: &Mat, weight: &Mat, squash: Option<Squash>, targets: &[u32]) -> TargetStats {
    let vocab = weight.rows();
    let mut stats = TargetStats::default();
    for (first, count) in chunks(targets.len(), vocab) {
        let logits = product(&chunk_of(h, first, count).cast(weight.dtype()).n(), &weight.t());
        if let Some(squash) = squash {
            rows::squash(&logits, squash);
        }
        let out = logits.empty(count, STATS, DType::F32);
        stats_kernel::launch(
            logits.client(),
            cubes(count),
            CubeDim::new_1d(UNITS),
            logits.arg(),
            logits.upload(&targets[first..first + count], 1, count).arg(),
            out.arg(),
            count,
            vocab,
            UNITS as usize,
        );
        let values = out.read();
        let column = |i: usize| values.iter().skip(i).step_by(STATS).copied().collect();
        stats.extend(column(0), column(1), column(2));
    }
    stats
}

/// Backward of [`forward`] for the gradients `grad` of each target: returns that of `h` and adds that of the weight to
/// `d_weight`, if it is asked for.
pub fn backward(
    h: &Mat,
    weight: &Mat,
    squash: Option<Squash>,
    targets: &[u32],
    (stats, grad): (&TargetStats, &TargetGrads),
    d_weight: Option<&Mat>,
) -> Mat {
    let (vocab, hidden) = (weight.rows(), h.cols());
    let dh = h.zeros(targets.len(), hidden);
    for (first, count) in chunks(targets.len(), vocab) {
        let part = chunk_of(h, first, count).cast(weight.dtype());
        let logits = product(&part.n(), &weight.t());
        let squashed = squash.map(|squash| {
            rows::squash(&logits, squash);
            (squash, logits.copy())
        });
        let at = first..first + count;
        let (grid, dim) = logits.units(count * vocab);
        let targets = logits.upload(&targets[at.clone()], 1, count);
        let upload = |values: &[f32]| logits.upload(&values[at.clone()], 1, count);
        let (log_sum, g) = (upload(&stats.log_sum), upload(&grad.logprobs));
        match &grad.entropy {
            None => grad_kernel::launch(
                logits.client(),
                grid,
                dim,
                logits.arg(),
                targets.arg(),
                log_sum.arg(),
                g.arg(),
                vocab,
            ),
            Some(by_entropy) => grad_and_entropy_kernel::launch(
                logits.client(),
                grid,
                dim,
                logits.arg(),
                targets.arg(),
                log_sum.arg(),
                upload(&stats.entropy).arg(),
                g.arg(),
                upload(by_entropy).arg(),
                vocab,
            ),
        }
        if let Some((squash, y)) = squashed {
            rows::unsquash(&logits, &y, squash);
        }
        let d_logits = logits.cast(weight.dtype());
        if let Some(d_weight) = d_weight {
            elementwise::add(d_weight, &product(&d_logits.t(), &part.n()));
        }
        let index: Vec<u32> = at.map(|r| r as u32).collect();
        elementwise::scatter(&product(&d_logits.n(), &weight.n()), &index, &dh);
    }
    dh
}
