//! Finding the answer in a response: a chain of rules that gives spans, and the choice of the last explicit one.
//!
//! Rules: `\boxed{…}` (balanced braces), `<answer>…</answer>`, `#### …`, a cue phrase such as "the answer is" (several
//! languages), a JSON field `"answer"`, a bold span in the last line, a response that is nothing but an answer, and on
//! request the last number. What is thought is never an answer: everything up to the last `</think>` is dropped, and a
//! `<think>` that does not close leaves no answer.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::text::{self, fixed};
use crate::words::{self, Phrases};

/// Bytes at the end of a response that are searched.
pub const INPUT_BYTES: usize = 64 * 1024;
/// Bytes of an answer span; a longer one is not an answer.
pub const SPAN_BYTES: usize = 4 * 1024;
/// Candidates that are kept, counted from the end.
const MAX_CANDIDATES: usize = 64;

/// What to do with several different explicit answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MultiAnswer {
    /// The last one counts.
    #[default]
    Last,
    /// Different explicit answers are ambiguous.
    RejectIfConflicting,
}

/// What to do with the text in think tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Think {
    /// Dropped; tags may be absent.
    #[default]
    Strip,
    /// Dropped; without a `</think>` there is no answer.
    RequireClosed,
}

/// What to do when nothing marks an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// There is no answer.
    #[default]
    None,
    /// The last number of the response is the answer.
    LastNumber,
}

/// Settings of the extraction chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtractPolicy {
    /// Several explicit answers.
    pub multi_answer: MultiAnswer,
    /// Think tags.
    pub think: Think,
    /// No explicit answer.
    pub fallback: Fallback,
}

/// The rule that found a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// `\boxed{…}` or `\fbox{…}`.
    Boxed,
    /// `<answer>…</answer>`.
    AnswerTag,
    /// `#### …`.
    Hashes,
    /// "the answer is …" and the like.
    Cue,
    /// `"answer": …`.
    Json,
    /// `**…**` in the last line.
    Bold,
    /// The response is nothing but an answer.
    Bare,
    /// The last number.
    LastNumber,
}

impl Rule {
    /// Name in [`crate::Outcome::method`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Boxed => "boxed",
            Self::AnswerTag => "answer_tag",
            Self::Hashes => "hashes",
            Self::Cue => "cue",
            Self::Json => "json",
            Self::Bold => "bold",
            Self::Bare => "bare",
            Self::LastNumber => "last_number",
        }
    }
}

/// A span that may be the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The span as written, trimmed.
    pub text: &'a str,
    /// The rule that found it.
    pub rule: Rule,
    /// Byte range of the whole match within the searched body.
    pub start: usize,
    /// End of that range.
    pub end: usize,
}

/// The answer that a response gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The span; several adjacent spans are joined by commas.
    pub text: String,
    /// The rule that found it.
    pub rule: Rule,
    /// Whether adjacent spans with different contents were joined.
    pub joined: bool,
    /// Whether another explicit answer before it has a different text.
    pub conflicting: bool,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// `<think>` does not close.
    UnclosedThink,
    /// Nothing marks an answer.
    NotFound,
    /// The last answer is denied ("not 42").
    Negated,
    /// The last answer is taken back and no other is given.
    Retracted,
    /// The answer is longer than [`SPAN_BYTES`].
    TooLong,
}

impl Missing {
    /// For people.
    pub fn reason(self) -> &'static str {
        match self {
            Self::UnclosedThink => "the think block does not close",
            Self::NotFound => "no explicit answer",
            Self::Negated => "the last answer is denied",
            Self::Retracted => "the last answer is taken back",
            Self::TooLong => "the answer is longer than 4 KiB",
        }
    }
}

/// The text after the last `</think>`.
///
/// # Errors
/// When a `<think>` does not close, or `require_closed` and there is no `</think>`.
pub fn strip_think(text: &str, require_closed: bool) -> Result<&str, Missing> {
    let body = match text.rfind("</think>") {
        Some(at) => &text[at + "</think>".len()..],
        None if require_closed => return Err(Missing::UnclosedThink),
        None => text,
    };
    if body.contains("<think>") { Err(Missing::UnclosedThink) } else { Ok(body) }
}

/// End of the brace group that opens at byte `open` of `text` (the index of the closing brace).
fn closing_brace(text: &str, open: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0usize;
    let mut i = open;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 1,
            b'{' => depth += 1,
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(i);
                }
            }
            _ => {}
        }
        i += 1;
    }
    None
}

