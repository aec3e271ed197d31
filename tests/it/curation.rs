//! Curation on the command line, from data sets as they are published to the parts of a run.
use super::cli::{lines, refused, rlvr, stderr, write};
use serde_json::{Value, json};
use std::path::Path;

/// Runs a command that must succeed.
fn done(args: &[&str]) -> String {
    let output = rlvr(&[&["data"], args].concat(), "");
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
    stderr(&output)
}

fn rows(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn manifest(path: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(format!("{path}.manifest.json")).unwrap()).unwrap()
}

/// Forty choices, each with one answer; two are the same but for punctuation, one is in the test set.
fn choices(dir: &Path) -> (String, String) {
    let organs = ["liver", "kidney", "spleen", "heart", "lung", "brain", "colon", "bladder"];
    let row = |i: usize| {
        let (a, b) = (organs[i % 8], organs[(i / 8 + i + 1) % 8]);
        let question =
            format!("In report number {i} of the {a} ward, the organ with a lesion of {} mm is the", 3 * i);
        let (answer, subject) = (["A", "B"][i % 2], ["x", "y"][i % 4 / 2]);
        json!({"id": i, "question": question, "options": [a, b, "skin"], "answer": answer, "subject": subject})
    };
    let mut train: Vec<Value> = (0..40).map(row).collect();
    train[7] = train[3].clone();
    train[7]["id"] = json!(700);
    train[7]["question"] = json!(train[3]["question"].as_str().unwrap().to_uppercase());
    let mut test = train[11].clone();
    test["id"] = json!("test-1");
    test["options"] = json!([test["options"][2], test["options"][0], test["options"][1]]);
    (write(dir, "train.jsonl", &lines(&train)), write(dir, "test.jsonl", &lines(&[test])))
}

#[test]
fn a_chain_from_import_to_split_is_in_one_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (train, test) = choices(dir.path());
    let names = ["a", "b", "c", "d", "e", "f", "g"].map(|n| path(&format!("{n}.jsonl")));
    let [a, b, c, d, e, f, g] = &names;
    done(&["import", &train, "--licence", "MIT", "--out", a]);
    done(&["validate", a, "--reward", "choice"]);
    let said = done(&["dedup", a, "--threshold", "0.95", "--out", b, "--dropped", &path("twice.jsonl")]);
    assert!(said.contains("40 rows in, 39 out, 1 left out") && said.contains("exact duplicate"), "{said}");
    assert_eq!(rows(&path("twice.jsonl"))[0]["detail"]["of"], "3");
    let said = done(&["decontaminate", b, "--against", &test, "--out", c]);
    assert!(said.contains("39 rows in, 38 out") && said.contains("same question"), "{said}");
    done(&[
        "filter",
        c,
        "--field",
        "meta.subject=x,y",
        "--max-words",
        "50",
        "--min-options",
        "3",
        "--out",
        d,
    ]);
    done(&["balance", d, "--field", "meta.subject", "--seed", "1", "--out", e]);
    let counts = |value: &str| rows(e).iter().filter(|r| r["meta"]["subject"] == value).count();
    assert_eq!(counts("x"), counts("y"));
    done(&["cap", e, "--field", "meta.subject", "--values", "x", "--max", "25%", "--out", f]);
    done(&["choice-to-open", f, "--out", g]);
    let open = rows(g);
    assert!(!open.is_empty() && open.iter().all(|r| r["reference"]["options"].is_null()), "{open:?}");
    done(&["validate", g, "--reward", "any_of"]);
    done(&["split", g, "--parts", "train=70%,heldout=30%", "--out-dir", &path("parts")]);
    let part = path("parts/train.jsonl");
    let steps = manifest(&part)["steps"].as_array().unwrap().clone();
    let commands: Vec<&str> = steps.iter().map(|s| s["command"].as_str().unwrap()).collect();
    assert_eq!(
        commands,
        ["import", "dedup", "decontaminate", "filter", "balance", "cap", "choice-to-open", "split"]
    );
    for pair in steps.windows(2) {
        assert_eq!(pair[0]["output"]["sha256"], pair[1]["inputs"][0]["sha256"]);
    }
    assert_eq!(steps[0]["inputs"][0]["licence"], "MIT");
    let shown = rlvr(&["data", "manifest", &part], "");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("licences: MIT") && shown.contains("as it was written"), "{shown}");
    // The rows are tasks of a run and of an evaluation.
    let config = format!("kind = \"jsonl\"\npath = {f:?}\nmeta = [\"meta\"]");
    let config: rlvr::config::DataConfig = toml::from_str(&config).unwrap();
    let source = rlvr::data::TaskSource::open("s", &config, 1).unwrap();
    assert_eq!(source.task(0).reference, rows(f)[0]["reference"]);
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_another_choice() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (train, _) = choices(dir.path());
    let (tasks, out) = (path("tasks.jsonl"), path("out.jsonl"));
    done(&["import", &train, "--out", &tasks]);
    let run = |seed: &str, threads: &str| {
        done(&[
            "balance",
            &tasks,
            "--field",
            "meta.subject",
            "--per-value",
            "5",
            "--seed",
            seed,
            "--out",
            &out,
            "--force",
            "--threads",
            threads,
        ]);
        (std::fs::read(&out).unwrap(), std::fs::read(format!("{out}.manifest.json")).unwrap())
    };
    let first = run("1", "1");
    assert_eq!(first, run("1", "3"));
    assert_ne!(first.0, run("2", "1").0);
}

