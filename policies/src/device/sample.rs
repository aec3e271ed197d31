//! Drawing tokens where the logits lie: the same counter-based generator and the same rule as the sampler of the host.
//!
//! The uniform number comes from Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011). The token is the one at which the
//! cumulative distribution, tokens in the order of their ids, first exceeds it. Weights are f32 and summed in f32 over
//! blocks of [`BLOCK`] tokens and in f64 over blocks, as on the host, so both choose the same token but where rounding
//! decides.
use super::mat::{Mat, cubes};
use crate::model::draw::DrawAt;
use burn::tensor::DType;
use cubecl::prelude::*;

/// Units that share one row of logits.
const UNITS: usize = 256;

/// Tokens whose weights are summed in f32.
const BLOCK: usize = 256;

/// Words that a draw takes: row, counter, key.
pub const WORDS: usize = 7;

/// Uniform in [0, 1): the first 53 of the 64 bits that Philox makes first.
#[cube]
fn uniform(counter: &mut Array<u32>, key0: u32, key1: u32) -> f64 {
    let mut k0 = key0;
    let mut k1 = key1;
    for _ in 0..10u32 {
        let a_high = counter[0].mul_hi(0xD251_1F53u32);
        let a_low = counter[0] * 0xD251_1F53u32;
        let b_high = counter[2].mul_hi(0xCD9E_8D57u32);
        let b_low = counter[2] * 0xCD9E_8D57u32;
        counter[0] = b_high ^ counter[1] ^ k0;
        counter[1] = b_low;
        counter[2] = a_high ^ counter[3] ^ k1;
        counter[3] = a_low;
        k0 += 0x9E37_79B9u32;
        k1 += 0xBB67_AE85u32;
    }
    let high = f64::cast_from(counter[1]) * 2097152.0f64;
    (high + f64::cast_from(counter[0] >> 11u32)) / 9007199254740992.0f64
}

#[cube]
fn block_sum(logits: &[f32], first: usize, end: usize, max: f32, scale: f32) -> f64 {
    let mut sum = 0.0f32;
    for i in first..end {
        sum += ((logits[i] - max) * scale).exp();
    }
    f64::cast_from(sum)
}

#[cube]
fn least(a: usize, b: usize) -> usize {
    let mut c = b;
    if a < b {
        c = a;
    }
    c
}

/// A row of logits, whose weights are `exp((logit - max) * scale)`.
#[derive(CubeType, Clone, Copy)]
struct Row {
    base: usize,
    vocab: usize,
    max: f32,
    scale: f32,
}

/// Where the cumulative distribution crosses a number: somewhere from token `first` on, before which there is as much.
#[derive(CubeType, Clone, Copy)]
struct Crossing {
    first: usize,
    before: f64,
}

/// Leaves the largest logit, of equals the first, at place 0 of `maxima` and `places`. Gives NaN if a logit that the unit
/// has seen is neither finite nor −∞, which is a probability of zero; otherwise zero.
#[cube]
fn largest(
    logits: &[f32],
    base: usize,
    vocab: usize,
    maxima: &mut Shared<[f32]>,
    places: &mut Shared<[u32]>,
    #[comptime] units: usize,
) -> f32 {
    let unit = UNIT_POS as usize;
    let mut most = f32::new(-3.0e38f32);
    let mut place = 0u32;
    let mut wrong = 0.0f32;
    let mut i = unit;
    while i < vocab {
        let x = logits[base + i];
        if x >= -3.0e38f32 {
            wrong += x * 0.0f32;
        } else if x != x {
            wrong += x;
        }
        if x > most {
            most = x;
            place = i as u32;
        }
        i += units;
    }
    maxima[unit] = most;
    places[unit] = place;
    sync_cube();
    let mut width = CUBE_DIM as usize / 2;
    while width > 0 {
        if unit < width {
            let other = maxima[unit + width];
            let other_place = places[unit + width];
            if other > maxima[unit] {
                maxima[unit] = other;
                places[unit] = other_place;
            } else if other == maxima[unit] {
                if other_place < places[unit] {
                    places[unit] = other_place;
                }
            }
        }
        sync_cube();
        width /= 2;
    }
    wrong
}

/// The last run of positive weight at or before the crossing.
#[cube]
fn crossing_run(sums: &Shared<[f64]>, run: usize, target: f64, #[comptime] units: usize) -> Crossing {
    let mut first = 0usize;
    let mut left = 0.0f64;
    let mut before = 0.0f64;
    let mut found = false;
    for u in 0..units {
        if !found && sums[u] > 0.0f64 {
            first = u * run;
            left = before;
            found = before + sums[u] > target;
        }
        before += sums[u];
    }
    Crossing { first, before: left }
}

/// The last block of positive weight at or before the crossing, of those from `from` up to `stop`.
#[cube]
fn crossing_block(logits: &[f32], row: &Row, from: &Crossing, stop: usize, target: f64) -> Crossing {
    let mut first = from.first;
    let mut left = from.before;
    let mut before = from.before;
    let mut found = false;
    let mut b = from.first;
    while b < stop && !found {
        let end = least(b + BLOCK, stop);
        let part = block_sum(logits, row.base + b, row.base + end, row.max, row.scale);
        if part > 0.0f64 {
            first = b;
            left = before;
            found = before + part > target;
        }
        before += part;
        b += BLOCK;
    }
    Crossing { first, before: left }
}

