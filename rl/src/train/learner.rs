//! The one way in which weights change: forward, loss, backward in micro-batches, reduce, apply. GRPO, supervised training
//! and `rlvr bench` learn with it.
use crate::config::OptimConfig;
use crate::train::optim::{Optimizer, UpdateError};
use crate::train::trajectory::{self, Trajectory};
use rlvr_policies::Decoder;
use rlvr_policies::decoder::{self, HeldWeights};
use rlvr_policies::gradients::Gradients;
use rlvr_policies::targets::{TargetGrads, TargetStats};

/// Optimizer and gradients of a stage.
pub struct Learner {
    /// The optimizer and its state.
    pub optim: Optimizer,
    /// Of the update in progress; kept from one update to the next until they are released.
    grads: Option<Gradients>,
    /// The weights as the passes of the update in progress want them.
    held: Option<HeldWeights>,
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

    /// Gradients with that of the load-balancing loss of this pass beside them: its weight, by the share that the pass has of
    /// the `tokens` of the update.
    pub fn balanced(&self, grads: TargetGrads, router_aux: f32, tokens: usize) -> TargetGrads {
        let share = self.targets().logprobs.len() as f32 / tokens.max(1) as f32;
        TargetGrads { balance: router_aux * share, ..grads }
    }
}

impl Learner {
    /// A learner with fresh optimizer state, for a stage of `total` updates.
    pub fn new(config: &OptimConfig, total: u64, decoder: &Decoder) -> Self {
        Self { optim: Optimizer::new(config, total, decoder), grads: None, held: None }
    }

    /// Begins an update of so many passes: gradients of zero.
    pub fn begin(&mut self, decoder: &Decoder, passes: usize) {
        self.held = if passes > 1 { decoder.hold_packed() } else { None };
        match &mut self.grads {
            Some(grads) => grads.clear(),
            None => self.grads = Some(decoder.zero_gradients()),
        }
    }

    /// The forward of a micro-batch.
    pub fn forward<'a>(
        &self,
        decoder: &Decoder,
        prompts: &[Vec<u32>],
        micro: &'a [Trajectory],
        temperature: f64,
    ) -> Pass<'a> {
        let packed = trajectory::pack(prompts, micro);
        let recompute = decoder.should_recompute(&packed);
        Pass { micro, inner: decoder.forward(packed, temperature, recompute) }
    }

    /// Its backward, added to the gradients of the update that has begun, for the gradients of the loss with respect to
    /// [`Pass::targets`].
    pub fn backward(&mut self, pass: Pass<'_>, grads: &TargetGrads) {
        if let Some(sum) = &mut self.grads {
            pass.inner.backward(grads, sum);
        }
    }

    /// Ends an update: one step of the optimizer. Returns the gradient norm before clipping.
    ///
    /// # Errors
    /// As [`Optimizer::step`].
    pub fn apply(&mut self, decoder: &mut Decoder, lr: f64) -> Result<f64, UpdateError> {
        self.held = None;
        let grads = self.grads.take().unwrap_or_else(|| decoder.zero_gradients());
        let grads = self.grads.insert(reduce(grads));
        self.optim.step(decoder, grads, lr)
    }

    /// The first parameter whose gradient, as the last update left it, has a value that is NaN or infinite.
    pub fn first_not_finite(&self, decoder: &Decoder) -> Option<String> {
        let grads = self.grads.as_ref()?;
        let broken = |i: &usize| decoder.trained()[*i] && grads.values(*i).iter().any(|g| !g.is_finite());
        let specs = &decoder.layout().specs;
        (0..specs.len()).find(broken).map(|i| specs[i].name.clone())
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
