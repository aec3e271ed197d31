//! Expressions of a template.

use std::sync::Arc;

use super::ast::{Args, Ast, CompareOp, Expr, ExprKind, MathOp, Step, StepKind};
use super::lexer::{Token, TokenKind};
use super::text::beginning;
use super::{Fault, Res};

/// Brackets, operators and blocks within each other; as many as Python's own parser allows of brackets.
const MAX_NESTING: u32 = 100;

pub(super) struct Parser {
    tokens: Vec<Token>,
    at: usize,
    nesting: u32,
    pub(super) ast: Ast,
    /// How many loops the statement is in, within its macro.
    pub(super) loops: u32,
    /// Which of `caller`, `varargs`, `kwargs` were read since the macro began.
    pub(super) special: [bool; 3],
}

const SPECIAL: [&str; 3] = ["caller", "varargs", "kwargs"];

impl Parser {
    pub(super) fn new(tokens: Vec<Token>) -> Self {
        Self { tokens, at: 0, nesting: 0, ast: Ast::default(), loops: 0, special: [false; 3] }
    }

    pub(super) fn line(&self) -> u32 {
        let last = self.tokens.last().map_or(1, |t| t.line);
        self.tokens.get(self.at).map_or(last, |t| t.line)
    }

    pub(super) fn peek(&self) -> Option<&TokenKind> {
        self.tokens.get(self.at).map(|t| &t.kind)
    }

    fn peek_second(&self) -> Option<&TokenKind> {
        self.tokens.get(self.at + 1).map(|t| &t.kind)
    }

    pub(super) fn advance(&mut self) {
        self.at += 1;
    }

    pub(super) fn fail<T>(&self, message: impl Into<String>) -> Res<T> {
        Err(Fault { line: self.line(), message: message.into() })
    }

    pub(super) fn unexpected<T>(&self) -> Res<T> {
        let found = match self.peek() {
            None => "the end of the template".to_owned(),
            Some(TokenKind::Data(_)) => "text".to_owned(),
            Some(TokenKind::BlockBegin) => "'{%'".to_owned(),
            Some(TokenKind::BlockEnd) => "'%}'".to_owned(),
            Some(TokenKind::VariableBegin) => "'{{'".to_owned(),
            Some(TokenKind::VariableEnd) => "'}}'".to_owned(),
            Some(TokenKind::Name(name)) => format!("'{name}'"),
            Some(TokenKind::Str(text)) => format!("the string {:?}", beginning(text)),
            Some(TokenKind::Int(n)) => n.to_string(),
            Some(TokenKind::Float(x)) => x.to_string(),
            Some(TokenKind::Op(op)) => format!("'{op}'"),
        };
        self.fail(format!("unexpected {found}"))
    }

