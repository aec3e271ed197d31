//! Which tokens top-k, top-p and min-p leave.
//!
//! All three keep a prefix of the vocabulary ordered by (logit descending, id ascending), so what is kept is described
//! by its last token and the vocabulary is never sorted.

use crate::params::SamplingParams;
use crate::softmax::{self, Peaks, Token};
use std::cmp::Ordering;

/// The last token kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Boundary {
    logit: f32,
    id: u32,
}

/// Logits are not NaN here.
fn order(a: &Boundary, b: &Boundary) -> Ordering {
    b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(a.id.cmp(&b.id))
}

impl Boundary {
    const NONE: Self = Self { logit: f32::NEG_INFINITY, id: u32::MAX };

    fn at(token: &Token) -> Self {
        Self { logit: token.logit, id: token.id }
    }

    fn keeps(&self, token: &Token) -> bool {
        (token.logit > self.logit) | ((token.logit == self.logit) & (token.id <= self.id))
    }

    fn intersect(self, other: Self) -> Self {
        if order(&self, &other) == Ordering::Greater { other } else { self }
    }
}

/// The tokens that the parameters keep, in the order of their ids: top-k first, then top-p of what is left
/// (renormalised), then min-p. Weights are exp((logit − max) · scale); a weight of 0 stands for a token left out.
pub(crate) fn kept(
    logits: &[f32],
    peaks: &Peaks,
    scale: f32,
    params: &SamplingParams,
    tokens: &mut Vec<Token>,
) {
    tokens.clear();
    let mut last = Boundary::NONE;
    if let Some(p) = params.min_p
        && p > 0.0
    {
        let logit = f64::from(peaks.max) + params.temperature * p.ln();
        last = Boundary { logit: logit as f32, id: u32::MAX };
    }
    let top_p = params.top_p.filter(|&p| p < 1.0);
    if let Some(k) = params.top_k
        && k < logits.len()
    {
        softmax::gather(logits, peaks, scale, top_k_floor(peaks, k), tokens);
        let kth = top_k(tokens, k);
        tokens.retain(|token| kth.keeps(token));
        if let Some(p) = top_p {
            let total = tokens.iter().map(|token| f64::from(token.weight)).sum();
            last = last.intersect(crossing(tokens, p, total));
        }
    } else if let Some(p) = top_p {
        let mut sums = Vec::new();
        softmax::block_sums(logits, peaks.max, scale, &mut sums);
        let total = sums.iter().sum();
        softmax::gather(logits, peaks, scale, top_p_floor(logits.len(), peaks, scale, p, total), tokens);
        last = last.intersect(crossing(tokens, p, total));
    } else {
        softmax::gather(logits, peaks, scale, last.logit, tokens);
    }
    for token in tokens {
        token.weight = if last.keeps(token) { token.weight } else { 0.0 };
    }
}

/// A lower bound of the k-th largest logit: the k-th largest maximum of the blocks.
fn top_k_floor(peaks: &Peaks, k: usize) -> f32 {
    if k > peaks.blocks.len() {
        return f32::NEG_INFINITY;
    }
    let mut maxima = peaks.blocks.clone();
    *maxima.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1
}

fn top_k(tokens: &[Token], k: usize) -> Boundary {
    let mut boundaries: Vec<Boundary> = tokens.iter().map(Boundary::at).collect();
    *boundaries.select_nth_unstable_by(k - 1, order).1
}

/// A lower bound of the logit at which the prefix reaches `p` of `total`. Tokens below the weight (1 − p)·total / V have
/// less than (1 − p)·total together, so the others reach p; half of that weight leaves room for rounding.
fn top_p_floor(vocab: usize, peaks: &Peaks, scale: f32, p: f64, total: f64) -> f32 {
    let weight = 0.5 * (1.0 - p) * total / vocab as f64;
    (f64::from(peaks.max) + weight.ln() / f64::from(scale)) as f32
}

/// Buckets of [`crossing`]: eight an octave of the weight, the last for the weight 1.
const BUCKETS: usize = (1.0f32.to_bits() >> BUCKET_SHIFT) as usize + 1;
const BUCKET_SHIFT: u32 = 20;

/// The exponent and the first bits of the mantissa; a weight is at most 1.
fn bucket(token: &Token) -> usize {
    ((token.weight.to_bits() >> BUCKET_SHIFT) as usize).min(BUCKETS - 1)
}

