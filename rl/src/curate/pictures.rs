//! Pictures of rows: which a row has, when two are the same or nearly so, and paths that stay valid.
//!
//! The same: equal decoded pixels. Nearly the same: difference hashes of 256 bits that differ in at most so many
//! ([`DISTANCE`] unless a step is told otherwise), and no cell of a grey thumbnail of 24×24 or a coloured one of 4×4 that differs by
//! more than `LEVELS`. The hash says of a grey picture of 17×16 cells (means of areas) which cell is lighter than its left
//! neighbour by more than `MARGIN` levels; where most is paper few are, and the thumbnails tell pictures apart. Of the radiographs
//! of VQA-RAD no two are taken for one, and all copies as JPEG of quality 40 to 90 and of half to double the size are found; so it
//! is of generated panels (EXPERIMENTS.md). Crops, turned and mirrored copies are not.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::files::picture::bytes_of;
use crate::random;
use rlvr_policies::vision::{Rgb, decode};
use rlvr_rewards::TaskImage;

/// Bits of 256 in which near-duplicates may differ.
pub const DISTANCE: u32 = 16;
/// The largest distance that a step takes.
pub const MAX_DISTANCE: u32 = 32;
/// Levels of 255 by which cells of thumbnails may differ.
const LEVELS: u8 = 24;
/// Cells of a side of the grey thumbnail.
const CELLS: usize = 24;
/// Levels by which a cell must be lighter than its neighbour.
const MARGIN: u64 = 2;
/// Fields with pictures.
const FIELDS: [&str; 2] = ["image", "images"];
/// Fields with conversations, whose parts may be pictures.
const CONVERSATIONS: [&str; 2] = ["messages", "prompt"];

/// What is compared of rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// What they ask, of which pictures.
    #[default]
    Row,
    /// Their pictures alone.
    Image,
}

/// What a picture is compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// A hash of its size and pixels.
    pub(crate) pixels: u64,
    /// Pixels of the smaller side.
    pub(crate) side: u32,
    hash: [u64; 4],
    colours: [u8; 48],
    thumbnail: [u8; CELLS * CELLS],
}

/// Whether a row has pictures in a field or in a part of a conversation.
pub(crate) fn has_any(fields: &Map<String, Value>) -> bool {
    !values(fields).is_empty()
}

/// The pictures that fields of a row name.
pub(crate) fn named(fields: &Map<String, Value>) -> Vec<&Value> {
    let mut found = Vec::new();
    for value in FIELDS.iter().filter_map(|name| fields.get(*name)) {
        match value {
            Value::Array(list) => found.extend(list.iter().filter(|v| is_picture(v))),
            one => found.extend(Some(one).filter(|v| is_picture(v))),
        }
    }
    found
}

/// The fields of a row that name pictures.
pub(crate) fn kept(fields: &Map<String, Value>) -> impl Iterator<Item = (String, Value)> {
    FIELDS.iter().filter_map(|name| Some(((*name).to_owned(), fields.get(*name)?.clone())))
}

/// The pictures of a row as it names them, in fields and in parts of conversations.
pub(crate) fn values(fields: &Map<String, Value>) -> Vec<&Value> {
    let mut found = named(fields);
    let messages = CONVERSATIONS.iter().filter_map(|name| fields.get(*name)?.as_array()).flatten();
    let parts = messages.filter_map(|message| message.get("content")?.as_array()).flatten();
    for part in parts.filter(|part| part.get("type").and_then(Value::as_str) == Some("image")) {
        found.extend(["image", "path", "url"].iter().find_map(|key| part.get(*key).filter(|v| !v.is_null())));
    }
    found
}

fn is_picture(value: &Value) -> bool {
    !value.is_null() && value.as_str() != Some("")
}

