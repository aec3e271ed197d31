//! What stands right around a box and belongs to its value: a sign before it, and what goes on with it.

use std::sync::LazyLock;

use regex::Regex;

use crate::answer::text::{self, fixed};

/// The content of a box with the sign right before it and what goes on with it right behind it.
pub(super) fn with_surroundings(before: &str, inner: &str, after: &str) -> String {
    static SIGN: LazyLock<Regex> =
        LazyLock::new(|| fixed(r"(?:\$|\\[(\[]|[=≈]|[a-z]{2}\s)\s*[-−](?:\\[,;:! ])?$"));
    let sign = if SIGN.is_match(text::tail(before, 16)) { "-" } else { "" };
    let more = continuation(after).unwrap_or("");
    // A power of a sum is that of the whole box.
    let several = sign.len() + more.len() > 0 && inner.contains(|c: char| "+-−=,".contains(c));
    if several { format!("{sign}({inner}){more}") } else { format!("{sign}{inner}{more}") }
}

/// What goes on with a boxed number right behind it and changes its value, up to the end of the formula: the fraction of
/// `\boxed{15}\frac{1}{4}`, a power, a root, digits. Signs of degrees and percent, units and ordinals change nothing.
fn continuation(after: &str) -> Option<&str> {
    static MORE: LazyLock<Regex> = LazyLock::new(|| {
        fixed(concat!(
            r"^(?:(?:\\[,;:! ]|~|[ \t])*(?:\\[dt]?frac[^A-Za-z]|\\sqrt[^A-Za-z]|\\pi\b|π|\d+/\d|\d+\s*\\[dt]?frac\b",
            r"|(?:\\times|\\cdot|×|·|\*)\s*10\s*\^)|\d|\.\d|\s?!\s*=|√|[½¼¾⅓⅔]|[²³]",
            r"|\^\s*(?:\{?\s*[-+\d(A-Zabce-npqruvxyz]|\{\s*\\[dt]?frac)|[xyzi](?:[^A-Za-z]|$))"
        ))
    });
    // A sum to the end of a formula, and "8 feet 3 inches"; a sum that equals something has a gap that is filled in.
    static WHOLE: LazyLock<Regex> = LazyLock::new(|| {
        fixed(concat!(
            r"^((?:\\[,;:! ]|~|[ \t])*[-+−]\s*(?:\d+|[a-z]\b|\\(?:frac|sqrt)\{|\\pi\b)(?:[\d\s^{}*/+.−-]|\\(?:frac|cdot|sqrt|pi)\b|\b[a-z]\b)*)(?:\$|\\[)\]])",
            r"|^((?:\\[,;:! ]|~|[ \t])*\\text\{\s*[a-z]+\s*\}\s*\d+\s*(?:\\text\{[^{}]*\})?)"
        ))
    });
    static END: LazyLock<Regex> =
        LazyLock::new(|| fixed(r"\$|\\[)\]]|[=,;≈\n]|\\(?:approx|text|quad|end)\b|\.(?:\s|$)|\s[a-z]{2,}"));
    let after = text::head(after, 64);
    if let Some(m) = WHOLE.captures(after) {
        return m.get(1).or_else(|| m.get(2)).map(|m| m.as_str().trim_end());
    }
    MORE.find(after)?;
    Some(END.find(after).map_or(after, |m| &after[..m.start()]).trim_end())
}
