//! Rules of a step that do not depend on how much is computed at once: which tokens and completions an update takes, and
//! what follows the policy while it learns.
use rlvr::algorithm::kl::adapted_coef;
use rlvr::config::{DeviceConfig, GrpoConfig, TinyConfig};
use rlvr::policies::Decoder;
use rlvr::policy::Policy;
use rlvr::rewards::{Message, Response, Task, reward_fn};
use rlvr::train::follow::blend;
use rlvr::train::grpo::{Source, StepOutcome, Trainer};
use rlvr::train::recorded::{GivenAdvantage, RecordedGroup, RecordedRollout, RecordedStep};
use serde_json::Value;

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

type Weights = Vec<Vec<f32>>;

fn weights(decoder: &Decoder) -> Weights {
    (0..decoder.params().len()).map(|i| decoder.param_values(i)).collect()
}

fn config(steps: u64, keys: &str) -> GrpoConfig {
    let text =
        format!("steps = {steps}\nprompts_per_step = 4\ngroup_size = 8\noptim = {{ lr = 1e-2 }}\n{keys}");
    toml::from_str(&text).unwrap()
}

/// So many steps of a tiny random policy on four prompts, with keys of the stage and a look at the trainer after each step.
fn train(count: u64, keys: &str, mut look: impl FnMut(&Trainer<'_>, StepOutcome)) {
    let config = config(count, keys);
    // So many values that no group is without signal.
    let sum = |text: &str| text.bytes().map(u32::from).sum::<u32>();
    let reward =
        reward_fn("sum", move |_: &Task, response: Response<'_>| f64::from(sum(response.text) % 11) / 11.0);
    let task = |i: u64| Task {
        id: i.to_string(),
        prompt: vec![Message { role: "user".into(), content: format!("{i}=") }],
        ..Task::default()
    };
    let tasks: Vec<Task> = (0..4).map(task).collect();
    let tasks: Vec<&Task> = tasks.iter().collect();
    let reference = (config.loss.kl_coef != 0.0).then(|| policy(3).decoder);
    let mut trainer = Trainer::new(policy(3), reference, &config, Some(&reward), 3, count);
    for step in 1..=count {
        let out = trainer.step(step, &Source::Tasks(&tasks), None).unwrap();
        look(&trainer, out);
    }
}

/// What the steps did, and the weights of the policy after them.
fn steps(count: u64, keys: &str) -> (Vec<StepOutcome>, Weights) {
    let (mut outcomes, mut last) = (vec![], vec![]);
    train(count, keys, |trainer, out| {
        outcomes.push(out);
        last = weights(&trainer.policy.decoder);
    });
    (outcomes, last)
}

const SAMPLING: &str = "sampling = { max_tokens = 4 }";

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
    let (every, weights) = run("top_entropy_frac = 1.0", 16, 1);
    // AdamW's first step hides the size of a gradient, its norm does not.
    assert_eq!(every[0].grad_norm.to_bits(), plain[0].grad_norm.to_bits());
    assert!(weights == all);
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

/// The lowest entropy of the tokens that a recorded step chooses from.
fn lowest_entropy(step: &RecordedStep, keys: &str) -> f64 {
    let config = config(1, &format!("loss = {{ top_entropy_frac = 1.0 }}\n{keys}\n{SAMPLING}"));
    let mut trainer = Trainer::new(policy(3), None, &config, None, 3, 1);
    trainer.step(1, &Source::Recorded(step), None).unwrap().entropy_threshold.unwrap()
}

/// Tokens without an advantage are no policy term, and still among those that are chosen from; those of completions that are
/// left out are not.
#[test]
fn tokens_are_chosen_from_all_that_are_trained() {
    let (sampled, _) = steps(1, SAMPLING);
    let lowest = |given: &dyn Fn(f64) -> bool| {
        let one = |advantage, _| Some(GivenAdvantage::Completion(f64::from(u8::from(given(advantage)))));
        lowest_entropy(&recorded(&sampled[0], one), "")
    };
    let all = lowest(&|_| true);
    assert_eq!([lowest(&|a| a > 0.0), lowest(&|a| a <= 0.0)], [all; 2]);
    let mut step = recorded(&sampled[0], |_, _| Some(GivenAdvantage::Completion(1.0)));
    let masked = lowest_entropy(&step, "mask_truncated = true");
    let eos = policy(3).eos_token_ids().to_vec();
    for group in &mut step.groups {
        group.rollouts.retain(|r| r.completion_tokens.last().is_some_and(|t| eos.contains(t)));
    }
    step.groups.retain(|group| !group.rollouts.is_empty());
    let ended = lowest_entropy(&step, "");
    assert!((masked - ended).abs() < 1e-6 && (masked - all).abs() > 1e-6, "{masked} {ended} {all}");
}

#[test]
fn minibatches_are_shuffled_by_group_and_pass() {
    let run = |keys: &str| steps(2, &format!("minibatches = 2\n{keys}\n{SAMPLING}"));
    let (plain, neighbours) = run("");
    let (out, shuffled) = run("shuffle_minibatches = true");
    assert_eq!(plain[0].groups[0].completions, out[0].groups[0].completions);
    assert_eq!((out[0].updates, out[0].trained_tokens), (2, plain[0].trained_tokens));
    assert_ne!(neighbours, shuffled);
    assert_eq!(run("shuffle_minibatches = true").1, shuffled);
    // All groups in one minibatch: only the order of sums may change.
    let (whole, _) = steps(1, SAMPLING);
    let (other, _) = steps(1, &format!("shuffle_minibatches = true\n{SAMPLING}"));
    assert!((whole[0].grad_norm - other[0].grad_norm).abs() < 1e-4 * whole[0].grad_norm);
}

#[test]
fn the_weight_of_the_penalty_follows_its_target() {
    let keys = format!("loss = {{ kl_coef = 0.1, kl_target = 0.004, kl_horizon = 64 }}\n{SAMPLING}");
    let mut expected = 0.1;
    let mut seen = vec![];
    train(6, &keys, |trainer, out| {
        assert_eq!(out.kl_coef, Some(expected));
        let kl = out.stats.ref_kl_sum / out.stats.tokens;
        // The loss of the step has the weight of the step: k3 in the loss, all tokens with one share.
        assert!((out.stats.kl_loss - expected * kl).abs() < 1e-12, "{} {expected} {kl}", out.stats.kl_loss);
        expected = adapted_coef(expected, kl, 0.004, 32, 64.0);
        assert_eq!(trainer.kl_coef(), Some(expected));
        seen.push(expected);
    });
    // Down while it is the reference, up when it has left.
    assert!(seen[0] < 0.1 && seen.windows(2).any(|w| w[1] > w[0]), "{seen:?}");
    train(1, &format!("loss = {{ kl_coef = 0.1 }}\n{SAMPLING}"), |trainer, out| {
        assert_eq!((out.kl_coef, trainer.kl_coef()), (None, None));
    });
}

#[test]
fn a_reference_that_moves() {
    let start = weights(&policy(3).decoder);
    let run = |keys: &str| {
        let mut seen: Vec<(Weights, Weights)> = vec![];
        train(4, &format!("loss = {{ kl_coef = 0.1 }}\n{keys}\n{SAMPLING}"), |trainer, _| {
            seen.push((weights(&trainer.policy.decoder), weights(trainer.reference.as_ref().unwrap())));
        });
        seen
    };
    let frozen = run("");
    assert!(frozen.iter().all(|(policy, reference)| *reference == start && policy != reference));
    let synced = run("reference_every = 2");
    assert_eq!(synced[0], frozen[0]);
    assert_eq!(synced[1].1, synced[1].0);
    assert_eq!((&synced[2].1, &synced[3].1), (&synced[1].0, &synced[3].0));
    assert_ne!(synced[2].0, frozen[2].0);
    // Steps are rollouts, however many updates each has.
    let updates = run("reference_every = 2\nminibatches = 2\nupdates_per_rollout = 2");
    assert!(updates[0].1 == start && updates[1].1 == updates[1].0);
    assert!(updates[2].1 == updates[1].0 && updates[3].1 == updates[3].0);
    for (keys, every) in [("reference_ema = 0.25", 1), ("reference_ema = 0.25\nreference_every = 3", 3)] {
        let mut expected: Vec<Vec<f64>> =
            start.iter().map(|p| p.iter().map(|v| f64::from(*v)).collect()).collect();
        for (step, (policy, reference)) in run(keys).iter().enumerate() {
            if (step + 1) % every == 0 {
                for (e, p) in expected.iter_mut().flatten().zip(policy.iter().flatten()) {
                    *e = 0.75 * *e + 0.25 * f64::from(*p);
                }
            }
            close(&expected, reference);
        }
    }
}

/// Up to the rounding of f32 in each of a few steps.
fn close(expected: &[Vec<f64>], found: &[Vec<f32>]) {
    for (a, b) in expected.iter().flatten().zip(found.iter().flatten()) {
        assert!((a - f64::from(*b)).abs() < 1e-6 * a.abs().max(0.1), "{a} {b}");
    }
}

#[test]
fn the_average_takes_in_every_update() {
    let start = weights(&policy(3).decoder);
    let mut expected: Vec<Vec<f64>> =
        start.iter().map(|p| p.iter().map(|v| f64::from(*v)).collect()).collect();
    let keys = format!("policy_ema = 0.6\n{SAMPLING}");
    let mut last = vec![];
    train(4, &keys, |trainer, out| {
        assert_eq!(out.updates, 1);
        last = weights(&trainer.policy.decoder);
        for (e, p) in expected.iter_mut().flatten().zip(last.iter().flatten()) {
            *e = 0.6 * *e + 0.4 * f64::from(*p);
        }
        let average = weights(trainer.average.as_ref().unwrap());
        close(&expected, &average);
        assert_ne!(average, last);
    });
    // The policy itself learns as ever.
    assert_eq!(steps(4, SAMPLING).1, last);
    // Of two updates a step: e = d²·e₀ + d(1 − d)·θ₁ + (1 − d)·θ₂, so that any d gives the weights between the two.
    let between = |decay: f64| {
        let mut found = vec![];
        train(1, &format!("policy_ema = {decay}\nminibatches = 2\n{SAMPLING}"), |trainer, out| {
            assert_eq!(out.updates, 2);
            let (average, last) = (trainer.average.as_ref().unwrap(), weights(&trainer.policy.decoder));
            for ((e, zero), two) in
                weights(average).iter().flatten().zip(start.iter().flatten()).zip(last.iter().flatten())
            {
                let [e, zero, two] = [*e, *zero, *two].map(f64::from);
                found.push((e - decay * decay * zero - (1.0 - decay) * two) / (decay * (1.0 - decay)));
            }
        });
        found
    };
    let (a, b) = (between(0.5), between(0.25));
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5));
    assert!(a.iter().zip(start.iter().flatten()).any(|(a, b)| (a - f64::from(*b)).abs() > 1e-3));
}

