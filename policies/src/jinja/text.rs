//! How Python writes values: `str`, `repr` and `json.dumps`.

use super::Res;
use super::run::Run;
use super::value::{SeqKind, Value};

/// Characters of a text that a message shows.
const MAX_SHOWN: usize = 200;

/// Text that grows within the bounds of a rendering.
pub(super) struct Text<'r> {
    run: &'r Run<'r>,
    pub(super) text: String,
    /// Whether it is what a rendering results in, and no part that goes on elsewhere.
    pub(super) is_result: bool,
}

impl<'r> Text<'r> {
    pub(super) fn new(run: &'r Run<'r>) -> Self {
        Self { run, text: String::new(), is_result: false }
    }

    pub(super) fn push(&mut self, part: &str) -> Res<()> {
        self.run.hold(part.len())?;
        self.text.push_str(part);
        Ok(())
    }

    /// The value as `str` writes it.
    pub(super) fn push_value(&mut self, value: &Value) -> Res<()> {
        match value {
            Value::Undefined(_) => Ok(()),
            Value::Str(s) | Value::Markup(s) => self.push(s),
            other => self.push_repr(other),
        }
    }

    pub(super) fn push_repr(&mut self, value: &Value) -> Res<()> {
        let run = self.run;
        run.work(1)?;
        // A namespace may hold itself.
        run.deeper(|| self.push_any(value))
    }

    /// `repr` of a string.
    pub(super) fn push_quoted(&mut self, text: &str) -> Res<()> {
        let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
        let mut plain = 0;
        self.push(quote.encode_utf8(&mut [0; 4]))?;
        for (at, c) in text.char_indices() {
            let escaped = match c {
                '\n' => "\\n".into(),
                '\r' => "\\r".into(),
                '\t' => "\\t".into(),
                '\\' => "\\\\".into(),
                c if c == quote => format!("\\{c}"),
                c if is_printable(c) => continue,
                c if (c as u32) < 0x100 => format!("\\x{:02x}", c as u32),
                c if (c as u32) < 0x1_0000 => format!("\\u{:04x}", c as u32),
                c => format!("\\U{:08x}", c as u32),
            };
            self.push(&text[plain..at])?;
            self.push(&escaped)?;
            plain = at + c.len_utf8();
        }
        self.push(&text[plain..])?;
        self.push(quote.encode_utf8(&mut [0; 4]))
    }

    fn push_any(&mut self, value: &Value) -> Res<()> {
        match value {
            Value::Undefined(_) => self.push("Undefined"),
            Value::None => self.push("None"),
            Value::Bool(true) => self.push("True"),
            Value::Bool(false) => self.push("False"),
            Value::Int(n) => self.push(&n.to_string()),
            Value::Float(x) => self.push(&float(*x)),
            Value::Str(s) => self.push_quoted(s),
            Value::Markup(s) => {
                self.push("Markup(")?;
                self.push_quoted(s)?;
                self.push(")")
            }
            Value::Seq(seq) => {
                let (open, close) = match seq.kind {
                    SeqKind::List => ("[", "]"),
                    SeqKind::Tuple | SeqKind::Group if seq.items.len() == 1 => ("(", ",)"),
                    SeqKind::Tuple | SeqKind::Group => ("(", ")"),
                    SeqKind::Keys => ("dict_keys([", "])"),
                    SeqKind::Values => ("dict_values([", "])"),
                    SeqKind::Items => ("dict_items([", "])"),
                    SeqKind::Range { start, stop, step: 1 } => {
                        return self.push(&format!("range({start}, {stop})"));
                    }
                    SeqKind::Range { start, stop, step } => {
                        return self.push(&format!("range({start}, {stop}, {step})"));
                    }
                };
                self.push(open)?;
                for (i, item) in seq.items.iter().enumerate() {
                    self.push(if i > 0 { ", " } else { "" })?;
                    self.push_repr(item)?;
                }
                self.push(close)
            }
            Value::Dict(dict) => {
                self.push("{")?;
                for (i, (key, value)) in dict.entries().iter().enumerate() {
                    self.push(if i > 0 { ", " } else { "" })?;
                    self.push_repr(key)?;
                    self.push(": ")?;
                    self.push_repr(value)?;
                }
                self.push("}")
            }
            Value::Namespace(namespace) => {
                self.push("<Namespace {")?;
                for (i, (name, value)) in namespace.attributes.borrow().entries().iter().enumerate() {
                    self.push(if i > 0 { ", " } else { "" })?;
                    self.push_repr(name)?;
                    self.push(": ")?;
                    self.push_repr(value)?;
                }
                self.push("}>")
            }
            // Python writes an address, or what nobody wants in a prompt.
            other => Err(format!("a value of type {} cannot be written", other.type_name()).into()),
        }
    }
}

/// The value as `str` writes it.
pub(super) fn to_text(value: &Value, run: &Run) -> Res<String> {
    let mut out = Text::new(run);
    out.push_value(value)?;
    Ok(out.text)
}

