//! The work of hostile answers is bounded; the counters are tested, not the clock.
//! `times.rs` prints the times.

#![allow(clippy::unwrap_used)]

use rlvr_rewards::{Outcome, Response, Reward, RewardConfig, Task, Verdict, score_one};
use serde_json::json;

#[path = "support/hostile.rs"]
mod hostile;

use hostile::inputs;

/// Work that no input may pass; a few milliseconds on a slow core.
const MAX_WORK: u64 = 60_000;

/// The strict reward and the lenient one.
fn rewards() -> Vec<Box<dyn Reward>> {
    let lenient: RewardConfig =
        serde_json::from_value(json!({"kind": "math", "extract": "lenient"})).unwrap();
    vec![RewardConfig::from_kind("math").unwrap().build().unwrap(), lenient.build().unwrap()]
}

fn score(reward: &dyn Reward, gold: &str, text: &str) -> Outcome {
    score_one(reward, &Task::new("t", json!({ "answer": gold })), Response::new(text))
}

#[test]
fn work_is_bounded() {
    for (reward, (gold, text)) in rewards().iter().flat_map(|r| inputs().into_iter().map(move |i| (r, i))) {
        let outcome = score(&**reward, &gold, &text);
        let shown = &text[..text.char_indices().nth(60).map_or(text.len(), |(i, _)| i)];
        assert!(outcome.work <= MAX_WORK, "{} for {gold:?} {shown:?}", outcome.work);
        assert_ne!(outcome.verdict, Verdict::Error, "{gold:?} {shown:?} {}", outcome.reason);
        assert_eq!(outcome, score(&**reward, &gold, &text), "{gold:?} {shown:?}");
    }
}

#[test]
fn long_answers() {
    let reward = RewardConfig::from_kind("math").unwrap().build().unwrap();
    let check = |text: String, want: Verdict| {
        assert_eq!(score(&*reward, "42", &text).verdict, want, "{}", &text[..40])
    };
    check("x ".repeat(50_000) + "\\boxed{42}", Verdict::Correct);
    check("\\boxed{41} ".to_string() + &"x ".repeat(50_000) + "\\boxed{42}", Verdict::Correct);
    // Only the last 64 KiB are read.
    check("\\boxed{42} ".to_string() + &"x ".repeat(50_000), Verdict::NoAnswer);
    check(format!("\\boxed{{{}42}}", "0+".repeat(1_900)), Verdict::Correct);
    check(format!("\\boxed{{{}42}}", "0+".repeat(2_100)), Verdict::NoAnswer);
}
