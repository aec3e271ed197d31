//! By what a task is known again: on another line, in another file, under another template.

use serde_json::{Map, Value};

use crate::random;
use crate::rows;
use rlvr_rewards::{Message, TaskImage, prompt_messages};

/// Fields that belong to what a row asks beside its text.
const PICTURES: [&str; 2] = ["image", "images"];
/// Digits of an id that may be no more than the number of a row.
const NUMBER_DIGITS: usize = 6;
/// Characters around them.
const NUMBER_NAME: usize = 16;
/// Words of a text that asks something by itself.
const WORDS: usize = 3;

/// What two tasks that are the same have in common. Everything is a hash, so that keys of millions of rows fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskKey {
    /// What is asked, before any template: of a row its question, of a generated task itself.
    question: u64,
    /// The text of the fields that the template of the prompt reads, whatever they are called.
    read: Option<u64>,
    /// The value of the field that `group` names.
    group: Option<u64>,
    /// What the policy reads, system messages apart.
    prompt: Option<u64>,
    /// The id that the row gives itself, and whether it may be no more than its number.
    id: Option<(u64, bool)>,
    /// What is right.
    answer: Option<u64>,
    /// The question, what is read and the prompt without any white space.
    tight: [Option<u64>; 3],
    /// The pictures of the prompt, by the names or the contents of their files: texts ask something else of other ones.
    seen: Option<u64>,
}

impl TaskKey {
    /// The key of a row; `group` is the value of its field of that name.
    pub(crate) fn of_row(fields: &Map<String, Value>, group: Option<&Value>) -> Self {
        let asked = question(fields);
        let group = group.map(|value| hash(&rows::plain(value)));
        let key = Self { group, tight: [Some(tight(&asked)), None, None], ..Self::of(hash(&asked)) };
        rows::id(fields).map_or(key, |id| key.with_id(&id))
    }

    /// The key of a generated task. `side` is equal for tasks of a kind that are one another in disguise.
    pub(super) fn of_generated(kind: &str, side: u64) -> Self {
        Self::of(random::word(&[hash(kind), side]))
    }

    fn of(question: u64) -> Self {
        Self {
            question,
            read: None,
            group: None,
            prompt: None,
            id: None,
            answer: None,
            tight: [None; 3],
            seen: None,
        }
    }

    /// The same with the prompt.
    pub(crate) fn with_prompt(self, prompt: &[Message]) -> Self {
        let (said, [question, read, _]) = (form(&said(prompt)), self.tight);
        Self { prompt: Some(hash(&said)), tight: [question, read, Some(tight(&said))], ..self }
    }

    /// The same with an id that was not made up here.
    pub(crate) fn with_id(self, id: &str) -> Self {
        Self { id: Some((hash(id), is_number(id))), ..self }
    }

    /// The same with the answer of a reference.
    pub(crate) fn with_reference(self, reference: &Value) -> Self {
        let answer = reference.get("answer").unwrap_or(reference);
        let said = !matches!(answer, Value::Null) && answer.as_object().is_none_or(|o| !o.is_empty());
        Self { answer: said.then(|| hash(&form(&rows::plain(answer)))), ..self }
    }

    /// The same with the fields `names` that the template of the prompt reads, if their text asks something by itself.
    pub(crate) fn with_read(self, fields: &Map<String, Value>, names: &[String]) -> Self {
        let mut texts: Vec<String> =
            names.iter().filter_map(|name| text(rows::field(fields, name)?)).collect();
        // Under other names they may stand in another order.
        texts.sort_unstable();
        let read = form(&texts.join("\n"));
        let asks =
            read.split_whitespace().count() >= WORDS || read.contains(['?', '=', '+', '*', '/', '^', '\\']);
        let [question, _, prompt] = self.tight;
        let tight = [question, asks.then(|| tight(&read)), prompt];
        Self { read: asks.then(|| hash(&read)), tight, ..self }
    }

