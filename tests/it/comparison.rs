//! `rlvr compare` and `rlvr eval report` as scripts see them.
use crate::cli::{lines, refused, rlvr, rows, stderr, write};
use serde_json::{Value, json};
use std::path::Path;

/// An evaluation of the task `t` with 200 items, by `rlvr eval score`; `right` says whether a sample of an item is right.
fn evaluation(dir: &Path, name: &str, samples: usize, right: impl Fn(usize, usize) -> bool) -> String {
    let item = |i: usize| json!({"id": i, "question": "Where?", "answer": "it is here", "passage": format!("p{}", i / 4)});
    let tasks = write(dir, "t.jsonl", &lines(&(0..200).map(item).collect::<Vec<_>>()));
    let row = |item: usize, sample: usize| {
        let text = if right(item, sample) { "<think>so</think>it is here" } else { "somewhere else" };
        json!({"id": item, "completion": text, "tokens": 5})
    };
    let all: Vec<Value> =
        (0..200).flat_map(|i| (0..samples).map(move |s| (i, s))).map(|(i, s)| row(i, s)).collect();
    let completions = write(dir, &format!("{name}.completions.jsonl"), &lines(&all));
    let out = dir.join(name).display().to_string();
    stdout(&[
        "eval",
        "score",
        "--tasks",
        &tasks,
        "--reward",
        "exact",
        "--completions",
        &completions,
        "--out",
        &out,
    ]);
    out
}

