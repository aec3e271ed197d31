//! Responses without a cue: a letter or an option's text that stands by itself, a list with one option marked.

use std::sync::LazyLock;

use regex::Regex;

use super::claims::sentences;
use super::options::{Mention, Options, Set, without, words};
use super::read::{self, Mark};
use crate::answer::text::{self, fixed};
use crate::answer::words::{self, Phrases};

/// An answer with the span that shows it and the rule.
pub(super) type Found<'a> = (Set, &'a str, &'static str);

/// `line` without what only decorates it: signs of Markdown, and the number of an item in front of a label.
fn decoration<'a>(line: &'a str, options: &Options) -> &'a str {
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| fixed(r"^\d{1,2}[.)]\s+[*(\[]*[A-Z][.):*\]\s-]"));
    let signs = |c: char| c.is_whitespace() || matches!(c, '#' | '>' | '-' | '•' | '·');
    let line = line.trim_start_matches(signs);
    if !options.numbered() && (NUMBER.is_match(line) || line.len() <= 5) {
        let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
        if let Some(rest) =
            rest.strip_prefix(['.', ')']).filter(|r| rest.len() < line.len() && r.starts_with(' '))
        {
            return rest.trim_start();
        }
    }
    line
}

/// The label that a line opens with, when it is set off as one: `B`, `(B)`, `B.`, `**B** because`.
fn line_label(line: &str, options: &Options) -> Option<Mark> {
    let mark = read::head_mark(decoration(line, options), options)?;
    let line = decoration(line, options);
    let before = line[..mark.start].trim_matches(|c: char| !c.is_alphanumeric()).to_ascii_lowercase();
    static NOUN: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["option", "answer", "indeed"]));
    let plain = before.is_empty()
        || before == "vitamin"
        || NOUN.opening(&before) == Some(before.len())
        || before.chars().all(|c| c as u32 > 0x7F)
        || before.starts_with("text")
        || before.starts_with("boxed");
    if !plain || before == "vitamin" {
        return None;
    }
    let after = &line[mark.end..];
    let next = after.trim_start();
    let stop = next.starts_with([
        '.', ':', ')', '、', '，', '。', '：', '-', '–', '—', ',', '!', ';', '/', '&', '=', '|', '✓', '✔',
        '✅', '☑', '✗', '✘', '❌',
    ]);
    static WORD: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(
            r"(?i)^(?:{because}|{aside}|(?:{copula})\s+(?:{article})\s+(?:{final})|{and}|{or}|it is|\()|^(?:{option})[\s。.]*$",
        )
    });
    let rest = next.trim_start_matches(|c: char| !c.is_alphanumeric());
    let own = || {
        let first = options.mentions(text::head(rest, 400)).first().copied();
        first.is_some_and(|m| m.start == 0 && m.index == mark.index)
    };
    let lower = line[mark.start..].starts_with(|c: char| c.is_ascii_lowercase());
    if lower && !next.is_empty() && (!mark.marked || before.is_empty()) && options.known() && !own() {
        return None;
    }
    let closed = mark.marked && mark.end > mark.start;
    let set_off = next.is_empty() || stop || closed && before.is_empty() || WORD.is_match(next) || own();
    set_off.then_some(mark)
}

/// How many different labels a line enumerates: "A. x B. y C. z".
fn enumerated(line: &str, options: &Options) -> usize {
    static ITEM: LazyLock<Regex> = LazyLock::new(|| {
        fixed(r"(?:^|[\s,;])(?i:option )?[(\[*]*([A-Za-z0-9]{1,3})(?:[).:\]]|\*\*)[).:*]*\s")
    });
    let mut set = Set::default();
    let mut at = 0;
    while let Some(m) = ITEM.captures_at(line, at) {
        let (Some(whole), Some(label)) = (m.get(0), m.get(1)) else { break };
        if let Some(index) = options
            .by_label(label.as_str())
            .filter(|_| !label.as_str().starts_with(|c: char| c.is_lowercase()))
        {
            set.add(Set::one(index));
        }
        at = whole.end().max(whole.start() + 1) - 1;
        if at <= whole.start() {
            break;
        }
    }
    set.len()
}

