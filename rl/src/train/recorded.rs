//! Reads rollouts made elsewhere, for `[stage.rollouts]`.
//!
//! One JSON object a line: `{"step", "prompt_tokens", "completion_tokens", "reward", "logprobs"?, "group"}`, and with
//! `advantages = "given"` an `"advantage"`, a number or one a completion token; `reward` may then be absent. Other
//! fields are ignored, so the `rollouts.jsonl` of a run with `log.rollouts_tokens = true` can be replayed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::path::Path;

use serde_json::{Map, Value};

use crate::config::AdvantagesFrom;
use crate::data::DataError;
use crate::files::encoding::utf8;
use crate::files::{IoError, bounded};
use crate::rows::names;

/// A log-probability may exceed 0 by this much, in nats, by rounding in the engine that reported it.
const LOGPROB_SLACK: f64 = 1e-3;

/// One completion with what was made of it.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedRollout {
    /// Token ids of the prompt, not empty.
    pub prompt_tokens: Vec<u32>,
    /// Token ids of the completion with its end token when it has one; may be empty.
    pub completion_tokens: Vec<u32>,
    /// The reward; none when the completion could not be judged, which masks it out of its group.
    pub reward: Option<f64>,
    /// Log-probability of each completion token under the engine that sampled it, in nats.
    pub logprobs: Option<Vec<f32>>,
    /// The advantage, where the file gives it.
    pub advantage: Option<GivenAdvantage>,
    /// Line in the file, from 1.
    pub line: usize,
}

/// An advantage that is given and not computed.
#[derive(Debug, Clone, PartialEq)]
pub enum GivenAdvantage {
    /// Of every token.
    Completion(f64),
    /// One a completion token.
    Tokens(Vec<f64>),
}

impl GivenAdvantage {
    /// Its mean over tokens; 0 of none.
    pub fn mean(&self) -> f64 {
        match self {
            Self::Completion(value) => *value,
            Self::Tokens(values) => values.iter().sum::<f64>() / values.len().max(1) as f64,
        }
    }

    /// Whether some token has an advantage other than 0.
    pub fn teaches(&self) -> bool {
        match self {
            Self::Completion(value) => *value != 0.0,
            Self::Tokens(values) => values.iter().any(|value| *value != 0.0),
        }
    }
}

impl RecordedRollout {
    /// Whether a policy with this vocabulary and context can be trained on it.
    ///
    /// # Errors
    /// What is wrong.
    pub fn fits(&self, vocab_size: usize, context: usize) -> Result<(), String> {
        let ids = || self.prompt_tokens.iter().chain(&self.completion_tokens);
        let (len, most) = (ids().count(), ids().max().map_or(0, |id| *id as usize));
        if most >= vocab_size {
            return Err(format!("token id {most} is outside of the policy's vocabulary of {vocab_size}"));
        }
        if len > context {
            return Err(format!("{len} tokens exceed the policy's context of {context}"));
        }
        if self.prompt_tokens.is_empty() {
            return Err("prompt_tokens is empty".to_owned());
        }
        Ok(())
    }
}

/// The completions of one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedGroup {
    /// The value of `group`, as text.
    pub group: String,
    /// The completions, in order of appearance; all have the same prompt.
    pub rollouts: Vec<RecordedRollout>,
}

/// The groups of one rollout step.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedStep {
    /// The value of `step`.
    pub step: u64,
    /// The groups, in order of appearance.
    pub groups: Vec<RecordedGroup>,
}

/// Reads and checks a whole file; steps come in ascending order, groups and completions in order of appearance.
///
/// # Errors
/// [`DataError::Row`] with file and line, [`DataError::Empty`] for a file without rows.
pub fn read(path: &Path, advantages: AdvantagesFrom) -> Result<Vec<RecordedStep>, DataError> {
    let file = File::open(path).map_err(IoError::at("open", path))?;
    let bad = |line, message| DataError::Row { path: path.to_path_buf(), line, message };
    let mut steps: BTreeMap<u64, Vec<RecordedGroup>> = BTreeMap::new();
    let (mut reader, mut bytes) = (BufReader::new(file), Vec::new());
    for line in 1.. {
        match bounded::line(&mut reader, &mut bytes) {
            Ok(0) => break,
            Err(e) if e.kind() == ErrorKind::FileTooLarge => return Err(bad(line, e.to_string())),
            read => read.map_err(IoError::at("read", path))?,
        };
        let text = utf8(&bytes).map_err(|e| bad(line, e.to_string()))?;
        if text.trim().is_empty() {
            continue;
        }
        let (step, group, rollout) = row(text, line, advantages).map_err(|message| bad(line, message))?;
        let groups = steps.entry(step).or_default();
        match groups.iter_mut().find(|g| g.group == group) {
            None => groups.push(RecordedGroup { group, rollouts: vec![rollout] }),
            Some(known) => {
                let first = &known.rollouts[0];
                if first.prompt_tokens != rollout.prompt_tokens {
                    let message = format!(
                        "group {group} of step {step} has another prompt here than on line {}; a group shares one prompt",
                        first.line
                    );
                    return Err(bad(line, message));
                }
                known.rollouts.push(rollout);
            }
        }
    }
    if steps.is_empty() {
        return Err(bad(1, "the file has no rows".to_owned()));
    }
    Ok(steps.into_iter().map(|(step, groups)| RecordedStep { step, groups }).collect())
}

