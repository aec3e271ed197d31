//! Several processes, called ranks, that train one policy and compute the bits of a single one.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | the ranks as the rest of the crate sees them; there is one unless a launcher says otherwise |
//! | `launch.rs` | what launchers say: torchrun, Slurm, Open MPI |
//! | `transport.rs` | what moves bytes between ranks |
//! | `tcp/` | the same over sockets: how ranks find each other, frames, who is gone |
//! | `mpi.rs` | the same by MPI, with the feature of that name |
//! | `tree.rs` | the order in which shards are added up |
//! | `chunks.rs` | which rank owns what of the optimizer's state |
//!
//! An optimizer step is cut into `[parallel] shards`, whatever the number of ranks. Each shard's gradient is computed alone and
//! they are added up as a binary tree, of which a rank computes a branch and adds up the rest for the chunk of elements that it
//! owns (ZeRO-1: arXiv:1910.02054). So all sums have one order, which depends on the config only.
mod chunks;
mod error;
pub mod launch;
#[cfg(feature = "mpi")]
mod mpi;
mod tcp;
mod transport;
mod tree;

pub use chunks::{Chunks, add_in_order};
pub use error::RanksError;
pub use launch::Launch;
pub use tcp::Tcp;
pub use transport::Transport;
pub use tree::Tree;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The ranks that carry out a run together: one, unless said otherwise. Clones are the same ranks.
#[derive(Debug, Clone, Default)]
pub struct World(Option<Arc<dyn Transport>>);

impl World {
    /// Ranks that are reached by a transport.
    pub fn over(transport: Arc<dyn Transport>) -> Self {
        Self((transport.size() > 1).then_some(transport))
    }

    /// The ranks that a launcher has started, connected; one where nobody has.
    ///
    /// # Errors
    /// Variables that do not fit together, ranks that do not find each other.
    pub fn from_env() -> Result<Self, RanksError> {
        match Launch::from_env()? {
            None => Ok(Self::default()),
            #[cfg(feature = "mpi")]
            Some(launch) if launch.by_mpi => Ok(Self::over(mpi::Mpi::connect(&launch)?)),
            Some(launch) => Ok(Self::over(Tcp::connect(&launch)?)),
        }
    }

    /// Which rank this process is, counted from 0.
    pub fn rank(&self) -> usize {
        self.0.as_ref().map_or(0, |t| t.rank())
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.0.as_ref().map_or(1, |t| t.size())
    }

    /// Whether this is rank 0, which writes and speaks for all.
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// The transport; none where there is one rank.
    pub fn transport(&self) -> Option<&dyn Transport> {
        self.0.as_deref()
    }

    /// Which of `count` things in a row are those of this rank.
    pub fn own(&self, count: usize) -> Range<usize> {
        self.own_of(self.rank(), count)
    }

    /// The same of another rank.
    pub fn own_of(&self, rank: usize, count: usize) -> Range<usize> {
        let size = self.size();
        rank * count / size..(rank + 1) * count / size
    }

    /// Whether it is so on any rank.
    ///
    /// # Errors
    /// A rank that is gone or has ended the run.
    pub fn any(&self, own: bool) -> Result<bool, RanksError> {
        Ok(self.gather(vec![vec![u8::from(own)]])?.iter().any(|flag| flag == &[1]))
    }

    /// What rank 0 says; `own` is asked there only.
    ///
    /// # Errors
    /// A rank that is gone or has ended the run.
    pub fn from_first(&self, own: impl FnOnce() -> Vec<u8>) -> Result<Vec<u8>, RanksError> {
        let own = if self.leads() { own() } else { Vec::new() };
        match self.transport() {
            None => Ok(own),
            Some(transport) => transport.broadcast(0, &own),
        }
    }

    /// Ends the run on all ranks, with the exit code and the error of this one.
    pub fn abort(&self, code: u8, what: &str) {
        if let Some(transport) = self.transport() {
            transport.abort(code, what);
        }
    }

    /// Why ranks cannot go on together, if they cannot.
    pub fn failure(&self) -> Option<RanksError> {
        self.transport()?.failure()
    }

    /// A flag that is set as soon as they cannot; none where there is one rank.
    pub fn broken(&self) -> Option<&AtomicBool> {
        Some(self.transport()?.broken())
    }

    /// Ends the processes of all ranks, where the transport does that; this one has said why.
    pub fn end_all(&self, code: u8) {
        if let Some(transport) = self.transport() {
            transport.end_all(code);
        }
    }

    /// Whether [`Self::end_all`] does.
    pub fn ends_all(&self) -> bool {
        self.transport().is_some_and(Transport::ends_all)
    }

    /// Whether it is for this rank to say that the run has ended so, so that one does.
    pub fn tells_of(&self, failure: Option<&RanksError>) -> bool {
        match failure {
            _ if self.ends_all() => true,
            Some(RanksError::Lost { rank: 0, .. }) => self.rank() == 1,
            Some(RanksError::Setup { .. } | RanksError::Meeting { .. }) => true,
            Some(RanksError::Lost { .. } | RanksError::Told { .. } | RanksError::Apart { .. }) | None => {
                self.leads()
            }
        }
    }

    /// The things of all ranks in the order of ranks, for those that each gives.
    ///
    /// # Errors
    /// A rank that is gone or has ended the run.
    pub fn gather(&self, own: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, RanksError> {
        let Some(transport) = self.transport() else { return Ok(own) };
        let mut bytes = Vec::with_capacity(own.iter().map(|thing| thing.len() + 8).sum());
        for thing in &own {
            bytes.extend((thing.len() as u64).to_le_bytes());
            bytes.extend(thing);
        }
        let mut all = Vec::new();
        for (rank, bytes) in transport.all_gather(&bytes)?.iter().enumerate() {
            all.extend(
                things(bytes)
                    .ok_or_else(|| RanksError::Apart { what: format!("what rank {rank} sent is torn") })?,
            );
        }
        Ok(all)
    }

    /// The same for rows of numbers, which keep their bits.
    ///
    /// # Errors
    /// As [`Self::gather`].
    pub fn gather_numbers(&self, own: Vec<Vec<f64>>) -> Result<Vec<Vec<f64>>, RanksError> {
        if self.size() == 1 {
            return Ok(own);
        }
        let bytes = |row: &Vec<f64>| row.iter().flat_map(|number| number.to_le_bytes()).collect();
        let all = self.gather(own.iter().map(bytes).collect())?;
        let number = |bytes: &[u8; 8]| f64::from_le_bytes(*bytes);
        Ok(all.iter().map(|row| row.as_chunks::<8>().0.iter().map(number).collect()).collect())
    }
}

/// The things of one rank, each behind its length.
fn things(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (thing, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        found.push(thing.to_vec());
        bytes = rest;
    }
    Some(found)
}
