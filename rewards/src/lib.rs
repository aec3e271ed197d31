//! Verifiable rewards: extraction, equality, composition. No tensors, no async, no I/O but by [`code`] and [`plugin`].
//!
//! A [`Reward`] looks at a [`Task`] and a [`Response`] and gives one [`Outcome`]. Right, wrong, unjudgeable and broken
//! are four different [`Verdict`]s and never collapse into `0.0`. Rewards are written down as a [`RewardConfig`]
//! (TOML or JSON), are any closure with a name ([`reward_fn`]; [`group_reward_fn`] sees all completions of a task), or a
//! program in any language ([`plugin`], or [`wasm`] for code that is not trusted).
//!
//! ```
//! use rlvr_rewards::{RewardConfig, Response, Task, Verdict, score_one};
//! let reward = RewardConfig::from_kind("math")?.build()?;
//! let task = Task::new("1", serde_json::json!({"answer": "\\frac{1}{2}"}));
//! let outcome = score_one(&*reward, &task, Response::new("So the answer is \\boxed{0.5}."));
//! assert_eq!((outcome.score, outcome.verdict), (Some(1.0), Verdict::Correct));
//! # Ok::<(), rlvr_rewards::ConfigError>(())
//! ```
//!
//! Model output is hostile input: every verifier is bounded in work (bytes, tokens, depth, bits), never in wall time,
//! gives the same outcome for the same bytes, and does not panic. [`code`], [`plugin`] and [`wasm`] run programs, so they
//! also have a clock.

pub mod bleu;
#[cfg(unix)]
pub mod children;
pub mod choice;
pub mod cider;
pub mod code;
pub mod compose;
pub mod config;
pub mod contains;
pub mod conversation;
pub mod exact;
pub mod extract;
pub mod format;
pub mod group;
pub mod instructions;
pub mod json_schema;
pub mod language;
pub mod length;
pub mod math;
pub mod meteor;
pub mod noise;
pub mod numeric;
pub mod pattern;
pub mod plugin;
pub mod procedural;
mod reference;
pub mod repetition;
pub mod reward;
pub mod rouge;
pub mod rows;
pub mod sandbox;
pub mod task;
pub mod text;
pub mod threads;
pub mod token_f1;
pub mod turn;
pub mod wasm;
mod words;
pub mod yes_no;

pub use config::{ConfigError, RewardConfig, Term};
pub use conversation::{conversation, prompt_messages};
pub use group::{GroupFnReward, group_reward_fn};
pub use reward::{
    FnReward, Outcome, Part, Reward, RewardError, TaskError, Verdict, reward_fn, score_batch, score_one,
};
pub use rows::{RowError, score_row, score_rows};
pub use task::{Message, Response, Task};

/// Version of the verifiers, as results record it: evaluations of two versions are not compared. Raise it by one with
/// every change that may give some completion another verdict, score or extracted answer.
pub const VERIFIER_VERSION: u32 = 5;
