//! One rendering: its bounds, its names, its statements.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use super::ast::{Ast, Step, Stmt, StmtKind, Target};
use super::text::{Text, beginning};
use super::value::{Closure, Dict, Function, Iter, Loop, Namespace, Seq, SeqKind, Value};
use super::{Fault, Limits, Res};

/// Calls, blocks and expressions within each other.
const MAX_DEPTH: u32 = 250;

/// Names with what they stand for, and the surroundings that are asked for the others.
#[derive(Default)]
pub(super) struct Scope {
    vars: RefCell<HashMap<Arc<str>, Value>>,
    parent: Option<Rc<Scope>>,
    /// Whether a value refers to the scope, which may then outlive its statement.
    captured: Cell<bool>,
}

impl Scope {
    pub(super) fn within(parent: &Rc<Scope>) -> Rc<Self> {
        Rc::new(Self { parent: Some(parent.clone()), ..Self::default() })
    }

    pub(super) fn set(&self, name: &Arc<str>, value: Value, run: &Run) -> Res<()> {
        let is_new = self.vars.borrow_mut().insert(name.clone(), value).is_none();
        if is_new && self.captured.get() { run.hold(size_of::<(Arc<str>, Value)>()) } else { Ok(()) }
    }
}

/// Where execution goes on after a statement.
#[derive(PartialEq, Eq)]
pub(super) enum Flow {
    On,
    Break,
    Continue,
}

/// The state of a rendering.
pub(super) struct Run<'t> {
    pub(super) ast: &'t Ast,
    /// Seconds since 1970, for `strftime_now`.
    pub(super) now: u64,
    root: Rc<Scope>,
    work: Cell<u64>,
    memory: Cell<u64>,
    depth: Cell<u32>,
    /// Whatever may be part of a cycle, to be emptied at the end.
    namespaces: RefCell<Vec<Rc<Namespace>>>,
    captured: RefCell<Vec<Rc<Scope>>>,
    /// Loops that remember values.
    loops: RefCell<Vec<Rc<Loop>>>,
    /// Where `{% generation %}` stands in the text, in bytes.
    generated: RefCell<Vec<Range<usize>>>,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        for namespace in self.namespaces.borrow().iter() {
            namespace.attributes.take();
        }
        for scope in self.captured.borrow().iter() {
            scope.vars.borrow_mut().clear();
        }
        for looping in self.loops.borrow().iter() {
            looping.changed.take();
        }
    }
}

impl<'t> Run<'t> {
    pub(super) fn new(ast: &'t Ast, limits: Limits, now: u64) -> Self {
        Self {
            ast,
            now,
            root: Rc::default(),
            work: Cell::new(limits.work),
            memory: Cell::new(limits.memory),
            depth: Cell::new(0),
            namespaces: RefCell::default(),
            captured: RefCell::default(),
            loops: RefCell::default(),
            generated: RefCell::default(),
        }
    }

    /// The text, and where its `{% generation %}` blocks lie, in bytes; those that are captured and written later are left out.
    pub(super) fn render(&self, context: Vec<(Arc<str>, Value)>) -> Res<(String, Vec<Range<usize>>)> {
        for (name, value) in context {
            self.root.set(&name, value, self)?;
        }
        let mut out = Text::new(self);
        out.is_result = true;
        self.body(&self.ast.body, &self.root, &mut out)?;
        Ok((out.text, self.generated.take()))
    }

    /// Takes `units` of the work that a rendering may do.
    pub(super) fn work(&self, units: usize) -> Res<()> {
        let left = self.work.get().checked_sub(units as u64);
        self.work.set(left.unwrap_or(0));
        left.map(drop).ok_or_else(|| "the template does more work than a chat template may".into())
    }

    /// Takes the work of reading `bytes` bytes.
    pub(super) fn scan(&self, bytes: usize) -> Res<()> {
        self.work(bytes / 64)
    }

