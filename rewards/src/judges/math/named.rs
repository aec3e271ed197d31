//! Names in front of values: `x = 5`, `f(x) = …`, `S : S = 7 : 32`, and values that are compared by their names.

use std::collections::BTreeSet;

use num_traits::Zero;

use super::equal::{Comparison, Equality, MAX_ITEMS};
use super::eval::symbols;
use super::expand::expand_pm;
use super::expr::{Expr, Joint};
use super::over::is_open;
use super::token::Rel;

/// `f(x)`, `P(A)`, `f^{-1}(x)`: a symbol applied to something.
pub fn is_applied(e: &Expr) -> bool {
    let is_function = |e: &Expr| match e {
        Expr::Sym(_) => true,
        Expr::Pow(base, power) => matches!((&**base, &**power), (Expr::Sym(_), Expr::Neg(_))),
        _ => false,
    };
    matches!(e, Expr::Mul(list) if list.len() == 2 && is_function(&list[0]))
}

/// Whether an expression can be the name of a value.
pub fn is_label(e: &Expr) -> bool {
    match e {
        Expr::Sym(name) => !matches!(&**name, "pi" | "e"),
        Expr::Text(_) => true,
        Expr::Tuple(_, items, _) => items.iter().all(|i| matches!(i, Expr::Sym(_))),
        e @ Expr::Mul(list) => {
            // f(x) or a product of words such as AB, never a formula with numbers.
            let letters =
                |n: &str| n == "m" || n.starts_with('\\') || n.chars().all(|c| c.is_ascii_uppercase());
            is_applied(e) || list.iter().all(|f| matches!(f, Expr::Sym(n) if letters(n)))
        }
        Expr::Call("cap" | "setminus", list) | Expr::Union(list) => list
            .iter()
            .all(|part| matches!(part, Expr::Sym(_) | Expr::Call(..) | Expr::Union(_)) && is_label(part)),
        Expr::Call(_, args) => matches!(args.as_slice(), [Expr::Sym(_)] | [Expr::Mul(_)]),
        // S : S' and NO/BO.
        Expr::Div(a, b) => [a, b].iter().all(|part| !matches!(***part, Expr::Div(..)) && is_label(part)),
        _ => false,
    }
}

/// `dy/dx`.
fn is_derivative(e: &Expr) -> bool {
    let d = |e: &Expr| matches!(e, Expr::Mul(list) if matches!(list.first(), Some(Expr::Sym(d)) if d == "d"));
    matches!(e, Expr::Div(a, b) if d(a) && d(b))
}

/// The right side of `x = …`, `f(x) = …`, `x ∈ …`; none when the left side is no label.
pub fn strip_label(e: &Expr) -> Option<&Expr> {
    let Expr::Chain(sides, signs) = e else { return None };
    let says = signs.iter().all(|s| matches!(s, Rel::Eq | Rel::Approx | Rel::In));
    if !says || !is_label(&sides[0]) {
        return None;
    }
    // x = x + 1 and y/x = x are equations.
    if matches!(sides[0], Expr::Sym(_) | Expr::Div(..)) && !is_derivative(&sides[0]) {
        let (mut named, mut inside) = (BTreeSet::new(), BTreeSet::new());
        symbols(&sides[0], &mut named);
        sides[1..].iter().for_each(|s| symbols(s, &mut inside));
        if !named.is_disjoint(&inside) {
            return None;
        }
    }
    sides.get(1)
}

/// Whether the left side of an equation asks for the value that its other sides give: `a + b = 7`, a limit, an infinite
/// sum. Numbers within it would make it an equation that is not solved, but for exponents.
fn asks(left: &Expr, rest: &[Expr]) -> bool {
    // A limit, and 1 + 2 + … + 10.
    let limit = |e: &Expr| matches!(e, Expr::Sym(name) if name.starts_with("\\lim") || matches!(&**name, "\\cdots" | "\\ldots" | "\\dots"));
    if is_open(left) || left.any(&limit) {
        return true;
    }
    fn of_names(e: &Expr) -> bool {
        match e {
            Expr::Sym(_) => true,
            Expr::Pow(base, power) => of_names(base) && matches!(**power, Expr::Num { .. }),
            Expr::Add(_) | Expr::Mul(_) | Expr::Neg(_) | Expr::Div(..) | Expr::Call(..) => {
                e.parts().into_iter().all(of_names)
            }
            _ => false,
        }
    }
    let (mut names, mut known) = (BTreeSet::new(), BTreeSet::new());
    symbols(left, &mut names);
    rest.iter().for_each(|side| symbols(side, &mut known));
    // What equals zero is an equation.
    let zero = |side: &Expr| matches!(side, Expr::Num { value, .. } if value.is_zero());
    of_names(left) && names.len() > 1 && known.is_empty() && !rest.iter().any(zero)
}

