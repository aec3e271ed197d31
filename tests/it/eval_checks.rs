//! `rlvr eval`: what is refused before anything is answered, what results must record, and what goes on later.
use crate::cli::{lines, refused, rlvr, rows, stderr, write};
use crate::evals::{QUIZ, Server, model, quiz, reply};
use serde_json::{Value, json};
use std::path::Path;

fn json_of(path: impl AsRef<Path>) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A folder with the quiz, and one for every output.
struct Quiz {
    dir: tempfile::TempDir,
    definition: String,
}

impl Quiz {
    fn new(items: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let definition = write(dir.path(), "quiz.toml", QUIZ);
        write(dir.path(), "quiz.jsonl", &quiz(items));
        Self { dir, definition }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Completions of the first `items`, of which `right` says which are.
    fn completions(
        &self,
        name: &str,
        items: usize,
        samples: usize,
        right: impl Fn(usize, usize) -> bool,
    ) -> String {
        let letter = |i: usize, s: usize| ["A", "B", "C", "D"][(i + usize::from(!right(i, s))) % 4];
        let row = |i: usize, s: usize| json!({"id": format!("q{i}"), "completion": letter(i, s)});
        let all: Vec<Value> =
            (0..items).flat_map(|i| (0..samples).map(move |s| (i, s))).map(|(i, s)| row(i, s)).collect();
        write(self.dir.path(), name, &lines(&all))
    }

    fn score(&self, completions: &str, out: &str, more: &[&str]) -> std::process::Output {
        let out = self.path(out);
        let args =
            ["eval", "score", "--tasks", &self.definition, "--completions", completions, "--out", &out];
        rlvr(&[&args[..], more].concat(), "")
    }

    fn run(&self, out: &str, more: &[&str]) -> std::process::Output {
        let (policy, out) = (model("tiny-llama"), self.path(out));
        let args = ["eval", "run", "--policy", &policy, "--tasks", &self.definition, "--out", &out];
        rlvr(&[&args[..], more].concat(), "")
    }

    fn results(&self, out: &str) -> Value {
        json_of(self.dir.path().join(out).join("results.json"))
    }
}

#[test]
fn several_samples_have_the_interval_of_the_report() {
    let quiz = Quiz::new(12);
    for (name, right) in
        [("wrong", (|_, _| false) as fn(usize, usize) -> bool), ("mixed", |i, s| i > 6 && s > i % 3)]
    {
        let completions = quiz.completions(&format!("{name}.jsonl"), 12, 4, right);
        let done = quiz.score(&completions, name, &[]);
        assert!(done.status.success(), "{}", stderr(&done));
        let found = &quiz.results(name)["tasks"]["quiz"];
        let high = found["ci95"][1].as_f64().unwrap();
        assert!(high > found["accuracy"].as_f64().unwrap() + 0.1, "{found}");
        let table = String::from_utf8(done.stdout).unwrap();
        assert!(table.contains(&format!("{high:.3}]")) && table.contains("maj@4 "), "{table}");
        let report = rlvr(&["eval", "report", &quiz.path(name), "--format", "json"], "");
        let report: Value = serde_json::from_slice(&report.stdout).unwrap();
        let report = &report["evaluations"][0]["tasks"]["quiz"];
        for key in ["ci95", "accuracy", "standard_error", "samples"] {
            assert_eq!(found[key], report[key], "{key}");
        }
        for name in ["pass@2", "pass@4", "maj@4"] {
            assert_eq!(found[name], report[name]["mean"]);
            assert_eq!(found[format!("{name}_standard_error")], report[name]["standard_error"]);
        }
    }
}

#[test]
fn a_judge_that_failed_is_asked_again_by_the_same_command() {
    let quiz = Quiz::new(3);
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::start(move |_| match calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0..2 => (400, "{}".into()),
        _ => (200, reply("CORRECT")),
    });
    let endpoint = format!("kind = \"endpoint\"\nurl = \"{}\"\nmodel = \"fake\"\n", server.url);
    let judge = write(quiz.dir.path(), "judge.toml", &endpoint);
    let run = || {
        let done = quiz.run("out", &["--judge", &judge, "--mode", "both"]);
        assert!(done.status.success(), "{}", stderr(&done));
        (quiz.results("out")["tasks"]["quiz"]["judge"].clone(), stderr(&done))
    };
    let (first, _) = run();
    assert!(first["unjudged"].as_u64().unwrap() >= 1, "{first}");
    let (second, log) = run();
    assert_eq!((&second["unjudged"], &second["judged"]), (&json!(0), &json!(3)), "{log}");
    assert!(log.contains("asking the judge again"), "{log}");
    let asked = server.requests();
    assert_eq!(run().0, second);
    assert_eq!(server.requests(), asked);
}