/// Whether `text`, what stands below a cue, is a list of the options and not the answer: its first lines have different
/// labels. Below a word for the answer only a list from the first option on is one.
pub(super) fn begins_list(text: &str, options: &Options, cue: &str) -> bool {
    static ANSWER: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["answer"]));
    let lines = text.lines().filter(|l| l.chars().any(char::is_alphanumeric)).take(40);
    let mut labels = lines.filter_map(|l| line_label(text::head(l, 400), options)).map(|m| m.index);
    let Some(first) = labels.next() else { return false };
    match ANSWER.hold(cue) {
        true => first == 0 && labels.next() == Some(1),
        false => enumerated(text.lines().next().unwrap_or(""), options) > 1 || labels.any(|l| l != first),
    }
}

/// Signs that mark an option as wrong.
const CROSSES: &[char] = &['✗', '✘', '❌'];

/// The label that a line consists of.
fn alone(line: &str, options: &Options) -> Option<usize> {
    let mark = line_label(line, options)?;
    let rest = &decoration(line, options)[mark.end..];
    (!rest.contains(char::is_alphanumeric) && !rest.contains(CROSSES)).then_some(mark.index)
}

/// The options of a list that names some of them, line by line and by nothing but labels and their own texts, and where it
/// ends; none where it names all that there are, which is no choice.
pub(super) fn run_of(text: &str, options: &Options) -> Option<(Set, usize)> {
    let mut set = Set::default();
    let mut end = 0;
    for line in text.split_inclusive('\n').take(64) {
        if line.contains(char::is_alphanumeric) {
            let item = text::head(line.trim(), 400);
            let own = || {
                let mark = line_label(item, options)?;
                (options.by_text(&decoration(item, options)[mark.end..]) == Some(mark.index))
                    .then_some(mark.index)
            };
            let Some(index) = alone(item, options).or_else(own).or_else(|| options.by_text(item)) else {
                break;
            };
            set.add(Set::one(index));
        }
        end += line.len();
    }
    (!set.is_empty() && (set.len() < options.len() || !options.known())).then_some((set, end))
}

/// A letter that stands by itself: the whole response, its first or its last line.
pub(super) fn letter<'a>(body: &'a str, options: &Options) -> Option<Found<'a>> {
    let lines: Vec<&str> =
        body.lines().map(str::trim).filter(|l| l.chars().any(char::is_alphanumeric)).collect();
    let (first, last) = (*lines.first()?, *lines.last()?);
    let marks: Vec<(usize, Mark)> = (lines.iter().enumerate().take(200))
        .filter_map(|(i, l)| line_label(text::head(l, 400), options).map(|m| (i, m)))
        .collect();
    let mut all = Set::default();
    marks.iter().for_each(|(_, m)| all.add(Set::one(m.index)));
    if alone(last, options).is_some() {
        // Labels in lines of their own are a list.
        let run = lines.iter().rev().take(32).map_while(|l| alone(l, options));
        let set = run.clone().fold(Set::default(), |mut set, index| {
            set.add(Set::one(index));
            set
        });
        if set.len() > 1 {
            let from = lines[lines.len() - run.count()].as_ptr() as usize - body.as_ptr() as usize;
            return Some((set, &body[from..], "letter"));
        }
        return judged(last, options);
    }
    if options.several()
        && let Some((set, end)) = run_of(body, options)
        && !body[end..].contains(char::is_alphanumeric)
    {
        return Some((set, body, "letter"));
    }
    let tally = |i: usize| marks.iter().filter(|(_, m)| m.index == i).count();
    match all.len() {
        0 => None,
        1 => {
            let (at, _) = marks[0];
            if at == 0 || marks.last().is_some_and(|(i, _)| *i + 1 == lines.len()) {
                let line = if at == 0 { first } else { last };
                judged(line, options)
            } else {
                None
            }
        }
        _ => {
            // A complete list and then one of its lines again is that one.
            let closing = marks.last().filter(|(i, _)| *i + 1 == lines.len());
            if let Some((_, m)) = closing
                && all.len() == options.len()
                && tally(m.index) == 2
                && marks.len() == options.len() + 1
            {
                return judged(last, options);
            }
            // An answer and then remarks on all options.
            let (at, mark) = marks[0];
            let later = &marks[1..];
            let resumes = later.iter().any(|(_, m)| m.index == mark.index) && tally(mark.index) > 1;
            let restarts = mark.index > 0 && later.first().is_some_and(|(_, m)| m.index == 0);
            if at == 0 && (resumes && later.first().is_some_and(|(_, m)| m.index == 0) || restarts) {
                return judged(first, options);
            }
            ticked(&lines, &marks, options)
        }
    }
}

