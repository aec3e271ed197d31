//! Requests in flight: bounded, tried again, ended together.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use super::error::EngineError;
use super::server::pause;

/// How often a flag is looked at while nothing comes.
const LOOK: Duration = Duration::from_millis(50);

/// Places for requests in flight, of all calls at a time.
#[derive(Debug)]
pub(crate) struct Places {
    all: usize,
    free: Mutex<usize>,
    freed: Condvar,
}

/// One of them, until dropped.
struct Place<'a>(&'a Places);

impl Places {
    /// So many.
    pub(crate) fn new(all: usize) -> Self {
        Self { all, free: Mutex::new(all), freed: Condvar::new() }
    }

    /// Waits for one; none where all is over before there is one.
    fn take(&self, over: &AtomicBool) -> Option<Place<'_>> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            if over.load(Ordering::Relaxed) {
                return None;
            }
            free = self.freed.wait_timeout(free, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        *free -= 1;
        Some(Place(self))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

/// How work is spread.
pub(crate) struct Spread<'a> {
    /// Where requests are made: other calls may have some of the places.
    pub(crate) places: &'a Places,
    /// How often one is made, at least 1.
    pub(crate) tries: u32,
    /// Ends all of it.
    pub(crate) cancel: Option<&'a AtomicBool>,
}

/// Why work ended early.
pub(crate) enum Ended {
    /// The flag was raised.
    Cancelled,
    /// A request failed for good.
    Failed(EngineError),
}

impl Spread<'_> {
    /// Does the jobs `0..jobs`, several at a time, each by `work(job, failures so far)`; `done` gets each result on this
    /// thread as it comes. What is under way when all of it ends early is waited for, after `stop` has asked for its end.
    pub(crate) fn run<T: Send>(
        &self,
        jobs: usize,
        work: impl Fn(usize, u32) -> Result<T, EngineError> + Sync,
        stop: impl Fn(),
        mut done: impl FnMut(usize, T) -> Result<(), EngineError>,
    ) -> Result<(), Ended> {
        let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (next, over, work) = (&next, &over, &work);
        let mut ended = None;
        std::thread::scope(|scope| {
            let (sender, results) = mpsc::channel();
            let mut threads = 0;
            for _ in 0..self.places.all.min(jobs) {
                let sender = sender.clone();
                let work_through = move || {
                    loop {
                        let job = next.fetch_add(1, Ordering::Relaxed);
                        if job >= jobs || over.load(Ordering::Relaxed) {
                            return;
                        }
                        // Nobody listens where all of it has ended.
                        let _ = sender.send((job, self.one(job, work, over)));
                    }
                };
                match Builder::new().name("engine".into()).spawn_scoped(scope, work_through) {
                    Ok(_) => threads += 1,
                    Err(error) => {
                        tracing::warn!("{threads} requests at a time: {error}");
                        break;
                    }
                }
            }
            drop(sender);
            if threads == 0 && jobs > 0 {
                let what = "the system gives no thread for requests".to_owned();
                ended = Some(Ended::Failed(EngineError::Unsupported(what)));
            }
            loop {
                if ended.is_none() && self.cancel.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
                    ended = Some(Ended::Cancelled);
                    over.store(true, Ordering::Relaxed);
                    stop();
                }
                let result = match results.recv_timeout(LOOK) {
                    Ok((job, result)) => result.and_then(|value| match ended {
                        None => done(job, value),
                        Some(_) => Ok(()),
                    }),
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => break,
                };
                if let (Err(error), None) = (result, &ended) {
                    ended = Some(Ended::Failed(error));
                    over.store(true, Ordering::Relaxed);
                    stop();
                }
            }
        });
        ended.map_or(Ok(()), Err)
    }

    fn one<T>(
        &self,
        job: usize,
        work: &impl Fn(usize, u32) -> Result<T, EngineError>,
        over: &AtomicBool,
    ) -> Result<T, EngineError> {
        let mut failures = 0;
        loop {
            let Some(place) = self.places.take(over) else {
                return Err(EngineError::Unsupported("all was given up".to_owned()));
            };
            let error = match work(job, failures) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            drop(place);
            failures += 1;
            let wait = pause(failures, &error).filter(|_| failures < self.tries);
            let Some(wait) = wait.filter(|_| !over.load(Ordering::Relaxed)) else { return Err(error) };
            tracing::info!("{error}; next try in {} s", wait.as_secs_f32());
            let mut left = wait;
            while !left.is_zero() && !over.load(Ordering::Relaxed) {
                let nap = left.min(LOOK);
                std::thread::sleep(nap);
                left -= nap;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_at_the_same_time_share_the_places() {
        let (places, under_way, most) = (Places::new(3), AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |job: usize, failures: u32| {
            most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(5));
            under_way.fetch_sub(1, Ordering::SeqCst);
            match (job, failures) {
                (4, 0) => Err(EngineError::Answer { url: String::new(), what: "torn".into() }),
                _ => Ok(job),
            }
        };
        let call = || {
            let mut done = Vec::new();
            let spread = Spread { places: &places, tries: 3, cancel: None };
            let outcome = spread.run(
                12,
                work,
                || {},
                |job, _| {
                    done.push(job);
                    Ok(())
                },
            );
            assert!(outcome.is_ok());
            done.sort_unstable();
            assert_eq!(done, (0..12).collect::<Vec<_>>());
        };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(call);
            }
        });
        assert_eq!((most.load(Ordering::SeqCst), *places.free.lock().unwrap()), (3, 3));
    }
}
