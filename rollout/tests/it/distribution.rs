//! Sampled frequencies and recorded log-probabilities against the distribution written down in f64.

use rlvr_rollout::{CounterRng, SamplingParams, sample_token};

/// Largest difference of a recorded log-probability: rounding of the scaled logit and of the sum in f32.
const LOGPROB_TOLERANCE: f64 = 2e-6;

/// [V] probabilities by sorting, in f64.
fn distribution(logits: &[f32], params: &SamplingParams) -> Vec<f64> {
    let weight: Vec<f64> = logits.iter().map(|&x| (f64::from(x) / params.temperature).exp()).collect();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    order.truncate(params.top_k.unwrap_or(usize::MAX));
    if let Some(p) = params.top_p {
        let total: f64 = order.iter().map(|&i| weight[i]).sum();
        let mut mass = 0.0;
        let end = order.iter().position(|&i| {
            mass += weight[i];
            mass >= p * total
        });
        order.truncate(end.unwrap() + 1);
    }
    if let Some(p) = params.min_p {
        let largest = weight[order[0]];
        order.retain(|&i| weight[i] >= p * largest);
    }
    let total: f64 = order.iter().map(|&i| weight[i]).sum();
    let mut probabilities = vec![0.0; logits.len()];
    for i in order {
        probabilities[i] = weight[i] / total;
    }
    probabilities
}

/// Draws `n` tokens; checks each log-probability, and the counts with Pearson's chi-square over the tokens expected at
/// least five times, the others pooled.
fn check(logits: &[f32], params: &SamplingParams, n: u64, seed: u64) {
    let rng = CounterRng::new(seed, 0, 0, 0);
    let probabilities = distribution(logits, params);
    let mut counts = vec![0u64; logits.len()];
    for i in 0..n {
        let got = sample_token(logits, params, rng.uniform(i)).unwrap();
        let p = probabilities[got.token as usize];
        assert!(p > 0.0, "token {} was removed by {params:?}", got.token);
        assert!((f64::from(got.logprob) - p.ln()).abs() < LOGPROB_TOLERANCE, "{got:?} has ln p {}", p.ln());
        counts[got.token as usize] += 1;
    }
    let (mut chi_square, mut cells) = (0.0, 0usize);
    let (mut rest_expected, mut rest_count) = (0.0, 0u64);
    let mut add = |expected: f64, count: u64| {
        chi_square += (count as f64 - expected).powi(2) / expected;
        cells += 1;
    };
    for (&p, &count) in probabilities.iter().zip(&counts) {
        if p * n as f64 >= 5.0 {
            add(p * n as f64, count);
        } else {
            rest_expected += p * n as f64;
            rest_count += count;
        }
    }
    if rest_expected >= 5.0 {
        add(rest_expected, rest_count);
    }
    // Chi-square of d degrees of freedom has mean d and variance 2d; 4.5 deviations leave room for its skew.
    let freedom = cells as f64 - 1.0;
    let bound = freedom + 4.5 * (2.0 * freedom).sqrt() + 4.0;
    assert!(chi_square < bound, "chi-square {chi_square:.1} over {cells} cells for {params:?}");
}

fn logits(vocab: usize, spread: f64) -> Vec<f32> {
    let rng = CounterRng::new(99, vocab as u64, 0, 0);
    (0..vocab as u64).map(|i| (spread * rng.normal(i)) as f32).collect()
}

#[test]
fn frequencies_match_the_distribution() {
    let plain = |temperature| SamplingParams { temperature, ..SamplingParams::default() };
    let cases = [
        plain(1.0),
        plain(0.7),
        plain(1.7),
        SamplingParams { top_k: Some(20), ..plain(0.7) },
        SamplingParams { top_p: Some(0.8), ..plain(0.7) },
        SamplingParams { min_p: Some(0.1), ..plain(0.7) },
        SamplingParams { top_k: Some(40), top_p: Some(0.9), min_p: Some(0.02), ..plain(1.3) },
    ];
    for (seed, params) in cases.iter().enumerate() {
        // Less than a block of logits, and four blocks.
        check(&logits(37, 2.0), params, 200_000, seed as u64);
        check(&logits(1000, 1.5), params, 100_000, 100 + seed as u64);
    }
}

#[test]
fn log_probabilities_of_a_large_vocabulary() {
    let logits = logits(49_152, 3.0);
    let cases = [
        SamplingParams::default(),
        SamplingParams { temperature: 0.7, ..SamplingParams::default() },
        SamplingParams { top_p: Some(0.951), ..SamplingParams::default() },
        SamplingParams { top_k: Some(50), ..SamplingParams::default() },
        SamplingParams { min_p: Some(0.013), ..SamplingParams::default() },
    ];
    for (seed, params) in cases.iter().enumerate() {
        check(&logits, params, 2_000, 200 + seed as u64);
    }
}

#[test]
fn the_check_notices_a_wrong_temperature() {
    let logits = logits(37, 2.0);
    let rng = CounterRng::new(1, 0, 0, 0);
    let right = distribution(&logits, &SamplingParams { temperature: 0.7, ..SamplingParams::default() });
    let wrong = SamplingParams { temperature: 0.75, ..SamplingParams::default() };
    let n = 20_000u64;
    let mut counts = vec![0.0; logits.len()];
    for i in 0..n {
        counts[sample_token(&logits, &wrong, rng.uniform(i)).unwrap().token as usize] += 1.0;
    }
    let chi_square: f64 =
        right.iter().zip(&counts).map(|(p, c)| (c - p * n as f64).powi(2) / (p * n as f64)).sum();
    assert!(chi_square > 100.0, "{chi_square}");
}
