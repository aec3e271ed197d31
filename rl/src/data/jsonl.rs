//! Rows of a JSON Lines file, or of a JSON array, as tasks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use super::images::{self, ImagesTemplate};
use super::template::{TemplateRow, Templates, single_field};
use super::{DataError, Entry, SHUFFLE_STREAM, Split, TaskKey, check_heldout, messages};
use crate::checks::Checks;
use crate::files::IoError;
use crate::files::bounded::{self, ARRAY, read_named};
use crate::files::digits;
use crate::files::encoding::utf8;
use crate::random;
use crate::rows::{self, missing};
use rlvr_rewards::{Message, Task, TaskImage, conversation, seen_messages};

/// `kind = "jsonl"`. Strings marked *template* are minijinja over the row's fields, with Python's string methods.
///
/// Rows pass `filter`, then `split`, then `shuffle`, then `limit`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonlConfig {
    /// JSON Lines, one object a line; with the extension `.json` one array of objects. Relative to the config file.
    pub path: PathBuf,
    /// The prompt: a template for the user's message, or a list of messages with `role` and `content` templates. A
    /// template that is a single field may name a list of messages in the row. Default `{{ prompt }}`.
    #[serde(default)]
    pub prompt: PromptTemplate,
    /// The pictures of a row: a template, or a list of them. A template that is a single field, `{{ image }}`, may name a path
    /// relative to the file, a `data:` URI, an object with `bytes` or `path`, or a list of these. They stand in the places
    /// `<image>` of the prompt, or before it where it has none. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<ImagesTemplate>,
    /// Template of a system message before the prompt. Default none.
    pub system: Option<String>,
    /// What a reward compares with: a table of templates. A template that is a single field, `{{ options }}`, passes
    /// the row's JSON value; other values pass as they are. Default: the row's `reference`, or nothing.
    pub reference: Option<BTreeMap<String, toml::Value>>,
    /// Template of the completion that supervised training learns. Default none.
    pub completion: Option<String>,
    /// Whole conversations, in place of `prompt` and `completion`: a template that is a single field naming a list of messages,
    /// such as `{{ messages }}`. Supervised stages learn the turns of the assistant; elsewhere the prompt is what stands before the
    /// last of them. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<String>,
    /// Template of the task's id. Default: the row's `id`, or `<name>-<line>`.
    pub id: Option<String>,
    /// Fields of the row that the records of a run keep; rewards get the whole row. Default none.
    #[serde(default)]
    pub meta: Vec<String>,
    /// Expression that a row must satisfy, such as `split == 'test'`. Default none.
    pub filter: Option<String>,
    /// Which part of the rows is used; a hash of what a row asks decides, whatever `prompt` makes of it: its context,
    /// question and options or its `prompt`, and everything but its `id` where it has neither. Default `all`.
    #[serde(default = "all")]
    pub split: Split,
    /// Share of the rows that is held out. Default 0.1.
    #[serde(default = "tenth")]
    pub heldout_frac: f64,
    /// Field, dotted inside of objects, whose value decides instead: rows with the same value are on one side of the split.
    /// Default none.
    pub group: Option<String>,
    /// Shuffle by the run's seed before `limit` is applied. Default false.
    #[serde(default)]
    pub shuffle: bool,
    /// Use at most this many rows. Default all.
    pub limit: Option<usize>,
}

fn all() -> Split {
    Split::All
}

fn tenth() -> f64 {
    0.1
}

/// A prompt in the config: text, or messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptTemplate {
    /// One message of the user.
    Text(String),
    /// A conversation.
    Messages(Vec<MessageTemplate>),
}

impl Default for PromptTemplate {
    fn default() -> Self {
        Self::Text("{{ prompt }}".to_owned())
    }
}

/// One message of a prompt in the config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageTemplate {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// Template of the text.
    pub content: String,
}