/// What a line with a label says.
fn judged<'a>(line: &'a str, options: &Options) -> Option<Found<'a>> {
    let shown = decoration(line, options);
    let mark = line_label(shown, options)?;
    let (set, end) = read::listed(shown, &mark, options);
    let rest = &shown[end..];
    let residue = options.residue(rest);
    let own = options.by_text(rest) == Some(mark.index);
    if rest.contains(CROSSES)
        || read::denied_after(shown, end)
            && !own
            && options.mentions(rest).first().is_none_or(|m| m.index != mark.index)
        || enumerated(shown, options) > 1 && set.len() == 1
    {
        return None;
    }
    static HEDGE: LazyLock<Regex> =
        LazyLock::new(|| words::pattern(r"(?i)^[\s,.]*(?:{or}|{hedge}|could)|not sure"));
    static OTHER: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(r"(?i)(?:{or}|{and})\s+(?:maybe |possibly |option )?[(\[]?([A-Z])[)\]]?[.?!]?\s*$")
    });
    if set.len() == 1 && HEDGE.is_match(&residue) || read::is_open(&residue) && rest.len() < 120 && !own {
        return None;
    }
    let place = OTHER.captures(rest).and_then(|c| c.get(1));
    if let Some(place) = place
        && let Some(other) = options.by_label(place.as_str())
        && !set.holds(other)
        && !own
        && !read::denied_before(rest, place.start())
    {
        return None;
    }
    let named: Vec<_> = options.mentions(rest);
    let clash = set.len() == 1
        && options
            .by_text(rest.trim_start_matches(|c: char| !c.is_alphanumeric()))
            .is_some_and(|i| !set.holds(i));
    let mut set = set;
    if clash && let Some(other) = named.first() {
        set.add(Set::one(other.index));
    }
    Some((set, line, "letter"))
}

/// The only line of a list that is said to be correct.
fn ticked<'a>(lines: &[&'a str], marks: &[(usize, Mark)], options: &Options) -> Option<Found<'a>> {
    static TICK: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(
            r"(?i)[✓✔✅☑]|\((?:{right}|{answer})\)|(?:[-–—:.*(]|{copula})\s*\**\s*(?:{right})|←|<--",
        )
    });
    static CROSS: LazyLock<Regex> = LazyLock::new(|| words::pattern(r"(?i){wrong}|[✗✘❌]|not the correct"));
    static YES: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["yes"]));
    let mut found: Option<Found<'a>> = None;
    for (i, mark) in marks {
        let rest = lines[*i];
        let residue = options.residue(text::head(rest, 600));
        // "A: no", "B: yes".
        let shown = decoration(rest, options);
        let after = shown[mark.end.min(shown.len())..].trim_matches(|c: char| !c.is_alphanumeric());
        let yes = YES.opening(after) == Some(after.len());
        if (yes || TICK.is_match(&residue)) && !CROSS.is_match(&residue) {
            let mut set = Set::one(mark.index);
            if let Some((before, ..)) = found {
                if !options.several() {
                    return None;
                }
                set.add(before);
            }
            found = Some((set, rest, "list"));
        }
    }
    found
}

/// A response that names exactly one option by its text.
pub(super) fn option_text<'a>(body: &'a str, options: &Options) -> Option<Found<'a>> {
    if !options.known() {
        return None;
    }
    let trimmed = body.trim();
    let lines: Vec<&str> =
        trimmed.lines().map(str::trim).filter(|l| !words(text::head(l, 1024)).is_empty()).collect();
    let (first, last) = (*lines.first()?, *lines.last()?);
    let whole = |s: &str| options.by_text(s.trim_matches(|c: char| "*_\"'` .".contains(c)));
    let exact: Vec<usize> = lines.iter().take(64).filter_map(|l| whole(text::head(l, 1024))).collect();
    if let Some(index) = whole(text::head(trimmed, 2048)) {
        return Some((Set::one(index), trimmed, "option_text"));
    }
    if exact.windows(2).all(|w| w[0] == w[1])
        && let Some(index) = whole(last).or_else(|| whole(first))
    {
        return Some((Set::one(index), last, "option_text"));
    }
    if exact.len() > 1 {
        return None;
    }
    // "The third option."
    if trimmed.len() <= 64
        && !text::is_negated(trimmed)
        && let Some(index) = read::ordinal(trimmed, options)
    {
        return Some((Set::one(index), trimmed, "option_text"));
    }
    if let Some(found) = opening(first, options) {
        return Some(found);
    }
    concluding(trimmed, options)
}

