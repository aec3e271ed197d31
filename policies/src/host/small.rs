//! Products of a few activation rows with a large weight matrix (a decoding language model).
//!
//! [`product_nt`] computes `c = a · wᵀ` (or `c += a · wᵀ`) for row-major `a [m, k]`, `w [n, k]` and
//! `c [m, n]`, with `m` small.  Each element is a dot product of two contiguous rows, kept in one
//! vector accumulator along `k`: lane `l` sums the products of positions `l, l + L, l + 2L, …` in
//! that order (`L` lanes; the ragged end is one more step with the missing lanes zero), and the
//! lanes are then added by one fixed tree.  Nothing else enters an element, so its bits do not depend
//! on `m`, on the tile or block it falls in, or on the number of threads.  They do depend on the
//! instruction set, which is chosen once per machine: AVX-512F, AVX2 with FMA, or portable code.
//!
//! `w` is walked in tiles of `COLS` rows; a tile meets all rows of `a` while it is in the nearest
//! cache, and the next tile is prefetched meanwhile.  A long `k` is cut into chunks, and the accumulators
//! are put aside between chunks unreduced, which leaves the order of additions as it was.

use rayon::prelude::*;
use std::cell::Cell;

/// Rows of `w` (columns of `c`) in one register tile.
const COLS: usize = 4;
/// Length of a chunk of `k` where `k` is cut; a multiple of every lane count.
const CHUNK: usize = 512;
/// Longest `k` that is not cut, unless one pass takes all rows.
const UNCUT: usize = 1024;
/// Fewer multiplications than this are done on the calling thread.
const PARALLEL: usize = 1 << 18;

/// Elements of a cache line, and the most lanes of a vector.
const LINE: usize = 16;

/// Aligned room for packed rows of `a` and for accumulators put aside.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// One product; `c` is a pointer because the blocks write interleaved parts of its rows.
struct Job<'a> {
    m: usize,
    n: usize,
    k: usize,
    a: &'a [Line],
    w: &'a [f32],
    c: *mut f32,
    add: bool,
    chunk: usize,
}

// SAFETY: the threads that share a job write disjoint columns of `c`, and only read the rest.
unsafe impl Sync for Job<'_> {}

/// Computes the columns `j0..j1` of a job; the vector is scratch room.
type Block = unsafe fn(&Job, usize, usize, &mut Vec<Line>);

/// The two functions of an instruction set: [`pack`] and [`block`].
#[derive(Clone, Copy)]
struct Set {
    pack: fn(usize, usize, usize, &[f32], &mut Vec<Line>),
    block: Block,
}

