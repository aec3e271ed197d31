//! vLLM's own HTTP, as version 0.32 has it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rlvr_rollout::SamplingParams;
use serde_json::{Value, json};

use super::error::EngineError;
use super::server::Server;
use super::{Ask, Choice, Ended, Facts, Protocol};

const GENERATE: &str = "/inference/v1/generate";
const COMPLETIONS: &str = "/v1/completions";

/// What is asked of vLLM.
#[derive(Debug, Default)]
pub(super) struct Vllm {
    /// Whether [`GENERATE`] is closed, so that [`COMPLETIONS`] is asked.
    closed: AtomicBool,
    /// Whether a server computes on a CPU, where 0.32 dies of a request with a seed whose prompt it reads in two parts.
    unseeded: AtomicBool,
}

impl Protocol for Vllm {
    fn facts(&self, server: &Server) -> Result<Facts, EngineError> {
        let models = server.get("/v1/models")?;
        let listed = models["data"].as_array().cloned().unwrap_or_default();
        // Only servers in development mode say more.
        let info = server.get("/server_info?config_format=json").unwrap_or_default();
        let model = &info["vllm_config"]["model_config"];
        if info["vllm_config"]["device_config"]["device"] == "cpu" {
            self.unseeded.store(true, Ordering::Relaxed);
        }
        let raw = model["logprobs_mode"].as_str().filter(|mode| *mode != "processed_logprobs");
        Ok(Facts {
            models: listed.iter().filter_map(|m| m["id"].as_str().map(str::to_owned)).collect(),
            context: listed.first().and_then(|m| m["max_model_len"].as_u64()),
            dtype: model["dtype"].as_str().map(|name| name.trim_start_matches("torch.").to_owned()),
            wrong: raw
                .map(|mode| format!("it reports {mode}: start it with --logprobs-mode processed_logprobs")),
        })
    }

    fn sample(&self, server: &Server, ask: &Ask<'_>) -> Result<Vec<Choice>, EngineError> {
        if !self.closed.load(Ordering::Relaxed) {
            let mut params = self.sampling(ask);
            params["detokenize"] = json!(false);
            let body = json!({
                "request_id": ask.id, "model": ask.model, "token_ids": ask.ids, "return_token_ids": true,
                "sampling_params": params,
            });
            match server.post(GENERATE, &body) {
                Err(EngineError::Status { status: 403..=405, said, .. }) if !said.contains("model") => {
                    tracing::info!("{}{GENERATE} is closed, {COMPLETIONS} is asked", server.url());
                    self.closed.store(true, Ordering::Relaxed);
                }
                answer => return choices(server, &answer?),
            }
        }
        let mut body = self.sampling(ask);
        let fields = [
            ("request_id", json!(ask.id)),
            ("model", json!(ask.model)),
            ("prompt", json!(ask.ids)),
            ("return_token_ids", json!(true)),
            ("skip_special_tokens", json!(false)),
        ];
        fields.into_iter().for_each(|(key, value)| body[key] = value);
        choices(server, &server.post(COMPLETIONS, &body)?)
    }

    fn abort(&self, server: &Server, ids: &[String]) -> Result<(), EngineError> {
        // Each endpoint puts its own word before the id.
        let ids: Vec<String> = ids
            .iter()
            .flat_map(|id| [id.clone(), format!("cmpl-{id}"), format!("generate-tokens-{id}")])
            .collect();
        server.post("/abort_requests", &json!({ "request_ids": ids })).map(drop)
    }

    fn load_folder(&self, server: &Server, folder: &Path, version: &str) -> Result<(), EngineError> {
        let empty = json!({});
        let hint = |error| hinted(error, ": start it with VLLM_SERVER_DEV_MODE=1 to hand over folders");
        server.post("/pause?mode=wait", &empty).map_err(hint)?;
        let reload = json!({"method": "reload_weights", "kwargs": {"weights_path": folder}});
        let loaded = server
            .post("/collective_rpc", &reload)
            .map_err(|error| hinted(error, ": the server is of no use after that and must be started again"));
        let loaded = loaded.and_then(|_| {
            server.post("/reset_prefix_cache", &empty)?;
            server.post("/update_weight_version", &json!({ "new_version": version }))
        });
        // It would wait for ever otherwise.
        let resumed = server.post("/resume", &empty);
        loaded.and(resumed).map(drop)
    }

