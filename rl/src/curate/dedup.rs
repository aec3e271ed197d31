//! `dedup`: the first of equal and nearly equal rows stays.
//!
//! Exact: the [normal form](crate::rows::normal_form) of what is asked, by a 64-bit hash (the chance that any two of 10
//! million different rows share one is 3e-6). Near: a row goes when an earlier row that stays has a Jaccard similarity
//! of at least the threshold, computed on the real shingles of both; MinHash only proposes the pairs. Rows with pictures are
//! duplicates only of rows about the same ones, for near-duplicates about [nearly the same ones](super::pictures).
//!
//! Memory is some 70 bytes a row (707 MiB for 10 million), whatever the rows hold, and 2 to 3 KB for each different picture;
//! hashes of bands are kept in temporary files beside the output (136 bytes a row at a threshold of 0.8), which are read band
//! by band.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::CurateError;
use super::minhash::{self, MinHasher};
use super::output::Output;
use super::pictures::{By, Classes, DISTANCE, Look, MAX_DISTANCE, Pictures};
use super::scan::{Input, Watch, scan, unchanged};
use crate::files::{IoError, digits};
use crate::random;
use crate::rows::{self, Row};

/// Rows of a bucket that each row is compared with, from either end. Only texts of one template fill a bucket this far.
const BUCKET: usize = 16;
/// Pairs that are compared at a time.
const PAIRS: usize = 1 << 13;

/// What counts as the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DedupSettings {
    /// Fields that are compared; context, question and options when empty.
    pub on: Vec<String>,
    /// Jaccard similarity from which rows are near-duplicates, in (0, 1]; none removes exact duplicates only.
    /// Default 0.8.
    pub threshold: Option<f64>,
    /// Remove only rows with the same answer as the one that stays. Default false.
    pub same_answer: bool,
    /// Whether rows are compared by what they ask of which pictures, or by their pictures alone: `row`, `image`. Default `row`.
    pub by: By,
    /// Bits of 256 in which pictures may differ that count as nearly the same, at most 32; with `threshold` only. Default 16.
    pub image_distance: u32,
    /// Seed of the hash functions. Default 0.
    pub seed: u64,
}

impl Default for DedupSettings {
    fn default() -> Self {
        Self {
            on: Vec::new(),
            threshold: Some(0.8),
            same_answer: false,
            by: By::Row,
            image_distance: DISTANCE,
            seed: 0,
        }
    }
}

/// What is known of a row after the first pass.
struct Seen {
    text: u64,
    looks: Vec<Look>,
    answer: u32,
    shape: Option<minhash::Signature>,
}

/// Rows are numbered from 0 in the order of the file; a number and the low half of a hash fit beside each other.
#[derive(Clone, Copy)]
struct First {
    row: u32,
    answer: u32,
}

/// The shingles of a row and the hash of its answer.
type Shape = (Vec<u32>, u32);

/// Why a row goes, and the row that stays for it.
#[derive(Clone, Copy)]
struct Drop {
    of: u32,
    similarity: f32,
    same_answer: bool,
    /// Whether its pictures are the same to the pixel.
    same_pixels: bool,
}

