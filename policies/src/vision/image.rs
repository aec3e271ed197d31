//! Pictures from files to RGB of 8 bits, as Pillow's `exif_transpose` and `convert("RGB")` give it: turned as EXIF says, alpha
//! dropped and not blended, colours of palettes looked up. 16 bits of grey are scaled by 1/257 (Pillow saturates).
use super::png;
use crate::guard::caught;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use std::io::Cursor;

/// Most pixels a side.
pub const MAX_SIDE: usize = 16_384;
/// Most bytes of a decoded picture.
pub const MAX_BYTES: usize = 256 << 20;

/// Why a picture cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// It is larger than what is read.
    #[error(
        "the picture has {width}x{height} pixels: at most {MAX_SIDE} a side and 256 MiB decoded are read"
    )]
    TooLarge {
        /// Pixels a row.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// It is of no known format, or breaks its rules.
    #[error("the picture cannot be read: {what} (read: PNG, JPEG, GIF, WebP, BMP, TIFF)")]
    Damaged {
        /// What is wrong.
        what: String,
    },
    /// A shape that the model does not take.
    #[error("the picture has {width}x{height} pixels: {problem}")]
    Shape {
        /// Pixels a row.
        width: usize,
        /// Rows.
        height: usize,
        /// What is wrong with that.
        problem: String,
    },
}

/// Pixels, row by row, three bytes each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgb {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width, 3]`.
    pub pixels: Vec<u8>,
}

impl Rgb {
    /// A black picture.
    pub fn black(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![0; width * height * 3] }
    }
}

/// # Errors
/// Sides or bytes beyond the limits, or none.
pub(super) fn check_size(width: usize, height: usize) -> Result<(), ImageError> {
    let fits = width <= MAX_SIDE && height <= MAX_SIDE && width * height * 3 <= MAX_BYTES;
    match (width, height) {
        (0, _) | (_, 0) => Err(ImageError::Damaged { what: "it has no pixels".into() }),
        _ if !fits => Err(ImageError::TooLarge { width, height }),
        _ => Ok(()),
    }
}

fn swaps(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

/// Width and height of the turned picture, from the beginning of a file: no pixel is decoded.
///
/// # Errors
/// [`ImageError`].
pub fn size(bytes: &[u8]) -> Result<(usize, usize), ImageError> {
    guarded(|| {
        let (width, height, orientation) = if png::is_png(bytes) {
            let header = png::header(bytes)?;
            (header.width, header.height, header.orientation)
        } else {
            let mut decoder = decoder(bytes)?;
            let orientation = decoder.orientation().map_err(damaged)?;
            let (width, height) = decoder.dimensions();
            (width as usize, height as usize, orientation)
        };
        check_size(width, height)?;
        Ok(if swaps(orientation) { (height, width) } else { (width, height) })
    })
}

/// The picture that a file holds, the first where it holds several.
///
/// # Errors
/// [`ImageError`]; whatever the bytes are there is no panic, and memory is bounded.
pub fn decode(bytes: &[u8]) -> Result<Rgb, ImageError> {
    guarded(|| {
        if png::is_png(bytes) {
            let (rgb, orientation) = png::decode(bytes)?;
            return turned(rgb, orientation);
        }
        if bytes.starts_with(JPEG) && !ends(bytes) {
            return Err(ImageError::Damaged { what: "JPEG that ends before its picture does".into() });
        }
        let mut decoder = decoder(bytes)?;
        let (width, height) = decoder.dimensions();
        check_size(width as usize, height as usize)?;
        let orientation = decoder.orientation().map_err(damaged)?;
        let picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
        turned(opaque(picture), orientation)
    })
}

/// How a JPEG file begins.
const JPEG: &[u8] = &[0xff, 0xd8, 0xff];

/// Whether a JPEG file has its end behind its last scan; the decoder fills up what is missing, and says nothing. Within a scan no
/// byte of 255 stands before one of a mark.
fn ends(bytes: &[u8]) -> bool {
    let mark = |code: u8| move |pair: &[u8]| pair == [0xff, code];
    let scan = bytes.windows(2).rposition(mark(0xda)).unwrap_or(0);
    bytes[scan..].windows(2).any(mark(0xd9))
}

fn guarded<T>(work: impl FnOnce() -> Result<T, ImageError>) -> Result<T, ImageError> {
    caught(work).unwrap_or_else(|what| Err(ImageError::Damaged { what }))
}

fn damaged(error: image::ImageError) -> ImageError {
    ImageError::Damaged { what: error.to_string() }
}

fn decoder(bytes: &[u8]) -> Result<impl ImageDecoder + '_, ImageError> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let mut reader = reader.map_err(|e| ImageError::Damaged { what: e.to_string() })?;
    if reader.format().is_none() {
        return Err(ImageError::Damaged { what: "its format is not known".into() });
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_BYTES as u64);
    reader.limits(limits);
    reader.into_decoder().map_err(damaged)
}

/// Colours without alpha.
fn opaque(picture: DynamicImage) -> Rgb {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let grey = |v: u8| [v; 3];
    let pixels = match picture {
        DynamicImage::ImageLuma8(p) => p.into_raw().into_iter().flat_map(grey).collect(),
        DynamicImage::ImageLumaA8(p) => p.as_raw().chunks(2).flat_map(|p| grey(p[0])).collect(),
        DynamicImage::ImageRgba8(p) => p.as_raw().chunks(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        other => other.into_rgb8().into_raw(),
    };
    Rgb { width, height, pixels }
}

fn turned(rgb: Rgb, orientation: Orientation) -> Result<Rgb, ImageError> {
    if orientation == Orientation::NoTransforms {
        return Ok(rgb);
    }
    let buffer = image::RgbImage::from_raw(rgb.width as u32, rgb.height as u32, rgb.pixels);
    let buffer = buffer.ok_or_else(|| ImageError::Damaged { what: "it has too few pixels".into() })?;
    let mut picture = DynamicImage::ImageRgb8(buffer);
    picture.apply_orientation(orientation);
    Ok(opaque(picture))
}
