//! How near a decimal must come to a value.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::Signed;
use serde::{Deserialize, Serialize};

/// How a rounded number compares: `"exact"`, `{ digits = 6 }`, `{ relative = 0.01 }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecimalPolicy {
    /// 0.333333 is not 1/3.
    Exact,
    /// A decimal equals a value that it is rounded or cut to at least so many significant digits.
    Digits(u32),
    /// A number equals every number within this share of the reference.
    Relative(f64),
}

impl Default for DecimalPolicy {
    fn default() -> Self {
        Self::Digits(6)
    }
}

impl DecimalPolicy {
    /// Why the policy makes no sense, if so.
    pub fn problem(self) -> Option<String> {
        match self {
            Self::Digits(0) => Some("decimal.digits must be at least 1".into()),
            Self::Relative(x) if !(0.0..1.0).contains(&x) => {
                Some(format!("decimal.relative is {x} and must be in [0, 1)"))
            }
            _ => None,
        }
    }

    /// Whether `y` is as good as the reference `x`. `a` and `b` are the significant digits and the unit of the last
    /// place of the one and the other, where it is written as a decimal.
    pub fn accepts(
        self,
        a: Option<(u32, BigRational)>,
        b: Option<(u32, BigRational)>,
        x: &BigRational,
        y: &BigRational,
    ) -> bool {
        let least = match self {
            Self::Exact => return false,
            Self::Digits(least) => least,
            Self::Relative(share) => {
                let share = BigRational::from_float(share).unwrap_or_default();
                return (x - y).abs() <= share * x.abs();
            }
        };
        let half = BigRational::new(BigInt::from(1), BigInt::from(2));
        let (decimal, value, unit) = match (a, b) {
            (Some((d, unit)), None) if d >= least => (x, y, unit),
            (None, Some((d, unit))) if d >= least => (y, x, unit),
            // The coarser one is the rounded one.
            (Some((d, u)), Some((e, v))) if d != e && d.min(e) >= least => {
                return (x - y).abs() <= half * if u > v { u } else { v };
            }
            _ => return false,
        };
        let away = (decimal - value).abs();
        let cut = decimal.abs() < value.abs() && away < unit;
        cut || away <= half * unit
    }

    /// Whether only numbers that are written as decimals can be accepted.
    pub fn needs_decimal(self) -> bool {
        !matches!(self, Self::Relative(_))
    }
}
