//! The devices of this machine that kernels can be compiled for.
use burn::tensor::Device;
#[cfg(feature = "cuda")]
use burn::tensor::DeviceType;
#[cfg(feature = "cuda")]
use cubecl::config::cache::CacheConfig;

/// Number of CUDA devices; none without a driver.
#[cfg(feature = "cuda")]
pub fn cuda_devices() -> usize {
    Device::enumerate(DeviceType::Cuda).iter().count()
}

/// The CUDA device of an index below [`cuda_devices`]. Compiled kernels and what tuning found are kept in the user's
/// cache directory (or where a `cubecl.toml` says), so that the next process need not do it again.
#[cfg(feature = "cuda")]
pub fn cuda(index: usize) -> Device {
    use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    config.compilation.cache = true;
    if matches!(config.environment.path, CacheConfig::Target) {
        config.environment.path = CacheConfig::Global;
    }
    // Whatever was set before stays.
    CubeClRuntimeConfig::try_set(config);
    Device::cuda(index)
}

/// The graphics device that wgpu takes first.
#[cfg(feature = "wgpu")]
pub fn wgpu() -> Device {
    Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)
}
