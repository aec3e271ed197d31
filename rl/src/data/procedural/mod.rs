//! Generated tasks: one file a kind, each a `Generator` with its difficulty parameters.
//!
//! A draw depends on the seed and its number alone, so the same seed gives the same tasks. All tasks of a source are
//! different. A hash of the task itself decides on which side of the split it falls, whatever the seed and the
//! difficulty. Prompts are plain ASCII. Pictures are PNG files in memory, drawn by the program.

mod addition;
mod analytes;
mod arithmetic;
mod base_conversion;
mod calendar;
mod canvas;
mod countdown;
mod digits;
mod equation;
mod facts;
mod font;
mod lab_panel;
mod letter_count;
mod logic;
mod lookup;
#[cfg(test)]
mod picture_tests;
mod reverse_text;
mod shapes;
mod sorting;
mod sudoku;
#[cfg(test)]
mod tests;
mod unit_conversion;

use std::collections::HashSet;

use rayon::prelude::*;
use rlvr_policies::vision::{Rgb, encode_png};
use serde::Serialize;
use serde_json::{Map, Value};

pub use addition::AdditionConfig;
pub use arithmetic::ArithmeticConfig;
pub use base_conversion::BaseConversionConfig;
pub use calendar::{CalendarConfig, CalendarQuestion};
pub use countdown::CountdownConfig;
pub use digits::DigitsConfig;
pub use equation::EquationConfig;
pub use facts::FactsConfig;
pub use lab_panel::{LabPanelConfig, PanelQuestion};
pub use letter_count::LetterCountConfig;
pub use logic::{LogicConfig, LogicQuestion};
pub use lookup::{LookupConfig, LookupQuestion};
pub use reverse_text::ReverseTextConfig;
pub use shapes::{ShapesConfig, ShapesQuestion};
pub use sorting::{SortOrder, SortingConfig};
pub use sudoku::SudokuConfig;
pub use unit_conversion::UnitConversionConfig;

use super::images;
use super::template::{TemplateRow, Templates};
use super::{AnswerFormat, DataError, Entry, GENERATE_STREAM, Split, TaskKey, check_heldout, messages};
use crate::checks::Checks;
use crate::random;
use rlvr_rewards::{Task, TaskImage};

/// What every kind of generated tasks has in common, borrowed from its config.
pub(crate) struct Common<'a> {
    pub tasks: usize,
    pub format: AnswerFormat,
    pub split: Split,
    pub heldout_frac: f64,
    pub prompt: &'a str,
    pub system: Option<&'a String>,
}

/// The parts of a config that its definition gives.
pub(crate) trait Settings {
    fn kind(&self) -> &'static str;
    fn common(&self) -> Common<'_>;
}

/// A kind of generated tasks.
pub(crate) trait Generator: Settings {
    /// Checks the difficulty parameters.
    fn check_difficulty(&self, at: &str, checks: &mut Checks);

    /// A task, or none where the dice give nothing usable.
    fn draw(&self, dice: &mut Dice) -> Option<Draw>;

    /// Whether pictures are replaced by grey.
    fn is_blank(&self) -> bool {
        false
    }

    /// Everything wrong with the config.
    fn check(&self, at: &str, checks: &mut Checks) {
        let common = self.common();
        checks.require(common.tasks >= 1, format!("{at}.tasks"), "must be at least 1");
        check_heldout(at, common.split, common.heldout_frac, checks);
        self.check_difficulty(at, checks);
    }

    /// The tasks of `[data.NAME]`.
    fn generate(&self, name: &str, seed: u64) -> Result<Vec<Entry>, DataError> {
        let common = self.common();
        let mut templates = Templates::new(name);
        templates.add("prompt", common.prompt)?;
        let mut seen = HashSet::new();
        let mut draws = Vec::with_capacity(common.tasks.min(1 << 20));
        for number in 0..max_draws(common.tasks) {
            if draws.len() == common.tasks {
                break;
            }
            let Some(draw) = self.draw(&mut Dice::new([seed, GENERATE_STREAM, number])) else { continue };
            if common.split.contains(draw.side, common.heldout_frac) && seen.insert(draw.id.clone()) {
                draws.push(draw);
            }
        }
        if draws.len() < common.tasks {
            tracing::warn!(
                source = name,
                wanted = common.tasks,
                found = draws.len(),
                "the generator has fewer different tasks than asked for"
            );
        }
        let (kind, blank) = (self.kind(), self.is_blank());
        draws.into_par_iter().map(|draw| entry((name, kind, blank), &templates, &common, draw)).collect()
    }
}

