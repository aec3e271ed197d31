//! The records of a run: `metrics.jsonl`, `rollouts.jsonl` and TensorBoard events.

use std::fs;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::{Map, Value};
use tensorboard_rs::summary_writer::SummaryWriter;

use crate::config::LogConfig;
use crate::files::jsonl::JsonlLog;
use crate::files::{IoError, open_own};
use crate::metrics::MetricsRow;
use crate::random;
use rlvr_policies::guard::caught;
use rlvr_rewards::Outcome;

/// Name of the file with a row a step.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// Name of the file with a row a judged completion.
pub const ROLLOUTS_FILE: &str = "rollouts.jsonl";
/// How the names of TensorBoard's files begin.
pub const EVENTS_PREFIX: &str = "events.out.tfevents.";

const ROLLOUT_STREAM: u64 = 5;
const HISTOGRAM_BUCKETS: usize = 30;
/// Bytes at the beginning of an event that hold its step.
const EVENT_HEAD: u64 = 32;

/// One judged completion, a row of `rollouts.jsonl`.
#[derive(Debug, Clone, Serialize)]
pub struct RolloutRow<'a> {
    /// Step of the run.
    pub step: u64,
    /// Name of the stage.
    pub stage: &'a str,
    /// Index of the prompt within the step.
    pub group: usize,
    /// Index of the completion within its group.
    pub sample: usize,
    /// Id of the task.
    pub id: &'a str,
    /// What the reward compared with, so that the row can be judged again; absent for rollouts made elsewhere.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub reference: &'a Value,
    /// The fields of the data row that `meta` of the source names.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub meta: &'a Map<String, Value>,
    /// The prompt as the policy saw it.
    pub prompt: &'a str,
    /// The pictures in it: their paths, or hashes of what was given as data.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub images: &'a [String],
    /// The completion as the reward saw it.
    pub completion: &'a str,
    /// Why the completion ended.
    pub finish_reason: &'a str,
    /// Length of the completion in tokens.
    pub length_tokens: usize,
    /// The reward, none when the completion is masked out.
    pub reward: Option<f64>,
    /// The advantage, none when the completion is masked out.
    pub advantage: Option<f64>,
    /// What the reward found.
    pub outcome: &'a Outcome,
    /// Token ids of the prompt, with `log.rollouts_tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<&'a [u32]>,
    /// Token ids of the completion, with `log.rollouts_tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<&'a [u32]>,
    /// Log-probability of each completion token when it was sampled, in nats, with `log.rollouts_tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<&'a [f32]>,
    /// Version of the weights that sampled it, with `log.rollouts_tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_version: Option<u64>,
}

/// Writes the records of a run.
///
/// Rows must come in ascending steps, and everything of a step before the checkpoint of that step: a resumed run cuts
/// off what belongs to later steps.
#[derive(Debug)]
pub struct RunLog {
    config: LogConfig,
    seed: u64,
    metrics: JsonlLog,
    rollouts: JsonlLog,
    board: Option<Board>,
}

impl RunLog {
    /// Starts empty records in `dir`.
    ///
    /// # Errors
    /// When a file cannot be created.
    pub fn create(dir: &Path, config: &LogConfig, seed: u64) -> Result<Self, IoError> {
        remove_events(dir)?;
        Ok(Self {
            metrics: JsonlLog::create(&dir.join(METRICS_FILE))?,
            rollouts: JsonlLog::create(&dir.join(ROLLOUTS_FILE))?,
            board: Board::start(dir, config),
            config: config.clone(),
            seed,
        })
    }

    /// Continues the records in `dir` after `step`, the step of the checkpoint; `None` when there is none, which
    /// starts over.
    ///
    /// # Errors
    /// When a file cannot be read, cut or opened.
    pub fn resume(dir: &Path, config: &LogConfig, seed: u64, step: Option<u64>) -> Result<Self, IoError> {
        let Some(step) = step else { return Self::create(dir, config, seed) };
        let missing = |file: &&str| fs::symlink_metadata(dir.join(file)).is_err();
        let missing: Vec<&str> = [METRICS_FILE, ROLLOUTS_FILE].into_iter().filter(missing).collect();
        for file in &missing {
            tracing::warn!(
                step,
                "{file} is missing: the rows up to the checkpoint are lost, it begins after it"
            );
        }
        let (metrics, cut) = JsonlLog::resume(&dir.join(METRICS_FILE), step)?;
        if step > 0 && !missing.contains(&METRICS_FILE) && cut.last_step != Some(step) {
            tracing::warn!(
                step,
                last = cut.last_step,
                "{METRICS_FILE} ends before the checkpoint: rows are lost"
            );
        }
        let (rollouts, _) = JsonlLog::resume(&dir.join(ROLLOUTS_FILE), step)?;
        for path in events(dir)? {
            cut_events(&path, step)?;
        }
        Ok(Self { metrics, rollouts, board: Board::start(dir, config), config: config.clone(), seed })
    }

