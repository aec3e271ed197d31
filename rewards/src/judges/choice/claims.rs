//! What a response claims and denies, in order: marked answers, cue phrases, statements, remarks on single options.

use std::sync::LazyLock;

use regex::{Match, Regex};

use super::lines;
use super::options::{Options, Set};
use super::read::{self, Reading};
use super::statements;
use crate::answer::extract;
use crate::answer::text::{self, fixed};
use crate::answer::words::{self, Phrases};

/// How much a claim weighs against another kind of claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Strength {
    /// "B is correct", "so B".
    Statement,
    /// "The answer is B".
    Cue,
    /// A box, a tag, a JSON field, `#### B`.
    Marked,
}

/// A place that says something about the options.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) reading: Reading,
    pub(super) strength: Strength,
    pub(super) rule: &'static str,
}

/// Places of one kind that are looked at, from the last one.
pub(super) const MAX_PLACES: usize = 48;

/// Bytes of a sentence before and behind a place that bear on it.
pub(super) const REACH: usize = 2048;

/// The sentences of `body` as byte ranges; a label's own full stop ("B. Fever") ends none.
/// Nor does the full stop within the text of an option ("C. difficile").
pub(super) fn sentences(body: &str, options: &Options) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let names = options.dotted(body);
    let mut start = 0;
    // Where the words of a sentence begin.
    let mut first: Option<usize> = None;
    let mut chars = body.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map_or(' ', |(_, n)| *n);
        let end = at + c.len_utf8();
        if first.is_none() && c.is_alphanumeric() {
            first = Some(at);
        }
        let stop = match c {
            '\n' | '。' | '！' | '？' | '；' | ';' => true,
            '!' | '?' => !next.is_alphanumeric(),
            '.' => {
                let so_far = &body[first.unwrap_or(at)..at];
                // Nothing longer is an abbreviation.
                let word = text::tail(so_far, 8).rsplit(char::is_whitespace).next().unwrap_or("");
                let opening = so_far.chars().nth(2).is_none()
                    || so_far.len() <= 10 && so_far.to_ascii_lowercase().starts_with("option ");
                let short =
                    matches!(&*word.to_ascii_lowercase(), "e.g" | "i.e" | "vs" | "dr" | "mr" | "st" | "etc");
                let named =
                    names.get(names.partition_point(|(_, to)| *to <= at)).is_some_and(|(from, _)| *from < at);
                !named
                    && (next.is_whitespace() || matches!(next, '*' | ')' | '"' | '”' | '\\' | '<'))
                    && !opening
                    && !short
            }
            _ => false,
        };
        if stop {
            out.push((start, end));
            start = end;
            first = None;
        }
    }
    if start < body.len() {
        out.push((start, body.len()));
    }
    out
}

/// The sentence of `list` that holds byte `at`.
pub(super) fn sentence_at(list: &[(usize, usize)], at: usize) -> (usize, usize) {
    let i = list.partition_point(|(_, end)| *end <= at);
    list.get(i).copied().unwrap_or((at, at))
}

