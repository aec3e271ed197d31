//! A policy behind an endpoint as OpenAI's: completions and chats over the engine that training samples with.
//!
//! One thread decodes for all: requests join the running batch between two tokens (`engine.rs`). Every connection has a
//! thread that reads requests, makes tokens of text and text of tokens, and waits.

mod answer;
mod ask;
mod connection;
mod engine;
mod fields;
mod metrics;
mod refusal;
mod routes;
mod text;

use crate::error::Error;
use crate::files::IoError;
use crate::policy::Policy;
use connection::{Connection, Patience};
use metrics::Metrics;
use refusal::Refusal;
use rlvr_policies::AdapterFiles;
use routes::Server;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::thread::{Builder, Scope};

/// Connections that are answered at the same time.
const MAX_CONNECTIONS: usize = 512;
/// How often a wait for connections looks whether the server ends.
const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// A policy under the name by which requests ask for it.
#[derive(Debug)]
pub struct Model {
    /// The name.
    pub name: String,
    /// What answers.
    pub policy: Policy,
    /// Where it comes from, for `/v1/models`.
    pub root: String,
    /// The name of the policy that this one is an adapter of.
    pub parent: Option<String>,
}

impl Model {
    /// A policy; its weights stay packed while it is served, where there is memory for that.
    #[must_use]
    pub fn new(name: &str, root: &str, policy: Policy) -> Self {
        let decoder = policy.decoder.clone().keeping_packed();
        let policy = policy.with_decoder(decoder);
        Self { name: name.into(), policy, root: root.into(), parent: None }
    }

    /// The same policy with the adapter in a folder, as PEFT writes it; both share the weights below it.
    ///
    /// # Errors
    /// An adapter that cannot be read or does not fit.
    pub fn with_adapter(&self, name: &str, folder: &Path) -> Result<Self, Error> {
        let decoder = AdapterFiles::open(folder)?.onto(self.policy.decoder.clone())?;
        let (policy, root) = (self.policy.with_decoder(decoder), folder.display().to_string());
        Ok(Self { name: name.into(), policy, root, parent: Some(self.name.clone()) })
    }
}

/// How a server answers.
#[derive(Debug, Clone)]
pub struct Options {
    /// The key that requests must have, if any.
    pub api_key: Option<String>,
    /// Completions that may wait or be decoded; requests beyond are told to come again.
    pub max_queue: usize,
    /// Longest completion, in tokens; requests for more get this many, and those of chats that do not say how many. Room for
    /// as many is kept for every completion.
    pub max_tokens: usize,
    /// Completions of a model decoded together; none for what suits the device. Changes no completion.
    pub max_batch_rows: Option<usize>,
    /// Cache slots of the completions of a model decoded together; none for what suits the device and its free memory.
    /// Changes no completion.
    pub max_batch_tokens: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            api_key: None,
            max_queue: 1024,
            max_tokens: 2048,
            max_batch_rows: None,
            max_batch_tokens: None,
        }
    }
}

/// Answers the clients of `listener` from `models`, the first of which is the one that requests without a name get. Returns
/// when `stop` is set and the requests at work have been answered.
///
/// # Errors
/// A listener that cannot be waited on, settings out of range.
pub fn serve(
    models: &[Model],
    listener: &TcpListener,
    options: &Options,
    stop: &AtomicBool,
) -> Result<(), Error> {
    listener.set_nonblocking(true).map_err(|e| IoError::at("listen on", Path::new("the socket"))(e))?;
    let (jobs, taken) = channel();
    let over = AtomicBool::new(false);
    let metrics = Arc::new(Metrics::default());
    let server = Server {
        models,
        options,
        metrics: Arc::clone(&metrics),
        jobs,
        stop,
        over: &over,
        began: routes::now(),
        numbers: AtomicU64::new(0),
    };
    std::thread::scope(|scope| {
        // Also when the engine panics, or threads that wait for it would never end.
        let _over = SetWhenDropped(&over);
        let accept =
            Builder::new().name("accept".into()).spawn_scoped(scope, || server.accept(scope, listener));
        accept.map_err(|e| IoError::at("start", Path::new("a thread"))(e))?;
        engine::run(models, options, &metrics, &taken, stop)
    })
}

struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

impl<'a> Server<'a> {
    /// Gives every client a thread, until the server ends.
    fn accept<'s>(&'s self, scope: &'s Scope<'s, '_>, listener: &TcpListener) {
        while !self.stop.load(SeqCst) && !self.over.load(SeqCst) {
            let _ = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&GLANCE));
            while let Ok((stream, _)) = listener.accept() {
                self.welcome(scope, stream);
            }
        }
    }

    fn welcome<'s>(&'s self, scope: &'s Scope<'s, '_>, stream: TcpStream) {
        let Ok(mut connection) = Connection::new(stream, Patience::default()) else { return };
        let open = Open::new(&self.metrics);
        if self.metrics.connections.load(SeqCst) > MAX_CONNECTIONS {
            let what = format!("{MAX_CONNECTIONS} connections are open: try again later");
            connection.turn_away(&Refusal::new(503, what));
            return;
        }
        let answer = move || {
            let _open = open;
            self.answer(connection);
        };
        // Where the system gives no thread, the connection is closed.
        if let Err(e) = Builder::new().name("client".into()).spawn_scoped(scope, answer) {
            tracing::warn!("no thread for a client: {e}");
        }
    }
}

/// Counts a connection while it is open.
struct Open(Arc<Metrics>);

impl Open {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.connections.fetch_add(1, SeqCst);
        Self(Arc::clone(metrics))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, SeqCst);
    }
}