    /// Records the metrics of a step: one line, keys in the order of the list of metrics, timings last. A value that is
    /// not finite is written as null, with a warning.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn metrics(&mut self, row: &MetricsRow) -> Result<(), IoError> {
        let mut object = Map::new();
        object.insert("step".to_owned(), row.step.into());
        object.insert("stage".to_owned(), row.stage.as_str().into());
        let values = row.ordered();
        for (name, value) in &values {
            if !value.is_finite() {
                tracing::warn!(step = row.step, metric = name, value, "a metric is not finite");
            }
            object.insert((*name).to_owned(), Value::from(*value));
        }
        self.metrics.write(&object)?;
        self.metrics.flush()?;
        Board::with(&mut self.board, |writer| {
            for (name, value) in values {
                writer.add_scalar(name, value as f32, row.step as usize);
            }
        });
        Ok(())
    }

    /// Whether this completion is one of the share `log.rollouts_frac` that is recorded; the same in every run with
    /// the same seed.
    pub fn records_rollout(&self, step: u64, group: usize, sample: usize) -> bool {
        let key = [self.seed, ROLLOUT_STREAM, step, group as u64, sample as u64];
        random::unit(&key) < self.config.rollouts_frac
    }

    /// Records completions, those of the recorded share.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn rollouts<'a>(&mut self, rows: impl IntoIterator<Item = RolloutRow<'a>>) -> Result<(), IoError> {
        for mut row in rows {
            if !self.records_rollout(row.step, row.group, row.sample) {
                continue;
            }
            if !self.config.rollouts_tokens {
                (row.prompt_tokens, row.completion_tokens, row.logprobs) = (None, None, None);
                row.policy_version = None;
            }
            self.rollouts.write(&row)?;
        }
        self.rollouts.flush()
    }

    /// Whether histograms are due at this step.
    pub fn histograms_due(&self, step: u64) -> bool {
        let every = self.config.histograms_every;
        self.board.is_some() && every > 0 && (step == 1 || step.is_multiple_of(every))
    }

    /// Records a histogram in TensorBoard; values that are not finite are left out.
    pub fn histogram(&mut self, name: &str, step: u64, values: &[f64]) {
        let Some(h) = Histogram::of(values) else { return };
        Board::with(&mut self.board, |writer| {
            writer.add_histogram_raw(
                name,
                h.min,
                h.max,
                h.count,
                h.sum,
                h.sum_squares,
                &h.limits,
                &h.counts,
                step as usize,
            );
        });
    }

    /// Hands everything to the disk. To be called before a checkpoint is published.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sync(&mut self) -> Result<(), IoError> {
        self.metrics.sync()?;
        self.rollouts.sync()?;
        Board::with(&mut self.board, SummaryWriter::flush);
        Ok(())
    }
}

/// TensorBoard's writer, which panics on every error and again when it is dropped after one.
///
/// Its thread panics on a full disk, and the next call then panics here. Events are a convenience beside
/// `metrics.jsonl`, so a panic is caught, reported once, and ends the events of the run.
struct Board {
    writer: Option<SummaryWriter>,
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Board")
    }
}

impl Board {
    fn start(dir: &Path, config: &LogConfig) -> Option<Self> {
        if !config.tensorboard {
            return None;
        }
        wait_for_a_new_name(dir);
        match caught(|| SummaryWriter::new(dir)) {
            Ok(writer) => Some(Self { writer: Some(writer) }),
            Err(why) => {
                tracing::warn!(
                    "cannot write TensorBoard events ({why}); {METRICS_FILE} has the same numbers"
                );
                None
            }
        }
    }

