//! `'%s' % value` and `'{}'.format(value)`.

use std::collections::HashMap;
use std::sync::Arc;

use super::Res;
use super::run::Run;
use super::text::{Text, beginning, to_text};
use super::value::{SeqKind, Value};

/// Most digits after the point.
const MAX_PRECISION: usize = 400;

/// How a value is written: `[[fill]align][sign][0][width][,][.precision][type]`.
#[derive(Default)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    width: usize,
    comma: bool,
    precision: Option<usize>,
    kind: Option<char>,
}

impl Spec {
    /// Takes the work of writing a value.
    fn work(&self, run: &Run) -> Res<()> {
        run.work(1 + self.precision.unwrap_or(0).min(MAX_PRECISION) / 8)
    }
}

/// `format % values`.
pub(super) fn fill(format: &str, values: &Value, run: &Run) -> Res<String> {
    let mut given = match values {
        Value::Seq(seq) if matches!(seq.kind, SeqKind::Tuple | SeqKind::Group) => seq.items.iter(),
        other => std::slice::from_ref(other).iter(),
    };
    // Whatever can be subscripted may have more than the format asks for.
    let may_be_left = match values {
        Value::Dict(_) | Value::Undefined(_) => true,
        Value::Seq(seq) => !matches!(seq.kind, SeqKind::Tuple | SeqKind::Group),
        _ => false,
    };
    let mut out = Text::new(run);
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push(&rest[..at])?;
        rest = &rest[at + 1..];
        let named = named(&mut rest, values, run)?;
        let spec = conversion(&mut rest)?;
        let kind = rest.chars().next().ok_or("incomplete format")?;
        rest = &rest[kind.len_utf8()..];
        if kind == '%' {
            out.push("%")?;
            continue;
        }
        spec.work(run)?;
        let value = match named {
            Some(value) => value,
            None => given.next().ok_or("not enough arguments for format string")?.clone(),
        };
        convert(&value, kind, spec, run, &mut out)?;
    }
    out.push(rest)?;
    if !may_be_left && given.next().is_some() {
        return Err("not all arguments converted during string formatting".into());
    }
    Ok(out.text)
}

/// The value of `(name)` at the beginning of what follows a percent sign.
fn named(rest: &mut &str, values: &Value, run: &Run) -> Res<Option<Value>> {
    let Some(inner) = rest.strip_prefix('(') else { return Ok(None) };
    let (name, after) = inner.split_once(')').ok_or("incomplete format key")?;
    let Value::Dict(dict) = values else { return Err("format requires a mapping".into()) };
    *rest = after;
    match dict.get(&Value::str(name), run)? {
        Some(value) => Ok(Some(value.clone())),
        None => Err(format!("no key {:?}", beginning(name)).into()),
    }
}

/// Flags, width and precision before the letter that says the type.
fn conversion(rest: &mut &str) -> Res<Spec> {
    let mut spec = Spec { align: Some('>'), ..Spec::default() };
    while let Some(flag @ ('-' | '0' | '+' | ' ' | '#')) = rest.chars().next() {
        match flag {
            '-' => spec.align = Some('<'),
            '0' => spec.fill = Some('0'),
            '+' | ' ' => spec.sign = Some(flag),
            _ => return Err("the flag # is not supported".into()),
        }
        *rest = &rest[1..];
    }
    spec.width = digits(rest)?.unwrap_or(0);
    if let Some(after) = rest.strip_prefix('.') {
        *rest = after;
        spec.precision = Some(digits(rest)?.unwrap_or(0));
    }
    Ok(spec)
}

/// Writes a value as the type that a letter says.
fn convert(value: &Value, kind: char, mut spec: Spec, run: &Run, out: &mut Text) -> Res<()> {
    let text = match kind {
        's' | 'c' => to_text(value, run)?,
        'r' => {
            let mut text = Text::new(run);
            text.push_repr(value)?;
            text.text
        }
        'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
            let whole = value.as_int().or_else(|| value.as_float().map(|x| x as i128));
            let n = whole.ok_or_else(|| format!("%{kind} format: a number is required"))?;
            write_int(n, kind, &spec)
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            let x = value.as_float().ok_or("must be a real number")?;
            write_float(x, kind, &spec)?
        }
        other => return Err(format!("unsupported format character '{other}'").into()),
    };
    let numeric = !matches!(kind, 's' | 'r' | 'c');
    let text = match spec.precision {
        Some(most) if !numeric => text.chars().take(most).collect(),
        _ => text,
    };
    if !numeric {
        spec.fill = None;
    }
    pad(&text, &spec, numeric, out)
}

