//! Sets of reals: intervals, unions of them, inequalities in one variable.

use num_rational::BigRational;
use num_traits::{One, Signed, Zero};

use super::complex::complex;
use super::eval::{FUEL, Frame, Fuel, exact_in, symbols};
use super::expr::{Expr, Joint};
use super::named::is_label;
use super::token::Rel;

/// Work for the value of one bound; an answer has at most a thousand of them.
const VALUE_FUEL: u64 = FUEL / 1024;

/// Pieces of a region.
const MAX_PIECES: usize = 32;

/// One interval; a bound is its value and whether it belongs to the interval, none is infinite.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    pub low: Bound,
    pub high: Bound,
}

/// An end of an interval; none is infinite.
pub type Bound = Option<End>;

/// A finite end of an interval.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    pub expr: Expr,
    /// Whether it belongs to the interval.
    pub closed: bool,
    /// Its value in double precision, computed once.
    at: f64,
}

impl End {
    fn new(expr: Expr, closed: bool) -> Self {
        let at = value(&expr);
        Self { expr, closed, at }
    }
}

impl Piece {
    /// Sort key: the lower bound.
    pub fn key(&self) -> f64 {
        self.low.as_ref().map_or(f64::NEG_INFINITY, |end| end.at)
    }
}

/// A union of intervals, with the variable when an inequality names it.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    pub variable: Option<String>,
    pub pieces: Vec<Piece>,
}

fn value(e: &Expr) -> f64 {
    complex(e, 0, &Fuel::new(VALUE_FUEL)).map_or(f64::MAX, |c| c.re)
}

fn is_infinite(e: &Expr) -> bool {
    match e {
        Expr::Infinity => true,
        Expr::Neg(inner) => **inner == Expr::Infinity,
        _ => false,
    }
}

fn bound(e: &Expr, closed: bool) -> Bound {
    (!is_infinite(e)).then(|| End::new(e.clone(), closed))
}

fn is_constant(e: &Expr) -> bool {
    let mut free = std::collections::BTreeSet::new();
    symbols(e, &mut free);
    free.is_empty()
}

/// The set of reals that an expression describes; none when it describes none.
pub fn region(e: &Expr) -> Option<Region> {
    let plain = |pieces| Some(Region { variable: None, pieces });
    match e {
        Expr::Sym(name) if name == "\\mathbbR" => plain(vec![Piece { low: None, high: None }]),
        Expr::Tuple(open, items, close) => match items.as_slice() {
            [a, b] => plain(vec![Piece { low: bound(a, *open == '['), high: bound(b, *close == ']') }]),
            _ => None,
        },
        Expr::Set(items) => {
            plain(items.iter().map(|i| Piece { low: bound(i, true), high: bound(i, true) }).collect())
        }
        Expr::Union(items) => joined(items, false),
        Expr::List(items, Joint::Or) => joined(items, true),
        Expr::List(items, Joint::And | Joint::Comma) => {
            if items.iter().all(|i| matches!(i, Expr::Tuple(_, list, _) if list.len() == 2)) {
                return joined(items, false);
            }
            if !items.iter().all(|i| matches!(i, Expr::Chain(..))) {
                return None;
            }
            let both = items.iter().map(region).collect::<Option<Vec<_>>>()?;
            let variable = both.iter().find_map(|r| r.variable.clone());
            if both.iter().any(|r| r.variable.is_some() && r.variable != variable) {
                return None;
            }
            let mut pieces = vec![Piece { low: None, high: None }];
            for part in &both {
                pieces = intersect(&pieces, &part.pieces);
            }
            // x < 1, x > 3 can only mean either.
            if pieces.is_empty() {
                pieces = both.into_iter().flat_map(|r| r.pieces).collect();
            }
            Some(Region { variable, pieces: merge(pieces) })
        }
        Expr::Call("setminus", args) => match args.as_slice() {
            [all, cut] => {
                let cut = region(cut).or_else(|| point(cut))?;
                let all = region(all)?;
                let pieces = intersect(&all.pieces, &complement(&merge(cut.pieces)));
                Some(Region { variable: all.variable, pieces })
            }
            _ => None,
        },
        Expr::Call("cap", args) => match args.as_slice() {
            [a, b] => {
                let (a, b) = (region(a)?, region(b)?);
                Some(Region { variable: a.variable, pieces: intersect(&merge(a.pieces), &merge(b.pieces)) })
            }
            _ => None,
        },
        // ℝ - {0}.
        Expr::Add(terms) => match terms.as_slice() {
            [all @ Expr::Sym(_), Expr::Neg(cut)] if matches!(**cut, Expr::Set(_)) => {
                let pieces = intersect(&region(all)?.pieces, &complement(&merge(region(cut)?.pieces)));
                plain(pieces)
            }
            _ => None,
        },
        Expr::Chain(sides, signs) => chain(sides, signs),
        _ => None,
    }
}

