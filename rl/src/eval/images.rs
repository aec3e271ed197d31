//! The pictures of a benchmark: looked at before anything is asked, and exchanged for those of a control arm.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;
use rlvr_policies::ImageKey;
use rlvr_policies::vision::{encode_png, image};
use rlvr_rewards::{IMAGE_PLACE, TaskImage};
use serde::{Deserialize, Serialize};

use super::benchmark::Benchmark;
use super::fingerprint::sha256_hex;
use super::item::Item;
use crate::data::DataError;
use crate::error::Error;
use crate::files::picture::{bytes_of, named};
use crate::policy::Policy;
use crate::random;

const SHUFFLE_STREAM: u64 = 0x7069_6374;
/// Mid-grey, in each colour.
const GREY: u8 = 128;

/// What the items of a benchmark are asked with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageArm {
    /// Their own pictures.
    #[default]
    Real,
    /// Control: mid-grey ones of the same size.
    Blank,
    /// Control: those of other items.
    Shuffled,
    /// Control: none; their places in the prompt are taken away too.
    None,
}

impl ImageArm {
    /// All, in the order of tables.
    pub const ALL: [Self; 4] = [Self::Real, Self::Blank, Self::Shuffled, Self::None];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::Blank => "blank",
            Self::Shuffled => "shuffled",
            Self::None => "none",
        }
    }

    /// What a control's results are called with real pictures, and the arm: the inverse of [`Self::name_of`], with the endings
    /// of ranked options kept. None of what is no control.
    pub fn of(results: &str) -> Option<(String, Self)> {
        let controls = Self::ALL.into_iter().filter(|arm| *arm != Self::Real);
        let mut found = controls.filter_map(|arm| {
            let part = format!("/{}", arm.name());
            let (before, after) = results.split_once(&part)?;
            (after.is_empty() || after.starts_with('/')).then(|| (format!("{before}{after}"), arm))
        });
        found.next()
    }

    /// What results call a benchmark that is asked so: `NAME`, or `NAME/ARM` of a control.
    pub fn name_of(self, benchmark: &str) -> String {
        match self {
            Self::Real => benchmark.to_owned(),
            control => format!("{benchmark}/{}", control.name()),
        }
    }
}

impl Benchmark {
    /// Whether an item has a picture.
    pub fn has_images(&self) -> bool {
        self.items.iter().any(|item| !item.task.images.is_empty())
    }

    /// Looks at the beginning of every picture and hashes all of it; what cannot be used comes back, with file and line.
    pub fn look(&mut self) -> Vec<DataError> {
        let mut first: HashMap<&TaskImage, usize> = HashMap::new();
        let mut places = Vec::new();
        for item in &self.items {
            for (i, image) in item.task.images.iter().enumerate() {
                first.entry(image).or_insert_with(|| {
                    places.push((item, i, image));
                    places.len() - 1
                });
            }
        }
        let hash = |(item, i, picture): &(&Item, usize, &TaskImage)| {
            let bytes = bytes_of(picture).and_then(|bytes| match image::size(&bytes) {
                Ok(_) => Ok(sha256_hex(&bytes)),
                Err(e) => Err(named(picture, &e)),
            });
            bytes.map_err(|problem| bad_row(item, format!("images: picture {}: {problem}", i + 1)))
        };
        let found: Vec<Result<String, DataError>> = places.par_iter().map(hash).collect();
        if found.is_empty() {
            self.images = None;
            return Vec::new();
        }
        let mut all = String::new();
        for item in &self.items {
            for image in &item.task.images {
                all.push_str(found[first[image]].as_deref().unwrap_or_default());
                all.push(' ');
            }
            all.push('\n');
        }
        let problems = found.into_iter().filter_map(Result::err).collect();
        self.images = Some(sha256_hex(all.as_bytes()));
        problems
    }

    /// The benchmark as results of an arm call it, with its own pictures still; `seed` says how pictures are exchanged.
    ///
    /// # Errors
    /// A control of items without pictures.
    pub fn called(&self, arm: ImageArm, seed: u64) -> Result<Self, Error> {
        if arm == ImageArm::Real {
            return Ok(self.clone());
        }
        if !self.has_images() {
            return Err(self.refused(arm, "its items have no pictures"));
        }
        let seed = if arm == ImageArm::Shuffled { seed } else { 0 };
        let hash = sha256_hex(format!("{}\nimages {} {seed}", self.hash, arm.name()).as_bytes());
        Ok(Self { name: arm.name_of(&self.name), hash, images: None, ..self.clone() })
    }

