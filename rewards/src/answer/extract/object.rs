//! The mathematical object of a sentence: what `Janet makes 18 dollars every day` gives as its answer.
//!
//! | sentence | object |
//! |---|---|
//! | `Janet makes 18 dollars every day.` | `18 dollars` |
//! | `The volume of $ABCD$ is 120` | `120`: what follows the verb |
//! | `The train goes 240 miles in 4 hours` | `240 miles`: the rest is a circumstance |
//! | `It is not 42, it is 43` | `43` |
//! | `He has 5 red and 3 blue balls` | none: which of them is not said |
//! | `18 dollars`, `x = 5 and more`, `Paris` | none: no sentence around an object |

use std::sync::LazyLock;

use regex::Regex;

use crate::answer::text::{self, fixed};
use crate::answer::words::{self, Phrases};

/// Objects of one sentence that are looked at.
const MAX_OBJECTS: usize = 32;

/// A formula in its delimiters, a command, a number with what is attached to it, an equation of a letter; with more of
/// them behind operators.
static OBJECT: LazyLock<Regex> = LazyLock::new(|| objects_with(true));

/// The same where a dollar sign is a currency: "$18 and $20".
static PLAIN: LazyLock<Regex> = LazyLock::new(|| objects_with(false));

fn objects_with(dollars: bool) -> Regex {
    let formula = r"\$\$[^$]+\$\$|\\\((?:[^\\]|\\[^)])+\\\)|\\\[(?:[^\\]|\\[^\]])+\\\]|\$(?:[^$\n\\]|\\.)+\$";
    let formula = if dollars { formula } else { r"\\\((?:[^\\]|\\[^)])+\\\)" };
    // A point, an interval, a set.
    let group = r"\\?[\[({](?:[^()\[\]{}\n]|\([^()\n]*\)|\{[^{}\n]*\})*[\])}]";
    let number = r"[-−+±]?(?:\\?[$€£¥₹₽]\s?)?[-−]?(?:\d|\.\d)[^\s，。、；！？\x{0E00}-\x{0E7F}\x{3040}-\x{30FF}\x{3400}-\x{9FFF}\x{AC00}-\x{D7A3}]*";
    let command =
        r"[-−]?\d*\\(?:d?frac|tfrac|sqrt|pi|infty|boxed|binom|log|ln|sin|cos|tan)[^\s，。、；！？]*";
    let letter = r"[A-Za-z](?:_\{?\w{1,3}\}?|\([A-Za-z]\))?\s*(?:=|<|>|≤|≥|\\le|\\ge|\\lt|\\gt)\s*\S+";
    let one = format!("(?:{formula}|{command}|{group}|{letter}|{number})");
    fixed(&format!(
        r"{one}(?:\s*(?:[-+*/=×÷·^<>≤≥≈−–]|\\times|\\cdot|\\div|\\pm)\s*(?:{one}|[a-z]\b|[(]\S+))*"
    ))
}

/// An object with its place.
struct Object {
    start: usize,
    end: usize,
    /// Whether it is a mere name, as `$n$` and `$ABCD$`.
    name: bool,
}

/// The only object that `span`, a sentence, gives as an answer; none when `span` is no sentence or does not say which.
pub fn object(span: &str) -> Option<&str> {
    let span = span.trim();
    if span.len() > 1024 || text::is_open_number(span) {
        return None;
    }
    if !is_sentence(span) {
        return named_value(span);
    }
    // "If she had 18, …"
    static CONDITION: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["condition"]));
    if CONDITION.opening(span).is_some() {
        return None;
    }
    let span = span[main_clause(span)..].trim_start();
    let found = objects(span);
    let mut kept: Vec<&Object> = Vec::new();
    let mut aside: Vec<&Object> = Vec::new();
    let mut linked: Vec<usize> = Vec::new();
    let mut from = 0;
    for object in &found {
        let gap = &span[from..object.start];
        from = object.end;
        // "(2 packs)" is an aside.
        let before = &span[..object.start];
        if before.matches('(').count() > before.matches(')').count() {
            continue;
        }
        let linking = LINK.closing(gap.trim_end()).is_some();
        if is_denied(gap) || object.name && !linking || LABEL.closing(gap.trim_end()).is_some() {
            continue;
        }
        // A price is what something is sold for.
        if is_circumstance(gap) && !is_price(&span[object.start..object.end]) {
            aside.push(object);
            continue;
        }
        if kept.is_empty() && !aside.is_empty() && ends_range(gap) {
            return None;
        }
        if linking || is_linked(gap) {
            linked.push(kept.len());
        }
        kept.push(object);
    }
    // "They meet after 45 minutes" gives no other quantity, so the circumstance is what was asked for.
    if let ([], [only]) = (kept.as_slice(), aside.as_slice())
        && found.len() == 1
        && !has_quantity(span, only)
    {
        kept.push(only);
    }
    // What is linked is the answer, unless more follows ("is 18 dollars and 5 cents").
    let one = match (kept.as_slice(), linked.as_slice()) {
        ([one], _) => *one,
        (all, [only]) if only + 1 == all.len() => all[*only],
        _ => return None,
    };
    if is_bounded(&span[..one.start]) {
        return None;
    }
    let end = one.end + tail(&span[one.end..]);
    Some(span[one.start..end].trim().trim_end_matches(['.', '。', ',', '，', '!', ';']))
}

