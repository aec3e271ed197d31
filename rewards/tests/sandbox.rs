//! What programs leave: processes, directories and space, with and without namespaces; where users matter and root runs
//! the tests, as root and as an ordinary user.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use processes::{contain, wait_until};
use rlvr_rewards::children;
use rlvr_rewards::sandbox::{End, Finished, Isolation, Limits, Program, Sandbox, run};
use victim::Victim;

#[path = "support/processes.rs"]
mod processes;
#[path = "support/victim.rs"]
mod victim;

const MIB: u64 = 1 << 20;

fn limits(wall_s: u64) -> Limits {
    Limits {
        wall: Duration::from_secs(wall_s),
        cpu_s: wall_s,
        memory: 512 << 20,
        processes: 48,
        file: 4 * MIB,
        output: 1 << 16,
    }
}

/// The strongest sandbox of this machine and the same without namespaces; none where filters are missing.
fn sandboxes() -> Vec<Sandbox> {
    let best = Sandbox::detect().unwrap();
    let python = Path::new("/usr/bin/python3").exists();
    if best.isolation() < Isolation::Seccomp || !python {
        println!("skipped: {}, python {python}", best.level());
        return Vec::new();
    }
    let mut all = vec![best, best.without_namespaces()];
    all.dedup();
    all
}

fn shell(sandbox: Sandbox, script: &str, limits: Limits) -> Finished {
    let program = Program {
        path: "/bin/bash".into(),
        args: vec!["-c".into(), script.into()],
        readable: vec![],
        forks: true,
    };
    run(&sandbox, &program, limits, &[], b"").unwrap()
}

fn python(sandbox: Sandbox, script: &str, limits: Limits) -> Finished {
    let args = ["-S", "-c", script].map(String::from).to_vec();
    let program = Program { path: "/usr/bin/python3".into(), args, readable: vec![], forks: false };
    run(&sandbox, &program, limits, &[], b"").unwrap()
}

/// Processes that still exchange a directory with a link when the program is ended, by names that take the kernel long to
/// follow, so that the last exchange happens after the kill.
const EXCHANGES: &str = r"
import os, ctypes, time
libc = ctypes.CDLL(None)
for i in range(400): os.mkdir('n%03d' % i)
names = [n for n in os.listdir('.') if n[0] == 'n']
dirs, links, maze = names[300:326], names[326:352], names[352:372]
for name in links:
    os.rmdir(name)
    os.symlink('@VICTIM@', name)
here, last = os.getcwd(), '.'
for name in maze:
    os.rmdir(name)
    os.symlink('/usr/bin/..' + '/bin/..' * 540 + '/..' + here + '/' + last, name)
    last = name
last = here + '/' + last + '/'
for a, b in zip(dirs, links):
    if os.fork() == 0:
        while True: libc.syscall(@RENAMEAT2@, -100, (last + a).encode(), -100, (last + b).encode(), 2)
time.sleep(60)
";

/// Tries it in every sandbox.
fn last_exchanges() {
    for sandbox in sandboxes() {
        for _ in 0..3 {
            let victim = Victim::new();
            let code = EXCHANGES.replace("@VICTIM@", victim.path().to_str().unwrap());
            let code = code.replace("@RENAMEAT2@", &libc::SYS_renameat2.to_string());
            let script = format!(
                "cat >a.py <<'PY'\n{code}\nPY\npython3 a.py </dev/null >/dev/null 2>&1 &\nsleep 0.7; echo done"
            );
            let finished = shell(sandbox, &script, limits(20));
            assert_eq!(finished.stdout, b"done\n", "{finished:?}");
            victim.check();
        }
    }
}

#[test]
fn the_last_exchange_of_a_killed_program_deletes_nothing_of_others() {
    last_exchanges();
    let (ordinary, temporary) = (Setting { ordinary: true, contained: false }, temporary());
    if let Some(mut helper) = Helper::start(ordinary, "exchange", "", temporary.path()) {
        println!("as an ordinary user: {}", helper.hears("level"));
        assert_eq!(helper.hears("exchanged"), "all");
        helper.child.wait().unwrap();
    }
}

