//! Whole passes: log-probabilities, logits, training, and the logits of prompts and of new tokens.
use super::block::{self, Attended, Saved};
use super::ops::{Backward, Balance, HeadPass, Ops};
use crate::packed::{PackedBatch, PromptGroup};
use crate::spec::{Attention, Mlp, Model};
use crate::targets::{Load, TargetGrads, TargetStats};
use crate::trained::Depth;

/// Residual stream behind all blocks, nothing kept; `attend` is given the index of the layer.
pub fn residual<O: Ops>(
    o: &O,
    model: &Model,
    tokens: O::Mat,
    mut attend: impl FnMut(usize, &Attention, &O::Mat) -> Attended<O>,
) -> O::Mat {
    let mut x = tokens;
    for (i, b) in model.blocks.iter().enumerate() {
        x = block::forward(o, b, x, false, |a, qkv| attend(i, a, qkv)).0;
        add_deep(o, &mut x, i);
    }
    x
}

/// The embeddings of a batch's tokens, and in the rows of pictures what those are.
pub fn embedded<O: Ops>(o: &O, model: &Model, tokens: &[u32]) -> O::Mat {
    let mut x = o.embed(&model.embed, tokens);
    if let Some(placed) = o.pictures() {
        o.put(&mut x, &placed.features, &placed.rows);
    }
    x
}

/// Adds to the rows of pictures what a tower gives them behind a block.
fn add_deep<O: Ops>(o: &O, x: &mut O::Mat, block: usize) {
    if let Some(placed) = o.pictures()
        && let Some(deep) = placed.deep.get(block)
    {
        o.scatter(x, deep, &placed.rows, &[]);
    }
}

fn residual_of<O: Ops>(o: &O, model: &Model, batch: &PackedBatch) -> O::Mat {
    let rows = o.rows(batch);
    let x = embedded(o, model, &batch.tokens);
    residual(o, model, x, |_, a, qkv| o.attend(qkv, a, (batch, &rows)))
}

/// Log-probability and entropy of a batch's targets, without gradient.
pub fn logprobs<O: Ops>(o: &O, model: &Model, batch: &PackedBatch, temperature: f64) -> TargetStats {
    targets_of(o, model, batch, temperature, &residual_of(o, model, batch))
}

/// The same, and `seen` is given the logits `[targets, vocab]` at temperature 1, a few targets at a time in their order.
pub fn logprobs_and_logits<O: Ops>(
    o: &O,
    model: &Model,
    batch: &PackedBatch,
    temperature: f64,
    mut seen: impl FnMut(O::Mat),
) -> TargetStats {
    let x = residual_of(o, model, batch);
    for rows in batch.target_rows.chunks(LOGITS_AT_ONCE) {
        seen(logits_of(o, model, &o.gather(&x, rows)));
    }
    targets_of(o, model, batch, temperature, &x)
}

/// Targets whose logits exist at the same time.
const LOGITS_AT_ONCE: usize = 64;

fn targets_of<O: Ops>(
    o: &O,
    model: &Model,
    batch: &PackedBatch,
    temperature: f64,
    x: &O::Mat,
) -> TargetStats {
    let head = HeadPass::new(&model.head, temperature);
    let h = o.exact_norm(&o.gather(x, &batch.target_rows), &model.norm, head.scale);
    o.head(&h, &head, &batch.targets, false).0
}

/// Logits of every row, `[rows, vocab]`: for small inputs and tests.
pub fn logits<O: Ops>(o: &O, model: &Model, batch: &PackedBatch) -> O::Mat {
    logits_of(o, model, &residual_of(o, model, batch))
}

/// Logits of rows of the residual stream.
pub fn logits_of<O: Ops>(o: &O, model: &Model, x: &O::Mat) -> O::Mat {
    let (h, head) = head_input(o, model, x);
    o.logits(&h, &head)
}

/// What the head at temperature 1 is given for rows of the residual stream, and the head.
pub fn head_input<O: Ops>(o: &O, model: &Model, x: &O::Mat) -> (O::Mat, HeadPass) {
    let head = HeadPass::new(&model.head, 1.0);
    (o.exact_norm(x, &model.norm, head.scale), head)
}

/// What the backward needs of a batch's forward.
pub struct Forward<O: Ops> {
    /// What the head says of the targets.
    pub stats: TargetStats,
    rows: O::Rows,
    /// The inputs of blocks whose insides are computed again.
    inputs: Vec<O::Mat>,
    saved: Vec<Saved<O>>,
    depth: Depth,
    head: HeadPass,
    /// The rows that predict targets, before and behind the last norm.
    picked: O::Mat,
    h: O::Mat,
    kept: O::Kept,
}

