//! What a run says about its data before it trains, and what it leaves to measure it by.
use super::cli::{lines, refused, rlvr, stderr, write};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Output;

/// A run on rows of `rows.jsonl` beside it; `{train}` and `{heldout}` are further keys of the two sources.
const RUN: &str = r#"
name = "rows"
device = "cpu"
[policy.tiny]
layers = 1
hidden = 16
heads = 1
kv_heads = 1
intermediate = 16
context = 96
[data.train]
kind = "jsonl"
path = "rows.jsonl"
prompt = "{{ question }}"
reference.answer = "{{ answer }}"
{train}
[data.heldout]
kind = "jsonl"
path = "rows.jsonl"
prompt = "Question: {{ question }}"
reference.answer = "{{ answer }}"
{heldout}
[rewards]
kind = "exact"
[[stage]]
kind = "grpo"
data = "train"
steps = 13
prompts_per_step = 4
group_size = 2
sampling = { max_tokens = 2 }
[eval]
data = "heldout"
[log]
tensorboard = false
[preflight]
refuse = false
"#;

fn config(train: &str, heldout: &str) -> String {
    RUN.replace("{train}", train).replace("{heldout}", heldout)
}

const TRAIN: &str = "split = \"train\"\nheldout_frac = 0.2";
const HELDOUT: &str = "split = \"heldout\"\nheldout_frac = 0.2";

/// Questions with their answers, each on a line of its own.
fn sums() -> Vec<Value> {
    let pairs = (1..8).flat_map(|a| (1..8).map(move |b| (a, b)));
    pairs
        .map(|(a, b)| json!({"question": format!("What is {a} + {b}?"), "answer": (a + b).to_string()}))
        .collect()
}

/// A folder with `rows.jsonl` and the path of a config in it.
fn folder(rows: &[Value], config: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "rows.jsonl", &lines(rows));
    let path = write(dir.path(), "run.toml", config);
    (dir, path)
}

fn train(dir: &Path, config: &str, more: &[&str]) -> Output {
    let out = dir.join("run").display().to_string();
    rlvr(&[&["train", config, "--out", &out], more].concat(), "")
}

/// `train` refuses the config before it writes anything, and a dry run does the same.
fn refused_at_the_start(dir: &Path, config: &str, parts: &[&str]) {
    for more in [&[][..], &["--dry-run"]] {
        let done = train(dir, config, more);
        let said = stderr(&done);
        assert_eq!(done.status.code(), Some(2), "{more:?}: {said}");
        parts.iter().for_each(|part| assert!(said.contains(part), "{more:?}: no {part:?} in {said}"));
        assert!(!dir.join("run").exists(), "{more:?}: something was written");
    }
}

