//! Supervised stages: conversations, rows by tokens, validation with an early end.
use rlvr::Error;
use rlvr::config::{ChatTemplate, DeviceConfig, LossOn, PolicyConfig, RunConfig, SftConfig};
use rlvr::data::TaskSource;
use rlvr::metrics::is_timing;
use rlvr::policy::Policy;
use rlvr::run::events::Event;
use rlvr::run::{RunOptions, train};
use rlvr::train::lesson::Lesson;
use rlvr::train::sft::SftTrainer;
use rlvr_policies::Decoder;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}

fn values() -> Value {
    serde_json::from_slice(&fs::read(golden("sft.json")).unwrap()).unwrap()
}

/// The model of the golden values, with its own template or the one with `{% generation %}` blocks.
fn policy(marked: bool) -> Policy {
    let device = rlvr::run::device(DeviceConfig::Cpu).unwrap();
    let policy = Policy::open(&golden("models/tiny-qwen2").to_string_lossy(), &device).unwrap();
    let chat_template = match marked {
        true => ChatTemplate::File(golden("chat_generation.jinja")),
        false => ChatTemplate::Auto,
    };
    policy.configured(&PolicyConfig { chat_template, ..PolicyConfig::default() }).unwrap()
}

/// The conversations of these numbers as a data source.
fn source(values: &Value, numbers: &[usize]) -> TaskSource {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chats.jsonl");
    let rows = numbers.iter().map(|i| format!("{}\n", json!({"messages": values["chats"][i]["messages"]})));
    fs::write(&path, rows.collect::<String>()).unwrap();
    let config =
        format!("kind = \"jsonl\"\npath = {:?}\nmessages = \"{{{{ messages }}}}\"", path.to_str().unwrap());
    TaskSource::open("chats", &toml::from_str(&config).unwrap(), 1).unwrap()
}

fn indices(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|i| i.as_u64().unwrap() as usize).collect()
}

#[test]
fn turns_of_conversations_are_those_of_transformers() {
    let values = values();
    let chats = values["chats"].as_array().unwrap();
    let all = source(&values, &(0..chats.len()).collect::<Vec<_>>());
    for marked in [false, true] {
        let policy = policy(marked);
        for (i, chat) in chats.iter().enumerate() {
            for (on, key) in [(LossOn::Assistant, "assistant"), (LossOn::Last, "last")] {
                let lesson = Lesson::new(&all.example(i).unwrap(), &policy, on).unwrap();
                let (ids, mask) = (indices(&chat["ids"]), indices(&chat[key]));
                // What stands behind the last trained token is not computed.
                let end = mask.iter().rposition(|m| *m == 1).unwrap() + 1;
                let read: Vec<u32> = lesson.prompt.token_ids.iter().chain(&lesson.tokens).copied().collect();
                assert_eq!(read, ids[..end].iter().map(|id| *id as u32).collect::<Vec<_>>(), "{i} {key}");
                let trained = lesson.trained.iter().map(|t| usize::from(*t));
                let found: Vec<usize> =
                    vec![0; lesson.prompt.token_ids.len()].into_iter().chain(trained).collect();
                assert_eq!(found, mask[..end], "conversation {i}, {key}, {{% generation %}} {marked}");
            }
        }
    }
}

/// f32 beside float64.
fn close(found: f64, expected: &Value) {
    let expected = expected.as_f64().unwrap();
    assert!((found / expected - 1.0).abs() < 2e-5, "{found} {expected}");
}

#[test]
fn losses_and_steps_over_conversations_are_those_of_pytorch() {
    let values = values();
    let config = |on: &str, lr: f64| -> SftConfig {
        let text = format!(
            "data = \"chats\"\nbatch = 2\nmicro_batch = 1\nloss_on = \"{on}\"\noptim = {{ lr = {lr} }}"
        );
        toml::from_str(&text).unwrap()
    };
    for (on, key) in [("assistant", "assistant_loss"), ("last", "last_loss")] {
        let config = config(on, 1e-3);
        let trainer = SftTrainer::new(policy(false), &config, (1, 1));
        for (i, chat) in values["chats"].as_array().unwrap().iter().enumerate() {
            close(trainer.validate(&source(&values, &[i]), 1).unwrap(), &chat[key]);
        }
    }
    let config = config("assistant", values["lr"].as_f64().unwrap());
    let mut trainer = SftTrainer::new(policy(false), &config, (1, 3));
    for (step, loss) in values["steps"].as_array().unwrap().iter().enumerate() {
        let rows = source(&values, &indices(&values["batches"][step]));
        close(trainer.step(step as u64 + 1, &(&rows).into(), 0).unwrap().loss, loss);
    }
    let held = indices(&values["held"]);
    close(trainer.validate(&source(&values, &held), held.len()).unwrap(), &values["held_loss"]);
}

