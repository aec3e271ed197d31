//! `rlvr report`: the page of a run, on the command line.
use super::cli::{SMALL_RUN, lines, refused, rlvr, stderr, write};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// The page on stdout.
pub(crate) fn page(run: &Path, more: &[&str]) -> String {
    let output = rlvr(&[&["report", run.to_str().unwrap(), "--out", "-"], more].concat(), "");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let html = String::from_utf8(output.stdout).unwrap();
    well_formed(&html);
    html
}

/// Every element is closed by its own end tag, attributes are quoted, and nothing is fetched or run.
fn well_formed(html: &str) {
    const VOID: [&str; 2] = ["meta", "!DOCTYPE"];
    let mut open = Vec::new();
    for (i, tag) in html.split('<').enumerate().skip(1) {
        let (inside, _) = tag.split_once('>').unwrap_or_else(|| panic!("tag {i} has no end: {tag:.80}"));
        let name: String = inside.chars().take_while(|c| c.is_alphanumeric() || "/!".contains(*c)).collect();
        assert!(inside.matches('"').count().is_multiple_of(2), "{inside}");
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop().as_deref(), Some(name), "tag {i}"),
            None if inside.ends_with('/') || VOID.contains(&name.as_str()) => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?}");
    // Pictures are inside of the page.
    let html = html.replace("<img src=\"data:image/png;base64,", "<img data=\"");
    let unquoted = |tag: &str| tag.split('"').step_by(2).collect::<String>();
    for forbidden in
        ["http:", "https:", "<script", "<link", "<img src", " src=", " href=", "url(", "@import", " on"]
    {
        let found = html.split('<').skip(1).filter_map(|tag| tag.split_once('>')).any(|(tag, _)| {
            // Attributes by their names, the others also within values.
            let tag = if forbidden.starts_with(' ') { unquoted(tag) } else { tag.to_owned() };
            format!("<{tag}").contains(forbidden)
        });
        assert!(!found, "{forbidden}");
    }
}

/// A run directory made by hand.
fn run_dir(dir: &Path, metrics: &str, rollouts: Option<&str>) -> PathBuf {
    let run = dir.join("run");
    fs::create_dir_all(&run).unwrap();
    write(&run, "config.toml", "name = \"by-hand\"\n[policy]\npath = \"a/model\"\n");
    write(&run, "metrics.jsonl", metrics);
    if let Some(rollouts) = rollouts {
        write(&run, "rollouts.jsonl", rollouts);
    }
    run
}

fn metrics(step: u64, reward: f64) -> Value {
    json!({"step": step, "stage": "grpo", "reward/mean": reward, "policy/entropy": 1.5})
}

fn rollout(step: u64, completion: &str) -> Value {
    json!({"step": step, "stage": "grpo", "group": 0, "sample": 3, "id": "task-1", "reference": {"answer": "the-gold"},
        "prompt": "the-prompt", "completion": completion, "finish_reason": "stop", "length_tokens": 3,
        "reward": 0.25, "advantage": -0.75, "outcome": {"score": 0.25, "verdict": "incorrect",
            "extracted": completion, "gold": "g", "prediction": "p", "method": "the/method",
            "reason": "the-reason", "parts": [], "work": 1}})
}

