//! The reward that a command names: a kind, or a file.

use crate::input::{bad, nearest};
use anyhow::Result;
use rlvr::files::source;
use rlvr::rewards::{Reward, RewardConfig};
use serde::Deserialize;
use std::path::Path;

/// The reward of a kind with its defaults.
pub fn by_kind(kind: &str) -> Result<Box<dyn Reward>> {
    Ok(RewardConfig::from_kind(kind)?.build()?)
}

pub fn from_file(path: &Path) -> Result<Box<dyn Reward>> {
    let (name, text) = source::text(path)?;
    let document: toml::Table = text.parse().map_err(|e: toml::de::Error| {
        let line = e.span().map_or(1, |s| line_at(&text, s.start));
        bad(format!("{name}:{line}: {}", e.message().trim()))
    })?;
    let table = match document.get("rewards") {
        Some(rewards) => rewards.clone(),
        None if document.contains_key("kind") => toml::Value::Table(document),
        None => {
            let message = "neither a [rewards] table nor a reward of its own; write for example\n[rewards]\nkind = \"math\"";
            return Err(bad(format!("{name}:1: {message}")));
        }
    };
    let explain =
        |message: &str| bad(format!("{name}:{}: rewards: {}", place(&text, message), meant(message)));
    let mut config = RewardConfig::deserialize(table).map_err(|e| explain(e.message()))?;
    config.resolve_paths(path.parent().unwrap_or(Path::new("")));
    config.build().map_err(|e| explain(&e.to_string()))
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

/// The line of the name that a message complains about; where it stands below `[rewards]` if it does.
fn place(text: &str, message: &str) -> usize {
    let start = text.find("[rewards").unwrap_or(0);
    let named = message.split('`').nth(1).filter(|_| !message.starts_with("missing"));
    let word = |line: &str, name: &str| {
        line.match_indices(name).any(|(at, _)| {
            let inside = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
            !line[..at].ends_with(inside) && !line[at + name.len()..].starts_with(inside)
        })
    };
    let found = named.and_then(|name| text[start..].lines().position(|line| word(line, name)));
    line_at(text, start) + found.unwrap_or(0)
}

/// The message with the nearest valid name, where it lists valid names.
fn meant(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = message.starts_with("unknown ").then(|| quoted.next()).flatten();
    let near = unknown.and_then(|name| nearest(name, quoted));
    near.map_or_else(|| message.to_owned(), |near| format!("{message}; did you mean `{near}`?"))
}
