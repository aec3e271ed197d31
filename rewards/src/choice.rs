//! `choice`: the letter or the text of an option of a multiple-choice question.
//!
//! Candidates, the strongest kind first; within a kind the last one counts:
//!
//! 1. `\boxed{B}`, `<answer>B</answer>`, a JSON field `"answer": "B"`;
//! 2. a cue: "the answer is (B)", "Answer: B", "correct option: B", "答案是B", "la respuesta es B", …;
//! 3. a statement: "B is correct", "I choose B", "option B is the best";
//! 4. a response that begins with or is nothing but a letter ("B", "(B)", "B. Mitral valve", "**B**"), or whose last line is;
//! 5. a response whose answer (or whole short text) is the text of exactly one option.
//!
//! A denial ("not B", "B is incorrect", "rule out B") is no candidate; a hedge, or different letters in one answer, is
//! ambiguous; without any of these there is no answer: nothing is ever guessed.
//!
//! Reference: `{"answer": "B", "options": ["…", …], "letters": "ABCD"}`; the answer may also be the text of an option,
//! and options and letters may be absent (then A to J count). Without an answer the outcome is unverifiable but carries the
//! extracted letter.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::ConfigError;
use crate::extract::{self, Missing, MultiAnswer, Rule, Think};
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict};
use crate::task::{Response, Task};
use crate::text::{self, fixed};

/// Settings of the `choice` reward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChoiceConfig {
    /// Several different explicit answers. Default `last`.
    pub multi_answer: MultiAnswer,
    /// Think tags. Default `strip`.
    pub think: Think,
}

/// The `choice` reward.
pub struct Choice {
    config: ChoiceConfig,
}

/// The options of a question.
struct Options {
    letters: Vec<char>,
    /// Normalised texts in the order of the letters; empty when the reference gives none.
    texts: Vec<String>,
}

impl Options {
    fn of(task: &Task) -> Self {
        let field = |name| task.reference.get(name);
        let texts: Vec<String> = match field("options") {
            Some(Value::Array(list)) => {
                list.iter().map(|o| text::normalise(o.as_str().unwrap_or(""))).collect()
            }
            Some(Value::Object(map)) => {
                map.values().map(|o| text::normalise(o.as_str().unwrap_or(""))).collect()
            }
            _ => Vec::new(),
        };
        let given: Option<Vec<char>> = match (field("letters"), field("options")) {
            (Some(Value::String(s)), _) => Some(s.chars().filter(|c| c.is_alphanumeric()).collect()),
            (Some(Value::Array(list)), _) => {
                Some(list.iter().filter_map(|v| v.as_str()?.trim().chars().next()).collect())
            }
            (_, Some(Value::Object(map))) => {
                Some(map.keys().filter_map(|k| k.trim().chars().next()).collect())
            }
            _ => None,
        };
        let count = if texts.is_empty() { 10 } else { texts.len().min(26) };
        let letters = given.filter(|l| !l.is_empty()).unwrap_or_else(|| ('A'..='Z').take(count).collect());
        let letters = letters.into_iter().map(|c| c.to_ascii_uppercase()).collect();
        Self { letters, texts }
    }

    fn letter(&self, c: char) -> Option<char> {
        let upper = fold(c).to_ascii_uppercase();
        self.letters.contains(&upper).then_some(upper)
    }

    /// The letter whose option has this text.
    fn by_text(&self, span: &str) -> Option<char> {
        let form = text::normalise(span);
        if form.is_empty() {
            return None;
        }
        let mut hits = (0..self.texts.len()).filter(|i| self.texts[*i] == form);
        let first = hits.next()?;
        if hits.next().is_some() { None } else { self.letters.get(first).copied() }
    }

    /// The letters whose option text occurs as whole words in `span`, longer options first, without those that occur only
    /// inside a longer one.
    fn within(&self, span: &str) -> BTreeSet<char> {
        let mut rest = format!(" {} ", text::normalise(span));
        let mut order: Vec<usize> = (0..self.texts.len()).filter(|i| self.texts[*i].len() >= 2).collect();
        order.sort_by_key(|i| std::cmp::Reverse(self.texts[*i].len()));
        let mut found = BTreeSet::new();
        for i in order {
            let needle = format!(" {} ", self.texts[i]);
            let trailing = format!(" {}, ", self.texts[i]);
            if rest.contains(&needle) || rest.contains(&trailing) {
                rest = rest.replace(&needle, " | ").replace(&trailing, " | ");
                if let Some(letter) = self.letters.get(i) {
                    found.insert(*letter);
                }
            }
        }
        found
    }

