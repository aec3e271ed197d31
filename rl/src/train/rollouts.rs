//! The rollouts of a step: sampled from the policy and judged, or made elsewhere.
use crate::algorithm::GroupsWithoutSignal;
use crate::config::GrpoConfig;
use crate::engine::Engine;
use crate::error::Error;
use crate::generate::{Origin, Request};
use crate::parallel::{RanksError, World};
use crate::policy::Policy;
use crate::train::group::Group;
use crate::train::judging::{Judgement, Judges};
use crate::train::recorded::RecordedStep;
use rlvr_rewards::{Reward, Task};
use rlvr_rollout::{Completion, GenerateStats, Prompt, PromptLimit, SampleKey};
use serde::{Deserialize, Serialize};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Where the rollouts of a step come from.
pub enum Source<'a> {
    /// Sampled from the policy for the first `prompts_per_step` of these tasks; the others may replace groups without
    /// signal ([`GroupsWithoutSignal::Resample`]).
    Tasks(&'a [&'a Task]),
    /// Made elsewhere.
    Recorded(&'a RecordedStep),
}

impl Source<'_> {
    pub(crate) fn origin(&self, engine: &dyn Engine) -> Origin {
        match self {
            Self::Tasks(_) => engine.origin(),
            Self::Recorded(_) => Origin::Foreign,
        }
    }
}

/// The groups of a step and what they cost.
#[derive(Debug, Default)]
pub(crate) struct Rollouts {
    pub(crate) groups: Vec<Group>,
    /// Prompts drawn from the tasks: more than asked for where groups without signal were replaced.
    pub(crate) prompts: usize,
    /// What generation did.
    pub(crate) generation: GenerateStats,
    pub(crate) generate_s: f64,
    /// Waiting for rewards when generation was over.
    pub(crate) verify_s: f64,
}

/// What a rank has sampled and judged: completions of each of its prompts, with judgements unless the prompt was skipped.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Part {
    groups: Vec<(Vec<Completion>, Option<Vec<Judgement>>)>,
    stats: GenerateStats,
    waited_s: f64,
}

/// Samples and judges.
pub(crate) struct Sampling<'a> {
    pub(crate) config: &'a GrpoConfig,
    pub(crate) engine: &'a dyn Engine,
    /// The ranks that share the prompts.
    pub(crate) world: &'a World,
    pub(crate) reward: Option<&'a dyn Reward>,
    /// Names of fields of the data rows that go into the records.
    pub(crate) recorded: &'a [String],
    /// Of the run.
    pub(crate) seed: u64,
    pub(crate) cancel: Option<&'a AtomicBool>,
}

