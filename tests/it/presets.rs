//! Presets of stages.
use rlvr::config::RunConfig;

#[test]
fn presets_are_written_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let config = |stage: &str| {
        format!(
            "name = \"x\"\n[policy.tiny]\n[data.sums]\nkind = \"addition\"\n[rewards]\nkind = \"exact\"\n\
             [[stage]]\nkind = \"grpo\"\ndata = \"sums\"\nsteps = 1\nsampling = {{ max_tokens = 4 }}\n{stage}\n"
        )
    };
    std::fs::write(&path, config("preset = \"lingshu_rl\"\nprompts_per_step = 8")).unwrap();
    let read = RunConfig::load(&path, &[]).unwrap();
    let text = read.to_toml().unwrap();
    for line in ["group_size = 16", "prompts_per_step = 8", "minibatches = 4", "kl_coef = 0.001"] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("preset"));
    let table: toml::Table = text.parse().unwrap();
    assert_eq!(table["stage"][0]["optim"]["lr"].as_float(), Some(1e-6));
    let other = RunConfig::load(&path, &["stage.grpo.preset=gspo".to_owned()]).unwrap().to_toml().unwrap();
    assert!(other.contains("kind = \"gspo\"") && other.contains("group_size = 8"), "{other}");
    std::fs::write(&path, config("preset = \"dapoo\"")).unwrap();
    let message = RunConfig::load(&path, &[]).unwrap_err().to_string();
    assert!(message.contains("config.toml:12") && message.contains("known: grpo, dapo"), "{message}");
}
