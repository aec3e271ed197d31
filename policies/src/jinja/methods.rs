//! Methods of strings, dicts, lists and loops. Those that change a list or dict do not exist, as in Jinja's sandbox.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use super::Res;
use super::call::Given;
use super::expression::like;
use super::lexer::is_space;
use super::percent;
use super::run::Run;
use super::text::Text;
use super::value::{Dict, Loop, Seq, SeqKind, Value};

const OF_STRINGS: [&str; 38] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "islower",
    "isnumeric",
    "isspace",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
];
const MORE_OF_STRINGS: [&str; 2] = ["upper", "zfill"];
const OF_DICTS: [&str; 5] = ["copy", "get", "items", "keys", "values"];
const OF_LISTS: [&str; 3] = ["copy", "count", "index"];
const OF_LOOPS: [&str; 2] = ["changed", "cycle"];

/// Whether the value has the method.
pub(super) fn exist(value: &Value, name: &str) -> bool {
    match value {
        Value::Str(_) | Value::Markup(_) => OF_STRINGS.contains(&name) || MORE_OF_STRINGS.contains(&name),
        Value::Dict(_) => OF_DICTS.contains(&name),
        Value::Seq(seq) => match seq.kind {
            SeqKind::List => OF_LISTS.contains(&name),
            SeqKind::Tuple | SeqKind::Group | SeqKind::Range { .. } => OF_LISTS[1..].contains(&name),
            _ => false,
        },
        Value::Loop(_) => OF_LOOPS.contains(&name),
        _ => false,
    }
}

