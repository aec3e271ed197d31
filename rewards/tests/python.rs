//! Functions in TRL's convention as rewards.
#![cfg(unix)]
// The helpers here are tests too, which clippy does not see.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::fs;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rlvr_rewards::task::Message;
use rlvr_rewards::{Outcome, Response, Reward, RewardConfig, Task, Verdict, score_batch};
use serde_json::{Value, json};

const FUNCTIONS: &str = r#"
import asyncio, time
import helper

calls = []

def accuracy(completions, answer, **kwargs):
    print("this goes to the log")
    assert kwargs["id"] and kwargs["level"] == [1] * len(completions), kwargs
    return [None if a is None else float(c == a) for c, a in zip(completions, answer)]

async def slow(completions, answer):
    async def one(c, a):
        await asyncio.sleep(0.2)
        return 2.5 if c == a else -1
    return await asyncio.gather(*map(one, completions, answer))

def shape(prompts, completions, **_):
    assert prompts == [[{"role": "user", "content": "?"}]] * len(prompts), prompts
    return [{"score": 0.5, "parts": {"role": c[0]["role"] == "assistant"}, "metrics": {"length": len(c[0]["content"])}}
            for c in completions]

def texts(prompts, completions):
    return [float(p == "?") for p in prompts]

def ranks(completions, id, top):
    calls.append(len(completions))
    size = len(completions)
    return [top * sum(len(o) < len(c) for o in completions) / size for c in completions]

def breaks(completions, **_):
    if "bad" in completions: raise ValueError("on purpose: é")
    return [1.0] * len(completions)

def needs(completions, solution): return [1.0] * len(completions)
def short(completions, **_): return [1.0]
def word(completions, **_): return "1" * len(completions)
def text(completions, **_): return ["1.0"] + ["x"] * (len(completions) - 1)
def endless(completions, **_): time.sleep(100)
def nan(completions, **_): return [float("nan"), 1.0, None][:len(completions)]
"#;

fn has_python() -> bool {
    let found = Command::new("python3").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|s| s.success());
    if !found {
        eprintln!("note: skipped, there is no python3");
    }
    found
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("rewards.py"), FUNCTIONS).unwrap();
        fs::write(dir.path().join("helper.py"), "").unwrap();
        Self(dir)
    }

    fn try_build(&self, settings: Value) -> Result<Box<dyn Reward>, String> {
        let mut all = json!({"kind": "python", "path": "rewards.py"});
        all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let mut config: RewardConfig = serde_json::from_value(all).map_err(|e| e.to_string())?;
        config.resolve_paths(self.0.path());
        config.build().map_err(|e| e.to_string())
    }

    fn build(&self, settings: Value) -> Box<dyn Reward> {
        self.try_build(settings).unwrap()
    }
}

/// Tasks with the answer "4"; texts of one inner list are the completions of one task.
fn judge(reward: &dyn Reward, groups: &[&[&str]]) -> Vec<Outcome> {
    let task = |i: usize| {
        let row = json!({"answer": "4", "level": 1});
        let prompt = vec![Message { role: "user".into(), content: "?".into() }];
        let task = Task { prompt, ..Task::new(i.to_string(), json!({"answer": "4"})) };
        task.with_row(row.as_object().unwrap().clone())
    };
    let tasks: Vec<Task> = (0..groups.len()).map(task).collect();
    let items: Vec<_> = tasks
        .iter()
        .zip(groups)
        .flat_map(|(task, texts)| texts.iter().map(move |text| (task, Response::new(text))))
        .collect();
    score_batch(reward, &items)
}

fn scores(outcomes: &[Outcome]) -> Vec<Option<f64>> {
    outcomes.iter().map(|o| o.score).collect()
}

#[test]
fn functions_are_called_as_trl_calls_them() {
    if !has_python() {
        return;
    }
    let folder = Folder::new();
    let accuracy = folder.build(json!({"function": "accuracy"}));
    assert_eq!(accuracy.name(), "accuracy");
    assert_eq!(scores(&judge(&*accuracy, &[&["4", "5"], &["4"]])), [Some(1.0), Some(0.0), Some(1.0)]);
    let task = Task {
        meta: json!({"level": 1}).as_object().unwrap().clone(),
        ..Task::new("t", json!({"answer": null}))
    };
    let outcomes = score_batch(&*accuracy, &[(&task, Response::new("4"))]);
    assert_eq!((outcomes[0].score, outcomes[0].verdict), (None, Verdict::Unverifiable));

    // All at once, in the time of one.
    let slow = folder.build(json!({"function": "slow", "name": "my_slow"}));
    slow.prepare().unwrap();
    let start = Instant::now();
    let outcomes = judge(&*slow, &[&["4"; 20], &["5"; 20]]);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!((outcomes[0].score, outcomes[0].verdict), (Some(2.5), Verdict::Correct));
    assert_eq!((outcomes[39].score, outcomes[39].verdict), (Some(-1.0), Verdict::Incorrect));
    let bounded = folder.build(json!({"function": "slow", "range": [0, 1]}));
    assert!(judge(&*bounded, &[&["4"]])[0].reason.contains("2.5, outside of [0, 1]"));

    let shape = folder.build(json!({"function": "shape", "conversational": true}));
    let outcomes = judge(&*shape, &[&["four"]]);
    let parts: Vec<_> = outcomes[0].parts.iter().map(|p| (&*p.name, p.weight, p.score)).collect();
    assert_eq!(
        (outcomes[0].score, parts),
        (Some(0.5), vec![("role", 1.0, Some(1.0)), ("length", 0.0, Some(4.0))])
    );
    assert_eq!(scores(&judge(&*folder.build(json!({"function": "texts"})), &[&["a"]])), [Some(1.0)]);

    // The completions of a task are not torn apart, whatever `batch` says.
    let ranks = folder.build(json!({"function": "ranks", "batch": 1, "arguments": {"top": 3}}));
    let outcomes = judge(&*ranks, &[&["", "a", "bb"], &["a", ""]]);
    assert_eq!(scores(&outcomes), [0.0, 1.0, 2.0, 1.5, 0.0].map(Some));
    assert_eq!(judge(&*accuracy, &[]), []);
}

