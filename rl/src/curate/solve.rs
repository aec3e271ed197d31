//! `pass-rate` and `rejection`: what a policy makes of the tasks decides which tasks, or which solutions, are kept.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::CurateError;
use super::output::Output;
use super::pictures;
use super::sampling::{Candidate, Candidates};
use super::scan::{Input, Watch, scan};
use super::validate;
use crate::data::placed_images;
use crate::random;
use crate::rows::{self, Row};
use rlvr_rewards::{Message, Outcome, Response, Reward, Task, Verdict, score_batch};

/// Tasks that are sampled and judged at a time; part of what a sample depends on.
const CHUNK: usize = 16;
const PICK_STREAM: u64 = 0x7069_636b;

/// What is added to every prompt before a policy sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Framing {
    /// A system message.
    pub system: Option<String>,
    /// Text after the prompt, such as "Answer in \\boxed{}.".
    pub instruction: Option<String>,
}

impl Framing {
    fn apply(&self, mut messages: Vec<Message>) -> Vec<Message> {
        if let Some(text) = &self.instruction {
            // A reply that is begun already is not what the instruction belongs to.
            let asked = messages.iter().rposition(|m| m.role == "user");
            let at = asked.unwrap_or_else(|| messages.len().saturating_sub(1));
            if let Some(message) = messages.get_mut(at) {
                message.content = format!("{}\n\n{text}", message.content);
            }
        }
        let system = self.system.clone().map(|content| Message { role: "system".into(), content });
        system.into_iter().chain(messages).collect()
    }
}

/// Which tasks stay: neither solved always nor never.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassRateSettings {
    /// Lowest share of correct completions. Default 0.2.
    pub low: f64,
    /// Highest share. Default 0.8.
    pub high: f64,
    /// What is added to the prompts for the policy; the rows keep theirs.
    pub framing: Framing,
}

/// Which of several correct solutions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pick {
    /// The shortest in characters.
    Shortest,
    /// The first ones sampled.
    First,
    /// Some, by the seed.
    Random,
}

/// Which solutions become rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RejectionSettings {
    /// Solutions a task at most. Default 1.
    pub per_task: usize,
    /// Which ones.
    pub pick: Pick,
    /// Seed of a random pick.
    pub seed: u64,
    /// What is added to the prompts, also in the rows that are written.
    pub framing: Framing,
}

/// A task with its judged completions, or why there are none.
type Judged<'a> = Result<(&'a [Candidate], &'a [Outcome]), &'static str>;

/// Reads tasks, lets `source` complete and `reward` judge them, and hands them on in order.
fn solve(
    input: &Path,
    source: &mut dyn Candidates,
    reward: &dyn Reward,
    framing: &Framing,
    watch: &dyn Watch,
    take: &mut dyn FnMut(&Row, &Task, Judged) -> Result<(), CurateError>,
) -> Result<Input, CurateError> {
    let read = |row: &Row| -> Result<Task, String> {
        let mut prompt = framing.apply(validate::messages(&row.fields)?);
        let named: Vec<Value> = pictures::named(&row.fields).into_iter().cloned().collect();
        let images = placed_images(&mut prompt, &named, input.parent().unwrap_or(Path::new("")))?;
        let reference = validate::reference(&row.fields)?;
        let task =
            Task { id: row.id(), prompt, images, reference, meta: Map::new() }.with_row(row.fields.clone());
        reward.check_task(&task).map_err(|e| e.to_string())?;
        Ok(task)
    };
    // Every row is checked before the first is sampled, which may take hours.
    scan(input, "check", watch, &read, &mut |row, task| {
        source.check(&task).map_err(|message| CurateError::row(input, row.line, message))
    })?;
    let mut waiting: Vec<(Row, Task)> = Vec::with_capacity(CHUNK);
    let mut done = 0_u64;
    let mut flush = |waiting: &mut Vec<(Row, Task)>| {
        let tasks: Vec<&Task> = waiting.iter().map(|(_, task)| task).collect();
        let groups = source.of(&tasks, done)?;
        done += tasks.len() as u64;
        let items: Vec<(&Task, Response)> = (tasks.iter().zip(&groups))
            .flat_map(|(task, group)| group.iter().flatten().map(move |c| (*task, c.response())))
            .collect();
        let outcomes = score_batch(reward, &items);
        let mut first = 0;
        for ((row, task), group) in waiting.iter().zip(&groups) {
            match group {
                Err(why) => take(row, task, Err(*why))?,
                Ok(group) => {
                    take(row, task, Ok((group.as_slice(), &outcomes[first..first + group.len()])))?;
                    first += group.len();
                }
            }
        }
        waiting.clear();
        Ok::<(), CurateError>(())
    };
    let read_all = scan(input, "sample", watch, &read, &mut |row, task| {
        waiting.push((row, task));
        if waiting.len() == CHUNK { flush(&mut waiting) } else { Ok(()) }
    })?;
    if !waiting.is_empty() {
        flush(&mut waiting)?;
    }
    Ok(read_all)
}

