//! Two arms of which only means are known, not the answers to single questions.

use super::comparison::{Comparison, LEVEL, POWER, Test};
use super::distribution::normal_cdf;
use super::error_bars::Method;
use super::power::detectable_difference;
use super::proportion::{Z95, newcombe, two_proportions};

/// What is known about an arm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recorded {
    /// Questions.
    pub items: u64,
    /// Right answers, where each question had one completion.
    pub right: Option<u64>,
    /// Accuracy, in [0, 1].
    pub accuracy: f64,
    /// Its 95 % interval.
    pub interval: (f64, f64),
}

impl Recorded {
    /// Standard error, from the counts or else from the interval.
    fn standard_error(&self) -> f64 {
        match self.right {
            Some(_) => (self.accuracy * (1.0 - self.accuracy) / self.items as f64).sqrt(),
            None => (self.interval.1 - self.interval.0) / (2.0 * Z95),
        }
    }
}

/// Compares means as if the arms had answered different questions: [`newcombe`]'s interval, and the p-value of
/// [`two_proportions`], or of the normal distribution where questions had several completions. Where both answered the
/// same questions, pairs would show more. `None` when an arm has no questions.
pub fn unpaired(a: Recorded, b: Recorded) -> Option<Comparison> {
    if a.items == 0 || b.items == 0 {
        return None;
    }
    let difference = b.accuracy - a.accuracy;
    let error = a.standard_error().hypot(b.standard_error());
    let p_value = match (a.right, b.right) {
        (Some(right_a), Some(right_b)) => two_proportions((right_a, a.items), (right_b, b.items)),
        _ if error > 0.0 => 2.0 * normal_cdf(-(difference / error).abs()),
        _ => 1.0,
    };
    let items = a.items.min(b.items) as usize;
    Some(Comparison {
        items,
        clusters: items,
        seeds: (1, 1),
        a: a.accuracy,
        b: b.accuracy,
        difference,
        standard_error: error,
        seeds_error: 0.0,
        interval: newcombe((a.accuracy, a.interval), (b.accuracy, b.interval)),
        method: Method::Newcombe,
        p_value,
        test: Test::Proportions,
        detectable: (error > 0.0).then(|| detectable_difference(error, LEVEL, POWER)),
    })
}

#[cfg(test)]
mod tests {
    use super::super::wilson;
    use super::*;

    #[test]
    fn counts_and_means() {
        let counted = |right: u64, items: u64| Recorded {
            items,
            right: Some(right),
            accuracy: right as f64 / items as f64,
            interval: wilson(right, items, Z95),
        };
        let found = unpaired(counted(48, 80), counted(56, 70)).unwrap();
        assert!((found.p_value - 0.008_045).abs() < 1e-6 && found.interval.0 > 0.05, "{found:?}");
        assert!(found.items_needed(0.02).unwrap() > 1000 && found.test == Test::Proportions);
        // From the intervals alone about the same.
        let mean = |recorded: Recorded| Recorded { right: None, ..recorded };
        let near = unpaired(mean(counted(48, 80)), mean(counted(56, 70))).unwrap();
        assert!((near.p_value - found.p_value).abs() < 0.005, "{near:?}");
        let none = unpaired(counted(0, 3), counted(0, 3)).unwrap();
        assert!(none.p_value == 1.0 && none.interval.1 > 0.5 && none.detectable.is_none(), "{none:?}");
        assert_eq!(unpaired(counted(0, 3), Recorded { items: 0, ..counted(0, 3) }), None);
    }
}
