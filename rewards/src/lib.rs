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
//! | to | see |
//! |---|---|
//! | write a reward | [`reward`]: the trait [`Reward`], [`reward_fn`]; [`group`]: [`group_reward_fn`]; [`task`], [`Outcome`] |
//! | use one of the kinds | [`config`]: [`RewardConfig`], the list; [`math`], [`choice`], [`numeric`], [`json_schema`], … |
//! | put several together | [`compose`] |
//! | run programs | [`code`] against tests, [`plugin`], [`wasm`]; [`sandbox`], what confines them |
//! | judge rows of a file | [`rows`]; [`conversation`](mod@conversation), prompts as data sets write them |
//! | find the answer in a text | [`extract`], [`turn`], [`text`] |
//! | measure texts | [`rouge`], [`bleu`], [`token_f1`], [`cider`], [`meteor`] |
//! | train under errors | [`noise`] |
//!
//! Model output is hostile input: every verifier is bounded in work (bytes, tokens, depth, bits), never in wall time,
//! gives the same outcome for the same bytes, and does not panic. [`code`], [`plugin`] and [`wasm`] run programs, so they
//! also have a clock.

mod answer;
pub mod compose;
pub mod conversation;
mod error;
pub mod group;
mod image;
mod judges;
pub mod noise;
mod outcome;
mod outside;
mod registry;
pub mod reward;
pub mod rows;
pub mod task;
pub mod threads;

pub use answer::{extract, text, turn};
pub use conversation::{conversation, prompt_messages, seen_messages};
pub use error::ConfigError;
pub use group::{GroupFnReward, group_reward_fn};
pub use image::{IMAGE_PLACE, TaskImage};
pub use judges::{
    bleu, choice, cider, contains, exact, format, instructions, json_schema, language, math, meteor, numeric,
    pattern, procedural, repetition, rouge, token_f1, yes_no,
};
pub use outcome::{Outcome, Part, Verdict};
#[cfg(unix)]
pub use outside::children;
pub use outside::{code, plugin, sandbox, wasm};
pub use registry::{RewardConfig, Term};
pub use reward::{FnReward, Reward, RewardError, TaskError, reward_fn, score_batch, score_one};
pub use rows::{RowError, score_row, score_rows};
pub use task::{Message, Response, Task};

/// The list of rewards: [`RewardConfig`], and why one cannot be built.
pub mod config {
    pub use crate::error::ConfigError;
    pub use crate::registry::{KINDS, RewardConfig, Term};
}

/// Rewards that look at the length of a response: `length` and `cosine_length`.
pub mod length {
    pub use crate::judges::length::{Length, LengthConfig, LengthUnit};
    pub use crate::registry::cosine::{CosineConfig, CosineLength};
}

/// Version of the verifiers, as results record it: evaluations of two versions are not compared. Raise it by one with
/// every change that may give some completion another verdict, score or extracted answer.
pub const VERIFIER_VERSION: u32 = 5;
