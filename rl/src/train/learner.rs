//! The one way in which weights change: forward, loss, backward in micro-batches, reduce, apply. GRPO, supervised training
//! and `rlvr bench` learn with it.
use crate::config::OptimConfig;
use crate::train::optim::{Optimizer, UpdateError, tensor};
use crate::train::trajectory::{self, Trajectory};
use rlvr_policies::Decoder;
use rlvr_policies::decoder::{self, HeldWeights};
use rlvr_policies::gradients::Gradients;
use rlvr_policies::targets::{Load, TargetGrads, TargetStats};
use rlvr_rollout::Prompt;
use std::borrow::Borrow;

/// Optimizer and gradients of a stage.
pub struct Learner {
    /// The optimizer and its state.
    pub optim: Optimizer,
    /// Of the update in progress; kept from one update to the next until they are released.
    grads: Option<Gradients>,
    /// The weights as the rollout and the passes of the update in progress want them.
    held: Option<HeldWeights>,
    /// How the experts share the rows of the update in progress: counted before its first gradient, or, where it has one
    /// pass, in that.
    load: Option<Load>,
    /// Weight of the loss that balances experts in it.
    router_aux: f32,
}

/// A micro-batch behind its forward: what the loss sees, before its gradient goes back.
pub struct Pass<'a> {
    /// The trajectories.
    pub micro: &'a [Trajectory],
    inner: decoder::Pass,
}

impl Pass<'_> {
    /// What the head says of each target, trajectory behind trajectory.
    pub fn targets(&self) -> &TargetStats {
        self.inner.targets()
    }

    /// log π_θ of the trained tokens, by trajectory.
    pub fn logprobs(&self) -> Vec<Vec<f64>> {
        trajectory::split(self.inner.batch(), &self.targets().logprobs)
    }

    /// Entropy at the trained tokens, by trajectory, in nats.
    pub fn entropy(&self) -> Vec<Vec<f64>> {
        trajectory::split(self.inner.batch(), &self.targets().entropy)
    }
}

impl Learner {
    /// A learner with fresh optimizer state, for a stage of `total` updates.
    pub fn new(config: &OptimConfig, total: u64, decoder: &Decoder) -> Self {
        let optim = Optimizer::new(config, total, decoder);
        Self { optim, grads: None, held: None, load: None, router_aux: 0.0 }
    }

    /// Keeps the weights as passes and generation want them, until they change.
    pub fn hold(&mut self, decoder: &Decoder) {
        self.held = decoder.hold_packed();
    }

    /// Begins an update of so many passes: gradients of zero.
    pub fn begin(&mut self, decoder: &Decoder, passes: usize) {
        if passes > 1 && self.held.is_none() {
            self.hold(decoder);
        }
        (self.load, self.router_aux) = (None, decoder.router_aux());
        match &mut self.grads {
            Some(grads) => grads.clear(),
            None => self.grads = Some(decoder.zero_gradients()),
        }
    }

    /// Counts how the experts of a mixture share the rows of the update that has begun, where a loss balances them: that
    /// loss is of all rows together, so the gradient of the first micro-batch needs to know the last one. With several
    /// micro-batches this is a forward of each; `decoder_of` gives the decoder of a micro-batch by its number.
    pub fn count_routing<D: Borrow<Decoder>>(
        &mut self,
        prompts: &[Prompt],
        micro_batches: &[&[Trajectory]],
        decoder_of: impl Fn(usize) -> D,
    ) {
        if self.router_aux == 0.0 || micro_batches.len() < 2 {
            return;
        }
        let mut load = Load::default();
        for (i, micro) in micro_batches.iter().enumerate() {
            load.merge(&self.forward(decoder_of(i).borrow(), prompts, micro, 1.0).targets().load);
        }
        self.load = Some(load);
    }

    /// The loss that balances experts over all rows of the update, without its weight; none without that loss.
    pub fn router_balance(&self) -> Option<f64> {
        self.load.as_ref().filter(|load| !load.is_empty()).map(Load::balance)
    }

    /// The forward of a micro-batch.
    pub fn forward<'a>(
        &self,
        decoder: &Decoder,
        prompts: &[Prompt],
        micro: &'a [Trajectory],
        temperature: f64,
    ) -> Pass<'a> {
        let packed = trajectory::pack(decoder, prompts, micro);
        let recompute = decoder.should_recompute(&packed);
        Pass { micro, inner: decoder.forward(packed, temperature, recompute) }
    }

    /// Its backward, added to the gradients of the update that has begun, for the gradients of the loss with respect to
    /// [`Pass::targets`]; that of the loss that balances experts is added here.
    pub fn backward(&mut self, pass: Pass<'_>, mut grads: TargetGrads) {
        if self.router_aux != 0.0 {
            let load = self.load.get_or_insert_with(|| pass.targets().load.clone());
            grads.balance = Some(load.slopes(self.router_aux));
        }
        if let Some(sum) = &mut self.grads {
            pass.inner.backward(&grads, sum);
        }
    }

    /// Ends an update: one step of the optimizer. Returns the gradient norm before clipping.
    ///
    /// # Errors
    /// As [`Optimizer::step`].
    pub fn apply(&mut self, decoder: &mut Decoder, lr: f64) -> Result<f64, UpdateError> {
        self.held = None;
        let grads = self.grads.take().unwrap_or_else(|| decoder.zero_gradients());
        let mut grads = grads;
        decoder.see_back(&mut grads);
        let grads = self.grads.insert(reduce(grads));
        self.optim.step(decoder, grads, lr)
    }

    /// The first parameter whose gradient, as the last update left it, has a value that is NaN or infinite.
    pub fn first_not_finite(&self, decoder: &Decoder) -> Option<String> {
        let grads = self.grads.as_ref()?;
        let trained = (0..decoder.layout().specs.len()).filter(|i| decoder.trained()[*i]);
        let broken = |i: usize| Some((i, grads.values(i).iter().position(|g| !g.is_finite())?));
        let (i, element) = trained.filter_map(broken).next()?;
        Some(tensor(decoder, i, |span| (span.at..span.at + span.elements.len()).contains(&element)))
    }

    /// Gives the memory of the gradients back: generation needs as much for its packed weights.
    pub fn release(&mut self) {
        (self.grads, self.held) = (None, None);
    }
}

/// The gradient of an update from those of all ranks. There is one rank: its own is that of the update.
fn reduce(grads: Gradients) -> Gradients {
    grads
}