const CONFIG: &str = r#"
name = "supervised"
seed = 5
device = "cpu"
[policy.tiny]
layers = 1
hidden = 32
heads = 2
kv_heads = 1
intermediate = 32
context = 64
[data.rows]
kind = "addition"
tasks = 12
[data.held]
kind = "addition"
split = "heldout"
tasks = 9
[checkpoint]
every = 3
[log]
tensorboard = false
"#;
const STAGE: &str = "[[stage]]\nkind = \"sft\"\ndata = \"rows\"\nbatch = 4\noptim = { lr = 2e-2 }\n";
const EARLY: &str = "steps = 60\nvalidation = { data = \"held\", every = 2, patience = 3 }\n";

fn config(text: &str, base: &Path) -> Result<RunConfig, String> {
    let mut config = RunConfig::parse(text, &base.join("run.toml"), &[]).map_err(|e| e.to_string())?;
    config.resolve_paths(base);
    Ok(config)
}

/// Runs into `out`, stopping after a step; steps done, or why it ended.
fn run(out: &Path, text: &str, stop_after: Option<u64>) -> Result<u64, Error> {
    let config = config(text, out.parent().unwrap()).unwrap();
    let options = RunOptions { out: Some(out.to_path_buf()), resume: out.exists(), ..RunOptions::default() };
    let stop = AtomicBool::new(false);
    let outcome = train(&config, &options, &stop, &mut |event: Event| {
        if let Event::Step { row, .. } = event
            && stop_after == Some(row.step)
        {
            stop.store(true, Ordering::Relaxed);
        }
    });
    outcome.map(|report| report.steps)
}

fn metrics(run: &Path) -> Vec<Map<String, Value>> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let row = |line: &str| -> Map<String, Value> {
        let row: Map<String, Value> = serde_json::from_str(line).unwrap();
        row.into_iter().filter(|(name, _)| !is_timing(name)).collect()
    };
    text.lines().map(row).collect()
}

fn validated(run: &Path) -> Vec<(u64, f64)> {
    let rows = metrics(run);
    let one = |row: &Map<String, Value>| {
        Some((row["step"].as_u64().unwrap(), row.get("sft/validation_loss")?.as_f64().unwrap()))
    };
    rows.iter().filter_map(one).collect()
}

fn weights(run: &Path) -> Vec<u8> {
    fs::read(run.join("final/model.safetensors")).unwrap()
}

#[test]
fn a_stage_ends_early_with_its_best_weights_and_resumes_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let second = "[[stage]]\nkind = \"sft\"\nname = \"then\"\ndata = \"rows\"\nsteps = 2\n";
    let text = format!("{CONFIG}{STAGE}{EARLY}");
    let steps = run(&whole, &text, None).unwrap();
    let losses = validated(&whole);
    let best = losses.iter().enumerate().min_by(|a, b| a.1.1.total_cmp(&b.1.1)).unwrap();
    println!("{steps} steps, best at {:?} of {losses:?}", best.1);
    assert!(steps < 60 && best.1.0 < steps, "it ends early: {steps}");
    // Three validations in a row without a lower loss, and no four.
    assert_eq!((losses.len() - 1 - best.0, losses.last().unwrap().0), (3, steps));
    // The weights are those of the lowest loss, to the bit.
    let settings: SftConfig = toml::from_str("data = \"rows\"").unwrap();
    let device = rlvr::run::device(DeviceConfig::Cpu).unwrap();
    let policy = Policy::open(&whole.to_string_lossy(), &device).unwrap();
    let parsed = config(&text, dir.path()).unwrap();
    let held = TaskSource::open("held", &parsed.data["held"], parsed.seed).unwrap();
    let measured = SftTrainer::new(policy, &settings, (5, 1)).validate(&held, held.len()).unwrap();
    assert_eq!(measured, best.1.1);
    // Interrupted around the best step, between validations, and at the last step before the end.
    for stop in [1, best.1.0 - 1, best.1.0, best.1.0 + 1, steps - 1] {
        let out = dir.path().join(format!("after-{stop}"));
        assert!(matches!(run(&out, &text, Some(stop)), Err(Error::Interrupted)));
        assert_eq!(run(&out, &text, None).unwrap(), steps);
        assert_eq!(metrics(&out), metrics(&whole), "stopped after {stop}");
        assert!(weights(&out) == weights(&whole), "stopped after {stop}");
    }
    // What comes next begins with them, also where the run was interrupted at the end of the stage.
    let (two, parted) = (dir.path().join("two"), dir.path().join("parted"));
    let text = format!("{text}{second}");
    assert_eq!(run(&two, &text, None).unwrap(), steps + 2);
    assert!(matches!(run(&parted, &text, Some(steps)), Err(Error::Interrupted)));
    assert_eq!(run(&parted, &text, None).unwrap(), steps + 2);
    assert_eq!(metrics(&parted), metrics(&two));
    assert!(weights(&parted) == weights(&two) && weights(&two) != weights(&whole));
}

