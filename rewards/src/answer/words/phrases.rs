//! Whole words and phrases of all languages, found in a text.

use regex::Regex;

use super::super::cut::{self, fixed};
use super::alternatives;
use super::table::entries;

/// Whether a character belongs to a script that does not separate words by spaces.
pub(crate) fn is_dense(c: char) -> bool {
    matches!(c as u32, 0x0E00..=0x0E7F | 0x3040..=0x30FF | 0x3400..=0x9FFF | 0xAC00..=0xD7A3 | 0xF900..=0xFAFF)
}

/// Whether the bytes `start..end` of `text` are whole words there.
pub(crate) fn is_whole(text: &str, start: usize, end: usize) -> bool {
    let joins = |a: Option<char>, b: Option<char>| {
        let letter = |c: char| (c.is_alphanumeric() || is_mark(c)) && !is_dense(c);
        a.is_some_and(letter) && b.is_some_and(letter)
    };
    let inside = &text[start..end];
    !joins(text[..start].chars().next_back(), inside.chars().next())
        && !joins(inside.chars().next_back(), text[end..].chars().next())
}

/// Marks that belong to the letter before them.
fn is_mark(c: char) -> bool {
    matches!(c as u32, 0x0300..=0x036F | 0x0900..=0x0903 | 0x093A..=0x094F)
}

/// The phrases of some keys in all languages.
pub(crate) struct Phrases(Regex);

impl Phrases {
    /// The phrases under `keys`.
    pub(crate) fn of(keys: &[&str]) -> Self {
        let all = alternatives(keys.iter().flat_map(|key| entries(key)).map(|e| e.phrase));
        Self(fixed(&format!("(?i){all}")))
    }

    /// Every phrase of `text` that is made of whole words, as byte ranges.
    pub(crate) fn places<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (usize, usize)> + 'a {
        let mut from = 0;
        std::iter::from_fn(move || {
            while let Some(m) = self.0.find_at(text, from) {
                if m.is_empty() {
                    return None;
                }
                if is_whole(text, m.start(), m.end()) {
                    from = m.end();
                    return Some((m.start(), m.end()));
                }
                let first = m.as_str().chars().next().map_or(1, char::len_utf8);
                from = m.start() + first;
            }
            None
        })
    }

    /// Whether one stands in `text`.
    pub(crate) fn hold(&self, text: &str) -> bool {
        self.places(text).next().is_some()
    }

    /// The end of the phrase that `text` begins with.
    pub(crate) fn opening(&self, text: &str) -> Option<usize> {
        self.places(cut::head(text, 96)).next().filter(|(start, _)| *start == 0).map(|(_, end)| end)
    }

    /// The start of the phrase that `text` ends with.
    pub(crate) fn closing(&self, text: &str) -> Option<usize> {
        let part = cut::tail(text, 96);
        let found = self.places(part).filter(|(_, end)| *end == part.len()).last();
        found.map(|(start, _)| text.len() - part.len() + start)
    }
}
