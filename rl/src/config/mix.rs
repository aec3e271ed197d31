//! Where the prompts of a stage come from, and which of them are drawn.
use crate::checks::Checks;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::collections::BTreeMap;
use std::fmt;

/// Data sources with the weights that prompts are drawn with: a name, a list of names that weigh the same, or a table
/// `{ name = weight }`. In the order of the names.
#[derive(Debug, Clone, PartialEq)]
pub struct DataMix(BTreeMap<String, f64>);

impl DataMix {
    /// The sources with their weights.
    pub fn iter(&self) -> impl Iterator<Item = (&String, f64)> {
        self.0.iter().map(|(name, weight)| (name, *weight))
    }

    /// The names of the sources.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    pub(super) fn check(&self, at: &str, checks: &mut Checks) {
        checks.require(!self.0.is_empty(), at, "names no data source");
        for (name, weight) in self.iter() {
            checks.require(
                weight > 0.0 && weight.is_finite(),
                at,
                format!("the weight of {name} is {weight} and must be above 0"),
            );
        }
    }
}

impl Serialize for DataMix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.first_key_value() {
            Some((name, weight)) if self.0.len() == 1 && *weight == 1.0 => serializer.serialize_str(name),
            _ => {
                let mut map = serializer.serialize_map(Some(self.0.len()))?;
                self.0.iter().try_for_each(|(name, weight)| map.serialize_entry(name, weight))?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for DataMix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sources;
        impl<'de> de::Visitor<'de> for Sources {
            type Value = DataMix;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, a list of names or a table of names with weights")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<DataMix, E> {
                Ok(DataMix([(name.to_owned(), 1.0)].into()))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<DataMix, A::Error> {
                let mut all = BTreeMap::new();
                while let Some(name) = seq.next_element::<String>()? {
                    if all.insert(name.clone(), 1.0).is_some() {
                        return Err(de::Error::custom(format!("names {name} twice; give it a weight")));
                    }
                }
                Ok(DataMix(all))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<DataMix, A::Error> {
                let mut all = BTreeMap::new();
                while let Some((name, weight)) = map.next_entry::<String, f64>()? {
                    all.insert(name, weight);
                }
                Ok(DataMix(all))
            }
        }
        deserializer.deserialize_any(Sources)
    }
}

/// `[stage.curriculum]`: rows that the policy solves sometimes are drawn more often than others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CurriculumConfig {
    /// Rows whose running pass rate lies in this range, ends included, have the weight 1, as have rows that were never drawn.
    /// Default `[0.2, 0.8]`.
    pub target: [f64; 2],
    /// The weight of all others, in (0, 1]: above 0, so that they are seen again when the policy has changed. Default 0.1.
    pub outside: f64,
    /// The weight of the newest group in the running pass rate of its row, in (0, 1]. Default 0.5.
    pub newest: f64,
}

impl Default for CurriculumConfig {
    fn default() -> Self {
        Self { target: [0.2, 0.8], outside: 0.1, newest: 0.5 }
    }
}

impl CurriculumConfig {
    pub(super) fn check(&self, at: &str, checks: &mut Checks) {
        let [low, high] = self.target;
        checks.require(
            0.0 <= low && low <= high && high <= 1.0,
            format!("{at}.target"),
            format!("is [{low}, {high}] and must be a range within [0, 1]"),
        );
        for (name, value) in [("outside", self.outside), ("newest", self.newest)] {
            checks.require(
                value > 0.0 && value <= 1.0,
                format!("{at}.{name}"),
                format!("is {value} and must lie above 0 and up to 1"),
            );
        }
    }

    /// The weight of a row by its running pass rate.
    pub(crate) fn weight(&self, rate: Option<f64>) -> f64 {
        if rate.is_none_or(|rate| self.holds(rate)) { 1.0 } else { self.outside }
    }

    /// Whether a pass rate lies in the target.
    pub(crate) fn holds(&self, rate: f64) -> bool {
        (self.target[0]..=self.target[1]).contains(&rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_weigh_one_in_the_target_and_before_their_first_draw() {
        let config = CurriculumConfig { target: [0.25, 0.75], outside: 0.2, newest: 0.5 };
        let weights =
            [None, Some(0.0), Some(0.25), Some(0.5), Some(0.75), Some(1.0)].map(|r| config.weight(r));
        assert_eq!(weights, [1.0, 0.2, 1.0, 1.0, 1.0, 0.2]);
    }
}
