//! What a response claims and denies, in order: marked answers, cue phrases, statements, remarks on single options.

use std::sync::LazyLock;

use regex::Regex;

use super::lines;
use super::options::{Options, Set};
use super::read::{self, Reading};
use crate::extract;
use crate::text::{self, fixed};
use crate::words::{self, Phrases};

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
const MAX_PLACES: usize = 48;

/// Bytes of a sentence before and behind a place that bear on it.
const REACH: usize = 2048;

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
            statements(span, &sentences(span, options), options, &mut inner);
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
fn is_supposed(before: &str) -> bool {
    static CONDITION: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(concat!(
            r"(?i)(?:(?:{condition})[^.,;]{0,40}|(?:{supposed})[^.,;]{0,30}|(?:{tempting}),?[^.;,]{0,60}|(?:{otherwise})[^.;]{0,30}",
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
fn is_doubted(before: &str) -> bool {
    static DOUBT: LazyLock<Regex> =
        LazyLock::new(|| words::pattern(r"(?i)(?:(?:{doubt})[^.,;]{0,30}|(?:{wrong})\s*|\ban?\s+)$"));
    DOUBT.is_match(text::tail(before, 64))
}

fn is_question(sentence: &str) -> bool {
    sentence.trim_end().ends_with(['?', '？'])
}

/// The clause after a cue: the rest of its sentence, or the next line when nothing is left of this one.
fn clause<'a>(body: &'a str, list: &[(usize, usize)], at: usize) -> &'a str {
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
    static PLURAL: LazyLock<Regex> = LazyLock::new(|| words::pattern(r"(?i)(?:{several})"));
    static BARE: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(r"(?i)(?:{link}|{copula}|{change}|[:：=–—>→⇒是为為は은는هيو]|-)[*_\s]*$")
    });
    static SOFT: LazyLock<Regex> = LazyLock::new(|| words::pattern(r"(?i)(?:{soft})"));
    static HEADS: LazyLock<Regex> = LazyLock::new(|| words::pattern(r"(?i)(?:{answer}|{final}|{right})"));
    let all: Vec<_> = CUE.find_iter(body).filter(|m| !m.is_empty()).collect();
    for m in &all[all.len().saturating_sub(MAX_PLACES * 2)..] {
        let (from, to) = sentence_at(list, m.start());
        let before = text::tail(&body[from..m.start()], REACH);
        let dense = m.as_str().chars().any(|c| c as u32 > 0x2E7F);
        if is_supposed(before) || is_question(&body[from..to.max(from)]) {
            continue;
        }
        let span = clause(body, list, m.end());
        if span.is_empty() {
            continue;
        }
        let start = span.as_ptr() as usize - body.as_ptr() as usize;
        let linked = BARE.is_match(m.as_str());
        let mut reading = if linked {
            read::answer_span(span, options)
        } else {
            // "answer B", "选B": only a label directly after the noun.
            match text::after_not(span) {
                Some(_) => read::answer_span(span, options),
                None => direct(span, options, dense),
            }
        };
        // A list below the cue, where several options may be the answer.
        let below = start >= to.max(m.end());
        if options.several()
            && below
            && HEADS.is_match(m.as_str())
            && let Some((set, end)) = lines::run_of(&body[start..], options)
            && set.len() > 1
        {
            let (end, reading) = (start + end, Reading::Chosen(set));
            out.push(Claim { start: m.start(), end, reading, strength: Strength::Cue, rule: "cue" });
            continue;
        }
        // A heading above a list of options, or a sentence about all of them, chooses none.
        if below && lines::begins_list(&body[start..], options, m.as_str())
            || WALK.hold(text::tail(&body[from..m.end()], 240)) && !linked_by_verb(m.as_str())
        {
            continue;
        }
        if let Some(set) = chosen(reading) {
            if set.len() > 1
                && !options.several()
                && PLURAL.is_match(m.as_str())
                && set.len() >= options.len().min(3)
            {
                continue;
            }
            // "The answer would be C if …".
            static IF: LazyLock<Regex> =
                LazyLock::new(|| words::pattern(r"(?i)(?:{condition}|\bhad (?:the|she|he|it)\b)"));
            let rest = text::head(&body[m.end()..to.max(m.end())], REACH);
            if m.as_str().to_ascii_lowercase().ends_with("would be")
                && (IF.is_match(rest) || IF.is_match(before))
            {
                continue;
            }
            // "The answer is B if she is old, otherwise A."
            static DEPENDS: LazyLock<Regex> =
                LazyLock::new(|| words::pattern(r"(?i)(?:{condition}).*(?:{otherwise})"));
            if DEPENDS.is_match(rest) {
                reading = Reading::Open;
            }
            static FOREIGN_NOT: LazyLock<Regex> =
                LazyLock::new(|| words::pattern(r"(?i)(?:\s(?:{not}|no|non)(?:\s|$))|\bn['’]est\b"));
            let foreign = m.as_str().to_ascii_lowercase();
            let foreign = !foreign.contains("answer") && FOREIGN_NOT.is_match(&foreign);
            if foreign || is_doubted(before) || dense && is_refused(&body[from..m.start()]) {
                reading = Reading::Denied(set);
            }
        }
        // "The answer is B. <the text of C>" contradicts itself.
        if let Reading::Chosen(mut set) = reading
            && set.len() == 1
            && let Some(rest) = body[start + span.len()..].strip_prefix('.')
        {
            let (a, b) = sentence_at(list, body.len() - rest.len());
            let text = body[a.max(body.len() - rest.len())..b.max(body.len() - rest.len())].trim();
            if let Some(other) = options.by_text(text).filter(|_| text.len() > 2) {
                set.add(Set::one(other));
                reading = Reading::Chosen(set);
            }
        }
        // "The diagnosis is unclear" refuses nothing by itself.
        let soft = SOFT.is_match(m.as_str());
        if reading == Reading::Nothing || soft && chosen(reading).is_none() {
            continue;
        }
        let strength = if soft && !m.as_str().to_ascii_lowercase().contains("answer") {
            Strength::Statement
        } else {
            Strength::Cue
        };
        out.push(Claim { start: m.start(), end: start + span.len(), reading, strength, rule: "cue" });
    }
}

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
fn direct(span: &str, options: &Options, dense: bool) -> Reading {
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

/// What is said of an option, by language.
static PREDICATE: LazyLock<Regex> = LazyLock::new(|| {
    let all = words::each_language(
        r"(?:{copula})\s+(?:(?:no|{not})\s+)?(?:(?:{article?}|{final?}|{option})\s+){0,4}(?:{right}|{answer}|{wrong})",
        "predicate",
    );
    fixed(&format!("(?i)(?:{all})"))
});

/// "B is correct", "A and C are wrong", "(B) Aortic stenosis is the best answer".
pub(super) fn statements(body: &str, list: &[(usize, usize)], options: &Options, out: &mut Vec<Claim>) {
    for whole in text::last_places(&PREDICATE, body, MAX_PLACES * 2) {
        let (from, to) = sentence_at(list, whole.start());
        if from > whole.start() || is_question(&body[from..to]) {
            continue;
        }
        let subject = &body[from..whole.start()];
        if subject.len() > 400 || is_supposed(subject) {
            continue;
        }
        let Some(m) = PREDICATE.captures_at(body, whole.start()) else { continue };
        let word = |name| m.name(name).map_or("", |w| w.as_str()).to_ascii_lowercase();
        let adjective = word("adj");
        static WRONG: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["wrong"]));
        static NOT: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["not"]));
        // English and Chinese patterns name what they found.
        let named = ["adj", "zhadj", "fit"].iter().any(|name| m.name(name).is_some());
        let bad = adjective == "not"
            || WRONG.hold(&adjective)
            || !named && WRONG.hold(whole.as_str())
            || WRONG.hold(&word("zhadj"));
        let adverbs = word("adv");
        let not = m.name("nt").is_some()
            || m.name("zhneg").is_some()
            || !named && NOT.hold(whole.as_str())
            || adverbs.contains("not ")
            || adverbs.contains("never ")
            || adverbs.contains("less ");
        // "Likely" claims little, "the most likely" claims it.
        static MILD: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["mild"]));
        static MOST: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["most"]));
        let weak = MILD.opening(&adjective) == Some(adjective.len()) && !MOST.hold(&adverbs);
        if adjective == "one" && !adverbs.contains("only") {
            continue;
        }
        if bad && not && adjective != "not" {
            continue;
        }
        let set = subject_set(
            subject,
            options,
            !matches!(&*adjective, "true" | "likely" | "right") || adverbs.contains("most"),
        );
        if set.is_empty() {
            continue;
        }
        static IF: LazyLock<Regex> = LazyLock::new(|| {
            words::pattern(r"(?i)^\s*(?:only )?(?:(?:{condition})|in cases?\b|answer choices?\s+if\b)")
        });
        let denied = bad || not;
        if !denied
            && (weak && adjective != "true" && adjective != "right"
                || IF.is_match(text::head(&body[whole.end()..], 32)))
        {
            continue;
        }
        if m.name("fit").is_some() && !subject.to_ascii_lowercase().contains("only") {
            continue;
        }
        let hedged = !denied && HEDGED.is_match(&options.residue(subject));
        if hedged || body[..to].ends_with('?') {
            continue;
        }
        let reading = if denied { Reading::Denied(set) } else { Reading::Chosen(set) };
        let end = whole.end();
        out.push(Claim { start: from, end, reading, strength: Strength::Statement, rule: "statement" });
    }
}

