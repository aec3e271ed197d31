//! Rows of a benchmark's file become items.

use std::path::{Path, PathBuf};

use rlvr_rewards::{Message, RewardConfig, Task, TaskImage};
use serde_json::{Map, Value, json};

use super::benchmark::OpenSettings;
use super::item::{Choice, Item, PromptParts, gold, lettered, shuffle};
use super::task_file::{Continuation, Fields, TaskFile};
use crate::curate::validate::messages;
use crate::data::jsonl::{self, JsonlConfig, add_reference, render_reference};
use crate::data::template::{TemplateRow, Templates};
use crate::data::{DataError, TaskKey, placed_images, row_images};
use crate::rows::{id, missing};

/// Broken rows that are described; the rest is left out.
const MAX_PROBLEMS: usize = 100;

/// Turns rows into items.
pub(super) struct RowReader<'a> {
    task: &'a TaskFile,
    fields: &'a Fields,
    settings: &'a OpenSettings,
    templates: Templates,
    /// The fields of a row that question and context are made of.
    read: Vec<String>,
}

/// What came of a row.
pub(super) struct Drawn {
    /// The item, its prompts without examples.
    pub item: Item,
    /// The solution as an example shows it.
    pub completion: String,
    /// The right option as it is scored.
    pub continuation: String,
    /// What one should know about the item.
    pub note: Option<&'static str>,
}

impl<'a> RowReader<'a> {
    pub(super) fn new(
        task: &'a TaskFile,
        fields: &'a Fields,
        settings: &'a OpenSettings,
    ) -> Result<Self, DataError> {
        let mut templates = Templates::new(&task.name);
        let parts = [
            ("fields.id", &fields.id),
            ("fields.question", &Some(fields.question.clone())),
            ("fields.context", &fields.context),
            ("fields.answer", &Some(fields.answer.clone())),
            ("fields.group", &fields.group),
            ("prompt", &task.prompt),
            ("likelihood.prompt", &task.likelihood.as_ref().map(|l| l.prompt.clone())),
            ("few_shot.completion", &task.few_shot.as_ref().map(|f| f.completion.clone())),
        ];
        for (field, source) in parts {
            if let Some(source) = source {
                templates.add(field, source)?;
            }
        }
        if let Some(options) = &fields.options {
            add_reference(&mut templates, "fields.options", options)?;
        }
        for (key, value) in &fields.reference {
            add_reference(&mut templates, &format!("fields.reference.{key}"), value)?;
        }
        if let Some(images) = &fields.images {
            images.add_to(&mut templates)?;
        }
        let read = templates.reads(&["fields.question".to_owned(), "fields.context".to_owned()]);
        Ok(Self { task, fields, settings, templates, read })
    }

    /// The rows that pass `filter`, and what is wrong with others, each with its line.
    pub(super) fn read(
        &self,
        path: &Path,
        filter: Option<&str>,
        example: bool,
    ) -> Result<(Vec<Drawn>, Vec<DataError>), DataError> {
        let mut drawn = Vec::new();
        let folder = path.parent().unwrap_or(Path::new(""));
        let below = self.task.source.as_ref().and_then(|source| source.images.as_ref());
        let folder = below.map_or(folder.to_owned(), |below| folder.join(below));
        let problems = each_row(&self.task.name, path, &mut |line, jsonl::Fields { fields, numbers }| {
            let row = TemplateRow::with_itself(fields);
            // What is compared is a number, also where its digits are kept as text.
            let compared = numbers.map(TemplateRow::with_itself);
            let compared = compared.as_ref().unwrap_or(&row);
            if self.passes(filter, compared)? {
                self.check_schema(&row, compared)?;
                let mut found = self.draw(&row, (drawn.len(), &folder), example)?;
                found.item.place = format!("{}:{line}", path.display());
                drawn.push(found);
            }
            Ok(())
        })?;
        Ok((drawn, problems))
    }

    fn passes(&self, filter: Option<&str>, row: &TemplateRow) -> Result<bool, String> {
        filter.map_or(Ok(true), |filter| self.templates.holds("filter", filter, row))
    }