/// Boxes, tags, JSON fields and hash lines.
pub(super) fn marked(body: &str, options: &Options, out: &mut Vec<Claim>) {
    static JSON: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r#"(?i)["'](?:(?:final|correct|selected|chosen|my|best|predicted)?[ _-]?(?:answer|choice|option|letter|selection|prediction|label)(?:[ _-]?(?:idx|index|letter|choice|option|key|id))?|response|output|result|答案)["']\s*:\s*(?:"((?:[^"\\\n]|\\.){0,1200})"|'((?:[^'\\\n]|\\.){0,400})'|\[\s*([^\]\n]{0,400})\]|([A-Za-z0-9]{1,4})\s*[,}\n])"#,
        )
    });
    static HASH: LazyLock<Regex> = LazyLock::new(|| fixed(r"(?m)####[ \t]*([^\n#]{1,400})$"));
    let mut spans: Vec<(usize, usize, &str, &'static str)> = Vec::new();
    let boxes = extract::boxed(body);
    for c in &boxes[boxes.len().saturating_sub(MAX_PLACES)..] {
        spans.push((c.start, c.end, c.text, "boxed"));
    }
    for (start, end, text) in tagged(body) {
        spans.push((start, end, text, "answer_tag"));
    }
    for (pattern, rule) in [(&JSON, "json"), (&HASH, "hashes")] {
        for whole in text::last_places(pattern, body, MAX_PLACES) {
            let Some(m) = pattern.captures_at(body, whole.start()) else { continue };
            let Some(span) = (1..m.len()).find_map(|i| m.get(i)) else { continue };
            let text = anew(span.as_str());
            if rule == "hashes" && text.len() > 120 {
                continue;
            }
            spans.push((whole.start(), whole.end(), text, rule));
        }
    }
    for (start, end, span, rule) in spans {
        // What a box or tag holds may be a whole sentence with a cue of its own.
        let mut inner = Vec::new();
        if span.len() > 3 && rule != "boxed" {
            let list = sentences(span, options);
            cues(span, &list, options, &mut inner);
            marked_boxes(span, options, &mut inner);
        }
        let mut reading = read::answer_span(span, options);
        if let Some(last) =
            inner.iter().rev().find(|c| c.strength >= Strength::Cue && chosen(c.reading).is_some())
        {
            reading = last.reading;
        } else if reading == Reading::Nothing && rule == "answer_tag" {
            statements::statements(span, &sentences(span, options), options, &mut inner);
            reading = inner.last().map_or(Reading::Nothing, |c| c.reading);
        }
        let denied =
            read::denied_before(body, start.saturating_sub(usize::from(body[..start].ends_with(['$', '(']))));
        if denied {
            reading = match reading {
                Reading::Chosen(set) => Reading::Denied(set),
                other => other,
            };
        }
        if rule == "hashes" && reading == Reading::Nothing || span.is_empty() {
            continue;
        }
        out.push(Claim { start, end, reading, strength: Strength::Marked, rule });
    }
}

/// A span from the tag on that opens again within it.
fn anew(span: &str) -> &str {
    span.rfind("<answer>").map_or(span, |again| &span[again + "<answer>".len()..]).trim()
}

/// What stands between answer tags, each with the place of both tags.
fn tagged(body: &str) -> Vec<(usize, usize, &str)> {
    static OPEN: LazyLock<Regex> = LazyLock::new(|| {
        fixed(r"(?i)<(?:answer|final_answer|final|ans|choice|option|result)>|<\|begin_of_box\|>")
    });
    static CLOSE: LazyLock<Regex> = LazyLock::new(|| {
        fixed(r"(?i)</(?:answer|final_answer|final|ans|choice|option|result)>|<\|end_of_box\|>")
    });
    let mut found = Vec::new();
    let mut from = 0;
    let mut openings = OPEN.find_iter(body).peekable();
    for close in CLOSE.find_iter(body) {
        let end = body[..close.start()].trim_end().len();
        while let Some(open) = openings.next_if(|open| open.end() <= close.start()) {
            let span = body.get(open.end()..end).unwrap_or("").trim_start();
            // What is longer is no answer, but a later tag may open one.
            let long = span.len() > 4 * MAX_TAGGED
                || span.len() > MAX_TAGGED && span.chars().nth(MAX_TAGGED).is_some();
            if open.start() < from || long {
                continue;
            }
            found.push((open.start(), close.end(), anew(span)));
            from = close.end();
        }
    }
    found.drain(..found.len().saturating_sub(MAX_PLACES));
    found
}

/// Characters between answer tags.
const MAX_TAGGED: usize = 1200;

fn marked_boxes(span: &str, options: &Options, out: &mut Vec<Claim>) {
    for c in extract::boxed(span).into_iter().take(4) {
        let reading = read::answer_span(c.text, options);
        out.push(Claim { start: c.start, end: c.end, reading, strength: Strength::Marked, rule: "boxed" });
    }
}

