//! Policies that are opened by a hub id.

use std::fs;
use std::path::Path;

use rlvr_policies::hub::{HubOptions, fetch};
use rlvr_policies::{Architecture, PolicyFiles};

use crate::server::Servers;
use crate::{Place, commit};

const INDEX: &str = "model.safetensors.index.json";
const SHARD: &str = "model-00001-of-00001.safetensors";

fn tiny() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models/tiny-qwen2");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

#[test]
fn downloads_once_then_uses_the_cache() {
    let place = Place::with(tiny());
    let (online, offline) = (place.options(), HubOptions { offline: true, ..place.options() });
    let message = fetch("owner/tiny", &offline).unwrap_err().to_string();
    assert!(message.contains("HF_HUB_OFFLINE") && place.servers.take_asked().is_empty(), "{message}");

    let policy = PolicyFiles::open_with("owner/tiny", &online).unwrap();
    let world = &place.servers.world;
    assert_eq!(policy.source, place.cache.join("models--owner--tiny/snapshots").join(&world.commit));
    assert_eq!(policy.config.architecture, Architecture::Qwen2);
    assert!(policy.chat_template.is_some());
    assert!(place.servers.take_asked().len() > 6);

    fetch("owner/tiny", &online).unwrap();
    let asked = place.servers.take_asked();
    assert!(asked.len() == 1 && asked[0].is_listing(), "unchanged: only asked");
    PolicyFiles::open_with("owner/tiny", &offline).unwrap();
    assert!(place.servers.take_asked().is_empty());

    let newer = Servers::start(place.outer.clone(), tiny(), commit("decade"));
    let online = HubOptions { endpoint: newer.world.url.clone(), ..online };
    let folder = fetch("owner/tiny", &online).unwrap();
    assert!(folder.ends_with(commit("decade")), "{}", folder.display());
    assert!(newer.take_asked().iter().all(|a| a.is_listing() || a.method == "HEAD"), "contents are shared");
    assert_eq!(fetch("owner/tiny", &offline).unwrap(), folder);
    let gone = HubOptions { endpoint: "http://127.0.0.1:9".into(), ..online };
    assert_eq!(fetch("owner/tiny", &gone).unwrap(), folder, "no server: the cached copy");
}

#[test]
fn shards_are_found_through_the_index() {
    let mut files = tiny();
    let weights = files.iter_mut().find(|(name, _)| name == "model.safetensors").unwrap();
    weights.0 = SHARD.into();
    let length = u64::from_le_bytes(weights.1[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&weights.1[8..8 + length]).unwrap();
    let tensors = header.as_object().unwrap().keys().filter(|name| *name != "__metadata__");
    let map: serde_json::Map<_, _> = tensors.map(|name| (name.clone(), SHARD.into())).collect();
    files.push((INDEX.into(), serde_json::json!({"weight_map": map}).to_string().into_bytes()));
    let place = Place::with(files.clone());
    PolicyFiles::open_with("owner/tiny", &place.options()).unwrap();
    files.retain(|(name, _)| name != SHARD);
    let message = fetch("owner/tiny", &Place::with(files).options()).unwrap_err().to_string();
    assert!(message.contains(&format!("no {SHARD}, which its index lists")), "{message}");
}

#[test]
fn a_repository_without_what_is_needed_is_refused() {
    for (missing, words) in [
        ("tokenizer.json", "it has no tokenizer.json"),
        ("config.json", "it has no config.json"),
        ("model.safetensors", "it has neither model.safetensors nor"),
    ] {
        let mut files = tiny();
        files.retain(|(name, _)| name != missing);
        let place = Place::with(files);
        let message = fetch("owner/tiny", &place.options()).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
        assert!(!place.cache.join("models--owner--tiny").exists(), "nothing is downloaded in vain");
    }
}

#[test]
fn templates_and_tokens_in_files_of_their_own_come_too() {
    let text = |name: &str| (name.to_owned(), format!("content of {name}").into_bytes());
    let wanted = [
        "added_tokens.json",
        "chat_template.json",
        "additional_chat_templates/rag.jinja",
        "additional_chat_templates/tool_use.jinja",
    ];
    let other = ["additional_chat_templates/deep/er.jinja", "additional_chat_templates/notes.md"];
    let mut files = tiny();
    files.extend(wanted.iter().chain(&other).map(|name| text(name)));
    let place = Place::with(files);
    let folder = fetch("owner/tiny", &place.options()).unwrap();
    for name in wanted {
        assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), format!("content of {name}"));
    }
    for name in other {
        assert!(!folder.join(name).exists(), "{name}");
    }
}
