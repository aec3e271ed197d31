//! Rotary settings: how frequencies are stretched beyond the context that a model was pre-trained with.

use std::f64::consts::PI;

use serde_json::{Map, Value, json};

use super::Architecture;
use super::keys::Keys;
use crate::error::PolicyError;

/// How rotary frequencies are stretched beyond the context that the model was pre-trained with.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All frequencies divided by `factor` (arXiv:2306.15595).
    Linear {
        /// Positive; at least 1 is a stretch.
        factor: f64,
    },
    /// A larger base for sequences beyond `max_position_embeddings`. Contexts end there, so nothing is stretched; the
    /// factor is kept for others.
    Dynamic {
        /// Positive.
        factor: f64,
    },
    /// Low frequencies divided by `factor`, high ones kept, those between blended (Llama 3.1).
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` count as low frequency.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` count as high frequency.
        high_freq_factor: f64,
        /// Context before the stretch, in tokens.
        original_max_position_embeddings: usize,
    },
    /// As [`Yarn`] says.
    Yarn(Yarn),
    /// As [`LongRope`] says.
    LongRope(LongRope),
}

/// Every frequency divided by a factor of its own (arXiv:2402.13753), one list for contexts up to the original one and
/// one for longer ones. Contexts end at the original one here; the long factors are kept for others.
#[derive(Debug, Clone, PartialEq)]
pub struct LongRope {
    /// Divisors in contexts up to the original one, one for each two columns of the rotated part of a head.
    pub short_factor: Vec<f64>,
    /// Divisors in longer ones.
    pub long_factor: Vec<f64>,
    /// Context before the stretch, in tokens.
    pub original_max_position_embeddings: usize,
    /// Context that the file names.
    pub max_position_embeddings: usize,
    /// Stretch, where the file says it; the ratio of the two contexts otherwise.
    pub factor: Option<f64>,
    /// Factor of cosines and sines, where the file says it.
    pub attention_factor: Option<f64>,
}

impl LongRope {
    /// Factor of cosines and sines.
    fn attention_factor(&self) -> f64 {
        let original = self.original_max_position_embeddings as f64;
        let factor = self.factor.unwrap_or(self.max_position_embeddings as f64 / original);
        match self.attention_factor {
            Some(factor) => factor,
            None if factor <= 1.0 => 1.0,
            None => (1.0 + factor.ln() / original.ln()).sqrt(),
        }
    }

    fn to_json(&self) -> Value {
        let mut value = json!({
            "rope_type": "longrope",
            "type": "longrope",
            "short_factor": self.short_factor,
            "long_factor": self.long_factor,
            "original_max_position_embeddings": self.original_max_position_embeddings,
        });
        for (key, number) in [("factor", self.factor), ("attention_factor", self.attention_factor)] {
            if let Some(number) = number {
                value[key] = json!(number);
            }
        }
        value
    }
}

/// Frequencies below `beta_slow` turns over the original context divided by `factor`, those above `beta_fast` kept, a
/// ramp over the dimensions between; cosines and sines times a factor (arXiv:2309.00071, section 3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yarn {
    /// Divisor of the low frequencies.
    pub factor: f64,
    /// Context before the stretch, in tokens.
    pub original_max_position_embeddings: usize,
    /// Turns over the original context from which on a frequency is kept.
    pub beta_fast: f64,
    /// Turns over the original context up to which a frequency is divided by `factor`.
    pub beta_slow: f64,
    /// Factor of cosines and sines, where the file says it.
    pub attention_factor: Option<f64>,
    /// Without `attention_factor` and together with `mscale_all_dim`: weight of ln `factor` in its numerator.
    pub mscale: Option<f64>,
    /// The same in its denominator.
    pub mscale_all_dim: Option<f64>,
    /// Whether the ramp begins and ends at whole dimensions.
    pub truncate: bool,
}

