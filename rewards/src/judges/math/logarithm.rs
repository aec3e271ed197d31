//! `\log` without a base: decimal in one book, natural in the next.

use super::expr::Expr;

fn calls(e: &Expr, name: &str) -> bool {
    e.any(&|e| matches!(e, Expr::Call(function, args) if *function == name && args.len() == 1))
}

/// `e` with every `log` without a base as the natural one.
fn natural(e: &Expr) -> Expr {
    match e {
        Expr::Call("log", args) if args.len() == 1 => Expr::Call("ln", vec![natural(&args[0])]),
        other => other.map(&natural),
    }
}

/// Both sides with natural logarithms, where one writes `ln` and the other `log`.
pub fn natural_pair(a: &Expr, b: &Expr) -> Option<(Expr, Expr)> {
    let [a_log, b_log] = [a, b].map(|e| calls(e, "log"));
    let mixed = a_log && !b_log && calls(b, "ln") || b_log && !a_log && calls(a, "ln");
    mixed.then(|| (natural(a), natural(b)))
}