impl Serialize for PromptTemplate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Messages(messages) => messages.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for PromptTemplate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Prompt;
        impl<'de> de::Visitor<'de> for Prompt {
            type Value = PromptTemplate;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a template or a list of { role, content }")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<PromptTemplate, E> {
                Ok(PromptTemplate::Text(text.to_owned()))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<PromptTemplate, A::Error> {
                let mut messages = Vec::new();
                while let Some(message) = seq.next_element()? {
                    messages.push(message);
                }
                Ok(PromptTemplate::Messages(messages))
            }
        }
        deserializer.deserialize_any(Prompt)
    }
}

/// The fields of a row; a number with more digits than a number keeps is the text of them.
pub(crate) struct Fields {
    pub(crate) fields: Map<String, Value>,
    /// The same with all numbers, to be compared, where that is something else.
    pub(crate) numbers: Option<Map<String, Value>>,
}

impl From<Map<String, Value>> for Fields {
    fn from(fields: Map<String, Value>) -> Self {
        Self { fields, numbers: None }
    }
}

impl JsonlConfig {
    /// All rows of a file.
    pub(crate) fn all_of(path: PathBuf) -> Self {
        Self {
            path,
            prompt: PromptTemplate::default(),
            images: None,
            system: None,
            reference: None,
            completion: None,
            messages: None,
            id: None,
            meta: Vec::new(),
            filter: None,
            split: Split::All,
            heldout_frac: tenth(),
            group: None,
            shuffle: false,
            limit: None,
        }
    }

    pub(super) fn check(&self, at: &str, checks: &mut Checks) {
        check_heldout(at, self.split, self.heldout_frac, checks);
        checks.require(self.limit != Some(0), format!("{at}.limit"), "must be at least 1");
        if let PromptTemplate::Messages(messages) = &self.prompt {
            checks.require(!messages.is_empty(), format!("{at}.prompt"), "has no messages");
        }
        let Some(messages) = &self.messages else { return };
        checks.require(
            single_field(messages).is_some(),
            format!("{at}.messages"),
            "must be a single field that holds a list of messages, such as \"{{ messages }}\"",
        );
        checks.require(
            self.prompt == PromptTemplate::default() && self.completion.is_none(),
            format!("{at}.messages"),
            "has prompt and completion in it; take `prompt` and `completion` away",
        );
    }

    pub(super) fn read(&self, name: &str, seed: u64) -> Result<Vec<Entry>, DataError> {
        let templates = self.templates(name)?;
        let asks: Vec<String> = match &self.prompt {
            PromptTemplate::Text(_) if self.messages.is_some() => vec!["messages".to_owned()],
            PromptTemplate::Text(_) => vec!["prompt".to_owned()],
            PromptTemplate::Messages(list) => (0..list.len())
                .filter(|i| list[*i].role.trim() != "system")
                .map(|i| format!("prompt.{i}.content"))
                .collect(),
        };
        let read = templates.reads(&asks);
        let mut entries = Vec::new();
        let enough = if self.shuffle { None } else { self.limit };
        let mut unseen: Vec<&String> = self.meta.iter().collect();
        let mut first = None;
        self.rows(name, &mut |line, fields| {
            unseen.retain(|field| !fields.fields.contains_key(*field));
            if first.is_none() && !unseen.is_empty() {
                first = Some((line, fields.fields.clone()));
            }
            if let Some(entry) = self.entry(name, (&templates, &read), line, fields)? {
                entries.push(entry);
            }
            Ok(enough.is_none_or(|limit| entries.len() < limit))
        })?;
        if let (Some(field), Some((line, fields))) = (unseen.first(), first) {
            let message = format!("meta, in all rows: {}", missing(&fields, field));
            return Err(self.row_error(line, message));
        }
        if self.shuffle {
            let len = entries.len() as u64;
            let mut shuffled: Vec<Option<Entry>> = vec![None; entries.len()];
            for (i, entry) in entries.into_iter().enumerate() {
                shuffled[random::shuffled(i as u64, len, &[seed, SHUFFLE_STREAM]) as usize] = Some(entry);
            }
            entries = shuffled.into_iter().flatten().collect();
        }
        entries.truncate(self.limit.unwrap_or(usize::MAX));
        Ok(entries)
    }

