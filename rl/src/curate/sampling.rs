//! Completions for curation: sampled from a policy, or read from a file that an earlier run wrote.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::error::CurateError;
use super::scan::{Unwatched, scan};
use crate::engine::Engine;
use crate::files::IoError;
use crate::files::bounded::{SMALL, WHOLE, open_regular, read_regular};
use crate::files::destination::is_at;
use crate::files::lock::Held;
use crate::generate::Request;
use crate::policy::Policy;
use crate::rows;
use rlvr_rewards::{Response, Task};
use rlvr_rollout::{PromptLimit, SampleKey, SamplingParams};

/// Another stream than training and evaluation: the same key would give the same noise.
const STREAM: u64 = 0x6375_7261_7465;

/// A completion of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its text.
    pub text: String,
    /// Whether it was cut off.
    pub truncated: bool,
    /// Its tokens, where they are known.
    pub tokens: Option<usize>,
}

impl Candidate {
    /// What a reward judges.
    pub fn response(&self) -> Response<'_> {
        Response { text: &self.text, truncated: self.truncated, tokens: self.tokens }
    }
}

/// The completions of some tasks, or why a task has none.
pub type Groups = Vec<Result<Vec<Candidate>, &'static str>>;

/// Why a task has no completions.
pub const TOO_LONG: &str = "prompt too long for the policy";

/// Where completions come from.
pub trait Candidates {
    /// The completions of each task; an error text for a task that gets none. `first` is the number of the first of
    /// them, from 0: the same tasks with the same numbers get the same completions.
    ///
    /// # Errors
    /// A policy or a file that cannot be used.
    fn of(&mut self, tasks: &[&Task], first: u64) -> Result<Groups, CurateError>;

    /// Whether [`Self::of`] can read a task; one that is too long can be read, and gets no completions.
    ///
    /// # Errors
    /// Why not.
    fn check(&self, _: &Task) -> Result<(), String> {
        Ok(())
    }
}

/// Samples from a policy.
pub struct Sampled<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// Whoever samples from it.
    pub engine: &'a dyn Engine,
    /// Completions a task, at least 1.
    pub samples: usize,
    /// How they are drawn.
    pub sampling: SamplingParams,
    /// Texts that end a completion and stay part of it.
    pub stop: Vec<String>,
    /// Seed of the samples.
    pub seed: u64,
}

impl Candidates for Sampled<'_> {
    fn check(&self, task: &Task) -> Result<(), String> {
        self.policy.prompt_of(task).map(drop).map_err(|e| e.to_string())
    }

    fn of(&mut self, tasks: &[&Task], first: u64) -> Result<Groups, CurateError> {
        let context = self.policy.decoder.config().max_position_embeddings;
        let (mut prompts, mut fits) = (Vec::new(), Vec::new());
        for task in tasks {
            let prompt = self.policy.prompt_of(task);
            let prompt = prompt.map_err(|e| CurateError::Policy(format!("task {}: {e}", task.id)))?;
            let fit =
                PromptLimit::default().fit(0, &prompt.token_ids, context, self.sampling.max_tokens).is_ok();
            fits.push(fit);
            prompts.extend(fit.then_some(prompt));
        }
        let key = SampleKey { first_prompt: first, ..SampleKey::new(self.seed ^ STREAM, 0) };
        let request =
            Request { stop: &self.stop, ..Request::new(&prompts, self.samples, &self.sampling, key) };
        let failed = |e: &dyn std::fmt::Display| CurateError::Policy(format!("sampling: {e}"));
        let (groups, _) = self.engine.complete(self.policy, &request, None).map_err(|e| failed(&e))?;
        let mut groups = groups.into_iter();
        fits.into_iter()
            .map(|fit| {
                let Some(group) = fit.then(|| groups.next()).flatten() else { return Ok(Err(TOO_LONG)) };
                let texts: Result<Vec<Candidate>, CurateError> = (group.iter())
                    .map(|c| {
                        let text = self.policy.text(&c.token_ids).map_err(|e| failed(&e))?;
                        let truncated = c.finish_reason.is_truncated();
                        Ok(Candidate { text, truncated, tokens: Some(c.token_ids.len()) })
                    })
                    .collect();
                Ok(Ok(texts?))
            })
            .collect()
    }
}

/// Completions by id from a file, in memory: rows `{"id", "completion" or "text", "truncated"?, "tokens"?}`.
pub struct Recorded {
    by_id: HashMap<String, Vec<Candidate>>,
}

