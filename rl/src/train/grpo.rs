//! One iteration of GRPO (arXiv:2402.03300, Algorithm 1): sample, verify, compare, update.
//!
//! Deviations: the loss and its gradient are computed in f64 on the host from read-back log-probabilities
//! ([`crate::algorithm`]); on-policy steps (one update a rollout) take π_old from the update's own pass, others from the
//! sampler, whose distribution is the trained one; minibatches are neighbouring groups, not shuffled.
use crate::algorithm::kl::reward_penalty;
use crate::algorithm::{
    Advantage, AdvantageKind, GroupsWithoutSignal, LossConfig, LossError, LossOutput, LossStats, Sequence,
    StepTotals, batch_advantages, gdpo_advantages, has_signal, policy_loss,
};
use crate::config::GrpoConfig;
use crate::error::Error;
use crate::generate::{Request, generate};
use crate::policy::Policy;
use crate::train::adamw::AdamWConfig;
use crate::train::batch::{self, Sample};
use crate::train::judging::{Judgement, Judges};
use crate::train::learner::Learner;
use crate::train::recorded::RecordedStep;
use rlvr_policies::Decoder;
use rlvr_policies::host::head::TargetStats;
use rlvr_policies::packed::PackedBatch;
use rlvr_rewards::{Outcome, Reward, Task};
use rlvr_rollout::{Completion, GenerateStats, Prompt, PromptLimit, SampleKey};
use serde_json::{Map, Value};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// One prompt of a step with everything that became of it.
#[derive(Debug, Clone)]
pub struct Group {
    /// Id of the task.
    pub id: String,
    /// What the reward compared with; null for rollouts made elsewhere.
    pub reference: Value,
    /// What the records keep of the data row, see [`Trainer::recorded`].
    pub meta: Map<String, Value>,
    /// The prompt as the policy saw it.
    pub prompt_text: String,
    /// Its token ids, after truncation.
    pub prompt: Vec<u32>,
    /// The completions.
    pub completions: Vec<Completion>,
    /// Their judgements.
    pub judgements: Vec<Judgement>,
    /// Their advantages.
    pub advantages: Vec<f64>,
}

impl Group {
    /// Whether its rewards differ, so that it teaches something.
    pub fn has_signal(&self) -> bool {
        has_signal(&self.judgements.iter().map(|j| j.reward).collect::<Vec<_>>())
    }
}

/// Seconds of each phase of a step.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct Phases {
    pub generate_s: f64,
    /// Waiting for rewards when generation was over: groups are judged as soon as they are whole.
    pub verify_s: f64,
    pub reference_s: f64,
    pub update_s: f64,
}

/// What a step did.
#[derive(Debug, Clone, Default)]
pub struct StepOutcome {
    /// The groups, in order of their prompts.
    pub groups: Vec<Group>,
    /// Sums of the loss over all updates; ratios and clipping of later passes included.
    pub stats: LossStats,
    /// Sums over the first pass only, before any weight changed in it.
    pub first: FirstPass,
    /// Mean loss of the optimizer steps.
    pub loss: f64,
    /// Gradient norm of the last optimizer step, before clipping.
    pub grad_norm: f64,
    /// Learning rate of the last optimizer step.
    pub lr: f64,
    /// Optimizer steps taken.
    pub updates: u64,
    /// Tokens trained on, over all passes.
    pub trained_tokens: usize,
    /// Prompts drawn from the tasks: more than `prompts_per_step` where groups without signal were replaced.
    pub prompts: usize,
    /// What generation did.
    pub generation: GenerateStats,
    /// Time.
    pub phases: Phases,
}

/// Comparison of sampler and trainer at equal weights, and entropy.
#[derive(Debug, Clone, Copy, Default)]
pub struct FirstPass {
    /// Tokens seen with unchanged weights.
    pub tokens: f64,
    /// Σ entropy, nats.
    pub entropy_sum: f64,
    /// Tokens with sampler log-probabilities among them.
    pub compared: f64,
    /// Σ k3 between sampler and trainer.
    pub mismatch_sum: f64,
    /// Largest difference of a log-probability.
    pub mismatch_max: f64,
}

