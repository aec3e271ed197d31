//! Gradient accumulators of a decoder.
use crate::device;
use crate::host::buffer::Buffer;
use crate::spec::{ParamLayout, ParamSpec};
use crate::trained::Trained;
use burn::tensor::{Device, Tensor};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;

/// Sum of the parameters' gradients, in the order of the layout.
#[derive(Debug)]
pub enum Gradients {
    /// In host memory, row-major; of each parameter what is trained of it ([`Trained`]), and so often nothing. Beside them
    /// the gradients of pictures, which go into the tower at the end of an update.
    Host(Vec<Buffer>, OfPictures),
    /// On the device; none for parameters that are not trained.
    Device(Vec<Option<Tensor<2>>>),
}

/// Gradients of the features of pictures by their keys, `[tokens, hidden]`: those that stand for embeddings, then those that
/// are added behind blocks.
pub type OfPictures = BTreeMap<u128, Vec<Vec<f32>>>;

/// Elements whose squares one task sums; the partial sums are added in order.
pub const BLOCK: usize = 1 << 14;

impl Gradients {
    /// Of what is not trained there are none.
    pub(crate) fn zeros_on_host(trained: &Trained) -> Self {
        let zeros = (0..trained.flags().len()).map(|i| Buffer::zeros(trained.len(i)));
        Self::Host(zeros.collect(), OfPictures::new())
    }

    pub(crate) fn zeros_on_device(layout: &ParamLayout, trained: &[bool], device: &Device) -> Self {
        let zeros = |(s, trained): (&ParamSpec, &bool)| trained.then(|| Tensor::zeros(s.shape, device));
        Self::Device(layout.specs.iter().zip(trained).map(zeros).collect())
    }

    /// Sets all gradients to zero, keeping the memory.
    pub fn clear(&mut self) {
        match self {
            Self::Host(g, pictures) => {
                pictures.clear();
                g.iter_mut().for_each(Buffer::clear);
            }
            Self::Device(g) => g.iter_mut().flatten().for_each(|g| *g = g.zeros_like()),
        }
    }

    /// Adds other sums of the same decoder, element by element; those of pictures must have gone into the tower.
    ///
    /// # Panics
    /// If they are those of another decoder.
    pub fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Host(sums, _), Self::Host(more, _)) => {
                for (sum, more) in sums.iter_mut().zip(more) {
                    sum.par_chunks_mut(BLOCK).zip(more.par_chunks(BLOCK)).for_each(|(sum, more)| {
                        sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
                    });
                }
            }
            (Self::Device(sums), Self::Device(more)) => {
                for (sum, more) in sums.iter_mut().zip(more) {
                    *sum = sum.take().zip(more.clone()).map(|(sum, more)| sum.add(more));
                }
            }
            (Self::Host(..), Self::Device(_)) | (Self::Device(_), Self::Host(..)) => {
                panic!("gradients come from the same decoder")
            }
        }
    }

    /// ‖g‖₂ over all parameters together.
    pub fn global_norm(&self) -> f64 {
        match self {
            Self::Host(..) => self.block_squares(&(0..usize::MAX)).iter().sum::<f64>().sqrt(),
            Self::Device(g) => square_sum(&g.iter().flatten().cloned().collect::<Vec<_>>()).sqrt(),
        }
    }

    /// The sum of the squares of each block of [`BLOCK`] elements of each parameter that begins in a range of elements, counted
    /// over all parameters one behind the other. Added up in order, those of all blocks are the square of
    /// [`Self::global_norm`]. Empty on a device.
    pub fn block_squares(&self, own: &Range<usize>) -> Vec<f64> {
        let Self::Host(g, _) = self else { return Vec::new() };
        let (mut blocks, mut at) = (Vec::new(), 0);
        for block in g.iter().flat_map(|g| g.chunks(BLOCK)) {
            blocks.extend(own.contains(&at).then_some(block));
            at += block.len();
        }
        blocks.par_iter().map(|block| squares_of(block)).collect()
    }

    /// Values of one parameter's gradient, row-major; of what is trained of it only.
    ///
    /// # Panics
    /// If the device fails.
    pub fn values(&self, index: usize) -> Vec<f32> {
        match self {
            Self::Host(g, _) => g[index].to_vec(),
            Self::Device(g) => {
                let Some(g) = &g[index] else { return Vec::new() };
                (g.clone().into_data().convert::<f32>().try_to_vec())
                    .unwrap_or_else(|e| panic!("gradient {index} cannot be read: {e:?}"))
            }
        }
    }
}

/// The sum of the squares of all elements of tensors on a device; waits for the device.
pub(crate) fn square_sum(tensors: &[Tensor<2>]) -> f64 {
    device::square_sum(tensors).unwrap_or_else(|| panic!("tensors are on no cubecl device"))
}

fn squares_of(x: &[f32]) -> f64 {
    let mut acc = [0f64; 8];
    let (chunks, rest) = x.as_chunks::<8>();
    for c in chunks {
        for l in 0..8 {
            acc[l] += f64::from(c[l]) * f64::from(c[l]);
        }
    }
    acc.iter().sum::<f64>() + rest.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>()
}
