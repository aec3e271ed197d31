//! The benchmarks that come with the program: definitions without data.

use std::path::Path;

use super::task_file::TaskFile;
pub use crate::benchmarks::{BUILTIN, names, text};
use crate::config::ConfigError;

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
