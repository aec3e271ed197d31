//! A run that was interrupted or killed, and resumed, equals one that was not, byte for byte.
use burn::tensor::Device;
use rlvr::Error;
use rlvr::config::RunConfig;
use rlvr::metrics::is_timing;
use rlvr::policy::Policy;
use rlvr::random::unit;
use rlvr::run::events::{Event, Report};
use rlvr::run::{RunOptions, train};
use safetensors::SafeTensors;
use serde_json::{Map, Value};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Two stages, several updates a rollout, a KL term, evaluations, a schedule: everything that has a state.
const CONFIG: &str = r#"
name = "resumed"
seed = 5
device = "cpu"
[policy.tiny]
layers = 1
hidden = 32
heads = 2
kv_heads = 1
intermediate = 32
context = 16
alphabet = "0123456789+= "
[data.sums]
kind = "addition"
tasks = 50
[data.heldout]
kind = "addition"
split = "heldout"
tasks = 8
[rewards]
kind = "sum"
[[rewards.terms]]
reward = { kind = "exact" }
[[rewards.terms]]
reward = { kind = "length", max = 3, soft = 2, unit = "chars" }
[[stage]]
kind = "sft"
data = "sums"
steps = 4
[stage.optim]
lr = 1e-2
[[stage]]
kind = "grpo"
data = "sums"
steps = 6
prompts_per_step = 6
group_size = 4
updates_per_rollout = 2
sampling = { max_tokens = 4 }
loss = { kl_coef = 0.05 }
optim = { lr = 1e-2, schedule = "linear", warmup_steps = 2 }
[eval]
data = "heldout"
every = 4
[checkpoint]
every = 2
keep_best = "eval/heldout/reward_mean"
[log]
tensorboard = false
rollouts_frac = 0.7
[preflight]
refuse = false
"#;

const STEPS: u64 = 10;

/// Runs into `out`, stopping after step `stop_after`; what the run noted, and how it ended.
fn run(out: &Path, sets: &[&str], stop_after: Option<u64>) -> (Vec<String>, Result<Report, Error>) {
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    let config = RunConfig::parse(CONFIG, Path::new("resumed.toml"), &sets).unwrap();
    let options = RunOptions { out: Some(out.to_path_buf()), resume: out.exists(), ..RunOptions::default() };
    let stop = AtomicBool::new(false);
    let mut notes = Vec::new();
    let outcome = train(&config, &options, &stop, &mut |event: Event| match event {
        Event::Step { row, .. } if stop_after.is_some_and(|step| row.step >= step) => {
            stop.store(true, Ordering::Relaxed);
        }
        Event::Note(note) => notes.push(note.to_owned()),
        _ => {}
    });
    (notes, outcome)
}

/// The rows of `metrics.jsonl` without what describes the machine.
fn metrics(run: &Path) -> Vec<Map<String, Value>> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let row = |line: &str| -> Map<String, Value> {
        let row: Map<String, Value> = serde_json::from_str(line).unwrap();
        row.into_iter().filter(|(name, _)| !is_timing(name)).collect()
    };
    text.lines().map(row).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

