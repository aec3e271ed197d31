//! One token from one row of logits, and its log-probability.

use crate::error::LogitsProblem;
use crate::params::SamplingParams;
use crate::softmax::{self, BLOCK, Peaks, Token};
use crate::support;
use std::cell::RefCell;

/// A token and its log-probability in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampled {
    /// The token.
    pub token: u32,
    /// ln p(token) of the distribution it was drawn from.
    pub logprob: f32,
}

/// Draws the token at `uniform` ∈ [0, 1) of the cumulative distribution, tokens in the order of their ids.
///
/// The distribution is softmax(logits / temperature), restricted to the tokens that top-k, then top-p, then min-p keep
/// and renormalised; of equally probable tokens those of lower id are kept first. The log-probability is that of the
/// same distribution. Greedy (temperature 0) takes the largest logit, of equals the lowest id, ignores the truncations
/// and reports the log-probability at temperature 1. `params` must be valid; `max_tokens` and `stop_sequences` play no
/// part.
///
/// # Shapes
/// `logits` `[V]`, any of them may be −∞.
///
/// # Errors
/// Logits without a softmax.
pub fn sample_token(logits: &[f32], params: &SamplingParams, uniform: f64) -> Result<Sampled, LogitsProblem> {
    debug_assert!((0.0..1.0).contains(&uniform), "{uniform} is outside [0, 1)");
    let peaks = softmax::peaks(logits)?;
    let scale = if params.is_greedy() { 1.0 } else { (1.0 / params.temperature) as f32 };
    let (token, total) = if params.is_greedy() {
        (argmax(logits, &peaks), block_sums(logits, &peaks, scale).iter().sum())
    } else if params.truncates() {
        draw_truncated(logits, &peaks, scale, params, uniform)
    } else {
        draw(logits, &peaks, scale, uniform)
    };
    let scaled = (logits[token] - peaks.max) * scale;
    Ok(Sampled { token: token as u32, logprob: (f64::from(scaled) - total.ln()) as f32 })
}

/// The `k` most probable tokens of the distribution that [`sample_token`] draws from, and their log-probabilities: the
/// most probable first, of equals that of lower id. Fewer where fewer have a probability.
///
/// # Errors
/// As [`sample_token`].
pub fn most_probable(
    logits: &[f32],
    params: &SamplingParams,
    k: usize,
) -> Result<Vec<Sampled>, LogitsProblem> {
    let peaks = softmax::peaks(logits)?;
    let scale = if params.is_greedy() { 1.0 } else { (1.0 / params.temperature) as f32 };
    let mut ids: Vec<u32> = Vec::with_capacity(k + 1);
    // In the order of ids, so that of equals the lower ones stay.
    let mut consider = |id: u32| {
        let logit = logits[id as usize];
        if ids.len() < k || ids.last().is_some_and(|last| logits[*last as usize] < logit) {
            let at = ids.partition_point(|other| logits[*other as usize] >= logit);
            ids.insert(at, id);
            ids.truncate(k);
        }
    };
    let total: f64 = if params.truncates() && !params.is_greedy() {
        SCRATCH.with_borrow_mut(|tokens| {
            support::kept(logits, &peaks, scale, params, tokens);
            tokens.iter().filter(|token| token.weight > 0.0).for_each(|token| consider(token.id));
            tokens.iter().map(|token| f64::from(token.weight)).sum()
        })
    } else {
        let possible = logits.iter().zip(0..).filter(|(logit, _)| **logit > f32::NEG_INFINITY);
        possible.for_each(|(_, id)| consider(id));
        block_sums(logits, &peaks, scale).iter().sum()
    };
    let sampled = |token: u32| {
        let scaled = (logits[token as usize] - peaks.max) * scale;
        Sampled { token, logprob: (f64::from(scaled) - total.ln()) as f32 }
    };
    Ok(ids.into_iter().map(sampled).collect())
}

fn block_sums(logits: &[f32], peaks: &Peaks, scale: f32) -> Vec<f64> {
    let mut sums = Vec::with_capacity(peaks.blocks.len());
    softmax::block_sums(logits, peaks.max, scale, &mut sums);
    sums
}

/// The first token with the largest logit.
fn argmax(logits: &[f32], peaks: &Peaks) -> usize {
    let block = peaks.blocks.iter().position(|&m| m == peaks.max).unwrap_or(0);
    let start = block * BLOCK;
    start + logits[start..].iter().position(|&x| x == peaks.max).unwrap_or(0)
}

/// Index at which the running sum of the weights first exceeds `target`, starting from `sum`; the last one of positive
/// weight when rounding leaves the end of the sum below it.
fn cross(weights: impl Iterator<Item = f64>, mut sum: f64, target: f64) -> Option<usize> {
    let mut last = None;
    for (i, weight) in weights.enumerate() {
        sum += weight;
        if weight > 0.0 {
            last = Some(i);
            if sum > target {
                break;
            }
        }
    }
    last
}

/// Token and normaliser of the full vocabulary: the sums of the blocks find the block, its exponentials the token.
fn draw(logits: &[f32], peaks: &Peaks, scale: f32, uniform: f64) -> (usize, f64) {
    let sums = block_sums(logits, peaks, scale);
    let total: f64 = sums.iter().sum();
    let target = uniform * total;
    let block = cross(sums.iter().copied(), 0.0, target).unwrap_or(0);
    let before: f64 = sums[..block].iter().sum();
    let start = block * BLOCK;
    let part = &logits[start..logits.len().min(start + BLOCK)];
    let mut values = [0.0; BLOCK];
    softmax::exp_block(part, peaks.max, scale, &mut values);
    let weights = values[..part.len()].iter().map(|&e| f64::from(e));
    (start + cross(weights, before, target).unwrap_or(0), total)
}

