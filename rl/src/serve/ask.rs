//! What a request asks for, read from its JSON and checked.

use super::fields::{Fields, shown};
use super::refusal::Refusal;
use super::{Model, Options};
use rlvr_policies::Decoder;
use rlvr_rewards::conversation::conversation;
use rlvr_rollout::{Prompt, PromptLimit, SamplingParams};
use serde_json::Value;

/// Most completions a prompt.
const MAX_SAMPLES: usize = 128;
/// Most texts that end a completion.
const MAX_STOPS: usize = 16;
/// Longest of them, in bytes.
const MAX_STOP: usize = 1024;
/// Most alternatives of a token.
const MAX_ALTERNATIVES: usize = 20;
/// Completion tokens where nobody says how many, of `/v1/completions`.
const USUAL_TOKENS: usize = 16;

/// A request for completions.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) chat: bool,
    /// Index of the model.
    pub(super) model: usize,
    pub(super) prompts: Vec<Prompt>,
    /// Completions a prompt.
    pub(super) n: usize,
    /// None where nothing is to be generated.
    pub(super) sampling: Option<SamplingParams>,
    pub(super) seed: Option<u64>,
    pub(super) stop: Vec<String>,
    pub(super) ignore_eos: bool,
    pub(super) include_stop: bool,
    pub(super) keep_special: bool,
    /// Log-probabilities are wanted, with so many alternatives.
    pub(super) logprobs: Option<usize>,
    /// The prompt is to be part of the text.
    pub(super) echo: bool,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) return_ids: bool,
    /// Tokens of log-probabilities as `token_id:N`.
    pub(super) tokens_as_ids: bool,
}

impl Ask {
    /// The completions that it needs a place in the queue for.
    pub(super) fn rows(&self) -> usize {
        self.prompts.len() * self.n
    }

    /// Whether prompts are to be scored.
    pub(super) fn scores(&self) -> bool {
        self.echo && self.logprobs.is_some()
    }
}

/// Reads the body of `/v1/completions` or, for a `chat`, of `/v1/chat/completions`.
pub(super) fn read(body: &[u8], chat: bool, models: &[Model], options: &Options) -> Result<Ask, Refusal> {
    let mut fields = Fields::parse(body)?;
    let model = match fields.text("model")? {
        None => 0,
        Some(name) => index_of(&name, models)?,
    };
    let policy = &models[model].policy;
    let prompts = if chat {
        conversation_of(&mut fields, &models[model])?
    } else {
        prompts_of(&mut fields, &models[model])?
    };
    let context = policy.decoder.config().max_position_embeddings;
    let n = fields.count("n")?.unwrap_or(1);
    if !(1..=MAX_SAMPLES).contains(&n) {
        return Err(Refusal::field("n", format!("is {n}, it must be between 1 and {MAX_SAMPLES}")));
    }
    let most = match (fields.count("max_completion_tokens")?, fields.count("max_tokens")?) {
        (Some(most), _) | (None, Some(most)) => most,
        (None, None) if chat => context,
        (None, None) => USUAL_TOKENS,
    };
    let most = most.min(options.max_tokens);
    let echo = fields.flag("echo")?;
    if most == 0 && !echo {
        return Err(Refusal::field("max_tokens", "is 0, it must be at least 1 without `echo`"));
    }
    let (seed, stop) = (fields.whole("seed")?.map(i64::cast_unsigned), stops(&mut fields)?);
    let sampling = sampling_of(&mut fields, most, &policy.decoder)?;
    let stream = fields.flag("stream")?;
    let (logprobs, echo) = (logprobs_of(&mut fields, chat)?, echo);
    let ask = Ask {
        chat,
        model,
        prompts,
        n,
        seed,
        stop,
        ignore_eos: fields.flag("ignore_eos")?,
        include_stop: fields.flag("include_stop_str_in_output")?,
        keep_special: fields.take("skip_special_tokens").is_some_and(|v| v == Value::Bool(false)),
        logprobs,
        echo,
        stream,
        include_usage: usage_of(&mut fields)?,
        return_ids: fields.flag("return_token_ids")?,
        tokens_as_ids: fields.flag("return_tokens_as_token_ids")?,
        sampling: (most > 0).then_some(sampling),
    };
    fields.nothing_else()?;
    check(&ask, context, models)?;
    Ok(ask)
}