impl Run<'_> {
    pub(super) fn method(&self, object: &Value, name: &str, args: Given) -> Res<Value> {
        args.read(self)?;
        match object {
            Value::Str(text) | Value::Markup(text) => self.of_string(object, text, name, args),
            Value::Dict(dict) => self.of_dict(dict, name, args),
            Value::Seq(seq) => self.of_list(seq, name, args),
            Value::Loop(looping) => self.of_loop(looping, name, args),
            other => Err(format!("'{} object' has no attribute '{name}'", other.type_name()).into()),
        }
    }

    fn of_dict(&self, dict: &Dict, name: &str, args: Given) -> Res<Value> {
        let entries = dict.entries();
        if name == "get" {
            let [key, default] = args.bind("get", ["key", "default"])?;
            let key = key.ok_or("get expected at least 1 argument, got 0")?;
            return Ok(dict.get(&key, self)?.cloned().or(default).unwrap_or(Value::None));
        }
        match name {
            "items" => {
                let [] = args.bind("items", [])?;
                let pairs = entries.iter().map(|(k, v)| self.tuple(vec![k.clone(), v.clone()]));
                self.seq(SeqKind::Items, pairs.collect::<Res<_>>()?)
            }
            "keys" => {
                let [] = args.bind("keys", [])?;
                self.seq(SeqKind::Keys, entries.iter().map(|(k, _)| k.clone()).collect())
            }
            "values" => {
                let [] = args.bind("values", [])?;
                self.seq(SeqKind::Values, entries.iter().map(|(_, v)| v.clone()).collect())
            }
            _ => self.dict(entries.iter().cloned().map(Ok)),
        }
    }

    fn of_list(&self, seq: &Seq, name: &str, args: Given) -> Res<Value> {
        if name == "copy" {
            return self.list(seq.items.clone());
        }
        let [value] = args.bind(name, ["value"])?;
        let value = value.ok_or_else(|| format!("{name} takes one argument"))?;
        let (mut first, mut count) = (None, 0);
        for (at, item) in seq.items.iter().enumerate() {
            if item.equals(&value, self)? {
                first.get_or_insert(at);
                count += 1;
            }
        }
        match (name, first) {
            ("count", _) => Ok(Value::Int(count)),
            (_, Some(at)) => Ok(Value::Int(at as i128)),
            (_, None) => Err("the value is not in the list".into()),
        }
    }

    fn of_loop(&self, looping: &Rc<Loop>, name: &str, args: Given) -> Res<Value> {
        if !args.named.is_empty() {
            return Err(format!("loop.{name} takes no keyword arguments").into());
        }
        let values = args.positional;
        if name == "cycle" {
            let at = looping.at.get().checked_rem(values.len()).ok_or("no items for cycling given")?;
            return Ok(values[at].clone());
        }
        let values = self.list(values)?;
        let last = looping.changed.replace(Some(values.clone()));
        let same = match last {
            Some(last) => last.equals(&values, self)?,
            None => {
                self.remember(looping)?;
                false
            }
        };
        Ok(Value::Bool(!same))
    }

    fn of_string(&self, object: &Value, text: &Arc<str>, name: &str, args: Given) -> Res<Value> {
        // Reading it once, and a result as long as the text: what grows says so itself.
        self.hold(text.len())?;
        let plain = |changed: String| Ok(like(object, &changed));
        match name {
            "lower" => plain(no_args(name, args, || text.to_lowercase())?),
            "upper" => plain(no_args(name, args, || text.to_uppercase())?),
            "casefold" => plain(no_args(name, args, || text.to_lowercase().replace('ß', "ss"))?),
            "capitalize" => plain(no_args(name, args, || capitalized(text))?),
            "title" => plain(no_args(name, args, || titled(text))?),
            "swapcase" => plain(no_args(name, args, || swapped(text))?),
            "isalnum" | "isalpha" | "isascii" | "isdecimal" | "isdigit" | "islower" | "isnumeric"
            | "isspace" | "isupper" => Ok(Value::Bool(no_args(name, args, || is(name, text))?)),
            "strip" | "lstrip" | "rstrip" => {
                let [chars] = args.bind(name, ["chars"])?;
                plain(self.strip(text, chars.as_ref(), name != "rstrip", name != "lstrip")?.to_owned())
            }
            "removeprefix" | "removesuffix" => {
                let [affix] = args.bind(name, ["affix"])?;
                let affix = string(affix, name)?;
                let cut = if name == "removeprefix" {
                    text.strip_prefix(&*affix)
                } else {
                    text.strip_suffix(&*affix)
                };
                plain(cut.unwrap_or(text).to_owned())
            }
            "startswith" | "endswith" => {
                let [affix, start, end] = args.bind(name, ["affix", "start", "end"])?;
                let part = between(text, start, end)?.map_or("", |(_, part)| part);
                let holds = |affix: &Value| {
                    let affix =
                        affix.as_str().ok_or_else(|| format!("{name} takes a string or a tuple of them"))?;
                    self.scan(affix.len().min(part.len()))?;
                    Ok(if name == "startswith" {
                        part.starts_with(&**affix)
                    } else {
                        part.ends_with(&**affix)
                    })
                };
                match affix {
                    Some(Value::Seq(seq)) if seq.kind == SeqKind::Tuple => {
                        self.work(seq.items.len())?;
                        let any = seq.items.iter().map(holds).collect::<Res<Vec<_>>>()?;
                        Ok(Value::Bool(any.contains(&true)))
                    }
                    Some(affix) => Ok(Value::Bool(holds(&affix)?)),
                    None => Err(format!("{name} takes at least 1 argument (0 given)").into()),
                }
            }
            "find" | "rfind" | "index" | "rindex" | "count" => self.search(text, name, args),
            "replace" => {
                let [old, new, count] = args.bind(name, ["old", "new", "count"])?;
                let (old, new) = (string(old, name)?, string(new, name)?);
                let count = usize::try_from(int(count, -1, name)?).unwrap_or(usize::MAX);
                let found = text.matches(&*old).take(count).count();
                self.hold(found.saturating_mul(new.len()))?;
                plain(text.replacen(&*old, &new, count))
            }
            "split" | "rsplit" => {
                let [separator, most] = args.bind(name, ["sep", "maxsplit"])?;
                let most = usize::try_from(int(most, -1, name)?).unwrap_or(usize::MAX);
                let from_right = name == "rsplit";
                let Some(separator) = separator.filter(|s| !matches!(s, Value::None)) else {
                    return self.parts(object, split_spaces(text, most, from_right), from_right);
                };
                let separator = string(Some(separator), name)?;
                if separator.is_empty() {
                    return Err("empty separator".into());
                }
                let limit = most.saturating_add(1);
                if from_right {
                    self.parts(object, text.rsplitn(limit, &*separator), true)
                } else {
                    self.parts(object, text.splitn(limit, &*separator), false)
                }
            }
            "splitlines" => {
                let [keep_ends] = args.bind(name, ["keepends"])?;
                self.parts(object, lines(text, keep_ends.is_some_and(|k| k.truthy())), false)
            }
            "partition" | "rpartition" => {
                let [separator] = args.bind(name, ["sep"])?;
                let separator = string(separator, name)?;
                if separator.is_empty() {
                    return Err("empty separator".into());
                }
                let last = name == "rpartition";
                let cut = if last { text.rsplit_once(&*separator) } else { text.split_once(&*separator) };
                let parts = match cut {
                    Some((before, after)) => [before, &separator, after],
                    None if last => ["", "", text],
                    None => [text, "", ""],
                };
                self.tuple(parts.iter().map(|p| like(object, p)).collect())
            }
            "join" => {
                let [values] = args.bind(name, ["iterable"])?;
                let mut joined = Text::new(self);
                for (at, value) in values.ok_or("join takes one argument")?.items(self)?.iter().enumerate() {
                    joined.push(if at > 0 { text } else { "" })?;
                    let Some(part) = value.as_str() else {
                        let name = value.type_name();
                        return Err(format!("sequence item {at}: expected str instance, {name} found").into());
                    };
                    joined.push(part)?;
                }
                plain(joined.text)
            }
            "center" | "ljust" | "rjust" | "zfill" => self.padded(object, text, name, args),
            "expandtabs" => {
                let [size] = args.bind(name, ["tabsize"])?;
                let size = usize::try_from(int(size, 8, name)?.max(0)).unwrap_or(0);
                self.hold(text.matches('\t').count().saturating_mul(size))?;
                plain(expand_tabs(text, size))
            }
            "format" => plain(percent::format(text, &args.positional, &args.named, self)?),
            _ => Err(format!("'str object' has no attribute '{name}'").into()),
        }
    }

    fn search(&self, text: &str, name: &str, args: Given) -> Res<Value> {
        let [part, start, end] = args.bind(name, ["sub", "start", "end"])?;
        let part = string(part, name)?;
        let chars = |bytes: &str| bytes.chars().count() as i128;
        let Some((before, within)) = between(text, start, end)? else {
            return match name {
                "count" => Ok(Value::Int(0)),
                "find" | "rfind" => Ok(Value::Int(-1)),
                _ => Err("substring not found".into()),
            };
        };
        if name == "count" {
            let count =
                if part.is_empty() { chars(within) + 1 } else { within.matches(&*part).count() as i128 };
            return Ok(Value::Int(count));
        }
        let found = if name.starts_with('r') { within.rfind(&*part) } else { within.find(&*part) };
        match found {
            Some(at) => Ok(Value::Int(chars(before) + chars(&within[..at]))),
            None if name.ends_with("find") => Ok(Value::Int(-1)),
            None => Err("substring not found".into()),
        }
    }

    fn padded(&self, object: &Value, text: &str, name: &str, args: Given) -> Res<Value> {
        let [width, fill] = args.bind(name, ["width", "fillchar"])?;
        let width = usize::try_from(int(width, 0, name)?.max(0)).unwrap_or(usize::MAX);
        let fill = fill.map_or(Ok(" ".into()), |f| string(Some(f), name))?;
        if fill.chars().count() != 1 {
            return Err("The fill character must be exactly one character long".into());
        }
        let missing = width.saturating_sub(text.chars().count());
        self.hold(missing.saturating_mul(fill.len()))?;
        let padded = match name {
            "ljust" => text.to_owned() + &fill.repeat(missing),
            "rjust" => fill.repeat(missing) + text,
            "zfill" => {
                let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
                format!("{}{}{digits}", &text[..text.len() - digits.len()], "0".repeat(missing))
            }
            _ => {
                // Where the two sides differ, Python's rule depends on the width.
                let left = missing / 2 + (missing & width & 1);
                format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left))
            }
        };
        Ok(like(object, &padded))
    }

    /// A list of parts of a text, which come in order or from the right.
    fn parts<'p>(
        &self,
        object: &Value,
        parts: impl Iterator<Item = &'p str>,
        from_right: bool,
    ) -> Res<Value> {
        let mut items = Vec::new();
        for part in parts {
            self.work(1)?;
            // The value and the counters of its text.
            self.hold(size_of::<Value>() + 16)?;
            items.push(like(object, part));
        }
        if from_right {
            items.reverse();
        }
        self.list(items)
    }

    /// The text without the characters at its ends: blanks, or those of `chars`.
    pub(super) fn strip<'s>(
        &self,
        text: &'s str,
        chars: Option<&Value>,
        left: bool,
        right: bool,
    ) -> Res<&'s str> {
        self.scan(text.len())?;
        let Some(chars) = chars.filter(|c| !matches!(c, Value::None)) else {
            return Ok(trim(text, is_space, left, right));
        };
        let chars = chars.as_str().ok_or("strip takes a string")?;
        // To hash a character takes longer than to read it.
        self.work((text.len() + chars.len()) / 8)?;
        let stripped: HashSet<char> = chars.chars().collect();
        Ok(trim(text, |c| stripped.contains(&c), left, right))
    }
}

