//! What stands in the place of a file: links to what belongs to others, pipes, devices, files without an end, and numbers
//! that a number does not hold.
use crate::cli::{lines, refused, rlvr, rows, stderr, write};
use crate::evals::{model, quiz};
use serde_json::json;
use std::fs::{self, File};
use std::path::Path;

/// What an evaluation leaves and replaces as a whole.
const EVALUATION: [&str; 4] = ["settings.json", "samples.jsonl", "results.json", "results.md"];

#[cfg(unix)]
#[test]
fn an_evaluation_follows_no_link_and_waits_for_no_pipe() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (quiz, policy) = (write(dir.path(), "quiz.jsonl", &quiz(2)), model("tiny-llama"));
    let answers = write(dir.path(), "answers.jsonl", &lines(&[json!({"id": "q0", "completion": "A"})]));
    let (out, scored) = (path("out"), path("scored"));
    let run = ["eval", "run", "--policy", &policy, "--tasks", &quiz, "--max-tokens", "2", "--out", &out];
    let score = ["eval", "score", "--tasks", &quiz, "--completions", &answers, "--out", &scored];
    let forced = |args: &[&str]| rlvr(&[args, &["--force"]].concat(), "");
    let victim = dir.path().join("victim");
    for (args, at) in [(&run[..], &out), (&score, &scored)] {
        let first = rlvr(args, "");
        assert!(first.status.success(), "{}", stderr(&first));
        for name in EVALUATION.iter().filter(|name| Path::new(at).join(name).exists()) {
            let file = Path::new(at).join(name);
            let shown = file.display().to_string();
            let (whole, kept) = (fs::read(&file).unwrap(), path("kept"));
            fs::rename(&file, &kept).unwrap();

            fs::write(&victim, "precious").unwrap();
            symlink(&victim, &file).unwrap();
            refused(args, "", &[&shown, "symbolic link"]);
            assert_eq!(fs::read(&victim).unwrap(), b"precious", "{name}");
            let again = forced(args);
            assert!(again.status.success(), "{name}: {}", stderr(&again));
            // The link itself is replaced, and not what it leads to.
            assert_eq!(fs::read(&victim).unwrap(), b"precious", "{name}");
            assert!(fs::symlink_metadata(&file).unwrap().is_file(), "{name}");

            fs::remove_file(&file).unwrap();
            assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
            refused(args, "", &[&shown, "not a regular file"]);
            let again = forced(args);
            assert!(again.status.success(), "{name}: {}", stderr(&again));
            fs::remove_file(&file).unwrap();
            symlink("/dev/zero", &file).unwrap();
            refused(args, "", &[&shown, "symbolic link"]);
            fs::remove_file(&file).unwrap();
            fs::write(&file, whole).unwrap();
        }
        // What is written in place is not replaced by force either.
        let beside = Path::new(at).join("judge.jsonl");
        symlink(&victim, &beside).unwrap();
        let again = forced(args);
        assert_eq!(again.status.code(), Some(2), "{}", stderr(&again));
        fs::remove_file(&beside).unwrap();
    }
    let nowhere = path("nowhere");
    symlink("not/there", &nowhere).unwrap();
    let to = ["eval", "score", "--tasks", &quiz, "--completions", &answers, "--out", &nowhere];
    refused(&to, "", &["is no directory"]);
    // The settings beside samples that are judged again.
    let settings = Path::new(&out).join("settings.json");
    fs::remove_file(&settings).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&settings).status().unwrap().success());
    let (samples, new) = (path("out/samples.jsonl"), path("new"));
    let again = ["eval", "score", "--tasks", &quiz, "--completions", &samples, "--out", &new];
    refused(&again, "", &["settings.json", "not a regular file"]);
}

#[test]
fn files_of_gigabytes_are_refused_before_they_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    fs::create_dir(&run).unwrap();
    let config = write(&run, "config.toml", "name = \"r\"\n");
    let metrics = write(&run, "metrics.jsonl", "{\"step\":1,\"stage\":\"grpo\",\"reward/mean\":1.0}\n");
    let shown = run.display().to_string();
    assert!(rlvr(&["report", &shown, "--out", "-"], "").status.success());
    // Sparse: they take no disk.
    let longer = |path: &str| {
        let before = fs::metadata(path).unwrap().len();
        File::options().write(true).open(path).unwrap().set_len(3 << 30).unwrap();
        move |path: &str| File::options().write(true).open(path).unwrap().set_len(before).unwrap()
    };
    let cut = longer(&config);
    refused(&["report", &shown, "--out", "-"], "", &["config.toml", "more than 16 MiB"]);
    refused(&["train", &config, "--dry-run"], "", &["config.toml", "more than 16 MiB"]);
    cut(&config);
    let cut = longer(&metrics);
    refused(&["report", &shown, "--out", "-"], "", &["metrics.jsonl:2: a line has more than 64 MiB"]);
    cut(&metrics);
    let rows =
        write(dir.path(), "rows.jsonl", "{\"id\": 1, \"prompt\": \"x\", \"reference\": {\"answer\": 1}}\n");
    let _ = longer(&rows);
    let out = dir.path().join("out").display().to_string();
    for args in [
        &["data", "filter", &rows, "--where", "id == 1", "--out", &out][..],
        &["data", "import", &rows, "--out", &out],
        &["score", "--reward", "exact", "--self-check", &rows],
    ] {
        refused(args, "", &["rows.jsonl:2", "a line has more than 64 MiB"]);
    }
}

