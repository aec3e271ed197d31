//! Cues in front of an answer ("the answer is") and behind it, in all languages, and the clause that a cue marks.

use std::sync::LazyLock;

use regex::Regex;

use super::lenient::is_abbreviation;
use super::{Candidate, MAX_CANDIDATES, Rule, SPAN_BYTES};
use crate::answer::text::{self, fixed};
use crate::answer::words::{self, Phrases};

/// A cue of any language, with the words that may follow it in front of the answer.
pub(super) static CUE: LazyLock<Regex> = LazyLock::new(|| {
    let heading = words::each_language(
        r"(?m:^)[ \t]*(?:#{1,6}[ \t]*|\*\*|__)+(?:(?:{article?})[ \t]+)?(?:(?:{final?})[ \t]+)?(?:{answer}|results?)[ \t]*:?(?:\*\*|__)?:?[ \t]*\r?\n",
        "heading",
    );
    let cue = words::each_language(r"(?:{answer})(?:\s*(?:{final?})){0,2}\s*(?:{link?}|[:：=】])", "cue");
    // "The answer is not 42", "La respuesta no es 42": the denial belongs to what follows.
    // "Also ist die Antwort 42."
    let inverted = words::each_language(
        r"(?:{so}),?\s+(?:{inverts})\s+(?:(?:{article?})\s+)?(?:(?:{final?})\s+)?(?:{answer})[ \t]+",
        "inverted",
    );
    let denied = words::each_language(r"(?:{answer})\s*(?:{not})", "denied");
    // "Answer $9$", "Answer: \\[9\\]": right before a formula.
    let direct = words::each_language(
        r"(?m:^)[ \t#*_>]*(?:(?:{article?})[ \t]+)?(?:(?:{final?})[ \t]*)?(?:{answer})(?:\*\*|__)?(?:(?:[ \t]|\r?\n){1,4}[$\\]|[ \t]*(?:\r?\n){1,3}[-−]?\d)",
        "direct",
    );
    let lead = words::each_language(r"(?:{so}),?[ \t]+", "")
        + "|"
        + &words::each_language(r"(?:{indeed}),?[ \t]+", "");
    fixed(&format!(
        r"(?i)(?:{heading}|{direct}|{inverted}|{cue}|{denied})(?:\*\*|__)?[ \t]*(?:(?:\bis|=|:|：)[ \t]*)?(?:{lead})?"
    ))
});

/// "… is the answer", at the end of a sentence.
static BACK_CUE: LazyLock<Regex> = LazyLock::new(|| {
    let all = words::each_language(
        r"(?:{copula})\s*(?:(?:{article?}|{our?})\s+)?(?:(?:{final?})\s+)*(?:{answer})(?:\s+(?:{final?}))*",
        "back",
    );
    fixed(&format!(r"(?im)(?:{all})[*_]*\s*(?:[.!。！]|$)"))
});

/// Answers that stand before their cue: "So 42 is the final answer."
pub(super) fn back_cues<'a>(body: &'a str, found: &mut Vec<Candidate<'a>>) {
    static LEAD: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["so"]));
    let all: Vec<_> = BACK_CUE.find_iter(body).collect();
    for m in &all[all.len().saturating_sub(MAX_CANDIDATES)..] {
        let before = text::tail(&body[..m.start()], 400);
        let from = before.rfind(['\n', '。', '!', '?']).unwrap_or(0).max(before.rfind(". ").unwrap_or(0));
        let mut span = before[from..].trim_start_matches(['.', '。', '!', '?']).trim();
        if let Some(end) = LEAD.opening(span) {
            span = span[end..].trim_start_matches([',', ' ', '，']);
        }
        // Nothing but an object; "the value of x is the answer" gives none.
        let formal =
            span.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '$' | '\\' | '-' | '−' | '*'));
        let wordy =
            span.split_whitespace().filter(|w| w.chars().all(char::is_alphabetic) && w.len() > 2).count();
        if formal && wordy <= 1 && !text::is_hedged(span) {
            let text = span.trim_matches('*');
            let start = text.as_ptr() as usize - body.as_ptr() as usize;
            found.push(Candidate { text, rule: Rule::Cue, start, end: m.end() });
        }
    }
}

/// The words before a cue that make it no statement.
fn is_conditional(before: &str) -> bool {
    static CONDITION: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(concat!(
            r"(?i)(?:{condition}|{supposed}|{tempting})(?:\s+(?:\w+\s+){0,3})?$",
            r"|(?:{doubt}|(?:{nobody}) (?:\w+ ){1,3})\s*(?:,?\s*(?:{that})\s+)?(?:\w+\s+){0,2}$",
            // "Vielleicht ist die Antwort 7", "the wrong answer is 7".
            r"|(?:{perhaps})[,，、]?\s*(?:\w+[ \t]+){0,3}$|(?:{wrong})(?:{genitive})?[ \t]*$",
        ))
    });
    // A line of its own begins anew: "That was wrong\nAnswer: 30".
    let line = before.rsplit('\n').next().unwrap_or(before);
    CONDITION.is_match(text::tail(line, 48))
}

