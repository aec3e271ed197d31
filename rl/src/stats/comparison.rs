//! Two arms on the same questions: difference, interval, p-value, power.

use super::bootstrap::clustered_bootstrap;
use super::distribution::{student_t_cdf, student_t_quantile};
use super::error_bars::{Method, clustered_mean};
use super::paired::{mcnemar_exact, tango};
use super::power::{detectable_difference, items_needed};
use super::proportion::Z95;

/// Level of the tests and power of the notes on power.
pub(super) const LEVEL: f64 = 0.05;
pub(super) const POWER: f64 = 0.8;

/// Scores of two arms, question by question. An arm is one evaluation, or several of policies that differ in their seed.
#[derive(Debug, Clone, Default)]
pub struct Pairs {
    /// Of each question, A's score for each seed: the mean over the samples of that seed.
    pub a: Vec<Vec<f64>>,
    /// B's.
    pub b: Vec<Vec<f64>>,
    /// Cluster of each question: the same number for questions that depend on each other.
    pub clusters: Vec<usize>,
    /// Whether every score is that of a single completion, right (1) or wrong (0).
    pub single: bool,
}

/// Why arms cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ComparisonError {
    /// There are no questions.
    #[error("there is no question to compare")]
    Empty,
    /// The lists do not fit each other.
    #[error("every question needs a score of every seed in both arms, and a cluster")]
    Shape,
}

/// Where a p-value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// McNemar's exact test: one completion of each question in each arm, questions independent.
    Mcnemar,
    /// Bootstrap over questions: several completions.
    Bootstrap,
    /// Bootstrap over clusters of questions.
    ClusteredBootstrap,
    /// t-test with the variance over questions (or clusters) and over seeds: an arm has several seeds.
    QuestionsAndSeeds,
    /// Two independent proportions, of which only means are known.
    Proportions,
}

impl Test {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mcnemar => "mcnemar",
            Self::Bootstrap => "bootstrap",
            Self::ClusteredBootstrap => "clustered bootstrap",
            Self::QuestionsAndSeeds => "questions and seeds",
            Self::Proportions => "two proportions",
        }
    }
}

/// What two arms say about each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Questions.
    pub items: usize,
    /// Clusters of questions.
    pub clusters: usize,
    /// Seeds of A and B.
    pub seeds: (usize, usize),
    /// Mean score of A, in [0, 1].
    pub a: f64,
    /// Mean score of B.
    pub b: f64,
    /// B − A.
    pub difference: f64,
    /// Standard error of the difference; NaN with one cluster.
    pub standard_error: f64,
    /// The part of it that is due to seeds; 0 with one seed an arm. More questions do not lower it.
    pub seeds_error: f64,
    /// 95 % interval of the difference; NaN with one cluster.
    pub interval: (f64, f64),
    /// How the interval came about.
    pub method: Method,
    /// Two-sided p-value of no difference.
    pub p_value: f64,
    /// The test of the p-value.
    pub test: Test,
    /// The true difference that this comparison would find with 80 % power at 5 %; none when nothing varies.
    pub detectable: Option<f64>,
}