/// The set that a reading chooses.
pub(super) fn chosen(reading: Reading) -> Option<Set> {
    if let Reading::Chosen(set) = reading { Some(set) } else { None }
}

/// A cue of any language.
static CUE: LazyLock<Regex> = LazyLock::new(|| {
    let all = words::each_language(
        r"(?:(?:{article?})\s+)?(?:(?:{final?})\s+){0,2}(?:{answer}|{option})(?:(?-i:[^.:=\n?;]{0,60}?)(?:{link?}|[:：=]|–|—|-))?",
        "choice",
    );
    fixed(&format!("(?i)(?:{all})(?:[*_]{{1,3}})?"))
});

/// Words before a cue that make it no statement of the writer.
pub(super) fn is_supposed(before: &str) -> bool {
    static CONDITION: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(concat!(
            r"(?i)(?:(?:{perhaps})[,，、]?[^.,;]{0,30}|(?:{condition})[^.,;]{0,40}|(?:{supposed})[^.,;]{0,30}|(?:{tempting}),?[^.;,]{0,60}|(?:{otherwise})[^.;]{0,30}",
            r"|(?:^|[.,;:!?(\n]\s*|(?:{and}|{but})\s+)(?:{crowd})(?:(?:\s+\w+){0,3}\s*|[^\x00-\x7F，。]{0,6}))$",
        ))
    });
    // "If she has a fever, the answer is B", but not "If I had to choose, I'd say B".
    static IF: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(
            r"(?i)^\W*(?:(?:{so}|{but}|{and})[,\s]+)?(?:{if}|{inverted})(?P<self>\s*(?:{self}))?[^.;。；]{0,160}[,，](?:\s*[^\s,.;，]+){0,5}\s*$",
        )
    });
    static CONCEDE: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["concede"]));
    if IF.captures(text::tail(before, 240)).is_some_and(|m| m.name("self").is_none()) && !BUT.hold(before) {
        return true;
    }
    // "B is tempting, but the answer is C" turns away from what is supposed.
    let turned = |m: &str| BUT.hold(m) || m.contains([',', '，']) && CONCEDE.hold(before);
    CONDITION.find(text::tail(before, 96)).is_some_and(|m| !turned(m.as_str()))
}

static BUT: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["but"]));

/// "I don't think the answer is …".
pub(super) fn is_doubted(before: &str) -> bool {
    static DOUBT: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(concat!(
            r"(?i)(?:(?:{doubt})(?:,\s*(?:{that})\s)?[^.,;]{0,30}",
            r"|(?:{wrong})(?:{genitive})?\s*|\ban?\s+)$"
        ))
    });
    DOUBT.is_match(text::tail(before, 64))
}

pub(super) fn is_question(sentence: &str) -> bool {
    sentence.trim_end().ends_with(['?', '？'])
}

/// The clause after a cue: the rest of its sentence, or the next line when nothing is left of this one.
pub(super) fn clause<'a>(body: &'a str, list: &[(usize, usize)], at: usize) -> &'a str {
    static CUT: LazyLock<Regex> =
        LazyLock::new(|| words::pattern(r"(?i),?\s+(?:{because})|,\s*(?:{aside})|\s*</|<\|"));
    let empty = |s: &str| !s.chars().any(char::is_alphanumeric);
    let end = sentence_at(list, at).1.max(at);
    let mut span = &body[at..end];
    if empty(span) {
        // "Answer:\n\nB": the next line that says something, a few lines on at most.
        let rest = text::head(&body[at..], 600);
        span = rest.lines().take(5).find(|l| !empty(l)).unwrap_or("");
    } else if let Some(dot) = span.trim_end().strip_suffix(['.', '。']) {
        span = dot;
    }
    let span = CUT.find(text::head(span, REACH)).map_or(span, |m| &span[..m.start()]);
    span.trim()
}

/// Cue phrases with the clause that follows.
pub(super) fn cues(body: &str, list: &[(usize, usize)], options: &Options, out: &mut Vec<Claim>) {
    let all: Vec<_> = CUE.find_iter(body).filter(|m| !m.is_empty()).collect();
    for place in &all[all.len().saturating_sub(MAX_PLACES * 2)..] {
        out.extend(cue(body, list, options, *place));
    }
}