/// The sides of a chain of equations that claim the value, those after the first ≈ apart: without the label and without
/// what is asked for.
pub fn members(e: &Expr) -> (Vec<&Expr>, Vec<&Expr>) {
    let Expr::Chain(sides, signs) = e else { return (vec![e], Vec::new()) };
    let skip = usize::from(strip_label(e).is_some() || sides.len() > 1 && asks(&sides[0], &sides[1..]));
    let about = (skip.max(1)..sides.len()).find(|i| *i > skip && signs[i - 1] == Rel::Approx);
    let end = about.unwrap_or(sides.len());
    (sides[skip..end].iter().collect(), sides[end..].iter().collect())
}

/// The items of a list or set with ± expanded; one name in front of all of them is dropped.
pub fn items(e: &Expr) -> Option<Vec<Expr>> {
    let (Expr::List(items, _) | Expr::Set(items)) = e else { return None };
    let mut flat = Vec::new();
    for item in items {
        match expand_pm(item) {
            Some(Expr::List(both, _)) => flat.extend(both),
            _ => flat.push(item.clone()),
        }
    }
    let label = |e: &Expr| match e {
        Expr::Chain(sides, _) if strip_label(e).is_some() => sides.first().cloned(),
        _ => None,
    };
    let first = flat.first().and_then(label);
    let one_name = flat.iter().all(|i| label(i).is_none_or(|l| first.as_ref().is_none_or(|f| *f == l)));
    if one_name {
        flat = flat.iter().map(|i| strip_label(i).unwrap_or(i).clone()).collect();
    }
    Some(flat)
}

/// Values with names. A row has one value for every name.
struct Named {
    names: Vec<Expr>,
    rows: Vec<Vec<Expr>>,
}

impl Named {
    /// The rows in the order of the alphabet.
    fn sorted(mut self) -> Self {
        let mut order: Vec<usize> = (0..self.names.len()).collect();
        let keys: Vec<String> = self.names.iter().map(|name| format!("{name:?}")).collect();
        order.sort_by(|a, b| keys[*a].cmp(&keys[*b]));
        let pick = |list: &[Expr]| order.iter().map(|i| list[*i].clone()).collect::<Vec<_>>();
        self.rows = self.rows.iter().map(|row| pick(row)).collect();
        self.names = pick(&self.names);
        self
    }

    /// Whether the names only number the values of one unknown: `x_1`, `x_2`.
    fn are_numbered(&self) -> bool {
        let base = |e: &Expr| match e {
            Expr::Sym(name) => name.split_once('_').map(|(base, _)| base.to_string()),
            _ => None,
        };
        let first = base(&self.names[0]);
        first.is_some() && self.names.iter().all(|name| base(name) == first)
    }
}

/// The names and values of `x = 1` or `(x, y) = (1, 2)`.
fn assignments(e: &Expr) -> Option<Vec<(Expr, Expr)>> {
    let Expr::Chain(sides, signs) = e else { return None };
    if !signs.iter().all(|s| matches!(s, Rel::Eq | Rel::Approx)) {
        return None;
    }
    let mut free = BTreeSet::new();
    sides[1..].iter().for_each(|side| symbols(side, &mut free));
    // a = 1, …, e = 5: a letter that is given a plain number is a name.
    let letter = matches!(&sides[0], Expr::Sym(name) if matches!(&**name, "e" | "i")) && free.is_empty();
    let value = if letter { sides.get(1)? } else { strip_label(e)? };
    match (&sides[0], value) {
        (Expr::Tuple('(', names, _), Expr::Tuple(_, values, _)) if names.len() == values.len() => {
            Some(names.iter().cloned().zip(values.iter().cloned()).collect())
        }
        (Expr::Tuple(..), _) => None,
        (name, value) => Some(vec![(name.clone(), value.clone())]),
    }
}

