//! `yes_no` and `yes_no_maybe`: a yes/no question, answered in one of several languages.
//!
//! Looked at in this order: the last explicit answer (box, tag, cue such as "the answer is"), the beginning of the
//! response ("Yes, because …"), its last line. A span counts where it begins with one of the words or holds exactly one
//! of them, as a whole word: "no" is not found in "know" or "not", and "there is no evidence" at the beginning of nothing.
//!
//! | response | `yes_no` | `yes_no_maybe` |
//! |---|---|---|
//! | `Yes, it does.` · `The answer is **yes**.` · `是的。` | yes | yes |
//! | `No.` · `Nein, …` · `不是` | no | no |
//! | `Maybe` · `The answer is uncertain.` | ambiguous | maybe |
//! | `Yes and no` · `yes or no` | ambiguous | ambiguous |
//! | `not yes` · `It depends.` · `I know.` | no answer | no answer |
//!
//! The words of all languages of `docs/languages.md` are known, as whole words: 是否 and 对不起 are no "yes". Reference: `{"answer": "yes"}`; a boolean counts as yes or no.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::answer::extract::{self, Candidate, Extract, ExtractPolicy, MultiAnswer, Rule, Think};
use crate::answer::text::{self, fixed};
use crate::answer::words::{self, Phrases};
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict};
use crate::task::{Response, Task};

/// Settings of the `yes_no` and `yes_no_maybe` rewards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct YesNoConfig {
    /// Whether "maybe" is an answer of its own (always so in `yes_no_maybe`). Default false.
    pub maybe: bool,
    /// Several different explicit answers. Default `last`.
    pub multi_answer: MultiAnswer,
    /// Think tags. Default `strip`.
    pub think: Think,
    /// What counts when no answer is given plainly: nothing (`strict`, the default) or the word that the last sentence
    /// with one ends a clause with (`lenient`).
    pub extract: Extract,
}

/// The `yes_no` reward.
pub struct YesNo {
    config: YesNoConfig,
    name: &'static str,
}

/// An answer to a yes/no question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    Maybe,
}

impl Answer {
    fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Maybe => "maybe",
        }
    }
}

/// What a span says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    One(Answer),
    Several,
    Denied,
    Nothing,
}

/// Every answer word of `span` with its place, the longest at a place. In scripts without spaces a word counts where no
/// other character of the script stands beside it: 是 is not found in 是否, nor 네 in 네 번째.
fn found(lower: &str) -> Vec<(usize, usize, Answer)> {
    static ENDING: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["ending"]));
    let mut all: Vec<(usize, usize, Answer)> = Vec::new();
    let solid = |c: Option<char>| {
        c.is_some_and(|c| {
            c.is_alphanumeric() || matches!(c, '\'' | '’' | '-') || matches!(c as u32, 0x093A..=0x094F)
        })
    };
    for (key, answer) in [("yes", Answer::Yes), ("no", Answer::No), ("maybe", Answer::Maybe)] {
        for word in words::entries(key).map(|e| e.phrase) {
            for (at, _) in lower.match_indices(word).take(64) {
                let end = at + word.len();
                let inside = if word.chars().all(words::is_dense) {
                    let rest = &lower[end + ENDING.opening(&lower[end..]).unwrap_or(0)..];
                    lower[..at].chars().next_back().is_some_and(words::is_dense)
                        || rest.trim_start_matches(' ').starts_with(words::is_dense) && !is_spaced(rest)
                } else {
                    solid(lower[..at].chars().next_back()) || solid(lower[end..].chars().next())
                };
                if !inside && !is_count(word, &lower[end..]) {
                    all.push((at, end, answer));
                }
            }
        }
    }
    all.sort_by_key(|(at, end, _)| (*at, std::cmp::Reverse(*end)));
    all.dedup_by(|next, kept| next.0 < kept.1);
    all
}

/// Whether a word with a full stop and a number behind it is short for "number": "No. 4".
fn is_count(word: &str, rest: &str) -> bool {
    rest.strip_prefix(". ").is_some_and(|next| next.starts_with(|c: char| c.is_ascii_digit()))
        && words::entries("abbreviation").any(|e| e.phrase == word)
}

