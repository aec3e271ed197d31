//! Sums, products and integrals: how they are read, and their exact values where they have one.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::eval::{Exact, Frame, Fuel, OverBudget, add, bits, burn, exact_in, mul};
use super::expr::{Expr, Fold, Over, integer};
use super::parse::Parser;
use super::token::{Rel, Tok, Token};

/// Terms of a sum or product.
const MAX_TERMS: i64 = 20_000;
/// Degree of a polynomial that is integrated exactly.
const MAX_DEGREE: usize = 64;

/// Gives every integral sign the differential that belongs to it: the first one behind it that is not another's.
pub fn mark_differentials(tokens: &mut Vec<Token>) {
    for sign in (0..tokens.len()).rev() {
        if tokens[sign].tok == Tok::Cmd("int") {
            mark(tokens, sign);
        }
    }
}

fn mark(tokens: &mut Vec<Token>, sign: usize) {
    let mut depth = 0usize;
    for at in sign + 1..tokens.len().saturating_sub(1) {
        match &tokens[at].tok {
            Tok::Open(_) => depth += 1,
            Tok::Close(_) if depth == 0 => return,
            Tok::Close(_) => depth -= 1,
            Tok::Sym(d) if d == "d" && !matches!(tokens[at - 1].tok, Tok::Op('^' | '_')) => {
                let Tok::Sym(variable) = &tokens[at + 1].tok else { continue };
                let variable = variable.clone();
                if depth == 0 {
                    tokens[at].tok = Tok::Differential(variable);
                    tokens.remove(at + 1);
                    return;
                }
                // \frac{dx}{x}: what is left of the numerator is 1.
                let opens = matches!(tokens[at - 1].tok, Tok::Open(_));
                let closes = matches!(tokens.get(at + 2).map(|t| &t.tok), Some(Tok::Close(_)));
                tokens[sign].tok = Tok::IntegralOver(variable);
                tokens.remove(at + 1);
                match opens && closes {
                    true => tokens[at].tok = Tok::Num("1".into()),
                    false => drop(tokens.remove(at)),
                }
                return;
            }
            _ => {}
        }
    }
}

impl Parser {
    /// `\sum_{k=1}^{n} …` and `\prod_{1 \le k \le n} …`; the body is one product.
    pub(super) fn series(&mut self, fold: Fold) -> Option<Expr> {
        let (mut below, mut high) = (None, None);
        for _ in 0..2 {
            if self.eat(&Tok::Op('_')) {
                below = Some(self.atom()?);
            } else if self.eat(&Tok::Op('^')) {
                high = Some(self.argument()?);
            }
        }
        let Expr::Chain(sides, signs) = below? else { return None };
        let plus = |e: Expr, n: i64| if n == 0 { e } else { Expr::Add(vec![e, integer(n)]) };
        let step = |sign: Rel| match sign {
            Rel::Le => Some(0),
            Rel::Lt => Some(1),
            _ => None,
        };
        let (variable, low, high) = match (<[Expr; 2]>::try_from(sides), signs.as_slice(), high) {
            (Ok([Expr::Sym(variable), low]), [Rel::Eq], Some(high)) => (variable, low, high),
            (Err(sides), [p, q], None) => match <[Expr; 3]>::try_from(sides) {
                Ok([low, Expr::Sym(variable), high]) => {
                    (variable, plus(low, step(*p)?), plus(high, -step(*q)?))
                }
                _ => return None,
            },
            _ => return None,
        };
        let body = self.nested(Self::product)?;
        Some(Expr::Over(Box::new(Over { fold, variable, range: Some((low, high)), body })))
    }

    /// `\int_0^1 … dx`; `within` is the variable where the differential stood within the body.
    pub(super) fn integral(&mut self, within: Option<String>) -> Option<Expr> {
        let (mut low, mut high) = (None, None);
        for _ in 0..2 {
            if self.eat(&Tok::Op('_')) {
                low = Some(self.bound()?);
            } else if self.eat(&Tok::Op('^')) {
                high = Some(self.bound()?);
            }
        }
        let range = match (low, high) {
            (Some(low), Some(high)) => Some((low, high)),
            (None, None) => None,
            _ => return None,
        };
        let (variable, body) = match within {
            Some(variable) => (variable, self.nested(Self::product)?),
            None => {
                let empty = matches!(self.peek(), Some(Tok::Differential(_)));
                let body = if empty { integer(1) } else { self.nested(Self::sum)? };
                let Some(Tok::Differential(variable)) = self.peek().cloned() else { return None };
                self.at += 1;
                (variable, body)
            }
        };
        Some(Expr::Over(Box::new(Over { fold: Fold::Integral, variable, range, body })))
    }

