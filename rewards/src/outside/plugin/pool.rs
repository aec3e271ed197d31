//! The workers of a plugin: batches, the search for an item that breaks it, the quarantine.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::PluginConfig;
use super::protocol::{self, Capabilities, Greeting, ITEM_OVERHEAD, MAX_LINE};
use super::worker::{Failure, Worker};
use crate::group::groups;
use crate::reward::{Outcome, Verdict};
use crate::task::{Response, Task};
use crate::threads::on_threads;

/// How long a plugin that does not start is left alone; doubled each time, up to a minute.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// Different complaints that are shown.
const MAX_SHOWN: usize = 100;
/// Items that are remembered as breaking the plugin.
const MAX_QUARANTINED: usize = 1 << 16;

/// What is judged together or not at all: an item, or the group of a plugin that ranks.
struct Unit {
    items: Range<usize>,
    /// Hash of the bytes.
    key: (u64, u64),
}

pub(super) struct Pool {
    pub config: PluginConfig,
    state: Mutex<State>,
    /// A worker came back.
    free: Condvar,
    /// What broke the plugin, and how.
    quarantine: Mutex<HashMap<(u64, u64), String>>,
    hashers: (RandomState, RandomState),
    /// Ends of the complaints that were shown.
    shown: Mutex<HashSet<String>>,
}

struct State {
    idle: Vec<Worker>,
    greeting: Option<Greeting>,
    /// Since the plugin does not start: until when it rests, how long that is, and why.
    resting: Option<(Instant, Duration, String)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves nothing half-done behind these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A worker that comes back when it is dropped, also by a panic: others may wait for it.
struct Lent<'a> {
    pool: &'a Pool,
    worker: Worker,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut worker = std::mem::take(&mut self.worker);
        if std::thread::panicking() {
            // Nobody knows what its process was told.
            worker = Worker::default();
        }
        lock(&self.pool.state).idle.push(worker);
        self.pool.free.notify_one();
    }
}

impl Pool {
    pub fn new(config: PluginConfig) -> Self {
        let idle = (0..config.workers).map(|_| Worker::default()).collect();
        Self {
            config,
            state: Mutex::new(State { idle, greeting: None, resting: None }),
            free: Condvar::new(),
            quarantine: Mutex::default(),
            hashers: Default::default(),
            shown: Mutex::default(),
        }
    }

    /// Starts a worker if none runs, and gives the plugin's greeting.
    pub fn greet(&self) -> Result<Greeting, Failure> {
        if let Some(greeting) = &lock(&self.state).greeting {
            return Ok(greeting.clone());
        }
        self.with_worker(|worker| self.start(worker))?;
        let greeting = lock(&self.state).greeting.clone();
        greeting.ok_or_else(|| Failure::Start("the plugin does not start".into()))
    }

