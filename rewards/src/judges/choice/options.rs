//! The options of a question: their labels, their texts as words, and where a piece of text mentions them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;
use unicode_normalization::UnicodeNormalization;

use crate::answer::text;
use crate::answer::words::{self, Phrases};
use crate::task::Task;

/// A set of options by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Set(u64);

impl Set {
    pub(super) fn one(index: usize) -> Self {
        Self(1 << index.min(63))
    }
    pub(super) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }
    pub(super) fn len(self) -> usize {
        self.0.count_ones() as usize
    }
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
    pub(super) fn holds(self, index: usize) -> bool {
        self.0 >> index.min(63) & 1 == 1
    }
    /// The only member.
    pub(super) fn only(self) -> Option<usize> {
        (self.len() == 1).then(|| self.0.trailing_zeros() as usize)
    }
    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        (0..64).filter(move |i| self.holds(*i))
    }
}

/// A word of a text in comparison form, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) form: Cow<'a, str>,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A place where the text of an option stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mention {
    pub(super) index: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Scripts that do not separate words by spaces: a character is a word.
fn is_dense(c: char) -> bool {
    matches!(c as u32, 0x3040..=0x30FF | 0x3400..=0x9FFF | 0xAC00..=0xD7A3 | 0xF900..=0xFAFF | 0x20000..=0x2FFFF)
}

fn is_word(c: char) -> bool {
    text::is_alphanumeric(c) || matches!(c as u32, 0x0300..=0x036F | 0x0900..=0x097F)
}

/// The words of `text`: NFKC, lower case, no punctuation but what changes a value (sign, decimal point, `%`, `<`, `>`, `↑`, `↓`).
pub(super) fn words(text: &str) -> Vec<Word<'_>> {
    first_words(text, usize::MAX)
}

/// At least the first `count` words of `text`.
fn first_words<'a>(text: &'a str, count: usize) -> Vec<Word<'a>> {
    let mut out: Vec<Word<'a>> = Vec::new();
    // Where the word at hand begins and ends.
    let mut open: Option<(usize, usize)> = None;
    let close = |open: &mut Option<(usize, usize)>, out: &mut Vec<Word<'a>>| {
        let Some((start, end)) = open.take() else { return };
        let form = compared(&text[start..end]);
        // The names of LaTeX wrappers are no words.
        if !(text[..start].ends_with('\\') && LATEX.contains(&&*form)) {
            out.push(Word { form, start, end });
        }
    };
    let mut chars = text.char_indices().peekable();
    let mut before = ' ';
    while let Some((at, c)) = chars.next() {
        if out.len() >= count {
            return out;
        }
        let end = at + c.len_utf8();
        let next = chars.peek().map_or(' ', |(_, c)| *c);
        let in_number = before.is_ascii_digit() && next.is_ascii_digit();
        let sign =
            matches!(c, '-' | '−') && next.is_ascii_digit() && !before.is_alphanumeric() && before != ')';
        if is_dense(c) {
            close(&mut open, &mut out);
            out.push(Word { form: compared(&text[at..end]), start: at, end });
        } else if is_word(c) || in_number && c == '.' || sign {
            // "2mg" is a number with its unit.
            if before.is_ascii_digit()
                && c.is_alphabetic()
                && open.is_some_and(|(start, end)| is_number(&text[start..end]))
            {
                close(&mut open, &mut out);
            }
            open = Some((open.map_or(at, |(start, _)| start), end));
        } else if in_number && c == ',' && open.is_some() && thousands(&text[end..]) {
            // "1,000" is one number.
        } else {
            close(&mut open, &mut out);
            if matches!(c, '%' | '<' | '>' | '≤' | '≥' | '+' | '↑' | '↓') {
                out.push(Word { form: Cow::Borrowed(&text[at..end]), start: at, end });
            }
        }
        before = c;
    }
    close(&mut open, &mut out);
    out
}

