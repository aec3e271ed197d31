//! A server that answers as vLLM 0.32 does (recorded answers of one gave the shapes), over a policy of ours, with faults on
//! demand.
use burn::tensor::Device;
use rlvr::generate::{Request, generate};
use rlvr::policies::packed::{PackedBatch, PromptGroup};
use rlvr::policy::Policy;
use rlvr::rollout::{Completion, FinishReason, Prompt, SampleKey, SamplingParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

/// What is wrong with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// It computes on a CPU.
    OnCpu,
    /// `--enable-scale-out` was not given.
    Closed,
    /// The head stays as it was when weights are read again.
    StaleHead,
    /// Weights are taken and not used.
    IgnoresWeights,
    /// Log-probabilities are those before the temperature.
    RawLogprobs,
    /// Its arguments say so.
    RawMode,
    /// One log-probability is missing.
    ShortLogprobs,
    /// Ids are those of another vocabulary.
    OtherTokens,
    /// One completion too few.
    MissingChoice,
    /// The first answers break off in the middle of the JSON.
    Torn(usize),
    /// The first answers have this status.
    Status(u16, usize),
    /// The first completions are aborted.
    Aborts(usize),
    /// Somebody else gave it other weights.
    OtherVersion,
    /// Not in development mode: no weights are taken.
    NoWeights,
    /// Every request needs this key.
    Key,
    /// It dies when it is asked about weights that came after so many.
    DiesAfter(usize),
}

pub(crate) const KEY: &str = "secret-that-nobody-may-read";

pub(crate) struct State {
    policy: Policy,
    adapters: BTreeMap<String, Policy>,
    version: String,
    pub(crate) fault: Fault,
    /// Paths asked, in order.
    pub(crate) asked: Vec<String>,
    /// Requests for completions.
    pub(crate) sampled: usize,
    pub(crate) most_adapters: usize,
    /// Weights that were handed over.
    handed: usize,
    dtype: &'static str,
    base: String,
}

pub(crate) struct FakeServer {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

impl FakeServer {
    /// A server that was started from a folder, or from `BASE+ADAPTER`'s base.
    pub(crate) fn start(folder: &Path, fault: Fault) -> Self {
        let base = folder.display().to_string();
        let state = State {
            policy: Policy::open(&base, &Device::flex()).unwrap(),
            adapters: BTreeMap::new(),
            version: "default".into(),
            fault,
            asked: Vec::new(),
            sampled: 0,
            most_adapters: 0,
            handed: 0,
            dtype: "torch.float32",
            base,
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { url, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// Answers the requests of a connection.
fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let (mut line, mut length, mut key) = (String::new(), 0, String::new());
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let path = line.split_whitespace().nth(1).unwrap_or_default().to_owned();
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).unwrap_or(0) == 0 || header == "\r\n" {
                break;
            }
            let (name, value) = header.split_once(':').unwrap_or_default();
            match name.to_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "authorization" => key = value.trim().to_owned(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let (status, mut text) = state.lock().unwrap().answer(&path, &body, &key);
        if status == 0 {
            return;
        }
        let whole = text.len();
        if status == 299 {
            text.truncate(whole / 2);
        }
        let status = if status == 299 { 200 } else { status };
        // Texts come without a type.
        let kind = if text.starts_with('{') { "content-type: application/json\r\n" } else { "" };
        let head = format!("HTTP/1.1 {status} X\r\n{kind}content-length: {}\r\n\r\n", text.len());
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(text.as_bytes())).is_err() {
            return;
        }
    }
}

fn refused(status: u16, message: &str) -> (u16, String) {
    (status, json!({"error": {"message": message, "code": status}}).to_string())
}

impl State {
    fn answer(&mut self, path: &str, body: &Value, key: &str) -> (u16, String) {
        self.asked.push(path.to_owned());
        if self.fault == Fault::Key && key != format!("Bearer {KEY}") {
            return refused(401, "Unauthorized");
        }
        let fine = |value: Value| (200, value.to_string());
        match path {
            "/v1/models" => fine(json!({"data": [{"id": "policy", "max_model_len": 16, "root": self.base}]})),
            "/server_info?config_format=json" => {
                let mode = if self.fault == Fault::RawMode { "raw_logprobs" } else { "processed_logprobs" };
                let model = json!({"dtype": self.dtype, "logprobs_mode": mode});
                let device = if self.fault == Fault::OnCpu { "cpu" } else { "cuda" };
                fine(json!({"vllm_config": {"model_config": model, "device_config": {"device": device}}}))
            }
            "/inference/v1/generate" if self.fault == Fault::Closed => {
                refused(403, "Scale-out endpoints are disabled. Restart vllm serve with --enable-scale-out.")
            }
            "/inference/v1/generate" => {
                self.complete(body, &body["token_ids"], &body["sampling_params"], true)
            }
            "/v1/completions" => self.complete(body, &body["prompt"], body, false),
            "/v1/load_lora_adapter" => {
                let name = body["lora_name"].as_str().unwrap().to_owned();
                if self.adapters.contains_key(&name) {
                    return refused(400, &format!("The lora adapter '{name}' has already been loaded."));
                }
                let path = format!("{}+{}", self.base, body["lora_path"].as_str().unwrap());
                let policy = Policy::open(&path, &Device::flex()).unwrap();
                self.adapters.insert(name, policy);
                self.most_adapters = self.most_adapters.max(self.adapters.len());
                (200, "Success: LoRA adapter added successfully.".into())
            }
            "/v1/unload_lora_adapter" => {
                self.adapters.remove(body["lora_name"].as_str().unwrap());
                (200, "Success: LoRA adapter removed successfully.".into())
            }
            "/weight_info" => fine(json!({"weight_version": self.version})),
            _ if self.fault == Fault::NoWeights => refused(404, "Not Found"),
            "/pause?mode=wait" | "/resume" | "/abort_requests" => fine(json!({"status": "fine"})),
            "/reset_prefix_cache" => fine(json!({"success": true})),
            "/collective_rpc" => {
                let path = body["kwargs"]["weights_path"].as_str().unwrap();
                self.handed += 1;
                assert!(Path::new(path).join("config.json").exists(), "a bad path kills the engine for good");
                let new = Policy::open(path, &Device::flex()).unwrap();
                if self.fault != Fault::IgnoresWeights {
                    self.take(new);
                }
                fine(json!({"results": [null]}))
            }
            "/update_weight_version" => {
                self.version = body["new_version"].as_str().unwrap().to_owned();
                fine(json!({"success": true}))
            }
            _ => refused(404, "Not Found"),
        }
    }

