//! Data sources: `[data.NAME]` tables become tasks with prompts, references and, for supervised stages, completions.

mod images;
pub(crate) mod jsonl;
mod key;
mod order;
pub mod procedural;
pub(crate) mod template;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use images::{ImagesTemplate, named as named_images, of_row as row_images, placed as placed_images};
pub use jsonl::{JsonlConfig, MessageTemplate, PromptTemplate};
pub(crate) use key::Mark;
pub use key::TaskKey;
pub use order::TrainingOrder;
pub(crate) use template::{TemplateRow, Templates};

use crate::checks::Checks;
use crate::checks::Problem;
use crate::files::IoError;
use crate::random;
use procedural::{
    AdditionConfig, ArithmeticConfig, BaseConversionConfig, CalendarConfig, CountdownConfig, DigitsConfig,
    EquationConfig, FactsConfig, Generator, LabPanelConfig, LetterCountConfig, LogicConfig, LookupConfig,
    ReverseTextConfig, ShapesConfig, SortingConfig, SudokuConfig, UnitConversionConfig,
};
use rlvr_rewards::{Message, Task, TaskImage};
use sha2::{Digest, Sha256};

/// `[data.NAME]`: where tasks come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DataConfig {
    /// Rows of a JSON Lines file, or of a JSON file that is one array.
    Jsonl(Box<JsonlConfig>),
    /// Generated additions of two numbers.
    Addition(AdditionConfig),
    /// Generated arithmetic with several operands.
    Arithmetic(ArithmeticConfig),
    /// Generated numbers in other bases.
    BaseConversion(BaseConversionConfig),
    /// Generated days of the week and dates.
    Calendar(CalendarConfig),
    /// Generated countdown puzzles: reach a target with given numbers.
    Countdown(CountdownConfig),
    /// Generated pictures of numbers.
    Digits(DigitsConfig),
    /// Generated linear equations.
    Equation(EquationConfig),
    /// Generated facts with a question about one of them.
    Facts(FactsConfig),
    /// Generated pictures of panels of laboratory values.
    LabPanel(LabPanelConfig),
    /// Generated words in which a letter is counted.
    LetterCount(LetterCountConfig),
    /// Generated propositional formulas.
    Logic(LogicConfig),
    /// Generated charts of laboratory values with a question about one of them.
    Lookup(LookupConfig),
    /// Generated words to be written backwards.
    ReverseText(ReverseTextConfig),
    /// Generated pictures of coloured shapes.
    Shapes(ShapesConfig),
    /// Generated lists to be sorted.
    Sorting(SortingConfig),
    /// Generated 4x4 sudokus.
    Sudoku(SudokuConfig),
    /// Generated quantities in other units.
    UnitConversion(UnitConversionConfig),
}

impl DataConfig {
    /// The generator of the tasks; none where they come from a file.
    pub(crate) fn generator(&self) -> Option<&dyn Generator> {
        Some(match self {
            Self::Jsonl(_) => return None,
            Self::Addition(config) => config,
            Self::Arithmetic(config) => config,
            Self::BaseConversion(config) => config,
            Self::Calendar(config) => config,
            Self::Countdown(config) => config,
            Self::Digits(config) => config,
            Self::Equation(config) => config,
            Self::Facts(config) => config,
            Self::LabPanel(config) => config,
            Self::LetterCount(config) => config,
            Self::Logic(config) => config,
            Self::Lookup(config) => config,
            Self::ReverseText(config) => config,
            Self::Shapes(config) => config,
            Self::Sorting(config) => config,
            Self::Sudoku(config) => config,
            Self::UnitConversion(config) => config,
        })
    }

    /// The fields of a row that the records of a run keep.
    pub fn recorded(&self) -> &[String] {
        if let Self::Jsonl(config) = self { &config.meta } else { &[] }
    }

    /// Whether the tasks have completions to learn from.
    pub fn has_completions(&self) -> bool {
        let Self::Jsonl(config) = self else { return true };
        config.completion.is_some() || config.messages.is_some()
    }

    pub(crate) fn check(&self, at: &str, checks: &mut Checks) {
        match (self, self.generator()) {
            (Self::Jsonl(config), _) => config.check(at, checks),
            (_, Some(generator)) => generator.check(at, checks),
            (_, None) => {}
        }
    }

    /// Everything wrong with the source, which is called `at` in the messages.
    pub fn problems(&self, at: &str) -> Vec<Problem> {
        let mut checks = Checks::default();
        self.check(at, &mut checks);
        checks.into_problems()
    }

    /// What the rows are drawn from and how they are split.
    pub(crate) fn parting(&self) -> Parting<'_> {
        match (self, self.generator()) {
            (_, Some(generator)) => {
                let common = generator.common();
                let rows = generator.kind().to_owned();
                Parting { rows, split: common.split, heldout_frac: common.heldout_frac, group: None }
            }
            (Self::Jsonl(c), _) => Parting {
                rows: c.path.display().to_string(),
                split: c.split,
                heldout_frac: c.heldout_frac,
                group: c.group.as_deref(),
            },
            (_, None) => Parting { rows: String::new(), split: Split::All, heldout_frac: 0.0, group: None },
        }
    }

    fn open(&self, name: &str, seed: u64) -> Result<Vec<Entry>, DataError> {
        match (self, self.generator()) {
            (Self::Jsonl(config), _) => config.read(name, seed),
            (_, Some(generator)) => generator.generate(name, seed),
            (_, None) => Ok(Vec::new()),
        }
    }
}

