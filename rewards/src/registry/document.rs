//! Rewards out of TOML documents: a reward of its own, or the `[rewards]` of a run's config.

use std::path::Path;

use serde::Deserialize;

use super::{RewardConfig, edit_distance};
use crate::error::ConfigError;
use crate::reward::Reward;

impl RewardConfig {
    /// Reads a TOML document with a table `[rewards]`, or one that is a reward itself (`kind = …` at its top), and builds
    /// the reward, so that whatever is wrong is found here. `name` is the document's in messages; paths of the reward are
    /// relative to `base`.
    ///
    /// # Errors
    /// [`ConfigError::Document`] with the line, and the nearest valid name where one was mistyped.
    pub fn from_toml(text: &str, name: &str, base: &Path) -> Result<(Self, Box<dyn Reward>), ConfigError> {
        let at =
            |line: usize, message: String| ConfigError::Document { place: format!("{name}:{line}"), message };
        let document: toml::Table = text.parse().map_err(|e: toml::de::Error| {
            at(e.span().map_or(1, |s| line_at(text, s.start)), e.message().trim().to_owned())
        })?;
        let table = match document.get("rewards") {
            Some(rewards) => rewards.clone(),
            None if document.contains_key("kind") => toml::Value::Table(document),
            None => {
                let message = "neither a [rewards] table nor a reward of its own; write for example\n[rewards]\nkind = \"math\"";
                return Err(at(1, message.to_owned()));
            }
        };
        let explain = |message: &str| at(place(text, message), format!("rewards: {}", meant(message)));
        let mut config = Self::deserialize(table).map_err(|e| explain(e.message()))?;
        config.resolve_paths(base);
        let reward = config.clone().build().map_err(|e| explain(&e.to_string()))?;
        Ok((config, reward))
    }
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
    let near = unknown.and_then(|name| {
        let scored = quoted.map(|known| (edit_distance(known, name), known));
        scored.filter(|(distance, _)| *distance <= 1 + name.chars().count() / 3).min()
    });
    near.map_or_else(|| message.to_owned(), |(_, near)| format!("{message}; did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_a_reward_or_an_error_with_its_line() {
        let read = |text: &str| {
            RewardConfig::from_toml(text, "r.toml", Path::new("")).map(|(_, r)| r.name().to_owned())
        };
        assert_eq!(read("kind = \"math\"").unwrap(), "math");
        assert_eq!(read("seed = 1\n[rewards]\nkind = \"exact\"\nliteral = true\n").unwrap(), "exact");
        for (text, want) in [
            ("kind = ", "r.toml:1: "),
            ("\n[rewards]\nkind = \"numeric\"\nrelativ = 1\n", "r.toml:4: rewards: unknown field `relativ`"),
            ("\n[rewards]\nkind = \"numeric\"\nrelativ = 1\n", "did you mean `relative`?"),
            ("kind = \"maths\"", "did you mean `math`?"),
            ("[rewards]\nkind = \"sum\"\nterms = []", "r.toml:1: rewards: reward sum: terms is empty"),
            ("x = 1", "r.toml:1: neither a [rewards] table nor a reward of its own"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(want), "{text:?}: {error}");
        }
    }
}
