//! Responses in which nothing marks an answer.

use std::sync::LazyLock;

use regex::Regex;

use super::cue::clause;
use super::object::{is_name, is_sentence};
use super::{Answer, Extract, Missing, Rule, SPAN_BYTES, lenient};
use crate::answer::text::{self, fixed};
use crate::answer::words::{self, Phrases};

/// A response without any mark: bold in the last line, nothing but an answer, or what lenient extraction finds.
pub(super) fn unmarked(body: &str, extract: Extract) -> Result<Answer, Missing> {
    static BOLD: LazyLock<Regex> =
        LazyLock::new(|| fixed(r"\*\*([^*\n]{1,200})\*\*|\\(?:textbf|mathbf)\{([^{}\n]{1,200})\}"));
    // A sentence: five words or more outside of commands.
    let wordy = |text: &str| {
        let is_word = |w: &&str| {
            let w = w.trim_matches(|c: char| c.is_ascii_punctuation() && c != '\\');
            !w.is_empty() && w.chars().all(|c| c.is_alphabetic() || matches!(c, '\'' | '’' | '-'))
        };
        text.split_whitespace().filter(is_word).count() >= 5
    };
    let give = |text: &str, rule| Answer { text: text.into(), rule, joined: false, conflicting: false };
    let mut trimmed = body.trim();
    if let Some(inner) = trimmed.strip_prefix("```").and_then(|t| t.strip_suffix("```"))
        && !inner.contains("```")
    {
        trimmed = inner.split_once('\n').map_or(inner, |(_, code)| code).trim();
    }
    let last_line = trimmed.lines().next_back().unwrap_or("").trim();
    let mut bold = BOLD.captures_iter(last_line);
    if let (Some(m), None) = (bold.next(), bold.next())
        && let Some(span) = m.get(1).or_else(|| m.get(2))
        && span.as_str().chars().any(|c| c.is_ascii_digit() || c == '\\')
        && !text::is_hedged(last_line)
        && !last_line.contains(" not ")
    {
        return Ok(give(span.as_str().trim(), Rule::Bold));
    }
    if let Some(m) = statement().captures(last_line)
        && let Some(span) = m.get(1)
        && !text::is_hedged(last_line)
    {
        let span = clause(span.as_str());
        return match text::is_negated(span) {
            true => Err(Missing::Negated),
            false => Ok(give(span, Rule::Cue)),
        };
    }
    if let Some(formula) = only_formula(last_line, !trimmed.contains('\n'))
        && !text::is_hedged(last_line)
    {
        return Ok(give(formula, Rule::Bare));
    }
    let short = trimmed.len() <= 256 && !trimmed.contains('\n') || is_one_formula(trimmed);
    let open = trimmed.contains("\\boxed") || trimmed.contains("<answer");
    if short && !open && !trimmed.is_empty() && !wordy(trimmed) {
        // "Wrong: 7", but "false" alone is an answer.
        static WRONG: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["wrong", "perhaps"]));
        let denied = trimmed.contains(char::is_numeric) && WRONG.hold(trimmed);
        if denied || text::is_negated(trimmed) {
            return Err(Missing::Negated);
        }
        // In an evaluation "She has 60 left." states a number, too.
        let words = trimmed.split_whitespace().filter(|w| w.chars().all(char::is_alphabetic) && w.len() > 1);
        let sentence = is_sentence(trimmed) || words.count() > 1;
        if extract == Extract::Lenient && sentence && trimmed.contains(char::is_numeric) {
            return lenient::last(body).map(|text| give(text, Rule::Lenient));
        }
        return Ok(give(without_lead(trimmed), Rule::Bare));
    }
    match extract {
        Extract::Strict => Err(Missing::NotFound),
        Extract::Lenient => lenient::last(body).map(|text| give(text, Rule::Lenient)),
    }
}