/// Where the rollouts of a step come from.
pub enum Source<'a> {
    /// Sampled from the policy for the first `prompts_per_step` of these tasks; the others may replace groups without
    /// signal ([`GroupsWithoutSignal::Resample`]).
    Tasks(&'a [&'a Task]),
    /// Made elsewhere.
    Recorded(&'a RecordedStep),
}

/// A GRPO stage in progress.
pub struct Trainer<'a> {
    /// π_θ.
    pub policy: Policy,
    /// π_ref, when the loss or the reward has a KL term.
    pub reference: Option<Decoder>,
    /// What changes its weights.
    pub learner: Learner,
    /// Version of the weights, counted in optimizer steps over the run.
    pub version: u64,
    /// Names of fields of the data rows that go into the records. At first none.
    pub recorded: &'a [String],
    config: &'a GrpoConfig,
    loss: LossConfig,
    reward: Option<&'a dyn Reward>,
    seed: u64,
    /// Optimizer steps of the whole stage, for the schedule.
    total_updates: u64,
    judges: Judges,
}

impl<'a> Trainer<'a> {
    /// A trainer at the start of its stage. `steps` is the number of rollouts of the stage.
    pub fn new(
        policy: Policy,
        reference: Option<Decoder>,
        config: &'a GrpoConfig,
        reward: Option<&'a dyn Reward>,
        seed: u64,
        steps: u64,
    ) -> Self {
        let learner = Learner::new(AdamWConfig::from(&config.optim), &policy.decoder);
        let total_updates = steps * (config.updates_per_rollout * config.minibatches) as u64;
        let loss = config.resolved_loss();
        let judges = Judges::default();
        Self {
            policy,
            reference,
            learner,
            version: 0,
            recorded: &[],
            config,
            loss,
            reward,
            seed,
            total_updates,
            judges,
        }
    }

    /// One step: rollouts, rewards, advantages, updates.
    ///
    /// # Errors
    /// A prompt that cannot be used, a loss that is not finite, cancellation. A reward that breaks is data.
    pub fn step(
        &mut self,
        step: u64,
        source: &Source,
        stop: Option<&AtomicBool>,
    ) -> Result<StepOutcome, Error> {
        let mut out = StepOutcome::default();

        // 1. Sample G completions a prompt, 2. verify them.
        out.groups = match source {
            Source::Tasks(tasks) => self.sample(step, tasks, &mut out, stop)?,
            Source::Recorded(recorded) => self.replay(recorded)?,
        };
        let (prompts, mut samples) = self.samples(&out.groups);

        // 3. Compare each completion with its group. A penalty in the reward needs the reference before that; otherwise
        // groups that teach nothing are spared it.
        let clock = Instant::now();
        self.fill_old(&prompts, &mut samples, matches!(source, Source::Recorded(_)));
        let before = self.loss.kl_in_reward();
        if before {
            self.fill_reference(&prompts, &mut samples);
        }
        self.advantages(&mut out.groups, &mut samples);
        let mut samples = self.trained(&out.groups, samples);
        if !before {
            self.fill_reference(&prompts, &mut samples);
        }
        out.phases.reference_s = clock.elapsed().as_secs_f64();

        // 4. Update.
        let clock = Instant::now();
        for pass in 0..self.config.updates_per_rollout {
            for (i, range) in batch::even_parts(samples.len(), self.config.minibatches).enumerate() {
                self.update(step, &prompts, &samples[range], pass == 0 && i == 0, &mut out)?;
            }
        }
        self.learner.release();
        out.loss /= (out.updates as f64).max(1.0);
        out.phases.update_s = clock.elapsed().as_secs_f64();
        Ok(out)
    }

