//! Decimal points and commas: how the numbers of an answer and of its reference are read.

use serde::{Deserialize, Serialize};

use super::token::Marks;
use crate::answer::words;

/// What separates the decimals of a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecimalMark {
    /// A comma where the response is written in a language that has one, otherwise a point.
    #[default]
    Auto,
    /// A point; commas separate thousands or items.
    Point,
    /// A comma; points separate thousands.
    Comma,
}

/// Whether a number in `span` reads otherwise with a decimal comma.
fn is_open(span: &str) -> bool {
    let bytes = span.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mark =
        |(at, byte): (usize, &u8)| matches!(byte, b',' | b'.') && at > 0 && digit(at - 1) && digit(at + 1);
    // Full-width digits and commas are folded by the tokenizer.
    !span.is_ascii() && span.contains(['，', '．'])
        || bytes.iter().enumerate().any(mark)
        || span.contains("{,}")
}

/// Whether a reference writes a point between digits.
fn has_point(gold: &str) -> bool {
    let bytes = gold.as_bytes();
    (1..bytes.len().saturating_sub(1))
        .any(|at| bytes[at] == b'.' && bytes[at - 1].is_ascii_digit() && bytes[at + 1].is_ascii_digit())
}

/// Whether a number can only have a decimal comma: `3,5 cm`, `12,5%` and `€3,50`, which are no lists.
fn is_comma_number(text: &str) -> bool {
    let text = text.trim();
    let euros = text.starts_with('€');
    let text = text.trim_start_matches(['-', '−', '$', '€', ' ']);
    let Some((whole, rest)) = text.split_once(',') else { return false };
    let decimals = rest.bytes().take_while(u8::is_ascii_digit).count();
    let unit = rest[decimals..].trim_start_matches(['\\', ' ', '$', ',']);
    let plain =
        !whole.is_empty() && whole.bytes().all(|b| b.is_ascii_digit()) && decimals > 0 && decimals != 3;
    let unit = if euros && unit.is_empty() { "€" } else { unit };
    plain
        && unit.starts_with(|c: char| c.is_alphabetic() || matches!(c, '%' | '€' | '°'))
        && !unit.contains([',', '='])
}

impl DecimalMark {
    /// Whether the numbers of `span`, the answer of `response` to be compared with `gold`, have a decimal comma.
    pub fn is_comma(self, gold: &str, span: &str, response: &str) -> bool {
        match self {
            Self::Point => false,
            Self::Comma => true,
            Self::Auto => {
                (is_open(span) || gold.contains(','))
                    && (is_comma_number(gold) || is_comma_number(span) || words::writes_comma(response))
            }
        }
    }
}

/// How numbers beside the reference `gold` are read in a text with decimal commas: 1.234 is a thousand, but not where the
/// reference has a decimal point itself or is no whole number.
pub fn with_comma(gold: &str) -> Marks {
    let broken = gold.contains('/') || ["frac", "sqrt", "pi", "e^"].iter().any(|part| gold.contains(part));
    if !gold.contains(',') && (broken || has_point(gold)) { Marks::CommaOrPoint } else { Marks::Comma }
}
