//! The lines of `rlvr-plugin/1`: what is sent, and what an answer must look like.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::PluginConfig;
use crate::image::TaskImage;
use crate::reward::{Outcome, Part, Verdict};
use crate::task::{Message, Response, Task};

/// The version of the protocol.
pub const PROTOCOL: u64 = 1;
/// Longest line in either direction, in bytes.
pub const MAX_LINE: usize = 16 << 20;
/// Longest reason that is kept, in characters.
pub(crate) const MAX_REASON: usize = 500;

/// What a plugin says it can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Several items in one message.
    pub batch: bool,
    /// The completions of a task come together, in one message.
    pub group: bool,
    /// The same items give the same result.
    pub deterministic: bool,
}

/// How a plugin introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Its name, for messages.
    pub name: String,
    /// Its version, for messages.
    pub version: String,
    /// What it can do.
    pub capabilities: Capabilities,
}

/// The host's first line.
pub(super) fn hello(config: &PluginConfig) -> String {
    let limits = json!({
        "timeout_s": config.timeout_s,
        "batch": config.batch,
        "line_bytes": MAX_LINE,
        "memory_mb": config.limits.memory_mb,
        "cpu_s": config.limits.cpu_s,
        "file_mb": config.limits.file_mb,
        "open_files": config.limits.open_files,
    });
    let hello = json!({"type": "hello", "protocol": [PROTOCOL], "config": config.config, "limits": limits});
    format!("{hello}\n")
}

/// Reads the plugin's first line.
///
/// # Errors
/// What is wrong with it; the sentence names what the plugin did.
pub fn greeting(line: &[u8]) -> Result<Greeting, String> {
    #[derive(Deserialize)]
    struct Hello {
        r#type: String,
        #[serde(default)]
        protocol: u64,
        #[serde(default)]
        reason: String,
        #[serde(default)]
        name: String,
        #[serde(default)]
        version: String,
        #[serde(default)]
        capabilities: Vec<String>,
    }
    let hello: Hello = parse(line).map_err(|e| format!("its first line is not a hello: {e}"))?;
    if hello.r#type == "refused" {
        return Err(shorten(&hello.reason, MAX_REASON));
    }
    if hello.r#type != "hello" {
        return Err(format!("its first line is a {:?}, not a hello", shorten(&hello.r#type, 40)));
    }
    if hello.protocol != PROTOCOL {
        return Err(format!("it speaks protocol {}, not {PROTOCOL}", hello.protocol));
    }
    let can = |what: &str| hello.capabilities.iter().any(|c| c == what);
    let capabilities =
        Capabilities { batch: can("batch"), group: can("group"), deterministic: can("deterministic") };
    let (name, version) = (shorten(&hello.name, 80), shorten(&hello.version, 40));
    Ok(Greeting { name, version, capabilities })
}

/// An item as JSON, but for the opening brace and the fields that depend on the batch.
pub(super) fn encode(task: &Task, response: Response<'_>) -> Result<String, String> {
    #[derive(Serialize)]
    struct Item<'a> {
        id: &'a str,
        prompt: &'a [Message],
        #[serde(skip_serializing_if = "<[TaskImage]>::is_empty")]
        images: &'a [TaskImage],
        completion: &'a str,
        truncated: bool,
        reference: &'a Value,
        meta: &'a Map<String, Value>,
    }
    let item = Item {
        id: &task.id,
        prompt: &task.prompt,
        images: &task.images,
        completion: response.text,
        truncated: response.truncated,
        reference: &task.reference,
        meta: &task.meta,
    };
    let mut text = serde_json::to_string(&item).map_err(|e| format!("the item has no JSON form: {e}"))?;
    text.remove(0);
    Ok(text)
}

/// Bytes that an item of a message takes beside its own.
pub(super) const ITEM_OVERHEAD: usize = 64;

