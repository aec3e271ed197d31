//! Whoever completes prompts: rlvr's own engine, or servers that hold a copy of the policy.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | the trait, and our own |
//! | `remote.rs` | servers behind it, and what they hold |
//! | `call.rs` | one call: prompts go out in parallel, groups come back as they end |
//! | `checked.rs` | what of their answers is believed, and where completions end |
//! | `hand_over.rs` | weights in files that servers read |
//! | `agreement.rs` | do they sample from the policy, and from what was handed over? |

mod agreement;
mod call;
mod checked;
mod hand_over;
mod remote;

use std::fmt::Debug;
use std::path::Path;

use crate::config::EngineConfig;
use crate::error::Error;
use crate::generate::{self, Generated, OnGroup, Origin, Request};
use crate::policy::Policy;
use rlvr_rollout::Prompt;

pub use crate::servers::EngineError;
pub use agreement::Agreement;
pub use remote::Remote;

/// Whoever completes prompts for a policy.
pub trait Engine: Debug + Send + Sync {
    /// Completions of a policy, whose weights are those that were handed over last as `request.version`.
    ///
    /// # Errors
    /// As [`generate::generate`]; a server that does not answer as it should.
    fn complete(
        &self,
        policy: &Policy,
        request: &Request<'_>,
        on_group: OnGroup<'_>,
    ) -> Result<Generated, Error>;

    /// Hands over the weights of a policy under a number; nothing where they are there already.
    ///
    /// # Errors
    /// A server that does not take them.
    fn sync(&self, policy: &Policy, version: u64) -> Result<(), Error>;

    /// Looks whether it samples from the policy before anything depends on it, hands over its weights, and says what it found
    /// in a sentence; none where there is nothing to look at.
    ///
    /// # Errors
    /// [`EngineError::Disagrees`] and those of [`Self::complete`].
    fn prepare(&self, policy: &Policy, version: u64, prompts: &[Prompt]) -> Result<Option<String>, Error>;

    /// Whether what it says of its own samples needs no second look.
    fn origin(&self) -> Origin;

    /// Weights of how many versions it samples from at a time: those of one more take the place of the oldest.
    fn versions(&self) -> usize {
        usize::MAX
    }

    /// The KL from its samples to the policy above which it samples from something else, in nats a token; none where that
    /// cannot be.
    fn most_mismatch(&self) -> Option<f64> {
        None
    }
}

/// rlvr's own engine: it samples from the weights at hand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Own;

impl Engine for Own {
    fn complete(
        &self,
        policy: &Policy,
        request: &Request<'_>,
        on_group: OnGroup<'_>,
    ) -> Result<Generated, Error> {
        Ok(generate::generate(policy, request, on_group)?)
    }

    fn sync(&self, _: &Policy, _: u64) -> Result<(), Error> {
        Ok(())
    }

    fn prepare(&self, _: &Policy, _: u64, _: &[Prompt]) -> Result<Option<String>, Error> {
        Ok(None)
    }

    fn origin(&self) -> Origin {
        Origin::Own
    }
}

/// The engine that a config names. `folder` is where weights are handed over unless it says so; `versions` of them may be asked
/// for at a time.
///
/// # Errors
/// A key that the environment does not have.
pub fn open(config: Option<&EngineConfig>, folder: &Path, versions: usize) -> Result<Box<dyn Engine>, Error> {
    Ok(match config {
        None => Box::new(Own),
        Some(config) => Box::new(Remote::open(config, folder, versions)?),
    })
}