    fn with(board: &mut Option<Self>, action: impl FnOnce(&mut SummaryWriter)) {
        let Some(writer) = board.as_mut().and_then(|b| b.writer.as_mut()) else { return };
        if let Err(why) = caught(|| action(writer)) {
            tracing::warn!("TensorBoard events end here ({why}); {METRICS_FILE} has the same numbers");
            *board = None;
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let writer = self.writer.take();
        if let Err(why) = caught(move || drop(writer)) {
            tracing::debug!("the events writer did not end well: {why}");
        }
    }
}

/// The writer names its file by the second and the process: waits until that name is free, so that a run resumed at
/// once by the same process does not empty its own events.
fn wait_for_a_new_name(dir: &Path) {
    for _ in 0..50 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let taken = format!("{EVENTS_PREFIX}{now:010}.");
        let ours = format!(".{}.0", std::process::id());
        let clash = events(dir).unwrap_or_default().iter().any(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with(&taken) && name.ends_with(&ours)
        });
        if !clash {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The event files in `dir`, in order.
fn events(dir: &Path) -> Result<Vec<PathBuf>, IoError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(IoError::at("read", dir))? {
        let entry = entry.map_err(IoError::at("read", dir))?;
        if entry.file_name().to_string_lossy().starts_with(EVENTS_PREFIX) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn remove_events(dir: &Path) -> Result<(), IoError> {
    for path in events(dir)? {
        fs::remove_file(&path).map_err(IoError::at("remove", &path))?;
    }
    Ok(())
}

/// Cuts an event file before its first event after `step`, and before a record that was not written to its end;
/// TensorBoard would show both branches otherwise.
fn cut_events(path: &Path, step: u64) -> Result<(), IoError> {
    let mut options = fs::OpenOptions::new();
    let file = open_own(path, options.read(true).write(true)).map_err(IoError::at("open", path))?;
    let length = file.metadata().map_err(IoError::at("read", path))?.len();
    let reader = BufReader::with_capacity(1 << 16, &file);
    match kept_events(reader, length, step).map_err(IoError::at("read", path))? {
        keep if keep == length => Ok(()),
        keep => file.set_len(keep).map_err(IoError::at("cut", path)),
    }
}

/// How many bytes of TensorBoard records hold events up to `step`. A record is its length (8 bytes), a checksum (4),
/// the event, a checksum (4). Of an event only the beginning is kept in memory.
fn kept_events(mut from: impl Read, bytes: u64, step: u64) -> io::Result<u64> {
    let mut at = 0;
    while bytes - at >= 16 {
        let mut header = [0; 12];
        from.read_exact(&mut header)?;
        let length = header.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
        let Some(end) = length.checked_add(at + 16).filter(|end| *end <= bytes) else { break };
        let mut event = Vec::new();
        from.by_ref().take(length.min(EVENT_HEAD)).read_to_end(&mut event)?;
        io::copy(&mut from.by_ref().take(length - event.len() as u64 + 4), &mut io::sink())?;
        if event_step(&event).is_some_and(|s| s > step) {
            break;
        }
        at = end;
    }
    Ok(at)
}

/// The field `step` (2, a varint) of an encoded event; fields come in order and only `wall_time` (1) precedes it.
fn event_step(event: &[u8]) -> Option<u64> {
    let rest = if event.first() == Some(&0x09) { event.get(9..)? } else { event };
    let mut value = 0_u64;
    for (i, byte) in rest.strip_prefix(&[0x10])?.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

struct Histogram {
    min: f64,
    max: f64,
    count: f64,
    sum: f64,
    sum_squares: f64,
    limits: Vec<f64>,
    counts: Vec<f64>,
}

impl Histogram {
    /// Equal buckets from the least to the greatest finite value; none without values.
    fn of(values: &[f64]) -> Option<Self> {
        let finite: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        let min = finite.iter().copied().reduce(f64::min)?;
        let max = finite.iter().copied().reduce(f64::max)?;
        let buckets = if max > min { HISTOGRAM_BUCKETS } else { 1 };
        let width = (max - min) / buckets as f64;
        let mut limits: Vec<f64> = (1..=buckets).map(|i| min + width * i as f64).collect();
        limits[buckets - 1] = max;
        let mut counts = vec![0.0; buckets];
        for value in &finite {
            counts[limits.partition_point(|limit| limit < value).min(buckets - 1)] += 1.0;
        }
        Some(Self {
            min,
            max,
            count: finite.len() as f64,
            sum: finite.iter().sum(),
            sum_squares: finite.iter().map(|v| v * v).sum(),
            limits,
            counts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics;
    use rlvr_rewards::Verdict;

    fn step(log: &mut RunLog, step: u64) {
        let mut row = MetricsRow::new(step, "grpo");
        row.set(metrics::THROUGHPUT_DECODE, 100.0);
        row.set(metrics::REWARD_MEAN, step as f64 / 10.0);
        row.set(metrics::OPTIM_LOSS, f64::NAN);
        let outcome = Outcome::of(Verdict::Correct, "exact", "equal");
        let meta = Map::new();
        log.rollouts((0..4).map(|sample| RolloutRow {
            step,
            stage: "grpo",
            group: 0,
            sample,
            id: "a",
            reference: &Value::Null,
            meta: &meta,
            prompt: "1+1=",
            images: &[],
            completion: "2",
            finish_reason: "eos",
            length_tokens: 2,
            reward: Some(1.0),
            advantage: Some(0.0),
            outcome: &outcome,
            prompt_tokens: Some(&[1, 2]),
            completion_tokens: Some(&[3]),
            logprobs: Some(&[-0.5]),
            policy_version: Some(0),
        }))
        .unwrap();
        log.histogram("reward/histogram", step, &[0.0, 1.0, f64::NAN]);
        log.metrics(&row).unwrap();
    }

    fn event_steps(dir: &Path) -> Vec<u64> {
        let mut steps = Vec::new();
        for path in events(dir).unwrap() {
            let bytes = fs::read(path).unwrap();
            let mut at = 0;
            while at < bytes.len() {
                let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
                steps.extend(event_step(&bytes[at + 12..at + 12 + length]));
                at += 16 + length;
            }
        }
        steps
    }

    #[test]
    fn records_of_a_resumed_run_equal_those_of_an_uninterrupted_one() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let config = LogConfig { rollouts_frac: 0.5, ..LogConfig::default() };
        let mut log = RunLog::create(one.path(), &config, 7).unwrap();
        (1..=6).for_each(|s| step(&mut log, s));
        drop(log);
        let mut log = RunLog::create(two.path(), &config, 7).unwrap();
        (1..=4).for_each(|s| step(&mut log, s));
        drop(log);
        let mut log = RunLog::resume(two.path(), &config, 7, Some(2)).unwrap();
        (3..=6).for_each(|s| step(&mut log, s));
        log.sync().unwrap();
        drop(log);
        for file in [METRICS_FILE, ROLLOUTS_FILE] {
            let read = |dir: &Path| fs::read_to_string(dir.join(file)).unwrap();
            assert_eq!(read(one.path()), read(two.path()));
        }
        assert_eq!(event_steps(one.path()), event_steps(two.path()));
        assert!(event_steps(one.path()).len() >= 18);
        let rows = fs::read_to_string(one.path().join(ROLLOUTS_FILE)).unwrap();
        assert!((4..=20).contains(&rows.lines().count()), "{}", rows.lines().count());
        assert!(!rows.contains("prompt_tokens"));
        let metrics = fs::read_to_string(one.path().join(METRICS_FILE)).unwrap();
        assert_eq!(
            metrics.lines().next().unwrap(),
            r#"{"step":1,"stage":"grpo","reward/mean":0.1,"optim/loss":null,"throughput/decode_tokens_per_s":100.0}"#
        );
        let log = RunLog::resume(two.path(), &config, 7, None).unwrap();
        drop(log);
        assert_eq!(fs::read_to_string(two.path().join(METRICS_FILE)).unwrap(), "");
    }

    #[test]
    fn recorded_tokens_can_be_replayed() {
        let dir = tempfile::tempdir().unwrap();
        let config = LogConfig { rollouts_tokens: true, tensorboard: false, ..LogConfig::default() };
        let mut log = RunLog::create(dir.path(), &config, 7).unwrap();
        step(&mut log, 1);
        let steps =
            crate::train::recorded::read(&dir.path().join(ROLLOUTS_FILE), Default::default()).unwrap();
        assert_eq!(steps[0].groups[0].rollouts.len(), 4);
        assert_eq!(steps[0].groups[0].rollouts[0].logprobs.as_deref(), Some(&[-0.5][..]));
    }

    #[test]
    fn half_an_event_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = RunLog::create(dir.path(), &LogConfig::default(), 7).unwrap();
        step(&mut log, 1);
        drop(log);
        let bytes = fs::read(&events(dir.path()).unwrap()[0]).unwrap();
        let kept = |bytes: &[u8], step| kept_events(bytes, bytes.len() as u64, step).unwrap() as usize;
        assert_eq!(kept(&bytes, 1), bytes.len());
        let first = kept(&bytes, 0);
        assert!(first > 0 && first < bytes.len());
        for length in first..bytes.len() {
            assert!(kept(&bytes[..length], 1) <= length);
        }
        assert_eq!(kept(&[0xff; 64], 1), 0);
    }

    #[test]
    fn histograms_count_every_finite_value() {
        let h = Histogram::of(&[0.0, 0.1, 1.0, f64::INFINITY, 1.0]).unwrap();
        assert_eq!((h.counts.iter().sum::<f64>(), h.count, h.min, h.max), (4.0, 4.0, 0.0, 1.0));
        assert_eq!((h.counts[0], h.counts[29]), (1.0, 2.0));
        assert_eq!(Histogram::of(&[2.0, 2.0]).unwrap().counts, [2.0]);
        assert!(Histogram::of(&[f64::NAN]).is_none());
    }
}
