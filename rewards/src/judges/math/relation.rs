//! Equations, inequalities, regions: what has a relation sign.

use std::collections::BTreeSet;

use super::algebra;
use super::complex::{C64, complex};
use super::equal::{Comparison, Equality, MAX_ITEMS, TOLERANCE, close};
use super::eval::{Fuel, exact, symbols};
use super::expr::{Expr, integer};
use super::field::Field;
use super::named::{is_applied, members, strip_label};
use super::over::is_open;
use super::region::region;
use super::token::Rel;

/// Whether an expression has no free symbols.
fn is_constant(e: &Expr) -> bool {
    let mut free = BTreeSet::new();
    symbols(e, &mut free);
    free.is_empty()
}

impl Comparison {
    /// Sets of reals: intervals, unions, inequalities.
    pub(super) fn regions(&mut self, gold: &Expr, pred: &Expr) -> Equality {
        let (Some(a), Some(b)) = (region(gold), region(pred)) else {
            let same = algebra::same_set(gold, pred).unwrap_or(false);
            return if same { Equality::Equal("sets") } else { Equality::Different("kind") };
        };
        let variables = a.variable.is_none() || b.variable.is_none() || a.variable == b.variable;
        let (mut x, mut y) = (a.pieces, b.pieces);
        if !variables || x.len() != y.len() || x.len() > MAX_ITEMS {
            return Equality::Different("region");
        }
        x.sort_by(|p, q| p.key().total_cmp(&q.key()));
        y.sort_by(|p, q| p.key().total_cmp(&q.key()));
        for (p, q) in x.iter().zip(&y) {
            for (g, h) in [(&p.low, &q.low), (&p.high, &q.high)] {
                let same = match (g, h) {
                    (None, None) => true,
                    (Some(g), Some(h)) => g.closed == h.closed && self.compare(&g.expr, &h.expr).is_equal(),
                    _ => false,
                };
                if !same {
                    return Equality::Different("region");
                }
            }
        }
        Equality::Equal("region")
    }

    pub(super) fn relation(&mut self, gold: &Expr, pred: &Expr) -> Equality {
        if let Some(found) = self.named(gold, pred) {
            return found;
        }
        if let Some(found) = self.claimed(gold, pred) {
            return found;
        }
        if let (Expr::Chain(a, p), Expr::Chain(b, q)) = (gold, pred) {
            if let (Some(_), Some(_)) = (region(gold), region(pred)) {
                return self.regions(gold, pred);
            }
            let labels = strip_label(gold).is_some() && strip_label(pred).is_some();
            let same =
                a[0] == b[0] || is_applied(&a[0]) || is_applied(&b[0]) || matches!(b[0], Expr::Text(_));
            if labels && same {
                return match members(gold).0.first() {
                    Some(first) => {
                        let first = (*first).clone();
                        self.members_equal(&first, pred)
                    }
                    None => Equality::Different("equation"),
                };
            }
            // NO/BO = 2 and BO/NO = 1/2.
            if labels
                && let (Expr::Div(n, d), Expr::Div(m, e)) = (&a[0], &b[0])
                && (n, d) == (e, m)
                && let ([value], [other]) = (&members(gold).0[..], &members(pred).0[..])
            {
                let inverse = Expr::Div(Box::new(integer(1)), Box::new((*other).clone()));
                return self.compare(value, &inverse);
            }
            if p.len() == 1 && q.len() == 1 {
                let same = same_relation((&a[0], p[0], &a[1]), (&b[0], q[0], &b[1]), &self.fuel);
                return Self::verdict(same || gold == pred, "equation");
            }
            return Self::verdict(gold == pred, "equation");
        }
        if let Expr::Chain(..) = gold {
            if strip_label(gold).is_some() && !matches!(pred, Expr::List(..)) {
                return match members(gold).0.last() {
                    Some(right) => {
                        let right = (*right).clone();
                        self.compare(&right, pred)
                    }
                    None => Equality::Different("equation"),
                };
            }
            return self.regions(gold, pred);
        }
        if let (Expr::List(..), Some(value)) = (gold, strip_label(pred)) {
            return self.compare(gold, value);
        }
        if region(gold).is_some()
            && !matches!(gold, Expr::Sym(_))
            && let Some(_) = region(pred)
        {
            return self.regions(gold, pred);
        }
        self.members_equal(gold, pred)
    }

