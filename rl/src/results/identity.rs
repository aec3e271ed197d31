//! What evaluations of a task must share to be compared.

use super::{RANKED, ResultsError};
use crate::eval::Benchmark;
use serde_json::{Value, json};

/// What evaluations of a task must share to be compared, as `results.json` has it; none where it does not say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Identity {
    /// SHA-256 over definition and data.
    hash: Option<Value>,
    /// The verifier's name, version and configuration; null for ranked options, which have none.
    verifier: Option<Value>,
    /// How many items there are, and SHA-256 over their pictures; none where they have none.
    images: Option<(Value, Value)>,
}

impl Identity {
    /// From what stands for the data and for the verifier, each none where it is unknown.
    pub fn new(hash: Option<Value>, verifier: Option<Value>) -> Self {
        Self { hash, verifier, images: None }
    }

    /// That of the task `name`, from the settings of an evaluation.
    pub(super) fn read(settings: &Value, name: &str) -> Self {
        let ranked = RANKED.iter().find_map(|ending| name.strip_suffix(ending));
        let task = &settings["tasks"][ranked.unwrap_or(name)];
        let given = |key: &str| task.get(key).filter(|value| !value.is_null()).cloned();
        let verifier = if ranked.is_some() { Some(Value::Null) } else { given("verifier") };
        let images = given("images").map(|images| (given("items").unwrap_or_default(), images));
        Self { hash: given("hash"), verifier, images }
    }

    /// That of a benchmark's results under a name, before there are any.
    pub fn of(benchmark: &Benchmark, name: &str) -> Self {
        let mut task = json!({"hash": benchmark.hash, "verifier": benchmark.verifier()});
        if let Some(images) = &benchmark.images {
            task["items"] = json!(benchmark.items.len());
            task["images"] = json!(images);
        }
        Self::read(&json!({"tasks": {&*benchmark.name: task}}), name)
    }
}

/// Refuses evaluations of different versions of a task or of its verifier under one name, unless `force`; `note` hears of
/// those, and where it is not recorded whether they differ.
///
/// # Errors
/// [`ResultsError::Versions`].
pub fn check_same<'a>(
    name: &str,
    first: &Identity,
    others: impl IntoIterator<Item = &'a Identity>,
    force: bool,
    note: &mut dyn FnMut(String),
) -> Result<(), ResultsError> {
    let mut unknown = false;
    for other in others {
        let mut differences = Vec::new();
        for (what, a, b) in
            [("task", &first.hash, &other.hash), ("verifier", &first.verifier, &other.verifier)]
        {
            match (a, b) {
                (Some(a), Some(b)) if a != b => differences.push(format!("another {what} ({a} and {b})")),
                (Some(_), Some(_)) => {}
                _ => unknown = true,
            }
        }
        // Of another number of items nothing is known.
        if let (Some((n, a)), Some((m, b))) = (&first.images, &other.images)
            && n == m
            && a != b
        {
            differences.push(format!("other pictures ({a} and {b})"));
        }
        if !differences.is_empty() && !force {
            return Err(ResultsError::Versions { task: name.to_owned(), differences });
        }
        differences.iter().for_each(|d| note(format!("{name}: the evaluations are of {d}")));
    }
    if unknown {
        note(format!(
            "{name}: task hash or verifier is not recorded, so whether both are the same is not known"
        ));
    }
    Ok(())
}
