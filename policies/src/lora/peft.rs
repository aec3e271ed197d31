//! `adapter_config.json`, read and written.
use super::{LoraSettings, Targets, layout, targets};
use crate::error::PolicyError;
use crate::spec::{Mlp, ParamLayout};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Keys that change nothing here.
const IDLE: &[&str] = &[
    "auto_mapping",
    "inference_mode",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "task_type",
    "megatron_core",
    "lora_ga_config",
    "ensure_weight_tying",
    "runtime_config",
    "eva_config",
    "corda_config",
    "loftq_config",
];
/// Keys that are read.
const READ: &[&str] = &[
    "base_model_name_or_path",
    "r",
    "lora_alpha",
    "lora_dropout",
    "use_rslora",
    "target_modules",
    "target_parameters",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "bias",
    "init_lora_weights",
];
/// Ways to begin that change the base as well, or that need data.
const OTHER_BASES: &[&str] = &["pissa", "olora", "corda", "loftq", "eva", "lora_ga"];

/// A config and where its problems are.
struct Keys<'a> {
    map: &'a Map<String, Value>,
    path: &'a Path,
}

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn wrong(&self, key: &str, problem: &str) -> PolicyError {
        PolicyError::ConfigKey { path: self.path.into(), key: key.into(), problem: problem.into() }
    }

    fn is(&self, key: &str, value: &Value, wanted: &str) -> PolicyError {
        self.wrong(key, &format!("= {value} is not {wanted}"))
    }

    fn rank(&self, key: &str, value: &Value) -> Result<usize, PolicyError> {
        let rank = value.as_u64().filter(|r| (1..=super::MAX_RANK as u64).contains(r));
        let wanted = format!("a whole number from 1 to {}", super::MAX_RANK);
        rank.map(|r| r as usize).ok_or_else(|| self.is(key, value, &wanted))
    }

    fn alpha(&self, key: &str, value: &Value) -> Result<f64, PolicyError> {
        let alpha = value.as_f64().filter(|a| a.is_finite() && *a > 0.0);
        alpha.ok_or_else(|| self.is(key, value, "a positive number"))
    }

    fn flag(&self, key: &str) -> Result<bool, PolicyError> {
        match self.get(key) {
            None => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| self.is(key, value, "true or false")),
        }
    }

    fn names(&self, key: &str, value: &Value) -> Result<Vec<String>, PolicyError> {
        let list = value.as_array().ok_or_else(|| self.is(key, value, "a text or a list of texts"))?;
        let name = |v: &Value| v.as_str().map(str::to_owned).ok_or_else(|| self.is(key, v, "a text"));
        list.iter().map(name).collect()
    }

    fn targets(&self, key: &str) -> Result<Option<Targets>, PolicyError> {
        Ok(match self.get(key) {
            None => None,
            Some(Value::String(s)) if s == "all-linear" => Some(Targets::AllLinear),
            Some(Value::String(s)) => Some(Targets::Pattern(s.clone())),
            Some(value) => {
                Some(Targets::Names(self.names(key, value)?)).filter(|t| *t != Targets::Names(vec![]))
            }
        })
    }

    /// The targets with those of `target_parameters`, which are the weights of linear layers by their full names.
    fn with_parameters(&self, modules: Option<Targets>) -> Result<Targets, PolicyError> {
        let key = "target_parameters";
        let weight = |name: String| match name.strip_suffix(".weight") {
            Some(module) if module.starts_with("model.") => Ok(module.to_owned()),
            _ => Err(self.is(key, &json!(name), "the weight of a linear layer by its full name")),
        };
        let weights = match self.get(key) {
            None => Vec::new(),
            Some(value) => self.names(key, value)?.into_iter().map(weight).collect::<Result<Vec<_>, _>>()?,
        };
        match (modules, weights.is_empty()) {
            (Some(modules), true) => Ok(modules),
            (None, true) => Err(self.wrong("target_modules", "is missing")),
            (None, false) => Ok(Targets::Names(weights)),
            (Some(Targets::Names(names)), false) => Ok(Targets::Names([names, weights].concat())),
            (Some(Targets::AllLinear | Targets::Pattern(_)), false) => {
                Err(self.wrong(key, "is supported beside a list of target_modules only"))
            }
        }
    }

    fn layers(&self) -> Result<Option<Vec<usize>>, PolicyError> {
        let key = "layers_to_transform";
        let number = |v: &Value| {
            v.as_u64().map(|n| n as usize).ok_or_else(|| self.is(key, v, "the number of a layer"))
        };
        Ok(match self.get(key) {
            None => None,
            Some(Value::Array(list)) if list.is_empty() => None,
            Some(Value::Array(list)) => Some(list.iter().map(number).collect::<Result<_, _>>()?),
            Some(one) => Some(vec![number(one)?]),
        })
    }

    fn patterns<T>(
        &self,
        key: &str,
        value: impl Fn(&str, &Value) -> Result<T, PolicyError>,
    ) -> Result<Vec<(String, T)>, PolicyError> {
        let Some(found) = self.get(key) else { return Ok(Vec::new()) };
        let map = found.as_object().ok_or_else(|| self.is(key, found, "an object"))?;
        map.iter().map(|(name, v)| Ok((name.clone(), value(&format!("{key}.{name}"), v)?))).collect()
    }

    /// Refuses what is not computed here.
    fn refuse(&self) -> Result<(), PolicyError> {
        if let Some(kind) = self.get("peft_type").filter(|v| **v != json!("LORA")) {
            return Err(self.is("peft_type", kind, "LORA, the only kind that is supported"));
        }
        if let Some(bias) = self.get("bias").filter(|v| **v != json!("none")) {
            return Err(self.is("bias", bias, "supported: only \"none\""));
        }
        match self.get("init_lora_weights") {
            Some(Value::String(way)) if OTHER_BASES.iter().any(|other| way.starts_with(other)) => {
                let problem =
                    format!("= \"{way}\" is not supported: it changes the base as well, or needs data");
                return Err(self.wrong("init_lora_weights", &problem));
            }
            _ => {}
        }
        let off = |v: &Value| match v {
            Value::Null | Value::Bool(false) => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        let known = |key: &str| READ.contains(&key) || IDLE.contains(&key);
        let other = self.map.iter().find(|(key, value)| !known(key) && !off(value));
        other.map_or(Ok(()), |(key, value)| Err(self.wrong(key, &format!("= {value} is not supported"))))
    }
}

