//! A run as one HTML page: how it went, curves, sample completions with their verdicts, its config.
//!
//! The page needs nothing but itself: no scripts, no links, styles and drawings inline, and a content security policy
//! that forbids the rest but pictures that are inside too. All text of the run is hostile input, escaped where the page is rendered (`page.rs`) and
//! nowhere else. The same files, options and version give the same bytes.

mod chart;
mod history;
mod page;
mod panels;
mod pictures;
mod rows;
mod samples;
mod summary;

use std::path::Path;

use crate::config::syntax;
use crate::error::{ConfigError, Error};
use crate::files::IoError;
use crate::files::bounded::{SMALL, read_own};
use crate::files::encoding::utf8;
use crate::run::dir::{CONFIG_FILE, RunMeta, check_records, is_run};
use crate::run::log::{METRICS_FILE, ROLLOUTS_FILE};
use history::History;
use pictures::Pictures;
use samples::{Samples, Span};

/// What the page shows beside the whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportOptions {
    /// Completions, at most.
    pub samples: usize,
    /// Which ones: the same seed chooses the same.
    pub seed: u64,
}

/// The page of the run in `dir`, which may still be under way: what was not yet written to its end is left out. Records
/// that have vanished are named, and the rest is shown.
///
/// Reads `rollouts.jsonl` once, in memory that does not grow with it.
///
/// # Errors
/// [`Error::Unusable`] when `dir` holds no run, [`Error::Data`] and [`Error::Config`] with file and line of what is
/// damaged, [`Error::Io`].
pub fn html(dir: &Path, options: &ReportOptions) -> Result<String, Error> {
    check(dir)?;
    let config_path = dir.join(CONFIG_FILE);
    let bytes = read_own(&config_path, SMALL).map_err(IoError::at("read", &config_path))?;
    let text = utf8(&bytes).map_err(|e| ConfigError::Syntax {
        path: config_path.clone(),
        line: e.line,
        message: e.to_string(),
    })?;
    let text = text.to_owned();
    let config = syntax(&text, &config_path)?;
    let rollouts = dir.join(ROLLOUTS_FILE);
    let history = History::read(&dir.join(METRICS_FILE))?;
    let span = match &history {
        Some(history) => Span::of(history),
        None => Span::of_rows(&rollouts)?,
    };
    let mut samples = Samples::read(&rollouts, span, options)?;
    samples.draw(&mut Pictures::new(&text, &config_path));
    let meta = RunMeta::read(dir);
    Ok(page::render(&page::Page::new(dir, &config, text, meta.as_ref(), history.as_ref(), samples)))
}

/// The warnings that the run in `dir` gave of itself, a sentence each, in order; empty without records.
///
/// # Errors
/// As [`html`].
pub fn warnings(dir: &Path) -> Result<Vec<String>, Error> {
    check(dir)?;
    let history = History::read(&dir.join(METRICS_FILE))?;
    Ok(history.as_ref().map(summary::health).unwrap_or_default())
}

fn check(dir: &Path) -> Result<(), Error> {
    check_records(dir)?;
    let shown = dir.display();
    let problem = match () {
        () if is_run(dir) => return Ok(()),
        () if !dir.exists() => "there is no such directory".to_owned(),
        () if !dir.is_dir() => "is a file, a run directory is needed".to_owned(),
        () if !dir.join(CONFIG_FILE).is_file() => format!("is no run directory: it has no {CONFIG_FILE}"),
        () => format!("is no run directory: it has no {METRICS_FILE}"),
    };
    let hint = "rlvr train leaves run directories (runs/<name> unless --out says otherwise)";
    let hint = match dir.join("results.json").exists() {
        true => "for what rlvr eval wrote there is rlvr eval report",
        false => hint,
    };
    Err(Error::Unusable { what: format!("{shown}: {problem}; {hint}") })
}