static HEDGED: LazyLock<Regex> = LazyLock::new(|| words::pattern(r"(?i)(?:{hedge}|could|{doubt})"));

static ADVERB: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["indeed"]));

/// The options that are the subject of a predicate.
fn subject_set(subject: &str, options: &Options, texts: bool) -> Set {
    static CLAUSE: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(
            r"(?i)(?:(?:,?\s*(?:{so}|{but}|{because}|{clause})[,:]?|,\s*and\b(?: that)?|[:：,])\s+|[，、]\s*)",
        )
    });
    let subject = text::tail(subject, 240);
    let starts = std::iter::once(0).chain(CLAUSE.find_iter(subject).map(|m| m.end())).collect::<Vec<_>>();
    // The earliest start that reads as labels only, so that a list stays whole.
    for from in starts.into_iter().take(12) {
        let part = subject[from..].trim_end();
        if let Some(mark) = read::head_mark(part, options) {
            let (set, end) = read::listed(part, &mark, options);
            let rest = part[end..].trim_matches(|c: char| !c.is_alphanumeric());
            let own = set.only().is_some_and(|i| options.by_text(rest) == Some(i));
            let aside = part[end..].trim_start();
            let aside = aside.starts_with(['(', '（']) && aside.ends_with([')', '）'])
                || aside.starts_with(',') && aside.ends_with(',');
            let titled =
                mark.marked && rest.len() <= 120 && (options.by_part(rest).is_some() || !options.known());
            let adverb = matches!(
                rest,
                "" | "alone"
                    | "only"
                    | "itself"
                    | "both"
                    | "选项"
                    | "選項"
                    | "项"
                    | "項"
                    | "번"
                    | "が"
                    | "は"
            ) || ADVERB.opening(rest) == Some(rest.len());
            if own || aside || titled || adverb {
                return set;
            }
        }
    }
    if let Some(index) = read::ordinal(&format!("{subject} "), options) {
        return Set::one(index);
    }
    if !texts {
        return Set::default();
    }
    let mentions = options.mentions(subject);
    let mut set = Set::default();
    for m in &mentions {
        if read::denied_before(subject, m.start) {
            return Set::default();
        }
        let lead = subject[..m.start].split_whitespace().count();
        let trail = subject[m.end..].split_whitespace().count();
        if !options.is_common(m.index) && lead <= 6 && trail <= 6 {
            set.add(Set::one(m.index));
        }
    }
    set
}

