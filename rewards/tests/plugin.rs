//! Plugins that misbehave: nothing is lost, nothing is let through, nothing hangs.
#![cfg(unix)]
// The helpers here are tests too, which clippy does not see.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rlvr_rewards::plugin::{Plugin, PluginConfig};
use rlvr_rewards::{Outcome, Response, Reward, RewardConfig, Task, Verdict, score_batch, score_one};
use serde_json::{Value, json};

/// A plugin whose misdeed is named in its config; without one, the score is the length of the completion in tenths.
const PYTHON: &str = r#"
import json, os, sys, time
def send(x): sys.stdout.write((x if isinstance(x, str) else json.dumps(x)) + "\n"); sys.stdout.flush()
hello = json.loads(sys.stdin.readline())
mode = hello["config"].get("mode", "")
assert hello["protocol"] == [1] and hello["limits"]["line_bytes"] == 16777216
caps = hello["config"].get("capabilities", ["batch", "deterministic", "levitate"])
send({"type": "hello", "protocol": 1, "name": "hostile", "version": "1", "capabilities": caps, "new": 1})
for line in sys.stdin:
    m = json.loads(line)
    if m["type"] == "bye": break
    n = len(m["items"])
    out = []
    for it in m["items"]:
        c = it["completion"]
        if c == "die": os._exit(3)
        if c == "kill": os.kill(os.getpid(), 9)
        if c == "sleep": time.sleep(100)
        out.append({"i": it["i"], "score": min(len(c), 10) / 10, "unknown": [1]})
    bad = any(it["completion"] == "bad" for it in m["items"])
    reply = {"type": "result", "batch": m["batch"], "items": out}
    if mode == "reverse": out.reverse()
    if mode == "rank":
        assert len({it["id"] for it in m["items"] if it["group"] == 0}) == 1
        for o, it in zip(out, m["items"]):
            peers = [x["completion"] for x in m["items"] if x["group"] == it["group"]]
            o["score"] = sum(len(p) < len(it["completion"]) for p in peers) / len(peers)
            o["reason"] = f"one of {len(peers)}"
    if bad:
        if mode == "nan": out[-1]["score"] = float("nan")
        if mode == "high": out[0]["score"] = 1.5
        if mode == "contradiction": out[0].update(score=0, verdict="correct")
        if mode == "missing": out.pop()
        if mode == "twice": out[-1] = out[0]
        if mode == "unknown": out[-1]["i"] = n
        if mode == "extra": out.append({"i": n, "score": 1})
        if mode == "batch": reply["batch"] += 1
        if mode == "garbage": send("scores: 1 1 1"); continue
        if mode == "two": sys.stdout.write(json.dumps(reply) + "\n" + json.dumps(reply) + "\n"); sys.stdout.flush(); continue
        if mode == "flood":
            while True: sys.stdout.write("x" * 65536)
        if mode == "lines":
            while True: sys.stdout.write("{}\n" * 9999)
        if mode == "noise":
            while True: sys.stderr.write("noise " * 9999)
        if mode == "exit": send(reply); os._exit(0)
        if mode == "close": os.close(1); time.sleep(100)
        if mode == "deaf": os.close(0); time.sleep(100)
        if mode in ("fork", "orphan"):
            pid = os.fork()
            if pid == 0: time.sleep(100)
            with open(hello["config"]["pid"], "w") as f: f.write(str(pid))
            if mode == "orphan": os._exit(0)
    send(reply)
"#;

fn has_python() -> bool {
    let found = Command::new("python3").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|s| s.success());
    if !found {
        eprintln!("note: skipped, there is no python3");
    }
    found
}

struct Setup {
    dir: tempfile::TempDir,
    config: PluginConfig,
}

impl Setup {
    fn new(program: &str, script: &str, config: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("plugin"), script).unwrap();
        let mut plugin = PluginConfig::new([program, "plugin"]);
        plugin.resolve_paths(dir.path());
        plugin.config = config.as_object().unwrap().clone();
        plugin.timeout_s = 20.0;
        plugin.range = Some([0.0, 1.0]);
        Self { dir, config: plugin }
    }

    fn python(config: Value) -> Self {
        Self::new("python3", PYTHON, config)
    }

    fn sh(script: &str) -> Self {
        Self::new("sh", script, json!({}))
    }

    fn judge(&self, texts: &[&str]) -> Vec<Outcome> {
        judge(&Plugin::new(self.config.clone()).unwrap(), texts)
    }
}

