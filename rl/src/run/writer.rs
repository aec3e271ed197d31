//! A thread that writes records and checkpoints while training goes on.
//!
//! What is handed over is written in that order. A checkpoint shares its tensors with training, which copies those that
//! it changes before they are written; the records are on the disk before the checkpoint of their step counts. The first
//! error ends all writing and comes back from the next call. Where the system gives no thread, training waits while it is
//! written.
use crate::checkpoint::{CheckpointStore, TrainState};
use crate::error::Error;
use crate::files::tensors::NamedTensor;
use crate::metrics::MetricsRow;
use crate::policy::SavedPolicy;
use crate::run::log::RunLog;
use crate::run::record;
use crate::train::grpo::StepOutcome;
use rlvr_policies::guard;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Records that may wait. Only one checkpoint may wait or be written.
const QUEUE: usize = 64;

/// Everything of a checkpoint.
pub(crate) struct Snapshot {
    pub(crate) state: TrainState,
    pub(crate) policy: SavedPolicy,
    /// By the name of the file.
    pub(crate) tensors: Vec<(&'static str, Vec<NamedTensor>)>,
}

enum Job {
    Rollouts {
        step: u64,
        stage: String,
        outcome: Arc<StepOutcome>,
    },
    Metrics(MetricsRow),
    Checkpoint(Box<Snapshot>, Sender<PathBuf>),
    /// Says when everything before it is done.
    Report(Sender<()>),
}

/// What is written into.
struct Desk {
    /// None where another rank writes.
    into: Option<(RunLog, CheckpointStore)>,
    /// Whether an error has ended the writing.
    stopped: bool,
}

type Shared<T> = Arc<Mutex<T>>;

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread and the way to it.
pub(crate) struct Writer {
    jobs: Option<SyncSender<Job>>,
    /// None where there is no thread.
    thread: Option<JoinHandle<()>>,
    desk: Shared<Desk>,
    failure: Shared<Option<Error>>,
    /// Where the path of the newest checkpoint will come from.
    pending: Option<Receiver<PathBuf>>,
}

impl Writer {
    pub(crate) fn start(log: RunLog, store: CheckpointStore) -> Self {
        let (jobs, received) = sync_channel(QUEUE);
        let failure: Shared<Option<Error>> = Arc::default();
        let desk = Arc::new(Mutex::new(Desk { into: Some((log, store)), stopped: false }));
        let thread = std::thread::Builder::new().name("writer".into()).spawn({
            let (desk, failure) = (Arc::clone(&desk), Arc::clone(&failure));
            move || {
                let mut desk = lock(&desk);
                received.iter().for_each(|job| desk.write(job, &failure));
                desk.finish(&failure);
            }
        });
        if let Err(error) = &thread {
            tracing::warn!("training waits for the disk, there is no thread that writes: {error}");
        }
        Self { jobs: Some(jobs), thread: thread.ok(), desk, failure, pending: None }
    }

    /// One that writes nothing, for ranks that leave it to another one.
    pub(crate) fn nowhere() -> Self {
        let desk = Arc::new(Mutex::new(Desk { into: None, stopped: true }));
        Self { jobs: None, thread: None, desk, failure: Arc::default(), pending: None }
    }

    /// The error that has ended the writing, once.
    fn check(&self) -> Result<(), Error> {
        lock(&self.failure).take().map_or(Ok(()), Err)
    }

    fn send(&self, job: Job) -> Result<(), Error> {
        self.check()?;
        if self.thread.is_none() {
            lock(&self.desk).write(job, &self.failure);
            return Ok(());
        }
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if sent { Ok(()) } else { Err(gone()) }
    }

    /// Records the completions of a step.
    pub(crate) fn rollouts(&self, step: u64, stage: &str, outcome: Arc<StepOutcome>) -> Result<(), Error> {
        self.send(Job::Rollouts { step, stage: stage.to_owned(), outcome })
    }

