//! Decoding steps that the host does not wait for: what a step reads and writes lies at fixed places on the device, and
//! each step leaves there what the next one needs.
//!
//! The first step of a batch runs as it is, which tunes the matrix products. The second one is recorded, and all later
//! ones replay the recording as a whole (a CUDA graph) instead of launching some hundred kernels each. Devices that cannot
//! record launch them.
use super::cache::KernelCache;
use super::mat::Mat;
use super::ops::DeviceModel;
use super::sample::{Sampling, WORDS, draw, pairs};
use crate::model::draw::{DrawAt, DrawnSteps};
use crate::spec::Mlp;
use burn::tensor::DType;
use cubecl::client::Graph;
use cubecl::prelude::*;
use std::thread::{self, ThreadId};

/// Most steps between two looks of the host.
pub const MOST_STEPS: usize = 16;

/// Set to 0 to launch every kernel of every step.
const SWITCH: &str = "RLVR_DEVICE_GRAPHS";

/// What the device did not do. Tokens, keys and values are lost with it.
#[derive(Debug, thiserror::Error)]
#[error("a decoding step cannot be {what}: {reason}; RLVR_DEVICE_GRAPHS=0 goes without recorded steps")]
pub struct StepError {
    what: &'static str,
    reason: String,
}

/// What a step reads and writes besides keys, values and weights. A row of the batch in each column or row.
#[derive(Debug)]
pub struct Stepper {
    /// The row itself, the token to feed, and the slot it goes to: `[1, rows]` each.
    rows: Mat,
    tokens: Mat,
    slots: Mat,
    /// What to draw, see [`draw`]: `[rows, WORDS]`.
    words: Mat,
    /// Steps since the host last looked, `[1, 1]`.
    at: Mat,
    /// Tokens and log-probabilities of these steps, `[MOST_STEPS · rows, 2]`.
    drawn: Mat,
    sampling: Sampling,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing has run.
    New,
    /// The matrix products of these shapes are tuned.
    Tuned,
    /// Later steps replay this.
    Recorded(Recording),
    /// Later steps launch their kernels.
    Launched,
}

/// A recorded step with the memory that it reads and writes, and the thread whose stream it is replayed on.
struct Recording {
    graph: Graph,
    thread: ThreadId,
    _alive: Vec<Mat>,
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording").finish_non_exhaustive()
    }
}

#[cube(launch)]
fn advance_kernel(slots: &mut [u32], words: &mut [u32], at: &mut [u32], rows: usize) {
    if ABSOLUTE_POS < rows {
        slots[ABSOLUTE_POS] += 1;
        words[ABSOLUTE_POS * 7 + 1] += 1;
        if ABSOLUTE_POS == 0 {
            at[0] += 1;
        }
    }
}

impl Stepper {
    /// Room for the steps of `n` rows. Steps of a model that waits for the host in between, to see which experts tokens go
    /// to, are not recorded.
    pub fn new(model: &DeviceModel, n: usize, sampling: Sampling) -> Self {
        let like = model.like();
        let waits = model.model().blocks.iter().any(|b| matches!(b.mlp, Mlp::Experts(_)));
        let all: Vec<u32> = (0..n as u32).collect();
        let empty = |rows, cols| like.empty(rows, cols, DType::U32);
        Self {
            rows: like.upload(&all, 1, n),
            tokens: empty(1, n),
            slots: empty(1, n),
            words: empty(n, WORDS),
            at: empty(1, 1),
            drawn: like.empty(MOST_STEPS * n, 2, DType::F32),
            sampling,
            state: if waits { State::Launched } else { State::New },
        }
    }

    /// Whether it draws in this way.
    pub fn draws(&self, sampling: Sampling) -> bool {
        self.sampling == sampling
    }

    /// Whether further steps replay a recording.
    pub fn is_recorded(&self) -> bool {
        matches!(self.state, State::Recorded(_))
    }