#[test]
fn numbers_keep_the_digits_that_a_number_does_not_hold() {
    let dir = tempfile::tempdir().unwrap();
    let (long, small) = ("123456789012345678901234567890", "0.1234567890123456789012");
    let text = [long, small, "12345678901234567891", "1.5"]
        .iter()
        .enumerate()
        .map(|(i, answer)| format!("{{\"question\":\"q{i}\",\"answer\":{answer},\"seen\":{answer}}}"))
        .collect::<Vec<_>>();
    let list = write(dir.path(), "rows.json", &format!("[{}]", text.join(",\n")));
    let file = write(dir.path(), "rows.jsonl", &text.join("\n"));
    for input in [&file, &list] {
        let imported = rlvr(
            &["data", "import", input, "--question", "question", "--answer", "answer", "--out", "-"],
            "",
        );
        assert!(imported.status.success(), "{}", stderr(&imported));
        let found = rows(&imported);
        let answers: Vec<&str> =
            found.iter().map(|row| row["reference"]["answer"].as_str().unwrap()).collect();
        assert_eq!(answers, [long, small, "12345678901234567891", "1.5"]);
        assert_eq!((&found[0]["meta"]["seen"], &found[3]["meta"]["seen"]), (&json!(long), &json!(1.5)));
    }
    // Conditions compare them as numbers, and rows stay as they were written.
    let kept = rlvr(&["data", "filter", &file, "--where", "answer > 1.5", "--out", "-"], "");
    assert_eq!(String::from_utf8(kept.stdout.clone()).unwrap(), format!("{}\n{}\n", text[0], text[2]));
    let judged = format!(
        "{{\"id\":1,\"prompt\":\"x\",\"reference\":{{\"answer\":{long}}},\"completion\":\"\\\\boxed{{{long}}}\"}}\n\
         {{\"id\":2,\"prompt\":\"x\",\"reference\":{{\"answer\":{long}}},\"completion\":\"\\\\boxed{{{long}1}}\"}}"
    );
    let found = rows(&rlvr(&["score", "--reward", "math", &write(dir.path(), "judged.jsonl", &judged)], ""));
    assert_eq!((&found[0]["verdict"], &found[1]["verdict"]), (&json!("correct"), &json!("incorrect")));
}

#[test]
fn a_table_of_another_system_names_its_lines() {
    let dir = tempfile::tempdir().unwrap();
    for end in ["\n", "\r\n"] {
        let text = ["question,answer", "q,1", "\"two", "lines\",2", "q,", ""].join(end);
        let file = write(dir.path(), "rows.csv", &text);
        let import = ["data", "import", &file, "--question", "question", "--answer", "answer", "--out", "-"];
        refused(&import, "", &["rows.csv:5: the row has no field `answer`"]);
        let file = write(dir.path(), "rows.csv", &["question,answer", "q,1", "q,1,2", ""].join(end));
        refused(&["data", "import", &file, "--out", "-"], "", &["rows.csv:"]);
        let import = ["data", "import", &file, "--question", "question", "--answer", "answer", "--out", "-"];
        refused(&import, "", &["rows.csv:3: 3 fields, the header has 2"]);
    }
}

#[test]
fn a_prompt_that_is_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let asked = [
        json!({"id": 1, "prompt": " ", "reference": {"answer": "1"}}),
        json!({"id": 1, "question": " ", "answer": "1"}),
    ];
    for row in asked {
        let file = write(dir.path(), "rows.jsonl", &lines(&[row]));
        let checked = rlvr(&["eval", "validate", "--tasks", &file], "");
        let said = String::from_utf8_lossy(&checked.stdout).into_owned() + &stderr(&checked);
        assert!(!checked.status.success() && said.contains("rows.jsonl:1: the question is empty"), "{said}");
    }
}
