//! How rows of known data sets, and rows described by flags, become tasks.
//!
//! A task is `{"id", "prompt", "question", "context"?, "reference": {"answer", "options"?, "letters"?}, "completion"?,
//! "meta"}`. `prompt` is complete but for an instruction on the form of the answer: context, question, lettered options.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::pictures;
use crate::random;
use crate::rows;
use rlvr_rewards::prompt_messages;

/// A data set whose rows are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// `{"question", "answer": "… #### N"}`.
    Gsm8k,
    /// `{"problem", "answer"?, "solution"?, "level"?, "type" or "subject"?}`; without `answer` the last `\boxed{}` of
    /// the solution counts.
    Math,
    /// `{"question", "options": list or {"A": …}, "answer_idx" or "answer"}`: a label, or the text of an option.
    Medqa,
    /// `{"question", "opa", "opb", "opc", "opd", "cop", "exp"?}`, or as `medqa`.
    Medmcqa,
    /// `{"question", "context", "final_decision" or "answer", "long_answer"?}`: yes, no or maybe.
    Pubmedqa,
    /// `{"question", "choices" or "options", "answer": index or label, "subject"?}`.
    Mmlu,
    /// Rows that are tasks already: `{"prompt", "reference"}`.
    Task,
}

impl Shape {
    /// All shapes with their names.
    pub const ALL: [(&'static str, Self); 7] = [
        ("gsm8k", Self::Gsm8k),
        ("math", Self::Math),
        ("medqa", Self::Medqa),
        ("medmcqa", Self::Medmcqa),
        ("pubmedqa", Self::Pubmedqa),
        ("mmlu", Self::Mmlu),
        ("task", Self::Task),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, shape)| *shape == self).map_or("", |(name, _)| name)
    }

    /// The shape that the fields of a row suggest.
    pub fn guess(fields: &Map<String, Value>) -> Option<Self> {
        let has = |name: &str| fields.get(name).is_some_and(|v| !v.is_null());
        let answer = fields.get("answer").and_then(Value::as_str).unwrap_or_default();
        let decides = |text: &str| matches!(text.to_lowercase().as_str(), "yes" | "no" | "maybe");
        let lists = has("choices") || has("options");
        Some(if has("prompt") && has("reference") {
            Self::Task
        } else if has("opa") && has("opd") {
            Self::Medmcqa
        } else if has("final_decision") || (has("context") && !lists && decides(answer)) {
            Self::Pubmedqa
        } else if has("problem") && ["answer", "solution"].iter().any(|name| fields.contains_key(*name)) {
            Self::Math
        } else if has("question") && has("choices") {
            Self::Mmlu
        } else if has("question") && has("options") && (has("answer") || has("answer_idx")) {
            Self::Medqa
        } else if has("question") && answer.contains("####") {
            Self::Gsm8k
        } else {
            return None;
        })
    }
}

/// Which fields of a row become which of a task, for data sets that are not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mapping {
    /// The question. None: a known shape is looked for.
    pub question: Option<String>,
    /// The answer: text, or for a choice the label, the index from `label_base`, or the text of an option.
    pub answer: Option<String>,
    /// The options: one field with a list, an object or JSON text, or one field an option.
    pub options: Vec<String>,
    /// What is read before the question.
    pub context: Option<String>,
    /// The id. None: `id`, or a hash of the content where there is none. Empty: always the hash.
    pub id: Option<String>,
    /// A worked solution that supervised training may learn.
    pub completion: Option<String>,
    /// What is cut from the answer: everything up to and including the last occurrence of this text, such as `####`.
    pub answer_after: Option<String>,
}

/// How rows become tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reading {
    /// The shape; none: guessed from each row.
    pub shape: Option<Shape>,
    /// Fields, for other data sets.
    pub mapping: Mapping,
    /// Index of the first option where the answer is a number: 0 or 1. Default 0.
    pub label_base: u8,
    /// Put before every id. Default nothing.
    pub prefix: String,
}

