//! The checks that a single field cannot make: everything wrong with a config in one pass.

use std::collections::{BTreeMap, BTreeSet};

use super::locate::nearest;
use super::{
    AdvantagesFrom, ChatTemplate, DataConfig, EvalConfig, GrpoConfig, LoraConfig, MuonConfig, OptimConfig,
    OptimKind, ReferenceFrom, RunConfig, SftConfig, StageConfig, TinyConfig,
};
use crate::algorithm::{AdvantageKind, GroupsWithoutSignal};
use crate::benchmarks;
use crate::checks::{Checks, Problem};
use crate::data::{Parting, Split};
use rlvr_policies::{BaseDtype, ParamPattern};
use rlvr_rollout::{RolloutError, SamplingParams};

/// Stages of a run.
const STAGES: usize = 1000;

/// Most steps that rollouts run ahead: each keeps weights and completions of its own.
const MAX_LAG: usize = 64;

/// Most completions of a step.
const MAX_COMPLETIONS: usize = 10_000_000;
/// Most parameters in the layers of a policy from nothing: 4 GiB of f32.
const MAX_TINY: u128 = 1 << 30;
/// Longest context of one, in tokens.
const MAX_TINY_CONTEXT: usize = 1 << 20;

impl RunConfig {
    /// Everything wrong with the config, not only the first thing; empty when it can be used.
    pub fn validate(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        let name_ok = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        checks.require(
            !self.name.is_empty() && self.name.chars().all(name_ok) && !self.name.starts_with('.'),
            "name",
            "names a directory: letters, digits, `.`, `_` and `-`, not beginning with a dot",
        );
        checks.require(i64::try_from(self.seed).is_ok(), "seed", "must be below 2^63");
        self.check_policy(&mut checks);
        for (name, source) in &self.data {
            source.check(&format!("data.{name}"), &mut checks);
        }
        self.check_splits(&mut checks);
        checks.require(!self.stage.is_empty(), "stage", "a run needs at least one stage");
        if self.stage.len() > STAGES {
            checks.require(
                false,
                "stage",
                format!("there are {}, at most {STAGES} are run", self.stage.len()),
            );
            return checks.into_problems();
        }
        let mut names = BTreeMap::new();
        for (index, stage) in self.stage.iter().enumerate() {
            let at = format!("stage.{index}");
            if let Some(first) = names.insert(stage.name(), index) {
                checks.require(
                    false,
                    format!("{at}.name"),
                    format!("stage {first} is called {:?} too; give each a `name` of its own", stage.name()),
                );
            }
            match stage {
                StageConfig::Sft(sft) => self.check_sft(&at, sft, &mut checks),
                StageConfig::Grpo(grpo) => self.check_grpo(&at, grpo, &mut checks),
            }
            check_parts(&at, stage.parts(), &mut checks);
            check_optim(&format!("{at}.optim"), stage.optim(), &mut checks);
        }
        if let Some(Err(error)) = self.rewards.clone().map(|rewards| rewards.build()) {
            checks.require(false, "rewards", error.to_string());
        }
        if let Some(eval) = &self.eval {
            self.check_eval(eval, &mut checks);
        }
        checks.require(self.checkpoint.keep_last >= 1, "checkpoint.keep_last", "must be at least 1");
        if let Some(metric) = &self.checkpoint.keep_best {
            self.check_best(metric, &mut checks);
        }
        checks.require(
            (0.0..=1.0).contains(&self.log.rollouts_frac),
            "log.rollouts_frac",
            format!("is {} and must lie in [0, 1]", self.log.rollouts_frac),
        );
        self.health.check(&mut checks);
        self.parallel.check(&mut checks);
        if let Some(engine) = &self.engine {
            engine.check(self.policy.lora.is_some(), &mut checks);
        }
        checks.into_problems()
    }

    /// Checks that `keep_best` is a metric that some evaluation gives.
    fn check_best(&self, metric: &str, checks: &mut Checks) {
        let eval = self.eval.iter();
        let sets: Vec<&str> =
            eval.flat_map(|eval| eval.data.iter().chain(&eval.tasks)).map(String::as_str).collect();
        let rest = metric.strip_prefix("eval/").unwrap_or_default();
        // What a definition is called stands in its file.
        let of = |set: &&str| match set.ends_with(".toml") {
            true => rest.split_once('/').map(|(_, what)| what),
            false => rest.strip_prefix(*set)?.strip_prefix('/'),
        };
        checks.require(
            sets.iter().filter_map(of).any(|what| self.is_measured(what)),
            "checkpoint.keep_best",
            format!(
                "{metric:?} must be a metric that [eval] gives, such as eval/NAME/greedy or, with policy_ema, \
                 eval/NAME/ema/greedy (sets of [eval]: {})",
                sets.join(", ")
            ),
        );
    }