impl Pairs {
    /// Compares the arms.
    ///
    /// One seed an arm: interval and p-value are those of [`clustered_bootstrap`] over the questions' differences; where
    /// completions are single and questions independent, [`tango`]'s interval and the p-value of McNemar's exact test. The
    /// interval may then exclude 0 while McNemar's test, which is conservative, does not reject.
    ///
    /// Several seeds in an arm: the difference of the means over seeds, with the variance over questions plus that over
    /// seeds, `V_questions + s_a²/S_a + s_b²/S_b`; t-interval with Satterthwaite's degrees of freedom (Biometrics
    /// Bulletin 2, 1946). An arm with one seed counts as fixed. Both terms contain the noise of single completions, so
    /// where seeds do not differ the test is conservative; subtracting it once, as the two-way variance of Cameron,
    /// Gelbach and Miller (JBES 29, 2011) does, rejects equal arms of three seeds in 8 % instead of 5 % of simulations.
    ///
    /// Where all clusters differ by the same, often by nothing, there is no variance to tell an error from, and a point
    /// would claim certainty: then [`tango`]'s interval and McNemar's test, with clusters for items.
    ///
    /// # Errors
    /// Without questions, or when lists do not fit.
    pub fn compare(&self, resamples: u32, seed: u64) -> Result<Comparison, ComparisonError> {
        let items = self.a.len();
        let (Some(first_a), Some(first_b)) = (self.a.first(), self.b.first()) else {
            return Err(ComparisonError::Empty);
        };
        let seeds = (first_a.len(), first_b.len());
        let whole = |arm: &[Vec<f64>], seeds: usize| seeds > 0 && arm.iter().all(|q| q.len() == seeds);
        if self.b.len() != items
            || self.clusters.len() != items
            || !whole(&self.a, seeds.0)
            || !whole(&self.b, seeds.1)
        {
            return Err(ComparisonError::Shape);
        }
        let left: Vec<f64> = self.a.iter().map(|q| mean(q)).collect();
        let right: Vec<f64> = self.b.iter().map(|q| mean(q)).collect();
        let differences: Vec<f64> = left.iter().zip(&right).map(|(a, b)| b - a).collect();
        let over_questions = clustered_mean(&differences, &self.clusters).ok_or(ComparisonError::Empty)?;
        let clusters = over_questions.clusters;
        let (a, b) = (mean(&left), mean(&right));
        let count = |sign: f64| differences.iter().filter(|d| **d * sign > 0.0).count() as u64;
        let (only_a, only_b) = (count(-1.0), count(1.0));
        let mut seeds_error = 0.0;
        let (standard_error, interval, p_value, test) = if seeds.0 > 1 || seeds.1 > 1 {
            let (error, of_seeds, freedom) = self.two_way(over_questions.standard_error, clusters);
            seeds_error = of_seeds;
            let (interval, p) = t_interval(b - a, error, freedom);
            (error, interval, p, Test::QuestionsAndSeeds)
        } else {
            let found = clustered_bootstrap(&differences, &self.clusters, resamples, seed);
            let found = found.ok_or(ComparisonError::Empty)?;
            let (p_value, test) = if self.single && clusters == items {
                (mcnemar_exact(only_a, only_b), Test::Mcnemar)
            } else if clusters == items {
                (found.p_value, Test::Bootstrap)
            } else {
                (found.p_value, Test::ClusteredBootstrap)
            };
            (over_questions.standard_error, (found.low, found.high), p_value, test)
        };
        // All differences alike, up to the roundings of their sums.
        let alike = standard_error <= 1e-12;
        let (interval, p_value, method) = match test {
            Test::Mcnemar => (tango(only_a, only_b, items as u64, Z95), p_value, Method::Tango),
            _ if alike => {
                let p_value = mcnemar_exact(0, if only_a + only_b > 0 { clusters as u64 } else { 0 });
                (alike_interval(b - a, clusters), p_value, Method::Tango)
            }
            Test::QuestionsAndSeeds => (interval, p_value, Method::StudentT),
            Test::Bootstrap | Test::ClusteredBootstrap | Test::Proportions => {
                (interval, p_value, Method::ClusteredBootstrap)
            }
        };
        Ok(Comparison {
            items,
            clusters,
            seeds,
            a,
            b,
            difference: b - a,
            standard_error,
            seeds_error,
            interval,
            method,
            p_value,
            test,
            detectable: (standard_error > 0.0 && !alike)
                .then(|| detectable_difference(standard_error, LEVEL, POWER)),
        })
    }

