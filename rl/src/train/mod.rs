//! Training: a step of GRPO or of supervised training, and what it is made of.

pub(crate) mod ahead;
mod comparison;
pub mod follow;
mod group;
pub mod grpo;
pub mod judging;
pub mod learner;
pub mod lesson;
mod loss;
mod minibatch;
mod not_finite;
pub mod optim;
mod outcome;
pub mod recorded;
mod reduce;
mod rollouts;
pub mod sft;
pub mod shards;
pub mod trajectory;