/// Removes duplicates; the first of each stays, in order.
///
/// # Errors
/// [`CurateError`]: settings, rows or files that cannot be used.
pub fn dedup(
    input: &Path,
    out: &mut Output,
    settings: &DedupSettings,
    watch: &dyn Watch,
) -> Result<Input, CurateError> {
    if let Some(t) = settings.threshold.filter(|t| !(*t > 0.0 && *t <= 1.0)) {
        return Err(CurateError::Setting(format!("--threshold {t} must lie above 0 and at most at 1")));
    }
    check_distance(settings.image_distance)?;
    if settings.by == By::Image && !settings.on.is_empty() {
        return Err(CurateError::Setting("--by image compares no fields: take --on away".into()));
    }
    out.comes_from(input);
    let pictures = Pictures::of(input);
    let mut classes = Classes::new(settings.threshold.map(|_| settings.image_distance));
    // By pictures alone there is no text to be nearly the same.
    let by_text = settings.threshold.filter(|_| settings.by == By::Row);
    let hasher = by_text.map(|t| MinHasher::new(t, settings.seed));
    let mut index = hasher.as_ref().map(|h| Index::new(out.scratch(), h)).transpose()?;
    let mut drops: HashMap<u32, Drop> = HashMap::new();
    let mut rows = 0_u32;
    let mut first: HashMap<u64, First> = HashMap::new();
    // Hashes of the pixels of rows with pictures.
    let mut shown: HashMap<u32, u64> = HashMap::new();
    let read = |row: &Row| seen(row, settings, &pictures, hasher.as_ref());
    let before = scan(input, "exact duplicates", watch, &read, &mut |row, seen| {
        let number = rows;
        rows = rows.checked_add(1).ok_or_else(|| CurateError::file(input, "more than 4 billion rows"))?;
        let (looks, answer) = (&seen.looks, seen.answer);
        if settings.by == By::Image && looks.is_empty() {
            return Ok(());
        }
        let about = looks.iter().fold(0, |all, look| random::word(&[all, u64::from(classes.class(look))]));
        let pixels = looks.iter().fold(0, |all, look| random::word(&[all, look.pixels]));
        let key = if looks.is_empty() { seen.text } else { random::word(&[seen.text, about]) };
        match first.entry(if settings.same_answer { random::word(&[key, u64::from(answer)]) } else { key }) {
            Entry::Occupied(first) => {
                let First { row: of, answer: before } = *first.get();
                let same_pixels = looks.is_empty() || shown.get(&of) == Some(&pixels);
                let same_answer = before == answer;
                drops.insert(number, Drop { of, similarity: 1.0, same_answer, same_pixels });
            }
            Entry::Vacant(place) => {
                place.insert(First { row: number, answer });
                if !looks.is_empty() {
                    shown.insert(number, pixels);
                }
                if let (Some(index), Some(shape)) = (&mut index, seen.shape) {
                    index.add(number, row.offset, about, &shape)?;
                }
            }
        }
        Ok(())
    })?;
    drop(first);
    let near = match (index, hasher) {
        (Some(index), Some(hasher)) => index.near(input, settings, &hasher, watch)?,
        _ => HashMap::new(),
    };
    write(input, out, &drops, &near, &before, watch)?;
    Ok(before)
}

/// Refuses a distance at which everything would be nearly the same.
pub(super) fn check_distance(distance: u32) -> Result<(), CurateError> {
    match distance <= MAX_DISTANCE {
        true => Ok(()),
        false => Err(CurateError::Setting(format!(
            "--image-distance {distance} must be at most {MAX_DISTANCE}: different radiographs differ in 25 bits and more"
        ))),
    }
}

fn seen(
    row: &Row,
    settings: &DedupSettings,
    pictures: &Pictures,
    hasher: Option<&MinHasher>,
) -> Result<Seen, String> {
    // Fields that are named are compared as they are written.
    let looks = if settings.on.is_empty() { pictures.looks(&row.fields)? } else { Vec::new() };
    if settings.by == By::Image {
        return Ok(Seen { text: 0, looks, answer: answer_hash(&row.fields), shape: None });
    }
    let form = rows::normal_form(&rows::text_of(&row.fields, &settings.on)?);
    let (text, answer) = (random::hash_bytes(form.as_bytes()), answer_hash(&row.fields));
    Ok(Seen { text, looks, answer, shape: hasher.map(|h| h.signature(&minhash::shingles(&form))) })
}

fn answer_hash(fields: &Map<String, Value>) -> u32 {
    let answer = rows::answer(fields).map(|a| rows::normal_form(&a)).unwrap_or_default();
    random::hash_bytes(answer.as_bytes()) as u32
}