thread_local! {
    /// Room for the packed `a`, kept from call to call.
    static PACKED: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// The vector operations of one instruction set.
///
/// # Safety
/// Every method must be called on a machine that has the instruction set, inside a function compiled
/// for it (the methods and all between are inlined there); pointers must be good for the access.
trait Simd {
    type V: Copy;
    /// Lanes of a vector, at most 16.
    const LANES: usize;
    /// Most rows of `a` in a register tile, at most 6.
    const ROWS: usize;
    unsafe fn zero() -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    /// Loads `len < LANES` elements and zeroes the other lanes.
    unsafe fn part(p: *const f32, len: usize) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// `x * y + z`
    unsafe fn fma(x: Self::V, y: Self::V, z: Self::V) -> Self::V;
    /// The sums of the lanes of four vectors, each by the same tree.
    unsafe fn sums(v: [Self::V; COLS]) -> [f32; COLS];
    /// Asks for the cache line at `p`, which may be any address.
    unsafe fn prefetch(p: *const f32);
}

/// One register tile over one chunk of `k`.
struct Tile {
    a: *const f32,
    w: [*const f32; COLS],
    next: *const f32,
    aside: *mut Line,
    c: *mut f32,
    cols: usize,
    k0: usize,
    k1: usize,
}

/// Computes `R` rows by [`COLS`] columns over a chunk, prefetching `P` rows at `t.next`.
///
/// # Safety
/// As for [`Simd`]; the tile's pointers must be good for `R` rows of `a`, the rows of `w`, `R * COLS`
/// lines aside (where the job is cut) and `t.cols` columns of `R` rows of `c`.
#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const P: usize>(job: &Job, t: &Tile) {
    // SAFETY: passed on to the caller.
    unsafe {
        let (k, mut a, w) = (job.k, t.a, t.w);
        let mut acc = [[S::zero(); COLS]; R];
        if t.k0 > 0 {
            for (at, v) in acc.as_flattened_mut().iter_mut().enumerate() {
                *v = S::load(t.aside.add(at).cast());
            }
        }
        let mut i = t.k0;
        while i + S::LANES <= t.k1 {
            for q in 0..P {
                S::prefetch(t.next.wrapping_add(q * k + i));
            }
            let y = [S::load(w[0].add(i)), S::load(w[1].add(i)), S::load(w[2].add(i)), S::load(w[3].add(i))];
            for (r, row) in acc.iter_mut().enumerate() {
                let x = S::load(a.add(r * S::LANES));
                for q in 0..COLS {
                    row[q] = S::fma(x, y[q], row[q]);
                }
            }
            i += S::LANES;
            a = a.add(R * S::LANES);
        }
        if i < t.k1 {
            let len = t.k1 - i;
            for (r, row) in acc.iter_mut().enumerate() {
                let x = S::load(a.add(r * S::LANES));
                for q in 0..COLS {
                    row[q] = S::fma(x, S::part(w[q].add(i), len), row[q]);
                }
            }
        }
        if t.k1 < k {
            for (at, v) in acc.as_flattened().iter().enumerate() {
                S::store(t.aside.add(at).cast(), *v);
            }
            return;
        }
        for (r, row) in acc.iter().enumerate() {
            let (mut sums, out) = (S::sums(*row), t.c.add(r * job.n));
            if t.cols == COLS {
                let out: *mut [f32; COLS] = out.cast();
                if job.add {
                    sums.iter_mut().zip(out.read()).for_each(|(s, old)| *s += old);
                }
                out.write(sums);
                continue;
            }
            for (q, s) in sums.iter().enumerate().take(t.cols) {
                out.add(q).write(if job.add { out.add(q).read() + s } else { *s });
            }
        }
    }
}

/// Chooses the number of rows of a tile.
///
/// # Safety
/// As for [`tile`] with `R = rows`, which must be at least 1 and at most `S::ROWS`.
#[inline(always)]
unsafe fn rows<S: Simd, const P: usize>(job: &Job, t: &Tile, rows: usize) {
    // SAFETY: passed on to the caller.
    unsafe {
        match rows {
            1 => tile::<S, 1, P>(job, t),
            2 => tile::<S, 2, P>(job, t),
            3 => tile::<S, 3, P>(job, t),
            4 if S::ROWS > 3 => tile::<S, 4, P>(job, t),
            5 if S::ROWS > 3 => tile::<S, 5, P>(job, t),
            _ if S::ROWS > 3 => tile::<S, 6, P>(job, t),
            _ => unreachable!("a tile has 1 to {} rows", S::ROWS),
        }
    }
}

