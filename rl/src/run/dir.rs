//! The directory of a run: who may write there, what it holds, and how files get there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::checkpoint;
use crate::config::RunConfig;
use crate::error::Error;
use crate::files::bounded::{SMALL, read_own};
use crate::files::destination::TEMPORARY;
use crate::files::destination::replace_atomic;
use crate::files::lock::{DirLock, LOCK_FILE};
use crate::files::{IoError, is_own_file};
use crate::policy::BASE;
use crate::run::log::{EVENTS_PREFIX, METRICS_FILE, ROLLOUTS_FILE};

/// Name of the resolved config.
pub const CONFIG_FILE: &str = "config.toml";
/// Name of the facts about the run.
pub const META_FILE: &str = "meta.json";
/// Name of the page that `rlvr report` makes of the run.
pub const REPORT_FILE: &str = "report.html";
const CHECKPOINTS: &str = "checkpoints";
const TASK_FILES: &str = "eval";
const FINAL: &str = "final";
const FINAL_AVERAGE: &str = "final_ema";

/// What a run writes beside its directories.
const RECORDS: [&str; 6] = [CONFIG_FILE, META_FILE, METRICS_FILE, ROLLOUTS_FILE, REPORT_FILE, LOCK_FILE];

/// What the final policy's folder may hold; `--force` removes these and nothing else from it.
const FINAL_FILES: &[&str] = &[
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "adapter_config.json",
    "adapter_model.safetensors",
];

/// What to do with a directory that already holds something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Refuse it.
    Refuse,
    /// Continue the run in it.
    Resume,
    /// Remove the files of a run from it, and nothing else.
    Replace,
}

/// Whether a directory holds a run, finished or not: a config with a record of it, whichever was not removed, whatever stands
/// in their places ([`check_records`]).
pub fn is_run(dir: &Path) -> bool {
    fs::symlink_metadata(dir.join(CONFIG_FILE)).is_ok() && holds_records(dir)
}

/// Whether something has the name of a record that a run leaves, whatever it is.
pub fn holds_records(dir: &Path) -> bool {
    let there = |name: &str| fs::symlink_metadata(dir.join(name)).is_ok();
    [METRICS_FILE, META_FILE, ROLLOUTS_FILE].into_iter().any(there)
}

/// Refuses records in the directory of a run that are no regular files: a link leads out of the run, a pipe is waited for
/// forever. Creates nothing.
///
/// # Errors
/// [`Error::Unusable`] with what is there.
pub fn check_records(dir: &Path) -> Result<(), Error> {
    let listed = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let Ok(found) = names(listed) else { return Ok(()) };
    let record = |name: &&String| {
        let name = name.strip_prefix(TEMPORARY).unwrap_or(name);
        RECORDS.contains(&name) || name.starts_with(EVENTS_PREFIX)
    };
    found.iter().filter(record).try_for_each(|name| is_own(&dir.join(name)))
}

/// [`check_records`] for everything that a run reads or writes when it goes on: its checkpoints, what it measures, and the
/// final policy too.
///
/// # Errors
/// As [`check_records`].
pub fn check_files(dir: &Path) -> Result<(), Error> {
    check_records(dir)?;
    for name in [CHECKPOINTS, TASK_FILES, FINAL, FINAL_AVERAGE, BASE] {
        let below = dir.join(name);
        let Ok(found) = fs::symlink_metadata(&below) else { continue };
        if !found.is_dir() {
            let what = format!(
                "cannot use {}: a run has a directory of its own there, no link or file",
                below.display()
            );
            return Err(Error::Unusable { what });
        }
        match name {
            CHECKPOINTS => checkpoint::refuse_others(&below).map_err(unusable)?,
            _ => {
                let ours = names(&below)?.into_iter().filter(|file| {
                    [FINAL, FINAL_AVERAGE, BASE].contains(&name) && is_final(file)
                        || name == TASK_FILES && is_task_file(file)
                });
                ours.into_iter().try_for_each(|file| is_own(&below.join(file)))?;
            }
        }
    }
    Ok(())
}

fn is_own(path: &Path) -> Result<(), Error> {
    is_own_file(path).map(drop).map_err(unusable)
}

fn unusable(error: IoError) -> Error {
    Error::Unusable { what: format!("{error}: {}", error.source) }
}

