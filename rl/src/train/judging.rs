//! Judging the groups of a rollout while others are still being generated.
use crate::error::Error;
use crate::threads;
use rayon::ThreadPool;
use rlvr_policies::guard;
use rlvr_rewards::{Outcome, Response, Reward, Task, score_batch};
use rlvr_rollout::{Completion, RolloutError};
use serde::{Deserialize, Serialize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What the reward said of one completion.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Judgement {
    /// The completion as the reward saw it.
    pub text: String,
    /// Cut off before the policy ended it.
    pub truncated: bool,
    /// The reward, none when masked out.
    pub reward: Option<f64>,
    /// The whole outcome.
    pub outcome: Outcome,
}

/// Judging threads for each thread that computes: rewards that take long mostly wait, for a process or a network.
const THREADS_EACH: usize = 4;

/// What turns the tokens of a completion into the text that is judged.
pub(crate) type TextOf<'a> = &'a (dyn Fn(&[u32]) -> Result<String, Error> + Sync);

/// Threads that judge. They are not those that generate: a reward that waits would hold these up.
#[derive(Debug, Default)]
pub(crate) struct Judges {
    /// Started for the first group; none where the system gives no thread.
    pool: OnceLock<Option<ThreadPool>>,
}

/// What has become of a rollout.
pub(crate) struct JudgedRollout<T> {
    /// What generation returned.
    pub(crate) generated: T,
    /// The judgements of each task, none for a task without completions.
    pub(crate) judgements: Vec<Option<Vec<Judgement>>>,
    /// How long the last judgements were waited for when generation was over, in seconds.
    pub(crate) waited_s: f64,
}

impl Judges {
    fn pool(&self) -> Option<&ThreadPool> {
        self.pool.get_or_init(|| threads::pool("judge", THREADS_EACH * rayon::current_num_threads())).as_ref()
    }

    /// Runs `generate`, which reports each group of completions when it is whole, by the index of its task. The reward
    /// gets one group at a time, all its completions together, as soon as it is reported; several groups are judged at
    /// once. What it says of a group depends on neither. Without threads for it, generation waits for each judgement.
    ///
    /// # Errors
    /// What `generate` returns, after the judging that has begun; completions without a text; a panic while judging that
    /// is not the reward's; [`RolloutError::Cancelled`] where the flag was raised before all groups were judged.
    pub(crate) fn while_generating<T>(
        &self,
        reward: &dyn Reward,
        text_of: TextOf<'_>,
        tasks: &[&Task],
        cancel: Option<&AtomicBool>,
        generate: impl FnOnce(&dyn Fn(usize, &[Completion])) -> Result<T, Error>,
    ) -> Result<JudgedRollout<T>, Error> {
        let slots: Vec<OnceLock<Result<Vec<Judgement>, Error>>> =
            tasks.iter().map(|_| OnceLock::new()).collect();
        let given_up = AtomicBool::new(false);
        let mut over = Instant::now();
        let judge_group = |index: usize, completions: &[Completion]| {
            if !given_up.load(Ordering::Relaxed) {
                let task = tasks[index];
                let judged = catch_unwind(AssertUnwindSafe(|| {
                    // Rewards may take long, and nobody wants these any more.
                    if cancel.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
                        let completion_tokens = completions.iter().map(|c| c.token_ids.len()).sum();
                        return Err(RolloutError::Cancelled { completion_tokens }.into());
                    }
                    judge(reward, text_of, task, completions)
                }));
                let judged = judged.unwrap_or_else(|panic| {
                    let what = format!("judging the task {} panicked: {}", task.id, guard::message(&*panic));
                    Err(Error::Unusable { what })
                });
                // Each group is reported once.
                let _ = slots[index].set(judged);
            }
        };
        let mut finish = |generated: Result<T, Error>| {
            given_up.store(generated.is_err(), Ordering::Relaxed);
            over = Instant::now();
            generated
        };
        let generated = match self.pool() {
            None => finish(generate(&judge_group)),
            Some(pool) => pool.in_place_scope(|scope| {
                let judge_group = &judge_group;
                finish(generate(&|index, completions| {
                    let completions = completions.to_vec();
                    scope.spawn(move |_| judge_group(index, &completions));
                }))
            }),
        }?;
        let waited_s = over.elapsed().as_secs_f64();
        let judgements =
            slots.into_iter().map(|slot| slot.into_inner().transpose()).collect::<Result<_, _>>()?;
        Ok(JudgedRollout { generated, judgements, waited_s })
    }
}

