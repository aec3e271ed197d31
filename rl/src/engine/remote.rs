//! Servers that hold a copy of the policy, behind the trait of engines.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rlvr_rollout::Prompt;

use super::agreement;
use super::call::Call;
use super::{Engine, hand_over};
use crate::config::{EngineConfig, Handover};
use crate::error::Error;
use crate::generate::{Generated, OnGroup, Origin, Request};
use crate::policy::Policy;
use crate::random;
use crate::servers::dispatch::Places;
use crate::servers::{EngineError, Facts, Protocol, Server, protocol};

/// Weights that servers hold.
#[derive(Debug, Clone)]
struct HandedOver {
    /// The number that they were handed over under.
    version: u64,
    /// What they are called there.
    name: String,
    /// Their directory.
    folder: PathBuf,
}

/// What servers hold, oldest first: several adapters, or one set of weights.
#[derive(Debug, Default)]
pub(super) struct Held(VecDeque<HandedOver>);

impl Held {
    /// What the weights of a version are called there.
    pub(super) fn name(&self, version: u64) -> Option<&str> {
        // Of those that were handed over to be tested the last is meant.
        self.0.iter().rev().find(|held| held.version == version).map(|held| held.name.as_str())
    }

    fn newest(&self) -> Option<u64> {
        self.0.back().map(|held| held.version)
    }
}

/// Servers that sample for a run.
#[derive(Debug)]
pub struct Remote {
    pub(super) config: EngineConfig,
    pub(super) protocol: Box<dyn Protocol>,
    pub(super) servers: Vec<Server>,
    pub(super) facts: Vec<Facts>,
    folder: PathBuf,
    /// Adapters that stay loaded: requests that are under way may name one that is not the newest.
    keep: usize,
    /// Part of every name, so that those of another run, or of this one before it was resumed, are others.
    pub(super) nonce: String,
    pub(super) requests: AtomicU64,
    /// Whether it was tested that they sample from the policy.
    tested: AtomicBool,
    held: Mutex<Held>,
    pub(super) in_flight: Mutex<BTreeSet<(usize, String)>>,
    pub(super) places: Places,
}

