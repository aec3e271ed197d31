//! Template text to tokens, with the whitespace rules of `trim_blocks` and `lstrip_blocks`.

use std::sync::Arc;

use super::{Fault, Res};

/// A token with the line it begins on, from 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) line: u32,
    pub(super) kind: TokenKind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    /// Text outside of tags, to be written as it is.
    Data(Arc<str>),
    BlockBegin,
    BlockEnd,
    VariableBegin,
    VariableEnd,
    Name(Arc<str>),
    Str(String),
    Int(i128),
    Float(f64),
    Op(&'static str),
}

/// Operators; of those that begin alike the longer comes first.
const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<",
    "=", ".", ":", "|", ",", ";",
];

/// Longest name in bytes: names are hashed wherever they are read, and messages repeat them.
const MAX_NAME: usize = 255;

/// What Python's `str.isspace` takes for a space.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Tokens of a template. Line ends of all kinds become `\n`, and one at the very end is dropped.
pub(super) fn tokenize(source: &str) -> Res<Vec<Token>> {
    let text = source.replace("\r\n", "\n").replace('\r', "\n");
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let mut lexer = Lexer { text, at: 0, line: 1, line_starts: true, tokens: Vec::new() };
    lexer.run()?;
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    /// Whether what was read last ended with a line end, so that blanks before a tag are indentation.
    line_starts: bool,
    tokens: Vec<Token>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn push(&mut self, kind: TokenKind) {
        self.tokens.push(Token { line: self.line, kind });
    }

    fn fail<T>(&self, message: impl Into<String>) -> Res<T> {
        Err(Fault { line: self.line, message: message.into() })
    }

    /// Passes over `bytes` bytes.
    fn skip(&mut self, bytes: usize) {
        let passed = &self.text[self.at..self.at + bytes];
        self.line += passed.bytes().filter(|b| *b == b'\n').count() as u32;
        if bytes > 0 {
            self.line_starts = passed.ends_with('\n');
        }
        self.at += bytes;
    }

    fn skip_spaces(&mut self) {
        let rest = self.rest();
        self.skip(rest.len() - rest.trim_start_matches(is_space).len());
    }

    fn run(&mut self) -> Res<()> {
        loop {
            let begins = |(at, _): &(usize, &str)| {
                matches!(self.rest().as_bytes().get(at + 1), Some(b'%' | b'{' | b'#'))
            };
            let Some((length, _)) = self.rest().match_indices('{').find(begins) else {
                let rest = self.rest();
                self.data(rest.len(), rest.len());
                return Ok(());
            };
            let tag = &self.rest()[length..length + 2];
            let sign = self.rest()[length + 2..].chars().next().filter(|c| matches!(c, '-' | '+'));
            self.data_before_tag(length, sign, tag != "{{");
            self.skip(2 + usize::from(sign.is_some()));
            match tag {
                "{#" => self.comment()?,
                "{{" => {
                    self.push(TokenKind::VariableBegin);
                    self.inside(false)?;
                }
                _ if self.raw_begins() => self.raw()?,
                _ => {
                    self.push(TokenKind::BlockBegin);
                    self.inside(true)?;
                }
            }
        }
    }

    /// Writes the next `length` bytes and passes over `passed` of them.
    fn data(&mut self, length: usize, passed: usize) {
        if length > 0 {
            let data = self.rest()[..length].into();
            self.push(TokenKind::Data(data));
        }
        self.skip(passed);
    }

    /// The text before a tag: a `-` in the tag takes all blanks before it, no sign those between it and the line's start.
    fn data_before_tag(&mut self, length: usize, sign: Option<char>, is_block: bool) {
        let text = &self.rest()[..length];
        let keep = match sign {
            Some('-') => text.trim_end_matches(is_space).len(),
            None if is_block => {
                let line_start = text.rfind('\n').map_or(0, |at| at + 1);
                let indented =
                    (line_start > 0 || self.line_starts) && text[line_start..].chars().all(is_space);
                if indented { line_start } else { length }
            }
            _ => length,
        };
        self.data(keep, length);
    }

    fn comment(&mut self) -> Res<()> {
        let Some(end) = self.rest().find("#}") else {
            // Jinja takes one that nothing follows.
            return if self.rest().is_empty() { Ok(()) } else { self.fail("Missing end of comment tag") };
        };
        // The sign may not be the one of the beginning.
        let stripping = self.rest()[..end].ends_with('-');
        let keeping = self.rest()[..end].ends_with('+');
        self.skip(end + 2);
        self.after_block(stripping, keeping);
        Ok(())
    }

    /// What the end of a block or comment takes: all blanks, or one line end, or nothing.
    fn after_block(&mut self, stripping: bool, keeping: bool) {
        if stripping {
            self.skip_spaces();
        } else if !keeping && self.rest().starts_with('\n') {
            self.skip(1);
        }
    }

    /// Whether `{% raw %}` begins; its end is passed over if so.
    fn raw_begins(&mut self) -> bool {
        let inner = self.rest().trim_start_matches(is_space);
        let Some(after) = inner.strip_prefix("raw").map(|r| r.trim_start_matches(is_space)) else {
            return false;
        };
        let stripping = after.starts_with("-%}");
        if !stripping && !after.starts_with("%}") {
            return false;
        }
        self.skip(self.rest().len() - after.len() + if stripping { 3 } else { 2 });
        if stripping {
            self.skip_spaces();
        }
        true
    }

    fn raw(&mut self) -> Res<()> {
        let text = self.rest();
        for (start, _) in text.match_indices("{%") {
            let tag = &text[start + 2..];
            let sign = tag.chars().next().filter(|c| matches!(c, '-' | '+'));
            let inner = tag[usize::from(sign.is_some())..].trim_start_matches(is_space);
            let Some(after) = inner.strip_prefix("endraw").map(|r| r.trim_start_matches(is_space)) else {
                continue;
            };
            let end = ["-%}", "+%}", "%}"].into_iter().find(|end| after.starts_with(end));
            let Some(end) = end else { continue };
            self.data_before_tag(start, sign, true);
            self.skip(text.len() - after.len() - start + end.len());
            self.after_block(end == "-%}", end == "+%}");
            return Ok(());
        }
        self.fail("Missing end of raw directive")
    }

    /// The tokens up to the end of a tag.
    fn inside(&mut self, is_block: bool) -> Res<()> {
        let mut open: Vec<&str> = Vec::new();
        loop {
            self.skip_spaces();
            let rest = self.rest();
            if open.is_empty() && self.tag_ends(is_block) {
                return Ok(());
            }
            let Some(first) = rest.chars().next() else {
                return self.fail("unexpected end of the template inside a tag");
            };
            if first.is_ascii_digit() {
                self.number()?;
            } else if first == '_' || first.is_alphabetic() {
                let length = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
                if length > MAX_NAME {
                    return self.fail(format!("a name is longer than {MAX_NAME} bytes"));
                }
                self.push(TokenKind::Name(rest[..length].into()));
                self.skip(length);
            } else if first == '\'' || first == '"' {
                self.string(first)?;
            } else {
                let Some(op) = OPERATORS.into_iter().find(|op| rest.starts_with(op)) else {
                    return self.fail(format!("unexpected char {first:?}"));
                };
                match op {
                    "{" => open.push("}"),
                    "(" => open.push(")"),
                    "[" => open.push("]"),
                    "}" | ")" | "]" => match open.pop() {
                        Some(expected) if expected == op => {}
                        Some(expected) => {
                            return self.fail(format!("unexpected '{op}', expected '{expected}'"));
                        }
                        None => return self.fail(format!("unexpected '{op}'")),
                    },
                    _ => {}
                }
                self.push(TokenKind::Op(op));
                self.skip(op.len());
            }
        }
    }

    fn tag_ends(&mut self, is_block: bool) -> bool {
        let close = if is_block { "%}" } else { "}}" };
        let rest = self.rest();
        let signed = rest.get(1..).is_some_and(|r| r.starts_with(close));
        let (stripping, keeping) =
            (signed && rest.starts_with('-'), signed && is_block && rest.starts_with('+'));
        if !stripping && !keeping && !rest.starts_with(close) {
            return false;
        }
        self.push(if is_block { TokenKind::BlockEnd } else { TokenKind::VariableEnd });
        self.skip(if stripping || keeping { 3 } else { 2 });
        // The end of a variable keeps the line end after it.
        self.after_block(stripping, keeping || !is_block);
        true
    }

    fn number(&mut self) -> Res<()> {
        let rest = self.rest();
        let digits = |from: usize| {
            let run = rest[from..].bytes().take_while(|b| b.is_ascii_digit() || *b == b'_').count();
            from + run
        };
        let radix = match rest.as_bytes().get(1) {
            Some(b'x' | b'X') => 16,
            Some(b'o' | b'O') => 8,
            Some(b'b' | b'B') => 2,
            _ => 10,
        };
        if radix != 10 && rest.starts_with('0') {
            let length =
                2 + rest[2..].bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
            let Ok(n) = i128::from_str_radix(&rest[2..length].replace('_', ""), radix) else {
                return self.fail(format!("{} is no number", &rest[..length]));
            };
            self.push(TokenKind::Int(n));
            self.skip(length);
            return Ok(());
        }
        let mut end = digits(0);
        let after_dot = matches!(self.tokens.last(), Some(Token { kind: TokenKind::Op("."), .. }));
        let mut is_float = false;
        if !after_dot {
            if rest[end..].starts_with('.') && digits(end + 1) > end + 1 {
                (end, is_float) = (digits(end + 1), true);
            }
            if rest[end..].starts_with(['e', 'E']) {
                let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
                if digits(end + 1 + sign) > end + 1 + sign {
                    (end, is_float) = (digits(end + 1 + sign), true);
                }
            }
        }
        let digits = rest[..end].replace('_', "");
        let token = if is_float {
            digits.parse().map(TokenKind::Float).ok()
        } else {
            digits.parse().map(TokenKind::Int).ok()
        };
        let Some(token) = token else { return self.fail(format!("{digits} is too large a number")) };
        self.push(token);
        self.skip(end);
        Ok(())
    }

    fn string(&mut self, quote: char) -> Res<()> {
        let rest = self.rest();
        let mut chars = rest.char_indices().skip(1);
        let end = loop {
            match chars.next() {
                Some((_, '\\')) => drop(chars.next()),
                Some((at, c)) if c == quote => break at,
                Some(_) => {}
                None => return self.fail("a string has no end"),
            }
        };
        let text = unescape(&rest[1..end]).map_err(|message| Fault { line: self.line, message })?;
        self.push(TokenKind::Str(text));
        self.skip(end + 1);
        Ok(())
    }
}

