//! Why a reward cannot be built from its settings.

/// A reward configuration that cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No reward has this name.
    #[error("unknown reward {kind:?}; did you mean {nearest:?}? Known: {known}")]
    UnknownKind {
        /// As given.
        kind: String,
        /// The nearest valid one.
        nearest: &'static str,
        /// All of them.
        known: String,
    },
    /// This kind has no defaults for some of its fields.
    #[error("reward {kind:?} cannot be named alone: {reason}; write it in a config file")]
    NeedsFields {
        /// As given.
        kind: String,
        /// The first problem.
        reason: String,
    },
    /// A field has a value that makes no sense.
    #[error("reward {kind}: {reason}")]
    Invalid {
        /// Kind of the reward.
        kind: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A document in which a reward is written cannot be read, or its reward not be built.
    #[error("{place}: {message}")]
    Document {
        /// Its name and the line.
        place: String,
        /// What is wrong.
        message: String,
    },
}