    /// The same with the pictures of the prompt, by the names of their files.
    pub(crate) fn with_images(self, images: &[TaskImage]) -> Self {
        let name = |image: &TaskImage| match image {
            TaskImage::Path(path) => hash(&path.to_string_lossy()),
            TaskImage::Bytes(bytes) => random::hash_bytes(bytes),
        };
        self.seeing(&images.iter().map(name).collect::<Vec<_>>())
    }

    /// The same with hashes of the pictures of the prompt.
    pub(crate) fn seeing(self, pictures: &[u64]) -> Self {
        Self { seen: (!pictures.is_empty()).then(|| random::word(pictures)), ..self }
    }

    /// What decides on which side of a split the task falls.
    pub(super) fn side(&self) -> u64 {
        self.group.unwrap_or(self.question)
    }

    /// Marks of which tasks that are the same share at least one.
    pub(crate) fn marks(&self) -> impl Iterator<Item = (Mark, u64)> {
        // White space between words may be all that makes two tasks two, as in a list of numbers: their answers differ then.
        let tight = self.tight.map(|text| Some(random::word(&[text?, self.answer?])));
        let seen = self.seen;
        let texts = [Some(self.question), self.read, self.prompt].into_iter().chain(tight);
        let texts =
            texts.map(move |text| text.map(|text| seen.map_or(text, |seen| random::word(&[text, seen]))));
        let id = self.id.filter(|(_, number)| !number).map(|(id, _)| (Mark::Id, id));
        let group = self.group.map(|group| (Mark::Group, group));
        texts.flatten().map(|text| (Mark::Text, text)).chain(id).chain(group)
    }

    /// An id that may be no more than the number of the row, with the answer: neither says much alone.
    pub(crate) fn numbered(&self) -> Option<(u64, u64)> {
        Some((self.id.filter(|(_, number)| *number)?.0, self.answer?))
    }
}

/// What a hash is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mark {
    /// What is asked, or what the policy reads.
    Text,
    /// The id that the row gives itself.
    Id,
    /// The value of `group`.
    Group,
}

fn hash(text: &str) -> u64 {
    random::hash_bytes(text.as_bytes())
}

/// The form in which texts are compared: without blank lines, and without white space that says nothing, at the ends of
/// lines, before punctuation, or twice.
fn form(text: &str) -> String {
    let mut form = String::with_capacity(text.len());
    for line in text.lines() {
        let begin = form.len();
        for word in line.split_whitespace() {
            let closing = word.chars().all(|c| "?!.,;:".contains(c));
            if form.len() > begin && !closing {
                form.push(' ');
            }
            if form.len() == begin && begin > 0 {
                form.push('\n');
            }
            form.push_str(word);
        }
    }
    form
}

/// A hash of a text without any white space.
fn tight(text: &str) -> u64 {
    hash(&text.split_whitespace().collect::<String>())
}

/// Whether an id may be no more than the number of a row in its file, such as `17`, `line 17` or `test-0017`, so that rows of
/// two files have it that have nothing to do with each other.
fn is_number(id: &str) -> bool {
    let digits = id.chars().filter(char::is_ascii_digit).count();
    let together = id.trim_matches(|c: char| !c.is_ascii_digit()).len() == digits;
    let around = id.chars().count() - digits;
    together && digits <= NUMBER_DIGITS && if digits == 0 { around < 4 } else { around <= NUMBER_NAME }
}

/// What messages say, those of the system apart.
fn said(prompt: &[Message]) -> String {
    let said = prompt.iter().filter(|m| m.role != "system");
    said.map(|m| m.content.as_str()).collect::<Vec<_>>().join("\n")
}

/// A field as text; none where it says nothing that could be asked.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(_) => {
            prompt_messages(value, "").ok().map(|list| said(&list)).or_else(|| Some(value.to_string()))
        }
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Object(_) => None,
    }
}

