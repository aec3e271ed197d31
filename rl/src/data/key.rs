//! By what a task is known again: on another line, in another file, under another template.

use serde_json::{Map, Value};

use crate::random;
use crate::rows;
use rlvr_rewards::Message;

/// Fields that belong to what a row asks beside its text.
const PICTURES: [&str; 2] = ["image", "images"];

/// What two tasks that are the same have in common. Everything is a hash, so that keys of millions of rows fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskKey {
    /// What is asked, before any template: of a row its question, of a generated task itself.
    question: u64,
    /// The value of the field that `group` names.
    group: Option<u64>,
    /// What the policy reads, system messages apart.
    prompt: u64,
}

impl TaskKey {
    /// The key of a row; `group` is the value of its field of that name.
    pub(crate) fn of_row(fields: &Map<String, Value>, group: Option<&Value>) -> Self {
        let hash = |value: &Value| random::hash_bytes(rows::plain(value).as_bytes());
        Self { question: question(fields), group: group.map(hash), prompt: 0 }
    }

    /// The key of a generated task. `side` is equal for tasks of a kind that are one another in disguise.
    pub(super) fn of_generated(kind: &str, side: u64) -> Self {
        Self { question: random::word(&[random::hash_bytes(kind.as_bytes()), side]), group: None, prompt: 0 }
    }

    /// The same with the prompt.
    pub(crate) fn with_prompt(self, prompt: &[Message]) -> Self {
        let said = prompt.iter().filter(|m| m.role != "system");
        let text: Vec<&str> = said.map(|m| m.content.as_str()).collect();
        Self { prompt: random::hash_bytes(text.join("\u{0}").as_bytes()), ..self }
    }

    /// What decides on which side of a split the task falls.
    pub(super) fn side(&self) -> u64 {
        self.group.unwrap_or(self.question)
    }

    /// Marks of which tasks that are the same share at least one.
    pub(crate) fn marks(&self) -> impl Iterator<Item = (Mark, u64)> {
        let group = self.group.map(|group| (Mark::Group, group));
        [(Mark::Question, self.question), (Mark::Prompt, self.prompt)].into_iter().chain(group)
    }
}

/// What a hash is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mark {
    /// What is asked.
    Question,
    /// What the policy reads.
    Prompt,
    /// The value of `group`.
    Group,
}

/// A hash of what a row asks: context, question and options, or the prompt, as curation compares rows; of a row without
/// either, everything but its id.
fn question(fields: &Map<String, Value>) -> u64 {
    let mut text = rows::content(fields).unwrap_or_else(|_| {
        let mut all = String::new();
        write_sorted(fields, &|name| name != "id", &mut all);
        all
    });
    for picture in PICTURES.iter().filter_map(|name| fields.get(*name)) {
        text.push('\u{0}');
        text.push_str(&rows::plain(picture));
    }
    random::hash_bytes(text.as_bytes())
}

/// Writes an object in a form that does not depend on the order of its keys.
fn write_sorted(fields: &Map<String, Value>, wanted: &dyn Fn(&str) -> bool, out: &mut String) {
    let mut keys: Vec<&String> = fields.keys().filter(|key| wanted(key)).collect();
    keys.sort_unstable();
    for key in keys {
        out.push_str(&format!("{key:?}:"));
        match &fields[key.as_str()] {
            Value::Object(inner) => write_sorted(inner, &|_| true, out),
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
}