fn row(
    text: &str,
    line: usize,
    advantages: AdvantagesFrom,
) -> Result<(u64, String, RecordedRollout), String> {
    let row: Map<String, Value> =
        serde_json::from_str(text).map_err(|e| format!("not a JSON object: {e}"))?;
    let step = field(&row, "step")?.as_u64().ok_or("`step` must be a whole number, 0 or more")?;
    let group = match field(&row, "group")? {
        Value::String(name) => name.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err("`group` must be a number or a string".to_owned()),
    };
    let prompt_tokens = tokens(&row, "prompt_tokens")?;
    if prompt_tokens.is_empty() {
        return Err("`prompt_tokens` is empty; the first completion token needs one before it".to_owned());
    }
    let completion_tokens = tokens(&row, "completion_tokens")?;
    let given = advantages == AdvantagesFrom::Given;
    let reward = match row.get("reward") {
        None if !given => return Err(missing(&row, "reward")),
        None | Some(Value::Null) => None,
        Some(value) => {
            Some(value.as_f64().filter(|r| r.is_finite()).ok_or("`reward` must be a number or null")?)
        }
    };
    let advantage = given.then(|| advantage(&row, completion_tokens.len())).transpose()?;
    let logprobs = match row.get("logprobs") {
        None | Some(Value::Null) => None,
        Some(value) => Some(logprobs(value, completion_tokens.len())?),
    };
    let rollout = RecordedRollout { prompt_tokens, completion_tokens, reward, logprobs, advantage, line };
    Ok((step, group, rollout))
}

fn field<'a>(row: &'a Map<String, Value>, name: &str) -> Result<&'a Value, String> {
    row.get(name).ok_or_else(|| missing(row, name))
}

fn missing(row: &Map<String, Value>, name: &str) -> String {
    format!("`{name}` is missing (the row has: {})", names(row.keys().map(String::as_str)))
}

fn advantage(row: &Map<String, Value>, expected: usize) -> Result<GivenAdvantage, String> {
    let finite = |value: &Value| value.as_f64().filter(|v| v.is_finite());
    match row.get("advantage") {
        None | Some(Value::Null) => {
            Err("`advantage` is missing, and with advantages = \"given\" every row has one; 0 is one \
             that teaches nothing"
                .to_owned())
        }
        Some(Value::Array(list)) if list.len() != expected => {
            Err(format!("`advantage` has {} values for {expected} completion tokens", list.len()))
        }
        Some(Value::Array(list)) => {
            let number = |(i, value): (usize, &Value)| {
                finite(value).ok_or_else(|| format!("`advantage[{i}]` is {value}, not a number"))
            };
            list.iter().enumerate().map(number).collect::<Result<_, _>>().map(GivenAdvantage::Tokens)
        }
        Some(value) => finite(value)
            .map(GivenAdvantage::Completion)
            .ok_or_else(|| "`advantage` must be a number or a list of numbers".to_owned()),
    }
}

fn tokens(row: &Map<String, Value>, name: &str) -> Result<Vec<u32>, String> {
    let list = field(row, name)?.as_array().ok_or_else(|| format!("`{name}` must be a list of token ids"))?;
    list.iter()
        .enumerate()
        .map(|(i, id)| {
            id.as_u64()
                .and_then(|id| u32::try_from(id).ok())
                .ok_or_else(|| format!("`{name}[{i}]` is {id}, which is no token id"))
        })
        .collect()
}

