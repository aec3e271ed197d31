//! Comparison with values of independent implementations: `tests/golden/*.json`, which say how they were made.

use serde_json::Value;

use super::*;

/// Rounding of sums of some tens of f64 terms of order 1, with a wide margin.
const TOLERANCE: f64 = 1e-9;
/// The golden advantages were computed in f32.
const F32_TOLERANCE: f64 = 2e-6;

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn losses() -> Value {
    read(include_str!("../../../tests/golden/grpo_loss.json"))
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn rows(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(numbers).collect()
}

/// A golden case in the names of the reference implementation, translated to the keys of `[stage.loss]`.
fn translate(case: &Value) -> LossConfig {
    let number = |key: &str| case[key].as_f64();
    let text = |key: &str| case[key].as_str();
    let clip = || Clip {
        low: number("epsilon_low").unwrap(),
        high: number("epsilon_high").unwrap(),
        delta: number("delta"),
        dual_clip: None,
    };
    let clip = Objective::Clip(clip());
    let (objective, aggregate) = match text("loss_type").unwrap() {
        "dapo" | "bnpo" => (clip, Aggregate::TokenMean),
        "grpo" => (clip, Aggregate::SequenceMean),
        "dr_grpo" => (clip, Aggregate::Constant { max_tokens: number("max_completion_length") }),
        "luspo" => (clip, Aggregate::SequenceSum),
        "cispo" => (Objective::Cispo(Cispo { cap: number("epsilon_high").unwrap() }), Aggregate::TokenMean),
        "sapo" => {
            let temperature = |sign| number(&format!("sapo_temperature_{sign}")).unwrap() as f32;
            let (temperature_pos, temperature_neg) = (temperature("pos"), temperature("neg"));
            (Objective::Sapo(Sapo { temperature_pos, temperature_neg }), Aggregate::SequenceMean)
        }
        other => panic!("loss type {other}"),
    };
    assert!(number("delta").is_none() || objective == clip);
    let (cap, band) = (Cap { cap: 3.0 }, Band { floor: 0.0, cap: 3.0 });
    let config = LossConfig {
        objective,
        aggregate,
        importance: Some(match text("importance_sampling_level").unwrap() {
            "token" => Importance::Token,
            "sequence" => Importance::Sequence,
            other => panic!("importance {other}"),
        }),
        kl_coef: number("beta").unwrap(),
        kl_estimator: match case["use_bias_correction_kl"].as_bool().unwrap() {
            true => KlEstimator::K3Unbiased,
            false => KlEstimator::K3,
        },
        sampler_correction: match text("is_ratio") {
            None => SamplerCorrection::None,
            Some("token_truncate") => SamplerCorrection::TokenTruncate(cap),
            Some("token_mask") => SamplerCorrection::TokenMask(band),
            Some("sequence_truncate") => SamplerCorrection::SequenceTruncate(cap),
            Some("sequence_mask") => SamplerCorrection::SequenceMask(band),
            Some(other) => panic!("correction {other}"),
        },
        off_policy_mask_threshold: number("off_policy_mask_threshold"),
        ..LossConfig::default()
    };
    assert_eq!(number("top_entropy_quantile"), Some(1.0));
    assert_eq!(number("entropy_coef"), Some(0.0));
    config.validate().unwrap();
    config
}

/// Worst |loss difference| and |gradient difference| of a case, by its name.
fn compare(golden: &Value, name: &str) -> (f64, f64) {
    let arrays = |key: &str| rows(&golden["arrays"][key]);
    let expected = &golden["cases"][name];
    let case = &expected["config"];
    let config = translate(case);
    let (logprobs, reference, sampler) = (arrays("logps"), arrays("ref"), arrays("sampler"));
    let old = if case["old"].as_bool().unwrap() { arrays("old") } else { logprobs.clone() };
    let (mask, tools) = (arrays("mask"), arrays("tool_mask"));
    let with_tools = case["tool_mask"].as_bool().unwrap();
    let masks: Vec<Vec<bool>> = mask
        .iter()
        .zip(&tools)
        .map(|(m, t)| m.iter().zip(t).map(|(m, t)| *m > 0.0 && (!with_tools || *t > 0.0)).collect())
        .collect();
    let (per_sequence, per_token) = (numbers(&golden["arrays"]["advantages"]), arrays("advantages_tok"));
    let batch: Vec<Sequence<'_>> = (0..logprobs.len())
        .map(|b| Sequence {
            logprobs: &logprobs[b],
            old_logprobs: &old[b],
            ref_logprobs: Some(&reference[b]),
            sampler_logprobs: Some(&sampler[b])
                .filter(|_| config.sampler_correction != SamplerCorrection::None)
                .map(Vec::as_slice),
            entropy: None,
            loss_mask: &masks[b],
            policy_mask: None,
            advantage: match case["adv"].as_str().unwrap() {
                "seq" => Advantage::Sequence(per_sequence[b]),
                _ => Advantage::Tokens(&per_token[b]),
            },
        })
        .collect();
    // `accum` micro-batches like this one make a step.
    let micro = StepTotals::of(masks.iter().map(Vec::as_slice));
    let accum = case["accum"].as_f64().unwrap();
    let totals = StepTotals { sequences: micro.sequences * accum, tokens: micro.tokens * accum };
    let found = policy_loss(&batch, &config, &totals).unwrap();
    let grads = rows(&expected["grad_logps"]);
    let worst = (found.grads.iter().flatten().zip(grads.iter().flatten()))
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    for (grad, mask) in found.grads.iter().flatten().zip(masks.iter().flatten()) {
        assert!(*mask || *grad == 0.0);
    }
    ((found.loss - expected["loss"].as_f64().unwrap()).abs(), worst)
}

#[test]
fn every_golden_loss_and_gradient() {
    let golden = losses();
    let cases = golden["cases"].as_object().unwrap();
    assert_eq!(cases.len(), 50);
    let mut worst = (0.0f64, 0.0f64);
    let mut failures = Vec::new();
    for name in cases.keys() {
        let (loss, grad) = compare(&golden, name);
        worst = (worst.0.max(loss), worst.1.max(grad));
        if loss > TOLERANCE || grad > TOLERANCE {
            failures.push(format!("{name}: loss {loss:e}, gradient {grad:e}"));
        }
    }
    println!("worst loss difference {:e}, worst gradient difference {:e}", worst.0, worst.1);
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn golden_kl_estimators() {
    let golden = losses();
    let cases = read(include_str!("../../../tests/golden/kl_estimators.json"));
    let (logprobs, reference) = (rows(&golden["arrays"]["logps"]), rows(&golden["arrays"]["ref"]));
    let masks: Vec<Vec<bool>> =
        rows(&golden["arrays"]["mask"]).iter().map(|r| r.iter().map(|m| *m > 0.0).collect()).collect();
    for (name, estimator) in [("k1", KlEstimator::K1), ("k2", KlEstimator::K2), ("k3", KlEstimator::K3)] {
        let case = &cases["cases"][name];
        let per_token = rows(&case["per_token"]);
        for b in 0..logprobs.len() {
            for t in 0..logprobs[b].len() {
                let (value, _) = kl::estimate(estimator, logprobs[b][t], reference[b][t]);
                assert!((value - per_token[b][t]).abs() < TOLERANCE, "{name} [{b}][{t}]");
            }
        }
        // The mean and its gradient through the loss itself, with advantages of zero and a coefficient of one.
        let config = LossConfig { kl_coef: 1.0, kl_estimator: estimator, ..LossConfig::default() };
        let batch: Vec<Sequence<'_>> = (0..logprobs.len())
            .map(|b| Sequence {
                logprobs: &logprobs[b],
                old_logprobs: &logprobs[b],
                ref_logprobs: Some(&reference[b]),
                sampler_logprobs: None,
                entropy: None,
                loss_mask: &masks[b],
                policy_mask: None,
                advantage: Advantage::Sequence(0.0),
            })
            .collect();
        let totals = StepTotals::of(masks.iter().map(Vec::as_slice));
        let found = policy_loss(&batch, &config, &totals).unwrap();
        assert!((found.loss - case["masked_mean"].as_f64().unwrap()).abs() < TOLERANCE, "{name}");
        let grads = rows(&case["grad_logps_of_masked_mean"]);
        for (a, b) in found.grads.iter().flatten().zip(grads.iter().flatten()) {
            assert!((a - b).abs() < TOLERANCE, "{name}: {a} {b}");
        }
    }
}

#[test]
fn golden_advantages() {
    let golden = read(include_str!("../../../tests/golden/grpo_advantages.json"));
    for (name, case) in golden["cases"].as_object().unwrap() {
        let size = case["num_generations"].as_u64().unwrap() as usize;
        let components: Vec<Vec<Vec<Option<f64>>>> = case["rewards_per_func"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                let flat: Vec<Option<f64>> = row.as_array().unwrap().iter().map(Value::as_f64).collect();
                flat.chunks(size).map(<[_]>::to_vec).collect()
            })
            .collect();
        let kwargs = &case["kwargs"];
        let weights = kwargs.get("reward_weights").map_or(vec![1.0; components.len()], numbers);
        // The weighted sum of the components that were judged; none judged, none rewarded.
        let sum = |p: usize, g: usize| {
            let judged = components.iter().zip(&weights).filter_map(|(c, w)| c[p][g].map(|r| r * w));
            judged.fold(None, |total, r| Some(total.unwrap_or(0.0) + r))
        };
        let rewards: Vec<Vec<Option<f64>>> =
            (0..components[0].len()).map(|p| (0..size).map(|g| sum(p, g)).collect()).collect();
        let groups: Vec<&[Option<f64>]> = rewards.iter().map(Vec::as_slice).collect();
        let found = match (kwargs["scale_rewards"].as_str(), name.as_str()) {
            (Some("group"), _) => batch_advantages(&groups, None, AdvantageKind::Grpo),
            (Some("batch"), _) => batch_advantages(&groups, None, AdvantageKind::BatchStd),
            (Some("none"), _) => batch_advantages(&groups, None, AdvantageKind::DrGrpo),
            (_, "normalize_then_sum") => gdpo_advantages(&components, &weights),
            other => panic!("{other:?}"),
        };
        let expected = numbers(&case["advantages"]);
        for (i, (a, b)) in found.iter().flatten().zip(&expected).enumerate() {
            assert!((a - b).abs() < F32_TOLERANCE, "{name} [{i}]: {a} {b}");
        }
    }
}

#[test]
fn golden_kl_coefficients() {
    let golden = read(include_str!("../../../tests/golden/steps.json"));
    let cases = golden["adaptive_kl"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let number = |key: &str| case[key].as_f64().unwrap();
        let mut coef = number("coef");
        let measured: Vec<(f64, usize)> = serde_json::from_value(case["measured"].clone()).unwrap();
        for ((kl, completions), expected) in measured.into_iter().zip(numbers(&case["coefs"])) {
            coef = kl::adapted_coef(coef, kl, number("target"), completions, number("horizon"));
            assert!((coef / expected - 1.0).abs() < TOLERANCE, "{coef} {expected}");
        }
    }
    // However many completions, the coefficient stays above 0 and moves by a fifth at most.
    assert_eq!(kl::adapted_coef(1.0, 0.0, 0.1, 1_000_000, 10.0), 0.8);
    assert_eq!(kl::adapted_coef(1.0, 9.0, 0.1, 1_000_000, 10.0), 1.2);
    assert_eq!(kl::adapted_coef(1.0, f64::NAN, 0.1, 8, 10.0), 1.0);
}

/// Worst difference of a loss and its gradient from those of `expected`.
fn apart(found: &LossOutput, expected: &Value) -> f64 {
    let grads = rows(&expected["grad"]);
    let pairs = found.grads.iter().flatten().zip(grads.iter().flatten());
    pairs.fold((found.loss - expected["loss"].as_f64().unwrap()).abs(), |worst, (a, b)| {
        worst.max((a - b).abs())
    })
}

/// The arrays of objectives.json, with an advantage a sequence.
fn objectives_batch(
    golden: &Value,
    sampler: bool,
    advantages: &[f64],
    then: &mut dyn FnMut(&[Sequence<'_>], &StepTotals),
) {
    let arrays = |key: &str| rows(&golden["arrays"][key]);
    let (logprobs, old, mu) = (arrays("logprobs"), arrays("old"), arrays("sampler"));
    let entropy = arrays("entropy");
    let masks: Vec<Vec<bool>> =
        arrays("mask").iter().map(|row| row.iter().map(|m| *m > 0.0).collect()).collect();
    let batch: Vec<Sequence<'_>> = (0..logprobs.len())
        .map(|b| Sequence {
            logprobs: &logprobs[b],
            old_logprobs: &old[b],
            ref_logprobs: None,
            sampler_logprobs: sampler.then_some(mu[b].as_slice()),
            entropy: Some(&entropy[b]),
            loss_mask: &masks[b],
            policy_mask: None,
            advantage: Advantage::Sequence(advantages[b]),
        })
        .collect();
    then(&batch, &StepTotals::of(masks.iter().map(Vec::as_slice)));
}

/// Objectives by the formulas of their papers, differentiated by complex steps.
#[test]
fn objectives_of_their_papers() {
    let golden = read(include_str!("../../../tests/golden/objectives.json"));
    let cases = golden["cases"].as_object().unwrap();
    assert_eq!(cases.len(), 9 * 4 * 2);
    let mut worst = 0.0f64;
    for (name, case) in cases {
        let config: LossConfig = serde_json::from_value(case["config"].clone()).unwrap();
        config.validate().unwrap();
        let sampler = case["sampler"].as_bool().unwrap();
        objectives_batch(&golden, sampler, &numbers(&golden["advantages"]), &mut |batch, totals| {
            let found = apart(&policy_loss(batch, &config, totals).unwrap(), case);
            assert!(found < TOLERANCE, "{name}: {found:e}");
            worst = worst.max(found);
        });
    }
    println!("worst difference {worst:e}");
}

/// The same with policy terms of the tokens of highest entropy only.
#[test]
fn only_tokens_of_high_entropy() {
    let golden = read(include_str!("../../../tests/golden/objectives.json"));
    let cases = golden["top_entropy"].as_object().unwrap();
    assert_eq!(cases.len(), 3 * 4 * 2);
    for (name, case) in cases {
        let config: LossConfig = serde_json::from_value(case["config"].clone()).unwrap();
        config.validate().unwrap();
        objectives_batch(&golden, true, &numbers(&golden["advantages"]), &mut |batch, totals| {
            let masks = top_entropy::masks(batch, config.top_entropy_frac.unwrap()).unwrap();
            let masked: Vec<_> = (batch.iter().zip(&masks))
                .map(|(s, mask)| Sequence { policy_mask: Some(mask), ..*s })
                .collect();
            let found = apart(&policy_loss(&masked, &config, totals).unwrap(), case);
            assert!(found < TOLERANCE, "{name}: {found:e}");
        });
    }
}

/// Advantages by the formulas of their papers, and the loss and gradient of REINFORCE with them.
#[test]
fn estimators_of_their_papers() {
    let golden = read(include_str!("../../../tests/golden/objectives.json"));
    let cases = golden["estimators"].as_object().unwrap();
    assert_eq!(cases.len(), 3 * 2);
    let trained: Vec<usize> =
        rows(&golden["arrays"]["mask"]).iter().map(|row| row.iter().filter(|m| **m > 0.0).count()).collect();
    for (name, case) in cases {
        let kind: AdvantageKind = serde_json::from_value(case["kind"].clone()).unwrap();
        let rewards: Vec<Vec<Option<f64>>> = serde_json::from_value(case["rewards"].clone()).unwrap();
        let groups: Vec<&[Option<f64>]> = rewards.iter().map(Vec::as_slice).collect();
        let tokens: Vec<&[usize]> = trained.chunks(groups[0].len()).collect();
        let found = batch_advantages(&groups, Some(&tokens), kind);
        let expected = rows(&case["advantages"]);
        for (a, b) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!((a - b).abs() < TOLERANCE, "{name}: {found:?} {expected:?}");
        }
        for (aggregate, expected) in case["reinforce"].as_object().unwrap() {
            let config = serde_json::json!({"objective": "reinforce", "aggregate": aggregate});
            let config: LossConfig = serde_json::from_value(config).unwrap();
            objectives_batch(&golden, false, &found.concat(), &mut |batch, totals| {
                let found = apart(&policy_loss(batch, &config, totals).unwrap(), expected);
                assert!(found < TOLERANCE, "{name}, {aggregate}: {found:e}");
            });
        }
    }
}
