//! Ranks that talk by MPI, for networks that it knows and sockets do not (feature `mpi`).
//!
//! MPI moves bytes and adds nothing. It ends all ranks when one dies or fails, so nobody waits for the others, and the one that
//! fails says why itself.
use super::error::RanksError;
use super::launch::Launch;
use super::transport::Transport;
use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::datatype::{Partition, PartitionMut};
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Most bytes for one rank in a call, fewer where there are very many: places of all are numbers of 32 bits.
const AT_ONCE: usize = 8 << 20;
/// How long a rank waits with its error: the first one may have the same.
const FIRST_SPEAKS: Duration = Duration::from_secs(3);

/// What a call needs.
struct Held {
    world: SimpleCommunicator,
    /// Its end ends MPI.
    _universe: Universe,
}

// SAFETY: MPI was started for calls from any thread, one at a time, and every call is made under the lock of `Mpi::held`.
unsafe impl Send for Held {}

/// Ranks that talk by MPI.
pub struct Mpi {
    rank: usize,
    size: usize,
    held: Mutex<Held>,
    failure: OnceLock<RanksError>,
    broken: AtomicBool,
    sent: AtomicU64,
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mpi {{ rank: {}, size: {} }}", self.rank, self.size)
    }
}

impl Mpi {
    /// Starts MPI. Once in a process.
    ///
    /// # Errors
    /// [`RanksError::Meeting`]: it cannot be started, or knows of other ranks than the launcher.
    pub fn connect(launch: &Launch) -> Result<Arc<Self>, RanksError> {
        let meeting = |what: String| RanksError::Meeting { what };
        let (universe, threading) = mpi::initialize_with_threading(Threading::Serialized)
            .ok_or_else(|| meeting("MPI has been started already".into()))?;
        if threading < Threading::Serialized {
            return Err(meeting("this MPI takes calls from one thread only".into()));
        }
        let world = universe.world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        if (rank, size) != (launch.rank, launch.size) {
            return Err(meeting(format!(
                "MPI says that this is rank {rank} of {size}, its launcher {} of {}: the program was built for another MPI than that \
                 of mpirun",
                launch.rank, launch.size
            )));
        }
        Ok(Arc::new(Self {
            rank,
            size,
            held: Mutex::new(Held { world, _universe: universe }),
            failure: OnceLock::new(),
            broken: AtomicBool::new(false),
            sent: AtomicU64::new(0),
        }))
    }

    /// Bytes for one rank in a call.
    fn at_once(&self) -> usize {
        AT_ONCE.min(i32::MAX as usize / self.size)
    }

    /// Exchanges as many bytes with each rank, from a place in each part on.
    fn round(&self, held: &Held, parts: &[&[u8]], got: &mut [Vec<u8>], from: usize) {
        let piece = |len: usize| len.saturating_sub(from).min(self.at_once());
        let (mut send, mut counts, mut places) = (Vec::<u8>::new(), Vec::new(), Vec::new());
        for part in parts {
            let piece = piece(part.len());
            places.push(send.len() as i32);
            counts.push(piece as i32);
            send.extend(&part[part.len().min(from)..][..piece]);
        }
        let (mut room, mut come, mut at) = (0, Vec::<i32>::new(), Vec::<i32>::new());
        for part in got.iter() {
            let piece = piece(part.len());
            at.push(room as i32);
            come.push(piece as i32);
            room += piece;
        }
        // The address of nothing, 1, would be MPI_IN_PLACE.
        send.push(0);
        let mut received = vec![0u8; room + 1];
        {
            let send = Partition::new(&send[..], &counts[..], &places[..]);
            let mut receive = PartitionMut::new(&mut received[..], &come[..], &at[..]);
            held.world.all_to_all_varcount_into(&send, &mut receive);
        }
        for ((part, len), at) in got.iter_mut().zip(come).zip(at) {
            let (len, at) = (len as usize, at as usize);
            let begin = part.len().min(from);
            part[begin..begin + len].copy_from_slice(&received[at..at + len]);
        }
    }
}

impl Transport for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_to_all(&self, parts: &[&[u8]]) -> Result<Vec<Vec<u8>>, RanksError> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let lengths: Vec<u64> = parts.iter().map(|part| part.len() as u64).collect();
        let mut come = vec![0u64; self.size];
        held.world.all_to_all_into(&lengths[..], &mut come[..]);
        let own = lengths.iter().chain(&come).copied().max().unwrap_or(0);
        let mut longest = 0u64;
        held.world.all_reduce_into(&own, &mut longest, SystemOperation::max());
        let mut got: Vec<Vec<u8>> = come.iter().map(|len| vec![0; *len as usize]).collect();
        for from in (0..longest as usize).step_by(self.at_once()) {
            self.round(&held, parts, &mut got, from);
        }
        let to_others = lengths.iter().enumerate().filter(|(r, _)| *r != self.rank).map(|(_, len)| len);
        self.sent.fetch_add(to_others.sum::<u64>(), Ordering::Relaxed);
        Ok(got)
    }

    fn abort(&self, code: u8, what: &str) {
        let what = what.to_owned();
        let told = self.failure.set(RanksError::Told { rank: self.rank, code, what }).is_ok();
        self.broken.store(true, Ordering::SeqCst);
        if told && self.rank != 0 {
            std::thread::sleep(FIRST_SPEAKS);
        }
    }

    fn end_all(&self, code: u8) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.world.abort(i32::from(code));
    }

    fn ends_all(&self) -> bool {
        true
    }

    fn failure(&self) -> Option<RanksError> {
        self.failure.get().cloned()
    }

    fn broken(&self) -> &AtomicBool {
        &self.broken
    }

    fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Mpi {
    /// Ending MPI waits for all ranks, which wait for one that has panicked.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.end_all(1);
        }
    }
}
