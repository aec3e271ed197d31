//! Words that change a number: "5 squared", "5 more than 3", "3 quarters", "5万", "5的平方"; numbers in Chinese characters.
//!
//! The words are those of `languages/`. Under `behind` they stand behind a value, under `between` between two; their
//! value is what they do: a sign (`+`), a sign with a number (`^2`), or `?` where the value changes and is not worked
//! out, which leaves the answer unread.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::lexicon::{denominator, is_minus, magnitude, number_word, unit_symbols};
use super::numerals::{han, hangul};
use super::token::{Lexer, Tok};
use crate::answer::words::{self, is_dense};

/// Phrases by their first character, the longest first.
type Phrases = HashMap<char, Vec<(Vec<char>, &'static str)>>;

fn phrases(key: &'static str) -> Phrases {
    let mut all = Phrases::new();
    for entry in words::entries(key) {
        if let Some(first) = entry.phrase.chars().next() {
            all.entry(first).or_default().push((entry.phrase.chars().collect(), entry.value));
        }
    }
    all.values_mut().for_each(|list| list.sort_by_key(|(phrase, _)| std::cmp::Reverse(phrase.len())));
    all
}

static BEHIND: LazyLock<Phrases> = LazyLock::new(|| phrases("behind"));
static BETWEEN: LazyLock<Phrases> = LazyLock::new(|| phrases("between"));
static AND: LazyLock<Phrases> = LazyLock::new(|| phrases("and"));
static OR: LazyLock<Phrases> = LazyLock::new(|| phrases("or"));
static COUNTER: LazyLock<Phrases> = LazyLock::new(|| phrases("counter"));
static GENITIVE: LazyLock<Phrases> = LazyLock::new(|| phrases("genitive"));
static MAGNITUDE: LazyLock<Phrases> = LazyLock::new(|| phrases("magnitude"));

/// A letter of the Latin alphabet beyond ASCII.
pub fn is_accented(c: char) -> bool {
    ('\u{c0}'..='\u{24f}').contains(&c) && c.is_alphabetic() || ('\u{1e00}'..='\u{1eff}').contains(&c)
}

/// The phrase that stands at the beginning of `text` as whole words, with its length.
fn phrase_at(table: &Phrases, text: &[char]) -> Option<(usize, &'static str)> {
    let first = text.first()?.to_lowercase().next()?;
    table.get(&first)?.iter().find_map(|(phrase, value)| {
        let mut at = 0;
        for c in phrase {
            if *c == ' ' {
                let spaces = text[at..].iter().take_while(|c| c.is_whitespace()).count();
                if spaces == 0 {
                    return None;
                }
                at += spaces;
            } else {
                let same = text.get(at).is_some_and(|t| t.to_lowercase().eq(c.to_lowercase()));
                if !same {
                    return None;
                }
                at += 1;
            }
        }
        let ends = phrase.last().is_some_and(|c| is_dense(*c))
            || !text.get(at).is_some_and(|c| c.is_alphanumeric() && !is_dense(*c));
        ends.then_some((at, *value))
    })
}

/// What a phrase at the beginning of `text` does to the value before it. One character of a dense script is a word only
/// at the end of its run or before a classifier, and part of a longer unit elsewhere.
fn effect_at(text: &[char]) -> Option<(usize, &'static str)> {
    let (len, effect) = phrase_at(&BEHIND, text)?;
    if !is_dense(text[0]) {
        return Some((len, effect));
    }
    let rest = &text[len..];
    let counted = phrase_at(&COUNTER, text).is_some_and(|(counter, _)| counter > len);
    let ends = rest.first().is_none_or(|c| !is_dense(*c)) || phrase_at(&COUNTER, rest).is_some();
    (!counted && (len > 1 || ends)).then_some((len, effect))
}

impl Lexer {
    /// Whether a value ends directly before.
    fn is_after_value(&self) -> bool {
        let value = |t: &Tok| {
            matches!(
                t,
                Tok::Num(_) | Tok::Based(..) | Tok::Sym(_) | Tok::Close(_) | Tok::Percent | Tok::Degree
            )
        };
        self.out.last().is_some_and(|t| value(&t.tok))
    }

    /// Whether the text from `at` goes on with a value.
    fn is_value_at(&self, at: usize) -> bool {
        let mut rest = self.chars[at.min(self.chars.len())..]
            .iter()
            .skip_while(|c| c.is_whitespace())
            .take(24)
            .peekable();
        if rest.peek().is_some_and(|c| c.is_ascii_digit() || matches!(c, '\\' | '(' | '$' | '√' | '-')) {
            return true;
        }
        let word: String = rest.take_while(|c| c.is_alphabetic()).collect();
        // "5 times x", but not "5 times a day".
        let letter = word.len() == 1 && !matches!(&*word, "a" | "A" | "I");
        letter || number_word(&word).is_some() || han(&word.chars().collect::<Vec<_>>()).is_some()
    }

    /// Reads a phrase that stands here and changes the value before it.
    pub(super) fn effect_here(&mut self) -> bool {
        let end = self.chars.len().min(self.at + 64);
        if !self.is_after_value() {
            // "5 metres at most", "5 (squared)": behind a unit, or in brackets.
            let last = self.out.last().map(|t| &t.tok);
            let (unit, bracket) = (matches!(last, Some(Tok::Text(_))), matches!(last, Some(Tok::Open('('))));
            if !(unit || bracket) || !self.out.iter().any(|t| matches!(t.tok, Tok::Num(_))) {
                return false;
            }
            return match effect_at(&self.chars[self.at..end]) {
                Some((len, effect)) if bracket || effect == "?" => {
                    self.at += len;
                    self.push(Tok::Unread);
                    true
                }
                _ => false,
            };
        }
        let behind = effect_at(&self.chars[self.at..end]);
        let between = phrase_at(&BETWEEN, &self.chars[self.at..end]);
        if let Some((len, effect)) = between
            && behind.is_none_or(|(other, _)| other <= len)
            && self.is_value_at(self.at + len)
        {
            self.at += len;
            self.sign(effect);
            return true;
        }
        if let Some((len, effect)) = behind {
            self.at += len;
            self.change(effect);
            return true;
        }
        if let Some((len, word)) = self.joint() {
            self.at += len;
            self.push(Tok::Text(word.into()));
            return true;
        }
        false
    }

    /// "3 und 5", "3或5": a word between two values that joins them. One letter may be a symbol, but not between digits and
    /// spaces.
    fn joint(&self) -> Option<(usize, &'static str)> {
        let text = &self.chars[self.at..self.chars.len().min(self.at + 24)];
        let found =
            |table| phrase_at(table, text).map(|(len, _)| len).filter(|len| self.is_value_at(self.at + len));
        let (len, word) =
            (found(&AND).map(|len| (len, "and"))).or_else(|| found(&OR).map(|len| (len, "or")))?;
        // In English "5 of 8" offers no choice, and "3 a 5" is Spanish for "3 to 5".
        if matches!(text[..len], ['o', 'f'] | ['a']) {
            return None;
        }
        let letter = len == 1 && !is_dense(text[0]);
        let digits = self.space
            && matches!(self.out.last().map(|t| &t.tok), Some(Tok::Num(_)))
            && text.get(1) == Some(&' ')
            && text.get(2).is_some_and(char::is_ascii_digit);
        (!letter || digits).then_some((len, word))
    }

    /// The same for the inside of `\text{…}`.
    pub(super) fn effect_of(&mut self, inner: &str) -> bool {
        if inner.len() > 64 {
            return false;
        }
        let inner: Vec<char> = inner.chars().collect();
        let whole = |found: Option<(usize, &'static str)>| {
            found.filter(|(len, _)| *len == inner.len()).map(|(_, e)| e)
        };
        if self.is_after_value() {
            if let Some(effect) = whole(phrase_at(&BETWEEN, &inner))
                && self.is_value_at(self.at)
            {
                self.sign(effect);
                return true;
            }
            if let Some(effect) = whole(effect_at(&inner)) {
                self.change(effect);
                return true;
            }
        }
        // "cm or more" within one group.
        let changes = |at: usize| {
            (at == 0 || !inner[at - 1].is_alphanumeric()) && matches!(effect_at(&inner[at..]), Some((_, "?")))
        };
        if self.is_after_value() && (0..inner.len()).any(changes) {
            self.push(Tok::Unread);
            return true;
        }
        false
    }

    /// The sign that a phrase between two values stands for.
    fn sign(&mut self, effect: &str) {
        match effect {
            "choose" => self.push(Tok::Infix("binom")),
            "of" => self.push(Tok::Infix("of")),
            "root" => {
                self.push(Tok::Op('*'));
                self.push(Tok::Cmd("sqrt"));
            }
            "?" => self.push(Tok::Unread),
            sign => self.push(Tok::Op(sign.chars().next().unwrap_or('?'))),
        }
    }

    /// What a phrase behind a value does to it: a sign, and with it a number.
    fn change(&mut self, effect: &str) {
        let mut rest = effect.chars();
        let Some(sign) = rest.next().filter(|c| *c != '?') else { return self.push(Tok::Unread) };
        // 3/4 squared, -5 and a half: the sign would bind otherwise.
        let number = |t: &Tok| matches!(t, Tok::Num(_) | Tok::Sym(_));
        let before: Vec<&Tok> = self.out.iter().rev().skip(1).take(1).map(|t| &t.tok).collect();
        let divided = self.out.last().is_some_and(|t| number(&t.tok)) && before == [&Tok::Op('/')];
        let negative = sign == '+' && self.out.iter().any(|t| t.tok == Tok::Op('-'));
        if divided || negative {
            return self.push(Tok::Unread);
        }
        if sign == '%' {
            return self.push(Tok::Percent);
        }
        self.push(Tok::Op(sign));
        let amount: String = rest.collect();
        if amount.is_empty() {
            return;
        }
        self.push(Tok::Open('{'));
        for (i, part) in amount.split('/').enumerate() {
            if i > 0 {
                self.push(Tok::Op('/'));
            }
            self.push(Tok::Num(part.into()));
        }
        self.push(Tok::Close('}'));
    }

    /// "3 quarters" and "1 quarter": a number in digits and a word for its parts.
    pub(super) fn counts_parts(&self, word: &str) -> bool {
        let Some(Tok::Num(count)) = self.out.last().map(|t| &t.tok) else { return false };
        let plural = denominator(&format!("{word}s")).is_none();
        let alone = !matches!(
            self.out.len().checked_sub(2).map(|i| &self.out[i].tok),
            Some(Tok::Op('/' | '*' | '^'))
        );
        alone && !count.contains('.') && (plural || count == "1")
    }

    /// A run of letters that are not ASCII.
    pub(super) fn foreign(&mut self) {
        if self.effect_here() {
            return;
        }
        let start = self.at;
        if is_dense(self.peek(0)) {
            return self.dense();
        }
        while self.peek(0).is_alphabetic() && !is_dense(self.peek(0))
            || matches!(self.peek(0) as u32, 0x300..=0x36f | 0x900..=0x903 | 0x93a..=0x94f)
        {
            self.at += 1;
        }
        if self.at == start {
            self.at += 1;
        }
        let word: String = self.chars[start..self.at].iter().collect();
        let lower = word.to_lowercase();
        let after_number = matches!(self.out.last().map(|t| &t.tok), Some(Tok::Num(_)));
        if after_number && let Some(factor) = magnitude(&lower) {
            self.push(Tok::Op('*'));
            self.push(Tok::Num(factor.into()));
            self.from_word = self.out.len();
        } else if let Some(parts) = denominator(&lower).filter(|_| self.counts_parts(&lower)) {
            self.push(Tok::Op('/'));
            self.push(Tok::Num(parts.into()));
        } else if let Some(value) = number_word(&lower) {
            self.number_from_word(value);
        } else if is_minus(&lower) && self.is_before_number() {
            self.push(Tok::Op('-'));
        } else {
            self.push(Tok::Text(word));
        }
    }

    /// A run of a script without spaces between words.
    fn dense(&mut self) {
        let run: Vec<char> = self.chars[self.at..].iter().copied().take_while(|c| is_dense(*c)).collect();
        let after_number = matches!(self.out.last().map(|t| &t.tok), Some(Tok::Num(_)));
        if after_number {
            return self.dense_behind(&run);
        }
        let minus =
            (1..=run.len().min(5)).rev().find(|len| is_minus(&run[..*len].iter().collect::<String>()));
        if let Some(len) = minus
            && (han(&run[len..]).is_some() || run.len() == len && self.is_value_at(self.at + len))
        {
            self.at += len;
            return self.push(Tok::Op('-'));
        }
        // 百分之五十, 百分之50.
        let hundredth: Vec<char> = "百分之".chars().collect();
        if run == hundredth && self.is_value_at(self.at + 3) {
            self.at += 3;
            self.push(Tok::Num("1".into()));
            self.push(Tok::Percent);
            return self.push(Tok::Op('*'));
        }
        if let Some((value, len)) = han(&run).or_else(|| hangul(&run))
            && (len == run.len() || is_measured(&run[len..]))
            // 千克 behind a fraction is a unit.
            && phrase_at(&COUNTER, &run).is_none_or(|(counter, _)| counter <= len)
        {
            self.at += len;
            for token in value {
                self.push(token);
            }
            return;
        }
        self.at += run.len();
        self.push(Tok::Text(run.into_iter().collect()));
    }

    /// The run behind a number: magnitudes, then a unit, a copula or a noun.
    fn dense_behind(&mut self, run: &[char]) {
        let start = self.at;
        let end = start + run.len();
        while let Some((len, factor)) = phrase_at(&MAGNITUDE, &self.chars[self.at..end]) {
            // 千克 is a unit.
            if len == 0
                || phrase_at(&COUNTER, &self.chars[self.at..end]).is_some_and(|(counter, _)| counter > len)
            {
                break;
            }
            self.push(Tok::Op('*'));
            self.push(Tok::Num(factor.into()));
            self.at += len;
        }
        if self.at > start {
            self.from_word = self.out.len();
            if self.at < end && self.effect_here() {
                return;
            }
        }
        let rest = &run[self.at - start..];
        self.at = end;
        if rest.is_empty() {
            return;
        }
        // One character changes the number or its unit, and is part of a word elsewhere: 12小时才能完成.
        let counter = phrase_at(&COUNTER, rest).map_or(0, |(len, _)| len);
        let changes = (0..rest.len())
            .any(|at| effect_at(&rest[at..]).is_some_and(|(len, _)| len > 1 || at == 0 || at == counter));
        // 12的倍数 is not 12.
        let of = phrase_at(&GENITIVE, rest).is_some_and(|(len, _)| {
            len < rest.len() || self.chars[end..].iter().take(2).any(|c| is_dense(*c))
        });
        let changes = changes || of;
        self.push(if changes { Tok::Unread } else { Tok::Text(rest.iter().collect()) });
    }

    /// The inside of `\mathrm{…}` as a unit of several symbols: `m\,s^{-1}`, `J/(kg\,K)`.
    pub(super) fn unit(&self, inner: &str) -> Option<String> {
        if !self.is_after_value() || inner.len() > 48 || !inner.contains(['\\', '/', '^', ' ', '·', '(']) {
            return None;
        }
        let plain = inner
            .replace("\\cdot", " ")
            .replace("\\,", " ")
            .replace("\\ ", " ")
            .replace("\\mu ", "μ")
            .replace("\\mu", "μ")
            .replace("\\Omega", "Ω")
            .replace("\\mathrm", "")
            .replace("\\text", "");
        if plain.contains('\\') {
            return None;
        }
        let is_part = |part: &str| {
            let exponent = part.trim_start_matches(|c: char| c.is_alphabetic() || c == '°');
            let name = &part[..part.len() - exponent.len()];
            let digits = exponent.trim_matches(['^', '-', '{', '}', '−']);
            unit_symbols(name)
                && (exponent.is_empty() || digits.len() == 1 && digits.bytes().all(|b| b.is_ascii_digit()))
        };
        let mut parts =
            plain.split([' ', '/', '(', ')', '·', '~', '⋅', '*']).filter(|p| !p.is_empty()).peekable();
        (parts.peek().is_some() && parts.all(is_part))
            .then(|| plain.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

/// Whether a run is a unit, a classifier or a copula, or begins with the classifier of all things: 二次函数 is no number.
fn is_measured(run: &[char]) -> bool {
    let counter = phrase_at(&COUNTER, run).is_some_and(|(len, _)| len == run.len());
    counter || matches!(run[0], '个' | '個' | '개') || effect_at(run).is_some()
}
