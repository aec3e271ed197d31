//! The one way in which weights change: forward, loss, backward in micro-batches, reduce, apply. GRPO, supervised training
//! and `rlvr bench` learn with it.
use crate::config::OptimConfig;
use crate::parallel::{RanksError, Tree, World};
use crate::train::optim::{Optimizer, UpdateError, check_weights, tensor};
use crate::train::reduce::Reduction;
use crate::train::shards::{self, Micro, Sums};
use crate::train::trajectory::{self, Batch, Scores, Trajectory};
use rlvr_policies::Decoder;
use rlvr_policies::decoder::{self, HeldWeights};
use rlvr_policies::gradients::Gradients;
use rlvr_policies::targets::{Load, TargetGrads, TargetStats};
use rlvr_rollout::Prompt;
use std::borrow::Borrow;
use std::ops::Range;
use std::time::Instant;

/// Optimizer and gradients of a stage.
pub struct Learner {
    /// The optimizer and its state.
    pub optim: Optimizer,
    /// The ranks that learn together.
    world: World,
    /// Parts of an update whose gradients are summed up alone.
    shards: usize,
    /// How the gradients of several ranks become one, and which of them updates what.
    reduction: Option<Reduction>,
    /// What ranks have exchanged for updates since it was last asked.
    exchanged: Exchanged,
    /// Of the update in progress, or of its shard in progress; kept from one update to the next until they are released.
    grads: Option<Gradients>,
    /// Of its shards that are done.
    tree: Tree<Gradients>,
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

/// What a rank has exchanged with the others.
#[derive(Debug, Clone, Copy, Default)]
pub struct Exchanged {
    /// How long it took, waiting for others included, in seconds.
    pub seconds: f64,
    /// What this rank has sent, in bytes.
    pub sent_bytes: u64,
}

impl Exchanged {
    /// Counts what is exchanged meanwhile.
    fn during<T>(&mut self, world: &World, work: impl FnOnce() -> T) -> T {
        let sent = || world.transport().map_or(0, |transport| transport.sent_bytes());
        let (clock, before) = (Instant::now(), sent());
        let outcome = work();
        self.seconds += clock.elapsed().as_secs_f64();
        self.sent_bytes += sent() - before;
        outcome
    }
}

impl Learner {
    /// A learner with fresh optimizer state, for a stage of `total` updates.
    pub fn new(config: &OptimConfig, total: u64, decoder: &Decoder) -> Self {
        let optim = Optimizer::new(config, total, decoder);
        Self {
            optim,
            world: World::default(),
            shards: 1,
            reduction: None,
            exchanged: Exchanged::default(),
            grads: None,
            tree: Tree::default(),
            held: None,
            load: None,
            router_aux: 0.0,
        }
    }

    /// Cuts its updates into so many shards, a power of two, of which each rank computes as many. Before anything is
    /// restored or learned.
    pub fn share(&mut self, world: World, shards: usize, decoder: &Decoder) {
        if world.size() > 1 {
            self.reduction = Some(Reduction::new(&world, &mut self.optim, decoder));
        }
        (self.world, self.shards) = (world, shards);
    }

    /// What ranks have exchanged for updates since it was last asked.
    pub(crate) fn take_exchanged(&mut self) -> Exchanged {
        std::mem::take(&mut self.exchanged)
    }

    /// Parts of an update whose gradients are summed up alone.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// The ranks that learn together.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The shards that this rank computes.
    pub fn own_shards(&self) -> Range<usize> {
        self.world.own(self.shards)
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
        self.tree = Tree::default();
        match &mut self.grads {
            Some(grads) => grads.clear(),
            None => self.grads = Some(decoder.zero_gradients()),
        }
    }

