//! Tokens to expressions: a precedence parser that recovers from missing braces.

use num_traits::One;

use super::expr::{Expr, Joint, Parsed, decimal, integer, mixed, repeating_decimal};
use super::token::{Rel, Tok, Token, tokenize};

/// Nesting of brackets, powers, signs and postfixes together.
const MAX_DEPTH: usize = 200;

/// Parses a span; none when it is no mathematics or above a budget.
pub fn parse(text: &str, group_commas: bool) -> Option<Parsed> {
    let (tokens, currency) = tokenize(text, group_commas)?;
    let work = tokens.len() as u64;
    let mut parser = Parser { tokens, at: 0, depth: 0, bars: 0 };
    // "approximately 3", "equal to 3": words that change nothing.
    while let Some(Tok::Text(word)) = parser.peek() {
        let fill = matches!(
            &*word.to_ascii_lowercase(),
            "approximately"
                | "about"
                | "exactly"
                | "equal"
                | "equals"
                | "to"
                | "just"
                | "simply"
                | "is"
                | "the"
                | "a"
                | "all"
        );
        if !fill || parser.at > 4 || parser.at + 1 >= parser.tokens.len() {
            break;
        }
        parser.at += 1;
    }
    while parser.at + 1 < parser.tokens.len()
        && matches!(parser.peek(), Some(Tok::Rel(Rel::Eq | Rel::Approx)))
    {
        parser.at += 1;
    }
    let expr = parser.sequence(true)?;
    let expr = parser.infix(expr)?;
    let tail = parser.tail()?;
    let amount = currency && matches!(expr, Expr::Num { .. } | Expr::Neg(_) | Expr::Mul(_) | Expr::Chain(..));
    let tail = tail.or_else(|| amount.then(|| "dollars".to_string()));
    Some(Parsed { expr, tail, work })
}

/// The state of one parse.
pub struct Parser {
    pub(super) tokens: Vec<Token>,
    pub(super) at: usize,
    pub(super) depth: usize,
    /// Open `|`: a further one closes.
    pub(super) bars: usize,
}

