//! Text to be written backwards.

use serde_json::json;

use super::{Dice, Draw, Generator, check_between, check_range, generator};
use crate::checks::Checks;

generator! {
    /// Made-up words to be written backwards; the work spells them.
    "reverse_text" => ReverseTextConfig judged by "exact" {
        /// Fewest letters of a word, at least 1. Default 3.
        min_length: u64 = 3,
        /// Most letters of a word, at most 64. Default 8.
        max_length: u64 = 8,
        /// Number of words, 1 to 4. Default 1.
        words: u64 = 1,
    }
    prompt "Write backwards: {{ text }}"
}

impl Generator for ReverseTextConfig {
    fn check_difficulty(&self, at: &str, checks: &mut Checks) {
        let lengths = [self.min_length, self.max_length];
        check_range(at, ["min_length", "max_length"], lengths, [1, 64], checks);
        check_between(at, "words", self.words, [1, 4], checks);
    }

    fn draw(&self, dice: &mut Dice) -> Option<Draw> {
        let mut word = || {
            let length = dice.between(self.min_length, self.max_length);
            dice.letters(length)
        };
        let text = (0..self.words).map(|_| word()).collect::<Vec<_>>().join(" ");
        let answer: String = text.chars().rev().collect();
        // An answer that begins like a denial is read as one.
        if ["not", "never", "neither"].contains(&answer.split(' ').next().unwrap_or_default()) {
            return None;
        }
        let spelled: Vec<String> = text.chars().filter(|c| *c != ' ').map(String::from).collect();
        let (fields, reference) = (json!({ "text": text }), json!({ "answer": answer }));
        Some(Draw::new(text.replace(' ', "-"), fields, reference, spelled.join(" "), answer))
    }
}
