//! The built-in benchmarks, and benchmarks from files.

use crate::args::TaskArgs;
use crate::input::{self, Row, Source, bad};
use crate::output::{count, say};
use crate::sample;
use crate::score;
use anyhow::Result;
use rlvr::rewards::{Message, Reward, Task};
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// How the rows of a built-in benchmark become tasks.
#[derive(Clone, Copy)]
enum Style {
    /// `question`, `options`, and a letter as `answer`.
    Choice,
    /// `question` with an `answer` that ends in `#### N`.
    GradeSchool,
    /// `problem` and `answer`.
    Math,
    /// `context`, `question`, and yes, no or maybe as `answer`.
    YesNoMaybe,
}

struct Builtin {
    name: &'static str,
    file: &'static str,
    split: Option<&'static str>,
    style: Style,
}

const fn builtin(
    name: &'static str,
    file: &'static str,
    split: Option<&'static str>,
    style: Style,
) -> Builtin {
    Builtin { name, file, split, style }
}

const BUILTIN: &[Builtin] = &[
    builtin("gsm8k", "gsm8k/test.jsonl", None, Style::GradeSchool),
    builtin("math500", "math/math500.jsonl", None, Style::Math),
    builtin("medqa", "medqa/test.jsonl", None, Style::Choice),
    builtin("medmcqa", "medmcqa/dev.jsonl", Some("test"), Style::Choice),
    builtin("pubmedqa", "pubmedqa/pqal.jsonl", Some("test"), Style::YesNoMaybe),
    builtin("mmlu_medical", "mmlu_medical/test.jsonl", None, Style::Choice),
];

const BOXED: &str = "Reason step by step, and put the final answer in \\boxed{}.";
const LETTER: &str = "End with \"The answer is X\", where X is the letter of the correct option.";
const YES_NO_MAYBE: &str = "Answer with yes, no or maybe.";

/// A benchmark in memory.
pub struct Benchmark {
    pub name: String,
    pub tasks: Vec<Task>,
    pub reward: Box<dyn Reward>,
}

/// The benchmarks of `--tasks`.
pub fn open(args: &TaskArgs) -> Result<Vec<Benchmark>> {
    let mut benchmarks: Vec<Benchmark> = Vec::new();
    for name in &args.tasks {
        let mut benchmark = match BUILTIN.iter().find(|b| b.name == name) {
            Some(b) => b.open(&args.data_dir)?,
            None if Path::new(name).exists() => from_file(Path::new(name), args.reward.as_deref())?,
            None => return Err(unknown(name)),
        };
        if benchmarks.iter().any(|b| b.name == benchmark.name) {
            return Err(bad(format!("--tasks names {} twice", benchmark.name)));
        }
        benchmark.tasks.truncate(args.limit.unwrap_or(usize::MAX));
        if benchmark.tasks.is_empty() {
            return Err(bad(format!("{name}: no items in it")));
        }
        benchmarks.push(benchmark);
    }
    Ok(benchmarks)
}

fn unknown(name: &str) -> anyhow::Error {
    let names: Vec<&str> = BUILTIN.iter().map(|b| b.name).collect();
    let near = score::nearest(name, names.iter().copied());
    let near = near.map_or(String::new(), |near| format!(", did you mean {near}?"));
    let known = names.join(", ");
    bad(format!("--tasks {name}: no such file and no built-in benchmark{near} (built-in: {known})"))
}

impl Builtin {
    fn open(&self, data_dir: &Path) -> Result<Benchmark> {
        let path: PathBuf = data_dir.join(self.file);
        if !path.is_file() {
            let missing = path.display();
            return Err(bad(format!(
                "{}: no file {missing}: say with --data-dir where the data is",
                self.name
            )));
        }
        let kind = match self.style {
            Style::Choice | Style::YesNoMaybe => "choice",
            Style::GradeSchool | Style::Math => "math",
        };
        let reward = score::by_kind(kind)?;
        let mut source = Source::open(&path)?;
        let mut tasks = Vec::new();
        let mut unusable = 0;
        while let Some((line, fields)) = source.next_object()? {
            let split = fields.get("split").and_then(Value::as_str);
            if self.split.is_some_and(|wanted| split != Some(wanted)) {
                continue;
            }
            let id =
                [fields.get("id"), fields.get("unique_id")].into_iter().flatten().find_map(input::id_text);
            let id = id.unwrap_or_else(|| format!("{}-{}", self.name, tasks.len()));
            let task = self.task(id, &fields).map_err(|e| source.bad_at(line, e))?;
            unusable += usize::from(reward.check_task(&task).is_err());
            tasks.push(task);
        }
        if unusable > 0 {
            say!(
                "note: {}: the reference of {} cannot be used; they count as wrong",
                self.name,
                count(unusable, "item")
            );
        }
        Ok(Benchmark { name: self.name.into(), tasks, reward })
    }