#[test]
fn the_average_of_the_weights_takes_in_every_step() {
    let settings = "data = \"chats\"\nbatch = 2\npolicy_ema = 0.75\noptim = { lr = 1e-2 }";
    let settings: SftConfig = toml::from_str(settings).unwrap();
    let source = source(&values(), &[0, 1]);
    let mut trainer = SftTrainer::new(policy(false), &settings, (5, 3));
    let of = |decoder: &Decoder| -> Vec<Vec<f64>> {
        let values = |i| decoder.param_values(i).iter().map(|v| f64::from(*v)).collect();
        (0..decoder.params().len()).map(values).collect()
    };
    let mut expected = of(&trainer.policy.decoder);
    assert_eq!(of(trainer.average.as_ref().unwrap()), expected);
    for step in 1..=3 {
        trainer.step(step, &(&source).into(), 0).unwrap();
        for (mean, now) in expected.iter_mut().zip(of(&trainer.policy.decoder)) {
            mean.iter_mut().zip(now).for_each(|(mean, now)| *mean = 0.75 * *mean + 0.25 * now);
        }
    }
    let (found, policy) = (of(trainer.average.as_ref().unwrap()), of(&trainer.policy.decoder));
    let apart = |a: &[Vec<f64>], b: &[Vec<f64>]| {
        let off = a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs());
        off.fold(0.0, f64::max)
    };
    assert!(apart(&found, &expected) < 1e-6 && apart(&found, &policy) > 1e-3);
}

#[test]
fn the_average_of_the_weights_is_saved_and_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let average = |run: &Path| fs::read(run.join("final_ema/model.safetensors")).unwrap();
    for (name, stage) in [("plain", "steps = 6\n"), ("early", EARLY)] {
        let text = format!("{CONFIG}{STAGE}policy_ema = 0.5\n{stage}");
        let (plain, whole) = (dir.path().join(format!("{name}-0")), dir.path().join(name));
        run(&plain, &format!("{CONFIG}{STAGE}{stage}"), None).unwrap();
        let steps = run(&whole, &text, None).unwrap();
        assert!(weights(&plain) == weights(&whole) && average(&whole) != weights(&whole));
        for stop in [1, 4, steps - 1] {
            let out = dir.path().join(format!("{name}-{stop}"));
            assert!(matches!(run(&out, &text, Some(stop)), Err(Error::Interrupted)));
            assert_eq!(run(&out, &text, None).unwrap(), steps);
            assert!(average(&out) == average(&whole) && weights(&out) == weights(&whole), "{name}, {stop}");
        }
        // A run that is over leaves them again.
        let before = average(&whole);
        fs::remove_dir_all(whole.join("final_ema")).unwrap();
        assert_eq!(run(&whole, &text, None).unwrap(), steps);
        assert!(average(&whole) == before && weights(&plain) == weights(&whole));
    }
}

#[test]
fn a_loss_that_stays_is_no_lower_one() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("{CONFIG}{STAGE}{EARLY}").replace("lr = 2e-2", "lr = 1e-30");
    assert_eq!(run(&dir.path().join("run"), &text, None).unwrap(), 8);
    assert_eq!(validated(&dir.path().join("run")).len(), 4);
}

