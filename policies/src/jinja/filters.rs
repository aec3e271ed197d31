//! Filters of single values; those of lists are in [`super::sequences`].

use std::sync::Arc;

use super::Res;
use super::call::Given;
use super::expression::like;
use super::lexer::is_space;
use super::methods::{capitalized, int, lines};
use super::percent;
use super::run::Run;
use super::text::{Json, Text, beginning, to_text};
use super::value::Value;

impl Run<'_> {
    /// `value|name(args)`.
    pub(super) fn filter(&self, name: &str, value: Value, args: Given) -> Res<Value> {
        args.read(self)?;
        match name {
            "abs" => {
                let [] = args.bind(name, [])?;
                match (value.defined()?.as_int(), value.as_float()) {
                    (Some(n), _) => Ok(Value::Int(n.checked_abs().ok_or("a number is too large")?)),
                    (None, Some(x)) => Ok(Value::Float(x.abs())),
                    _ => Err(format!("bad operand type for abs(): '{}'", value.type_name()).into()),
                }
            }
            "attr" => {
                let [attribute] = args.bind(name, ["name"])?;
                let attribute = text_of(attribute, "", name)?;
                let found = self.own_attribute(value.defined()?, &attribute)?;
                let missing = || self.undefined(&format!("no attribute '{}'", beginning(&attribute)));
                found.map_or_else(missing, Ok)
            }
            "capitalize" => self.changed(value, name, args, capitalized),
            "lower" => self.changed(value, name, args, str::to_lowercase),
            "upper" => self.changed(value, name, args, str::to_uppercase),
            "title" => self.changed(value, name, args, titled),
            "center" => {
                let [width] = args.bind(name, ["width"])?;
                let text = self.soft_text(&value)?;
                let positional = vec![width.unwrap_or(Value::Int(80))];
                self.method(&text, "center", Given { positional, named: Vec::new() })
            }
            "trim" => {
                let [chars] = args.bind(name, ["chars"])?;
                let text = self.soft_text(&value)?;
                let stripped = text.as_str().map_or(Ok(""), |t| self.strip(t, chars.as_ref(), true, true))?;
                self.hold(stripped.len())?;
                Ok(like(&text, stripped))
            }
            "string" => {
                let [] = args.bind(name, [])?;
                self.soft_text(&value)
            }
            "safe" => {
                let [] = args.bind(name, [])?;
                Ok(Value::Markup(to_text(&value, self)?.into()))
            }
            "escape" | "e" | "forceescape" => {
                let [] = args.bind(name, [])?;
                match value {
                    Value::Markup(_) if name != "forceescape" => Ok(value),
                    other => Ok(Value::Markup(escape(&to_text(&other, self)?, self)?.into())),
                }
            }
            "default" | "d" => {
                let [default, boolean] = args.bind(name, ["default_value", "boolean"])?;
                let missing =
                    value.is_undefined() || (boolean.is_some_and(|b| b.truthy()) && !value.truthy());
                Ok(if missing { default.unwrap_or_else(|| Value::str("")) } else { value })
            }
            "float" => {
                let [default] = args.bind(name, ["default"])?;
                let parsed = match value.defined()?.as_str() {
                    Some(text) => {
                        self.scan(text.len())?;
                        float(text)
                    }
                    None => value.as_float(),
                };
                Ok(parsed.map_or_else(|| default.unwrap_or(Value::Float(0.0)), Value::Float))
            }
            "int" => {
                let [default, base] = args.bind(name, ["default", "base"])?;
                let base = u32::try_from(int(base, 10, name)?).unwrap_or(0);
                let parsed = match value.defined()?.as_str() {
                    Some(text) => {
                        self.scan(text.len())?;
                        integer(text, base).or_else(|| float(text).and_then(whole))
                    }
                    None => value.as_int().or_else(|| value.as_float().and_then(whole)),
                };
                Ok(parsed.map_or_else(|| default.unwrap_or(Value::Int(0)), Value::Int))
            }
            "round" => self.round(&value, args),
            "format" => {
                let Given { positional, named } = args;
                let text = to_text(&value, self)?;
                let values = match (positional.is_empty(), named.is_empty()) {
                    (false, false) => {
                        return Err("can't handle positional and keyword arguments at the same time".into());
                    }
                    (true, false) => self.dict(named.into_iter().map(|(n, v)| Ok((Value::Str(n), v))))?,
                    _ => self.tuple(positional)?,
                };
                Ok(Value::str(&percent::fill(&text, &values, self)?))
            }
            "indent" => self.indent(&value, args),
            "length" | "count" => {
                let [] = args.bind(name, [])?;
                Ok(Value::Int(value.len(self)? as i128))
            }
            "replace" => {
                let [old, new, count] = args.bind(name, ["old", "new", "count"])?;
                let text = Value::str(&to_text(&value, self)?);
                let part = |value: Option<Value>| {
                    let value = value.ok_or("replace takes two arguments")?;
                    Ok::<_, super::Fault>(Value::str(&to_text(&value, self)?))
                };
                let positional = vec![part(old)?, part(new)?, count.unwrap_or(Value::None)];
                self.method(&text, "replace", Given { positional, named: Vec::new() })
            }
            "tojson" => self.to_json(&value, args),
            "truncate" => self.truncate(&value, args),
            "urlencode" => {
                let [] = args.bind(name, [])?;
                if matches!(value, Value::Seq(_) | Value::Dict(_) | Value::Iter(_)) {
                    return Err(format!("urlencode of a {} is not supported", value.type_name()).into());
                }
                let text = to_text(&value, self)?;
                self.hold(text.len() * 3)?;
                let plain =
                    |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'~' | b'/');
                let coded =
                    text.bytes().map(|b| if plain(b) { char::from(b).into() } else { format!("%{b:02X}") });
                Ok(Value::str(&coded.collect::<String>()))
            }
            "wordcount" => {
                let [] = args.bind(name, [])?;
                let text = to_text(&value, self)?;
                let words = text.split(|c: char| c != '_' && !c.is_alphanumeric()).filter(|w| !w.is_empty());
                Ok(Value::Int(words.count() as i128))
            }
            _ => self.list_filter(name, value, args),
        }
    }

    fn changed(&self, value: Value, name: &str, args: Given, change: fn(&str) -> String) -> Res<Value> {
        let [] = args.bind(name, [])?;
        let text = self.soft_text(&value)?;
        let changed = text.as_str().map_or(String::new(), |t| change(t));
        self.hold(changed.len())?;
        Ok(like(&text, &changed))
    }

    fn round(&self, value: &Value, args: Given) -> Res<Value> {
        let [precision, method] = args.bind("round", ["precision", "method"])?;
        let precision = int(precision, 0, "round")?;
        let method = text_of(method, "common", "round")?;
        let x = value.defined()?.as_float().ok_or("round takes a number")?;
        let scale = 10f64.powi(i32::try_from(precision).unwrap_or(0));
        match &*method {
            "ceil" => Ok(Value::Float((x * scale).ceil() / scale)),
            "floor" => Ok(Value::Float((x * scale).floor() / scale)),
            "common" => match value.as_int() {
                Some(n) if precision >= 0 => Ok(Value::Int(n)),
                whole if (-300..0).contains(&precision) => {
                    let rounded = (x * scale).round_ties_even() / scale;
                    Ok(if whole.is_some() { Value::Int(rounded as i128) } else { Value::Float(rounded) })
                }
                _ if (0..=300).contains(&precision) => {
                    // Written and read again, the value is rounded to even from its exact digits.
                    let text = format!("{x:.*}", precision as usize);
                    Ok(Value::Float(text.parse().unwrap_or(x)))
                }
                _ => Err("round does not take this precision".into()),
            },
            _ => Err("method must be common, ceil or floor".into()),
        }
    }

    fn indent(&self, value: &Value, args: Given) -> Res<Value> {
        let [width, first, blank] = args.bind("indent", ["width", "first", "blank"])?;
        let indention: Arc<str> = match width {
            Some(Value::Str(text)) => text,
            width => {
                let width = usize::try_from(int(width, 4, "indent")?.max(0)).unwrap_or(usize::MAX);
                self.hold(width)?;
                " ".repeat(width).into()
            }
        };
        let is_set = |flag: Option<Value>| flag.is_some_and(|f| f.truthy());
        let (first, blank) = (is_set(first), is_set(blank));
        let Some(source) = value.defined()?.as_str() else {
            return Err(format!("indent takes a string, not {}", value.type_name()).into());
        };
        let source = format!("{source}\n");
        let mut out = Text::new(self);
        for (at, line) in lines(&source, false).enumerate() {
            out.push(if at > 0 { "\n" } else { "" })?;
            let indented = if at == 0 { first } else { blank || !line.is_empty() };
            out.push(if indented { &indention } else { "" })?;
            out.push(line)?;
        }
        Ok(like(value, &out.text))
    }

    fn to_json(&self, value: &Value, args: Given) -> Res<Value> {
        let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
        let [ensure_ascii, indent, separators, sort_keys] = args.bind("tojson", names)?;
        let is_set = |flag: Option<Value>| flag.is_some_and(|f| f.truthy());
        let indent = match indent {
            None | Some(Value::None) => None,
            Some(Value::Str(text)) => Some(text.to_string()),
            Some(width) => {
                let width = usize::try_from(int(Some(width), 0, "indent")?.max(0)).unwrap_or(usize::MAX);
                self.hold(width)?;
                Some(" ".repeat(width))
            }
        };
        let (item_separator, key_separator) = match separators {
            None | Some(Value::None) => (if indent.is_some() { "," } else { ", " }.into(), ": ".into()),
            Some(pair) => {
                let pair = pair.items(self)?;
                let part = |at: usize| pair.get(at).and_then(Value::as_str).map(|s| s.to_string());
                match (part(0), part(1), pair.len()) {
                    (Some(item), Some(key), 2) => {
                        self.scan(item.len() + key.len())?;
                        (item, key)
                    }
                    _ => return Err("separators must be two strings".into()),
                }
            }
        };
        let (ensure_ascii, sort_keys) = (is_set(ensure_ascii), is_set(sort_keys));
        let mut out = Text::new(self);
        Json { ensure_ascii, indent, item_separator, key_separator, sort_keys }.write(value, 0, &mut out)?;
        Ok(Value::str(&out.text))
    }

    fn truncate(&self, value: &Value, args: Given) -> Res<Value> {
        let [length, kill_words, end, leeway] =
            args.bind("truncate", ["length", "killwords", "end", "leeway"])?;
        let length = int(length, 255, "truncate")?;
        let end = text_of(end, "...", "truncate")?;
        let leeway = int(leeway, 5, "truncate")?;
        let count = |text: &str| text.chars().count() as i128;
        if length < count(&end) {
            return Err(format!("expected length >= {}, got {length}", count(&end)).into());
        }
        if value.len(self)? as i128 <= length.saturating_add(leeway) {
            return Ok(value.clone());
        }
        let text = value.as_str().ok_or("truncate takes a string")?;
        let kept: String = text.chars().take((length - count(&end)) as usize).collect();
        let kept = if kill_words.is_some_and(|k| k.truthy()) {
            &kept
        } else {
            kept.rsplit_once(' ').map_or(&*kept, |(before, _)| before)
        };
        self.str(format!("{kept}{end}"))
    }
}

