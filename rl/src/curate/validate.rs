//! `validate`: what is wrong with a file of tasks, row by row.

use std::collections::HashMap;
use std::path::Path;

use rlvr_rewards::{Message, Response, Reward, Task, Verdict, prompt_messages, score_one};
use serde_json::{Map, Value};

use super::error::CurateError;
use super::pictures::Pictures;
use super::scan::{Input, Watch, scan};
use crate::random;
use crate::rows::{self, Row};

/// Text of a message that is shown.
const SHOWN: usize = 80;

/// One thing wrong with one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowProblem {
    /// Line, from 1.
    pub line: usize,
    /// What, with a hint.
    pub message: String,
}

/// Checks every row: `id`, `prompt`, `reference` and `completion` have the right shape, ids occur once, and with a
/// reward its references can be judged and its own right answer is accepted; pictures can be read. Problems go to `found`, in order. A hash of
/// each id and its line are in memory, 20 to 60 bytes a row.
///
/// # Errors
/// A file that cannot be read, or a line that is no JSON object.
pub fn validate(
    input: &Path,
    reward: Option<&dyn Reward>,
    watch: &dyn Watch,
    found: &mut dyn FnMut(RowProblem),
) -> Result<Input, CurateError> {
    let mut ids: HashMap<u64, usize> = HashMap::new();
    let pictures = Pictures::of(input);
    let read = |row: &Row| {
        let unseen = pictures.looks(&row.fields).err();
        Ok(problems(row, reward).into_iter().chain(unseen).collect::<Vec<String>>())
    };
    scan(input, "validate", watch, &read, &mut |row, problems| {
        let line = row.line;
        problems.into_iter().for_each(|message| found(RowProblem { line, message }));
        if let Some(id) = rows::id(&row.fields) {
            let key = random::hash_bytes(id.as_bytes());
            if let Some(first) = ids.get(&key) {
                let message = format!("the id {:?} occurs in line {first} already", short(&id));
                found(RowProblem {
                    line,
                    message: format!("{message}; rlvr data dedup --on id keeps the first"),
                });
            } else {
                ids.insert(key, line);
            }
        }
        Ok(())
    })
}

fn short(text: &str) -> String {
    let head: String = text.chars().take(SHOWN).collect();
    if head.len() < text.len() { format!("{head}…") } else { head }
}

fn problems(row: &Row, reward: Option<&dyn Reward>) -> Vec<String> {
    let fields = &row.fields;
    let mut found = Vec::new();
    match fields.get("id") {
        None | Some(Value::Null) => {
            found.push("no `id`; rlvr data import makes one from the content".to_owned())
        }
        Some(Value::String(id)) if id.trim().is_empty() => found.push("`id` is empty".into()),
        Some(Value::String(_) | Value::Number(_)) => {}
        Some(_) => found.push("`id` must be a string or a number".into()),
    }
    let prompt = messages(fields);
    if let Err(problem) = &prompt {
        found.push(problem.clone());
    }
    if let Some(completion) = fields.get("completion")
        && completion.as_str().is_none_or(|c| c.trim().is_empty())
    {
        found.push("`completion` must be text that is not empty".into());
    }
    let reference = reference(fields);
    match (&reference, reward) {
        (Err(problem), _) => found.push(problem.clone()),
        (Ok(reference), reward) => {
            found.extend(choice_problem(fields));
            if let Some(reward) = reward {
                let prompt = prompt.unwrap_or_default();
                let task = Task {
                    id: row.id(),
                    prompt,
                    reference: reference.clone(),
                    meta: Map::new(),
                    ..Task::default()
                };
                found.extend(judged(reward, &task.with_row(fields.clone())));
            }
        }
    }
    found
}

/// The prompt as messages.
///
/// # Errors
/// A prompt that is absent, empty or of another shape.
pub fn messages(fields: &Map<String, Value>) -> Result<Vec<Message>, String> {
    let Some(prompt) = fields.get("prompt") else { return Err(rows::missing(fields, "prompt")) };
    let messages = prompt_messages(prompt, "prompt")?;
    match messages.iter().any(|m| !m.content.trim().is_empty()) {
        true => Ok(messages),
        false => Err("`prompt` is empty".into()),
    }
}