fn check(ask: &Ask, context: usize, models: &[Model]) -> Result<(), Refusal> {
    let name = if ask.chat { "messages" } else { "prompt" };
    let most = match ask.sampling {
        Some(_) => PromptLimit::default().tokens(context, 1),
        None => context,
    };
    if let Some(prompt) = ask.prompts.iter().find(|prompt| prompt.token_ids.len() > most) {
        let tokens = prompt.token_ids.len();
        let what = format!("has {tokens} tokens, the context of the policy is {context}: shorten it");
        return Err(Refusal::field(name, what));
    }
    let image = models[ask.model].policy.decoder.vision().map(|vision| vision.image_token);
    if ask.prompts.iter().any(|prompt| prompt.token_ids.iter().any(|id| Some(*id) == image)) {
        return Err(Refusal::field(name, "has the token of an image in it, and images cannot be sent"));
    }
    if let Some(sampling) = &ask.sampling {
        sampling.validate().map_err(|e| Refusal::new(400, e.to_string()))?;
    }
    if ask.chat && ask.echo {
        return Err(Refusal::field("echo", "is not for chats"));
    }
    if ask.stream && ask.echo {
        return Err(Refusal::field("echo", "cannot be streamed: leave out `stream`"));
    }
    Ok(())
}

fn index_of(name: &str, models: &[Model]) -> Result<usize, Refusal> {
    let found = models.iter().position(|model| model.name == name);
    found.ok_or_else(|| {
        let known: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
        let name = shown(&Value::from(name));
        let mut refusal =
            Refusal::field("model", format!("{name} is not served here: {} is", known.join(", ")));
        refusal.status = 404;
        refusal
    })
}

/// `prompt`: text, token ids, or a list of either.
fn prompts_of(fields: &mut Fields, model: &Model) -> Result<Vec<Prompt>, Refusal> {
    let Some(value) = fields.take("prompt") else { return Err(Refusal::field("prompt", "is missing")) };
    let list = match &value {
        Value::Array(list) if list.first().is_some_and(|v| v.is_string() || v.is_array()) => &list[..],
        Value::Array(list) if list.is_empty() => return Err(Refusal::field("prompt", "is empty")),
        one => std::slice::from_ref(one),
    };
    list.iter().map(|value| prompt_of(value, model)).collect()
}

fn prompt_of(value: &Value, model: &Model) -> Result<Prompt, Refusal> {
    let policy = &model.policy;
    let token_ids = match value {
        Value::String(text) => {
            policy.encode(text, true).map_err(|e| Refusal::field("prompt", format!("cannot be used: {e}")))?
        }
        Value::Array(ids) => {
            let vocabulary = policy.decoder.config().vocab_size;
            let id = |value: &Value| {
                let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
                id.filter(|id| (*id as usize) < vocabulary).ok_or_else(|| {
                    let what =
                        format!("{} is no token id: they are whole numbers below {vocabulary}", shown(value));
                    Refusal::field("prompt", format!("has something in it that cannot be used: {what}"))
                })
            };
            ids.iter().map(id).collect::<Result<_, _>>()?
        }
        other => {
            let what = format!("must be text, a list of token ids, or a list of those, not {}", shown(other));
            return Err(Refusal::field("prompt", what));
        }
    };
    if token_ids.is_empty() {
        return Err(Refusal::field("prompt", "has no tokens: begin it with one at least"));
    }
    Ok(token_ids.into())
}

