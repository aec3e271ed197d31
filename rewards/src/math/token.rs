//! LaTeX and plain-text mathematics to tokens. Never fails on a character: what is unknown becomes a symbol.

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
    /// A command with arguments: `frac`, `sqrt`, `binom`, `overline`.
    Cmd(&'static str),
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

/// Letters that are words and no products of symbols, up to three letters long.
const SHORT_WORDS: &[&str] = &[
    "is", "it", "no", "yes", "not", "the", "and", "or", "if", "so", "we", "be", "to", "of", "by", "at", "in",
    "on", "per", "all", "any", "but", "for", "are", "was", "has", "had", "its", "my", "he", "she", "as",
    "an", "us", "do", "red", "odd", "man", "men", "day", "sum", "cup", "box", "car", "pen", "hat", "egg",
    "cat", "dog", "bag", "am", "pm", "new", "old", "out", "off", "per", "may", "who", "you", "now",
];

/// Unit symbols; read as units only directly after a value.
const UNITS: &[&str] = &[
    "cm", "mm", "km", "kg", "mg", "ml", "mL", "ft", "lb", "lbs", "oz", "mph", "hr", "hrs", "min", "sec",
    "Hz", "kHz", "MHz", "Pa", "kPa", "mol", "cal", "kcal", "kJ", "kW", "MW", "mi", "yd", "nm", "dm", "cc",
    "rad", "deg", "USD", "EUR", "GBP", "usd", "kmh", "kph", "gal", "qt", "pt", "rpm", "mA", "mV", "kV", "GB",
    "MB", "KB", "TB", "ms", "ns",
];

const GREEK: &[&str] = &[
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu",
    "nu", "xi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta",
    "Lambda", "Xi", "Pi", "Sigma", "Phi", "Psi", "Omega", "ell",
];

fn function(name: &str) -> Option<&'static str> {
    Some(match name {
        "sin" => "sin",
        "cos" => "cos",
        "tan" | "tg" => "tan",
        "cot" | "ctg" | "cotan" => "cot",
        "sec" => "sec",
        "csc" | "cosec" => "csc",
        "arcsin" | "asin" => "arcsin",
        "arccos" | "acos" => "arccos",
        "arctan" | "atan" | "arctg" => "arctan",
        "sinh" => "sinh",
        "cosh" => "cosh",
        "tanh" => "tanh",
        "ln" => "ln",
        "log" | "lg" => "log",
        "exp" => "exp",
        "abs" => "abs",
        "floor" => "floor",
        "ceil" => "ceil",
        "gcd" => "gcd",
        "lcm" => "lcm",
        "max" => "max",
        "min" => "min",
        _ => return None,
    })
}

fn number_word(word: &str) -> Option<&'static str> {
    const WORDS: &[(&str, &str)] = &[
        ("zero", "0"),
        ("one", "1"),
        ("two", "2"),
        ("three", "3"),
        ("four", "4"),
        ("five", "5"),
        ("six", "6"),
        ("seven", "7"),
        ("eight", "8"),
        ("nine", "9"),
        ("ten", "10"),
        ("eleven", "11"),
        ("twelve", "12"),
        ("thirteen", "13"),
        ("fourteen", "14"),
        ("fifteen", "15"),
        ("sixteen", "16"),
        ("seventeen", "17"),
        ("eighteen", "18"),
        ("nineteen", "19"),
        ("twenty", "20"),
        ("thirty", "30"),
        ("forty", "40"),
        ("fifty", "50"),
        ("sixty", "60"),
        ("seventy", "70"),
        ("eighty", "80"),
        ("ninety", "90"),
    ];
    WORDS.iter().find(|(w, _)| w.eq_ignore_ascii_case(word)).map(|(_, n)| *n)
}

/// Tokens of `text`; `group_commas` reads `1,234` outside of brackets as one number. None above [`MAX_TOKENS`].
pub fn tokenize(text: &str, group_commas: bool) -> Option<Vec<Token>> {
    let mut lexer = Lexer { chars: fold(text), at: 0, out: Vec::new(), space: false, depth: 0, group_commas };
    while lexer.at < lexer.chars.len() {
        lexer.step();
        if lexer.out.len() > MAX_TOKENS {
            return None;
        }
    }
    Some(lexer.out)
}

