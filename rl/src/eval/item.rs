//! Items of a benchmark: a task with its options, and the parts that its prompt is put together from.

use rlvr_rewards::{Message, Task};
use serde_json::{Map, Value};

use crate::data::TaskKey;
use crate::random;

/// One item.
#[derive(Debug, Clone, Default)]
pub struct Item {
    /// The task as the policy and the verifier see it.
    pub task: Task,
    /// `FILE:LINE`, or the benchmark's name for generated items.
    pub place: String,
    /// What accuracy is broken down by.
    pub group: Option<String>,
    /// The question alone; none where the prompt is given as it is.
    pub question: Option<String>,
    /// The options in the order shown; empty for open questions.
    pub options: Vec<Choice>,
    /// Index of the right option, where the answer names one.
    pub gold: Option<usize>,
    /// What `task.prompt` is made of; none where the prompt is given as it is.
    pub prompt: Option<PromptParts>,
    /// The prompt after which options are scored.
    pub likelihood: Option<PromptParts>,
    /// By what the task is known again among those that are trained on; none where that is not asked.
    pub key: Option<TaskKey>,
}

impl Item {
    /// The question without instructions and options, where a definition says which field it is; else the last message.
    pub fn question(&self) -> &str {
        let last = self.task.prompt.last().map_or("", |message| message.content.as_str());
        self.question.as_deref().unwrap_or(last)
    }
}

/// One option of a choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// `A`, `B`, …
    pub label: String,
    /// What it says.
    pub text: String,
}

/// The parts of a prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PromptParts {
    /// System message.
    pub system: Option<String>,
    /// Solved examples: question and answer.
    pub shots: Vec<(String, String)>,
    /// What is asked.
    pub user: String,
}

impl PromptParts {
    /// A conversation for a chat template; without one (`raw`) a single text, the examples apart by blank lines and each
    /// answer behind its question.
    pub fn messages(&self, raw: bool) -> Vec<Message> {
        let message = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
        if raw {
            let mut text = self.system.as_ref().map_or(String::new(), |system| format!("{system}\n\n"));
            for (question, answer) in &self.shots {
                text.push_str(&format!("{question} {answer}\n\n"));
            }
            text.push_str(&self.user);
            return vec![message("user", &text)];
        }
        let mut messages: Vec<Message> = self.system.iter().map(|s| message("system", s)).collect();
        for (question, answer) in &self.shots {
            messages.push(message("user", question));
            messages.push(message("assistant", answer));
        }
        messages.push(message("user", &self.user));
        messages
    }
}

/// The option that an answer names, by label or by text.
pub fn gold(options: &[Choice], answer: &str) -> Option<usize> {
    let answer = answer.trim();
    let by_label = options.iter().position(|o| o.label.eq_ignore_ascii_case(answer));
    by_label.or_else(|| options.iter().position(|o| o.text == answer))
}

/// Longest text of a row that [`short_fields`] keeps, in characters.
const META_TEXT: usize = 200;

/// The short fields of a data row, for samples on disk and to group questions by: texts of up to 200 characters, numbers, true
/// and false, also those of an object `meta` in the row. The prompt, the answer and the id stand elsewhere.
pub fn short_fields(fields: &Map<String, Value>) -> Map<String, Value> {
    let short = |value: &Value| match value {
        Value::String(text) => text.chars().nth(META_TEXT).is_none(),
        Value::Number(_) | Value::Bool(_) => true,
        _ => false,
    };
    let own = |key: &str| matches!(key, "id" | "prompt" | "question" | "answer" | "completion");
    let outer = fields.iter().filter(|(key, _)| !own(key));
    let inner = fields.get("meta").and_then(Value::as_object).into_iter().flatten();
    let kept = outer.chain(inner).filter(|(_, value)| short(value));
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The options on lines `A. …`.
pub(super) fn lettered(options: &[Choice]) -> String {
    let lines: Vec<String> = options.iter().map(|o| format!("{}. {}", o.label, o.text)).collect();
    lines.join("\n")
}

/// Puts the texts of the options in another order, by seed and id; labels stay in place. The new place of each old
/// option; `None` where an option speaks of others ("all of the above"), so that its place means something.
pub(super) fn shuffle(options: &mut [Choice], seed: u64, id: &str) -> Option<Vec<usize>> {
    if options.iter().any(|option| refers_to_others(&option.text)) {
        return None;
    }
    let key = [seed, SHUFFLE_STREAM, random::hash_bytes(id.as_bytes())];
    let len = options.len() as u64;
    let places: Vec<usize> = (0..len).map(|i| random::shuffled(i, len, &key) as usize).collect();
    let texts: Vec<String> = options.iter().map(|option| option.text.clone()).collect();
    for (text, place) in texts.into_iter().zip(&places) {
        options[*place].text = text;
    }
    Some(places)
}

const SHUFFLE_STREAM: u64 = 0x6f70_7469;

/// Whether the text of an option points at other options by their place.
fn refers_to_others(text: &str) -> bool {
    let text = text.to_lowercase();
    if text.contains("the above") || text.contains("above all") || text.contains("the following") {
        return true;
    }
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '&').collect();
    let words: Vec<&str> = words.into_iter().filter(|w| !w.is_empty()).collect();
    let label = |word: &str| matches!(word, "a" | "b" | "c" | "d" | "e");
    words.windows(3).any(|w| label(w[0]) && matches!(w[1], "and" | "&" | "or") && label(w[2]))
        || matches!(&words[..], ["all" | "none" | "both" | "any" | "neither"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffled_options_keep_their_labels_and_move_the_answer() {
        let options = |texts: &[&str]| -> Vec<Choice> {
            let choice = |(text, label): (&&str, char)| Choice { label: label.into(), text: (*text).into() };
            texts.iter().zip('A'..).map(choice).collect()
        };
        let before = options(&["one", "two", "three", "four"]);
        let mut moved = 0;
        for id in 0..50 {
            let mut after = before.clone();
            let places = shuffle(&mut after, 7, &id.to_string()).unwrap();
            for (old, new) in places.iter().enumerate() {
                assert_eq!(before[old].text, after[*new].text);
            }
            assert!(after.iter().zip('A'..).all(|(o, label)| o.label == label.to_string()));
            moved += usize::from(places[0] != 0);
        }
        assert!((25..50).contains(&moved), "{moved}");
        for fixed in ["All of the above", "Both A and B", "A & C", "none"] {
            assert_eq!(shuffle(&mut options(&["one", "two", fixed]), 1, "x"), None, "{fixed}");
        }
        assert!(shuffle(&mut options(&["vitamin A and zinc", "two"]), 1, "x").is_some());
    }

    #[test]
    fn short_fields_are_kept() {
        let row = serde_json::json!({
            "id": 1, "question": "q", "passage": "p1", "year": 2001, "text": "x".repeat(201), "list": [1],
            "meta": {"patient": 7, "more": {}},
        });
        let kept = short_fields(row.as_object().unwrap());
        assert_eq!(Value::Object(kept), serde_json::json!({"passage": "p1", "year": 2001, "patient": 7}));
    }

    #[test]
    fn examples_are_turns_or_paragraphs() {
        let parts = PromptParts {
            system: Some("S".into()),
            shots: vec![("q1\nAnswer:".into(), "B".into())],
            user: "q2\nAnswer:".into(),
        };
        let roles: Vec<String> = parts.messages(false).into_iter().map(|m| m.role).collect();
        assert_eq!(roles, ["system", "user", "assistant", "user"]);
        assert_eq!(parts.messages(true)[0].content, "S\n\nq1\nAnswer: B\n\nq2\nAnswer:");
    }
}