/// Compares everything that two runs leave, the older checkpoints apart.
fn assert_same(whole: &Path, resumed: &Path, what: &str) {
    let same = |file: PathBuf| fs::read(whole.join(&file)).unwrap() == fs::read(resumed.join(&file)).unwrap();
    assert_eq!(metrics(whole), metrics(resumed), "{what}");
    assert!(same("rollouts.jsonl".into()), "{what}: rollouts.jsonl");
    assert_eq!(names(&whole.join("final")), names(&resumed.join("final")), "{what}");
    for file in names(&whole.join("final")) {
        assert!(same(Path::new("final").join(&file)), "{what}: final/{file}");
    }
    let last = |run: &Path| names(&run.join("checkpoints")).pop().unwrap();
    assert_eq!(last(whole), last(resumed), "{what}");
    let adapter = whole.join("final/adapter_model.safetensors").exists();
    let weights = if adapter { "adapter_model.safetensors" } else { "model.safetensors" };
    for file in [weights, "optimizer.safetensors", "reference.safetensors", "state.json"] {
        assert!(same(Path::new("checkpoints").join(last(whole)).join(file)), "{what}: checkpoint {file}");
    }
    if whole.join("final_ema").exists() {
        for file in names(&whole.join("final_ema")) {
            assert!(same(Path::new("final_ema").join(&file)), "{what}: final_ema/{file}");
        }
        let average = Path::new("checkpoints").join(last(whole)).join("average.safetensors");
        assert!(same(average), "{what}: average");
    }
    let meta: Value = serde_json::from_slice(&fs::read(resumed.join("meta.json")).unwrap()).unwrap();
    assert_eq!((&meta["status"], &meta["error"]), (&"finished".into(), &Value::Null), "{what}");
}

#[test]
fn interrupted_after_any_step() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let evals = run(&whole, &[], None).1.unwrap().evals;
    assert_eq!(metrics(&whole).last().unwrap()["step"], STEPS);
    for step in 1..=STEPS {
        let out = dir.path().join(format!("after-{step}"));
        let first = run(&out, &[], Some(step)).1;
        // After the last step there is nothing left to interrupt.
        assert_eq!(first.is_ok(), step == STEPS, "{first:?}");
        if let Err(error) = first {
            assert!(matches!(error, Error::Interrupted), "{error}");
            assert!(!out.join("final").exists());
        }
        let report = run(&out, &[], None).1.unwrap();
        assert_eq!((report.steps, &report.evals), (STEPS, &evals));
        assert_same(&whole, &out, &format!("stopped after {step}"));
    }
    let out = dir.path().join("after-each");
    for step in 1..STEPS {
        assert!(matches!(run(&out, &[], Some(step)).1, Err(Error::Interrupted)));
    }
    run(&out, &[], None).1.unwrap();
    assert_same(&whole, &out, "stopped after each step");
}

/// Runs with further settings equal themselves, stopped after some of their steps.
fn resumes_exactly(sets: &[&str], after: &[u64]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    run(&whole, sets, None).1.unwrap();
    for step in after {
        let out = dir.path().join(format!("after-{step}"));
        assert_eq!(run(&out, sets, Some(*step)).1.is_ok(), *step == STEPS);
        run(&out, sets, None).1.unwrap();
        assert_same(&whole, &out, &format!("{sets:?}, stopped after {step}"));
    }
    dir
}

#[test]
fn interrupted_with_chosen_tokens() {
    let sets = ["stage.grpo.loss.top_entropy_frac=0.4", "stage.grpo.minibatches=2"];
    let dir = resumes_exactly(&sets, &[5, 8]);
    let rows = metrics(&dir.path().join("whole"));
    assert!(rows.iter().any(|row| row.contains_key("policy/entropy_threshold")));
}

#[test]
fn interrupted_while_the_weight_of_the_penalty_follows_a_target() {
    let sets = ["stage.grpo.loss.kl_target=0.001", "stage.grpo.loss.kl_horizon=50"];
    let dir = resumes_exactly(&sets, &[3, 5, 6, 9, 10]);
    let rows = metrics(&dir.path().join("whole"));
    let coefs: Vec<f64> = rows.iter().filter_map(|row| row.get("policy/kl_coef")?.as_f64()).collect();
    assert!(coefs.len() == 6 && coefs[0] == 0.05 && coefs[5] != 0.05, "{coefs:?}");
}

#[test]
fn interrupted_with_a_reference_that_moves() {
    resumes_exactly(&["stage.grpo.reference_ema=0.3", "stage.grpo.reference_every=2"], &[4, 5, 6, 7, 9]);
    let adapter = "policy.lora={ rank = 2, alpha = 4 }";
    resumes_exactly(&["stage.grpo.reference_every=2", adapter], &[5, 6, 9]);
    resumes_exactly(
        &["stage.grpo.reference_every=3", "stage.grpo.reference=\"run_start\"", adapter],
        &[5, 8],
    );
}

