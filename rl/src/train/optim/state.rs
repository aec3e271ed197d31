//! What an optimizer remembers of each parameter on the host.
use super::eight_bit::{self, Rounded};
use crate::config::OptimKind;
use crate::files::tensors::{Elements, NamedTensor};
use rlvr_policies::Decoder;
use std::ops::Range;
use std::sync::Arc;

/// A parameter, or the part of it that one Hugging Face tensor is, with its state. That is shared with checkpoints that are
/// being written, and copied if it changes before that is done.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// Its name in checkpoints.
    name: String,
    /// Rows and columns.
    pub(super) shape: [usize; 2],
    /// Its elements in the parameter.
    pub(super) elements: Range<usize>,
    /// Where they begin in the gradient.
    at: usize,
    /// 0 for none, otherwise the number of its group, counted from 1.
    pub(super) group: usize,
    /// What is remembered, and so the rule that it follows.
    pub(super) memory: Memory,
}

/// What an optimizer remembers of a piece.
#[derive(Debug, Clone)]
pub(super) enum Memory {
    /// First and second moments: AdamW.
    Moments([Arc<Vec<f32>>; 2]),
    /// The same in 8 bits.
    Rounded([Rounded; 2]),
    /// Momentum: Muon.
    Momentum(Arc<Vec<f32>>),
}

/// Names of first and second moments.
const MOMENTS: [&str; 2] = ["m", "v"];

/// The pieces of every parameter that is trained, for the groups of the parts of each and the kind of each group, counted as in
/// [`Piece::group`].
pub(super) fn pieces(
    decoder: &Decoder,
    groups: &[Vec<Option<usize>>],
    kinds: &[OptimKind],
) -> Vec<Vec<Piece>> {
    groups.iter().enumerate().map(|(i, groups)| of_parameter(decoder, i, groups, kinds)).collect()
}

fn of_parameter(decoder: &Decoder, i: usize, groups: &[Option<usize>], kinds: &[OptimKind]) -> Vec<Piece> {
    let (layout, spans) = (decoder.layout(), decoder.trained_parts().spans(i));
    let spec = &layout.specs[i];
    let hidden = !spec.is_vector() && i != layout.model.embed.table && i != layout.model.head.weight;
    let number = |group: &Option<usize>| group.map_or(0, |g| g + 1);
    let rule = |group: &Option<usize>, len: usize| match kinds[number(group)] {
        OptimKind::Adamw8bit if len >= eight_bit::SMALLEST => OptimKind::Adamw8bit,
        OptimKind::Muon if hidden => OptimKind::Muon,
        OptimKind::Adamw | OptimKind::Adamw8bit | OptimKind::Muon => OptimKind::Adamw,
    };
    // Element by element it makes no difference that tensors are one parameter here.
    let plain = spans.iter().zip(groups).all(|(s, g)| rule(g, s.elements.len()) == OptimKind::Adamw);
    let same = groups.windows(2).all(|pair| pair[0] == pair[1]);
    if plain && same && spans.len() == spec.parts().len() {
        let (len, group) = (spec.shape[0] * spec.shape[1], groups.first().map_or(0, number));
        let (name, memory) = (spec.name.clone(), Memory::new(OptimKind::Adamw, len));
        return vec![Piece { name, shape: spec.shape, elements: 0..len, at: 0, group, memory }];
    }
    let width = if spec.is_vector() { 1 } else { spec.shape[1] };
    let part = |(span, group): (&rlvr_policies::trained::Span, &Option<usize>)| Piece {
        name: spec.parts()[span.part].0.clone(),
        shape: [span.elements.len() / width, width],
        elements: span.elements.clone(),
        at: span.at,
        group: number(group),
        memory: Memory::new(rule(group, span.elements.len()), span.elements.len()),
    };
    spans.iter().zip(groups).map(part).collect()
}

impl Memory {
    fn new(kind: OptimKind, len: usize) -> Self {
        let zeros = || Arc::new(vec![0.0; len]);
        match kind {
            OptimKind::Adamw => Self::Moments([zeros(), zeros()]),
            OptimKind::Adamw8bit => Self::Rounded([false, true].map(|second| Rounded::zeros(len, second))),
            OptimKind::Muon => Self::Momentum(zeros()),
        }
    }
}