/// How the tasks of a source are split: sources that share `rows` must share the share and the group, or train and held-out
/// tasks overlap.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parting<'a> {
    /// A file, or a kind of generated tasks.
    pub(crate) rows: String,
    pub(crate) split: Split,
    pub(crate) heldout_frac: f64,
    pub(crate) group: Option<&'a str>,
}

/// Which part of a source's tasks is used. A hash of the task itself decides, of a row what it asks, so the parts are disjoint
/// whatever the seed, the limit, the order or the prompt's template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Every task.
    All,
    /// The tasks that are not held out.
    Train,
    /// The share `heldout_frac` of the tasks.
    Heldout,
}

impl Split {
    /// Whether the task with this hash belongs to this part.
    fn contains(self, hash: u64, heldout_frac: f64) -> bool {
        let heldout = random::unit(&[SPLIT_STREAM, hash]) < heldout_frac;
        match self {
            Self::All => true,
            Self::Train => !heldout,
            Self::Heldout => heldout,
        }
    }
}

/// How a generated completion is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerFormat {
    /// The answer and nothing else.
    #[default]
    Plain,
    /// `<think>…</think><answer>…</answer>` with the work in the first.
    Think,
}

impl AnswerFormat {
    fn write(self, work: &str, answer: &str) -> String {
        match self {
            Self::Plain => answer.to_owned(),
            Self::Think => format!("<think>{work}</think><answer>{answer}</answer>"),
        }
    }
}

const SPLIT_STREAM: u64 = 1;
const ORDER_STREAM: u64 = 2;
const SHUFFLE_STREAM: u64 = 3;
const GENERATE_STREAM: u64 = 4;

/// Why a data source cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file system refused.
    #[error("[data.{name}]")]
    Io {
        /// The data source.
        name: String,
        /// What failed.
        #[source]
        source: IoError,
    },
    /// A row cannot be used.
    #[error("{}:{line}: {message}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Line of the row, from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// A template does not parse.
    #[error("[data.{name}] {field}: {message}")]
    Template {
        /// The data source.
        name: String,
        /// The field that holds the template.
        field: String,
        /// What the template engine said.
        message: String,
    },
    /// Nothing is left after filter, split and limit.
    #[error("[data.{name}] has no tasks: {reason}")]
    Empty {
        /// The data source.
        name: String,
        /// Where they went.
        reason: String,
    },
    /// A supervised stage asked for a completion that the source does not have.
    #[error("[data.{name}] has no `completion` and no `messages`, which supervised training learns from")]
    NoCompletions {
        /// The data source.
        name: String,
    },
    /// A file cannot be read outside any `[data.NAME]`.
    #[error(transparent)]
    File(#[from] IoError),
}

/// A prompt with the completion to learn.
#[derive(Debug, Clone, PartialEq)]
pub struct SftExample {
    /// Id of the task.
    pub id: String,
    /// The messages before the completion.
    pub prompt: Vec<Message>,
    /// The pictures in them, or in the whole conversation.
    pub images: Vec<TaskImage>,
    /// What the policy should answer.
    pub completion: String,
    /// The whole conversation, of a source with `messages`; then prompt and completion are its last turn of the assistant.
    pub conversation: Option<Vec<Message>>,
}

/// One task with what a source knows about it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    task: Task,
    completion: Option<String>,
    /// All messages with all their pictures.
    conversation: Option<(Vec<Message>, Vec<TaskImage>)>,
    /// Line in the file, from 1; 0 for generated tasks.
    line: usize,
    key: TaskKey,
}

/// The tasks of one data source, in memory, in a fixed order.
#[derive(Debug, Clone)]
pub struct TaskSource {
    name: String,
    path: Option<PathBuf>,
    entries: Vec<Entry>,
    seed: u64,
}

impl TaskSource {
    /// Reads or generates the tasks of `[data.NAME]`.
    ///
    /// # Errors
    /// [`DataError`], with file and line of the row at fault.
    pub fn open(name: &str, config: &DataConfig, seed: u64) -> Result<Self, DataError> {
        let entries = config.open(name, seed)?;
        let path = if let DataConfig::Jsonl(jsonl) = config { Some(jsonl.path.clone()) } else { None };
        if entries.is_empty() {
            let from = path.as_ref().map_or("the generator".to_owned(), |p| p.display().to_string());
            let mut reason = format!("nothing from {from} passed `filter` and `split`");
            if config.parting().split != Split::All {
                reason.push_str(
                    "; rows that ask the same, or have the same `group`, are on one side of the split",
                );
            }
            return Err(DataError::Empty { name: name.to_owned(), reason });
        }
        tracing::debug!(source = name, tasks = entries.len(), "opened data");
        Ok(Self { name: name.to_owned(), path, entries, seed })
    }

