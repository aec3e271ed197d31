//! `decontaminate`: rows that occur in test sets are left out.
//!
//! A row is contaminated by a test item when
//! - it asks the same: equal normal forms of the question and of the options, in any order, or of the fields that are
//!   named, such as an image and a question; or
//! - it has a run of `ngram` words in common with it (as for GPT-3, arXiv:2005.14165 app. C, where it is 13 words).
//!   Runs that more than `common` test items share are phrases of the trade ("which of the following is the most
//!   appropriate next step in the management of this patient") and prove nothing; `min_share` asks for more than one
//!   run: the share of the test item's runs that the row has.
//!
//! The n-grams of the test sets are in memory, 16 bytes each; the rows are not.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::CurateError;
use super::output::Output;
use super::scan::{Input, Watch, scan};
use crate::random;
use crate::rows::{self, Row};

/// Test ids named for one row at most.
const NAMED: usize = 10;

/// What counts as contamination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecontaminateSettings {
    /// Words of a run; 0 compares exactly only. Default 13.
    pub ngram: usize,
    /// A run that more test items have than this is ignored. Default 3.
    pub common: usize,
    /// Share of a test item's runs that a row must have, in [0, 1]; 0: one is enough. Default 0.
    pub min_share: f64,
    /// Fields that are compared exactly; the question and its options when empty.
    pub on: Vec<String>,
    /// Condition on the test items, as in `filter`: `split == 'test'`. Default none.
    pub against_where: Option<String>,
}

impl Default for DecontaminateSettings {
    fn default() -> Self {
        Self { ngram: 13, common: 3, min_share: 0.0, on: Vec::new(), against_where: None }
    }
}

/// What was found, beside the counts of the output.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Contamination {
    /// Contaminated rows by test file.
    pub rows: BTreeMap<String, u64>,
    /// Test items that occur in the rows, by test file.
    pub items: BTreeMap<String, u64>,
    /// Test items by test file.
    pub of: BTreeMap<String, u64>,
}

/// The test items.
struct Tests {
    files: Vec<String>,
    ids: Vec<String>,
    file_of: Vec<u16>,
    /// Runs of each item that count.
    runs: Vec<u32>,
    exact: HashMap<u64, Vec<u32>>,
    /// Hash of a run and an item that has it, sorted.
    grams: Vec<(u64, u32)>,
}

/// How a row touches the test sets.
struct Hit {
    reason: &'static str,
    /// Test items with the share of their runs that the row has.
    items: Vec<(u32, f64)>,
}

/// Leaves out the rows that occur in the test files.
///
/// # Errors
/// [`CurateError`]: settings, rows or files that cannot be used.
pub fn decontaminate(
    input: &Path,
    against: &[PathBuf],
    out: &mut Output,
    settings: &DecontaminateSettings,
    watch: &dyn Watch,
) -> Result<(Input, Vec<Input>, Contamination), CurateError> {
    if against.is_empty() {
        return Err(CurateError::Setting("name at least one test file with --against".into()));
    }
    if !(0.0..=1.0).contains(&settings.min_share) {
        let share = settings.min_share;
        return Err(CurateError::Setting(format!("--min-share {share} must lie between 0 and 1")));
    }
    if (1..5).contains(&settings.ngram) {
        let n = settings.ngram;
        let why = "everybody uses the same few words in a row; take 5 or more, or 0 for none";
        return Err(CurateError::Setting(format!("--ngram {n}: {why}")));
    }
    let (tests, inputs) = Tests::read(against, settings, watch)?;
    let mut found = Contamination::default();
    for file in &tests.files {
        found.rows.insert(file.clone(), 0);
        found.items.insert(file.clone(), 0);
        let items = tests.file_of.iter().filter(|f| tests.files[**f as usize] == *file).count();
        found.of.insert(file.clone(), items as u64);
    }
    let mut touched = vec![false; tests.ids.len()];
    let read = |row: &Row| tests.hit(&row.fields, settings);
    let done = scan(input, "compare", watch, &read, &mut |row, hit| {
        let Some(hit) = hit else { return out.keep(&row) };
        let mut files: Vec<u16> = hit.items.iter().map(|(item, _)| tests.file_of[*item as usize]).collect();
        files.sort_unstable();
        files.dedup();
        for file in files {
            *found.rows.entry(tests.files[file as usize].clone()).or_default() += 1;
        }
        hit.items.iter().for_each(|(item, _)| touched[*item as usize] = true);
        out.drop(&row, hit.reason, tests.describe(&hit))
    })?;
    for (item, _) in touched.iter().enumerate().filter(|(_, touched)| **touched) {
        *found.items.entry(tests.files[tests.file_of[item] as usize].clone()).or_default() += 1;
    }
    Ok((done, inputs, found))
}