    fn task(&self, id: String, fields: &Map<String, Value>) -> Result<Task, String> {
        let text = |key: &str| {
            let found = fields.get(key).and_then(Value::as_str);
            found.ok_or_else(|| format!("the row has no text `{key}`"))
        };
        let (prompt, reference) = match self.style {
            Style::Choice => {
                let options =
                    fields.get("options").and_then(Value::as_array).ok_or("the row has no list `options`")?;
                let prompt = format!("{}\n\n{LETTER}", with_options(text("question")?, options));
                (prompt, json!({"answer": text("answer")?, "options": options}))
            }
            Style::GradeSchool => {
                let (_, answer) = text("answer")?.rsplit_once("####").ok_or("`answer` has no `#### N`")?;
                let answer = answer.trim().replace(',', "");
                (format!("{}\n\n{BOXED}", text("question")?), json!({ "answer": answer }))
            }
            Style::Math => (format!("{}\n\n{BOXED}", text("problem")?), json!({"answer": text("answer")?})),
            Style::YesNoMaybe => {
                let prompt = format!("{}\n\n{}\n\n{YES_NO_MAYBE}", text("context")?, text("question")?);
                let options = ["yes", "no", "maybe"];
                (prompt, json!({"answer": text("answer")?, "options": options, "letters": "YNM"}))
            }
        };
        let prompt = vec![Message { role: "user".into(), content: prompt }];
        Ok(Task { id, prompt, reference, meta: Map::new() })
    }
}

/// A question with its lettered options.
fn with_options(question: &str, options: &[Value]) -> String {
    let lines = options.iter().zip('A'..='Z').map(|(option, letter)| {
        let text = option.as_str().map_or_else(|| option.to_string(), str::to_owned);
        format!("\n{letter}. {text}")
    });
    format!("{question}\n{}", lines.collect::<String>())
}

/// The items of a JSON Lines file.
fn from_file(path: &Path, kind: Option<&str>) -> Result<Benchmark> {
    let mut source = Source::open(path)?;
    let rows = source.objects()?;
    let has_options = rows.first().is_some_and(|(_, fields)| fields.contains_key("options"));
    let kind = kind.unwrap_or(if has_options { "choice" } else { "math" });
    let reward = score::by_kind(kind)?;
    let mut tasks = Vec::with_capacity(rows.len());
    let mut ids = HashSet::new();
    for (line, fields) in rows {
        let task = file_task((line, fields), kind).map_err(|e| source.bad_at(line, e))?;
        if !ids.insert(task.id.clone()) {
            return Err(source.bad_at(line, format!("the id {:?} occurs twice", task.id)));
        }
        reward.check_task(&task).map_err(|e| source.bad_at(line, e))?;
        tasks.push(task);
    }
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Benchmark { name, tasks, reward })
}

fn file_task((line, fields): Row, kind: &str) -> Result<Task, String> {
    let id = match fields.get("id") {
        None | Some(Value::Null) => line.to_string(),
        Some(id) => input::id_text(id).ok_or("`id` must be a string or a number")?,
    };
    let options =
        fields.get("options").map(|o| o.as_array().ok_or("`options` must be a list")).transpose()?;
    let mut prompt = sample::messages(&fields)?;
    // A `prompt` is complete; a `question` is told how to be answered.
    if !fields.contains_key("prompt")
        && let Some(message) = prompt.last_mut()
    {
        let instruction = match kind {
            "choice" => LETTER,
            "math" | "numeric" => BOXED,
            _ => "End with the final answer in <answer></answer> tags.",
        };
        let question = options.map_or_else(|| message.content.clone(), |o| with_options(&message.content, o));
        message.content = format!("{question}\n\n{instruction}");
    }
    let reference = reference(&fields)?;
    Ok(Task { id, prompt, reference, meta: Map::new() })
}

/// What a row gives a reward to compare with: `reference`, or `answer` with the `options` where there are some.
pub fn reference(fields: &Map<String, Value>) -> Result<Value, String> {
    match (fields.get("reference"), fields.get("answer"), fields.get("options")) {
        (Some(reference), ..) if !reference.is_null() => Ok(reference.clone()),
        (_, Some(answer), Some(options)) => Ok(json!({"answer": answer, "options": options})),
        (_, Some(answer), None) => Ok(json!({ "answer": answer })),
        _ => Err("the row has no `answer` (or `reference`)".into()),
    }
}