#[test]
fn dropout_is_drawn_anew_in_every_step() {
    let source = source(&values(), &[0, 1]);
    let norms = |dropout: &str, micro: usize| -> Vec<f64> {
        let path = golden("models/tiny-qwen2");
        let policy: PolicyConfig =
            toml::from_str(&format!("path = {path:?}\nlora = {{ rank = 4{dropout} }}")).unwrap();
        let device = rlvr::run::device(DeviceConfig::Cpu).unwrap();
        let policy = Policy::from_config(&policy, 1, &device).unwrap();
        let settings =
            format!("data = \"chats\"\nbatch = 2\nmicro_batch = {micro}\noptim = {{ lr = 1e-30 }}");
        let settings: SftConfig = toml::from_str(&settings).unwrap();
        let mut trainer = SftTrainer::new(policy, &settings, (5, 4));
        [1, 2, 3, 1]
            .into_iter()
            .map(|step| trainer.step(step, &(&source).into(), 0).unwrap().grad_norm)
            .collect()
    };
    let whole = norms("", 2);
    assert!(whole.iter().all(|norm| *norm == whole[0]));
    for micro in [1, 2] {
        let dropped = norms(", dropout = 0.5", micro);
        assert_eq!(dropped[0], dropped[3], "{dropped:?}");
        let distinct = |i: usize| dropped[..i].iter().all(|norm| *norm != dropped[i]);
        assert!((1..3).all(distinct) && dropped[0] != whole[0], "{dropped:?}");
    }
}

#[test]
fn validation_alone_changes_nothing_that_is_trained() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, watched) = (dir.path().join("plain"), dir.path().join("watched"));
    run(&plain, &format!("{CONFIG}{STAGE}steps = 6\n"), None).unwrap();
    run(
        &watched,
        &format!("{CONFIG}{STAGE}steps = 6\nvalidation = {{ data = \"held\", every = 4, limit = 5 }}\n"),
        None,
    )
    .unwrap();
    assert!(weights(&plain) == weights(&watched));
    assert_eq!(validated(&watched).iter().map(|(step, _)| *step).collect::<Vec<_>>(), [4, 6]);
    assert!(validated(&plain).is_empty());
}

#[test]
fn steps_by_tokens_take_every_row_once_an_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    run(&out, &format!("{CONFIG}{STAGE}epochs = 2\nbatch_tokens = 30\n"), None).unwrap();
    let rows = metrics(&out);
    let epochs: Vec<f64> = rows.iter().map(|row| row["data/epoch"].as_f64().unwrap()).collect();
    let counts: Vec<f64> =
        epochs.iter().scan(0.0, |last, e| Some((e - std::mem::replace(last, *e)) * 12.0)).collect();
    // A sum has 5 to 10 tokens.
    assert!(counts.iter().all(|n| (2.9..7.1).contains(n)), "{counts:?}");
    assert!(counts.iter().any(|n| (n - counts[0]).abs() > 0.5), "{counts:?}");
    let last = epochs.len() - 1;
    assert!(epochs[last] >= 2.0 && epochs[last - 1] < 2.0, "{epochs:?}");
    // The same rows in steps of as many, resumed anywhere.
    let parted = dir.path().join("parted");
    let text = format!("{CONFIG}{STAGE}epochs = 2\nbatch_tokens = 30\n");
    assert!(matches!(run(&parted, &text, Some(2)), Err(Error::Interrupted)));
    run(&parted, &text, None).unwrap();
    assert_eq!(metrics(&parted), rows);
    assert!(weights(&parted) == weights(&out));
}

#[test]
fn a_step_by_tokens_takes_no_row_twice() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    // More than all rows have: steps of twelve rows each.
    run(&out, &format!("{CONFIG}{STAGE}epochs = 2\nbatch_tokens = 1000000000\n"), None).unwrap();
    let epochs: Vec<f64> = metrics(&out).iter().map(|row| row["data/epoch"].as_f64().unwrap()).collect();
    assert_eq!(epochs, [1.0, 2.0]);
    let one = dir.path().join("one");
    run(&one, &format!("{CONFIG}{STAGE}epochs = 0.5\nbatch_tokens = 1000000000\n"), None).unwrap();
    assert_eq!(metrics(&one).len(), 1);
}

