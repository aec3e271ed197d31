//! Groups: the completions of one task, judged together.
//!
//! Items with the same task id that stand one behind the other in a batch are a group. Training, evaluation and
//! `rlvr score` hand over whole batches ([`score_batch`](crate::reward::score_batch)) in which the completions of a
//! task are neighbours; a response that is judged alone is a group of one.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rayon::prelude::*;

use crate::reward::{Outcome, Reward, RewardError, Verdict, panic_reason};
use crate::task::{Response, Task};

/// The groups of a batch in order: ranges that cover it.
pub fn groups(items: &[(&Task, Response<'_>)]) -> Vec<Range<usize>> {
    let mut start = 0;
    let same = items.chunk_by(|(a, _), (b, _)| a.id == b.id);
    same.map(|group| {
        let range = start..start + group.len();
        start = range.end;
        range
    })
    .collect()
}

/// A closure that judges the completions of a task together; made by [`group_reward_fn`].
pub struct GroupFnReward<F> {
    name: String,
    score: F,
}

/// A reward from a closure that sees all completions of a task and gives one number each, for ranks and comparisons.
/// A panic or a wrong count makes the whole group [`Verdict::Error`], a number that is not finite its completion.
///
/// ```
/// use rlvr_rewards::{Response, Task, group_reward_fn, score_batch};
/// let shortest = group_reward_fn("shortest", |_task: &Task, responses: &[Response<'_>]| {
///     let least = responses.iter().map(|r| r.text.len()).min();
///     responses.iter().map(|r| if Some(r.text.len()) == least { 1.0 } else { 0.0 }).collect()
/// });
/// let task = Task::default();
/// let items = [(&task, Response::new("four")), (&task, Response::new("4"))];
/// let scores: Vec<_> = score_batch(&shortest, &items).iter().map(|o| o.score).collect();
/// assert_eq!(scores, [Some(0.0), Some(1.0)]);
/// ```
pub fn group_reward_fn<F>(name: impl Into<String>, score: F) -> GroupFnReward<F>
where
    F: Fn(&Task, &[Response<'_>]) -> Vec<f64> + Send + Sync,
{
    GroupFnReward { name: name.into(), score }
}

impl<F> GroupFnReward<F>
where
    F: Fn(&Task, &[Response<'_>]) -> Vec<f64> + Send + Sync,
{
    fn judge(&self, task: &Task, responses: &[Response<'_>]) -> Vec<Outcome> {
        let broken = |reason: String| vec![Outcome::of(Verdict::Error, "closure", reason); responses.len()];
        match catch_unwind(AssertUnwindSafe(|| (self.score)(task, responses))) {
            Ok(scores) if scores.len() == responses.len() => {
                let graded = |score| Outcome::graded(score, "closure", "score of a closure");
                scores.into_iter().map(graded).collect()
            }
            Ok(scores) => broken(format!("{} scores for a group of {}", scores.len(), responses.len())),
            Err(panic) => broken(panic_reason(&*panic)),
        }
    }
}

impl<F> Reward for GroupFnReward<F>
where
    F: Fn(&Task, &[Response<'_>]) -> Vec<f64> + Send + Sync,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        let none = || RewardError::Failed { reward: self.name.clone(), reason: "no score".into() };
        self.judge(task, &[response]).pop().ok_or_else(none)
    }

    fn score_batch(&self, items: &[(&Task, Response<'_>)]) -> Vec<Outcome> {
        let judge = |group: Range<usize>| {
            let group = &items[group];
            let responses: Vec<_> = group.iter().map(|(_, response)| *response).collect();
            group.first().map_or_else(Vec::new, |(task, _)| self.judge(task, &responses))
        };
        groups(items).into_par_iter().flat_map_iter(judge).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::{score_batch, score_one};
    use serde_json::Value;

    #[test]
    fn a_closure_ranks_the_completions_of_each_task() {
        let reward = group_reward_fn("rank", |task: &Task, group: &[Response<'_>]| {
            assert_ne!(task.id, "panics");
            let rank = |r: &Response<'_>| group.iter().filter(|o| o.text.len() < r.text.len()).count();
            let scores = group.iter().map(|r| rank(r) as f64 / group.len() as f64);
            if task.id == "loses" { scores.skip(1).collect() } else { scores.collect() }
        });
        let tasks = ["a", "loses", "panics", "b"].map(|id| Task::new(id, Value::Null));
        let texts = [(0, "xx"), (0, "x"), (1, "x"), (1, "y"), (2, "x"), (3, "xx"), (3, "x"), (0, "xx")];
        let items: Vec<_> = texts.iter().map(|(t, text)| (&tasks[*t], Response::new(text))).collect();
        assert_eq!(groups(&items), [0..2, 2..4, 4..5, 5..7, 7..8]);
        let outcomes = score_batch(&reward, &items);
        let scores: Vec<_> = outcomes.iter().map(|o| o.score).collect();
        assert_eq!(scores, [Some(0.5), Some(0.0), None, None, None, Some(0.5), Some(0.0), Some(0.0)]);
        assert_eq!(outcomes[2].reason, "1 scores for a group of 2");
        assert_eq!(score_one(&reward, &tasks[0], Response::new("alone")).score, Some(0.0));
    }
}
