//! What a trainer hands to a reward, as the rows that rewards judge: prompts, completions, and columns by name.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use rlvr_rewards::prompt_messages;
use rlvr_rewards::rows::CompletionRow;
use rlvr_rewards::task::{Message, Task};
use serde_json::{Map, Value};

use crate::value::to_json;

/// What trainers pass beside the columns.
const NO_COLUMNS: [&str; 4] = ["trainer_state", "log_extra", "log_metric", "environments"];

/// The rows of a call, and what was handed over and cannot be used.
pub struct Rows {
    /// In the order of the completions.
    pub rows: Vec<CompletionRow>,
    /// The columns that the reward sees.
    pub names: Vec<String>,
    /// Columns that it does not see, and why.
    pub unusable: Vec<(String, String)>,
}

/// The arguments of `f(completions, **columns)` and `f(prompts, completions, **columns)`, by place or by name.
pub struct Call<'py> {
    prompts: Option<Bound<'py, PyAny>>,
    completions: Bound<'py, PyAny>,
    columns: Vec<(String, Bound<'py, PyAny>)>,
}

impl<'py> Call<'py> {
    pub fn new(args: &Bound<'py, PyTuple>, named: Option<&Bound<'py, PyDict>>) -> PyResult<Self> {
        let mut places: Vec<Bound<'py, PyAny>> = args.iter().collect();
        if places.len() > 2 {
            let message =
                "takes completions, or prompts and completions; columns are given by name, as in answer=[…]";
            return Err(PyTypeError::new_err(message));
        }
        let mut completions = places.pop();
        let mut prompts = places.pop();
        let mut columns = Vec::new();
        for (name, value) in named.into_iter().flat_map(|named| named.iter()) {
            let name: String = name.extract()?;
            let place = match &*name {
                "prompts" => &mut prompts,
                "completions" => &mut completions,
                _ => {
                    columns.push((name, value));
                    continue;
                }
            };
            if place.replace(value).is_some() {
                return Err(PyTypeError::new_err(format!("{name} are given twice")));
            }
        }
        let completions = completions.ok_or_else(|| {
            PyTypeError::new_err("there are no completions; give a list of texts or of lists of messages")
        })?;
        let prompts = prompts.filter(|prompts| !prompts.is_none());
        Ok(Self { prompts, completions, columns })
    }

    /// The rows, where `reading` says which column stands for a field: `answer` for `solution`.
    pub fn rows(&self, reading: &[(String, String)], with_meta: bool) -> PyResult<Rows> {
        let texts = items("completions", &self.completions)?.map_err(|why| no_list("completions", &why))?;
        let texts: Vec<String> =
            texts.iter().enumerate().map(|(i, c)| completion(c, i)).collect::<PyResult<_>>()?;
        let n = texts.len();
        let prompts = self.prompts(n)?;
        let (mut columns, mut unusable, mut tokens) = (Vec::new(), Vec::new(), vec![None; n]);
        for (name, value) in &self.columns {
            if NO_COLUMNS.contains(&&**name) || value.is_none() {
                continue;
            }
            let cells = match items(name, value)? {
                Ok(cells) => cells,
                Err(why) => {
                    unusable.push((name.clone(), why));
                    continue;
                }
            };
            if cells.len() != n {
                return Err(lengths(name, cells.len(), n));
            }
            if name == "completion_ids" {
                tokens = cells.iter().map(|ids| ids.len().ok()).collect();
                continue;
            }
            match cells.iter().map(to_json).collect::<Result<Vec<_>, _>>() {
                Ok(values) => columns.push((name.clone(), values)),
                Err(why) => unusable.push((name.clone(), why)),
            }
        }
        for (field, column) in reading {
            match columns.iter().find(|(name, _)| name == column) {
                Some((_, values)) => {
                    let values = values.clone();
                    columns.retain(|(name, _)| name != field);
                    columns.push((field.clone(), values));
                }
                None => {
                    let given = columns.iter().map(|(name, _)| name.clone()).collect();
                    return Err(missing(column, given, &unusable));
                }
            }
        }
        let names = columns.iter().map(|(name, _)| name.clone()).collect();
        let mut rows = Vec::with_capacity(n);
        let mut ids = Ids::default();
        for (i, completion) in texts.into_iter().enumerate() {
            let fields: Map<String, Value> =
                columns.iter_mut().map(|(name, values)| (name.clone(), values[i].take())).collect();
            let prompt = prompts.get(i).cloned().unwrap_or_default();
            rows.push(row(i, prompt, completion, tokens[i], fields, with_meta, &mut ids));
        }
        Ok(Rows { rows, names, unusable })
    }

