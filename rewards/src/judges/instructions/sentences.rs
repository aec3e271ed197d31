//! How many sentences a text has.
//!
//! A sentence ends in `.`, `!`, `?` or the signs of other scripts, before white space or the end, closing quotes and marks
//! aside. Abbreviations, initials, the numbers of a list and dots that trail off do not end one, and an abbreviation that
//! may stand last (`etc.`, `U.S.`) does before a capital.

use crate::answer::text;

/// Abbreviations behind which a sentence goes on.
const INNER: &[&str] = &[
    "e.g", "i.e", "eg", "ie", "cf", "vs", "viz", "mr", "mrs", "ms", "mx", "dr", "prof", "rev", "hon", "gen",
    "col", "sgt", "capt", "lt", "st", "mt", "ft", "messrs", "fig", "figs", "eq", "eqs", "sec", "ch", "vol",
    "pp", "approx", "ca", "resp", "z.b", "d.h", "u.a", "bzw", "ggf", "p.ex", "p.ej", "sra", "dra", "т.е",
    "напр", "др", "ул",
];
/// Abbreviations that may be the last word of a sentence.
const LAST: &[&str] = &[
    "etc", "al", "inc", "ltd", "co", "corp", "jr", "sr", "dept", "est", "a.m", "p.m", "b.c", "a.d", "ph.d",
    "m.d", "b.a", "m.a", "u.s", "u.k", "u.n", "e.u", "d.c", "jan", "feb", "mar", "apr", "aug", "sept", "sep",
    "oct", "nov", "dec", "usw", "т.д", "т.п",
];
/// Abbreviations only before a number.
const NUMBERED: &[&str] = &["no", "nos", "p", "art", "op", "nr", "abs"];

/// What closes a sentence behind its stop.
fn closes(c: char) -> bool {
    matches!(c, '"' | '\'' | ')' | ']' | '*' | '_' | '`' | '”' | '’' | '»' | '」' | '』' | '）')
}

/// Whether the dot behind `word` ends no sentence, with the text before the word and behind the dot; `first` where the
/// sentence begins with it.
fn goes_on(before: &str, word: &str, after: &str, first: bool) -> bool {
    let next = after.trim_start_matches(|c: char| c.is_whitespace() || closes(c) || matches!(c, '(' | '“'));
    let next = next.chars().next();
    let capital = next.is_none_or(|c| !c.is_lowercase() && !c.is_numeric());
    let line = text::tail(before, 256).rsplit('\n').next().unwrap_or("");
    let opens_line = first || !line.chars().any(char::is_alphanumeric);
    let bare = word.trim_start_matches(|c: char| !c.is_alphanumeric());
    let lower = bare.to_lowercase();
    let previous = before.trim_end().rsplit(char::is_whitespace).next().unwrap_or("");
    let letter = bare.chars().next().filter(|_| bare.chars().nth(1).is_none());
    match () {
        // "1." and "a." before an item of a list.
        () if opens_line && next.is_some() && bare.len() <= 3 && bare.chars().all(|c| c.is_ascii_digit()) => {
            true
        }
        () if opens_line && next.is_some() && letter.is_some_and(|c| c.is_ascii_alphabetic()) => true,
        // "wait... what"
        () if word.ends_with('.') => !capital,
        () if INNER.contains(&&*lower) => next.is_some(),
        () if NUMBERED.contains(&&*lower) => next.is_some_and(char::is_numeric),
        () if LAST.contains(&&*lower) => !capital,
        // "J. R. R. Tolkien", but "So do I. Then", "vitamin C. It".
        () if letter.is_some_and(char::is_uppercase) && bare != "I" && capital => {
            next.is_some() && previous.chars().next().is_none_or(char::is_uppercase)
        }
        // "z. B. so", "и т. д."
        () if letter.is_some() => {
            let one = previous.strip_suffix('.').is_some_and(|p| p.chars().count() == 1);
            after.trim_start().chars().nth(1) == Some('.') || one && !capital
        }
        () => false,
    }
}

/// The number of sentences; an unended rest is one, too.
pub(super) fn sentence_count(text: &str) -> usize {
    let (mut count, mut open) = (0, false);
    // Where the word at hand begins, and whether the sentence has a word before it.
    let (mut word, mut inside) = (0, false);
    for (at, c) in text.char_indices() {
        if c.is_whitespace() {
            word = at + c.len_utf8();
            inside = open;
        }
        let after = &text[at + c.len_utf8()..];
        let stop = match c {
            '。' | '！' | '？' | '।' | '؟' | '۔' | '։' | '።' | '។' | '။' => true,
            '!' | '?' => is_end(after),
            '.' => is_end(after) && !goes_on(&text[..word], &text[word..at], after, !inside),
            _ => false,
        };
        if stop {
            count += usize::from(open);
            (open, inside) = (false, false);
        } else {
            open |= c.is_alphanumeric();
        }
    }
    count + usize::from(open)
}

/// Whether a stop before `after` may end a sentence.
fn is_end(after: &str) -> bool {
    after.trim_start_matches(closes).chars().next().is_none_or(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::sentence_count;

    #[test]
    fn what_ends_a_sentence() {
        for (text, want) in [
            ("e.g. this one. And i.e. that.", 2),
            ("Dr. Smith met Mr. J. R. R. Tolkien. They talked.", 2),
            ("It is 3.5 m long, approx. 4. Good.", 2),
            ("We met at 5 p.m. Then we left.", 2),
            ("We met at 5 p.m. on Monday.", 1),
            ("He lives in the U.S. and in France, etc. but why?", 1),
            ("1. First do this.\n2. Then do that.", 2),
            ("a. First do this.\nB. Then do that.", 2),
            ("Wait... what? No... Never!", 3),
            ("So do I. Then take vitamin C. It helps.", 3),
            ("**Done.** (Really.) \"Yes.\" He left.", 4),
            ("one. two. three.", 3),
            ("See Fig. 3 and No. 5. No. Not that.", 3),
            ("第一句。第二句！第三句？", 3),
            ("यह पहला है। यह दूसरा है।", 2),
            ("Das ist z. B. so. Das ist d. h. gut.", 2),
            ("1. First item. 2. Second item.", 2),
            ("Hello", 1),
            ("...", 0),
            ("What?! Really!!", 2),
            ("", 0),
        ] {
            assert_eq!(sentence_count(text), want, "{text:?}");
        }
    }
}
