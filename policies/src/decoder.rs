//! The decoder: Llama, SmolLM2, Mistral, Qwen2/2.5 and Qwen3, which differ only in [`ModelConfig`].
//!
//! Parameters are burn tensors. On the CPU ([`Compute::Host`]) the passes run fused kernels with a hand-written
//! backward over their memory, on devices of cubecl (`Compute::Device`, features `cuda` and `wgpu`) kernels compiled for
//! the device. [`Compute::Composed`] builds them from burn's operations and autodiff, on any device. All compute the
//! same, which the tests check.
use crate::cache::Cache;
use crate::composed;
use crate::config::ModelConfig;
#[cfg(feature = "cube")]
use crate::device::{
    adamw,
    mat::Mat,
    pass::{self, DeviceModel, DeviceParts},
};
use crate::error::PolicyError;
use crate::gradients::{Gradients, square_sum};
use crate::host::attention::Heads;
use crate::host::block::WeightPanels;
use crate::host::gemm::{Operands, Panels};
use crate::host::head::{TargetGrads, TargetStats};
use crate::host::pass::HostModel;
use crate::host::rope::RopeTable;
use crate::packed::PackedBatch;
use crate::params::{ParamLayout, ParamSpec};
use crate::weights::{HostTensor, WeightSource, check_shapes, first_not_finite};
use burn::backend::Flex;
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_flex::FlexTensor;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// How passes are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compute {
    /// Fused kernels over host memory; needs burn's flex device.
    Host,
    /// Kernels of our own in device memory; needs a device of cubecl.
    #[cfg(feature = "cube")]
    Device,
    /// Burn operations and autodiff, on any device.
    Composed,
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
    rope: Arc<RopeTable>,
    device: Device,
    compute: Compute,
    recompute: Recompute,
    /// Operands on the host.
    operands: Operands,
    /// The matrices as generation wants them, while a cache holds them. Replaced when a weight changes.
    packed: Arc<Mutex<Weak<Vec<Option<Panels>>>>>,
    #[cfg(feature = "cube")]
    parts: Option<DeviceParts>,
}

