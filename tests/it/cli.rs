//! The command line as scripts see it: output fields, exit codes, messages.
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}

fn model(name: &str) -> String {
    golden("models").join(name).display().to_string()
}

pub(crate) fn rlvr(args: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_rlvr"))
        .args(args)
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that fails early closes its stdin.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn rows(output: &Output) -> Vec<Value> {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Fails with exit code 2, nothing on stdout, and a message with every one of `parts`.
pub(crate) fn refused(args: &[&str], stdin: &str, parts: &[&str]) {
    let output = rlvr(args, stdin);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {message}");
    assert!(output.stdout.is_empty(), "{args:?}");
    for part in parts {
        assert!(message.contains(part), "{args:?}: no {part:?} in {message}");
    }
}

pub(crate) fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

pub(crate) fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

#[test]
fn every_help_has_an_example() {
    let commands: [&[&str]; 35] = [
        &[],
        &["train"],
        &["sample"],
        &["logprobs"],
        &["score"],
        &["data"],
        &["data", "generate"],
        &["data", "import"],
        &["data", "validate"],
        &["data", "stats"],
        &["data", "dedup"],
        &["data", "decontaminate"],
        &["data", "filter"],
        &["data", "balance"],
        &["data", "cap"],
        &["data", "split"],
        &["data", "choice-to-open"],
        &["data", "pass-rate"],
        &["data", "rejection"],
        &["data", "manifest"],
        &["data", "run"],
        &["loss"],
        &["eval"],
        &["eval", "run"],
        &["eval", "ls"],
        &["eval", "validate"],
        &["eval", "score"],
        &["eval", "compare"],
        &["eval", "report"],
        &["compare"],
        &["report"],
        &["plugin"],
        &["plugin", "new"],
        &["plugin", "test"],
        &["completions"],
    ];
    for command in commands {
        let args = [command, &["--help"]].concat();
        let output = rlvr(&args, "");
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && help.contains("Example"), "{args:?}: {help}");
        assert!(help.contains(&["rlvr", &command.join(" ")].join(" ")), "{help}");
    }
    let version = rlvr(&["--version"], "");
    assert_eq!(String::from_utf8_lossy(&version.stdout), format!("rlvr {}\n", env!("CARGO_PKG_VERSION")));
    refused(&["trian"], "", &["train"]);
    let script = rlvr(&["completions", "bash"], "");
    assert!(String::from_utf8_lossy(&script.stdout).contains("logprobs"));
}

#[test]
fn a_bad_config_names_line_and_field() {
    let dir = tempfile::tempdir().unwrap();
    let config = "name = \"x\"\n[policy.tiny]\n[data.t]\nkind = \"addition\"\n[[stage]]\nkind = \"sft\"\n\
                  data = \"t\"\nstpes = 3\n";
    let path = write(dir.path(), "config.toml", config);
    refused(&["train", &path], "", &["config.toml:8", "stpes", "`steps`"]);
    let path = write(dir.path(), "broken.toml", "name = \"x\"\n[policy\n");
    refused(&["train", &path], "", &["broken.toml:2"]);
    refused(&["train", "nowhere.toml"], "", &["nowhere.toml", "no such"]);
    // Sizes that no memory holds.
    let path = write(dir.path(), "config.toml", SMALL_RUN);
    let sizes =
        ["policy.tiny.hidden=1000000", "policy.tiny.layers=1000000000000", "policy.tiny.context=1000000000"];
    for size in sizes {
        refused(&["train", &path, "--dry-run", "--set", size], "", &["policy.tiny"]);
    }
    refused(
        &["sample", "--policy", &model("tiny-qwen2"), "--prompt", "x", "-n", "1000000000000"],
        "",
        &["1000000"],
    );
    for out in ["-", &path] {
        refused(&["train", &path, "--out", out], "", &["is no directory"]);
    }
    refused(&["train", &dir.path().display().to_string()], "", &["is a directory"]);
}

#[test]
fn score_gives_a_row_for_a_row() {
    let row = |id: Value, completion: &str| json!({"id": id, "completion": completion, "reference": {"answer": "1/2"}});
    let input = [row(json!(7), "\\boxed{0.5}"), row(json!("b"), "\\boxed{3}"), row(json!("c"), "")];
    let output = rlvr(&["score", "--reward", "math", "-"], &lines(&input));
    let found = rows(&output);
    assert_eq!(found.len(), 3);
    let field = |key: &str| found.iter().map(|r| r[key].clone()).collect::<Vec<_>>();
    assert_eq!(field("id"), [json!(7), json!("b"), json!("c")]);
    assert_eq!(field("score"), [json!(1.0), json!(0.0), json!(0.0)]);
    assert_eq!(field("verdict"), [json!("correct"), json!("incorrect"), json!("no_answer")]);
    assert_eq!(found[0]["extracted"], "0.5");
    assert!(found[0]["reason"].is_string());
    assert!(stderr(&output).contains("3 rows, mean score 0.3333: correct 1, incorrect 1, no_answer 1"));
}

#[test]
fn score_takes_rewards_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let input =
        json!({"id": 1, "completion": "<answer>4</answer>", "reference": {"answer": "4"}}).to_string();
    let rewards = "kind = \"sum\"\n[[rewards.terms]]\nweight = 0.5\nreward = { kind = \"exact\" }\n";
    let run = write(dir.path(), "run.toml", &format!("name = \"x\"\n[rewards]\n{rewards}"));
    let own = write(dir.path(), "own.toml", &rewards.replace("rewards.", ""));
    for config in [&run, &own] {
        let found = rows(&rlvr(&["score", "--config", config, "-"], &input));
        assert_eq!((&found[0]["score"], &found[0]["parts"][0]["name"]), (&json!(0.5), &json!("exact")));
    }
    let bad = write(dir.path(), "bad.toml", "[rewards]\nkind = \"math\"\nfalback = \"last_number\"\n");
    refused(&["score", "--config", &bad, "-"], &input, &["bad.toml:3", "falback", "`fallback`?"]);
    let none = write(dir.path(), "none.toml", "[reward]\nkind = \"math\"\n");
    refused(&["score", "--config", &none, "-"], &input, &["none.toml", "[rewards]"]);
    refused(&["score", "--reward", "mth", "-"], &input, &["mth", "math"]);
}