/// What a row asks: context, question and options, or the prompt, as curation compares rows; of a row without
/// either, everything but its id.
fn question(fields: &Map<String, Value>) -> String {
    let mut text = rows::content(fields).map(|text| form(&text)).unwrap_or_else(|_| {
        let mut all = String::new();
        write_sorted(fields, &|name| name != "id", &mut all);
        all
    });
    for picture in PICTURES.iter().filter_map(|name| fields.get(*name)) {
        text.push('\u{0}');
        text.push_str(&rows::plain(picture));
    }
    text
}

/// Writes an object in a form that does not depend on the order of its keys.
fn write_sorted(fields: &Map<String, Value>, wanted: &dyn Fn(&str) -> bool, out: &mut String) {
    let mut keys: Vec<&String> = fields.keys().filter(|key| wanted(key)).collect();
    keys.sort_unstable();
    for key in keys {
        out.push_str(&format!("{key:?}:"));
        match &fields[key.as_str()] {
            Value::Object(inner) => write_sorted(inner, &|_| true, out),
            Value::String(text) => out.push_str(&Value::String(form(text)).to_string()),
            other => out.push_str(&other.to_string()),
        }
        out.push('\u{1f}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(row: Value) -> TaskKey {
        TaskKey::of_row(row.as_object().unwrap(), row.get("group"))
    }

    #[test]
    fn one_question_about_two_pictures_is_two_tasks() {
        let message = |text: &str| Message { role: "user".into(), content: text.into() };
        let of = |image: &str| {
            let row = json!({"q": "What is seen here?", "picture": image});
            let key =
                TaskKey::of_row(row.as_object().unwrap(), None).with_prompt(&[message("What is seen here?")]);
            let key = key.with_read(row.as_object().unwrap(), &["q".to_owned()]).with_reference(&json!("a"));
            key.with_images(&[TaskImage::Path(image.into())]).marks().collect::<Vec<_>>()
        };
        let (a, b) = (of("a.png"), of("b.png"));
        assert!(a.iter().all(|mark| !b.contains(mark)));
        assert_eq!(a, of("a.png"));
    }

    #[test]
    fn rows_that_ask_the_same_have_one_key() {
        let same = |a: Value, b: Value| key(a).question == key(b).question;
        let asked = json!({"id": 1, "question": "1+1?", "answer": "2"});
        assert!(same(asked.clone(), json!({"id": 2, "question": "1+1?", "answer": "two", "source": "x"})));
        assert!(!same(asked.clone(), json!({"id": 1, "question": "1+2?", "answer": "2"})));
        assert!(!same(asked.clone(), json!({"question": "1+1?", "context": "in base 2"})));
        assert!(!same(asked.clone(), json!({"question": "1+1?", "options": ["1", "2"]})));
        assert!(!same(
            json!({"prompt": "Seen?", "image": "a.png"}),
            json!({"prompt": "Seen?", "image": "b.png"})
        ));
        assert!(same(json!({"id": 1, "q": "x", "n": 1}), json!({"n": 1, "q": "x", "id": 2})));
        assert!(!same(json!({"q": "x", "m": {"a": 1}}), json!({"q": "x", "m": {"a": 2}})));
        assert!(same(asked.clone(), json!({"question": " 1+1  ?\n"})));
        assert!(same(json!({"q": "x ", "n": 1}), json!({"q": "x", "n": 1})));
        // As rows were split by the prompt "{{ question }}" before.
        assert_eq!(key(asked).side(), random::hash_bytes(b"1+1?"));
    }

    #[test]
    fn a_group_decides_the_side_and_is_a_mark() {
        let (a, b) = (json!({"question": "x", "group": 7}), json!({"question": "y", "group": "7"}));
        assert_eq!(key(a.clone()).side(), key(b.clone()).side());
        let shared = |a: &TaskKey, b: &TaskKey| a.marks().any(|mark| b.marks().any(|other| mark == other));
        let message = |text: &str| Message { role: "user".into(), content: text.into() };
        let (a, b) = (key(a).with_prompt(&[message("x")]), key(b).with_prompt(&[message("y")]));
        assert!(shared(&a, &b));
        let alone = |k: TaskKey| TaskKey { group: None, ..k };
        assert!(!shared(&alone(a), &alone(b)));
        assert!(shared(&alone(a), &alone(b).with_prompt(&[message("x")])));
    }

    #[test]
    fn white_space_that_says_nothing_is_no_difference() {
        for (a, b) in [("a  b ?", "a b?"), (" a\r\n\n b \n", "a\nb"), ("a, b .", "a , b."), ("", " \n ")] {
            assert_eq!(form(a), form(b), "{a:?}");
        }
        for (a, b) in [("a b", "ab"), ("a\nb", "a b"), ("1 - 2", "1 + 2"), ("[0, 1)", "[0, 1]"), ("!a", "a")]
        {
            assert_ne!(form(a), form(b), "{a:?}");
        }
        assert_eq!(form("What is it?\nA\nB"), "What is it?\nA\nB");
    }

    #[test]
    fn no_white_space_at_all_is_no_difference_where_the_answers_are_the_same() {
        let shared = |a: (&str, &str), b: (&str, &str)| {
            let key = |(asked, answer): (&str, &str)| {
                let message = Message { role: "user".into(), content: asked.into() };
                key(json!({"prompt": asked}))
                    .with_prompt(&[message])
                    .with_reference(&json!({"answer": answer}))
            };
            key(a).marks().any(|mark| key(b).marks().any(|other| mark == other))
        };
        assert!(shared(("What is 1 + 1?", "2"), ("What is1+1?", "2")));
        assert!(shared(("What is 1 + 1?", "2"), ("Whatis1+1?", " 2 ")));
        assert!(!shared(("Sort 1 23.", "1 23"), ("Sort 12 3.", "3 12")));
        let read = |field: &str, text: &str| {
            let row = json!({field: text, "answer": "2"});
            let names = [field.to_owned()];
            key(row.clone()).with_read(row.as_object().unwrap(), &names).with_reference(&json!({"answer": 2}))
        };
        let (a, b) = (read("q", "What is 1 + 1?"), read("asked", "What is1+1?"));
        assert!(a.marks().any(|mark| b.marks().any(|other| mark == other)));
    }

    #[test]
    fn ids_that_may_be_numbers_of_rows_are_told_apart() {
        for id in ["1", "000017", "line 17", "test-0017", "q3", "17.", "a", "ab"] {
            assert!(is_number(id), "{id}");
        }
        for id in
            ["21645374", "1-2", "What is 1 + 1?", "task-00ab3f", "patient-alpha", "a-name-that-is-long-17"]
        {
            assert!(!is_number(id), "{id}");
        }
    }

    #[test]
    fn fields_that_a_template_reads_are_known_under_other_names() {
        let read = |row: Value, names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            key(row.clone()).with_read(row.as_object().unwrap(), &names)
        };
        let shared = |a: &TaskKey, b: &TaskKey| a.marks().any(|mark| b.marks().any(|other| mark == other));
        let asked = key(json!({"prompt": "What is 1 + 1?", "answer": "2"}));
        assert!(shared(&asked, &read(json!({"q": "What is 1 + 1?", "answer": "2"}), &["q"])));
        assert!(shared(&asked, &read(json!({"q": [{"role": "user", "content": "What is 1 + 1?"}]}), &["q"])));
        let two = |a: &str, b: &str| read(json!({a: "the text", b: "the question"}), &[a, b]);
        assert!(shared(&two("context", "q"), &two("x", "passage")));
        // What is read may be no question.
        let (add, multiply) = (json!({"a": 3, "b": 4, "r": 7}), json!({"a": 3, "b": 4, "r": 12}));
        assert!(!shared(&read(add, &["a", "b"]), &read(multiply, &["a", "b"])));
    }
}
