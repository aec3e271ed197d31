//! Numbers that are drawn, to be read.

use serde_json::json;

use super::canvas::{Canvas, MAX_NOISE};
use super::font::GLYPH;
use super::{Dice, Draw, Generator, check_between, check_range, generator};
use crate::checks::Checks;
use crate::random;

generator! {
    /// Reading a number somewhere in a picture, in several sizes, dark on light or light on dark. A number of two digits or
    /// more is on one side of the split.
    "digits" => DigitsConfig judged by "exact" {
        /// Fewest digits, 1 to 8. Default 1.
        min_digits: usize = 1,
        /// Most digits. Default 2.
        max_digits: usize = 2,
        /// Pixels a side, 16 to 512, six a digit at least. Default 48.
        size: usize = 48,
        /// How far noise may move a level, 0 to 64. Default 8.
        noise: u64 = 8,
        /// Whether the pictures are grey, which shows what can be answered without seeing. Default false.
        blank: bool = false,
    }
    prompt "{{ question }}"
}

const LIGHT: [u8; 3] = [235; 3];
const DARK: [u8; 3] = [30; 3];

impl Generator for DigitsConfig {
    fn check_difficulty(&self, at: &str, checks: &mut Checks) {
        let digits = [self.min_digits as u64, self.max_digits as u64];
        check_range(at, ["min_digits", "max_digits"], digits, [1, 8], checks);
        let least = (self.max_digits.min(8) * (GLYPH.0 + 1)).max(16) as u64;
        check_between(at, "size", self.size as u64, [least, 512], checks);
        check_between(at, "noise", self.noise, [0, MAX_NOISE], checks);
    }

    fn is_blank(&self) -> bool {
        self.blank
    }

    fn draw(&self, dice: &mut Dice) -> Option<Draw> {
        let digits = dice.between(self.min_digits as u64, self.max_digits as u64) as usize;
        let low = if digits == 1 { 0 } else { 10u64.pow(digits as u32 - 1) };
        let number = dice.between(low, 10u64.pow(digits as u32) - 1).to_string();
        let largest = (self.size / (digits * (GLYPH.0 + 1))).min(self.size / GLYPH.1);
        let scale = dice.between(largest.div_ceil(2) as u64, largest as u64) as i64;
        let place = |room: usize, dice: &mut Dice| {
            let free = self.size as i64 - room as i64 * scale;
            dice.between(0, free.max(0) as u64) as i64
        };
        let at = (place(digits * (GLYPH.0 + 1) - 1, dice), place(GLYPH.1, dice));
        let (ground, ink) = if dice.coin() { (LIGHT, DARK) } else { (DARK, LIGHT) };
        let look = [at.0 as u64, at.1 as u64, scale as u64, u64::from(ink[0])];
        let key = random::word(&[random::hash_bytes(number.as_bytes()), random::word(&look)]);
        let id = format!("{key:016x}");
        let fields = json!({ "question": "Which number is shown?", "digits": digits });
        let work = number.chars().map(String::from).collect::<Vec<_>>().join(" ");
        let draw = Draw::new(id, fields, json!({ "answer": number }), work, number.clone());
        // Ten digits are too few to keep one of them out.
        let side = if digits > 1 { random::hash_bytes(number.as_bytes()) } else { draw.side };
        let (size, noise) = (self.size, self.noise);
        Some(Draw { side, ..draw }.showing(move || {
            let mut canvas = Canvas::new(size, ground);
            canvas.write(&number, at, scale, ink);
            canvas.noisy(noise, key)
        }))
    }
}