fn is_task_file(name: &str) -> bool {
    name.ends_with(".toml") || name.ends_with(".jsonl") || is_temporary(name)
}

fn is_final(name: &str) -> bool {
    let shard = name.starts_with("model-") && name.ends_with(".safetensors");
    FINAL_FILES.contains(&name) || shard || is_temporary(name)
}

/// Whether a directory can be made at `path`, or files in it: tried in what is there of the path, of which nothing stays.
fn creatable(path: &Path) -> Result<(), IoError> {
    let there = |at: &&Path| at.as_os_str().is_empty() || fs::symlink_metadata(at).is_ok();
    let base = path.ancestors().find(there).unwrap_or(Path::new("."));
    let base = if base.as_os_str().is_empty() { Path::new(".") } else { base };
    let probe = base.join(format!(".rlvr-{}", std::process::id()));
    fs::create_dir(&probe).and_then(|()| fs::remove_dir(&probe)).map_err(IoError::at("create", path))
}

/// The directory of a run, held by this process until dropped.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// None where another rank of the run holds it.
    _lock: Option<DirLock>,
}

impl RunDir {
    /// Opens or creates `path` and locks it against other processes.
    ///
    /// # Errors
    /// [`Error::RunDirNotEmpty`], [`Error::NothingToResume`], [`Error::DirLocked`], [`Error::Io`].
    pub fn open(path: &Path, existing: Existing) -> Result<Self, Error> {
        let held = Self::usable(path, existing)?;
        fs::create_dir_all(path).map_err(IoError::at("create the directory", path))?;
        let dir = Self { path: path.to_path_buf(), _lock: Some(DirLock::take(path)?) };
        if existing == Existing::Replace && held {
            dir.remove_run()?;
        }
        Ok(dir)
    }

    /// The directory that another rank of the run has opened and writes into.
    pub(crate) fn of_another_rank(path: &Path) -> Self {
        Self { path: path.to_path_buf(), _lock: None }
    }

    /// Whether `path` holds something, unless that forbids what is to be done with it.
    fn usable(path: &Path, existing: Existing) -> Result<bool, Error> {
        let held = Self::holds_something(path)?;
        if existing == Existing::Resume {
            check_files(path)?;
        }
        match existing {
            Existing::Refuse if held => Err(Error::RunDirNotEmpty { path: path.to_path_buf() }),
            Existing::Resume if !path.join(CONFIG_FILE).is_file() => {
                Err(Error::NothingToResume { path: path.to_path_buf(), missing: CONFIG_FILE })
            }
            Existing::Refuse | Existing::Resume | Existing::Replace => Ok(held),
        }
    }

    /// Refuses what [`Self::open`] and [`Self::check_resume`] would, and creates nothing.
    ///
    /// # Errors
    /// As both.
    pub fn check(path: &Path, existing: Existing, config: &RunConfig) -> Result<(), Error> {
        Self::usable(path, existing)?;
        creatable(path)?;
        DirLock::check(path)?;
        match existing {
            Existing::Resume => resumes(path, config),
            Existing::Refuse | Existing::Replace => Ok(()),
        }
    }

    /// Whether a run that has begun left a checkpoint in `path`.
    pub fn has_checkpoints(path: &Path) -> bool {
        names(&path.join(CHECKPOINTS)).is_ok_and(|names| names.iter().any(|name| checkpoint::is_ours(name)))
    }

    /// Whether `path` is a directory with anything in it but what a process leaves that dies before it has written the
    /// config. Creates nothing.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read or is no directory.
    pub fn holds_something(path: &Path) -> Result<bool, Error> {
        if !path.exists() {
            return Ok(false);
        }
        let mut entries = fs::read_dir(path).map_err(IoError::at("use as a run directory", path))?;
        let early = [LOCK_FILE.to_owned(), format!("{TEMPORARY}{CONFIG_FILE}")];
        Ok(entries.any(|entry| entry.map_or(true, |e| !early.iter().any(|name| e.file_name() == **name))))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where checkpoints go.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join(CHECKPOINTS)
    }

    /// Where what evaluations measure is written down.
    pub fn task_files(&self) -> PathBuf {
        self.path.join(TASK_FILES)
    }

    /// Where the final policy goes.
    pub fn final_policy(&self) -> PathBuf {
        self.path.join(FINAL)
    }

    /// Where the average of its weights goes.
    pub fn final_average(&self) -> PathBuf {
        self.path.join(FINAL_AVERAGE)
    }

