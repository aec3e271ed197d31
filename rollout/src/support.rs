//! Which tokens top-k, top-p and min-p leave.
//!
//! All three keep a prefix of the vocabulary ordered by (logit descending, id ascending), so what is kept is described
//! by its last token and the vocabulary is never sorted.

use crate::sampling::SamplingParams;
use crate::softmax::{self, BLOCK, Peaks};
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

    #[inline]
    fn keeps(&self, id: u32, logit: f32) -> bool {
        logit > self.logit || (logit == self.logit && id <= self.id)
    }

    fn intersect(self, other: Self) -> Self {
        if order(&self, &other) == Ordering::Greater { other } else { self }
    }
}

/// Calls `visit(id, logit, e)` with e = exp((logit − max) · scale) for every kept token in the order of ids.
pub(crate) fn for_each_kept(
    logits: &[f32],
    peaks: &Peaks,
    scale: f32,
    boundary: Boundary,
    mut visit: impl FnMut(u32, f32, f32),
) {
    let mut values = [0.0; BLOCK];
    for (b, (block, &max)) in logits.chunks(BLOCK).zip(&peaks.blocks).enumerate() {
        if max < boundary.logit {
            continue;
        }
        softmax::exp_block(block, peaks.max, scale, &mut values);
        for (i, (&x, &e)) in block.iter().zip(&values).enumerate() {
            let id = (b * BLOCK + i) as u32;
            if boundary.keeps(id, x) {
                visit(id, x, e);
            }
        }
    }
}

/// The last token that the parameters keep: top-k first, then top-p of what is left (renormalised), then min-p.
pub(crate) fn boundary(logits: &[f32], peaks: &Peaks, scale: f32, params: &SamplingParams) -> Boundary {
    let mut kept = Boundary::NONE;
    if let Some(k) = params.top_k
        && k < logits.len()
    {
        kept = top_k(logits, peaks, k);
    }
    if let Some(p) = params.top_p
        && p < 1.0
    {
        kept = top_p(logits, peaks, scale, kept, p);
    }
    if let Some(p) = params.min_p
        && p > 0.0
    {
        let logit = f64::from(peaks.max) + params.temperature * p.ln();
        kept = kept.intersect(Boundary { logit: logit as f32, id: u32::MAX });
    }
    kept
}

/// The k-th token. The k-th largest maximum of the blocks bounds its logit from below, which leaves few candidates.
fn top_k(logits: &[f32], peaks: &Peaks, k: usize) -> Boundary {
    let floor = if k <= peaks.blocks.len() {
        let mut maxima = peaks.blocks.clone();
        *maxima.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1
    } else {
        f32::NEG_INFINITY
    };
    let mut candidates = Vec::new();
    for (b, (block, &max)) in logits.chunks(BLOCK).zip(&peaks.blocks).enumerate() {
        if max >= floor {
            let tokens = block.iter().enumerate().filter(|&(_, &x)| x >= floor);
            candidates.extend(tokens.map(|(i, &logit)| Boundary { logit, id: (b * BLOCK + i) as u32 }));
        }
    }
    *candidates.select_nth_unstable_by(k - 1, order).1
}

/// Buckets of [`top_p`]: eight an octave of exp((logit − max) · scale), the last for the value 1.
const BUCKETS: usize = (1.0f32.to_bits() >> BUCKET_SHIFT) as usize + 1;
const BUCKET_SHIFT: u32 = 20;

/// The exponent and the first bits of the mantissa; `e` is at most 1.
fn bucket(e: f32) -> usize {
    ((e.to_bits() >> BUCKET_SHIFT) as usize).min(BUCKETS - 1)
}

/// The token at which the probability of the prefix, relative to that of the tokens in `within`, reaches `p`. A
/// histogram over the logarithm of the probability finds the bucket of that token; only this bucket is sorted.
fn top_p(logits: &[f32], peaks: &Peaks, scale: f32, within: Boundary, p: f64) -> Boundary {
    let mut masses = [0.0f64; BUCKETS];
    for_each_kept(logits, peaks, scale, within, |_, _, e| masses[bucket(e)] += f64::from(e));
    let target = p * masses.iter().rev().sum::<f64>();

    let mut above = 0.0;
    let Some(crossing) = (0..BUCKETS).rev().find(|&b| {
        let reached = above + masses[b] >= target;
        if !reached {
            above += masses[b];
        }
        reached
    }) else {
        return within;
    };
    let mut tokens = Vec::new();
    for_each_kept(logits, peaks, scale, within, |id, logit, e| {
        if bucket(e) == crossing {
            tokens.push((Boundary { logit, id }, e));
        }
    });
    tokens.sort_unstable_by(|a, b| order(&a.0, &b.0));
    let mut last = within;
    for (token, e) in tokens {
        above += f64::from(e);
        last = token;
        if above >= target {
            break;
        }
    }
    last
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
        let kept = boundary(logits, &peaks, scale, params);
        let mut ids = Vec::new();
        for_each_kept(logits, &peaks, scale, kept, |id, _, _| ids.push(id));
        ids
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
