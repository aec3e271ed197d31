//! Reading within a bound: files that somebody else may have written, or put something else in the place of.
//!
//! A sparse file of gigabytes takes no disk, and a device has no end. Whatever is read as a whole has a length that no
//! file of its kind reaches, and of files that are read line by line a line has.

use super::{open_own, regular};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, ErrorKind, Read};
use std::path::Path;

/// Most bytes of a file of settings or facts, such as `config.toml`.
pub const SMALL: u64 = 16 << 20;
/// Most bytes of a file that says something about each of many tasks or files, such as `results.json`.
pub const LARGE: u64 = 256 << 20;
/// Most bytes of a file of rows that is read as a whole.
pub const WHOLE: u64 = 4 << 30;
/// Most bytes of a JSON array of rows, which takes several times as much memory as values.
pub const ARRAY: u64 = 1 << 30;
/// Most bytes of a line of a file of rows.
pub const LINE: u64 = 64 << 20;

/// Reads a file that must be a regular one of at most `most` bytes: no link is followed, and no pipe waited for.
///
/// # Errors
/// A file that cannot be read, a longer one, and what is no regular file.
pub fn read_own(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    whole(open_own(path, OpenOptions::new().read(true))?, most)
}

/// Reads a file of at most `most` bytes that must be regular where links lead to; no pipe is waited for.
///
/// # Errors
/// As [`read_own`].
pub fn read_regular(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    whole(open_regular(path)?, most)
}

/// Reads what somebody named, which may be a pipe, of at most `most` bytes.
///
/// # Errors
/// What cannot be read, or is longer.
pub fn read_named(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    whole(File::open(path)?, most)
}

/// Reads a file to the end, of which nothing is read where its length says that it is too long.
fn whole(file: File, most: u64) -> io::Result<Vec<u8>> {
    let facts = file.metadata()?;
    match facts.is_file() && facts.len() > most {
        true => Err(longer(most)),
        false => within(file, most),
    }
}

/// Opens a file that must be regular where links lead to; no pipe is waited for.
///
/// # Errors
/// A file that cannot be opened, and what is no regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // Before opening, which would wait for the other end of a pipe.
    regular(&fs::metadata(path)?)?;
    File::open(path)
}

/// Reads to the end, at most `most` bytes.
///
/// # Errors
/// What cannot be read, or is longer.
pub fn within(from: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than allowed shows a file that is longer, also one that has grown.
    from.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(longer(most)),
        false => Ok(bytes),
    }
}

/// Reads a line with its end into `bytes`, which are emptied before; gives its length, 0 at the end of the file.
///
/// # Errors
/// What cannot be read, and a line of more than [`LINE`] bytes.
pub fn line(from: &mut impl BufRead, bytes: &mut Vec<u8>) -> io::Result<usize> {
    bytes.clear();
    let read = from.take(LINE + 1).read_until(b'\n', bytes)?;
    match read as u64 > LINE {
        true => Err(too_long(&format!("a line has more than {}, as no row has", size(LINE)))),
        false => Ok(read),
    }
}

fn longer(most: u64) -> io::Error {
    too_long(&format!("it has more than {}, as no such file has", size(most)))
}

fn too_long(what: &str) -> io::Error {
    io::Error::new(ErrorKind::FileTooLarge, what)
}

fn size(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{bytes} bytes"),
        mib if mib % 1024 == 0 => format!("{} GiB", mib / 1024),
        mib => format!("{mib} MiB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_longer_than_allowed_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "12345").unwrap();
        for read in [read_own, read_regular, read_named] {
            assert_eq!(read(&path, 5).unwrap(), b"12345");
            let error = read(&path, 4).unwrap_err();
            assert_eq!(
                (error.kind(), error.to_string().contains("more than 4 bytes")),
                (ErrorKind::FileTooLarge, true)
            );
        }
    }

    #[test]
    fn nothing_is_read_of_a_file_that_is_too_long() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.json");
        // Without a byte on the disk; reading it would take minutes and more memory than there is.
        File::create(&path).unwrap().set_len(1 << 42).unwrap();
        type Read = fn(&Path, u64) -> io::Result<Vec<u8>>;
        let reads: [(Read, u64); 3] = [(read_own, LARGE), (read_regular, WHOLE), (read_named, ARRAY)];
        for (read, most) in reads {
            let error = read(&path, most).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        }
    }

    #[test]
    fn a_line_without_an_end_is_refused() {
        let mut bytes = Vec::new();
        let mut rows = &b"one\ntwo"[..];
        assert_eq!((line(&mut rows, &mut bytes).unwrap(), &bytes[..]), (4, &b"one\n"[..]));
        assert_eq!((line(&mut rows, &mut bytes).unwrap(), &bytes[..]), (3, &b"two"[..]));
        assert_eq!(line(&mut rows, &mut bytes).unwrap(), 0);
        let error = line(&mut io::BufReader::new(io::repeat(0)), &mut bytes).unwrap_err();
        assert!(error.to_string().contains("a line has more than 64 MiB"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn pipes_are_not_waited_for_and_devices_not_read_to_their_end() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, link) = (dir.path().join("pipe"), dir.path().join("link"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        std::os::unix::fs::symlink("pipe", &link).unwrap();
        for path in [&pipe, &link, Path::new("/dev/zero")] {
            for read in [read_own, read_regular] {
                assert_eq!(read(path, SMALL).unwrap_err().kind(), ErrorKind::InvalidInput, "{path:?}");
            }
        }
        assert_eq!(read_named(Path::new("/dev/zero"), SMALL).unwrap_err().kind(), ErrorKind::FileTooLarge);
    }
}
