//! LaTeX and plain-text mathematics to tokens. Never fails on a character: what is unknown becomes a symbol.

use super::lexicon::{GREEK, fold, function, magnitude, superscript};
use super::words::is_number_phrase;

/// Tokens of one span; a longer one is refused.
pub const MAX_TOKENS: usize = 4096;

/// A relation sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rel {
    Eq,
    Approx,
    Lt,
    Le,
    Gt,
    Ge,
    Ne,
    In,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Tok {
    /// Digits with at most one point; separators removed.
    Num(String),
    /// A letter, a Greek name, or an unknown command.
    Sym(String),
    /// A named function.
    Func(&'static str),
    /// One of `+ - * / ^ _ ! '`.
    Op(char),
    /// `±` (true) or `∓`.
    Pm(bool),
    Rel(Rel),
    /// `( [ {` for groups, `S` for a set brace, `F` floor, `C` ceiling, `A` absolute value, `<` angle.
    Open(char),
    Close(char),
    Comma,
    Semi,
    Amp,
    Row,
    Bar,
    /// Words, units, `\text{…}`.
    Text(String),
    /// `a \over b` and `n \choose k` within a group.
    Infix(&'static str),
    /// Digits with a base above ten.
    Based(String, u32),
    /// A command with arguments: `frac`, `sqrt`, `binom`, `overline`; `sum`, `prod` and `int`.
    Cmd(&'static str),
    /// The `dx` that ends an integral.
    Differential(String),
    /// An integral over a variable whose differential stands within its body.
    IntegralOver(String),
    Begin(String),
    End,
    Percent,
    Degree,
    Cup,
    Cap,
    Setminus,
    Empty,
    Infinity,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub tok: Tok,
    /// White space before it.
    pub space: bool,
}

/// Tokens of `text`; `group_commas` reads `1,234` outside of brackets as one number. None above [`MAX_TOKENS`].
///
/// The flag says whether a dollar sign that is no delimiter stands before a number.
pub fn tokenize(text: &str, group_commas: bool) -> Option<(Vec<Token>, bool)> {
    let mut lexer = Lexer {
        chars: fold(text),
        at: 0,
        out: Vec::new(),
        space: false,
        depth: 0,
        group_commas,
        from_word: usize::MAX - 1,
        currency: false,
    };
    while lexer.at < lexer.chars.len() {
        lexer.step();
        if lexer.out.len() > MAX_TOKENS {
            return None;
        }
    }
    Some((lexer.out, lexer.currency))
}

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

/// The state of the tokenizer.
pub(super) struct Lexer {
    pub(super) chars: Vec<char>,
    pub(super) at: usize,
    pub(super) out: Vec<Token>,
    pub(super) space: bool,
    /// Open brackets that make commas separate.
    pub(super) depth: usize,
    pub(super) group_commas: bool,
    /// Whether a `\$` stands before a number.
    pub(super) currency: bool,
    /// Tokens up to and with the last number that was a word.
    pub(super) from_word: usize,
}

impl Lexer {
    pub(super) fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    pub(super) fn push(&mut self, tok: Tok) {
        match tok {
            Tok::Open('(' | '[' | 'S' | '<') => self.depth += 1,
            Tok::Close(')' | ']' | 'S' | '<') => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.out.push(Token { tok, space: std::mem::take(&mut self.space) });
    }

    pub(super) fn starts(&self, what: &str) -> bool {
        what.chars().enumerate().all(|(i, c)| self.peek(i) == c)
    }

    fn step(&mut self) {
        let c = self.peek(0);
        match c {
            '0'..='9' => return self.number(),
            '.' if self.peek(1).is_ascii_digit() => return self.number(),
            '\\' => return self.command(),
            c if c.is_ascii_alphabetic() => return self.word(),
            _ => {}
        }
        self.at += 1;
        match c {
            c if c.is_whitespace() => self.space = true,
            '$' | '€' | '£' | '¥' | '₹' | '₽' | '₩' | '`' | '~' | '"' | '\u{200b}' | '\u{2061}'
            | '\u{2062}' | '“' | '”' => {}
            '.' | '?' | '。' => {}
            '*' if self.peek(0) == '*' => {
                // `**` is a power between values and Markdown bold elsewhere.
                self.at += 1;
                let value = matches!(
                    self.out.last().map(|t| &t.tok),
                    Some(Tok::Num(_) | Tok::Sym(_) | Tok::Close(_))
                );
                let next = self.peek(0);
                if value && (next.is_ascii_alphanumeric() || matches!(next, '(' | '-' | ' ')) {
                    self.push(Tok::Op('^'));
                }
            }
            '+' | '-' if self.peek(0) == '/' && matches!(self.peek(1), '-' | '+') => {
                self.at += 2;
                self.push(Tok::Pm(c == '+'));
            }
            '^' if self.is_degree_letter() => {
                self.at += if self.peek(0) == '{' { 3 } else { 1 };
                self.push(Tok::Degree);
            }
            '+' | '-' | '*' | '/' | '^' | '_' | '!' | '\'' => {
                if c == '!' && self.peek(0) == '=' {
                    self.at += 1;
                    return self.push(Tok::Rel(Rel::Ne));
                }
                self.push(Tok::Op(c));
            }
            ':' if self.peek(0) == '=' => {}
            ':' => self.push(Tok::Op(':')),
            '=' => {
                while self.peek(0) == '=' {
                    self.at += 1;
                }
                self.push(Tok::Rel(Rel::Eq));
            }
            '<' | '>' => {
                let equal = self.peek(0) == '=';
                self.at += usize::from(equal);
                self.push(Tok::Rel(match (c, equal) {
                    ('<', false) => Rel::Lt,
                    ('<', true) => Rel::Le,
                    (_, false) => Rel::Gt,
                    (_, true) => Rel::Ge,
                }));
            }
            '≤' | '⩽' | '≦' => self.push(Tok::Rel(Rel::Le)),
            '≥' | '⩾' | '≧' => self.push(Tok::Rel(Rel::Ge)),
            '≠' => self.push(Tok::Rel(Rel::Ne)),
            '≈' | '≃' | '≅' => self.push(Tok::Rel(Rel::Approx)),
            '∈' => self.push(Tok::Rel(Rel::In)),
            '±' => self.push(Tok::Pm(true)),
            '∓' => self.push(Tok::Pm(false)),
            '{' if self.peek(0) == '}' && self.is_empty_group() => self.at += 1,
            '(' | '[' | '{' => self.push(Tok::Open(c)),
            ')' | ']' | '}' => self.push(Tok::Close(c)),
            '¢' => self.push(Tok::Text("cents".into())),
            'ℝ' | 'ℕ' | 'ℤ' | 'ℚ' | 'ℂ' => {
                let plain = "RNZQC".chars().nth("ℝℕℤℚℂ".chars().position(|b| b == c).unwrap_or(0));
                self.push(Tok::Sym(format!("\\mathbb{}", plain.unwrap_or('R'))));
            }
            '…' => {}
            '⟨' => self.push(Tok::Open('<')),
            '⟩' => self.push(Tok::Close('<')),
            '⌊' => self.push(Tok::Open('F')),
            '⌋' => self.push(Tok::Close('F')),
            '⌈' => self.push(Tok::Open('C')),
            '⌉' => self.push(Tok::Close('C')),
            ',' => self.push(Tok::Comma),
            ';' => self.push(Tok::Semi),
            '&' => self.push(Tok::Amp),
            '|' => self.push(Tok::Bar),
            '%' | '‰' => self.push(Tok::Percent),
            '°' | 'º' | '˚' => self.push(Tok::Degree),
            '∪' => self.push(Tok::Cup),
            '∩' => self.push(Tok::Cap),
            '∖' => self.push(Tok::Setminus),
            '∅' => self.push(Tok::Empty),
            '∞' => self.push(Tok::Infinity),
            'π' => self.push(Tok::Sym("pi".into())),
            'θ' => self.push(Tok::Sym("theta".into())),
            '√' => self.push(Tok::Cmd("sqrt")),
            '∑' => self.push(Tok::Cmd("sum")),
            '∏' => self.push(Tok::Cmd("prod")),
            '∫' => self.push(Tok::Cmd("int")),
            '∛' => self.push(Tok::Cmd("cbrt")),
            '¼' | '½' | '¾' | '⅓' | '⅔' | '⅕' | '⅖' | '⅗' | '⅘' | '⅙' | '⅚' | '⅛' | '⅜' | '⅝' | '⅞' =>
            {
                let (n, d) = match c {
                    '¼' => ("1", "4"),
                    '½' => ("1", "2"),
                    '¾' => ("3", "4"),
                    '⅓' => ("1", "3"),
                    '⅔' => ("2", "3"),
                    '⅕' => ("1", "5"),
                    '⅖' => ("2", "5"),
                    '⅗' => ("3", "5"),
                    '⅘' => ("4", "5"),
                    '⅙' => ("1", "6"),
                    '⅚' => ("5", "6"),
                    '⅛' => ("1", "8"),
                    '⅜' => ("3", "8"),
                    '⅝' => ("5", "8"),
                    _ => ("7", "8"),
                };
                self.push(Tok::Cmd("frac"));
                for part in [n, d] {
                    self.push(Tok::Open('{'));
                    self.push(Tok::Num(part.into()));
                    self.push(Tok::Close('}'));
                }
            }
            c if superscript(c).is_some() => {
                self.push(Tok::Op('^'));
                self.push(Tok::Open('{'));
                let mut digits = String::new();
                let mut next = Some(c);
                while let Some(s) = next.and_then(superscript) {
                    match s {
                        '-' => self.push(Tok::Op('-')),
                        s if s.is_ascii_digit() => digits.push(s),
                        s => self.push(Tok::Sym(s.into())),
                    }
                    next = Some(self.peek(0));
                    if superscript(self.peek(0)).is_some() {
                        self.at += 1;
                    }
                }
                if !digits.is_empty() {
                    self.push(Tok::Num(digits));
                }
                self.push(Tok::Close('}'));
            }
            c if ('₀'..='₉').contains(&c) => {
                self.push(Tok::Op('_'));
                let mut digits = String::new();
                digits.push(char::from(b'0' + (c as u32 - '₀' as u32) as u8));
                while ('₀'..='₉').contains(&self.peek(0)) {
                    digits.push(char::from(b'0' + (self.peek(0) as u32 - '₀' as u32) as u8));
                    self.at += 1;
                }
                self.push(Tok::Num(digits));
            }
            c if c.is_alphabetic() => {
                // Greek letters are symbols; a run of any other script is a word.
                if ('\u{370}'..='\u{3ff}').contains(&c) {
                    self.push(Tok::Sym(c.into()));
                } else {
                    let mut word = String::from(c);
                    while self.peek(0).is_alphabetic() {
                        word.push(self.peek(0));
                        self.at += 1;
                    }
                    self.push(Tok::Text(word));
                }
            }
            c if c.is_control() => {}
            c => self.push(Tok::Sym(c.into())),
        }
    }

    /// `{}` has no meaning where other things stand around it, but after a command it is an argument.
    fn is_empty_group(&self) -> bool {
        self.chars.len() > 2
            && !matches!(
                self.out.last().map(|t| &t.tok),
                Some(Tok::Cmd(_) | Tok::Func(_) | Tok::Op(_)) | Some(Tok::Close('}'))
            )
    }

    /// `60^o` and `60^{o}`: a letter for the degree sign.
    fn is_degree_letter(&self) -> bool {
        let after_number = matches!(self.out.last().map(|t| &t.tok), Some(Tok::Num(_)));
        after_number && (self.starts("{o}") || self.peek(0) == 'o' && !self.peek(1).is_alphanumeric())
    }

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
        let len = if rest.starts_with("{,}") {
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
            && (rest.starts_with(['\'', '_']) || self.group_commas && rest.starts_with([',', ' ']))
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

    fn number(&mut self) {
        if let Some(len) = self.based() {
            return self.at += len;
        }
        let mut number = String::new();
        let whole = self.digits(self.at);
        number.extend(&self.chars[self.at..self.at + whole]);
        self.at += whole;
        if (1..=3).contains(&whole) && number != "0" {
            while let Some(len) = (self.at < self.chars.len()).then(|| self.separator(self.at)).flatten() {
                number.extend(&self.chars[self.at + len..self.at + len + 3]);
                self.at += len + 3;
            }
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
        self.push(Tok::Num(number));
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
        for suffix in ["st", "nd", "rd", "th"] {
            if self.starts(suffix) && !self.peek(2).is_alphanumeric() {
                self.at += 2;
            }
        }
    }

    /// The raw text of a brace group that starts here (after optional spaces), and moves past it.
    pub(super) fn group(&mut self) -> Option<String> {
        let mut at = self.at;
        while self.chars.get(at) == Some(&' ') {
            at += 1;
        }
        if self.chars.get(at) != Some(&'{') {
            return None;
        }
        let start = at + 1;
        let mut depth = 0usize;
        while let Some(c) = self.chars.get(at) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 {
                self.at = at;
                return Some(self.chars[start..at - 1].iter().collect());
            }
        }
        self.at = self.chars.len();
        Some(self.chars[start.min(self.at)..].iter().collect())
    }

    /// `\\\\[2pt]`: the gap after a row.
    fn skip_row_gap(&mut self) {
        if self.peek(0) != '[' {
            return;
        }
        let len = self.chars[self.at..].iter().take(12).position(|c| *c == ']');
        let inner: String =
            len.map_or(String::new(), |len| self.chars[self.at + 1..self.at + len].iter().collect());
        if let Some(len) = len
            && ["pt", "em", "ex", "cm", "mm"].iter().any(|unit| inner.ends_with(unit))
        {
            self.at += len + 1;
        }
    }

    /// `ℝ \\ {0}` in plain text.
    fn is_set_difference(&self) -> bool {
        matches!(self.out.last().map(|t| &t.tok), Some(Tok::Sym(s)) if s.starts_with("\\mathbb"))
            && matches!(self.peek(0), '{' | '\\')
    }

    fn command(&mut self) {
        self.at += 1;
        let c = self.peek(0);
        if !c.is_ascii_alphabetic() {
            self.at += 1;
            match c {
                '{' => self.push(Tok::Open('S')),
                '}' => self.push(Tok::Close('S')),
                '%' => self.push(Tok::Percent),
                '\\' => {
                    self.push(Tok::Row);
                    self.skip_row_gap();
                }
                '$' => {
                    self.space = true;
                    let next = self.chars[self.at..].iter().find(|c| **c != ' ');
                    if next.is_some_and(|c| c.is_ascii_digit() || *c == '.') {
                        self.currency = true;
                    }
                }
                ' ' if self.is_set_difference() => self.push(Tok::Setminus),
                '|' => self.push(Tok::Bar),
                ' ' | '\n' | ',' | ';' | ':' | '!' | '(' | ')' | '[' | ']' | '#' | '&' | '\0' => {
                    self.space = true;
                }
                _ => self.at -= 1,
            }
            return;
        }
        let start = self.at;
        while self.peek(0).is_ascii_alphabetic() {
            self.at += 1;
        }
        let name: String = self.chars[start..self.at].iter().collect();
        match &*name {
            "left" | "right" | "big" | "Big" | "bigg" | "Bigg" | "bigl" | "bigr" | "Bigl" | "Bigr"
            | "biggl" | "biggr" | "middle" => {
                if self.peek(0) == '.' {
                    self.at += 1;
                }
            }
            "displaystyle" | "scriptstyle" | "tiny" | "small" | "normalsize" | "large" | "Large"
            | "LARGE" | "huge" | "Huge" | "underline" | "textstyle" | "limits" | "quad" | "qquad"
            | "enspace" | "thinspace" | "space" | "hfill" | "rm" | "bf" | "it" | "boldsymbol" | "boxed"
            | "fbox" | "hbox" | "nonumber" | "mathstrut" | "therefore" | "cdotp" | "unicode" => {
                self.space = true
            }
            "frac" | "dfrac" | "tfrac" | "cfrac" | "sfrac" | "nicefrac" | "frac1" => {
                self.push(Tok::Cmd("frac"))
            }
            "color" | "textcolor" | "hspace" | "vspace" | "phantom" | "hphantom" | "vphantom" | "label"
            | "tag" => {
                self.group();
                self.space = true;
            }
            "over" => self.push(Tok::Infix("frac")),
            "choose" => self.push(Tok::Infix("binom")),
            "sqrt" | "surd" => self.push(Tok::Cmd("sqrt")),
            "binom" | "dbinom" | "tbinom" => self.push(Tok::Cmd("binom")),
            "sum" => self.push(Tok::Cmd("sum")),
            "prod" => self.push(Tok::Cmd("prod")),
            "int" => self.push(Tok::Cmd("int")),
            "overline" | "bar" | "dot" => self.push(Tok::Cmd("overline")),
            "cdot" | "times" | "ast" | "bullet" => self.push(Tok::Op('*')),
            "div" | "slash" => self.push(Tok::Op('/')),
            "colon" => self.push(Tok::Op(':')),
            "pm" => self.push(Tok::Pm(true)),
            "mp" => self.push(Tok::Pm(false)),
            "lt" => self.push(Tok::Rel(Rel::Lt)),
            "gt" => self.push(Tok::Rel(Rel::Gt)),
            "le" | "leq" | "leqslant" => self.push(Tok::Rel(Rel::Le)),
            "ge" | "geq" | "geqslant" => self.push(Tok::Rel(Rel::Ge)),
            "ne" | "neq" => self.push(Tok::Rel(Rel::Ne)),
            "approx" | "simeq" | "cong" | "sim" => self.push(Tok::Rel(Rel::Approx)),
            "in" => self.push(Tok::Rel(Rel::In)),
            "cup" | "bigcup" => self.push(Tok::Cup),
            "cap" | "bigcap" => self.push(Tok::Cap),
            "setminus" | "backslash" => self.push(Tok::Setminus),
            "emptyset" | "varnothing" => self.push(Tok::Empty),
            "infty" | "infin" => self.push(Tok::Infinity),
            "lbrace" => self.push(Tok::Open('S')),
            "rbrace" => self.push(Tok::Close('S')),
            "lbrack" => self.push(Tok::Open('[')),
            "rbrack" => self.push(Tok::Close(']')),
            "langle" => self.push(Tok::Open('<')),
            "rangle" => self.push(Tok::Close('<')),
            "lfloor" => self.push(Tok::Open('F')),
            "rfloor" => self.push(Tok::Close('F')),
            "lceil" => self.push(Tok::Open('C')),
            "rceil" => self.push(Tok::Close('C')),
            "lvert" => self.push(Tok::Open('A')),
            "rvert" => self.push(Tok::Close('A')),
            "vert" | "mid" | "Vert" => self.push(Tok::Bar),
            "circ" | "degree" | "deg" => {
                // `^\circ` and `^{\circ}`: the power sign before it belongs to it.
                if matches!(self.out.last().map(|t| &t.tok), Some(Tok::Open('{'))) && self.peek(0) == '}' {
                    self.out.pop();
                    self.at += 1;
                }
                if matches!(self.out.last().map(|t| &t.tok), Some(Tok::Op('^'))) {
                    self.out.pop();
                }
                self.push(Tok::Degree);
            }
            "percent" => self.push(Tok::Percent),
            "prime" => self.push(Tok::Op('\'')),
            "land" | "wedge" => self.push(Tok::Text("and".into())),
            "lor" | "vee" => self.push(Tok::Text("or".into())),
            "varphi" => self.push(Tok::Sym("phi".into())),
            "varepsilon" => self.push(Tok::Sym("epsilon".into())),
            "vartheta" => self.push(Tok::Sym("theta".into())),
            "begin" => {
                let env = self.group().unwrap_or_default();
                if env.starts_with("array") {
                    self.group();
                }
                self.push(Tok::Begin(env));
            }
            "end" => {
                self.group();
                self.push(Tok::End);
            }
            "text" | "textbf" | "textit" | "textrm" | "textnormal" | "mathrm" | "mathbf" | "mathit"
            | "mathsf" | "mbox" | "mathbb" | "mathcal" | "operatorname" | "emph" | "texttt" | "vec"
            | "hat" | "tilde" | "widehat" => {
                let Some(inner) = self.group() else { return };
                let trimmed = inner.trim();
                let letters = trimmed.chars().all(|c| c.is_ascii_alphabetic());
                if trimmed.is_empty() {
                    self.space = true;
                } else if self.phrase(trimmed) {
                } else if name == "mathbb" && trimmed.len() == 1 {
                    self.push(Tok::Sym(format!("\\mathbb{trimmed}")));
                } else if letters && (name == "operatorname" || trimmed.len() == 1) {
                    self.named(trimmed, false);
                } else if letters {
                    self.named(trimmed, true);
                } else if let Some((first, rest)) = trimmed.split_once(' ')
                    && magnitude(first).is_some()
                    && matches!(self.out.last().map(|t| &t.tok), Some(Tok::Num(_)))
                    && rest.chars().all(|c| c.is_ascii_alphabetic() || c == ' ')
                {
                    self.named(first, true);
                    self.push(Tok::Text(rest.trim().to_string()));
                } else if trimmed.chars().any(char::is_alphabetic) && !trimmed.contains(['\\', '$', '{']) {
                    let has_digit = trimmed.chars().any(|c| c.is_ascii_digit());
                    let first_digit = trimmed.starts_with(|c: char| c.is_ascii_digit() || c == '-');
                    if has_digit && first_digit || is_number_phrase(trimmed) {
                        self.splice(trimmed);
                    } else if let Some(word) =
                        ["and", "or"].into_iter().find(|w| trimmed.trim_matches(',').trim() == *w)
                    {
                        self.push(Tok::Text(word.into()));
                    } else if let Some(name) = trimmed.strip_suffix(':') {
                        self.push(Tok::Text(name.trim_end().to_string()));
                        self.push(Tok::Op(':'));
                    } else {
                        self.push(Tok::Text(trimmed.to_string()));
                    }
                } else {
                    self.splice(trimmed);
                }
            }
            other if function(other).is_some() => self.push(Tok::Func(function(other).unwrap_or("sin"))),
            "pi" => self.push(Tok::Sym("pi".into())),
            other if GREEK.contains(&other) => self.push(Tok::Sym(other.into())),
            other => {
                let symbol = format!("\\{other}");
                self.push(Tok::Sym(symbol));
            }
        }
    }

    /// Puts `inner` in front of what remains. It is strictly shorter than what was consumed, so this ends.
    fn splice(&mut self, inner: &str) {
        let inner: Vec<char> = inner.chars().collect();
        self.at -= inner.len();
        let at = self.at;
        self.chars[at..at + inner.len()].copy_from_slice(&inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &[Tok]) {
        let got: Vec<Tok> = tokenize(text, true).unwrap().0.into_iter().map(|t| t.tok).collect();
        assert_eq!(got, want, "{text:?}");
    }

    fn num(s: &str) -> Tok {
        Tok::Num(s.into())
    }

    #[test]
    fn numbers() {
        check("1,234,567.5", &[num("1234567.5")]);
        check("1{,}234", &[num("1234")]);
        check("1,\\!234", &[num("1234")]);
        check("12 345", &[num("12345")]);
        check("(1,234)", &[Tok::Open('('), num("1"), Tok::Comma, num("234"), Tok::Close(')')]);
        check("1, 2", &[num("1"), Tok::Comma, num("2")]);
        check("1,23", &[num("1"), Tok::Comma, num("23")]);
        check(".5", &[num(".5")]);
        check("42.", &[num("42")]);
        check("٤٢", &[num("42")]);
        check("４２", &[num("42")]);
    }

    #[test]
    fn words_and_commands() {
        check("5 cm", &[num("5"), Tok::Text("cm".into())]);
        check("5\\text{ cm}", &[num("5"), Tok::Text("cm".into())]);
        check("xy", &[Tok::Sym("x".into()), Tok::Sym("y".into())]);
        check("45^\\circ", &[num("45"), Tok::Degree]);
        check("45^{\\circ}", &[num("45"), Tok::Degree]);
        check("\\text{12}", &[num("12")]);
        check("\\$5", &[num("5")]);
    }
}