/// Whether a text begins with a space between clauses of Thai; in Korean a space stands between words.
fn is_spaced(text: &str) -> bool {
    text.starts_with(' ') && text.trim_start().starts_with(|c| matches!(c, '\u{0e00}'..='\u{0e7f}'))
}

/// Without a label in front, "(C) maybe", and words that only conclude, "所以".
fn bare(span: &str) -> &str {
    static LABEL: LazyLock<Regex> = LazyLock::new(|| fixed(r"^\s*(?:\([A-Ja-j]\)|[A-Ja-j][.):])\s*(?:\S)"));
    static SO: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["so"]));
    let mut span = span.trim();
    if let Some(m) = LABEL.find(span) {
        let last = m.as_str().chars().next_back().map_or(0, char::len_utf8);
        span = &span[m.end() - last..];
    }
    // "Yes/No: no": what was asked for, before the answer.
    static ASKED: LazyLock<Regex> = LazyLock::new(|| {
        words::pattern(
            r"(?i)^[*_]*(?:{yes})\s*(?:/|{or})\s*(?:{no})(?:\s*(?:/|{or})\s*(?:{maybe}))?[*_]*\s*[:：]",
        )
    });
    if let Some(m) = ASKED.find(span) {
        span = span[m.end()..].trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '*' | '_'));
    }
    // "No doubt about it: yes."
    static ASSURED: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["assured"]));
    if let Some(end) = ASSURED.opening(span)
        && let Some(rest) = span[end..].trim_start().strip_prefix([',', ':', '，', '：'])
    {
        span = rest.trim_start();
    }
    // "Of course not" is an answer as a whole.
    let whole = || found(&text::head(span, 64).to_lowercase()).first().is_some_and(|(at, ..)| *at == 0);
    if let Some(end) = SO.opening(span).filter(|_| !whole()) {
        span = span[end..].trim_start_matches([' ', ',', '，', ':', '：']);
    }
    span
}

/// Whether only words that change nothing stand before an answer: "I would say".
fn is_open(lead: &str) -> bool {
    static OPEN: LazyLock<Phrases> =
        LazyLock::new(|| Phrases::of(&["indeed", "guess", "so", "say", "answer"]));
    let mut lead = lead;
    for _ in 0..4 {
        lead = lead.trim_matches(|c: char| !c.is_alphanumeric());
        if matches!(lead, "" | "a" | "text" | "boxed") {
            return true;
        }
        let Some(end) = OPEN.opening(lead) else { return false };
        lead = &lead[end..];
    }
    false
}

/// Whether an answer between `before` and `rest` is a clause of its own that concludes: "Based on the image, yes". One of
/// several fields, "verdict: correct, score: 1.0", is none.
fn concludes(before: &str, rest: &str) -> bool {
    static OPEN: LazyLock<Phrases> = LazyLock::new(|| {
        Phrases::of(&["condition", "when", "if", "hedge", "supposed", "otherwise", "or", "crowd", "nobody"])
    });
    static NOT: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["not", "deny", "doubt"]));
    let before =
        before.trim_end_matches(|c: char| c.is_whitespace() || matches!(c, '*' | '"' | '“' | '「' | '_'));
    let Some((at, mark)) = before.char_indices().rev().find(|(_, c)| ",;:，；：".contains(*c)) else {
        return false;
    };
    let colon = [':', '：'];
    let field = rest.split(['.', '。', '\n']).next().is_some_and(|clause| clause.contains(colon));
    if colon.contains(&mark) && field {
        return false;
    }
    let (ground, own) = (&before[..at], &before[at + mark.len_utf8()..]);
    static SO: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["so"]));
    // A denial may be the ground of an answer, and may be what the answer confirms.
    let said = !NOT.hold(ground) || SO.hold(own);
    is_open(own)
        && ground.contains(char::is_alphanumeric)
        && !ground.contains(['?', '？'])
        && !OPEN.hold(ground)
        && said
}

/// `line` without the question that it begins with, where something follows: "Is it true? Yes."
fn answered(line: &str) -> &str {
    let mut line = line;
    for _ in 0..4 {
        let Some((at, mark)) = line.char_indices().find(|(_, c)| ".。!！?？".contains(*c)) else { break };
        let rest = &line[at + mark.len_utf8()..];
        if !matches!(mark, '?' | '？') || !rest.contains(char::is_alphanumeric) {
            break;
        }
        // Several questions have an answer each.
        if rest.contains(['?', '？']) && rest.contains(['.', '。', '!', '！']) {
            return "";
        }
        line = rest;
    }
    line
}