    /// `span` without the texts of the options, in which a hedge or a denial is part of the option.
    fn residue(&self, span: &str) -> String {
        let mut rest = text::normalise(span);
        let mut order: Vec<&String> = self.texts.iter().filter(|t| t.len() >= 2).collect();
        order.sort_by_key(|t| std::cmp::Reverse(t.len()));
        for option in order {
            rest = rest.replace(option.as_str(), " ");
        }
        rest
    }

    /// The letter of the reference answer.
    fn gold(&self, answer: &str) -> Option<char> {
        let trimmed = answer.trim().trim_matches(|c: char| "().[]*".contains(c));
        let mut chars = trimmed.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) if self.letter(c).is_some() => self.letter(c),
            _ => self.by_text(answer),
        }
    }
}

/// Full-width and circled letters to plain ones.
fn fold(c: char) -> char {
    let shifted = |base: u32, to: u8| char::from(to + (c as u32 - base) as u8);
    match c {
        'Ａ'..='Ｚ' => shifted('Ａ' as u32, b'A'),
        'ａ'..='ｚ' => shifted('ａ' as u32, b'a'),
        'Ⓐ'..='Ⓩ' => shifted('Ⓐ' as u32, b'A'),
        'А' => 'A',
        'В' => 'B',
        'С' => 'C',
        c => c,
    }
}

/// What a response chooses.
#[derive(Debug, PartialEq)]
enum Choosing<'a> {
    Letter(char, &'a str, &'static str),
    Several(String, &'a str, &'static str),
    None(&'static str),
}

/// The letters that an answer span names; none when it is no statement of letters.
///
/// A span is a statement of letters when it starts with one (possibly in brackets or bold), or is an option's text.
fn letters_of(span: &str, options: &Options) -> Option<BTreeSet<char>> {
    static LEAD: LazyLock<Regex> = LazyLock::new(|| {
        fixed(concat!(
            r"^[\s*_$`>#-]*(?:\\(?:text|mathrm|textbf|mathbf|boxed)\s*\{)?(?:(?:the |la |die |l')?(?i:option|choice|letter|answer|opción|opcion|réponse|antwort|选项|選項)s?\s*)?",
            r#"[\s*_$`"'“(\[{（【]*(\p{L}|\d)[)\]}）】"'”*_$`]*(?:\s*[.:,;)\-–—、，。：]|\s*$|\s+(?:\S.*)?$)"#
        ))
    });
    static MORE: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r#"(?i)(?:^|[\s,;/&+(\[*"'，、]|and|or|和|或)(?:option |choice )?[(\[*"']*([A-Z])[)\]*"'.]*(?:$|[\s,;:/&+)\].，、。])"#,
        )
    });
    let span = text::head(span.trim(), 1024);
    let mut chars = span.chars();
    if let (Some(only), None) = (chars.next(), chars.next())
        && only.is_uppercase()
        && let Some(letter) = options.letter(only)
    {
        return Some(BTreeSet::from([letter]));
    }
    if let Some(letter) = options.by_text(span) {
        return Some(BTreeSet::from([letter]));
    }
    let lead = LEAD.captures(text::head(span, 1024))?;
    let mark = lead.get(1)?;
    let shown = mark.as_str().chars().next()?;
    let first = options.letter(shown)?;
    let rest = &span[mark.end()..];
    let bare = rest.trim_start_matches(|c: char| ")]}）】\"'”*_$`".contains(c));
    let bracketed = rest.len() != bare.len()
        || mark.start() > 0 && span[..mark.start()].contains(['(', '[', '*', '{', '（']);
    let after = bare.trim_start();
    let punctuated =
        after.starts_with(['.', ':', ',', ';', ')', '-', '–', '—', '、', '，', '。', '：', '/', '&', '+']);
    // A lower-case letter or the words "a" and "I" before other words are no choice.
    if !bracketed && !punctuated && !after.is_empty() {
        static PLAIN: LazyLock<Regex> = LazyLock::new(|| {
            fixed(
                r"(?i)^(?:is|was|because|since|as|and|or|for|which|that|based|due|given|\(|with|, |und|oder|y|o|et|ou)\b|^\(",
            )
        });
        if shown.is_ascii_lowercase() || (matches!(shown, 'A' | 'I') && !PLAIN.is_match(after)) {
            return None;
        }
        if !PLAIN.is_match(after)
            && options.within(after) != BTreeSet::from([first])
            && matches!(shown, 'A' | 'I')
        {
            return None;
        }
    }
    let mut found = BTreeSet::from([first]);
    // What else is named: only directly listed letters count, "B or C", "B, C", "B and D".
    static LISTED: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r#"^[\s)\]*"'.,]*(?:,|/|&|\+|;|、|，|(?i:\band\b|\bor\b|\bund\b|\boder\b|\by\b|\bo\b|\bet\b|\bou\b|和|或|either))+[\s(\[*"']*(?i:or |and )?(?i:option |choice )?[(\[*"']*([A-Z])(?:[)\]*"'.,;:/&+、，。]|\s|$)"#,
        )
    });
    let mut rest = rest;
    while let Some(next) = LISTED.captures(rest) {
        let Some(m) = next.get(1) else { break };
        let shown = m.as_str().chars().next().unwrap_or(' ');
        let article = matches!(shown, 'A' | 'I' | 'a' | 'i')
            && rest[m.end()..].starts_with(' ')
            && rest[m.end()..].trim().len() > 1;
        match options.letter(shown) {
            Some(letter) if !article && !shown.is_ascii_lowercase() => {
                found.insert(letter);
            }
            _ => break,
        }
        rest = &rest[m.end()..];
    }
    // The text of another option after the letter contradicts it.
    if found.len() == 1 && !options.texts.is_empty() {
        let named = options.within(after.trim_start_matches(|c: char| !c.is_alphanumeric()));
        let or_other = MORE.is_match(after) && text::is_hedged(&options.residue(after));
        if or_other || named.len() == 1 && !named.contains(&first) && options.by_text(clean(after)).is_some()
        {
            found.extend(named);
        }
    }
    Some(found)
}