/// `$n = 5$` of "$n = 5$ works": a named value, then words that change nothing.
fn named_value(span: &str) -> Option<&str> {
    static CHANGES: LazyLock<Phrases> = LazyLock::new(|| {
        Phrases::of(&[
            "bound",
            "between",
            "not",
            "wrong",
            "exclude",
            "condition",
            "but",
            "or",
            "than",
            "doubt",
            "deny",
            "retract",
            "open",
        ])
    });
    let first = OBJECT.find(span).filter(|m| m.start() == 0)?;
    let rest = &span[first.end()..];
    let words = rest.starts_with(' ') && !rest.contains(|c: char| c.is_numeric() || matches!(c, '$' | '\\'));
    let delimited = first.as_str().starts_with('$') && first.as_str().ends_with('$');
    (delimited && first.as_str().contains('=') && words && !CHANGES.hold(rest)).then(|| first.as_str())
}

/// Whether words come first.
pub(super) fn is_sentence(span: &str) -> bool {
    let start = span
        .trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '*' | '_' | '"' | '“' | ':' | '：'));
    let word: String = start.chars().take_while(|c| c.is_alphabetic() || matches!(c, '\'' | '’')).collect();
    let dense = word.chars().next().is_some_and(words::is_dense);
    let next = &start[word.len()..];
    let after = next.trim_start();
    // "x = 5" and "f(x) = 2" are objects, "seven" is a number.
    let delimited = ["\\(", "\\[", "\\$"].iter().any(|open| after.starts_with(open));
    let formal = !dense
        && (after.starts_with(['=', '<', '>', '≤', '≥', '^', '_', '\\', '+', '-', '*', '/']) && !delimited
            || next.starts_with('('))
        || word.is_empty()
        || [
            "sin", "cos", "tan", "cot", "log", "ln", "lg", "exp", "sqrt", "max", "min", "gcd", "lcm", "lim",
            "arcsin",
        ]
        .contains(&&*word);
    // "$n$ is 34".
    let named = OBJECT.find(start).is_some_and(|m| m.start() == 0 && is_name(m.as_str()));
    if named {
        return true;
    }
    let counted = words::value("number", &word.to_lowercase()).is_some()
        && words::value("number", "one") != Some(&word);
    !formal
        && !counted
        && (dense || after.len() < next.len() && (word.len() >= 2 || is_capital_word(&word, after)))
}

/// Whether a capital letter is a word, or the name of something: "A train", "O trem", "X is".
fn is_capital_word(word: &str, after: &str) -> bool {
    let next = after.chars().take_while(|c| c.is_lowercase()).count();
    word.chars().all(char::is_uppercase) && next >= 2
}

/// `$n$`, `$ABCD$`, `\(x_1\)`: letters that name what is asked for.
pub(super) fn is_name(formula: &str) -> bool {
    static NAME: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"^(?:\$|\\\()\s*\\?(?:triangle|angle|overline)?\s*\{?[A-Za-z]{1,5}(?:_\{?\w{1,3}\}?)?'?(?:\([a-z]\))?\}?\s*(?:\$|\\\))$",
        )
    });
    NAME.is_match(formula)
}

fn objects(span: &str) -> Vec<Object> {
    let mut out: Vec<Object> = Vec::new();
    let mut from = 0;
    while let Some(m) = OBJECT.find_at(span, from) {
        from = m.end().max(m.start() + 1);
        while !span.is_char_boundary(from) {
            from += 1;
        }
        // "B12" and "CO2" are words.
        let before = span[..m.start()].chars().next_back();
        let attached = before.is_some_and(|c| c.is_alphanumeric() && !words::is_dense(c) || c == '_');
        let empty_group =
            m.as_str().starts_with(['(', '[', '{']) && !m.as_str().contains(|c: char| c.is_ascii_digit());
        if attached || empty_group {
            continue;
        }
        let m = match is_currency(m.as_str()) {
            true => PLAIN.find_at(span, m.start()).filter(|p| p.start() == m.start()).unwrap_or(m),
            false => m,
        };
        from = m.end();
        let end =
            m.start() + m.as_str().trim_end_matches(['.', ',', ';', ':', '!', '?', '*', '"', '”']).len();
        if end <= m.start() {
            continue;
        }
        let joined = out.last().is_some_and(|last: &Object| !last.name && joins(&span[last.end..m.start()]));
        match out.last_mut() {
            Some(last) if joined => last.end = end,
            _ => out.push(Object { start: m.start(), end, name: is_name(m.as_str()) }),
        }
        if out.len() == MAX_OBJECTS {
            break;
        }
    }
    if out.is_empty()
        && let Some((start, end)) = number_words(span)
    {
        out.push(Object { start, end, name: false });
    }
    out
}

