//! Replies as OpenAI's completions and chats have them, with the further fields of vLLM.

use super::ask::Ask;
use super::engine::Said;
use super::text::Wording;
use rlvr_rollout::FinishReason;
use serde_json::{Map, Value, json};

/// What all parts of a reply have.
pub(super) struct Envelope<'a> {
    pub(super) ask: &'a Ask,
    pub(super) wording: Wording<'a>,
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: &'a str,
}

/// A completion that is whole.
pub(super) struct Choice {
    pub(super) tokens: Vec<Said>,
    pub(super) reason: Option<FinishReason>,
}

/// A log-probability as JSON has it: it knows no infinity.
fn number(logprob: f32) -> Value {
    json!(if logprob.is_finite() { f64::from(logprob) } else { -9999.0 })
}

fn reason_text(reason: FinishReason) -> &'static str {
    if reason.is_truncated() { "length" } else { "stop" }
}

impl Envelope<'_> {
    fn envelope(&self, object: &str, choices: Vec<Value>, usage: Option<Value>) -> Value {
        let mut reply = json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices,
        });
        if let Some(usage) = usage {
            reply["usage"] = usage;
        }
        reply
    }

    /// Prompt tokens count once a prompt, those of completions all.
    fn usage(&self, completion_tokens: usize) -> Value {
        let prompt_tokens: usize = self.ask.prompts.iter().map(|prompt| prompt.token_ids.len()).sum();
        json!({
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        })
    }

    /// The whole reply. `choices[p][g]`, `scored[p]`.
    pub(super) fn whole(&self, choices: &[Vec<Choice>], scored: &[Vec<Said>]) -> Value {
        let completion_tokens = choices.iter().flatten().map(|choice| choice.tokens.len()).sum();
        let n = self.ask.n;
        let values = choices.iter().enumerate().flat_map(|(p, group)| {
            group.iter().enumerate().map(move |(g, choice)| {
                let index = p * n + g;
                if self.ask.chat {
                    self.message(index, p, choice)
                } else {
                    self.completion(index, p, choice, scored.get(p))
                }
            })
        });
        let object = if self.ask.chat { "chat.completion" } else { "text_completion" };
        self.envelope(object, values.collect(), Some(self.usage(completion_tokens)))
    }

    fn completion(&self, index: usize, p: usize, choice: &Choice, scored: Option<&Vec<Said>>) -> Value {
        let ids: Vec<u32> = choice.tokens.iter().map(|said| said.id).collect();
        let (said, stop) = self.wording.whole(&ids);
        let mut text = String::new();
        if self.ask.echo {
            let tokenizer = self.wording.policy.tokenizer();
            text = tokenizer
                .decode(&self.ask.prompts[p].token_ids, !self.wording.keep_special)
                .unwrap_or_default();
        }
        text.push_str(&said);
        let logprobs = self
            .ask
            .logprobs
            .map(|_| self.logprobs(scored.into_iter().flatten().chain(&choice.tokens), &mut 0));
        let mut value = json!({
            "index": index,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": choice.reason.map_or("length", reason_text),
            "stop_reason": stop,
        });
        self.add_ids(&mut value, &ids, Some(p));
        value
    }

    fn message(&self, index: usize, p: usize, choice: &Choice) -> Value {
        let ids: Vec<u32> = choice.tokens.iter().map(|said| said.id).collect();
        let (text, stop) = self.wording.whole(&ids);
        let mut value = json!({
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": null},
            "logprobs": self.ask.logprobs.map(|k| self.content(&choice.tokens, k)),
            "finish_reason": choice.reason.map_or("length", reason_text),
            "stop_reason": stop,
        });
        self.add_ids(&mut value, &ids, Some(p));
        value
    }

    fn add_ids(&self, value: &mut Value, ids: &[u32], prompt: Option<usize>) {
        if self.ask.return_ids {
            value["token_ids"] = json!(ids);
            if let Some(p) = prompt {
                value["prompt_token_ids"] = json!(self.ask.prompts[p].token_ids);
            }
        }
    }

    fn token(&self, id: u32) -> String {
        if self.ask.tokens_as_ids { format!("token_id:{id}") } else { self.wording.token(id) }
    }

    /// Log-probabilities as completions have them; `offset` counts characters of the tokens so far.
    fn logprobs<'s>(&self, tokens: impl Iterator<Item = &'s Said>, offset: &mut usize) -> Value {
        let (mut names, mut values, mut tops, mut offsets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for said in tokens {
            let name = self.token(said.id);
            offsets.push(*offset);
            *offset += name.chars().count();
            values.push(said.logprob.map_or(Value::Null, number));
            tops.push(said.logprob.map_or(Value::Null, |logprob| {
                // Several tokens may have the same text; the most probable of them comes first.
                let mut top = Map::new();
                for other in &said.alternatives {
                    top.entry(self.token(other.token)).or_insert_with(|| number(other.logprob));
                }
                top.entry(name.clone()).or_insert_with(|| number(logprob));
                Value::Object(top)
            }));
            names.push(name);
        }
        json!({"text_offset": offsets, "token_logprobs": values, "tokens": names, "top_logprobs": tops})
    }

    /// Log-probabilities as chats have them.
    fn content(&self, tokens: &[Said], k: usize) -> Value {
        let one = |id: u32, logprob: f32| {
            let token = self.token(id);
            let bytes = token.as_bytes();
            json!({"token": token, "logprob": number(logprob), "bytes": bytes})
        };
        let said = |said: &Said| {
            let mut value = one(said.id, said.logprob.unwrap_or_default());
            let top = said.alternatives.iter().take(k).map(|other| one(other.token, other.logprob));
            value["top_logprobs"] = top.collect();
            value
        };
        json!({"content": tokens.iter().map(said).collect::<Vec<_>>()})
    }

    /// A piece of a streamed reply. `first`: the choice begins with it. `end`: why it ends, and the text that ended it.
    pub(super) fn piece(
        &self,
        (p, g): (usize, usize),
        (text, tokens): (&str, &[Said]),
        offset: &mut usize,
        first: bool,
        end: Option<(FinishReason, Option<String>)>,
    ) -> Value {
        let index = p * self.ask.n + g;
        let (reason, stop) = end.map_or((None, None), |(reason, stop)| (Some(reason_text(reason)), stop));
        let ids: Vec<u32> = tokens.iter().map(|said| said.id).collect();
        let mut value = if self.ask.chat {
            let mut delta = Map::new();
            if first {
                delta.insert("role".into(), json!("assistant"));
            }
            if first || !text.is_empty() {
                delta.insert("content".into(), json!(text));
            }
            let logprobs = self.ask.logprobs.map(|k| self.content(tokens, k));
            json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason, "stop_reason": stop})
        } else {
            let logprobs = self.ask.logprobs.map(|_| self.logprobs(tokens.iter(), offset));
            json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason, "stop_reason": stop})
        };
        self.add_ids(&mut value, &ids, first.then_some(p));
        let object = if self.ask.chat { "chat.completion.chunk" } else { "text_completion" };
        self.envelope(object, vec![value], None)
    }

    /// The last piece of a streamed reply, where it is asked for.
    pub(super) fn counted(&self, completion_tokens: usize) -> Value {
        let object = if self.ask.chat { "chat.completion.chunk" } else { "text_completion" };
        self.envelope(object, Vec::new(), Some(self.usage(completion_tokens)))
    }
}
