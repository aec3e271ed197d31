//! The exact rational value of an expression, and what every evaluation shares: the budget, bound variables, samples.

use std::collections::BTreeSet;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::expr::Expr;
use super::over;

/// Bits of a numerator or denominator.
pub const MAX_BITS: u64 = 65_536;

/// Word operations of big-number arithmetic that one comparison may spend; about a millisecond each million.
pub const FUEL: u64 = 1_200_000;

/// What is left of [`FUEL`].
pub type Fuel = std::cell::Cell<u64>;

pub(super) fn burn(fuel: &Fuel, cost: u64) -> Result<(), OverBudget> {
    match fuel.get().checked_sub(cost) {
        Some(left) => {
            fuel.set(left);
            Ok(())
        }
        None => {
            fuel.set(0);
            Err(OverBudget)
        }
    }
}

pub(super) fn bits(v: &BigRational) -> u64 {
    v.numer().bits().max(v.denom().bits())
}

/// Cost of one operation: products of words for integers, a binary gcd for fractions.
fn cost(a: &BigRational, b: &BigRational) -> u64 {
    let (x, y) = (bits(a), bits(b));
    let words = (x / 64 + 1) * (y / 64 + 1);
    if a.is_integer() && b.is_integer() { words } else { words + (x + y) * ((x + y) / 64 + 1) / 8 + 1 }
}

pub(super) fn add(a: BigRational, b: &BigRational, fuel: &Fuel) -> Result<BigRational, OverBudget> {
    burn(fuel, bits(&a).max(bits(b)) / 64 + 1)?;
    if a.is_integer() && b.is_integer() {
        return Ok(BigRational::from_integer(a.numer() + b.numer()));
    }
    burn(fuel, cost(&a, b))?;
    Ok(a + b)
}

pub(super) fn mul(a: BigRational, b: &BigRational, fuel: &Fuel) -> Result<BigRational, OverBudget> {
    burn(fuel, cost(&a, b))?;
    if a.is_integer() && b.is_integer() {
        return Ok(BigRational::from_integer(a.numer() * b.numer()));
    }
    Ok(a * b)
}

/// A budget ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverBudget;

pub(super) type Exact = Result<Option<BigRational>, OverBudget>;

/// The value of a variable that a sum, product or integral binds, and those around it.
pub struct Frame<'f, T> {
    pub name: &'f str,
    pub value: T,
    pub outer: Option<&'f Frame<'f, T>>,
}

impl<T> Frame<'_, T> {
    pub(super) fn find<'f>(mut frame: Option<&'f Frame<'f, T>>, name: &str) -> Option<&'f T> {
        while let Some(inner) = frame {
            if inner.name == name {
                return Some(&inner.value);
            }
            frame = inner.outer;
        }
        None
    }
}

fn bounded(value: BigRational) -> Exact {
    if bits(&value) > MAX_BITS { Err(OverBudget) } else { Ok(Some(value)) }
}

/// The value as a rational: `Ok(None)` when it is none or depends on a symbol.
///
/// # Errors
/// When a number outgrows [`MAX_BITS`].
pub fn exact(expr: &Expr, fuel: &Fuel) -> Exact {
    exact_in(expr, None, fuel)
}

