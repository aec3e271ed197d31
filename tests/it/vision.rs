//! Policies that see, from rows with pictures to trained weights.
use burn::tensor::Device;
use rlvr::config::{OptimConfig, RunConfig};
use rlvr::data::{DataConfig, TaskSource, placed_images};
use rlvr::generate::{Request, generate};
use rlvr::policies::decoder::{keep_pixels_within, kept_pixels};
use rlvr::policies::vision::Sizes;
use rlvr::policy::Policy;
use rlvr::rewards::{TaskImage, seen_messages};
use rlvr::rollout::{Prompt, SampleKey, SamplingParams};
use rlvr::run::events::Event;
use rlvr::run::{RunOptions, train};
use rlvr::train::learner::Learner;
use rlvr::train::trajectory::Trajectory;
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

const MODELS: [&str; 4] = ["tiny-qwen2_5_vl", "tiny-smolvlm", "tiny-qwen2_vl", "tiny-qwen3_vl"];

fn folder(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/vision").join(model)
}

fn open(model: &str) -> (Policy, Value) {
    let folder = folder(model);
    let policy = Policy::open(folder.to_str().unwrap(), &Device::flex()).unwrap();
    let golden = serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
    (policy, golden)
}

/// The rows of a golden model whose pictures are prepared as its files say.
fn rows(golden: &Value) -> impl Iterator<Item = (usize, &Value)> {
    golden["rows"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
        .filter(|(_, row)| row["do_image_splitting"] != false)
}

#[test]
fn prompts_with_pictures_are_those_of_transformers() {
    for model in MODELS {
        let (policy, golden) = open(model);
        for (i, row) in rows(&golden) {
            let (mut messages, values) = seen_messages(&row["messages"], "messages").unwrap();
            let images = placed_images(&mut messages, &values, &folder(model)).unwrap();
            let prompt = policy.asked(&messages, &images).unwrap();
            let want: Vec<u32> = serde_json::from_value(row["prompt_ids"].clone()).unwrap();
            assert_eq!(prompt.token_ids, want, "{model} row {i}");
            assert_eq!(policy.prompt_tokens(&messages, &images).unwrap(), want.len());
            assert_eq!(prompt.images.len(), row["images"].as_array().unwrap().len());
        }
    }
}

#[test]
fn logprobs_of_rows_with_pictures_are_those_of_transformers() {
    let dir = tempfile::tempdir().unwrap();
    for model in MODELS {
        let (_, golden) = open(model);
        let values = std::fs::read(folder(model).join("golden.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&values).unwrap();
        let (mut text, mut want) = (String::new(), Vec::new());
        for (i, row) in rows(&golden) {
            for (j, completion) in row["completions"].as_array().unwrap().iter().enumerate() {
                let mut messages = row["messages"].clone();
                for part in messages
                    .as_array_mut()
                    .unwrap()
                    .iter_mut()
                    .flat_map(|m| m["content"].as_array_mut().unwrap())
                {
                    if let Some(image) = part.get_mut("image") {
                        *image = json!(folder(model).join(image.as_str().unwrap()));
                    }
                }
                // The end token is not of the text here.
                writeln!(text, "{}", json!({"id": i, "prompt": messages, "completion": completion["text"]}))
                    .unwrap();
                let data = file.tensor(&format!("row{i}.completion{j}.logprobs")).unwrap().data().to_vec();
                want.push(data.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect::<Vec<_>>());
            }
        }
        let path = dir.path().join("rows.jsonl");
        std::fs::write(&path, text).unwrap();
        let out = Command::new(env!("CARGO_BIN_EXE_rlvr"))
            .args(["logprobs", "--policy", folder(model).to_str().unwrap(), path.to_str().unwrap()])
            .env("RLVR_DEVICE", "cpu")
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let lines: Vec<Value> = out
            .stdout
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| serde_json::from_slice(l).unwrap())
            .collect();
        assert_eq!(lines.len(), want.len());
        for (line, want) in lines.iter().zip(&want) {
            let got: Vec<f64> = serde_json::from_value(line["logprobs"].clone()).unwrap();
            assert!(got.len() + 1 >= want.len() && !got.is_empty(), "{line}");
            for (a, b) in got.iter().zip(want) {
                assert!((a - b).abs() < 5e-5, "{model}: {a} {b}");
            }
        }
    }
}

#[test]
fn two_pictures_under_one_question_stay_apart_and_share_a_prefill_with_themselves() {
    let (policy, _) = open("tiny-qwen2_5_vl");
    let picture = |shade: u8| TaskImage::Bytes(bmp(56, &|_, _| [shade, 40, 200 - shade / 2]).into());
    let message = rlvr::rewards::Message { role: "user".into(), content: "<image>Dark?".into() };
    let asked = |shade| policy.asked(std::slice::from_ref(&message), &[picture(shade)]).unwrap();
    let (dark, light) = (asked(10), asked(240));
    assert_eq!(dark.token_ids, light.token_ids);
    assert_ne!(dark.images, light.images);
    let sampling = SamplingParams { max_tokens: 6, ..SamplingParams::default() };
    let sample = |prompts: &[Prompt], key| {
        let request = Request::new(prompts, 3, &sampling, key);
        generate(&policy, &request, None).unwrap()
    };
    let key = SampleKey::new(3, 1);
    let (together, stats) = sample(&[dark.clone(), light.clone(), dark.clone()], key);
    assert_eq!(stats.prompt_tokens, 2 * dark.token_ids.len());
    for (i, prompt) in [&dark, &light, &dark].into_iter().enumerate() {
        let alone = sample(std::slice::from_ref(prompt), SampleKey { first_prompt: i as u64, ..key }).0;
        assert_eq!(alone[0], together[i], "{i}");
    }
    assert_ne!(together[0][0].logprobs, together[1][0].logprobs);
}

#[test]
fn what_does_not_fit_is_named_with_its_row() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.bmp"), bmp(16, &|_, _| [1, 2, 3])).unwrap();
    let read = |row: Value| {
        let path = dir.path().join("rows.jsonl");
        std::fs::write(&path, format!("{row}\n")).unwrap();
        let config: DataConfig =
            toml::from_str(&format!("kind = \"jsonl\"\npath = {path:?}\nimages = \"{{{{ images }}}}\""))
                .unwrap();
        TaskSource::open("d", &config, 0).map(|source| source.task(0).clone())
    };
    let task = read(json!({"prompt": "What?", "images": ["a.bmp", "a.bmp"]})).unwrap();
    assert_eq!(task.prompt[0].content, "<image><image>What?");
    assert_eq!(task.images[0], TaskImage::Path(dir.path().join("a.bmp")));
    let placed =
        read(json!({"prompt": "This <image> or that <image>?", "images": ["a.bmp", "a.bmp"]})).unwrap();
    assert_eq!(placed.prompt[0].content, "This <image> or that <image>?");
    let none = read(json!({"prompt": "No <image> here.", "images": null})).unwrap();
    assert!(none.images.is_empty());
    for (row, part) in [
        (
            json!({"prompt": "One <image>", "images": ["a.bmp", "a.bmp"]}),
            "has 1 places <image>, the row 2 images",
        ),
        (json!({"prompt": "q", "images": "https://x.org/a.png"}), "is not fetched"),
        (json!({"prompt": "q", "images": [3]}), "picture 1: an image is a path"),
    ] {
        let message = read(row).unwrap_err().to_string();
        assert!(message.contains("rows.jsonl:1") && message.contains(part), "{message}");
    }
    let (policy, _) = open("tiny-smolvlm");
    let mut missing = task.clone();
    missing.images[1] = TaskImage::Path(dir.path().join("none.png"));
    assert!(policy.prompt_of(&missing).unwrap_err().to_string().contains("none.png"));
    let mut spelled = task.clone();
    spelled.prompt[0].content.push_str("<|image_pad|>");
    let (qwen, _) = open("tiny-qwen2_5_vl");
    assert!(qwen.prompt_of(&spelled).unwrap_err().to_string().contains("stands for images only"));
    assert!(qwen.completion("a <|image_pad|>").unwrap_err().to_string().contains("writes text only"));
    let few = |model: &str| {
        let path = folder(model).display().to_string();
        let config = toml::from_str(&format!("path = {path:?}\nmax_pixels = 3136")).unwrap();
        Policy::from_config(&config, 1, &Device::flex()).map(|_| ())
    };
    few("tiny-qwen2_5_vl").unwrap();
    assert!(few("tiny-smolvlm").unwrap_err().to_string().contains("policy.max_pixels: this policy cuts"));
    assert!(few("../models/tiny-llama").unwrap_err().to_string().contains("does not see"));
    let text = Policy::open(folder("../models/tiny-llama").to_str().unwrap(), &Device::flex()).unwrap();
    assert!(text.prompt_of(&task).unwrap_err().to_string().contains("does not see"));
}

/// An uncompressed bitmap of a square.
pub(crate) fn bmp(side: usize, colour: &dyn Fn(usize, usize) -> [u8; 3]) -> Vec<u8> {
    assert!(side.is_multiple_of(4));
    let size = 54 + side * side * 3;
    let mut out = b"BM".to_vec();
    for number in [size as u32, 0, 54, 40, side as u32, side as u32] {
        out.extend(number.to_le_bytes());
    }
    out.extend([1, 0, 24, 0]);
    out.extend([0; 24]);
    for y in (0..side).rev() {
        for x in 0..side {
            let [r, g, b] = colour(x, y);
            out.extend([b, g, r]);
        }
    }
    out
}

/// A tiny policy that sees, four tokens a picture and four letters to answer with.
const TINY: &str = r#"
[policy.tiny]
layers = 2
hidden = 64
heads = 4
kv_heads = 4
intermediate = 192
context = 32
alphabet = "rgby?"
[policy.vision]
image = 16
patch = 4
scale = 2
layers = 2
hidden = 32
heads = 4
intermediate = 96
"#;

/// Such a policy as a folder.
pub(crate) fn from_scratch(dir: &Path, seed: u64) {
    let table: toml::Table = TINY.parse().unwrap();
    let config = table["policy"].clone().try_into().unwrap();
    Policy::from_config(&config, seed, &Device::flex()).unwrap().save(dir).unwrap();
}

/// So many of its pictures as rows.
pub(crate) fn squares(path: &Path, count: usize) {
    squares_of(path, &format!("tasks = {count}"));
}

fn squares_of(path: &Path, settings: &str) {
    let config = toml::from_str(&format!("{COLOURS}\n{settings}")).unwrap();
    let source = TaskSource::open("squares", &config, 1).unwrap();
    let mut text = String::new();
    for i in 0..source.len() {
        let (task, answer) = (source.task(i), source.example(i).unwrap().completion);
        writeln!(text, "{}", json!({"id": task.id, "image": task.images[0], "answer": answer})).unwrap();
    }
    std::fs::write(path, text).unwrap();
}

/// A run of such a policy over pictures of one object.
fn config(data: &str, steps: u64, [stage, more]: [&str; 2]) -> RunConfig {
    let text = format!(
        r#"
name = "colours"
seed = 1
device = "cpu"
{TINY}
[data.colours]
{COLOURS}
{data}
[rewards]
kind = "exact"
[[stage]]
kind = "grpo"
data = "colours"
steps = {steps}
prompts_per_step = 16
group_size = 8
micro_batch = 64
sampling = {{ max_tokens = 1 }}
{stage}
[checkpoint]
every = 3
[log]
tensorboard = false
[preflight]
refuse = false
{more}
"#
    );
    RunConfig::parse(&text, Path::new("run.toml"), &[]).unwrap()
}

/// Which colour is it?
const COLOURS: &str = r#"
kind = "shapes"
questions = ["colour"]
letters = true
max_objects = 1
size = 16
prompt = "?"
"#;

const HELD_OUT: &str = "tasks = 140\nsplit = \"heldout\"";

/// Share of right greedy answers to held-out pictures.
fn accuracy(policy: &Policy, more: &str) -> f64 {
    let data = format!("{COLOURS}\n{HELD_OUT}\n{more}");
    let source = TaskSource::open("heldout", &toml::from_str(&data).unwrap(), 1).unwrap();
    let prompts: Vec<Prompt> = (0..source.len()).map(|i| policy.prompt_of(source.task(i)).unwrap()).collect();
    let sampling = SamplingParams { temperature: 0.0, max_tokens: 1, ..SamplingParams::default() };
    let request = Request::new(&prompts, 1, &sampling, SampleKey::new(0, 0));
    let (groups, _) = generate(policy, &request, None).unwrap();
    let right = (0..prompts.len())
        .filter(|i| policy.text(&groups[*i][0].token_ids).unwrap() == source.example(*i).unwrap().completion);
    right.count() as f64 / prompts.len() as f64
}

#[test]
fn a_tiny_policy_learns_to_see_colours() {
    let dir = tempfile::tempdir().unwrap();
    let config = config("tasks = 1200", 150, ["optim = { lr = 2e-3, warmup_steps = 2 }", ""]);
    let out = dir.path().join("run");
    let options = RunOptions { out: Some(out.clone()), ..RunOptions::default() };
    train(&config, &options, &AtomicBool::new(false), &mut |_: Event| {}).unwrap();
    let policy = Policy::open(out.to_str().unwrap(), &Device::flex()).unwrap();
    let (real, blank) = (accuracy(&policy, ""), accuracy(&policy, "blank = true"));
    println!("| real {real:.2} | blank {blank:.2} |");
    assert!(real > 0.9 && blank < 0.4, "{real} {blank}");
    controls_are_below(dir.path(), &out, real);
}

/// An evaluation of held-out squares says that their pictures matter.
fn controls_are_below(dir: &Path, policy: &Path, real: f64) {
    squares_of(&dir.join("held.jsonl"), HELD_OUT);
    let definition = dir.join("held.toml");
    let text = "name = \"held\"\ntitle = \"Squares\"\nlicense = \"MIT\"\nprompt = \"?\"\n[source]\nfile = \"held.jsonl\"\n\
                [fields]\nquestion = \"?\"\nimages = \"{{ image }}\"\nanswer = \"{{ answer }}\"\n[reward]\nkind = \"exact\"\n\
                [generation]\nmax_tokens = 1\n";
    std::fs::write(&definition, text).unwrap();
    let (policy, out) = (policy.to_str().unwrap(), dir.join("measured"));
    let args = ["eval", "run", "--policy", policy, "--tasks", definition.to_str().unwrap(), "--images"];
    let found = Command::new(env!("CARGO_BIN_EXE_rlvr"))
        .args(args)
        .args(["real,blank,shuffled", "--out", out.to_str().unwrap()])
        .env("RLVR_DEVICE", "cpu")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&found.stderr);
    assert!(found.status.success() && !said.contains("is not above"), "{said}");
    let results: Value = serde_json::from_slice(&std::fs::read(out.join("results.json")).unwrap()).unwrap();
    assert!((results["tasks"]["held"]["accuracy"].as_f64().unwrap() - real).abs() < 1e-9);
    for arm in results["image_arms"].as_array().unwrap() {
        let (low, same) = (arm["ci95"][0].as_f64().unwrap(), arm["unchanged"].as_f64().unwrap());
        assert!(low > 0.4 && same < 0.5, "{arm}");
    }
    assert_eq!(results["image_arms"].as_array().unwrap().len(), 2);
}