/// Names of LaTeX commands around words.
const LATEX: &[&str] = &["text", "textbf", "textit", "mathrm", "mathbf", "boxed", "textrm"];

/// Bytes of a word that is compared as it stands.
const LONG: usize = 1024;

/// A word in comparison form; commas within it separate thousands.
fn compared(word: &str) -> Cow<'_, str> {
    // Han and Hangul, Latin in lower case and digits are in this form already.
    let is_plain = |c: char| match c {
        '.' | '-' => true,
        c if c.is_ascii() => c.is_ascii_lowercase() || c.is_ascii_digit(),
        c => matches!(c as u32, 0x3400..=0x9FFF | 0xAC00..=0xD7A3),
    };
    if word.len() > LONG || word.chars().all(is_plain) {
        return Cow::Borrowed(word);
    }
    let mut form = String::with_capacity(word.len());
    for c in word.chars() {
        match c {
            ',' => {}
            '−' => form.push('-'),
            c if c.is_ascii() => form.push(c.to_ascii_lowercase()),
            c => form.extend(c.nfkc().flat_map(char::to_lowercase)),
        }
    }
    Cow::Owned(form)
}

/// Whether a word stands under `key` in a table.
fn is_listed(key: &str, word: &str) -> bool {
    words::entries(key).any(|e| e.phrase == word)
}

/// Whether a word has nothing but digits and their signs.
fn is_number(word: &str) -> bool {
    let digit = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-');
    word.chars().all(|c| digit(c) || matches!(c, ',' | '−') || !c.is_ascii() && c.nfkc().all(digit))
}

fn thousands(rest: &str) -> bool {
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    digits == 3
}

/// The words of `text` without a leading article, at least `count` of them; "A. Fever" has a label and no article.
fn bare(text: &str, count: usize) -> Vec<Word<'_>> {
    let mut list = first_words(text, count.saturating_add(1));
    let spaced = |a: &Word<'_>, b: &Word<'_>| text[a.end..b.start].chars().all(char::is_whitespace);
    if list.len() > 1 && matches!(&*list[0].form, "the" | "a" | "an") && spaced(&list[0], &list[1]) {
        list.remove(0);
    }
    list
}

