//! Dynamic sampling: groups without signal are replaced by those of further prompts and never trained on.
use rlvr::config::{DeviceConfig, GrpoConfig, TinyConfig};
use rlvr::policy::Policy;
use rlvr::rewards::{Message, Response, Task, reward_fn};
use rlvr::trainer::{Source, Trainer};

fn stage(groups_without_signal: &str) -> GrpoConfig {
    let text = format!(
        "steps = 1\nprompts_per_step = 4\ngroup_size = 8\nresample_rounds = 2\nsampling = {{ max_tokens = 4 }}\n\
         loss = {{ groups_without_signal = \"{groups_without_signal}\" }}"
    );
    toml::from_str(&text).unwrap()
}

#[test]
fn silent_groups_are_replaced() {
    let tasks: Vec<Task> = (0..12)
        .map(|i| Task {
            id: i.to_string(),
            prompt: vec![Message { role: "user".into(), content: format!("{}=", i % 10) }],
            ..Task::default()
        })
        .collect();
    let tasks: Vec<&Task> = tasks.iter().collect();
    // The first four prompts and the sixth say nothing; elsewhere longer completions earn more.
    let reward = reward_fn("length", |task: &Task, response: Response<'_>| {
        let silent = ["0", "1", "2", "3", "5"].contains(&task.id.as_str());
        if silent { 0.5 } else { response.text.len() as f64 / 4.0 }
    });
    let run = |kind: &str| {
        let config = stage(kind);
        let tiny = TinyConfig {
            layers: 1,
            hidden: 32,
            intermediate: 64,
            context: 16,
            alphabet: "0123456789=".into(),
            ..TinyConfig::default()
        };
        let device = rlvr::run::device(DeviceConfig::Cpu).unwrap();
        let policy = Policy::tiny(&tiny, 3, &device).unwrap();
        let mut trainer = Trainer::new(policy, None, &config, Some(&reward), 3, 1);
        trainer.step(1, &Source::Tasks(&tasks), None).unwrap()
    };
    let ids = |out: &rlvr::trainer::StepOutcome| {
        out.groups.iter().map(|g| g.id.clone()).collect::<Vec<_>>().join(" ")
    };

    let kept = run("keep");
    assert_eq!((kept.prompts, ids(&kept).as_str(), kept.updates), (4, "0 1 2 3", 0));

    let out = run("resample");
    // Round 1 replaces all four, of which the prompt 5 is silent again; round 2 replaces that one.
    assert_eq!((out.prompts, ids(&out).as_str()), (9, "0 1 2 3 4 5 6 7 8"));
    assert_eq!(out.groups.iter().filter(|g| g.has_signal()).count(), 4);
    assert_eq!(out.updates, 1);
    let trained: usize = out
        .groups
        .iter()
        .filter(|g| g.has_signal())
        .flat_map(|g| &g.completions)
        .map(|c| c.token_ids.len())
        .sum();
    assert_eq!(out.trained_tokens, trained);
    // A prompt's completions depend on its place in the step only, not on the round that drew it.
    let again = run("resample");
    assert_eq!(out.groups[8].completions, again.groups[8].completions);
}
