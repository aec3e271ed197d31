//! Pictures of rows: what a config says of them, and their places in prompts.

use super::DataError;
use super::template::{TemplateRow, Templates};
use rlvr_rewards::{IMAGE_PLACE, Message, TaskImage};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// Where the pictures of a row are: a template, or one for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ImagesTemplate {
    /// A picture, or a field with a list of them.
    One(String),
    /// A picture each.
    List(Vec<String>),
}

impl ImagesTemplate {
    fn list(&self) -> impl Iterator<Item = &String> {
        match self {
            Self::One(source) => std::slice::from_ref(source),
            Self::List(list) => list,
        }
        .iter()
    }

    /// Compiles the templates.
    pub(crate) fn add_to(&self, templates: &mut Templates) -> Result<(), DataError> {
        self.list().enumerate().try_for_each(|(i, source)| templates.add(&format!("images.{i}"), source))
    }

    /// What a row names; null and empty text are no picture.
    pub(crate) fn values(&self, templates: &Templates, row: &TemplateRow) -> Result<Vec<Value>, String> {
        let mut found = Vec::new();
        for (i, source) in self.list().enumerate() {
            match templates.value(&format!("images.{i}"), source, row)? {
                Value::Null => {}
                Value::String(text) if text.is_empty() => {}
                Value::Array(list) => found.extend(list),
                value => found.push(value),
            }
        }
        Ok(found)
    }
}

/// The pictures that a row has in the fields `image` and `images`, each one or a list; null and empty text are none.
pub fn of_row(fields: &Map<String, Value>) -> Vec<Value> {
    let mut found = Vec::new();
    for value in ["image", "images"].iter().filter_map(|name| fields.get(*name)) {
        match value {
            Value::Null => {}
            Value::String(text) if text.is_empty() => {}
            Value::Array(list) => found.extend(list.iter().cloned()),
            one => found.push(one.clone()),
        }
    }
    found
}

/// The pictures that messages name, and those of `images`: these fill parts that say where a picture stands and not which, or
/// come behind the others where there is none.
pub fn named(found: Vec<Value>, images: Vec<Value>) -> Vec<Value> {
    let mut images = images.into_iter();
    let fill = |value: Value| if value.is_null() { images.next().unwrap_or(value) } else { value };
    let mut all: Vec<Value> = found.into_iter().map(fill).collect();
    all.extend(images);
    all
}

/// Places of pictures in messages.
pub(super) fn places(messages: &[Message]) -> usize {
    messages.iter().map(|m| m.content.matches(IMAGE_PLACE).count()).sum()
}

/// The pictures of a prompt, which has as many places for them: it gets them before the text of the first message of the user
/// where it has none.
///
/// # Errors
/// Another number of places; a picture that is no such value.
pub fn placed(prompt: &mut [Message], values: &[Value], folder: &Path) -> Result<Vec<TaskImage>, String> {
    if values.is_empty() {
        return Ok(Vec::new());
    }
    let image = |(i, value): (usize, &Value)| match value {
        Value::Null => Err(format!("images: picture {} is named neither in its part nor in `images`", i + 1)),
        value => TaskImage::read(value, folder).map_err(|e| format!("images: picture {}: {e}", i + 1)),
    };
    let images = values.iter().enumerate().map(image).collect::<Result<Vec<_>, _>>()?;
    place(prompt, images.len())?;
    Ok(images)
}

/// Makes sure that a prompt has a place for each of its pictures: before the text of the first message of the user where it has
/// none.
///
/// # Errors
/// Another number of places.
pub(super) fn place(prompt: &mut [Message], images: usize) -> Result<(), String> {
    let places = places(prompt);
    if places == images || images == 0 {
        return Ok(());
    }
    if places > 0 {
        return Err(format!("images: the prompt has {places} places {IMAGE_PLACE}, the row {images} images"));
    }
    let first = prompt.iter_mut().find(|m| m.role == "user");
    let first = first.ok_or("images: the prompt has no message of the user to put them into")?;
    first.content.insert_str(0, &IMAGE_PLACE.repeat(images));
    Ok(())
}
