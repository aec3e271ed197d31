//! The phases of a step, one measurement each.

use super::cost::{Cost, Measured, Time, measure};
use super::{BenchReport, BenchSettings, LR, ceiling};
use crate::Error;
use crate::policy::Sampler;
use crate::run::record::peak_rss_mb;
use crate::train::grpo::{Source, StepOutcome, Trainer};
use crate::train::trajectory::{self, Batch};
use burn::tensor::{DType, Device};
use rlvr_policies::decoder::Cache;
use rlvr_policies::host::gemm::Operands;
use rlvr_policies::model::draw::DrawAt;
use rlvr_policies::trained::params;
use rlvr_policies::{Decoder, ImageKey};
use rlvr_rewards::Task;
use rlvr_rollout::DecodeModel;
use std::collections::BTreeMap;

/// A measurement in progress.
pub(super) struct Bench<'a> {
    pub(super) trainer: Trainer<'a>,
    /// Random prompts with random completions.
    pub(super) batch: Batch,
    pub(super) settings: BenchSettings,
    pub(super) cost: Cost,
    pub(super) device: Device,
    pub(super) phases: BTreeMap<&'static str, Measured>,
}

impl Bench<'_> {
    pub(super) fn note(
        &mut self,
        name: &'static str,
        time: Time,
        tokens: usize,
        flops: f64,
        bytes: Option<f64>,
    ) {
        self.phases.insert(name, Measured { time, tokens, flops, bytes });
    }

    fn prompt_tokens(&self) -> usize {
        self.batch.prompts.iter().map(|p| p.token_ids.len()).sum()
    }

    /// Rows of all training passes.
    fn rows(&self) -> usize {
        let micro_batches = trajectory::micro_batches(&self.batch.trajectories, self.settings.micro_batch);
        micro_batches
            .map(|micro| trajectory::pack(&self.trainer.policy.decoder, &self.batch.prompts, micro).rows())
            .sum()
    }

    /// Work of a forward over the whole batch.
    fn forward(&self) -> f64 {
        self.cost.blocks(self.rows()) + self.cost.head(self.settings.batch * self.settings.new_tokens)
    }

    /// Prompts and tokens without drawing.
    pub(super) fn generation(&mut self) -> Result<(), Error> {
        let BenchSettings { batch, group, new_tokens, repeat, .. } = self.settings;
        let (prompts, decoder) = (&self.batch.prompts, &self.trainer.policy.decoder);
        let (fed, asked) = (self.prompt_tokens(), prompts.iter().map(|p| p.token_ids.as_slice()));
        let asked: Vec<&[u32]> = asked.collect();
        let images: Vec<&[ImageKey]> = prompts.iter().map(|p| p.images.as_slice()).collect();
        let prompt_tokens = fed / prompts.len();
        let prefill = || decoder.prefill_seeing(&asked, &images, prompt_tokens).0;
        let prefilled = measure((&self.device, repeat), || (), |()| prefill());

        let rows: Vec<usize> = (0..batch).map(|i| i / group).collect();
        let first: Vec<u32> = self.batch.trajectories.iter().map(|t| t.tokens[0]).collect();
        let filled = || prefill().select_rows(decoder, &rows, prompt_tokens + new_tokens);
        let mut outcome = Ok(());
        let decoded = measure((&self.device, repeat), filled, |mut cache| {
            let done = decode_steps(decoder, &first, &mut cache, new_tokens);
            outcome = std::mem::replace(&mut outcome, Ok(())).and(done);
        });
        outcome?;
        let (tokens, cost) = (batch * new_tokens, &self.cost);
        let bytes = new_tokens as f64 * cost.decode_bytes(batch, prompt_tokens + new_tokens / 2);
        let (prefill_flops, decode_flops) =
            (cost.blocks(fed) + cost.head(prompts.len()), cost.blocks(tokens) + cost.head(tokens));
        self.note("prefill", prefilled, fed, prefill_flops, None);
        self.note("decode", decoded, tokens, decode_flops, Some(bytes));
        Ok(())
    }

    /// Log-probabilities, the gradient of an update, the optimizer.
    pub(super) fn training(&mut self) -> Result<(), Error> {
        let BenchSettings { micro_batch, repeat, .. } = self.settings;
        let (rows, forward) = (self.rows(), self.forward());
        let Self { trainer, batch, device, .. } = &mut *self;
        let Some(reference) = &trainer.reference else { return Ok(()) };
        let score = || trajectory::logprobs(reference, batch, 1.0, micro_batch);
        let scored = measure((device, repeat), || (), |()| score());
        let logprobs = score();
        batch.trajectories.iter_mut().zip(logprobs).for_each(|(t, r)| t.ref_logprobs = Some(r));

        let mut outcome = Ok(());
        let differentiated = measure(
            (device, repeat),
            || (),
            |()| {
                let mut out = StepOutcome::default();
                let done = trainer.gradient(&batch.prompts, &batch.trajectories, true, &mut out);
                outcome = std::mem::replace(&mut outcome, Ok(())).and(done.map(|_| ()));
            },
        );
        outcome?;

        let mut outcome = Ok(());
        let applied = measure(
            (device, repeat),
            || (),
            |()| {
                let done = trainer.learner.apply(&mut trainer.policy.decoder, LR);
                outcome = std::mem::replace(&mut outcome, Ok(())).and(done.map(|_| ()));
            },
        );
        outcome.map_err(|broken| Error::Unusable { what: broken.to_string() })?;
        // Weights, gradients and the optimizer's state are read, all but the gradients written.
        let trained = trainer.policy.decoder.trained_parts().elements();
        let state = trainer.learner.optim.state_bytes();
        let bytes = (3 * size_of::<f32>() * trained + 2 * state) as f64;
        self.note("logprobs", scored, rows, forward, None);
        self.note("backward", differentiated, rows, self.passes() * forward, None);
        self.note("optimizer", applied, self.settings.batch * self.settings.new_tokens, 0.0, Some(bytes));
        Ok(())
    }

    /// Forward passes that training is worth: the gradients of inputs, as deep as the backward goes, and of weights, as many
    /// of them as are trained, take one each. An adapter's own work is left out.
    fn passes(&self) -> f64 {
        let decoder = &self.trainer.policy.decoder;
        let (layout, trained) = (decoder.layout(), decoder.trained_parts());
        let size = |i: usize| match layout.specs[i].is_vector() || i >= decoder.base_params() {
            true => 0.0,
            false => (layout.specs[i].shape[0] * layout.specs[i].shape[1]) as f64,
        };
        let count = |i: usize| if size(i) > 0.0 { trained.len(i) as f64 } else { 0.0 };
        let blocks: Vec<Vec<usize>> = layout.model.blocks.iter().map(|b| params(layout, b)).collect();
        let sum = |of: &dyn Fn(usize) -> f64, from: usize| -> f64 {
            blocks[from..].iter().flatten().map(|i| of(*i)).sum::<f64>() + of(layout.model.head.weight)
        };
        let all = sum(&size, 0);
        1.0 + (sum(&size, trained.depth().first_block) + sum(&count, 0)) / all
    }

    /// The trainer's own step.
    pub(super) fn step(&mut self, tasks: &[Task]) -> Result<(), Error> {
        let tasks: Vec<&Task> = tasks.iter().collect();
        let (trainer, mut outcome) = (&mut self.trainer, Ok(()));
        let time = measure(
            (&self.device, self.settings.repeat),
            || (),
            |()| {
                let done = trainer.step(1, &Source::Tasks(&tasks), None);
                outcome = std::mem::replace(&mut outcome, Ok(())).and(done.map(|_| ()));
            },
        );
        outcome?;
        let (tokens, prompts) = (self.settings.batch * self.settings.new_tokens, self.batch.prompts.len());
        let generated = self.cost.blocks(self.prompt_tokens() + tokens) + self.cost.head(prompts + tokens);
        self.note("step", time, tokens, generated + (1.0 + self.passes()) * self.forward(), None);
        Ok(())
    }

    /// Ceilings come last, so that what they read is no part of the peak of memory.
    pub(super) fn report(self) -> BenchReport {
        let (decoder, device) = (&self.trainer.policy.decoder, &self.device);
        let peak_rss_mb = peak_rss_mb();
        let ceilings = ceiling::measure(device, decoder.operands());
        BenchReport {
            parameters: decoder.num_params(),
            settings: self.settings,
            dtype: if decoder.operands() == DType::BF16 { "bf16" } else { "f32" },
            instructions: Operands::of(decoder.operands())
                .filter(|_| *device == Device::flex())
                .map(Operands::instructions),
            threads: rayon::current_num_threads(),
            device_memory_mb: device
                .memory_pool_usage()
                .map(|u| u.bytes_reserved as f64 / f64::from(1 << 20)),
            ceilings,
            trained_parameters: decoder.trained_parts().elements(),
            optimizer_mb: self.trainer.learner.optim.state_bytes() as f64 / f64::from(1 << 20),
            phases: self.phases.iter().map(|(name, phase)| (*name, phase.beside(&ceilings))).collect(),
            peak_rss_mb,
        }
    }
}

/// Decodes `count` tokens a row. Where the device draws by itself, it does, as the engine lets it; on the CPU nothing is
/// drawn, for there that is no part of decoding.
fn decode_steps(decoder: &Decoder, first: &[u32], cache: &mut Cache, count: usize) -> Result<(), Error> {
    let together = Sampler(decoder).steps_between_reads();
    let draws: Vec<DrawAt> =
        (0..first.len()).map(|row| DrawAt { row, counter: [0; 4], key: [row as u32, 1] }).collect();
    let (mut tokens, mut left) = (first.to_vec(), count);
    while left > 0 {
        let steps = together.min(left);
        match cache.step_and_draw(decoder, &tokens, &draws, steps, 1.0).transpose()? {
            Some(drawn) => tokens = drawn[steps - 1].iter().map(|(token, _)| *token).collect(),
            None => {
                let logits = cache.step(decoder, &tokens);
                cache.reuse(logits);
            }
        }
        left -= steps;
    }
    Ok(())
}
