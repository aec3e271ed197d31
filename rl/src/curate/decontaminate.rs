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
//! With pictures both count only where the row has a picture of the test item, the same or [nearly the same](super::pictures);
//! by `image` such a picture is enough, whatever is asked. How many pictures of the test sets occur in the rows is counted in
//! either case. Fields that are named are compared as they are written.
//!
//! The n-grams of the test sets are in memory, 16 bytes each; the rows are not.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::CurateError;
use super::output::Output;
use super::pictures::{By, Classes, DISTANCE, Look, Pictures};
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
    /// Whether a row must ask what a test item asks of its picture, or have its picture only: `row`, `image`. Default `row`.
    pub by: By,
    /// Bits of 256 in which pictures may differ that count as nearly the same, at most 32. Default 16.
    pub image_distance: u32,
    /// Condition on the test items, as in `filter`: `split == 'test'`. Default none.
    pub against_where: Option<String>,
}

impl Default for DecontaminateSettings {
    fn default() -> Self {
        Self {
            ngram: 13,
            common: 3,
            min_share: 0.0,
            on: Vec::new(),
            by: By::Row,
            image_distance: DISTANCE,
            against_where: None,
        }
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
    /// Pictures of the test items, by test file; none of files without.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pictures: BTreeMap<String, PicturesFound>,
}

/// Pictures of a test file that occur in the rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PicturesFound {
    /// Pictures with different pixels.
    pub of: u64,
    /// Those that occur in the rows, the same to the pixel.
    pub same: u64,
    /// Those of which only one that is nearly the same occurs.
    pub near: u64,
    /// Test items whose question is asked in the rows of the same picture, or one that is nearly the same.
    pub asked: u64,
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
    /// Pictures of the test items: what they are, which classes each item has, and which items each class.
    classes: Classes,
    seen: Vec<Vec<u32>>,
    of_class: HashMap<u32, Vec<u32>>,
    /// Hashes of the pixels, with the class and the file.
    pixels: HashMap<(u16, u64), u32>,
}

/// A test item: the hash of what it asks, those of its runs, its pictures.
type Item = (u64, Vec<u64>, Vec<Look>);

/// What of a row is compared.
struct Compared {
    looks: Vec<Look>,
    classes: Vec<u32>,
    /// Test items that ask the same of the same picture.
    asked: Vec<u32>,
    hit: Option<Hit>,
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
    super::dedup::check_distance(settings.image_distance)?;
    if settings.by == By::Image && !settings.on.is_empty() {
        return Err(CurateError::Setting("--by image compares no fields: take --on away".into()));
    }
    out.comes_from(input);
    let (tests, inputs) = Tests::read(against, settings, watch)?;
    let mut found = Contamination::default();
    for file in &tests.files {
        found.rows.insert(file.clone(), 0);
        found.items.insert(file.clone(), 0);
        let items = tests.file_of.iter().filter(|f| tests.files[**f as usize] == *file).count();
        found.of.insert(file.clone(), items as u64);
    }
    let mut touched = vec![false; tests.ids.len()];
    let pictures = Pictures::of(input);
    let mut shown = Shown::default();
    let read = |row: &Row| tests.compare(&row.fields, &pictures, settings);
    let done = scan(input, "compare", watch, &read, &mut |row, compared| {
        shown.add(&compared);
        let Some(hit) = compared.hit else { return out.keep(&row) };
        let mut files: Vec<u16> = hit.items.iter().map(|(item, _)| tests.file_of[*item as usize]).collect();
        files.sort_unstable();
        files.dedup();
        for file in files {
            *found.rows.entry(tests.files[file as usize].clone()).or_default() += 1;
        }
        hit.items.iter().for_each(|(item, _)| touched[*item as usize] = true);
        out.drop(&row, hit.reason, tests.describe(&hit))
    })?;
    found.pictures = shown.counts(&tests);
    for (item, _) in touched.iter().enumerate().filter(|(_, touched)| **touched) {
        *found.items.entry(tests.files[tests.file_of[item] as usize].clone()).or_default() += 1;
    }
    Ok((done, inputs, found))
}

/// What of the test items' pictures the rows show.
#[derive(Default)]
struct Shown {
    pixels: HashSet<u64>,
    classes: HashSet<u32>,
    asked: HashSet<u32>,
}

impl Shown {
    fn add(&mut self, compared: &Compared) {
        self.pixels.extend(compared.looks.iter().map(|look| look.pixels));
        self.classes.extend(&compared.classes);
        self.asked.extend(&compared.asked);
    }

