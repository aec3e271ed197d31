//! Accuracy over questions with its error: the one code behind a run's evaluations, `results.json` and reports.

use super::{Judged, solved};
use crate::stats::{
    Estimate, Method, clustered_mean, majority_vote, pass_at_k_over_questions, score_interval,
};

/// Resamples of every bootstrap, and their seed: the same data always has the same interval.
pub const RESAMPLES: u32 = 10_000;
/// Seed of every bootstrap.
pub const SEED: u64 = 0;

/// A question with its judged samples.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Question<'a> {
    /// The same number for questions that depend on each other.
    pub cluster: usize,
    /// Answer in canonical form (none where none was found), and whether it is right. Questions without samples do not
    /// count.
    pub samples: Vec<(Option<&'a str>, bool)>,
}

impl Question<'_> {
    /// Samples, and how many of them are right.
    fn counts(&self) -> (u64, u64) {
        (self.samples.len() as u64, self.samples.iter().filter(|(_, right)| *right).count() as u64)
    }

    /// Share of right samples, in [0, 1].
    fn mean(&self) -> f64 {
        let (samples, right) = self.counts();
        right as f64 / samples as f64
    }

    /// Score of the answer that most samples gave, in [0, 1].
    fn majority(&self) -> f64 {
        let votes = self.samples.iter().map(|(answer, right)| (*answer, f64::from(u8::from(*right))));
        majority_vote(votes)
    }
}

/// Accuracy over questions.
#[derive(Debug, Clone, PartialEq)]
pub struct Accuracy {
    /// Mean over questions of the share of right samples (mean@k), in [0, 1]; 0 without questions.
    pub mean: f64,
    /// Its standard error over questions or clusters of them; NaN with fewer than two.
    pub standard_error: f64,
    /// 95 % interval, see [`score_interval`]; (0, 1) without questions.
    pub interval: (f64, f64),
    /// How the interval came about.
    pub method: Method,
    /// Samples of each question, when all have the same number.
    pub samples: Option<u64>,
    /// Unbiased pass@k for k = 1, 2, 4, … and the least number of samples; empty when every question has one sample.
    pub pass_at: Vec<(u64, Estimate)>,
    /// maj@k, when all questions have the same k > 1.
    pub majority: Option<(u64, Estimate)>,
}

impl Accuracy {
    /// The accuracy of questions.
    pub fn of(questions: &[Question<'_>]) -> Self {
        let asked: Vec<&Question<'_>> = questions.iter().filter(|q| !q.samples.is_empty()).collect();
        let clusters: Vec<usize> = asked.iter().map(|q| q.cluster).collect();
        let counts: Vec<(u64, u64)> = asked.iter().map(|q| q.counts()).collect();
        let scores: Vec<f64> = asked.iter().map(|q| q.mean()).collect();
        let least = counts.iter().map(|(samples, _)| *samples).min().unwrap_or(0);
        let most = counts.iter().map(|(samples, _)| *samples).max().unwrap_or(0);
        let samples = (least == most && least > 0).then_some(least);
        let powers = std::iter::successors(Some(1), |k| Some(2 * k)).take_while(|k| *k < least);
        let ks = powers.chain([least]).filter(|_| most > 1);
        let pass_at =
            ks.filter_map(|k| Some((k, pass_at_k_over_questions(&counts, k, Some(&clusters))?))).collect();
        let votes: Vec<f64> = asked.iter().map(|q| q.majority()).collect();
        let majority = samples
            .filter(|k| *k > 1)
            .and_then(|k| clustered_mean(&votes, &clusters).map(|estimate| (k, estimate)));
        let estimate = clustered_mean(&scores, &clusters);
        let (interval, method) =
            score_interval(&scores, &clusters, RESAMPLES, SEED).unwrap_or(((0.0, 1.0), Method::Wilson));
        Self {
            mean: estimate.map_or(0.0, |e| e.mean),
            standard_error: estimate.map_or(f64::NAN, |e| e.standard_error),
            interval,
            method,
            samples,
            pass_at,
            majority,
        }
    }

    /// The accuracy of judged completions of `n` questions, each its own cluster; `judged.task` is below `n`.
    pub fn of_judged(n: usize, judged: &[Judged]) -> Self {
        let mut questions: Vec<Question<'_>> =
            (0..n).map(|cluster| Question { cluster, samples: Vec::new() }).collect();
        for j in judged {
            let answer = j.outcome.prediction.as_deref().or(j.outcome.extracted.as_deref());
            questions[j.task].samples.push((answer, solved(&j.outcome)));
        }
        Self::of(&questions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Z95, wilson};

    fn questions(rights: &[&[bool]]) -> Accuracy {
        let question = |(cluster, rights): (usize, &&[bool])| Question {
            cluster,
            samples: rights.iter().map(|right| (Some(if *right { "A" } else { "B" }), *right)).collect(),
        };
        Accuracy::of(&rights.iter().enumerate().map(question).collect::<Vec<_>>())
    }

    #[test]
    fn several_wrong_samples_are_no_certainty() {
        let found = questions(&[&[false; 4][..]; 12]);
        // The four samples of a question are one trial.
        assert_eq!((found.mean, found.interval, found.method), (0.0, wilson(0, 12, Z95), Method::Wilson));
        assert!(found.interval.1 > 0.2, "{found:?}");
        let found = questions(&[&[true; 2][..]; 3]);
        assert!(found.interval.0 < 0.5 && found.interval.1 == 1.0, "{found:?}");
    }

    #[test]
    fn samples_by_hand() {
        let found = questions(&[&[true, true, true, false], &[true, false, false, false], &[false; 4]]);
        assert!((found.mean - 1.0 / 3.0).abs() < 1e-15);
        assert_eq!((found.samples, found.method), (Some(4), Method::ClusteredBootstrap));
        let pass: Vec<(u64, f64)> = found.pass_at.iter().map(|(k, e)| (*k, e.mean)).collect();
        assert_eq!(pass[2], (4, 2.0 / 3.0));
        // pass@2: 1, 1 − C(3,2)/C(4,2) = 1/2, 0.
        assert!((pass[1].1 - 0.5).abs() < 1e-15, "{pass:?}");
        let (k, majority) = found.majority.unwrap();
        assert!(k == 4 && (majority.mean - 1.0 / 3.0).abs() < 1e-15);
        // One sample each: Wilson's interval of the accuracy.
        let single = questions(&[&[true], &[false], &[true]]);
        assert_eq!((single.interval, single.samples), (wilson(2, 3, Z95), Some(1)));
        assert!(single.pass_at.is_empty() && single.majority.is_none());
        // Another number of samples each: no maj@k, and pass@k up to the least.
        let uneven = questions(&[&[true], &[false, true, true]]);
        assert_eq!((uneven.samples, uneven.majority), (None, None));
        assert_eq!(uneven.pass_at.len(), 1);
        assert_eq!(questions(&[]).interval, (0.0, 1.0));
    }
}
