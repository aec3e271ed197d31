//! Where output goes: a file that is replaced as a whole, or a stream that is written through.
//!
//! One rule for everything that is written. A regular file appears whole or not at all, where symbolic links lead to, and
//! the links stay. One that exists is replaced only where the caller says so ([`Destination::free`]). What is no regular
//! file, such as a device, a pipe, an open descriptor (`/dev/stdout`) or `-` for stdout, is written through and never
//! replaced.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::files::{IoError, open_own};

/// How the names of files begin that are being written.
pub(crate) const TEMPORARY: &str = ".tmp-";
/// Symbolic links that may lead to each other.
const LINKS: usize = 40;

/// Why nothing can be written somewhere.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// A file is there already.
    #[error("{} exists: replace it with --force, or choose another name", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// Whoever read what is written has gone, as `head` does when it has seen enough. It is the inner error of an
/// [`io::Error`] of the kind `BrokenPipe` that comes of writing to stdout or another stream, and of nothing else.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads what is written any more")]
pub struct ReaderGone;

impl ReaderGone {
    /// The same error, marked if it says that the reader has gone.
    pub fn mark(error: io::Error) -> io::Error {
        match error.kind() {
            ErrorKind::BrokenPipe => io::Error::new(ErrorKind::BrokenPipe, Self),
            _ => error,
        }
    }

    /// Whether an error says so.
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

/// Where output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// `-`.
    Stdout,
    /// Something that is no regular file.
    Stream(PathBuf),
    /// A regular file, or none yet; where links lead to.
    File(PathBuf),
}

impl Destination {
    /// What a path stands for.
    ///
    /// # Errors
    /// A directory; a path that cannot be looked at.
    pub fn of(path: &Path) -> Result<Self, IoError> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        let failed = |source: io::Error| IoError::at("write", path)(source);
        let mut at = path.to_path_buf();
        for _ in 0..LINKS {
            let kind = match fs::symlink_metadata(&at) {
                Ok(metadata) => metadata.file_type(),
                Err(e) if e.kind() == ErrorKind::NotFound && at.file_name().is_some() => {
                    return Ok(Self::File(at));
                }
                Err(e) => return Err(failed(e)),
            };
            if kind.is_dir() {
                return Err(failed(ErrorKind::IsADirectory.into()));
            }
            if kind.is_file() {
                return Ok(Self::File(at));
            }
            if !kind.is_symlink() || is_descriptor(&at) {
                return Ok(Self::Stream(at));
            }
            let to = fs::read_link(&at).map_err(failed)?;
            at = at.parent().unwrap_or(Path::new("")).join(to);
        }
        Err(failed(io::Error::other("too many symbolic links")))
    }

    /// [`Self::of`] for the output that somebody names, with the directories above a new file.
    ///
    /// # Errors
    /// As [`Self::of`]; a file that exists, unless `force`.
    pub fn free(path: &Path, force: bool) -> Result<Self, OutputError> {
        let to = Self::of(path)?;
        if let Self::File(file) = &to {
            if !force && file.exists() {
                return Err(OutputError::Exists { path: path.to_path_buf() });
            }
            let above = parent(file);
            fs::create_dir_all(above).map_err(IoError::at("create the directory", above))?;
        }
        Ok(to)
    }

    /// Writes all of it: a file is the old one or the new one at any moment, also after a power cut.
    ///
    /// # Errors
    /// [`IoError`]; an old file is untouched then. [`ReaderGone`] inside it where nobody reads a stream any more.
    pub fn write(&self, bytes: &[u8]) -> Result<(), IoError> {
        if let Self::File(_) = self {
            let mut file = Pending::create(self.clone())?;
            file.write_all(bytes).map_err(IoError::at("write", self.path()))?;
            return file.finish();
        }
        self.through(&mut &*bytes)
    }

    fn path(&self) -> &Path {
        match self {
            Self::Stdout => Path::new("stdout"),
            Self::Stream(path) | Self::File(path) => path,
        }
    }

    /// Copies everything into a stream.
    fn through(&self, from: &mut dyn io::Read) -> Result<(), IoError> {
        let copied = match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                io::copy(from, &mut out).and_then(|_| out.flush())
            }
            // What stands in a file behind an open descriptor stays.
            _ => OpenOptions::new()
                .append(true)
                .open(self.path())
                .and_then(|mut out| io::copy(from, &mut out).and_then(|_| out.flush())),
        };
        copied.map_err(ReaderGone::mark).map_err(IoError::at("write", self.path()))
    }
}

