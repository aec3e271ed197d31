//! Parsed mathematics.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, ToPrimitive, Zero};

use super::token::Rel;

#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A number; `digits` counts the significant digits of a decimal literal.
    Num {
        value: BigRational,
        digits: Option<u32>,
    },
    /// A variable or a named constant (`pi`, `e`, `i`).
    Sym(String),
    Infinity,
    /// A number written in a base.
    Based {
        digits: String,
        base: u32,
    },
    Neg(Box<Expr>),
    Add(Vec<Expr>),
    Mul(Vec<Expr>),
    Div(Box<Expr>, Box<Expr>),
    Pow(Box<Expr>, Box<Expr>),
    Call(&'static str, Vec<Expr>),
    Percent(Box<Expr>),
    Degree(Box<Expr>),
    /// `a ± b` (true) or `a ∓ b`.
    Pm(Box<Expr>, Box<Expr>, bool),
    /// Bare alternatives, unordered.
    List(Vec<Expr>, Joint),
    Set(Vec<Expr>),
    Tuple(char, Vec<Expr>, char),
    Matrix(Vec<Vec<Expr>>),
    Chain(Vec<Expr>, Vec<Rel>),
    Union(Vec<Expr>),
    Text(String),
    /// A sum, product or integral over a variable of its own.
    Over(Box<Over>),
}

/// What `\sum`, `\prod` and `\int` do with their body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    Sum,
    Product,
    Integral,
}

/// `\sum_{k=1}^{n} k^2`: the body for every value of the variable in the range.
#[derive(Clone, Debug, PartialEq)]
pub struct Over {
    pub fold: Fold,
    pub variable: String,
    /// Its lowest and highest value; none for an integral without limits.
    pub range: Option<(Expr, Expr)>,
    pub body: Expr,
}

impl Expr {
    /// The expressions directly within this one.
    pub fn parts(&self) -> Vec<&Expr> {
        match self {
            Self::Num { .. } | Self::Sym(_) | Self::Infinity | Self::Based { .. } | Self::Text(_) => {
                Vec::new()
            }
            Self::Neg(a) | Self::Percent(a) | Self::Degree(a) => vec![a],
            Self::Div(a, b) | Self::Pow(a, b) | Self::Pm(a, b, _) => vec![a, b],
            Self::Add(list)
            | Self::Mul(list)
            | Self::Call(_, list)
            | Self::List(list, _)
            | Self::Set(list)
            | Self::Tuple(_, list, _)
            | Self::Chain(list, _)
            | Self::Union(list) => list.iter().collect(),
            Self::Matrix(rows) => rows.iter().flatten().collect(),
            Self::Over(over) => {
                let ends = over.range.iter().flat_map(|(low, high)| [low, high]);
                ends.chain([&over.body]).collect()
            }
        }
    }

    /// The same expression with `f` of each part in its place.
    pub fn map(&self, f: &dyn Fn(&Expr) -> Expr) -> Expr {
        let boxed = |e: &Expr| Box::new(f(e));
        let all = |list: &[Expr]| list.iter().map(f).collect::<Vec<_>>();
        match self {
            Self::Neg(a) => Self::Neg(boxed(a)),
            Self::Percent(a) => Self::Percent(boxed(a)),
            Self::Degree(a) => Self::Degree(boxed(a)),
            Self::Div(a, b) => Self::Div(boxed(a), boxed(b)),
            Self::Pow(a, b) => Self::Pow(boxed(a), boxed(b)),
            Self::Pm(a, b, plus) => Self::Pm(boxed(a), boxed(b), *plus),
            Self::Add(list) => Self::Add(all(list)),
            Self::Mul(list) => Self::Mul(all(list)),
            Self::Call(name, list) => Self::Call(name, all(list)),
            Self::List(list, joint) => Self::List(all(list), *joint),
            Self::Set(list) => Self::Set(all(list)),
            Self::Tuple(open, list, close) => Self::Tuple(*open, all(list), *close),
            Self::Chain(list, signs) => Self::Chain(all(list), signs.clone()),
            Self::Union(list) => Self::Union(all(list)),
            Self::Matrix(rows) => Self::Matrix(rows.iter().map(|row| all(row)).collect()),
            Self::Over(over) => Self::Over(Box::new(Over {
                fold: over.fold,
                variable: over.variable.clone(),
                range: over.range.as_ref().map(|(low, high)| (f(low), f(high))),
                body: f(&over.body),
            })),
            leaf => leaf.clone(),
        }
    }