    /// A reference that is a chain of values, such as `\frac{100}{3} \approx 33.3`: the value before the ≈, or exactly
    /// the number that stands after it; none for another reference.
    fn claimed(&mut self, gold: &Expr, pred: &Expr) -> Option<Equality> {
        let Expr::Chain(sides, signs) = gold else { return None };
        let equations = signs.iter().all(|s| matches!(s, Rel::Eq | Rel::Approx));
        let (values, about) = members(gold);
        let labelled = strip_label(gold).is_some();
        let alone =
            values.iter().chain(&about).all(|side| is_constant(side) && !matches!(side, Expr::Text(_)));
        // x + y = 5 is an equation, and x = 5 is compared with its name.
        let statement = is_constant(&sides[0]) || is_open(&sides[0]);
        if !equations || !alone || if labelled { about.is_empty() } else { !statement } {
            return None;
        }
        // The label of a reference and that of an answer have to agree.
        if let (true, Expr::Chain(a, _), Expr::Chain(b, _)) = (labelled, gold, pred)
            && strip_label(pred).is_some()
            && a[0] != b[0]
            && !matches!(b[0], Expr::Text(_))
        {
            return None;
        }
        let value = (*values.last()?).clone();
        let found = self.members_equal(&value, pred);
        if found.is_equal() {
            return Some(found);
        }
        let (given, _) = members(pred);
        let [given] = &given[..] else { return Some(found) };
        let given = exact(given, &self.fuel).ok().flatten();
        let rounded =
            given.is_some() && about.iter().any(|side| exact(side, &self.fuel).ok().flatten() == given);
        Some(if rounded { Equality::Equal("rounded") } else { found })
    }

    /// Every side of a chain of equations (without its label, up to the first ≈) equals the gold.
    fn members_equal(&mut self, gold: &Expr, pred: &Expr) -> Equality {
        let Expr::Chain(_, signs) = pred else { return self.compare(gold, pred) };
        if !signs.iter().all(|s| matches!(s, Rel::Eq | Rel::Approx | Rel::In)) {
            return Equality::Different("relation");
        }
        let mut last = Equality::Different("relation");
        for side in members(pred).0 {
            if matches!(side, Expr::Chain(..)) {
                return Equality::Different("relation");
            }
            last = self.compare(gold, side);
            if !last.is_equal() {
                return last;
            }
        }
        last
    }
}

/// Whether two relations say the same up to a nonzero factor (positive for inequalities); a tautology says nothing.
fn same_relation(a: (&Expr, Rel, &Expr), b: (&Expr, Rel, &Expr), fuel: &Fuel) -> bool {
    let less = |(l, op, r): (&Expr, Rel, &Expr)| -> (Expr, Rel) {
        let (l, op, r) = match op {
            Rel::Gt => (r, Rel::Lt, l),
            Rel::Ge => (r, Rel::Le, l),
            op => (l, op, r),
        };
        (Expr::Add(vec![l.clone(), Expr::Neg(Box::new(r.clone()))]), op)
    };
    let ((d, p), (f, q)) = (less(a), less(b));
    let (mut s, mut t) = (BTreeSet::new(), BTreeSet::new());
    symbols(&d, &mut s);
    symbols(&f, &mut t);
    // A relation of constants is true or false whatever was asked.
    if p != q || s != t || p == Rel::In || s.is_empty() {
        return false;
    }
    if matches!(p, Rel::Eq | Rel::Ne)
        && let Some(same) = proportional(&d, &f, fuel)
    {
        return same;
    }
    let mut ratio: Option<C64> = None;
    for point in [0, 2, 4, 1, 3] {
        let (Some(x), Some(y)) = (complex(&d, point, fuel), complex(&f, point, fuel)) else { continue };
        let Some(r) = x.div(y) else { return false };
        if r.abs() < TOLERANCE || matches!(p, Rel::Lt | Rel::Le) && (r.re <= 0.0 || r.im != 0.0) {
            return false;
        }
        match ratio {
            Some(first) if !close(first, r) => return false,
            _ => ratio = Some(r),
        }
    }
    ratio.is_some()
}

fn proportional(a: &Expr, b: &Expr, fuel: &Fuel) -> Option<bool> {
    let mut ratio = None;
    for seed in [1, 2, 3] {
        let field = Field::new(0, seed, fuel);
        let (x, y) = (field.eval(a)?, field.eval(b)?);
        let Some(r) = field.div(x, y) else { return Some(false) };
        if r == 0 || ratio.is_some_and(|first| first != r) {
            return Some(false);
        }
        ratio = Some(r);
    }
    Some(true)
}
