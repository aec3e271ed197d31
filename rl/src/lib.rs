//! Reinforcement learning with verifiable rewards: the loss, the loop, the run configuration, data and records.
//!
//! | to | see |
//! |---|---|
//! | train as `rlvr train` does | [`config`]: [`RunConfig`](config::RunConfig); [`run::train`]; [`checkpoint`], [`metrics`] |
//! | write a training loop | [`train`]: [`grpo::Trainer`](train::grpo::Trainer), [`sft::SftTrainer`](train::sft::SftTrainer) |
//! | read the formulas | [`algorithm`]: advantages, objectives, [`policy_loss`](algorithm::policy_loss) |
//! | open a policy | [`policy`]: [`Policy`](policy::Policy); [`device`], where it computes |
//! | generate | [`generate`]: [`generate::generate`] |
//! | serve completions | [`serve`](mod@serve): an endpoint as OpenAI's |
//! | judge | [`rewards`]: rewards as data, closures and programs |
//! | get tasks | [`data`]: files of rows, generators; [`curate`], the steps of `rlvr data` |
//! | evaluate | [`eval`]: benchmarks, a reward on tasks; [`measure`]: into a directory, as `rlvr eval run` does |
//! | read evaluations, compare them, find regressions | [`results`]; [`stats`], the tests behind it |
//! | count the errors of a reward | [`audit`] |
//! | show a run | [`report`] |
//! | train on several processes | [`parallel`]: [`World`](parallel::World) |
//! | measure speed | [`bench`](mod@bench) |
//! | see what goes wrong | [`error`]: [`Error`] |
//!
//! The crates below, under the names that they have here: [`policies`] (models), [`rewards`] and [`rollout`] (sampling).
//! `examples/` has a program for training with a reward of its own, generating, evaluating and comparing.

pub mod algorithm;
pub mod audit;
pub mod bench;
mod benchmarks;
pub mod checkpoint;
pub mod checks;
pub mod config;
pub mod conformance;
pub mod curate;
pub mod data;
pub mod device;
pub mod engine;
pub mod error;
pub mod eval;
pub mod files;
pub mod generate;
pub mod measure;
pub mod metrics;
pub mod number;
pub mod parallel;
pub mod policy;
pub mod random;
pub mod report;
pub mod results;
pub mod rows;
pub mod run;
pub mod schedule;
mod selection;
pub mod serve;
pub mod servers;
pub mod stats;
pub mod stop;
pub mod threads;
pub mod train;

pub use error::Error;
pub use {rlvr_policies as policies, rlvr_rewards as rewards, rlvr_rollout as rollout};
