//! From a picture to what a tower is given, as transformers' processors do it, and how many tokens that is.
use super::image::{ImageError, Rgb, decode, size};
use super::picture::{Layout, Picture};
use super::resample::{Filter, resize};
use crate::config::keys::Keys;
use crate::config::{Vision, VisionFamily};
use crate::error::PolicyError;
use serde_json::{Map, Value};
use std::path::Path;

/// A processor with its settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Processor {
    /// How sizes are found.
    pub sizes: Sizes,
    /// Subtracted from values in 0 to 1.
    pub mean: [f32; 3],
    /// What they are divided by then.
    pub std: [f32; 3],
    filter: Filter,
    /// Pixels a side of a patch, patches a side of a token.
    patch: usize,
    merge: usize,
}

/// How the size of a picture is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sizes {
    /// Multiples of a token's side, of about as many pixels as there are (Qwen).
    Smart {
        /// Fewest pixels.
        min_pixels: usize,
        /// Most pixels.
        max_pixels: usize,
    },
    /// Tiles, and the whole picture as one more (SmolVLM, Idefics3).
    Tiles {
        /// The longest side before it is cut.
        longest: usize,
        /// Side of a tile.
        tile: usize,
        /// Whether there are tiles beside the whole.
        split: bool,
    },
}

impl Processor {
    /// Reads `preprocessor_config.json`.
    ///
    /// # Errors
    /// A key of a wrong type, or one that asks for what is not done.
    pub fn read(config: &Map<String, Value>, path: &Path, vision: &Vision) -> Result<Self, PolicyError> {
        let keys = Keys { map: config, prefix: "", path };
        for (key, done) in [("do_resize", true), ("do_rescale", true), ("do_normalize", true)] {
            if keys.bool(key)?.is_some_and(|asked| asked != done) {
                return Err(keys.unsupported(key, "supported: true"));
            }
        }
        if keys.positive("rescale_factor")?.is_some_and(|factor| (factor * 255.0 - 1.0).abs() > 1e-6) {
            return Err(keys.unsupported("rescale_factor", "supported: 1/255"));
        }
        let smol = vision.family == VisionFamily::Smol;
        let usual = match vision.family {
            VisionFamily::Qwen2 | VisionFamily::Qwen25 => [CLIP_MEAN, CLIP_STD],
            VisionFamily::Qwen3 | VisionFamily::Smol => [[0.5; 3]; 2],
        };
        let filter = match keys.get("resample").and_then(Value::as_u64) {
            None => {
                if smol {
                    Filter::Lanczos
                } else {
                    Filter::Bicubic
                }
            }
            Some(1) => Filter::Lanczos,
            Some(3) => Filter::Bicubic,
            Some(_) => return Err(keys.unsupported("resample", "supported: 1 (Lanczos), 3 (bicubic)")),
        };
        let sizes = if smol { tile_sizes(&keys, vision)? } else { smart_sizes(&keys, vision)? };
        let mean = colours(&keys, "image_mean")?.unwrap_or(usual[0]);
        let std = colours(&keys, "image_std")?.unwrap_or(usual[1]);
        Ok(Self { sizes, mean, std, filter, patch: vision.patch, merge: vision.merge })
    }

    /// The same with another bound of pixels; says nothing of tiles.
    #[must_use]
    pub fn with_max_pixels(mut self, most: usize) -> Self {
        if let Sizes::Smart { min_pixels, max_pixels } = &mut self.sizes {
            *max_pixels = most;
            *min_pixels = (*min_pixels).min(most);
        }
        self
    }

    /// Side of a token in pixels.
    fn factor(&self) -> usize {
        self.patch * self.merge
    }

    /// Tokens of a picture of a size.
    ///
    /// # Errors
    /// A shape that is not taken.
    pub fn tokens(&self, width: usize, height: usize) -> Result<usize, ImageError> {
        Ok(self.tokens_of(self.layout(width, height)?))
    }

    /// Tokens of the picture in a file, of which the beginning is read.
    ///
    /// # Errors
    /// As [`decode`]; a shape that is not taken.
    pub fn tokens_of_file(&self, bytes: &[u8]) -> Result<usize, ImageError> {
        let (width, height) = size(bytes)?;
        self.tokens(width, height)
    }

    /// What a picture of a size is cut into.
    ///
    /// # Errors
    /// A shape that is not taken.
    pub fn layout(&self, width: usize, height: usize) -> Result<Layout, ImageError> {
        match self.sizes {
            Sizes::Smart { min_pixels, max_pixels } => {
                let (w, h) = smart_resize(width, height, self.factor(), min_pixels, max_pixels)?;
                Ok(Layout::Grid { height: h / self.patch, width: w / self.patch })
            }
            Sizes::Tiles { longest, tile, split } => {
                let (columns, rows) = tiles(width, height, longest, tile, split);
                Ok(Layout::Tiles { rows, columns })
            }
        }
    }

