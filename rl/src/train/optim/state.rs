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
    /// Its elements in the parameter, those of this rank only.
    pub(super) elements: Range<usize>,
    /// Where they begin in the gradient.
    at: usize,
    /// Which of its elements are those of this rank: all where there is one.
    own: Range<usize>,
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
        return vec![Piece { name, shape: spec.shape, elements: 0..len, at: 0, own: 0..len, group, memory }];
    }
    let width = if spec.is_vector() { 1 } else { spec.shape[1] };
    let part = |(span, group): (&rlvr_policies::trained::Span, &Option<usize>)| Piece {
        name: spec.parts()[span.part].0.clone(),
        shape: [span.elements.len() / width, width],
        elements: span.elements.clone(),
        at: span.at,
        own: 0..span.elements.len(),
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

/// What is remembered of a piece, or the part of it that a rank has.
pub(super) enum Values {
    /// Numbers.
    F32(Arc<Vec<f32>>),
    /// Codes.
    U8(Arc<Vec<u8>>),
}

impl Values {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::F32(values) => bytemuck::cast_slice(values),
            Self::U8(codes) => codes,
        }
    }

    /// Values of the same type from their bytes.
    pub(super) fn like(&self, bytes: Vec<u8>) -> Self {
        match self {
            Self::F32(_) => Self::F32(Arc::new(bytemuck::pod_collect_to_vec(&bytes))),
            Self::U8(_) => Self::U8(Arc::new(bytes)),
        }
    }
}

/// A tensor of a checkpoint, or the part of it that a rank has.
pub(super) struct Saved {
    pub(super) name: String,
    /// Of the whole.
    pub(super) shape: Vec<usize>,
    pub(super) values: Values,
}

impl Saved {
    /// As a tensor, where the values are those of the whole.
    pub(super) fn named(self) -> NamedTensor {
        match self.values {
            Values::F32(values) => NamedTensor::shared(self.name, &self.shape, values),
            Values::U8(codes) => NamedTensor::bytes(self.name, &self.shape, codes),
        }
    }
}

impl Piece {
    /// Its elements in the gradient.
    pub(super) fn gradient(&self) -> Range<usize> {
        self.at..self.at + self.elements.len()
    }

    /// Whether ranks may part it there, a place in the gradient of its parameter.
    pub(super) fn may_end(&self, at: usize) -> bool {
        let Range { start, end } = self.gradient();
        at <= start
            || at >= end
            || match &self.memory {
                Memory::Moments(_) => true,
                Memory::Rounded(_) => (at - start).is_multiple_of(eight_bit::BLOCK),
                Memory::Momentum(_) => false,
            }
    }

    /// Keeps what lies in a range of the gradient of its parameter, fresh.
    pub(super) fn keep(&mut self, range: &Range<usize>) {
        let start = range.start.clamp(self.at, self.at + self.elements.len()) - self.at;
        let end = (range.end.clamp(self.at, self.at + self.elements.len()) - self.at).max(start);
        self.own = start..end;
        self.elements = self.elements.start + start..self.elements.start + end;
        self.at += start;
        let kind = match &self.memory {
            Memory::Moments(_) => OptimKind::Adamw,
            Memory::Rounded(_) => OptimKind::Adamw8bit,
            Memory::Momentum(_) => OptimKind::Muon,
        };
        self.memory = Memory::new(kind, end - start);
    }

    /// Bytes of its state.
    pub(super) fn bytes(&self) -> usize {
        match &self.memory {
            Memory::Moments(m) => m.iter().map(|m| m.len() * size_of::<f32>()).sum(),
            Memory::Rounded(m) => m.iter().map(Rounded::bytes).sum(),
            Memory::Momentum(m) => m.len() * size_of::<f32>(),
        }
    }

    /// Its state for a checkpoint, as much as this rank has: `m.NAME` and `v.NAME`, in 8 bits with `m_largest.NAME` and
    /// `v_largest.NAME`; or `momentum.NAME`.
    pub(super) fn saved(&self) -> Vec<Saved> {
        let name = &self.name;
        let f32 = |kind: &str, values: &Arc<Vec<f32>>| Saved {
            name: format!("{kind}.{name}"),
            shape: self.shape.to_vec(),
            values: Values::F32(values.clone()),
        };
        match &self.memory {
            Memory::Moments(moments) => {
                MOMENTS.into_iter().zip(moments).map(|(kind, values)| f32(kind, values)).collect()
            }
            Memory::Rounded(moments) => {
                let blocks = self.shape.iter().product::<usize>().div_ceil(eight_bit::BLOCK);
                let named = |(kind, m): (&str, &Rounded)| {
                    let largest = f32(&format!("{kind}_largest"), &m.largest);
                    let codes = Saved {
                        name: format!("{kind}.{name}"),
                        shape: self.shape.to_vec(),
                        values: Values::U8(m.codes.clone()),
                    };
                    [codes, Saved { shape: vec![blocks], ..largest }]
                };
                MOMENTS.into_iter().zip(moments).flat_map(named).collect()
            }
            Memory::Momentum(m) => vec![f32("momentum", m)],
        }
    }

    /// Takes it from a checkpoint, which has the whole.
    ///
    /// # Errors
    /// The name of a tensor that is missing or has another size or type.
    pub(super) fn restore(&mut self, take: &mut impl FnMut(&str) -> Option<Elements>) -> Result<(), String> {
        let (name, own, len) = (&self.name, self.own.clone(), self.shape.iter().product());
        let mut f32 = |kind: &str, own: Range<usize>, len: usize| {
            let name = format!("{kind}.{name}");
            match take(&name) {
                Some(Elements::F32(found)) if found.len() == len => Ok(Arc::new(part(found, own))),
                _ => Err(name),
            }
        };
        match &mut self.memory {
            Memory::Moments(moments) => {
                for (kind, m) in MOMENTS.into_iter().zip(moments) {
                    *m = f32(kind, own.clone(), len)?;
                }
            }
            Memory::Rounded(moments) => {
                let blocks = own.start / eight_bit::BLOCK..own.end.div_ceil(eight_bit::BLOCK);
                for (kind, m) in MOMENTS.iter().zip(moments.iter_mut()) {
                    let all = len.div_ceil(eight_bit::BLOCK);
                    m.largest = f32(&format!("{kind}_largest"), blocks.clone(), all)?;
                }
                for (kind, m) in MOMENTS.into_iter().zip(moments) {
                    let codes = format!("{kind}.{name}");
                    match take(&codes) {
                        Some(Elements::U8(found)) if found.len() == len => {
                            m.codes = Arc::new(part(found, own.clone()));
                        }
                        _ => return Err(codes),
                    }
                }
            }
            Memory::Momentum(m) => *m = f32("momentum", own, len)?,
        }
        Ok(())
    }
}

/// The part of values that is one's own; all of them without a copy.
fn part<T: Clone>(values: Vec<T>, own: Range<usize>) -> Vec<T> {
    if own.len() == values.len() { values } else { values[own].to_vec() }
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
