//! `import`: rows of any data set as tasks.

use std::collections::HashMap;
use std::path::PathBuf;

use serde_json::json;

use super::error::CurateError;
use super::output::Output;
use super::scan::{self, Input, Watch};
use super::shapes::{self, Reading};
use super::tables::{self, FileKind};
use crate::random;
use crate::rows::Row;

/// Rows of files as tasks, in the order of the files. Exact repetitions are for `dedup`; the same id with another
/// content is an error here, because nothing later could tell the two apart: 64-bit hashes of the ids and of the contents
/// are in memory, 20 to 60 bytes a row whatever its length. With `skip` rows that cannot be read are left out instead of
/// ending the import.
///
/// # Errors
/// [`CurateError`], with file and line of a row that cannot be read.
pub fn import(
    inputs: &[PathBuf],
    kind: Option<FileKind>,
    out: &mut Output,
    reading: &Reading,
    skip: bool,
    watch: &dyn Watch,
) -> Result<Vec<Input>, CurateError> {
    let mut ids: HashMap<u64, u64> = HashMap::new();
    let mut read = Vec::new();
    for (i, path) in inputs.iter().enumerate() {
        if inputs[..i].contains(path) {
            return Err(CurateError::Setting(format!("{} is named twice", path.display())));
        }
        // A file that is absent or compressed is named as such, whatever its name ends in.
        drop(scan::open(path)?);
        let kind = kind.or_else(|| FileKind::of(path)).ok_or_else(|| {
            CurateError::file(
                path,
                "the name says no kind of file; give --kind jsonl, json, csv, tsv or parquet",
            )
        })?;
        out.comes_from(path);
        read.push(tables::read(path, kind, watch, &mut |line, fields| {
            let task = match shapes::task(&fields, reading) {
                Ok(task) => task,
                Err(message) if skip => {
                    let row = Row { line, offset: 0, text: String::new(), fields };
                    return out.drop(&row, "cannot be read", json!(message));
                }
                Err(message) => return Err(CurateError::row(path, line, message)),
            };
            let id = task["id"].as_str().unwrap_or_default();
            let content = ["prompt", "reference", "image", "images"].map(|name| task[name].to_string());
            let content = random::hash_bytes(content.concat().as_bytes());
            match ids.insert(random::hash_bytes(id.as_bytes()), content) {
                Some(before) if before == content => {
                    out.count("the same row again; rlvr data dedup removes it")
                }
                Some(_) => return Err(CurateError::row(path, line, twice(id))),
                None => {}
            }
            out.write(&task)
        })?);
    }
    Ok(read)
}

fn twice(id: &str) -> String {
    format!(
        "the id {id:?} was another row's; import the files one by one with --prefix, or name another field with --id \
         (--id '' makes ids from the content)"
    )
}
