//! The optimizer: gradient clipping by the global norm, then one rule for every parameter that is trained.
//!
//! Parameters may belong to groups with a learning rate, a decay, a warm-up and a rule of their own. Weight decay applies to every
//! parameter whose group does not say otherwise. What is one parameter here and several Hugging Face tensors (queries, keys and
//! values; gate and up) is several to every rule for which that makes a difference.
mod adamw;
mod eight_bit;
mod muon;
mod state;

use crate::checks::Problem;
use crate::config::{OptimConfig, OptimGroup, OptimKind};
use crate::error::Error;
use crate::files::tensors::{Elements, NamedTensor};
use crate::parallel::{RanksError, World};
use crate::schedule::ScheduleConfig;
use crate::selection;
use adamw::Coefficients;
use burn::tensor::Tensor;
use rayon::prelude::*;
use rlvr_policies::decoder::{Compute, Decoder};
use rlvr_policies::gradients::{self, Gradients};
use rlvr_policies::host::gemm::Operands;
use rlvr_policies::spec::ParamSpec;
use rlvr_policies::trained::Span;
use state::{Memory, Piece, Saved, pieces};
use std::ops::Range;
use std::sync::Arc;

/// The optimizer of a stage and its state.
#[derive(Debug, Clone)]
pub struct Optimizer {
    config: OptimConfig,
    /// Updates of the whole stage, for the schedules of groups.
    total: u64,
    /// Updates done.
    steps: u64,
    state: State,
    /// Why it cannot be used for its decoder.
    problem: Option<Problem>,
}

#[derive(Debug, Clone)]
enum State {
    /// By parameter.
    Host(Vec<Vec<Piece>>),
    /// First and second moments of every parameter.
    Device(Vec<Option<[Tensor<2>; 2]>>),
}

/// Why an update cannot be made or used: training cannot go on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum UpdateError {
    /// Gradients that are NaN or infinite; nothing has changed.
    #[error("the gradient norm is {norm}; nothing was changed: lower the learning rate")]
    Gradients {
        /// Global norm before clipping.
        norm: f64,
    },
    /// Weights that are NaN or infinite after the update.
    #[error(
        "the update made parameter {name} NaN or infinite; nothing of it is saved: lower the learning rate"
    )]
    Weights {
        /// The first such parameter.
        name: String,
    },
    /// Ranks that cannot go on together.
    #[error(transparent)]
    Ranks(#[from] RanksError),
    /// Settings that do not fit the policy; nothing has changed.
    #[error("{field}: {message}")]
    Settings {
        /// The key below the optimizer's table.
        field: String,
        /// What is wrong with it.
        message: String,
    },
}

impl UpdateError {
    /// The error of a run at this step.
    pub(crate) fn at_step(self, step: u64) -> Error {
        match self {
            Self::Ranks(error) => error.into(),
            other => Error::Training { step, what: other.to_string() },
        }
    }
}

/// Elements that one task updates.
const BLOCK: usize = 1 << 14;

impl Optimizer {
    /// Fresh state for a decoder and a stage of `total` updates. Settings that do not fit it end the first step; see
    /// [`Self::problem`].
    pub fn new(config: &OptimConfig, total: u64, decoder: &Decoder) -> Self {
        let specs = &decoder.layout().specs;
        let (state, problem) = match decoder.compute() {
            Compute::Host => match selection::groups(decoder, &config.groups) {
                Ok(groups) => (State::Host(pieces(decoder, &groups, &kinds(config))), None),
                Err(problem) => (State::Host(Vec::new()), Some(problem)),
            },
            Compute::Device => {
                let zeros = |(s, trained): (&ParamSpec, &bool)| {
                    trained.then(|| [(); 2].map(|()| Tensor::zeros(s.shape, decoder.device())))
                };
                let moments = specs.iter().zip(decoder.trained()).map(zeros).collect();
                (State::Device(moments), on_device(config))
            }
        };
        Self { config: config.clone(), total, steps: 0, state, problem }
    }

