//! Tokens to expressions, below products: signs, powers, commands with arguments, calls.

use num_traits::One;

use super::expr::{Expr, Fold, decimal, integer, repeating_decimal};
use super::parse::{Parser, collapse};
use super::token::Tok;

impl Parser {
    pub(super) fn unary(&mut self) -> Option<Expr> {
        match self.peek() {
            Some(Tok::Op('-')) => {
                self.at += 1;
                let inner = self.nested(Self::unary)?;
                Some(Expr::Neg(Box::new(inner)))
            }
            Some(Tok::Op('+')) => {
                self.at += 1;
                self.nested(Self::unary)
            }
            _ => self.power(),
        }
    }

    pub(super) fn power(&mut self) -> Option<Expr> {
        let base = self.postfix()?;
        if self.eat(&Tok::Op('^')) {
            if self.ordinal() {
                return Some(base);
            }
            let exponent = self.nested(|p| match p.peek() {
                Some(Tok::Op('-' | '+')) => p.unary(),
                Some(Tok::Open('{')) => p.atom(),
                _ => p.power(),
            })?;
            let mut power = Expr::Pow(Box::new(base), Box::new(exponent));
            let mut rounds = 0;
            while self.peek() == Some(&Tok::Op('!')) && rounds < 4 {
                self.at += 1;
                rounds += 1;
                power = Expr::Call("fact", vec![power]);
            }
            return Some(power);
        }
        Some(base)
    }

    /// The `th` of `7^{\text{th}}`.
    fn ordinal(&mut self) -> bool {
        let braced = usize::from(self.peek() == Some(&Tok::Open('{')));
        let hit =
            matches!(self.peek_at(braced), Some(Tok::Text(w)) if matches!(&**w, "st" | "nd" | "rd" | "th"));
        if hit {
            self.at += 1 + braced;
            if braced == 1 {
                self.eat(&Tok::Close('}'));
            }
        }
        hit
    }

    fn postfix(&mut self) -> Option<Expr> {
        let mut expr = self.atom()?;
        let mut rounds = 0;
        loop {
            match self.peek() {
                Some(Tok::Op('!')) => expr = Expr::Call("fact", vec![expr]),
                Some(Tok::Percent) => expr = Expr::Percent(Box::new(expr)),
                Some(Tok::Degree) => expr = Expr::Degree(Box::new(expr)),
                Some(Tok::Op('\'')) => match &mut expr {
                    Expr::Sym(name) => name.push('\''),
                    _ => return None,
                },
                Some(Tok::Op('_')) => {
                    self.at += 1;
                    let label = self.subscript()?;
                    expr = match expr {
                        Expr::Num { value, digits: None } => {
                            let base = label.parse().ok().filter(|b| (2..=36).contains(b))?;
                            let digits = value.to_string();
                            u128::from_str_radix(&digits, base).ok()?;
                            Expr::Based { digits, base }
                        }
                        Expr::Sym(name) => Expr::Sym(format!("{name}_{label}")),
                        _ => return None,
                    };
                    continue;
                }
                _ => break,
            }
            self.at += 1;
            rounds += 1;
            if rounds > 8 {
                return None;
            }
        }
        Some(expr)
    }

    fn subscript(&mut self) -> Option<String> {
        let braced = self.eat(&Tok::Open('{'));
        let mut label = String::new();
        loop {
            match self.peek() {
                Some(Tok::Num(n)) => label.push_str(n),
                Some(Tok::Sym(s) | Tok::Text(s)) => label.push_str(s),
                Some(Tok::Func(name)) => label.push_str(name),
                Some(Tok::Comma) if braced => label.push(','),
                Some(Tok::Op(c)) if braced => label.push(*c),
                Some(Tok::Open('(') | Tok::Close(')')) if braced => {}
                Some(Tok::Close('}')) if braced => {
                    self.at += 1;
                    break;
                }
                _ => return None,
            }
            self.at += 1;
            if !braced {
                break;
            }
        }
        let word = match &*label {
            "two" => "2".to_string(),
            "ten" => "10".to_string(),
            _ => label,
        };
        Some(word)
    }

    /// The argument of a command: a group, or one digit or symbol.
    pub(super) fn argument(&mut self) -> Option<Expr> {
        if let Some(Tok::Num(n)) = self.peek()
            && n.len() > 1
            && n.bytes().all(|b| b.is_ascii_digit())
        {
            let (first, rest) = (n[..1].to_string(), n[1..].to_string());
            self.tokens[self.at].tok = Tok::Num(rest);
            return decimal(&first);
        }
        match self.peek() {
            Some(Tok::Op('-')) => self.unary(),
            _ => self.atom(),
        }
    }

    pub(super) fn atom(&mut self) -> Option<Expr> {
        self.nested(Self::atom_inner)
    }

