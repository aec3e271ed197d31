//! Supervised stages over conversations with pictures.
use rlvr::Error;
use rlvr::config::{DeviceConfig, LossOn, RunConfig, SftConfig};
use rlvr::data::{DataConfig, TaskSource};
use rlvr::policy::Policy;
use rlvr::rewards::TaskImage;
use rlvr::run::events::Event;
use rlvr::run::{RunOptions, train};
use rlvr::train::lesson::Lesson;
use rlvr::train::sft::SftTrainer;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

const MODELS: [&str; 4] = ["tiny-qwen2_5_vl", "tiny-smolvlm", "tiny-qwen2_vl", "tiny-qwen3_vl"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}

fn folder(model: &str) -> PathBuf {
    golden("vision").join(model)
}

fn values() -> Value {
    serde_json::from_slice(&fs::read(golden("sft_vision.json")).unwrap()).unwrap()
}

fn policy(model: &str) -> Policy {
    let device = rlvr::run::device(DeviceConfig::Cpu).unwrap();
    Policy::open(folder(model).to_str().unwrap(), &device).unwrap()
}

/// Rows as a data source with these further settings.
fn rows(rows: &[Value], settings: &str) -> Result<TaskSource, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chats.jsonl");
    fs::write(&path, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    let config = format!("kind = \"jsonl\"\npath = {path:?}\nmessages = \"{{{{ messages }}}}\"\n{settings}");
    let config: DataConfig = toml::from_str(&config).unwrap();
    TaskSource::open("chats", &config, 1).map_err(|e| e.to_string())
}

/// A row of the golden conversations with the places of its pictures on this machine.
fn row(model: &str, chat: &Value) -> Value {
    let images = format!("\"{}/images/", folder(model).display());
    serde_json::from_str(&json!({"messages": chat["messages"]}).to_string().replace("\"images/", &images))
        .unwrap()
}

fn source(model: &str, chats: &Value, numbers: &[usize]) -> TaskSource {
    let list: Vec<Value> = numbers.iter().map(|i| row(model, &chats[*i])).collect();
    rows(&list, "").unwrap()
}

fn indices(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|i| i.as_u64().unwrap() as usize).collect()
}

/// The ids of a lesson and which of them are trained.
fn read(lesson: &Lesson) -> (Vec<usize>, Vec<usize>) {
    let ids = lesson.prompt.token_ids.iter().chain(&lesson.tokens).map(|id| *id as usize).collect();
    let before = vec![0; lesson.prompt.token_ids.len()];
    let mask = before.into_iter().chain(lesson.trained.iter().map(|t| usize::from(*t))).collect();
    (ids, mask)
}

#[test]
fn turns_of_conversations_with_pictures_are_those_of_transformers() {
    let values = values();
    for model in MODELS {
        let (policy, chats) = (policy(model), &values["models"][model]["chats"]);
        let numbers: Vec<usize> = (0..chats.as_array().unwrap().len()).collect();
        let all = source(model, chats, &numbers);
        for i in numbers {
            let lesson = Lesson::new(&all.example(i).unwrap(), &policy, LossOn::Assistant).unwrap();
            let (ids, mask) = (indices(&chats[i]["ids"]), indices(&chats[i]["assistant"]));
            let end = mask.iter().rposition(|m| *m == 1).unwrap() + 1;
            assert_eq!(read(&lesson), (ids[..end].to_vec(), mask[..end].to_vec()), "{model} {i}");
            let pictures = chats[i]["messages"].to_string().matches("images/").count();
            assert_eq!(lesson.prompt.images.len(), pictures, "{model} {i}");
        }
    }
}