    /// A limit of an integral: a group, one digit or symbol, or either with a sign.
    fn bound(&mut self) -> Option<Expr> {
        match self.eat(&Tok::Op('-')) {
            true => Some(Expr::Neg(Box::new(self.argument()?))),
            false => self.argument(),
        }
    }
}

/// The exact value: a sum or product of rationals, the integral of a polynomial.
///
/// # Errors
/// When it has too many terms or a number outgrows its bound.
pub fn exact_total(over: &Over, frame: Option<&Frame<'_, BigRational>>, fuel: &Fuel) -> Exact {
    let Some((low, high)) = &over.range else { return Ok(None) };
    let (Some(low), Some(high)) = (exact_in(low, frame, fuel)?, exact_in(high, frame, fuel)?) else {
        return Ok(None);
    };
    if over.fold == Fold::Integral {
        let Some(poly) = polynomial(&over.body, &over.variable, frame, fuel)? else { return Ok(None) };
        let mut total = BigRational::zero();
        for (end, sign) in [(high, 1), (low, -1)] {
            // Horner's scheme for the antiderivative.
            let mut value = BigRational::zero();
            for (power, coefficient) in poly.iter().enumerate().rev() {
                let next = BigInt::from(power + 1);
                value = mul(add(value, &(coefficient / &next), fuel)?, &end, fuel)?;
                within_bits(&value)?;
            }
            total = if sign > 0 { add(total, &value, fuel)? } else { add(total, &-value, fuel)? };
        }
        return Ok(Some(total));
    }
    let Some((first, last)) = whole_range(&low, &high)? else { return Ok(None) };
    let sum = over.fold == Fold::Sum;
    let mut total = if sum { BigRational::zero() } else { BigRational::one() };
    for k in first..=last {
        let value = BigRational::from_integer(k.into());
        let inner = Frame { name: &over.variable, value, outer: frame };
        let Some(term) = exact_in(&over.body, Some(&inner), fuel)? else { return Ok(None) };
        // Reducing a fraction takes a step for every bit.
        burn(fuel, if total.is_integer() { 1 } else { 4 * (bits(&total) + bits(&term)) })?;
        total = if sum { add(total, &term, fuel)? } else { mul(total, &term, fuel)? };
        within_bits(&total)?;
    }
    Ok(Some(total))
}

fn within_bits(value: &BigRational) -> Result<(), OverBudget> {
    if bits(value) > super::eval::MAX_BITS { Err(OverBudget) } else { Ok(()) }
}

/// The first and last value of the variable of a sum; none where the ends are no integers.
pub fn whole_range(low: &BigRational, high: &BigRational) -> Result<Option<(i64, i64)>, OverBudget> {
    if !low.is_integer() || !high.is_integer() {
        return Ok(None);
    }
    let (Some(first), Some(last)) = (low.to_integer().to_i64(), high.to_integer().to_i64()) else {
        return Err(OverBudget);
    };
    match last.checked_sub(first) {
        // An empty sum is written on purpose; anything less is a mistake.
        Some(count) if count < -1 => Ok(None),
        Some(count) if count < MAX_TERMS => Ok(Some((first, last))),
        _ => Err(OverBudget),
    }
}

/// The product of two polynomials; none where its degree is too high.
fn product(
    a: &[BigRational],
    b: &[BigRational],
    fuel: &Fuel,
) -> Result<Option<Vec<BigRational>>, OverBudget> {
    if a.len() + b.len() > MAX_DEGREE + 2 {
        return Ok(None);
    }
    let mut out = vec![BigRational::zero(); (a.len() + b.len()).saturating_sub(1)];
    for (i, x) in a.iter().enumerate() {
        for (j, y) in b.iter().enumerate() {
            burn(fuel, 24)?;
            let sum = std::mem::take(&mut out[i + j]);
            out[i + j] = add(sum, &mul(x.clone(), y, fuel)?, fuel)?;
            within_bits(&out[i + j])?;
        }
    }
    Ok(Some(out))
}

