//! Reinforcement learning with verifiable rewards: the loss, the loop, the run configuration, data and records.

pub mod batch;
pub mod bench;
pub mod checkpoint;
pub mod config;
pub mod conformance;
pub mod curate;
pub mod data;
pub mod error;
pub mod eval;
pub mod events;
pub mod grpo;
pub mod jsonl_log;
mod judging;
pub mod log;
pub mod metrics;
pub mod optim;
pub mod policy;
pub mod preflight;
pub mod random;
pub mod record;
pub mod rollouts_file;
pub mod run;
pub mod run_dir;
pub mod run_report;
pub mod schedule;
pub mod sft;
pub mod stats;
pub mod stop;
pub mod tensor_file;
pub mod trainer;
mod writer;

pub use error::Error;
pub use {rlvr_policies as policies, rlvr_rewards as rewards, rlvr_rollout as rollout};
