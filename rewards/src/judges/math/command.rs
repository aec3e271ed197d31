//! LaTeX commands to tokens.

use super::lexicon::{GREEK, function, magnitude};
use super::token::{Lexer, Rel, Tok};
use super::words::is_number_phrase;

impl Lexer {
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

    /// Whether an upright letter right behind a number is a unit: `1.5 \text{ m}`.
    fn is_upright_unit(&self, command: &str, letter: &str) -> bool {
        let after_number = matches!(self.out.last().map(|t| &t.tok), Some(Tok::Num(_)));
        let upright = matches!(command, "text" | "textrm" | "mathrm");
        let unit = "mgshLlNJWVACFHKTSMu".contains(letter);
        after_number && upright && unit && !matches!(self.peek(0), '_' | '(')
    }

    /// `\left\{\begin{array}` writes what `\begin{cases}` does.
    fn environment(&mut self, name: String) -> String {
        let brace = matches!(self.out.last().map(|t| &t.tok), Some(Tok::Open('S')));
        if !brace || !name.starts_with("array") {
            return name;
        }
        self.out.pop();
        self.depth = self.depth.saturating_sub(1);
        "cases".into()
    }

    /// The letter of `\mathbb R`, which needs no braces.
    fn letter_of(&mut self, command: &str) -> Option<String> {
        let spaces = self.chars[self.at..].iter().take_while(|c| **c == ' ').count();
        let letter = Some(self.peek(spaces)).filter(|c| command == "mathbb" && c.is_ascii_uppercase())?;
        self.at += spaces + 1;
        Some(letter.into())
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

    /// `x = 3 \quad y = 5`: whether a name with its sign of equality follows behind a value.
    fn names_a_value(&self) -> bool {
        let value =
            matches!(self.out.last().map(|t| &t.tok), Some(Tok::Num(_) | Tok::Sym(_) | Tok::Close(_)));
        let mut rest = self.chars[self.at..].iter().skip_while(|c| **c == ' ').take(16);
        let letter = rest.next().is_some_and(|c| c.is_ascii_alphabetic() || *c == '\\');
        let equals =
            rest.find(|c| !(c.is_ascii_alphanumeric() || matches!(c, ' ' | '_' | '{' | '}'))) == Some(&'=');
        value && letter && equals && self.out.iter().any(|t| t.tok == Tok::Rel(Rel::Eq))
    }

    /// `ℝ \\ {0}` in plain text.
    fn is_set_difference(&self) -> bool {
        matches!(self.out.last().map(|t| &t.tok), Some(Tok::Sym(s)) if s.starts_with("\\mathbb"))
            && matches!(self.peek(0), '{' | '\\')
    }

    pub(super) fn command(&mut self) {
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
            | "LARGE" | "huge" | "Huge" | "underline" | "textstyle" | "limits" | "enspace" | "thinspace"
            | "space" | "hfill" | "rm" | "bf" | "it" | "boldsymbol" | "boxed" | "fbox" | "hbox"
            | "nonumber" | "mathstrut" | "therefore" | "cdotp" | "unicode" => self.space = true,
            "frac" | "dfrac" | "tfrac" | "cfrac" | "sfrac" | "nicefrac" | "frac1" => {
                self.push(Tok::Cmd("frac"))
            }
            "quad" | "qquad" if self.names_a_value() => self.push(Tok::Comma),
            "quad" | "qquad" => self.space = true,
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
                let env = self.environment(env);
                self.push(Tok::Begin(env));
            }
            "end" => {
                self.group();
                self.push(Tok::End);
            }
            "text" | "textbf" | "textit" | "textrm" | "textnormal" | "mathrm" | "mathbf" | "mathit"
            | "mathsf" | "mbox" | "mathbb" | "mathcal" | "operatorname" | "emph" | "texttt" | "vec"
            | "hat" | "tilde" | "widehat" => {
                let Some(inner) = self.group().or_else(|| self.letter_of(&name)) else { return };
                let trimmed = inner.trim_matches(|c: char| c.is_whitespace() || c == '~');
                let letters = trimmed.chars().all(|c| c.is_ascii_alphabetic());
                if trimmed.is_empty() {
                    self.space = true;
                } else if self.effect_of(trimmed) {
                } else if let Some(unit) = self.unit(trimmed) {
                    self.push(Tok::Text(unit));
                } else if self.phrase(trimmed) {
                } else if name == "mathbb" && trimmed.len() == 1 {
                    self.push(Tok::Sym(format!("\\mathbb{trimmed}")));
                } else if trimmed.len() == 1 && self.is_upright_unit(&name, trimmed) {
                    self.push(Tok::Text(trimmed.into()));
                } else if letters && (name == "operatorname" || trimmed.len() == 1) {
                    // An upright letter is no factor.
                    self.space |= matches!(&*name, "mathrm" | "text" | "textrm");
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
            // 5 \mu\mathrm{m}: a prefix of a unit.
            "mu" if matches!(self.out.last().map(|t| &t.tok), Some(Tok::Num(_)))
                && (self.starts("\\mathrm{") || self.starts("\\text{")) =>
            {
                self.push(Tok::Text("μ".into()));
            }
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