/// Whether the words before an answer deny it.
fn is_denied(lead: &str) -> bool {
    static NOT: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["not", "deny", "doubt"]));
    NOT.places(lead).any(|(_, end)| lead[end..].split_whitespace().count() <= 4)
}

/// The last answer of a span that takes the place of one before it: "Yes... Actually, no.", "not maybe but no", "not
/// maybe, it is no".
fn turned(lower: &str, all: &[(usize, usize, Answer)]) -> Option<(usize, usize, Answer)> {
    static CORRECTION: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["correction", "instead"]));
    static BUT: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["but"]));
    static POINTS: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["points"]));
    let mut answer = all.first()?.2;
    let mut last = None;
    for pair in all.windows(2) {
        let ((start, from, _), (next, to, other)) = (pair[0], pair[1]);
        let gap = &lower[from..next];
        let corrects = |by: &Phrases| by.places(gap).last().is_some_and(|(_, end)| is_open(&gap[end..]));
        let instead = || gap.starts_with([',', ';', '，']) && corrects(&POINTS);
        let turns = || is_denied(&lower[..start]) && (corrects(&BUT) || instead());
        if other != answer && (corrects(&CORRECTION) || turns()) {
            answer = other;
            last = Some((next, to, other));
        }
    }
    last
}

fn read(span: &str, head_only: bool) -> Reading {
    static JOIN: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["and", "or", "but", "indeed", "maybe"]));
    static FOLLOWS: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["because", "follows"]));
    let lower = text::head(bare(span), 400).to_lowercase();
    let all = found(&lower);
    let Some((mut at, mut end, mut answer)) = all.first().copied() else { return Reading::Nothing };
    let turned = turned(&lower, &all);
    if let Some(last) = turned {
        (at, end, answer) = last;
    }
    let turned = turned.is_some();
    let lead = if turned { "" } else { lower[..at].trim_matches(|c: char| !c.is_alphanumeric()) };
    // "The heart is enlarged, so yes."
    let lone = all.iter().all(|(.., other)| *other == answer);
    let mut concluded = !turned && lone && concludes(&lower[..at], &lower[end..]);
    // "It is inconclusive: maybe", "The claim is false, so no."
    if !turned
        && !concluded
        && lone
        && let Some((start, to, _)) =
            all.last().filter(|(start, to, _)| concludes(&lower[..*start], &lower[*to..]))
    {
        (at, end, concluded) = (*start, *to, true);
    }
    let lead = if concluded { "" } else { lead };
    // "不是" begins like a denial and is the answer "no".
    let plain_no = turned || concluded || answer == Answer::No && lead.is_empty();
    if is_denied(lead) || !plain_no && text::is_negated(&lower) {
        return Reading::Denied;
    }
    let rest = &lower[end..];
    let link = rest.trim_start().trim_start_matches(['/', ',', '*']).trim_start();
    let joins = |gap: &str| {
        gap.split_whitespace().all(|w| {
            let w = w.trim_matches(|c: char| !c.is_alphanumeric());
            w.is_empty() || JOIN.opening(w) == Some(w.len())
        })
    };
    // "Yes. No further imaging is needed" begins another sentence with a word that is no answer.
    let sentence = |next: usize, to: usize| {
        lower[end..next].contains(['.', '。', '\n'])
            && lower[to..].strip_prefix(' ').is_some_and(|r| r.starts_with(char::is_alphabetic))
            && !all.iter().any(|(at, ..)| *at == to + 1)
    };
    let differs = |next: usize, to: usize, other: Answer| {
        next >= end && other != answer && joins(&lower[end..next]) && !sentence(next, to)
    };
    // "Yes, in the subgroup; overall, no." says both.
    let closes = |to: usize| {
        let rest = lower[to..].trim_start_matches(['*', '"', '”']);
        rest.is_empty() || rest.starts_with(['.', '!', '。', '\n'])
    };
    let ends_as = |next: usize, to: usize, other: Answer| {
        next >= end && other != answer && closes(to) && concludes(&lower[end..next], "")
    };
    if all.iter().any(|(next, to, other)| differs(*next, *to, *other) || ends_as(*next, *to, *other)) {
        return Reading::Several;
    }
    let stop = rest.is_empty()
        || !rest.starts_with(char::is_alphanumeric)
            && (!rest.starts_with(' ') || link.is_empty() || link.starts_with(['(', '（', '—', '–', '-']));
    let because = FOLLOWS.opening(link).is_some();
    let dense = lower[at..end].chars().all(words::is_dense);
    if is_open(lead) && (stop || because && answer != Answer::No || dense) {
        return if rest.trim_start().starts_with(['?', '？']) {
            Reading::Several
        } else {
            Reading::One(answer)
        };
    }
    if head_only {
        return Reading::Nothing;
    }
    closed(&lower, &all)
}

