//! The device that a setting means here.
use crate::config::DeviceConfig;
use crate::error::Error;
use burn::tensor::Device;

/// The device of a setting.
///
/// # Errors
/// A device that this build or this machine does not have.
pub fn device(config: DeviceConfig) -> Result<Device, Error> {
    let config = resolved(config);
    match config {
        #[cfg(feature = "cuda")]
        DeviceConfig::Cuda(index) if index < rlvr_policies::device::open::cuda_devices() => {
            Ok(rlvr_policies::device::open::cuda(index))
        }
        #[cfg(feature = "wgpu")]
        DeviceConfig::Wgpu => Ok(rlvr_policies::device::open::wgpu()),
        DeviceConfig::Auto | DeviceConfig::Cpu => Ok(Device::flex()),
        #[allow(unreachable_patterns)] // With the feature `wgpu`, only CUDA devices come here.
        DeviceConfig::Cuda(_) | DeviceConfig::Wgpu => {
            let (build, feature) = match config {
                DeviceConfig::Wgpu => (false, "wgpu"),
                DeviceConfig::Auto | DeviceConfig::Cpu | DeviceConfig::Cuda(_) => {
                    (cfg!(feature = "cuda"), "cuda")
                }
            };
            let why = match build {
                true => "this machine has no such device, or no NVIDIA driver".to_owned(),
                false => format!("this build has none; build with `--features {feature}`, or use cpu"),
            };
            Err(Error::NoDevice { device: config.to_string(), why })
        }
    }
}

/// `auto` as the device that it stands for here.
fn resolved(config: DeviceConfig) -> DeviceConfig {
    #[cfg(feature = "cuda")]
    if config == DeviceConfig::Auto && rlvr_policies::device::open::cuda_devices() > 0 {
        return DeviceConfig::Cuda(0);
    }
    if config == DeviceConfig::Auto { DeviceConfig::Cpu } else { config }
}

/// The device that a setting means here: `cpu`, `cuda:N` or `wgpu`.
pub fn device_name(config: DeviceConfig) -> String {
    resolved(config).to_string()
}
