//! Definite integrals in double precision: the double exponential rule of Takahasi and Mori, which bears singular and
//! infinite ends, on halves where one piece does not settle.

use std::f64::consts::FRAC_PI_2;

/// How far a value may still move from one refinement to the next, as a share of the integral of the absolute value.
const SETTLED: f64 = 1e-12;
/// The finest step is 2^-6.
const LEVELS: u32 = 6;
/// Halvings of an interval.
const MAX_DEPTH: u32 = 40;

/// An integrand; none where it has no real value or the budget is spent.
type Integrand<'f> = dyn FnMut(f64) -> Option<f64> + 'f;

/// The integral of `f` from `a` to `b`, either of which may be infinite; none where it does not settle.
pub fn integral(f: &mut Integrand<'_>, a: f64, b: f64) -> Option<f64> {
    if a > b {
        return integral(f, b, a).map(|v| -v);
    }
    if a == b {
        return Some(0.0);
    }
    match (a.is_finite(), b.is_finite()) {
        (true, true) => {
            let whole = finite(f, a, b);
            whole.settled.or_else(|| halves(f, a, b, whole.size?, 0))
        }
        (true, false) => rule(&mut |t| infinite(t).and_then(|(x, w)| Some(f(a + x)? * w)), 4.3).settled,
        (false, true) => rule(&mut |t| infinite(t).and_then(|(x, w)| Some(f(b - x)? * w)), 4.3).settled,
        (false, false) => {
            let upper = integral(f, 0.0, f64::INFINITY)?;
            Some(upper + integral(f, f64::NEG_INFINITY, 0.0)?)
        }
    }
}

/// The rule on a finite interval.
fn finite(f: &mut Integrand<'_>, a: f64, b: f64) -> Found {
    let half = (b - a) / 2.0;
    let node = &mut |t: f64| {
        // Distances from the nearer end keep their digits at a singular end.
        let near = 2.0 * half / (1.0 + (2.0 * FRAC_PI_2 * t.abs().sinh()).exp());
        let x = if t < 0.0 { a + near } else { b - near };
        let weight = half * FRAC_PI_2 * t.cosh() / (FRAC_PI_2 * t.sinh()).cosh().powi(2);
        // A node that rounding moved onto the end tells nothing.
        if x <= a || x >= b { Some(0.0) } else { Some(f(x)? * weight) }
    };
    rule(node, 4.0)
}

/// A node of [0, ∞) with its weight.
fn infinite(t: f64) -> Option<(f64, f64)> {
    let x = (FRAC_PI_2 * t.sinh()).exp();
    Some((x, FRAC_PI_2 * t.cosh() * x))
}

/// The sum of both halves, each halved again until it settles against `size`, the size of the whole.
fn halves(f: &mut Integrand<'_>, a: f64, b: f64, size: f64, depth: u32) -> Option<f64> {
    let middle = a + (b - a) / 2.0;
    if depth == MAX_DEPTH || middle <= a || middle >= b {
        return None;
    }
    let mut total = 0.0;
    for (from, to) in [(a, middle), (middle, b)] {
        let piece = finite(f, from, to);
        total += match piece.settled {
            Some(value) => value,
            // What is left around a kink soon no longer matters.
            None if piece.size? < SETTLED * size => piece.last?,
            None => halves(f, from, to, size, depth + 1)?,
        };
    }
    Some(total)
}

/// What the trapezoidal rule found.
struct Found {
    settled: Option<f64>,
    last: Option<f64>,
    size: Option<f64>,
}

/// The trapezoidal rule for `g` on [-end, end] with ever smaller steps.
fn rule(g: &mut dyn FnMut(f64) -> Option<f64>, end: f64) -> Found {
    let none = Found { settled: None, last: None, size: None };
    let (mut sum, mut size, mut tails) = (0.0, 0.0, 0.0f64);
    let mut before: Option<f64> = None;
    for level in 0..=LEVELS {
        let step = 0.5f64.powi(level as i32);
        let count = (end / step).floor() as i64;
        for k in -count..=count {
            if level > 0 && k % 2 == 0 {
                continue;
            }
            let Some(value) = g(k as f64 * step).filter(|v| v.is_finite()) else { return none };
            sum += value;
            size += value.abs();
            if k.abs() == count {
                tails = tails.max(value.abs());
            }
        }
        let (value, scale) = (sum * step, size * step);
        let near = before.is_some_and(|b: f64| (b - value).abs() <= SETTLED.max(4.0 * f64::EPSILON) * scale);
        // A rule that is cut off where its terms still count has found nothing.
        if level >= 3 && near && tails * step <= SETTLED * 10.0 * scale {
            return Found { settled: Some(value), last: Some(value), size: Some(scale) };
        }
        before = Some(value);
        if level == LEVELS {
            return Found { settled: None, last: Some(value), size: Some(scale) };
        }
    }
    none
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::PI;

    #[test]
    fn known_integrals() {
        let inf = f64::INFINITY;
        let check = |f: fn(f64) -> f64, a: f64, b: f64, want: f64| {
            let mut evaluations = 0;
            let got = integral(
                &mut |x| {
                    evaluations += 1;
                    Some(f(x))
                },
                a,
                b,
            );
            assert!(got.is_some_and(|v| (v - want).abs() < 1e-11), "{got:?} {want} after {evaluations}");
            assert!(evaluations < 40_000, "{evaluations}");
        };
        check(|x| x * x, 0.0, 1.0, 1.0 / 3.0);
        check(f64::sin, 0.0, PI, 2.0);
        check(f64::sin, -PI, PI, 0.0);
        check(f64::ln, 0.0, 1.0, -1.0);
        check(|x| x.powf(-0.5), 0.0, 1.0, 2.0);
        check(|x| (-x * x).exp(), -inf, inf, PI.sqrt());
        check(|x| (-x).exp(), 0.0, inf, 1.0);
        check(|x| 1.0 / (1.0 + x * x), 0.0, inf, PI / 2.0);
        check(|x| x.powi(-2), 1.0, inf, 1.0);
        check(f64::abs, -1.0, 2.0, 2.5);
        check(|x| (20.0 * x).cos(), 0.0, 1.0, 20f64.sin() / 20.0);
    }

    #[test]
    fn what_diverges_has_no_value() {
        let check = |f: fn(f64) -> f64, a: f64, b: f64| {
            assert_eq!(integral(&mut |x| Some(f(x)).filter(|v| v.is_finite()), a, b), None);
        };
        check(|x| 1.0 / x, 0.0, 1.0);
        check(|x| 1.0 / x, -1.0, 1.0);
        check(|x| 1.0 / x, -1.0, 2.0);
        check(|x| x.powi(-2), -1.0, 1.0);
        check(|x| x.powi(-2), -1.0, 2.0);
        check(|x| 1.0 / x, 1.0, f64::INFINITY);
        check(f64::sin, 0.0, f64::INFINITY);
    }
}
