//! A picture as a tower is given it: pixels in its size, the order of its patches, the places of its tokens.
use super::image::Rgb;
use super::processor::Processor;
use crate::config::{Vision, VisionFamily};
use sha2::{Digest, Sha256};
use std::ops::Range;

/// By what a picture is known: the first half of the SHA-256 of its pixels and their layout.
pub type ImageKey = u128;

/// Resized pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Its key.
    pub key: ImageKey,
    /// What it is cut into.
    pub layout: Layout,
    /// The picture, or its tiles and then the whole.
    pub parts: Vec<Rgb>,
}

/// What a picture is cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Patches of the whole.
    Grid {
        /// Rows of patches.
        height: usize,
        /// Patches a row.
        width: usize,
    },
    /// Tiles beside the whole, or none.
    Tiles {
        /// Rows of tiles.
        rows: usize,
        /// Tiles a row.
        columns: usize,
    },
}

impl Picture {
    pub(super) fn new(parts: Vec<Rgb>, layout: Layout) -> Self {
        let mut hash = Sha256::new();
        let (kind, [a, b]) = match layout {
            Layout::Grid { height, width } => (0u64, [height, width]),
            Layout::Tiles { rows, columns } => (1, [rows, columns]),
        };
        for number in [kind, a as u64, b as u64] {
            hash.update(number.to_le_bytes());
        }
        for part in &parts {
            hash.update((part.width as u64).to_le_bytes());
            hash.update(&part.pixels);
        }
        let hash: [u8; 32] = hash.finalize().into();
        let key = hash.iter().take(16).fold(0u128, |key, byte| key << 8 | u128::from(*byte));
        Self { key, layout, parts }
    }

    /// Bytes of its pixels.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.pixels.len()).sum()
    }
}

/// How a tower goes over a picture: in which order its patches stand, and who sees whom. Patches that become one token are
/// neighbours, so that joining rows moves nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Row and column of every patch, and the part that it is of.
    pub patches: Vec<(usize, usize, usize)>,
    /// Rows that see each other in blocks without windows.
    pub whole: Vec<Range<usize>>,
    /// Rows that see each other in the others.
    pub windows: Vec<Range<usize>>,
    /// The place among the tokens of each token as the tower has it.
    pub order: Vec<usize>,
    /// Rows and columns of tokens, where they have places of two axes.
    pub grid: Option<(usize, usize)>,
    /// For every patch the rows of the table of positions, with their weights.
    pub places: Vec<[(usize, f32); 4]>,
}

impl Plan {
    /// Of a picture.
    pub fn new(picture: &Picture, vision: &Vision) -> Self {
        Self::of(picture.layout, picture.parts.len(), vision)
    }

    /// Of a picture that is cut like this, into so many parts.
    pub fn of(layout: Layout, parts: usize, vision: &Vision) -> Self {
        match layout {
            Layout::Grid { height, width } => Self::of_grid(height, width, vision),
            Layout::Tiles { .. } => Self::of_tiles(parts, vision),
        }
    }

    fn of_grid(height: usize, width: usize, vision: &Vision) -> Self {
        let m = vision.merge;
        let (rows, columns) = (height / m, width / m);
        let side = vision.window.unwrap_or(usize::MAX).min(rows.max(columns));
        let (mut order, mut windows, mut patches) = (Vec::new(), Vec::new(), Vec::new());
        for top in (0..rows).step_by(side) {
            for left in (0..columns).step_by(side) {
                let first = patches.len();
                for y in top..(top + side).min(rows) {
                    for x in left..(left + side).min(columns) {
                        order.push(y * columns + x);
                        patches.extend((0..m * m).map(|i| (y * m + i / m, x * m + i % m, 0)));
                    }
                }
                windows.push(first..patches.len());
            }
        }
        let places = match vision.positions {
            0 => Vec::new(),
            n => patches.iter().map(|(y, x, _)| between((*y, height), (*x, width), n)).collect(),
        };
        let whole = std::iter::once(0..patches.len()).collect();
        Self { patches, whole, windows, order, grid: Some((rows, columns)), places }
    }

    fn of_tiles(count: usize, vision: &Vision) -> Self {
        let side = (vision.positions as f64).sqrt() as usize;
        let (m, cells) = (vision.merge, side / vision.merge);
        let mut patches = Vec::with_capacity(count * side * side);
        for part in 0..count {
            for cell in 0..cells * cells {
                let (y, x) = (cell / cells * m, cell % cells * m);
                patches.extend((0..m * m).map(|i| (y + i / m, x + i % m, part)));
            }
        }
        let places = patches.iter().map(|(y, x, _)| [(y * side + x, 1.0), NO, NO, NO]).collect();
        let whole: Vec<_> = (0..count).map(|i| i * side * side..(i + 1) * side * side).collect();
        let order = (0..count * cells * cells).collect();
        Self { windows: whole.clone(), patches, whole, order, grid: None, places }
    }

    /// Tokens of the picture.
    pub fn tokens(&self) -> usize {
        self.order.len()
    }

    /// The values of every patch, `[patches, patch values]`.
    pub fn values(&self, picture: &Picture, processor: &Processor, vision: &Vision) -> Vec<f32> {
        let (table, p) = (processor.values(), vision.patch);
        let mut out = Vec::with_capacity(self.patches.len() * vision.patch_values());
        for (y, x, part) in &self.patches {
            let part = &picture.parts[*part];
            for (c, table) in table.iter().enumerate() {
                let first = out.len();
                for row in y * p..(y + 1) * p {
                    let from = &part.pixels[(row * part.width + x * p) * 3..][..p * 3];
                    out.extend(from.iter().skip(c).step_by(3).map(|v| table[usize::from(*v)]));
                }
                // A still is every frame of a patch.
                let once = out.len();
                for _ in 1..vision.frames {
                    out.extend_from_within(first..once);
                }
            }
        }
        out
    }

    /// Cosines and sines of the rotation of every row, `[patches, head_dim / 2]`: half of the frequencies turn with the row,
    /// half with the column. None where positions are learned only.
    pub fn rotation(&self, vision: &Vision) -> Option<(Vec<f32>, Vec<f32>)> {
        if vision.family == VisionFamily::Smol {
            return None;
        }
        let quarter = vision.width / vision.heads / 4;
        let frequency = |i: usize| 1.0 / 10_000f32.powf((2 * i) as f32 / (2 * quarter) as f32);
        let frequencies: Vec<f32> = (0..quarter).map(frequency).collect();
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for (y, x, _) in &self.patches {
            for at in [y, x] {
                for f in &frequencies {
                    let angle = f64::from(*at as f32 * f);
                    cos.push(angle.cos() as f32);
                    sin.push(angle.sin() as f32);
                }
            }
        }
        Some((cos, sin))
    }
}

const NO: (usize, f32) = (0, 0.0);

/// The four rows of a square table around a place of a grid of another size, corners on corners.
fn between((y, height): (usize, usize), (x, width): (usize, usize), positions: usize) -> [(usize, f32); 4] {
    let side = (positions as f64).sqrt() as usize;
    let at = |i: usize, size: usize| {
        let place = i as f32 * (side - 1) as f32 / (size.max(2) - 1) as f32;
        let low = place.floor() as usize;
        (low, (low + 1).min(side - 1), place - low as f32)
    };
    let ((y0, y1, b), (x0, x1, a)) = (at(y, height), at(x, width));
    [
        (y0 * side + x0, (1.0 - b) * (1.0 - a)),
        (y0 * side + x1, (1.0 - b) * a),
        (y1 * side + x0, b * (1.0 - a)),
        (y1 * side + x1, b * a),
    ]
}
