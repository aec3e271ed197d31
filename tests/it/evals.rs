//! `rlvr eval`: definitions, checks, runs that go on, options by likelihood, and the verdicts that others get wrong.
use crate::cli::{lines, refused, rlvr, rows, stderr, write};
use rlvr::eval::validate::validate;
use rlvr::eval::{Benchmark, OpenSettings, builtin};
use rlvr::rewards::{Response, RewardConfig, Task, Verdict, score_one};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

pub(crate) fn model(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models").join(name);
    path.display().to_string()
}

/// Real data where it is: `RLVR_EVAL_DATA`, or `shared/data` beside the repository.
fn data() -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let dir = std::env::var_os("RLVR_EVAL_DATA").map_or(beside, PathBuf::from);
    dir.join("medqa/test.jsonl").is_file().then_some(dir)
}

/// A four-option benchmark of `n` items whose right answers go round.
pub(crate) fn quiz(n: usize) -> String {
    let row = |i: usize| {
        let (subject, answer) = (["x", "y"][i % 2], ["A", "B", "C", "D"][i % 4]);
        json!({
            "id": format!("q{i}"), "question": format!("Question {i} of the quiz, please?"), "subject": subject,
            "options": ["alpha", "beta", "gamma", "delta"], "answer": answer,
        })
    };
    lines(&(0..n).map(row).collect::<Vec<_>>())
}

pub(crate) const QUIZ: &str = r#"name = "quiz"
title = "A quiz"
license = "MIT"
prompt = "{% if question %}{{ question }}\n{% endif %}{{ lettered }}\nAnswer:"
[source]
file = "quiz.jsonl"
[schema]
question = "text"
options = "list"
[fields]
question = "{{ question }}"
options = "{{ options }}"
answer = "{{ answer }}"
group = "{{ subject }}"
[reward]
kind = "choice"
[generation]
max_tokens = 4
[few_shot]
count = 0
completion = "{{ label }}"
[likelihood]
prompt = "{{ question }}\n{{ lettered }}\nAnswer:"
"#;

#[test]
fn constant_answers_score_what_they_must() {
    let Some(data_dir) = data() else { return };
    let settings = OpenSettings { data_dir, ..OpenSettings::default() };
    let check = |name: &str, always: &[(&str, usize)]| {
        let (file, text) = (builtin::definition(name).unwrap().unwrap(), builtin::text(name).unwrap());
        let found = validate(&file, text, &settings).unwrap();
        for check in &found.checks {
            assert_eq!(check.failed, 0, "{name}: {}: {:?}", check.name, check.problems);
        }
        for (answer, correct) in always {
            let baseline = found.baselines.iter().find(|b| b.answer == *answer).unwrap();
            assert_eq!(baseline.correct, *correct, "{name} {answer}");
        }
        found.baselines.iter().map(|b| (b.answer.clone(), b.accuracy)).collect::<Vec<_>>()
    };
    let share = |found: &[(String, f64)], answer: &str| {
        let accuracy = found.iter().find(|(a, _)| a == answer).unwrap().1;
        format!("{:.1}", 100.0 * accuracy)
    };
    assert_eq!(share(&check("medqa", &[("A", 353)]), "A"), "27.7");
    assert_eq!(share(&check("medmcqa", &[("A", 281)]), "A"), "33.9");
    check("pubmedqa", &[("Y", 276), ("N", 169), ("M", 55)]);
    for name in ["mmlu_medical", "gsm8k", "math500"] {
        check(name, &[]);
    }
}

