//! Expressions: names, operators, attributes and subscripts.

use std::cmp::Ordering;
use std::rc::Rc;
use std::sync::Arc;

use super::Res;
use super::ast::{Args, CompareOp, Expr, ExprKind, MathOp, Step, StepKind};
use super::call::Given;
use super::filters::escape;
use super::run::{Run, Scope};
use super::text::{Text, beginning, to_text};
use super::value::{Seq, SeqKind, Value};
use super::{methods, percent};

impl<'t> Run<'t> {
    pub(super) fn eval(&self, expr: &'t Expr, scope: &Rc<Scope>) -> Res<Value> {
        self.work(1)?;
        self.deeper(|| self.eval_kind(&expr.kind, scope)).map_err(|e| e.at(expr.line))
    }

    fn eval_all(&self, exprs: &'t [Expr], scope: &Rc<Scope>) -> Res<Vec<Value>> {
        self.hold(exprs.len() * size_of::<Value>())?;
        exprs.iter().map(|e| self.eval(e, scope)).collect()
    }

    fn literal(&self, kind: SeqKind, items: &'t [Expr], scope: &Rc<Scope>) -> Res<Value> {
        self.hold(size_of::<Seq>())?;
        Value::seq(kind, self.eval_all(items, scope)?)
    }

    fn eval_kind(&self, kind: &'t ExprKind, scope: &Rc<Scope>) -> Res<Value> {
        Ok(match kind {
            ExprKind::None => Value::None,
            ExprKind::Bool(b) => Value::Bool(*b),
            ExprKind::Int(n) => Value::Int(*n),
            ExprKind::Float(x) => Value::Float(*x),
            ExprKind::Str(s) => Value::Str(s.clone()),
            ExprKind::Name(name) => self.lookup(name, scope)?,
            ExprKind::List(items) => self.literal(SeqKind::List, items, scope)?,
            ExprKind::Tuple(items) => self.literal(SeqKind::Tuple, items, scope)?,
            ExprKind::Dict(pairs) => {
                self.dict(pairs.iter().map(|(k, v)| Ok((self.eval(k, scope)?, self.eval(v, scope)?))))?
            }
            ExprKind::Steps(base, steps) => return self.steps(base, steps, scope),
            ExprKind::Not(operand) => Value::Bool(!self.eval(operand, scope)?.truthy()),
            ExprKind::Negative(operand) => {
                let value = self.eval(operand, scope)?;
                match value.defined()?.as_int() {
                    Some(n) => Value::Int(n.checked_neg().ok_or("a number is too large")?),
                    None => Value::Float(-number(&value, "-")?),
                }
            }
            ExprKind::Positive(operand) => {
                let value = self.eval(operand, scope)?;
                match value.defined()?.as_int() {
                    Some(n) => Value::Int(n),
                    None => Value::Float(number(&value, "+")?),
                }
            }
            ExprKind::Math(first, rest) => {
                let mut value = self.eval(first, scope)?;
                for (op, operand) in rest {
                    let operand = self.eval(operand, scope)?;
                    value = self.math(*op, &value, &operand)?;
                }
                value
            }
            ExprKind::Concat(parts) => {
                let mut text = Text::new(self);
                for part in parts {
                    text.push_value(&self.eval(part, scope)?)?;
                }
                Value::str(&text.text)
            }
            ExprKind::And(parts) => return self.first_that(parts, |v| !v.truthy(), scope),
            ExprKind::Or(parts) => return self.first_that(parts, Value::truthy, scope),
            ExprKind::Compare(first, rest) => {
                let mut left = self.eval(first, scope)?;
                for (op, right) in rest {
                    let right = self.eval(right, scope)?;
                    if !self.compare(*op, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Value::Bool(true)
            }
            ExprKind::Conditional { test, then, otherwise } => {
                if self.eval(test, scope)?.truthy() {
                    self.eval(then, scope)?
                } else if let Some(otherwise) = otherwise {
                    self.eval(otherwise, scope)?
                } else {
                    self.undefined("the inline if-expression was false and has no else")?
                }
            }
        })
    }

    /// The first value that ends a chain of `and` or `or`, or its last one.
    fn first_that(&self, parts: &'t [Expr], ends: impl Fn(&Value) -> bool, scope: &Rc<Scope>) -> Res<Value> {
        let mut value = Value::None;
        for part in parts {
            value = self.eval(part, scope)?;
            if ends(&value) {
                break;
            }
        }
        Ok(value)
    }

    fn compare(&self, op: CompareOp, left: &Value, right: &Value) -> Res<bool> {
        Ok(match op {
            CompareOp::Eq => left.equals(right, self)?,
            CompareOp::Ne => !left.equals(right, self)?,
            CompareOp::In => right.contains(left, self)?,
            CompareOp::NotIn => !right.contains(left, self)?,
            CompareOp::Lt => left.compare(right, "<", self)? == Some(Ordering::Less),
            CompareOp::Gt => left.compare(right, ">", self)? == Some(Ordering::Greater),
            CompareOp::Le => left.compare(right, "<=", self)?.is_some_and(Ordering::is_le),
            CompareOp::Ge => left.compare(right, ">=", self)?.is_some_and(Ordering::is_ge),
        })
    }

    /// `left + right`.
    pub(super) fn add(&self, left: &Value, right: &Value) -> Res<Value> {
        self.math(MathOp::Add, left, right)
    }

    /// `left % right`.
    pub(super) fn remainder(&self, left: &Value, right: &Value) -> Res<Value> {
        self.math(MathOp::Mod, left, right)
    }

    fn math(&self, op: MathOp, left: &Value, right: &Value) -> Res<Value> {
        left.defined()?;
        // Text is filled in with what is undefined as with nothing.
        if !(op == MathOp::Mod && left.as_str().is_some()) {
            right.defined()?;
        }
        if let Some(value) = self.sequence_math(op, left, right)? {
            return Ok(value);
        }
        let symbol = match op {
            MathOp::Add => "+",
            MathOp::Sub => "-",
            MathOp::Mul => "*",
            MathOp::Div => "/",
            MathOp::FloorDiv => "//",
            MathOp::Mod => "%",
            MathOp::Pow => "** or pow()",
        };
        let (Some(x), Some(y)) = (left.as_float(), right.as_float()) else {
            let (l, r) = (left.type_name(), right.type_name());
            return Err(format!("unsupported operand type(s) for {symbol}: '{l}' and '{r}'").into());
        };
        let divides = matches!(op, MathOp::Div | MathOp::FloorDiv | MathOp::Mod);
        if divides && y == 0.0 {
            return Err("division by zero".into());
        }
        if let (Some(a), Some(b)) = (left.as_int(), right.as_int())
            && op != MathOp::Div
            && !(op == MathOp::Pow && b < 0)
        {
            let result = match op {
                MathOp::Add => a.checked_add(b),
                MathOp::Sub => a.checked_sub(b),
                MathOp::Mul => a.checked_mul(b),
                // Python rounds down, the quotient and the remainder with it.
                MathOp::FloorDiv => {
                    a.checked_div(b).map(|q| if a % b != 0 && (a < 0) != (b < 0) { q - 1 } else { q })
                }
                MathOp::Mod => a.checked_rem(b).map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r }),
                _ => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
            };
            return result.map(Value::Int).ok_or_else(|| "a number is too large".into());
        }
        let remainder = || {
            let r = x % y;
            if r != 0.0 && (r < 0.0) != (y < 0.0) { r + y } else { r }
        };
        Ok(Value::Float(match op {
            MathOp::Add => x + y,
            MathOp::Sub => x - y,
            MathOp::Mul => x * y,
            MathOp::Div => x / y,
            MathOp::FloorDiv => ((x - remainder()) / y).round(),
            MathOp::Mod => remainder(),
            MathOp::Pow => x.powf(y),
        }))
    }

