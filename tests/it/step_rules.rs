//! Rules of a step that do not depend on how much is computed at once: which tokens and completions an update takes, and
//! what follows the policy while it learns.
use rlvr::config::{DeviceConfig, GrpoConfig, TinyConfig};
use rlvr::policy::Policy;
use rlvr::rewards::{Message, Response, Task, reward_fn};
use rlvr::train::grpo::{Source, StepOutcome, Trainer};

fn policy(seed: u64) -> Policy {
    let tiny = TinyConfig {
        layers: 1,
        hidden: 32,
        intermediate: 64,
        context: 16,
        alphabet: "0123456789=".into(),
        ..TinyConfig::default()
    };
    Policy::tiny(&tiny, seed, &rlvr::run::device(DeviceConfig::Cpu).unwrap()).unwrap()
}

/// So many steps of a tiny random policy on four prompts, with keys of the stage; what they did, and the policy's weights.
fn steps(count: u64, keys: &str) -> (Vec<StepOutcome>, Vec<Vec<f32>>) {
    let text =
        format!("steps = {count}\nprompts_per_step = 4\ngroup_size = 8\noptim = {{ lr = 1e-2 }}\n{keys}");
    let config: GrpoConfig = toml::from_str(&text).unwrap();
    let reward = reward_fn("length", |_: &Task, response: Response<'_>| response.text.len() as f64 / 4.0);
    let task = |i: u64| Task {
        id: i.to_string(),
        prompt: vec![Message { role: "user".into(), content: format!("{i}=") }],
        ..Task::default()
    };
    let tasks: Vec<Task> = (0..4).map(task).collect();
    let tasks: Vec<&Task> = tasks.iter().collect();
    let mut trainer = Trainer::new(policy(3), None, &config, Some(&reward), 3, count);
    let out = (1..=count).map(|step| trainer.step(step, &Source::Tasks(&tasks), None).unwrap()).collect();
    let decoder = &trainer.policy.decoder;
    (out, (0..decoder.params().len()).map(|i| decoder.param_values(i)).collect())
}

const SAMPLING: &str = "sampling = { max_tokens = 4 }";

fn furthest(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn tokens_are_chosen_from_the_whole_optimizer_step() {
    let run = |frac: &str, micro: usize, minibatches: usize| {
        let keys =
            format!("micro_batch = {micro}\nminibatches = {minibatches}\nloss = {{ {frac} }}\n{SAMPLING}");
        steps(1, &keys)
    };
    let (out, whole) = run("top_entropy_frac = 0.3", 16, 1);
    let lowest = out[0].entropy_threshold.unwrap();
    for micro in [1, 3, 8, 32] {
        let (again, weights) = run("top_entropy_frac = 0.3", micro, 1);
        assert_eq!(again[0].entropy_threshold.map(f64::to_bits), Some(lowest.to_bits()), "{micro}");
        // Sums are added in another order.
        assert!((out[0].loss - again[0].loss).abs() < 1e-6, "{micro}: {} {}", out[0].loss, again[0].loss);
        assert!((out[0].grad_norm - again[0].grad_norm).abs() < 1e-4 * out[0].grad_norm, "{micro}");
        // AdamW's first step is the learning rate by the sign of the gradient: only where that is about 0 may it differ.
        let off =
            whole.iter().flatten().zip(weights.iter().flatten()).filter(|(a, b)| (*a - *b).abs() > 1e-4);
        assert!(off.count() < 20, "{micro}");
    }
    let (plain, all) = run("", 16, 1);
    assert_eq!(plain[0].entropy_threshold, None);
    assert_ne!(whole, all);
    assert_ne!(plain[0].loss, out[0].loss);
    assert_eq!(run("top_entropy_frac = 1.0", 16, 1).1, all);
    // Each optimizer step has its own threshold; that of the last one is told: with so small a share the highest entropy, with
    // all tokens the lowest. Those of one group lie between those of all.
    let of = |frac: &str, minibatches: usize| {
        let (out, _) = run(&format!("top_entropy_frac = {frac}"), 16, minibatches);
        assert_eq!(out[0].updates, minibatches as u64);
        out[0].entropy_threshold.unwrap()
    };
    let (high, low) = (of("0.001", 1), of("1.0", 1));
    let (part_high, part_low) = (of("0.001", 4), of("1.0", 4));
    assert!(high >= part_high && part_high > part_low && part_low >= low);
    assert_ne!((high, low), (part_high, part_low));
}
