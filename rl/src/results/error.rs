//! Why evaluations cannot be read or compared.

use super::{RESULTS, SAMPLES};
use crate::files::source::SourceError;
use crate::stats::ComparisonError;
use std::path::PathBuf;

/// Why evaluations cannot be read or compared.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// A file cannot be read, or one of its rows.
    #[error(transparent)]
    Input(#[from] SourceError),
    /// There is nothing at the path.
    #[error("{}: there is no such directory", dir.display())]
    NoDirectory {
        /// The directory that was named.
        dir: PathBuf,
    },
    /// A directory of a training run, which keeps no items.
    #[error(
        "{shown} is a run: evaluate its policy first, rlvr eval run --policy {shown} --tasks … --out DIR",
        shown = dir.display()
    )]
    IsRun {
        /// The run directory.
        dir: PathBuf,
    },
    /// A directory without an evaluation.
    #[error("{} is no output of rlvr eval: it has no {SAMPLES} beside {RESULTS}", dir.display())]
    NoEvaluation {
        /// The directory.
        dir: PathBuf,
    },
    /// A file of samples without rows.
    #[error("{} has no rows", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A file as a whole cannot be used.
    #[error("{name}: {message}")]
    File {
        /// The file.
        name: String,
        /// What is wrong with it.
        message: String,
    },
    /// A run whose checkpoints have no evaluation.
    #[error(
        "{shown}: the run has recorded no evaluation in a checkpoint; evaluate its policy: rlvr eval run --policy {shown} \
         --tasks … --out DIR, then compare the directories", shown = dir.display()
    )]
    NothingRecorded {
        /// The run directory.
        dir: PathBuf,
    },
    /// Evaluations of different versions of a task or of its verifier.
    #[error(
        "{task}: the evaluations are of {}; evaluate again (rlvr eval score judges completions that are there), or compare \
         all the same with --force of rlvr compare and rlvr eval report", differences.join(" and ")
    )]
    Versions {
        /// Name of the task.
        task: String,
        /// What differs: `another verifier (… and …)`.
        differences: Vec<String>,
    },
    /// References that lack an item.
    #[error("{file}: no answer for {item} of {task}")]
    NoReference {
        /// The file with the references.
        file: String,
        /// Id of the item.
        item: String,
        /// Name of its task.
        task: String,
    },
    /// A sample without the reference that a metric of texts needs.
    #[error(
        "{evaluation}: {task}, item {item}: the sample has no `gold` to compare texts with; give them by --references FILE"
    )]
    NoGold {
        /// Label of the evaluation.
        evaluation: String,
        /// Name of the task.
        task: String,
        /// Id of the item.
        item: String,
    },
    /// A run directory that cannot be used.
    #[error(transparent)]
    Run(#[from] crate::error::Error),
    /// The scores cannot be compared.
    #[error(transparent)]
    Comparison(#[from] ComparisonError),
}

impl ResultsError {
    /// The exit code the command line gives for this error: 2 for bad input, 1 for a failure on the way.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Input(error) => error.exit_code(),
            Self::Run(error) => error.exit_code(),
            Self::Comparison(_) => 1,
            Self::NoDirectory { .. }
            | Self::IsRun { .. }
            | Self::NoEvaluation { .. }
            | Self::Empty { .. }
            | Self::File { .. }
            | Self::NothingRecorded { .. }
            | Self::Versions { .. }
            | Self::NoReference { .. }
            | Self::NoGold { .. } => 2,
        }
    }
}