impl Yarn {
    /// What a file means that says no more than these two.
    pub fn new(factor: f64, original_max_position_embeddings: usize) -> Self {
        Self {
            factor,
            original_max_position_embeddings,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: None,
            mscale: None,
            mscale_all_dim: None,
            truncate: true,
        }
    }

    /// Factor of cosines and sines.
    fn attention_factor(&self) -> f64 {
        let of = |weight: f64| if self.factor <= 1.0 { 1.0 } else { 0.1 * weight * self.factor.ln() + 1.0 };
        match (self.attention_factor, self.mscale, self.mscale_all_dim) {
            (Some(factor), ..) => factor,
            (None, Some(above), Some(below)) => of(above) / of(below),
            _ => of(1.0),
        }
    }

    /// First and last dimension of the ramp, as transformers finds them.
    fn ramp(&self, theta: f64, head_dim: usize) -> (f64, f64) {
        let dim = |turns: f64| {
            let context = self.original_max_position_embeddings as f64;
            head_dim as f64 * (context / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln())
        };
        let (mut low, mut high) = (dim(self.beta_fast), dim(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low.max(0.0), high.min(head_dim as f64 - 1.0))
    }

    fn to_json(self) -> Value {
        let mut value = json!({
            "rope_type": "yarn",
            "factor": self.factor,
            "original_max_position_embeddings": self.original_max_position_embeddings,
        });
        let plain = Self::new(self.factor, self.original_max_position_embeddings);
        for (key, number, usual) in [
            ("beta_fast", Some(self.beta_fast), Some(plain.beta_fast)),
            ("beta_slow", Some(self.beta_slow), Some(plain.beta_slow)),
            ("attention_factor", self.attention_factor, None),
            ("mscale", self.mscale, None),
            ("mscale_all_dim", self.mscale_all_dim, None),
        ] {
            if number != usual {
                value[key] = json!(number);
            }
        }
        if !self.truncate {
            value["truncate"] = json!(false);
        }
        value
    }
}

impl RopeScaling {
    /// Rotary frequencies in radians a position for heads of width `head_dim`.
    /// In f32, operation by operation as transformers computes them: an angle is a frequency times the position, so a
    /// last digit that differs would grow with the context.
    pub(crate) fn inv_freq(&self, theta: f64, head_dim: usize) -> Vec<f32> {
        let powers = (0..head_dim / 2).map(|i| theta.powf(2.0 * i as f64 / head_dim as f64) as f32);
        let plain = powers.clone().map(|p| 1.0 / p);
        match *self {
            Self::LongRope(ref long) => {
                powers.zip(&long.short_factor).map(|(p, f)| 1.0 / (*f as f32 * p)).collect()
            }
            Self::None | Self::Dynamic { .. } => plain.collect(),
            Self::Linear { factor } => plain.map(|f| f / factor as f32).collect(),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let context = original_max_position_embeddings as f64;
                let scale = |f: f32| {
                    // A number divided by a tensor is the tensor's reciprocal times the number there.
                    let wavelength = (1.0 / f) * (2.0 * PI) as f32;
                    if wavelength > (context / low_freq_factor) as f32 {
                        return f / factor as f32;
                    }
                    if wavelength < (context / high_freq_factor) as f32 {
                        return f;
                    }
                    let turns = (1.0 / wavelength) * context as f32;
                    let keep = (turns - low_freq_factor as f32) / (high_freq_factor - low_freq_factor) as f32;
                    (1.0 - keep) * f / factor as f32 + keep * f
                };
                plain.map(scale).collect()
            }
            Self::Yarn(yarn) => {
                let (low, high) = yarn.ramp(theta, head_dim);
                let width = if low == high { high + 0.001 - low } else { high - low };
                let scale = |(i, power): (usize, f32)| {
                    let ramp = ((i as f32 - low as f32) / width as f32).clamp(0.0, 1.0);
                    let keep = 1.0 - ramp;
                    let (kept, divided) = (1.0 / power, 1.0 / (yarn.factor as f32 * power));
                    divided * (1.0 - keep) + kept * keep
                };
                powers.enumerate().map(scale).collect()
            }
        }
    }