    /// Writes the resolved config.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Config`].
    pub fn write_config(&self, config: &RunConfig) -> Result<(), Error> {
        Ok(replace_atomic(&self.path.join(CONFIG_FILE), config.to_toml()?.as_bytes())?)
    }

    /// Reads the config that the run was started with.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn read_config(&self) -> Result<RunConfig, Error> {
        read_config(&self.path)
    }

    /// Checks that `config` continues the run in this directory rather than another one.
    ///
    /// # Errors
    /// [`Error::ResumeConfigDiffers`] with the keys that changed.
    pub fn check_resume(&self, config: &RunConfig) -> Result<(), Error> {
        resumes(&self.path, config)
    }

    /// Writes the facts about the run.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_meta(&self, meta: &RunMeta) -> Result<(), Error> {
        let path = self.path.join(META_FILE);
        let text = serde_json::to_string_pretty(meta).map_err(|e| IoError::at("write", &path)(e.into()))?;
        Ok(replace_atomic(&path, format!("{text}\n").as_bytes())?)
    }

    /// Reads the facts about the run; none when they are missing or from another version.
    pub fn read_meta(&self) -> Option<RunMeta> {
        RunMeta::read(&self.path)
    }

    fn remove_run(&self) -> Result<(), IoError> {
        for entry in names(&self.path)? {
            let path = self.path.join(&entry);
            let known =
                [CONFIG_FILE, META_FILE, METRICS_FILE, ROLLOUTS_FILE, REPORT_FILE].contains(&entry.as_str());
            if known || entry.starts_with(EVENTS_PREFIX) || is_temporary(&entry) {
                remove(&path)?;
            }
        }
        self.remove_inside(CHECKPOINTS, checkpoint::is_ours)?;
        self.remove_inside(TASK_FILES, is_task_file)?;
        self.remove_inside(BASE, is_final)?;
        self.remove_inside(FINAL_AVERAGE, is_final)?;
        self.remove_inside(FINAL, is_final)
    }

    /// Removes what `ours` names from a subdirectory, and the subdirectory when nothing else is in it.
    fn remove_inside(&self, subdirectory: &str, ours: impl Fn(&str) -> bool) -> Result<(), IoError> {
        let dir = self.path.join(subdirectory);
        let Ok(metadata) = fs::symlink_metadata(&dir) else { return Ok(()) };
        if metadata.is_symlink() {
            // What it points to lies outside the run.
            return remove(&dir);
        }
        for name in names(&dir)?.iter().filter(|name| ours(name)) {
            remove(&dir.join(name))?;
        }
        if names(&dir)?.is_empty() {
            fs::remove_dir(&dir).map_err(IoError::at("remove", &dir))?;
        }
        Ok(())
    }
}

fn read_config(dir: &Path) -> Result<RunConfig, Error> {
    is_own(&dir.join(CONFIG_FILE))?;
    Ok(RunConfig::load(&dir.join(CONFIG_FILE), &[])?)
}

/// Refuses a config that continues another run than the one in `dir`.
fn resumes(dir: &Path, config: &RunConfig) -> Result<(), Error> {
    let differences = config.resume_conflicts(&read_config(dir)?);
    match differences.is_empty() {
        true => Ok(()),
        false => Err(Error::ResumeConfigDiffers { path: dir.to_path_buf(), differences }),
    }
}

fn names(dir: &Path) -> Result<Vec<String>, IoError> {
    let entries = fs::read_dir(dir).map_err(IoError::at("read", dir))?;
    entries
        .map(|e| Ok(e.map_err(IoError::at("read", dir))?.file_name().to_string_lossy().into_owned()))
        .collect()
}

fn remove(path: &Path) -> Result<(), IoError> {
    let metadata = fs::symlink_metadata(path).map_err(IoError::at("remove", path))?;
    let outcome = if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    outcome.map_err(IoError::at("remove", path))
}

fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

/// How a run ended, or that it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Under way, or killed.
    Running,
    /// All stages are done.
    Finished,
    /// Stopped by a signal after a checkpoint.
    Interrupted,
    /// Stopped by an error.
    Failed,
}

