//! Reinforcement learning with verifiable rewards.

pub mod conformance;
pub mod grpo;
pub mod schedule;
pub mod stats;
