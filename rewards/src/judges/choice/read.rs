//! Reading one span of text: which labels or option texts it names, and whether it denies them or leaves them open.

use std::sync::LazyLock;

use regex::Regex;

use super::options::{Mention, Options, Set, without};
use crate::answer::text::{self, fixed};
use crate::answer::words::{self, Phrases};

/// What a span says about the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// These options; more than one where they are listed or hedged.
    Chosen(Set),
    /// These options are denied ("not B").
    Denied(Set),
    /// The question is left open ("cannot be determined").
    Open,
    /// Nothing that concerns the options.
    Nothing,
}

/// A label as it stands in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) index: usize,
    pub(super) start: usize,
    /// After the label and the brackets or stars that close it.
    pub(super) end: usize,
    /// In brackets, bold, quotes, or called an option.
    pub(super) marked: bool,
    lower: bool,
    pronoun: bool,
}

const OPENERS: &[char] =
    &['(', '[', '{', '（', '【', '［', '*', '_', '"', '\'', '`', '“', '‘', '「', '『', '«', '$', '<'];
const CLOSERS: &[char] =
    &[')', ']', '}', '）', '】', '］', '*', '_', '"', '\'', '`', '”', '’', '」', '』', '»', '$', '>'];

/// Words that only introduce a label.
static LEAD: LazyLock<Regex> = LazyLock::new(|| {
    words::pattern(concat!(
        r"(?i)^(?:[\s*_$`>#:：=\-–—→,，：。\]】』」》]+|\\(?:text|textbf|mathbf|mathrm|textrm|mathsf|boxed|fbox|bf|rm)\b\s*\{?|\\[(\[,]|",
        r"(?:{lead}|{option}|{answer}|{indeed}|{so}|{copula}|{link})(?:\(s\))?)",
    ))
});

/// Words after a plain label that leave it a label.
static PLAIN: LazyLock<Regex> =
    LazyLock::new(|| words::pattern(r"(?i)^\s*(?:{after}|{copula}|{and}|{or}|{because}|{not}|{but}|\()"));

/// Words that make a capital letter part of a name: "B cells", "T wave", "E. coli".
static NAME: LazyLock<Regex> = LazyLock::new(|| {
    fixed(
        r"(?i)^(?:\s+(?:cells?|lymphocytes?|waves?|fib(?:er|re)s?|virus|complex(?:es)?|vitamins?|streptococc\w+|antigens?|toxin|peptide|symptoms)\b|\.\s?(?:difficile|perfringens|botulinum|tetani|jejuni|trachomatis|albicans|coli|histolytica|faecalis|burgdorferi|pertussis|anthracis|cereus|fragilis|henselae|abortus|melitensis|diphtheriae|burnetii|immitis|dermatitidis|baumannii|duodenale|israelii|gondii|donovani|granulosus|haemolyticum|neoformans)\b)",
    )
});

