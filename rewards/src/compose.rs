//! Composition: weighted sum, gate, all, any, product, constant.
//!
//! A term that is unverifiable or broken masks the total (score none), unless its weight is 0: an unknown part is never
//! counted as 0. The raw score of every term stays in [`Outcome::parts`].

use crate::reward::{Outcome, Part, Reward, RewardError, TaskError, Verdict, score_batch, score_one};
use crate::task::{Response, Task};

/// A reward with its weight and its name within a composition.
pub struct WeightedTerm {
    /// Name of the part.
    pub name: String,
    /// Factor of the raw score; 0 makes a metric that is logged and never touches the total.
    pub weight: f64,
    /// What is scored.
    pub reward: Box<dyn Reward>,
}

/// How the scores of the terms become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// Σ weight · score.
    Sum,
    /// The smallest score.
    All,
    /// The largest score.
    Any,
    /// The product of the scores.
    Product,
}

/// Several rewards combined into one.
pub struct Composite {
    name: String,
    combine: Combine,
    terms: Vec<WeightedTerm>,
}

impl Composite {
    /// Combines `terms`; equal names get `_2`, `_3`, … appended.
    ///
    /// # Panics
    /// When `terms` is empty.
    pub fn new(name: impl Into<String>, combine: Combine, mut terms: Vec<WeightedTerm>) -> Self {
        assert!(!terms.is_empty(), "a composition needs at least one term");
        for i in 1..terms.len() {
            let base = terms[i].name.clone();
            let mut n = 2;
            while terms[..i].iter().any(|t| t.name == terms[i].name) {
                terms[i].name = format!("{base}_{n}");
                n += 1;
            }
        }
        Self { name: name.into(), combine, terms }
    }
}

fn part(name: &str, weight: f64, outcome: &Outcome) -> Part {
    Part {
        name: name.to_string(),
        weight,
        score: outcome.score,
        verdict: outcome.verdict,
        extracted: outcome.extracted.clone(),
        method: outcome.method.clone(),
        reason: outcome.reason.clone(),
        parts: outcome.parts.clone(),
    }
}

/// The verdict of a whole from those of its counted terms: the same if all agree, partial if they do not.
fn joint_verdict(verdicts: impl Iterator<Item = Verdict> + Clone) -> Verdict {
    let mut rest = verdicts.clone();
    let Some(first) = rest.next() else { return Verdict::Correct };
    if rest.all(|v| v == first) {
        return first;
    }
    let mut worst = verdicts.filter(|v| matches!(v, Verdict::Correct | Verdict::Partial));
    if worst.next().is_some() { Verdict::Partial } else { Verdict::Incorrect }
}

impl Composite {
    /// The whole from the outcomes of the terms, in their order.
    fn join(&self, outcomes: &[Outcome]) -> Outcome {
        let parts = self.terms.iter().zip(outcomes).map(|(t, o)| part(&t.name, t.weight, o)).collect();
        let counted: Vec<_> = self.terms.iter().zip(outcomes).filter(|(t, _)| t.weight != 0.0).collect();
        let masked = (counted.iter().find(|(_, o)| o.verdict == Verdict::Error))
            .or_else(|| counted.iter().find(|(_, o)| o.score.is_none()));
        let mut total = if let Some((term, outcome)) = masked {
            let verdict =
                if outcome.verdict == Verdict::Error { Verdict::Error } else { Verdict::Unverifiable };
            Outcome::of(verdict, &self.name, format!("{}: {}", term.name, outcome.reason))
        } else {
            let scores = counted.iter().map(|(t, o)| (t.weight, o.score.unwrap_or(0.0)));
            let score = match self.combine {
                Combine::Sum => scores.map(|(w, s)| w * s).sum::<f64>() + 0.0,
                Combine::All => scores.map(|(_, s)| s).fold(f64::INFINITY, f64::min),
                Combine::Any => scores.map(|(_, s)| s).fold(f64::NEG_INFINITY, f64::max),
                Combine::Product => scores.map(|(_, s)| s).product(),
            };
            let verdicts = counted.iter().map(|(_, o)| o.verdict);
            let verdict = match self.combine {
                Combine::Sum => joint_verdict(verdicts),
                Combine::Any if score >= 1.0 => Verdict::Correct,
                Combine::All | Combine::Product if score <= 0.0 => {
                    verdicts.clone().find(|v| *v != Verdict::Correct).unwrap_or(Verdict::Incorrect)
                }
                _ => joint_verdict(verdicts),
            };
            let reason = (counted.iter())
                .map(|(t, o)| format!("{} {}", t.name, o.score.unwrap_or(0.0)))
                .collect::<Vec<_>>()
                .join(", ");
            Outcome { score: Some(score), ..Outcome::of(verdict, &self.name, reason) }
        };
        // The answer shown for the whole is that of the heaviest term that has one.
        let heaviest = (counted.iter()).filter(|(_, o)| o.extracted.is_some() || o.gold.is_some()).fold(
            None,
            |best: Option<(f64, &Outcome)>, (t, o)| match best {
                Some((w, _)) if w >= t.weight.abs() => best,
                _ => Some((t.weight.abs(), o)),
            },
        );
        if let Some((_, o)) = heaviest {
            total.extracted = o.extracted.clone();
            total.gold = o.gold.clone();
            total.prediction = o.prediction.clone();
        }
        total.parts = parts;
        total.work = outcomes.iter().map(|o| o.work).sum();
        total
    }
}

