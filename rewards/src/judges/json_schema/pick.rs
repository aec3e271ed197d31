//! Which JSON value of a response is the one it gives.
//!
//! Every object and array that is not inside of another one is looked at. One that stands by itself is given: alone on its
//! lines (a fence, a tag or backticks aside), or at the end of its line behind a colon or a word such as "final". A value
//! within a sentence is only mentioned, and so is a number in brackets, an empty pair or an example there. The last given
//! value counts; where none is given, the last that is mentioned. What begins as a value and does not parse has its place,
//! too, so that no part of a broken value is taken for the whole.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::answer::text::{self, fixed};

/// Places where a value is tried and does not parse.
const MAX_FAILURES: usize = 128;

/// A value with its place, or the place of one that is broken.
pub(super) struct Found {
    pub(super) value: Option<Value>,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// How a value stands in its text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// A citation, a placeholder or a part of an example.
    Aside,
    /// Within a sentence.
    Mentioned,
    /// By itself.
    Given,
}

/// `[1]`, `[2, 3]`, `[]`, `{}`: what prose has in brackets.
fn is_slight(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().all(Value::is_u64),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

fn standing(text: &str, found: &Found) -> Standing {
    static AROUND: LazyLock<Regex> =
        LazyLock::new(|| fixed(r"^(?:`+(?:json[a-z0-9]*)?|</?[A-Za-z_]+>|[\s*_>])*$"));
    static LEAD: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)(?:[:：]|\b(?:final|answer|result|output|corrected|correction|actually|instead|sorry)\b.{0,60})[\s`*_]*$",
        )
    });
    static EXAMPLE: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)(?:\b(?:e\.g|i\.e|for example|for instance|example|such as|note|like|not|never|instead of|rather than|invalid|wrong|avoid|n't)\b|例如|比如|注意|不要)",
        )
    });
    let line = text::tail(&text[..found.start], 200).rsplit('\n').next().unwrap_or("");
    let rest = text::head(&text[found.end..], 200).split('\n').next().unwrap_or("");
    let ends = AROUND.is_match(rest.trim_start().trim_start_matches(['.', '。']));
    if ends && AROUND.is_match(line) {
        return Standing::Given;
    }
    let slight = found.value.as_ref().is_some_and(is_slight);
    match ends && LEAD.is_match(line) && !EXAMPLE.is_match(line) {
        true if !slight => Standing::Given,
        _ if slight => Standing::Aside,
        _ => Standing::Mentioned,
    }
}

/// Whether `rest` begins as a JSON value with something in it.
fn begins_value(rest: &str) -> bool {
    static OPENING: LazyLock<Regex> =
        LazyLock::new(|| fixed(r#"^(?:\{\s{0,64}(?:["']|[A-Za-z_]\w{0,64}:)|\[\s{0,64}[\[{"])"#));
    OPENING.is_match(text::head(rest, 256))
}

/// The length of the bracketed part that `rest` begins with; all of it where it does not close.
fn bracketed(rest: &str) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for (i, byte) in rest.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => depth += 1,
            b'}' | b']' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return i + 1;
                }
            }
            _ => {}
        }
    }
    rest.len()
}

/// What an object or array begins with, so that the braces of formulas cost nothing.
static OPENING: LazyLock<Regex> =
    LazyLock::new(|| fixed(r#"^(?:\{\s*(?:["'}]|[A-Za-z_]\w{0,64}:|$)|\[\s*(?:[\[\]{"'0-9tfn-]|$))"#));

/// The value that `text` gives. Where `text` is `cut`, the end of a longer one, what may be a part of a value that began
/// before is none.
pub(super) fn given(text: &str, cut: bool) -> Option<Found> {
    let whole = text.trim();
    // A response that is nothing but a value may be a text or a number, too.
    if !cut && let Ok(value) = serde_json::from_str(whole) {
        let start = text.len() - text.trim_start().len();
        return Some(Found { value: Some(value), start, end: start + whole.len() });
    }
    let mut best: Option<(Standing, Found)> = None;
    let mut from = 0;
    let mut failures = 0;
    while let Some(at) = text[from..].find(['{', '[']).map(|i| from + i) {
        if !OPENING.is_match(text::head(&text[at..], 128)) {
            from = at + 1;
            continue;
        }
        let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>();
        let found = match values.next() {
            Some(Ok(value)) => Found { value: Some(value), start: at, end: at + values.byte_offset() },
            _ if begins_value(&text[at..]) => {
                Found { value: None, start: at, end: at + bracketed(&text[at..]) }
            }
            _ => {
                failures += 1;
                from = at + 1;
                if failures > MAX_FAILURES {
                    break;
                }
                continue;
            }
        };
        from = found.end;
        let within = cut && text[found.end..].trim_start().starts_with([',', ']', '}', ':']);
        let standing = if within { Standing::Aside } else { standing(text, &found) };
        if best.as_ref().is_none_or(|(held, _)| standing >= *held) {
            best = Some((standing, found));
        }
    }
    best.filter(|(standing, _)| !cut || *standing == Standing::Given).map(|(_, found)| found)
}
