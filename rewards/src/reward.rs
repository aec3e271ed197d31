//! The [`Reward`] trait, its [`Outcome`], and scoring a batch.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rayon::prelude::*;

pub use crate::outcome::{Outcome, Part, Verdict};
use crate::task::{Response, Task};

/// The reward itself broke; becomes [`Verdict::Error`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RewardError {
    /// The reward could not give an outcome.
    #[error("reward {reward} failed: {reason}")]
    Failed {
        /// Name of the reward.
        reward: String,
        /// What happened.
        reason: String,
    },
}

/// A task that a reward cannot judge, found when it is loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The reference lacks a field.
    #[error("reward {reward} needs reference.{field}")]
    MissingField {
        /// Name of the reward.
        reward: String,
        /// The absent field.
        field: &'static str,
    },
    /// The reference is there but cannot be used.
    #[error("reward {reward} cannot use the reference {gold:?}: {reason}")]
    BadGold {
        /// Name of the reward.
        reward: String,
        /// The reference as given.
        gold: String,
        /// Why not.
        reason: String,
    },
    /// The reward itself cannot work here, whatever the task.
    #[error("reward {reward} cannot run: {reason}")]
    Unavailable {
        /// Name of the reward.
        reward: String,
        /// What is missing.
        reason: String,
    },
}

/// Judges responses. Implementations are pure: the same task and response give the same outcome.
pub trait Reward: Send + Sync {
    /// Metric key, `reward/<name>/mean`; lower-case snake.
    fn name(&self) -> &str;

    /// Judges one response.
    ///
    /// # Errors
    /// When the reward itself broke. Wrong, missing and unjudgeable answers are outcomes, not errors.
    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError>;

    /// Judges a batch: one outcome an item, same order. One by one on all cores unless a reward has a reason to see the
    /// items together: it ranks the completions of a task (consecutive items with the same task id are a group), or it
    /// sends them elsewhere. Call it as [`score_batch`], which keeps a panic from spreading.
    fn score_batch(&self, items: &[(&Task, Response<'_>)]) -> Vec<Outcome> {
        items.par_iter().map(|(task, response)| score_one(self, task, *response)).collect()
    }

    /// Makes ready what the reward needs, such as processes; called once before a run, so that what is missing is
    /// found early. Scoring works without it.
    ///
    /// # Errors
    /// When the reward cannot work.
    fn prepare(&self) -> Result<(), RewardError> {
        Ok(())
    }

    /// The reference as a well-formed response that this reward accepts, for self-checks. None where there is none.
    fn gold(&self, _task: &Task) -> Option<String> {
        None
    }

    /// Whether the task can be judged; called once when tasks are loaded.
    ///
    /// # Errors
    /// When the reference is absent or does not parse.
    fn check_task(&self, _task: &Task) -> Result<(), TaskError> {
        Ok(())
    }
}

/// A closure with a name; made by [`reward_fn`].
pub struct FnReward<F> {
    name: String,
    score: F,
}

/// A reward from a closure. A result that is not finite, or a panic, is a [`Verdict::Error`], never 0.
///
/// ```
/// use rlvr_rewards::{Response, Reward, Task, reward_fn, score_one};
/// let short = reward_fn("short", |_task: &Task, r: Response<'_>| if r.text.len() < 10 { 1.0 } else { 0.0 });
/// assert_eq!(score_one(&short, &Task::default(), Response::new("hi")).score, Some(1.0));
/// ```
pub fn reward_fn<F>(name: impl Into<String>, score: F) -> FnReward<F>
where
    F: Fn(&Task, Response<'_>) -> f64 + Send + Sync,
{
    FnReward { name: name.into(), score }
}

impl<F> Reward for FnReward<F>
where
    F: Fn(&Task, Response<'_>) -> f64 + Send + Sync,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        Ok(Outcome::graded((self.score)(task, response), "closure", "score of a closure"))
    }
}

/// Judges one response; an `Err`, a panic or a score that is not finite becomes a [`Verdict::Error`] outcome.
pub fn score_one<R: Reward + ?Sized>(reward: &R, task: &Task, response: Response<'_>) -> Outcome {
    match catch_unwind(AssertUnwindSafe(|| reward.score(task, response))) {
        Ok(Ok(outcome)) => finite(reward.name(), outcome),
        Ok(Err(error)) => Outcome::of(Verdict::Error, reward.name(), error.to_string()),
        Err(panic) => Outcome::of(Verdict::Error, reward.name(), panic_reason(&*panic)),
    }
}

/// Judges a batch: one outcome an item, same order. What breaks for one item never touches another; a reward that sees
/// the batch as a whole and panics, or loses count, breaks for all of it.
pub fn score_batch<R: Reward + ?Sized>(reward: &R, items: &[(&Task, Response<'_>)]) -> Vec<Outcome> {
    let broken = |reason: String| vec![Outcome::of(Verdict::Error, reward.name(), reason); items.len()];
    match catch_unwind(AssertUnwindSafe(|| reward.score_batch(items))) {
        Ok(outcomes) if outcomes.len() == items.len() => {
            outcomes.into_iter().map(|outcome| finite(reward.name(), outcome)).collect()
        }
        Ok(outcomes) => broken(format!("{} outcomes for {} items", outcomes.len(), items.len())),
        Err(panic) => broken(panic_reason(&*panic)),
    }
}

fn finite(name: &str, outcome: Outcome) -> Outcome {
    match outcome.score {
        Some(s) if !s.is_finite() => Outcome::of(Verdict::Error, name, format!("score {s} is not finite")),
        _ => outcome,
    }
}

pub(crate) fn panic_reason(panic: &(dyn Any + Send)) -> String {
    let message = (panic.downcast_ref::<&str>().copied())
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("unknown");
    format!("panicked: {message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken;
    impl Reward for Broken {
        fn name(&self) -> &str {
            "broken"
        }
        fn score(&self, _: &Task, _: Response<'_>) -> Result<Outcome, RewardError> {
            Err(RewardError::Failed { reward: "broken".into(), reason: "on purpose".into() })
        }
    }

    #[test]
    fn broken_rewards_are_errors_and_never_zero() {
        let task = Task::default();
        let panics = reward_fn("panics", |_: &Task, _: Response<'_>| panic!("on purpose"));
        let nan = reward_fn("nan", |_: &Task, _: Response<'_>| f64::NAN);
        for reward in [&Broken as &dyn Reward, &panics, &nan] {
            let outcome = score_one(reward, &task, Response::new(""));
            assert_eq!((outcome.score, outcome.verdict), (None, Verdict::Error), "{}", reward.name());
        }
    }

    #[test]
    fn a_batch_keeps_its_order_around_a_panic() {
        let reward = reward_fn("len", |_: &Task, r: Response<'_>| {
            assert_ne!(r.text, "xxx");
            r.text.len() as f64 / 10.0
        });
        let task = Task::default();
        let texts = ["", "x", "xx", "xxx", "xxxx"];
        let items: Vec<_> = texts.iter().map(|t| (&task, Response::new(t))).collect();
        let scores: Vec<_> = score_batch(&reward, &items).iter().map(|o| o.score).collect();
        assert_eq!(scores, [Some(0.0), Some(0.1), Some(0.2), None, Some(0.4)]);
    }
}