/// Whether the first dollar sign of `$18 and $20` opens no formula: words stand behind it.
fn is_currency(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('$').filter(|r| !r.starts_with('$')) else { return false };
    let inner = rest.split('$').next().unwrap_or("");
    let word = |w: &str| w.len() > 1 && w.chars().all(char::is_alphabetic);
    rest.starts_with(|c: char| c.is_ascii_digit())
        && (inner.ends_with(' ') || inner.split_whitespace().any(word))
}

/// The only run of number words: "eighteen", "two hundred and five"; "one" alone is a pronoun.
fn number_words(span: &str) -> Option<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    let mut open = false;
    let mut at = 0;
    for part in span.split_inclusive([' ', '-']) {
        let word = part.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        let start = at + (part.len() - part.trim_start_matches(|c: char| !c.is_alphanumeric()).len());
        let end = at + part.trim_end_matches(|c: char| !c.is_alphanumeric()).len();
        at += part.len();
        let number = words::value("number", &word).is_some();
        let scale = ["magnitude", "denominator"].iter().any(|key| words::value(key, &word).is_some());
        match (open, number || open && scale) {
            (true, true) => {
                if let Some(last) = runs.last_mut() {
                    last.1 = end;
                }
            }
            (false, true) => runs.push((start, end)),
            _ => {}
        }
        open = (number || open && scale)
            && !part.ends_with(|c: char| !matches!(c, ' ' | '-') && !c.is_alphanumeric());
    }
    match runs.as_slice() {
        [(start, end)] if !span[*start..*end].eq_ignore_ascii_case("one") => Some((*start, *end)),
        _ => None,
    }
}

/// Whether only "and" or "or" or a comma stands between two objects.
fn joins(gap: &str) -> bool {
    static JOIN: LazyLock<Regex> =
        LazyLock::new(|| words::pattern(r"(?i)^\s*(?:[,、，;]\s*)?(?:(?:{and}|{or})\s*)?$"));
    gap.len() <= 24 && gap.chars().any(|c| !c.is_whitespace()) && JOIN.is_match(gap)
}

/// Nouns whose number only tells them apart: "step 2".
static LABEL: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["label", "option"]));

static LINK: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["copula"]));

/// Whether a verb that links, and a few words at most, stand before an object.
fn is_linked(gap: &str) -> bool {
    let last = LINK.places(gap).last();
    last.is_some_and(|(_, end)| {
        gap[end..].split_whitespace().count() <= 3 && !gap[end..].contains([',', ';', ':'])
    }) || gap.trim_end().ends_with([':', '：', '=', '≈'])
}

fn is_denied(gap: &str) -> bool {
    static NOT: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["not", "exclude", "doubt", "open"]));
    static BUT: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["but"]));
    static STILL: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["still"]));
    let contracted = ["n't", "n’t"].iter().filter_map(|not| gap.rfind(not).map(|at| at + not.len())).max();
    // "Es sind noch 24" only says that they are left.
    let denials = NOT.places(gap).filter(|(start, end)| STILL.opening(&gap[*start..*end]).is_none());
    let last = denials.last().map(|(_, end)| end).max(contracted);
    last.is_some_and(|end| {
        let rest = &gap[end..];
        !BUT.hold(rest) && !rest.contains([',', ';', '，'])
    })
}

/// The object that a whole sentence states as the value of something: "The cost is 18 dollars."
pub(crate) fn stated(sentence: &str) -> Option<&str> {
    let object = object(sentence)?;
    let start = object.as_ptr() as usize - sentence.as_ptr() as usize;
    let rest = sentence[start + object.len()..].trim_matches(|c: char| !c.is_alphanumeric());
    let words = object.split_whitespace().filter(|w| w.chars().all(char::is_alphabetic)).count();
    (is_linked(&sentence[..start]) && rest.is_empty() && words <= 2).then_some(object)
}

/// Whether an object is an amount of money.
fn is_price(object: &str) -> bool {
    let amount = object.trim_start_matches(['\\', '-', '−', ' ']);
    amount.starts_with(['$', '€', '£', '¥', '₹', '₽']) && !amount.ends_with('$')
}

