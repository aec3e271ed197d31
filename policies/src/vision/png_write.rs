//! PNG as it is written: 8 bits of RGB a pixel, not interlaced.
use super::png::SIGNATURE;
use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use std::io::Write;

/// A picture as the bytes of a PNG file; the same pixels give the same bytes.
///
/// # Panics
/// `rgb` is not `[height, width, 3]`, or there are no pixels.
pub fn encode_png(width: usize, height: usize, rgb: &[u8]) -> Vec<u8> {
    assert!(width > 0 && height > 0 && rgb.len() == width * height * 3, "pixels are [height, width, 3]");
    let mut out = SIGNATURE.to_vec();
    let mut header = Vec::with_capacity(13);
    header.extend((width as u32).to_be_bytes());
    header.extend((height as u32).to_be_bytes());
    // 8 bits, RGB, deflate, filters by row, not interlaced.
    header.extend([8, 2, 0, 0, 0]);
    chunk(&mut out, *b"IHDR", &header);
    chunk(&mut out, *b"IDAT", &packed(width * 3, rgb));
    chunk(&mut out, *b"IEND", &[]);
    out
}

fn chunk(out: &mut Vec<u8>, name: [u8; 4], data: &[u8]) {
    let mut sum = Crc::new();
    sum.update(&name);
    sum.update(data);
    out.extend((data.len() as u32).to_be_bytes());
    out.extend(name);
    out.extend(data);
    out.extend(sum.sum().to_be_bytes());
}

/// The rows, each behind the filter that leaves the least, packed.
fn packed(stride: usize, rgb: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(rgb.len() + rgb.len() / stride);
    let first = vec![0; stride];
    let mut above = &first[..];
    for row in rgb.chunks(stride) {
        let left = |i: usize| if i < 3 { 0 } else { row[i - 3] };
        let plain = row.to_vec();
        let sub: Vec<u8> = row.iter().enumerate().map(|(i, v)| v.wrapping_sub(left(i))).collect();
        let up: Vec<u8> = row.iter().zip(above).map(|(v, a)| v.wrapping_sub(*a)).collect();
        let filtered = [(0, plain), (1, sub), (2, up)];
        let size = |(_, row): &&(u8, Vec<u8>)| {
            row.iter().map(|v| u64::from(v.cast_signed().unsigned_abs())).sum::<u64>()
        };
        let Some((filter, row_filtered)) = filtered.iter().min_by_key(size) else { continue };
        raw.push(*filter);
        raw.extend(row_filtered);
        above = row;
    }
    let mut zip = ZlibEncoder::new(Vec::new(), Compression::default());
    // A vector takes every byte.
    zip.write_all(&raw).and_then(|()| zip.finish()).unwrap_or_default()
}
