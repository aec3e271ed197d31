//! Intervals of a proportion.

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

#[cfg(test)]
mod tests {
    use super::*;

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