    fn atom_inner(&mut self) -> Option<Expr> {
        let tok = self.peek()?.clone();
        self.at += 1;
        match tok {
            Tok::Num(n) => {
                if self.peek() == Some(&Tok::Cmd("overline")) && n.contains('.') {
                    self.at += 1;
                    return self.repeating(&n);
                }
                decimal(&n)
            }
            Tok::Sym(s) => Some(Expr::Sym(s)),
            Tok::Infinity => Some(Expr::Infinity),
            Tok::Empty => Some(Expr::Set(Vec::new())),
            Tok::Text(words) => Some(Expr::Text(words)),
            Tok::Cmd("frac") => {
                let n = self.argument()?;
                let d = self.argument()?;
                Some(Expr::Div(Box::new(n), Box::new(d)))
            }
            Tok::Cmd("binom") => {
                let n = self.argument()?;
                let k = self.argument()?;
                Some(Expr::Call("binom", vec![n, k]))
            }
            Tok::Cmd("cbrt") => {
                let inner = self.atom()?;
                Some(Expr::Call("root", vec![inner, integer(3)]))
            }
            Tok::Cmd("sqrt") => {
                let mut degree = None;
                if self.peek() == Some(&Tok::Open('[')) {
                    self.at += 1;
                    degree = Some(self.nested(Self::sum)?);
                    self.eat(&Tok::Close(']'));
                }
                let inner = self.atom()?;
                Some(match degree {
                    Some(n) => Expr::Call("root", vec![inner, n]),
                    None => Expr::Call("sqrt", vec![inner]),
                })
            }
            Tok::Cmd("overline") => {
                // A repeating decimal without its point, or a name: a conjugate, a mean, a complement.
                let inner = self.atom()?;
                match inner {
                    Expr::Sym(s) => Some(Expr::Sym(format!("{s}\u{305}"))),
                    other => Some(Expr::Call("overline", vec![other])),
                }
            }
            Tok::Cmd("sum") => self.series(Fold::Sum),
            Tok::Cmd("prod") => self.series(Fold::Product),
            Tok::Cmd("int") => self.integral(None),
            Tok::IntegralOver(variable) => self.integral(Some(variable)),
            Tok::Func(name) => self.call(name),
            Tok::Bar => {
                self.bars += 1;
                let inner = self.nested(Self::sum);
                self.bars -= 1;
                let inner = inner?;
                self.eat(&Tok::Bar).then_some(Expr::Call("abs", vec![inner]))
            }
            Tok::Based(digits, base) => Some(Expr::Based { digits, base }),
            Tok::Close(']') => self.bracket(']'),
            Tok::Op(mark @ ('_' | '^')) => self.prefixed_choose(mark),
            Tok::Begin(env) => self.matrix(&env),
            Tok::Open(open) => self.bracket(open),
            _ => None,
        }
    }

    /// `{}_5C_2` and `{}^5C_2`: combinations; with P arrangements.
    fn prefixed_choose(&mut self, _mark: char) -> Option<Expr> {
        let n = self.argument()?;
        let name = match self.peek()? {
            Tok::Sym(c) if c == "C" => "binom",
            Tok::Sym(c) if c == "P" => "perm",
            _ => return None,
        };
        self.at += 1;
        if !self.eat(&Tok::Op('_')) {
            return None;
        }
        let k = self.argument()?;
        Some(Expr::Call(name, vec![n, k]))
    }

    fn repeating(&mut self, prefix: &str) -> Option<Expr> {
        let braced = self.eat(&Tok::Open('{'));
        let Some(Tok::Num(period)) = self.peek().cloned() else { return None };
        self.at += 1;
        if braced {
            self.eat(&Tok::Close('}'));
        }
        if period.contains('.') || period.len() > 64 {
            return None;
        }
        repeating_decimal(prefix, &period)
    }

    fn call(&mut self, name: &'static str) -> Option<Expr> {
        let mut power = None;
        let mut base = None;
        for _ in 0..2 {
            if self.eat(&Tok::Op('^')) {
                power =
                    Some(self.nested(|p| {
                        if p.peek() == Some(&Tok::Op('-')) { p.unary() } else { p.argument() }
                    })?);
            } else if self.eat(&Tok::Op('_')) {
                base = Some(self.argument()?);
            }
        }
        let args = match self.peek() {
            Some(Tok::Open(open @ ('(' | '{' | '['))) => {
                let open = *open;
                self.at += 1;
                match self.bracket(open)? {
                    Expr::Tuple(_, items, _) | Expr::List(items, _) | Expr::Set(items) => items,
                    one => vec![one],
                }
            }
            _ => {
                let mut factors = vec![self.nested(Self::unary)?];
                while matches!(self.peek(), Some(Tok::Num(_) | Tok::Sym(_) | Tok::Cmd(_))) {
                    factors.push(self.power()?);
                }
                vec![collapse(factors)]
            }
        };
        let mut args = args;
        if let Some(base) = base {
            args.push(base);
        }
        let inverse = power.as_ref().is_some_and(|p| {
            matches!(p, Expr::Neg(inner) if matches!(&**inner, Expr::Num { value, .. } if value.is_one()))
        });
        if inverse {
            let arc = match name {
                "sin" => Some("arcsin"),
                "cos" => Some("arccos"),
                "tan" => Some("arctan"),
                _ => None,
            };
            if let Some(arc) = arc {
                return Some(Expr::Call(arc, args));
            }
        }
        let value = Expr::Call(name, args);
        Some(match power {
            Some(p) => Expr::Pow(Box::new(value), Box::new(p)),
            None => value,
        })
    }
}
