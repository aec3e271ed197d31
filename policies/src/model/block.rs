//! One block, forward and backward, of whatever a [`Block`] is made of.
use super::ops::{Backward, Balance, Ops, Routing};
use crate::packed::PackedBatch;
use crate::spec::{Attention, Block, Experts, Gated, Linear, Mlp, Norm, QkNorms};
use crate::targets::Load;

/// What the backward needs of a block's forward.
pub struct Saved<O: Ops> {
    input: O::Mat,
    /// As projected, where the rows' norms changed it behind that.
    projected: Option<O::Mat>,
    qkv: O::Mat,
    seen: O::Seen,
    attended: O::Mat,
    /// Before the norm behind attention.
    attention_out: Option<O::Mat>,
    middle: O::Mat,
    mlp: SavedMlp<O>,
    /// Before the norm behind the MLP.
    mlp_out: Option<O::Mat>,
}

/// With the MLP that it is of.
enum SavedMlp<O: Ops> {
    Gated(Gated, O::Mat),
    Experts { mlp: Experts, routing: Routing, experts: Vec<SavedExpert<O>> },
}

/// Gate and up, and the output, of the rows that went to an expert; nothing where none did.
type SavedExpert<O> = Option<(<O as Ops>::Mat, <O as Ops>::Mat)>;

/// What attention gave, and what its backward needs of it.
pub type Attended<O> = (<O as Ops>::Mat, <O as Ops>::Seen);

/// The input of a half of a block, normed where it has a norm for that.
fn with_norm<O: Ops, R>(o: &O, x: &O::Mat, norm: Option<&Norm>, f: impl FnOnce(&O::Mat) -> R) -> R {
    match norm {
        Some(norm) => f(&o.norm(x, norm)),
        None => f(x),
    }
}

/// `x + residual · out(y · Wᵀ + b)`, and the branch before `out` if it is to be kept.
fn join_linear<O: Ops>(
    o: &O,
    x: O::Mat,
    y: &O::Mat,
    linear: &Linear,
    (out, residual): (Option<&Norm>, f32),
    keep: bool,
) -> (O::Mat, Option<O::Mat>) {
    if out.is_none() && residual == 1.0 {
        return (o.linear(y, linear, Some(x)), None);
    }
    join(o, x, o.linear(y, linear, None), (out, residual), keep)
}

fn join<O: Ops>(
    o: &O,
    x: O::Mat,
    branch: O::Mat,
    (out, residual): (Option<&Norm>, f32),
    keep: bool,
) -> (O::Mat, Option<O::Mat>) {
    match out {
        Some(norm) => {
            let x = o.add(x, &o.exact_norm(&branch, norm, 1.0), residual);
            (x, keep.then_some(branch))
        }
        None => (o.add(x, &branch, residual), None),
    }
}

/// The gradient of the branch that [`join`] added, for the gradient `dx` of its result; none where it is `dx` itself.
fn join_backward<O: Backward>(
    o: &O,
    dx: &O::Mat,
    branch: Option<&O::Mat>,
    (out, residual): (Option<&Norm>, f32),
    rows: usize,
    grads: &mut O::Grads,
) -> Option<O::Mat> {
    match (out, branch) {
        (Some(norm), Some(branch)) => {
            let mut d = o.zeros(rows);
            o.norm_backward(branch, norm, 1.0, o.scaled(dx, residual), &mut d, grads);
            Some(d)
        }
        _ if residual == 1.0 => None,
        _ => Some(o.scaled(dx, residual)),
    }
}

impl<O: Ops> Saved<O> {
    /// Counts which experts the rows went to.
    pub fn count(&self, load: &mut Load, times: &[f32]) {
        match &self.mlp {
            SavedMlp::Gated(..) => {}
            SavedMlp::Experts { routing, .. } => load.count(&routing.rows, &routing.probabilities, times),
        }
    }
}

