//! Numbers in digits: separators, decimals, periods, exponents, bases.

use super::token::{Lexer, Marks, Tok, Token};
use crate::answer::words::is_dense;

/// A decimal whose digits repeat, as its beginning and its period: `0.1666` is `0.1` and `6`.
fn repeating(number: &str) -> Option<(String, String)> {
    let (whole, digits) = number.split_once('.')?;
    let bytes = digits.as_bytes();
    if bytes.len() > 64 {
        return None;
    }
    for start in 0..=3usize.min(bytes.len()) {
        let rest = &bytes[start..];
        for period in 1..=rest.len() / 2 {
            let covers = rest.len() >= 3 || start == 0;
            if covers && rest.iter().zip(&rest[period..]).all(|(a, b)| a == b) {
                return Some((format!("{whole}.{}", &digits[..start]), digits[start..start + period].into()));
            }
        }
    }
    None
}

impl Lexer {
    pub(super) fn digits(&self, mut at: usize) -> usize {
        let start = at;
        while self.chars.get(at).is_some_and(char::is_ascii_digit) {
            at += 1;
        }
        at - start
    }

    /// Length of a thousands separator at `at`, when three digits and no fourth follow it.
    fn separator(&self, at: usize) -> Option<usize> {
        let rest: String = self.chars[at..].iter().take(4).collect();
        let comma = self.marks.has_comma() && self.depth == 0;
        let len = if comma && rest.starts_with("{,}") {
            return None;
        } else if self.marks == Marks::Comma && self.depth == 0 && rest.starts_with('.') {
            1
        } else if rest.starts_with("{,}") {
            3
        } else if rest.starts_with(",\\!") {
            3 + usize::from(rest.ends_with(' '))
        } else if rest.starts_with("\\,")
            || rest.starts_with("\\ ")
            || rest.starts_with("\\;")
            || rest.starts_with("\\!")
        {
            2
        } else if self.depth == 0
            && (rest.starts_with(['\'', '_'])
                || (self.marks == Marks::Grouped && rest.starts_with(',')
                    || self.marks != Marks::Listed && rest.starts_with(' ')))
        {
            1
        } else {
            return None;
        };
        let plain_space = rest.starts_with(' ');
        let after = at + len;
        let fraction = plain_space && {
            let mut next = after + 3;
            while self.chars.get(next) == Some(&' ') {
                next += 1;
            }
            self.chars.get(next) == Some(&'/')
        };
        (self.digits(after) == 3 && !fraction).then_some(len)
    }

    /// Length of the dots after a decimal that goes on: `0.333...`.
    fn continues(&self) -> Option<usize> {
        let dots = ["\\ldots", "\\dots", "\\cdots", "…", "..."];
        let len = dots.iter().find(|d| self.starts(d))?.chars().count();
        let more = if self.peek(len) == '.' { 1 } else { 0 };
        (!self.peek(len + more).is_alphanumeric()).then_some(len + more)
    }

    /// Pushes a number such as `2A_{16}` and gives its length; none when there is none here.
    pub(super) fn based(&mut self) -> Option<usize> {
        let len = self.chars[self.at..].iter().take(65).take_while(|c| c.is_ascii_alphanumeric()).count();
        let digits: String = self.chars[self.at..self.at + len].iter().collect();
        if len > 64 || self.peek(len) != '_' || !digits.bytes().any(|b| b.is_ascii_alphabetic()) {
            return None;
        }
        let braced = usize::from(self.peek(len + 1) == '{');
        let start = self.at + len + 1 + braced;
        let count = self.digits(start);
        let label: String = self.chars[start..start + count].iter().collect();
        let base: u32 = label.parse().ok().filter(|b| (11..=36).contains(b))?;
        if braced == 1 && self.chars.get(start + count) != Some(&'}') {
            return None;
        }
        if !digits.chars().all(|c| c.is_digit(base)) {
            return None;
        }
        self.push(Tok::Based(digits.to_ascii_uppercase(), base));
        Some(len + 1 + braced + count + braced)
    }

