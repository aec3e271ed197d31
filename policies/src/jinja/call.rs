//! Calls: macros, loops that call themselves, and the functions that every template has.

use std::rc::Rc;
use std::sync::Arc;

use super::Res;
use super::run::{Run, Scope};
use super::strftime::strftime;
use super::text::{Text, to_text};
use super::value::{Closure, Function, Loop, SeqKind, Value};

/// As many numbers as the sandbox of Jinja lets `range` have.
const MAX_RANGE: usize = 100_000;

/// Arguments of a call, evaluated.
#[derive(Default)]
pub(super) struct Given {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(Arc<str>, Value)>,
}

impl Given {
    /// Takes the work of going through the arguments and of reading those that are text.
    pub(super) fn read(&self, run: &Run) -> Res<()> {
        run.work(self.positional.len() + self.named.len())?;
        let names = self.named.iter().map(|(name, _)| name.len());
        let values = self.positional.iter().chain(self.named.iter().map(|(_, value)| value));
        let texts = values.filter_map(Value::as_str).map(|text| text.len());
        run.scan(names.chain(texts).sum())
    }

    /// The arguments in the order of the parameters `names`; those that were not given are none.
    pub(super) fn bind<const N: usize>(self, function: &str, names: [&str; N]) -> Res<[Option<Value>; N]> {
        if self.positional.len() > N {
            let found = self.positional.len();
            return Err(format!("{function} takes at most {N} arguments ({found} given)").into());
        }
        let mut bound = [const { None }; N];
        for (slot, value) in bound.iter_mut().zip(self.positional) {
            *slot = Some(value);
        }
        for (name, value) in self.named {
            match names.iter().position(|n| **n == *name) {
                Some(at) if bound[at].is_none() => bound[at] = Some(value),
                Some(_) => return Err(format!("{function} got multiple values for argument '{name}'").into()),
                None => return Err(format!("{function} got an unexpected keyword argument '{name}'").into()),
            }
        }
        Ok(bound)
    }
}