impl Tests {
    fn read(
        against: &[PathBuf],
        settings: &DecontaminateSettings,
        watch: &dyn Watch,
    ) -> Result<(Self, Vec<Input>), CurateError> {
        let mut tests = Self {
            files: Vec::new(),
            ids: Vec::new(),
            file_of: Vec::new(),
            runs: Vec::new(),
            exact: HashMap::new(),
            grams: Vec::new(),
        };
        let templates = crate::data::Templates::new("against");
        let mut inputs = Vec::new();
        for path in against {
            let name = path.display().to_string();
            if tests.files.contains(&name) {
                return Err(CurateError::Setting(format!("--against names {name} twice")));
            }
            let file = tests.files.len() as u16;
            tests.files.push(name);
            let read = |row: &Row| -> Result<Option<(u64, Vec<u64>)>, String> {
                if let Some(condition) = &settings.against_where {
                    let context = crate::data::TemplateRow::new(row.numbers());
                    if !templates.holds("--against-where", condition, &context)? {
                        return Ok(None);
                    }
                }
                Ok(Some((exact_key(&row.fields, &settings.on)?, grams(&row.fields, settings.ngram)?)))
            };
            let before = tests.ids.len();
            inputs.push(scan(path, "test items", watch, &read, &mut |row, item| {
                let Some((key, grams)) = item else { return Ok(()) };
                let number = tests.ids.len() as u32;
                tests.ids.push(row.id());
                tests.file_of.push(file);
                tests.exact.entry(key).or_default().push(number);
                tests.grams.extend(grams.into_iter().map(|gram| (gram, number)));
                Ok(())
            })?);
            if tests.ids.len() == before {
                return Err(CurateError::file(path, "no test item satisfies --against-where"));
            }
        }
        tests.grams.sort_unstable();
        tests.forget_common(settings.common);
        Ok((tests, inputs))
    }

    /// Leaves out the runs that many items have, and counts the others.
    fn forget_common(&mut self, common: usize) {
        self.runs = vec![0; self.ids.len()];
        let mut kept = Vec::with_capacity(self.grams.len());
        for same in self.grams.chunk_by(|a, b| a.0 == b.0) {
            if same.len() <= common {
                kept.extend_from_slice(same);
                same.iter().for_each(|(_, item)| self.runs[*item as usize] += 1);
            }
        }
        self.grams = kept;
    }

    fn hit(
        &self,
        fields: &Map<String, Value>,
        settings: &DecontaminateSettings,
    ) -> Result<Option<Hit>, String> {
        if let Some(items) = self.exact.get(&exact_key(fields, &settings.on)?) {
            let items = items.iter().map(|item| (*item, 1.0)).collect();
            return Ok(Some(Hit { reason: "same question", items }));
        }
        let mut shared: BTreeMap<u32, u32> = BTreeMap::new();
        for gram in grams(fields, settings.ngram)? {
            let start = self.grams.partition_point(|(known, _)| *known < gram);
            let same = self.grams[start..].iter().take_while(|(known, _)| *known == gram);
            same.for_each(|(_, item)| *shared.entry(*item).or_default() += 1);
        }
        let share = |item: u32, n: u32| f64::from(n) / f64::from(self.runs[item as usize].max(1));
        let items: Vec<(u32, f64)> = (shared.into_iter())
            .map(|(item, n)| (item, share(item, n)))
            .filter(|(_, share)| *share >= settings.min_share)
            .collect();
        Ok((!items.is_empty()).then_some(Hit { reason: "shared words", items }))
    }

    fn describe(&self, hit: &Hit) -> Value {
        let name = |(item, share): &(u32, f64)| {
            let file = &self.files[self.file_of[*item as usize] as usize];
            json!({"file": file, "id": self.ids[*item as usize], "share": (share * 1e4).round() / 1e4})
        };
        let mut items: Vec<&(u32, f64)> = hit.items.iter().collect();
        items.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        json!({"items": hit.items.len(), "tests": items.into_iter().take(NAMED).map(name).collect::<Vec<_>>()})
    }
}

/// A hash of the question with its options in any order, or of the named fields.
fn exact_key(fields: &Map<String, Value>, on: &[String]) -> Result<u64, String> {
    let text = match (on.is_empty(), rows::question(fields)) {
        (true, Some(question)) => {
            let mut options: Vec<String> =
                rows::options(fields).iter().map(|o| rows::normal_form(o)).collect();
            options.sort_unstable();
            format!("{}\u{1f}{}", rows::normal_form(question), options.join("\u{1f}"))
        }
        _ => rows::text_of(fields, on)?
            .split('\u{1f}')
            .map(rows::normal_form)
            .collect::<Vec<_>>()
            .join("\u{1f}"),
    };
    Ok(random::hash_bytes(text.as_bytes()))
}

/// The hashes of the runs of `n` words of what is asked, each once.
fn grams(fields: &Map<String, Value>, n: usize) -> Result<Vec<u64>, String> {
    if n == 0 {
        return Ok(Vec::new());
    }
    let form = rows::normal_form(&rows::content(fields)?);
    let words: Vec<u64> = form.split(' ').map(|word| random::hash_bytes(word.as_bytes())).collect();
    let mut grams: Vec<u64> = words.windows(n).map(random::word).collect();
    grams.sort_unstable();
    grams.dedup();
    Ok(grams)
}
