//! A benchmark as it is written down: a TOML file with its data, its prompt and its verifier.
//!
//! Texts marked *template* are minijinja over the fields of a row. A prompt also sees `question`, `context`, `options`
//! (each with `label` and `text`), `lettered` (the options on lines `A. …`), `answer` and `label` of the right option,
//! and `row`, the row as it is. `<image>` in a prompt is the place of a picture; without one they stand before its text.

use std::collections::BTreeMap;
use std::path::Path;

use rlvr_rewards::RewardConfig;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use super::text_metric::TextMetric;
use crate::checks::{Checks, Problem};
use crate::config::{ConfigError, DataConfig, document};
use crate::data::ImagesTemplate;

/// A benchmark's definition. Either `source` with `fields` and `prompt` (without them where `source.tasks` is set), or
/// `generate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskFile {
    /// Lower-case letters, digits and `_`: how results name it.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// Licence of the data.
    pub license: String,
    /// What else one should know.
    pub note: Option<String>,
    /// The file that holds the rows.
    pub source: Option<SourceFile>,
    /// Tasks that are generated instead, as a `[data.NAME]` table would; from seed 0, so that they are the same always.
    pub generate: Option<DataConfig>,
    /// Expression that a row must satisfy, such as `split == 'test'`. Default none.
    pub filter: Option<String>,
    /// What kind each field of a row has, as `text`, `number`, `bool`, `list`, `table`, or several with ` or `.
    #[serde(default)]
    pub schema: BTreeMap<String, FieldKinds>,
    /// Where in a row the parts of an item are.
    pub fields: Option<Fields>,
    /// Template of the user's message.
    pub prompt: Option<String>,
    /// System message. Default none.
    pub system: Option<String>,
    /// Examples before the question.
    pub few_shot: Option<FewShot>,
    /// The verifier, as in `[rewards]` of a run.
    pub reward: RewardConfig,
    /// How completions are generated.
    #[serde(default)]
    pub generation: Generation,
    /// How options are scored by likelihood; absent means that they cannot be.
    pub likelihood: Option<Likelihood>,
    /// Metrics of the completions as texts, beside accuracy. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<TextMetric>,
}

/// `[source]`: a file, and where to get it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceFile {
    /// JSON Lines (or one JSON array in a `.json`), below `--data-dir`; in a definition of your own also beside it.
    pub file: String,
    /// Whether its rows are tasks as they are, `{"id", "prompt", "reference", "meta"?}` with the prompt as text or messages;
    /// then there are no `[fields]` and no `prompt`. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tasks: bool,
    /// Folder that the paths of pictures are relative to, itself relative to that of the file. Default: that of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<String>,
    /// SHA-256 that the file must have, in hexadecimal. Default: any.
    pub sha256: Option<String>,
    /// Hub id `owner/name` of a data set with the file. Default none.
    pub hub: Option<String>,
    /// The file in that data set.
    pub hub_file: Option<String>,
    /// Where the same file can be downloaded. Default none.
    pub url: Option<String>,
    /// Where the data comes from, for people.
    pub origin: Option<String>,
    /// How many items there are after `filter`. Default: any number.
    pub items: Option<usize>,
}

/// `[fields]`: templates of an item's parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    /// Default: the row's `id`, or `<name>-<number>` in the order of the file.
    pub id: Option<String>,
    /// The question.
    pub question: String,
    /// What the question is about, left out by `--no-context`. Default none.
    pub context: Option<String>,
    /// A template that is a single field with a list or a table of options, or with the text of a Python list, or a list of
    /// templates. Default none.
    pub options: Option<toml::Value>,
    /// Labels of the options, one character each. Default `A` to `Z`, or the keys of a table.
    pub labels: Option<String>,
    /// The right answer; of a choice its label or text.
    pub answer: String,
    /// Its pictures: a template that is a field with one or several, or a list of templates. A picture is a path relative to
    /// the file of the row, a `data:` URI, or an object with `bytes` or `path`; null and empty text are none. Default none.
    pub images: Option<ImagesTemplate>,
    /// What accuracy is broken down by, such as a subject. Default none.
    pub group: Option<String>,
    /// Further fields of the reference. Default none.
    #[serde(default)]
    pub reference: BTreeMap<String, toml::Value>,
}

