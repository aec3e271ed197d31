//! How many items a difference needs, and which difference given items can show. All two-sided at `level` (0.05) with
//! the chance `power` (0.8) of a significant result; approximations by the normal distribution, numbers rounded up.

use super::distribution::normal_quantile;

fn quantiles(level: f64, power: f64) -> (f64, f64) {
    assert!(level > 0.0 && level < 1.0 && power > 0.0 && power < 1.0, "level {level}, power {power}");
    (normal_quantile(1.0 - level / 2.0), normal_quantile(power))
}

/// The true difference that a comparison whose difference has this standard error finds with the given power:
/// `(z_{1−level/2} + z_power) · standard_error` (Bloom, Evaluation Review 19, 1995).
///
/// # Panics
/// When `level` or `power` is outside of (0, 1).
pub fn detectable_difference(standard_error: f64, level: f64, power: f64) -> f64 {
    let (z_level, z_power) = quantiles(level, power);
    (z_level + z_power) * standard_error
}

/// Items that show `difference`, when `items` give its standard error: `n · (detectable/difference)²` (arXiv:2411.00640,
/// power analysis), since the error falls with √n. Holds for any pairing and clustering that more items would share.
///
/// # Panics
/// When `difference` is 0, or `level` or `power` is outside of (0, 1).
pub fn items_needed(items: u64, standard_error: f64, difference: f64, level: f64, power: f64) -> u64 {
    assert!(difference != 0.0, "a difference of 0 cannot be shown");
    (items as f64 * (detectable_difference(standard_error, level, power) / difference).powi(2)).ceil() as u64
}

/// Items on which two runs are compared in pairs so that `difference` in accuracy shows, when on the share `discordant` of
/// items exactly one of them is right: `((z_{1−level/2}·√d + z_power·√(d − δ²))/δ)²` (Connor, Biometrics 43, 1987). `None`
/// when `discordant` is below the difference, which cannot be.
///
/// # Panics
/// When `difference` is 0, or `level` or `power` is outside of (0, 1).
pub fn paired_items_needed(difference: f64, discordant: f64, level: f64, power: f64) -> Option<u64> {
    assert!(difference != 0.0, "a difference of 0 cannot be shown");
    let difference = difference.abs();
    if !(difference..=1.0).contains(&discordant) {
        return None;
    }
    let (z_level, z_power) = quantiles(level, power);
    let rest = (discordant - difference * difference).max(0.0);
    Some(((z_level * discordant.sqrt() + z_power * rest.sqrt()) / difference).powi(2).ceil() as u64)
}

/// The smallest difference that `items` compared in pairs show: where [`paired_items_needed`] is at most `items`. `None`
/// when not even a difference of `discordant` shows.
///
/// # Panics
/// When `level` or `power` is outside of (0, 1).
pub fn paired_detectable(items: u64, discordant: f64, level: f64, power: f64) -> Option<f64> {
    smallest(discordant, |d| paired_items_needed(d, discordant, level, power).is_some_and(|n| n <= items))
}

/// Items *in each run* that show the difference of the accuracies `a` and `b` when the runs have different items:
/// `((z_{1−level/2}·√(2·p̄·(1−p̄)) + z_power·√(a(1−a) + b(1−b)))/(b − a))²` (Fleiss, Statistical methods for rates and
/// proportions, the chapter on sample sizes).
///
/// # Panics
/// When `a` equals `b`, one is outside of [0, 1], or `level` or `power` is outside of (0, 1).
pub fn unpaired_items_needed(a: f64, b: f64, level: f64, power: f64) -> u64 {
    assert!(a != b, "a difference of 0 cannot be shown");
    assert!((0.0..=1.0).contains(&a) && (0.0..=1.0).contains(&b), "accuracies {a} and {b}");
    let (z_level, z_power) = quantiles(level, power);
    let mean = (a + b) / 2.0;
    let spread = (a * (1.0 - a) + b * (1.0 - b)).sqrt();
    let root = z_level * (2.0 * mean * (1.0 - mean)).sqrt() + z_power * spread;
    (root / (b - a)).powi(2).ceil() as u64
}

/// The smallest gain over accuracy `a` that shows with `items` in each of two runs with different items. `None` when not
/// even an accuracy of 1 would.
///
/// # Panics
/// When `a` is outside of [0, 1], or `level` or `power` is outside of (0, 1).
pub fn unpaired_detectable(items: u64, a: f64, level: f64, power: f64) -> Option<f64> {
    smallest(1.0 - a, |d| unpaired_items_needed(a, (a + d).min(1.0), level, power) <= items)
}

/// The smallest number in (0, `largest`] that is enough, when all above it are; by bisection.
fn smallest(largest: f64, enough: impl Fn(f64) -> bool) -> Option<f64> {
    if largest <= 0.0 || !enough(largest) {
        return None;
    }
    let (mut low, mut high) = (0.0, largest);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if middle > 0.0 && enough(middle) { high = middle } else { low = middle }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVEL: f64 = 0.05;
    const POWER: f64 = 0.8;

    #[test]
    fn known_numbers_of_items() {
        // Textbook: 50 % against 60 %, 388 in each of two groups.
        assert_eq!(unpaired_items_needed(0.5, 0.6, LEVEL, POWER), 388);
        // (1.95996·√0.2 + 0.84162·√(0.2 − 0.0025))²/0.0025 = 625.5.
        assert_eq!(paired_items_needed(0.05, 0.2, LEVEL, POWER), Some(626));
        assert_eq!(paired_items_needed(0.3, 0.2, LEVEL, POWER), None);
        // 0.02/2.8016 is an error of 0.00714: so n items suffice exactly there.
        assert_eq!(items_needed(500, 0.02, 0.02, LEVEL, POWER), 3925);
        assert!((detectable_difference(0.02, LEVEL, POWER) - 0.056_032).abs() < 1e-6);
    }

    #[test]
    fn detectable_inverts_needed() {
        for (items, discordant) in [(100, 0.3), (500, 0.2), (2000, 0.05)] {
            let found = paired_detectable(items, discordant, LEVEL, POWER).unwrap();
            assert!(paired_items_needed(found, discordant, LEVEL, POWER).unwrap() <= items);
            assert!(paired_items_needed(found * 0.999, discordant, LEVEL, POWER).unwrap() >= items);
            let found = unpaired_detectable(items, discordant, LEVEL, POWER).unwrap();
            assert!(unpaired_items_needed(discordant, discordant + found * 0.99, LEVEL, POWER) > items);
        }
        assert_eq!(paired_detectable(3, 0.2, LEVEL, POWER), None);
        assert_eq!(paired_detectable(100, 0.0, LEVEL, POWER), None);
        assert_eq!(unpaired_detectable(2, 0.9, LEVEL, POWER), None);
    }
}