    fn templates(&self, name: &str) -> Result<Templates, DataError> {
        let mut templates = Templates::new(name);
        match &self.prompt {
            PromptTemplate::Text(text) => templates.add("prompt", text)?,
            PromptTemplate::Messages(messages) => {
                for (i, message) in messages.iter().enumerate() {
                    templates.add(&format!("prompt.{i}.role"), &message.role)?;
                    templates.add(&format!("prompt.{i}.content"), &message.content)?;
                }
            }
        }
        let others = [
            ("system", &self.system),
            ("completion", &self.completion),
            ("messages", &self.messages),
            ("id", &self.id),
        ];
        for (field, source) in others {
            if let Some(source) = source {
                templates.add(field, source)?;
            }
        }
        if let Some(images) = &self.images {
            images.add_to(&mut templates)?;
        }
        for (key, value) in self.reference.iter().flatten() {
            add_reference(&mut templates, &format!("reference.{key}"), value)?;
        }
        Ok(templates)
    }

    /// Calls `take` with every row and its line until it returns false.
    pub(crate) fn rows(
        &self,
        name: &str,
        take: &mut dyn FnMut(usize, Fields) -> Result<bool, DataError>,
    ) -> Result<(), DataError> {
        let io = |action| {
            let (name, path) = (name.to_owned(), self.path.clone());
            move |source| DataError::Io { name, source: IoError::at(action, &path)(source) }
        };
        if self.path.extension().is_some_and(|e| e == "json") {
            let bytes = read_named(&self.path, ARRAY).map_err(|error| match error.kind() {
                ErrorKind::FileTooLarge => self.row_error(
                    1,
                    format!("{error}: JSON Lines are read one by one (jq -c '.[]' makes them)"),
                ),
                _ => io("read")(error),
            })?;
            let text = utf8(&bytes).map_err(|e| self.row_error(e.line, e.to_string()))?;
            let not_rows =
                |e: serde_json::Error| self.row_error(e.line(), format!("not a JSON array of objects: {e}"));
            let rows: Vec<Value> = serde_json::from_str(text).map_err(not_rows)?;
            let kept = match digits::keep(text) {
                Cow::Borrowed(_) => None,
                Cow::Owned(kept) => Some(serde_json::from_str::<Vec<Value>>(&kept).map_err(not_rows)?),
            };
            let mut kept = kept.into_iter().flatten();
            let lines = element_lines(text);
            for (i, row) in rows.into_iter().enumerate() {
                let line = lines.get(i).copied().unwrap_or(0);
                let row = self.object(line, row)?;
                let fields = match kept.next() {
                    Some(kept) => Fields { numbers: Some(row), ..self.object(line, kept)?.into() },
                    None => row.into(),
                };
                if !take(line, fields)? {
                    break;
                }
            }
            return Ok(());
        }
        let file = std::fs::File::open(&self.path).map_err(io("open"))?;
        let (mut reader, mut bytes) = (BufReader::new(file), Vec::new());
        for line in 1.. {
            match bounded::line(&mut reader, &mut bytes) {
                Ok(0) => break,
                Err(e) if e.kind() == ErrorKind::FileTooLarge => {
                    return Err(self.row_error(line, e.to_string()));
                }
                read => read.map_err(io("read"))?,
            };
            let text = utf8(&bytes).map_err(|e| self.row_error(line, e.to_string()))?;
            let text = if line == 1 { text.trim_start_matches('\u{feff}') } else { text };
            if !text.trim().is_empty() {
                let row = digits::parse(text)
                    .map_err(|e| self.row_error(line, format!("not JSON (column {}): {e}", e.column())))?;
                let fields = self.object(line, row)?;
                if !take(line, Fields { fields, numbers: digits::rounded(text) })? {
                    break;
                }
            }
        }
        Ok(())
    }