/// What a row says, before it becomes a task.
#[derive(Default)]
struct Parts {
    question: String,
    context: Option<String>,
    options: Vec<String>,
    answer: String,
    letters: Option<&'static str>,
    completion: Option<String>,
    kind: &'static str,
    /// Fields that have been used.
    used: Vec<String>,
}

/// A row as a task.
///
/// # Errors
/// A row that has not what its shape asks for.
pub fn task(fields: &Map<String, Value>, reading: &Reading) -> Result<Value, String> {
    let (shape, parts) = if reading.mapping.question.is_some() {
        ("row", mapped(fields, reading)?)
    } else {
        let names = || rows::names(fields.keys().map(String::as_str));
        let shape = reading.shape.or_else(|| Shape::guess(fields)).ok_or_else(|| {
            format!(
                "the row is of no known shape; say which fields are --question and --answer (it has: {})",
                names()
            )
        })?;
        if shape == Shape::Task {
            return finished(fields, reading);
        }
        (shape.name(), shaped(fields, shape, reading).map_err(|e| format!("{e} (read as {})", shape.name()))?)
    };
    let id_field = reading.mapping.id.as_deref();
    let id = match id_field {
        Some("") => content_id(shape, &parts, fields),
        Some(name) => {
            rows::field(fields, name).map(rows::plain).ok_or_else(|| rows::missing(fields, name))?
        }
        None => ["id", "unique_id", "pubid", "pmid"]
            .iter()
            .find_map(|name| fields.get(*name).filter(|v| v.is_string() || v.is_number()).map(rows::plain))
            .filter(|id| !id.is_empty())
            .unwrap_or_else(|| content_id(shape, &parts, fields)),
    };
    Ok(build(format!("{}{id}", reading.prefix), parts, fields, shape, id_field))
}

/// The same content has the same id, in any file and at any line.
fn content_id(shape: &str, parts: &Parts, fields: &Map<String, Value>) -> String {
    let content = [&*parts.question, &parts.answer, parts.context.as_deref().unwrap_or_default()];
    let mut all: Vec<&str> = content.into_iter().chain(parts.options.iter().map(String::as_str)).collect();
    let pictures: Vec<String> = pictures::values(fields).into_iter().map(rows::plain).collect();
    all.extend(pictures.iter().map(String::as_str));
    format!("{shape}-{:016x}", random::hash_bytes(all.join("\u{1f}").as_bytes()))
}

fn build(
    id: String,
    parts: Parts,
    fields: &Map<String, Value>,
    shape: &str,
    id_field: Option<&str>,
) -> Value {
    let mut prompt = parts.context.as_ref().map_or(String::new(), |c| format!("{c}\n\n"));
    prompt.push_str(&parts.question);
    let mut reference = json!({"answer": parts.answer});
    if !parts.options.is_empty() {
        if parts.letters.is_none() {
            prompt.push('\n');
            for (option, letter) in parts.options.iter().zip('A'..='Z') {
                prompt.push_str(&format!("\n{letter}. {option}"));
            }
        }
        reference["options"] = json!(parts.options);
    }
    if let Some(letters) = parts.letters {
        reference["letters"] = json!(letters);
    }
    let mut meta = Map::new();
    meta.insert("dataset".into(), fields.get("dataset").cloned().unwrap_or_else(|| json!(shape)));
    meta.insert("type".into(), json!(parts.kind));
    let ids = ["id", "unique_id", "pubid", "pmid", "type", "dataset", "image", "images"];
    for (name, value) in fields {
        let known =
            parts.used.iter().any(|used| used == name) || ids.contains(&&**name) || id_field == Some(name);
        if !known && !value.is_null() {
            meta.insert(name.clone(), value.clone());
        }
    }
    if let Some(topic) = fields.get("type").filter(|_| parts.kind == "math") {
        meta.insert("topic".into(), topic.clone());
    }
    let mut task = json!({"id": id, "prompt": prompt, "question": parts.question});
    if let Some(context) = parts.context {
        task["context"] = json!(context);
    }
    // Pictures stay where every command looks for them.
    for name in ["image", "images"] {
        if let Some(value) = fields.get(name).filter(|value| !value.is_null()) {
            task[name] = value.clone();
        }
    }
    task["reference"] = reference;
    if let Some(completion) = parts.completion {
        task["completion"] = json!(completion);
    }
    task["meta"] = Value::Object(meta);
    task
}

