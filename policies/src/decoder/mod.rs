//! The decoder: one for all families, which differ in [`ModelConfig`] only.
//!
//! Parameters are burn tensors. The passes ([`crate::model`]) run over the operations of the device that holds them: on
//! the CPU fused kernels over their memory, on devices of cubecl (features `cuda` and `wgpu`) kernels compiled for them,
//! both with a backward written by hand.
use crate::config::ModelConfig;
use crate::device::{self, Kernels, View};
use crate::error::PolicyError;
use crate::gradients::{Gradients, square_sum};
use crate::host::gemm::Operands;
use crate::host::lora::Dropout;
use crate::host::ops::{HostModel, NarrowParams, Packed, WeightPanels};
use crate::host::rope::RopeTable;
use crate::lora::LoraSettings;
use crate::memory::available_bytes;
use crate::model::update::AdamWStep;
use crate::packed::PackedBatch;
use crate::spec::{ParamLayout, ParamSpec};
use crate::tensors::{WeightSource, first_not_finite};
use crate::trained::Trained;
use crate::vision::Processor;
use crate::weights::check_shapes;
use burn::backend::Flex;
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_flex::FlexTensor;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError, Weak};

mod cache;
mod fresh;
mod kept;
mod lora;
mod narrow;
mod passes;
mod pictures;
mod tensors;
mod training;

pub use cache::Cache;
pub use passes::Pass;
use pictures::Features;
pub use pictures::{PictureSource, keep_pixels_within, kept_pixels};

/// Keeps packed matrices, see [`Decoder::hold_packed`].
#[derive(Debug)]
pub struct HeldWeights(#[allow(dead_code)] Arc<WeightPanels>);

/// How passes are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compute {
    /// Fused kernels over host memory; needs burn's flex device.
    Host,
    /// Kernels of our own in device memory; needs a device of cubecl.
    Device,
}

/// Whether the insides of a block are computed again in the backward, or kept from the forward. The result is the same
/// bit for bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recompute {
    /// When keeping them would take more than a third of the memory that is free.
    #[default]
    Auto,
    /// In every training pass.
    Always,
    /// Never.
    Never,
}

/// A decoder-only transformer with its weights. Cloning shares the weights until one side changes.
#[derive(Debug, Clone)]
pub struct Decoder {
    config: Arc<ModelConfig>,
    layout: Arc<ParamLayout>,
    params: Vec<Tensor<2>>,
    /// The tables of the model's rotations.
    ropes: Arc<[RopeTable]>,
    device: Device,
    recompute: Recompute,
    /// What its adapters are.
    lora: Option<Arc<LoraSettings>>,
    /// Number of parameters before those of adapters.
    base_params: usize,
    /// What training changes.
    trained: Arc<Trained>,
    /// What adapters do not see in passes that are trained on.
    dropout: Option<Dropout>,
    /// Weight of the loss that balances experts.
    router_aux: f32,
    /// Operands on the host.
    operands: Operands,
    /// The packed matrices, while somebody holds them. Replaced when a weight changes.
    packed: Arc<Mutex<Weak<WeightPanels>>>,
    /// Those of matrices of which nothing is trained: they never change. Empty where everything is.
    frozen: Arc<WeightPanels>,
    /// Matrices of the base that lie in fewer bits; of these `params` has a place only. Empty where there are none.
    narrow: Arc<NarrowParams>,
    /// On a device.
    kernels: Option<Kernels>,
    /// What makes pictures of files.
    processor: Option<Arc<Processor>>,
    /// What its tower makes of pictures.
    features: Features,
}

