//! The parameters of a decoder: their order, names and shapes, and how they map to Hugging Face tensors.
//!
//! All are matrices here, row-major and in Hugging Face's orientation: linear layers `[out, in]` with q/k/v and gate/up
//! fused one above the other, embedding and head `[vocab, hidden]`, vectors `[1, n]`.
use crate::config::ModelConfig;
use crate::error::PolicyError;
use crate::weights::{HostTensor, WeightSource, first_not_finite};

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
}

/// Indices of one layer's parameters in the parameter list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct LayerIndex {
    pub input_norm: usize,
    pub qkv: usize,
    pub qkv_bias: Option<usize>,
    pub q_norm: Option<usize>,
    pub k_norm: Option<usize>,
    pub o: usize,
    pub o_bias: Option<usize>,
    pub post_norm: usize,
    pub gate_up: usize,
    pub down: usize,
}

/// Order of all parameters of a model.
#[derive(Debug, Clone)]
pub struct ParamLayout {
    /// The parameters, in order.
    pub specs: Vec<ParamSpec>,
    /// Index of the embedding.
    pub embed: usize,
    /// Indices of each layer.
    pub layers: Vec<LayerIndex>,
    /// Index of the final norm.
    pub norm: usize,
    /// Index of the head; the embedding's if tied.
    pub head: usize,
}

impl ParamLayout {
    /// Layout for a model configuration.
    pub fn new(c: &ModelConfig) -> Self {
        let mut specs = Vec::new();
        let mut push = |name: String, shape: [usize; 2], kind: Kind, parts: Vec<(String, usize)>| {
            specs.push(ParamSpec { name, shape, parts, kind });
            specs.len() - 1
        };
        let (d, q, kv) = (c.hidden_size, c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim);
        let table = |name: &str| vec![(name.to_string(), c.vocab_size)];
        let embed = push("embed".into(), [c.vocab_size, d], Kind::Matrix, table("model.embed_tokens.weight"));
        let layers = (0..c.num_layers)
            .map(|l| {
                let hf = |suffix: &str, width: usize| (format!("model.layers.{l}.{suffix}"), width);
                let name = |n: &str| format!("layers.{l}.{n}");
                let heads = |kind: &str| {
                    ["q", "k", "v"]
                        .map(|n| hf(&format!("self_attn.{n}_proj.{kind}"), if n == "q" { q } else { kv }))
                        .to_vec()
                };
                let mut vector = |n: &str, suffix: &str, width: usize| {
                    push(name(n), [1, width], Kind::Vector, vec![hf(suffix, width)])
                };
                let input_norm = vector("input_norm", "input_layernorm.weight", d);
                let post_norm = vector("post_norm", "post_attention_layernorm.weight", d);
                let q_norm = c.qk_norm.then(|| vector("q_norm", "self_attn.q_norm.weight", c.head_dim));
                let k_norm = c.qk_norm.then(|| vector("k_norm", "self_attn.k_norm.weight", c.head_dim));
                let o_bias = c.attention_output_bias.then(|| vector("o_bias", "self_attn.o_proj.bias", d));
                let qkv_bias = c
                    .attention_bias
                    .then(|| push(name("qkv_bias"), [1, q + 2 * kv], Kind::Vector, heads("bias")));
                let qkv = push(name("qkv"), [q + 2 * kv, d], Kind::Matrix, heads("weight"));
                let o = push(name("o"), [d, q], Kind::Matrix, vec![hf("self_attn.o_proj.weight", d)]);
                let i = c.intermediate_size;
                let gate_up = push(
                    name("gate_up"),
                    [2 * i, d],
                    Kind::Matrix,
                    vec![hf("mlp.gate_proj.weight", i), hf("mlp.up_proj.weight", i)],
                );
                let down = push(name("down"), [d, i], Kind::Matrix, vec![hf("mlp.down_proj.weight", d)]);
                LayerIndex { input_norm, qkv, qkv_bias, q_norm, k_norm, o, o_bias, post_norm, gate_up, down }
            })
            .collect();
        let norm = push("norm".into(), [1, d], Kind::Vector, vec![("model.norm.weight".into(), d)]);
        let head = if c.tie_word_embeddings {
            embed
        } else {
            push("head".into(), [c.vocab_size, d], Kind::Matrix, table("lm_head.weight"))
        };
        Self { specs, embed, layers, norm, head }
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

    fn hf_shape(&self, rows: usize) -> Vec<usize> {
        match self.kind {
            Kind::Matrix => vec![rows, self.shape[1]],
            Kind::Vector => vec![rows],
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

    /// Names of the Hugging Face tensors it is made of.
    pub fn hf_names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|(name, _)| name.as_str())
    }

    /// True for norm weights and biases.
    pub fn is_vector(&self) -> bool {
        self.kind == Kind::Vector
    }
}