/// `meta.json`: facts about a run that are not settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunMeta {
    /// Version of the toolkit.
    pub version: String,
    /// Commit that it was built from, when the build said so in `RLVR_GIT_COMMIT`.
    pub git_commit: Option<String>,
    /// The command line.
    pub command: Vec<String>,
    /// Seed of the run.
    pub seed: u64,
    /// The device in use.
    pub device: String,
    /// The machine.
    pub hardware: Hardware,
    /// Hash of the resolved config.
    pub config_hash: String,
    /// What it read, by the name of the table: `data.train`, or of the file: `stage.1.rollouts`.
    #[serde(default)]
    pub data: BTreeMap<String, DataFacts>,
    /// When the run began, UTC.
    pub started_at: String,
    /// When it was resumed, and from which step.
    #[serde(default)]
    pub resumed: Vec<Resumed>,
    /// How it ended.
    pub status: RunStatus,
    /// When it ended, UTC.
    pub ended_at: Option<String>,
    /// Steps done at the end.
    pub last_step: Option<u64>,
    /// The error that ended it.
    pub error: Option<String>,
}

/// A continuation of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// When, UTC.
    pub at: String,
    /// Step of the checkpoint; 0 when there was none.
    pub step: u64,
}

/// What a run read from one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFacts {
    /// Rows after `filter` and `split`, or steps of rollouts.
    pub rows: usize,
    /// [`TaskSource::sha256`](crate::data::TaskSource::sha256), or that of the file of rollouts.
    pub sha256: String,
}

/// The machine of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardware {
    /// Operating system and instruction set.
    pub platform: String,
    /// Model name of the processor, when known.
    pub cpu: Option<String>,
    /// Threads that the process may use at once.
    pub cpu_threads: usize,
    /// Memory of the machine in MiB, when known.
    pub memory_mb: Option<u64>,
}

impl Hardware {
    /// This machine.
    pub fn detect() -> Self {
        let value = |file: &str, key: &str| {
            let text = fs::read_to_string(file).ok()?;
            let line = text.lines().find(|line| line.starts_with(key))?.to_owned();
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let kilobytes = value("/proc/meminfo", "MemTotal");
        Self {
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            cpu: value("/proc/cpuinfo", "model name"),
            cpu_threads: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mb: kilobytes.and_then(|v| v.split(' ').next()?.parse::<u64>().ok()).map(|kb| kb / 1024),
        }
    }
}

impl RunMeta {
    /// Reads the facts about the run in `dir`; none when they are missing or from another version.
    pub fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&read_own(&dir.join(META_FILE), SMALL).ok()?).ok()
    }

    /// The facts at the start of a run.
    pub fn start(config: &RunConfig, command: Vec<String>, device: impl Into<String>) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            git_commit: option_env!("RLVR_GIT_COMMIT").map(str::to_owned),
            command,
            seed: config.seed,
            device: device.into(),
            hardware: Hardware::detect(),
            config_hash: config.hash(),
            data: BTreeMap::new(),
            started_at: timestamp(SystemTime::now()),
            resumed: Vec::new(),
            status: RunStatus::Running,
            ended_at: None,
            last_step: None,
            error: None,
        }
    }

    /// Refuses data that is not what the run began with. A source that it did not have then is none of its business.
    ///
    /// # Errors
    /// [`Error::ResumeDataDiffers`].
    pub fn check_data(&self, now: &BTreeMap<String, DataFacts>, path: &Path) -> Result<(), Error> {
        let differs = |(name, now): (&String, &DataFacts)| {
            let then = self.data.get(name).filter(|then| *then != now)?;
            Some(format!("{name}: {} rows then, {} now", then.rows, now.rows))
        };
        let differences: Vec<String> = now.iter().filter_map(differs).collect();
        match differences.is_empty() {
            true => Ok(()),
            false => Err(Error::ResumeDataDiffers { path: path.to_path_buf(), differences }),
        }
    }

    /// Notes that the run goes on from `step`.
    pub fn resume(&mut self, step: u64) {
        self.resumed.push(Resumed { at: timestamp(SystemTime::now()), step });
        (self.status, self.ended_at, self.error) = (RunStatus::Running, None, None);
    }

    /// Notes how the run ended.
    pub fn end(&mut self, status: RunStatus, last_step: u64, error: Option<String>) {
        (self.status, self.last_step, self.error) = (status, Some(last_step), error);
        self.ended_at = Some(timestamp(SystemTime::now()));
    }
}

