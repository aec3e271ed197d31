//! Finding the answer in a response: a chain of rules that gives spans, and the choice of the last explicit one.
//!
//! Rules: `\boxed{…}` (balanced braces), `<answer>…</answer>`, `#### …`, a cue phrase such as "the answer is" (several
//! languages), a JSON field `"answer"`, a bold span in the last line, a response that is nothing but an answer, and with
//! [`Extract::Lenient`] the last number or formula. What is thought is never an answer, nor what follows the end of the
//! turn ([`crate::turn`]).

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

pub use super::missing::Missing;
pub use super::turn::strip_think;
use crate::answer::text::{self, fixed};
use crate::answer::words::{self, Phrases};

mod around;
mod cue;
mod lenient;
mod object;
mod side;
mod unmarked;

use self::around::with_surroundings;
use self::cue::{CUE, back_cues, clause, cues, trim_end};
pub(crate) use self::lenient::last_sentences;
pub use self::object::object;
pub(crate) use self::object::stated;
pub(crate) use self::side::last_side;
use self::unmarked::unmarked;

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

/// How far an answer is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extract {
    /// What the response marks as its answer, and nothing else.
    #[default]
    #[serde(alias = "none")]
    Strict,
    /// Where nothing is marked, the last number or formula (letter, yes or no) that the response states. For evaluations
    /// of models that were never told of marks; in training it pays what only happens to stand last.
    #[serde(alias = "last_number")]
    Lenient,
}

/// Settings of the extraction chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtractPolicy {
    /// Several explicit answers.
    pub multi_answer: MultiAnswer,
    /// Think tags.
    pub think: Think,
    /// How far to look.
    pub extract: Extract,
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
    /// The last number or formula, where nothing is marked.
    Lenient,
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
            Self::Lenient => "lenient",
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
    static TAG: LazyLock<Regex> = LazyLock::new(|| {
        fixed(r"(?i)<(/?)(?:final_?)?answer\s*>|\[(/?)(?:final_?)?answer\]|<\|(?:begin|(end))_of_box\|>")
    });
    let mut open: Option<(usize, usize)> = None;
    for m in TAG.captures_iter(body) {
        let Some(whole) = m.get(0) else { continue };
        let closes = (1..=3).find_map(|i| m.get(i)).is_some_and(|slash| !slash.is_empty());
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

fn json<'a>(body: &'a str, found: &mut Vec<Candidate<'a>>) {
    static FIELD: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r#"(?i)["'](?:final_?)?answer["']\s*:\s*(?:"((?:[^"\\\n]|\\.)*)"|'([^'\\\n]*)'|(-?[0-9][0-9.eE+-]*|\[[^\]\n]*\]|true\b|false\b))"#,
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
    back_cues(body, &mut found);
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
                || candidate.rule == Rule::Cue
                    && is_comment(candidate.text)
                    && !(concludes(&body[candidate.end..]) && object(candidate.text).is_some());
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

/// Whether nothing follows that could be another answer.
fn concludes(rest: &str) -> bool {
    rest.len() < 256 && !rest.contains(char::is_numeric)
}

/// Whether the text between two spans only separates them.
fn separates(gap: &str) -> bool {
    static GAP: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(
            r"(?i)^[\s$,;&/()\[\]*\\]*(?:\\?(?:text|quad|qquad)\b[\s{]*)*(?:{and}|{or})?(?:\s*(?:{option}|{answer}|{label})\s*\w{1,2}\s*[:.)])?(?:[\s}]*\\?(?:quad|qquad)?)*[\s$,;()\[\]*\\]*(?:[a-z](?:_\{?\w\}?)?\s*=\s*)?$",
        )
    });
    gap.len() <= 64 && GAP.is_match(gap)
}

/// The answer that `response` gives under `policy`.
///
/// # Errors
/// Why there is none.
pub fn answer(response: &str, policy: ExtractPolicy) -> Result<Answer, Missing> {
    visible_answer(&without_notes(&text::visible(response)), policy)
}

/// Without the notes of a calculator, as in `3 * 2 = <<3*2=6>>6`.
fn without_notes(response: &str) -> Cow<'_, str> {
    static NOTE: LazyLock<Regex> =
        LazyLock::new(|| fixed(r"<<[-−+*×x/÷().,%$\d\s]{1,200}=[-−.,%$/\d\s]{1,60}>>"));
    if !response.contains("<<") {
        return Cow::Borrowed(response);
    }
    NOTE.replace_all(response, "")
}

fn visible_answer(response: &str, policy: ExtractPolicy) -> Result<Answer, Missing> {
    let body = strip_think(response, policy.think == Think::RequireClosed)?;
    let body = text::tail(body, INPUT_BYTES);
    let found = candidates(body);
    let Some(last) = found.last() else { return unmarked(body, policy.extract) };
    if last.text.len() > SPAN_BYTES {
        return Err(Missing::TooLong);
    }
    if let Some(denied) = text::after_not(last.text) {
        // "The answer is not 42, it is 43."
        return turned(&body[denied.as_ptr() as usize - body.as_ptr() as usize..]).ok_or(Missing::Negated);
    }
    if is_denied(&body[..last.start], last) || last.rule == Rule::Cue && text::is_denied_behind(last.text) {
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
    // "**2 1/4** cups": what closes the bold that stands right before the answer.
    let start = last.text.as_ptr() as usize - body.as_ptr() as usize;
    if last.rule == Rule::Cue && body[..start].ends_with("**") && text.matches("**").count() == 1 {
        text = text.replacen("**", "", 1);
    }
    if last.rule == Rule::Boxed && !joined {
        text = with_surroundings(&body[..last.start], last.text, &body[last.end..]);
    }
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

/// What is given in place of an answer that `rest` of a sentence denies: "42, it is 43", "42 but 43".
fn turned(rest: &str) -> Option<Answer> {
    static BUT: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(
            r"(?i)^(?:[^.;。\n]|\.\d){1,80}?(?:[,;，；]\s*(?:{points}|{copula}|{but})|\s(?:{but}))\s*",
        )
    });
    let m = BUT.find(text::head(rest, 200))?;
    let span = trim_end(clause(&rest[m.end()..]));
    let formal = span.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '$' | '\\' | '-' | '−'));
    (formal && !is_retracted(&rest[m.end() + span.len()..])).then(|| Answer {
        text: span.into(),
        rule: Rule::Cue,
        joined: false,
        conflicting: false,
    })
}

fn is_denied(before: &str, last: &Candidate<'_>) -> bool {
    static DENIAL: LazyLock<Regex> =
        LazyLock::new(|| words::pattern(r"(?i)(?:{not}|{exclude})\s*(?:{indeed}\s+)?[\s$\\(\[*]*$"));
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

/// Compiles the patterns.
pub(crate) fn warm_up() {
    let text = "the answer is not \\boxed{1} or **2**, or 3. Scratch that, it's <answer>4</answer> #### 5\nThe result is 6";
    for extract in [Extract::Strict, Extract::Lenient] {
        let policy = ExtractPolicy { extract, ..ExtractPolicy::default() };
        for text in [
            text,
            "The result is 6",
            "**3**",
            "3",
            "\\boxed{1} and \\boxed{2} or 3",
            "and then 6 more, or so we think",
            "Janet makes 18 dollars, not 19",
            "It is not 4, it is 5. So we have $x = 1$",
            "The answer is not 4, it is 5.",
            "So we get <<1+1=2>> $1 + 1 = 2$ and $x = 3 \\pmod{5}$ of them",
        ] {
            let _ = answer(text, policy);
            let _ = object(text);
            let _ = last_side(text);
        }
    }
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