fn clean(after: &str) -> &str {
    after.trim_matches(|c: char| !c.is_alphanumeric())
}

static STATEMENT: LazyLock<Regex> = LazyLock::new(|| {
    fixed(concat!(
        r#"(?:^|[\s(\[*"'])(?:(?i:option|choice|answer|statement)\s+)?[(\[*"']*([A-Z])[)\]*"'.:]*(?:\s+\([^)\n]{1,80}\))?\s+(?i:(?:is|would be|must be|seems to be|appears to be)\s+(?:therefore |thus |clearly |definitely |also |indeed )?(?:the )?(?:most |single |only )?(?:correct|right|best|true|likely|appropriate|accurate|answer|answer choice))\b"#,
        r#"|\b(?i:i (?:would |will |'ll )?(?:choose|pick|select|go with|answer|opt for)|i am going with|i'm going with|my (?:choice|pick|selection|answer) (?:is|would be)|we (?:choose|pick|select)|(?:correct|right|best|most likely|most appropriate) (?:option|choice|one|answer)(?: here)?(?: is| would be| must be|:)|(?:option|choice|opción|antwort|choose|select)(?: is|:)?)\s*[:：]?\s*(?i:option |choice |letter )?[(\[*"'“]*([A-Z])(?:[)\]*"'”.,;:。，]|\s|$)"#,
        r#"|(?:选择|選擇|选项|選項|選|选)\s*(?:是|为|[:：])?\s*[(\[（]*([A-Z])(?:[^A-Za-z]|$)"#
    ))
});

/// Statements that are tried, from the last one.
const MAX_STATEMENTS: usize = 32;

