//! The pictures of a benchmark: looked at before anything is asked, and exchanged for those of a control arm.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;
use rlvr_policies::vision::{encode_png, image};
use rlvr_rewards::{IMAGE_PLACE, TaskImage};
use serde::{Deserialize, Serialize};

use super::benchmark::Benchmark;
use super::exchange::exchanged_for;
use super::fingerprint::sha256_hex;
use super::item::Item;
use crate::data::DataError;
use crate::error::Error;
use crate::files::picture::{bytes_of, named};
use crate::policy::Policy;

/// An item, the number of a picture in it, and the picture.
type Place<'a> = (&'a Item, usize, &'a TaskImage);

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
        let (places, first) = self.pictures();
        let hash = |(item, i, picture): &Place<'_>| {
            let bytes = bytes_of(picture).and_then(|bytes| match image::size(&bytes) {
                Ok(_) => Ok(sha256_hex(&bytes)),
                Err(e) => Err(named(picture, &e)),
            });
            bytes.map_err(|problem| bad_picture(item, *i, &problem))
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

    /// Decodes every picture whole; those come back, with file and line, that cannot be decoded though their beginnings
    /// can, which [`Self::look`] is content with.
    pub fn undecodable(&self) -> Vec<DataError> {
        let decoded = |(item, i, picture): &Place<'_>| {
            let bytes = bytes_of(picture).ok().filter(|bytes| image::size(bytes).is_ok())?;
            let problem = image::decode(&bytes).err()?;
            Some(bad_picture(item, *i, &named(picture, &problem)))
        };
        self.pictures().0.par_iter().filter_map(decoded).collect()
    }

    /// The different pictures, each with the item that has it first and its number there, and their places by picture.
    fn pictures(&self) -> (Vec<Place<'_>>, HashMap<&TaskImage, usize>) {
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
        (places, first)
    }

    /// A problem of a picture with the row of the item that has it first.
    fn of_picture(&self, image: &TaskImage, problem: &Error) -> Option<DataError> {
        let (places, first) = self.pictures();
        let (item, i, _) = places.get(*first.get(image)?)?;
        Some(bad_picture(item, *i, &problem.to_string()))
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
    /// As [`Self::called`]; a picture that cannot be read; pictures that are all the same, or stand in too many items together
    /// to be exchanged.
    pub fn with_images(&self, arm: ImageArm, seed: u64, policy: &Policy) -> Result<Self, Error> {
        let mut benchmark = self.called(arm, seed)?;
        if arm == ImageArm::Real {
            return Ok(benchmark);
        }
        let (distinct, places) = self.pictures();
        let distinct: Vec<&TaskImage> = distinct.into_iter().map(|(_, _, image)| image).collect();
        let others: Vec<TaskImage> = match arm {
            ImageArm::Real | ImageArm::None => Vec::new(),
            ImageArm::Blank => blank(&distinct)?,
            ImageArm::Shuffled => {
                let look = |image: &&TaskImage| {
                    policy.looked_at(image).map_err(|e| self.of_picture(image, &e).map_or(e, Error::from))
                };
                let looked = distinct.par_iter().map(look).collect::<Result<Vec<_>, _>>()?;
                let together = |item: &Item| item.task.images.iter().map(|image| places[image]).collect();
                let together: Vec<Vec<usize>> = self.items.iter().map(together).collect();
                let order = exchanged_for(&looked, &together, seed);
                let order = order.map_err(|what| self.refused(arm, what))?;
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

/// The error of a picture of an item, with its row.
fn bad_picture(item: &Item, i: usize, problem: &str) -> DataError {
    let message = format!("images: picture {}: {problem}", i + 1);
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
}