/// `format.format(values, name=value)`.
pub(super) fn format(format: &str, values: &[Value], named: &[(Arc<str>, Value)], run: &Run) -> Res<String> {
    // The first of two that have the same name is found.
    let named: HashMap<&str, &Value> = named.iter().rev().map(|(name, value)| (&**name, value)).collect();
    let mut out = Text::new(run);
    let mut rest = format;
    let (mut next, mut numbered) = (0, false);
    while let Some(at) = rest.find(['{', '}']) {
        out.push(&rest[..at])?;
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            out.push(brace)?;
            rest = after;
            continue;
        }
        if brace == "}" {
            return Err("Single '}' encountered in format string".into());
        }
        let (field, after) = rest.split_once('}').ok_or("expected '}' before end of string")?;
        rest = after;
        let (field, spec) = field.split_once(':').unwrap_or((field, ""));
        let (field, conversion) = field.split_once('!').unwrap_or((field, ""));
        let value = if field.is_empty() {
            next += 1;
            values.get(next - 1)
        } else if let Ok(at) = field.parse::<usize>() {
            numbered = true;
            values.get(at)
        } else {
            named.get(field).copied()
        };
        if numbered && next > 0 {
            return Err("cannot mix numbered fields with automatic numbering".into());
        }
        let value = value.ok_or_else(|| format!("no argument for the field {{{}}}", beginning(field)))?;
        if conversion == "r" {
            let mut text = Text::new(run);
            text.push_repr(value)?;
            out.push(&text.text)?;
        } else {
            write(value, spec, run, &mut out)?;
        }
    }
    out.push(rest)?;
    Ok(out.text)
}

fn write(value: &Value, spec: &str, run: &Run, out: &mut Text) -> Res<()> {
    let spec = parse(spec)?;
    spec.work(run)?;
    match (value, spec.kind) {
        (Value::Int(n), None | Some('d' | 'x' | 'X' | 'o' | 'b')) => {
            pad(&write_int(*n, spec.kind.unwrap_or('d'), &spec), &spec, true, out)
        }
        (Value::Int(_) | Value::Float(_), Some(kind @ ('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%'))) => {
            let x = value.as_float().unwrap_or(0.0);
            let text = if kind == '%' {
                write_float(x * 100.0, 'f', &spec)? + "%"
            } else {
                write_float(x, kind, &spec)?
            };
            pad(&text, &spec, true, out)
        }
        (Value::Float(_), None) if spec.precision.is_none() => pad(&to_text(value, run)?, &spec, true, out),
        (Value::Str(text) | Value::Markup(text), None | Some('s')) => {
            let text: String = text.chars().take(spec.precision.unwrap_or(usize::MAX)).collect();
            pad(&text, &spec, false, out)
        }
        _ if spec.width == 0 && spec.kind.is_none() && spec.precision.is_none() => out.push_value(value),
        (_, kind) => {
            let kind = kind.map_or(String::new(), String::from);
            Err(format!("format code '{kind}' is not supported for {}", value.type_name()).into())
        }
    }
}

fn parse(text: &str) -> Res<Spec> {
    let mut spec = Spec::default();
    let mut rest = text;
    let is_align = |c: char| matches!(c, '<' | '>' | '^');
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(fill), Some(align)) if is_align(align) => {
            (spec.fill, spec.align) = (Some(fill), Some(align));
            rest = &text[fill.len_utf8() + 1..];
        }
        (Some(align), _) if is_align(align) => {
            spec.align = Some(align);
            rest = &text[1..];
        }
        _ => {}
    }
    if let Some(sign @ ('+' | '-' | ' ')) = rest.chars().next() {
        spec.sign = Some(sign).filter(|s| *s != '-');
        rest = &rest[1..];
    }
    if rest.starts_with('0') && spec.align.is_none() {
        (spec.fill, spec.align) = (Some('0'), Some('>'));
    }
    spec.width = digits(&mut rest)?.unwrap_or(0);
    if let Some(after) = rest.strip_prefix(',') {
        (spec.comma, rest) = (true, after);
    }
    if let Some(after) = rest.strip_prefix('.') {
        rest = after;
        spec.precision = Some(digits(&mut rest)?.ok_or("Format specifier missing precision")?);
    }
    let mut chars = rest.chars();
    spec.kind = chars.next();
    if chars.next().is_some() {
        return Err(format!("Invalid format specifier {:?}", beginning(text)).into());
    }
    Ok(spec)
}

