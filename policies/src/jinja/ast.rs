//! What a template parses to. Chains (`a + b + c`, `x.y|f`, `elif`) are lists, so that the depth of the tree is the depth
//! of nesting in the source, which the parser bounds.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Statements of a template, with the loops and macros that values refer to by index.
#[derive(Debug, Default)]
pub(super) struct Ast {
    pub(super) body: Vec<Stmt>,
    pub(super) loops: Vec<ForLoop>,
    pub(super) macros: Vec<Macro>,
    /// Names that are read somewhere, and names that are set somewhere.
    pub(super) reads: BTreeSet<Arc<str>>,
    pub(super) binds: BTreeSet<Arc<str>>,
}

#[derive(Debug)]
pub(super) struct Stmt {
    pub(super) line: u32,
    pub(super) kind: StmtKind,
}

#[derive(Debug)]
pub(super) enum StmtKind {
    Data(Arc<str>),
    Print(Expr),
    If {
        branches: Vec<(Expr, Vec<Stmt>)>,
        otherwise: Vec<Stmt>,
    },
    /// Index into [`Ast::loops`].
    For(usize),
    /// Index into [`Ast::macros`]; the definition binds the macro's name.
    Macro(usize),
    /// `{% call %}`: a call with the macro of that index as `caller`.
    CallBlock {
        callee: Expr,
        args: Args,
        caller: usize,
    },
    Set {
        target: Target,
        value: Expr,
    },
    /// `{% set x %}…{% endset %}`, with filters applied to the text.
    SetBlock {
        target: Target,
        filters: Vec<Step>,
        body: Vec<Stmt>,
    },
    With {
        bindings: Vec<(Target, Expr)>,
        body: Vec<Stmt>,
    },
    FilterBlock {
        filters: Vec<Step>,
        body: Vec<Stmt>,
    },
    /// What the assistant says: `{% generation %}`.
    Generation(Vec<Stmt>),
    /// A body with names of its own: `{% block %}`, `{% autoescape false %}`.
    Scope {
        body: Vec<Stmt>,
        from_root: bool,
    },
    Break,
    Continue,
    /// A tag that needs other templates, which a chat template does not have.
    Unsupported(&'static str),
}

#[derive(Debug)]
pub(super) struct ForLoop {
    pub(super) target: Target,
    pub(super) iterable: Expr,
    pub(super) condition: Option<Expr>,
    pub(super) recursive: bool,
    pub(super) body: Vec<Stmt>,
    pub(super) otherwise: Vec<Stmt>,
}

#[derive(Debug)]
pub(super) struct Macro {
    pub(super) name: Arc<str>,
    pub(super) parameters: Vec<(Arc<str>, Option<Expr>)>,
    pub(super) body: Vec<Stmt>,
    /// Which of the special names the body uses; without them, further arguments are errors.
    pub(super) uses_caller: bool,
    pub(super) uses_varargs: bool,
    pub(super) uses_kwargs: bool,
}

/// What an assignment writes to.
#[derive(Debug)]
pub(super) enum Target {
    Name(Arc<str>),
    /// An attribute of a namespace.
    Attribute(Arc<str>, Arc<str>),
    Tuple(Vec<Target>),
}

#[derive(Debug)]
pub(super) struct Expr {
    pub(super) line: u32,
    pub(super) kind: ExprKind,
}

#[derive(Debug)]
pub(super) enum ExprKind {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Arc<str>),
    Name(Arc<str>),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// A value with what follows it: attributes, subscripts, calls, filters, tests.
    Steps(Box<Expr>, Vec<Step>),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    Math(Box<Expr>, Vec<(MathOp, Expr)>),
    Concat(Vec<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Compare(Box<Expr>, Vec<(CompareOp, Expr)>),
    /// `then if test else otherwise`.
    Conditional {
        test: Box<Expr>,
        then: Box<Expr>,
        otherwise: Option<Box<Expr>>,
    },
}

#[derive(Debug)]
pub(super) struct Step {
    pub(super) line: u32,
    pub(super) kind: StepKind,
}

#[derive(Debug)]
pub(super) enum StepKind {
    Attribute(Arc<str>),
    Item(Expr),
    Slice(Box<[Option<Expr>; 3]>),
    Call(Args),
    Filter(Arc<str>, Args),
    Test { name: Arc<str>, args: Args, negated: bool },
}

/// Arguments of a call, filter or test.
#[derive(Debug, Default)]
pub(super) struct Args {
    pub(super) positional: Vec<Expr>,
    pub(super) named: Vec<(Arc<str>, Expr)>,
    /// `*values` and `**mapping`.
    pub(super) unpacked: Option<Box<Expr>>,
    pub(super) unpacked_named: Option<Box<Expr>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MathOp {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CompareOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}