#[test]
fn mistakes_are_found_before_anything_is_answered() {
    let quiz = Quiz::new(8);
    let out = quiz.path("out");
    // There is no policy either: these come first.
    let run = |more: &[&str], parts: &[&str]| {
        let args = ["eval", "run", "--policy", "nowhere", "--tasks", &quiz.definition, "--out", &out];
        refused(&[&args[..], more].concat(), "", parts);
        assert!(!Path::new(&out).exists(), "{more:?}");
    };
    let missing = quiz.path("nowhere.jsonl");
    run(&["--contamination", &missing], &["nowhere.jsonl", "No such file"]);
    let args = ["eval", "run", "--policy", "nowhere", "--tasks", &quiz.definition, "--out", &out];
    let said = stderr(&rlvr(&[&args[..], &["--contamination", &missing]].concat(), ""));
    assert!(!said.contains("[data"), "{said}");
    run(&["--fail-under", "quizz=0.5"], &["quizz", "the tasks are quiz"]);
    run(&["--mode", "both", "--fail-under", "x=0.5"], &["quiz, quiz/likelihood, quiz/likelihood_norm"]);
    run(&["--reward", "math"], &["--reward math", "JSON Lines"]);
    let file = write(quiz.dir.path(), "q.jsonl", "");
    refused(
        &["eval", "run", "--policy", "nowhere", "--tasks", &quiz.definition, "--out", &file],
        "",
        &["q.jsonl is no directory"],
    );

    let completions = quiz.completions("c.jsonl", 8, 1, |_, _| true);
    let score = |more: &[&str], parts: &[&str]| {
        let args = ["eval", "score", "--completions", &completions];
        refused(&[&args[..], more].concat(), "", parts);
    };
    let tasks = &*quiz.definition;
    score(&["--tasks", tasks, "--out", &file], &["q.jsonl is no directory", "directory"]);
    score(&["--tasks", tasks, "--out", &out, "--reward", "math"], &["--reward math", "JSON Lines"]);
    score(&["--tasks", tasks, "--out", &out, "--fail-under", "q=1"], &["the tasks are quiz"]);
    score(&["--tasks", "addition", "--out", &out, "--shuffle-options", "1"], &["addition", "no options"]);
    assert!(!Path::new(&out).exists());
}

#[test]
fn references_that_cannot_be_used_are_named() {
    let quiz = Quiz::new(8);
    let data = std::fs::read_to_string(quiz.dir.path().join("quiz.jsonl")).unwrap();
    write(quiz.dir.path(), "quiz.jsonl", &data.replacen("\"answer\":\"C\"", "\"answer\":\"Q\"", 1));
    let done = quiz.run("out", &["--mode", "both"]);
    assert!(done.status.success(), "{}", stderr(&done));
    let said = stderr(&done);
    let line = said.lines().find(|line| line.contains("quiz.jsonl:3: ")).unwrap_or_default();
    assert!(line.contains("\"Q\"") && said.contains("1 item"), "{said}");
    // The same words as for a plain file, and in the rows of both modes.
    let reason = line.split("quiz.jsonl:3: ").nth(1).unwrap();
    let plain =
        write(quiz.dir.path(), "plain.jsonl", &std::fs::read_to_string(quiz.path("quiz.jsonl")).unwrap());
    let completions = quiz.completions("c.jsonl", 8, 1, |_, _| true);
    let args = ["eval", "score", "--tasks", &plain, "--completions", &completions, "--out", "unused"];
    refused(&args, "", &[&format!("plain.jsonl:3: {reason}")]);
    let samples = std::fs::read_to_string(quiz.dir.path().join("out/samples.jsonl")).unwrap();
    let of_item =
        samples.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()).filter(|r| r["id"] == "q2");
    for row in of_item {
        let found = (&row["verdict"], &row["reason"]);
        assert_eq!(found, (&json!("unverifiable"), &json!("the reference names no option")), "{row}");
    }
}

