//! From a request to its reply.

use super::answer::{Choice, Envelope};
use super::ask::{self, Ask};
use super::connection::{Connection, Head};
use super::engine::{Event, Generate, Job};
use super::metrics::Metrics;
use super::refusal::Refusal;
use super::text::{Told, Wording};
use super::{Model, Options};
use serde_json::{Value, json};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often a wait looks whether the client is still there.
const GLANCE: Duration = Duration::from_millis(100);
const JSON: &str = "application/json";

/// What all connections share.
pub(super) struct Server<'a> {
    pub(super) models: &'a [Model],
    pub(super) options: &'a Options,
    pub(super) metrics: Arc<Metrics>,
    pub(super) jobs: Sender<Job>,
    /// Whoever started the server wants it to end.
    pub(super) stop: &'a AtomicBool,
    /// The engine has ended.
    pub(super) over: &'a AtomicBool,
    pub(super) began: u64,
    pub(super) numbers: AtomicU64,
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// A place in the queue for so many completions.
struct Queued(Arc<Metrics>, usize);

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(self.1, SeqCst);
    }
}

/// The engine's events for a request, which it gives up when this is dropped.
struct Events {
    events: Receiver<Event>,
    gone: Arc<AtomicBool>,
    /// When it was last seen that the client waits.
    seen: Instant,
}

impl Drop for Events {
    fn drop(&mut self) {
        self.gone.store(true, SeqCst);
    }
}

/// A reply that was not sent whole.
enum Broken {
    /// Nothing has been sent.
    Refused(Refusal),
    /// The client has gone, or part of a reply has.
    Gone,
}

impl From<Refusal> for Broken {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Server<'_> {
    fn ends(&self) -> bool {
        self.stop.load(SeqCst) || self.over.load(SeqCst)
    }

    /// Answers the requests of a connection, one after the other.
    pub(super) fn answer(&self, mut connection: Connection) {
        loop {
            let head = match connection.head(&|| self.ends()) {
                Ok(Some(head)) => head,
                Ok(None) => return,
                Err(refusal) => {
                    self.refuse(&mut connection, "other", &refusal, false);
                    return;
                }
            };
            let keep = head.keeps() && !self.ends();
            let path = route(&head);
            let goes_on = match self.reply(&mut connection, &head, path, keep) {
                Ok(goes_on) => goes_on,
                Err(Broken::Refused(refusal)) => self.refuse(&mut connection, path, &refusal, keep),
                Err(Broken::Gone) => false,
            };
            if !goes_on {
                return;
            }
        }
    }

    fn refuse(&self, connection: &mut Connection, path: &'static str, refusal: &Refusal, keep: bool) -> bool {
        self.metrics.replied(path, refusal.status);
        let fields = match refusal.status {
            401 => "www-authenticate: Bearer\r\n",
            429 | 503 => "retry-after: 1\r\n",
            _ => "",
        };
        let body = refusal.body().to_string();
        connection.reply(refusal.status, JSON, fields, body.as_bytes(), keep && !refusal.close)
    }

    /// Whether the connection can be used further.
    fn reply(
        &self,
        connection: &mut Connection,
        head: &Head,
        path: &'static str,
        keep: bool,
    ) -> Result<bool, Broken> {
        let unread = |refusal: Refusal| if head.has_body() { refusal.closing() } else { refusal };
        let posted = matches!(path, "/v1/completions" | "/v1/chat/completions");
        if path == "other" {
            let path: String = head.path.chars().take(80).collect();
            return Err(unread(Refusal::new(404, format!("there is no {path} here"))).into());
        }
        if head.method != if posted { "POST" } else { "GET" } {
            let message = format!("{path} is not for {}", head.method.chars().take(20).collect::<String>());
            return Err(unread(Refusal::new(405, message)).into());
        }
        if path.starts_with("/v1") && !self.may_enter(head) {
            return Err(unread(Refusal::new(401, "a key is needed: Authorization: Bearer KEY")).into());
        }
        let body = connection.body(head)?;
        let whole = |connection: &mut Connection, kind: &str, text: String| {
            self.metrics.replied(path, 200);
            Ok(connection.reply(200, kind, "", text.as_bytes(), keep))
        };
        match path {
            "/health" if self.ends() => Err(Refusal::new(503, "the server is ending").into()),
            "/health" => whole(connection, "text/plain", String::new()),
            "/metrics" => whole(connection, "text/plain; version=0.0.4; charset=utf-8", self.metrics.text()),
            "/v1/models" => whole(connection, JSON, self.list().to_string()),
            "/v1/models/" => {
                let name = head.path.trim_start_matches("/v1/models/");
                let found = self.models.iter().find(|model| model.name == name);
                let missing = || Refusal::new(404, format!("no model {name} is served here"));
                let model = self.card(found.ok_or_else(missing)?);
                whole(connection, JSON, model.to_string())
            }
            _ => self.complete(connection, head, path, (&body, keep)),
        }
    }