/// `repr` of a float: the fewest digits that give it back, with an exponent below 1e-4 and from 1e16.
pub(super) fn float(x: f64) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf" } else { "-inf" }.into();
    }
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let text = x.to_string();
        return if text.contains('.') { text } else { text + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// The beginning of a text of any length, for messages.
pub(super) fn beginning(text: &str) -> &str {
    text.char_indices().nth(MAX_SHOWN).map_or(text, |(at, _)| &text[..at])
}

fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // The standard library escapes what is not printable; a mark is only escaped as the first character.
    let mut text = [b'a'; 5];
    let length = 1 + c.encode_utf8(&mut text[1..]).len();
    str::from_utf8(&text[..length]).is_ok_and(|text| text.escape_debug().all(|c| c != '\\'))
}

/// Options of `json.dumps`.
pub(super) struct Json {
    pub(super) ensure_ascii: bool,
    pub(super) indent: Option<String>,
    pub(super) item_separator: String,
    pub(super) key_separator: String,
    pub(super) sort_keys: bool,
}

impl Json {
    pub(super) fn write(&self, value: &Value, level: usize, out: &mut Text) -> Res<()> {
        out.run.work(1)?;
        match value {
            Value::None => out.push("null"),
            Value::Bool(b) => out.push(if *b { "true" } else { "false" }),
            Value::Int(n) => out.push(&n.to_string()),
            Value::Float(x) => out.push(&json_float(*x)),
            Value::Str(s) | Value::Markup(s) => self.string(s, out),
            Value::Seq(seq) if matches!(seq.kind, SeqKind::List | SeqKind::Tuple | SeqKind::Group) => self
                .within(["[", "]"], level, seq.items.iter(), out, |item, out| {
                    self.write(item, level + 1, out)
                }),
            Value::Dict(dict) => {
                let mut entries: Vec<_> =
                    dict.entries().iter().map(|(key, value)| (key.clone(), value)).collect();
                if self.sort_keys {
                    entries = out.run.sorted(entries, false)?;
                }
                self.within(["{", "}"], level, entries.into_iter(), out, |(key, value), out| {
                    self.string(&key_text(&key)?, out)?;
                    out.push(&self.key_separator)?;
                    self.write(value, level + 1, out)
                })
            }
            other => Err(format!("Object of type {} is not JSON serializable", other.type_name()).into()),
        }
    }

    fn within<T>(
        &self,
        brackets: [&str; 2],
        level: usize,
        items: impl ExactSizeIterator<Item = T>,
        out: &mut Text,
        mut write: impl FnMut(T, &mut Text) -> Res<()>,
    ) -> Res<()> {
        let empty = items.len() == 0;
        let line = |level: usize, out: &mut Text| match &self.indent {
            Some(indent) if !empty => {
                out.push("\n")?;
                // An empty one takes no memory, which would bound how often it is written.
                let times = if indent.is_empty() { 0 } else { level };
                (0..times).try_for_each(|_| out.push(indent))
            }
            _ => Ok(()),
        };
        out.push(brackets[0])?;
        for (i, item) in items.enumerate() {
            out.push(if i > 0 { &self.item_separator } else { "" })?;
            line(level + 1, out)?;
            write(item, out)?;
        }
        line(level, out)?;
        out.push(brackets[1])
    }

    fn string(&self, text: &str, out: &mut Text) -> Res<()> {
        out.push("\"")?;
        let mut plain = 0;
        for (at, c) in text.char_indices() {
            let escaped = match c {
                '"' => "\\\"".into(),
                '\\' => "\\\\".into(),
                '\n' => "\\n".into(),
                '\r' => "\\r".into(),
                '\t' => "\\t".into(),
                '\u{8}' => "\\b".into(),
                '\u{c}' => "\\f".into(),
                c if c < ' ' || (self.ensure_ascii && c > '~') => c
                    .encode_utf16(&mut [0; 2])
                    .iter()
                    .map(|unit| format!("\\u{unit:04x}"))
                    .collect::<String>(),
                _ => continue,
            };
            out.push(&text[plain..at])?;
            out.push(&escaped)?;
            plain = at + c.len_utf8();
        }
        out.push(&text[plain..])?;
        out.push("\"")
    }
}

fn json_float(x: f64) -> String {
    match float(x).as_str() {
        "nan" => "NaN".into(),
        "inf" => "Infinity".into(),
        "-inf" => "-Infinity".into(),
        text => text.into(),
    }
}

fn key_text(key: &Value) -> Res<String> {
    Ok(match key {
        Value::Str(s) | Value::Markup(s) => s.to_string(),
        Value::None => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Float(x) => json_float(*x),
        other => {
            let name = other.type_name();
            return Err(format!("keys must be str, int, float, bool or None, not {name}").into());
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jinja::{Limits, ast::Ast};

    #[test]
    fn floats_and_strings_as_python_writes_them() {
        for (x, text) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (-0.0, "-0.0"),
            (1e100, "1e+100"),
        ] {
            assert_eq!(float(x), text);
        }
        let (ast, limits) = (Ast::default(), Limits { work: 100, memory: 100 });
        let run = Run::new(&ast, limits, 0);
        let quoted = |text: &str| {
            let mut out = Text::new(&run);
            out.push_quoted(text).map(|()| out.text)
        };
        assert_eq!(quoted("it's").as_deref(), Ok("\"it's\""));
        let written = "'it\\'s \"so\"\\n\\x7fé\u{301}\\u200b'";
        assert_eq!(quoted("it's \"so\"\n\u{7f}é\u{301}\u{200b}").as_deref(), Ok(written));
    }
}