    fn take(&mut self, mut new: Policy) {
        if self.fault == Fault::StaleHead {
            let head = |policy: &Policy| {
                let specs = &policy.decoder.layout().specs;
                specs.iter().position(|s| s.hf_names().any(|n| n == "lm_head.weight")).unwrap()
            };
            let old = self.policy.decoder.param_values(head(&self.policy));
            let index = head(&new);
            new.decoder.set_param(index, old);
        }
        self.policy = new;
    }

    fn complete(&mut self, body: &Value, prompt: &Value, params: &Value, tokens: bool) -> (u16, String) {
        self.sampled += 1;
        match self.fault {
            Fault::Status(status, count) if self.sampled <= count => {
                return refused(status, "busy or broken");
            }
            Fault::DiesAfter(count) if self.handed > count => return (0, String::new()),
            _ => {}
        }
        let model = body["model"].as_str().unwrap();
        let policy = match self.adapters.get(model) {
            Some(policy) => policy,
            None if model == "policy" => &self.policy,
            None => return refused(404, &format!("The model `{model}` does not exist.")),
        };
        assert_eq!(params["ignore_eos"], true);
        assert_eq!(params["stop_token_ids"], json!(policy.eos_token_ids()));
        let ids: Vec<u32> = serde_json::from_value(prompt.clone()).unwrap();
        let prompts = [Prompt::from(ids.clone())];
        let sampling = SamplingParams {
            temperature: params["temperature"].as_f64().unwrap(),
            max_tokens: params["max_tokens"].as_u64().unwrap() as usize,
            ..SamplingParams::default()
        };
        let n = params["n"].as_u64().unwrap() as usize;
        // On a CPU a seed ends the server.
        assert_eq!(params["seed"].is_null(), self.fault == Fault::OnCpu);
        let key = SampleKey::new(params["seed"].as_u64().unwrap_or(self.sampled as u64), 0);
        let request = Request::new(&prompts, n, &sampling, key);
        let mut group = generate(policy, &request, None).unwrap().0.remove(0);
        if self.fault == Fault::RawLogprobs {
            let completions = group.iter().map(|c| c.token_ids.as_slice()).collect();
            let batch = PackedBatch::new(&[PromptGroup { prompt: &ids, completions }]);
            let raw = policy.decoder.logprobs(&batch, 1.0);
            let ranges = raw_ranges(&batch);
            group.iter_mut().zip(ranges).for_each(|(c, r)| c.logprobs = raw.logprobs[r].to_vec());
        }
        let aborts = matches!(self.fault, Fault::Aborts(count) if self.sampled <= count);
        let version = if self.fault == Fault::OtherVersion { "step-7" } else { &self.version };
        let mut choices: Vec<Value> = group
            .iter()
            .enumerate()
            .map(|(i, c)| choice(i, c, (self.fault, aborts, tokens), version))
            .collect();
        if self.fault == Fault::MissingChoice {
            choices.pop();
        }
        let torn = matches!(self.fault, Fault::Torn(count) if self.sampled <= count);
        (if torn { 299 } else { 200 }, json!({"model": model, "choices": choices}).to_string())
    }
}

fn raw_ranges(batch: &PackedBatch) -> Vec<std::ops::Range<usize>> {
    batch.completions.clone()
}

fn choice(
    index: usize,
    c: &Completion,
    (fault, aborts, tokens): (Fault, bool, bool),
    version: &str,
) -> Value {
    let mut logprobs = c.logprobs.clone();
    if fault == Fault::ShortLogprobs {
        logprobs.pop();
    }
    let shift = if fault == Fault::OtherTokens { 1000 } else { 0 };
    let ids: Vec<u32> = c.token_ids.iter().map(|id| id + shift).collect();
    let reason = match (aborts, c.finish_reason) {
        (true, _) => "abort",
        (false, FinishReason::Stop) => "stop",
        (false, FinishReason::Length | FinishReason::Context) => "length",
    };
    let mut choice = json!({"index": index, "finish_reason": reason, "stop_reason": null, "token_ids": ids});
    if tokens {
        let content: Vec<Value> = ids
            .iter()
            .zip(&logprobs)
            .map(|(id, logprob)| json!({"token_id": id, "logprob": logprob, "rank": 1}))
            .collect();
        choice["logprobs"] = json!({"content": content});
        choice["weight_versions"] = json!([{"version": version, "start": 0, "end": ids.len()}]);
    } else {
        choice["text"] = json!("");
        choice["logprobs"] = json!({"token_logprobs": logprobs});
    }
    choice
}
