//! The register tile of the matrix product, for every instruction set; that of AMX is in [`super::amx`].
//!
//! A tile of `c` has up to [`Simd::ROWS`] rows and two vectors of columns. It stays in registers while `k` is walked: at
//! each step two vectors of a panel of `b` meet one broadcast element of each row of a panel of `a`. An element of `c` is
//! one chain of fused multiply-adds in the order of `k`, so its bits do not depend on the tile it falls in, on the number
//! of rows or columns beside it, or on the width of the vectors (where they have fused multiply-adds).

use super::Operands;
#[cfg(target_arch = "x86_64")]
use super::amx;
use super::pack::Packing;

/// The vector operations of one instruction set.
///
/// # Safety
/// Every method must be called on a machine that has the instruction set, inside a function compiled for it (the methods
/// and all between are inlined there); pointers must be good for the access.
trait Simd {
    type V: Copy;
    /// Lanes of a vector.
    const LANES: usize;
    /// Most rows of a tile.
    const ROWS: usize;
    unsafe fn zero() -> Self::V;
    unsafe fn splat(p: *const f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    unsafe fn add(x: Self::V, y: Self::V) -> Self::V;
    /// `x * y + z`
    unsafe fn fma(x: Self::V, y: Self::V, z: Self::V) -> Self::V;
    /// Asks for the cache line at `p`, which may be any address.
    unsafe fn prefetch(p: *const f32);
}

/// How far ahead of their use elements are asked for, in steps.
const AHEAD: usize = 8;
/// Most elements of a row of a tile.
const WIDEST: usize = 32;

/// One tile: panels of `a` (`[step][rows]`, for AMX in squares) and `b` (`[step][2 · LANES]`), or the same columns of
/// matrices that were not packed, and where it goes in `c`.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub steps: usize,
    pub a: *const f32,
    /// From one step to the next in `a`; without meaning for AMX, as the other one.
    pub a_step: usize,
    pub b: *const f32,
    pub b_step: usize,
    pub c: *mut f32,
    pub c_stride: usize,
    /// Columns that exist, at most `2 · LANES`.
    pub cols: usize,
    /// Whether `c` is added to.
    pub add: bool,
}

/// Computes a tile of `R` rows.
///
/// # Safety
/// As for [`Simd`]; at each step `a` holds `R` elements and `b` `2 · LANES`, and `R` rows of `cols` columns of `c` exist.
#[inline(always)]
unsafe fn tile<S: Simd, const R: usize>(t: Tile) {
    // SAFETY: passed on to the caller.
    unsafe {
        let mut acc = [[S::zero(); 2]; R];
        let (mut a, mut b) = (t.a, t.b);
        for r in 0..R {
            let row = t.c.wrapping_add(r * t.c_stride);
            S::prefetch(row);
            S::prefetch(row.wrapping_add(S::LANES));
        }
        for _ in 0..t.steps {
            let (b0, b1) = (S::load(b), S::load(b.add(S::LANES)));
            let ahead = b.wrapping_add(AHEAD * t.b_step);
            S::prefetch(ahead);
            S::prefetch(ahead.wrapping_add(S::LANES));
            S::prefetch(a.wrapping_add(AHEAD * t.a_step));
            for (r, row) in acc.iter_mut().enumerate() {
                let x = S::splat(a.add(r));
                row[0] = S::fma(x, b0, row[0]);
                row[1] = S::fma(x, b1, row[1]);
            }
            // Behind the last step there may be nothing.
            a = a.wrapping_add(t.a_step);
            b = b.wrapping_add(t.b_step);
        }
        if t.cols == 2 * S::LANES {
            for (r, row) in acc.into_iter().enumerate() {
                for (i, v) in row.into_iter().enumerate() {
                    let at = t.c.add(r * t.c_stride + i * S::LANES);
                    S::store(at, if t.add { S::add(S::load(at), v) } else { v });
                }
            }
            return;
        }
        let mut room = [0f32; WIDEST];
        for (r, row) in acc.into_iter().enumerate() {
            for (i, v) in row.into_iter().enumerate() {
                S::store(room.as_mut_ptr().add(i * S::LANES), v);
            }
            let c = std::slice::from_raw_parts_mut(t.c.add(r * t.c_stride), t.cols);
            for (c, x) in c.iter_mut().zip(room) {
                *c = if t.add { *c + x } else { x };
            }
        }
    }
}