    /// Records the metrics of a step.
    pub(crate) fn metrics(&self, row: &MetricsRow) -> Result<(), Error> {
        self.send(Job::Metrics(row.clone()))
    }

    /// Writes a checkpoint, after the one before it if that is still being written; returns the path of that one.
    pub(crate) fn checkpoint(&mut self, snapshot: Snapshot) -> Result<Option<PathBuf>, Error> {
        let before = self.pending.take().and_then(|pending| pending.recv().ok());
        let (done, pending) = channel();
        self.pending = Some(pending);
        self.send(Job::Checkpoint(Box::new(snapshot), done))?;
        Ok(before)
    }

    /// The path of a checkpoint that has become whole since the last call.
    pub(crate) fn published(&mut self) -> Option<PathBuf> {
        let path = self.pending.as_ref()?.try_recv().ok()?;
        self.pending = None;
        Some(path)
    }

    /// Waits until all is written.
    pub(crate) fn settle(&mut self) -> Result<(), Error> {
        let (done, all) = channel();
        self.send(Job::Report(done))?;
        let reported = all.recv().is_ok();
        self.check()?;
        if reported { Ok(()) } else { Err(gone()) }
    }

    /// Waits until all is written and handed to the disk.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        self.end();
        self.check()
    }

    fn end(&mut self) {
        if self.jobs.take().is_none() {
            return;
        }
        match self.thread.take() {
            None => lock(&self.desk).finish(&self.failure),
            Some(thread) => {
                if thread.join().is_err() {
                    lock(&self.failure).get_or_insert_with(gone);
                }
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

fn gone() -> Error {
    Error::Unusable { what: "the thread that writes has ended".into() }
}

impl Desk {
    fn write(&mut self, job: Job, failure: &Mutex<Option<Error>>) {
        if let Job::Report(done) = job {
            // Nobody waits for it any more, at worst.
            let _ = done.send(());
        } else if !self.stopped {
            let outcome = heard(|| match &mut self.into {
                Some((log, store)) => perform(log, store, job),
                None => Ok(()),
            });
            self.note(outcome, failure);
        }
    }

    fn finish(&mut self, failure: &Mutex<Option<Error>>) {
        if !self.stopped {
            let outcome = heard(|| match &mut self.into {
                Some((log, _)) => log.sync().map_err(Error::from),
                None => Ok(()),
            });
            self.note(outcome, failure);
        }
    }

    fn note(&mut self, outcome: Result<(), Error>, failure: &Mutex<Option<Error>>) {
        if let Err(error) = outcome {
            *lock(failure) = Some(error);
            self.stopped = true;
        }
    }
}

/// The same, with a panic as an error: nobody looks at this thread.
fn heard(work: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        Err(Error::Unusable { what: format!("the thread that writes panicked: {}", guard::message(&*panic)) })
    })
}

fn perform(log: &mut RunLog, store: &CheckpointStore, job: Job) -> Result<(), Error> {
    match job {
        Job::Rollouts { step, stage, outcome } => record::rollouts(log, step, &stage, &outcome)?,
        Job::Metrics(row) => log.metrics(&row)?,
        Job::Checkpoint(snapshot, done) => {
            // A checkpoint without the records of its steps would be resumed into a run that lacks them.
            log.sync()?;
            let Snapshot { state, policy, tensors } = *snapshot;
            let saved = store.save(&state, &tensors, |dir| Ok(policy.save(dir)?))?;
            // First of all, so that training need not copy what nobody reads any more.
            drop((policy, tensors));
            let _ = done.send(saved.path);
        }
        Job::Report(_) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CheckpointConfig, LogConfig, TinyConfig};
    use crate::metrics;
    use crate::policy::Policy;
    use std::path::Path;

    fn writer(dir: &Path) -> Writer {
        let config = LogConfig { tensorboard: false, ..LogConfig::default() };
        let store = CheckpointStore::new(&dir.join("checkpoints"), &CheckpointConfig::default());
        Writer::start(RunLog::create(dir, &config, 1).unwrap(), store)
    }

    fn row(step: u64) -> MetricsRow {
        let mut row = MetricsRow::new(step, "grpo");
        row.set(metrics::REWARD_MEAN, 0.5);
        row
    }

    fn snapshot(policy: &Policy, step: u64) -> Snapshot {
        let state = TrainState { step, ..TrainState::start(1) };
        let tensors = vec![("optimizer", vec![NamedTensor::shared("m", &[2], Arc::new(vec![1.0, 2.0]))])];
        Snapshot { state, policy: policy.saved(), tensors }
    }

    fn tiny() -> Policy {
        Policy::tiny(&TinyConfig::default(), 1, &burn::tensor::Device::flex()).unwrap()
    }

    #[test]
    fn a_checkpoint_has_the_values_of_its_step_and_the_records_are_not_older() {
        let dir = tempfile::tempdir().unwrap();
        let mut policy = tiny();
        let before = policy.decoder.param_values(0);
        let mut writer = writer(dir.path());
        writer.metrics(&row(1)).unwrap();
        assert_eq!(writer.checkpoint(snapshot(&policy, 1)).unwrap(), None);
        // Training goes on while it is being written.
        policy.decoder.update_on_host(|_, _, values| values.iter_mut().for_each(|v| *v += 1.0));
        writer.metrics(&row(2)).unwrap();
        let first = writer.checkpoint(snapshot(&policy, 2)).unwrap().unwrap();
        assert!(first.ends_with("step-000001"));
        let open = |path: &Path| Policy::open(&path.to_string_lossy(), policy.decoder.device()).unwrap();
        assert_eq!(open(&first).decoder.param_values(0), before);
        writer.settle().unwrap();
        let second = writer.published().unwrap();
        assert_eq!(open(&second).decoder.param_values(0), policy.decoder.param_values(0));
        assert_eq!(writer.published(), None);
        writer.finish().unwrap();
        let records = std::fs::read_to_string(dir.path().join("metrics.jsonl")).unwrap();
        assert_eq!(records.lines().count(), 2);
    }

    #[test]
    fn without_a_thread_the_same_is_written_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        // As if it had not started: it ends when nobody sends to it any more.
        let (jobs, _) = sync_channel(1);
        drop(writer.jobs.replace(jobs));
        writer.thread.take().unwrap().join().unwrap();
        writer.metrics(&row(1)).unwrap();
        assert_eq!(writer.checkpoint(snapshot(&tiny(), 1)).unwrap(), None);
        assert!(dir.path().join("checkpoints/step-000001").is_dir());
        assert!(writer.published().unwrap().ends_with("step-000001"));
        writer.settle().unwrap();
        writer.finish().unwrap();
        let records = std::fs::read_to_string(dir.path().join("metrics.jsonl")).unwrap();
        assert_eq!(records.lines().count(), 1);
    }

    #[test]
    fn a_panic_of_the_thread_is_an_error_of_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        let policy = tiny();
        let mut snapshot = snapshot(&policy, 1);
        snapshot.tensors.push(("broken", vec![NamedTensor::read("b", &[2], || panic!("on purpose"))]));
        writer.checkpoint(snapshot).unwrap();
        let error = writer.settle().unwrap_err().to_string();
        assert_eq!(error, "the thread that writes panicked: on purpose");
        assert!(!dir.path().join("checkpoints/step-000001").exists());
    }

    #[test]
    fn an_error_comes_back_once_and_ends_the_writing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("checkpoints"), "a file").unwrap();
        let mut writer = writer(dir.path());
        let policy = tiny();
        writer.metrics(&row(1)).unwrap();
        writer.checkpoint(snapshot(&policy, 1)).unwrap();
        let error = writer.settle().unwrap_err().to_string();
        assert!(error.contains("checkpoints"), "{error}");
        writer.metrics(&row(2)).unwrap();
        writer.finish().unwrap();
        let records = std::fs::read_to_string(dir.path().join("metrics.jsonl")).unwrap();
        assert_eq!(records.lines().count(), 1);
    }
}