#[test]
fn losses_and_steps_over_conversations_with_pictures_are_those_of_pytorch() {
    let values = values();
    let close = |found: f64, expected: &Value, what: &str| {
        let expected = expected.as_f64().unwrap();
        println!("| {what} | {:.1e} |", (found - expected).abs());
        assert!((found - expected).abs() < 1e-4, "{what}: {found} {expected}");
    };
    let config: SftConfig = toml::from_str(&format!(
        "data = \"chats\"\nbatch = 2\nmicro_batch = 1\noptim = {{ lr = {} }}",
        values["lr"].as_f64().unwrap()
    ))
    .unwrap();
    for model in MODELS {
        let golden = &values["models"][model];
        let chats = &golden["chats"];
        let mut trainer = SftTrainer::new(policy(model), &config, (1, 3));
        for (i, chat) in chats.as_array().unwrap().iter().enumerate() {
            let loss = trainer.validate(&source(model, chats, &[i]), 1).unwrap();
            close(loss, &chat["loss"], &format!("{model} conversation {i}"));
        }
        for (step, loss) in golden["steps"].as_array().unwrap().iter().enumerate() {
            let rows = source(model, chats, &indices(&values["batches"][step]));
            let found = trainer.step(step as u64 + 1, &(&rows).into(), 0).unwrap().loss;
            close(found, loss, &format!("{model} step {step}"));
        }
        let held = indices(&values["held"]);
        let loss = trainer.validate(&source(model, chats, &held), held.len()).unwrap();
        close(loss, &golden["held_loss"], &format!("{model} held"));
    }
}

fn picture(name: &str) -> String {
    folder("tiny-qwen2_5_vl").join("images").join(name).display().to_string()
}

#[test]
fn pictures_stand_where_rows_put_them_in_whatever_form() {
    let policy = policy("tiny-qwen2_5_vl");
    let (bars, grey) = (picture("bars.png"), picture("grey.png"));
    let said = |first: Value, second: Value| {
        json!([
            {"role": "user", "content": first}, {"role": "assistant", "content": "yes"},
            {"role": "user", "content": second}, {"role": "assistant", "content": [{"type": "text", "text": "no"}]},
            {"role": "user", "content": "and?"},
        ])
    };
    let image = |value: Value| json!({"type": "image", "image": value});
    let text = |text: &str| json!({"type": "text", "text": text});
    let forms = [
        json!({"messages": said(json!([image(json!(bars)), text("a")]), json!([text("b"), image(json!({"path": grey}))])), "pictures": null}),
        // Parts that say where, and the list which.
        json!({"messages": said(json!([{"type": "image"}, text("a")]), json!([text("b"), {"type": "image"}])), "pictures": [bars, grey]}),
        json!({"messages": said(json!([image(Value::Null), text("a")]), json!([text("b"), image(json!(grey))])), "pictures": [bars]}),
        // Text with places.
        json!({"messages": said(json!("<image>a"), json!("b<image>")), "pictures": [bars, grey]}),
    ];
    let settings = "images = \"{{ pictures }}\"";
    let all = rows(&forms, settings).unwrap();
    let lesson = |i: usize, on| Lesson::new(&all.example(i).unwrap(), &policy, on).unwrap();
    let whole = lesson(0, LossOn::Assistant);
    assert_eq!(whole.prompt.images.len(), 2);
    for i in 1..forms.len() {
        assert_eq!(lesson(i, LossOn::Assistant), whole, "{i}");
    }
    // Without a setting they are those of the row, where its parts do not say which they are.
    let own = |field: &str| {
        let mut row = forms[1].clone();
        row[field] = row["pictures"].take();
        rows(&[row, forms[0].clone()], "").unwrap()
    };
    for source in [own("images"), own("image")] {
        for i in 0..2 {
            let example = source.example(i).unwrap();
            assert_eq!(Lesson::new(&example, &policy, LossOn::Assistant).unwrap(), whole, "{i}");
        }
    }
    let last = lesson(0, LossOn::Last);
    assert_eq!(read(&last).0, read(&whole).0);
    assert!(last.trained.iter().filter(|t| **t).count() < whole.trained.iter().filter(|t| **t).count());
    // Elsewhere the prompt is what stands before the last turn, with the pictures in it.
    let task = all.task(0);
    assert_eq!((task.prompt.len(), task.images.len()), (3, 2));
    // Without places pictures stand before the first text of the user.
    let first =
        rows(&[json!({"messages": said(json!("a"), json!("b")), "pictures": bars})], settings).unwrap();
    assert_eq!(first.task(0).prompt[0].content, "<image>a");
    // What is behind the last trained token is not read, pictures neither.
    let mut longer = forms[0].clone();
    longer["messages"][4]["content"] = json!([image(json!(bars))]);
    let longer = rows(&[longer], settings).unwrap();
    assert_eq!(longer.example(0).unwrap().images.len(), 3);
    assert_eq!(Lesson::new(&longer.example(0).unwrap(), &policy, LossOn::Assistant).unwrap(), whole);
    assert_eq!(longer.task(0).images, [bars, grey].map(|path| TaskImage::Path(path.into())));
}

