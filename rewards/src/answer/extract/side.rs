//! The value that an equation or a chain of them ends in, for lenient extraction.
//!
//! | formula | last side |
//! |---|---|
//! | `$n + 1 = 6$` | `6` |
//! | `\[f(3) = f(-3) + 6 = 2 + 6 = 8.\]` | `8` |
//! | `$54 \equiv 0 \pmod{6}$` | `0` |
//! | `\begin{aligned} a + b &= 2 + 3 \\ &= 5. \end{aligned}` | `5` |
//! | `$x = 1, x = 2$` · `$3 < x = 4$` · `$x^2 - 5x = 0$` | none |

use std::sync::LazyLock;

use regex::Regex;

use crate::answer::text::fixed;
use crate::answer::words::Phrases;

/// Environments whose rows are lines of one calculation.
const DISPLAYS: &[&str] = &[
    "align", "aligned", "alignat", "gather", "gathered", "split", "equation", "eqnarray", "multline",
    "flalign",
];

/// Brackets, signs of relation, separators, and whole environments of a formula.
static MARK: LazyLock<Regex> = LazyLock::new(|| {
    fixed(concat!(
        r"(?P<open>[({\[]|\\\{|\\[b]egin\b|\\l(?:floor|ceil|angle|vert)\b)",
        r"|(?P<close>[)}\]]|\\\}|\\end\b|\\r(?:floor|ceil|angle|vert)\b)",
        r"|(?P<bound>[<>≤≥≠∈]|\\(?:l[te]|g[te]|leq?|geq?|leqslant|geqslant|neq?|in)\b|\\not\b)",
        r"|(?P<equal>[=≈≡]|\\(?:approx|equiv|simeq|cong|doteq)\b)",
        r"|(?P<arrow>[⇒⇔]|\\(?:Rightarrow|implies|Longrightarrow|iff|Leftrightarrow)\b)",
        r"|(?P<apart>[,;$、，；]|\\(?:quad|qquad|lor|land)\b)|(?P<text>\\(?:text|mbox)(?:rm)?\{[^{}]*\})",
        r"|(?P<row>\\\\)",
        r"|\\[A-Za-z]+|\\.",
    ))
});

static JOINS: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["and", "or"]));

/// Whether a word between statements stands in plain text; one letter may be a symbol.
fn has_joint(text: &str) -> bool {
    JOINS
        .places(text)
        .any(|(start, end)| text[start..end].trim_matches('_').len() > 1 && !text[..start].ends_with('\\'))
}

/// Whether `name` is that of an environment for a calculation.
pub(super) fn is_display(name: &str) -> bool {
    DISPLAYS.contains(&name.trim_end_matches('*'))
}

/// What the last statement of `formula` says the value is; none where it is no equation, or does not say one value.
pub(crate) fn last_side(formula: &str) -> Option<&str> {
    let formula = undelimited(formula.trim());
    let inner = without_environment(formula);
    let (row, earlier) = last_row(inner);
    let mut statement = row.trim_matches(|c: char| c.is_whitespace() || c == '&');
    let mut depth = 0usize;
    let mut signs = 0;
    let mut side = None;
    let mut bounded = false;
    let mut apart = false;
    let mut concludes = false;
    let mut checked = 0;
    let base = statement;
    for m in MARK.captures_iter(base) {
        let Some(all) = m.get(0) else { continue };
        if m.name("open").is_some() {
            depth += 1;
        } else if m.name("close").is_some() {
            depth = depth.saturating_sub(1);
        } else if depth > 0 {
            continue;
        } else if m.name("arrow").is_some() {
            statement = &base[all.end()..];
            checked = all.end();
            (signs, side, bounded, apart, concludes) = (0, None, false, false, true);
        } else if m.name("bound").is_some() {
            bounded = true;
        } else if m.name("equal").is_some() {
            // What stands between two statements parts them.
            if apart || has_joint(&base[checked..all.start()]) {
                return None;
            }
            checked = all.end();
            signs += 1;
            side = Some((all.start(), all.end()));
        } else if m.name("apart").is_some()
            && !is_in_number(base, all.start())
            && !base[base.len() - statement.len()..all.start()].trim().is_empty()
            || m.name("text").is_some_and(|text| JOINS.hold(text.as_str()))
        {
            apart = true;
        }
    }
    let Some((sign, from)) = side else {
        // A formula that an environment only sets apart.
        let alone = inner.len() < formula.len() && earlier.is_empty() && !bounded && !apart;
        return Some(base.trim_end_matches([' ', '.', ','])).filter(|base| alone && !base.is_empty());
    };
    let continued = row.trim_start().starts_with('&');
    let follows = continued || concludes || is_name(row) && !earlier.iter().any(|row| is_name(row));
    if bounded || !earlier.is_empty() && !follows {
        return None;
    }
    let value = without_modulus(&base[from..]).trim_start_matches('&');
    let value = value.trim_end_matches(|c: char| c.is_whitespace() || ".,;".contains(c)).trim_start();
    // What equals nothing is an equation that is still to be solved.
    let asked = statement.len() > base[from..].len() && signs == 1 && base[sign..].starts_with('=');
    if value.is_empty() || value == "0" && asked && !continued {
        return None;
    }
    Some(value)
}

