//! Connections to the other ranks. A thread reads each, so that nobody waits for a rank that computes, and an end is seen at
//! once; another one says that this rank is alive.
use super::frame::{self, Kind};
use crate::parallel::error::RanksError;
use std::collections::VecDeque;
use std::io::{self, BufReader};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// How long the reason of a connection that broke is waited for.
const REASON: Duration = Duration::from_secs(1);

/// What the readers have found.
#[derive(Debug)]
pub(super) struct Post {
    size: usize,
    found: Mutex<Found>,
    changed: Condvar,
    pub(super) broken: AtomicBool,
}

#[derive(Debug)]
struct Found {
    /// Parts of exchanges by rank, with their numbers.
    parts: Vec<VecDeque<(u64, Vec<u8>)>>,
    /// Ranks that have ended as they should.
    gone: Vec<bool>,
    failure: Option<RanksError>,
}

impl Post {
    fn lock(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why ranks cannot go on.
    pub(super) fn failure(&self) -> Option<RanksError> {
        self.lock().failure.clone()
    }

    /// Ends everything for a reason, unless there is one already. Returns the one that counts.
    pub(super) fn fail(&self, error: RanksError) -> RanksError {
        let failure = self.lock().failure.get_or_insert(error).clone();
        self.broken.store(true, Ordering::SeqCst);
        self.changed.notify_all();
        failure
    }

    fn lost(&self, rank: usize, why: String) -> RanksError {
        self.fail(RanksError::Lost { rank, size: self.size, why })
    }

    /// Reads from a rank until it ends.
    fn read(&self, rank: usize, stream: TcpStream, patience: Duration) {
        let mut from = BufReader::with_capacity(1 << 16, stream);
        loop {
            match frame::read(&mut from) {
                Ok(frame) => match frame.kind {
                    Kind::Data => self.lock().parts[rank].push_back((frame.number, frame.bytes)),
                    Kind::Alive => continue,
                    Kind::Bye => {
                        self.lock().gone[rank] = true;
                        self.changed.notify_all();
                        return;
                    }
                    Kind::Abort => {
                        let told = serde_json::from_slice(&frame.bytes);
                        let torn = |_| RanksError::Told { rank, code: 1, what: "has ended the run".into() };
                        self.fail(told.unwrap_or_else(torn));
                    }
                },
                Err(e) => {
                    let why = match e.kind() {
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                            format!("has said nothing for {} s", patience.as_secs())
                        }
                        io::ErrorKind::InvalidData => format!("sent {e}"),
                        _ => "has ended without a word".to_owned(),
                    };
                    self.lock().gone[rank] = true;
                    self.lost(rank, why);
                    return;
                }
            }
            self.changed.notify_all();
        }
    }
}

/// The connections of a rank, by rank; none to itself.
#[derive(Debug)]
pub(super) struct Links {
    post: Arc<Post>,
    to: Arc<Vec<Option<Mutex<TcpStream>>>>,
    exchanges: AtomicU64,
    pub(super) sent: AtomicU64,
    /// Whose end ends the thread that says that this rank is alive.
    _alive: Option<Sender<()>>,
}