#[test]
fn a_file_runs_all_steps() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    choices(dir.path());
    let text = r#"
inputs = ["train.jsonl"]
out_dir = "curated"
[[step]]
kind = "import"
licence = "MIT"
[[step]]
kind = "dedup"
threshold = 0.95
[[step]]
kind = "decontaminate"
against = ["test.jsonl"]
settings = { ngram = 8 }
[[step]]
kind = "cap"
field = "meta.subject"
rows = 10
[[step]]
kind = "filter"
where = "meta.subject in ['x', 'y']"
[[step]]
kind = "cap"
rows = 19
seed = 1
[[step]]
kind = "choice_to_open"
keep_refused = true
[[step]]
kind = "split"
parts = [{ name = "train", share = 0.5 }, { name = "heldout", share = 0.5 }]
"#;
    let config = write(dir.path(), "curation.toml", text);
    done(&["run", &config]);
    assert_eq!(rows(&path("curated/04-cap.jsonl")).len(), 20);
    assert_eq!(rows(&path("curated/02-dedup.dropped.jsonl")).len(), 1);
    assert_eq!(rows(&path("curated/05-filter.jsonl")).len(), 20);
    assert_eq!(rows(&path("curated/06-cap.jsonl")).len(), 19);
    assert_eq!(manifest(&path("curated/heldout.jsonl"))["steps"].as_array().unwrap().len(), 8);
    refused(&["data", "run", &config], "", &["01-import.jsonl exists", "--force"]);
    let before = std::fs::read(path("curated/train.jsonl")).unwrap();
    done(&["run", &config, "--force"]);
    assert_eq!(std::fs::read(path("curated/train.jsonl")).unwrap(), before);
    let typo = write(dir.path(), "typo.toml", &text.replace("threshold", "treshold"));
    refused(&["data", "run", &typo], "", &["typo.toml:", "treshold"]);
    let nowhere = write(dir.path(), "nowhere.toml", &text.replace("meta.subject in", "meta.subjekt in"));
    let parts = ["04-cap.jsonl:1: where: the row has no field `meta.subjekt`, did you mean `meta.subject`?"];
    refused(&["data", "run", &nowhere, "--force"], "", &parts);
}

#[test]
fn a_file_runs_steps_that_ask_a_policy() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (tasks, completions) = solved(dir.path());
    let text = r#"