/// `messages`, by the chat template.
fn conversation_of(fields: &mut Fields, model: &Model) -> Result<Vec<Prompt>, Refusal> {
    let Some(value) = fields.take("messages") else { return Err(Refusal::field("messages", "is missing")) };
    let messages = conversation(&value, "messages").map_err(|e| Refusal::new(400, e))?;
    let prompt = model.policy.prompt(&messages);
    Ok(vec![prompt.map_err(|e| Refusal::field("messages", format!("cannot be used: {e}")))?])
}

fn sampling_of(fields: &mut Fields, most: usize, decoder: &Decoder) -> Result<SamplingParams, Refusal> {
    let vocabulary = decoder.config().vocab_size;
    let top_k = match fields.whole("top_k")? {
        // As vLLM has it.
        None | Some(0 | -1) => None,
        Some(k) => {
            let positive =
                usize::try_from(k).map_err(|_| Refusal::field("top_k", format!("is {k}, below −1")))?;
            Some(positive)
        }
    };
    let stop_sequences = match fields.take("stop_token_ids") {
        None => Vec::new(),
        Some(value) => {
            let wrong = || {
                Refusal::field("stop_token_ids", format!("must be a list of token ids below {vocabulary}"))
            };
            let ids: Vec<u32> = serde_json::from_value(value).map_err(|_| wrong())?;
            if ids.len() > MAX_STOPS || ids.iter().any(|id| *id as usize >= vocabulary) {
                return Err(wrong());
            }
            ids.into_iter().map(|id| vec![id]).collect()
        }
    };
    Ok(SamplingParams {
        temperature: fields.number("temperature")?.unwrap_or(1.0),
        top_k,
        top_p: fields.number("top_p")?,
        min_p: fields.number("min_p")?,
        // What does not fit into the context ends with it.
        max_tokens: most.clamp(1, decoder.config().max_position_embeddings),
        stop_sequences,
    })
}

/// `stop`: a text or a list.
fn stops(fields: &mut Fields) -> Result<Vec<String>, Refusal> {
    let stop = match fields.take("stop") {
        None => Vec::new(),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(list)) => {
            let text = |v: Value| v.as_str().map(str::to_owned);
            let texts: Option<Vec<String>> = list.into_iter().map(text).collect();
            texts.ok_or_else(|| Refusal::field("stop", "must be text or a list of texts"))?
        }
        Some(other) => {
            return Err(Refusal::field(
                "stop",
                format!("must be text or a list of texts, not {}", shown(&other)),
            ));
        }
    };
    if stop.len() > MAX_STOPS {
        return Err(Refusal::field(
            "stop",
            format!("has {} texts, at most {MAX_STOPS} are possible", stop.len()),
        ));
    }
    match stop.iter().find(|text| text.is_empty() || text.len() > MAX_STOP) {
        Some(text) if text.is_empty() => {
            Err(Refusal::field("stop", "has an empty text, which would end every completion at once"))
        }
        Some(_) => Err(Refusal::field("stop", format!("has a text of more than {MAX_STOP} bytes"))),
        None => Ok(stop),
    }
}

fn logprobs_of(fields: &mut Fields, chat: bool) -> Result<Option<usize>, Refusal> {
    let (name, wanted) = if chat {
        let (wanted, top) = (fields.flag("logprobs")?, fields.count("top_logprobs")?);
        if top.is_some_and(|top| top > 0) && !wanted {
            return Err(Refusal::field("top_logprobs", "needs `logprobs`: true"));
        }
        ("top_logprobs", wanted.then_some(top.unwrap_or(0)))
    } else {
        ("logprobs", fields.count("logprobs")?)
    };
    match wanted {
        Some(k) if k > MAX_ALTERNATIVES => {
            Err(Refusal::field(name, format!("is {k}, at most {MAX_ALTERNATIVES} are possible")))
        }
        wanted => Ok(wanted),
    }
}

fn usage_of(fields: &mut Fields) -> Result<bool, Refusal> {
    let Some(options) = fields.take("stream_options") else { return Ok(false) };
    match options.get("include_usage") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(wanted)) => Ok(*wanted),
        Some(_) => Err(Refusal::field("stream_options", "has an `include_usage` that is not true or false")),
    }
}
