//! Shards of an optimizer step, and ranks that compute them.
use crate::trainer::mixture;
use rlvr::config::RunConfig;
use rlvr::metrics::is_timing;
use rlvr::run::{RunOptions, train};
use serde_json::{Map, Value};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// A KL term, clipping by the norm, minibatches and several passes: everything that is summed up over a step.
const GRPO: &str = r#"
name = "ranks"
seed = 5
device = "cpu"
[policy.tiny]
layers = 2
hidden = 128
heads = 2
kv_heads = 1
intermediate = 192
context = 24
alphabet = "0123456789+= "
[data.sums]
kind = "addition"
tasks = 50
[data.heldout]
kind = "addition"
split = "heldout"
tasks = 8
[rewards]
kind = "sum"
[[rewards.terms]]
reward = { kind = "exact" }
[[rewards.terms]]
reward = { kind = "length", max = 3, soft = 2, unit = "chars" }
[parallel]
shards = 4
[[stage]]
kind = "sft"
data = "sums"
steps = 3
batch = 8
micro_batch = 2
optim = { lr = 1e-2, max_grad_norm = 0.5 }
[[stage]]
kind = "grpo"
data = "sums"
steps = 3
prompts_per_step = 8
group_size = 4
minibatches = 2
updates_per_rollout = 2
micro_batch = 6
sampling = { max_tokens = 5 }
loss = { kl_coef = 0.05 }
optim = { lr = 1e-2, max_grad_norm = 0.5 }
[eval]
data = "heldout"
every = 2
[checkpoint]
every = 2
keep_best = "eval/heldout/reward_mean"
[log]
tensorboard = false
[preflight]
refuse = false
"#;

/// The rows of `metrics.jsonl` without what describes the machine.
fn metrics(run: &Path) -> Vec<Map<String, Value>> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let row = |line: &str| -> Map<String, Value> {
        let row: Map<String, Value> = serde_json::from_str(line).unwrap();
        row.into_iter().filter(|(name, _)| !is_timing(name)).collect()
    };
    text.lines().map(row).collect()
}

fn run_here(out: &Path, sets: &[&str]) {
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    let config = RunConfig::parse(GRPO, Path::new("ranks.toml"), &sets).unwrap();
    let options = RunOptions { out: Some(out.to_path_buf()), ..RunOptions::default() };
    train(&config, &options, &AtomicBool::new(false), &mut |_: rlvr::run::events::Event<'_>| {}).unwrap();
}

#[test]
fn shards_change_the_order_of_sums_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let outs: Vec<_> = [1, 4, 8].map(|n| (n, dir.path().join(format!("shards-{n}")))).into();
    for (shards, out) in &outs {
        run_here(out, &[&format!("parallel.shards={shards}"), "stage.1.steps=1"]);
    }
    let whole = metrics(&outs[0].1);
    for (shards, out) in &outs[1..] {
        let found = metrics(out);
        assert_eq!(found.len(), whole.len());
        let mut differ = 0;
        for (a, b) in whole.iter().zip(&found) {
            assert_eq!(a.len(), b.len(), "{a:?} {b:?}");
            for (name, value) in a {
                let (Some(a), Some(b)) = (value.as_f64(), b[name].as_f64()) else { continue };
                assert!((a - b).abs() <= 2e-4 * a.abs().max(1e-2), "{shards} shards, {name}: {a} {b}");
                differ += usize::from(a != b);
            }
        }
        // Otherwise nothing was cut.
        assert!(differ > 0);
    }
}

/// Starts a command as one of several ranks of this machine, as Open MPI's mpirun does.
fn rank(job: &str, (rank, size): (usize, usize), args: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rlvr"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, value) in [
        ("OMPI_COMM_WORLD_RANK", rank.to_string()),
        ("OMPI_COMM_WORLD_SIZE", size.to_string()),
        ("OMPI_COMM_WORLD_LOCAL_SIZE", size.to_string()),
        ("PMIX_NAMESPACE", job.to_owned()),
        ("RLVR_RANKS_TIMEOUT", "60".to_owned()),
        // Also in a build with MPI, which has a test of its own.
        ("RLVR_TRANSPORT", "tcp".to_owned()),
    ] {
        command.env(name, value);
    }
    command
}