inputs = ["tasks.jsonl"]
out_dir = "curated"
[[step]]
kind = "pass_rate"
completions = "completions.jsonl"
reward = "math"
low = 0.3
[[step]]
kind = "rejection"
completions = "completions.jsonl"
reward = "math"
per_task = 2
pick = "first"
"#;
    let config = write(dir.path(), "curation.toml", text);
    done(&["run", &config]);
    // Tasks 2 to 4 are solved 2 to 4 times of 5.
    assert_eq!(rows(&path("curated/01-pass-rate.jsonl")).len(), 3);
    assert_eq!(rows(&path("curated/01-pass-rate.dropped.jsonl")).len(), 3);
    let steps = manifest(&path("curated/02-rejection.jsonl"))["steps"].clone();
    assert_eq!((&steps[0]["command"], &steps[1]["command"]), (&json!("pass-rate"), &json!("rejection")));
    assert_eq!((&steps[1]["rows_in"], &steps[1]["rows_out"]), (&json!(3), &json!(6)));
    // The same as by hand.
    let (kept, sft) = (path("kept.jsonl"), path("sft.jsonl"));
    let by_hand = ["--completions", &completions, "--reward", "math", "--out"];
    done(&[&["pass-rate", &tasks, "--low", "0.3"], &by_hand[..], &[&kept]].concat());
    done(&[&["rejection", &kept, "--per-task", "2", "--pick", "first"], &by_hand[..], &[&sft]].concat());
    assert_eq!(rows(&sft), rows(&path("curated/02-rejection.jsonl")));
    // Mistakes are seen before the first step.
    let wrong = |from: &str, to: &str, parts: &[&str]| {
        let config = write(dir.path(), "wrong.toml", &text.replace(from, to));
        let name = [&["wrong.toml"], parts].concat();
        refused(&["data", "run", &config], "", &name);
    };
    wrong("per_task", "per_taks", &["per_taks"]);
    wrong("low = 0.3", "samples = 0", &["--samples"]);
    wrong("low = 0.3", "engine = { urls = [\"http://localhost:1\"] }", &["urls"]);
    wrong("low = 0.3", "engine = { url = [\"http://localhost:1\"] }", &["--completions"]);
    wrong("low = 0.3", "policy = \"model\"", &["--policy or --completions"]);
    wrong("low = 0.3", "config = \"r.toml\"", &["--reward or --config"]);
    wrong("reward = \"math\"\nlow", "reward = \"maht\"\nlow", &["math"]);
}

/// Six tasks and five completions of each; task i is solved i times.
fn solved(dir: &Path) -> (String, String) {
    let task = |i: usize| json!({"id": format!("t{i}"), "prompt": format!("{i}+1?"), "reference": {"answer": (i + 1).to_string()}});
    let tasks = write(dir, "tasks.jsonl", &lines(&(0..6).map(task).collect::<Vec<_>>()));
    let completion = |i: usize, k: usize| json!({"id": format!("t{i}"), "completion": format!("work {k}: \\boxed{{{}}}", if k < i { i + 1 } else { 77 })});
    let all: Vec<Value> = (0..6).flat_map(|i| (0..5).map(move |k| completion(i, k))).collect();
    (tasks, write(dir, "completions.jsonl", &lines(&all)))
}

#[test]
fn completions_become_pass_rates_and_rows_to_learn() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (tasks, completions) = solved(dir.path());
    let (kept, sft) = (path("kept.jsonl"), path("sft.jsonl"));
    done(&["pass-rate", &tasks, "--completions", &completions, "--reward", "math", "--out", &kept]);
    let rates: Vec<f64> =
        rows(&kept).iter().map(|r| r["meta"]["pass_rate"]["rate"].as_f64().unwrap()).collect();
    assert_eq!(rates, [0.2, 0.4, 0.6, 0.8]);
    done(&[
        "rejection",
        &tasks,
        "--completions",
        &completions,
        "--reward",
        "math",
        "--per-task",
        "2",
        "--pick",
        "first",
        "--out",
        &sft,
    ]);
    assert_eq!(rows(&sft).len(), 1 + 2 + 2 + 2 + 2);
    let config = format!("kind = \"jsonl\"\npath = {sft:?}\ncompletion = \"{{{{ completion }}}}\"");
    let config: rlvr::config::DataConfig = toml::from_str(&config).unwrap();
    let source = rlvr::data::TaskSource::open("s", &config, 1).unwrap();
    assert_eq!(source.example(0).unwrap().completion, "work 0: \\boxed{2}");
}

