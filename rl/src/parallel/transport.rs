//! What moves bytes between ranks.
use super::error::RanksError;
use std::fmt::Debug;
use std::sync::atomic::AtomicBool;

/// Whatever moves bytes between the ranks of a run. Every rank makes the same calls in the same order; what is added up, and in
/// which order, is not its concern.
pub trait Transport: Debug + Send + Sync {
    /// Which rank this process is, counted from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// Sends `parts[r]` to each rank r, and returns what each has sent to this one, in the order of ranks.
    ///
    /// # Errors
    /// A rank that is gone or has ended the run; likewise below.
    fn all_to_all(&self, parts: &[&[u8]]) -> Result<Vec<Vec<u8>>, RanksError>;

    /// What every rank gives, in the order of ranks.
    ///
    /// # Errors
    /// As [`Self::all_to_all`].
    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, RanksError> {
        self.all_to_all(&vec![own; self.size()])
    }

    /// What rank `root` gives.
    ///
    /// # Errors
    /// As [`Self::all_to_all`].
    fn broadcast(&self, root: usize, own: &[u8]) -> Result<Vec<u8>, RanksError> {
        let own = if root == self.rank() { own } else { &[] };
        Ok(self.all_to_all(&vec![own; self.size()])?.swap_remove(root))
    }

    /// Waits until every rank is here.
    ///
    /// # Errors
    /// As [`Self::all_to_all`].
    fn barrier(&self) -> Result<(), RanksError> {
        self.all_gather(&[]).map(|_| ())
    }

    /// Ends the run on all ranks, with the exit code and the error of this one. Only the first call says something.
    fn abort(&self, code: u8, what: &str);

    /// Whether an end of one rank is that of all, so that each says itself why, before [`Self::end_all`].
    fn ends_all(&self) -> bool {
        false
    }

    /// Ends the processes of all ranks, where that is how a run ends.
    fn end_all(&self, _code: u8) {}

    /// Why ranks cannot go on together, if they cannot.
    fn failure(&self) -> Option<RanksError>;

    /// Set as soon as there is a [`Self::failure`].
    fn broken(&self) -> &AtomicBool;

    /// Bytes that this rank has sent so far.
    fn sent_bytes(&self) -> u64;
}
