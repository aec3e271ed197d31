//! The reward that a command names: a kind, or a file.

use crate::input::bad;
use anyhow::Result;
use rlvr::files::source;
use rlvr::rewards::{Reward, RewardConfig};
use std::path::Path;

/// The reward of a kind with its defaults.
pub fn by_kind(kind: &str) -> Result<Box<dyn Reward>> {
    Ok(RewardConfig::from_kind(kind)?.build()?)
}

pub fn from_file(path: &Path) -> Result<Box<dyn Reward>> {
    let (name, text) = source::text(path)?;
    let read = RewardConfig::from_toml(&text, &name, path.parent().unwrap_or(Path::new("")));
    let (_, reward) = read.map_err(|e| bad(e.to_string()))?;
    Ok(reward)
}
