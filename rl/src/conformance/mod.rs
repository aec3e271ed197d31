//! `rlvr loss`: the training code's own loss on given vectors.
//!
//! Input, with B sequences of T tokens (rows may be ragged, each array with the lengths of `logprobs`):
//! ```json
//! {"arrays": {"logprobs": [[-1.2, -0.4]], "old_logprobs": [[-1.0, -0.5]], "ref_logprobs": [[-1.1, -0.6]],
//!             "sampler_logprobs": [[-1.0, -0.5]], "loss_mask": [[1, 1]], "advantages": [0.7]},
//!  "cases": {"dapo": {"objective": {"kind": "clip", "high": 0.28}, "aggregate": "token_mean"}}}
//! ```
//! Output: `{"dapo": {"loss": x, "grad": [[…]]}}`, the gradient with respect to `logprobs`, exactly 0 where the mask
//! is cleared; with an entropy bonus also `"entropy_grad"`, that with respect to `entropy`.
//!
//! - `old_logprobs` absent or null: on policy, the ratio is 1 and has its gradient. `loss_mask` absent: every token.
//!   `ref_logprobs`, `sampler_logprobs` and `entropy` are needed only by the keys that use them. `dppo_tv`, `topr`, `vespo` and
//!   `off_policy_mask_threshold` measure against `sampler_logprobs` when present, else `old_logprobs`.
//! - `top_entropy_frac` takes its share of the tokens of the case by `entropy`.
//! - `advantages` is `[B]` or `[B][T]`. Under a cleared mask any entry may be null.
//! - The keys of a case are those of `[stage.loss]`, or those of earlier versions; a null value means the default.
//! - Three more keys: `arrays` replaces some of the shared arrays for this case (null removes one);
//!   `accumulation_steps` (default 1) says that so many micro-batches like this one make the optimizer step;
//!   `totals` (`{"sequences", "tokens"}`) gives the step's totals outright.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::algorithm::top_entropy;
use crate::algorithm::{LossConfig, LossConfigError, LossError, StepTotals, policy_loss, rewrite_old_keys};

use arrays::Arrays;

mod arrays;
#[cfg(test)]
mod tests;

const ARRAYS: [&str; 7] =
    ["logprobs", "old_logprobs", "ref_logprobs", "sampler_logprobs", "entropy", "loss_mask", "advantages"];
const CASE_KEYS: [&str; 3] = ["arrays", "totals", "accumulation_steps"];

