//! Typed access to the keys of a JSON object, with errors that name them.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::PolicyError;

/// Largest value accepted for a dimension, so that products of a few of them cannot overflow.
pub(crate) const MAX_SIZE: u64 = 1 << 30;
/// Most layers and most experts of a layer: what is made of them takes memory before a weight is looked for.
pub(crate) const MAX_LAYERS: u64 = 1 << 16;
pub(crate) const MAX_EXPERTS: u64 = 1 << 12;
/// Largest context in tokens: devices hold the rotation of every position. The longest known is 10 million.
pub(crate) const MAX_CONTEXT: u64 = 1 << 24;

/// A JSON object of a config; null counts as absent.
pub(crate) struct Keys<'a> {
    pub map: &'a Map<String, Value>,
    /// The key that holds the object; empty at the root.
    pub prefix: &'a str,
    pub path: &'a Path,
}

impl<'a> Keys<'a> {
    /// The key as messages call it.
    pub fn full(&self, key: &str) -> String {
        if self.prefix.is_empty() { key.to_owned() } else { format!("{}.{key}", self.prefix) }
    }

    pub fn wrong(&self, key: &str, problem: &str) -> PolicyError {
        PolicyError::ConfigKey { path: self.path.into(), key: self.full(key), problem: problem.into() }
    }

    /// The value is understood and not computed; `supported` says what is.
    pub fn unsupported(&self, key: &str, supported: &str) -> PolicyError {
        let mut value = self.get(key).unwrap_or(&Value::Null).to_string();
        if value.chars().count() > 80 {
            value = value.chars().take(80).chain(['…']).collect();
        }
        PolicyError::Unsupported {
            path: self.path.into(),
            key: self.full(key),
            value,
            supported: supported.into(),
        }
    }

    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    pub fn str(&self, key: &str) -> Result<Option<&'a str>, PolicyError> {
        self.get(key).map(|v| v.as_str().ok_or_else(|| self.wrong(key, "is not a string"))).transpose()
    }

    pub fn bool(&self, key: &str) -> Result<Option<bool>, PolicyError> {
        self.get(key).map(|v| v.as_bool().ok_or_else(|| self.wrong(key, "is not a boolean"))).transpose()
    }

    pub fn positive(&self, key: &str) -> Result<Option<f64>, PolicyError> {
        let check = |v: &Value| match v.as_f64() {
            Some(f) if f.is_finite() && f > 0.0 => Ok(f),
            _ => Err(self.wrong(key, &format!("= {v} is not a positive number"))),
        };
        self.get(key).map(check).transpose()
    }

    pub fn optional_size(&self, key: &str) -> Result<Option<usize>, PolicyError> {
        self.size_up_to(key, MAX_SIZE)
    }

    /// A length of contexts.
    pub fn context(&self, key: &str) -> Result<Option<usize>, PolicyError> {
        self.size_up_to(key, MAX_CONTEXT)
    }

    pub fn size_up_to(&self, key: &str, most: u64) -> Result<Option<usize>, PolicyError> {
        let check = |v: &Value| match v.as_u64() {
            Some(n) if (1..=most).contains(&n) => Ok(n as usize),
            _ => Err(self.wrong(key, &format!("= {v} is not a whole number from 1 to {most}"))),
        };
        self.get(key).map(check).transpose()
    }

    pub fn size(&self, key: &str) -> Result<usize, PolicyError> {
        self.optional_size(key)?.ok_or_else(|| self.wrong(key, "is missing"))
    }

    pub fn token_ids(&self, key: &str) -> Result<Vec<u32>, PolicyError> {
        token_ids(self.map, key).ok_or_else(|| self.wrong(key, "is not a token id or a list of them"))
    }
}

/// `eos_token_id` and its like: absent, null, a number, or a list; −1 means none.
pub(crate) fn token_ids(map: &Map<String, Value>, key: &str) -> Option<Vec<u32>> {
    let one = |v: &Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
    match map.get(key) {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Number(n)) if n.as_i64() == Some(-1) => Some(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(one).collect(),
        Some(id) => one(id).map(|id| vec![id]),
    }
}