    /// Samples and judges without training, for the pre-flight.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn look(&mut self, tasks: &[&Task], stop: Option<&AtomicBool>) -> Result<Vec<Vec<Judgement>>, Error> {
        let mut out = StepOutcome::default();
        // Step 0 is no training step: the noise of the first one stays its own.
        let groups =
            self.roll_out(SampleKey::new(self.seed, 0), tasks, self.config.group_size, &mut out, stop)?;
        Ok(groups.into_iter().map(|g| g.judgements).collect())
    }

    /// The groups of a step: those of its prompts, and of further ones until enough groups have a signal.
    fn sample(
        &mut self,
        step: u64,
        tasks: &[&Task],
        out: &mut StepOutcome,
        stop: Option<&AtomicBool>,
    ) -> Result<Vec<Group>, Error> {
        let want = self.config.prompts_per_step.min(tasks.len());
        let rounds = match self.loss.groups_without_signal {
            GroupsWithoutSignal::Resample => self.config.resample_rounds,
            GroupsWithoutSignal::Keep | GroupsWithoutSignal::Drop => 0,
        };
        let mut groups: Vec<Group> = Vec::new();
        for _ in 0..=rounds {
            let missing = want - groups.iter().filter(|g| g.has_signal()).count();
            let next = tasks.len().min(out.prompts + missing);
            if next == out.prompts {
                break;
            }
            let key = SampleKey { first_prompt: out.prompts as u64, ..SampleKey::new(self.seed, step) };
            groups.extend(self.roll_out(
                key,
                &tasks[out.prompts..next],
                self.config.group_size,
                out,
                stop,
            )?);
            out.prompts = next;
        }
        Ok(groups)
    }

    fn roll_out(
        &mut self,
        key: SampleKey,
        tasks: &[&Task],
        group_size: usize,
        out: &mut StepOutcome,
        stop: Option<&AtomicBool>,
    ) -> Result<Vec<Group>, Error> {
        let Some(reward) = self.reward else {
            return Err(Error::Unusable { what: "a stage that samples needs [rewards]".into() });
        };
        let clock = Instant::now();
        let prompts =
            tasks.iter().map(|t| self.policy.prompt(&t.prompt)).collect::<Result<Vec<Prompt>, _>>()?;
        let (c, policy) = (self.config, &self.policy);
        let limit = PromptLimit { max_prompt_tokens: c.max_prompt_tokens, long_prompt: c.long_prompt };
        let request = Request {
            stop: &c.stop,
            limit,
            max_batch_rows: c.max_batch_rows,
            max_batch_tokens: c.max_batch_tokens,
            version: self.version,
            cancel: stop,
            ..Request::new(&prompts, group_size, &c.sampling, key)
        };
        let judged = self.judges.while_generating(reward, &|ids| policy.text(ids), tasks, |report| {
            Ok(generate(policy, &request, Some(report))?)
        })?;
        let (completions, stats) = judged.generated;
        out.phases.verify_s += judged.waited_s;
        out.phases.generate_s += clock.elapsed().as_secs_f64() - judged.waited_s;

        let context = policy.decoder.config().max_position_embeddings;
        let mut groups = Vec::with_capacity(tasks.len());
        let results = completions.into_iter().zip(judged.judgements);
        for (i, ((task, prompt), (completions, judgements))) in
            tasks.iter().zip(&prompts).zip(results).enumerate()
        {
            // Only a prompt that is skipped for its length has no judgements.
            let Some(judgements) = judgements else { continue };
            let Some(ids) = limit.fit(i, &prompt.token_ids, context, c.sampling.max_tokens)?.token_ids()
            else {
                continue;
            };
            groups.push(Group {
                id: task.id.clone(),
                reference: task.reference.clone(),
                meta: self
                    .recorded
                    .iter()
                    .filter_map(|f| Some((f.clone(), task.meta.get(f)?.clone())))
                    .collect(),
                prompt_text: policy.tokenizer().decode(ids, false)?,
                prompt: ids.to_vec(),
                completions,
                judgements,
                advantages: vec![],
            });
        }
        out.generation.merge(stats, out.prompts);
        Ok(groups)
    }

    /// Groups from rollouts made elsewhere.
    fn replay(&self, recorded: &RecordedStep) -> Result<Vec<Group>, Error> {
        let vocab = self.policy.decoder.config().vocab_size;
        let context = self.policy.decoder.config().max_position_embeddings;
        let eos = self.policy.eos_token_ids();
        let mut groups = Vec::new();
        for group in &recorded.groups {
            let mut out = Group {
                id: group.group.clone(),
                reference: Value::Null,
                meta: Map::new(),
                prompt_text: String::new(),
                prompt: vec![],
                completions: vec![],
                judgements: vec![],
                advantages: vec![],
            };
            for r in &group.rollouts {
                if let Err(problem) = r.fits(vocab, context) {
                    let what = format!("rollouts file, line {}: {problem}", r.line);
                    return Err(Error::Unusable { what });
                }
                let ended = r.completion_tokens.last().is_some_and(|t| eos.contains(t));
                out.prompt.clone_from(&r.prompt_tokens);
                let outcome = match r.reward {
                    Some(score) => Outcome::graded(score, "recorded", "reward from the rollouts file"),
                    None => Outcome::of(
                        rlvr_rewards::Verdict::Unverifiable,
                        "recorded",
                        "no reward in the rollouts file",
                    ),
                };
                out.judgements.push(Judgement {
                    text: self.policy.text(&r.completion_tokens)?,
                    truncated: !ended,
                    reward: r.reward,
                    outcome,
                });
                out.completions.push(Completion {
                    token_ids: r.completion_tokens.clone(),
                    logprobs: r.logprobs.clone().unwrap_or_default(),
                    finish_reason: if ended {
                        rlvr_rollout::FinishReason::Stop
                    } else {
                        rlvr_rollout::FinishReason::Length
                    },
                    policy_version: self.version,
                });
            }
            out.prompt_text = self.policy.tokenizer().decode(&out.prompt, false)?;
            groups.push(out);
        }
        Ok(groups)
    }

    fn samples(&self, groups: &[Group]) -> (Vec<Vec<u32>>, Vec<Sample>) {
        let prompts = groups.iter().map(|g| g.prompt.clone()).collect();
        let mut samples = Vec::new();
        for (group, g) in groups.iter().enumerate() {
            for c in &g.completions {
                let reported = !c.logprobs.is_empty();
                samples.push(Sample {
                    group,
                    completion: c.token_ids.clone(),
                    sampler_logprobs: reported.then(|| c.logprobs.iter().map(|v| f64::from(*v)).collect()),
                    ..Sample::default()
                });
            }
        }
        (prompts, samples)
    }

    /// Fills in log π_old, where the current pass cannot serve.
    fn fill_old(&self, prompts: &[Vec<u32>], samples: &mut [Sample], recorded: bool) {
        let (t, micro) = (self.config.sampling.temperature, self.config.micro_batch);
        let several = self.config.updates_per_rollout * self.config.minibatches > 1;
        if several || self.loss.kl_in_reward() {
            // Only our own sampler is known to have sampled from this very distribution.
            let old = if recorded {
                batch::logprobs(&self.policy.decoder, prompts, samples, t, micro)
            } else {
                samples.iter().map(|s| s.sampler_logprobs.clone().unwrap_or_default()).collect()
            };
            samples.iter_mut().zip(old).for_each(|(s, old)| s.old_logprobs = old);
        }
    }

    /// Fills in log π_ref.
    fn fill_reference(&self, prompts: &[Vec<u32>], samples: &mut [Sample]) {
        let (t, micro) = (self.config.sampling.temperature, self.config.micro_batch);
        if let Some(reference) = &self.reference {
            let logprobs = batch::logprobs(reference, prompts, samples, t, micro);
            samples.iter_mut().zip(logprobs).for_each(|(s, r)| s.ref_logprobs = r);
        }
    }

    /// Rewards (less the KL penalty, where it is in the reward) to advantages.
    fn advantages(&self, groups: &mut [Group], samples: &mut [Sample]) {
        let mut left = samples.iter();
        let rewards: Vec<Vec<Option<f64>>> = (groups.iter())
            .map(|g| {
                (g.judgements.iter().zip(left.by_ref()))
                    .map(|(j, s)| {
                        let mask = vec![true; s.completion.len()];
                        let penalty = if self.loss.kl_in_reward() {
                            reward_penalty(&s.old_logprobs, &s.ref_logprobs, &mask, &self.loss)
                        } else {
                            0.0
                        };
                        j.reward.map(|r| r - penalty)
                    })
                    .collect()
            })
            .collect();
        let rewards: Vec<&[Option<f64>]> = rewards.iter().map(Vec::as_slice).collect();
        let lengths: Vec<Vec<usize>> =
            groups.iter().map(|g| g.completions.iter().map(|c| c.token_ids.len()).collect()).collect();
        let lengths: Vec<&[usize]> = lengths.iter().map(Vec::as_slice).collect();
        let advantages = match self.loss.advantage {
            AdvantageKind::Gdpo => {
                let (components, weights) = reward_components(groups);
                gdpo_advantages(&components, &weights)
            }
            kind => {
                let by_tokens = kind == AdvantageKind::ReinforcePpBaseline;
                batch_advantages(&rewards, by_tokens.then_some(&lengths), kind)
            }
        };
        let mut left = samples.iter_mut();
        for (group, advantages) in groups.iter_mut().zip(advantages) {
            // The group's advantages lead: a zip that ends on its second side has taken one too many from the first.
            for (advantage, sample) in advantages.iter().zip(left.by_ref()) {
                sample.advantage = *advantage;
            }
            group.advantages = advantages;
        }
    }

    /// The samples that take part: unless `groups_without_signal = "keep"`, only those of groups that teach something.
    fn trained(&self, groups: &[Group], samples: Vec<Sample>) -> Vec<Sample> {
        let keep = self.loss.groups_without_signal == GroupsWithoutSignal::Keep;
        let dropped: Vec<bool> = groups.iter().map(|g| !keep && !g.has_signal()).collect();
        samples.into_iter().filter(|s| !dropped[s.group] && !s.completion.is_empty()).collect()
    }

    /// One optimizer step on a minibatch.
    fn update(
        &mut self,
        step: u64,
        prompts: &[Vec<u32>],
        samples: &[Sample],
        unchanged: bool,
        out: &mut StepOutcome,
    ) -> Result<(), Error> {
        let tokens: usize = samples.iter().map(|s| s.completion.len()).sum();
        let totals = StepTotals { sequences: samples.len() as f64, tokens: tokens as f64 };
        // Zero advantage without a KL or entropy term is zero gradient: no pass is spent on it, the totals still count it.
        let all = self.loss.kl_in_loss() || self.loss.entropy_coef != 0.0;
        let live: Vec<Sample> = samples.iter().filter(|s| all || s.advantage != 0.0).cloned().collect();
        if live.is_empty() {
            return Ok(());
        }
        let mut loss_sum = 0.0;
        let (config, stats, first) = (&self.loss, &mut out.stats, &mut out.first);
        let mut loss = |micro: &[Sample], packed: &PackedBatch, targets: &TargetStats| {
            if unchanged {
                first.record(micro, &batch::split(packed, &targets.logprobs), &targets.entropy);
            }
            let output = micro_loss(micro, packed, targets, config, &totals)?;
            loss_sum += output.loss;
            stats.merge(&output.stats);
            Ok::<_, LossError>(output.target_grads())
        };
        let decoder = &mut self.policy.decoder;
        let micro_batches = batch::micro_batches(&live, self.config.micro_batch);
        self.learner.begin(decoder);
        let temperature = self.config.sampling.temperature;
        out.trained_tokens +=
            self.learner.accumulate(decoder, prompts, micro_batches, temperature, &mut loss)?;
        let schedule = self.config.optim.schedule_config();
        out.lr = schedule.lr_at(self.config.optim.lr, self.learner.optim.steps(), self.total_updates);
        let updated = self.learner.apply(decoder, out.lr);
        out.grad_norm = updated.map_err(|e| Error::Training { step, what: e.to_string() })?;
        out.loss += loss_sum;
        out.updates += 1;
        self.version += 1;
        Ok(())
    }
}