impl Remote {
    /// Looks at the servers of a config. Weights are handed over in its `folder`, or in the one given; `versions` of them may be
    /// asked for at a time.
    ///
    /// # Errors
    /// A key that the environment does not have; a server that is away or cannot be used; servers with different models.
    pub fn open(config: &EngineConfig, folder: &Path, versions: usize) -> Result<Self, Error> {
        let key = match &config.key_env {
            Some(name) => Some(std::env::var(name).map_err(|_| {
                EngineError::Unsupported(format!("the environment has no {name}, which key_env names"))
            })?),
            None => None,
        };
        let protocol = protocol(config.kind);
        let servers: Vec<Server> =
            config.url.iter().map(|url| Server::new(config, url, key.clone())).collect();
        let mut facts = Vec::new();
        for server in &servers {
            let found = protocol.facts(server)?;
            let url = server.url().to_owned();
            if let Some(what) = found.wrong.clone() {
                return Err(EngineError::Disagrees { url, what }.into());
            }
            if let Some(model) = config.model.as_ref().filter(|model| !found.models.contains(model)) {
                let what = format!("it has no model {model:?}, but {}", found.models.join(", "));
                return Err(EngineError::Disagrees { url, what }.into());
            }
            facts.push(found);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let nonce =
            random::word(&[now.as_secs(), u64::from(now.subsec_nanos()), u64::from(std::process::id())]);
        Ok(Self {
            config: config.clone(),
            protocol,
            servers,
            facts,
            folder: config.folder.clone().unwrap_or_else(|| folder.to_owned()),
            keep: versions.max(2),
            nonce: format!("{:08x}", nonce >> 32),
            requests: AtomicU64::new(0),
            tested: AtomicBool::new(false),
            held: Mutex::default(),
            in_flight: Mutex::default(),
            places: Places::new(config.in_flight),
        })
    }

    /// The servers, for messages.
    pub(super) fn urls(&self) -> String {
        self.servers.iter().map(Server::url).collect::<Vec<_>>().join(", ")
    }

    /// Whether all servers say that they compute in f32.
    pub(super) fn is_f32(&self) -> bool {
        self.facts.iter().all(|facts| facts.dtype.as_deref() == Some("float32"))
    }

    pub(super) fn hands_over(&self) -> bool {
        self.config.sync != Handover::None
    }

    /// How the weights got there, for messages.
    pub(super) fn handover(&self) -> Handover {
        self.config.sync
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over the weights of a policy under a number, whatever servers hold.
    pub(super) fn hand_over(&self, policy: &Policy, version: u64, name: &str) -> Result<(), Error> {
        let name = format!("rlvr-{}-{name}", self.nonce);
        let folder = hand_over::write(policy, self.config.sync, &self.folder, &name)?;
        let mut held = self.held();
        let mut gone = VecDeque::new();
        match self.config.sync {
            Handover::None => {}
            Handover::Folder => {
                // Until all have it, nobody has.
                gone = std::mem::take(&mut held.0);
                for server in &self.servers {
                    self.protocol.load_folder(server, &folder, &name)?;
                }
            }
            Handover::Adapter => {
                for server in &self.servers {
                    self.protocol.load_adapter(server, &name, &folder)?;
                }
                let more = (held.0.len() + 1).saturating_sub(self.keep);
                gone.extend(held.0.drain(..more));
                for old in &gone {
                    for server in &self.servers {
                        if let Err(error) = self.protocol.unload_adapter(server, &old.name) {
                            tracing::warn!("{error}");
                        }
                    }
                }
            }
        }
        gone.iter().try_for_each(|old| hand_over::remove(&old.folder))?;
        held.0.push_back(HandedOver { version, name, folder });
        Ok(())
    }

    /// Ends what servers are at work on, as far as they listen.
    pub(super) fn abort(&self) {
        let in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (index, server) in self.servers.iter().enumerate() {
            let ids: Vec<String> =
                in_flight.iter().filter(|(of, _)| *of == index).map(|(_, id)| id.clone()).collect();
            if !ids.is_empty()
                && let Err(error) = self.protocol.abort(server, &ids)
            {
                tracing::info!("{error}");
            }
        }
    }

    /// Whether servers still hold the weights of this name, where their answers do not say so.
    pub(super) fn check_versions(&self, name: &str) -> Result<(), EngineError> {
        for server in &self.servers {
            let found = self.protocol.version(server)?;
            if found.as_deref().is_some_and(|found| found != name) {
                return Err(stale(server.url(), found.as_deref().unwrap_or_default(), name));
            }
        }
        Ok(())
    }
}

fn stale(url: &str, found: &str, name: &str) -> EngineError {
    let what = format!(
        "it samples from weights called {found:?}, and {name:?} were handed over: does somebody else use the server?"
    );
    EngineError::Disagrees { url: url.to_owned(), what }
}

impl Engine for Remote {
    fn complete(
        &self,
        policy: &Policy,
        request: &Request<'_>,
        on_group: OnGroup<'_>,
    ) -> Result<Generated, Error> {
        if !self.hands_over() && !self.tested.swap(true, Ordering::Relaxed) {
            tracing::info!("{}", agreement::test(self, policy, request.version, request.prompts)?);
        }
        Call::new(self, policy, request)?.complete(on_group)
    }

    fn sync(&self, policy: &Policy, version: u64) -> Result<(), Error> {
        if !self.hands_over() || self.held().newest() == Some(version) {
            return Ok(());
        }
        self.hand_over(policy, version, &version.to_string())
    }

    fn prepare(&self, policy: &Policy, version: u64, prompts: &[Prompt]) -> Result<Option<String>, Error> {
        self.tested.store(true, Ordering::Relaxed);
        agreement::test(self, policy, version, prompts).map(Some)
    }

    fn origin(&self) -> Origin {
        Origin::Foreign
    }

    fn versions(&self) -> usize {
        match self.config.sync {
            Handover::None => usize::MAX,
            Handover::Adapter => self.keep,
            Handover::Folder => 1,
        }
    }

    fn most_mismatch(&self) -> Option<f64> {
        Some(self.config.max_mismatch_kl)
    }
}