impl Reward for Composite {
    fn name(&self) -> &str {
        &self.name
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        let outcomes: Vec<Outcome> =
            self.terms.iter().map(|t| score_one(&*t.reward, task, response)).collect();
        Ok(self.join(&outcomes))
    }

    fn score_batch(&self, items: &[(&Task, Response<'_>)]) -> Vec<Outcome> {
        let mut columns: Vec<_> =
            self.terms.iter().map(|t| score_batch(&*t.reward, items).into_iter()).collect();
        let row = |_| columns.iter_mut().filter_map(Iterator::next).collect::<Vec<_>>();
        items.iter().map(row).map(|outcomes| self.join(&outcomes)).collect()
    }

    fn prepare(&self) -> Result<(), RewardError> {
        self.terms.iter().try_for_each(|t| t.reward.prepare())
    }

    fn gold(&self, task: &Task) -> Option<String> {
        let golds = self.terms.iter().filter_map(|t| t.reward.gold(task));
        best_gold(self, task, golds)
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        self.terms.iter().filter(|t| t.weight != 0.0).try_for_each(|t| t.reward.check_task(task))
    }
}

/// The proposal that `reward` scores highest.
fn best_gold(reward: &dyn Reward, task: &Task, golds: impl Iterator<Item = String>) -> Option<String> {
    let score = |g: &String| score_one(reward, task, Response::new(g)).score.unwrap_or(f64::NEG_INFINITY);
    golds.map(|g| (score(&g), g)).reduce(|a, b| if b.0 > a.0 { b } else { a }).map(|(_, g)| g)
}

/// `then` counts only where `condition` is correct; otherwise `otherwise`, or 0.
pub struct Gate {
    /// Opens the gate when its verdict is correct.
    pub condition: Box<dyn Reward>,
    /// Scored when the gate is open.
    pub then: Box<dyn Reward>,
    /// Scored when it is shut; 0 when absent.
    pub otherwise: Option<Box<dyn Reward>>,
}

impl Gate {
    /// What is scored behind the condition, if anything is.
    fn branch(&self, condition: &Outcome) -> Option<(&'static str, &dyn Reward)> {
        match condition.verdict {
            verdict if verdict.is_masked() => None,
            Verdict::Correct => Some(("then", &*self.then)),
            _ => self.otherwise.as_ref().map(|r| ("else", &**r)),
        }
    }

    /// The whole from the condition's outcome and that of its branch, if it has one.
    fn join(condition: Outcome, branch: Option<(&'static str, Outcome)>) -> Outcome {
        let mut parts = vec![part("if", 0.0, &condition)];
        let mut work = condition.work;
        let total = match branch {
            _ if condition.verdict.is_masked() => {
                Outcome::of(condition.verdict, "gate", format!("if: {}", condition.reason))
            }
            Some((name, outcome)) => {
                parts.push(part(name, 1.0, &outcome));
                work += outcome.work;
                outcome
            }
            None => {
                let verdict = match condition.verdict {
                    Verdict::NoAnswer | Verdict::Ambiguous => condition.verdict,
                    _ => Verdict::Incorrect,
                };
                let reason = format!("gate shut: {}", condition.reason);
                Outcome { extracted: condition.extracted, ..Outcome::of(verdict, "gate", reason) }
            }
        };
        Outcome { parts, work, ..total }
    }
}

impl Reward for Gate {
    fn name(&self) -> &str {
        "gate"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        let condition = score_one(&*self.condition, task, response);
        let branch = self.branch(&condition).map(|(name, reward)| (name, score_one(reward, task, response)));
        Ok(Self::join(condition, branch))
    }

    fn score_batch(&self, items: &[(&Task, Response<'_>)]) -> Vec<Outcome> {
        let conditions = score_batch(&*self.condition, items);
        // Each branch sees the items that come to it, in one batch.
        let mut branches: Vec<Option<(&'static str, Outcome)>> = vec![None; items.len()];
        for side in ["then", "else"] {
            let taken = |i: &usize| self.branch(&conditions[*i]).is_some_and(|(name, _)| name == side);
            let at: Vec<usize> = (0..items.len()).filter(taken).collect();
            let Some((_, reward)) = at.first().and_then(|i| self.branch(&conditions[*i])) else { continue };
            let chosen: Vec<_> = at.iter().map(|i| items[*i]).collect();
            for (i, outcome) in at.into_iter().zip(score_batch(reward, &chosen)) {
                branches[i] = Some((side, outcome));
            }
        }
        conditions.into_iter().zip(branches).map(|(condition, b)| Self::join(condition, b)).collect()
    }

    fn prepare(&self) -> Result<(), RewardError> {
        self.condition.prepare()?;
        self.then.prepare()?;
        self.otherwise.as_ref().map_or(Ok(()), |r| r.prepare())
    }

    fn gold(&self, task: &Task) -> Option<String> {
        let golds = [&self.condition, &self.then].into_iter().filter_map(|r| r.gold(task));
        best_gold(self, task, golds)
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        self.condition.check_task(task)?;
        self.then.check_task(task)?;
        self.otherwise.as_ref().map_or(Ok(()), |r| r.check_task(task))
    }
}

/// One reward for tasks whose reference has `field`, another for the others: multiple choice and open questions in one
/// training set.
pub struct ByReference {
    /// Field of the reference; null and empty text count as absent.
    pub field: String,
    /// Judges the tasks that have it.
    pub present: Box<dyn Reward>,
    /// Judges the others.
    pub absent: Box<dyn Reward>,
}

impl ByReference {
    fn has(&self, task: &Task) -> bool {
        task.reference.get(&self.field).is_some_and(|value| !value.is_null() && value.as_str() != Some(""))
    }

    fn of(&self, task: &Task) -> &dyn Reward {
        if self.has(task) { &*self.present } else { &*self.absent }
    }
}

impl Reward for ByReference {
    fn name(&self) -> &str {
        "by_reference"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        Ok(score_one(self.of(task), task, response))
    }

    fn score_batch(&self, items: &[(&Task, Response<'_>)]) -> Vec<Outcome> {
        let mut sides = [(true, &self.present), (false, &self.absent)].map(|(side, reward)| {
            let chosen: Vec<_> = items.iter().filter(|(task, _)| self.has(task) == side).copied().collect();
            if chosen.is_empty() {
                Vec::new().into_iter()
            } else {
                score_batch(&**reward, &chosen).into_iter()
            }
        });
        items.iter().filter_map(|(task, _)| sides[usize::from(!self.has(task))].next()).collect()
    }

    fn prepare(&self) -> Result<(), RewardError> {
        self.present.prepare()?;
        self.absent.prepare()
    }

    fn gold(&self, task: &Task) -> Option<String> {
        self.of(task).gold(task)
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        self.of(task).check_task(task)
    }
}

/// The same score for every response.
pub struct Constant(pub f64);

impl Reward for Constant {
    fn name(&self) -> &str {
        "constant"
    }

    fn score(&self, _: &Task, _: Response<'_>) -> Result<Outcome, RewardError> {
        Ok(Outcome::graded(self.0, "constant", "constant"))
    }
}

/// 1 for a right answer, `wrong` for a wrong one that could be extracted, 0 for none or a conflicting one.
pub struct AttemptCredit {
    /// Judges the answer.
    pub answer: Box<dyn Reward>,
    /// Score of a wrong answer, in [0, 1].
    pub wrong: f64,
}

impl AttemptCredit {
    fn credit(&self, mut outcome: Outcome) -> Outcome {
        if outcome.verdict == Verdict::Incorrect {
            outcome.parts = vec![part(self.answer.name(), 1.0, &outcome)];
            outcome.score = Some(self.wrong);
            outcome.verdict = if self.wrong > 0.0 { Verdict::Partial } else { Verdict::Incorrect };
        }
        outcome
    }
}

impl Reward for AttemptCredit {
    fn name(&self) -> &str {
        self.answer.name()
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        Ok(self.credit(score_one(&*self.answer, task, response)))
    }

    fn score_batch(&self, items: &[(&Task, Response<'_>)]) -> Vec<Outcome> {
        score_batch(&*self.answer, items).into_iter().map(|outcome| self.credit(outcome)).collect()
    }

    fn prepare(&self) -> Result<(), RewardError> {
        self.answer.prepare()
    }

    fn gold(&self, task: &Task) -> Option<String> {
        self.answer.gold(task)
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        self.answer.check_task(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::reward_fn;

    fn constant(weight: f64, score: f64) -> WeightedTerm {
        let reward = Box::new(reward_fn("c", move |_: &Task, _: Response<'_>| score));
        WeightedTerm { name: "c".into(), weight, reward }
    }

    fn check(combine: Combine, terms: &[(f64, f64)], want: Option<f64>, verdict: Verdict) {
        let built = terms.iter().map(|&(w, s)| constant(w, s)).collect();
        let outcome = score_one(&Composite::new("x", combine, built), &Task::default(), Response::new(""));
        assert_eq!((outcome.score, outcome.verdict), (want, verdict), "{combine:?} {terms:?}");
        assert_eq!(outcome.parts.len(), terms.len());
    }

    #[test]
    fn combinations() {
        check(Combine::Sum, &[(1.0, 1.0), (0.5, 1.0)], Some(1.5), Verdict::Correct);
        check(Combine::Sum, &[(1.0, 1.0), (0.5, 0.0)], Some(1.0), Verdict::Partial);
        check(Combine::Sum, &[(1.0, 0.0), (0.5, 0.0)], Some(0.0), Verdict::Incorrect);
        check(Combine::All, &[(1.0, 1.0), (1.0, 0.0)], Some(0.0), Verdict::Incorrect);
        check(Combine::Any, &[(1.0, 1.0), (1.0, 0.0)], Some(1.0), Verdict::Correct);
        check(Combine::Product, &[(1.0, 0.5), (1.0, 0.5)], Some(0.25), Verdict::Partial);
    }

    #[test]
    fn a_broken_term_masks_the_total_unless_it_is_a_metric() {
        check(Combine::Sum, &[(1.0, 1.0), (0.5, f64::NAN)], None, Verdict::Error);
        check(Combine::Sum, &[(1.0, 1.0), (0.0, f64::NAN)], Some(1.0), Verdict::Correct);
        check(Combine::Any, &[(1.0, 1.0), (1.0, f64::NAN)], None, Verdict::Error);
    }

    #[test]
    fn equal_names_are_told_apart() {
        let both = Composite::new("x", Combine::Sum, vec![constant(1.0, 1.0), constant(1.0, 1.0)]);
        let outcome = score_one(&both, &Task::default(), Response::new(""));
        assert_eq!(outcome.parts.iter().map(|p| &*p.name).collect::<Vec<_>>(), ["c", "c_2"]);
    }

    #[test]
    fn the_reference_picks_the_reward() {
        let build = |kind| crate::registry::RewardConfig::from_kind(kind).unwrap().build().unwrap();
        let reward = build("by_reference");
        let choice = Task::new("c", serde_json::json!({"answer": "B", "options": ["iron", "zinc"]}));
        let open = Task::new("o", serde_json::json!({"answer": "zinc", "options": null}));
        let empty = Task::new("e", serde_json::json!({"answer": "zinc", "options": ""}));
        assert_eq!(score_one(&*reward, &empty, Response::new("zinc")).score, Some(1.0));
        let items: Vec<_> = [(&open, "zinc"), (&choice, "B"), (&open, "B"), (&choice, "A")]
            .map(|(task, text)| (task, Response::new(text)))
            .into();
        let alone: Vec<_> = items.iter().map(|(t, r)| score_one(&*reward, t, *r)).collect();
        assert_eq!(score_batch(&*reward, &items), alone);
        assert_eq!(alone.iter().map(|o| o.score).collect::<Vec<_>>(), [1.0, 1.0, 0.0, 0.0].map(Some));
        assert_eq!(reward.check_task(&open), Ok(()));
        assert!(
            reward.check_task(&Task::new("x", serde_json::json!({"answer": "C", "options": ["a"]}))).is_err()
        );
        assert_eq!(reward.gold(&choice), build("choice").gold(&choice));
    }

    #[test]
    fn a_batch_is_judged_as_its_items_are() {
        let number = || {
            Box::new(reward_fn("number", |_: &Task, r: Response<'_>| {
                r.text.parse::<f64>().unwrap_or(f64::NAN)
            }))
        };
        let sum = |parts: Vec<Box<dyn Reward>>| {
            let term = |reward| WeightedTerm { name: "t".into(), weight: 1.0, reward };
            Composite::new("sum", Combine::Sum, parts.into_iter().map(term).collect())
        };
        let gate = Gate {
            condition: number(),
            then: Box::new(Constant(0.75)),
            otherwise: Some(Box::new(AttemptCredit { answer: number(), wrong: 0.25 })),
        };
        let whole = sum(vec![Box::new(gate), number()]);
        let task = Task::default();
        let items: Vec<_> = ["1", "0", "x", "0.5", "1"].map(|t| (&task, Response::new(t))).into();
        let alone: Vec<_> = items.iter().map(|(t, r)| score_one(&whole, t, *r)).collect();
        assert_eq!(score_batch(&whole, &items), alone);
        let scores: Vec<_> = alone.iter().map(|o| o.score).collect();
        assert_eq!(scores, [Some(1.75), Some(0.25), None, Some(1.0), Some(1.75)]);
    }
}