/// Computes a tile of `rows` rows.
///
/// # Safety
/// As for [`tile`] with `R = rows`, which must be 1 to `S::ROWS`.
#[inline(always)]
unsafe fn rows<S: Simd>(rows: usize, t: Tile) {
    // SAFETY: passed on to the caller.
    unsafe {
        match rows {
            1 => tile::<S, 1>(t),
            2 => tile::<S, 2>(t),
            3 => tile::<S, 3>(t),
            4 => tile::<S, 4>(t),
            5 => tile::<S, 5>(t),
            6 => tile::<S, 6>(t),
            7 if S::ROWS > 6 => tile::<S, 7>(t),
            8 if S::ROWS > 6 => tile::<S, 8>(t),
            9 if S::ROWS > 6 => tile::<S, 9>(t),
            10 if S::ROWS > 6 => tile::<S, 10>(t),
            11 if S::ROWS > 6 => tile::<S, 11>(t),
            12 if S::ROWS > 6 => tile::<S, 12>(t),
            _ => unreachable!("a tile has 1 to {} rows", S::ROWS),
        }
    }
}

/// Writes one [`Simd`] from the expressions of its operations.
macro_rules! simd {
    ($name:ident, $v:ty, $lanes:literal, $rows:literal, $zero:expr, splat($q:ident) $splat:expr, load($p:ident) $load:expr,
     store($sp:ident, $sv:ident) $store:expr, add($ax:ident, $ay:ident) $add:expr,
     fma($x:ident, $y:ident, $z:ident) $fma:expr, prefetch($f:ident) $prefetch:expr) => {
        pub(super) struct $name;
        #[allow(unused_unsafe)]
        impl Simd for $name {
            type V = $v;
            const LANES: usize = $lanes;
            const ROWS: usize = $rows;
            #[inline(always)]
            unsafe fn zero() -> $v {
                // SAFETY: the caller vouches for the instruction set.
                unsafe { $zero }
            }
            #[inline(always)]
            unsafe fn splat($q: *const f32) -> $v {
                // SAFETY: the caller vouches for the instruction set and one element at the pointer.
                unsafe { $splat }
            }
            #[inline(always)]
            unsafe fn load($p: *const f32) -> $v {
                // SAFETY: the caller vouches for the instruction set and a vector of elements at the pointer.
                unsafe { $load }
            }
            #[inline(always)]
            unsafe fn store($sp: *mut f32, $sv: $v) {
                // SAFETY: the caller vouches for the instruction set and room for a vector at the pointer.
                unsafe { $store }
            }
            #[inline(always)]
            unsafe fn add($ax: $v, $ay: $v) -> $v {
                // SAFETY: the caller vouches for the instruction set.
                unsafe { $add }
            }
            #[inline(always)]
            unsafe fn fma($x: $v, $y: $v, $z: $v) -> $v {
                // SAFETY: the caller vouches for the instruction set.
                unsafe { $fma }
            }
            #[inline(always)]
            unsafe fn prefetch($f: *const f32) {
                // SAFETY: the caller vouches for the instruction set; a prefetch never faults.
                unsafe { $prefetch }
            }
        }
    };
}