/// "so B", "I choose B", "it must be B", "leaving B", and denials such as "rule out A and C".
pub(super) fn remarks(body: &str, list: &[(usize, usize)], options: &Options, out: &mut Vec<Claim>) {
    static REMARK: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(concat!(
            r"(?i)(?:(?P<deny>{rejects})|(?P<choose>(?P<firm>{chooses})|{points})|(?P<so>{therefore}|{weakly}))[,:：]?\s*(?:\*\*)?",
            r"|(?P<turn>{correction})[,.:!…，。！—-]*\s*(?:(?:the (?:final |correct )?answer|it|that)(?:'s|’s| is| should be| must be)\s+)?",
            r"|(?P<sign>[→⇒]|=>|->|∴)\s*"
        ))
    });
    static QUIET: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["weakly"]));
    let turns = read::turns(body, options);
    for (start, end, set) in &turns[turns.len().saturating_sub(MAX_PLACES)..] {
        let (from, to) = sentence_at(list, *start);
        let before = text::tail(&body[from.min(*start)..*start], REACH);
        if !is_supposed(before)
            && !is_doubted(before)
            && !body[..to.max(*end)].trim_end().ends_with(['?', '？'])
        {
            let reading = Reading::Chosen(*set);
            let strength = Strength::Statement;
            out.push(Claim { start: *start, end: *end, reading, strength, rule: "statement" });
        }
    }
    for whole in text::last_places(&REMARK, body, MAX_PLACES * 2) {
        let Some(m) = REMARK.captures_at(body, whole.start()) else { continue };
        let (from, to) = sentence_at(list, whole.start());
        let to = to.max(whole.end()).min(body.len());
        let before = text::tail(&body[from.min(whole.start())..whole.start()], REACH);
        let sentence = &body[whole.start() - before.len()..to];
        if is_supposed(before) || is_question(sentence) {
            continue;
        }
        let span = clause(body, list, whole.end());
        if span.is_empty()
            || (span.as_ptr() as usize) >= body.as_ptr() as usize + to && m.name("choose").is_none()
        {
            continue;
        }
        // "A is possible, and so is B."
        if m.name("so").is_some()
            && ["is ", "are ", "does ", "can ", "could "].iter().any(|w| span.starts_with(w))
        {
            continue;
        }
        let deny = m.name("deny").is_some();
        let choose = m.name("choose").is_some();
        let mut reading = direct(span, options, false);
        // "it is not A but B".
        let start = text::head(&body[whole.start()..to], whole.len() + 2);
        let not = start.to_ascii_lowercase().find("not");
        let at = whole.start() + not.unwrap_or(0);
        if deny
            && body.is_char_boundary(at)
            && text::is_negated(&body[at..to])
            && let turned @ Reading::Chosen(_) = read::answer_span(clause(body, list, at), options)
        {
            out.push(Claim {
                start: whole.start(),
                end: to,
                reading: turned,
                strength: Strength::Statement,
                rule: "statement",
            });
            continue;
        }
        let said = whole.as_str().trim_end().trim_end_matches(['*', ':', ',', ' ']);
        let quiet = m.name("so").is_some() && QUIET.opening(said) == Some(said.len());
        if choose && reading == Reading::Nothing {
            // Option texts after "choose" and "go with", not after "it is" and "indicates".
            if m.name("firm").is_some()
                && let Reading::Chosen(set) = read::answer_span(span, options)
                && set.len() == 1
            {
                reading = Reading::Chosen(set);
            }
        }
        let Reading::Chosen(set) = reading else { continue };
        // "Actually C." turns to C; "Wait, A is old" says nothing yet.
        let mere_no = whole.as_str().trim().chars().count() <= 4
            && whole.as_str().trim().chars().all(char::is_alphabetic);
        if m.name("turn").is_some() && (mere_no || !stands_alone(span, options)) {
            continue;
        }
        let negative = deny || DENYING.is_match(text::tail(before, 40)) || is_doubted(before);
        if deny && read::denied_before(body, whole.start()) && !whole.as_str().eq_ignore_ascii_case("not ") {
            continue;
        }
        if !negative {
            if HEDGED.is_match(before)
                || set.len() == 1 && quiet && HEDGED.is_match(text::head(sentence, 2 * REACH))
            {
                continue;
            }
            // A list of the options is no choice, nor is "option B" within a sentence about it.
            if quiet {
                let alone = stands_alone(span, options);
                let own_line =
                    body[..whole.start()].trim_end_matches([' ', '*', '#', '-', '>']).ends_with('\n')
                        || whole.start() == 0;
                let naming = whole.as_str().to_ascii_lowercase();
                if !alone || (naming.starts_with("option") || naming.starts_with("choice")) && own_line {
                    continue;
                }
                if naming.starts_with("only") && !sentence.trim_end().ends_with(['.', '!']) {
                    continue;
                }
                if naming.starts_with("option") || naming.starts_with("choice") {
                    continue;
                }
            }
        }
        let reading = if negative { Reading::Denied(set) } else { reading };
        let end = span.as_ptr() as usize - body.as_ptr() as usize + span.len();
        out.push(Claim {
            start: whole.start(),
            end,
            reading,
            strength: Strength::Statement,
            rule: "statement",
        });
    }
}

/// Whether a span is a label, with its own text at most.
fn stands_alone(span: &str, options: &Options) -> bool {
    let end = span.trim_end().trim_end_matches(['.', '*', ')', '"', '!', '。']);
    read::head_mark(span, options).is_some_and(|k| {
        let rest = end.get(k.end..).unwrap_or("").trim_start_matches(|c: char| !c.is_alphanumeric());
        rest.is_empty() || options.by_text(rest) == Some(k.index)
    })
}

static DENYING: LazyLock<Regex> = LazyLock::new(|| words::pattern(r"(?i)(?:{deny}|n't)\s*(?:\w+\s+){0,2}$"));

/// Whether the text between two claims takes the first one back.
pub(super) fn corrects(gap: &str) -> bool {
    static CORRECTION: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["correction", "change"]));
    CORRECTION.hold(gap)
}