/// The second pass: every row stays or goes.
fn write(
    input: &Path,
    out: &mut Output,
    exact: &HashMap<u32, Drop>,
    near: &HashMap<u32, Drop>,
    before: &Input,
    watch: &dyn Watch,
) -> Result<(), CurateError> {
    // Names of the rows that others are duplicates of.
    let named = exact.values().chain(near.values()).filter(|_| out.lists_dropped());
    let mut ids: HashMap<u32, String> = named.map(|d| (d.of, String::new())).collect();
    let mut number = 0_u32;
    let after = scan(input, "write", watch, &|_| Ok(()), &mut |row, ()| {
        if let Some(id) = ids.get_mut(&number) {
            *id = row.id();
        }
        let (kind, found) = match (exact.get(&number), near.get(&number)) {
            (Some(found), _) if found.same_pixels => ("exact duplicate", found),
            (Some(found), _) => ("near-duplicate, picture nearly the same", found),
            (None, Some(found)) => ("near-duplicate", found),
            (None, None) => {
                number += 1;
                return out.keep(&row);
            }
        };
        number += 1;
        let reason = if found.same_answer { kind.to_owned() } else { format!("{kind}, another answer") };
        let of = ids.get(&found.of).cloned().unwrap_or_default();
        let similarity = (f64::from(found.similarity) * 1e4).round() / 1e4;
        out.drop(&row, &reason, json!({"of": of, "similarity": similarity}))
    })?;
    unchanged(input, before, &after)
}

/// The rows that may be near-duplicates: sketches and places in memory, hashes of bands in temporary files.
struct Index {
    bands: Vec<BufWriter<File>>,
    numbers: Vec<u32>,
    offsets: Vec<u64>,
    sketches: Vec<u128>,
    /// Hashes of the classes of their pictures, of those that have any.
    about: HashMap<u32, u64>,
    /// Where these are.
    dir: PathBuf,
}

impl Index {
    fn new(dir: PathBuf, hasher: &MinHasher) -> Result<Self, CurateError> {
        // Without a name: whatever happens, nothing is left of them.
        let band = |_| tempfile::tempfile_in(&dir).map(|file| BufWriter::with_capacity(1 << 16, file));
        let bands = (0..hasher.bands).map(band).collect::<std::io::Result<_>>();
        let bands = bands.map_err(IoError::at("write into", &dir))?;
        Ok(Self {
            bands,
            numbers: Vec::new(),
            offsets: Vec::new(),
            sketches: Vec::new(),
            about: HashMap::new(),
            dir,
        })
    }

    fn add(
        &mut self,
        number: u32,
        offset: u64,
        about: u64,
        shape: &minhash::Signature,
    ) -> Result<(), CurateError> {
        for (file, hash) in self.bands.iter_mut().zip(&shape.bands) {
            // Rows about other pictures do not meet.
            file.write_all(&(hash ^ about).to_le_bytes()).map_err(IoError::at("write", &self.dir))?;
        }
        self.numbers.push(number);
        self.offsets.push(offset);
        self.sketches.push(shape.sketch);
        if about != 0 {
            self.about.insert(self.numbers.len() as u32 - 1, about);
        }
        Ok(())
    }

    /// The near-duplicates by row number.
    fn near(
        mut self,
        input: &Path,
        settings: &DedupSettings,
        hasher: &MinHasher,
        watch: &dyn Watch,
    ) -> Result<HashMap<u32, Drop>, CurateError> {
        let threshold = settings.threshold.unwrap_or(1.0);
        // Earlier row, later row, similarity, same answer.
        let mut edges: HashMap<(u32, u32), (f32, bool)> = HashMap::new();
        watch.pass("near-duplicates", self.bands.len() as u64);
        for band in std::mem::take(&mut self.bands) {
            let hashes = hashes(band, self.offsets.len()).map_err(IoError::at("read", &self.dir))?;
            let mut order: Vec<u32> = (0..hashes.len() as u32).collect();
            order.par_sort_unstable_by_key(|i| (hashes[*i as usize], *i));
            let mut pairs = Vec::new();
            for bucket in order.chunk_by(|a, b| hashes[*a as usize] == hashes[*b as usize]) {
                for (j, later) in bucket.iter().enumerate() {
                    let (head, tail) = (j.min(BUCKET), j.saturating_sub(BUCKET).max(j.min(BUCKET)));
                    for earlier in bucket[..head].iter().chain(&bucket[tail..j]) {
                        let (a, b) = (self.sketches[*earlier as usize], self.sketches[*later as usize]);
                        let same = self.about.get(earlier) == self.about.get(later);
                        if same && hasher.may_match(a, b) && !edges.contains_key(&(*earlier, *later)) {
                            pairs.push((*earlier, *later));
                        }
                    }
                    if pairs.len() >= PAIRS {
                        self.verify(input, &mut pairs, settings, threshold, &mut edges)?;
                    }
                }
            }
            self.verify(input, &mut pairs, settings, threshold, &mut edges)?;
            watch.advance(1);
        }
        Ok(self.resolve(edges, settings))
    }

