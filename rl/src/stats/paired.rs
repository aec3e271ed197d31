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

/// Score interval of the difference in accuracy B − A on the same `items` (Tango, Statistics in Medicine 17, 1998), from
/// the numbers of items that only A and only B got right: the differences Δ with
/// `|b − c − nΔ| ≤ z·√(n(2q + Δ(1 − Δ)))`, where b is `only_b`, c `only_a`, n `items` and q the likeliest share of c
/// under Δ. Within [−1, 1], and never a point: without any item that differs it is `±z²/(n + z²)`. (−1, 1) without items.
///
/// `z` is the two-sided normal quantile, [`super::Z95`] for 95 %. The items must be independent.
///
/// # Panics
/// When more items differ than there are.
pub fn tango(only_a: u64, only_b: u64, items: u64, z: f64) -> (f64, f64) {
    assert!(only_a + only_b <= items, "{only_a} and {only_b} of {items} items");
    if items == 0 {
        return (-1.0, 1.0);
    }
    let (b, c, n) = (only_b as f64, only_a as f64, items as f64);
    let observed = (b - c) / n;
    let statistic = |delta: f64| {
        let linear = (2.0 * n - b + c) * delta - b - c;
        let q =
            ((linear * linear + 8.0 * n * c * delta * (1.0 - delta)).max(0.0).sqrt() - linear) / (4.0 * n);
        let variance = n * (2.0 * q + delta * (1.0 - delta));
        let distance = b - c - n * delta;
        if variance > 0.0 { distance / variance.sqrt() } else { distance * f64::INFINITY }
    };
    // The statistic falls with Δ and is 0 at the observed difference.
    let end = |mut inside: f64, mut outside: f64| {
        if statistic(outside).abs() <= z {
            return outside;
        }
        for _ in 0..100 {
            let middle = 0.5 * (inside + outside);
            if statistic(middle).abs() <= z { inside = middle } else { outside = middle }
        }
        inside
    };
    let edge = |outside: f64| if observed == outside { outside } else { end(observed, outside) };
    (edge(-1.0), edge(1.0))
}

#[cfg(test)]
mod tests {
    use super::super::Z95;
    use super::*;

    #[test]
    fn tango_known_values() {
        // Found by maximising the likelihood under each difference numerically.
        for (only_a, only_b, items, low, high) in [
            (5, 12, 50, -0.023_181_15, 0.299_979_46),
            (0, 1, 44, -0.059_393_23, 0.118_077_10),
            (30, 2, 200, -0.197_621_06, -0.092_139_89),
            (0, 5, 8, 0.097_837_71, 0.863_155_71),
            (0, 3, 3, -0.122_994_06, 1.0),
            (0, 0, 3, -0.561_497_03, 0.561_497_03),
        ] {
            let found = tango(only_a, only_b, items, Z95);
            let close = (found.0 - low).abs() < 1e-7 && (found.1 - high).abs() < 1e-7;
            assert!(close, "{only_a} {only_b} {items}: {found:?}");
            let back = tango(only_b, only_a, items, Z95);
            assert!((back.0 + found.1).abs() < 1e-9 && (back.1 + found.0).abs() < 1e-9, "{back:?}");
        }
        assert_eq!(tango(0, 0, 0, Z95), (-1.0, 1.0));
    }

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