/// A supervised stage behind the other one.
const LESSONS: &str = "[[stage]]\nkind = \"sft\"\ndata = \"colours\"\nsteps = 4\nbatch = 6\nmicro_batch = 3\noptim = { lr = 1e-3 }\n";

pub(crate) fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_run_with_pictures_that_was_interrupted_resumes_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let reference = "loss = { kl_coef = 0.05 }\nupdates_per_rollout = 2\noptim = { lr = 2e-3 }";
    let groups = r"optim = { lr = 2e-3, groups = [{ params = ['projector\..*'], lr = 1e-2 }] }";
    for (name, stage, frozen) in [("all", reference, false), ("frozen", groups, true)] {
        let mut config = config("tasks = 64", 6, [stage, LESSONS]);
        if frozen {
            config.policy.frozen = vec![r"vision\..*".into(), "embed_tokens".into()];
        }
        let model = dir.path().join("model");
        Policy::from_config(&config.policy, config.seed, &Device::flex()).unwrap().save(&model).unwrap();
        let run = |out: &str, stop_after: Option<u64>| {
            let out = dir.path().join(format!("{name}-{out}"));
            let options =
                RunOptions { out: Some(out.clone()), resume: out.exists(), ..RunOptions::default() };
            let stop = AtomicBool::new(false);
            let _ = train(&config, &options, &stop, &mut |event: Event| {
                if let Event::Step { row, .. } = event
                    && stop_after.is_some_and(|step| row.step >= step)
                {
                    stop.store(true, Ordering::Relaxed);
                }
            });
            out
        };
        let whole = run("whole", None);
        run("parts", Some(2));
        let parts = run("parts", None);
        let (a, b) = (files(&whole.join("final")), files(&parts.join("final")));
        assert!(a.iter().any(|(file, _)| file == "preprocessor_config.json"));
        assert_eq!(a, b, "{name}");
        let before = rlvr::policies::PolicyFiles::open_folder(&model).unwrap();
        let after = rlvr::policies::PolicyFiles::open_folder(&whole.join("final")).unwrap();
        for tensor in before.weights.names() {
            let same = before.weights.load(&tensor).unwrap() == after.weights.load(&tensor).unwrap();
            let kept = frozen && (tensor.contains("vision_model") || tensor.contains("embed_tokens"));
            // The gradient of a bias of keys is rounding noise around 0.
            assert!(same == kept || tensor.ends_with("k_proj.bias"), "{name} {tensor}: {same}");
        }
    }
}

