//! Values as Python has them.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;
use std::sync::Arc;

use super::run::{Run, Scope};
use super::{Fault, Res};

/// Lists within lists; JSON has at most 128.
const MAX_DEPTH: u16 = 200;

#[derive(Clone)]
pub(super) enum Value {
    /// Something that is not there, with what is said when it is used.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Arc<str>),
    /// Text that the filter `safe` or `escape` marked; what is added to it is escaped for HTML.
    Markup(Arc<str>),
    Seq(Rc<Seq>),
    Dict(Rc<Dict>),
    /// Values that can be gone through once.
    Iter(Rc<Iter>),
    Namespace(Rc<Namespace>),
    Loop(Rc<Loop>),
    Macro(Rc<Closure>),
    Function(Function),
    /// A method with its object.
    Method(Rc<(Value, Arc<str>)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SeqKind {
    List,
    Tuple,
    /// A tuple of `groupby`, with the attributes `grouper` and `list`.
    Group,
    Range {
        start: i128,
        stop: i128,
        step: i128,
    },
    Keys,
    Values,
    Items,
}

pub(super) struct Seq {
    pub(super) kind: SeqKind,
    pub(super) items: Vec<Value>,
    depth: u16,
}

#[derive(Default)]
pub(super) struct Dict {
    entries: Vec<(Value, Value)>,
    index: HashMap<Key, usize>,
    depth: u16,
}

pub(super) struct Iter {
    /// What Python calls it.
    pub(super) kind: &'static str,
    rest: RefCell<std::vec::IntoIter<Value>>,
    depth: u16,
}

#[derive(Default)]
pub(super) struct Namespace {
    pub(super) attributes: RefCell<Dict>,
}

/// The variable `loop`.
pub(super) struct Loop {
    pub(super) items: Vec<Value>,
    pub(super) at: Cell<usize>,
    /// Levels of recursion above this one.
    pub(super) level: usize,
    /// The loop in [`super::ast::Ast::loops`] and its surroundings, where it is recursive.
    pub(super) recursive: Option<(usize, Rc<Scope>)>,
    /// The list of values that `changed` was called with last.
    pub(super) changed: RefCell<Option<Value>>,
    depth: u16,
}

/// A macro with the names that it sees.
pub(super) struct Closure {
    /// Index into [`super::ast::Ast::macros`].
    pub(super) index: usize,
    pub(super) scope: Rc<Scope>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Range,
    Dict,
    Namespace,
    RaiseException,
    StrftimeNow,
    /// A function of Jinja that no chat template calls.
    Unsupported(&'static str),
}

impl Function {
    /// The function that every template has under a name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "range" => Self::Range,
            "dict" => Self::Dict,
            "namespace" => Self::Namespace,
            "raise_exception" => Self::RaiseException,
            "strftime_now" => Self::StrftimeNow,
            "lipsum" => Self::Unsupported("lipsum"),
            "cycler" => Self::Unsupported("cycler"),
            "joiner" => Self::Unsupported("joiner"),
            _ => return None,
        })
    }
}

/// What a key of a dict is found by: `1`, `1.0` and `true` are one key.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Undefined,
    None,
    Int(i128),
    Float(u64),
    Str(Arc<str>),
    Tuple(Vec<Key>),
}

impl Key {
    /// The key of a value, or within the result the error of one that cannot be a key. Tuples may share their parts, so
    /// that a key may be far larger than its value.
    fn of(value: &Value, run: &Run) -> Res<Res<Self>> {
        run.work(1)?;
        Ok(Ok(match value {
            Value::Undefined(_) => Self::Undefined,
            Value::None => Self::None,
            Value::Bool(b) => Self::Int(i128::from(*b)),
            Value::Int(n) => Self::Int(*n),
            Value::Float(x) if x.fract() == 0.0 && x.abs() < 1e30 => Self::Int(*x as i128),
            Value::Float(x) => Self::Float(x.to_bits()),
            Value::Str(s) | Value::Markup(s) => {
                run.scan(s.len())?;
                Self::Str(s.clone())
            }
            Value::Seq(seq) if matches!(seq.kind, SeqKind::Tuple | SeqKind::Group) => {
                run.hold(seq.items.len() * size_of::<Self>())?;
                let mut keys = Vec::with_capacity(seq.items.len());
                for item in &seq.items {
                    match Self::of(item, run)? {
                        Ok(key) => keys.push(key),
                        Err(unhashable) => return Ok(Err(unhashable)),
                    }
                }
                Self::Tuple(keys)
            }
            other => return Ok(Err(format!("unhashable type: '{}'", other.type_name()).into())),
        }))
    }
}

