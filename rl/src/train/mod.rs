//! Training: a step of GRPO or of supervised training, and what it is made of.

pub mod adamw;
mod comparison;
mod group;
pub mod grpo;
pub mod judging;
pub mod learner;
pub mod lesson;
mod loss;
mod not_finite;
mod outcome;
pub mod recorded;
mod rollouts;
pub mod sft;
pub mod trajectory;