/// Computes the columns `j0..j1`: chunk by chunk of `k`, tile by tile of `w`, all rows of `a`.
///
/// # Safety
/// As for [`Simd`]; the job's slices and `c` must have the sizes that its shape tells, `j0 < j1 <= n`,
/// and no other thread may touch these columns of `c`.
#[inline(always)]
unsafe fn block<S: Simd>(job: &Job, j0: usize, j1: usize, aside: &mut Vec<Line>) {
    let (m, n, k) = (job.m, job.n, job.k);
    let passes = m.div_ceil(S::ROWS);
    if job.chunk < k {
        aside.resize((j1 - j0).div_ceil(COLS) * COLS * m, Line([0.0; LINE]));
    }
    let mut k0 = 0;
    loop {
        let k1 = k.min(k0 + job.chunk);
        for j in (j0..j1).step_by(COLS) {
            // A tile past the last row repeats that row; its columns are not written.
            let w = [0, 1, 2, 3].map(|q| job.w.as_ptr().wrapping_add((j + q).min(n - 1) * k));
            for p in 0..passes {
                let (i, end) = (m * p / passes, m * (p + 1) / passes);
                let (ahead, till) = (COLS * p / passes, COLS * (p + 1) / passes);
                let t = Tile {
                    a: job
                        .a
                        .as_ptr()
                        .cast::<f32>()
                        .wrapping_add(k0 * m + i * (k1 - k0).next_multiple_of(LINE)),
                    w,
                    next: job.w.as_ptr().wrapping_add((j + COLS + ahead) * k),
                    aside: aside.as_mut_ptr().wrapping_add((j - j0) * m + i * COLS),
                    c: job.c.wrapping_add(i * n + j),
                    cols: COLS.min(j1 - j),
                    k0,
                    k1,
                };
                // SAFETY: rows `i..end <= m` of `a` and `c`, rows below `n` of `w` and columns
                // `j..j + cols <= j1` exist, `aside` was sized for every tile where `k` is cut, and
                // `end - i` is `m / passes` rounded down or up, thus 1 to `S::ROWS`.
                unsafe {
                    match till - ahead {
                        0 => rows::<S, 0>(job, &t, end - i),
                        1 => rows::<S, 1>(job, &t, end - i),
                        2 => rows::<S, 2>(job, &t, end - i),
                        _ => rows::<S, 4>(job, &t, end - i),
                    }
                }
            }
        }
        k0 = k1;
        if k0 >= k {
            return;
        }
    }
}

/// Copies `a` in the order in which the tiles read it: by chunk of `k`, by pass of rows, by vector, by
/// row; the ragged end of a row is filled up with zeros.
fn pack<S: Simd>(m: usize, k: usize, chunk: usize, a: &[f32], out: &mut Vec<Line>) {
    out.resize(m * k.div_ceil(LINE), Line([0.0; LINE]));
    let mut pieces = out.iter_mut().flat_map(|line| line.0.chunks_exact_mut(S::LANES));
    let passes = m.div_ceil(S::ROWS);
    for k0 in (0..k).step_by(chunk) {
        let k1 = k.min(k0 + chunk);
        for p in 0..passes {
            for i in (k0..k1.next_multiple_of(LINE)).step_by(S::LANES) {
                for (r, piece) in (m * p / passes..m * (p + 1) / passes).zip(&mut pieces) {
                    let (len, row) = (k1.saturating_sub(i), &a[r * k..][..k1]);
                    if len >= S::LANES {
                        piece.copy_from_slice(&row[i..i + S::LANES]);
                    } else {
                        piece[len..].fill(0.0);
                        piece[..len].copy_from_slice(&row[k1 - len..]);
                    }
                }
            }
        }
    }
}

/// Writes one [`Simd`] from the expressions of its operations.
macro_rules! simd {
    ($name:ident, $v:ty, $lanes:literal, $rows:literal, $zero:expr, load($p:ident) $load:expr,
     part($pp:ident, $len:ident) $part:expr, store($sp:ident, $sv:ident) $store:expr,
     fma($x:ident, $y:ident, $z:ident) $fma:expr, sums($s:ident) $sums:expr, prefetch($f:ident) $prefetch:expr) => {
        pub(super) struct $name;
        // SAFETY (of every block below): the caller vouches for the instruction set and for the elements
        // at the pointer; a masked load reads no other, and a prefetch never faults.
#[allow(unused_unsafe)]
        #[rustfmt::skip]
        impl Simd for $name {
            type V = $v;
            const LANES: usize = $lanes;
            const ROWS: usize = $rows;
            #[inline(always)] unsafe fn zero() -> $v { unsafe { $zero } }
            #[inline(always)] unsafe fn load($p: *const f32) -> $v { unsafe { $load } }
            #[inline(always)] unsafe fn part($pp: *const f32, $len: usize) -> $v { unsafe { $part } }
            #[inline(always)] unsafe fn store($sp: *mut f32, $sv: $v) { unsafe { $store } }
            #[inline(always)] unsafe fn fma($x: $v, $y: $v, $z: $v) -> $v { unsafe { $fma } }
            #[inline(always)] unsafe fn sums($s: [$v; COLS]) -> [f32; COLS] { unsafe { $sums } }
            #[inline(always)] unsafe fn prefetch($f: *const f32) { unsafe { $prefetch } }
        }
    };
}

