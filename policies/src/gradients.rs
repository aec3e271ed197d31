//! Gradient accumulators of a decoder.
use crate::device;
use crate::host::buffer::Buffer;
use crate::spec::{ParamLayout, ParamSpec};
use crate::trained::Trained;
use burn::tensor::{Device, Tensor};
use rayon::prelude::*;
use std::collections::BTreeMap;

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
const BLOCK: usize = 1 << 14;

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

    /// ‖g‖₂ over all parameters together.
    pub fn global_norm(&self) -> f64 {
        match self {
            Self::Host(g, _) => {
                let blocks: Vec<&[f32]> = g.iter().flat_map(|g| g.chunks(BLOCK)).collect();
                let sums: Vec<f64> = blocks.par_iter().map(|b| squares_of(b)).collect();
                sums.iter().sum::<f64>().sqrt()
            }
            Self::Device(g) => square_sum(&g.iter().flatten().cloned().collect::<Vec<_>>()).sqrt(),
        }
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