/// The label that starts at byte `at`, where one stands alone there.
pub(super) fn mark_at(s: &str, at: usize, options: &Options) -> Option<Mark> {
    let rest = &s[at..];
    let first = rest.chars().next()?;
    let width = if first.is_ascii_alphanumeric() {
        rest.bytes().take_while(u8::is_ascii_alphanumeric).count()
    } else if first.is_alphanumeric() || matches!(first, '①'..='⑳' | 'Ⓐ'..='ⓩ') {
        first.len_utf8()
    } else {
        return None;
    };
    let before = s[..at].chars().next_back().unwrap_or(' ');
    let mut after = rest[width..].chars();
    let (next, second) = (after.next().unwrap_or(' '), after.next().unwrap_or(' '));
    let dense = |c: char| c.is_alphanumeric() && !c.is_ascii_alphanumeric() && !first.is_ascii_alphanumeric();
    let european = |c: char| c.is_alphanumeric() && (c as u32) < 0x0900;
    if european(before) || dense(before) || european(next) || dense(next) && !is_particle(next) {
        return None;
    }
    // "B-cell", "A's", "2.5", "B+", "25%" and "1/2" are no labels.
    // But "C'dir" is Turkish for "is C".
    static IS_SUFFIX: LazyLock<Regex> = LazyLock::new(|| fixed(r"^['’][dt](?:i|ı|u|ü)r(?:[^\w]|$)"));
    let joined = matches!(next, '-' | '‐' | '\'' | '’' | '^' | '_')
        && second.is_alphanumeric()
        && !IS_SUFFIX.is_match(text::head(&rest[width..], 16))
        || matches!(next, '.' | ',' | '/' | ':') && second.is_ascii_digit() && first.is_ascii_digit()
        || matches!(next, '+' | '%' | '°') && !(second == ' ' && rest[width..].contains("+ "))
        || matches!(before, '-' | '/' | '.' | '^' | '=' | '~' | '<' | '>')
            && first.is_ascii_digit()
            && before != '=';
    let inner = before == '-' && s[..at].chars().rev().nth(1).is_some_and(char::is_alphanumeric);
    if joined || inner || width > 4 || NAME.is_match(text::head(&rest[width..], 32)) {
        return None;
    }
    let token = &rest[..width];
    let index = options.by_label(token)?;
    let tail = rest[width..].trim_start_matches(CLOSERS);
    let closed = tail.len() != rest.len() - width;
    let marked = closed || OPENERS.contains(&before) && before != '\'';
    let lower = first.is_lowercase() && first.is_ascii();
    Some(Mark {
        index,
        start: at,
        end: s.len() - tail.len(),
        marked,
        lower,
        pronoun: matches!(token, "A" | "I"),
    })
}

/// Korean and Japanese particles that follow a label directly.
fn is_particle(c: char) -> bool {
    matches!(
        c,
        '번' | '이' | '가' | '은' | '는' | '입' | '로' | 'で' | 'が' | 'は' | 'を' | 'と' | '、' | '。'
    )
}

/// The label that a span starts with, after words that only introduce it.
pub(super) fn head_mark(span: &str, options: &Options) -> Option<Mark> {
    let mut at = 0;
    let mut named = false;
    for _ in 0..12 {
        let rest = &span[at..];
        let bracket = rest.len() - rest.trim_start_matches(OPENERS).len();
        if let Some(mark) = mark_at(span, at + bracket, options)
            && is_label(span, &mark, named)
        {
            return Some(Mark { marked: mark.marked || named, ..mark });
        }
        // An introducing word must not be the label itself ("the answer is a").
        if bracket > 0 && LEAD.find(&rest[bracket..]).is_some_and(|m| !m.is_empty()) {
            at += bracket;
            continue;
        }
        let lead = LEAD.find(rest).filter(|m| !m.is_empty())?;
        named = NAMING.is_match(lead.as_str()) || named && lead.as_str().trim().is_empty();
        at += lead.end();
    }
    None
}

static NAMING: LazyLock<Regex> = LazyLock::new(|| words::pattern(r"(?i)^(?:{option})$"));

/// Whether what follows a label leaves it one: "a patient" and "I think" are words.
fn is_label(span: &str, mark: &Mark, named: bool) -> bool {
    let rest = &span[mark.end..];
    let after = rest.trim_start();
    let ends = after.is_empty() || !after.starts_with(|c: char| c.is_alphanumeric());
    if mark.marked || ends {
        return true;
    }
    let capital = after.starts_with(|c: char| c.is_uppercase());
    let dense = after.starts_with(|c: char| c as u32 > 0x2E7F);
    if mark.pronoun {
        let verb = span[mark.start..].starts_with('I') && !IS_BECAUSE.is_match(after);
        return named
            || dense
            || !verb && PLAIN.is_match(after) && !after.starts_with("with ")
            || capital && !verb;
    }
    if mark.lower { named || dense || PLAIN.is_match(after) } else { true }
}

static IS_BECAUSE: LazyLock<Regex> = LazyLock::new(|| words::pattern(r"(?i)^(?:is|because|{and}|{or})"));