/// The same row with relative paths of pictures changed by `path`; none where there are none.
pub(crate) fn moved(
    fields: &Map<String, Value>,
    path: &dyn Fn(&str) -> String,
) -> Option<Map<String, Value>> {
    if !has_any(fields) {
        return None;
    }
    let mut row = fields.clone();
    for name in FIELDS {
        match row.get_mut(name) {
            Some(Value::Array(list)) => list.iter_mut().for_each(|value| change(value, path)),
            Some(value) => change(value, path),
            None => {}
        }
    }
    for name in CONVERSATIONS {
        let messages = row.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten();
        let parts = messages.filter_map(|message| message.get_mut("content")?.as_array_mut()).flatten();
        for part in parts.filter(|part| part.get("type").and_then(Value::as_str) == Some("image")) {
            ["image", "path", "url"]
                .iter()
                .for_each(|key| part.get_mut(*key).into_iter().for_each(|value| change(value, path)));
        }
    }
    Some(row)
}

fn change(value: &mut Value, path: &dyn Fn(&str) -> String) {
    match value {
        Value::String(text) => {
            let file = text.strip_prefix("file://").unwrap_or(text);
            let stays = file.is_empty() || text.starts_with("data:") || text.contains("://") && file == text;
            if !stays && Path::new(file).is_relative() {
                *text = path(file);
            }
        }
        // Beside bytes a path is a name.
        Value::Object(fields) if fields.get("bytes").is_none_or(Value::is_null) => {
            fields.get_mut("path").into_iter().for_each(|value| change(value, path));
        }
        _ => {}
    }
}

/// A relative path below the folder `from` as it is found from the folder `to`.
pub(crate) fn from_there(path: &str, from: &Path, to: &Path) -> String {
    let whole = |folder: &Path| {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf())
    };
    let (file, to) = (whole(from).join(path), whole(to));
    let (a, b): (Vec<Component<'_>>, Vec<Component<'_>>) =
        (file.components().collect(), to.components().collect());
    let common = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n(Component::ParentDir, b.len() - common);
    let relative: PathBuf = up.chain(a[common..].iter().copied()).collect();
    relative.to_string_lossy().into_owned()
}

/// Pictures of the rows of a file, each looked at once.
pub(crate) struct Pictures {
    folder: PathBuf,
    known: Mutex<HashMap<PathBuf, Look>>,
}

impl Pictures {
    /// Of a file of rows, to which paths are relative.
    pub(crate) fn of(file: &Path) -> Self {
        Self { folder: file.parent().unwrap_or(Path::new("")).to_path_buf(), known: Mutex::default() }
    }

    /// What the pictures of a row look like, in their order.
    ///
    /// # Errors
    /// A picture that cannot be read.
    pub(crate) fn looks(&self, fields: &Map<String, Value>) -> Result<Vec<Look>, String> {
        values(fields).into_iter().map(|value| self.look(value)).collect()
    }

    fn look(&self, value: &Value) -> Result<Look, String> {
        let image = TaskImage::read(value, &self.folder)?;
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let TaskImage::Path(path) = &image
            && let Some(look) = known().get(path)
        {
            return Ok(*look);
        }
        let bytes = bytes_of(&image)?;
        let name = match &image {
            TaskImage::Path(path) => format!("{}: ", path.display()),
            TaskImage::Bytes(_) => String::new(),
        };
        let look = Look::of(&decode(&bytes).map_err(|e| format!("{name}{e}"))?);
        if let TaskImage::Path(path) = image {
            known().insert(path, look);
        }
        Ok(look)
    }
}

/// Mean of the cells of a grid over a picture, three colours each, in 256ths of a level. A pixel counts for each cell by the share
/// of it that is there, so that a grid says the same of every size.
fn cells(picture: &Rgb, columns: usize, rows: usize) -> Vec<[u64; 3]> {
    // The pixels of a cell with the parts of each, of as many as there are cells.
    let parts = |i: usize, of: usize, side: usize| {
        let (start, end) = (i * side, (i + 1) * side);
        (start / of..end.div_ceil(of))
            .map(move |at| (at, (end.min((at + 1) * of) - start.max(at * of)) as u64))
    };
    let all = (picture.width * picture.height).max(1) as u64;
    let mut cells = Vec::with_capacity(columns * rows);
    for y in 0..rows {
        for x in 0..columns {
            let mut sum = [0u64; 3];
            for (row, high) in parts(y, rows, picture.height) {
                for (column, wide) in parts(x, columns, picture.width) {
                    let at = (row * picture.width + column) * 3;
                    let Some(pixel) = picture.pixels.get(at..at + 3) else { continue };
                    sum.iter_mut()
                        .zip(pixel)
                        .for_each(|(sum, value)| *sum += high * wide * u64::from(*value));
                }
            }
            cells.push(sum.map(|sum| sum * 256 / all));
        }
    }
    cells
}

