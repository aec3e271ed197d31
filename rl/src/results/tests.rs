//! Directories written by hand, read, compared and searched for regressions.

use super::*;
use serde_json::json;
use std::path::Path;

/// An evaluation of the task `t` with `n` items, whose verdicts `right` gives; `hash` stands for the task's version.
fn evaluation(dir: &Path, n: usize, hash: Option<&str>, right: impl Fn(usize) -> bool) -> Evaluation {
    std::fs::create_dir_all(dir).unwrap();
    let row = |i: usize| {
        let verdict = if right(i) { "correct" } else { "incorrect" };
        json!({"task": "t", "id": i, "verdict": verdict, "completion": "it is here", "gold": "here it is", "meta": {"passage": i / 2}})
    };
    let rows: String = (0..n).map(|i| format!("{}\n", row(i))).collect();
    std::fs::write(dir.join(SAMPLES), rows).unwrap();
    if let Some(hash) = hash {
        let settings = json!({"tasks": {"t": {"hash": hash, "verifier": {"name": "exact"}}}});
        std::fs::write(dir.join(RESULTS), json!({ "settings": settings }).to_string()).unwrap();
    }
    Evaluation::read(dir, Wanted { cluster: None, texts: true }).unwrap()
}

#[test]
fn a_drop_is_a_regression_and_what_cannot_be_told_is_noted() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let before = evaluation(&at("before"), 100, Some("x"), |i| i % 5 != 0);
    let same = evaluation(&at("same"), 100, Some("x"), |i| i % 5 != 1);
    let worse = evaluation(&at("worse"), 100, None, |i| i % 5 == 1);
    let mut notes = Vec::new();
    let found = regressions(&before, &[same, worse], 0.0, false, &mut |note| notes.push(note)).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].evaluation, found[0].task.as_str()), (1, "t"));
    let difference = found[0].comparison.unwrap().difference;
    assert!((difference + 0.6).abs() < 1e-12, "{difference}");
    assert!(found[0].reason.starts_with("0.200, the baseline 0.800: -0.600 ["), "{}", found[0].reason);
    assert!(
        notes.len() == 1 && notes[0].starts_with("t: task hash or verifier is not recorded"),
        "{notes:?}"
    );

    let none = Evaluation { dir: at("none"), label: "none".into(), tasks: Vec::new() };
    let found = regressions(&before, &[none], 1.0, false, &mut |_| {}).unwrap();
    assert_eq!(found[0].reason, "no item of the baseline was evaluated");
}

#[test]
fn other_versions_of_a_task_are_compared_by_force_only() {
    let root = tempfile::tempdir().unwrap();
    let arm = |hash: &str, n: usize| Arm {
        label: hash.to_owned(),
        measured: Measured::Items(vec![evaluation(&root.path().join(hash), n, Some(hash), |i| i == 0)]),
    };
    let arms = [arm("x", 4), arm("y", 3)];
    let refused = compare_arms(&arms, false, &mut |_| {}).err().unwrap();
    assert!(
        matches!(&refused, ResultsError::Versions { task, .. } if task == "t") && refused.exit_code() == 2
    );
    let mut notes = Vec::new();
    let found = compare_arms(&arms, true, &mut |note| notes.push(note)).unwrap();
    assert_eq!((found.len(), found[0].arm, found[0].paired.only), (1, 1, (1, 0)));
    assert!(found[0].paired.comparison.items == 3 && !found[0].is_significant());
    assert_eq!(
        notes,
        [
            "t: the evaluations are of another task (\"x\" and \"y\")",
            "t: 3 items in both; 1 only in x and 0 only in y are left out"
        ]
    );
    assert_eq!(arms[0].dirs(), [root.path().join("x")]);
}

