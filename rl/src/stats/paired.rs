//! Rights and wrongs of two runs on the same items.

/// Two-sided exact McNemar test: the p-value of `only_a` and `only_b`, the numbers of items that only A and only B
/// got right, under a fair coin. 1 when both are 0.
///
/// It is conservative: with d items that differ, p takes d/2 values, and its error of the first kind stays below the
/// level, far below for small d.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mcnemar_known_values() {
        let close = |found: f64, expected: f64, tolerance: f64| {
            assert!((found - expected).abs() < tolerance, "{found}, not {expected}");
        };
        assert_eq!(mcnemar_exact(0, 0), 1.0);
        assert_eq!(mcnemar_exact(5, 5), 1.0);
        // 2 · (1/2)^6; 2 · (1 + 10 + 45)/1024.
        close(mcnemar_exact(0, 6), 0.03125, 1e-12);
        close(mcnemar_exact(8, 2), 0.109375, 1e-12);
        close(mcnemar_exact(2, 8), mcnemar_exact(8, 2), 1e-15);
        // Large counts neither overflow nor vanish: the normal approximation with continuity correction.
        close(mcnemar_exact(5000, 5200), 0.0487, 5e-4);
    }
}
