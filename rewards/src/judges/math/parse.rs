//! Tokens to expressions: a precedence parser that recovers from missing braces.

use super::expr::{Expr, Joint, Parsed, integer, mixed, with_fraction};
use super::lexicon::{Role, is_fill, unit_symbols};
use super::over;
use super::token::{Marks, Rel, Tok, Token, tokenize};
use super::units;

/// Nesting of brackets, powers, signs and postfixes together.
const MAX_DEPTH: usize = 200;

/// Parses a span; none when it is no mathematics or above a budget.
pub fn parse(text: &str, marks: Marks) -> Option<Parsed> {
    let (mut tokens, currency) = tokenize(text, marks)?;
    over::mark_differentials(&mut tokens);
    let apart = match &tokens[..] {
        [.., before, Token { tok: Tok::Sym(_), space }] => *space || before.tok == Tok::Degree,
        _ => false,
    };
    let work = tokens.len() as u64;
    let mut parser = Parser { tokens, at: 0, depth: 0, bars: 0 };
    // "approximately 3", "equal to 3": words that change nothing.
    if matches!((parser.peek(), parser.peek_at(1)), (Some(Tok::Sym(a)), Some(Tok::Text(word))) if a == "a" && is_fill(word))
    {
        parser.at += 1;
    }
    while let Some(Tok::Text(word)) = parser.peek() {
        let fill = is_fill(&word.to_lowercase());
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
    let (expr, tail) = parser.measured(expr)?;
    if tail.is_some() && is_range(&expr) {
        return None;
    }
    let amount = currency && matches!(expr, Expr::Num { .. } | Expr::Neg(_) | Expr::Mul(_) | Expr::Chain(..));
    let tail = tail.or_else(|| amount.then(|| "dollars".to_string()));
    Some(Parsed { expr, tail, apart, work })
}

/// Whether a difference is the range of a quantity: nobody writes "3-4 hours" for an hour less than none.
fn is_range(e: &Expr) -> bool {
    let value = |e: &Expr| match e {
        Expr::Num { value, .. } => Some(value.clone()),
        _ => None,
    };
    match e {
        Expr::Add(terms) => match terms.as_slice() {
            [from, Expr::Neg(to)] => matches!((value(from), value(to)), (Some(a), Some(b)) if a < b),
            _ => false,
        },
        _ => false,
    }
}

/// The number that a phrase of number words stands for, in digits.
pub(super) fn natural(phrase: &str) -> Option<String> {
    let parsed = parse(phrase, Marks::Grouped)?;
    let value = super::eval::exact(&parsed.expr, &super::eval::Fuel::new(super::eval::FUEL / 64)).ok()??;
    value.is_integer().then(|| value.to_string())
}

/// `A ∩ B = {2, 3}`: the sign of equality binds less than the operation before it.
fn named_set(e: Expr) -> Expr {
    let equation =
        |e: Option<&Expr>| matches!(e, Some(Expr::Chain(_, signs)) if signs.first() == Some(&Rel::Eq));
    let ends = match &e {
        Expr::Union(items) => equation(items.last()),
        Expr::Call("cap" | "setminus", list) => equation(list.last()),
        _ => false,
    };
    let chained = |list: &[Expr]| list[..list.len() - 1].iter().any(|e| matches!(e, Expr::Chain(..)));
    let (name, mut list) = match e {
        Expr::Union(list) if ends && !chained(&list) => (None, list),
        Expr::Call(name, list) if ends && !chained(&list) => (Some(name), list),
        other => return other,
    };
    let Some(Expr::Chain(mut sides, signs)) = list.pop() else { return Expr::Union(list) };
    list.push(sides.remove(0));
    sides.insert(0, name.map_or_else(|| Expr::Union(list.clone()), |name| Expr::Call(name, list.clone())));
    Expr::Chain(sides, signs)
}

/// Words that join answers or deny one.
fn is_joint(word: &str) -> bool {
    word.to_lowercase()
        .split_whitespace()
        .any(|w| matches!(w, "or" | "and" | "not" | "no" | "nor" | "never" | "if"))
}

/// Whether words behind a value go on with another one, deny it or compare it: "or", "if", "less than".
fn leaves_open(text: &str, first: bool, last: bool) -> bool {
    // Italian "ma" is no milliampere.
    if unit_symbols(text.trim()) {
        return false;
    }
    let lower = text.to_lowercase();
    let all = || lower.split_whitespace().map(|w| w.trim_matches(|c: char| !c.is_alphanumeric()));
    let begins = first && all().next().is_some_and(|w| Role::Begins.has(w));
    let ends = last && all().next_back().is_some_and(|w| Role::Joins.has(w));
    begins || ends || all().any(|w| Role::Opens.has(w))
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

    /// The value with its unit; "5 feet 3 inches" is one value in the last unit.
    fn measured(&mut self, first: Expr) -> Option<(Expr, Option<String>)> {
        let mut expr = first;
        let mut unit: Option<String> = None;
        for _ in 0..4 {
            let tail = self.tail()?;
            let whole = match (unit, tail) {
                (None, tail) => tail,
                (Some(before), Some(tail)) => {
                    let (factor, smaller) = units::factor(&before, &tail)?;
                    // 3 inches 5 feet is no length.
                    if !smaller {
                        return None;
                    }
                    let Expr::Add(parts) = expr else { return None };
                    let [above, below] = <[Expr; 2]>::try_from(parts).ok()?;
                    expr = Expr::Add(vec![Expr::Mul(vec![factor, above]), below]);
                    Some(tail)
                }
                (Some(_), None) => return None,
            };
            if self.peek().is_none() {
                return Some((expr, whole));
            }
            self.eat_and();
            let next = self.product()?;
            expr = Expr::Add(vec![expr, next]);
            unit = Some(whole?);
        }
        None
    }

    fn eat_and(&mut self) {
        if matches!(self.peek(), Some(Tok::Text(w)) if w == "and") {
            self.at += 1;
        }
    }

    /// Whether another number follows the unit that was read, as in `5 feet 3 inches`.
    fn next_is_number(&self) -> bool {
        let and = usize::from(matches!(self.peek(), Some(Tok::Text(w)) if w == "and"));
        matches!(self.peek_at(and), Some(Tok::Num(_))) && matches!(self.peek_at(and + 1), Some(Tok::Text(_)))
    }

    /// What follows the value: nothing, punctuation, or words without numbers.
    fn tail(&mut self) -> Option<Option<String>> {
        let mut words = String::new();
        let start = self.at;
        while let Some(tok) = self.peek() {
            if self.at > start && self.next_is_number() && units::is_known(&words) {
                break;
            }
            match tok {
                Tok::Text(word) => {
                    if leaves_open(word, words.is_empty(), self.at + 1 == self.tokens.len()) {
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
                // m^2, s^{-1}, m2.
                Tok::Num(n)
                    if self.at > start
                        && matches!(&**n, "2" | "3" | "1" | "4")
                        && (!self.tokens[self.at].space && !self.is_behind_prose()
                            || matches!(self.tokens[self.at - 1].tok, Tok::Op('^' | '-'))) =>
                {
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

    /// Whether a word that cannot be the symbol of a unit stands directly before: 个苹果分给3人.
    fn is_behind_prose(&self) -> bool {
        let before = self.at.checked_sub(1).map(|i| &self.tokens[i].tok);
        matches!(before, Some(Tok::Text(word)) if !word.is_ascii())
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
                    Some(Tok::Row) if top => {}
                    Some(Tok::Open('(')) if top && !separated && self.is_membership() => {}
                    // 3 cm, 5 cm: the unit of the last item is that of all.
                    Some(Tok::Text(w)) if top && !separated && self.is_shared_unit(w) => {
                        self.at += 1;
                        continue;
                    }
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

    /// Whether a condition such as `(k \in \mathbb{Z})` ends the answer; it means what `, k \in \mathbb{Z}` does.
    fn is_membership(&self) -> bool {
        let variable = matches!(self.peek_at(1), Some(Tok::Sym(_)));
        let last = matches!(self.tokens.last().map(|t| &t.tok), Some(Tok::Close(')')));
        variable && self.peek_at(2) == Some(&Tok::Rel(Rel::In)) && last && self.tokens.len() - self.at <= 6
    }

    /// Whether a unit stands before a separator here and again at the end.
    fn is_shared_unit(&self, word: &str) -> bool {
        let again = self.tokens.last().is_some_and(|t| matches!(&t.tok, Tok::Text(last) if last == word));
        let separator = match self.peek_at(1) {
            Some(Tok::Comma | Tok::Semi) => true,
            Some(Tok::Text(joint)) => matches!(&**joint, "and" | "or"),
            _ => false,
        };
        again && separator && (units::is_known(word) || unit_symbols(word))
    }

    fn union(&mut self) -> Option<Expr> {
        let first = self.relation()?;
        let mut items = vec![first];
        let mut chained = 0;
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
                    // Regions of long chains are work.
                    chained = if matches!(left, Expr::Call("cap" | "setminus", _)) { chained + 1 } else { 0 };
                    if chained > 6 {
                        return None;
                    }
                    items.push(Expr::Call(name, vec![left, right]));
                }
                _ => break,
            }
        }
        Some(named_set(if items.len() == 1 { items.remove(0) } else { Expr::Union(items) }))
    }

    /// "Area of the circle = 9π", "Alice: 5": words in front of a sign are one name.
    fn join_label(&mut self) {
        let words = |at: &usize| matches!(self.peek_at(*at), Some(Tok::Text(w)) if !is_joint(w));
        let count = (0..12).take_while(words).count();
        let colon = self.peek_at(count) == Some(&Tok::Op(':'));
        if count == 0 || !colon && (count == 1 || self.peek_at(count) != Some(&Tok::Rel(Rel::Eq))) {
            return;
        }
        let name: Vec<String> = (self.tokens[self.at..self.at + count].iter())
            .map(|t| if let Tok::Text(word) = &t.tok { word.clone() } else { String::new() })
            .collect();
        self.tokens[self.at + count].tok = Tok::Rel(Rel::Eq);
        self.tokens[self.at + count - 1].tok = Tok::Text(name.join(" "));
        self.at += count - 1;
    }

    pub(super) fn relation(&mut self) -> Option<Expr> {
        self.join_label();
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
        let mut spoken = false;
        loop {
            let colon = self.peek() == Some(&Tok::Op(':'));
            let to = matches!(self.peek(), Some(Tok::Text(w)) if w == "to")
                && matches!(parts.last(), Some(Expr::Num { .. }))
                && matches!(self.peek_at(1), Some(Tok::Num(_)));
            if !colon && !to {
                break;
            }
            spoken |= to;
            self.at += 1;
            parts.push(self.sum()?);
        }
        // "3 to 4 hours" is a range.
        if spoken && matches!(self.peek(), Some(Tok::Text(word)) if !is_joint(word)) {
            return None;
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
            // 5分之3: the parts are named first.
            "of" => Expr::Div(Box::new(right), Box::new(left)),
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
            Some(
                Tok::Num(_)
                | Tok::Sym(_)
                | Tok::Func(_)
                | Tok::Cmd(_)
                | Tok::IntegralOver(_)
                | Tok::Infinity
                | Tok::Begin(_),
            ) => true,
            // "5 (exactly)": a remark.
            Some(Tok::Open('(')) => !matches!(self.peek_at(1), Some(Tok::Text(_))) && !self.is_membership(),
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

    pub(super) fn product(&mut self) -> Option<Expr> {
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
                // $18/day: the unit's.
                Some(Tok::Op('/')) if matches!(self.peek_at(1), Some(Tok::Text(_))) && after_number => break,
                Some(Tok::Op('/')) => {
                    self.at += 1;
                    divisors.push(self.unary()?);
                    // NO/BO: capitals side by side are one name.
                    while self.continues_name() {
                        divisors.push(self.power()?);
                    }
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
                    let whole = factors.first().and_then(|whole| with_fraction(whole, &fraction));
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

    /// A capital directly behind another one.
    fn continues_name(&self) -> bool {
        fn is_capital(t: &Token) -> bool {
            matches!(&t.tok, Tok::Sym(s) if s.len() == 1 && s.bytes().all(|b| b.is_ascii_uppercase()))
        }
        let pair = self.at.checked_sub(1).and_then(|before| self.tokens.get(before..=self.at));
        matches!(pair, Some([before, this]) if is_capital(before) && is_capital(this) && !this.space)
    }

    /// A plain `x` between two numbers: "3 x 4".
    fn is_times_sign(&self) -> bool {
        let before = self.at.checked_sub(1).map(|i| &self.tokens[i].tok);
        matches!(before, Some(Tok::Num(_)))
            && matches!(self.peek_at(1), Some(Tok::Num(_)))
            && self.tokens[self.at].space
            && self.tokens[self.at + 1].space
    }
}

pub(super) fn collapse(mut factors: Vec<Expr>) -> Expr {
    if factors.len() == 1 { factors.remove(0) } else { Expr::Mul(factors) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Option<String> {
        parse(text, Marks::Grouped)
            .and_then(|p| {
                super::super::eval::exact(&p.expr, &super::super::eval::Fuel::new(super::super::eval::FUEL))
                    .ok()
                    .flatten()
            })
            .map(|v| v.to_string())
    }

    fn check(text: &str, want: &str) {
        assert_eq!(value(text).as_deref(), Some(want), "{text:?} {:?}", parse(text, Marks::Grouped));
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
            assert_eq!(parse(text, Marks::Grouped).map(|p| p.expr), None, "{text:?}");
        }
        let deep = "(".repeat(1000) + "1";
        assert_eq!(parse(&deep, Marks::Grouped), None);
        assert_eq!(parse(&"-".repeat(2000), Marks::Grouped), None);
    }
}
