//! Fetches the file of a benchmark that is not there.

use crate::output::say;
use anyhow::{Context, Result};
use rlvr::eval::{OpenSettings, TaskFile, http, locate};
use rlvr::policies::hub::{self, HubOptions};

/// Makes sure that the file of a definition is there, where the definition says from where.
pub fn ensure(task: &TaskFile, settings: &OpenSettings) -> Result<()> {
    let Some(source) = &task.source else { return Ok(()) };
    let Err(missing) = locate(task, &source.file, settings) else { return Ok(()) };
    let target = settings.data_dir.join(&source.file);
    let fetched = match (&source.hub, &source.hub_file, &source.url) {
        (Some(repo), Some(file), _) => {
            let path = hub::fetch_dataset_file(repo, file, &HubOptions::from_env())?;
            std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?
        }
        (_, _, Some(url)) => http::get(url)?,
        _ => return Err(missing.into()),
    };
    let folder = target.parent().unwrap_or(&settings.data_dir);
    std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    rlvr::files::destination::write_atomic(&target, &fetched).map_err(rlvr::Error::from)?;
    say!("{}: fetched {} ({} bytes)", task.name, target.display(), fetched.len());
    Ok(())
}
