//! Filters that go through several values.

use std::cmp::Ordering;

use super::Res;
use super::call::Given;
use super::filters::text_of;
use super::methods::int;
use super::run::Run;
use super::text::Text;
use super::value::{Dict, SeqKind, Value};

/// A path to a value within another, such as `function.name` or `0`.
struct Path(Vec<Value>);

impl Path {
    fn of(value: &Value, run: &Run) -> Res<Self> {
        let text = match value {
            Value::Int(_) => return Ok(Self(vec![value.clone()])),
            Value::Str(text) | Value::Markup(text) => text,
            other => return Err(format!("an attribute must be a name, not {}", other.type_name()).into()),
        };
        // As much room as the list begins with, because there may be many short paths.
        let mut path = Vec::with_capacity(4);
        run.hold(size_of::<Self>() + 4 * size_of::<Value>())?;
        for part in text.split('.') {
            run.work(1)?;
            run.hold(size_of::<Value>() + 16 + part.len())?;
            let index = part.parse().ok().filter(|_| part.bytes().all(|b| b.is_ascii_digit()));
            path.push(index.map_or_else(|| Value::str(part), Value::Int));
        }
        Ok(Self(path))
    }

    /// The value at the path, or the default wherever something is missing on the way.
    fn get(&self, value: &Value, default: Option<&Value>, run: &Run) -> Res<Value> {
        let mut value = value.clone();
        for part in &self.0 {
            run.work(1)?;
            value = run.item(&value, part)?;
            if value.is_undefined()
                && let Some(default) = default
            {
                value = default.clone();
            }
        }
        Ok(value)
    }
}