/// What is said before or after a letter that makes it no choice.
fn is_rejected(body: &str, start: usize, end: usize, options: &Options) -> bool {
    static BEFORE: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)(?:\bnot|n't|\bnever|\bneither|\bnor|rule[sd]? out|ruling out|eliminat\w+|exclud\w+|\bif|\bwhether|\bwhy|\bunless|reject\w*|discard\w*|instead of|rather than|不是|不选|排除)\s+(?:\w+\s+){0,2}[(\[*]*$",
        )
    });
    static AFTER: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)^[)\]*.:]*\s*(?:\([^)\n]{1,80}\)\s*)?(?:is|was|seems|would be|are|can be|could be|must be)?\s*(?:clearly |also |definitely )?(?:not\b|n't|incorrect|wrong|false|ruled out|eliminated|excluded|unlikely|less likely|不对|错误|不正确)",
        )
    });
    if BEFORE.is_match(text::tail(&body[..start], 64)) {
        return true;
    }
    let after = text::head(&body[end..], 256);
    AFTER.is_match(after) && {
        // "B. Not affected by hypoxia" is an option's own text.
        let form = text::normalise(after.trim_start_matches(|c: char| !c.is_alphanumeric()));
        !options.texts.iter().any(|t| t.len() >= 2 && form.starts_with(t.as_str()))
    }
}

/// Questions, requests and refusals in which a letter means nothing.
fn is_open(span: &str) -> bool {
    static OPEN: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r"(?i)\b(?:cannot|can't|could not|unable|not possible|none of the|unclear|unknown|not (?:enough|sure|certain|listed|provided|given)|insufficient|no correct|depends|not applicable|n/a)\b",
        )
    });
    OPEN.is_match(span)
}

impl Choice {
    /// Checks the settings.
    ///
    /// # Errors
    /// None today; kept for settings that can contradict each other.
    pub fn new(config: ChoiceConfig) -> Result<Self, ConfigError> {
        Ok(Self { config })
    }

    fn choose<'a>(&self, response: &'a str, options: &Options) -> Choosing<'a> {
        let body = match extract::strip_think(response, self.config.think == Think::RequireClosed) {
            Ok(body) => text::tail(body, extract::INPUT_BYTES),
            Err(missing) => return Choosing::None(missing.reason()),
        };
        if let Some(found) = self.marked(body, options) {
            return found;
        }
        if let Some(found) = stated(body, options) {
            return found;
        }
        if let Some(found) = leading(body, options) {
            return found;
        }
        if let Some(found) = option_text(body, options) {
            return found;
        }
        Choosing::None(Missing::NotFound.reason())
    }

    /// Boxes, tags, JSON and cue phrases.
    fn marked<'a>(&self, body: &'a str, options: &Options) -> Option<Choosing<'a>> {
        let candidates = extract::candidates(body);
        let strong = |r: Rule| matches!(r, Rule::Boxed | Rule::AnswerTag | Rule::Json | Rule::Hashes);
        let mut last: Option<(BTreeSet<char>, &'a str, &'static str, usize)> = None;
        let mut seen: BTreeSet<char> = BTreeSet::new();
        let mut refused = false;
        for candidate in &candidates {
            let span = text::head(candidate.text, 1024);
            if text::is_negated(span)
                || is_rejected(body, candidate.start, candidate.end, options) && strong(candidate.rule)
            {
                refused = true;
                continue;
            }
            let letters = match letters_of(span, options) {
                Some(letters) => letters,
                None if is_open(&options.residue(span)) => {
                    refused = true;
                    last = None;
                    continue;
                }
                None => {
                    let named = options.within(span);
                    if named.len() == 1 && !denied_text(span) { named } else { continue }
                }
            };
            if !strong(candidate.rule) {
                let at = span.as_ptr() as usize - body.as_ptr() as usize;
                let shown = span.find(|c: char| options.letter(c).is_some()).unwrap_or(0);
                let width = span[shown..].chars().next().map_or(0, char::len_utf8);
                if is_rejected(body, at + shown, at + shown + width, options) {
                    refused = true;
                    continue;
                }
            }
            let residue = options.residue(span);
            let hedged =
                text::is_hedged(&residue) && !residue.trim_end().ends_with('?') || is_vague(&residue);
            seen.extend(&letters);
            refused = false;
            // Adjacent spans of one kind with different letters are one answer with several letters.
            let joined = last.as_ref().filter(|(_, _, rule, end)| {
                *rule == candidate.rule.name()
                    && strong(candidate.rule)
                    && *end <= candidate.start
                    && adjoining(&body[*end..candidate.start])
            });
            let mut all = letters;
            if let Some((before, ..)) = joined {
                all.extend(before);
            }
            if hedged {
                all.extend(
                    options.letters.iter().copied().filter(|l| !all.contains(l)).take(1).collect::<Vec<_>>(),
                );
            }
            last = Some((all, span, candidate.rule.name(), candidate.end));
        }
        if refused && last.is_none() {
            return Some(Choosing::None(Missing::Negated.reason()));
        }
        let (letters, span, rule, _) = last?;
        let letters =
            if self.config.multi_answer == MultiAnswer::RejectIfConflicting { seen } else { letters };
        Some(verdict(letters, span, rule))
    }
}

