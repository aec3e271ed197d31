//! The free parameter of a family of values: the `n` of `n\pi, n \in \mathbb{Z}`, whose name does not matter.

use std::collections::BTreeSet;

use super::eval::symbols;
use super::expr::Expr;
use super::token::Rel;

/// The parameter that the last item of a list takes from a set of numbers.
fn parameter(e: &Expr) -> Option<&str> {
    let Expr::List(items, _) = e else { return None };
    let Expr::Chain(sides, signs) = items.last().filter(|_| items.len() > 1)? else { return None };
    match (sides.as_slice(), signs.as_slice()) {
        ([Expr::Sym(name), Expr::Sym(set)], [Rel::In]) if set.starts_with("\\mathbb") => Some(name),
        _ => None,
    }
}

fn renamed(e: &Expr, from: &str, to: &str) -> Expr {
    match e {
        Expr::Sym(name) if name == from => Expr::Sym(to.into()),
        other => other.map(&|part| renamed(part, from, to)),
    }
}

/// The family `pred` with the parameter of `gold`. None where they have the same one, or one is no family; an error where
/// `pred` has that symbol beside a parameter of its own.
pub fn with_parameter_of(gold: &Expr, pred: &Expr) -> Option<Result<Expr, ()>> {
    let (wanted, own) = (parameter(gold)?, parameter(pred)?);
    if wanted == own {
        return None;
    }
    let mut free = BTreeSet::new();
    if let Expr::List(items, _) = pred {
        for item in items {
            match item {
                Expr::Chain(sides, _) => sides.iter().for_each(|side| symbols(side, &mut free)),
                other => symbols(other, &mut free),
            }
        }
    }
    Some(if free.contains(wanted) { Err(()) } else { Ok(renamed(pred, own, wanted)) })
}

/// Both sides without the set of a parameter that only one of them names: `k\pi, k \in \mathbb{Z}` says what `k\pi` does.
/// None where both or neither name one, or the other side does not have that symbol.
pub fn without_declaration(gold: &Expr, pred: &Expr) -> Option<(Expr, Expr)> {
    let bare = |family: &Expr, other: &Expr| {
        let name = parameter(family)?;
        let mut free = BTreeSet::new();
        symbols(other, &mut free);
        let Expr::List(items, joint) = family else { return None };
        let rest = items.split_last().filter(|_| free.contains(name))?.1;
        Some(match rest {
            [one] => one.clone(),
            rest => Expr::List(rest.to_vec(), *joint),
        })
    };
    match (parameter(gold), parameter(pred)) {
        (Some(_), None) => Some((bare(gold, pred)?, pred.clone())),
        (None, Some(_)) => Some((gold.clone(), bare(pred, gold)?)),
        _ => None,
    }
}