/// The same where variables are bound.
pub(super) fn exact_in(expr: &Expr, frame: Option<&Frame<'_, BigRational>>, fuel: &Fuel) -> Exact {
    // A body is evaluated again and again, where the steps between word operations count, too.
    burn(fuel, if frame.is_some() { 20 } else { 1 })?;
    macro_rules! get {
        ($e:expr) => {
            match exact_in($e, frame, fuel)? {
                Some(value) => value,
                None => return Ok(None),
            }
        };
    }
    match expr {
        Expr::Num { value, .. } => Ok(Some(value.clone())),
        Expr::Neg(inner) => Ok(Some(-get!(inner))),
        Expr::Add(terms) => {
            let mut total = BigRational::zero();
            for term in terms {
                total = add(total, &get!(term), fuel)?;
                if bits(&total) > MAX_BITS {
                    return Err(OverBudget);
                }
            }
            Ok(Some(total))
        }
        Expr::Mul(factors) => {
            let mut total = BigRational::one();
            for factor in factors {
                total = mul(total, &get!(factor), fuel)?;
                if bits(&total) > MAX_BITS {
                    return Err(OverBudget);
                }
            }
            Ok(Some(total))
        }
        Expr::Div(n, d) => {
            let (n, d) = (get!(n), get!(d));
            if d.is_zero() {
                return Ok(None);
            }
            let size = bits(&n) + bits(&d);
            burn(fuel, size * (size / 64 + 1) / 8 + 1)?;
            bounded(n / d)
        }
        Expr::Pow(base, exponent) => power(get!(base), get!(exponent), fuel),
        Expr::Percent(inner) => bounded(get!(inner) / BigInt::from(100)),
        Expr::Degree(inner) => exact_in(inner, frame, fuel),
        Expr::Sym(name) => Ok(Frame::find(frame, name).cloned()),
        Expr::Over(over) => over::exact_total(over, frame, fuel),
        Expr::Based { digits, base } => {
            Ok(u128::from_str_radix(digits, *base).ok().map(|v| BigRational::from_integer(v.into())))
        }
        Expr::Call(name, args) => {
            let mut values = Vec::with_capacity(args.len());
            for arg in args {
                values.push(get!(arg));
            }
            call(name, &values, fuel)
        }
        _ => Ok(None),
    }
}

fn power(base: BigRational, exponent: BigRational, fuel: &Fuel) -> Exact {
    if !exponent.is_integer() {
        let (Some(n), Some(d)) = (exponent.numer().to_i64(), exponent.denom().to_u32()) else {
            return Ok(None);
        };
        let Some(root) = root(&base, d, fuel)? else { return Ok(None) };
        return power(root, BigRational::from_integer(n.into()), fuel);
    }
    if base.is_zero() {
        return Ok(if exponent.is_positive() {
            Some(base)
        } else if exponent.is_zero() {
            Some(BigRational::one())
        } else {
            None
        });
    }
    if base.abs().is_one() {
        let odd = exponent.numer().bit(0);
        return Ok(Some(if odd { base } else { BigRational::one() }));
    }
    let Some(e) = exponent.to_integer().to_i64() else { return Err(OverBudget) };
    let size = bits(&base).saturating_mul(e.unsigned_abs());
    if size > 2 * MAX_BITS {
        return Err(OverBudget);
    }
    burn(fuel, (size / 64 + 1) * (size / 64 + 1) / 2)?;
    let Ok(e) = i32::try_from(e) else { return Err(OverBudget) };
    bounded(base.pow(e))
}

/// The exact real `n`-th root.
fn root(value: &BigRational, n: u32, fuel: &Fuel) -> Exact {
    if n == 0 || n > 64 || value.is_negative() && n.is_multiple_of(2) {
        return Ok(None);
    }
    let words = bits(value) / 64 + 1;
    burn(fuel, words * words * 16)?;
    let part = |v: &BigInt| {
        let r = v.nth_root(n);
        (r.pow(n) == *v).then_some(r)
    };
    Ok(part(value.numer()).zip(part(value.denom())).map(|(n, d)| BigRational::new(n, d)))
}

