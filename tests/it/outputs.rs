//! Where commands write: files that exist stay, links stay links, what is no file is written through, and nobody is told
//! that all is well because the reader of stdout has gone.
use crate::cli::{SMALL_RUN, lines, refused, rlvr, stderr, write};
use crate::evals::{model, quiz};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What commands that write a file need, and the arguments of each but for `--out`.
struct Bench {
    dir: tempfile::TempDir,
    commands: Vec<(&'static str, Vec<String>)>,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let task = |i: usize| json!({"id": i, "prompt": format!("{i}+1="), "reference": {"answer": (i + 1).to_string()}});
    let tasks = write(dir.path(), "tasks.jsonl", &lines(&(0..20).map(task).collect::<Vec<_>>()));
    let mut answered: Vec<Value> = (0..20).map(task).collect();
    for (i, row) in answered.iter_mut().enumerate() {
        row["completion"] = json!(format!("<answer>{}</answer>", i % 3 + 1));
        row["label"] = json!(i % 2 == 0);
    }
    let answered = write(dir.path(), "answered.jsonl", &lines(&answered));
    let rollout = json!({"step": 1, "stage": "grpo", "group": 0, "sample": 0, "id": "a", "reference": {"answer": "4"},
        "prompt": "2+2=", "completion": "4", "finish_reason": "stop", "length_tokens": 1, "reward": 1.0,
        "advantage": 0.0, "outcome": {"score": 1.0, "verdict": "correct", "extracted": null, "gold": null,
        "prediction": null, "method": "m", "reason": "r", "parts": [], "work": 0}});
    let run = dir.path().join("run");
    fs::create_dir(&run).unwrap();
    write(&run, "config.toml", "name = \"r\"\n");
    write(&run, "metrics.jsonl", "{\"step\":1,\"stage\":\"grpo\",\"reward/mean\":1.0}\n");
    write(&run, "rollouts.jsonl", &lines(&[rollout]));
    let run = run.display().to_string();
    let quiz = write(dir.path(), "quiz.jsonl", &quiz(4));
    let answers =
        [json!({"id": "q0", "completion": "A"}), json!({"id": "q1", "completion": "The answer is C"})];
    let answers = write(dir.path(), "answers.jsonl", &lines(&answers));
    let evaluation = dir.path().join("evaluation").display().to_string();
    let scored =
        rlvr(&["eval", "score", "--tasks", &quiz, "--completions", &answers, "--out", &evaluation], "");
    assert!(scored.status.success(), "{}", stderr(&scored));
    let commands = vec![
        ("generate", vec!["data", "generate", "addition", "--count", "20"]),
        ("import", vec!["data", "import", &tasks]),
        ("dedup", vec!["data", "dedup", &tasks]),
        ("filter", vec!["data", "filter", &tasks, "--where", "id < 10"]),
        ("cap", vec!["data", "cap", &tasks, "--max", "5"]),
        ("decontaminate", vec!["data", "decontaminate", &tasks, "--against", &answered, "--allow-empty"]),
        ("choice-to-open", vec!["data", "choice-to-open", &tasks, "--keep-refused"]),
        (
            "pass-rate",
            vec![
                "data",
                "pass-rate",
                &tasks,
                "--completions",
                &answered,
                "--reward",
                "exact",
                "--allow-empty",
            ],
        ),
        ("rejection", vec!["data", "rejection", &tasks, "--completions", &answered, "--reward", "exact"]),
        ("score", vec!["score", "--reward", "exact", &answered]),
        ("against", vec!["score", "--reward", "exact", "--against", "labels", &answered]),
        ("rescore", vec!["score", "--reward", "exact", "--rescore", &run]),
        ("report", vec!["report", &run]),
        ("eval report", vec!["eval", "report", &evaluation]),
    ];
    let owned = |args: Vec<&str>| args.into_iter().map(str::to_owned).collect();
    let commands = commands.into_iter().map(|(name, args)| (name, owned(args))).collect();
    Bench { dir, commands }
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Runs a command with `--out`.
fn run(args: &[String], out: &Path, more: &[&str]) -> std::process::Output {
    let mut all: Vec<&str> = args.iter().map(String::as_str).collect();
    all.extend(["--out", out.to_str().unwrap()]);
    all.extend(more);
    rlvr(&all, "")
}

#[test]
fn files_that_exist_stay_without_force_in_every_command() {
    let bench = bench();
    for (name, args) in &bench.commands {
        // Directories above a new file are made.
        let out = bench.path(&format!("new/{name}/out"));
        let done = run(args, &out, &[]);
        assert!(done.status.success(), "{name}: {}", stderr(&done));
        let written = fs::read(&out).unwrap();
        assert!(!written.is_empty() || ["decontaminate", "pass-rate"].contains(name), "{name}");
        fs::write(&out, "precious").unwrap();
        let output = run(args, &out, &[]);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{name}: {message}");
        assert!(message.contains("out exists: replace it with --force"), "{name}: {message}");
        assert_eq!(fs::read(&out).unwrap(), b"precious", "{name}");
        let forced = run(args, &out, &["--force"]);
        assert!(forced.status.success(), "{name}: {}", stderr(&forced));
        assert_eq!(fs::read(&out).unwrap(), written, "{name}");
        // A directory is none.
        let output = run(args, bench.dir.path(), &["--force"]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(stderr(&output).contains("is a directory"), "{name}: {}", stderr(&output));
    }
    let path = |name: &str| bench.path(name).display().to_string();
    let (tasks, answered) = (path("tasks.jsonl"), path("answered.jsonl"));
    // Second outputs of a command, and commands that write several files.
    let report = write(bench.dir.path(), "report.json", "precious");
    let against = ["score", "--reward", "exact", "--against", "labels", &answered, "--report", &report];
    refused(&against, "", &["report.json exists", "--force"]);
    let dropped = write(bench.dir.path(), "dropped.jsonl", "precious");
    let out = path("deduplicated.jsonl");
    let dedup = ["data", "dedup", &tasks, "--out", &out, "--dropped", &dropped];
    refused(&dedup, "", &["dropped.jsonl exists", "--force"]);
    assert!(!Path::new(&out).exists());
    let parts = bench.path("parts");
    fs::create_dir(&parts).unwrap();
    write(&parts, "b.jsonl", "precious");
    let split = ["data", "split", &tasks, "--parts", "a=0.5,b=0.5", "--out-dir", parts.to_str().unwrap()];
    refused(&split, "", &["b.jsonl exists", "--force"]);
    assert!(!parts.join("a.jsonl").exists());
    let plugin = bench.path("plugin");
    fs::create_dir(&plugin).unwrap();
    write(&plugin, "README.md", "precious");
    let new = ["plugin", "new", "--lang", "python", plugin.to_str().unwrap()];
    refused(&new, "", &["README.md exists", "--force"]);
    assert!(!plugin.join("reward.py").exists());
    assert!(
        rlvr(&[&new[..], &["--force"]].concat(), "").status.success() && plugin.join("reward.py").exists()
    );
    // Results that are of no evaluation here.
    let (evaluation, quiz, answers) = (bench.path("theirs"), path("quiz.jsonl"), path("answers.jsonl"));
    fs::create_dir(&evaluation).unwrap();
    for file in ["results.json", "results.md"] {
        write(&evaluation, file, "precious");
        let shown = evaluation.to_str().unwrap();
        let exists = format!("{file} exists: replace it with --force");
        refused(
            &["eval", "score", "--tasks", &quiz, "--completions", &answers, "--out", shown],
            "",
            &[&exists],
        );
        let policy = model("tiny-llama");
        refused(&["eval", "run", "--policy", &policy, "--tasks", &quiz, "--out", shown], "", &[&exists]);
        assert_eq!(fs::read(evaluation.join(file)).unwrap(), b"precious");
        fs::remove_file(evaluation.join(file)).unwrap();
    }
    for file in [report, dropped, parts.join("b.jsonl").display().to_string()] {
        assert_eq!(fs::read(file).unwrap(), b"precious");
    }
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_written_through_and_links_stay() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    let bench = bench();
    let fifo = bench.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    // A device of one's own, where this user may make one: it takes everything, as /dev/null does.
    let device = bench.path("device");
    let made = Command::new("mknod").arg(&device).args(["c", "1", "3"]).stderr(Stdio::null()).status();
    let devices = made.is_ok_and(|status| status.success());
    for (name, args) in &bench.commands {
        let file = bench.path(&format!("{name}.plain"));
        assert!(run(args, &file, &[]).status.success(), "{name}");
        let written = fs::read(&file).unwrap();

        let stdout = run(args, Path::new("-"), &[]);
        assert!(stdout.status.success(), "{name}: {}", stderr(&stdout));
        assert!(stdout.stdout == written, "{name}");
        assert!(!Path::new("-").exists() && !Path::new("-.manifest.json").exists());
        let same = run(args, Path::new("/dev/stdout"), &[]);
        assert!(same.stdout == written, "{name}: {}", stderr(&same));

        let reader = std::thread::spawn({
            let fifo = fifo.clone();
            move || fs::read(fifo).unwrap()
        });
        let through = run(args, &fifo, &[]);
        // Opened once more, so that the reader ends whatever happened.
        let _ = fs::File::options().read(true).write(true).open(&fifo);
        assert!(through.status.success(), "{name}: {}", stderr(&through));
        assert!(reader.join().unwrap() == written, "{name}");
        assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo(), "{name}");
        if devices {
            for force in [&[][..], &["--force"]] {
                let thrown = run(args, &device, force);
                assert!(thrown.status.success(), "{name}: {}", stderr(&thrown));
                assert!(fs::symlink_metadata(&device).unwrap().file_type().is_char_device(), "{name}");
            }
        }

        let (link, target) = (bench.path(&format!("{name}.link")), bench.path(&format!("{name}.target")));
        symlink(&target, &link).unwrap();
        assert!(run(args, &link, &[]).status.success(), "{name}");
        assert!(
            fs::symlink_metadata(&link).unwrap().is_symlink() && fs::read(&target).unwrap() == written,
            "{name}"
        );
        assert_eq!(run(args, &link, &[]).status.code(), Some(2), "{name}");
    }
    let left: Vec<String> = (fs::read_dir(bench.dir.path()).unwrap())
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("tmp") || name.contains("fifo.") || name.contains("device."))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Runs a command whose stdout is closed from the first byte on: exit code and stderr.
fn unread(args: &[&str]) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_rlvr"));
    let output =
        command.args(args).env_remove("RUST_LOG").stdin(Stdio::null()).stdout(writer).output().unwrap();
    (output.status.code(), stderr(&output))
}

#[test]
fn a_reader_that_goes_ends_what_is_made_for_it_and_changes_no_verdict() {
    let bench = bench();
    let path = |name: &str| bench.path(name).display().to_string();
    // Data is made for its reader: without one there is nothing to say.
    for args in [
        &["data", "generate", "addition", "--count", "2000"][..],
        &["score", "--reward", "exact", &path("answered.jsonl")],
        &["sample", "--policy", &model("tiny-llama"), "--prompt", "x", "--max-tokens", "2"],
        &["report", &path("run"), "--out", "-"],
        &["data", "dedup", &path("tasks.jsonl"), "--out", "-"],
        &["completions", "bash"],
        &["--help"],
    ] {
        assert_eq!(unread(args), (Some(0), String::new()), "{args:?}");
    }
    // What is read beside the exit code does not decide it.
    let none = write(bench.dir.path(), "bad.jsonl", "{\"id\": 1, \"reference\": {\"answer\": \"\"}}\n");
    let check = ["score", "--reward", "exact", "--self-check", &none];
    assert_eq!(unread(&check).0, Some(1));
    assert_eq!(unread(&["data", "validate", &none]).0, Some(1));
    let (quiz, answers, out) = (path("quiz.jsonl"), path("answers.jsonl"), path("scored"));
    let score = [
        "eval",
        "score",
        "--tasks",
        &quiz,
        "--completions",
        &answers,
        "--out",
        &out,
        "--fail-under",
        "quiz=0.9",
    ];
    let (code, message) = unread(&score);
    assert!(code == Some(1) && message.contains("below 0.900"), "{code:?} {message}");
    let config = write(bench.dir.path(), "small.toml", &SMALL_RUN.replace("[preflight]\nrefuse = false", ""));
    let (code, message) = unread(&["train", &config, "--out", &path("trained")]);
    assert!(matches!(code, Some(0 | 2)) && !message.contains("panicked"), "{code:?} {message}");
}

/// A run whose plugin dies and talks, so that the host logs, with a stderr that nobody reads.
#[cfg(unix)]
#[test]
fn a_closed_stderr_ends_no_run() {
    if Command::new("python3").arg("--version").stdout(Stdio::null()).status().is_err() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "reward.py",
        "import sys, os\nfrom rlvr_plugin import serve\n\n\
        def score(item):\n    print('talk', file=sys.stderr)\n    if len(item['completion']) % 3 == 0:\n        os._exit(3)\n    return 0.5\n\n\
        serve(score)\n",
    );
    let folder = dir.path().join("new").display().to_string();
    assert!(rlvr(&["plugin", "new", "--lang", "python", &folder], "").status.success());
    fs::copy(dir.path().join("new/rlvr_plugin.py"), dir.path().join("rlvr_plugin.py")).unwrap();
    let text = SMALL_RUN.split("[rewards]").next().unwrap().to_owned()
        + "[rewards]\nkind = \"plugin\"\ncommand = [\"python3\", \"reward.py\"]\n[[stage]]\nkind = \"grpo\"\ndata = \"sums\"\n\
           steps = 2\nprompts_per_step = 4\ngroup_size = 4\nmax_error_frac = 1.0\nsampling = { max_tokens = 6 }\n\
           [preflight]\nrefuse = false\n";
    let config = write(dir.path(), "config.toml", &text);
    let out = dir.path().join("run");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = Command::new(env!("CARGO_BIN_EXE_rlvr"))
        .args(["train", &config, "--out", out.to_str().unwrap()])
        .env("RUST_LOG", "info")
        .stdout(Stdio::null())
        .stderr(writer)
        .spawn()
        .unwrap();
    let (done, ended) = std::sync::mpsc::channel();
    let pid = child.id();
    std::thread::spawn(move || done.send(child.wait().unwrap()).unwrap());
    let status = ended.recv_timeout(std::time::Duration::from_secs(300)).unwrap_or_else(|_| {
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        panic!("the run hangs")
    });
    assert_eq!(status.code(), Some(0));
    let metrics = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 2);
}