#[test]
fn pictures_beyond_the_bound_are_decoded_again_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let stage = "updates_per_rollout = 2\noptim = { lr = 2e-3 }";
    let run = |out: &str| {
        let config = config("tasks = 40", 3, [stage, LESSONS]);
        let out = dir.path().join(out);
        let options = RunOptions { out: Some(out.clone()), ..RunOptions::default() };
        train(&config, &options, &AtomicBool::new(false), &mut |_: Event| {}).unwrap();
        files(&out.join("final"))
    };
    let all = run("all");
    // Four of the forty pictures.
    let most = 4 * 16 * 16 * 3;
    keep_pixels_within(most);
    let few = run("few");
    let kept = kept_pixels();
    keep_pixels_within(1 << 30);
    assert!(kept <= most, "{kept} bytes of {most}");
    assert_eq!(all, few);
    // What a file has become meanwhile is not taken for what it was.
    let (policy, _) = open("tiny-qwen2_5_vl");
    let file = dir.path().join("picture.bmp");
    let message = rlvr::rewards::Message { role: "user".into(), content: "<image>?".into() };
    let asked = || policy.asked(std::slice::from_ref(&message), &[TaskImage::Path(file.clone())]);
    std::fs::write(&file, bmp(56, &|x, _| [x as u8, 1, 2])).unwrap();
    let first = asked().unwrap();
    std::fs::write(&file, bmp(56, &|x, _| [x as u8, 90, 2])).unwrap();
    assert_eq!(asked().unwrap(), first, "its pixels are at hand");
    keep_pixels_within(0);
    let changed = asked().unwrap_err().to_string();
    std::fs::remove_file(&file).unwrap();
    let gone = asked().unwrap_err().to_string();
    keep_pixels_within(1 << 30);
    assert!(changed.contains("picture.bmp") && changed.contains("has changed since"), "{changed}");
    assert!(gone.contains("picture.bmp cannot be read"), "{gone}");
}

