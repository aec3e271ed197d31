//! The register tile of pairs of bf16 by Intel AMX: one instruction multiplies sixteen rows of `a` with sixteen columns of
//! `b` over 32 values along `k`.
//!
//! A tile of `c` is two by two of the processor's tiles, or one by two for the last rows; what is missing of sixteen rows,
//! columns or pairs is zero. Each element is one chain of steps in the order of `k` in f32, whatever is beside it; denormal
//! values count as zero.
//!
//! Rust has no stable intrinsics for these instructions, so they stand in `asm!`. No compiler makes code that uses the
//! tile registers, so they hold their configuration from one `asm!` to the next.
use super::pack::Packing;
use super::pairs::{self, mask};
use super::tile::{Kernel, Tile};
use std::arch::asm;
use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// `RLVR_AMX=0` goes without these instructions.
const SWITCH: &str = "RLVR_AMX";

/// Rows of a processor's tile, and its 32-bit elements a row.
const SIDE: usize = pairs::SIDE;
/// Rows and columns of a tile of `c`.
const ROWS: usize = 2 * SIDE;
/// Bytes of a row of a processor's tile.
const ROW: usize = SIDE * size_of::<f32>();

/// For machines where [`available`] says so.
pub(super) const KERNEL: Kernel =
    Kernel { name: "AMX", packing: Packing::Squares, rows: ROWS, width: ROWS, run };

/// Whether this processor has the instructions and this process may use them. Asked of the system once.
pub(super) fn available() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        std::env::var(SWITCH).as_deref() != Ok("0") && in_processor() && kept_by_system() && permitted()
    })
}

fn in_processor() -> bool {
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    const BOTH: u32 = AMX_BF16 | AMX_TILE;
    // Leaf 0 says which leaves there are.
    #[allow(unused_unsafe)] // Unsafe in older versions of Rust.
    // SAFETY: every x86-64 processor has the instruction.
    unsafe {
        __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & BOTH == BOTH
    }
}

/// Whether the system saves the configuration and the data of tiles when it changes threads.
fn kept_by_system() -> bool {
    #[target_feature(enable = "xsave")]
    fn kept() -> u64 {
        // SAFETY: compiled for the instruction.
        unsafe { _xgetbv(0) }
    }
    const TILES: u64 = 1 << 17 | 1 << 18;
    // SAFETY: the processor and the system have the instruction.
    is_x86_feature_detected!("xsave") && unsafe { kept() } & TILES == TILES
}