    /// Whether `[eval]` gives this metric of a set, such as `greedy` or, with an average of the weights, `ema/greedy`.
    fn is_measured(&self, what: &str) -> bool {
        let Some(eval) = &self.eval else { return false };
        let averages = self.stage.iter().any(StageConfig::averages);
        let what = what.strip_prefix("ema/").filter(|_| averages).unwrap_or(what);
        match what {
            "greedy" => eval.greedy,
            "reward_mean" | "ci95_low" | "ci95_high" | "no_answer_frac" | "truncated_frac"
            | "tokens_mean" => true,
            // Parts of the reward are named by whoever made it.
            _ => match what.strip_prefix("pass@") {
                Some(k) => eval.samples > 0 && k.parse().is_ok_and(|k: usize| eval.pass_k.contains(&k)),
                None => what.ends_with("/mean") && !what.starts_with("ema/"),
            },
        }
    }

    fn check_policy(&self, checks: &mut Checks) {
        let policy = &self.policy;
        checks.require(
            policy.path.is_some() != policy.tiny.is_some(),
            "policy",
            "give either `path` or a [policy.tiny] table, not both and not neither",
        );
        checks.require(
            policy.template_vars.is_empty() || policy.chat_template != ChatTemplate::Raw,
            "policy.template_vars",
            "no template reads them with chat_template = \"raw\"",
        );
        checks.require(
            policy.max_pixels != Some(0),
            "policy.max_pixels",
            "is 0: a picture has at least one token",
        );
        checks.require(
            policy.router_aux_coef >= 0.0 && policy.router_aux_coef.is_finite(),
            "policy.router_aux_coef",
            "is not a number from 0 on",
        );
        if let Some(problem) = policy.lora.as_ref().and_then(LoraConfig::problem) {
            checks.require(false, "policy.lora", &problem);
        }
        checks.require(
            policy.base_dtype == BaseDtype::F32 || policy.lora.is_some(),
            "policy.base_dtype",
            "is the type of weights below an adapter: add a [policy.lora] table, or take it away",
        );
        check_parts("policy", (policy.trainable.as_deref(), &policy.frozen), checks);
        if let Some(tiny) = &policy.tiny {
            Self::check_tiny(tiny, checks);
        }
        if let Some(vision) = &policy.vision {
            vision.check(policy.tiny.as_ref(), checks);
            checks.require(
                policy.lora.is_none(),
                "policy.vision",
                "with [policy.lora] the new tower would stay random, because only the adapter is trained: train the tower \
                 first, then name that run as policy.path and take this table away",
            );
        }
    }

    fn check_tiny(tiny: &TinyConfig, checks: &mut Checks) {
        let at = |field: &str| format!("policy.tiny.{field}");
        for (field, value) in [
            ("layers", tiny.layers),
            ("hidden", tiny.hidden),
            ("heads", tiny.heads),
            ("kv_heads", tiny.kv_heads),
            ("intermediate", tiny.intermediate),
            ("context", tiny.context),
        ] {
            checks.require(value > 0, at(field), "must be at least 1");
        }
        // Of squares and products of the widths; a policy from nothing is small.
        let matrices =
            4u128 * (tiny.hidden as u128).pow(2) + 3 * tiny.hidden as u128 * tiny.intermediate as u128;
        let parameters = matrices.saturating_mul(tiny.layers as u128);
        checks.require(
            parameters <= MAX_TINY,
            "policy.tiny",
            format!(
                "has {parameters} parameters in its layers; at most {MAX_TINY}, larger policies are files"
            ),
        );
        checks.require(
            tiny.context <= MAX_TINY_CONTEXT,
            at("context"),
            format!("must be at most {MAX_TINY_CONTEXT}"),
        );
        if tiny.heads > 0 && tiny.kv_heads > 0 {
            let (hidden, heads, kv_heads) = (tiny.hidden, tiny.heads, tiny.kv_heads);
            checks.require(
                hidden % heads == 0 && (hidden / heads) % 2 == 0,
                at("hidden"),
                format!("is {hidden} and must be an even multiple of heads = {heads}"),
            );
            checks.require(
                heads % kv_heads == 0,
                at("kv_heads"),
                format!("is {kv_heads} and must divide heads = {heads}"),
            );
        }
        let unique: BTreeSet<char> = tiny.alphabet.chars().collect();
        checks.require(!unique.is_empty(), at("alphabet"), "has no characters");
        checks.require(
            unique.len() == tiny.alphabet.chars().count(),
            at("alphabet"),
            "contains a character more than once",
        );
    }

