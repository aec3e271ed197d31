//! The value of an expression as a complex number in double precision.

use num_traits::ToPrimitive;

use super::eval::{Frame, Fuel, burn, call, exact, hash};
use super::expr::{Expr, Fold, Over};
use super::{over, quadrature};

/// A complex number in double precision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct C64 {
    pub re: f64,
    pub im: f64,
}

impl C64 {
    const I: Self = Self { re: 0.0, im: 1.0 };

    pub fn real(re: f64) -> Self {
        Self { re, im: 0.0 }
    }

    pub fn abs(self) -> f64 {
        self.re.hypot(self.im)
    }

    pub fn sub(self, o: Self) -> Self {
        Self { re: self.re - o.re, im: self.im - o.im }
    }

    fn add(self, o: Self) -> Self {
        Self { re: self.re + o.re, im: self.im + o.im }
    }

    fn mul(self, o: Self) -> Self {
        Self { re: self.re * o.re - self.im * o.im, im: self.re * o.im + self.im * o.re }
    }

    fn scale(self, k: f64) -> Self {
        Self { re: self.re * k, im: self.im * k }
    }

    pub fn div(self, o: Self) -> Option<Self> {
        let d = o.re * o.re + o.im * o.im;
        if d == 0.0 {
            return None;
        }
        let r = self.mul(Self { re: o.re, im: -o.im });
        Some(Self { re: r.re / d, im: r.im / d })
    }

    fn ln(self) -> Option<Self> {
        (self.abs() > 0.0).then(|| Self { re: self.abs().ln(), im: self.im.atan2(self.re) })
    }

    fn exp(self) -> Self {
        let r = self.re.exp();
        if self.im == 0.0 { Self::real(r) } else { Self { re: r * self.im.cos(), im: r * self.im.sin() } }
    }

    fn sqrt(self) -> Self {
        if self.im == 0.0 {
            return if self.re >= 0.0 {
                Self::real(self.re.sqrt())
            } else {
                Self { re: 0.0, im: (-self.re).sqrt() }
            };
        }
        let r = self.abs();
        let re = ((r + self.re) / 2.0).max(0.0).sqrt();
        let im = ((r - self.re) / 2.0).max(0.0).sqrt();
        Self { re, im: if self.im < 0.0 { -im } else { im } }
    }

    fn pow(self, e: Self) -> Option<Self> {
        if e.im == 0.0 && e.re.fract() == 0.0 && e.re.abs() <= 1024.0 {
            let mut n = e.re.abs() as u32;
            let (mut base, mut result) = (self, Self::real(1.0));
            while n > 0 {
                if n & 1 == 1 {
                    result = result.mul(base);
                }
                base = base.mul(base);
                n >>= 1;
            }
            return if e.re < 0.0 { Self::real(1.0).div(result) } else { Some(result) };
        }
        if self.im == 0.0 && self.re > 0.0 && e.im == 0.0 {
            return Some(Self::real(self.re.powf(e.re)));
        }
        if self.re == 0.0 && self.im == 0.0 {
            return (e.re > 0.0).then_some(Self::real(0.0));
        }
        Some(e.mul(self.ln()?).exp())
    }

    fn sin(self) -> Self {
        Self { re: self.re.sin() * self.im.cosh(), im: self.re.cos() * self.im.sinh() }
    }

    fn cos(self) -> Self {
        Self { re: self.re.cos() * self.im.cosh(), im: -self.re.sin() * self.im.sinh() }
    }

    fn finite(self) -> Option<Self> {
        (self.re.is_finite() && self.im.is_finite()).then_some(self)
    }
}

/// The value with every free symbol at its sample point: `point` is even for positive and odd for negative samples.
pub fn complex(expr: &Expr, point: u64, fuel: &Fuel) -> Option<C64> {
    complex_at(expr, SamplePoint { point, frame: None }, fuel)
}

/// Where an expression is evaluated: the sample point of its free symbols, and what is bound.
#[derive(Clone, Copy)]
struct SamplePoint<'f> {
    point: u64,
    frame: Option<&'f Frame<'f, f64>>,
}