fn stdout(args: &[&str]) -> String {
    let output = rlvr(args, "");
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn comparisons_say_what_was_found_and_what_could_have_been() {
    let dir = tempfile::tempdir().unwrap();
    let low = evaluation(dir.path(), "low", 1, |i, _| i % 5 == 0);
    let near = evaluation(dir.path(), "near", 1, |i, _| i % 5 == 0 || i % 50 == 1);
    let high = evaluation(dir.path(), "high", 1, |i, _| i % 5 != 1);

    let found = rows(&rlvr(&["eval", "compare", &low, &near, "--json"], ""));
    let t = &found[0]["tasks"]["t"];
    assert_eq!(
        (&t["n"], &t["test"], &t["conclusion"]),
        (&json!(200), &json!("mcnemar"), &json!("no significant difference"))
    );
    assert!((t["p_value"].as_f64().unwrap() - 0.125).abs() < 1e-12, "{t}");
    assert!(
        t["items_needed"]["n"].as_u64().unwrap() > 100 && t["detectable_difference"].as_f64().unwrap() > 0.0
    );

    let text = stdout(&["compare", &low, &near, "--difference", "0.01"]);
    for part in [
        "no significant difference",
        "McNemar",
        "n = 200 can show",
        "at 80 % power",
        "for 1 points you need ",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    // Three arms: Holm over both rows.
    let text =
        stdout(&["compare", &low, &format!("near={near}"), &format!("high={high}"), "--format", "markdown"]);
    assert!(text.contains("| t | near | 200 |") && text.contains("high is better"), "{text}");
    let found = rows(&rlvr(&["compare", &low, &near, &high, "--json"], ""));
    let second = &found[0]["comparisons"][0]["tasks"]["t"];
    assert_eq!(second["p_value"], second["p_holm"]);
    let first = &found[0]["comparisons"][1]["tasks"]["t"];
    assert_eq!(first["p_holm"].as_f64(), first["p_value"].as_f64().map(|p| 2.0 * p));
    assert_eq!(found[0]["comparisons"][1]["tasks"]["t"]["conclusion"], format!("{high} is better"));
    // Groups of questions.
    let found = rows(&rlvr(&["compare", &low, &high, "--json", "--cluster", "passage"], ""));
    let t = &found[0]["tasks"]["t"];
    assert_eq!((&t["clusters"], &t["test"]), (&json!(50), &json!("clustered bootstrap")));
    refused(&["compare", &low, &high, "--cluster", "pasage"], "", &["samples.jsonl:1", "pasage", "passage"]);
    refused(&["compare", &low], "", &["2"]);
}

#[test]
fn seeds_and_samples_are_averaged_and_other_versions_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mix = |i: usize, s: usize| (i * 7919 + s * 104_729) % 100;
    let before = evaluation(dir.path(), "before", 4, |i, s| mix(i, s) < 30);
    let seeds: Vec<String> = (1..=3)
        .map(|seed| evaluation(dir.path(), &format!("rl-{seed}"), 4, move |i, s| mix(i, s + 4 * seed) < 60))
        .collect();
    let found = rows(&rlvr(&["compare", &before, &format!("rl={}", seeds.join(",")), "--json"], ""));
    let t = &found[0]["tasks"]["t"];
    assert_eq!((&t["seeds"], &t["test"]), (&json!([1, 3]), &json!("questions and seeds")));
    assert!(t["maj@4"]["b"].as_f64().unwrap() > t["maj@4"]["a"].as_f64().unwrap());
    let args = ["compare", "--a", &before, "--b", &seeds[0], &seeds[1], &seeds[2], "--json"];
    assert_eq!(rows(&rlvr(&args, ""))[0]["tasks"], found[0]["tasks"]);
    let text = stdout(&["compare", &before, &seeds.join(",")]);
    assert!(text.contains("t-test over questions and seeds") && text.contains("maj@4 A"), "{text}");
    assert!(text.contains("for 2 points you need "), "{text}");

    // A typo in the data was mended, and the second arm judged against the new file.
    let again = |out: &str| {
        let completions = dir.path().join("before.completions.jsonl").display().to_string();
        let tasks = dir.path().join("t.jsonl").display().to_string();
        let args = ["eval", "score", "--tasks", &tasks, "--reward", "exact", "--completions", &completions];
        stdout(&[&args[..], &["--out", out, "--force"]].concat());
    };
    let data = std::fs::read_to_string(dir.path().join("t.jsonl")).unwrap();
    write(dir.path(), "t.jsonl", &data.replacen("Where?", "Where, please?", 1));
    again(&seeds[0]);
    let other = |what: &str| {
        for command in [&["compare"][..], &["eval", "report"], &["eval", "report", "--baseline"]] {
            refused(&[command, &[&*before, &*seeds[0]]].concat(), "", &[what, "t: ", "--force"]);
        }
        let forced = rlvr(&["compare", &before, &seeds[0], "--force"], "");
        assert!(forced.status.success() && stderr(&forced).contains(what), "{}", stderr(&forced));
    };
    other("another task");

    // Judged against the same file by another version of the verifier.
    write(dir.path(), "t.jsonl", &data);
    again(&seeds[0]);
    assert!(rlvr(&["compare", &before, &seeds[0]], "").status.success());
    let path = dir.path().join("rl-1/results.json");
    let mut results: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let version = &mut results["settings"]["tasks"]["t"]["verifier"]["version"];
    *version = json!(version.as_u64().unwrap() + 1);
    std::fs::write(&path, results.to_string()).unwrap();
    other("another verifier");
    std::fs::remove_file(path).unwrap();
    assert!(stderr(&rlvr(&["compare", &before, &seeds[0]], "")).contains("not recorded"));
}

/// Two arms that are right on the same items can still differ: the interval is no point.
#[test]
fn no_differing_item_is_no_certainty() {
    let dir = tempfile::tempdir().unwrap();
    let data = lines(&[1, 2, 3].map(|i| json!({"id": i, "question": "Where?", "answer": "here"})));
    let tasks = write(dir.path(), "three.jsonl", &data);
    let completions =
        write(dir.path(), "c.jsonl", &lines(&[1, 2, 3].map(|i| json!({"id": i, "completion": "here"}))));
    let out = dir.path().join("out").display().to_string();
    stdout(&[
        "eval",
        "score",
        "--tasks",
        &tasks,
        "--reward",
        "exact",
        "--completions",
        &completions,
        "--out",
        &out,
    ]);
    let found = rows(&rlvr(&["compare", &out, &out, "--json"], ""));
    let t = &found[0]["tasks"]["three"];
    assert_eq!((&t["interval"], &t["p_value"]), (&json!("tango"), &json!(1.0)));
    assert!(t["ci95"][0].as_f64().unwrap() < -0.5 && t["ci95"][1].as_f64().unwrap() > 0.5, "{t}");
    assert!(stdout(&["compare", &out, &out]).contains("Tango's score interval"));
}

#[test]
fn reports_mark_the_best_and_fail_on_regressions_only() {
    let dir = tempfile::tempdir().unwrap();
    let low = evaluation(dir.path(), "low", 1, |i, _| i % 5 == 0);
    let near = evaluation(dir.path(), "near", 1, |i, _| i % 5 == 0 || i % 50 == 1);
    let high = evaluation(dir.path(), "high", 1, |i, _| i % 5 != 1);
    let report = |args: &[&str]| stdout(&[&["eval", "report"], args].concat());

    let text = report(&[&low, &near, &high]);
    assert!(text.contains("0.800*") && !text.contains("0.220*"), "{text}");
    // The better of two that cannot be told apart is not marked.
    assert!(!report(&[&low, &near]).contains("0.220*"));
    let text = report(&[&format!("low={low}"), &format!("high={high}"), "--format", "markdown"]);
    assert!(text.contains("| task | n | low | high |") && text.contains("**0.800** ["), "{text}");
    let text = report(&[&low, &high, "--format", "csv"]);
    assert!(
        text.starts_with("task,evaluation,n,completions,accuracy,") && text.lines().count() == 3,
        "{text}"
    );

    let metrics = ["--metrics", "bleu4,rougeL,cider,meteor,token_f1", "--format", "json"];
    let value: Value = serde_json::from_str(&report(&[&[&*high], &metrics[..]].concat())).unwrap();
    let t = &value["evaluations"][0]["tasks"]["t"];
    assert_eq!(
        (&t["accuracy"], &t["method"], &t["parse_rate"]),
        (&json!(0.8), &json!("wilson"), &json!(1.0))
    );
    // Four of five say the gold after their think block.
    assert!((t["metrics"]["rougeL"].as_f64().unwrap() - 0.8).abs() < 1e-12, "{t}");
    let answers =
        write(dir.path(), "answers.jsonl", &lines(&[json!({"id": 0, "answer": ["somewhere", "none"]})]));
    refused(
        &["eval", "report", &high, "--metrics", "bleu1", "--references", &answers],
        "",
        &["no answer for 1 of t"],
    );

    assert!(rlvr(&["eval", "report", &low, "--baseline", &near], "").status.success(), "not significant");
    let worse = rlvr(&["eval", "report", &low, "--baseline", &high, "--tolerance", "0.02"], "");
    assert_eq!(worse.status.code(), Some(1));
    assert!(stderr(&worse).contains("regression: t of") && !worse.stdout.is_empty(), "{}", stderr(&worse));
    assert!(rlvr(&["eval", "report", &low, "--baseline", &high, "--tolerance", "0.7"], "").status.success());

    let several = evaluation(dir.path(), "several", 4, |i, s| (i + s) % 3 == 0);
    let value: Value = serde_json::from_str(&report(&[&several, "--format", "json"])).unwrap();
    let t = &value["evaluations"][0]["tasks"]["t"];
    assert_eq!(t["method"], "clustered bootstrap");
    assert!(t["pass@2"]["mean"].as_f64() < t["pass@4"]["mean"].as_f64());
    assert!(t["maj@4"]["standard_error"].as_f64().unwrap() > 0.0);
}
