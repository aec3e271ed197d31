//! Text normalisation and the small patterns that several verifiers share.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};
use unicode_normalization::UnicodeNormalization;

use crate::words::Phrases;

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

/// Whether a character only marks an order of bytes or a direction of writing.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c as u32, 0xfeff | 0x200b | 0x200e | 0x200f | 0x202a..=0x202e | 0x2060..=0x2064 | 0x2066..=0x2069 | 0xad | 0x61c)
}

/// `text` without characters that only mark an order of bytes or a direction of writing.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    // Most texts have none, and all of them are beyond ASCII.
    if text.is_ascii() || !text.contains(is_invisible) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().filter(|c| !is_invisible(*c)).collect())
}

/// The first `bytes` bytes of `text`, cut at a character boundary.
pub fn head(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Comparison form of a short answer: NFKC, lower case, no Markdown or LaTeX wrapping, no punctuation around words, no
/// leading article, single spaces. Signs, decimal points and everything inside a word stay.
pub fn normalise(text: &str) -> String {
    static WRAP: LazyLock<Regex> = LazyLock::new(|| {
        fixed(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|boxed|operatorname)\s*\{")
    });
    let shown = visible(text);
    let unwrapped = WRAP.replace_all(&shown, "{");
    let folded: String = unwrapped.nfkc().collect::<String>().to_lowercase();
    let cleaned: String = (folded.chars())
        .map(|c| match c {
            '$' | '{' | '}' | '\\' | '*' | '`' | '"' | '“' | '”' | '_' | '~' => ' ',
            '’' | '‘' => '\'',
            '−' | '–' | '—' => '-',
            c => c,
        })
        .collect();
    let trim = |w: &str| -> String {
        let left = w.trim_start_matches([',', ';', ':', '!', '?', '\'', '(', '[', '。', '，']);
        left.trim_end_matches(['.', ',', ';', ':', '!', '?', '\'', ')', ']', '。', '，']).to_string()
    };
    let mut words: Vec<String> = cleaned.split_whitespace().map(trim).filter(|w| !w.is_empty()).collect();
    static ARTICLE: LazyLock<HashSet<&str>> =
        LazyLock::new(|| crate::words::entries("leading").map(|e| e.phrase).collect());
    if words.len() > 1 && ARTICLE.contains(&*words[0]) {
        words.remove(0);
    }
    words.join(" ")
}

/// Whether an answer is only a guess or leaves several answers open.
pub fn is_hedged(text: &str) -> bool {
    static HEDGE: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["hedge", "guess", "among"]));
    text.contains('?') || HEDGE.hold(text)
}

/// The same for a number: "between 3 and 5" leaves it open, but "the distance between A and B is 5" does not.
pub(crate) fn is_open_number(text: &str) -> bool {
    static HEDGE: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["hedge", "guess"]));
    static AMONG: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["among"]));
    let number = |(_, end): (usize, usize)| {
        let next = text[end..].trim_start_matches(|c: char| c.is_whitespace() || "$\\(*".contains(c));
        next.starts_with(|c: char| c.is_numeric() || matches!(c, '-' | '−' | '.'))
    };
    text.contains('?') || HEDGE.hold(text) || AMONG.places(text).any(number)
}

/// Whether a clause denies what follows: "not 42", "isn't 42", "cannot be 42".
pub fn is_negated(text: &str) -> bool {
    after_not(text).is_some()
}

/// Whether a clause ends in words that deny what stands before them: "5ではない".
pub(crate) fn is_denied_behind(text: &str) -> bool {
    static DENIED: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["denied"]));
    DENIED
        .places(text)
        .any(|(start, _)| text[..start].chars().any(|c| c.is_alphanumeric() && !crate::words::is_dense(c)))
}

/// What follows a denial at the beginning of a clause.
pub(crate) fn after_not(text: &str) -> Option<&str> {
    static NOT: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["not"]));
    let mut rest = text;
    for _ in 0..3 {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || "$*(\\[:".contains(c));
        if let Some(end) = NOT.opening(rest) {
            // Alone it is the answer "no".
            return Some(&rest[end..]).filter(|r| r.chars().any(char::is_alphanumeric));
        }
        rest = &rest[ADVERB.opening(rest)?..];
    }
    None
}

/// Words that change nothing in what a clause states.
static ADVERB: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["indeed"]));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalisation() {
        let check = |a: &str, b: &str| assert_eq!(normalise(a), b, "{a:?}");
        check(" The  Mitral Valve. ", "mitral valve");
        check("**Paris**", "paris");
        check("$\\text{Evelyn}$", "evelyn");
        check("Ｐａｒｉｓ", "paris");
        check("-3.5", "-3.5");
        check("−3.5.", "-3.5");
        check("(Paris)", "paris");
        check("the", "the");
        check("", "");
    }

    #[test]
    fn cuts_keep_characters_whole() {
        assert_eq!(tail("aé", 1), "");
        assert_eq!(tail("aé", 2), "é");
        assert_eq!(head("éa", 1), "");
        assert_eq!(head("éa", 9), "éa");
    }

    #[test]
    fn hedges_and_negations() {
        for hedged in ["probably 42", "either 4 or 5", "42?"] {
            assert!(is_hedged(hedged), "{hedged}");
        }
        assert!(!is_hedged("42"));
        assert!(is_negated("not 42"));
        assert!(!is_negated("42, not 43"));
    }
}