    /// Operators of text and lists: `+` joins, `*` repeats, `%` fills in.
    fn sequence_math(&self, op: MathOp, left: &Value, right: &Value) -> Res<Option<Value>> {
        let listed = |value: &Value| match value {
            Value::Seq(seq) => match seq.kind {
                SeqKind::List => Some((SeqKind::List, seq.clone())),
                SeqKind::Tuple | SeqKind::Group => Some((SeqKind::Tuple, seq.clone())),
                _ => None,
            },
            _ => None,
        };
        match op {
            MathOp::Add => {
                if let (Some(a), Some(b)) = (left.as_str(), right.as_str()) {
                    return Ok(Some(self.join(left, a, right, b)?));
                }
                if let (Some((kind, a)), Some((other, b))) = (listed(left), listed(right))
                    && kind == other
                {
                    return Ok(Some(self.seq(kind, a.items.iter().chain(&b.items).cloned().collect())?));
                }
            }
            MathOp::Mul => {
                let (value, times) = match (left.as_int(), right.as_int()) {
                    (None, Some(n)) => (left, n),
                    (Some(n), None) => (right, n),
                    _ => return Ok(None),
                };
                let times = usize::try_from(times.max(0)).unwrap_or(usize::MAX);
                if let Some(text) = value.as_str() {
                    self.hold(text.len().saturating_mul(times))?;
                    return Ok(Some(like(value, &text.repeat(times))));
                }
                if let Some((kind, seq)) = listed(value) {
                    self.hold(seq.items.len().saturating_mul(times).saturating_mul(size_of::<Value>()))?;
                    self.hold(size_of::<Seq>())?;
                    let items = seq.items.iter().cycle().take(seq.items.len() * times).cloned().collect();
                    return Ok(Some(Value::seq(kind, items)?));
                }
            }
            MathOp::Mod => {
                if let Some(format) = left.as_str() {
                    return Ok(Some(like(left, &percent::fill(format, right, self)?)));
                }
            }
            _ => {}
        }
        Ok(None)
    }