/// The message of a batch: for each item the number of its group and its JSON as [`encode`] gives it.
pub(super) fn score<'a>(batch: u64, items: impl Iterator<Item = (usize, &'a str)>) -> String {
    let mut line = format!(r#"{{"type":"score","batch":{batch},"items":["#);
    for (i, (group, item)) in items.enumerate() {
        let comma = if i == 0 { "" } else { "," };
        line.push_str(&format!(r#"{comma}{{"i":{i},"group":{group},{item}"#));
    }
    line.push_str("]}\n");
    line
}

/// Reads the result of a batch of `n` items: one outcome an item, in the order of the items. Scores lie in `range`.
///
/// # Errors
/// What the plugin did wrong; then nothing in the line counts.
pub fn results(line: &[u8], batch: u64, n: usize, range: Option<[f64; 2]>) -> Result<Vec<Outcome>, String> {
    #[derive(Deserialize)]
    struct Results {
        r#type: String,
        batch: u64,
        items: Vec<ItemResult>,
    }
    #[derive(Deserialize)]
    struct ItemResult {
        i: u64,
        #[serde(default)]
        score: Option<f64>,
        #[serde(default)]
        verdict: Option<Verdict>,
        #[serde(default)]
        reason: Option<String>,
        #[serde(default)]
        extracted: Option<String>,
        #[serde(default)]
        parts: Option<Map<String, Value>>,
        #[serde(default)]
        metrics: Option<Map<String, Value>>,
    }
    let results: Results = parse(line).map_err(|e| format!("its answer is not a result: {e}"))?;
    if results.r#type != "result" {
        return Err(format!("its answer is a {:?}, not a result", shorten(&results.r#type, 40)));
    }
    if results.batch != batch {
        return Err(format!("it answered batch {} when asked batch {batch}", results.batch));
    }
    let mut outcomes: Vec<Option<Outcome>> = vec![None; n];
    for item in results.items {
        let i = item.i;
        let slot = usize::try_from(i).ok().and_then(|i| outcomes.get_mut(i));
        let slot = slot.ok_or_else(|| format!("it answered item {i} of {n}"))?;
        if slot.is_some() {
            return Err(format!("it answered item {i} twice"));
        }
        let (reason, extracted) = (item.reason.unwrap_or_default(), item.extracted.as_deref());
        let outcome = claimed("plugin", item.verdict, item.score, &reason, extracted, range);
        let mut outcome = outcome.map_err(|why| format!("item {i} {why}"))?;
        for (numbers, weight) in [(item.parts, 1.0), (item.metrics, 0.0)] {
            for (name, value) in numbers.into_iter().flatten() {
                add_part(&mut outcome.parts, &name, &value, weight)
                    .map_err(|why| format!("item {i} {why}"))?;
            }
        }
        *slot = Some(outcome);
    }
    let missing = outcomes.iter().position(Option::is_none);
    match missing {
        Some(i) => Err(format!("it did not answer item {i} of {n}")),
        None => Ok(outcomes.into_iter().flatten().collect()),
    }
}

/// Most parts and metrics of an item.
const MAX_PARTS: usize = 64;

/// Adds a number that a plugin gives beside its score; the sentence of an error lacks its subject.
fn add_part(parts: &mut Vec<Part>, name: &str, value: &Value, weight: f64) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ['_', '-', '.', '/'].contains(&c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        return Err(format!("has a part {:?}; names are letters, digits, _, -, . and /", shorten(name, 64)));
    }
    if parts.iter().any(|part| part.name == name) {
        return Err(format!("has two parts {name:?}"));
    }
    if parts.len() == MAX_PARTS {
        return Err(format!("has more than {MAX_PARTS} parts and metrics"));
    }
    let outcome = match value {
        Value::Null => Outcome::of(Verdict::Unverifiable, "plugin", ""),
        value => match value.as_f64() {
            Some(score) => Outcome::graded(score, "plugin", ""),
            None => return Err(format!("has a part {name:?} that is no number")),
        },
    };
    parts.push(Part {
        name: name.to_owned(),
        weight,
        score: outcome.score,
        verdict: outcome.verdict,
        extracted: None,
        method: outcome.method,
        reason: outcome.reason,
        parts: Vec::new(),
    });
    Ok(())
}

/// The outcome that somebody else's code claims for an item; `method` says whose.
///
/// # Errors
/// How score and verdict break the rules; the sentence lacks its subject.
pub(crate) fn claimed(
    method: &str,
    verdict: Option<Verdict>,
    score: Option<f64>,
    reason: &str,
    extracted: Option<&str>,
    range: Option<[f64; 2]>,
) -> Result<Outcome, String> {
    let reason = shorten(reason, MAX_REASON);
    let outcome = match (verdict, score) {
        (Some(verdict), None) if verdict.is_masked() => Outcome::of(verdict, method, reason),
        (Some(verdict), Some(_)) if verdict.is_masked() => {
            return Err("has a score beside a verdict that has none".into());
        }
        (_, None) => return Err("has no score".into()),
        (_, Some(score)) if range.is_some_and(|[low, high]| !(low..=high).contains(&score)) => {
            let [low, high] = range.unwrap_or_default();
            return Err(format!("has the score {score}, outside of [{low}, {high}]"));
        }
        (_, Some(score)) if !score.is_finite() => {
            return Err(format!("has the score {score}, which is not finite"));
        }
        // Rewards follow the score and accuracies the verdict: the two must not say the opposite.
        (Some(Verdict::Correct), Some(score)) if score <= 0.0 => {
            return Err(format!("is called correct with the score {}", score + 0.0));
        }
        (Some(verdict), Some(score)) if score >= 1.0 && verdict != Verdict::Correct => {
            return Err("has the full score beside a verdict that is not correct".into());
        }
        (Some(Verdict::Partial), Some(score)) if score <= 0.0 => {
            return Err(format!("is called partial with the score {}", score + 0.0));
        }
        (verdict, Some(score)) => {
            let graded = Outcome::graded(score + 0.0, method, reason);
            Outcome { verdict: verdict.unwrap_or(graded.verdict), ..graded }
        }
    };
    Ok(Outcome { extracted: extracted.map(|e| shorten(e, MAX_REASON)), ..outcome })
}

fn parse<T: for<'a> Deserialize<'a>>(line: &[u8]) -> Result<T, String> {
    serde_json::from_slice(line).map_err(|error| {
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        let text = String::from_utf8_lossy(&line[..line.len().min(1 << 12)]);
        let hint = match error.is_syntax() && (text.contains("NaN") || text.contains("Infinity")) {
            true => " (JSON has no NaN and no Infinity)",
            false => "",
        };
        format!("{message}{hint}; it begins {:?}", shorten(&text, 60))
    })
}

/// Text of at most `limit` characters.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_put_in_order_or_refused() {
        let line = |items: &str| format!(r#"{{"type":"result","batch":7,"items":[{items}],"more":1}}"#);
        let ok =
            line(r#"{"i":1,"score":0.5,"x":[]},{"i":0,"score":-0.0,"verdict":"no_answer","reason":"r"}"#);
        let outcomes = results(ok.as_bytes(), 7, 2, None).unwrap();
        assert_eq!(outcomes.iter().map(|o| o.score).collect::<Vec<_>>(), [Some(0.0), Some(0.5)]);
        assert_eq!(
            outcomes.iter().map(|o| o.verdict).collect::<Vec<_>>(),
            [Verdict::NoAnswer, Verdict::Partial]
        );
        // A verdict says whether an answer is right, its score what it is worth.
        let graded =
            line(r#"{"i":0,"score":0.5,"verdict":"correct"},{"i":1,"score":0.1,"verdict":"incorrect"}"#);
        let graded = results(graded.as_bytes(), 7, 2, None).unwrap();
        assert_eq!((graded[0].score, graded[0].verdict), (Some(0.5), Verdict::Correct));
        assert_eq!((graded[1].score, graded[1].verdict), (Some(0.1), Verdict::Incorrect));
        let masked = line(r#"{"i":0,"verdict":"unverifiable"},{"i":1,"verdict":"error","score":null}"#);
        assert!(results(masked.as_bytes(), 7, 2, None).unwrap().iter().all(|o| o.score.is_none()));
        let refuse = |text: &str, want: &str| {
            let error = results(text.as_bytes(), 7, 2, Some([0.0, 1.0])).unwrap_err();
            assert!(error.contains(want), "{}: {error}", shorten(text, 200));
        };
        refuse(&line(r#"{"i":0,"score":1}"#), "did not answer item 1");
        refuse(&line(""), "did not answer item 0");
        refuse(&line(r#"{"i":0,"score":1},{"i":0,"score":1}"#), "item 0 twice");
        refuse(&line(r#"{"i":0,"score":1},{"i":1,"score":1},{"i":2,"score":1}"#), "item 2 of 2");
        refuse(&line(r#"{"i":0,"score":1},{"i":-1,"score":1}"#), "invalid value");
        refuse(&line(r#"{"i":0,"score":1},{"i":0.5,"score":1}"#), "invalid type");
        refuse(
            &line(r#"{"i":0,"score":1},{"i":1,"score":0,"verdict":"correct"}"#),
            "item 1 is called correct with",
        );
        refuse(
            &line(r#"{"i":0,"score":1},{"i":1,"score":-0.0,"verdict":"correct"}"#),
            "is called correct with",
        );
        refuse(
            &line(r#"{"i":0,"score":1,"verdict":"incorrect"},{"i":1,"score":1}"#),
            "has the full score beside",
        );
        refuse(
            &line(r#"{"i":0,"score":1,"verdict":"partial"},{"i":1,"score":1}"#),
            "has the full score beside",
        );
        refuse(&line(r#"{"i":0,"score":0,"verdict":"partial"},{"i":1,"score":1}"#), "called partial with");
        refuse(
            &line(r#"{"i":0,"score":1},{"i":1,"score":1,"verdict":"no_answer"}"#),
            "has the full score beside",
        );
        refuse(&line(r#"{"i":0,"score":1},{"i":1,"score":NaN}"#), "no NaN");
        refuse(&line(r#"{"i":0,"score":1},{"i":1,"score":1e999}"#), "out of range");
        refuse(&line(r#"{"i":0,"score":1},{"i":1,"score":1.0001}"#), "outside of [0, 1]");
        refuse(&line(r#"{"i":0,"score":1},{"i":1,"score":-0.1}"#), "outside of [0, 1]");
        refuse(&line(r#"{"i":0,"score":1},{"i":1,"score":"1"}"#), "invalid type");
        refuse(&line(r#"{"i":0,"score":1},{"i":1,"score":0,"score":1}"#), "duplicate field");
        refuse(&line(r#"{"i":0,"score":1},{"i":1}"#), "item 1 has no score");
        refuse(&line(r#"{"i":0,"score":1},{"i":1,"score":1,"verdict":"error"}"#), "beside a verdict");
        refuse(&line(r#"{"i":0,"score":1},{"i":1,"score":1,"verdict":"good"}"#), "unknown variant");
        refuse(&line(r#"{"i":0,"score":1},{"i":1,"score":1,"parts":{"a b":1}}"#), "names are letters");
        refuse(
            &line(r#"{"i":0,"score":1},{"i":1,"score":1,"parts":{"a":1},"metrics":{"a":1}}"#),
            "two parts",
        );
        refuse(&line(r#"{"i":0,"score":1},{"i":1,"score":1,"metrics":{"a":"1"}}"#), "that is no number");
        refuse(&ok.replace('7', "8"), "batch 8 when asked batch 7");
        refuse(&ok.replace("result", "hello"), "not a result");
        refuse("", "not a result");
        refuse(&"[".repeat(1 << 20), "not a result");
        refuse(&format!(r#"{{"items":[{{"i":{}"#, "[".repeat(1 << 20)), "not a result");
    }

    #[test]
    fn any_finite_score_counts_and_numbers_beside_it_are_parts() {
        let line = r#"{"type":"result","batch":1,"items":[
            {"i":0,"score":-2.5,"parts":{"style":0.5,"answer":null},"metrics":{"tokens/mean":12}},
            {"i":1,"score":7,"verdict":"correct"},{"i":2,"score":-1,"verdict":"no_answer"}]}"#;
        let outcomes = results(line.as_bytes(), 1, 3, None).unwrap();
        let scores: Vec<_> = outcomes.iter().map(|o| (o.score, o.verdict)).collect();
        let want = [(-2.5, Verdict::Incorrect), (7.0, Verdict::Correct), (-1.0, Verdict::NoAnswer)];
        assert_eq!(scores, want.map(|(score, verdict)| (Some(score), verdict)));
        let parts: Vec<_> = outcomes[0].parts.iter().map(|p| (&*p.name, p.weight, p.score)).collect();
        let want = [("style", 1.0, Some(0.5)), ("answer", 1.0, None), ("tokens/mean", 0.0, Some(12.0))];
        assert_eq!(parts, want);
        assert!(results(line.as_bytes(), 1, 3, Some([-2.5, 7.0])).is_ok());
        let error = results(line.as_bytes(), 1, 3, Some([-2.0, 7.0])).unwrap_err();
        assert_eq!(error, "item 0 has the score -2.5, outside of [-2, 7]");
        let endless = line.replace("-2.5", "1e999");
        assert!(results(endless.as_bytes(), 1, 3, None).is_err());
    }

    #[test]
    fn greetings() {
        let hello = r#"{"type":"hello","protocol":1,"name":"n","capabilities":["group","fly"],"x":1}"#;
        let capabilities = Capabilities { group: true, ..Capabilities::default() };
        let want = Greeting { name: "n".into(), version: String::new(), capabilities };
        assert_eq!(greeting(hello.as_bytes()).unwrap(), want);
        let refused = r#"{"type":"refused","reason":"no such file"}"#;
        assert_eq!(greeting(refused.as_bytes()).unwrap_err(), "no such file");
        for bad in [&*hello.replace('1', "2"), &hello.replace("hello", "result"), "Loading model …", "{}", ""]
        {
            assert!(greeting(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_item_arrives_as_it_was() {
        let task = Task::new("t", json!({"answer": "4"}));
        let text = "line\nline\u{2028}\u{0}é\"\\";
        let item = encode(&task, Response::new(text)).unwrap();
        let line = score(3, [(0, &*item), (1, &*item)].into_iter());
        assert_eq!(line.matches('\n').count(), 1);
        let message: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&message["batch"], &message["items"][1]["i"]), (&json!(3), &json!(1)));
        assert_eq!(message["items"][1]["completion"], text);
        assert_eq!(message["items"][0]["reference"]["answer"], "4");
    }
}
