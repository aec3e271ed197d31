//! Reinforcement learning with verifiable rewards: the loss, the loop, the run configuration, data and records.

pub mod algorithm;
pub mod bench;
mod benchmarks;
pub mod checkpoint;
pub mod checks;
pub mod config;
pub mod conformance;
pub mod curate;
pub mod data;
pub mod device;
pub mod error;
pub mod eval;
pub mod files;
pub mod generate;
pub mod metrics;
pub mod number;
pub mod policy;
pub mod random;
pub mod report;
pub mod results;
pub mod rows;
pub mod run;
pub mod schedule;
mod selection;
pub mod stats;
pub mod stop;
pub mod threads;
pub mod train;

pub use error::Error;
pub use {rlvr_policies as policies, rlvr_rewards as rewards, rlvr_rollout as rollout};
