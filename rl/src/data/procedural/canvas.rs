//! Pictures of generated tasks: shapes, text in a small font, noise.

use super::font::{GLYPH, glyph};
use crate::random;
use rlvr_policies::vision::Rgb;

/// The most that noise may move a level of a colour.
pub(super) const MAX_NOISE: u64 = 64;
/// The grey that stands for a picture that says nothing.
const GREY: u8 = 128;

/// A picture that is drawn.
pub(super) struct Canvas(Rgb);

impl Canvas {
    /// A square of one colour.
    pub(super) fn new(side: usize, colour: [u8; 3]) -> Self {
        Self(Rgb { width: side, height: side, pixels: colour.repeat(side * side) })
    }

    /// Colours the pixels within `left..left + side` and `top..top + side` that are inside of something, as far as they are on
    /// the picture.
    pub(super) fn fill(
        &mut self,
        (left, top, side): (i64, i64, i64),
        colour: [u8; 3],
        inside: impl Fn(i64, i64) -> bool,
    ) {
        let (width, height) = (self.0.width as i64, self.0.height as i64);
        for y in top.max(0)..(top + side).min(height) {
            for x in left.max(0)..(left + side).min(width) {
                if inside(x, y) {
                    self.0.pixels[(y * width + x) as usize * 3..][..3].copy_from_slice(&colour);
                }
            }
        }
    }

    /// Writes a text with its upper left corner there, `scale` pixels a dot of the font.
    pub(super) fn write(&mut self, text: &str, (left, top): (i64, i64), scale: i64, ink: [u8; 3]) {
        let advance = (GLYPH.0 as i64 + 1) * scale;
        for (i, c) in text.chars().enumerate() {
            let (rows, left) = (glyph(c), left + i as i64 * advance);
            self.fill((left, top, GLYPH.1 as i64 * scale), ink, |x, y| {
                let (column, row) = ((x - left) / scale, (y - top) / scale);
                column < GLYPH.0 as i64 && rows[row as usize] >> (GLYPH.0 as i64 - 1 - column) & 1 == 1
            });
        }
    }

    /// The picture with every level moved by up to `most`, as `key` decides.
    pub(super) fn noisy(mut self, most: u64, key: u64) -> Rgb {
        if most == 0 {
            return self.0;
        }
        let span = 2 * most + 1;
        for (i, pixel) in self.0.pixels.chunks_exact_mut(3).enumerate() {
            let mut word = random::word(&[key, i as u64]);
            for level in pixel {
                let moved = u64::from(*level) + word % span;
                *level = moved.saturating_sub(most).min(255) as u8;
                word /= span;
            }
        }
        self.0
    }
}

/// A grey picture of the same size.
pub(super) fn blank(picture: &Rgb) -> Rgb {
    Rgb { pixels: vec![GREY; picture.pixels.len()], ..*picture }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_drawn_dot_by_dot_and_cut_at_the_border() {
        let mut canvas = Canvas::new(12, [0; 3]);
        canvas.write("1", (1, 1), 1, [255; 3]);
        let dots = canvas.0.pixels.chunks(3).filter(|p| p[0] == 255).count() as u32;
        assert_eq!(dots, glyph('1').iter().map(|row| row.count_ones()).sum::<u32>());
        let mut larger = Canvas::new(12, [0; 3]);
        larger.write("18", (-3, 9), 2, [255; 3]);
        assert!(larger.0.pixels.contains(&255));
    }

    #[test]
    fn noise_stays_within_its_bound_and_depends_on_its_key_alone() {
        let drawn = |most, key| Canvas::new(20, [100, 250, 2]).noisy(most, key);
        assert_eq!(drawn(9, 1), drawn(9, 1));
        assert_ne!(drawn(9, 1), drawn(9, 2));
        let levels =
            |channel: usize| drawn(9, 1).pixels.into_iter().skip(channel).step_by(3).collect::<Vec<u8>>();
        let (first, second) = (levels(0), levels(1));
        assert!(first.iter().all(|v| v.abs_diff(100) <= 9) && second.iter().all(|v| *v >= 241));
        for value in 91..=109 {
            assert!(first.contains(&value), "{value}");
        }
        assert_eq!(drawn(0, 1).pixels, [100, 250, 2].repeat(400));
        assert!(blank(&drawn(9, 1)).pixels.iter().all(|v| *v == 128));
    }
}