#[test]
fn interrupted_with_an_average_of_the_weights() {
    let sets = ["stage.grpo.policy_ema=0.8"];
    let dir = resumes_exactly(&sets, &[4, 5, 7, 10]);
    let whole = dir.path().join("whole");
    let row = metrics(&whole).pop().unwrap();
    assert!(
        row.contains_key("eval/heldout/ema/greedy") && row.contains_key("eval/heldout/greedy"),
        "{row:?}"
    );
    let weights = |folder: &str| fs::read(whole.join(folder).join("model.safetensors")).unwrap();
    assert_ne!(weights("final"), weights("final_ema"));
    // It opens like any policy, and its checkpoint gives it again.
    Policy::open(&whole.join("final_ema").to_string_lossy(), &Device::flex()).unwrap();
    let kept = weights("final_ema");
    for folder in ["final", "final_ema"] {
        fs::remove_dir_all(whole.join(folder)).unwrap();
    }
    run(&whole, &sets, None).1.unwrap();
    assert_eq!(weights("final_ema"), kept);
    resumes_exactly(&[sets[0], "policy.lora={ rank = 2, alpha = 4 }"], &[6]);
}

#[test]
fn interrupted_over_a_narrow_base() {
    for kind in ["bf16", "int8"] {
        let kind = format!("policy.base_dtype={kind:?}");
        resumes_exactly(&["policy.lora={ rank = 2, alpha = 4 }", &kind], &[6]);
    }
}

#[test]
fn interrupted_with_shuffled_minibatches() {
    let sets = ["stage.grpo.shuffle_minibatches=true", "stage.grpo.minibatches=3"];
    resumes_exactly(&sets, &[6, 9]);
}

/// A new adapter over a policy from nothing, whose base is kept beside the checkpoints.
#[test]
fn interrupted_with_an_adapter() {
    let dir = tempfile::tempdir().unwrap();
    let sets = ["policy.lora={ rank = 2, alpha = 4 }"];
    let whole = dir.path().join("whole");
    run(&whole, &sets, None).1.unwrap();
    for step in [2, 3, 5, 8] {
        let out = dir.path().join(format!("after-{step}"));
        assert!(matches!(run(&out, &sets, Some(step)).1, Err(Error::Interrupted)));
        run(&out, &sets, None).1.unwrap();
        assert_same(&whole, &out, &format!("stopped after {step}"));
    }
    // Only the adapter is in a checkpoint, and has moments.
    let file = |name: &str| fs::read(whole.join("checkpoints/step-000010").join(name)).unwrap();
    let adapter = file("adapter_model.safetensors");
    let count = SafeTensors::deserialize(&adapter).unwrap().names().len();
    assert_eq!(count, 2 * 7);
    let moments = file("optimizer.safetensors");
    let moments = SafeTensors::deserialize(&moments).unwrap();
    assert!(moments.names().iter().all(|name| name.contains(".lora_")), "{:?}", moments.names());
    assert!(!whole.join("checkpoints/step-000010/model.safetensors").exists());
    // Merged, it gives the same log-probabilities.
    let merged = dir.path().join("merged");
    run(&merged, &[sets[0], "policy.lora.save=\"merged\""], None).1.unwrap();
    let open = |run: &Path| Policy::open(&run.to_string_lossy(), &Device::flex()).unwrap().decoder;
    let (apart, merged) = (open(&whole), open(&merged));
    assert!(apart.lora().is_some() && merged.lora().is_none());
    let (a, b) = (apart.logits(&[3, 5, 11]), merged.logits(&[3, 5, 11]));
    let off = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 1e-5, "{off}");
    assert_ne!(a, apart.without_lora().logits(&[3, 5, 11]));
}

