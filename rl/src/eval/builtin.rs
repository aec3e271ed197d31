//! The benchmarks that come with the program: definitions without data.

use std::path::Path;

use super::task_file::TaskFile;
use crate::config::ConfigError;

macro_rules! builtin {
    ($($name:literal),+ $(,)?) => {
        /// Name and text of every built-in definition.
        pub const BUILTIN: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("tasks/", $name, ".toml")))),+];
    };
}

builtin!(
    "gsm8k",
    "math500",
    "aime2024",
    "aime2025",
    "medqa",
    "medmcqa",
    "pubmedqa",
    "mmlu_medical",
    "medbullets",
    "medxpertqa_text",
    "addition",
    "arithmetic",
    "base_conversion",
    "calendar",
    "countdown",
    "equation",
    "facts",
    "letter_count",
    "logic",
    "lookup",
    "reverse_text",
    "sorting",
    "sudoku",
    "unit_conversion",
);

/// Names of the built-in benchmarks.
pub fn names() -> impl Iterator<Item = &'static str> {
    BUILTIN.iter().map(|(name, _)| *name)
}

/// The text of a built-in definition.
pub fn text(name: &str) -> Option<&'static str> {
    BUILTIN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// A built-in definition; `None` where there is none of this name.
///
/// # Errors
/// Never, unless the definition itself is broken, which a test excludes.
pub fn definition(name: &str) -> Option<Result<TaskFile, ConfigError>> {
    text(name).map(|text| TaskFile::parse(text, Path::new(&format!("{name}.toml"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_is_sound_and_builds_its_reward() {
        for name in names() {
            let task = definition(name).unwrap().unwrap();
            assert_eq!(task.name, name);
            task.reward.clone().build().unwrap();
        }
        assert!(definition("gsm9k").is_none());
    }
}
