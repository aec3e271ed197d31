//! Generated tasks, self-checks, audits and rescoring, on the command line.
use super::cli::{SMALL_RUN, lines, refused, rlvr, rows, stderr, write};
use rlvr::data::procedural::{kinds, shared_parameters};
use serde_json::{Value, json};

fn generate(args: &[&str]) -> Vec<Value> {
    rows(&rlvr(&[&["data", "generate"], args].concat(), ""))
}

#[test]
fn generated_tasks_are_accepted_by_the_other_commands() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    for kind in kinds() {
        let tasks = generate(&[kind.name, "--count", "20", "--set", "format=think"]);
        assert_eq!(tasks.len(), 20, "{}", kind.name);
        for task in &tasks {
            let keys: Vec<&String> = task.as_object().unwrap().keys().collect();
            let seen = ["digits", "lab_panel", "shapes"].contains(&kind.name);
            assert_eq!(keys[..4], ["id", "prompt", "reference", "completion"]);
            assert_eq!(keys[4..], ["images"][..usize::from(seen)]);
            assert!(task["prompt"].is_string());
        }
        for reward in [kind.reward, "procedural"] {
            let scored = rows(&rlvr(&["score", "--reward", reward, "-"], &lines(&tasks)));
            assert!(scored.iter().all(|row| row["verdict"] == "correct"), "{} {reward}", kind.name);
            let checked = rlvr(&["score", "--reward", reward, "--self-check", "-"], &lines(&tasks));
            assert_eq!(checked.status.code(), Some(0), "{} {reward}: {}", kind.name, stderr(&checked));
        }
    }
    // As a benchmark and as a data source.
    let file = path("sudoku.jsonl");
    let args = ["data", "generate", "sudoku", "--count", "30", "--set", "system=Think.", "--out", &file];
    assert!(rlvr(&args, "").status.success());
    let tasks: Vec<Value> =
        std::fs::read_to_string(&file).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(tasks[0]["prompt"][0], json!({"role": "system", "content": "Think."}));
    let completions = write(dir.path(), "completions.jsonl", &lines(&tasks));
    let args =
        ["eval", "score", "--tasks", &file, "--reward", "procedural", "--completions", &completions, "--out"];
    assert!(rlvr(&[&args[..], &[&path("eval")]].concat(), "").status.success());
    let results = std::fs::read_to_string(dir.path().join("eval/results.json")).unwrap();
    let results: Value = serde_json::from_str(&results).unwrap();
    assert_eq!(results["tasks"]["sudoku"]["accuracy"], 1.0);
    let config: rlvr::config::DataConfig =
        toml::from_str(&format!("kind = \"jsonl\"\npath = {file:?}\ncompletion = \"{{{{ completion }}}}\""))
            .unwrap();
    let source = rlvr::data::TaskSource::open("s", &config, 1).unwrap();
    assert_eq!((source.len(), source.task(0).prompt.len()), (30, 2));
    assert_eq!(source.task(3).reference, tasks[3]["reference"]);
    assert_eq!(source.example(3).unwrap().completion, tasks[3]["completion"]);
}

#[test]
fn generation_is_seeded_split_and_explained() {
    let ids = |args: &[&str]| generate(args).iter().map(|t| t["id"].clone()).collect::<Vec<_>>();
    let some = ["countdown", "--count", "50"];
    assert_eq!(ids(&some), ids(&some));
    assert_ne!(ids(&some), ids(&[&some[..], &["--seed", "1"]].concat()));
    let heldout = ids(&[&some[..], &["--split", "heldout"]].concat());
    assert!(ids(&some).iter().all(|id| !heldout.contains(id)));
    let four = generate(&["countdown", "--count", "3", "--set", "numbers=4"]);
    assert_eq!(four[0]["reference"]["numbers"].as_array().unwrap().len(), 4);

    let list = rlvr(&["data", "generate", "--list"], "");
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    for kind in kinds() {
        assert!(list.contains(kind.name) && list.contains(&kind.about), "{}", kind.name);
        for parameter in kind.parameters.iter().chain(&shared_parameters()) {
            assert!(list.contains(&parameter.about), "{parameter:?}");
        }
    }
    refused(&["data", "generate", "countdwn"], "", &["countdwn", "did you mean countdown?", "sudoku"]);
    refused(&["data", "generate"], "", &["KIND"]);
    refused(&["data", "generate", "countdown", "--set", "nubmers=4"], "", &["--set nubmers=4", "`numbers`"]);
    refused(&["data", "generate", "countdown", "--set", "numbers=9"], "", &["numbers", "2 to 6"]);
    refused(&["data", "generate", "addition", "--split", "test"], "", &["heldout"]);
}