/// "Yes, because …": an option's text set off at the beginning.
fn opening<'a>(line: &'a str, options: &Options) -> Option<Found<'a>> {
    let mentions = options.mentions(text::head(line, 400));
    let head = mentions.first()?;
    let lead = line[..head.start]
        .trim_matches(|c: char| c.is_whitespace() || matches!(c, '*' | '_' | '"' | '`' | '“'));
    let after = line[head.end..].trim_start_matches(['*', '_', '"', '`', '”']);
    let article = matches!(&*lead.to_ascii_lowercase(), "" | "the" | "a" | "an");
    if !article
        || !after.starts_with([',', '.', ':', ';', '(', '!', '—', '–'])
            && !after.starts_with(" -")
            && !after.starts_with(" (")
    {
        return None;
    }
    // Further options right behind it are a list or a hedge.
    let close = mentions.get(1).is_some_and(|m| m.index != head.index && m.start <= head.end + 12);
    let rest = options.residue(text::head(after, 200));
    static HEDGE: LazyLock<Regex> =
        LazyLock::new(|| words::pattern(r"(?i)^\W*(?:{or}|{and}|{hedge}|is not|{not})"));
    if close || HEDGE.is_match(&rest) || line.trim_end().ends_with('?') {
        return None;
    }
    Some((Set::one(head.index), line, "option_text"))
}

/// "Option B" or "X or" in a text whose mentions of options are replaced.
static LISTING: LazyLock<Regex> =
    LazyLock::new(|| fixed(r"(?i:\b(?:option|choice)\s+)[(*]*[A-Z]\b|(?i:^|\s)(?:\x01 or\b|(?i:or)\s+\x01)"));

/// A label in brackets beside the text of its option.
static ASIDE: LazyLock<Regex> = LazyLock::new(|| fixed(r"\((?i:option |choice )?[A-Z]\)"));

/// Mentions of options that are looked at, whether they are denied.
const MAX_MENTIONS: usize = 512;

/// The last sentences name one option and do not deny it.
fn concluding<'a>(body: &'a str, options: &Options) -> Option<Found<'a>> {
    static CONCLUDES: LazyLock<Regex> = LazyLock::new(|| words::pattern(r"(?i)(?:{concludes}|{so})"));
    let list = sentences(body, options);
    // "So: <the text of an option>." at the very end.
    let end = body.trim_end().trim_end_matches(['.', '*', '"', '。']);
    let line = &body[body.trim_end().rfind('\n').map_or(0, |at| at + 1)..end.len()];
    static SO: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["so", "answer"]));
    if let Some((before, text)) = line.rsplit_once([':', '：'])
        && SO.closing(before.trim_end()).is_some()
        && let Some(index) = options.by_text(text)
        && !options.is_common(index)
        && !read::denied_before(before, before.len())
    {
        return Some((Set::one(index), text, "option_text"));
    }
    let mentions = options.mentions(body);
    let everywhere = mentioned(body, &mentions, options);
    for (back, (from, to)) in
        list.iter().rev().filter(|(a, b)| !body[*a..*b].trim().is_empty()).take(3).enumerate()
    {
        let set = said(&body[*from..*to], options)?;
        if set.is_empty() {
            continue;
        }
        let sentence = body[*from..*to].trim();
        if set.len() != 1 || sentence.len() > 400 {
            return None;
        }
        let only = || {
            everywhere == set
                && (back == 0 || body.len() <= 600)
                && !LISTING.is_match(&ASIDE.replace_all(&without(body, &mentions), ""))
        };
        let concludes = CONCLUDES.is_match(&options.residue(sentence));
        return (concludes || only()).then_some((set, sentence, "option_text"));
    }
    None
}

