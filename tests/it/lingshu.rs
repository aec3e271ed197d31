//! Stages that train parts of a policy, and the preset of four of them.
use crate::vision::{files, from_scratch, squares};
use rlvr::config::RunConfig;
use rlvr::policies::PolicyFiles;
use rlvr::run::events::Event;
use rlvr::run::{RunOptions, train};
use safetensors::SafeTensors;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

fn config(dir: &Path, text: &str) -> Result<RunConfig, String> {
    let (model, rows) = (dir.join("model"), dir.join("squares.jsonl"));
    let text = format!(
        r#"{text}
[policy]
path = {model:?}
[data.squares]
kind = "jsonl"
path = {rows:?}
prompt = "?"
images = "{{{{ image }}}}"
reference.answer = "{{{{ answer }}}}"
completion = "{{{{ answer }}}}"
[checkpoint]
every = 2
keep_last = 9
[log]
tensorboard = false
[preflight]
refuse = false
"#
    );
    RunConfig::parse(&text, &dir.join("run.toml"), &[]).map_err(|e| e.to_string())
}

const LINGSHU: &str = r#"
name = "staged"
seed = 1
device = "cpu"
preset = "lingshu"
rewards = { kind = "exact" }
stage = [
  { kind = "sft", name = "align", data = "squares", steps = 2, batch = 4 },
  { kind = "sft", name = "deepen", data = "squares", steps = 2, batch = 4, optim = { lr = 2e-5 } },
  { kind = "sft", name = "instruct", data = "squares", steps = 2, batch = 4 },
  { kind = "grpo", data = "squares", steps = 2, prompts_per_step = 16, group_size = 4, minibatches = 1, sampling = { max_tokens = 1 } },
]
"#;