/// `points`: an equation such as `x = 5` is one of the parts.
fn joined(items: &[Expr], points: bool) -> Option<Region> {
    if items.len() > MAX_PIECES {
        return None;
    }
    let mut variable = None;
    let mut pieces = Vec::new();
    for item in items {
        let part = region(item).or_else(|| points.then(|| labelled_point(item)).flatten())?;
        if variable.is_some() && part.variable.is_some() && variable != part.variable {
            return None;
        }
        variable = variable.or(part.variable);
        pieces.extend(part.pieces);
    }
    Some(Region { variable, pieces: merge(pieces) })
}

/// A single number as a set.
fn point(e: &Expr) -> Option<Region> {
    let bound = is_constant(e).then(|| bound(e, true))?;
    complex(e, 0, &Fuel::new(VALUE_FUEL))?;
    Some(Region { variable: None, pieces: vec![Piece { low: bound.clone(), high: bound }] })
}

/// `x = 5` as one part of a union.
fn labelled_point(e: &Expr) -> Option<Region> {
    match e {
        Expr::Chain(sides, signs) => match (sides.as_slice(), signs.as_slice()) {
            ([Expr::Sym(name), value], [Rel::Eq]) => {
                Some(Region { variable: Some(name.clone()), ..point(value)? })
            }
            _ => None,
        },
        _ => None,
    }
}

fn low_key(b: &Bound) -> (f64, u8) {
    b.as_ref().map_or((f64::NEG_INFINITY, 0), |end| (end.at, u8::from(!end.closed)))
}

fn high_key(b: &Bound) -> (f64, u8) {
    b.as_ref().map_or((f64::INFINITY, 1), |end| (end.at, u8::from(end.closed)))
}

fn is_empty(low: &Bound, high: &Bound) -> bool {
    let ((a, open), (b, closed)) = (low_key(low), high_key(high));
    a > b || a == b && (open == 1 || closed == 0)
}

/// The points of both; at most [`MAX_PIECES`] pieces a side are looked at.
fn intersect(a: &[Piece], b: &[Piece]) -> Vec<Piece> {
    let mut out = Vec::new();
    for p in a.iter().take(MAX_PIECES) {
        for q in b.iter().take(MAX_PIECES) {
            let low = if low_key(&p.low) >= low_key(&q.low) { &p.low } else { &q.low };
            let high = if high_key(&p.high) <= high_key(&q.high) { &p.high } else { &q.high };
            if !is_empty(low, high) && out.len() < MAX_PIECES {
                out.push(Piece { low: low.clone(), high: high.clone() });
            }
        }
    }
    out
}

/// The reals outside of pieces that [`merge`] gave.
fn complement(pieces: &[Piece]) -> Vec<Piece> {
    let turned = |b: &Bound| b.clone().map(|end| End { closed: !end.closed, ..end });
    let mut low: Bound = None;
    let mut out = Vec::new();
    let mut open_end = true;
    for piece in pieces {
        if piece.low.is_some() {
            out.push(Piece { low: low.take(), high: turned(&piece.low) });
        }
        low = turned(&piece.high);
        open_end = low.is_some();
    }
    if open_end {
        out.push(Piece { low, high: None });
    }
    out
}

/// Pieces in order, those that overlap or touch joined.
fn merge(mut pieces: Vec<Piece>) -> Vec<Piece> {
    if pieces.len() > MAX_PIECES {
        return pieces;
    }
    pieces.sort_by(|p, q| low_key(&p.low).partial_cmp(&low_key(&q.low)).unwrap_or(std::cmp::Ordering::Equal));
    let mut out: Vec<Piece> = Vec::new();
    for piece in pieces {
        if let Some(last) = out.last_mut() {
            let ((end, closed), (start, open)) = (high_key(&last.high), low_key(&piece.low));
            if start < end || start == end && (closed == 1 || open == 0) {
                if high_key(&piece.high) > high_key(&last.high) {
                    last.high = piece.high;
                }
                continue;
            }
        }
        out.push(piece);
    }
    out
}

/// `x`, `AB`, `f(x)`, `2x + 1`: the unknown and what it is multiplied by and added to.
fn unknown(e: &Expr) -> Option<(String, BigRational, BigRational)> {
    let whole = |name: String| Some((name, BigRational::one(), BigRational::zero()));
    match e {
        Expr::Sym(name) if !matches!(&**name, "pi" | "e" | "i") => return whole(name.clone()),
        Expr::Mul(_) | Expr::Div(..) | Expr::Call(..) if is_label(e) && !is_constant(e) => {
            return whole(format!("{e:?}"));
        }
        Expr::Add(_) | Expr::Mul(_) | Expr::Div(..) | Expr::Neg(_) => {}
        _ => return None,
    }
    let mut free = std::collections::BTreeSet::new();
    symbols(e, &mut free);
    let name = free.pop_first().filter(|_| free.is_empty())?;
    let fuel = Fuel::new(VALUE_FUEL);
    let at = |n: i64, d: i64| {
        let value = BigRational::new(n.into(), d.into());
        exact_in(e, Some(&Frame { name: &name, value, outer: None }), &fuel).ok().flatten()
    };
    // A polynomial that is linear at five points of three kinds is linear for all that people write.
    let (offset, one) = (at(0, 1)?, at(1, 1)?);
    let slope = &one - &offset;
    let fits = |n: i64, d: i64| {
        at(n, d).is_some_and(|v| v == &slope * BigRational::new(n.into(), d.into()) + &offset)
    };
    let linear = fits(-7, 1) && fits(3, 5) && fits(101, 7);
    (linear && !slope.is_zero()).then_some((name, slope, offset))
}

