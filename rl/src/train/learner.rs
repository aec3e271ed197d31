//! The one way in which weights change: forward, loss, backward in micro-batches, reduce, apply. GRPO, supervised training
//! and `rlvr bench` learn with it.
use crate::train::adamw::{AdamW, AdamWConfig, NotFinite};
use crate::train::trajectory::{self, Trajectory};
use rlvr_policies::Decoder;
use rlvr_policies::gradients::Gradients;
use rlvr_policies::packed::PackedBatch;
use rlvr_policies::targets::{TargetGrads, TargetStats};

/// Optimizer and gradients of a stage.
pub struct Learner {
    /// AdamW and its state.
    pub optim: AdamW,
    /// Of the update in progress; kept from one update to the next until they are released.
    grads: Option<Gradients>,
}

/// A micro-batch after its forward: what the loss sees, before its gradient goes back.
pub struct Pass<'a> {
    /// The trajectories.
    pub micro: &'a [Trajectory],
    packed: &'a PackedBatch,
    /// What the head says of each target, trajectory behind trajectory.
    pub targets: &'a TargetStats,
}

impl Pass<'_> {
    /// log π_θ of the trained tokens, by trajectory.
    pub fn logprobs(&self) -> Vec<Vec<f64>> {
        trajectory::split(self.packed, &self.targets.logprobs)
    }

    /// Gradients with that of the load-balancing loss of this pass beside them: its weight, by the share that the pass has of
    /// the `tokens` of the update.
    pub fn balanced(&self, grads: TargetGrads, router_aux: f32, tokens: usize) -> TargetGrads {
        let share = self.targets.logprobs.len() as f32 / tokens.max(1) as f32;
        TargetGrads { balance: router_aux * share, ..grads }
    }

    /// Entropy at the trained tokens, by trajectory, in nats.
    pub fn entropy(&self) -> Vec<Vec<f64>> {
        trajectory::split(self.packed, &self.targets.entropy)
    }
}

/// The gradient of the loss with respect to what the head says of each target of a micro-batch.
pub type LossOf<'a, E> = &'a mut dyn FnMut(&Pass<'_>) -> Result<TargetGrads, E>;

impl Learner {
    /// A learner with fresh optimizer state.
    pub fn new(config: AdamWConfig, decoder: &Decoder) -> Self {
        Self { optim: AdamW::new(config, decoder), grads: None }
    }

    /// Begins an update: gradients of zero.
    pub fn begin(&mut self, decoder: &Decoder) {
        match &mut self.grads {
            Some(grads) => grads.clear(),
            None => self.grads = Some(decoder.zero_gradients()),
        }
    }

    /// Forward, loss and backward of micro-batches, whose gradients are added up. Returns the number of targets.
    ///
    /// # Errors
    /// The first one of `loss`, after which the gradients are of no use.
    pub fn accumulate<'s, E>(
        &mut self,
        decoder: &Decoder,
        prompts: &[Vec<u32>],
        micro_batches: impl Iterator<Item = &'s [Trajectory]>,
        temperature: f64,
        loss: LossOf<'_, E>,
    ) -> Result<usize, E> {
        let grads = self.grads.get_or_insert_with(|| decoder.zero_gradients());
        let mut targets = 0;
        for micro in micro_batches {
            let packed = trajectory::pack(prompts, micro);
            let mut failure = None;
            let mut of = |targets: &TargetStats| {
                loss(&Pass { micro, packed: &packed, targets }).unwrap_or_else(|error| {
                    failure = Some(error);
                    vec![0.0; targets.logprobs.len()].into()
                })
            };
            decoder.train(&packed, temperature, decoder.should_recompute(&packed), &mut of, grads);
            if let Some(error) = failure {
                return Err(error);
            }
            targets += packed.targets.len();
        }
        Ok(targets)
    }

    /// Ends an update: one step of the optimizer. Returns the gradient norm before clipping.
    ///
    /// # Errors
    /// As [`AdamW::step`].
    pub fn apply(&mut self, decoder: &mut Decoder, lr: f64) -> Result<f64, NotFinite> {
        let grads = self.grads.take().unwrap_or_else(|| decoder.zero_gradients());
        let grads = self.grads.insert(reduce(grads));
        self.optim.step(decoder, grads, lr)
    }

    /// Gives the memory of the gradients back: generation needs as much for its packed weights.
    pub fn release(&mut self) {
        self.grads = None;
    }
}

/// The gradient of an update from those of all ranks. There is one rank: its own is that of the update.
fn reduce(grads: Gradients) -> Gradients {
    grads
}