impl Sampling<'_> {
    /// The groups of a step, wherever they come from.
    pub(crate) fn rollouts(
        &self,
        step: u64,
        source: &Source<'_>,
        (policy, version): (&Policy, u64),
        judges: &Judges,
    ) -> Result<Rollouts, Error> {
        match source {
            Source::Tasks(tasks) => self.step(step, tasks, (policy, version), judges),
            Source::Recorded(recorded) => {
                let group = |group| Group::recorded(group, policy, version);
                let groups = recorded.groups.iter().map(group).collect::<Result<_, _>>()?;
                Ok(Rollouts { groups, ..Rollouts::default() })
            }
        }
    }

    /// The groups of a step: those of its prompts, and of further ones until enough groups have a signal.
    fn step(
        &self,
        step: u64,
        tasks: &[&Task],
        (policy, version): (&Policy, u64),
        judges: &Judges,
    ) -> Result<Rollouts, Error> {
        let mut out = Rollouts::default();
        let want = self.config.prompts_per_step.min(tasks.len());
        let rounds = match self.config.loss.groups_without_signal {
            GroupsWithoutSignal::Resample => self.config.resample_rounds,
            GroupsWithoutSignal::Keep | GroupsWithoutSignal::Drop => 0,
        };
        for _ in 0..=rounds {
            let missing = want - out.groups.iter().filter(|g| g.has_signal()).count();
            let next = tasks.len().min(out.prompts + missing);
            if next == out.prompts {
                break;
            }
            let key = SampleKey { first_prompt: out.prompts as u64, ..SampleKey::new(self.seed, step) };
            self.roll_out(key, &tasks[out.prompts..next], (policy, version), judges, &mut out)?;
            out.prompts = next;
        }
        Ok(out)
    }

    /// Samples a group for each task, judges them, and adds both to `out`.
    pub(crate) fn roll_out(
        &self,
        key: SampleKey,
        tasks: &[&Task],
        (policy, version): (&Policy, u64),
        judges: &Judges,
        out: &mut Rollouts,
    ) -> Result<(), Error> {
        let Some(reward) = self.reward else {
            return Err(Error::Unusable { what: "a stage that samples needs [rewards]".into() });
        };
        let clock = Instant::now();
        let prompts = tasks.iter().map(|t| policy.prompt_of(t)).collect::<Result<Vec<Prompt>, _>>()?;
        // Completions depend on the number of the prompt, not on who samples it.
        let own = self.world.own(tasks.len());
        let key = SampleKey { first_prompt: key.first_prompt + own.start as u64, ..key };
        let part = match own.is_empty() {
            true => Part::default(),
            false => {
                self.part(key, &tasks[own.clone()], &prompts[own.clone()], (policy, version, reward), judges)?
            }
        };
        let parts = self.gathered(part)?;
        let waited_s = parts.iter().map(|part| part.waited_s).fold(0.0, f64::max);
        out.verify_s += waited_s;
        out.generate_s += clock.elapsed().as_secs_f64() - waited_s;
        let mut next = tasks.iter().zip(&prompts).enumerate();
        for (rank, Part { groups, mut stats, .. }) in parts.into_iter().enumerate() {
            let first = self.world.own_of(rank, tasks.len()).start;
            for (completions, judgements) in groups {
                let Some((i, (task, prompt))) = next.next() else { break };
                // Only a prompt that is skipped for its length has no judgements.
                let Some(judgements) = judgements else { continue };
                out.groups.extend(self.group(i, task, prompt, (completions, judgements), policy)?);
            }
            // Ranks decode side by side.
            let ranks = self.world.size() as f64;
            stats.prefill_s /= ranks;
            stats.decode_s /= ranks;
            stats.sampling_s /= ranks;
            out.generation.merge(stats, out.prompts + first);
        }
        Ok(())
    }

    /// Samples and judges the groups of this rank.
    fn part(
        &self,
        key: SampleKey,
        tasks: &[&Task],
        prompts: &[Prompt],
        (policy, version, reward): (&Policy, u64, &dyn Reward),
        judges: &Judges,
    ) -> Result<Part, Error> {
        let c = self.config;
        let request = Request {
            stop: &c.stop,
            limit: self.limit(),
            max_batch_rows: c.max_batch_rows,
            max_batch_tokens: c.max_batch_tokens,
            version,
            cancel: self.cancel,
            ..Request::new(prompts, c.group_size, &c.sampling, key)
        };
        let judged =
            judges.while_generating(reward, &|ids| policy.text(ids), tasks, self.cancel, |report| {
                self.engine.complete(policy, &request, Some(report))
            })?;
        let (completions, stats) = judged.generated;
        let groups = completions.into_iter().zip(judged.judgements).collect();
        Ok(Part { groups, stats, waited_s: judged.waited_s })
    }

    /// What all ranks have sampled, by rank.
    fn gathered(&self, part: Part) -> Result<Vec<Part>, Error> {
        if self.world.size() == 1 {
            return Ok(vec![part]);
        }
        let torn = |what: serde_json::Error| RanksError::Apart {
            what: format!("rollouts cannot be exchanged: {what}"),
        };
        let bytes = serde_json::to_vec(&part).map_err(torn)?;
        let parts = self.world.gather(vec![bytes])?;
        Ok(parts.iter().map(|bytes| serde_json::from_slice(bytes)).collect::<Result<_, _>>().map_err(torn)?)
    }

    fn limit(&self) -> PromptLimit {
        let c = self.config;
        PromptLimit { max_prompt_tokens: c.max_prompt_tokens, long_prompt: c.long_prompt }
    }

    /// The group of the task of this index; none where its prompt is skipped for its length.
    fn group(
        &self,
        index: usize,
        task: &Task,
        prompt: &Prompt,
        (completions, judgements): (Vec<Completion>, Vec<Judgement>),
        policy: &Policy,
    ) -> Result<Option<Group>, Error> {
        let context = policy.decoder.config().max_position_embeddings;
        let fitted = self.limit().fit(index, &prompt.token_ids, context, self.config.sampling.max_tokens)?;
        let Some(ids) = fitted.token_ids() else { return Ok(None) };
        let field = |name: &String| Some((name.clone(), task.meta.get(name)?.clone()));
        Ok(Some(Group {
            id: task.id.clone(),
            reference: task.reference.clone(),
            meta: self.recorded.iter().filter_map(field).collect(),
            prompt_text: policy.seen_text(ids, &prompt.images)?,
            prompt: ids.to_vec(),
            images: prompt.images.clone(),
            image_names: policy.image_names(&task.images, &prompt.images),
            completions,
            judgements,
            advantages: vec![],
            given: vec![],
        }))
    }
}
