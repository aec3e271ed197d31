//! What the rest of the crate sees of the kernels, where they are compiled.
pub use super::cache::KernelCache;
use super::mat::Mat;
use super::ops::{DeviceModel, DeviceParts};
use super::sample::{Sampling, draw_once};
use super::{adamw, elementwise, mat};
use crate::error::PolicyError;
use crate::host::lora::Dropout;
use crate::host::rope::RopeTable;
use crate::model::draw::{DrawAt, DrawnSteps};
use crate::model::pass::{self, Forward};
use crate::model::update::AdamWStep;
use crate::packed::PackedBatch;
use crate::spec::ParamLayout;
use crate::targets::{TargetGrads, TargetStats};
use crate::trained::Depth;
use burn::tensor::{DType, Tensor};
use std::sync::Arc;

/// What a decoder has on a device besides its parameters.
#[derive(Debug, Clone)]
pub struct Kernels(Arc<DeviceParts>);

/// A decoder's parameters and what it does with them.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// What it does.
    pub layout: &'a Arc<ParamLayout>,
    /// The parameters.
    pub params: &'a [Tensor<2>],
    /// What adapters do not see.
    pub dropout: Option<Dropout>,
}

impl<'a> View<'a> {
    /// Of parameters whose adapters see everything.
    pub fn new(layout: &'a Arc<ParamLayout>, params: &'a [Tensor<2>]) -> Self {
        Self { layout, params, dropout: None }
    }
}

impl Kernels {
    /// For parameters on a device that kernels are compiled for; they are made contiguous.
    pub fn of(params: &mut [Tensor<2>], ropes: &[RopeTable]) -> Option<Self> {
        let all = params.iter().map(Mat::of).collect::<Option<Vec<_>>>()?;
        params.iter_mut().zip(all).for_each(|(p, mat)| *p = mat.tensor());
        Some(Self(Arc::new(DeviceParts::new(ropes, &params[0], params.len()))))
    }

    /// Type of the operands of matrix products.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// Bytes of memory that the device has, where it says so.
    pub fn memory(&self) -> Option<u64> {
        self.0.memory
    }

    /// Changes the type of operands, if the device computes in it.
    pub fn set_dtype(&mut self, dtype: DType, view: View<'_>) -> bool {
        if dtype != self.0.dtype {
            if !Mat::of(&view.params[0]).is_some_and(|m| m.can_compute(dtype)) {
                return false;
            }
            let parts = Arc::make_mut(&mut self.0);
            parts.dtype = dtype;
            parts.working.fill(None);
            (0..view.params.len()).for_each(|i| self.refresh(i, view));
        }
        true
    }

    /// Makes the working copy of a parameter anew.
    pub fn refresh(&mut self, index: usize, view: View<'_>) {
        if self.0.dtype != DType::F32 && !view.layout.specs[index].is_vector() {
            let copy = Mat::of(&view.params[index]).map(|m| m.cast(self.0.dtype));
            Arc::make_mut(&mut self.0).working[index] = copy;
        }
    }

    /// Takes in parameters that have been added behind those there were, and makes them contiguous.
    pub fn extend(&mut self, layout: &ParamLayout, params: &mut [Tensor<2>]) {
        let parts = Arc::make_mut(&mut self.0);
        for (spec, param) in layout.specs.iter().zip(params).skip(parts.working.len()) {
            let Some(mat) = Mat::of(param) else { panic!("parameters are on no cubecl device") };
            let narrow = parts.dtype != DType::F32 && !spec.is_vector();
            parts.working.push(narrow.then(|| mat.cast(parts.dtype)));
            *param = mat.tensor();
        }
    }

    /// A parameter as kernels read it.
    pub fn contiguous(&self, param: Tensor<2>) -> Tensor<2> {
        Mat::of(&param).map_or(param, Mat::tensor)
    }

    fn model(&self, view: View<'_>) -> DeviceModel {
        let params = view.params.iter().map(Mat::of).collect::<Option<Vec<_>>>();
        let Some(params) = params else { panic!("weights are on no cubecl device") };
        DeviceModel { layout: view.layout.clone(), params, parts: self.0.clone(), dropout: view.dropout }
    }

    /// As [`crate::Decoder::logprobs`].
    pub fn logprobs(&self, view: View<'_>, batch: &PackedBatch, temperature: f64) -> TargetStats {
        pass::logprobs(&self.model(view), &view.layout.model, batch, temperature)
    }

