//! Settings that are one of several kinds, as configs write them: a table with `kind`, or the kind alone where it has no
//! settings or keeps their defaults.

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

const KIND: &str = "kind";

/// Writes the kind alone where there is nothing else to say.
pub(super) fn serialize<T: Serialize, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let value = Value::try_from(value).map_err(S::Error::custom)?;
    match value.as_table().filter(|table| table.len() == 1).and_then(|table| table.get(KIND)) {
        Some(kind) => kind.serialize(serializer),
        None => value.serialize(serializer),
    }
}

/// Reads a table with `kind`, or a kind.
pub(super) fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let table = match Value::deserialize(deserializer)? {
        Value::Table(table) => table,
        kind => Table::from_iter([(KIND.to_owned(), kind)]),
    };
    let read = |table: Table| Value::Table(table).try_into::<T>();
    let kind = table.get(KIND).cloned();
    let other = table.keys().find(|key| *key != KIND).cloned();
    let value = read(table).map_err(|e| D::Error::custom(e.message()))?;
    // A kind without settings takes any key for one that it need not know.
    if let (Some(kind), Some(other)) = (kind, other)
        && read(Table::from_iter([(KIND.to_owned(), kind.clone()), (String::new(), true.into())])).is_ok()
    {
        return Err(D::Error::custom(format!("unknown field `{other}`, kind = {kind} has no settings")));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use crate::algorithm::{Aggregate, LossConfig, Objective, SamplerCorrection};

    fn parse(text: &str) -> Result<LossConfig, String> {
        toml::from_str(text).map_err(|e: toml::de::Error| e.message().to_owned())
    }

    #[test]
    fn a_kind_alone_has_its_defaults() {
        let short =
            parse("objective = \"gspo\"\naggregate = \"constant\"\nsampler_correction = \"token_mask\"");
        let long = parse(
            "objective = { kind = \"gspo\", low = 3e-4 }\naggregate = { kind = \"constant\" }\n\
             sampler_correction = { kind = \"token_mask\", cap = 2 }",
        );
        assert_eq!(short, long);
        let written = toml::to_string(&LossConfig::default()).unwrap();
        for part in
            ["aggregate = \"token_mean\"", "sampler_correction = \"none\"", "[objective]", "low = 0.2"]
        {
            assert!(written.contains(part), "{part} is not in {written}");
        }
        assert_eq!(parse(&written), Ok(LossConfig::default()));
        let all = LossConfig {
            objective: Objective::Reinforce(Default::default()),
            aggregate: Aggregate::Constant { max_tokens: Some(12.0) },
            sampler_correction: SamplerCorrection::TokenTruncate(Default::default()),
            ..LossConfig::default()
        };
        assert_eq!(parse(&toml::to_string(&all).unwrap()), Ok(all));
    }

    #[test]
    fn settings_that_a_kind_has_not_are_refused() {
        for (text, expected) in [
            ("objective = { kind = \"cispo\", low = 0.2 }", "unknown field `low`"),
            ("objective = { kind = \"reinforce\", cap = 5 }", "unknown field `cap`"),
            ("objective = { cap = 5 }", "missing field `kind`"),
            ("objective = \"ppo\"", "unknown variant `ppo`, expected one of `clip`, `gspo`"),
            ("aggregate = { kind = \"token_mean\", max_tokens = 4 }", "unknown field `max_tokens`"),
            ("aggregate = { kind = \"constant\", length = 4 }", "unknown field `length`"),
            ("sampler_correction = { kind = \"none\", cap = 4 }", "unknown field `cap`"),
            ("sampler_correction = { kind = \"token_truncate\", floor = 0 }", "unknown field `floor`"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