    /// The item of a row, the `number`th of a file in `folder`.
    fn draw(
        &self,
        row: &TemplateRow,
        (number, folder): (usize, &Path),
        example: bool,
    ) -> Result<Drawn, String> {
        let fields = self.fields;
        let id = self.id(row, number)?;
        let asked = self.prose("fields.question", &fields.question, row)?;
        let mut question = asked.clone();
        let mut context = match &fields.context {
            Some(source) => self.prose("fields.context", source, row)?,
            None => String::new(),
        };
        let answer = self.text("fields.answer", &fields.answer, row)?;
        let group = fields.group.as_ref().map(|source| self.text("fields.group", source, row)).transpose()?;
        let mut options = self.options(row)?;
        let mut gold = gold(&options, &answer);
        let mut note = None;
        let mut label = answer.clone();
        if let (Some(seed), false) = (self.settings.shuffle_options, options.is_empty()) {
            match self.shuffle(&mut options, seed, &id) {
                Ok(places) => {
                    gold = gold.map(|old| places[old]);
                    if let Some(new) = gold {
                        options[new].label.clone_into(&mut label);
                    }
                }
                Err(why) => note = Some(why),
            }
        }
        if self.settings.no_context {
            match (fields.context.is_some(), options.is_empty()) {
                (true, _) => context.clear(),
                (false, false) => question.clear(),
                (false, true) => note = Some("there is neither a context nor are there options: not changed"),
            }
        }
        let reference = self.reference(row, &label, &options)?;
        let shown = gold.map_or(answer.clone(), |g| options[g].label.clone());
        let values = Self::values(row, [&question, &context, &answer, &shown], &options);
        let pictures = match &fields.images {
            Some(images) => images.values(&self.templates, row)?,
            None => Vec::new(),
        };
        let parts = |field: &str| self.parts(field, &values, &pictures, folder);
        let ranked = self.task.likelihood.as_ref().map(|_| parts("likelihood.prompt")).transpose()?;
        let likelihood = ranked.map(|(prompt, _)| prompt);
        let of = self.settings.likelihood_of.or(self.task.likelihood.as_ref().map(|l| l.of));
        let continuation = gold.map_or(String::new(), |g| continuation(&options[g], of.unwrap_or_default()));
        let completion = match &self.task.few_shot {
            Some(_) if example => self.templates.text("few_shot.completion", &values)?,
            Some(_) | None => String::new(),
        };
        let (prompt, images) = parts("prompt")?;
        let key = TaskKey::of_row(&row.fields, None).with_prompt(&prompt.messages(false));
        let key = key.with_read(&row.fields, &self.read).with_reference(&json!({"answer": answer}));
        let key = key.with_images(&images);
        let key = Some(if fields.id.is_some() { key.with_id(&id) } else { key });
        let prompt = Some(prompt);
        let task = Task { images, ..Task::new(id, Value::Object(reference)) }.with_row(row.fields.clone());
        let place = String::new();
        let item = Item { task, place, group, question: Some(asked), options, gold, prompt, likelihood, key };
        Ok(Drawn { item, completion, continuation, note })
    }