/// A row that is a task: it gets an id when it has none.
fn finished(fields: &Map<String, Value>, reading: &Reading) -> Result<Value, String> {
    for name in ["prompt", "reference"] {
        if fields.get(name).is_none_or(Value::is_null) {
            return Err(rows::missing(fields, name));
        }
    }
    // What no other command would read does not become a task.
    prompt_messages(&fields["prompt"], "prompt")?;
    let id = rows::id(fields).unwrap_or_else(|| {
        let both = format!("{}\u{1f}{}", fields["prompt"], fields["reference"]);
        format!("task-{:016x}", random::hash_bytes(both.as_bytes()))
    });
    let mut task = Map::new();
    task.insert("id".into(), json!(format!("{}{id}", reading.prefix)));
    task.extend(
        fields.iter().filter(|(name, _)| *name != "id").map(|(name, value)| (name.clone(), value.clone())),
    );
    Ok(Value::Object(task))
}

fn text(fields: &Map<String, Value>, name: &str) -> Result<String, String> {
    match rows::field(fields, name) {
        None | Some(Value::Null) => Err(rows::missing(fields, name)),
        Some(Value::Array(items)) if !items.is_empty() && items.iter().all(Value::is_string) => {
            Ok(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n"))
        }
        Some(value @ (Value::Array(_) | Value::Object(_))) => Err(format!("`{name}` is {value}, not text")),
        Some(value) => {
            let text = rows::plain(value).trim().to_owned();
            if text.is_empty() { Err(format!("`{name}` is empty")) } else { Ok(text) }
        }
    }
}

/// A question, which is text: a number or `true` is a mistake of the file, and other commands refuse it too.
fn asked(fields: &Map<String, Value>, name: &str) -> Result<String, String> {
    match rows::field(fields, name) {
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Err(format!("`{name}` is {value}, not text")),
        _ => text(fields, name),
    }
}

/// The first of some fields that the row has.
fn first(fields: &Map<String, Value>, names: &[&str]) -> Option<String> {
    let present = |name: &&&str| fields.get(**name).is_some_and(|v| !v.is_null());
    names.iter().find(present).map(|name| (*name).to_owned())
}

fn shaped(fields: &Map<String, Value>, shape: Shape, reading: &Reading) -> Result<Parts, String> {
    match shape {
        Shape::Gsm8k => grade_school(fields),
        Shape::Math => mathematics(fields),
        Shape::Pubmedqa => yes_no_maybe(fields),
        Shape::Medqa | Shape::Medmcqa | Shape::Mmlu => choice(fields, reading),
        Shape::Task => Err("the row is a task".into()),
    }
}

fn used(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn grade_school(fields: &Map<String, Value>) -> Result<Parts, String> {
    let solution = text(fields, "answer")?;
    let (_, answer) = solution.rsplit_once("####").ok_or("`answer` has no `#### N`")?;
    Ok(Parts {
        question: asked(fields, "question")?,
        answer: answer.trim().replace(',', ""),
        completion: Some(solution.clone()),
        kind: "math",
        used: used(&["question", "answer"]),
        ..Parts::default()
    })
}

fn mathematics(fields: &Map<String, Value>) -> Result<Parts, String> {
    let solution = text(fields, "solution").ok();
    let answer = match (text(fields, "answer"), &solution) {
        (Ok(answer), _) => answer,
        (Err(_), Some(solution)) => {
            boxed(solution).ok_or("no `answer`, and `solution` has no \\boxed{} that closes")?.to_owned()
        }
        (Err(e), None) => return Err(e),
    };
    Ok(Parts {
        question: asked(fields, "problem")?,
        answer,
        completion: solution,
        kind: "math",
        used: used(&["problem", "answer", "solution"]),
        ..Parts::default()
    })
}

/// What the last `\boxed{}` holds.
fn boxed(text: &str) -> Option<&str> {
    let body = &text[text.rfind("\\boxed{")? + "\\boxed{".len()..];
    let mut depth = 1;
    let end = body.char_indices().find(|(_, c)| {
        depth += i32::from(*c == '{') - i32::from(*c == '}');
        depth == 0
    });
    end.map(|(end, _)| body[..end].trim())
}

fn yes_no_maybe(fields: &Map<String, Value>) -> Result<Parts, String> {
    let name = first(fields, &["final_decision", "answer"]).unwrap_or_else(|| "final_decision".into());
    let answer = text(fields, &name)?.to_lowercase();
    if !["yes", "no", "maybe"].contains(&answer.as_str()) {
        return Err(format!("`{name}` is {answer:?} and must be yes, no or maybe"));
    }
    let context = match rows::field(fields, "context.contexts") {
        Some(_) => text(fields, "context.contexts")?,
        None => {
            text(fields, &first(fields, &["context", "contexts", "CONTEXTS"]).unwrap_or("context".into()))?
        }
    };
    let question = first(fields, &["question", "QUESTION"]).unwrap_or("question".into());
    let completion = first(fields, &["long_answer", "rationale", "LONG_ANSWER"]);
    let mut parts = Parts {
        question: asked(fields, &question)?,
        context: Some(context),
        options: used(&["yes", "no", "maybe"]),
        answer,
        letters: Some("YNM"),
        kind: "yes_no_maybe",
        used: used(&["question", "context", "contexts", "QUESTION", "CONTEXTS", "answer", "final_decision"]),
        ..Parts::default()
    };
    // A conclusion is no worked solution: it stays beside the task.
    parts.used.retain(|name| Some(name) != completion.as_ref());
    Ok(parts)
}

fn choice(fields: &Map<String, Value>, reading: &Reading) -> Result<Parts, String> {
    let listed = first(fields, &["options", "choices"]);
    let (options, mut names) = match &listed {
        Some(name) => (option_list(&fields[name.as_str()])?, vec![name.clone()]),
        None => {
            let names = ["opa", "opb", "opc", "opd", "ope"];
            let there: Vec<&str> =
                names.into_iter().filter(|n| fields.get(*n).is_some_and(|v| !v.is_null())).collect();
            if there.is_empty() {
                return Err(rows::missing(fields, "options"));
            }
            (there.iter().map(|n| text(fields, n)).collect::<Result<_, _>>()?, used(&there))
        }
    };
    let answer = first(fields, &["answer_idx", "cop", "answer"]).unwrap_or_else(|| "answer".into());
    let label = label(fields, &answer, &options, reading.label_base)?;
    names.extend(used(&["question", "answer", "answer_idx", "answer_text", "cop"]));
    names.push("context".into());
    Ok(Parts {
        question: asked(fields, "question")?,
        context: text(fields, "context").ok(),
        options,
        answer: label,
        kind: "choice",
        used: names,
        ..Parts::default()
    })
}

fn option_list(value: &Value) -> Result<Vec<String>, String> {
    let parsed: Option<Value> = value.as_str().and_then(|text| serde_json::from_str(text).ok());
    let options: Vec<String> = match parsed.as_ref().unwrap_or(value) {
        // MedQA's newer form is a list of {"key", "value"}.
        Value::Array(items) => items
            .iter()
            .map(|item| item.get("value").map_or_else(|| rows::plain(item), rows::plain))
            .collect(),
        Value::Object(items) => items.values().map(rows::plain).collect(),
        other => return Err(format!("the options are {other}, not a list")),
    };
    match options.len() {
        2..=26 => Ok(options),
        n => Err(format!("{n} options; a choice has 2 to 26")),
    }
}

/// The label of the right option, from a label, an index or a text.
fn label(fields: &Map<String, Value>, name: &str, options: &[String], base: u8) -> Result<String, String> {
    let value =
        rows::field(fields, name).filter(|v| !v.is_null()).ok_or_else(|| rows::missing(fields, name))?;
    let letter = |index: usize| char::from(b'A' + index as u8).to_string();
    let said = rows::plain(value).trim().to_owned();
    let is_index = value.is_number() || name == "cop";
    if let Some(index) = options.iter().position(|o| o.trim() == said).filter(|_| !is_index) {
        return Ok(letter(index));
    }
    if let [letter] = said.to_uppercase().as_bytes()
        && letter.is_ascii_uppercase()
        && usize::from(letter - b'A') < options.len()
    {
        return Ok(char::from(*letter).to_string());
    }
    if let Ok(number) = said.parse::<i64>() {
        let index = usize::try_from(number - i64::from(base)).ok().filter(|i| *i < options.len());
        let hint =
            "--label-base 0 or 1 says how the file counts; an answer of -1 means that it is not published";
        return index.map(letter).ok_or_else(|| {
            format!("`{name}` is {number}: no option of {}, counted from {base}; {hint}", options.len())
        });
    }
    Err(format!("`{name}` is {said:?}: no label, index or text of an option"))
}

fn mapped(fields: &Map<String, Value>, reading: &Reading) -> Result<Parts, String> {
    let m = &reading.mapping;
    let need = |name: &Option<String>| name.as_deref().map(|name| text(fields, name)).transpose();
    let answer_field = m.answer.clone().ok_or("--question needs --answer, the field of the answer")?;
    let options = match &*m.options {
        [] => Vec::new(),
        [one] => option_list(rows::field(fields, one).ok_or_else(|| rows::missing(fields, one))?)?,
        several => several.iter().map(|name| text(fields, name)).collect::<Result<_, _>>()?,
    };
    let answer = if options.is_empty() {
        let answer = text(fields, &answer_field)?;
        match &m.answer_after {
            Some(mark) => {
                let (_, after) =
                    answer.rsplit_once(&**mark).ok_or_else(|| format!("`{answer_field}` has no {mark:?}"))?;
                after.trim().to_owned()
            }
            None => answer,
        }
    } else {
        label(fields, &answer_field, &options, reading.label_base)?
    };
    let names = [&m.question, &m.answer, &m.context, &m.completion].into_iter().flatten().chain(&m.options);
    Ok(Parts {
        question: m.question.as_deref().map_or_else(|| Ok(String::new()), |name| asked(fields, name))?,
        context: m.context.as_deref().and_then(|name| text(fields, name).ok()),
        kind: if options.is_empty() { "open" } else { "choice" },
        options,
        answer,
        completion: need(&m.completion)?,
        used: names.cloned().collect(),
        letters: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(row: Value, reading: &Reading) -> Result<Value, String> {
        let Value::Object(fields) = row else { panic!("{row}") };
        task(&fields, reading)
    }

    #[test]
    fn known_shapes_are_recognised() {
        let check = |row: Value, shape: &str, reference: Value| {
            let task = read(row, &Reading::default()).unwrap();
            assert_eq!(task["reference"], reference);
            assert_eq!(task["meta"]["dataset"], shape, "{task}");
            task
        };
        let t =
            check(json!({"question": "Q", "answer": "so\n#### 1,200"}), "gsm8k", json!({"answer": "1200"}));
        assert_eq!((&t["prompt"], &t["completion"]), (&json!("Q"), &json!("so\n#### 1,200")));
        assert!(t["id"].as_str().unwrap().starts_with("gsm8k-"));
        let t = check(
            json!({"problem": "P", "solution": "x \\boxed{\\frac{1}{2}}", "level": 3, "type": "Algebra"}),
            "math",
            json!({"answer": "\\frac{1}{2}"}),
        );
        assert_eq!((&t["meta"]["level"], &t["meta"]["topic"]), (&json!(3), &json!("Algebra")));
        let options = json!({"answer": "B", "options": ["x", "y"]});
        let t = check(
            json!({"id": 7, "question": "Q", "options": {"A": "x", "B": "y"}, "answer_idx": "B", "answer": "y"}),
            "medqa",
            options.clone(),
        );
        assert_eq!((&t["prompt"], &t["id"]), (&json!("Q\n\nA. x\nB. y"), &json!("7")));
        let four = json!({"answer": "D", "options": ["a", "b", "c", "d"]});
        let row = json!({"question": "Q", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": 3, "subject_name": "Eye"});
        let t = check(row.clone(), "medmcqa", four);
        assert_eq!(t["meta"]["subject_name"], "Eye");
        let one = Reading { label_base: 1, ..Reading::default() };
        assert_eq!(read(row, &one).unwrap()["reference"]["answer"], "C");
        check(json!({"question": "Q", "choices": ["x", "y"], "answer": 1}), "mmlu", options.clone());
        check(json!({"question": "Q", "options": ["x", "y"], "answer": "B", "dataset": "d"}), "d", options);
        let yes = json!({"answer": "yes", "options": ["yes", "no", "maybe"], "letters": "YNM"});
        let row = json!({"pubid": 5, "question": "Q", "context": {"contexts": ["a", "b"]}, "final_decision": "yes", "long_answer": "L"});
        let t = check(row, "pubmedqa", yes.clone());
        assert_eq!(
            (&t["prompt"], &t["id"], &t["meta"]["long_answer"]),
            (&json!("a\nb\n\nQ"), &json!("5"), &json!("L"))
        );
        check(json!({"question": "Q", "context": "C", "answer": "Yes", "dataset": "p"}), "p", yes);
        let t =
            read(json!({"prompt": "P", "reference": {"answer": 1}, "x": 2}), &Reading::default()).unwrap();
        assert_eq!(t["x"], 2);
    }

    #[test]
    fn fields_can_be_named() {
        let mapping = Mapping {
            question: Some("q".into()),
            answer: Some("a".into()),
            context: Some("c".into()),
            answer_after: Some("=>".into()),
            ..Mapping::default()
        };
        let reading = Reading { mapping, prefix: "my-".into(), ..Reading::default() };
        let t = read(json!({"q": "Q", "a": "x => 4", "z": 1}), &reading).unwrap();
        assert_eq!(
            (&t["reference"], &t["meta"]["z"], &t["meta"]["type"]),
            (&json!({"answer": "4"}), &json!(1), &json!("open"))
        );
        assert!(t["id"].as_str().unwrap().starts_with("my-row-"));
        assert_eq!(t["id"], read(json!({"z": 3, "q": "Q", "a": "y => 4"}), &reading).unwrap()["id"]);
        assert!(read(json!({"Q": "Q", "a": "4"}), &reading).is_err());
    }

    #[test]
    fn what_cannot_be_read_is_explained() {
        let check = |row: Value, part: &str| {
            let error = read(row, &Reading::default()).unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        check(
            json!({"text": "x"}),
            "no known shape; say which fields are --question and --answer (it has: text)",
        );
        check(json!({"question": "Q", "options": ["x", "y"], "answer": "z"}), "no label, index or text");
        check(json!({"question": "Q", "options": ["x", "y"], "answer": "C"}), "\"C\": no label");
        check(json!({"question": "Q", "choices": ["x", "y"], "answer": 2}), "--label-base");
        check(json!({"question": "Q", "choices": ["x", "y"], "answer": -1}), "not published");
        check(json!({"question": "", "options": ["x", "y"], "answer": "A"}), "`question` is empty");
        check(json!({"question": "Q", "options": ["x"], "answer": "A"}), "1 options");
        check(json!({"problem": "P", "solution": "none"}), "boxed");
    }
}
