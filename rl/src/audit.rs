//! How often a reward errs, measured by labels or by another reward: what `rlvr score --against` counts.
use crate::stats::{Z95, wilson};
use rlvr_rewards::Verdict;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Whether a verdict accepts a completion; none without one.
pub fn accepted(verdict: Verdict) -> Option<bool> {
    (!verdict.is_masked()).then_some(verdict == Verdict::Correct)
}

/// What a label says: true, false, a verdict, or nothing.
///
/// # Errors
/// Anything else, in words.
pub fn label(value: &Value) -> Result<Option<bool>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(right) => Ok(Some(*right)),
        other => serde_json::from_value::<Verdict>(other.clone()).map(accepted).map_err(|_| {
            format!("`label` is {other}, but must be true, false or a verdict such as \"incorrect\"")
        }),
    }
}

/// Where a completion stands in the table of confusion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// Accepted and right.
    TruePositive,
    /// Accepted and wrong.
    FalsePositive,
    /// Refused and right.
    FalseNegative,
    /// Refused and wrong.
    TrueNegative,
}

/// Completions by cell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Confusion {
    pub true_positives: u64,
    pub false_positives: u64,
    pub false_negatives: u64,
    pub true_negatives: u64,
}

impl Confusion {
    fn add(&mut self, cell: Cell) {
        *match cell {
            Cell::TruePositive => &mut self.true_positives,
            Cell::FalsePositive => &mut self.false_positives,
            Cell::FalseNegative => &mut self.false_negatives,
            Cell::TrueNegative => &mut self.true_negatives,
        } += 1;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.true_positives + self.false_positives + self.false_negatives + self.true_negatives
    }

    /// Wrong answers that were accepted, of all wrong answers.
    pub fn false_positive_rate(&self) -> Rate {
        Rate { errors: self.false_positives, of: self.false_positives + self.true_negatives }
    }

    /// Right answers that were refused, of all right answers.
    pub fn false_negative_rate(&self) -> Rate {
        Rate { errors: self.false_negatives, of: self.false_negatives + self.true_positives }
    }

    fn json(&self) -> Value {
        json!({
            "true_positives": self.true_positives, "false_positives": self.false_positives,
            "false_negatives": self.false_negatives, "true_negatives": self.true_negatives,
        })
    }
}

/// How many of some answers were judged wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Answers judged wrongly.
    pub errors: u64,
    /// All of them.
    pub of: u64,
}

impl Rate {
    /// The share; none of no answers.
    pub fn share(&self) -> Option<f64> {
        (self.of > 0).then(|| self.errors as f64 / self.of as f64)
    }

    /// Its 95 % interval (Wilson's).
    pub fn interval(&self) -> (f64, f64) {
        wilson(self.errors, self.of, Z95)
    }

    fn json(&self) -> Value {
        let (low, high) = self.interval();
        json!({ "rate": self.share(), "ci95": [low, high], "errors": self.errors, "of": self.of })
    }
}

/// The errors of a reward over many completions.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    /// All that were compared.
    pub all: Confusion,
    /// Those by the reward's method.
    pub by_method: BTreeMap<String, Confusion>,
    /// Completions without a verdict or without a truth.
    pub left_out: usize,
}

impl Audit {
    /// Counts a completion: whether the reward accepts it, what is true of it, and the reward's method. The cell that it
    /// counts in; none where one of the two is not known.
    pub fn add(&mut self, accepts: Option<bool>, truth: Option<bool>, method: &str) -> Option<Cell> {
        let cell = match (accepts, truth) {
            (Some(true), Some(true)) => Cell::TruePositive,
            (Some(true), Some(false)) => Cell::FalsePositive,
            (Some(false), Some(true)) => Cell::FalseNegative,
            (Some(false), Some(false)) => Cell::TrueNegative,
            (None, _) | (_, None) => {
                self.left_out += 1;
                return None;
            }
        };
        self.all.add(cell);
        self.by_method.entry(method.to_owned()).or_default().add(cell);
        Some(cell)
    }

    /// All of it, as `rlvr score --report` writes it.
    pub fn json(&self) -> Value {
        let methods: Map<String, Value> = self.by_method.iter().map(|(m, c)| (m.clone(), c.json())).collect();
        json!({
            "compared": self.all.total(), "left_out": self.left_out, "confusion": self.all.json(),
            "false_positive": self.all.false_positive_rate().json(),
            "false_negative": self.all.false_negative_rate().json(),
            "by_method": methods,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_shares_of_the_answers_they_can_happen_to() {
        let mut audit = Audit::default();
        let seen = [
            (Some(true), Some(true)),
            (Some(true), Some(false)),
            (Some(false), Some(false)),
            (None, Some(true)),
        ];
        let cells: Vec<_> = seen.iter().map(|(accepts, truth)| audit.add(*accepts, *truth, "m")).collect();
        assert_eq!(
            cells,
            [Some(Cell::TruePositive), Some(Cell::FalsePositive), Some(Cell::TrueNegative), None]
        );
        assert_eq!((audit.all.total(), audit.left_out), (3, 1));
        assert_eq!(audit.all.false_positive_rate().share(), Some(0.5));
        assert_eq!(audit.all.false_negative_rate(), Rate { errors: 0, of: 1 });
        assert_eq!(Confusion::default().false_positive_rate().share(), None);
        assert_eq!(label(&json!("incorrect")), Ok(Some(false)));
        assert!(label(&json!(3)).is_err());
    }
}