/// Plain Rust for any machine: four lanes, multiplication and addition rounded apart.
mod portable {
    use super::{COLS, Simd};
    simd!(Portable, [f32; 4], 4, 3, [0.0; 4], load(p) p.cast::<[f32; 4]>().read(),
        part(p, len) std::array::from_fn(|l| if l < len { p.add(l).read() } else { 0.0 }),
        store(p, v) p.cast::<[f32; 4]>().write(v),
        fma(x, y, z) std::array::from_fn(|l| x[l] * y[l] + z[l]),
        sums(v) v.map(|v| (v[0] + v[2]) + (v[1] + v[3])), prefetch(_p) ());
}
const PORTABLE: Set = Set { pack: pack::<portable::Portable>, block: block::<portable::Portable> };

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{COLS, Job, Line, Simd, block};
    use std::arch::x86_64::*;
    use std::mem::transmute;

    simd!(Avx512, __m512, 16, 6, _mm512_setzero_ps(), load(p) _mm512_loadu_ps(p),
        part(p, len) _mm512_maskz_loadu_ps((1 << len) - 1, p),
        store(p, v) _mm512_storeu_ps(p, v), fma(x, y, z) _mm512_fmadd_ps(x, y, z),
        sums(v) {
            let x = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
            let y = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
            let (x, y) = (_mm512_castps_pd(x), _mm512_castps_pd(y));
            let (lo, hi) = (_mm512_unpacklo_pd(x, y), _mm512_unpackhi_pd(x, y));
            let z = _mm512_add_ps(_mm512_castpd_ps(lo), _mm512_castpd_ps(hi));
            let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(z)));
            let z = _mm256_add_ps(_mm512_castps512_ps256(z), upper);
            transmute::<__m128, [f32; 4]>(_mm_add_ps(_mm256_castps256_ps128(z), _mm256_extractf128_ps::<1>(z)))
        }, prefetch(p) _mm_prefetch::<_MM_HINT_T1>(p.cast()));

    simd!(Avx2, __m256, 8, 3, _mm256_setzero_ps(), load(p) _mm256_loadu_ps(p),
        part(p, len) {
            let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(len as i32), lanes))
        },
        store(p, v) _mm256_storeu_ps(p, v), fma(x, y, z) _mm256_fmadd_ps(x, y, z),
        sums(v) {
            let z = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
            transmute::<__m128, [f32; 4]>(_mm_add_ps(_mm256_castps256_ps128(z), _mm256_extractf128_ps::<1>(z)))
        }, prefetch(p) _mm_prefetch::<_MM_HINT_T1>(p.cast()));

    /// [`block`] by AVX-512F, under its conditions.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn block_avx512(job: &Job, j0: usize, j1: usize, aside: &mut Vec<Line>) {
        // SAFETY: passed on to the caller; this function is compiled for the instruction set.
        unsafe { block::<Avx512>(job, j0, j1, aside) }
    }

    /// [`block`] by AVX2 and FMA, under its conditions.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn block_avx2(job: &Job, j0: usize, j1: usize, aside: &mut Vec<Line>) {
        // SAFETY: passed on to the caller; this function is compiled for the instruction set.
        unsafe { block::<Avx2>(job, j0, j1, aside) }
    }
}

/// The instruction sets that this machine has, best first.
fn sets() -> impl Iterator<Item = Set> {
    let mut sets = [None; 3];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            sets[0] = Some(Set { pack: pack::<x86::Avx512>, block: x86::block_avx512 });
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            sets[1] = Some(Set { pack: pack::<x86::Avx2>, block: x86::block_avx2 });
        }
    }
    sets[2] = Some(PORTABLE);
    sets.into_iter().flatten()
}

