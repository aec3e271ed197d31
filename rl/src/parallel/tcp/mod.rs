//! Ranks that talk over sockets: every one has a connection to each of the others.
//!
//! They trust each other and the network between them; nothing is encrypted.
mod frame;
mod link;
mod meet;
#[cfg(test)]
mod tests;

use super::error::RanksError;
use super::launch::Launch;
use super::transport::Transport;
use link::Links;
use meet::meet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long the others wait for rank 0 to end when the run has failed.
const LAST_WORDS: Duration = Duration::from_secs(20);

/// Ranks that talk over sockets.
#[derive(Debug)]
pub struct Tcp {
    rank: usize,
    size: usize,
    links: Links,
}

impl Tcp {
    /// Finds the other ranks, and talks to them from then on.
    ///
    /// # Errors
    /// [`RanksError::Meeting`]: who did not come in time, or who else was there.
    pub fn connect(launch: &Launch) -> Result<Arc<Self>, RanksError> {
        let streams = meet(launch)?;
        let links = Links::start(launch.rank, streams, launch.patience)
            .map_err(|e| RanksError::Meeting { what: format!("the ranks cannot be talked to: {e}") })?;
        Ok(Arc::new(Self { rank: launch.rank, size: launch.size, links }))
    }
}

impl Transport for Tcp {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_to_all(&self, parts: &[&[u8]]) -> Result<Vec<Vec<u8>>, RanksError> {
        let number = self.links.next_exchange();
        // Each begins with another one.
        for r in (1..self.size).map(|i| (self.rank + i) % self.size) {
            self.links.send(r, number, parts[r])?;
        }
        let take = |r: usize| match r == self.rank {
            true => Ok(parts[r].to_vec()),
            false => self.links.take(r, number),
        };
        (0..self.size).map(take).collect()
    }

    fn abort(&self, code: u8, what: &str) {
        let what = what.to_owned();
        let own = RanksError::Told { rank: self.rank, code, what };
        let failure = self.links.post().fail(own);
        self.links.tell(&failure);
        if self.rank != 0 {
            // Launchers end all ranks with the first one that ends, and rank 0 has records to write.
            self.links.wait_for_end(0, LAST_WORDS);
        }
    }

    fn failure(&self) -> Option<RanksError> {
        self.links.post().failure()
    }

    fn broken(&self) -> &AtomicBool {
        &self.links.post().broken
    }

    fn sent_bytes(&self) -> u64 {
        self.links.sent.load(Ordering::Relaxed)
    }
}
