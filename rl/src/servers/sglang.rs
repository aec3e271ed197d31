//! SGLang's own HTTP, by the sources of version 0.5.23. It has never been run against a server.

use std::path::Path;

use rlvr_rollout::SamplingParams;
use serde_json::{Value, json};

use super::error::EngineError;
use super::server::Server;
use super::{Ask, Choice, Ended, Facts, Protocol, ids};

/// What is asked of SGLang.
#[derive(Debug, Default)]
pub(super) struct Sglang;

impl Protocol for Sglang {
    fn facts(&self, server: &Server) -> Result<Facts, EngineError> {
        let models = server.get("/v1/models")?;
        let listed = models["data"].as_array().cloned().unwrap_or_default();
        let info = server.get("/get_server_info").unwrap_or_default();
        Ok(Facts {
            models: listed.iter().filter_map(|m| m["id"].as_str().map(str::to_owned)).collect(),
            context: listed.first().and_then(|m| m["max_model_len"].as_u64()),
            dtype: info["dtype"].as_str().filter(|dtype| *dtype != "auto").map(str::to_owned),
            wrong: None,
        })
    }

    fn sample(&self, server: &Server, ask: &Ask<'_>) -> Result<Vec<Choice>, EngineError> {
        let SamplingParams { temperature, top_k, top_p, min_p, .. } = ask.sampling;
        let mut body = json!({
            "rid": ask.id, "input_ids": ask.ids, "return_logprob": true, "logprob_start_len": -1, "stream": false,
            "sampling_params": {
                "n": ask.samples, "temperature": temperature, "top_k": top_k.map_or(-1, |k| k as i64),
                "top_p": top_p.unwrap_or(1.0), "min_p": min_p.unwrap_or(0.0), "max_new_tokens": ask.max_tokens,
                "frequency_penalty": 0.0, "presence_penalty": 0.0, "repetition_penalty": 1.0, "ignore_eos": true,
                "stop_token_ids": ask.ends, "skip_special_tokens": false, "no_stop_trim": true,
                "sampling_seed": ask.seed,
            },
        });
        if ask.adapter {
            body["lora_path"] = json!(ask.model);
        }
        let answer = server.post("/generate", &body)?;
        let all = match &answer {
            Value::Array(all) => all.as_slice(),
            one => std::slice::from_ref(one),
        };
        all.iter().enumerate().map(|(index, one)| choice(server, index, one)).collect()
    }

    fn abort(&self, server: &Server, ids: &[String]) -> Result<(), EngineError> {
        ids.iter().try_for_each(|id| server.post("/abort_request", &json!({ "rid": id })).map(drop))
    }

    fn load_folder(&self, server: &Server, folder: &Path, version: &str) -> Result<(), EngineError> {
        server.post("/pause_generation", &json!({"mode": "retract"}))?;
        let body = json!({"model_path": folder, "weight_version": version, "flush_cache": true});
        let loaded =
            server.post("/update_weights_from_disk", &body).and_then(|answer| taken(server, &answer));
        let resumed = server.post("/continue_generation", &json!({}));
        loaded.and(resumed.map(drop))
    }

    fn version(&self, server: &Server) -> Result<Option<String>, EngineError> {
        Ok(server.get("/get_weight_version")?["weight_version"].as_str().map(str::to_owned))
    }

    fn load_adapter(&self, server: &Server, name: &str, folder: &Path) -> Result<(), EngineError> {
        let body = json!({"lora_name": name, "lora_path": folder});
        taken(server, &server.post("/load_lora_adapter", &body)?)
    }

    fn unload_adapter(&self, server: &Server, name: &str) -> Result<(), EngineError> {
        taken(server, &server.post("/unload_lora_adapter", &json!({ "lora_name": name }))?)
    }
}

/// Whether weights were taken.
fn taken(server: &Server, answer: &Value) -> Result<(), EngineError> {
    match answer["success"].as_bool() {
        Some(true) => Ok(()),
        _ => {
            let said = answer["message"].as_str().or(answer["error_message"].as_str());
            Err(server.wrong(format!("it did not take the weights: {}", said.unwrap_or("it says nothing"))))
        }
    }
}

fn choice(server: &Server, index: usize, one: &Value) -> Result<Choice, EngineError> {
    let meta = &one["meta_info"];
    let logprobs = meta["output_token_logprobs"].as_array();
    let logprobs = logprobs.and_then(|l| l.iter().map(|token| token[0].as_f64()).collect());
    Ok(Choice {
        index,
        token_ids: ids(&one["output_ids"])
            .ok_or_else(|| server.wrong(format!("choice {index} has no `output_ids`")))?,
        logprobs: logprobs.ok_or_else(|| server.wrong(format!("choice {index} has no log-probabilities")))?,
        ended: match meta["finish_reason"]["type"].as_str() {
            Some("stop") => Ended::Stop,
            Some("length") => Ended::Length,
            Some("abort") => Ended::Abort,
            other => return Err(server.wrong(format!("choice {index} ended by {other:?}"))),
        },
        versions: meta["weight_version"].as_str().map(|version| vec![version.to_owned()]),
    })
}
