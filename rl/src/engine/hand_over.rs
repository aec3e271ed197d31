//! Weights in files that servers read: whole when they have their name, one directory a version.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rlvr_policies::SaveDtype;

use crate::config::Handover;
use crate::error::Error;
use crate::files::IoError;
use crate::policy::Policy;
use crate::servers::EngineError;

/// Writes the weights of a policy into `folder/name`, which is there when all of it is.
///
/// # Errors
/// An unwritable folder; a policy without an adapter where one is handed over.
pub(super) fn write(policy: &Policy, how: Handover, folder: &Path, name: &str) -> Result<PathBuf, Error> {
    let (whole, partial) = (folder.join(name), folder.join(format!("{name}.partial")));
    remove(&partial)?;
    remove(&whole)?;
    fs::create_dir_all(&partial).map_err(IoError::at("create", &partial))?;
    let saved = policy.saved();
    match how {
        Handover::Adapter if policy.decoder.lora().is_none() => {
            let what = "the policy has no adapter to hand over; use sync = \"folder\"".to_owned();
            return Err(EngineError::Unsupported(what).into());
        }
        Handover::Adapter => saved.save(&partial)?,
        Handover::Folder | Handover::None => saved.save_untied(&partial, SaveDtype::F32)?,
    }
    for entry in fs::read_dir(&partial).map_err(IoError::at("read", &partial))?.flatten() {
        let path = entry.path();
        File::open(&path).and_then(|file| file.sync_all()).map_err(IoError::at("write", &path))?;
    }
    fs::rename(&partial, &whole).map_err(IoError::at("write", &whole))?;
    // A marker that watchers of folders know.
    File::create(whole.join("STABLE")).map_err(IoError::at("write", &whole))?;
    Ok(whole)
}

/// Removes a directory of weights, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(IoError::at("remove", path)(e).into()),
        _ => Ok(()),
    }
}