/// The clause after a cue: to the end of the sentence or line; a display formula on the next line counts.
pub(super) fn clause(rest: &str) -> &str {
    static CUT: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(concat!(
            r"(?i)[.!;](?:[\s*)\]$]|$)|[。！；।]|\n|,?\s+(?:{because})|,\s*(?:{aside})",
            r"|:\s+[a-z]{2,}\s+[a-z]{2,}\s|\s+[—–-]+\s*(?:{because}|{aside})|\s*</?[a-z]+>|\s*<\||\s*\[\^\d"
        ))
    });
    let trimmed = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '*' | ':' | '_' | '}'));
    let base = rest.len() - trimmed.len();
    let after = &rest[base..];
    for (open, close) in [("\\[", "\\]"), ("$$", "$$"), ("```", "```")] {
        if let Some(inner) = after.strip_prefix(open) {
            let inner = inner.find(close).map_or(inner, |end| &inner[..end]);
            return inner.trim();
        }
    }
    let after = text::head(after, SPAN_BYTES + 64);
    let mut from = 0;
    for _ in 0..16 {
        let Some(m) = CUT.find_at(after, from) else { break };
        // A stop inside an open formula is part of it.
        let before = &after[..m.start()];
        let in_formula = before.matches('$').count() % 2 == 1
            || before.matches('{').count() > before.matches('}').count()
            || before.matches("\\(").count() > before.matches("\\)").count();
        // "15; 16" and "15 ... 16" go on.
        let next = after[m.end()..].trim_start();
        let list = m.as_str().starts_with(';') && next.starts_with(|c: char| c.is_ascii_digit() || c == '$');
        // "i.e." ends no sentence, nor does "approx.".
        let short = || {
            let word = before.rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or("");
            // "The answer is no. Actually, …" goes on with a sentence, and "no. 4" with a number.
            let goes_on = match word.len() > 2 || word.contains('.') {
                true => {
                    next.starts_with(|c: char| c.is_lowercase() || c.is_ascii_digit() || "$\\(".contains(c))
                }
                false => next.starts_with(|c: char| c.is_ascii_digit()),
            };
            goes_on && word.chars().any(char::is_alphabetic) && is_abbreviation(word)
        };
        let goes_on = list || m.as_str().starts_with('.') && (before.ends_with("..") || short());
        if !in_formula && !goes_on || m.as_str().starts_with('\n') {
            // "5!!" at the end of a sentence is no double factorial.
            let stop = if m.as_str().starts_with('!') { before.trim_end_matches('!') } else { before };
            return own_braces(stop.trim());
        }
        from = m.end();
        if from >= after.len() {
            break;
        }
    }
    own_braces(after.trim())
}

/// A clause up to a brace or a dollar sign that closes what was opened before it: `\text{Answer: } 42$`, and without a
/// remark in brackets that gives a reason or denies something else, or the beginning of any: `43 (not 42)`.
fn own_braces(span: &str) -> &str {
    static REMARK: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["because", "not"]));
    if let Some(open) = span.rfind(" (").filter(|open| *open > 0 && span[*open..].ends_with(')'))
        && REMARK.opening(&span[open + 2..]).is_some()
    {
        return own_braces(span[..open].trim_end());
    }
    if let Some(open) = span.rfind(" (").filter(|open| !span[*open..].contains(')'))
        && span[open + 2..].chars().take_while(|c| c.is_alphabetic()).count() > 1
    {
        return own_braces(span[..open].trim_end());
    }
    let mut depth = 0usize;
    let mut escaped = false;
    for (at, c) in span.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth += 1,
            '}' if depth == 0 => return span[..at].trim_end(),
            '}' => depth -= 1,
            _ => {}
        }
    }
    match span.strip_suffix('$') {
        Some(rest) if !rest.is_empty() && span.matches('$').count() % 2 == 1 => rest.trim_end(),
        _ => span,
    }
}

/// Without closing Markdown, a smiley, or signs that are no writing.
pub(super) fn trim_end(span: &str) -> &str {
    let mut span = span.trim_end();
    for mark in ["__", ":)", ":-)", ";)", ":D"] {
        span = span.strip_suffix(mark).unwrap_or(span).trim_end();
    }
    span.trim_end_matches(|c: char| {
        ('\u{2600}'..='\u{27bf}').contains(&c) || c >= '\u{1f300}' || c.is_whitespace()
    })
}

/// The bytes of a cue without what it stands right before.
fn before_object(cue: &str) -> usize {
    static NOT: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["not"]));
    let end = cue.trim_end();
    let object = end.trim_end_matches(|c: char| matches!(c, '$' | '\\' | '-' | '−') || c.is_numeric());
    if object.len() < end.len() {
        return object.len();
    }
    NOT.closing(cue.trim_end()).filter(|start| *start > 0).unwrap_or(cue.len())
}

pub(super) fn cues<'a>(body: &'a str, found: &mut Vec<Candidate<'a>>) {
    static GIVES: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["gives"]));
    let all: Vec<_> = CUE.find_iter(body).collect();
    for m in &all[all.len().saturating_sub(MAX_CANDIDATES)..] {
        if text::is_within_word(body, m.start()) || is_conditional(&body[..m.start()]) {
            continue;
        }
        // The formula or number that a cue stands right before is no part of it, nor is a denial.
        let end = m.start() + before_object(m.as_str());
        let span = trim_end(clause(&body[end..]));
        let heading = m.as_str().ends_with('\n');
        let gives = GIVES.opening(m.as_str()).is_some();
        let formal = span.starts_with(|c: char| !c.is_alphabetic()) || span.starts_with("\\");
        if heading && !formal && span.len() > 40 || gives && !formal {
            continue;
        }
        let start = span.as_ptr() as usize - body.as_ptr() as usize;
        found.push(Candidate { text: span, rule: Rule::Cue, start: m.start(), end: start + span.len() });
    }
}
