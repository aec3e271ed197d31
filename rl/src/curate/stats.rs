//! `stats`: what is in a file.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use super::error::CurateError;
use super::pictures::{Classes, DISTANCE, Look, Pictures};
use super::scan::{Input, Watch, scan, seen};
use crate::random;
use crate::rows::{self, Row};

/// Values of a field that are counted apart; further ones are counted together.
const VALUES: usize = 100_000;

/// Counts of a file. Duplicates are exact, of the normal forms.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    /// The file.
    pub file: String,
    /// Rows.
    pub rows: u64,
    /// Words of what is asked.
    pub question_words: Quantiles,
    /// Words of the answer, of rows that have one.
    pub answer_words: Quantiles,
    /// Words of the completion, of rows that have one.
    pub completion_words: Quantiles,
    /// Rows by number of options; 0 for those without.
    pub options: BTreeMap<String, u64>,
    /// Rows with options by the label of the right one.
    pub answers: BTreeMap<String, u64>,
    /// Rows whose id an earlier row has.
    pub repeated_ids: u64,
    /// Rows that ask what an earlier row asks.
    pub duplicates: u64,
    /// Those of them with another answer.
    pub contradictions: u64,
    /// Pictures, where rows have any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pictures: Option<PictureStats>,
    /// Rows by value of each field that was asked for, the most frequent value first.
    pub fields: BTreeMap<String, Vec<(String, u64)>>,
}

/// What is counted of pictures.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PictureStats {
    /// Rows with pictures.
    pub rows: u64,
    /// Pictures with different pixels.
    pub different: u64,
    /// Those that are nearly the same as another one that comes before.
    pub near: u64,
    /// Pixels of the smaller side, of each of them.
    pub side: Quantiles,
}

/// A distribution of whole numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// How many there are.
    pub n: u64,
    /// Mean; 0 of none.
    pub mean: f64,
    /// Smallest.
    pub min: u32,
    /// Half are at most this.
    pub median: u32,
    /// 95 % are at most this.
    pub p95: u32,
    /// Largest.
    pub max: u32,
}

impl Quantiles {
    fn of(counts: &BTreeMap<u32, u64>) -> Self {
        let n: u64 = counts.values().sum();
        let at = |share: f64| {
            let rank = (share * n as f64).ceil().max(1.0) as u64;
            let mut below = 0;
            let found = counts.iter().find(|(_, count)| {
                below += **count;
                below >= rank
            });
            found.map_or(0, |(value, _)| *value)
        };
        let sum: f64 = counts.iter().map(|(value, count)| f64::from(*value) * *count as f64).sum();
        Self { n, mean: sum / n.max(1) as f64, min: at(0.0), median: at(0.5), p95: at(0.95), max: at(1.0) }
    }
}

struct Facts {
    question: u32,
    answer: Option<u32>,
    completion: Option<u32>,
    options: usize,
    label: Option<String>,
    id: Option<u64>,
    content: u64,
    answer_hash: u32,
    values: Vec<Option<String>>,
    looks: Vec<Look>,
}

fn words(text: &str) -> u32 {
    text.split_whitespace().count() as u32
}

fn facts(fields: &Map<String, Value>, by: &[String], pictures: &Pictures) -> Result<Facts, String> {
    let looks = pictures.looks(fields)?;
    let content = rows::content(fields)?;
    let answer = rows::answer(fields);
    let options = rows::options(fields);
    let label = answer.as_ref().filter(|_| !options.is_empty()).map(|answer| {
        let letters =
            rows::field(fields, "reference.letters").and_then(Value::as_str).unwrap_or("ABCDEFGHIJ");
        let index = options.iter().position(|o| o == answer);
        index.and_then(|i| letters.chars().nth(i)).map_or_else(|| "other".to_owned(), String::from)
    });
    let form = |text: &str| random::hash_bytes(rows::normal_form(text).as_bytes());
    Ok(Facts {
        question: words(&content),
        answer: answer.as_deref().map(words),
        completion: fields.get("completion").and_then(Value::as_str).map(words),
        options: options.len(),
        label,
        id: rows::id(fields).map(|id| random::hash_bytes(id.as_bytes())),
        content: looks.iter().fold(form(&content), |all, look| random::word(&[all, look.pixels])),
        answer_hash: answer.map_or(0, |answer| form(&answer) as u32),
        values: by.iter().map(|path| rows::field(fields, path).map(rows::plain)).collect(),
        looks,
    })
}

