//! Checkpoints: directories that are either whole or not there.
//!
//! `checkpoints/step-NNNNNN/` holds what the caller writes (the weights as a Hugging Face folder), named f32 tensors,
//! `state.json`, and `manifest.json` with the size and checksum of every file. It is written under a temporary name,
//! synced and renamed; what a dead process left half-written is removed at the next start, and a damaged checkpoint is
//! set aside in favour of the one before it.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::CheckpointConfig;
use crate::files::bounded::{LARGE, read_own};
use crate::files::destination::{TEMPORARY, replace_atomic, sync_dir};
use crate::files::tensors::{self, Elements, NamedTensor, TensorMap, TensorsError};
use crate::files::{IoError, is_own_file, open_own};
use crate::random::Checksum;

const MANIFEST: &str = "manifest.json";
const STATE: &str = "state.json";
const DAMAGED: &str = "damaged-";

/// Version of the layout that this code writes and reads.
pub const FORMAT: u32 = 1;

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A file does not hold what it should.
    #[error("{} is damaged: {reason}", path.display())]
    Corrupt {
        /// The file or checkpoint.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The caller's part of a checkpoint could not be written.
    #[error("cannot write the policy into {}", path.display())]
    Policy {
        /// The checkpoint's temporary directory, since removed.
        path: PathBuf,
        /// What the caller said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Checkpoints are there, but none is whole.
    #[error("no checkpoint in {} can be used:\n  {}", dir.display(), reasons.join("\n  "))]
    NoneUsable {
        /// The directory of checkpoints.
        dir: PathBuf,
        /// One line a checkpoint.
        reasons: Vec<String>,
    },
}

impl From<TensorsError> for CheckpointError {
    fn from(error: TensorsError) -> Self {
        match error {
            TensorsError::Io(error) => Self::Io(error),
            TensorsError::Corrupt { path, reason } => Self::Corrupt { path, reason },
        }
    }
}

/// Everything a run needs to continue, apart from tensors. All randomness is keyed by these numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainState {
    /// [`FORMAT`] of the code that wrote it.
    pub format: u32,
    /// Seed of the run.
    pub seed: u64,
    /// Steps done over all stages; names the checkpoint.
    pub step: u64,
    /// Index of the stage that `step` belongs to.
    pub stage: usize,
    /// Steps done in that stage.
    pub step_in_stage: u64,
    /// Optimizer steps done in that stage.
    pub optimizer_steps: u64,
    /// Position in that stage's data order, see [`crate::data::TaskSource::index_at`].
    pub data_position: u64,
    /// Version of the weights, counted in optimizer steps over all stages.
    pub policy_version: u64,
    /// Value of `checkpoint.keep_best`'s metric at this step, when it was measured.
    pub score: Option<f64>,
    /// What else the loop wants to remember.
    #[serde(default)]
    pub extra: Map<String, Value>,
}

impl TrainState {
    /// The state before the first step.
    pub fn start(seed: u64) -> Self {
        Self {
            format: FORMAT,
            seed,
            step: 0,
            stage: 0,
            step_in_stage: 0,
            optimizer_steps: 0,
            data_position: 0,
            policy_version: 0,
            score: None,
            extra: Map::new(),
        }
    }
}

/// A checkpoint that is whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Its directory, a Hugging Face folder when the caller wrote one.
    pub path: PathBuf,
    /// Where training stands.
    pub state: TrainState,
}

impl Checkpoint {
    /// The checkpoint in a directory.
    ///
    /// # Errors
    /// [`CheckpointError`]: it is damaged.
    pub fn open(path: PathBuf) -> Result<Self, CheckpointError> {
        let state = verify(&path)?;
        Ok(Self { path, state })
    }

    /// The tensors saved under `name`.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn tensors(&self, name: &str) -> Result<TensorMap, CheckpointError> {
        Ok(tensors::read(&self.path.join(format!("{name}.safetensors")))?)
    }

    /// The elements of the tensors saved under `name`, which may be codes.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn elements(&self, name: &str) -> Result<BTreeMap<String, Elements>, CheckpointError> {
        let read = tensors::read_elements(&self.path.join(format!("{name}.safetensors")))?;
        Ok(read.into_iter().map(|(name, (_, elements))| (name, elements)).collect())
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    files: BTreeMap<String, FileRecord>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRecord {
    bytes: u64,
    checksum: String,
}