/// Scores of one part of the rewards, `[group][completion]`.
type Component = Vec<Vec<Option<f64>>>;

/// The weighted parts of the rewards and their weights; the reward itself is the only component where it has no parts.
fn reward_components(groups: &[Group]) -> (Vec<Component>, Vec<f64>) {
    let judgements = || groups.iter().flat_map(|g| &g.judgements);
    let mut names: Vec<(&str, f64)> = Vec::new();
    for part in judgements().flat_map(|j| &j.outcome.parts) {
        if part.weight != 0.0 && !names.iter().any(|(name, _)| *name == part.name) {
            names.push((&part.name, part.weight));
        }
    }
    let of = |score: &dyn Fn(&Judgement) -> Option<f64>| -> Component {
        groups.iter().map(|g| g.judgements.iter().map(score).collect()).collect()
    };
    if names.is_empty() {
        return (vec![of(&|j| j.reward)], vec![1.0]);
    }
    let part = |name: &str, j: &Judgement| {
        // A completion whose reward is masked is in no component.
        j.reward.and_then(|_| j.outcome.parts.iter().find(|p| p.name == name)?.score)
    };
    (names.iter().map(|(name, _)| of(&|j| part(name, j))).collect(), names.iter().map(|(_, w)| *w).collect())
}

/// Loss and gradient of a micro-batch, given what the head says of its tokens.
pub(crate) fn micro_loss(
    micro: &[Sample],
    packed: &PackedBatch,
    targets: &TargetStats,
    config: &LossConfig,
    totals: &StepTotals,
) -> Result<LossOutput, LossError> {
    let logprobs = batch::split(packed, &targets.logprobs);
    let entropy = batch::split(packed, &targets.entropy);
    let masks: Vec<Vec<bool>> = micro.iter().map(|s| vec![true; s.completion.len()]).collect();
    let sequences: Vec<Sequence> = (micro.iter().zip(&logprobs).zip(&entropy).zip(&masks))
        .map(|(((s, logprobs), entropy), loss_mask)| Sequence {
            logprobs,
            old_logprobs: if s.old_logprobs.is_empty() { logprobs } else { &s.old_logprobs },
            ref_logprobs: (!s.ref_logprobs.is_empty()).then_some(s.ref_logprobs.as_slice()),
            sampler_logprobs: s.sampler_logprobs.as_deref(),
            entropy: Some(entropy),
            loss_mask,
            advantage: Advantage::Sequence(s.advantage),
        })
        .collect();
    policy_loss(&sequences, config, totals)
}

impl FirstPass {
    fn record(&mut self, micro: &[Sample], logprobs: &[Vec<f64>], entropy: &[f32]) {
        self.tokens += entropy.len() as f64;
        self.entropy_sum += entropy.iter().map(|e| f64::from(*e)).sum::<f64>();
        for (sample, logprobs) in micro.iter().zip(logprobs) {
            for (mu, lp) in sample.sampler_logprobs.iter().flatten().zip(logprobs) {
                let x = lp - mu;
                self.compared += 1.0;
                self.mismatch_sum += x.exp_m1() - x;
                self.mismatch_max = self.mismatch_max.max(x.abs());
            }
        }
    }
}

impl From<&crate::config::OptimConfig> for AdamWConfig {
    fn from(c: &crate::config::OptimConfig) -> Self {
        Self { betas: c.betas, eps: c.eps, weight_decay: c.weight_decay, max_grad_norm: c.max_grad_norm }
    }
}