#[test]
fn rows_that_are_trained_on_and_batches_of_more_than_all_are_noted() {
    let dir = tempfile::tempdir().unwrap();
    let notes = |data: &str, stage: &str| {
        let text = format!("{CONFIG}{data}{STAGE}{stage}").replace("batch = 4\nopt", "opt");
        let config = config(&text, dir.path()).unwrap();
        let out = dir.path().join("run");
        let _ = fs::remove_dir_all(&out);
        let options = RunOptions { out: Some(out), ..RunOptions::default() };
        let mut notes = Vec::new();
        train(&config, &options, &AtomicBool::new(false), &mut |event: Event| {
            if let Event::Note(note) = event {
                notes.push(note.to_owned());
            }
        })
        .unwrap();
        notes
    };
    let same = "[data.same]\nkind = \"addition\"\ntasks = 9\nsplit = \"all\"\n";
    assert_eq!(notes("", "steps = 1\nbatch = 4\nvalidation = { data = \"held\" }\n"), [""; 0]);
    let found = notes(same, "steps = 1\nbatch = 4\nvalidation = { data = \"same\" }\n");
    assert_eq!(found.len(), 1, "{found:?}");
    let said = "of the 9 tasks of [data.same] that stage `sft` validates on are trained on in [data.rows]";
    assert!(found[0].contains(said) && found[0].contains("split = \"heldout\""), "{found:?}");
    let found = notes("", "steps = 1\nbatch = 13\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("has 12 rows, so a batch of 13"), "{found:?}");
    assert_eq!(notes("", "steps = 1\nbatch = 12\n"), [""; 0]);
}

#[test]
fn what_cannot_be_learned_of_a_conversation_is_named_before_the_first_step() {
    let dir = tempfile::tempdir().unwrap();
    let said = |role: &str, content: &str| json!({"role": role, "content": content});
    let refuse = |rows: &[Value], template: Option<&str>, more: &str| -> String {
        let text: String = rows.iter().map(|m| format!("{}\n", json!({"id": "x", "messages": m}))).collect();
        fs::write(dir.path().join("chats.jsonl"), text).unwrap();
        let file = dir.path().join("chat.jinja");
        fs::write(&file, template.unwrap_or_default()).unwrap();
        let set = template.map_or(String::new(), |_| "[policy]\nchat_template = \"chat.jinja\"\n".to_owned());
        let data = "[data.chats]\nkind = \"jsonl\"\npath = \"chats.jsonl\"\nmessages = \"{{ messages }}\"\n";
        let stage = format!("[[stage]]\nkind = \"sft\"\ndata = \"chats\"\nsteps = 1\n{more}");
        let out = dir.path().join("run");
        let result = run(&out, &format!("{CONFIG}{set}{data}{stage}"), None);
        let _ = fs::remove_dir_all(&out);
        result.err().map_or(String::new(), |e| e.to_string())
    };
    let good = json!([said("user", "a"), said("assistant", "b"), said("user", "c"), said("assistant", "d")]);
    let plain = "{% for m in messages %}<{{ m.role }}>{{ m.content }};{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
    assert_eq!(refuse(std::slice::from_ref(&good), Some(plain), ""), "");
    // Earlier turns lose their last character once there are later ones.
    let thinning = "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' and not loop.last %}!{% endif %}{{ m.content }};\
                    {% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
    let message = refuse(&[good.clone(), good.clone()], Some(thinning), "");
    assert!(
        message.contains("chats.jsonl:1 (x): turn 2 (of the assistant): the chat template writes"),
        "{message}"
    );
    assert!(message.contains("2 of 2 rows") && message.contains("{% generation %}"), "{message}");
    assert_eq!(refuse(std::slice::from_ref(&good), Some(thinning), "loss_on = \"last\"\n"), "");
    let message = refuse(&[good], None, "");
    assert!(message.contains("a conversation needs a chat template"), "{message}");
    let message = refuse(&[json!([said("user", "a")])], Some(plain), "");
    assert!(message.contains("chats.jsonl:1: messages: there is no turn of the assistant"), "{message}");
}

#[test]
fn validation_on_what_is_trained_is_refused() {
    for (more, expected) in [
        ("validation = { data = \"rows\" }\n", "is what the stage trains on"),
        (
            "validation = { data = \"held\", patience = 2 }\n",
            "validation.every: must be at least 1 with `patience`",
        ),
        ("validation = { data = \"hold\" }\n", "did you mean `held`?"),
        ("policy_ema = 1.0\n", "policy_ema: is the decay of an average"),
        ("batch_tokens = 0\n", "batch_tokens: must be at least 1"),
    ] {
        let error = config(&format!("{CONFIG}{STAGE}{more}"), Path::new("/")).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}
