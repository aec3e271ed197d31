//! Statistics of evaluations: intervals, pass@k, paired comparisons. Pure functions.

/// Two-sided quantile of the normal distribution for 95 %.
pub const Z95: f64 = 1.959_963_984_540_054;

/// Wilson score interval of a proportion, within [0, 1]; (0, 1) when `trials` is 0.
///
/// `z` is the two-sided normal quantile, [`Z95`] for 95 %.
///
/// # Panics
/// When `successes` exceeds `trials`.
pub fn wilson(successes: u64, trials: u64, z: f64) -> (f64, f64) {
    assert!(successes <= trials, "{successes} successes in {trials} trials");
    if trials == 0 {
        return (0.0, 1.0);
    }
    let n = trials as f64;
    let p = successes as f64 / n;
    let scale = 1.0 + z * z / n;
    let centre = (p + z * z / (2.0 * n)) / scale;
    let half = z / scale * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    // The bounds are exactly 0 and 1 at the ends; rounding would miss them.
    let low = if successes == 0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if successes == trials { 1.0 } else { (centre + half).min(1.0) };
    (low, high)
}

/// Unbiased estimate of the chance that at least one of k samples is right, from `correct` of n `samples`:
/// `1 − C(n − c, k)/C(n, k)` (arXiv:2107.03374), by its product form. `None` when k is 0 or exceeds n.
///
/// # Panics
/// When `correct` exceeds `samples`.
pub fn pass_at_k(samples: u64, correct: u64, k: u64) -> Option<f64> {
    assert!(correct <= samples, "{correct} correct of {samples} samples");
    if k == 0 || k > samples {
        return None;
    }
    let wrong = samples - correct;
    if wrong < k {
        return Some(1.0);
    }
    let all_wrong: f64 = (wrong + 1..=samples).map(|i| 1.0 - k as f64 / i as f64).product();
    Some(1.0 - all_wrong)
}

/// Mean of the items' scores and its standard error, `s/√n` with the sample deviation s over items.
///
/// With several samples an item, pass each item's mean (mean@k): the samples of an item are not independent, so the
/// error is taken over items (arXiv:2411.00640). `None` without items; the error is NaN with one.
pub fn mean_and_standard_error(items: &[f64]) -> Option<(f64, f64)> {
    if items.is_empty() {
        return None;
    }
    let n = items.len() as f64;
    let mean = items.iter().sum::<f64>() / n;
    if items.len() == 1 {
        return Some((mean, f64::NAN));
    }
    let variance = items.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Some((mean, (variance / n).sqrt()))
}

/// Two-sided exact McNemar test: the p-value of `only_a` and `only_b`, the numbers of items that only A and only B
/// got right, under a fair coin. 1 when both are 0.
pub fn mcnemar_exact(only_a: u64, only_b: u64) -> f64 {
    let n = only_a + only_b;
    let smaller = only_a.min(only_b);
    // ln C(n, i) by recurrence, so that thousands of items do not underflow.
    let mut log_choose = 0.0;
    let mut tail = 0.0;
    for i in 0..=smaller {
        if i > 0 {
            log_choose += ((n - i + 1) as f64).ln() - (i as f64).ln();
        }
        tail += (log_choose - n as f64 * std::f64::consts::LN_2).exp();
    }
    (2.0 * tail).min(1.0)
}

/// Result of [`paired_bootstrap`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// mean(b) − mean(a).
    pub difference: f64,
    /// Lower end of the 95 % percentile interval of the difference.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Two-sided p-value of no difference: twice the smaller share of resamples on one side of 0, resamples at 0 on
    /// both sides, and one resample added to each so that it is never 0.
    pub p_value: f64,
}

/// Bootstrap over items of the difference of two runs on the same items, `b − a`.
///
/// Item draws come from a counter-based generator keyed by (`seed`, resample, draw): the result depends on nothing
/// else. `None` without items or resamples.
///
/// # Panics
/// When the runs differ in length.
pub fn paired_bootstrap(a: &[f64], b: &[f64], resamples: u32, seed: u64) -> Option<Bootstrap> {
    assert_eq!(a.len(), b.len(), "paired runs have the same items");
    if a.is_empty() || resamples == 0 {
        return None;
    }
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| b - a).collect();
    let n = differences.len();
    let mut means: Vec<f64> = (0..u64::from(resamples))
        .map(|r| (0..n as u64).map(|i| differences[draw(seed, r, i, n)]).sum::<f64>() / n as f64)
        .collect();
    means.sort_by(f64::total_cmp);
    let quantile = |q: f64| {
        let position = q * (means.len() - 1) as f64;
        let (below, share) = (position.floor() as usize, position.fract());
        let above = (below + 1).min(means.len() - 1);
        means[below] + share * (means[above] - means[below])
    };
    let at_most = means.iter().filter(|m| **m <= 0.0).count();
    let at_least = means.iter().filter(|m| **m >= 0.0).count();
    let one_sided = (at_most.min(at_least) + 1) as f64 / (means.len() + 1) as f64;
    Some(Bootstrap {
        difference: differences.iter().sum::<f64>() / n as f64,
        low: quantile(0.025),
        high: quantile(0.975),
        p_value: (2.0 * one_sided).min(1.0),
    })
}