    /// Factor of cosines and sines: queries and keys grow by it.
    pub(crate) fn attention_factor(&self) -> f64 {
        match self {
            Self::Yarn(yarn) => yarn.attention_factor(),
            Self::LongRope(long) => long.attention_factor(),
            Self::None | Self::Linear { .. } | Self::Dynamic { .. } | Self::Llama3 { .. } => 1.0,
        }
    }

    /// As `rope_scaling` says it, null for none.
    pub(super) fn to_json(&self) -> Value {
        match *self {
            Self::LongRope(ref long) => long.to_json(),
            Self::None => Value::Null,
            Self::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
            Self::Dynamic { factor } => json!({"rope_type": "dynamic", "factor": factor}),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                json!({
                    "rope_type": "llama3",
                    "factor": factor,
                    "low_freq_factor": low_freq_factor,
                    "high_freq_factor": high_freq_factor,
                    "original_max_position_embeddings": original_max_position_embeddings,
                })
            }
            Self::Yarn(yarn) => yarn.to_json(),
        }
    }
}

/// What the rotary settings of a file say.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rope {
    pub theta: f64,
    pub scaling: RopeScaling,
    /// Share of a head that is rotated.
    pub partial: f64,
    /// θ of layers with a window, where the section says it.
    pub local_theta: Option<f64>,
}

/// Rotary settings as transformers 5 reads them: `rope_scaling` replaces `rope_parameters` where both are given, with
/// the `rope_theta` beside them or the family's own. Families with sections for kinds of layers have them in
/// `rope_parameters`; there `rope_scaling` is for the layers without a window and updates their section.
pub(super) fn rope_settings(
    keys: &Keys<'_>,
    architecture: Architecture,
    max_positions: usize,
) -> Result<Rope, PolicyError> {
    let by_layer = matches!(architecture, Architecture::Gemma3 | Architecture::Olmo3);
    let scaling = section(keys, "rope_scaling", false)?;
    let parameters = section(keys, "rope_parameters", by_layer)?;
    let reader = Reader { keys, architecture, max_positions };
    if by_layer && (scaling.is_some() || parameters.is_some()) {
        return reader.by_layer(scaling, parameters);
    }
    let read = |prefix: &'static str, map| reader.one(prefix, map, "rope_theta");
    match (scaling, parameters) {
        (None, None) => {
            let theta = keys.positive("rope_theta")?.unwrap_or(architecture.family().defaults.theta);
            let partial = keys.positive("partial_rotary_factor")?.unwrap_or(1.0);
            Ok(Rope { theta, scaling: RopeScaling::None, partial, local_theta: None })
        }
        (None, Some(map)) => read("rope_parameters", map),
        (Some(map), None) => read("rope_scaling", map),
        (Some(map), Some(other)) => {
            let used = read("rope_scaling", map)?;
            if read("rope_parameters", other).ok().as_ref() != Some(&used) {
                tracing::warn!(
                    "{}: `rope_scaling` says something else than `rope_parameters` and is used, as transformers does",
                    keys.path.display()
                );
            }
            Ok(used)
        }
    }
}

/// The object of a key; an empty one counts as absent.
fn section<'a>(
    keys: &Keys<'a>,
    name: &str,
    by_layer: bool,
) -> Result<Option<&'a Map<String, Value>>, PolicyError> {
    match keys.get(name) {
        None => Ok(None),
        Some(Value::Object(map)) if map.is_empty() => Ok(None),
        Some(Value::Object(map)) if map.values().any(Value::is_object) && !by_layer => {
            Err(keys.unsupported(name, "supported: one set of parameters for all layers"))
        }
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(_) => Err(keys.wrong(name, "is not an object")),
    }
}

