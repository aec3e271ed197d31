//! Opens the servers that a command names.

use crate::args::EngineArgs;
use crate::input::bad;
use anyhow::Result;
use rlvr::engine::{self, Engine};
use std::path::Path;
use std::sync::Arc;

/// Whoever samples. Servers are tested with the first prompts that they are asked about.
pub fn open(args: &EngineArgs) -> Result<Arc<dyn Engine>> {
    let config = args.config();
    if let Some(problem) = config.as_ref().and_then(|config| config.problem()) {
        return Err(bad(format!("--engine-url: {problem}")));
    }
    Ok(engine::open(config.as_ref(), Path::new("engine"), 1)?.into())
}

/// What results say of the servers.
pub fn name(args: &EngineArgs) -> Option<String> {
    let config = args.config()?;
    Some(format!("{} at {}", config.kind.as_str(), config.url.join(", ")))
}