#[test]
fn the_preset_of_a_run_is_written_out_stage_by_stage() {
    let dir = tempfile::tempdir().unwrap();
    let read = config(dir.path(), LINGSHU).unwrap();
    let text = read.to_toml().unwrap();
    assert!(!text.contains("preset"), "{text}");
    let table: toml::Table = text.parse().unwrap();
    let stages = table["stage"].as_array().unwrap();
    let number = |stage: usize, keys: &[&str]| {
        keys.iter().fold(&stages[stage], |value, key| &value[*key]).as_float().unwrap()
    };
    for (stage, lr) in [(0, 1e-5), (1, 2e-5), (2, 1e-5)] {
        assert_eq!(number(stage, &["optim", "lr"]), lr);
        assert_eq!(stages[stage]["optim"]["groups"][0]["lr"].as_float(), Some(2e-6));
        assert_eq!(stages[stage]["optim"]["groups"][0]["params"][0].as_str(), Some(r"vision\..*"));
    }
    let trained: Vec<&str> =
        stages[0]["trainable"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
    assert_eq!(trained, [r"vision\..*", r"projector\..*"]);
    assert!(stages[1].get("trainable").is_none() && stages[3].get("trainable").is_none());
    assert_eq!((number(3, &["optim", "lr"]), number(3, &["loss", "kl_coef"])), (1e-6, 1e-3));
    assert_eq!(stages[3]["group_size"].as_integer(), Some(4));
    assert_eq!(RunConfig::parse(&text, Path::new("again.toml"), &[]).unwrap(), read);
    // What the config does not say: 512 completions a rollout, 128 an update, format and accuracy.
    let bare = LINGSHU
        .replace("prompts_per_step = 16, group_size = 4, minibatches = 1, ", "")
        .replace("rewards = { kind = \"exact\" }", "");
    let bare: toml::Table = config(dir.path(), &bare).unwrap().to_toml().unwrap().parse().unwrap();
    let grpo = &bare["stage"][3];
    let whole = |key: &str| grpo[key].as_integer().unwrap();
    assert_eq!((whole("prompts_per_step") * whole("group_size"), whole("minibatches")), (512, 4));
    assert_eq!(bare["rewards"]["kind"].as_str(), Some("lingshu_rl"));
    for (from, to, part) in [
        (
            "preset = \"lingshu\"",
            "preset = \"lingsu\"",
            "run.toml:5: preset: unknown preset \"lingsu\" (known: lingshu",
        ),
        ("kind = \"grpo\"", "kind = \"sft\", name = \"more\"", "has three supervised stages"),
        (
            "name = \"align\",",
            "name = \"align\", preset = \"dapo\",",
            "known: lingshu_1, lingshu_2, lingshu_3",
        ),
        ("name = \"align\",", "name = \"align\", trainable = [],", "names nothing to train"),
    ] {
        let message = config(dir.path(), &LINGSHU.replace(from, to)).unwrap_err();
        assert!(message.contains(part), "{message}");
    }
}

fn is_text(tensor: &str) -> bool {
    !tensor.contains("vision_model") && !tensor.contains("connector")
}

/// Which tensors differ between two folders: any, and all, of the text and of the rest. The gradient of a bias of keys is
/// rounding noise around 0.
fn changed(a: &Path, b: &Path, of_text: bool) -> (bool, bool) {
    let (a, b) = [a, b].map(|folder| PolicyFiles::open_folder(folder).unwrap()).into();
    let names: Vec<String> = a.weights.names().into_iter().filter(|name| is_text(name) == of_text).collect();
    let differ = |name: &String| a.weights.load(name).unwrap() != b.weights.load(name).unwrap();
    let counted = names.iter().filter(|name| !name.ends_with("k_proj.bias"));
    (names.iter().any(differ), counted.into_iter().all(differ))
}

#[test]
fn stages_train_their_parts_and_resume_exactly() {
    let dir = tempfile::tempdir().unwrap();
    from_scratch(&dir.path().join("model"), 4);
    squares(&dir.path().join("squares.jsonl"), 32);
    let config = config(dir.path(), LINGSHU).unwrap();
    let run = |out: &str, stop_after: Option<u64>| {
        let out = dir.path().join(out);
        let options = RunOptions { out: Some(out.clone()), resume: out.exists(), ..RunOptions::default() };
        let stop = AtomicBool::new(false);
        let mut notes = Vec::new();
        let _ = train(&config, &options, &stop, &mut |event: Event| match event {
            Event::Step { row, .. } if stop_after == Some(row.step) => stop.store(true, Ordering::Relaxed),
            Event::Note(note) => notes.push(note.to_owned()),
            _ => {}
        });
        (out, notes)
    };
    let (whole, notes) = run("whole", None);
    assert!(notes.iter().any(|note| note.contains("the backward goes through")), "{notes:?}");
    let mut checkpoints: Vec<PathBuf> =
        fs::read_dir(whole.join("checkpoints")).unwrap().map(|e| e.unwrap().path()).collect();
    checkpoints.sort();
    let after =
        |step: usize| checkpoints.iter().find(|p| p.to_string_lossy().ends_with(&format!("{step}"))).unwrap();
    let start = dir.path().join("model");
    // The first stage leaves the text as it is, to the bit, and keeps nothing of it beside.
    assert_eq!(changed(&start, after(2), true), (false, false));
    assert_eq!(changed(&start, after(2), false), (true, true));
    let moments = |step: usize| {
        let bytes = fs::read(after(step).join("optimizer.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        file.names()
            .into_iter()
            .filter(|name| !name.contains("vision.") && !name.contains("projector."))
            .count()
    };
    assert!(moments(2) == 0 && moments(4) > 0, "{} {}", moments(2), moments(4));
    // The others train everything.
    for (before, then) in [(2, 4), (4, 6), (6, 8)] {
        assert!(changed(after(before), after(then), true).0, "step {then}");
        assert!(changed(after(before), after(then), false).0, "step {then}");
    }
    for stop in [1, 3, 7] {
        let out = format!("stopped-{stop}");
        run(&out, Some(stop));
        assert_eq!(files(&run(&out, None).0.join("final")), files(&whole.join("final")), "{stop}");
    }
}

#[test]
fn a_stage_that_names_what_is_not_trained_is_refused_before_the_first_step() {
    let dir = tempfile::tempdir().unwrap();
    from_scratch(&dir.path().join("model"), 4);
    squares(&dir.path().join("squares.jsonl"), 8);
    for (policy, stage, part) in [
        ("", "frozen = [\"visio\"]", "stage.0.frozen: `visio` names no parameter"),
        (
            "frozen = ['vision\\..*']",
            "trainable = ['vision\\..*']",
            "stage.0.trainable: `vision\\..*` names no parameter",
        ),
        ("", "frozen = ['.*']", "stage.0.frozen: leaves nothing to train"),
        (
            "",
            "frozen = ['vision\\..*']\noptim = { groups = [{ params = ['vision\\..*'], lr = 1e-6 }] }",
            "stage.0.optim.groups.0.params: `vision\\..*` names no parameter",
        ),
    ] {
        let text =
            format!("name = \"x\"\n[[stage]]\nkind = \"sft\"\ndata = \"squares\"\nsteps = 1\n{stage}\n");
        let mut config = config(dir.path(), &text).unwrap();
        config.policy = toml::from_str(&format!("path = {:?}\n{policy}", dir.path().join("model"))).unwrap();
        let options = RunOptions { dry_run: true, ..RunOptions::default() };
        let message =
            train(&config, &options, &AtomicBool::new(false), &mut |_: Event| {}).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}