    /// Standard error over questions and seeds, that over seeds alone, and the degrees of freedom of the first.
    fn two_way(&self, over_questions: f64, clusters: usize) -> (f64, f64, f64) {
        let questions = over_questions * over_questions;
        let mut total = questions;
        // Satterthwaite: each variance weighs by its square over its own degrees of freedom.
        let mut weight = questions * questions / (clusters as f64 - 1.0);
        for arm in [&self.a, &self.b] {
            let seeds = arm[0].len();
            if seeds > 1 {
                let of_seeds = seed_variance(arm);
                total += of_seeds;
                weight += of_seeds * of_seeds / (seeds as f64 - 1.0);
            }
        }
        let freedom = if weight > 0.0 { total * total / weight } else { clusters as f64 - 1.0 };
        (total.sqrt(), (total - questions).max(0.0).sqrt(), freedom)
    }
}

impl Comparison {
    /// Questions that would show `difference` with 80 % power at 5 %, if more were like these and the seeds stayed the
    /// same; none when nothing varies, or where the spread of so few seeds alone hides the difference, which more
    /// questions do not change.
    ///
    /// # Panics
    /// When `difference` is 0.
    pub fn items_needed(&self, difference: f64) -> Option<u64> {
        self.detectable?;
        // The error that shows the difference, less what the seeds take of it.
        let error = difference.abs() / detectable_difference(1.0, LEVEL, POWER);
        let room = error * error - self.seeds_error * self.seeds_error;
        let questions = self.standard_error * self.standard_error - self.seeds_error * self.seeds_error;
        if self.seeds_error == 0.0 {
            return Some(items_needed(self.items as u64, self.standard_error, difference, LEVEL, POWER));
        }
        (room > 0.0).then(|| (self.items as f64 * questions.max(0.0) / room).ceil() as u64)
    }
}

/// Interval of a difference that all of so many clusters show alike.
fn alike_interval(difference: f64, clusters: usize) -> (f64, f64) {
    let items = clusters as u64;
    let differing = ((difference.abs() * clusters as f64).round() as u64).min(items);
    if difference < 0.0 { tango(differing, 0, items, Z95) } else { tango(0, differing, items, Z95) }
}

