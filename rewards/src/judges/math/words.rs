//! Words to tokens: functions, units, numbers that are written out, phrases that are mathematics.

use super::lexicon::{
    GREEK, Role, UNITS, denominator, function, is_minus, is_short_word, is_unit, magnitude, number_word,
};
use super::phrase::is_accented;
use super::token::{Lexer, Tok, Token};

impl Lexer {
    pub(super) fn word(&mut self) {
        let start = self.at;
        if self.effect_here() {
            return;
        }
        if self.peek(1).is_ascii_alphanumeric()
            && self.peek(0).is_ascii_uppercase()
            && let Some(len) = self.based()
        {
            return self.at += len;
        }
        if let Some(len) = self.compound() {
            let word: String = self.chars[start..start + len].iter().collect();
            self.at += len;
            return self.push(Tok::Text(word));
        }
        while self.peek(0).is_ascii_alphabetic() {
            self.at += 1;
        }
        // A word such as "millón" is one; letters of other scripts begin another.
        if is_accented(self.peek(0)) {
            self.at = start;
            return self.foreign();
        }
        let word: String = self.chars[start..self.at].iter().collect();
        if matches!(&*word, "US" | "USD" | "EUR" | "GBP" | "Rs" | "INR" | "AUD" | "CAD")
            && self.is_before_amount()
            || matches!(&*word, "R" | "A" | "C" | "HK" | "S" | "NZ" | "US")
                && self.peek(0) == '$'
                && self.is_before_amount()
        {
            return self.space = true;
        }
        self.named(&word, false);
    }

    /// Length of a noun with a hyphen behind a value: "5 t-shirts", "3 two-digit primes". A difference of symbols has no
    /// parts of three letters, and number words, functions and Greek letters are mathematics.
    fn compound(&self) -> Option<usize> {
        let value = matches!(
            self.out.last().map(|t| &t.tok),
            Some(Tok::Num(_) | Tok::Close(_) | Tok::Percent | Tok::Degree)
        );
        if !value || !self.space {
            return None;
        }
        let letters =
            |at: usize| self.chars[at..].iter().take(32).take_while(|c| c.is_ascii_alphabetic()).count();
        let mut end = self.at + letters(self.at);
        if self.chars.get(end) != Some(&'-') {
            return None;
        }
        let mut parts = vec![self.chars[self.at..end].iter().collect::<String>().to_lowercase()];
        while self.chars.get(end) == Some(&'-') && parts.len() < 5 {
            let len = letters(end + 1);
            if len == 0 {
                return None;
            }
            parts.push(self.chars[end + 1..end + 1 + len].iter().collect::<String>().to_lowercase());
            end += 1 + len;
        }
        let digit =
            self.chars.get(end).is_some_and(|c| c.is_alphanumeric() || matches!(c, '^' | '_' | '(' | '-'));
        let formal = |part: &String| {
            function(part).is_some()
                || GREEK.contains(&&**part)
                || matches!(&**part, "pi" | "sqrt" | "inf" | "infinity")
                || magnitude(part).is_some()
                || Role::Opens.has(part)
                || Role::Begins.has(part)
        };
        let last = parts.last()?;
        let numeric = number_word(last).is_some() || denominator(last).is_some();
        let wordy = parts.iter().any(|part| part.len() >= 3);
        let negative = parts.first().is_some_and(|part| is_minus(part));
        (parts.len() > 1 && !negative && !digit && wordy && !numeric && !parts.iter().any(formal))
            .then_some(end - self.at)
    }

    /// Whether a number, or the word for one, comes next.
    pub(super) fn is_before_number(&self) -> bool {
        let mut rest = self.chars[self.at..].iter().take(16).skip_while(|c| **c == ' ').peekable();
        if rest.peek().is_some_and(|c| c.is_ascii_digit()) {
            return true;
        }
        let word: String = rest.take_while(|c| c.is_ascii_alphabetic()).collect();
        number_word(&word).is_some()
    }

    /// Whether a word for a magnitude comes soon: "two hundred and three thousand" is more than a hundred and some.
    fn is_before_magnitude(&self) -> bool {
        let rest: String = self.chars[self.at..].iter().take(48).collect();
        let words = rest.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
        words.take(3).any(|word| magnitude(&word.to_lowercase()).is_some())
    }