impl Recorded {
    /// Reads the completions.
    ///
    /// # Errors
    /// A file or a row that cannot be used.
    pub fn read(path: &Path) -> Result<Self, CurateError> {
        let mut by_id: HashMap<String, Vec<Candidate>> = HashMap::new();
        let read = |row: &crate::rows::Row| -> Result<(String, Candidate), String> {
            let text = ["completion", "text"].iter().find_map(|name| row.fields.get(*name)?.as_str());
            let text = text.ok_or_else(|| rows::missing(&row.fields, "completion"))?;
            let id = rows::id(&row.fields).ok_or_else(|| rows::missing(&row.fields, "id"))?;
            let cut = row.fields.get("truncated").and_then(Value::as_bool);
            let length = row.fields.get("finish_reason").and_then(Value::as_str) == Some("length");
            let tokens = row.fields.get("tokens").and_then(Value::as_u64).map(|n| n as usize);
            Ok((id, Candidate { text: text.to_owned(), truncated: cut.unwrap_or(length), tokens }))
        };
        scan(path, "completions", &Unwatched, &read, &mut |_, (id, candidate)| {
            by_id.entry(id).or_default().push(candidate);
            Ok(())
        })?;
        Ok(Self { by_id })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

impl Candidates for Recorded {
    fn of(&mut self, tasks: &[&Task], _: u64) -> Result<Groups, CurateError> {
        Ok(tasks.iter().map(|task| self.by_id.get(&task.id).cloned().ok_or("no completions")).collect())
    }
}

/// Keeps what another source gives in a file, and takes from it what an interrupted run left there.
pub struct Journal<C> {
    inner: C,
    known: Recorded,
    path: std::path::PathBuf,
    file: BufWriter<File>,
    /// The settings, held so that no other process writes the same journal.
    _held: Held,
}

impl<C: Candidates> Journal<C> {
    /// A journal at `path`, begun or continued, of `samples` completions a task. `settings`, which are kept in
    /// `<path>.settings.json`, must be those that it was begun with.
    ///
    /// # Errors
    /// A file that cannot be read or written, other settings, or another process that writes it.
    pub fn open(path: &Path, inner: C, samples: usize, settings: &Value) -> Result<Self, CurateError> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".settings.json");
        let beside = std::path::PathBuf::from(beside);
        if path.exists() {
            let before = read_regular(&beside, SMALL).ok();
            let before: Option<Value> = before.and_then(|text| serde_json::from_slice(&text).ok());
            if before.as_ref() != Some(settings) {
                let message =
                    "holds completions of other settings; take another name, or remove it to begin again";
                return Err(CurateError::file(path, message));
            }
        } else {
            crate::files::destination::write_atomic(&beside, settings.to_string().as_bytes())?;
        }
        let held = Held(open_regular(&beside).map_err(IoError::at("open", &beside))?);
        if matches!(held.0.try_lock(), Err(TryLockError::WouldBlock))
            || !is_at(&held.0, &beside).unwrap_or(true)
        {
            return Err(CurateError::file(path, "is being written by another process"));
        }
        let known =
            if path.exists() { Self::known(path, samples)? } else { Recorded { by_id: HashMap::new() } };
        let file =
            File::options().create(true).append(true).open(path).map_err(IoError::at("write", path))?;
        Ok(Self { inner, known, path: path.to_path_buf(), file: BufWriter::new(file), _held: held })
    }

    /// What the file holds of whole tasks; what an interruption left of others is removed from it.
    fn known(path: &Path, samples: usize) -> Result<Recorded, CurateError> {
        let bytes = read_regular(path, WHOLE).map_err(IoError::at("read", path))?;
        // The last line may end in the middle of a character.
        let text = String::from_utf8_lossy(&bytes);
        let id = |line: &str| rows::id(&serde_json::from_str(line).unwrap_or_default());
        let lines: Vec<(&str, Option<String>)> = text.lines().map(|line| (line, id(line))).collect();
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for (_, id) in &lines {
            *counts.entry(id.as_deref().unwrap_or_default()).or_default() += 1;
        }
        let whole = |id: &Option<String>| id.as_deref().is_some_and(|id| counts[id] == samples);
        let kept: String =
            lines.iter().filter(|(_, id)| whole(id)).map(|(line, _)| format!("{line}\n")).collect();
        if kept != text {
            crate::files::destination::write_atomic(path, kept.as_bytes())?;
        }
        if kept.is_empty() { Ok(Recorded { by_id: HashMap::new() }) } else { Recorded::read(path) }
    }
}

impl<C: Candidates> Candidates for Journal<C> {
    fn check(&self, task: &Task) -> Result<(), String> {
        self.inner.check(task)
    }

    fn of(&mut self, tasks: &[&Task], first: u64) -> Result<Groups, CurateError> {
        // All or nothing: the same tasks are sampled together again, whatever an interruption left of them.
        if tasks.iter().all(|task| self.known.by_id.contains_key(&task.id)) {
            return self.known.of(tasks, first);
        }
        let groups = self.inner.of(tasks, first)?;
        let mut lines = String::new();
        for (task, group) in tasks.iter().zip(&groups) {
            for c in group.iter().flatten().filter(|_| !self.known.by_id.contains_key(&task.id)) {
                let mut line = json!({"id": task.id, "completion": c.text, "truncated": c.truncated});
                if let Some(tokens) = c.tokens {
                    line["tokens"] = json!(tokens);
                }
                lines.push_str(&format!("{line}\n"));
            }
        }
        let written = self.file.write_all(lines.as_bytes()).and_then(|()| self.file.flush());
        written.map_err(IoError::at("write", &self.path))?;
        Ok(groups)
    }
}