/// The directory `checkpoints/` of a run.
#[derive(Debug, Clone)]
pub struct CheckpointStore {
    dir: PathBuf,
    config: CheckpointConfig,
}

impl CheckpointStore {
    /// The store at `dir`, which need not exist yet.
    pub fn new(dir: &Path, config: &CheckpointConfig) -> Self {
        Self { dir: dir.to_path_buf(), config: config.clone() }
    }

    /// The published checkpoints by step, ascending, unchecked.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
        let step =
            |path: PathBuf| Some((path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()?, path));
        let mut found: Vec<(u64, PathBuf)> = self.entries()?.0.into_iter().filter_map(step).collect();
        found.sort();
        Ok(found)
    }

    /// The directories with a name of ours, and what has such a name and is no directory. Anything else that lies here
    /// is somebody else's, and neither read nor removed.
    fn entries(&self) -> Result<(Vec<PathBuf>, Vec<PathBuf>), CheckpointError> {
        let mut found = (Vec::new(), Vec::new());
        if !self.dir.exists() {
            return Ok(found);
        }
        for entry in fs::read_dir(&self.dir).map_err(IoError::at("read", &self.dir))? {
            let entry = entry.map_err(IoError::at("read", &self.dir))?;
            if !entry.file_name().to_str().is_some_and(is_ours) {
                continue;
            }
            match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => found.0.push(entry.path()),
                false => found.1.push(entry.path()),
            }
        }
        found.0.sort();
        found.1.sort();
        Ok(found)
    }

    /// Writes a checkpoint, publishes it, and prunes.
    ///
    /// `tensors` become `<name>.safetensors`; `policy` writes the weights into the directory it is given. Nothing
    /// counts before everything is on the disk, and on an error nothing stays.
    ///
    /// # Errors
    /// [`CheckpointError`]: most often a full disk.
    pub fn save(
        &self,
        state: &TrainState,
        tensors: &[(&str, Vec<NamedTensor>)],
        policy: impl FnOnce(&Path) -> Result<(), Box<dyn StdError + Send + Sync>>,
    ) -> Result<Checkpoint, CheckpointError> {
        let name = format!("step-{:06}", state.step);
        let temporary = self.dir.join(format!("{TEMPORARY}{name}"));
        let path = self.dir.join(&name);
        let outcome =
            self.write(&temporary, state, tensors, policy).and_then(|()| self.publish(&temporary, &path));
        if let Err(error) = outcome {
            // Already failing; what stays behind is ignored by name.
            let _ = fs::remove_dir_all(&temporary);
            return Err(error);
        }
        self.prune(state.step)?;
        Ok(Checkpoint { path, state: state.clone() })
    }

    fn write(
        &self,
        at: &Path,
        state: &TrainState,
        tensors: &[(&str, Vec<NamedTensor>)],
        policy: impl FnOnce(&Path) -> Result<(), Box<dyn StdError + Send + Sync>>,
    ) -> Result<(), CheckpointError> {
        clear(at)?;
        fs::create_dir_all(at).map_err(IoError::at("create the directory", at))?;
        policy(at).map_err(|source| CheckpointError::Policy { path: at.to_path_buf(), source })?;
        for (name, tensors) in tensors {
            tensors::write(&at.join(format!("{name}.safetensors")), tensors)?;
        }
        write_json(&at.join(STATE), state)?;
        let mut manifest = Manifest { format: FORMAT, files: BTreeMap::new() };
        record(at, "", &mut manifest.files)?;
        write_json(&at.join(MANIFEST), &manifest)?;
        Ok(sync_dir(at)?)
    }

    fn publish(&self, temporary: &Path, path: &Path) -> Result<(), CheckpointError> {
        clear(path)?;
        fs::rename(temporary, path).map_err(IoError::at("publish", path))?;
        Ok(sync_dir(&self.dir)?)
    }

    /// The newest checkpoint that is whole, or none when there are no checkpoints.
    ///
    /// Half-written ones are removed, ones that only lacked their name get it, and damaged ones are renamed to
    /// `damaged-…`, each with a note for people.
    ///
    /// # Errors
    /// [`CheckpointError::NoneUsable`] when all are damaged; they keep their names then.
    pub fn latest(&self) -> Result<(Option<Checkpoint>, Vec<String>), CheckpointError> {
        let (entries, others) = self.entries()?;
        let mut notes: Vec<String> = (others.iter())
            .map(|path| format!("{} is no directory, so no checkpoint, and is left alone", path.display()))
            .collect();
        for path in entries {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !name.starts_with(TEMPORARY) {
                continue;
            }
            let published = self.dir.join(name.trim_start_matches(TEMPORARY));
            if !name.contains("old-") && !published.exists() && verify(&path).is_ok() {
                // It was whole; only its name was missing.
                notes.push(format!("{} was written but not published, which is done now", path.display()));
                self.publish(&path, &published)?;
            } else {
                notes.push(format!("{} was not written to its end and is removed", path.display()));
                fs::remove_dir_all(&path).map_err(IoError::at("remove", &path))?;
            }
        }
        let mut damaged: Vec<PathBuf> = Vec::new();
        let mut reasons = Vec::new();
        for (_, path) in self.list()?.into_iter().rev() {
            match verify(&path) {
                Ok(state) => {
                    for bad in &damaged {
                        self.set_aside(bad)?;
                    }
                    notes.extend(reasons.iter().map(|r| format!("{r}; using {} instead", path.display())));
                    return Ok((Some(Checkpoint { path, state }), notes));
                }
                Err(error) => {
                    reasons.push(error.to_string());
                    damaged.push(path);
                }
            }
        }
        if reasons.is_empty() {
            return Ok((None, notes));
        }
        Err(CheckpointError::NoneUsable { dir: self.dir.clone(), reasons })
    }

    fn set_aside(&self, path: &Path) -> Result<(), CheckpointError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = self.dir.join(format!("{DAMAGED}{name}"));
        clear(&aside)?;
        Ok(fs::rename(path, &aside).map_err(IoError::at("rename", path))?)
    }

    /// Removes what neither `keep_last` nor `keep_stages` nor `keep_best` keeps; `newest` always stays, and so does a directory that never
    /// was a checkpoint.
    fn prune(&self, newest: u64) -> Result<(), CheckpointError> {
        let all = self.list()?;
        let best = self.best(&all);
        let first_kept = all.len().saturating_sub(self.config.keep_last.max(1));
        let ends = if self.config.keep_stages { ends_of_stages(&all) } else { Vec::new() };
        for (step, path) in &all[..first_kept] {
            let kept = Some(*step) == best || *step == newest || ends.contains(step);
            if kept || !path.join(MANIFEST).exists() {
                continue;
            }
            // Under its temporary name a half-removed checkpoint is never taken for a whole one.
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let going = self.dir.join(format!("{TEMPORARY}old-{name}"));
            clear(&going)?;
            fs::rename(path, &going).map_err(IoError::at("remove", path))?;
            fs::remove_dir_all(&going).map_err(IoError::at("remove", &going))?;
        }
        Ok(())
    }

    /// The step with the best score, the earliest of equals.
    fn best(&self, all: &[(u64, PathBuf)]) -> Option<u64> {
        self.config.keep_best.as_ref()?;
        let sign = if self.config.lower_is_better { -1.0 } else { 1.0 };
        let mut best: Option<(f64, u64)> = None;
        for (step, path) in all {
            let score = read_json::<TrainState>(&path.join(STATE)).ok().and_then(|s| s.score);
            let Some(score) = score.filter(|s| s.is_finite()).map(|s| s * sign) else { continue };
            if best.is_none_or(|(top, _)| score > top) {
                best = Some((score, *step));
            }
        }
        best.map(|(_, step)| step)
    }
}