/// The labels that are listed after a mark: "B or C", "B, C", "B/D", "A through D". Gives the set and the end of the list.
pub(super) fn listed(span: &str, first: &Mark, options: &Options) -> (Set, usize) {
    static LINK: LazyLock<Regex> = LazyLock::new(|| {
        // Conjunctions of one letter count in lower case only: "D, E, F".
        words::pattern(
            r"^[\s.}]*(?:\\(?:text|textbf|textrm|mathrm|mbox)\s*\{\s*)?(?:(?:[,/&+;|、，]|and/or|AND|OR|And|Or|{or}|{and}|{range}|か|また)[\s}]*(?:\\(?:text|textbf|textrm|mathrm|mbox)\s*\{)?)+(?:(?:either|possibly|maybe|perhaps|also|{option})\s+)*",
        )
    });
    let mut set = Set::one(first.index);
    let mut end = first.end;
    for _ in 0..32 {
        let rest = &span[end..];
        let at = match LINK.find(rest) {
            Some(m) => end + m.end(),
            // "A B C D".
            None if rest.starts_with(' ') || options.several() && rest.starts_with('\n') => {
                end + rest.len() - rest.trim_start().len()
            }
            None => break,
        };
        let bracket = span[at..].len() - span[at..].trim_start_matches(OPENERS).len();
        let Some(mark) = mark_at(span, at + bracket, options) else { break };
        let after = span[mark.end..].trim_start();
        let word = after.starts_with(|c: char| c.is_lowercase()) && !LINKING.is_match(after);
        if mark.lower && !mark.marked && !first.lower || (mark.pronoun || mark.lower) && !mark.marked && word
        {
            break;
        }
        // "A，B是干扰项": another clause.
        static COPULA: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["copula"]));
        if span[end..at].contains('，') && COPULA.opening(after).is_some() {
            break;
        }
        set.add(Set::one(mark.index));
        end = mark.end;
    }
    (set, end)
}

static LINKING: LazyLock<Regex> =
    LazyLock::new(|| words::pattern(r"(?i)^(?:{and}|{or}|{copula}|{but}|{because}|{range}|as|can|could)"));

/// Words that leave an answer open between several.
fn is_hedge(span: &str) -> bool {
    static HEDGE: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["hedge", "among"]));
    HEDGE.hold(span)
}

/// Refusals and open ends; "it can't be A" leaves nothing open.
pub(super) fn is_open(span: &str) -> bool {
    static OPEN: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["open"]));
    static LABEL: LazyLock<Regex> = LazyLock::new(|| {
        fixed(r"^\s*(?:be\s+)?(?:either\s+)?(?:(?i:option)\s+)?[(\[*]*[A-Z0-9]{1,2}(?:[^A-Za-z0-9]|$)")
    });
    OPEN.places(span).any(|(_, end)| !LABEL.is_match(&span[end..]))
}

/// Whether the words before byte `at` of `s` deny what stands there.
pub(super) fn denied_before(s: &str, at: usize) -> bool {
    static BEFORE: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["not", "exclude"]));
    static CANNOT: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)(?:n't|n’t|cannot|can not) be\s+(?:(?:either|any of|option|choice)\s+)*(?:[(\[*]*\b[A-Z0-9]\b[)\]*]*(?:\s*,|\s+or|\s+nor|\s+and)+\s*)*[(\[*\s]*$",
        )
    });
    let before = text::tail(&s[..at], 80);
    // A few whole words may stand in between: "not the choice B".
    let near = |rest: &str| {
        let rest = rest.trim_end_matches(['(', '[', '*', '“', '"']);
        (rest.trim().is_empty() || rest.ends_with(char::is_whitespace))
            && rest.split_whitespace().count() <= 3
            && rest.chars().all(|c| c.is_alphanumeric() || c.is_whitespace() || "_'’,/".contains(c))
    };
    BEFORE.places(before).any(|(_, end)| near(&before[end..]))
        || ["n't", "n’t"]
            .iter()
            .any(|not| before.rfind(not).is_some_and(|at| near(&before[at + not.len()..])))
        || CANNOT.is_match(before)
}

