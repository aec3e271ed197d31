//! Input that cannot be used, and what rows of several commands share.

use rlvr::data::{named_images, placed_images, row_images};
use rlvr::rewards::{Message, TaskImage, prompt_messages, seen_messages};
use serde_json::{Map, Value};
use std::path::Path;

/// Input that cannot be used: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadInput(pub String);

/// An error that ends with exit code 2.
pub fn bad(message: impl Into<String>) -> anyhow::Error {
    BadInput(message.into()).into()
}

/// The prompt of a row: `prompt`, text or messages, or `question`.
pub fn messages(fields: &Map<String, Value>) -> Result<Vec<Message>, String> {
    let given = ["prompt", "question"].iter().find_map(|key| Some((*key, fields.get(*key)?)));
    let (key, prompt) = given.ok_or("the row has no `prompt` (or `question`)")?;
    prompt_messages(prompt, key)
}

/// The prompt of a row with its pictures: parts of messages, or the fields `image` and `images`, a list or one of them, which stand in the
/// places `<image>` or before the text. Paths are relative to `folder`.
pub fn seen(fields: &Map<String, Value>, folder: &Path) -> Result<(Vec<Message>, Vec<TaskImage>), String> {
    let given = ["prompt", "question"].iter().find_map(|key| Some((*key, fields.get(*key)?)));
    let (key, prompt) = given.ok_or("the row has no `prompt` (or `question`)")?;
    let (mut messages, values) = seen_messages(prompt, key)?;
    let images = named_images(values, row_images(fields));
    let images = placed_images(&mut messages, &images, folder)?;
    Ok((messages, images))
}

/// The candidate most like `name`, if any is.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = candidates.map(|c| (strsim::jaro_winkler(name, c), c));
    scored.filter(|(likeness, _)| *likeness > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, c)| c)
}
