//! Whether a prediction means the same as the gold.

use std::collections::BTreeSet;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive, Zero};

use super::algebra;
use super::complex::{C64, complex};
use super::decimal::DecimalPolicy;
use super::eval::{FUEL, Fuel, OverBudget, exact, symbols};
use super::expand::{expand_pm, vector};
use super::expr::{Expr, Joint, integer};
use super::field::Field;
use super::logarithm::natural_pair;
use super::named::{items, strip_label};
use super::over::{is_open, same_variable};
use super::parameter::{with_parameter_of, without_declaration};
use super::region::region;

/// Relative distance at which double-precision values count as equal: far above rounding errors, far below any
/// difference between answers people write.
pub const TOLERANCE: f64 = 1e-9;
/// Items of a list or set that are matched.
pub const MAX_ITEMS: usize = 64;

/// How `x%` compares with a number without a percent sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PercentPolicy {
    /// It equals x and x/100.
    #[default]
    Either,
    /// It equals x/100 only.
    Same,
}

/// What a comparison found, and which rule decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Equality {
    Equal(&'static str),
    Different(&'static str),
    /// The prediction leaves several answers open where the gold is one.
    Several,
    /// The gold is above a budget.
    Unknown,
}

impl Equality {
    pub fn is_equal(self) -> bool {
        matches!(self, Self::Equal(_))
    }
}

/// Compares values under the policies.
pub struct Comparison {
    pub percent: PercentPolicy,
    pub decimal: DecimalPolicy,
    /// Comparisons and evaluations so far.
    pub work: u64,
    pub(super) fuel: Fuel,
}

/// What a name before a pair means: P(4, 7) is a point with a name, C(5, 2) a binomial where the gold is a number.
fn named_tuple(gold: &Expr, pred: &Expr) -> Option<Expr> {
    let Expr::Mul(factors) = pred else { return None };
    let [Expr::Sym(name), tuple @ Expr::Tuple(open, items, _)] = factors.as_slice() else { return None };
    match gold {
        Expr::Tuple(..) if name.len() == 1 => Some(tuple.clone()),
        Expr::Num { .. } | Expr::Call("binom" | "perm", _)
            if *open == '(' && items.len() == 2 && matches!(&**name, "C" | "P") =>
        {
            let function = if name == "C" { "binom" } else { "perm" };
            Some(Expr::Call(function, items.clone()))
        }
        _ => None,
    }
}

impl Comparison {
    /// A comparison with a full budget; `work` is what parsing took.
    pub fn new(percent: PercentPolicy, decimal: DecimalPolicy, work: u64) -> Self {
        Self { percent, decimal, work, fuel: Fuel::new(FUEL) }
    }

    /// Comparisons, tokens, and word operations of arithmetic in units of 64.
    pub fn spent(&self) -> u64 {
        self.work + (FUEL - self.fuel.get()) / 64
    }

    /// Compares `pred` with `gold`.
    pub fn compare(&mut self, gold: &Expr, pred: &Expr) -> Equality {
        self.work += 1;
        if self.work > 20_000 {
            return Equality::Different("budget");
        }
        if let Some(values) = expand_pm(gold) {
            return self.compare(&values, pred);
        }
        if let Some(values) = expand_pm(pred) {
            return self.compare(gold, &values);
        }
        if let Some(vector) = vector(gold) {
            return self.compare(&vector, pred);
        }
        if let Some(vector) = vector(pred) {
            return self.compare(gold, &vector);
        }
        if let Some(meant) = named_tuple(gold, pred) {
            return self.compare(gold, &meant);
        }
        match (gold, pred) {
            (Expr::Text(a), Expr::Text(b)) => {
                let same = crate::answer::text::normalise(a) == crate::answer::text::normalise(b);
                return if same { Equality::Equal("text") } else { Equality::Different("text") };
            }
            (Expr::Chain(..), _) | (_, Expr::Chain(..)) => return self.relation(gold, pred),
            (Expr::Call("setminus" | "cap", _), _) | (_, Expr::Call("setminus" | "cap", _))
                if region(gold).is_some() && region(pred).is_some() =>
            {
                return self.regions(gold, pred);
            }
            _ if algebra::has_operation(gold) || algebra::has_operation(pred) => {
                if let Some(same) = algebra::same_set(gold, pred) {
                    return Self::verdict(same, "sets");
                }
            }
            _ => {}
        }
        match (gold, pred) {
            (Expr::Add(terms), _) | (_, Expr::Add(terms))
                if terms.iter().any(|t| matches!(t, Expr::Neg(set) if matches!(**set, Expr::Set(_)))) =>
            {
                return self.regions(gold, pred);
            }
            (Expr::Set(_) | Expr::List(..), _) | (_, Expr::Set(_) | Expr::List(..)) => {
                return self.collection(gold, pred);
            }
            (Expr::Union(_), _) | (_, Expr::Union(_)) => return self.regions(gold, pred),
            (Expr::Tuple(..) | Expr::Matrix(_), _) | (_, Expr::Tuple(..) | Expr::Matrix(_)) => {
                return self.ordered(gold, pred);
            }
            (Expr::Infinity, Expr::Infinity) => return Equality::Equal("infinity"),
            (Expr::Neg(a), Expr::Neg(b)) if **a == Expr::Infinity && **b == Expr::Infinity => {
                return Equality::Equal("infinity");
            }
            (Expr::Based { digits: a, base: p }, Expr::Based { digits: b, base: q }) => {
                let same = p == q && a.trim_start_matches('0') == b.trim_start_matches('0');
                return if same { Equality::Equal("base") } else { Equality::Different("base") };
            }
            // The base may be left out; the digits are what was asked for.
            (Expr::Based { digits, .. }, other) => {
                let plain = exact(other, &self.fuel).ok().flatten().map(|v| v.to_string());
                let same = plain.as_deref() == Some(digits.trim_start_matches('0'));
                return if same { Equality::Equal("base") } else { Equality::Different("base") };
            }
            (_, Expr::Based { .. }) => return Equality::Different("base"),
            _ => {}
        }
        // 60° is π/3 where one side has the sign and the other has π.
        if let (Expr::Degree(angle), other) | (other, Expr::Degree(angle)) = (gold, pred)
            && !matches!(other, Expr::Degree(_))
            && has_pi(other)
        {
            let radians = Expr::Mul(vec![(**angle).clone(), Expr::Sym("pi".into())]);
            return self.scalar(&Expr::Div(Box::new(radians), Box::new(integer(180))), other);
        }
        self.with_percent(gold, pred)
    }

    /// Numbers, where a percent sign may be left out or not.
    fn with_percent(&mut self, gold: &Expr, pred: &Expr) -> Equality {
        if self.percent != PercentPolicy::Either {
            return self.scalar(gold, pred);
        }
        match (gold, pred) {
            (Expr::Percent(a), Expr::Percent(b)) => self.scalar(a, b),
            (Expr::Percent(a), b) => {
                let first = self.scalar(a, b);
                if first.is_equal() { first } else { self.scalar(gold, b) }
            }
            (a, Expr::Percent(b)) => {
                let first = self.scalar(a, b);
                if first.is_equal() { first } else { self.scalar(a, pred) }
            }
            _ => self.scalar(gold, pred),
        }
    }

    fn scalar(&mut self, gold: &Expr, pred: &Expr) -> Equality {
        let found = self.scalar_as_written(gold, pred);
        match natural_pair(gold, pred) {
            Some((gold, pred)) if matches!(found, Equality::Different(_)) => {
                self.scalar_as_written(&gold, &pred)
            }
            _ => found,
        }
    }

    fn scalar_as_written(&mut self, gold: &Expr, pred: &Expr) -> Equality {
        self.work += 1;
        let g = match exact(gold, &self.fuel) {
            Ok(value) => value,
            Err(OverBudget) if gold == pred => return Equality::Equal("same"),
            // Only a gold that is too large by itself cannot be judged; a prediction may have used up the budget.
            Err(OverBudget) if exact(gold, &Fuel::new(FUEL)).is_err() => return Equality::Unknown,
            Err(OverBudget) => return Equality::Different("budget"),
        };
        let p = match exact(pred, &self.fuel) {
            Ok(value) => value,
            Err(OverBudget) => return Equality::Different("budget"),
        };
        if let (Some(a), Some(b)) = (&g, &p) {
            if a == b {
                return Equality::Equal("rational");
            }
            let same = self.decimal.accepts(literal(gold), literal(pred), a, b);
            return if same { Equality::Equal("rounded") } else { Equality::Different("rational") };
        }
        let (mut gold_symbols, mut pred_symbols) = (BTreeSet::new(), BTreeSet::new());
        symbols(gold, &mut gold_symbols);
        symbols(pred, &mut pred_symbols);
        if is_open(pred) && !is_open(gold) {
            return Equality::Different("not worked out");
        }
        if gold_symbols != pred_symbols {
            return self.fewer_symbols(gold, &gold_symbols, pred, &pred_symbols);
        }
        if gold_symbols.is_empty()
            && let (Some(a), Some(b)) = (complex(gold, 0, &self.fuel), complex(pred, 0, &self.fuel))
            && a.im.abs() < 1e-12
            && b.im.abs() < 1e-12
        {
            // One side a decimal literal, the other exact; or any two numbers, where a share is allowed.
            let value = |c: C64| BigRational::from_float(c.re);
            let (lg, lp) = (literal(gold), literal(pred));
            if let (Some(x), Some(y)) = (g.or_else(|| value(a)), p.or_else(|| value(b)))
                && (lg.is_some() != lp.is_some() || !self.decimal.needs_decimal())
                && self.decimal.accepts(lg, lp, &x, &y)
            {
                return Equality::Equal("rounded");
            }
        }
        if let Some(equal) = identity(gold, pred, &self.fuel) {
            return if equal { Equality::Equal("identity") } else { Equality::Different("identity") };
        }
        match numeric(gold, pred, &self.fuel) {
            Some(true) => Equality::Equal("numeric"),
            Some(false) => Equality::Different("numeric"),
            None if gold == pred => Equality::Equal("same"),
            None => self.parts_of_over(gold, pred),
        }
    }

    /// Sums, products and integrals without a value: the same kind over the same range with the same body.
    fn parts_of_over(&mut self, gold: &Expr, pred: &Expr) -> Equality {
        if let (Expr::Over(a), Expr::Over(b)) = (gold, pred)
            && let Some((a, b)) = same_variable(a, b)
        {
            let ranges = match (&a.range, &b.range) {
                (None, None) => true,
                (Some((low, high)), Some((from, to))) => {
                    self.all_equal([(low, from), (high, to)].into_iter())
                }
                _ => false,
            };
            return Self::verdict(ranges && self.compare(&a.body, &b.body).is_equal(), "body");
        }
        Equality::Different("not comparable")
    }

    /// Expressions of different symbols: a symbol may be missing where it cancels, from the gold only where it stands
    /// within trigonometric functions (`\sin^2 x + \cos^2 x` for 1, but not `x - x + 42` for 42).
    fn fewer_symbols(
        &mut self,
        gold: &Expr,
        of_gold: &BTreeSet<String>,
        pred: &Expr,
        of_pred: &BTreeSet<String>,
    ) -> Equality {
        fn outside(e: &Expr, into: &mut BTreeSet<String>) {
            match e {
                Expr::Call("sin" | "cos" | "tan" | "cot" | "sec" | "csc" | "sinh" | "cosh" | "tanh", _) => {}
                Expr::Sym(_) => symbols(e, into),
                other => other.parts().into_iter().for_each(|part| outside(part, into)),
            }
        }
        let mut plain = BTreeSet::new();
        outside(pred, &mut plain);
        if !plain.is_subset(of_gold)
            || is_open(gold)
            || !of_pred.is_subset(of_gold) && !of_gold.is_subset(of_pred)
        {
            return Equality::Different("symbols");
        }
        let same = identity(gold, pred, &self.fuel).or_else(|| numeric(gold, pred, &self.fuel));
        Self::verdict(same == Some(true), "identity")
    }

    pub(super) fn all_equal<'a>(&mut self, pairs: impl Iterator<Item = (&'a Expr, &'a Expr)>) -> bool {
        for (a, b) in pairs {
            if !self.compare(a, b).is_equal() {
                return false;
            }
        }
        true
    }

    pub(super) fn verdict(equal: bool, rule: &'static str) -> Equality {
        if equal { Equality::Equal(rule) } else { Equality::Different(rule) }
    }

    /// Lists and sets, without order; repeated items count once.
    fn collection(&mut self, gold: &Expr, pred: &Expr) -> Equality {
        match with_parameter_of(gold, pred) {
            Some(Ok(renamed)) => return self.collection(gold, &renamed),
            Some(Err(())) => return Equality::Different("parameter"),
            None => {}
        }
        if let Some((gold, pred)) = without_declaration(gold, pred) {
            return self.compare(&gold, &pred);
        }
        if let Some(found) = self.named(gold, pred) {
            return found;
        }
        let relations = |e: &Expr| matches!(e, Expr::List(items, _) if items.iter().any(|i| matches!(i, Expr::Chain(..))));
        let union = |e: &Expr| matches!(e, Expr::Union(_) | Expr::Call("setminus", _));
        if (relations(gold) || relations(pred) || union(gold) || union(pred))
            && region(gold).is_some()
            && region(pred).is_some()
        {
            return self.regions(gold, pred);
        }
        let size = |e: &Expr| match e {
            Expr::List(items, _) | Expr::Set(items) => items.len(),
            _ => 0,
        };
        if size(gold) > MAX_ITEMS || size(pred) > MAX_ITEMS {
            return Self::verdict(gold == pred, "set");
        }
        match (items(gold), items(pred)) {
            (Some(a), Some(b)) => {
                let (a, b) = (self.unique(a), self.unique(b));
                let several = a.len() == 1 && b.len() > 1 && matches!(pred, Expr::List(..));
                match a.len() == b.len() && self.matched(&a, b) {
                    true => Equality::Equal("set"),
                    false if several => Equality::Several,
                    false => Equality::Different("set"),
                }
            }
            // A bare list may stand for a tuple: "1, 2" for (1, 2).
            (None, Some(b)) => {
                if let Expr::Tuple(_, a, _) = gold {
                    let named = |e: &Expr| matches!(e, Expr::List(l, Joint::And) if l.iter().all(|i| strip_label(i).is_some()));
                    let bare = matches!(pred, Expr::List(_, Joint::Comma)) || named(pred);
                    return Self::verdict(
                        bare && a.len() == b.len() && self.all_equal(a.iter().zip(&b)),
                        "tuple",
                    );
                }
                let unique = self.unique(b);
                match &unique[..] {
                    [one] => self.compare(gold, one),
                    [_, _, ..] if matches!(pred, Expr::List(..)) => Equality::Several,
                    _ => Equality::Different("kind"),
                }
            }
            (Some(a), None) => {
                if let (Expr::List(_, Joint::Comma), Expr::Tuple('(', b, ')')) = (gold, pred) {
                    return Self::verdict(a.len() == b.len() && self.all_equal(a.iter().zip(b)), "tuple");
                }
                match &self.unique(a)[..] {
                    [one] => self.compare(one, pred),
                    _ => Equality::Different("kind"),
                }
            }
            (None, None) => Equality::Different("kind"),
        }
    }

    fn unique(&mut self, items: Vec<Expr>) -> Vec<Expr> {
        let mut kept: Vec<Expr> = Vec::new();
        for item in items.into_iter().take(MAX_ITEMS + 1) {
            if !kept.iter().any(|other| self.compare(other, &item).is_equal()) {
                kept.push(item);
            }
        }
        kept
    }

    /// Whether every item of `a` has its own equal in `b`; equality is transitive, so the first match will do.
    pub(super) fn matched(&mut self, a: &[Expr], mut b: Vec<Expr>) -> bool {
        a.iter().all(|x| match b.iter().position(|y| self.compare(x, y).is_equal()) {
            Some(at) => {
                b.swap_remove(at);
                true
            }
            None => false,
        })
    }

    /// Tuples, intervals, vectors and matrices, in order.
    fn ordered(&mut self, gold: &Expr, pred: &Expr) -> Equality {
        match (gold, pred) {
            (Expr::Tuple(':', a, _), Expr::Tuple(':', b, _)) => {
                let quotient =
                    |list: &[Expr], i: usize| Expr::Div(Box::new(list[i].clone()), Box::new(list[0].clone()));
                let same = a.len() == b.len()
                    && (1..a.len()).all(|i| self.compare(&quotient(a, i), &quotient(b, i)).is_equal());
                Self::verdict(same, "ratio")
            }
            (Expr::Tuple(o, a, c), Expr::Tuple(p, b, d)) => {
                let same = o == p && c == d && a.len() == b.len() && self.all_equal(a.iter().zip(b));
                Self::verdict(same, "tuple")
            }
            (Expr::Matrix(a), Expr::Matrix(b)) => {
                let shape = a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.len() == y.len());
                let same = shape && self.all_equal(a.iter().flatten().zip(b.iter().flatten()));
                Self::verdict(same, "matrix")
            }
            // Rows in brackets: [[1, 2], [3, 4]].
            (Expr::Matrix(rows), Expr::Tuple(_, items, _))
            | (Expr::Tuple(_, items, _), Expr::Matrix(rows))
                if rows.len() > 1
                    && rows.len() == items.len()
                    && rows
                        .iter()
                        .zip(items)
                        .all(|(r, i)| matches!(i, Expr::Tuple(_, l, _) if l.len() == r.len())) =>
            {
                let cells: Vec<&Expr> = (items.iter())
                    .flat_map(|i| if let Expr::Tuple(_, l, _) = i { l.iter() } else { [].iter() })
                    .collect();
                Self::verdict(self.all_equal(rows.iter().flatten().zip(cells)), "matrix")
            }
            // A column or row may be written as a tuple.
            (Expr::Matrix(rows), Expr::Tuple(_, items, _))
            | (Expr::Tuple(_, items, _), Expr::Matrix(rows)) => {
                let vector = rows.len() == 1 || rows.iter().all(|r| r.len() == 1);
                let cells: Vec<&Expr> = rows.iter().flatten().collect();
                let same = vector
                    && cells.len() == items.len()
                    && self.all_equal(cells.into_iter().zip(items.iter()));
                Self::verdict(same, "vector")
            }
            _ => self.regions(gold, pred),
        }
    }
}