    /// As [`crate::Decoder::logprobs_and_logits`].
    pub fn logprobs_and_logits(
        &self,
        view: View<'_>,
        batch: &PackedBatch,
        temperature: f64,
        mut seen: impl FnMut(Vec<f32>),
    ) -> TargetStats {
        let (model, read) = (self.model(view), |logits: Mat| seen(logits.read()));
        pass::logprobs_and_logits(&model, &view.layout.model, batch, temperature, read)
    }

    /// As [`crate::Decoder::logits`].
    pub fn logits(&self, view: View<'_>, batch: &PackedBatch) -> Vec<f32> {
        pass::logits(&self.model(view), &view.layout.model, batch).read()
    }

    /// As [`crate::Decoder::forward`].
    pub fn forward(
        &self,
        view: View<'_>,
        batch: &PackedBatch,
        temperature: f64,
        recompute: bool,
    ) -> DevicePass {
        let model = self.model(view);
        let forward =
            pass::forward(&model, &view.layout.model, batch, temperature, (recompute, Depth::WHOLE));
        DevicePass { model, forward }
    }

    /// Feeds prompts; the logits that follow stay on the device.
    pub fn prefill(&self, view: View<'_>, prompts: &[&[u32]], room: usize) -> (KernelCache, Logits) {
        let (cache, logits) = KernelCache::prefill(&self.model(view), prompts, room);
        (cache, Logits(logits))
    }

    /// Feeds a token to every row and returns the logits that follow, `[rows, vocab]`.
    pub fn step(&self, view: View<'_>, cache: &mut KernelCache, tokens: &[u32]) -> Vec<f32> {
        cache.step(&self.model(view), tokens).read()
    }

    /// As [`crate::decoder::Cache::step_and_draw`].
    pub fn step_and_draw(
        &self,
        view: View<'_>,
        cache: &mut KernelCache,
        tokens: &[u32],
        draws: &[DrawAt],
        steps: usize,
        temperature: f64,
    ) -> Result<DrawnSteps, PolicyError> {
        let drawn = cache.steps(&self.model(view), tokens, draws, steps, Sampling::new(temperature));
        drawn.map_err(|e| PolicyError::Device { what: e.to_string() })
    }

    /// One AdamW update of a parameter by its moments and its gradient.
    pub fn adamw(
        &self,
        p: Tensor<2>,
        moments: &mut [Tensor<2>; 2],
        g: &Tensor<2>,
        k: AdamWStep,
    ) -> Tensor<2> {
        adamw::step(p, moments, g, k)
    }
}

/// A batch behind its forward.
pub struct DevicePass {
    model: DeviceModel,
    forward: Forward<DeviceModel>,
}

impl DevicePass {
    /// What the head says of the targets.
    pub fn stats(&self) -> &TargetStats {
        &self.forward.stats
    }

    /// As [`crate::decoder::Pass::backward`].
    pub fn backward(self, batch: &PackedBatch, g: &TargetGrads, grads: &mut [Option<Tensor<2>>]) {
        let owned = |g: &mut Option<Tensor<2>>| {
            g.take().map(|g| Mat::owned(g).unwrap_or_else(|| panic!("gradients are on no cubecl device")))
        };
        let mut owned: Vec<Option<Mat>> = grads.iter_mut().map(owned).collect();
        let Self { model, forward } = self;
        pass::backward(&model, &model.layout.model, batch, forward, g, &mut owned);
        grads.iter_mut().zip(owned).for_each(|(g, mat)| *g = mat.map(Mat::tensor));
    }
}

/// Logits on a device, `[rows, vocab]`.
pub struct Logits(Mat);

impl Logits {
    /// On the host.
    pub fn read(&self) -> Vec<f32> {
        self.0.read()
    }

    /// One token for each draw.
    pub fn draw(&self, draws: &[DrawAt], temperature: f64) -> Vec<(u32, f32)> {
        draw_once(&self.0, draws, Sampling::new(temperature))
    }
}

/// The sum of the squares of all elements of tensors on a device; waits for it. `None` for those that are on none.
pub fn square_sum(tensors: &[Tensor<2>]) -> Option<f64> {
    let all = tensors.iter().map(Mat::of).collect::<Option<Vec<_>>>()?;
    Some(elementwise::square_sum(&all))
}

/// Matrix product as the passes compute it; `None` for tensors that are on no device.
pub fn product(a: &Tensor<2>, b: &Tensor<2>) -> Option<Tensor<2>> {
    Some(mat::product(&Mat::of(a)?.n(), &Mat::of(b)?.n()).tensor())
}