impl Decoder {
    /// Reads the weights of a model.
    ///
    /// # Errors
    /// A missing tensor, a shape mismatch or a value that is NaN or infinite, naming the tensor; weights that do not fit
    /// into memory.
    pub fn load(
        config: ModelConfig,
        weights: &dyn WeightSource,
        device: &Device,
    ) -> Result<Self, PolicyError> {
        // Before memory is taken for what a config only claims.
        check_shapes(weights, &config)?;
        let layout = config.layout();
        let on_host = *device == Device::flex();
        if config.vision.is_some() && !on_host {
            let what = "a policy that sees computes on the CPU only: set device = \"cpu\"".into();
            return Err(PolicyError::Device { what });
        }
        // Kernels of a device want the rotation of every position, the host's only those that occur.
        let turned = config.rotations().len() * config.rotary_dim();
        let rotation = if on_host { 0 } else { config.max_position_embeddings * turned };
        let needed = layout.num_params().saturating_add(rotation).saturating_mul(size_of::<f32>());
        if let Some(free) = available_bytes().filter(|free| needed > *free) {
            return Err(PolicyError::Memory { path: weights.path().into(), needed, free });
        }
        let params = layout.specs.iter().map(|s| s.load(weights)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::from_host(config, layout, params, device))
    }

    /// Random weights: normal with standard deviation 0.02, residual outputs scaled down by `1 / √(2 · layers)`, factors of
    /// norms one, biases zero. `normal(parameter, element)` gives the deviates.
    pub fn random(config: ModelConfig, device: &Device, normal: impl Fn(usize, usize) -> f32 + Sync) -> Self {
        use rayon::prelude::*;
        let layout = config.layout();
        let residual = 1.0 / (2.0 * config.num_layers as f32).sqrt();
        let factor = if config.shape.norm_plus_one { 0.0 } else { 1.0 };
        let params = (layout.specs.par_iter().enumerate())
            .map(|(i, spec)| {
                let n = spec.shape[0] * spec.shape[1];
                if spec.is_vector() {
                    return vec![if spec.name.ends_with("bias") { 0.0 } else { factor }; n];
                }
                let output = spec.name.ends_with(".o") || spec.name.ends_with(".down");
                let std = 0.02 * if output { residual } else { 1.0 };
                (0..n).map(|j| std * normal(i, j)).collect()
            })
            .collect();
        Self::from_host(config, layout, params, device)
    }

    fn from_host(config: ModelConfig, layout: ParamLayout, values: Vec<Vec<f32>>, device: &Device) -> Self {
        let device = device.clone().without_autodiff();
        let mut params: Vec<Tensor<2>> = (layout.specs.iter().zip(values))
            .map(|(s, v)| Tensor::from_data(TensorData::new(v, s.shape), &device))
            .collect();
        let positions = config.max_position_embeddings;
        let table = |(frequencies, factor): (Vec<f32>, f32)| RopeTable::new(&frequencies, positions, factor);
        let ropes: Arc<[RopeTable]> = config.rotations().into_iter().map(table).collect();
        let kernels = Kernels::of(&mut params, &ropes);
        let (base_params, trained) = (params.len(), Arc::new(Trained::all(&layout)));
        let decoder = Self {
            config: Arc::new(config),
            layout: Arc::new(layout),
            params,
            ropes,
            device,
            recompute: Recompute::Auto,
            lora: None,
            base_params,
            trained,
            dropout: None,
            router_aux: 0.0,
            operands: Operands::F32,
            packed: Arc::default(),
            frozen: Arc::default(),
            narrow: Arc::default(),
            kernels,
            processor: None,
            features: Features::default(),
        };
        let computed = decoder.kernels.is_some() || decoder.host_tensors().is_some();
        assert!(computed, "nothing computes on {:?}", decoder.device);
        decoder
    }

    /// The same decoder with the operands of its matrix products in another type, f32 or bf16; parameters, norms,
    /// softmaxes, logits and gradients stay f32, and so does attention on the host. `None` where that type is not
    /// computed.
    pub fn with_operands(mut self, dtype: DType) -> Option<Self> {
        match &mut self.kernels {
            Some(kernels) => {
                let view = View::new(&self.layout, &self.params);
                kernels.set_dtype(dtype, view).then_some(self)
            }
            None => {
                self.operands = Operands::of(dtype)?;
                let fresh = |kept: &Option<_>| kept.as_ref().map(|_| Arc::default());
                let frozen = self.frozen.iter().map(fresh).collect();
                (self.packed, self.frozen) = (Arc::default(), Arc::new(frozen));
                Some(self)
            }
        }
    }

    /// Type of the operands of matrix products.
    pub fn operands(&self) -> DType {
        self.kernels.as_ref().map_or(self.operands.dtype(), Kernels::dtype)
    }