fn logprobs(value: &Value, expected: usize) -> Result<Vec<f32>, String> {
    let list = value.as_array().ok_or("`logprobs` must be a list of numbers")?;
    if list.len() != expected {
        return Err(format!("`logprobs` has {} values for {expected} completion tokens", list.len()));
    }
    list.iter()
        .enumerate()
        .map(|(i, value)| {
            let value = value.as_f64().ok_or_else(|| format!("`logprobs[{i}]` is {value}, not a number"))?;
            if value.is_finite() && value <= LOGPROB_SLACK {
                Ok(value as f32)
            } else {
                Err(format!("`logprobs[{i}]` is {value}, but a log-probability is 0 or less"))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(content: &str) -> Result<Vec<RecordedStep>, String> {
        parse_with(content, AdvantagesFrom::Computed)
    }

    fn parse_with(content: &str, advantages: AdvantagesFrom) -> Result<Vec<RecordedStep>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.jsonl");
        std::fs::write(&path, content).unwrap();
        read(&path, advantages).map_err(|e| e.to_string())
    }

    #[test]
    fn rows_are_grouped_by_step_then_group_in_order_of_appearance() {
        let steps = parse(
            r#"{"step":2,"group":"b","prompt_tokens":[1],"completion_tokens":[2,3],"reward":1,"logprobs":[-0.5,0],"x":0}

{"step":1,"group":7,"prompt_tokens":[4],"completion_tokens":[],"reward":null}
{"step":2,"group":"a","prompt_tokens":[9],"completion_tokens":[3],"reward":0.25}
{"step":2,"group":"b","prompt_tokens":[1],"completion_tokens":[5],"reward":-1.5,"logprobs":null}
"#,
        )
        .unwrap();
        let shape: Vec<(u64, Vec<(&str, usize)>)> = steps
            .iter()
            .map(|s| (s.step, s.groups.iter().map(|g| (g.group.as_str(), g.rollouts.len())).collect()))
            .collect();
        assert_eq!(shape, [(1, vec![("7", 1)]), (2, vec![("b", 2), ("a", 1)])]);
        assert_eq!(steps[0].groups[0].rollouts[0].reward, None);
        let first = &steps[1].groups[0].rollouts[0];
        assert_eq!((first.logprobs.as_deref(), first.line), (Some(&[-0.5, 0.0][..]), 1));
        assert_eq!(steps[1].groups[0].rollouts[1].line, 5);
    }

    #[test]
    fn bad_rows_name_the_line_and_the_field() {
        let good = r#"{"step":1,"group":1,"prompt_tokens":[1],"completion_tokens":[2],"reward":1}"#;
        for (change, expected) in [
            ((r#""step":1"#, r#""step":-1"#), "`step` must be"),
            ((r#""step":1,"#, ""), "`step` is missing (the row has: group, prompt_tokens"),
            (("[1]", "[]"), "`prompt_tokens` is empty"),
            (("[2]", "[2.5]"), "`completion_tokens[0]` is 2.5"),
            (("[2]", "[4294967296]"), "no token id"),
            ((r#""reward":1"#, r#""reward":"1""#), "`reward` must be"),
            ((r#","reward":1"#, ""), "`reward` is missing"),
            ((r#""reward":1"#, r#""reward":1,"logprobs":[-1,-1]"#), "2 values for 1 completion tokens"),
            ((r#""reward":1"#, r#""reward":1,"logprobs":[0.7]"#), "0 or less"),
            (("{", "["), "not a JSON object"),
            (("[1]", "[8]"), "another prompt here than on line 1"),
        ] {
            let error = parse(&format!("{good}\n{}\n", good.replacen(change.0, change.1, 1))).unwrap_err();
            assert!(error.contains("r.jsonl:2: ") && error.contains(expected), "{change:?}: {error}");
        }
        assert!(parse("\n").unwrap_err().contains("no rows"));
        assert!(
            read(Path::new("no/such/file"), AdvantagesFrom::Computed)
                .unwrap_err()
                .to_string()
                .contains("no/such/file")
        );
    }

    #[test]
    fn advantages_are_given_in_every_row_or_in_none() {
        let row = r#"{"step":1,"group":1,"prompt_tokens":[1],"completion_tokens":[2,3],"advantage":-0.5}"#;
        let given = |rows: &str| parse_with(rows, AdvantagesFrom::Given);
        let list = row.replace("-0.5", "[0,2.5]").replace("[2,3]", "[7,8]");
        let steps = given(&format!("{row}\n{list}\n")).unwrap();
        let rollouts = &steps[0].groups[0].rollouts;
        assert_eq!(
            (rollouts[0].reward, &rollouts[0].advantage),
            (None, &Some(GivenAdvantage::Completion(-0.5)))
        );
        assert_eq!(rollouts[1].advantage, Some(GivenAdvantage::Tokens(vec![0.0, 2.5])));
        assert_eq!(rollouts[1].advantage.as_ref().map(|a| (a.mean(), a.teaches())), Some((1.25, true)));
        for (change, expected) in [
            (
                (r#","advantage":-0.5"#, ""),
                "`advantage` is missing, and with advantages = \"given\" every row",
            ),
            (("-0.5", "null"), "`advantage` is missing"),
            (("-0.5", "\"1\""), "must be a number or a list"),
            (("-0.5", "[1]"), "1 values for 2 completion tokens"),
            (("-0.5", "[1,null]"), "`advantage[1]` is null"),
        ] {
            let error = given(&format!("{row}\n{}\n", row.replacen(change.0, change.1, 1))).unwrap_err();
            assert!(error.contains("r.jsonl:2: ") && error.contains(expected), "{change:?}: {error}");
        }
        // Where they are computed, the field is one like any other: the records of a run have it.
        let rewarded = row.replace("-0.5", "\"?\",\"reward\":1");
        assert_eq!(parse(&rewarded).unwrap()[0].groups[0].rollouts[0].advantage, None);
        assert!(parse(row).unwrap_err().contains("`reward` is missing"));
    }
}
