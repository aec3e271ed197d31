//! Lenient extraction, for evaluations: the last number or formula of a reply in which nothing marks an answer.
//!
//! Sentences are read from the last one backwards. Questions, suppositions and sentences without a number are passed over;
//! one that leaves its number open, bounds or denies it ends the search, and so does a retraction behind it.
//!
//! | reply | answer |
//! |---|---|
//! | `6 times 7 is 42, so 42 apples are left over for all of them.` | `42` |
//! | `We get\n\[ x = 42 \]\nDo you want a check for $x = 41$?` | `\[ x = 42 \]` |
//! | `So we have 3 + 39 = 42 of them and $n$ is found.` | `42` |
//! | `There are 2 and 3 left.` | `2 and 3` |
//! | `It might be 42.` · `It is not 42.` · `There are more than 42.` | none |

use std::sync::LazyLock;

use regex::Regex;

use super::{Missing, is_retracted};
use crate::text::{self, fixed};
use crate::words::{self, Phrases};

/// Bytes at the end of a reply, and sentences there, that are read.
const BYTES: usize = 8 * 1024;
const SENTENCES: usize = 32;
/// Bytes of a sentence that are read, from its end.
const SENTENCE: usize = 2 * 1024;
/// Bytes of one formula.
const FORMULA: usize = 1024;

/// What a sentence states.
#[derive(Debug, PartialEq)]
enum Stated<'a> {
    /// No number, or none that is claimed.
    Nothing,
    /// A number that is left open.
    Open,
    Denied,
    Object(&'a str),
}

/// The last number or formula that `body` states.
///
/// # Errors
/// Why there is none.
pub(super) fn last(body: &str) -> Result<&str, Missing> {
    for sentence in last_sentences(body) {
        match stated(unlisted(sentence)) {
            Stated::Nothing => {}
            Stated::Open => return Err(Missing::NotFound),
            Stated::Denied => return Err(Missing::Negated),
            Stated::Object(object) => {
                let end = object.as_ptr() as usize - body.as_ptr() as usize + object.len();
                return if is_retracted(&body[end..]) { Err(Missing::Retracted) } else { Ok(object) };
            }
        }
    }
    Err(Missing::NotFound)
}

/// The sentences at the end of `body` that are no questions, the last one first.
pub(crate) fn last_sentences(body: &str) -> impl Iterator<Item = &str> {
    let body = text::tail(body, BYTES);
    let all = sentences(body).into_iter().rev().map(|(start, end)| body[start..end].trim());
    let marks = |c: char| matches!(c, '*' | '"' | '”' | ')' | '_');
    all.filter(move |s| !s.is_empty() && !s.trim_end_matches(marks).ends_with(['?', '？', '؟']))
        .take(SENTENCES)
}

/// A sentence without the mark of a list or the number of a step.
fn unlisted(sentence: &str) -> &str {
    static MARK: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(
            r"(?i)^[\s#*>•_-]*(?:[(\[]?\d{1,2}(?:[.):\]](?:\s+|$)|\*\*)|(?:{label})\s+\d{1,2}[.:)]?\**(?:\s+|$))[\s*_:-]*",
        )
    });
    MARK.find(sentence).map_or(sentence, |m| &sentence[m.end()..])
}

/// The end of the formula that begins at byte `at`.
fn formula_end(body: &str, at: usize) -> Option<usize> {
    let rest = text::head(&body[at..], FORMULA);
    let (open, close) = [("\\[", "\\]"), ("\\(", "\\)"), ("$$", "$$"), ("$", "$")]
        .into_iter()
        .find(|(open, _)| rest.starts_with(open))?;
    let inner = &rest[open.len()..];
    let mut end = inner.find(close)?;
    // `$\$18$` holds a dollar sign.
    while open == "$" && inner[..end].ends_with('\\') {
        end += 1 + inner[end + 1..].find(close)?;
    }
    // Two prices are no formula.
    let prices = open == "$" && (inner[..end].ends_with(' ') || inner[..end].contains('\n'));
    (!prices && end > 0).then_some(at + open.len() + end + close.len())
}

/// Whether a stop behind a word ends no sentence.
fn is_abbreviation(word: &str) -> bool {
    let lower = word.to_lowercase();
    words::entries("abbreviation").any(|e| e.phrase == lower)
}