/// A block of rows: the residual stream behind it, and what the backward needs if `keep`. `attend` is attention in
/// a batch, or of new tokens to a cache.
pub fn forward<O: Ops>(
    o: &O,
    block: &Block,
    x: O::Mat,
    keep: bool,
    attend: impl FnOnce(&Attention, &O::Mat) -> Attended<O>,
) -> (O::Mat, Option<Saved<O>>) {
    let a = &block.attention;
    let input = keep.then(|| o.keep(&x));
    let mut qkv = with_norm(o, &x, block.attention_in.as_ref(), |h| o.linear(h, &a.qkv, None));
    let mut projected = None;
    if let QkNorms::Row { .. } = a.norms {
        let normed = o.norm_queries_and_keys(&qkv, a);
        projected = Some(std::mem::replace(&mut qkv, normed));
    }
    let (attended, seen) = attend(a, &qkv);
    let out = (block.attention_out.as_ref(), block.residual);
    let (x, attention_out) = join_linear(o, x, &attended, &a.out, out, keep);
    let middle = keep.then(|| o.keep(&x));
    let (x, mlp, mlp_out) = mlp_forward(o, block, x, keep);
    let saved = input.zip(middle).map(|(input, middle)| Saved {
        input,
        projected,
        qkv,
        seen,
        attended,
        attention_out,
        middle,
        mlp,
        mlp_out,
    });
    (x, saved)
}

fn mlp_forward<O: Ops>(o: &O, block: &Block, x: O::Mat, keep: bool) -> (O::Mat, SavedMlp<O>, Option<O::Mat>) {
    let out = (block.mlp_out.as_ref(), block.residual);
    match &block.mlp {
        Mlp::Gated(mlp) => {
            let gate_up = with_norm(o, &x, block.mlp_in.as_ref(), |h| o.linear(h, &mlp.gate_up, None));
            let act = o.activate(&gate_up, mlp);
            let (x, branch) = join_linear(o, x, &act, &mlp.down, out, keep);
            (x, SavedMlp::Gated(*mlp, gate_up), branch)
        }
        Mlp::Experts(e) => {
            let (sum, routing, experts) =
                with_norm(o, &x, block.mlp_in.as_ref(), |h| experts_forward(o, e, h, keep));
            let (x, branch) = join(o, x, sum, out, keep);
            (x, SavedMlp::Experts { mlp: e.clone(), routing, experts }, branch)
        }
    }
}

fn experts_forward<O: Ops>(
    o: &O,
    e: &Experts,
    h: &O::Mat,
    keep: bool,
) -> (O::Mat, Routing, Vec<SavedExpert<O>>) {
    let routing = o.route(&o.linear(h, &e.router, None), e);
    let count = routing.probabilities.len() / e.experts.len();
    let mut sum = o.zeros(count);
    let mut saved = Vec::with_capacity(e.experts.len());
    for ((mlp, rows), weights) in e.experts.iter().zip(&routing.rows).zip(&routing.weights) {
        if rows.is_empty() {
            saved.push(None);
            continue;
        }
        let gate_up = o.linear(&o.gather(h, rows), &mlp.gate_up, None);
        let y = o.linear(&o.activate(&gate_up, mlp), &mlp.down, None);
        o.scatter(&mut sum, &y, rows, weights);
        saved.push(keep.then_some((gate_up, y)));
    }
    (sum, routing, saved)
}

