//! Units after a value: whether two agree, and the factor between them.

use num_bigint::BigInt;
use num_rational::BigRational;

use super::expr::{Expr, Parsed};

/// How the unit of a prediction relates to that of the gold.
#[derive(Clone, Debug, PartialEq)]
pub enum Agreement {
    /// The same, or neither has one that is known.
    Same,
    /// The gold has one and the prediction has none.
    Missing,
    /// The prediction times this factor is in the unit of the gold.
    Scale(Expr),
    /// Different quantities.
    Contradict,
}

/// Known units: names, dimension, and size in the dimension's base as a fraction.
const UNITS: &[(&[&str], &str, i64, i64)] = &[
    (&["mm", "millimeter", "millimetre"], "length", 1, 1000),
    (&["cm", "centimeter", "centimetre"], "length", 1, 100),
    (&["dm", "decimeter", "decimetre"], "length", 1, 10),
    (&["m", "meter", "metre"], "length", 1, 1),
    (&["km", "kilometer", "kilometre"], "length", 1000, 1),
    (&["in", "inch", "inche"], "length", 254, 10000),
    (&["ft", "foot", "feet"], "length", 3048, 10000),
    (&["yd", "yard"], "length", 9144, 10000),
    (&["mi", "mile"], "length", 1_609_344, 1000),
    (&["mg", "milligram"], "mass", 1, 1000),
    (&["g", "gram"], "mass", 1, 1),
    (&["kg", "kilogram"], "mass", 1000, 1),
    (&["s", "sec", "second"], "time", 1, 1),
    (&["min", "minute"], "time", 60, 1),
    (&["h", "hr", "hour"], "time", 3600, 1),
    (&["day"], "time", 86400, 1),
    (&["week"], "time", 604_800, 1),
    (&["ml", "milliliter", "millilitre"], "volume", 1, 1000),
    (&["l", "liter", "litre"], "volume", 1, 1),
    (&["cent"], "money", 1, 100),
    (&["dollar", "usd"], "money", 1, 1),
];