/// Full-width, Arabic-Indic and typographic characters to their plain forms.
fn fold(text: &str) -> Vec<char> {
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        out.push(match c {
            '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
            '\u{660}'..='\u{669}' => char::from_u32(c as u32 - 0x660 + 48).unwrap_or(c),
            '\u{6f0}'..='\u{6f9}' => char::from_u32(c as u32 - 0x6f0 + 48).unwrap_or(c),
            '−' | '–' | '—' | '﹣' => '-',
            '⋅' | '·' | '∙' | '×' | '∗' | '✕' => '*',
            '÷' | '∕' | '⁄' => '/',
            '、' | '٬' => ',',
            '٫' => '.',
            '∣' => '|',
            '’' | '′' => '\'',
            '\u{a0}' | '\u{2009}' | '\u{202f}' | '\u{200a}' | '\u{2002}' | '\u{2003}' | '\u{3000}' => ' ',
            c => c,
        });
    }
    out
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    out: Vec<Token>,
    space: bool,
    /// Open brackets that make commas separate.
    depth: usize,
    group_commas: bool,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn push(&mut self, tok: Tok) {
        match tok {
            Tok::Open('(' | '[' | 'S' | '<') => self.depth += 1,
            Tok::Close(')' | ']' | 'S' | '<') => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.out.push(Token { tok, space: std::mem::take(&mut self.space) });
    }

    fn starts(&self, what: &str) -> bool {
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
            '$' | '€' | '£' | '¥' | '`' | '~' | '"' | '\u{200b}' | '\u{2061}' | '\u{2062}' | '“' | '”' =>
                {}
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
            '(' | '[' | '{' => self.push(Tok::Open(c)),
            ')' | ']' | '}' => self.push(Tok::Close(c)),
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

    fn digits(&self, mut at: usize) -> usize {
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
        } else if self.depth == 0 && self.group_commas && (rest.starts_with(',') || rest.starts_with(' ')) {
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

    fn number(&mut self) {
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

    fn word(&mut self) {
        let start = self.at;
        while self.peek(0).is_ascii_alphabetic() {
            self.at += 1;
        }
        let word: String = self.chars[start..self.at].iter().collect();
        self.named(&word, false);
    }

    /// A run of letters, or the inside of a `\text{…}` (`upright`).
    fn named(&mut self, word: &str, upright: bool) {
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
            _ if number_word(word).is_some() => Tok::Num(number_word(word).unwrap_or("0").into()),
            _ if GREEK.contains(&word) => Tok::Sym(word.into()),
            _ if word.len() == 1 => Tok::Sym(word.into()),
            _ if after_value && UNITS.contains(&word) => Tok::Text(word.into()),
            _ if word.len() > 3 || upright || SHORT_WORDS.contains(&&*lower) => Tok::Text(word.into()),
            _ => {
                for c in word.chars() {
                    self.push(Tok::Sym(c.into()));
                }
                return;
            }
        };
        self.push(tok);
    }

    /// The raw text of a brace group that starts here (after optional spaces), and moves past it.
    fn group(&mut self) -> Option<String> {
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

    fn command(&mut self) {
        self.at += 1;
        let c = self.peek(0);
        if !c.is_ascii_alphabetic() {
            self.at += 1;
            match c {
                '{' => self.push(Tok::Open('S')),
                '}' => self.push(Tok::Close('S')),
                '%' => self.push(Tok::Percent),
                '\\' => self.push(Tok::Row),
                '|' => self.push(Tok::Bar),
                ' ' | '\n' | ',' | ';' | ':' | '!' | '(' | ')' | '[' | ']' | '$' | '#' | '&' | '\0' => {
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
            "displaystyle" | "textstyle" | "limits" | "quad" | "qquad" | "enspace" | "thinspace"
            | "space" | "hfill" | "rm" | "bf" | "it" | "boldsymbol" | "boxed" | "fbox" | "hbox"
            | "nonumber" | "mathstrut" | "therefore" | "cdotp" | "unicode" => self.space = true,
            "frac" | "dfrac" | "tfrac" | "cfrac" | "sfrac" | "nicefrac" | "frac1" => {
                self.push(Tok::Cmd("frac"))
            }
            "sqrt" => self.push(Tok::Cmd("sqrt")),
            "binom" | "dbinom" | "tbinom" => self.push(Tok::Cmd("binom")),
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
                } else if name == "mathbb" && trimmed.len() == 1 {
                    self.push(Tok::Sym(format!("\\mathbb{trimmed}")));
                } else if letters && (name == "operatorname" || trimmed.len() == 1) {
                    self.named(trimmed, false);
                } else if letters {
                    self.named(trimmed, true);
                } else if trimmed.chars().any(char::is_alphabetic) && !trimmed.contains(['\\', '$', '{']) {
                    let has_digit = trimmed.chars().any(|c| c.is_ascii_digit());
                    let first_digit = trimmed.starts_with(|c: char| c.is_ascii_digit() || c == '-');
                    if has_digit && first_digit {
                        self.splice(trimmed);
                    } else if let Some(word) =
                        ["and", "or"].into_iter().find(|w| trimmed.trim_matches(',').trim() == *w)
                    {
                        self.push(Tok::Text(word.into()));
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

fn superscript(c: char) -> Option<char> {
    Some(match c {
        '⁰' => '0',
        '¹' => '1',
        '²' => '2',
        '³' => '3',
        '⁴' => '4',
        '⁵' => '5',
        '⁶' => '6',
        '⁷' => '7',
        '⁸' => '8',
        '⁹' => '9',
        '⁻' => '-',
        'ⁿ' => 'n',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &[Tok]) {
        let got: Vec<Tok> = tokenize(text, true).unwrap().into_iter().map(|t| t.tok).collect();
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
