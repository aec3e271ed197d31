//! One file from a server into the cache: resumed where it broke off, checked, and only then under its name.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::Trouble;
use super::cache::RepoCache;
use super::remote::{Described, Remote};
use crate::error::PolicyError;
use crate::http::{Answer, Fault, HttpError, Request};

/// Most bytes of a file whose length nobody says.
const UNSIZED_BYTES: u64 = 1 << 30;
/// Bytes after which failures are counted from 0 again.
const HEADWAY: u64 = 1 << 20;

/// Downloads a file's content, unless it is there.
///
/// # Errors
/// A server that does not deliver what it describes, within the tries of the client; a disk that cannot hold it.
pub(super) fn fetch_blob(
    remote: &Remote<'_>,
    cache: &RepoCache,
    revision: &str,
    file: &str,
    described: &Described,
) -> Result<(), Trouble> {
    let blob = cache.blob(&described.etag);
    let is_whole = || {
        fs::metadata(&blob).is_ok_and(|m| m.is_file() && described.size.is_none_or(|size| size == m.len()))
    };
    if is_whole() {
        return Ok(());
    }
    let limits = remote.client.limits();
    let lock = cache.lock(&described.etag, file, limits.whole * 2)?;
    if is_whole() {
        return Ok(());
    }
    let url = remote.url(revision, file);
    let mut part = Part::open(lock.partial.clone())?;
    let mut download = Download {
        remote,
        url: &url,
        file,
        described,
        size: described.size,
        validator: described.validator.clone(),
        ranges: true,
        progress: Progress::new(file),
    };
    let (mut failures, mut most, mut spoilt) = (0, part.length, false);
    loop {
        let error = match download.attempt(&mut part) {
            Ok(()) => break,
            Err(Trouble::Http(e)) => e,
            Err(Trouble::Spoilt(e)) if !spoilt => {
                spoilt = true;
                e
            }
            Err(other) => return Err(other),
        };
        if part.length >= most + HEADWAY {
            failures = 0;
        }
        most = most.max(part.length);
        failures += 1;
        remote.client.rest(failures, error)?;
    }
    part.file.sync_all().map_err(PolicyError::write(&part.path))?;
    fs::rename(&part.path, &blob).map_err(PolicyError::write(&blob))?;
    Ok(())
}

/// A file that is not whole yet.
struct Part {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Part {
    fn open(path: PathBuf) -> Result<Self, PolicyError> {
        let open = || {
            let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
            let length = file.seek(SeekFrom::End(0))?;
            Ok((file, length))
        };
        let (file, length) = open().map_err(PolicyError::write(&path))?;
        Ok(Self { path, file, length })
    }

    fn empty(&mut self) -> Result<(), PolicyError> {
        if self.length == 0 {
            return Ok(());
        }
        let empty = |file: &mut File| file.set_len(0).and_then(|()| file.rewind());
        empty(&mut self.file).map_err(PolicyError::write(&self.path))?;
        self.length = 0;
        Ok(())
    }

    fn append(&mut self, piece: &[u8]) -> Result<(), PolicyError> {
        self.file.write_all(piece).map_err(PolicyError::write(&self.path))?;
        self.length += piece.len() as u64;
        Ok(())
    }
}

struct Download<'a> {
    remote: &'a Remote<'a>,
    url: &'a str,
    file: &'a str,
    described: &'a Described,
    size: Option<u64>,
    validator: Option<String>,
    /// Whether the server is asked for the rest of a file.
    ranges: bool,
    progress: Progress<'a>,
}