impl Run<'_> {
    pub(super) fn call(&self, callee: &Value, args: Given) -> Res<Value> {
        match callee.defined()? {
            Value::Macro(closure) => self.deeper(|| self.call_macro(closure, args)),
            Value::Function(function) => self.call_function(*function, args),
            Value::Method(method) => self.deeper(|| self.method(&method.0, &method.1, args)),
            Value::Loop(looping) => self.deeper(|| self.call_loop(looping, args)),
            other => Err(format!("'{}' object is not callable", other.type_name()).into()),
        }
    }

    fn call_macro(&self, closure: &Rc<Closure>, args: Given) -> Res<Value> {
        let definition = &self.ast.macros[closure.index];
        let name = &definition.name;
        let scope = Scope::within(&closure.scope);
        let mut positional = args.positional.into_iter();
        let mut named = args.named;
        for (parameter, default) in &definition.parameters {
            self.work(1 + named.len())?;
            self.hold(size_of::<(Arc<str>, Value)>())?;
            let by_name = named.iter().position(|(n, _)| n == parameter);
            let value = match (positional.next(), by_name) {
                (Some(_), Some(_)) => {
                    return Err(
                        format!("macro '{name}' got multiple values for argument '{parameter}'").into()
                    );
                }
                (Some(value), None) => value,
                (None, Some(at)) => named.swap_remove(at).1,
                (None, None) => match default {
                    Some(default) => self.eval(default, &scope)?,
                    None => self.undefined(&format!("parameter '{parameter}' was not provided"))?,
                },
            };
            scope.set(parameter, value, self)?;
        }
        let further: Vec<Value> = positional.collect();
        let caller = named.iter().position(|(n, _)| &**n == "caller").map(|at| named.swap_remove(at).1);
        if definition.uses_caller {
            let caller = caller.map_or_else(|| self.undefined("No caller defined"), Ok)?;
            scope.set(&"caller".into(), caller, self)?;
        } else if caller.is_some() {
            return Err(format!("macro '{name}' takes no keyword argument 'caller'").into());
        }
        if definition.uses_kwargs {
            let pairs = named.into_iter().map(|(n, value)| Ok((Value::Str(n), value)));
            scope.set(&"kwargs".into(), self.dict(pairs)?, self)?;
        } else if let Some((unknown, _)) = named.first() {
            return Err(format!("macro '{name}' takes no keyword argument '{unknown}'").into());
        }
        if definition.uses_varargs {
            scope.set(&"varargs".into(), self.tuple(further)?, self)?;
        } else if !further.is_empty() {
            let count = definition.parameters.len();
            return Err(format!("macro '{name}' takes not more than {count} argument(s)").into());
        }
        let mut text = Text::new(self);
        self.body(&definition.body, &scope, &mut text)?;
        Ok(Value::str(&text.text))
    }

    fn call_loop(&self, looping: &Loop, args: Given) -> Res<Value> {
        let [values] = args.bind("loop", ["iterable"])?;
        let (Some(values), Some((index, scope))) = (values, &looping.recursive) else {
            return Err("The loop must have the 'recursive' marker to be called recursively.".into());
        };
        let mut text = Text::new(self);
        self.iterate(*index, values.items(self)?, looping.level + 1, scope, &mut text)?;
        Ok(Value::str(&text.text))
    }

    fn call_function(&self, function: Function, args: Given) -> Res<Value> {
        args.read(self)?;
        match function {
            Function::Range => self.range(args),
            Function::Dict => self.dict(self.pairs(args)?.into_iter().map(Ok)),
            Function::Namespace => {
                let namespace = self.namespace()?;
                for (name, value) in self.pairs(args)? {
                    let name = name.as_str().ok_or("names in a namespace must be strings")?;
                    namespace.set(name, value, self)?;
                }
                Ok(Value::Namespace(namespace))
            }
            Function::RaiseException => {
                let [message] = args.bind("raise_exception", ["message"])?;
                Err(to_text(&message.unwrap_or(Value::None), self)?.into())
            }
            Function::Unsupported(name) => Err(format!("the function {name} is not supported").into()),
            Function::StrftimeNow => {
                let [format] = args.bind("strftime_now", ["format"])?;
                match format.as_ref().and_then(Value::as_str) {
                    Some(format) => {
                        self.work(format.len())?;
                        self.hold(format.len())?;
                        self.str(strftime(self.now, format)?)
                    }
                    None => Err("strftime_now takes a string".into()),
                }
            }
        }
    }

    fn range(&self, args: Given) -> Res<Value> {
        let [a, b, step] = args.bind("range", ["start", "stop", "step"])?;
        let int = |value: Value| -> Res<i128> {
            let name = value.type_name();
            value
                .as_int()
                .ok_or_else(|| format!("'{name}' object cannot be interpreted as an integer").into())
        };
        let (start, stop) = match (a, b) {
            (Some(stop), None) => (0, int(stop)?),
            (Some(start), Some(stop)) => (int(start)?, int(stop)?),
            (None, _) => return Err("range expected at least 1 argument, got 0".into()),
        };
        let step = step.map_or(Ok(1), int)?;
        if step == 0 {
            return Err("range() arg 3 must not be zero".into());
        }
        let mut items = Vec::new();
        let mut at = start;
        while if step > 0 { at < stop } else { at > stop } {
            if items.len() >= MAX_RANGE {
                return Err(
                    format!("Range too big. The sandbox blocks ranges larger than {MAX_RANGE}.").into()
                );
            }
            items.push(Value::Int(at));
            let Some(next) = at.checked_add(step) else { break };
            at = next;
        }
        self.seq(SeqKind::Range { start, stop, step }, items)
    }

    /// What is in `dict(pairs, name=value)`.
    fn pairs(&self, args: Given) -> Res<Vec<(Value, Value)>> {
        if args.positional.len() > 1 {
            return Err(format!("dict expected at most 1 argument, got {}", args.positional.len()).into());
        }
        let mut pairs = Vec::new();
        match args.positional.into_iter().next() {
            None => {}
            Some(Value::Dict(dict)) => pairs.extend(dict.entries().iter().cloned()),
            Some(other) => {
                for pair in other.items(self)? {
                    let mut pair = pair.items(self)?.into_iter();
                    match (pair.next(), pair.next(), pair.next()) {
                        (Some(key), Some(value), None) => pairs.push((key, value)),
                        _ => return Err("dictionary update sequence element is not of length 2".into()),
                    }
                }
            }
        }
        pairs.extend(args.named.into_iter().map(|(name, value)| (Value::Str(name), value)));
        Ok(pairs)
    }

    pub(super) fn loop_attribute(&self, looping: &Loop, name: &str) -> Res<Option<Value>> {
        let (at, len) = (looping.at.get(), looping.items.len());
        let int = |n: usize| Some(Value::Int(n as i128));
        Ok(match name {
            "index" => int(at + 1),
            "index0" => int(at),
            "revindex" => int(len - at),
            "revindex0" => int(len - at - 1),
            "first" => Some(Value::Bool(at == 0)),
            "last" => Some(Value::Bool(at + 1 == len)),
            "length" => int(len),
            "depth" => int(looping.level + 1),
            "depth0" => int(looping.level),
            "previtem" => {
                let previous = at.checked_sub(1).map(|at| looping.items[at].clone());
                Some(previous.map_or_else(|| self.undefined("there is no previous item"), Ok)?)
            }
            "nextitem" => {
                let next = looping.items.get(at + 1).cloned();
                Some(next.map_or_else(|| self.undefined("there is no next item"), Ok)?)
            }
            _ => None,
        })
    }
}