fn judge(plugin: &Plugin, texts: &[&str]) -> Vec<Outcome> {
    let task = Task::new("t", json!({"answer": "4"}));
    let items: Vec<_> = texts.iter().map(|t| (&task, Response::new(t))).collect();
    score_batch(plugin, &items)
}

fn scores(outcomes: &[Outcome]) -> Vec<Option<f64>> {
    outcomes.iter().map(|o| o.score).collect()
}

fn length(text: &str) -> Option<f64> {
    Some(text.len().min(10) as f64 / 10.0)
}

/// Every item is an error with this reason.
#[track_caller]
fn all_broken(outcomes: &[Outcome], n: usize, reason: &str) {
    assert_eq!(outcomes.len(), n);
    for o in outcomes {
        assert_eq!((o.score, o.verdict), (None, Verdict::Error));
        assert!(o.reason.contains(reason), "no {reason:?} in {:?}", o.reason);
    }
}

fn is_running(pid: &str) -> bool {
    // A zombie has ended; only its parent has not looked.
    let state = fs::read_to_string(format!("/proc/{pid}/stat"));
    state.is_ok_and(|s| s.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z')))
}

#[track_caller]
fn ends_soon(pid_file: &Path) {
    let until = Instant::now() + Duration::from_secs(5);
    let pid = loop {
        match fs::read_to_string(pid_file) {
            Ok(pid) if !pid.is_empty() => break pid,
            _ => assert!(Instant::now() < until, "no child was made"),
        }
    };
    while is_running(&pid) {
        assert!(Instant::now() < until, "process {pid} survived");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn scores_come_back_in_order_for_any_number_of_workers() {
    if !has_python() {
        return;
    }
    let texts: Vec<String> = (0..500).map(|i| "é\u{2028}\0\"".repeat(i % 3) + &"x".repeat(i % 7)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).chain(["die", "x", "die"]).collect();
    let mut seen = Vec::new();
    for (workers, batch, mode) in [(1, 64, ""), (3, 64, "reverse"), (2, 7, "")] {
        let mut setup = Setup::python(json!({ "mode": mode }));
        setup.config.workers = workers;
        setup.config.batch = batch;
        seen.push(setup.judge(&texts));
    }
    let chars = |t: &&str| Some(t.chars().count().min(10) as f64 / 10.0).filter(|_| *t != "die");
    assert_eq!(scores(&seen[0]), texts.iter().map(chars).collect::<Vec<_>>());
    assert_eq!(seen[0], seen[1]);
    assert_eq!(scores(&seen[0]), scores(&seen[2]));
}

#[test]
fn a_violation_is_an_error_for_its_batch_and_for_no_other() {
    if !has_python() {
        return;
    }
    for (mode, reason) in [
        ("nan", "JSON has no NaN"),
        ("high", "score 1.5, outside of [0, 1]"),
        ("contradiction", "item 0 is called correct with the score 0"),
        ("missing", "did not answer item 2 of 3"),
        ("twice", "answered item 0 twice"),
        ("unknown", "answered item 3 of 3"),
        ("extra", "answered item 3 of 3"),
        ("batch", "answered batch 3 when asked batch 2"),
        ("garbage", "not a result"),
        ("two", "more than one line"),
        ("flood", "line above 16 MiB"),
        ("lines", "more than one line"),
    ] {
        let mut setup = Setup::python(json!({ "mode": mode }));
        setup.config.batch = 3;
        let outcomes = setup.judge(&["1", "22", "333", "4444", "55555", "bad", "7777777", "88888888"]);
        assert_eq!(scores(&outcomes[..3]), [Some(0.1), Some(0.2), Some(0.3)], "{mode}");
        all_broken(&outcomes[3..6], 3, reason);
        assert_eq!(scores(&outcomes[6..]), [Some(0.7), Some(0.8)], "{mode}");
    }
}

#[test]
fn one_item_that_kills_the_plugin_is_found_and_quarantined() {
    if !has_python() {
        return;
    }
    for (item, reason) in [("die", "exit status: 3"), ("kill", "signal: 9")] {
        let setup = Setup::python(json!({}));
        let plugin = Plugin::new(setup.config.clone()).unwrap();
        let mut texts = vec!["1234567"; 40];
        texts[17] = item;
        let outcomes = judge(&plugin, &texts);
        for (text, outcome) in texts.iter().zip(&outcomes) {
            assert_eq!(outcome.score, length(text).filter(|_| *text != item));
        }
        all_broken(&outcomes[17..18], 1, reason);
        // Known by now: no process is lost for it.
        let start = Instant::now();
        let again = judge(&plugin, &[item; 200]);
        assert!(start.elapsed() < Duration::from_secs(10));
        all_broken(&again, 200, reason);
    }
}

/// A log that panics, as one that writes to a closed stderr may.
struct BrokenLog;

impl tracing::Subscriber for BrokenLog {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        panic!("the log cannot be written");
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_panic_while_judging_does_not_keep_the_worker() {
    if !has_python() {
        return;
    }
    let (done, seen) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let setup = Setup::python(json!({}));
        let plugin = Plugin::new(setup.config.clone()).unwrap();
        assert_eq!(scores(&judge(&plugin, &["1"])), [Some(0.1)]);
        // While there is one log only, tracing asks the thread that first comes to a message whether anybody wants it, and
        // another test's would say no for all.
        let _second = tracing::Dispatch::new(BrokenLog);
        let broken = tracing::subscriber::with_default(BrokenLog, || judge(&plugin, &["die", "22"]));
        all_broken(&broken, 2, "the log cannot be written");
        // The only worker judges again.
        done.send(scores(&judge(&plugin, &["333"]))).unwrap();
    });
    let scores = seen.recv_timeout(Duration::from_secs(300)).expect("a worker that comes back");
    assert_eq!(scores, [Some(0.3)]);
}

#[test]
fn a_late_item_is_found_and_the_rest_is_judged() {
    if !has_python() {
        return;
    }
    let mut setup = Setup::python(json!({}));
    setup.config.timeout_s = 0.4;
    setup.config.start_timeout_s = 20.0;
    let outcomes = setup.judge(&["1", "22", "sleep", "4444"]);
    assert_eq!(scores(&outcomes), [Some(0.1), Some(0.2), None, Some(0.4)]);
    all_broken(&outcomes[2..3], 1, "did not answer within 0.4 s");
}

#[test]
fn floods_closed_pipes_and_early_ends_neither_hang_nor_shift() {
    if !has_python() {
        return;
    }
    // The score was given before the end: it counts.
    let setup = Setup::python(json!({"mode": "exit"}));
    let plugin = Plugin::new(setup.config.clone()).unwrap();
    assert_eq!(scores(&judge(&plugin, &["bad"])), [Some(0.3)]);
    assert_eq!(scores(&judge(&plugin, &["22"])), [Some(0.2)]);
    for (mode, reason) in [("noise", "did not answer"), ("close", "closed its stdout"), ("deaf", "answer")] {
        let mut setup = Setup::python(json!({ "mode": mode }));
        setup.config.timeout_s = 0.5;
        setup.config.start_timeout_s = 20.0;
        let start = Instant::now();
        all_broken(&setup.judge(&["bad"]), 1, reason);
        assert!(start.elapsed() < Duration::from_secs(10), "{mode}");
    }
}

#[test]
fn children_of_a_plugin_end_with_it() {
    if !has_python() || !Path::new("/proc/self/stat").exists() {
        return;
    }
    for mode in ["fork", "orphan"] {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let mut setup = Setup::python(json!({ "mode": mode, "pid": pid }));
        setup.config.timeout_s = 10.0;
        let plugin = Plugin::new(setup.config.clone()).unwrap();
        let start = Instant::now();
        let outcomes = judge(&plugin, &["bad"]);
        // The orphan holds its parent's stdout open; the end of the parent is seen all the same.
        assert!(start.elapsed() < Duration::from_secs(8), "{mode}");
        match mode {
            "fork" => assert_eq!(scores(&outcomes), [Some(0.3)]),
            _ => all_broken(&outcomes, 1, "it ended (exit status: 0)"),
        }
        drop(plugin);
        ends_soon(&pid);
    }
}

#[test]
fn groups_travel_together() {
    if !has_python() {
        return;
    }
    for capabilities in [json!(["batch", "group"]), json!(["group"])] {
        let mut setup = Setup::python(json!({"mode": "rank", "capabilities": capabilities}));
        setup.config.batch = 4;
        let plugin = Plugin::new(setup.config.clone()).unwrap();
        let tasks = ["a", "b", "c"].map(|id| Task::new(id, Value::Null));
        let texts =
            [(0, "1"), (0, "22"), (0, "333"), (1, "1"), (1, "1"), (2, "1"), (2, "22"), (2, ""), (2, "4")];
        let items: Vec<_> = texts.iter().map(|(t, text)| (&tasks[*t], Response::new(text))).collect();
        let outcomes = score_batch(&plugin, &items);
        let thirds = [0.0, 1.0 / 3.0, 2.0 / 3.0].map(Some);
        assert_eq!(scores(&outcomes[..3]), thirds);
        assert_eq!(scores(&outcomes[3..]), [0.0, 0.0, 0.25, 0.75, 0.0, 0.25].map(Some));
        assert_eq!(outcomes[8].reason, "one of 4");
    }
}

#[test]
fn what_does_not_start_is_an_error_that_says_why() {
    let hello = r#"{"type":"hello","protocol":1,"name":"x","version":"1","capabilities":[]}"#;
    let future = hello.replace(":1,", ":2,");
    for (script, reason) in [
        ("echo 'no module named torch' >&2; exit 7".to_owned(), "exit status: 7); its last words: no module"),
        ("echo 'Loading model'; cat >/dev/null".to_owned(), "not a hello"),
        (format!("echo '{future}'; cat >/dev/null"), "speaks protocol 2"),
        ("echo '{\"type\":\"result\"}'; cat >/dev/null".to_owned(), "not a hello"),
        (format!("echo 'garbage'; echo '{hello}'; cat >/dev/null"), "does not start"),
        ("tr '\\0' x </dev/zero".to_owned(), "above 16 MiB"),
        ("sleep 100".to_owned(), "did not answer within 0.6 s"),
        ("tr '\\0' x </dev/zero >&2".to_owned(), "did not answer within 0.6 s"),
    ] {
        let mut setup = Setup::sh(&script);
        setup.config.start_timeout_s = if reason.contains("0.6") { 0.6 } else { 20.0 };
        let start = Instant::now();
        let plugin = Plugin::new(setup.config.clone()).unwrap();
        all_broken(&judge(&plugin, &["a", "b"]), 2, reason);
        assert!(plugin.prepare().unwrap_err().to_string().contains(reason));
        assert!(start.elapsed() < Duration::from_secs(8), "{script}");
    }
    let missing = Plugin::new(PluginConfig::new(["no-such-program-here"])).unwrap();
    all_broken(&judge(&missing, &["a"]), 1, "cannot start \"no-such-program-here\"");
}

#[test]
fn a_plugin_is_found_beside_its_config_and_sees_a_clean_world() {
    // One line in, one line out: a shell that knows its batch numbers.
    let script = r#"#!/bin/sh
read hello
echo '{"type":"hello","protocol":1,"name":"sh","version":"1","capabilities":[]}'
b=0
while read line; do
  case $line in *'"bye"'*) exit 0;; esac
  b=$((b + 1))
  seen="$(env | cut -d= -f1 | sort | tr '\n' ' ')fds:$(ls /proc/$$/fd 2>/dev/null | tr '\n' ' ')core:$(ulimit -c)"
  echo "{\"type\":\"result\",\"batch\":$b,\"items\":[{\"i\":0,\"score\":1,\"reason\":\"$seen\"}]}"
done
"#;
    // A descriptor that a careless library left open to children.
    leak(&fs::File::open("/dev/null").unwrap());
    let mut setup = Setup::sh("");
    let path = setup.dir.path().join("reward.sh");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    setup.config.command = vec!["./reward.sh".into()];
    setup.config.env = vec!["CARGO_MANIFEST_DIR".into(), "NOT_SET_AT_ALL".into()];
    let toml = toml::to_string(&RewardConfig::Plugin(setup.config.clone().into())).unwrap();
    let reward = toml::from_str::<RewardConfig>(&toml).unwrap().build().unwrap();
    let outcome = score_one(&*reward, &Task::default(), Response::new("x"));
    assert_eq!((outcome.score, outcome.verdict), (Some(1.0), Verdict::Correct), "{}", outcome.reason);
    let (env, rest) = outcome.reason.split_once("fds:").unwrap();
    let (fds, core) = rest.split_once("core:").unwrap();
    for name in env.split_whitespace() {
        // The shell itself sets the others.
        let known = ["PATH", "HOME", "LANG", "CARGO_MANIFEST_DIR", "PWD", "OLDPWD", "SHLVL", "_"];
        assert!(known.contains(&name), "{name}");
    }
    assert!(env.contains("CARGO_MANIFEST_DIR"));
    assert!(fds.contains('2') && fds.split_whitespace().all(|fd| fd.parse::<u32>().unwrap() < 100), "{fds}");
    assert_eq!(core.trim(), "0");
}

/// A copy of a descriptor, 100 or above, that an exec would keep; never closed.
fn leak(file: &fs::File) {
    use std::os::fd::AsRawFd;
    // SAFETY: duplicates a descriptor that is open.
    assert!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD, 100) } >= 100);
}