fn rows_of(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The question in a prompt, which differs between the sources.
fn question(prompt: &str) -> String {
    prompt.rsplit("What is").next().unwrap().to_owned()
}

#[test]
fn no_held_out_question_is_trained_on_whatever_the_prompts_are() {
    // Every question twice, under another id and with more in the row.
    let again = sums().into_iter().enumerate().map(|(i, mut row)| {
        row["id"] = json!(format!("again-{i}"));
        row["source"] = json!("elsewhere");
        row
    });
    let rows: Vec<Value> = sums().into_iter().chain(again).collect();
    let (dir, path) = folder(&rows, &config(TRAIN, HELDOUT));
    // Longer than an epoch: all rows that can be trained on are.
    let done = train(dir.path(), &path, &["--set", "stage.grpo.steps=26"]);
    assert!(done.status.success(), "{}", stderr(&done));
    let run = dir.path().join("run");
    let trained = rows_of(&run.join("rollouts.jsonl"));
    let trained: BTreeSet<String> =
        trained.iter().map(|row| question(row["prompt"].as_str().unwrap())).collect();
    let measured = rows_of(&run.join("eval/heldout.jsonl"));
    let measured: BTreeSet<String> =
        measured.iter().map(|row| question(row["prompt"][0]["content"].as_str().unwrap())).collect();
    assert!(measured.len() >= 4 && trained.is_disjoint(&measured), "{measured:?}");
    assert_eq!(trained.len() + measured.len(), 49);
}

#[test]
fn sources_that_share_rows_are_refused_with_their_number() {
    let (dir, path) = folder(&sums(), &config("", ""));
    let parts = [
        "49 of the 49 tasks of [data.heldout]",
        "rows.jsonl:1",
        "split = \"train\"",
        "eval.allow_shared = true",
    ];
    refused_at_the_start(dir.path(), &path, &parts);
    let allowed = ["--set", "eval.allow_shared=true", "--set", "stage.grpo.steps=1"];
    let done = train(dir.path(), &path, &allowed);
    assert!(done.status.success(), "{}", stderr(&done));
    // A benchmark of the same questions.
    let benchmark = "name = \"sums\"\ntitle = \"Sums\"\nlicense = \"MIT\"\nprompt = \"Add. {{ question }}\"\n[source]\n\
                     file = \"rows.jsonl\"\n[fields]\nquestion = \"{{ question }}\"\nanswer = \"{{ answer }}\"\n\
                     [reward]\nkind = \"exact\"\n";
    write(dir.path(), "sums.toml", benchmark);
    let config = config("", "").replace("data = \"heldout\"\n[log]", "tasks = [\"sums.toml\"]\n[log]");
    let path = write(dir.path(), "bench.toml", &config);
    fs::remove_dir_all(dir.path().join("run")).unwrap();
    let parts = ["49 of the 49 tasks of the benchmark sums", "rows.jsonl:1", "rlvr data decontaminate"];
    refused_at_the_start(dir.path(), &path, &parts);
}

#[test]
fn long_prompts_are_named_before_the_first_step() {
    let mut rows = sums();
    rows.insert(20, json!({"id": "the-long-one", "question": "please ".repeat(40) + "1+1?", "answer": "2"}));
    let (dir, path) = folder(&rows, &config(TRAIN, HELDOUT));
    let parts = [
        "rows.jsonl:21 (the-long-one): the prompt has 284 tokens, the limit is 95",
        "long_prompt = \"skip\"",
    ];
    refused_at_the_start(dir.path(), &path, &parts);
    let skip = ["--set", "stage.grpo.long_prompt=skip", "--set", "stage.grpo.steps=13"];
    let done = train(dir.path(), &path, &skip);
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(stderr(&done).contains("above 95 tokens, the longest with 284"), "{}", stderr(&done));
    assert!(
        rows_of(&dir.path().join("run/metrics.jsonl")).iter().any(|row| row["prompt/skipped"] == json!(1.0))
    );

    // In what is measured it is left out, and counted.
    let heldout = "filter = \"question is endingwith('1?') or id is defined\"";
    let all = config("filter = \"not question is endingwith('1?') and id is undefined\"", heldout);
    let all = all.replace(" is endingwith(", ".endswith(");
    let (dir, path) = folder(&rows, &all);
    refused_at_the_start(dir.path(), &path, &["[eval] of [data.heldout]: 1 of 8 prompts", "(the-long-one)"]);
    let done =
        train(dir.path(), &path, &["--set", "stage.grpo.long_prompt=skip", "--set", "stage.grpo.steps=1"]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(String::from_utf8_lossy(&done.stdout).contains("heldout  7"), "{:?}", done.stdout);

    // A run of nothing is none.
    let long: Vec<Value> =
        (0..4).map(|i| json!({"question": format!("{i} {}", "please ".repeat(40))})).collect();
    let only = config("", "").replace("reference.answer = \"{{ answer }}\"", "reference.answer = \"2\"");
    let only = only
        .replace("[eval]\ndata = \"heldout\"", "")
        .replace("sampling =", "long_prompt = \"skip\"\nsampling =");
    let (dir, path) = folder(&long, &only);
    refused_at_the_start(dir.path(), &path, &["[data.train]: all of its 4 prompts", "nothing is left"]);
}

#[test]
fn rows_that_cannot_be_learned_are_named_before_the_first_step() {
    let sft = |tiny: &str, rows: &[Value]| {
        let config = format!(
            "name = \"sft\"\ndevice = \"cpu\"\n[policy.tiny]\nlayers = 1\nhidden = 16\nheads = 1\nkv_heads = 1\n\
             intermediate = 16\n{tiny}\n[data.train]\nkind = \"jsonl\"\npath = \"rows.jsonl\"\n\
             completion = \"{{{{ completion }}}}\"\n[[stage]]\nkind = \"sft\"\ndata = \"train\"\nsteps = 1\nbatch = 1\n"
        );
        folder(rows, &config)
    };
    let good = json!({"prompt": "1+1=", "completion": "2"});
    let row =
        |prompt: &str, completion: &str| json!({"id": "odd", "prompt": prompt, "completion": completion});
    let (small, digits) = ("context = 32", "context = 32\nalphabet = \"0123456789+= \"");
    for (tiny, bad, part) in [
        (
            small,
            row("1+1=", &"2".repeat(40)),
            "prompt and completion have 45 tokens, the policy's context is 32",
        ),
        (digits, row("1+1=", "two"), "'t'"),
        (digits, row("one+1=", "2"), "'o'"),
        (small, row("", "2"), "has no tokens"),
    ] {
        let (dir, path) = sft(tiny, &[good.clone(), good.clone(), bad, good.clone()]);
        refused_at_the_start(dir.path(), &path, &["rows.jsonl:3 (odd): ", part]);
    }
    let (dir, path) = sft(digits, &[good.clone(), row("x", "2"), row("y", "2")]);
    refused_at_the_start(dir.path(), &path, &["rows.jsonl:2", "rows.jsonl:3", "2 of 3 rows of [data.train]"]);

    // Rollouts made elsewhere.
    let (dir, _) = sft(small, &[]);
    let rollout = |step: usize, token: u32| json!({"step": step, "group": 0, "prompt_tokens": [5], "completion_tokens": [token], "reward": step});
    write(dir.path(), "made.jsonl", &lines(&[rollout(1, 6), rollout(1, 7), rollout(2, 6), rollout(2, 5000)]));
    let config = "name = \"made\"\ndevice = \"cpu\"\n[policy.tiny]\nlayers = 1\nhidden = 16\nheads = 1\nkv_heads = 1\n\
                  intermediate = 16\n[[stage]]\nkind = \"grpo\"\n[stage.rollouts]\npath = \"made.jsonl\"\n";
    let path = write(dir.path(), "made.toml", config);
    refused_at_the_start(
        dir.path(),
        &path,
        &["made.jsonl:4: token id 5000 is outside of the policy's vocabulary"],
    );
}

#[test]
fn a_dry_run_ends_as_the_run_would() {
    // No completion is ever right, so no group has a signal.
    let refusing = config(TRAIN, HELDOUT).replace("refuse = false", "refuse = true");
    let (dir, path) = folder(&sums(), &refusing);
    let said = |more: &[&str]| {
        let done = train(dir.path(), &path, more);
        let last = stderr(&done).lines().rfind(|line| line.contains("pre-flight: ")).map(str::to_owned);
        (done.status.code(), last)
    };
    let dry = said(&["--dry-run"]);
    assert_eq!(dry.0, Some(2), "{dry:?}");
    let run = said(&[]);
    assert_eq!(dry, run);
    // A directory with a run in it.
    assert!(dir.path().join("run").is_dir());
    refused(
        &["train", &path, "--out", &dir.path().join("run").display().to_string(), "--dry-run"],
        "",
        &["not empty"],
    );
    let resumed = train(dir.path(), &path, &["--dry-run", "--resume", "--set", "seed=4"]);
    assert_eq!(resumed.status.code(), Some(2));
    assert!(stderr(&resumed).contains("seed: 0 → 4"), "{}", stderr(&resumed));
    let nowhere = dir.path().join("nowhere").display().to_string();
    refused(&["train", &path, "--out", &nowhere, "--dry-run", "--resume"], "", &["holds no run to resume"]);
    // No directory can be made below a file.
    let below = dir.path().join("below");
    std::fs::write(&below, "").unwrap();
    let below = below.join("run").display().to_string();
    let ends = [&["--dry-run"][..], &[]]
        .map(|more| rlvr(&[&["train", path.as_str(), "--out", &below], more].concat(), "").status.code());
    assert!(ends[0] == ends[1] && ends[0] != Some(0), "{ends:?}");
    // What a later stage meets depends on those before it.
    let warm =
        "[[stage]]\nkind = \"sft\"\nname = \"warm\"\ndata = \"train\"\nsteps = 1\n[[stage]]\nkind = \"grpo\"";
    let later = refusing
        .replace("[[stage]]\nkind = \"grpo\"", warm)
        .replace("[data.heldout]", "completion = \"{{ answer }}\"\n[data.heldout]");
    let path = write(dir.path(), "later.toml", &later);
    let dry = rlvr(&["train", &path, "--out", &nowhere, "--dry-run"], "");
    assert_eq!(dry.status.code(), Some(0), "{}", stderr(&dry));
    assert!(stderr(&dry).contains("problem: every group"), "{}", stderr(&dry));
}

/// A policy that has learned half of what it is asked.
const LEARNED: &str = r#"
name = "learned"
device = "cpu"
seed = 3
[policy.tiny]
layers = 2
hidden = 32
heads = 2
kv_heads = 2
intermediate = 64
context = 256
[data.train]
kind = "addition"
max_digits = 1
tasks = 60
[data.Held-out]
kind = "addition"
max_digits = 1
split = "heldout"
heldout_frac = 0.1
tasks = 60
[data.trained]
kind = "addition"
max_digits = 1
tasks = 60
[rewards]
kind = "sum"
[[rewards.terms]]
reward = { kind = "exact" }
[[stage]]
kind = "sft"
data = "train"
steps = 60
batch = 32
optim = { lr = 5e-3, betas = [0.9, 0.99] }
[eval]
data = ["Held-out", "trained"]
tasks = ["reverse_text"]
limit = 50
allow_shared = true
sampling = { max_tokens = 3 }
stop = ["="]
[log]
tensorboard = false
"#;

#[test]
fn the_end_of_a_run_prints_the_command_that_measures_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "learned.toml", LEARNED);
    let done = train(dir.path(), &path, &[]);
    assert!(done.status.success(), "{}", stderr(&done));
    let said = String::from_utf8(done.stdout).unwrap();
    let commands: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("measure  ")).collect();
    assert_eq!(commands.len(), 2, "{said}");
    let metrics = rows_of(&dir.path().join("run/metrics.jsonl"));
    let last = metrics.iter().rev().find(|row| row.get("eval/trained/greedy").is_some()).unwrap();
    let mut compared = 0;
    for command in commands {
        let shell = format!("rlvr() {{ \"$RLVR\" \"$@\"; }}; {command}");
        let output = std::process::Command::new("sh")
            .args(["-c", &shell])
            .env("RLVR", env!("CARGO_BIN_EXE_rlvr"))
            .env_remove("RUST_LOG")
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}: {}", stderr(&output));
        let out = dir.path().join(command.rsplit(' ').next().unwrap());
        let results: Value =
            serde_json::from_str(&fs::read_to_string(out.join("results.json")).unwrap()).unwrap();
        for (set, result) in results["tasks"].as_object().unwrap() {
            let of_run = if set == "held_out" { "Held-out" } else { set.as_str() };
            assert_eq!(result["accuracy"], last[&format!("eval/{of_run}/greedy")], "{set}");
            assert_eq!(result["ci95"][0], last[&format!("eval/{of_run}/ci95_low")], "{set}");
            compared += 1;
        }
    }
    assert_eq!(compared, 3);
    let accuracy = last["eval/trained/greedy"].as_f64().unwrap();
    assert!((0.1..0.95).contains(&accuracy), "{accuracy}: nothing would show");
    // Replacing the run replaces them.
    let again =
        train(dir.path(), &path, &["--force", "--set", "eval.data=Held-out", "--set", "stage.sft.steps=1"]);
    assert!(again.status.success(), "{}", stderr(&again));
    let mut files: Vec<String> = fs::read_dir(dir.path().join("run/eval"))
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    files.sort();
    assert_eq!(files, ["held_out.jsonl", "held_out.toml"]);
}