/// The coefficients of a polynomial in `variable`, from the constant one up.
fn polynomial(
    e: &Expr,
    variable: &str,
    frame: Option<&Frame<'_, BigRational>>,
    fuel: &Fuel,
) -> Result<Option<Vec<BigRational>>, OverBudget> {
    burn(fuel, 1)?;
    macro_rules! get {
        ($e:expr) => {
            match polynomial($e, variable, frame, fuel)? {
                Some(coefficients) => coefficients,
                None => return Ok(None),
            }
        };
    }
    match e {
        Expr::Sym(name) if name == variable => Ok(Some(vec![BigRational::zero(), BigRational::one()])),
        Expr::Neg(a) => Ok(Some(get!(a).into_iter().map(|c| -c).collect())),
        Expr::Add(terms) => {
            let mut total: Vec<BigRational> = Vec::new();
            for term in terms {
                for (i, c) in get!(term).into_iter().enumerate() {
                    if i == total.len() {
                        total.push(c);
                    } else {
                        let sum = std::mem::take(&mut total[i]);
                        total[i] = add(sum, &c, fuel)?;
                    }
                }
            }
            Ok(Some(total))
        }
        Expr::Mul(factors) => {
            let mut total = vec![BigRational::one()];
            for factor in factors {
                match product(&total, &get!(factor), fuel)? {
                    Some(next) => total = next,
                    None => return Ok(None),
                }
            }
            Ok(Some(total))
        }
        Expr::Div(a, b) => {
            let Some(divisor) = exact_in(b, frame, fuel)?.filter(|d| !d.is_zero()) else { return Ok(None) };
            let inverse = divisor.recip();
            let mut total = get!(a);
            for c in &mut total {
                *c = mul(std::mem::take(c), &inverse, fuel)?;
            }
            Ok(Some(total))
        }
        Expr::Pow(base, exponent) if !matches!(**base, Expr::Num { .. }) => {
            let power = exact_in(exponent, frame, fuel)?.filter(|e| e.is_integer() && !e.is_negative());
            let Some(power) = power.and_then(|e| e.to_integer().to_usize()).filter(|e| *e <= MAX_DEGREE)
            else {
                return Ok(None);
            };
            let base = get!(base);
            let mut total = vec![BigRational::one()];
            for _ in 0..power {
                match product(&total, &base, fuel)? {
                    Some(next) => total = next,
                    None => return Ok(None),
                }
            }
            Ok(Some(total))
        }
        other => Ok(exact_in(other, frame, fuel)?.map(|constant| vec![constant])),
    }
}

/// Whether something in `e` is only written down and not worked out: a sum, product or integral over a range that is
/// unknown, infinite or missing.
pub fn is_open(e: &Expr) -> bool {
    fn open(e: &Expr, bound: &mut Vec<String>) -> bool {
        let Expr::Over(over) = e else { return e.parts().into_iter().any(|part| open(part, bound)) };
        let Some((low, high)) = &over.range else { return true };
        let infinite = |e: &Expr| e.any(&|e| *e == Expr::Infinity);
        let mut free = std::collections::BTreeSet::new();
        super::eval::symbols(e, &mut free);
        if over.fold != Fold::Integral && (infinite(low) || infinite(high))
            || free.iter().any(|name| !bound.contains(name))
            || open(low, bound)
            || open(high, bound)
        {
            return true;
        }
        bound.push(over.variable.clone());
        let inside = open(&over.body, bound);
        bound.pop();
        inside
    }
    open(e, &mut Vec::new())
}

/// Two of a kind with one name for their variables.
pub fn same_variable(a: &Over, b: &Over) -> Option<(Over, Over)> {
    fn renamed(e: &Expr, from: &str) -> Expr {
        match e {
            Expr::Sym(name) if name == from => Expr::Sym("\\bound".into()),
            Expr::Over(inner) if inner.variable == from => e.clone(),
            other => other.map(&|part| renamed(part, from)),
        }
    }
    let over = |o: &Over| Over { body: renamed(&o.body, &o.variable), ..o.clone() };
    (a.fold == b.fold).then(|| (over(a), over(b)))
}
