//! Rollouts: prompts in, completions out. Token ids only; text belongs to the caller.
//!
//! | module | what it holds |
//! |---|---|
//! | [`engine`] | [`RolloutEngine`], the key of the randomness, statistics |
//! | [`batched`] | [`BatchedEngine`]: batched decoding of any [`DecodeModel`] |
//! | [`batch`] | [`Batch`]: calls that come and go while others are decoded |
//! | [`scripted`] | [`ScriptedEngine`]: prescribed completions, for tests and replays |
//! | [`params`], [`sampling`] | [`SamplingParams`], [`sample_token`] |
//! | [`rng`] | [`CounterRng`], randomness as a function of (seed, step, prompt, sample, position) |
//!
//! A completion depends on the weights, the prompt, the sampling parameters and its key (seed, step, prompt,
//! sample), and on nothing else: not on the other prompts of the call, their order, or the size of the batches.
//! The engine adds no exception to this; a model whose logits change in the last bits with the number of rows (most
//! matrix libraries do that) is as far from it as those bits are.

pub mod batch;
pub mod batched;
pub mod completion;
pub mod engine;
pub mod error;
pub mod model;
pub mod params;
mod plan;
pub mod prompt_limit;
pub mod rng;
mod row;
pub mod sampling;
pub mod scripted;
mod settings;
mod softmax;
mod support;

pub use batch::{Batch, Call};
pub use batched::BatchedEngine;
pub use completion::{Completion, FinishReason, ImageKey, Prompt};
pub use engine::{GenerateStats, Progress, RolloutEngine, SampleKey, StopCheck, TruncatedPrompt};
pub use error::{LogitsProblem, Problem, RolloutError};
pub use model::{DecodeModel, Draw};
pub use params::SamplingParams;
pub use prompt_limit::{Fit, LongPrompt, PromptLimit};
pub use rng::CounterRng;
pub use row::{New, Place, Sink, Stop};
pub use sampling::{Sampled, most_probable, sample_token};
pub use scripted::ScriptedEngine;
pub use settings::BatchSettings;
