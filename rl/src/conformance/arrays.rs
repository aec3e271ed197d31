//! The arrays of the vectors: reading and checking shapes.

use serde_json::{Map, Value};

use super::{ConformanceError, shape};
use crate::algorithm::{Advantage, Sequence};

type Rows = Vec<Vec<f64>>;

enum Advantages {
    Sequence(Vec<f64>),
    Tokens(Rows),
}

/// The arrays of one case, of agreeing shapes.
pub(super) struct Arrays {
    logprobs: Rows,
    old_logprobs: Option<Rows>,
    ref_logprobs: Option<Rows>,
    sampler_logprobs: Option<Rows>,
    entropy: Option<Rows>,
    pub loss_mask: Vec<Vec<bool>>,
    advantages: Advantages,
}

impl Arrays {
    /// Reads and checks the arrays; `place` names the case in errors.
    pub fn parse(arrays: &Map<String, Value>, place: &str) -> Result<Self, ConformanceError> {
        let required = |name: &str| {
            arrays.get(name).ok_or_else(|| shape(&format!("{place}, arrays.{name}"), "is missing"))
        };
        let logprobs = rows(required("logprobs")?, &format!("{place}, arrays.logprobs"), number)?;
        let optional = |name: &str| -> Result<Option<Rows>, ConformanceError> {
            let Some(value) = arrays.get(name) else { return Ok(None) };
            let place = format!("{place}, arrays.{name}");
            let rows = rows(value, &place, number)?;
            same_shape(&rows, &logprobs, &place)?;
            Ok(Some(rows))
        };
        let loss_mask = match arrays.get("loss_mask") {
            None => logprobs.iter().map(|row| vec![true; row.len()]).collect(),
            Some(value) => {
                let place = format!("{place}, arrays.loss_mask");
                let mask = rows(value, &place, flag)?;
                same_shape(&mask, &logprobs, &place)?;
                mask
            }
        };
        let advantages = required("advantages")?;
        let place_advantages = format!("{place}, arrays.advantages");
        let nested = advantages.as_array().is_some_and(|rows| rows.iter().any(Value::is_array));
        let advantages = if nested {
            let rows = rows(advantages, &place_advantages, number)?;
            same_shape(&rows, &logprobs, &place_advantages)?;
            Advantages::Tokens(rows)
        } else {
            let values = row(advantages, &place_advantages, number)?;
            if values.len() != logprobs.len() {
                let problem = format!("has {} entries, logprobs has {} rows", values.len(), logprobs.len());
                return Err(shape(&place_advantages, &problem));
            }
            Advantages::Sequence(values)
        };
        Ok(Self {
            old_logprobs: optional("old_logprobs")?,
            ref_logprobs: optional("ref_logprobs")?,
            sampler_logprobs: optional("sampler_logprobs")?,
            entropy: optional("entropy")?,
            loss_mask,
            advantages,
            logprobs,
        })
    }

    /// The arrays as a batch.
    pub fn sequences(&self) -> Vec<Sequence<'_>> {
        fn at(rows: &Option<Rows>, b: usize) -> Option<&[f64]> {
            rows.as_ref().map(|rows| rows[b].as_slice())
        }
        (0..self.logprobs.len())
            .map(|b| Sequence {
                logprobs: &self.logprobs[b],
                old_logprobs: at(&self.old_logprobs, b).unwrap_or(&self.logprobs[b]),
                ref_logprobs: at(&self.ref_logprobs, b),
                sampler_logprobs: at(&self.sampler_logprobs, b),
                entropy: at(&self.entropy, b),
                loss_mask: &self.loss_mask[b],
                policy_mask: None,
                advantage: match &self.advantages {
                    Advantages::Sequence(values) => Advantage::Sequence(values[b]),
                    Advantages::Tokens(rows) => Advantage::Tokens(&rows[b]),
                },
            })
            .collect()
    }
}

fn rows<T>(
    value: &Value,
    place: &str,
    entry: fn(&Value) -> Result<T, &'static str>,
) -> Result<Vec<Vec<T>>, ConformanceError> {
    let outer = value.as_array().ok_or_else(|| shape(place, "must be an array of rows"))?;
    outer.iter().enumerate().map(|(b, value)| row(value, &format!("{place}[{b}]"), entry)).collect()
}

fn row<T>(
    value: &Value,
    place: &str,
    entry: fn(&Value) -> Result<T, &'static str>,
) -> Result<Vec<T>, ConformanceError> {
    let values = value.as_array().ok_or_else(|| shape(place, "must be an array"))?;
    let parse = |(t, value)| entry(value).map_err(|problem| shape(&format!("{place}[{t}]"), problem));
    values.iter().enumerate().map(parse).collect()
}

/// A number; null is NaN, which the loss refuses unless the mask is cleared there.
fn number(value: &Value) -> Result<f64, &'static str> {
    if value.is_null() { Ok(f64::NAN) } else { value.as_f64().ok_or("must be a number") }
}

fn flag(value: &Value) -> Result<bool, &'static str> {
    match (value.as_bool(), value.as_f64()) {
        (Some(flag), _) => Ok(flag),
        (_, Some(0.0)) => Ok(false),
        (_, Some(1.0)) => Ok(true),
        _ => Err("must be 0 or 1"),
    }
}

fn same_shape<T>(rows: &[Vec<T>], logprobs: &Rows, place: &str) -> Result<(), ConformanceError> {
    if rows.len() != logprobs.len() {
        let problem = format!("has {} rows, logprobs has {}", rows.len(), logprobs.len());
        return Err(shape(place, &problem));
    }
    for (b, (row, expected)) in rows.iter().zip(logprobs).enumerate() {
        if row.len() != expected.len() {
            let problem = format!("has {} entries, logprobs[{b}] has {}", row.len(), expected.len());
            return Err(shape(&format!("{place}[{b}]"), &problem));
        }
    }
    Ok(())
}