thread_local! {
    /// Keeps its memory from token to token: up to 12 bytes a token of the vocabulary.
    static SCRATCH: RefCell<Vec<Token>> = const { RefCell::new(Vec::new()) };
}

/// Token and normaliser of the kept tokens.
fn draw_truncated(
    logits: &[f32],
    peaks: &Peaks,
    scale: f32,
    params: &SamplingParams,
    uniform: f64,
) -> (usize, f64) {
    SCRATCH.with_borrow_mut(|tokens| {
        support::kept(logits, peaks, scale, params, tokens);
        let weights = || tokens.iter().map(|token| f64::from(token.weight));
        let total: f64 = weights().sum();
        let at = cross(weights(), 0.0, uniform * total).unwrap_or(0);
        (tokens[at].id as usize, total)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_takes_the_first_maximum_and_reports_temperature_one() {
        let logits = [0.0, 2.0, -1.0, 2.0];
        let got = sample_token(&logits, &SamplingParams::greedy(1), 0.99).unwrap();
        let total: f64 = logits.iter().map(|&x: &f32| f64::from(x).exp()).sum();
        assert_eq!(got.token, 1);
        assert!((f64::from(got.logprob) - (2.0 - total.ln())).abs() < 1e-6);
    }

    #[test]
    fn the_most_probable_tokens_have_the_log_probabilities_they_are_sampled_with() {
        let logits: Vec<f32> =
            (0..700u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 20) as f32 / 400.0).collect();
        for params in [
            SamplingParams::greedy(1),
            SamplingParams { temperature: 0.7, ..SamplingParams::default() },
            SamplingParams { top_k: Some(40), top_p: Some(0.9), ..SamplingParams::default() },
        ] {
            let top = most_probable(&logits, &params, 30).unwrap();
            assert!(top.len() <= 30 && top.is_sorted_by(|a, b| a.logprob >= b.logprob));
            for i in 0..200 {
                let sampled = sample_token(&logits, &params, f64::from(i) / 200.0).unwrap();
                match top.iter().find(|t| t.token == sampled.token) {
                    Some(found) => assert_eq!(*found, sampled),
                    None => assert!(sampled.logprob <= top.last().unwrap().logprob),
                }
            }
        }
        let logits = [1.0, f32::NEG_INFINITY, 1.0];
        let ids = |k| {
            most_probable(&logits, &SamplingParams::default(), k)
                .unwrap()
                .iter()
                .map(|t| t.token)
                .collect::<Vec<_>>()
        };
        assert_eq!((ids(1), ids(2), ids(9)), (vec![0], vec![0, 2], vec![0, 2]));
        assert!(ids(0).is_empty());
    }

    #[test]
    fn uniform_selects_in_the_order_of_ids() {
        // Probabilities 1/4, 0, 1/2, 1/4.
        let logits = [0.0, f32::NEG_INFINITY, std::f32::consts::LN_2, 0.0];
        let params = SamplingParams::default();
        for (uniform, token) in [(0.0, 0), (0.2499, 0), (0.2501, 2), (0.7499, 2), (0.7501, 3)] {
            assert_eq!(sample_token(&logits, &params, uniform).unwrap().token, token, "{uniform}");
        }
        let last = 1.0 - f64::EPSILON / 2.0;
        for n in [1, 3, 255, 256, 257, 4097] {
            let flat = vec![-3.0f32; n];
            assert_eq!(sample_token(&flat, &params, last).unwrap().token as usize, n - 1);
            assert_eq!(sample_token(&flat, &params, 0.0).unwrap().token, 0);
            let mut masked = flat.clone();
            masked.push(f32::NEG_INFINITY);
            masked.insert(0, f32::NEG_INFINITY);
            assert_eq!(sample_token(&masked, &params, last).unwrap().token as usize, n);
            assert_eq!(sample_token(&masked, &params, 0.0).unwrap().token, 1);
        }
    }

    #[test]
    fn extreme_logits_and_temperatures() {
        let params = |temperature| SamplingParams { temperature, ..SamplingParams::default() };
        let logits = [-3e38f32, 3e38, 0.0];
        for temperature in [0.001, 1.0, 1000.0] {
            let got = sample_token(&logits, &params(temperature), 0.5).unwrap();
            assert_eq!(got, Sampled { token: 1, logprob: 0.0 });
        }
        let close = [1.0f32, 1.0001];
        let hot = sample_token(&close, &params(1000.0), 0.4).unwrap();
        assert!(hot.token == 0 && (hot.logprob + std::f32::consts::LN_2).abs() < 1e-4);
    }

    #[test]
    fn validation_lists_every_problem() {
        assert!(SamplingParams::default().validate().is_ok());
        assert!(SamplingParams::greedy(1).validate().is_ok());
        let bad = SamplingParams {
            temperature: f64::NAN,
            top_k: Some(0),
            top_p: Some(0.0),
            min_p: Some(1.0),
            max_tokens: 0,
            stop_sequences: vec![vec![]],
        };
        let message = bad.validate().unwrap_err().to_string();
        for key in ["temperature", "top_k", "top_p", "min_p", "max_tokens", "stop_sequences"] {
            assert!(message.contains(key), "{message}");
        }
        for temperature in [-1.0, 1e-9, f64::INFINITY] {
            assert!(SamplingParams { temperature, ..SamplingParams::default() }.validate().is_err());
        }
    }

    #[test]
    fn config_names() {
        let params: SamplingParams =
            serde_json::from_str(r#"{"temperature": 0.7, "max_tokens": 64}"#).unwrap();
        assert_eq!(params, SamplingParams { temperature: 0.7, max_tokens: 64, ..SamplingParams::default() });
        assert!(serde_json::from_str::<SamplingParams>(r#"{"temprature": 0.7}"#).is_err());
    }
}