/// Whether the words after byte `at` deny what stands before; "C, not B" denies B.
pub(super) fn denied_after(s: &str, at: usize) -> bool {
    static AFTER: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(
            r"(?i)^[)\]*.:,\s]*(?:[—–-]+\s*(?:{wrong})|(?:\([^)\n]{1,80}\)\s*)?(?:(?:{copula}|seems|appears|would be|can be|could be|must be|should be|has been)\s*)?(?:(?:{indeed}|{so}|{degree}|the)\s*){0,2}(?:이|가|은|는|は)?\s*(?:{degree}\s*)?(?:{not}|n't|aren't|cannot|{wrong}|{denied}|間違))",
        )
    });
    static CONTRAST: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(
            r"^[)\]*.\s]*[,;，、–—-]\s*(?:and\s+|but\s+)?(?:(?:{indeed})\s+)?(?:{not})\s*(?:(?i:option|choice|选项)\s+)?[(\[*]*[A-Z0-9]{1,2}(?:[^A-Za-z0-9]|$)",
        )
    });
    let after = text::head(&s[at..], 160);
    AFTER.is_match(after) && !CONTRAST.is_match(after)
}

/// Labels that are given in place of a denied one ("not A but C", "Aではなく、C"), with the places of these clauses.
pub(super) fn turns(text: &str, options: &Options) -> Vec<(usize, usize, Set)> {
    static BUT: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["but"]));
    static DENIED: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["denied"]));
    // "A 아니면 C" is "A or C".
    static OR: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["or"]));
    static NOT_LABEL: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(
            r"(?i)(?:{not})\s+(?:(?:{article}|{option})\s+)?[(\[（「*]*[A-Z0-9]{1,3}[)\]）」*]*[\s,，;—–-]*$",
        )
    });
    static LABEL: LazyLock<Regex> =
        LazyLock::new(|| fixed(r"(?i)[(\[（「*]*\b[A-Z0-9]{1,3}\b[)\]）」*]*\s*(?:이|가|은|는|は)?\s*$"));
    static LINK: LazyLock<Regex> =
        LazyLock::new(|| words::pattern(r"(?i)^[^\s,、，。.;A-Z0-9]{0,3}[\s,、，]*(?:(?:{but})\s*)?"));
    let mut found = Vec::new();
    let mut take = |from: usize, end: usize| {
        let Some(mark) = head_mark(text::head(&text[end..], 64), options) else { return };
        let to = end + mark.end;
        if mark.start <= 16 && !OR.hold(&text[from..end]) && !denied_after(text, to) {
            found.push((from, to, Set::one(mark.index)));
        }
    };
    for (by, label) in [(&BUT, &NOT_LABEL), (&DENIED, &LABEL)] {
        let places: Vec<_> = by.places(text).collect();
        for (start, end) in &places[places.len().saturating_sub(96)..] {
            let before = text::tail(&text[..*start], 64);
            let Some(m) = label.find(before) else { continue };
            let link = LINK.find(text::head(&text[*end..], 48)).map_or(0, |m| m.end());
            take(start - before.len() + m.start(), end + link);
        }
    }
    found.sort_by_key(|(from, ..)| *from);
    found
}

/// What an answer span (a box, a tag, the clause after a cue) says.
pub(super) fn answer_span(span: &str, options: &Options) -> Reading {
    static BUT: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(r"(?i)(?:(?:{but})|[,;，；]\s*(?:it\s+|this\s+|that\s+)?(?:{copula}|it's))\s*")
    });
    let span = text::head(span.trim(), 1024);
    if let Some(set) = options.word(span.trim_matches(|c: char| !c.is_alphanumeric())) {
        return Reading::Chosen(set);
    }
    if options.several()
        && let Some(set) = options.listed(span)
    {
        return Reading::Chosen(set);
    }
    if let Some(index) = options.by_text(span)
        && !is_single_label(span, options)
    {
        return Reading::Chosen(Set::one(index));
    }
    if let Some(after) = text::after_not(span) {
        if let Some(but) = BUT.find(after) {
            let rest = &after[but.end()..];
            if let chosen @ Reading::Chosen(_) = positive(rest, options) {
                return chosen;
            }
        }
        return match positive(after, options) {
            Reading::Chosen(set) => Reading::Denied(set),
            _ => Reading::Denied(Set::default()),
        };
    }
    positive(span, options)
}

