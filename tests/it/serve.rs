//! `rlvr serve`: what clients get is what the policy gives without a server, and bad clients harm nobody.

use burn::tensor::Device;
use rlvr::config::{DeviceConfig, TinyConfig};
use rlvr::generate::{Request, generate};
use rlvr::policies::packed::{PackedBatch, PromptGroup};
use rlvr::policy::Policy;
use rlvr::rewards::Message;
use rlvr::rollout::{Completion, Prompt, SampleKey, SamplingParams};
use rlvr::serve::{Model, Options, serve};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/models/tiny-qwen2");
const ADAPTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/lora/qwen2_regex_rslora");

fn device() -> Device {
    rlvr::run::device(DeviceConfig::Cpu).unwrap()
}

fn model() -> Model {
    Model::new("tiny", MODEL, Policy::open(MODEL, &device()).unwrap())
}

/// A policy whose completions take longer than any test.
fn slow() -> Model {
    let config = TinyConfig { context: 1 << 16, layers: 1, ..TinyConfig::default() };
    Model::new("slow", "", Policy::tiny(&config, 0, &device()).unwrap())
}

/// Room for completions that long.
fn roomy(max_queue: usize) -> Options {
    Options { max_queue, max_tokens: 1 << 16, max_batch_tokens: Some(1 << 20), ..Options::default() }
}

/// Does something with a server that ends afterwards.
fn with_server<T>(models: &[Model], options: &Options, with: impl FnOnce(SocketAddr) -> T) -> T {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let server = scope.spawn(|| serve(models, &listener, options, &stop));
        let result = {
            let _stop = Stop(&stop);
            with(address)
        };
        server.join().unwrap().unwrap();
        result
    })
}

/// A reply.
#[derive(Debug)]
struct Reply {
    status: u16,
    fields: BTreeMap<String, String>,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    fn error(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }

    /// The events of a stream, which must be whole.
    fn events(&self) -> Vec<Value> {
        let events: Vec<&str> = self.body.split("\n\n").filter(|event| !event.is_empty()).collect();
        assert_eq!(events.last(), Some(&"data: [DONE]"), "{}", self.body);
        let event = |event: &&str| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
        events[..events.len() - 1].iter().map(event).collect()
    }
}

/// Reads a reply as clients do: by its length or its chunks.
fn read_reply(stream: &mut impl BufRead) -> Reply {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no status in {line:?}")).parse().unwrap();
    let mut fields = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        fields.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = Vec::new();
    match fields.get("content-length") {
        Some(length) => {
            body.resize(length.parse().unwrap(), 0);
            stream.read_exact(&mut body).unwrap();
        }
        None => loop {
            let mut size = String::new();
            stream.read_line(&mut size).unwrap();
            let size =
                usize::from_str_radix(size.trim_end(), 16).unwrap_or_else(|e| panic!("{e}: chunk {size:?}"));
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).unwrap();
            assert!(chunk.ends_with(b"\r\n"));
            if size == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..size]);
        },
    }
    Reply { status, fields, body: String::from_utf8(body).unwrap() }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    stream
}

/// Sends bytes as they are and reads a reply.
fn raw(address: SocketAddr, bytes: &[u8]) -> Reply {
    let mut stream = connect(address);
    // A server that has refused a long request may not read its end.
    let _ = stream.write_all(bytes);
    read_reply(&mut BufReader::new(stream))
}

