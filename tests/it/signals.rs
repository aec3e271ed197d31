//! What a command leaves that a signal ends.
#![cfg(target_os = "linux")]
use crate::cli::{rlvr, rows, stderr, write};
use processes::{contain, wait_until};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

#[path = "../../rewards/tests/support/processes.rs"]
mod processes;

/// Processes that sleep for a time that only one test has.
fn sleepers(mark: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|e| std::fs::read(e.path().join("cmdline")).ok());
    lines.filter(|l| *l == format!("sleep\0{mark}\0").into_bytes()).count()
}

/// Lets signals end a command also where this process ignores them, as in the background of a script.
fn heed_signals(command: &mut Command) {
    let heed = || {
        for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGTERM] {
            // SAFETY: a system call that the child of a fork may make.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: as above.
    unsafe { command.pre_exec(heed) };
}

/// Whether programs can be run as here.
fn code_works(config: &str) -> bool {
    let row = json!({"id": 1, "completion": "```\necho 1\n```", "reference": {"tests": [{"output": "1"}]}})
        .to_string();
    let found = &rows(&rlvr(&["score", "--config", config, "-"], &row))[0];
    if found["verdict"] != "correct" {
        println!("skipped: {found}");
    }
    found["verdict"] == "correct"
}

#[test]
fn a_signal_leaves_no_program_and_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let config = write(
        dir.path(),
        "code.toml",
        "kind = \"code\"\nlanguage = \"bash\"\ntimeout_s = 600\nworkers = 3\n",
    );
    if !code_works(&config) {
        return;
    }
    for (i, (signal, contained)) in [
        ("INT", false),
        ("TERM", false),
        ("HUP", false),
        ("QUIT", false),
        ("KILL", false),
        ("INT", true),
        ("TERM", true),
        ("HUP", true),
        ("QUIT", true),
    ]
    .into_iter()
    .enumerate()
    {
        let mark = format!("8637{i}.{}", std::process::id());
        let row = json!({
            "id": 1,
            "completion": format!("```\nsleep {mark} & (sleep {mark} &)\nsleep {mark}\n```"),
            "reference": {"tests": [{"output": "1"}]},
        });
        let input = write(dir.path(), "rows.jsonl", &format!("{row}\n{row}\n{row}\n"));
        let temporary = dir.path().join(&mark);
        std::fs::create_dir(&temporary).unwrap();
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o1777)).unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_rlvr"));
        command.args(["--threads", "3", "score", "--config", &config, &input]);
        command.env("TMPDIR", &temporary).stdout(Stdio::null()).stderr(Stdio::piped());
        heed_signals(&mut command);
        if contained {
            contain(&mut command);
        }
        let child = command.spawn().unwrap();
        wait_until("the programs do not start", || sleepers(&mark) == 9);
        let left = || std::fs::read_dir(&temporary).unwrap().count();
        assert!(!contained || left() == 3, "{} directories", left());
        let id = child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success());
        let ended = child.wait_with_output().unwrap();
        let number = [("INT", 2), ("TERM", 15), ("HUP", 1), ("QUIT", 3), ("KILL", 9)]
            .into_iter()
            .find(|n| n.0 == signal);
        assert_eq!(ended.status.signal(), number.map(|n| n.1), "{}", stderr(&ended));
        if !contained {
            // The kernel ends them with the command, but not before it.
            wait_until("programs are left", || sleepers(&mark) == 0);
        }
        assert_eq!((sleepers(&mark), left()), (0, 0), "{signal}, contained: {contained}");
    }
}