/// How a rank has ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    /// The errors that it has named.
    fn errors(&self) -> Vec<&str> {
        self.stderr.lines().filter(|line| line.starts_with("error")).collect()
    }
}

fn wait(child: Child) -> Ended {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A directory with a config, in which ranks run.
struct Place {
    dir: tempfile::TempDir,
    jobs: std::cell::Cell<usize>,
}

impl Place {
    fn new() -> Self {
        Self::with(GRPO)
    }

    fn with(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ranks.toml"), config).unwrap();
        Self { dir, jobs: std::cell::Cell::new(0) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn args(&self, out: &str, more: &[&str]) -> Vec<String> {
        let (config, out) = (self.path("ranks.toml"), self.path(out));
        let start = ["train", config.to_str().unwrap(), "--out", out.to_str().unwrap()];
        start.iter().chain(more).map(|arg| (*arg).to_owned()).collect()
    }

    /// The name of a job that no other has.
    fn job(&self) -> String {
        self.jobs.set(self.jobs.get() + 1);
        format!("{}-{}", self.dir.path().file_name().unwrap().to_string_lossy(), self.jobs.get())
    }

    fn start(&self, size: usize, out: &str, more: &[&str]) -> Vec<Child> {
        let job = self.job();
        (0..size).map(|r| rank(&job, (r, size), &self.args(out, more)).spawn().unwrap()).collect()
    }

    fn run(&self, size: usize, out: &str, more: &[&str]) -> Vec<Ended> {
        self.start(size, out, more).into_iter().map(wait).collect()
    }

    /// The same where it must end well; only the first rank says something.
    fn run_well(&self, size: usize, out: &str, more: &[&str]) {
        for (rank, ended) in self.run(size, out, more).into_iter().enumerate() {
            assert_eq!(ended.code, Some(0), "{size} ranks, rank {rank}: {}", ended.stderr);
            assert_eq!(ended.stderr.is_empty() && ended.stdout.is_empty(), rank > 0, "{ended:?}");
        }
    }

    fn assert_same(&self, whole: &str, other: &str) {
        let (whole, other) = (self.path(whole), self.path(other));
        let what = other.display().to_string();
        assert_eq!(metrics(&whole), metrics(&other), "{what}");
        let same = |file: &Path| {
            let [a, b] = [&whole, &other].map(|run| fs::read(run.join(file)).unwrap());
            assert!(a == b, "{what}: {} differs", file.display());
        };
        same(Path::new("rollouts.jsonl"));
        for folder in ["final".to_owned(), last_checkpoint(&whole)] {
            let mut names: Vec<_> =
                fs::read_dir(whole.join(&folder)).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            assert!(names.len() > 2);
            names.iter().for_each(|name| same(&Path::new(&folder).join(name)));
        }
    }
}

fn last_checkpoint(run: &Path) -> String {
    let names = fs::read_dir(run.join("checkpoints")).unwrap().map(|e| e.unwrap().file_name());
    let last = names.map(|name| name.into_string().unwrap()).max().unwrap();
    format!("checkpoints/{last}")
}

#[test]
fn one_two_and_four_ranks_leave_the_same_bytes() {
    let place = Place::new();
    for (name, more) in [
        ("adamw", &[][..]),
        ("lora", &["--set", "policy.lora={rank=4}", "--set", "stage.1.sampling.temperature=0.9"]),
        // Matrices that cannot be parted, and moments that can be only here and there.
        ("muon", &["--set", "stage.1.optim.kind=\"muon\"", "--set", "stage.0.optim.kind=\"adamw_8bit\""]),
    ] {
        let out = |size: usize| format!("{name}-{size}");
        for size in [1, 2, 4] {
            place.run_well(size, &out(size), more);
        }
        place.assert_same(&out(1), &out(2));
        place.assert_same(&out(1), &out(4));
    }
    // More ranks do exchange something.
    let sent = |run: &str| {
        fs::read_to_string(place.path(run).join("metrics.jsonl")).unwrap().contains("ranks_sent_mb")
    };
    assert_eq!((sent("adamw-1"), sent("adamw-4")), (false, true));
}

/// Carries out a run with the shards of a block, on as many ranks as there are.
pub fn share(block: &str) {
    let place = Place::with(&GRPO.replace("[parallel]\nshards = 4\n", block));
    place.run_well(4, "shared", &["--set", "stage.1.steps=1"]);
}

/// The load of experts is that of all shards; dropout draws by the micro-batch, wherever it is computed.
#[test]
fn experts_are_balanced_and_dropout_is_drawn_over_all_ranks() {
    let (begin, end) = (GRPO.find("[policy.tiny]").unwrap(), GRPO.find("[data.sums]").unwrap());
    let policy = "[policy]\npath = \"mixture\"\nrouter_aux_coef = 0.5\n";
    let place = Place::with(&[&GRPO[..begin], policy, &GRPO[end..]].concat());
    mixture().save(&place.path("mixture")).unwrap();
    let sets = ["--set", "data.sums.max_digits=2"];
    let dropout = ["--set", "policy.lora={rank=2,dropout=0.3,targets=[\"q_proj\",\"o_proj\"]}"];
    for (name, more) in [("experts", &sets[..]), ("dropout", &[&sets[..], &dropout[..]].concat())] {
        let out = |size: usize| format!("{name}-{size}");
        for size in [1, 2, 4] {
            place.run_well(size, &out(size), more);
        }
        place.assert_same(&out(1), &out(2));
        place.assert_same(&out(1), &out(4));
        assert!(metrics(&place.path(&out(1))).iter().any(|row| row.contains_key("optim/router_balance")));
    }
}

/// Waits until a run has recorded so many steps.
fn wait_for_steps(run: &Path, steps: usize) {
    let until = Instant::now() + Duration::from_secs(300);
    let lines = || fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default().lines().count();
    while lines() < steps {
        assert!(Instant::now() < until, "the run does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const LONG: [&str; 4] = ["--set", "stage.1.steps=12", "--set", "checkpoint.every=1"];

#[test]
fn a_killed_rank_ends_all_and_other_numbers_of_ranks_go_on() {
    let place = Place::new();
    place.run_well(2, "whole", &LONG);
    for (killed, size, then) in [(1, 2, 4), (0, 4, 1), (2, 4, 2)] {
        let out = format!("killed-{killed}-of-{size}");
        let mut children = place.start(size, &out, &LONG);
        wait_for_steps(&place.path(&out), 5);
        children[killed].kill().unwrap();
        let clock = Instant::now();
        let ended: Vec<Ended> = children.into_iter().map(wait).collect();
        assert!(clock.elapsed() < Duration::from_secs(60));
        let errors: Vec<&str> = ended.iter().flat_map(Ended::errors).collect();
        let expected = format!("error: rank {killed} of {size} has ended without a word");
        assert!(errors.len() == 1 && errors[0].starts_with(&expected), "{errors:?}");
        assert!(ended.iter().enumerate().all(|(r, e)| (r == killed) == (e.code.is_none())), "{ended:?}");
        let resume = [&LONG[..], &["--resume"]].concat();
        place.run_well(then, &out, &resume);
        place.assert_same("whole", &out);
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_of_any_rank_ends_all_after_a_checkpoint() {
    let place = Place::new();
    place.run_well(1, "whole", &LONG);
    let children = place.start(2, "interrupted", &LONG);
    wait_for_steps(&place.path("interrupted"), 4);
    let pid = rustix::process::Pid::from_child(&children[1]);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ended: Vec<Ended> = children.into_iter().map(wait).collect();
    assert!(ended.iter().all(|e| e.code == Some(130)), "{ended:?}");
    assert!(ended[0].stderr.contains("interrupted after a checkpoint"), "{ended:?}");
    assert!(!place.path("interrupted/final").exists());
    place.run_well(4, "interrupted", &[&LONG[..], &["--resume"]].concat());
    place.assert_same("whole", "interrupted");
}

type Words<'a> = &'a [&'a str];
type Pairs<'a> = &'a [(&'a str, &'a str)];

/// Ranks whose arguments or environment differ.
fn different(place: &Place, of: &[(Words<'_>, Pairs<'_>)]) -> Vec<Ended> {
    let job = place.job();
    let child = |(r, (more, env)): (usize, &(Words<'_>, Pairs<'_>))| {
        let mut command = rank(&job, (r, of.len()), &place.args("refused", more));
        command.env("RLVR_RANKS_TIMEOUT", "10").envs(env.iter().copied()).spawn().unwrap()
    };
    let children: Vec<Child> = of.iter().enumerate().map(child).collect();
    children.into_iter().map(wait).collect()
}

#[test]
fn ranks_that_do_not_belong_together_do_not_begin() {
    let place = Place::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let at: &[(&str, &str)] = &[("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", &port)];
    let lr = ["--set", "stage.1.optim.lr=0.5"];
    let one_shard = ["--set", "parallel.shards=1"];
    let other_run = [at, &[("RLVR_RUN_ID", "other")]].concat();
    for (of, code, expected) in [
        (
            vec![(&[][..], at), (&lr[..], at)],
            1,
            "ranks 0 and 1 have different configs (lr = 0.01 and lr = 0.5)",
        ),
        (vec![(&[], at), (&["--force"][..], at)], 1, "(force = false and force = true)"),
        (
            vec![(&one_shard[..], at), (&one_shard[..], at)],
            2,
            "parallel.shards: is 1, which 2 ranks cannot share",
        ),
        (vec![(&["--dry-run"][..], at), (&["--dry-run"][..], at)], 2, "--dry-run goes with one rank only"),
        (vec![(&["--set", "nonsense=1"][..], at), (&[], at)], 2, "nonsense"),
        (vec![(&[], at), (&["--set", "nonsense=1"][..], at)], 2, "rank 1: "),
    ] {
        let ended = different(&place, &of);
        let errors: Vec<&str> = ended.iter().flat_map(Ended::errors).collect();
        assert!(errors.len() == 1 && ended[0].stderr.contains(expected), "{expected}: {ended:?}");
        assert!(ended.iter().all(|e| e.code == Some(code)), "{expected}: {ended:?}");
        assert!(!place.path("refused").exists());
    }
    // Of another run, so both have nobody.
    let ended = different(&place, &[(&[], at), (&[], &other_run)]);
    assert!(ended[1].stderr.contains("a rank of another run came: its id is \"other\""), "{ended:?}");
    assert!(
        ended[0].stderr.contains("rank 1 of 2 did not come within 10 s (a rank of another run"),
        "{ended:?}"
    );
    let alone =
        rank("alone", (0, 2), &place.args("refused", &[])).env("RLVR_RANKS_TIMEOUT", "1").spawn().unwrap();
    let ended = wait(alone);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.starts_with("error: rank 1 of 2 did not come within 1 s"), "{ended:?}");
    assert!(!place.path("refused").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn ranks_that_read_other_files_do_not_begin_and_an_error_of_one_is_that_of_all() {
    let place = Place::new();
    // Each rank has a working directory of its own, and with it another file of this name.
    let data = [
        "--set",
        "data.sums={kind=\"jsonl\",path=\"/proc/self/cwd/rows.jsonl\",completion=\"{{ answer }}\",reference.answer=\"{{ answer }}\"}",
    ];
    let rows = |answer: &str| -> String {
        let row = |i: usize| {
            format!("{{\"prompt\":\"{i}+1=\",\"answer\":\"{answer}\",\"completion\":\"{answer}\"}}\n")
        };
        (0..20).map(row).collect()
    };
    for (theirs, expected) in [
        (Some("3"), "error: ranks 0 and 1 have different tasks: all ranks must read the same files"),
        (None, "error: rank 1: [data.sums]: "),
        (Some("2"), ""),
    ] {
        let job = place.job();
        let children = [Some("2"), theirs].into_iter().enumerate().map(|(r, answer)| {
            let folder = place.path(&format!("folder-{r}"));
            fs::create_dir_all(&folder).unwrap();
            let _ = fs::remove_file(folder.join("rows.jsonl"));
            answer.into_iter().for_each(|a| fs::write(folder.join("rows.jsonl"), rows(a)).unwrap());
            let args = place.args(&format!("read-{theirs:?}"), &data);
            rank(&job, (r, 2), &args).current_dir(folder).spawn().unwrap()
        });
        let children: Vec<Child> = children.collect();
        let ended: Vec<Ended> = children.into_iter().map(wait).collect();
        let errors: Vec<&str> = ended.iter().flat_map(Ended::errors).collect();
        assert_eq!(errors.len(), usize::from(!expected.is_empty()), "{ended:?}");
        assert!(ended[0].stderr.contains(expected), "{ended:?}");
        assert!(ended.iter().all(|e| (e.code == Some(0)) == errors.is_empty()), "{ended:?}");
    }
    // The directory of a finished run: the first rank looks at it, and says so for all.
    place.run_well(2, "fine", &["--set", "stage.1.steps=1"]);
    let ended = place.run(2, "fine", &[]);
    assert!(ended[0].errors().len() == 1 && ended[0].stderr.contains("is not empty"), "{ended:?}");
    assert!(ended[1].stderr.is_empty() && ended.iter().all(|e| e.code == Some(2)), "{ended:?}");
}

#[test]
fn variables_of_torchrun_and_slurm_start_ranks_too() {
    let place = Place::new();
    let more = ["--set", "stage.1.steps=1"];
    place.run_well(1, "whole", &more);
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    for (out, names) in [
        ("torchrun", ["RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"]),
        ("slurm", ["SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_TASKS_PER_NODE"]),
    ] {
        let port = free();
        let child = |rank: usize| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_rlvr"));
            command.args(place.args(out, &more)).stdin(Stdio::null());
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let values = [rank.to_string(), "2".into(), "2".into()];
            command.envs(names.iter().zip(values)).env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", &port);
            command.env("SLURM_STEP_ID", "0").env("SLURM_JOB_ID", "7").spawn().unwrap()
        };
        let children = [child(0), child(1)];
        assert!(children.into_iter().map(wait).all(|e| e.code == Some(0)));
        place.assert_same("whole", out);
    }
}

/// By a real mpirun, which is that of the MPI that this was built with.
#[cfg(feature = "mpi")]
#[test]
fn ranks_that_talk_by_mpi_leave_the_same_bytes() {
    let place = Place::new();
    place.run_well(1, "whole", &[]);
    let mpirun = |size: &str, out: &str, more: &[&str]| {
        let mut command = Command::new("mpirun");
        command.args(["--oversubscribe", "-n", size, env!("CARGO_BIN_EXE_rlvr")]);
        command.args(place.args(out, more)).stdin(Stdio::null());
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        wait(command.spawn().unwrap())
    };
    for size in ["2", "4"] {
        let ended = mpirun(size, size, &[]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        place.assert_same("whole", size);
    }
    let ended = mpirun("2", "2", &[]);
    assert!(ended.errors().len() == 1 && ended.stderr.contains("is not empty"), "{ended:?}");
    assert_eq!(ended.code, Some(2), "{ended:?}");
}
