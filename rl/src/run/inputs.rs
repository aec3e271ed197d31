//! Everything that a run config names: opened, and checked as far as it can be without the policy.
use crate::config::{DataConfig, DataMix, RunConfig, StageConfig};
use crate::data::{TaskSource, TrainingOrder};
use crate::error::Error;
use crate::eval::{Benchmark, OpenSettings, fingerprint, tasks_of};
use crate::policy::Policy;
use crate::run::dir::DataFacts;
use crate::run::overlap;
use crate::run::texts::{self, Read, Texts};
use crate::train::recorded::{self, RecordedStep};
use rlvr_rewards::{Reward, Task};
use std::collections::BTreeMap;

/// Everything that a config names, opened and checked.
pub(crate) struct Inputs {
    pub(crate) sources: BTreeMap<String, TaskSource>,
    /// As it is: what evaluations judge with.
    pub(crate) reward: Option<Box<dyn Reward>>,
    /// The same with the noise that the config asks for, if it does.
    noisy: Option<Box<dyn Reward>>,
    pub(crate) recorded: BTreeMap<usize, Vec<RecordedStep>>,
    /// The fields of data rows that the records keep, by stage.
    pub(crate) fields: BTreeMap<usize, Vec<String>>,
    /// The benchmarks of `[eval]`.
    pub(crate) benchmarks: Vec<Benchmark>,
}

impl Inputs {
    pub(crate) fn open(config: &RunConfig) -> Result<Self, Error> {
        let mut used: Vec<&String> = config.eval.iter().flat_map(|e| &e.data).collect();
        let mut judged = used.clone();
        let (mut recorded, mut fields_of) = (BTreeMap::new(), BTreeMap::new());
        for (i, stage) in config.stage.iter().enumerate() {
            match stage {
                StageConfig::Sft(sft) => {
                    used.extend(sft.data.names());
                    used.extend(sft.validation.iter().map(|v| &v.data));
                }
                StageConfig::Grpo(grpo) => {
                    let names: Vec<&String> = grpo.data.iter().flat_map(|mix| mix.names()).collect();
                    let data = names.iter().filter_map(|name| config.data.get(*name));
                    let mut fields: Vec<String> = Vec::new();
                    for field in data.flat_map(DataConfig::recorded) {
                        if !fields.contains(field) {
                            fields.push(field.clone());
                        }
                    }
                    fields_of.insert(i, fields);
                    used.extend(&names);
                    judged.extend(names);
                    if let Some(file) = &grpo.rollouts {
                        recorded.insert(i, recorded::read(&file.path, file.advantages)?);
                    }
                }
            }
        }
        let mut sources = BTreeMap::new();
        for name in used {
            if let Some(data) = config.data.get(name)
                && !sources.contains_key(name)
            {
                sources.insert(name.clone(), TaskSource::open(name, data, config.seed)?);
            }
        }
        let unusable = |e: rlvr_rewards::ConfigError| Error::Unusable { what: format!("[rewards]: {e}") };
        let reward = config.rewards.clone().map(|r| r.build()).transpose().map_err(unusable)?;
        let noisy = config.rewards.as_ref().and_then(|r| r.with_noise(config.seed));
        let noisy = noisy.map(|r| r.build()).transpose().map_err(unusable)?;
        if noisy.is_some() {
            tracing::warn!(
                "[rewards] flips verdicts on purpose while training (`noisy`), for experiments only"
            );
        }
        if let Some(reward) = &reward {
            let broken = |e: rlvr_rewards::RewardError| Error::Unusable { what: format!("[rewards]: {e}") };
            reward.prepare().map_err(broken)?;
            noisy.iter().try_for_each(|r| r.prepare()).map_err(broken)?;
            for source in judged.into_iter().filter_map(|name| sources.get(name)) {
                for i in 0..source.len() {
                    reward.check_task(source.task(i)).map_err(|e| source.bad_task(i, e.to_string()))?;
                }
            }
        }
        let mut benchmarks = Vec::new();
        if let Some(eval) = &config.eval {
            let settings = OpenSettings {
                data_dir: eval.data_dir.clone(),
                limit: eval.limit,
                ..OpenSettings::default()
            };
            for name in &eval.tasks {
                let benchmark = Benchmark::named(name, &settings)?;
                benchmark.reward.prepare().map_err(|e| Error::Unusable { what: format!("{name}: {e}") })?;
                let same = |other: &Benchmark| other.name == benchmark.name;
                if eval.data.contains(&benchmark.name) || benchmarks.iter().any(same) {
                    let what = format!("[eval] measures two sets called {}: rename one", benchmark.name);
                    return Err(Error::Unusable { what });
                }
                benchmarks.push(benchmark);
            }
        }
        overlap::check(config, &sources, &benchmarks)?;
        Ok(Self { sources, reward, noisy, recorded, fields: fields_of, benchmarks })
    }

    /// Looks at every text with the policy that reads them.
    pub(crate) fn texts(&self, config: &RunConfig, policy: &Policy) -> Result<Texts, Error> {
        let Self { sources, recorded, benchmarks, .. } = self;
        texts::check(&Read { config, sources, recorded, benchmarks }, policy)
    }

    /// What there is to read, for the facts about the run.
    ///
    /// # Errors
    /// A file of rollouts that cannot be read any more.
    pub(crate) fn facts(&self, config: &RunConfig) -> Result<BTreeMap<String, DataFacts>, Error> {
        let fact = |(name, source): (&String, &TaskSource)| {
            (format!("data.{name}"), DataFacts { rows: source.len(), sha256: source.sha256() })
        };
        let mut facts: BTreeMap<String, DataFacts> = self.sources.iter().map(fact).collect();
        for (stage, steps) in &self.recorded {
            let StageConfig::Grpo(grpo) = &config.stage[*stage] else { continue };
            let Some(file) = &grpo.rollouts else { continue };
            let sha256 = fingerprint::file_sha256(&file.path)?;
            facts.insert(format!("stage.{stage}.rollouts"), DataFacts { rows: steps.len(), sha256 });
        }
        Ok(facts)
    }

    /// What evaluations measure, by data source.
    pub(crate) fn measured(&self, config: &RunConfig, texts: &Texts) -> Vec<(String, Vec<&Task>)> {
        let Some(eval) = &config.eval else { return Vec::new() };
        let tasks = |name: &String| {
            let source = self.sources.get(name)?;
            Some((name.clone(), texts.measured(name, tasks_of(source, eval.limit))))
        };
        eval.data.iter().filter_map(tasks).collect()
    }

    /// What completions are judged with while training.
    pub(crate) fn training_reward(&self) -> Option<&dyn Reward> {
        self.noisy.as_deref().or(self.reward.as_deref())
    }

    /// The rows of sources in the order in which a supervised stage learns them.
    pub(crate) fn order(&self, mix: &DataMix, seed: u64) -> Result<TrainingOrder<'_>, Error> {
        let source = |(name, weight): (&String, f64)| Ok((self.source(name)?, weight));
        Ok(TrainingOrder::new(mix.iter().map(source).collect::<Result<_, Error>>()?, seed))
    }

    pub(crate) fn source(&self, name: &str) -> Result<&TaskSource, Error> {
        self.sources.get(name).ok_or_else(|| Error::Unusable { what: format!("there is no [data.{name}]") })
    }
}