    /// Takes `bytes` of the memory that a rendering may use; what was used is not given back.
    pub(super) fn hold(&self, bytes: usize) -> Res<()> {
        let left = self.memory.get().checked_sub(bytes as u64);
        self.memory.set(left.unwrap_or(0));
        left.ok_or("the template takes more memory than a chat template may")?;
        self.scan(bytes)
    }

    /// Text that was made within the bounds.
    pub(super) fn str(&self, text: impl AsRef<str>) -> Res<Value> {
        self.hold(text.as_ref().len())?;
        Ok(Value::str(text.as_ref()))
    }

    /// Something that is not there, with the beginning of what is said when it is used.
    pub(super) fn undefined(&self, message: &str) -> Res<Value> {
        let message = beginning(message);
        self.hold(message.len())?;
        Ok(Value::Undefined(message.into()))
    }

    /// A list that was made within the bounds.
    pub(super) fn list(&self, items: Vec<Value>) -> Res<Value> {
        self.seq(SeqKind::List, items)
    }

    /// A tuple that was made within the bounds.
    pub(super) fn tuple(&self, items: Vec<Value>) -> Res<Value> {
        self.seq(SeqKind::Tuple, items)
    }

    pub(super) fn seq(&self, kind: SeqKind, items: Vec<Value>) -> Res<Value> {
        self.hold(size_of::<Seq>() + items.len() * size_of::<Value>())?;
        Value::seq(kind, items)
    }

    /// Values that can be gone through once, made within the bounds.
    pub(super) fn iter(&self, kind: &'static str, items: Vec<Value>) -> Res<Value> {
        self.hold(size_of::<Iter>() + items.len() * size_of::<Value>())?;
        Value::iter(kind, items)
    }

    /// A dict that was made within the bounds.
    pub(super) fn dict(&self, pairs: impl IntoIterator<Item = Res<(Value, Value)>>) -> Res<Value> {
        self.hold(size_of::<Dict>())?;
        let mut dict = Dict::default();
        for pair in pairs {
            let (key, value) = pair?;
            dict.insert(key, value, self)?;
        }
        Ok(Value::Dict(dict.into()))
    }

    pub(super) fn namespace(&self) -> Res<Rc<Namespace>> {
        self.hold(size_of::<Namespace>())?;
        let namespace = Rc::<Namespace>::default();
        self.namespaces.borrow_mut().push(namespace.clone());
        Ok(namespace)
    }

    /// Runs a part one level deeper.
    pub(super) fn deeper<T>(&self, part: impl FnOnce() -> Res<T>) -> Res<T> {
        if self.depth.get() >= MAX_DEPTH {
            return Err("the template calls itself too deeply".into());
        }
        self.depth.set(self.depth.get() + 1);
        let result = part();
        self.depth.set(self.depth.get() - 1);
        result
    }

    pub(super) fn lookup(&self, name: &Arc<str>, scope: &Scope) -> Res<Value> {
        let mut next = Some(scope);
        while let Some(scope) = next {
            self.work(1)?;
            self.scan(name.len())?;
            if let Some(value) = scope.vars.borrow().get(name) {
                return Ok(value.clone());
            }
            next = scope.parent.as_deref();
        }
        match Function::named(name) {
            Some(function) => Ok(Value::Function(function)),
            None => self.undefined(&format!("'{name}' is undefined")),
        }
    }