/// What a reward compares with.
///
/// # Errors
/// A row without one.
pub fn reference(fields: &Map<String, Value>) -> Result<Value, String> {
    match fields.get("reference") {
        None | Some(Value::Null) => Err(rows::missing(fields, "reference")),
        Some(Value::Object(reference)) if reference.is_empty() => Err("`reference` is empty".into()),
        Some(reference) => Ok(reference.clone()),
    }
}

/// What a row of curated data carries along.
pub fn meta(fields: &Map<String, Value>) -> Map<String, Value> {
    fields.get("meta").and_then(Value::as_object).cloned().unwrap_or_default()
}

/// A label that names no option, or options that say the same.
fn choice_problem(fields: &Map<String, Value>) -> Option<String> {
    let options = rows::options(fields);
    if options.is_empty() {
        return None;
    }
    let mut forms: Vec<String> = options.iter().map(|o| rows::normal_form(o)).collect();
    if forms.iter().any(String::is_empty) {
        return Some("an option is empty".into());
    }
    forms.sort_unstable();
    if let Some(pair) = forms.windows(2).find(|pair| pair[0] == pair[1]) {
        return Some(format!("two options are {:?}", short(&pair[0])));
    }
    None
}

fn judged(reward: &dyn Reward, task: &Task) -> Option<String> {
    if let Err(error) = reward.check_task(task) {
        return Some(error.to_string());
    }
    // Some rewards know no right answer of their own: then there is nothing to try.
    let gold = reward.gold(task)?;
    let outcome = score_one(reward, task, Response::new(&gold));
    (outcome.verdict != Verdict::Correct).then(|| {
        let name = reward.name();
        format!("{name} does not accept its own reference {:?}: {}", short(&gold), outcome.reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curate::scan::Unwatched;
    use rlvr_rewards::RewardConfig;

    fn check(kind: Option<&str>, text: &str, expected: &[(usize, &str)]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.jsonl");
        std::fs::write(&path, text).unwrap();
        let reward = kind.map(|kind| RewardConfig::from_kind(kind).unwrap().build().unwrap());
        let mut found = Vec::new();
        validate(&path, reward.as_deref(), &Unwatched, &mut |p| found.push(p)).unwrap();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (problem, (line, part)) in found.iter().zip(expected) {
            assert!(problem.line == *line && problem.message.contains(part), "{problem:?} {part}");
        }
    }

    #[test]
    fn every_problem_is_named_with_its_line() {
        let good = r#"{"id": "a", "prompt": "1+1?", "reference": {"answer": "2"}}"#;
        check(Some("math"), good, &[]);
        let text = format!(
            "{good}\n{good}\n{}\n{}\n{}\n{}\n",
            r#"{"prompt": [{"role": "user"}], "reference": {"answer": "2"}}"#,
            r#"{"id": [], "promt": "x", "reference": {}}"#,
            r#"{"id": "c", "prompt": " ", "answer": "2"}"#,
            r#"{"id": "d", "prompt": "x", "completion": 3, "reference": {"answer": "A", "options": ["x", "X."]}}"#,
        );
        check(
            None,
            &text,
            &[
                (2, "occurs in line 1"),
                (3, "no `id`"),
                (3, "has no `content`"),
                (4, "string or a number"),
                (4, "did you mean `promt`"),
                (4, "`reference` is empty"),
                (5, "`prompt` is empty"),
                (5, "no field `reference`"),
                (6, "`completion`"),
                (6, "two options are \"x\""),
            ],
        );
        let choice = r#"{"id": "a", "prompt": "x", "reference": {"answer": "C", "options": ["x", "y"]}}"#;
        check(Some("choice"), choice, &[(1, "choice")]);
        check(
            Some("numeric"),
            r#"{"id": "a", "prompt": "x", "reference": {"answer": "many"}}"#,
            &[(1, "numeric")],
        );
    }
}