/// Why the vectors cannot be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// The input is not JSON; the message has the line.
    #[error("not valid JSON: {0}")]
    Json(#[source] serde_json::Error),
    /// A value is absent or of the wrong kind or size.
    #[error("{place}: {problem}")]
    Shape {
        /// Path of the value.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A key that does not exist.
    #[error("{place}: unknown key `{key}`, the nearest valid key is `{nearest}`")]
    UnknownKey {
        /// Path of the object.
        place: String,
        /// The key.
        key: String,
        /// The valid key most like it.
        nearest: String,
    },
    /// The keys of a case do not fit together.
    #[error("case `{case}`: {source}")]
    Config {
        /// Name of the case.
        case: String,
        /// The reasons.
        source: LossConfigError,
    },
    /// The loss of a case cannot be computed from its arrays.
    #[error("case `{case}`: {source}")]
    Loss {
        /// Name of the case.
        case: String,
        /// The reason.
        source: LossError,
    },
}

/// Loss and gradient of every case of `input`, in its order. The module's head has the format.
///
/// # Errors
/// [`ConformanceError`] on the first thing wrong, with its place.
pub fn conformance(input: &str) -> Result<Value, ConformanceError> {
    conformance_noted(input, &mut Vec::new())
}

/// [`conformance`], with a line in `notes` for every case that is written in keys which go with the next version.
///
/// # Errors
/// As [`conformance`].
pub fn conformance_noted(input: &str, notes: &mut Vec<String>) -> Result<Value, ConformanceError> {
    let document: Value = serde_json::from_str(input).map_err(ConformanceError::Json)?;
    let document = object(&document, "the input")?;
    known_keys(document, "the input", &["arrays", "cases"])?;
    let empty = Map::new();
    let shared = document.get("arrays").map_or(Ok(&empty), |v| object(v, "arrays"))?;
    known_keys(shared, "arrays", &ARRAYS)?;
    let cases = document.get("cases").ok_or_else(|| shape("cases", "is missing"))?;
    let mut results = Map::new();
    for (name, case) in object(cases, "cases")? {
        let case = object(case, &format!("case `{name}`"))?;
        results.insert(name.clone(), evaluate(name, case, shared, notes)?);
    }
    Ok(Value::Object(results))
}

fn evaluate(
    name: &str,
    case: &Map<String, Value>,
    shared: &Map<String, Value>,
    notes: &mut Vec<String>,
) -> Result<Value, ConformanceError> {
    let place = format!("case `{name}`");
    let config = config(name, case, &place, notes)?;
    let mut arrays = shared.clone();
    if let Some(overrides) = case.get("arrays").filter(|v| !v.is_null()) {
        let overrides = object(overrides, &format!("{place}, arrays"))?;
        known_keys(overrides, &format!("{place}, arrays"), &ARRAYS)?;
        arrays.extend(overrides.clone());
    }
    arrays.retain(|_, value| !value.is_null());
    let arrays = Arrays::parse(&arrays, &place)?;
    let totals = totals(case, &arrays, &place)?;
    let mut sequences = arrays.sequences();
    // The arrays are the whole optimizer step.
    let masks =
        config.top_entropy_frac.and_then(|frac| top_entropy::masks(&sequences, frac)).unwrap_or_default();
    sequences.iter_mut().zip(&masks).for_each(|(s, mask)| s.policy_mask = Some(mask));
    let output = policy_loss(&sequences, &config, &totals)
        .map_err(|source| ConformanceError::Loss { case: name.to_owned(), source })?;
    let mut value = json!({"loss": output.loss, "grad": output.grads});
    if let Some(by_entropy) = output.entropy_grads {
        value["entropy_grad"] = json!(by_entropy);
    }
    Ok(value)
}

fn config(
    name: &str,
    case: &Map<String, Value>,
    place: &str,
    notes: &mut Vec<String>,
) -> Result<LossConfig, ConformanceError> {
    let defaults =
        serde_json::to_value(LossConfig::default()).map_err(|e| shape("the defaults", &e.to_string()))?;
    let mut keys: Vec<&str> = object(&defaults, "the defaults")?.keys().map(String::as_str).collect();
    keys.extend(CASE_KEYS);
    for alias in LossConfig::aliases() {
        keys.push(alias);
    }
    known_keys(case, place, &keys)?;
    let mut config = LossConfig::default();
    // Key by key, so that an error names its key.
    let mut accepted = Map::new();
    for (key, value) in case.iter().filter(|(key, v)| !v.is_null() && !CASE_KEYS.contains(&key.as_str())) {
        accepted.insert(key.clone(), without_nulls(value));
        config = serde_json::from_value(Value::Object(accepted.clone()))
            .map_err(|e| shape(&format!("{place}, {key}"), &e.to_string()))?;
    }
    config.validate().map_err(|source| ConformanceError::Config { case: name.to_owned(), source })?;
    let mut table = toml::Table::deserialize(Value::Object(accepted)).unwrap_or_default();
    let old = rewrite_old_keys(&mut table).unwrap_or_default();
    notes.extend(old.into_iter().map(|found| format!("{place}: {found}")));
    Ok(config)
}

/// Of a table the settings that are given: null means the default.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect(),
        ),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => value.clone(),
    }
}

fn totals(case: &Map<String, Value>, arrays: &Arrays, place: &str) -> Result<StepTotals, ConformanceError> {
    let positive = |value: &Value, place: String| {
        value.as_f64().filter(|v| *v > 0.0).ok_or_else(|| shape(&place, "must be a number above 0"))
    };
    let steps = match case.get("accumulation_steps").filter(|v| !v.is_null()) {
        Some(value) => positive(value, format!("{place}, accumulation_steps"))?,
        None => 1.0,
    };
    let own = StepTotals::of(arrays.loss_mask.iter().map(Vec::as_slice));
    let mut totals = StepTotals { sequences: own.sequences * steps, tokens: own.tokens * steps };
    if let Some(given) = case.get("totals").filter(|v| !v.is_null()) {
        let place = format!("{place}, totals");
        let given = object(given, &place)?;
        known_keys(given, &place, &["sequences", "tokens"])?;
        if let Some(value) = given.get("sequences") {
            totals.sequences = positive(value, format!("{place}.sequences"))?;
        }
        if let Some(value) = given.get("tokens") {
            totals.tokens = positive(value, format!("{place}.tokens"))?;
        }
    }
    Ok(totals)
}

fn object<'a>(value: &'a Value, place: &str) -> Result<&'a Map<String, Value>, ConformanceError> {
    value.as_object().ok_or_else(|| shape(place, "must be an object"))
}

fn known_keys(map: &Map<String, Value>, place: &str, keys: &[&str]) -> Result<(), ConformanceError> {
    let Some(unknown) = map.keys().find(|key| !keys.contains(&key.as_str())) else { return Ok(()) };
    let like = |key: &&&str| strsim::jaro_winkler(key, unknown);
    let nearest = keys.iter().max_by(|a, b| like(a).total_cmp(&like(b))).copied().unwrap_or_default();
    Err(ConformanceError::UnknownKey {
        place: place.to_owned(),
        key: unknown.clone(),
        nearest: nearest.to_owned(),
    })
}

fn shape(place: &str, problem: &str) -> ConformanceError {
    ConformanceError::Shape { place: place.to_owned(), problem: problem.to_owned() }
}