/// Rows as the data sets publish them, made up here.
#[test]
fn definitions_read_the_published_fields() {
    let dir = tempfile::tempdir().unwrap();
    let put = |file: &str, row: Value| {
        std::fs::create_dir_all(dir.path().join(file).parent().unwrap()).unwrap();
        std::fs::write(dir.path().join(file), format!("{row}\n")).unwrap();
    };
    put(
        "medbullets/test.jsonl",
        json!({"link": "l", "question": "Which?", "opa": "one", "opb": "two", "opc": "three", "opd": "four",
               "ope": "five", "answer_idx": "E", "answer": "five", "explanation": "because"}),
    );
    put(
        "medxpertqa/text_test.jsonl",
        json!({"id": "Text-0", "question": "Which?\nAnswer Choices: (A) one (B) two", "label": "B",
               "options": {"A": "one", "B": "two", "C": "three"}, "medical_task": "Diagnosis",
               "body_system": "Nervous", "question_type": "Reasoning"}),
    );
    put(
        "aime/2024.jsonl",
        json!({"id": 60, "problem": "1+1?", "solution": "so", "answer": "002", "year": "2024"}),
    );
    put("aime/2025.jsonl", json!({"id": "0", "problem": "1+1?", "answer": 2}));
    let settings = OpenSettings { data_dir: dir.path().into(), ..OpenSettings::default() };
    let open = |name: &str| {
        let (file, text) = (builtin::definition(name).unwrap().unwrap(), builtin::text(name).unwrap());
        Benchmark::open(&file, text, &settings).unwrap()
    };
    let judge =
        |b: &Benchmark, text: &str| score_one(&*b.reward, &b.items[0].task, Response::new(text)).verdict;
    let medbullets = open("medbullets");
    assert!(
        medbullets.items[0].task.prompt[0]
            .content
            .contains("Which?\n\nA. one\nB. two\nC. three\nD. four\nE. five\n\n")
    );
    assert_eq!(judge(&medbullets, "The answer is E."), Verdict::Correct);
    let expert = open("medxpertqa_text");
    assert!(!expert.items[0].task.prompt[0].content.contains("Answer Choices"));
    assert_eq!(judge(&expert, "B"), Verdict::Correct);
    assert_eq!(expert.items[0].options.len(), 3);
    for name in ["aime2024", "aime2025"] {
        assert_eq!(judge(&open(name), "so \\boxed{2}"), Verdict::Correct, "{name}");
    }
    assert_eq!(open("addition").items.len(), 500);
}

#[test]
fn validate_names_what_is_wrong_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let definition = write(dir.path(), "quiz.toml", QUIZ);
    write(dir.path(), "quiz.jsonl", &quiz(40));
    let good = rlvr(&["eval", "validate", "--tasks", &definition], "");
    let text = String::from_utf8(good.stdout).unwrap();
    assert!(good.status.success() && text.contains("always: A 25.0 % (10)"), "{text}");

    let bad = quiz(40).replace("\"q3\"", "\"q2\"").replacen("\"beta\"", "\"alpha\"", 1).replacen(
        "\"answer\":\"C\"",
        "\"answer\":\"Q\"",
        1,
    );
    let bad = bad.replacen("\"question\":\"Question 9 of the quiz, please?\"", "\"question\":9", 1);
    write(dir.path(), "quiz.jsonl", &bad);
    let found = rlvr(&["eval", "validate", "--tasks", &definition], "");
    let text = String::from_utf8(found.stdout).unwrap();
    assert_eq!(found.status.code(), Some(1), "{text}");
    for part in [
        "quiz.jsonl:4: the id \"q2\"",
        "quiz.jsonl:3",
        "quiz.jsonl:10: schema: `question` is no text but a number",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let completions = write(dir.path(), "rows.jsonl", "");
    let args = ["eval", "score", "--completions", &completions, "--out", "x", "--tasks", &definition];
    refused(&args, "", &["quiz.jsonl:10: schema: `question`"]);
    let sum = QUIZ
        .replace("file = \"quiz.jsonl\"", &format!("file = \"quiz.jsonl\"\nsha256 = \"{}\"", "0".repeat(64)));
    let summed = write(dir.path(), "sum.toml", &sum);
    refused(&["eval", "validate", "--tasks", &summed], "", &["SHA-256", "quiz.jsonl"]);
    let typo = write(dir.path(), "typo.toml", &QUIZ.replace("license", "licence"));
    refused(&["eval", "validate", "--tasks", &typo], "", &["typo.toml:3", "license"]);
    refused(
        &["eval", "validate", "--tasks", "medqa", "--data-dir", "nowhere"],
        "",
        &["nowhere/medqa/test.jsonl"],
    );
    let listed = rows(&rlvr(&["eval", "ls", "--json", "--data-dir", "nowhere"], ""));
    assert_eq!(listed.len(), builtin::BUILTIN.len());
    assert!(listed.iter().any(|row| row["name"] == "countdown" && row["items"] == 500));
}