/// Takes space until it cannot or holds 64 MiB, and says how much it holds.
const FILL: &str = r"
import mmap, os, sys, time
held, kept = 0, []
try:
    while held < 64:
        @TAKE@
        held += 1
except OSError as e:
    print(held, e.strerror, flush=True)
    raise SystemExit(3)
print(held, 'held', flush=True)
time.sleep(60)
";

/// Ways to take a MiB of space that leave no name.
const TAKES: [(&str, &str); 5] = [
    (
        "unlinked",
        "f = os.open('u', os.O_CREAT | os.O_RDWR | os.O_EXCL); os.unlink('u'); kept.append(f); os.write(f, bytes(1 << 20))",
    ),
    (
        "allocated",
        "f = os.open('u', os.O_CREAT | os.O_RDWR | os.O_EXCL); os.unlink('u'); kept.append(f); os.posix_fallocate(f, 0, 1 << 20)",
    ),
    (
        "mapped",
        "f = os.open('u', os.O_CREAT | os.O_RDWR | os.O_EXCL); os.unlink('u'); os.write(f, bytes(1 << 20)); kept.append(mmap.mmap(f, 4096)); os.close(f)",
    ),
    (
        "renamed over",
        "f = os.open('v', os.O_CREAT | os.O_RDWR | os.O_EXCL); os.write(f, bytes(1 << 20)); kept.append(f); os.rename('v', 'u')",
    ),
    (
        "in a removed directory",
        "os.mkdir('d'); f = os.open('d/u', os.O_CREAT | os.O_RDWR | os.O_EXCL); os.unlink('d/u'); os.rmdir('d'); kept.append(f); os.write(f, bytes(1 << 20))",
    ),
];

/// The program that takes space in this way.
fn fill(way: &str) -> String {
    let (_, take) = TAKES.into_iter().find(|(name, _)| *name == way).unwrap();
    // As Python keeps a descriptor of its own for a mapping, a C function maps.
    let map = "__import__('ctypes').CDLL(None).mmap(None, 4096, 1, 1, f, 0)";
    FILL.replace("@TAKE@", &take.replace("mmap.mmap(f, 4096)", map))
}

#[test]
fn what_has_no_name_is_bounded_too() {
    for sandbox in sandboxes() {
        for (name, _) in TAKES {
            let finished = python(sandbox, &fill(name), limits(60));
            let said = String::from_utf8_lossy(&finished.stdout).into_owned();
            println!("{} {name}: {} {said:?}", sandbox.level(), finished.end);
            let held: Option<u64> = said.split(' ').next().and_then(|n| n.parse().ok());
            match (sandbox.bounds_files(), name) {
                // The kernel gives no more than the limit; what does not fit is the program's to deal with.
                (true, _) => {
                    assert_eq!(finished.end, End::Exit(3), "{name}: {finished:?}");
                    assert!(held.is_some_and(|held| held * MIB <= 4 * MIB), "{name}: {said}");
                }
                // Space without writing is refused where it would have to be watched.
                (false, "allocated") => assert_eq!((finished.end, held), (End::Exit(3), Some(0)), "{said}"),
                // It may be ended before or after it has all that it wants, but it is.
                (false, _) => assert_eq!(finished.end, End::Files, "{name}: {finished:?}"),
            }
        }
        // Many processes that hold a little each.
        let script = "for i in $(seq 24); do (exec 3>$i; rm $i; head -c 1000000 /dev/zero >&3 || exit; sleep 60) & done; wait";
        let finished = shell(sandbox, script, limits(8));
        match sandbox.bounds_files() {
            true => assert_eq!(finished.end, End::Timeout, "{finished:?}"),
            false => assert_eq!(finished.end, End::Files, "{finished:?}"),
        }
    }
}