/// What a longer span says: "no evidence" is no "no", only a word that ends a clause counts.
fn closed(lower: &str, all: &[(usize, usize, Answer)]) -> Reading {
    let ends = |end: usize| {
        let rest = lower[end..].trim_start_matches(['*', '"', '\'', '`', '}', ')']);
        !rest.starts_with(|c: char| c == ' ' || c.is_alphanumeric())
    };
    let closed: Vec<Answer> = all.iter().filter(|(_, end, _)| ends(*end)).map(|(.., a)| *a).collect();
    match closed.first() {
        Some(one) if closed.iter().all(|a| a == one) => Reading::One(*one),
        Some(_) => Reading::Several,
        None => Reading::Nothing,
    }
}

/// Whether a cue is the answer itself, as in "No, it is not true.": it corrects nothing where no answer stands before it.
fn is_answer(body: &str, cue: &Candidate<'_>) -> bool {
    static INSTEAD: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["instead"]));
    let start = cue.text.as_ptr() as usize - body.as_ptr() as usize;
    let says = |text: &str| !found(&text.to_lowercase()).is_empty();
    let lead = body.get(cue.start..start).unwrap_or("");
    let answers = INSTEAD.opening(lead).is_some_and(|end| says(&lead[..end]));
    answers && !says(text::tail(&body[..cue.start], 1024))
}

/// What the last sentence with a yes or a no says, unless it is a question or a guess.
fn lenient(body: &str) -> (Reading, &'static str) {
    static DENIAL: LazyLock<Phrases> =
        LazyLock::new(|| Phrases::of(&["not", "doubt", "nobody", "condition"]));
    let denies =
        |sentence: &str| DENIAL.hold(sentence) || sentence.contains("n't") || sentence.contains("n’t");
    let said = extract::last_sentences(body).find_map(|sentence| match read(sentence, false) {
        Reading::Nothing => None,
        _ if text::is_hedged(sentence) || denies(sentence) => Some(Reading::Nothing),
        reading => Some(reading),
    });
    (said.unwrap_or(Reading::Nothing), "lenient")
}

/// What the text behind an answer says in its place: "The answer is no. Actually, yes."
fn corrected(rest: &str) -> Option<Reading> {
    static CORRECTION: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["correction", "instead"]));
    let sentences = text::tail(rest, 1024).split(['.', '!', '\n', '。', '！']).map(str::trim);
    let says = |sentence: &str| {
        let at = CORRECTION.opening(sentence)?;
        let said = read(sentence[at..].trim_start_matches([',', ' ', ':', '，']), true);
        matches!(said, Reading::One(_)).then_some(said)
    };
    // "Actually, no further tests are needed" takes nothing back.
    let goes_on = |sentence: &str| {
        let after = CORRECTION.opening(sentence).map(|at| sentence[at..].trim_start_matches([',', ' ', ':']));
        after.is_some_and(|after| found(&after.to_lowercase()).first().is_some_and(|(at, ..)| *at == 0))
    };
    let retracted = || extract::is_retracted(rest) && !sentences.clone().any(goes_on);
    let said = sentences.clone().filter_map(says).next_back();
    said.or_else(|| retracted().then_some(Reading::Nothing))
}

impl YesNo {
    /// The reward with these settings; `name` is its metric key.
    pub fn new(config: YesNoConfig, name: &'static str) -> Self {
        Self { config, name }
    }