/// Forward of a micro-batch that is trained on. With `recompute`, only block inputs are kept and each block's inside is
/// computed again in the backward. Of blocks that the backward does not go through nothing is kept.
pub fn forward<O: Ops>(
    o: &O,
    model: &Model,
    batch: &PackedBatch,
    temperature: f64,
    (recompute, depth): (bool, Depth),
) -> Forward<O> {
    let rows = o.rows(batch);
    let mut x = embedded(o, model, &batch.tokens);
    let (mut inputs, mut saved) = (Vec::new(), Vec::new());
    let (mut load, times) = (Load::default(), batch.times());
    for (i, b) in model.blocks.iter().enumerate() {
        let live = i >= depth.first_block;
        if recompute && live {
            inputs.push(o.keep(&x));
        }
        // What experts get is seen in what is kept.
        let keep = live && !recompute || matches!(b.mlp, Mlp::Experts(_));
        let (out, kept) = block::forward(o, b, x, keep, |a, qkv| o.attend(qkv, a, (batch, &rows)));
        if let Some(kept) = kept {
            kept.count(&mut load, &times);
            saved.extend((live && !recompute).then_some(kept));
        }
        x = out;
        add_deep(o, &mut x, i);
    }
    let head = HeadPass::new(&model.head, temperature);
    let picked = o.gather(&x, &batch.target_rows);
    drop(x);
    let h = o.exact_norm(&picked, &model.norm, head.scale);
    let (mut stats, kept) = o.head(&h, &head, &batch.targets, true);
    stats.load = load;
    Forward { stats, rows, inputs, saved, depth, head, picked, h, kept }
}

/// Gradients of the rows of pictures, and of what is added to them behind blocks.
pub struct OfPictures<O: Ops> {
    /// Of [`Placed::features`](super::ops::Placed::features).
    pub features: O::Mat,
    /// Of [`Placed::deep`](super::ops::Placed::deep).
    pub deep: Vec<O::Mat>,
}

/// Its backward: parameter gradients are added to `grads`, for the gradients `g` of a loss with respect to what the head
/// says. Returns the gradients of pictures where there are some and something of the tower is trained.
pub fn backward<O: Backward>(
    o: &O,
    model: &Model,
    batch: &PackedBatch,
    forward: Forward<O>,
    g: &TargetGrads,
    grads: &mut O::Grads,
) -> Option<OfPictures<O>> {
    let Forward { stats, rows, mut inputs, mut saved, depth, head, picked, h, kept } = forward;
    g.check(batch.targets.len());
    let dh = o.head_backward(&h, kept, &head, &batch.targets, (&stats, g), grads);
    drop(h);
    if !depth.below_head {
        return None;
    }
    let times = batch.times();
    let balance = g.balance.as_ref().map(|slopes| Balance { slopes, times: &times });
    let mut d_picked = o.zeros(batch.target_rows.len());
    o.norm_backward(&picked, &model.norm, head.scale, dh, &mut d_picked, grads);
    if depth.first_block == model.blocks.len() && !depth.embedding {
        return None;
    }
    let mut dx = o.zeros(batch.rows());
    o.scatter(&mut dx, &d_picked, &batch.target_rows, &[]);
    let placed = o.pictures();
    let mut d_deep = Vec::new();
    for (i, b) in model.blocks.iter().enumerate().skip(depth.first_block).rev() {
        if let Some(placed) = placed.filter(|placed| i < placed.deep.len()) {
            d_deep.push(o.gather(&dx, &placed.rows));
        }
        let kept = match inputs.pop() {
            Some(input) => block::forward(o, b, input, true, |a, qkv| o.attend(qkv, a, (batch, &rows))).1,
            None => saved.pop(),
        };
        if let Some(kept) = kept {
            block::backward(o, b, kept, balance, (batch, &rows), &mut dx, grads);
        }
    }
    let of_pictures = placed.map(|placed| {
        d_deep.reverse();
        let features = o.gather(&dx, &placed.rows);
        // These rows are no tokens.
        o.put(&mut dx, &o.zeros(placed.rows.len()), &placed.rows);
        OfPictures { features, deep: d_deep }
    });
    if depth.embedding {
        o.embed_backward(&model.embed, &batch.tokens, dx, grads);
    }
    of_pictures.filter(|_| depth.pictures)
}

/// Prompts as a batch, and the last row of each.
pub fn prompts(prompts: &[&[u32]]) -> (PackedBatch, Vec<usize>) {
    let groups: Vec<_> = prompts.iter().map(|p| PromptGroup { prompt: p, completions: vec![] }).collect();
    let batch = PackedBatch::new(&groups);
    let last = batch.groups.iter().map(|g| g.prompt.end - 1).collect();
    (batch, last)
}
