//! Where there are no process groups and no polling of pipes, there are no plugins.

use std::time::Duration;

use super::PluginConfig;
use super::worker::Failure;

pub(super) struct Process;

impl Process {
    pub fn start(_: &PluginConfig) -> Result<Self, String> {
        Err("plugins need a Unix system".into())
    }

    pub fn has_ended(&self) -> bool {
        true
    }

    pub fn exchange(&mut self, _: &[u8], _: Duration) -> Result<Vec<u8>, Failure> {
        Err(Failure::Gone("plugins need a Unix system".into()))
    }

    pub fn said(&mut self) -> Option<String> {
        None
    }

    pub fn finish(self) -> bool {
        true
    }
}