/// Whether a link stands for an open descriptor of a process: what it shows as its target need not be there.
fn is_descriptor(link: &Path) -> bool {
    let above = parent(link).canonicalize().unwrap_or_default();
    above.starts_with("/proc") && above.ends_with("fd")
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Output that is being written and counts when it is finished; nothing is left of it otherwise.
///
/// A file is written under a temporary name beside it, which no other process can write at the same time. What goes to
/// a stream is kept in an unnamed file until then.
#[derive(Debug)]
pub(crate) struct Pending {
    to: Destination,
    /// Of a file.
    temporary: Option<PathBuf>,
    file: File,
}

impl Pending {
    pub(crate) fn create(to: Destination) -> Result<Self, IoError> {
        let Destination::File(path) = &to else {
            let file = tempfile::tempfile().map_err(IoError::at("write into", &std::env::temp_dir()))?;
            return Ok(Self { to, temporary: None, file });
        };
        let mut name = OsString::from(TEMPORARY);
        name.push(path.file_name().unwrap_or_default());
        let temporary = path.with_file_name(name);
        let file = exclusive(&temporary).map_err(IoError::at("write", path))?;
        if let Ok(old) = fs::metadata(path) {
            // Who may read the old one may read the new one, and nobody else.
            let _ = file.set_permissions(old.permissions());
        }
        Ok(Self { to, temporary: Some(temporary), file })
    }

    pub(crate) fn finish(mut self) -> Result<(), IoError> {
        let path = self.to.path();
        let Some(temporary) = self.temporary.take() else {
            self.file.seek(SeekFrom::Start(0)).map_err(IoError::at("write", path))?;
            return self.to.through(&mut self.file);
        };
        if let Err(e) = self.file.sync_all().and_then(|()| fs::rename(&temporary, path)) {
            let _ = fs::remove_file(&temporary);
            return Err(IoError::at("write", path)(e));
        }
        sync_dir(parent(path))
    }
}

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            let _ = fs::remove_file(temporary);
        }
    }
}

/// The empty file of a temporary name, held against other processes. One that a dead process left is used again.
fn exclusive(temporary: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    loop {
        let file = open_own(temporary, &mut options)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(ErrorKind::ResourceBusy, "another process is writing it"));
            }
            // Some network file systems have no locks.
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        // Another process may have finished it, or given it up, before it was held.
        if is_at(&file, temporary)? {
            file.set_len(0)?;
            return Ok(file);
        }
    }
}

/// Whether an open file is the one that a name stands for now.
pub(crate) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let ours = file.metadata()?;
        match fs::symlink_metadata(path) {
            Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }
    #[cfg(not(unix))]
    path.try_exists()
}

/// Writes `bytes` to `path`, see [`Destination`], whatever is there.
///
/// # Errors
/// As [`Destination::of`] and [`Destination::write`].
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), IoError> {
    Destination::of(path)?.write(bytes)
}

/// The same for a file of our own: what stands in its place, a link or a pipe, is replaced itself.
///
/// # Errors
/// [`IoError`]; an old file is untouched then.
pub(crate) fn replace_atomic(path: &Path, bytes: &[u8]) -> Result<(), IoError> {
    Destination::File(path.to_path_buf()).write(bytes)
}

