//! Several samples a question: pass@k and maj@k. (mean@k is the mean over questions of each one's share of right
//! samples, see `clustered_mean`.)

use super::error_bars::{Estimate, clustered_mean};
use std::collections::HashMap;

/// Unbiased estimate of the chance that at least one of k samples is right, from `correct` of n `samples`:
/// `1 − C(n − c, k)/C(n, k)` (arXiv:2107.03374 eq. 1), by its product form. `None` when k is 0 or exceeds n.
///
/// # Panics
/// When `correct` exceeds `samples`.
pub fn pass_at_k(samples: u64, correct: u64, k: u64) -> Option<f64> {
    assert!(correct <= samples, "{correct} correct of {samples} samples");
    if k == 0 || k > samples {
        return None;
    }
    let wrong = samples - correct;
    if wrong < k {
        return Some(1.0);
    }
    let all_wrong: f64 = (wrong + 1..=samples).map(|i| 1.0 - k as f64 / i as f64).product();
    Some(1.0 - all_wrong)
}

/// Mean of [`pass_at_k`] over questions, each with its (samples, correct), and its standard error over questions or, with
/// the cluster of each, over clusters. `None` without questions, or when k is 0 or exceeds some question's samples.
///
/// # Panics
/// When a question has more correct ones than samples, or `clusters` another length.
pub fn pass_at_k_over_questions(
    questions: &[(u64, u64)],
    k: u64,
    clusters: Option<&[usize]>,
) -> Option<Estimate> {
    let each: Option<Vec<f64>> = questions.iter().map(|(n, c)| pass_at_k(*n, *c, k)).collect();
    let own: Vec<usize>;
    let clusters = match clusters {
        Some(clusters) => clusters,
        None => {
            own = (0..questions.len()).collect();
            &own
        }
    };
    clustered_mean(&each?, clusters)
}

/// maj@k of one question: the score of the answer that most of its k samples gave (self-consistency, arXiv:2203.11171).
///
/// `votes` has the extracted answer of each sample and its score; `None` is a sample without an answer, which has no
/// vote. An answer's score is the mean of its samples' (they agree where the verifier looks at the answer alone). Tied
/// answers share evenly: the mean of their scores, what drawing one of them would give on average. Without any vote 0.
/// Answers are the same when their texts are.
pub fn majority_vote<'a>(votes: impl IntoIterator<Item = (Option<&'a str>, f64)>) -> f64 {
    let mut answers: HashMap<&str, (usize, f64)> = HashMap::new();
    for (answer, score) in votes {
        if let Some(answer) = answer {
            let entry = answers.entry(answer).or_default();
            entry.0 += 1;
            entry.1 += score;
        }
    }
    let most = answers.values().map(|(count, _)| *count).max().unwrap_or(0);
    let mut scores: Vec<f64> = answers
        .values()
        .filter(|(count, _)| *count == most)
        .map(|(count, sum)| sum / *count as f64)
        .collect();
    // A sum in the order of a hash map would differ from run to run in its last bits.
    scores.sort_by(f64::total_cmp);
    if scores.is_empty() { 0.0 } else { scores.iter().sum::<f64>() / scores.len() as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pass_at_k_by_enumeration() {
        let choose = |n: u64, k: u64| (0..k).fold(1.0, |c, i| c * (n - i) as f64 / (i + 1) as f64);
        for n in 1..=9u64 {
            for c in 0..=n {
                for k in 1..=n {
                    let wrong = if n - c >= k { choose(n - c, k) / choose(n, k) } else { 0.0 };
                    assert!((pass_at_k(n, c, k).unwrap() - (1.0 - wrong)).abs() < 1e-12);
                }
            }
        }
        assert_eq!(pass_at_k(4, 1, 0), None);
        assert_eq!(pass_at_k(4, 1, 5), None);
    }

    #[test]
    fn pass_at_k_over_questions_by_hand() {
        // 1, 1/2 and 0: mean 1/2, deviation 1/2 over three questions.
        let found = pass_at_k_over_questions(&[(4, 4), (4, 1), (4, 0)], 2, None).unwrap();
        assert!((found.mean - 0.5).abs() < 1e-15);
        assert!((found.standard_error - 0.5 / 3.0f64.sqrt()).abs() < 1e-15);
        assert_eq!(pass_at_k_over_questions(&[(4, 4), (1, 1)], 2, None), None);
        assert_eq!(pass_at_k_over_questions(&[], 2, None), None);
    }

    #[test]
    fn the_majority_decides_and_ties_share() {
        let vote = |votes: &[(&str, f64)]| {
            majority_vote(votes.iter().map(|(a, s)| ((!a.is_empty()).then_some(*a), *s)))
        };
        assert_eq!(vote(&[("B", 0.0), ("A", 1.0), ("A", 1.0)]), 1.0);
        assert_eq!(vote(&[("B", 0.0), ("B", 0.0), ("A", 1.0)]), 0.0);
        assert_eq!(vote(&[("B", 0.0), ("A", 1.0)]), 0.5);
        assert_eq!(vote(&[("B", 0.0), ("A", 1.0), ("C", 0.0)]), 1.0 / 3.0);
        // Samples without an answer have no vote, however many they are.
        assert_eq!(vote(&[("", 0.0), ("", 0.0), ("A", 1.0)]), 1.0);
        assert_eq!(vote(&[("", 0.0)]), 0.0);
        assert_eq!(vote(&[]), 0.0);
    }
}