/// A formula without its delimiters.
fn undelimited(formula: &str) -> &str {
    let formula = formula.trim_end_matches(['.', ',', ';']);
    for (open, close) in [("$$", "$$"), ("$", "$"), ("\\[", "\\]"), ("\\(", "\\)")] {
        if formula.len() > open.len()
            && let Some(inner) = formula.strip_prefix(open).and_then(|f| f.strip_suffix(close))
        {
            return inner.trim();
        }
    }
    formula
}

/// The inside of the last environment for a calculation; its beginning or its end may be cut off.
fn without_environment(formula: &str) -> &str {
    let mut formula = formula;
    for _ in 0..3 {
        let end = formula.trim_end_matches(['.', ' ', '\n']);
        let closed = end
            .rfind("\\end{")
            .filter(|at| end[at + 5..].strip_suffix('}').is_some_and(|name| is_display(name.trim())));
        let Some(at) = closed else { break };
        formula = end[..at].trim_end();
    }
    let mut from = 0;
    for (at, _) in formula.match_indices("\\begin{") {
        let name = formula[at + 7..].split('}').next().unwrap_or("");
        if is_display(name) {
            from = at + 8 + name.len();
        }
    }
    formula[from.min(formula.len())..].trim()
}

/// The last row of a calculation, and those before it.
fn last_row(inner: &str) -> (&str, Vec<&str>) {
    let mut depth = 0usize;
    let mut rows = Vec::new();
    let mut from = 0;
    for m in MARK.captures_iter(inner) {
        if m.name("open").is_some() {
            depth += 1;
        } else if m.name("close").is_some() {
            depth = depth.saturating_sub(1);
        } else if depth == 0
            && let Some(row) = m.name("row")
        {
            rows.push(&inner[from..row.start()]);
            from = row.end();
        }
    }
    rows.push(&inner[from..]);
    rows.retain(|row| row.contains(char::is_alphanumeric));
    (rows.pop().unwrap_or(inner), rows)
}

/// Whether a row gives a value to a single symbol: `x &= 5`.
fn is_name(row: &str) -> bool {
    static NAME: LazyLock<Regex> =
        LazyLock::new(|| fixed(r"^\s*(?:\\[A-Za-z]+|[A-Za-z])(?:_\{?\w{1,4}\}?)?\s*&?\s*[=≈]"));
    NAME.is_match(row)
}

/// Whether a comma stands within a number: `1,000`, `10,\!080`.
fn is_in_number(text: &str, at: usize) -> bool {
    let rest = text[at..].strip_prefix(',').map(|rest| rest.strip_prefix("\\!").unwrap_or(rest));
    let digits = rest.map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    digits == 3 && text[..at].ends_with(|c: char| c.is_ascii_digit())
}

/// A residue without its modulus.
fn without_modulus(side: &str) -> &str {
    static MODULUS: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"\s*(?:\\,|\\;|\\ |~|\\left)*\s*\(?\s*(?:\\[pb]?mod|\bmod|\\text\{\s*\(?\s*mod)(?:[^A-Za-z].*)?$",
        )
    });
    MODULUS.find(side).map_or(side, |m| &side[..m.start()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_chain_ends_in() {
        for (formula, want) in [
            ("$n + 1 = 6$", Some("6")),
            ("\\[f(3) = f(-3) + 6 = 2 + 6 = 8.\\]", Some("8")),
            ("$54 \\equiv 0 \\pmod{6}$.", Some("0")),
            ("$a \\Rightarrow 1 + 3 \\equiv 4 \\pmod7$", Some("4")),
            ("\\begin{aligned} a + b &= 2 + 3 \\\\ &= 5. \\end{aligned}", Some("5")),
            ("&= 2.4 / 0.2 = 12.\\end{align*}", Some("12")),
            ("$2! = 1,000 + 1 = 10,\\!080$", Some("10,\\!080")),
            (
                "&= \\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}.",
                Some("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}"),
            ),
            ("$f(6) = -f(6) = 0$", Some("0")),
            ("$x = 1, x = 2$", None),
            ("$x = 1 \\text{ or } x = 2$", None),
            ("$x = 1, 2$", Some("1, 2")),
            ("$3 < x = 4$", None),
            ("$x^2 - 5x = 0$", None),
            ("\\begin{aligned} x &= 1 \\\\ y &= 2 \\end{aligned}", None),
            ("\\begin{align*} 2x &= 4 \\\\ x &= 2 \\end{align*}", Some("2")),
            ("\\begin{align*} 2x &= 4 \\\\ 3y &= 9 \\end{align*}", None),
            ("\\begin{align*} 2x & = 4 \\\\ \\Rightarrow\\qquad x & =2. \\end{align*}", Some("2")),
            ("\\begin{align*}\nx^3+3x-6.\n\\end{align*}", Some("x^3+3x-6")),
            ("\\begin{cases} x = 1 \\\\ y = 2 \\end{cases}", None),
            ("$\\sum_{k=1}^5 k$", None),
            ("$x = $", None),
            ("42", None),
        ] {
            assert_eq!(last_side(formula), want, "{formula}");
        }
    }
}