/// The sentences as byte ranges; a stop inside of a formula, a number or an abbreviation ends none.
fn sentences(body: &str) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let (mut start, mut skip) = (0, 0);
    for (at, c) in body.char_indices() {
        if at < skip {
            continue;
        }
        let escaped = body[..at].ends_with('\\');
        if (c == '$' && !escaped || c == '\\')
            && let Some(end) = formula_end(body, at)
        {
            skip = end;
            continue;
        }
        let end = at + c.len_utf8();
        let next = body[end..].chars().next();
        let spaced = next.is_none_or(|n| n.is_whitespace() || matches!(n, '*' | '"' | '”' | ')'));
        let stop = match c {
            '\n' | '。' | '！' | '？' | '؟' | '।' => true,
            '!' | '?' => spaced,
            '.' => {
                let word = text::tail(&body[start..at], 16).rsplit(char::is_whitespace).next().unwrap_or("");
                let opens = at - start <= 8 && body[start..at].trim() == word && word.len() <= 3;
                spaced && !opens && !is_abbreviation(word)
            }
            _ => false,
        };
        if stop {
            out.push((start, end));
            start = end;
        }
    }
    out.push((start, body.len()));
    out
}

/// The formulas of a sentence, as byte ranges.
fn formulas(sentence: &str) -> Vec<(usize, usize)> {
    let mut out: Vec<(usize, usize)> = Vec::new();
    for (at, _) in sentence.match_indices(['$', '\\']) {
        let inside = out.last().is_some_and(|(_, end)| at < *end);
        if !inside
            && !sentence[..at].ends_with('\\')
            && let Some(end) = formula_end(sentence, at)
        {
            out.push((at, end));
        }
    }
    out
}

/// Numbers and formulas of a sentence, as byte ranges.
fn objects(sentence: &str) -> Vec<(usize, usize)> {
    static RUN: LazyLock<Regex> = LazyLock::new(|| {
        let operator = r"(?:[-−–+*×·/÷=^≈<>≤≥]|\\times|\\cdot|\\div|\\approx)";
        let piece = r"[-−]?\\?[$€£¥₹₽]?[-−]?(?:\d[\d,.]*|\.\d+|\\(?:d?frac|sqrt|pi|infty)\b)(?::\d+)*[^\s,;:!?()，。、；：！？]*";
        let letter = r"\b[A-Za-z](?:\([a-z]\)|\^\{?\w{1,3}\}?)?";
        fixed(&format!(
            r"(?:{letter}\s?{operator}\s?)*{piece}(?:\s?{operator}\s?(?:{piece}|{letter}|\([^()\n]{{1,40}}\)))*"
        ))
    });
    let formulas = formulas(sentence);
    let mut out: Vec<(usize, usize)> = Vec::new();
    let mut at = 0;
    while at < sentence.len() {
        let run = RUN.find_at(sentence, at).map(|m| (m.start(), m.end()));
        let formula = formulas.iter().find(|(start, _)| *start >= at).copied();
        let (start, end) = match (run, formula) {
            (Some(run), Some(formula)) => {
                if run.0 < formula.0 {
                    run
                } else {
                    formula
                }
            }
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => break,
        };
        at = end.max(start + 1);
        let trimmed = sentence[start..end].trim_end_matches(['.', ',', '*', '"', '”', '_', '`']).len();
        // "B12" and "COVID-19" are names.
        let before = sentence[..start].chars().next_back();
        if trimmed > 0 && !before.is_some_and(|c| c.is_alphanumeric() && c.is_ascii() || c == '_') {
            out.push((start, start + trimmed));
        }
    }
    out
}

/// `$n$`, `\(x_1\)`: a letter that names what is asked for.
fn is_name(object: &str) -> bool {
    static NAME: LazyLock<Regex> = LazyLock::new(|| {
        fixed(r"^(?:\$|\\\()\s*\\?[A-Za-z]{1,8}(?:_\{?\w{1,3}\}?)?(?:\([a-z]\))?\s*(?:\$|\\\))$")
    });
    NAME.is_match(object)
}

