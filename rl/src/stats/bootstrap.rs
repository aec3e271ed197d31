//! Bootstrap over clusters.

use super::distribution::{normal_cdf, normal_quantile, student_t_cdf, student_t_quantile};
use super::error_bars::cluster_sums;
use rayon::prelude::*;

/// Result of a bootstrap of a mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// The mean of the values themselves.
    pub estimate: f64,
    /// Standard deviation of the resamples' means.
    pub standard_error: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Two-sided p-value of the mean being 0: the level at which the interval just reaches 0, never 0 itself.
    pub p_value: f64,
}

/// Bootstrap of the mean of `values`, drawing whole clusters with replacement (Field and Welsh, JRSS B 69, 2007): the
/// mean of a resample is the sum of its values by their number. `None` without values or resamples; NaN, with a p-value
/// of 1, where there is only one cluster.
///
/// The interval is the *expanded percentile* interval (Hesterberg, arXiv:1411.5279): percentiles of the
/// resamples' means at `Φ(±√(G/(G−1)) · t)`, with t the 97.5 % quantile of Student's t for G−1 degrees of freedom, because
/// the plain percentiles are too narrow for few clusters G. The p-value inverts it. Resamples at exactly 0 count half on
/// either side.
///
/// Draws come from a counter-based generator keyed by (`seed`, resample, draw): the result depends on nothing else.
///
/// # Panics
/// When the lengths differ.
pub fn clustered_bootstrap(
    values: &[f64],
    clusters: &[usize],
    resamples: u32,
    seed: u64,
) -> Option<Bootstrap> {
    assert_eq!(values.len(), clusters.len(), "every value has a cluster");
    if values.is_empty() || resamples == 0 {
        return None;
    }
    let estimate = values.iter().sum::<f64>() / values.len() as f64;
    let sums = cluster_sums(values.iter().copied(), clusters);
    let groups = sums.len();
    if groups < 2 {
        let nan = f64::NAN;
        return Some(Bootstrap { estimate, standard_error: nan, low: nan, high: nan, p_value: 1.0 });
    }
    let mut means: Vec<f64> = (0..u64::from(resamples))
        .into_par_iter()
        .map(|resample| {
            let key = mix(mix(seed) ^ resample);
            let (mut sum, mut count) = (0.0, 0.0);
            for i in 0..groups as u64 {
                let (s, n) = sums[draw(key, i, groups)];
                sum += s;
                count += n;
            }
            sum / count
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let freedom = (groups - 1) as f64;
    let expansion = (groups as f64 / freedom).sqrt();
    let share = normal_cdf(expansion * student_t_quantile(0.025, freedom));
    Some(Bootstrap {
        estimate,
        standard_error: deviation(&means),
        low: quantile(&means, share),
        high: quantile(&means, 1.0 - share),
        p_value: p_value(&means, values, expansion, freedom),
    })
}

/// Bootstrap over items of the difference of two runs on the same items, `b − a`, as [`clustered_bootstrap`] with every
/// item its own cluster.
///
/// # Panics
/// When the runs differ in length.
pub fn paired_bootstrap(a: &[f64], b: &[f64], resamples: u32, seed: u64) -> Option<Bootstrap> {
    assert_eq!(a.len(), b.len(), "paired runs have the same items");
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| b - a).collect();
    let clusters: Vec<usize> = (0..a.len()).collect();
    clustered_bootstrap(&differences, &clusters, resamples, seed)
}

fn p_value(means: &[f64], values: &[f64], expansion: f64, freedom: f64) -> f64 {
    // Sums of thirds miss 0 by roundings.
    let zero = 1e-12 * values.iter().map(|v| v.abs()).fold(0.0, f64::max);
    let below = means.iter().filter(|m| **m < -zero).count() as f64;
    let above = means.iter().filter(|m| **m > zero).count() as f64;
    let all = means.len() as f64;
    let tail = below.min(above) + 0.5 * (all - below - above);
    // One resample on the far side more than there was, so that p is never 0.
    let share = ((tail + 1.0) / (all + 1.0)).min(0.5);
    (2.0 * student_t_cdf(normal_quantile(share) / expansion, freedom)).min(1.0)
}

fn deviation(means: &[f64]) -> f64 {
    let n = means.len() as f64;
    let mean = means.iter().sum::<f64>() / n;
    (means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0)).sqrt()
}

/// The `share` quantile of sorted numbers, linear between neighbours.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let (below, part) = (position.floor() as usize, position.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + part * (sorted[above] - sorted[below])
}

/// An index below n, uniform up to a bias of n/2⁶⁴.
fn draw(key: u64, index: u64, n: usize) -> usize {
    let word = mix(key ^ index);
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
    use super::super::{Z95, clustered_mean, mean_and_standard_error};
    use super::*;

    fn close(found: f64, expected: f64, tolerance: f64) {
        assert!((found - expected).abs() < tolerance, "{found}, not {expected}");
    }

    #[test]
    fn bootstrap_agrees_with_the_normal_interval() {
        let a: Vec<f64> = (0..400).map(|i| f64::from(i % 5 == 0)).collect();
        let b: Vec<f64> = (0..400).map(|i| f64::from(i % 5 == 0 || i % 7 == 0)).collect();
        let found = paired_bootstrap(&a, &b, 2000, 1).unwrap();
        let differences: Vec<f64> = a.iter().zip(&b).map(|(a, b)| b - a).collect();
        let (mean, error) = mean_and_standard_error(&differences).unwrap();
        close(found.estimate, mean, 1e-12);
        close(found.standard_error, error, 0.1 * error);
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

    #[test]
    fn clusters_widen_the_interval_and_few_clusters_more() {
        let values: Vec<f64> = (0..60).map(|i| f64::from(i32::from(i / 10 % 2 == 0))).collect();
        let clusters: Vec<usize> = (0..60).map(|i| i / 10).collect();
        let own: Vec<usize> = (0..60).collect();
        let grouped = clustered_bootstrap(&values, &clusters, 4000, 1).unwrap();
        let alone = clustered_bootstrap(&values, &own, 4000, 1).unwrap();
        let error = clustered_mean(&values, &clusters).unwrap().standard_error;
        // The bootstrap's own error lacks the factor √(G/(G−1)) of the unbiased variance.
        close(grouped.standard_error, error * (5.0f64 / 6.0).sqrt(), 0.1 * error);
        assert!(grouped.high - grouped.low > 2.5 * (alone.high - alone.low));
        let one = clustered_bootstrap(&values, &[3; 60], 100, 1).unwrap();
        assert!(one.low.is_nan() && one.p_value == 1.0);
    }

    #[test]
    fn the_p_value_inverts_the_interval() {
        // Shifting the values so that 0 is an end of the interval makes p = 5 %.
        let values: Vec<f64> = (0..40).map(|i| f64::from(i * i % 17)).collect();
        let clusters: Vec<usize> = (0..40).map(|i| i / 2).collect();
        let at = clustered_bootstrap(&values, &clusters, 20_000, 1).unwrap();
        for end in [at.low, at.high] {
            let moved: Vec<f64> = values.iter().map(|v| v - end).collect();
            close(clustered_bootstrap(&moved, &clusters, 20_000, 1).unwrap().p_value, 0.05, 0.002);
        }
    }
}