/// Keeps the tasks that a policy solves with a probability between `low` and `high`; `meta.pass_rate` says how often.
///
/// # Errors
/// [`CurateError`]: settings, rows, files or a policy that cannot be used.
pub fn pass_rate(
    input: &Path,
    out: &mut Output,
    source: &mut dyn Candidates,
    reward: &dyn Reward,
    settings: &PassRateSettings,
    watch: &dyn Watch,
) -> Result<Input, CurateError> {
    let (low, high) = (settings.low, settings.high);
    out.comes_from(input);
    if !(0.0 <= low && low <= high && high <= 1.0) {
        return Err(CurateError::Setting(format!(
            "pass rates from {low} to {high} must lie between 0 and 1, in order"
        )));
    }
    solve(input, source, reward, &settings.framing, watch, &mut |row, _, judged| {
        let (_, outcomes) = match judged {
            Ok(judged) => judged,
            Err(why) => return out.drop(row, why, Value::Null),
        };
        let of = outcomes.iter().filter(|o| !o.verdict.is_masked()).count();
        let correct = outcomes.iter().filter(|o| o.verdict == Verdict::Correct).count();
        if of == 0 {
            return out.drop(row, "no completion could be judged", Value::Null);
        }
        let rate = correct as f64 / of as f64;
        let record = json!({"rate": (rate * 1e6).round() / 1e6, "correct": correct, "of": of});
        if rate < low {
            return out.drop(row, &format!("solved less often than {low}"), record);
        }
        if rate > high {
            return out.drop(row, &format!("solved more often than {high}"), record);
        }
        let mut fields = row.fields.clone();
        set_meta(&mut fields, "pass_rate", record);
        out.write(&Value::Object(fields))
    })
}

fn set_meta(fields: &mut Map<String, Value>, key: &str, value: Value) {
    let mut meta = validate::meta(fields);
    meta.insert(key.to_owned(), value);
    fields.insert("meta".into(), Value::Object(meta));
}

/// Writes correct solutions as rows with a `completion`, which supervised stages learn.
///
/// # Errors
/// [`CurateError`]: settings, rows, files or a policy that cannot be used.
pub fn rejection(
    input: &Path,
    out: &mut Output,
    source: &mut dyn Candidates,
    reward: &dyn Reward,
    settings: &RejectionSettings,
    watch: &dyn Watch,
) -> Result<Input, CurateError> {
    out.comes_from(input);
    if settings.per_task == 0 {
        return Err(CurateError::Setting("at least one solution a task must be kept".into()));
    }
    solve(input, source, reward, &settings.framing, watch, &mut |row, task, judged| {
        let (candidates, outcomes) = match judged {
            Ok(judged) => judged,
            Err(why) => return out.drop(row, why, Value::Null),
        };
        let pairs = candidates.iter().zip(outcomes);
        let correct: Vec<&str> = pairs
            .filter(|(c, o)| o.verdict == Verdict::Correct && !c.truncated)
            .map(|(c, _)| c.text.trim())
            .collect();
        let record = json!({"correct": correct.len(), "of": candidates.len()});
        if correct.is_empty() {
            return out.drop(row, "no correct solution", record);
        }
        out.count("tasks with a solution");
        for (i, text) in pick(&correct, &task.id, settings).into_iter().enumerate() {
            let mut fields = Map::new();
            fields.insert("id".into(), json!(format!("{}-{}", task.id, i + 1)));
            fields.insert("prompt".into(), prompt(&task.prompt));
            fields.insert("completion".into(), json!(text));
            fields.extend(pictures::kept(&row.fields));
            fields.insert("reference".into(), task.reference.clone());
            fields.insert("meta".into(), Value::Object(validate::meta(&row.fields)));
            set_meta(&mut fields, "task", json!(task.id));
            set_meta(&mut fields, "solved", record.clone());
            out.write(&Value::Object(fields))?;
        }
        Ok(())
    })
}

