//! Steps of the trainer: dynamic sampling, and advantages from the parts of a reward.
use rlvr::algorithm::gdpo_advantages;
use rlvr::config::{DeviceConfig, GrpoConfig, SftConfig, TinyConfig};
use rlvr::data::{DataConfig, TaskSource};
use rlvr::policies::{Decoder, ModelConfig};
use rlvr::policy::Policy;
use rlvr::rewards::{Message, Response, Reward, RewardConfig, Task, group_reward_fn, reward_fn};
use rlvr::train::grpo::{Source, StepOutcome, Trainer};
use rlvr::train::sft::SftTrainer;
use std::path::Path;
use std::sync::Mutex;

/// One step of a tiny random policy on twelve prompts, of which four make a step.
fn step(loss: &str, reward: &dyn Reward) -> StepOutcome {
    step_of(4, loss, reward)
}

fn step_of(prompts: usize, loss: &str, reward: &dyn Reward) -> StepOutcome {
    let text = format!(
        "steps = 1\nprompts_per_step = {prompts}\ngroup_size = 8\nresample_rounds = 2\n\
         sampling = {{ max_tokens = 4 }}\nloss = {{ {loss} }}"
    );
    let config: GrpoConfig = toml::from_str(&text).unwrap();
    let tiny = TinyConfig {
        layers: 1,
        hidden: 32,
        intermediate: 64,
        context: 16,
        alphabet: "0123456789=".into(),
        ..TinyConfig::default()
    };
    let tasks: Vec<Task> = (0..prompts.max(12))
        .map(|i| Task {
            id: i.to_string(),
            prompt: vec![Message { role: "user".into(), content: format!("{}=", i % 10) }],
            ..Task::default()
        })
        .collect();
    let tasks: Vec<&Task> = tasks.iter().collect();
    let policy = Policy::tiny(&tiny, 3, &rlvr::run::device(DeviceConfig::Cpu).unwrap()).unwrap();
    let mut trainer = Trainer::new(policy, None, &config, Some(reward), 3, 1);
    trainer.step(1, &Source::Tasks(&tasks), None).unwrap()
}

#[test]
fn silent_groups_are_replaced() {
    // The first four prompts and the sixth say nothing; elsewhere longer completions earn more.
    let reward = reward_fn("length", |task: &Task, response: Response<'_>| {
        let silent = ["0", "1", "2", "3", "5"].contains(&task.id.as_str());
        if silent { 0.5 } else { response.text.len() as f64 / 4.0 }
    });
    let run = |kind: &str| step(&format!("groups_without_signal = \"{kind}\""), &reward);
    let ids = |out: &StepOutcome| out.groups.iter().map(|g| g.id.clone()).collect::<Vec<_>>().join(" ");

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

#[test]
fn gdpo_normalises_every_part_by_itself() {
    let reward: RewardConfig = toml::from_str(
        "kind = \"sum\"\n[[terms]]\nweight = 1.0\nname = \"odd\"\nreward = { kind = \"regex\", pattern = \"[13579]$\" }\n\
         [[terms]]\nweight = 0.25\nname = \"low\"\nreward = { kind = \"regex\", pattern = \"^[0-4]\" }\n\
         [[terms]]\nweight = 0.0\nname = \"metric\"\nreward = { kind = \"regex\", pattern = \"7\" }",
    )
    .unwrap();
    let reward = reward.build().unwrap();
    let out = step("advantage = \"gdpo\"", &*reward);
    let part = |k: usize| -> Vec<Vec<Option<f64>>> {
        out.groups.iter().map(|g| g.judgements.iter().map(|j| j.outcome.parts[k].score).collect()).collect()
    };
    let want = gdpo_advantages(&[part(0), part(1)], &[1.0, 0.25]);
    let got: Vec<Vec<f64>> = out.groups.iter().map(|g| g.advantages.clone()).collect();
    assert_eq!(got, want);
    assert!(got.iter().flatten().any(|a| *a != 0.0));
    // The plain advantages of the weighted sum are others.
    let plain = step("advantage = \"grpo\"", &*reward);
    assert_ne!(plain.groups[0].advantages, got[0]);
}

