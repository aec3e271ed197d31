//! Rewards that run programs: plugins, components and tests of code, and the sandbox that holds them.

#[cfg(unix)]
pub mod children;
pub mod code;
pub mod plugin;
pub mod sandbox;
#[cfg(unix)]
pub(crate) mod scratch;
pub mod wasm;
