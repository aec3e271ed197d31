//! Published recipes by name. A preset fills in the keys that a config leaves out, and nothing else: what it stands for is
//! written into the resolved config.

use toml::{Table, Value};

/// Name and keys of a stage. Tables with a `kind` are one value.
const PRESETS: [(&str, &str); 12] = [
    // arXiv:2402.03300.
    (
        "grpo",
        r#"loss = { advantage = "grpo", objective = { kind = "clip", low = 0.2, high = 0.2 }, aggregate = "sequence_mean", kl_coef = 0.04, kl_estimator = "k3" }"#,
    ),
    // arXiv:2503.14476: no KL term, dynamic sampling; its length penalty is a reward.
    (
        "dapo",
        r#"loss = { advantage = "grpo", objective = { kind = "clip", low = 0.2, high = 0.28 }, aggregate = "token_mean", kl_coef = 0.0, groups_without_signal = "resample" }"#,
    ),
    // arXiv:2503.20783: neither the deviation of rewards nor the length of a completion divides.
    (
        "dr_grpo",
        r#"loss = { advantage = "dr_grpo", objective = { kind = "clip", low = 0.2, high = 0.2 }, aggregate = "constant", kl_coef = 0.0 }"#,
    ),
    // arXiv:2507.18071.
    (
        "gspo",
        r#"loss = { advantage = "grpo", objective = { kind = "gspo", low = 3e-4, high = 4e-4 }, importance = "sequence", aggregate = "sequence_mean", kl_coef = 0.0 }"#,
    ),
    // arXiv:2506.13585.
    (
        "cispo",
        r#"loss = { advantage = "grpo", objective = { kind = "cispo", cap = 5.0 }, aggregate = "token_mean", kl_coef = 0.0 }"#,
    ),
    // arXiv:2511.20347.
    (
        "sapo",
        r#"loss = { advantage = "grpo", objective = { kind = "sapo", temperature_pos = 1.0, temperature_neg = 1.05 }, aggregate = "sequence_mean", kl_coef = 0.0 }"#,
    ),
    // arXiv:2507.20673.
    (
        "gmpo",
        r#"loss = { advantage = "grpo", objective = { kind = "gmpo", log_clip = 0.4 }, aggregate = "sequence_mean", kl_coef = 0.0 }"#,
    ),
    // arXiv:2602.10693.
    (
        "vespo",
        r#"loss = { advantage = "grpo", objective = { kind = "vespo", k_pos = 2.0, lambda_pos = 3.0, k_neg = 3.0, lambda_neg = 2.0 }, aggregate = "token_mean", kl_coef = 0.0 }"#,
    ),
    // arXiv:2506.01939: DAPO on the fifth of the tokens at which the policy is least sure.
    (
        "top_entropy",
        r#"loss = { advantage = "grpo", objective = { kind = "clip", low = 0.2, high = 0.28 }, aggregate = "token_mean", kl_coef = 0.0, groups_without_signal = "resample", top_entropy_frac = 0.2 }"#,
    ),
    // arXiv:2402.14740: sequences as one action, so their log-probabilities are summed.
    (
        "rloo",
        r#"loss = { advantage = "rloo", objective = "reinforce", aggregate = "sequence_sum", kl_coef = 0.0 }"#,
    ),
    // arXiv:2501.03262, with a baseline of the group and the k2 penalty in the loss, whose weight is ours.
    (
        "reinforce_pp",
        r#"loss = { advantage = "reinforce_pp_baseline", objective = { kind = "clip", low = 0.2, high = 0.2 }, aggregate = "token_mean", kl_coef = 0.001, kl_estimator = "k2" }"#,
    ),
    // arXiv:2506.07044, the stage of verifiable rewards: 512 completions in groups of 16, updates of 128.
    (
        "lingshu_rl",
        r#"group_size = 16
prompts_per_step = 32
minibatches = 4
optim = { lr = 1e-6 }
loss = { advantage = "grpo", objective = { kind = "clip", low = 0.2, high = 0.2 }, aggregate = "sequence_mean", kl_coef = 0.001, kl_estimator = "k3" }"#,
    ),
];

/// The same of supervised stages. arXiv:2506.07044: the text model frozen, then everything, with rates of the parts.
const SUPERVISED: [(&str, &str); 3] = [
    (
        "lingshu_1",
        r"trainable = ['vision\..*', 'projector\..*']
optim = { lr = 1e-5, groups = [{ params = ['vision\..*'], lr = 2e-6 }] }",
    ),
    ("lingshu_2", LINGSHU_ALL),
    ("lingshu_3", LINGSHU_ALL),
];
const LINGSHU_ALL: &str = r"optim = { lr = 1e-5, groups = [{ params = ['vision\..*'], lr = 2e-6 }] }";
/// The preset of a whole run: its supervised stages in order, its stages of verifiable rewards, and their reward.
const RUN: &str = "lingshu";
const RUN_STAGE: &str = "lingshu_rl";

