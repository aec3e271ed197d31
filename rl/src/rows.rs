//! A row, its fields, and the text by which rows are compared.

use crate::files::digits;
use rlvr_rewards::prompt_messages;
use serde_json::{Map, Value};

/// Names of fields that a message shows.
const NAMES: usize = 100;

/// A row of a JSON Lines file.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its line, from 1.
    pub line: usize,
    /// Where the line begins in the file, in bytes.
    pub offset: u64,
    /// The line as written, without its end.
    pub text: String,
    /// What it says. A number with more digits than a number keeps is the text of them.
    pub fields: Map<String, Value>,
}

impl Row {
    /// The fields with numbers to compare, also where their digits are text, see [`digits`].
    pub(crate) fn numbers(&self) -> Map<String, Value> {
        digits::rounded(&self.text).unwrap_or_else(|| self.fields.clone())
    }

    /// The row's id as text, or `line N` where it has none.
    pub fn id(&self) -> String {
        id(&self.fields).unwrap_or_else(|| format!("line {}", self.line))
    }
}

/// The id of a row: a string or a number.
pub fn id(fields: &Map<String, Value>) -> Option<String> {
    fields.get("id").and_then(id_text)
}

/// An id as text: a string or a number.
pub fn id_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The value at a dotted path, such as `meta.subject` or `reference.answer`. A key with dots in it comes first.
pub fn field<'a>(fields: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = fields.get(path) {
        return Some(value);
    }
    let mut names = path.split('.');
    let first = names.next().and_then(|name| fields.get(name));
    names.fold(first, |value, name| value.and_then(|v| v.get(name)))
}

/// A value as text: strings as they are, null as `null`, everything else as JSON.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The value of a field as text; `null` where the row lacks it.
pub fn plain_field(fields: &Map<String, Value>, path: &str) -> String {
    field(fields, path).map_or_else(|| "null".to_owned(), plain)
}

/// All dotted paths of a row, objects and what is in them.
pub fn paths(fields: &Map<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in fields {
        found.push(name.clone());
        if let Value::Object(inner) = value {
            found.extend(paths(inner).into_iter().map(|path| format!("{name}.{path}")));
        }
    }
    found
}

/// The question alone: `question` or `problem`.
pub fn question(fields: &Map<String, Value>) -> Option<&str> {
    ["question", "problem"].iter().find_map(|name| fields.get(*name)?.as_str())
}

/// The texts of the options, of `options` or `reference.options`; empty where there are none.
pub fn options(fields: &Map<String, Value>) -> Vec<String> {
    let own = fields.get("options").filter(|o| !o.is_null());
    match own.or_else(|| field(fields, "reference.options")) {
        Some(Value::Array(items)) => items.iter().map(plain).collect(),
        Some(Value::Object(items)) => items.values().map(plain).collect(),
        _ => Vec::new(),
    }
}

/// The prompt as text: the contents of its messages, a line each; none where it cannot be read.
pub fn prompt(fields: &Map<String, Value>) -> Option<String> {
    let messages = prompt_messages(fields.get("prompt")?, "prompt").ok()?;
    let texts: Vec<String> = messages.into_iter().map(|message| message.content).collect();
    Some(texts.join("\n"))
}

/// What a row asks: context, question and options where it has a question, the prompt otherwise. Instructions and
/// answers are no part of it, so that the same task in two data sets reads the same.
///
/// # Errors
/// A row with neither.
pub fn content(fields: &Map<String, Value>) -> Result<String, String> {
    let Some(question) = question(fields) else {
        return prompt(fields).ok_or_else(|| {
            if let Some(Err(problem)) = fields.get("prompt").map(|p| prompt_messages(p, "prompt")) {
                return problem;
            }
            let names = names(fields.keys().map(String::as_str));
            format!("the row has no `question` and no `prompt` (it has: {names})")
        });
    };
    let context = fields.get("context").and_then(Value::as_str);
    let mut text = context.map_or(String::new(), |c| format!("{c}\n"));
    text.push_str(question);
    for option in options(fields) {
        text.push('\n');
        text.push_str(&option);
    }
    Ok(text)
}

/// The text of the fields `on`, or of [`content`] where none are named.
///
/// # Errors
/// A row that lacks one of the fields.
pub fn text_of(fields: &Map<String, Value>, on: &[String]) -> Result<String, String> {
    if on.is_empty() {
        return content(fields);
    }
    let texts: Result<Vec<String>, String> =
        on.iter().map(|path| field(fields, path).map(plain).ok_or_else(|| missing(fields, path))).collect();
    Ok(texts?.join("\u{1f}"))
}

/// The answer as it is compared between rows: `reference.answer`, else `answer`, as the text of the option it names
/// where there are options.
pub fn answer(fields: &Map<String, Value>) -> Option<String> {
    let answer =
        field(fields, "reference.answer").or_else(|| fields.get("answer")).filter(|a| !a.is_null())?;
    let answer = match answer {
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join("\n"),
        other => plain(other),
    };
    Some(label_index(fields, &answer).and_then(|i| options(fields).into_iter().nth(i)).unwrap_or(answer))
}

