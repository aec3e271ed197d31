//! How often a letter occurs in a word.

use serde_json::json;

use super::{Dice, Draw, Generator, check_between, check_range, generator};
use crate::checks::Checks;

generator! {
    /// How often a letter occurs in a made-up word; the work counts letter by letter.
    "letter_count" => LetterCountConfig judged by "numeric" {
        /// Fewest letters of the word, at least 1. Default 4.
        min_length: u64 = 4,
        /// Most letters of the word, at most 64. Default 10.
        max_length: u64 = 10,
        /// How many different letters a word is made of, 1 to 26; fewer repeat more. Default 4.
        letters: u64 = 4,
    }
    prompt "How many times does {{ letter }} occur in {{ word }}?"
}

impl Generator for LetterCountConfig {
    fn check_difficulty(&self, at: &str, checks: &mut Checks) {
        let lengths = [self.min_length, self.max_length];
        check_range(at, ["min_length", "max_length"], lengths, [1, 64], checks);
        check_between(at, "letters", self.letters, [1, 26], checks);
    }

    fn draw(&self, dice: &mut Dice) -> Option<Draw> {
        let mut alphabet: Vec<char> = ('a'..='z').collect();
        dice.shuffle(&mut alphabet);
        let pool = &alphabet[..self.letters as usize];
        let length = dice.between(self.min_length, self.max_length);
        let word: String = (0..length).map(|_| *dice.pick(pool)).collect();
        let letter = *dice.pick(pool);
        let mut count = 0;
        let mut work = Vec::new();
        for c in word.chars() {
            count += usize::from(c == letter);
            work.push(format!("{c} {count}"));
        }
        let fields = json!({ "word": word, "letter": letter.to_string() });
        let reference = json!({ "answer": count });
        Some(Draw::new(format!("{word}-{letter}"), fields, reference, work.join(","), count.to_string()))
    }
}
