//! Reinforcement learning with verifiable rewards: the run configuration, data, records, checkpoints and the loop.

pub mod checkpoint;
pub mod config;
pub mod data;
pub mod error;
pub mod jsonl_log;
pub mod log;
pub mod metrics;
pub mod random;
pub mod rollouts_file;
pub mod run_dir;
pub mod tensor_file;
// Stand-ins for types of crates written elsewhere; goes when they land.
mod stub;

pub use error::Error;