#[test]
fn a_self_check_names_every_refused_reference() {
    let dir = tempfile::tempdir().unwrap();
    let good = json!({"id": "good", "reference": {"numbers": [2, 3], "target": 6}});
    let impossible = json!({"id": "impossible", "reference": {"numbers": [1, 1], "target": 50}});
    let other = json!({"answer": "4"});
    let file = write(dir.path(), "tasks.jsonl", &lines(&[good.clone(), impossible, good.clone(), other]));
    let done = rlvr(&["score", "--reward", "countdown", "--self-check", &file], "");
    assert_eq!(done.status.code(), Some(1), "{}", stderr(&done));
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains("tasks.jsonl:2: impossible: ") && text.contains("no right answer"), "{text}");
    assert!(text.contains("tasks.jsonl:4: ") && text.contains("reference.numbers"), "{text}");
    assert!(stderr(&done).contains("2 of 4 rows"));
    // A reward that refuses what its own part proposes.
    let rewards = "kind = \"all\"\nof = [{ kind = \"exact\" }, { kind = \"regex\", pattern = \"^x\" }]\n";
    let config = write(dir.path(), "rewards.toml", rewards);
    let done = rlvr(&["score", "--config", &config, "--self-check", "-"], "{\"answer\": \"4\"}\n");
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stdout).contains("stdin:1: <answer>4</answer> is incorrect"));
    let done = rlvr(&["score", "--reward", "exact", "--self-check", "-"], "{\"answer\": \"4\"}\n");
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let check = ["score", "--reward", "exact", "--self-check", "-"];
    refused(&check, "{\"answer\": \"4\"}\n{\"id\": 1}\n", &["stdin:2", "answer"]);
    refused(&check, "", &["no rows"]);
}

