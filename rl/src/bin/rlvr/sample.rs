//! `rlvr sample`: completions of prompts.

use crate::args::SampleArgs;
use crate::input::{self, bad};
use crate::{output, policy};
use anyhow::Result;
use rlvr::data::placed_images;
use rlvr::files::source::LineSource;
use rlvr::generate;
use rlvr::policy::Policy;
use rlvr::rewards::{Message, TaskImage};
use rlvr::rollout::{Completion, Prompt, SampleKey, SamplingParams};
use rlvr::rows::id_text;
use serde::Serialize;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

/// Completions that are made before they are written.
const ROWS: usize = 64;

struct Request {
    id: Value,
    messages: Vec<Message>,
    images: Vec<TaskImage>,
    place: String,
}

#[derive(Serialize)]
struct SampleLine<'a> {
    id: &'a Value,
    sample: usize,
    text: &'a str,
    tokens: &'a [u32],
    logprobs: &'a [f32],
    finish_reason: &'a str,
}

pub fn run(args: &SampleArgs) -> Result<()> {
    let params = policy::sampling(SamplingParams {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        max_tokens: args.max_tokens,
        stop_sequences: Vec::new(),
    })?;
    policy::check_stop(&args.stop)?;
    let requests = match (&args.prompt, &args.tasks) {
        (Some(text), _) => {
            let message = Message { role: "user".into(), content: text.clone() };
            let images = args.images.iter().map(|path| TaskImage::Path(path.clone())).collect::<Vec<_>>();
            let mut messages = vec![message];
            let values: Vec<Value> = args.images.iter().map(|path| json!(path)).collect();
            placed_images(&mut messages, &values, Path::new("")).map_err(bad)?;
            vec![Request { id: json!("prompt"), messages, images, place: "--prompt".into() }]
        }
        (None, Some(path)) => requests(path)?,
        (None, None) => return Err(bad("give --prompt TEXT or --tasks FILE")),
    };
    let policy = policy::open(&args.policy, args.raw)?;
    let prompts = prompts(&policy, &requests, &params)?;
    let several = requests.len() > 1 || args.n > 1;
    let mut out = output::stdout();
    let chunk = (ROWS / args.n).max(1);
    for (i, (requests, prompts)) in requests.chunks(chunk).zip(prompts.chunks(chunk)).enumerate() {
        let key = SampleKey { first_prompt: (i * chunk) as u64, ..SampleKey::new(args.seed, 0) };
        let request =
            generate::Request { stop: &args.stop, ..generate::Request::new(prompts, args.n, &params, key) };
        let (groups, _) = generate::generate(&policy, &request, None).map_err(rlvr::Error::from)?;
        for (request, group) in requests.iter().zip(&groups) {
            for (sample, completion) in group.iter().enumerate() {
                let text = policy.text(&completion.token_ids)?;
                if args.json {
                    write_row(&mut out, request, sample, completion, &text)?;
                } else {
                    write_text(&mut out, request, sample, completion, &text, several)?;
                }
            }
        }
        out.flush()?;
    }
    Ok(())
}

fn write_row(
    out: &mut impl Write,
    request: &Request,
    sample: usize,
    c: &Completion,
    text: &str,
) -> Result<()> {
    let row = SampleLine {
        id: &request.id,
        sample,
        text,
        tokens: &c.token_ids,
        logprobs: &c.logprobs,
        finish_reason: c.finish_reason.as_str(),
    };
    serde_json::to_writer(&mut *out, &row)?;
    Ok(writeln!(out)?)
}

fn write_text(
    out: &mut impl Write,
    request: &Request,
    sample: usize,
    completion: &Completion,
    text: &str,
    several: bool,
) -> Result<()> {
    if several {
        let id = id_text(&request.id).unwrap_or_default();
        let tokens = output::count(completion.token_ids.len(), "token");
        let end = completion.finish_reason.as_str();
        writeln!(out, "--- {}, sample {sample}, {tokens}, {end}", output::one_line(&id, 60))?;
    }
    Ok(writeln!(out, "{}", output::printable(text).trim_end_matches('\n'))?)
}

/// The rows of `--tasks`.
fn requests(path: &Path) -> Result<Vec<Request>> {
    let mut source = LineSource::open(path)?;
    let mut requests = Vec::new();
    while let Some((line, fields)) = source.next_object()? {
        let id = match fields.get("id") {
            None | Some(Value::Null) => json!(line.to_string()),
            Some(id) if id_text(id).is_some() => id.clone(),
            Some(_) => return Err(source.bad_at(line, "`id` must be a string or a number").into()),
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        let (messages, images) = input::seen(&fields, folder).map_err(|e| source.bad_at(line, e))?;
        requests.push(Request { id, messages, images, place: source.place(line) });
    }
    if requests.is_empty() {
        return Err(bad(format!("{}: no prompts in it", path.display())));
    }
    Ok(requests)
}

fn prompts(policy: &Policy, requests: &[Request], params: &SamplingParams) -> Result<Vec<Prompt>> {
    let mut prompts = Vec::with_capacity(requests.len());
    for request in requests {
        let prompt = policy.asked(&request.messages, &request.images);
        let prompt = prompt.map_err(|e| bad(format!("{}: {e}", request.place)))?;
        policy.check_room(prompt.token_ids.len(), params.max_tokens, &request.place)?;
        prompts.push(prompt);
    }
    Ok(prompts)
}
