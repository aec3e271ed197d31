//! Sets without elements: `A \\cap B^c` and `A \\setminus B` are equal as statements about membership.

use super::expr::Expr;

/// Names of sets in one comparison; a truth table has a bit for every combination.
const MAX_NAMES: usize = 6;

/// Whether two expressions of unions, intersections, differences and complements describe the same set; none where one
/// has anything else in it.
pub fn same_set(a: &Expr, b: &Expr) -> Option<bool> {
    let mut names = Vec::new();
    let tables = (table(a, &mut names)?, table(b, &mut names)?);
    let operates = |e: &Expr| has_operation(e) || matches!(e, Expr::Sym(_));
    (operates(a) && operates(b)).then_some(tables.0 == tables.1)
}

/// Whether it has a union, an intersection or a difference.
pub fn has_operation(e: &Expr) -> bool {
    e.any(&|e| matches!(e, Expr::Union(_) | Expr::Call("cap" | "setminus", _)))
}

fn table(e: &Expr, names: &mut Vec<String>) -> Option<u64> {
    match e {
        Expr::Sym(name) => match name.strip_suffix(['\'', '\u{305}']) {
            Some(base) => Some(!table(&Expr::Sym(base.into()), names)?),
            None => {
                let at = match names.iter().position(|n| n == name) {
                    Some(at) => at,
                    None => {
                        names.push(name.clone());
                        names.len() - 1
                    }
                };
                let column = |row: u64| (row >> at & 1) << row;
                (at < MAX_NAMES).then(|| (0..64).map(column).sum())
            }
        },
        Expr::Union(list) => list.iter().try_fold(0, |all, part| Some(all | table(part, names)?)),
        Expr::Call("cap", list) => {
            list.iter().try_fold(u64::MAX, |all, part| Some(all & table(part, names)?))
        }
        Expr::Call("setminus", list) => match list.as_slice() {
            [all, cut] => Some(table(all, names)? & !table(cut, names)?),
            _ => None,
        },
        Expr::Call("overline", list) => match list.as_slice() {
            [one] => Some(!table(one, names)?),
            _ => None,
        },
        Expr::Pow(base, mark) => match &**mark {
            Expr::Sym(c) if matches!(&**c, "c" | "C" | "\\complement") => Some(!table(base, names)?),
            _ => None,
        },
        _ => None,
    }
}