/// What the cue at `place` and the clause behind it say.
fn cue(body: &str, list: &[(usize, usize)], options: &Options, place: Match<'_>) -> Option<Claim> {
    static SOFT: LazyLock<Regex> = LazyLock::new(|| words::pattern(r"(?i)(?:{soft})"));
    static HEADS: LazyLock<Regex> = LazyLock::new(|| words::pattern(r"(?i)(?:{answer}|{final}|{right})"));
    let said = place.as_str();
    let (from, to) = sentence_at(list, place.start());
    let before = text::tail(&body[from..place.start()], REACH);
    let dense = said.chars().any(|c| c as u32 > 0x2E7F);
    let apart = !text::is_within_word(body, place.start());
    if !apart || is_supposed(before) || is_question(&body[from..to.max(from)]) {
        return None;
    }
    let span = clause(body, list, place.end());
    if span.is_empty() {
        return None;
    }
    let start = span.as_ptr() as usize - body.as_ptr() as usize;
    let claim =
        |end, reading, strength| Some(Claim { start: place.start(), end, reading, strength, rule: "cue" });
    // A list below the cue, where several options may be the answer.
    let below = start >= to.max(place.end());
    if options.several()
        && below
        && HEADS.is_match(said)
        && let Some((set, end)) = lines::run_of(&body[start..], options)
        && set.len() > 1
    {
        return claim(start + end, Reading::Chosen(set), Strength::Cue);
    }
    // A heading above a list of options, or a sentence about all of them, chooses none.
    if below && lines::begins_list(&body[start..], options, said)
        || WALK.hold(text::tail(&body[from..place.end()], 240)) && !linked_by_verb(said)
    {
        return None;
    }
    let mut reading = behind(said, span, options, dense);
    if let Some(set) = chosen(reading) {
        let rest = text::head(&body[place.end()..to.max(place.end())], REACH);
        if is_plural(said, set, options) || is_unreal(said, before, rest) || MAYBE.hold(said) {
            return None;
        }
        if is_foreign_denial(said) || is_doubted(before) || dense && is_refused(&body[from..place.start()]) {
            reading = Reading::Denied(set);
        } else if depends(rest) {
            reading = Reading::Open;
        }
    }
    // "The answer is B. <the text of C>" contradicts itself.
    if let Reading::Chosen(mut set) = reading
        && set.len() == 1
        && let Some(rest) = body[start + span.len()..].strip_prefix('.')
    {
        let at = body.len() - rest.len();
        let (a, b) = sentence_at(list, at);
        let text = body[a.max(at)..b.max(at)].trim();
        if let Some(other) = options.by_text(text).filter(|_| text.len() > 2) {
            set.add(Set::one(other));
            reading = Reading::Chosen(set);
        }
    }
    // "The diagnosis is unclear" refuses nothing by itself.
    let soft = SOFT.is_match(said);
    if reading == Reading::Nothing || soft && chosen(reading).is_none() {
        return None;
    }
    let weak = soft && !said.to_ascii_lowercase().contains("answer");
    claim(start + span.len(), reading, if weak { Strength::Statement } else { Strength::Cue })
}

/// What the clause behind a cue says: "answer B" and "选B" without a link only by a label directly after the noun.
fn behind(cue: &str, span: &str, options: &Options, dense: bool) -> Reading {
    static LINKED: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(r"(?i)(?:{link}|{copula}|{change}|[:：=–—>→⇒是为為は은는هيو]|-)[*_\s]*$")
    });
    match LINKED.is_match(cue) || text::after_not(span).is_some() {
        true => read::answer_span(span, options),
        false => direct(span, options, dense),
    }
}

/// "The following answers: A, B, C": a cue in the plural in front of most options.
fn is_plural(cue: &str, set: Set, options: &Options) -> bool {
    static PLURAL: LazyLock<Regex> = LazyLock::new(|| words::pattern(r"(?i)(?:{several})"));
    set.len() > 1 && !options.several() && PLURAL.is_match(cue) && set.len() >= options.len().min(3)
}

