//! A policy that is an adapter over another one.
use super::PolicyFiles;
use crate::adapter::AdapterFiles;
use crate::error::PolicyError;
use crate::hub::{self, HubOptions};
use std::path::{Path, PathBuf};

/// What separates base and adapter where both are given: `BASE+ADAPTER`.
const BOTH: char = '+';

/// Base and adapter of `BASE+ADAPTER`, if the second part is the folder of an adapter.
pub(super) fn both(spec: &str) -> Option<(&str, &Path)> {
    let (base, adapter) = spec.rsplit_once(BOTH)?;
    let adapter = Path::new(adapter);
    (!base.is_empty() && AdapterFiles::are_in(adapter)).then_some((base, adapter))
}

impl PolicyFiles {
    /// Opens the adapter in a folder over `base`, or over the policy that its config names.
    ///
    /// # Errors
    /// As [`PolicyFiles::open`]; a base that is not there or is an adapter itself.
    pub(super) fn open_adapter(
        folder: &Path,
        base: Option<&str>,
        hub: &HubOptions,
    ) -> Result<Self, PolicyError> {
        let adapter = AdapterFiles::open(folder)?;
        let base = match (base, &adapter.base) {
            (Some(base), _) => base.to_owned(),
            (None, Some(named)) => found(folder, named)?,
            (None, None) => return Err(no_base(folder, "is missing")),
        };
        let mut files = Self::open_with(&base, hub)?;
        if files.adapter.is_some() {
            return Err(no_base(
                folder,
                &format!("= {base:?} is an adapter, too: merge that first (rlvr merge)"),
            ));
        }
        // What was saved with the adapter: a run may have other end tokens or another template than its base.
        if folder.join("tokenizer.json").is_file() {
            let (tokenizer, mut assets, templates) = Self::text_of(folder, files.config.vocab_size)?;
            assets.processors = files.assets.processors;
            let processor = files.processor;
            files = Self::assemble(files.config, files.weights, tokenizer, assets, folder, templates)?;
            files.processor = processor;
        }
        files.base = Some(base);
        files.source = folder.into();
        files.adapter = Some(adapter);
        Ok(files)
    }
}

fn no_base(folder: &Path, problem: &str) -> PolicyError {
    let hint = "give both as --policy BASE+ADAPTER";
    PolicyError::ConfigKey {
        path: folder.join(crate::adapter::CONFIG),
        key: "base_model_name_or_path".into(),
        problem: format!("{problem}; {hint}"),
    }
}

/// The base that an adapter's config names: a path from the adapter's folder or one above it, the nearest first, a path from
/// the working directory, or a hub id. A run names what lies in its own directory, whatever the working directory holds.
fn found(folder: &Path, named: &str) -> Result<String, PolicyError> {
    let path = Path::new(named);
    if path.is_absolute() {
        return Ok(named.to_owned());
    }
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.into());
    let near: Option<PathBuf> = whole.ancestors().map(|above| above.join(named)).find(|path| path.exists());
    match near.as_deref().and_then(Path::to_str) {
        Some(near) => Ok(near.to_owned()),
        None if path.exists() => Ok(named.to_owned()),
        None if hub::is_repo_id(named) => Ok(named.to_owned()),
        None => {
            let problem =
                format!("= {named:?} is neither a path from here or from a folder above it nor a hub id");
            Err(no_base(folder, &problem))
        }
    }
}
