//! What the rest of the crate sees of the kernels in a build without them: types that have no values.
use crate::error::PolicyError;
use crate::host::lora::Dropout;
use crate::host::rope::RopeTable;
use crate::model::draw::{DrawAt, DrawnSteps};
use crate::model::update::AdamWStep;
use crate::packed::PackedBatch;
use crate::spec::{Heads, ParamLayout};
use crate::targets::{TargetGrads, TargetStats};
use burn::tensor::{DType, Tensor};
use std::sync::Arc;

#[derive(Debug, Clone)]
pub struct Kernels(Never);

#[derive(Debug, Clone)]
pub struct KernelCache(Never);

pub struct Logits(Never);

pub struct DevicePass(Never);

#[derive(Debug, Clone, Copy)]
enum Never {}

#[allow(dead_code)]
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub layout: &'a Arc<ParamLayout>,
    pub params: &'a [Tensor<2>],
    pub dropout: Option<Dropout>,
}

impl<'a> View<'a> {
    pub fn new(layout: &'a Arc<ParamLayout>, params: &'a [Tensor<2>]) -> Self {
        Self { layout, params, dropout: None }
    }
}

impl Kernels {
    pub fn of(_: &mut [Tensor<2>], _: &[RopeTable]) -> Option<Self> {
        None
    }

    pub fn dtype(&self) -> DType {
        match self.0 {}
    }

    pub fn memory(&self) -> Option<u64> {
        match self.0 {}
    }

    pub fn set_dtype(&mut self, _: DType, _: View<'_>) -> bool {
        match self.0 {}
    }

    pub fn refresh(&mut self, _: usize, _: View<'_>) {
        match self.0 {}
    }

    pub fn extend(&mut self, _: &ParamLayout, _: &mut [Tensor<2>]) {
        match self.0 {}
    }

    pub fn contiguous(&self, _: Tensor<2>) -> Tensor<2> {
        match self.0 {}
    }

    pub fn logprobs(&self, _: View<'_>, _: &PackedBatch, _: f64) -> TargetStats {
        match self.0 {}
    }

    pub fn logprobs_and_logits(
        &self,
        _: View<'_>,
        _: &PackedBatch,
        _: f64,
        _: impl FnMut(Vec<f32>),
    ) -> TargetStats {
        match self.0 {}
    }

    pub fn logits(&self, _: View<'_>, _: &PackedBatch) -> Vec<f32> {
        match self.0 {}
    }

    pub fn forward(&self, _: View<'_>, _: &PackedBatch, _: f64, _: bool) -> DevicePass {
        match self.0 {}
    }

    pub fn prefill(&self, _: View<'_>, _: &[&[u32]], _: usize) -> (KernelCache, Logits) {
        match self.0 {}
    }

    pub fn step(&self, _: View<'_>, _: &mut KernelCache, _: &[u32]) -> Vec<f32> {
        match self.0 {}
    }

    pub fn step_and_draw(
        &self,
        _: View<'_>,
        _: &mut KernelCache,
        _: &[u32],
        _: &[DrawAt],
        _: usize,
        _: f64,
    ) -> Result<DrawnSteps, PolicyError> {
        match self.0 {}
    }

    pub fn adamw(&self, _: Tensor<2>, _: &mut [Tensor<2>; 2], _: &Tensor<2>, _: AdamWStep) -> Tensor<2> {
        match self.0 {}
    }
}

impl KernelCache {
    pub fn is_recorded(&self) -> bool {
        match self.0 {}
    }

    pub fn select_rows(self, _: &Heads, _: &[usize], _: usize) -> Self {
        self
    }

    pub fn append_rows(self, _: &Heads, _: Self, _: usize) -> Self {
        self
    }
}

impl DevicePass {
    pub fn stats(&self) -> &TargetStats {
        match self.0 {}
    }

    pub fn backward(self, _: &PackedBatch, _: &TargetGrads, _: &mut [Option<Tensor<2>>]) {
        match self.0 {}
    }
}

impl Logits {
    pub fn read(&self) -> Vec<f32> {
        match self.0 {}
    }

    pub fn draw(&self, _: &[DrawAt], _: f64) -> Vec<(u32, f32)> {
        match self.0 {}
    }
}

pub fn square_sum(_: &[Tensor<2>]) -> Option<f64> {
    None
}

pub fn product(_: &Tensor<2>, _: &Tensor<2>) -> Option<Tensor<2>> {
    None
}