/// The last step of every stage among checkpoints in their order.
fn ends_of_stages(all: &[(u64, PathBuf)]) -> Vec<u64> {
    let mut last = BTreeMap::new();
    for (step, path) in all {
        if let Ok(state) = read_json::<TrainState>(&path.join(STATE)) {
            last.insert(state.stage, *step);
        }
    }
    last.into_values().collect()
}

/// Makes room for a directory: removes one of the same name, and gives anything else, which cannot be ours, another name.
fn clear(path: &Path) -> Result<(), IoError> {
    let Ok(there) = fs::symlink_metadata(path) else { return Ok(()) };
    if there.is_dir() {
        return fs::remove_dir_all(path).map_err(IoError::at("remove", path));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let free = |n: u32| path.with_file_name(format!("{name}.other-{n}"));
    let Some(to) = (1..).map(free).find(|to| fs::symlink_metadata(to).is_err()) else { return Ok(()) };
    tracing::warn!("{} was in the way of a checkpoint and is {} now", path.display(), to.display());
    fs::rename(path, to).map_err(IoError::at("rename", path))
}

/// Whether `name` is one that this module gives to an entry of `checkpoints/`.
pub(crate) fn is_ours(name: &str) -> bool {
    let name = name.strip_prefix(TEMPORARY).or_else(|| name.strip_prefix(DAMAGED)).unwrap_or(name);
    let digits = name.strip_prefix("old-").unwrap_or(name).strip_prefix("step-").unwrap_or_default();
    digits.len() >= 6 && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Refuses what is no regular file in the checkpoints of a run: a link, a pipe. What is no directory of ours is left alone.
pub(crate) fn refuse_others(checkpoints: &Path) -> Result<(), IoError> {
    fn walk(dir: &Path) -> Result<(), IoError> {
        for entry in fs::read_dir(dir).map_err(IoError::at("read", dir))? {
            let path = entry.map_err(IoError::at("read", dir))?.path();
            match fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
                true => walk(&path)?,
                false => drop(is_own_file(&path)?),
            }
        }
        Ok(())
    }
    let store = CheckpointStore::new(checkpoints, &CheckpointConfig::default());
    match store.entries() {
        Ok((ours, _)) => ours.iter().try_for_each(|dir| walk(dir)),
        Err(CheckpointError::Io(error)) => Err(error),
        Err(_) => Ok(()),
    }
}

/// Checks every file of a checkpoint against its manifest and returns its state.
///
/// # Errors
/// [`CheckpointError::Corrupt`] with the file at fault.
pub fn verify(path: &Path) -> Result<TrainState, CheckpointError> {
    let manifest: Manifest = read_json(&path.join(MANIFEST))?;
    if manifest.format != FORMAT {
        let reason = format!("it has format {}, this version reads {FORMAT}", manifest.format);
        return Err(CheckpointError::Corrupt { path: path.to_path_buf(), reason });
    }
    for (name, expected) in &manifest.files {
        let file = path.join(name);
        let corrupt = |reason: String| CheckpointError::Corrupt { path: file.clone(), reason };
        let bytes = fs::symlink_metadata(&file).map_err(|e| corrupt(e.to_string()))?.len();
        if bytes != expected.bytes {
            return Err(corrupt(format!("it has {bytes} bytes and should have {}", expected.bytes)));
        }
        if checksum(&file)? != expected.checksum {
            return Err(corrupt("its checksum does not fit its content".to_owned()));
        }
    }
    if !manifest.files.contains_key(STATE) {
        return Err(CheckpointError::Corrupt {
            path: path.join(MANIFEST),
            reason: format!("it has no {STATE}"),
        });
    }
    read_json(&path.join(STATE))
}

/// Syncs every file below `dir` and notes its size and checksum under its relative name.
fn record(dir: &Path, prefix: &str, files: &mut BTreeMap<String, FileRecord>) -> Result<(), IoError> {
    for entry in fs::read_dir(dir).map_err(IoError::at("read", dir))? {
        let path = entry.map_err(IoError::at("read", dir))?.path();
        let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            record(&path, &format!("{name}/"), files)?;
            sync_dir(&path)?;
            continue;
        }
        File::open(&path).and_then(|f| f.sync_all()).map_err(IoError::at("sync", &path))?;
        let bytes = fs::metadata(&path).map_err(IoError::at("read", &path))?.len();
        files.insert(name, FileRecord { bytes, checksum: checksum(&path)? });
    }
    Ok(())
}