    /// Lends a worker; waits until one is free.
    fn with_worker<T>(&self, work: impl FnOnce(&mut Worker) -> T) -> T {
        let mut state = lock(&self.state);
        let worker = loop {
            match state.idle.pop() {
                Some(worker) => break worker,
                None => state = self.free.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(state);
        let mut lent = Lent { pool: self, worker };
        work(&mut lent.worker)
    }

    fn start(&self, worker: &mut Worker) -> Result<(), Failure> {
        if let Some((until, _, why)) = &lock(&self.state).resting
            && Instant::now() < *until
        {
            return Err(Failure::Start(why.clone()));
        }
        let started = worker.start(&self.config);
        self.show(worker);
        let mut state = lock(&self.state);
        let started = started.and_then(|(_, greeting)| match (&state.greeting, greeting) {
            (Some(known), Some(new)) if *known != new => {
                worker.finish();
                Err(Failure::Start("the plugin introduces itself differently than before".into()))
            }
            (_, new) => Ok(new),
        });
        match started {
            Ok(new) => {
                if let Some(new) = new.filter(|_| state.greeting.is_none()) {
                    state.greeting = Some(new);
                }
                state.resting = None;
                Ok(())
            }
            Err(failure) => {
                tracing::warn!(plugin = self.config.name, "{}", failure.reason());
                let rest = state.resting.as_ref().map_or(FIRST_REST, |r| (r.1 * 2).min(LONGEST_REST));
                state.resting = Some((Instant::now() + rest, rest, failure.reason().to_owned()));
                Err(failure)
            }
        }
    }

    /// Shows what a plugin wrote to stderr while it failed, such as a traceback: once for each last line, which says what
    /// went wrong.
    fn show(&self, worker: &mut Worker) {
        let Some(complaint) = worker.complaint() else { return };
        let last = complaint.lines().next_back().unwrap_or_default().to_owned();
        let mut shown = lock(&self.shown);
        if shown.len() < MAX_SHOWN && shown.insert(last) {
            tracing::warn!(plugin = self.config.name, "it wrote to stderr:\n{}", complaint.trim_end());
        }
    }

    /// One outcome an item, same order.
    pub fn judge(&self, items: &[(&Task, Response<'_>)]) -> Vec<Outcome> {
        let capabilities = match self.greet() {
            Ok(greeting) => greeting.capabilities,
            Err(failure) => return vec![self.broken(failure.reason()); items.len()],
        };
        let texts: Vec<_> = items.par_iter().map(|(task, r)| protocol::encode(task, *r)).collect();
        let mut outcomes: Vec<Option<Outcome>> = vec![None; items.len()];
        let units = self.units(items, &texts, capabilities, &mut outcomes);
        let texts: Vec<String> = texts.into_iter().map(Result::unwrap_or_default).collect();
        let batches = self.batches(&units, &texts, capabilities);

        // Which worker takes a batch is left to chance; what is in it is not.
        let next = AtomicUsize::new(0);
        let work = || {
            let mut found = Vec::new();
            while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.with_worker(|worker| {
                    self.judge_batch(worker, &units[batch.clone()], &texts, &mut found)
                });
            }
            found
        };
        let found = on_threads(self.config.workers.min(batches.len()), work);
        for (i, outcome) in found.into_iter().flatten() {
            outcomes[i] = Some(outcome);
        }
        outcomes.into_iter().map(|o| o.unwrap_or_else(|| self.broken("it was not judged"))).collect()
    }

    fn broken(&self, reason: &str) -> Outcome {
        Outcome::of(Verdict::Error, "plugin", reason)
    }

    /// What is judged together; items that cannot be sent get their outcome here.
    fn units(
        &self,
        items: &[(&Task, Response<'_>)],
        texts: &[Result<String, String>],
        capabilities: Capabilities,
        outcomes: &mut [Option<Outcome>],
    ) -> Vec<Unit> {
        let ranges = match capabilities.group {
            true => groups(items),
            false => (0..items.len()).map(|i| i..i + 1).collect(),
        };
        let mut units = Vec::with_capacity(ranges.len());
        for range in ranges {
            let texts = &texts[range.clone()];
            let bytes: usize = texts.iter().flatten().map(|t| t.len() + ITEM_OVERHEAD).sum();
            let bad = texts.iter().find_map(|t| t.as_ref().err().cloned());
            let large = bytes + ITEM_OVERHEAD > MAX_LINE;
            if let Some(why) = bad.or_else(|| large.then(|| "it does not fit into a line of 16 MiB".into())) {
                outcomes[range].fill(Some(self.broken(&why)));
                continue;
            }
            let texts: Vec<&String> = texts.iter().flatten().collect();
            let key = (self.hashers.0.hash_one(&texts), self.hashers.1.hash_one(&texts));
            units.push(Unit { items: range, key });
        }
        units
    }

    /// Ranges of units that go into one message, by number and by bytes; the same for any number of workers.
    fn batches(&self, units: &[Unit], texts: &[String], capabilities: Capabilities) -> Vec<Range<usize>> {
        let most = if capabilities.batch { self.config.batch } else { 1 };
        let mut batches: Vec<Range<usize>> = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        for (i, unit) in units.iter().enumerate() {
            let more: usize = texts[unit.items.clone()].iter().map(|t| t.len() + ITEM_OVERHEAD).sum();
            match batches.last_mut() {
                Some(last)
                    if count + unit.items.len() <= most && bytes + more + ITEM_OVERHEAD <= MAX_LINE =>
                {
                    last.end = i + 1;
                }
                _ => {
                    batches.push(i..i + 1);
                    (count, bytes) = (0, 0);
                }
            }
            count += unit.items.len();
            bytes += more;
        }
        batches
    }

    fn judge_batch(
        &self,
        worker: &mut Worker,
        units: &[Unit],
        texts: &[String],
        found: &mut Vec<(usize, Outcome)>,
    ) {
        let mut fail = |unit: &Unit, reason: &str| {
            found.extend(unit.items.clone().map(|i| (i, self.broken(reason))));
        };
        let mut suspects: Vec<&Unit> = Vec::with_capacity(units.len());
        for unit in units {
            match lock(&self.quarantine).get(&unit.key) {
                Some(reason) => fail(unit, reason),
                None => suspects.push(unit),
            }
        }
        if suspects.is_empty() {
            return;
        }
        let failure = match self.attempt(worker, suspects.iter().copied(), texts, found) {
            Ok(()) => return,
            Err(failure) => failure,
        };
        // Units of the same bytes stay together: if one of them breaks the plugin, all do.
        let mut first: HashMap<(u64, u64), usize> = HashMap::new();
        suspects.sort_by_cached_key(|unit| {
            let next = first.len();
            *first.entry(unit.key).or_insert(next)
        });
        let kinds: Vec<&[&Unit]> = suspects.chunk_by(|a, b| a.key == b.key).collect();
        self.isolate(worker, &kinds, failure, texts, found);
    }

    /// Halves a batch that failed until the unit is alone that breaks the plugin, and judges the others. Where both
    /// halves fail it is not the unit, and the search ends.
    fn isolate(
        &self,
        worker: &mut Worker,
        mut suspects: &[&[&Unit]],
        mut failure: Failure,
        texts: &[String],
        found: &mut Vec<(usize, Outcome)>,
    ) {
        let fail = |kinds: &[&[&Unit]], failure: &Failure, found: &mut Vec<(usize, Outcome)>| {
            for unit in kinds.iter().copied().flatten() {
                found.extend(unit.items.clone().map(|i| (i, self.broken(failure.reason()))));
            }
        };
        while failure.may_be_an_item() && suspects.len() > 1 {
            let (left, right) = suspects.split_at(suspects.len() / 2);
            let [left_failed, right_failed] = [left, right].map(|half| {
                self.attempt(worker, half.iter().copied().flatten().copied(), texts, found).err()
            });
            (suspects, failure) = match (left_failed, right_failed) {
                (None, None) => return,
                (Some(failure), None) => (left, failure),
                (None, Some(failure)) => (right, failure),
                (Some(one), Some(other)) => {
                    fail(left, &one, found);
                    fail(right, &other, found);
                    return;
                }
            };
        }
        if let ([kind], true) = (suspects, failure.may_be_an_item()) {
            self.quarantine(kind[0], failure.reason());
        }
        fail(suspects, &failure, found);
    }

    fn quarantine(&self, unit: &Unit, reason: &str) {
        let mut quarantine = lock(&self.quarantine);
        if quarantine.len() < MAX_QUARANTINED {
            quarantine.insert(unit.key, reason.to_owned());
        }
    }

    /// Judges units with one message.
    fn attempt<'a>(
        &self,
        worker: &mut Worker,
        units: impl Iterator<Item = &'a Unit> + Clone,
        texts: &[String],
        found: &mut Vec<(usize, Outcome)>,
    ) -> Result<(), Failure> {
        self.start(worker)?;
        let at: Vec<(usize, usize)> =
            units.enumerate().flat_map(|(group, unit)| unit.items.clone().map(move |i| (group, i))).collect();
        let items: Vec<(usize, &str)> = at.iter().map(|(group, i)| (*group, texts[*i].as_str())).collect();
        let judged = worker.judge(&self.config, &items);
        self.show(worker);
        match judged {
            Ok(outcomes) => {
                found.extend(at.into_iter().map(|(_, i)| i).zip(outcomes));
                Ok(())
            }
            Err(failure) => {
                let n = items.len();
                tracing::warn!(plugin = self.config.name, "a batch of {n}: {}", failure.reason());
                Err(failure)
            }
        }
    }

    /// Ends the idle workers; how many did so by themselves, of how many.
    pub fn finish(&self) -> (usize, usize) {
        let idle = std::mem::take(&mut lock(&self.state).idle);
        let (threads, idle) = (idle.len(), Mutex::new(idle));
        let next = || lock(&idle).pop();
        let end = || {
            let mut ended = Vec::new();
            while let Some(mut worker) = next() {
                ended.extend(worker.finish());
            }
            ended
        };
        let ended: Vec<bool> = on_threads(threads, end).into_iter().flatten().collect();
        lock(&self.state).idle = (0..self.config.workers).map(|_| Worker::default()).collect();
        (ended.iter().filter(|e| **e).count(), ended.len())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.finish();
    }
}
