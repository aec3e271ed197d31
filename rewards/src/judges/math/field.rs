//! The value of an expression in a prime field: equal values at random points are an identity of rational functions.

use num_bigint::{BigInt, Sign};
use num_traits::ToPrimitive;

use super::eval::{Frame, Fuel, burn, exact, hash};
use super::expr::{Expr, Fold, Over};
use super::over::is_open;

/// Two primes p ≡ 1 mod 4, each with a square root of -1 computed from a generator.
const PRIMES: [(u64, u64); 2] = [(0xffff_ffff_0000_0001, 7), (4_179_340_454_199_820_289, 3)];

/// Arithmetic modulo a prime below 2^64.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    p: u64,
    generator: u64,
    seed: u64,
    fuel: &'a Fuel,
    frame: Option<&'a Frame<'a, u64>>,
}

impl<'a> Field<'a> {
    /// Field `index` (0 or 1) with the sample point `seed`.
    pub fn new(index: usize, seed: u64, fuel: &'a Fuel) -> Self {
        let (p, generator) = PRIMES[index % 2];
        Self { p, generator, seed, fuel, frame: None }
    }

    fn mul(self, a: u64, b: u64) -> u64 {
        ((u128::from(a) * u128::from(b)) % u128::from(self.p)) as u64
    }

    fn add(self, a: u64, b: u64) -> u64 {
        ((u128::from(a) + u128::from(b)) % u128::from(self.p)) as u64
    }

    /// Difference.
    pub fn sub(self, a: u64, b: u64) -> u64 {
        self.add(a, self.p - b)
    }

    fn pow(self, mut base: u64, mut e: u64) -> u64 {
        let mut result = 1;
        while e > 0 {
            if e & 1 == 1 {
                result = self.mul(result, base);
            }
            base = self.mul(base, base);
            e >>= 1;
        }
        result
    }

    /// Quotient; none for a zero divisor.
    pub fn div(self, a: u64, b: u64) -> Option<u64> {
        (b != 0).then(|| self.mul(a, self.pow(b, self.p - 2)))
    }

    fn reduce(self, value: &BigInt) -> u64 {
        let p = BigInt::from(self.p);
        let r = ((value % &p) + &p) % &p;
        r.to_u64().unwrap_or(0)
    }

    /// The value at this field's sample point; none for what is no rational function.
    pub fn eval(self, expr: &Expr) -> Option<u64> {
        match expr {
            Expr::Num { value, .. } => self.div(self.reduce(value.numer()), self.reduce(value.denom())),
            Expr::Sym(name) if name == "i" && Frame::find(self.frame, name).is_none() => {
                Some(self.pow(self.generator, (self.p - 1) / 4))
            }
            Expr::Sym(name) => {
                let bound = Frame::find(self.frame, name).copied();
                Some(bound.unwrap_or_else(|| hash(name, self.seed) % self.p))
            }
            Expr::Over(over) => self.over(expr, over),
            Expr::Neg(a) => Some(self.sub(0, self.eval(a)?)),
            Expr::Add(list) => list.iter().try_fold(0, |sum, e| Some(self.add(sum, self.eval(e)?))),
            Expr::Mul(list) => list.iter().try_fold(1, |product, e| Some(self.mul(product, self.eval(e)?))),
            Expr::Div(a, b) => self.div(self.eval(a)?, self.eval(b)?),
            Expr::Percent(a) => self.div(self.eval(a)?, 100),
            Expr::Degree(a) => self.eval(a),
            Expr::Pow(base, exponent) => {
                let e = exact(exponent, self.fuel).ok()??;
                if !e.is_integer() {
                    return None;
                }
                let base = self.eval(base)?;
                let e = e.to_integer();
                let size = e.magnitude().to_u64()?;
                let value = self.pow(base, size);
                if e.sign() == Sign::Minus { self.div(1, value) } else { Some(value) }
            }
            // A binomial with a small lower number is a polynomial.
            Expr::Call("binom", args) if args.len() == 2 => {
                let k = exact(&args[1], self.fuel).ok()??.to_integer().to_u64().filter(|k| *k <= 32)?;
                let n = self.eval(&args[0])?;
                (0..k).try_fold(1, |product, j| self.div(self.mul(product, self.sub(n, j)), j + 1))
            }
            Expr::Call(..) => {
                let value = exact(expr, self.fuel).ok()??;
                self.div(self.reduce(value.numer()), self.reduce(value.denom()))
            }
            _ => None,
        }
    }

    /// A sum, product or integral: its value where it is closed and has an exact one, where it is open a function of its kind, its range and its
    /// body at a sample point, so that the same ones are equal whatever their variable is called and wherever they begin.
    fn over(self, expr: &Expr, over: &Over) -> Option<u64> {
        burn(self.fuel, 16).ok()?;
        if self.frame.is_none() && !is_open(expr) {
            let value = exact(expr, self.fuel).ok()??;
            return self.div(self.reduce(value.numer()), self.reduce(value.denom()));
        }
        let (low, width) = match &over.range {
            None => (0, 0),
            Some((low, Expr::Infinity)) => (self.eval(low)?, 1 << 60),
            Some((low, high)) => {
                let low = self.eval(low)?;
                (low, self.sub(self.eval(high)?, low))
            }
        };
        let depth = std::iter::successors(self.frame, |frame| frame.outer).count();
        let place = match over.range {
            None => hash(&over.variable, self.seed),
            Some(_) => hash("bound", self.seed ^ depth as u64),
        } % self.p;
        // What does not depend on the variable stands before the sign.
        let (mut outside, mut inside) = (1, 1);
        let (body, negative) = match &over.body {
            Expr::Neg(body) if over.fold != Fold::Product => (&**body, true),
            body => (body, false),
        };
        let (above, below) = match body {
            Expr::Div(n, d) => (&**n, Some(&**d)),
            body => (body, None),
        };
        fn list(e: &Expr) -> &[Expr] {
            match e {
                Expr::Mul(factors) => factors.as_slice(),
                one => std::slice::from_ref(one),
            }
        }
        let divisors = below.into_iter().flat_map(list).map(|f| (f, true));
        for (factor, divides) in list(above).iter().map(|f| (f, false)).chain(divisors) {
            let depends = factor.any(&|e| matches!(e, Expr::Sym(name) if *name == over.variable));
            let frame = Frame { name: &over.variable, value: self.add(place, low), outer: self.frame };
            let mut value = Field { frame: Some(&frame), ..self }.eval(factor)?;
            if divides {
                value = self.div(1, value)?;
            }
            let product = if depends || over.fold == Fold::Product { &mut inside } else { &mut outside };
            *product = self.mul(*product, value);
        }
        if negative {
            outside = self.sub(0, outside);
        }
        let key = [over.fold as u64, width, inside].iter().fold(self.seed, |h, part| hash("over", h ^ part));
        Some(self.mul(outside, key % self.p))
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::super::token::Marks;
    use super::*;
    use crate::judges::math::eval::FUEL;

    #[test]
    fn i_squared_is_minus_one_in_both_fields() {
        for index in 0..2 {
            let fuel = Fuel::new(FUEL);
            let field = Field::new(index, 1, &fuel);
            let square = parse("i^2 + 1", Marks::Grouped).unwrap().expr;
            assert_eq!(field.eval(&square), Some(0), "{index}");
        }
    }
}
