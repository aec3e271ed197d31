//! Training: a step of GRPO or of supervised training, and what it is made of.

mod comparison;
mod group;
pub mod grpo;
pub mod judging;
pub mod learner;
mod loss;
pub mod optim;
mod outcome;
pub mod recorded;
mod rollouts;
pub mod sft;
pub mod trajectory;