const OBJECTIVE: &str = "objective";
const IMPORTANCE: &str = "importance";
const KIND: &str = "kind";
/// Other names of settings of objectives.
const ALIASES: [(&str, &str); 5] = [
    ("c", "cap"),
    ("clip_low", "low"),
    ("clip_high", "high"),
    ("tau_pos", "temperature_pos"),
    ("tau_neg", "temperature_neg"),
];

/// The key that names one.
pub(crate) const KEY: &str = "preset";

/// Names of all presets of GRPO stages.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

fn preset(name: &str) -> Option<Table> {
    let (_, text) = PRESETS.iter().find(|(known, _)| *known == name)?;
    text.parse().ok()
}

/// Takes the preset out of a table of a loss and fills in what is absent.
///
/// # Errors
/// A name that no preset has.
pub(crate) fn fill_loss(loss: &mut Table) -> Result<(), String> {
    let Some(named) = loss.remove(KEY) else { return Ok(()) };
    let found = named.as_str().and_then(preset);
    let Some(Value::Table(keys)) = found.and_then(|mut keys| keys.remove("loss")) else {
        return Err(unknown(&named));
    };
    // Another name of the same key is the key.
    let is_said =
        |loss: &Table, key: &str| loss.contains_key(key) || key == "kl_coef" && loss.contains_key("beta");
    // The level of the ratio is one of the preset's objective, and not of another.
    let other = loss.contains_key(OBJECTIVE);
    for (key, value) in keys.into_iter().filter(|(key, _)| !(other && key == IMPORTANCE)) {
        if let Some(Value::Table(said)) = loss.get_mut(&key) {
            complete(said, value);
        } else if !is_said(loss, &key) {
            loss.insert(key, value);
        }
    }
    Ok(())
}

/// Settings without a kind are settings of the preset's.
fn complete(said: &mut Table, preset: Value) {
    if said.contains_key(KIND) {
        return;
    }
    match preset {
        Value::Table(keys) => {
            for (key, value) in keys {
                let other = ALIASES.iter().any(|(alias, of)| *of == key && said.contains_key(*alias));
                if !other {
                    said.entry(key).or_insert(value);
                }
            }
        }
        kind => drop(said.insert(KIND.to_owned(), kind)),
    }
}

/// Takes the preset of a whole run out of it: names those of its stages, and the reward where none is said.
///
/// # Errors
/// A name that no preset has; more supervised stages than it knows.
pub(crate) fn fill_run(run: &mut Table) -> Result<(), String> {
    let Some(named) = run.remove(KEY) else { return Ok(()) };
    if named.as_str() != Some(RUN) {
        return Err(format!("unknown preset {named} (known: {RUN}; others are of stages)"));
    }
    let mut supervised = SUPERVISED.iter().map(|(name, _)| *name);
    let stages = run.get_mut("stage").and_then(Value::as_array_mut).into_iter().flatten();
    let mut rewarded = false;
    for stage in stages.filter_map(Value::as_table_mut) {
        let name = match stage.get("kind").and_then(Value::as_str) {
            Some("sft") => supervised.next().ok_or_else(|| {
                format!("{RUN} has three supervised stages; name their presets in the stages: lingshu_1, lingshu_2, lingshu_3")
            })?,
            Some("grpo") => RUN_STAGE,
            _ => continue,
        };
        rewarded |= name == RUN_STAGE;
        stage.entry(KEY).or_insert_with(|| name.into());
    }
    if rewarded {
        let reward = || Value::Table([(KIND.to_owned(), RUN_STAGE.into())].into_iter().collect());
        run.entry("rewards").or_insert_with(reward);
    }
    Ok(())
}

/// Takes the preset out of a stage of a kind and fills in what is absent; that of its loss is named there.
///
/// # Errors
/// A name that no preset has.
pub(crate) fn fill_stage(kind: &str, stage: &mut Table) -> Result<(), String> {
    let Some(named) = stage.get(KEY).cloned() else { return Ok(()) };
    let keys = match kind {
        "sft" => {
            let found = SUPERVISED.iter().find(|(name, _)| named.as_str() == Some(name));
            let known = || {
                let known: Vec<&str> = SUPERVISED.iter().map(|(name, _)| *name).collect();
                format!("unknown preset {named} of a supervised stage (known: {})", known.join(", "))
            };
            found.and_then(|(_, text)| text.parse().ok()).ok_or_else(known)?
        }
        _ => named.as_str().and_then(preset).ok_or_else(|| unknown(&named))?,
    };
    stage.remove(KEY);
    for (key, value) in keys {
        match stage.entry(key.as_str()).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(loss) if key == "loss" => {
                loss.entry(KEY).or_insert_with(|| named.clone());
            }
            found => fill(found, value),
        }
    }
    Ok(())
}

/// Tables key by key, anything else where nothing stands.
fn fill(found: &mut Value, value: Value) {
    match (found, value) {
        (Value::Table(found), Value::Table(keys)) => {
            keys.into_iter().for_each(|(key, value)| {
                found.entry(key).or_insert(value);
            });
        }
        // What was just made for an absent key.
        (found @ Value::Table(_), value) => *found = value,
        _ => {}
    }
}