/// The last token of positive weight at or before the crossing, of those of a block; `fallback` if there is none.
#[cube]
fn crossing_token(logits: &[f32], row: &Row, from: &Crossing, target: f64, fallback: usize) -> usize {
    let stop = least(from.first + BLOCK, row.vocab);
    let mut token = fallback;
    let mut at = from.before;
    let mut found = false;
    let mut i = from.first;
    while i < stop && !found {
        let weight = ((logits[row.base + i] - row.max) * row.scale).exp();
        at += f64::cast_from(weight);
        if weight > 0.0f32 {
            token = i;
            found = at > target;
        }
        i += 1;
    }
    token
}

/// The token at which the cumulative distribution first exceeds a uniform number, of a draw whose words begin at `word`.
#[cube]
fn drawn(
    logits: &[f32],
    row: &Row,
    draws: &[u32],
    word: usize,
    sums: &Shared<[f64]>,
    run: usize,
    total: f64,
    fallback: usize,
    #[comptime] units: usize,
) -> usize {
    let mut counter = Array::<u32>::new(4usize);
    for w in 0..4usize {
        counter[w] = draws[word + 1 + w];
    }
    let target = uniform(&mut counter, draws[word + 5], draws[word + 6]) * total;
    let of_runs = crossing_run(sums, run, target, units);
    let stop = least(of_runs.first + run, row.vocab);
    let of_blocks = crossing_block(logits, row, &of_runs, stop, target);
    crossing_token(logits, row, &of_blocks, target, fallback)
}

#[cube(launch)]
fn draw_kernel(
    logits: &[f32],
    draws: &[u32],
    out: &mut [f32],
    next: &mut [u32],
    step: &[u32],
    count: usize,
    vocab: usize,
    scale: f32,
    #[comptime] greedy: bool,
    #[comptime] units: usize,
) {
    if CUBE_POS < count {
        let unit = UNIT_POS as usize;
        let word = CUBE_POS * 7;
        let base = draws[word] as usize * vocab;
        let mut maxima = Shared::<[f32]>::new_slice(units);
        let mut places = Shared::<[u32]>::new_slice(units);
        let mut sums = Shared::<[f64]>::new_slice(units);
        let wrong = largest(logits, base, vocab, &mut maxima, &mut places, units);
        let row = Row { base, vocab, max: maxima[0], scale };

        // Each unit owns a run of whole blocks.
        let blocks = (vocab + BLOCK - 1) / BLOCK;
        let run = (blocks + units - 1) / units * BLOCK;
        let first = least(unit * run, vocab);
        let end = least(first + run, vocab);
        let mut sum = f64::cast_from(wrong);
        let mut b = first;
        while b < end {
            sum += block_sum(logits, base + b, base + least(b + BLOCK, end), row.max, scale);
            b += BLOCK;
        }
        sums[unit] = sum;
        sync_cube();

        if unit == 0 {
            let mut total = 0.0f64;
            for u in 0..units {
                total += sums[u];
            }
            let mut token = places[0] as usize;
            if comptime!(!greedy) {
                token = drawn(logits, &row, draws, word, &sums, run, total, token, units);
            }
            let shifted = (logits[base + token] - row.max) * scale;
            // An id is exact in f32 up to 2²⁴.
            let to = (step[0] as usize * count + CUBE_POS) * 2;
            out[to] = f32::cast_from(token);
            out[to + 1] = shifted - f32::cast_from(total).ln();
            next[draws[word] as usize] = token as u32;
        }
    }
}

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    greedy: bool,
    /// Inverse of the temperature.
    scale: f32,
}

impl Sampling {
    /// Temperature 0 takes the largest logit and reports the log-probability at temperature 1.
    pub fn new(temperature: f64) -> Self {
        let greedy = temperature == 0.0;
        Self { greedy, scale: if greedy { 1.0 } else { (1.0 / temperature) as f32 } }
    }
}

/// What [`draw`] takes, `[draws, WORDS]`.
pub fn words(draws: &[DrawAt]) -> Vec<u32> {
    draws.iter().flat_map(|d| std::iter::once(d.row as u32).chain(d.counter).chain(d.key)).collect()
}

/// Draws a token for every draw from softmax(logits / temperature), and writes it to `next` at its row, and with its
/// log-probability to row `step · draws + draw` of `out`. A row of logits without a softmax gives NaN.
///
/// # Shapes
/// logits `[rows, vocab]` with a vocabulary below 2²⁴; words `[draws, WORDS]`, see [`words`]; step `[1, 1]`; out
/// `[at least (step + 1) · draws, 2]`; next `[1, rows]`.
pub fn draw(logits: &Mat, words: &Mat, step: &Mat, sampling: Sampling, out: &Mat, next: &Mat) {
    draw_kernel::launch(
        logits.client(),
        cubes(words.rows()),
        CubeDim::new_1d(UNITS as u32),
        logits.arg(),
        words.arg(),
        out.arg(),
        next.arg(),
        step.arg(),
        words.rows(),
        logits.cols(),
        sampling.scale,
        sampling.greedy,
        UNITS,
    );
}

/// The first `count` tokens of [`draw`] with their log-probabilities; waits for the device.
pub fn pairs(out: &Mat, count: usize) -> Vec<(u32, f32)> {
    out.read().chunks(2).take(count).map(|pair| (pair[0] as u32, pair[1])).collect()
}

/// [`draw`] once, from rows in any order and number.
pub fn draw_once(logits: &Mat, draws: &[DrawAt], sampling: Sampling) -> Vec<(u32, f32)> {
    let out = logits.empty(draws.len(), 2, DType::F32);
    let next = logits.empty(1, logits.rows(), DType::U32);
    let words = logits.upload(&words(draws), draws.len(), WORDS);
    draw(logits, &words, &logits.upload(&[0u32], 1, 1), sampling, &out, &next);
    pairs(&out, draws.len())
}