fn adjoining(gap: &str) -> bool {
    static GAP: LazyLock<Regex> =
        LazyLock::new(|| fixed(r"(?i)^[\s$,;&/()*]*(?:and|or|y|o|et|ou|und|oder|和|或)?[\s$,;&/()*]*$"));
    gap.len() <= 32 && GAP.is_match(gap)
}

fn denied_text(span: &str) -> bool {
    static DENIED: LazyLock<Regex> =
        LazyLock::new(|| fixed(r"(?i)\b(?:not|isn't|never|neither|except|unlikely|excludes?)\b"));
    DENIED.is_match(span)
}

fn is_vague(span: &str) -> bool {
    static VAGUE: LazyLock<Regex> =
        LazyLock::new(|| fixed(r"(?i)\b(?:either|any (?:of|one)|all of (?:them|the above options)|both)\b"));
    VAGUE.is_match(span)
}

fn verdict<'a>(letters: BTreeSet<char>, span: &'a str, rule: &'static str) -> Choosing<'a> {
    match letters.iter().next() {
        Some(letter) if letters.len() == 1 => Choosing::Letter(*letter, span, rule),
        _ => Choosing::Several(letters.into_iter().collect(), span, rule),
    }
}

/// "B is correct", "I choose B".
fn stated<'a>(body: &'a str, options: &Options) -> Option<Choosing<'a>> {
    let mut marks = Vec::new();
    let mut from = 0;
    while let Some(m) = STATEMENT.captures_at(body, from) {
        let (Some(whole), Some(mark)) = (m.get(0), m.get(1).or_else(|| m.get(2)).or_else(|| m.get(3))) else {
            break;
        };
        from = mark.end().max(whole.start() + 1);
        while !body.is_char_boundary(from) {
            from += 1;
        }
        marks.push((mark, m.get(2).is_some()));
    }
    // The last statement counts; only so many before it are tried.
    for (mark, chosen) in marks.into_iter().rev().take(MAX_STATEMENTS) {
        let shown = mark.as_str().chars().next().unwrap_or(' ');
        let article = matches!(shown, 'A' | 'I')
            && body[mark.end()..].starts_with(' ')
            && chosen
            && body[mark.end()..].trim_start().starts_with(|c: char| c.is_lowercase());
        let Some(letter) = options.letter(shown).filter(|_| !article) else { continue };
        let sentence = text::tail(&body[..mark.start()], 96);
        let sentence = sentence.rsplit(['.', '\n', ';']).next().unwrap_or("");
        if is_rejected(body, mark.start(), mark.end(), options) || text::is_hedged(sentence) {
            continue;
        }
        let line = text::head(&body[mark.start()..], 256).lines().next().unwrap_or("");
        let mut letters = letters_of(line, options).unwrap_or_default();
        letters.insert(letter);
        return Some(verdict(letters, mark.as_str(), "statement"));
    }
    None
}

/// A letter at the start of the response, or as the last line.
fn leading<'a>(body: &'a str, options: &Options) -> Option<Choosing<'a>> {
    let trimmed = body.trim();
    let lines: Vec<&str> = trimmed.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let first = *lines.first()?;
    let last = *lines.last()?;
    // A list of all options repeats the question and chooses nothing.
    let starts = |l: &&&str| opens_with_letter(l, options).is_some();
    let listing = lines.iter().filter(starts).count();
    for line in [last, first] {
        let alone = line.chars().filter(|c| c.is_alphanumeric()).count() <= 1;
        if listing > 1 && !alone {
            continue;
        }
        let Some(shown) = opens_with_letter(line, options) else { continue };
        let residue = options.residue(line);
        if is_open(&residue) || text::is_hedged(&residue) && !alone {
            return Some(Choosing::None("a hedge or a refusal"));
        }
        let Some(letters) = letters_of(line, options) else { continue };
        let at = line.as_ptr() as usize - body.as_ptr() as usize;
        let mark = line.find(shown).unwrap_or(0);
        if is_rejected(body, at + mark, at + mark + shown.len_utf8(), options) {
            continue;
        }
        return Some(verdict(letters, line, "letter"));
    }
    None
}

