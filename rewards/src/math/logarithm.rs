//! `\log` without a base: decimal in one book, natural in the next.

use super::expr::Expr;

/// The parts of an expression that may hold a function.
fn parts(e: &Expr) -> Vec<&Expr> {
    match e {
        Expr::Neg(a) | Expr::Percent(a) | Expr::Degree(a) => vec![a],
        Expr::Div(a, b) | Expr::Pow(a, b) => vec![a, b],
        Expr::Add(list) | Expr::Mul(list) | Expr::Call(_, list) => list.iter().collect(),
        _ => Vec::new(),
    }
}

fn calls(e: &Expr, name: &str) -> bool {
    matches!(e, Expr::Call(function, args) if *function == name && args.len() == 1)
        || parts(e).into_iter().any(|part| calls(part, name))
}

/// `e` with every `log` without a base as the natural one.
fn natural(e: &Expr) -> Expr {
    let boxed = |e: &Expr| Box::new(natural(e));
    let list = |list: &[Expr]| list.iter().map(natural).collect();
    match e {
        Expr::Neg(a) => Expr::Neg(boxed(a)),
        Expr::Percent(a) => Expr::Percent(boxed(a)),
        Expr::Degree(a) => Expr::Degree(boxed(a)),
        Expr::Div(a, b) => Expr::Div(boxed(a), boxed(b)),
        Expr::Pow(a, b) => Expr::Pow(boxed(a), boxed(b)),
        Expr::Add(terms) => Expr::Add(list(terms)),
        Expr::Mul(factors) => Expr::Mul(list(factors)),
        Expr::Call("log", args) if args.len() == 1 => Expr::Call("ln", list(args)),
        Expr::Call(name, args) => Expr::Call(name, list(args)),
        other => other.clone(),
    }
}

/// Both sides with natural logarithms, where one writes `ln` and the other `log`.
pub fn natural_pair(a: &Expr, b: &Expr) -> Option<(Expr, Expr)> {
    let [a_log, b_log] = [a, b].map(|e| calls(e, "log"));
    let mixed = a_log && !b_log && calls(b, "ln") || b_log && !a_log && calls(a, "ln");
    mixed.then(|| (natural(a), natural(b)))
}