fn post_bytes(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn post(address: SocketAddr, path: &str, body: &Value) -> Reply {
    raw(address, &post_bytes(path, body.to_string().as_bytes()))
}

fn get(address: SocketAddr, path: &str) -> Reply {
    raw(address, format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
}

fn choices(address: SocketAddr, path: &str, body: &Value) -> Vec<Value> {
    let reply = post(address, path, body);
    assert_eq!(reply.status, 200, "{body}: {reply:?}");
    reply.json()["choices"].as_array().unwrap().clone()
}

fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap_or_else(|| panic!("no list: {value}"))
        .iter()
        .map(|id| id.as_u64().unwrap() as u32)
        .collect()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

/// What the policy gives without a server.
fn expected(
    model: &Model,
    prompts: &[Prompt],
    n: usize,
    sampling: &SamplingParams,
    seed: u64,
) -> Vec<Completion> {
    let request = Request::new(prompts, n, sampling, SampleKey::new(seed, 0));
    generate(&model.policy, &request, None).unwrap().0.into_iter().flatten().collect()
}

fn assert_same(choice: &Value, completion: &Completion) {
    assert_eq!(ids(&choice["token_ids"]), completion.token_ids);
    let reason = if completion.finish_reason.is_truncated() { "length" } else { "stop" };
    assert_eq!(choice["finish_reason"], reason);
    assert_eq!(floats(&choice["logprobs"]["token_logprobs"]), completion.logprobs, "the same bits");
}

fn prompts() -> Vec<Prompt> {
    [vec![5, 9, 33], vec![100, 7], vec![1, 2, 3, 4, 5, 6, 7, 8], vec![5, 9, 33]].map(Prompt::from).into()
}

#[test]
fn token_ids_go_in_and_the_completions_of_sample_come_out() {
    let models = [model()];
    let prompts = prompts();
    let lists: Vec<&Vec<u32>> = prompts.iter().map(|prompt| &prompt.token_ids).collect();
    with_server(&models, &Options::default(), |address| {
        for (settings, sampling) in [
            (json!({"temperature": 0}), SamplingParams::greedy(40)),
            (json!({"temperature": 0.7}), SamplingParams { temperature: 0.7, ..SamplingParams::default() }),
            (
                json!({"top_k": 9, "top_p": 0.8, "min_p": 0.01}),
                SamplingParams {
                    top_k: Some(9),
                    top_p: Some(0.8),
                    min_p: Some(0.01),
                    ..SamplingParams::default()
                },
            ),
        ] {
            let sampling = SamplingParams { max_tokens: 40, ..sampling };
            let expected = expected(&models[0], &prompts, 3, &sampling, 11);
            let mut body = json!({
                "model": "tiny", "prompt": lists, "n": 3, "max_tokens": 40, "seed": 11, "logprobs": 0,
                "return_token_ids": true,
            });
            body.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
            let reply = post(address, "/v1/completions", &body).json();
            let choices = reply["choices"].as_array().unwrap();
            assert_eq!(choices.len(), 12);
            for (i, (choice, completion)) in choices.iter().zip(&expected).enumerate() {
                assert_eq!(choice["index"], i);
                assert_same(choice, completion);
                assert_eq!(choice["text"], models[0].policy.text(&completion.token_ids).unwrap());
                assert_eq!(ids(&choice["prompt_token_ids"]), prompts[i / 3].token_ids);
            }
            let sampled: usize = expected.iter().map(|c| c.token_ids.len()).sum();
            assert_eq!(
                reply["usage"],
                json!({"prompt_tokens": 16, "completion_tokens": sampled, "total_tokens": 16 + sampled})
            );
        }
        // Without a seed two requests differ, with one they do not.
        let ask = |seed: Value| {
            let body = json!({"prompt": [5, 9], "max_tokens": 30, "seed": seed, "return_token_ids": true});
            ids(&choices(address, "/v1/completions", &body)[0]["token_ids"])
        };
        assert_ne!(ask(Value::Null), ask(Value::Null));
        assert_eq!(ask(json!(3)), ask(json!(3)));
        assert_ne!(ask(json!(3)), ask(json!(-3)));
    });
}

#[test]
fn requests_that_run_together_get_what_they_get_alone() {
    let models = [model()];
    with_server(&models, &Options { max_batch_rows: Some(7), ..Options::default() }, |address| {
        std::thread::scope(|scope| {
            for i in 0..24u32 {
                let models = &models;
                scope.spawn(move || {
                    let prompt =
                        Prompt::from((0..1 + i % 9).map(|t| (t * 31 + i) % 380).collect::<Vec<u32>>());
                    let n = 1 + i as usize % 4;
                    let sampling = SamplingParams {
                        temperature: f64::from(i % 3) * 0.5,
                        top_k: (i % 2 == 0).then_some(20),
                        max_tokens: 5 + 7 * (i as usize % 12),
                        ..SamplingParams::default()
                    };
                    std::thread::sleep(Duration::from_millis(u64::from(i % 5) * 3));
                    let body = json!({
                        "prompt": prompt.token_ids, "n": n, "seed": i, "temperature": sampling.temperature,
                        "top_k": sampling.top_k, "max_tokens": sampling.max_tokens, "logprobs": 0,
                        "return_token_ids": true,
                    });
                    let got = choices(address, "/v1/completions", &body);
                    let expected = expected(&models[0], &[prompt], n, &sampling, u64::from(i));
                    got.iter()
                        .zip(&expected)
                        .for_each(|(choice, completion)| assert_same(choice, completion));
                });
            }
        });
        let metrics = get(address, "/metrics").body;
        assert!(
            metrics.contains("rlvr_requests_total{path=\"/v1/completions\",status=\"200\"} 24"),
            "{metrics}"
        );
        for gauge in ["rlvr_completions_queued 0", "rlvr_completions_waiting 0"] {
            assert!(metrics.contains(gauge), "{metrics}");
        }
    });
}

#[test]
fn text_and_chats_are_read_as_sample_reads_them() {
    let models = [model()];
    let policy = &models[0].policy;
    with_server(&models, &Options::default(), |address| {
        let message = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
        let talk = [message("system", "s"), message("user", "Why?")];
        let prompt = policy.prompt(&talk).unwrap();
        let completion =
            &expected(&models[0], std::slice::from_ref(&prompt), 1, &SamplingParams::greedy(12), 0)[0];
        let body = json!({
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": [{"type": "text", "text": "Why?"}]},
            ],
            "temperature": 0, "max_completion_tokens": 12, "logprobs": true, "top_logprobs": 2, "return_token_ids": true,
        });
        let reply = post(address, "/v1/chat/completions", &body).json();
        assert_eq!(reply["object"], "chat.completion");
        let choice = &reply["choices"][0];
        assert_eq!(ids(&choice["token_ids"]), completion.token_ids);
        assert_eq!(ids(&choice["prompt_token_ids"]), prompt.token_ids);
        assert_eq!(choice["message"]["content"], policy.text(&completion.token_ids).unwrap());
        let content = choice["logprobs"]["content"].as_array().unwrap();
        assert_eq!(content.len(), completion.token_ids.len());
        for (said, logprob) in content.iter().zip(&completion.logprobs) {
            assert_eq!(said["logprob"].as_f64().unwrap() as f32, *logprob);
            let top = said["top_logprobs"].as_array().unwrap();
            // Greedy: the most probable one was taken.
            assert_eq!((top.len(), &top[0]["logprob"]), (2, &said["logprob"]));
        }
        // Raw text.
        let prompt = Prompt::from(policy.encode("So it is", true).unwrap());
        let completion = &expected(&models[0], &[prompt], 1, &SamplingParams::greedy(16), 0)[0];
        let body = json!({"prompt": "So it is", "temperature": 0, "return_token_ids": true, "logprobs": 0});
        assert_same(&choices(address, "/v1/completions", &body)[0], completion);
    });
}

#[test]
fn streams_say_the_same_piece_by_piece() {
    let models = [model()];
    with_server(&models, &Options::default(), |address| {
        let mut body = json!({
            "prompt": ["Once", "Twice"], "n": 2, "max_tokens": 30, "seed": 4, "logprobs": 1, "return_token_ids": true,
            "temperature": 1.2,
        });
        let whole = post(address, "/v1/completions", &body).json();
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
        let reply = post(address, "/v1/completions", &body);
        assert_eq!(reply.fields["content-type"], "text/event-stream; charset=utf-8");
        let mut events = reply.events();
        assert_eq!(events.pop().unwrap()["usage"], whole["usage"]);
        for choice in whole["choices"].as_array().unwrap() {
            let of = |event: &&Value| event["choices"][0]["index"] == choice["index"];
            let parts: Vec<&Value> = events.iter().filter(of).map(|event| &event["choices"][0]).collect();
            assert!(parts.len() > 10);
            let text: String = parts.iter().map(|part| part["text"].as_str().unwrap()).collect();
            assert_eq!(text, choice["text"]);
            let tokens: Vec<u32> = parts.iter().flat_map(|part| ids(&part["token_ids"])).collect();
            assert_eq!(tokens, ids(&choice["token_ids"]));
            for key in ["token_logprobs", "text_offset", "tokens", "top_logprobs"] {
                let all: Vec<Value> =
                    parts.iter().flat_map(|part| part["logprobs"][key].as_array().unwrap().clone()).collect();
                assert_eq!(json!(all), choice["logprobs"][key], "{key}");
            }
            assert!(parts[..parts.len() - 1].iter().all(|part| part["finish_reason"].is_null()));
            assert_eq!(parts.last().unwrap()["finish_reason"], choice["finish_reason"]);
        }
        let chat = json!({"messages": [{"role": "user", "content": "Why?"}], "seed": 2, "max_tokens": 20, "stream": true});
        let events = post(address, "/v1/chat/completions", &chat).events();
        assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
        let mut plain = chat.clone();
        plain["stream"] = json!(false);
        let whole = choices(address, "/v1/chat/completions", &plain);
        let text =
            |event: &Value| event["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            events.iter().map(text).collect::<String>(),
            whole[0]["message"]["content"].as_str().unwrap()
        );
        // A client of HTTP/1.0 knows no chunks.
        let mut stream = connect(address);
        let chat = chat.to_string();
        write!(stream, "POST /v1/chat/completions HTTP/1.0\r\ncontent-length: {}\r\n\r\n{chat}", chat.len())
            .unwrap();
        let mut old = String::new();
        stream.read_to_string(&mut old).unwrap();
        assert!(old.ends_with("data: [DONE]\n\n") && !old.contains("chunked"), "{old}");
    });
}

#[test]
fn stop_texts_end_completions() {
    let models = [model()];
    let policy = &models[0].policy;
    with_server(&models, &Options::default(), |address| {
        let free = &choices(
            address,
            "/v1/completions",
            &json!({"prompt": "ab", "temperature": 0, "max_tokens": 40, "return_token_ids": true}),
        )[0];
        let text = free["text"].as_str().unwrap();
        let stop: String = text.chars().skip(text.chars().count() / 2).take(2).collect();
        let at = text.find(&stop).unwrap();
        let body = |include: bool| {
            json!({"prompt": "ab", "temperature": 0, "max_tokens": 40, "stop": [stop, "never"], "return_token_ids": true,
                   "include_stop_str_in_output": include})
        };
        for (include, end) in [(false, at), (true, at + stop.len())] {
            let choice = &choices(address, "/v1/completions", &body(include))[0];
            assert_eq!(
                (choice["text"].as_str(), choice["stop_reason"].as_str()),
                (Some(&text[..end]), Some(&stop[..]))
            );
            assert_eq!(choice["finish_reason"], "stop");
            let ids = ids(&choice["token_ids"]);
            assert!(
                policy.text(&ids).unwrap().contains(&stop)
                    && !policy.text(&ids[..ids.len() - 1]).unwrap().contains(&stop)
            );
        }
        let id = ids(&free["token_ids"])[7];
        let body = json!({"prompt": "ab", "temperature": 0, "max_tokens": 40, "stop_token_ids": [id], "return_token_ids": true});
        let ended = ids(&choices(address, "/v1/completions", &body)[0]["token_ids"]);
        assert_eq!(ended.iter().position(|other| *other == id), Some(ended.len() - 1));
    });
}

#[test]
fn prompts_are_scored_for_echo() {
    let models = [model()];
    let decoder = &models[0].policy.decoder;
    with_server(&models, &Options::default(), |address| {
        let lists: Vec<Vec<u32>> = vec![(3..40).collect(), vec![8, 8, 9], vec![77]];
        let groups: Vec<PromptGroup<'_>> =
            lists.iter().map(|ids| PromptGroup { prompt: &ids[..1], completions: vec![&ids[1..]] }).collect();
        let batch = PackedBatch::new(&groups);
        let stats = decoder.logprobs(&batch, 1.0);
        for (k, most) in [(0, 0), (0, 1), (1, 1), (5, 1)] {
            let body = json!({
                "prompt": lists, "max_tokens": most, "echo": true, "logprobs": k, "temperature": 0, "return_token_ids": true,
            });
            let got = choices(address, "/v1/completions", &body);
            for ((choice, list), range) in got.iter().zip(&lists).zip(&batch.completions) {
                let (values, top) = (
                    choice["logprobs"]["token_logprobs"].as_array().unwrap(),
                    &choice["logprobs"]["top_logprobs"],
                );
                assert_eq!(values.len(), list.len() + most);
                assert!(values[0].is_null() && top[0].is_null());
                let logits = decoder.logits(list);
                for (i, expected) in stats.logprobs[range.clone()].iter().enumerate() {
                    assert_eq!(values[i + 1].as_f64().unwrap() as f32, *expected, "the same bits");
                    // Greedy is what is the most probable.
                    let row = &logits[i * 384..][..384];
                    let greedy =
                        (0..384).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap() as u32 == list[i + 1];
                    let tops = top[i + 1].as_object().unwrap();
                    let largest =
                        tops.values().map(|v| v.as_f64().unwrap()).fold(f64::NEG_INFINITY, f64::max);
                    assert!(k == 0 || (largest == values[i + 1].as_f64().unwrap()) == greedy);
                    assert!(tops.len() <= k.max(1) + 1);
                }
                let said = models[0].policy.tokenizer().decode(list, true).unwrap();
                assert!(choice["text"].as_str().unwrap().starts_with(&said));
                assert_eq!(ids(&choice["token_ids"]).len(), most);
            }
        }
    });
}

#[test]
fn adapters_answer_by_their_names() {
    let base = model();
    let tuned = base.with_adapter("tuned", Path::new(ADAPTER)).unwrap();
    let models = [base, tuned];
    let alone = Policy::open(&format!("{MODEL}+{ADAPTER}"), &device()).unwrap();
    let alone = Model::new("alone", "", alone);
    with_server(&models, &Options::default(), |address| {
        let list = get(address, "/v1/models").json();
        let names: Vec<&str> =
            list["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
        assert_eq!(names, ["tiny", "tuned"]);
        assert_eq!(
            (&list["data"][1]["parent"], &list["data"][1]["max_model_len"]),
            (&json!("tiny"), &json!(256))
        );
        assert_eq!(get(address, "/v1/models/tuned").json()["id"], "tuned");
        let sampling = SamplingParams { max_tokens: 50, ..SamplingParams::default() };
        let prompt = Prompt::from(vec![3, 5, 7]);
        let ask = |name: &str| {
            let body = json!({"model": name, "prompt": [3, 5, 7], "max_tokens": 50, "seed": 1, "logprobs": 0, "return_token_ids": true});
            choices(address, "/v1/completions", &body).remove(0)
        };
        std::thread::scope(|scope| {
            let (a, b) = (scope.spawn(|| ask("tiny")), scope.spawn(|| ask("tuned")));
            let (a, b) = (a.join().unwrap(), b.join().unwrap());
            assert_same(&a, &expected(&models[0], std::slice::from_ref(&prompt), 1, &sampling, 1)[0]);
            assert_same(&b, &expected(&alone, std::slice::from_ref(&prompt), 1, &sampling, 1)[0]);
            assert_ne!(a["token_ids"], b["token_ids"]);
        });
        let reply = post(address, "/v1/completions", &json!({"model": "other", "prompt": "a"}));
        assert_eq!(
            (reply.status, reply.error().as_str()),
            (404, "`model` \"other\" is not served here: tiny, tuned is")
        );
    });
}

#[test]
fn bad_requests_are_refused_with_the_field_at_fault() {
    let models = [model()];
    with_server(&models, &Options { max_queue: 8, ..Options::default() }, |address| {
        let long: Vec<u32> = vec![1; 256];
        for (body, part) in [
            (json!({}), "`prompt` is missing"),
            (json!([]), "must be a JSON object"),
            (json!({"prompt": 3}), "`prompt` must be text, a list of token ids, or a list of those, not 3"),
            (json!({"prompt": []}), "`prompt` is empty"),
            (json!({"prompt": [[]]}), "`prompt` has no tokens"),
            (json!({"prompt": ""}), "`prompt` has no tokens"),
            (json!({"prompt": [384]}), "384 is no token id: they are whole numbers below 384"),
            (json!({"prompt": [1, -1]}), "-1 is no token id"),
            (json!({"prompt": [1, 1.5]}), "1.5 is no token id"),
            (json!({"prompt": [[1], "a", {}]}), "`prompt` must be text"),
            (json!({"prompt": long}), "has 256 tokens, the context of the policy is 256: shorten it"),
            (json!({"prompt": "a", "n": 0}), "`n` is 0, it must be between 1 and 128"),
            (json!({"prompt": "a", "n": 1_000_000_000_000_u64}), "`n` is 1000000000000"),
            (json!({"prompt": "a", "n": 9}), "9 completions are more than the 8"),
            (json!({"prompt": "a", "n": -1}), "`n` must be a whole number from 0 on, not -1"),
            (json!({"prompt": "a", "max_tokens": 0}), "`max_tokens` is 0"),
            (
                json!({"prompt": "a", "max_tokens": "9"}),
                "`max_tokens` must be a whole number from 0 on, not \"9\"",
            ),
            (json!({"prompt": "a", "temperature": -1}), "temperature: is -1"),
            (json!({"prompt": "a", "temperature": "hot"}), "`temperature` must be a number, not \"hot\""),
            (json!({"prompt": "a", "top_p": 0}), "top_p: is 0"),
            (json!({"prompt": "a", "min_p": 1}), "min_p: is 1"),
            (json!({"prompt": "a", "top_k": -7}), "`top_k` is -7"),
            (json!({"prompt": "a", "seed": 1.5}), "`seed` must be a whole number"),
            (json!({"prompt": "a", "stop": [""]}), "`stop` has an empty text"),
            (json!({"prompt": "a", "stop": vec!["a"; 17]}), "`stop` has 17 texts"),
            (json!({"prompt": "a", "stop": "a".repeat(2000)}), "`stop` has a text of more than"),
            (json!({"prompt": "a", "stop": [3]}), "`stop` must be text or a list of texts"),
            (json!({"prompt": "a", "stop_token_ids": ["x"]}), "`stop_token_ids` must be a list of token ids"),
            (json!({"prompt": "a", "logprobs": 21}), "`logprobs` is 21, at most 20"),
            (json!({"prompt": "a", "stream": 1}), "`stream` must be true or false, not 1"),
            (json!({"prompt": "a", "stream": true, "echo": true}), "`echo` cannot be streamed"),
            (
                json!({"prompt": "a", "logit_bias": {"5": -100}}),
                "`logit_bias` an object is not supported: leave it out",
            ),
            (json!({"prompt": "a", "temprature": 1}), "`temprature` is not a field of such a request"),
        ] {
            let reply = post(address, "/v1/completions", &body);
            assert_eq!(reply.status, 400, "{body}: {reply:?}");
            assert!(reply.error().contains(part), "{body}: {}", reply.error());
        }
        let said = json!([{"role": "user", "content": "q"}]);
        for (body, part) in [
            (json!({}), "`messages` is missing"),
            (json!({"messages": []}), "`messages` has no messages"),
            (json!({"messages": said, "top_logprobs": 3}), "`top_logprobs` needs `logprobs`"),
            (json!({"messages": [{"role": "user"}]}), "`messages[0]` has no `content`"),
            (
                json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
                "`messages[0].content[0].type`",
            ),
            (json!({"messages": said, "tools": [{}]}), "`tools` a list is not supported"),
            (json!({"messages": said, "response_format": {"type": "json_object"}}), "`response_format`"),
        ] {
            let reply = post(address, "/v1/chat/completions", &body);
            assert!(reply.status == 400 && reply.error().contains(part), "{body}: {reply:?}");
        }
        // What clients send and what changes nothing is taken.
        let body = json!({"model": null, "prompt": "a", "presence_penalty": 0, "logit_bias": {}, "best_of": 1, "user": "me"});
        assert_eq!(post(address, "/v1/completions", &body).status, 200);
    });
}

#[test]
fn hostile_bytes_are_answered_and_others_are_served() {
    let models = [model()];
    with_server(&models, &Options::default(), |address| {
        let status = |bytes: &[u8]| raw(address, bytes).status;
        let body = |text: &str| raw(address, &post_bytes("/v1/completions", text.as_bytes()));
        let deep = format!("{{\"prompt\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        for text in [
            "",
            "{",
            "{\"prompt\": NaN}",
            "{\"prompt\": \"a\", \"temperature\": 1e999}",
            "\u{0}",
            &deep,
            "{\"prompt\": \"\\ud800\"}",
        ] {
            let reply = body(text);
            assert_eq!(reply.status, 400, "{}", &text[..text.len().min(60)]);
            assert!(
                reply.error().contains("no JSON") || reply.error().contains("must be"),
                "{}",
                reply.error()
            );
        }
        assert_eq!(raw(address, &post_bytes("/v1/completions", b"{\"prompt\": \"\xff\"}")).status, 400);
        assert_eq!(status(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"), 400);
        assert_eq!(status(b"GET /nothing HTTP/1.1\r\n\r\n"), 404);
        assert_eq!(status(b"DELETE /v1/models HTTP/1.1\r\n\r\n"), 405);
        assert_eq!(status(b"GET /v1/completions HTTP/1.1\r\n\r\n"), 405);
        assert_eq!(status(format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(40_000)).as_bytes()), 431);
        assert_eq!(
            status(b"POST /v1/completions HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n"),
            413
        );
        assert_eq!(status(&post_bytes("/v1/completions", &vec![b' '; 9 << 20])), 413);
        let chunked = |chunks: &str| {
            status(
                format!("POST /v1/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{chunks}")
                    .as_bytes(),
            )
        };
        assert_eq!(chunked("f\r\n{\"prompt\": \"ab\"\r\n1\r\n}\r\n0\r\n\r\n"), 200);
        assert_eq!(chunked("f\r\n{\"prompt\": \"ab\"\r\n1\r\n}\r\n0\r\nx: y\r\n\r\n"), 200);
        assert_eq!(chunked("zz\r\n"), 400);
        assert_eq!(chunked("1\r\nabcd"), 400);
        assert_eq!(chunked("fffffffffffffffff\r\n"), 400);
        assert_eq!(chunked("fffffffffffffff\r\n"), 413);
        // A client that waits to be asked for its body, and one that uses its connection several times.
        let mut stream = BufReader::new(connect(address));
        let body = "{\"prompt\": \"ab\", \"max_tokens\": 2}";
        let head = format!(
            "POST /v1/completions HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        for _ in 0..3 {
            stream.get_mut().write_all(head.as_bytes()).unwrap();
            let (mut line, mut empty) = (String::new(), String::new());
            stream.read_line(&mut line).unwrap();
            stream.read_line(&mut empty).unwrap();
            assert_eq!((line.as_str(), empty.as_str()), ("HTTP/1.1 100 Continue\r\n", "\r\n"));
            stream.get_mut().write_all(body.as_bytes()).unwrap();
            assert_eq!(read_reply(&mut stream).status, 200);
        }
        // Two requests at once.
        stream.get_mut().write_all(b"GET /health HTTP/1.1\r\n\r\nGET /v1/models HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!((read_reply(&mut stream).body.as_str(), read_reply(&mut stream).status), ("", 200));
    });
}

#[test]
fn requests_beyond_the_queue_come_again_and_those_of_clients_that_leave_are_dropped() {
    let models = [slow()];
    with_server(&models, &roomy(4), |address| {
        let long =
            json!({"prompt": "1+1=", "n": 4, "max_tokens": 1_000_000, "ignore_eos": true, "stream": true});
        let metric = |line: &str| get(address, "/metrics").body.lines().any(|l| l == line);
        let wait_for = |line: &str| {
            let began = Instant::now();
            while !metric(line) {
                assert!(
                    began.elapsed() < Duration::from_secs(60),
                    "{line}: {}",
                    get(address, "/metrics").body
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        let short = json!({"prompt": "1+1=", "max_tokens": 1});
        for (i, stream) in [true, false].into_iter().enumerate() {
            let mut long = long.clone();
            long["stream"] = json!(stream);
            let mut client = connect(address);
            client.write_all(&post_bytes("/v1/completions", long.to_string().as_bytes())).unwrap();
            wait_for("rlvr_completions_running 4");
            let reply = post(address, "/v1/completions", &short);
            assert_eq!((reply.status, reply.fields["retry-after"].as_str()), (429, "1"), "{reply:?}");
            assert!(reply.error().contains("4 completions are waiting"));
            drop(client);
            wait_for(&format!("rlvr_cancelled_total {}", i + 1));
            wait_for("rlvr_completions_running 0");
            assert!(metric("rlvr_completions_queued 0"));
            assert_eq!(post(address, "/v1/completions", &short).status, 200);
        }
    });
}

#[test]
fn a_short_request_does_not_wait_for_a_long_one() {
    let models = [slow()];
    with_server(&models, &roomy(16), |address| {
        let long = json!({"prompt": "1+1=", "max_tokens": 1_000_000, "ignore_eos": true, "stream": true});
        let mut client = BufReader::new(connect(address));
        client.get_mut().write_all(&post_bytes("/v1/completions", long.to_string().as_bytes())).unwrap();
        let mut line = String::new();
        while !line.starts_with("data: ") {
            line.clear();
            client.read_line(&mut line).unwrap();
        }
        let short = json!({"prompt": "2+2=", "max_tokens": 5, "temperature": 0, "ignore_eos": true, "return_token_ids": true, "logprobs": 0});
        let choice = &choices(address, "/v1/completions", &short)[0];
        let prompt = Prompt::from(models[0].policy.encode("2+2=", true).unwrap());
        assert_eq!(
            ids(&choice["token_ids"])[..1],
            expected(&models[0], &[prompt], 1, &SamplingParams::greedy(5), 0)[0].token_ids[..1]
        );
    });
}

#[test]
fn a_key_opens_what_is_asked_of_the_policy() {
    let options = Options { api_key: Some("secret".into()), ..Options::default() };
    with_server(&[model()], &options, |address| {
        let with =
            |field: &str| raw(address, format!("GET /v1/models HTTP/1.1\r\n{field}\r\n\r\n").as_bytes());
        assert_eq!(with("authorization: Bearer secret").status, 200);
        assert_eq!(with("Authorization: bearer secret").status, 200);
        for field in [
            "x: y",
            "authorization: Bearer secret2",
            "authorization: Bearer secre",
            "authorization: secret",
            "authorization: Basic secret",
        ] {
            let reply = with(field);
            assert_eq!((reply.status, reply.fields["www-authenticate"].as_str()), (401, "Bearer"), "{field}");
            assert!(!reply.body.contains("secret"));
        }
        assert_eq!(post(address, "/v1/completions", &json!({"prompt": "a"})).status, 401);
        assert_eq!((get(address, "/health").status, get(address, "/metrics").status), (200, 200));
    });
}

#[cfg(unix)]
#[test]
fn a_signal_lets_the_requests_at_work_end() {
    use std::process::{Command, Stdio};
    let mut command = Command::new(env!("CARGO_BIN_EXE_rlvr"));
    command.args(["--threads", "2", "serve", "--policy", MODEL, "--name", "p", "--listen", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("serving p on http://").and_then(|l| l.strip_suffix("/v1"));
    let address: SocketAddr = address.unwrap_or_else(|| panic!("{line}")).parse().unwrap();
    let long = json!({"model": "p", "prompt": [1, 2], "n": 128, "max_tokens": 254, "ignore_eos": true, "stream": true});
    let mut client = BufReader::new(connect(address));
    client.get_mut().write_all(&post_bytes("/v1/completions", long.to_string().as_bytes())).unwrap();
    assert!(!client.fill_buf().unwrap().is_empty(), "it is at work");
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let reply = read_reply(&mut client);
    let ends = reply.events().iter().filter(|event| !event["choices"][0]["finish_reason"].is_null()).count();
    assert_eq!((reply.status, ends), (200, 128));
    assert!(child.wait().unwrap().success());
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("stopping after the requests at work") && rest.ends_with("done\n"), "{rest}");
    assert!(TcpStream::connect(address).is_err());
}