    /// The last explicit answer, the beginning, the last line.
    fn answer(&self, body: &str) -> (Reading, &'static str) {
        let candidates = extract::candidates(body);
        let mut last = None;
        let mut conflict = false;
        let mut from = 0;
        for candidate in &candidates {
            let reading = read(candidate.text, false);
            if candidate.rule == Rule::Cue && (reading == Reading::Nothing || is_answer(body, candidate)) {
                continue;
            }
            conflict |= last.is_some_and(|(before, _)| before != reading);
            last = Some((reading, candidate.rule.name()));
            from = candidate.end;
        }
        if conflict && self.config.multi_answer == MultiAnswer::RejectIfConflicting {
            return (Reading::Several, "cue");
        }
        if let Some(found) = last.filter(|(r, _)| *r != Reading::Nothing) {
            return corrected(&body[from..]).map_or(found, |reading| (reading, "cue"));
        }
        let lines: Vec<&str> = body.lines().filter(|l| l.chars().any(char::is_alphanumeric)).collect();
        let (Some(first), Some(end)) = (lines.first(), lines.last()) else {
            return (Reading::Nothing, "none");
        };
        // The last line may take the first one back.
        static CORRECTION: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["correction", "instead"]));
        let (first, end) = (answered(first), answered(end));
        let end_says = read(end, true);
        let corrected = CORRECTION
            .opening(end.trim())
            .map(|at| read(end.trim()[at..].trim_start_matches([',', ' ', ':', '.']), true));
        if let Some(Reading::One(answer)) = corrected.filter(|_| lines.len() > 1) {
            return (Reading::One(answer), "last_line");
        }
        match (read(first, true), end_says) {
            (Reading::Nothing, Reading::Nothing) if self.config.extract == Extract::Lenient => lenient(body),
            (Reading::Nothing, reading) => (reading, "last_line"),
            (Reading::One(a), Reading::One(b)) if a != b => (Reading::Several, "beginning"),
            (reading, _) => (reading, "beginning"),
        }
    }

    fn gold_of(&self, task: &Task) -> Option<Answer> {
        let answers = task.answers();
        let Reading::One(answer) = read(answers.first()?, true) else { return None };
        (answer != Answer::Maybe || self.config.maybe).then_some(answer)
    }
}

impl Reward for YesNo {
    fn name(&self) -> &str {
        self.name
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        let Some(gold) = self.gold_of(task) else {
            return Ok(Outcome::of(Verdict::Unverifiable, self.name, "the reference is neither yes nor no"));
        };
        let policy = ExtractPolicy { think: self.config.think, ..ExtractPolicy::default() };
        let body = match extract::strip_think(response.text, policy.think == Think::RequireClosed) {
            Ok(body) => text::tail(body, extract::INPUT_BYTES),
            Err(missing) => return Ok(Outcome::of(Verdict::NoAnswer, self.name, missing.reason())),
        };
        let (reading, rule) = self.answer(body);
        let outcome = match reading {
            Reading::One(Answer::Maybe) if !self.config.maybe => {
                Outcome::of(Verdict::Ambiguous, rule, "neither yes nor no")
            }
            Reading::One(answer) => {
                let verdict = if answer == gold { Verdict::Correct } else { Verdict::Incorrect };
                Outcome::of(verdict, rule, format!("said {}, reference {}", answer.name(), gold.name()))
                    .with_extracted(answer.name())
                    .with_prediction(answer.name())
            }
            Reading::Several => Outcome::of(Verdict::Ambiguous, rule, "several answers"),
            Reading::Denied => Outcome::of(Verdict::NoAnswer, rule, "the answer is denied"),
            Reading::Nothing => Outcome::of(Verdict::NoAnswer, rule, "no yes or no"),
        };
        Ok(outcome.with_gold(gold.name()).with_work(response.text.len() as u64))
    }