#[test]
fn an_interrupted_evaluation_goes_on_and_other_settings_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let definition = write(dir.path(), "quiz.toml", QUIZ);
    write(dir.path(), "quiz.jsonl", &quiz(150));
    let policy = model("tiny-llama");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let run = |out: &str, more: &[&str]| {
        let args =
            ["eval", "run", "--policy", &policy, "--tasks", &definition, "--samples", "2", "--mode", "both"];
        rlvr(&[&args[..], &["--out", &path(out)], more].concat(), "")
    };
    let read = |out: &str, name: &str| std::fs::read_to_string(dir.path().join(out).join(name)).unwrap();
    let done = run("whole", &[]);
    assert!(done.status.success(), "{}", stderr(&done));
    let results: Value = serde_json::from_str(&read("whole", "results.json")).unwrap();
    for name in ["quiz", "quiz/likelihood", "quiz/likelihood_norm"] {
        assert_eq!(results["tasks"][name]["n"], 150, "{name}");
        assert_eq!(results["tasks"][name]["groups"]["x"]["n"], 75);
    }
    for key in ["policy_hash", "template_hash", "seed", "version"] {
        assert!(!results["settings"][key].is_null(), "{key}");
    }
    assert!(results["settings"]["tasks"]["quiz"]["hash"].is_string());
    assert_eq!(results["settings"]["tasks"]["quiz"]["verifier"]["name"], "choice");
    assert!(read("whole", "results.md").contains("| quiz/likelihood | 150 |"));

    // Killed within the second chunk, in the middle of a row.
    std::fs::create_dir(dir.path().join("torn")).unwrap();
    let samples = read("whole", "samples.jsonl");
    std::fs::write(dir.path().join("torn/samples.jsonl"), &samples[..samples.len() / 3]).unwrap();
    std::fs::write(dir.path().join("torn/settings.json"), read("whole", "settings.json")).unwrap();
    let done = run("torn", &[]);
    assert!(
        done.status.success() && stderr(&done).contains("going on after 1 of 6 chunks"),
        "{}",
        stderr(&done)
    );
    assert_eq!(read("torn", "samples.jsonl"), samples);
    assert_eq!(read("torn", "results.json"), read("whole", "results.json"));

    let other = run("whole", &["--seed", "7"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(
        stderr(&other).contains("seed: 0 → 7") && stderr(&other).contains("--force"),
        "{}",
        stderr(&other)
    );
    assert!(run("whole", &["--seed", "7", "--force"]).status.success());

    let missed = run("torn", &["--fail-under", "quiz=0.9"]);
    assert_eq!(missed.status.code(), Some(1));
    assert!(stderr(&missed).contains("quiz: accuracy") && stderr(&missed).contains("below 0.9"));
    let same = run("torn", &["--baseline", &path("torn")]);
    assert!(same.status.success(), "{}", stderr(&same));

    // One question stands in the training data; nothing is answered again.
    let training =
        write(dir.path(), "train.jsonl", &lines(&[json!({"text": "so: question 7 of the quiz, please?"})]));
    let counted = run("torn", &["--contamination", &training]);
    assert!(counted.status.success(), "{}", stderr(&counted));
    let results: Value = serde_json::from_str(&read("torn", "results.json")).unwrap();
    let found = &results["tasks"]["quiz"]["contamination"];
    assert_eq!((&found["ids"], &found["without"]["n"]), (&json!(["q7"]), &json!(149)));

    // The stored samples, judged again, give the same verdicts.
    let args = ["eval", "score", "--tasks", &definition, "--completions", &path("torn/samples.jsonl")];
    let scored = rlvr(&[&args[..], &["--out", &path("scored")]].concat(), "");
    assert!(scored.status.success(), "{}", stderr(&scored));
    let old: Value = serde_json::from_str(&read("torn", "results.json")).unwrap();
    let new: Value = serde_json::from_str(&read("scored", "results.json")).unwrap();
    assert_eq!(new["tasks"]["quiz"]["verdicts"], old["tasks"]["quiz"]["verdicts"]);
    assert_eq!(new["tasks"]["quiz"]["accuracy"], old["tasks"]["quiz"]["accuracy"]);
}

#[test]
fn control_arms_change_the_items() {
    let dir = tempfile::tempdir().unwrap();
    let file = rlvr::eval::TaskFile::parse(QUIZ, Path::new("quiz.toml")).unwrap();
    write(dir.path(), "quiz.jsonl", &quiz(40));
    let open = |settings: OpenSettings| {
        Benchmark::open(&file, QUIZ, &OpenSettings { data_dir: dir.path().into(), ..settings }).unwrap()
    };
    let plain = open(OpenSettings::default());
    let shuffled = open(OpenSettings { shuffle_options: Some(1), ..OpenSettings::default() });
    let mut moved = 0;
    for (a, b) in plain.items.iter().zip(&shuffled.items) {
        let text = |item: &rlvr::eval::Item| item.options[item.gold.unwrap()].text.clone();
        assert_eq!(text(a), text(b));
        let gold = b.reward_gold(&shuffled);
        assert_eq!(score_one(&*shuffled.reward, &b.task, Response::new(&gold)).verdict, Verdict::Correct);
        moved += usize::from(a.gold != b.gold);
    }
    assert!((20..40).contains(&moved), "{moved}");
    let blind = open(OpenSettings { no_context: true, ..OpenSettings::default() });
    assert!(blind.items.iter().all(|i| i.task.prompt[0].content.starts_with("A. alpha")));
    let shots = open(OpenSettings { few_shot: Some(3), ..OpenSettings::default() });
    for item in &shots.items {
        let parts = item.prompt.as_ref().unwrap();
        assert_eq!((parts.shots.len(), item.task.prompt.len()), (3, 7));
        assert!(parts.shots.iter().all(|(question, _)| *question != parts.user));
    }
    // The same for all, but for those that are among them.
    let sets: std::collections::BTreeSet<_> =
        shots.items.iter().map(|i| &i.prompt.as_ref().unwrap().shots).collect();
    assert_eq!(sets.len(), 4);
    assert!(open(OpenSettings { limit: Some(7), ..OpenSettings::default() }).items.len() == 7);
}

trait Gold {
    fn reward_gold(&self, benchmark: &Benchmark) -> String;
}

impl Gold for rlvr::eval::Item {
    fn reward_gold(&self, benchmark: &Benchmark) -> String {
        benchmark.reward.gold(&self.task).unwrap()
    }
}

/// What MedEvalKit judges wrong, with the right verdicts.
#[test]
fn errors_of_others_are_not_repeated() {
    let check = |kind: &str, reference: Value, text: &str, want: Verdict| {
        let reward = RewardConfig::from_kind(kind).unwrap().build().unwrap();
        let outcome = score_one(&*reward, &Task::new("t", reference.clone()), Response::new(text));
        assert_eq!(outcome.verdict, want, "{kind} {reference} {text:?}: {}", outcome.reason);
        let least = if want == Verdict::Correct { 1.0 } else { 0.0 };
        assert_eq!(outcome.score, Some(least), "{text:?}");
    };
    // "no" stands inside of "nodule".
    let yes = || json!({"answer": "yes"});
    check("yes_no", yes(), "Yes, there is a nodule", Verdict::Correct);
    check("yes_no", json!({"answer": "no"}), "Yes, there is a nodule", Verdict::Incorrect);
    check("yes_no", json!({"answer": "no"}), "No, there is no nodule.", Verdict::Correct);
    // A constant "not sure", an empty output and a refusal have no answer, whatever the reference.
    let options = || json!({"answer": "A", "options": ["Aspirin", "Heparin", "Warfarin", "Abciximab"]});
    for text in ["not sure", "I'm not sure.", "", "I'm sorry, but I cannot help with that request."] {
        for answer in ["yes", "no"] {
            check("yes_no", json!({ "answer": answer }), text, Verdict::NoAnswer);
        }
        for letter in ["A", "B", "C", "D"] {
            let mut reference = options();
            reference["answer"] = json!(letter);
            check("choice", reference, text, Verdict::NoAnswer);
        }
    }
    // A later sentence about another option takes nothing back.
    let mut b = options();
    b["answer"] = json!("B");
    check("choice", b, "The answer is B because A. Aspirin is wrong", Verdict::Correct);
}

/// An empty prediction is a row like others, and no accuracy exceeds 1.
#[test]
fn empty_predictions_do_not_end_the_scoring() {
    let dir = tempfile::tempdir().unwrap();
    let definition = write(dir.path(), "quiz.toml", QUIZ);
    write(dir.path(), "quiz.jsonl", &quiz(40));
    let rows: Vec<Value> = (0..40)
        .map(|i| json!({"id": format!("q{i}"), "completion": if i % 2 == 0 { "" } else { "A" }}))
        .collect();
    let completions = write(dir.path(), "empty.jsonl", &lines(&rows));
    let out = dir.path().join("out").display().to_string();
    let done =
        rlvr(&["eval", "score", "--tasks", &definition, "--completions", &completions, "--out", &out], "");
    assert!(done.status.success(), "{}", stderr(&done));
    let results: Value =
        serde_json::from_str(&std::fs::read_to_string(dir.path().join("out/results.json")).unwrap()).unwrap();
    let quiz = &results["tasks"]["quiz"];
    assert_eq!((&quiz["accuracy"], &quiz["parse_rate"]), (&json!(0.0), &json!(0.5)));
    assert_eq!(quiz["verdicts"], json!({"no_answer": 20, "incorrect": 20}));
    assert_eq!(quiz["commonest_answer"], json!({"answer": "A", "share": 1.0, "reference_share": 0.0}));
    let table = std::fs::read_to_string(dir.path().join("out/results.md")).unwrap();
    assert!(
        table.contains("quiz: 100 % of the readable answers are `A`, which is right for 0 % of those tasks"),
        "{table}"
    );
}

/// Judges that are right, that fail, and that talk nonsense: failures are unjudged and asked again, opinions are kept.
#[test]
fn a_judge_never_turns_its_failures_into_wrong_answers() {
    let dir = tempfile::tempdir().unwrap();
    let definition = write(dir.path(), "quiz.toml", QUIZ);
    write(dir.path(), "quiz.jsonl", &quiz(40));
    let rows: Vec<Value> = (0..40)
        .map(|i| json!({"id": format!("q{i}"), "completion": if i < 20 { ["A", "B", "C", "D"][i % 4] } else { "A" }}))
        .collect();
    let completions = write(dir.path(), "given.jsonl", &lines(&rows));
    let score = |judge: &str, out: &str| {
        let out = dir.path().join(out).display().to_string();
        let args = ["eval", "score", "--tasks", &definition, "--completions", &completions, "--judge", judge];
        let done = rlvr(&[&args[..], &["--out", &out]].concat(), "");
        assert!(done.status.success(), "{}", stderr(&done));
        assert!(stderr(&done).contains("quiz: the judge judged "), "{}", stderr(&done));
        let text = std::fs::read_to_string(Path::new(&out).join("results.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["tasks"]["quiz"].clone()
    };
    // Says CORRECT to everything from question 30 on, INCORRECT before, and fails on question 39.
    let server = Server::start(|body| {
        let number = body.split("Question ").nth(1).and_then(|t| t.split(' ').next()).unwrap_or("0");
        match number.parse::<usize>().unwrap_or(0) {
            39 => (400, "{}".into()),
            n => (200, reply(if n >= 30 { "CORRECT" } else { "INCORRECT" })),
        }
    });
    let endpoint = format!("kind = \"endpoint\"\nurl = \"{}\"\nmodel = \"fake\"\n", server.url);
    let judge = write(dir.path(), "judge.toml", &endpoint);
    let quiz = score(&judge, "by-server");
    // The verifier: 20 right, then every fourth. The judge: 9 of 39.
    assert_eq!(quiz["correct"], 25);
    let opinions = &quiz["judge"];
    assert_eq!(
        (&opinions["judged"], &opinions["unjudged"], &opinions["correct"]),
        (&json!(39), &json!(1), &json!(9))
    );
    assert_eq!(opinions["with_verifier"]["both"], 39);
    assert!(opinions["first_failure"].as_str().unwrap().contains("400"));
    // Right by both: 32, 36; wrong by both: 21..=29 without 24 and 28.
    let agreement = opinions["with_verifier"]["agreement"].as_f64().unwrap();
    assert!((agreement - 9.0 / 39.0).abs() < 1e-12, "{agreement}");
    assert!(opinions["with_verifier"]["kappa"].as_f64().unwrap() < 0.0);
    let asked = server.requests();
    assert_eq!(score(&judge, "by-server"), quiz);
    assert_eq!(server.requests() - asked, 1, "only the failure is asked again");

    let nonsense = Server::start(|_| (200, reply("Both are fine.")));
    let judge = write(dir.path(), "nonsense.toml", &endpoint.replace(&server.url, &nonsense.url));
    let quiz = score(&judge, "by-nonsense");
    assert_eq!((&quiz["judge"]["unjudged"], &quiz["judge"]["accuracy"]), (&json!(40), &Value::Null));
    assert_eq!(quiz["correct"], 25);
    let missing = write(dir.path(), "missing.toml", "kind = \"command\"\ncommand = [\"./no-such-judge\"]\n");
    assert_eq!(score(&missing, "by-none")["judge"]["unjudged"], 40);
    let bad = write(dir.path(), "bad.toml", "kind = \"endpoint\"\nurl = \"http://x\"\nmodle = \"m\"\n");
    let args = [
        "eval",
        "score",
        "--tasks",
        &definition,
        "--completions",
        &completions,
        "--out",
        "x",
        "--judge",
        &bad,
    ];
    refused(&args, "", &["bad.toml:3", "model"]);
}

#[cfg(unix)]
#[test]
fn a_judge_may_be_a_program() {
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let definition = write(dir.path(), "quiz.toml", QUIZ);
    write(dir.path(), "quiz.jsonl", &quiz(8));
    write(
        dir.path(),
        "judge.py",
        "import json, sys\nfor line in sys.stdin:\n    m = json.loads(line)\n    if m['type'] == 'hello':\n        \
         print(json.dumps({'type': 'hello', 'protocol': 1, 'name': 'judge', 'version': '1', 'capabilities': \
         ['batch']}), flush=True)\n    elif m['type'] == 'score':\n        right = lambda i: float(i['completion'] == \
         i['reference']['answer'])\n        print(json.dumps({'type': 'result', 'batch': m['batch'], 'items': [{'i': \
         i['i'], 'score': right(i)} for i in m['items']]}), flush=True)\n    else:\n        break\n",
    );
    let judge =
        write(dir.path(), "judge.toml", "kind = \"command\"\ncommand = [\"python3\", \"judge.py\"]\n");
    let rows: Vec<Value> = (0..8).map(|i| json!({"id": format!("q{i}"), "completion": "A"})).collect();
    let completions = write(dir.path(), "given.jsonl", &lines(&rows));
    let out = dir.path().join("out").display().to_string();
    let args = ["eval", "score", "--tasks", &definition, "--completions", &completions, "--judge", &judge];
    let done = rlvr(&[&args[..], &["--out", &out]].concat(), "");
    assert!(done.status.success(), "{}", stderr(&done));
    let results: Value =
        serde_json::from_str(&std::fs::read_to_string(dir.path().join("out/results.json")).unwrap()).unwrap();
    let judge = &results["tasks"]["quiz"]["judge"];
    assert_eq!((&judge["correct"], &judge["judged"]), (&json!(2), &json!(8)));
    assert_eq!(judge["with_verifier"]["kappa"], 1.0);
}

pub(crate) fn reply(word: &str) -> String {
    json!({"choices": [{"message": {"role": "assistant", "content": word}}]}).to_string()
}

/// A server that answers each request by a function of its body, and counts them.
pub(crate) struct Server {
    pub(crate) url: String,
    requests: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) -> Self {
        use std::io::{BufRead, BufReader, Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1/chat/completions", listener.local_addr().unwrap());
        let requests = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (counter, answer) = (requests.clone(), std::sync::Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (counter, answer) = (counter.clone(), answer.clone());
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream);
                    loop {
                        let mut length = 0;
                        let mut line = String::new();
                        while reader.read_line(&mut line).unwrap_or(0) > 2 {
                            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                                length = value.trim().parse().unwrap();
                            }
                            line.clear();
                        }
                        if length == 0 {
                            return;
                        }
                        let mut body = vec![0; length];
                        reader.read_exact(&mut body).unwrap();
                        counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        let (status, text) = answer(&String::from_utf8_lossy(&body));
                        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", text.len());
                        let stream = reader.get_mut();
                        if stream.write_all(head.as_bytes()).and(stream.write_all(text.as_bytes())).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { url, requests }
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(std::sync::atomic::Ordering::SeqCst)
    }
}
