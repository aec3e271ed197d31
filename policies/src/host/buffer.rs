//! Large work arrays that are kept and used again: a pass needs the same sizes as the one before it, and fresh memory
//! from the system costs a page fault every 4 KiB.
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Shorter arrays are left to the allocator.
const SMALLEST: usize = 1 << 14;
/// Fewer elements than this are cleared by one thread.
const PARALLEL: usize = 1 << 20;

/// An array of `f32` for results that are written in full before they are read. Dropped, it waits for the next one.
#[derive(Debug)]
pub struct Buffer(Vec<f32>);

impl Buffer {
    /// `len` elements with arbitrary values.
    pub fn any(len: usize) -> Self {
        if len < SMALLEST {
            return Self(vec![0.0; len]);
        }
        let kept = pool().take(len);
        let mut values = kept.unwrap_or_else(|| {
            // Pages are cleared when they are first touched, by the threads that then fill them.
            let mut values = vec![0.0; len];
            ask_for_huge_pages(&mut values);
            values
        });
        values.resize(len, 0.0);
        Self(values)
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::any(len);
        buffer.clear();
        buffer
    }

    /// Sets all elements to zero, on all threads where there are many.
    pub fn clear(&mut self) {
        match self.0.len() {
            0..PARALLEL => self.0.fill(0.0),
            _ => self.0.par_chunks_mut(PARALLEL / 4).for_each(|part| part.fill(0.0)),
        }
    }

    /// The same values.
    pub fn copy_of(values: &[f32]) -> Self {
        let mut buffer = Self::any(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

/// Asks the system to back memory that was not touched yet with huge pages: a product that walks over several matrices
/// would otherwise wait for translations of addresses.
pub fn ask_for_huge_pages<T>(memory: &mut [T]) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        const HUGE: usize = 2 << 20;
        let bytes = size_of_val(memory);
        let start: *mut u8 = memory.as_mut_ptr().cast();
        let skip = start.align_offset(PAGE);
        if bytes < 2 * HUGE || skip > bytes {
            return;
        }
        // SAFETY: the range lies inside of `memory`, and the advice changes how it is mapped, not what it holds.
        // A system without huge pages refuses, which changes nothing.
        let _ = unsafe {
            rustix::mm::madvise(
                start.add(skip).cast(),
                (bytes - skip) / PAGE * PAGE,
                rustix::mm::Advice::LinuxHugepage,
            )
        };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.0.len() >= SMALLEST {
            pool().give(std::mem::take(&mut self.0));
        }
    }
}

/// Arrays that wait, by capacity. Used and waiting arrays together never exceed the most that was ever in use at once, so
/// the peak of memory is that of plain allocation. Those that have waited longest go first: what a pass uses again and again
/// is what came back last.
struct Pool {
    /// With the time at which each came back, the latest last.
    waiting: BTreeMap<usize, Vec<(u64, Vec<f32>)>>,
    /// Arrays that came back so far.
    clock: u64,
    /// Elements waiting, in use, and the most that were in use.
    held: usize,
    used: usize,
    most: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool::new());

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    const fn new() -> Self {
        Self { waiting: BTreeMap::new(), clock: 0, held: 0, used: 0, most: 0 }
    }

    fn take(&mut self, len: usize) -> Option<Vec<f32>> {
        // Much larger ones stay for those that need them.
        let found = self.waiting.range(len..=len + len / 2).next().map(|(capacity, _)| *capacity);
        let values = found.and_then(|capacity| self.remove(capacity, Vec::pop));
        self.used += values.as_ref().map_or(len, Vec::capacity);
        self.most = self.most.max(self.used);
        while self.held > 0 && self.used + self.held > self.most {
            let Some(oldest) = self.oldest() else { break };
            drop(self.remove(oldest, |same| Some(same.remove(0))));
        }
        values
    }

    fn give(&mut self, values: Vec<f32>) {
        let capacity = values.capacity();
        self.used = self.used.saturating_sub(capacity);
        self.held += capacity;
        self.clock += 1;
        self.waiting.entry(capacity).or_default().push((self.clock, values));
    }

    /// Capacity of the one that has waited longest.
    fn oldest(&self) -> Option<usize> {
        let first = |(capacity, same): (&usize, &Vec<(u64, Vec<f32>)>)| Some((same.first()?.0, *capacity));
        self.waiting.iter().filter_map(first).min().map(|(_, capacity)| capacity)
    }

    /// Takes one of a capacity out.
    fn remove(
        &mut self,
        capacity: usize,
        pick: impl FnOnce(&mut Vec<(u64, Vec<f32>)>) -> Option<(u64, Vec<f32>)>,
    ) -> Option<Vec<f32>> {
        let same = self.waiting.get_mut(&capacity)?;
        let picked = pick(same);
        if same.is_empty() {
            self.waiting.remove(&capacity);
        }
        let (_, values) = picked?;
        self.held -= values.capacity();
        Some(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_and_waiting_never_exceed_the_most_used() {
        let mut pool = Pool::new();
        let mut live = Vec::new();
        for i in 0..200usize {
            let len = 1000 + (i * 7919) % 5000;
            let values = pool.take(len).unwrap_or_else(|| Vec::with_capacity(len));
            assert!(values.capacity() >= len);
            live.push(values);
            while live.len() > i % 9 {
                pool.give(live.swap_remove(i % live.len()));
            }
            assert_eq!(pool.used, live.iter().map(Vec::capacity).sum::<usize>());
            assert!(pool.used + pool.held <= pool.most, "{} {} {}", pool.used, pool.held, pool.most);
        }
        assert!(pool.held > 0, "something is kept");
    }

    #[test]
    fn what_waited_longest_goes_first() {
        let mut pool = Pool::new();
        pool.most = 6000;
        for len in [2000, 1000, 3000] {
            pool.give(Vec::with_capacity(len));
        }
        assert!(pool.take(900).is_some(), "the 1000");
        pool.give(Vec::with_capacity(1000));
        // No array of 5000 waits: the two that have waited longest make room.
        assert!(pool.take(5000).is_none());
        assert_eq!(pool.waiting.keys().copied().collect::<Vec<_>>(), [1000]);
    }

    #[test]
    fn lengths_are_as_asked() {
        for len in [0, 3, SMALLEST, SMALLEST + 5, 3 * SMALLEST, SMALLEST] {
            assert_eq!(Buffer::any(len).len(), len);
            assert!(Buffer::zeros(len).iter().all(|v| *v == 0.0));
        }
    }
}
