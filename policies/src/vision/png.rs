//! PNG (ISO/IEC 15948), all colour types and depths, interlaced or not, to RGB as Pillow's `convert("RGB")` gives it: alpha
//! dropped. Checksums are not looked at.
use super::image::{ImageError, MAX_BYTES, MAX_SIDE, Rgb};
use flate2::read::ZlibDecoder;
use image::metadata::Orientation;
use std::io::Read;

pub(super) const SIGNATURE: [u8; 8] = [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a];

/// Whether a file begins as PNG does.
pub(super) fn is_png(bytes: &[u8]) -> bool {
    bytes.starts_with(&SIGNATURE)
}

/// What a file says before its pixels.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) width: usize,
    pub(super) height: usize,
    depth: u8,
    colour: Colour,
    interlaced: bool,
    pub(super) orientation: Orientation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colour {
    Grey,
    Rgb,
    Palette,
    GreyAlpha,
    Rgba,
}

impl Header {
    fn channels(&self) -> usize {
        match self.colour {
            Colour::Grey | Colour::Palette => 1,
            Colour::GreyAlpha => 2,
            Colour::Rgb => 3,
            Colour::Rgba => 4,
        }
    }

    fn bits(&self) -> usize {
        self.channels() * usize::from(self.depth)
    }

    /// Bytes of a row of `width` pixels.
    fn row_bytes(&self, width: usize) -> usize {
        (width * self.bits()).div_ceil(8)
    }

    fn of(data: &[u8]) -> Result<Self, ImageError> {
        let [w0, w1, w2, w3, h0, h1, h2, h3, depth, colour, compression, filter, interlace] =
            *data.first_chunk::<13>().ok_or_else(|| damaged("a short header"))?;
        let width = u32::from_be_bytes([w0, w1, w2, w3]) as usize;
        let height = u32::from_be_bytes([h0, h1, h2, h3]) as usize;
        let (colour, depths): (_, &[u8]) = match colour {
            0 => (Colour::Grey, &[1, 2, 4, 8, 16]),
            2 => (Colour::Rgb, &[8, 16]),
            3 => (Colour::Palette, &[1, 2, 4, 8]),
            4 => (Colour::GreyAlpha, &[8, 16]),
            6 => (Colour::Rgba, &[8, 16]),
            _ => return Err(damaged("an unknown colour type")),
        };
        if !depths.contains(&depth) || compression != 0 || filter != 0 || interlace > 1 {
            return Err(damaged("a header that no PNG has"));
        }
        let header = Self {
            width,
            height,
            depth,
            colour,
            interlaced: interlace == 1,
            orientation: Orientation::NoTransforms,
        };
        super::image::check_size(width, height)?;
        Ok(header)
    }
}

fn damaged(what: &str) -> ImageError {
    ImageError::Damaged { what: format!("PNG with {what}") }
}

/// Chunks: name and data.
struct Chunks<'a>(&'a [u8]);

impl<'a> Iterator for Chunks<'a> {
    type Item = (&'a [u8], &'a [u8]);
    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let (name, rest) = rest.split_at_checked(4)?;
        // A file that ends early gives what there is.
        let length = (u32::from_be_bytes(*length) as usize).min(rest.len());
        let (data, rest) = rest.split_at(length);
        self.0 = rest.get(4..).unwrap_or(&[]);
        Some((name, data))
    }
}

/// Size and orientation.
pub(super) fn header(bytes: &[u8]) -> Result<Header, ImageError> {
    let mut chunks = Chunks(bytes.get(SIGNATURE.len()..).unwrap_or(&[]));
    let Some((b"IHDR", data)) = chunks.next() else { return Err(damaged("no header")) };
    let mut header = Header::of(data)?;
    let exif = chunks.find(|(name, _)| *name == b"eXIf");
    if let Some(turned) = exif.and_then(|(_, data)| Orientation::from_exif_chunk(data)) {
        header.orientation = turned;
    }
    Ok(header)
}

