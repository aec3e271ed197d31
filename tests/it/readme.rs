//! Every TOML block of README.md runs as it stands there, with a tiny policy in the place of a real one.
use super::cli::{SMALL_RUN, lines, rlvr, stderr, write};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A policy that reads ASCII, as the value of `[policy]`.
const TINY: &str =
    "tiny = { layers = 1, hidden = 16, heads = 1, kv_heads = 1, intermediate = 16, context = 512 }";

fn blocks(language: &str) -> Vec<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let block = |rest: &str| rest.split("```").next().unwrap().to_owned();
    text.split(&format!("```{language}\n")).skip(1).map(block).collect()
}

fn has_python() -> bool {
    let found = Command::new("python3").arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        println!("note: skipped, there is no python3");
    }
    found
}

fn train(dir: &Path, config: &str, more: &[&str]) -> Vec<Value> {
    let config = write(dir, "config.toml", config);
    let run = dir.join("run");
    let done = rlvr(&[&["train", &config, "--out", run.to_str().unwrap()], more].concat(), "");
    assert!(done.status.success(), "{}", stderr(&done));
    let text = std::fs::read_to_string(run.join("rollouts.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Trains for two steps on rows as the text around the block describes them.
fn run(block: &str) {
    let dir = tempfile::tempdir().unwrap();
    let row =
        |i: usize| json!({"question": format!("What is {i} + 7?"), "answer": format!("so\n#### {}", i + 7)});
    write(dir.path(), "sums.jsonl", &lines(&(0..60).map(row).collect::<Vec<_>>()));
    let model = block.lines().find(|line| line.starts_with("path = \"HuggingFaceTB/")).expect("a model");
    let sets =
        ["stage.grpo.steps=2", "stage.grpo.sampling.max_tokens=8", "eval.every=1", "preflight.refuse=false"];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let rollouts = train(dir.path(), &block.replace(model, TINY), &sets);
    assert_eq!(rollouts.len(), 2 * 16 * 8);
    for row in rollouts {
        // A policy that is not told to box its answer hardly does, and the rewards want a box.
        let parts = row["outcome"]["parts"].as_array().unwrap();
        assert!(parts.iter().any(|part| part["name"] == "format"), "{row}");
        assert!(row["prompt"].as_str().unwrap().contains("\\boxed{}"), "{row}");
        assert!(row["reference"]["answer"].as_str().unwrap().parse::<u32>().is_ok(), "{row}");
    }
}

/// Trains the adapter of the block for a step.
fn adapter(block: &str) {
    let dir = tempfile::tempdir().unwrap();
    let model = block.lines().find(|line| line.starts_with("path = \"HuggingFaceTB/")).expect("a model");
    let rest = &SMALL_RUN[SMALL_RUN.find("[data.sums]").unwrap()..];
    let config = format!("name = \"small\"\n{}\n{rest}", block.replace(model, TINY));
    let sets = ["--set", "stage.grpo.steps=1", "--set", "preflight.refuse=false"];
    train(dir.path(), &config, &sets);
    assert!(dir.path().join("run/final/adapter_model.safetensors").exists());
}

/// Trains the new tower of the block for a step on captions.
fn tower(block: &str) {
    let dir = tempfile::tempdir().unwrap();
    let model = block.lines().find(|line| line.starts_with("path = \"HuggingFaceTB/")).expect("a model");
    let data = "[data.shapes]\nkind = \"shapes\"\nquestions = [\"caption\"]\ntasks = 20\n";
    let stage = "[[stage]]\nkind = \"sft\"\ndata = \"shapes\"\nsteps = 1\nbatch = 2\n";
    train(dir.path(), &format!("name = \"tower\"\n{}\n{data}{stage}", block.replace(model, TINY)), &[]);
    assert!(dir.path().join("run/final/preprocessor_config.json").exists());
}

/// Trains parts of a policy with as many blocks as the block speaks of for a step.
fn parts(block: &str) {
    let dir = tempfile::tempdir().unwrap();
    let model = block.lines().find(|line| line.starts_with("path = \"HuggingFaceTB/")).expect("a model");
    let tiny =
        "tiny = { layers = 30, hidden = 64, heads = 1, kv_heads = 1, intermediate = 64, context = 64 }";
    let stage =
        "data = \"sums\"\nsteps = 1\nprompts_per_step = 2\ngroup_size = 2\nsampling = { max_tokens = 4 }";
    let rest = "[data.sums]\nkind = \"addition\"\n[rewards]\nkind = \"exact\"\n[preflight]\nrefuse = false\n";
    let block = block.replace(model, tiny).replace("# …", stage);
    assert_eq!(train(dir.path(), &format!("name = \"small\"\n{block}{rest}"), &[]).len(), 4);
}

/// Trains for a step on the conversations of the block.
fn chats(block: &str) {
    let dir = tempfile::tempdir().unwrap();
    let said = |role: &str, content: String| json!({"role": role, "content": content});
    let row =
        |i: usize| json!({"messages": [said("user", format!("{i}?")), said("assistant", format!("{i}!"))]});
    write(dir.path(), "chats.jsonl", &lines(&(0..20).map(row).collect::<Vec<_>>()));
    let template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
    write(dir.path(), "chat.jinja", template);
    let policy = format!("[policy]\nchat_template = \"chat.jinja\"\n{TINY}");
    let stage = "[[stage]]\nkind = \"sft\"\ndata = \"chats\"\nsteps = 1";
    train(dir.path(), &format!("name = \"chats\"\n{policy}\n{block}\n{stage}\n"), &[]);
}

/// Trains a tiny policy that sees for a step on the pictures of the block.
fn scans(block: &str) {
    let dir = tempfile::tempdir().unwrap();
    let model = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/vision/tiny-smolvlm");
    std::fs::create_dir(dir.path().join("scans")).unwrap();
    std::fs::copy(model.join("images/bars.png"), dir.path().join("scans/1.png")).unwrap();
    let row = |i: usize| json!({"question": format!("{i}?"), "image": "scans/1.png", "answer": "no"});
    write(dir.path(), "scans.jsonl", &lines(&(0..8).map(row).collect::<Vec<_>>()));
    let stage = "[[stage]]\nkind = \"grpo\"\ndata = \"scans\"\nsteps = 1\nprompts_per_step = 2\ngroup_size = 2\n\
                 sampling = { max_tokens = 4 }\n[rewards]\nkind = \"exact\"\n[preflight]\nrefuse = false";
    let config =
        format!("name = \"scans\"\ndevice = \"cpu\"\n[policy]\npath = {model:?}\n{block}\n{stage}\n");
    let rollouts = train(dir.path(), &config, &[]);
    assert_eq!(rollouts.len(), 4);
    for row in rollouts {
        assert!(row["images"][0].as_str().unwrap().ends_with("scans/1.png"), "{row}");
        assert!(row["prompt"].as_str().unwrap().contains("<global-img><image><fake"), "{row}");
    }
}

/// Trains for a step with the rewards of the block.
fn rewards(block: &str) {
    let dir = tempfile::tempdir().unwrap();
    let table: toml::Table = block.parse().unwrap();
    let kind = table["rewards"]["kind"].as_str().unwrap();
    let (start, rest) = SMALL_RUN.split_once("[rewards]").unwrap();
    let rest = &rest[rest.find("[[stage]]").unwrap()..];
    let config = format!("{start}{block}\n{rest}");
    match kind {
        "wasm" => {
            // A component has to be built first: examples/wasm says how, and a test of its own judges with it.
            let config = write(dir.path(), "config.toml", &config);
            let done = rlvr(&["train", &config, "--dry-run"], "");
            let said = stderr(&done);
            assert_eq!(done.status.code(), Some(2), "{said}");
            assert!(said.contains("--features wasm") || said.contains("reward.wasm"), "{said}");
        }
        "plugin" => {
            if !has_python() {
                return;
            }
            let folder = dir.path().join("my_reward").display().to_string();
            let made = rlvr(&["plugin", "new", "--lang", "python", &folder], "");
            assert!(made.status.success(), "{}", stderr(&made));
            let judged = train(dir.path(), &config, &["--set", "stage.grpo.steps=1"]);
            assert!(judged.iter().all(|row| row["outcome"]["verdict"] != "error"), "{judged:?}");
        }
        _ => {
            if kind == "python" {
                if !has_python() {
                    return;
                }
                write(dir.path(), "rewards.py", &blocks("python").concat());
            }
            let judged = train(dir.path(), &config, &["--set", "stage.grpo.steps=1"]);
            assert!(judged.iter().all(|row| row["reward"].is_number()), "{judged:?}");
        }
    }
}

#[test]
fn every_config_of_the_readme_runs() {
    let blocks = blocks("toml");
    let runs = blocks.iter().filter(|block| block.contains("[[stage]]"));
    assert!(runs.clone().count() >= 1 && blocks.len() >= 4, "{} blocks", blocks.len());
    for block in &blocks {
        match block {
            block if block.contains("[[stage.optim.groups]]") => parts(block),
            block if block.contains("[[stage]]") => run(block),
            block if block.contains("[parallel]") => crate::ranks::share(block),
            block if block.contains("[engine]") => crate::engine::runs_with(block),
            block if block.contains("[policy.vision]") => tower(block),
            block if block.contains("[policy]") => adapter(block),
            block if block.contains("messages = ") => chats(block),
            block if block.contains("images = ") => scans(block),
            block => rewards(block),
        }
    }
}
