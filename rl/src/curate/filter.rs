//! `filter`: rows that satisfy conditions on fields, lengths and patterns.

use std::path::Path;

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::CurateError;
use super::output::Output;
use super::pictures::Pictures;
use super::scan::{Input, Watch, scan, seen};
use crate::data::{TemplateRow, Templates};
use crate::rows::{self, Row};

/// Which rows stay: those that satisfy every condition. Lengths are in words.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FilterSettings {
    /// Fields with the values that they may have.
    pub field: Vec<Values>,
    /// Fields with the values that they may not have.
    pub not_field: Vec<Values>,
    /// Fields with a pattern that must match somewhere.
    pub matches: Vec<Pattern>,
    /// Fields with a pattern that may not match.
    pub not_matches: Vec<Pattern>,
    /// An expression over the fields, as in `filter` of a data source: `meta.split == 'train'`.
    pub r#where: Option<String>,
    /// Fewest words of what is asked.
    pub min_words: Option<usize>,
    /// Most words of what is asked.
    pub max_words: Option<usize>,
    /// Fewest words of the answer.
    pub min_answer_words: Option<usize>,
    /// Most words of the answer.
    pub max_answer_words: Option<usize>,
    /// Fewest options.
    pub min_options: Option<usize>,
    /// Most options.
    pub max_options: Option<usize>,
    /// Fewest pixels of the smaller side of each picture; rows without pictures stay.
    pub min_side: Option<u32>,
}

/// A field and some values, as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Values {
    /// Dotted path.
    pub field: String,
    /// The values.
    pub values: Vec<String>,
}

/// A field and a regular expression.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// Dotted path.
    pub field: String,
    /// The expression, in the syntax of the `regex` crate.
    pub pattern: String,
}

/// The settings with their expressions compiled.
struct Filter<'a> {
    settings: &'a FilterSettings,
    matches: Vec<Regex>,
    not_matches: Vec<Regex>,
    templates: Templates,
    pictures: Pictures,
}

impl<'a> Filter<'a> {
    fn new(settings: &'a FilterSettings, input: &Path) -> Result<Self, CurateError> {
        let compile = |patterns: &[Pattern]| -> Result<Vec<Regex>, CurateError> {
            let regex = |p: &Pattern| {
                Regex::new(&p.pattern).map_err(|e| {
                    let message = e.to_string();
                    let last = message.lines().last().unwrap_or_default().to_owned();
                    CurateError::Setting(format!("{}={}: {last}", p.field, p.pattern))
                })
            };
            patterns.iter().map(regex).collect()
        };
        for (low, high, name) in [
            (settings.min_words, settings.max_words, "words"),
            (settings.min_answer_words, settings.max_answer_words, "answer-words"),
            (settings.min_options, settings.max_options, "options"),
        ] {
            if let (Some(low), Some(high)) = (low, high)
                && low > high
            {
                return Err(CurateError::Setting(format!("--min-{name} {low} is above --max-{name} {high}")));
            }
        }
        if *settings == FilterSettings::default() {
            return Err(CurateError::Setting("no condition is given: every row would stay".into()));
        }
        let templates = Templates::new("filter");
        Ok(Self {
            settings,
            matches: compile(&settings.matches)?,
            not_matches: compile(&settings.not_matches)?,
            templates,
            pictures: Pictures::of(input),
        })
    }

    /// Why a row does not stay; none when it does.
    fn reason(&self, row: &Row) -> Result<Option<String>, String> {
        let fields = &row.fields;
        let s = self.settings;
        for condition in &s.field {
            if !condition.values.contains(&rows::plain_field(fields, &condition.field)) {
                return Ok(Some(format!("{} is another", condition.field)));
            }
        }
        for condition in &s.not_field {
            let value = rows::plain_field(fields, &condition.field);
            if condition.values.contains(&value) {
                return Ok(Some(format!("{} is {value}", condition.field)));
            }
        }
        for (condition, regex) in s.matches.iter().zip(&self.matches) {
            if !regex.is_match(&rows::plain_field(fields, &condition.field)) {
                return Ok(Some(format!("{} does not match", condition.field)));
            }
        }
        for (condition, regex) in s.not_matches.iter().zip(&self.not_matches) {
            if regex.is_match(&rows::plain_field(fields, &condition.field)) {
                return Ok(Some(format!("{} matches", condition.field)));
            }
        }
        let outside = |n: usize, low: Option<usize>, high: Option<usize>| {
            if low.is_some_and(|low| n < low) {
                Some("too short")
            } else {
                high.is_some_and(|high| n > high).then_some("too long")
            }
        };
        if (s.min_words, s.max_words) != (None, None) {
            let words = rows::content(fields)?.split_whitespace().count();
            if let Some(why) = outside(words, s.min_words, s.max_words) {
                return Ok(Some(format!("question {why}")));
            }
        }
        if (s.min_answer_words, s.max_answer_words) != (None, None) {
            let words = rows::answer(fields).map_or(0, |a| a.split_whitespace().count());
            if let Some(why) = outside(words, s.min_answer_words, s.max_answer_words) {
                return Ok(Some(format!("answer {why}")));
            }
        }
        if (s.min_options, s.max_options) != (None, None)
            && outside(rows::options(fields).len(), s.min_options, s.max_options).is_some()
        {
            return Ok(Some("number of options".into()));
        }
        if let Some(least) = s.min_side
            && self.pictures.looks(fields)?.iter().any(|look| look.side < least)
        {
            return Ok(Some("picture too small".into()));
        }
        if let Some(expression) = &s.r#where
            && !self.templates.holds("where", expression, &TemplateRow::new(row.numbers()))?
        {
            return Ok(Some("where is false".into()));
        }
        Ok(None)
    }
}

/// Keeps the rows that satisfy every condition.
///
/// A row without a field has the value `null`; a field that no row has is an error.
///
/// # Errors
/// [`CurateError`]: settings, rows or files that cannot be used.
pub fn filter(
    input: &Path,
    out: &mut Output,
    settings: &FilterSettings,
    watch: &dyn Watch,
) -> Result<Input, CurateError> {
    let filter = Filter::new(settings, input)?;
    out.comes_from(input);
    let names: Vec<&str> = (settings.field.iter().chain(&settings.not_field).map(|c| &*c.field))
        .chain(settings.matches.iter().chain(&settings.not_matches).map(|c| &*c.field))
        .collect();
    let mut found = vec![0_u64; names.len()];
    let mut example = None;
    let read = |row: &Row| filter.reason(row);
    let done = scan(input, "filter", watch, &read, &mut |row, reason| {
        for (found, name) in found.iter_mut().zip(&names) {
            *found += u64::from(rows::field(&row.fields, name).is_some());
        }
        example.get_or_insert_with(|| row.fields.clone());
        match reason {
            None => out.keep(&row),
            Some(reason) => out.drop(&row, &reason, Value::Null),
        }
    })?;
    let example = example.unwrap_or_default();
    for (name, found) in names.iter().zip(found) {
        seen(input, name, found, &example)?;
    }
    Ok(done)
}