fn deeper(inner: impl Iterator<Item = u16>) -> Res<u16> {
    let depth = 1 + inner.max().unwrap_or(0);
    if depth > MAX_DEPTH {
        return Err(format!("a value is nested more than {MAX_DEPTH} levels deep").into());
    }
    Ok(depth)
}

impl Seq {
    fn new(kind: SeqKind, items: Vec<Value>) -> Res<Self> {
        let depth = deeper(items.iter().map(Value::depth))?;
        Ok(Self { kind, items, depth })
    }
}

impl Dict {
    /// Sets a key, and whether it is new.
    pub(super) fn insert(&mut self, key: Value, value: Value, run: &Run) -> Res<bool> {
        self.depth = self.depth.max(deeper([key.depth(), value.depth()].into_iter())?);
        match self.index.entry(Key::of(&key, run)??) {
            Entry::Occupied(found) => {
                self.entries[*found.get()].1 = value;
                Ok(false)
            }
            Entry::Vacant(free) => {
                run.hold(size_of::<(Value, Value)>() + size_of::<(Key, usize)>())?;
                free.insert(self.entries.len());
                self.entries.push((key, value));
                Ok(true)
            }
        }
    }

    /// The value of a key; what cannot be a key has none.
    pub(super) fn get(&self, key: &Value, run: &Run) -> Res<Option<&Value>> {
        let at = Key::of(key, run)?.ok().and_then(|key| self.index.get(&key));
        Ok(at.map(|at| &self.entries[*at].1))
    }

    pub(super) fn contains(&self, key: &Value, run: &Run) -> Res<bool> {
        Ok(self.index.contains_key(&Key::of(key, run)??))
    }

    pub(super) fn entries(&self) -> &[(Value, Value)] {
        &self.entries
    }
}

impl Iter {
    pub(super) fn take(&self) -> Vec<Value> {
        std::mem::take(&mut *self.rest.borrow_mut()).collect()
    }

    pub(super) fn next(&self) -> Option<Value> {
        self.rest.borrow_mut().next()
    }
}

impl Namespace {
    pub(super) fn get(&self, name: &Arc<str>, run: &Run) -> Res<Option<Value>> {
        Ok(self.attributes.borrow().get(&Value::Str(name.clone()), run)?.cloned())
    }

    pub(super) fn set(&self, name: &Arc<str>, value: Value, run: &Run) -> Res<()> {
        if name.starts_with('_') {
            return Err(format!(
                "a namespace cannot have an attribute that begins with an underscore: {name}"
            )
            .into());
        }
        self.attributes.borrow_mut().insert(Value::Str(name.clone()), value, run).map(drop)
    }
}

impl Loop {
    pub(super) fn new(items: Vec<Value>, level: usize, recursive: Option<(usize, Rc<Scope>)>) -> Res<Self> {
        let depth = deeper(items.iter().map(Value::depth))?;
        Ok(Self { items, at: Cell::new(0), level, recursive, changed: RefCell::new(None), depth })
    }
}

impl Value {
    pub(super) fn str(text: &str) -> Self {
        Self::Str(text.into())
    }

    pub(super) fn seq(kind: SeqKind, items: Vec<Value>) -> Res<Self> {
        Ok(Self::Seq(Seq::new(kind, items)?.into()))
    }

    pub(super) fn iter(kind: &'static str, items: Vec<Value>) -> Res<Self> {
        let depth = deeper(items.iter().map(Self::depth))?;
        Ok(Self::Iter(Iter { kind, rest: RefCell::new(items.into_iter()), depth }.into()))
    }