/// Judges the completions of one task.
fn judge(
    reward: &dyn Reward,
    text_of: TextOf<'_>,
    task: &Task,
    completions: &[Completion],
) -> Result<Vec<Judgement>, Error> {
    let texts = (completions.iter())
        .map(|c| Ok((text_of(&c.token_ids)?, c.finish_reason.is_truncated())))
        .collect::<Result<Vec<(String, bool)>, Error>>()?;
    let items: Vec<_> = (texts.iter().zip(completions))
        .map(|((text, truncated), c)| {
            (task, Response { text, truncated: *truncated, tokens: Some(c.token_ids.len()) })
        })
        .collect();
    let outcomes = score_batch(reward, &items);
    let judgement = |((text, truncated), outcome): ((String, bool), Outcome)| Judgement {
        text,
        truncated,
        reward: outcome.score.filter(|s| s.is_finite()),
        outcome,
    };
    Ok(texts.into_iter().zip(outcomes).map(judgement).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rlvr_policies::Tokenizer;
    use rlvr_rewards::group_reward_fn;
    use rlvr_rollout::FinishReason;
    use std::sync::atomic::AtomicUsize;
    use std::sync::{Mutex, mpsc};
    use std::time::Duration;

    #[test]
    fn groups_are_judged_while_others_are_generated() {
        let tokenizer = Tokenizer::characters("01", &["<eos>"]).unwrap();
        let id = tokenizer.token_to_id("1").unwrap();
        let completion = Completion {
            token_ids: vec![id; 3],
            logprobs: vec![0.0; 3],
            finish_reason: FinishReason::Length,
            policy_version: 0,
        };
        let tasks: Vec<Task> = (0..3).map(|i| Task { id: i.to_string(), ..Task::default() }).collect();
        let (begun, seen) = mpsc::channel();
        let begun = Mutex::new(begun);
        let reward = group_reward_fn("told", |task: &Task, group: &[Response<'_>]| {
            begun.lock().unwrap().send((task.id.clone(), group.len())).unwrap();
            group.iter().map(|r| r.text.len() as f64 / 4.0).collect()
        });
        let judged = Judges::default()
            .while_generating(
                &reward,
                &|ids| Ok(tokenizer.decode(ids, true)?),
                &tasks.iter().collect::<Vec<_>>(),
                None,
                |report| {
                    // The next group is not reported before the judging of this one has begun.
                    for index in [2, 0] {
                        report(index, &vec![completion.clone(); index + 2]);
                        let told =
                            seen.recv_timeout(Duration::from_secs(300)).expect("a judgement that begins");
                        assert_eq!(told, (index.to_string(), index + 2));
                    }
                    Ok(7)
                },
            )
            .unwrap();
        assert_eq!(judged.generated, 7);
        let rewards = |index: usize| {
            judged.judgements[index].as_ref().map(|all| all.iter().map(|j| j.reward).collect::<Vec<_>>())
        };
        assert_eq!(
            [rewards(0), rewards(1), rewards(2)],
            [Some(vec![Some(0.75); 2]), None, Some(vec![Some(0.75); 4])]
        );
    }

    #[test]
    fn what_nobody_wants_any_more_is_not_judged() {
        let tokenizer = Tokenizer::characters("01", &["<eos>"]).unwrap();
        let completion = Completion {
            token_ids: vec![tokenizer.token_to_id("1").unwrap(); 3],
            logprobs: vec![0.0; 3],
            finish_reason: FinishReason::Length,
            policy_version: 0,
        };
        let (calls, cancel) = (AtomicUsize::new(0), AtomicBool::new(false));
        let reward = group_reward_fn("counted", |_: &Task, group: &[Response<'_>]| {
            calls.fetch_add(1, Ordering::Relaxed);
            vec![1.0; group.len()]
        });
        let task = Task::default();
        let judged = |raise: bool| {
            Judges::default().while_generating(
                &reward,
                &|ids| Ok(tokenizer.decode(ids, true)?),
                &[&task],
                Some(&cancel),
                |report| {
                    cancel.store(raise, Ordering::Relaxed);
                    report(0, &[completion.clone(), completion.clone()]);
                    Ok(())
                },
            )
        };
        assert!(judged(false).is_ok());
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        let cancelled = judged(true);
        assert!(matches!(cancelled, Err(Error::Rollout(RolloutError::Cancelled { completion_tokens: 6 }))));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }
}
