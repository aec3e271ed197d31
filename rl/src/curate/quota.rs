//! `balance` and `cap`: at most so many rows for each value of a field, or of all rows.
//!
//! Which rows of a value stay is decided by a hash of their ids, keyed by the seed: the same rows whatever the order of
//! the file, and those that stay keep their order. Eight bytes a row are in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::CurateError;
use super::output::Output;
use super::scan::{Input, Watch, scan, seen, unchanged};
use crate::random;
use crate::rows::{self, Row};

const QUOTA_STREAM: u64 = 0x7175_6f74;
/// Values of a field that are counted apart.
const VALUES: usize = 1_000_000;
/// The class of the rows that no limit is for.
const OUTSIDE: &str = "\0";
/// The class of every row where no field is named.
const ALL: &str = "all rows";
/// Values that an error names.
const NAMED: usize = 12;

/// Equal numbers for the values of a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalanceSettings {
    /// Dotted path.
    pub field: String,
    /// Values that take part; the rows of others go. All when empty.
    #[serde(default)]
    pub values: Vec<String>,
    /// Rows a value at most. Default: as many as the rarest value has.
    pub per_value: Option<u64>,
    /// Seed of the choice. Default 0.
    #[serde(default)]
    pub seed: u64,
}

/// A limit for the values of a field, or for all rows: then a random choice of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapSettings {
    /// Dotted path. None: all rows are limited together.
    pub field: Option<String>,
    /// Values that are limited, together; each value by itself when empty.
    #[serde(default)]
    pub values: Vec<String>,
    /// Rows at most.
    pub rows: Option<u64>,
    /// Share at most, in (0, 1): of the output, and of the input where no field is named.
    pub share: Option<f64>,
    /// Seed of the choice. Default 0.
    #[serde(default)]
    pub seed: u64,
}

/// Keeps the same number of rows for each value of a field.
///
/// # Errors
/// [`CurateError`]: settings, rows or files that cannot be used.
pub fn balance(
    input: &Path,
    out: &mut Output,
    settings: &BalanceSettings,
    watch: &dyn Watch,
) -> Result<Input, CurateError> {
    let class =
        |value: String| (settings.values.is_empty() || settings.values.contains(&value)).then_some(value);
    let plan = |counts: &BTreeMap<String, u64>| -> Result<BTreeMap<String, u64>, CurateError> {
        let rarest = counts.values().min().copied().unwrap_or(0);
        let quota = settings.per_value.unwrap_or(rarest);
        Ok(counts.keys().map(|value| (value.clone(), quota)).collect())
    };
    let wanted = settings.values.clone();
    let field = Some(&*settings.field);
    let task = Task { field, seed: settings.seed, class: &class, wanted, others: Others::Go };
    limit(input, out, &task, &plan, watch)
}

/// Keeps at most so many rows, or at most a share, of the values of a field or of all rows.
///
/// # Errors
/// [`CurateError`]: settings, rows or files that cannot be used, or a share that cannot be reached.
pub fn cap(
    input: &Path,
    out: &mut Output,
    settings: &CapSettings,
    watch: &dyn Watch,
) -> Result<Input, CurateError> {
    let share = match (settings.rows, settings.share) {
        (Some(_), None) | (None, Some(_)) => settings.share,
        _ => return Err(CurateError::Setting("give either a number of rows or a share".into())),
    };
    if let Some(share) = share.filter(|s| !(*s > 0.0 && *s < 1.0)) {
        return Err(CurateError::Setting(format!(
            "the share {share} must lie between 0 and 1 (or 0 % and 100 %)"
        )));
    }
    if settings.field.is_none() && !settings.values.is_empty() {
        return Err(CurateError::Setting("values are of a field: name it, too".into()));
    }
    let joined = settings.values.join(", ");
    let class = |value: String| match settings.values.is_empty() {
        true => Some(value),
        false => settings.values.contains(&value).then(|| joined.clone()),
    };
    let plan = |counts: &BTreeMap<String, u64>| -> Result<BTreeMap<String, u64>, CurateError> {
        let others = counts.get(OUTSIDE).copied().unwrap_or(0);
        let named: BTreeMap<String, u64> =
            counts.iter().filter(|(value, _)| *value != OUTSIDE).map(|(v, n)| (v.clone(), *n)).collect();
        match share {
            None => Ok(named.keys().map(|v| (v.clone(), settings.rows.unwrap_or(0))).collect()),
            Some(share) => match &settings.field {
                Some(field) => shares(&named, others, share).ok_or_else(|| {
                    let (n, percent) = (named.len(), 100.0 * share);
                    let why = format!("{n} values of {field} cannot each be at most {percent:.3} % of all");
                    CurateError::Setting(format!("no rows would be left: {why}"))
                }),
                None => Ok(named.iter().map(|(v, n)| (v.clone(), part(*n, share))).collect()),
            },
        }
    };
    let wanted = if settings.values.is_empty() { Vec::new() } else { vec![joined.clone()] };
    let field = settings.field.as_deref();
    let task = Task { field, seed: settings.seed, class: &class, wanted, others: Others::Stay };
    limit(input, out, &task, &plan, watch)
}

/// At most `share` of `total`, whole; the small number keeps 0.29 of 100 from being 28.
fn part(total: u64, share: f64) -> u64 {
    (total as f64 * share + 1e-9).floor() as u64
}

/// The largest quotas with which no value has more than `share` of what is left.
fn shares(counts: &BTreeMap<String, u64>, others: u64, share: f64) -> Option<BTreeMap<String, u64>> {
    let quota = |total: u64| part(total, share);
    let mut total = others + counts.values().sum::<u64>();
    loop {
        let next = others + counts.values().map(|n| (*n).min(quota(total))).sum::<u64>();
        if next == total {
            break;
        }
        total = next;
    }
    let quotas = counts.keys().map(|v| (v.clone(), quota(total))).collect();
    (total > 0 && (quota(total) > 0 || others > 0)).then_some(quotas)
}

