//! What can go wrong between a file and a policy.

use std::path::PathBuf;

/// Any failure to read, understand or write a policy's files.
///
/// Each variant carries the file it is about; messages are lowercase fragments that name the key or the tensor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A file or directory cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A file or directory cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A device failed.
    #[error("the device failed: {what}")]
    Device {
        /// What it did not do, and what may help.
        what: String,
    },
    /// An adapter that cannot be made, or does not fit its policy.
    #[error("adapter: {what}")]
    Lora {
        /// What is wrong.
        what: String,
    },
    /// A new tower that does not go with its policy.
    #[error("new tower: {what}")]
    Tower {
        /// What is wrong.
        what: String,
    },
    /// A pattern that is no regular expression, or too large a one.
    #[error("the pattern `{pattern}` cannot be used: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What the engine says.
        reason: String,
    },
    /// A file that should be JSON is not.
    #[error("{} is not valid JSON", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why parsing stopped.
        #[source]
        source: serde_json::Error,
    },
    /// A file is longer than any real one of its kind.
    #[error("{} has more than {most} bytes, the most that is read of such a file", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        most: u64,
    },
    /// A key of a model config is absent, or its value makes no sense.
    #[error("{}: `{key}` {problem}", path.display())]
    ConfigKey {
        /// The config file, or the GGUF file whose metadata holds the key.
        path: PathBuf,
        /// The key, dotted where it is nested.
        key: String,
        /// What is wrong with it, to be read after the key.
        problem: String,
    },
    /// A model config asks for something that the decoder does not implement.
    #[error("{}: `{key}` = {value} is not supported ({supported})", path.display())]
    Unsupported {
        /// The config file, or the GGUF file whose metadata holds the key.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What is supported instead.
        supported: String,
    },
    /// A directory, pipe or device in the place of a file.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What stands there.
        path: PathBuf,
    },
    /// A weight file is truncated or malformed.
    #[error("{} is not a readable weight file: {problem}", path.display())]
    CorruptWeights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A tensor that the config implies, or that was asked for, is not in the weights.
    #[error("{} has no tensor `{name}`", path.display())]
    MissingTensor {
        /// The weight file or folder.
        path: PathBuf,
        /// Hugging Face name of the tensor.
        name: String,
    },
    /// A tensor has another shape than the config implies.
    #[error("{}: tensor `{name}` has shape {found:?}, the config implies {expected:?}", path.display())]
    TensorShape {
        /// The weight file or folder.
        path: PathBuf,
        /// Hugging Face name of the tensor.
        name: String,
        /// Shape that follows from the config.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// A tensor is stored in a number format that cannot be read.
    #[error("{}: tensor `{name}` is stored as {dtype}, which is not supported ({supported})", path.display())]
    TensorDtype {
        /// The weight file.
        path: PathBuf,
        /// Name of the tensor, as in the file.
        name: String,
        /// The format it is stored in.
        dtype: String,
        /// The formats that can be read.
        supported: &'static str,
    },
    /// A weight is NaN or infinite.
    #[error("{}: tensor `{name}` holds {value} at element {index}: these weights are broken", path.display())]
    NotFinite {
        /// The weight file or folder.
        path: PathBuf,
        /// Hugging Face name of the tensor.
        name: String,
        /// The first such element, row-major.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// The weights do not fit into memory.
    #[error("{}: the weights take {:.1} GiB as f32, {:.1} GiB are free", path.display(), gib(*needed), gib(*free))]
    Memory {
        /// The weight file or folder.
        path: PathBuf,
        /// Bytes of all parameters.
        needed: usize,
        /// Bytes that can still be taken.
        free: usize,
    },
    /// A weight does not fit the number format that it should be saved in.
    #[error("tensor `{name}` holds {value}, which f16 cannot hold: save as bf16 or f32")]
    OutOfRange {
        /// Hugging Face name of the tensor.
        name: String,
        /// The value.
        value: f32,
    },
    /// A tokenizer cannot be read or built.
    #[error("tokenizer of {}: {problem}", path.display())]
    Tokenizer {
        /// The tokenizer file, or the GGUF file whose metadata describes it.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Text cannot be turned into tokens.
    #[error("cannot encode text: {problem}")]
    Encode {
        /// What the tokenizer said.
        problem: String,
    },
    /// Text holds a character that a character tokenizer has no token for.
    #[error("character {character:?} at byte {offset} is not in the tokenizer's alphabet")]
    UnknownCharacter {
        /// The character.
        character: char,
        /// Its byte offset in the text.
        offset: usize,
    },
    /// Tokens cannot be turned into text.
    #[error("cannot decode tokens: {problem}")]
    Decode {
        /// What the tokenizer said.
        problem: String,
    },
    /// A chat template does not parse, or fails to render.
    #[error("chat template of {}{}: {problem}", path.display(), at_line(*line))]
    ChatTemplate {
        /// The file that the template comes from.
        path: PathBuf,
        /// Line within the template, from 1; 0 if unknown.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A folder lacks a file that it needs.
    #[error("{} has no {missing}", path.display())]
    MissingFile {
        /// The folder.
        path: PathBuf,
        /// The file, or the alternatives.
        missing: String,
    },
    /// Nothing at the given place is a policy.
    #[error("no policy at `{spec}`: {}", tried.join("; "))]
    NotFound {
        /// What was asked for.
        spec: String,
        /// What was tried and why it was not that.
        tried: Vec<String>,
    },
    /// A file of a hub repository cannot be had.
    #[error("hub repository `{repo}` at {endpoint}: {problem}")]
    Hub {
        /// `owner/name`.
        repo: String,
        /// The server that was asked, or the cache directory in offline mode.
        endpoint: String,
        /// What is wrong.
        problem: String,
    },
}

fn gib(bytes: usize) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
}

impl PolicyError {
    /// For `map_err` on reads.
    pub(crate) fn read(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source }
    }

    /// For `map_err` on writes.
    pub(crate) fn write(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { path, source }
    }

    /// For `map_err` on JSON.
    pub(crate) fn json(path: impl Into<PathBuf>) -> impl FnOnce(serde_json::Error) -> Self {
        let path = path.into();
        move |source| Self::Json { path, source }
    }

    /// A damaged weight file.
    pub(crate) fn corrupt(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::CorruptWeights { path: path.into(), problem: problem.into() }
    }
}

/// `, line 3`, or nothing where the line is not known.
fn at_line(line: usize) -> String {
    if line > 0 { format!(", line {line}") } else { String::new() }
}