/// Every `\boxed{…}` and `\fbox{…}` with balanced braces, outermost only, in order.
pub fn boxed(body: &str) -> Vec<Candidate<'_>> {
    static BOX: LazyLock<Regex> = LazyLock::new(|| fixed(r"\\(?:boxed|fbox|framebox)\s*(\{|[0-9A-Za-z])"));
    let mut found = Vec::new();
    let mut from = 0;
    // An unclosed brace costs one scan of the rest, so only so many are tried.
    let mut unclosed = 0;
    while let Some(m) = BOX.captures_at(body, from) {
        let (Some(whole), Some(mark)) = (m.get(0), m.get(1)) else { break };
        from = whole.end();
        if mark.as_str() != "{" {
            let len = body[mark.start()..].bytes().take_while(u8::is_ascii_digit).count().max(1);
            let end = mark.start() + len;
            found.push(Candidate {
                text: &body[mark.start()..end],
                rule: Rule::Boxed,
                start: whole.start(),
                end,
            });
            continue;
        }
        match closing_brace(body, mark.start()) {
            Some(end) => {
                let inner = body[mark.end()..end].trim();
                // A box within a box: the inner one is what matters and the outer one is its span.
                let inner = match BOX.is_match(inner) {
                    true => boxed(inner).last().map_or(inner, |c| c.text),
                    false => inner,
                };
                found.push(Candidate { text: inner, rule: Rule::Boxed, start: whole.start(), end: end + 1 });
                from = end + 1;
            }
            None => {
                unclosed += 1;
                if unclosed > 8 {
                    break;
                }
            }
        }
    }
    found
}

fn tags<'a>(body: &'a str, found: &mut Vec<Candidate<'a>>) {
    static TAG: LazyLock<Regex> =
        LazyLock::new(|| fixed(r"(?i)<(/?)(?:final_?)?answer\s*>|\[(/?)(?:final_?)?answer\]"));
    let mut open: Option<(usize, usize)> = None;
    for m in TAG.captures_iter(body) {
        let Some(whole) = m.get(0) else { continue };
        let closes = m.get(1).or_else(|| m.get(2)).is_some_and(|slash| !slash.is_empty());
        if !closes {
            open = Some((whole.start(), whole.end()));
        } else if let Some((start, inner)) = open.take() {
            let text = body[inner..whole.start()].trim();
            found.push(Candidate { text, rule: Rule::AnswerTag, start, end: whole.end() });
        }
    }
}

fn hashes<'a>(body: &'a str, found: &mut Vec<Candidate<'a>>) {
    static HASHES: LazyLock<Regex> = LazyLock::new(|| fixed(r"(?m)####[ \t]*([^\n#]*)$"));
    let all: Vec<_> = HASHES.captures_iter(body).collect();
    for m in &all[all.len().saturating_sub(MAX_CANDIDATES)..] {
        if let (Some(whole), Some(span)) = (m.get(0), m.get(1)) {
            let text = span.as_str().trim();
            let header = text.bytes().filter(u8::is_ascii_alphabetic).count() > 24;
            if !header && CUE.find(text).is_none_or(|c| c.start() != 0) {
                found.push(Candidate { text, rule: Rule::Hashes, start: whole.start(), end: whole.end() });
            }
        }
    }
}

/// A cue of any language, with the words that may follow it in front of the answer.
static CUE: LazyLock<Regex> = LazyLock::new(|| {
    let heading = words::each_language(
        r"(?m:^)[ \t]*(?:#{1,6}[ \t]*|\*\*|__)+(?:(?:{article?})[ \t]+)?(?:(?:{final?})[ \t]+)?(?:{answer}|results?)[ \t]*:?(?:\*\*|__)?:?[ \t]*\r?\n",
        "heading",
    );
    let cue = words::each_language(r"(?:{answer})(?:\s*(?:{final?})){0,2}\s*(?:{link?}|[:：=])", "cue");
    let lead = words::each_language(r"(?:{so}),?[ \t]+", "")
        + "|"
        + &words::each_language(r"(?:{indeed}),?[ \t]+", "");
    fixed(&format!(r"(?i)(?:{heading}|{cue})(?:\*\*|__)?[ \t]*(?:(?:\bis|=|:|：)[ \t]*)?(?:{lead})?"))
});