/// The letter that a line opens with, when it is set off as one: `B`, `(B)`, `B.`, `**B**`.
fn opens_with_letter(line: &str, options: &Options) -> Option<char> {
    static OPENS: LazyLock<Regex> = LazyLock::new(|| {
        fixed(
            r#"^[\s*_$`>#("'\[{（-]*(?:\\(?:text|mathrm|textbf|mathbf)\{)?(?:(?i:option|choice)\s+)?[(\[*]*(\p{L}|\d)(?:[)\]}）.:*$"'，。、：]|\s*[-–—]\s|\s*$|\s*(?:,|/|and\b|or\b|because\b|is\b|和|或))"#,
        )
    });
    let shown = OPENS.captures(line)?.get(1)?.as_str().chars().next()?;
    let alone = line.trim().len() <= 4
        || line.to_ascii_lowercase().trim_end_matches('.').ends_with(&format!("option {shown}"));
    options.letter(shown).filter(|_| !shown.is_ascii_lowercase() || alone).map(|_| shown)
}

/// A short response, or its last line, that names exactly one option by its text.
fn option_text<'a>(body: &'a str, options: &Options) -> Option<Choosing<'a>> {
    let trimmed = body.trim();
    if let Some(letter) = options.by_text(trimmed) {
        return Some(Choosing::Letter(letter, trimmed, "option_text"));
    }
    let last = trimmed.lines().map(str::trim).rfind(|l| !l.is_empty())?;
    if let Some(letter) = options.by_text(last) {
        return Some(Choosing::Letter(letter, last, "option_text"));
    }
    let residue = options.residue(last);
    if last.len() > 240 || text::is_hedged(&residue) || denied_text(&residue) || is_open(&residue) {
        return None;
    }
    let named = options.within(last);
    let everywhere = options.within(trimmed);
    match named.first() {
        Some(letter) if named.len() == 1 && everywhere.len() == 1 => {
            Some(Choosing::Letter(*letter, last, "option_text"))
        }
        _ => None,
    }
}

impl Reward for Choice {
    fn name(&self) -> &str {
        "choice"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        let options = Options::of(task);
        let work = response.text.len() as u64;
        let answers = if task.reference.is_object() { task.answers() } else { Vec::new() };
        let gold = answers.first().and_then(|a| options.gold(a));
        let chosen = self.choose(response.text, &options);
        let (verdict, method, reason, extracted) = match (&chosen, gold, answers.is_empty()) {
            (Choosing::Several(letters, _, rule), Some(_), _) => (
                Verdict::Ambiguous,
                (*rule).to_string(),
                format!("several or hedged letters: {letters}"),
                None,
            ),
            (Choosing::Letter(letter, _, rule), Some(gold), _) => {
                let verdict = if *letter == gold { Verdict::Correct } else { Verdict::Incorrect };
                (verdict, (*rule).to_string(), format!("chose {letter}, reference {gold}"), Some(*letter))
            }
            (_, None, empty) => {
                let reason =
                    if empty { "the reference has no answer" } else { "the reference names no option" };
                let (rule, letter) = match &chosen {
                    Choosing::Letter(letter, _, rule) => (*rule, Some(*letter)),
                    _ => ("choice", None),
                };
                (Verdict::Unverifiable, rule.to_string(), reason.to_string(), letter)
            }
            (Choosing::None(reason), Some(_), _) => {
                (Verdict::NoAnswer, "choice".to_string(), (*reason).to_string(), None)
            }
        };
        let mut outcome = Outcome::of(verdict, method, reason).with_work(work);
        outcome.extracted = extracted.map(String::from);
        outcome.prediction = outcome.extracted.clone();
        outcome.gold = gold.map(String::from);
        Ok(outcome)
    }

