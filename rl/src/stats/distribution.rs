//! The normal and Student's t distribution.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// P(X ≤ x) of a standard normal X.
pub fn normal_cdf(x: f64) -> f64 {
    Normal::standard().cdf(x)
}

/// The x with P(X ≤ x) = `share` of a standard normal X; infinite at 0 and 1.
///
/// # Panics
/// When `share` is outside of [0, 1].
pub fn normal_quantile(share: f64) -> f64 {
    Normal::standard().inverse_cdf(share)
}

/// P(T ≤ t) of Student's t with `freedom` degrees of freedom; NaN unless `freedom` is above 0.
pub fn student_t_cdf(t: f64, freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom).map_or(f64::NAN, |d| d.cdf(t))
}

/// The t with P(T ≤ t) = `share` of Student's t with `freedom` degrees of freedom; NaN unless `freedom` is above 0.
///
/// # Panics
/// When `share` is outside of [0, 1].
pub fn student_t_quantile(share: f64, freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom).map_or(f64::NAN, |d| d.inverse_cdf(share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_quantiles() {
        let close =
            |found: f64, expected: f64| assert!((found - expected).abs() < 1e-8, "{found} {expected}");
        close(normal_quantile(0.975), 1.959_963_984_540_054);
        close(normal_quantile(0.8), 0.841_621_233_572_914);
        close(normal_cdf(-1.959_963_984_540_054), 0.025);
        // SciPy 1.17.1, scipy.stats.t.
        close(student_t_quantile(0.975, 4.0), 2.776_445_105_197_78);
        close(student_t_quantile(0.975, 2.5), 3.574_654_842_003_68);
        close(student_t_quantile(0.975, 999.0), 1.962_341_461_133_45);
        close(student_t_cdf(1.5, 7.0), 0.911_350_756_505_01);
        assert!(student_t_quantile(0.975, 0.0).is_nan());
    }
}
