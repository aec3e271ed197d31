use super::*;
use crate::reward::{Verdict, score_one};
use crate::task::{Response, Task};

#[derive(Deserialize)]
struct Run {
    rewards: RewardConfig,
}

fn parse(text: &str) -> Result<RewardConfig, String> {
    toml::from_str::<Run>(text).map(|r| r.rewards).map_err(|e| e.to_string())
}

#[test]
fn toml_reads_well() {
    let config = parse(
        r#"
        [rewards]
        kind = "sum"
        [[rewards.terms]]
        weight = 1.0
        reward = { kind = "math", extract = "lenient" }
        [[rewards.terms]]
        weight = 0.5
        name = "shape"
        reward = { kind = "format", style = "think_answer" }
        [[rewards.terms]]
        weight = 0.0
        reward = { kind = "length", max = 100, soft = 50, unit = "chars" }
        "#,
    )
    .unwrap();
    let reward = config.build().unwrap();
    let task = Task::new("1", serde_json::json!({"answer": "4"}));
    let text = "<think>2 + 2</think><answer>4</answer>";
    let outcome = score_one(&*reward, &task, Response::new(text));
    assert_eq!((outcome.score, outcome.verdict), (Some(1.5), Verdict::Correct));
    assert_eq!(outcome.parts.iter().map(|p| &*p.name).collect::<Vec<_>>(), ["math", "shape", "length"]);
    assert_eq!(outcome.extracted.as_deref(), Some("4"));
}

#[test]
fn gate_and_nesting() {
    let config = parse(
        r#"
        [rewards]
        kind = "gate"
        if = { kind = "format" }
        then = { kind = "all", of = [{ kind = "exact" }, { kind = "numeric" }] }
        else = { kind = "constant", value = 0.1 }
        "#,
    );
    let reward = config.unwrap().build().unwrap();
    let task = Task::new("1", serde_json::json!({"answer": "4"}));
    let check = |text, want| {
        assert_eq!(score_one(&*reward, &task, Response::new(text)).score, Some(want), "{text}");
    };
    check("<think>a</think><answer>4</answer>", 1.0);
    check("<think>a</think><answer>5</answer>", 0.0);
    check("<answer>4</answer>", 0.1);
}

#[test]
fn mistakes_are_named() {
    let check = |text: &str, want: &str| {
        let error = parse(text).and_then(|c| c.build().map(|_| ()).map_err(|e| e.to_string())).unwrap_err();
        assert!(error.contains(want), "{error}");
    };
    check("[rewards]\nkind = \"math\"\nfalback = \"last_number\"", "falback");
    check("[rewards]\nkind = \"maths\"", "maths");
    check("[rewards]\nkind = \"sum\"\nterms = []", "terms is empty");
    check("[rewards]\nkind = \"plugin\"\ncommand = []", "command is empty");
    check("[rewards]\nkind = \"plugin\"\ncommand = [\"x\"]\nworker = 2", "worker");
    check("[rewards]\nkind = \"plugin\"\ncommand = [\"x\"]\ntimeout_s = 0", "timeout_s 0");
    check("[rewards]\nkind = \"regex\"\npattern = \"(\"", "regex");
    check("[rewards]\nkind = \"sum\"\nterms = [{ wieght = 1.0, reward = { kind = \"math\" } }]", "wieght");
    let error = RewardConfig::from_kind("mth").unwrap_err();
    assert!(matches!(error, ConfigError::UnknownKind { nearest: "math", .. }), "{error}");
    assert!(RewardConfig::from_kind("sum").unwrap_err().to_string().contains("terms"));
}

#[test]
fn plugins_run_beside_their_config_wherever_they_stand() {
    let plugin = r#"{ kind = "plugin", command = ["p"], cwd = "sub", config = { k = [1] } }"#;
    for text in [
        format!("rewards = {plugin}"),
        format!(r#"rewards = {{ kind = "sum", terms = [{{ reward = {plugin} }}] }}"#),
        format!(r#"rewards = {{ kind = "gate", if = {{ kind = "format" }}, then = {plugin} }}"#),
        format!(r#"rewards = {{ kind = "huatuo_o1", answer = {plugin} }}"#),
    ] {
        let mut config = parse(&text).unwrap();
        config.resolve_paths(Path::new("/conf"));
        let toml = toml::to_string(&config).unwrap();
        assert!(toml.contains(r#"cwd = "/conf/sub""#), "{toml}");
        assert_eq!(toml::from_str::<RewardConfig>(&toml).unwrap(), config);
    }
}

#[test]
fn components_are_found_beside_their_config_and_need_the_feature() {
    let text = "[rewards]\nkind = \"wasm\"\npath = \"r.wasm\"\nconfig = { k = [1] }";
    let mut config = parse(text).unwrap();
    config.resolve_paths(Path::new("/conf"));
    let toml = toml::to_string(&config).unwrap();
    assert!(toml.contains(r#"path = "/conf/r.wasm""#) && toml.contains("memory_mb = 64"), "{toml}");
    assert_eq!(toml::from_str::<RewardConfig>(&toml).unwrap(), config);
    assert!(parse(&format!("{text}\nfule = 1")).unwrap_err().contains("fule"));
    let error = config.build().err().map(|e| e.to_string());
    match cfg!(feature = "wasm") {
        // The file is not read yet.
        true => assert_eq!(error, None),
        false => assert!(error.is_some_and(|e| e.contains("build it with `--features wasm`"))),
    }
}

#[test]
fn every_listed_kind_exists() {
    for kind in KINDS {
        match RewardConfig::from_kind(kind) {
            Ok(config) => {
                let json = serde_json::to_value(&config).unwrap();
                assert_eq!(json["kind"], *kind);
                assert_eq!(serde_json::from_value::<RewardConfig>(json).unwrap(), config);
                config.build().map(|_| ()).unwrap();
            }
            Err(ConfigError::NeedsFields { .. }) => {}
            Err(other) => panic!("{kind}: {other}"),
        }
    }
}