    /// Whether a fraction or a magnitude without a number is all there is: "half", "a third", "a dozen".
    fn is_alone(&self) -> bool {
        let article = |t: &Token| match &t.tok {
            Tok::Sym(word) | Tok::Text(word) => matches!(&**word, "a" | "an"),
            _ => false,
        };
        let before = self.out.is_empty() || self.out.len() == 1 && article(&self.out[0]);
        before && !self.chars[self.at..].iter().any(|c| c.is_alphanumeric() || matches!(c, '\\' | '$'))
    }

    /// Whether a number that was a word stands directly before, as in `two thirds` and `three-quarters`.
    fn is_after_number_word(&self) -> bool {
        let dash = matches!(self.out.last().map(|t| &t.tok), Some(Tok::Op('-')));
        let numbers = self.out.len() - usize::from(dash);
        numbers > 0 && self.from_word == numbers
    }

    /// `(1, 2) U (3, 4)`.
    fn is_between_sets(&self) -> bool {
        let next = self.chars[self.at..].iter().find(|c| **c != ' ');
        matches!(self.out.last().map(|t| &t.tok), Some(Tok::Close(_)))
            && matches!(next, Some('(' | '[' | '{' | '\\'))
    }

    /// Whether only currency signs, points and spaces stand before the next digit.
    fn is_before_amount(&self) -> bool {
        let rest = self.chars[self.at..].iter().take(8);
        rest.copied()
            .find(|c| !matches!(c, ' ' | '.' | '$' | '\\' | '~' | ':'))
            .is_some_and(|c| c.is_ascii_digit())
    }

    /// Joins a number word to what stands before it: `twenty-one`, `two hundred (and) five`, `7 (seven)`.
    pub(super) fn number_from_word(&mut self, value: &str) {
        let last = |back: usize| self.out.len().checked_sub(back).map(|i| &self.out[i].tok);
        let is_tens =
            |t: Option<&Tok>| matches!(t, Some(Tok::Num(n)) if n.len() == 2 && n.ends_with('0') && n != "10");
        let unit = value.len() == 1 && value != "0";
        if self.peek(0) == ')'
            && matches!(last(1), Some(Tok::Open('(')))
            && matches!(last(2), Some(Tok::Num(n)) if n == value)
        {
            self.out.pop();
            self.depth = self.depth.saturating_sub(1);
            self.at += 1;
            return;
        }
        if unit && self.from_word == self.out.len() && is_tens(last(1)) {
            self.join_unit(value);
        } else if unit
            && self.from_word + 1 == self.out.len()
            && matches!(last(1), Some(Tok::Op('-')))
            && is_tens(last(2))
        {
            self.out.pop();
            self.join_unit(value);
        } else {
            // "two hundred and five".
            let and = matches!(last(1), Some(Tok::Text(word)) if word == "and")
                && matches!(last(3), Some(Tok::Op('*')))
                && self.from_word + 1 == self.out.len();
            if and && !self.is_before_magnitude() {
                self.out.pop();
            }
            let last = |back: usize| self.out.len().checked_sub(back).map(|i| &self.out[i].tok);
            let magnitude = matches!(last(2), Some(Tok::Op('*'))) && self.from_word == self.out.len();
            if magnitude {
                self.push(Tok::Op('+'));
            }
            self.push(Tok::Num(value.into()));
            self.from_word = self.out.len();
        }
    }

    fn ends_integral(&self, word: &str) -> bool {
        let mut last = word.chars().rev();
        matches!((last.next(), last.next()), (Some('a'..='z'), Some('d')))
            && self.out.iter().any(|t| t.tok == Tok::Cmd("int"))
    }

    fn join_unit(&mut self, value: &str) {
        if let Some(Token { tok: Tok::Num(tens), .. }) = self.out.last_mut() {
            tens.truncate(1);
            tens.push_str(value);
        }
        self.from_word = self.out.len();
    }