/// Grey of cells, in 256ths of a level.
fn greys(picture: &Rgb, columns: usize, rows: usize) -> impl Iterator<Item = u64> {
    cells(picture, columns, rows).into_iter().map(|[r, g, b]| (299 * r + 587 * g + 114 * b) / 1000)
}

impl Look {
    fn of(picture: &Rgb) -> Self {
        let grey: Vec<u64> = greys(picture, 17, 16).collect();
        let mut hash = [0u64; 4];
        for bit in 0..256 {
            let at = bit / 16 * 17 + bit % 16;
            hash[bit / 64] |= u64::from(grey[at + 1] > grey[at] + 256 * MARGIN) << (bit % 64);
        }
        let (mut colours, mut thumbnail) = ([0; 48], [0; CELLS * CELLS]);
        let means = cells(picture, 4, 4).into_iter().flatten();
        colours.iter_mut().zip(means).for_each(|(to, mean)| *to = (mean / 256) as u8);
        thumbnail
            .iter_mut()
            .zip(greys(picture, CELLS, CELLS))
            .for_each(|(to, mean)| *to = (mean / 256) as u8);
        let size = [picture.width as u64, picture.height as u64, random::hash_bytes(&picture.pixels)];
        let side = picture.width.min(picture.height) as u32;
        Self { pixels: random::word(&size), side, hash, colours, thumbnail }
    }

    /// Bits in which the hashes differ.
    fn distance(&self, other: &Self) -> u32 {
        self.hash.iter().zip(&other.hash).map(|(a, b)| (a ^ b).count_ones()).sum()
    }

    fn is_near(&self, other: &Self, distance: u32) -> bool {
        let within = |a: &[u8], b: &[u8]| a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= LEVELS);
        self.distance(other) <= distance
            && within(&self.colours, &other.colours)
            && within(&self.thumbnail, &other.thumbnail)
    }
}

/// Pictures that are the same or nearly so, by the first of each.
pub(crate) struct Classes {
    distance: Option<u32>,
    exact: HashMap<u64, u32>,
    firsts: Vec<Look>,
    /// By each part of the hash: of two that differ in at most as many bits as there are parts less one, one part is equal.
    parts: Vec<HashMap<u64, Vec<u32>>>,
}

impl Classes {
    /// With the most bits in which near-duplicates differ; none where the pixels must be equal.
    pub(crate) fn new(distance: Option<u32>) -> Self {
        let parts = distance.map_or(0, |distance| distance as usize + 1);
        Self { distance, exact: HashMap::new(), firsts: Vec::new(), parts: vec![HashMap::new(); parts] }
    }

    /// The bits `part`, `part + parts`, … of a hash, so that each part is of the whole picture.
    fn part(look: &Look, part: usize, parts: usize) -> u64 {
        let bits = (part..256).step_by(parts).map(|bit| look.hash[bit / 64] >> (bit % 64) & 1);
        bits.enumerate().fold(0, |all, (i, bit)| all ^ random::word(&[i as u64, bit]))
    }

    /// The class of a picture, if an earlier one is the same or nearly so.
    pub(crate) fn find(&self, look: &Look) -> Option<u32> {
        if let Some(class) = self.exact.get(&look.pixels) {
            return Some(*class);
        }
        let distance = self.distance?;
        let candidates = self
            .parts
            .iter()
            .enumerate()
            .filter_map(|(i, known)| known.get(&Self::part(look, i, self.parts.len())));
        candidates.flatten().copied().filter(|i| self.firsts[*i as usize].is_near(look, distance)).min()
    }