fn digits(rest: &mut &str) -> Res<Option<usize>> {
    let count = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, after) = rest.split_at(count);
    *rest = after;
    if count == 0 {
        return Ok(None);
    }
    // More digits of a number than this are nobody's wish.
    number.parse().ok().filter(|n| *n <= 1_000_000).map(Some).ok_or_else(|| "a width is too large".into())
}

fn write_int(n: i128, kind: char, spec: &Spec) -> String {
    let sign = if n < 0 { "-" } else { spec.sign.map_or("", |s| if s == '+' { "+" } else { " " }) };
    let digits = n.unsigned_abs();
    let digits = match kind {
        'x' => format!("{digits:x}"),
        'X' => format!("{digits:X}"),
        'o' => format!("{digits:o}"),
        'b' => format!("{digits:b}"),
        _ if spec.comma => with_commas(&digits.to_string()),
        _ => digits.to_string(),
    };
    format!("{sign}{digits}")
}

fn write_float(x: f64, kind: char, spec: &Spec) -> Res<String> {
    let precision = spec.precision.unwrap_or(6);
    if precision > MAX_PRECISION {
        return Err("a precision is too large".into());
    }
    let sign =
        if x.is_sign_negative() { "-" } else { spec.sign.map_or("", |s| if s == '+' { "+" } else { " " }) };
    let size = x.abs();
    let scientific = |precision: usize| {
        let text = format!("{size:.precision$e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (mark, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
        format!("{digits}e{mark}{exponent:0>2}")
    };
    let digits = match kind.to_ascii_lowercase() {
        'f' => format!("{size:.precision$}"),
        'e' => scientific(precision),
        _ => {
            let precision = precision.max(1);
            let text = format!("{size:.*e}", precision - 1);
            let exponent: i32 = text.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
            let fixed = (-4..precision as i32).contains(&exponent);
            let text = if fixed {
                format!("{size:.*}", (precision as i32 - 1 - exponent).max(0) as usize)
            } else {
                scientific(precision - 1)
            };
            let (digits, exponent) = text.split_once('e').map_or((text.as_str(), ""), |(d, e)| (d, e));
            let digits = if digits.contains('.') {
                digits.trim_end_matches('0').trim_end_matches('.')
            } else {
                digits
            };
            if fixed { digits.to_owned() } else { format!("{digits}e{exponent}") }
        }
    };
    let digits = match digits.split_once('.') {
        Some((whole, rest)) if spec.comma => format!("{}.{rest}", with_commas(whole)),
        None if spec.comma => with_commas(&digits),
        _ => digits,
    };
    let text = format!("{sign}{digits}");
    Ok(if kind.is_ascii_uppercase() { text.to_uppercase() } else { text })
}

fn with_commas(digits: &str) -> String {
    let mut out = String::new();
    for (at, c) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

fn pad(text: &str, spec: &Spec, numeric: bool, out: &mut Text) -> Res<()> {
    let missing = spec.width.saturating_sub(text.chars().count());
    let align = spec.align.unwrap_or(if numeric { '>' } else { '<' });
    let zeros = spec.fill == Some('0') && numeric && align == '>';
    let fill = spec.fill.filter(|f| *f != '0' || align != '<' || !numeric).unwrap_or(' ');
    let mut buffer = [0; 4];
    let fill: &str = fill.encode_utf8(&mut buffer);
    let (before, after) = match align {
        '<' => (0, missing),
        '^' => (missing / 2, missing - missing / 2),
        _ => (missing, 0),
    };
    // Zeros stand between the sign and the digits.
    let sign = if zeros && text.starts_with(['-', '+', ' ']) { 1 } else { 0 };
    out.push(&text[..sign])?;
    (0..before).try_for_each(|_| out.push(fill))?;
    out.push(&text[sign..])?;
    (0..after).try_for_each(|_| out.push(fill))
}