    /// Length of a decimal comma here: where commas are read so, and typeset as `3{,}5` everywhere.
    fn decimal_comma(&self, whole: usize) -> Option<usize> {
        let (mark, digits) = match () {
            () if self.starts("{,}") => (3, self.digits(self.at + 3)),
            () if self.peek(0) == ',' && self.depth == 0 => (1, self.digits(self.at + 1)),
            () => return None,
        };
        let next = self.chars.get(self.at + mark + digits).copied().unwrap_or(' ');
        let after = self.chars.get(self.at + mark + digits + 1).copied().unwrap_or(' ');
        // 1,2,3 is a list, and so is 1,2 behind another item.
        let list = matches!(next, ',' | '.') && after.is_ascii_digit()
            || mark == 1 && self.out.last().is_some_and(|t| t.tok == Tok::Comma && !self.space);
        let read = self.marks.has_comma() || mark == 3 && digits != 3;
        (whole > 0 && digits > 0 && !list && read).then_some(mark)
    }

    /// Whether a number such as 1.234,5 stands here: thousands separators and another decimal mark, which nothing else
    /// looks like.
    fn has_decimals_behind_groups(&self, separators: &[char], mark: char) -> bool {
        let whole = self.digits(self.at);
        let start = self.at + whole;
        let mut at = start;
        while self.chars.get(at).is_some_and(|c| separators.contains(c)) && self.digits(at + 1) == 3 {
            at += 4;
        }
        let digits = if self.chars.get(at) == Some(&mark) { self.digits(at + 1) } else { 0 };
        let next = self.chars.get(at + 1 + digits).copied().unwrap_or(' ');
        let goes_on = matches!(next, ',' | '.') && self.digits(at + 2 + digits) > 0;
        self.depth == 0 && (1..=3).contains(&whole) && at > start && digits > 0 && !goes_on
    }

    /// 1만 5천: behind a space, digits with a magnitude of their own.
    fn is_smaller_magnitude(&self) -> bool {
        let next = self.peek(self.digits(self.at));
        matches!(next, '천' | '백' | '십' | '만' | '千' | '百' | '万' | '萬')
    }

    pub(super) fn number(&mut self) {
        // 5万3千: what follows a magnitude without a space is added.
        if self.from_word == self.out.len()
            && (!self.space || self.is_smaller_magnitude())
            && let [.., Token { tok: Tok::Op('*'), .. }, Token { tok: Tok::Num(power), .. }] = &self.out[..]
        {
            // 5万3 is said for 5万3千.
            let digits = self.digits(self.at);
            let full = power.len() == digits + 1 || is_dense(self.peek(digits));
            self.push(if full { Tok::Op('+') } else { Tok::Unread });
        }
        let marks = self.marks;
        if self.has_decimals_behind_groups(&['.', ' '], ',') {
            self.marks = Marks::Comma;
        } else if marks.has_comma() && self.has_decimals_behind_groups(&[','], '.') {
            self.marks = Marks::Grouped;
        }
        self.number_as_marked();
        self.marks = marks;
    }