fn complex_at(expr: &Expr, at: SamplePoint<'_>, fuel: &Fuel) -> Option<C64> {
    burn(fuel, if at.frame.is_some() { 12 } else { 4 }).ok()?;
    let get = |e: &Expr| complex_at(e, at, fuel);
    let point = at.point;
    let value = match expr {
        Expr::Num { value, .. } => C64::real(value.to_f64()?),
        Expr::Over(over) => total(over, at, fuel)?,
        Expr::Sym(name) if Frame::find(at.frame, name).is_some() => C64::real(*Frame::find(at.frame, name)?),
        Expr::Sym(name) => match &**name {
            "pi" => C64::real(std::f64::consts::PI),
            "e" => C64::real(std::f64::consts::E),
            "i" => C64::I,
            _ => {
                let unit = (hash(name, point) >> 11) as f64 / (1u64 << 53) as f64;
                let size = 0.35 + 2.3 * unit;
                C64::real(if point % 2 == 1 { -size } else { size })
            }
        },
        Expr::Neg(a) => get(a)?.scale(-1.0),
        Expr::Add(list) => {
            let mut sum = C64::real(0.0);
            for e in list {
                sum = sum.add(get(e)?);
            }
            sum
        }
        Expr::Mul(list) => {
            let mut product = C64::real(1.0);
            for e in list {
                product = product.mul(get(e)?);
            }
            product
        }
        Expr::Div(a, b) => get(a)?.div(get(b)?)?,
        Expr::Pow(a, b) => match &**a {
            Expr::Sym(e) if e == "e" => get(b)?.exp(),
            _ => {
                // The real odd root of a negative number, as school mathematics has it.
                let base = get(a)?;
                let exponent = exact(b, fuel).ok().flatten();
                match exponent {
                    Some(e) if base.im == 0.0 && base.re < 0.0 && !e.is_integer() && e.denom().bit(0) => {
                        let size = base.re.abs().powf(e.to_f64()?);
                        C64::real(if e.numer().bit(0) { -size } else { size })
                    }
                    _ => base.pow(get(b)?)?,
                }
            }
        },
        Expr::Percent(a) => get(a)?.scale(0.01),
        Expr::Degree(a) => get(a)?,
        Expr::Based { .. } => C64::real(exact(expr, fuel).ok()??.to_f64()?),
        Expr::Call(name, args) => function(name, args, at, fuel)?,
        _ => return None,
    };
    value.finite()
}

/// The value of a sum, product or integral in double precision.
fn total(over: &Over, at: SamplePoint<'_>, fuel: &Fuel) -> Option<C64> {
    let (low, high) = over.range.as_ref()?;
    let body = |x: f64| {
        let frame = Frame { name: &over.variable, value: x, outer: at.frame };
        complex_at(&over.body, SamplePoint { frame: Some(&frame), ..at }, fuel)
    };
    if over.fold == Fold::Integral {
        let end = |e: &Expr| match e {
            Expr::Infinity => Some(f64::INFINITY),
            Expr::Neg(inner) if **inner == Expr::Infinity => Some(f64::NEG_INFINITY),
            e => complex_at(e, at, fuel).filter(|c| c.im == 0.0).map(|c| c.re),
        };
        let mut real = |x: f64| body(x).filter(|c| c.im == 0.0).map(|c| c.re);
        return quadrature::integral(&mut real, end(low)?, end(high)?).map(C64::real);
    }
    let (low, high) = (exact(low, fuel).ok()??, exact(high, fuel).ok()??);
    let (first, last) = over::whole_range(&low, &high).ok()??;
    let mut total = C64::real(if over.fold == Fold::Sum { 0.0 } else { 1.0 });
    for k in first..=last {
        let term = body(k as f64)?;
        total = if over.fold == Fold::Sum { total.add(term) } else { total.mul(term) };
    }
    Some(total)
}

/// The gamma function for positive numbers up to 100 (Lanczos' approximation, g = 7, 9 terms; 1e-14 relative).
fn gamma(x: f64) -> Option<f64> {
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if !(0.0..=100.0).contains(&x) || x == 0.0 {
        return None;
    }
    let x = x - 1.0;
    let t = x + 7.5;
    let sum = (1..9).fold(TERMS[0], |sum, i| sum + TERMS[i] / (x + i as f64));
    Some((2.0 * std::f64::consts::PI).sqrt() * t.powf(x + 0.5) * (-t).exp() * sum)
}

