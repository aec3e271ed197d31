//! `[policy.vision]`: a tower from random weights in front of a policy that does not see.
use super::cli::{lines, refused, rlvr, rows, stderr, write};
use super::vision::files;
use burn::tensor::Device;
use rlvr::config::{PolicyConfig, RunConfig};
use rlvr::data::{DataConfig, TaskSource};
use rlvr::policies::PolicyFiles;
use rlvr::policy::Policy;
use rlvr::run::events::Event;
use rlvr::run::{RunOptions, train};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

fn golden(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(model)
}

/// A tower of nine tokens a picture.
const TOWER: &str = "image = 24\npatch = 4\nscale = 2\nlayers = 2\nhidden = 16\nheads = 2\nintermediate = 32";

fn opened(policy: &str, seed: u64) -> Result<Policy, rlvr::Error> {
    let config: PolicyConfig = toml::from_str(policy).unwrap();
    Policy::from_config(&config, seed, &Device::flex())
}

/// The golden text model of a family with a tower.
fn with_tower(model: &str, seed: u64) -> Result<Policy, rlvr::Error> {
    opened(&format!("path = {:?}\n[vision]\n{TOWER}", golden(model)), seed)
}

fn shapes(more: &str) -> TaskSource {
    let config: DataConfig =
        toml::from_str(&format!("kind = \"shapes\"\nsize = 24\ntasks = 8\n{more}")).unwrap();
    TaskSource::open("shapes", &config, 1).unwrap()
}

/// Log-probabilities of the next token behind the prompt of a task.
fn next(policy: &Policy, source: &TaskSource, i: usize) -> Vec<f32> {
    let prompt = policy.prompt_of(source.task(i)).unwrap();
    policy.decoder.prefill_seeing(&[&prompt.token_ids], &[&prompt.images], 1).1
}

#[test]
fn a_new_tower_leaves_the_text_as_it_is_and_is_saved_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let text = Policy::open(golden("models/tiny-llama").to_str().unwrap(), &Device::flex()).unwrap();
    let policy = with_tower("models/tiny-llama", 3).unwrap();
    // Its embedding has rows to spare, which the new tokens take.
    let (tokens, rows) = (text.tokenizer().vocab_size(), text.decoder.config().vocab_size);
    assert!(tokens < rows && policy.decoder.config().vocab_size == rows.max(tokens + 3));
    for (i, spec) in text.decoder.layout().specs.iter().enumerate() {
        let (old, new, width) = (text.decoder.param_values(i), policy.decoder.param_values(i), spec.shape[1]);
        assert_eq!(policy.decoder.layout().specs[i].name, spec.name);
        let of_tokens = spec.shape[0] == rows;
        let kept = if of_tokens { tokens * width } else { old.len() };
        assert_eq!(old[..kept], new[..kept], "{}", spec.name);
        // The new tokens begin as the mean of the others.
        for row in new[kept..].chunks(width).take(3) {
            for (column, value) in row.iter().enumerate() {
                let mean = old[..kept].iter().skip(column).step_by(width).sum::<f32>() / tokens as f32;
                assert!((value - mean).abs() < 1e-5, "{} {value} {mean}", spec.name);
            }
        }
    }
    // What it says of text is what the text says.
    let words = [text.encode("one two", true).unwrap()];
    let of = |policy: &Policy| policy.decoder.prefill(&[&words[0]], 1).1;
    let (old, new) = (of(&text), of(&policy));
    assert!(old[..tokens].iter().zip(&new).all(|(a, b)| (a - b).abs() < 1e-5));

    let saved = dir.path().join("saved");
    policy.save(&saved).unwrap();
    let names: Vec<String> = files(&saved).into_iter().map(|(name, _)| name).collect();
    for name in ["preprocessor_config.json", "processor_config.json", "chat_template.jinja", "tokenizer.json"]
    {
        assert!(names.iter().any(|n| n == name), "{name}");
    }
    let again = Policy::open(saved.to_str().unwrap(), &Device::flex()).unwrap();
    assert_eq!(again.decoder.vision().unwrap().image_token as usize, tokens);
    assert_eq!(again.eos_token_ids(), policy.eos_token_ids());
    let source = shapes("");
    for i in 0..source.len() {
        let prompt = again.prompt_of(source.task(i)).unwrap();
        assert_eq!(prompt, policy.prompt_of(source.task(i)).unwrap());
        let places = prompt.token_ids.iter().filter(|id| **id as usize == tokens).count();
        assert_eq!(places, 9);
        assert_eq!(next(&again, &source, i), next(&policy, &source, i));
        let said = again.prompt_text(&source.task(i).prompt).unwrap();
        assert!(said.contains("user\n<image>") && said.ends_with("<|im_start|>assistant\n"), "{said}");
    }
    let twice = dir.path().join("twice");
    again.save(&twice).unwrap();
    assert_eq!(files(&saved), files(&twice));
}