/// Takes f32 elements of a name, as many as there are already.
fn take_f32(
    name: String,
    values: &mut Arc<Vec<f32>>,
    take: &mut impl FnMut(&str) -> Option<Elements>,
) -> Result<(), String> {
    match take(&name) {
        Some(Elements::F32(found)) if found.len() == values.len() => *values = found.into(),
        _ => return Err(name),
    }
    Ok(())
}

impl Piece {
    /// Its elements in the gradient.
    pub(super) fn gradient(&self) -> Range<usize> {
        self.at..self.at + self.elements.len()
    }

    /// Bytes of its state.
    pub(super) fn bytes(&self) -> usize {
        match &self.memory {
            Memory::Moments(m) => m.iter().map(|m| m.len() * size_of::<f32>()).sum(),
            Memory::Rounded(m) => m.iter().map(Rounded::bytes).sum(),
            Memory::Momentum(m) => m.len() * size_of::<f32>(),
        }
    }

    /// Its state for a checkpoint: `m.NAME` and `v.NAME`, in 8 bits with `m_largest.NAME` and `v_largest.NAME`; or
    /// `momentum.NAME`.
    pub(super) fn saved(&self) -> Vec<NamedTensor> {
        let (name, shape) = (&self.name, &self.shape);
        match &self.memory {
            Memory::Moments(moments) => {
                let named = |(kind, values): (&str, &Arc<Vec<f32>>)| {
                    NamedTensor::shared(format!("{kind}.{name}"), shape, values.clone())
                };
                MOMENTS.into_iter().zip(moments).map(named).collect()
            }
            Memory::Rounded(moments) => {
                let named = |(kind, m): (&str, &Rounded)| {
                    let largest = format!("{kind}_largest.{name}");
                    [
                        NamedTensor::bytes(format!("{kind}.{name}"), shape, m.codes.clone()),
                        NamedTensor::shared(largest, &[m.largest.len()], m.largest.clone()),
                    ]
                };
                MOMENTS.into_iter().zip(moments).flat_map(named).collect()
            }
            Memory::Momentum(m) => vec![NamedTensor::shared(format!("momentum.{name}"), shape, m.clone())],
        }
    }

    /// Takes it from a checkpoint.
    ///
    /// # Errors
    /// The name of a tensor that is missing or has another size or type.
    pub(super) fn restore(&mut self, take: &mut impl FnMut(&str) -> Option<Elements>) -> Result<(), String> {
        let name = &self.name;
        match &mut self.memory {
            Memory::Moments(moments) => {
                let mut pairs = MOMENTS.into_iter().zip(moments);
                pairs.try_for_each(|(kind, m)| take_f32(format!("{kind}.{name}"), m, take))
            }
            Memory::Rounded(moments) => {
                for (kind, m) in MOMENTS.into_iter().zip(moments) {
                    let codes = format!("{kind}.{name}");
                    match take(&codes) {
                        Some(Elements::U8(found)) if found.len() == m.codes.len() => m.codes = found.into(),
                        _ => return Err(codes),
                    }
                    take_f32(format!("{kind}_largest.{name}"), &mut m.largest, take)?;
                }
                Ok(())
            }
            Memory::Momentum(m) => take_f32(format!("momentum.{name}"), m, take),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;
    use crate::selection;
    use burn::tensor::Device;

    #[test]
    fn muon_is_for_the_matrices_of_blocks_only() {
        // Of the first and the last one the embedding is not the head.
        for model in ["tiny-llama", "tiny-qwen2", "tiny-qwen3"] {
            let path = format!("{}/../tests/golden/models/{model}", env!("CARGO_MANIFEST_DIR"));
            let decoder = Policy::open(&path, &Device::flex()).unwrap().decoder;
            let groups = selection::groups(&decoder, &[]).unwrap();
            let pieces = pieces(&decoder, &groups, &[OptimKind::Muon]);
            let of = |muon: bool| -> Vec<&str> {
                let all = pieces.iter().flatten();
                let is = |p: &&Piece| matches!(p.memory, Memory::Momentum(_)) == muon;
                all.filter(is).map(|p| p.name.as_str()).collect()
            };
            let (momentum, moments) = (of(true), of(false));
            assert_eq!(momentum.len(), 7 * decoder.layout().model.blocks.len(), "{momentum:?}");
            assert!(momentum.iter().all(|name| name.contains("_proj.weight")), "{momentum:?}");
            assert!(moments.contains(&"embed"), "{model}: {moments:?}");
            let head = moments.contains(&"head");
            assert_eq!(head, !decoder.config().tie_word_embeddings, "{model}: {moments:?}");
        }
    }
}