/// The picture, not turned yet.
pub(super) fn decode(bytes: &[u8]) -> Result<(Rgb, Orientation), ImageError> {
    let header = header(bytes)?;
    let (mut packed, mut palette) = (Vec::new(), Vec::new());
    for (name, data) in Chunks(&bytes[SIGNATURE.len()..]) {
        match name {
            b"IDAT" => packed.extend_from_slice(data),
            b"PLTE" => palette = data.chunks_exact(3).map(|c| [c[0], c[1], c[2]]).collect(),
            _ => {}
        }
    }
    let passes: Vec<Pass> = if header.interlaced { ADAM7.to_vec() } else { vec![Pass::WHOLE] };
    let size = |pass: &Pass| pass.size(header.width, header.height);
    let bytes_of = |pass: &Pass| match size(pass) {
        (0, _) | (_, 0) => 0,
        (width, height) => height * (1 + header.row_bytes(width)),
    };
    let expected: usize = passes.iter().map(bytes_of).sum();
    let mut raw = Vec::with_capacity(expected);
    ZlibDecoder::new(&packed[..])
        .take(expected as u64)
        .read_to_end(&mut raw)
        .map_err(|_| damaged("pixels that cannot be unpacked"))?;
    if raw.len() < expected {
        return Err(damaged("too few pixels"));
    }
    let mut out = Rgb::black(header.width, header.height);
    let mut left = &mut raw[..];
    for pass in &passes {
        let (width, height) = size(pass);
        let (rows, rest) = left.split_at_mut(bytes_of(pass));
        left = rest;
        if rows.is_empty() {
            continue;
        }
        let stride = 1 + header.row_bytes(width);
        unfilter(rows, stride, header.bits().div_ceil(8))?;
        for (y, row) in rows.chunks(stride).take(height).enumerate() {
            for x in 0..width {
                let colour = pixel(&header, &palette, &row[1..], x)?;
                let at = ((pass.y + y * pass.dy) * header.width + pass.x + x * pass.dx) * 3;
                out.pixels[at..at + 3].copy_from_slice(&colour);
            }
        }
    }
    Ok((out, header.orientation))
}

/// One pixel of a row.
fn pixel(header: &Header, palette: &[[u8; 3]], row: &[u8], x: usize) -> Result<[u8; 3], ImageError> {
    let (channels, depth) = (header.channels(), header.depth);
    let sample = |channel: usize| -> u8 {
        let i = x * channels + channel;
        match depth {
            8 => row[i],
            // The high byte, as of colours in Pillow.
            16 => row[2 * i],
            _ => {
                let per = 8 / usize::from(depth);
                let shift = (per - 1 - i % per) * usize::from(depth);
                (row[i / per] >> shift) & ((1 << depth) - 1)
            }
        }
    };
    Ok(match header.colour {
        Colour::Palette => {
            *palette.get(usize::from(sample(0))).ok_or_else(|| damaged("a colour outside of its palette"))?
        }
        // 16 bits of grey are scaled, not cut: radiographs use a part of the range.
        Colour::Grey if depth == 16 => {
            let value = u32::from(u16::from_be_bytes([row[2 * x], row[2 * x + 1]]));
            [((value + 128) / 257) as u8; 3]
        }
        Colour::Grey => {
            let most = ((1u16 << depth) - 1) as u8;
            [sample(0) * (255 / most); 3]
        }
        Colour::GreyAlpha => [sample(0); 3],
        Colour::Rgb | Colour::Rgba => [sample(0), sample(1), sample(2)],
    })
}

/// Undoes the filters of rows that begin with the number of theirs.
fn unfilter(rows: &mut [u8], stride: usize, pixel: usize) -> Result<(), ImageError> {
    let mut above = vec![0u8; stride - 1];
    for row in rows.chunks_mut(stride) {
        let Some((filter, row)) = row.split_first_mut() else { continue };
        for i in 0..row.len() {
            let left = if i >= pixel { row[i - pixel] } else { 0 };
            let corner = if i >= pixel { above[i - pixel] } else { 0 };
            let guess = match *filter {
                0 => 0,
                1 => left,
                2 => above[i],
                3 => ((u16::from(left) + u16::from(above[i])) / 2) as u8,
                4 => paeth(left, above[i], corner),
                _ => return Err(damaged("an unknown filter")),
            };
            row[i] = row[i].wrapping_add(guess);
        }
        above.copy_from_slice(row);
    }
    Ok(())
}

fn paeth(a: u8, b: u8, c: u8) -> u8 {
    let p = i16::from(a) + i16::from(b) - i16::from(c);
    let far = |x: u8| (p - i16::from(x)).abs();
    if far(a) <= far(b) && far(a) <= far(c) {
        a
    } else if far(b) <= far(c) {
        b
    } else {
        c
    }
}

/// Which pixels a pass has.
#[derive(Clone, Copy)]
struct Pass {
    x: usize,
    y: usize,
    dx: usize,
    dy: usize,
}

impl Pass {
    const WHOLE: Self = Self { x: 0, y: 0, dx: 1, dy: 1 };

    fn size(&self, width: usize, height: usize) -> (usize, usize) {
        (width.saturating_sub(self.x).div_ceil(self.dx), height.saturating_sub(self.y).div_ceil(self.dy))
    }
}

const ADAM7: [Pass; 7] = [
    Pass { x: 0, y: 0, dx: 8, dy: 8 },
    Pass { x: 4, y: 0, dx: 8, dy: 8 },
    Pass { x: 0, y: 4, dx: 4, dy: 8 },
    Pass { x: 2, y: 0, dx: 4, dy: 4 },
    Pass { x: 0, y: 2, dx: 2, dy: 4 },
    Pass { x: 1, y: 0, dx: 2, dy: 2 },
    Pass { x: 0, y: 1, dx: 1, dy: 2 },
];

const _: () = assert!(MAX_SIDE * 8 * 4 < usize::MAX / MAX_SIDE && MAX_BYTES > 0);