#[test]
fn numbers_of_many_digits_are_numbers_to_a_filter() {
    let dir = tempfile::tempdir().unwrap();
    let filtered = QUIZ.replace("[source]", "filter = \"rank < 0.5\"\n[source]");
    let definition =
        write(dir.path(), "quiz.toml", &filtered.replace("[schema]", "[schema]\nrank = \"number\""));
    let mut all: Vec<String> = quiz(8).lines().map(String::from).collect();
    for (i, rank) in ["0.1234567890123456789012", "123456789012345678901234567890"].iter().enumerate() {
        all[i] = all[i].replacen('{', &format!("{{\"rank\":{rank},"), 1);
    }
    all[2..].iter_mut().for_each(|row| *row = row.replacen('{', "{\"rank\":0.25,", 1));
    write(dir.path(), "quiz.jsonl", &all.join("\n"));
    let done = rlvr(&["eval", "validate", "--tasks", &definition], "");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && text.contains("7 items"), "{text}{}", stderr(&done));
}

#[test]
fn a_plain_file_is_validated_with_a_reward() {
    let dir = tempfile::tempdir().unwrap();
    let row = |id: usize, answer: &str| json!({"id": id, "question": "1+1?", "answer": answer});
    let good = write(dir.path(), "good.jsonl", &lines(&[row(1, "2"), row(2, "2")]));
    let done = rlvr(&["eval", "validate", "--tasks", &good, "--reward", "math"], "");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && text.contains("good: 2 items") && text.contains("always: 2 "), "{text}");
    let wrong = json!({"id": 3, "answer": "2"});
    let bad = write(dir.path(), "bad.jsonl", &lines(&[row(1, "2"), row(1, "2"), wrong]));
    let done = rlvr(&["eval", "validate", "--tasks", &bad, "--reward", "math"], "");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(1), "{text}");
    assert!(
        text.contains("bad.jsonl:2: the id") && text.contains("bad.jsonl:3: the row has no `prompt`"),
        "{text}"
    );
    let quiz = Quiz::new(8);
    write(dir.path(), "choice.jsonl", &std::fs::read_to_string(quiz.path("quiz.jsonl")).unwrap());
    let choice = dir.path().join("choice.jsonl").display().to_string();
    let done = rlvr(&["eval", "validate", "--tasks", &choice], "");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}

#[test]
fn one_rule_decides_what_a_regression_is() {
    let quiz = Quiz::new(60);
    let score = |name: &str, right: fn(usize, usize) -> bool, more: &[&str]| {
        let completions = quiz.completions(&format!("{name}.jsonl"), 60, 1, right);
        quiz.score(&completions, name, more)
    };
    assert!(score("good", |_, _| true, &[]).status.success());
    let good = quiz.path("good");
    // One item less of 60 is no regression; half of them is.
    let near = score("near", |i, _| i > 0, &["--baseline", &good]);
    assert!(near.status.success() && stderr(&near).contains("no regression"), "{}", stderr(&near));
    let half = score("half", |i, _| i % 2 == 0, &["--baseline", &format!("{good}/results.json")]);
    assert_eq!(half.status.code(), Some(1));
    let report = rlvr(&["eval", "report", &quiz.path("half"), "--baseline", &good], "");
    assert_eq!(report.status.code(), Some(1));
    let reason = "0.500, the baseline 1.000: -0.500";
    assert!(stderr(&half).contains(reason) && stderr(&report).contains(reason), "{}", stderr(&half));
    assert!(score("again", |i, _| i % 2 == 0, &["--baseline", &good, "--tolerance", "0.6"]).status.success());

    // A task that the baseline has and the evaluation has not.
    let both = format!("{},addition", quiz.definition);
    let completions = quiz.path("good.jsonl");
    let args =
        ["eval", "score", "--tasks", &both, "--completions", &completions, "--out", &quiz.path("both")];
    assert!(rlvr(&args, "").status.success());
    let lacking = score("lacking", |_, _| true, &["--baseline", &quiz.path("both")]);
    assert_eq!(lacking.status.code(), Some(1));
    let report = rlvr(&["eval", "report", &quiz.path("lacking"), "--baseline", &quiz.path("both")], "");
    for output in [&lacking, &report] {
        assert!(
            stderr(output).contains("addition") && stderr(output).contains("no item of the baseline"),
            "{}",
            stderr(output)
        );
    }

    // The data has changed since: before any policy is opened.
    write(quiz.dir.path(), "quiz.jsonl", &super::evals::quiz(60).replacen("please", "kindly", 1));
    let out = quiz.path("changed");
    let args = [
        "eval",
        "run",
        "--policy",
        "nowhere",
        "--tasks",
        &quiz.definition,
        "--out",
        &out,
        "--baseline",
        &good,
    ];
    refused(&args, "", &["another task"]);
}