fn unknown(named: &Value) -> String {
    let known: Vec<_> = names().collect();
    format!("unknown preset {named} (known: {})", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::LossConfig;

    fn loss(text: &str) -> Result<LossConfig, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn every_preset_is_a_config_that_makes_sense() {
        for name in names() {
            let config = loss(&format!("preset = {name:?}\naggregate = \"token_mean\"")).unwrap();
            config.validate().unwrap_or_else(|e| panic!("{name}: {e}"));
            let written = toml::to_string(&config).unwrap();
            assert!(!written.contains("preset"), "{written}");
            assert_eq!(loss(&written).unwrap(), config, "{name}");
        }
    }

    #[test]
    fn what_is_said_stays() {
        let plain = loss("preset = \"dapo\"").unwrap();
        let other =
            loss("preset = \"dapo\"\nbeta = 0.1\nobjective = { kind = \"clip\", low = 0.1 }").unwrap();
        assert_eq!(other.kl_coef, 0.1);
        assert_eq!(other.groups_without_signal, plain.groups_without_signal);
        assert_ne!(other.objective, plain.objective);
        // Settings without a kind are of the preset's, and those of the preset beside them stay.
        let one = loss("preset = \"cispo\"\nobjective = { c = 4.0 }").unwrap();
        assert_eq!(one.objective, loss("objective = { kind = \"cispo\", cap = 4.0 }").unwrap().objective);
        let one = loss("preset = \"grpo\"\nobjective = { clip_low = 0.1 }").unwrap();
        assert_eq!(
            one.objective,
            loss("objective = { kind = \"clip\", low = 0.1, high = 0.2 }").unwrap().objective
        );
        for (alias, key) in ALIASES {
            let kind = if key == "cap" {
                "cispo"
            } else if key.starts_with('t') {
                "sapo"
            } else {
                "clip"
            };
            let of = |name: &str| loss(&format!("objective = {{ kind = {kind:?}, {name} = 4.0 }}")).unwrap();
            assert_eq!(of(alias), of(key));
        }
        let wrong = loss("preset = \"vespo\"\naggregate = { max_tokens = 9 }").unwrap_err().to_string();
        assert!(wrong.contains("unknown field `max_tokens`"), "{wrong}");
        let constant = loss("preset = \"dr_grpo\"\naggregate = { max_tokens = 9 }").unwrap();
        assert_eq!(constant.aggregate, crate::algorithm::Aggregate::Constant { max_tokens: Some(9.0) });
        // A key of an earlier version is one that was said.
        let old = loss("preset = \"dapo\"\npolicy = \"cispo\"\ncispo_cap = 4.0").unwrap();
        assert_eq!(old.objective, loss("objective = { kind = \"cispo\", cap = 4.0 }").unwrap().objective);
        let message = loss("preset = \"dabo\"").unwrap_err().to_string();
        assert!(message.contains("unknown preset \"dabo\" (known: grpo, dapo"), "{message}");
    }

    #[test]
    fn the_level_of_the_ratio_goes_with_the_objective() {
        let of = |text: &str| loss(text).unwrap();
        let own = of("preset = \"gspo\"\nobjective = { kind = \"gspo\", low = 1e-3 }");
        assert_eq!(own.importance_level(), of("preset = \"gspo\"").importance_level());
        for kind in ["cispo", "vespo", "clip"] {
            let other = of(&format!("preset = \"gspo\"\nobjective = {kind:?}"));
            assert_eq!(other.importance, None, "{kind}");
            assert_eq!(other.validate(), Ok(()), "{kind}");
        }
        let said = of("preset = \"gspo\"\nobjective = \"clip\"\nimportance = \"sequence\"");
        assert!(said.importance.is_some());
    }

    #[test]
    fn a_stage_takes_what_is_its_own() {
        let mut stage: Table =
            "preset = \"lingshu_rl\"\ngroup_size = 4\noptim = { eps = 1e-7 }".parse().unwrap();
        fill_stage("grpo", &mut stage).unwrap();
        assert_eq!(stage["group_size"].as_integer(), Some(4));
        assert_eq!(stage["minibatches"].as_integer(), Some(4));
        assert_eq!(
            (stage["optim"]["lr"].as_float(), stage["optim"]["eps"].as_float()),
            (Some(1e-6), Some(1e-7))
        );
        assert_eq!(stage["loss"]["preset"].as_str(), Some("lingshu_rl"));
        assert!(!stage.contains_key("preset"));
        assert!(fill_stage("grpo", &mut "preset = 5".parse().unwrap()).is_err());
        assert!(fill_stage("sft", &mut "preset = \"lingshu_rl\"".parse().unwrap()).is_err());
        let mut stage: Table = "preset = \"lingshu_1\"\noptim = { lr = 3e-5 }".parse().unwrap();
        fill_stage("sft", &mut stage).unwrap();
        assert_eq!(stage["optim"]["lr"].as_float(), Some(3e-5));
        assert_eq!(stage["optim"]["groups"][0]["lr"].as_float(), Some(2e-6));
        assert_eq!(stage["trainable"].as_array().map(Vec::len), Some(2));
    }
}