pub(super) fn call(name: &str, args: &[BigRational], fuel: &Fuel) -> Exact {
    let natural = |v: &BigRational| v.is_integer().then(|| v.to_integer().to_u32()).flatten();
    match (name, args) {
        ("sqrt", [x]) => root(x, 2, fuel),
        ("root", [x, n]) => match natural(n) {
            Some(n) => root(x, n, fuel),
            None => Ok(None),
        },
        ("abs", [x]) => Ok(Some(x.abs())),
        ("floor", [x]) => Ok(Some(x.floor())),
        ("ceil", [x]) => Ok(Some(x.ceil())),
        ("fact", [x]) => {
            if !x.is_integer() || x.is_negative() {
                return Ok(None);
            }
            let Some(n) = natural(x).filter(|n| *n <= 8000) else { return Err(OverBudget) };
            let mut product = BigInt::one();
            for k in 2..=n {
                burn(fuel, product.bits() / 64 + 4)?;
                product *= k;
                if product.bits() > MAX_BITS {
                    return Err(OverBudget);
                }
            }
            Ok(Some(BigRational::from_integer(product)))
        }
        ("binom", [n, k]) => {
            let (Some(n), Some(k)) = (natural(n), natural(k)) else { return Ok(None) };
            if k > n {
                return Ok(Some(BigRational::zero()));
            }
            let k = k.min(n - k);
            if k > 4000 {
                return Err(OverBudget);
            }
            let mut product = BigInt::one();
            for j in 0..k {
                burn(fuel, product.bits() / 3 + 16)?;
                product = product * (n - j) / (j + 1);
                if product.bits() > MAX_BITS {
                    return Err(OverBudget);
                }
            }
            Ok(Some(BigRational::from_integer(product)))
        }
        ("perm", [n, k]) => {
            let (Some(n), Some(k)) = (natural(n), natural(k)) else { return Ok(None) };
            if k > 4000 {
                return Err(OverBudget);
            }
            let mut product = BigInt::one();
            for j in 0..k {
                burn(fuel, product.bits() / 64 + 4)?;
                product *= n.saturating_sub(j);
                if product.bits() > MAX_BITS {
                    return Err(OverBudget);
                }
            }
            Ok(Some(BigRational::from_integer(product)))
        }
        ("gcd" | "lcm", [a, b]) if a.is_integer() && b.is_integer() => {
            let (mut x, mut y) = (a.to_integer().abs(), b.to_integer().abs());
            let product = &x * &y;
            burn(fuel, (x.bits() + 64) * (y.bits() / 64 + 1))?;
            while !y.is_zero() {
                (x, y) = (y.clone(), x % y);
            }
            let value = match name {
                "gcd" => x,
                _ if x.is_zero() => x,
                _ => product / x,
            };
            Ok(Some(BigRational::from_integer(value)))
        }
        ("max", args) => Ok(args.iter().max().cloned()),
        ("min", args) => Ok(args.iter().min().cloned()),
        ("log", [x, base]) if x.is_one() && base.is_positive() && !base.is_one() => {
            Ok(Some(BigRational::zero()))
        }
        _ => Ok(None),
    }
}

/// The free symbols; `pi`, `e` and `i` are constants.
pub fn symbols(expr: &Expr, into: &mut BTreeSet<String>) {
    match expr {
        Expr::Sym(name) if !matches!(&**name, "pi" | "e" | "i") => {
            into.insert(name.clone());
        }
        Expr::Over(over) => {
            let mut inside = BTreeSet::new();
            symbols(&over.body, &mut inside);
            inside.remove(&over.variable);
            into.extend(inside);
            if let Some((low, high)) = &over.range {
                symbols(low, into);
                symbols(high, into);
            } else {
                // An integral without limits is a function of its variable.
                into.insert(over.variable.clone());
            }
        }
        other => other.parts().into_iter().for_each(|part| symbols(part, into)),
    }
}

/// FNV-1a with a final mix: the seed of a symbol's sample points.
pub(super) fn hash(name: &str, seed: u64) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325u64 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for b in name.bytes() {
        h = (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
    }
    h ^= h >> 31;
    h = h.wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^ (h >> 29)
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::super::token::Marks;
    use super::*;

    #[test]
    fn numbers_that_outgrow_the_budget() {
        for text in ["2^{100000}", "9999!", "10^{10^{10}}", "(10^{3000})^{100}", "2^{2^{2^{2^{2}}}}^2"] {
            let Some(p) = parse(text, Marks::Grouped) else { continue };
            assert_eq!(exact(&p.expr, &Fuel::new(FUEL)), Err(OverBudget), "{text}");
        }
        let p = parse("2^{1000}", Marks::Grouped).unwrap();
        assert!(exact(&p.expr, &Fuel::new(FUEL)).unwrap().is_some());
    }
}