/// UTC as `2025-01-31T12:00:00Z`.
fn timestamp(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 1 March of year 0, so that a leap day is the last of its year; eras have 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn config() -> RunConfig {
        let text = "name = \"a\"\nstage = [{ kind = \"sft\", data = \"d\" }]\n[policy.tiny]\n[data.d]\nkind = \"addition\"";
        RunConfig::parse(text, Path::new("c.toml"), &[]).unwrap()
    }

    #[test]
    fn an_empty_directory_is_taken_and_a_full_one_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("runs/a");
        let dir = RunDir::open(&path, Existing::Refuse).unwrap();
        assert!(matches!(RunDir::open(&path, Existing::Refuse), Err(Error::DirLocked { .. })));
        drop(dir);
        // A run that failed before it wrote anything leaves no trace that matters.
        let dir = RunDir::open(&path, Existing::Refuse).unwrap();
        dir.write_config(&config()).unwrap();
        drop(dir);
        let error = RunDir::open(&path, Existing::Refuse).unwrap_err();
        assert!(error.to_string().contains("--resume") && error.exit_code() == 2, "{error}");
        let dir = RunDir::open(&path, Existing::Resume).unwrap();
        assert_eq!(dir.read_config().unwrap(), config());
        dir.check_resume(&config()).unwrap();
        let other = RunConfig { seed: 9, name: "b".into(), ..config() };
        assert!(dir.check_resume(&other).unwrap_err().to_string().contains("seed: 0 → 9"));
        let error = RunDir::open(&root.path().join("none"), Existing::Resume).unwrap_err();
        assert!(error.to_string().contains("no run to resume"), "{error}");
        assert!(!root.path().join("none").exists());
        let file = root.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(RunDir::open(&file, Existing::Refuse).unwrap_err().to_string().contains("file"));
    }

    #[test]
    fn force_removes_the_run_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a");
        let outside = root.path().join("outside");
        let mine = [
            "notes.md",
            "checkpoints/mine/x",
            "final/README.md",
            "metrics.jsonl.bak",
            "other/model.safetensors",
            "base/notes.md",
        ];
        let ours = [
            "config.toml",
            "meta.json",
            "metrics.jsonl",
            "rollouts.jsonl",
            "report.html",
            "events.out.tfevents.1.h.1.0",
            ".tmp-meta.json",
            "checkpoints/step-000001/state.json",
            "checkpoints/.tmp-step-000002/x",
            "checkpoints/damaged-step-000003/x",
            "final/model.safetensors",
            "final_ema/model.safetensors",
            "final/model-00001-of-00002.safetensors",
            "final/adapter_config.json",
            "final/adapter_model.safetensors",
            "base/model.safetensors",
        ];
        for name in mine.iter().chain(&ours) {
            fs::create_dir_all(path.join(name).parent().unwrap()).unwrap();
            fs::write(path.join(name), "x").unwrap();
        }
        RunDir::open(&path, Existing::Replace).unwrap();
        for name in mine {
            assert!(path.join(name).exists(), "{name}");
        }
        for name in ours {
            assert!(!path.join(name).exists(), "{name}");
        }
        assert!(!path.join("checkpoints/step-000001").exists());
        #[cfg(unix)]
        {
            fs::remove_dir_all(path.join("checkpoints")).unwrap();
            fs::create_dir_all(outside.join("step-000001")).unwrap();
            std::os::unix::fs::symlink(&outside, path.join("checkpoints")).unwrap();
            RunDir::open(&path, Existing::Replace).unwrap();
            assert!(outside.join("step-000001").exists() && !path.join("checkpoints").exists());
        }
    }

    #[test]
    fn meta_round_trips() {
        let root = tempfile::tempdir().unwrap();
        let dir = RunDir::open(root.path(), Existing::Refuse).unwrap();
        assert_eq!(dir.read_meta(), None);
        let mut meta = RunMeta::start(&config(), vec!["rlvr".into(), "train".into()], "cpu");
        meta.end(RunStatus::Failed, 3, Some("it broke".into()));
        dir.write_meta(&meta).unwrap();
        assert_eq!(dir.read_meta().as_ref(), Some(&meta));
        meta.resume(2);
        assert_eq!((meta.status, meta.error.as_ref(), meta.resumed[0].step), (RunStatus::Running, None, 2));
        assert!(meta.hardware.cpu_threads >= 1);
    }

    #[test]
    fn timestamps() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