    /// Counts how the experts of a mixture share the rows of the update that has begun, where a loss balances them: that
    /// loss is of all rows together, so the gradient of the first micro-batch needs to know the last one. With several
    /// micro-batches, or shards, this is a forward of each; `decoder_of` gives the decoder of a micro-batch by its number.
    ///
    /// # Errors
    /// A rank that is gone.
    pub(crate) fn count_routing<D: Borrow<Decoder>>(
        &mut self,
        prompts: &[Prompt],
        shards: &[Vec<Micro<'_>>],
        decoder_of: impl Fn(usize) -> D,
    ) -> Result<(), RanksError> {
        let passes: usize = shards.iter().map(Vec::len).sum();
        if self.router_aux == 0.0 || passes < 2 && self.shards == 1 {
            return Ok(());
        }
        let of_shard = |shard: usize| {
            let mut load = Load::default();
            for (number, micro) in &shards[shard] {
                let pass = self.forward(decoder_of(*number).borrow(), prompts, micro, 1.0);
                load.merge(&pass.targets().load);
            }
            load.numbers()
        };
        let mut load = Load::default();
        for shard in self.world.gather_numbers(self.own_shards().map(of_shard).collect())? {
            load.merge(&Load::from_numbers(&shard));
        }
        self.load = Some(load);
        Ok(())
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

    /// Ends a shard of the update that has begun; the next one begins, with gradients of zero.
    pub(crate) fn end_shard(&mut self, decoder: &Decoder) {
        if self.shards > 1
            && let Some(mut grads) = self.grads.take()
        {
            decoder.see_back(&mut grads);
            self.tree.push(grads, |sum, more| sum.add(&more));
            self.grads = Some(decoder.zero_gradients());
        }
    }

    /// What all shards add up beside gradients, from what those of this rank do, in their order.
    ///
    /// # Errors
    /// A rank that is gone.
    pub(crate) fn sums(&self, own: Vec<Sums>) -> Result<Sums, RanksError> {
        let mut all = Sums::default();
        for shard in self.world.gather_numbers(own.iter().map(Sums::numbers).collect())? {
            all.merge(&Sums::from_numbers(&shard).unwrap_or_default());
        }
        Ok(all)
    }

    /// Log-probabilities and entropies of the trained tokens of every trajectory under a decoder, without gradient; each rank
    /// scores its shards.
    ///
    /// # Errors
    /// A rank that is gone.
    pub(crate) fn scored(
        &self,
        decoder: &Decoder,
        batch: &Batch,
        temperature: f64,
        micro_batch: usize,
    ) -> Result<Vec<Scores>, RanksError> {
        if self.shards == 1 {
            return Ok(trajectory::scored(decoder, batch, temperature, micro_batch));
        }
        let shards = shards::split(&batch.prompts, &batch.trajectories, self.shards);
        let of_shard = |shard: usize| {
            let trajectories = shards[shard].iter().map(|i| batch.trajectories[*i].clone()).collect();
            let part = Batch { prompts: batch.prompts.clone(), trajectories };
            trajectory::scored(decoder, &part, temperature, micro_batch)
        };
        let own =
            self.own_shards().flat_map(of_shard).map(|(logprobs, entropy)| [logprobs, entropy].concat());
        let all = self.world.gather_numbers(own.collect())?;
        let mut found = vec![(Vec::new(), Vec::new()); batch.trajectories.len()];
        for (i, mut row) in shards.concat().into_iter().zip(all) {
            let entropy = row.split_off(row.len() / 2);
            found[i] = (row, entropy);
        }
        Ok(found)
    }

    /// Ends an update: one step of the optimizer. Returns the gradient norm before clipping.
    ///
    /// # Errors
    /// As [`Optimizer::step`].
    pub fn apply(&mut self, decoder: &mut Decoder, lr: f64) -> Result<f64, UpdateError> {
        self.held = None;
        let mut grads =
            self.tree.finish().or_else(|| self.grads.take()).unwrap_or_else(|| decoder.zero_gradients());
        decoder.see_back(&mut grads);
        let grads = self.grads.insert(grads);
        let Some(reduction) = &self.reduction else { return self.optim.step(decoder, grads, lr) };
        let world = &self.world;
        let norm = self.exchanged.during(world, || reduction.reduce(world, grads))?;
        self.optim.update(decoder, (grads, norm), lr)?;
        self.exchanged.during(world, || reduction.share(world, decoder))?;
        check_weights(decoder)?;
        Ok(norm)
    }

    /// The first parameter whose gradient, as the last update left it, has a value that is NaN or infinite.
    pub fn first_not_finite(&self, decoder: &Decoder) -> Option<String> {
        let grads = self.grads.as_ref()?;
        let trained = (0..decoder.layout().specs.len()).filter(|i| decoder.trained()[*i]);
        let broken = |i: usize| Some((i, grads.values(i).iter().position(|g| !g.is_finite())?));
        let (i, element) = trained.filter_map(broken).next()?;
        Some(tensor(decoder, i, |span| (span.at..span.at + span.elements.len()).contains(&element)))
    }

    /// The same on any rank: what the first says that has one.
    ///
    /// # Errors
    /// A rank that is gone.
    pub(crate) fn first_not_finite_of_all(&self, decoder: &Decoder) -> Result<Option<String>, RanksError> {
        let own = self.first_not_finite(decoder).unwrap_or_default().into_bytes();
        let found = self.world.gather(vec![own])?.into_iter().find(|name| !name.is_empty());
        Ok(found.map(|name| String::from_utf8_lossy(&name).into_owned()))
    }

    /// Gives the memory of the gradients back: generation needs as much for its packed weights.
    pub fn release(&mut self) {
        (self.grads, self.held, self.tree) = (None, None, Tree::default());
    }
}