    /// The same weights in host memory, where nothing that happens on the device reaches them. Waits for the device; on
    /// the host it shares them like a clone.
    ///
    /// # Panics
    /// If the device fails.
    pub fn on_host_memory(&self) -> Self {
        if self.compute() == Compute::Host {
            return self.clone();
        }
        let values = (0..self.params.len()).map(|i| self.param_values(i)).collect();
        let host = Self::from_host((*self.config).clone(), (*self.layout).clone(), values, &Device::flex());
        Self {
            recompute: self.recompute,
            lora: self.lora.clone(),
            base_params: self.base_params,
            trained: self.trained.clone(),
            router_aux: self.router_aux,
            processor: self.processor.clone(),
            ..host
        }
    }

    /// The kernels and what they compute with; none on the host.
    fn kernels(&self) -> Option<(&Kernels, View<'_>)> {
        let view = View { dropout: self.dropout, ..View::new(&self.layout, &self.params) };
        Some((self.kernels.as_ref()?, view))
    }

    /// Shape and constants.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The device that holds the weights.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// How passes are computed.
    pub fn compute(&self) -> Compute {
        if self.kernels.is_some() { Compute::Device } else { Compute::Host }
    }

    /// Order, names and shapes of the parameters.
    pub fn layout(&self) -> &ParamLayout {
        &self.layout
    }

    /// The parameters, in the order of [`Self::layout`].
    pub fn params(&self) -> &[Tensor<2>] {
        &self.params
    }

    /// Number of scalar parameters.
    pub fn num_params(&self) -> usize {
        self.layout.num_params()
    }

    fn host_tensors(&self) -> Option<Vec<FlexTensor>> {
        self.params.iter().map(|p| p.clone().try_into_primitive::<Flex>().ok()).collect()
    }

    /// The weights on the host, with matrices that were packed from them.
    ///
    /// # Panics
    /// Off the host.
    fn host(&self, panels: Arc<WeightPanels>) -> HostModel {
        let Some(params) = self.host_tensors() else { panic!("weights are not on the host") };
        HostModel {
            layout: self.layout.clone(),
            params,
            narrow: self.narrow.clone(),
            panels,
            trained: self.trained.clone(),
            operands: self.operands,
            dropout: self.dropout,
            ropes: self.ropes.clone(),
            pictures: None,
        }
    }

    /// The packed matrices, the same for all that hold them at the same time; empty off the host.
    fn panels(&self) -> Arc<WeightPanels> {
        if self.compute() != Compute::Host {
            return Arc::default();
        }
        let mut packed = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        packed.upgrade().unwrap_or_else(|| {
            let kept = |i: usize| Some(self.frozen_panel(i).unwrap_or_default());
            let panels = Arc::new((0..self.params.len()).map(kept).collect());
            *packed = Arc::downgrade(&panels);
            panels
        })
    }

    fn frozen_panel(&self, param: usize) -> Option<Arc<Packed>> {
        self.frozen.get(param)?.clone()
    }

    /// The packed matrices where somebody holds them, otherwise those that stay as they are, with adapters if there are some.
    fn held(&self) -> Arc<WeightPanels> {
        if let Some(held) = self.packed.lock().unwrap_or_else(PoisonError::into_inner).upgrade() {
            return held;
        }
        if self.frozen.is_empty() {
            return Arc::default();
        }
        let adapter = |i: usize| (i >= self.base_params).then(Arc::default);
        Arc::new((0..self.params.len()).map(|i| self.frozen_panel(i).or_else(|| adapter(i))).collect())
    }

    /// The same decoder, whose matrices stay packed once a pass without gradients needs them, as long as they do not change,
    /// also in clones. That takes their memory once more: nothing is kept where less than four times as much is free, or
    /// off the host.
    #[must_use]
    pub fn keeping_packed(mut self) -> Self {
        if self.may_keep(self.num_params() * self.operands().size()) {
            let kept = |i| Some(self.frozen_panel(i).unwrap_or_default());
            self.frozen = Arc::new((0..self.params.len()).map(kept).collect());
        }
        self
    }

    /// Whether packed matrices of so many bytes may be kept. Whoever has a narrow base wants the memory.
    fn may_keep(&self, bytes: usize) -> bool {
        let wide = self.compute() == Compute::Host && self.narrow.is_empty();
        wide && self.free_bytes().is_some_and(|free| bytes < free / 4)
    }