/// How many draws a generator makes before it takes the tasks it has found for all there are.
fn max_draws(tasks: usize) -> u64 {
    200 * tasks as u64 + 20_000
}

fn entry(
    (name, kind, blank): (&str, &str, bool),
    templates: &Templates,
    common: &Common<'_>,
    draw: Draw,
) -> Result<Entry, DataError> {
    let fields = draw.fields.as_object().cloned().unwrap_or_default();
    let failed = |message| DataError::Template { name: name.to_owned(), field: "prompt".to_owned(), message };
    let prompt = templates.text("prompt", &TemplateRow::new(fields)).map_err(failed)?;
    let mut prompt = messages(common.system.cloned(), prompt);
    let png =
        |picture: &Rgb| TaskImage::Bytes(encode_png(picture.width, picture.height, &picture.pixels).into());
    let picture = draw.picture.map(|draw| draw());
    let seen: Vec<TaskImage> = picture.iter().map(png).collect();
    images::place(&mut prompt, seen.len()).map_err(failed)?;
    // A task is the same whether its picture is shown or not.
    let key = TaskKey::of_generated(kind, draw.side).with_prompt(&prompt).with_images(&seen);
    let images = if blank { picture.iter().map(|p| png(&canvas::blank(p))).collect() } else { seen };
    let task = Task {
        id: format!("{name}-{}", draw.id),
        prompt,
        images,
        reference: draw.reference,
        meta: Map::new(),
    };
    Ok(Entry {
        task,
        completion: Some(common.format.write(&draw.work, &draw.answer)),
        conversation: None,
        line: 0,
        key,
    })
}

/// A task as it was drawn.
pub(crate) struct Draw {
    /// Names the task: equal ids are the same task.
    id: String,
    /// Decides the side of the split; equal for tasks that are one another in disguise.
    side: u64,
    /// What the prompt's template sees.
    fields: Value,
    /// What the reward sees.
    reference: Value,
    /// The way to the answer, for completions with thoughts.
    work: String,
    /// The answer.
    answer: String,
    /// Draws the picture, of tasks that are seen.
    picture: Option<Box<dyn FnOnce() -> Rgb + Send>>,
}

impl Draw {
    /// A task whose id alone decides the side of the split.
    fn new(id: String, fields: Value, reference: Value, work: String, answer: String) -> Self {
        let side = random::hash_bytes(id.as_bytes());
        Self { id, side, fields, reference, work, answer, picture: None }
    }

    /// The same task with a picture.
    fn showing(self, picture: impl FnOnce() -> Rgb + Send + 'static) -> Self {
        Self { picture: Some(Box::new(picture)), ..self }
    }
}

/// A stream of random numbers that depends on its key alone.
pub(crate) struct Dice {
    key: [u64; 3],
    count: u64,
}

impl Dice {
    fn new(key: [u64; 3]) -> Self {
        Self { key, count: 0 }
    }

    /// A whole number from `low` to `high`, both included.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        self.count += 1;
        let [seed, stream, number] = self.key;
        random::between(low, high, &[seed, stream, number, self.count])
    }

    /// An index below `len`.
    fn index(&mut self, len: usize) -> usize {
        self.between(0, len as u64 - 1) as usize
    }

    fn coin(&mut self) -> bool {
        self.between(0, 1) == 1
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.index(items.len())]
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }

    /// A word of random letters from `a` to `z`.
    fn letters(&mut self, len: u64) -> String {
        (0..len).map(|_| char::from(b'a' + self.between(0, 25) as u8)).collect()
    }
}

/// A kind of generated tasks, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Kind {
    /// `kind` in `[data.NAME]`.
    pub name: &'static str,
    /// What it trains.
    pub about: String,
    /// The reward that judges it; `procedural` judges every kind.
    pub reward: &'static str,
    /// Its own parameters; [`shared_parameters`] has the others.
    pub parameters: Vec<Parameter>,
}

/// A parameter of a [`Kind`].
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Name of the key.
    pub name: &'static str,
    /// Default, as in TOML; none where there is none.
    pub default: Option<String>,
    /// What it sets.
    pub about: String,
}