type Unit = (&'static str, BigRational);

fn known(tail: &str) -> Option<Unit> {
    let cleaned: String = tail.trim().trim_matches(|c: char| "().,*".contains(c)).to_string();
    let lower = cleaned.to_lowercase();
    let (power, base) =
        if let Some(base) = lower.strip_prefix("square ").or_else(|| lower.strip_prefix("sq ")) {
            (2, base.to_string())
        } else if let Some(base) = lower.strip_prefix("cubic ") {
            (3, base.to_string())
        } else if let Some(base) = lower.strip_suffix("^2") {
            (2, base.trim().to_string())
        } else if let Some(base) = lower.strip_suffix("^3") {
            (3, base.trim().to_string())
        } else {
            (1, lower)
        };
    // Plural or not: "meters", "inches".
    let singular = base.strip_suffix('s').filter(|b| b.len() > 1).unwrap_or(&base);
    let (_, dimension, n, d) =
        UNITS.iter().find(|(names, ..)| names.iter().any(|name| *name == base || *name == singular))?;
    let size = BigRational::new(BigInt::from(*n), BigInt::from(*d)).pow(power);
    let dimension = match (*dimension, power) {
        ("length", 2) => "area",
        ("length", 3) => "space",
        (dimension, 1) => dimension,
        _ => return None,
    };
    Some((dimension, size))
}

/// Reads the letters of `5 m` and `12 m/s` as a unit where the gold has no symbols that they could be; a product of
/// letters that is no quotient only where the gold has a unit too.
pub fn split_letter(gold: &Parsed, pred: &mut Parsed) {
    if pred.tail.is_some() {
        return;
    }
    if let Expr::Neg(inner) = &pred.expr {
        let mut part = Parsed { expr: (**inner).clone(), tail: None, apart: pred.apart, work: pred.work };
        split_letter(gold, &mut part);
        if part.tail.is_some() {
            (pred.expr, pred.tail) = (Expr::Neg(Box::new(part.expr)), part.tail);
        }
        return;
    }
    let mut free = std::collections::BTreeSet::new();
    super::eval::symbols(&gold.expr, &mut free);
    if !free.is_empty() {
        return;
    }
    let apart = pred.apart;
    let mut unit = String::new();
    let value = match &pred.expr {
        // C(5, 2) is no point in coulombs.
        Expr::Mul(factors) if !matches!(factors[0], Expr::Sym(_)) => {
            let single = factors.len() == 2;
            let value = split(factors, apart, &mut unit);
            value
                .filter(|_| single || gold.tail.is_some() || is_quotient(&unit) || apart && is_derived(&unit))
        }
        Expr::Div(n, d) => {
            let mut below = String::new();
            let rest = split(std::slice::from_ref(d), apart, &mut below);
            let value = match &**n {
                Expr::Mul(factors) => split(factors, apart, &mut unit),
                _ => None,
            };
            unit = format!("{unit}/{below}");
            let whole = rest.is_some_and(|rest| rest.is_empty());
            value.filter(|_| whole && (gold.tail.is_some() || is_quotient(&unit)))
        }
        _ => None,
    };
    if let Some(mut value) = value
        && !unit.is_empty()
        && value.len() == 1
    {
        pred.expr = value.remove(0);
        pred.tail = Some(unit);
    }
}

/// Whether letters are a unit by a unit, none of them twice: `m/s`, `m s^-1`.
fn is_quotient(unit: &str) -> bool {
    let letters: Vec<char> = unit.chars().filter(|c| c.is_alphabetic()).collect();
    let distinct = letters.iter().enumerate().all(|(i, c)| !letters[..i].contains(c));
    distinct && letters.len() > 1 && (unit.contains('/') || unit.contains("^-"))
}

/// Whether letters are a product of units that begins with a named one: `N·m`, `W·h`.
fn is_derived(unit: &str) -> bool {
    let letters: Vec<char> = unit.chars().collect();
    letters.len() == 2 && letters[0] != letters[1] && "NWJVAC".contains(letters[0])
}

/// The factors that are no unit symbols; none when a symbol is no unit.
fn split(factors: &[Expr], apart: bool, unit: &mut String) -> Option<Vec<Expr>> {
    const LETTERS: &[&str] = &["m", "g", "s", "h", "L", "l", "N", "J", "W", "V", "\\Omega", "Omega"];
    // These are also digits, names and constants.
    const APART: &[&str] = &["A", "C", "F", "H", "K", "T"];
    let mut rest = Vec::new();
    for factor in factors {
        match factor {
            Expr::Sym(letter) if LETTERS.contains(&&**letter) || apart && APART.contains(&&**letter) => {
                unit.push_str(letter);
            }
            Expr::Text(word) if known(word).is_some() || super::lexicon::UNITS.contains(&word.trim()) => {
                unit.push_str(word.trim());
            }
            Expr::Text(_) => return None,
            Expr::Pow(base, exponent) if matches!(**exponent, Expr::Num { .. } | Expr::Neg(_)) => {
                match split(std::slice::from_ref(base), apart, unit)?.is_empty() {
                    true => match &**exponent {
                        Expr::Num { value, .. } => unit.push_str(&format!("^{value}")),
                        _ => unit.push_str("^-"),
                    },
                    false => rest.push(factor.clone()),
                }
            }
            Expr::Div(n, d) => {
                let above = split(std::slice::from_ref(n), apart, unit)?;
                let mut below = String::new();
                let divisor = split(std::slice::from_ref(d), apart, &mut below)?;
                match above.is_empty() && divisor.is_empty() {
                    true => unit.push_str(&format!("/{below}")),
                    false if below.is_empty() => rest.push(factor.clone()),
                    false => return None,
                }
            }
            Expr::Sym(_) => return None,
            other => rest.push(other.clone()),
        }
    }
    Some(rest)
}

/// Whether a unit is known.
pub fn is_known(unit: &str) -> bool {
    known(unit).is_some()
}

/// How many of `unit` are one of `before`, and whether `unit` is the smaller one; none where they measure other things.
pub fn factor(before: &str, unit: &str) -> Option<(Expr, bool)> {
    let ((a, x), (b, y)) = (known(before)?, known(unit)?);
    (a == b).then(|| (Expr::Num { value: &x / &y, digits: None }, y < x))
}

/// Whether a time is before or after noon.
fn half_day(tail: &str) -> Option<char> {
    let letters: String = tail.to_lowercase().chars().filter(char::is_ascii_alphabetic).collect();
    match &*letters {
        "am" => Some('a'),
        "pm" => Some('p'),
        _ => None,
    }
}

/// Compares the words after the gold with those after a prediction.
pub fn agree(gold: Option<&str>, pred: Option<&str>) -> Agreement {
    let (Some(gold), Some(pred)) = (gold, pred) else {
        return if gold.is_some() { Agreement::Missing } else { Agreement::Same };
    };
    if let (Some(a), Some(b)) = (half_day(gold), half_day(pred))
        && a != b
    {
        return Agreement::Contradict;
    }
    match (known(gold), known(pred)) {
        (Some((a, x)), Some((b, y))) => {
            if a != b {
                Agreement::Contradict
            } else if x == y {
                Agreement::Same
            } else {
                Agreement::Scale(Expr::Num { value: y / x, digits: None })
            }
        }
        _ => Agreement::Same,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement() {
        let same = [("cm", "cm"), ("meters", "m"), ("square feet", "ft^2"), ("apples", "cm")];
        for (a, b) in same {
            assert_eq!(agree(Some(a), Some(b)), Agreement::Same, "{a} {b}");
        }
        assert_eq!(agree(Some("cm"), Some("kg")), Agreement::Contradict);
        assert_eq!(agree(Some("cm"), Some("cm^2")), Agreement::Contradict);
        assert!(matches!(agree(Some("cm"), Some("m")), Agreement::Scale(_)));
        assert_eq!(agree(Some("cm"), None), Agreement::Missing);
        assert_eq!(agree(None, Some("cm")), Agreement::Same);
    }
}
