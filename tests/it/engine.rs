//! Servers that sample for a run: a run with them, what they get wrong, and commands.
use crate::cli::{rlvr, rows, stderr, write};
use crate::fake_server::{FakeServer, Fault, KEY};
use burn::tensor::Device;
use rlvr::Error;
use rlvr::config::RunConfig;
use rlvr::policies::SaveDtype;
use rlvr::policy::Policy;
use rlvr::run::events::{Event, Report};
use rlvr::run::{RunOptions, train};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

const CONFIG: &str = r#"
name = "served"
seed = 5
device = "cpu"
[policy]
path = "POLICY"
LORA
[engine]
url = "URL"
sync = "SYNC"
timeout_s = 20
tries = 3
[data.sums]
kind = "addition"
tasks = 50
[rewards]
kind = "length"
max = 5
soft = 4
unit = "chars"
[[stage]]
kind = "grpo"
data = "sums"
steps = 3
prompts_per_step = 4
group_size = 4
sampling = { max_tokens = 5 }
optim = { lr = 1e-2 }
[checkpoint]
every = 1
[log]
tensorboard = false
[preflight]
refuse = false
"#;

/// A tiny policy in a folder, with a head of its own.
fn folder(dir: &Path) -> PathBuf {
    let config = rlvr::config::TinyConfig {
        layers: 1,
        hidden: 32,
        heads: 2,
        kv_heads: 1,
        intermediate: 32,
        context: 16,
        alphabet: "0123456789+= ".into(),
    };
    let policy = Policy::tiny(&config, 3, &Device::flex()).unwrap();
    let path = dir.join("policy");
    policy.saved().save_untied(&path, SaveDtype::F32).unwrap();
    path
}

struct Case {
    dir: tempfile::TempDir,
    server: FakeServer,
    policy: PathBuf,
}