impl Parser {
    pub(super) fn peek(&self) -> Option<&Tok> {
        self.tokens.get(self.at).map(|t| &t.tok)
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Option<&Tok> {
        self.tokens.get(self.at + ahead).map(|t| &t.tok)
    }

    pub(super) fn eat(&mut self, tok: &Tok) -> bool {
        let hit = self.peek() == Some(tok);
        self.at += usize::from(hit);
        hit
    }

    pub(super) fn nested<T>(&mut self, f: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.depth >= MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let result = f(self);
        self.depth -= 1;
        result
    }

    /// What follows the value: nothing, punctuation, or words without numbers.
    fn tail(&mut self) -> Option<Option<String>> {
        let mut words = String::new();
        let start = self.at;
        while let Some(tok) = self.peek() {
            match tok {
                Tok::Text(word) => {
                    let lower = word.to_lowercase();
                    let mut all =
                        lower.split_whitespace().map(|w| w.trim_matches(|c: char| !c.is_alphanumeric()));
                    let first = all.clone().next().unwrap_or("");
                    if matches!(first, "and" | "but" | "if" | "unless" | "versus" | "plus" | "minus")
                        || all.any(|w| matches!(w, "or" | "not" | "nor" | "otherwise"))
                    {
                        return None;
                    }
                    words.push_str(word);
                    words.push(' ');
                }
                Tok::Comma | Tok::Semi | Tok::Op('*' | '\'' | '_') | Tok::Degree | Tok::Percent => {}
                Tok::Sym(s) if self.at > start => {
                    words.push_str(s);
                    words.push(' ');
                }
                Tok::Op('/' | '^' | '-')
                | Tok::Open('(' | '{' | '[')
                | Tok::Close('(' | ')' | '}' | ']')
                | Tok::Bar
                    if self.at > start || matches!(self.peek_at(1), Some(Tok::Text(_))) =>
                {
                    if let Tok::Op(c) = tok {
                        words.push(*c);
                    }
                }
                Tok::Num(n) if self.at > start && matches!(&**n, "2" | "3" | "1") => {
                    let n = n.clone();
                    words.push_str(&n);
                }
                // A closing bracket that nothing opened.
                Tok::Close(')' | '}' | ']') if self.at + 1 == self.tokens.len() => {}
                _ => return None,
            }
            self.at += 1;
        }
        let words = words.trim();
        Some((!words.is_empty()).then(|| words.to_string()))
    }

    /// Items separated by commas, semicolons, "and", "or".
    pub(super) fn sequence(&mut self, top: bool) -> Option<Expr> {
        let mut items = vec![self.union()?];
        let mut joint = Joint::Comma;
        loop {
            let back = self.at;
            let mut separated = false;
            loop {
                match self.peek() {
                    Some(Tok::Comma | Tok::Semi) => {}
                    Some(Tok::Text(w)) if w == "or" => joint = Joint::Or,
                    Some(Tok::Text(w)) if w == "and" => {
                        if joint != Joint::Or {
                            joint = Joint::And;
                        }
                    }
                    _ => break,
                }
                separated = true;
                self.at += 1;
            }
            if !separated {
                break;
            }
            match self.peek() {
                None | Some(Tok::Close(_)) => break,
                _ => match self.union() {
                    Some(item) => items.push(item),
                    None if top => {
                        self.at = back;
                        break;
                    }
                    None => return None,
                },
            }
        }
        Some(if items.len() == 1 { items.remove(0) } else { Expr::List(items, joint) })
    }

    fn union(&mut self) -> Option<Expr> {
        let first = self.relation()?;
        let mut items = vec![first];
        loop {
            match self.peek() {
                Some(Tok::Cup) => {
                    self.at += 1;
                    items.push(self.relation()?);
                }
                Some(Tok::Setminus | Tok::Cap) => {
                    let name = if self.peek() == Some(&Tok::Cap) { "cap" } else { "setminus" };
                    self.at += 1;
                    let right = self.relation()?;
                    let left = items.pop()?;
                    if matches!(left, Expr::Call("cap" | "setminus", _)) {
                        return None;
                    }
                    items.push(Expr::Call(name, vec![left, right]));
                }
                _ => break,
            }
        }
        Some(if items.len() == 1 { items.remove(0) } else { Expr::Union(items) })
    }

    fn relation(&mut self) -> Option<Expr> {
        let mut sides = vec![self.ratio()?];
        let mut signs = Vec::new();
        while let Some(Tok::Rel(rel)) = self.peek() {
            let rel = *rel;
            let back = self.at;
            self.at += 1;
            // x ∈ A ∪ B takes the whole union.
            let side = if rel == Rel::In { self.nested(Self::union) } else { self.ratio() };
            match side {
                Some(side) => {
                    sides.push(side);
                    signs.push(rel);
                }
                None if back + 1 == self.tokens.len() => break,
                None => return None,
            }
        }
        Some(if signs.is_empty() { sides.remove(0) } else { Expr::Chain(sides, signs) })
    }

    /// `a : b` is a quotient, `a : b : c` compares as a whole; "a to b" is a ratio as well.
    pub(super) fn ratio(&mut self) -> Option<Expr> {
        let mut parts = vec![self.sum()?];
        loop {
            let colon = self.peek() == Some(&Tok::Op(':'));
            let to = matches!(self.peek(), Some(Tok::Text(w)) if w == "to")
                && matches!(parts.last(), Some(Expr::Num { .. }))
                && matches!(self.peek_at(1), Some(Tok::Num(_)));
            if !colon && !to {
                break;
            }
            self.at += 1;
            parts.push(self.sum()?);
        }
        Some(match parts.len() {
            1 => parts.remove(0),
            2 => {
                let right = parts.remove(1);
                Expr::Div(Box::new(parts.remove(0)), Box::new(right))
            }
            _ => Expr::Tuple(':', parts, ':'),
        })
    }

    /// The right side of `\over` or `\choose` after the left one.
    pub(super) fn infix(&mut self, left: Expr) -> Option<Expr> {
        let Some(Tok::Infix(name)) = self.peek() else { return Some(left) };
        let name = *name;
        self.at += 1;
        let right = self.nested(|p| p.sequence(false))?;
        Some(match name {
            "binom" => Expr::Call("binom", vec![left, right]),
            _ => Expr::Div(Box::new(left), Box::new(right)),
        })
    }

    pub(super) fn sum(&mut self) -> Option<Expr> {
        let mut terms = Vec::new();
        let mut total = match self.peek() {
            Some(Tok::Pm(plus)) => {
                let plus = *plus;
                self.at += 1;
                let right = self.product()?;
                Expr::Pm(Box::new(integer(0)), Box::new(right), plus)
            }
            _ => self.product()?,
        };
        loop {
            match self.peek() {
                Some(Tok::Op('+')) => {
                    self.at += 1;
                    terms.push(std::mem::replace(&mut total, Expr::Infinity));
                    total = self.product()?;
                }
                Some(Tok::Op('-')) => {
                    self.at += 1;
                    terms.push(std::mem::replace(&mut total, Expr::Infinity));
                    total = Expr::Neg(Box::new(self.product()?));
                }
                Some(Tok::Pm(plus)) => {
                    let plus = *plus;
                    self.at += 1;
                    let right = self.product()?;
                    terms.push(total);
                    let left = if terms.len() == 1 {
                        terms.remove(0)
                    } else {
                        Expr::Add(std::mem::take(&mut terms))
                    };
                    terms.clear();
                    total = self.nested(|_| Some(Expr::Pm(Box::new(left), Box::new(right), plus)))?;
                    if matches!(self.peek(), Some(Tok::Pm(_))) {
                        return None;
                    }
                }
                _ => break,
            }
        }
        if terms.is_empty() {
            return Some(total);
        }
        terms.push(total);
        Some(Expr::Add(terms))
    }

    fn starts_factor(&self) -> bool {
        match self.peek() {
            Some(Tok::Num(_) | Tok::Sym(_) | Tok::Func(_) | Tok::Cmd(_) | Tok::Infinity | Tok::Begin(_)) => {
                true
            }
            // "5 (exactly)": a remark.
            Some(Tok::Open('(')) => !matches!(self.peek_at(1), Some(Tok::Text(_))),
            // "[2, 5[": the bracket ends an interval.
            Some(Tok::Open('[')) => !matches!(
                self.peek_at(1),
                None | Some(Tok::Cup | Tok::Cap | Tok::Setminus | Tok::Close(_) | Tok::Comma)
            ),
            Some(Tok::Open(_) | Tok::Based(..)) => true,
            Some(Tok::Bar) => self.bars == 0,
            _ => false,
        }
    }

    fn product(&mut self) -> Option<Expr> {
        let plain_integer = |t: Option<&Tok>| matches!(t, Some(Tok::Num(n)) if !n.contains('.'));
        // Signs belong to the whole product, so that -3 1/2 is -(3 + 1/2).
        let mut negative = false;
        while let Some(Tok::Op(sign @ ('-' | '+'))) = self.peek() {
            negative ^= *sign == '-';
            self.at += 1;
        }
        let mut literal = plain_integer(self.peek());
        let start = self.at;
        let mut factors = vec![self.unary()?];
        let mut divisors = Vec::new();
        literal &= self.at == start + 1;
        let mut after_number = matches!(factors.last(), Some(Expr::Num { .. }));
        loop {
            match self.peek() {
                Some(Tok::Op('*')) => {
                    self.at += 1;
                    if self.peek().is_none() {
                        break;
                    }
                    factors.push(self.unary()?);
                }
                // Products and quotients stay flat, however long: a / b · c / d = (a · c) / (b · d).
                Some(Tok::Op('/')) => {
                    self.at += 1;
                    divisors.push(self.unary()?);
                    after_number = matches!(divisors.last(), Some(Expr::Num { .. }));
                    literal = false;
                    continue;
                }
                // Mixed numbers: 3 1/2 and 3\frac{1}{2}.
                Some(Tok::Num(_)) if literal => {
                    let fraction = plain_integer(self.peek())
                        && self.peek_at(1) == Some(&Tok::Op('/'))
                        && plain_integer(self.peek_at(2));
                    if !fraction {
                        break;
                    }
                    let n = self.power()?;
                    self.at += 1;
                    let d = self.power()?;
                    factors = vec![mixed(&collapse(factors), &n, &d)?];
                }
                Some(Tok::Cmd("frac")) if literal => {
                    let fraction = self.unary()?;
                    let whole = match (&fraction, factors.first()) {
                        (Expr::Div(n, d), Some(whole)) => mixed(whole, n, d),
                        (Expr::Percent(inner), Some(whole)) => match &**inner {
                            Expr::Div(n, d) => mixed(whole, n, d).map(|e| Expr::Percent(Box::new(e))),
                            _ => None,
                        },
                        (Expr::Degree(inner), Some(whole)) => match &**inner {
                            Expr::Div(n, d) => mixed(whole, n, d).map(|e| Expr::Degree(Box::new(e))),
                            _ => None,
                        },
                        _ => None,
                    };
                    match whole {
                        Some(whole) => factors = vec![whole],
                        None => factors.push(fraction),
                    }
                }
                // Two numbers side by side are no product.
                Some(Tok::Num(_)) if after_number => break,
                Some(Tok::Sym(s)) if s == "x" && self.is_times_sign() => {
                    self.at += 1;
                    factors.push(self.unary()?);
                }
                _ if self.starts_factor() => factors.push(self.power()?),
                _ => break,
            }
            after_number = matches!(factors.last(), Some(Expr::Num { .. }));
            literal = false;
        }
        let numerator = collapse(factors);
        let value = if divisors.is_empty() {
            numerator
        } else {
            Expr::Div(Box::new(numerator), Box::new(collapse(divisors)))
        };
        Some(if negative { Expr::Neg(Box::new(value)) } else { value })
    }

    /// A plain `x` between two numbers: "3 x 4".
    fn is_times_sign(&self) -> bool {
        let before = self.at.checked_sub(1).map(|i| &self.tokens[i].tok);
        matches!(before, Some(Tok::Num(_)))
            && matches!(self.peek_at(1), Some(Tok::Num(_)))
            && self.tokens[self.at].space
            && self.tokens[self.at + 1].space
    }

    fn unary(&mut self) -> Option<Expr> {
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

    fn power(&mut self) -> Option<Expr> {
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
    fn argument(&mut self) -> Option<Expr> {
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

    fn atom(&mut self) -> Option<Expr> {
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
                // A repeating decimal without its point, or a label; only the label is meaningful.
                let inner = self.atom()?;
                match inner {
                    Expr::Sym(s) => Some(Expr::Sym(s)),
                    other => Some(Expr::Call("overline", vec![other])),
                }
            }
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

fn collapse(mut factors: Vec<Expr>) -> Expr {
    if factors.len() == 1 { factors.remove(0) } else { Expr::Mul(factors) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Option<String> {
        parse(text, true)
            .and_then(|p| {
                super::super::eval::exact(&p.expr, &super::super::eval::Fuel::new(super::super::eval::FUEL))
                    .ok()
                    .flatten()
            })
            .map(|v| v.to_string())
    }

    fn check(text: &str, want: &str) {
        assert_eq!(value(text).as_deref(), Some(want), "{text:?} {:?}", parse(text, true));
    }

    #[test]
    fn values() {
        check("42", "42");
        check("-\\frac{1}{2}", "-1/2");
        check("\\frac12", "1/2");
        check("\\frac1{72}", "1/72");
        check("\\dfrac{3}{4}", "3/4");
        check("3\\frac{1}{2}", "7/2");
        check("3 1/2", "7/2");
        check("-3 1/2", "-7/2");
        check("2^{10}", "1024");
        check("2^-2", "1/4");
        check("5!", "120");
        check("\\binom{5}{2}", "10");
        check("\\sqrt{16}", "4");
        check("\\sqrt[3]{27}", "3");
        check("|-3|", "3");
        check("\\lfloor 3.7 \\rfloor", "3");
        check("0.\\overline{3}", "1/3");
        check("0.1\\overline{6}", "1/6");
        check("3 \\times 10^{4}", "30000");
        check("1.5e3", "1500");
        check("1,234,567", "1234567");
        check("10 \\text{ cm}^2", "10");
        check("\\$1{,}000", "1000");
        check("\\left(\\frac{1}{2}\\right)^2", "1/4");
        check("½", "1/2");
        check("3½", "7/2");
        check("2(3+4)", "14");
        check("7 - -2", "9");
        check("twelve", "12");
        check("{5", "5");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "1 2 3 4 5", "\\frac{1}", "+", "(", "1 + ", "^", "3 not 4"] {
            assert_eq!(parse(text, true).map(|p| p.expr), None, "{text:?}");
        }
        let deep = "(".repeat(1000) + "1";
        assert_eq!(parse(&deep, true), None);
        assert_eq!(parse(&"-".repeat(2000), true), None);
    }
}