fn no_args<T>(name: &str, args: Given, result: impl FnOnce() -> T) -> Res<T> {
    let [] = args.bind(name, [])?;
    Ok(result())
}

fn string(value: Option<Value>, name: &str) -> Res<Arc<str>> {
    match value {
        Some(Value::Str(s) | Value::Markup(s)) => Ok(s),
        Some(other) => Err(format!("{name} takes a string, not {}", other.type_name()).into()),
        None => Err(format!("{name} misses an argument").into()),
    }
}

/// An integer, or the default where nothing or none is given.
pub(super) fn int(value: Option<Value>, default: i128, name: &str) -> Res<i128> {
    match value {
        None | Some(Value::None) => Ok(default),
        Some(value) => {
            value.as_int().ok_or_else(|| format!("{name} takes an integer, not {}", value.type_name()).into())
        }
    }
}

/// The part of a text from one character to another, with what is before it; none where the beginning lies behind the
/// end.
fn between(text: &str, start: Option<Value>, end: Option<Value>) -> Res<Option<(&str, &str)>> {
    if start.is_none() && end.is_none() {
        return Ok(Some(("", text)));
    }
    let len = text.chars().count() as i128;
    let position = |value, default| {
        let at = int(value, default, "the position")?;
        Ok::<_, super::Fault>(if at < 0 { (at + len).max(0) } else { at })
    };
    let (start, end) = (position(start, 0)?, position(end, len)?.min(len));
    if start > end {
        return Ok(None);
    }
    let byte = |at: i128| text.char_indices().nth(at as usize).map_or(text.len(), |(at, _)| at);
    Ok(Some((&text[..byte(start)], &text[byte(start)..byte(end)])))
}