#[test]
fn the_seed_decides_the_tower_and_nothing_else_does() {
    let tower = |seed| {
        let policy = with_tower("models/tiny-llama", seed).unwrap();
        let specs = policy.decoder.layout().specs.clone();
        let of_tower = |i: &usize| specs[*i].is_of_tower();
        (0..specs.len()).filter(of_tower).map(|i| policy.decoder.param_values(i)).collect::<Vec<_>>()
    };
    assert_eq!(tower(1), tower(1));
    assert_ne!(tower(1), tower(2));
    // Beside the same text from nothing: the text does not change.
    let tiny = "[tiny]\nlayers = 1\nhidden = 16\nheads = 1\nkv_heads = 1\nintermediate = 16";
    let (text, seeing) =
        (opened(tiny, 1).unwrap(), opened(&format!("{tiny}\n[vision]\n{TOWER}"), 1).unwrap());
    for i in 0..text.decoder.layout().specs.len() {
        let old = text.decoder.param_values(i);
        assert_eq!(old[..], seeing.decoder.param_values(i)[..old.len()]);
    }
    assert!(seeing.is_raw());
}

#[test]
fn what_a_new_tower_does_not_go_with_is_named() {
    let refused_by = |policy: Result<Policy, rlvr::Error>, part: &str| {
        let message = policy.unwrap_err().to_string();
        assert!(message.starts_with("policy.vision: ") && message.contains(part), "{message}");
    };
    refused_by(with_tower("models/tiny-qwen2", 1), "family llama");
    refused_by(with_tower("vision/tiny-smolvlm", 1), "take the table away");
    let invalid = |vision: &str, part: &str| {
        let text = format!(
            "name = \"t\"\n[policy.tiny]\ncontext = 64\n{vision}\n[data.d]\nkind = \"shapes\"\n[[stage]]\nkind = \"sft\"\ndata = \"d\"\n"
        );
        let message = RunConfig::parse(&text, Path::new("t.toml"), &[]).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    invalid(
        "[policy.vision]\nimage = 50",
        "t.toml:5: policy.vision.image: is 50 and must be a multiple of patch",
    );
    invalid("[policy.vision]\nheads = 3", "policy.vision.hidden: is 128 and must be a multiple of heads = 3");
    invalid("[policy.vision]\npatch = 0", "policy.vision.patch: must be at least 1");
    invalid("[policy.vision]\nimage = 512", "policy.vision.image: a picture has 1027 tokens");
    invalid("[policy.vision]\nhidden = 100000\nheads = 1", "at most 1073741824");
    invalid("[policy.vision]\n[policy.lora]", "the new tower would stay random");
    invalid("[policy.vision]\nside = 3", "`side`");
    // A policy that does not see is told so by name.
    let source = shapes("");
    let text = Policy::open(golden("models/tiny-llama").to_str().unwrap(), &Device::flex()).unwrap();
    let message = text.prompt_of(source.task(0)).unwrap_err().to_string();
    assert!(message.contains("the policy does not see") && message.contains("[policy.vision]"), "{message}");
}

#[test]
fn a_tower_before_a_frozen_text_resumes_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        r#"
name = "frozen"
device = "cpu"
[policy]
path = {:?}
trainable = ['vision\..*', 'projector\..*']
[policy.vision]
{TOWER}
[data.captions]
kind = "shapes"
questions = ["caption"]
max_objects = 2
size = 24
tasks = 40
[data.questions]
kind = "shapes"
size = 24
tasks = 40
[rewards]
kind = "exact"
[[stage]]
kind = "sft"
data = "captions"
steps = 3
batch = 4
optim = {{ lr = 1e-3 }}
[[stage]]
kind = "grpo"
data = "questions"
steps = 3
prompts_per_step = 4
group_size = 2
sampling = {{ max_tokens = 4 }}
loss = {{ kl_coef = 0.1, kl_place = "reward" }}
optim = {{ lr = 1e-3 }}
[checkpoint]
every = 1
[log]
tensorboard = false
[preflight]
refuse = false
"#,
        golden("models/tiny-llama")
    );
    let config = RunConfig::parse(&text, Path::new("run.toml"), &[]).unwrap();
    let run = |name: &str, stop_after: u64| {
        let out = dir.path().join(name);
        let options = RunOptions { out: Some(out.clone()), resume: out.exists(), ..RunOptions::default() };
        let stop = AtomicBool::new(false);
        let _ = train(&config, &options, &stop, &mut |event: Event| {
            if let Event::Step { row, .. } = event
                && row.step >= stop_after
            {
                stop.store(true, Ordering::Relaxed);
            }
        });
        out
    };
    let whole = run("whole", u64::MAX);
    run("parts", 2);
    run("parts", 4);
    let parts = run("parts", u64::MAX);
    assert_eq!(files(&whole.join("final")), files(&parts.join("final")));
    let begun = dir.path().join("begun");
    Policy::from_config(&config.policy, config.seed, &Device::flex()).unwrap().save(&begun).unwrap();
    let (before, after) =
        (PolicyFiles::open_folder(&begun).unwrap(), PolicyFiles::open_folder(&whole.join("final")).unwrap());
    let mut changed = 0;
    for name in before.weights.names() {
        let same = before.weights.load(&name).unwrap() == after.weights.load(&name).unwrap();
        assert!(same || !name.contains("text_model") && name != "lm_head.weight", "{name}");
        changed += usize::from(!same);
    }
    assert!(changed > 20, "{changed}");
}