    /// What is wrong with the settings for the decoder that the optimizer was made for, by a key below their table.
    pub fn problem(&self) -> Option<&Problem> {
        self.problem.as_ref()
    }

    /// Updates done.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Bytes of its state.
    pub fn state_bytes(&self) -> usize {
        match &self.state {
            State::Host(pieces) => pieces.iter().flatten().map(Piece::bytes).sum(),
            State::Device(m) => {
                m.iter().flatten().flatten().map(|m| m.shape().num_elements() * size_of::<f32>()).sum()
            }
        }
    }

    /// One update at learning rate `lr` of parameters without a group; those with one follow their own from the number of
    /// updates done. Returns the global gradient norm before clipping.
    ///
    /// # Errors
    /// Settings that do not fit, gradients that are not finite, or whose squares are not: nothing has changed. Weights that
    /// are not finite after the update: they are lost.
    pub fn step(&mut self, decoder: &mut Decoder, grads: &Gradients, lr: f64) -> Result<f64, UpdateError> {
        let norm = grads.global_norm();
        self.update(decoder, (grads, norm), lr)?;
        check_weights(decoder)?;
        Ok(norm)
    }

    /// The same for gradients whose norm is known, of what this rank keeps the state of. The weights are not looked at.
    ///
    /// # Errors
    /// As [`Self::step`], but for the weights.
    pub(crate) fn update(
        &mut self,
        decoder: &mut Decoder,
        (grads, norm): (&Gradients, f64),
        lr: f64,
    ) -> Result<(), UpdateError> {
        if let Some(Problem { field, message }) = self.problem.clone() {
            return Err(UpdateError::Settings { field, message });
        }
        let most = self.config.max_grad_norm;
        let clip = if most > 0.0 { (most / (norm + 1e-6)).min(1.0) } else { 1.0 };
        // The second moment holds squares, and would stay infinite.
        let finite = norm.is_finite() && (norm * clip).powi(2) <= f64::from(f32::MAX);
        if !finite {
            return Err(UpdateError::Gradients { norm });
        }
        let rates = self.rates(lr);
        self.steps += 1;
        let k = self.numbers(&rates, clip, decoder);
        match (&mut self.state, grads) {
            (State::Host(pieces), Gradients::Host(grads, _)) => {
                decoder.update_on_host(|i, _, p| {
                    for piece in pieces[i].iter_mut().filter(|piece| !piece.elements.is_empty()) {
                        let (p, g) = (&mut p[piece.elements.clone()], &grads[i][piece.gradient()]);
                        update(piece, &k[piece.group], p, g);
                    }
                });
            }
            (State::Device(moments), Gradients::Device(grads)) => {
                decoder.adamw_on_device(moments, grads, k[0].adamw.on_device());
            }
            (State::Host(_), Gradients::Device(_)) | (State::Device(_), Gradients::Host(..)) => {
                unreachable!("gradients and moments come from the same decoder")
            }
        }
        Ok(())
    }

    /// Where ranks may part its state, in ascending order: places among all trained elements, with the gradient of each parameter
    /// from its place in `offsets` on, where a block of [`Gradients::block_squares`] begins.
    pub(crate) fn cuts(&self, offsets: &[usize]) -> Vec<usize> {
        let State::Host(pieces) = &self.state else { return Vec::new() };
        let mut cuts = Vec::new();
        for (pieces, bounds) in pieces.iter().zip(offsets.windows(2)) {
            let blocks = (0..bounds[1] - bounds[0]).step_by(gradients::BLOCK);
            let allowed = blocks.filter(|at| pieces.iter().all(|piece| piece.may_end(*at)));
            cuts.extend(allowed.map(|at| bounds[0] + at));
        }
        cuts
    }

    /// Keeps the state of a range of all trained elements, fresh. It ends at [`Self::cuts`].
    pub(crate) fn keep(&mut self, own: &Range<usize>, offsets: &[usize]) {
        let State::Host(pieces) = &mut self.state else { return };
        for (pieces, at) in pieces.iter_mut().zip(offsets) {
            let here = own.start.saturating_sub(*at)..own.end.saturating_sub(*at);
            pieces.iter_mut().for_each(|piece| piece.keep(&here));
        }
    }