/// A text argument, or its default.
pub(super) fn text_of(value: Option<Value>, default: &str, name: &str) -> Res<Arc<str>> {
    match value {
        None => Ok(default.into()),
        Some(Value::Str(text) | Value::Markup(text)) => Ok(text),
        Some(other) => Err(format!("{name} takes a string, not {}", other.type_name()).into()),
    }
}

/// The text with what means something in HTML escaped.
pub(super) fn escape(text: &str, run: &Run) -> Res<String> {
    let mut out = Text::new(run);
    let mut plain = 0;
    for (at, c) in text.char_indices() {
        let escaped = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' => "&#34;",
            '\'' => "&#39;",
            _ => continue,
        };
        out.push(&text[plain..at])?;
        out.push(escaped)?;
        plain = at + 1;
    }
    out.push(&text[plain..])?;
    Ok(out.text)
}

/// Every word with its first letter in upper case and the others in lower; words begin after blanks, hyphens and opening
/// brackets.
fn titled(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut starts = true;
    for c in text.chars() {
        if starts {
            out.extend(c.to_uppercase());
        } else {
            out.extend(c.to_lowercase());
        }
        starts = is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    }
    out
}

fn whole(x: f64) -> Option<i128> {
    (x.is_finite() && x.abs() < 1e38).then_some(x as i128)
}

/// `float(text)`.
fn float(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_space);
    let plain = text.trim_start_matches(['+', '-']);
    let named = ["inf", "infinity", "nan"].iter().any(|n| plain.eq_ignore_ascii_case(n));
    let numeric = plain.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if named || numeric { text.replace('_', "").parse().ok() } else { None }
}

/// `int(text, base)`.
fn integer(text: &str, base: u32) -> Option<i128> {
    let text = text.trim_matches(is_space);
    let (negative, digits) =
        text.strip_prefix('-').map_or((false, text.strip_prefix('+').unwrap_or(text)), |t| (true, t));
    let lower = digits.to_ascii_lowercase();
    let prefixed = match base {
        16 => lower.strip_prefix("0x"),
        8 => lower.strip_prefix("0o"),
        2 => lower.strip_prefix("0b"),
        _ => None,
    };
    let digits = prefixed.unwrap_or(&lower);
    if !(2..=36).contains(&base) || digits.starts_with(['_', '+', '-']) || digits.ends_with('_') {
        return None;
    }
    let n = i128::from_str_radix(&digits.replace('_', ""), base).ok()?;
    Some(if negative { -n } else { n })
}