    /// The class of a picture, a new one where there is none.
    pub(crate) fn class(&mut self, look: &Look) -> u32 {
        let found = self.find(look);
        let class = found.unwrap_or(self.firsts.len() as u32);
        if found.is_none() {
            self.firsts.push(*look);
            let count = self.parts.len();
            for (i, known) in self.parts.iter_mut().enumerate() {
                known.entry(Self::part(look, i, count)).or_default().push(class);
            }
        }
        self.exact.insert(look.pixels, class);
        class
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.firsts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A picture of blobs that depend on a seed.
    fn drawn(seed: u64, side: usize, noise: u64) -> Rgb {
        let mut picture = Rgb::black(side, side);
        for y in 0..side {
            for x in 0..side {
                let cell = [(x * 12 / side) as u64, (y * 12 / side) as u64];
                let shade = 230.0 * random::unit(&[seed, cell[0], cell[1]]);
                let own = noise as f64 * random::unit(&[seed, noise, x as u64, y as u64]);
                let at = (y * side + x) * 3;
                picture.pixels[at..at + 3].fill((shade + own) as u8);
            }
        }
        picture
    }

    #[test]
    fn copies_are_near_and_other_pictures_are_not() {
        let (a, again) = (Look::of(&drawn(1, 96, 0)), Look::of(&drawn(1, 96, 0)));
        assert_eq!(a, again);
        let (noisy, larger) = (Look::of(&drawn(1, 96, 6)), Look::of(&drawn(1, 192, 0)));
        for other in [noisy, larger] {
            assert!(other.pixels != a.pixels && other.is_near(&a, DISTANCE), "{}", other.distance(&a));
        }
        let different: Vec<Look> = (2..40).map(|seed| Look::of(&drawn(seed, 96, 0))).collect();
        assert!(different.iter().all(|other| a.distance(other) > 2 * DISTANCE));
        // Of one brightness and another colour.
        let coloured = |colour: [u8; 3]| {
            let mut picture = Rgb::black(16, 16);
            picture.pixels.chunks_mut(3).for_each(|pixel| pixel.copy_from_slice(&colour));
            Look::of(&picture)
        };
        let (red, green) = (coloured([200, 0, 0]), coloured([0, 102, 0]));
        assert!(red.distance(&green) == 0 && !red.is_near(&green, DISTANCE));
    }

    /// A picture of another size, of the nearest pixels or means of four.
    fn scaled(picture: &Rgb, doubled: bool) -> Rgb {
        let of = |side: usize| if doubled { side * 2 } else { side / 2 };
        let mut other = Rgb::black(of(picture.width), of(picture.height));
        for (i, value) in other.pixels.iter_mut().enumerate() {
            let [x, y, c] = [i / 3 % other.width, i / 3 / other.width, i % 3];
            let pixel = |x: usize, y: usize| u32::from(picture.pixels[(y * picture.width + x) * 3 + c]);
            *value = if doubled {
                pixel(x / 2, y / 2) as u8
            } else {
                [(0, 0), (1, 0), (0, 1), (1, 1)]
                    .iter()
                    .map(|(a, b)| pixel(2 * x + a, 2 * y + b))
                    .sum::<u32>()
                    .div_ceil(4) as u8
            };
        }
        other
    }

    #[test]
    fn mostly_flat_pictures_are_near_their_copies_alone() {
        // Panels with values, most of which is paper: few bits of their hashes are set.
        let config = toml::from_str("kind = \"lab_panel\"\ntasks = 100").unwrap();
        let source = crate::data::TaskSource::open("t", &config, 0).unwrap();
        let pictures: Vec<Rgb> = (0..source.len())
            .map(|i| decode(&bytes_of(&source.task(i).images[0]).unwrap()).unwrap())
            .collect();
        let looks: Vec<Look> = pictures.iter().map(Look::of).collect();
        let mut alike = 0;
        for (i, look) in looks.iter().enumerate() {
            for other in &looks[..i] {
                let flat = Look { thumbnail: other.thumbnail, ..*look };
                alike += usize::from(flat.is_near(other, DISTANCE));
                assert!(!look.is_near(other, DISTANCE), "panel {i}");
            }
        }
        assert!(alike > 0, "hashes and colours alone tell them apart");
        for (seed, (picture, look)) in pictures.iter().zip(&looks).enumerate() {
            let mut noisy = picture.clone();
            for (i, value) in noisy.pixels.iter_mut().enumerate() {
                *value = (f64::from(*value) + 16.0 * (random::unit(&[seed as u64, i as u64]) - 0.5)) as u8;
            }
            for copy in [noisy, scaled(picture, true), scaled(picture, false)] {
                let copy = Look::of(&copy);
                assert!(copy.pixels != look.pixels && copy.is_near(look, DISTANCE), "panel {seed}");
            }
        }
    }

    #[test]
    fn classes_find_every_near_picture() {
        let mut classes = Classes::new(Some(DISTANCE));
        let looks: Vec<Look> = (0..60).map(|seed| Look::of(&drawn(seed, 64, 0))).collect();
        let firsts: Vec<u32> = looks.iter().map(|look| classes.class(look)).collect();
        assert_eq!(firsts, (0..60).collect::<Vec<_>>());
        // As many bits changed as are allowed, wherever they are, and one more.
        for (i, look) in looks.iter().enumerate() {
            let mut changed = Look { pixels: look.pixels + 1, ..*look };
            for bit in 0..u64::from(DISTANCE) {
                let bit = (random::word(&[i as u64]) % 16 + bit * 16 + bit % 3) as usize % 256;
                changed.hash[bit / 64] ^= 1 << (bit % 64);
            }
            assert_eq!(changed.distance(look), DISTANCE);
            assert_eq!(classes.find(&changed), Some(i as u32));
            let free =
                (0..256).find(|bit| (changed.hash[bit / 64] ^ look.hash[bit / 64]) >> (bit % 64) & 1 == 0);
            let free = free.unwrap();
            changed.hash[free / 64] ^= 1 << (free % 64);
            assert_eq!(classes.find(&changed), None);
        }
        let mut exact = Classes::new(None);
        exact.class(&looks[0]);
        assert_eq!(exact.find(&looks[0]), Some(0));
        assert_eq!(exact.find(&Look { pixels: 1, ..looks[0] }), None);
    }

    #[test]
    fn pictures_are_found_and_their_paths_follow() {
        let row = json!({
            "image": "a.png", "images": ["sub/b.png", {"path": "c.png"}, "data:image/png;base64,AA", "/d.png", null],
            "messages": [{"role": "user", "content": [{"type": "image", "image": "e.png"}, {"type": "text", "text": "f.png"}]}],
            "prompt": "g.png", "thumbnail": "h.png",
        });
        let fields = row.as_object().unwrap();
        assert_eq!(values(fields).len(), 6);
        let moved = Value::Object(moved(fields, &|path| format!("../{path}")).unwrap());
        let want = row.to_string();
        let want = ["a.png", "sub/b.png", "c.png", "e.png"]
            .iter()
            .fold(want, |text, path| text.replace(&format!("\"{path}\""), &format!("\"../{path}\"")));
        assert_eq!(moved.to_string(), want);
        assert!(
            super::moved(json!({"image": null, "prompt": "x"}).as_object().unwrap(), &|p| p.into()).is_none()
        );
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("data"), dir.path().join("out/parts"));
        std::fs::create_dir_all(&from).unwrap();
        std::fs::create_dir_all(&to).unwrap();
        assert_eq!(from_there("images/a.png", &from, &to), "../../data/images/a.png");
        assert_eq!(from_there("images/a.png", &from, &from), "images/a.png");
        assert_eq!(from_there("a.png", &from, dir.path()), "data/a.png");
    }
}