    fn number_as_marked(&mut self) {
        if let Some(len) = self.based() {
            return self.at += len;
        }
        let mut number = String::new();
        let whole = self.digits(self.at);
        number.extend(&self.chars[self.at..self.at + whole]);
        self.at += whole;
        self.thousands(whole, &mut number);
        if let Some(mark) = self.decimal_comma(whole) {
            let fraction = self.digits(self.at + mark);
            number.retain(|c| c != '.');
            number.push('.');
            number.extend(&self.chars[self.at + mark..self.at + mark + fraction]);
            self.at += mark + fraction;
            self.push(Tok::Num(number));
            return;
        }
        let dot = if self.starts("{.}") { 3 } else { 1 };
        if (self.peek(0) == '.' || dot == 3) && self.peek(dot).is_ascii_digit() {
            let fraction = self.digits(self.at + dot);
            let after = self.at + dot + fraction;
            // 1.234.567: points as thousands separators.
            let grouped = fraction == 3
                && whole <= 3
                && self.chars.get(after) == Some(&'.')
                && self.digits(after + 1) == 3;
            if grouped {
                while self.peek(0) == '.' && self.digits(self.at + 1) == 3 {
                    number.extend(&self.chars[self.at + 1..self.at + 4]);
                    self.at += 4;
                }
            } else {
                number.push('.');
                number.extend(&self.chars[self.at + dot..after]);
                self.at = after;
            }
        } else if self.peek(0) == '.'
            && (self.starts(".\\overline")
                || self.starts(".\\bar")
                || self.starts(".\\dot{")
                || self.starts(".("))
        {
            number.push('.');
            self.at += 1;
        } else if self.peek(0) == '.'
            && !self.peek(1).is_alphanumeric()
            && self.peek(1) != '.'
            && self.peek(1) != '\\'
        {
            self.at += 1;
        }
        if number.contains('.')
            && let Some(len) = self.continues()
        {
            self.at += len;
            if let Some((prefix, period)) = repeating(&number) {
                self.push(Tok::Num(prefix));
                self.push(Tok::Cmd("overline"));
                self.push(Tok::Num(period));
                return;
            }
        }
        // 0.1(6): the period in parentheses.
        let period = if self.peek(0) == '(' && number.contains('.') { self.digits(self.at + 1) } else { 0 };
        if period > 0 && self.peek(period + 1) == ')' {
            let repeat: String = self.chars[self.at + 1..self.at + 1 + period].iter().collect();
            self.at += period + 2;
            self.push(Tok::Num(number));
            self.push(Tok::Cmd("overline"));
            self.push(Tok::Num(repeat));
            return;
        }
        self.push(Tok::Num(number));
        self.exponent();
        self.ordinal();
    }

    /// The rest of a number with separators of thousands, behind its first `whole` digits.
    fn thousands(&mut self, whole: usize, number: &mut String) {
        // 12,34,567: lakhs and crores.
        if self.marks == Marks::Grouped && self.depth == 0 && (1..=2).contains(&whole) {
            let mut at = self.at;
            while self.chars.get(at) == Some(&',') && self.digits(at + 1) == 2 {
                at += 3;
            }
            if at > self.at && self.chars.get(at) == Some(&',') && self.digits(at + 1) == 3 {
                number.extend(self.chars[self.at..at + 4].iter().filter(|c| c.is_ascii_digit()));
                self.at = at + 4;
            }
        }
        if (1..=3).contains(&whole) && *number != "0" {
            while let Some(len) = (self.at < self.chars.len()).then(|| self.separator(self.at)).flatten() {
                number.extend(&self.chars[self.at + len..self.at + len + 3]);
                self.at += len + 3;
            }
        }
    }

    /// 1st, 2nd.
    fn ordinal(&mut self) {
        for suffix in ["st", "nd", "rd", "th"] {
            if self.starts(suffix) && !self.peek(2).is_alphanumeric() {
                self.at += 2;
            }
        }
    }

    /// An exponent as in 1.5e10, written as a factor behind the mantissa.
    fn exponent(&mut self) {
        let mut exponent = String::new();
        if matches!(self.peek(0), 'e' | 'E') {
            let sign = usize::from(matches!(self.peek(1), '+' | '-'));
            let digits = self.digits(self.at + 1 + sign);
            let next = self.chars.get(self.at + 1 + sign + digits).copied().unwrap_or(' ');
            if (1..=4).contains(&digits) && !next.is_alphanumeric() && next != '^' {
                exponent.extend(&self.chars[self.at + 1..self.at + 1 + sign + digits]);
                self.at += 1 + sign + digits;
            }
        }
        if !exponent.is_empty() {
            // Mantissa · 10^{exponent}.
            self.push(Tok::Op('*'));
            self.push(Tok::Num("10".into()));
            self.push(Tok::Op('^'));
            self.push(Tok::Open('{'));
            if exponent.starts_with('-') {
                self.push(Tok::Op('-'));
            }
            self.push(Tok::Num(exponent.trim_start_matches(['+', '-']).to_string()));
            self.push(Tok::Close('}'));
        }
    }
}