    fn object(&self, line: usize, row: Value) -> Result<Map<String, Value>, DataError> {
        match row {
            Value::Object(fields) => Ok(fields),
            _ => Err(self.row_error(line, "a row must be a JSON object".to_owned())),
        }
    }

    fn row_error(&self, line: usize, message: String) -> DataError {
        DataError::Row { path: self.path.clone(), line, message }
    }

    /// The task of a row, or none when `filter` or `split` leaves it out. The fields are those that the prompt's template
    /// reads.
    fn entry(
        &self,
        name: &str,
        templates: (&Templates, &[String]),
        line: usize,
        row: Fields,
    ) -> Result<Option<Entry>, DataError> {
        let bad = |message| self.row_error(line, message);
        let numbers = row.numbers.map(TemplateRow::new);
        let row = TemplateRow::new(row.fields);
        if let Some(filter) = &self.filter
            && !templates.0.holds("filter", filter, numbers.as_ref().unwrap_or(&row)).map_err(bad)?
        {
            return Ok(None);
        }
        self.render(name, templates, line, &row).map_err(bad)
    }

    fn render(
        &self,
        name: &str,
        (templates, read): (&Templates, &[String]),
        line: usize,
        row: &TemplateRow,
    ) -> Result<Option<Entry>, String> {
        let group = match &self.group {
            Some(path) => match rows::field(&row.fields, path) {
                None | Some(Value::Null) => {
                    return Err(format!("group: {}", rows::missing(&row.fields, path)));
                }
                value => value,
            },
            None => None,
        };
        let key = TaskKey::of_row(&row.fields, group);
        if !self.split.contains(key.side(), self.heldout_frac) {
            return Ok(None);
        }
        let system = self.system.as_ref().map(|_| templates.text("system", row)).transpose()?;
        let conversation = match &self.messages {
            Some(source) => Some(self.whole(templates, source, system.clone(), row)?),
            None => None,
        };
        let (prompt, images, said) = match &conversation {
            Some((messages, images)) => {
                let (prompt, said) = last_turn(messages)?;
                let before = images::places(prompt).min(images.len());
                (prompt.to_vec(), images[..before].to_vec(), Some(said.to_owned()))
            }
            None => {
                let (mut prompt, found) = self.messages(templates, system, row)?;
                let images = self.placed(templates, &mut prompt, found, row)?;
                (prompt, images, None)
            }
        };
        let reference = match &self.reference {
            None => row.fields.get("reference").cloned().unwrap_or_else(|| Value::Object(Map::new())),
            Some(table) => {
                let mut reference = Map::new();
                for (key, value) in table {
                    let value = render_reference(templates, &format!("reference.{key}"), value, row)?;
                    reference.insert(key.clone(), value);
                }
                Value::Object(reference)
            }
        };
        let id = match (&self.id, row.fields.get("id")) {
            (Some(_), _) => templates.text("id", row)?,
            (None, Some(Value::String(id))) => id.clone(),
            (None, Some(Value::Number(id))) => id.to_string(),
            _ => format!("{name}-{line}"),
        };
        let completion = match said {
            Some(said) => Some(said),
            None => self.completion.as_ref().map(|_| templates.text("completion", row)).transpose()?,
        };
        let key = key
            .with_prompt(&prompt)
            .with_reference(&reference)
            .with_read(&row.fields, read)
            .with_images(&images);
        let key = if self.id.is_some() { key.with_id(&id) } else { key };
        let mut task = Task { id, prompt, images, reference, meta: Map::new() }.with_row(row.fields.clone());
        for field in &self.meta {
            let value = || row.fields.get(field).cloned().unwrap_or(Value::Null);
            task.meta.entry(field.clone()).or_insert_with(value);
        }
        Ok(Some(Entry { task, completion, conversation, line, key }))
    }

    /// The pictures of messages that have their places: those that they name, and those of `images`.
    fn placed(
        &self,
        templates: &Templates,
        messages: &mut [Message],
        mut found: Vec<Value>,
        row: &TemplateRow,
    ) -> Result<Vec<TaskImage>, String> {
        if let Some(images) = &self.images {
            found = images::named(found, images.values(templates, row)?);
        }
        images::placed(messages, &found, self.path.parent().unwrap_or(Path::new("")))
    }