/// Counts what is in a file; `by` names fields whose values are counted. Hashes of ids, questions and answers are in
/// memory, 30 to 90 bytes a row, and of each field the texts of the first 100,000 different values.
///
/// # Errors
/// Rows or files that cannot be used, and a field that no row has.
pub fn stats(input: &Path, by: &[String], watch: &dyn Watch) -> Result<(Input, Stats), CurateError> {
    let mut stats = Stats { file: input.display().to_string(), ..Stats::default() };
    let mut lengths: [BTreeMap<u32, u64>; 3] = Default::default();
    let mut ids: HashSet<u64> = HashSet::new();
    let mut contents: HashMap<u64, u32> = HashMap::new();
    let mut counts: Vec<HashMap<String, u64>> = vec![HashMap::new(); by.len()];
    let (mut found, mut example) = (vec![0_u64; by.len()], None);
    let (pictures, mut classes) = (Pictures::of(input), Classes::new(Some(DISTANCE)));
    let (mut seen_pixels, mut sides) = (HashSet::new(), BTreeMap::new());
    let mut shown = PictureStats::default();
    let read = |row: &Row| facts(&row.fields, by, &pictures);
    let done = scan(input, "count", watch, &read, &mut |row, facts| {
        shown.rows += u64::from(!facts.looks.is_empty());
        for look in facts.looks.iter().filter(|look| seen_pixels.insert(look.pixels)) {
            let before = classes.len();
            classes.class(look);
            shown.near += u64::from(classes.len() == before);
            *sides.entry(look.side).or_default() += 1;
        }
        for (lengths, value) in lengths.iter_mut().zip([Some(facts.question), facts.answer, facts.completion])
        {
            value.into_iter().for_each(|n| *lengths.entry(n).or_default() += 1);
        }
        *stats.options.entry(facts.options.to_string()).or_default() += 1;
        facts.label.into_iter().for_each(|label| *stats.answers.entry(label).or_default() += 1);
        stats.repeated_ids += u64::from(facts.id.is_some_and(|id| !ids.insert(id)));
        match contents.get(&facts.content) {
            Some(answer) => {
                stats.duplicates += 1;
                stats.contradictions += u64::from(*answer != facts.answer_hash);
            }
            None => drop(contents.insert(facts.content, facts.answer_hash)),
        }
        for ((value, counts), found) in facts.values.into_iter().zip(&mut counts).zip(&mut found) {
            *found += u64::from(value.is_some());
            let value = value.unwrap_or_else(|| "(none)".to_owned());
            let known = counts.len() < VALUES || counts.contains_key(&value);
            *counts.entry(if known { value } else { "(others)".to_owned() }).or_default() += 1;
        }
        example.get_or_insert(row.fields);
        Ok(())
    })?;
    let example = example.unwrap_or_default();
    for ((name, counts), found) in by.iter().zip(counts).zip(found) {
        seen(input, name, found, &example)?;
        let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        stats.fields.insert(name.clone(), counts);
    }
    stats.rows = done.rows;
    (shown.different, shown.side) = (seen_pixels.len() as u64, Quantiles::of(&sides));
    stats.pictures = (shown.rows > 0).then_some(shown);
    [stats.question_words, stats.answer_words, stats.completion_words] =
        [&lengths[0], &lengths[1], &lengths[2]].map(Quantiles::of);
    Ok((done, stats))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_counts() {
        let counts: BTreeMap<u32, u64> = (1..=100).map(|i| (i, 1)).collect();
        let q = Quantiles::of(&counts);
        assert_eq!((q.n, q.min, q.median, q.p95, q.max), (100, 1, 50, 95, 100));
        assert_eq!(q.mean, 50.5);
        assert_eq!(Quantiles::of(&BTreeMap::new()), Quantiles::default());
    }
}
