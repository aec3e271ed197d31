//! Pools of threads, as large as the system allows.
//!
//! Where processes are limited (`ulimit -u`, a container), threads cannot be started at some point, and rayon gives up,
//! for its global pool with a panic. Here the threads are started first, and the pool gets as many as there are.

use std::sync::mpsc::{Sender, channel};
use std::thread::Builder;

use rayon::{ThreadBuilder, ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// Threads that wait for their part of a pool: up to `wanted`. Where the system gives fewer, half of them, because the
/// rest of the program needs some, too.
fn waiting(name: &str, wanted: usize) -> Vec<Sender<ThreadBuilder>> {
    let mut threads = Vec::with_capacity(wanted);
    while threads.len() < wanted {
        let (give, take) = channel::<ThreadBuilder>();
        let run = move || {
            if let Ok(part) = take.recv() {
                part.run();
            }
        };
        if let Err(error) = Builder::new().name(format!("{name}-{}", threads.len())).spawn(run) {
            threads.truncate(threads.len() / 2);
            tracing::warn!("{wanted} threads ({name}) were wanted, {} work: {error}", threads.len().max(1));
            break;
        }
        threads.push(give);
    }
    threads
}

fn hand_out(mut threads: Vec<Sender<ThreadBuilder>>) -> impl FnMut(ThreadBuilder) -> std::io::Result<()> {
    move |part| {
        let gone = || std::io::Error::other("a thread of the pool has ended");
        threads.pop().ok_or_else(gone)?.send(part).map_err(|_| gone())
    }
}

/// A pool of up to `wanted` threads; none where the system gives none.
pub(crate) fn pool(name: &'static str, wanted: usize) -> Option<ThreadPool> {
    let threads = waiting(name, wanted);
    if threads.is_empty() {
        return None;
    }
    ThreadPoolBuilder::new().num_threads(threads.len()).spawn_handler(hand_out(threads)).build().ok()
}

/// Starts the threads that compute: `wanted`, by default as many as the processor runs at once (or what
/// `RAYON_NUM_THREADS` says), shared with so many other processes of the same command, or as many as the system gives, at
/// least the one that calls.
///
/// # Errors
/// When they have been started already.
pub fn start(wanted: Option<usize>, processes: usize) -> Result<(), ThreadPoolBuildError> {
    let set = || std::env::var("RAYON_NUM_THREADS").ok()?.parse().ok().filter(|threads| *threads > 0);
    let cores = || std::thread::available_parallelism().map_or(1, usize::from).div_ceil(processes.max(1));
    let threads = waiting("compute", wanted.or_else(set).unwrap_or_else(cores));
    if threads.is_empty() {
        return ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global();
    }
    ThreadPoolBuilder::new().num_threads(threads.len()).spawn_handler(hand_out(threads)).build_global()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    #[test]
    fn a_pool_has_its_threads() {
        let pool = pool("test", 3).unwrap();
        assert_eq!(pool.current_num_threads(), 3);
        let sum: u64 = pool.install(|| (0..1000_u64).into_par_iter().sum());
        assert_eq!(sum, 499_500);
        let name = pool.install(|| std::thread::current().name().map(str::to_owned)).unwrap();
        assert!(name.starts_with("test-"), "{name}");
    }
}