/// Frozen parts, groups with a warm-up, and every optimizer, with sizes at which moments are kept in 8 bits.
#[test]
fn interrupted_with_frozen_parts_groups_and_every_optimizer() {
    let groups =
        "stage.grpo.optim.groups=[{ params = [\"norm\", \".*layernorm\"], lr = 1e-3, warmup_steps = 4 }]";
    let frozen = "policy.frozen=[\"embed_tokens\", \"k_proj\"]";
    let sizes = ["policy.tiny.hidden=64", "policy.tiny.intermediate=64", "policy.tiny.layers=2"];
    for (kind, tensors) in [("adamw", "m."), ("adamw_8bit", "m_largest."), ("muon", "momentum.")] {
        let dir = tempfile::tempdir().unwrap();
        let kinds = [format!("stage.sft.optim.kind={kind}"), format!("stage.grpo.optim.kind={kind}")];
        let mut sets = vec![groups, frozen, &kinds[0], &kinds[1]];
        sets.extend(sizes);
        let whole = dir.path().join("whole");
        run(&whole, &sets, None).1.unwrap();
        for step in [2, 5, 7] {
            let out = dir.path().join(format!("after-{step}"));
            assert!(matches!(run(&out, &sets, Some(step)).1, Err(Error::Interrupted)));
            run(&out, &sets, None).1.unwrap();
            assert_same(&whole, &out, &format!("{kind}, stopped after {step}"));
        }
        let state = fs::read(whole.join("checkpoints/step-000010/optimizer.safetensors")).unwrap();
        let state = SafeTensors::deserialize(&state).unwrap();
        let names = state.names();
        assert!(names.iter().any(|name| name.starts_with(tensors)), "{names:?}");
        assert!(!names.iter().any(|name| name.contains("embed") || name.contains("k_proj")), "{names:?}");
        // What is frozen is as it was.
        let open = |run: &Path| Policy::open(&run.to_string_lossy(), &Device::flex()).unwrap().decoder;
        let texts: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
        let config = RunConfig::parse(CONFIG, Path::new("resumed.toml"), &texts).unwrap();
        let first = Policy::from_config(&config.policy, config.seed, &Device::flex()).unwrap().decoder;
        let (early, late) = (first, open(&whole));
        let differ: Vec<bool> =
            (0..late.params().len()).map(|i| early.param_values(i) != late.param_values(i)).collect();
        assert!(!differ[0] && differ.iter().filter(|d| **d).count() > 6, "{differ:?}");
    }
}

#[test]
fn damaged_and_half_written_checkpoints_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let sets = ["checkpoint.every=1"];
    run(&whole, &sets, None).1.unwrap();
    for file in ["model.safetensors", "optimizer.safetensors", "reference.safetensors", "state.json"] {
        let out = dir.path().join(file);
        assert!(run(&out, &sets, Some(7)).1.is_err());
        let damaged = out.join("checkpoints/step-000007").join(file);
        let bytes = fs::read(&damaged).unwrap();
        fs::write(&damaged, &bytes[..bytes.len() / 2]).unwrap();
        let half = out.join("checkpoints/.tmp-step-000008");
        fs::create_dir(&half).unwrap();
        fs::write(half.join("model.safetensors"), &bytes[..bytes.len() / 3]).unwrap();
        let (notes, outcome) = run(&out, &sets, None);
        outcome.unwrap();
        for parts in [["step-000007", "step-000006 instead"], [".tmp-step-000008", "removed"]] {
            assert!(notes.iter().any(|n| parts.iter().all(|p| n.contains(p))), "{parts:?}: {notes:?}");
        }
        fs::remove_dir_all(out.join("checkpoints/damaged-step-000007")).unwrap();
        assert_same(&whole, &out, file);
    }
}

