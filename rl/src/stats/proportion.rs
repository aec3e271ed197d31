//! Intervals of a proportion, and two independent ones.

use super::distribution::normal_cdf;

/// Two-sided quantile of the normal distribution for 95 %.
pub const Z95: f64 = 1.959_963_984_540_054;

/// Wilson score interval of a proportion, within [0, 1]; (0, 1) when `trials` is 0 (Wilson, JASA 22, 1927).
///
/// `z` is the two-sided normal quantile, [`Z95`] for 95 %. The trials must be independent.
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

/// Interval of the difference B − A of two independent means with intervals of their own: the distances of the ends from
/// the means, squared and added (Newcombe, Statistics in Medicine 17, 1998, method 10, with Wilson's intervals). Each
/// argument is a mean with its interval.
pub fn newcombe(a: (f64, (f64, f64)), b: (f64, (f64, f64))) -> (f64, f64) {
    let ((a, (a_low, a_high)), (b, (b_low, b_high))) = (a, b);
    let difference = b - a;
    (difference - (b - b_low).hypot(a_high - a), difference + (b_high - b).hypot(a - a_low))
}

/// Two-sided p-value of equal chances behind two independent proportions (right, all): the score test with the pooled
/// proportion. 1 where all are right or all wrong.
///
/// # Panics
/// When a proportion is of nothing, or exceeds 1.
pub fn two_proportions(a: (u64, u64), b: (u64, u64)) -> f64 {
    assert!(a.1 > 0 && b.1 > 0 && a.0 <= a.1 && b.0 <= b.1, "{a:?} and {b:?}");
    let (na, nb) = (a.1 as f64, b.1 as f64);
    let pooled = (a.0 + b.0) as f64 / (na + nb);
    let error = (pooled * (1.0 - pooled) * (1.0 / na + 1.0 / nb)).sqrt();
    let difference = b.0 as f64 / nb - a.0 as f64 / na;
    if error > 0.0 { 2.0 * normal_cdf(-(difference / error).abs()) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn independent_proportions_known_values() {
        // Newcombe's example (a): 56 of 70 and 48 of 80, by method 10 0.0524 to 0.3339.
        let part = |right: u64, all: u64| (right as f64 / all as f64, wilson(right, all, Z95));
        let (low, high) = newcombe(part(48, 80), part(56, 70));
        assert!((low - 0.0524).abs() < 5e-5 && (high - 0.3339).abs() < 5e-5, "{low} {high}");
        // z = 0.2/√(104/150 · 46/150 · (1/70 + 1/80)) = 2.6500.
        let p = two_proportions((48, 80), (56, 70));
        assert!((p - 0.00805).abs() < 5e-5, "{p}");
        assert_eq!(two_proportions((0, 5), (0, 7)), 1.0);
    }

    #[test]
    fn wilson_known_values() {
        let close =
            |found: f64, expected: f64| assert!((found - expected).abs() < 5e-5, "{found} {expected}");
        // Tables in the literature: 8 of 10 and 0 of 10 at 95 %.
        let (low, high) = wilson(8, 10, Z95);
        close(low, 0.4902);
        close(high, 0.9433);
        let (low, high) = wilson(0, 10, Z95);
        assert_eq!(low, 0.0);
        close(high, 0.2775);
        assert_eq!(wilson(10, 10, Z95).1, 1.0);
        assert_eq!(wilson(0, 0, Z95), (0.0, 1.0));
    }
}