fn trim(text: &str, strips: impl Fn(char) -> bool, left: bool, right: bool) -> &str {
    let text = if left { text.trim_start_matches(&strips) } else { text };
    if right { text.trim_end_matches(&strips) } else { text }
}

/// The first character in upper case, the others in lower.
pub(super) fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars.as_str().to_lowercase().chars()).collect(),
        None => String::new(),
    }
}

/// Every letter after something else than a letter in upper case.
fn titled(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_lowercase() || c.is_uppercase();
    }
    out
}

fn swapped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_uppercase() {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
    }
    out
}

fn is(name: &str, text: &str) -> bool {
    let all = |holds: fn(char) -> bool| !text.is_empty() && text.chars().all(holds);
    match name {
        "isalnum" => all(char::is_alphanumeric),
        "isalpha" => all(char::is_alphabetic),
        "isascii" => text.is_ascii(),
        "isdecimal" | "isdigit" | "isnumeric" => all(char::is_numeric),
        "isspace" => all(is_space),
        "islower" => text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase),
        _ => text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase),
    }
}

/// Words between blanks; after `most` cuts, the rest is one, blanks at its far end included.
fn split_spaces(text: &str, most: usize, from_right: bool) -> impl Iterator<Item = &str> {
    let (mut rest, mut cuts) = (text, 0);
    std::iter::from_fn(move || {
        rest = if from_right { rest.trim_end_matches(is_space) } else { rest.trim_start_matches(is_space) };
        if rest.is_empty() {
            return None;
        }
        let cut = if from_right { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(at) = cut.filter(|_| cuts < most) else {
            return Some(std::mem::take(&mut rest));
        };
        cuts += 1;
        let after = at + rest[at..].chars().next().map_or(0, char::len_utf8);
        let (word, others) =
            if from_right { (&rest[after..], &rest[..at]) } else { (&rest[..at], &rest[after..]) };
        rest = others;
        Some(word)
    })
}

/// Lines as Python's `splitlines` cuts them.
pub(super) fn lines(text: &str, keep_ends: bool) -> impl Iterator<Item = &str> {
    let ends = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(at) = rest.find(ends) else {
            return Some(std::mem::take(&mut rest));
        };
        let end = if rest[at..].starts_with("\r\n") {
            2
        } else {
            rest[at..].chars().next().map_or(1, char::len_utf8)
        };
        let line = &rest[..at + if keep_ends { end } else { 0 }];
        rest = &rest[at + end..];
        Some(line)
    })
}

fn expand_tabs(text: &str, size: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' => {
                let blanks = size.saturating_sub(column % size.max(1));
                out.extend(std::iter::repeat_n(' ', blanks));
                column += blanks;
            }
            _ => {
                out.push(c);
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    out
}