#[test]
fn averages_of_another_implementation() {
    let golden: Value = serde_json::from_str(include_str!("../golden/steps.json")).unwrap();
    let golden = &golden["average"];
    let numbers = |value: &Value| -> Vec<f64> { serde_json::from_value(value.clone()).unwrap() };
    let decoder = |values: &[f64]| {
        let mut decoder = policy(3).decoder;
        let mut all = vec![0.0; decoder.param_values(0).len()];
        all.iter_mut().zip(values).for_each(|(to, from)| *to = *from as f32);
        decoder.set_param(0, all);
        decoder
    };
    let policies = golden["policies"].as_array().unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!((cases.len(), policies.len()), (3, 12));
    for case in cases {
        let mut average = decoder(&numbers(&golden["start"]));
        for (policy, expected) in policies.iter().zip(case["averages"].as_array().unwrap()) {
            blend(&mut average, &decoder(&numbers(policy)), 1.0 - case["decay"].as_f64().unwrap());
            let expected = numbers(expected);
            close(std::slice::from_ref(&expected), &[average.param_values(0)[..expected.len()].to_vec()]);
        }
    }
}

/// The rollouts of a step as a file gives them, with an advantage each or none.
fn recorded(out: &StepOutcome, given: impl Fn(f64, usize) -> Option<GivenAdvantage>) -> RecordedStep {
    let group = |g: &rlvr::train::grpo::Group| {
        let rollouts =
            g.completions.iter().zip(&g.judgements).zip(&g.advantages).map(|((c, j), a)| RecordedRollout {
                prompt_tokens: g.prompt.clone(),
                completion_tokens: c.token_ids.clone(),
                reward: j.reward,
                logprobs: Some(c.logprobs.clone()),
                advantage: given(*a, c.token_ids.len()),
                line: 1,
            });
        RecordedGroup { group: g.id.clone(), rollouts: rollouts.collect() }
    };
    RecordedStep { step: 1, groups: out.groups.iter().map(group).collect() }
}

