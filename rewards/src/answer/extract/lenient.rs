//! Lenient extraction, for evaluations: the last number or formula of a reply in which nothing marks an answer.
//!
//! Sentences are read from the last one backwards. Questions, suppositions and sentences without a number are passed over;
//! one that leaves its number open, bounds or denies it ends the search, and so does a retraction behind it. The main clause
//! of a condition counts where it concludes or works something out.
//!
//! | reply | answer |
//! |---|---|
//! | `6 times 7 is 42, so 42 apples are left over for all of them.` | `42` |
//! | `We get\n\[ x = 42 \]\nDo you want a check for $x = 41$?` | `\[ x = 42 \]` |
//! | `So we have 3 + 39 = 42 of them and $n$ is found.` | `42` |
//! | `There are 2 and 3 left.` | `2 and 3` |
//! | `If 20 leave, then 54 - 20 = 34 remain.` | `34` |
//! | `Then $c = 14$, and $a = 14 \cdot 6 = 84$` | `$a = 14 \cdot 6 = 84$`, of which [`last_side`](super::last_side) is `84` |
//! | `It might be 42.` · `It is not 42.` · `There are more than 42.` | none |

use std::sync::LazyLock;

use regex::Regex;

use super::side::is_display;
use super::{Missing, is_retracted};
use crate::answer::text::{self, fixed};
use crate::answer::words::{self, Phrases};

/// Bytes at the end of a reply, and sentences there, that are read.
const BYTES: usize = 8 * 1024;
const SENTENCES: usize = 32;
/// Bytes of a sentence that are read, from its end.
const SENTENCE: usize = 2 * 1024;
/// Bytes of one formula.
const FORMULA: usize = 1024;

/// Objects that are joined to one.
const JOINED: usize = 64;
/// Signs between two terms.
const OPERATORS: [char; 15] = ['+', '-', '−', '–', '*', '×', '·', '/', '÷', '=', '^', '<', '>', '≤', '≥'];

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
    if body[at..].starts_with("\\begin{") {
        let rest = text::head(&body[at..], SENTENCE);
        let name = rest[7..].split('}').next().filter(|name| is_display(name))?;
        let close = format!("\\end{{{name}}}");
        return rest.find(&close).map(|end| at + end + close.len());
    }
    let (open, close) = [("\\[", "\\]"), ("\\(", "\\)"), ("$$", "$$"), ("$", "$")]
        .into_iter()
        .find(|(open, _)| rest.starts_with(open))?;
    let inner = &rest[open.len()..];
    let mut end = inner.find(close)?;
    // `$\$18$` holds a dollar sign.
    while open == "$" && inner[..end].ends_with('\\') {
        end += 1 + inner[end + 1..].find(close)?;
    }
    // Two prices are no formula, nor what stands between those of "$99-$72=$27".
    let priced = inner.starts_with(|c: char| c.is_ascii_digit()) && inner[..end].ends_with(OPERATORS);
    let prices = open == "$" && (inner[..end].ends_with(' ') || inner[..end].contains('\n') || priced);
    (!prices && end > 0).then_some(at + open.len() + end + close.len())
}

/// Whether a stop behind a word ends no sentence.
pub(super) fn is_abbreviation(word: &str) -> bool {
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

/// A line of a calculation whose environment is cut off: `&= 2 + 3 = 5.`
fn display_row(sentence: &str, formulas: &[(usize, usize)]) -> Option<(usize, usize)> {
    let (start, line) = (sentence.len() - sentence.trim_start().len(), sentence.trim());
    let aligned = line.starts_with('&') || line.contains("&=");
    (formulas.is_empty() && aligned && line.contains(|c: char| c.is_ascii_digit()))
        .then_some((start, start + line.len()))
}

/// Numbers and formulas of a sentence, as byte ranges.
fn objects(sentence: &str) -> Vec<(usize, usize)> {
    static RUN: LazyLock<Regex> = LazyLock::new(|| {
        let operator = r"(?:[-−–+*×·/÷=^≈<>≤≥]|\\times|\\cdot|\\div|\\approx)";
        let piece = r"[-−]?\\?[$€£¥₹₽]?[-−]?(?:\d{1,3}(?: \d{3})+\b|\d[\d,.]*|\.\d+|\\(?:d?frac|sqrt|pi|infty)\b)(?::\d+)*[^\s,;:!?()，。、；：！？]*";
        let letter = r"\b[A-Za-z](?:\([a-z]\)|\^\{?\w{1,3}\}?)?";
        // "6 x 8".
        let operator = format!(r"(?:\s?{operator}\s?|\s[xX]\s)");
        fixed(&format!(
            r"(?:{letter}{operator})*{piece}(?:{operator}(?:{piece}|{letter}|\([^()\n]{{1,40}}\)))*"
        ))
    });
    let formulas = formulas(sentence);
    if let Some(row) = display_row(sentence, &formulas) {
        return vec![row];
    }
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
        fixed(r"^(?:\$|\\\()\s*\\?[A-Za-z]{1,8}(?:_\{?\w{1,3}\}?)?(?:\([a-z]\))?\s*[.,;]?\s*(?:\$|\\\))$")
    });
    NAME.is_match(object)
}

