//! What can go wrong at the edges of a run, and whose fault it is.

use std::io;
use std::path::PathBuf;

use crate::files::IoError;
use crate::files::lock::LockError;

pub use crate::checkpoint::CheckpointError;
pub use crate::config::ConfigError;
pub use crate::data::DataError;
pub use crate::files::destination::OutputError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The run config cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A data file, a template or a generator cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A checkpoint cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// An output that cannot be written where it was named.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The policy's files cannot be used.
    #[error(transparent)]
    Policy(#[from] rlvr_policies::PolicyError),
    /// Generation failed.
    #[error(transparent)]
    Rollout(#[from] rlvr_rollout::RolloutError),
    /// Servers that sample for the run do not, or not from its policy.
    #[error(transparent)]
    Engine(#[from] crate::servers::EngineError),
    /// Ranks that cannot begin, or cannot go on together.
    #[error(transparent)]
    Ranks(#[from] crate::parallel::RanksError),
    /// The loss met numbers that it cannot use.
    #[error(transparent)]
    Loss(#[from] crate::algorithm::LossError),
    /// A device that this build or this machine does not have; another one may do.
    #[error("device {device}: {why}")]
    NoDevice {
        /// As the setting names it.
        device: String,
        /// Why there is none, with a hint.
        why: String,
    },
    /// No benchmark of this name.
    #[error("{name}: no built-in benchmark and no definition (.toml)")]
    NoBenchmark {
        /// What was asked for.
        name: String,
    },
    /// A prompt leaves no room for a completion.
    #[error("{place}: the prompt has {tokens} tokens, the policy's context is {context}: shorten it")]
    PromptTooLong {
        /// Where the prompt comes from.
        place: String,
        /// Its length.
        tokens: usize,
        /// Tokens that the policy can see.
        context: usize,
    },
    /// A directory holds another evaluation, which may be replaced by force.
    #[error("{what}")]
    OtherEvaluation {
        /// The directory.
        path: PathBuf,
        /// What differs, with a hint.
        what: String,
    },
    /// Something that the run needs is not there or makes no sense.
    #[error("{what}")]
    Unusable {
        /// What, with a hint.
        what: String,
    },
    /// A setting of the run config that the policy shows to be wrong.
    #[error("{field}: {message}")]
    Setting {
        /// The field with the tables around it, as in `stage.0.optim.groups.1.params`.
        field: String,
        /// What is wrong, with a hint.
        message: String,
    },
    /// Training cannot go on.
    #[error("step {step}: {what}")]
    Training {
        /// Step of the run.
        step: u64,
        /// What happened, with a hint.
        what: String,
    },
    /// A number of a step is NaN or infinite.
    #[error("{what}")]
    NotFinite {
        /// Which one, of which sample, with a hint.
        what: String,
    },
    /// The run was asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The run directory already holds something.
    #[error(
        "{} is not empty: continue it with --resume, replace what it holds with --force, or choose another --out", path.display()
    )]
    RunDirNotEmpty {
        /// The run directory.
        path: PathBuf,
    },
    /// Another process writes into the directory of a run or an evaluation.
    #[error(transparent)]
    DirLocked(LockError),
    /// `--resume` of a directory without a run.
    #[error("{} holds no run to resume: it has no {missing}", path.display())]
    NothingToResume {
        /// The run directory.
        path: PathBuf,
        /// The file or directory that a run would have.
        missing: &'static str,
    },
    /// `--resume` with a config that would train differently.
    #[error(
        "the config differs from the one {} was started with, so a resumed run would equal no uninterrupted one:\n  {}",
        path.display(), differences.join("\n  ")
    )]
    ResumeConfigDiffers {
        /// The run directory.
        path: PathBuf,
        /// One line a changed key.
        differences: Vec<String>,
    },
    /// `--resume` with data that is not what the run began with.
    #[error(
        "the rows differ from those that {} began with, so a resumed run would equal no uninterrupted one: bring them back, or begin \
         a run with them from its policy\n  {}",
        path.display(), differences.join("\n  ")
    )]
    ResumeDataDiffers {
        /// The run directory.
        path: PathBuf,
        /// One line a source.
        differences: Vec<String>,
    },
}

impl From<LockError> for Error {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Io(error) => Self::Io(error),
            held => Self::DirLocked(held),
        }
    }
}

impl Error {
    /// The same with the step of the run, where it is about numbers of a step.
    pub(crate) fn at_step(self, step: u64) -> Self {
        match self {
            Self::NotFinite { what } => Self::Training { step, what },
            other => other,
        }
    }

    /// The error with what caused it, in a sentence.
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            cause = error.source();
        }
        text
    }

    /// The exit code the command line gives for this error: 2 for bad input, 1 for a failure while running.
    pub fn exit_code(&self) -> u8 {
        // A file that is longer than we read is bad input; one that is longer than may be written is not.
        let no_file = |e: &IoError| match e.source.kind() {
            io::ErrorKind::FileTooLarge => e.source.get_ref().is_some(),
            kind => kind == io::ErrorKind::IsADirectory,
        };
        match self {
            Self::Io(e) | Self::Output(OutputError::Io(e)) if !no_file(e) => 1,
            Self::Engine(e) if !e.is_input() => 1,
            Self::Ranks(e) => e.exit_code(),
            Self::Config(_)
            | Self::Engine(_)
            | Self::Data(_)
            | Self::Io(_)
            | Self::Output(_)
            | Self::NoDevice { .. }
            | Self::NoBenchmark { .. }
            | Self::PromptTooLong { .. }
            | Self::OtherEvaluation { .. }
            | Self::RunDirNotEmpty { .. }
            | Self::NothingToResume { .. }
            | Self::ResumeConfigDiffers { .. }
            | Self::ResumeDataDiffers { .. }
            | Self::Policy(_)
            | Self::Setting { .. }
            | Self::Unusable { .. } => 2,
            Self::Checkpoint(_)
            | Self::DirLocked(_)
            | Self::Rollout(_)
            | Self::Loss(_)
            | Self::NotFinite { .. }
            | Self::Training { .. } => 1,
            Self::Interrupted => 130,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn io_errors_name_the_path_and_the_usual_causes() {
        let full = IoError::at("write", Path::new("a/b"))(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(full.to_string(), "cannot write a/b: the disk is full");
        assert_eq!(Error::from(full).exit_code(), 1);
        let directory = || IoError::at("write", Path::new("a"))(io::ErrorKind::IsADirectory.into());
        assert_eq!(directory().to_string(), "cannot write a: it is a directory, a file name is needed");
        assert_eq!(
            (Error::from(directory()).exit_code(), Error::from(OutputError::from(directory())).exit_code()),
            (2, 2)
        );
        let empty = Error::RunDirNotEmpty { path: "runs/x".into() };
        assert_eq!(empty.exit_code(), 2);
        assert!(empty.to_string().contains("--resume"));
        assert!(empty.to_string() == empty.with_causes());
    }
}