/// The options that a sentence names and does not deny; none where it leaves them open, lists them or only denies.
fn said(sentence: &str, options: &Options) -> Option<Set> {
    static THEN: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["so"]));
    static LEFT_OPEN: LazyLock<Regex> =
        LazyLock::new(|| words::pattern(r"(?i)(?:{hedge}|{if}|could|may|cannot|can't|both)"));
    // "Metformin would be the first choice, but the kidneys fail."
    static UNREAL: LazyLock<Regex> =
        LazyLock::new(|| words::pattern(r"(?i)\x01[^\x01]{0,80}?(?:{unreal})[^\x01]{0,200}?(?:{but})"));
    let mentions = options.mentions(sentence);
    let residue = without(sentence, &mentions);
    if line_label(sentence, options).is_some()
        || sentence.trim_start().starts_with(|c: char| c.is_ascii_digit())
        || LISTING.is_match(&ASIDE.replace_all(&residue, ""))
    {
        return None;
    }
    if sentence.trim_end().ends_with(['?', '？'])
        || LEFT_OPEN.is_match(&residue)
        || UNREAL.is_match(&residue)
        || read::is_open(&residue)
    {
        return None;
    }
    let (mut set, mut denied) = (Set::default(), Set::default());
    if mentions.len() > MAX_MENTIONS {
        return None;
    }
    // "It needs X, so it is Y": what is concluded counts.
    let concluded = THEN.places(sentence).last().map_or(0, |(_, end)| end);
    let from = mentions.iter().find(|m| m.start >= concluded).map_or(0, |_| concluded);
    for (i, m) in mentions.iter().enumerate().filter(|(_, m)| !options.is_common(m.index)) {
        // "X, not Y" denies Y.
        let contrast = mentions
            .get(i + 1)
            .is_some_and(|n| n.start < m.end + 24 && read::denied_before(sentence, n.start));
        if read::denied_before(sentence, m.start) || !contrast && read::denied_after(sentence, m.end) {
            denied.add(Set::one(m.index));
        } else if m.start >= from {
            set.add(Set::one(m.index));
        }
    }
    // "X rather than Y" chooses X; a sentence that only denies ends the search.
    (denied.is_empty() || !set.is_empty() && !set.iter().any(|i| denied.holds(i))).then_some(set)
}

/// The options that a text mentions and does not deny.
fn mentioned(body: &str, mentions: &[Mention], options: &Options) -> Set {
    let mut everywhere = Set::default();
    for (i, m) in mentions.iter().enumerate() {
        let denied = || {
            let next = mentions.get(i + 1).filter(|n| n.start < m.end + 24);
            let contrast = || next.is_some_and(|n| read::denied_before(body, n.start));
            read::denied_before(body, m.start) || read::denied_after(body, m.end) && !contrast()
        };
        if options.is_common(m.index) || everywhere.holds(m.index) {
            continue;
        }
        // What is mentioned this often is not told apart.
        if i >= MAX_MENTIONS || !denied() {
            everywhere.add(Set::one(m.index));
        }
    }
    everywhere
}

/// Whether a line is an item of a list of options.
pub(super) fn is_listed(line: &str, options: &Options) -> bool {
    line_label(line, options).is_some()
}

/// The option that is left when all others are denied; needs at least three known options.
pub(super) fn eliminated(denied: Set, options: &Options) -> Option<Set> {
    if !options.known() || options.len() < 3 || denied.len() + 1 != options.len() {
        return None;
    }
    (0..options.len()).find(|i| !denied.holds(*i)).map(Set::one)
}

/// Options that a list denies, line by line: "A. Fever - incorrect".
pub(super) fn denied_lines(body: &str, options: &Options) -> Set {
    static CROSS: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(
            r"(?i)[✗✘❌]|(?:[-–—:.(,]|{copula})\s*\**\s*(?:this (?:option )?is )?(?:{wrong}|not the (?:correct|best))",
        )
    });
    let mut set = Set::default();
    for line in body.lines().take(200) {
        let line = text::head(line, 600);
        if let Some(mark) = line_label(line, options)
            && CROSS.is_match(&options.residue(line))
        {
            set.add(Set::one(mark.index));
        }
    }
    set
}