#[test]
fn names_are_bounded_too() {
    for sandbox in sandboxes() {
        for make in ["open(n, 'w').close()", "os.mkdir(n)", "os.symlink('x' * 900, n)", "os.link('l', n)"] {
            let code = format!(
                "import os, time\nopen('l', 'w').close()\ntry:\n    for i in range(5000):\n        n = str(i)\n        {make}\nexcept OSError as e:\n    print(i, e.strerror, flush=True)\n    raise SystemExit(3)\ntime.sleep(60)"
            );
            let end = python(sandbox, &code, limits(60)).end;
            let want = if sandbox.bounds_files() { End::Exit(3) } else { End::Files };
            assert_eq!(end, want, "{} {make}", sandbox.level());
        }
    }
}

/// More open files than a program may have.
fn many_files() -> Vec<std::fs::File> {
    (0..100).map(|_| std::fs::File::open("/dev/null").unwrap()).collect()
}

#[test]
fn files_that_the_host_has_open_do_not_count_for_a_program() {
    let open = many_files();
    for sandbox in sandboxes() {
        for level in [Isolation::Process, Isolation::Landlock, Isolation::Seccomp] {
            let sandbox = sandbox.lowered(level);
            let finished = shell(sandbox, "ulimit -n; ulimit -Hn", limits(20));
            assert_eq!(finished.stdout, b"64\n64\n", "{}: {finished:?}", sandbox.level());
        }
    }
    drop(open);
    // A process that has so many open before its first program finds the same.
    let temporary = temporary();
    for setting in SETTINGS {
        let level = |many: &str| {
            let mut helper = Helper::start(setting, "level", many, temporary.path())?;
            let level = helper.hears("level");
            helper.child.wait().unwrap();
            Some(level)
        };
        assert_eq!(level("many files"), level("few files"), "{setting:?}");
    }
}

/// Where and as whom a helper runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Setting {
    /// As somebody who is not root, if this is root.
    ordinary: bool,
    /// As in a container whose filter refuses namespaces and mounts.
    contained: bool,
}

const SETTINGS: [Setting; 4] = [
    Setting { ordinary: false, contained: false },
    Setting { ordinary: false, contained: true },
    Setting { ordinary: true, contained: false },
    Setting { ordinary: true, contained: true },
];

/// This test binary as another process that only runs the helper below.
struct Helper {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Helper {
    /// None where the setting cannot be had.
    fn start(setting: Setting, role: &str, mark: &str, temporary: &Path) -> Option<Self> {
        let root = rustix::process::geteuid().is_root();
        if setting.ordinary != (setting.ordinary && root) {
            return None;
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "helper", "--ignored", "--nocapture"]);
        command.env("RLVR_TEST_ROLE", role).env("RLVR_TEST_MARK", mark).env("TMPDIR", temporary);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if setting.ordinary {
            command.uid(65534).gid(65534);
        }
        if setting.contained {
            contain(&mut command);
        }
        let mut child = command.spawn().ok()?;
        let said = BufReader::new(child.stdout.take().unwrap());
        Some(Self { child, said })
    }

    /// What it says after `key`.
    fn hears(&mut self, key: &str) -> String {
        let mut line = String::new();
        while self.said.read_line(&mut line).unwrap() > 0 {
            if let Some((_, rest)) = line.split_once(&format!("{key}=")) {
                return rest.trim().to_string();
            }
            line.clear();
        }
        panic!("the helper ended before it said {key}");
    }
}

/// Ends everything after some microseconds, and this process.
fn end_after(pause: u64) -> ! {
    std::thread::sleep(Duration::from_micros(pause));
    children::end_all();
    println!("\nended=all");
    std::process::exit(0);
}