#[test]
fn a_policy_samples_and_a_journal_is_continued() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let model =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models/tiny-llama").display().to_string();
    let task =
        |i: usize| json!({"id": i.to_string(), "prompt": format!("{i}+1?"), "reference": {"answer": "1"}});
    let tasks = write(dir.path(), "tasks.jsonl", &lines(&(0..20).map(task).collect::<Vec<_>>()));
    let rewards = write(dir.path(), "rewards.toml", "kind = \"length\"\nsoft = 50\nmax = 100\n");
    let run_in = |name: &str, journal: &str, seed: &str, dtype: &str| {
        let out = path(name);
        let args = [
            "data",
            "pass-rate",
            &tasks,
            "--policy",
            &model,
            "--config",
            &rewards,
            "--samples",
            "2",
            "--max-tokens",
            "4",
            "--raw",
            "--low",
            "0",
            "--high",
            "1",
            "--journal",
            &path(journal),
            "--out",
            &out,
            "--seed",
            seed,
            "--dtype",
            dtype,
            "--force",
        ];
        let output = rlvr(&args, "");
        (output.status.code(), stderr(&output), std::fs::read(&out).unwrap_or_default())
    };
    let run = |name: &str, journal: &str, seed: &str| run_in(name, journal, seed, "f32");
    let (code, said, first) = run("a.jsonl", "j.jsonl", "1");
    assert_eq!(code, Some(0), "{said}");
    let journal = std::fs::read_to_string(path("j.jsonl")).unwrap();
    assert_eq!(journal.lines().count(), 40);
    // Cut off in the middle of the second chunk: the same rows come out.
    std::fs::write(path("j.jsonl"), &journal[..journal.len() - 30]).unwrap();
    assert_eq!(run("a.jsonl", "j.jsonl", "1").2, first);
    let (code, said, _) = run("b.jsonl", "j.jsonl", "2");
    assert!(code == Some(2) && said.contains("other settings"), "{said}");
    // Another type samples other completions, from the same weights and seed.
    let (code, said, _) = run_in("b.jsonl", "j.jsonl", "1", "bf16");
    assert!(code == Some(2) && said.contains("other settings"), "{said}");
    let (code, said, _) = run_in("b.jsonl", "rounded.jsonl", "1", "bf16");
    assert_eq!(code, Some(0), "{said}");
    assert!(std::fs::read_to_string(path("rounded.jsonl.settings.json")).unwrap().contains("bf16"));
}