    /// Two texts in a row; beside marked text, the other is escaped.
    fn join(&self, left: &Value, a: &Arc<str>, right: &Value, b: &Arc<str>) -> Res<Value> {
        let (a, b, marked) = match (left, right) {
            (Value::Markup(_), Value::Markup(_)) => (a.to_string(), b.to_string(), true),
            (Value::Markup(_), _) => (a.to_string(), escape(b, self)?, true),
            (_, Value::Markup(_)) => (escape(a, self)?, b.to_string(), true),
            _ => {
                self.hold(a.len() + b.len())?;
                return Ok(Value::Str([&**a, &**b].concat().into()));
            }
        };
        self.hold(a.len() + b.len())?;
        let joined = [a, b].concat();
        Ok(if marked { Value::Markup(joined.into()) } else { Value::Str(joined.into()) })
    }

    fn steps(&self, base: &'t Expr, steps: &'t [Step], scope: &Rc<Scope>) -> Res<Value> {
        let mut value = self.eval(base, scope)?;
        for step in steps {
            self.work(1)?;
            value = self.step(value, step, scope).map_err(|e| e.at(step.line))?;
        }
        Ok(value)
    }

    pub(super) fn step(&self, value: Value, step: &'t Step, scope: &Rc<Scope>) -> Res<Value> {
        match &step.kind {
            StepKind::Attribute(name) => self.attribute(&value, name),
            StepKind::Item(index) => {
                let index = self.eval(index, scope)?;
                self.item(&value, &index)
            }
            StepKind::Slice(parts) => {
                let mut bounds = [None; 3];
                for (bound, part) in bounds.iter_mut().zip(parts.iter()) {
                    let value = part.as_ref().map(|p| self.eval(p, scope)).transpose()?;
                    *bound = match value {
                        None | Some(Value::None) => None,
                        Some(value) => {
                            Some(value.defined()?.as_int().ok_or("slice indices must be integers or None")?)
                        }
                    };
                }
                self.slice(&value, bounds)
            }
            StepKind::Call(args) => {
                let args = self.args(args, scope)?;
                self.call(&value, args)
            }
            StepKind::Filter(name, args) => {
                let args = self.args(args, scope)?;
                self.deeper(|| self.filter(name, value, args))
            }
            StepKind::Test { name, args, negated } => {
                let args = self.args(args, scope)?;
                Ok(Value::Bool(self.test(name, &value, args)? != *negated))
            }
        }
    }

    pub(super) fn args(&self, args: &'t Args, scope: &Rc<Scope>) -> Res<Given> {
        let mut given = Given { positional: self.eval_all(&args.positional, scope)?, named: Vec::new() };
        for (name, value) in &args.named {
            self.hold(size_of::<(Arc<str>, Value)>())?;
            given.named.push((name.clone(), self.eval(value, scope)?));
        }
        if let Some(values) = &args.unpacked {
            given.positional.extend(self.eval(values, scope)?.items(self)?);
        }
        if let Some(mapping) = &args.unpacked_named {
            let Value::Dict(dict) = self.eval(mapping, scope)? else {
                return Err("argument after ** must be a mapping".into());
            };
            for (key, value) in dict.entries() {
                self.work(1)?;
                self.hold(size_of::<(Arc<str>, Value)>())?;
                let name = key.as_str().ok_or("keywords must be strings")?;
                given.named.push((name.clone(), value.clone()));
            }
        }
        Ok(given)
    }

    /// `value.name`: a method or attribute, else the item of that name.
    pub(super) fn attribute(&self, value: &Value, name: &Arc<str>) -> Res<Value> {
        value.defined()?;
        if let Some(found) = self.own_attribute(value, name)? {
            return Ok(found);
        }
        if let Value::Dict(dict) = value
            && let Some(found) = dict.get(&Value::Str(name.clone()), self)?
        {
            return Ok(found.clone());
        }
        self.undefined(&format!("'{} object' has no attribute '{name}'", value.type_name()))
    }

