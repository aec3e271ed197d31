//! Reading one span of text: which labels or option texts it names, and whether it denies them or leaves them open.

use std::sync::LazyLock;

use regex::Regex;

use super::options::{Options, Set};
use crate::text::{self, fixed};
use crate::words::Phrases;

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
    fixed(concat!(
        r"(?i)^(?:[\s*_$`>#:：=\-–—→,]+|\\(?:text|textbf|mathbf|mathrm|textrm|mathsf|boxed|fbox|bf|rm)\b\s*\{?|\\[(\[,]|",
        r"(?:the|la|el|le|die|der|das|letter|option|options|choice|choices|answer|answers|alternative|number|statement|letra|lettre|buchstabe|opción|opcion|opção|réponse|respuesta|resposta|antwort|alternativa|inciso|proposition|variante?|вариант|буква|ответ|definitely|clearly|probably|likely|most likely|certainly|therefore|thus|simply|hence|indeed|actually|obviously|undoubtedly|that|it|its|is|it's|be|to be|also|daher|somit|folglich|entonces|donc|então|portanto|quindi|only|both|just|i think|i believe|i would say|i'd say|es|est|ist|lautet|é|è)\b(?:\(s\))?|",
        r"l['’]option|选项|選項|选择|選択肢|보기|選|选|الخيار|الحرف|विकल्प|是|为|為|乙は)",
    ))
});

/// Words after a plain label that leave it a label.
static PLAIN: LazyLock<Regex> = LazyLock::new(|| {
    fixed(
        r"(?i)^\s*(?:is|are|because|since|as|and|or|for|which|based|due|given|with|und|oder|ou|et|porque|car|weil|parce|потому|так|not|but|rather|instead|would|seems|must|should|remains|fits|vs|versus|through|\()\b|^\s*\(",
    )
});

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
    let joined = matches!(next, '-' | '‐' | '\'' | '’' | '^' | '_') && second.is_alphanumeric()
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

static NAMING: LazyLock<Regex> = LazyLock::new(|| {
    fixed(
        r"(?i)^(?:letter|options?|choices?|alternativ\w+|letra|lettre|buchstabe|opci[oó]n|opção|inciso|l['’]option|вариант|буква|选项|選項|選択肢|보기|الخيار|विकल्प)$",
    )
});

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

static IS_BECAUSE: LazyLock<Regex> = LazyLock::new(|| fixed(r"(?i)^(?:is|because|and|or)\b"));

/// The labels that are listed after a mark: "B or C", "B, C", "B/D", "A through D". Gives the set and the end of the list.
pub(super) fn listed(span: &str, first: &Mark, options: &Options) -> (Set, usize) {
    static LINK: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)^[\s.]*(?:(?:[,/&+;|、，]|\b(?:and/or|and|or|y|o|u|et|ou|und|oder|e|vs\.?|versus|through|to|as well as)\b|и|или|和|或者|或|及|以及|と|か|また|또는|와|과|أو|और|या)[\s]*)+(?:(?:either|option|options|choice|letter|possibly|maybe|perhaps|also)\s+)*",
        )
    });
    let mut set = Set::one(first.index);
    let mut end = first.end;
    for _ in 0..32 {
        let rest = &span[end..];
        let at = match LINK.find(rest) {
            Some(m) => end + m.end(),
            // "A B C D".
            None if rest.starts_with(' ') => end + rest.len() - rest.trim_start().len(),
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
        set.add(Set::one(mark.index));
        end = mark.end;
    }
    (set, end)
}

static LINKING: LazyLock<Regex> =
    LazyLock::new(|| fixed(r"(?i)^(?:and|or|are|is|can|could|but|as|to|because)\b"));

/// Words that leave an answer open between several.
fn is_hedge(span: &str) -> bool {
    static HEDGE: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)\b(?:either|between|maybe|perhaps|possibly|might|could be|may be|can be|unsure|uncertain|not sure|any of|one of|any one|all of them|hard to (?:say|tell)|tal vez|quizás|quizá|peut-être|vielleicht|talvez)\b|可能是|也许|或许|または|或者|возможно|может быть|ربما|शायद",
        )
    });
    HEDGE.is_match(span)
}

/// Refusals and open ends.
pub(super) fn is_open(span: &str) -> bool {
    static OPEN: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)\b(?:cannot|can't|can not|could not|couldn't|unable|not possible|impossible to|none of (?:the|these|them)|none|unclear|unknown|undetermined|not (?:enough|sure|certain|listed|provided|given|known|clear|among|present|one of|in the)|insufficient|no (?:correct|right|answer|single)|depends?|debatable|n/a|not applicable|neither|missing|i don't know)\b|无法|不确定|不知道|わかりません|모르|不明",
        )
    });
    OPEN.is_match(span)
}

/// Whether the words before byte `at` of `s` deny what stands there.
pub(super) fn denied_before(s: &str, at: usize) -> bool {
    static BEFORE: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)(?:\b(?:not|never|neither|nor|without|except|unlike|excludes?|excluding|excluded|against|rule[sd]? out|ruling out|eliminat\w+|reject\w*|discard\w*|instead of|rather than|other than|isn't|aren't|wasn't|no|nicht|kein\w*|pas|ni)|n't|n’t|не|不是|并非|不选|不选择|排除|ليس\w*)\s*(?:[\w'’,/]+\s+){0,3}[(\[*\s“\x22]*$",
        )
    });
    BEFORE.is_match(text::tail(&s[..at], 80))
}