fn stated(sentence: &str) -> Stated<'_> {
    static BOUND: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["bound", "minus"]));
    static AMONG: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["among"]));
    static SCALE: LazyLock<Regex> =
        LazyLock::new(|| words::pattern(r"(?i)^\s?(?:{magnitude}|{denominator}|{behind}|%|‰|!)"));
    let sentence = text::tail(sentence, SENTENCE);
    let all = objects(sentence);
    let Some(last) = all.iter().rposition(|(start, end)| !is_name(&sentence[*start..*end])) else {
        return Stated::Nothing;
    };
    let (mut start, mut end) = all[last];
    if is_supposed(sentence, start, &sentence[start..end]) {
        return Stated::Nothing;
    }
    if is_guess(sentence) {
        return Stated::Open;
    }
    // "2 and 3", "(2, 3)" are one object.
    for (before, to) in all[..last].iter().rev().take(JOINED) {
        if !joins(&sentence[*to..start]) {
            break;
        }
        if is_followed_by(&sentence[*before..*to], &sentence[*to..end]) {
            if AMONG.hold(text::tail(&sentence[..*before], 24)) {
                return Stated::Open;
            }
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
    let operator = |c: char| OPERATORS.contains(&c) || c == ')';
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
    let joined = start < all[last].0;
    if let Some(at) = result
        && !joined
        && formula_end(sentence, start).is_none()
        && display_row(sentence, &[]).is_none()
        && !is_named(object)
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

/// Whether a plain equation has a single letter on its left: `y = 2x + 3`.
fn is_named(equation: &str) -> bool {
    static NAME: LazyLock<Regex> =
        LazyLock::new(|| fixed(r"^[A-Za-z](?:_\{?\w{1,3}\}?)?(?:\([A-Za-z]\))?\s*[=≈]"));
    NAME.is_match(equation)
}

/// Whether an object is only supposed: it stands in a condition, or in a main clause that neither concludes nor works
/// it out ("If he had 5 more, he would have 50").
fn is_supposed(sentence: &str, start: usize, object: &str) -> bool {
    static SUPPOSED: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["condition", "when"]));
    static WHEN: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["when"]));
    static SO: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["so"]));
    let words = sentence.trim_start_matches(|c: char| !c.is_alphanumeric());
    let Some(lead) = SUPPOSED.opening(words) else { return false };
    let from = sentence.len() - words.len() + lead;
    if WHEN.opening(words).is_none() || start < from {
        return true;
    }
    let before = &sentence[from..start];
    let concludes = SO.hold(before);
    let equals = object.contains(['=', '≈']) || before.trim_end().ends_with(['=', '≈']);
    let calculates = equals && parted(before);
    !concludes && !calculates
}

/// Whether a comma outside of formulas and numbers ends a clause of `text`.
fn parted(text: &str) -> bool {
    let formulas = formulas(text);
    text.match_indices([',', '，', '、']).any(|(at, comma)| {
        let spaced = comma != "," || text[at + 1..].starts_with(char::is_whitespace);
        spaced && !formulas.iter().any(|(start, end)| (*start..*end).contains(&at))
    })
}

/// Whether a statement is another one than that before it, which only leads to it: "$c = 14,$ and $a = 14 · 36 = 504$",
/// but not "$x = 1$ or $x = 2$" and "$x = 3$ and $y = 2$". `after` begins with what stands between them.
fn is_followed_by(earlier: &str, after: &str) -> bool {
    static OR: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["or"]));
    let bare =
        |part: &'_ str| part.trim_matches(|c: char| c.is_whitespace() || "$\\([.,".contains(c)).to_string();
    let name = |part: &str| part.split(['=', '≈']).next().map(bare).unwrap_or_default();
    let opening = after.find(|c: char| c.is_ascii_digit() || "$\\".contains(c)).unwrap_or(0);
    let (gap, later) = after.split_at(opening);
    let signs = |part: &str| part.matches(['=', '≈']).count() + part.matches("\\approx").count();
    let plain = |part: &str| {
        let letters = name(part);
        let short = letters.trim_start_matches('\\').split(['_', '(']).next().map_or(0, str::len);
        signs(part) == 1 && (1..=2).contains(&short) && letters.starts_with(|c: char| c.is_alphabetic())
    };
    if signs(later) == 0 || name(earlier) == name(later) {
        return false;
    }
    // "Out of the 200, 200 · 4/5 = 160."
    if signs(earlier) == 0 {
        let related = ["<", ">", "≤", "≥", "\\le", "\\ge", "\\in"].iter().any(|sign| earlier.contains(sign));
        return !related && gap.trim() == ",";
    }
    match OR.hold(gap) {
        true => !plain(earlier) && plain(later),
        // "p = 3 and p + q = 8".
        false => !plain(earlier) || signs(later) > 1 || is_sum(&name(later)),
    }
}

/// Whether an expression is a sum of names only.
fn is_sum(expression: &str) -> bool {
    expression.contains(['+', '-', '−']) && !expression.contains(|c: char| c.is_ascii_digit())
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
    static LEAVES: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["exclude"]));
    let places = NOT.places(before).chain(CONTRACTED.find_iter(before).map(|m| (m.start(), m.end())));
    let Some((start, end)) = places.max_by_key(|(_, end)| *end) else { return false };
    let rest = &before[end..];
    // "Without regard to order in … ways" leaves out the order.
    let leaves = LEAVES.opening(&before[start..end]).is_some();
    let near = !leaves || rest.split_whitespace().count() <= 3;
    rest.len() <= 30 && near && !rest.contains([',', ';', ':', '.', '，', '；', '：'])
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