    /// The conversation of a row with its pictures, behind a system message if there is one.
    fn whole(
        &self,
        templates: &Templates,
        source: &str,
        system: Option<String>,
        row: &TemplateRow,
    ) -> Result<(Vec<Message>, Vec<TaskImage>), String> {
        let field = single_field(source).unwrap_or("messages");
        let value = templates.value("messages", source, row)?;
        if value.is_string() {
            return Err(format!("messages: `{field}` must be a list of messages, not text"));
        }
        let (list, mut found) = seen_messages(&value, field).map_err(|e| format!("messages: {e}"))?;
        let mut list = behind(system, list, field).map_err(|e| format!("messages: {e}"))?;
        // Parts that say which pictures they are need none beside them.
        if self.images.is_none() && (found.is_empty() || found.contains(&Value::Null)) {
            found = images::named(found, images::of_row(&row.fields));
        }
        let images = self.placed(templates, &mut list, found, row)?;
        Ok((list, images))
    }

    /// The prompt of a row.
    fn messages(
        &self,
        templates: &Templates,
        system: Option<String>,
        row: &TemplateRow,
    ) -> Result<(Vec<Message>, Vec<Value>), String> {
        let mut images = Vec::new();
        let prompt = match &self.prompt {
            PromptTemplate::Text(source) => match templates.value("prompt", source, row)? {
                Value::String(text) => messages(system, text),
                Value::Null => {
                    let field = single_field(source).unwrap_or("prompt");
                    return Err(format!("prompt: {}", rows::missing(&row.fields, field)));
                }
                value @ (Value::Number(_) | Value::Bool(_)) => {
                    let field = single_field(source).unwrap_or("prompt");
                    let problem = conversation(&value, field).err().unwrap_or_default();
                    return Err(format!(
                        "prompt: {problem}; prompt = \"{{{{ {field} | string }}}}\" makes text of it"
                    ));
                }
                // A field that holds a conversation is one.
                value => {
                    let field = single_field(source).unwrap_or("prompt");
                    let (list, found) = seen_messages(&value, field).map_err(|e| format!("prompt: {e}"))?;
                    images = found;
                    behind(system, list, field).map_err(|e| format!("prompt: {e}"))?
                }
            },
            PromptTemplate::Messages(list) => {
                let mut prompt = Vec::with_capacity(list.len() + 1);
                prompt.extend(system.map(|content| Message { role: "system".to_owned(), content }));
                for i in 0..list.len() {
                    prompt.push(Message {
                        role: templates.text(&format!("prompt.{i}.role"), row)?,
                        content: templates.text(&format!("prompt.{i}.content"), row)?,
                    });
                }
                prompt
            }
        };
        Ok((prompt, images))
    }
}

/// Messages behind the system message of the config, if there is one.
fn behind(system: Option<String>, list: Vec<Message>, field: &str) -> Result<Vec<Message>, String> {
    let Some(content) = system else { return Ok(list) };
    if list.first().is_some_and(|m| m.role == "system") {
        return Err(format!(
            "`{field}` begins with a system message, and `system` would put another one before it: take `system` away"
        ));
    }
    Ok([Message { role: "system".to_owned(), content }].into_iter().chain(list).collect())
}

/// What stands before the last turn of the assistant, and that turn.
fn last_turn(messages: &[Message]) -> Result<(&[Message], &str), String> {
    let last = messages.iter().rposition(|m| m.role == "assistant");
    let last = last.ok_or("messages: there is no turn of the assistant, so nothing to learn")?;
    Ok((&messages[..last], &messages[last].content))
}