#[test]
fn audits_measure_error_rates_against_labels_and_rewards() {
    let dir = tempfile::tempdir().unwrap();
    let row = |id: usize, completion: &str, label: Value| json!({"id": id, "completion": completion, "reference": {"answer": "1/2"}, "label": label});
    // 20 right ones, of which one is refused; 10 wrong ones, of which three are accepted; two without a verdict.
    let mut all: Vec<Value> = (0..19).map(|i| row(i, "\\boxed{0.5}", json!(true))).collect();
    all.push(row(19, "\\boxed{3}", json!("correct")));
    all.extend((20..27).map(|i| row(i, "\\boxed{3}", json!("incorrect"))));
    all.extend((27..30).map(|i| row(i, "The answer is 1/2.", json!(false))));
    all.extend([row(30, "4", Value::Null), row(31, "4", json!("unverifiable"))]);
    let report = dir.path().join("report.json").display().to_string();
    let audit = ["score", "--reward", "math", "--against", "labels", "-"];
    let done = rlvr(&[&audit[..], &["--report", &report]].concat(), &lines(&all));
    let found = rows(&done);
    let errors: Vec<(&Value, &str)> =
        found.iter().map(|r| (&r["id"], r["error"].as_str().unwrap())).collect();
    let (fp, fn_) = ("false_positive", "false_negative");
    assert_eq!(errors, [(&json!(19), fn_), (&json!(27), fp), (&json!(28), fp), (&json!(29), fp)]);
    assert_eq!((&found[1]["line"], &found[1]["reward"]["verdict"]), (&json!(28), &json!("correct")));
    let text = stderr(&done);
    for part in [
        "30 rows compared, 2 left out",
        // Wilson's intervals of 3 in 10 and 1 in 20.
        "false positives: 0.3000 [0.1078, 0.6032], 3 of 10 wrong answers",
        "false negatives: 0.0500 [0.0089, 0.2361], 1 of 20 right answers",
        "boxed/rational",
        "cue/",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&report).unwrap()).unwrap();
    assert_eq!(
        report["confusion"],
        json!({"true_positives": 19, "false_positives": 3, "false_negatives": 1, "true_negatives": 7})
    );
    assert_eq!(report["false_positive"]["of"], 10);
    let methods = report["by_method"].as_object().unwrap();
    assert!(methods.len() >= 2 && methods.values().any(|m| m["false_positives"] == 3), "{methods:?}");

    let sampled =
        |seed: &str| rows(&rlvr(&[&audit[..], &["--sample", "2", "--seed", seed]].concat(), &lines(&all)));
    assert_eq!((sampled("1").len(), sampled("1")), (2, sampled("1")));
    assert!((2..9).any(|seed| sampled(&seed.to_string()) != sampled("1")));

    // `exact` refuses what only equals the reference as a number.
    let done = rlvr(&["score", "--reward", "exact", "--against", "math", "-"], &lines(&all));
    assert!(rows(&done).iter().all(|r| r["error"] == fn_ && r["against"]["verdict"] == "correct"));
    assert!(stderr(&done).contains("19 of 22 right answers"), "{}", stderr(&done));
    let own = write(dir.path(), "own.toml", "kind = \"math\"\n");
    let same = rlvr(&["score", "--reward", "math", "--against", &own, "-"], &lines(&all));
    assert!(rows(&same).is_empty());

    refused(&audit, &lines(&[row(1, "4", json!("perhaps"))]), &["stdin:1", "label", "perhaps"]);
    refused(&audit, &lines(&[row(1, "4", Value::Null)]), &["no row has a `label`"]);
    refused(&["score", "--reward", "math", "--against", "mth", "-"], "", &["mth"]);
}

#[test]
fn rollouts_of_a_run_are_judged_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = write(dir.path(), "small.toml", SMALL_RUN);
    let run = dir.path().join("run").display().to_string();
    assert!(rlvr(&["train", &config, "--out", &run], "").status.success());
    let recorded = std::fs::read_to_string(dir.path().join("run/rollouts.jsonl")).unwrap();
    let recorded: Vec<Value> = recorded.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(recorded.iter().all(|r| r["reference"]["answer"].is_string() && r.get("meta").is_none()));

    // The reward of the run gives the same scores again.
    let same = rlvr(&["score", "--config", &config, "--rescore", &run], "");
    let found = rows(&same);
    assert_eq!(found.len(), recorded.len());
    for (row, old) in found.iter().zip(&recorded) {
        assert_eq!((&row["score"], &row["verdict"]), (&old["outcome"]["score"], &old["outcome"]["verdict"]));
        assert_eq!(
            (&row["step"], &row["group"], &row["sample"]),
            (&old["step"], &old["group"], &old["sample"])
        );
        assert_eq!(row["old"]["score"], old["outcome"]["score"]);
    }
    assert!(stderr(&same).contains("0 changed"), "{}", stderr(&same));

    let constant = write(dir.path(), "constant.toml", "kind = \"constant\"\nvalue = 1.0\n");
    let other = rlvr(&["score", "--config", &constant, "--rescore", &run], "");
    assert!(rows(&other).iter().all(|row| row["score"] == 1.0));
    let text = stderr(&other);
    assert!(text.contains(", 1.0000 now") && text.contains("before") && text.contains("correct"), "{text}");

    let foreign = "{\"step\":1,\"id\":\"a\",\"completion\":\"4\",\"outcome\":{}}\n";
    let foreign = write(dir.path(), "rollouts.jsonl", foreign);
    refused(&["score", "--reward", "exact", "--rescore", &foreign], "", &["rollouts.jsonl:1", "`reference`"]);
    let here = dir.path().display().to_string();
    refused(&["score", "--reward", "exact", "--rescore", &here], "", &["rollouts.jsonl:1"]);
    refused(&["score", "--reward", "exact", "--rescore", "nowhere"], "", &["nowhere"]);
}