fn stated(sentence: &str) -> Stated<'_> {
    static SUPPOSED: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["condition"]));
    static BOUND: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["bound", "minus"]));
    static SCALE: LazyLock<Regex> =
        LazyLock::new(|| words::pattern(r"(?i)^\s?(?:{magnitude}|{denominator}|{behind}|%|‰|!)"));
    let sentence = text::tail(sentence, SENTENCE);
    let all = objects(sentence);
    let Some(last) = all.iter().rposition(|(start, end)| !is_name(&sentence[*start..*end])) else {
        return Stated::Nothing;
    };
    let words = sentence.trim_start_matches(|c: char| !c.is_alphanumeric());
    if SUPPOSED.opening(words).is_some() {
        return Stated::Nothing;
    }
    if is_guess(sentence) {
        return Stated::Open;
    }
    let (mut start, mut end) = all[last];
    // "2 and 3", "(2, 3)" are one object.
    for (before, to) in all[..last].iter().rev() {
        if !joins(&sentence[*to..start]) {
            break;
        }
        start = *before;
    }
    let enclosed = sentence[..start].ends_with(['(', '[']) && sentence[end..].starts_with([')', ']']);
    if enclosed && start < all[last].0 {
        (start, end) = (start - 1, end + 1);
    }
    let before = text::tail(&sentence[..start], 64);
    if is_denied(before) {
        return Stated::Denied;
    }
    let operator = |c: char| "+-−–*×·/÷=^<>≤≥)".contains(c);
    let object = &sentence[start..end];
    let result =
        object.rfind(['=', '≈']).map(|at| at + object[at..].chars().next().map_or(1, char::len_utf8));
    let cut = before.trim_end().ends_with(operator) && !before.trim_end().ends_with('=') && result.is_none();
    let opening = |c: char| c.is_whitespace() || matches!(c, '$' | '(' | '*');
    if BOUND.closing(before.trim_end_matches(opening)).is_some()
        || cut
        || sentence[end..].trim_start().starts_with(operator) && !enclosed
    {
        return Stated::Open;
    }
    // The right side of a calculation; a name on the left stays.
    if let Some(at) = result
        && !object.starts_with(['$', '\\'])
        && object[..at].chars().filter(|c| c.is_alphanumeric()).nth(1).is_some()
    {
        start += at;
    }
    if let Some(scale) = SCALE.find(&sentence[end..]) {
        end += scale.end();
    }
    match sentence[start..end].trim() {
        "" => Stated::Open,
        object => Stated::Object(object),
    }
}

/// Whether a sentence leaves open what it says. Words such as "all of them" hedge an answer and not a whole sentence.
fn is_guess(sentence: &str) -> bool {
    static GUESS: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["guess", "maybe", "unsure"]));
    sentence.contains('?') || GUESS.hold(sentence)
}

/// Whether the words before an object deny it.
fn is_denied(before: &str) -> bool {
    static NOT: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["not", "exclude"]));
    static CONTRACTED: LazyLock<Regex> = LazyLock::new(|| fixed(r"(?i)n['’]t\b"));
    let place =
        NOT.places(before).map(|(_, end)| end).chain(CONTRACTED.find_iter(before).map(|m| m.end())).max();
    place.is_some_and(|end| before.len() - end <= 30 && !before[end..].contains([',', ';', '.', '，', '；']))
}

/// Whether only a comma or a word such as "and" stands between two objects.
fn joins(gap: &str) -> bool {
    static JOIN: LazyLock<Regex> =
        LazyLock::new(|| words::pattern(r"(?i)^\s*(?:[,、，;]\s*)?(?:(?:{and}|{or}|{range})\s*)?$"));
    gap.len() <= 24 && !gap.trim().is_empty() && JOIN.is_match(gap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_last() {
        for (reply, want) in [
            ("6 times 7 is 42, so 42 apples are left over for all of them.", Ok("42")),
            ("We get\n\\[ x = 42 \\]\nDo you want a check for $x = 41$?", Ok("\\[ x = 42 \\]")),
            ("So we have 3 + 39 = 42 of them and $n$ is found.", Ok("42")),
            ("There are 2 and 3 left.", Ok("2 and 3")),
            ("It lies at (2, 3) then.", Ok("(2, 3)")),
            ("We find y = 2x + 3 for it.", Ok("y = 2x + 3")),
            ("That makes $460 for them.", Ok("$460")),
            ("It cost \\$1,460.50 in all.", Ok("\\$1,460.50")),
            ("That is 42 percent of it.", Ok("42 percent")),
            ("一共有12个苹果。", Ok("12个苹果")),
            ("1. Add them.\n2. So 42 are left.", Ok("42")),
            ("So 42 are left.\n\nStep 3", Ok("42")),
            ("It is 42. Is it 41?", Ok("42")),
            ("The ratio is 3:2 then", Ok("3:2")),
            ("It might be 42.", Err(Missing::NotFound)),
            ("It is not 42.", Err(Missing::Negated)),
            ("There are more than 42.", Err(Missing::NotFound)),
            ("He lacks B12 now.", Err(Missing::NotFound)),
            ("We look for $x$ now.", Err(Missing::NotFound)),
            ("It is (3 + 5) * 2", Err(Missing::NotFound)),
            ("So it is 3 + 86 =", Err(Missing::NotFound)),
            ("If it were 42, we would be done.", Err(Missing::NotFound)),
            ("So 42 are left. Scratch that, it was wrong.", Err(Missing::Retracted)),
            ("", Err(Missing::NotFound)),
        ] {
            assert_eq!(last(reply), want, "{reply:?}");
        }
    }
}
