//! A repository's part of the cache, laid out as Python's `huggingface_hub` does.
//!
//! ```text
//! models--owner--name/blobs/ETAG            content, under the server's name for it
//!                    /blobs/ETAG.incomplete what has come of it
//!                    /snapshots/COMMIT/FILE relative link to a blob
//!                    /refs/main             the commit
//! .locks/models--owner--name/ETAG.lock      held (flock) while the blob is fetched
//! ```

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::RepoKind;
use super::names::is_plain;
use crate::error::PolicyError;
use crate::file::is_inside;

/// Where a repository lies in the cache.
pub(super) struct RepoCache {
    /// `…/models--owner--name`.
    pub folder: PathBuf,
    locks: PathBuf,
}

/// The right to fetch a blob; given back when dropped.
pub(super) struct Lock {
    _file: Option<File>,
    /// Where what comes of the blob is kept.
    pub partial: PathBuf,
}

impl RepoCache {
    pub fn new(cache: &Path, kind: RepoKind, repo: &str) -> Self {
        let name = format!("{}--{}", kind.plural(), repo.replace('/', "--"));
        Self { folder: cache.join(&name), locks: cache.join(".locks").join(&name) }
    }

    /// The commit of the main branch, as of the last visit.
    pub fn commit(&self) -> Option<String> {
        let text = fs::read_to_string(self.folder.join("refs/main")).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_plain(commit))
    }

    /// Remembers the commit of the main branch.
    pub fn set_commit(&self, commit: &str) -> Result<(), PolicyError> {
        if self.commit().as_deref() == Some(commit) {
            return Ok(());
        }
        self.place(&self.folder.join("refs/main"), |new| fs::write(new, commit))
    }

    /// Where a file of a commit belongs.
    pub fn snapshot(&self, commit: &str, file: &str) -> PathBuf {
        self.commit_folder(commit).join(file)
    }

    /// Where the files of a commit belong.
    pub fn commit_folder(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// A file of the main branch, if it is there.
    pub fn get(&self, file: &str) -> Option<PathBuf> {
        let path = self.snapshot(&self.commit()?, file);
        (is_inside(file) && path.is_file()).then_some(path)
    }

    /// Where the content with this name belongs.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// Makes a blob a file of a commit.
    pub fn link(&self, commit: &str, file: &str, etag: &str) -> Result<PathBuf, PolicyError> {
        let path = self.snapshot(commit, file);
        let target = Path::new(&"../".repeat(file.matches('/').count() + 2)).join("blobs").join(etag);
        if !fs::read_link(&path).is_ok_and(|old| old == target) {
            #[cfg(unix)]
            self.place(&path, |new| std::os::unix::fs::symlink(&target, new))?;
            #[cfg(not(unix))]
            self.place(&path, |new| fs::copy(self.blob(etag), new).map(drop))?;
        }
        Ok(path)
    }

    /// Makes a file elsewhere and moves it to its place, whole.
    fn place(&self, path: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<(), PolicyError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        for folder in path.parent().into_iter().chain([self.locks.as_path()]) {
            fs::create_dir_all(folder).map_err(PolicyError::write(folder))?;
        }
        let name = format!("{}-{}.new", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let new = self.locks.join(name);
        // Left by a process that had the same number and was killed.
        let _ = fs::remove_file(&new);
        make(&new).map_err(PolicyError::write(&new))?;
        fs::rename(&new, path).map_err(|e| {
            let _ = fs::remove_file(&new);
            PolicyError::write(path)(e)
        })
    }

    /// Waits until no other process fetches this blob, as long as what it fetches grows.
    pub fn lock(&self, etag: &str, file: &str, patience: Duration) -> Result<Lock, PolicyError> {
        let blobs = self.folder.join("blobs");
        for folder in [&self.locks, &blobs] {
            fs::create_dir_all(folder).map_err(PolicyError::write(folder))?;
        }
        let path = self.locks.join(format!("{etag}.lock"));
        let partial = blobs.join(format!("{etag}.incomplete"));
        // Python's parts have names of their own between the blob's and the ending.
        let is_part = |name: &str| name.starts_with(etag) && name.ends_with(".incomplete");
        let size = || -> u64 {
            let parts = fs::read_dir(&blobs).into_iter().flatten().flatten();
            let parts = parts.filter(|part| part.file_name().to_str().is_some_and(is_part));
            parts.filter_map(|part| Some(part.metadata().ok()?.len())).sum()
        };
        let (mut since, mut seen, mut told) = (Instant::now(), size(), false);
        loop {
            let lock = File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(PolicyError::write(&path))?;
            match lock.try_lock() {
                // Its holder may have removed it between opening and locking.
                Ok(()) if is_same(&lock, &path) => return Ok(Lock { _file: Some(lock), partial }),
                Ok(()) => continue,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(e)) => {
                    // A file system without locks: nobody shares what is fetched.
                    tracing::debug!("{}: {e}", path.display());
                    let partial = blobs.join(format!("{etag}.{}.incomplete", std::process::id()));
                    return Ok(Lock { _file: None, partial });
                }
            }
            if !told {
                tracing::info!("{file} is being downloaded by another process; waiting for it");
                told = true;
            }
            if size() != seen {
                (since, seen) = (Instant::now(), size());
            } else if since.elapsed() > patience {
                let busy = format!(
                    "another process holds this lock and downloads nothing for {} s; end that process",
                    patience.as_secs_f32()
                );
                return Err(PolicyError::write(&path)(std::io::Error::other(busy)));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

#[cfg(unix)]
fn is_same(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |m: fs::Metadata| (m.dev(), m.ino());
    matches!((file.metadata().map(id), fs::metadata(path).map(id)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(not(unix))]
fn is_same(_: &File, _: &Path) -> bool {
    true
}