/// Identity of two rational functions by their values at a point of each of two prime fields.
fn identity(a: &Expr, b: &Expr, fuel: &Fuel) -> Option<bool> {
    for (index, seed) in [(0, 11), (1, 12)] {
        let field = Field::new(index, seed, fuel);
        if field.sub(field.eval(a)?, field.eval(b)?) != 0 {
            return Some(false);
        }
    }
    Some(true)
}

pub fn close(a: C64, b: C64) -> bool {
    let scale = a.abs().max(b.abs());
    // Only cancellation gives such a value; 1e-12 is its noise for operands near 1.
    scale < 1e-12
        || a.sub(b).abs() <= TOLERANCE * scale
        || (a.abs() < 1e-14 || b.abs() < 1e-14) && scale < 1e-11
}

/// Equality by double-precision values: at one point for constants, at five for functions. A negative sample counts only
/// where both sides are real or both are not.
fn numeric(a: &Expr, b: &Expr, fuel: &Fuel) -> Option<bool> {
    let mut free = BTreeSet::new();
    symbols(a, &mut free);
    symbols(b, &mut free);
    let points: &[u64] = if free.is_empty() { &[0] } else { &[0, 2, 4, 1, 3] };
    let mut compared = 0;
    for &point in points {
        let (Some(x), Some(y)) = (complex(a, point, fuel), complex(b, point, fuel)) else { continue };
        if point % 2 == 1 && (x.im.abs() > 1e-12 || y.im.abs() > 1e-12) {
            continue;
        }
        if !close(x, y) {
            return Some(false);
        }
        compared += 1;
    }
    (compared > 0).then_some(true)
}

/// Decimal literal: its significant digits and decimal places.
fn literal(e: &Expr) -> Option<(u32, BigRational)> {
    match e {
        Expr::Neg(inner) | Expr::Percent(inner) | Expr::Degree(inner) => literal(inner),
        Expr::Num { value, digits: Some(digits) } => {
            // One unit in the last place: the denominator that the literal was written with is lost to reduction, so it
            // comes from the size and the digit count.
            let size = value.abs();
            if size.is_zero() {
                return None;
            }
            let magnitude = size.to_f64()?.log10().floor() as i64;
            let place = magnitude + 1 - i64::from(*digits);
            let ten = BigRational::from_integer(BigInt::from(10));
            Some((*digits, ten.pow(i32::try_from(place).ok()?)))
        }
        _ => None,
    }
}

/// Whether π occurs in it.
fn has_pi(e: &Expr) -> bool {
    e.any(&|e| matches!(e, Expr::Sym(name) if name == "pi"))
}