/// Asks Linux for the permission to use tiles, which all threads of the process get.
fn permitted() -> bool {
    #[cfg(target_os = "linux")]
    {
        const ARCH_PRCTL: i64 = 158;
        const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
        const XTILEDATA: u64 = 18;
        let mut result = ARCH_PRCTL;
        // SAFETY: a call of the system that touches no memory of ours; it changes rax, rcx and r11.
        unsafe {
            asm!("syscall", inout("rax") result, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") XTILEDATA,
                out("rcx") _, out("r11") _, options(nostack));
        }
        result == 0
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// The tile registers of this thread while they are configured: all eight with sixteen rows of 64 bytes.
pub(super) struct Tiles(PhantomData<*const ()>);

impl Tiles {
    /// Configures them until the value is dropped.
    ///
    /// # Safety
    /// [`available`] must have said so.
    pub(super) unsafe fn configure() -> Self {
        #[repr(align(64))]
        struct Config([u8; 64]);
        static CONFIG: Config = {
            let mut config = [0; 64];
            config[0] = 1;
            let mut tile = 0;
            while tile < 8 {
                config[16 + 2 * tile] = ROW as u8;
                config[48 + tile] = SIDE as u8;
                tile += 1;
            }
            Config(config)
        };
        // SAFETY: the caller vouches for the instruction, which reads 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) CONFIG.0.as_ptr(), options(nostack, readonly)) };
        Self(PhantomData)
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: configured by the same thread, as the type is not `Send`. Unused tiles cost nothing when threads change.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// Where sums wait that cannot go to `c` as they are.
#[repr(align(64))]
struct Room(MaybeUninit<[[f32; ROWS]; ROWS]>);

/// Computes a tile of `rows` rows, up to [`ROWS`].
///
/// # Safety
/// [`Tiles`] must be configured on this thread and the processor have AVX-512F; `t.steps` is a multiple of [`SIDE`], `t.a`
/// holds so many steps of `rows` rows, up to the next multiple of [`SIDE`], as squares, `t.b` `[steps][ROWS]`, and `rows`
/// rows of `t.cols` columns of `t.c` exist.
#[target_feature(enable = "avx512f")]
unsafe fn run(rows: usize, t: Tile) {
    for r in 0..rows {
        let row = t.c.wrapping_add(r * t.c_stride).cast_const().cast();
        #[allow(unused_unsafe)] // Unsafe in older versions of Rust.
        // SAFETY: a prefetch never faults.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(row);
            _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(ROW));
        }
    }
    if rows == ROWS && t.cols == ROWS && !t.add {
        // SAFETY: as the caller vouches.
        return unsafe { two_by_two(t, t.c, t.c_stride) };
    }
    let mut room = Room(MaybeUninit::uninit());
    let sums: *mut f32 = room.0.as_mut_ptr().cast();
    // SAFETY: as the caller vouches; the room has as many rows and columns as a tile.
    unsafe {
        if rows > SIDE {
            two_by_two(t, sums, ROWS);
        } else {
            one_by_two(t, sums, ROWS);
        }
    }
    let masks = [t.cols, t.cols.saturating_sub(SIDE)].map(mask);
    for r in 0..rows {
        for (half, mask) in masks.into_iter().enumerate() {
            let at = t.c.wrapping_add(r * t.c_stride + half * SIDE);
            // SAFETY: the row of the room was written above, and the mask lets through columns that exist only.
            unsafe {
                let sum = _mm512_load_ps(sums.add(r * ROWS + half * SIDE));
                let sum = if t.add { _mm512_add_ps(_mm512_maskz_loadu_ps(mask, at), sum) } else { sum };
                _mm512_mask_storeu_ps(at, mask, sum);
            }
        }
    }
}

/// Two tiles of rows by two of columns, to rows of `to` that are `stride` apart.
///
/// # Safety
/// As for [`run`], with more than [`SIDE`] rows; `to` has [`ROWS`] rows of [`ROWS`] columns.
#[inline(always)]
unsafe fn two_by_two(t: Tile, to: *mut f32, stride: usize) {
    // SAFETY: reads what the caller vouches for and writes to `to`; all registers that change are named.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "test {n}, {n}",
            "jz 3f",
            "2:",
            "tileloadd tmm4, [{a} + {near}]",
            "tileloadd tmm6, [{b} + {far}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {far} + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{low} + {near}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 1024",
            "add {low}, 1024",
            "add {b}, 2048",
            "dec {n}",
            "jnz 2b",
            "3:",
            "tilestored [{c} + {stride}], tmm0",
            "tilestored [{c} + {stride} + 64], tmm1",
            "tilestored [{c_low} + {stride}], tmm2",
            "tilestored [{c_low} + {stride} + 64], tmm3",
            n = inout(reg) t.steps / SIDE => _,
            a = inout(reg) t.a => _,
            low = inout(reg) t.a.wrapping_add(SIDE * t.steps) => _,
            b = inout(reg) t.b => _,
            c = in(reg) to,
            c_low = in(reg) to.wrapping_add(SIDE * stride),
            stride = in(reg) stride * size_of::<f32>(),
            near = in(reg) ROW,
            far = in(reg) 2 * ROW,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// One tile of rows by two of columns: the upper half of [`two_by_two`].
///
/// # Safety
/// As for [`run`]; `to` has [`SIDE`] rows of [`ROWS`] columns.
#[inline(always)]
unsafe fn one_by_two(t: Tile, to: *mut f32, stride: usize) {
    // SAFETY: reads what the caller vouches for and writes to `to`; all registers that change are named.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "test {n}, {n}",
            "jz 3f",
            "2:",
            "tileloadd tmm4, [{a} + {near}]",
            "tileloadd tmm6, [{b} + {far}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {far} + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {a}, 1024",
            "add {b}, 2048",
            "dec {n}",
            "jnz 2b",
            "3:",
            "tilestored [{c} + {stride}], tmm0",
            "tilestored [{c} + {stride} + 64], tmm1",
            n = inout(reg) t.steps / SIDE => _,
            a = inout(reg) t.a => _,
            b = inout(reg) t.b => _,
            c = in(reg) to,
            stride = in(reg) stride * size_of::<f32>(),
            near = in(reg) ROW,
            far = in(reg) 2 * ROW,
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