/// Different solutions in the order of preference, as many as are wanted.
fn pick<'a>(correct: &[&'a str], id: &str, settings: &RejectionSettings) -> Vec<&'a str> {
    let mut forms: Vec<String> = Vec::new();
    let mut different: Vec<&str> = Vec::new();
    for text in correct {
        let form = rows::normal_form(text);
        if !forms.contains(&form) {
            forms.push(form);
            different.push(text);
        }
    }
    match settings.pick {
        Pick::First => {}
        Pick::Shortest => different.sort_by_key(|text| text.chars().count()),
        Pick::Random => {
            let id = random::hash_bytes(id.as_bytes());
            different.sort_by_key(|text| {
                random::word(&[settings.seed, PICK_STREAM, id, random::hash_bytes(text.as_bytes())])
            });
        }
    }
    different.truncate(settings.per_task);
    different
}

/// A single message of the user as text, a conversation as it is.
fn prompt(messages: &[Message]) -> Value {
    match messages {
        [message] if message.role == "user" => json!(message.content),
        _ => json!(messages),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curate::sampling::{Groups, Journal, Recorded};
    use crate::curate::scan::Unwatched;
    use rlvr_rewards::RewardConfig;
    use std::cell::Cell;
    use std::path::PathBuf;

    #[test]
    fn instructions_follow_what_is_asked_and_not_a_begun_reply() {
        let message = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
        let framing = Framing { system: Some("S".into()), instruction: Some("Box it.".into()) };
        let framed = framing.apply(vec![message("user", "q"), message("assistant", "So")]);
        assert_eq!(
            framed,
            [message("system", "S"), message("user", "q\n\nBox it."), message("assistant", "So")]
        );
    }

    struct Bench {
        dir: tempfile::TempDir,
        reward: Box<dyn Reward>,
    }

    impl Bench {
        fn new() -> Self {
            let reward = RewardConfig::from_kind("math").unwrap().build().unwrap();
            let bench = Self { dir: tempfile::tempdir().unwrap(), reward };
            let task = |id: &str| {
                format!(
                    "{}\n",
                    json!({"id": id, "prompt": "2+2?", "reference": {"answer": "4"}, "meta": {"x": 1}})
                )
            };
            std::fs::write(bench.path("in.jsonl"), ["always", "often", "never", "none"].map(task).concat())
                .unwrap();
            let row = |(id, text): (&str, &str)| format!("{}\n", json!({"id": id, "completion": text}));
            let texts = [
                ("always", "\\boxed{4}"),
                ("always", "It is  \\boxed{4}."),
                ("always", "it is \\boxed{4}"),
                ("always", "Well: \\boxed{4}"),
                ("often", "\\boxed{5}"),
                ("often", "so \\boxed{4}"),
                ("never", "\\boxed{3}"),
                ("never", "who knows"),
            ];
            std::fs::write(bench.path("c.jsonl"), texts.map(row).concat()).unwrap();
            bench
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn rows(&self, out: Output) -> (Vec<Value>, std::collections::BTreeMap<String, u64>) {
            let command = super::super::output::Command { name: "x", settings: json!({}), seed: None };
            let manifest = out.finish(command, Vec::new()).unwrap();
            let text = std::fs::read_to_string(self.path("out.jsonl")).unwrap();
            let rows = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            (rows, manifest.steps[0].dropped.clone())
        }

        fn out(&self) -> Output {
            Output::create(&self.path("out.jsonl"), None, true).unwrap()
        }
    }

    #[test]
    fn tasks_that_are_solved_sometimes_stay() {
        let bench = Bench::new();
        let mut source = Recorded::read(&bench.path("c.jsonl")).unwrap();
        let settings = PassRateSettings { low: 0.2, high: 0.8, framing: Framing::default() };
        let mut out = bench.out();
        pass_rate(&bench.path("in.jsonl"), &mut out, &mut source, &*bench.reward, &settings, &Unwatched)
            .unwrap();
        let (rows, dropped) = bench.rows(out);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0]["meta"], json!({"x": 1, "pass_rate": {"rate": 0.5, "correct": 1, "of": 2}}));
        assert_eq!(
            dropped.keys().collect::<Vec<_>>(),
            ["no completions", "solved less often than 0.2", "solved more often than 0.8"]
        );
        let wrong = PassRateSettings { low: 0.8, high: 0.2, framing: Framing::default() };
        let mut out = bench.out();
        assert!(
            pass_rate(&bench.path("in.jsonl"), &mut out, &mut source, &*bench.reward, &wrong, &Unwatched)
                .is_err()
        );
    }

    #[test]
    fn correct_solutions_become_rows_to_learn() {
        let bench = Bench::new();
        let mut source = Recorded::read(&bench.path("c.jsonl")).unwrap();
        let framing = Framing { system: Some("S".into()), instruction: Some("Box it.".into()) };
        let mut run = |pick, per_task| {
            let settings = RejectionSettings { per_task, pick, seed: 1, framing: framing.clone() };
            let mut out = bench.out();
            rejection(&bench.path("in.jsonl"), &mut out, &mut source, &*bench.reward, &settings, &Unwatched)
                .unwrap();
            bench.rows(out).0
        };
        let texts = |rows: &[Value]| {
            rows.iter().map(|r| r["completion"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let rows = run(Pick::Shortest, 2);
        assert_eq!(texts(&rows), ["\\boxed{4}", "Well: \\boxed{4}", "so \\boxed{4}"]);
        assert_eq!(
            rows[0]["prompt"],
            json!([{"role": "system", "content": "S"}, {"role": "user", "content": "2+2?\n\nBox it."}])
        );
        assert_eq!((&rows[1]["id"], &rows[1]["meta"]["task"]), (&json!("always-2"), &json!("always")));
        assert_eq!(
            texts(&run(Pick::First, 9)),
            ["\\boxed{4}", "It is  \\boxed{4}.", "Well: \\boxed{4}", "so \\boxed{4}"]
        );
        assert_eq!(run(Pick::Random, 2), run(Pick::Random, 2));
    }

    #[test]
    fn a_prompt_that_the_policy_cannot_read_is_named_before_any_is_sampled() {
        let config = crate::config::TinyConfig {
            layers: 1,
            hidden: 8,
            heads: 1,
            kv_heads: 1,
            intermediate: 8,
            context: 16,
            alphabet: "0123456789+?".to_owned(),
        };
        let policy = crate::policy::Policy::tiny(&config, 1, &burn::tensor::Device::flex()).unwrap();
        let bench = Bench::new();
        let row = |id: usize, prompt: &str| {
            format!("{}\n", json!({"id": id, "prompt": prompt, "reference": {"answer": "4"}}))
        };
        let text: String = (0..20).map(|i| row(i, "2+2?")).chain([row(20, "two?")]).collect();
        std::fs::write(bench.path("in.jsonl"), text).unwrap();
        let sampled = crate::curate::sampling::Sampled {
            policy: &policy,
            engine: &crate::engine::Own,
            samples: 1,
            sampling: rlvr_rollout::SamplingParams { max_tokens: 2, ..Default::default() },
            stop: Vec::new(),
            seed: 1,
        };
        let journal = bench.path("journal.jsonl");
        let mut source = Journal::open(&journal, sampled, 1, &json!({})).unwrap();
        let settings = PassRateSettings { low: 0.0, high: 1.0, framing: Framing::default() };
        let mut out = bench.out();
        let done =
            pass_rate(&bench.path("in.jsonl"), &mut out, &mut source, &*bench.reward, &settings, &Unwatched);
        let error = done.unwrap_err().to_string();
        assert!(error.contains("in.jsonl:21: ") && error.contains("'t'"), "{error}");
        assert_eq!(std::fs::read_to_string(journal).unwrap(), "", "rows were sampled");
    }

    #[test]
    fn a_journal_is_continued() {
        struct Counted<'a>(&'a Cell<u64>);
        impl Candidates for Counted<'_> {
            fn of(&mut self, tasks: &[&Task], first: u64) -> Result<Groups, CurateError> {
                self.0.set(self.0.get() + 1);
                let text = |i: usize| format!("\\boxed{{{}}}", first + i as u64);
                let one = |i: usize| vec![Candidate { text: text(i), truncated: false, tokens: Some(3) }];
                Ok((0..tasks.len()).map(|i| Ok(one(i))).collect())
            }
        }
        let calls = Cell::new(0);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let tasks: Vec<Task> = (0..4).map(|i| Task::new(format!("t{i}"), json!({}))).collect();
        let all: Vec<&Task> = tasks.iter().collect();
        let mut first = Journal::open(&path, Counted(&calls), 1, &json!({"seed": 1})).unwrap();
        let a = first.of(&all[..2], 0).unwrap();
        drop(first);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"id\": \"t2\", \"compl");
        std::fs::write(&path, text).unwrap();
        let mut second = Journal::open(&path, Counted(&calls), 1, &json!({"seed": 1})).unwrap();
        assert_eq!(second.of(&all[..2], 0).unwrap(), a);
        assert_eq!(calls.get(), 1);
        second.of(&all[2..], 2).unwrap();
        assert_eq!(calls.get(), 2);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 4);
        let busy = Journal::open(&path, Counted(&calls), 1, &json!({"seed": 1})).err().unwrap().to_string();
        assert!(busy.contains("journal.jsonl: is being written by another process"), "{busy}");
        let other = Journal::open(&path, Counted(&calls), 1, &json!({"seed": 2})).err().unwrap().to_string();
        assert!(other.contains("other settings"), "{other}");
    }
}