/// Whether the words after byte `at` deny what stands before.
pub(super) fn denied_after(s: &str, at: usize) -> bool {
    static AFTER: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)^[)\]*.:,\s]*(?:\([^)\n]{1,80}\)\s*)?(?:(?:is|was|seems|appears|would be|are|can be|could be|must be|should be|has been)\s*)?(?:clearly |also |definitely |therefore |thus |very |the )?(?:not\b|n't|isn't|aren't|cannot|incorrect|wrong|false\b|ruled out|eliminated|excluded|unlikely|less likely|contraindicated|不对|错误|不正确|は間違|ではな|じゃな|이 아|가 아|는 아|नहीं|falsch|incorrect[ao]|неверн|неправильн)",
        )
    });
    AFTER.is_match(text::head(&s[at..], 160))
}

/// What an answer span (a box, a tag, the clause after a cue) says.
pub(super) fn answer_span(span: &str, options: &Options) -> Reading {
    static NOT: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)^[\s$*(\\\[:]*(?:definitely |certainly |clearly |probably |likely |most likely |simply )?(?:not\b|never\b|isn't\b|anything but\b|neither\b|no es\b|n'est pas\b|pas\b|nicht\b|não\b|не\b|不是|ليس)",
        )
    });
    static BUT: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)(?:\b(?:but rather|but instead|but|rather|sondern|sino|mais|а)\b|而是|[,;]\s*(?:it is|it's))\s*",
        )
    });
    let span = text::head(span.trim(), 1024);
    if let Some(index) = options.by_text(span)
        && !is_single_label(span, options)
    {
        return Reading::Chosen(Set::one(index));
    }
    if let Some(not) = NOT.find(span) {
        if let Some(but) = BUT.find(&span[not.end()..]) {
            let rest = &span[not.end() + but.end()..];
            if let chosen @ Reading::Chosen(_) = positive(rest, options) {
                return chosen;
            }
        }
        return match positive(&span[not.end()..], options) {
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
    let residue = options.residue(span);
    let hedge = |set: Set| if is_hedge(&residue) { open(set, options) } else { set };
    // A label, unless it is the beginning of an option's text ("C. difficile").
    if let Some(mark) = head_mark(span, options)
        && !mentions
            .iter()
            .any(|m| m.start <= mark.start && m.end >= mark.end.min(m.start + 3) && m.end > mark.end)
    {
        if denied_after(span, mark.end)
            && !mentions.iter().any(|m| m.start >= mark.end && m.start < mark.end + 6)
        {
            return Reading::Denied(Set::one(mark.index));
        }
        let (mut set, end) = listed(span, &mark, options);
        let rest = &span[end..];
        if set.len() == 1 {
            // Another option's text in place of this one's contradicts the label; "or <text>" offers another.
            let text = rest.trim_start_matches(|c: char| !c.is_alphanumeric());
            if let Some(other) = options.by_text(text.trim_end_matches(['.', ')', ' ']))
                && !is_single_label(text, options)
            {
                set.add(Set::one(other));
            }
            static OR: LazyLock<Regex> =
                LazyLock::new(|| fixed(r"(?i)\b(?:or|oder|ou|o)\s+(?:(?:maybe|possibly|the|option)\s+)*$"));
            for m in mentions.iter().filter(|m| m.start >= end) {
                if OR.is_match(text::tail(&span[..m.start], 48)) {
                    set.add(Set::one(m.index));
                }
            }
            // A second label that is offered further on: "B (aortic) or C".
            static OR_LABEL: LazyLock<Regex> = LazyLock::new(|| {
                fixed(
                    r"(?i:\bor\s+(?:maybe\s+|possibly\s+|option\s+|even\s+)*)[(\[*]*([A-Z])(?:[)\]*.,;:?]|\s*$)",
                )
            });
            if let Some(other) = OR_LABEL.captures(rest).and_then(|c| options.by_label(c.get(1)?.as_str())) {
                set.add(Set::one(other));
            }
        }
        return Reading::Chosen(hedge(set));
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
    static CALLED: LazyLock<Regex> = LazyLock::new(|| {
        fixed(r"(?i)\b(?:option|choice|letter|alternative|opción|opção|alternativa|letra|вариант)\s*[(\[*]*$")
    });
    static LAST: LazyLock<Regex> = LazyLock::new(|| {
        fixed(r"(?i)(?:\b(?:is|be|as|or|and|option|choice|answer|with|namely)|[,:]|是|は)\s*$")
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
        fixed(
            r"(?i)\b(first|second|third|fourth|fifth|sixth|last)\s+(?:option|choice|one|answer|alternative|statement)\b|第([一二三四五])(?:个|項|项|選|选)|(?:la |el )(primera|segunda|tercera|cuarta) (?:opci[oó]n|alternativa)",
        )
    });
    let found = ORDINAL.captures(span)?;
    let word = found.get(1).or_else(|| found.get(2)).or_else(|| found.get(3))?.as_str().to_lowercase();
    let index = match &*word {
        "first" | "一" | "primera" => 0,
        "second" | "二" | "segunda" => 1,
        "third" | "三" | "tercera" => 2,
        "fourth" | "四" | "cuarta" => 3,
        "fifth" | "五" => 4,
        "sixth" => 5,
        _ if options.known() => options.len().checked_sub(1)?,
        _ => return None,
    };
    (index < options.len()).then_some(index)
}
