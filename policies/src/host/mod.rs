//! The decoder on the CPU: fused kernels over the host memory of burn-flex tensors, with hand-written backward.
//!
//! The composed form in [`crate::composed`] computes the same with burn's own operations and autodiff; tests compare
//! the two, and other devices run it.
pub mod attention;
pub mod block;
pub mod buffer;
pub mod cache;
pub mod gemm;
pub mod head;
pub mod norm;
pub mod pass;
pub mod rope;
pub mod simd;
pub mod swiglu;