/// An object without the words that conclude before it: "So, 42."
fn without_lead(text: &str) -> &str {
    static LEAD: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["so"]));
    let Some(end) = LEAD.opening(text) else { return text };
    let rest = text[end..].trim_start_matches([',', '，', '、', ':', ' ']);
    let formal = rest.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '$' | '\\' | '-' | '−' | '*'));
    let mut letters = rest.chars();
    let named =
        letters.next().is_some_and(char::is_alphabetic) && letters.as_str().trim_start().starts_with('=');
    if formal || named { rest } else { text }
}

/// The formula that a line ends with and that is its only one, where it concludes ("So $x = 42$.") or is the `whole`
/// response ("The solution set is $x < 3$.").
fn only_formula(line: &str, whole: bool) -> Option<&str> {
    static FORMULA: LazyLock<Regex> = LazyLock::new(|| {
        fixed(r"\$\$[^$]+\$\$|\$(?:[^$\\]|\\.)+\$|\\\((?:[^\\]|\\[^)])+\\\)|\\\[(?:[^\\]|\\[^\]])+\\\]")
    });
    static CONCLUDES: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(r"(?i)^[*_\s]*(?:(?:{so}),?\s*)?(?:(?:{find})\s*)?(?:(?:{so}),?\s*)?[*_]*$")
    });
    // "The largest integer $n$ is $n = 34$": a name is no answer.
    let mut all = FORMULA.find_iter(text::head(line, 1024)).filter(|m| !is_name(m.as_str()));
    let (first, None) = (all.next()?, all.next()) else { return None };
    let (before, after) = (&line[..first.start()], &line[first.end()..]);
    // "Thus $n = 101$ is the required integer": words that only say that this is what was asked for.
    static ASKED: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(concat!(
            r"(?i)^[*_]*\s+(?:{copula})\s+(?:{article}|{our})\s+(?:(?:{final}|{fill}|{most})\s+){0,3}",
            r"(?:(?:{answer}|{result})(?:\s+(?:{asked}))?|(?:{asked})\s+\w+)[*_]*[.!。]?\s*$"
        ))
    });
    let ended = after.trim_matches(|c: char| c.is_whitespace() || "*_.!。".contains(c)).is_empty();
    let closed = ended || ASKED.is_match(after);
    static COPULA: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["copula", "link"]));
    static DENIES: LazyLock<Phrases> =
        LazyLock::new(|| Phrases::of(&["not", "deny", "exclude", "doubt", "condition"]));
    let plain = whole && COPULA.closing(before.trim_end()).is_some() && !DENIES.hold(before);
    let said = CONCLUDES.is_match(before) && before.chars().any(char::is_alphabetic) || plain;
    let opens =
        !first.as_str().chars().any(|c| c.is_ascii_digit() || c == '\\') && !first.as_str().contains('=');
    (closed && said && !opens).then(|| first.as_str())
}

/// A last line that states a result in other words than "answer".
fn statement() -> &'static Regex {
    static STATEMENT: LazyLock<Regex> = LazyLock::new(|| {
        let own = words::each_language(
            r"(?:(?:{so?}),?\s*)?(?:(?:{article?}|{our?})\s+)?(?:(?:{final?})\s+)?(?:{result}|(?:{asked?})\s+\w+)(?:\s+of\s+(?-i:[!-~\x{A1}-\x{1FFF}\x{2010}-\x{10FFFF}]{1,40}))?[*_]*\s*(?:{link}|=|:|：)",
            "statement",
        );
        fixed(&format!(r"(?i)^[#*_\s]*(?:{own})[*_]*\s*([-−$\\(\d.*]\S*.*|[a-zA-Z]\s*=\s*\S.*)$"))
    });
    &STATEMENT
}

/// Whether the text is one display formula and nothing else.
fn is_one_formula(text: &str) -> bool {
    [("\\[", "\\]"), ("$$", "$$"), ("$", "$")].iter().any(|(open, close)| {
        text.len() <= SPAN_BYTES
            && (text.strip_prefix(open).and_then(|t| t.strip_suffix(close)))
                .is_some_and(|inner| !inner.contains(close) && !inner.contains(open))
    })
}