/// Whether words have these forms.
fn have(words: &[Word<'_>], forms: &[String]) -> bool {
    words.iter().map(|w| &*w.form).eq(forms.iter().map(String::as_str))
}

/// `span` without what `mentions` of it name.
pub(super) fn without(span: &str, mentions: &[Mention]) -> String {
    let mut rest = String::new();
    let mut from = 0;
    for mention in mentions {
        if mention.start >= from {
            rest.push_str(&span[from..mention.start]);
            rest.push('\u{1}');
            from = mention.end;
        }
    }
    rest.push_str(&span[from..]);
    rest
}

/// The options of a question.
pub(super) struct Options {
    labels: Vec<String>,
    /// Comparison forms in the order of the labels; empty when the reference gives none.
    texts: Vec<Vec<String>>,
    /// The options whose texts may be mentioned, by their first words.
    starts: HashMap<String, Vec<usize>>,
    /// Words of the longest text.
    longest: usize,
    /// Whether the labels are the plain letters from A on.
    latin: bool,
    /// Whether a text has a full stop within it, as "C. difficile".
    dotted: bool,
    /// Whether several options may be the answer together.
    several: bool,
}

impl Options {
    pub(super) fn of(task: &Task, several: bool) -> Self {
        let field = |name| task.reference.get(name);
        let text = |v: &Value| match v {
            Value::String(s) => s.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let raw: Vec<String> = match field("options").or_else(|| field("choices")) {
            Some(Value::Array(list)) => list.iter().take(64).map(text).collect(),
            Some(Value::Object(map)) => map.values().take(64).map(text).collect(),
            _ => Vec::new(),
        };
        let clean = |s: &str| s.trim().trim_matches(|c: char| "()[].:".contains(c)).to_uppercase();
        let given: Option<Vec<String>> = match (field("letters"), field("options")) {
            (Some(Value::String(s)), _) => {
                Some(s.chars().filter(|c| c.is_alphanumeric()).map(|c| c.to_uppercase().collect()).collect())
            }
            (Some(Value::Array(list)), _) => Some(list.iter().map(|v| clean(&text(v))).collect()),
            (_, Some(Value::Object(map))) => Some(map.keys().map(|k| clean(k)).collect()),
            _ => None,
        };
        let count = if raw.is_empty() { 10 } else { raw.len().min(26) };
        let plain = || ('A'..='Z').take(count).map(String::from).collect::<Vec<_>>();
        let mut labels: Vec<String> =
            given.filter(|l| !l.is_empty() && l.iter().all(|s| !s.is_empty())).unwrap_or_else(plain);
        labels.truncate(64);
        let latin = labels.iter().zip('A'..='Z').all(|(l, c)| *l == c.to_string());
        let dotted = raw.iter().any(|s| s.trim_end_matches('.').contains(". "));
        let (texts, starts, longest) = (Vec::new(), HashMap::new(), 0);
        let mut options = Self { labels, texts, starts, longest, latin, dotted, several };
        // Options that carry their label ("A. Fever") are stripped of it when all do.
        let stripped: Vec<Option<&str>> =
            raw.iter().enumerate().map(|(i, s)| options.without_label(s, i)).collect();
        let labelled = !raw.is_empty() && stripped.iter().all(Option::is_some);
        let form = |s: &str| bare(s, usize::MAX).into_iter().map(|w| w.form.into_owned()).collect::<Vec<_>>();
        options.texts = (raw.iter().zip(&stripped))
            .map(|(s, cut)| form(if labelled { cut.unwrap_or(s) } else { s }))
            .collect();
        options.longest = options.texts.iter().map(Vec::len).max().unwrap_or(0);
        for (index, text) in options.texts.iter().enumerate().take(options.labels.len()) {
            // A one-word text that is a label ("A", "B", "AB" of blood groups) is read as the label.
            let label_like = text.len() == 1 && options.by_label(&text[0]).is_some();
            let twin = options.texts.iter().enumerate().any(|(i, t)| i != index && t == text);
            if let Some(first) = text.first().filter(|_| !label_like && !twin) {
                options.starts.entry(first.clone()).or_default().push(index);
            }
        }
        options
    }

    fn without_label<'a>(&self, text: &'a str, index: usize) -> Option<&'a str> {
        let label = self.labels.get(index)?;
        let rest = text.trim().trim_start_matches(['(', '[']);
        let head = rest.get(..label.len())?;
        let rest = rest.get(label.len()..)?.trim_start();
        let cut = rest.strip_prefix([')', ']', '.', ':'])?;
        (head.to_uppercase() == *label && !cut.trim().is_empty()).then(|| cut.trim())
    }

    /// Where texts with a full stop within them stand in `body`, in order.
    pub(super) fn dotted(&self, body: &str) -> Vec<(usize, usize)> {
        if !self.dotted {
            return Vec::new();
        }
        let mentions = self.mentions(body).into_iter();
        mentions.filter(|m| body[m.start..m.end].contains('.')).map(|m| (m.start, m.end)).collect()
    }

    /// Where several options may be the answer: those that a word such as `ACD` names.
    pub(super) fn word(&self, token: &str) -> Option<Set> {
        if !self.several || !(2..=26).contains(&token.len()) || !token.bytes().all(|b| b.is_ascii_uppercase())
        {
            return None;
        }
        let mut set = Set::default();
        for (at, _) in token.char_indices() {
            let one = Set::one(self.by_label(&token[at..=at])?);
            if set.holds(one.only()?) {
                return None;
            }
            set.add(one);
        }
        Some(set)
    }

    /// Whether several options may be the answer together.
    pub(super) fn several(&self) -> bool {
        self.several
    }

    /// Whether the labels are numbers.
    pub(super) fn numbered(&self) -> bool {
        self.labels.iter().any(|l| l.starts_with(|c: char| c.is_ascii_digit()))
    }

    /// How many options there are.
    pub(super) fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether the reference says what the options are.
    pub(super) fn known(&self) -> bool {
        !self.texts.is_empty()
    }

    pub(super) fn label(&self, index: usize) -> &str {
        self.labels.get(index).map_or("", String::as_str)
    }

    /// The option with this label, in either case, in full-width, circled or look-alike form.
    pub(super) fn by_label(&self, token: &str) -> Option<usize> {
        let upper: String = token.nfkc().flat_map(char::to_uppercase).collect();
        let find = |s: &str| self.labels.iter().position(|l| l == s);
        find(&upper).or_else(|| {
            let mut chars = upper.chars();
            let (c, None) = (chars.next()?, chars.next()) else { return None };
            let twin = match c {
                'А' | 'Α' => "A",
                'В' | 'Β' => "B",
                'С' => "C",
                'Е' | 'Ε' => "E",
                'Н' | 'Η' => "H",
                'Ι' | 'І' => "I",
                _ => "",
            };
            find(twin).or_else(|| self.native(c))
        })
    }

    /// The first letters of other alphabets, as exams in those languages label options.
    fn native(&self, c: char) -> Option<usize> {
        let index =
            ["أبجده", "ابجده", "कखगघङ", "アイウエオ", "가나다라마", "ㄱㄴㄷㄹㅁ", "甲乙丙丁戊", "АБВГД"]
                .iter()
                .find_map(|row| row.chars().position(|r| r == c))?;
        (self.latin && index < self.labels.len()).then_some(index)
    }

    /// The option whose text is `span`, up to case, punctuation and a leading article.
    pub(super) fn by_text(&self, span: &str) -> Option<usize> {
        let words = bare(span, self.longest + 1);
        if words.is_empty() {
            return None;
        }
        let mut hits = (0..self.texts.len()).filter(|i| have(&words, &self.texts[*i]));
        let first = hits.next()?;
        if hits.next().is_some() || first >= self.labels.len() { None } else { Some(first) }
    }

    /// The option that `body` states and nothing else: its text word for word, or its label and its text. A text that
    /// reads as a label ("B") is not one.
    pub(super) fn whole(&self, body: &str) -> Option<usize> {
        if body.len() > 2048 || !self.known() {
            return None;
        }
        let label = |token: &str| self.by_label(token.trim_matches(|c: char| !c.is_alphanumeric()));
        let exact = self.by_text(body).filter(|_| label(body).is_none());
        exact.or_else(|| {
            let (head, text) = body.split_once([' ', '\n'])?;
            label(head).filter(|index| head.ends_with(['.', ')', ':']) && self.by_text(text) == Some(*index))
        })
    }

    /// The only option that has all of `span` as a part of its text.
    pub(super) fn by_part(&self, span: &str) -> Option<usize> {
        let words = bare(span, 65);
        if words.len() > 64 || words.len() > self.longest {
            return None;
        }
        if !words.iter().any(|w| w.form.chars().count() >= 4 && !is_listed("filler", &w.form)) {
            return None;
        }
        let mut hits =
            (0..self.texts.len()).filter(|i| self.texts[*i].windows(words.len()).any(|w| have(&words, w)));
        let first = hits.next()?;
        if hits.next().is_some() || first >= self.labels.len() { None } else { Some(first) }
    }

    /// Whether the option's text is so common a word that a mention of it says nothing.
    pub(super) fn is_common(&self, index: usize) -> bool {
        let Some(text) = self.texts.get(index) else { return true };
        match &text[..] {
            [] => true,
            [word] => {
                is_listed("common", word)
                    || word.chars().count() <= 2
                    || !word.chars().any(char::is_alphabetic)
                    || self.by_label(word).is_some()
            }
            _ => false,
        }
    }

    /// Where the texts of options stand in `span`, in order; what is part of a longer mention is left out.
    pub(super) fn mentions(&self, span: &str) -> Vec<Mention> {
        if self.texts.is_empty() {
            return Vec::new();
        }
        let list = words(span);
        let mut found: Vec<Mention> = Vec::new();
        for (at, word) in list.iter().enumerate() {
            for index in self.starts.get(&*word.form).into_iter().flatten() {
                let text = &self.texts[*index];
                if let Some(window) = list.get(at..at + text.len()).filter(|window| have(window, text)) {
                    let end = window[text.len() - 1].end;
                    found.push(Mention { index: *index, start: word.start, end });
                }
            }
        }
        found.sort_by_key(|m| (m.start, std::cmp::Reverse(m.end)));
        let mut kept: Vec<Mention> = Vec::new();
        for mention in found {
            if kept.last().is_none_or(|k| mention.end > k.end) {
                kept.push(mention);
            }
        }
        kept
    }

    /// The options whose texts `body` lists, with nothing else between them than their own labels and words that join.
    pub(super) fn listed(&self, body: &str) -> Option<Set> {
        static AND: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["and"]));
        if body.len() > 2048 {
            return None;
        }
        let bare = |w: &'_ str| w.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
        let mut set = Set::default();
        let mut from = 0;
        for m in self.mentions(body) {
            let gap: Vec<String> =
                body[from..m.start].split_whitespace().map(bare).filter(|w| !w.is_empty()).collect();
            let label = gap.last().is_some_and(|w| self.by_label(w) == Some(m.index));
            let joins = &gap[..gap.len() - usize::from(label)];
            if !joins.iter().all(|w| AND.opening(w) == Some(w.len())) {
                return None;
            }
            set.add(Set::one(m.index));
            from = m.end;
        }
        (set.len() > 1 && !body[from..].contains(char::is_alphanumeric)).then_some(set)
    }

    /// `span` without the texts of the options, in which a hedge or a denial is part of the option.
    pub(super) fn residue(&self, span: &str) -> String {
        without(span, &self.mentions(span))
    }

    /// The options of a reference that names several: a list of them, or `AC`, `A, C`, `A and C`.
    pub(super) fn golds(&self, reference: &Value) -> Option<Set> {
        let one = |v: &Value| v.as_str().and_then(|s| self.gold(s)).map(Set::one);
        let mut set = Set::default();
        match reference.get("answer")? {
            Value::Array(list) if !list.is_empty() => {
                for item in list {
                    set.add(one(item)?);
                }
            }
            Value::String(s) => match self.gold(s).map(Set::one).or_else(|| self.word(s.trim())) {
                Some(found) => set = found,
                None => {
                    for part in s.split([',', ';', '、', '，', '&', ' ']).map(str::trim) {
                        if !part.is_empty() && !part.eq_ignore_ascii_case("and") {
                            set.add(self.gold(part).map(Set::one)?);
                        }
                    }
                }
            },
            _ => return None,
        }
        (!set.is_empty()).then_some(set)
    }

    /// The option of the reference answer: its label or its text.
    pub(super) fn gold(&self, answer: &str) -> Option<usize> {
        let trimmed = answer.trim().trim_matches(|c: char| "().[]*:".contains(c));
        let exact = self.labels.iter().position(|l| *l == trimmed.to_uppercase());
        exact.or_else(|| self.by_text(answer)).or_else(|| {
            // "B. Fever" or "(B) Fever".
            let head: String = trimmed.chars().take_while(|c| c.is_alphanumeric()).collect();
            let index = self.labels.iter().position(|l| *l == head.to_uppercase())?;
            let text = trimmed[head.len()..].trim_start_matches(|c: char| !c.is_alphanumeric());
            (self.by_text(text) == Some(index)).then_some(index)
        })
    }
}