    /// Keeps the matrices packed for all passes until the weights change or what is returned is dropped. That takes up to
    /// twice their memory: nothing is kept where less than four times as much is free, or off the host.
    pub fn hold_packed(&self) -> Option<HeldWeights> {
        let bytes = 2 * self.num_params() * self.operands().size();
        self.may_keep(bytes).then(|| HeldWeights(self.panels()))
    }

    /// Bytes that the training pass of a batch keeps for its backward, block insides included.
    pub fn activation_bytes(&self, rows: usize) -> usize {
        let model = &self.layout.model;
        let heads = model.heads();
        // On the host queries and keys are put in place on the fly, elsewhere they are kept so.
        let copies = if self.compute() == Compute::Host { 1 } else { 2 };
        let mlp = model.widest_mlp(&self.layout);
        let row = 2 * model.hidden + copies * heads.qkv_width() + heads.out_width() + mlp;
        let blocks = model.blocks.len() - self.trained.depth().first_block;
        rows * row * blocks * size_of::<f32>()
    }

    /// The same decoder with another rule of [`should_recompute`](Self::should_recompute).
    #[must_use]
    pub fn with_recompute(self, recompute: Recompute) -> Self {
        Self { recompute, ..self }
    }

    /// The same decoder with another weight of [`Load::balance`](crate::targets::Load::balance) in the losses that it is trained with. It computes
    /// the same: trainers read it.
    #[must_use]
    pub fn with_router_aux(self, weight: f32) -> Self {
        Self { router_aux: weight, ..self }
    }

    /// Weight of [`Load::balance`](crate::targets::Load::balance) in a loss; 0 at first.
    pub fn router_aux(&self) -> f32 {
        self.router_aux
    }

    /// The same decoder with other end tokens in its config, which a saved folder records.
    #[must_use]
    pub fn with_eos_token_ids(mut self, ids: &[u32]) -> Self {
        Arc::make_mut(&mut self.config).eos_token_ids = ids.to_vec();
        self
    }

    /// Whether a batch's training pass should recompute block insides.
    pub fn should_recompute(&self, batch: &PackedBatch) -> bool {
        match self.recompute {
            Recompute::Always => return true,
            Recompute::Never => return false,
            Recompute::Auto => {}
        }
        let bytes = self.activation_bytes(batch.rows());
        // Small passes need not ask the system.
        bytes > 256 << 20 && self.free_bytes().is_some_and(|free| bytes > free / 3)
    }

    /// Bytes of keys and values a token of a cache.
    pub fn cache_bytes(&self) -> usize {
        let c = &self.config;
        let element = if self.compute() == Compute::Host { size_of::<f32>() } else { self.operands().size() };
        2 * c.num_layers * c.num_kv_heads * c.head_dim * element
    }

    /// Memory that passes can still take, in bytes, where that is known.
    pub fn free_bytes(&self) -> Option<usize> {
        match &self.kernels {
            Some(kernels) => {
                let used = self.device.memory_pool_usage()?.bytes_in_use;
                Some(kernels.memory()?.saturating_sub(used) as usize)
            }
            None => available_bytes(),
        }
    }

    /// Zero gradients for this decoder's way of computing.
    pub fn zero_gradients(&self) -> Gradients {
        match self.compute() {
            Compute::Host => Gradients::zeros_on_host(&self.trained),
            Compute::Device => Gradients::zeros_on_device(&self.layout, self.trained.flags(), &self.device),
        }
    }

    /// Changes every parameter of which something is trained in place: `f(index, spec, values)` on the host, with all its
    /// values. Weights shared with a clone are copied first.
    ///
    /// # Panics
    /// Off the flex device.
    pub fn update_on_host(&mut self, mut f: impl FnMut(usize, &ParamSpec, &mut [f32])) {
        self.packed = Arc::default();
        if self.trained.depth().pictures {
            self.own_features();
        }
        let device = self.device.clone();
        for (i, (spec, param)) in self.layout.specs.iter().zip(&mut self.params).enumerate() {
            if !self.trained.flags()[i] {
                continue;
            }
            let taken = std::mem::replace(param, Tensor::zeros([1, 1], &device));
            let Ok(mut flex) = taken.try_into_primitive::<Flex>() else {
                panic!("weights are not on the host")
            };
            f(i, spec, flex.storage_mut::<f32>());
            *param = Tensor::from_primitive::<Flex>(flex);
            if self.frozen.get(i).is_some_and(Option::is_some) {
                Arc::make_mut(&mut self.frozen)[i] = Some(Arc::default());
            }
        }
    }