#[test]
fn a_conversation_that_cannot_be_seen_is_named_by_its_row() {
    let bars = picture("bars.png");
    let ask = |content: Value| json!({"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "yes"}], "pictures": [bars]});
    let settings = "images = \"{{ pictures }}\"";
    for (row, part) in [
        (ask(json!("<image> and <image>?")), "has 2 places <image>, the row 1 images"),
        (
            ask(json!([{"type": "image"}, {"type": "image"}])),
            "picture 2 is named neither in its part nor in `images`",
        ),
        (ask(json!([{"type": "image", "image": "https://x.org/a.png"}])), "is not fetched"),
        (ask(json!([{"type": "video", "video": "a.mp4"}])), "messages[0].content[0].type` is \"video\""),
    ] {
        let message = rows(&[row], settings).unwrap_err();
        assert!(message.contains("chats.jsonl:1") && message.contains(part), "{message}");
    }
    let lesson = |row: Value, model: &str| {
        let source = rows(&[row], settings).unwrap();
        Lesson::new(&source.example(0).unwrap(), &policy(model), LossOn::Assistant).unwrap_err().to_string()
    };
    let mut drawn = ask(json!("Draw."));
    drawn["messages"][1]["content"] = json!([{"type": "image"}]);
    assert!(lesson(drawn, "tiny-qwen2_5_vl").contains("an image in a turn that is trained"));
    assert!(lesson(ask(json!("<image>")), "../models/tiny-qwen2").contains("does not see"));
    assert!(lesson(ask(json!("<image><|image_pad|>")), "tiny-qwen2_5_vl").contains("stands for images only"));
    let mut none = ask(json!("an <image> in words"));
    none["pictures"] = json!([]);
    assert!(lesson(none, "tiny-smolvlm").contains("has 1 places for images, and 0 images"));
}

#[test]
fn how_much_is_computed_at_once_changes_no_step() {
    let values = values();
    let chats = &values["models"]["tiny-qwen2_5_vl"]["chats"];
    let rows = source("tiny-qwen2_5_vl", chats, &[0, 1, 2, 3]);
    let found: Vec<(f64, f64)> =
        ["micro_batch = 4", "micro_batch = 1", "micro_batch_tokens = 1", "micro_batch_tokens = 150"]
            .into_iter()
            .map(|micro| {
                let config: SftConfig =
                    toml::from_str(&format!("data = \"chats\"\nbatch = 4\n{micro}\noptim = {{ lr = 1e-3 }}"))
                        .unwrap();
                let mut trainer = SftTrainer::new(policy("tiny-qwen2_5_vl"), &config, (1, 1));
                let before = trainer.validate(&rows, 4).unwrap();
                let step = trainer.step(1, &(&rows).into(), 0).unwrap();
                assert!((before - step.loss).abs() < 1e-5, "{before} {}", step.loss);
                (step.loss, step.grad_norm)
            })
            .collect();
    for (loss, norm) in &found {
        assert!((loss - found[0].0).abs() < 1e-5 && (norm / found[0].1 - 1.0).abs() < 1e-4, "{found:?}");
    }
    // A sequence a pass, by either key.
    assert_eq!(found[1], found[2]);
}

/// Conversations of several lengths about the pictures of a golden model.
fn conversations(path: &Path, count: usize) {
    let names = ["bars.png", "grey.png", "shapes.png"];
    let row = |i: usize| {
        let image = |n: usize| json!({"type": "image", "image": picture(names[n % 3])});
        let mut messages = vec![
            json!({"role": "user", "content": [image(i), {"type": "text", "text": "What?".repeat(1 + i % 4)}]}),
            json!({"role": "assistant", "content": "grey bars ".repeat(1 + i % 3)}),
        ];
        if i.is_multiple_of(2) {
            messages
                .push(json!({"role": "user", "content": [{"type": "text", "text": "And"}, image(i + 1)]}));
            messages.push(json!({"role": "assistant", "content": "shapes"}));
        }
        format!("{}\n", json!({"id": format!("chat {path:?} {i}"), "messages": messages}))
    };
    fs::write(path, (0..count).map(row).collect::<String>()).unwrap();
}

#[test]
fn a_stage_over_conversations_with_pictures_packs_validates_and_resumes_exactly() {
    let dir = tempfile::tempdir().unwrap();
    conversations(&dir.path().join("chats.jsonl"), 14);
    conversations(&dir.path().join("held.jsonl"), 3);
    let caption = |i: usize| json!({"id": format!("caption {i}"), "image": picture("grey.png"), "said": "grey".repeat(1 + i)});
    fs::write(
        dir.path().join("captions.jsonl"),
        (0..3).map(|i| format!("{}\n", caption(i))).collect::<String>(),
    )
    .unwrap();
    let text = format!(
        r#"
name = "chats"
seed = 3
device = "cpu"
[policy]
path = {model:?}
[data.chats]
kind = "jsonl"
path = "chats.jsonl"
messages = "{{{{ messages }}}}"
[data.captions]
kind = "jsonl"
path = "captions.jsonl"
prompt = "What?"
images = "{{{{ image }}}}"
completion = "{{{{ said }}}}"
[data.held]
kind = "jsonl"
path = "held.jsonl"
messages = "{{{{ messages }}}}"
[[stage]]
kind = "sft"
data = {{ chats = 2.0, captions = 1.0 }}
steps = 6
batch_tokens = 400
micro_batch_tokens = 250
optim = {{ lr = 2e-3 }}
validation = {{ data = "held", every = 2 }}
[checkpoint]
every = 2
[log]
tensorboard = false
"#,
        model = folder("tiny-qwen2_5_vl")
    );
    let mut config = RunConfig::parse(&text, &dir.path().join("run.toml"), &[]).unwrap();
    config.resolve_paths(dir.path());
    let run = |out: &str, stop_after: Option<u64>| {
        let out = dir.path().join(out);
        let options = RunOptions { out: Some(out.clone()), resume: out.exists(), ..RunOptions::default() };
        let stop = AtomicBool::new(false);
        let outcome = train(&config, &options, &stop, &mut |event: Event| {
            if let Event::Step { row, .. } = event
                && stop_after == Some(row.step)
            {
                stop.store(true, Ordering::Relaxed);
            }
        });
        (outcome.map(|report| report.steps), out)
    };
    let (steps, whole) = run("whole", None);
    assert_eq!(steps.unwrap(), 6);
    let numbers = |out: &Path, key: &str| -> Vec<f64> {
        let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        let row = |line: &str| serde_json::from_str::<Value>(line).unwrap()[key].as_f64();
        text.lines().filter_map(row).collect()
    };
    let losses = numbers(&whole, "sft/validation_loss");
    assert!(losses.len() == 3 && losses[2] < losses[0], "{losses:?}");
    assert!(matches!(run("parts", Some(3)), (Err(Error::Interrupted), _)));
    let (steps, parts) = run("parts", None);
    assert_eq!(steps.unwrap(), 6);
    let weights = |out: &Path| fs::read(out.join("final/model.safetensors")).unwrap();
    assert!(weights(&whole) == weights(&parts));
    assert_eq!(numbers(&whole, "sft/loss"), numbers(&parts, "sft/loss"));
    // A row that does not fit is named before the first step.
    let long = json!({"id": "long", "messages": [
        {"role": "user", "content": [{"type": "image", "image": picture("bars.png")}, {"type": "text", "text": "x".repeat(9000)}]},
        {"role": "assistant", "content": "y"},
    ]});
    fs::write(dir.path().join("chats.jsonl"), format!("{long}\n")).unwrap();
    let message = run("long", None).0.unwrap_err().to_string();
    assert!(
        message.contains("chats.jsonl:1 (long)") && message.contains("the conversation has"),
        "{message}"
    );
}