    fn may_enter(&self, head: &Head) -> bool {
        let Some(key) = &self.options.api_key else { return true };
        let given = head.authorization.as_deref().and_then(|value| {
            let (scheme, given) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(given.trim())
        });
        // As long for a key that is nearly right as for one that is wrong from the beginning.
        given.is_some_and(|given| {
            given.len() == key.len()
                && given.bytes().zip(key.bytes()).fold(0, |all, (a, b)| all | (a ^ b)) == 0
        })
    }

    fn card(&self, model: &Model) -> Value {
        json!({
            "id": model.name,
            "object": "model",
            "created": self.began,
            "owned_by": "rlvr",
            "root": model.root,
            "parent": model.parent,
            "max_model_len": model.policy.decoder.config().max_position_embeddings,
        })
    }

    fn list(&self) -> Value {
        json!({"object": "list", "data": self.models.iter().map(|model| self.card(model)).collect::<Vec<_>>()})
    }

    fn complete(
        &self,
        connection: &mut Connection,
        head: &Head,
        path: &'static str,
        (body, keep): (&[u8], bool),
    ) -> Result<bool, Broken> {
        let began = Instant::now();
        let ask = ask::read(body, path == "/v1/chat/completions", self.models, self.options)?;
        let model = &self.models[ask.model];
        let mut events = self.submit(&ask)?;
        let wording = Wording {
            policy: &model.policy,
            stop: &ask.stop,
            include_stop: ask.include_stop,
            keep_special: ask.keep_special,
        };
        let number = self.numbers.fetch_add(1, Relaxed);
        let kind = if ask.chat { "chatcmpl" } else { "cmpl" };
        let envelope = Envelope {
            ask: &ask,
            wording,
            id: format!("{kind}-{:08x}{number:08x}", self.began),
            created: now(),
            model: &model.name,
        };
        let goes_on = if ask.stream {
            self.stream(connection, &envelope, &mut events, (began, head.is_new, keep))?;
            keep && head.is_new
        } else {
            let reply = self.gather(connection, &envelope, &mut events, began)?;
            connection.reply(200, JSON, "", reply.to_string().as_bytes(), keep)
        };
        self.metrics.replied(path, 200);
        self.metrics.whole.record(began.elapsed());
        Ok(goes_on)
    }

    /// Hands a request to the engine.
    fn submit(&self, ask: &Ask) -> Result<Events, Refusal> {
        if self.ends() {
            return Err(ending());
        }
        let (rows, most) = (ask.rows(), self.options.max_queue);
        if rows > most {
            let what = format!("{rows} completions are more than the {most} that may be asked for at once");
            return Err(Refusal::new(400, what));
        }
        if self.metrics.queued.fetch_add(rows, SeqCst) + rows > most {
            self.metrics.queued.fetch_sub(rows, SeqCst);
            return Err(Refusal::new(
                429,
                format!("{most} completions are waiting or being decoded: try again later"),
            ));
        }
        let place = Box::new(Queued(Arc::clone(&self.metrics), rows));
        let (reply, events) = channel();
        let gone = Arc::new(AtomicBool::new(false));
        let generate = ask.sampling.clone().map(|sampling| Generate {
            n: ask.n,
            sampling,
            // Without a seed every request has other completions.
            seed: ask.seed.unwrap_or_else(|| RandomState::new().hash_one(self.numbers.load(Relaxed))),
            stop: ask.stop.clone(),
            ignore_eos: ask.ignore_eos,
            alternatives: ask.logprobs.unwrap_or(0),
        });
        let score = if ask.scores() { ask.logprobs } else { None };
        let (model, prompts) = (ask.model, ask.prompts.clone());
        let job = Job { model, prompts, generate, score, reply, gone: Arc::clone(&gone), place };
        self.jobs.send(job).map_err(|_| ending())?;
        Ok(Events { events, gone, seen: Instant::now() })
    }