/// `rlvr train CONFIG --out OUT`, going on with what OUT holds; messages are appended to `log`.
fn start(config: &Path, out: &Path, log: &Path) -> Child {
    let log = File::options().create(true).append(true).open(log).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rlvr"));
    command.arg("train").arg(config).arg("--out").arg(out);
    if out.join("config.toml").exists() {
        command.arg("--resume");
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// Kills at least this many processes, or `RLVR_KILLS`, and stops killing a run after [`MOST_KILLS`].
const LEAST_KILLS: u64 = 6;
const MOST_KILLS: u64 = 12;

#[test]
fn killed_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let (config, log) = (dir.path().join("config.toml"), dir.path().join("log"));
    let text = CONFIG.replace("steps = 4", "steps = 60").replace("steps = 6\n", "steps = 200\n");
    fs::write(&config, text.replace("tensorboard = false", "tensorboard = true")).unwrap();
    let whole = dir.path().join("whole");
    let clock = Instant::now();
    assert!(start(&config, &whole, &log).wait().unwrap().success());
    let duration = clock.elapsed();
    let asked = std::env::var("RLVR_KILLS").ok().and_then(|text| text.parse().ok());
    let (least, mut kills) = (asked.unwrap_or(LEAST_KILLS), 0);
    for round in 0.. {
        let out = dir.path().join(format!("killed-{round}"));
        for attempt in 0.. {
            let mut child = start(&config, &out, &log);
            if attempt < MOST_KILLS {
                // Now and then before the first step, now and then well into the run.
                let share = unit(&[1, round, attempt]);
                std::thread::sleep(duration.mul_f64(0.3 * share * share) + Duration::from_millis(2));
                child.kill().unwrap();
            }
            let status = child.wait().unwrap();
            if status.success() {
                break;
            }
            assert_eq!(status.code(), None, "{}", fs::read_to_string(&log).unwrap());
            kills += 1;
        }
        assert_same(&whole, &out, &format!("round {round}"));
        if kills >= least {
            println!("{kills} kills, {} runs with equal bytes", round + 1);
            break;
        }
    }
}

#[test]
fn killed_before_the_first_checkpoint_at_any_file() {
    // Whatever a run has written when it dies early, the same command or --resume goes on.
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    run(&whole, &[], None).1.unwrap();
    let config = dir.path().join("config.toml");
    fs::write(&config, CONFIG).unwrap();
    let log = dir.path().join("log");
    for (i, files) in
        [&[".lock"][..], &[".lock", ".tmp-config.toml"], &[".lock", "config.toml"]].iter().enumerate()
    {
        let out = dir.path().join(format!("early-{i}"));
        fs::create_dir(&out).unwrap();
        for file in *files {
            let content = if *file == "config.toml" { fs::read(whole.join(file)).unwrap() } else { vec![] };
            fs::write(out.join(file), content).unwrap();
        }
        assert!(
            start(&config, &out, &log).wait().unwrap().success(),
            "{}",
            fs::read_to_string(&log).unwrap()
        );
        assert_same(&whole, &out, &format!("{files:?}"));
    }
}

#[test]
fn what_cannot_be_written_is_an_error_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let (config, log) = (dir.path().join("config.toml"), dir.path().join("log"));
    fs::write(&config, CONFIG).unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "mine").unwrap();
    for (out, expected) in [(file.join("run"), 1), (file.clone(), 2)] {
        let code = start(&config, &out, &log).wait().unwrap().code();
        let message = fs::read_to_string(&log).unwrap();
        assert_eq!(code, Some(expected), "{message}");
        assert!(message.contains(&out.display().to_string()), "{message}");
        fs::remove_file(&log).unwrap();
    }
    assert_eq!(fs::read(&file).unwrap(), b"mine");
}

