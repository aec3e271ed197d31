//! A reward: `score(item)` gives a number for one completion, 1 for a right one and 0 for a wrong one.

mod rlvr_plugin;

use rlvr_plugin::{Score, Value};

/// `item`: completion, prompt (messages), reference, meta (the rest of the data row), id, truncated, group. A panic is the verdict `error`, never
/// 0. `eprintln!` goes to the log; `config` is that of the TOML file.
fn score(item: &Value, _config: &Value) -> Score {
    let gold = match &item["reference"]["answer"] {
        Value::Null => return Score::Unverifiable("the task has no reference.answer".into()),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let completion = item["completion"].as_str().unwrap_or_default();
    let last = completion.rsplit_once("\\boxed{").and_then(|(_, rest)| rest.split_once('}'));
    match last.map(|(answer, _)| answer.trim()).filter(|answer| !answer.is_empty()) {
        Some(answer) => Score::Of(if answer == gold.trim() { 1.0 } else { 0.0 }),
        None => Score::Of(0.0),
    }
}

fn main() {
    rlvr_plugin::serve("reward", score);
}
