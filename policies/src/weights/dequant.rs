//! The block formats of GGUF, each expanded to f32.
//!
//! Layouts after the definitions of ggml's `block_*` structs; every function takes whole blocks and writes whole blocks.
//! Values equal those of the Python package `gguf` bit for bit (see the tests).

use half::f16;

/// Elements in a block of the 4- and 5-bit formats and Q8_0.
pub(super) const BLOCK: usize = 32;
/// Elements in a block of the K formats.
pub(super) const SUPER_BLOCK: usize = 256;

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// f16 scale, 32 signed bytes.
pub(super) fn q8_0(block: &[u8], out: &mut [f32]) {
    let scale = half_at(block, 0);
    for (value, q) in out.iter_mut().zip(&block[2..34]) {
        *value = scale * f32::from(*q as i8);
    }
}

/// f16 scale, 16 bytes of two 4-bit values: low halves first, then high halves.
pub(super) fn q4_0(block: &[u8], out: &mut [f32]) {
    let scale = half_at(block, 0);
    for (i, byte) in block[2..18].iter().enumerate() {
        out[i] = scale * (f32::from(byte & 15) - 8.0);
        out[i + 16] = scale * (f32::from(byte >> 4) - 8.0);
    }
}

/// f16 scale, f16 minimum, 4-bit values as in [`q4_0`].
pub(super) fn q4_1(block: &[u8], out: &mut [f32]) {
    let (scale, min) = (half_at(block, 0), half_at(block, 2));
    for (i, byte) in block[4..20].iter().enumerate() {
        out[i] = scale * f32::from(byte & 15) + min;
        out[i + 16] = scale * f32::from(byte >> 4) + min;
    }
}

/// Two 5-bit values: nibbles of `byte` with bits `i` and `i + 16` of `high` on top.
fn five_bits(byte: u8, high: u32, i: usize) -> (f32, f32) {
    let low = (byte & 15) | (((high >> i) & 1) as u8) << 4;
    let top = (byte >> 4) | (((high >> (i + 16)) & 1) as u8) << 4;
    (f32::from(low), f32::from(top))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// f16 scale, 32 high bits, 16 bytes of nibbles; offset 16.
pub(super) fn q5_0(block: &[u8], out: &mut [f32]) {
    let (scale, high) = (half_at(block, 0), u32_at(block, 2));
    for (i, byte) in block[6..22].iter().enumerate() {
        let (low, top) = five_bits(*byte, high, i);
        out[i] = scale * (low - 16.0);
        out[i + 16] = scale * (top - 16.0);
    }
}

/// f16 scale, f16 minimum, 32 high bits, 16 bytes of nibbles.
pub(super) fn q5_1(block: &[u8], out: &mut [f32]) {
    let (scale, min, high) = (half_at(block, 0), half_at(block, 2), u32_at(block, 4));
    for (i, byte) in block[8..24].iter().enumerate() {
        let (low, top) = five_bits(*byte, high, i);
        out[i] = scale * low + min;
        out[i + 16] = scale * top + min;
    }
}

/// Scale and minimum of sub-block `i` of 8, six bits each, packed in 12 bytes: the first four pairs in the low six bits
/// of bytes 0–3 and 4–7; the other pairs have four low bits in bytes 8–11 and two high bits atop bytes 0–7.
fn scale_and_min(packed: &[u8], i: usize) -> (f32, f32) {
    let (scale, min) = if i < 4 {
        (packed[i] & 63, packed[i + 4] & 63)
    } else {
        ((packed[i + 4] & 15) | (packed[i - 4] >> 6) << 4, (packed[i + 4] >> 4) | (packed[i] >> 6) << 4)
    };
    (f32::from(scale), f32::from(min))
}

/// f16 scale, f16 minimum scale, 12 bytes of 6-bit scales and minima, 128 bytes of nibbles: each run of 32 bytes holds
/// two sub-blocks, the low halves first.
pub(super) fn q4_k(block: &[u8], out: &mut [f32]) {
    let (scale, min_scale) = (half_at(block, 0), half_at(block, 2));
    for sub in 0..8 {
        let (s, m) = scale_and_min(&block[4..16], sub);
        let (s, m) = (scale * s, min_scale * m);
        let nibbles = &block[16 + sub / 2 * 32..][..32];
        for (value, byte) in out[sub * 32..][..32].iter_mut().zip(nibbles) {
            *value = s * f32::from(byte >> (4 * (sub % 2)) & 15) - m;
        }
    }
}

/// As [`q4_k`] with 32 bytes of high bits before the nibbles: bit `sub` of byte `i` belongs to element `i` of sub-block
/// `sub`.
pub(super) fn q5_k(block: &[u8], out: &mut [f32]) {
    let (scale, min_scale) = (half_at(block, 0), half_at(block, 2));
    let high = &block[16..48];
    for sub in 0..8 {
        let (s, m) = scale_and_min(&block[4..16], sub);
        let (s, m) = (scale * s, min_scale * m);
        let nibbles = &block[48 + sub / 2 * 32..][..32];
        for (i, value) in out[sub * 32..][..32].iter_mut().enumerate() {
            let q = (nibbles[i] >> (4 * (sub % 2)) & 15) | (high[i] >> sub & 1) << 4;
            *value = s * f32::from(q) - m;
        }
    }
}

/// 128 bytes of low nibbles, 64 bytes of high pairs of bits, 16 signed scales, f16 scale; offset 32. Each half of the
/// block has 64 low and 32 high bytes: elements 0–63 in low nibbles, 64–127 in high nibbles, and bits `2k`, `2k + 1` of
/// the high bytes for the `k`-th run of 32.
pub(super) fn q6_k(block: &[u8], out: &mut [f32]) {
    let scale = half_at(block, 208);
    for half in 0..2 {
        let low = &block[half * 64..][..64];
        let high = &block[128 + half * 32..][..32];
        let scales = &block[192 + half * 8..][..8];
        for (i, value) in out[half * 128..][..128].iter_mut().enumerate() {
            let nibble = low[i % 64] >> (4 * (i / 64)) & 15;
            let top = high[i % 32] >> (2 * (i / 32)) & 3;
            let q = f32::from(nibble | top << 4) - 32.0;
            *value = scale * f32::from(scales[i / 16] as i8) * q;
        }
    }
}
