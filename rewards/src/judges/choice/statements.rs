//! Statements and remarks on single options: "B is correct", "so B", "rule out A and C".

use std::sync::LazyLock;

use regex::{Match, Regex};

use super::claims::{
    Claim, DENYING, HEDGED, MAX_PLACES, REACH, Strength, chosen, clause, direct, is_doubted, is_question,
    is_supposed, sentence_at,
};
use super::options::{Options, Set};
use super::read::{self, Reading};
use crate::answer::text::{self, fixed};
use crate::answer::words::{self, Phrases};

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
        // "C'est correct" begins with no label.
        let elided = subject.strip_suffix(['\'', '’']).is_some_and(|s| s.ends_with(char::is_alphabetic));
        if elided || subject.len() > 400 || is_supposed(subject) {
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

fn statement(start: usize, end: usize, reading: Reading) -> Claim {
    Claim { start, end, reading, strength: Strength::Statement, rule: "statement" }
}

static REMARK: LazyLock<Regex> = LazyLock::new(|| {
    words::pattern(concat!(
        r"(?i)(?:(?P<deny>{rejects})|(?P<choose>(?P<firm>{chooses})|{points})|(?P<so>{therefore}|{weakly}))[,:：]?\s*(?:\*\*)?",
        r"|(?P<turn>{correction})[,.:!…，。！—-]*\s*(?:(?:the (?:final |correct )?answer|it|that)(?:'s|’s| is| should be| must be)\s+)?",
        r"|(?P<sign>[→⇒]|=>|->|∴)\s*"
    ))
});

/// "so B", "I choose B", "it must be B", "leaving B", and denials such as "rule out A and C".
pub(super) fn remarks(body: &str, list: &[(usize, usize)], options: &Options, out: &mut Vec<Claim>) {
    let turns = read::turns(body, options);
    for (start, end, set) in &turns[turns.len().saturating_sub(MAX_PLACES)..] {
        let (from, to) = sentence_at(list, *start);
        let before = text::tail(&body[from.min(*start)..*start], REACH);
        if !is_supposed(before)
            && !is_doubted(before)
            && !body[..to.max(*end)].trim_end().ends_with(['?', '？'])
        {
            out.push(statement(*start, *end, Reading::Chosen(*set)));
        }
    }
    for place in text::last_places(&REMARK, body, MAX_PLACES * 2) {
        out.extend(remark(body, list, options, place));
    }
}

/// What the remark at `place` says of an option.
fn remark(body: &str, list: &[(usize, usize)], options: &Options, place: Match<'_>) -> Option<Claim> {
    let (from, to) = sentence_at(list, place.start());
    let to = to.max(place.end()).min(body.len());
    let before = text::tail(&body[from.min(place.start())..place.start()], REACH);
    let sentence = &body[place.start() - before.len()..to];
    if is_supposed(before) || is_question(sentence) {
        return None;
    }
    let found = REMARK.captures_at(body, place.start())?;
    let is = |name| found.name(name).is_some();
    let span = clause(body, list, place.end());
    let start = span.as_ptr() as usize - body.as_ptr() as usize;
    if span.is_empty() || start >= to && !is("choose") {
        return None;
    }
    // "A is possible, and so is B."
    if is("so") && ["is ", "are ", "does ", "can ", "could "].iter().any(|w| span.starts_with(w)) {
        return None;
    }
    if is("deny")
        && let Some(reading) = turned(body, list, options, place, to)
    {
        return Some(statement(place.start(), to, reading));
    }
    let mut reading = direct(span, options, false);
    // Option texts after "choose" and "go with", not after "it is" and "indicates".
    if is("firm")
        && reading == Reading::Nothing
        && let Reading::Chosen(set) = read::answer_span(span, options)
        && set.len() == 1
    {
        reading = Reading::Chosen(set);
    }
    let set = chosen(reading)?;
    let said = place.as_str().trim();
    // "Actually C." turns to C; "Wait, A is old" says nothing yet.
    let mere_no = said.chars().count() <= 4 && said.chars().all(char::is_alphabetic);
    if is("turn") && (mere_no || !stands_alone(span, options)) {
        return None;
    }
    let negative = is("deny") || DENYING.is_match(text::tail(before, 40)) || is_doubted(before);
    let denied = || read::denied_before(body, place.start());
    if is("deny") && denied() && !place.as_str().eq_ignore_ascii_case("not ") {
        return None;
    }
    static QUIET: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["weakly"]));
    let word = place.as_str().trim_end().trim_end_matches(['*', ':', ',', ' ']);
    let quiet = is("so") && QUIET.opening(word) == Some(word.len());
    if !negative {
        let hedged = || set.len() == 1 && quiet && HEDGED.is_match(text::head(sentence, 2 * REACH));
        if HEDGED.is_match(before) || hedged() || quiet && only_names(place, sentence, span, options) {
            return None;
        }
    }
    let reading = if negative { Reading::Denied(set) } else { reading };
    Some(statement(place.start(), start + span.len(), reading))
}

/// "it is not A but B": what is chosen in place of what the remark at `place` denies, in its sentence up to `to`.
fn turned(
    body: &str,
    list: &[(usize, usize)],
    options: &Options,
    place: Match<'_>,
    to: usize,
) -> Option<Reading> {
    let head = text::head(&body[place.start()..to], place.len() + 2);
    let at = place.start() + head.to_ascii_lowercase().find("not").unwrap_or(0);
    if !text::is_negated(&body[at..to]) {
        return None;
    }
    Some(read::answer_span(clause(body, list, at), options)).filter(|r| chosen(*r).is_some())
}

/// Whether a quiet remark only names an option: a list of the options is no choice, nor is "option B" within a sentence
/// about it.
fn only_names(place: Match<'_>, sentence: &str, span: &str, options: &Options) -> bool {
    let naming = place.as_str().to_ascii_lowercase();
    !stands_alone(span, options)
        || naming.starts_with("option")
        || naming.starts_with("choice")
        || naming.starts_with("only") && !sentence.trim_end().ends_with(['.', '!'])
}

/// Whether a span is a label, with its own text at most.
fn stands_alone(span: &str, options: &Options) -> bool {
    let end = span.trim_end().trim_end_matches(['.', '*', ')', '"', '!', '。']);
    read::head_mark(span, options).is_some_and(|k| {
        let rest = end.get(k.end..).unwrap_or("").trim_start_matches(|c: char| !c.is_alphanumeric());
        rest.is_empty() || options.by_text(rest) == Some(k.index)
    })
}