impl LoraSettings {
    /// Reads the content of an `adapter_config.json`; `path` is for messages.
    ///
    /// # Errors
    /// A value that makes no sense, or one that asks for what is not computed here, by key.
    pub fn from_peft(map: &Map<String, Value>, path: &Path) -> Result<Self, PolicyError> {
        let keys = Keys { map, path };
        keys.refuse()?;
        let rank = keys.get("r").map_or(Ok(8), |v| keys.rank("r", v))?;
        let alpha = keys.get("lora_alpha").map_or(Ok(8.0), |v| keys.alpha("lora_alpha", v))?;
        let dropout = match keys.get("lora_dropout") {
            None => 0.0,
            Some(v) => {
                let share = v.as_f64().filter(|d| (0.0..1.0).contains(d));
                share.ok_or_else(|| keys.is("lora_dropout", v, "from 0 up to, but without, 1"))?
            }
        };
        let targets = keys.with_parameters(keys.targets("target_modules")?)?;
        let layers_pattern = match keys.get("layers_pattern") {
            None => Vec::new(),
            Some(Value::String(one)) => vec![one.clone()],
            Some(value) => keys.names("layers_pattern", value)?,
        };
        Ok(Self {
            rank,
            alpha,
            rslora: keys.flag("use_rslora")?,
            dropout,
            targets,
            exclude: keys.targets("exclude_modules")?,
            layers: keys.layers()?,
            layers_pattern,
            rank_pattern: keys.patterns("rank_pattern", |key, v| keys.rank(key, v))?,
            alpha_pattern: keys.patterns("alpha_pattern", |key, v| keys.alpha(key, v))?,
        })
    }

    /// As [`Self::to_peft`], for the adapters of a decoder: with their names where PEFT would find others. That is so
    ///
    /// - with experts: by the names of the MLPs of blocks without them PEFT 0.21 finds the experts, so those MLPs are named
    ///   by their weights;
    /// - with `all-linear` in some blocks: PEFT makes full names of it first, and those count in every block.
    ///
    /// # Errors
    /// A pattern that is no regular expression here.
    pub(crate) fn to_peft_of(&self, layout: &ParamLayout, base: &str) -> Result<Value, PolicyError> {
        let experts = layout.model.blocks.iter().any(|block| matches!(block.mlp, Mlp::Experts(_)));
        let mut value = self.to_peft(base);
        let all_of_some = self.targets == Targets::AllLinear && self.layers.is_some();
        if !experts && !all_of_some {
            return Ok(value);
        }
        let [mut modules, mlp] = layout::adapted(layout);
        if experts {
            let mut weights = Vec::new();
            for module in &mlp {
                let weight = format!("{module}.weight");
                let pattern = regex::escape(&weight);
                if let Some(rank) = targets::first_match(&self.rank_pattern, module)? {
                    value["rank_pattern"][&pattern] = json!(rank);
                }
                if let Some(alpha) = targets::first_match(&self.alpha_pattern, module)? {
                    value["alpha_pattern"][&pattern] = number(alpha);
                }
                weights.push(weight);
            }
            value["target_parameters"] = json!(weights);
        } else {
            modules.extend(mlp);
        }
        value["target_modules"] = json!(modules);
        for settled in ["exclude_modules", "layers_to_transform", "layers_pattern"] {
            value[settled] = Value::Null;
        }
        Ok(value)
    }

    /// The content of an `adapter_config.json` over a base.
    pub fn to_peft(&self, base: &str) -> Value {
        let targets = |targets: &Targets| match targets {
            Targets::AllLinear => json!("all-linear"),
            Targets::Names(names) => json!(names),
            Targets::Pattern(pattern) => json!(pattern),
        };
        let rank = |(name, rank): &(String, usize)| (name.clone(), json!(rank));
        let alpha = |(name, alpha): &(String, f64)| (name.clone(), number(*alpha));
        json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "inference_mode": true,
            "r": self.rank,
            "lora_alpha": number(self.alpha),
            "lora_dropout": self.dropout,
            "use_rslora": self.rslora,
            "use_dora": false,
            "bias": "none",
            "fan_in_fan_out": false,
            "init_lora_weights": true,
            "target_modules": targets(&self.targets),
            "exclude_modules": self.exclude.as_ref().map(targets),
            "layers_to_transform": self.layers,
            "layers_pattern": if self.layers_pattern.is_empty() { Value::Null } else { json!(self.layers_pattern) },
            "rank_pattern": Value::Object(self.rank_pattern.iter().map(rank).collect()),
            "alpha_pattern": Value::Object(self.alpha_pattern.iter().map(alpha).collect()),
            "modules_to_save": null,
            "revision": null,
        })
    }
}

/// A number without a fraction is written as a whole one: PEFT's alphas are.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}