/// Makes the names in a directory durable.
///
/// # Errors
/// [`IoError`].
pub fn sync_dir(dir: &Path) -> Result<(), IoError> {
    if cfg!(unix) {
        File::open(dir).and_then(|d| d.sync_all()).map_err(IoError::at("sync", dir))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_old_or_new_and_replaced_only_by_force() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("deep/er/f");
        Destination::free(&path, false).unwrap().write(b"one").unwrap();
        let error = Destination::free(&path, false).unwrap_err();
        assert!(error.to_string().contains("f exists: replace it with --force"), "{error}");
        Destination::free(&path, true).unwrap().write(b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(path.parent().unwrap()), ["f"]);
        for no_file in [root.path().to_path_buf(), root.path().join(".."), PathBuf::new(), "/".into()] {
            assert!(Destination::of(&no_file).is_err(), "{no_file:?}");
        }
        let error = write_atomic(&root.path().join("no/f"), b"x").unwrap_err();
        assert!(error.to_string().contains("no/f"), "{error}");
    }

    #[test]
    fn what_is_given_up_leaves_nothing_and_what_a_dead_process_left_is_used() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("f");
        fs::write(&path, "old").unwrap();
        let mut given_up = Pending::create(Destination::of(&path).unwrap()).unwrap();
        given_up.write_all(b"new").unwrap();
        drop(given_up);
        assert_eq!((names(root.path()), fs::read(&path).unwrap()), (vec!["f".to_owned()], b"old".to_vec()));
        fs::write(root.path().join(".tmp-f"), "longer than what comes now").unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!((names(root.path()), fs::read(&path).unwrap()), (vec!["f".to_owned()], b"new".to_vec()));
    }

    #[test]
    fn two_at_once_do_not_mix() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("f");
        let mut one = Pending::create(Destination::of(&path).unwrap()).unwrap();
        let two = Pending::create(Destination::of(&path).unwrap()).unwrap_err();
        assert!(two.to_string().contains("another process is writing it"), "{two}");
        one.write_all(b"one").unwrap();
        one.finish().unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_and_their_target_is_written() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let root = tempfile::tempdir().unwrap();
        let (link, far, target) =
            (root.path().join("link"), root.path().join("far"), root.path().join("d/target"));
        symlink("far", &link).unwrap();
        symlink("d/target", &far).unwrap();
        fs::create_dir(root.path().join("d")).unwrap();
        // Also where nothing is there yet.
        write_atomic(&link, b"one").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Destination::free(&link, false).is_err());
        write_atomic(&link, b"two").unwrap();
        assert!(
            fs::symlink_metadata(&link).unwrap().is_symlink()
                && fs::symlink_metadata(&far).unwrap().is_symlink()
        );
        assert_eq!(fs::read(&target).unwrap(), b"two");
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!((names(root.path()).len(), names(&root.path().join("d")).len()), (3, 1));
        // A temporary name that is a link is not followed.
        symlink(&target, root.path().join(".tmp-g")).unwrap();
        assert!(write_atomic(&root.path().join("g"), b"three").is_err());
        assert_eq!(fs::read(&target).unwrap(), b"two");
        let (a, b) = (root.path().join("a"), root.path().join("b"));
        symlink(&a, &b).unwrap();
        symlink(&b, &a).unwrap();
        assert_eq!(write_atomic(&a, b"x").unwrap_err().source.to_string(), "too many symbolic links");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_written_through() {
        use std::os::fd::AsRawFd;
        use std::os::unix::fs::FileTypeExt;
        let root = tempfile::tempdir().unwrap();
        let fifo = root.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        let link = root.path().join("link");
        std::os::unix::fs::symlink(&fifo, &link).unwrap();
        for path in [&fifo, &link] {
            let reader = std::thread::spawn({
                let fifo = fifo.clone();
                move || fs::read(fifo).unwrap()
            });
            // --force is about files: there is nothing to replace here.
            Destination::free(path, false).unwrap().write(b"through").unwrap();
            assert_eq!(reader.join().unwrap(), b"through");
            assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
        }
        let mut pending = Pending::create(Destination::of(&fifo).unwrap()).unwrap();
        pending.write_all(b"whole").unwrap();
        let reader = std::thread::spawn(move || fs::read(fifo).unwrap());
        pending.finish().unwrap();
        assert_eq!(reader.join().unwrap(), b"whole");
        // An open descriptor is what it is, whatever its name says.
        let mut open = fs::File::options().create(true).append(true).open(root.path().join("file")).unwrap();
        open.write_all(b"first ").unwrap();
        let descriptor = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
        assert_eq!(Destination::of(&descriptor).unwrap(), Destination::Stream(descriptor.clone()));
        Destination::of(&descriptor).unwrap().write(b"second").unwrap();
        assert_eq!(fs::read(root.path().join("file")).unwrap(), b"first second");
        assert_eq!(names(root.path()), ["fifo", "file", "link"]);
    }

    #[test]
    fn only_streams_have_readers_that_go() {
        let broken = || io::Error::from(ErrorKind::BrokenPipe);
        assert!(ReaderGone::is(&ReaderGone::mark(broken())) && !ReaderGone::is(&broken()));
        assert!(!ReaderGone::is(&ReaderGone::mark(ErrorKind::StorageFull.into())));
        #[cfg(unix)]
        {
            let (reader, writer) = io::pipe().unwrap();
            drop(reader);
            let path = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer)));
            let error = Destination::of(&path).unwrap().write(b"x").unwrap_err();
            assert!(ReaderGone::is(&error.source), "{error}");
        }
    }
}