    /// Whether `is` holds for this expression or anything within it.
    pub fn any(&self, is: &dyn Fn(&Expr) -> bool) -> bool {
        is(self) || self.parts().into_iter().any(|part| part.any(is))
    }
}

/// What separates the items of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joint {
    Comma,
    And,
    Or,
}

/// A parsed span.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    pub expr: Expr,
    /// Words after the value: a unit or a noun.
    pub tail: Option<String>,
    /// Whether the last token is a letter that stands apart, as in `5 A` and `20°F`, and not in `5A`.
    pub apart: bool,
    /// Tokens and nodes.
    pub work: u64,
}

pub fn integer(n: i64) -> Expr {
    Expr::Num { value: BigRational::from_integer(BigInt::from(n)), digits: None }
}

/// A decimal literal as an exact rational.
pub fn decimal(text: &str) -> Option<Expr> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = [whole, fraction].concat();
    let numerator =
        if digits.is_empty() { BigInt::zero() } else { BigInt::parse_bytes(digits.as_bytes(), 10)? };
    if fraction.is_empty() {
        return Some(Expr::Num { value: BigRational::from_integer(numerator), digits: None });
    }
    let scale = BigInt::from(10).pow(fraction.len() as u32);
    let significant = digits.trim_start_matches('0').len() as u32;
    Some(Expr::Num { value: BigRational::new(numerator, scale), digits: Some(significant) })
}

/// `whole + n/d` where all are natural numbers and n < d.
pub fn mixed(whole: &Expr, n: &Expr, d: &Expr) -> Option<Expr> {
    match (whole, n, d) {
        (
            Expr::Num { value: w, digits: None },
            Expr::Num { value: a, digits: None },
            Expr::Num { value: b, digits: None },
        ) if !b.is_zero() && a < b && w.is_integer() => Some(Expr::Num { value: w + a / b, digits: None }),
        _ => None,
    }
}

/// A whole number in front of a fraction, which may have a sign behind it: 3 1/2, 3 1/2 %, 3 1/2°.
pub fn with_fraction(whole: &Expr, fraction: &Expr) -> Option<Expr> {
    match fraction {
        Expr::Div(n, d) => mixed(whole, n, d),
        Expr::Percent(inner) => match &**inner {
            Expr::Div(n, d) => mixed(whole, n, d).map(|e| Expr::Percent(Box::new(e))),
            _ => None,
        },
        Expr::Degree(inner) => match &**inner {
            Expr::Div(n, d) => mixed(whole, n, d).map(|e| Expr::Degree(Box::new(e))),
            _ => None,
        },
        _ => None,
    }
}

/// 0.1 followed by a period 6 is 1/6.
pub fn repeating_decimal(prefix: &str, period: &str) -> Option<Expr> {
    let Expr::Num { value, .. } = decimal(prefix)? else { return None };
    let places = prefix.split_once('.').map_or(0, |(_, f)| f.len()) as u32;
    let repeat = BigInt::parse_bytes(period.as_bytes(), 10)?;
    let nines = BigInt::from(10).pow(period.len().to_u32()?) - BigInt::one();
    let shift = BigInt::from(10).pow(places);
    Some(Expr::Num { value: value + BigRational::new(repeat, nines * shift), digits: None })
}
