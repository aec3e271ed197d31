//! What the system gives little of: processes.
#![cfg(target_os = "linux")]
use crate::cli::{SMALL_RUN, write};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A user that nobody is, for root, whose processes are not limited.
const NOBODY: u32 = 61_234;

/// Runs the binary where at most `processes` processes and threads are allowed.
fn limited(binary: &Path, processes: u64, args: &[&str]) -> Output {
    let mut command = Command::new(binary);
    command.args(args).env_remove("RUST_LOG").stdin(Stdio::null()).current_dir(binary.parent().unwrap());
    // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            let limit = libc::rlimit { rlim_cur: processes, rlim_max: processes };
            let mut ok = libc::setrlimit(libc::RLIMIT_NPROC, &limit) == 0;
            if libc::geteuid() == 0 {
                ok &= libc::setgroups(0, std::ptr::null()) == 0;
                ok &= libc::setgid(NOBODY) == 0 && libc::setuid(NOBODY) == 0;
            }
            if ok { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn without_threads_commands_go_on_or_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let all = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    all(dir.path());
    let binary = dir.path().join("rlvr");
    fs::copy(env!("CARGO_BIN_EXE_rlvr"), &binary).unwrap();
    let rows: String = (0..50)
        .map(|i| {
            format!(
                "{}\n",
                json!({"id": i, "completion": "<answer>4</answer>", "reference": {"answer": "4"}})
            )
        })
        .collect();
    let rows = write(dir.path(), "rows.jsonl", &rows);
    let program =
        json!({"id": 1, "completion": "```\nprint(1)\n```", "reference": {"tests": [{"output": "1"}]}});
    let programs = write(dir.path(), "programs.jsonl", &crate::cli::lines(&[program]));
    let code = write(dir.path(), "code.toml", "kind = \"code\"\n");
    let config = write(dir.path(), "config.toml", SMALL_RUN);
    let plugin = "[rewards]\nkind = \"plugin\"\ncommand = [\"sh\", \"-c\", \"exit 0\"]\nworkers = 4\n";
    let plugin = write(dir.path(), "plugin.toml", plugin);
    // The first allows no thread beside the first one.
    for processes in [1, 2, 3, 5, 8] {
        let run = |args: &[&str]| {
            let output = limited(&binary, processes, args);
            let message = text(&output);
            assert!(!message.contains("panicked"), "{processes}: {args:?}: {message}");
            assert!(
                matches!(output.status.code(), Some(0..=2)),
                "{processes}: {args:?}: {:?} {message}",
                output.status
            );
            output
        };
        let scored = run(&["score", "--reward", "exact", &rows]);
        assert_eq!(scored.status.code(), Some(0), "{processes}: {}", text(&scored));
        assert_eq!(scored.stdout.split(|b| *b == b'\n').filter(|l| !l.is_empty()).count(), 50);
        let judged = run(&["score", "--config", &code, &programs]);
        assert_eq!(judged.status.code(), Some(0), "{processes}: {}", text(&judged));
        assert!(String::from_utf8_lossy(&judged.stdout).contains("\"verdict\""));
        assert_eq!(run(&["--threads", "4", "data", "generate", "countdown"]).status.code(), Some(0));
        let broken = run(&["score", "--config", &plugin, &rows]);
        assert!(text(&broken).contains("start"), "{processes}: {}", text(&broken));
        let out = dir.path().join(format!("run{processes}"));
        let trained = run(&["train", &config, "--out", out.to_str().unwrap()]);
        assert_eq!(trained.status.code(), Some(0), "{processes}: {}", text(&trained));
        let meta: Value = serde_json::from_slice(&fs::read(out.join("meta.json")).unwrap()).unwrap();
        assert_eq!(meta["status"], "finished");
    }
}