fn function(name: &str, args: &[Expr], at: SamplePoint<'_>, fuel: &Fuel) -> Option<C64> {
    let arg = |i: usize| -> Option<C64> { complex_at(args.get(i)?, at, fuel) };
    let one = C64::real(1.0);
    // Angles in degrees only mean something here.
    let angle = || -> Option<C64> {
        match args.first()? {
            Expr::Degree(inner) => Some(complex_at(inner, at, fuel)?.scale(std::f64::consts::PI / 180.0)),
            other => complex_at(other, at, fuel),
        }
    };
    let real = |c: C64| (c.im == 0.0).then_some(c.re);
    Some(match (name, args.len()) {
        ("sqrt", 1) => arg(0)?.sqrt(),
        ("root", 2) => {
            let (x, n) = (arg(0)?, real(arg(1)?)?);
            if n == 0.0 {
                return None;
            }
            if x.im == 0.0 && x.re < 0.0 && n.rem_euclid(2.0) == 1.0 {
                C64::real(-(-x.re).powf(1.0 / n))
            } else {
                x.pow(C64::real(1.0 / n))?
            }
        }
        ("abs", 1) => C64::real(arg(0)?.abs()),
        ("floor", 1) => C64::real(real(arg(0)?)?.floor()),
        ("ceil", 1) => C64::real(real(arg(0)?)?.ceil()),
        ("ln", 1) => arg(0)?.ln()?,
        // Without a base, `log` is decimal; where the other side writes `ln`, the comparison tries the natural one.
        ("log", 1) => arg(0)?.ln()?.scale(std::f64::consts::LN_10.recip()),
        ("log", 2) => arg(0)?.ln()?.div(arg(1)?.ln()?)?,
        ("exp", 1) => arg(0)?.exp(),
        ("sin", 1) => angle()?.sin(),
        ("cos", 1) => angle()?.cos(),
        ("tan", 1) => angle()?.sin().div(angle()?.cos())?,
        ("cot", 1) => angle()?.cos().div(angle()?.sin())?,
        ("sec", 1) => one.div(angle()?.cos())?,
        ("csc", 1) => one.div(angle()?.sin())?,
        ("arcsin", 1) => C64::real(real(arg(0)?)?.asin()),
        ("arccos", 1) => C64::real(real(arg(0)?)?.acos()),
        ("arctan", 1) => C64::real(real(arg(0)?)?.atan()),
        ("sinh", 1) => C64::real(real(arg(0)?)?.sinh()),
        ("cosh", 1) => C64::real(real(arg(0)?)?.cosh()),
        ("tanh", 1) => C64::real(real(arg(0)?)?.tanh()),
        ("fact", 1) if args[0] != Expr::Infinity && exact(&args[0], fuel).ok()?.is_none() => {
            C64::real(gamma(real(arg(0)?)? + 1.0)?)
        }
        ("binom", 2) if exact(&args[0], fuel).ok()?.is_none() || exact(&args[1], fuel).ok()?.is_none() => {
            let (n, k) = (real(arg(0)?)?, real(arg(1)?)?);
            C64::real(gamma(n + 1.0)? / gamma(k + 1.0)? / gamma(n - k + 1.0)?)
        }
        ("fact" | "binom" | "perm" | "gcd" | "lcm" | "max" | "min", _) => {
            let mut values = Vec::new();
            for a in args {
                values.push(exact(a, fuel).ok()??);
            }
            C64::real(call(name, &values, fuel).ok()??.to_f64()?)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::super::token::Marks;
    use super::*;
    use crate::judges::math::eval::FUEL;

    #[test]
    fn complex_values() {
        let check = |text: &str, re: f64, im: f64| {
            let got = complex(&parse(text, Marks::Grouped).unwrap().expr, 0, &Fuel::new(FUEL)).unwrap();
            assert!((got.re - re).abs() < 1e-12 && (got.im - im).abs() < 1e-12, "{text} {got:?}");
        };
        check("\\sqrt{2}\\sqrt{3}", 6f64.sqrt(), 0.0);
        check("\\sin 30^\\circ", 0.5, 0.0);
        check("\\sin\\frac{\\pi}{6}", 0.5, 0.0);
        check("e^{i\\pi}", -1.0, 0.0);
        check("\\log_2 8", 3.0, 0.0);
        check("\\sqrt{-4}", 0.0, 2.0);
        check("\\ln e^2", 2.0, 0.0);
        check("\\cos^2 1 + \\sin^2 1", 1.0, 0.0);
        check("\\tan^{-1} 1", std::f64::consts::FRAC_PI_4, 0.0);
    }
}
