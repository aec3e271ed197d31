//! LaTeX and plain-text mathematics to tokens. Never fails on a character: what is unknown becomes a symbol.

use super::lexicon::{fold, superscript};

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
    /// Words that change the value in a way that is not understood.
    Unread,
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

/// How commas and points between digits are read outside of brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// `1,234` is a thousand, `3.5` has a decimal point.
    Grouped,
    /// `1,234` is two numbers.
    Listed,
    /// `3,5` has a decimal comma and `1.234` is a thousand; `3.5` still has a decimal point.
    Comma,
    /// The same, but `1.234` has a decimal point.
    CommaOrPoint,
}

impl Marks {
    pub(super) fn has_comma(self) -> bool {
        matches!(self, Self::Comma | Self::CommaOrPoint)
    }
}

/// Tokens of `text` with numbers as `marks` says. None above [`MAX_TOKENS`].
///
/// The flag says whether a dollar sign that is no delimiter stands before a number.
pub fn tokenize(text: &str, marks: Marks) -> Option<(Vec<Token>, bool)> {
    let mut lexer = Lexer {
        chars: fold(text),
        at: 0,
        out: Vec::new(),
        space: false,
        depth: 0,
        marks,
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

/// The state of the tokenizer.
pub(super) struct Lexer {
    pub(super) chars: Vec<char>,
    pub(super) at: usize,
    pub(super) out: Vec<Token>,
    pub(super) space: bool,
    /// Open brackets that make commas separate.
    pub(super) depth: usize,
    pub(super) marks: Marks,
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
            '$' if self.is_price() => self.currency = true,
            '$' | '€' | '£' | '¥' | '₹' | '₽' | '₩' | '`' | '~' | '"' | '\u{200b}' | '\u{2061}'
            | '\u{2062}' | '“' | '”' => {}
            '.' | '?' | '。' | '।' => {}
            '\'' if self.skips_ending() => {}
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
                if c == '!' && self.peek(0) == '=' && !self.is_factorial() {
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
            '(' if self.skips_restatement() => {}
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
            '%' => self.push(Tok::Percent),
            '‰' => {
                self.push(Tok::Op('/'));
                self.push(Tok::Num("1000".into()));
            }
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
                if ('\u{370}'..='\u{3ff}').contains(&c) && !self.is_greek_word() {
                    self.push(Tok::Sym(c.into()));
                } else {
                    self.at -= 1;
                    self.foreign();
                }
            }
            c if c.is_control() => {}
            c => self.push(Tok::Sym(c.into())),
        }
    }

    /// Whether the sign that was read in `5!=120` is that of a factorial and does not deny the equality: it stands right
    /// behind a number, and a value follows that is no mere letter.
    fn is_factorial(&self) -> bool {
        let attached = !self.space && matches!(self.out.last().map(|t| &t.tok), Some(Tok::Num(_)));
        let next = self.chars[self.at + 1..].iter().find(|c| !c.is_whitespace());
        attached && next.is_some_and(|c| c.is_ascii_digit() || matches!(c, '\\' | '(' | '-' | '{'))
    }

    /// `$460`: a dollar sign before a number that is no delimiter, as it is the only one.
    fn is_price(&self) -> bool {
        self.peek(0).is_ascii_digit()
            && !self.chars[self.at..].contains(&'$')
            && self.at == self.first_dollar()
    }

    /// The place behind the first dollar sign.
    fn first_dollar(&self) -> usize {
        self.chars.iter().position(|c| *c == '$').map_or(0, |at| at + 1)
    }

    /// Whether the letters from the one that was read are a Greek word and no product: accents, or four letters and more.
    fn is_greek_word(&self) -> bool {
        let letters = self.chars[self.at - 1..].iter().take(24).take_while(|c| c.is_alphabetic());
        let accented = |c: &char| "άέήίόύώϊϋΐΰςΆΈΉΊΌΎΏ".contains(*c);
        letters.clone().count() >= 4 || letters.clone().count() >= 2 && letters.clone().any(accented)
    }

    /// Moves past the words of "42 (forty-two)" where they say the number before them.
    fn skips_restatement(&mut self) -> bool {
        let [Token { tok: Tok::Num(number), .. }] = &self.out[..] else { return false };
        let inner: String = self.chars[self.at..].iter().take(64).take_while(|c| **c != ')').collect();
        let len = inner.chars().count();
        let words = self.peek(len) == ')' && super::words::is_number_phrase(&inner);
        let same = words && super::parse::natural(&inner).is_some_and(|value| value == *number);
        self.at += if same { len + 1 } else { 0 };
        same
    }

    /// Moves past the ending of a number behind its apostrophe.
    fn skips_ending(&mut self) -> bool {
        let after_number = matches!(self.out.last().map(|t| &t.tok), Some(Tok::Num(_)));
        let letters: String =
            self.chars[self.at..].iter().take(8).take_while(|c| c.is_alphabetic()).collect();
        let hit = after_number && super::lexicon::is_ending(&letters);
        self.at += if hit { letters.chars().count() } else { 0 };
        hit
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &[Tok]) {
        let got: Vec<Tok> = tokenize(text, Marks::Grouped).unwrap().0.into_iter().map(|t| t.tok).collect();
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
