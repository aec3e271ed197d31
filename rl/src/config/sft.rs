//! What only supervised stages are told.
use serde::{Deserialize, Serialize};

/// Which turns of a conversation a supervised stage learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossOn {
    /// All of the assistant's.
    #[default]
    Assistant,
    /// The last one of the assistant's.
    Last,
}

/// `[stage.validation]`: the loss on rows that are not trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationConfig {
    /// The data source, another one than the stage trains on; its rows need completions or conversations.
    pub data: String,
    /// Validate every this many steps, and after the last; 0 means after the last only. Default 0.
    #[serde(default)]
    pub every: u64,
    /// Rows of the source, from its beginning; absent means all.
    pub limit: Option<usize>,
    /// The stage ends after so many validations in a row without a new lowest loss, and leaves the weights of the lowest one.
    /// Default none: all steps, and the weights of the last.
    pub patience: Option<u64>,
}