    pub(super) fn from_json(json: &serde_json::Value, run: &Run) -> Res<Self> {
        use serde_json::Value as Json;
        Ok(match json {
            Json::Null => Self::None,
            Json::Bool(b) => Self::Bool(*b),
            Json::Number(n) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
                (Some(n), ..) => Self::Int(n.into()),
                (None, Some(n), _) => Self::Int(n.into()),
                (None, None, x) => Self::Float(x.unwrap_or(f64::NAN)),
            },
            Json::String(s) => Self::str(s),
            Json::Array(items) => {
                run.list(items.iter().map(|item| Self::from_json(item, run)).collect::<Res<_>>()?)?
            }
            Json::Object(fields) => {
                run.dict(fields.iter().map(|(k, v)| Ok((Self::str(k), Self::from_json(v, run)?))))?
            }
        })
    }

    pub(super) fn depth(&self) -> u16 {
        match self {
            Self::Seq(seq) => seq.depth,
            Self::Dict(dict) => dict.depth,
            Self::Iter(iter) => iter.depth,
            Self::Loop(looping) => looping.depth,
            Self::Method(method) => method.0.depth() + 1,
            // Whatever namespaces and scopes hold, they are emptied one by one at the end of a rendering.
            _ => 0,
        }
    }

    /// The name of the type in Python's messages.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "Undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::Markup(_) => "Markup",
            Self::Seq(seq) => match seq.kind {
                SeqKind::List => "list",
                SeqKind::Tuple | SeqKind::Group => "tuple",
                SeqKind::Range { .. } => "range",
                SeqKind::Keys => "dict_keys",
                SeqKind::Values => "dict_values",
                SeqKind::Items => "dict_items",
            },
            Self::Dict(_) => "dict",
            Self::Iter(iter) => iter.kind,
            Self::Namespace(_) => "Namespace",
            Self::Loop(_) => "LoopContext",
            Self::Macro(_) => "Macro",
            Self::Function(_) => "function",
            Self::Method(_) => "method",
        }
    }

    pub(super) fn as_str(&self) -> Option<&Arc<str>> {
        match self {
            Self::Str(s) | Self::Markup(s) => Some(s),
            _ => None,
        }
    }

    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Self::Int(n) => Some(*n),
            Self::Bool(b) => Some(i128::from(*b)),
            _ => None,
        }
    }

    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(x) => Some(*x),
            _ => self.as_int().map(|n| n as f64),
        }
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined(_))
    }

    /// The error of an operation that something undefined does not have.
    pub(super) fn defined(&self) -> Res<&Self> {
        match self {
            Self::Undefined(message) => Err(Fault { line: 0, message: message.to_string() }),
            _ => Ok(self),
        }
    }

    pub(super) fn truthy(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(b) => *b,
            Self::Int(n) => *n != 0,
            Self::Float(x) => *x != 0.0,
            Self::Str(s) | Self::Markup(s) => !s.is_empty(),
            Self::Seq(seq) => !seq.items.is_empty(),
            Self::Dict(dict) => !dict.entries.is_empty(),
            _ => true,
        }
    }

    /// `len(value)`.
    pub(super) fn len(&self, run: &Run) -> Res<usize> {
        Ok(match self {
            Self::Undefined(_) => 0,
            Self::Str(s) | Self::Markup(s) => {
                run.scan(s.len())?;
                s.chars().count()
            }
            Self::Seq(seq) => seq.items.len(),
            Self::Dict(dict) => dict.entries.len(),
            Self::Loop(looping) => looping.items.len(),
            other => return Err(format!("object of type '{}' has no len()", other.type_name()).into()),
        })
    }

    /// The values that a loop over this one goes through.
    pub(super) fn items(&self, run: &Run) -> Res<Vec<Value>> {
        let items: Vec<Value> = match self {
            Self::Undefined(_) => Vec::new(),
            Self::Str(s) | Self::Markup(s) => {
                run.hold(s.len() * 48)?;
                s.chars().map(|c| Self::str(c.encode_utf8(&mut [0; 4]))).collect()
            }
            Self::Seq(seq) => {
                run.hold(seq.items.len() * size_of::<Value>())?;
                seq.items.clone()
            }
            Self::Dict(dict) => {
                run.hold(dict.entries.len() * size_of::<Value>())?;
                dict.entries.iter().map(|(key, _)| key.clone()).collect()
            }
            Self::Iter(iter) => iter.take(),
            other => return Err(format!("'{}' object is not iterable", other.type_name()).into()),
        };
        run.work(items.len())?;
        Ok(items)
    }

    /// Python's `==`.
    pub(super) fn equals(&self, other: &Self, run: &Run) -> Res<bool> {
        run.work(1)?;
        if let (Some(a), Some(b)) = (self.as_str(), other.as_str()) {
            run.scan(a.len().min(b.len()))?;
            return Ok(a == b);
        }
        if let (Some(a), Some(b)) = (self.as_int(), other.as_int()) {
            return Ok(a == b);
        }
        if let (Some(a), Some(b)) = (self.as_float(), other.as_float()) {
            return Ok(a == b);
        }
        Ok(match (self, other) {
            (Self::Undefined(_), Self::Undefined(_)) | (Self::None, Self::None) => true,
            (Self::Seq(a), Self::Seq(b)) => {
                if self.type_name() != other.type_name() || a.items.len() != b.items.len() {
                    return Ok(false);
                }
                for (x, y) in a.items.iter().zip(&b.items) {
                    if !x.equals(y, run)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Dict(a), Self::Dict(b)) => {
                if a.entries.len() != b.entries.len() {
                    return Ok(false);
                }
                for (key, x) in &a.entries {
                    let Some(y) = b.get(key, run)? else { return Ok(false) };
                    if !x.equals(y, run)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Iter(a), Self::Iter(b)) => Rc::ptr_eq(a, b),
            (Self::Namespace(a), Self::Namespace(b)) => Rc::ptr_eq(a, b),
            (Self::Loop(a), Self::Loop(b)) => Rc::ptr_eq(a, b),
            (Self::Macro(a), Self::Macro(b)) => Rc::ptr_eq(a, b),
            (Self::Function(a), Self::Function(b)) => a == b,
            (Self::Method(a), Self::Method(b)) => a.1 == b.1 && a.0.equals(&b.0, run)?,
            _ => false,
        })
    }

    /// Python's `<` and its like; `symbol` is for messages.
    pub(super) fn compare(&self, other: &Self, symbol: &str, run: &Run) -> Res<Option<Ordering>> {
        run.work(1)?;
        self.defined()?;
        other.defined()?;
        if let (Some(a), Some(b)) = (self.as_str(), other.as_str()) {
            run.scan(a.len().min(b.len()))?;
            return Ok(Some(a.cmp(b)));
        }
        if let (Some(a), Some(b)) = (self.as_int(), other.as_int()) {
            return Ok(Some(a.cmp(&b)));
        }
        if let (Some(a), Some(b)) = (self.as_float(), other.as_float()) {
            return Ok(a.partial_cmp(&b));
        }
        match (self, other) {
            (Self::Seq(a), Self::Seq(b))
                if self.type_name() == other.type_name() && matches!(self.type_name(), "list" | "tuple") =>
            {
                for (x, y) in a.items.iter().zip(&b.items) {
                    if !x.equals(y, run)? {
                        return x.compare(y, symbol, run);
                    }
                }
                Ok(Some(a.items.len().cmp(&b.items.len())))
            }
            _ => Err(format!(
                "'{symbol}' not supported between instances of '{}' and '{}'",
                self.type_name(),
                other.type_name()
            )
            .into()),
        }
    }

    /// Python's `value in self`.
    pub(super) fn contains(&self, value: &Self, run: &Run) -> Res<bool> {
        match self {
            Self::Str(s) | Self::Markup(s) => {
                let Some(part) = value.as_str() else {
                    let name = value.type_name();
                    return Err(format!("'in <string>' requires string as left operand, not {name}").into());
                };
                run.scan(s.len() + part.len())?;
                Ok(s.contains(&**part))
            }
            Self::Seq(seq) => {
                for item in &seq.items {
                    if item.equals(value, run)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Self::Dict(dict) => dict.contains(value, run),
            Self::Undefined(_) => Ok(false),
            Self::Iter(iter) => {
                while let Some(item) = iter.next() {
                    if item.equals(value, run)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            other => Err(format!("argument of type '{}' is not iterable", other.type_name()).into()),
        }
    }
}