    /// One AdamW update of every parameter that has moments (first, second) and a gradient.
    ///
    /// # Panics
    /// On the host.
    pub fn adamw_on_device(
        &mut self,
        moments: &mut [Option<[Tensor<2>; 2]>],
        grads: &[Option<Tensor<2>>],
        k: AdamWStep,
    ) {
        let Some(kernels) = &mut self.kernels else { panic!("weights are on no device") };
        for (i, (moments, g)) in moments.iter_mut().zip(grads).enumerate() {
            let (Some(moments), Some(g)) = (moments, g) else { continue };
            let p = std::mem::replace(&mut self.params[i], Tensor::zeros([1, 1], &self.device));
            self.params[i] = kernels.adamw(p, moments, g, k);
            kernels.refresh(i, View::new(&self.layout, &self.params));
        }
    }

    /// Name of the first trained parameter that holds NaN or an infinity; off the host also of one whose squares add up to more
    /// than f32 holds. Waits for the device.
    pub fn first_not_finite(&self) -> Option<&str> {
        let broken = |i: &usize| match self.params[*i].clone().try_into_primitive::<Flex>() {
            Ok(values) => first_not_finite(values.storage::<f32>()).is_some(),
            Err(_) => !square_sum(&self.params[*i..=*i]).is_finite(),
        };
        // One look at all of them where each look waits for the device.
        if self.compute() != Compute::Host && square_sum(&self.params).is_finite() {
            return None;
        }
        let index = (0..self.params.len()).filter(|i| self.trained()[*i]).find(broken)?;
        Some(&self.layout.specs[index].name)
    }

    /// Values of one parameter, row-major.
    ///
    /// # Panics
    /// If the device fails.
    pub fn param_values(&self, index: usize) -> Vec<f32> {
        if let Some(narrow) = self.narrow_matrix(index) {
            let mut values = vec![0.0; narrow.elements()];
            narrow.read(0..self.layout.specs[index].shape[0], &mut values);
            return values;
        }
        let data = self.params[index].clone().into_data();
        data.convert::<f32>()
            .try_to_vec()
            .unwrap_or_else(|e| panic!("parameter {index} cannot be read: {e:?}"))
    }

    /// Sets one parameter from row-major values.
    ///
    /// # Panics
    /// If their number does not fit.
    pub fn set_param(&mut self, index: usize, values: Vec<f32>) {
        self.packed = Arc::default();
        if self.narrow_matrix(index).is_some() {
            Arc::make_mut(&mut self.narrow)[index] = None;
        }
        if self.layout.specs[index].is_of_tower() {
            self.own_features();
        }
        if index < self.frozen.len() {
            let kept = &mut Arc::make_mut(&mut self.frozen)[index];
            *kept = kept.as_ref().map(|_| Arc::default());
        }
        let shape = self.layout.specs[index].shape;
        assert_eq!(values.len(), shape[0] * shape[1], "values of {}", self.layout.specs[index].name);
        self.params[index] = Tensor::from_data(TensorData::new(values, shape), &self.device);
        if let Some(kernels) = &mut self.kernels {
            let param = self.params[index].clone();
            self.params[index] = kernels.contiguous(param);
            kernels.refresh(index, View::new(&self.layout, &self.params));
        }
    }
}

/// Matrix product as decoders compute it on the device of the operands, which have one type; in f32 where that is a
/// device of cubecl.
///
/// # Shapes
/// a `[m, k]`, b `[k, n]`; returns `[m, n]`.
pub fn product(a: &Tensor<2>, b: &Tensor<2>) -> Tensor<2> {
    device::product(a, b).unwrap_or_else(|| a.clone().matmul(b.clone()))
}