    fn prompts(&self, n: usize) -> PyResult<Vec<Vec<Message>>> {
        let Some(prompts) = &self.prompts else { return Ok(Vec::new()) };
        let prompts = items("prompts", prompts)?.map_err(|why| no_list("prompts", &why))?;
        if prompts.len() != n {
            return Err(lengths("prompts", prompts.len(), n));
        }
        // What no command of ours reads, such as pictures as objects, is no reason to judge nothing: of the verifiers
        // only programs of the user look at prompts.
        let read = |prompt: &Bound<'_, PyAny>| {
            to_json(prompt)
                .ok()
                .and_then(|prompt| prompt_messages(&prompt, "prompt").ok())
                .unwrap_or_default()
        };
        Ok(prompts.iter().map(read).collect())
    }
}

/// Numbers for the tasks of rows without an id: rows that follow each other with the same prompt are a group.
#[derive(Default)]
struct Ids {
    last: Option<Vec<Message>>,
    count: usize,
}

impl Ids {
    fn of(&mut self, prompt: &[Message]) -> String {
        if prompt.is_empty() || self.last.as_deref() != Some(prompt) {
            self.count += 1;
            self.last = Some(prompt.to_vec());
        }
        self.count.to_string()
    }
}

fn row(
    i: usize,
    prompt: Vec<Message>,
    completion: String,
    tokens: Option<usize>,
    mut fields: Map<String, Value>,
    with_meta: bool,
    ids: &mut Ids,
) -> CompletionRow {
    let id = match fields.get("id") {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        _ => ids.of(&prompt),
    };
    let truncated = fields.get("truncated") == Some(&Value::Bool(true))
        || fields.get("finish_reason").and_then(Value::as_str) == Some("length");
    let tokens = tokens.or_else(|| fields.get("tokens").and_then(Value::as_u64).map(|n| n as usize));
    let given = fields.shift_remove("reference");
    let meta = if with_meta { fields.clone() } else { Map::new() };
    let reference = given.unwrap_or(Value::Object(fields));
    let task = Task { id, prompt, reference, meta, ..Task::default() };
    CompletionRow { id: Value::from(i), task, completion, truncated, tokens }
}

/// The entries of what is handed over as a list; why it is none. A text, which Python takes for a list of letters, is a
/// mistake in any case.
fn items<'py>(name: &str, value: &Bound<'py, PyAny>) -> PyResult<Result<Vec<Bound<'py, PyAny>>, String>> {
    let kind = value.get_type().name()?.to_string();
    if value.is_instance_of::<PyString>() || value.is_instance_of::<PyBytes>() {
        let message = format!("{name} must be a list with one entry a completion; it is a {kind}");
        return Err(PyTypeError::new_err(message));
    }
    let listed =
        value.is_instance_of::<PyList>() || value.hasattr("__getitem__")? && value.hasattr("__len__")?;
    if !listed || value.is_instance_of::<PyDict>() {
        return Ok(Err(format!("is a {kind} and no list with one entry a completion")));
    }
    value.try_iter()?.collect::<PyResult<Vec<_>>>().map(Ok)
}

fn no_list(name: &str, why: &str) -> PyErr {
    PyTypeError::new_err(format!("{name} cannot be used: it {why}"))
}

fn lengths(name: &str, found: usize, n: usize) -> PyErr {
    PyValueError::new_err(format!("{name} must have one entry a completion; there are {found} for {n}"))
}

/// A column that a reward needs and does not get.
pub fn missing(column: &str, mut given: Vec<String>, unusable: &[(String, String)]) -> PyErr {
    if let Some((_, why)) = unusable.iter().find(|(name, _)| name == column) {
        return PyValueError::new_err(format!("the column {column:?} cannot be used: it {why}"));
    }
    given.sort();
    let given = if given.is_empty() { "no columns".to_owned() } else { given.join(", ") };
    PyValueError::new_err(format!(
        "there is no column {column:?}; given: {given}. A column of another name is read with \
         reading({column}=\"its name\")"
    ))
}

/// The text of a completion: itself, or what the last message of the assistant says.
fn completion(value: &Bound<'_, PyAny>, i: usize) -> PyResult<String> {
    let wrong = |what: String| {
        PyTypeError::new_err(format!("completion {i} must be a text or a list of messages; {what}"))
    };
    match to_json(value).map_err(|why| wrong(format!("it {why}")))? {
        Value::String(text) => Ok(text),
        Value::Array(messages) => {
            let role = |m: &Value| m.get("role").and_then(Value::as_str).map(str::to_owned);
            if let Some(other) = messages.iter().find(|m| role(m).is_none()) {
                return Err(wrong(format!("{other} is no message with a role")));
            }
            let last = messages.iter().rev().find(|m| role(m).as_deref() == Some("assistant"));
            Ok(last.map_or_else(String::new, |message| said(&message["content"])))
        }
        other => Err(wrong(format!("it is {other}"))),
    }
}

/// The content of a message as text: itself, or its text parts one after the other.
fn said(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
        _ => String::new(),
    }
}