#[test]
fn wrong_input_is_refused_with_file_line_and_hint() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let out = path("out.jsonl");
    let data = |args: &[&str], parts: &[&str]| {
        refused(&[&["data"], args, &["--out", &out]].concat(), "", parts);
        assert!(!Path::new(&out).exists());
    };
    let empty = write(dir.path(), "empty.jsonl", "");
    let broken = write(dir.path(), "broken.jsonl", "{\"question\": \"x\"}\n{\"quest");
    let strange = write(dir.path(), "strange.jsonl", "{\"q\": \"x\", \"a\": \"y\"}\n");
    let tasks = write(
        dir.path(),
        "tasks.jsonl",
        "{\"id\": 1, \"prompt\": \"x\", \"reference\": {\"answer\": \"1\"}, \"meta\": {\"topic\": \"t\"}}\n",
    );
    data(&["import", &empty], &["empty.jsonl: no rows in it"]);
    data(&["import", &path("nothing.jsonl")], &["nothing.jsonl: there is no such file"]);
    data(&["import", &broken], &["broken.jsonl:1:", "no known shape"]);
    data(&["import", &strange], &["strange.jsonl:1:", "--question and --answer", "it has: q, a"]);
    data(&["import", &strange, "--question", "q", "--answer", "b"], &["strange.jsonl:1:", "no field `b`"]);
    data(&["import", &strange, "--question", "q"], &["--answer"]);
    let lost = "{\"problem\": \"P\", \"answer\": null}\n{\"problem\": \"P\", \"answer\": \"1\"}\n";
    let lost = write(dir.path(), "lost.jsonl", lost);
    data(&["import", &lost], &["lost.jsonl:1:", "`answer`"]);
    let said = done(&["import", &lost, "--skip", "--out", &path("found.jsonl")]);
    assert!(said.contains("2 rows in, 1 out") && said.contains("cannot be read"), "{said}");
    for (prompt, part) in [
        (json!([{"role": "user", "content": "q", "name": "bob"}]), "`prompt[0].name`"),
        (json!([{"role": "user", "content": null}]), "`prompt[0].content`"),
        (
            json!([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]),
            "`prompt[0].content[0].type`",
        ),
        (json!([{"from": "human", "value": "q"}]), "`prompt[0].from`"),
        (json!([]), "`prompt` has no messages"),
        (json!({"role": "user", "content": "q"}), "`prompt` is a single message"),
        (json!(5), "`prompt` must be text or a list of messages, not a number"),
    ] {
        let good = json!({"id": "a", "prompt": "q", "reference": {"answer": "4"}});
        let bad = json!({"id": "b", "prompt": prompt, "reference": {"answer": "4"}});
        let file = write(dir.path(), "prompts.jsonl", &lines(&[good, bad]));
        data(&["import", &file], &["prompts.jsonl:2:", part]);
    }
    let number = write(dir.path(), "number.jsonl", "{\"question\": 5, \"answer\": \"x\"}\n");
    data(
        &["import", &number, "--question", "question", "--answer", "answer"],
        &["number.jsonl:1:", "not text"],
    );
    data(&["import", &strange, "--shape", "gms8k"], &["did you mean gsm8k?"]);
    data(&["import", &write(dir.path(), "x.txt", "x"), "--shape", "math"], &["--kind jsonl"]);
    #[cfg(unix)]
    {
        let piped = rlvr(
            &[
                "data",
                "import",
                "/dev/stdin",
                "--kind",
                "jsonl",
                "--question",
                "q",
                "--answer",
                "a",
                "--out",
                "-",
            ],
            "{\"q\": \"x\", \"a\": \"y\"}\n",
        );
        assert!(piped.status.success() && !piped.stdout.is_empty(), "{piped:?}");
    }
    for step in ["dedup", "choice-to-open"] {
        data(&[step, &empty], &["no rows in it"]);
        data(&[step, &broken], &["broken.jsonl:"]);
    }
    data(&["dedup", &tasks, "--threshold", "1.5"], &["--threshold 1.5"]);
    data(&["dedup", &tasks, "--on", "meta.topik"], &["tasks.jsonl:1", "did you mean `meta.topic`"]);
    data(&["decontaminate", &tasks], &["--against"]);
    data(&["decontaminate", &tasks, "--against", &empty], &["empty.jsonl: no rows"]);
    data(&["decontaminate", &tasks, "--against", &tasks, "--ngram", "2"], &["--ngram 2"]);
    data(&["filter", &tasks], &["no condition"]);
    data(&["filter", &tasks, "--field", "meta.topik=t"], &["did you mean `meta.topic`"]);
    data(&["filter", &tasks, "--field", "meta.topic"], &["meta.subject=Anatomy"]);
    data(&["cap", &tasks, "--field", "meta.topic", "--max", "x"], &["--max", "5%"]);
    data(&["cap", &tasks, "--values", "t", "--max", "1"], &["--field"]);
    let near =
        ["tasks.jsonl:1: where: the row has no field `promt`, did you mean `prompt`? (it has: id, prompt,"];
    data(&["filter", &tasks, "--where", "promt == 1"], &near);
    let test = ["decontaminate", &tasks, "--against", &tasks, "--against-where", "meta.topik == 't'"];
    data(
        &test,
        &["tasks.jsonl:1: --against-where: the row has no field `meta.topik`, did you mean `meta.topic`?"],
    );
    let packed = write(dir.path(), "rows.jsonl.gz", "");
    std::fs::write(&packed, b"\x1f\x8b\x08\x00rest").unwrap();
    let unpack = ["rows.jsonl.gz: is compressed (gzip)", "gunzip -k"];
    data(&["import", &packed], &unpack);
    data(&["import", &packed, "--kind", "jsonl"], &unpack);
    data(&["dedup", &packed], &unpack);
    data(&["import", "owner/name"], &["owner/name: there is no such file", "--hub-file"]);
    data(&["import", "owner/rows.jsonl"], &["owner/rows.jsonl: there is no such file"]);
    data(&["import", &tasks, "--hub-file", "x.jsonl"], &["owner/name"]);
    // Nothing stays: an error with the reason, and an empty file only when that is asked for.
    let (nothing, left_out) = (["filter", &tasks, "--where", "id == 2"], path("left-out.jsonl"));
    data(&nothing, &["tasks.jsonl: no row stays, 1 of 1 left out because: where is false", "--allow-empty"]);
    data(&[&nothing[..], &["--dropped", &left_out]].concat(), &["no row stays"]);
    assert!(!Path::new(&left_out).exists());
    let none = path("none.jsonl");
    done(&[&nothing[..], &["--allow-empty", "--out", &none]].concat());
    assert_eq!((rows(&none).len(), &manifest(&none)["steps"][0]["rows_out"]), (0, &json!(0)));
    let wrong = write(dir.path(), "wrong.jsonl", "{\"id\": 1, \"completion\": \"\\\\boxed{7}\"}\n");
    let solve = ["--completions", &wrong, "--reward", "math"];
    data(
        &[&["pass-rate", &tasks], &solve[..]].concat(),
        &["1 of 1 left out because: solved less often than 0.2"],
    );
    data(&[&["rejection", &tasks], &solve[..]].concat(), &["because: no correct solution"]);
    data(&["balance", &tasks, "--field", "topic"], &["no field `topic`"]);
    data(&["pass-rate", &tasks, "--reward", "math"], &["--policy"]);
    data(&["rejection", &tasks, "--completions", &empty, "--reward", "maht"], &["math"]);
    let pass_rate = |more: &[&str], part: &str| {
        data(&[&["pass-rate", &tasks, "--reward", "math"], more].concat(), &[part]);
        assert!(!Path::new(&path("out.jsonl")).exists());
    };
    let other = write(dir.path(), "other.jsonl", "{\"id\": \"b\", \"completion\": \"1\"}\n");
    pass_rate(&["--completions", &wrong, "--low", "0.9", "--high", "0.1"], "in order");
    pass_rate(&["--completions", &wrong, "--low", "2"], "--low");
    pass_rate(&["--completions", &wrong, "--policy", "x"], "--policy");
    pass_rate(&["--completions", &wrong, "--journal", &path("j")], "--journal");
    pass_rate(&["--completions", &other], "no completions");
    pass_rate(&["--completions", &path("none")], "there is no such file");
    pass_rate(&["--policy", &path("none")], "no policy at");
    let split =
        |parts: &str| rlvr(&["data", "split", &tasks, "--parts", parts, "--out-dir", &path("parts")], "");
    assert!(stderr(&split("a=0.5,b=0.6")).contains("add up to"));
    assert!(stderr(&split("a=0.5,b=0.5")).contains("nothing falls into"));
    assert!(!Path::new(&path("parts/a.jsonl")).exists() && !Path::new(&path("parts/b.jsonl")).exists());
    // What is there stays.
    std::fs::write(&out, "old\n").unwrap();
    refused(&["data", "dedup", &tasks, "--out", &out], "", &["out.jsonl exists", "--force"]);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "old\n");
    let invalid = rlvr(&["data", "validate", &broken], "");
    assert_eq!(invalid.status.code(), Some(2));
    let problems = rlvr(&["data", "validate", &strange], "");
    assert_eq!(problems.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&problems.stdout).contains("strange.jsonl:1: no `id`"));
}