#[test]
fn several_functions_have_weights_and_parts() {
    if !has_python() {
        return;
    }
    let folder = Folder::new();
    let term = |function: &str, weight: f64| json!({"weight": weight, "reward": {"kind": "python", "path": "rewards.py", "function": function}});
    let terms = [term("accuracy", 1.0), term("slow", 0.5), term("texts", 0.0)];
    let mut config: RewardConfig = serde_json::from_value(json!({"kind": "sum", "terms": terms})).unwrap();
    config.resolve_paths(folder.0.path());
    let outcomes = judge(&*config.build().unwrap(), &[&["4"], &["5"]]);
    assert_eq!(scores(&outcomes), [Some(2.25), Some(-0.5)]);
    let names: Vec<_> = outcomes[0].parts.iter().map(|p| (&*p.name, p.score)).collect();
    assert_eq!(names, [("accuracy", Some(1.0)), ("slow", Some(2.5)), ("texts", Some(1.0))]);
}

#[test]
fn what_goes_wrong_is_one_sentence_and_never_a_score() {
    if !has_python() {
        return;
    }
    let folder = Folder::new();
    let refuse = |settings: Value, want: &str| {
        let error = match folder.try_build(settings) {
            Err(error) => error,
            Ok(reward) => reward.prepare().unwrap_err().to_string(),
        };
        assert!(error.contains(want), "no {want:?} in {error:?}");
    };
    refuse(json!({"function": "accuracy", "path": "none.py"}), "none.py is no file");
    refuse(
        json!({"function": "acuracy"}),
        "has no function 'acuracy'; it has accuracy, breaks, endless, nan",
    );
    refuse(json!({"function": "calls"}), "has no function 'calls'");
    refuse(json!({"function": "a b"}), "is no name of a function");
    refuse(
        json!({"function": "accuracy", "interpreter": "no-such-python"}),
        "cannot start \"no-such-python\"",
    );
    refuse(json!({"function": "accuracy", "rang": [0, 1]}), "unknown field `rang`");
    refuse(json!({"function": "accuracy", "range": [1, 0]}), "the lower one first");
    fs::write(folder.0.path().join("broken.py"), "def f(:\n").unwrap();
    refuse(json!({"function": "f", "path": "broken.py"}), "broken.py cannot be loaded: SyntaxError");
    fs::write(folder.0.path().join("ends.py"), "import sys\nsys.exit(3)\n").unwrap();
    refuse(json!({"function": "f", "path": "ends.py"}), "ends.py cannot be loaded: SystemExit: 3");

    for (function, want) in [
        (
            "needs",
            "the function needs solution, which the rows do not have; they have answer, completions, id, level",
        ),
        ("short", "the function returned 1 scores for 2 completions"),
        ("word", "the function returned a str, not a list"),
    ] {
        let outcomes = judge(&*folder.build(json!({"function": function})), &[&["a", "b"]]);
        for outcome in outcomes {
            assert_eq!((outcome.score, outcome.verdict), (None, Verdict::Error));
            assert!(outcome.reason.contains(want), "no {want:?} in {:?}", outcome.reason);
        }
    }
    let text = judge(&*folder.build(json!({"function": "text"})), &[&["a", "b"]]);
    assert_eq!(scores(&text), [Some(1.0), None]);
    let nan = judge(&*folder.build(json!({"function": "nan"})), &[&["a", "b", "c"]]);
    let verdicts: Vec<_> = nan.iter().map(|o| o.verdict).collect();
    assert_eq!(verdicts, [Verdict::Error, Verdict::Correct, Verdict::Unverifiable]);

    let start = Instant::now();
    let endless = judge(&*folder.build(json!({"function": "endless", "timeout_s": 0.5})), &[&["a"]]);
    assert!(endless[0].reason.contains("did not answer within 0.5 s"), "{}", endless[0].reason);
    assert!(start.elapsed() < Duration::from_secs(20));
}

/// What is logged at the level of warnings.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Seen {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Message(String);
        impl tracing::field::Visit for Message {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.lock().unwrap().push(message.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn an_exception_is_the_error_of_its_group_and_its_traceback_is_shown_once() {
    if !has_python() {
        return;
    }
    let folder = Folder::new();
    let breaks = folder.build(json!({"function": "breaks"}));
    let seen = Seen::default();
    let groups: [&[&str]; 3] = [&["a", "b"], &["a", "bad"], &["c"]];
    let outcomes = tracing::subscriber::with_default(seen.clone(), || {
        judge(&*breaks, &groups);
        judge(&*breaks, &groups)
    });
    assert_eq!(scores(&outcomes), [Some(1.0), Some(1.0), None, None, Some(1.0)]);
    assert_eq!(outcomes[2].reason, "ValueError: on purpose: é");
    let seen = seen.0.lock().unwrap();
    let traces: Vec<_> =
        seen.iter().filter(|line| line.contains("Traceback (most recent call last)")).collect();
    assert_eq!(traces.len(), 1, "{seen:?}");
    assert!(
        traces[0].contains("rewards.py\", line ") && traces[0].contains("ValueError: on purpose"),
        "{traces:?}"
    );
}