/// What every kind of scaling may say.
const COMMON: [&str; 4] = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];
const LINEAR: [&str; 1] = ["factor"];
const DYNAMIC: [&str; 2] = ["factor", ORIGINAL];
const LLAMA3: [&str; 4] = ["factor", "low_freq_factor", "high_freq_factor", ORIGINAL];
const YARN: [&str; 8] = [
    "factor",
    ORIGINAL,
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
];
const LONGROPE: [&str; 5] = ["factor", ORIGINAL, "short_factor", "long_factor", "attention_factor"];
const ORIGINAL: &str = "original_max_position_embeddings";

/// Reads sections of a file.
struct Reader<'a, 'b> {
    keys: &'a Keys<'b>,
    architecture: Architecture,
    max_positions: usize,
}

impl Reader<'_, '_> {
    /// Sections for full and for sliding attention, the former updated by `rope_scaling`.
    fn by_layer(
        &self,
        scaling: Option<&Map<String, Value>>,
        parameters: Option<&Map<String, Value>>,
    ) -> Result<Rope, PolicyError> {
        let inner = |kind: &str| parameters.and_then(|map| map.get(kind)).and_then(Value::as_object);
        let (full, sliding) = (inner("full_attention"), inner("sliding_attention"));
        if parameters.is_some() && full.is_none() && sliding.is_none() {
            // transformers reads nothing of it.
            let model = self.architecture.model_type();
            let supported =
                format!("supported for {model}: the sections full_attention and sliding_attention");
            return Err(self.keys.unsupported("rope_parameters", &supported));
        }
        let prefix = if parameters.is_some() { "rope_parameters" } else { "rope_scaling" };
        let mut of_all = full.cloned().unwrap_or_default();
        if full.is_none() {
            of_all.insert("rope_type".into(), json!("default"));
        }
        of_all.extend(scaling.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
        let used = self.one(prefix, &of_all, "rope_theta")?;
        let beside = match self.architecture {
            Architecture::Gemma3 => "rope_local_base_freq",
            _ => "",
        };
        let local = match sliding {
            Some(map) => Some(self.one(prefix, map, beside)?),
            None => None,
        };
        if local.as_ref().is_some_and(|local| local.scaling != RopeScaling::None) {
            return Err(self.keys.unsupported(prefix, "supported: sliding_attention of type default"));
        }
        let says = |map: &Map<String, Value>| map.contains_key("rope_theta");
        let local_theta = local.filter(|_| sliding.is_some_and(says)).map(|local| local.theta);
        Ok(Rope { local_theta, ..used })
    }

    /// One section. `beside` is the key outside of it that says θ where the section does not.
    fn one(&self, prefix: &str, map: &Map<String, Value>, beside: &str) -> Result<Rope, PolicyError> {
        let rope = Keys { map, prefix, path: self.keys.path };
        let partial = match rope.positive("partial_rotary_factor")? {
            Some(partial) => partial,
            None => self.keys.positive("partial_rotary_factor")?.unwrap_or(1.0),
        };
        if partial != 1.0 && !self.architecture.family().keys.contains(&"partial_rotary_factor") {
            return Err(rope.unsupported("partial_rotary_factor", "supported: 1.0"));
        }
        let theta = match rope.positive("rope_theta")? {
            Some(theta) => theta,
            None => self.keys.positive(beside)?.unwrap_or(self.architecture.family().defaults.theta),
        };
        let scaling = self.scaling(&rope, theta, beside)?;
        Ok(Rope { theta, scaling, partial, local_theta: None })
    }

    /// The type of a section. Phi-3 has longrope under three names, and nothing else.
    fn kind<'s>(&self, rope: &Keys<'s>, key: &str) -> Result<Option<&'s str>, PolicyError> {
        match (self.architecture, rope.str(key)?) {
            (Architecture::Phi3, Some("longrope" | "su" | "yarn")) => Ok(Some("longrope")),
            (Architecture::Phi3, Some(other)) if other != "default" => {
                Err(rope.unsupported(key, "supported for phi3: default, longrope"))
            }
            (_, kind) => Ok(kind),
        }
    }

    /// Context before the stretch. The key beside the section wins, as it does in transformers, and Phi-3 has it always.
    fn original(&self, rope: &Keys<'_>) -> Result<usize, PolicyError> {
        let beside = self.keys.optional_size(ORIGINAL)?;
        Ok(match self.architecture {
            Architecture::Phi3 => beside.unwrap_or(self.architecture.family().defaults.context),
            _ => beside.or(rope.optional_size(ORIGINAL)?).unwrap_or(self.max_positions),
        })
    }

    fn scaling(&self, rope: &Keys<'_>, theta: f64, beside: &str) -> Result<RopeScaling, PolicyError> {
        let max_positions = self.max_positions;
        let required = |key: &str| rope.positive(key)?.ok_or_else(|| rope.wrong(key, "is missing"));
        let type_key = if rope.map.contains_key("rope_type") { "rope_type" } else { "type" };
        let (scaling, known): (_, &[&str]) = match self.kind(rope, type_key)? {
            None | Some("default") => (RopeScaling::None, &[]),
            Some("linear") => (RopeScaling::Linear { factor: required("factor")? }, &LINEAR),
            Some("dynamic") => {
                tracing::warn!(
                    "{}: dynamic scaling begins beyond max_position_embeddings = {max_positions}, where the context ends",
                    rope.path.display()
                );
                (RopeScaling::Dynamic { factor: required("factor")? }, &DYNAMIC)
            }
            Some("llama3") => (llama3(rope, self.original(rope)?)?, &LLAMA3),
            Some("yarn") => {
                (RopeScaling::Yarn(yarn(rope, theta, self.original(rope)?, max_positions)?), &YARN)
            }
            Some("longrope" | "su") => {
                (RopeScaling::LongRope(long_rope(rope, self.original(rope)?, max_positions)?), &LONGROPE)
            }
            Some(_) => {
                return Err(
                    rope.unsupported(type_key, "supported: default, linear, dynamic, llama3, yarn, longrope")
                );
            }
        };
        warn_of_unused(self.keys, rope, known, beside);
        Ok(scaling)
    }
}

