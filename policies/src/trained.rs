//! Which parameters training changes: any set of Hugging Face tensors.
//!
//! Parameters that are one matrix here (queries, keys and values; gate and up) may be trained in part. What is trained of a
//! parameter lies in its gradient, and in an optimizer's state, one tensor behind the other without what is not.
use crate::spec::{Block, Linear, Mlp, ParamLayout, QkNorms};
use std::ops::Range;

/// A Hugging Face tensor that is trained, within its parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Which tensor of the parameter, an index into [`crate::spec::ParamSpec::parts`].
    pub part: usize,
    /// Its elements in the parameter.
    pub elements: Range<usize>,
    /// Where they begin in the gradient.
    pub at: usize,
}

/// Neighbouring rows of a parameter (elements of a vector) that are trained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// The rows.
    pub rows: Range<usize>,
    /// Their elements in the gradient.
    pub gradient: Range<usize>,
}

/// What of a decoder is trained, and how deep its backward goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    spans: Vec<Vec<Span>>,
    rows: Vec<Vec<Rows>>,
    flags: Vec<bool>,
    depth: Depth,
}

/// How deep a backward goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// The lowest block that it goes through; as many as there are blocks where it goes through none.
    pub first_block: usize,
    /// Whether it goes below the head.
    pub below_head: bool,
    /// Whether it ends in the embedding.
    pub embedding: bool,
    /// Whether it ends in the rows of pictures.
    pub pictures: bool,
}

/// How deep a backward goes into a tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TowerDepth {
    /// The lowest block that it goes through; as many as there are blocks where it ends in the projectors.
    pub first_block: usize,
    /// Whether it goes through the last norm and so below the projector.
    pub below_projector: bool,
    /// Whether it ends in the patches and positions.
    pub patches: bool,
}

impl Depth {
    /// Of a backward through everything.
    pub const WHOLE: Self = Self { first_block: 0, below_head: true, embedding: true, pictures: true };
}

impl Trained {
    /// Everything.
    pub fn all(layout: &ParamLayout) -> Self {
        Self::new(layout, |_, _| true)
    }

    /// The tensors for which `is_trained` says so, by parameter and part.
    pub fn new(layout: &ParamLayout, mut is_trained: impl FnMut(usize, usize) -> bool) -> Self {
        let (mut all_spans, mut all_rows) = (Vec::new(), Vec::new());
        for (i, spec) in layout.specs.iter().enumerate() {
            let width = if spec.is_vector() { 1 } else { spec.shape[1] };
            let (mut spans, mut runs, mut first, mut at) = (Vec::new(), Vec::<Rows>::new(), 0, 0);
            for (part, (_, rows)) in spec.parts().iter().enumerate() {
                let behind = first + rows;
                if is_trained(i, part) {
                    let end = at + rows * width;
                    spans.push(Span { part, elements: first * width..behind * width, at });
                    match runs.last_mut().filter(|run| run.rows.end == first) {
                        Some(run) => (run.rows.end, run.gradient.end) = (behind, end),
                        None => runs.push(Rows { rows: first..behind, gradient: at..end }),
                    }
                    at = end;
                }
                first = behind;
            }
            all_spans.push(spans);
            all_rows.push(runs);
        }
        let flags: Vec<bool> = all_spans.iter().map(|spans| !spans.is_empty()).collect();
        let depth = depth(layout, &flags);
        Self { spans: all_spans, rows: all_rows, flags, depth }
    }

    /// For every parameter whether something of it is trained.
    pub fn flags(&self) -> &[bool] {
        &self.flags
    }

    /// The tensors of a parameter that are trained, in their order.
    pub fn spans(&self, param: usize) -> &[Span] {
        &self.spans[param]
    }

    /// The same as rows, as few runs as there are.
    pub fn rows(&self, param: usize) -> &[Rows] {
        &self.rows[param]
    }

    /// Elements of a parameter that are trained.
    pub fn len(&self, param: usize) -> usize {
        self.rows[param].last().map_or(0, |rows| rows.gradient.end)
    }

    /// Whether nothing is trained.
    pub fn is_empty(&self) -> bool {
        !self.flags.contains(&true)
    }

    /// Elements that are trained.
    pub fn elements(&self) -> usize {
        (0..self.flags.len()).map(|i| self.len(i)).sum()
    }

    /// How deep the backward goes.
    pub fn depth(&self) -> Depth {
        self.depth
    }
}

fn depth(layout: &ParamLayout, flags: &[bool]) -> Depth {
    let model = &layout.model;
    let trained = |block: &Block| params(layout, block).into_iter().any(|i| flags[i]);
    let embedding = flags[model.embed.table];
    let lowest = model.blocks.iter().position(trained).unwrap_or(model.blocks.len());
    let pictures = (0..flags.len()).any(|i| flags[i] && layout.specs[i].is_of_tower());
    let first_block = if embedding || pictures { 0 } else { lowest };
    let below_head = first_block < model.blocks.len() || embedding || pictures || flags[model.norm.weight];
    Depth { first_block, below_head, embedding, pictures }
}

impl Trained {
    /// How deep the backward goes into the tower of a model that sees; none where nothing of it is trained.
    pub fn tower_depth(&self, layout: &ParamLayout) -> Option<TowerDepth> {
        let tower = layout.model.tower.as_ref().filter(|_| self.depth.pictures)?;
        let named = |prefix: &str| {
            let trained = |i: &usize| self.flags[*i] && layout.specs[*i].name.starts_with(prefix);
            (0..self.flags.len()).any(|i| trained(&i))
        };
        let patches = named("vision.patch") || named("vision.positions");
        let lowest = (0..tower.blocks.len()).find(|l| named(&format!("vision.blocks.{l}.")));
        let first_block = if patches { 0 } else { lowest.unwrap_or(tower.blocks.len()) };
        let below_projector = first_block < tower.blocks.len() || patches || named("vision.post_norm");
        Some(TowerDepth { first_block, below_projector, patches })
    }
}

/// The parameters of a block, adapters included.
pub fn params(layout: &ParamLayout, block: &Block) -> Vec<usize> {
    let mut found = Vec::new();
    let norms = [&block.attention_in, &block.attention_out, &block.mlp_in, &block.mlp_out];
    found.extend(norms.into_iter().flatten().map(|norm| norm.weight));
    if let QkNorms::Head { q, k } | QkNorms::Row { q, k } = &block.attention.norms {
        found.extend([q.weight, k.weight]);
    }
    let mut linear = vec![block.attention.qkv, block.attention.out];
    match &block.mlp {
        Mlp::Gated(mlp) => linear.extend([mlp.gate_up, mlp.down]),
        Mlp::Experts(e) => {
            linear.push(e.router);
            linear.extend(e.experts.iter().flat_map(|mlp| [mlp.gate_up, mlp.down]));
        }
    }
    for Linear { weight, bias } in linear {
        found.push(weight);
        found.extend(bias);
        if let Some(adapter) = layout.adapter(weight) {
            found.push(adapter.a);
            found.extend(adapter.parts.iter().map(|part| part.b));
        }
    }
    found
}
