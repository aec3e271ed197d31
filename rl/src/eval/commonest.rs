//! The answer that is given most often: a policy that always says the same shows here before it shows in its accuracy.

use super::Judged;
use serde::Serialize;
use std::collections::BTreeMap;

/// The commonest answer of judged completions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Commonest {
    /// The answer in canonical form.
    pub answer: String,
    /// Its share of the completions that have an answer, in (0, 1].
    pub share: f64,
    /// Share of those completions whose reference is this answer, in [0, 1].
    pub reference_share: f64,
}

impl Commonest {
    /// Of judged completions; the first in alphabetical order of equals. None without an answer.
    pub fn of(judged: &[Judged]) -> Option<Self> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for answer in judged.iter().filter_map(answer) {
            *counts.entry(answer).or_default() += 1;
        }
        let answered = counts.values().sum::<usize>() as f64;
        let (found, count) = counts.into_iter().rev().max_by_key(|(_, count)| *count)?;
        let references = judged.iter().filter(|j| answer(j).is_some());
        let same = references.filter(|j| j.outcome.gold.as_deref() == Some(found)).count();
        Some(Self {
            answer: found.to_owned(),
            share: count as f64 / answered,
            reference_share: same as f64 / answered,
        })
    }

    /// Whether it is given to most tasks, and much more often than it is right: at least half of the answers, and half
    /// again as many as there are references.
    pub fn is_suspicious(&self) -> bool {
        self.share >= 0.5 && self.share >= 1.5 * self.reference_share
    }
}

fn answer(judged: &Judged) -> Option<&str> {
    judged.outcome.prediction.as_deref().or(judged.outcome.extracted.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rlvr_rewards::{Outcome, Verdict};

    fn judged(answer: Option<&str>, gold: &str) -> Judged {
        let mut outcome = Outcome::of(Verdict::Incorrect, "choice", "");
        outcome.prediction = answer.map(str::to_owned);
        outcome.gold = Some(gold.to_owned());
        Judged { task: 0, text: String::new(), tokens: 0, truncated: false, outcome }
    }

    #[test]
    fn shares_are_of_what_was_answered() {
        let rows = [(Some("B"), "A"), (Some("B"), "B"), (Some("A"), "C"), (Some("B"), "D"), (None, "B")];
        let rows = rows.map(|(answer, gold)| judged(answer, gold));
        let found = Commonest::of(&rows).unwrap();
        assert_eq!((found.answer.as_str(), found.share, found.reference_share), ("B", 0.75, 0.25));
        assert!(found.is_suspicious());
        let even = Commonest::of(&[judged(Some("C"), "C"), judged(Some("A"), "A")]).unwrap();
        assert_eq!((even.answer.as_str(), even.share), ("A", 0.5));
        // Half of the answers, and half of the references too.
        assert!(!even.is_suspicious());
        assert_eq!(Commonest::of(&rows[4..]), None);
    }
}