    /// [`Self::state`] from what all ranks keep, on rank 0; nothing on the others.
    ///
    /// # Errors
    /// A rank that is gone.
    pub(crate) fn gathered(&self, decoder: &Decoder, world: &World) -> Result<Vec<NamedTensor>, RanksError> {
        let (Some(transport), State::Host(pieces)) = (world.transport(), &self.state) else {
            return Ok(self.state(decoder));
        };
        let mut all = Vec::new();
        for saved in pieces.iter().flatten().flat_map(Piece::saved) {
            let mut parts: Vec<&[u8]> = vec![&[]; world.size()];
            parts[0] = saved.values.bytes();
            let whole = transport.all_to_all(&parts)?.concat();
            if world.leads() {
                let values = saved.values.like(whole);
                all.push(Saved { values, ..saved }.named());
            }
        }
        Ok(all)
    }

    /// Learning rate and weight decay of parameters without a group, at this learning rate, and of every group.
    fn rates(&self, lr: f64) -> Vec<(f64, f64)> {
        let c = &self.config;
        let of = |group: &OptimGroup| {
            let warmup_steps = group.warmup_steps.unwrap_or(c.warmup_steps);
            let schedule = ScheduleConfig { warmup_steps, ..c.schedule_config() };
            let lr = schedule.lr_at(group.lr.unwrap_or(c.lr), self.steps, self.total);
            (lr, group.weight_decay.unwrap_or(c.weight_decay))
        };
        std::iter::once((lr, c.weight_decay)).chain(c.groups.iter().map(of)).collect()
    }

    /// The numbers of the update that has begun, by group.
    fn numbers(&self, rates: &[(f64, f64)], clip: f64, decoder: &Decoder) -> Vec<Numbers> {
        let OptimConfig { betas, eps, ref muon, .. } = self.config;
        let operands = Operands::of(decoder.operands()).unwrap_or(Operands::F32);
        let of = |(lr, weight_decay): &(f64, f64)| Numbers {
            adamw: Coefficients::new(betas, eps, (*lr, *weight_decay), clip, self.steps),
            muon: muon::Step { lr: *lr, weight_decay: *weight_decay, clip, settings: **muon, operands },
        };
        rates.iter().map(of).collect()
    }

    /// The state as named tensors; further steps do not change them. From a device they are fetched. On the CPU `m.` and
    /// `v.`, or `momentum.`, with the name of a parameter, or of the Hugging Face tensor where parts of it have states of their own.
    ///
    /// # Panics
    /// If the device fails.
    pub fn state(&self, decoder: &Decoder) -> Vec<NamedTensor> {
        match &self.state {
            State::Host(pieces) => pieces.iter().flatten().flat_map(Piece::saved).map(Saved::named).collect(),
            State::Device(moments) => {
                let fetched = |(i, j, kind): (usize, usize, &str)| {
                    let spec = &decoder.layout().specs[i];
                    let name = format!("{kind}.{}", spec.name);
                    let values = moments[i].as_ref()?[j].clone().into_data().convert::<f32>().try_to_vec();
                    let values = values.unwrap_or_else(|e| panic!("{name} cannot be read: {e:?}"));
                    Some(NamedTensor::shared(name, &spec.shape, Arc::new(values)))
                };
                let all = (0..moments.len()).flat_map(|i| [(i, 0, "m"), (i, 1, "v")]);
                all.filter_map(fetched).collect()
            }
        }
    }