#[test]
fn other_encodings_are_named_with_file_and_line_by_every_reader() {
    let dir = tempfile::tempdir().unwrap();
    let row = |text: &str| json!({"id": text, "question": text, "prompt": text, "answer": "2", "completion": "2", "reference": {"answer": "2"}});
    let text = lines(&[row("a"), row("café")]);
    let latin1: Vec<u8> = text.chars().map(|c| c as u8).collect();
    let utf16: Vec<u8> = [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let run = RUN.replace("{train}", "").replace("{heldout}", "").replace("[eval]\ndata = \"heldout\"", "");
    for (bytes, place, hint) in
        [(latin1, ":2: not UTF-8", "iconv -f CP1252"), (utf16, ":1: not UTF-8", "iconv -f UTF-16")]
    {
        let file = dir.path().join("rows.jsonl");
        fs::write(&file, &bytes).unwrap();
        let file = file.display().to_string();
        let config = write(dir.path(), "run.toml", &run);
        let out = dir.path().join("out").display().to_string();
        let (place, hint) = (format!("rows.jsonl{place}"), hint);
        for args in [
            &["train", &config, "--out", &out][..],
            &["score", "--reward", "exact", &file],
            &["score", "--reward", "exact", "--self-check", &file],
            &["data", "import", &file, "--licence", "MIT", "--out", &out],
            &["data", "stats", &file],
            &["eval", "validate", "--tasks", &file],
        ] {
            refused(args, "", &[&place, hint]);
        }
        let config = dir.path().join("config.toml");
        fs::write(&config, &bytes).unwrap();
        refused(&["train", &config.display().to_string()], "", &["config.toml:", "not UTF-8", hint]);
    }
}

#[test]
fn fields_that_are_absent_or_null_are_named() {
    let rows = [json!({"question": "1+1?", "answer": "#### 2"}), json!({"question": null, "answer": null})];
    let check = |from: &str, to: &str, parts: &[&str]| {
        let config = config("", "").replace("[eval]\ndata = \"heldout\"", "").replace(from, to);
        let (dir, path) = folder(&rows, &config);
        refused_at_the_start(dir.path(), &path, parts);
    };
    check(
        "prompt = \"{{ question }}\"",
        "prompt = \"{{ questoin.strip() }}\"",
        &["rows.jsonl:1: prompt: the row has no field `questoin`, did you mean `question`?"],
    );
    check("", "", &["rows.jsonl:2: prompt: `question` is null"]);
    let reference = "reference.answer = \"{{ answer.split('####')[-1] | trim }}\"";
    let from = "prompt = \"{{ question }}\"\nreference.answer = \"{{ answer }}\"";
    check(
        from,
        &format!("prompt = \"Q\"\n{reference}"),
        &["rows.jsonl:2: reference.answer: `answer` is null"],
    );
    check(
        from,
        &format!("prompt = \"Q\"\n{reference}\ngroup = \"qestion\""),
        &["rows.jsonl:1: group: the row has no field `qestion`, did you mean `question`?"],
    );
    check(
        from,
        &format!("prompt = \"Q\"\n{reference}\ngroup = \"question\""),
        &["rows.jsonl:2: group: `question` is null"],
    );
}

#[test]
fn what_is_not_there_is_named_and_not_what_is() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    fs::create_dir(&run).unwrap();
    write(&run, "metrics.jsonl", "");
    let (run, nowhere) = (run.display().to_string(), dir.path().join("nowhere").display().to_string());
    for arms in [[&run, &nowhere], [&nowhere, &run]] {
        let output = rlvr(&["compare", arms[0], arms[1]], "");
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("nowhere: there is no such directory") && !said.contains("is a run"), "{said}");
    }
}