/// An index below n, uniform up to a bias of n/2⁶⁴.
fn draw(seed: u64, resample: u64, index: u64, n: usize) -> usize {
    let word = mix(mix(mix(seed) ^ resample) ^ index);
    ((u128::from(word) * n as u128) >> 64) as usize
}

/// The finaliser of SplitMix64: a bijection whose output looks random.
fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64, tolerance: f64) {
        assert!((found - expected).abs() < tolerance, "{found}, not {expected}");
    }

    #[test]
    fn wilson_known_values() {
        // Tables in the literature: 8 of 10 and 0 of 10 at 95 %.
        let (low, high) = wilson(8, 10, Z95);
        close(low, 0.4902, 5e-5);
        close(high, 0.9433, 5e-5);
        let (low, high) = wilson(0, 10, Z95);
        assert_eq!(low, 0.0);
        close(high, 0.2775, 5e-5);
        assert_eq!(wilson(10, 10, Z95).1, 1.0);
        assert_eq!(wilson(0, 0, Z95), (0.0, 1.0));
    }

    #[test]
    fn pass_at_k_by_enumeration() {
        let choose = |n: u64, k: u64| (0..k).fold(1.0, |c, i| c * (n - i) as f64 / (i + 1) as f64);
        for n in 1..=9u64 {
            for c in 0..=n {
                for k in 1..=n {
                    let wrong = if n - c >= k { choose(n - c, k) / choose(n, k) } else { 0.0 };
                    close(pass_at_k(n, c, k).unwrap(), 1.0 - wrong, 1e-12);
                }
            }
        }
        assert_eq!(pass_at_k(4, 1, 0), None);
        assert_eq!(pass_at_k(4, 1, 5), None);
    }

    #[test]
    fn standard_error_over_items() {
        let (mean, error) = mean_and_standard_error(&[1.0, 0.0, 1.0, 0.0]).unwrap();
        close(mean, 0.5, 1e-15);
        close(error, (1.0f64 / 3.0 / 4.0).sqrt(), 1e-15);
        assert_eq!(mean_and_standard_error(&[]), None);
        assert!(mean_and_standard_error(&[1.0]).unwrap().1.is_nan());
    }

    #[test]
    fn mcnemar_known_values() {
        assert_eq!(mcnemar_exact(0, 0), 1.0);
        assert_eq!(mcnemar_exact(5, 5), 1.0);
        // 2 · (1/2)^6; 2 · (1 + 10 + 45)/1024.
        close(mcnemar_exact(0, 6), 0.03125, 1e-12);
        close(mcnemar_exact(8, 2), 0.109375, 1e-12);
        close(mcnemar_exact(2, 8), mcnemar_exact(8, 2), 1e-15);
        // Large counts neither overflow nor vanish: the normal approximation with continuity correction.
        let p = mcnemar_exact(5000, 5200);
        close(p, 0.0487, 5e-4);
    }

    #[test]
    fn bootstrap_agrees_with_the_normal_interval() {
        let a: Vec<f64> = (0..400).map(|i| f64::from(i % 5 == 0)).collect();
        let b: Vec<f64> = (0..400).map(|i| f64::from(i % 5 == 0 || i % 7 == 0)).collect();
        let found = paired_bootstrap(&a, &b, 2000, 1).unwrap();
        let differences: Vec<f64> = a.iter().zip(&b).map(|(a, b)| b - a).collect();
        let (mean, error) = mean_and_standard_error(&differences).unwrap();
        close(found.difference, mean, 1e-12);
        close(found.low, mean - Z95 * error, 0.3 * error);
        close(found.high, mean + Z95 * error, 0.3 * error);
        assert!(found.p_value < 0.01);
        assert_eq!(paired_bootstrap(&a, &b, 2000, 1), Some(found));
        // The means lie on a lattice, so single seeds may agree.
        assert!((2..8).any(|seed| paired_bootstrap(&a, &b, 2000, seed) != Some(found)));
        let same = paired_bootstrap(&a, &a, 500, 1).unwrap();
        assert_eq!((same.low, same.high, same.p_value), (0.0, 0.0, 1.0));
        let back = paired_bootstrap(&b, &a, 2000, 1).unwrap();
        close(back.low, -found.high, 1e-12);
        assert_eq!(paired_bootstrap(&[], &[], 10, 1), None);
    }
}