    /// Name of the source, as in `[data.NAME]`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of tasks, at least 1.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no tasks; never true of an opened source.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The task at `index` of the fixed order.
    ///
    /// # Panics
    /// When `index >= len()`.
    pub fn task(&self, index: usize) -> &Task {
        &self.entries[index].task
    }

    /// The example at `index` of the fixed order.
    ///
    /// # Errors
    /// [`DataError::NoCompletions`].
    ///
    /// # Panics
    /// When `index >= len()`.
    pub fn example(&self, index: usize) -> Result<SftExample, DataError> {
        let entry = &self.entries[index];
        let completion =
            entry.completion.clone().ok_or_else(|| DataError::NoCompletions { name: self.name.clone() })?;
        Ok(SftExample {
            id: entry.task.id.clone(),
            prompt: entry.task.prompt.clone(),
            images: entry.conversation.as_ref().map_or(&entry.task.images, |(_, images)| images).clone(),
            completion,
            conversation: entry.conversation.as_ref().map(|(messages, _)| messages.clone()),
        })
    }

    /// Where the task at `index` came from: `FILE:LINE`, or the source's name for generated ones.
    ///
    /// # Panics
    /// When `index >= len()`.
    pub fn origin(&self, index: usize) -> String {
        match &self.path {
            Some(path) => format!("{}:{}", path.display(), self.entries[index].line),
            None => format!("data.{}", self.name),
        }
    }

    /// The error for a task whose reference a reward cannot use, with its file and line.
    ///
    /// # Panics
    /// When `index >= len()`.
    pub fn bad_task(&self, index: usize, message: impl Into<String>) -> DataError {
        let path = self.path.clone().unwrap_or_else(|| PathBuf::from(format!("data.{}", self.name)));
        DataError::Row { path, line: self.entries[index].line, message: message.into() }
    }

    /// By what the task at `index` is known again.
    ///
    /// # Panics
    /// When `index >= len()`.
    pub(crate) fn key(&self, index: usize) -> &TaskKey {
        &self.entries[index].key
    }

    /// The file that the tasks come from; none of generated ones.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// SHA-256 of all that tasks and completions say, in their order, in hexadecimal. Pictures in files count by the names of
    /// these, so that a folder may be moved.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        for Entry { task, completion, conversation, .. } in &self.entries {
            let of = conversation.as_ref();
            let said = (&task.id, &task.prompt, &task.reference, &task.meta, completion, of.map(|(m, _)| m));
            // Without a writer that fails, and with keys that are texts, JSON cannot fail.
            hash.update(serde_json::to_vec(&said).unwrap_or_default());
            for image in of.map_or(&task.images, |(_, images)| images) {
                match image {
                    TaskImage::Path(path) => {
                        hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
                    }
                    TaskImage::Bytes(bytes) => hash.update(bytes),
                }
            }
            hash.update(b"\n");
        }
        format!("{:x}", hash.finalize())
    }

    /// The index that stands at `position` of the training order.
    ///
    /// Every epoch is a shuffle of all tasks that depends on the seed and the epoch alone, so a position is all that
    /// a checkpoint has to keep.
    pub fn index_at(&self, position: u64) -> usize {
        let len = self.entries.len() as u64;
        let epoch = position / len;
        random::shuffled(position % len, len, &[self.seed, ORDER_STREAM, epoch]) as usize
    }
}

/// Messages of a prompt: an optional system message and one of the user.
fn messages(system: Option<String>, user: String) -> Vec<Message> {
    let message = |role: &str, content| Message { role: role.to_owned(), content };
    system.map(|s| message("system", s)).into_iter().chain([message("user", user)]).collect()
}

fn check_heldout(at: &str, split: Split, heldout_frac: f64, checks: &mut Checks) {
    checks.require(
        split == Split::All || (heldout_frac > 0.0 && heldout_frac < 1.0),
        format!("{at}.heldout_frac"),
        format!("is {heldout_frac} and must lie between 0 and 1"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn addition(text: &str, seed: u64) -> TaskSource {
        let config: DataConfig = toml::from_str(&format!("kind = \"addition\"\n{text}")).unwrap();
        TaskSource::open("train", &config, seed).unwrap()
    }

    #[test]
    fn each_epoch_is_its_own_shuffle_of_everything() {
        let source = addition("tasks = 100", 3);
        assert_eq!(source.len(), 100);
        let epoch = |e: u64| (e * 100..(e + 1) * 100).map(|p| source.index_at(p)).collect::<Vec<_>>();
        for e in 0..3 {
            let mut all = epoch(e);
            all.sort_unstable();
            assert_eq!(all, (0..100).collect::<Vec<_>>());
        }
        assert_ne!(epoch(0), epoch(1));
        assert_eq!(epoch(1), epoch(1));
        assert_ne!(epoch(0), (0..100).map(|p| addition("tasks = 100", 4).index_at(p)).collect::<Vec<_>>());
    }
}