impl Case {
    fn new(fault: Fault) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let policy = folder(dir.path());
        Self { server: FakeServer::start(&policy, fault), dir, policy }
    }

    fn text(&self, sync: &str) -> String {
        let lora = if sync == "adapter" { "[policy.lora]\nrank = 4\nalpha = 8" } else { "" };
        CONFIG
            .replace("POLICY", &self.policy.display().to_string())
            .replace("LORA", lora)
            .replace("URL", &self.server.url)
            .replace("SYNC", sync)
    }

    fn config(&self, sync: &str, sets: &[&str]) -> RunConfig {
        let text = self.text(sync);
        let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
        RunConfig::parse(&text, Path::new("served.toml"), &sets).unwrap()
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    fn run(&self, sync: &str, sets: &[&str]) -> (Vec<String>, Result<Report, Error>) {
        let config = self.config(sync, sets);
        let options =
            RunOptions { out: Some(self.out()), resume: self.out().exists(), ..RunOptions::default() };
        let mut notes = Vec::new();
        let outcome = train(&config, &options, &AtomicBool::new(false), &mut |event: Event| {
            if let Event::Note(note) = event {
                notes.push(note.to_owned());
            }
        });
        (notes, outcome)
    }

    fn rows(&self, file: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.out().join(file)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Fails a run, with all of these in its message.
    fn fails(&self, sync: &str, exit_code: u8, parts: &[&str]) {
        let error = self.run(sync, &[]).1.unwrap_err();
        let message = error.to_string();
        assert_eq!(error.exit_code(), exit_code, "{message}");
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
        assert!(!message.contains('\n'), "{message}");
    }
}

/// Trains an adapter with the engine of a config's part.
pub(crate) fn runs_with(block: &str) {
    let case = Case::new(Fault::None);
    let text = case.text("adapter");
    let (start, rest) = (text.find("[engine]").unwrap(), text.find("[data.sums]").unwrap());
    let block = block.replace("http://localhost:8000", &case.server.url);
    let text = format!("{}{block}{}", &text[..start], &text[rest..]);
    let config = RunConfig::parse(&text, Path::new("readme.toml"), &[]).unwrap();
    let options = RunOptions { out: Some(case.out()), ..RunOptions::default() };
    train(&config, &options, &AtomicBool::new(false), &mut |_: Event| {}).unwrap();
    assert_eq!(case.rows("rollouts.jsonl").len(), 3 * 16);
}

#[test]
fn a_run_samples_from_each_version_that_it_hands_over() {
    for (sync, fault) in [
        ("folder", Fault::None),
        ("folder", Fault::OnCpu),
        ("folder", Fault::Closed),
        ("adapter", Fault::None),
    ] {
        let case = Case::new(fault);
        let (notes, outcome) = case.run(sync, &[]);
        let report = outcome.unwrap();
        assert_eq!(report.steps, 3);
        assert!(notes.iter().any(|n| n.contains("samples from the policy")), "{notes:?}");
        for row in case.rows("metrics.jsonl").iter().filter(|row| row["step"] != 0) {
            assert!(row["policy/mismatch_max"].as_f64().unwrap() < 1e-3, "{sync}: {row}");
        }
        let rollouts = case.rows("rollouts.jsonl");
        assert_eq!(rollouts.len(), 3 * 16);
        for row in &rollouts {
            assert_eq!(row["policy_version"], row["step"].as_u64().unwrap() - 1, "{row}");
            let count = |field: &str| row[field].as_array().unwrap().len();
            assert_eq!(count("completion_tokens"), count("logprobs"));
        }
        let state = case.server.state();
        let count = |path: &str| state.asked.iter().filter(|asked| *asked == path).count();
        // The policy, a noisy copy, the policy again, and before the first step nothing more: its weights are there.
        let handed = if sync == "folder" { "/collective_rpc" } else { "/v1/load_lora_adapter" };
        assert_eq!(count(handed), 5, "{:?}", state.asked);
        assert_eq!(count("/v1/completions") > 0, fault == Fault::Closed);
        assert!(state.most_adapters <= 3, "old adapters stay loaded");
        let left = std::fs::read_dir(case.out().join("engine")).unwrap().count();
        assert_eq!(left, if sync == "folder" { 1 } else { 2 }, "old weights stay on the disk");
    }
}

#[test]
fn rollouts_ahead_are_sampled_from_the_version_that_they_ask_for() {
    // An adapter has a name of its own; of whole weights a server holds one version, so that new ones wait.
    for (sync, lag) in [("adapter", 2), ("adapter", 1), ("folder", 1), ("folder", 2)] {
        let case = Case::new(Fault::None);
        let set = format!("stage.grpo.max_lag={lag}");
        assert_eq!(case.run(sync, &[&set, "stage.grpo.steps=6"]).1.unwrap().steps, 6);
        let rollouts = case.rows("rollouts.jsonl");
        assert_eq!(rollouts.len(), 6 * 16);
        for row in &rollouts {
            assert_eq!(
                row["policy_version"],
                (row["step"].as_u64().unwrap() - 1).saturating_sub(lag),
                "{sync}: {row}"
            );
        }
        let state = case.server.state();
        assert!(state.most_adapters <= 2 + lag as usize, "{sync}: {} adapters", state.most_adapters);
    }
    let case = Case::new(Fault::DiesAfter(3));
    let error = case.run("folder", &["stage.grpo.max_lag=1"]).1.unwrap_err();
    assert!(error.exit_code() == 1 && error.to_string().contains(&case.server.url), "{error}");
    let other = FakeServer::start(&case.policy, Fault::None);
    let url = format!("engine.url={:?}", other.url);
    assert_eq!(case.run("folder", &[&url, "stage.grpo.max_lag=1"]).1.unwrap().steps, 3);
    assert_eq!(case.rows("rollouts.jsonl").len(), 3 * 16);
}

#[test]
fn the_correction_for_the_sampler_and_the_records_are_on_unless_said_otherwise() {
    let case = Case::new(Fault::None);
    let text = case.config("folder", &[]).to_toml().unwrap();
    assert!(text.contains("token_truncate") && text.contains("rollouts_tokens = true"), "{text}");
    let off = ["stage.grpo.loss.sampler_correction=none", "log.rollouts_tokens=false"];
    let text = case.config("folder", &off).to_toml().unwrap();
    assert!(!text.contains("token_truncate") && text.contains("rollouts_tokens = false"), "{text}");
    // These divide by the sampler themselves.
    for set in ["stage.grpo.loss.objective=topr", "stage.grpo.preset=vespo"] {
        assert!(!case.config("folder", &[set]).to_toml().unwrap().contains("token_truncate"), "{set}");
    }
}

#[test]
fn servers_that_sample_from_something_else_are_refused_before_the_first_step() {
    let cases: [(Fault, &str, &[&str]); 9] = [
        (Fault::StaleHead, "folder", &["does not use all of the new weights", "--untied"]),
        (Fault::IgnoresWeights, "folder", &["does not use all of the new weights"]),
        (Fault::RawLogprobs, "folder", &["before the temperature", "--logprobs-mode processed_logprobs"]),
        (Fault::RawMode, "folder", &["raw_logprobs", "--logprobs-mode processed_logprobs"]),
        (Fault::ShortLogprobs, "folder", &["log-probabilities", "tokens"]),
        (Fault::OtherTokens, "adapter", &["vocabulary ends at"]),
        (Fault::MissingChoice, "folder", &["3 completions came, 4 were asked for"]),
        (Fault::OtherVersion, "folder", &["\"step-7\""]),
        (Fault::NoWeights, "folder", &["404", "VLLM_SERVER_DEV_MODE=1"]),
    ];
    for (fault, sync, parts) in cases {
        let case = Case::new(fault);
        let exit_code = match fault {
            Fault::StaleHead | Fault::IgnoresWeights | Fault::RawLogprobs | Fault::RawMode => 2,
            _ => 1,
        };
        case.fails(sync, exit_code, parts);
        let metrics = case.out().join("metrics.jsonl");
        assert!(!metrics.exists() || case.rows("metrics.jsonl").is_empty(), "{fault:?}");
    }
    // Another model of the same shape.
    let case = Case::new(Fault::None);
    let other = case.dir.path().join("other");
    let mut policy = Policy::open(&case.policy.display().to_string(), &Device::flex()).unwrap();
    policy.decoder.update_on_host(|_, _, values| values.iter_mut().for_each(|v| *v = -*v));
    policy.save(&other).unwrap();
    let set = format!("policy.path={}", other.display());
    let error = case.run("none", &[&set]).1.unwrap_err().to_string();
    assert!(error.contains("does it hold the same model"), "{error}");
}

#[test]
fn what_passes_is_tried_again_and_what_does_not_ends_the_run() {
    for fault in [Fault::Torn(2), Fault::Status(500, 2), Fault::Status(429, 1), Fault::Aborts(2)] {
        let case = Case::new(fault);
        let report = case.run("folder", &["engine.in_flight=1"]).1;
        assert_eq!(report.unwrap_or_else(|e| panic!("{fault:?}: {e}")).steps, 3);
    }
    Case::new(Fault::Status(500, 1000)).fails("folder", 1, &["status 500", "busy or broken"]);
    Case::new(Fault::Status(400, 1000)).fails("folder", 1, &["status 400", "busy or broken"]);
    Case::new(Fault::Torn(1000)).fails("folder", 1, &["no JSON"]);
    Case::new(Fault::Aborts(1000)).fails("folder", 1, &["aborted"]);
}

#[test]
fn a_run_whose_server_dies_goes_on_with_another() {
    let case = Case::new(Fault::DiesAfter(4));
    let error = case.run("folder", &[]).1.unwrap_err();
    assert_eq!(error.exit_code(), 1, "{error}");
    assert!(error.to_string().contains(&case.server.url), "{error}");
    let done = case.rows("metrics.jsonl").len();
    assert_eq!(done, 2, "the third step has no servers");
    let other = FakeServer::start(&case.policy, Fault::None);
    // What it holds is older than the checkpoint.
    let set = format!("engine.url={:?}", other.url);
    assert_eq!(case.run("folder", &[&set]).1.unwrap().steps, 3);
    assert_eq!(case.rows("metrics.jsonl").len(), 3);
    assert_eq!(case.rows("rollouts.jsonl").len(), 3 * 16);
    let nobody = format!("engine.url=\"http://127.0.0.1:{}\"", 1);
    let fresh = Case::new(Fault::None);
    let error = fresh.run("folder", &[&nobody]).1.unwrap_err();
    assert!(error.to_string().contains("no connection"), "{error}");
    assert!(!fresh.out().exists(), "a directory was made for a run that could not begin");
}

#[test]
fn a_key_gets_to_its_server_and_into_no_record() {
    let case = Case::new(Fault::Key);
    let config = case.dir.path().join("served.toml");
    let text = CONFIG
        .replace("POLICY", &case.policy.display().to_string())
        .replace("LORA", "")
        .replace("URL", &case.server.url)
        .replace("SYNC", "folder\"\nkey_env = \"RLVR_TEST_KEY");
    std::fs::write(&config, text).unwrap();
    let out = case.out();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rlvr"));
    command.args(["train", config.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    let refused = command.output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("the environment has no RLVR_TEST_KEY"));
    let output = command.env("RLVR_TEST_KEY", KEY).env("RUST_LOG", "trace").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = [output.stdout, output.stderr].concat();
    assert!(!String::from_utf8_lossy(&said).contains(KEY));
    for file in ["config.toml", "meta.json", "metrics.jsonl", "rollouts.jsonl"] {
        assert!(!std::fs::read_to_string(out.join(file)).unwrap().contains(KEY), "{file}");
    }
    for url in ["http://me:word@host", "ftp://host", "http://", "http://host/?key=1"] {
        let set = format!("engine.url={url}");
        let said = RunConfig::load(&config, &[set]).unwrap_err().to_string();
        assert!(said.contains("engine.url"), "{said}");
    }
}

#[test]
fn commands_ask_servers_and_get_what_we_sample() {
    let case = Case::new(Fault::None);
    let policy = case.policy.display().to_string();
    let tasks = (0..6).map(|i| {
        format!(
            "{{\"id\": \"{i}\", \"prompt\": \"{i}+{i}=\", \"reference\": {{\"answer\": \"{}\"}}}}\n",
            2 * i
        )
    });
    let tasks = write(case.dir.path(), "tasks.jsonl", &tasks.collect::<String>());
    let eval = |out: &str, more: &[&str]| {
        let out = case.dir.path().join(out).display().to_string();
        let mut args = vec!["eval", "run", "--policy", &policy, "--tasks", &tasks, "--out", &out];
        args.extend(["--max-tokens", "5", "--reward", "exact"]);
        args.extend(more);
        let output = rlvr(&args, "");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let rows = std::fs::read_to_string(Path::new(&out).join("samples.jsonl")).unwrap();
        let rows = rows.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.map(|row| row["completion"].clone()).collect::<Vec<_>>()
    };
    // Greedy completions are the same, whoever makes them.
    let (own, theirs) = (eval("own", &[]), eval("theirs", &["--engine-url", &case.server.url]));
    assert_eq!(own, theirs);
    assert_eq!(own.len(), 6);
    let results = std::fs::read_to_string(case.dir.path().join("theirs/results.json")).unwrap();
    assert!(results.contains(&case.server.url), "{results}");
    let out = case.dir.path().join("rates.jsonl").display().to_string();
    let args = ["data", "pass-rate", &tasks, "--policy", &policy, "--reward", "exact", "--samples", "4"];
    let more =
        ["--max-tokens", "5", "--low", "0%", "--high", "100%", "--force", "--out", &out, "--engine-url"];
    let output = rlvr(&[&args[..], &more, &[&case.server.url]].concat(), "");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(std::fs::read_to_string(&out).unwrap().lines().count() > 0);
    let nobody = rlvr(&[&args[..], &more, &["http://127.0.0.1:1"]].concat(), "");
    assert!(stderr(&nobody).contains("no connection"), "{}", stderr(&nobody));
    let _ = rows;
}
