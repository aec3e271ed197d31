//! Training: a step of GRPO or of supervised training, and what it is made of.

pub mod adamw;
pub mod batch;
pub mod grpo;
pub mod judging;
pub mod learner;
pub mod recorded;
pub mod sft;