/// The token at which the weight of the prefix reaches p·total. A histogram over the logarithm of the weight finds its
/// bucket; only this bucket is sorted.
fn crossing(tokens: &[Token], p: f64, total: f64) -> Boundary {
    let target = p * total;
    let mut masses = [0.0f64; BUCKETS];
    for token in tokens {
        masses[bucket(token)] += f64::from(token.weight);
    }
    let mut sum = 0.0;
    for b in (0..BUCKETS).rev() {
        if sum + masses[b] < target {
            sum += masses[b];
            continue;
        }
        let mut inside: Vec<&Token> = tokens.iter().filter(|token| bucket(token) == b).collect();
        inside.sort_unstable_by(|x, y| order(&Boundary::at(x), &Boundary::at(y)));
        let mut last = Boundary::NONE;
        for token in inside {
            last = Boundary::at(token);
            sum += f64::from(token.weight);
            if sum >= target {
                break;
            }
        }
        return last;
    }
    Boundary::NONE
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Ids kept, by sorting everything.
    fn slow(logits: &[f32], params: &SamplingParams) -> Vec<u32> {
        let mut sorted: Vec<Boundary> =
            logits.iter().enumerate().map(|(i, &logit)| Boundary { logit, id: i as u32 }).collect();
        sorted.sort_by(order);
        sorted.truncate(params.top_k.unwrap_or(usize::MAX));
        let max = sorted[0].logit;
        let e = |b: &Boundary| (f64::from(b.logit - max) / params.temperature).exp();
        if let Some(p) = params.top_p {
            let total: f64 = sorted.iter().map(e).sum();
            let mut mass = 0.0;
            let end = sorted.iter().position(|b| {
                mass += e(b);
                mass >= p * total
            });
            sorted.truncate(end.map_or(usize::MAX, |end| end + 1));
        }
        if let Some(p) = params.min_p {
            sorted.retain(|b| e(b) >= p);
        }
        let mut ids: Vec<u32> = sorted.iter().map(|b| b.id).collect();
        ids.sort_unstable();
        ids
    }

    fn fast(logits: &[f32], params: &SamplingParams) -> Vec<u32> {
        let peaks = softmax::peaks(logits).unwrap();
        let scale = (1.0 / params.temperature) as f32;
        let mut tokens = Vec::new();
        kept(logits, &peaks, scale, params, &mut tokens);
        tokens.iter().filter(|token| token.weight > 0.0).map(|token| token.id).collect()
    }

    proptest! {
        #[test]
        fn keeps_what_sorting_keeps(
            // A coarse grid makes ties, the offset moves the whole row; 700 logits are three blocks.
            steps in prop::collection::vec(-40i32..40, 1..700),
            offset in -10i32..10,
            temperature in 0.3..3.0f64,
            top_k in prop::option::of(1usize..40),
            // Off the values that a tie of few tokens can hit exactly, where rounding decides.
            top_p in prop::option::of((0.01..0.99f64).prop_map(|p| p + 1e-4 / std::f64::consts::PI)),
            min_p in prop::option::of(0.0017..0.9f64),
        ) {
            let logits: Vec<f32> = steps.iter().map(|&s| (s + offset) as f32 * 0.125).collect();
            let params = SamplingParams { temperature, top_k, top_p, min_p, ..SamplingParams::default() };
            prop_assert_eq!(fast(&logits, &params), slow(&logits, &params));
        }
    }

    #[test]
    fn ties_go_to_the_lowest_ids() {
        let logits = vec![1.5f32; 600];
        let params = SamplingParams { top_k: Some(5), ..SamplingParams::default() };
        assert_eq!(fast(&logits, &params), [0, 1, 2, 3, 4]);
        let params = SamplingParams { top_p: Some(0.0049), ..SamplingParams::default() };
        assert_eq!(fast(&logits, &params), [0, 1, 2]);
        let zeros = [0.0, -0.0, 0.0, -0.0];
        let params = SamplingParams { top_k: Some(2), ..SamplingParams::default() };
        assert_eq!(fast(&zeros, &params), [0, 1]);
    }

    #[test]
    fn more_tokens_than_finite_logits() {
        let mut logits = vec![f32::NEG_INFINITY; 300];
        logits[7] = 1.0;
        logits[290] = 1.0;
        let params = SamplingParams { top_p: Some(0.9), ..SamplingParams::default() };
        assert_eq!(fast(&logits, &params), [7, 290]);
        let params = SamplingParams { top_k: Some(3), top_p: Some(0.4), ..SamplingParams::default() };
        assert_eq!(fast(&logits, &params), [7]);
    }
}