    fn refused(&self, arm: ImageArm, what: &str) -> Error {
        Error::Unusable { what: format!("{}: --images {}: {what}", self.name, arm.name()) }
    }

    /// The benchmark as an arm asks it.
    ///
    /// # Errors
    /// As [`Self::called`]; a picture that cannot be read; pictures that are all the same, which cannot be exchanged.
    pub fn with_images(&self, arm: ImageArm, seed: u64, policy: &Policy) -> Result<Self, Error> {
        let mut benchmark = self.called(arm, seed)?;
        if arm == ImageArm::Real {
            return Ok(benchmark);
        }
        let mut distinct: Vec<&TaskImage> = Vec::new();
        let mut places: HashMap<&TaskImage, usize> = HashMap::new();
        for image in self.items.iter().flat_map(|item| &item.task.images) {
            places.entry(image).or_insert_with(|| {
                distinct.push(image);
                distinct.len() - 1
            });
        }
        let others: Vec<TaskImage> = match arm {
            ImageArm::Real | ImageArm::None => Vec::new(),
            ImageArm::Blank => blank(&distinct)?,
            ImageArm::Shuffled => {
                let looked = distinct.par_iter().map(|image| policy.looked_at(image));
                let looked = looked.collect::<Result<Vec<_>, _>>()?;
                let order = derangement(&looked, seed);
                let order = order.ok_or_else(|| self.refused(arm, "its pictures are all the same"))?;
                order.into_iter().map(|i| distinct[i].clone()).collect()
            }
        };
        let without = |item: &Item| {
            let mut item = item.clone();
            for parts in [&mut item.prompt, &mut item.likelihood].into_iter().flatten() {
                parts.user = parts.user.replace(IMAGE_PLACE, "");
            }
            for message in &mut item.task.prompt {
                message.content = message.content.replace(IMAGE_PLACE, "");
            }
            item.task.images.clear();
            item
        };
        let exchanged = |item: &Item| {
            let images = item.task.images.iter().map(|image| others[places[image]].clone()).collect();
            let mut item = item.clone();
            item.task.images = images;
            item
        };
        let asked = |item: &Item| match arm {
            _ if item.task.images.is_empty() => item.clone(),
            ImageArm::None => without(item),
            _ => exchanged(item),
        };
        benchmark.items = self.items.iter().map(asked).collect();
        // The arm's own pictures are those of the benchmark, or drawn here.
        let problems = benchmark.look();
        match problems.into_iter().next() {
            Some(problem) => Err(problem.into()),
            None => Ok(benchmark),
        }
    }
}

/// The error of an item's row.
fn bad_row(item: &Item, message: String) -> DataError {
    let place = item.place.rsplit_once(':').and_then(|(path, line)| Some((path, line.parse().ok()?)));
    let (path, line) = place.unwrap_or((&item.place, 0));
    DataError::Row { path: PathBuf::from(path), line, message }
}

/// Grey pictures of the sizes of others, one of each size.
fn blank(images: &[&TaskImage]) -> Result<Vec<TaskImage>, Error> {
    let size = |picture: &&TaskImage| {
        let bytes = bytes_of(picture).map_err(|what| Error::Unusable { what })?;
        image::size(&bytes).map_err(|e| Error::Unusable { what: named(picture, &e) })
    };
    let sizes = images.par_iter().map(size).collect::<Result<Vec<_>, _>>()?;
    let mut drawn: HashMap<(usize, usize), Arc<[u8]>> = HashMap::new();
    let grey =
        |(width, height): (usize, usize)| encode_png(width, height, &vec![GREY; width * height * 3]).into();
    let of_size = |size| TaskImage::Bytes(drawn.entry(size).or_insert_with(|| grey(size)).clone());
    Ok(sizes.into_iter().map(of_size).collect())
}

