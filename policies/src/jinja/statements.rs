//! Statements of a template.

use std::sync::Arc;

use super::ast::{Ast, Expr, ExprKind, ForLoop, Macro, Step, StepKind, Stmt, StmtKind, Target};
use super::lexer::{TokenKind, tokenize};
use super::parser::Parser;
use super::{Fault, Res};

/// Parses a template.
pub(super) fn parse(source: &str) -> Res<Ast> {
    let mut parser = Parser::new(tokenize(source)?);
    let body = parser.body(&[])?;
    parser.ast.body = body;
    Ok(parser.ast)
}

impl Parser {
    /// Statements up to one of the tags `ends`, of which `{%` and the name are not passed over; without any, up to the
    /// end of the template.
    fn body(&mut self, ends: &[&str]) -> Res<Vec<Stmt>> {
        let mut body = Vec::new();
        loop {
            let line = self.line();
            match self.peek() {
                None if ends.is_empty() => return Ok(body),
                None => return self.fail(format!("the template ends before {{% {} %}}", ends.join(" or "))),
                Some(TokenKind::Data(text)) => {
                    let kind = StmtKind::Data(text.clone());
                    self.advance();
                    body.push(Stmt { line, kind });
                }
                Some(TokenKind::VariableBegin) => {
                    self.advance();
                    let value = self.tuple(true)?;
                    self.expect(&TokenKind::VariableEnd)?;
                    body.push(Stmt { line, kind: StmtKind::Print(value) });
                }
                Some(TokenKind::BlockBegin) => {
                    self.advance();
                    if ends.iter().any(|end| self.is_name(end)) {
                        return Ok(body);
                    }
                    let kinds = self.nested(Self::statement)?;
                    body.extend(kinds.into_iter().map(|kind| Stmt { line, kind }));
                }
                Some(_) => return self.unexpected(),
            }
        }
    }

    fn expect(&mut self, token: &TokenKind) -> Res<()> {
        if self.peek() != Some(token) {
            return self.unexpected();
        }
        self.advance();
        Ok(())
    }

    fn block_end(&mut self) -> Res<()> {
        self.expect(&TokenKind::BlockEnd)
    }

    /// The body of a block whose opening tag ends here, its closing tag included.
    fn block(&mut self, end: &str) -> Res<Vec<Stmt>> {
        self.block_end()?;
        let body = self.body(&[end])?;
        self.advance();
        self.block_end()?;
        Ok(body)
    }

    /// A block that Python makes a function of, or whose text is kept: no `break` leaves it.
    fn closed_block(&mut self, end: &str) -> Res<Vec<Stmt>> {
        let loops = std::mem::take(&mut self.loops);
        let body = self.block(end);
        self.loops = loops;
        body
    }

    fn statement(&mut self) -> Res<Vec<StmtKind>> {
        let line = self.line();
        let name = self.name()?;
        let kind = match &*name {
            "if" => self.if_block()?,
            "for" => self.for_loop()?,
            "set" => self.set()?,
            "macro" => self.macro_block()?,
            "call" => self.call_block(line)?,
            "with" => self.with_block()?,
            "filter" => {
                let filters = self.filters()?;
                StmtKind::FilterBlock { filters, body: self.closed_block("endfilter")? }
            }
            "generation" => StmtKind::Generation(self.closed_block("endgeneration")?),
            "block" => self.named_block()?,
            "autoescape" => {
                let value = self.expression()?;
                if !matches!(value.kind, ExprKind::Bool(false)) {
                    return self.fail("autoescape other than false is not supported");
                }
                StmtKind::Scope { body: self.block("endautoescape")?, from_root: false }
            }
            "print" => {
                let mut values = Vec::new();
                while !matches!(self.peek(), None | Some(TokenKind::BlockEnd)) {
                    if !values.is_empty() {
                        self.expect_op(",")?;
                    }
                    values.push(StmtKind::Print(self.expression()?));
                }
                self.block_end()?;
                return Ok(values);
            }
            "break" | "continue" => {
                if self.loops == 0 {
                    return self.fail(format!("'{name}' outside loop"));
                }
                self.block_end()?;
                if &*name == "break" { StmtKind::Break } else { StmtKind::Continue }
            }
            "include" => self.other_template("include")?,
            "extends" => self.other_template("extends")?,
            "import" => self.other_template("import")?,
            "from" => self.other_template("from")?,
            _ => return Err(Fault { line, message: format!("unknown tag '{name}'") }),
        };
        Ok(vec![kind])
    }

    fn if_block(&mut self) -> Res<StmtKind> {
        let (mut branches, mut otherwise) = (Vec::new(), Vec::new());
        loop {
            let test = self.tuple(false)?;
            self.block_end()?;
            branches.push((test, self.body(&["elif", "else", "endif"])?));
            if self.skip_name("elif") {
                continue;
            }
            if self.skip_name("else") {
                otherwise = self.block("endif")?;
            } else {
                self.advance();
                self.block_end()?;
            }
            return Ok(StmtKind::If { branches, otherwise });
        }
    }