/// Mean negative log-likelihood over all completions of a golden model's rows, and its gradient in the learner.
fn lesson(learner: &mut Learner, policy: &Policy, prompts: &[Prompt], all: &[Trajectory]) -> f64 {
    let count: usize = all.iter().map(|t| t.tokens.len()).sum();
    // Two micro-batches: a picture's tower goes backward once all the same.
    let micro: Vec<_> = all.chunks(all.len().div_ceil(2)).collect();
    learner.begin(&policy.decoder, micro.len());
    let mut loss = 0.0;
    for micro in micro {
        let pass = learner.forward(&policy.decoder, prompts, micro, 1.0);
        let n = pass.targets().logprobs.len();
        loss -= pass.targets().logprobs.iter().map(|l| f64::from(*l)).sum::<f64>() / count as f64;
        learner.backward(pass, vec![-1.0 / count as f32; n].into());
    }
    loss
}

#[test]
fn stages_with_rates_by_part_take_pytorchs_steps() {
    for model in ["tiny-qwen2_5_vl", "tiny-smolvlm"] {
        let (_, golden) = open(model);
        for stage in golden["stages"].as_array().unwrap() {
            let rate = |part: &str| stage["lr"][part].as_f64().unwrap();
            let number = |key: &str| stage[key].as_f64().unwrap();
            let frozen = rate("text") == 0.0;
            let trainable = if frozen { "trainable = ['vision\\..*', 'projector\\..*']" } else { "" };
            let policy = format!("path = {:?}\n{trainable}", folder(model));
            let mut policy =
                Policy::from_config(&toml::from_str(&policy).unwrap(), 0, &Device::flex()).unwrap();
            let optim: OptimConfig = toml::from_str(&format!(
                "lr = {}\nbetas = [0.9, 0.99]\nweight_decay = {}\nmax_grad_norm = {}\n\
                 groups = [{{ params = ['vision\\..*'], lr = {} }}, {{ params = ['projector\\..*'], lr = {} }}]",
                if frozen { 1.0 } else { rate("text") },
                number("weight_decay"),
                number("clip"),
                rate("vision"),
                rate("projector"),
            ))
            .unwrap();
            let (mut prompts, mut all) = (Vec::new(), Vec::new());
            for row in golden["rows"].as_array().unwrap() {
                let prompt = golden_prompt(&policy, model, row);
                for (j, completion) in row["completions"].as_array().unwrap().iter().enumerate() {
                    let ids = serde_json::from_value(completion["ids"].clone()).unwrap();
                    all.push(Trajectory::completion(prompts.len(), j, ids));
                }
                prompts.push(prompt);
            }
            let losses: Vec<f64> = serde_json::from_value(stage["losses"].clone()).unwrap();
            let norms: Vec<f64> =
                serde_json::from_value(stage["grad_norms_before_clipping"].clone()).unwrap();
            let mut learner = Learner::new(&optim, norms.len() as u64, &policy.decoder);
            for (i, want) in losses.iter().enumerate() {
                let loss = lesson(&mut learner, &policy, &prompts, &all);
                println!("| {model} | {} | step {i} | {:.1e} |", stage["name"], (loss - want).abs());
                assert!((loss - want).abs() < 1e-4, "{model} step {i}: {loss} {want}");
                let Some(norm) = norms.get(i) else { continue };
                let got = learner.apply(&mut policy.decoder, optim.lr).unwrap();
                assert!((got - norm).abs() < 1e-3 * norm, "{model} step {i}: {got} {norm}");
            }
        }
    }
}

/// The prompt of a row, whatever its pictures are cut into.
fn golden_prompt(policy: &Policy, model: &str, row: &Value) -> Prompt {
    let images = row["images"].as_array().unwrap().iter().map(|name| {
        let name = name.as_str().unwrap();
        let (file, whole) = name.strip_suffix(":whole").map_or((name, false), |file| (file, true));
        let mut processor = policy.decoder.processor().unwrap().clone();
        if let Sizes::Tiles { split, .. } = &mut processor.sizes {
            *split &= !whole;
        }
        let bytes = std::fs::read(folder(model).join("images").join(file)).unwrap();
        policy.decoder.show(processor.open(&bytes).unwrap())
    });
    Prompt { images: images.collect(), token_ids: serde_json::from_value(row["prompt_ids"].clone()).unwrap() }
}