pub(crate) fn add_reference(
    templates: &mut Templates,
    field: &str,
    value: &toml::Value,
) -> Result<(), DataError> {
    match value {
        toml::Value::String(source) => templates.add(field, source),
        toml::Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(i, item)| add_reference(templates, &format!("{field}.{i}"), item)),
        toml::Value::Table(table) => {
            table.iter().try_for_each(|(key, item)| add_reference(templates, &format!("{field}.{key}"), item))
        }
        _ => Ok(()),
    }
}

pub(crate) fn render_reference(
    templates: &Templates,
    field: &str,
    value: &toml::Value,
    row: &TemplateRow,
) -> Result<Value, String> {
    Ok(match value {
        toml::Value::String(source) => templates.value(field, source, row)?,
        toml::Value::Integer(number) => Value::from(*number),
        toml::Value::Float(number) => Value::from(*number),
        toml::Value::Boolean(flag) => Value::from(*flag),
        toml::Value::Datetime(datetime) => Value::from(datetime.to_string()),
        toml::Value::Array(items) => {
            let render = |(i, item)| render_reference(templates, &format!("{field}.{i}"), item, row);
            Value::Array(items.iter().enumerate().map(render).collect::<Result<_, _>>()?)
        }
        toml::Value::Table(table) => {
            let mut object = Map::new();
            for (key, item) in table {
                object
                    .insert(key.clone(), render_reference(templates, &format!("{field}.{key}"), item, row)?);
            }
            Value::Object(object)
        }
    })
}

