//! Brackets and matrices: groups, sets, tuples, intervals.

use super::expr::{Expr, Joint};
use super::parse::Parser;
use super::token::{Rel, Tok, Token};

impl Parser {
    pub(super) fn bracket(&mut self, open: char) -> Option<Expr> {
        let bars = std::mem::replace(&mut self.bars, 0);
        if open == 'S' || open == '{' {
            self.skip_builder();
        }
        if let Some(Tok::Close(close)) = self.peek() {
            let close = *close;
            self.at += 1;
            self.bars = bars;
            return match (open, close) {
                ('S' | '{', _) => Some(Expr::Set(Vec::new())),
                _ => None,
            };
        }
        let inner = self.nested(|p| p.sequence(false));
        self.bars = bars;
        let inner = self.infix(inner?)?;
        let outward =
            matches!((open, &inner), ('[' | ']', Expr::List(items, Joint::Comma)) if items.len() == 2);
        let close = self.closing(open, outward)?;
        let open = if open == ']' { '(' } else { open };
        Some(match (open, close) {
            ('F', _) => Expr::Call("floor", vec![inner]),
            ('C', _) => Expr::Call("ceil", vec![inner]),
            ('A', _) => Expr::Call("abs", vec![inner]),
            ('S', _) => match inner {
                // A condition in several parts.
                Expr::List(items, joint) if items.iter().all(|i| matches!(i, Expr::Chain(..))) => {
                    Expr::List(items, joint)
                }
                Expr::List(items, _) => Expr::Set(items),
                chain @ Expr::Chain(..) => chain,
                one => Expr::Set(vec![one]),
            },
            ('{', '}') => match inner {
                Expr::List(items, Joint::Comma) => Expr::Set(items),
                one => one,
            },
            ('{', _) | (_, '}' | 'S') => return None,
            ('<', _) | (_, '<') => match inner {
                Expr::List(items, Joint::Comma) => Expr::Tuple('(', items, ')'),
                one => one,
            },
            (open, close) => match inner {
                Expr::List(items, Joint::Comma) => Expr::Tuple(open, items, close),
                one if open == '[' && close == ']' && matches!(one, Expr::Tuple(..)) => {
                    Expr::Matrix(vec![vec![one]])
                }
                one if matches!((open, close), ('(', ')') | ('[', ']')) => one,
                _ => return None,
            },
        })
    }

    /// What closes a bracket; in `outward` brackets of an interval another opening one may.
    fn closing(&mut self, open: char, outward: bool) -> Option<char> {
        Some(match self.peek() {
            // [2, 5[ leaves the 5 out.
            Some(Tok::Open('[')) if outward => {
                self.at += 1;
                ')'
            }
            Some(Tok::Close(close)) => {
                let close = *close;
                self.at += 1;
                close
            }
            // Recovery: the end of the span closes what is open.
            None => match open {
                '(' => ')',
                '[' => ']',
                '{' => '}',
                same => same,
            },
            // "5 \text{ cm}" within a group.
            Some(Tok::Text(_)) => {
                while matches!(self.peek(), Some(Tok::Text(_))) {
                    self.at += 1;
                }
                match self.peek() {
                    Some(Tok::Close(close)) => {
                        let close = *close;
                        self.at += 1;
                        close
                    }
                    _ => return None,
                }
            }
            _ => return None,
        })
    }

    /// `{x | x > 2}` and `{x ∈ ℝ : x > 2}`: what counts is the condition.
    fn skip_builder(&mut self) {
        for ahead in 1..8 {
            match self.peek_at(ahead) {
                Some(Tok::Bar | Tok::Op(':')) => {
                    let head =
                        (0..ahead).all(|i| matches!(self.peek_at(i), Some(Tok::Sym(_) | Tok::Rel(Rel::In))));
                    if head {
                        self.at += ahead + 1;
                    }
                    return;
                }
                Some(Tok::Close(_)) | None => return,
                _ => {}
            }
        }
    }

    pub(super) fn matrix(&mut self, env: &str) -> Option<Expr> {
        if matches!(env, "cases" | "aligned" | "align" | "align*" | "gathered") {
            return self.system();
        }
        if !(env.ends_with("matrix") || env.starts_with("array")) {
            return None;
        }
        let mut rows = vec![Vec::new()];
        loop {
            match self.peek()? {
                Tok::End => {
                    self.at += 1;
                    break;
                }
                Tok::Row => {
                    self.at += 1;
                    rows.push(Vec::new());
                }
                Tok::Amp => self.at += 1,
                _ => {
                    let cell = self.nested(Self::sum)?;
                    rows.last_mut()?.push(cell);
                }
            }
        }
        rows.retain(|r| !r.is_empty());
        let matrix = Expr::Matrix(rows);
        Some(if env == "vmatrix" { Expr::Call("det", vec![matrix]) } else { matrix })
    }

    /// Equations below each other, all of which hold; what has conditions beside its rows is no system.
    fn system(&mut self) -> Option<Expr> {
        let mut rows = Vec::new();
        loop {
            match self.peek()? {
                Tok::End => {
                    self.at += 1;
                    break;
                }
                Tok::Row | Tok::Comma | Tok::Semi => self.at += 1,
                _ => rows.push(self.nested(Self::row)?),
            }
        }
        let equations = rows.iter().all(|row| matches!(row, Expr::Chain(..)));
        match rows.len() {
            0 => None,
            1 => equations.then(|| rows.remove(0)),
            _ => equations.then_some(Expr::List(rows, Joint::And)),
        }
    }

    /// `x &= 3`: the mark of alignment beside the sign goes.
    fn row(&mut self) -> Option<Expr> {
        let end =
            (self.tokens[self.at..].iter()).position(|t| matches!(t.tok, Tok::Row | Tok::End))? + self.at;
        let sign = |t: Option<&Token>| matches!(t.map(|t| &t.tok), Some(Tok::Rel(_)));
        let mark = (self.at..end).find(|i| {
            self.tokens[*i].tok == Tok::Amp
                && (sign(self.tokens.get(i + 1)) || sign(self.tokens.get(i.wrapping_sub(1))))
        });
        if let Some(mark) = mark {
            self.tokens.remove(mark);
        }
        self.relation()
    }
}