/// "The answer would be C if …".
fn is_unreal(cue: &str, before: &str, rest: &str) -> bool {
    static IF: LazyLock<Regex> =
        LazyLock::new(|| words::pattern(r"(?i)(?:{condition}|\bhad (?:the|she|he|it)\b)"));
    cue.to_ascii_lowercase().ends_with("would be") && (IF.is_match(rest) || IF.is_match(before))
}

/// "The answer is B if she is old, otherwise A."
fn depends(rest: &str) -> bool {
    static DEPENDS: LazyLock<Regex> =
        LazyLock::new(|| words::pattern(r"(?i)(?:{condition}).*(?:{otherwise})"));
    DEPENDS.is_match(rest)
}

/// "La respuesta no es": a cue of another language than English with a denial in it.
fn is_foreign_denial(cue: &str) -> bool {
    static NOT: LazyLock<Regex> =
        LazyLock::new(|| words::pattern(r"(?i)(?:\s(?:{not}|no|non)(?:\s|$))|\bn['’]est\b"));
    // "La respuesta incorrecta es"; an option that is asked for may be the wrong one.
    static WRONG: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(r"(?i)(?:{answer})[^\x00-\x20]*\s+(?:[^\s]+\s+)?(?:{wrong})(?:\s|$)")
    });
    let cue = cue.to_ascii_lowercase();
    !cue.contains("answer") && (NOT.is_match(&cue) || WRONG.is_match(&cue))
}

/// "Đáp án có thể là": a cue that only guesses.
static MAYBE: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["maybe"]));

static WALK: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["walk"]));

/// Whether a cue ends in a verb and not in a colon or nothing.
fn linked_by_verb(cue: &str) -> bool {
    static VERB: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["copula"]));
    VERB.closing(cue.trim_end_matches(['*', '_', ' '])).is_some()
}

/// Whether the verb that follows is denied: "不能选", "not choose".
fn is_refused(before: &str) -> bool {
    DENYING.is_match(text::tail(before, 40)) || read::denied_before(before, before.len())
}

/// A label directly at the start of `span`.
pub(super) fn direct(span: &str, options: &Options, dense: bool) -> Reading {
    let word = span.trim_start_matches([' ', ':', '：', '*', '(', '[', '_', '】']);
    let len = word.bytes().take_while(u8::is_ascii_uppercase).count();
    if let Some(set) = options.word(&word[..len]) {
        return Reading::Chosen(set);
    }
    let Some(mark) = read::head_mark(span, options) else { return Reading::Nothing };
    let after = span[mark.end..].trim_start();
    let bounded = after.is_empty() || !after.starts_with(char::is_alphanumeric) || dense || mark.marked;
    let near = mark.start <= 24;
    let upper = span[mark.start..].starts_with(|c: char| !c.is_lowercase()) || mark.marked;
    if !near || !upper || !bounded && !is_verb(after) {
        return Reading::Nothing;
    }
    if read::denied_after(span, mark.end) {
        return Reading::Denied(Set::one(mark.index));
    }
    Reading::Chosen(read::listed(span, &mark, options).0)
}

fn is_verb(after: &str) -> bool {
    static VERB: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(r"(?i)^(?:{copula}|{link}|{because}|{aside}|{and}|{or}|{option}|for\b)")
    });
    VERB.is_match(after)
}

pub(super) static HEDGED: LazyLock<Regex> =
    LazyLock::new(|| words::pattern(r"(?i)(?:{hedge}|could|{doubt})"));

pub(super) static DENYING: LazyLock<Regex> =
    LazyLock::new(|| words::pattern(r"(?i)(?:{deny}|n't)\s*(?:\w+\s+){0,2}$"));

/// Whether the text between two claims takes the first one back.
pub(super) fn corrects(gap: &str) -> bool {
    static CORRECTION: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["correction", "change"]));
    CORRECTION.hold(gap)
}