impl Run<'_> {
    pub(super) fn list_filter(&self, name: &str, value: Value, args: Given) -> Res<Value> {
        match name {
            "list" => {
                let [] = args.bind(name, [])?;
                let items = value.items(self)?;
                self.list(items)
            }
            "first" => {
                let [] = args.bind(name, [])?;
                let first = match &value {
                    Value::Iter(iter) => iter.next(),
                    other => other.items(self)?.into_iter().next(),
                };
                first.map_or_else(|| self.undefined("No first item, sequence was empty."), Ok)
            }
            "last" => {
                let [] = args.bind(name, [])?;
                if matches!(value, Value::Iter(_)) {
                    return Err(format!("'{}' object is not reversible", value.type_name()).into());
                }
                let last = value.items(self)?.pop();
                last.map_or_else(|| self.undefined("No last item, sequence was empty."), Ok)
            }
            "reverse" => {
                let [] = args.bind(name, [])?;
                if let Some(text) = value.as_str() {
                    return self.str(text.chars().rev().collect::<String>());
                }
                let mut items = value.items(self)?;
                items.reverse();
                self.iter("list_reverseiterator", items)
            }
            "join" => self.join_filter(&value, args),
            "items" => {
                let [] = args.bind(name, [])?;
                let pairs = match &value {
                    Value::Undefined(_) => Vec::new(),
                    Value::Dict(dict) => {
                        let pairs =
                            dict.entries().iter().map(|(k, v)| self.tuple(vec![k.clone(), v.clone()]));
                        pairs.collect::<Res<_>>()?
                    }
                    _ => return Err("Can only get item pairs from a mapping.".into()),
                };
                self.iter("generator", pairs)
            }
            "dictsort" => self.dict_sort(&value, args),
            "map" => self.map(&value, args),
            "select" | "reject" => self.select(&value, None, name == "select", args),
            "selectattr" | "rejectattr" => {
                let mut args = args;
                if args.positional.is_empty() {
                    return Err("Missing parameter for attribute name".into());
                }
                let path = Path::of(&args.positional.remove(0), self)?;
                self.select(&value, Some(path), name == "selectattr", args)
            }
            "sort" => {
                let [reverse, case_sensitive, attribute] =
                    args.bind(name, ["reverse", "case_sensitive", "attribute"])?;
                let keys = self.sort_keys(&value, attribute, case_sensitive)?;
                let sorted = self.sorted(keys, reverse.is_some_and(|r| r.truthy()))?;
                self.list(sorted.into_iter().map(|(_, item)| item).collect())
            }
            "min" | "max" => {
                let [case_sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"])?;
                let wanted = if name == "min" { Ordering::Less } else { Ordering::Greater };
                let mut best: Option<(Value, Value)> = None;
                for (key, item) in self.keys(&value, attribute, case_sensitive)? {
                    let symbol = if name == "min" { "<" } else { ">" };
                    let better = match &best {
                        Some((so_far, _)) => key.compare(so_far, symbol, self)? == Some(wanted),
                        None => true,
                    };
                    if better {
                        best = Some((key, item));
                    }
                }
                let empty = || self.undefined("No aggregated item, sequence was empty.");
                best.map_or_else(empty, |(_, item)| Ok(item))
            }
            "unique" => {
                let [case_sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"])?;
                let mut seen = Dict::default();
                let mut kept = Vec::new();
                for (key, item) in self.keys(&value, attribute, case_sensitive)? {
                    if seen.insert(key, Value::None, self)? {
                        kept.push(item);
                    }
                }
                self.iter("generator", kept)
            }
            "sum" => {
                let [attribute, start] = args.bind(name, ["attribute", "start"])?;
                let path = attribute
                    .filter(|a| !matches!(a, Value::None))
                    .map(|a| Path::of(&a, self))
                    .transpose()?;
                let mut total = start.unwrap_or(Value::Int(0));
                for item in value.items(self)? {
                    let item = path.as_ref().map_or(Ok(item.clone()), |p| p.get(&item, None, self))?;
                    total = self.add(&total, &item)?;
                }
                Ok(total)
            }
            "groupby" => self.group_by(&value, args),
            "batch" => {
                let [count, fill] = args.bind(name, ["linecount", "fill_with"])?;
                let count = usize::try_from(int(count, 0, name)?).ok().filter(|c| *c > 0);
                let count = count.ok_or("batch takes a positive number")?;
                let mut rows = Vec::new();
                for row in value.items(self)?.chunks(count) {
                    let mut row = row.to_vec();
                    if let Some(fill) = fill.as_ref().filter(|f| !matches!(f, Value::None)) {
                        self.hold((count - row.len()).saturating_mul(size_of::<Value>()))?;
                        row.resize(count, fill.clone());
                    }
                    rows.push(self.list(row)?);
                }
                self.iter("generator", rows)
            }
            "slice" => {
                let [slices, fill] = args.bind(name, ["slices", "fill_with"])?;
                let slices = usize::try_from(int(slices, 0, name)?).ok().filter(|c| *c > 0);
                let slices = slices.ok_or("slice takes a positive number")?;
                self.hold(slices.saturating_mul(size_of::<Value>()))?;
                let items = value.items(self)?;
                let (each, longer) = (items.len() / slices, items.len() % slices);
                let mut rest = items.into_iter();
                let mut columns = Vec::new();
                for at in 0..slices {
                    let mut column: Vec<Value> =
                        rest.by_ref().take(each + usize::from(at < longer)).collect();
                    if let Some(fill) = fill.as_ref().filter(|f| !matches!(f, Value::None) && at >= longer) {
                        column.push(fill.clone());
                    }
                    columns.push(self.list(column)?);
                }
                self.iter("generator", columns)
            }
            _ => Err(format!("No filter named '{name}'.").into()),
        }
    }

    fn join_filter(&self, value: &Value, args: Given) -> Res<Value> {
        let [separator, attribute] = args.bind("join", ["d", "attribute"])?;
        let path = attribute.filter(|a| !matches!(a, Value::None)).map(|a| Path::of(&a, self)).transpose()?;
        let separator = separator.unwrap_or_else(|| Value::str(""));
        let mut text = Text::new(self);
        for (at, item) in value.items(self)?.into_iter().enumerate() {
            if at > 0 {
                text.push_value(&separator)?;
            }
            text.push_value(&path.as_ref().map_or(Ok(item.clone()), |p| p.get(&item, None, self))?)?;
        }
        Ok(Value::str(&text.text))
    }

    fn map(&self, value: &Value, args: Given) -> Res<Value> {
        let mut args = args;
        // Jinja asks first whether there is anything, so that none is no error here.
        let items = if value.truthy() { value.items(self)? } else { Vec::new() };
        let mut mapped = Vec::with_capacity(items.len());
        if args.positional.is_empty() {
            let [attribute, default] = args.bind("map", ["attribute", "default"])?;
            let path = Path::of(&attribute.ok_or("map requires a filter argument")?, self)?;
            let default = default.filter(|d| !matches!(d, Value::None));
            for item in items {
                mapped.push(path.get(&item, default.as_ref(), self)?);
            }
        } else {
            let name = text_of(Some(args.positional.remove(0)), "", "map")?;
            for item in items {
                self.work(1)?;
                let again = Given { positional: args.positional.clone(), named: args.named.clone() };
                mapped.push(self.deeper(|| self.filter(&name, item, again))?);
            }
        }
        self.iter("generator", mapped)
    }

    /// The items, or an attribute of theirs, for which a test holds, or for which it does not.
    fn select(&self, value: &Value, path: Option<Path>, wanted: bool, args: Given) -> Res<Value> {
        let mut args = args;
        let test = if args.positional.is_empty() {
            None
        } else {
            Some(text_of(Some(args.positional.remove(0)), "", "select")?)
        };
        let mut kept = Vec::new();
        let items = if value.truthy() { value.items(self)? } else { Vec::new() };
        for item in items {
            self.work(1)?;
            let tested = path.as_ref().map_or(Ok(item.clone()), |p| p.get(&item, None, self))?;
            let holds = match &test {
                Some(test) => {
                    let again = Given { positional: args.positional.clone(), named: args.named.clone() };
                    self.test(test, &tested, again)?
                }
                None => tested.truthy(),
            };
            if holds == wanted {
                kept.push(item);
            }
        }
        self.iter("generator", kept)
    }

    fn dict_sort(&self, value: &Value, args: Given) -> Res<Value> {
        let [case_sensitive, by, reverse] = args.bind("dictsort", ["case_sensitive", "by", "reverse"])?;
        let by = text_of(by, "key", "dictsort")?;
        let Value::Dict(dict) = value.defined()? else {
            return Err(format!("'{}' object has no attribute 'items'", value.type_name()).into());
        };
        let at = match &*by {
            "key" => 0,
            "value" => 1,
            _ => return Err("You can only sort by either \"key\" or \"value\"".into()),
        };
        let pairs = dict.entries().iter().map(|(k, v)| self.tuple(vec![k.clone(), v.clone()]));
        let pairs = self.list(pairs.collect::<Res<_>>()?)?;
        let keys = self.keys(&pairs, Some(Value::Int(at)), case_sensitive)?;
        let sorted = self.sorted(keys, reverse.is_some_and(|r| r.truthy()))?;
        self.list(sorted.into_iter().map(|(_, item)| item).collect())
    }

    fn group_by(&self, value: &Value, args: Given) -> Res<Value> {
        let [attribute, default, case_sensitive] =
            args.bind("groupby", ["attribute", "default", "case_sensitive"])?;
        let path = Path::of(&attribute.ok_or("groupby misses an attribute")?, self)?;
        let mut keys = Vec::new();
        for item in value.items(self)? {
            keys.push((path.get(&item, default.as_ref(), self)?, item));
        }
        let fold = !case_sensitive.is_some_and(|c| c.truthy());
        let mut folded = Vec::with_capacity(keys.len());
        for (key, item) in keys {
            folded.push((if fold { self.lower(&key)? } else { key.clone() }, (key, item)));
        }
        let mut groups: Vec<(Value, Value, Vec<Value>)> = Vec::new();
        for (folded, (key, item)) in self.sorted(folded, false)? {
            match groups.last_mut() {
                Some((last, _, items)) if last.equals(&folded, self)? => items.push(item),
                _ => groups.push((folded, key, vec![item])),
            }
        }
        let mut listed = Vec::new();
        for (_, key, items) in groups {
            let items = self.list(items)?;
            listed.push(self.seq(SeqKind::Group, vec![key, items])?);
        }
        self.list(listed)
    }

    /// The items with what they are compared by: themselves or an attribute, in lower case unless case counts.
    fn keys(
        &self,
        value: &Value,
        attribute: Option<Value>,
        case_sensitive: Option<Value>,
    ) -> Res<Vec<(Value, Value)>> {
        let path = attribute.filter(|a| !matches!(a, Value::None)).map(|a| Path::of(&a, self)).transpose()?;
        let fold = !case_sensitive.is_some_and(|c| c.truthy());
        let items = value.items(self)?;
        self.hold(items.len() * size_of::<Value>())?;
        let keyed = items.into_iter().map(|item| {
            let key = path.as_ref().map_or(Ok(item.clone()), |p| p.get(&item, None, self))?;
            Ok((if fold { self.lower(&key)? } else { key }, item))
        });
        keyed.collect()
    }

    /// [`Run::keys`] by several attributes with commas between them, which are compared as lists.
    fn sort_keys(
        &self,
        value: &Value,
        attribute: Option<Value>,
        case_sensitive: Option<Value>,
    ) -> Res<Vec<(Value, Value)>> {
        let Some(Value::Str(names)) = &attribute else { return self.keys(value, attribute, case_sensitive) };
        let paths =
            names.split(',').map(|name| Path::of(&Value::str(name), self)).collect::<Res<Vec<_>>>()?;
        let fold = !case_sensitive.is_some_and(|c| c.truthy());
        let keyed = value.items(self)?.into_iter().map(|item| {
            let parts = paths.iter().map(|path| {
                let key = path.get(&item, None, self)?;
                if fold { self.lower(&key) } else { Ok(key) }
            });
            Ok((self.list(parts.collect::<Res<_>>()?)?, item))
        });
        keyed.collect()
    }

    /// Text in lower case; whatever else as it is.
    fn lower(&self, value: &Value) -> Res<Value> {
        match value.as_str() {
            Some(text) => self.str(text.to_lowercase()),
            None => Ok(value.clone()),
        }
    }

    /// A stable sort that a comparison without an answer ends.
    pub(super) fn sorted<T>(&self, mut items: Vec<(Value, T)>, reverse: bool) -> Res<Vec<(Value, T)>> {
        if items.len() < 2 {
            return Ok(items);
        }
        let right = self.sorted(items.split_off(items.len() / 2), reverse)?;
        let left = self.sorted(items, reverse)?;
        let mut merged = Vec::with_capacity(left.len() + right.len());
        let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
        while let (Some(l), Some(r)) = (left.peek(), right.peek()) {
            let (a, b) = if reverse { (l, r) } else { (r, l) };
            // The later one goes first only if it is truly smaller, or for a reversed order larger.
            let swapped = a.0.compare(&b.0, "<", self)? == Some(Ordering::Less);
            merged.extend(if swapped { right.next() } else { left.next() });
        }
        merged.extend(left.chain(right));
        Ok(merged)
    }
}