#[test]
fn a_file_of_the_hub_is_imported_from_its_cache() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("hub/datasets--owner--sums");
    std::fs::create_dir_all(cache.join("refs")).unwrap();
    std::fs::create_dir_all(cache.join("snapshots/abc/main")).unwrap();
    std::fs::write(cache.join("refs/main"), "abc").unwrap();
    write(
        &cache.join("snapshots/abc/main"),
        "test.jsonl",
        "{\"question\": \"1+1?\", \"answer\": \"#### 2\"}\n",
    );
    let out = dir.path().join("out.jsonl").display().to_string();
    let import = |file: &str| {
        let args = [
            "data",
            "import",
            "owner/sums",
            "--hub-file",
            file,
            "--licence",
            "MIT",
            "--out",
            &out,
            "--force",
        ];
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rlvr"));
        command.args(args).env_remove("RUST_LOG").env("HF_HUB_OFFLINE", "1");
        command.env("HF_HUB_CACHE", dir.path().join("hub")).output().unwrap()
    };
    let output = import("main/test.jsonl");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(rows(&out)[0]["reference"]["answer"], "2");
    let input = &manifest(&out)["steps"][0]["inputs"][0];
    assert_eq!((&input["path"], &input["licence"]), (&json!("owner/sums/main/test.jsonl"), &json!("MIT")));
    let absent = import("main/train.jsonl");
    assert!(!absent.status.success() && stderr(&absent).contains("train.jsonl"), "{}", stderr(&absent));
}

#[test]
fn stats_count_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (train, _) = choices(dir.path());
    let output = rlvr(&["data", "stats", &train, "--by", "subject", "--json"], "");
    let stats: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&stats["rows"], &stats["duplicates"], &stats["contradictions"]),
        (&json!(40), &json!(1), &json!(0))
    );
    assert_eq!(stats["answers"], json!({"A": 20, "B": 20}));
    assert_eq!(stats["options"], json!({"3": 40}));
    assert_eq!(stats["fields"]["subject"].as_array().unwrap().len(), 2);
    let table = rlvr(&["data", "stats", &train, "--by", "subject"], "");
    assert!(String::from_utf8_lossy(&table.stdout).contains("right label"));
}
