//! What a response claims and denies, in order: marked answers, cue phrases, statements, remarks on single options.

use std::sync::LazyLock;

use regex::Regex;

use super::options::{Options, Set};
use super::read::{self, Reading};
use crate::extract;
use crate::text::{self, fixed};

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

/// The sentences of `body` as byte ranges; a label's own full stop ("B. Fever") ends none.
pub(super) fn sentences(body: &str) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let mut start = 0;
    let mut chars = body.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map_or(' ', |(_, n)| *n);
        let end = at + c.len_utf8();
        let stop = match c {
            '\n' | '。' | '！' | '？' | '；' | ';' => true,
            '!' | '?' => !next.is_alphanumeric(),
            '.' => {
                let so_far = body[start..at].trim_start_matches(|c: char| !c.is_alphanumeric());
                let word = so_far.rsplit(char::is_whitespace).next().unwrap_or("");
                let opening = so_far.chars().count() <= 2
                    || so_far.len() <= 10 && so_far.to_ascii_lowercase().starts_with("option ");
                let short =
                    matches!(&*word.to_ascii_lowercase(), "e.g" | "i.e" | "vs" | "dr" | "mr" | "st" | "etc");
                (next.is_whitespace() || matches!(next, '*' | ')' | '"' | '”' | '\\' | '<'))
                    && !opening
                    && !short
            }
            _ => false,
        };
        if stop {
            out.push((start, end));
            start = end;
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
    static TAG: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?is)<(?:answer|final_answer|final|ans|choice|option|result)>\s*(.{0,1200}?)\s*</(?:answer|final_answer|final|ans|choice|option|result)>",
        )
    });
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
    for (pattern, rule) in [(&TAG, "answer_tag"), (&JSON, "json"), (&HASH, "hashes")] {
        let all: Vec<_> = pattern.captures_iter(body).collect();
        for m in &all[all.len().saturating_sub(MAX_PLACES)..] {
            let inner = (1..m.len()).find_map(|i| m.get(i));
            if let (Some(whole), Some(mut span)) = (m.get(0), inner) {
                // A tag that opens again starts anew.
                let mut text = span.as_str();
                if let Some(again) = text.rfind("<answer>") {
                    text = &text[again + "<answer>".len()..];
                }
                if rule == "hashes" && text.len() > 120 {
                    continue;
                }
                span = whole;
                spans.push((span.start(), span.end(), text.trim(), rule));
            }
        }
    }
    for (start, end, span, rule) in spans {
        // What a box or tag holds may be a whole sentence with a cue of its own.
        let mut inner = Vec::new();
        if span.len() > 3 && rule != "boxed" {
            let list = sentences(span);
            cues(span, &list, options, &mut inner);
            marked_boxes(span, options, &mut inner);
        }
        let mut reading = read::answer_span(span, options);
        if let Some(last) =
            inner.iter().rev().find(|c| c.strength >= Strength::Cue && chosen(c.reading).is_some())
        {
            reading = last.reading;
        } else if reading == Reading::Nothing && rule == "answer_tag" {
            statements(span, &sentences(span), options, &mut inner);
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

static CUE: LazyLock<Regex> = LazyLock::new(|| {
    fixed(concat!(
        r"(?i)(?:",
        r"\b(?P<en>(?:answers?|ans|letter|solution|correct(?:\*\*)?\s*[:=]|(?:option|choice|one)\s+(?:that|which)|(?:correct|right|best|final|chosen|selected|appropriate|likely|suitable|accurate|remaining|(?:incorrect|false|wrong) statement:?|(?:most|only|next|true|possible) (?:\w+ )?)\s?(?:options?|choices?|alternatives?|one|letters?|statements?|selection|diagnosis|cause|step|treatment|explanation|response|therapy|drug|test|finding|mechanism|management)|(?:incorrect|false) statement|(?:option|choice|selection|conclusion|diagnosis)(?:\*\*)?\s*[:=])",
        r"(?:[*_]{1,3})?(?:\s*\([^)\n]{2,40}\))?(?:(?:[^.:=\n?;]|\.\d){0,90}?\b(?:is|are|was|would be|should be|must be|will be|seems to be|appears to be|has to be|becomes)\b|[*_\s]*(?:[:：=]|->|→|⇒|=>|–|—|-|\.)|))",
        r"|\b(?:my (?:choice|pick|selection|guess|best guess|vote)|best guess)\b[^.:=\n?;]{0,30}?(?:\bis\b|\bwould be\b|:)",
        r"|\b(?:la |the |a |l['’])?(?:opci[oó]n|respuesta|alternativa|resposta|opção|risposta|opzione|r[ée]ponse|antwort|lösung|antwoord|odpowied[zź]|jawaban\w*|cevap|đáp án|svar\w*)\b(?:[^.:=\n?;]{0,60}?(?:\bes\b|\bsería\b|\best\b|\bserait\b|\bist\b|\blautet\b|\bwäre\b|\bé\b|é\s|è\s|\badalah\b|\blà\b|\bto\b|[:：=]|–|—|-))?",
        r"|ответ\w*(?:[^.:\n?;a-zA-Z]{0,40}?(?:[:：=—–-]|является|это|будет))?",
        r"|(?:правильн|верн)\w+\s+(?:вариант\w*|ответ\w*|утверждени\w*)(?:\s*(?:[:—–-]|это|является))?",
        r"|(?:正确|正確|最佳|最终|最終|标准|参考)?(?:的)?(?:答案|选项|選項|答え|回答|解答|正解|正答)(?:应该|應該|应当|应|應)?(?:选择|選擇|选|選)?\s*(?:就是|是|为|為|は|：|:|=)?",
        r"|(?:应该|应|應|故|因此|所以|我|本题|此题|就)?(?:选择|選擇|选|選)(?:项|項)?\s*(?:是|为|[:：])?",
        r"|(?:정답|답변|답)\s*(?:은|는|이|:|：)?",
        r"|(?:الإجابة|الاجابة|الجواب|الخيار)(?:\s+(?:النهائية|الصحيحة|الصحيح|النهائي|الأفضل))*\s*(?:هي|هو|:)?",
        r"|(?:सही\s+)?(?:उत्तर|जवाब|विकल्प)\s*(?:है|:|：|-)?",
        r")(?:[*_]{1,3})?"
    ))
});

/// Words before a cue that make it no statement of the writer.
fn is_supposed(before: &str) -> bool {
    static CONDITION: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)(?:\b(?:if|whether|suppose|assum(?:e|ing)|when|unless|until|verify|check|sure|certain|confirm|ensure)\b[^.,;]{0,40}|\b(?:might|may|could) (?:think|assume|believe|say|argue|expect|guess)\b[^.,;]{0,30}|\b(?:tempting|at first|initially|one could)\b,?[^.;,]{0,60})$",
        )
    });
    // "B is tempting, but the answer is C" turns away from what is supposed.
    CONDITION.find(text::tail(before, 96)).is_some_and(|m| !m.as_str().contains(" but "))
}