/// For each picture another one, each once: pictures of as many tokens are exchanged among themselves. One that is alone with
/// its number of tokens is exchanged with others that are, and where there is none, within those of the nearest number.
/// Pictures with the same key are one. None where there are not two different ones.
fn derangement(pictures: &[(ImageKey, usize)], seed: u64) -> Option<Vec<usize>> {
    // The first place of each key; the choice depends on the keys, not on the order of the items.
    let mut first: BTreeMap<ImageKey, usize> = BTreeMap::new();
    for (i, (key, _)) in pictures.iter().enumerate() {
        first.entry(*key).or_insert(i);
    }
    if first.len() < 2 {
        return None;
    }
    let mut classes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for i in first.values() {
        classes.entry(pictures[*i].1).or_default().push(*i);
    }
    let alone: Vec<usize> = classes.values().filter(|c| c.len() == 1).map(|c| c[0]).collect();
    classes.retain(|_, class| class.len() > 1);
    match &alone[..] {
        [] => {}
        [one] => {
            let tokens = pictures[*one].1;
            let nearest = classes.iter_mut().min_by_key(|(count, _)| count.abs_diff(tokens));
            nearest.into_iter().for_each(|(_, class)| class.push(*one));
        }
        // Under a number that no picture has.
        several => drop(classes.insert(usize::MAX, several.to_vec())),
    }
    let mut other: HashMap<ImageKey, usize> = HashMap::new();
    for (tokens, class) in &classes {
        // In a random order, each takes the place of the one before: a permutation that leaves nothing where it was.
        let len = class.len() as u64;
        let key = [seed, SHUFFLE_STREAM, *tokens as u64];
        let order: Vec<usize> = (0..len).map(|i| class[random::shuffled(i, len, &key) as usize]).collect();
        for (i, from) in order.iter().enumerate() {
            other.insert(pictures[*from].0, order[(i + 1) % order.len()]);
        }
    }
    pictures.iter().map(|(key, _)| other.get(key).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_controls_read_back() {
        for arm in ImageArm::ALL.into_iter().skip(1) {
            assert_eq!(ImageArm::of(&arm.name_of("vqa")), Some(("vqa".to_owned(), arm)));
        }
        assert_eq!(
            ImageArm::of("vqa/blank/likelihood"),
            Some(("vqa/likelihood".to_owned(), ImageArm::Blank))
        );
        for other in ["vqa", "blank", "vqa/likelihood", "vqa/blanket"] {
            assert_eq!(ImageArm::of(other), None);
        }
    }

    #[test]
    fn a_derangement_moves_every_picture_among_those_of_as_many_tokens() {
        for seed in 0..200 {
            let classes = [4, 4, 4, 9, 9, 16, 16, 16, 16, 4];
            let pictures: Vec<(ImageKey, usize)> =
                classes.iter().enumerate().map(|(i, tokens)| (i as ImageKey * 7 + 1, *tokens)).collect();
            let order = derangement(&pictures, seed).unwrap();
            let mut once = order.clone();
            once.sort_unstable();
            assert_eq!(once, (0..10).collect::<Vec<_>>(), "each once");
            for (i, other) in order.iter().enumerate() {
                assert!(i != *other && pictures[i].1 == pictures[*other].1, "{seed}: {order:?}");
            }
            assert_eq!(derangement(&pictures, seed).unwrap(), order);
        }
        let pictures: Vec<(ImageKey, usize)> = (0..8).map(|i| (i, 4)).collect();
        let orders: Vec<_> = (0..20).map(|seed| derangement(&pictures, seed).unwrap()).collect();
        assert!(orders.iter().any(|order| *order != orders[0]), "the seed counts");
    }

    #[test]
    fn pictures_without_a_partner_find_one_and_equal_ones_are_one() {
        // One alone goes to the nearest number of tokens.
        let order = derangement(&[(1, 4), (2, 4), (3, 100), (4, 100), (5, 90)], 1).unwrap();
        assert!(order[4] == 2 || order[4] == 3, "{order:?}");
        assert!(order[0] == 1 && order[1] == 0, "{order:?}");
        // Several alone are exchanged among themselves.
        assert_eq!(derangement(&[(1, 4), (2, 5)], 3).unwrap(), [1, 0]);
        // The same picture under two names is never exchanged for itself.
        for seed in 0..50 {
            let pictures = [(7, 4), (7, 4), (8, 4), (9, 4)];
            let order = derangement(&pictures, seed).unwrap();
            assert!(order.iter().zip(&pictures).all(|(o, (key, _))| pictures[*o].0 != *key), "{order:?}");
            assert_eq!(order[0], order[1]);
        }
        assert_eq!(derangement(&[(7, 4), (7, 4)], 0), None);
        assert_eq!(derangement(&[], 0), None);
    }
}
