//! Sets of reals: intervals, unions of them, inequalities in one variable.

use super::eval::{FUEL, Fuel, complex, symbols};
use super::expr::{Expr, Joint};
use super::token::Rel;

/// One interval; a bound is its value and whether it belongs to the interval, none is infinite.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    pub low: Option<(Expr, bool)>,
    pub high: Option<(Expr, bool)>,
}

impl Piece {
    /// Sort key: the lower bound.
    pub fn key(&self) -> f64 {
        self.low.as_ref().map_or(f64::NEG_INFINITY, |(e, _)| value(e))
    }
}

/// A union of intervals, with the variable when an inequality names it.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    pub variable: Option<String>,
    pub pieces: Vec<Piece>,
}

fn value(e: &Expr) -> f64 {
    complex(e, 0, &Fuel::new(FUEL / 64)).map_or(f64::MAX, |c| c.re)
}

fn is_infinite(e: &Expr) -> bool {
    match e {
        Expr::Infinity => true,
        Expr::Neg(inner) => **inner == Expr::Infinity,
        _ => false,
    }
}

fn bound(e: &Expr, closed: bool) -> Option<(Expr, bool)> {
    (!is_infinite(e)).then(|| (e.clone(), closed))
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
        Expr::Set(items) => plain(
            items
                .iter()
                .map(|i| Piece { low: Some((i.clone(), true)), high: Some((i.clone(), true)) })
                .collect(),
        ),
        Expr::Union(items) => joined(items),
        Expr::List(items, Joint::Or) => joined(items),
        Expr::List(items, Joint::And | Joint::Comma) => {
            // x > 1 and x < 3.
            let [a, b] = items.as_slice() else { return None };
            if !matches!((a, b), (Expr::Chain(..), Expr::Chain(..))) {
                return None;
            }
            let (a, b) = (region(a)?, region(b)?);
            let ([p], [q]) = (a.pieces.as_slice(), b.pieces.as_slice()) else { return None };
            let (low, high) = match (p, q) {
                (Piece { low: Some(l), high: None }, Piece { low: None, high: Some(h) })
                | (Piece { low: None, high: Some(h) }, Piece { low: Some(l), high: None }) => (l, h),
                _ => return None,
            };
            if a.variable != b.variable {
                return None;
            }
            if value(&low.0) < value(&high.0) {
                return Some(Region {
                    variable: a.variable,
                    pieces: vec![Piece { low: Some(low.clone()), high: Some(high.clone()) }],
                });
            }
            // x < 1, x > 3 can only mean either.
            Some(Region { variable: a.variable, pieces: vec![p.clone(), q.clone()] })
        }
        Expr::Call("setminus", args) => match args.as_slice() {
            [all, Expr::Set(points)] if region(all)?.pieces == [Piece { low: None, high: None }] => {
                Some(Region { variable: None, pieces: without(points) })
            }
            _ => None,
        },
        Expr::Chain(sides, signs) => chain(sides, signs),
        _ => None,
    }
}

fn joined(items: &[Expr]) -> Option<Region> {
    let mut variable = None;
    let mut pieces = Vec::new();
    for item in items {
        let part = region(item)?;
        if variable.is_some() && part.variable.is_some() && variable != part.variable {
            return None;
        }
        variable = variable.or(part.variable);
        pieces.extend(part.pieces);
    }
    Some(Region { variable, pieces })
}

/// The reals without some points.
fn without(points: &[Expr]) -> Vec<Piece> {
    let mut sorted: Vec<&Expr> = points.iter().collect();
    sorted.sort_by(|a, b| value(a).total_cmp(&value(b)));
    let mut low = None;
    let mut pieces = Vec::new();
    for point in sorted {
        pieces.push(Piece { low: low.take(), high: Some((point.clone(), false)) });
        low = Some((point.clone(), false));
    }
    pieces.push(Piece { low, high: None });
    pieces
}

fn chain(sides: &[Expr], signs: &[Rel]) -> Option<Region> {
    let name = |e: &Expr| match e {
        Expr::Sym(name) if !matches!(&**name, "pi" | "e" | "i") => Some(name.clone()),
        _ => None,
    };
    match (sides, signs) {
        ([x, set], [Rel::In]) => Some(Region { variable: Some(name(x)?), ..region(set)? }),
        ([a, b], [sign]) => {
            let (variable, other, sign) = match (name(a), name(b)) {
                (Some(v), None) => (v, b, *sign),
                (None, Some(v)) => (v, a, flip(*sign)),
                _ => return None,
            };
            if !is_constant(other) {
                return None;
            }
            let pieces = match sign {
                Rel::Lt => vec![Piece { low: None, high: bound(other, false) }],
                Rel::Le => vec![Piece { low: None, high: bound(other, true) }],
                Rel::Gt => vec![Piece { low: bound(other, false), high: None }],
                Rel::Ge => vec![Piece { low: bound(other, true), high: None }],
                Rel::Ne => without(std::slice::from_ref(other)),
                _ => return None,
            };
            Some(Region { variable: Some(variable), pieces })
        }
        ([a, x, b], [p, q]) => {
            let variable = name(x)?;
            let (a, p, b, q) = match (p, q) {
                (Rel::Lt | Rel::Le, Rel::Lt | Rel::Le) => (a, *p, b, *q),
                (Rel::Gt | Rel::Ge, Rel::Gt | Rel::Ge) => (b, flip(*q), a, flip(*p)),
                _ => return None,
            };
            if !is_constant(a) || !is_constant(b) {
                return None;
            }
            let piece = Piece { low: bound(a, p == Rel::Le), high: bound(b, q == Rel::Le) };
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