#[test]
fn advantages_that_are_given_are_taken_as_they_are() {
    let (sampled, _) = steps(1, SAMPLING);
    let run = |step: &RecordedStep| {
        let config = config(1, SAMPLING);
        let mut trainer = Trainer::new(policy(3), None, &config, None, 3, 1);
        let out = trainer.step(1, &Source::Recorded(step), None).unwrap();
        (out, weights(&trainer.policy.decoder))
    };
    let (computed, expected) = run(&recorded(&sampled[0], |_, _| None));
    assert!(computed.groups.iter().any(|g| g.advantages.iter().any(|a| *a != 0.0)));
    let whole = |a: f64, _| Some(GivenAdvantage::Completion(a));
    let tokens = |a: f64, n: usize| Some(GivenAdvantage::Tokens(vec![a; n]));
    let (out, found) = run(&recorded(&sampled[0], whole));
    assert_eq!((out.loss.to_bits(), &found), (computed.loss.to_bits(), &expected));
    assert_eq!(out.groups[0].advantages, computed.groups[0].advantages);
    assert_eq!(run(&recorded(&sampled[0], tokens)).1, expected);
    // Of opposite signs they cancel in the mean and teach all the same.
    let opposite = |_: f64, n: usize| {
        let of = |t| match n {
            1 => 0.0,
            _ if t == 0 => 1.0,
            _ => -1.0 / (n - 1) as f64,
        };
        Some(GivenAdvantage::Tokens((0..n).map(of).collect()))
    };
    let (out, found) = run(&recorded(&sampled[0], opposite));
    assert!(out.groups.iter().all(|g| g.has_signal()) && out.updates == 1);
    assert_ne!(found, expected);
    assert!(out.grad_norm > 1e-3, "{}", out.grad_norm);
    let (out, _) = run(&recorded(&sampled[0], |_, _| Some(GivenAdvantage::Completion(0.0))));
    assert_eq!((out.updates, out.groups[0].has_signal()), (0, false));
}