    fn for_loop(&mut self) -> Res<StmtKind> {
        let target = self.target(false)?;
        if !self.skip_name("in") {
            return self.unexpected();
        }
        let iterable = self.tuple(false)?;
        let condition = if self.skip_name("if") { Some(self.expression()?) } else { None };
        let recursive = self.skip_name("recursive");
        self.block_end()?;
        self.loops += 1;
        let body = self.body(&["else", "endfor"])?;
        self.loops -= 1;
        let mut otherwise = Vec::new();
        if self.skip_name("else") {
            otherwise = self.block("endfor")?;
        } else {
            self.advance();
            self.block_end()?;
        }
        self.ast.binds.insert("loop".into());
        self.ast.loops.push(ForLoop { target, iterable, condition, recursive, body, otherwise });
        Ok(StmtKind::For(self.ast.loops.len() - 1))
    }

    /// A name, several with commas, or an attribute where `attributes` are allowed.
    fn target(&mut self, attributes: bool) -> Res<Target> {
        let first = self.one_target(attributes)?;
        if !self.is_op(",") {
            return Ok(first);
        }
        let mut targets = vec![first];
        while self.skip_op(",") && !self.is_name("in") && !self.is_op("=") && !self.is_op(")") {
            targets.push(self.one_target(attributes)?);
        }
        Ok(Target::Tuple(targets))
    }

    fn one_target(&mut self, attributes: bool) -> Res<Target> {
        if self.skip_op("(") {
            let inner = self.nested(|p| p.target(attributes))?;
            self.expect_op(")")?;
            return Ok(inner);
        }
        let name = self.name()?;
        if matches!(&*name, "true" | "True" | "false" | "False" | "none" | "None") {
            return self.fail(format!("can't assign to '{name}'"));
        }
        if attributes && self.skip_op(".") {
            return Ok(Target::Attribute(name, self.name()?));
        }
        self.ast.binds.insert(name.clone());
        Ok(Target::Name(name))
    }

    fn set(&mut self) -> Res<StmtKind> {
        let target = self.target(true)?;
        if self.skip_op("=") {
            let value = self.tuple(true)?;
            self.block_end()?;
            return Ok(StmtKind::Set { target, value });
        }
        let filters = if self.skip_op("|") { self.filters()? } else { Vec::new() };
        Ok(StmtKind::SetBlock { target, filters, body: self.closed_block("endset")? })
    }

    /// `name(…)|name(…)`, without what is filtered.
    fn filters(&mut self) -> Res<Vec<Step>> {
        let mut filters = Vec::new();
        loop {
            let line = self.line();
            filters.push(Step { line, kind: self.filter()? });
            if !self.skip_op("|") {
                return Ok(filters);
            }
        }
    }

    /// The parameters, body and end of a macro.
    fn macro_rest(&mut self, name: Arc<str>, with_parameters: bool, end: &str) -> Res<usize> {
        let mut parameters: Vec<(Arc<str>, Option<Expr>)> = Vec::new();
        let outer = (std::mem::take(&mut self.loops), std::mem::take(&mut self.special));
        if with_parameters {
            self.expect_op("(")?;
            while !self.is_op(")") {
                let name = self.name()?;
                let default = if self.skip_op("=") { Some(self.expression()?) } else { None };
                if default.is_none() && parameters.last().is_some_and(|(_, d)| d.is_some()) {
                    return self.fail("non-default argument follows default argument");
                }
                parameters.push((name, default));
                if !self.skip_op(",") {
                    break;
                }
            }
            self.expect_op(")")?;
        }
        self.macro_body(name, parameters, end, outer)
    }

    fn macro_body(
        &mut self,
        name: Arc<str>,
        parameters: Vec<(Arc<str>, Option<Expr>)>,
        end: &str,
        outer: (u32, [bool; 3]),
    ) -> Res<usize> {
        self.ast.binds.extend(parameters.iter().map(|(name, _)| name.clone()));
        self.ast.binds.insert(name.clone());
        let body = self.block(end)?;
        let used = self.special;
        (self.loops, self.special) = outer;
        // A macro inside of this one may have used the names of this one.
        for (mine, inner) in self.special.iter_mut().zip(used) {
            *mine |= inner;
        }
        let is_parameter = |name: &str| parameters.iter().any(|(p, _)| **p == *name);
        let uses = |i: usize, name| used[i] && !is_parameter(name);
        let (uses_caller, uses_varargs, uses_kwargs) =
            (uses(0, "caller"), uses(1, "varargs"), uses(2, "kwargs"));
        self.ast.macros.push(Macro { name, parameters, body, uses_caller, uses_varargs, uses_kwargs });
        Ok(self.ast.macros.len() - 1)
    }

    fn macro_block(&mut self) -> Res<StmtKind> {
        let name = self.name()?;
        Ok(StmtKind::Macro(self.macro_rest(name, true, "endmacro")?))
    }