fn checksum(path: &Path) -> Result<String, IoError> {
    let mut file = open_own(path, fs::OpenOptions::new().read(true)).map_err(IoError::at("open", path))?;
    let mut sum = Checksum::default();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(IoError::at("read", path))? {
            0 => return Ok(format!("{:016x}", sum.finish())),
            read => sum.update(&buffer[..read]),
        }
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), IoError> {
    let text = serde_json::to_string_pretty(value).map_err(|e| IoError::at("write", path)(e.into()))?;
    replace_atomic(path, format!("{text}\n").as_bytes())
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, CheckpointError> {
    let corrupt = |reason: String| CheckpointError::Corrupt { path: path.to_path_buf(), reason };
    let text = read_own(path, LARGE).map_err(|e| corrupt(e.to_string()))?;
    serde_json::from_slice(&text).map_err(|e| corrupt(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tensors::HostTensor;

    fn store(dir: &Path, keep_last: usize, keep_best: bool) -> CheckpointStore {
        let keep_best = keep_best.then(|| "eval/test/greedy".to_owned());
        CheckpointStore::new(dir, &CheckpointConfig { keep_last, keep_best, ..CheckpointConfig::default() })
    }

    fn moments(step: u64) -> TensorMap {
        [("w.m".to_owned(), HostTensor { shape: vec![2], data: vec![step as f32, 0.5] })]
            .into_iter()
            .collect()
    }

    fn named(map: TensorMap) -> Vec<NamedTensor> {
        map.into_iter().map(|(name, t)| NamedTensor::shared(name, &t.shape, t.data.into())).collect()
    }

    fn save(store: &CheckpointStore, step: u64, score: Option<f64>) -> Result<Checkpoint, CheckpointError> {
        let state = TrainState { step, score, ..TrainState::start(1) };
        store.save(&state, &[("optimizer", named(moments(step)))], |dir| {
            fs::create_dir(dir.join("sub"))?;
            fs::write(dir.join("sub/notes.txt"), b"deep")?;
            Ok(fs::write(dir.join("model.safetensors"), b"weights")?)
        })
    }

    fn steps(store: &CheckpointStore) -> Vec<u64> {
        store.list().unwrap().into_iter().map(|(step, _)| step).collect()
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir.path().join("checkpoints"), 2, false);
        assert_eq!(store.latest().unwrap(), (None, vec![]));
        let saved = save(&store, 12, Some(0.5)).unwrap();
        assert!(saved.path.ends_with("checkpoints/step-000012"));
        let (loaded, notes) = store.latest().unwrap();
        assert_eq!((loaded.as_ref(), notes.len()), (Some(&saved), 0));
        assert_eq!(loaded.unwrap().tensors("optimizer").unwrap(), moments(12));
        // Saving a step again replaces it.
        assert_eq!(save(&store, 12, None).unwrap().state.score, None);
        assert_eq!(store.latest().unwrap().0.unwrap().state.score, None);
    }

    #[test]
    fn the_last_and_the_best_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let plain = store(&dir.path().join("plain"), 2, false);
        let best = store(&dir.path().join("best"), 1, true);
        for (step, score) in [(1, Some(0.1)), (2, Some(0.9)), (3, None), (4, Some(0.9)), (5, Some(f64::NAN))]
        {
            save(&plain, step, score).unwrap();
            save(&best, step, score.filter(|s| s.is_finite())).unwrap();
        }
        assert_eq!(steps(&plain), [4, 5]);
        assert_eq!(steps(&best), [2, 5]);
    }

    #[test]
    fn the_last_of_every_stage_is_kept_where_that_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        for (keep_stages, kept) in [(false, &[6, 7][..]), (true, &[2, 5, 6, 7])] {
            let path = dir.path().join(keep_stages.to_string());
            let store = CheckpointStore::new(&path, &CheckpointConfig { keep_stages, ..Default::default() });
            for (step, stage) in [(1, 0), (2, 0), (3, 1), (4, 1), (5, 1), (6, 2), (7, 2)] {
                let state = TrainState { step, stage, ..TrainState::start(1) };
                store.save(&state, &[], |dir| Ok(fs::write(dir.join("model.safetensors"), b"w")?)).unwrap();
            }
            assert_eq!(steps(&store), kept);
        }
    }

    #[test]
    fn half_written_checkpoints_are_removed_with_a_message() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), 2, false);
        save(&store, 1, None).unwrap();
        fs::create_dir(dir.path().join(".tmp-step-000002")).unwrap();
        fs::write(dir.path().join(".tmp-step-000002/model.safetensors"), b"wei").unwrap();
        let (latest, notes) = store.latest().unwrap();
        assert_eq!(latest.unwrap().state.step, 1);
        assert!(notes[0].contains(".tmp-step-000002") && notes[0].contains("removed"), "{notes:?}");
        assert!(!dir.path().join(".tmp-step-000002").exists());
    }

    #[test]
    fn what_others_keep_among_the_checkpoints_stays_and_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), 2, false);
        let directories =
            [".tmp-notes/mine", "best/state.json", "step-000002-copy/state.json", "step-000000/mine"];
        let files = ["notes.txt", ".tmp-step-000003", "damaged-step-000002"];
        let in_the_way = ["step-000009", "damaged-step-000009", ".tmp-old-step-000001"];
        for file in directories.iter().chain(&files).chain(&in_the_way) {
            fs::create_dir_all(dir.path().join(file).parent().unwrap()).unwrap();
            fs::write(dir.path().join(file), "x").unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(dir.path().join("best"), dir.path().join("step-000008")).unwrap();
        for step in [1, 2, 4] {
            save(&store, step, None).unwrap();
        }
        let (latest, notes) = store.latest().unwrap();
        assert_eq!(latest.unwrap().state.step, 4);
        assert!(notes.len() >= 4 && notes.iter().all(|note| note.contains("is no directory")), "{notes:?}");
        assert_eq!(steps(&store), [0, 2, 4]);
        // What stands where a checkpoint must go gets another name.
        let newest = save(&store, 9, None).unwrap().path;
        fs::remove_file(newest.join(STATE)).unwrap();
        assert_eq!(store.latest().unwrap().0.unwrap().state.step, 4);
        assert!(dir.path().join("damaged-step-000009").is_dir());
        let moved = in_the_way.map(|file| format!("{file}.other-1"));
        for file in directories.into_iter().chain(files).chain(moved.iter().map(String::as_str)) {
            assert!(dir.path().join(file).exists(), "{file}");
        }
    }

    #[test]
    fn a_whole_checkpoint_that_only_lacked_its_name_counts() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), 2, false);
        let path = save(&store, 3, None).unwrap().path;
        fs::rename(&path, dir.path().join(".tmp-step-000003")).unwrap();
        let (latest, notes) = store.latest().unwrap();
        assert_eq!((latest.unwrap().path, notes.len()), (path, 1));
    }

    #[test]
    fn any_damage_to_any_file_falls_back_to_the_one_before() {
        for file in ["model.safetensors", "sub/notes.txt", "optimizer.safetensors", STATE, MANIFEST] {
            for damage in ["cut", "flip", "gone"] {
                let dir = tempfile::tempdir().unwrap();
                let store = store(dir.path(), 3, false);
                save(&store, 1, None).unwrap();
                let path = save(&store, 2, None).unwrap().path.join(file);
                let mut bytes = fs::read(&path).unwrap();
                match damage {
                    "cut" => bytes.truncate(bytes.len() / 2),
                    "flip" => bytes[0] ^= 1,
                    _ => {}
                }
                fs::write(&path, bytes).unwrap();
                if damage == "gone" {
                    fs::remove_file(&path).unwrap();
                }
                let (latest, notes) = store.latest().unwrap();
                assert_eq!(latest.unwrap().state.step, 1, "{file} {damage}");
                assert!(
                    notes[0].contains("damaged") && notes[0].contains("step-000001 instead"),
                    "{notes:?}"
                );
                assert!(dir.path().join("damaged-step-000002").exists());
                // The damaged one does not push good ones out.
                save(&store, 2, None).unwrap();
                assert_eq!(steps(&store), [1, 2]);
            }
        }
    }

    #[test]
    fn when_all_are_damaged_the_error_lists_them() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), 3, false);
        for step in [1, 2] {
            fs::remove_file(save(&store, step, None).unwrap().path.join(STATE)).unwrap();
        }
        let error = store.latest().unwrap_err().to_string();
        assert!(error.contains("step-000001") && error.contains("step-000002"), "{error}");
        assert_eq!(steps(&store), [1, 2]);
    }

    #[test]
    fn a_failed_save_leaves_nothing_and_keeps_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), 1, false);
        save(&store, 1, None).unwrap();
        let state = TrainState { step: 2, ..TrainState::start(1) };
        let error = store
            .save(&state, &[], |dir| {
                fs::write(dir.join("model.safetensors"), b"half")?;
                Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into())
            })
            .unwrap_err();
        assert!(error.to_string().contains("cannot write the policy into"), "{error}");
        assert_eq!(store.latest().unwrap().1, Vec::<String>::new());
        assert_eq!(steps(&store), [1]);
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = save(&CheckpointStore::new(&file, &CheckpointConfig::default()), 1, None).unwrap_err();
        assert!(error.to_string().contains("file/.tmp-step-000001"), "{error}");
    }

    #[test]
    fn names() {
        for (name, ours) in [
            ("step-000001", true),
            (".tmp-step-000001", true),
            (".tmp-old-step-1000000", true),
            ("damaged-step-000001", true),
            ("step-1", false),
            ("notes", false),
            ("step-000001.bak", false),
        ] {
            assert_eq!(is_ours(name), ours, "{name}");
        }
    }
}