/// The line, from 1, at which each object of a JSON array begins.
fn element_lines(text: &str) -> Vec<usize> {
    let (mut lines, mut line, mut depth) = (Vec::new(), 1, 0);
    let (mut quoted, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            b'\n' => line += 1,
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => {
                if depth == 1 {
                    lines.push(line);
                }
                depth += 1;
            }
            b'}' | b']' => depth -= 1,
            _ => {}
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{DataConfig, TaskSource};
    use serde_json::json;
    use std::fmt::Write as _;

    fn open(file: &str, content: &str, config: &str) -> Result<TaskSource, DataError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(file);
        std::fs::write(&path, content).unwrap();
        let text = format!("kind = \"jsonl\"\npath = {:?}\n{config}", path.to_str().unwrap());
        TaskSource::open("d", &toml::from_str::<DataConfig>(&text).unwrap(), 1)
    }

    fn fails(file: &str, content: &str, config: &str, expected: &str) {
        let error = open(file, content, config).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    const GSM8K: &str = r##"{"question": "2+2?", "answer": "so\n#### 4"}

{"question": "3+4?", "answer": "hence\n#### 7"}
"##;
    const GSM8K_CONFIG: &str = r##"
prompt = "{{ question }}"
system = "Think."
reference.answer = "{{ answer.split('####')[-1] | trim }}"
completion = "{{ answer }}"
meta = ["question"]
"##;

    #[test]
    fn rows_become_tasks() {
        let source = open("d.jsonl", GSM8K, GSM8K_CONFIG).unwrap();
        assert_eq!(source.len(), 2);
        let task = source.task(1);
        assert_eq!(task.id, "d-3");
        assert_eq!(task.reference, json!({"answer": "7"}));
        assert_eq!((task.prompt[0].role.as_str(), task.prompt[1].content.as_str()), ("system", "3+4?"));
        // A reward sees the whole row, a prompt and a reference of one's own or not.
        assert_eq!(json!(task.meta), json!({"question": "3+4?", "answer": "hence\n#### 7"}));
        assert_eq!(source.example(0).unwrap().completion, "so\n#### 4");
        assert!(source.origin(1).ends_with("d.jsonl:3"));
        assert!(source.bad_task(1, "x").to_string().ends_with("d.jsonl:3: x"));
    }

    #[test]
    fn digits_that_a_number_does_not_hold_stay_and_conditions_compare_numbers() {
        let long = "123456789012345678901234567890";
        let row = |n: &str| format!("{{\"prompt\": \"p\", \"n\": {n}}}");
        let config = "reference.answer = '{{ n }}'\nfilter = 'n > 7'";
        let rows = [row(long), row("5"), row("12345678901234567891"), row("7.5")];
        for (name, text) in [("d.jsonl", rows.join("\n")), ("d.json", format!("[{}]", rows.join(",\n")))] {
            let source = open(name, &text, config).unwrap();
            let answers: Vec<&Value> = (0..3).map(|i| &source.task(i).reference["answer"]).collect();
            assert_eq!(answers, [&json!(long), &json!(12345678901234567891_u64), &json!(7.5)]);
            assert_eq!(source.len(), 3);
        }
    }

    #[test]
    fn names_in_meta_are_those_of_fields() {
        let rows = "{\"id\": 1, \"prompt\": \"p\", \"level\": 2}\n{\"prompt\": \"q\", \"topic\": \"sums\"}\n";
        let source = open("d.jsonl", rows, "meta = ['topic', 'id', 'prompt']").unwrap();
        let metas: Vec<Value> = (0..2).map(|i| json!(source.task(i).meta)).collect();
        assert_eq!(metas[0], json!({"level": 2, "topic": null, "id": 1, "prompt": "p"}));
        assert_eq!(metas[1], json!({"topic": "sums", "id": null, "prompt": "q"}));
        let error = open("d.jsonl", rows, "meta = ['topc']").unwrap_err().to_string();
        assert!(error.contains("d.jsonl:1: meta, in all rows: the row has no field `topc`"), "{error}");
        let error = open("d.jsonl", rows, "meta = ['levl']").unwrap_err().to_string();
        assert!(error.contains("did you mean `level`?"), "{error}");
    }

    #[test]
    fn messages_references_and_arrays() {
        let content = "[\n {\"id\": 7, \"q\": \"a }\\\" b\", \"options\": [{\"x\": 1}]},\n\n {\"id\": \"z\", \"q\": \"c\", \"options\": []}\n]";
        let config = r#"
prompt = [{ role = "system", content = "S" }, { role = "user", content = "Q {{ q }}" }]
reference = { options = "{{ options }}", letters = "ABC", n = 2, deep = { list = ["{{ q }}"] } }
"#;
        let source = open("d.json", content, config).unwrap();
        assert_eq!(source.task(0).id, "7");
        assert_eq!(source.task(1).prompt[1], Message { role: "user".into(), content: "Q c".into() });
        assert_eq!(
            source.task(0).reference,
            json!({"deep": {"list": ["a }\" b"]}, "letters": "ABC", "n": 2, "options": [{"x": 1}]})
        );
        assert!(source.origin(0).ends_with(":2") && source.origin(1).ends_with(":4"), "{}", source.origin(1));
        assert!(source.example(0).unwrap_err().to_string().contains("no `completion`"));
    }

    #[test]
    fn conversations_are_read_or_refused_with_their_key() {
        let prompt =
            |prompt: Value| format!("{{\"id\": 1, \"prompt\": \"x\"}}\n{}\n", json!({ "prompt": prompt }));
        let parts = json!([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": null}]);
        let source = open("d.jsonl", &prompt(parts), "system = \"S\"").unwrap();
        let said: Vec<&str> = source.task(1).prompt.iter().map(|m| m.content.as_str()).collect();
        assert_eq!(said, ["S", "ab"]);
        // One system message is enough, wherever the conversation comes from.
        let begun = json!([{"role": "system", "content": "T"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]);
        for (rows, field) in
            [(prompt(begun.clone()), "prompt"), (format!("{}\n", json!({ "messages": begun })), "messages")]
        {
            let config = format!("{field} = \"{{{{ {field} }}}}\"");
            assert_eq!(open("d.jsonl", &rows, &config).unwrap().len(), rows.lines().count());
            let twice = format!("{field}: `{field}` begins with a system message, and `system` would");
            fails("d.jsonl", &rows, &format!("{config}\nsystem = \"S\""), &twice);
        }
        let text = "messages: `messages` must be a list of messages, not text";
        fails("d.jsonl", "{\"messages\": \"a\"}\n", "messages = \"{{ messages }}\"", text);
        for (value, part) in [
            (json!([{"role": "user", "content": "q", "name": "bob"}]), "d.jsonl:2: prompt: `prompt[0].name`"),
            (
                json!([{"role": "assistant", "content": null, "tool_calls": []}]),
                "d.jsonl:2: prompt: `prompt[0].tool_calls`",
            ),
            (json!({"role": "user", "content": "q"}), "d.jsonl:2: prompt: `prompt` is a single message"),
            (json!(null), "d.jsonl:2: prompt: `prompt` is null"),
            (json!(5), "d.jsonl:2: prompt: `prompt` must be text or a list of messages, not a number"),
            (json!(5), "prompt = \"{{ prompt | string }}\" makes text of it"),
            (
                json!(true),
                "d.jsonl:2: prompt: `prompt` must be text or a list of messages, not true or false",
            ),
        ] {
            fails("d.jsonl", &prompt(value), "", part);
        }
        let renamed = r#"{"messages": [{"role": "user"}], "q": null}"#;
        fails(
            "d.jsonl",
            renamed,
            "prompt = \"{{ messages }}\"",
            "d.jsonl:1: prompt: `messages[0]` has no `content`",
        );
        fails("d.jsonl", renamed, "prompt = \"Q: {{ messages }}\"", "a list of tables");
        fails("d.jsonl", renamed, "prompt = \"Q: {{ q }}\"", "d.jsonl:1: prompt: `q` is null");
    }

    #[test]
    fn errors_name_the_file_and_the_line() {
        fails(
            "d.jsonl",
            GSM8K,
            "prompt = \"{{ questoin }}\"",
            "d.jsonl:1: prompt: the row has no field `questoin`, did you mean `question`? (it has: question, answer)",
        );
        fails("d.jsonl", "{\"prompt\": \"a\"}\n{\"prompt\": \n", "", "d.jsonl:2: not JSON");
        fails("d.jsonl", "{\"prompt\": \"a\"}\n\n[1]\n", "", "d.jsonl:3: a row must be a JSON object");
        fails(
            "d.json",
            "[\n{\"prompt\": \"a\"},\n\n{}]",
            "",
            "d.json:4: prompt: the row has no field `prompt`",
        );
        fails("d.jsonl", GSM8K, "prompt = \"{{ question\"", "[data.d] prompt: ");
        fails("d.jsonl", GSM8K, "prompt = \"x\"\nfilter = \"question == 'no'\"", "no tasks");
        let missing: DataConfig = toml::from_str("kind = \"jsonl\"\npath = \"no/such/file.jsonl\"").unwrap();
        let error = TaskSource::open("d", &missing, 1).unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("no/such/file.jsonl"));
    }

    #[test]
    fn split_shuffle_and_limit() {
        let mut content = String::new();
        for i in 0..400 {
            writeln!(content, "{{\"id\": {i}, \"prompt\": \"task {i}\", \"s\": {}}}", i % 2).unwrap();
        }
        let ids = |config: &str| {
            let source = open("d.jsonl", &content, config).unwrap();
            (0..source.len()).map(|i| source.task(i).id.clone()).collect::<Vec<_>>()
        };
        let (train, heldout) =
            (ids("split = \"train\"\nheldout_frac = 0.2"), ids("split = \"heldout\"\nheldout_frac = 0.2"));
        assert_eq!(train.len() + heldout.len(), 400);
        assert!((50..110).contains(&heldout.len()), "{}", heldout.len());
        assert!(train.iter().all(|id| !heldout.contains(id)));
        assert_eq!(ids("limit = 3"), ["0", "1", "2"]);
        assert_eq!(ids("limit = 2\nfilter = \"s == 1\""), ["1", "3"]);
        let shuffled = ids("limit = 50\nshuffle = true");
        assert_eq!(shuffled.len(), 50);
        assert_ne!(shuffled, ids("limit = 50"));
        assert_eq!(shuffled, ids("limit = 50\nshuffle = true"));
    }
}
