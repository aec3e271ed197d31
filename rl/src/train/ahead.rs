//! Rollouts that are begun before their step is due: sampled and judged on a thread of their own, while earlier steps train.
//!
//! Which weights sample a step is decided by the number of the step and not by the clock, so that a run with rlvr's own engine
//! can be had again, bit for bit.
use crate::config::GrpoConfig;
use crate::engine::Engine;
use crate::error::Error;
use crate::parallel::World;
use crate::policy::Policy;
use crate::train::judging::Judges;
use crate::train::rollouts::{Rollouts, Sampling, Source};
use rlvr_policies::guard;
use rlvr_rewards::{Reward, Task};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, Scope};
use std::time::Instant;

/// What a thread does.
pub(crate) type Job<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Starts threads that end before what they borrow does.
pub(crate) trait Threads<'a>: Sync {
    /// Starts one.
    ///
    /// # Errors
    /// A system that has no thread left.
    fn start(&'a self, name: &str, job: Job<'a>) -> io::Result<()>;
}

impl<'scope> Threads<'scope> for Scope<'scope, '_> {
    fn start(&'scope self, name: &str, job: Job<'scope>) -> io::Result<()> {
        Builder::new().name(name.to_owned()).spawn_scoped(self, job).map(drop)
    }
}

/// Rollouts that were begun. They are given up when this is dropped.
pub(crate) struct Begun {
    given_up: Arc<AtomicBool>,
    coming: Receiver<Result<Rollouts, Error>>,
    come: Option<Result<Rollouts, Error>>,
}

/// All that rollouts need, as it was when they were begun.
pub(crate) struct Start<'a> {
    pub(crate) config: &'a GrpoConfig,
    pub(crate) engine: &'a dyn Engine,
    pub(crate) reward: Option<&'a dyn Reward>,
    pub(crate) recorded: &'a [String],
    pub(crate) seed: u64,
    pub(crate) judges: Arc<Judges>,
    /// It shares its weights with the policy that trains until these change.
    pub(crate) policy: Policy,
    pub(crate) version: u64,
    pub(crate) step: u64,
    pub(crate) tasks: Vec<&'a Task>,
}

impl<'a> Start<'a> {
    /// Begins them.
    ///
    /// # Errors
    /// A system that has no thread left.
    pub(crate) fn begin(self, threads: &'a dyn Threads<'a>) -> Result<Begun, Error> {
        let given_up = Arc::new(AtomicBool::new(false));
        let (done, coming) = channel();
        let step = self.step;
        let job = {
            let given_up = Arc::clone(&given_up);
            move || self.carry_out(&given_up, &done)
        };
        let no_thread = |e| Error::Training { step, what: format!("no thread for rollouts ahead: {e}") };
        threads.start("rollouts", Box::new(job)).map_err(no_thread)?;
        Ok(Begun { given_up, coming, come: None })
    }

    fn carry_out(self, given_up: &AtomicBool, done: &Sender<Result<Rollouts, Error>>) {
        let Self { config, engine, reward, recorded, seed, judges, policy, version, step, tasks } = self;
        let rolled = catch_unwind(AssertUnwindSafe(|| {
            let _held = policy.decoder.hold_packed();
            let (world, cancel) = (&World::default(), Some(given_up));
            let sampling = Sampling { config, engine, world, reward, recorded, seed, cancel };
            sampling.rollouts(step, &Source::Tasks(&tasks), (&policy, version), &judges)
        }));
        let rolled = rolled.unwrap_or_else(|panic| {
            let what = format!("a mistake in rlvr itself: {}", guard::message(&*panic));
            Err(Error::Training { step, what })
        });
        // Nobody may wait any more.
        let _ = done.send(rolled);
    }
}

impl Begun {
    /// Waits until they are there.
    pub(crate) fn settle(&mut self) {
        if self.come.is_none() {
            let what = "the thread of rollouts ahead has ended".to_owned();
            let come = self.coming.recv();
            self.come = Some(come.unwrap_or(Err(Error::Unusable { what })));
        }
    }

    /// Waits for them; the time of generation is what was waited.
    ///
    /// # Errors
    /// What ended them.
    pub(crate) fn wait(mut self) -> Result<Rollouts, Error> {
        let clock = Instant::now();
        self.settle();
        let mut rollouts = self.come.take().unwrap_or_else(|| Ok(Rollouts::default()))?;
        (rollouts.generate_s, rollouts.verify_s) = (clock.elapsed().as_secs_f64(), 0.0);
        Ok(rollouts)
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::Relaxed);
    }
}