#[test]
fn generated_pictures_are_rows_of_a_file_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shapes.jsonl").display().to_string();
    let made = rlvr(&["data", "generate", "shapes", "--count", "6", "--seed", "4", "--out", &file], "");
    assert!(made.status.success(), "{}", stderr(&made));
    let written: Vec<Value> =
        std::fs::read_to_string(&file).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(written[0]["images"][0].as_str().unwrap().starts_with("data:image/png;base64,"));
    let config: DataConfig = toml::from_str(&format!(
        "kind = \"jsonl\"\npath = {file:?}\nimages = \"{{{{ images }}}}\"\ncompletion = \"{{{{ completion }}}}\""
    ))
    .unwrap();
    let read = TaskSource::open("shapes", &config, 4).unwrap();
    let drawn: DataConfig = toml::from_str("kind = \"shapes\"\ntasks = 6").unwrap();
    let drawn = TaskSource::open("shapes", &drawn, 4).unwrap();
    for i in 0..6 {
        let (a, b) = (read.task(i), drawn.task(i));
        assert_eq!((&a.prompt, &a.images, &a.reference), (&b.prompt, &b.images, &b.reference));
        assert_eq!(read.example(i).unwrap().completion, drawn.example(i).unwrap().completion);
    }
    // A model that sees answers them as they are.
    let model = golden("vision/tiny-smolvlm").display().to_string();
    let prompts: Vec<Value> = written.into_iter().take(2).collect();
    let asked = write(dir.path(), "prompts.jsonl", &lines(&prompts));
    let said =
        rows(&rlvr(&["sample", "--policy", &model, "--tasks", &asked, "--max-tokens", "2", "--json"], ""));
    assert_eq!(said.len(), 2);
    refused(&["data", "generate", "shapes", "--set", "size=4"], "", &["size", "16 to 512"]);
}