/// Where the main clause of "Since 9 eggs are sold at $2 each, she makes $18" begins.
fn main_clause(span: &str) -> usize {
    static BECAUSE: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["because"]));
    static COMMA: LazyLock<Regex> = LazyLock::new(|| fixed(r"[,，]\s*(?:\D|\$)"));
    let Some(lead) = BECAUSE.opening(span) else { return 0 };
    COMMA.find(&span[lead..]).map_or(0, |m| lead + m.start() + 1)
}

/// Whether an object stands in a circumstance: "in 4 hours", "for 3 days".
fn is_circumstance(gap: &str) -> bool {
    static CIRCUMSTANCE: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["circumstance"]));
    static EACH: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["each"]));
    let last = CIRCUMSTANCE.places(gap).last();
    // Two words at most in between, or two characters of a script without spaces.
    last.is_some_and(|(_, end)| {
        let rest = gap[end..].trim();
        let near = match rest.contains(words::is_dense) {
            true => rest.chars().count() <= 2,
            false => rest.split_whitespace().count() <= 2,
        };
        // "Each child gets 36" speaks of the child; "every 36 days" is a circumstance.
        let subject = !rest.is_empty() && EACH.closing(&gap[..end]).is_some();
        near && !subject && !LINK.hold(rest) && !rest.contains([',', '，'])
    })
}

/// Whether words beside an object and its unit give a quantity, as in "she makes twice as much in 4 hours".
fn has_quantity(span: &str, object: &Object) -> bool {
    static QUANTITY: LazyLock<Phrases> =
        LazyLock::new(|| Phrases::of(&["number", "magnitude", "denominator", "bound", "behind", "nobody"]));
    let rest = span[object.end..].trim_start();
    let unit = rest.find(char::is_whitespace).unwrap_or(rest.len());
    QUANTITY.hold(&span[..object.start]) || QUANTITY.hold(&rest[unit..])
}

/// Whether an object ends a range whose beginning stands in a circumstance: "from 3 pm to 5 pm".
fn ends_range(gap: &str) -> bool {
    static RANGE: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["range"]));
    RANGE.closing(gap.trim_end()).is_some()
        && gap.split_whitespace().count() <= 3
        && !gap.contains([',', '，', ';'])
}

/// Whether words that change the value of an object stand before it: "more than 18".
fn is_bounded(before: &str) -> bool {
    static BOUND: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["bound", "minus"]));
    BOUND.closing(before.trim_end()).is_some()
}

/// How many bytes behind an object belong to it: its unit, up to a circumstance, another clause or three words.
fn tail(rest: &str) -> usize {
    static STOP: LazyLock<Phrases> =
        LazyLock::new(|| Phrases::of(&["circumstance", "because", "and", "so", "but"]));
    if rest.starts_with(['*', '_']) {
        return 0;
    }
    let stop = rest.find([',', ';', '(', ':', '，', '；', '。', '、']).unwrap_or(rest.len());
    let stop = rest[..stop].find(". ").unwrap_or(stop);
    STOP.places(&rest[..stop]).next().map_or(stop, |(start, _)| start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_give_their_object() {
        for (span, want) in [
            ("Janet makes 18 dollars", "18 dollars"),
            ("Janet makes $18 every day at the market", "$18"),
            ("The largest $n$ is 34", "34"),
            ("The volume of $ABCD$ is 120", "120"),
            ("The train travels 240 miles in 4 hours", "240 miles"),
            ("She makes 9 * 2 = $18 every day", "9 * 2 = $18"),
            ("小明有 12 元钱", "12 元钱"),
            ("一共有12个苹果", "12个苹果"),
            ("每份应该是 \\(\\frac{2}{5}\\) 吨", "\\(\\frac{2}{5}\\) 吨"),
            ("There are seven apples left", "seven apples left"),
            ("we get $x = 3$ or $x = 4$", "$x = 3$ or $x = 4$"),
            ("$n$ is 34", "34"),
            ("Points (1,2) and (3,4)", "(1,2) and (3,4)"),
        ] {
            assert_eq!(object(span), Some(want), "{span}");
        }
    }

    #[test]
    fn what_is_no_sentence_or_says_several_things() {
        for span in [
            "18 dollars",
            "x = 5 and more",
            "Paris",
            "vitamin B12",
            "He has 5 red and 3 blue balls",
            "Janet makes maybe 18 dollars",
            "it is not 18",
            "he has more than 18 coins",
            "all real numbers except 2",
            "The price is 18 dollars and 5 cents",
            "cos x = 1",
            "minus $120 = $12.",
            "AB + CD = 10",
            "\\frac{1}{2} of it",
            "",
        ] {
            assert_eq!(object(span), None, "{span}");
        }
    }
}