/// On disks of our own that end at the records, the weights and the optimizer's state. Needs a user who may mount one.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (config, disk) = (dir.path().join("config.toml"), dir.path().join("disk"));
    fs::write(&config, CONFIG).unwrap();
    fs::create_dir(&disk).unwrap();
    for size in ["16k", "32k", "64k"] {
        let script = format!(
            "mount -t tmpfs -o size={size} none \"$1\" && echo mounted && exec \"$2\" train \"$3\" --out \"$1/run\""
        );
        let mut command = Command::new("unshare");
        command
            .args(["-rm", "sh", "-c", &script, "sh"])
            .arg(&disk)
            .arg(env!("CARGO_BIN_EXE_rlvr"))
            .arg(&config);
        let Ok(done) = command.output() else { return };
        if !done.stdout.starts_with(b"mounted") {
            return;
        }
        let message = String::from_utf8_lossy(&done.stderr).into_owned();
        let error = message.lines().last().unwrap_or_default();
        assert_eq!(done.status.code(), Some(1), "{size}: {message}");
        assert!(error.contains(&disk.join("run").display().to_string()), "{size}: {message}");
        assert!(error.contains("No space left on device"), "{size}: {message}");
    }
}

#[test]
fn records_that_vanish_are_written_again_or_named() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    run(&whole, &[], None).1.unwrap();
    // While the run goes on.
    let out = dir.path().join("running");
    let config = RunConfig::parse(CONFIG, Path::new("resumed.toml"), &[]).unwrap();
    let options = RunOptions { out: Some(out.clone()), ..RunOptions::default() };
    let mut removed = 0;
    train(&config, &options, &AtomicBool::new(false), &mut |event: Event| {
        if let Event::Step { row, .. } = event
            && [3, 7].contains(&row.step)
        {
            for file in ["metrics.jsonl", "rollouts.jsonl"] {
                removed += usize::from(fs::remove_file(out.join(file)).is_ok());
            }
        }
    })
    .unwrap();
    assert!(removed >= 2, "{removed}");
    assert_same(&whole, &out, "removed while running");
    // Before it goes on: the rest is trained and recorded, and what is lost is said.
    let (text, log) = (dir.path().join("config.toml"), dir.path().join("log"));
    fs::write(&text, CONFIG).unwrap();
    let out = dir.path().join("resumed");
    assert!(matches!(run(&out, &[], Some(5)).1, Err(Error::Interrupted)));
    fs::remove_file(out.join("metrics.jsonl")).unwrap();
    fs::remove_file(&log).ok();
    assert!(start(&text, &out, &log).wait().unwrap().success());
    assert!(fs::read_to_string(&log).unwrap().contains("metrics.jsonl is missing"));
    let steps: Vec<u64> = metrics(&out).iter().map(|row| row["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [6, 7, 8, 9, 10]);
    let policy = "final/model.safetensors";
    assert!(fs::read(whole.join(policy)).unwrap() == fs::read(out.join(policy)).unwrap());
}

/// What a command says that must end soon.
#[cfg(unix)]
fn ends(command: &mut Command) -> (Option<i32>, String) {
    use std::io::Read;
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let clock = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if clock.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("{command:?} does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code(), said)
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_in_a_run_is_refused_and_nothing_is_written() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let (config, out) = (dir.path().join("resumed.toml"), dir.path().join("run"));
    fs::write(&config, CONFIG).unwrap();
    assert!(run(&out, &[], Some(7)).1.is_err());
    let checkpoint = "checkpoints/step-000007";
    let records = ["config.toml", "meta.json", "metrics.jsonl", "rollouts.jsonl", ".lock"];
    let deeper = [
        format!("{checkpoint}/state.json"),
        format!("{checkpoint}/model.safetensors"),
        "eval/heldout.toml".into(),
    ];
    let target = dir.path().join("target");
    let rlvr = || Command::new(env!("CARGO_BIN_EXE_rlvr"));
    for file in records.iter().map(|name| (*name).to_owned()).chain(deeper) {
        let path = out.join(&file);
        let kept = fs::read(&path).unwrap();
        for link in [true, false] {
            fs::remove_file(&path).unwrap();
            if link {
                fs::write(&target, &kept).unwrap();
                symlink(&target, &path).unwrap();
            } else {
                assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
            }
            let before = names(&out);
            let what = if link { "symbolic link" } else { "not a regular file" };
            let mut commands = vec![(rlvr(), vec!["train", config.to_str().unwrap(), "--resume", "--out"])];
            if records.contains(&file.as_str()) && file != ".lock" {
                commands.push((rlvr(), vec!["report"]));
            }
            for (mut command, args) in commands {
                let (code, said) = ends(command.args(args).arg(&out));
                let named = said.contains(what) && said.contains(path.to_str().unwrap());
                assert!(code == Some(2) && named, "{file}, {what}: {code:?} {said}");
            }
            assert_eq!(names(&out), before, "{file}");
            if link {
                assert_eq!(fs::read(&target).unwrap(), kept, "{file}");
            }
            fs::remove_file(&path).unwrap();
            fs::write(&path, &kept).unwrap();
        }
    }
    // The run's own config as the one that is named.
    let own = out.join("config.toml");
    let kept = fs::read(&own).unwrap();
    fs::remove_file(&own).unwrap();
    assert!(Command::new("mkfifo").arg(&own).status().unwrap().success());
    let (code, said) = ends(rlvr().arg("train").arg(&own).arg("--resume"));
    assert!(code == Some(2) && said.contains("not a regular file"), "{said}");
    fs::remove_file(&own).unwrap();
    fs::write(&own, &kept).unwrap();
    // A directory that leads out of the run.
    fs::rename(out.join("checkpoints"), dir.path().join("elsewhere")).unwrap();
    symlink(dir.path().join("elsewhere"), out.join("checkpoints")).unwrap();
    let (code, said) = ends(rlvr().args(["train", config.to_str().unwrap(), "--resume", "--out"]).arg(&out));
    assert!(code == Some(2) && said.contains("checkpoints"), "{said}");
    fs::remove_file(out.join("checkpoints")).unwrap();
    fs::rename(dir.path().join("elsewhere"), out.join("checkpoints")).unwrap();
    run(&out, &[], None).1.unwrap();
}

#[test]
fn data_that_has_changed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, out) = (dir.path().join("sums.jsonl"), dir.path().join("run"));
    let row = |a: u32, b: u32| format!("{{\"q\": \"{a}+{b}=\", \"a\": \"{}\"}}\n", a + b);
    let text = (0..6).map(|i| row(i, 3)).collect::<String>();
    fs::write(&rows, &text).unwrap();
    let data = format!(
        "data.sums={{ kind = \"jsonl\", path = {rows:?}, prompt = \"{{{{ q }}}}\", completion = \"{{{{ a }}}}\", reference = {{ answer = \"{{{{ a }}}}\" }} }}"
    );
    let sets = [data.as_str()];
    assert!(matches!(run(&out, &sets, Some(3)).1, Err(Error::Interrupted)));
    let before = fs::read(out.join("meta.json")).unwrap();
    let changes = [text.replace("3+3=", "3+4="), text.replace("\"6\"", "\"7\""), text.clone() + &row(8, 1)];
    for (changed, now) in changes.into_iter().zip([6, 6, 7]) {
        fs::write(&rows, changed).unwrap();
        let error = run(&out, &sets, None).1.unwrap_err();
        let said = error.to_string();
        assert!(said.contains(&format!("data.sums: 6 rows then, {now} now")), "{said}");
        assert_eq!((error.exit_code(), fs::read(out.join("meta.json")).unwrap() == before), (2, true));
    }
    // As it was.
    fs::write(&rows, &text).unwrap();
    run(&out, &sets, None).1.unwrap();
    let meta: Value = serde_json::from_slice(&fs::read(out.join("meta.json")).unwrap()).unwrap();
    assert_eq!(
        (&meta["data"]["data.sums"]["rows"], &meta["data"]["data.heldout"]["rows"]),
        (&6.into(), &8.into())
    );
}