    /// The next event; None behind the last.
    fn next(&self, connection: &Connection, events: &mut Events) -> Result<Option<Event>, Broken> {
        loop {
            // Events may come faster than any wait for them ends, and a reply that is sent whole writes nothing till then.
            if events.seen.elapsed() >= GLANCE {
                if connection.is_gone() {
                    return Err(Broken::Gone);
                }
                events.seen = Instant::now();
            }
            match events.events.recv_timeout(GLANCE) {
                Ok(Event::Failed(why)) => return Err(Refusal::new(500, why).into()),
                Ok(event) => return Ok(Some(event)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// The whole reply.
    fn gather(
        &self,
        connection: &Connection,
        envelope: &Envelope<'_>,
        events: &mut Events,
        began: Instant,
    ) -> Result<Value, Broken> {
        let ask = envelope.ask;
        let empty = || Choice { tokens: Vec::new(), reason: None };
        let mut choices: Vec<Vec<Choice>> =
            ask.prompts.iter().map(|_| (0..ask.n).map(|_| empty()).collect()).collect();
        let mut scored = vec![Vec::new(); if ask.scores() { ask.prompts.len() } else { 0 }];
        let mut is_first = true;
        while let Some(event) = self.next(connection, events)? {
            match event {
                Event::Scored { prompt, tokens } => scored[prompt] = tokens,
                Event::Sampled { prompt, sample, tokens } => {
                    if std::mem::take(&mut is_first) {
                        self.metrics.first_token.record(began.elapsed());
                    }
                    choices[prompt][sample].tokens.extend(tokens);
                }
                Event::Finished { prompt, sample, reason } => choices[prompt][sample].reason = Some(reason),
                Event::Failed(why) => return Err(Refusal::new(500, why).into()),
            }
        }
        let all = choices.iter().flatten().all(|choice| choice.reason.is_some() || ask.sampling.is_none());
        if !all || scored.iter().any(Vec::is_empty) {
            return Err(ending().into());
        }
        Ok(envelope.whole(&choices, &scored))
    }

    /// Sends the reply as server-sent events while it is made.
    fn stream(
        &self,
        connection: &mut Connection,
        envelope: &Envelope<'_>,
        events: &mut Events,
        (began, chunked, keep): (Instant, bool, bool),
    ) -> Result<(), Broken> {
        let gone = |_| Broken::Gone;
        let mut stream = Streamed::new(envelope);
        // An error before the first token is a reply of its own.
        let mut event = self.next(connection, events)?;
        connection.begin("text/event-stream; charset=utf-8", chunked, keep && chunked).map_err(gone)?;
        self.metrics.first_token.record(began.elapsed());
        let failed = loop {
            let Some(now) = event else {
                break (stream.missing > 0).then(ending);
            };
            if let Some(piece) = stream.piece(now) {
                connection.piece(format!("data: {piece}\n\n").as_bytes(), chunked).map_err(gone)?;
            }
            event = match self.next(connection, events) {
                Err(Broken::Refused(refusal)) => break Some(refusal),
                other => other?,
            };
        };
        if let Some(refusal) = failed {
            let piece = format!("data: {}\n\n", refusal.body());
            connection.piece(piece.as_bytes(), chunked).map_err(gone)?;
            return Err(Broken::Gone);
        }
        if envelope.ask.include_usage {
            let counted = envelope.counted(stream.tokens());
            connection.piece(format!("data: {counted}\n\n").as_bytes(), chunked).map_err(gone)?;
        }
        connection.piece(b"data: [DONE]\n\n", chunked).map_err(gone)?;
        connection.end(chunked).map_err(gone)
    }
}

/// A choice of a streamed reply.
struct StreamedChoice<'e> {
    text: Told<'e>,
    /// Characters of its tokens so far.
    offset: usize,
    begun: bool,
}

/// A streamed reply in the making.
struct Streamed<'e> {
    envelope: &'e Envelope<'e>,
    choices: Vec<StreamedChoice<'e>>,
    /// Choices that have not ended.
    missing: usize,
}

impl<'e> Streamed<'e> {
    fn new(envelope: &'e Envelope<'e>) -> Self {
        let choice = |_| StreamedChoice { text: Told::new(envelope.wording), offset: 0, begun: false };
        let missing = envelope.ask.rows();
        Self { envelope, choices: (0..missing).map(choice).collect(), missing }
    }

    fn tokens(&self) -> usize {
        self.choices.iter().map(|choice| choice.text.tokens()).sum()
    }

    /// What is sent of an event, if anything.
    fn piece(&mut self, event: Event) -> Option<Value> {
        let ask = self.envelope.ask;
        let (place, tokens, reason) = match event {
            Event::Sampled { prompt, sample, tokens } => ((prompt, sample), tokens, None),
            Event::Finished { prompt, sample, reason } => ((prompt, sample), Vec::new(), Some(reason)),
            Event::Scored { .. } | Event::Failed(_) => return None,
        };
        let choice = &mut self.choices[place.0 * ask.n + place.1];
        self.missing -= usize::from(reason.is_some());
        let (text, end) = match reason {
            None => (choice.text.more(tokens.iter().map(|said| said.id)), None),
            Some(reason) => {
                let (text, stop) = choice.text.rest();
                (text, Some((reason, stop)))
            }
        };
        let first = !std::mem::replace(&mut choice.begun, true);
        if text.is_empty() && end.is_none() && !first && !ask.return_ids && ask.logprobs.is_none() {
            return None;
        }
        Some(self.envelope.piece(place, (&text, &tokens), &mut choice.offset, first, end))
    }
}

fn ending() -> Refusal {
    Refusal::new(503, "the server is ending").closing()
}

/// The path of a request as metrics have it.
fn route(head: &Head) -> &'static str {
    let known = ["/health", "/metrics", "/v1/models", "/v1/completions", "/v1/chat/completions"];
    let same = |path: &&&str| **path == head.path;
    match known.iter().find(same) {
        Some(path) => path,
        None if head.path.starts_with("/v1/models/") => "/v1/models/",
        None => "other",
    }
}