/// The index of the option that a label names, by `reference.letters` or A, B, ….
pub fn label_index(fields: &Map<String, Value>, label: &str) -> Option<usize> {
    let mut letter = label.chars();
    let (Some(c), None) = (letter.next(), letter.next()) else { return None };
    let letters = field(fields, "reference.letters").and_then(Value::as_str).unwrap_or("ABCDEFGHIJ");
    let index = letters.chars().position(|l| l == c)?;
    (index < options(fields).len()).then_some(index)
}

/// The message for a field that a row lacks, with the nearest one it has; or for one that is null.
pub fn missing(fields: &Map<String, Value>, path: &str) -> String {
    if field(fields, path).is_some_and(Value::is_null) {
        return format!("`{path}` is null in this row, and a value is needed");
    }
    let all = paths(fields);
    let scored = all.iter().map(|known| (strsim::jaro_winkler(path, known), known));
    let near = scored.filter(|(likeness, _)| *likeness > 0.75).max_by(|a, b| a.0.total_cmp(&b.0));
    let near = near.map_or(String::new(), |(_, name)| format!(", did you mean `{name}`?"));
    format!("the row has no field `{path}`{near} (it has: {})", names(all.iter().map(String::as_str)))
}

/// Names that a message shows; of very many the first ones.
pub fn names<'a>(mut all: impl Iterator<Item = &'a str>) -> String {
    let shown: Vec<&str> = all.by_ref().take(NAMES).collect();
    match all.count() {
        0 => shown.join(", "),
        more => format!("{}, and {more} more", shown.join(", ")),
    }
}

/// The form in which texts are compared: lower case, single spaces, plain quotes and dashes, words without the
/// punctuation around them. Signs, operators and everything inside a word stay, so `3-4` and `3+4` differ.
pub fn normal_form(text: &str) -> String {
    let mut form = String::with_capacity(text.len());
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        let word =
            word.trim_start_matches(|c: char| "\"'“”‘’([{,;:!?¿¡.*_`".contains(c) && !decimal(word, c));
        let word = word.trim_end_matches(|c: char| "\"'“”‘’)]},;:!?.*_`".contains(c));
        if word.is_empty() {
            continue;
        }
        if !form.is_empty() {
            form.push(' ');
        }
        for c in word.chars() {
            match c {
                '’' | '‘' => form.push('\''),
                '“' | '”' => form.push('"'),
                '−' | '–' | '—' => form.push('-'),
                c => form.extend(c.to_lowercase()),
            }
        }
    }
    form
}

/// Whether `c` begins a number such as `.5`.
fn decimal(word: &str, c: char) -> bool {
    c == '.' && word.trim_start_matches('.').starts_with(|d: char| d.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: Value) -> Map<String, Value> {
        let Value::Object(fields) = value else { panic!("{value}") };
        fields
    }

    #[test]
    fn normal_forms_keep_what_changes_the_meaning() {
        let check = |a: &str, b: &str, same: bool| {
            assert_eq!(normal_form(a) == normal_form(b), same, "{:?} {:?}", normal_form(a), normal_form(b));
        };
        check("What is  3+4?", "what is 3+4", true);
        check("What is 3+4?", "What is 3-4?", false);
        check("x = 2.5.", "x = 25", false);
        check("give .5 mg", "give 5 mg", false);
        check("a “quoted” word—here", "A \"quoted\" word-here", true);
        check("(A) first\n\tsecond", "a first second", true);
        check("-3", "3", false);
        check("f(x)", "fx", false);
        assert_eq!(normal_form(" \n "), "");
    }

    #[test]
    fn content_is_the_same_before_and_after_import() {
        let raw = fields(json!({"question": "Q?", "options": ["a", "b"], "context": "C", "answer": "B"}));
        let task = fields(json!({
            "id": "1", "prompt": "C\n\nQ?\nA. a\nB. b", "question": "Q?", "context": "C",
            "reference": {"answer": "B", "options": ["a", "b"]}
        }));
        assert_eq!(content(&raw), content(&task));
        assert_eq!((answer(&raw), answer(&task)), (Some("b".into()), Some("b".into())));
        let messages = fields(json!({"prompt": [{"role": "user", "content": "x"}]}));
        assert_eq!(content(&messages).as_deref(), Ok("x"));
        assert!(content(&fields(json!({"text": "x"}))).unwrap_err().contains("it has: text"));
    }

    #[test]
    fn fields_by_path() {
        let row = fields(json!({"meta": {"subject": "eye", "n": 3}, "a.b": 1}));
        assert_eq!(plain_field(&row, "meta.subject"), "eye");
        assert_eq!(plain_field(&row, "meta.n"), "3");
        assert_eq!(plain_field(&row, "a.b"), "1");
        assert_eq!(plain_field(&row, "meta.x"), "null");
        assert!(missing(&row, "meta.subjct").contains("did you mean `meta.subject`"));
        assert!(text_of(&row, &["meta.x".into()]).is_err());
    }

    #[test]
    fn a_field_that_is_null_is_not_called_missing() {
        let row = fields(json!({"meta": {"subject": null}, "id": null}));
        assert_eq!(missing(&row, "id"), "`id` is null in this row, and a value is needed");
        assert!(missing(&row, "meta.subject").starts_with("`meta.subject` is null"));
        assert!(missing(&row, "meta.n").starts_with("the row has no field `meta.n`"));
    }
}