    fn call_block(&mut self, line: u32) -> Res<StmtKind> {
        // The parameters of the caller come before the call itself.
        let mut outer = (std::mem::take(&mut self.loops), std::mem::take(&mut self.special));
        let mut parameters = Vec::new();
        if self.is_op("(") {
            let args = self.args()?;
            for parameter in args.positional {
                let ExprKind::Name(name) = parameter.kind else {
                    return self.fail("a parameter must be a name");
                };
                parameters.push((name, None));
            }
            parameters.extend(args.named.into_iter().map(|(name, default)| (name, Some(default))));
        }
        self.special = [false; 3];
        let call = self.expression()?;
        let before = self.special;
        self.special = [false; 3];
        let wrong = Fault { line, message: "expected call".into() };
        let ExprKind::Steps(callee, mut steps) = call.kind else { return Err(wrong) };
        let Some(Step { kind: StepKind::Call(args), .. }) = steps.pop() else { return Err(wrong) };
        let callee = if steps.is_empty() {
            *callee
        } else {
            Expr { line: call.line, kind: ExprKind::Steps(callee, steps) }
        };
        for (mine, read) in outer.1.iter_mut().zip(before) {
            *mine |= read;
        }
        let caller = self.macro_body("caller".into(), parameters, "endcall", outer)?;
        Ok(StmtKind::CallBlock { callee, args, caller })
    }

    fn with_block(&mut self) -> Res<StmtKind> {
        let mut bindings = Vec::new();
        while self.peek() != Some(&TokenKind::BlockEnd) {
            if !bindings.is_empty() {
                self.expect_op(",")?;
            }
            let target = self.one_target(false)?;
            self.expect_op("=")?;
            bindings.push((target, self.expression()?));
        }
        Ok(StmtKind::With { bindings, body: self.block("endwith")? })
    }

    fn named_block(&mut self) -> Res<StmtKind> {
        let name = self.name()?;
        while self.skip_name("scoped") || self.skip_name("required") {}
        self.block_end()?;
        let loops = std::mem::take(&mut self.loops);
        let body = self.body(&["endblock"])?;
        self.loops = loops;
        self.advance();
        self.skip_name(&name);
        self.block_end()?;
        Ok(StmtKind::Scope { body, from_root: true })
    }

    fn other_template(&mut self, tag: &'static str) -> Res<StmtKind> {
        while !matches!(self.peek(), None | Some(TokenKind::BlockEnd)) {
            self.advance();
        }
        self.block_end()?;
        Ok(StmtKind::Unsupported(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_templates_are_refused_with_their_line() {
        for (source, line, part) in [
            (&*format!("\n{{{{ {} }}}}", "é".repeat(128)), 2, "longer than 255"),
            ("a\n{{ x", 2, "end of the template"),
            ("{% if x %}a", 1, "endif"),
            ("{% endif %}", 1, "endif"),
            ("{% break %}", 1, "outside loop"),
            ("{% for x in y %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}", 1, "outside loop"),
            ("\n\n{{ f(a=1, 2) }}", 3, "invalid syntax"),
            ("{{ (1] }}", 1, "expected ')'"),
            ("{{ a is b is c }}", 1, "chain"),
            ("{{ 'x }}", 1, "no end"),
            ("{# x", 1, "comment"),
            ("{% raw %}", 1, "raw"),
            ("{% set true = 1 %}", 1, "can't assign"),
            ("{% frobnicate %}", 1, "frobnicate"),
        ] {
            let fault = parse(source).unwrap_err();
            assert_eq!(fault.line, line, "{source}: {}", fault.message);
            assert!(fault.message.contains(part), "{source}: {}", fault.message);
        }
    }

    #[test]
    fn nesting_is_bounded_and_chains_are_not() {
        for (open, close) in
            [("(", ")"), ("[", "]"), ("{1: ", "}"), ("not ", ""), ("-", ""), ("x[", "]"), ("f(", ")")]
        {
            let deep = |n: usize| format!("{{{{ {}1{} }}}}", open.repeat(n), close.repeat(n));
            assert!(parse(&deep(30)).is_ok(), "{open}");
            assert!(parse(&deep(100_000)).unwrap_err().message.contains("nested"), "{open}");
        }
        let blocks = "{% if x %}".repeat(100_000);
        assert!(parse(&blocks).unwrap_err().message.contains("nested"));
        let elses = format!("{{{{ 1{} }}}}", " if a else 2".repeat(100_000));
        assert!(parse(&elses).unwrap_err().message.contains("nested"));
        let ifs = format!("{{{{ 1{} }}}}", " if a".repeat(100_000));
        assert!(parse(&ifs).unwrap_err().message.contains("nested"));
        for link in [" + 1", " ~ 1", " and 1", " == 1", ".a", "|f", "()", " ** 1"] {
            assert!(parse(&format!("{{{{ x{} }}}}", link.repeat(10_000))).is_ok(), "{link}");
        }
        let elifs = format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(10_000));
        assert!(parse(&elifs).is_ok());
    }
}