/// What the unknown is bounded by where `slope · unknown + offset` is bounded by `bound`.
fn solved(bound: &Expr, slope: &BigRational, offset: &BigRational) -> Expr {
    if is_infinite(bound) || slope.is_one() && offset.is_zero() {
        return bound.clone();
    }
    let number = |value: &BigRational| Expr::Num { value: value.clone(), digits: None };
    let rest = Expr::Add(vec![bound.clone(), Expr::Neg(Box::new(number(offset)))]);
    Expr::Div(Box::new(rest), Box::new(number(slope)))
}

/// |x - a| < r and |x - a| > r.
fn around(inner: &Expr, sign: Rel, radius: &Expr) -> Option<Region> {
    let (name, slope, offset) = unknown(inner)?;
    let name = &name;
    let zero = BigRational::zero();
    let radius = &solved(radius, &slope.abs(), &zero);
    let centre = (!offset.is_zero()).then(|| Expr::Num { value: -offset / slope, digits: None });
    let at = |r: Expr| match &centre {
        Some(a) => Expr::Add(vec![a.clone(), r]),
        None => r,
    };
    if !is_constant(radius) || value(radius) <= 0.0 {
        return None;
    }
    let (low, high) = (at(Expr::Neg(Box::new(radius.clone()))), at(radius.clone()));
    let closed = matches!(sign, Rel::Le | Rel::Ge);
    let pieces = match sign {
        Rel::Lt | Rel::Le => vec![Piece { low: bound(&low, closed), high: bound(&high, closed) }],
        Rel::Gt | Rel::Ge => vec![
            Piece { low: None, high: bound(&low, closed) },
            Piece { low: bound(&high, closed), high: None },
        ],
        _ => return None,
    };
    Some(Region { variable: Some(name.clone()), pieces })
}

fn chain(sides: &[Expr], signs: &[Rel]) -> Option<Region> {
    match (sides, signs) {
        ([Expr::Call("abs", args), radius], [sign])
            if args.len() == 1 && !matches!(sign, Rel::Eq | Rel::Approx) =>
        {
            around(&args[0], *sign, radius)
        }
        ([Expr::Sym(name), set], [Rel::In]) => Some(Region { variable: Some(name.clone()), ..region(set)? }),
        ([e, set], [Rel::In]) if is_label(e) => {
            Some(Region { variable: Some(format!("{e:?}")), ..region(set)? })
        }
        ([a, b], [sign]) if !matches!(sign, Rel::Eq | Rel::Approx | Rel::In) => {
            let (found, other, sign) = match (is_constant(a), is_constant(b)) {
                (false, true) => (unknown(a)?, b, *sign),
                (true, false) => (unknown(b)?, a, flip(*sign)),
                _ => return None,
            };
            let (variable, slope, offset) = found;
            let other = &solved(other, &slope, &offset);
            let sign = if slope.is_negative() { flip(sign) } else { sign };
            let pieces = match sign {
                Rel::Lt => vec![Piece { low: None, high: bound(other, false) }],
                Rel::Le => vec![Piece { low: None, high: bound(other, true) }],
                Rel::Gt => vec![Piece { low: bound(other, false), high: None }],
                Rel::Ge => vec![Piece { low: bound(other, true), high: None }],
                Rel::Ne => complement(&point(other)?.pieces),
                _ => return None,
            };
            Some(Region { variable: Some(variable), pieces })
        }
        ([a, x, b], [p, q]) => {
            let (variable, slope, offset) = unknown(x)?;
            if !is_constant(a) || !is_constant(b) {
                return None;
            }
            let (a, p, b, q) = match (p, q) {
                (Rel::Lt | Rel::Le, Rel::Lt | Rel::Le) => (a, *p, b, *q),
                (Rel::Gt | Rel::Ge, Rel::Gt | Rel::Ge) => (b, flip(*q), a, flip(*p)),
                _ => return None,
            };
            let (a, p, b, q) = if slope.is_negative() { (b, q, a, p) } else { (a, p, b, q) };
            let [a, b] = [a, b].map(|e| solved(e, &slope, &offset));
            let piece = Piece { low: bound(&a, p == Rel::Le), high: bound(&b, q == Rel::Le) };
            Some(Region { variable: Some(variable), pieces: vec![piece] })
        }
        _ => None,
    }
}

fn flip(sign: Rel) -> Rel {
    match sign {
        Rel::Lt => Rel::Gt,
        Rel::Le => Rel::Ge,
        Rel::Gt => Rel::Lt,
        Rel::Ge => Rel::Le,
        other => other,
    }
}