    fn counts(&self, tests: &Tests) -> BTreeMap<String, PicturesFound> {
        let mut found = BTreeMap::<String, PicturesFound>::new();
        for ((file, pixels), class) in &tests.pixels {
            let found = found.entry(tests.files[*file as usize].clone()).or_default();
            found.of += 1;
            let same = self.pixels.contains(pixels);
            found.same += u64::from(same);
            found.near += u64::from(!same && self.classes.contains(class));
        }
        for item in self.asked.iter().filter(|item| !tests.seen[**item as usize].is_empty()) {
            let file = &tests.files[tests.file_of[*item as usize] as usize];
            found.entry(file.clone()).or_default().asked += 1;
        }
        found
    }
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
            classes: Classes::new(Some(settings.image_distance)),
            seen: Vec::new(),
            of_class: HashMap::new(),
            pixels: HashMap::new(),
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
            let pictures = Pictures::of(path);
            let read = |row: &Row| -> Result<Option<Item>, String> {
                if let Some(condition) = &settings.against_where {
                    let context = crate::data::TemplateRow::new(row.numbers());
                    if !templates.holds("--against-where", condition, &context)? {
                        return Ok(None);
                    }
                }
                let (key, grams) = texts(&row.fields, settings)?;
                Ok(Some((key, grams, looks(&pictures, &row.fields, settings)?)))
            };
            let before = tests.ids.len();
            inputs.push(scan(path, "test items", watch, &read, &mut |row, item| {
                let Some((key, grams, looks)) = item else { return Ok(()) };
                let number = tests.ids.len() as u32;
                tests.ids.push(row.id());
                tests.file_of.push(file);
                tests.exact.entry(key).or_default().push(number);
                let classes: Vec<u32> = looks.iter().map(|look| tests.classes.class(look)).collect();
                for (look, class) in looks.iter().zip(&classes) {
                    tests.pixels.insert((file, look.pixels), *class);
                    let items = tests.of_class.entry(*class).or_default();
                    if items.last() != Some(&number) {
                        items.push(number);
                    }
                }
                tests.seen.push(classes);
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

    /// Whether a row with these classes of pictures is about what a test item is about.
    fn is_about(&self, classes: &[u32], has_pictures: bool, item: u32) -> bool {
        let of = &self.seen[item as usize];
        if of.is_empty() { !has_pictures } else { of.iter().any(|class| classes.contains(class)) }
    }

    fn compare(
        &self,
        fields: &Map<String, Value>,
        pictures: &Pictures,
        settings: &DecontaminateSettings,
    ) -> Result<Compared, String> {
        let looks = looks(pictures, fields, settings)?;
        let mut classes: Vec<u32> = looks.iter().filter_map(|look| self.classes.find(look)).collect();
        classes.sort_unstable();
        classes.dedup();
        let (key, grams) = texts(fields, settings)?;
        let about = |item: &u32| self.is_about(&classes, !looks.is_empty(), *item);
        let asked: Vec<u32> =
            self.exact.get(&key).into_iter().flatten().copied().filter(|item| about(item)).collect();
        let hit = match settings.by {
            By::Image => {
                let items = classes.iter().filter_map(|class| self.of_class.get(class)).flatten();
                let items: BTreeSet<u32> = items.copied().collect();
                let items: Vec<(u32, f64)> = items.into_iter().map(|item| (item, 1.0)).collect();
                (!items.is_empty()).then_some(Hit { reason: "same picture", items })
            }
            By::Row if !asked.is_empty() => {
                let reason = if looks.is_empty() { "same question" } else { "same question and picture" };
                Some(Hit { reason, items: asked.iter().map(|item| (*item, 1.0)).collect() })
            }
            By::Row => self.shared_words(&grams, &about, settings),
        };
        Ok(Compared { looks, classes, asked, hit })
    }

    fn shared_words(
        &self,
        grams: &[u64],
        about: &dyn Fn(&u32) -> bool,
        settings: &DecontaminateSettings,
    ) -> Option<Hit> {
        let mut shared: BTreeMap<u32, u32> = BTreeMap::new();
        for gram in grams {
            let start = self.grams.partition_point(|(known, _)| known < gram);
            let same = self.grams[start..].iter().take_while(|(known, _)| known == gram);
            same.filter(|(_, item)| about(item)).for_each(|(_, item)| *shared.entry(*item).or_default() += 1);
        }
        let share = |item: u32, n: u32| f64::from(n) / f64::from(self.runs[item as usize].max(1));
        let items: Vec<(u32, f64)> = (shared.into_iter())
            .map(|(item, n)| (item, share(item, n)))
            .filter(|(_, share)| *share >= settings.min_share)
            .collect();
        (!items.is_empty()).then_some(Hit { reason: "shared words", items })
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

/// The pictures of a row that are compared: fields that are named are compared as they are written.
fn looks(
    pictures: &Pictures,
    fields: &Map<String, Value>,
    settings: &DecontaminateSettings,
) -> Result<Vec<Look>, String> {
    if settings.on.is_empty() { pictures.looks(fields) } else { Ok(Vec::new()) }
}

/// What is compared of the text of a row.
fn texts(fields: &Map<String, Value>, settings: &DecontaminateSettings) -> Result<(u64, Vec<u64>), String> {
    Ok((exact_key(fields, &settings.on)?, grams(fields, settings.ngram)?))
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