    /// Checks that sources which share their rows also share the line between train and held-out ones.
    fn check_splits(&self, checks: &mut Checks) {
        let mut first: BTreeMap<String, (&str, Parting<'_>)> = BTreeMap::new();
        for (name, source) in &self.data {
            let parting = source.parting();
            if parting.split == Split::All {
                continue;
            }
            let (other, expected) =
                first.entry(parting.rows.clone()).or_insert_with(|| (name.as_str(), parting.clone()));
            let why = format!(
                "in [data.{other}], which draws from the same tasks: train and held-out tasks would overlap"
            );
            checks.require(
                parting.heldout_frac == expected.heldout_frac,
                format!("data.{name}.heldout_frac"),
                format!("is {} but {} {why}", parting.heldout_frac, expected.heldout_frac),
            );
            let group =
                |parting: &Parting<'_>| parting.group.map_or("absent".to_owned(), |g| format!("{g:?}"));
            checks.require(
                parting.group == expected.group,
                format!("data.{name}.group"),
                format!("is {} but {} {why}", group(&parting), group(expected)),
            );
        }
    }

    /// Checks that a data source of this name exists and returns it.
    fn source(&self, field: String, name: &str, checks: &mut Checks) -> Option<&DataConfig> {
        let source = self.data.get(name);
        let known: Vec<&str> = self.data.keys().map(String::as_str).collect();
        let meant =
            nearest(name, known.iter().copied()).map_or(String::new(), |n| format!(", did you mean `{n}`?"));
        checks.require(
            source.is_some(),
            field,
            format!("there is no [data.{name}]{meant} (known: {})", known.join(", ")),
        );
        source
    }

    fn check_sft(&self, at: &str, stage: &SftConfig, checks: &mut Checks) {
        stage.data.check(&format!("{at}.data"), checks);
        for name in stage.data.names() {
            let Some(source) = self.source(format!("{at}.data"), name, checks) else { continue };
            checks.require(
                source.has_completions(),
                format!("{at}.data"),
                format!("[data.{name}] has no `completion` and no `messages`, which supervised training learns from"),
            );
        }
        checks.require(
            stage.steps.is_none() || stage.epochs.is_none(),
            format!("{at}.epochs"),
            "give either `steps` or `epochs`, not both",
        );
        checks.require(stage.steps != Some(0), format!("{at}.steps"), "must be at least 1");
        checks.require(
            stage.epochs.is_none_or(|e| e > 0.0 && e.is_finite()),
            format!("{at}.epochs"),
            "must be above 0",
        );
        checks.require(stage.batch >= 1, format!("{at}.batch"), "must be at least 1");
        checks.require(stage.micro_batch >= 1, format!("{at}.micro_batch"), "must be at least 1");
        for (name, tokens) in
            [("batch_tokens", stage.batch_tokens), ("micro_batch_tokens", stage.micro_batch_tokens)]
        {
            checks.require(tokens != Some(0), format!("{at}.{name}"), "must be at least 1");
        }
        check_average(at, stage.policy_ema, checks);
        let Some(validation) = &stage.validation else { return };
        let field = |name: &str| format!("{at}.validation.{name}");
        if let Some(source) = self.source(field("data"), &validation.data, checks) {
            checks.require(
                source.has_completions(),
                field("data"),
                format!(
                    "[data.{}] has no `completion` and no `messages`, of which there is no loss",
                    validation.data
                ),
            );
        }
        checks.require(
            !stage.data.names().any(|name| *name == validation.data),
            field("data"),
            "is what the stage trains on; name rows that are held out",
        );
        checks.require(validation.limit != Some(0), field("limit"), "must be at least 1");
        checks.require(validation.patience != Some(0), field("patience"), "must be at least 1");
        checks.require(
            validation.patience.is_none() || validation.every > 0,
            field("every"),
            "must be at least 1 with `patience`, which counts validations",
        );
    }

    fn check_grpo(&self, at: &str, stage: &GrpoConfig, checks: &mut Checks) {
        let field = |name: &str| format!("{at}.{name}");
        match (&stage.data, &stage.rollouts) {
            (Some(_), Some(_)) => checks.require(
                false,
                field("rollouts"),
                "the prompts come from the file; take `data` away, or `rollouts`",
            ),
            (None, None) => {
                checks.require(false, field("data"), "missing; it names the [data.NAME] of the prompts")
            }
            (Some(mix), None) => {
                mix.check(&field("data"), checks);
                for name in mix.names() {
                    self.source(field("data"), name, checks);
                }
                checks.require(
                    self.rewards.is_some(),
                    "rewards",
                    "missing; a stage that samples needs a reward",
                );
                checks.require(stage.steps.is_some(), field("steps"), "missing; it has no default");
                self.check_sampling(&field("sampling"), &stage.sampling, checks);
                let completions = stage.completions_per_step();
                checks.require(
                    stage.minibatches <= completions,
                    field("minibatches"),
                    format!("is {} but a rollout has only {completions} completions", stage.minibatches),
                );
            }
            (None, Some(_)) => checks.require(
                stage.loss.groups_without_signal != GroupsWithoutSignal::Resample,
                field("loss.groups_without_signal"),
                "\"resample\" needs prompts to sample from; recorded rollouts can be kept or dropped",
            ),
        }
        if let Some(curriculum) = &stage.curriculum {
            curriculum.check(&field("curriculum"), checks);
            checks.require(
                stage.rollouts.is_none(),
                field("curriculum"),
                "has nothing to draw from with `rollouts`; take it away",
            );
        }
        check_stop(field("stop"), &stage.stop, checks);
        check_lag(&field("max_lag"), stage, checks);
        check_numbers(at, stage, checks);
        self.check_followers(at, stage, checks);
        let given = stage.rollouts.as_ref().is_some_and(|r| r.advantages == AdvantagesFrom::Given);
        checks.require(
            !given || !stage.resolved_loss().kl_in_reward(),
            field("loss.kl_place"),
            "\"reward\" changes no advantage that is given; use \"loss\"",
        );
        checks.require(
            stage.loss.advantage != AdvantageKind::Gdpo || !stage.resolved_loss().kl_in_reward(),
            field("loss.kl_place"),
            "\"reward\" has no place among the parts that \"gdpo\" normalises; use \"loss\"",
        );
        if let Err(error) = stage.resolved_loss().validate() {
            for problem in error.problems {
                checks.require(false, field(&format!("loss.{}", problem.field)), problem.message);
            }
        }
    }

    /// Checks what follows the policy of a stage.
    fn check_followers(&self, at: &str, stage: &GrpoConfig, checks: &mut Checks) {
        let field = |name: &str| format!("{at}.{name}");
        checks.require(stage.reference_every != Some(0), field("reference_every"), "must be at least 1");
        checks.require(
            stage.reference_ema.is_none_or(|share| share > 0.0 && share <= 1.0),
            field("reference_ema"),
            "is the share of the policy and must lie in (0, 1]",
        );
        let key = if stage.reference_every.is_some() { "reference_every" } else { "reference_ema" };
        if stage.reference_period().is_some() {
            checks.require(
                stage.loss.kl_coef != 0.0,
                field(key),
                "there is no reference to move while loss.kl_coef is 0; set that, or leave this out",
            );
            checks.require(
                stage.reference != ReferenceFrom::Base,
                field(key),
                "reference = \"base\" is the policy without its adapter always; leave one of the two out",
            );
        }
        checks.require(
            stage.reference_ema.is_none() || self.policy.lora.is_none(),
            field("reference_ema"),
            "averages weights, and the average of the factors of two adapters is not that of what they add; use \
             reference_every alone",
        );
        check_average(at, stage.policy_ema, checks);
    }

    /// Checks the sampling of a stage that trains on what it samples.
    fn check_sampling(&self, at: &str, sampling: &SamplingParams, checks: &mut Checks) {
        check_ranges(at, sampling, checks);
        checks.require(
            !sampling.is_greedy(),
            format!("{at}.temperature"),
            "must be above 0 while training; greedy completions of a group are all the same",
        );
        checks.require(
            !sampling.truncates(),
            at,
            "top_k, top_p and min_p must stay off while training: the distribution sampled from is the one trained on",
        );
        if let Some(tiny) = &self.policy.tiny {
            checks.require(
                sampling.max_tokens < tiny.context,
                format!("{at}.max_tokens"),
                format!(
                    "is {} and leaves no room for a prompt in policy.tiny.context = {}",
                    sampling.max_tokens, tiny.context
                ),
            );
        }
    }

    fn check_eval(&self, eval: &EvalConfig, checks: &mut Checks) {
        let nothing = eval.data.is_empty() && eval.tasks.is_empty();
        checks.require(!nothing, "eval.data", "names no data source, and `tasks` no benchmark");
        let names = eval.tasks.iter().filter(|task| !task.ends_with(".toml"));
        for name in names.filter(|name| benchmarks::text(name).is_none()) {
            let meant = nearest(name, benchmarks::names());
            let meant = meant.map_or(String::new(), |near| format!(", did you mean `{near}`?"));
            let message = format!("there is no built-in benchmark `{name}`{meant} (rlvr eval ls lists them)");
            checks.require(false, "eval.tasks", message);
        }
        for name in &eval.data {
            self.source("eval.data".to_owned(), name, checks);
        }
        let judged = eval.data.is_empty() || self.rewards.is_some();
        checks.require(judged, "rewards", "missing; [eval] needs a reward to judge with");
        checks.require(
            eval.greedy || eval.samples > 0,
            "eval.samples",
            "nothing to do: `greedy` is off and this is 0",
        );
        checks.require(eval.limit != Some(0), "eval.limit", "must be at least 1");
        checks.require(eval.batch != Some(0), "eval.batch", "must be at least 1");
        checks.require(
            eval.samples == 0 || eval.pass_k.iter().all(|k| (1..=eval.samples).contains(k)),
            "eval.pass_k",
            format!("each must lie in 1 to samples = {}", eval.samples),
        );
        check_stop("eval.stop".to_owned(), eval.stop.as_deref().unwrap_or_default(), checks);
        if let Some(sampling) = &eval.sampling {
            check_ranges("eval.sampling", sampling, checks);
        }
    }
}

/// What cannot be sampled before earlier steps are done.
fn check_lag(at: &str, stage: &GrpoConfig, checks: &mut Checks) {
    if stage.max_lag == 0 {
        return;
    }
    checks.require(
        stage.max_lag <= MAX_LAG,
        at,
        format!("is {} and must be at most {MAX_LAG}", stage.max_lag),
    );
    checks.require(stage.rollouts.is_none(), at, "has nothing to sample with `rollouts`; take it away");
    checks.require(
        stage.loss.groups_without_signal != GroupsWithoutSignal::Resample,
        at,
        "draws the prompts of later steps while `loss.groups_without_signal = \"resample\"` may still draw for this one; use \"drop\"",
    );
    checks.require(
        stage.curriculum.is_none(),
        at,
        "draws the prompts of later steps before `curriculum` knows the pass rates of this one; take one of them away",
    );
}

/// Checks how many of everything a stage asks for.
fn check_numbers(at: &str, stage: &GrpoConfig, checks: &mut Checks) {
    let field = |name: &str| format!("{at}.{name}");
    checks.require(stage.steps != Some(0), field("steps"), "must be at least 1");
    checks.require(stage.prompts_per_step >= 1, field("prompts_per_step"), "must be at least 1");
    checks.require(
        stage.prompts_per_step.saturating_mul(stage.group_size) <= MAX_COMPLETIONS,
        field("group_size"),
        format!("times prompts_per_step must be at most {MAX_COMPLETIONS}"),
    );
    checks.require(
        stage.group_size >= 2,
        field("group_size"),
        format!(
            "is {}; advantages compare the completions of a group, so it needs at least 2",
            stage.group_size
        ),
    );
    for (name, value) in [
        ("updates_per_rollout", stage.updates_per_rollout),
        ("minibatches", stage.minibatches),
        ("micro_batch", stage.micro_batch),
        ("max_batch_rows", stage.max_batch_rows.unwrap_or(1)),
        ("max_batch_tokens", stage.max_batch_tokens.unwrap_or(1)),
    ] {
        checks.require(value >= 1, field(name), "must be at least 1");
    }
    checks.require(stage.max_prompt_tokens != Some(0), field("max_prompt_tokens"), "must be at least 1");
    checks.require(
        (0.0..=1.0).contains(&stage.max_error_frac),
        field("max_error_frac"),
        format!("is {} and must lie in [0, 1]", stage.max_error_frac),
    );
}

fn check_average(at: &str, policy_ema: Option<f64>, checks: &mut Checks) {
    checks.require(
        policy_ema.is_none_or(|decay| (0.0..1.0).contains(&decay)),
        format!("{at}.policy_ema"),
        "is the decay of an average and must lie in [0, 1), such as 0.99",
    );
}

fn check_stop(at: String, stop: &[String], checks: &mut Checks) {
    let empty = stop.iter().any(String::is_empty);
    checks.require(!empty, at, "contains an empty text, which would end every completion at once");
}

fn check_ranges(at: &str, sampling: &SamplingParams, checks: &mut Checks) {
    match sampling.validate() {
        Ok(()) => {}
        Err(RolloutError::InvalidSettings { problems }) => {
            for Problem { field, message } in problems {
                checks.require(false, format!("{at}.{field}"), message);
            }
        }
        Err(other) => checks.require(false, at, other.to_string()),
    }
}

/// Checks the patterns of what is trained and what is not.
fn check_parts(at: &str, (trainable, frozen): (Option<&[String]>, &[String]), checks: &mut Checks) {
    check_patterns(&format!("{at}.trainable"), trainable.unwrap_or_default(), checks);
    check_patterns(&format!("{at}.frozen"), frozen, checks);
    checks.require(
        trainable.is_none_or(|patterns| !patterns.is_empty()),
        format!("{at}.trainable"),
        "names nothing to train; leave it out to train everything",
    );
}

/// Checks that patterns over names are regular expressions.
fn check_patterns(at: &str, patterns: &[String], checks: &mut Checks) {
    for (i, pattern) in patterns.iter().enumerate() {
        if let Err(error) = ParamPattern::new(pattern) {
            let hint = if pattern.contains('*') { "; `.*` matches anything, `*` alone nothing" } else { "" };
            checks.require(false, format!("{at}.{i}"), format!("{error}{hint}"));
        }
    }
}

fn check_optim(at: &str, optim: &OptimConfig, checks: &mut Checks) {
    let mut check = |ok: bool, name: &str, message: &str| checks.require(ok, format!("{at}.{name}"), message);
    check(optim.lr > 0.0 && optim.lr.is_finite(), "lr", "must be above 0");
    check(optim.betas.iter().all(|b| (0.0..1.0).contains(b)), "betas", "each must lie in [0, 1)");
    check(optim.eps > 0.0 && optim.eps.is_finite(), "eps", "must be above 0");
    check(optim.weight_decay >= 0.0 && optim.weight_decay.is_finite(), "weight_decay", "must be 0 or more");
    check(optim.max_grad_norm >= 0.0, "max_grad_norm", "must be 0 (no clipping) or more");
    check((0.0..=1.0).contains(&optim.final_lr_frac), "final_lr_frac", "must lie in [0, 1]");
    check((0.0..1.0).contains(&optim.muon.momentum), "muon.momentum", "must lie in [0, 1)");
    check((1..100).contains(&optim.muon.ns_steps), "muon.ns_steps", "must be 1 to 99");
    let muon = optim.kind == OptimKind::Muon || optim.groups.iter().any(|g| g.kind == Some(OptimKind::Muon));
    check(
        muon || *optim.muon == MuonConfig::default(),
        "muon",
        "has settings, but no parameter has kind = \"muon\"",
    );
    for (i, group) in optim.groups.iter().enumerate() {
        let mut check =
            |ok: bool, name: &str, message: &str| check(ok, &format!("groups.{i}.{name}"), message);
        check(!group.params.is_empty(), "params", "names no parameter");
        check(
            group.lr.is_none_or(|lr| lr > 0.0 && lr.is_finite()),
            "lr",
            "must be above 0; parameters that stay as they are belong into `frozen` of the stage, or into policy.frozen",
        );
        let decay = group.weight_decay.is_none_or(|decay| decay >= 0.0 && decay.is_finite());
        check(decay, "weight_decay", "must be 0 or more");
        let rates = group.lr.is_some() || group.weight_decay.is_some() || group.warmup_steps.is_some();
        let said = rates || group.kind.is_some();
        check(said, "params", "has no setting of its own: kind, lr, weight_decay or warmup_steps");
    }
    for (i, group) in optim.groups.iter().enumerate() {
        check_patterns(&format!("{at}.groups.{i}.params"), &group.params, checks);
    }
}