#[test]
fn groups_are_judged_whole_and_stay_in_order() {
    let calls = Mutex::new(Vec::new());
    let ranks = group_reward_fn("ranks", |task: &Task, group: &[Response<'_>]| {
        calls.lock().unwrap().push((task.id.clone(), group.len()));
        let rank = |r: &Response<'_>| group.iter().filter(|o| o.text < r.text).count() as f64 / 8.0;
        group.iter().map(rank).collect()
    });
    let out = step_of(32, "", &ranks);
    let calls = calls.into_inner().unwrap();
    // Each group once, in the order of the tasks afterwards.
    assert!(calls.len() == 32 && calls.iter().all(|(_, size)| *size == 8), "{calls:?}");
    let ids: Vec<String> = (0..32).map(|i| i.to_string()).collect();
    assert_eq!(out.groups.iter().map(|g| &g.id).collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
    for group in &out.groups {
        for (judgement, completion) in group.judgements.iter().zip(&group.completions) {
            let below = group.judgements.iter().filter(|j| j.text < judgement.text).count() as f64;
            assert_eq!(judgement.reward, Some(below / 8.0));
            assert!(judgement.text.len() <= completion.token_ids.len());
        }
    }
}

#[test]
fn a_reward_that_panics_for_one_group_breaks_that_group() {
    let reward = group_reward_fn("panics", |task: &Task, group: &[Response<'_>]| {
        assert_ne!(task.id, "2");
        group.iter().map(|r| r.text.len() as f64 / 4.0).collect()
    });
    let out = step("", &reward);
    for group in &out.groups {
        let broken = group.id == "2";
        assert!(group.judgements.iter().all(|j| j.reward.is_none() == broken), "{}", group.id);
    }
}

/// A tiny mixture of experts whose loss balances them, with the tokenizer of a tiny policy.
pub fn mixture() -> Policy {
    let tiny = TinyConfig { context: 16, alphabet: "0123456789+=".into(), ..TinyConfig::default() };
    let device = rlvr::run::device(DeviceConfig::Cpu).unwrap();
    let mut policy = Policy::tiny(&tiny, 3, &device).unwrap();
    let config = serde_json::json!({
        "model_type": "qwen3_moe", "vocab_size": policy.decoder.config().vocab_size, "hidden_size": 16,
        "intermediate_size": 32, "moe_intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": true,
        "max_position_embeddings": 16, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true,
        "hidden_act": "silu", "eos_token_id": policy.eos_token_ids()[0],
    });
    let config = ModelConfig::from_hf_json(&config, Path::new("config.json")).unwrap();
    let noise = |tensor: usize, i: usize| ((7919 * i + 104_729 * tensor) % 2003) as f32 / 1001.5 - 1.0;
    policy.decoder = Decoder::random(config, &device, noise).with_router_aux(1.0);
    policy
}

/// All weights of a policy.
fn weights(policy: &Policy) -> Vec<f32> {
    (0..policy.decoder.params().len()).flat_map(|i| policy.decoder.param_values(i)).collect()
}

/// How far two updates are apart, of the largest change of a weight.
fn apart(start: &[f32], a: &[f32], b: &[f32]) -> f32 {
    let most = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    assert!(most(start, a) > 1e-3, "nothing was learned");
    most(a, b) / most(start, a)
}

// An update that is linear in the gradient: ε far above it, no clipping.
const LINEAR: &str = "optim = { lr = 100.0, eps = 1e3, betas = [0.0, 0.0], max_grad_norm = 0.0 }";

#[test]
fn experts_are_balanced_over_the_whole_step_of_supervised_training() {
    let data: DataConfig = toml::from_str("kind = \"addition\"\nmax_digits = 2").unwrap();
    let source = TaskSource::open("sums", &data, 1).unwrap();
    let step = |micro: usize| {
        let text = format!("data = \"sums\"\nsteps = 1\nbatch = 8\nmicro_batch = {micro}\n{LINEAR}");
        let config: SftConfig = toml::from_str(&text).unwrap();
        let mut trainer = SftTrainer::new(mixture(), &config, (1, 1));
        let out = trainer.step(1, &(&source).into(), 0).unwrap();
        (weights(&trainer.policy), out.router_balance.unwrap(), out.loss)
    };
    let (start, (whole, balance, loss)) = (weights(&mixture()), step(8));
    assert!(balance > 2.0, "two of four experts at least: {balance}");
    for micro in [1, 3] {
        let (parts, of_parts, loss_of_parts) = step(micro);
        let off = apart(&start, &whole, &parts);
        assert!(off < 1e-5, "micro_batch {micro}: off by {off} of the largest");
        assert!((of_parts - balance).abs() < 1e-6 && (loss - loss_of_parts).abs() < 1e-6);
    }
}

#[test]
fn experts_are_balanced_over_the_whole_step_whoever_shares_a_prompt() {
    let reward = reward_fn("length", |_: &Task, r: Response<'_>| r.text.len() as f64 / 4.0);
    let task = |i: usize| Task {
        id: i.to_string(),
        prompt: vec![Message { role: "user".into(), content: format!("{i}{i}{i}=") }],
        ..Task::default()
    };
    let tasks: Vec<Task> = (0..2).map(task).collect();
    let tasks: Vec<&Task> = tasks.iter().collect();
    let step = |micro: usize| {
        let text = format!(
            "steps = 1\nprompts_per_step = 2\ngroup_size = 4\nmicro_batch = {micro}\nsampling = {{ max_tokens = 4 }}\n{LINEAR}"
        );
        let config: GrpoConfig = toml::from_str(&text).unwrap();
        let mut trainer = Trainer::new(mixture(), None, &config, Some(&reward), 3, 1);
        let out = trainer.step(1, &Source::Tasks(&tasks), None).unwrap();
        (weights(&trainer.policy), out.router_balance.unwrap())
    };
    // Groups of four share their prompt in a pass, those of one and of three share none or some of it.
    let (start, (whole, balance)) = (weights(&mixture()), step(8));
    for micro in [1, 3] {
        let (parts, of_parts) = step(micro);
        let off = apart(&start, &whole, &parts);
        assert!(off < 1e-5, "micro_batch {micro}: off by {off} of the largest");
        assert!((of_parts - balance).abs() < 1e-6, "{of_parts} {balance}");
    }
}