/// Text of doc comments as one paragraph.
fn paragraph(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

fn parameter(defaults: &toml::Table, name: &'static str, doc: &[&str]) -> Parameter {
    let about = paragraph(doc);
    // The default stands beside it.
    let about = about.split(" Default ").next().unwrap_or_default().to_owned();
    Parameter { name, default: defaults.get(name).map(ToString::to_string), about }
}

fn table<T: Serialize>(config: &T) -> toml::Table {
    toml::Table::try_from(config).unwrap_or_default()
}

/// Defines the config of a kind: its own parameters, those that every kind has, defaults, and its description, which is
/// made of the doc comments.
macro_rules! generator {
    (
        $(#[doc = $doc:literal])+
        $kind:literal => $name:ident judged by $reward:literal {
            $($(#[doc = $field_doc:literal])+ $field:ident: $type:ty = $default:expr,)+
        }
        prompt $prompt:literal
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[doc = $field_doc])+ pub $field: $type,)+
            /// Number of tasks. Default 2000.
            pub tasks: usize,
            /// How the completion for supervised training is written: `plain` is the answer, `think` is
            /// `<think>the work</think><answer>the answer</answer>`. Default `plain`.
            pub format: $crate::data::AnswerFormat,
            /// Which part of all tasks is used; a hash of the task decides. Default `train`.
            pub split: $crate::data::Split,
            /// Share of all tasks that is held out. Default 0.1.
            pub heldout_frac: f64,
            /// minijinja template of the prompt over the fields of a task.
            pub prompt: String,
            /// Text of a system message before the prompt. Default none.
            pub system: Option<String>,
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($field: $default,)+
                    tasks: 2000,
                    format: $crate::data::AnswerFormat::Plain,
                    split: $crate::data::Split::Train,
                    heldout_frac: 0.1,
                    prompt: $prompt.to_owned(),
                    system: None,
                }
            }
        }

        impl super::Settings for $name {
            fn kind(&self) -> &'static str {
                $kind
            }

            fn common(&self) -> super::Common<'_> {
                super::Common {
                    tasks: self.tasks,
                    format: self.format,
                    split: self.split,
                    heldout_frac: self.heldout_frac,
                    prompt: &self.prompt,
                    system: self.system.as_ref(),
                }
            }
        }

        impl $name {
            /// The kind as people see it.
            pub(super) fn describe() -> super::Kind {
                let defaults = super::table(&Self::default());
                let parameters = vec![$(super::parameter(&defaults, stringify!($field), &[$($field_doc),+])),+];
                super::Kind { name: $kind, about: super::paragraph(&[$($doc),+]), reward: $reward, parameters }
            }
        }
    };
}
pub(crate) use generator;

/// The parameters that every kind has; the default of `prompt` depends on the kind.
pub fn shared_parameters() -> Vec<Parameter> {
    let mut defaults = table(&AdditionConfig::default());
    defaults.remove("prompt");
    [
        ("tasks", "Number of tasks."),
        ("format", "How completions are written: plain is the answer, think adds the work in think tags."),
        ("split", "train, heldout or all; a hash of the task decides."),
        ("heldout_frac", "Share of all tasks that is held out."),
        ("prompt", "minijinja template of the prompt."),
        ("system", "Text of a system message before the prompt."),
    ]
    .map(|(name, about)| parameter(&defaults, name, &[about]))
    .to_vec()
}

/// Every kind of generated tasks.
pub fn kinds() -> Vec<Kind> {
    vec![
        AdditionConfig::describe(),
        ArithmeticConfig::describe(),
        BaseConversionConfig::describe(),
        CalendarConfig::describe(),
        CountdownConfig::describe(),
        DigitsConfig::describe(),
        EquationConfig::describe(),
        FactsConfig::describe(),
        LabPanelConfig::describe(),
        LetterCountConfig::describe(),
        LogicConfig::describe(),
        LookupConfig::describe(),
        ReverseTextConfig::describe(),
        ShapesConfig::describe(),
        SortingConfig::describe(),
        SudokuConfig::describe(),
        UnitConversionConfig::describe(),
    ]
}

/// Notes a problem unless `low <= fewest <= most <= high`, for a pair of parameters.
fn check_range(
    at: &str,
    names: [&str; 2],
    [fewest, most]: [u64; 2],
    [low, high]: [u64; 2],
    checks: &mut Checks,
) {
    let [first, second] = names;
    checks.require(
        (low..=high).contains(&fewest),
        format!("{at}.{first}"),
        format!("is {fewest} and must lie in {low} to {high}"),
    );
    checks.require(
        (fewest..=high).contains(&most),
        format!("{at}.{second}"),
        format!("is {most} and must lie in {first} = {fewest} to {high}"),
    );
}

/// Notes a problem unless `low <= value <= high`.
fn check_between(at: &str, name: &str, value: u64, [low, high]: [u64; 2], checks: &mut Checks) {
    checks.require(
        (low..=high).contains(&value),
        format!("{at}.{name}"),
        format!("is {value} and must lie in {low} to {high}"),
    );
}
