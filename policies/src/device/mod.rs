//! The decoder on devices that cubecl compiles for: kernels of our own around burn's matrix products, with a
//! hand-written backward. The same operations as in `host`, which it is tested against.
//!
//! The kernels are compiled with one of the features `cuda` and `wgpu`; [`Kernels`] is what the rest of the crate sees of
//! them, in a build without them as a type without values.

// Kernels are written in the part of Rust that cubecl compiles.
#![allow(clippy::collapsible_if, clippy::eq_op, clippy::manual_div_ceil, clippy::needless_range_loop)]

#[cfg(not(feature = "cube"))]
mod absent;
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
mod sample;
#[cfg(feature = "cube")]
mod step;

#[cfg(not(feature = "cube"))]
pub(crate) use absent::{KernelCache, Kernels, View, product, square_sum};
#[cfg(feature = "cube")]
pub(crate) use present::{KernelCache, Kernels, View, product, square_sum};

use crate::spec::{Act, Mlp, Model, QkNorms};

/// What a model has that no kernel computes; positions rotate the first `rotary_dim` columns of a head.
pub(crate) fn lacks(model: &Model, rotary_dim: usize) -> Option<&'static str> {
    let bounded = model.head.cap.is_some() || model.blocks.iter().any(|b| b.attention.cap.is_some());
    let any = |f: &dyn Fn(&crate::spec::Block) -> bool| model.blocks.iter().any(f);
    let gelu = |b: &crate::spec::Block| matches!(&b.mlp, Mlp::Gated(mlp) if mlp.act != Act::Silu);
    [
        (any(&|b| matches!(b.mlp, Mlp::Experts(_))), "experts"),
        (bounded, "bounds of scores and logits"),
        (any(&|b| b.attention.window.is_some()), "windows"),
        (rotary_dim != model.heads().head_dim, "the rotation of a part of a head"),
        (any(&|b| b.attention.rotation != Some(0)), "layers that rotate in another way, or not"),
        (any(&|b| matches!(b.attention.norms, QkNorms::Row { .. })), "norms of whole queries and keys"),
        (any(&gelu), "GELU"),
        (model.norm.plus_one, "norms with factors 1 + w"),
        (model.embed.scale != 1.0, "scaled embeddings"),
    ]
    .into_iter()
    .find_map(|(lacking, what)| lacking.then_some(what))
}
