//! Which items of a benchmark occur in a training file: questions that share a run of words with it.
//!
//! A question is found when one of its runs of 13 words (arXiv:2005.14165 app. C), or the whole of a shorter question of
//! at least 5 words, stands in a text of the training file, up to case and punctuation. Runs that more than three items
//! have are phrases of the trade and prove nothing. Questions below 5 words cannot be told and are counted.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use serde_json::Value;

use super::benchmark::Benchmark;
use crate::data::DataError;
use crate::data::jsonl::JsonlConfig;
use crate::random;

/// Words of a run.
pub const RUN_WORDS: usize = 13;
/// Words below which a question cannot be told from others.
const SHORTEST: usize = 5;
/// Items that may share a run.
const COMMON: usize = 3;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contamination {
    /// Indices of the items that occur in the training file.
    pub items: BTreeSet<usize>,
    /// Items whose question is too short to tell.
    pub too_short: usize,
}

/// Looks for the items of a benchmark in the rows of a JSON Lines file (or a JSON array in a `.json`): in every text of
/// a row, whatever its field.
///
/// # Errors
/// A file that cannot be read, with its path and the line at fault.
pub fn contamination(benchmark: &Benchmark, training: &Path) -> Result<Contamination, DataError> {
    let mut runs: HashMap<(usize, u64), Vec<usize>> = HashMap::new();
    let mut found = Contamination::default();
    for (i, item) in benchmark.items.iter().enumerate() {
        let words = words(item.question());
        let length = words.len().min(RUN_WORDS);
        if length < SHORTEST {
            found.too_short += 1;
            continue;
        }
        let own: BTreeSet<u64> = words.windows(length).map(hash).collect();
        own.into_iter().for_each(|run| runs.entry((length, run)).or_default().push(i));
    }
    runs.retain(|_, items| items.len() <= COMMON);
    let lengths: BTreeSet<usize> = runs.keys().map(|(length, _)| *length).collect();
    let file = JsonlConfig::all_of(training.to_path_buf());
    let read = file.rows("training", &mut |_, row| {
        for text in row.fields.values() {
            each_text(text, &mut |text| {
                let words = words(text);
                for length in &lengths {
                    for run in words.windows(*length) {
                        found.items.extend(runs.get(&(*length, hash(run))).into_iter().flatten());
                    }
                }
            });
        }
        Ok(true)
    });
    match read {
        Ok(()) => Ok(found),
        // No [data.NAME] of a config is behind the file.
        Err(DataError::Io { source, .. }) => Err(DataError::File(source)),
        Err(other) => Err(other),
    }
}

fn each_text(value: &Value, take: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => take(text),
        Value::Array(list) => list.iter().for_each(|v| each_text(v, take)),
        Value::Object(table) => table.values().for_each(|v| each_text(v, take)),
        _ => {}
    }
}

fn words(text: &str) -> Vec<u64> {
    let text = text.to_lowercase();
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty());
    words.map(|word| random::hash_bytes(word.as_bytes())).collect()
}

fn hash(run: &[u64]) -> u64 {
    random::word(run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{OpenSettings, TaskFile};
    use serde_json::json;

    #[test]
    fn planted_questions_are_found_and_common_phrases_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let phrase =
            "which of the following is the most appropriate next step in the management of this patient";
        let question = |i: usize| match i {
            0 => "too short".to_owned(),
            1 => "What is the capital of Ruritania today?".to_owned(),
            i => format!("A patient of {i} years has complaint number {i} since day {i}: {phrase}?"),
        };
        let lines = |rows: Vec<Value>| rows.iter().map(|row| format!("{row}\n")).collect::<String>();
        let items = (0..10).map(|i| json!({"id": i, "question": question(i), "answer": "1"})).collect();
        std::fs::write(dir.path().join("t.jsonl"), lines(items)).unwrap();
        let training = vec![
            json!({"messages": [{"content": "So: what is the CAPITAL of ruritania, today? Strelsau."}]}),
            json!({"text": question(4).to_uppercase()}),
            json!({"text": format!("Another case: {phrase}?")}),
            json!({"text": "too short"}),
        ];
        std::fs::write(dir.path().join("train.jsonl"), lines(training)).unwrap();
        let text = "name = \"t\"\ntitle = \"T\"\nlicense = \"MIT\"\nprompt = \"{{ question }}\"\n[source]\nfile = \
                    \"t.jsonl\"\n[fields]\nquestion = \"{{ question }}\"\nanswer = \"{{ answer }}\"\n[reward]\nkind = \
                    \"math\"\n";
        let file = TaskFile::parse(text, Path::new("t.toml")).unwrap();
        let settings = OpenSettings { data_dir: dir.path().into(), ..OpenSettings::default() };
        let benchmark = Benchmark::open(&file, text, &settings).unwrap();
        let found = contamination(&benchmark, &dir.path().join("train.jsonl")).unwrap();
        assert_eq!(found, Contamination { items: BTreeSet::from([1, 4]), too_short: 1 });
        let missing = contamination(&benchmark, &dir.path().join("nowhere.jsonl")).unwrap_err().to_string();
        assert!(missing.contains("nowhere.jsonl") && !missing.contains("[data"), "{missing}");
    }
}