#[test]
fn the_page_of_a_run_has_its_values() {
    let dir = tempfile::tempdir().unwrap();
    let config = write(dir.path(), "small.toml", SMALL_RUN);
    let run = dir.path().join("run");
    let done = rlvr(&["train", &config, "--out", run.to_str().unwrap(), "--set", "seed=4321"], "");
    assert!(done.status.success(), "{}", stderr(&done));
    let written = rlvr(&["report", run.to_str().unwrap()], "");
    assert!(written.status.success() && written.stdout.is_empty(), "{}", stderr(&written));
    assert!(stderr(&written).contains("run/report.html"), "{}", stderr(&written));
    let html = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(
        !fs::read_dir(&run).unwrap().any(|e| e.unwrap().file_name().to_string_lossy().starts_with(".tmp"))
    );
    assert_eq!(html, page(&run, &[]));
    assert_ne!(html, page(&run, &["--seed", "5"]));

    let rows = |file: &str| -> Vec<Value> {
        let text = fs::read_to_string(run.join(file)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let steps = rows("metrics.jsonl");
    let accuracy = |row: &Value| {
        let at = |end: &str| row[format!("eval/sums/{end}")].as_f64().unwrap();
        let (accuracy, low, high) = (at("greedy"), at("ci95_low"), at("ci95_high"));
        format!("<td class=\"n\">{accuracy:.3}</td><td class=\"n\">[{low:.3}, {high:.3}]</td>")
    };
    for part in [
        "<title>small</title>",
        "<dd>finished</dd>",
        "<dd>4321</dd>",
        "<dd>3 recorded: grpo 1 to 3</dd>",
        "<td>before</td>",
        "<td>after grpo</td>",
        &accuracy(&steps[0]),
        &accuracy(&steps[3]),
        "<code>reward/length/mean</code>",
        "Mean score of one part of the reward.",
        "<code>policy/mismatch_kl</code>",
        "<code>memory/peak_rss_mb</code>",
        "96 recorded completions",
        "group_size = 8\n",
        "alphabet = &quot;0123456789+= &quot;",
    ] {
        assert!(html.contains(part), "no {part:?}");
    }
    for step in &steps[1..] {
        let value = step["policy/entropy"].as_f64().unwrap();
        assert!(html.contains(&format!("<title>step {}: {}", step["step"], &format!("{value}")[..4])));
    }
    let rollouts = rows("rollouts.jsonl");
    let verdicts = |verdict: &str| rollouts.iter().filter(|r| r["outcome"]["verdict"] == verdict).count();
    let wrong = verdicts("incorrect");
    assert!(html.contains(&format!("<td>incorrect</td><td class=\"n\">{wrong} (")), "{wrong}");
    let shown = |html: &str| html.matches("<h4>completion</h4>").count();
    assert_eq!(
        (shown(&html), shown(&page(&run, &["--samples", "5"])), shown(&page(&run, &["--samples", "0"]))),
        (24, 5, 0)
    );
}

#[test]
fn completions_are_text_whatever_they_contain() {
    let dir = tempfile::tempdir().unwrap();
    let hostile = "\n</pre></script><img src=x onerror=alert(1)><svg onload='x()'>&lt;\" \u{1b}[31m {{ config }} https://a.b/";
    let mut row = rollout(1, hostile);
    for field in ["id", "prompt", "stage", "finish_reason"] {
        row[field] = json!(hostile);
    }
    row["images"] = json!([hostile]);
    row["reference"] = json!({hostile: hostile});
    row["outcome"]["reason"] = json!(hostile);
    row["outcome"]["parts"] = json!([{"name": hostile, "weight": 1.0, "score": 0.5, "verdict": "partial",
        "extracted": hostile, "method": hostile, "reason": hostile}]);
    let mut steps = metrics(1, 0.5);
    steps[format!("reward/{hostile}/mean")] = json!(1.0);
    steps["stage"] = json!(hostile);
    let run = run_dir(dir.path(), &lines(&[steps]), Some(&lines(&[row])));
    write(
        &run,
        "config.toml",
        &format!("name = {}\n", json!(hostile).to_string().replace("\\u001b", "\\u001B")),
    );
    let html = page(&run, &[]);
    let safe = "&lt;/pre&gt;&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&lt;svg onload=&#39;x()&#39;&gt;&amp;lt;&quot; \
                \\u{1b}[31m {{ config }} https://a.b/";
    // The line break that the completion begins with stands behind the one that HTML drops.
    assert!(html.contains(&format!("<h4>completion</h4>\n<pre>\n\n{safe}</pre>")), "{html}");
    assert!(html.matches(safe).count() >= 10, "{}", html.matches(safe).count());
    assert!(html.contains("<dt>advantage</dt><dd>-0.75</dd>") && html.contains("<dd>the/method</dd>"));
    assert!(html.contains("content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\""));
}

#[test]
fn runs_that_go_on_or_lack_records_have_pages() {
    let dir = tempfile::tempdir().unwrap();
    // Before the first step.
    let html = page(&run_dir(dir.path(), "", None), &[]);
    assert!(html.contains("No step has been recorded yet.") && html.contains("<title>by-hand</title>"));
    assert!(html.contains("meta.json is missing") && html.contains("no judged completions"));
    // Supervised only, an empty file of rollouts, a value that was not finite.
    let supervised =
        json!({"step": 1, "stage": "sft", "sft/loss": 2.5, "optim/loss": 2.5, "optim/grad_norm": null});
    let html = page(&run_dir(dir.path(), &lines(&[supervised]), Some("")), &[]);
    assert!(html.contains("<code>sft/loss</code> 2.5") && !html.contains("<code>optim/"), "{html}");
    assert!(!html.contains("NaN") && html.contains("no judged completions"));
    // The last rows are being written.
    let (steps, rollouts) =
        (lines(&[metrics(1, 0.5), metrics(2, 0.75)]), lines(&[rollout(1, "one"), rollout(2, "two")]));
    let whole = page(&run_dir(dir.path(), &steps, Some(&rollouts)), &[]);
    assert!(whole.contains("<code>reward/mean</code> 0.75") && whole.contains("2 recorded completions"));
    let cut = |text: &str, bytes: usize| text[..text.len() - bytes].to_owned();
    let partial = page(&run_dir(dir.path(), &cut(&steps, 9), Some(&cut(&rollouts, 40))), &[]);
    let only_first =
        page(&run_dir(dir.path(), &lines(&[metrics(1, 0.5)]), Some(&lines(&[rollout(1, "one")]))), &[]);
    assert!(partial.contains("1 recorded completions") && partial == only_first);
    // A row without its line break is whole.
    assert_eq!(page(&run_dir(dir.path(), &cut(&steps, 1), Some(&cut(&rollouts, 1))), &[]), whole);
}

#[test]
fn a_run_whose_metrics_vanished_shows_what_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let rollouts: Vec<Value> = (1..=30).map(|step| rollout(step, &format!("text {step}"))).collect();
    let run = run_dir(dir.path(), "", Some(&lines(&rollouts)));
    fs::remove_file(run.join("metrics.jsonl")).unwrap();
    let html = page(&run, &[]);
    assert!(html.contains("metrics.jsonl is missing") && html.contains("30 recorded completions"), "{html}");
    assert!(html.contains("Last tenth") && html.contains("text 30"));
    // What was measured is asked of the checkpoints, which have none here.
    let shown = run.to_str().unwrap();
    refused(&["compare", shown, shown], "", &["recorded no evaluation in a checkpoint", "rlvr eval run"]);
    refused(&["eval", "report", shown], "", &["is a run: evaluate its policy first"]);
}

#[test]
fn damage_and_other_directories_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("page.html").display().to_string();
    let report = |run: &Path, parts: &[&str]| {
        let run = run.to_str().unwrap();
        refused(&["report", run, "--out", &out], "", parts);
        refused(&["report", run], "", parts);
        assert!(!Path::new(&out).exists() && !Path::new(run).join("report.html").exists());
    };
    let (step, row) = (metrics(1, 0.5).to_string(), rollout(1, "x").to_string());
    let broken = format!("{step}\n{}\n{step}\n", &step[..20]);
    report(&run_dir(dir.path(), &broken, Some("")), &["metrics.jsonl:2: ", "rlvr train"]);
    let text = format!("{step}\n{{\"step\": 2, \"stage\": \"grpo\", \"reward/mean\": \"high\"}}\n");
    report(&run_dir(dir.path(), &text, Some("")), &["metrics.jsonl:2: ", "high"]);
    let broken = format!("{row}\n{}\n{row}\n", &row[..row.len() - 1]);
    report(&run_dir(dir.path(), &step, Some(&broken)), &["rollouts.jsonl:2: "]);
    let other = format!("{row}\n{{\"id\": \"completion\"}}\n");
    report(&run_dir(dir.path(), &step, Some(&other)), &["rollouts.jsonl:2: ", "step"]);
    let run = run_dir(dir.path(), &step, None);
    write(&run, "config.toml", "name = \"x\"\n[policy\n");
    report(&run, &["config.toml:2"]);

    let hint = "rlvr train leaves run directories";
    report(&dir.path().join("nowhere"), &["nowhere", "no such directory", hint]);
    report(Path::new(&write(dir.path(), "file.toml", "")), &["file.toml", "is a file", hint]);
    report(dir.path(), &["no run directory", "config.toml", hint]);
    write(dir.path(), "config.toml", "");
    report(dir.path(), &["metrics.jsonl", hint]);
    write(dir.path(), "results.json", "{}");
    report(dir.path(), &["metrics.jsonl", "rlvr eval report"]);
}
