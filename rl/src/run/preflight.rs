//! A look at a few rollouts before the first step: can anything be learned here?
use crate::config::{DataMix, RunConfig, StageConfig};
use crate::error::Error;
use crate::run::inputs::Inputs;
use crate::run::texts::Texts;
use crate::train::grpo::Trainer;
use crate::train::judging::Judgement;
use rlvr_rewards::{Task, Verdict};

/// What the pre-flight saw.
#[derive(Debug, Clone, PartialEq)]
pub struct PreflightReport {
    /// Prompts sampled.
    pub prompts: usize,
    /// Completions a prompt.
    pub group_size: usize,
    /// Share of completions cut off at `max_tokens`.
    pub truncated_frac: f64,
    /// Share of groups whose rewards are all equal.
    pub no_signal_frac: f64,
    /// Share of completions from which no answer could be extracted.
    pub no_answer_frac: f64,
    /// Share of completions that the reward could not judge or broke on.
    pub masked_frac: f64,
    /// Mean reward of the judged ones, if any.
    pub reward_mean: Option<f64>,
    /// Whether any completion ended by an end token or stop string.
    pub eos_seen: bool,
    /// Estimated peak memory of a training step, in MiB.
    pub memory_mb: f64,
    /// Memory that is free now, in MiB, if known.
    pub available_mb: Option<f64>,
    /// What is wrong, with the fix; empty if all is well.
    pub warnings: Vec<String>,
    /// Why nothing can be learned, with the fix; the run is refused unless told otherwise.
    pub blockers: Vec<String>,
}

impl PreflightReport {
    /// Judges sampled groups. `memory_mb` is the estimate for a training step.
    pub fn new(groups: &[Vec<Judgement>], max_tokens: usize, memory_mb: f64, kl_in_loss: bool) -> Self {
        let all: Vec<&Judgement> = groups.iter().flatten().collect();
        let share = |f: &dyn Fn(&Judgement) -> bool| {
            all.iter().filter(|j| f(j)).count() as f64 / all.len().max(1) as f64
        };
        let rewards: Vec<f64> = all.iter().filter_map(|j| j.reward).collect();
        let silent = groups.iter().filter(|g| {
            let rewards: Vec<Option<f64>> = g.iter().map(|j| j.reward).collect();
            !crate::algorithm::has_signal(&rewards)
        });
        let mut report = Self {
            prompts: groups.len(),
            group_size: groups.iter().map(Vec::len).max().unwrap_or(0),
            truncated_frac: share(&|j| j.truncated),
            no_signal_frac: silent.count() as f64 / groups.len().max(1) as f64,
            no_answer_frac: share(&|j| j.outcome.verdict == Verdict::NoAnswer || part_without_answer(j)),
            masked_frac: share(&|j| j.reward.is_none()),
            reward_mean: (!rewards.is_empty()).then(|| rewards.iter().sum::<f64>() / rewards.len() as f64),
            eos_seen: all.iter().any(|j| !j.truncated),
            memory_mb,
            available_mb: rlvr_policies::memory::available_bytes().map(|b| b as f64 / f64::from(1 << 20)),
            warnings: Vec::new(),
            blockers: Vec::new(),
        };
        report.judge(&all, max_tokens, kl_in_loss);
        report
    }

    fn judge(&mut self, all: &[&Judgement], max_tokens: usize, kl_in_loss: bool) {
        if all.is_empty() {
            return;
        }
        if self.masked_frac >= 1.0 {
            let reason = all.first().map_or("", |j| j.outcome.reason.as_str());
            self.blockers.push(format!(
                "no completion could be judged ({reason}): check the reward and the tasks' `reference`"
            ));
        } else {
            self.warnings.extend(warnings::unjudged(self.masked_frac));
        }
        if !self.eos_seen {
            self.blockers.push(format!(
                "no completion ended within {max_tokens} tokens, so none can be answered in full: raise \
                 sampling.max_tokens, or check that the policy knows its end token (warm it up with an sft stage)"
            ));
        } else {
            self.warnings.extend(warnings::truncated(self.truncated_frac, max_tokens));
        }
        if self.no_signal_frac >= 1.0 && self.masked_frac < 1.0 {
            let (what, fix) = if self.reward_mean.is_some_and(|mean| mean > 0.0) {
                ("the same reward", "use harder tasks, a higher temperature or a graded reward")
            } else {
                (
                    "no reward at all",
                    "use easier tasks, a graded format reward, or a supervised warm-up stage that makes the format reachable",
                )
            };
            let text = format!(
                "every group has {what} for all its completions, so there is nothing to compare: {fix}"
            );
            // A KL penalty alone still moves the policy, but towards nothing new.
            self.blockers.push(if kl_in_loss {
                format!("{text} (only the KL penalty would train)")
            } else {
                text
            });
        } else {
            self.warnings.extend(warnings::no_signal(self.no_signal_frac));
        }
        self.warnings.extend(warnings::no_answer(self.no_answer_frac));
        if let Some(free) = self.available_mb
            && self.memory_mb > 0.9 * free
        {
            self.warnings.push(format!(
                "a training step may need {:.0} MiB and {free:.0} MiB are free: lower micro_batch",
                self.memory_mb
            ));
        }
    }