fn is_single_label(span: &str, options: &Options) -> bool {
    let inner = span.trim_matches(|c: char| !c.is_alphanumeric());
    options.by_label(inner).is_some() && inner.chars().next().is_some_and(|c| !c.is_lowercase())
}

fn positive(span: &str, options: &Options) -> Reading {
    let mentions = options.mentions(span);
    let residue = without(span, &mentions);
    let hedge = |set: Set| if is_hedge(&residue) { open(set, options) } else { set };
    // A label, unless it is the beginning of an option's text ("C. difficile").
    if let Some(mark) = head_mark(span, options)
        && !mentions
            .iter()
            .any(|m| m.start <= mark.start && m.end >= mark.end.min(m.start + 3) && m.end > mark.end)
    {
        return labelled(span, &mark, &mentions, options, hedge);
    }
    let said: Vec<_> =
        (mentions.iter()).filter(|m| !denied_before(span, m.start) && !denied_after(span, m.end)).collect();
    let mut set = Set::default();
    let head_text = said.first().is_some_and(|m| span[..m.start].split_whitespace().count() <= 4);
    for m in &said {
        if !options.is_common(m.index) || m.start <= 4 || span.len() <= 24 {
            set.add(Set::one(m.index));
        }
    }
    // Labels further on: "clearly the second one, (B)".
    let labels = loose_labels(span, options);
    if set.is_empty() && !labels.is_empty() {
        return Reading::Chosen(hedge(labels));
    }
    if set.len() == 1 && labels.len() == 1 && labels != set && !head_text {
        set.add(labels);
    }
    if !set.is_empty() {
        return Reading::Chosen(hedge(set));
    }
    if is_open(&residue) {
        return Reading::Open;
    }
    if !mentions.is_empty() {
        return Reading::Denied(mentions.iter().fold(Set::default(), |mut s, m| {
            s.add(Set::one(m.index));
            s
        }));
    }
    if let Some(index) = ordinal(span, options).or_else(|| options.by_part(span)) {
        return Reading::Chosen(hedge(Set::one(index)));
    }
    Reading::Nothing
}

/// What a span says that begins with a label.
fn labelled(
    span: &str,
    mark: &Mark,
    mentions: &[Mention],
    options: &Options,
    hedge: impl Fn(Set) -> Set,
) -> Reading {
    if denied_after(span, mark.end) && !mentions.iter().any(|m| m.start >= mark.end && m.start < mark.end + 6)
    {
        // "Aではなく、C".
        let instead = turns(span, options).into_iter().find(|(start, ..)| *start <= mark.start);
        return instead.map_or(Reading::Denied(Set::one(mark.index)), |(.., set)| Reading::Chosen(set));
    }
    let (mut set, end) = listed(span, mark, options);
    // "A, B and D are less likely".
    if set.len() > 1 && denied_after(span, end) {
        return Reading::Denied(set);
    }
    if set.len() == 1 {
        set.add(others(span, end, mentions, options));
    }
    // "B, no wait, C".
    static CORRECTION: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["correction", "change"]));
    let rest = &span[end..];
    if let Some((_, after)) = CORRECTION.places(rest).last()
        && let Some(mark) = head_mark(&rest[after..], options)
        && !rest[after + mark.end..].contains(char::is_alphanumeric)
    {
        return Reading::Chosen(Set::one(mark.index));
    }
    Reading::Chosen(hedge(set))
}