    /// The same of the picture in a file, of which the beginning is decoded.
    ///
    /// # Errors
    /// As [`decode`]; a shape that is not taken.
    pub fn layout_of_file(&self, bytes: &[u8]) -> Result<Layout, ImageError> {
        let (width, height) = size(bytes)?;
        self.layout(width, height)
    }

    /// Tokens of a picture.
    pub fn tokens_of(&self, layout: Layout) -> usize {
        match layout {
            Layout::Grid { height, width } => height * width / (self.merge * self.merge),
            Layout::Tiles { rows, columns } => (rows * columns + 1) * self.tile_tokens(),
        }
    }

    fn tile_tokens(&self) -> usize {
        match self.sizes {
            Sizes::Tiles { tile, .. } => (tile / self.factor()).pow(2),
            Sizes::Smart { .. } => 0,
        }
    }

    /// What a prompt has in the place of a picture, made of `token`, which stands for one of its tokens.
    pub fn expansion(&self, layout: Layout, token: &str) -> String {
        let Layout::Tiles { rows, columns } = layout else { return token.repeat(self.tokens_of(layout)) };
        let (around, of_tile) = ("<fake_token_around_image>", token.repeat(self.tile_tokens()));
        let mut text = String::new();
        for r in 1..=rows {
            for c in 1..=columns {
                text.push_str(&format!("{around}<row_{r}_col_{c}>{of_tile}"));
            }
            text.push('\n');
        }
        if rows > 0 {
            text.push('\n');
        }
        text + &format!("{around}<global-img>{of_tile}{around}")
    }

    /// The picture in a file, as the tower is given it.
    ///
    /// # Errors
    /// As [`decode`]; a shape that is not taken.
    pub fn open(&self, bytes: &[u8]) -> Result<Picture, ImageError> {
        self.picture(&decode(bytes)?)
    }

    /// A picture as the tower is given it.
    ///
    /// # Errors
    /// A shape that is not taken.
    pub fn picture(&self, rgb: &Rgb) -> Result<Picture, ImageError> {
        match self.sizes {
            Sizes::Smart { min_pixels, max_pixels } => {
                let (w, h) = smart_resize(rgb.width, rgb.height, self.factor(), min_pixels, max_pixels)?;
                let layout = Layout::Grid { height: h / self.patch, width: w / self.patch };
                Ok(Picture::new(vec![resize(rgb, w, h, self.filter)], layout))
            }
            Sizes::Tiles { longest, tile, split } => {
                let (w, h) = longest_edge(rgb.width, rgb.height, longest);
                let whole = resize(rgb, w, h, self.filter);
                if !split {
                    let layout = Layout::Tiles { rows: 0, columns: 0 };
                    return Ok(Picture::new(vec![resize(&whole, tile, tile, self.filter)], layout));
                }
                let (w, h) = whole_tiles(w, h, tile);
                let whole = resize(&whole, w, h, self.filter);
                let (columns, rows) = tiles(rgb.width, rgb.height, longest, tile, split);
                let mut all: Vec<Rgb> = (0..rows)
                    .flat_map(|r| (0..columns).map(move |c| (r, c)))
                    .map(|(r, c)| cut(&whole, c * tile, r * tile, tile))
                    .collect();
                all.push(if all.is_empty() { whole } else { resize(&whole, tile, tile, self.filter) });
                Ok(Picture::new(all, Layout::Tiles { rows, columns }))
            }
        }
    }

    /// The value of every byte in every channel, as transformers computes it.
    pub fn values(&self) -> [[f32; 256]; 3] {
        [0, 1, 2].map(|c| {
            std::array::from_fn(|v| ((v as f64 * (1.0 / 255.0)) as f32 - self.mean[c]) / self.std[c])
        })
    }
}

const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];
/// The processor's own bounds, where a file has none: 4 and 16,384 tokens.
const SMART: [usize; 2] = [56 * 56, 28 * 28 * 1280];

fn colours(keys: &Keys<'_>, key: &str) -> Result<Option<[f32; 3]>, PolicyError> {
    let Some(value) = keys.get(key) else { return Ok(None) };
    let found = serde_json::from_value::<[f64; 3]>(value.clone());
    Ok(Some(found.map_err(|_| keys.wrong(key, "is not three numbers"))?.map(|v| v as f32)))
}