/// A reward whose reason is the `meta` that it got.
const ECHO: &str = "import json\nfrom rlvr_plugin import serve\n\nserve(lambda item: (0.5, json.dumps(item['meta'], sort_keys=True)))\n";

#[test]
fn a_plugin_gets_the_whole_row_everywhere() {
    if Command::new("python3").arg("--version").stdout(Stdio::null()).status().is_err() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    assert!(rlvr(&["plugin", "new", "--lang", "python", &path("new")], "").status.success());
    fs::copy(dir.path().join("new/rlvr_plugin.py"), dir.path().join("rlvr_plugin.py")).unwrap();
    write(dir.path(), "echo.py", ECHO);
    let row = json!({"id": "a", "question": "1+1=", "answer": "2", "difficulty": 3, "tags": ["x", {"y": null}],
        "long": "z".repeat(210), "options": ["1", "2"], "subject": "sums"});
    let mut rest = row.clone();
    rest.as_object_mut().unwrap().remove("id");
    write(dir.path(), "rows.jsonl", &lines(std::slice::from_ref(&row)));
    let heard = |reason: &Value| serde_json::from_str::<Value>(reason.as_str().unwrap()).unwrap();
    let plugin = "kind = \"plugin\"\ncommand = [\"python3\", \"echo.py\"]\n";

    let source = "[data.rows]\nkind = \"jsonl\"\npath = \"rows.jsonl\"\nprompt = \"{{ question }}\"\nmeta = [\"difficulty\"]\n";
    let small = SMALL_RUN.split("[data.sums]").next().unwrap();
    let text = format!(
        "{small}{source}[rewards]\n{plugin}[[stage]]\nkind = \"grpo\"\ndata = \"rows\"\nsteps = 1\nprompts_per_step = 1\n\
         group_size = 2\nsampling = {{ max_tokens = 6 }}\n[preflight]\nrefuse = false\n"
    );
    let config = write(dir.path(), "config.toml", &text);
    let trained = rlvr(&["train", &config, "--out", &path("run")], "");
    assert!(trained.status.success(), "{}", stderr(&trained));
    let rollouts = fs::read_to_string(dir.path().join("run/rollouts.jsonl")).unwrap();
    for rollout in rollouts.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        assert_eq!(heard(&rollout["outcome"]["reason"]), rest);
        assert_eq!(rollout["meta"], json!({"difficulty": 3}));
    }
    assert_eq!(rollouts.lines().count(), 2);
    let typo = write(dir.path(), "typo.toml", &text.replace("\"difficulty\"", "\"dificulty\""));
    refused(
        &["train", &typo, "--out", &path("typo")],
        "",
        &["rows.jsonl:1: meta", "did you mean `difficulty`?"],
    );

    let completion = json!({"id": "a", "completion": "2"});
    let completions = write(dir.path(), "completions.jsonl", &lines(&[completion]));
    let quiz = crate::evals::QUIZ.replace("quiz.jsonl", "rows.jsonl").replace("kind = \"choice\"\n", plugin);
    let quiz = write(dir.path(), "quiz.toml", &quiz);
    let scored =
        rlvr(&["eval", "score", "--tasks", &quiz, "--completions", &completions, "--out", &path("eval")], "");
    assert!(scored.status.success(), "{}", stderr(&scored));
    let sample = fs::read_to_string(dir.path().join("eval/samples.jsonl")).unwrap();
    let sample: Value = serde_json::from_str(sample.trim()).unwrap();
    assert_eq!(heard(&sample["reason"]), rest);
    // What is kept of it is short.
    assert_eq!(sample["meta"], json!({"difficulty": 3, "subject": "sums"}));

    let reward = write(dir.path(), "reward.toml", plugin);
    let mut judged = row;
    judged["completion"] = json!("2");
    judged["reference"] = json!({"answer": "2"});
    let judged = write(dir.path(), "judged.jsonl", &lines(&[judged]));
    let found = crate::cli::rows(&rlvr(&["score", "--config", &reward, &judged], ""));
    assert_eq!(heard(&found[0]["reason"]), rest);
}

#[test]
fn one_process_at_a_time_evaluates_into_a_directory() {
    let bench = bench();
    let path = |name: &str| bench.path(name).display().to_string();
    let (quiz, answers, out) = (path("quiz.jsonl"), path("answers.jsonl"), path("busy"));
    fs::create_dir(&out).unwrap();
    let lock = fs::File::create(Path::new(&out).join(".lock")).unwrap();
    lock.try_lock().unwrap();
    let policy = model("tiny-llama");
    let run = ["eval", "run", "--policy", &policy, "--tasks", &quiz, "--max-tokens", "2", "--out", &out];
    let score = ["eval", "score", "--tasks", &quiz, "--completions", &answers, "--out", &out];
    for args in [&run[..], &score] {
        let output = rlvr(args, "");
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains("busy is in use by another process"), "{}", stderr(&output));
        assert!(
            !Path::new(&out).join("samples.jsonl").exists()
                && !Path::new(&out).join("settings.json").exists()
        );
    }
    drop(lock);
    assert!(rlvr(&run, "").status.success());
    assert!(Path::new(&out).join("results.json").is_file());
}