impl Download<'_> {
    /// One request, and the check of what is there after it.
    fn attempt(&mut self, part: &mut Part) -> Result<(), Trouble> {
        // The rest of a file fits what is there only if something says that both are of one content.
        let resumable = self.ranges && (self.described.hash.is_some() || self.validator.is_some());
        if !resumable || self.size.is_some_and(|size| part.length > size) {
            part.empty()?;
        }
        if self.size != Some(part.length) {
            self.receive(part)?;
        }
        let Some(hash) = &self.described.hash else { return Ok(()) };
        if hash.fits(&part.path).map_err(PolicyError::read(&part.path))? {
            return Ok(());
        }
        part.empty()?;
        let request = Request::get(self.url);
        Err(Trouble::Spoilt(
            request.error(Fault::Broken, format!("its content has not the {hash} that its ETag says")),
        ))
    }

    /// Appends what the server sends.
    fn receive(&mut self, part: &mut Part) -> Result<(), Trouble> {
        if let Some(size) = self.size {
            enough_space(&part.path, self.file, size - part.length)?;
        }
        let mut headers = Vec::new();
        if part.length > 0 {
            headers.push(("Range", format!("bytes={}-", part.length)));
            headers.extend(self.validator.clone().map(|v| ("If-Range", v)));
        }
        let request = Request { token: self.remote.token, headers: &headers, ..Request::get(self.url) };
        let answer = self.remote.client.follow(&request, |_| false)?;
        if part.length > 0 && answer.status == 416 {
            part.empty()?;
            self.ranges = false;
            return Err(Trouble::Http(answer.error(Fault::Broken, "it has not the rest that was asked for")));
        }
        let answer = answer.expect(if part.length > 0 { &[200, 206] } else { &[200] })?;
        if answer.status == 200 {
            part.empty()?;
        } else if let Err(e) = self.check_range(&answer, part.length) {
            part.empty()?;
            self.ranges = false;
            return Err(e.into());
        }
        let most = self.expected(&answer, part.length)?;
        if let Some(etag) = answer.header("etag").filter(|etag| etag.starts_with('"')) {
            self.validator = Some(etag.to_owned());
        }
        self.progress.begin(part.length, self.size);
        let (mut body, mut piece) = (answer.body(), vec![0; 1 << 17]);
        loop {
            let n = body.read(&mut piece)?;
            if n == 0 {
                break;
            }
            if n as u64 > most.saturating_sub(part.length) {
                part.empty()?;
                return Err(Trouble::Http(
                    body.error(Fault::Broken, format!("it sends more than {most} bytes")),
                ));
            }
            part.append(&piece[..n])?;
            self.progress.at(part.length);
        }
        match self.size {
            Some(size) if part.length < size => {
                let problem = format!("it ends after {} of {size} bytes", part.length);
                Err(Trouble::Http(body.error(Fault::Broken, problem)))
            }
            _ => Ok(()),
        }
    }

    /// Whether a part of a file is the one that was asked for.
    fn check_range(&self, answer: &Answer, from: u64) -> Result<(), HttpError> {
        let range = answer.header("content-range").unwrap_or_default();
        let parsed = || {
            let (span, total) = range.trim().strip_prefix("bytes ")?.split_once('/')?;
            let (first, last) = span.split_once('-')?;
            let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            let total: Option<u64> = if total == "*" { None } else { Some(total.parse().ok()?) };
            let fits = first == from
                && last >= first
                && total.is_none_or(|total| last < total && self.size.is_none_or(|size| size == total));
            fits.then_some(())
        };
        parsed().ok_or_else(|| {
            let problem =
                format!("asked for the bytes from {from}, it sends {:?}", super::remote::short(range));
            answer.error(Fault::Broken, problem)
        })
    }

    /// Most bytes that the whole file may have, and its size once it is known.
    fn expected(&mut self, answer: &Answer, have: u64) -> Result<u64, HttpError> {
        let announced = answer.length().map(|length| have.saturating_add(length));
        match (self.size, announced) {
            // Part of the rest may come at a time.
            (Some(size), Some(announced))
                if announced > size || (announced < size && answer.status == 200) =>
            {
                let problem = format!("it announces {announced} bytes of a file that has {size}");
                Err(answer.error(Fault::Broken, problem))
            }
            (Some(size), _) => Ok(size),
            (None, Some(announced)) if answer.status == 200 => {
                self.size = Some(announced);
                Ok(announced)
            }
            (None, _) if self.described.hash.is_some() => Ok(UNSIZED_BYTES),
            (None, _) => {
                Err(answer.error(Fault::Final, "it says neither how long the file is nor which hash it has"))
            }
        }
    }
}

/// Refuses what the disk cannot hold before it is full.
fn enough_space(part: &Path, file: &str, needed: u64) -> Result<(), Trouble> {
    #[cfg(target_os = "linux")]
    if let Some(disk) = part.parent().and_then(|folder| rustix::fs::statvfs(folder).ok()) {
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        // Some file systems do not say how large they are.
        if disk.f_blocks > 0 && needed > free {
            let full = format!("no space left: {file} needs {needed} bytes more, {free} are free");
            return Err(PolicyError::write(part)(std::io::Error::other(full)).into());
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (part, file, needed);
    Ok(())
}

/// Progress as log lines, one each 10 %.
struct Progress<'a> {
    file: &'a str,
    size: u64,
    tenths: u64,
    told: bool,
}

impl<'a> Progress<'a> {
    fn new(file: &'a str) -> Self {
        Self { file, size: 0, tenths: 0, told: false }
    }

    fn begin(&mut self, have: u64, size: Option<u64>) {
        self.size = size.unwrap_or(0);
        self.tenths = self.of(have);
        if !self.told {
            let size = size.map_or("of unknown size".to_owned(), |size| format!("{size} bytes"));
            let rest = if have > 0 { format!(", {have} of them are there") } else { String::new() };
            tracing::info!("downloading {} ({size}{rest})", self.file);
            self.told = true;
        }
    }

    fn at(&mut self, have: u64) {
        let tenths = self.of(have);
        if tenths > self.tenths && self.size > 10_000_000 {
            tracing::info!("downloading {}: {} %", self.file, tenths * 10);
        }
        self.tenths = tenths;
    }

    fn of(&self, have: u64) -> u64 {
        (u128::from(have) * 10 / u128::from(self.size.max(1))) as u64
    }
}