/// `[few_shot]`: solved examples before the question, the same for every item, but never the item itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FewShot {
    /// How many.
    pub count: usize,
    /// File with the examples, found as `source.file`. Default: the items' own.
    pub file: Option<String>,
    /// Expression that their rows must satisfy. Default: that of the items where the file is theirs.
    pub filter: Option<String>,
    /// Template of the solution.
    pub completion: String,
    /// Seed of the choice. Default 0.
    #[serde(default)]
    pub seed: u64,
}

/// `[generation]`: bounds of a completion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Generation {
    /// Longest completion in tokens. Default 512.
    pub max_tokens: usize,
    /// Strings that end a completion and stay part of it. Default none.
    pub stop: Vec<String>,
}

impl Default for Generation {
    fn default() -> Self {
        Self { max_tokens: 512, stop: Vec::new() }
    }
}

/// `[likelihood]`: options scored by their probability after a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Likelihood {
    /// Template of the prompt.
    pub prompt: String,
    /// What follows the prompt. Default `label`.
    #[serde(default)]
    pub of: Continuation,
}

/// What of an option is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Continuation {
    /// Its label.
    #[default]
    Label,
    /// Its text.
    Text,
}

/// The kinds that a field may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldKinds(Vec<FieldKind>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldKind {
    Text,
    Number,
    Bool,
    List,
    Table,
}

const KINDS: [(&str, FieldKind); 5] = [
    ("text", FieldKind::Text),
    ("number", FieldKind::Number),
    ("bool", FieldKind::Bool),
    ("list", FieldKind::List),
    ("table", FieldKind::Table),
];

impl FieldKinds {
    /// Whether a value is of one of the kinds; null never is.
    pub fn hold(&self, value: &Value) -> bool {
        self.0.iter().any(|kind| match kind {
            FieldKind::Text => value.is_string(),
            FieldKind::Number => value.is_number(),
            FieldKind::Bool => value.is_boolean(),
            FieldKind::List => value.is_array(),
            FieldKind::Table => value.is_object(),
        })
    }
}

impl std::fmt::Display for FieldKinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |kind: &FieldKind| KINDS.iter().find(|(_, k)| k == kind).map_or("", |(name, _)| name);
        f.write_str(&self.0.iter().map(name).collect::<Vec<_>>().join(" or "))
    }
}

impl Serialize for FieldKinds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FieldKinds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let kind = |word: &str| {
            let found = KINDS.iter().find(|(name, _)| *name == word.trim());
            found.map(|(_, kind)| *kind).ok_or_else(|| {
                de::Error::custom(format!("`{text}` is no kind of a field: text, number, bool, list, table"))
            })
        };
        Ok(Self(text.split(" or ").map(kind).collect::<Result<_, _>>()?))
    }
}

