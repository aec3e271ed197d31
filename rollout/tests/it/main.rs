//! Tests of the engine over a toy model, and of the distributions sampled from.
#![allow(clippy::unwrap_used, reason = "test code outside of #[test] functions")]
#![allow(clippy::print_stdout, reason = "figures, shown with `-- --nocapture`")]

mod batched;
mod distribution;
mod failures;
mod joining;
mod toy;
