//! The decoder on devices that cubecl compiles for: kernels of our own around burn's matrix products, with a
//! hand-written backward. The same operations as in `host`, which it is tested against.
//!
//! The kernels are compiled with one of the features `cuda` and `wgpu`; `Kernels` is what the rest of the crate sees of
//! them, in a build without them as a type without values.

// Kernels are written in the part of Rust that cubecl compiles.
#![allow(clippy::collapsible_if, clippy::eq_op, clippy::manual_div_ceil, clippy::needless_range_loop)]

#[cfg(not(feature = "cube"))]
mod absent;
#[cfg(feature = "cube")]
mod activation;
#[cfg(feature = "cube")]
mod adamw;
#[cfg(feature = "cube")]
mod attention;
#[cfg(feature = "cube")]
mod attention_tiles;
#[cfg(feature = "cube")]
mod cache;
#[cfg(feature = "cube")]
mod elementwise;
#[cfg(feature = "cube")]
mod head;
#[cfg(feature = "cube")]
mod lora;
#[cfg(feature = "cube")]
mod mat;
#[cfg(feature = "cube")]
mod norm;
#[cfg(feature = "cube")]
pub mod open;
#[cfg(feature = "cube")]
mod ops;
#[cfg(feature = "cube")]
mod present;
#[cfg(feature = "cube")]
mod rope;
#[cfg(feature = "cube")]
mod rows;
#[cfg(feature = "cube")]
mod sample;
#[cfg(feature = "cube")]
mod step;

#[cfg(not(feature = "cube"))]
pub(crate) use absent::{DevicePass, KernelCache, Kernels, View, product, square_sum};
#[cfg(feature = "cube")]
pub(crate) use present::{DevicePass, KernelCache, Kernels, View, product, square_sum};
