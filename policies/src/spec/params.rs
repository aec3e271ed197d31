//! The parameters of a decoder: their order, names and shapes, and how they map to Hugging Face tensors.
//!
//! All are matrices here, row-major and in Hugging Face's orientation: linear layers `[out, in]` with q/k/v and gate/up
//! fused one above the other, embedding and head `[vocab, hidden]`, vectors `[1, n]`.
use super::{Adapter, Model};
use crate::error::PolicyError;
use crate::tensors::{HostTensor, WeightSource, first_not_finite};

/// One parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamSpec {
    /// Name, unique in the model.
    pub name: String,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// The Hugging Face tensors that it is made of, one behind the other, with their rows (elements of a vector).
    parts: Vec<(String, usize)>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Matrix,
    Vector,
    /// A convolution whose window moves by its own size: a matrix over all but the first of these sizes, of which there are
    /// as many as the number says.
    Patches([usize; 4], usize),
}

/// All parameters of a model in their order, and what it does with them.
#[derive(Debug, Clone)]
pub struct ParamLayout {
    /// The parameters, in order.
    pub specs: Vec<ParamSpec>,
    /// The decoder.
    pub model: Model,
    /// Adapters of linear layers, by the index of their weight; fewer than parameters, or none.
    pub adapters: Vec<Option<Adapter>>,
}

/// Collects parameters.
#[derive(Default)]
pub(crate) struct Layouter(pub(crate) Vec<ParamSpec>);

impl Layouter {
    /// A matrix of `columns` columns from Hugging Face tensors of these rows.
    pub(crate) fn matrix(&mut self, name: String, columns: usize, parts: Vec<(String, usize)>) -> usize {
        let rows = parts.iter().map(|(_, rows)| rows).sum();
        self.0.push(ParamSpec { name, shape: [rows, columns], parts, kind: Kind::Matrix });
        self.0.len() - 1
    }

    /// A vector from Hugging Face tensors of these lengths.
    pub(crate) fn vector(&mut self, name: String, parts: Vec<(String, usize)>) -> usize {
        let width = parts.iter().map(|(_, width)| width).sum();
        self.0.push(ParamSpec { name, shape: [1, width], parts, kind: Kind::Vector });
        self.0.len() - 1
    }

    /// A convolution over patches of these sizes, four at most: channels, frames, rows, columns.
    pub(crate) fn patches(&mut self, name: String, sizes: &[usize], part: (String, usize)) -> usize {
        let mut all = [1; 4];
        all.iter_mut().zip(sizes).for_each(|(to, size)| *to = *size);
        let shape = [part.1, sizes.iter().product()];
        self.0.push(ParamSpec {
            name,
            shape,
            parts: vec![part],
            kind: Kind::Patches(all, sizes.len().min(4)),
        });
        self.0.len() - 1
    }
}

impl ParamLayout {
    /// The adapter of the layer with this weight.
    pub fn adapter(&self, weight: usize) -> Option<&Adapter> {
        self.adapters.get(weight)?.as_ref()
    }

    /// Number of scalar parameters.
    pub fn num_params(&self) -> usize {
        self.specs.iter().map(|s| s.shape[0] * s.shape[1]).sum()
    }
}

impl ParamSpec {
    /// Reads the parameter from Hugging Face tensors.
    ///
    /// # Errors
    /// If a tensor is missing, has another shape, or holds NaN or an infinity.
    pub fn load(&self, source: &dyn WeightSource) -> Result<Vec<f32>, PolicyError> {
        let mut out = Vec::with_capacity(self.shape[0] * self.shape[1]);
        for (name, rows) in &self.parts {
            let tensor = source.load(name)?;
            let expected = self.hf_shape(*rows);
            if tensor.shape != expected {
                let path = source.path().to_path_buf();
                return Err(PolicyError::TensorShape {
                    path,
                    name: name.clone(),
                    expected,
                    found: tensor.shape,
                });
            }
            if let Some(index) = first_not_finite(&tensor.data) {
                let (path, value) = (source.path().to_path_buf(), tensor.data[index]);
                return Err(PolicyError::NotFinite { path, name: name.clone(), index, value });
            }
            out.extend_from_slice(&tensor.data);
        }
        Ok(out)
    }

    /// Names and shapes of the Hugging Face tensors it is made of.
    pub fn hf_shapes(&self) -> impl Iterator<Item = (&str, Vec<usize>)> {
        self.parts.iter().map(|(name, rows)| (name.as_str(), self.hf_shape(*rows)))
    }

    fn hf_shape(&self, rows: usize) -> Vec<usize> {
        match self.kind {
            Kind::Matrix => vec![rows, self.shape[1]],
            Kind::Vector => vec![rows],
            Kind::Patches(sizes, count) => {
                std::iter::once(rows).chain(sizes[..count].iter().copied()).collect()
            }
        }
    }

    /// The Hugging Face tensors of a value of this parameter, `[rows · cols]` row-major.
    pub fn to_hf(&self, data: &[f32]) -> Vec<(String, HostTensor)> {
        self.hf_names().filter_map(|name| Some((name.to_owned(), self.hf_tensor(name, data)?))).collect()
    }

    /// One of these tensors; the others are not touched.
    pub fn hf_tensor(&self, name: &str, data: &[f32]) -> Option<HostTensor> {
        let width = if self.is_vector() { 1 } else { self.shape[1] };
        let at = self.parts.iter().position(|(part, _)| part == name)?;
        let first: usize = self.parts[..at].iter().map(|(_, rows)| rows * width).sum();
        let rows = self.parts[at].1;
        Some(HostTensor { shape: self.hf_shape(rows), data: data[first..first + rows * width].to_vec() })
    }

    /// The Hugging Face tensors that it is made of with their rows (elements of a vector), one behind the other.
    pub fn parts(&self) -> &[(String, usize)] {
        &self.parts
    }

    /// Names of the Hugging Face tensors it is made of.
    pub fn hf_names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|(name, _)| name.as_str())
    }

    /// Whether it belongs to a vision tower or its projectors.
    pub fn is_of_tower(&self) -> bool {
        self.name.starts_with("vision.") || self.name.starts_with("projector.")
    }

    /// True for norm weights and biases.
    pub fn is_vector(&self) -> bool {
        self.kind == Kind::Vector
    }
}
