//! What this machine's processor can do at most, measured: multiply-adds on operands in registers and the first-level
//! cache, and reading memory.
use super::buffer::ask_for_huge_pages;
use super::gemm::{Operands, Peak};
use super::simd::{LANES, multiversion, reduce};
use rayon::prelude::*;
use std::time::Instant;

/// Values that are read: 1 GiB, more than caches hold.
const VALUES: usize = 256 << 20;
/// Values that a task reads.
const CHUNK: usize = 1 << 18;
/// The best of so many tries counts.
const TRIES: usize = 7;

/// Shortest of several runs, seconds.
fn best(mut work: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    (0..TRIES).map(time).fold(f64::INFINITY, f64::min)
}

/// Floating-point operations a second of all threads of the pool, by the instructions that products of this type take here.
pub fn operations_per_s(operands: Operands) -> f64 {
    const RUNS: usize = 20_000;
    let peak = Peak::new(operands);
    let seconds = best(|| drop(rayon::broadcast(|_| peak.run(RUNS))));
    (peak.operations() * RUNS * rayon::current_num_threads()) as f64 / seconds
}

multiversion! {
    /// Adds up a chunk, four places at a time: one stream alone does not fill the memory bus.
    fn sum_of_streams(chunk: &[f32]) -> f32 {
        let (front, back) = chunk.split_at(chunk.len() / 2);
        let ((a, b), (c, d)) = (front.split_at(front.len() / 2), back.split_at(back.len() / 2));
        let mut sums = [0.0f32; LANES];
        let streams = (a.chunks_exact(LANES).zip(b.chunks_exact(LANES)))
            .zip(c.chunks_exact(LANES).zip(d.chunks_exact(LANES)));
        for ((a, b), (c, d)) in streams {
            for l in 0..LANES {
                sums[l] += (a[l] + b[l]) + (c[l] + d[l]);
            }
        }
        reduce(sums)
    }
}

/// Bytes a second that all threads of the pool read of memory which no cache holds.
pub fn bytes_per_s() -> f64 {
    let mut values = Vec::with_capacity(VALUES);
    ask_for_huge_pages(values.spare_capacity_mut());
    values.resize(VALUES, 1.0f32);
    let seconds = best(|| {
        let sum: f32 = values.par_chunks(CHUNK).map(sum_of_streams).sum();
        std::hint::black_box(sum);
    });
    (VALUES * size_of::<f32>()) as f64 / seconds
}