/// Turns the gradient `dx` of a block's output into that of its input. `balance` is what is added to the gradients of the
/// probabilities of experts.
pub fn backward<O: Backward>(
    o: &O,
    block: &Block,
    saved: Saved<O>,
    balance: Option<Balance<'_>>,
    (batch, rows): (&PackedBatch, &O::Rows),
    dx: &mut O::Mat,
    grads: &mut O::Grads,
) {
    let Saved { input, projected, qkv, seen, attended, attention_out, middle, mlp, mlp_out } = saved;
    let n = batch.rows();
    let out = (block.mlp_out.as_ref(), block.residual);
    let branch = join_backward(o, dx, mlp_out.as_ref(), out, n, grads);
    let dy = branch.as_ref().unwrap_or(dx);
    let norm = block.mlp_in.as_ref();
    let h = normed(o, &middle, norm);
    let dh = match mlp {
        SavedMlp::Gated(mlp, gate_up) => gated_backward(o, &mlp, gate_up, h, dy, grads),
        SavedMlp::Experts { mlp, routing, experts } => {
            experts_backward(o, &mlp, (&routing, experts, balance), h, dy, grads)
        }
    };
    into_residual(o, &middle, norm, dh, dx, grads);
    drop(middle);

    let a = &block.attention;
    let out = (block.attention_out.as_ref(), block.residual);
    let branch = join_backward(o, dx, attention_out.as_ref(), out, n, grads);
    let d_out = o.linear_backward(attended, branch.as_ref().unwrap_or(dx), &a.out, grads);
    let mut d_qkv = o.attend_backward(&qkv, &seen, a, (batch, rows), d_out, grads);
    drop((qkv, seen));
    if let Some(projected) = projected {
        d_qkv = o.norm_queries_and_keys_backward(&projected, a, d_qkv, grads);
    }
    let norm = block.attention_in.as_ref();
    let dh = o.linear_backward(normed(o, &input, norm), &d_qkv, &a.qkv, grads);
    into_residual(o, &input, norm, dh, dx, grads);
}

fn normed<O: Ops>(o: &O, x: &O::Mat, norm: Option<&Norm>) -> O::Mat {
    match norm {
        Some(norm) => o.norm(x, norm),
        None => o.keep(x),
    }
}

/// Adds the gradient `dh` of the input of half a block, normed or not, to that of the residual stream.
fn into_residual<O: Backward>(
    o: &O,
    x: &O::Mat,
    norm: Option<&Norm>,
    dh: O::Mat,
    dx: &mut O::Mat,
    grads: &mut O::Grads,
) {
    match norm {
        Some(norm) => o.norm_backward(x, norm, 1.0, dh, dx, grads),
        None => o.accumulate(dx, &dh),
    }
}

fn gated_backward<O: Backward>(
    o: &O,
    mlp: &Gated,
    gate_up: O::Mat,
    h: O::Mat,
    dy: &O::Mat,
    grads: &mut O::Grads,
) -> O::Mat {
    let act = o.activate(&gate_up, mlp);
    let d_act = o.linear_backward(act, dy, &mlp.down, grads);
    let d_gate_up = o.activate_backward(gate_up, &d_act, mlp);
    drop(d_act);
    o.linear_backward(h, &d_gate_up, &mlp.gate_up, grads)
}

fn experts_backward<O: Backward>(
    o: &O,
    e: &Experts,
    (routing, saved, balance): (&Routing, Vec<SavedExpert<O>>, Option<Balance<'_>>),
    h: O::Mat,
    dy: &O::Mat,
    grads: &mut O::Grads,
) -> O::Mat {
    let count = routing.probabilities.len() / e.experts.len();
    let mut dh = o.zeros(count);
    let mut d_weights: Vec<Vec<f32>> = Vec::with_capacity(e.experts.len());
    let of_experts = e.experts.iter().zip(saved).zip(routing.rows.iter().zip(&routing.weights));
    for ((mlp, saved), (rows, weights)) in of_experts {
        let Some((gate_up, y)) = saved else {
            d_weights.push(Vec::new());
            continue;
        };
        let (dy, d_weight) = o.scatter_backward(dy, &y, rows, weights);
        let dx = gated_backward(o, mlp, gate_up, o.gather(&h, rows), &dy, grads);
        o.scatter(&mut dh, &dx, rows, &vec![1.0; rows.len()]);
        d_weights.push(d_weight);
    }
    let d_scores = o.route_backward(routing, &d_weights, balance, e);
    let d_router = o.linear_backward(h, &d_scores, &e.router, grads);
    o.accumulate(&mut dh, &d_router);
    dh
}