    fn gold(&self, task: &Task) -> Option<String> {
        let answers = task.answers();
        let letter = Options::of(task).gold(answers.first()?)?;
        Some(format!("<think>\n…\n</think>\n<answer>{letter}</answer>"))
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        let answers = task.answers();
        let Some(answer) = answers.first() else {
            return Err(TaskError::MissingField { reward: "choice".into(), field: "answer" });
        };
        match Options::of(task).gold(answer) {
            Some(_) => Ok(()),
            None => Err(TaskError::BadGold {
                reward: "choice".into(),
                gold: answer.clone(),
                reason: "it is neither a letter nor the text of exactly one option".into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::score_one;
    use serde_json::json;

    fn chosen(text: &str) -> Option<String> {
        let reference =
            json!({"options": ["Mitral stenosis", "Aortic stenosis", "Aortic regurgitation", "Vitamin B12"]});
        let reward = Choice::new(ChoiceConfig::default()).unwrap();
        let outcome = score_one(&reward, &Task::new("t", reference), Response::new(text));
        assert_eq!(outcome.verdict, Verdict::Unverifiable);
        outcome.extracted
    }

    fn check(text: &str, want: &str) {
        let got = chosen(text);
        assert_eq!(got.as_deref().unwrap_or(""), want, "{text:?}");
    }

    #[test]
    fn letters() {
        check("B", "B");
        check("(B)", "B");
        check("b", "B");
        check("B. Aortic stenosis", "B");
        check("**B**", "B");
        check("The answer is B.", "B");
        check("The answer is (B) Aortic stenosis.", "B");
        check("Answer: C", "C");
        check("**Answer:** C", "C");
        check("The correct answer is option C, because of the murmur.", "C");
        check("\\boxed{C}", "C");
        check("\\boxed{\\text{C}}", "C");
        check("<answer>C</answer>", "C");
        check("{\"answer\": \"C\"}", "C");
        check("答案是C。", "C");
        check("So B is correct.", "B");
        check("I would choose D here.", "D");
        check("A is incorrect because of the age. B is the correct answer.", "B");
        check("Aortic regurgitation", "C");
        check("The answer is aortic regurgitation.", "C");
        check("The answer is A. Wait, the answer is B.", "B");
        check("<think>A?</think>B", "B");
    }

    #[test]
    fn no_letter() {
        check("", "");
        check("I am not sure.", "");
        check("A patient with chest pain needs an ECG.", "");
        check("The answer is not B.", "");
        check("It is either A or B.", "");
        check("The answer is A or B.", "");
        check("<answer>A, B</answer>", "");
        check("\\boxed{A} or \\boxed{B}", "");
        check("<think>The answer is B", "");
        check("The answer cannot be determined.", "");
        check("A. Mitral stenosis\nB. Aortic stenosis\nC. Aortic regurgitation\nD. Vitamin B12", "");
        check("I think vitamins matter. A lot of people need them.", "");
        check("B is incorrect.", "");
        check("The answer is E.", "");
        check("The answer is a matter of debate.", "");
    }

    #[test]
    fn verdicts() {
        let reward = Choice::new(ChoiceConfig::default()).unwrap();
        let check = |reference: Value, text: &str, want: Verdict| {
            let outcome = score_one(&reward, &Task::new("t", reference), Response::new(text));
            assert_eq!(outcome.verdict, want, "{text:?} {}", outcome.reason);
        };
        check(json!({"answer": "B"}), "B", Verdict::Correct);
        check(json!({"answer": "B"}), "C", Verdict::Incorrect);
        check(json!({"answer": "B"}), "A or B", Verdict::Ambiguous);
        check(json!({"answer": "B"}), "", Verdict::NoAnswer);
        check(json!({"answer": "yes", "options": ["yes", "no"]}), "A", Verdict::Correct);
        check(
            json!({"answer": "J", "options": ["x", "y"], "letters": "JK"}),
            "Answer: K",
            Verdict::Incorrect,
        );
        check(json!({"answer": "Q"}), "A", Verdict::Unverifiable);
        assert!(reward.check_task(&Task::new("t", json!({"answer": "Q"}))).is_err());
        assert!(reward.check_task(&Task::new("t", json!({}))).is_err());
    }
}