/// Runs a job whose sizes were checked, by blocks of columns that depend on its shape only.
fn run(job: &Job, by: Block) {
    let (m, n, k) = (job.m, job.n, job.k);
    let width = if job.chunk < k { 32 } else { (n / 32).next_multiple_of(COLS).clamp(16, 128) };
    let work = |aside: &mut Vec<Line>, b: usize| {
        // SAFETY: `by` is of one of `sets()`, `product_by` checked the sizes, and blocks are disjoint.
        unsafe { by(job, b * width, n.min((b + 1) * width), aside) }
    };
    let count = n.div_ceil(width);
    if m * n * k < PARALLEL || rayon::current_num_threads() == 1 {
        let mut aside = Vec::new();
        (0..count).for_each(|b| work(&mut aside, b));
    } else {
        (0..count).into_par_iter().for_each_init(Vec::new, work);
    }
}

/// Computes `c = a · wᵀ`, or `c += a · wᵀ` with `add`, for row-major `a [m, k]`, `w [n, k]`, `c [m, n]`.
///
/// The bits of a row of `c` depend on that row of `a` (and `c`) and on `w` only: not on `m`, nor on the
/// number of threads.  Large products are spread over the threads of the current rayon pool.
///
/// # Panics
/// Panics when a slice does not have the size that the shape tells.
pub fn product_nt(m: usize, n: usize, k: usize, a: &[f32], w: &[f32], c: &mut [f32], add: bool) {
    product_by(sets().next().unwrap_or(PORTABLE), (m, n, k), a, w, c, add);
}

fn product_by(set: Set, (m, n, k): (usize, usize, usize), a: &[f32], w: &[f32], c: &mut [f32], add: bool) {
    assert!(a.len() == m * k && w.len() == n * k && c.len() == m * n, "slices do not fit {m} x {n} x {k}");
    if m == 0 || n == 0 {
        return;
    }
    let chunk = if m > 6 && k > UNCUT { CHUNK } else { k.max(1) };
    let mut packed = PACKED.take();
    (set.pack)(m, k, chunk, a, &mut packed);
    run(&Job { m, n, k, a: &packed, w, c: c.as_mut_ptr(), add, chunk }, set.block);
    PACKED.set(packed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize, mut seed: u64) -> Vec<f32> {
        let mut next = || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((seed >> 40) as f32) / (1u64 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    fn within<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
    }

    #[test]
    fn agrees_with_f64() {
        for set in sets() {
            for (m, n, k) in
                [(1, 1, 1), (2, 3, 0), (3, 5, 17), (7, 193, 64), (13, 70, 100), (6, 35, 3000), (64, 37, 2063)]
            {
                let (a, w, old) = (noise(m * k, 1), noise(n * k, 2), noise(m * n, 3));
                for add in [false, true] {
                    let mut c = old.clone();
                    product_by(set, (m, n, k), &a, &w, &mut c, add);
                    for i in 0..m {
                        for j in 0..n {
                            let (x, y) = (&a[i * k..][..k], &w[j * k..][..k]);
                            let dot: f64 = x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
                            let want = dot + if add { f64::from(old[i * n + j]) } else { 0.0 };
                            let error = (f64::from(c[i * n + j]) - want).abs();
                            assert!(error < 1e-6 * (k + 1) as f64, "{m} {n} {k} {add} at {i} {j}: {error}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn bits_do_not_depend_on_the_batch_or_the_threads() {
        const M: usize = 128;
        for set in sets() {
            for (n, k, steps) in [(197, 100, 1), (333, 579, 9), (70, 2061, 9)] {
                let (a, w, old) = (noise(M * k, 4), noise(n * k, 5), noise(M * n, 6));
                let mut alone = old.clone();
                for i in 0..M {
                    let row = &mut alone[i * n..][..n];
                    product_by(set, (1, n, k), &a[i * k..][..k], &w, row, true);
                }
                for threads in [1, 2] {
                    within(threads, || {
                        for m in (1..=M).filter(|m| m % steps == 0 || *m < 20 || *m == M) {
                            let mut c = old[..m * n].to_vec();
                            product_by(set, (m, n, k), &a[..m * k], &w, &mut c, true);
                            let same = c.iter().zip(&alone).all(|(x, y)| x.to_bits() == y.to_bits());
                            assert!(same, "{m} {n} {k} by {threads}");
                        }
                    });
                }
            }
        }
    }
}