/// "I don't think the answer is …".
fn is_doubted(before: &str) -> bool {
    static DOUBT: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)(?:\b(?:don't|do not|doubt|wouldn't say|unlikely|not convinced|cannot say)\b[^.,;]{0,30}|\b(?:incorrect|wrong|an?)\s+)$",
        )
    });
    DOUBT.is_match(text::tail(before, 64))
}

fn is_question(sentence: &str) -> bool {
    static ASKS: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)^[\s*#>\-]*(?:so |and |but |then |now )?(?:is|are|could|would|can|does|do|what|which|why|how|should|shall|who|where)\b",
        )
    });
    sentence.trim_end().ends_with(['?', '？']) && ASKS.is_match(sentence)
}

/// The clause after a cue: the rest of its sentence, or the next line when nothing is left of this one.
fn clause<'a>(body: &'a str, list: &[(usize, usize)], at: usize) -> &'a str {
    static CUT: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i),?\s+(?:because|since|rather than|instead of|as opposed to|whereas|while|unlike)\b|,\s*(?:so|as|not|and not)\b|,?\s+(?:and not|but not)\b|\s*</",
        )
    });
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
    let span = CUT.find(span).map_or(span, |m| &span[..m.start()]);
    span.trim()
}

/// Cue phrases with the clause that follows.
pub(super) fn cues(body: &str, list: &[(usize, usize)], options: &Options, out: &mut Vec<Claim>) {
    static PLURAL: LazyLock<Regex> =
        LazyLock::new(|| fixed(r"(?i)\b(?:choices|options|answers|alternatives|letters|statements)\b"));
    static BARE: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)(?:\b(?:is|are|was|be|becomes|es|est|ist|lautet|adalah)\b|é|è|[:：=–—>→⇒是为為は은는هيو]|-)[*_\s]*$",
        )
    });
    static SOFT: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)\b(?:one|letter|step|treatment|explanation|response|therapy|drug|test|finding|mechanism|management|cause|diagnosis|conclusion)\b",
        )
    });
    let all: Vec<_> = CUE.find_iter(body).filter(|m| !m.is_empty()).collect();
    for m in &all[all.len().saturating_sub(MAX_PLACES * 2)..] {
        let (from, to) = sentence_at(list, m.start());
        let before = &body[from..m.start()];
        let dense = m.as_str().chars().any(|c| c as u32 > 0x2E7F);
        if is_supposed(before) || is_question(&body[from..to.max(from)]) {
            continue;
        }
        let span = clause(body, list, m.end());
        let start = span.as_ptr() as usize - body.as_ptr() as usize;
        let linked = BARE.is_match(m.as_str());
        let mut reading = if linked {
            read::answer_span(span, options)
        } else {
            // "answer B", "选B": only a label directly after the noun.
            direct(span, options, dense)
        };
        if let Some(set) = chosen(reading) {
            if set.len() > 1 && PLURAL.is_match(m.as_str()) && set.len() >= options.len().min(3) {
                continue;
            }
            // "The answer would be C if …".
            static IF: LazyLock<Regex> =
                LazyLock::new(|| fixed(r"(?i)\b(?:if|unless|had (?:the|she|he|it))\b"));
            let rest = &body[m.end()..to.max(m.end())];
            if m.as_str().to_ascii_lowercase().ends_with("would be")
                && (IF.is_match(rest) || IF.is_match(before))
            {
                continue;
            }
            static FOREIGN_NOT: LazyLock<Regex> =
                LazyLock::new(|| fixed(r"(?i)\b(?:no|nicht|n['’]est|não|non|ikke|niet)\b|(?:^|\s)не\s"));
            let foreign = m.as_str().to_ascii_lowercase();
            let foreign = !foreign.contains("answer") && FOREIGN_NOT.is_match(&foreign);
            if foreign || is_doubted(before) || dense && read::denied_before(body, m.start()) {
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

/// A label directly at the start of `span`.
fn direct(span: &str, options: &Options, dense: bool) -> Reading {
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
    static VERB: LazyLock<Regex> =
        LazyLock::new(|| fixed(r"(?i)^(?:is|because|as|since|for|and|or|है|هي)\b|^है"));
    VERB.is_match(after)
}

static PREDICATE: LazyLock<Regex> = LazyLock::new(|| {
    fixed(concat!(
        r"(?i)(?:\b(?:is|are|was|were|would be|must be|should be|will be|can be|could be|seems(?: to be)?|appears(?: to be)?|has to be|have to be)(?P<nt>n't|n’t)?\s+",
        r"(?P<adv>(?:(?:not|never|clearly|definitely|therefore|thus|also|indeed|all|both|likely|obviously|certainly|actually|less|more|very|probably|the|an?|our|my|most|single|only|one|best|next|overall|initial|first|safely|easily|so)\s+){0,6})",
        r"(?P<adj>correct|right|best|true|answer|one|accurate|appropriate|likely|suitable|fitting|choice|option|valid|probable|diagnosis|incorrect|wrong|false|unlikely|inappropriate|ruled out|rule out|eliminated|excluded|contraindicated|inaccurate|untrue|not)\b",
        r"|\b(?P<es>es|est|ist|é|sind|son)\s+(?P<neg>(?:no|pas|nicht|não)\s+)?(?:(?:la|el|le|die|der|das|a|o|bonne|mejor|richtige|melhor|opción|option|respuesta|réponse|resposta)\s+){0,4}(?P<adj2>correct[aoe]?s?|juste|vraie?|richtig\w*|korrekt\w*|certa|antwort|respuesta|réponse|falsch\w*|incorrect[aoe]?|fausse|errada|falsa)\b",
        r"|(?P<zh>(?:是|为|為)?(?P<zhneg>不)?(?P<zhadj>正确|正確|对的|對的|错误|錯誤|错的)(?:的|答案|选项)*|が(?:正解|正しい|答え)|(?:가|이)\s?(?:정답|맞|옳)|(?:является|—|–)?\s*(?P<runeg>не)?(?:правильн|верн)\w+|هي الإجابة الصحيحة|सही\s+(?:उत्तर|विकल्प|जवाब))",
        r"|\b(?P<fit>remains|fits|is left)\b|\b(?:stands out as|fits best|matches best|makes the most sense|(?:best|most accurately|most closely) (?:explains|fits|describes|matches|answers|represents|reflects|aligns))\b)"
    ))
});

/// "B is correct", "A and C are wrong", "(B) Aortic stenosis is the best answer".
pub(super) fn statements(body: &str, list: &[(usize, usize)], options: &Options, out: &mut Vec<Claim>) {
    let all: Vec<_> = PREDICATE.captures_iter(body).collect();
    for m in &all[all.len().saturating_sub(MAX_PLACES * 2)..] {
        let Some(whole) = m.get(0) else { continue };
        let (from, to) = sentence_at(list, whole.start());
        if from > whole.start() || is_question(&body[from..to]) {
            continue;
        }
        let subject = &body[from..whole.start()];
        if is_supposed(subject) || subject.len() > 400 {
            continue;
        }
        let word = |name| m.name(name).map_or("", |w| w.as_str()).to_ascii_lowercase();
        let adjective = [word("adj"), word("adj2")].concat();
        let bad = matches!(
            &*adjective,
            "incorrect"
                | "wrong"
                | "false"
                | "unlikely"
                | "inappropriate"
                | "ruled out"
                | "rule out"
                | "eliminated"
                | "excluded"
                | "contraindicated"
                | "inaccurate"
                | "untrue"
                | "not"
                | "fausse"
                | "errada"
                | "falsa"
                | "incorrecta"
                | "incorrecto"
                | "incorrecte"
                | "incorreta"
        ) || adjective.starts_with("falsch")
            || matches!(&*word("zhadj"), "错误" | "錯誤" | "错的");
        let adverbs = word("adv");
        let not = m.name("nt").is_some()
            || m.name("neg").is_some()
            || m.name("zhneg").is_some()
            || m.name("runeg").is_some()
            || adverbs.contains("not ")
            || adverbs.contains("never ")
            || adverbs.contains("less ");
        let weak = matches!(
            &*adjective,
            "likely" | "probable" | "appropriate" | "diagnosis" | "suitable" | "valid" | "true" | "right"
        ) && !adverbs.contains("most")
            && !adverbs.contains("the ")
            && !adverbs.contains("best");
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
        static IF: LazyLock<Regex> =
            LazyLock::new(|| fixed(r"(?i)^\s*(?:only )?(?:if|when|unless|in cases?|answer choices?\s+if)\b"));
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

static HEDGED: LazyLock<Regex> = LazyLock::new(|| {
    fixed(
        r"(?i)\b(?:maybe|perhaps|possibly|might|could|not sure|unsure|either|don't think|do not think|doubt)\b",
    )
});

/// The options that are the subject of a predicate.
fn subject_set(subject: &str, options: &Options, texts: bool) -> Set {
    static CLAUSE: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)(?:,?\s*\b(?:so|therefore|thus|hence|but|because|since|while|whereas|that|although|though|then|as|means)\b[,:]?|,\s*and\b(?: that)?|[:：,]|，)\s+",
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
            let adverb =
                matches!(rest, "" | "alone" | "also" | "clearly" | "definitely" | "only" | "itself" | "both");
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
        fixed(concat!(
            r"(?i)\b(?:(?P<deny>rul(?:e|es|ed|ing) out|eliminat(?:e|es|ed|ing)|exclud(?:e|es|ed|ing)|reject(?:ed|ing)?|discard(?:ed|ing)?|it(?:'s| is) not|it isn't|not|neither)",
            r"|(?P<choose>choos(?:e|ing)|pick(?:ing)?|select(?:ing)?|opt for|go(?:ing)? (?:with|for)|went with|vote for|settle on|stick with|lean(?:ing)? (?:towards?|to)|i say|i'd say|i would say|would say|i answer|leav(?:es|ing)(?: us)?(?: with)?(?: only)?|left with|narrows? (?:it )?down to|corresponds to|points to|matches|is option|equivalent to|indicates|it(?:'s| is)|it must be|it has to be|it should be|must be|this is|that is|that's|which is|i think|i believe|i guess|i chose|chose|selected|favou?rs?|elijo|escojo|escolho|choisis|wähle|nehme)",
            r"|(?P<so>so|therefore|thus|hence|ergo|consequently|conclusion|probably|most likely|likely|only|option|choice))\b[,:：]?\s*(?:\*\*)?",
            r"|(?P<sign>[→⇒]|=>|->|∴|выбираю|因此|所以|故|だから|따라서|اختار|مैं)\s*"
        ))
    });
    let all: Vec<_> = REMARK.captures_iter(body).collect();
    for m in &all[all.len().saturating_sub(MAX_PLACES * 2)..] {
        let Some(whole) = m.get(0) else { continue };
        let (from, to) = sentence_at(list, whole.start());
        let to = to.max(whole.end()).min(body.len());
        let before = &body[from.min(whole.start())..whole.start()];
        let sentence = &body[from.min(whole.start())..to];
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
        if deny
            && whole.as_str().to_ascii_lowercase().contains("not")
            && let Some(at) =
                body[whole.start()..to].to_ascii_lowercase().find("not").map(|i| whole.start() + i)
            && body.is_char_boundary(at)
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
        let quiet = matches!(
            &*whole.as_str().to_ascii_lowercase().trim_end().replace(['*', ':', ','], ""),
            "option" | "choice" | "only" | "so" | "likely" | "probably" | "most likely"
        );
        if choose && reading == Reading::Nothing {
            // Option texts after "choose" and "go with", not after "it is" and "indicates".
            let firm = whole.as_str().to_ascii_lowercase();
            if ["cho", "pick", "select", "opt", "go", "with", "elijo", "favo", "leav", "must be"]
                .iter()
                .any(|w| firm.contains(w))
                && let Reading::Chosen(set) = read::answer_span(span, options)
                && set.len() == 1
            {
                reading = Reading::Chosen(set);
            }
        }
        let Reading::Chosen(set) = reading else { continue };
        let negative = deny || DENYING.is_match(text::tail(before, 40)) || is_doubted(before);
        if deny && read::denied_before(body, whole.start()) && !whole.as_str().eq_ignore_ascii_case("not ") {
            continue;
        }
        if !negative {
            if HEDGED.is_match(before) || HEDGED.is_match(sentence) && set.len() == 1 && quiet {
                continue;
            }
            // A list of the options is no choice, nor is "option B" within a sentence about it.
            if quiet {
                let end = span.trim_end().trim_end_matches(['.', '*', ')', '"', '!']);
                let alone = read::head_mark(span, options).is_some_and(|k| {
                    let rest =
                        end.get(k.end..).unwrap_or("").trim_start_matches(|c: char| !c.is_alphanumeric());
                    rest.is_empty() || options.by_text(rest) == Some(k.index)
                });
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

static DENYING: LazyLock<Regex> = LazyLock::new(|| {
    fixed(
        r"(?i)(?:\b(?:not|never|cannot|wouldn't|won't|don't|didn't|shouldn't|can't)|n't)\s+(?:\w+\s+){0,2}$",
    )
});

/// Whether the text between two claims takes the first one back.
pub(super) fn corrects(gap: &str) -> bool {
    static CORRECTION: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)\b(?:wait|no|actually|correction|scratch that|on second thought|i made (?:a mistake|an error)|let me (?:re\w+|correct|double)|sorry|hmm|i (?:was|am) wrong|that(?:'s| is| was) (?:wrong|incorrect|not right)|instead|oops|my mistake|i take (?:that|it) back|rethink\w*|reconsider\w*|upon (?:further )?re\w+|however, (?:on|upon|after)|changed? my mind)\b|不对|等等|更正|いや|待って|아니|нет,|perdón|espera|attend|moment",
        )
    });
    CORRECTION.is_match(gap)
}

/// Whether the response ends with "but I do not know".
pub(super) fn gives_up(body: &str) -> bool {
    static UNKNOWN: LazyLock<Regex> = LazyLock::new(|| fixed(r"(?i)\bbut i (?:do not|don't) know[.!\s]*$"));
    UNKNOWN.is_match(text::tail(body, 64))
}

/// Whether what follows the last claim takes it back.
pub(super) fn retracted(after: &str) -> bool {
    static RETRACTION: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)\b(?:scratch that|ignore that|i take (?:that|it) back|on second thought|(?:that|this)(?:'s| is| was| answer is) (?:wrong|incorrect|not right|not correct)|i made (?:a mistake|an error)|(?:that|this) (?:can't|cannot) be right|wait,? (?:no|that)\b|actually,? (?:no\b|i(?:'m| am) not sure)|disregard|never ?mind)",
        )
    });
    static CONFIRMATION: LazyLock<Regex> = LazyLock::new(|| {
        fixed(r"(?i)\b(?:is correct|is right|was right|confirmed|checks out|stands|stick with)\b")
    });
    RETRACTION.find_iter(after).last().is_some_and(|m| !CONFIRMATION.is_match(&after[m.end()..]))
}