/// The options that a span offers beside the label that ends at byte `end`: another option's text in place of this one's
/// contradicts the label, "or <text>" and "or C" offer another.
fn others(span: &str, end: usize, mentions: &[Mention], options: &Options) -> Set {
    static OR: LazyLock<Regex> =
        LazyLock::new(|| words::pattern(r"(?i)\s(?:{or})\s+(?:(?:maybe|possibly|the|option)\s+)*$"));
    static OR_LABEL: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(
            r"\s(?:or|OR|{or})\s+(?i:maybe\s+|possibly\s+|option\s+|even\s+)*[(\[*]*([A-Z])(?:[)\]*.,;:?]|\s*$)",
        )
    });
    let mut set = Set::default();
    let rest = &span[end..];
    let text = rest.trim_start_matches(|c: char| !c.is_alphanumeric());
    if let Some(other) = options.by_text(text.trim_end_matches(['.', ')', ' ']))
        && !is_single_label(text, options)
    {
        set.add(Set::one(other));
    }
    for m in mentions.iter().filter(|m| m.start >= end) {
        if OR.is_match(text::tail(&span[..m.start], 48)) {
            set.add(Set::one(m.index));
        }
    }
    // A second label that is offered further on: "B (aortic) or C".
    if let Some(place) = OR_LABEL.captures(rest).and_then(|c| c.get(1))
        && let Some(other) = options.by_label(place.as_str())
        && !denied_before(rest, place.start())
    {
        set.add(Set::one(other));
    }
    set
}

/// The set with another option, so that it is no single choice.
fn open(mut set: Set, options: &Options) -> Set {
    if set.len() == 1
        && let Some(other) = (0..options.len().max(2)).find(|i| !set.holds(*i))
    {
        set.add(Set::one(other));
    }
    set
}

/// The options that a sentence names, by labels that cannot be words and by their texts.
pub(super) fn named(sentence: &str, options: &Options) -> Set {
    let mut set = loose_labels(sentence, options);
    for mention in options.mentions(sentence).iter().filter(|m| !options.is_common(m.index)) {
        set.add(Set::one(mention.index));
    }
    set
}

/// Whether a sentence denies something.
pub(super) fn is_negated(sentence: &str) -> bool {
    static NEGATED: LazyLock<Phrases> =
        LazyLock::new(|| Phrases::of(&["not", "exclude", "wrong", "doubt", "nobody"]));
    NEGATED.hold(sentence) || sentence.contains("n't") || sentence.contains("n’t")
}

/// Labels within a span that cannot be words: in brackets or bold, called an option, or a capital at the end.
fn loose_labels(span: &str, options: &Options) -> Set {
    static CALLED: LazyLock<Regex> = LazyLock::new(|| words::pattern(r"(?i)(?:{option})\s*[(\[*]*$"));
    static LAST: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(r"(?i)(?:\bbe|\bas|with|namely|{copula}|{or}|{and}|{option}|{answer}|[,:]|是|は)\s*$")
    });
    let mut set = Set::default();
    for (at, c) in span.char_indices() {
        if !c.is_alphanumeric()
            || span[..at].chars().next_back().is_some_and(|b| b.is_alphanumeric() && (b as u32) < 0x900)
        {
            continue;
        }
        let Some(mark) = mark_at(span, at, options) else { continue };
        let before = &span[..at];
        let after = span[mark.end..].trim_start();
        let opened = before.ends_with(['(', '[', '*', '（', '【', '{']);
        let closed = mark.end > at + c.len_utf8();
        let called = CALLED.is_match(text::tail(before, 24)) && is_label(span, &mark, true);
        let bounded = after.is_empty() || after.starts_with(['.', ',', ';', '。', '，', ')', '?']);
        let last = !mark.lower && bounded && LAST.is_match(text::tail(before, 24));
        if (opened && closed || called || last)
            && !denied_before(span, before.trim_end_matches(OPENERS).len())
        {
            set.add(Set::one(mark.index));
        }
    }
    set
}

/// "the second option".
pub(super) fn ordinal(span: &str, options: &Options) -> Option<usize> {
    static ORDINAL: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(r"(?i)({ordinal})\s*(?:个|個)?\s*(?:one\b|statement\b|项|項|选|選|{option}|{answer})")
    });
    let found = ORDINAL.captures(span)?;
    let word = found.get(1)?.as_str().to_lowercase();
    let place: usize = words::value("ordinal", word.trim_matches('_'))?.parse().ok()?;
    let index = match place {
        0 if options.known() => options.len().checked_sub(1)?,
        place => place.checked_sub(1)?,
    };
    (index < options.len()).then_some(index)
}