#[test]
fn another_evaluation_is_replaced_by_force_only() {
    let quiz = Quiz::new(8);
    let first = quiz.completions("first.jsonl", 8, 1, |_, _| true);
    let second = quiz.completions("second.jsonl", 8, 1, |_, _| false);
    assert!(quiz.score(&first, "out", &[]).status.success());
    // The same again loses nothing.
    assert!(quiz.score(&first, "out", &[]).status.success());
    let other = quiz.score(&second, "out", &[]);
    assert_eq!(other.status.code(), Some(2));
    assert!(
        stderr(&other).contains("completions") && stderr(&other).contains("--force"),
        "{}",
        stderr(&other)
    );
    assert_eq!(quiz.results("out")["tasks"]["quiz"]["accuracy"], 1.0);
    // Other completions under the same name.
    write(quiz.dir.path(), "first.jsonl", &std::fs::read_to_string(&second).unwrap());
    assert_eq!(quiz.score(&first, "out", &[]).status.code(), Some(2));
    assert!(quiz.score(&first, "out", &["--force"]).status.success());
    assert_eq!(quiz.results("out")["tasks"]["quiz"]["accuracy"], 0.0);
}

#[test]
fn samples_judged_again_keep_where_they_come_from() {
    let quiz = Quiz::new(6);
    let done = quiz.run("made", &["--few-shot", "2", "--seed", "5", "--max-tokens", "100000"]);
    assert!(done.status.success(), "{}", stderr(&done));
    let said = stderr(&done);
    assert!(said.contains("6 of 6 prompts and 100000 tokens exceed the policy's context of 256"), "{said}");
    assert!(
        said.contains("the examples before its questions are items of") && said.contains("evaluated too"),
        "{said}"
    );
    let samples = quiz.path("made/samples.jsonl");
    assert!(quiz.score(&samples, "judged", &[]).status.success());
    // And once more from there.
    assert!(quiz.score(&quiz.path("judged/samples.jsonl"), "twice", &[]).status.success());
    let made = quiz.results("made");
    for out in ["judged", "twice"] {
        let found = quiz.results(out);
        for key in ["policy", "policy_hash", "template_hash", "seed", "few_shot"] {
            assert!(!found["settings"][key].is_null(), "{key}");
            assert_eq!(found["settings"][key], made["settings"][key], "{key}");
        }
        let text = std::fs::read_to_string(quiz.dir.path().join(out).join("results.md")).unwrap();
        assert!(text.contains("policy_hash"), "{text}");
    }
    // In place it would replace the evaluation of the policy.
    assert_eq!(quiz.score(&samples, "made", &[]).status.code(), Some(2));
    // The short fields of the data row group the questions.
    let args = ["compare", &quiz.path("made"), &quiz.path("judged"), "--cluster", "subject", "--json"];
    assert_eq!(rows(&rlvr(&args, ""))[0]["tasks"]["quiz"]["clusters"], 2);
    assert_eq!(made["settings"]["tasks"]["quiz"]["verifier"]["version"], rlvr::rewards::VERIFIER_VERSION);
}

#[cfg(unix)]
#[test]
fn a_signal_leaves_whole_items_and_the_command_to_go_on() {
    use std::process::{Command, Stdio};
    let quiz = Quiz::new(640);
    assert!(quiz.run("whole", &[]).status.success());
    let (policy, out) = (model("tiny-llama"), quiz.path("out"));
    let child = Command::new(env!("CARGO_BIN_EXE_rlvr"))
        .args(["eval", "run", "--policy", &policy, "--tasks", &quiz.definition, "--out", &out, "--force"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let samples = Path::new(&out).join("samples.jsonl");
    while std::fs::metadata(&samples).map_or(0, |m| m.len()) == 0 {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(
        said.contains("go on with: ") && said.contains("eval run") && !said.contains("--force"),
        "{said}"
    );
    let rows = std::fs::read_to_string(&samples).unwrap().lines().count();
    assert!(rows.is_multiple_of(64) && (64..640).contains(&rows), "{rows} rows");
    assert!(!Path::new(&out).join("results.json").exists());
    assert!(quiz.run("out", &[]).status.success());
    assert_eq!(std::fs::read(samples).unwrap(), std::fs::read(quiz.path("whole/samples.jsonl")).unwrap());
}
