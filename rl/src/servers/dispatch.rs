//! Requests in flight: bounded, tried again, ended together.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::Builder;
use std::time::Duration;

use super::error::EngineError;
use super::server::pause;

/// How often a flag is looked at while nothing comes.
const LOOK: Duration = Duration::from_millis(50);

/// How work is spread.
pub(crate) struct Spread<'a> {
    /// Requests at a time.
    pub(crate) width: usize,
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
            for _ in 0..self.width.min(jobs) {
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
            let error = match work(job, failures) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
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