enum Others {
    Stay,
    Go,
}

struct Task<'a> {
    /// The field whose value decides the class; none: all rows are of one class.
    field: Option<&'a str>,
    seed: u64,
    /// The class that a value belongs to; none for those outside.
    class: &'a (dyn Fn(String) -> Option<String> + Sync),
    /// Classes that must occur.
    wanted: Vec<String>,
    others: Others,
}

/// Quotas by class from the counts by class; those outside are counted as the class [`OUTSIDE`].
type Plan<'a> = &'a dyn Fn(&BTreeMap<String, u64>) -> Result<BTreeMap<String, u64>, CurateError>;

/// The largest of `keys` that stays where `quota` of them do, and how many rows with exactly this key: ids may repeat.
fn bound_of(mut keys: Vec<u64>, quota: u64) -> (u64, u64) {
    let quota = quota.min(keys.len() as u64);
    if quota == 0 {
        return (0, 0);
    }
    let (below, bound, _) = keys.select_nth_unstable(quota as usize - 1);
    let bound = *bound;
    (bound, quota - below.iter().filter(|key| **key < bound).count() as u64)
}

fn limit(
    input: &Path,
    out: &mut Output,
    task: &Task,
    plan: Plan,
    watch: &dyn Watch,
) -> Result<Input, CurateError> {
    out.comes_from(input);
    let value = |row: &Row| match task.field {
        Some(field) => rows::plain_field(&row.fields, field),
        None => ALL.to_owned(),
    };
    let read = |row: &Row| -> Result<(Option<String>, u64), String> {
        let class = (task.class)(value(row));
        let key = random::word(&[task.seed, QUOTA_STREAM, random::hash_bytes(row.id().as_bytes())]);
        Ok((class, key))
    };
    let mut keys: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let (mut found, mut example, mut outside) = (0, None, 0_u64);
    let mut other_values: BTreeSet<String> = BTreeSet::new();
    let before = scan(input, "count", watch, &read, &mut |row, (class, key)| {
        found += u64::from(task.field.is_none_or(|field| rows::field(&row.fields, field).is_some()));
        example.get_or_insert_with(|| row.fields.clone());
        match class {
            Some(class) => keys.entry(class).or_default().push(key),
            None => {
                outside += 1;
                if other_values.len() < NAMED {
                    other_values.insert(value(&row));
                }
            }
        }
        if keys.len() > VALUES {
            let field = task.field.unwrap_or_default();
            let message = format!("{field} has more than {VALUES} different values");
            return Err(CurateError::file(input, message));
        }
        Ok(())
    })?;
    seen(input, task.field.unwrap_or_default(), found, &example.unwrap_or_default())?;
    if let Some(absent) = task.wanted.iter().find(|wanted| !keys.contains_key(*wanted)) {
        let known: Vec<&str> = keys.keys().chain(&other_values).map(String::as_str).take(NAMED).collect();
        let (field, known) = (task.field.unwrap_or_default(), known.join(", "));
        let message = format!("no row has {absent:?} as {field} (there are: {known})");
        return Err(CurateError::file(input, message));
    }
    let mut counts: BTreeMap<String, u64> = keys.iter().map(|(v, k)| (v.clone(), k.len() as u64)).collect();
    if outside > 0 && matches!(task.others, Others::Stay) {
        counts.insert(OUTSIDE.to_owned(), outside);
    }
    let quotas = plan(&counts)?;
    let bound = |(class, keys): (String, Vec<u64>)| {
        let quota = quotas.get(&class).copied().unwrap_or(0);
        (class, bound_of(keys, quota))
    };
    let mut bounds: BTreeMap<String, (u64, u64)> = keys.into_iter().map(bound).collect();
    let after = scan(input, "write", watch, &read, &mut |row, (class, key)| {
        let Some(class) = class else {
            return match task.others {
                Others::Stay => out.keep(&row),
                Others::Go => out.drop(&row, "another value", Value::Null),
            };
        };
        let stays = bounds.get_mut(&class).is_some_and(|(bound, equal)| {
            let at_bound = key == *bound && *equal > 0;
            *equal -= u64::from(at_bound);
            key < *bound || at_bound
        });
        match stays {
            true => out.keep(&row),
            false => out.drop(&row, &format!("above the limit: {class}"), json!({"value": class})),
        }
    })?;
    unchanged(input, &before, &after)?;
    Ok(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_hold_afterwards() {
        let check = |counts: &[(&str, u64)], others: u64, share: f64, expected: Option<&[u64]>| {
            let counts: BTreeMap<String, u64> = counts.iter().map(|(v, n)| ((*v).to_owned(), *n)).collect();
            let got = shares(&counts, others, share)
                .map(|quotas| counts.iter().map(|(v, n)| (*n).min(quotas[v])).collect::<Vec<_>>());
            assert_eq!(got.as_deref(), expected, "{counts:?} {others} {share}");
            if let Some(kept) = got {
                let total = others + kept.iter().sum::<u64>();
                assert!(kept.iter().all(|n| *n as f64 <= share * total as f64 + 1e-6), "{kept:?} of {total}");
            }
        };
        check(&[("yes", 500)], 950, 0.05, Some(&[50]));
        check(&[("yes", 10)], 950, 0.05, Some(&[10]));
        check(&[("a", 100), ("b", 100)], 0, 0.5, Some(&[100, 100]));
        check(&[("a", 300), ("b", 100), ("c", 100)], 0, 0.5, Some(&[200, 100, 100]));
        check(&[("a", 300), ("b", 100)], 0, 0.4, None);
    }
}
