//! `rlvr logprobs`: log-probabilities of given completions.

use crate::args::LogprobsArgs;
use crate::input::{self, bad};
use crate::{output, policy};
use anyhow::Result;
use rlvr::data::row_images;
use rlvr::files::source::{LineFields, LineSource};
use rlvr::policies::ImageKey;
use rlvr::policies::packed::{PackedBatch, PromptGroup};
use rlvr::policy::Policy;
use rlvr::rewards::{Message, TaskImage};
use rlvr::rows::id_text;
use serde::Serialize;
use serde_json::{Map, Value};
use std::io::Write;
use std::path::Path;

/// Tokens of one pass, unless a single sequence is longer.
const BATCH_TOKENS: usize = 4096;

/// A sequence to score.
struct Item {
    id: Value,
    prompt: Vec<u32>,
    /// Pictures in it.
    images: Vec<ImageKey>,
    completion: Vec<u32>,
    line: usize,
}

#[derive(Serialize)]
struct Output<'a> {
    id: &'a Value,
    tokens: &'a [u32],
    logprobs: &'a [f32],
}

pub fn run(args: &LogprobsArgs) -> Result<()> {
    let t = args.temperature;
    if !(0.001..=1000.0).contains(&t) {
        return Err(bad(format!("--temperature is {t}, it must be between 0.001 and 1000")));
    }
    // Reading first: a mistake in the file shows before minutes of loading.
    let mut source = LineSource::open(&args.input)?;
    let rows = source.objects()?;
    let folder = args.input.parent().unwrap_or(Path::new(""));
    for (line, fields) in &rows {
        Form::of(fields, folder).map_err(|e| source.bad_at(*line, e))?;
    }
    let policy = policy::open(&args.policy, false)?;
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        let line = row.0;
        items.push(item(&policy, row, folder).map_err(|e| source.bad_at(line, e))?);
    }
    let mut out = output::stdout();
    for batch in batches(&items) {
        write_batch(&policy, batch, t, &source, &mut out)?;
        out.flush()?;
    }
    Ok(())
}

/// What a row's sequence is in.
const KEYS: [&str; 4] = ["prompt_tokens", "completion_tokens", "prompt", "completion"];

/// How a row gives its sequence.
enum Form<'a> {
    Ids(&'a Value, &'a Value),
    /// As they are, without the chat template.
    Text(&'a str, &'a str),
    /// By the chat template.
    Conversation(Vec<Message>, Vec<TaskImage>, &'a str),
}

impl<'a> Form<'a> {
    fn of(fields: &'a Map<String, Value>, folder: &Path) -> Result<Self, String> {
        match fields.get("id") {
            None => return Err("the row has no `id`".into()),
            Some(id) if id_text(id).is_none() => {
                return Err("`id` must be a string or a number".into());
            }
            Some(_) => {}
        }
        let get = |key: &str| fields.get(key).filter(|v| !v.is_null());
        if !row_images(fields).is_empty() {
            let Some(completion) = get("completion").and_then(Value::as_str) else {
                return Err("a row with images needs `prompt` and `completion`".into());
            };
            let (messages, images) = input::seen(fields, folder)?;
            return Ok(Self::Conversation(messages, images, completion));
        }
        match (get("prompt_tokens"), get("completion_tokens"), get("prompt"), get("completion")) {
            (Some(prompt), Some(completion), _, _) => Ok(Self::Ids(prompt, completion)),
            (None, None, Some(Value::String(prompt)), Some(Value::String(completion))) => {
                Ok(Self::Text(prompt, completion))
            }
            (None, None, Some(Value::Array(_)), Some(Value::String(completion))) => {
                let (messages, images) = input::seen(fields, folder)?;
                Ok(Self::Conversation(messages, images, completion))
            }
            (None, None, Some(_), Some(_)) => {
                Err("`prompt` must be text or a conversation, `completion` text".into())
            }
            _ => {
                let null = KEYS.into_iter().find(|key| fields.get(*key).is_some_and(Value::is_null));
                if let Some(key) = null {
                    return Err(format!("`{key}` is null"));
                }
                Err("the row needs `prompt_tokens` and `completion_tokens`, or `prompt` and `completion`"
                    .into())
            }
        }
    }
}