    fn version(&self, server: &Server) -> Result<Option<String>, EngineError> {
        Ok(server.get("/weight_info")?["weight_version"].as_str().map(str::to_owned))
    }

    fn load_adapter(&self, server: &Server, name: &str, folder: &Path) -> Result<(), EngineError> {
        let body = json!({"lora_name": name, "lora_path": folder});
        let hint = ": to hand over adapters start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and --enable-lora \
                    --max-lora-rank RANK, where it sees the folder under the same path";
        server.post("/v1/load_lora_adapter", &body).map(drop).map_err(|error| hinted(error, hint))
    }

    fn unload_adapter(&self, server: &Server, name: &str) -> Result<(), EngineError> {
        server.post("/v1/unload_lora_adapter", &json!({ "lora_name": name })).map(drop)
    }
}

impl Vllm {
    /// Every parameter is said: what is left out is filled in from a file of the model.
    fn sampling(&self, ask: &Ask<'_>) -> Value {
        let SamplingParams { temperature, top_k, top_p, min_p, .. } = ask.sampling;
        let seed = (!self.unseeded.load(Ordering::Relaxed)).then_some(ask.seed);
        json!({
            "n": ask.samples, "seed": seed, "temperature": temperature, "top_k": top_k.unwrap_or(0),
            "top_p": top_p.unwrap_or(1.0), "min_p": min_p.unwrap_or(0.0), "max_tokens": ask.max_tokens,
            "presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0,
            // Ends are those of the policy, which the file of the model may not name all.
            "ignore_eos": true, "stop_token_ids": ask.ends, "logprobs": 0,
        })
    }
}

/// A refusal with what to do about it.
fn hinted(error: EngineError, hint: &str) -> EngineError {
    match error {
        EngineError::Status { url, status, said, .. } => {
            EngineError::Status { url, status, said, hint: hint.to_owned() }
        }
        other => other,
    }
}

fn choices(server: &Server, answer: &Value) -> Result<Vec<Choice>, EngineError> {
    let Some(all) = answer["choices"].as_array() else {
        return Err(server.wrong("its answer has no `choices`"));
    };
    let choice = |(place, choice): (usize, &Value)| {
        let logprobs = &choice["logprobs"];
        // One endpoint lists objects, the other columns.
        let logprobs: Option<Vec<f64>> = match logprobs["content"].as_array() {
            Some(content) => content.iter().map(|token| token["logprob"].as_f64()).collect(),
            None => logprobs["token_logprobs"].as_array().and_then(|l| l.iter().map(Value::as_f64).collect()),
        };
        let versions = choice["weight_versions"].as_array();
        let index = choice["index"].as_u64().map_or(place, |index| index as usize);
        Ok(Choice {
            index,
            token_ids: super::ids(&choice["token_ids"])
                .ok_or_else(|| server.wrong(format!("choice {index} has no `token_ids`")))?,
            logprobs: logprobs
                .ok_or_else(|| server.wrong(format!("choice {index} has no log-probabilities")))?,
            ended: match choice["finish_reason"].as_str() {
                Some("stop") => Ended::Stop,
                Some("length") => Ended::Length,
                Some("abort") => Ended::Abort,
                other => return Err(server.wrong(format!("choice {index} ended by {other:?}"))),
            },
            versions: versions.map(|spans| {
                spans.iter().filter_map(|span| span["version"].as_str().map(str::to_owned)).collect()
            }),
        })
    };
    all.iter().enumerate().map(choice).collect()
}