    /// Compares the real shingles of the pairs.
    fn verify(
        &self,
        input: &Path,
        pairs: &mut Vec<(u32, u32)>,
        settings: &DedupSettings,
        threshold: f64,
        edges: &mut HashMap<(u32, u32), (f32, bool)>,
    ) -> Result<(), CurateError> {
        let mut needed: Vec<u32> = pairs.iter().flat_map(|(a, b)| [*a, *b]).collect();
        needed.sort_unstable();
        needed.dedup();
        let file = std::sync::Mutex::new(super::scan::open(input)?);
        let load = |i: &u32| Ok((*i, self.load(input, &file, *i, settings)?));
        let sets: Result<Vec<(u32, Shape)>, CurateError> = needed.par_iter().map(load).collect();
        let sets: HashMap<u32, Shape> = sets?.into_iter().collect();
        let found: Vec<_> = (pairs.par_iter())
            .filter_map(|(a, b)| {
                let (x, y) = (sets.get(a)?, sets.get(b)?);
                let similarity = minhash::jaccard(&x.0, &y.0);
                (similarity >= threshold).then_some(((*a, *b), (similarity as f32, x.1 == y.1)))
            })
            .collect();
        edges.extend(found);
        pairs.clear();
        Ok(())
    }

    /// The shingles and the answer of a row, read again.
    fn load(
        &self,
        input: &Path,
        file: &std::sync::Mutex<File>,
        i: u32,
        settings: &DedupSettings,
    ) -> Result<Shape, CurateError> {
        let text = line_at(file, self.offsets[i as usize]).map_err(IoError::at("read", input))?;
        let changed = || CurateError::file(input, "changed while it was read; run the command again");
        let text = std::str::from_utf8(&text).map_err(|_| changed())?;
        let Ok(Value::Object(fields)) = digits::parse(text) else { return Err(changed()) };
        let form = rows::normal_form(&rows::text_of(&fields, &settings.on).map_err(|_| changed())?);
        Ok((minhash::shingles(&form), answer_hash(&fields)))
    }

    /// Which rows go: those with an earlier near-duplicate that stays itself.
    fn resolve(
        &self,
        edges: HashMap<(u32, u32), (f32, bool)>,
        settings: &DedupSettings,
    ) -> HashMap<u32, Drop> {
        let mut edges: Vec<_> = edges.into_iter().collect();
        edges.sort_unstable_by_key(|((earlier, later), _)| (*later, *earlier));
        let mut drops: HashMap<u32, Drop> = HashMap::new();
        for ((earlier, later), (similarity, same_answer)) in edges {
            let (earlier, later) = (self.numbers[earlier as usize], self.numbers[later as usize]);
            let stays = !drops.contains_key(&earlier);
            if stays && !drops.contains_key(&later) && (same_answer || !settings.same_answer) {
                drops.insert(later, Drop { of: earlier, similarity, same_answer, same_pixels: true });
            }
        }
        drops
    }
}

/// The hashes of one band.
fn hashes(band: BufWriter<File>, n: usize) -> std::io::Result<Vec<u64>> {
    let mut file = band.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.seek(SeekFrom::Start(0))?;
    let mut reader = std::io::BufReader::with_capacity(1 << 18, file);
    let mut hashes = Vec::with_capacity(n);
    let mut bytes = [0; 8];
    for _ in 0..n {
        reader.read_exact(&mut bytes)?;
        hashes.push(u64::from_le_bytes(bytes));
    }
    Ok(hashes)
}

/// The bytes of the line that begins at `offset`.
fn line_at(file: &std::sync::Mutex<File>, offset: u64) -> std::io::Result<Vec<u8>> {
    let mut file = file.lock().map_err(|_| std::io::Error::other("a reader failed"))?;
    file.seek(SeekFrom::Start(offset))?;
    let mut text = Vec::new();
    let mut block = [0; 4096];
    loop {
        let read = file.read(&mut block)?;
        match block[..read].iter().position(|b| *b == b'\n') {
            Some(end) => {
                text.extend_from_slice(&block[..end]);
                return Ok(text);
            }
            None if read == 0 => return Ok(text),
            None => text.extend_from_slice(&block[..read]),
        }
    }
}