impl Links {
    pub(super) fn start(
        rank: usize,
        streams: Vec<Option<TcpStream>>,
        patience: Duration,
    ) -> io::Result<Self> {
        let size = streams.len();
        let found = Found { parts: vec![VecDeque::new(); size], gone: vec![false; size], failure: None };
        let found = Mutex::new(found);
        let broken = AtomicBool::new(false);
        let post = Arc::new(Post { size, found, changed: Condvar::new(), broken });
        let mut to = Vec::new();
        for (r, stream) in streams.into_iter().enumerate() {
            let Some(stream) = stream else {
                to.push(None);
                continue;
            };
            stream.set_nonblocking(false)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            let (from, post) = (stream.try_clone()?, Arc::clone(&post));
            Builder::new()
                .name(format!("rank-{rank}-from-{r}"))
                .spawn(move || post.read(r, from, patience))?;
            to.push(Some(Mutex::new(stream)));
        }
        let to = Arc::new(to);
        let (alive, over) = channel::<()>();
        let often = (patience / 8).min(Duration::from_secs(5));
        let links = Arc::clone(&to);
        Builder::new().name("ranks-alive".into()).spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = over.recv_timeout(often) {
                for stream in links.iter().flatten() {
                    // Where it is taken, something else is being sent; where it fails, the reader sees it.
                    if let Ok(mut stream) = stream.try_lock() {
                        let _ = frame::write(&mut *stream, Kind::Alive, 0, &[]);
                    }
                }
            }
        })?;
        Ok(Self { post, to, exchanges: AtomicU64::new(0), sent: AtomicU64::new(0), _alive: Some(alive) })
    }

    pub(super) fn post(&self) -> &Post {
        &self.post
    }

    /// The number of the exchange that begins.
    pub(super) fn next_exchange(&self) -> u64 {
        self.exchanges.fetch_add(1, Ordering::SeqCst)
    }

    /// Sends a rank its part of an exchange. The other side reads at once, whatever it computes.
    pub(super) fn send(&self, rank: usize, number: u64, bytes: &[u8]) -> Result<(), RanksError> {
        if let Some(failure) = self.post.failure() {
            return Err(failure);
        }
        let Some(stream) = &self.to[rank] else { return Ok(()) };
        self.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
        let written = frame::write(&mut *stream, Kind::Data, number, bytes);
        drop(stream);
        written.map_err(|e| {
            // Why it broke comes by its reader, or by another rank.
            let until = Instant::now() + REASON;
            let mut found = self.post.lock();
            while found.failure.is_none() && Instant::now() < until {
                let wait = self.post.changed.wait_timeout(found, Duration::from_millis(50));
                found = wait.unwrap_or_else(PoisonError::into_inner).0;
            }
            drop(found);
            self.post.lost(rank, format!("takes nothing any more ({e})"))
        })
    }

    /// What a rank has sent in an exchange; waits for it.
    pub(super) fn take(&self, rank: usize, number: u64) -> Result<Vec<u8>, RanksError> {
        let mut found = self.post.lock();
        loop {
            if let Some((theirs, bytes)) = found.parts[rank].pop_front() {
                if theirs == number {
                    return Ok(bytes);
                }
                drop(found);
                let what = format!(
                    "rank {rank} is at exchange {theirs} and this one at {number}: they do not compute the same"
                );
                return Err(self.post.fail(RanksError::Apart { what }));
            }
            if let Some(failure) = &found.failure {
                return Err(failure.clone());
            }
            if found.gone[rank] {
                drop(found);
                return Err(self.post.lost(rank, "has ended before the others".into()));
            }
            found = self.post.changed.wait(found).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until a rank has ended, at most so long.
    pub(super) fn wait_for_end(&self, rank: usize, most: Duration) {
        let until = Instant::now() + most;
        let mut found = self.post.lock();
        while !found.gone[rank] && Instant::now() < until {
            let wait = self.post.changed.wait_timeout(found, Duration::from_millis(50));
            found = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Tells all ranks why the run is over.
    pub(super) fn tell(&self, failure: &RanksError) {
        let bytes = serde_json::to_vec(failure).unwrap_or_default();
        self.say(Kind::Abort, &bytes);
    }

    fn say(&self, kind: Kind, bytes: &[u8]) {
        for stream in self.to.iter().flatten() {
            let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody waits long for ranks that are gone.
            let _ = stream.set_write_timeout(Some(REASON));
            let _ = frame::write(&mut *stream, kind, 0, bytes);
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.say(Kind::Bye, &[]);
        for stream in self.to.iter().flatten() {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = stream.shutdown(Shutdown::Write);
        }
    }
}
