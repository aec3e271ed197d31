//! Language models that can be sampled from and differentiated.
pub mod cache;
pub mod composed;
pub mod config;
pub mod decoder;
pub mod error;
pub mod gradients;
pub mod host;
pub mod packed;
pub mod params;
pub mod weights;
