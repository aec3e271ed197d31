//! `split`: parts of a file by a keyed hash of each row's id, or of a field whose values must not straddle.
//!
//! A row's part depends on the seed and its id alone: rows that are added later, or another order, move nothing. Of rows with
//! pictures it depends on these: all rows about a picture, or about one nearly the same, are in one part, and so are rows about
//! pictures that a row has together.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::CurateError;
use super::output::Output;
use super::pictures::{Classes, DISTANCE, Pictures};
use super::scan::{Input, Watch, scan};
use crate::random;
use crate::rows::{self, Row};

const SPLIT_STREAM: u64 = 0x7370_6c69;

/// Into which parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitSettings {
    /// The parts with their shares, which add up to 1.
    pub parts: Vec<PartShare>,
    /// Rows with the same value of this field go into the same part, whatever their pictures. Default: every row by itself,
    /// rows about a picture together.
    pub group: Option<String>,
    /// Seed of the split. Default 0.
    #[serde(default)]
    pub seed: u64,
}

/// A part and its share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartShare {
    /// Name, which becomes part of the file's name.
    pub name: String,
    /// Share of the rows, in (0, 1); met on average.
    pub share: f64,
}

impl SplitSettings {
    /// Says what is wrong with the parts, if anything is.
    ///
    /// # Errors
    /// [`CurateError::Setting`].
    pub fn check(&self) -> Result<(), CurateError> {
        let sum: f64 = self.parts.iter().map(|p| p.share).sum();
        let problem = if self.parts.len() < 2 {
            "name at least two parts, such as train=0.9,test=0.1".to_owned()
        } else if let Some(part) = self.parts.iter().find(|p| !(p.share > 0.0 && p.share < 1.0)) {
            format!("the share of {} is {} and must lie between 0 and 1", part.name, part.share)
        } else if (sum - 1.0).abs() > 1e-9 {
            format!("the shares add up to {sum} instead of 1")
        } else if let Some(i) =
            (1..self.parts.len()).find(|i| self.parts[..*i].iter().any(|p| p.name == self.parts[*i].name))
        {
            format!("{} is named twice", self.parts[i].name)
        } else if let Some(part) =
            self.parts.iter().find(|p| p.name.is_empty() || p.name.contains(['/', '\\']))
        {
            format!("{:?} cannot be part of a file name", part.name)
        } else {
            return Ok(());
        };
        Err(CurateError::Setting(problem))
    }

    /// The part of a row, by its index.
    fn part(&self, key: &str) -> usize {
        let draw = random::unit(&[self.seed, SPLIT_STREAM, random::hash_bytes(key.as_bytes())]);
        let mut sum = 0.0;
        let found = self.parts.iter().position(|part| {
            sum += part.share;
            draw < sum
        });
        found.unwrap_or(self.parts.len() - 1)
    }
}

/// Which pictures must not be parted.
struct Together {
    pictures: Pictures,
    classes: Classes,
    /// Of each class an earlier one that it is together with, or itself.
    before: Vec<u32>,
    /// The smallest hash of the pictures that are together, by the first class of these: no order of rows changes it.
    names: Vec<u64>,
}

impl Together {
    /// Of a file; none where no row has pictures.
    fn read(input: &Path, watch: &dyn Watch) -> Result<Option<Self>, CurateError> {
        let pictures = Pictures::of(input);
        let (mut classes, mut before) = (Classes::new(Some(DISTANCE)), Vec::<u32>::new());
        let mut pixels: Vec<(u32, u64)> = Vec::new();
        scan(input, "pictures", watch, &|row: &Row| pictures.looks(&row.fields), &mut |_, looks| {
            let of: Vec<u32> = looks.iter().map(|look| classes.class(look)).collect();
            before.extend(before.len() as u32..classes.len() as u32);
            pixels.extend(of.iter().copied().zip(looks.iter().map(|look| look.pixels)));
            for pair in of.windows(2) {
                let (a, b) = (root(&before, pair[0]), root(&before, pair[1]));
                before[a.max(b) as usize] = a.min(b);
            }
            Ok(())
        })?;
        let mut names = vec![u64::MAX; before.len()];
        for (class, hash) in pixels {
            let name = &mut names[root(&before, class) as usize];
            *name = hash.min(*name);
        }
        Ok((!names.is_empty()).then_some(Self { pictures, classes, before, names }))
    }

    /// What the part of a row with pictures depends on.
    fn key(&self, fields: &Map<String, Value>) -> Result<Option<String>, String> {
        let looks = self.pictures.looks(fields)?;
        let class = looks.first().and_then(|look| self.classes.find(look));
        Ok(class.map(|class| format!("picture {:016x}", self.names[root(&self.before, class) as usize])))
    }
}

fn root(before: &[u32], mut class: u32) -> u32 {
    while before[class as usize] != class {
        class = before[class as usize];
    }
    class
}

/// Writes each row into the output of its part; `outs` are in the order of the parts.
///
/// # Errors
/// [`CurateError`]: settings, a row without an id or without the group's field, files that cannot be used.
pub fn split(
    input: &Path,
    outs: &mut [Output],
    settings: &SplitSettings,
    watch: &dyn Watch,
) -> Result<Input, CurateError> {
    settings.check()?;
    outs.iter_mut().for_each(|out| out.comes_from(input));
    let together = match &settings.group {
        None => Together::read(input, watch)?,
        Some(_) => None,
    };
    let read = |row: &Row| -> Result<usize, String> {
        if let Some(key) = together.as_ref().map(|t| t.key(&row.fields)).transpose()?.flatten() {
            return Ok(settings.part(&key));
        }
        let key = match &settings.group {
            Some(group) => match rows::field(&row.fields, group) {
                None | Some(Value::Null) => return Err(rows::missing(&row.fields, group)),
                Some(value) => rows::plain(value),
            },
            None => rows::id(&row.fields).ok_or(
                "the row has no `id`: rlvr data import gives rows ids, or name a field with --group",
            )?,
        };
        Ok(settings.part(&key))
    };
    let done = scan(input, "split", watch, &read, &mut |row, part| {
        outs[part].keep(&row)?;
        let others = outs.iter_mut().enumerate().filter(|(i, _)| *i != part);
        others.for_each(|(_, out)| out.count_drop("another part"));
        Ok(())
    })?;
    match outs.iter().zip(&settings.parts).find(|(out, _)| out.rows() == 0) {
        Some((_, part)) => Err(CurateError::file(
            input,
            format!(
                "nothing falls into {}: there are too few rows, or groups, for its share {}",
                part.name, part.share
            ),
        )),
        None => Ok(done),
    }
}