/// Values under two or more names, every name as often as the others.
fn named(e: &Expr) -> Option<Named> {
    let items = match e {
        Expr::List(items, _) if items.len() <= MAX_ITEMS => items.as_slice(),
        one @ Expr::Chain(..) => std::slice::from_ref(one),
        _ => return None,
    };
    let mut pairs = Vec::new();
    // (x, y) = (1, 2), (2, 1): the names stand once.
    let mut tuple: Option<Vec<Expr>> = None;
    for item in items {
        match (item, &tuple) {
            (Expr::Tuple('(', values, _), Some(names)) if names.len() == values.len() => {
                pairs.extend(names.iter().cloned().zip(values.iter().cloned()));
            }
            _ => {
                let named = assignments(item)?;
                let is_tuple = matches!(item, Expr::Chain(sides, _) if matches!(sides[0], Expr::Tuple(..)));
                tuple = is_tuple.then(|| named.iter().map(|(name, _)| name.clone()).collect());
                pairs.extend(named);
            }
        }
    }
    let mut names: Vec<Expr> = Vec::new();
    for (name, _) in &pairs {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let width = names.len();
    // "x = 1 or y = 2" leaves open which.
    let open = matches!(e, Expr::List(_, Joint::Or)) && pairs.len() == width;
    if width < 2 || !pairs.len().is_multiple_of(width) || open {
        return None;
    }
    let mut rows = Vec::new();
    for group in pairs.chunks(width) {
        let row: Option<Vec<Expr>> =
            names.iter().map(|name| group.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())).collect();
        rows.push(row?);
    }
    Some(Named { names, rows })
}

/// The items of an ordered answer without names.
fn ordered(e: &Expr) -> Option<&[Expr]> {
    match e {
        Expr::Tuple('(', items, ')') | Expr::List(items, Joint::Comma | Joint::And) => Some(items),
        _ => None,
    }
}

impl Comparison {
    /// Values that have names on one side or both; none where neither has.
    pub(super) fn named(&mut self, gold: &Expr, pred: &Expr) -> Option<Equality> {
        let (a, b) = (named(gold), named(pred));
        let same = match (a, b) {
            (None, None) => return None,
            (Some(a), Some(b)) => {
                let (a, b) = (a.sorted(), b.sorted());
                a.names == b.names && a.rows.len() == b.rows.len() && self.rows_equal(&a.rows, b.rows)
            }
            (Some(named), None) => self.without_names(named, pred, false),
            (None, Some(named)) => self.without_names(named, gold, true),
        };
        Some(Self::verdict(same, "named"))
    }

    /// Every row of `a` has its own equal in `b`.
    fn rows_equal(&mut self, a: &[Vec<Expr>], mut b: Vec<Vec<Expr>>) -> bool {
        a.iter().all(|row| {
            let at =
                b.iter().position(|other| row.len() == other.len() && self.all_equal(row.iter().zip(other)));
            at.map(|at| b.swap_remove(at)).is_some()
        })
    }

    /// Named values against values without names: in the order in which they are written, coordinates of a point in that
    /// of the alphabet, and numbered values of one unknown or those of a reference that is a set in any order.
    fn without_names(&mut self, named: Named, other: &Expr, is_gold: bool) -> bool {
        if named.rows.len() > 1 {
            let (Expr::List(items, _) | Expr::Set(items)) = other else { return false };
            let rows: Option<Vec<Vec<Expr>>> =
                items.iter().map(|i| ordered(i).map(<[Expr]>::to_vec)).collect();
            let Some(rows) = rows.filter(|rows| rows.len() == named.rows.len()) else { return false };
            return self.rows_equal(&named.rows, rows.clone()) || self.rows_equal(&named.sorted().rows, rows);
        }
        let set = match other {
            Expr::Set(_) => is_gold || named.are_numbered(),
            Expr::List(..) => named.are_numbered(),
            _ => false,
        };
        if set && let Some(items) = items(other) {
            return items.len() == named.names.len() && self.matched(&named.rows[0], items);
        }
        let Some(items) = ordered(other).filter(|items| items.len() == named.names.len()) else {
            return false;
        };
        let letters = named.names.iter().all(|name| matches!(name, Expr::Sym(s) if s.len() == 1));
        let row = match matches!(other, Expr::Tuple(..)) && letters {
            true => named.sorted().rows.swap_remove(0),
            false => named.rows[0].clone(),
        };
        self.all_equal(row.iter().zip(items))
    }
}
