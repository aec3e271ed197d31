//! Expressions that stand for others: `±` for two values, a number times a matrix for a matrix.

use super::expr::{Expr, Joint, integer};

/// The two values of an expression with ±; none without one.
pub fn expand_pm(e: &Expr) -> Option<Expr> {
    // Where the parts of lists and sets have one, each item is expanded by itself.
    fn has(e: &Expr) -> bool {
        match e {
            Expr::Pm(..) => true,
            Expr::List(..) | Expr::Set(_) | Expr::Union(_) | Expr::Matrix(_) | Expr::Over(_) => false,
            other => other.parts().into_iter().any(has),
        }
    }
    fn pick(e: &Expr, up: bool) -> Expr {
        match e {
            Expr::Pm(l, r, plus) => {
                let right = pick(r, up);
                let right = if *plus == up { right } else { Expr::Neg(Box::new(right)) };
                match &**l {
                    zero if *zero == integer(0) => right,
                    l => Expr::Add(vec![pick(l, up), right]),
                }
            }
            other => other.map(&|part| pick(part, up)),
        }
    }
    has(e).then(|| Expr::List(vec![pick(e, true), pick(e, false)], Joint::Comma))
}

/// A number times a matrix, or a sum of matrices, as one matrix.
pub fn vector(e: &Expr) -> Option<Expr> {
    let scaled = |cells: &[Vec<Expr>], by: &dyn Fn(&Expr) -> Expr| {
        Expr::Matrix(cells.iter().map(|row| row.iter().map(by).collect()).collect())
    };
    match e {
        Expr::Neg(inner) => match &**inner {
            Expr::Matrix(cells) => Some(scaled(cells, &|c| Expr::Neg(Box::new(c.clone())))),
            _ => None,
        },
        Expr::Mul(factors) => {
            let at = factors.iter().position(|f| matches!(f, Expr::Matrix(_)))?;
            let Expr::Matrix(cells) = &factors[at] else { return None };
            let others: Vec<Expr> =
                factors.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, f)| f.clone()).collect();
            if others.iter().any(|f| matches!(f, Expr::Matrix(_) | Expr::Tuple(..))) {
                return None;
            }
            Some(scaled(cells, &|c| {
                let mut product = others.clone();
                product.push(c.clone());
                Expr::Mul(product)
            }))
        }
        Expr::Div(inner, by) => match &**inner {
            Expr::Matrix(cells) => Some(scaled(cells, &|c| Expr::Div(Box::new(c.clone()), by.clone()))),
            _ => None,
        },
        _ => None,
    }
}