/// What the other tests start as a process of its own.
#[test]
#[ignore = "only as a process of other tests"]
fn helper() {
    let Ok(role) = std::env::var("RLVR_TEST_ROLE") else { return };
    let mark = std::env::var("RLVR_TEST_MARK").unwrap();
    let _open = if mark == "many files" { many_files() } else { Vec::new() };
    if role == "end while probing" {
        std::thread::spawn(Sandbox::detect);
        end_after(mark.parse().unwrap());
    }
    if role == "mapped" {
        // The temporary directory may be given relative to this.
        std::env::set_current_dir(&mark).unwrap();
    }
    let sandbox = Sandbox::detect().unwrap();
    println!("\nlevel={}", sandbox.level());
    match &*role {
        "level" => return,
        "exchange" => {
            last_exchanges();
            println!("exchanged=all");
            return;
        }
        "mapped" => {
            let finished = python(sandbox.without_namespaces(), &fill("mapped"), limits(60));
            println!("end={}", finished.end);
            return;
        }
        "refuse" => {
            // No system call takes such an argument.
            let args = vec!["a\0b".to_string()];
            let program = Program { path: "/bin/sh".into(), args, readable: vec![], forks: true };
            println!("refused={}", run(&sandbox, &program, limits(9), &[], b"").is_err());
            return;
        }
        "end while starting" => {
            for _ in 0..3 {
                std::thread::spawn(move || {
                    loop {
                        shell(sandbox, "exit", limits(9));
                    }
                });
            }
            end_after(mark.parse().unwrap());
        }
        _ => {}
    }
    // A program with a child in the background that nobody waits for, and one without.
    let scripts = [format!("sleep {mark} & sleep {mark}"), format!("(sleep {mark} &); exec sleep {mark}")];
    for script in scripts {
        std::thread::spawn(move || shell(sandbox, &script, limits(600)));
    }
    std::io::stdout().flush().unwrap();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    end_after(0);
}

/// Command lines with the mark of a test.
fn marked(mark: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|e| std::fs::read(e.path().join("cmdline")).ok());
    let lines = lines.map(|l| String::from_utf8_lossy(&l).replace('\0', " "));
    lines.filter(|l| l.starts_with("sleep") && l.contains(mark)).collect()
}

/// A temporary directory that everybody may use.
fn temporary() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
    dir
}

fn entries(dir: &Path) -> BTreeSet<PathBuf> {
    std::fs::read_dir(dir).unwrap().flatten().map(|e| e.path()).collect()
}

#[test]
fn nothing_outlives_the_process_that_started_it() {
    if sandboxes().is_empty() {
        return;
    }
    for (i, setting) in SETTINGS.into_iter().enumerate() {
        for kill in [false, true] {
            let mark = format!("8639{i}.{}{}", u8::from(kill), std::process::id());
            let temporary = temporary();
            let Some(mut helper) = Helper::start(setting, "wait", &mark, temporary.path()) else {
                println!("skipped: {setting:?}");
                continue;
            };
            let level = helper.hears("level");
            println!("{setting:?}: {level}");
            assert!(!setting.contained || level.ends_with("+watched"), "{setting:?}: {level}");
            wait_until("the programs do not start", || marked(&mark).len() == 4);
            let namespaces = level.ends_with("+tmpfs");
            assert_eq!(entries(temporary.path()).is_empty(), namespaces, "directories on the host");
            if kill {
                helper.child.kill().unwrap();
                helper.child.wait().unwrap();
                if namespaces {
                    wait_until("processes are left", || marked(&mark).is_empty());
                } else {
                    // Their leaders are gone; of the others only the kernel could know. The next process removes the
                    // directories; here in place of the processes that hold nothing any more.
                    wait_until("leaders are left", || marked(&mark).len() < 4);
                    let mut next = Helper::start(setting, "level", &mark, temporary.path()).unwrap();
                    next.hears("level");
                    next.child.wait().unwrap();
                    for pid in pids(&mark) {
                        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                    }
                }
            } else {
                helper.child.stdin.take().unwrap().write_all(b"end\n").unwrap();
                assert_eq!(helper.hears("ended"), "all");
                assert_eq!(marked(&mark), [""; 0], "{setting:?}: after its end");
                helper.child.wait().unwrap();
            }
            assert_eq!(entries(temporary.path()), BTreeSet::new(), "{setting:?} kill={kill}: left behind");
        }
    }
}