    /// Runs a part of the parser one level deeper.
    pub(super) fn nested<T>(&mut self, part: impl FnOnce(&mut Self) -> Res<T>) -> Res<T> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return self.fail(format!("is nested more than {MAX_NESTING} levels deep"));
        }
        let result = part(self);
        self.nesting -= 1;
        result
    }

    pub(super) fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Some(TokenKind::Op(found)) if *found == op)
    }

    pub(super) fn skip_op(&mut self, op: &str) -> bool {
        let found = self.is_op(op);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect_op(&mut self, op: &str) -> Res<()> {
        if self.skip_op(op) { Ok(()) } else { self.unexpected() }
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Some(TokenKind::Name(found)) if **found == *name)
    }

    pub(super) fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    pub(super) fn name(&mut self) -> Res<Arc<str>> {
        match self.peek() {
            Some(TokenKind::Name(name)) => {
                let name = name.clone();
                self.advance();
                Ok(name)
            }
            _ => self.unexpected(),
        }
    }

    /// An expression, or several with commas between them, which are a tuple. `conditional` says whether
    /// `x if y else z` is allowed.
    pub(super) fn tuple(&mut self, conditional: bool) -> Res<Expr> {
        let line = self.line();
        let first = self.one(conditional)?;
        self.tuple_after(line, first, conditional)
    }

    fn one(&mut self, conditional: bool) -> Res<Expr> {
        if conditional { self.expression() } else { self.nested(Self::or) }
    }

    fn tuple_after(&mut self, line: u32, first: Expr, conditional: bool) -> Res<Expr> {
        if !self.is_op(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.skip_op(",") && !self.tuple_ends() {
            items.push(self.one(conditional)?);
        }
        Ok(Expr { line, kind: ExprKind::Tuple(items) })
    }

    fn tuple_ends(&self) -> bool {
        match self.peek() {
            None | Some(TokenKind::VariableEnd | TokenKind::BlockEnd) => true,
            Some(TokenKind::Op(op)) => *op == ")",
            // The word after what a loop goes through.
            Some(TokenKind::Name(name)) => &**name == "recursive",
            _ => false,
        }
    }

    pub(super) fn expression(&mut self) -> Res<Expr> {
        self.nested(Self::conditional)
    }

    fn conditional(&mut self) -> Res<Expr> {
        let line = self.line();
        let mut value = self.or()?;
        let mut chained = 0;
        while self.skip_name("if") {
            let test = Box::new(self.or()?);
            let otherwise = if self.skip_name("else") { Some(Box::new(self.expression()?)) } else { None };
            value = Expr { line, kind: ExprKind::Conditional { test, then: Box::new(value), otherwise } };
            // `a if b if c` nests without brackets.
            chained += 1;
            if chained > MAX_NESTING {
                return self.fail(format!("is nested more than {MAX_NESTING} levels deep"));
            }
        }
        Ok(value)
    }

    fn or(&mut self) -> Res<Expr> {
        self.chain("or", Self::and, ExprKind::Or)
    }

    fn and(&mut self) -> Res<Expr> {
        self.chain("and", Self::not, ExprKind::And)
    }

    fn chain(
        &mut self,
        word: &str,
        part: fn(&mut Self) -> Res<Expr>,
        kind: fn(Vec<Expr>) -> ExprKind,
    ) -> Res<Expr> {
        let line = self.line();
        let first = part(self)?;
        if !self.is_name(word) {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.skip_name(word) {
            parts.push(part(self)?);
        }
        Ok(Expr { line, kind: kind(parts) })
    }

    fn not(&mut self) -> Res<Expr> {
        let line = self.line();
        if self.skip_name("not") {
            let operand = Box::new(self.nested(Self::not)?);
            return Ok(Expr { line, kind: ExprKind::Not(operand) });
        }
        self.compare()
    }

    fn compare(&mut self) -> Res<Expr> {
        let line = self.line();
        let first = self.sum()?;
        let mut rest = Vec::new();
        while let Some((op, tokens)) = self.compare_op() {
            self.at += tokens;
            rest.push((op, self.sum()?));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        Ok(Expr { line, kind: ExprKind::Compare(Box::new(first), rest) })
    }

    /// The comparison that comes next, and of how many tokens it is.
    fn compare_op(&self) -> Option<(CompareOp, usize)> {
        match self.peek()? {
            TokenKind::Op("==") => Some((CompareOp::Eq, 1)),
            TokenKind::Op("!=") => Some((CompareOp::Ne, 1)),
            TokenKind::Op("<") => Some((CompareOp::Lt, 1)),
            TokenKind::Op("<=") => Some((CompareOp::Le, 1)),
            TokenKind::Op(">") => Some((CompareOp::Gt, 1)),
            TokenKind::Op(">=") => Some((CompareOp::Ge, 1)),
            TokenKind::Name(name) if &**name == "in" => Some((CompareOp::In, 1)),
            TokenKind::Name(name) if &**name == "not" => match self.peek_second() {
                Some(TokenKind::Name(next)) if &**next == "in" => Some((CompareOp::NotIn, 2)),
                _ => None,
            },
            _ => None,
        }
    }

    fn math(&mut self, part: fn(&mut Self) -> Res<Expr>, ops: &[(&'static str, MathOp)]) -> Res<Expr> {
        let line = self.line();
        let first = part(self)?;
        let mut rest = Vec::new();
        while let Some((_, op)) = ops.iter().find(|(text, _)| self.is_op(text)) {
            self.advance();
            rest.push((*op, part(self)?));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        Ok(Expr { line, kind: ExprKind::Math(Box::new(first), rest) })
    }

    fn sum(&mut self) -> Res<Expr> {
        self.math(Self::concat, &[("+", MathOp::Add), ("-", MathOp::Sub)])
    }

    fn concat(&mut self) -> Res<Expr> {
        let line = self.line();
        let first = self.product()?;
        if !self.is_op("~") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.skip_op("~") {
            parts.push(self.product()?);
        }
        Ok(Expr { line, kind: ExprKind::Concat(parts) })
    }

    fn product(&mut self) -> Res<Expr> {
        let ops = [("*", MathOp::Mul), ("/", MathOp::Div), ("//", MathOp::FloorDiv), ("%", MathOp::Mod)];
        self.math(Self::power, &ops)
    }

    fn power(&mut self) -> Res<Expr> {
        self.math(|p| p.unary(true), &[("**", MathOp::Pow)])
    }

    /// A sign binds closer than a filter: `-x|abs` is the absolute value of `-x`.
    fn unary(&mut self, filters: bool) -> Res<Expr> {
        let line = self.line();
        let base = if self.skip_op("-") {
            let operand = Box::new(self.nested(|p| p.unary(false))?);
            Expr { line, kind: ExprKind::Negative(operand) }
        } else if self.skip_op("+") {
            let operand = Box::new(self.nested(|p| p.unary(false))?);
            Expr { line, kind: ExprKind::Positive(operand) }
        } else {
            self.primary()?
        };
        self.steps(base, filters)
    }

    fn steps(&mut self, base: Expr, filters: bool) -> Res<Expr> {
        let mut steps = Vec::new();
        // Once a filter or test was applied, attributes no longer follow.
        let mut filtered = false;
        loop {
            let line = self.line();
            let kind = if !filtered && self.is_op(".") {
                self.attribute()?
            } else if !filtered && self.is_op("[") {
                self.subscript()?
            } else if self.is_op("(") {
                StepKind::Call(self.args()?)
            } else if filters && self.skip_op("|") {
                filtered = true;
                self.filter()?
            } else if filters && self.is_name("is") {
                filtered = true;
                self.test()?
            } else {
                break;
            };
            steps.push(Step { line, kind });
        }
        if steps.is_empty() {
            return Ok(base);
        }
        Ok(Expr { line: base.line, kind: ExprKind::Steps(Box::new(base), steps) })
    }

    fn attribute(&mut self) -> Res<StepKind> {
        self.advance();
        match self.peek() {
            Some(TokenKind::Int(n)) => {
                let index = Expr { line: self.line(), kind: ExprKind::Int(*n) };
                self.advance();
                Ok(StepKind::Item(index))
            }
            _ => Ok(StepKind::Attribute(self.name()?)),
        }
    }

    fn subscript(&mut self) -> Res<StepKind> {
        let line = self.line();
        self.advance();
        let part = |p: &mut Self| {
            let ends = matches!(p.peek(), Some(TokenKind::Op(":" | "]" | ",")));
            if ends { Ok(None) } else { p.expression().map(Some) }
        };
        let start = part(self)?;
        let kind = match start {
            Some(first) if self.is_op("]") => StepKind::Item(first),
            Some(first) if self.is_op(",") => {
                let mut items = vec![first];
                while self.skip_op(",") && !self.is_op("]") {
                    items.push(self.expression()?);
                }
                StepKind::Item(Expr { line, kind: ExprKind::Tuple(items) })
            }
            start => {
                self.expect_op(":")?;
                let stop = part(self)?;
                let step = if self.skip_op(":") { part(self)? } else { None };
                StepKind::Slice(Box::new([start, stop, step]))
            }
        };
        self.expect_op("]")?;
        Ok(kind)
    }

    /// A name that may have dots in it.
    fn dotted(&mut self) -> Res<Arc<str>> {
        let mut name = self.name()?.to_string();
        while self.skip_op(".") {
            name.push('.');
            name.push_str(&self.name()?);
        }
        Ok(name.into())
    }

    pub(super) fn filter(&mut self) -> Res<StepKind> {
        let name = self.dotted()?;
        let args = if self.is_op("(") { self.args()? } else { Args::default() };
        Ok(StepKind::Filter(name, args))
    }

    fn test(&mut self) -> Res<StepKind> {
        self.advance();
        let negated = self.skip_name("not");
        let name = self.dotted()?;
        let takes_argument = match self.peek() {
            Some(TokenKind::Name(word)) => !matches!(&**word, "else" | "or" | "and" | "is"),
            Some(TokenKind::Str(_) | TokenKind::Int(_) | TokenKind::Float(_) | TokenKind::Op("[" | "{")) => {
                true
            }
            _ => false,
        };
        let mut args = Args::default();
        if self.is_op("(") {
            args = self.args()?;
        } else if self.is_name("is") {
            return self.fail("You cannot chain multiple tests with is");
        } else if takes_argument {
            let base = self.primary()?;
            args.positional.push(self.steps(base, false)?);
        }
        Ok(StepKind::Test { name, args, negated })
    }

    pub(super) fn args(&mut self) -> Res<Args> {
        self.nested(Self::arguments)
    }

    fn arguments(&mut self) -> Res<Args> {
        self.expect_op("(")?;
        let mut args = Args::default();
        while !self.is_op(")") {
            let unpacked = args.unpacked.is_some();
            let unpacked_named = args.unpacked_named.is_some();
            let named = matches!(
                (self.peek(), self.peek_second()),
                (Some(TokenKind::Name(_)), Some(TokenKind::Op("=")))
            );
            let allowed = if self.is_op("*") {
                !unpacked && !unpacked_named
            } else if self.is_op("**") || named {
                !unpacked_named
            } else {
                !unpacked && !unpacked_named && args.named.is_empty()
            };
            if !allowed {
                return self.fail("invalid syntax for function call expression");
            }
            if self.skip_op("*") {
                args.unpacked = Some(Box::new(self.expression()?));
            } else if self.skip_op("**") {
                args.unpacked_named = Some(Box::new(self.expression()?));
            } else if named {
                let name = self.name()?;
                self.advance();
                args.named.push((name, self.expression()?));
            } else {
                args.positional.push(self.expression()?);
            }
            if !self.skip_op(",") {
                break;
            }
        }
        self.expect_op(")")?;
        Ok(args)
    }

    pub(super) fn primary(&mut self) -> Res<Expr> {
        let line = self.line();
        let kind = match self.peek() {
            Some(TokenKind::Name(name)) => {
                let kind = match &**name {
                    "true" | "True" => ExprKind::Bool(true),
                    "false" | "False" => ExprKind::Bool(false),
                    "none" | "None" => ExprKind::None,
                    _ => {
                        let name = name.clone();
                        if let Some(i) = SPECIAL.iter().position(|s| **s == *name) {
                            self.special[i] = true;
                        }
                        self.ast.reads.insert(name.clone());
                        ExprKind::Name(name)
                    }
                };
                self.advance();
                kind
            }
            Some(TokenKind::Str(_)) => {
                let mut text = String::new();
                while let Some(TokenKind::Str(part)) = self.peek() {
                    text.push_str(part);
                    self.advance();
                }
                ExprKind::Str(text.into())
            }
            Some(TokenKind::Int(n)) => {
                let kind = ExprKind::Int(*n);
                self.advance();
                kind
            }
            Some(TokenKind::Float(x)) => {
                let kind = ExprKind::Float(*x);
                self.advance();
                kind
            }
            Some(TokenKind::Op("(")) => return self.nested(Self::parenthesis),
            Some(TokenKind::Op("[")) => {
                self.advance();
                ExprKind::List(self.items("]", Self::expression)?)
            }
            Some(TokenKind::Op("{")) => {
                self.advance();
                ExprKind::Dict(self.items("}", |p| {
                    let key = p.expression()?;
                    p.expect_op(":")?;
                    Ok((key, p.expression()?))
                })?)
            }
            _ => return self.unexpected(),
        };
        Ok(Expr { line, kind })
    }

    fn parenthesis(&mut self) -> Res<Expr> {
        let line = self.line();
        self.advance();
        if self.skip_op(")") {
            return Ok(Expr { line, kind: ExprKind::Tuple(Vec::new()) });
        }
        let inner = self.tuple(true)?;
        self.expect_op(")")?;
        Ok(inner)
    }

    fn items<T>(&mut self, close: &str, item: impl Fn(&mut Self) -> Res<T>) -> Res<Vec<T>> {
        let mut items = Vec::new();
        while !self.is_op(close) {
            items.push(item(self)?);
            if !self.skip_op(",") {
                break;
            }
        }
        self.expect_op(close)?;
        Ok(items)
    }
}