fn llama3(rope: &Keys<'_>, original: usize) -> Result<RopeScaling, PolicyError> {
    let required = |key: &str| rope.positive(key)?.ok_or_else(|| rope.wrong(key, "is missing"));
    let (low, high) = (required("low_freq_factor")?, required("high_freq_factor")?);
    if high <= low {
        return Err(rope.wrong("high_freq_factor", "is not above low_freq_factor"));
    }
    Ok(RopeScaling::Llama3 {
        factor: required("factor")?,
        low_freq_factor: low,
        high_freq_factor: high,
        original_max_position_embeddings: original,
    })
}

/// Says what the file says about a rotation and is not used.
fn warn_of_unused(keys: &Keys<'_>, rope: &Keys<'_>, known: &[&str], beside: &str) {
    if !known.contains(&ORIGINAL) && keys.get(ORIGINAL).is_some() {
        tracing::warn!("{}: `{ORIGINAL}` says nothing to a rope of this type", rope.path.display());
    }
    for (inner, outer) in [("rope_theta", keys.get(beside)), ("rope_type", rope.get("type"))] {
        if let (Some(used), Some(other)) = (rope.get(inner), outer)
            && used != other
        {
            tracing::warn!(
                "{}: `{}` = {used} is used, {other} elsewhere in the file is not",
                rope.path.display(),
                rope.full(inner)
            );
        }
    }
    let unused = unused(rope, known);
    if !unused.is_empty() {
        tracing::warn!(
            "{}: in `{}` these say nothing to a rope of this type: {}",
            rope.path.display(),
            rope.prefix,
            unused.join(", ")
        );
    }
}