/// Python's escapes; an unknown one stays as it is.
fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(c) = rest.chars().next() else { break };
        rest = &rest[c.len_utf8()..];
        let code = |rest: &mut &str, digits: usize, radix: u32, exact: bool| {
            let found = rest.bytes().take(digits).take_while(|b| char::from(*b).is_digit(radix)).count();
            let number =
                u32::from_str_radix(&rest[..found], radix).ok().filter(|_| !exact || found == digits);
            *rest = &rest[found..];
            number.and_then(char::from_u32).ok_or_else(|| format!("a string has a wrong escape \\{c}"))
        };
        let unescaped = match c {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            '\\' | '\'' | '"' => c,
            '\n' => continue,
            'x' => code(&mut rest, 2, 16, true)?,
            'u' => code(&mut rest, 4, 16, true)?,
            'U' => code(&mut rest, 8, 16, true)?,
            '0'..='7' => {
                let mut from = &text[text.len() - rest.len() - 1..];
                let found = code(&mut from, 3, 8, false)?;
                rest = from;
                found
            }
            other => {
                out.push('\\');
                other
            }
        };
        out.push(unescaped);
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_pythons() {
        for (text, expected) in
            [(r"a\n\t\\\'\x41\u00e9\U0001f600\101\d", "a\n\t\\'Aé😀A\\d"), ("a\\\nb", "ab"), (r"\0é", "\0é")]
        {
            assert_eq!(unescape(text).unwrap(), expected);
        }
        assert!(unescape(r"\x4").is_err() && unescape(r"\ud83d").is_err());
    }
}