    pub(super) fn body(&self, body: &'t [Stmt], scope: &Rc<Scope>, out: &mut Text) -> Res<Flow> {
        for stmt in body {
            self.work(1)?;
            let flow = self.deeper(|| self.statement(stmt, scope, out)).map_err(|e| e.at(stmt.line))?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn statement(&self, stmt: &'t Stmt, scope: &Rc<Scope>, out: &mut Text) -> Res<Flow> {
        match &stmt.kind {
            StmtKind::Data(text) => out.push(text)?,
            StmtKind::Print(value) => out.push_value(&self.eval(value, scope)?)?,
            StmtKind::If { branches, otherwise } => {
                for (test, body) in branches {
                    if self.eval(test, scope)?.truthy() {
                        return self.body(body, scope, out);
                    }
                }
                return self.body(otherwise, scope, out);
            }
            StmtKind::For(index) => self.for_loop(*index, scope, out)?,
            StmtKind::Macro(index) => {
                let name = &self.ast.macros[*index].name;
                scope.set(name, self.closure(*index, scope)?, self)?;
            }
            StmtKind::CallBlock { callee, args, caller } => {
                let callee = self.eval(callee, scope)?;
                let mut args = self.args(args, scope)?;
                args.named.push(("caller".into(), self.closure(*caller, scope)?));
                let value = self.call(&callee, args)?;
                out.push_value(&value)?;
            }
            StmtKind::Set { target, value } => {
                let value = self.eval(value, scope)?;
                self.assign(target, value, scope)?;
            }
            StmtKind::SetBlock { target, filters, body } => {
                let value = self.captured_body(body, filters, scope)?;
                self.assign(target, value, scope)?;
            }
            StmtKind::With { bindings, body } => {
                let inner = Scope::within(scope);
                for (target, value) in bindings {
                    let value = self.eval(value, scope)?;
                    self.assign(target, value, &inner)?;
                }
                return self.body(body, &inner, out);
            }
            StmtKind::FilterBlock { filters, body } => {
                let value = self.captured_body(body, filters, scope)?;
                out.push_value(&value)?;
            }
            StmtKind::Generation(body) => {
                let start = out.text.len();
                let flow = self.body(body, &Scope::within(scope), out)?;
                if out.is_result {
                    self.hold(size_of::<Range<usize>>())?;
                    self.generated.borrow_mut().push(start..out.text.len());
                }
                return Ok(flow);
            }
            StmtKind::Scope { body, from_root } => {
                let outer = if *from_root { &self.root } else { scope };
                return self.body(body, &Scope::within(outer), out);
            }
            StmtKind::Break => return Ok(Flow::Break),
            StmtKind::Continue => return Ok(Flow::Continue),
            StmtKind::Unsupported(tag) => {
                return Err(format!("{{% {tag} %}} needs other templates, and there are none").into());
            }
        }
        Ok(Flow::On)
    }

    fn closure(&self, index: usize, scope: &Rc<Scope>) -> Res<Value> {
        self.hold(size_of::<Closure>())?;
        self.capture(scope)?;
        Ok(Value::Macro(Closure { index, scope: scope.clone() }.into()))
    }

    /// Keeps a scope and those around it, to which a value is about to refer.
    fn capture(&self, scope: &Rc<Scope>) -> Res<()> {
        let mut next = Some(scope);
        while let Some(scope) = next.filter(|scope| !scope.captured.replace(true)) {
            self.captured.borrow_mut().push(scope.clone());
            self.hold(size_of::<Scope>() + scope.vars.borrow().len() * size_of::<(Arc<str>, Value)>())?;
            next = scope.parent.as_ref();
        }
        Ok(())
    }

    /// Keeps a loop that begins to remember values, itself perhaps among them.
    pub(super) fn remember(&self, looping: &Rc<Loop>) -> Res<()> {
        self.loops.borrow_mut().push(looping.clone());
        self.hold(size_of::<Loop>())
    }

    /// The text of a body with names of its own, filtered.
    fn captured_body(&self, body: &'t [Stmt], filters: &'t [Step], scope: &Rc<Scope>) -> Res<Value> {
        let mut text = Text::new(self);
        self.body(body, &Scope::within(scope), &mut text)?;
        let mut value = Value::str(&text.text);
        for step in filters {
            value = self.step(value, step, scope).map_err(|e| e.at(step.line))?;
        }
        Ok(value)
    }

    pub(super) fn assign(&self, target: &Target, value: Value, scope: &Scope) -> Res<()> {
        match target {
            Target::Name(name) => scope.set(name, value, self)?,
            Target::Attribute(name, attribute) => match self.lookup(name, scope)? {
                Value::Namespace(namespace) => namespace.set(attribute, value, self)?,
                _ => return Err("cannot assign attribute on non-namespace object".into()),
            },
            Target::Tuple(targets) => {
                let items = value.items(self)?;
                if items.len() != targets.len() {
                    let (expected, found) = (targets.len(), items.len());
                    return Err(format!("cannot unpack {found} values to {expected} names").into());
                }
                for (target, item) in targets.iter().zip(items) {
                    self.assign(target, item, scope)?;
                }
            }
        }
        Ok(())
    }

    fn for_loop(&self, index: usize, scope: &Rc<Scope>, out: &mut Text) -> Res<()> {
        let for_loop = &self.ast.loops[index];
        let values = self.eval(&for_loop.iterable, scope)?;
        let items = values.items(self).map_err(|e| e.at(for_loop.iterable.line))?;
        self.iterate(index, items, 0, scope, out)
    }

    /// Goes through the items of a loop; `level` counts the recursions above.
    pub(super) fn iterate(
        &self,
        index: usize,
        items: Vec<Value>,
        level: usize,
        scope: &Rc<Scope>,
        out: &mut Text,
    ) -> Res<()> {
        let for_loop = &self.ast.loops[index];
        let mut kept = Vec::with_capacity(items.len());
        for item in items {
            if let Some(condition) = &for_loop.condition {
                let inner = Scope::within(scope);
                self.assign(&for_loop.target, item.clone(), &inner)?;
                if !self.eval(condition, &inner)?.truthy() {
                    continue;
                }
            }
            kept.push(item);
        }
        if kept.is_empty() {
            self.body(&for_loop.otherwise, &Scope::within(scope), out)?;
            return Ok(());
        }
        if for_loop.recursive {
            self.capture(scope)?;
        }
        let recursive = for_loop.recursive.then(|| (index, scope.clone()));
        let looping = Rc::new(Loop::new(kept, level, recursive)?);
        let name: Arc<str> = "loop".into();
        for (at, item) in looping.items.iter().enumerate() {
            self.work(1)?;
            looping.at.set(at);
            let inner = Scope::within(scope);
            inner.set(&name, Value::Loop(looping.clone()), self)?;
            self.assign(&for_loop.target, item.clone(), &inner)?;
            if self.body(&for_loop.body, &inner, out)? == Flow::Break {
                break;
            }
        }
        Ok(())
    }
}

impl Fault {
    /// The same fault with a line, unless it has one.
    pub(super) fn at(self, line: u32) -> Self {
        if self.line > 0 { self } else { Self { line, ..self } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jinja::statements::parse;

    #[test]
    fn cycles_end_with_the_rendering() {
        for source in [
            "{% for x in [1] %}{% set kept.l = loop %}{% if loop.changed(loop) %}{% endif %}{% endfor %}",
            "{% for x in [1] recursive %}{% set kept.l = loop %}{% set kept.k = kept %}{% endfor %}",
            "{% for x in [1] %}{% set kept.l = loop %}{% macro m() %}{% endmacro %}{% if loop.changed(m) %}{% endif %}{% endfor %}",
        ] {
            let ast = parse(source).unwrap();
            let run = Run::new(&ast, Limits { work: 1000, memory: 10_000 }, 0);
            let kept = run.namespace().unwrap();
            run.root.set(&"kept".into(), Value::Namespace(kept.clone()), &run).unwrap();
            run.body(&ast.body, &run.root, &mut Text::new(&run)).map(drop).unwrap();
            let looping = match kept.get(&"l".into(), &run) {
                Ok(Some(Value::Loop(looping))) => Rc::downgrade(&looping),
                _ => panic!("{source}"),
            };
            drop(run);
            assert_eq!(looping.strong_count(), 0, "{source}");
        }
    }
}