/// Variance of the mean over an arm's seeds: the sample variance of their accuracies over their number.
fn seed_variance(arm: &[Vec<f64>]) -> f64 {
    let seeds = arm[0].len();
    let by_seed: Vec<f64> =
        (0..seeds).map(|s| arm.iter().map(|q| q[s]).sum::<f64>() / arm.len() as f64).collect();
    let grand = mean(&by_seed);
    by_seed.iter().map(|m| (m - grand).powi(2)).sum::<f64>() / ((seeds - 1) * seeds) as f64
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Interval of a difference with this error, and the p-value of 0.
fn t_interval(difference: f64, error: f64, freedom: f64) -> ((f64, f64), f64) {
    // Without variance nothing is known about the error.
    if error.is_nan() || error == 0.0 {
        return ((f64::NAN, f64::NAN), 1.0);
    }
    let half = student_t_quantile(0.975, freedom) * error;
    let p = 2.0 * student_t_cdf(-(difference / error).abs(), freedom);
    (((difference - half).max(-1.0), (difference + half).min(1.0)), p)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(a: &[f64], b: &[f64]) -> Pairs {
        let arm = |scores: &[f64]| scores.iter().map(|s| vec![*s]).collect();
        Pairs { a: arm(a), b: arm(b), clusters: (0..a.len()).collect(), single: true }
    }

    #[test]
    fn the_test_fits_the_data() {
        let a = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0];
        let b = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
        let single = pairs(&a, &b);
        let found = single.compare(1000, 0).unwrap();
        assert_eq!((found.test, found.items, found.seeds), (Test::Mcnemar, 8, (1, 1)));
        // Five items that only B has right: 2/2⁵.
        assert!((found.p_value - 0.0625).abs() < 1e-12);
        assert!((found.difference - 0.625).abs() < 1e-12);
        assert!(found.interval.0 > 0.0, "{found:?}");
        let several = Pairs { single: false, ..single.clone() };
        assert_eq!(several.compare(1000, 0).unwrap().test, Test::Bootstrap);
        let clustered = Pairs { clusters: vec![0, 0, 1, 1, 2, 2, 3, 3], ..single.clone() };
        assert_eq!(clustered.compare(1000, 0).unwrap().test, Test::ClusteredBootstrap);
        let one = Pairs { clusters: vec![0; 8], ..single };
        let found = one.compare(1000, 0).unwrap();
        assert!(found.p_value == 1.0 && found.interval.0.is_nan() && found.detectable.is_none());
    }

    #[test]
    fn seeds_by_hand() {
        // Two questions, two seeds an arm.
        let a = vec![vec![0.1, 0.3], vec![0.5, 0.7]];
        let b = vec![vec![0.5, 0.5], vec![0.7, 0.7]];
        let pairs = Pairs { a, b, clusters: vec![0, 1], single: false };
        let found = pairs.compare(0, 0).unwrap();
        // Differences 0.3 and 0.1: V = 0.01; seeds of A 0.3 and 0.5: 0.02/2 = 0.01; of B none.
        assert!((found.standard_error - 0.02f64.sqrt()).abs() < 1e-12, "{found:?}");
        assert!((found.difference - 0.2).abs() < 1e-12);
        assert_eq!(found.test, Test::QuestionsAndSeeds);
        // Satterthwaite: 0.02²/(0.01² + 0.01²) = 2 degrees of freedom.
        let half = student_t_quantile(0.975, 2.0) * 0.02f64.sqrt();
        assert!((found.interval.1 - (0.2 + half)).abs() < 1e-9, "{found:?}");
        // The seeds' variance 0.01 alone hides 2 points; for 0.5, (0.5/2.80159)² − 0.01 = 0.02185 of 0.01 · 2/n is left.
        assert!((found.seeds_error - 0.1).abs() < 1e-12, "{found:?}");
        assert_eq!((found.items_needed(0.02), found.items_needed(0.5)), (None, Some(1)));
        assert_eq!(found.items_needed(0.3), Some(14));
    }

    #[test]
    fn no_difference_is_no_certainty() {
        let wide = |found: Comparison| {
            let (low, high) = found.interval;
            assert!(low < -0.3 && high > 0.3 && found.p_value == 1.0, "{found:?}");
            assert_eq!((found.method, found.detectable), (Method::Tango, None));
        };
        let same = pairs(&[1.0, 0.0, 1.0], &[1.0, 0.0, 1.0]);
        wide(same.compare(100, 0).unwrap());
        // Several samples, clusters, several seeds.
        wide(Pairs { single: false, ..same.clone() }.compare(100, 0).unwrap());
        let twice = |arm: &[Vec<f64>]| arm.iter().chain(arm).cloned().collect::<Vec<_>>();
        let clusters = vec![0, 1, 2, 0, 1, 2];
        wide(Pairs { a: twice(&same.a), b: twice(&same.b), clusters, single: true }.compare(100, 0).unwrap());
        let seeds = same.b.iter().map(|q| vec![q[0]; 2]).collect();
        wide(Pairs { b: seeds, single: false, ..same }.compare(100, 0).unwrap());
        // Right always against wrong always, three times.
        let all = pairs(&[0.0; 3], &[1.0; 3]).compare(100, 0).unwrap();
        assert!(
            all.interval.0 < 0.0 && all.interval.1 == 1.0 && (all.p_value - 0.25).abs() < 1e-12,
            "{all:?}"
        );
    }

    #[test]
    fn lists_that_do_not_fit_are_errors() {
        assert_eq!(Pairs::default().compare(10, 0), Err(ComparisonError::Empty));
        let mut bad = pairs(&[1.0, 0.0], &[1.0, 0.0]);
        bad.b[1].push(0.5);
        assert_eq!(bad.compare(10, 0), Err(ComparisonError::Shape));
        let same = pairs(&[1.0, 0.0, 1.0], &[1.0, 0.0, 1.0]).compare(100, 0).unwrap();
        assert_eq!((same.p_value, same.interval, same.detectable), (1.0, tango(0, 0, 3, Z95), None));
        assert_eq!(same.items_needed(0.02), None);
    }
}
