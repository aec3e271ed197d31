//! Text normalisation and the small patterns that several verifiers share.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::UnicodeNormalization;

pub(crate) use super::cut::{fixed, is_alphanumeric, last_places};
pub use super::cut::{head, tail};
use super::words::Phrases;

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
        LazyLock::new(|| crate::answer::words::entries("leading").map(|e| e.phrase).collect());
    if words.len() > 1 && ARTICLE.contains(&*words[0]) {
        words.remove(0);
    }
    words.join(" ")
}

/// Whether byte `at` stands within a word: what begins there is only the end of it, as in "неправильный".
pub(crate) fn is_within_word(text: &str, at: usize) -> bool {
    let letter = |c: Option<char>| c.is_some_and(|c| c.is_alphabetic() && !super::words::is_dense(c));
    letter(text[..at].chars().next_back()) && letter(text[at..].chars().next())
}

/// What ends a question in any script.
const QUESTION: [char; 3] = ['?', '？', '؟'];

/// Whether an answer is only a guess or leaves several answers open.
pub fn is_hedged(text: &str) -> bool {
    static HEDGE: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["hedge", "guess", "among"]));
    text.contains(QUESTION) || HEDGE.hold(text)
}

/// The same for a number: "between 3 and 5" leaves it open, but "the distance between A and B is 5" does not.
pub(crate) fn is_open_number(text: &str) -> bool {
    static HEDGE: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["hedge", "guess"]));
    static AMONG: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["among"]));
    let number = |(_, end): (usize, usize)| {
        let next = text[end..].trim_start_matches(|c: char| c.is_whitespace() || "$\\(*".contains(c));
        next.starts_with(|c: char| c.is_numeric() || matches!(c, '-' | '−' | '.'))
    };
    text.contains(QUESTION) || HEDGE.hold(text) || AMONG.places(text).any(number)
}

/// Whether a clause denies what follows: "not 42", "isn't 42", "cannot be 42".
pub fn is_negated(text: &str) -> bool {
    after_not(text).is_some()
}

/// Whether a clause ends in words that deny what stands before them: "5ではない".
pub(crate) fn is_denied_behind(text: &str) -> bool {
    static DENIED: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["denied"]));
    DENIED.places(text).any(|(start, _)| {
        text[..start].chars().any(|c| c.is_alphanumeric() && !crate::answer::words::is_dense(c))
    })
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
    fn hedges_and_negations() {
        for hedged in ["probably 42", "either 4 or 5", "42?"] {
            assert!(is_hedged(hedged), "{hedged}");
        }
        assert!(!is_hedged("42"));
        assert!(is_negated("not 42"));
        assert!(!is_negated("42, not 43"));
    }
}