#[test]
fn mapped_files_are_bounded_wherever_temporary_files_are() {
    if sandboxes().is_empty() {
        return;
    }
    let (real, links) = (temporary(), temporary());
    let link = links.path().join("link");
    symlink(real.path(), &link).unwrap();
    for setting in SETTINGS {
        for place in [&link, Path::new("."), Path::new("../")] {
            let here = real.path().join("inner");
            std::fs::create_dir_all(&here).unwrap();
            std::fs::set_permissions(&here, std::fs::Permissions::from_mode(0o1777)).unwrap();
            let Some(mut helper) = Helper::start(setting, "mapped", here.to_str().unwrap(), place) else {
                continue;
            };
            assert_eq!(helper.hears("end"), End::Files.to_string(), "{setting:?} {place:?}");
            helper.child.wait().unwrap();
        }
    }
}

#[test]
fn a_child_that_is_not_started_leaves_nothing() {
    if sandboxes().is_empty() {
        return;
    }
    for setting in SETTINGS {
        let temporary = temporary();
        if let Some(mut helper) = Helper::start(setting, "refuse", "", temporary.path()) {
            assert_eq!(helper.hears("refused"), "true");
            helper.child.wait().unwrap();
            assert_eq!(entries(temporary.path()), BTreeSet::new(), "{setting:?}");
        }
    }
}

#[test]
fn an_end_at_any_moment_leaves_nothing() {
    if sandboxes().is_empty() {
        return;
    }
    for setting in SETTINGS.into_iter().filter(|s| s.contained) {
        for i in 0..12u64 {
            for (role, pause) in [("end while starting", 20_000 + 1777 * i), ("end while probing", 2300 * i)]
            {
                let temporary = temporary();
                let mark = pause.to_string();
                let Some(mut helper) = Helper::start(setting, role, &mark, temporary.path()) else {
                    continue;
                };
                assert_eq!(helper.hears("ended"), "all");
                helper.child.wait().unwrap();
                assert_eq!(entries(temporary.path()), BTreeSet::new(), "{setting:?} {role} {pause}");
            }
        }
    }
}

#[test]
fn what_a_program_is_given_does_not_count() {
    for sandbox in sandboxes() {
        let large = vec![1u8; 6 << 20];
        let names: Vec<String> = (0..600).map(|i| format!("g{i}")).collect();
        let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (&**name, &b"x"[..])).collect();
        files.push(("large", &large));
        let script = |more: &str| {
            let args = vec!["-c".into(), format!("{more}; sleep 0.5; cat large g* | wc -c")];
            let program = Program { path: "/bin/bash".into(), args, readable: vec![], forks: true };
            run(&sandbox, &program, limits(20), &files, b"").unwrap()
        };
        let finished = script("head -c 3000000 /dev/zero >own");
        assert_eq!(
            (finished.end, &*finished.stdout),
            (End::Exit(0), &b"6292056\n"[..]),
            "{}",
            sandbox.level()
        );
        // What it makes itself is bounded as without them.
        let finished = script("for i in 1 2 3; do head -c 3000000 /dev/zero >own$i || exit 3; done");
        let want = if sandbox.bounds_files() { End::Exit(3) } else { End::Files };
        assert_eq!(finished.end, want, "{}", sandbox.level());
    }
}

fn pids(mark: &str) -> Vec<rustix::process::Pid> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let of = entries.filter(|e| {
        std::fs::read(e.path().join("cmdline")).is_ok_and(|l| {
            let line = String::from_utf8_lossy(&l).into_owned();
            line.starts_with("sleep") && line.contains(mark)
        })
    });
    of.filter_map(|e| rustix::process::Pid::from_raw(e.file_name().to_str()?.parse().ok()?)).collect()
}