    /// Restores state written by [`Self::state`] after so many updates.
    ///
    /// # Errors
    /// The name of a tensor that is missing or has another size.
    pub fn restore(
        &mut self,
        decoder: &Decoder,
        steps: u64,
        mut take: impl FnMut(&str) -> Option<Elements>,
    ) -> Result<(), String> {
        match &mut self.state {
            State::Host(pieces) => pieces.iter_mut().flatten().try_for_each(|p| p.restore(&mut take))?,
            State::Device(moments) => {
                let trained = decoder.layout().specs.iter().zip(moments);
                for (spec, moments) in trained.filter_map(|(spec, m)| Some((spec, m.as_mut()?))) {
                    for (moment, kind) in moments.iter_mut().zip(["m", "v"]) {
                        let name = format!("{kind}.{}", spec.name);
                        let len = spec.shape[0] * spec.shape[1];
                        let values = match take(&name) {
                            Some(Elements::F32(values)) if values.len() == len => values,
                            _ => return Err(name),
                        };
                        let data = burn::tensor::TensorData::new(values, spec.shape);
                        *moment = Tensor::from_data(data, decoder.device());
                    }
                }
            }
        }
        self.steps = steps;
        Ok(())
    }
}

/// The weights after an update.
///
/// # Errors
/// [`UpdateError::Weights`]: one that is NaN or infinite.
pub(crate) fn check_weights(decoder: &Decoder) -> Result<(), UpdateError> {
    let Some(name) = decoder.first_not_finite() else { return Ok(()) };
    let specs = &decoder.layout().specs;
    let i = specs.iter().position(|spec| spec.name == name).unwrap_or_default();
    let element = decoder.param_values(i).iter().position(|v| !v.is_finite()).unwrap_or_default();
    let name = tensor(decoder, i, |span| span.elements.contains(&element));
    Err(UpdateError::Weights { name })
}

/// The Hugging Face name of the part of a parameter for which `is_it` says so, or of the parameter.
pub(crate) fn tensor(decoder: &Decoder, param: usize, is_it: impl Fn(&Span) -> bool) -> String {
    let span = decoder.trained_parts().spans(param).iter().find(|span| is_it(span));
    let name = span.and_then(|span| decoder.names_of(param, span.part).next());
    name.unwrap_or(&decoder.layout().specs[param].name).to_owned()
}

/// Checks that settings fit a decoder, without taking memory.
///
/// # Errors
/// What is wrong, by a key below their table.
pub(crate) fn check(config: &OptimConfig, decoder: &Decoder) -> Result<(), Problem> {
    match decoder.compute() {
        Compute::Host => selection::groups(decoder, &config.groups).map(|_| ()),
        Compute::Device => on_device(config).map_or(Ok(()), Err),
    }
}

/// What a device does not compute.
fn on_device(config: &OptimConfig) -> Option<Problem> {
    let cpu = |field: &str| Problem {
        field: field.into(),
        message: "is computed on the CPU only so far: set device = \"cpu\", or take it away".into(),
    };
    match config.kind {
        OptimKind::Adamw8bit | OptimKind::Muon => Some(cpu("kind")),
        OptimKind::Adamw => (!config.groups.is_empty()).then(|| cpu("groups")),
    }
}

/// The rules of the parameters without a group and of every group.
fn kinds(config: &OptimConfig) -> Vec<OptimKind> {
    let of = |group: &OptimGroup| group.kind.unwrap_or(config.kind);
    std::iter::once(config.kind).chain(config.groups.iter().map(of)).collect()
}

/// The numbers of an update of some parameters.
struct Numbers {
    adamw: Coefficients,
    muon: muon::Step,
}

/// Updates what a piece covers of its parameter.
fn update(piece: &mut Piece, k: &Numbers, p: &mut [f32], g: &[f32]) {
    match &mut piece.memory {
        Memory::Moments(moments) => {
            let [m, v] = moments.each_mut().map(Arc::make_mut);
            (p.par_chunks_mut(BLOCK))
                .zip(m.par_chunks_mut(BLOCK))
                .zip(v.par_chunks_mut(BLOCK))
                .zip(g.par_chunks(BLOCK))
                .for_each(|(((p, m), v), g)| k.adamw.update(p, m, v, g));
        }
        Memory::Rounded(moments) => eight_bit::update(moments, &k.adamw, p, g),
        Memory::Momentum(momentum) => {
            let momentum: &mut Vec<f32> = Arc::make_mut(momentum);
            muon::update(&k.muon, piece.shape, p, momentum, g);
        }
    }
}