/// Keys that are set and that this type of rotation does not read.
fn unused<'a>(rope: &Keys<'a>, known: &[&str]) -> Vec<&'a str> {
    let unused = |key: &&String| !COMMON.contains(&key.as_str()) && !known.contains(&key.as_str());
    rope.map.keys().filter(unused).map(String::as_str).filter(|key| rope.get(key).is_some()).collect()
}

fn long_rope(rope: &Keys<'_>, original: usize, max_positions: usize) -> Result<LongRope, PolicyError> {
    let list = |key: &str| {
        let list = rope.get(key).ok_or_else(|| rope.wrong(key, "is missing"))?;
        serde_json::from_value::<Vec<f64>>(list.clone())
            .ok()
            .filter(|factors| factors.iter().all(|f| f.is_finite() && *f > 0.0))
            .ok_or_else(|| rope.wrong(key, "is not a list of positive numbers"))
    };
    Ok(LongRope {
        short_factor: list("short_factor")?,
        long_factor: list("long_factor")?,
        original_max_position_embeddings: original,
        max_position_embeddings: max_positions,
        factor: rope.positive("factor")?,
        attention_factor: rope.positive("attention_factor")?,
    })
}

fn yarn(rope: &Keys<'_>, theta: f64, original: usize, max_positions: usize) -> Result<Yarn, PolicyError> {
    if theta <= 1.0 {
        return Err(rope.wrong("rope_theta", &format!("= {theta} is not above 1, which yarn needs")));
    }
    let factor = match rope.map.get("factor") {
        // Null, unlike an absent key, is the ratio of the contexts in transformers.
        Some(Value::Null) => max_positions as f64 / original as f64,
        _ => rope.positive("factor")?.ok_or_else(|| rope.wrong("factor", "is missing"))?,
    };
    let plain = Yarn::new(factor, original);
    let yarn = Yarn {
        beta_fast: rope.positive("beta_fast")?.unwrap_or(plain.beta_fast),
        beta_slow: rope.positive("beta_slow")?.unwrap_or(plain.beta_slow),
        attention_factor: rope.positive("attention_factor")?,
        mscale: rope.positive("mscale")?,
        mscale_all_dim: rope.positive("mscale_all_dim")?,
        // Null is false in transformers.
        truncate: !rope.map.contains_key("truncate") || rope.bool("truncate")?.unwrap_or(false),
        ..plain
    };
    if yarn.beta_fast < yarn.beta_slow {
        return Err(rope.wrong("beta_fast", "is below beta_slow"));
    }
    yarn.warn_of_short_context(rope.path, max_positions);
    Ok(yarn)
}

impl Yarn {
    /// Says so when the context stays shorter than what the stretch was made for.
    pub(crate) fn warn_of_short_context(&self, path: &std::path::Path, max_positions: usize) {
        let stretched = self.original_max_position_embeddings as f64 * self.factor;
        if stretched > max_positions as f64 {
            tracing::warn!(
                "{}: yarn stretches the context to {stretched:.0} tokens, max_position_embeddings is {max_positions} and \
                 limits it: raise that to use more",
                path.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn what_a_type_does_not_read_is_named() {
        let of = |value: Value, known: &[&str]| {
            let map = value.as_object().unwrap();
            unused(&Keys { map, prefix: "rope_parameters", path: Path::new("config.json") }, known).join(" ")
        };
        assert_eq!(of(json!({"rope_type": "default", "rope_theta": 1e6, "factor": 4.0}), &[]), "factor");
        assert_eq!(of(json!({"type": "linear", "factor": 4.0, "beta_fast": 32}), &LINEAR), "beta_fast");
        assert_eq!(of(json!({"type": "dynamic", "factor": 4.0, ORIGINAL: 4096}), &DYNAMIC), "");
        assert_eq!(
            of(json!({"rope_type": "yarn", "factor": 4.0, "low_freq_factor": 1.0}), &YARN),
            "low_freq_factor"
        );
        assert_eq!(of(json!({"rope_type": "llama3", "factor": 8.0, "truncate": null}), &LLAMA3), "");
    }
}