    /// `getattr(value, name)`.
    pub(super) fn own_attribute(&self, value: &Value, name: &Arc<str>) -> Res<Option<Value>> {
        if methods::exist(value, name) {
            self.hold(size_of::<(Value, Arc<str>)>())?;
            return Ok(Some(Value::Method((value.clone(), name.clone()).into())));
        }
        Ok(match value {
            Value::Namespace(namespace) => namespace.get(name, self)?,
            Value::Loop(looping) => self.loop_attribute(looping, name)?,
            Value::Macro(closure) if &**name == "name" => {
                Some(Value::Str(self.ast.macros[closure.index].name.clone()))
            }
            Value::Seq(seq) if seq.kind == SeqKind::Group => match &**name {
                "grouper" => seq.items.first().cloned(),
                "list" => seq.items.get(1).cloned(),
                _ => None,
            },
            _ => None,
        })
    }

    /// `value[index]`; what is not there is undefined.
    pub(super) fn item(&self, value: &Value, index: &Value) -> Res<Value> {
        value.defined()?;
        let found = match value {
            Value::Dict(dict) => dict.get(index, self)?.cloned(),
            Value::Str(text) | Value::Markup(text) => match index.as_int() {
                Some(at) => {
                    self.scan(text.len())?;
                    let at = offset(at, || text.chars().count());
                    at.and_then(|at| text.chars().nth(at)).map(|c| like(value, c.encode_utf8(&mut [0; 4])))
                }
                None => None,
            },
            Value::Seq(seq) if !matches!(seq.kind, SeqKind::Keys | SeqKind::Values | SeqKind::Items) => {
                let at = index.as_int().and_then(|at| offset(at, || seq.items.len()));
                at.and_then(|at| seq.items.get(at)).cloned()
            }
            _ => None,
        };
        if let Some(found) = found {
            return Ok(found);
        }
        if let Some(name) = index.as_str()
            && let Some(found) = self.own_attribute(value, name)?
        {
            return Ok(found);
        }
        let shown = match index {
            Value::Str(name) => {
                let mut text = Text::new(self);
                text.push_quoted(beginning(name))?;
                text.text
            }
            Value::Int(at) => at.to_string(),
            other => format!("of type {}", other.type_name()),
        };
        self.undefined(&format!("{} object has no element {shown}", value.type_name()))
    }

    fn slice(&self, value: &Value, [start, stop, step]: [Option<i128>; 3]) -> Res<Value> {
        value.defined()?;
        let step = step.unwrap_or(1);
        if step == 0 {
            return Err("slice step cannot be zero".into());
        }
        let positions = |len: usize| {
            let len = len as i128;
            let (lowest, highest) = if step > 0 { (0, len) } else { (-1, len - 1) };
            let clamp = |at: i128| (if at < 0 { at + len } else { at }).clamp(lowest, highest);
            let from = start.map_or(if step > 0 { lowest } else { highest }, clamp);
            let to = stop.map_or(if step > 0 { highest } else { lowest }, clamp);
            let mut at = from;
            std::iter::from_fn(move || {
                let inside = if step > 0 { at < to } else { at > to };
                let found = inside.then_some(at as usize);
                at = at.saturating_add(step);
                found
            })
        };
        match value {
            Value::Str(text) | Value::Markup(text) => {
                self.hold(text.len() * 5)?;
                let chars: Vec<char> = text.chars().collect();
                let cut: String = positions(chars.len()).map(|at| chars[at]).collect();
                Ok(like(value, &cut))
            }
            Value::Seq(seq) if !matches!(seq.kind, SeqKind::Keys | SeqKind::Values | SeqKind::Items) => {
                let items = positions(seq.items.len()).map(|at| seq.items[at].clone()).collect();
                let is_tuple = matches!(seq.kind, SeqKind::Tuple | SeqKind::Group);
                self.seq(if is_tuple { SeqKind::Tuple } else { SeqKind::List }, items)
            }
            Value::Dict(_) => Err("unhashable type: 'slice'".into()),
            other => Err(format!("'{}' object is not subscriptable", other.type_name()).into()),
        }
    }

    /// The value as text, kept marked if it is.
    pub(super) fn soft_text(&self, value: &Value) -> Res<Value> {
        Ok(match value {
            Value::Str(_) | Value::Markup(_) => value.clone(),
            other => Value::str(&to_text(other, self)?),
        })
    }
}

/// Text of the kind that `model` is.
pub(super) fn like(model: &Value, text: &str) -> Value {
    match model {
        Value::Markup(_) => Value::Markup(text.into()),
        _ => Value::Str(text.into()),
    }
}

/// A Python index as an offset from the beginning.
fn offset(at: i128, len: impl Fn() -> usize) -> Option<usize> {
    usize::try_from(if at < 0 { at + len() as i128 } else { at }).ok()
}

fn number(value: &Value, sign: &str) -> Res<f64> {
    let name = value.type_name();
    value.as_float().ok_or_else(|| format!("bad operand type for unary {sign}: '{name}'").into())
}