/// The words before a cue that make it no statement.
fn is_conditional(before: &str) -> bool {
    static CONDITION: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(
            r"(?i)(?:{condition})\s+(?:\w+\s+){0,3}$|(?:{doubt}|(?:{nobody}) (?:\w+ ){1,3})\s*(?:that\s+)?(?:\w+\s+){0,2}$",
        )
    });
    CONDITION.is_match(text::tail(before, 48))
}

/// The clause after a cue: to the end of the sentence or line; a display formula on the next line counts.
fn clause(rest: &str) -> &str {
    static CUT: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(concat!(
            r"(?i)[.!;](?:[\s*)\]$]|$)|[。！；]|\n|,?\s+(?:{because})|,\s*(?:{aside})",
            r"|:\s+[a-z]{2,}\s+[a-z]{2,}\s|\s+[—–-]+\s*(?:{because}|{aside})|\s*</?[a-z]+>|\s*<\|"
        ))
    });
    let trimmed = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '*' | ':' | '_'));
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
        if !in_formula || m.as_str().starts_with('\n') {
            // "5!!" at the end of a sentence is no double factorial.
            let stop = if m.as_str().starts_with('!') { before.trim_end_matches('!') } else { before };
            return stop.trim();
        }
        from = m.end();
        if from >= after.len() {
            break;
        }
    }
    after.trim()
}

/// Without closing Markdown, a smiley, or signs that are no writing.
fn trim_end(span: &str) -> &str {
    let mut span = span.trim_end();
    for mark in ["__", ":)", ":-)", ";)", ":D"] {
        span = span.strip_suffix(mark).unwrap_or(span).trim_end();
    }
    span.trim_end_matches(|c: char| {
        ('\u{2600}'..='\u{27bf}').contains(&c) || c >= '\u{1f300}' || c.is_whitespace()
    })
}

fn cues<'a>(body: &'a str, found: &mut Vec<Candidate<'a>>) {
    let all: Vec<_> = CUE.find_iter(body).collect();
    for m in &all[all.len().saturating_sub(MAX_CANDIDATES)..] {
        if is_conditional(&body[..m.start()]) {
            continue;
        }
        let span = trim_end(clause(&body[m.end()..]));
        let heading = m.as_str().ends_with('\n');
        let gives = m.as_str().bytes().next().is_some_and(|b| b"gGhHoOyY".contains(&b));
        let formal = span.starts_with(|c: char| !c.is_alphabetic()) || span.starts_with("\\");
        if heading && !formal && span.len() > 40 || gives && !formal {
            continue;
        }
        let start = span.as_ptr() as usize - body.as_ptr() as usize;
        found.push(Candidate { text: span, rule: Rule::Cue, start: m.start(), end: start + span.len() });
    }
}

fn json<'a>(body: &'a str, found: &mut Vec<Candidate<'a>>) {
    static FIELD: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r#"(?i)["'](?:final_?)?answer["']\s*:\s*(?:"((?:[^"\\\n]|\\.)*)"|'([^'\\\n]*)'|(-?[0-9][0-9.eE+-]*|\[[^\]\n]*\]))"#,
        )
    });
    for m in FIELD.captures_iter(body) {
        if let (Some(whole), Some(span)) = (m.get(0), m.get(1).or_else(|| m.get(2)).or_else(|| m.get(3))) {
            let text = span.as_str().trim();
            found.push(Candidate { text, rule: Rule::Json, start: whole.start(), end: whole.end() });
        }
    }
}

