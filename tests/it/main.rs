//! Integration tests of the whole toolkit, in one binary.
#![allow(clippy::unwrap_used)] // Helpers of tests fail tests.
#![allow(clippy::print_stdout)] // Figures, shown with `-- --nocapture`.

mod adamw;
mod circles;
mod cli;
mod comparison;
mod curation;
mod curation_images;
mod curriculum;
mod data_and_audit;
mod device;
mod engine;
mod eval_checks;
mod eval_images;
mod evals;
mod examples;
mod fake_server;
mod fresh_tower;
mod golden_runs;
mod health;
mod lag;
mod learn;
mod limits;
mod lingshu;
mod lora;
mod mutations;
mod not_finite;
mod obstacles;
mod optim;
mod outputs;
mod presets;
mod programs;
mod ranks;
mod readme;
mod resume;
mod run_report;
mod runs;
mod serve;
mod sft;
mod sft_vision;
mod signals;
mod step_rules;
mod tidy;
mod tidy_functions;
mod trainer;
mod vision;
