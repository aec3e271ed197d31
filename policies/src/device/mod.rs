//! The decoder on devices that cubecl compiles for: kernels of our own around burn's matrix products, with a
//! hand-written backward. The same structure as `host`, which it is tested against.
//!
//! Only compiled with one of the features `cuda` and `wgpu`.

// Kernels are written in the part of Rust that cubecl compiles.
#![allow(clippy::collapsible_if, clippy::eq_op, clippy::manual_div_ceil, clippy::needless_range_loop)]

pub mod adamw;
pub mod attention;
mod attention_tiles;
pub mod cache;
pub mod head;
pub mod mat;
pub mod norm;
pub mod open;
pub mod pass;
pub mod place;
pub mod rows;
pub mod sample;
pub mod step;