/// Every explicit answer span of `body`, ordered by its end; a span that holds another one is dropped for it.
pub fn candidates(body: &str) -> Vec<Candidate<'_>> {
    let mut found = boxed(body);
    tags(body, &mut found);
    hashes(body, &mut found);
    json(body, &mut found);
    cues(body, &mut found);
    // Ordered by end, the widest first: a span within another one comes directly before or after its holder.
    found.sort_by_key(|c| (c.end, std::cmp::Reverse(c.start)));
    if found.len() > MAX_CANDIDATES {
        found.drain(..found.len() - MAX_CANDIDATES);
    }
    let mut kept: Vec<Candidate<'_>> = Vec::with_capacity(found.len());
    for candidate in found {
        let placeholder =
            !candidate.text.chars().any(|c| c.is_alphanumeric() || matches!(c, '∞' | '∅' | '\\' | '↑' | '↓'))
                || matches!(candidate.text, "answer" | "your answer" | "\\ldots" | "\\dots")
                || candidate.rule == Rule::Cue && is_comment(candidate.text);
        if placeholder {
            continue;
        }
        // What holds another span only introduces it, unless it hedges around it.
        if kept.last().is_some_and(|inner| inner.start >= candidate.start) {
            let hedges =
                candidate.rule == Rule::Cue && (text::is_hedged(candidate.text) || offers(candidate.text));
            if !hedges {
                continue;
            }
            while kept.last().is_some_and(|inner| inner.start >= candidate.start) {
                kept.pop();
            }
        }
        while kept
            .last()
            .is_some_and(|k| k.rule == Rule::Cue && k.start <= candidate.start && k.end > candidate.start)
        {
            kept.pop();
        }
        kept.push(candidate);
    }
    kept
}

/// "17 or \\boxed{18}": an alternative outside of the marked-up answer.
fn offers(span: &str) -> bool {
    static OFFER: LazyLock<Regex> =
        LazyLock::new(|| words::pattern(r"(?i)\d[\s$.)]*\s(?:{or})\s|\s(?:{or})[\s$(]*\d"));
    OFFER.is_match(span)
}

/// "The answer is correct": a remark on an answer and no answer.
fn is_comment(span: &str) -> bool {
    static COMMENT: LazyLock<Regex> =
        LazyLock::new(|| words::pattern(r"(?i)^(?:(?:{indeed}|{so}) )?(?:{remark})"));
    COMMENT.is_match(span)
}

/// Whether the text between two spans only separates them.
fn separates(gap: &str) -> bool {
    static GAP: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(
            r"(?i)^[\s$,;&/()\[\]*\\]*(?:\\?(?:text|quad|qquad)\b[\s{]*)*(?:{and}|{or})?(?:\s*(?:option|case|answer|candidate|possibility|alternative)\s*\w{1,2}\s*[:.)])?(?:[\s}]*\\?(?:quad|qquad)?)*[\s$,;()\[\]*\\]*(?:[a-z](?:_\{?\w\}?)?\s*=\s*)?$",
        )
    });
    gap.len() <= 64 && GAP.is_match(gap)
}

/// The answer that `response` gives under `policy`.
///
/// # Errors
/// Why there is none.
pub fn answer(response: &str, policy: ExtractPolicy) -> Result<Answer, Missing> {
    visible_answer(&text::visible(response), policy)
}

fn visible_answer(response: &str, policy: ExtractPolicy) -> Result<Answer, Missing> {
    let body = strip_think(response, policy.think == Think::RequireClosed)?;
    let body = without_specials(text::tail(body, INPUT_BYTES));
    let found = candidates(body);
    let Some(last) = found.last() else { return unmarked(body, policy.fallback) };
    if last.text.len() > SPAN_BYTES {
        return Err(Missing::TooLong);
    }
    if text::is_negated(last.text) || is_denied(&body[..last.start], last) {
        return Err(Missing::Negated);
    }
    if is_retracted(&body[last.end..]) {
        return Err(Missing::Retracted);
    }
    // Adjacent spans of the same kind are one answer with several parts.
    let mut first = found.len() - 1;
    while first > 0 && matches!(last.rule, Rule::Boxed | Rule::AnswerTag | Rule::Hashes | Rule::Json) {
        let (before, after) = (&found[first - 1], &found[first]);
        if before.rule != last.rule || before.end > after.start || !separates(&body[before.end..after.start])
        {
            break;
        }
        first -= 1;
    }
    let mut spans: Vec<&str> = Vec::new();
    for candidate in &found[first..] {
        if !spans.contains(&candidate.text) {
            spans.push(candidate.text);
        }
    }
    let mut joined = spans.len() > 1;
    let mut text = if joined { spans.join(", ") } else { last.text.to_string() };
    if last.rule == Rule::Boxed
        && let Some(other) = alternative(&body[..found[first].start], &body[last.end..])
    {
        joined = true;
        text = format!("{text} or {other}");
    }
    if text.len() > SPAN_BYTES {
        return Err(Missing::TooLong);
    }
    let form = |s: &str| text::normalise(s).replace(' ', "");
    let own = form(last.text);
    let conflicting = found[..first].iter().any(|c| form(c.text) != own);
    Ok(Answer { text, rule: last.rule, joined, conflicting })
}

