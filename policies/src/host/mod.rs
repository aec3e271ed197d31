//! The decoder's operations on the CPU: fused kernels over the host memory of burn-flex tensors, with hand-written
//! backward.
pub mod activation;
pub mod attention;
pub mod buffer;
pub mod cache;
pub mod ceiling;
pub mod gemm;
mod generate;
pub mod head;
pub mod lora;
pub mod narrow;
pub mod norm;
pub mod ops;
pub mod rope;
pub(crate) mod routing;
pub mod simd;
pub mod tower;