/// The numbers of one AdamW update (arXiv:1711.05101, algorithm 2), all but the gradient.
#[derive(Debug, Clone, Copy)]
pub struct AdamWStep {
    /// β₁ and β₂.
    pub betas: [f32; 2],
    /// 1 − learning rate · weight decay.
    pub decay: f32,
    /// Learning rate over the first moment's bias correction.
    pub step_size: f32,
    /// One over the root of the second moment's bias correction.
    pub root_scale: f32,
    /// ε, added to the root.
    pub eps: f32,
    /// Factor of the gradient.
    pub clip: f32,
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
        let layout = ParamLayout::new(&config);
        // Kernels of a device want the rotation of every position, the host's only those that occur.
        let rotation =
            if *device == Device::flex() { 0 } else { config.max_position_embeddings * config.head_dim };
        let needed = layout.num_params().saturating_add(rotation).saturating_mul(size_of::<f32>());
        if let Some(free) = available_bytes().filter(|free| needed > *free) {
            return Err(PolicyError::Memory { path: weights.path().into(), needed, free });
        }
        let params = layout.specs.iter().map(|s| s.load(weights)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::from_host(config, layout, params, device))
    }

    /// Random weights: normal with standard deviation 0.02 (`1 / √hidden` below 2,500 columns wide), residual outputs
    /// scaled down by `1 / √(2 · layers)`, norms one, biases zero. `normal(parameter, element)` gives the deviates.
    pub fn random(config: ModelConfig, device: &Device, normal: impl Fn(usize, usize) -> f32 + Sync) -> Self {
        use rayon::prelude::*;
        let layout = ParamLayout::new(&config);
        let residual = 1.0 / (2.0 * config.num_layers as f32).sqrt();
        let params = (layout.specs.par_iter().enumerate())
            .map(|(i, spec)| {
                let n = spec.shape[0] * spec.shape[1];
                if spec.is_vector() {
                    return vec![if spec.name.ends_with("bias") { 0.0 } else { 1.0 }; n];
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
        let params: Vec<Tensor<2>> = (layout.specs.iter().zip(values))
            .map(|(s, v)| Tensor::from_data(TensorData::new(v, s.shape), &device))
            .collect();
        let on_host = params[0].clone().try_into_primitive::<Flex>().is_ok();
        let factor = config.rope_attention_factor();
        let rope = RopeTable::new(&config.rope_inv_freq(), config.max_position_embeddings, factor);
        let decoder = Self {
            config: Arc::new(config),
            layout: Arc::new(layout),
            params,
            rope: Arc::new(rope),
            device,
            compute: if on_host { Compute::Host } else { Compute::Composed },
            recompute: Recompute::Auto,
            operands: Operands::F32,
            packed: Arc::default(),
            #[cfg(feature = "cube")]
            parts: None,
        };
        #[cfg(feature = "cube")]
        let decoder = decoder.with_kernels();
        decoder
    }

    /// Computes by kernels where the device has them.
    #[cfg(feature = "cube")]
    fn with_kernels(mut self) -> Self {
        if let Some(params) = self.params.iter().map(Mat::of).collect::<Option<Vec<_>>>() {
            self.params = params.into_iter().map(Mat::tensor).collect();
            self.parts = Some(pass::parts(&self.rope, &self.params[0], self.params.len()));
            self.compute = Compute::Device;
        }
        self
    }

    /// The same decoder with the operands of its matrix products in another type, f32 or bf16; parameters, norms,
    /// softmaxes, logits and gradients stay f32, and so does attention on the host. `None` where that type is not
    /// computed.
    pub fn with_operands(mut self, dtype: DType) -> Option<Self> {
        if self.compute == Compute::Host {
            self.operands = Operands::of(dtype)?;
            self.packed = Arc::default();
            return Some(self);
        }
        #[cfg(feature = "cube")]
        if dtype != self.operands() && Mat::of(&self.params[0])?.can_compute(dtype) {
            self.parts.as_mut()?.dtype = dtype;
            (0..self.params.len()).for_each(|i| self.refresh(i));
        }
        (dtype == self.operands()).then_some(self)
    }

    /// Type of the operands of matrix products.
    pub fn operands(&self) -> DType {
        #[cfg(feature = "cube")]
        if let Some(parts) = &self.parts {
            return parts.dtype;
        }
        self.operands.dtype()
    }

    /// The same weights in host memory, where nothing that happens on the device reaches them. Waits for the device; on
    /// the host it shares them like a clone.
    ///
    /// # Panics
    /// If the device fails.
    pub fn on_host_memory(&self) -> Self {
        if self.compute == Compute::Host {
            return self.clone();
        }
        let values = (0..self.params.len()).map(|i| self.param_values(i)).collect();
        Self::from_host((*self.config).clone(), (*self.layout).clone(), values, &Device::flex())
    }

    /// Makes the working copy of a parameter anew.
    #[cfg(feature = "cube")]
    fn refresh(&mut self, index: usize) {
        if let Some(parts) = &mut self.parts
            && parts.dtype != DType::F32
            && !self.layout.specs[index].is_vector()
        {
            parts.working[index] = Mat::of(&self.params[index]).map(|m| m.cast(parts.dtype));
        }
    }

    /// Runs `f` on the device view of the weights, or gives `None` off the kernels' path.
    #[cfg(feature = "cube")]
    pub(crate) fn on_kernels<R>(&self, f: impl FnOnce(&DeviceModel) -> R) -> Option<R> {
        let parts = self.parts.as_ref().filter(|_| self.compute == Compute::Device)?;
        let params = self.params.iter().map(Mat::of).collect::<Option<Vec<_>>>()?;
        let heads = self.heads();
        Some(f(&DeviceModel { layout: &self.layout, params, parts, dtype: parts.dtype, heads }))
    }

    /// The same decoder computed another way: tests compare the two.
    ///
    /// # Panics
    /// If the device does not have it.
    pub fn with_compute(mut self, compute: Compute) -> Self {
        let fits = match compute {
            Compute::Host => self.host_tensors().is_some(),
            #[cfg(feature = "cube")]
            Compute::Device => self.parts.is_some(),
            Compute::Composed => true,
        };
        assert!(fits, "{compute:?} is not for {:?}", self.device);
        self.packed = Arc::default();
        self.compute = compute;
        self
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
        self.compute
    }

    /// Order, names and shapes of the parameters.
    pub fn layout(&self) -> &ParamLayout {
        &self.layout
    }

    /// The parameters, in the order of [`Self::layout`].
    pub fn params(&self) -> &[Tensor<2>] {
        &self.params
    }

    pub(crate) fn rope(&self) -> &RopeTable {
        &self.rope
    }

    /// Number of scalar parameters.
    pub fn num_params(&self) -> usize {
        self.layout.num_params()
    }

    fn host_tensors(&self) -> Option<Vec<FlexTensor>> {
        self.params.iter().map(|p| p.clone().try_into_primitive::<Flex>().ok()).collect()
    }

    pub(crate) fn heads(&self) -> Heads {
        let c = &self.config;
        Heads {
            heads: c.num_heads,
            kv_heads: c.num_kv_heads,
            head_dim: c.head_dim,
            eps: c.rms_norm_eps as f32,
        }
    }

    /// Runs `f` on the host view of the weights, or gives `None` off the host path.
    pub(crate) fn on_host<R>(&self, f: impl FnOnce(&HostModel) -> R) -> Option<R> {
        self.on_host_with(None, f)
    }

    /// As [`Self::on_host`], with matrices that were packed from these weights.
    pub(crate) fn on_host_with<R>(
        &self,
        panels: Option<&WeightPanels>,
        f: impl FnOnce(&HostModel) -> R,
    ) -> Option<R> {
        if self.compute != Compute::Host {
            return None;
        }
        let tensors = self.host_tensors()?;
        let params = tensors.iter().map(|t| t.storage::<f32>()).collect();
        let hidden = self.config.hidden_size;
        let (layout, heads, rope) = (&*self.layout, self.heads(), &*self.rope);
        Some(f(&HostModel { layout, params, panels, operands: self.operands, heads, rope, hidden }))
    }

    /// The matrices packed for generation, once for all caches that live at the same time; empty off the host path.
    pub(crate) fn panels(&self) -> Arc<Vec<Option<Panels>>> {
        let mut packed = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        packed.upgrade().unwrap_or_else(|| {
            let panels = Arc::new(self.on_host(|m| m.pack()).unwrap_or_default());
            *packed = Arc::downgrade(&panels);
            panels
        })
    }

    fn check(&self, batch: &PackedBatch) {
        let vocab = self.config.vocab_size;
        let most = batch.tokens.iter().chain(&batch.targets).max().copied().unwrap_or(0) as usize;
        assert!(most < vocab, "token id {most} is outside the vocabulary of {vocab}");
        let (have, need) = (self.rope.positions(), batch.max_positions());
        assert!(need <= have, "sequence of {need} tokens exceeds the context of {have}");
    }

    /// Log-probability and entropy of every target of a batch at a temperature, in nats, without gradient.
    ///
    /// # Panics
    /// If a token id is outside the vocabulary or a sequence longer than the context.
    pub fn logprobs(&self, batch: &PackedBatch, temperature: f64) -> TargetStats {
        self.check(batch);
        if batch.targets.is_empty() {
            return TargetStats::default();
        }
        #[cfg(feature = "cube")]
        if let Some(stats) = self.on_kernels(|m| m.logprobs(batch, temperature)) {
            return stats;
        }
        self.on_host(|m| m.logprobs(batch, temperature))
            .unwrap_or_else(|| composed::logprobs(self, batch, temperature))
    }

    /// Forward and backward of a micro-batch: `loss` is given what the head says of the targets and returns the
    /// gradient of the loss with respect to it; the parameters' gradients are added to `grads`. `recompute` trades a second
    /// forward for memory.
    ///
    /// # Panics
    /// As [`Self::logprobs`].
    pub fn train(
        &self,
        batch: &PackedBatch,
        temperature: f64,
        recompute: bool,
        loss: &mut dyn FnMut(&TargetStats) -> TargetGrads,
        grads: &mut Gradients,
    ) {
        self.check(batch);
        if batch.targets.is_empty() {
            loss(&TargetStats::default());
            return;
        }
        match grads {
            Gradients::Host(grads) => {
                let done = self.on_host(|m| m.train(batch, temperature, recompute, loss, grads));
                assert!(done.is_some(), "host gradients belong to the host path");
            }
            Gradients::Device(grads) => {
                #[cfg(feature = "cube")]
                if self.compute == Compute::Device {
                    self.train_by_kernels(batch, temperature, recompute, loss, grads);
                    return;
                }
                composed::train(self, batch, temperature, loss, grads);
            }
        }
    }

    #[cfg(feature = "cube")]
    fn train_by_kernels(
        &self,
        batch: &PackedBatch,
        temperature: f64,
        recompute: bool,
        loss: &mut dyn FnMut(&TargetStats) -> TargetGrads,
        grads: &mut Vec<Tensor<2>>,
    ) {
        let owned: Option<Vec<Mat>> = std::mem::take(grads).into_iter().map(Mat::owned).collect();
        let done = owned.and_then(|owned| {
            self.on_kernels(|m| m.train(batch, temperature, recompute, loss, &owned))?;
            Some(owned)
        });
        let Some(done) = done else { panic!("gradients are on no cubecl device") };
        *grads = done.into_iter().map(Mat::tensor).collect();
    }

    /// Bytes that the training pass of a batch keeps for its backward, block insides included.
    pub fn activation_bytes(&self, rows: usize) -> usize {
        let c = &self.config;
        let heads = self.heads();
        // On the host queries and keys are put in place on the fly, elsewhere they are kept so.
        let copies = if self.compute == Compute::Host { 1 } else { 2 };
        let row =
            2 * c.hidden_size + copies * heads.qkv_width() + heads.out_width() + 2 * c.intermediate_size;
        rows * row * c.num_layers * size_of::<f32>()
    }

    /// The same decoder with another rule of [`should_recompute`](Self::should_recompute).
    #[must_use]
    pub fn with_recompute(self, recompute: Recompute) -> Self {
        Self { recompute, ..self }
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
        let element = if self.compute == Compute::Host { size_of::<f32>() } else { self.operands().size() };
        2 * c.num_layers * c.num_kv_heads * c.head_dim * element
    }

    /// Memory that passes can still take, in bytes, where that is known.
    pub fn free_bytes(&self) -> Option<usize> {
        #[cfg(feature = "cube")]
        if self.compute == Compute::Device {
            let used = self.device.memory_pool_usage()?.bytes_in_use;
            return Some(self.parts.as_ref()?.memory?.saturating_sub(used) as usize);
        }
        available_bytes()
    }

    /// Logits of every position of one sequence, `[tokens, vocab]` row-major: for tests and small inputs.
    pub fn logits(&self, tokens: &[u32]) -> Vec<f32> {
        let batch = PackedBatch::new(&[crate::packed::PromptGroup { prompt: tokens, completions: vec![] }]);
        self.check(&batch);
        #[cfg(feature = "cube")]
        if let Some(logits) = self.on_kernels(|m| m.logits(&batch)) {
            return logits;
        }
        self.on_host(|m| m.logits(&batch)).unwrap_or_else(|| composed::logits(self, &batch))
    }

    /// An empty cache for `starts.len()` rows of `capacity` slots; row b's first token will sit in slot `starts[b]`.
    pub fn cache(&self, starts: &[usize], capacity: usize) -> Cache {
        Cache::new(self, starts, capacity)
    }

    /// Feeds tokens to every row and returns the logits that follow the last one.
    ///
    /// # Shapes
    /// tokens `[rows, new]` row-major, left-padded where the row starts later; returns `[rows, vocab]`.
    pub fn decode(&self, tokens: &[u32], cache: &mut Cache) -> Vec<f32> {
        cache.decode(self, tokens)
    }

    /// Zero gradients for this decoder's way of computing.
    pub fn zero_gradients(&self) -> Gradients {
        match self.compute {
            Compute::Host => Gradients::zeros_on_host(&self.layout),
            _ => Gradients::zeros_on_device(&self.layout, &self.device),
        }
    }

    /// Changes every parameter in place: `f(index, spec, values)` on the host. Weights shared with a clone are copied
    /// first.
    ///
    /// # Panics
    /// Off the flex device.
    pub fn update_on_host(&mut self, mut f: impl FnMut(usize, &ParamSpec, &mut [f32])) {
        self.packed = Arc::default();
        let device = self.device.clone();
        for (i, (spec, param)) in self.layout.specs.iter().zip(&mut self.params).enumerate() {
            let taken = std::mem::replace(param, Tensor::zeros([1, 1], &device));
            let Ok(mut flex) = taken.try_into_primitive::<Flex>() else {
                panic!("weights are not on the host")
            };
            f(i, spec, flex.storage_mut::<f32>());
            *param = Tensor::from_primitive::<Flex>(flex);
        }
    }

    /// One AdamW update of every parameter by its moments (first, second) and its gradient, on any device.
    pub fn adamw_on_device(&mut self, moments: &mut [[Tensor<2>; 2]], grads: &[Tensor<2>], k: AdamWStep) {
        for (i, (moments, g)) in moments.iter_mut().zip(grads).enumerate() {
            let p = std::mem::replace(&mut self.params[i], Tensor::zeros([1, 1], &self.device));
            #[cfg(feature = "cube")]
            if self.compute == Compute::Device {
                self.params[i] = adamw::step(p, moments, g, k);
                self.refresh(i);
                continue;
            }
            self.params[i] = composed::adamw(p, moments, g, k);
        }
    }

    /// Name of the first parameter that holds NaN or an infinity; off the host also of one whose squares add up to more
    /// than f32 holds. Waits for the device.
    pub fn first_not_finite(&self) -> Option<&str> {
        let broken = |i: &usize| match self.params[*i].clone().try_into_primitive::<Flex>() {
            Ok(values) => first_not_finite(values.storage::<f32>()).is_some(),
            Err(_) => !square_sum(&self.params[*i..=*i]).is_finite(),
        };
        // One look at all of them where each look waits for the device.
        if self.compute != Compute::Host && square_sum(&self.params).is_finite() {
            return None;
        }
        let index = (0..self.params.len()).find(broken)?;
        Some(&self.layout.specs[index].name)
    }

    /// Values of one parameter, row-major.
    ///
    /// # Panics
    /// If the device fails.
    pub fn param_values(&self, index: usize) -> Vec<f32> {
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
        let shape = self.layout.specs[index].shape;
        assert_eq!(values.len(), shape[0] * shape[1], "values of {}", self.layout.specs[index].name);
        self.params[index] = Tensor::from_data(TensorData::new(values, shape), &self.device);
        #[cfg(feature = "cube")]
        {
            if let Some(contiguous) = Mat::of(&self.params[index]) {
                self.params[index] = contiguous.tensor();
            }
            self.refresh(index);
        }
    }
}

/// The weights under their Hugging Face names, as they are saved.
impl WeightSource for Decoder {
    fn path(&self) -> &Path {
        Path::new("the policy in memory")
    }

    fn names(&self) -> Vec<String> {
        self.layout.specs.iter().flat_map(|s| s.hf_names().map(str::to_owned)).collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.load(name).ok().map(|t| t.shape)
    }

    fn load(&self, name: &str) -> Result<HostTensor, PolicyError> {
        let missing = || PolicyError::MissingTensor { path: self.path().into(), name: name.into() };
        let spec =
            self.layout.specs.iter().position(|s| s.hf_names().any(|n| n == name)).ok_or_else(missing)?;
        let part = |values: &[f32]| self.layout.specs[spec].hf_tensor(name, values).ok_or_else(missing);
        // Only what is asked for is copied.
        match self.params[spec].clone().try_into_primitive::<Flex>() {
            Ok(tensor) => part(tensor.storage::<f32>()),
            Err(_) => part(&self.param_values(spec)),
        }
    }
}

/// Matrix product as decoders compute it on the device of the operands, which have one type; in f32 where that is a
/// device of cubecl.
///
/// # Shapes
/// a `[m, k]`, b `[k, n]`; returns `[m, n]`.
pub fn product(a: &Tensor<2>, b: &Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "cube")]
    if let (Some(a), Some(b)) = (Mat::of(a), Mat::of(b)) {
        return crate::device::mat::product(&a.n(), &b.n()).tensor();
    }
    a.clone().matmul(b.clone())
}

/// Memory that can still be taken, in bytes, where the system tells.
pub fn available_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("MemAvailable:"))?;
    line.split_whitespace().nth(1)?.parse::<usize>().ok().map(|kb| kb << 10)
}