/// Plain Rust for any machine: four lanes, multiplication and addition rounded apart.
mod portable {
    use super::Simd;
    simd!(Portable, [f32; 4], 4, 6, [0.0; 4], splat(p) [*p; 4], load(p) p.cast::<[f32; 4]>().read_unaligned(),
        store(p, v) p.cast::<[f32; 4]>().write_unaligned(v), add(x, y) std::array::from_fn(|l| x[l] + y[l]),
        fma(x, y, z) std::array::from_fn(|l| x[l] * y[l] + z[l]), prefetch(_p) ());
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Simd, Tile, rows};
    use std::arch::x86_64::*;

    simd!(Avx512, __m512, 16, 12, _mm512_setzero_ps(), splat(p) _mm512_set1_ps(*p), load(p) _mm512_loadu_ps(p),
        store(p, v) _mm512_storeu_ps(p, v), add(x, y) _mm512_add_ps(x, y), fma(x, y, z) _mm512_fmadd_ps(x, y, z),
        prefetch(p) _mm_prefetch::<_MM_HINT_T0>(p.cast()));

    /// The same bits as pairs of bf16.
    #[inline(always)]
    unsafe fn pairs(x: __m512) -> __m512bh {
        // SAFETY: both are 64 bytes without invalid values.
        unsafe { std::mem::transmute(x) }
    }

    // Two steps at once: an element is a pair of bf16. The later product is added first; denormal values count as zero.
    simd!(Avx512Bf16, __m512, 16, 12, _mm512_setzero_ps(), splat(p) _mm512_set1_ps(*p), load(p) _mm512_loadu_ps(p),
        store(p, v) _mm512_storeu_ps(p, v), add(x, y) _mm512_add_ps(x, y),
        fma(x, y, z) _mm512_dpbf16_ps(z, pairs(x), pairs(y)), prefetch(p) _mm_prefetch::<_MM_HINT_T0>(p.cast()));

    simd!(Avx2, __m256, 8, 6, _mm256_setzero_ps(), splat(p) _mm256_set1_ps(*p), load(p) _mm256_loadu_ps(p),
        store(p, v) _mm256_storeu_ps(p, v), add(x, y) _mm256_add_ps(x, y), fma(x, y, z) _mm256_fmadd_ps(x, y, z),
        prefetch(p) _mm_prefetch::<_MM_HINT_T0>(p.cast()));

    /// [`rows`] by AVX-512F, under its conditions.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn avx512(count: usize, t: Tile) {
        // SAFETY: passed on to the caller; this function is compiled for the instruction set.
        unsafe { rows::<Avx512>(count, t) }
    }

    /// [`rows`] of pairs by AVX-512 BF16, under its conditions.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn avx512_bf16(count: usize, t: Tile) {
        // SAFETY: passed on to the caller; this function is compiled for the instruction set.
        unsafe { rows::<Avx512Bf16>(count, t) }
    }

    /// [`rows`] by AVX2 and FMA, under its conditions.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2(count: usize, t: Tile) {
        // SAFETY: passed on to the caller; this function is compiled for the instruction set.
        unsafe { rows::<Avx2>(count, t) }
    }
}

/// The register tile of one instruction set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    /// Of the instruction set.
    pub name: &'static str,
    /// How both operands are packed.
    pub packing: Packing,
    /// Most rows of a tile.
    pub rows: usize,
    /// Columns of a tile and of a panel of `b`.
    pub width: usize,
    /// Computes a tile of the given number of rows; safety as for [`rows`] or [`amx::run`], while what [`Self::ready`]
    /// returned is alive.
    pub run: unsafe fn(usize, Tile),
}

impl Kernel {
    fn of<S: Simd>(name: &'static str, packing: Packing, run: unsafe fn(usize, Tile)) -> Self {
        Self { name, packing, rows: S::ROWS, width: 2 * S::LANES, run }
    }

    /// Makes this thread ready for [`Self::run`] until the value is dropped.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn ready(self) -> Option<amx::Tiles> {
        // SAFETY: a kernel of squares exists only where AMX is.
        (self.packing == Packing::Squares).then(|| unsafe { amx::Tiles::configure() })
    }

    /// Nothing has to be done.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn ready(self) -> Option<std::convert::Infallible> {
        None
    }
}

/// The kernels that this machine has, best first.
pub(super) fn kernels(operands: Operands) -> impl Iterator<Item = Kernel> {
    let mut found = [None; 5];
    let plain = match operands {
        Operands::F32 => Packing::Plain,
        Operands::Bf16 => Packing::Rounded,
    };
    #[cfg(target_arch = "x86_64")]
    {
        let avx512 = is_x86_feature_detected!("avx512f");
        let pairs = is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512bf16");
        if operands == Operands::Bf16 && avx512 && pairs {
            found[0] = amx::available().then_some(amx::KERNEL);
            found[1] = Some(Kernel::of::<x86::Avx512Bf16>("AVX-512 BF16", Packing::Pairs, x86::avx512_bf16));
        }
        if avx512 {
            found[2] = Some(Kernel::of::<x86::Avx512>("AVX-512", plain, x86::avx512));
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            found[3] = Some(Kernel::of::<x86::Avx2>("AVX2", plain, x86::avx2));
        }
    }
    found[4] = Some(Kernel::of::<portable::Portable>("portable", plain, rows::<portable::Portable>));
    found.into_iter().flatten()
}

/// The fastest kernel of this machine.
pub(super) fn best(operands: Operands) -> Kernel {
    kernels(operands).next().unwrap_or_else(|| unreachable!("the portable kernel runs everywhere"))
}