#[test]
fn malformed_rows_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let good = json!({"id": 1, "completion": "4", "reference": {"answer": "4"}}).to_string();
    let out = dir.path().join("out.jsonl").display().to_string();
    for (bad, parts) in [
        ("{\"id\": 3, \"completion\": ", &["not valid JSON"][..]),
        ("[1, 2]", &["array"]),
        ("{\"completion\": \"4\"}", &["\"id\""]),
        ("{\"id\": 1}", &["\"completion\""]),
        ("{\"id\": 1, \"completion\": 4}", &["a string"]),
    ] {
        let input = write(dir.path(), "rows.jsonl", &format!("{good}\n\n{bad}\n{good}\n"));
        let parts = [&["rows.jsonl:3: "], parts].concat();
        refused(&["score", "--reward", "math", &input], "", &parts);
        refused(&["score", "--reward", "math", &input, "--out", &out], "", &parts);
        assert!(!Path::new(&out).exists());
    }
    refused(&["score", "--reward", "math", "nowhere.jsonl"], "", &["nowhere.jsonl", "no such file"]);
    refused(&["score", "--reward", "math", &dir.path().display().to_string()], "", &["is a directory"]);
    let done = rlvr(&["score", "--reward", "math", "-", "--out", &out], &good);
    assert!(done.status.success() && done.stdout.is_empty());
    assert_eq!(std::fs::read_to_string(&out).unwrap().lines().count(), 1);
}