    /// A run of letters, or the inside of a `\text{…}` (`upright`).
    pub(super) fn named(&mut self, word: &str, upright: bool) {
        let after_value =
            matches!(self.out.last().map(|t| &t.tok), Some(Tok::Num(_) | Tok::Close(_) | Tok::Sym(_)));
        let lower = word.to_ascii_lowercase();
        let tok = match &*lower {
            "sqrt" => Tok::Cmd("sqrt"),
            "cbrt" => Tok::Cmd("cbrt"),
            "pi" => Tok::Sym("pi".into()),
            "inf" | "infinity" | "oo" | "infty" => Tok::Infinity,
            "percent" | "pct" => Tok::Percent,
            "degree" | "degrees" => Tok::Degree,
            "union" | "cup" if !upright && lower == "union" => Tok::Cup,
            "or" | "and" => Tok::Text(lower.clone()),
            _ if function(&lower).is_some() && !(after_value && UNITS.contains(&word)) => {
                Tok::Func(function(&lower).unwrap_or("sin"))
            }
            _ if number_word(word).is_some() => {
                return self.number_from_word(number_word(word).unwrap_or("0"));
            }
            _ if magnitude(&lower).is_some()
                && matches!(self.out.last().map(|t| &t.tok), Some(Tok::Num(_))) =>
            {
                self.push(Tok::Op('*'));
                self.push(Tok::Num(magnitude(&lower).unwrap_or("1").into()));
                self.from_word = self.out.len();
                return;
            }
            _ if denominator(&lower).is_some()
                && (self.is_after_number_word() || self.counts_parts(&lower)) =>
            {
                if matches!(self.out.last().map(|t| &t.tok), Some(Tok::Op('-'))) {
                    self.out.pop();
                }
                self.push(Tok::Op('/'));
                self.push(Tok::Num(denominator(&lower).unwrap_or("1").into()));
                return;
            }
            _ if self.is_alone()
                && (lower == "half" || !self.out.is_empty() && denominator(&lower).is_some()) =>
            {
                self.out.clear();
                self.push(Tok::Num("1".into()));
                self.push(Tok::Op('/'));
                self.push(Tok::Num(denominator(&lower).unwrap_or("1").into()));
                return;
            }
            _ if !self.out.is_empty() && self.is_alone() && magnitude(&lower).is_some() => {
                self.out.clear();
                self.push(Tok::Num(magnitude(&lower).unwrap_or("1").into()));
                self.from_word = self.out.len();
                return;
            }
            _ if is_minus(&lower) && self.is_before_number() => Tok::Op('-'),
            "u" if word == "U" && self.is_between_sets() => Tok::Cup,
            _ if GREEK.contains(&word) && !(upright && after_value) => Tok::Sym(word.into()),
            _ if word.len() == 1 => Tok::Sym(word.into()),
            _ if after_value && is_unit(word) => Tok::Text(word.into()),
            // "xdx" and "dxdy" behind an integral sign.
            _ if word.len() <= 6 && self.ends_integral(word) => {
                for c in word.chars() {
                    self.push(Tok::Sym(c.into()));
                }
                return;
            }
            // AM is the name of a line, but 5 AM is a time.
            _ if word.len() > 3
                || upright
                || is_short_word(&lower) && (after_value || word.chars().any(|c| c.is_ascii_lowercase())) =>
            {
                Tok::Text(word.into())
            }
            _ => {
                for c in word.chars() {
                    self.push(Tok::Sym(c.into()));
                }
                return;
            }
        };
        self.push(tok);
    }

    /// The inside of `\\text{…}` when it is one of the phrases that are mathematics.
    pub(super) fn phrase(&mut self, inner: &str) -> bool {
        let lower = inner.to_ascii_lowercase();
        let reals = |s: &str| {
            let s = s.strip_prefix("the set of ").unwrap_or(s);
            matches!(
                s,
                "all real numbers"
                    | "all reals"
                    | "all real"
                    | "real numbers"
                    | "reals"
                    | "all real values"
                    | "all real number"
            )
        };
        let (head, except) = match lower.strip_suffix("except").or_else(|| lower.strip_suffix("except for")) {
            Some(head) => (head.trim(), true),
            None => (&*lower, false),
        };
        if !reals(head) {
            return false;
        }
        self.push(Tok::Sym("\\mathbbR".into()));
        if except {
            self.push(Tok::Setminus);
        }
        true
    }
}

/// `twenty-one`, `negative one`, `one hundred`.
pub(super) fn is_number_phrase(text: &str) -> bool {
    let mut words = text.split(['-', ' ']);
    let sign =
        matches!(words.next(), Some(w) if number_word(w).is_some() || is_minus(&w.to_ascii_lowercase()));
    let rest = words.all(|w| {
        let lower = w.to_ascii_lowercase();
        number_word(w).is_some() || magnitude(&lower).is_some() || denominator(&lower).is_some()
    });
    sign && rest && text.contains(['-', ' '])
}