    /// The error for a run that cannot learn.
    ///
    /// # Errors
    /// When there are blockers.
    pub fn refuse(&self) -> Result<(), Error> {
        if self.blockers.is_empty() {
            return Ok(());
        }
        let what = format!(
            "pre-flight: {}\n(to train all the same, set preflight.refuse = false)",
            self.blockers.join("\npre-flight: ")
        );
        Err(Error::Unusable { what })
    }
}

/// Samples a few prompts of a stage, by its index, and says whether it can learn; none for stages that do not sample.
pub(crate) fn look(
    config: &RunConfig,
    inputs: &Inputs,
    texts: &Texts,
    stage: usize,
    trainer: &mut Trainer,
) -> Result<Option<PreflightReport>, Error> {
    let StageConfig::Grpo(grpo) = &config.stage[stage] else { return Ok(None) };
    let Some(mix) = grpo.data.as_ref().filter(|_| config.preflight.prompts > 0) else { return Ok(None) };
    let tasks = probes(inputs, texts, (stage, mix), config.preflight.prompts)?;
    let groups = trainer.look(&tasks, None)?;
    let decoder = &trainer.policy.decoder;
    let prompts = tasks
        .iter()
        .map(|t| Ok(trainer.policy.prompt_of(t)?.token_ids.len()))
        .collect::<Result<Vec<_>, Error>>()?;
    let longest = prompts.into_iter().max().unwrap_or(0) + grpo.sampling.max_tokens;
    let activations = decoder.activation_bytes(grpo.micro_batch.min(grpo.completions_per_step()) * longest);
    // Weights, gradients and two moments; a frozen copy with a KL term.
    let copies = if grpo.loss.kl_coef > 0.0 { 5 } else { 4 };
    let bytes = activations + copies * decoder.num_params() * size_of::<f32>();
    let kl_in_loss = grpo.resolved_loss().kl_in_loss();
    let memory_mb = bytes as f64 / f64::from(1 << 20);
    Ok(Some(PreflightReport::new(&groups, grpo.sampling.max_tokens, memory_mb, kl_in_loss)))
}

/// The first tasks of a stage, in turn from each of its sources.
///
/// # Errors
/// A source that is not there.
pub(crate) fn probes<'a>(
    inputs: &'a Inputs,
    texts: &Texts,
    (stage, mix): (usize, &DataMix),
    count: usize,
) -> Result<Vec<&'a Task>, Error> {
    let sources = mix.names().map(|name| inputs.source(name)).collect::<Result<Vec<_>, _>>()?;
    let longest = sources.iter().map(|source| source.len()).max().unwrap_or(0);
    let turns = (0..longest).flat_map(|i| sources.iter().filter(move |s| i < s.len()).map(move |s| (*s, i)));
    let drawn = turns.map(|(source, i)| (source, source.index_at(i as u64)));
    let drawn = drawn.filter(|(source, index)| !texts.skips(stage, source.name(), *index));
    Ok(drawn.take(count).map(|(source, index)| source.task(index)).collect())
}

/// What deserves a warning, here and in the report of a run. Shares lie in [0, 1].
pub(crate) mod warnings {
    /// The share of completions or groups above which something is wrong.
    const MOST: f64 = 0.5;

    fn percent(share: f64) -> String {
        if share < 0.005 { "less than 1 %".to_owned() } else { format!("{:.0} %", 100.0 * share) }
    }

    /// Of completions that got no verdict, any share.
    pub(crate) fn unjudged(share: f64) -> Option<String> {
        (share > 0.0).then(|| format!("{} of the completions could not be judged", percent(share)))
    }

    /// Of completions cut off at `max_tokens`.
    pub(crate) fn truncated(share: f64, max_tokens: usize) -> Option<String> {
        let hint = "raise sampling.max_tokens";
        let text =
            || format!("{} of the completions are cut off at {max_tokens} tokens: {hint}", percent(share));
        (share > MOST).then(text)
    }

    /// Of groups whose rewards are all equal.
    pub(crate) fn no_signal(share: f64) -> Option<String> {
        let what = "have the same reward for all completions and teach nothing";
        (share > MOST).then(|| format!("{} of the groups {what}", percent(share)))
    }

    /// Of completions from which no answer could be extracted.
    pub(crate) fn no_answer(share: f64) -> Option<String> {
        let hint = "say in the prompt how to answer, or warm up with an sft stage";
        let text =
            || format!("no answer can be extracted from {} of the completions: {hint}", percent(share));
        (share > MOST).then(text)
    }
}

fn part_without_answer(judgement: &Judgement) -> bool {
    judgement.outcome.parts.iter().any(|p| p.verdict == Verdict::NoAnswer)
}
