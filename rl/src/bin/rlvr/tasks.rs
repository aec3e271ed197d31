//! The benchmarks that `--tasks` names: built-in ones, definitions, and JSON Lines files.

use crate::args::eval::TaskArgs;
use crate::input::{self, bad};
use crate::output::{count, say};
use anyhow::Result;
use rlvr::eval::{
    Benchmark, Choice, Continuation, Definition, Item, OpenSettings, builtin, fingerprint, gold,
};
use rlvr::files::source::{LineFields, LineSource};
use rlvr::rewards::{RewardConfig, Task};
use rlvr::rows::id_text;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::path::Path;

const BOXED: &str = "Reason step by step, and put the final answer in \\boxed{}.";
/// References that cannot be used and are named, of one benchmark.
const SHOWN: usize = 5;
const LETTER: &str = "End with \"The answer is X\", where X is the letter of the correct option.";

/// The benchmarks of `--tasks`.
pub fn open(args: &TaskArgs, likelihood_of: Option<Continuation>) -> Result<Vec<Benchmark>> {
    let settings = args.settings(likelihood_of);
    check_reward(args, &settings)?;
    let mut benchmarks: Vec<Benchmark> = Vec::new();
    for name in &args.tasks {
        let benchmark = match definition(name, &settings)? {
            Some(d) => {
                if args.download {
                    crate::download::ensure(&d.file, &d.settings)?;
                }
                Benchmark::open(&d.file, &d.text, &d.settings)?
            }
            None => from_file(Path::new(name), args)?,
        };
        if benchmarks.iter().any(|b| b.name == benchmark.name) {
            return Err(bad(format!("--tasks names {} twice", benchmark.name)));
        }
        if benchmark.items.is_empty() {
            return Err(bad(format!("{name}: no items in it")));
        }
        if args.arms.shuffle_options.is_some() && benchmark.items.iter().all(|item| item.options.is_empty()) {
            return Err(bad(format!("{name}: --shuffle-options: its items have no options")));
        }
        let unusable: Vec<String> = (benchmark.items.iter())
            .filter_map(|i| Some(format!("{}: {}", i.place, benchmark.reward.check_task(&i.task).err()?)))
            .collect();
        for problem in unusable.iter().take(SHOWN) {
            say!("note: {}: {problem}", benchmark.name);
        }
        if !unusable.is_empty() {
            let items = count(unusable.len(), "item");
            say!("note: {}: the reference of {items} cannot be used; they count as wrong", benchmark.name);
        }
        for note in &benchmark.notes {
            say!("note: {}: {note}", benchmark.name);
        }
        benchmarks.push(benchmark);
    }
    Ok(benchmarks)
}

/// Refuses a reward that would judge nothing: definitions have their own.
pub fn check_reward(args: &TaskArgs, settings: &OpenSettings) -> Result<()> {
    let Some(reward) = &args.reward else { return Ok(()) };
    for name in &args.tasks {
        if definition(name, settings)?.is_none() {
            return Ok(());
        }
    }
    Err(bad(format!(
        "--reward {reward} is for JSON Lines files: {} says itself how it is judged ([reward] in a definition of your own)",
        args.tasks.join(", ")
    )))
}

/// What a name of `--tasks` means, when it is a definition; none for a JSON Lines file.
pub fn definition(name: &str, settings: &OpenSettings) -> Result<Option<Definition>> {
    match Definition::find(name, settings)? {
        None if !Path::new(name).exists() => Err(unknown(name)),
        found => Ok(found),
    }
}

fn unknown(name: &str) -> anyhow::Error {
    let near = input::nearest(name, builtin::names());
    let near = near.map_or(String::new(), |near| format!(", did you mean {near}?"));
    let known: Vec<&str> = builtin::names().collect();
    let known = known.join(", ");
    bad(format!("--tasks {name}: no such file and no built-in benchmark{near} (built-in: {known})"))
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
fn from_file(path: &Path, args: &TaskArgs) -> Result<Benchmark> {
    let (benchmark, problems) = inspect_file(path, args)?;
    if let Some(problem) = problems.into_iter().next() {
        return Err(bad(problem));
    }
    let mut ids = HashSet::new();
    for Item { task, place, .. } in &benchmark.items {
        if !ids.insert(&task.id) {
            return Err(bad(format!("{place}: the id {:?} occurs twice", task.id)));
        }
        benchmark.reward.check_task(task).map_err(|e| bad(format!("{place}: {e}")))?;
    }
    Ok(benchmark)
}

/// The items of a JSON Lines file, and what is wrong with other rows, each with its line. References and ids are not
/// checked.
pub fn inspect_file(path: &Path, args: &TaskArgs) -> Result<(Benchmark, Vec<String>)> {
    let arms = &args.arms;
    if arms.shuffle_options.is_some() || arms.no_context || arms.few_shot.is_some() || arms.system.is_some() {
        let shown = path.display();
        return Err(bad(format!(
            "{shown}: options are shuffled, contexts left out, examples and system messages added by a definition \
             (.toml) only"
        )));
    }
    let mut source = LineSource::open(path)?;
    let rows = source.objects()?;
    let has_options = rows.first().is_some_and(|(_, fields)| fields.contains_key("options"));
    let kind = args.reward.as_deref().unwrap_or(if has_options { "choice" } else { "math" });
    let config = RewardConfig::from_kind(kind)?;
    let reward_config = json!(config);
    let data = if path == Path::new("-") {
        let text: String = rows.iter().map(|(_, fields)| format!("{}\n", json!(fields))).collect();
        fingerprint::sha256_hex(text.as_bytes())
    } else {
        fingerprint::file_sha256(path)?
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut items = Vec::with_capacity(rows.len());
    let mut problems = Vec::new();
    for (line, fields) in rows {
        let group = fields.get("group").or(fields.get("subject")).and_then(Value::as_str).map(str::to_owned);
        let place = source.place(line);
        match file_task((line, fields), kind, folder) {
            Ok(task) => {
                let options = choices(&task);
                let gold = task.answers().first().and_then(|answer| gold(&options, answer));
                items.push(Item { options, gold, task, place, group, ..Item::default() });
            }
            Err(problem) => problems.push(format!("{place}: {problem}")),
        }
    }
    items.truncate(args.limit.unwrap_or(usize::MAX));
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut benchmark = Benchmark {
        name,
        items,
        reward: config.build()?.into(),
        reward_config,
        generation: None,
        likelihood: None,
        metrics: Vec::new(),
        hash: fingerprint::sha256_hex(format!("{kind}\n{data}").as_bytes()),
        images: None,
        notes: Vec::new(),
    };
    problems.extend(benchmark.look().iter().map(ToString::to_string));
    Ok((benchmark, problems))
}

fn choices(task: &Task) -> Vec<Choice> {
    let options = task.reference.get("options").and_then(Value::as_array);
    let text = |o: &Value| o.as_str().map_or_else(|| o.to_string(), str::to_owned);
    let options = options.into_iter().flatten().zip('A'..='Z');
    options.map(|(option, label)| Choice { label: label.into(), text: text(option) }).collect()
}

fn file_task((line, fields): LineFields, kind: &str, folder: &Path) -> Result<Task, String> {
    let id = match fields.get("id") {
        None | Some(Value::Null) => line.to_string(),
        Some(id) => id_text(id).ok_or("`id` must be a string or a number")?,
    };
    let options =
        fields.get("options").map(|o| o.as_array().ok_or("`options` must be a list")).transpose()?;
    let (mut prompt, images) = input::seen(&fields, folder)?;
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
    Ok(Task { id, prompt, images, reference, meta: Map::new() }.with_row(fields))
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