#[test]
fn loss_and_gradient_of_vectors() {
    let vectors = json!({
        "arrays": {"logprobs": [[-1.0, -0.5]], "old_logprobs": [[-1.0, -0.5]], "advantages": [0.7]},
        "cases": {"plain": {"policy": "clip", "aggregate": "token_mean", "kl_coef": 0.0}},
    });
    let found = rows(&rlvr(&["loss", "-"], &vectors.to_string()));
    let close = |value: &Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-12;
    assert!(close(&found[0]["plain"]["loss"], -0.7), "{found:?}");
    assert!((0..2).all(|i| close(&found[0]["plain"]["grad"][0][i], -0.35)), "{found:?}");
    refused(&["loss", "-"], "{\n\n\"cases\": ]", &["stdin:3"]);
    refused(&["loss", "-"], "{\"cases\": {\"a\": {\"polcy\": 1}}}", &["polcy", "policy"]);
}

/// Rows of token ids with their log-probabilities, by PyTorch in float64.
fn golden_rows(name: &str) -> (Vec<Vec<u32>>, Vec<f32>) {
    let bytes = std::fs::read(golden(&format!("{name}.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let words = |key: &str| {
        let data = file.tensor(key).unwrap().data().to_vec();
        data.chunks(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect::<Vec<u32>>()
    };
    let width = file.tensor("input_ids").unwrap().shape()[1];
    let ids = words("input_ids").chunks(width).map(<[u32]>::to_vec).collect();
    (ids, words("logps").into_iter().map(f32::from_bits).collect())
}

#[test]
fn logprobs_are_those_of_the_golden_models() {
    for name in ["tiny-llama", "tiny-qwen2", "tiny-qwen3"] {
        let (ids, expected) = golden_rows(name);
        let row = |(i, ids): (usize, &Vec<u32>)| json!({"id": i, "prompt_tokens": ids[..1], "completion_tokens": ids[1..]});
        let input: Vec<Value> = ids.iter().enumerate().map(row).collect();
        let found = rows(&rlvr(&["logprobs", "--policy", &model(name), "-"], &lines(&input)));
        let got: Vec<f32> = found
            .iter()
            .flat_map(|r| serde_json::from_value::<Vec<f32>>(r["logprobs"].clone()).unwrap())
            .collect();
        assert_eq!(got.len(), expected.len());
        let worst = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{name}: log-probabilities off by at most {worst:.1e} nats");
        assert!(worst < 1e-4, "{name}: {worst}");
        for (i, row) in found.iter().enumerate() {
            assert_eq!((&row["id"], &row["tokens"]), (&json!(i), &json!(ids[i][1..])));
        }
    }
}

#[test]
fn logprobs_refuse_what_the_policy_cannot_score() {
    let policy = model("tiny-llama");
    let args = ["logprobs", "--policy", &policy, "-"];
    let good = json!({"id": 1, "prompt_tokens": [5], "completion_tokens": [6, 7]});
    let long: Vec<u32> = vec![5; 100_000];
    for (bad, part) in [
        (json!({"id": 2, "prompt_tokens": [5], "completion_tokens": [999_999]}), "vocabulary"),
        (json!({"id": 2, "prompt_tokens": [], "completion_tokens": [6]}), "no tokens"),
        (json!({"id": 2, "prompt_tokens": [5], "completion_tokens": long}), "context"),
        (json!({"id": 2, "prompt_tokens": [5]}), "completion_tokens"),
        (json!({"id": 2, "prompt_tokens": [-5], "completion_tokens": [6]}), "not a token id"),
    ] {
        refused(&args, &lines(&[good.clone(), bad]), &["stdin:2", part]);
    }
    let text = json!({"id": "t", "prompt": "2+2", "completion": "4"});
    let found = rows(&rlvr(&args, &lines(&[text, json!({"id": "e", "prompt": "2", "completion": ""})])));
    assert_eq!(found[0]["tokens"].as_array().unwrap().len(), found[0]["logprobs"].as_array().unwrap().len());
    assert_eq!(found[1], json!({"id": "e", "tokens": [], "logprobs": []}));
    refused(&["logprobs", "--policy", "nowhere", "-"], &lines(&[good]), &["nowhere", "no such file"]);
}

#[test]
fn logprobs_read_a_conversation_by_the_chat_template() {
    let args = ["logprobs", "--policy", &model("tiny-qwen2"), "-"];
    let row = |prompt: Value| json!({"id": 1, "prompt": prompt, "completion": "4"});
    let chat =
        row(json!([{"role": "user", "content": [{"type": "text", "text": "2+2"}], "tool_calls": null}]));
    let plain = row(json!([{"role": "user", "content": "2+2"}]));
    let longer = row(json!([{"role": "system", "content": "Sums."}, {"role": "user", "content": "2+2"}]));
    let found = rows(&rlvr(&args, &lines(&[chat, plain, longer, row(json!("2+2"))])));
    assert_eq!(found[0], found[1]);
    assert_ne!(found[1], found[2]);
    // Raw text is no message of the user here.
    assert_ne!(found[1], found[3]);
    refused(
        &args,
        &lines(&[json!({"id": 1, "prompt": "2", "completion": null})]),
        &["stdin:1", "`completion` is null"],
    );
    let nameless = row(json!([{"role": "user", "contents": "2+2"}]));
    refused(&args, &lines(&[nameless]), &["stdin:1", "content"]);
}

#[test]
fn samples_depend_on_the_seed_and_not_on_their_number() {
    let policy = model("tiny-qwen3");
    let sample = |n: &str, seed: &str| {
        let args = [
            "sample",
            "--policy",
            &policy,
            "--prompt",
            "2+2?",
            "-n",
            n,
            "--max-tokens",
            "12",
            "--seed",
            seed,
        ];
        rows(&rlvr(&[&args[..], &["--json"]].concat(), ""))
    };
    let (one, four, other) = (sample("1", "3"), sample("4", "3"), sample("1", "4"));
    assert_eq!((one.len(), four.len()), (1, 4));
    assert_eq!(one[0], four[0]);
    assert_ne!(one[0]["tokens"], other[0]["tokens"]);
    assert_ne!(four[0]["tokens"], four[1]["tokens"]);
    for (i, row) in four.iter().enumerate() {
        assert_eq!(row["sample"], i);
        assert_eq!(row["tokens"].as_array().unwrap().len(), row["logprobs"].as_array().unwrap().len());
        assert!(["stop", "length"].contains(&row["finish_reason"].as_str().unwrap()));
        assert!(row["text"].is_string() && row["id"].is_string());
    }
    let tasks =
        lines(&[json!({"id": "a", "prompt": "x"}), json!({"prompt": [{"role": "user", "content": "y"}]})]);
    let args = ["sample", "--policy", &policy, "--tasks", "-", "--raw", "--max-tokens", "4", "--json"];
    let found = rows(&rlvr(&args, &tasks));
    assert_eq!((&found[0]["id"], &found[1]["id"]), (&json!("a"), &json!("2")));
    refused(&args, "{\"id\": 1}\n", &["stdin:1", "prompt"]);
    refused(&["sample", "--policy", &policy, "--prompt", "x", "--temperature", "-1"], "", &["temperature"]);
}

#[test]
fn evaluations_are_written_and_compared() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let items: Vec<Value> = (0..40)
        .map(|i| json!({"id": i, "question": format!("{i}+1?"), "answer": (i + 1).to_string()}))
        .collect();
    let tasks = write(dir.path(), "sums.jsonl", &lines(&items));
    // A answers the first 36 of 40 items, B five; the rest of B is wrong, the rest of A missing.
    for (name, right, rows) in [("a", 36, 36), ("b", 5, 40)] {
        let row = |i: usize| {
            let answer = if i < right { i + 1 } else { 0 };
            json!({"id": i, "completion": format!("\\boxed{{{answer}}}")})
        };
        let completions = write(dir.path(), name, &lines(&(0..rows).map(row).collect::<Vec<_>>()));
        let args = [
            "eval",
            "score",
            "--tasks",
            &tasks,
            "--completions",
            &completions,
            "--out",
            &path(&format!("out-{name}")),
        ];
        let done = rlvr(&args, "");
        assert!(done.status.success(), "{}", stderr(&done));
    }
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let results: Value = serde_json::from_str(&read("out-a/results.json")).unwrap();
    let sums = &results["tasks"]["sums"];
    assert_eq!((&sums["n"], &sums["accuracy"], &sums["parse_rate"]), (&json!(40), &json!(0.9), &json!(0.9)));
    assert!(sums["ci95"][0].as_f64().unwrap() > 0.7 && sums["ci95"][1].as_f64().unwrap() < 1.0);
    assert_eq!(read("out-a/samples.jsonl").lines().count(), 40);
    let found = rows(&rlvr(&["compare", &path("out-a"), &path("out-b"), "--json"], ""));
    let sums = &found[0]["tasks"]["sums"];
    assert_eq!((&sums["n"], &sums["conclusion"]), (&json!(40), &json!("A is better")));
    assert!(sums["p_value"].as_f64().unwrap() < 1e-6);
    let same = rlvr(&["compare", &path("out-a"), &path("out-a")], "");
    assert!(String::from_utf8_lossy(&same.stdout).contains("no significant difference"));
    refused(&["compare", &path("out-a"), &path("nowhere")], "", &["nowhere"]);
    refused(
        &["eval", "score", "--tasks", "gsm9k", "--completions", "-", "--out", &path("x")],
        "",
        &["gsm8k"],
    );

    let policy = model("tiny-llama");
    let args = ["eval", "run", "--policy", &policy, "--tasks", &tasks, "--limit", "3", "--max-tokens", "4"];
    let done = rlvr(&[&args[..], &["--samples", "2", "--out", &path("run")]].concat(), "");
    assert!(done.status.success(), "{}", stderr(&done));
    let results: Value = serde_json::from_str(&read("run/results.json")).unwrap();
    assert_eq!(results["tasks"]["sums"]["n"], 3);
    assert!(results["tasks"]["sums"]["pass@2"].is_number());
    assert_eq!(read("run/samples.jsonl").lines().count(), 6);
}

pub(crate) const SMALL_RUN: &str = r#"
name = "small"
[policy.tiny]
layers = 1
hidden = 16
heads = 1
kv_heads = 1
intermediate = 16
context = 32
alphabet = "0123456789+= "
[data.sums]
kind = "addition"
[rewards]
kind = "sum"
[[rewards.terms]]
reward = { kind = "exact" }
[[rewards.terms]]
reward = { kind = "length", max = 4, soft = 2, unit = "chars" }
[[stage]]
kind = "grpo"
data = "sums"
steps = 3
prompts_per_step = 4
sampling = { max_tokens = 6 }
[eval]
data = "sums"
limit = 8
allow_shared = true
[preflight]
refuse = false
"#;

#[test]
fn a_run_leaves_its_files_and_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let config = write(dir.path(), "small.toml", SMALL_RUN);
    let out = dir.path().join("run");
    let train =
        |more: &[&str]| rlvr(&[&["train", &config, "--out", out.to_str().unwrap()], more].concat(), "");
    let dry = train(&["--dry-run"]);
    assert!(dry.status.success(), "{}", stderr(&dry));
    assert!(String::from_utf8_lossy(&dry.stdout).contains("nothing was trained"));
    assert!(stderr(&dry).contains("pre-flight") && !out.exists());

    let done = train(&[]);
    assert!(done.status.success(), "{}", stderr(&done));
    let table = String::from_utf8_lossy(&done.stdout).into_owned();
    for part in ["before", "after grpo", "95 % interval", "final", "tensorboard --logdir"] {
        assert!(table.contains(part), "no {part:?} in {table}");
    }
    assert!(stderr(&done).lines().filter(|l| l.starts_with("grpo ") && l.contains("reward")).count() == 3);
    for file in ["config.toml", "meta.json", "metrics.jsonl", "rollouts.jsonl", "final/model.safetensors"] {
        assert!(out.join(file).is_file(), "no {file}");
    }
    let run = out.to_str().unwrap();
    // Two runs are compared by what they recorded.
    let second = dir.path().join("second").display().to_string();
    let again = rlvr(&["train", &config, "--out", &second, "--set", "seed=7"], "");
    assert!(again.status.success(), "{}", stderr(&again));
    let found = &rows(&rlvr(&["compare", run, &second, "--json"], ""))[0]["tasks"]["sums"];
    assert_eq!((&found["test"], &found["interval"]), (&json!("two proportions"), &json!("newcombe")));
    assert!(
        found["conclusion"].is_string() && found["ci95"][0].as_f64() < found["ci95"][1].as_f64(),
        "{found}"
    );
    let text = String::from_utf8(rlvr(&["compare", run, &second], "").stdout).unwrap();
    assert!(text.contains("evaluated after grpo") && text.contains("rlvr eval run for both"), "{text}");
    let sampled = rows(&rlvr(&["sample", "--policy", run, "--prompt", "1+1=", "--json"], ""));
    assert_eq!(sampled[0]["sample"], 0);
    refused(&["train", &config, "--out", run], "", &["not empty", "--resume", "--force"]);
    assert!(train(&["--force"]).status.success());

    // Built-in benchmarks are measured by the same code, with their own verifiers.
    let set =
        ["--force", "--set", "eval.tasks=[\"reverse_text\"]", "--set", "policy.tiny.context=256", "--set"];
    let letters: String = ('\n'..='\n').chain(' '..='~').collect();
    let alphabet = format!("policy.tiny.alphabet={}", json!(letters));
    let done = train(&[&set[..], &[&alphabet]].concat());
    assert!(done.status.success(), "{}", stderr(&done));
    let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    assert!(
        metrics.contains("eval/reverse_text/greedy") && metrics.contains("eval/sums/greedy"),
        "{metrics}"
    );
}

#[test]
fn what_the_preflight_of_a_later_stage_finds_is_no_problem_of_a_dry_run() {
    let dir = tempfile::tempdir().unwrap();
    let dry = |text: &str| {
        let config = write(dir.path(), "small.toml", text);
        let out = dir.path().join("run").display().to_string();
        let dry = rlvr(&["train", &config, "--out", &out, "--dry-run"], "");
        assert!(dry.status.success(), "{}", stderr(&dry));
        assert!(
            stderr(&dry).contains("\nwarning: ") || stderr(&dry).contains("\nproblem: "),
            "{}",
            stderr(&dry)
        );
        String::from_utf8_lossy(&dry.stdout).into_owned()
    };
    let found = dry(SMALL_RUN);
    assert!(found.contains(" above; nothing was trained"), "{found}");
    let grpo = "[[stage]]\nkind = \"grpo\"";
    let later =
        SMALL_RUN.replace(grpo, &format!("[[stage]]\nkind = \"sft\"\ndata = \"sums\"\nsteps = 1\n{grpo}"));
    let found = dry(&later);
    assert!(found.contains("everything is in order"), "{found}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_with_a_checkpoint() {
    use std::io::{BufRead, BufReader, Read};
    let dir = tempfile::tempdir().unwrap();
    // A slow signal may come fifty steps late, so only the interrupt writes a checkpoint.
    let text = SMALL_RUN.replace("steps = 3", "steps = 1000000") + "[checkpoint]\nevery = 0\n";
    let config = write(dir.path(), "small.toml", &text);
    let out = dir.path().join("run");
    let mut child = Command::new(env!("CARGO_BIN_EXE_rlvr"))
        .args(["train", &config, "--out", out.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("grpo 2/") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "the run ended by itself");
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    assert!(rest.contains("go on with: ") && rest.contains("--resume"), "{rest}");
    assert_eq!(std::fs::read_dir(out.join("checkpoints")).unwrap().count(), 1);
}

#[test]
fn a_new_plugin_passes_its_test_and_judges() {
    let python = Command::new("python3").arg("--version").output();
    if !python.is_ok_and(|o| o.status.success()) {
        eprintln!("note: skipped, there is no python3");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("mine").display().to_string();
    assert!(rlvr(&["plugin", "new", "--lang", "python", &folder], "").status.success());
    refused(&["plugin", "new", "--lang", "python", &folder], "", &["reward.py exists"]);
    for lang in ["js", "rust", "bash"] {
        let other = dir.path().join(lang).display().to_string();
        assert!(rlvr(&["plugin", "new", "--lang", lang, &other], "").status.success(), "{lang}");
        let readme = std::fs::read_to_string(dir.path().join(lang).join("README.md")).unwrap();
        assert!(readme.contains("rlvr plugin test") && !readme.contains("{COMMAND}"), "{readme}");
    }

    let program = dir.path().join("mine/reward.py").display().to_string();
    let output = rlvr(&["plugin", "test", "python3", &program], "");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    assert!(row("right answer ").contains("100.0 %") && row("gold echo").contains("0.0 %"), "{text}");
    assert!(row("restart").contains("ok"), "{text}");

    let config = "[rewards]\nkind = \"plugin\"\ncommand = [\"python3\", \"mine/reward.py\"]\n";
    let config = write(dir.path(), "reward.toml", config);
    let input = json!({"id": 1, "completion": "\\boxed{4}", "reference": {"answer": "4"}}).to_string();
    let found = rows(&rlvr(&["score", "--config", &config, "-"], &input));
    assert_eq!((&found[0]["score"], &found[0]["reason"]), (&json!(1.0), &json!("the last box")));
}

#[test]
fn a_plugin_that_breaks_the_protocol_fails_its_test() {
    let dir = tempfile::tempdir().unwrap();
    let hello = r#"{"type":"hello","protocol":1,"name":"x","version":"1","capabilities":["batch"]}"#;
    let script = format!("echo '{hello}'\nread hello\nwhile read line; do echo scores; done\n");
    let path = write(dir.path(), "bad.sh", &script);
    let output = rlvr(&["plugin", "test", "sh", &path], "");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("FAIL") && text.contains("not a result"), "{text}");
    let output = rlvr(&["plugin", "test", "no-such-program-here"], "");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_token_beyond_the_vocabulary_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("model");
    std::fs::create_dir(&folder).unwrap();
    for entry in std::fs::read_dir(model("tiny-llama")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let path = folder.join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let added = |i: usize| {
        json!({"id": 1000 + i, "content": format!("<beyond{i}>"), "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": false})
    };
    tokenizer["added_tokens"].as_array_mut().unwrap().extend((0..50).map(added));
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    let policy = folder.to_str().unwrap();
    let row = |prompt: &str, completion: &str| {
        json!({"id": 1, "prompt": prompt, "completion": completion}).to_string()
    };
    let parts = ["stdin:1", "<beyond49>", "the policy's vocabulary ends at", "do not belong together"];
    for row in [row("a<beyond49>", "b"), row("a", "b<beyond49>")] {
        refused(&["logprobs", "--policy", policy, "-"], &row, &parts);
    }
    refused(&["sample", "--policy", policy, "--prompt", "x<beyond49>"], "", &["<beyond49>"]);
    write(dir.path(), "d.jsonl", &format!("{}\n", row("a", "b<beyond49>")));
    let config = "name = \"s\"\n[policy]\npath = \"model\"\n[data.d]\nkind = \"jsonl\"\npath = \"d.jsonl\"\n\
                  completion = \"{{ completion }}\"\n[[stage]]\nkind = \"sft\"\ndata = \"d\"\nsteps = 1\nbatch = 1\n";
    let config = write(dir.path(), "sft.toml", config);
    let out = dir.path().join("out").display().to_string();
    refused(&["train", &config, "--out", &out], "", &["d.jsonl:1", "<beyond49>"]);
    // Rollouts made elsewhere are checked before the first of them is trained on.
    let rollout = |step: u64, token: u32| json!({"step": step, "group": 0, "prompt_tokens": [3, 4], "completion_tokens": [5, token], "reward": 1.0});
    let recorded = [rollout(1, 6), rollout(1, 7), rollout(2, 6), rollout(2, 4_000_000_000)];
    write(dir.path(), "rollouts.jsonl", &lines(&recorded));
    let config = "name = \"r\"\n[policy]\npath = \"model\"\n[[stage]]\nkind = \"grpo\"\n[stage.rollouts]\n\
                  path = \"rollouts.jsonl\"\n";
    let config = write(dir.path(), "grpo.toml", config);
    let out = dir.path().join("replayed");
    let parts = ["rollouts.jsonl:4: token id 4000000000 is outside of the policy's vocabulary"];
    refused(&["train", &config, "--out", out.to_str().unwrap()], "", &parts);
    assert!(!out.exists(), "something was written");
}