    /// Feeds `tokens` to slots `slots`, and then `steps − 1` times what was drawn; gives the draws of every step. Each
    /// draw counts its counter up by one a step.
    ///
    /// # Errors
    /// A device that begins to record a step and then fails, or does not replay it.
    ///
    /// # Panics
    /// If two draws are of the same row, or there are more than [`MOST_STEPS`] steps.
    pub fn run(
        &mut self,
        model: &DeviceModel,
        cache: &KernelCache,
        tokens: &[u32],
        slots: &[u32],
        draws: &[DrawAt],
        steps: usize,
    ) -> Result<DrawnSteps, StepError> {
        assert!((1..=MOST_STEPS).contains(&steps), "{steps} steps at once");
        // A row that nothing is drawn from gets some token.
        let mut each: Vec<DrawAt> =
            (0..tokens.len()).map(|row| DrawAt { row, counter: [0; 4], key: [0; 2] }).collect();
        let mut asked = vec![false; tokens.len()];
        for d in draws {
            assert!(!std::mem::replace(&mut asked[d.row], true), "row {} is drawn from twice", d.row);
            each[d.row] = *d;
        }
        self.tokens.write(tokens);
        self.slots.write(slots);
        self.words.write(&super::sample::words(&each));
        self.at.write(&[0u32]);
        for _ in 0..steps {
            self.step(model, cache)?;
        }
        let drawn = pairs(&self.drawn, steps * tokens.len());
        Ok(drawn.chunks(tokens.len()).map(|step| draws.iter().map(|d| step[d.row]).collect()).collect())
    }

    /// One step: from the tokens to the next ones.
    fn step(&mut self, model: &DeviceModel, cache: &KernelCache) -> Result<(), StepError> {
        match &self.state {
            State::New => {
                self.launch(model, cache);
                let off = std::env::var(SWITCH).is_ok_and(|v| v == "0");
                self.state = if off { State::Launched } else { State::Tuned };
            }
            State::Tuned => self.state = self.record(model, cache)?,
            State::Recorded(recording) if recording.thread != thread::current().id() => {
                self.launch(model, cache);
                self.state = State::Tuned;
            }
            State::Recorded(recording) => {
                // SAFETY: `recording` keeps the memory of weights, keys, values and of this stepper; the graph keeps that
                // of what is in between. This is the thread that recorded it, so what is written before and read after lies on
                // the same stream.
                unsafe { recording.graph.replay() }
                    .map_err(|e| StepError { what: "replayed", reason: format!("{e:?}") })?;
            }
            State::Launched => self.launch(model, cache),
        }
        Ok(())
    }

    /// Runs one step and records it for later ones, where the device can.
    fn record(&self, model: &DeviceModel, cache: &KernelCache) -> Result<State, StepError> {
        let client = self.tokens.client();
        let prepared = client.graph_prepare();
        self.launch(model, cache);
        let refused = |e: &dyn std::fmt::Debug| {
            tracing::debug!(error = ?e, "decoding steps cannot be recorded here");
            Ok(State::Launched)
        };
        if let Err(e) = prepared {
            return refused(&e);
        }
        let started = cubecl::future::block_on(client.sync()).and_then(|()| client.start_capture());
        if started.is_ok() {
            // Recorded and not run. Should the recording fail from here on, the device gives up what these launches write.
            self.launch(model, cache);
        }
        // Ends what was prepared, too.
        let stopped = client.stop_capture();
        if let Err(e) = started {
            return refused(&e);
        }
        let graph = stopped.map_err(|e| StepError { what: "recorded", reason: format!("{e:?}") })?;
        let own = [&self.rows, &self.tokens, &self.slots, &self.words, &self.at, &self.drawn];
        let alive = own.into_iter().cloned().chain(model.memory()).chain(cache.memory());
        Ok(State::Recorded(Recording { graph, thread: thread::current().id(), _alive: alive.collect() }))
    }

    fn launch(&self, model: &DeviceModel, cache: &KernelCache) {
        let heads = model.model().heads();
        let logits = model.step(&self.tokens, &self.slots, |layer, attention, qkv| {
            cache.store(layer, &heads, qkv, &self.rows, &self.slots);
            cache.attend(layer, attention, qkv, &self.slots)
        });
        draw(&logits, &self.words, &self.at, self.sampling, &self.drawn, &self.tokens);
        let n = self.rows.cols();
        let (count, dim) = self.rows.units(n);
        let (slots, words, at) = (self.slots.arg(), self.words.arg(), self.at.arg());
        advance_kernel::launch(self.rows.client(), count, dim, slots, words, at, n);
    }
}
