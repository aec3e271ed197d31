//! Threads that help, as many as the system gives.

use std::panic::resume_unwind;
use std::thread::Builder;

/// Runs `work` on this thread and on up to `threads - 1` others, and returns what each gave. Where no further thread can
/// be started, for a limit on processes, fewer work: `work` must take what there is to do from a common place.
///
/// # Panics
/// With the panic of any of them, when all have ended.
pub fn on_threads<T: Send>(threads: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let mut others = Vec::new();
        for _ in 1..threads {
            match Builder::new().spawn_scoped(scope, &work) {
                Ok(thread) => others.push(thread),
                Err(error) => {
                    tracing::warn!("{} of {threads} threads work: {error}", others.len() + 1);
                    break;
                }
            }
        }
        let own = work();
        let others =
            others.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        std::iter::once(own).chain(others).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn all_is_done_by_any_number_and_a_panic_is_heard() {
        for threads in [0, 1, 3] {
            let next = AtomicUsize::new(0);
            let work = || {
                let mut done = Vec::new();
                loop {
                    match next.fetch_add(1, Ordering::Relaxed) {
                        n if n < 100 => done.push(n),
                        _ => return done,
                    }
                }
            };
            let mut all: Vec<usize> = on_threads(threads, work).into_iter().flatten().collect();
            all.sort_unstable();
            assert_eq!(all, (0..100).collect::<Vec<_>>());
        }
        let turns = AtomicUsize::new(0);
        let panics = || assert_ne!(turns.fetch_add(1, Ordering::Relaxed), 1, "on purpose");
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| on_threads(3, panics))).is_err());
    }
}