#[test]
fn directories_that_hold_no_evaluation_are_named() {
    let root = tempfile::tempdir().unwrap();
    let error = |dir: &Path| Evaluation::read(dir, Wanted::default()).err().unwrap().to_string();
    let dir = root.path().join("run");
    let shown = dir.display().to_string();
    assert_eq!(error(&dir), format!("{shown}: there is no such directory"));
    std::fs::create_dir(&dir).unwrap();
    let message = format!("{shown} is no output of rlvr eval: it has no samples.jsonl beside results.json");
    assert_eq!(error(&dir), message);
    std::fs::write(dir.join("config.toml"), "").unwrap();
    std::fs::write(dir.join("metrics.jsonl"), "").unwrap();
    assert!(error(&dir).starts_with(&format!("{shown} is a run: evaluate its policy first")));
    assert!(RunResults::is_at(&dir));
    let error = RunResults::read(&dir).err().unwrap();
    assert!(error.to_string().starts_with(&format!("{shown}: the run has recorded no evaluation")));
    assert_eq!(named("a=b/c"), (Some("a".to_owned()), "b/c"));
    assert_eq!(named("b/c=d"), (None, "b/c=d"));
}

#[test]
fn clusters_and_texts_come_from_the_rows() {
    let root = tempfile::tempdir().unwrap();
    let read = evaluation(root.path(), 4, None, |_| true);
    let values = text_metrics(&read.tasks[0], &[TextMetric::TokenF1, TextMetric::RougeL], None, "e").unwrap();
    assert!(values[0] == 1.0 && values[1] < 1.0, "{values:?}");
    let wanted = |field| Wanted { cluster: Some(field), texts: false };
    let read = Evaluation::read(root.path(), wanted("passage")).unwrap();
    let clusters: Vec<usize> = read.tasks[0].questions().iter().map(|q| q.cluster).collect();
    assert_eq!(clusters, [0, 0, 1, 1]);
    let refused = text_metrics(&read.tasks[0], &[TextMetric::Cider], None, "e").unwrap_err().to_string();
    assert!(refused.starts_with("e: t, item 0: the sample has no `gold`"), "{refused}");
    let refused = Evaluation::read(root.path(), wanted("topic")).err().unwrap().to_string();
    assert!(
        refused.contains(":1: the row has no field \"topic\" for --cluster; it has task, id, "),
        "{refused}"
    );
}

/// Rows of a task and its grey control: item i has a picture where `pictures(i)` says so, and is right with it alone.
fn with_control(dir: &Path, n: usize, pictures: impl Fn(usize) -> bool) -> Evaluation {
    let row = |i: usize, task: &str| {
        let right = task == "t" && pictures(i);
        let verdict = if right { "correct" } else { "incorrect" };
        let mut row = json!({"task": task, "id": i, "verdict": verdict, "completion": "c", "meta": {"image": "a", "own": i}});
        if pictures(i) {
            row["images"] = json!(["a.png"]);
        }
        format!("{row}\n")
    };
    let rows: String = ["t", "t/blank"].iter().flat_map(|task| (0..n).map(|i| row(i, task))).collect();
    std::fs::write(dir.join(SAMPLES), rows).unwrap();
    Evaluation::read(dir, Wanted { cluster: Some("image"), texts: false }).unwrap()
}

#[test]
fn one_cluster_has_no_interval_against_a_control_and_no_warning() {
    let root = tempfile::tempdir().unwrap();
    let arms = image_arms(&with_control(root.path(), 10, |_| true)).unwrap();
    assert_eq!(arms.len(), 1);
    assert!(arms[0].cells().contains(&"none (one cluster)".to_owned()), "{:?}", arms[0].cells());
    assert!(json!(arms[0])["ci95"].is_null() && arms[0].warning().is_none());
    let wanted = Wanted { cluster: Some("own"), texts: false };
    let arms = image_arms(&Evaluation::read(root.path(), wanted).unwrap()).unwrap();
    assert!(json!(arms[0])["ci95"][0].is_number() && arms[0].is_above());
}

#[test]
fn items_without_pictures_are_no_part_of_what_pictures_are_worth() {
    let root = tempfile::tempdir().unwrap();
    let arms = image_arms(&with_control(root.path(), 10, |i| i < 6)).unwrap();
    assert_eq!((arms[0].items, arms[0].real, arms[0].control), (6, 1.0, 0.0));
    // Records that name no pictures are compared whole.
    let arms = image_arms(&with_control(root.path(), 10, |_| false)).unwrap();
    assert_eq!(arms[0].items, 10);
}