fn smart_sizes(keys: &Keys<'_>, vision: &Vision) -> Result<Sizes, PolicyError> {
    for (key, own) in
        [("patch_size", vision.patch), ("merge_size", vision.merge), ("temporal_patch_size", vision.frames)]
    {
        if keys.optional_size(key)?.is_some_and(|asked| asked != own) {
            return Err(keys.wrong(key, &format!("is not the tower's, {own}")));
        }
    }
    let size = keys.get("size").and_then(Value::as_object);
    let of_size = |names: [&str; 2]| -> Result<Option<usize>, PolicyError> {
        let Some(map) = size else { return Ok(None) };
        let size = Keys { map, prefix: "size", path: keys.path };
        Ok(size.optional_size(names[0])?.or(size.optional_size(names[1])?))
    };
    let of = |own: &str, names: [&str; 2], usual: usize| -> Result<usize, PolicyError> {
        Ok(keys.optional_size(own)?.or(of_size(names)?).unwrap_or(usual))
    };
    Ok(Sizes::Smart {
        min_pixels: of("min_pixels", ["shortest_edge", "min_pixels"], SMART[0])?,
        max_pixels: of("max_pixels", ["longest_edge", "max_pixels"], SMART[1])?,
    })
}

fn tile_sizes(keys: &Keys<'_>, vision: &Vision) -> Result<Sizes, PolicyError> {
    let edge = |key: &str| -> Result<Option<usize>, PolicyError> {
        let Some(map) = keys.get(key).and_then(Value::as_object) else { return Ok(None) };
        Keys { map, prefix: key, path: keys.path }.optional_size("longest_edge")
    };
    let side = ((vision.positions as f64).sqrt() as usize) * vision.patch;
    let tile = edge("max_image_size")?.unwrap_or(side);
    if tile != side {
        return Err(
            keys.wrong("max_image_size.longest_edge", &format!("= {tile} is not the tower's side, {side}"))
        );
    }
    if !tile.is_multiple_of(vision.patch * vision.merge) {
        return Err(
            keys.wrong("max_image_size.longest_edge", &format!("= {tile} is no whole number of tokens"))
        );
    }
    let longest = edge("size")?.unwrap_or(4 * tile);
    Ok(Sizes::Tiles { longest, tile, split: keys.bool("do_image_splitting")?.unwrap_or(true) })
}

/// Width and height in multiples of `factor` that keep the aspect and stay within bounds of pixels.
///
/// # Errors
/// A side that is more than 200 times the other.
pub fn smart_resize(
    width: usize,
    height: usize,
    factor: usize,
    min_pixels: usize,
    max_pixels: usize,
) -> Result<(usize, usize), ImageError> {
    let (w, h, f) = (width as f64, height as f64, factor as f64);
    if w.max(h) / w.min(h) > 200.0 {
        let problem = "one side is more than 200 times the other".into();
        return Err(ImageError::Shape { width, height, problem });
    }
    // Half a multiple goes to the even one.
    let near = |side: f64| (side / f).round_ties_even() * f;
    let (mut to_w, mut to_h) = (near(w), near(h));
    if to_w * to_h > max_pixels as f64 {
        let by = (h * w / max_pixels as f64).sqrt();
        let below = |side: f64| ((side / by / f).floor() * f).max(f);
        (to_w, to_h) = (below(w), below(h));
    } else if to_w * to_h < min_pixels as f64 {
        let by = (min_pixels as f64 / (h * w)).sqrt();
        let above = |side: f64| (side * by / f).ceil() * f;
        (to_w, to_h) = (above(w), above(h));
    }
    Ok((to_w as usize, to_h as usize))
}

/// Width and height with the longest side at `longest`, the other even.
fn longest_edge(width: usize, height: usize, longest: usize) -> (usize, usize) {
    let aspect = width as f64 / height as f64;
    let even = |side: usize| (side + side % 2).max(1);
    if width >= height {
        (longest, even((longest as f64 / aspect) as usize))
    } else {
        (even((longest as f64 * aspect) as usize), longest)
    }
}

/// The next size of whole tiles.
fn whole_tiles(width: usize, height: usize, tile: usize) -> (usize, usize) {
    let aspect = width as f64 / height as f64;
    let up = |side: usize| side.div_ceil(tile).max(1) * tile;
    if width >= height {
        let w = up(width);
        (w, up((w as f64 / aspect) as usize))
    } else {
        let h = up(height);
        (up((h as f64 * aspect) as usize), h)
    }
}

/// Columns and rows of tiles; none where the picture is one.
pub fn tiles(width: usize, height: usize, longest: usize, tile: usize, split: bool) -> (usize, usize) {
    let (w, h) = longest_edge(width, height, longest);
    let (w, h) = whole_tiles(w, h, tile);
    if split && (w > tile || h > tile) { (w / tile, h / tile) } else { (0, 0) }
}

fn cut(x: &Rgb, left: usize, top: usize, side: usize) -> Rgb {
    let row = |y: usize| &x.pixels[((top + y) * x.width + left) * 3..][..side * 3];
    Rgb { width: side, height: side, pixels: (0..side).flat_map(row).copied().collect() }
}