    /// A number whose digits are kept as text is of either kind.
    fn check_schema(&self, row: &TemplateRow, compared: &TemplateRow) -> Result<(), String> {
        for (field, kinds) in &self.task.schema {
            match row.fields.get(field) {
                None => return Err(format!("schema: the row has no `{field}`, a {kinds}")),
                Some(value)
                    if !kinds.hold(value) && !compared.fields.get(field).is_some_and(|v| kinds.hold(v)) =>
                {
                    return Err(format!("schema: `{field}` is no {kinds} but {}", kind_of(value)));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// What a template makes of a row, as text.
    fn text(&self, field: &str, source: &str, row: &TemplateRow) -> Result<String, String> {
        match self.templates.value(field, source, row)? {
            Value::String(text) => Ok(text),
            Value::Null => Err(format!("{field}: it is null")),
            value => Ok(value.to_string()),
        }
    }

    /// [`Self::text`] for people: nobody would ask a policy the JSON of a list.
    fn prose(&self, field: &str, source: &str, row: &TemplateRow) -> Result<String, String> {
        match self.templates.value(field, source, row)? {
            value @ (Value::Array(_) | Value::Object(_)) => {
                Err(format!("{field}: text is needed, not {}", kind_of(&value)))
            }
            _ => self.text(field, source, row),
        }
    }

    fn id(&self, row: &TemplateRow, number: usize) -> Result<String, String> {
        match (&self.fields.id, row.fields.get("id")) {
            (Some(source), _) => self.text("fields.id", source, row),
            (None, Some(Value::String(id))) => Ok(id.clone()),
            (None, Some(Value::Number(id))) => Ok(id.to_string()),
            (None, _) => Ok(format!("{}-{number}", self.task.name)),
        }
    }

    /// Shuffles options and returns where each went, or why they stay.
    fn shuffle(&self, options: &mut [Choice], seed: u64, id: &str) -> Result<Vec<usize>, &'static str> {
        let fixed = matches!(&self.fields.options, Some(toml::Value::Array(list))
            if list.iter().all(|o| o.as_str().is_some_and(|t| !t.contains("{{"))));
        if fixed {
            return Err("the options are always the same and were not shuffled");
        }
        shuffle(options, seed, id).ok_or("an option speaks of the others, so they were not shuffled")
    }

    fn reference(
        &self,
        row: &TemplateRow,
        label: &str,
        options: &[Choice],
    ) -> Result<Map<String, Value>, String> {
        let mut reference = Map::new();
        reference.insert("answer".into(), json!(label));
        if !options.is_empty() {
            let texts: Vec<&String> = options.iter().map(|o| &o.text).collect();
            reference.insert("options".into(), json!(texts));
            let labels: String = options.iter().map(|o| o.label.as_str()).collect();
            if !"ABCDEFGHIJKLMNOPQRSTUVWXYZ".starts_with(&labels) {
                reference.insert("letters".into(), json!(labels));
            }
        }
        for (key, value) in &self.fields.reference {
            let value = render_reference(&self.templates, &format!("fields.reference.{key}"), value, row)?;
            reference.insert(key.clone(), value);
        }
        Ok(reference)
    }

    /// What the templates of prompts see.
    fn values(
        row: &TemplateRow,
        [question, context, answer, label]: [&str; 4],
        options: &[Choice],
    ) -> TemplateRow {
        let mut values = row.fields.clone();
        values.insert("row".into(), Value::Object(row.fields.clone()));
        let listed: Vec<Value> = options.iter().map(|o| json!({"label": o.label, "text": o.text})).collect();
        for (key, value) in [
            ("question", json!(question)),
            ("context", json!(context)),
            ("answer", json!(answer)),
            ("label", json!(label)),
            ("lettered", json!(lettered(options))),
            ("options", Value::Array(listed)),
        ] {
            values.insert(key.into(), value);
        }
        TemplateRow::new(values)
    }

    /// The parts of a prompt, and the pictures in the places of its text.
    fn parts(
        &self,
        field: &str,
        values: &TemplateRow,
        pictures: &[Value],
        folder: &Path,
    ) -> Result<(PromptParts, Vec<TaskImage>), String> {
        let mut user = [Message { role: "user".into(), content: self.templates.text(field, values)? }];
        let images = placed_images(&mut user, pictures, folder)?;
        let [Message { content: user, .. }] = user;
        let system = self.settings.system.clone().or_else(|| self.task.system.clone());
        Ok((PromptParts { system, shots: Vec::new(), user }, images))
    }

    /// The options of a row; empty where the benchmark has none.
    fn options(&self, row: &TemplateRow) -> Result<Vec<Choice>, String> {
        let Some(source) = &self.fields.options else { return Ok(Vec::new()) };
        let mut found = render_reference(&self.templates, "fields.options", source, row)?;
        if let Some(list) = found.as_str().and_then(python_list) {
            found = list.into();
        }
        // Where open questions are judged by themselves, one without options is one.
        if found.as_array().is_some_and(Vec::is_empty)
            && matches!(self.task.reward, RewardConfig::ByReference { .. })
        {
            return Ok(Vec::new());
        }
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.trim().to_owned()).filter(|t| !t.is_empty()),
            Value::Null => None,
            other => Some(other.to_string()),
        };
        let given: Option<Vec<String>> =
            self.fields.labels.as_ref().map(|labels| labels.chars().map(String::from).collect());
        let options: Vec<Choice> = match found {
            Value::Object(table) => {
                let mut options: Vec<Choice> = (table.iter())
                    .filter_map(|(label, value)| Some(Choice { label: label.clone(), text: text(value)? }))
                    .collect();
                options.sort_by(|a, b| a.label.cmp(&b.label));
                options
            }
            Value::Array(list) => {
                let labels = given.unwrap_or_else(|| ('A'..='Z').map(String::from).collect());
                if list.len() > labels.len() {
                    return Err(format!("there are {} options and {} labels", list.len(), labels.len()));
                }
                (list.iter().zip(labels))
                    .filter_map(|(value, label)| Some(Choice { label, text: text(value)? }))
                    .collect()
            }
            other => {
                return Err(format!("fields.options: a list or table is needed, not {}", kind_of(&other)));
            }
        };
        if options.len() < 2 {
            return Err(format!("there are {} options, at least 2 are needed", options.len()));
        }
        Ok(options)
    }
}

/// Rows that are tasks as they are, and what is wrong with others, each with its line.
pub(super) fn whole_tasks(task: &TaskFile, path: &Path) -> Result<(Vec<Item>, Vec<DataError>), DataError> {
    let mut items = Vec::new();
    let problems = each_row(&task.name, path, &mut |line, jsonl::Fields { fields, .. }| {
        let key = TaskKey::of_row(&fields, None);
        let task = whole_task(fields, path.parent().unwrap_or(Path::new("")))?;
        let place = format!("{}:{line}", path.display());
        let key = key.with_prompt(&task.prompt).with_reference(&task.reference);
        let key = key.with_images(&task.images);
        items.push(Item { key: Some(key), task, place, ..Item::default() });
        Ok(())
    })?;
    Ok((items, problems))
}

fn whole_task(mut fields: Map<String, Value>, folder: &Path) -> Result<Task, String> {
    let mut prompt = messages(&fields)?;
    let pictures = row_images(&fields);
    fields.shift_remove("images");
    let images = placed_images(&mut prompt, &pictures, folder)?;
    fields.insert("prompt".into(), json!(prompt));
    fields.insert("id".into(), json!(id(&fields).ok_or_else(|| missing(&fields, "id"))?));
    let task: Task =
        serde_json::from_value(Value::Object(fields)).map_err(|e| format!("the row is no task: {e}"))?;
    Ok(Task { images, ..task })
}

/// Hands the rows of a file to `take`, and returns what it says is wrong with them, each with its line.
fn each_row(
    name: &str,
    path: &Path,
    take: &mut dyn FnMut(usize, jsonl::Fields) -> Result<(), String>,
) -> Result<Vec<DataError>, DataError> {
    let mut problems = Vec::new();
    let file = JsonlConfig::all_of(path.to_path_buf());
    let ended = file.rows(name, &mut |line, row| {
        if let Err(message) = take(line, row) {
            problems.push(DataError::Row { path: PathBuf::from(path), line, message });
        }
        Ok(problems.len() < MAX_PROBLEMS)
    });
    match ended {
        Err(row @ DataError::Row { .. }) => problems.push(row),
        other => other?,
    }
    Ok(problems)
}

/// What is scored of an option.
pub(super) fn continuation(option: &Choice, of: Continuation) -> String {
    match of {
        Continuation::Label => option.label.clone(),
        Continuation::Text => option.text.clone(),
    }
}

/// The texts of a list as Python writes it, `['a', "b's"]`; none of anything else.
fn python_list(text: &str) -> Option<Vec<String>> {
    let mut rest = text.trim().strip_prefix('[')?.strip_suffix(']')?.trim();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (mut item, mut end) = (String::new(), None);
        let mut letters = rest.char_indices().skip(1);
        while let Some((at, c)) = letters.next() {
            match c {
                '\\' => match letters.next()?.1 {
                    'n' => item.push('\n'),
                    't' => item.push('\t'),
                    same @ ('\\' | '\'' | '"') => item.push(same),
                    other => item.extend(['\\', other]),
                },
                c if c == quote => {
                    end = Some(at + 1);
                    break;
                }
                c => item.push(c),
            }
        }
        found.push(item);
        rest = rest[end?..].trim_start();
        rest = match rest.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if rest.is_empty() => rest,
            None => return None,
        };
    }
    Some(found)
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a bool",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_python_are_read_and_nothing_else() {
        let list = |texts: &[&str]| Some(texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>());
        assert_eq!(python_list("['a', \"b's\", 'it\\'s, so']"), list(&["a", "b's", "it's, so"]));
        assert_eq!(python_list("['$\\\\alpha$', 'é',]"), list(&["$\\alpha$", "é"]));
        assert_eq!(python_list(" [] "), list(&[]));
        for other in ["", "a", "['a'", "['a' 'b']", "[1, 2]", "['a\\"] {
            assert_eq!(python_list(other), None, "{other}");
        }
    }
}
