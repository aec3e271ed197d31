//! The prose of a response: without code, formulas, addresses and tags, which have no language.

use std::sync::LazyLock;

use regex::Regex;

use crate::answer::text::fixed;

/// Tags of fences that hold prose.
const PROSE: &[&str] = &["text", "txt", "plaintext", "markdown", "md", "none", "latex", "tex"];

/// Whether the content of an untagged fence is code: signs that prose seldom has.
fn is_code(block: &str) -> bool {
    let signs = block.chars().filter(|c| "=(){}[];<>_/\\|+*#$".contains(*c)).count();
    signs * 40 >= block.len()
}

/// Without fenced blocks of code; prose in a fence stays, so that nothing hides there.
fn without_fences(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut block: Option<(bool, String)> = None;
    let close = |out: &mut String, block: Option<(bool, String)>| {
        if let Some((prose, inner)) = block
            && prose
            && !is_code(&inner)
        {
            out.push_str(&inner);
        }
    };
    for line in text.lines() {
        if let Some(tag) = line.trim_start().strip_prefix("```")
            && !tag.contains('`')
        {
            let tag = tag.trim().to_ascii_lowercase();
            block = match block.take() {
                None => Some((tag.is_empty() || PROSE.contains(&&*tag), String::new())),
                open => {
                    close(&mut out, open);
                    None
                }
            };
            continue;
        }
        let into = block.as_mut().map_or(&mut out, |(_, inner)| inner);
        into.push_str(line);
        into.push('\n');
    }
    close(&mut out, block);
    out
}

/// What of `text` is written in a language.
pub(super) fn prose(text: &str) -> String {
    static MATH: LazyLock<Regex> = LazyLock::new(|| {
        fixed(concat!(
            r"\$\$[^$]{1,2000}\$\$|\\\[[^\]]{1,2000}\\\]|\\\([^\n]{1,500}?\\\)|\$[^\s$](?:[^$\n]{0,400}[^\s$])?\$",
            r"|`[^`\n]{1,400}`|https?://[^\s）)，。]{1,300}|</?[A-Za-z][^<>\n]{0,80}>"
        ))
    });
    static INNER: LazyLock<Regex> =
        LazyLock::new(|| fixed(r"\\(?:text|mbox|textbf|textit)\s*\{([^{}]{1,400})\}"));
    static COMMAND: LazyLock<Regex> = LazyLock::new(|| fixed(r"\\[A-Za-z]{1,40}"));
    let text = without_fences(text);
    let kept = MATH.replace_all(&text, |found: &regex::Captures<'_>| {
        // Words inside of a formula are words; a sentence between backticks is no code.
        let whole = &found[0];
        if whole.starts_with('`') && !is_code(whole) && whole.split_whitespace().count() > 3 {
            return whole.trim_matches('`').to_string();
        }
        let words: Vec<&str> =
            INNER.captures_iter(whole).filter_map(|c| c.get(1)).map(|m| m.as_str()).collect();
        format!(" {} ", words.join(" "))
    });
    COMMAND.replace_all(&kept, " ").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_language_is_dropped() {
        let check = |text: &str, want: &str| {
            let got = prose(text).split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(got, want, "{text:?}");
        };
        check("```python\ndef add(a, b):\n    return a\n```\n好", "好");
        check("```\nx = f(y)\n```\nso", "so");
        check("```\nA sentence in a fence, as prose.\n```\nso", "A sentence in a fence, as prose. so");
        check("用 `sorted(list)` 和 $x^2 + 1$ 得 \\(a\\) \\[b\\] \\frac", "用 和 得");
        check("`we hide a whole sentence here`", "we hide a whole sentence here");
        check("$\\text{the sum of all}$ 见 https://example.org/a <b>是</b>", "the sum of all 见 是");
        check("costs $5 and then $6", "costs $5 and then $6");
        check("```python\nx = 1", "");
    }
}