fn item(policy: &Policy, (line, mut fields): LineFields, folder: &Path) -> Result<Item, String> {
    let config = policy.decoder.config();
    let mut images = Vec::new();
    let (prompt, completion) = match Form::of(&fields, folder)? {
        Form::Ids(prompt, completion) => (
            ids("prompt_tokens", prompt, config.vocab_size)?,
            ids("completion_tokens", completion, config.vocab_size)?,
        ),
        Form::Text(prompt, completion) => {
            let encode = |text, special| policy.encode(text, special).map_err(|e| e.to_string());
            (encode(prompt, true)?, encode(completion, false)?)
        }
        Form::Conversation(messages, seen, completion) => {
            let prompt = policy.asked(&messages, &seen).map_err(|e| e.to_string())?;
            images = prompt.images;
            (prompt.token_ids, policy.encode(completion, false).map_err(|e| e.to_string())?)
        }
    };
    if prompt.is_empty() {
        return Err("the prompt has no tokens: the first token of a completion would follow nothing".into());
    }
    let (tokens, context) = (prompt.len() + completion.len(), config.max_position_embeddings);
    // The last token is predicted and never fed.
    if tokens - usize::from(!completion.is_empty()) > context {
        return Err(format!("prompt and completion have {tokens} tokens, the policy's context is {context}"));
    }
    let id = fields.remove("id").unwrap_or(Value::Null);
    Ok(Item { id, prompt, images, completion, line })
}

fn ids(key: &str, value: &Value, vocab_size: usize) -> Result<Vec<u32>, String> {
    let list = value.as_array().ok_or_else(|| format!("`{key}` must be a list of token ids"))?;
    let id = |(i, value): (usize, &Value)| {
        let id = value.as_u64().ok_or_else(|| format!("`{key}`[{i}] is {value}, not a token id"))?;
        let known = u32::try_from(id).ok().filter(|id| (*id as usize) < vocab_size);
        known.ok_or_else(|| format!("`{key}`[{i}] is {id}, the vocabulary ends at {}", vocab_size - 1))
    };
    list.iter().enumerate().map(id).collect()
}

/// Consecutive items that fit one pass.
fn batches(mut items: &[Item]) -> impl Iterator<Item = &[Item]> {
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fits = |item: &&Item| {
            tokens += item.prompt.len() + item.completion.len();
            tokens <= BATCH_TOKENS
        };
        let end = items.iter().take_while(fits).count().max(1).min(items.len());
        let (batch, rest) = items.split_at(end);
        items = rest;
        (!batch.is_empty()).then_some(batch)
    })
}

fn write_batch(
    policy: &Policy,
    items: &[Item],
    temperature: f64,
    source: &LineSource,
    out: &mut impl Write,
) -> Result<()> {
    let mut groups: Vec<PromptGroup<'_>> = Vec::new();
    let mut images: Vec<&[ImageKey]> = Vec::new();
    for item in items {
        let same = images.last().is_some_and(|last| *last == item.images);
        match groups.last_mut().filter(|group| same && group.prompt == item.prompt) {
            Some(group) => group.completions.push(&item.completion),
            None => {
                groups.push(PromptGroup { prompt: &item.prompt, completions: vec![&item.completion] });
                images.push(&item.images);
            }
        }
    }
    let mut batch = PackedBatch::new(&groups);
    policy.decoder.place(&mut batch, &images);
    let stats = policy.decoder.logprobs(&batch, temperature);
    for (item, range) in items.iter().zip(batch.completions) {
        let logprobs = &stats.logprobs[range];
        if let Some(i) = logprobs.iter().position(|l| l.is_nan()) {
            let place = source.place(item.line);
            anyhow::bail!(
                "{place}: the log-probability of completion token {i} is not a number: are the weights damaged?"
            );
        }
        serde_json::to_writer(&mut *out, &Output { id: &item.id, tokens: &item.completion, logprobs })?;
        writeln!(out)?;
    }
    Ok(())
}
