//! The words of languages: one table a language in `languages/`, compiled in, and the patterns that are made of them.
//!
//! A verifier asks for a key, such as `hedge`, and gets the phrases of all languages ([`Phrases`]), a pattern in which
//! the key is filled in ([`pattern`]), or the value of one word ([`value`]). `docs/languages.md` describes the tables.

mod phrases;
mod place;
mod table;

pub(crate) use self::phrases::{Phrases, is_dense};
pub(crate) use self::place::writes_comma;
use self::table::{Language, PATTERN};
pub(crate) use self::table::{entries, value};

use regex::Regex;

use super::cut::fixed;

/// Letters of any script, as cheaply as a pattern can say it.
const LETTERS: &str = r"(?-i:[A-Za-z\x{80}-\x{10FFFF}]*)";

/// A pattern that matches nowhere.
const NOTHING: &str = "(?-i:[a&&b])";

/// The edge of a word of ASCII letters; `__Answer__` has one, too.
const EDGE: &str = r"(?:\b|_)";

/// A phrase of a table as a pattern: `*` is any letters, `[…]` may be left out, `(…|…)` is one of several.
fn as_pattern(phrase: &str) -> String {
    let mut out = String::new();
    // Where a group begins or ends the phrase, its letters are of one kind.
    let is_plain = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if is_plain(phrase.trim_start_matches(['[', '(']).chars().next()) {
        out.push_str(EDGE);
    }
    for c in phrase.chars() {
        match c {
            '*' => out.push_str(LETTERS),
            '[' | '(' => out.push_str("(?:"),
            ']' => out.push_str(")?"),
            ')' | '|' => out.push(c),
            ' ' => out.push_str(r"\s+"),
            '\'' => out.push_str("['’]"),
            c => out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    if is_plain(phrase.trim_end_matches([']', ')']).chars().next_back()) {
        out.push_str(EDGE);
    }
    out
}

/// The alternatives of a key, the longest first.
fn alternatives<'a>(phrases: impl Iterator<Item = &'a str>) -> String {
    let mut list: Vec<&str> = phrases.collect();
    list.sort_by_key(|p| std::cmp::Reverse(p.len()));
    list.dedup();
    list.into_iter().map(as_pattern).collect::<Vec<_>>().join("|")
}

/// `template` with every `{key}` filled in by `fill`; none when a key has no words, but `{key?}` then matches nothing.
fn filled(template: &str, fill: impl Fn(&str) -> String) -> Option<String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        rest = &rest[open..];
        let name = rest[1..].split('}').next().unwrap_or("");
        let key = name.trim_end_matches('?');
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_lowercase()) {
            out.push('{');
            rest = &rest[1..];
            continue;
        }
        match fill(key) {
            words if !words.is_empty() => out.push_str(&words),
            _ if key.len() < name.len() => out.push_str(NOTHING),
            _ => return None,
        }
        rest = &rest[name.len() + 2..];
    }
    out.push_str(rest);
    Some(out)
}

/// `template` with every `{key}` filled in by the words of all languages.
pub(crate) fn pattern(template: &str) -> Regex {
    let fill = |key: &str| alternatives(entries(key).map(|e| e.phrase));
    fixed(&filled(template, fill).unwrap_or_else(|| panic!("a key of {template} has no words")))
}

fn of_language(template: &str, language: &Language) -> Option<String> {
    filled(template, |key| alternatives(language.of(key).iter().map(|e| e.phrase)))
}

/// `template` filled in once a language, as alternatives; a language without the words of a key is left out, and one with
/// patterns of its own under `own` has those instead.
pub(crate) fn each_language(template: &str, own: &str) -> String {
    let key = format!("{PATTERN}{own}");
    let list = table::languages().iter().flat_map(|language| match language.of(&key) {
        [] => of_language(template, language).into_iter().collect::<Vec<_>>(),
        lines => lines.iter().filter_map(|line| of_language(line.phrase, language)).collect(),
    });
    list.collect::<Vec<_>>().join("|")
}

#[cfg(test)]
mod tests;
