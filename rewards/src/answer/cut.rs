//! Pieces of a text by place, and patterns: what knows no words.

use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};

/// A built-in pattern; a mistake in one is a programming error that the tests meet first. Word boundaries are ASCII: the
/// engine leaves its fast path at the first other character for Unicode ones.
pub(crate) fn fixed(pattern: &str) -> Regex {
    // The patterns of all languages together are too large for the automaton that the default bytes of memory allow; the
    // engine then falls back to one that is ten times slower.
    let built = RegexBuilder::new(&pattern.replace(r"\b", r"(?-u:\b)")).dfa_size_limit(32 << 20).build();
    built.unwrap_or_else(|e| panic!("built-in pattern: {e}"))
}

/// The last `bytes` bytes of `text`, cut at a character boundary.
pub fn tail(text: &str, bytes: usize) -> &str {
    let mut start = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

/// `char::is_alphanumeric` by a table: the standard library searches for most characters beyond ASCII, which is slow in a
/// loop over a long text.
pub(crate) fn is_alphanumeric(c: char) -> bool {
    static TABLE: LazyLock<Vec<bool>> = LazyLock::new(|| {
        (0..0x3000).map(|code| char::from_u32(code).is_some_and(char::is_alphanumeric)).collect()
    });
    if c.is_ascii() {
        return c.is_ascii_alphanumeric();
    }
    TABLE.get(c as usize).copied().unwrap_or_else(|| c.is_alphanumeric())
}

/// The last `count` places of a pattern, in order. Only these are worth the slower engine that tells the groups of a match.
pub(crate) fn last_places<'a>(pattern: &Regex, text: &'a str, count: usize) -> Vec<regex::Match<'a>> {
    let all: Vec<_> = pattern.find_iter(text).collect();
    all[all.len().saturating_sub(count)..].to_vec()
}

/// The first `bytes` bytes of `text`, cut at a character boundary.
pub fn head(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_keep_characters_whole() {
        assert_eq!(tail("aé", 1), "");
        assert_eq!(tail("aé", 2), "é");
        assert_eq!(head("éa", 1), "");
        assert_eq!(head("éa", 9), "éa");
    }
}