impl TaskFile {
    /// Reads a definition; `path` is for messages.
    ///
    /// # Errors
    /// [`ConfigError`] with the line at fault.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let file: Self = document(text, path)?;
        let problems = file.problems();
        if problems.is_empty() {
            return Ok(file);
        }
        let line = |problem: &Problem| format!("{}: {problem}", path.display());
        Err(ConfigError::Invalid { lines: problems.iter().map(line).collect() })
    }

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        checks.require(
            !self.name.is_empty() && self.name.chars().all(plain),
            "name",
            format!("{:?} must be lower-case letters, digits and _", self.name),
        );
        match (&self.source, &self.generate) {
            (Some(source), None) if source.tasks => {
                let asked = self.fields.is_some() || self.prompt.is_some() || self.system.is_some();
                let asked = asked || self.few_shot.is_some() || self.likelihood.is_some();
                let message = "takes no fields, prompt, system, few_shot or likelihood";
                checks.require(!asked, "source.tasks", message);
            }
            (Some(_), None) => {
                let missing = "missing; it says where a row has its question and answer";
                checks.require(self.fields.is_some(), "fields", missing);
                let missing = "missing; it is a template such as \"{{ question }}\"";
                checks.require(self.prompt.is_some(), "prompt", missing);
            }
            (None, Some(data)) => {
                let file = matches!(data, DataConfig::Jsonl(_));
                checks.require(!file, "generate.kind", "generated tasks are meant; files belong in [source]");
                data.check("generate", &mut checks);
                let asked = self.likelihood.is_some() || self.few_shot.is_some() || self.fields.is_some();
                checks.require(!asked, "generate", "takes no fields, few_shot or likelihood");
            }
            (None, None) | (Some(_), Some(_)) => {
                checks.require(false, "source", "exactly one of [source] and [generate] is needed");
            }
        }
        checks.require(self.generation.max_tokens > 0, "generation.max_tokens", "must be at least 1");
        let empty = self.generation.stop.iter().any(String::is_empty);
        checks.require(!empty, "generation.stop", "an empty text would end every completion at once");
        let no_options = self.fields.as_ref().is_some_and(|f| f.options.is_none());
        checks.require(
            self.likelihood.is_none() || !no_options,
            "likelihood",
            "needs fields.options to choose from",
        );
        let pictures = self.fields.as_ref().is_some_and(|f| f.images.is_some());
        checks.require(
            self.few_shot.is_none() || !pictures,
            "few_shot",
            "examples are shown without pictures, so it does not go with fields.images",
        );
        let sum = self.source.as_ref().and_then(|source| source.sha256.as_ref());
        checks.require(
            sum.is_none_or(|sum| sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit())),
            "source.sha256",
            "must be 64 hexadecimal digits",
        );
        checks.into_problems()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        TaskFile::parse(text, Path::new("t.toml")).unwrap_err().to_string()
    }

    const GOOD: &str = r#"name = "t"
title = "T"
license = "MIT"
prompt = "{{ question }}"
[source]
file = "t.jsonl"
[fields]
question = "{{ q }}"
answer = "{{ a }}"
[reward]
kind = "math"
"#;

    #[test]
    fn mistakes_name_their_line() {
        TaskFile::parse(GOOD, Path::new("t.toml")).unwrap();
        let message = error(&GOOD.replace("title", "titel"));
        assert!(message.contains("t.toml:2") && message.contains("`title`?"), "{message}");
        let message = error(&GOOD.replace("\"math\"", "\"mth\""));
        assert!(message.contains("t.toml:11") && message.contains("math"), "{message}");
        let message = error(&GOOD.replace("[source]\nfile = \"t.jsonl\"\n", ""));
        assert!(message.contains("exactly one of [source] and [generate]"), "{message}");
        let message = error(&format!("{GOOD}[schema]\nq = \"txt\"\n"));
        assert!(message.contains("txt") && message.contains("list"), "{message}");
        let message = error(&GOOD.replace("[source]", "[source]\ntasks = true"));
        assert!(message.contains("source.tasks: takes no fields"), "{message}");
        let pictures = GOOD.replace("answer =", "images = [\"{{ i }}\"]\nanswer =");
        TaskFile::parse(&format!("metrics = [\"rougeL\"]\n{pictures}"), Path::new("t.toml")).unwrap();
        let message = error(&format!("{pictures}[few_shot]\ncount = 1\ncompletion = \"x\"\n"));
        assert!(message.contains("few_shot: examples are shown without pictures"), "{message}");
        let message = error(&format!("metrics = [\"rouge\"]\n{GOOD}"));
        assert!(message.contains("t.toml:1") && message.contains("rougeL"), "{message}");
        let message = error(&format!("{GOOD}[likelihood]\nprompt = \"x\"\n"));
        assert!(message.contains("needs fields.options"), "{message}");
    }
}