/// Without the special tokens that end a response, such as `<|im_end|>`.
fn without_specials(body: &str) -> &str {
    let mut body = body.trim_end();
    for _ in 0..4 {
        let cut = match body.strip_suffix("|>") {
            Some(rest) => rest.rfind("<|").filter(|at| rest.len() - at <= 32),
            None => {
                ["</s>", "<eos>", "<end_of_turn>"].iter().find_map(|t| body.strip_suffix(t)).map(str::len)
            }
        };
        match cut {
            Some(at) => body = body[..at].trim_end(),
            None => break,
        }
    }
    body
}

/// The other number of "6 or \boxed{5}" and "either \boxed{5} or 6".
fn alternative<'a>(before: &'a str, after: &'a str) -> Option<&'a str> {
    static BEFORE: LazyLock<Regex> =
        LazyLock::new(|| words::pattern(r"(?i)([-−]?\d[\d.,/]*)[$\s)\\]*(?:{or})[\s$(\[\\]*$"));
    static AFTER: LazyLock<Regex> =
        LazyLock::new(|| words::pattern(r"(?i)^[\s$)\]\\,]*(?:{or})[\s$(\\]*([-−]?\d[\d.,/]*)"));
    (BEFORE.captures(text::tail(before, 48)).and_then(|m| m.get(1)))
        .or_else(|| AFTER.captures(text::head(after, 48)).and_then(|m| m.get(1)))
        .map(|m| m.as_str().trim_end_matches(['.', ',']))
}

fn is_denied(before: &str, last: &Candidate<'_>) -> bool {
    static DENIAL: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(r"(?i)(?:{not}|cannot be|can't be)\s*(?:(?:{indeed}|equal to)\s+)?[\s$\\(\[*]*$")
    });
    last.rule == Rule::Boxed && DENIAL.is_match(text::tail(before, 48))
}

/// Whether what follows an answer takes it back.
pub(crate) fn is_retracted(after: &str) -> bool {
    static RETRACTION: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["retract"]));
    static CONFIRMATION: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["confirm"]));
    let last = RETRACTION.places(after).last();
    last.is_some_and(|(_, end)| !CONFIRMATION.hold(&after[end..])) || gives_up(after)
}

/// Whether the text ends with "but I do not know".
pub(crate) fn gives_up(text: &str) -> bool {
    static UNKNOWN: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["unknown"]));
    let end = text
        .trim_end_matches(|c: char| !c.is_alphanumeric() && (c as u32) < 0x300 || matches!(c, '。' | '！'));
    UNKNOWN.closing(end).is_some()
}

/// A response without any mark: bold in the last line, nothing but an answer, or the last number on request.
fn unmarked(body: &str, fallback: Fallback) -> Result<Answer, Missing> {
    static BOLD: LazyLock<Regex> =
        LazyLock::new(|| fixed(r"\*\*([^*\n]{1,200})\*\*|\\(?:textbf|mathbf)\{([^{}\n]{1,200})\}"));
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"[-−]?\$?(?:\d{1,3}(?:[,.]\d{3})+|\d+)(?:[.,]\d+)?(?:\s*/\s*\d+)?%?|[-−]?\\d?frac\{?\d+\}?\{?\d+\}?",
        )
    });
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
    let short = trimmed.len() <= 256 && !trimmed.contains('\n') || is_one_formula(trimmed);
    let open = trimmed.contains("\\boxed") || trimmed.contains("<answer");
    if short && !open && !trimmed.is_empty() && !wordy(trimmed) {
        if text::is_negated(trimmed) {
            return Err(Missing::Negated);
        }
        return Ok(give(trimmed, Rule::Bare));
    }
    if fallback == Fallback::LastNumber
        && let Some(m) = NUMBER.find_iter(body).last()
    {
        return Ok(give(m.as_str(), Rule::LastNumber));
    }
    Err(Missing::NotFound)
}

/// A last line that states a result in other words than "answer".
fn statement() -> &'static Regex {
    static STATEMENT: LazyLock<Regex> = LazyLock::new(|| {
        let own = words::each_language(
            r"(?:(?:{so?}),?\s*)?(?:(?:{article?})\s+)?(?:(?:{final?})\s+)?(?:{result})(?:\s+of\s+\S{1,40})?[*_]*\s*(?:{link}|=|:|：)",
            "statement",
        );
        fixed(&format!(r"(?i)^[#*_\s]*(?:{own})[*_]*\s*([-−$\\(\d.*]\S*.*|[a-zA-Z]\s*=\s*\S.*)$"))
    });
    &STATEMENT
}