    fn gold(&self, task: &Task) -> Option<String> {
        Some(format!("<answer>{}</answer>", self.gold_of(task)?.name()))
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        match (self.gold_of(task), task.answers().into_iter().next()) {
            (Some(_), _) => Ok(()),
            (None, None) => Err(TaskError::MissingField { reward: self.name.into(), field: "answer" }),
            (None, Some(gold)) => Err(TaskError::BadGold {
                reward: self.name.into(),
                gold,
                reason: "it is neither yes nor no".into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::score_one;
    use serde_json::json;

    fn check(maybe: bool, text: &str, want: &str) {
        let reward = YesNo::new(YesNoConfig { maybe, ..YesNoConfig::default() }, "yes_no");
        let outcome = score_one(&reward, &Task::new("t", json!({"answer": "yes"})), Response::new(text));
        let got = outcome.extracted.as_deref().unwrap_or(match outcome.verdict {
            Verdict::Ambiguous => "ambiguous",
            _ => "",
        });
        assert_eq!(got, want, "{text:?} {}", outcome.reason);
    }

    #[test]
    fn answers() {
        for text in [
            "Yes",
            "yes.",
            "Yes, it does.",
            "**Yes**",
            "<answer>yes</answer>",
            "The answer is yes.",
            "\\boxed{yes}",
            "Answer: Yes, because it grows.",
            "It grows in all cases.\n\nYes.",
            "是的。",
            "Sí.",
            "Oui, toujours.",
            "Ja.",
            "{\"answer\": \"yes\"}",
            "<think>no</think>yes",
            "The answer is no. Wait, the answer is yes.",
        ] {
            check(false, text, "yes");
        }
        for text in ["No", "no, it does not", "Nein.", "Non.", "不是。", "否", "The answer is: no", "没有"]
        {
            check(false, text, "no");
        }
    }

    #[test]
    fn no_answers() {
        for text in [
            "",
            "I know.",
            "It is not yes.",
            "There is no evidence for it in this text.",
            "It depends.",
            "Nobody knows.",
            "<think>yes",
            "Yesterday it rained.",
            "<answer></answer>",
            "The answer is not yes.",
        ] {
            check(false, text, "");
        }
        for text in ["Yes and no.", "yes or no", "yes/no", "<answer>yes, no</answer>", "Maybe."] {
            check(false, text, "ambiguous");
        }
        check(true, "Maybe.", "maybe");
        check(true, "The answer is maybe.", "maybe");
        check(true, "yes, no, maybe", "ambiguous");
    }

    #[test]
    fn whole_words_of_any_language() {
        for text in [
            "对不起，我无法回答",
            "不知道。",
            "不清楚。",
            "是否需要手术要看情况",
            "是什么原因还不清楚",
            "有待进一步检查",
            "没有足够的信息来判断。",
            "没有办法回答",
            "네 번째",
            "예를 들어",
            "会议结束了",
            "能量守恒",
            "Noël.",
            "Sieben.",
            "对于这个问题，我没有看法",
        ] {
            check(false, text, "");
        }
        for text in [
            "是。",
            "是的，可以。",
            "对。",
            "会的。",
            "Tak.",
            "Evet.",
            "Có.",
            "ใช่",
            "네.",
            "Kyllä.",
            "答案是：是",
            "答案：是的",
            "所以，是的。",
            "Да, конечно.",
            "肯定的。",
        ] {
            check(false, text, "yes");
        }
        for text in [
            "不是。",
            "不会。",
            "不对。",
            "Nie.",
            "Hayır.",
            "Không.",
            "아니요.",
            "Nej.",
            "答案是：否",
            "否定的。",
            "答：不是。",
        ] {
            check(false, text, "no");
        }
        check(true, "不一定。", "maybe");
        check(false, "不能确定。", "ambiguous");
    }

    #[test]
    fn corrections_denials_and_asides() {
        check(false, "Yes... Actually, no.", "no");
        check(false, "No. Wait, yes.", "yes");
        check(false, "Yes, it grows.\n\nActually, no.", "no");
        check(false, "Yes, it grows.\n\nNo.", "ambiguous");
        check(false, "Answer: Yes (because no other cause fits)", "yes");
        check(false, "I would say yes.", "yes");
        check(false, "I would not say yes.", "");
        check(false, "I don't think the answer is yes.", "");
        check(true, "C. maybe", "maybe");
        check(true, "(C) maybe", "maybe");
        check(false, "(A) yes", "yes");
        check(false, "<thinking>yes", "");
        check(false, "<thinking>yes</thinking>No.", "no");
    }

    #[test]
    fn references() {
        let reward = YesNo::new(YesNoConfig::default(), "yes_no");
        assert!(reward.check_task(&Task::new("t", json!({"answer": "maybe"}))).is_err());
        assert!(reward.check_task(&Task::new("t", json!({"answer": true}))).is_ok());
        assert!(reward.check_task(&Task::new("t", json!({"answer": "Paris"}))).is_err());
    }
}