/// Compiles the patterns.
pub(crate) fn warm_up() {
    let text = "the answer is not \\boxed{1} or **2**, or 3. Scratch that, it's <answer>4</answer> #### 5\nThe result is 6";
    for policy in [Fallback::None, Fallback::LastNumber] {
        let policy = ExtractPolicy { fallback: policy, ..ExtractPolicy::default() };
        for text in [
            text,
            "The result is 6",
            "**3**",
            "3",
            "\\boxed{1} and \\boxed{2} or 3",
            "and then 6 more, or so we think",
        ] {
            let _ = answer(text, policy);
        }
    }
}

/// Whether the text is one display formula and nothing else.
fn is_one_formula(text: &str) -> bool {
    [("\\[", "\\]"), ("$$", "$$"), ("$", "$")].iter().any(|(open, close)| {
        text.len() <= SPAN_BYTES
            && (text.strip_prefix(open).and_then(|t| t.strip_suffix(close)))
                .is_some_and(|inner| !inner.contains(close) && !inner.contains(open))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(response: &str, want: Result<&str, Missing>) {
        let got = answer(response, ExtractPolicy::default()).map(|a| a.text);
        assert_eq!(got, want.map(str::to_string), "{response:?}");
    }

    #[test]
    fn marks() {
        check("so \\boxed{42}.", Ok("42"));
        check("\\boxed{\\frac{1}{2}}", Ok("\\frac{1}{2}"));
        check("\\boxed{\\{1, 2\\}}", Ok("\\{1, 2\\}"));
        check("<answer> 42 </answer>", Ok("42"));
        check("<answer>The answer is \\boxed{42}</answer>", Ok("42"));
        check("48/2 = 24\n#### 72", Ok("72"));
        check("So the answer is 42.", Ok("42"));
        check("The final answer is: $\\frac{3}{4}$. Done.", Ok("$\\frac{3}{4}$"));
        check("**Answer:** 42", Ok("42"));
        check("**Final Answer**\n\n\\boxed{7}", Ok("7"));
        check("### Answer: 3.5 apples", Ok("3.5 apples"));
        check("答案是 42。", Ok("42"));
        check("La respuesta es 42.", Ok("42"));
        check("{\"answer\": \"42\"}", Ok("42"));
        check("So she has **42**.", Ok("42"));
        check("42", Ok("42"));
        check("The answer is\n\\[ x = 3 \\]", Ok("x = 3"));
    }

    #[test]
    fn the_last_explicit_answer_wins() {
        check("\\boxed{1} but then it is clear: \\boxed{2}", Ok("2"));
        check("The answer is 41. Wait, the answer is 42.", Ok("42"));
        check("\\boxed{5}. Hmm, so the answer is 6.", Ok("6"));
        check("The answer is \\boxed{5}", Ok("5"));
        check("\\boxed{1}, \\boxed{2}", Ok("1, 2"));
        check("$\\boxed{1}$ or $\\boxed{2}$", Ok("1, 2"));
        check("\\boxed{2}\n\n\\boxed{2}", Ok("2"));
    }

    #[test]
    fn what_is_no_answer() {
        check("<think>\\boxed{42}", Err(Missing::UnclosedThink));
        check(
            "<think>\\boxed{42}</think>I do not know how to go on from here, sorry about it.",
            Err(Missing::NotFound),
        );
        check("<think>a</think> \\boxed{42}", Ok("42"));
        check("6 times 7 is what we need, and then we find 42 apples there.", Err(Missing::NotFound));
        check("The answer is not 42.", Err(Missing::Negated));
        check("It is not \\boxed{42}", Err(Missing::Negated));
        check("The answer is 42. I made a mistake.", Err(Missing::Retracted));
        check("{\"answer\": 42} is the key, but I do not know.", Err(Missing::Retracted));
        check("The answer is 42. Scratch that, it is 43.", Ok("43"));
        check("\\boxed{42", Err(Missing::NotFound));
        check("Put the result in \\boxed{} please, dear student, and then we go on.", Err(Missing::NotFound));
        check("", Err(Missing::NotFound));
    }
}
